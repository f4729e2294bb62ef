//! The recent past of the selected device: four sparklines.

use super::{style, title_style};
use crate::app::App;
use crate::columns::Tone;
use crate::numbers;
use interlock_observe::Rates;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Sparkline};

/// A line: its name, its value, how the value is written.
type Curve = (&'static str, fn(&Rates) -> f64, fn(f64) -> String);

const CURVES: [Curve; 4] = [
    ("IOPS", Rates::iops, numbers::rate),
    ("bytes/s", Rates::bytes_per_s, numbers::bytes),
    ("latency", |rates| rates.read.latency_ms.max(rates.write.latency_ms), numbers::millis),
    ("in flight", |rates| rates.in_flight as f64, numbers::rate),
];

/// Width of the name and of the two numbers beside a line.
const NAME: u16 = 10;
const NUMBERS: u16 = 19;

pub(super) fn draw(app: &App, device: Option<&str>, frame: &mut Frame<'_>, area: Rect) {
    let name = device.unwrap_or("-");
    let block = Block::new().borders(Borders::TOP).title(Line::styled(format!(" {name} lately "), title_style()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(device) = device else { return };
    let lines = Layout::vertical([Constraint::Length(1); CURVES.len()]).split(inner);
    for ((title, value, text), line) in CURVES.iter().zip(lines.iter()) {
        let [left, middle, right] =
            Layout::horizontal([Constraint::Length(NAME), Constraint::Min(1), Constraint::Length(NUMBERS)])
                .areas(*line);
        let past: Vec<f64> = app.history.past(device).map(value).collect();
        let shown = &past[past.len().saturating_sub(usize::from(middle.width))..];
        let most = shown.iter().copied().fold(0.0, f64::max);
        // In thousandths of the highest: a sparkline takes whole numbers.
        let parts = shown.iter().map(|one| if most > 0.0 { (one / most * 1000.0).round() as u64 } else { 0 });
        frame.render_widget(Line::raw(*title), left);
        // The newest sample is always at the right edge.
        let width = u16::try_from(shown.len()).unwrap_or(middle.width).min(middle.width);
        let curve = Rect { x: middle.right() - width, width, ..middle };
        let sparkline = Sparkline::default().data(parts).max(1000).style(Style::new().fg(Color::Cyan));
        frame.render_widget(sparkline, curve);
        let now = shown.last().copied().unwrap_or_default();
        let numbers = Line::from(vec![
            Span::raw(format!(" {:>6}", text(now))),
            Span::styled(format!(" max {:>6}", text(most)), style(Tone::Faint)),
        ]);
        frame.render_widget(numbers, right);
    }
}
