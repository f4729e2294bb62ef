//! What happened, for people, drills and tests.
//!
//! The drill's verdict rests on these: a scenario counts only if a ghost was armed and the target *tried* to execute it
//! after the fence. Machines never log; they yield events and the driver decides where they go.

use crate::{ConnId, Life, NamespaceKey, PortId, SubsystemId};
use alloc::boxed::Box;
use core::fmt;
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;

/// Why a connection, and with it an association, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The peer closed or reset the connection, or it broke.
    Closed,
    /// The host closed an I/O queue in order, and nothing of it was inside any more.
    Left,
    /// The host closed an I/O queue in order, and something of it was still inside.
    Unfinished,
    /// The peer violated the protocol; it was told how.
    Protocol,
    /// No complete Connect within the handshake deadline.
    Handshake,
    /// There were too many connections: it had no complete Connect, and made room for a newer one; or it was the newest
    /// and none could make room.
    Crowded,
    /// The peer left the data of a command unsent, or answers untaken, for too long.
    Stalled,
    /// Neither Keep Alive nor (with TBKAS) any other command within the keep-alive timeout.
    KeepAlive,
    /// Another connection of the association ended.
    Sibling,
    /// Cross-controller reset.
    Ccr,
    /// The host disabled the controller or shut it down.
    Reset,
    /// A scripted fault.
    Script,
    /// The operator ends the target.
    Shutdown,
}

/// What made a life unable to execute anything more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// Cross-controller reset.
    Ccr,
    /// The quiesce time after a noticed loss.
    Time,
    /// CC.EN=0, shutdown, or the end of the target.
    Reset,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ccr => "ccr",
            Self::Time => "time",
            Self::Reset => "reset",
        })
    }
}

/// A command that changes media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Write.
    Write,
    /// Write Zeroes.
    WriteZeroes,
    /// Dataset Management, deallocate: only the first range is named.
    Deallocate,
}

/// A media-changing command that stalls inside the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// The life that received it.
    pub life: Life,
    /// Where it would write.
    pub namespace: NamespaceKey,
    /// What it would do.
    pub change: Change,
    /// First block.
    pub slba: u64,
    /// Blocks.
    pub blocks: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A connection was accepted.
    Accepted {
        /// The connection.
        conn: ConnId,
        /// Where.
        port: PortId,
    },
    /// A connection ended before or after its Connect.
    Dropped {
        /// The connection.
        conn: ConnId,
        /// Where.
        port: PortId,
        /// Why.
        why: Loss,
    },
    /// A host was given a controller. It has no life yet.
    ControllerCreated {
        /// The subsystem; none for a discovery controller.
        subsystem: Option<SubsystemId>,
        /// Its Controller Identifier.
        cntlid: u16,
        /// Who asked.
        host: Box<Nqn>,
        /// Where.
        port: PortId,
        /// The keep-alive timeout in force, in milliseconds.
        kato_ms: u32,
    },
    /// A Connect was refused.
    ConnectRefused {
        /// Where.
        port: PortId,
        /// The answer.
        status: Status,
    },
    /// CSTS.RDY went from 0 to 1: a life began.
    Enabled {
        /// The life.
        life: Life,
    },
    /// An I/O queue joined a life.
    Connected {
        /// The life.
        life: Life,
        /// Which queue.
        qid: u16,
    },
    /// The association of a life ended. What the life holds inside may still execute until it is quiesced.
    Lost {
        /// The life.
        life: Life,
        /// Why.
        why: Loss,
    },
    /// A CCR command came in.
    CcrReceived {
        /// The controller that received it.
        source: u16,
        /// Controller Identifier of the impacted controller.
        icid: u16,
        /// Its CIU, as given.
        ciu: u8,
        /// Its CIRN, as given.
        cirn: u64,
        /// Media-changing commands of the named life that stalled inside the target at that moment.
        held: u32,
    },
    /// A CCR command was answered.
    CcrAnswered {
        /// The controller that received it.
        source: u16,
        /// Controller Identifier of the impacted controller.
        icid: u16,
        /// The status.
        status: Status,
        /// Immediate Reset Successful.
        immediate: bool,
    },
    /// Every lane has quiesced the life and all its media operations are over: nothing of it can change media any more.
    Fenced {
        /// The life.
        life: Life,
        /// What did it.
        by: By,
        /// Stalled commands that were cancelled.
        cancelled: u32,
    },
    /// A media-changing command stalls inside until somebody says so; its host waits for it.
    Held(Ghost),
    /// Such a command was executed, and its host still waits for it.
    HeldExecuted(Ghost),
    /// A stalled command was cancelled: it will never be executed.
    HeldStopped {
        /// The command.
        ghost: Ghost,
        /// What quiesced its life.
        by: By,
    },
    /// A change of the same blocks was executed while a command stalled: if that is executed after all, it undoes the change.
    /// Told once for each lane; what two lanes do at the same moment may go unseen.
    Overtaken {
        /// The command that stalls.
        ghost: Ghost,
        /// The life of the newer one.
        by: Life,
    },
    /// A stalled command lost its connection: nobody waits for it, and it can still execute.
    GhostArmed(Ghost),
    /// A command that nobody waits for was executed: the hazard that fencing is there to prevent.
    GhostExecuted(Ghost),
    /// The target tried to execute a stalled command and was stopped, because its life had been quiesced.
    GhostRefused {
        /// The command.
        ghost: Ghost,
        /// What had quiesced its life.
        by: By,
    },
    /// A media-changing command whose host had not left was not executed: it came to its execution when the life must have
    /// given its host up already, by the clock. The process was stopped, or the machine was.
    TooLate(Ghost),
    /// Events that a listener was not told, because it did not take those before in time.
    Missed {
        /// How many.
        events: u64,
    },
    /// A life has not ended within the Command Quiesce Time that its controller states: a host that relied on it may have
    /// written over what still executes.
    QuiesceOverrun {
        /// The life.
        life: Life,
        /// The Command Quiesce Time, in milliseconds.
        cqt_ms: u16,
    },
    /// The backing store has lost data that hosts were told was written: no Flush, Write Zeroes or write with Force Unit Access of
    /// the namespace succeeds until somebody says that this was dealt with.
    FlushFailed {
        /// Which namespace.
        namespace: NamespaceKey,
        /// What the kernel said, and whether it could be remembered.
        why: Box<str>,
    },
    /// A port listens no more, as told.
    PortClosed {
        /// Which.
        port: PortId,
    },
    /// A port that was closed listens again.
    PortOpened {
        /// Which.
        port: PortId,
    },
    /// A port that was closed cannot be opened again; it stays closed.
    PortFailed {
        /// Which.
        port: PortId,
        /// Why, in words.
        why: Box<str>,
    },
    /// Connections of a port cannot be taken: told once, and tried again until it works. They wait in the kernel.
    AcceptFailed {
        /// Which.
        port: PortId,
        /// Why, in words.
        why: Box<str>,
    },
    /// Connections of the port are taken again.
    AcceptResumed {
        /// Which.
        port: PortId,
    },
    /// All associations are over and every life is fenced: the operator's shutdown is complete.
    ShutDown,
}
