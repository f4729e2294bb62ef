//! What a lane reports of its commands, and what is protected for their sake.

use crate::{HeadId, LifeId};
use core::fmt;
use core::ops::Range;
use interlock_base::Instant;

/// What to do. Sizes come with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// NVM Command Set, "Read command".
    Read,
    /// NVM Command Set, "Compare command": are the blocks what the payload says? Different blocks end the request with
    /// [`COMPARE_FAILURE`](interlock_wire::status::Status::COMPARE_FAILURE), which is an answer and no fault of a path.
    Compare,
    /// NVM Command Set, "Write command".
    Write {
        /// Force Unit Access: on stable media before it is answered. Passed through, never emulated.
        fua: bool,
    },
    /// NVM Command Set, "Write Zeroes command".
    WriteZeroes {
        /// Deallocate as well (DEAC).
        deallocate: bool,
    },
    /// NVM Command Set, "Dataset Management command" with one range and Attribute - Deallocate.
    Discard,
    /// NVM Command Set, "Flush command". Covers what was answered when it was submitted.
    Flush,
}

impl Op {
    /// True if the command changes media, so that it must not be repeated elsewhere while it may still be executed.
    #[must_use]
    pub const fn changes_media(self) -> bool {
        match self {
            Self::Write { .. } | Self::WriteZeroes { .. } | Self::Discard => true,
            Self::Read | Self::Compare | Self::Flush => false,
        }
    }

    /// True if blocks travel with the command, in either direction: exactly those that it names.
    #[must_use]
    pub const fn carries_blocks(self) -> bool {
        match self {
            Self::Read | Self::Compare | Self::Write { .. } => true,
            Self::WriteZeroes { .. } | Self::Discard | Self::Flush => false,
        }
    }
}

/// Names one command in doubt: the lane that sent it and the order in which that lane accepted its request.
/// The order of keys is the order in which overlapping held commands are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuardKey {
    /// Order of acceptance on that lane. First, so that keys of different lanes interleave fairly.
    pub seq: u64,
    /// The lane.
    pub lane: u16,
}

/// A range that nobody may touch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GuardEntry {
    /// The command for whose sake.
    pub key: GuardKey,
    /// The namespace, not the path: a guard holds on every path.
    pub head: HeadId,
    /// The blocks.
    pub range: Range<u64>,
    /// What is known of its end.
    pub stands: GuardStands,
}

/// What is known of the end of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuardStands {
    /// The life of its command is not fenced yet; by CCR or by time it will be. What overlaps waits.
    Held,
    /// The life is fenced: the command itself may now be sent again, others still wait for it.
    Released,
    /// A tombstone that no time ends (KATO 0): only a reset through another controller, or somebody who accepts the risk.
    /// What overlaps is refused, because a wait would have no end.
    Endless,
}

/// One command in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LedgerEntry {
    /// Its name.
    pub key: GuardKey,
    /// The life on which it was sent.
    pub life: LifeId,
    /// The namespace.
    pub head: HeadId,
    /// What it does.
    pub op: Op,
    /// The blocks.
    pub range: Range<u64>,
    /// When it was sent.
    pub since: Instant,
    /// True if nobody waits for it any more.
    pub abandoned: bool,
}

/// What becomes of the held commands of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// Fenced: retry what may be retried, in submission order; end the rest as `OutcomeUnknown`.
    Retry,
    /// Given up unfenced: end them as `Indeterminate`; their guards stay as tombstones.
    Indeterminate {
        /// The deadline of the tombstone.
        until: Option<Instant>,
    },
}

/// A suspect, as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SuspectCommand {
    /// Its name.
    pub key: GuardKey,
    /// The namespace.
    pub head: HeadId,
    /// What it does.
    pub op: Op,
    /// The blocks.
    pub range: Range<u64>,
    /// Instances that the target ended while it was outstanding on them.
    pub instances: u32,
    /// How many of these carried nothing else, and died while others lived.
    pub alone: u32,
}

impl SuspectCommand {
    /// What it is, as the specification calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.op {
            Op::Read => "Read",
            Op::Compare => "Compare",
            Op::Write { .. } => "Write",
            Op::WriteZeroes { .. } => "Write Zeroes",
            Op::Discard => "Dataset Management",
            Op::Flush => "Flush",
        }
    }
}

impl fmt::Display for SuspectCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.name();
        if self.op == Op::Flush {
            return write!(f, "{what} of {}", self.head);
        }
        let blocks = self.range.end - self.range.start;
        write!(f, "{what} of {} ({blocks} blocks from LBA {})", self.head, self.range.start)
    }
}
