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

/// A moment of Unix time in UTC, as RFC 3339 writes it.
pub(super) fn date(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1_000 % 86_400);
    // Years begin in March here, so that the leap day is the last one; eras have 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (unix, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(unix * 1_000), want);
        }
    }
}
