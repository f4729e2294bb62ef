//! What can be wrong, as values that name block and operations.
//!
//! "Data is stale" helps nobody. A violation names the block, what was found there and what should be, so that the
//! reader of a report can look both operations up in the event stream.

use crate::op::{Op, OpId, OpKind};
use crate::stamp::{Content, Stamp};
use crate::whitebox::{Life, Method};
use core::fmt;

/// A media-changing operation, as far as a report needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Written {
    /// The operation.
    pub op: OpId,
    /// What it does.
    pub kind: OpKind,
    /// See [`Op::generation`].
    pub generation: u32,
}

impl From<&Op> for Written {
    fn from(op: &Op) -> Self {
        Self { op: op.id, kind: op.kind, generation: op.generation }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (generation {})", self.kind.name(), self.op, self.generation)
    }
}

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A block reads as an older write although a later one was answered: the ghost write.
    Stale {
        /// The block.
        lba: u64,
        /// What is there.
        found: Stamp,
        /// What was answered after `found` had ended, and is gone.
        overwrote: Written,
    },
    /// A block reads as a write that had been given up, although a change that was submitted after that was answered.
    GivenUpCameBack {
        /// The block.
        lba: u64,
        /// What is there.
        found: Stamp,
        /// The first change submitted after the giving-up that was answered.
        later: Written,
    },
    /// An answered change is gone: the block reads as zeroes (or ones) that no unfinished operation can have put there.
    Lost {
        /// The block.
        lba: u64,
        /// What is there.
        found: Content,
        /// What was answered and is gone.
        lost: Written,
        /// An older write zeroes or discard of this block that may have been executed again.
        suspect: Option<Written>,
    },
    /// A read saw a newer value, a later read the older one again, though nothing unfinished could bring it back.
    FlippedBack {
        /// The block.
        lba: u64,
        /// What the later read saw.
        found: Content,
        /// What the earlier read saw.
        seen: Content,
    },
    /// One block holds parts of different writes.
    Torn {
        /// The block.
        lba: u64,
        /// The stamp at its beginning, if whole.
        head: Option<Stamp>,
        /// The operation named at its end.
        tail: Option<OpId>,
        /// First byte that does not belong to `head`.
        at: u32,
    },
    /// A block holds the data of another block.
    Misplaced {
        /// The block.
        lba: u64,
        /// What is there.
        found: Stamp,
    },
    /// A block holds data that nobody in this run wrote.
    Foreign {
        /// The block.
        lba: u64,
        /// The stamp of another run, if it is one.
        found: Option<Stamp>,
    },
    /// A block holds a stamp of this run that no operation submitted so far puts there.
    Unwritten {
        /// The block.
        lba: u64,
        /// What is there.
        found: Stamp,
    },
    /// A block holds data of an operation whose caller was told that it was never sent.
    NotSent {
        /// The block that was read; the operation's first one if the read came before the answer.
        lba: u64,
        /// The operation.
        op: OpId,
    },
    /// A compare found a difference although its blocks can have held nothing but what it was given.
    SeenDifferent {
        /// Its first block.
        lba: u64,
        /// The compare.
        op: OpId,
    },
    /// A request ended although nothing waited for it: it had ended before, or was never submitted.
    AnsweredTwice {
        /// The operation.
        op: OpId,
    },
    /// The target executed an operation after its caller had been answered.
    ExecutedAfterAnswer {
        /// The operation.
        op: OpId,
        /// The life whose command was executed.
        life: Life,
        /// How much later, in nanoseconds.
        late_ns: u64,
    },
    /// The target executed an operation that had been given up, after the answer to a change submitted since.
    ExecutedAfterLaterAnswer {
        /// The operation.
        op: OpId,
        /// The life whose command was executed.
        life: Life,
        /// The later change.
        later: OpId,
        /// How much later than that answer, in nanoseconds.
        late_ns: u64,
    },
    /// The target executed a command of a life after that life was said to be fenced.
    ExecutedAfterReceipt {
        /// The operation.
        op: OpId,
        /// The life whose command was executed.
        life: Life,
        /// How the fence was proven.
        method: Method,
        /// How much later, in nanoseconds.
        late_ns: u64,
    },
    /// At the instant of a receipt something of that life could still be executed.
    ExecutableAtReceipt {
        /// The fenced life.
        life: Life,
        /// How the fence was proven.
        method: Method,
        /// How many commands.
        commands: u32,
    },
    /// The target's log says that held writes were executed after the fence, and no more is known of them.
    GhostsExecuted {
        /// How many.
        count: u64,
    },
}

impl Violation {
    /// The invariant that is broken, by its name in the design.
    #[must_use]
    pub const fn invariant(&self) -> &'static str {
        match self {
            Self::GivenUpCameBack { .. } | Self::ExecutedAfterLaterAnswer { .. } => {
                "given_up_is_over_when_a_later_change_is_answered"
            }
            _ => "no_stale_write_after_failover",
        }
    }

    /// The block it is about, if it is about one.
    #[must_use]
    pub const fn lba(&self) -> Option<u64> {
        match *self {
            Self::Stale { lba, .. }
            | Self::GivenUpCameBack { lba, .. }
            | Self::Lost { lba, .. }
            | Self::FlippedBack { lba, .. }
            | Self::Torn { lba, .. }
            | Self::Misplaced { lba, .. }
            | Self::Foreign { lba, .. }
            | Self::Unwritten { lba, .. }
            | Self::NotSent { lba, .. }
            | Self::SeenDifferent { lba, .. } => Some(lba),
            Self::AnsweredTwice { .. }
            | Self::ExecutedAfterAnswer { .. }
            | Self::ExecutedAfterLaterAnswer { .. }
            | Self::ExecutedAfterReceipt { .. }
            | Self::ExecutableAtReceipt { .. }
            | Self::GhostsExecuted { .. } => None,
        }
    }
}

/// The content of a block in words.
struct Words(Content);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Content::Stamp(stamp) => write!(f, "write {} (generation {})", stamp.op, stamp.generation),
            Content::Zero => f.write_str("zeroes"),
            Content::Ones => f.write_str("ones"),
            Content::Torn { .. } => f.write_str("parts of different writes"),
            Content::Foreign => f.write_str("data of nobody in this run"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale { lba, found, overwrote } => write!(
                f,
                "LBA {lba}: {overwrote}, answered, was overwritten by the older {}",
                Words(Content::Stamp(*found))
            ),
            Self::GivenUpCameBack { lba, found, later } => write!(
                f,
                "LBA {lba}: holds {}, which was given up before {later}, answered, was submitted",
                Words(Content::Stamp(*found))
            ),
            Self::Lost { lba, found, lost, suspect } => {
                write!(f, "LBA {lba}: {lost}, answered, is lost: the block reads as {}", Words(*found))?;
                match suspect {
                    Some(suspect) => write!(f, "; the older {suspect} may have been executed again"),
                    None => Ok(()),
                }
            }
            Self::FlippedBack { lba, found, seen } => write!(
                f,
                "LBA {lba}: one read saw {}, a later one {} again, which nothing unfinished could bring back",
                Words(*seen),
                Words(*found)
            ),
            Self::Torn { lba, head, tail, at } => {
                write!(f, "LBA {lba}: the block is torn")?;
                match head {
                    Some(head) => write!(f, " at byte {at}, it begins as write {}", head.op)?,
                    None => f.write_str(", its beginning belongs to no write")?,
                }
                match tail {
                    Some(tail) => write!(f, ", it ends as write {tail}"),
                    None => f.write_str(", its end belongs to no write"),
                }
            }
            Self::Misplaced { lba, found } => {
                write!(f, "LBA {lba}: holds the data of LBA {}, write {}", found.lba, found.op)
            }
            Self::Foreign { lba, found: None } => write!(f, "LBA {lba}: holds data that nobody in this run wrote"),
            Self::Foreign { lba, found: Some(found) } => {
                write!(f, "LBA {lba}: holds data of another run ({:016x}), write {}", found.run, found.op)
            }
            Self::Unwritten { lba, found } => {
                write!(f, "LBA {lba}: holds write {}, which was never submitted for this block", found.op)
            }
            Self::NotSent { lba, op } => {
                write!(f, "LBA {lba}: operation {op} had an effect but was reported as never sent")
            }
            Self::SeenDifferent { lba, op } => {
                write!(
                    f,
                    "LBA {lba}: compare {op} found a difference, and nothing but what it was given can have been there"
                )
            }
            Self::AnsweredTwice { op } => write!(f, "operation {op} was answered although nothing waited for it"),
            Self::ExecutedAfterAnswer { op, life, late_ns } => write!(
                f,
                "operation {op} was executed for {life} {}.{:06} ms after it had been answered",
                late_ns / 1_000_000,
                late_ns % 1_000_000
            ),
            Self::ExecutedAfterLaterAnswer { op, life, later, late_ns } => write!(
                f,
                "operation {op}, given up, was executed for {life} {}.{:06} ms after the answer to {later}, which was \
                 submitted since",
                late_ns / 1_000_000,
                late_ns % 1_000_000
            ),
            Self::ExecutedAfterReceipt { op, life, method, late_ns } => write!(
                f,
                "operation {op} was executed for {life} {}.{:06} ms after its fence ({})",
                late_ns / 1_000_000,
                late_ns % 1_000_000,
                method.name()
            ),
            Self::ExecutableAtReceipt { life, method, commands } => write!(
                f,
                "{commands} commands of {life} could still be executed when its fence ({}) was declared",
                method.name()
            ),
            Self::GhostsExecuted { count } => write!(f, "the target executed {count} held writes after the fence"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_stale_block_is_named_with_both_writes() {
        let violation = Violation::Stale {
            lba: 1234,
            found: Stamp { lba: 1234, generation: 2, op: OpId(12), run: 1 },
            overwrote: Written { op: OpId(17), kind: OpKind::Write, generation: 3 },
        };
        assert_eq!(
            violation.to_string(),
            "LBA 1234: write #17 (generation 3), answered, was overwritten by the older write #12 (generation 2)"
        );
        assert_eq!(violation.lba(), Some(1234));
    }

    #[test]
    fn a_late_execution_is_named_with_its_life() {
        let life = Life { cntlid: 3, ciu: 0x5a, cirn: 0x11 };
        let violation =
            Violation::ExecutedAfterReceipt { op: OpId(4), life, method: Method::Immediate, late_ns: 2_500_000 };
        assert_eq!(
            violation.to_string(),
            "operation #4 was executed for life 3/5a/0000000000000011 2.500000 ms after its fence (immediate)"
        );
    }
}
