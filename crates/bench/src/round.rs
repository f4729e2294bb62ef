//! What one round of one case counts.

use hdrhistogram::Histogram;
use interlock_base::Instant;
use std::time::Duration;

/// What came out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Round {
    pub(crate) iops: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Requests that ended.
    pub(crate) done: u64,
    /// What they cost, both sides together.
    pub(crate) costs: Costs,
}

impl Round {
    /// Connections that ran side by side, as one.
    pub(crate) fn together(rounds: &[Self]) -> Self {
        let worst = |figure: fn(&Self) -> f64| rounds.iter().map(figure).fold(0.0, f64::max);
        Self {
            iops: rounds.iter().map(|round| round.iops).sum(),
            p50_us: worst(|round| round.p50_us),
            p99_us: worst(|round| round.p99_us),
            p999_us: worst(|round| round.p999_us),
            done: rounds.iter().map(|round| round.done).sum(),
            costs: Costs::default(),
        }
    }

    /// With what the two reactors and the process counted meanwhile.
    pub(crate) fn with_costs(mut self, before: &Meters, after: &Meters) -> Self {
        let each = |figure: fn(&Meters) -> u64| (figure(after) - figure(before)) as f64 / self.done.max(1) as f64;
        self.costs = Costs {
            calls: each(|meters| meters.calls),
            allocations: each(|meters| meters.allocations),
            copied: each(|meters| meters.copied),
            cpu_us: each(|meters| meters.cpu_ns) / 1000.0,
        };
        self
    }
}

/// Per request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Costs {
    /// System calls for data.
    pub(crate) calls: f64,
    pub(crate) allocations: f64,
    /// Bytes of payload that user space copied.
    pub(crate) copied: f64,
    pub(crate) cpu_us: f64,
}

/// What was counted so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Meters {
    pub(crate) calls: u64,
    pub(crate) allocations: u64,
    pub(crate) copied: u64,
    pub(crate) cpu_ns: u64,
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
        let seconds = (now - self.began).as_secs_f64();
        Round {
            iops: self.done as f64 / seconds,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            done: self.done,
            ..Round::default()
        }
    }
}
