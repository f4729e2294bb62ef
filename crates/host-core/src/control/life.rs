//! One life: from the first look-up of its address until it is known that it can execute nothing more.

use super::LifeFacts;
use super::admin::Admin;
use super::recorded::Recorded;
use super::scan::{Found, Scan};
use super::storm::EventRate;
use crate::{CtrlId, LaneId, Loss, Waiting};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Instant;
use interlock_proto::host::{AnaLog, Association, KeepAlive};
use interlock_wire::ana;
use interlock_wire::fabrics::Cc;
use interlock_wire::nqn::Nqn;

/// What a life is doing.
#[derive(Clone, Debug, Hash)]
pub(super) enum Phase {
    /// Its address is looked up.
    Resolving,
    /// TCP connects.
    Dialing,
    /// ICReq is out.
    Greeting,
    /// From Connect to a live controller.
    Associating(Box<Association>),
    /// Its namespaces are looked at.
    Scanning,
    /// Lanes open its I/O queue pairs.
    OpeningQueues,
    /// It is being recorded, and asked whether its queues are its own: no write may be sent before.
    Recording(super::joined::Outstanding),
    /// Usable.
    Live,
    /// Nothing new is started; what is in flight is awaited.
    Draining { why: Ending, waiting: BTreeSet<LaneId> },
    /// Drained; the controller shuts down in order.
    Closing { why: Ending },
    /// Nothing more is sent on it: it is the affair of the fences, but for its admin socket.
    Condemned(AdminEnd),
}

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Reset,
    Disconnect,
    Shutdown,
}

impl Ending {
    pub(super) const fn loss(self) -> Loss {
        match self {
            Self::Reset => Loss::Reset,
            Self::Disconnect => Loss::Disconnect,
            Self::Shutdown => Loss::Shutdown,
        }
    }
}

/// What the admin socket of a condemned life still may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AdminEnd {
    /// Its controller, which is known to drain first, was told to disable itself. Nothing else is sent.
    Disabling,
    /// Bytes may lie in its send queue.
    Leaving,
    /// Nothing can leave it since then.
    Quiet(Instant),
}

impl AdminEnd {
    /// Since when nothing can leave it.
    pub(super) const fn quiet(self) -> Option<Instant> {
        match self {
            Self::Quiet(at) => Some(at),
            Self::Disabling | Self::Leaving => None,
        }
    }
}

/// One I/O queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum IoQueue {
    Opening,
    Up,
}

/// What is read from a live controller, one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Idle,
    Changed,
    Scan(Scan),
    /// The list of namespaces, to see whether it is as it was.
    List,
    Ana(AnaLog),
}

/// The I/O that has had no answer for longest, when that was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Probing {
    pub(super) since: Instant,
    pub(super) oldest: Waiting,
}

/// What should be read once the task under way is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Todo {
    pub(super) rescan: bool,
    pub(super) ana: bool,
    /// Whether the list of namespaces is as it was.
    pub(super) list: bool,
    /// The CCR log of a source, after a read that failed.
    pub(super) ccr: bool,
    /// An event request, after one that was answered with an error.
    pub(super) events: bool,
    /// Lanes have put a path aside until they hear of it again, also if nothing has changed.
    pub(super) tell: bool,
}

impl Todo {
    /// Everything that either of them names.
    pub(super) const fn with(self, other: Self) -> Self {
        Self {
            rescan: self.rescan | other.rescan,
            ana: self.ana | other.ana,
            list: self.list | other.list,
            ccr: self.ccr | other.ccr,
            events: self.events | other.events,
            tell: self.tell | other.tell,
        }
    }
}

/// One life.
#[derive(Clone, Debug, Hash)]
pub(super) struct Life {
    pub(super) ctrl: CtrlId,
    pub(super) subnqn: Nqn,
    pub(super) attempt: u32,
    pub(super) begun: Instant,
    pub(super) phase: Phase,
    pub(super) addr: Option<SocketAddr>,
    pub(super) facts: Option<LifeFacts>,
    pub(super) admin: Option<Admin>,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) queues: BTreeMap<u16, IoQueue>,
    pub(super) slow: bool,
    /// The suspicion that is being probed.
    pub(super) probing: Option<Probing>,
    /// The command that was asked to be aborted: no command is asked twice.
    pub(super) aborted: Option<Probing>,
    pub(super) task: Task,
    pub(super) todo: Todo,
    /// The same after a while: it was tried, and could not be read.
    pub(super) again: Todo,
    /// How often in a row.
    pub(super) unread: u32,
    /// How often in a row namespaces were looked at, and something of them could not be read or was not taken.
    pub(super) doubts: u32,
    /// Looks that are still to come soon because a namespace was gone.
    pub(super) looks: u32,
    /// What is recorded of the disks that it serves, for a successor.
    pub(super) recorded: Recorded,
    /// Its namespaces were read once more since it was connected.
    pub(super) looked: bool,
    /// What was said of such namespaces last: it is not said twice.
    pub(super) refused: BTreeMap<u32, String>,
    /// Namespaces of the last scan that could not be read.
    pub(super) unread_nsids: BTreeSet<u32>,
    pub(super) found: Vec<Found>,
    pub(super) ana: Option<ana::Log>,
    /// How its ANA log is read, from the beginning; `None`: it reports no ANA.
    pub(super) ana_log: Option<AnaLog>,
    /// How many events it tells.
    pub(super) events: EventRate,
    /// How often in a row an event request was answered with an error.
    pub(super) eventless: u32,
    /// NSIDs that it listed last.
    pub(super) listed: Vec<u32>,
    /// As the controller was enabled with.
    pub(super) cc: Cc,
}

impl Life {
    pub(super) fn new(now: Instant, ctrl: CtrlId, subnqn: Nqn, attempt: u32) -> Self {
        Self {
            ctrl,
            subnqn,
            attempt,
            begun: now,
            phase: Phase::Resolving,
            addr: None,
            facts: None,
            admin: None,
            keep_alive: None,
            queues: BTreeMap::new(),
            slow: false,
            probing: None,
            aborted: None,
            task: Task::Idle,
            todo: Todo::default(),
            again: Todo::default(),
            unread: 0,
            doubts: 0,
            looks: 0,
            recorded: Recorded::default(),
            looked: false,
            refused: BTreeMap::new(),
            unread_nsids: BTreeSet::new(),
            found: Vec::new(),
            ana: None,
            ana_log: None,
            events: EventRate::new(now),
            eventless: 0,
            listed: Vec::new(),
            cc: Cc::new(false),
        }
    }

    pub(super) const fn is_condemned(&self) -> bool {
        matches!(self.phase, Phase::Condemned(_))
    }

    pub(super) const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// True while something may still be sent on its admin queue.
    pub(super) const fn may_send(&self) -> bool {
        !self.is_condemned()
    }

    /// True while its controller is asked to disable itself.
    pub(super) const fn is_disabling(&self) -> bool {
        matches!(self.phase, Phase::Condemned(AdminEnd::Disabling))
    }
}
