//! What lies over the view: help, the whole timeline, a question.

use super::{recent, style};
use crate::app::{App, Over};
use crate::columns::Tone;
use interlock_observe::changes::Weight;
use interlock_observe::health::Finding;
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

const HELP: &str = "\
up down PgUp PgDn   move                Enter   open a subsystem
Tab or 1 2 3        paths, controllers, namespaces
Esc                 back                q       quit
/ words             show rows that have all words
s, S                sort by the next column, reverse
t, w                what happened; what is not well
r                   reset the counters of a row (asks first)
p, + -              pause, sample less or more often

Health: ok = every controller live, degraded = some, lost = none
Paths 2/4: two of four are live and optimized or non-optimized
r/s w/s: reads and writes a second. rB/s wB/s: bytes a second
r ms w ms: mean time of one. p50 p99: what half, and all but one
in 100, did not exceed. Infl: under way. Util%: time busy
Failov: requests moved off a path. Retry: sent again on the same
Requeued, Failed: no usable path, no path at all";

pub(super) fn draw(app: &App, frame: &mut Frame<'_>) {
    match &app.over {
        Over::Nothing | Over::Filter => {}
        Over::Help => window(frame, " Keys and columns, any key closes ", HELP.lines().map(Line::raw).collect(), 68),
        Over::Timeline { top } => {
            let area = frame.area();
            let lines = app.timeline.of(app.subsystem_name()).skip(*top).take(usize::from(area.height));
            let mut lines: Vec<_> = lines.map(|entry| recent::line(app.snapshot.at, entry)).collect();
            if lines.is_empty() {
                lines.push(Line::raw("nothing since this program was started"));
            }
            frame.render_widget(Clear, area);
            let block = Block::bordered().title(" What happened, newest first; Esc closes ");
            frame.render_widget(Paragraph::new(lines).block(block), area);
        }
        Over::Health { top } => {
            let findings = app.findings();
            let mut lines: Vec<_> = findings.iter().skip(*top).flat_map(finding).collect();
            if lines.is_empty() {
                lines.push(Line::styled("everything is well", style(Tone::Good)));
            }
            let area = frame.area();
            frame.render_widget(Clear, area);
            let block = Block::bordered().title(" Problems, worst first; Esc closes ");
            frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), area);
        }
        Over::Confirm { device, counters } => {
            let mut lines = vec![Line::raw(format!("Set {} counters to 0?", counters.len()))];
            // A handful is named; of many, the first few say what kind they are.
            lines.extend(counters.iter().take(6).map(|counter| Line::raw(format!("  {counter}"))));
            if counters.len() > 6 {
                lines.push(Line::raw(format!("  and {} more", counters.len() - 6)));
            }
            lines.push(Line::raw("y resets, any other key does not"));
            window(frame, &format!(" Reset {device} "), lines, 60);
        }
    }
}

/// A finding as two lines: what is not well, what to do.
fn finding(finding: &Finding) -> [Line<'static>; 2] {
    let (word, tone) = match finding.weight {
        Weight::Info => ("note", Tone::Plain),
        Weight::Warning => ("warning", Tone::Warning),
        Weight::Critical => ("critical", Tone::Bad),
    };
    let what = Line::from(vec![
        Span::styled(format!("{word:<8} "), style(tone)),
        Span::raw(format!("{:<12} ", finding.device)),
        Span::styled(finding.what.clone(), style(tone)),
    ]);
    [what, Line::styled(format!("{:22}{}", "", finding.hint), style(Tone::Faint))]
}

fn window(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>, width: u16) {
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [row] = Layout::vertical([Constraint::Max(height)]).flex(Flex::Center).areas(frame.area());
    let [area]: [Rect; 1] = Layout::horizontal([Constraint::Max(width)]).flex(Flex::Center).areas(row);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title.to_owned());
    frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), area);
}
