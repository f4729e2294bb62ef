//! What an application asks for, and the one answer it gets.
//!
//! Requests are not commands: a request ends exactly once (`completes_exactly_once`), a command may be sent again on
//! another path. Overlapping concurrent requests have no order among themselves, and an unfinished write may take effect
//! more than once until it completes; after it completed - or, if indeterminate, after its fence - never again.

use crate::{HeadId, LifeId, Op};
use base::{Instant, Span};
use core::fmt;
use core::ops::Range;
use interlock_base as base;
use interlock_wire as wire;
use wire::status::Status;

/// One request of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The namespace.
    pub head: HeadId,
    /// What to do.
    pub op: Op,
    /// First block. 0 for [`Op::Flush`].
    pub slba: u64,
    /// Blocks, counted from 1. 0 for [`Op::Flush`].
    pub nlb: u32,
    /// The payload of a read, a compare or a write: exactly `nlb` blocks.
    pub data: Option<Span>,
}

impl Request {
    /// The blocks that are touched; empty for a flush.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.slba..self.slba.saturating_add(self.nlb as u64)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done.
    Ok,
    /// A controller answered with an error that no other path can mend, or that no other path was there to mend. A change
    /// may have been made in part; nothing more of it can take effect.
    Failed(Status),
    /// Nothing of it took effect, and nothing can any more: safe to do elsewhere.
    NotSent(Refused),
    /// It may have taken effect and may still do so until the moment given (`None`: until the life is fenced). Its range
    /// stays guarded meanwhile.
    Indeterminate {
        /// When it cannot take effect any more at the latest.
        until: Option<Instant>,
    },
    /// A flush, where each controller has a cache of its own: everything else is durable, but this life was lost with
    /// answered writes of the namespace in its cache. Said once; which writes they were nobody can know.
    CacheLost {
        /// The life, the first of them if there are several.
        life: LifeId,
    },
    /// It may have taken effect; it cannot any more. The command must not be repeated blindly: look first.
    OutcomeUnknown,
    /// Instances of controllers were lost while it was outstanding on them, at last while nothing else was, and lived on
    /// without it ([`poison`](crate::poison)). It is not sent again. All of them are fenced: a change may have taken effect,
    /// and cannot any more.
    Poison {
        /// How many.
        instances: u32,
    },
}

impl Outcome {
    /// True if an [`Op::Compare`] found other data than it was given.
    #[must_use]
    pub const fn is_different(self) -> bool {
        matches!(self, Self::Failed(status) if status.is(Status::COMPARE_FAILURE))
    }
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// There is no such namespace, or it was removed.
    NoSuchNamespace,
    /// The blocks lie beyond the end of the namespace, or their count is 0.
    OutOfRange,
    /// The payload is missing, or is not exactly the blocks asked for.
    WrongLength,
    /// The namespace is write protected.
    ReadOnly,
    /// The lane's requests are at their bound; try again after one was answered.
    Busy,
    /// No path is left and none may return, or `fast_io_fail_tmo` has passed.
    NoPath,
    /// Larger than what one command may carry on any path; split it.
    TooLarge,
    /// The buffer of a read has other holders: it must have one writer.
    SharedBuffer,
    /// The host is shutting down.
    ShuttingDown,
    /// Its caller went away before it was sent.
    Abandoned,
    /// It overlaps a write that was given up, and the lane of that write has not said for
    /// [`HANDOVER_WITHIN`](crate::barrier::HANDOVER_WITHIN) where it stands: its reactor hangs. Try again.
    HandoverOverdue,
    /// It overlaps a write that may still take effect, on a path whose loss no time ends (KATO 0): only a
    /// Cross-Controller Reset, or somebody who accepts the risk, frees the range. Reads go.
    Unfenced,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchNamespace => "there is no such namespace, or it was removed",
            Self::OutOfRange => "the blocks lie beyond the end of the namespace, or are none",
            Self::WrongLength => "the payload is not exactly the blocks asked for",
            Self::ReadOnly => "the namespace is write protected",
            Self::Busy => "too many requests wait already: try again after one has ended",
            Self::NoPath => "no path is left, or fast_io_fail_tmo has passed",
            Self::TooLarge => "it is larger than one command may be: split it",
            Self::SharedBuffer => "the buffer of a read has other holders",
            Self::ShuttingDown => "the host is shutting down",
            Self::Abandoned => "its caller went away before it was sent",
            Self::HandoverOverdue => {
                "it overlaps a write that was given up, and the reactor of that write hangs: try again, and look what \
                 keeps that reactor busy"
            }
            Self::Unfenced => {
                "it overlaps a write that may still take effect, and no time ends that (KATO 0): connect a controller \
                 that can reset the lost one, or accept the risk"
            }
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("done"),
            Self::Failed(status) => write!(f, "failed: {status}"),
            Self::NotSent(why) => write!(f, "not sent: {why}"),
            Self::Indeterminate { until: Some(at) } => {
                write!(f, "outcome unknown: it may take effect until {at}, and overlapping writes wait until then")
            }
            Self::Indeterminate { until: None } => {
                f.write_str("outcome unknown: it may still take effect, and nobody knows for how long")
            }
            Self::CacheLost { life } => {
                write!(f, "answered writes may be lost: the controller of {life} was lost with its cache")
            }
            Self::OutcomeUnknown => f.write_str("outcome unknown: it may have taken effect, and cannot any more"),
            Self::Poison { instances } => write!(
                f,
                "failed: the target ended {instances} instances while this command was outstanding on them, at last while \
                 nothing else was, and serves others: what it changes may have taken effect, and cannot any more; look for \
                 the fault in the target, at these blocks"
            ),
        }
    }
}

/// What a namespace looks like. Paths of one head must agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Bytes per block: 512 or 4096.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Metadata bytes per block. Only 0 is supported over TCP.
    pub metadata: u16,
    /// Write protected.
    pub read_only: bool,
}
