//! What one round of one case counts.

use hdrhistogram::Histogram;
use interlock_base::Instant;
use std::time::Duration;

/// What came out.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) iops: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Counts while a round runs.
pub(crate) struct Tally {
    /// When each slot's request was submitted.
    since: Vec<Instant>,
    began: Instant,
    done: u64,
    in_flight: u32,
    latencies: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new(now: Instant, depth: u32) -> Self {
        Self {
            since: vec![now; depth as usize],
            began: now,
            done: 0,
            in_flight: 0,
            latencies: Histogram::new(3).expect("3 significant digits are allowed"),
        }
    }

    pub(crate) fn submitted(&mut self, now: Instant, slot: usize) {
        self.since[slot] = now;
        self.in_flight += 1;
    }

    pub(crate) fn finished(&mut self, now: Instant, slot: usize) {
        self.in_flight -= 1;
        self.done += 1;
        // The histogram grows by itself; a latency beyond 64 bits of nanoseconds cannot be.
        let _ = self.latencies.record((now - self.since[slot]).as_nanos() as u64);
    }

    pub(crate) fn goes_on(&self, now: Instant, duration: Duration) -> bool {
        now - self.began < duration
    }

    pub(crate) const fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    pub(crate) fn round(&self, now: Instant) -> Round {
        let us = |part| self.latencies.value_at_quantile(part) as f64 / 1000.0;
        Round { iops: self.done as f64 / (now - self.began).as_secs_f64(), p50_us: us(0.5), p99_us: us(0.99) }
    }
}
