//! What happened lately.

use super::{style, title_style};
use crate::app::App;
use crate::columns::Tone;
use crate::timeline::Entry;
use interlock_observe::changes::Weight;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};
use std::time::Duration;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(Line::styled(" What happened ", title_style()));
    let inner = block.inner(area);
    let entries = app.timeline.of(app.subsystem_name()).take(usize::from(inner.height));
    let mut lines: Vec<Line<'_>> =
        entries.map(|entry| cut(line(app.snapshot.at, entry), usize::from(inner.width))).collect();
    if lines.is_empty() {
        lines.push(Line::styled("nothing since this program was started", style(Tone::Faint)));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// One entry as a line: how long ago, who, what.
pub(super) fn line(now: Duration, entry: &Entry) -> Line<'_> {
    let tone = match entry.weight {
        Weight::Info => Tone::Good,
        Weight::Warning => Tone::Warning,
        Weight::Critical => Tone::Bad,
    };
    Line::from(vec![
        Span::styled(format!("{:>9}  ", ago(now.saturating_sub(entry.at))), style(Tone::Faint)),
        Span::raw(format!("{:<12} ", entry.device)),
        Span::styled(entry.what.as_str(), style(tone)),
    ])
}

/// A line that is too long ends with a mark.
fn cut(mut line: Line<'_>, width: usize) -> Line<'_> {
    let mut room = width;
    for span in &mut line.spans {
        let length = span.content.chars().count();
        if length > room {
            let text: String = span.content.chars().take(room.saturating_sub(1)).chain(['…']).collect();
            span.content = text.into();
        }
        room = room.saturating_sub(length);
    }
    line
}

fn ago(time: Duration) -> String {
    match time.as_secs() {
        0 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds => format!("{} h ago", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_with_a_mark() {
        let text = |width| cut(Line::from(vec![Span::raw("now  "), Span::raw("connecting")]), width).to_string();
        assert_eq!((text(15).as_str(), text(10).as_str()), ("now  connecting", "now  conn…"));
    }

    #[test]
    fn how_long_ago() {
        for (seconds, text) in [(0, "now"), (59, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago")] {
            assert_eq!(ago(Duration::from_secs(seconds)), text);
        }
    }
}
