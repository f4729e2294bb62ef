//! What nobody may touch: one table over all lives and lanes, counted in epochs.
//!
//! A write in doubt on one lane may be overtaken by a write of any other lane, so every lane holds the whole table, and
//! nothing is released or ended as indeterminate before every lane has said that it has seen it
//! (`guard_before_giving_up`).

use crate::{GuardEntry, GuardKey, GuardStands, HeadId, LaneId, LedgerEntry, LifeId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// In the names of guards that belong to no lane: a host has fewer lanes.
const NO_LANE: u16 = u16::MAX;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Guard {
    life: LifeId,
    entry: GuardEntry,
}

/// The table, and who has seen which epoch of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Protected {
    epoch: u64,
    dirty: bool,
    entries: BTreeMap<GuardKey, Guard>,
    /// Lives whose guards no time ends, nor those that are still to come for them.
    endless: BTreeSet<LifeId>,
    seen: Vec<u64>,
}

impl Protected {
    pub(crate) fn new(lanes: u16) -> Self {
        let seen = vec![0; usize::from(lanes)];
        Self { epoch: 0, dirty: false, entries: BTreeMap::new(), endless: BTreeSet::new(), seen }
    }

    /// Protects a command in doubt. Guarding it twice changes nothing; a command that was released, sent again and is in
    /// doubt again is guarded anew, for its new life.
    pub(crate) fn add(&mut self, ledger: &LedgerEntry) {
        let stands = self.stands(ledger.life);
        let entry = GuardEntry { key: ledger.key, head: ledger.head, range: ledger.range.clone(), stands };
        let guard = Guard { life: ledger.life, entry };
        let before = self.entries.insert(ledger.key, guard.clone());
        self.dirty |= before.is_none_or(|before| before != guard);
    }

    /// Protects a whole namespace for the sake of a life of which nothing more is known. `seq` makes a name that no lane
    /// gives. False if it is guarded already.
    pub(crate) fn add_whole(&mut self, life: LifeId, head: HeadId, seq: u64) -> bool {
        let known = |guard: &Guard| guard.life == life && guard.entry.head == head;
        if self.entries.values().any(known) {
            return false;
        }
        let key = GuardKey { seq, lane: NO_LANE };
        let entry = GuardEntry { key, head, range: 0..u64::MAX, stands: self.stands(life) };
        self.entries.insert(key, Guard { life, entry });
        self.dirty = true;
        true
    }

    fn stands(&self, life: LifeId) -> GuardStands {
        if self.endless.contains(&life) { GuardStands::Endless } else { GuardStands::Held }
    }

    /// Nothing that this host can wait for ends the guards of this life. False if that was said already.
    pub(crate) fn endless(&mut self, life: LifeId) -> bool {
        let new = self.endless.insert(life);
        for guard in self.entries.values_mut().filter(|guard| guard.life == life) {
            self.dirty |= guard.entry.stands != GuardStands::Endless;
            guard.entry.stands = GuardStands::Endless;
        }
        new
    }

    /// True if nothing that this host can wait for ends the guards of this life.
    pub(crate) fn is_endless(&self, life: LifeId) -> bool {
        self.endless.contains(&life)
    }

    /// True if something of `head` is guarded for the sake of `life`.
    pub(crate) fn concerns(&self, life: LifeId, head: HeadId) -> bool {
        self.entries.values().any(|guard| guard.life == life && guard.entry.head == head)
    }

    /// Lives for the sake of which something of `head` is guarded.
    pub(crate) fn lives_of(&self, head: HeadId) -> impl Iterator<Item = LifeId> + '_ {
        self.entries.values().filter(move |guard| guard.entry.head == head).map(|guard| guard.life)
    }

    /// The namespace of a guarded command.
    pub(crate) fn head_of(&self, key: GuardKey) -> Option<HeadId> {
        self.entries.get(&key).map(|guard| guard.entry.head)
    }

    /// These commands have ended: their ranges are free.
    pub(crate) fn remove(&mut self, key: GuardKey) {
        self.dirty |= self.entries.remove(&key).is_some();
    }

    /// The life is fenced: its commands themselves may be sent again, others still wait for them.
    pub(crate) fn release(&mut self, life: LifeId) {
        self.endless.remove(&life);
        for guard in self.entries.values_mut().filter(|guard| guard.life == life) {
            self.dirty |= guard.entry.stands != GuardStands::Released;
            guard.entry.stands = GuardStands::Released;
        }
    }

    /// Nobody waits for the commands of this life any more, and it is over: its ranges are free.
    pub(crate) fn remove_life(&mut self, life: LifeId) {
        self.endless.remove(&life);
        let before = self.entries.len();
        self.entries.retain(|_, guard| guard.life != life);
        self.dirty |= self.entries.len() != before;
    }

    /// The table of a new epoch, if anything changed since the last.
    pub(crate) fn publish(&mut self) -> Option<(u64, Arc<Vec<GuardEntry>>)> {
        if !core::mem::take(&mut self.dirty) {
            return None;
        }
        self.epoch += 1;
        Some((self.epoch, Arc::new(self.entries.values().map(|guard| guard.entry.clone()).collect())))
    }

    /// The epoch that was published last.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A lane holds this epoch.
    pub(crate) fn handle_seen(&mut self, lane: LaneId, epoch: u64) {
        if let Some(seen) = self.seen.get_mut(usize::from(lane.0)) {
            *seen = (*seen).max(epoch);
        }
    }

    /// The newest epoch that every lane holds, it or a later one.
    pub(crate) fn seen_by_all(&self) -> u64 {
        self.seen.iter().copied().min().unwrap_or(self.epoch)
    }

    /// Lanes that do not hold this epoch, nor a later one.
    pub(crate) fn unseen(&self, epoch: u64) -> impl Iterator<Item = LaneId> + '_ {
        (0..).zip(&self.seen).filter(move |(_, seen)| **seen < epoch).map(|(lane, _)| LaneId(lane))
    }

    /// True if every lane holds this epoch or a later one.
    pub(crate) fn is_seen(&self, epoch: u64) -> bool {
        self.seen_by_all() >= epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadId, Op};

    fn ledger(seq: u64, life: u64) -> LedgerEntry {
        LedgerEntry {
            since: interlock_base::Instant::ZERO,
            key: GuardKey { seq, lane: 0 },
            life: LifeId(life),
            head: HeadId(0),
            op: Op::Write { fua: false },
            range: 0..8,
            abandoned: false,
        }
    }

    #[test]
    fn an_epoch_counts_when_the_last_lane_has_seen_it() {
        let mut guards = Protected::new(2);
        assert_eq!(guards.publish(), None);
        guards.add(&ledger(1, 7));
        let (epoch, table) = guards.publish().expect("changed");
        assert_eq!((epoch, table.len(), table[0].stands), (1, 1, GuardStands::Held));
        guards.handle_seen(LaneId(0), 1);
        assert!(!guards.is_seen(1));
        guards.handle_seen(LaneId(9), 1);
        assert!(!guards.is_seen(1), "a lane that does not exist confirms nothing");
        guards.handle_seen(LaneId(1), 1);
        assert!(guards.is_seen(1));
        guards.add(&ledger(1, 7));
        assert_eq!(guards.publish(), None, "guarded already");
    }

    #[test]
    fn a_fence_releases_its_own_life_only() {
        let mut guards = Protected::new(1);
        guards.add(&ledger(1, 7));
        guards.add(&ledger(2, 8));
        guards.publish();
        guards.release(LifeId(7));
        let (_, table) = guards.publish().expect("changed");
        assert_eq!(table.iter().map(|e| e.stands).collect::<Vec<_>>(), [GuardStands::Released, GuardStands::Held]);
        guards.remove(GuardKey { seq: 1, lane: 0 });
        guards.remove_life(LifeId(8));
        assert_eq!(guards.publish().expect("changed").1.len(), 0);
        guards.remove_life(LifeId(8));
        assert_eq!(guards.publish(), None);
    }

    #[test]
    fn a_command_that_is_in_doubt_again_is_guarded_anew() {
        let mut guards = Protected::new(1);
        guards.add(&ledger(1, 7));
        guards.release(LifeId(7));
        guards.publish();
        guards.add(&ledger(1, 8));
        let (_, table) = guards.publish().expect("changed");
        assert_eq!(table[0].stands, GuardStands::Held);
        guards.remove_life(LifeId(7));
        assert_eq!(guards.publish(), None, "it belongs to the other life now");
    }

    #[test]
    fn endless_is_every_guard_of_the_life_also_those_that_come_later() {
        let mut guards = Protected::new(1);
        guards.add(&ledger(1, 7));
        guards.add(&ledger(2, 8));
        guards.publish();
        assert!(guards.endless(LifeId(7)) && !guards.endless(LifeId(7)));
        guards.add(&ledger(3, 7));
        guards.add_whole(LifeId(7), HeadId(4), 1);
        let (_, table) = guards.publish().expect("changed");
        let endless = |table: &[GuardEntry]| table.iter().filter(|e| e.stands == GuardStands::Endless).count();
        assert_eq!((table.len(), endless(&table)), (4, 3));
        guards.release(LifeId(7));
        let (_, table) = guards.publish().expect("changed");
        assert_eq!((endless(&table), guards.is_endless(LifeId(7))), (0, false), "fenced after all");
    }
}
