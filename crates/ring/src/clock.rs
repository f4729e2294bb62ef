//! The one clock of the drivers.
//!
//! Cores take time as a value, and messages between threads carry such values, so every thread must count from the
//! same zero. This is `CLOCK_MONOTONIC` as it is: it stands still during suspend, so that a hold only gets longer.

use interlock_base::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The present, in nanoseconds of `CLOCK_MONOTONIC`. The same zero for every thread of the machine.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    // Both parts are never negative for this clock.
    Instant::from_nanos(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}
