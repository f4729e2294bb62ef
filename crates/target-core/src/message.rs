//! What `Control` and its lanes say to each other.
//!
//! A driver carries these in order per pair and after any delay; the simulator carries the same types. A lane that was
//! not reached yet is a case of the protocol, not an accident: nothing is reported as fenced before every lane has
//! answered [`ToControl::Quiesced`].

use crate::namespace::Namespaces;
use crate::{By, ConnId, Fault, Ghost, LaneId, Life, LifeId, Loss, Payer, PortId, Report, SubsystemId};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Instant;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

/// From a lane to `Control`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToControl {
    /// A connection sent its Connect. Answered by `Admit` or `Answer`.
    Connect {
        /// The connection.
        conn: ConnId,
        /// Names the command on it.
        slot: u16,
        /// Where it came in.
        port: PortId,
        /// The target's end of it.
        local: SocketAddr,
        /// Who pays for it.
        payer: Payer,
        /// The command.
        sqe: Sqe,
        /// Its data.
        data: Vec<u8>,
        /// The command had not come in before.
        at: Instant,
    },
    /// A command on an admin queue. Answered by `Answer`; Asynchronous Event Requests late or never.
    Admin {
        /// The connection.
        conn: ConnId,
        /// Names the command on it.
        slot: u16,
        /// The command.
        sqe: Sqe,
        /// What the host sent with it.
        data: Vec<u8>,
        /// How many bytes the host wants.
        room: u32,
        /// The command had not come in before.
        at: Instant,
    },
    /// A connection that had sent a Connect is over.
    Gone {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Loss,
    },
    /// A command came in on an I/O queue of this life, the first since the last `Listen`.
    Traffic {
        /// The life.
        life: LifeId,
        /// When the command came.
        at: Instant,
    },
    /// So many media-changing commands of this life now stall on this lane.
    Held {
        /// The life.
        life: LifeId,
        /// How many.
        count: u32,
    },
    /// A media-changing command stalls on this lane until somebody says so; without a ghost it does so no more.
    Holding {
        /// The order in which it came.
        order: u64,
        /// The command.
        ghost: Option<Ghost>,
    },
    /// What happened on this lane since it was asked last.
    Reported {
        /// The last question that was there by then.
        ticket: u64,
        /// What happened.
        report: Report,
    },
    /// On this lane nothing of this life can change media any more: what stalled is cancelled, what was given to a
    /// namespace has completed.
    Quiesced {
        /// The life.
        life: LifeId,
        /// Stalled media-changing commands that were cancelled.
        cancelled: u32,
    },
}

/// What a connection becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The admin queue of a controller.
    Admin,
    /// An I/O queue of a life.
    Io {
        /// The life.
        life: Life,
        /// Its number in the controller.
        qid: u16,
        /// From this moment on no media operation of the life begins, unless a [`ToLane::Lease`] says otherwise; none: the
        /// host keeps nothing alive.
        until: Option<Instant>,
    },
}

/// From `Control` to a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToLane {
    /// The namespaces of a subsystem are now these.
    Namespaces {
        /// Which subsystem.
        subsystem: SubsystemId,
        /// All of them.
        namespaces: Arc<Namespaces>,
    },
    /// The Connect in `slot` succeeds.
    Admit {
        /// The connection.
        conn: ConnId,
        /// The command.
        slot: u16,
        /// What the connection becomes.
        role: Role,
        /// Size of the submission queue, 0's based.
        sqsize: u16,
        /// Whether SQHD is maintained.
        sq_flow_control: bool,
        /// DW0 of the answer.
        dw0: u32,
    },
    /// The answer to a command.
    Answer {
        /// The connection.
        conn: ConnId,
        /// The command.
        slot: u16,
        /// Its status.
        status: Status,
        /// DW0.
        dw0: u32,
        /// DW1.
        dw1: u32,
        /// What the host gets: nothing, or as much as it wanted, of which zeros at the end may be left out.
        data: Vec<u8>,
    },
    /// A command is over without an answer: its controller was reset or shut down.
    Forget {
        /// The connection.
        conn: ConnId,
        /// The command.
        slot: u16,
    },
    /// The connection is over: abort it.
    End {
        /// The connection.
        conn: ConnId,
        /// Why.
        why: Loss,
    },
    /// The I/O connections of this life are over. What it holds inside may still execute.
    Cut {
        /// The life.
        life: LifeId,
        /// Why.
        why: Loss,
        /// From this moment on no media operation of the life begins, if it was not an earlier one.
        until: Option<Instant>,
    },
    /// The host of this life was heard, or changed its Keep Alive Timeout.
    Lease {
        /// The life.
        life: LifeId,
        /// From this moment on no media operation of the life begins; none: the host keeps nothing alive.
        until: Option<Instant>,
    },
    /// From now on refuse to execute anything of this life; answer `Quiesced` when its last media operation is over.
    Quiesce {
        /// The life.
        life: LifeId,
        /// What ends it.
        by: By,
    },
    /// Report the next command of this life.
    Listen {
        /// The life.
        life: LifeId,
        /// Only commands after this moment count.
        since: Instant,
    },
    /// Say what happened since this was asked last.
    Report {
        /// Names the question: later ones have greater numbers.
        ticket: u64,
    },
    /// What [`ToControl::Holding`] said on another lane.
    Holding {
        /// Where.
        lane: LaneId,
        /// The order in which it came there.
        order: u64,
        /// The command.
        ghost: Option<Ghost>,
    },
    /// A scripted fault that is a lane's business.
    Fault(Fault),
}
