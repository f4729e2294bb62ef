//! The one clock of the drivers.
//!
//! Cores take time as a value, and messages between threads carry such values, so every thread must count from the
//! same zero. This is `CLOCK_MONOTONIC` as it is: it stands still during suspend, so that a hold only gets longer.
//!
//! A time daemon makes that clock faster or slower, by up to a tenth, to set it. What must not be too short by that is
//! measured by a second clock as well, which nobody sets.

use interlock_base::Instant;
use rustix::time::{ClockId, clock_gettime};

/// The present, in nanoseconds of `CLOCK_MONOTONIC`. The same zero for every thread of the machine.
#[must_use]
pub fn now() -> Instant {
    read(ClockId::Monotonic)
}

/// The present, in nanoseconds of `CLOCK_MONOTONIC_RAW`: the rate of the hardware, which no time daemon changes. It has a zero
/// of its own, and stands still during suspend.
#[must_use]
pub fn raw_now() -> Instant {
    read(ClockId::MonotonicRaw)
}

fn read(id: ClockId) -> Instant {
    let time = clock_gettime(id);
    // Both parts are never negative for these clocks.
    Instant::from_nanos(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a skip is told")]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    /// Set for the run of this test inside a time namespace.
    const INSIDE: &str = "INTERLOCK_TEST_TIME_NAMESPACE";

    /// What a machine that slept for a day looks like afterwards: `CLOCK_BOOTTIME` is a day ahead. A hold must not have passed
    /// meanwhile, because the target's network and its clocks may have slept as well.
    #[test]
    fn a_machine_that_slept_has_not_held() {
        if std::env::var_os(INSIDE).is_some() {
            let (before, present, after) = (read(ClockId::Monotonic), now(), read(ClockId::Monotonic));
            assert!(before <= present && present <= after, "{before:?} {present:?} {after:?}");
            let slept = read(ClockId::Boottime).since(present.max(raw_now()));
            assert!(slept > Duration::from_secs(80_000), "the namespace is not as it was asked for: {slept:?}");
            return;
        }
        let day = ["--time", "--boottime", "86400"];
        let within = |program: &str, arguments: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user"]).args(day).arg(program).args(arguments);
            command.env(INSIDE, "1").output()
        };
        if !within("true", &[]).is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: no time namespace can be made here");
            return;
        }
        let this = std::env::current_exe().expect("its own name");
        let name = "clock::tests::a_machine_that_slept_has_not_held";
        let output = within(&this.to_string_lossy(), &["--exact", name, "--nocapture"]).expect("it ran before");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "nothing was tried: {said}");
    }
}
