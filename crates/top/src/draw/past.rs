//! The recent past of the selected device, as sparklines.

use super::{style, title_style};
use crate::app::App;
use crate::columns::Tone;
use crate::history::Moment;
use crate::numbers;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Sparkline};

/// A line: its name, its value, how the value is written.
type Curve = (&'static str, fn(&Moment) -> f64, fn(f64) -> String);

const IOPS: Curve = ("IOPS", |moment| moment.rates.iops(), numbers::rate);
const BYTES: Curve = ("bytes/s", |moment| moment.rates.bytes_per_s(), numbers::bytes);
const MEAN: Curve =
    ("mean ms", |moment| moment.rates.read.latency_ms.max(moment.rates.write.latency_ms), numbers::millis);
const P50: Curve = ("p50 ms", |moment| moment.spread.map_or(0.0, |spread| spread.p50_ms), numbers::millis);
const P99: Curve = ("p99 ms", |moment| moment.spread.map_or(0.0, |spread| spread.p99_ms), numbers::millis);
const IN_FLIGHT: Curve = ("in flight", |moment| moment.rates.in_flight as f64, numbers::count);

/// Percentiles where the source has them, else the mean.
const fn curves(app: &App) -> &'static [Curve] {
    if app.history.knows_spread() { &[IOPS, BYTES, P50, P99, IN_FLIGHT] } else { &[IOPS, BYTES, MEAN, IN_FLIGHT] }
}

/// Lines that this takes.
pub(super) fn height(app: &App) -> u16 {
    if app.history.knows_spread() { 6 } else { 5 }
}

/// Width of the name and of the two numbers beside a line.
const NAME: u16 = 10;
const NUMBERS: u16 = 19;

pub(super) fn draw(app: &App, device: Option<&str>, frame: &mut Frame<'_>, area: Rect) {
    let name = device.unwrap_or("-");
    let block = Block::new().borders(Borders::TOP).title(Line::styled(format!(" {name} lately "), title_style()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(device) = device else { return };
    let lines = Layout::vertical(curves(app).iter().map(|_| Constraint::Length(1))).split(inner);
    for ((title, value, text), line) in curves(app).iter().zip(lines.iter()) {
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
