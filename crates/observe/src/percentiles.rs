//! How long I/O took between two samples, beyond the mean: a mean hides the one request in a hundred that somebody waits for.

use crate::Times;
use interlock_api::Histogram;
use serde::Serialize;

/// Times that the half, and all but one in a hundred, did not exceed; at most a quarter too high, as the buckets are wide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

impl Percentiles {
    /// `None` if nothing was counted.
    #[must_use]
    pub fn of(times: &Histogram) -> Option<Self> {
        let ms = |part| times.percentile(part).map(|us| us as f64 / 1e3);
        Some(Self { p50_ms: ms(0.5)?, p99_ms: ms(0.99)? })
    }
}

/// Percentiles of a device between two samples. `None`: nothing ended, or the source keeps sums alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Reads and writes.
    pub all: Option<Percentiles>,
    /// Reads.
    pub read: Option<Percentiles>,
    /// Writes.
    pub write: Option<Percentiles>,
}

impl Latency {
    /// Of what was counted in `times`.
    #[must_use]
    pub fn of(times: &Times) -> Self {
        let [all, read, write] = [&times.reads_and_writes(), &times.read, &times.write].map(Percentiles::of);
        Self { all, read, write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_write_among_many_reads_is_seen_where_it_belongs() {
        let times = Times {
            read: Histogram(vec![(Some(128), 95)]),
            write: Histogram(vec![(Some(128), 3), (Some(50_000), 2)]),
            ..Times::default()
        };
        let latency = Latency::of(&times);
        assert_eq!(latency.read, Some(Percentiles { p50_ms: 0.128, p99_ms: 0.128 }));
        assert_eq!(latency.write, Some(Percentiles { p50_ms: 0.128, p99_ms: 50.0 }));
        assert_eq!(latency.all, Some(Percentiles { p50_ms: 0.128, p99_ms: 50.0 }));
        assert_eq!(Latency::of(&Times::default()), Latency::default());
    }
}
