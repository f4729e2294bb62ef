//! Operations as the application sees them.
//!
//! An operation is what an application asked for, not a command: one operation may become several commands on several
//! paths, and only the application's view decides whether data is stale.

use core::fmt;
use core::ops::Range;

/// Names one operation of one run. Numbers are given in order of generation and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpKind {
    /// Reads blocks.
    Read,
    /// Writes stamped blocks.
    Write,
    /// Writes zeroes without carrying data (Write Zeroes).
    WriteZeroes,
    /// Deallocates blocks (Dataset Management, AD).
    Discard,
    /// Makes answered writes durable; has no range.
    Flush,
    /// Compares blocks with what the application believes them to hold ([`Oracle::believed`](crate::Oracle::believed)).
    Compare,
}

impl OpKind {
    /// True if it may change what a block reads as.
    #[must_use]
    pub const fn changes_media(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Discard)
    }

    /// True if its answer says what blocks hold.
    #[must_use]
    pub const fn observes(self) -> bool {
        matches!(self, Self::Read | Self::Compare)
    }

    /// In words, for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write zeroes",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::Compare => "compare",
        }
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Op {
    /// Its name.
    pub id: OpId,
    /// What it does.
    pub kind: OpKind,
    /// First block; 0 for a flush.
    pub lba: u64,
    /// Blocks (a count, not 0's based); 0 for a flush.
    pub nlb: u32,
    /// Greater than that of every media-changing operation generated earlier for any of its blocks; 0 for reads and
    /// flushes. It is for people who read a report: the oracle goes by submissions and answers.
    pub generation: u32,
}

impl Op {
    /// Its blocks.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.lba..self.lba.saturating_add(self.nlb as u64)
    }

    /// True if `lba` is one of its blocks.
    #[must_use]
    pub const fn covers(&self, lba: u64) -> bool {
        self.lba <= lba && lba - self.lba < self.nlb as u64
    }
}

/// How a request ended, as told to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done: it took effect before this answer, and never does so again.
    Ok,
    /// The controller refused or failed it. It may have changed some blocks before this answer, never afterwards.
    Failed,
    /// It was never sent: it never has an effect.
    NotSent,
    /// Nobody knows yet: it stays possible until [`Oracle::life_settled`](crate::Oracle::life_settled).
    Indeterminate,
    /// Whether it took effect is unknown, but its life is fenced: never again.
    UnknownSettled,
}
