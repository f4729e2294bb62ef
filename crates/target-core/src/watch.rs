//! Whether the host of a controller is still there, and until when its life may begin media operations.
//!
//! A timer alone does not prove that a life is over: the process may have been stopped while the timer ran out, and what
//! the kernel received meanwhile is read before anybody looks at a timer. So every statement here is one about the clock.
//! A host that is silent for one interval is lost when that interval ends, however late somebody looks, and what is heard
//! after that moment changes nothing. What the media gate gets is the moment at which its permission ends by itself:
//!
//! ```text
//!   since            due = since + KATO        due + KATO
//!     |- silent ---------|- quiesce time -> until
//!     |- heard ----------|- silent -------------|- quiesce time -> until
//! ```
//! With traffic-based keep alive a loss is noticed within two timeouts of the last command, without it within one
//! timeout of the last Keep Alive command.
//!
//! NVM Express Base Specification, "Keep Alive Operation" and "Traffic Based Keep Alive Operation".

use core::time::Duration;
use interlock_base::Instant;

/// The Keep Alive Timer of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    /// How long the host may be silent; none: for ever.
    limit: Option<Duration>,
    /// Every command proves that the host is there, not Keep Alive alone.
    by_traffic: bool,
    since: Instant,
    heard: bool,
}

/// What a look at the timer finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The interval is not over.
    Early,
    /// The host was heard in the interval that is over; the next one began when it ended.
    Heard,
    /// The host was silent in a whole interval.
    Silent,
}

impl Watch {
    /// A timer that starts at `since`: the host was there then.
    pub(crate) const fn new(since: Instant, limit: Option<Duration>, by_traffic: bool) -> Self {
        Self { limit, by_traffic, since, heard: false }
    }

    /// When to look.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.limit.map(|limit| self.since + limit)
    }

    /// When the interval began: only what is heard later counts.
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// A command came in at `at`. True if the host may be silent for longer by it.
    pub(crate) fn hear(&mut self, at: Instant) -> bool {
        let counts = self.by_traffic && !self.heard && self.is_within(at);
        self.heard |= counts;
        counts
    }

    /// A Keep Alive command came in at `at`. True if the host may be silent for longer by it.
    pub(crate) fn keep_alive(&mut self, at: Instant) -> bool {
        if self.by_traffic {
            return self.hear(at);
        }
        let counts = self.is_within(at);
        if counts {
            self.since = at;
        }
        counts
    }

    fn is_within(&self, at: Instant) -> bool {
        at >= self.since && self.due().is_none_or(|due| at < due)
    }

    /// Looks at the timer. After [`Found::Heard`] another interval may be over already: look again.
    pub(crate) fn check(&mut self, now: Instant) -> Found {
        match self.due() {
            Some(due) if now >= due => {
                if !core::mem::replace(&mut self.heard, false) {
                    return Found::Silent;
                }
                self.since = due;
                Found::Heard
            }
            _ => Found::Early,
        }
    }

    /// Until when media operations may begin if nothing more is heard: `quiesce` after the loss would be noticed. None: there
    /// is no such moment, because the timer is off.
    pub(crate) fn lease(&self, quiesce: Duration) -> Option<Instant> {
        let limit = self.limit?;
        let noticed = self.since + limit + if self.heard { limit } else { Duration::ZERO };
        Some(noticed + quiesce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KATO: Duration = Duration::from_millis(1000);
    const QUIESCE: Duration = Duration::from_millis(300);

    const fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn by_traffic_a_loss_is_noticed_within_two_timeouts() {
        let mut watch = Watch::new(at(0), Some(KATO), true);
        assert_eq!(watch.lease(QUIESCE), Some(at(1300)));
        assert!(watch.hear(at(1)) && !watch.hear(at(2)), "once per interval");
        assert_eq!(watch.lease(QUIESCE), Some(at(2300)), "never later than 1 + 2 x 1000 + 300");
        assert_eq!(watch.check(at(999)), Found::Early);
        assert_eq!(watch.check(at(1000)), Found::Heard);
        assert_eq!((watch.since(), watch.lease(QUIESCE)), (at(1000), Some(at(2300))));
        assert_eq!(watch.check(at(1999)), Found::Early);
        assert_eq!(watch.check(at(2000)), Found::Silent);
    }

    #[test]
    fn who_looks_late_finds_what_was_so_in_time() {
        let mut watch = Watch::new(at(0), Some(KATO), true);
        watch.hear(at(500));
        assert!(!watch.hear(at(9000)), "an interval in which nobody was heard lies between");
        assert_eq!(watch.check(at(9000)), Found::Heard);
        assert_eq!(watch.check(at(9000)), Found::Silent);
        let mut watch = Watch::new(at(0), Some(KATO), true);
        watch.hear(at(500));
        assert_eq!(watch.check(at(1800)), Found::Heard);
        assert_eq!(watch.due(), Some(at(2000)), "the next interval does not begin late because somebody looked late");
    }

    #[test]
    fn what_is_heard_after_the_limit_renews_nothing() {
        for by_traffic in [true, false] {
            let mut watch = Watch::new(at(0), Some(KATO), by_traffic);
            assert!(!watch.hear(at(1000)) && !watch.keep_alive(at(1000)));
            assert_eq!(watch.lease(QUIESCE), Some(at(1300)));
            assert_eq!(watch.check(at(1000)), Found::Silent);
        }
    }

    #[test]
    fn without_traffic_only_keep_alive_counts_and_each_one_does() {
        let mut watch = Watch::new(at(0), Some(KATO), false);
        assert!(!watch.hear(at(10)));
        assert!(watch.keep_alive(at(400)) && watch.keep_alive(at(900)));
        assert_eq!((watch.due(), watch.lease(QUIESCE)), (Some(at(1900)), Some(at(2200))));
        assert!(!watch.keep_alive(at(800)), "time does not go back");
        assert_eq!(watch.check(at(1900)), Found::Silent);
    }

    #[test]
    fn a_timer_that_is_off_limits_nothing() {
        let mut watch = Watch::new(at(0), None, true);
        watch.hear(at(5));
        assert_eq!((watch.due(), watch.lease(QUIESCE), watch.check(at(1 << 40))), (None, None, Found::Early));
    }
}
