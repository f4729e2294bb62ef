//! Whether a hold has passed by both clocks: a pure machine.
//!
//! The moments that drivers give are those of `CLOCK_MONOTONIC`, which a time daemon makes faster or slower to set it. A
//! hold that ends by a clock that was made faster is too short. So it ends only once `CLOCK_MONOTONIC_RAW`, which nobody
//! sets, has gone as far; and not by that one alone, because a crystal may be wrong and the other one right. Both stand
//! still while the machine sleeps.
//!
//! The raw clock is read when the hold begins and when it would end, by whoever drives: an answer that comes late makes
//! the hold longer.

use crate::guards::{Guard, enabled};
use core::time::Duration;
use interlock_base::Instant;

/// What has passed of the hold when the raw clock is read for the first time counts as passed by it too, up to this.
/// That the other clock was fast meanwhile, by at most a tenth, is far within [`crate::stall::MARGIN`].
const CREDIT: Duration = Duration::from_millis(100);

/// The raw clock must be told within this, else it is asked for again.
const ANSWER: Duration = Duration::from_secs(1);

/// The clocks of one hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HoldClock {
    t0: Instant,
    hold: Duration,
    /// Where the raw clock stood at t0, or later; `None` while it was not told.
    raw_t0: Option<Instant>,
    /// When it is to be asked for next.
    ask: Instant,
    passed: bool,
}

impl HoldClock {
    /// From `t0` on.
    pub(crate) const fn new(t0: Instant, hold: Duration) -> Self {
        Self { t0, hold, raw_t0: None, ask: Instant::ZERO, passed: false }
    }

    /// When it passes, if the clocks agree.
    pub(crate) fn deadline(&self) -> Instant {
        self.t0 + self.hold
    }

    pub(crate) const fn has_passed(&self) -> bool {
        self.passed
    }

    /// True if the raw clock is to be read now: the caller asks for it.
    pub(crate) fn poll(&mut self, now: Instant) -> bool {
        let asks = !self.passed && now >= self.ask;
        if asks {
            self.ask = now + ANSWER;
        }
        asks
    }

    /// When to poll again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        (!self.passed).then_some(self.ask)
    }

    /// The raw clock stands at `raw`, on its own zero.
    pub(crate) fn handle_raw(&mut self, now: Instant, raw: Instant) {
        let Some(raw_t0) = self.raw_t0 else {
            let credit = (now - self.t0).min(CREDIT);
            self.raw_t0 = Some(Instant::from_nanos(
                raw.as_nanos().saturating_sub(u64::try_from(credit.as_nanos()).unwrap_or(u64::MAX)),
            ));
            self.ask = if enabled(Guard::MonotonicClock) { self.deadline() } else { now + self.hold / 2 };
            return;
        };
        let by_raw = if enabled(Guard::RawClock) { self.hold.saturating_sub(raw - raw_t0) } else { Duration::ZERO };
        let left = if enabled(Guard::MonotonicClock) { by_raw.max(self.deadline() - now) } else { by_raw };
        self.passed |= left.is_zero();
        self.ask = now + left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// A hold of 10 s from 1,000 on, whose raw clock goes `rate` per thousand of the other and is told after `delay`.
    /// When it has passed.
    fn passed(rate: u64, delay: u64) -> u64 {
        let mut clock = HoldClock::new(at(1_000), Duration::from_secs(10));
        let mut told = None;
        for now in 1_000.. {
            if clock.poll(at(now)) {
                told = Some(now + delay);
            }
            if told == Some(now) {
                told = None;
                clock.handle_raw(at(now), at(500_000 + now * rate / 1_000));
            }
            if clock.has_passed() {
                return now;
            }
            assert!(clock.next_deadline().is_some_and(|next| next > at(now) && next <= at(now + 12_000)));
        }
        unreachable!("it passes")
    }

    #[test]
    fn it_passes_when_both_clocks_have_gone_so_far() {
        assert_eq!(passed(1_000, 0), 11_000, "they agree");
        assert_eq!(passed(1_100, 0), 11_000, "the raw one is ahead: the other decides");
        // The monotonic clock was made faster: 10 s of the raw one are more than 10 s of it.
        for (rate, least) in [(917, 11_905), (900, 12_111), (500, 20_999)] {
            let end = passed(rate, 0);
            assert!((least..least + 3).contains(&end), "{rate}: {end}");
        }
    }

    #[test]
    fn an_answer_that_is_late_makes_it_longer_and_never_shorter() {
        assert_eq!(passed(1_000, 50), 11_050);
        // Of 400 ms that nobody has measured, 300 are held again.
        let mut clock = HoldClock::new(at(1_000), Duration::from_secs(10));
        clock.handle_raw(at(1_400), at(501_400));
        clock.handle_raw(at(11_000), at(511_000));
        assert_eq!(clock.next_deadline(), Some(at(11_300)));
        clock.handle_raw(at(11_300), at(511_300));
        assert!(clock.has_passed());
    }

    #[test]
    fn a_raw_clock_near_its_zero_is_no_credit() {
        let mut clock = HoldClock::new(at(1_000), Duration::from_secs(10));
        clock.handle_raw(at(1_050), at(20));
        clock.handle_raw(at(11_000), at(9_970));
        assert!(!clock.has_passed());
        clock.handle_raw(at(11_030), at(10_000));
        assert!(clock.has_passed());
    }
}
