//! From two samples to what people read: I/O per second, latency, bandwidth, utilisation.
//!
//! The formulas are those of `nvme top`, so that both show the same: a counter that went backwards (a device that was
//! removed and came back) counts as nothing, and two samples less than [`Rates::MIN_INTERVAL`] apart give no rates.

use crate::Io;
use serde::Serialize;
use std::time::Duration;

/// One direction of I/O between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Direction {
    /// Completed per second.
    pub iops: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Mean time from submission to completion, in milliseconds; 0 if none completed.
    pub latency_ms: f64,
}

/// I/O between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Reads.
    pub read: Direction,
    /// Writes.
    pub write: Direction,
    /// Share of the time in which something was under way, in percent.
    pub busy_percent: f64,
    /// Under way at the later sample.
    pub in_flight: u64,
}

impl Rates {
    /// Samples closer together than this give no rates: the kernel counts its time in milliseconds.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(100);

    /// What happened from `before` to `now`, `interval` later. Without an earlier sample, all rates are 0.
    #[must_use]
    pub fn between(before: Option<&Io>, now: &Io, interval: Duration) -> Self {
        let idle = Self { in_flight: now.in_flight, ..Self::default() };
        let Some(before) = before.filter(|_| interval >= Self::MIN_INTERVAL) else { return idle };
        let seconds = interval.as_secs_f64();
        let busy_us = now.busy_us.saturating_sub(before.busy_us);
        Self {
            read: direction(
                now.reads.saturating_sub(before.reads),
                now.read_bytes.saturating_sub(before.read_bytes),
                now.read_us.saturating_sub(before.read_us),
                seconds,
            ),
            write: direction(
                now.writes.saturating_sub(before.writes),
                now.write_bytes.saturating_sub(before.write_bytes),
                now.write_us.saturating_sub(before.write_us),
                seconds,
            ),
            busy_percent: busy_us as f64 / 1e6 / seconds * 100.0,
            ..idle
        }
    }

    /// Several devices seen as one: what they did is added up, latency and utilisation are those of the worst.
    #[must_use]
    pub fn together(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::default(), |sum, one| Self {
            read: sum.read.with(one.read),
            write: sum.write.with(one.write),
            busy_percent: sum.busy_percent.max(one.busy_percent),
            in_flight: sum.in_flight + one.in_flight,
        })
    }

    /// Reads and writes per second.
    #[must_use]
    pub fn iops(&self) -> f64 {
        self.read.iops + self.write.iops
    }

    /// Bytes per second, both directions.
    #[must_use]
    pub fn bytes_per_s(&self) -> f64 {
        self.read.bytes_per_s + self.write.bytes_per_s
    }
}

impl Direction {
    fn with(self, other: Self) -> Self {
        Self {
            iops: self.iops + other.iops,
            bytes_per_s: self.bytes_per_s + other.bytes_per_s,
            latency_ms: self.latency_ms.max(other.latency_ms),
        }
    }
}

fn direction(ios: u64, bytes: u64, us: u64, seconds: f64) -> Direction {
    Direction {
        iops: ios as f64 / seconds,
        bytes_per_s: bytes as f64 / seconds,
        latency_ms: if ios == 0 { 0.0 } else { us as f64 / 1e3 / ios as f64 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Io = Io {
        reads: 100,
        read_bytes: 409_600,
        read_us: 50_000,
        writes: 10,
        write_bytes: 40_960,
        write_us: 9_000,
        in_flight: 3,
        busy_us: 1_000_000,
        compares: None,
        flushes: 0,
        flush_us: 0,
    };

    #[test]
    fn differences_over_time() {
        let now =
            Io { reads: 300, read_bytes: 1_228_800, read_us: 450_000, busy_us: 2_500_000, in_flight: 7, ..BEFORE };
        let rates = Rates::between(Some(&BEFORE), &now, Duration::from_secs(2));
        assert_eq!(rates.read, Direction { iops: 100.0, bytes_per_s: 409_600.0, latency_ms: 2.0 });
        assert_eq!(rates.write, Direction::default(), "no write ended: no rate, and no division by zero");
        assert!((rates.busy_percent - 75.0).abs() < 1e-9);
        assert_eq!(rates.in_flight, 7);
    }

    #[test]
    fn no_rates_without_an_earlier_sample_too_early_or_backwards() {
        let idle = Rates { in_flight: 3, ..Rates::default() };
        assert_eq!(Rates::between(None, &BEFORE, Duration::from_secs(1)), idle);
        let later = Io { reads: 200, ..BEFORE };
        assert_eq!(Rates::between(Some(&BEFORE), &later, Duration::from_millis(99)), idle);
        let new_device = Io { reads: 1, in_flight: 3, ..Io::default() };
        assert_eq!(Rates::between(Some(&BEFORE), &new_device, Duration::from_secs(1)), idle);
    }

    #[test]
    fn together_adds_what_was_done_and_keeps_the_worst_latency() {
        let one = Rates {
            read: Direction { iops: 10.0, bytes_per_s: 100.0, latency_ms: 5.0 },
            write: Direction::default(),
            busy_percent: 20.0,
            in_flight: 1,
        };
        let two = Rates { read: Direction { iops: 1.0, bytes_per_s: 1.0, latency_ms: 9.0 }, busy_percent: 10.0, ..one };
        let sum = Rates::together([one, two]);
        assert_eq!(sum.read, Direction { iops: 11.0, bytes_per_s: 101.0, latency_ms: 9.0 });
        assert!((sum.busy_percent - 20.0).abs() < 1e-9);
        assert_eq!(sum.in_flight, 2);
    }
}
