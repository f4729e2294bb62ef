//! A story on one page, for a terminal.

use super::judge::span;
use interlock_api::{Safety, Story, StoryStage, StoryState, Way};
use std::fmt::Write;

/// Columns of the bars.
const BARS: usize = 24;
/// Words go to the next line after this column.
const WIDE: usize = 112;

/// The story as text of at most 112 columns, but for words that are longer.
#[must_use]
pub fn page(story: &Story) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", head(story));
    let _ = writeln!(text, "\n  {}\n", mark(story));
    let mut line = |name: &str, words: &str| {
        let _ = writeln!(text, "{}", wrapped(&format!("  {name:<11}"), words));
    };
    line("detected", &story.reason);
    line("in doubt", &doubt(story));
    line("went to", &ways(story));
    text.push('\n');
    text.push_str(&table(&story.stages));
    text.push('\n');
    let mut line = |name: &str, words: &str| {
        let _ = writeln!(text, "{}", wrapped(&format!("  {name:<11}"), words));
    };
    let (felt, foretold) = felt(story);
    line("felt", &felt);
    line("predicted", &foretold);
    for (place, note) in story.notes.iter().enumerate() {
        line(if place == 0 { "besides" } else { "" }, note);
    }
    if story.advice.is_empty() {
        line("to change", "nothing");
    }
    for (place, advice) in story.advice.iter().enumerate() {
        line(if place == 0 { "to change" } else { "" }, advice);
    }
    text
}

fn head(story: &Story) -> String {
    let state = match story.state {
        StoryState::Ongoing => ", not over yet",
        StoryState::Over => "",
        StoryState::Interrupted => ", interrupted by the end of the daemon",
    };
    let of = story.subsystem.as_ref().map_or_else(String::new, |nqn| format!(" of {nqn}"));
    format!("failover {}: {}{of}, {}{state}", story.id, way(&story.lost), story.life)
}

fn mark(story: &Story) -> String {
    let word = match story.safety {
        Safety::NotNeeded | Safety::Proven => "SAFE",
        Safety::Pending => "WAITING",
        Safety::Guarded => "GUARDED",
        Safety::Assumed => "SAFE IF",
        Safety::Unsafe => "UNSAFE",
    };
    let verdict = story.verdict.trim_start_matches("safe: ").trim_start_matches("UNSAFE: ");
    format!("{word}: {verdict}")
}

fn doubt(story: &Story) -> String {
    let (Some(in_doubt), Some(settled)) = (story.in_doubt, story.settled) else {
        return "not known".into();
    };
    let held = match (in_doubt, story.safety) {
        (0, _) => "nothing".to_owned(),
        (1, Safety::Unsafe) => "1 command, repeated at once".into(),
        (many, Safety::Unsafe) => format!("{many} commands, repeated at once"),
        (1, _) => "1 command, held".into(),
        (many, _) => format!("{many} commands, held"),
    };
    match settled {
        0 => held,
        1 => format!("{held}; 1 other moved on at once"),
        _ => format!("{held}; {settled} others moved on at once"),
    }
}

fn way(way: &Way) -> String {
    match &way.path {
        Some(path) => format!("{} ({path})", way.controller),
        None => way.controller.clone(),
    }
}

fn ways(story: &Story) -> String {
    let ways: Vec<String> = story
        .went_to
        .iter()
        .map(|to| {
            let again = if to.controller == story.lost.controller { ", its new life" } else { "" };
            format!("{}{again}", way(to))
        })
        .collect();
    if ways.is_empty() { "nowhere: no other path was there".into() } else { ways.join(", ") }
}

fn felt(story: &Story) -> (String, String) {
    let felt = match story.felt.longest_ms {
        Some(ms) => format!("{} at the longest, until it was released", span(ms)),
        None => "not known yet".into(),
    };
    let within = match story.felt.within {
        Some(true) => ", and kept",
        Some(false) => ", and EXCEEDED",
        None => "",
    };
    let foretold = match story.felt.foretold_ms {
        Some(ms) => format!("at most {}{within}: {}", span(ms as f64), story.felt.because),
        None => format!("no bound: {}", story.felt.because),
    };
    (felt, foretold)
}

/// The stages with their bars: where the time went.
fn table(stages: &[StoryStage]) -> String {
    let begin = stages.iter().map(|stage| stage.from_ms).fold(0.0, f64::min);
    let ends = stages.iter().filter_map(|stage| stage.ms.map(|ms| stage.from_ms + ms));
    let end = ends.fold(0.0, f64::max).max(begin + 0.001);
    let column = |ms: f64| (((ms - begin) / (end - begin)).clamp(0.0, 1.0) * BARS as f64).round() as usize;
    let mut text = String::new();
    for stage in stages {
        let from = column(stage.from_ms).min(BARS - 1);
        let bar = match stage.ms {
            Some(ms) => {
                let to = column(stage.from_ms + ms).max(from + 1);
                format!("{}{}", " ".repeat(from), "━".repeat(to - from))
            }
            None => format!("{}{}", " ".repeat(from), "┈".repeat(BARS - from)),
        };
        let took = stage.ms.map_or_else(|| "-".into(), span);
        let begin = format!("  {:>9} {took:>9}  {bar:<BARS$}  {:<9} ", offset(stage.from_ms), stage.name);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", wrapped(&begin, &stage.text));
    }
    text
}

fn offset(ms: f64) -> String {
    if ms == 0.0 { "0".into() } else { format!("{}{}", if ms > 0.0 { "+" } else { "" }, span(ms)) }
}

/// Words after a beginning, in lines that begin where the first one does.
fn wrapped(begin: &str, words: &str) -> String {
    let indent = begin.chars().count();
    let mut text = begin.to_owned();
    let mut column = indent;
    for (place, word) in words.split_whitespace().enumerate() {
        let length = word.chars().count();
        if place > 0 && column + 1 + length > WIDE.max(indent + 30) {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent;
        } else if place > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text.trim_end().to_owned()
}
