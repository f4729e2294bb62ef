//! The backing devices: memory, with operations that take time and take effect at their end.
//!
//! The effect comes at the end of an operation because that is the worst moment: whatever the target said in between
//! was said before it.

use crate::draw::Plan;
use crate::mutation::{Mutation, Tampering};
use crate::outbox::Memory;
use crate::world::SPARE_BLOCKS;
use interlock_base::Rng;
use interlock_check::OpKind;
use interlock_target_core::{MediaKind, MediaOp, MediaResult};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(crate) const BLOCK: usize = 512;

pub(crate) struct Work {
    pub(crate) op: MediaOp,
    data: Vec<u8>,
    /// Reported as done when it began (tampering).
    pub(crate) early: bool,
}

impl Work {
    /// What it changes.
    pub(crate) fn changes(&self) -> Vec<(Range<u64>, OpKind, &[u8])> {
        match &self.op.kind {
            MediaKind::Write { slba, .. } => {
                vec![(*slba..*slba + (self.data.len() / BLOCK) as u64, OpKind::Write, &self.data[..])]
            }
            MediaKind::Zero { range, .. } => {
                vec![(range.slba..range.slba + range.blocks, OpKind::WriteZeroes, &[][..])]
            }
            MediaKind::Deallocate { ranges } => {
                ranges.iter().map(|range| (range.slba..range.slba + range.blocks, OpKind::Discard, &[][..])).collect()
            }
            MediaKind::Read { .. } | MediaKind::Compare { .. } | MediaKind::Flush => Vec::new(),
        }
    }
}

pub(crate) struct Media {
    disks: Vec<Vec<u8>>,
    working: BTreeMap<u64, Work>,
    last: u64,
    rng: Rng,
    usual_us: u64,
    longest: Duration,
    /// Operations take as long as they may.
    pub(crate) slow: bool,
    pub(crate) lies: bool,
}

impl Media {
    pub(crate) fn new(plan: &Plan, rng: Rng) -> Self {
        let bytes = (plan.blocks + SPARE_BLOCKS * 2) as usize * BLOCK;
        Self {
            disks: vec![vec![0; bytes]; plan.namespaces],
            working: BTreeMap::new(),
            last: 0,
            rng,
            usual_us: plan.media_us,
            longest: plan.media,
            slow: false,
            lies: matches!(plan.mutation, Some(Mutation::Tampering(Tampering::MediaDoneTooEarly))),
        }
    }

    pub(crate) fn begin(&mut self, lane: usize, op: MediaOp, data: Vec<u8>, early: bool) -> (u64, Duration) {
        self.last += 1;
        let key = self.last << 8 | lane as u64;
        self.working.insert(key, Work { op, data, early });
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        let us =
            if self.slow || self.rng.percent(3) { self.rng.below(longest) } else { 1 + self.rng.below(self.usual_us) };
        let us = if self.lies && self.rng.percent(10) { us + longest * 4 } else { us };
        (key, Duration::from_micros(us.max(1)))
    }

    pub(crate) fn take(&mut self, key: u64) -> Option<Work> {
        self.working.remove(&key)
    }

    /// Operations that change media and have not taken effect.
    pub(crate) fn pending(&self, life: interlock_target_core::LifeId) -> usize {
        self.working.values().filter(|work| work.op.life == life && !work.changes().is_empty()).count()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.working.is_empty()
    }

    pub(crate) fn apply(&mut self, work: &Work, blocks: u64, memory: &mut Memory) -> MediaResult {
        let Some(disk) = self.disks.get_mut(work.op.namespace.nsid as usize - 1) else { return MediaResult::Gone };
        let bytes = |range: &Range<u64>| range.start as usize * BLOCK..range.end as usize * BLOCK;
        let inside = |range: &Range<u64>| range.end <= blocks;
        match &work.op.kind {
            MediaKind::Read { slba, into } => {
                let range = *slba..*slba + (into.len as usize / BLOCK) as u64;
                if !inside(&range) {
                    return MediaResult::Gone;
                }
                memory.bytes_mut(*into).copy_from_slice(&disk[bytes(&range)]);
            }
            MediaKind::Compare { slba, with } => {
                let range = *slba..*slba + (with.len as usize / BLOCK) as u64;
                if memory.bytes(*with) != &disk[bytes(&range)] {
                    return MediaResult::Different;
                }
            }
            MediaKind::Write { .. } | MediaKind::Zero { .. } | MediaKind::Deallocate { .. } => {
                for (range, kind, data) in work.changes() {
                    if !inside(&range) {
                        return MediaResult::Gone;
                    }
                    let place = &mut disk[bytes(&range)];
                    if kind == OpKind::Write {
                        place.copy_from_slice(data);
                    } else {
                        place.fill(0);
                    }
                }
            }
            MediaKind::Flush => {}
        }
        MediaResult::Done
    }
}
