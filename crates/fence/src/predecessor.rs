//! Which disks an earlier process could write to, by what they are.
//!
//! A life that a process left behind guards every namespace of its subsystem: which of them it wrote to is not known. The
//! same disk may be found again in another subsystem, under another name of the same one, or behind a target that was set up
//! anew, and what was sent to it is as much in doubt there. So a life is recorded with the identifiers of what it serves, and
//! either match guards: the subsystem, or one identifier.

use crate::LifeId;
use crate::guards::{self as conditions, Guard};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use interlock_wire::identify::NamespaceIds;

/// What was recorded of each life that was left and is not fenced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Left {
    disks: BTreeMap<LifeId, Vec<NamespaceIds>>,
}

impl Left {
    /// An earlier process recorded this; nothing in records of before identifiers were part of them.
    pub(crate) fn add(&mut self, life: LifeId, disks: Vec<NamespaceIds>) {
        if !disks.is_empty() {
            self.disks.insert(life, disks);
        }
    }

    /// It is fenced.
    pub(crate) fn remove(&mut self, life: LifeId) {
        self.disks.remove(&life);
    }

    /// Lives that could write to a disk with one of these identifiers.
    pub(crate) fn could_write(&self, ids: &NamespaceIds) -> impl Iterator<Item = LifeId> {
        let matches = conditions::enabled(Guard::LeftElsewhere);
        let theirs =
            self.disks.iter().filter(move |(_, disks)| matches && disks.iter().any(|disk| disk.shares_one_with(ids)));
        theirs.map(|(life, _)| *life)
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
    fn one_identifier_is_enough_until_the_life_is_fenced() {
        let mut left = Left::default();
        left.add(LifeId(1), alloc::vec![ids(7, 8), ids(9, 0)]);
        left.add(LifeId(2), alloc::vec![ids(0, 8)]);
        left.add(LifeId(3), Vec::new());
        let who = |left: &Left, ids| left.could_write(&ids).map(|life| life.0).collect::<Vec<_>>();
        assert_eq!(who(&left, ids(0, 8)), [1, 2]);
        assert_eq!(who(&left, ids(9, 1)), [1], "whatever the others say");
        assert_eq!((who(&left, ids(1, 1)), who(&left, ids(0, 0))), (alloc::vec![], alloc::vec![]));
        left.remove(LifeId(1));
        assert_eq!(who(&left, ids(7, 8)), [2]);
    }
}
