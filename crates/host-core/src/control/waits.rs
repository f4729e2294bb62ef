//! Everything that Control waits for. One list, so that "what are you waiting for?" always has an answer.

use crate::{CtrlId, LifeId};
use core::fmt;

/// Why there is a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The next attempt to connect; under the policy that leaves it to others, the next call for it.
    Reconnect(CtrlId),
    /// `ctrl_loss_tmo`: the controller is given up.
    ControllerLoss(CtrlId),
    /// `fast_io_fail_tmo`: settled I/O without another path fails.
    FastIoFail(CtrlId),
    /// TCP connect of the admin queue.
    TcpConnect(LifeId),
    /// ICResp and Connect of the admin queue.
    Handshake(LifeId),
    /// Everything from TCP connect to LIVE.
    ConnectTotal(LifeId),
    /// The next look at CSTS.
    Poll(LifeId),
    /// The oldest admin command must be answered.
    Admin(LifeId),
    /// A termination request to leave the admin queue.
    LastWords(LifeId),
    /// The next Keep Alive, or the end of the one under way.
    KeepAlive(LifeId),
    /// The answer to a probe that shall witness an I/O timeout.
    Probe(LifeId),
    /// The life is slow until it has been silent about it for so long.
    Slow(LifeId),
    /// What could not be read of a live controller is read again, or a path that lanes have put aside is tried again.
    Reread(LifeId),
    /// A live controller is looked at although it has told of nothing.
    Look(LifeId),
    /// An ANA group must leave the Change state.
    AnaTransition(LifeId),
    /// The drain of an orderly end.
    Drain(LifeId),
    /// The orderly shutdown of the controller.
    Shutdown(LifeId),
    /// The disable of a controller that is known to drain first.
    Disable(LifeId),
    /// Lanes must say that they stopped, are quiet, and hold the guards.
    LaneAnswer(LifeId),
    /// The admin socket of a condemned life is aborted, and again until it is known to be gone.
    LateGrace(LifeId),
    /// Something to do about a fence: a source to try, a log page to read.
    Fence(LifeId),
    /// The fence by time.
    Hold(LifeId),
    /// A forced end leaves a tombstone; so does a life that no time fences.
    Grace(LifeId),
    /// The sockets of an earlier process must be gone; it is told as long as they are not.
    OldSockets(LifeId),
    /// The store must say whether this process still speaks for its host; it is told as long as it does not.
    Owner(LifeId),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconnect(id) => write!(f, "{id}: next attempt to connect"),
            Self::ControllerLoss(id) => write!(f, "{id}: ctrl_loss_tmo"),
            Self::FastIoFail(id) => write!(f, "{id}: fast_io_fail_tmo"),
            Self::TcpConnect(id) => write!(f, "{id}: TCP connect"),
            Self::Handshake(id) => write!(f, "{id}: ICResp and Connect"),
            Self::ConnectTotal(id) => write!(f, "{id}: to become live"),
            Self::Poll(id) => write!(f, "{id}: next look at CSTS"),
            Self::Admin(id) => write!(f, "{id}: answer to an admin command"),
            Self::LastWords(id) => write!(f, "{id}: a termination request to leave"),
            Self::KeepAlive(id) => write!(f, "{id}: keep alive"),
            Self::Probe(id) => write!(f, "{id}: a witness for an I/O timeout"),
            Self::Slow(id) => write!(f, "{id}: no longer slow"),
            Self::Reread(id) => write!(f, "{id}: next attempt to read its namespaces and ANA states"),
            Self::Look(id) => write!(f, "{id}: next look at its namespaces and ANA states"),
            Self::AnaTransition(id) => write!(f, "{id}: end of the ANA Change state"),
            Self::Drain(id) => write!(f, "{id}: drain"),
            Self::Shutdown(id) => write!(f, "{id}: controller shutdown"),
            Self::Disable(id) => write!(f, "{id}: the controller to be disabled"),
            Self::LaneAnswer(id) => write!(f, "{id}: lanes to stop, to be quiet and to hold the guards"),
            Self::LateGrace(id) => write!(f, "{id}: late completions on the admin queue"),
            Self::Fence(id) => write!(f, "{id}: next step of the fence"),
            Self::Hold(id) => write!(f, "{id}: fence by time"),
            Self::Grace(id) => write!(f, "{id}: a fence, before it is given up"),
            Self::Owner(id) => write!(f, "{id}: whether this process is still this host"),
            Self::OldSockets(id) => write!(f, "{id}: sockets of an earlier process to be gone"),
        }
    }
}
