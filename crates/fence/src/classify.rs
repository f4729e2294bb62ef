//! The choke point: what happens to a command that has no good answer.
//!
//! Everything a lane ever sends again passes through here. The function is pure and small enough to be read at once;
//! its table test names every row. It rests on one distinction: a command is *settled* if nothing of it can take effect
//! any more (not one byte was given away, or it was answered, or it has no effect), and *in doubt* otherwise. A
//! settled command may go to another path at once. A command in doubt waits for its life to be fenced.

use crate::Op;
use interlock_base::Instant;
use interlock_wire::status::Status;

/// When may a command of a lost life be repeated on another path?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FencePolicy {
    /// Only after the life was fenced, or an assumption that the receipt names has run out.
    #[default]
    Strict,
    /// At once, as today's hosts do. A stale write may follow; counted as `unsafe_failovers`.
    Legacy,
}

/// An answered command is sent again on the path that answered so many times at most. The default of Linux
/// (`nvme_core.max_retries`).
pub const MAX_SAME_PATH_RETRIES: u8 = 5;

/// What is known about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// Not one byte of it was given to the kernel.
    Unsent,
    /// At least its first byte was given to the kernel, and no answer came. How much of it left does not matter: a
    /// target may execute what it has.
    Unanswered,
    /// Its completion came.
    Answered(Status),
}

/// How its life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// In use.
    Live,
    /// Nothing more is sent on it, but it may still execute what it has.
    Condemned,
    /// It can execute nothing any more.
    Fenced,
    /// Given up without a fence; what it has it may execute until then (`None`: nobody knows).
    GivenUp {
        /// When it cannot any more at the latest.
        until: Option<Instant>,
    },
}

/// One command to decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// What it does.
    pub op: Op,
    /// What is known about it.
    pub provenance: Provenance,
    /// How its life stands.
    pub standing: Standing,
    /// When it may be repeated.
    pub policy: FencePolicy,
    /// True if nobody waits for it any more.
    pub abandoned: bool,
    /// How often its request was already sent again after an error.
    pub retries: u8,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It is waited for.
    Wait,
    /// The request ends well.
    Complete,
    /// The request ends with this status.
    Fail(Status),
    /// Sent again, on the same path if that is usable, after the delay that the answer asks for. Counted as a retry.
    RetrySamePath {
        /// Command Retry Delay: 0 at once, else which of the controller's three delays.
        crd: u8,
    },
    /// Settled, or fenced: sent again, on another path if there is one. Counted as a failover.
    RetryElsewhere,
    /// In doubt, and sent again all the same, as `FencePolicy::Legacy` demands. Counted as an unsafe failover.
    RetryUnsafe,
    /// In doubt: nothing is done until its life is fenced, and its range is guarded.
    Hold,
    /// Settled, and nobody wants it: the request ends as not sent.
    Drop,
    /// The request ends: it may have taken effect and may still do so until then.
    Indeterminate {
        /// When it cannot any more at the latest.
        until: Option<Instant>,
    },
    /// The request ends: it may have taken effect and cannot any more.
    OutcomeUnknown,
}

/// Decides. Nothing else in a lane may send anything twice.
#[must_use]
#[inline]
pub const fn classify(case: Case) -> Disposition {
    match case.provenance {
        Provenance::Answered(status) => classify_answer(case, status),
        Provenance::Unsent => match case.standing {
            Standing::Live => Disposition::Wait,
            _ if case.abandoned => Disposition::Drop,
            _ => Disposition::RetryElsewhere,
        },
        Provenance::Unanswered if !case.op.changes_media() => match case.standing {
            Standing::Live => Disposition::Wait,
            _ if case.abandoned => Disposition::Drop,
            _ => Disposition::RetryElsewhere,
        },
        Provenance::Unanswered => match (case.standing, case.policy) {
            (Standing::Live, _) => Disposition::Wait,
            // Whatever the policy: an abandoned write is never sent again.
            (Standing::Condemned, FencePolicy::Legacy) if !case.abandoned => Disposition::RetryUnsafe,
            (Standing::Condemned, _) => Disposition::Hold,
            (Standing::Fenced, _) if case.abandoned => Disposition::OutcomeUnknown,
            (Standing::Fenced, _) => Disposition::RetryElsewhere,
            (Standing::GivenUp { until }, _) => Disposition::Indeterminate { until },
        },
    }
}

/// Whether a Flush that was answered so may have lost what it was to make durable.
///
/// It has not if the controller did not begin it: the path could not be used, the command was refused, or the controller asks for it
/// later. Every other failure may be the only report of a loss, with Do Not Retry or without (NVM Express Base Specification,
/// "Status Field").
#[must_use]
pub const fn flush_may_have_lost(status: Status) -> bool {
    const NOT_BEGUN: [Status; 19] = [
        Status::INVALID_OPCODE,
        Status::INVALID_FIELD,
        Status::CID_CONFLICT,
        Status::ABORT_REQUESTED,
        Status::ABORTED_SQ_DELETION,
        Status::FAILED_FUSED,
        Status::MISSING_FUSED,
        Status::INVALID_NAMESPACE,
        Status::COMMAND_SEQUENCE_ERROR,
        Status::OPERATION_DENIED,
        Status::ABORTED_PREEMPT,
        Status::SANITIZE_IN_PROGRESS,
        Status::NAMESPACE_WRITE_PROTECTED,
        Status::COMMAND_INTERRUPTED,
        Status::TRANSIENT_TRANSPORT_ERROR,
        Status::PROHIBITED_BY_LOCKDOWN,
        Status::NAMESPACE_NOT_READY,
        Status::RESERVATION_CONFLICT,
        Status::FORMAT_IN_PROGRESS,
    ];
    let mut at = 0;
    while at < NOT_BEGUN.len() {
        if status.is(NOT_BEGUN[at]) {
            return false;
        }
        at += 1;
    }
    !status.is_success() && !status.is_path_related()
}

/// An answer ends all doubt about the command it answers, whatever became of its life since.
#[inline]
const fn classify_answer(case: Case, status: Status) -> Disposition {
    if status.is_success() {
        Disposition::Complete
    } else if status.dnr() || case.abandoned || status.is(Status::COMPARE_FAILURE) {
        // That a comparison found a difference is what was asked, with Do Not Retry or without.
        Disposition::Fail(status)
    } else if matches!(case.op, Op::Flush) && flush_may_have_lost(status) {
        // A device reports a loss once. A second Flush would succeed over it.
        Disposition::Fail(status)
    } else if status.is_ana() {
        // The path is not chosen again before its ANA state was read, so this ends without a limit of its own.
        Disposition::RetryElsewhere
    } else if case.retries >= MAX_SAME_PATH_RETRIES {
        Disposition::Fail(status)
    } else if status.is_path_related() || !matches!(case.standing, Standing::Live) {
        Disposition::RetryElsewhere
    } else {
        Disposition::RetrySamePath { crd: status.crd() }
    }
}
