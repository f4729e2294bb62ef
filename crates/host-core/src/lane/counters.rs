//! What a lane counts. Nothing here ever decreases (`counters_never_decrease`); a reader that wants a fresh start
//! keeps a baseline. Names and moments are those of Linux' `diag` attributes where Linux has them.

use crate::{CtrlId, HeadId};

/// Counters of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LaneCounters {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests ended.
    pub done: u64,
    /// Commands put on a queue, retries included.
    pub commands: u64,
    /// Commands that became in doubt and were held.
    pub held: u64,
    /// Held commands released after their fence.
    pub released: u64,
    /// Commands in doubt that were sent again at once because the policy is legacy.
    pub unsafe_failovers: u64,
    /// Completions that came for commands of condemned lives, decided by control.
    pub late_completions: u64,
    /// Completions that came for commands the lane no longer waited for: counted and dropped.
    pub stray_completions: u64,
    /// Requests that waited because their range was guarded.
    pub guarded: u64,
    /// Requests refused because the lane was at its bound.
    pub refused_busy: u64,
    /// Requests refused because their range is guarded by what no time ends.
    pub refused_unfenced: u64,
    /// Sent requests that were abandoned.
    pub abandoned: u64,
    /// I/O timeouts reported as suspicions.
    pub timeouts: u64,
}

/// Counters of one namespace on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadCounters {
    /// The namespace.
    pub head: HeadId,
    /// `io_requeue_no_usable_path_count`: no path was usable but one may return; counted at every attempt.
    pub requeue_no_usable_path: u64,
    /// `io_fail_no_available_path_count`: no path was usable and none may return.
    pub fail_no_available_path: u64,
}

impl HeadCounters {
    pub(super) const fn new(head: HeadId) -> Self {
        Self { head, requeue_no_usable_path: 0, fail_no_available_path: 0 }
    }
}

/// Counters of one path on one lane: a namespace through a configured controller, over all of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathCounters {
    /// The namespace.
    pub head: HeadId,
    /// The controller.
    pub ctrl: CtrlId,
    /// `command_retries_count`: sent again on this path after an error.
    pub retries: u64,
    /// `command_error_count`: requests that ended with an error status from this path.
    pub errors: u64,
    /// `multipath_failover_count`: requests moved away because this path failed them.
    pub failovers: u64,
    /// Of these, moved while in doubt (legacy).
    pub unsafe_failovers: u64,
    /// Reads answered well.
    pub reads: u64,
    /// Writes, write zeroes and discards answered well.
    pub writes: u64,
    /// Compares answered, with equal blocks or with different ones.
    pub compares: u64,
    /// Flushes answered well.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of payload written.
    pub written_bytes: u64,
    /// Time from queue to answer over all reads answered, in ns.
    pub read_nanos: u64,
    /// The same over everything else.
    pub write_nanos: u64,
}

impl PathCounters {
    pub(super) const fn new(head: HeadId, ctrl: CtrlId) -> Self {
        Self {
            head,
            ctrl,
            retries: 0,
            errors: 0,
            failovers: 0,
            unsafe_failovers: 0,
            reads: 0,
            writes: 0,
            compares: 0,
            flushes: 0,
            read_bytes: 0,
            written_bytes: 0,
            read_nanos: 0,
            write_nanos: 0,
        }
    }
}
