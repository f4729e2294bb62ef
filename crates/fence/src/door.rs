//! What goes into the machine and what comes out of it: all that a fence depends on.

use crate::{
    CtrlId, FencePolicy, GuardEntry, GuardKey, HeadId, HoldTerms, Identity, LaneId, LedgerEntry, LifeId, Loss, Method,
    Receipt, Release, SuspectCommand,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr::Entry;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// From where a controller is connected, as far as the operator chose it. Controllers that are connected from the same place
/// may die together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Local {
    /// Local address.
    pub traddr: Option<IpAddr>,
    /// Local interface.
    pub iface: Option<String>,
}

impl Local {
    /// True if both were chosen, and alike.
    pub(crate) fn is_shared(&self, other: &Self) -> bool {
        *self != Self::default() && self == other
    }
}

/// What is known of an instance at the moment of its loss. It never changes: a fence is bound to this one instance
/// (`fence_bound_to_one_instance`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lost {
    /// The instance.
    pub life: LifeId,
    /// Its configured path.
    pub ctrl: CtrlId,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// Where it was reached.
    pub addr: Option<SocketAddr>,
    /// From where.
    pub local: Local,
    /// Its name for the target; zero if it never stated one.
    pub identity: Identity,
    /// What a hold by time is made of; `None` if it never said so.
    pub terms: Option<HoldTerms>,
    /// When its commands may be sent again.
    pub policy: FencePolicy,
    /// How it was lost.
    pub loss: Loss,
    /// True if it was ever usable: then its end is told and counted.
    pub served: bool,
    /// The command that it carried alone, because instances had been lost with it.
    pub suspect: Option<SuspectCommand>,
    /// Since when nothing can leave its admin socket; `None`: something still may.
    pub admin_quiet: Option<Instant>,
    /// How long its sockets are kept for late answers.
    pub late_grace: Duration,
    /// Where time proves nothing: after this what is held is given up.
    pub last_chance: Duration,
}

/// An instance that an earlier process of this host recorded, and neither fenced nor marked clean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Predecessor {
    /// The instance.
    pub life: LifeId,
    /// Its configured path.
    pub ctrl: CtrlId,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// Where it was reached.
    pub addr: SocketAddr,
    /// Its name for the target.
    pub identity: Identity,
    /// What a hold by time is made of.
    pub terms: HoldTerms,
    /// The identifiers of the namespaces that it served, as far as they state any.
    pub disks: Vec<NamespaceIds>,
}

/// A controller that may reset its siblings. Base Specification, "Cross-Controller Reset command".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceFacts {
    /// Its present instance.
    pub life: LifeId,
    /// Its configured path.
    pub ctrl: CtrlId,
    /// Its subsystem.
    pub subnqn: Nqn,
    /// Its name for the target.
    pub identity: Identity,
    /// Where it is reached.
    pub addr: Option<SocketAddr>,
    /// From where.
    pub local: Local,
    /// Cross-Controller Reset Limit: how many it carries out at once. 0: none.
    pub ccrl: u8,
    /// When its instance began.
    pub begun: Instant,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Nothing more is sent on this instance, by anybody: every lane is told so in the same moment.
    Lost(Box<Lost>),
    /// An earlier process left it. Before anything may write.
    Predecessor(Box<Predecessor>),
    /// A lane sends nothing more on a lost instance, and this is what it had sent and has no answer to.
    Ledger {
        /// Who says it.
        lane: LaneId,
        /// The instance.
        life: LifeId,
        /// Every command in doubt.
        entries: Vec<LedgerEntry>,
        /// How many commands were settled, and went on at once.
        settled: usize,
    },
    /// From `at` on no byte of a lost instance can leave the sockets of this lane.
    Quiet {
        /// The lane.
        lane: LaneId,
        /// The instance.
        life: LifeId,
        /// The moment.
        at: Instant,
    },
    /// What became of the admin socket of a lost instance.
    Admin {
        /// The instance.
        life: LifeId,
        /// Its controller, which is known to drain first, has said that it is disabled.
        disabled: bool,
        /// Since when nothing can leave the socket; `None`: something still may.
        quiet: Option<Instant>,
    },
    /// The process of a predecessor is over, and since `at` none of its sockets exists.
    SocketsGone {
        /// The instance.
        life: LifeId,
        /// The moment.
        at: Instant,
    },
    /// A lane holds the table of this epoch.
    TableSeen {
        /// The lane.
        lane: LaneId,
        /// The epoch.
        epoch: u64,
    },
    /// An answer came for a command of a lost instance.
    Late {
        /// Who heard it.
        lane: LaneId,
        /// The instance.
        life: LifeId,
        /// The command.
        key: GuardKey,
        /// The answer.
        cqe: Cqe,
        /// It says that something is in the cache of the lost controller, and nowhere else: that is no answer.
        cached: bool,
    },
    /// A write was given up by its caller: its range is protected on every lane.
    Abandoned(LedgerEntry),
    /// These commands have ended: their ranges are free.
    Resolved(Vec<GuardKey>),
    /// The controller states what a source is made of; its log is read before it is asked for anything.
    SourceFound(Box<SourceFacts>),
    /// It is live: it may be asked.
    SourceUp(LifeId),
    /// It is live no more.
    SourceDown(LifeId),
    /// It is not connected any more, and nothing of it is lost.
    SourceGone(LifeId),
    /// An admin command of the source was answered after this time.
    Latency(LifeId, Duration),
    /// [`Output::Ccr`] could not be sent.
    CcrNotSent {
        /// The lost instance.
        life: LifeId,
        /// The source.
        source: LifeId,
    },
    /// The source has answered a Cross-Controller Reset.
    CcrAnswer {
        /// The lost instance.
        life: LifeId,
        /// The source.
        source: LifeId,
        /// The status.
        status: Status,
        /// Immediate Reset Successful.
        immediate: bool,
    },
    /// [`Output::ReadLog`] could not be sent.
    LogNotSent(LifeId),
    /// The source says that its log has changed.
    LogChanged(LifeId),
    /// The log of the source, whole; `None`: it could not be read.
    Log {
        /// The source.
        source: LifeId,
        /// What is completed was removed by the read.
        removed: bool,
        /// What it says.
        entries: Option<Vec<Entry>>,
    },
    /// Time to read the log of a source again, if that is still needed. `anew`: after a read that failed.
    Purge {
        /// The source.
        source: LifeId,
        /// It could not be read before.
        anew: bool,
    },
    /// A clock that nobody sets stands at `raw`.
    RawClock {
        /// Whose hold asked.
        life: LifeId,
        /// On its own zero.
        raw: Instant,
    },
    /// This process is still the one that speaks for its host.
    Owner(LifeId),
    /// Another process may speak for this host now: nothing that is held goes on here.
    Disowned,
    /// The commands of this instance are to be ended although it is not fenced.
    GiveUp(LifeId),
    /// After this time they are.
    GiveUpBy(LifeId, Instant),
    /// Somebody who may know more than this host says that the instance is over.
    AcceptRisk(LifeId),
    /// A live instance ended with nothing unanswered.
    Closed(LifeId),
    /// Namespaces of a subsystem were found, and are not usable yet.
    Found {
        /// The subsystem.
        subnqn: Nqn,
        /// Their names, and their identifiers where they state any.
        heads: Vec<(HeadId, Option<NamespaceIds>)>,
    },
}

/// What is to be done, in this order. Where it may fail, it is answered before the next is polled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send Cross-Controller Reset for the instance, by exactly this name. Answer with [`Input::CcrNotSent`] at once, or with
    /// [`Input::CcrAnswer`].
    Ccr {
        /// The lost instance.
        life: LifeId,
        /// Through this source.
        source: LifeId,
        /// The name of the lost instance.
        impacted: Identity,
    },
    /// Read the Cross-Controller Reset log of this source. Answer with [`Input::LogNotSent`] at once, or with [`Input::Log`].
    ReadLog {
        /// The source.
        source: LifeId,
        /// Remove what is completed.
        remove: bool,
    },
    /// Tell every lane what nobody may touch. Each answers with [`Input::TableSeen`].
    Table {
        /// Counts tables.
        epoch: u64,
        /// All of them, over all lanes and instances.
        entries: Arc<Vec<GuardEntry>>,
    },
    /// Abort the sockets of the instance on this lane from outside; answer with [`Input::Quiet`].
    Cut(LaneId, LifeId),
    /// Read a clock that nobody sets; answer with [`Input::RawClock`].
    RawClock(LifeId),
    /// Is this process still the one that speaks for this host? Answer with [`Input::Owner`] or [`Input::Disowned`].
    ConfirmOwner(LifeId),
    /// Nobody has said so: this host must end. In one sentence.
    Disowned(String),
    /// Every lane has said what is in doubt.
    Sorted {
        /// The instance.
        life: LifeId,
        /// Commands in doubt.
        in_doubt: usize,
        /// Commands that went on at once.
        settled: usize,
        /// For how long the oldest of those in doubt had waited.
        oldest: Option<Duration>,
    },
    /// The command was answered after all: this is its result.
    Answer {
        /// Who has it.
        lane: LaneId,
        /// The command.
        key: GuardKey,
        /// The answer.
        cqe: Cqe,
    },
    /// Tell every lane what to do with what it holds of the instance.
    Settle {
        /// The instance.
        life: LifeId,
        /// What to do.
        release: Release,
    },
    /// The instance is fenced, or counts as fenced: why.
    Fenced(Box<Receipt>),
    /// Its commands have ended as not known, and what they may change stays protected.
    GivenUp(LifeId),
    /// The instance is over: nothing needs to be known of it any more, here and in the store.
    Over(LifeId),
    /// Nothing of it keeps this path.
    Left(CtrlId),
    /// For whoever listens.
    Told(Told),
}

/// What a fence has to tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// From `t0` on nothing of the instance can leave this host; time alone ends it at `deadline`.
    HoldUntil {
        /// The instance.
        life: LifeId,
        /// The moment.
        t0: Instant,
        /// The end; `None`: time proves nothing.
        deadline: Option<Instant>,
        /// True if it rests on an assumption.
        assumed: bool,
    },
    /// A source has answered.
    CcrAnswered {
        /// The lost instance.
        life: LifeId,
        /// The source.
        source: LifeId,
        /// What it said.
        status: Status,
        /// Immediate Reset Successful.
        immediate: bool,
    },
    /// Only an old entry in its log keeps a source from being asked.
    StaleEntry {
        /// The lost instance.
        life: LifeId,
        /// The configured path of the source.
        source: CtrlId,
    },
    /// Lanes have not said what is waited for.
    LaneSilent {
        /// The instance.
        life: LifeId,
        /// Which.
        lanes: Vec<LaneId>,
    },
    /// A late answer was decided.
    Late {
        /// The instance.
        life: LifeId,
        /// Taken as the result; false: dropped.
        counted: bool,
    },
    /// Nothing was in doubt, or nothing is any more.
    NothingInDoubt {
        /// The instance.
        life: LifeId,
        /// Commands that were answered late.
        answered_late: usize,
    },
    /// What was held goes on.
    Released {
        /// The instance.
        life: LifeId,
        /// Commands that were held.
        commands: usize,
        /// On what that rests.
        method: Method,
    },
    /// What was held has ended as not known.
    TombstoneSet {
        /// The instance.
        life: LifeId,
        /// Commands in doubt.
        in_doubt: usize,
        /// When they cannot take effect any more; `None`: nobody knows.
        until: Option<Instant>,
    },
    /// ... and now is.
    TombstoneEnded {
        /// The instance.
        life: LifeId,
        /// On what that rests.
        method: Method,
    },
    /// An earlier process left an instance.
    PredecessorFound {
        /// Its configured path.
        ctrl: CtrlId,
        /// The instance.
        life: LifeId,
        /// Its subsystem.
        subnqn: Nqn,
        /// Its name for the target.
        identity: Identity,
    },
    /// Its sockets still exist.
    PredecessorLingers {
        /// The instance.
        life: LifeId,
    },
    /// The store has not said whether this process is still this host.
    OwnerUnconfirmed {
        /// The instance that waits for it.
        life: LifeId,
    },
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wait {
    /// Lanes must say that they stopped, are quiet, and hold the table.
    Lanes(LifeId),
    /// Something to do about a source: one to try, a log page to read.
    Source(LifeId),
    /// The fence by time.
    Hold(LifeId),
    /// What is held is given up.
    GiveUp(LifeId),
    /// The sockets of an earlier process must be gone; it is told as long as they are not.
    OldSockets(LifeId),
    /// The store must say whether this process still speaks for its host; it is told as long as it does not.
    Owner(LifeId),
}
