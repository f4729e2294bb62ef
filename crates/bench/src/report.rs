//! What came out: as a table, as JSON, as a picture.

use crate::case::{BAR, Case, LOWER_BAR};
use crate::round::Round;
use crate::spread::Spread;
use anyhow::Result;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use std::fmt::Write;

/// One case, per request where that is meant.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) queue_depth: u32,
    pub(crate) connections: u16,
    /// Of host and target to the limit program in the same round.
    pub(crate) ratio: Spread,
    /// Whether the ratio reaches its goal; absent for a case without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bar_met: Option<bool>,
    pub(crate) iops: Spread,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) system_calls: f64,
    pub(crate) allocations: f64,
    pub(crate) copied_bytes: f64,
    pub(crate) cpu_us: f64,
    /// The same of the limit program.
    pub(crate) limit: Limit,
}

/// What the limit program did.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) iops: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) system_calls: f64,
    pub(crate) cpu_us: f64,
}

impl Row {
    pub(crate) fn new(case: &Case, host: &[Round], limit: &[Round]) -> Self {
        let spread =
            |rounds: &[Round], figure: fn(&Round) -> f64| Spread::of(&rounds.iter().map(figure).collect::<Vec<_>>());
        let median = |rounds: &[Round], figure: fn(&Round) -> f64| spread(rounds, figure).median;
        let ratio = Spread::of(&host.iter().zip(limit).map(|(host, limit)| host.iops / limit.iops).collect::<Vec<_>>());
        Self {
            case: case.name.clone(),
            queue_depth: case.depth,
            connections: case.scene.connections,
            ratio,
            bar_met: case.bar.then_some(ratio.median >= BAR && ratio.lower >= LOWER_BAR),
            iops: spread(host, |round| round.iops),
            p50_us: median(host, |round| round.p50_us),
            p99_us: median(host, |round| round.p99_us),
            p999_us: median(host, |round| round.p999_us),
            system_calls: median(host, |round| round.costs.calls),
            allocations: median(host, |round| round.costs.allocations),
            copied_bytes: median(host, |round| round.costs.copied),
            cpu_us: median(host, |round| round.costs.cpu_us),
            limit: Limit {
                iops: median(limit, |round| round.iops),
                p50_us: median(limit, |round| round.p50_us),
                p99_us: median(limit, |round| round.p99_us),
                system_calls: median(limit, |round| round.costs.calls),
                cpu_us: median(limit, |round| round.costs.cpu_us),
            },
        }
    }
}

/// Everything, with how it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of this format.
    pub(crate) format_version: u32,
    pub(crate) rounds: usize,
    pub(crate) millis: u64,
    pub(crate) spin_us: u64,
    pub(crate) backend: String,
    pub(crate) machine: String,
    pub(crate) bar: f64,
    pub(crate) lower_bar: f64,
    pub(crate) cases: Vec<Row>,
}

impl Report {
    pub(crate) fn table(&self) -> Result<String> {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        let head = [
            "case",
            "QD",
            "IOPS",
            "ratio (quartiles)",
            "bar",
            "p50 us",
            "p99 us",
            "calls",
            "allocs",
            "copied",
            "CPU us",
        ];
        table.set_header(head);
        for row in &self.cases {
            let verdict = match row.bar_met {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            };
            table.add_row([
                row.case.clone(),
                row.queue_depth.to_string(),
                format!("{:.0}", row.iops.median),
                format!("{:.2} ({:.2} - {:.2})", row.ratio.median, row.ratio.lower, row.ratio.upper),
                verdict.to_owned(),
                format!("{:.1} / {:.1}", row.p50_us, row.limit.p50_us),
                format!("{:.1} / {:.1}", row.p99_us, row.limit.p99_us),
                format!("{:.2} / {:.2}", row.system_calls, row.limit.system_calls),
                format!("{:.2}", row.allocations),
                format!("{:.0}", row.copied_bytes),
                format!("{:.2} / {:.2}", row.cpu_us, row.limit.cpu_us),
            ]);
        }
        let mut text = format!("{table}\n");
        writeln!(text, "{}", self.method())?;
        writeln!(
            text,
            "Behind a slash: the limit program. Calls, allocations, copied bytes and CPU are per request, both sides together."
        )?;
        let missed = self.cases.iter().filter(|row| row.bar_met == Some(false)).count();
        let barred = self.cases.iter().filter(|row| row.bar_met.is_some()).count();
        if barred > 0 {
            writeln!(
                text,
                "{} of {barred} bars met ({:.2}, lower quartile {:.2})",
                barred - missed,
                self.bar,
                self.lower_bar
            )?;
        }
        Ok(text)
    }

    /// How it was measured, in one line.
    pub(crate) fn method(&self) -> String {
        format!(
            "{} rounds of {} ms per case, host and target on one reactor each ({}, spin {} us), loopback; {}",
            self.rounds, self.millis, self.backend, self.spin_us, self.machine
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratio is of neighbours: a machine that was slow for one round was slow for both.
    #[test]
    fn a_bar_is_met_by_the_median_of_the_paired_ratios_and_their_lower_quartile() {
        let cases = Case::all();
        let rounds =
            |iops: &[f64]| iops.iter().map(|iops| Round { iops: *iops, ..Round::default() }).collect::<Vec<_>>();
        let limit = rounds(&[100.0, 10.0, 1000.0, 100.0, 100.0]);
        let row = |host: &[f64]| Row::new(&cases[0], &rounds(host), &limit);
        let even = row(&[90.0, 9.0, 900.0, 91.0, 92.0]);
        assert_eq!((even.ratio.median, even.bar_met), (0.9, Some(true)));
        assert_eq!(row(&[89.0, 8.9, 890.0, 89.0, 89.0]).bar_met, Some(false), "the median");
        assert_eq!(row(&[79.0, 7.9, 900.0, 91.0, 92.0]).bar_met, Some(false), "the lower quartile");
        let without = cases.iter().find(|case| !case.bar).map(|case| Row::new(case, &limit, &limit).bar_met);
        assert_eq!(without, Some(None));
    }
}
