//! Everything that [`Control`](crate::Control) and a [`Lane`](crate::Lane) say to each other.
//!
//! Drivers keep the order between one lane and control, in each direction, and nothing else. So a lane that was not
//! reached yet is an ordinary case here: it goes on sending on a life that control already condemned, until `Condemn`
//! arrives, and the fence's clock starts only when the last lane has said `Quiet`.
//!
//! The course of a loss, per lane:
//!
//! ```text
//! lane -> Suspect or QueueDown                          something looks wrong here
//! ctrl -> Condemn(life)                                 send nothing more on it
//! lane -> Condemned(life, ledger)                       stopped; this was sent and has no answer
//! lane -> Quiet(life, at)                               no byte of it can leave this lane's sockets after `at`
//! ctrl -> Guard(epoch, entries)                         nobody may touch these ranges
//! lane -> GuardSeen(epoch)
//! lane -> Late(life, seq, cqe)       ctrl -> Answered   a late answer, decided once, by control
//! ctrl -> Settle(life, release)                         fenced: retry or end what is held
//! lane -> Resolved(keys)             ctrl -> Guard      the range is free again
//! ```

use crate::{ConnId, CtrlId, DownReason, FencePolicy, FlushScope, HeadId, IoPolicy, LaneId, LifeId, Shape, poison};
use crate::{GuardEntry, GuardKey, LedgerEntry, Release};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// From control to one lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToLane {
    /// Open an I/O queue pair of a life. Answered by `QueueUp` or `QueueDown`.
    OpenQueue(Arc<QueueSpec>),
    /// The paths as control knows them now; replaces the table before.
    Paths(Arc<PathTable>),
    /// Namespaces of which nothing was ever asked, and which are gone: their names are not given again.
    Forget(Arc<Vec<HeadId>>),
    /// Send nothing more on any queue of the life. Answered by `Condemned`, then `Quiet`. A life the lane never had a
    /// queue of is answered all the same.
    Condemn {
        /// The life.
        life: LifeId,
        /// Retry at once (legacy) or hold. The lane's choke point has no other bypass.
        policy: FencePolicy,
    },
    /// Finish what is in flight on the life, start nothing new on it: an orderly end. Answered by `Drained`.
    Drain(LifeId),
    /// The ranges that nobody may touch; replaces the table before. Answered by `GuardSeen`.
    Guard {
        /// Counts tables.
        epoch: u64,
        /// All of them, over all lanes and lives.
        entries: Arc<Vec<GuardEntry>>,
    },
    /// Everything that was given up on this lane, up to this number, is guarded by the tables told before, or over.
    HandedOver {
        /// Where it was given up.
        lane: LaneId,
        /// As [`barrier::Abandoned::number`](crate::barrier::Abandoned::number) counts.
        number: u64,
    },
    /// Answers `Flush`: whom it has to ask.
    FlushPlan {
        /// The request, as in the question.
        seq: u64,
        /// Lives that may hold answered writes of the namespace in their caches, and its identifier there.
        lives: Vec<(LifeId, u32)>,
        /// Lives that were lost with some: the flush fails, and says so.
        lost: Vec<LifeId>,
    },
    /// About commands that instances were lost with.
    Poison(poison::Order),
    /// A held command was answered after all: this is its result. It will not be released.
    Answered {
        /// The command.
        key: GuardKey,
        /// Its answer.
        cqe: Cqe,
    },
    /// The life is over for good: do this with what is held of it, and close its sockets.
    Settle {
        /// The life.
        life: LifeId,
        /// What to do with held commands.
        release: Release,
    },
    /// Answers `Traffic`: its Keep Alive is late, and what I/O says counts.
    AskTraffic(LifeId),
    /// End everything; nothing new is accepted.
    Shutdown,
}

/// From one lane to control.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToControl {
    /// An I/O queue pair is connected and usable.
    QueueUp {
        /// Its life.
        life: LifeId,
        /// Its queue identifier.
        qid: u16,
    },
    /// An I/O queue pair could not be opened, or was lost. The loss of a queue ends the association.
    QueueDown {
        /// Its life.
        life: LifeId,
        /// Its queue identifier.
        qid: u16,
        /// What happened.
        why: DownReason,
    },
    /// Something about the life looks wrong, but it is no proof.
    Suspect {
        /// The life.
        life: LifeId,
        /// What was seen.
        why: Suspicion,
    },
    /// Nothing more of this life will be sent by this lane; and this is what was sent and has no answer.
    Condemned {
        /// The life.
        life: LifeId,
        /// Every in-doubt command of this lane, also those that the legacy policy had sent again at once. Settled ones are
        /// not listed: they were requeued at once.
        ledger: Vec<LedgerEntry>,
        /// How many those were: unsent, or without an effect that can come late.
        settled: usize,
    },
    /// From `at` on no byte of this life can leave this lane's sockets: their send queues were seen empty, or they were
    /// aborted.
    Quiet {
        /// The life.
        life: LifeId,
        /// The moment.
        at: Instant,
    },
    /// Everything in flight on the life was answered after a `Drain`, and its sockets are closed in order.
    Drained(LifeId),
    /// The guard table of this epoch is in force on this lane.
    GuardSeen(u64),
    /// A completion arrived for a command of a condemned life.
    Late {
        /// The life.
        life: LifeId,
        /// The command.
        key: GuardKey,
        /// Its answer.
        cqe: Cqe,
    },
    /// A write that was sent was abandoned by its caller: its range is guarded from now on, and it is never retried.
    Abandoned(LedgerEntry),
    /// Of everything that was given up on this lane, up to this number, control has heard what is in doubt. Passed on to
    /// every lane.
    HandedOver(u64),
    /// These guarded commands have ended (answered, or released and not to be retried): their ranges are free.
    Resolved(Vec<GuardKey>),
    /// Which controllers does this flush have to go to? Answered by `FlushPlan`, once every life of the namespace that has
    /// ended is judged. Asked only where each controller has a cache of its own.
    Flush {
        /// The request: its order of acceptance on this lane.
        seq: u64,
        /// The namespace.
        head: HeadId,
    },
    /// A flush has ended with these losses, and its caller was there to hear it.
    FlushTold {
        /// The namespace.
        head: HeadId,
        /// Lost with something in their caches.
        lives: Vec<LifeId>,
    },
    /// What this lane knows of the caches of a life that ends. Said before `Condemned` and `Drained`, where there is
    /// anything to say.
    Cached {
        /// The life.
        life: LifeId,
        /// By namespace.
        entries: Vec<CacheEntry>,
    },
    /// About commands that instances were lost with.
    Poison(poison::Report),
    /// Answers `AskTraffic`: I/O of the life that was submitted at this moment, and nothing later, has been answered. Not
    /// said if nothing was.
    Traffic {
        /// The life.
        life: LifeId,
        /// The moment.
        submitted: Instant,
    },
    /// A command was answered with an ANA status: the log of this life should be read again.
    AnaStale(LifeId),
    /// Commands failed with Reservation Conflict. Said for each namespace once in
    /// [`REPORT_EVERY`](crate::conflicts::REPORT_EVERY) at most.
    Conflict {
        /// The namespace.
        head: HeadId,
        /// The life that answered the last one.
        life: LifeId,
        /// What it answered.
        status: Status,
        /// Commands since the last report of this lane, this one included.
        commands: u64,
    },
    /// The first I/O that ended well on a life after it had become usable, for the timeline of a failover.
    FirstGood {
        /// The life.
        life: LifeId,
        /// The moment.
        at: Instant,
    },
}

/// What a lane knows of the cache of one life, for one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheEntry {
    /// The namespace.
    pub head: HeadId,
    /// When the last write was answered that no later flush of this lane covers.
    pub wrote: Option<Instant>,
    /// When its last flush was sent that ended well.
    pub flushed: Option<Instant>,
}

/// What a lane needs to open one I/O queue pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueSpec {
    /// The life it belongs to.
    pub life: LifeId,
    /// The controller, for names in events.
    pub ctrl: CtrlId,
    /// Where to.
    pub dial: Dial,
    /// Host NQN, as in the admin Connect.
    pub hostnqn: Nqn,
    /// Host Identifier, as in the admin Connect.
    pub hostid: HostId,
    /// Subsystem NQN.
    pub subnqn: Nqn,
    /// Controller ID, as the admin Connect returned it.
    pub cntlid: u16,
    /// Queue identifier, from 1.
    pub qid: u16,
    /// Commands outstanding at most, the SQSIZE of Connect (0's based field).
    pub sqsize: u16,
    /// Header digest.
    pub hdgst: bool,
    /// Data digest.
    pub ddgst: bool,
    /// In-capsule data bytes allowed on this queue.
    pub in_capsule: u32,
    /// Bytes one command may carry (MDTS); `u32::MAX` if unlimited.
    pub max_transfer: u32,
    /// For TCP connect, ICResp and Connect together.
    pub connect_timeout: Duration,
    /// For each I/O command.
    pub io_timeout: Duration,
    /// How long a retry waits that the controller asks for with CRD 1, 2 or 3.
    pub retry_delays: [Duration; 3],
    /// How long unacknowledged bytes may stay in the socket of a condemned life.
    pub late_grace: Duration,
}

/// Where and how to open a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dial {
    /// The peer.
    pub addr: SocketAddr,
    /// Local address to bind (`--host-traddr`).
    pub local: Option<SocketAddr>,
    /// Interface to bind (`--host-iface`).
    pub iface: Option<String>,
    /// `TCP_USER_TIMEOUT`: unacknowledged data older than this ends the connection. Default: KATO.
    pub user_timeout: Duration,
}

/// All heads and their paths, as control knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct PathTable {
    /// Counts tables.
    pub epoch: u64,
    /// By head.
    pub heads: BTreeMap<HeadId, Head>,
    /// What is protected of these is protected of the head, too; only where there are any.
    pub twins: BTreeMap<HeadId, Vec<Twin>>,
}

/// A namespace that may be the same disk under another name: by one of its identifiers, or by subsystem and NSID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Twin {
    /// Its name; it may be gone.
    pub head: HeadId,
    /// It has another format: any range of it that is protected protects all.
    pub whole: bool,
    /// No identifier contradicts: what is known of the data of one is known of the other.
    pub same: bool,
}

/// One merged namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// Its shape.
    pub shape: Shape,
    /// How to choose.
    pub policy: IoPolicy,
    /// What a flush through one path covers.
    pub flush: FlushScope,
    /// Its paths; the lane uses those whose queue of its own is up, and the others through another lane.
    pub paths: Vec<Path>,
    /// True while some path may come back: I/O without a usable path waits. False: it fails.
    pub may_return: bool,
}

/// One way to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Through this life.
    pub life: LifeId,
    /// Under this namespace identifier.
    pub nsid: u32,
    /// Its ANA state.
    pub ana: AnaState,
    /// Shown and avoided: chosen only if no other path is usable.
    pub slow: bool,
    /// I/O queues of this life: the lanes with a lower number have one at least, the others none
    /// ([`forward`](crate::forward)).
    pub queues: u16,
}

/// Base Specification, "Asymmetric Namespace Access states".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnaState {
    /// ANA Optimized.
    Optimized,
    /// ANA Non-Optimized.
    NonOptimized,
    /// ANA Inaccessible.
    Inaccessible,
    /// ANA Persistent Loss.
    PersistentLoss,
    /// ANA Change.
    Change,
}

impl AnaState {
    /// True if I/O may be sent (`no_io_on_unusable_path`).
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        })
    }
}

/// What makes a life suspect. Suspicion is not condemnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suspicion {
    /// An I/O command has had no answer for `io_timeout`.
    IoTimeout {
        /// Since when it waits.
        since: Instant,
        /// Another path of the same namespace answered I/O that was submitted later: a second witness.
        others_answer: bool,
        /// The command that waits longest, as the controller knows it.
        oldest: Waiting,
    },
}

/// One command that a controller has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Its queue.
    pub qid: u16,
    /// Its command identifier there.
    pub cid: u16,
}

/// What a driver saw on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConnEvent {
    /// TCP is connected.
    Up,
    /// It is gone, or never came up; the socket no longer exists and its send queue is empty.
    Down(DownReason),
    /// After `WatchDrain`: the kernel's send queue is empty now.
    SendQueueEmpty,
    /// After `Abort`: the socket no longer exists and its send queue is empty.
    Aborted,
}

/// What a machine wants done with its connections; the same for control and lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConnAction {
    /// Open it; answer with `Up` or `Down`.
    Open(ConnId, Dial),
    /// There is something to send: call `poll_send`.
    Send(ConnId),
    /// Forget what was polled and not yet given to the kernel; keep receiving.
    StopSending(ConnId),
    /// Say `SendQueueEmpty` when the kernel's send queue is empty.
    WatchDrain(ConnId),
    /// Reset it and empty its send queue; answer with `Aborted`.
    Abort(ConnId),
    /// Close it in order, after everything polled was sent.
    Close(ConnId),
}
