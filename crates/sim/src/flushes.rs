//! Flushes that fail: what they were to make durable is lost, and the device says so once.
//!
//! Two kinds of targets. One remembers it as ours does ([`interlock_target_core::flush::FlushLatch`]): whatever promises
//! durability fails until somebody clears that. The other has forgotten it when it is asked again; then it is the host that must
//! remember what it was told, over all its lanes. What no answer ever told the host, and what a process was told that is gone,
//! nobody can know at such a target: that is not owed.

use crate::chaos::Act;
use crate::disks::Disk;
use crate::world::{World, note};
use interlock_host_core as host;
use interlock_host_core::latch::FlushLatch;
use interlock_wire::status::Status;
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes of what a flush could not make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// No flush loses anything.
    None,
    /// The target remembers.
    Remembered,
    /// The target says so once.
    Forgotten,
}

/// Of these flushes a device that loses something fails so many in a hundred.
pub(crate) const FAILS_PERCENT: u64 = 25;

/// What the host knows of flushes that failed.
#[derive(Default)]
pub(crate) struct Flushes {
    latch: FlushLatch,
    /// Up to which change of all each block has lost what was not made durable, as this process was told, and of which disk: what
    /// is called otherwise meanwhile is another disk for the host.
    told: BTreeMap<(usize, u64), (u64, Option<Disk>)>,
}

impl Flushes {
    /// Before a lane hears this.
    pub(crate) fn hear(&mut self, message: &host::ToLane) {
        match message {
            host::ToLane::Paths(table) => self.latch.handle_twins(&table.twins),
            host::ToLane::Forget(heads) => self.latch.handle_forgotten(heads),
            _ => {}
        }
    }
}

impl World {
    /// A lane says how a request has ended, and its driver what its caller is told: as that of `interlock-host` does.
    pub(crate) fn flush_ended(&mut self, token: u64, outcome: host::Outcome) -> host::Outcome {
        let Some((head, volume)) = self.app.flush_of(token) else { return outcome };
        let had = self.flushes.latch.error(head).is_some();
        let told = self.flushes.latch.handle_ended(head, outcome);
        self.flush_told(had, head, volume, outcome != host::Outcome::Ok, token);
        told
    }

    /// A lane says that a Flush reports a loss of which no caller hears: as the driver of `interlock-host` does.
    pub(crate) fn flush_lost(&mut self, head: host::HeadId, status: Status) {
        note!(self, "host: a Flush for which nobody waits reports {status}");
        let had = self.flushes.latch.error(head).is_some();
        self.flushes.latch.handle_lost(head, status);
        if let Some(volume) = self.app.volume_of(head) {
            self.flush_told(had, head, volume, true, volume as u64 * 331);
        }
    }

    /// If the host remembers a loss: what it was told of is owed to nobody, and somebody deals with it.
    fn flush_told(&mut self, had: bool, head: host::HeadId, volume: usize, now: bool, chance: u64) {
        if self.flushes.latch.error(head).is_none() {
            return;
        }
        if now {
            let disk = self.app.known_as(volume, Some(head));
            let lost = self.media.lost_of(volume).map(|(lba, change)| ((volume, lba), (change, disk)));
            self.flushes.told.extend(lost);
        }
        if !had {
            let later = Duration::from_millis(1 + chance % 1_500);
            self.plan_act(self.now + later, Act::ClearFlushErrors);
        }
    }

    /// The operator says that every loss was dealt with, at the target and at the host.
    pub(crate) fn clear_flush_errors(&mut self) {
        note!(self, "operator: clears flush errors");
        self.flushes = Flushes::default();
        for volume in 0..self.app.volumes_made() {
            let lost = self.media.accept_loss(volume);
            self.app.loss_accepted(volume, lost);
        }
    }

    /// Another process knows nothing of what this one was told.
    pub(crate) fn forget_flush_errors(&mut self) {
        self.flushes = Flushes::default();
    }

    /// True if somebody may be told that this change is durable although it was lost: nobody who is there knows.
    pub(crate) fn is_forgiven(&self, volume: usize, lba: u64, change: u64) -> bool {
        self.plan.extras.losses == Losses::Forgotten
            && self.media.is_lost(volume, lba, change)
            && self
                .flushes
                .told
                .get(&(volume, lba))
                .is_none_or(|(told, disk)| change > *told || *disk != self.app.known_as(volume, None))
    }
}
