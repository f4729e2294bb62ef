//! What a lane counts for the health log, and the commands that ended with an error there.
//!
//! Both are wanted rarely and happen often. So a lane keeps them until `Control` asks: a host that makes errors as fast
//! as it can costs a short list, and no messages.

use crate::{LifeId, SubsystemId};
use alloc::collections::{BTreeMap, VecDeque};
use interlock_base::Instant;
use interlock_wire::status::Status;

/// Entries of an error log (ELPE + 1).
pub(crate) const ERRORS_MAX: usize = 64;

/// What the hosts of a subsystem have moved, and what went wrong with its media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Commands that read.
    pub reads: u64,
    /// Commands that wrote.
    pub writes: u64,
    /// Bytes that hosts read.
    pub bytes_read: u64,
    /// Bytes that hosts wrote.
    pub bytes_written: u64,
    /// Operations that media could not do.
    pub media_errors: u64,
}

impl Counters {
    /// Adds what another one counted.
    pub(crate) const fn add(&mut self, more: &Self) {
        self.reads += more.reads;
        self.writes += more.writes;
        self.bytes_read += more.bytes_read;
        self.bytes_written += more.bytes_written;
        self.media_errors += more.media_errors;
    }
}

/// A command that ended with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Failure {
    /// When.
    pub at: Instant,
    /// Whose; none on an admin queue.
    pub life: Option<LifeId>,
    /// Its queue.
    pub qid: u16,
    /// The command.
    pub cid: u16,
    /// Its opcode.
    pub opcode: u8,
    /// Its namespace; 0 if it has none.
    pub nsid: u32,
    /// Its first block, if it has one.
    pub lba: u64,
    /// How it ended.
    pub status: Status,
}

/// What happened on a lane since it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// By subsystem.
    pub counters: BTreeMap<SubsystemId, Counters>,
    /// The last failures, the oldest first.
    pub failures: VecDeque<Failure>,
    /// Failures before these that are not among them.
    pub forgotten: BTreeMap<LifeId, u64>,
}

impl Report {
    /// Remembers a failure; of too many the last ones.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.failures.len() == ERRORS_MAX
            && let Some(life) = self.failures.pop_front().and_then(|oldest| oldest.life)
        {
            *self.forgotten.entry(life).or_default() += 1;
        }
        self.failures.push_back(failure);
    }
    /// A life is over: nobody can ask for its failures any more, and lives come and go without end.
    pub(crate) fn forget(&mut self, life: LifeId) {
        self.failures.retain(|failure| failure.life != Some(life));
        self.forgotten.remove(&life);
    }
}
