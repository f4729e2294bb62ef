//! Which state of a configured controller may follow which.

use super::{meaning, svg};
use interlock_host_core::StateName;
use std::fmt::Write;

const WIDTH: f64 = 170.0;
const HEIGHT: f64 = 56.0;

/// Where a state stands in the picture: its centre.
const fn place(state: StateName) -> (f64, f64) {
    match state {
        StateName::New => (105.0, 210.0),
        StateName::Connecting => (340.0, 210.0),
        StateName::Live => (620.0, 210.0),
        StateName::Resetting => (480.0, 90.0),
        StateName::Waiting => (480.0, 330.0),
        StateName::Deleting => (855.0, 130.0),
        StateName::Dead => (855.0, 330.0),
    }
}

/// How an arrow is drawn: the good way, a way that continues, the end.
const fn kind(to: StateName) -> &'static str {
    match to {
        StateName::Live => "up",
        StateName::Deleting | StateName::Dead => "down",
        _ => "go",
    }
}

fn pairs() -> impl Iterator<Item = (StateName, StateName)> {
    StateName::ALL
        .into_iter()
        .flat_map(|from| StateName::ALL.into_iter().map(move |to| (from, to)))
        .filter(|(from, to)| from.allows(*to))
}

/// Where the straight line from the centre of a box towards `to` leaves it.
fn edge_of((x, y): (f64, f64), (to_x, to_y): (f64, f64)) -> (f64, f64) {
    let (dx, dy) = (to_x - x, to_y - y);
    let scale = (WIDTH / 2.0 / dx.abs().max(0.001)).min(HEIGHT / 2.0 / dy.abs().max(0.001));
    (x + dx * scale, y + dy * scale)
}

pub(super) fn picture() -> String {
    let mut text = svg::begin(960, 430, "States of a controller");
    text.push_str("  <text class=\"t h\" x=\"24\" y=\"34\" font-size=\"16\">States of a controller</text>\n");
    // Arrows that end lie behind arrows that continue.
    for wanted in ["down", "go", "up"] {
        for (from, to) in pairs().filter(|(_, to)| kind(*to) == wanted) {
            arrow(&mut text, from, to);
        }
    }
    for state in StateName::ALL {
        node(&mut text, state);
    }
    for (x, kind, words) in [(30, "up", "becomes usable"), (240, "go", "continues"), (400, "down", "ends")] {
        let _ = writeln!(
            text,
            "  <path class=\"{kind}\" d=\"M{x} 404h44\" marker-end=\"url(#{kind})\"/><text class=\"m\" x=\"{}\" y=\"408\">{words}</text>",
            x + 54
        );
    }
    text.push_str("</svg>\n");
    text
}

fn arrow(text: &mut String, from: StateName, to: StateName) {
    let (start, end) = (place(from), place(to));
    let kind = kind(to);
    // The way there and the way back bend to different sides.
    let bend = if to.allows(from) { 26.0 } else { 10.0 };
    let (dx, dy) = (end.0 - start.0, end.1 - start.1);
    let length = dx.hypot(dy);
    let middle = ((start.0 + end.0) / 2.0 - dy / length * bend, (start.1 + end.1) / 2.0 + dx / length * bend);
    let (a, b) = (edge_of(start, middle), edge_of(end, middle));
    let _ = writeln!(
        text,
        "  <path class=\"{kind}\" d=\"M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}\" marker-end=\"url(#{kind})\"><title>{from} to {to}</title></path>",
        a.0, a.1, middle.0, middle.1, b.0, b.1
    );
}

fn node(text: &mut String, state: StateName) {
    let (x, y) = place(state);
    let class = match state {
        StateName::Live => "node live",
        StateName::Waiting => "node wait",
        StateName::Deleting | StateName::Dead => "node end",
        _ => "node",
    };
    let _ = writeln!(
        text,
        "  <rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n  <text class=\"t h\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{state}</text>\n  <text class=\"m\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        x - WIDTH / 2.0,
        y - HEIGHT / 2.0,
        y - 3.0,
        y + 15.0,
        meaning(state)
    );
}

pub(super) fn markdown() -> String {
    let mut text = String::from("| from | means | sysfs |");
    for to in StateName::ALL {
        let _ = write!(text, " {to} |");
    }
    text.push_str("\n|---|---|---|");
    text.push_str(&":-:|".repeat(StateName::ALL.len()));
    text.push('\n');
    for from in StateName::ALL {
        let _ = write!(text, "| **{from}** | {} | `{}` |", meaning(from), from.linux());
        for to in StateName::ALL {
            text.push_str(if from.allows(to) { " yes |" } else { " |" });
        }
        text.push('\n');
    }
    text
}
