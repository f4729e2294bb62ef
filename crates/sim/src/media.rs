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
use interlock_target_core::{Life, MediaKind, MediaOp, MediaResult};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(crate) const BLOCK: usize = 512;

/// An operation that fails: as what, and whether it has taken effect all the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) result: MediaResult,
    pub(crate) applied: bool,
}

pub(crate) struct Work {
    pub(crate) op: MediaOp,
    data: Vec<u8>,
    /// The number of the disk that its namespace was when it began.
    pub(crate) disk: usize,
    /// How many changes had been applied when it began.
    since: u64,
    /// How it fails.
    pub(crate) fails: Option<Failure>,
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

/// What a namespace holds, and how much of it would survive the loss of power.
struct Disk {
    bytes: Vec<u8>,
    /// Per block: which change of all made it what it is.
    changed: Vec<u64>,
    /// Per block: which change of all is safe.
    durable: Vec<u64>,
    /// What lies in the caches of single controllers: block and change, in order.
    cached: BTreeMap<Life, Vec<(u64, u64)>>,
}

impl Disk {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes],
            changed: vec![0; bytes / BLOCK],
            durable: vec![0; bytes / BLOCK],
            cached: BTreeMap::new(),
        }
    }

    /// What the cache of this life holds of the changes up to this one becomes durable.
    fn write_back(&mut self, life: Life, until: u64) {
        for (lba, change) in self.cached.get_mut(&life).into_iter().flat_map(|of| of.extract_if(.., |c| c.1 <= until)) {
            let safe = &mut self.durable[lba as usize];
            *safe = change.max(*safe);
        }
    }
}

pub(crate) struct Media {
    disks: Vec<Disk>,
    changes: u64,
    /// Where each controller has a cache of its own: in whose each change was put. `None`: they share one.
    holders: Option<BTreeMap<u64, Life>>,
    skips_flush: bool,
    skips_fua: bool,
    overlooks: bool,
    pub(crate) skipped: bool,
    working: BTreeMap<u64, Work>,
    last: u64,
    rng: Rng,
    usual_us: u64,
    longest: Duration,
    /// Operations take as long as they may.
    pub(crate) slow: bool,
    /// One operation in three fails.
    pub(crate) fails: bool,
    pub(crate) lies: bool,
}

impl Media {
    pub(crate) fn new(plan: &Plan, rng: Rng) -> Self {
        let bytes = (plan.blocks + SPARE_BLOCKS * 2) as usize * BLOCK;
        Self {
            disks: (0..plan.namespaces).map(|_| Disk::new(bytes)).collect(),
            changes: 0,
            holders: plan.own_caches.then(BTreeMap::new),
            skips_flush: plan.mutation == Some(Mutation::Tampering(Tampering::FlushSkipped)),
            overlooks: plan.mutation == Some(Mutation::Tampering(Tampering::DifferenceOverlooked)),
            skips_fua: plan.mutation == Some(Mutation::Tampering(Tampering::UnitAccessIgnored)),
            skipped: false,
            working: BTreeMap::new(),
            last: 0,
            rng,
            usual_us: plan.media_us,
            longest: plan.media,
            slow: false,
            fails: false,
            lies: matches!(plan.mutation, Some(Mutation::Tampering(Tampering::MediaDoneTooEarly))),
        }
    }

    pub(crate) fn begin(
        &mut self,
        lane: usize,
        disk: usize,
        op: MediaOp,
        data: Vec<u8>,
        early: bool,
    ) -> (u64, Duration) {
        self.last += 1;
        let key = self.last << 8 | lane as u64;
        let fails = if self.fails && self.rng.percent(33) { self.failure(&op) } else { None };
        self.working.insert(key, Work { op, data, disk, since: self.changes, fails, early });
        let longest = u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX);
        let us =
            if self.slow || self.rng.percent(3) { self.rng.below(longest) } else { 1 + self.rng.below(self.usual_us) };
        let us = if self.lies && self.rng.percent(10) { us + longest * 4 } else { us };
        (key, Duration::from_micros(us.max(1)))
    }

    fn failure(&mut self, op: &MediaOp) -> Option<Failure> {
        Some(match op.kind {
            MediaKind::Read { .. } | MediaKind::Compare { .. } => {
                Failure { result: MediaResult::ReadFailed, applied: false }
            }
            MediaKind::Write { .. } | MediaKind::Zero { .. } if self.rng.percent(30) => {
                Failure { result: MediaResult::NoSpace, applied: false }
            }
            MediaKind::Write { .. } | MediaKind::Zero { .. } | MediaKind::Deallocate { .. } => {
                Failure { result: MediaResult::WriteFailed, applied: self.rng.percent(50) }
            }
            MediaKind::Flush => Failure { result: MediaResult::WriteFailed, applied: false },
        })
    }

    pub(crate) fn take(&mut self, key: u64) -> Option<Work> {
        self.working.remove(&key)
    }

    /// Operations that change media and have not taken effect.
    pub(crate) fn pending(&self, life: interlock_target_core::LifeId) -> usize {
        self.working.values().filter(|work| work.op.life == life && !work.changes().is_empty()).count()
    }

    /// The target is switched off: what lay in the cache of a single controller is lost.
    pub(crate) fn stop(&mut self) {
        self.working.clear();
        for disk in &mut self.disks {
            disk.cached.clear();
        }
    }

    /// Another disk, as large as the others and empty.
    pub(crate) fn mount(&mut self) {
        let bytes = self.disks.first().map_or(0, |disk| disk.bytes.len());
        self.disks.push(Disk::new(bytes));
    }

    /// A life is over, with its cache: written back by an orderly shutdown, or lost.
    pub(crate) fn life_over(&mut self, life: Life, orderly: bool) {
        for disk in &mut self.disks {
            if orderly {
                disk.write_back(life, u64::MAX);
            }
            disk.cached.remove(&life);
        }
    }

    /// In whose own cache a change was put.
    pub(crate) fn holder(&self, change: u64) -> Option<Life> {
        self.holders.as_ref()?.get(&change).copied()
    }

    /// Which change of all is safe in each block.
    pub(crate) fn durable(&self, disk: usize) -> &[u64] {
        self.disks.get(disk).map_or(&[], |disk| &disk.durable)
    }

    /// The number of the change that was applied last.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.working.is_empty()
    }

    pub(crate) fn apply(&mut self, work: &Work, life: Life, blocks: u64, memory: &mut Memory) -> MediaResult {
        let Some(disk) = self.disks.get_mut(work.disk) else { return MediaResult::Gone };
        let bytes = |range: &Range<u64>| range.start as usize * BLOCK..range.end as usize * BLOCK;
        let inside = |range: &Range<u64>| range.end <= blocks;
        let forced = matches!(work.op.kind, MediaKind::Write { fua: true, .. } | MediaKind::Zero { fua: true, .. });
        match &work.op.kind {
            MediaKind::Read { slba, into } => {
                let range = *slba..*slba + (into.len as usize / BLOCK) as u64;
                if !inside(&range) {
                    return MediaResult::Gone;
                }
                memory.bytes_mut(*into).copy_from_slice(&disk.bytes[bytes(&range)]);
            }
            MediaKind::Compare { slba, with } => {
                let range = *slba..*slba + (with.len as usize / BLOCK) as u64;
                if memory.bytes(*with) != &disk.bytes[bytes(&range)] {
                    if !self.overlooks {
                        return MediaResult::Different;
                    }
                    self.skipped = true;
                }
            }
            MediaKind::Write { .. } | MediaKind::Zero { .. } | MediaKind::Deallocate { .. } => {
                for (range, kind, data) in work.changes() {
                    if !inside(&range) {
                        return MediaResult::Gone;
                    }
                    self.changes += 1;
                    let blocks = range.start as usize..range.end as usize;
                    disk.changed[blocks.clone()].fill(self.changes);
                    if forced && self.skips_fua {
                        self.skipped = true;
                    } else if forced {
                        disk.durable[blocks].fill(self.changes);
                    } else if let Some(holders) = &mut self.holders {
                        holders.insert(self.changes, life);
                        disk.cached.entry(life).or_default().extend(range.clone().map(|lba| (lba, self.changes)));
                    }
                    let place = &mut disk.bytes[bytes(&range)];
                    if kind == OpKind::Write {
                        place.copy_from_slice(data);
                    } else {
                        place.fill(0);
                    }
                }
            }
            MediaKind::Flush if self.skips_flush => self.skipped = true,
            // It promises what was answered before it was sent, and that is all it does.
            MediaKind::Flush if self.holders.is_some() => disk.write_back(life, work.since),
            MediaKind::Flush => disk.durable.copy_from_slice(&disk.changed),
        }
        MediaResult::Done
    }
}
