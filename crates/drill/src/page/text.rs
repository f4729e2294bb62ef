//! Words of the page.

use interlock_api::{Safety, ScenarioResult, Story, Verdict, Way};

/// As it may stand in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A span of milliseconds.
pub(super) fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "SAFE",
        Verdict::SafeIf => "SAFE IF",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::Unsafe => "UNSAFE",
    }
}

pub(super) const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "good",
        Verdict::SafeIf => "maybe",
        Verdict::Inconclusive => "none",
        Verdict::Unsafe => "bad",
    }
}

/// The verdict, with its condition.
pub(super) fn sentence(scenario: &ScenarioResult) -> String {
    match (scenario.verdict, scenario.assumed_ms) {
        (Verdict::SafeIf, Some(ms)) => format!("SAFE IF the target quiesces within {ms} ms"),
        (other, _) => verdict(other).into(),
    }
}

pub(super) const fn safety(safety: Safety) -> &'static str {
    match safety {
        Safety::NotNeeded | Safety::Proven => "good",
        Safety::Assumed | Safety::Guarded => "maybe",
        Safety::Pending => "none",
        Safety::Unsafe => "bad",
    }
}

pub(super) fn way(way: &Way) -> String {
    way.path.as_ref().map_or_else(|| way.controller.clone(), |path| format!("{} {path}", way.controller))
}

pub(super) fn ways(story: &Story) -> String {
    let ways: Vec<String> = story.went_to.iter().map(way).collect();
    if ways.is_empty() { "nowhere: no other path was there".into() } else { ways.join(", ") }
}
