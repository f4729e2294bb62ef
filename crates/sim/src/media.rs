//! The backing devices: memory, with operations that take time and take effect at their end.
//!
//! The effect comes at the end of an operation because that is the worst moment: whatever the target said in between
//! was said before it.

use crate::draw::Plan;
use crate::flushes::{FAILS_PERCENT, Losses};
use crate::mutation::{Mutation, Tampering};
use crate::outbox::Memory;
use crate::world::SPARE_BLOCKS;
use interlock_base::Rng;
use interlock_check::OpKind;
use interlock_target_core::flush::{Ended, FlushLatch, Question};
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
    /// Of a flush, where some lose something.
    flush: Option<Asking>,
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

/// A flush that the device was asked for.
#[derive(Clone, Copy, Debug)]
struct Asking {
    question: Question,
    /// It says that something is lost.
    loses: bool,
    /// It said that everything is durable, and others who asked have no answer.
    until: Option<Question>,
}

/// What a namespace holds, and how much of it would survive the loss of power.
struct Disk {
    bytes: Vec<u8>,
    /// Per block: which change of all made it what it is.
    changed: Vec<u64>,
    /// Per block: which change of all is safe.
    durable: Vec<u64>,
    /// Per block: up to which change of all it is lost that it was not made durable.
    lost: Vec<u64>,
    /// What the target remembers of that.
    latch: FlushLatch,
    /// What lies in the caches of single controllers: block and change, in order.
    cached: BTreeMap<Life, Vec<(u64, u64)>>,
}

impl Disk {
    fn new(bytes: usize) -> Self {
        Self {
            bytes: vec![0; bytes],
            changed: vec![0; bytes / BLOCK],
            durable: vec![0; bytes / BLOCK],
            lost: vec![0; bytes / BLOCK],
            latch: FlushLatch::default(),
            cached: BTreeMap::new(),
        }
    }

    /// A flush: everything is durable but what was lost before.
    fn make_durable(&mut self) {
        for ((durable, changed), lost) in self.durable.iter_mut().zip(&self.changed).zip(&self.lost) {
            if changed > lost {
                *durable = *changed;
            }
        }
    }

    /// Nothing of what is not durable ever will be.
    fn lose(&mut self) {
        for ((durable, changed), lost) in self.durable.iter().zip(&self.changed).zip(&mut self.lost) {
            if durable < changed {
                *lost = *changed;
            }
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
    losses: Losses,
    forgets: bool,
    loss_rng: Rng,
    /// Flushes fail now and then, where some do.
    pub(crate) loses: bool,
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
            disks: (0..plan.namespaces * usize::from(plan.division.parts())).map(|_| Disk::new(bytes)).collect(),
            changes: 0,
            holders: plan.own_caches.then(BTreeMap::new),
            skips_flush: plan.mutation == Some(Mutation::Tampering(Tampering::FlushSkipped)),
            overlooks: plan.mutation == Some(Mutation::Tampering(Tampering::DifferenceOverlooked)),
            skips_fua: plan.mutation == Some(Mutation::Tampering(Tampering::UnitAccessIgnored)),
            losses: plan.extras.losses,
            forgets: plan.mutation == Some(Mutation::Tampering(Tampering::FlushErrorForgotten)),
            loss_rng: Rng::new(plan.seed ^ 0x51a1_5eed_0000_0013),
            loses: true,
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
        let refused = self.is_refused(disk, &op);
        let fails = if refused { Some(Failure { result: MediaResult::FlushFailed, applied: false }) } else { fails };
        let flush = if fails.is_none() { self.ask_flush(disk, &op) } else { None };
        self.working.insert(key, Work { op, data, disk, since: self.changes, fails, early, flush });
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

    /// The target remembers that a flush of this device has lost something: nothing promises durability.
    fn is_refused(&self, disk: usize, op: &MediaOp) -> bool {
        let promises =
            matches!(op.kind, MediaKind::Flush | MediaKind::Zero { .. } | MediaKind::Write { fua: true, .. });
        promises && self.disks.get(disk).is_some_and(|disk| disk.latch.failed().is_some())
    }

    fn ask_flush(&mut self, disk: usize, op: &MediaOp) -> Option<Asking> {
        if self.losses == Losses::None || op.kind != MediaKind::Flush {
            return None;
        }
        let loses = self.loss_rng.percent(FAILS_PERCENT) && self.loses;
        let question = self.disks.get_mut(disk)?.latch.ask();
        Some(Asking { question, loses, until: None })
    }

    /// The device answers a flush, where some lose something: what that is worth.
    pub(crate) fn end_flush(&mut self, work: &mut Work) -> Option<Ended> {
        let asking = work.flush?;
        let disk = self.disks.get_mut(work.disk)?;
        let remembers = self.losses == Losses::Remembered;
        let ended = match asking.until {
            Some(until) => disk.latch.settle(until),
            None if asking.loses => {
                disk.lose();
                if remembers {
                    disk.latch.fail(asking.question, "lost");
                    self.skipped |= self.forgets;
                }
                if !remembers || self.forgets {
                    disk.latch.clear();
                    disk.latch.withdraw(asking.question);
                }
                Ended::Lost
            }
            None => {
                disk.make_durable();
                let ended = disk.latch.succeeded(asking.question);
                if remembers { ended } else { Ended::Durable }
            }
        };
        work.flush = match ended {
            Ended::Unsure(until) => Some(Asking { until: Some(until), ..asking }),
            // What it was to do is done: what was changed since is not its business.
            Ended::Durable | Ended::Lost => Some(asking),
        };
        Some(ended)
    }

    /// How a flush that lost something is answered: one that is remembered is not to be tried again.
    pub(crate) fn flush_result(&self) -> MediaResult {
        if self.losses == Losses::Remembered { MediaResult::FlushFailed } else { MediaResult::WriteFailed }
    }

    /// It is not over yet.
    pub(crate) fn put_back(&mut self, key: u64, work: Work) {
        self.working.insert(key, work);
    }

    /// Of which blocks a disk has lost changes, and up to which change of all.
    pub(crate) fn lost_of(&self, disk: usize) -> impl Iterator<Item = (u64, u64)> {
        let lost = self.disks.get(disk).into_iter().flat_map(|disk| (0..).zip(disk.lost.iter().copied()));
        lost.filter(|(_, change)| *change > 0)
    }

    /// True if this change of a block was lost.
    pub(crate) fn is_lost(&self, disk: usize, lba: u64, change: u64) -> bool {
        self.disks.get(disk).and_then(|disk| disk.lost.get(lba as usize)).is_some_and(|lost| change <= *lost)
    }

    /// Somebody has dealt with what a disk has lost: the target says no more of it. What it was.
    pub(crate) fn accept_loss(&mut self, disk: usize) -> Vec<(u64, u64)> {
        let lost = self.lost_of(disk).collect();
        if let Some(disk) = self.disks.get_mut(disk) {
            disk.latch.clear();
        }
        lost
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
            // Nobody waits for an answer any more; what was remembered is.
            disk.latch = FlushLatch::new(disk.latch.failed().map(str::to_owned));
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
            MediaKind::Flush if work.flush.is_some() => {}
            MediaKind::Flush => disk.make_durable(),
        }
        MediaResult::Done
    }
}
