//! What happens next, and small maps: a run handles thousands of events, and a world is small.

use crate::world::Ev;
use interlock_base::Instant;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// One event to come.
#[derive(Clone, Debug)]
struct Scheduled {
    at: Instant,
    /// Of events of one instant the one that was scheduled first comes first.
    order: u64,
    event: Ev,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap gives the largest first: the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Everything that is still to happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Scheduled>,
    order: u64,
}

impl Agenda {
    pub(crate) fn push(&mut self, at: Instant, event: Ev) {
        self.order += 1;
        self.heap.push(Scheduled { at, order: self.order, event });
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, Ev)> {
        self.heap.pop().map(|next| (next.at, next.event))
    }
}

/// A map of a handful of keys.
#[derive(Clone, Debug)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Copy + Eq, V> Few<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.iter_mut().find(|(other, _)| other == key).map(|(_, value)| value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.get_mut(&key) {
            Some(old) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.0.retain(|(other, _)| other != key);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    /// Takes everything of some keys out, and puts what was set aside of them in.
    pub(crate) fn exchange(&mut self, aside: &mut Vec<(K, V)>, which: impl Fn(&K) -> bool) {
        let mine: Vec<(K, V)> = self.0.extract_if(.., |(key, _)| which(key)).collect();
        self.0.append(aside);
        *aside = mine;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }
}

impl<K: Copy + Eq, V: Default> Few<K, V> {
    pub(crate) fn or_default(&mut self, key: K) -> &mut V {
        let at = self.0.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
            self.0.push((key, V::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_one_instant_the_first_that_was_scheduled() {
        let mut agenda = Agenda::default();
        for (at, link) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
            agenda.push(Instant::from_millis(at), Ev::Dial(link));
        }
        let links: Vec<usize> = std::iter::from_fn(|| agenda.pop())
            .map(|(_, event)| if let Ev::Dial(link) = event { link } else { 0 })
            .collect();
        assert_eq!(links, [2, 4, 1, 3]);
    }

    #[test]
    fn a_small_map_keeps_one_value_per_key() {
        let mut few = Few::default();
        few.insert(1, "a");
        few.insert(2, "b");
        few.insert(1, "c");
        assert_eq!(few.iter().count(), 2);
        assert_eq!(few.get(&1), Some(&"c"));
        few.retain(|key| *key == 2);
        assert_eq!(few.get(&1), None);
        few.remove(&2);
        assert_eq!((few.iter().count(), *few.or_default(7)), (0, ""));
    }
}
