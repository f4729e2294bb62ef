//! Decides everything that is not per I/O: who is connected, who is lost, what is fenced, what is released.
//!
//! One per host. Fencing is a decision over all lanes at once (a write held on one lane may be overtaken by a write of
//! another), so it has one owner that talks to every lane by messages and to every controller by its admin queue. The
//! parts that can be judged alone are machines of their own: the crate `interlock_fence` (when may a write in doubt be sent
//! again), [`state`] (what may follow what), `heads` (what is the same namespace), `scan`, `reconnect`. This file is the door: verbs, `handle_*`, `poll_*`.

mod admin;
mod bring_up;
mod caches;
mod condemn;
mod config;
mod counters;
mod disable;
mod duplicates;
mod ends;
mod facts;
mod fences;
mod heads;
mod joined;
mod lanes;
mod life;
mod live;
mod lives;
mod names;
mod predecessor;
mod reconnect;
mod recorded;
mod scan;
mod settings;
mod state;
mod storm;
mod suspects;
mod verbs;
mod waits;

#[cfg(test)]
mod tests;

pub use config::{
    ControllerSpec, HostConfig, LifeFacts, MAX_IO_QUEUES, MAX_KATO, MAX_RECONNECT, MAX_SLEW_PERMILLE, MIN_KATO,
    NoSuchController, SpecError,
};
pub use counters::{ControllerCounters, FenceCounters, HostCounters};
pub use heads::HeadInfo;
pub use predecessor::{NotUnfenced, Unfenced, UnfencedWhy};
pub use settings::{Setting, SettingError};
pub use state::{State, StateName};
pub use waits::{WaitOwner, Why};

use crate::barrier::Handovers;
use crate::conflicts::Conflicts;
use crate::stall::HoldTerms;
use crate::{
    ConnAction, ConnId, CtrlId, Event, EventKind, Identity, JobId, LaneId, LifeId, PathTable, Receipt, StoreWork,
    ToLane, Tombstone,
};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use caches::Caches;
use core::net::SocketAddr;
use core::time::Duration;
use heads::Heads;
use interlock_base::{Deadline, Instant, Rng, Timers, fingerprint};
use interlock_fence::Fences;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::{HostId, Nqn};
use lives::Lives;
use suspects::AllSuspects;

/// Receipts kept; older ones live on in whatever recorded the events.
pub const MAX_RECEIPTS: usize = 1024;
/// Controllers that are gone and kept for their counters.
pub const MAX_DEAD: usize = 256;

/// What Control wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// With one of its connections.
    Conn(ConnAction),
    /// Carry this to a lane, in order.
    ToLane(LaneId, ToLane),
    /// The lane does not answer for a condemned life: abort the sockets of that life from outside, whatever the lane is
    /// doing. Answer with [`Control::handle_cut`] once the kernel has said of each that its send queue is empty and stays
    /// so; if it does not say so, not at all: this is asked again.
    Cut(LaneId, LifeId),
    /// Read a clock that nobody sets (`CLOCK_MONOTONIC_RAW`), and answer with [`Control::handle_raw_clock`] at once: the hold
    /// of this life has begun, or would have passed by the clock that moments are taken from.
    RawClock(LifeId),
    /// Work that may block; answer with [`Control::handle_job_done`].
    Job(JobId, Job),
    /// For whoever listens.
    Event(Event),
}

/// Work that may block, done outside the reactors. Each has a deadline in Control.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Look up a name. Addresses (but for IPv6 with scope) never come here.
    Resolve {
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Make this durable before it is answered: no write of the life is sent before.
    RecordLife(Box<LifeRecord>),
    /// The life ended with nothing unanswered: a successor need not fence it.
    MarkClean(LifeId),
    /// The life is fenced: forget it.
    ForgetLife(LifeId),
    /// Is this process still the one that speaks for this host? Held writes go on only if so: a process that was stopped
    /// for long may find that another one has taken its place, and has gone on with what it held.
    ConfirmOwner,
}

/// Answer to a [`Job`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum JobResult {
    /// Of [`Job::Resolve`]: the addresses, best first.
    Resolved(Vec<SocketAddr>),
    /// It is done, and durable where that was asked for.
    Done,
    /// It could not be done, in one sentence.
    Failed(String),
}

/// What a successor must know to fence a life (`life_recorded_before_first_write`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LifeRecord {
    /// Its name in this process.
    pub life: LifeId,
    /// Its controller in this process.
    pub ctrl: CtrlId,
    /// Host NQN.
    pub hostnqn: Nqn,
    /// Host Identifier.
    pub hostid: HostId,
    /// Subsystem.
    pub subnqn: Nqn,
    /// The port.
    pub addr: SocketAddr,
    /// Its name for the target.
    pub identity: Identity,
    /// What a hold by time is made of, as the life began.
    pub hold: HoldTerms,
    /// The identifiers of the namespaces that it serves, as far as they state any; empty in records of before they were part
    /// of them.
    pub disks: Vec<NamespaceIds>,
}

/// One configured controller, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo<'a> {
    /// Its name.
    pub id: CtrlId,
    /// What was asked for.
    pub spec: &'a ControllerSpec,
    /// Its state.
    pub state: State,
    /// What its present life said about itself, once known.
    pub facts: Option<&'a LifeFacts>,
    /// Where it is connected to.
    pub addr: Option<SocketAddr>,
    /// Shown and avoided.
    pub slow: bool,
    /// Earlier lives of it that are not fenced yet.
    pub fencing: Vec<LifeId>,
    /// Why it is not live, in one sentence.
    pub last_error: Option<&'a str>,
    /// Its counters.
    pub counters: &'a ControllerCounters,
}

/// One configured controller.
#[derive(Clone, Debug, Hash)]
struct Controller {
    spec: ControllerSpec,
    state: State,
    /// When the path was lost (or the controller was asked for): reconnect limits run from here.
    lost_at: Instant,
    ever_live: bool,
    fast_failed: bool,
    /// How long it paused before the last attempt because it flaps; zero if it does not.
    flap_pause: Duration,
    last_error: Option<String>,
    counters: ControllerCounters,
}

/// What happens to the host as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Running,
    ShuttingDown,
    Ended,
}

/// The brain of one host. See the module's text.
#[derive(Clone, Debug, Hash)]
pub struct Control {
    config: HostConfig,
    mode: Mode,
    rng: Rng,
    controllers: BTreeMap<CtrlId, Controller>,
    lives: Lives,
    fences: Fences,
    conns: BTreeMap<ConnId, LifeId>,
    jobs: BTreeMap<JobId, JobFor>,
    heads: Heads,
    handovers: Handovers,
    caches: Caches,
    suspects: AllSuspects,
    conflicts: Conflicts,
    paths: Arc<PathTable>,
    timers: Timers<Why>,
    outputs: VecDeque<Output>,
    receipts: VecDeque<Receipt>,
    counters: HostCounters,
    /// When a time-out last condemned a life, by subsystem.
    timeout_fences: BTreeMap<Nqn, Instant>,
    next_ctrl: u32,
    next_life: u64,
    next_conn: u32,
    next_job: u32,
}

/// Whom the answer of a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum JobFor {
    Resolve(LifeId),
    /// The life, and how many disks of it.
    Record {
        life: LifeId,
        disks: usize,
    },
    /// The same again, because a live controller serves more.
    Disks {
        life: LifeId,
        disks: usize,
    },
    Owner(LifeId),
    /// Nobody waits for it, but a failure is told.
    Store(LifeId, StoreWork),
}

impl Control {
    /// A host that is connected to nothing.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        let config = HostConfig { lanes: config.lanes.max(1), ..config };
        Self {
            mode: Mode::Running,
            rng: Rng::new(config.seed),
            controllers: BTreeMap::new(),
            lives: Lives::default(),
            fences: Fences::new(config.lanes),
            conns: BTreeMap::new(),
            jobs: BTreeMap::new(),
            heads: Heads::default(),
            handovers: Handovers::default(),
            caches: Caches::default(),
            suspects: AllSuspects::new(config.lanes),
            conflicts: Conflicts::default(),
            paths: Arc::new(PathTable::default()),
            timers: Timers::new(),
            outputs: VecDeque::new(),
            receipts: VecDeque::new(),
            counters: HostCounters::default(),
            timeout_fences: BTreeMap::new(),
            next_ctrl: 0,
            next_life: 1,
            next_conn: 1,
            next_job: 1,
            config,
        }
    }

    /// Who this host is.
    #[must_use]
    pub const fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The life whose admin queue a connection is; `None` once it is forgotten.
    #[must_use]
    pub fn life_of(&self, conn: ConnId) -> Option<LifeId> {
        self.conns.get(&conn).copied()
    }

    /// Every configured controller, and those that are gone and kept for their counters.
    pub fn controllers(&self) -> impl Iterator<Item = ControllerInfo<'_>> {
        let mut fencing: BTreeMap<CtrlId, Vec<LifeId>> = BTreeMap::new();
        for (id, life) in self.lives.iter().filter(|(_, life)| life.is_condemned()) {
            fencing.entry(life.ctrl).or_default().push(*id);
        }
        self.controllers.iter().map(move |(id, ctrl)| {
            let life = ctrl.state.life().and_then(|life| self.lives.get(&life));
            ControllerInfo {
                id: *id,
                spec: &ctrl.spec,
                state: ctrl.state,
                facts: life.and_then(|life| life.facts.as_ref()),
                addr: life.and_then(|life| life.addr),
                slow: life.is_some_and(|life| life.slow),
                fencing: fencing.remove(id).unwrap_or_default(),
                last_error: ctrl.last_error.as_deref(),
                counters: &ctrl.counters,
            }
        })
    }

    /// Every namespace.
    pub fn heads(&self) -> impl Iterator<Item = HeadInfo<'_>> {
        self.heads.iter()
    }

    /// The path table that was published last.
    #[must_use]
    pub const fn paths(&self) -> &Arc<PathTable> {
        &self.paths
    }

    /// Everything that is waited for, and until when (`every_wait_has_a_deadline`).
    pub fn waits(&self) -> impl Iterator<Item = Deadline<Why>> {
        let mut waits: Vec<_> = self.timers.iter().chain(self.fences.waits().map(fences::wait)).collect();
        waits.sort_unstable_by_key(|wait| (wait.at, wait.why));
        waits.into_iter()
    }

    /// Counters of the host; they outlive the controllers.
    #[must_use]
    pub const fn counters(&self) -> &HostCounters {
        &self.counters
    }

    /// The last receipts, oldest first; at most [`MAX_RECEIPTS`].
    pub fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.iter()
    }

    /// Lives that were left unfenced and are still guarded.
    #[must_use]
    pub fn tombstones(&self) -> Vec<Tombstone> {
        self.fences.tombstones().collect()
    }

    /// True once everything has ended after [`Control::shutdown`].
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.mode == Mode::Ended
    }

    /// One number for the whole state, outputs that were not polled included: equal after equal histories, in every run.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self)
    }

    /// When to call [`Control::handle_timeout`] at the latest, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline<Why>> {
        let fences = self.fences.next_deadline().map(fences::wait);
        self.timers.next().into_iter().chain(fences).min_by_key(|next| (next.at, next.why))
    }

    /// What to do next. Drain it after every call.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty()
            && let Some((lane, number)) = self.handovers.poll()
        {
            self.tell_lanes(&ToLane::HandedOver { lane, number });
        }
        self.outputs.pop_front()
    }

    fn emit(&mut self, at: Instant, kind: EventKind) {
        self.outputs.push_back(Output::Event(Event { at, kind }));
    }

    fn conn(&mut self, action: ConnAction) {
        self.outputs.push_back(Output::Conn(action));
    }

    fn tell_lane(&mut self, lane: LaneId, message: ToLane) {
        self.outputs.push_back(Output::ToLane(lane, message));
    }

    fn tell_lanes(&mut self, message: &ToLane) {
        for lane in 0..self.config.lanes {
            self.tell_lane(LaneId(lane), message.clone());
        }
    }

    fn job(&mut self, owner: JobFor, job: Job) -> JobId {
        let id = JobId(self.next_job);
        self.next_job = self.next_job.wrapping_add(1);
        self.jobs.insert(id, owner);
        self.outputs.push_back(Output::Job(id, job));
        id
    }

    /// Moves a controller along its table. False if the table does not allow it: counted, told, not done.
    fn transit(&mut self, now: Instant, id: CtrlId, to: State, why: impl Into<String>) -> bool {
        let Some(ctrl) = self.controllers.get_mut(&id) else { return false };
        let from = ctrl.state.name();
        if !from.allows(to.name()) {
            ctrl.counters.transitions_refused += 1;
            self.emit(now, EventKind::TransitionRefused { ctrl: id, from, to: to.name() });
            return false;
        }
        ctrl.state = to;
        let why = why.into();
        self.emit(now, EventKind::ControllerState { ctrl: id, from, to: to.name(), why });
        true
    }
}
