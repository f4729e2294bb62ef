//! Named waits in a flat table.
//!
//! Every wait has a deadline, an owner and a reason (`every_wait_has_a_deadline`). A machine keeps its waits in one
//! [`Timers`] table whose key says *why* it wants to wake; the driver only asks for the next one, and an operator can
//! ask for all of them.

use crate::Instant;
use alloc::collections::{BTreeMap, BTreeSet};

/// When a wait ends, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Deadline<K> {
    /// The moment at which the machine wants to be called.
    pub at: Instant,
    /// The reason.
    pub why: K,
}

/// The waits of one machine: at most one per key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timers<K: Copy + Ord> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Default for Timers<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// No waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets or moves the wait `key`.
    pub fn set(&mut self, key: K, at: Instant) {
        self.stop(key);
        self.by_key.insert(key, at);
        self.by_time.insert((at, key));
    }

    /// Sets the wait `key` unless it already ends earlier.
    pub fn set_earliest(&mut self, key: K, at: Instant) {
        if self.at(key).is_none_or(|now| at < now) {
            self.set(key, at);
        }
    }

    /// Ends the wait `key`; nothing happens if there is none.
    pub fn stop(&mut self, key: K) {
        if let Some(at) = self.by_key.remove(&key) {
            self.by_time.remove(&(at, key));
        }
    }

    /// Ends every wait that `drop` names.
    pub fn stop_where(&mut self, mut drop: impl FnMut(K) -> bool) {
        self.by_key.retain(|key, _| !drop(*key));
        self.by_time.retain(|(_, key)| !drop(*key));
    }

    /// When the wait `key` ends.
    #[must_use]
    pub fn at(&self, key: K) -> Option<Instant> {
        self.by_key.get(&key).copied()
    }

    /// The next wait to end.
    #[must_use]
    pub fn next(&self) -> Option<Deadline<K>> {
        self.by_time.first().map(|&(at, why)| Deadline { at, why })
    }

    /// Takes the next wait that has ended at `now`. Call until it answers `None`.
    pub fn expired(&mut self, now: Instant) -> Option<K> {
        let &(at, key) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.stop(key);
        Some(key)
    }

    /// All waits, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = Deadline<K>> + '_ {
        self.by_time.iter().map(|&(at, why)| Deadline { at, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn one_wait_per_key_and_the_earliest_first() {
        let mut timers = Timers::new();
        timers.set('b', Instant::from_millis(20));
        timers.set('a', Instant::from_millis(10));
        timers.set('b', Instant::from_millis(5));
        timers.set_earliest('b', Instant::from_millis(7));
        assert_eq!(timers.iter().map(|d| d.why).collect::<Vec<_>>(), ['b', 'a']);
        assert_eq!(timers.expired(Instant::from_millis(4)), None);
        assert_eq!(timers.expired(Instant::from_millis(30)), Some('b'));
        assert_eq!(timers.expired(Instant::from_millis(30)), Some('a'));
        assert_eq!(timers.next(), None);
    }
}
