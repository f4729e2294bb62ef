//! Why a queue pair is down. Each reason is a value; sentences are made from it, and never read back.

use alloc::string::String;
use core::fmt;

/// Why a queue pair is down, or was never up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// The TCP connection could not be made: refused, unreachable, timed out.
    Unreachable(String),
    /// The connection was up, and ended.
    Lost(ConnectionEnd),
    /// The peer broke the protocol.
    Protocol(String),
    /// The peer says that this host broke the protocol (`C2HTermReq`).
    Terminated(Termination),
    /// Connect or a later step was answered with an error. `permanent` if Do Not Retry was set.
    Refused {
        /// In words.
        text: String,
        /// Do Not Retry.
        permanent: bool,
    },
    /// A step had no answer within its limit.
    TimedOut(String),
}

/// What kind of failure an attempt to connect met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectFailure {
    /// The name has no address, or could not be looked up.
    Name,
    /// No TCP connection could be made.
    Unreachable,
    /// A connection ended before the controller was ready.
    Lost,
    /// The peer broke the protocol, or says that this host did.
    Protocol,
    /// The target refuses, or answered a step with an error.
    Refused,
    /// A step had no answer within its limit.
    TimedOut,
    /// What the controller states cannot be used: too few queues, no Keep Alive, or it contradicts another one.
    Unsuitable,
    /// The record of the instance could not be written down.
    Record,
}

impl From<&DownReason> for ConnectFailure {
    fn from(why: &DownReason) -> Self {
        match why {
            DownReason::Unreachable(_) => Self::Unreachable,
            DownReason::Lost(_) => Self::Lost,
            DownReason::Protocol(_) | DownReason::Terminated(_) => Self::Protocol,
            DownReason::Refused { .. } => Self::Refused,
            DownReason::TimedOut(_) => Self::TimedOut,
        }
    }
}

/// How a connection that was up ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConnectionEnd {
    /// The peer closed it.
    Closed,
    /// The peer reset it.
    Reset,
    /// The transport gave it up, in the kernel's words: what was sent was not acknowledged in time, or the network failed.
    Failed(String),
    /// This host ended it, for this reason.
    Aborted(&'static str),
}

/// What a peer says that ends a connection with a termination request (NVMe/TCP, "Host Terminate Connection Request and
/// Controller Terminate Connection Request").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Termination {
    /// Fatal Error Status.
    pub fes: u16,
    /// Fatal Error Information: where in the PDU the error is.
    pub fei: u32,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(text) => write!(f, "cannot connect: {text}"),
            Self::Lost(end) => write!(f, "connection lost: {end}"),
            Self::Protocol(text) => write!(f, "protocol violation: {text}"),
            Self::Terminated(said) => said.fmt(f),
            Self::Refused { text, .. } => write!(f, "refused: {text}"),
            Self::TimedOut(text) => write!(f, "timed out: {text}"),
        }
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the peer closed the connection",
            Self::Reset => "connection reset by peer",
            Self::Failed(text) => text,
            Self::Aborted(why) => why,
        })
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fes, fei } = self;
        write!(
            f,
            "the peer ended the connection: it says that this host broke the protocol (FES {fes:02x}h, FEI {fei:#x})"
        )
    }
}
