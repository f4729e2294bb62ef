//! What a controller's queue is told and tells.

#[cfg(doc)]
use crate::Sink;
use alloc::vec::Vec;
#[cfg(doc)]
use interlock_wire::pdu::Fes;
use interlock_wire::sqe::Sqe;

/// How a queue behaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueConfig {
    /// Grant header digests to a host that asks for them.
    pub hdgst_allowed: bool,
    /// Grant data digests to a host that asks for them.
    pub ddgst_allowed: bool,
    /// Most bytes of data in one H2CData PDU: a multiple of 4, at least 4096.
    pub maxh2cdata: u32,
    /// Most bytes of in-capsule data of an I/O command, as IOCCSZ says. Fabrics commands and those of an admin queue may
    /// bring 8192 whatever this says.
    pub in_capsule_max: u32,
    /// Most bytes of data of one command (MDTS in bytes). A larger one is answered with Invalid Field in Command.
    pub max_transfer: u32,
    /// Most commands at once, whatever SQSIZE the host asks for. At least 1.
    pub slots: u16,
}

/// The data of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// None.
    None,
    /// The host sends data: answer with `receive` (or refuse with `respond`).
    FromHost {
        /// Bytes, > 0.
        len: u32,
        /// It follows in the capsule: nothing else is read until this is answered.
        in_capsule: bool,
    },
    /// The host wants data: give it to `respond`.
    ToHost {
        /// Bytes, > 0.
        len: u32,
    },
}

/// What happened on a queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The connection is initialised.
    Ready {
        /// Header digests are on.
        hdgst: bool,
        /// Data digests are on.
        ddgst: bool,
    },
    /// A command came. Its flags and SGL are those TCP knows; others were answered already.
    Command {
        /// Names it until `Sent`.
        slot: u16,
        /// The submission queue entry.
        sqe: Sqe,
        /// Its data.
        transfer: Transfer,
    },
    /// All data of a command came.
    Arrived {
        /// Which command.
        slot: u16,
        /// The data, for [`Sink::Bytes`].
        data: Vec<u8>,
        /// False if a data digest did not match: answer with Transient Transport Error.
        digest_ok: bool,
    },
    /// The whole response was given to the kernel: the buffers of the command are free, its slot is used again.
    Sent {
        /// Which command.
        slot: u16,
    },
    /// The host terminates the connection: close it. Nothing more is sent or read. [`Event::Sent`] follows for every answer that
    /// was not given yet: its buffers are free once the driver has forgotten what it polled.
    TermReq {
        /// Fatal error status as received; see [`Fes::from_u16`].
        fes: u16,
        /// Fatal error information.
        fei: u32,
    },
}
