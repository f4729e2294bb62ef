//! Everything that Control waits for. One list, so that "what are you waiting for?" always has an answer.

use crate::{CtrlId, LaneId, LifeId};
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
    /// A controller that tells too much is asked for its next event.
    Event(LifeId),
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
    /// A step with commands that instances were lost with: the next turn of one, or the end of a turn.
    Suspects,
    /// The store must say whether this process still speaks for its host; it is told as long as it does not.
    Owner(LifeId),
}

/// Whose wait it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitOwner {
    /// A controller's, whatever its life.
    Controller(CtrlId),
    /// One life's.
    Life(LifeId),
    /// A lane's.
    Lane(LaneId),
    /// The host's, whatever its controllers.
    Host,
}

impl Why {
    /// Whose wait it is.
    #[must_use]
    pub const fn owner(self) -> WaitOwner {
        match self {
            Self::Reconnect(id) | Self::ControllerLoss(id) | Self::FastIoFail(id) => WaitOwner::Controller(id),
            Self::TcpConnect(id)
            | Self::Handshake(id)
            | Self::ConnectTotal(id)
            | Self::Poll(id)
            | Self::Admin(id)
            | Self::LastWords(id)
            | Self::KeepAlive(id)
            | Self::Probe(id)
            | Self::Slow(id)
            | Self::Reread(id)
            | Self::Event(id)
            | Self::Look(id)
            | Self::AnaTransition(id)
            | Self::Drain(id)
            | Self::Shutdown(id)
            | Self::Disable(id)
            | Self::LaneAnswer(id)
            | Self::LateGrace(id)
            | Self::Fence(id)
            | Self::Hold(id)
            | Self::Grace(id)
            | Self::Owner(id)
            | Self::OldSockets(id) => WaitOwner::Life(id),
            Self::Suspects => WaitOwner::Host,
        }
    }

    /// What is waited for, in words that name no owner.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Reconnect(_) => "next attempt to connect",
            Self::ControllerLoss(_) => "ctrl_loss_tmo",
            Self::FastIoFail(_) => "fast_io_fail_tmo",
            Self::TcpConnect(_) => "TCP connect",
            Self::Handshake(_) => "ICResp and Connect",
            Self::ConnectTotal(_) => "to become live",
            Self::Poll(_) => "next look at CSTS",
            Self::Admin(_) => "answer to an admin command",
            Self::LastWords(_) => "a termination request to leave",
            Self::KeepAlive(_) => "keep alive",
            Self::Probe(_) => "a witness for an I/O timeout",
            Self::Slow(_) => "no longer slow",
            Self::Reread(_) => "next attempt to read its namespaces and ANA states",
            Self::Event(_) => "next request for its events, of which it sends too many",
            Self::Look(_) => "next look at its namespaces and ANA states",
            Self::AnaTransition(_) => "end of the ANA Change state",
            Self::Drain(_) => "drain",
            Self::Shutdown(_) => "controller shutdown",
            Self::Disable(_) => "the controller to be disabled",
            Self::LaneAnswer(_) => "lanes to stop, to be quiet and to hold the guards",
            Self::LateGrace(_) => "late completions on the admin queue",
            Self::Fence(_) => "next step of the fence",
            Self::Hold(_) => "fence by time",
            Self::Grace(_) => "a fence, before it is given up",
            Self::Owner(_) => "whether this process is still this host",
            Self::Suspects => "suspect commands: the next turn of one alone on an instance, or the end of a turn",
            Self::OldSockets(_) => "sockets of an earlier process to be gone",
        }
    }
}

impl fmt::Display for WaitOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(id) => id.fmt(f),
            Self::Life(id) => id.fmt(f),
            Self::Lane(id) => id.fmt(f),
            Self::Host => f.write_str("host"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.owner(), self.what())
    }
}
