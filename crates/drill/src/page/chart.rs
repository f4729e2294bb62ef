//! The pictures: throughput over time, and the stages of a failover.

use super::text::{escaped, ms};
use interlock_api::{PathLine, Recording, StageName, Story};
use std::fmt::Write;

/// Width of every picture, in its own units.
const WIDE: f64 = 980.0;
/// Where the axis of time begins and ends.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 966.0;
/// Height of one path.
const LANE: f64 = 74.0;
/// Height of one stage.
const ROW: f64 = 22.0;
/// Columns over time in which operations are counted.
const COLUMNS: usize = 204;
/// Shown before the path breaks, and after everything is back, in milliseconds at least.
const AROUND: f64 = 150.0;

const COLOURS: [&str; 4] = ["a", "b", "c", "d"];

/// When, its name, its colour.
type Moment = (f64, &'static str, &'static str);

/// A span of time, and where it lies in the picture.
#[derive(Clone, Copy)]
struct Axis {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
}

impl Axis {
    fn x(self, at: f64) -> f64 {
        let share = ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.left + share * (self.right - self.left)
    }

    /// Round numbers, about eight of them.
    fn ticks(self) -> Vec<f64> {
        let rough = (self.to - self.from) / 8.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough).max(1e-3);
        let first = (self.from / step).ceil();
        (0..20).map(|place| (first + f64::from(place)) * step).take_while(|at| *at <= self.to).collect()
    }
}

/// What went through each path, in milliseconds from the break.
pub(super) fn throughput(recording: &Recording, stories: &[Story]) -> String {
    let since = |at_ns: u64| (i128::from(at_ns) - i128::from(recording.broken_ns)) as f64 / 1e6;
    let lost = |story: &Story| {
        recording.events.iter().find(|event| event.seq == story.id).map_or(0.0, |event| since(event.at_ns))
    };
    let ends = stories.iter().flat_map(|story| {
        let lost = lost(story);
        story.stages.iter().filter_map(move |stage| stage.ms.map(|ms| lost + stage.from_ms + ms))
    });
    let end = ends.fold(0.0, f64::max);
    let around = (end * 0.25).max(AROUND);
    let axis = Axis { from: -around, to: end + around, left: LEFT, right: RIGHT };
    let rates: Vec<Vec<f64>> = recording.lines.iter().map(|line| rates(line, axis, &since)).collect();
    let top = rates.iter().flatten().copied().fold(1.0, f64::max);
    let height = 26.0 + recording.lines.len() as f64 * (LANE + 10.0) + 26.0;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDE} {height}\" role=\"img\" aria-label=\"Throughput of each path\">\n");
    let bottom = height - 26.0;
    ticks(&mut svg, axis, 26.0, bottom);
    let mut moments = Vec::new();
    for story in stories {
        moments.extend(bands(&mut svg, axis, lost(story), story, bottom));
    }
    for (place, (line, rates)) in recording.lines.iter().zip(&rates).enumerate() {
        let base = 26.0 + (place as f64 + 1.0) * (LANE + 10.0) - 10.0;
        lane(&mut svg, axis, line, rates, top, base, COLOURS[place % COLOURS.len()]);
    }
    named(&mut svg, axis, moments, bottom);
    moment(&mut svg, axis, 0.0, "path breaks", "condemn", bottom);
    svg.push_str("</svg>\n");
    svg
}

/// Operations per second in each column.
fn rates(line: &PathLine, axis: Axis, since: &impl Fn(u64) -> f64) -> Vec<f64> {
    let step = (axis.to - axis.from) / COLUMNS as f64;
    let total = |at: f64| -> f64 {
        let place = line.points.partition_point(|point| since(point.at_ns) <= at);
        let (Some(before), Some(after)) =
            (place.checked_sub(1).and_then(|p| line.points.get(p)), line.points.get(place))
        else {
            let edge = if place == 0 { line.points.first() } else { line.points.last() };
            return edge.map_or(0.0, |point| point.ios as f64);
        };
        let (from, to) = (since(before.at_ns), since(after.at_ns));
        let share = if to > from { (at - from) / (to - from) } else { 0.0 };
        before.ios as f64 + share * (after.ios.saturating_sub(before.ios)) as f64
    };
    (0..COLUMNS)
        .map(|column| {
            let from = axis.from + step * column as f64;
            (total(from + step) - total(from)).max(0.0) / step * 1e3
        })
        .collect()
}

fn lane(svg: &mut String, axis: Axis, line: &PathLine, rates: &[f64], top: f64, base: f64, colour: &str) {
    let width = (axis.right - axis.left) / rates.len() as f64;
    let y = |rate: f64| base - rate / top * (LANE - 6.0);
    let mut shape = format!("M{:.1} {base:.1}", axis.left);
    for (place, rate) in rates.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(shape, "L{:.1} {:.1}", axis.left + (place as f64 + 0.5) * width, y(*rate));
    }
    let _ = write!(shape, "L{:.1} {base:.1}Z", axis.right);
    let _ = writeln!(
        svg,
        "<path d=\"{shape}\" fill=\"var(--{colour})\" fill-opacity=\"0.22\" stroke=\"var(--{colour})\" stroke-width=\"1.4\" stroke-linejoin=\"round\"/>\n\
         <line x1=\"{LEFT}\" y1=\"{base:.1}\" x2=\"{RIGHT}\" y2=\"{base:.1}\" class=\"axis\"/>\n\
         <text x=\"0\" y=\"{:.1}\" font-weight=\"650\" style=\"fill:var(--{colour})\">{}</text>\n\
         <text x=\"0\" y=\"{:.1}\" class=\"soft\">{}</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"soft\">{}</text>\n\
         <text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" class=\"soft\">0</text>",
        base - LANE + 24.0,
        escaped(&line.controller),
        base - LANE + 40.0,
        escaped(&line.path.to_string()),
        LEFT - 8.0,
        base - LANE + 12.0,
        thousands(top),
        LEFT - 8.0,
    );
}

fn thousands(rate: f64) -> String {
    if rate >= 1_000.0 { format!("{:.0} k/s", rate / 1e3) } else { format!("{rate:.0} /s") }
}

/// What the host does to a lost path, as bands: not noticed, held, reconnecting. The moments between them.
fn bands(svg: &mut String, axis: Axis, lost: f64, story: &Story, bottom: f64) -> Vec<Moment> {
    let end_of = |name: StageName| {
        let stage = story.stages.iter().rev().find(|stage| stage.name == name)?;
        stage.ms.map(|ms| lost + stage.from_ms + ms)
    };
    let mut band = |from: f64, to: f64, colour: &str| {
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"26\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--{colour})\" fill-opacity=\"0.13\"/>",
            axis.x(from),
            (axis.x(to) - axis.x(from)).max(1.0),
            bottom - 26.0
        );
    };
    if lost > 0.0 {
        band(0.0, lost, "detect");
    }
    let released = end_of(StageName::Release);
    if let Some(released) = released {
        band(lost, released, "reset");
    }
    if let Some(back) = end_of(StageName::Reconnect) {
        let from = released.unwrap_or(lost);
        if back > from {
            band(from, back, "reconnect");
        }
    }
    let mut moments = Vec::new();
    if lost > (axis.to - axis.from) * 0.12 {
        moments.push((lost, "noticed", "detect"));
    }
    moments.extend(released.map(|at| (at, "released", "release")));
    moments.extend(end_of(StageName::Reconnect).map(|at| (at, "reconnected", "reconnect")));
    moments
}

/// Lines at moments. Words that would lie on each other are left out: the stages below have them all.
fn named(svg: &mut String, axis: Axis, mut moments: Vec<Moment>, bottom: f64) {
    let mut right = axis.x(0.0) + 72.0;
    moments.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (at, name, colour) in moments {
        let fits = axis.x(at) > right;
        if fits {
            right = axis.x(at) + 78.0;
        }
        moment(svg, axis, at, if fits { name } else { "" }, colour, bottom);
    }
}

fn moment(svg: &mut String, axis: Axis, at: f64, name: &str, colour: &str, bottom: f64) {
    let x = axis.x(at);
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"18\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"var(--{colour})\" stroke-width=\"1.2\"/>"
    );
    if !name.is_empty() {
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"14\" style=\"fill:var(--{colour})\">{name}</text>", x + 3.0);
    }
}

fn ticks(svg: &mut String, axis: Axis, top: f64, bottom: f64) {
    for at in axis.ticks() {
        let x = axis.x(at);
        let words = if at == 0.0 { "0".into() } else { signed(at) };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" class=\"grid\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"soft\">{words}</text>",
            bottom + 17.0
        );
    }
}

/// A moment on an axis, as short as it is exact.
fn signed(at: f64) -> String {
    let text =
        if at.abs() >= 1_000.0 { format!("{:.1} s", at / 1e3) } else { format!("{} ms", (at * 100.0).round() / 100.0) };
    if at > 0.0 { format!("+{text}") } else { text }
}

/// The stages of one failover, on an axis of their own.
pub(super) fn stages(story: &Story) -> String {
    // What came before the loss was noticed is the target's, and often far longer than the rest.
    let ends = story.stages.iter().filter_map(|stage| stage.ms.map(|ms| stage.from_ms + ms));
    let end = ends.fold(0.0, f64::max).max(0.5);
    let from = story.stages.iter().map(|stage| stage.from_ms).fold(0.0, f64::min).max(-0.35 * end);
    let axis = Axis { from, to: end * 1.02, left: 84.0, right: 520.0 };
    let height = story.stages.len() as f64 * ROW + 30.0;
    let bottom = height - 26.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDE} {height}\" role=\"img\" aria-label=\"Stages of the failover\">\n");
    ticks(&mut svg, axis, 0.0, bottom);
    for (place, stage) in story.stages.iter().enumerate() {
        let y = place as f64 * ROW;
        let (x, open) = (axis.x(stage.from_ms), stage.ms.is_none());
        let to = axis.x(stage.ms.map_or(axis.to, |ms| stage.from_ms + ms));
        let took = stage.ms.map_or_else(|| "-".into(), ms);
        let dash = if open { " fill-opacity=\"0.25\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{ty:.1}\" font-weight=\"600\">{}</text>\
             <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" rx=\"2\" fill=\"var(--{})\"{dash}/>\
             <text x=\"590\" y=\"{ty:.1}\" text-anchor=\"end\">{took}</text>\
             <text x=\"604\" y=\"{ty:.1}\" class=\"soft\">{}</text>",
            escaped(stage.name.name()),
            y + 5.0,
            (to - x).max(2.0),
            stage.name,
            escaped(&shortened(&stage.text)),
            ty = y + 14.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Words that fit beside a bar.
fn shortened(text: &str) -> String {
    const MOST: usize = 62;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}
