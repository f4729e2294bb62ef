//! All lives, and which of them belong to the same subsystem.
//!
//! Only lives of one subsystem concern one another: a controller is reset through its siblings and through nobody else. A
//! host with a thousand controllers that loses half of them at once must not look at all of them for each.

use super::life::Life;
use crate::LifeId;
use alloc::collections::{BTreeMap, BTreeSet, btree_map};
use interlock_wire::nqn::Nqn;

/// By name.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lives {
    all: BTreeMap<LifeId, Life>,
    by_subsystem: BTreeMap<Nqn, BTreeSet<LifeId>>,
}

impl Lives {
    pub(super) fn insert(&mut self, id: LifeId, life: Life) {
        self.by_subsystem.entry(life.subnqn.clone()).or_default().insert(id);
        self.all.insert(id, life);
    }

    pub(super) fn remove(&mut self, id: LifeId) {
        let Some(life) = self.all.remove(&id) else { return };
        if let Some(kin) = self.by_subsystem.get_mut(&life.subnqn) {
            kin.remove(&id);
            if kin.is_empty() {
                self.by_subsystem.remove(&life.subnqn);
            }
        }
    }

    pub(super) fn get(&self, id: &LifeId) -> Option<&Life> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &LifeId) -> Option<&mut Life> {
        self.all.get_mut(id)
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, LifeId, Life> {
        self.all.iter()
    }

    pub(super) fn values(&self) -> btree_map::Values<'_, LifeId, Life> {
        self.all.values()
    }

    /// Those of a subsystem, in the order of their names.
    pub(super) fn of<'a>(&'a self, subnqn: &Nqn) -> impl Iterator<Item = (LifeId, &'a Life)> + use<'a> {
        let kin = self.by_subsystem.get(subnqn).into_iter().flatten();
        kin.filter_map(|id| Some((*id, self.all.get(id)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CtrlId;
    use interlock_base::Instant;

    #[test]
    fn those_of_a_subsystem_are_found_while_they_are_there() {
        let mut lives = Lives::default();
        let subsystem = |name: &str| Nqn::new(name).unwrap();
        for (id, name) in [(1, "nqn.a"), (2, "nqn.b"), (3, "nqn.a"), (4, "nqn.a")] {
            lives.insert(LifeId(id), Life::new(Instant::ZERO, CtrlId(0), subsystem(name), 1));
        }
        let of = |lives: &Lives, name| lives.of(&subsystem(name)).map(|(id, _)| id.0).collect::<alloc::vec::Vec<_>>();
        assert_eq!((of(&lives, "nqn.a"), of(&lives, "nqn.b")), (alloc::vec![1, 3, 4], alloc::vec![2]));
        lives.remove(LifeId(3));
        lives.remove(LifeId(2));
        assert_eq!((of(&lives, "nqn.a"), of(&lives, "nqn.b")), (alloc::vec![1, 4], alloc::vec![]));
        assert_eq!(lives.by_subsystem.len(), 1, "an empty subsystem is forgotten");
    }
}
