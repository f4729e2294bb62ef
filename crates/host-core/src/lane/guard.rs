//! The ranges that nobody may touch (`overlaps_wait`).
//!
//! Two sources, one index: what became in doubt on this lane is guarded from that instant, and control's table brings
//! what became so anywhere. About its own commands the lane knows better than any table that is still on its way: an
//! own guard begins before the table lists it, and ends before the table forgets it.

use crate::guards::{self as conditions, Guard};
use crate::{GuardEntry, GuardKey, GuardStands, HeadId, LaneId, Twin};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use interlock_base::Ranges;

#[derive(Clone, Debug, Hash)]
pub(super) struct Guards {
    lane: u16,
    table: Arc<Vec<GuardEntry>>,
    listed: BTreeSet<GuardKey>,
    /// In doubt or abandoned here, not yet resolved.
    own: BTreeMap<GuardKey, (HeadId, Range<u64>)>,
    /// Resolved here, still listed by the table.
    gone: BTreeSet<GuardKey>,
    /// What may be the same disk under another name.
    twins: BTreeMap<HeadId, Vec<Twin>>,
    /// The union. Empty while nothing is in doubt: the one load that the data path pays.
    index: BTreeMap<HeadId, Ranges<GuardKey, End>>,
}

/// Whether the end of a guard can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Sometime,
    Never,
}

/// What guards say about a request; the later, the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Blocked {
    /// Nothing.
    No,
    /// It waits until they end.
    Waits,
    /// One of them has no end that could be waited for.
    Endless,
}

impl Guards {
    pub(super) fn new(lane: LaneId) -> Self {
        Self {
            lane: lane.0,
            table: Arc::new(Vec::new()),
            listed: BTreeSet::new(),
            own: BTreeMap::new(),
            gone: BTreeSet::new(),
            twins: BTreeMap::new(),
            index: BTreeMap::new(),
        }
    }

    pub(super) const fn key(&self, seq: u64) -> GuardKey {
        GuardKey { seq, lane: self.lane }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.index.values().map(Ranges::len).sum()
    }

    /// What keeps the request `key` from being sent. One that is itself guarded waits for those that were accepted before
    /// it; any other for all.
    pub(super) fn blocks(&self, head: HeadId, range: Range<u64>, key: GuardKey) -> Blocked {
        let under = |(name, range)| self.blocks_under(name, range, key);
        self.names_of(head, range).map(under).max().unwrap_or(Blocked::No)
    }

    /// Every name that the disk may have, and what these blocks are under it.
    pub(super) fn names_of(&self, head: HeadId, range: Range<u64>) -> impl Iterator<Item = (HeadId, Range<u64>)> {
        let twins = self.twins.get(&head).into_iter().flatten();
        let of = range.clone();
        let of_twin = move |twin: &Twin| (twin.head, if twin.whole { 0..u64::MAX } else { of.clone() });
        core::iter::once((head, range)).chain(twins.map(of_twin))
    }

    /// What may be the same disk under another name: either name blocks.
    pub(super) fn set_twins(&mut self, twins: BTreeMap<HeadId, Vec<Twin>>) {
        self.twins = twins;
    }

    fn blocks_under(&self, head: HeadId, range: Range<u64>, key: GuardKey) -> Blocked {
        let Some(ranges) = self.index.get(&head) else { return Blocked::No };
        let guarded = self.own.get(&key).is_some_and(|(_, range)| !range.is_empty());
        let blocking = ranges.overlapping(range).filter(|(other, ..)| {
            if guarded { *other < key && conditions::enabled(Guard::ReleaseOrder) } else { *other != key }
        });
        blocking
            .map(|(.., end)| if *end == End::Never { Blocked::Endless } else { Blocked::Waits })
            .max()
            .unwrap_or(Blocked::No)
    }

    /// Guards the range of an own command from now on.
    pub(super) fn start(&mut self, key: GuardKey, head: HeadId, range: Range<u64>) {
        self.gone.remove(&key);
        self.index.entry(head).or_default().insert(key, range.clone(), End::Sometime);
        self.own.insert(key, (head, range));
    }

    /// Has the end of an own command told that guards nothing.
    pub(super) fn mark(&mut self, key: GuardKey, head: HeadId) {
        self.own.entry(key).or_insert((head, 0..0));
    }

    /// Ends the guard of an own command: it has ended. True if there was one.
    pub(super) fn end(&mut self, key: GuardKey) -> bool {
        let Some((head, _)) = self.own.remove(&key) else { return false };
        if self.listed.contains(&key) {
            self.gone.insert(key);
        }
        if let Some(ranges) = self.index.get_mut(&head) {
            ranges.remove(key);
            if ranges.is_empty() {
                self.index.remove(&head);
            }
        }
        true
    }

    /// Leaves the guard of an own command to control's table, which lists it: a tombstone outlives its request.
    pub(super) fn hand_over(&mut self, key: GuardKey) {
        debug_assert!(self.listed.contains(&key), "guard_before_giving_up: {key:?} is not in control's table");
        self.own.remove(&key);
    }

    pub(super) fn lists(&self, key: GuardKey) -> bool {
        self.listed.contains(&key)
    }

    pub(super) fn set_table(&mut self, table: Arc<Vec<GuardEntry>>) {
        self.listed = table.iter().map(|entry| entry.key).collect();
        self.gone.retain(|key| self.listed.contains(key));
        self.index.clear();
        for entry in table.iter().filter(|entry| !self.gone.contains(&entry.key)) {
            let end = if entry.stands == GuardStands::Endless { End::Never } else { End::Sometime };
            self.index.entry(entry.head).or_default().insert(entry.key, entry.range.clone(), end);
        }
        for (key, (head, range)) in self.own.iter().filter(|(_, (_, range))| !range.is_empty()) {
            self.index.entry(*head).or_default().insert(*key, range.clone(), End::Sometime);
        }
        self.table = table;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn either_name_of_a_disk_blocks() {
        let (old, new) = (HeadId(0), HeadId(1));
        for (whole, blocked_at) in [(false, [true, false]), (true, [true, true])] {
            let mut guards = Guards::new(LaneId(0));
            let other = GuardKey { seq: 9, lane: 1 };
            guards.set_twins(BTreeMap::from([(new, vec![Twin { head: old, whole, same: true }])]));
            let entry = GuardEntry { key: other, head: old, range: 8..16, stands: GuardStands::Held };
            guards.set_table(Arc::new(vec![entry]));
            for (slba, expected) in [8, 100].into_iter().zip(blocked_at) {
                let blocked = guards.blocks(new, slba..slba + 8, guards.key(1)) == Blocked::Waits;
                assert_eq!(blocked, expected, "block {slba}, whole: {whole}");
            }
            assert_eq!(guards.blocks(HeadId(2), 8..16, guards.key(1)), Blocked::No);
            // Also what this lane alone knows of yet.
            guards.set_table(Arc::new(Vec::new()));
            guards.start(guards.key(1), old, 8..16);
            assert_eq!(guards.blocks(new, 8..16, guards.key(2)), Blocked::Waits);
        }
    }
}
