//! The clock by which the target gives a host up.
//!
//! A host waits a stated time and then writes elsewhere. It counts that time on its own machine; what the target counts
//! must never be less. So the target's clock goes on while the machine sleeps, which `CLOCK_MONOTONIC` does not, and no
//! time daemon slows it down, which `CLOCK_BOOTTIME` allows: it is `CLOCK_MONOTONIC_RAW` plus the time that the machine slept.
//!
//! Reading it costs one reading of `CLOCK_BOOTTIME`: how far the raw clock is ahead of the adjusted one changes slowly, and
//! is looked at ten times a second. The zero is the same for every thread, so messages may carry these moments.

use interlock_base::Instant;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::time::Duration;

/// How long the difference of the raw and the adjusted clock is good for. At the most that the kernel allows, 10 %, they drift
/// apart by 10 ms meanwhile.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The difference is measured between two readings of the adjusted clock that are no farther apart than this, in nanoseconds.
const CLOSE: i64 = 50_000;

/// Attempts at that; a machine that is too busy for it takes the closest.
const TRIES: usize = 8;

thread_local! {
    static CLOCK: Clock = const { Clock { ahead: Cell::new(0), measured: Cell::new(None) } };
}

/// The present.
pub(crate) fn now() -> Instant {
    CLOCK.with(Clock::now)
}

struct Clock {
    /// How far `CLOCK_MONOTONIC_RAW` is ahead of `CLOCK_MONOTONIC`, in nanoseconds.
    ahead: Cell<i64>,
    /// When that was measured, on `CLOCK_BOOTTIME`.
    measured: Cell<Option<i64>>,
}

impl Clock {
    fn now(&self) -> Instant {
        let present = read(ClockId::Boottime);
        let good_for = GOOD_FOR.as_nanos() as i64;
        if self.measured.get().is_none_or(|at| present - at > good_for) {
            self.ahead.set(ahead());
            self.measured.set(Some(present));
        }
        // The raw clock can be behind, but not before the machine was started.
        Instant::from_nanos(u64::try_from(present + self.ahead.get()).unwrap_or(0))
    }
}

fn ahead() -> i64 {
    let sample = || {
        let before = read(ClockId::Monotonic);
        let raw = read(ClockId::MonotonicRaw);
        let after = read(ClockId::Monotonic);
        (after - before, raw - (before + (after - before) / 2))
    };
    let mut best = sample();
    for _ in 1..TRIES {
        if best.0 <= CLOSE {
            break;
        }
        best = best.min(sample());
    }
    best.1
}

fn read(id: ClockId) -> i64 {
    let time = clock_gettime(id);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_raw_clock_and_the_time_asleep() {
        let asleep = read(ClockId::Boottime) - read(ClockId::Monotonic);
        let (before, present, after) = (read(ClockId::MonotonicRaw), now(), read(ClockId::MonotonicRaw));
        let present = present.as_nanos() as i64 - asleep;
        let slack = 5_000_000;
        assert!(before - slack <= present && present <= after + slack, "{before} {present} {after}");
    }

    #[test]
    fn all_threads_count_from_the_same_zero() {
        let before = now();
        let there = std::thread::spawn(now).join().unwrap();
        let after = now();
        let slack = Duration::from_millis(5);
        assert!(before <= there + slack && there <= after + slack, "{before} {there} {after}");
    }
}
