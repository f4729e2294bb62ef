//! Requests whose process died: nobody will ever answer them, and their targets may still carry them out.
//!
//! They are possible until the lives on which they may have been sent are over. As soon as a later process has had a
//! change answered they must be over in any case: whoever went on with that answer relies on it.

use super::App;
use super::abandon::Abandons;
use super::relay::Relay;
use crate::world::{World, note};
use interlock_check::Outcome;
use interlock_host_core::LifeId;
use std::collections::{BTreeMap, BTreeSet};

/// What one process left.
#[derive(Clone, Debug)]
pub(super) struct Orphans {
    /// Lives that it had recorded, and that are not over.
    lives: BTreeSet<LifeId>,
    ops: Vec<u64>,
    /// It was connected to the second of two subsystems that serve the same disks.
    moved: bool,
}

impl Orphans {
    pub(super) fn ops(&self) -> &[u64] {
        &self.ops
    }
}

impl App {
    fn settle(&mut self, over: Vec<Orphans>, now: interlock_base::Instant) {
        for id in over.into_iter().flat_map(|orphans| orphans.ops) {
            let Some(asked) = self.asked.get(&id) else { continue };
            self.volumes[asked.volume].oracle.life_settled(asked.op.id, now);
            self.over(id, now);
        }
    }

    /// A life is fenced.
    pub(super) fn life_over(&mut self, life: LifeId, now: interlock_base::Instant) {
        for orphans in &mut self.orphans {
            orphans.lives.remove(&life);
        }
        let (over, left) = std::mem::take(&mut self.orphans).into_iter().partition(|orphans| orphans.lives.is_empty());
        self.orphans = left;
        self.settle(over, now);
    }

    /// A change of the living process was answered: of its subsystem nothing can happen late, nor of that disk in any other.
    /// `moved`: it is connected to the second of two subsystems that serve the same disks.
    pub(super) fn orphans_must_be_over(&mut self, volume: usize, moved: bool, now: interlock_base::Instant) {
        if self.orphans.is_empty() {
            return;
        }
        let mut over = Vec::new();
        let mut all = std::mem::take(&mut self.orphans);
        for orphans in &mut all {
            let ops = orphans.ops.extract_if(.., |id| {
                let other = self.asked.get(id).map(|asked| asked.volume);
                let same_nqn = |other| self.division.nqn(self.part(other)) == self.division.nqn(self.part(volume));
                other.is_none_or(|other| other == volume || (orphans.moved == moved && same_nqn(other)))
            });
            over.push(Orphans { lives: BTreeSet::new(), ops: ops.collect(), moved: orphans.moved });
        }
        all.retain(|orphans| !orphans.ops.is_empty());
        self.orphans = all;
        self.settle(over, now);
    }

    fn part(&self, volume: usize) -> u16 {
        self.volumes[volume].disk.part
    }
}

impl World {
    /// The process that carried the application's requests is dead; `recorded` are its lives that are not over.
    pub(crate) fn app_died(&mut self, recorded: Vec<LifeId>) {
        let now = self.now;
        let mut ops: Vec<u64> = self.app.indeterminate.values().copied().collect();
        for id in std::mem::take(&mut self.app.open) {
            let Some(asked) = self.app.asked.get_mut(&id) else { continue };
            asked.ended = Some(now);
            self.stats.ios += 1;
            let (volume, op, abandoned) = (asked.volume, asked.op, asked.abandoned);
            let volume = &mut self.app.volumes[volume];
            if asked.key.is_none() {
                volume.oracle.answered(op.id, Outcome::NotSent, now);
            } else if !abandoned {
                volume.oracle.abandoned(op.id, now);
            }
            if asked.key.is_some() && op.kind.changes_media() {
                ops.push(id);
            }
            if !abandoned {
                volume.load.finished(op.id);
            }
            // Written again as soon as there is somebody to write, so that a ghost of it shows.
            volume.load.rewrite_of(&op);
        }
        note!(self, "host: the process is dead, {} changes are unanswered, {recorded:?} recorded", ops.len());
        let lives = recorded.into_iter().collect();
        self.app.orphans.push(Orphans { lives, ops, moved: self.is_moved() });
        self.app.accepted.fill(0);
        self.app.by_key = BTreeMap::new();
        self.app.abandons = Abandons::new(self.app.lanes);
        self.app.relay = Relay::default();
        self.app.listed = BTreeMap::new();
        self.app.places = BTreeMap::new();
        self.app.indeterminate = BTreeMap::new();
        self.app.doubtful = BTreeSet::new();
        self.app.in_doubt = BTreeMap::new();
        for volume in &mut self.app.volumes {
            volume.head = None;
            // A process promises nothing of what another had answered through caches that may have died with it.
            if self.plan.own_caches {
                volume.answered.clear();
            }
        }
        // Nothing recorded: nothing can have been sent.
        self.app.life_over(LifeId(0), now);
    }
}
