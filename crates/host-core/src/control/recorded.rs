//! What is recorded of the disks that a life serves, for a successor: either match protects, the subsystem or one identifier.
//!
//! A disk is written to only once the store has said that one of its identifiers is durable. The life itself is recorded with
//! what was found while it connected; what it serves later is recorded again before it becomes a path.

use crate::guards::{self as conditions, Guard};
use alloc::vec::Vec;
use interlock_wire::identify::NamespaceIds;

/// Most disks that are recorded of one life; of what comes later only the subsystem is known.
pub(crate) const MAX_DISKS: usize = super::scan::MAX_NAMESPACES;

/// The disks of one life, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Recorded {
    disks: Vec<NamespaceIds>,
    /// So many of them the store was given, in a record that it has not refused.
    given: usize,
    /// So many of them are durable.
    durable: usize,
    /// The store has refused what changed since besides the disks: how long a successor waits.
    terms_due: bool,
}

impl Recorded {
    /// Adds what a life serves now. True if the store must be given a record.
    pub(super) fn note<'a>(&mut self, found: impl Iterator<Item = &'a NamespaceIds>) -> bool {
        for ids in found.filter(|ids| ids.is_known()) {
            if self.disks.len() < MAX_DISKS && !self.disks.contains(ids) {
                self.disks.push(*ids);
            }
        }
        self.disks.len() > self.given || self.terms_due
    }

    /// What a record holds that is made now.
    pub(super) fn disks(&self) -> &[NamespaceIds] {
        &self.disks
    }

    /// The store is given a record of all that was noted; returned is how many disks that is.
    pub(super) const fn give(&mut self) -> usize {
        self.terms_due = false;
        self.given = self.disks.len();
        self.given
    }

    /// A record of so many disks is durable.
    pub(super) fn stored(&mut self, disks: usize) {
        self.durable = self.durable.max(disks);
    }

    /// The store refused one: what is not durable is to be given again.
    pub(super) const fn refused(&mut self) {
        self.given = self.durable;
        self.terms_due = true;
    }

    /// The store refused one that was made because a setting has changed.
    pub(super) const fn terms_refused(&mut self) {
        self.terms_due = true;
    }

    /// True if a disk may be used: a successor of this process would know it, as far as that is possible at all.
    pub(super) fn knows(&self, ids: &NamespaceIds) -> bool {
        let durable = self.disks.get(..self.durable).unwrap_or_default();
        !ids.is_known()
            || durable.iter().any(|known| known.shares_one_with(ids))
            || (self.disks.len() >= MAX_DISKS && !self.disks.contains(ids))
            || !conditions::enabled(Guard::DisksFirst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(uuid: u8, nguid: u8) -> NamespaceIds {
        let id = |id: u8| (id != 0).then_some([id; 16]);
        NamespaceIds { uuid: id(uuid), nguid: id(nguid), ..NamespaceIds::default() }
    }

    #[test]
    fn what_a_life_serves_is_recorded_once() {
        let mut recorded = Recorded::default();
        assert!(recorded.note([ids(7, 0), ids(0, 0), ids(7, 0)].iter()));
        assert_eq!(recorded.give(), 1);
        assert!(!recorded.note([ids(7, 0)].iter()));
        assert!(recorded.note([ids(7, 8)].iter()), "it states more now");
        let many: Vec<_> = (0..2 * MAX_DISKS as u128)
            .map(|n| NamespaceIds { uuid: Some(n.to_be_bytes()), ..NamespaceIds::default() })
            .collect();
        recorded.note(many.iter());
        assert_eq!(recorded.disks().len(), MAX_DISKS);
        assert!(recorded.knows(many.last().expect("many")), "of what comes later only the subsystem is known");
        assert!(!recorded.knows(&many[0]), "it has a place, and is not durable");
    }

    #[test]
    fn a_disk_is_known_once_a_record_with_one_of_its_identifiers_is_durable() {
        let mut recorded = Recorded::default();
        recorded.note([ids(1, 0)].iter());
        let first = recorded.give();
        recorded.note([ids(2, 0)].iter());
        let second = recorded.give();
        assert!(recorded.knows(&ids(0, 0)), "what states nothing cannot be recorded");
        assert!(!recorded.knows(&ids(1, 0)));
        recorded.stored(first);
        assert!(recorded.knows(&ids(1, 9)) && !recorded.knows(&ids(2, 0)));
        recorded.refused();
        assert!(recorded.note([].iter()), "it is given again");
        // An older record that is answered late takes nothing back.
        recorded.stored(second);
        recorded.stored(first);
        assert!(recorded.knows(&ids(2, 0)));
    }
}
