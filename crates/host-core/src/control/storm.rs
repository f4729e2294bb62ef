//! The events of one controller, at a rate that costs nothing.
//!
//! A controller sends an event for every request that it was given, so the host decides how fast they come: it asks for
//! the next one later where a controller has told of more than any needs to. Nothing is lost by that. What happens
//! meanwhile stays in the controller's logs, and one look at them finds all of it.

use core::time::Duration;
use interlock_base::Instant;

/// Events that a controller may tell at once.
const BURST: u32 = 32;
/// Afterwards one for each of these.
const EACH: Duration = Duration::from_secs(1);

/// When the next event is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Now,
    /// At that moment. `first`: this is the first event that was too much; it is told.
    At { at: Instant, first: bool },
}

/// The account of one controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventRate {
    left: u32,
    /// Since when nothing was added to what is left.
    since: Instant,
    storms: bool,
}

impl EventRate {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: BURST, since: now, storms: false }
    }

    /// An event has come.
    pub(super) fn handle_event(&mut self, now: Instant) -> Next {
        let earned = u32::try_from(now.since(self.since).as_nanos() / EACH.as_nanos()).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned);
        self.since += EACH * earned.min(BURST);
        if self.left >= BURST {
            (self.left, self.since, self.storms) = (BURST, now, false);
        }
        if self.left > 0 {
            self.left -= 1;
            return Next::Now;
        }
        let first = !core::mem::replace(&mut self.storms, true);
        // The next one is spent in advance.
        self.since += EACH;
        Next::At { at: self.since, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_told_once_and_costs_one_event_a_second() {
        let mut rate = EventRate::new(Instant::ZERO);
        let (mut now, mut events, mut told) = (Instant::ZERO, 0, 0);
        let until = Instant::ZERO + Duration::from_secs(3600);
        while now < until {
            events += 1;
            match rate.handle_event(now) {
                Next::Now => now += Duration::from_micros(100),
                Next::At { at, first } => {
                    assert!(at > now && at <= now + EACH);
                    assert!(events >= BURST);
                    (now, told) = (at, told + u32::from(first));
                }
            }
        }
        assert!((3_600..=3_600 + BURST).contains(&events), "{events} in an hour");
        assert_eq!(told, 1);
    }

    #[test]
    fn who_is_quiet_again_may_tell_as_much_as_before_and_is_told_of_again() {
        let mut rate = EventRate::new(Instant::ZERO);
        for round in 0..3 {
            let now = Instant::ZERO + Duration::from_secs(round * 1000);
            for _ in 0..BURST {
                assert_eq!(rate.handle_event(now), Next::Now);
            }
            assert!(matches!(rate.handle_event(now), Next::At { first: true, .. }));
            assert!(matches!(rate.handle_event(now), Next::At { first: false, .. }));
        }
        // A few now and then are no storm.
        let mut calm = EventRate::new(Instant::ZERO);
        for second in 0..10_000 {
            assert_eq!(calm.handle_event(Instant::ZERO + Duration::from_secs(second)), Next::Now);
        }
    }
}
