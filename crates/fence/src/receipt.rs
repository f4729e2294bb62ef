//! Fence receipts: why a life counts as over, in data.
//!
//! "The data is safe" is a claim; a receipt is what it stands on. It names the life, the proof (or the assumption), who
//! gave it, what was in doubt and how long it was held, so that a person can check the arithmetic afterwards.

use crate::{CcrAttempts, ConnectionEnd, CtrlId, DownReason, HoldTerms, LaneId, LifeId, SuspectCommand, Termination};
use alloc::string::String;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::nqn::Nqn;

/// Names one life of one controller for its target.
pub use interlock_wire::ccr::Instance as Identity;

/// What ended a life's uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// CCR answered Immediate Reset Successful.
    Immediate,
    /// CCR accepted; its log page then said success.
    Log,
    /// The controller was disabled by a target known to drain first.
    DrainedDisable,
    /// The time that the target states has passed.
    Time,
    /// A time has passed that rests on an assumed quiesce time or Keep Alive Timeout: no proof. The receipt says which.
    Assumed,
    /// Not fenced at all: retried at once by policy.
    Legacy,
    /// Not fenced at all: somebody who may know more than this host said that it is over.
    AcceptedRisk,
}

impl Method {
    /// In one word, as receipts and counters print it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Log => "log",
            Self::DrainedDisable => "drained-disable",
            Self::Time => "time",
            Self::Assumed => "assumed",
            Self::Legacy => "legacy",
            Self::AcceptedRisk => "accepted-risk",
        }
    }

    /// True if the target itself vouches for it.
    #[must_use]
    pub const fn is_proof(self) -> bool {
        !matches!(self, Self::Assumed | Self::Legacy | Self::AcceptedRisk)
    }
}

/// How a life was lost, or why it was ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// A Keep Alive had no answer for half of KATO.
    KeepAlive,
    /// An admin command had no answer in time.
    AdminTimeout(&'static str),
    /// The admin connection is gone.
    AdminConnection(DownReason),
    /// An I/O queue pair is gone; the loss of a queue ends the association.
    Queue {
        /// Where.
        lane: LaneId,
        /// Which.
        qid: u16,
        /// What happened.
        why: DownReason,
    },
    /// I/O had no answer in time, and a second witness says that the path is at fault.
    IoTimeout(Witness),
    /// The controller sent what it must not.
    Protocol(String),
    /// The controller says on its admin queue that this host broke the protocol.
    Terminated(Termination),
    /// An ANA group stayed in the Change state for twice ANATT.
    AnaTransition,
    /// Someone asked for a reset, and commands were left unanswered after the drain.
    Reset,
    /// Someone asked for a disconnect, and commands were left unanswered after the drain.
    Disconnect,
    /// The host ends, and commands were left unanswered after the drain.
    Shutdown,
    /// It belongs to an earlier process of this host, which ended without ending it: what it left unanswered is not
    /// known.
    Predecessor,
}

impl Loss {
    /// True if it is the end that somebody asked for.
    #[must_use]
    pub const fn is_asked_for(&self) -> bool {
        matches!(self, Self::Reset | Self::Disconnect | Self::Shutdown)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeepAlive => f.write_str("failed nvme_keep_alive_end_io: no answer to Keep Alive for half of KATO"),
            Self::AdminTimeout(what) => write!(f, "no answer to {what} within its limit"),
            Self::AdminConnection(why) => write!(f, "admin queue: {why}"),
            Self::Queue { lane, qid, why } => write!(f, "queue {qid} on {lane}: {why}"),
            Self::IoTimeout(witness) => write!(f, "I/O timeout, and {witness}"),
            Self::Protocol(what) => write!(f, "protocol violation: {what}"),
            Self::Terminated(said) => said.fmt(f),
            Self::AnaTransition => f.write_str("ANATT timeout, resetting controller"),
            Self::Reset => f.write_str("resetting controller"),
            Self::Disconnect => f.write_str("removing controller"),
            Self::Shutdown => f.write_str("the host ends"),
            Self::Predecessor => f.write_str("an earlier process of this host left it"),
        }
    }
}

/// Who ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The target: it closed or reset a connection, or said that it is broken.
    Target,
    /// Nobody: there was no answer any more.
    Silence,
    /// This host, or somebody who asked for it.
    Host,
}

impl Loss {
    /// Who ended the instance.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::AdminConnection(why) | Self::Queue { why, .. } => why.cause(),
            Self::Protocol(_) | Self::Terminated(_) => Cause::Target,
            Self::KeepAlive | Self::AdminTimeout(_) | Self::IoTimeout(_) => Cause::Silence,
            Self::AnaTransition | Self::Reset | Self::Disconnect | Self::Shutdown | Self::Predecessor => Cause::Host,
        }
    }
}

impl DownReason {
    const fn cause(&self) -> Cause {
        match self {
            Self::Lost(ConnectionEnd::Closed | ConnectionEnd::Reset) | Self::Protocol(_) | Self::Terminated(_) => {
                Cause::Target
            }
            Self::Lost(ConnectionEnd::Aborted(_)) => Cause::Host,
            Self::Lost(ConnectionEnd::Failed(_)) | Self::Unreachable(_) | Self::Refused { .. } | Self::TimedOut(_) => {
                Cause::Silence
            }
        }
    }
}

/// What turned suspicion into condemnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Witness {
    /// Another path of the namespace answered I/O that was submitted later.
    OtherPathAnswers,
    /// The admin queue of the controller did not answer a probe either.
    AdminSilent,
    /// None: the path was silent for `io_hard`. Paths go one after the other, a hold apart, but for the last one.
    HardLimit,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherPathAnswers => "another path answers later I/O",
            Self::AdminSilent => "the admin queue is silent too",
            Self::HardLimit => "the hard limit has passed",
        })
    }
}

/// Who reset the lost controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FencedBy {
    /// Its configured path.
    pub ctrl: CtrlId,
    /// The life through which CCR was sent.
    pub life: LifeId,
    /// Its name for the target.
    pub identity: Identity,
    /// Where it was reached.
    pub addr: Option<SocketAddr>,
}

/// Proof, or named assumption, that a life can execute nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Counts receipts of this host from 1.
    pub number: u64,
    /// The lost path.
    pub ctrl: CtrlId,
    /// The fenced life.
    pub life: LifeId,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// Its name for the target, as snapped when it became live.
    pub identity: Identity,
    /// Where it was reached.
    pub addr: Option<SocketAddr>,
    /// What a hold by time is made of for this life. `None` if it never said so.
    pub terms: Option<HoldTerms>,
    /// What the claim stands on.
    pub method: Method,
    /// Through whom, for CCR.
    pub source: Option<FencedBy>,
    /// Commands in doubt when it was condemned. Of [`Loss::Predecessor`] the number is not known, and stays 0.
    pub in_doubt: usize,
    /// How many of them were answered late, before the fence.
    pub answered_late: usize,
    /// Commands that were on the lost path and went on at once: not sent, or without an effect that can come late. Of
    /// [`Loss::Predecessor`] the number is not known, and stays 0.
    pub settled: usize,
    /// How the loss was detected.
    pub loss: Loss,
    /// When.
    pub detected: Instant,
    /// From here on nothing of the life could leave the host. `None` if the proof came first.
    pub t0: Option<Instant>,
    /// When the proof arrived, or the time ran out.
    pub fenced: Instant,
    /// When the held commands were let go: after the proof, and after every lane had confirmed its guards.
    pub released: Instant,
    /// When it would have been over by time alone. `None`: t0 not reached, or no bound known.
    pub deadline: Option<Instant>,
    /// The quiesce time that was assumed because the target states none.
    pub assumed_cqt: Option<Duration>,
    /// The Keep Alive Timeout that was assumed because the target does not report the one in force.
    pub assumed_kato: Option<Duration>,
    /// The CCR commands sent for it.
    pub attempts: CcrAttempts,
    /// The command that the life carried alone when it was lost, because others had been lost with it before.
    pub suspect: Option<SuspectCommand>,
}

impl Receipt {
    /// How long commands in doubt were held.
    #[must_use]
    pub fn held(&self) -> Duration {
        if self.method == Method::Legacy { Duration::ZERO } else { self.released - self.detected }
    }

    /// The same in milliseconds, to the nearest. Counters add up this number and receipts state it: whoever adds up receipts
    /// gets what the counters say.
    #[must_use]
    pub fn held_ms(&self) -> u64 {
        u64::try_from((self.held() + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a life that ended unfenced keeps from being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guarded {
    /// The ranges of so many commands.
    Commands(usize),
    /// Every range of every namespace of its subsystem: what an earlier process had in doubt is not known.
    Subsystem,
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commands(count) => write!(f, "the ranges of {count} commands"),
            Self::Subsystem => f.write_str("all of its subsystem"),
        }
    }
}

/// A life that ended unfenced: what it may still change stays guarded although nobody waits for its commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tombstone {
    /// The configured path it belonged to.
    pub ctrl: CtrlId,
    /// The life.
    pub life: LifeId,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// Its name for the target.
    pub identity: Identity,
    /// What may not be written meanwhile. Reads flow.
    pub guarded: Guarded,
    /// When it ends by time. `None`: only a CCR ends it, or somebody who accepts the risk; or, of an earlier process, its
    /// sockets are not known to be gone yet.
    pub until: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ended_an_instance_is_read_from_its_loss() {
        let lost = |end| DownReason::Lost(end);
        for (loss, cause) in [
            (Loss::AdminConnection(lost(ConnectionEnd::Reset)), Cause::Target),
            (Loss::Queue { lane: LaneId(0), qid: 1, why: lost(ConnectionEnd::Closed) }, Cause::Target),
            (Loss::AdminConnection(DownReason::Terminated(Termination { fes: 1, fei: 0 })), Cause::Target),
            (Loss::AdminConnection(lost(ConnectionEnd::Failed("timed out".into()))), Cause::Silence),
            (Loss::AdminConnection(lost(ConnectionEnd::Aborted("x"))), Cause::Host),
            (Loss::Protocol("CFS".into()), Cause::Target),
            (Loss::KeepAlive, Cause::Silence),
            (Loss::AdminConnection(DownReason::TimedOut("x".into())), Cause::Silence),
            (Loss::IoTimeout(Witness::HardLimit), Cause::Silence),
            (Loss::Reset, Cause::Host),
            (Loss::AnaTransition, Cause::Host),
        ] {
            assert_eq!(loss.cause(), cause, "{loss}");
        }
    }
}
