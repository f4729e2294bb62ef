//! What a host's queue is told and tells.

use crate::DataError;
#[cfg(doc)]
use crate::Sink;
use alloc::vec::Vec;
#[cfg(doc)]
use interlock_wire::pdu::Fes;
use interlock_wire::sqe::Cqe;

/// Most commands outstanding on one queue: leaves four bits of the 16-bit command identifier for its generation.
pub const MAX_DEPTH: u16 = 4095;

/// How to set up a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueConfig {
    /// Most commands outstanding at once: the 0's based SQSIZE of the Connect command. 1..=[`MAX_DEPTH`].
    pub depth: u16,
    /// Ask for header digests. A controller that declines is refused.
    pub hdgst: bool,
    /// Ask for data digests. A controller that declines is refused.
    pub ddgst: bool,
    /// Most bytes of data sent inside a command capsule (Fabrics commands: up to 8192 whatever this says).
    pub in_capsule: u32,
}

/// All `depth` slots are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the queue has as many commands outstanding as its size allows: submit again after a completion")]
pub struct Full;

/// What happened on a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The connection is initialised; commands flow.
    Ready {
        /// Most bytes of data the controller accepts in one H2CData PDU.
        maxh2cdata: u32,
    },
    /// A command was answered. Its buffers are free: no byte of them waits to be sent or placed.
    Completed {
        /// Of `submit`.
        token: u64,
        /// The completion queue entry; all zero but the CID if the controller answered by the SUCCESS flag.
        cqe: Cqe,
        /// Control data received, for [`Sink::Bytes`].
        data: Vec<u8>,
        /// Why the data is no good although the controller completed the command.
        error: Option<DataError>,
    },
    /// The controller terminates the connection: close it. Nothing more is sent or read.
    TermReq {
        /// Fatal error status as received; see [`Fes::from_u16`].
        fes: u16,
        /// Fatal error information.
        fei: u32,
    },
}

/// Whether the controller may know of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// Not one byte of it was given to the kernel.
    Nothing,
    /// At least its first byte was.
    Begun,
}

/// A command without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outstanding {
    /// Of `submit`.
    pub token: u64,
    /// Command identifier on this queue.
    pub cid: u16,
    /// Opcode.
    pub opcode: u8,
    /// Whether the controller may know of it.
    pub sent: Sent,
    /// Counts submissions on this queue: smaller was earlier.
    pub order: u64,
}
