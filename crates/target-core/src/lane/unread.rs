//! Bytes of a connection that had come in, and were not read for a while.
//!
//! A lane that reads everything whenever it looks knows that what it reads came in after the look before. Of a connection that it
//! did not read, because there was no room for more commands or because its port was scripted to be mute, it knows less: what
//! it reads first may be as old as the last time that all was read. A host that gave the path up meanwhile had sent it long ago,
//! and it keeps nothing alive ([`arrived`]).

use interlock_base::Instant;

/// Since when a connection was not read, if it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Unread(Option<State>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    since: Instant,
    /// When it was read again: what came before is read first.
    again: Option<Instant>,
}

/// The earliest moment at which what is read at `now` can have come in. `looked`: when all sockets were looked at before this turn,
/// if somebody says so.
#[inline]
pub(super) fn arrived(unread: Unread, looked: Option<Instant>, now: Instant) -> Instant {
    let arrived = looked.map_or(now, |at| at.min(now));
    unread.0.filter(|state| state.may_be_old(looked)).map_or(arrived, |state| state.since.min(arrived))
}

impl State {
    fn may_be_old(&self, looked: Option<Instant>) -> bool {
        self.again.is_none_or(|again| looked.is_some_and(|at| at <= again))
    }
}

impl Unread {
    /// True if there is nothing to keep in mind.
    pub(super) const fn is_nothing(self) -> bool {
        self.0.is_none()
    }

    /// From now on it is not read. What a host that is there sends meanwhile counts again as soon as some of it was read: one
    /// pause after the other must not end it.
    #[cold]
    pub(super) fn stops(&mut self, looked: Option<Instant>, now: Instant) {
        if self.0.is_none_or(|state| state.again.is_some()) {
            self.0 = Some(State { since: looked.map_or(now, |at| at.min(now)), again: None });
        }
    }

    /// It is read again.
    #[cold]
    pub(super) fn goes_on(&mut self, looked: Option<Instant>, now: Instant) {
        match &mut self.0 {
            Some(state) if state.again.is_none() => state.again = Some(now),
            Some(state) if state.may_be_old(looked) => {}
            _ => self.0 = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn what_is_read_first_is_as_old_as_the_pause() {
        let mut unread = Unread::default();
        let arrived = |unread, looked, now| arrived(unread, Some(at(looked)), at(now));
        assert_eq!(arrived(unread, 90, 100), at(90));
        unread.stops(Some(at(90)), at(100));
        unread.stops(Some(at(490)), at(500));
        assert_eq!(arrived(unread, 490, 500), at(90));
        unread.goes_on(Some(at(490)), at(505));
        assert_eq!(arrived(unread, 490, 510), at(90), "the same turn");
        assert_eq!(arrived(unread, 505, 520), at(90), "it may have come before it was read again");
        assert_eq!(arrived(unread, 510, 530), at(510), "all of that was read");
        unread.goes_on(Some(at(510)), at(530));
        assert!(unread.is_nothing());
    }

    #[test]
    fn a_host_that_speaks_is_heard_from_pause_to_pause() {
        let mut unread = Unread::default();
        for turn in (1000..60_000).step_by(10) {
            unread.stops(Some(at(turn - 10)), at(turn));
            unread.goes_on(Some(at(turn - 10)), at(turn + 5));
            assert!(arrived(unread, Some(at(turn)), at(turn + 10)) >= at(turn - 10));
        }
    }
}
