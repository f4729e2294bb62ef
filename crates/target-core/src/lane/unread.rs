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
    /// It is read again, first in the turn that began after this look.
    again: Option<Option<Instant>>,
}

/// The earliest moment at which what is read at `now` can have come in. `looked`: when all sockets were looked at before this turn,
/// if somebody says so.
pub(super) fn arrived(unread: Unread, looked: Option<Instant>, now: Instant) -> Instant {
    let arrived = looked.map_or(now, |at| at.min(now));
    unread.0.filter(|state| state.may_be_old(looked)).map_or(arrived, |state| state.since.min(arrived))
}

impl State {
    fn may_be_old(&self, looked: Option<Instant>) -> bool {
        self.again.is_none_or(|at| looked.is_some() && at == looked)
    }
}

impl Unread {
    /// True if there is nothing to keep in mind.
    pub(super) const fn is_nothing(self) -> bool {
        self.0.is_none()
    }

    /// From now on it is not read.
    #[cold]
    pub(super) fn stops(&mut self, looked: Option<Instant>, now: Instant) {
        let since = arrived(*self, looked, now);
        self.0 = Some(State { since, again: None });
    }

    /// All that is there can be read in this turn.
    #[cold]
    pub(super) fn goes_on(&mut self, looked: Option<Instant>) {
        match &mut self.0 {
            Some(state) if state.again.is_none() => state.again = Some(looked),
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
        assert_eq!(arrived(unread, 490, 500), at(90));
        // There is room for a moment, and then none again.
        unread.goes_on(Some(at(490)));
        unread.stops(Some(at(490)), at(500));
        assert_eq!(arrived(unread, 800, 810), at(90));
        unread.goes_on(Some(at(800)));
        assert_eq!(arrived(unread, 800, 811), at(90), "the same turn: the rest of what had come");
        assert_eq!(arrived(unread, 810, 820), at(810), "all of that was read");
        unread.goes_on(Some(at(810)));
        assert!(unread.is_nothing());
    }

    #[test]
    fn a_pause_after_the_end_of_another_one_is_another_one() {
        let mut unread = Unread::default();
        unread.stops(Some(at(90)), at(100));
        unread.goes_on(Some(at(490)));
        unread.stops(Some(at(600)), at(610));
        assert_eq!(arrived(unread, Some(at(900)), at(910)), at(600));
    }
}
