//! What the target can be told to do wrong.
//!
//! A drill that cannot go wrong proves nothing. The faults are those that real arrays show: commands that stall inside,
//! paths that die without a word, fences that are refused, slow or badly reported. Each stays until [`Fault::Clear`]
//! unless its text says that it happens once.

use crate::PortId;
use interlock_wire::status::Status;

/// One deviation from good conduct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Media-changing commands received on the port stall inside the target ("in the backing device"). They survive
    /// the loss of their connection and execute on [`Fault::Release`], unless their life was quiesced before.
    HoldWrites {
        /// Where the commands come in.
        port: PortId,
    },
    /// Once: commands received on the port from now on execute again; what is held stays held. Without it a port that
    /// comes back would hold the retries as well, and no ghost could ever be late.
    StopHolding {
        /// Where the commands come in.
        port: PortId,
    },
    /// Once: every held command is delivered now, and holding ends on every port.
    Release,
    /// I/O commands received on the port start that much later.
    Delay {
        /// Where the commands come in.
        port: PortId,
        /// Milliseconds.
        ms: u32,
    },
    /// I/O commands received on the port vanish: neither executed nor answered.
    Drop {
        /// Where the commands come in.
        port: PortId,
    },
    /// A controller dies of every command received on the port that names this block, reads included: the connection is
    /// reset before the command is executed. One block of each port; it takes the place of [`Fault::Drop`].
    CrashOn {
        /// Where the commands come in.
        port: PortId,
        /// The namespace; 0: every I/O command counts, whatever it names.
        nsid: u32,
        /// The block.
        lba: u64,
    },
    /// I/O commands received on the port are answered with this status and not executed; success ends it. A controller
    /// that has lost its way to the media says `CONTROLLER_PATH_ERROR`, one that is sure says Do Not Retry.
    FailIo {
        /// Where the commands come in.
        port: PortId,
        /// What is answered.
        status: Status,
    },
    /// The port is dead without a word: nothing is read, nothing is written, nothing is closed, nothing accepted.
    Mute {
        /// Which port.
        port: PortId,
    },
    /// Once: the port speaks again; connections that ended meanwhile are reset.
    Unmute {
        /// Which port.
        port: PortId,
    },
    /// Once: every connection of the port is reset.
    ResetConnections {
        /// Which port.
        port: PortId,
    },
    /// Once: the port listens no more, and its connections are reset.
    ClosePort {
        /// Which port.
        port: PortId,
    },
    /// Once: the port listens again.
    OpenPort {
        /// Which port.
        port: PortId,
    },
    /// Every CCR is answered with this status.
    CcrRefuse(Status),
    /// The log entry of a finished CCR turns to success, and its event is raised, that much later.
    CcrLate {
        /// Milliseconds.
        ms: u32,
    },
    /// No event is raised when a CCR finishes; only the log tells.
    CcrLoseEvent,
    /// Once: every controller tells the event that it told last once more, whether or not its log was read meanwhile: an
    /// event that arrives twice.
    RepeatEvent,
    /// Once: the CCR log of every controller gets a completed entry with the CNTLID and CIU of every other life of the
    /// same host, as an earlier life with the same CIU would have left behind.
    CcrStaleEntry,
    /// What a reading host asks to be removed from a CCR log stays there.
    CcrKeepEntries,
    /// A reset that is asked for is accepted and comes to nothing: its log entry says that it failed, and the life goes on.
    CcrFail,
    /// A life that is reset by CCR goes on executing what it holds for that long: the CCR is pending meanwhile.
    SlowDrain {
        /// Milliseconds.
        ms: u32,
    },
    /// CC.EN=0 is answered with RDY=0 at once although commands may still execute (what Linux nvmet does).
    RdyBeforeDrained,
    /// Once: all of the above end; held commands are delivered, muted ports speak.
    Clear,
}
