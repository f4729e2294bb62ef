//! How a fence reacts to what happens to a source that it asks for a Cross-Controller Reset.

use super::svg;
use interlock_host_core::{ViaEvent, ViaNext, ViaStage};
use std::fmt::Write;

/// What a stage means, in one line.
const fn meaning(stage: ViaStage) -> &'static str {
    match stage {
        ViaStage::Fresh => "never asked",
        ViaStage::Asked => "CCR was sent; a timer runs",
        ViaStage::Overdue => "no answer in time; others are asked too",
        ViaStage::Pending => "it resets; its log will show the result",
        ViaStage::Elsewhere => "a reset is running; others are asked too",
        ViaStage::Full => "its log was full: purged, asked again",
        ViaStage::Spent => "asked again, after a pause of up to 1 s",
    }
}

/// In words, and in which colours.
fn cell(stage: ViaStage, event: ViaEvent) -> (String, &'static str, &'static str) {
    match stage.next(event) {
        ViaNext::Stays => (String::new(), "#f6f8fa", "#d0d7de"),
        ViaNext::Proof => ("fenced".into(), "#dafbe1", "#1a7f37"),
        ViaNext::To(to) => {
            let (fill, stroke) = match to {
                ViaStage::Asked | ViaStage::Pending => ("#ddf4ff", "#0969da"),
                _ => ("#fff1c2", "#bf8700"),
            };
            (to.to_string(), fill, stroke)
        }
    }
}

pub(super) fn picture() -> String {
    let (left, top, width, height) = (320, 136, 82, 40);
    let (columns, rows) = (ViaEvent::ALL.len() as u32, ViaStage::ALL.len() as u32);
    let mut text = svg::begin(left + width * columns + 50, top + height * rows + 46, "A source of a fence");
    text.push_str("  <text class=\"t h\" x=\"24\" y=\"34\" font-size=\"16\">A source of a fence</text>\n");
    text.push_str("  <text class=\"m\" x=\"24\" y=\"56\">what happens to it, by its stage</text>\n");
    for (column, event) in (0..).zip(ViaEvent::ALL) {
        let (x, y) = (left + width * column + width / 2 - 8, top - 10);
        let _ = writeln!(
            text,
            "  <text class=\"t\" x=\"{x}\" y=\"{y}\" font-size=\"12\" transform=\"rotate(-32 {x} {y})\">{}</text>",
            svg::escape(&event.to_string())
        );
    }
    for (row, stage) in (0..).zip(ViaStage::ALL) {
        let y = top + height * row;
        let _ = writeln!(
            text,
            "  <text class=\"t h\" x=\"24\" y=\"{}\" font-size=\"13\">{stage}</text>\n  <text class=\"m\" x=\"96\" y=\"{}\">{}</text>",
            y + 25,
            y + 25,
            svg::escape(meaning(stage))
        );
        for (column, event) in (0..).zip(ViaEvent::ALL) {
            let (what, fill, stroke) = cell(stage, event);
            let x = left + width * column;
            let _ = writeln!(
                text,
                "  <rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"5\" fill=\"{fill}\" stroke=\"{stroke}\"/>",
                x + 2,
                y + 2,
                width - 4,
                height - 4
            );
            if !what.is_empty() {
                let _ = writeln!(
                    text,
                    "  <text class=\"t\" x=\"{}\" y=\"{}\" font-size=\"12\" text-anchor=\"middle\">{what}</text>",
                    x + width / 2,
                    y + 25
                );
            }
        }
    }
    let _ = writeln!(
        text,
        "  <text class=\"m\" x=\"24\" y=\"{}\">Empty: it cannot concern this fence. The hold runs at the same time: the first proof ends the fence.</text>",
        top + height * rows + 26
    );
    text.push_str("</svg>\n");
    text
}

pub(super) fn markdown() -> String {
    let mut text = String::from("| stage | means |");
    for event in ViaEvent::ALL {
        let _ = write!(text, " {event} |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(ViaEvent::ALL.len()));
    for stage in ViaStage::ALL {
        let _ = write!(text, "| **{stage}** | {} |", meaning(stage));
        for event in ViaEvent::ALL {
            let (what, ..) = cell(stage, event);
            let _ = write!(text, "{}{what} |", if what.is_empty() { "" } else { " " });
        }
        text.push('\n');
    }
    text.push_str(
        "\nA row is the stage of a source in one fence, a column is what happens to it. *fenced*: the proof, which ends \
         the fence. Empty: it\ncannot concern this fence. An entry from a source that has begun no reset itself is ignored. \
         The hold runs at the same time, and the\nfirst proof wins. Without a hold (KATO 0) the host keeps asking until the \
         instance is fenced.\n",
    );
    text
}
