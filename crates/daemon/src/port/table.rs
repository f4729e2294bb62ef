//! Which connections of one listener there are, and which of them makes room when there are too many.
//!
//! A connection is *silent* until its request is whole, and *asks* from then on. When every place is taken, the one that has
//! been silent for longest makes room for the next: whoever opens connections and says nothing takes no place from somebody
//! who asks. Only when all of them ask, the next one is refused.

use std::collections::BTreeMap;

/// A connection, by the number under which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u64);

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is taken.
    Taken(Id),
    /// It is taken, and this silent one is to end.
    Instead(Id, Id),
    /// Every connection asks something: it is refused.
    Full,
}

/// The connections of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table {
    most: usize,
    next: u64,
    /// True: it asks.
    all: BTreeMap<Id, bool>,
}

impl Table {
    /// For `most` connections at once, one at least.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), next: 0, all: BTreeMap::new() }
    }

    /// A new connection.
    pub(super) fn admit(&mut self) -> Admission {
        let oldest = if self.all.len() < self.most { None } else { self.oldest_silent() };
        if oldest.is_none() && self.all.len() >= self.most {
            return Admission::Full;
        }
        let id = Id(self.next);
        self.next += 1;
        self.all.insert(id, false);
        match oldest {
            None => Admission::Taken(id),
            Some(oldest) => {
                self.all.remove(&oldest);
                Admission::Instead(id, oldest)
            }
        }
    }

    /// The one that makes room although there is a place: descriptors are short.
    pub(super) fn evict(&mut self) -> Option<Id> {
        let oldest = self.oldest_silent()?;
        self.all.remove(&oldest);
        Some(oldest)
    }

    fn oldest_silent(&self) -> Option<Id> {
        self.all.iter().find(|(_, asks)| !**asks).map(|(id, _)| *id)
    }

    /// Its request is whole. False: it has been ended meanwhile.
    pub(super) fn asks(&mut self, id: Id) -> bool {
        self.all.get_mut(&id).map(|asks| *asks = true).is_some()
    }

    /// It has ended.
    pub(super) fn ended(&mut self, id: Id) {
        self.all.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(table: &mut Table) -> Id {
        match table.admit() {
            Admission::Taken(id) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_longest_silent_makes_room_and_nobody_who_asks_does() {
        let mut table = Table::new(3);
        let (a, b, c) = (taken(&mut table), taken(&mut table), taken(&mut table));
        assert!(table.asks(a));
        let Admission::Instead(d, gone) = table.admit() else { panic!("b is silent") };
        assert_eq!(gone, b);
        assert!(!table.asks(b), "it was ended");
        assert!(table.asks(c) && table.asks(d));
        assert_eq!(table.admit(), Admission::Full);
        assert_eq!(table.evict(), None, "all of them ask");
        table.ended(a);
        let e = taken(&mut table);
        assert_eq!(table.evict(), Some(e));
        assert_eq!(table.all.len(), 2);
    }

    #[test]
    fn a_crowd_of_silent_ones_takes_no_more_than_the_places() {
        let mut table = Table::new(8);
        let asking = taken(&mut table);
        assert!(table.asks(asking));
        for _ in 0..2_000 {
            assert_ne!(table.admit(), Admission::Full);
            assert!(table.all.len() <= 8);
        }
        assert!(table.all[&asking]);
    }
}
