//! What came of the kills, in figures and as a table.

use super::Row;
use super::kill::Fall;
use crate::spread::Spread;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use std::time::Duration;

/// Of a number of values; all zero of none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        // The nearest rank: of fewer than a hundred values the 99th percentile is the largest.
        let at = |part: f64| {
            let rank = (part * values.len() as f64).ceil() as usize;
            values.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Latencies of requests on paths that are well all the time.
#[derive(Debug, Serialize)]
pub(crate) struct Healthy {
    /// Before the kill, in microseconds.
    pub(crate) before_us: Percentiles,
    /// From the kill until all was released.
    pub(crate) during_us: Percentiles,
    /// After the path was back.
    pub(crate) after_us: Percentiles,
    /// Of the medians of one kill, during to before.
    pub(crate) during_ratio: Spread,
    /// After to before.
    pub(crate) after_ratio: Spread,
}

/// The median latency of each kill in one part of it, beside that before the kill. Kills that are over before a request of
/// the bystander was asked have none.
pub(crate) fn ratio(falls: &[Fall], part: usize) -> Spread {
    let median = |latencies: &[Duration]| Percentiles::of(latencies.iter().map(Duration::as_secs_f64).collect()).p50;
    let both = falls.iter().map(|fall| (median(&fall.healthy[0]), median(&fall.healthy[part])));
    Spread::of(
        &both
            .filter(|(before, then)| *before > 0.0 && *then > 0.0)
            .map(|(before, then)| then / before)
            .collect::<Vec<_>>(),
    )
}

/// For people.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "path lost",
        "kills",
        "in doubt",
        "detected ms",
        "held ms",
        "stall ms",
        "goal p99",
        "back ms",
        "others us: before",
        "during",
        "after",
    ]);
    let three = |p: &Percentiles| format!("{:.1} / {:.1} / {:.1}", p.p50, p.p99, p.max);
    for row in rows {
        let kills = match row.inconclusive {
            0 => row.kills.to_string(),
            empty => format!("{} (+{empty} empty)", row.kills),
        };
        let ratio = |spread: &Spread| format!("x{:.2} ({:.2} - {:.2})", spread.median, spread.lower, spread.upper);
        let two = |p: &Percentiles| format!("{:.0} / {:.0}", p.p50, p.p99);
        table.add_row([
            row.scene.to_owned(),
            kills,
            format!("{:.0} / {:.0}", row.in_doubt.p50, row.in_doubt.max),
            three(&row.detected_ms),
            three(&row.held_ms),
            three(&row.stall_ms),
            format!("{:.0}: {}", row.goal_ms, if row.met { "met" } else { "missed" }),
            three(&row.back_ms),
            two(&row.healthy.before_us),
            format!("{}, {}", two(&row.healthy.during_us), ratio(&row.healthy.during_ratio)),
            format!("{}, {}", two(&row.healthy.after_us), ratio(&row.healthy.after_ratio)),
        ]);
    }
    format!(
        "{table}\nMedian / 99th percentile / largest; in doubt: median / largest; others: latency of one read or write at a time of \
         another subsystem, median / 99th percentile, and the ratio of medians per kill with its quartiles.\n\
         A stall counts from the kill to the last answer; where the path dies silently, from detection. Ghosts stopped: {}.\n",
        rows.iter().map(|row| row.ghosts).sum::<usize>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let of = |count: u32| Percentiles::of((1..=count).rev().map(f64::from).collect());
        assert_eq!(of(1000), Percentiles { p50: 500.0, p99: 990.0, max: 1000.0 });
        assert_eq!(of(50), Percentiles { p50: 25.0, p99: 50.0, max: 50.0 });
        assert_eq!(of(0), Percentiles::default());
    }
}
