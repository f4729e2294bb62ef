//! A host: control on one reactor, lanes on one or more, and the handle that programs hold.

use crate::abandon::Abandons;
use crate::control::{ControlMail, ControlService};
use crate::counters::DataCounters;
use crate::jobs::{Jobs, JobsEnd};
use crate::lane::{Common, LaneMail, LaneService};
use crate::latch::FlushErrors;
use crate::links::Sockets;
use crate::local::LaneKey;
use crate::namespace::Namespace;
use crate::panic::{Ending, OnPanic};
use crate::predecessor;
use crate::store::{LifeStore, MemoryStore};
use interlock_base::{Deadline, Instant};
use interlock_carry::Mailbox;
use interlock_host_core::poison::SuspectCommand;
use interlock_host_core::{
    AnaState, Control, ControllerCounters, ControllerInfo, ControllerSpec, CtrlId, Event, EventKind, HeadId, HeadInfo,
    HostConfig, HostCounters, Lane, LaneConfig, LaneCounters, LaneId, LaneStatus, LaneWhy, LifeFacts, LifeId,
    NoSuchController, NotUnfenced, Outcome, Receipt, Setting, SettingError, Shape, SpecError, StateName, Tombstone,
    Unfenced, UnfencedWhy, WaitOwner, Why,
};
use interlock_ring::{BufPool, Reactor, ServiceId};
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::{HostId, Nqn};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// An answer from control or a lane is a matter of microseconds; after this the reactor is stuck or gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Buffers kept for reuse by one host.
const CACHED_BUFFERS: usize = 64 << 20;

/// Events that may wait for one listener. A thousand paths lost and fenced at once are about as many.
pub const EVENTS_BEHIND: usize = 16_384;

/// Requests one lane holds at once.
const REQUESTS_PER_LANE: u32 = 65_536;

static NEXT_HOST: AtomicU64 = AtomicU64::new(1);

/// Who this host is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostSettings {
    /// Host NQN.
    pub hostnqn: Nqn,
    /// Host Identifier. A host has one for its NQN.
    pub hostid: HostId,
}

impl HostSettings {
    /// A new identity: a random Host Identifier, and the NQN made of it.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::from)?;
        // RFC 9562: version 4, variant 1.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hostid = HostId(bytes);
        Ok(Self { hostnqn: Nqn::of_host(hostid), hostid })
    }
}

/// Why a host cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Its threads could not be started.
    #[error("the host cannot start: {0}")]
    Start(#[from] io::Error),
    /// A setting cannot be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The controller could not be connected.
    #[error("{addr}: {why}")]
    Connect {
        /// Address and port as given.
        addr: String,
        /// In one sentence.
        why: String,
    },
    /// There is no such controller.
    #[error(transparent)]
    NoSuchController(#[from] NoSuchController),
    /// A setting cannot be changed.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No such life waits for a fence.
    #[error(transparent)]
    NotUnfenced(#[from] NotUnfenced),
    /// Lost lives are not fenced yet.
    #[error("{} not fenced within {within:?}: {}", plural(.left.len()), waiting(.left))]
    NotFenced {
        /// The time that was given.
        within: Duration,
        /// Those that may still change the namespace.
        left: Vec<Unfenced>,
    },
    /// There is no such namespace.
    #[error("subsystem `{subnqn}` has no namespace {nsid}{}", listed(.known))]
    NoSuchNamespace {
        /// Where.
        subnqn: String,
        /// Which.
        nsid: u32,
        /// Those it has.
        known: Vec<u32>,
    },
    /// Nobody has chosen what a panic ends.
    #[error(
        "the store of lives ends with the process, so a successor could fence nothing: choose what a panic of the host \
         ends (`Host::start_as` with `OnPanic`)"
    )]
    NothingOutlives,
    /// A reactor does not answer.
    #[error("the host does not answer: its reactor has ended or is stuck")]
    Gone,
}

fn plural(lives: usize) -> String {
    if lives == 1 { "1 life is".into() } else { format!("{lives} lives are") }
}

fn waiting(left: &[Unfenced]) -> String {
    let list: Vec<String> = left.iter().map(|life| format!("{} of {}", life.life, life.ctrl)).collect();
    list.join(", ")
}

fn listed(known: &[u32]) -> String {
    if known.is_empty() {
        return ": it has none that this host may use".into();
    }
    let list: Vec<String> = known.iter().map(u32::to_string).collect();
    format!(": it has {}", list.join(", "))
}

/// What every handle of one host shares.
pub(crate) struct Shared {
    pub(crate) key: u64,
    pub(crate) buffers: BufPool,
    settings: HostSettings,
    control: Mailbox<ControlMail>,
    pub(crate) lanes: Vec<Mailbox<LaneMail>>,
    pub(crate) abandons: Arc<Abandons>,
    pub(crate) flush_errors: Arc<FlushErrors>,
    next_lane: AtomicUsize,
    services: RwLock<Vec<(Reactor, ServiceId)>>,
    jobs: JobsEnd,
    /// Dropped with the host; others wait for that.
    _alive: Sender<Infallible>,
}

/// A host. Clones share it; it ends with [`Host::shutdown`], or with its reactors.
///
/// ```no_run
/// use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Pool, PoolConfig};
/// use std::time::Duration;
///
/// let pool = Pool::new(PoolConfig::default())?;
/// let host = Host::start(pool.reactors(), HostSettings::random()?)?;
/// let subnqn = Nqn::new("nqn.2026-11.io.interlock:target")?;
/// for port in [4420, 4421] {
///     host.connect_and_wait(ControllerSpec::new("127.0.0.1", port, subnqn.clone()), Duration::from_secs(5))?;
/// }
/// let namespace = host.namespace(subnqn.as_str(), 1)?;
/// let (outcome, buf) = namespace.read(0, 8).wait();
/// println!("{outcome:?}, {} bytes", buf.map_or(0, |buf| buf.as_slice().len()));
/// host.shutdown(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Host(Arc<Shared>);

/// One controller, as it stands.
#[derive(Clone, Debug)]
pub struct ControllerStatus {
    /// Its name.
    pub id: CtrlId,
    /// Address and port as given.
    pub addr: String,
    /// Where it is connected to.
    pub peer: Option<SocketAddr>,
    /// Its subsystem.
    pub subnqn: String,
    /// What was asked for, with what was changed since.
    pub spec: ControllerSpec,
    /// Its state.
    pub state: StateName,
    /// The life that is coming, there or going.
    pub life: Option<LifeId>,
    /// Something looks wrong; it is avoided.
    pub slow: bool,
    /// What its present life said about itself.
    pub facts: Option<LifeFacts>,
    /// Earlier lives of it that are not fenced yet.
    pub fencing: Vec<LifeId>,
    /// Why it is not live, in one sentence.
    pub last_error: Option<String>,
    /// Its counters.
    pub counters: ControllerCounters,
}

/// One namespace, as it stands.
#[derive(Clone, Debug)]
pub struct NamespaceStatus {
    /// Its name.
    pub head: HeadId,
    /// Its subsystem.
    pub subnqn: String,
    /// Its identifier there.
    pub nsid: u32,
    /// What it looks like.
    pub shape: Shape,
    /// By what it is known.
    pub ids: NamespaceIds,
    /// Its usable and unusable paths.
    pub paths: Vec<PathStatus>,
    /// Commands with which instances were lost, and that wait to be sent alone.
    pub suspects: Vec<SuspectCommand>,
}

/// One path of a namespace, as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus {
    /// Through this controller.
    pub ctrl: CtrlId,
    /// Its life.
    pub life: LifeId,
    /// Its ANA state.
    pub ana: AnaState,
    /// Its ANA group; 0: it is in none.
    pub ana_group: u32,
}

/// One wait of control or a lane, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitStatus {
    /// When it ends.
    pub at: Instant,
    /// Whose wait it is.
    pub owner: WaitOwner,
    /// What is waited for.
    pub what: WaitFor,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// By control.
    Control(Why),
    /// By a lane.
    Lane(LaneWhy),
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(why) => f.write_str(why.what()),
            Self::Lane(why) => why.fmt(f),
        }
    }
}

/// The whole host at one moment.
#[derive(Clone, Debug)]
pub struct HostStatus {
    /// Controllers, those that are gone included.
    pub controllers: Vec<ControllerStatus>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceStatus>,
    /// Everything that is waited for.
    pub waits: Vec<WaitStatus>,
    /// Unfenced lives whose ranges are guarded.
    pub tombstones: Vec<Tombstone>,
    /// Receipts, oldest first.
    pub receipts: Vec<Receipt>,
    /// Counters that outlive the controllers.
    pub counters: HostCounters,
}

impl Host {
    /// Starts a host: control on the first reactor, a lane on each. It remembers nothing of earlier processes, and leaves
    /// nothing to later ones: what may still be under way of a process that was killed is not fenced. For that see
    /// [`Host::start_with`]. As nobody would fence what a panic leaves, a panic ends the host and not the process:
    /// [`OnPanic::EndHost`].
    ///
    /// # Errors
    /// If there is no reactor, or its threads cannot be used.
    pub fn start(reactors: &[Reactor], settings: HostSettings) -> Result<Self, HostError> {
        Self::start_as(reactors, settings, Box::new(MemoryStore::default()), OnPanic::EndHost)
    }

    /// As [`Host::start`], with a store for the records of lives: a [`FileStore`](crate::FileStore), so that what this
    /// process leaves is fenced by the next one, and what an earlier one left by this one. Nothing is written to the
    /// subsystems of such lives before they are fenced; reads flow. [`HostStatus::tombstones`] lists them. A panic of control
    /// or of a lane ends the process ([`OnPanic::EndProcess`]).
    ///
    /// # Errors
    /// As [`Host::start`]; [`HostError::NothingOutlives`] if the store ends with the process.
    pub fn start_with(
        reactors: &[Reactor],
        settings: HostSettings,
        store: Box<dyn LifeStore>,
    ) -> Result<Self, HostError> {
        if !store.outlives_process() {
            return Err(HostError::NothingOutlives);
        }
        Self::start_as(reactors, settings, store, OnPanic::EndProcess)
    }

    /// As [`Host::start_with`], and says what a panic of control or of a lane ends.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub fn start_as(
        reactors: &[Reactor],
        settings: HostSettings,
        mut store: Box<dyn LifeStore>,
        on_panic: OnPanic,
    ) -> Result<Self, HostError> {
        let Some(first) = reactors.first() else {
            return Err(HostError::Start(io::Error::other("a host needs at least one reactor")));
        };
        let lanes = u16::try_from(reactors.len()).map_err(|_| io::Error::other("a host has at most 65,535 lanes"))?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::from)?;
        let seed = u64::from_le_bytes(seed);
        let control_mail = Mailbox::<ControlMail>::default();
        let lane_mail: Vec<Mailbox<LaneMail>> = (0..lanes).map(|_| Mailbox::default()).collect();
        let predecessors = store.predecessors();
        let remembered = store.outlives_process();
        let sockets = Sockets::default();
        let (jobs, jobs_end) = Jobs::new(store, sockets.clone(), control_mail.clone())?;
        let (alive, host_ended) = mpsc::channel();
        let abandons = Arc::new(Abandons::new(&lane_mail));
        let ending = Arc::new(Ending::new(on_panic, remembered, Arc::clone(&abandons), control_mail.clone()));
        let shared = Arc::new(Shared {
            key: NEXT_HOST.fetch_add(1, Ordering::Relaxed),
            buffers: BufPool::new(CACHED_BUFFERS),
            settings: settings.clone(),
            control: control_mail.clone(),
            lanes: lane_mail.clone(),
            abandons: Arc::clone(&abandons),
            flush_errors: Arc::default(),
            next_lane: AtomicUsize::new(0),
            services: RwLock::new(Vec::new()),
            jobs: jobs_end,
            _alive: alive,
        });
        let mut control = Control::new(HostConfig { hostnqn: settings.hostnqn, hostid: settings.hostid, lanes, seed });
        control.predecessors(interlock_ring::now(), predecessors.iter().map(|old| old.record.clone()).collect());
        let mut services = Vec::new();
        let stopped = |error| HostError::Start(io::Error::other(error));
        let for_lanes = lane_mail.clone();
        let mailbox = control_mail.clone();
        let (connections, end) = (sockets.clone(), Arc::clone(&ending));
        let id = first
            .attach(move |cx| Box::new(ControlService::new(cx, control, mailbox, for_lanes, jobs, connections, end)))
            .map_err(stopped)?;
        services.push((first.clone(), id));
        let lanes_of_all: Arc<[_]> = lane_mail.clone().into();
        for (index, (reactor, mailbox)) in (0..lanes).zip(reactors.iter().zip(lane_mail)) {
            let lane = LaneId(index);
            let key = LaneKey { host: shared.key, lane };
            let config = LaneConfig { id: lane, requests_max: REQUESTS_PER_LANE, seed: seed ^ u64::from(index) };
            let (to_control, connections) = (control_mail.clone(), sockets.clone());
            let common = Common {
                abandons: Arc::clone(&abandons),
                flush_errors: Arc::clone(&shared.flush_errors),
                ending: Arc::clone(&ending),
                lanes: Arc::clone(&lanes_of_all),
            };
            let id = reactor
                .attach(move |cx| {
                    Box::new(LaneService::new(cx, Lane::new(config), key, mailbox, to_control, &common, connections))
                })
                .map_err(stopped)?;
            services.push((reactor.clone(), id));
        }
        *shared.services.write().unwrap_or_else(PoisonError::into_inner) = services;
        predecessor::watch(predecessors, control_mail, host_ended)?;
        Ok(Self(shared))
    }

    /// Who this host is.
    #[must_use]
    pub fn settings(&self) -> &HostSettings {
        &self.0.settings
    }

    /// Begins to keep a controller connected. Attempts go on as its [`Reconnect`](crate::Reconnect) policy says.
    ///
    /// # Errors
    /// If a setting cannot be, or this port of this subsystem is connected already.
    pub fn connect(&self, spec: ControllerSpec) -> Result<CtrlId, HostError> {
        Ok(self.ask(move |control, now| control.connect(now, spec))??)
    }

    /// As [`Host::connect`], under a name that the program remembers: of a controller that is gone, or that an earlier
    /// process had.
    ///
    /// # Errors
    /// As [`Host::connect`], and if another controller has that name.
    pub fn connect_as(&self, id: CtrlId, spec: ControllerSpec) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.connect_as(now, id, spec))??)
    }

    /// Connects and waits until the controller is live. If the first attempt fails, nothing is left behind.
    ///
    /// # Errors
    /// As [`Host::connect`], and why the first attempt failed.
    pub fn connect_and_wait(&self, spec: ControllerSpec, within: Duration) -> Result<CtrlId, HostError> {
        let addr = address(&spec);
        let events = self.subscribe();
        let id = self.connect(spec)?;
        let failed = |why: String| HostError::Connect { addr: addr.clone(), why };
        let deadline = std::time::Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let why = match events.recv_timeout(left).map(|event| event.kind) {
                Ok(EventKind::LifeBegan { ctrl, .. }) if ctrl == id => return Ok(id),
                Ok(
                    EventKind::ConnectFailed { ctrl, why, .. }
                    | EventKind::GivenUp { ctrl, why }
                    | EventKind::ControllerState { ctrl, to: StateName::Dead, why, .. },
                ) if ctrl == id => why,
                Ok(_) => continue,
                Err(RecvTimeoutError::Timeout) => format!("not connected within {within:?}"),
                Err(RecvTimeoutError::Disconnected) => return Err(HostError::Gone),
            };
            // Gone already is as good.
            let _ = self.disconnect(id);
            return Err(failed(why));
        }
    }

    /// Ends a controller in order: what is in flight is answered first; what is not answered in time is fenced.
    ///
    /// # Errors
    /// If there is no such controller.
    pub fn disconnect(&self, ctrl: CtrlId) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.disconnect(now, ctrl))??)
    }

    /// Ends the present life of a controller in order and begins a new one.
    ///
    /// # Errors
    /// If there is no such controller.
    pub fn reset(&self, ctrl: CtrlId) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.reset(now, ctrl))??)
    }

    /// Looks at the namespaces of a controller now, as if it had said that they changed. One that is not live is looked at
    /// when it is.
    ///
    /// # Errors
    /// If there is no such controller.
    pub fn rescan(&self, ctrl: CtrlId) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.rescan(now, ctrl))??)
    }

    /// Changes a setting of a controller.
    ///
    /// # Errors
    /// If there is no such controller, or the setting cannot be.
    pub fn set(&self, ctrl: CtrlId, setting: Setting) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.set(now, ctrl, setting))??)
    }

    /// Tries now to reconnect a controller that waits; under [`OnLoss::Notify`](crate::OnLoss) nothing else does.
    ///
    /// # Errors
    /// If there is no such controller.
    pub fn reconnect(&self, ctrl: CtrlId) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.reconnect(now, ctrl))??)
    }

    /// Declares a lost life over without proof: what waits for its fence continues. Counted as unsafe.
    ///
    /// # Errors
    /// If no such life waits for a fence.
    pub fn fence_accept_risk(&self, life: LifeId) -> Result<(), HostError> {
        Ok(self.ask(move |control, now| control.fence_accept_risk(now, life))??)
    }

    /// Why every flush of a namespace fails, if it does: [`Namespace::flush_error`].
    #[must_use]
    pub fn flush_error(&self, head: HeadId) -> Option<Outcome> {
        self.0.flush_errors.error(head)
    }

    /// Lets flushes of a namespace succeed again, and gives what [`Host::flush_error`] said: [`Namespace::clear_flush_error`].
    pub fn clear_flush_error(&self, head: HeadId) -> Option<Outcome> {
        self.0.flush_errors.clear(head)
    }

    /// Every life of this host that may still change the namespace: those that are alive, and those that were lost (by
    /// this process or an earlier one) and are not fenced.
    ///
    /// # Errors
    /// If the name is none, or the host does not answer.
    pub fn unfenced(&self, subnqn: &str, nsid: u32) -> Result<Vec<Unfenced>, HostError> {
        let no_such = |_| HostError::NoSuchNamespace { subnqn: subnqn.to_owned(), nsid, known: Vec::new() };
        let subnqn = Nqn::new(subnqn).map_err(no_such)?;
        self.ask(move |control, _| control.unfenced(&subnqn, nsid))
    }

    /// Every life of this host that may still change any namespace of the subsystem.
    ///
    /// # Errors
    /// If the name is none, or the host does not answer.
    pub fn unfenced_of(&self, subnqn: &str) -> Result<Vec<Unfenced>, HostError> {
        let no_such = |_| HostError::NoSuchNamespace { subnqn: subnqn.to_owned(), nsid: 0, known: Vec::new() };
        let subnqn = Nqn::new(subnqn).map_err(no_such)?;
        self.ask(move |control, _| control.unfenced_of(&subnqn))
    }

    /// Waits until every *lost* life of this host is proven unable to change the namespace. The answer names those that
    /// are alive: only if it is empty can this host write there no more.
    ///
    /// # Errors
    /// [`HostError::NotFenced`] if it took longer than that.
    pub fn wait_fenced(&self, subnqn: &str, nsid: u32, within: Duration) -> Result<Vec<Unfenced>, HostError> {
        let events = self.subscribe();
        let deadline = std::time::Instant::now() + within;
        loop {
            let all = self.unfenced(subnqn, nsid)?;
            let (alive, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|life| life.why == UnfencedWhy::Alive);
            if left.is_empty() {
                return Ok(alive);
            }
            match events.recv_timeout(deadline.saturating_duration_since(std::time::Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Err(HostError::NotFenced { within, left }),
                Err(RecvTimeoutError::Disconnected) => return Err(HostError::Gone),
            }
        }
    }

    /// What happens from now on. Drop the receiver to end it. One that does not read is disconnected once
    /// [`EVENTS_BEHIND`] events wait for it: it would have missed some, and knows so by that. [`Host::status`] tells what
    /// it missed.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Event> {
        let (sender, receiver) = mpsc::sync_channel(EVENTS_BEHIND);
        // A host that is gone says nothing: then the receiver is disconnected from the start.
        drop(self.0.control.offer(ControlMail::Subscribe(sender)));
        receiver
    }

    /// A namespace by subsystem and identifier. Handles are spread over the lanes.
    ///
    /// # Errors
    /// If no live controller has it.
    pub fn namespace(&self, subnqn: &str, nsid: u32) -> Result<Namespace, HostError> {
        let all = self.namespaces()?;
        let named = || all.iter().filter(|ns| ns.subnqn == subnqn && ns.nsid == nsid);
        // If its place was given to another disk: the one that is there.
        let Some(found) = named().find(|ns| !ns.paths.is_empty()).or_else(|| named().next()) else {
            let known = all.iter().filter(|ns| ns.subnqn == subnqn).map(|ns| ns.nsid).collect();
            return Err(HostError::NoSuchNamespace { subnqn: subnqn.to_owned(), nsid, known });
        };
        Ok(self.open(found.clone()))
    }

    /// A handle of a namespace that [`Host::namespaces`] told of: of this one, whatever is found in its place later. The
    /// host remembers every namespace that was opened for as long as it runs; one that nobody has opened, and no controller
    /// shows any more, may be forgotten: then every request of the handle is refused
    /// ([`Refused::NoSuchNamespace`](crate::Refused::NoSuchNamespace)).
    #[must_use]
    pub fn open(&self, mut found: NamespaceStatus) -> Namespace {
        let head = found.head;
        if !self.ask(move |control, _| control.open(head)).unwrap_or(false) {
            found.head = HeadId(u32::MAX); // nobody has this name
        }
        let lane = self.0.next_lane.fetch_add(1, Ordering::Relaxed) % self.0.lanes.len();
        let lane = LaneId(u16::try_from(lane).expect("a host has at most 65,535 lanes"));
        Namespace::new(Arc::clone(&self.0), lane, found)
    }

    /// Every namespace, and the subsystems that have a live controller: one that is missing here may be missing only
    /// because nobody can say.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn present(&self) -> Result<(Vec<NamespaceStatus>, BTreeSet<String>), HostError> {
        self.ask(|control, _| {
            let live = control.controllers().filter(|info| info.state.name() == StateName::Live);
            let live = live.map(|info| info.spec.subnqn.to_string()).collect();
            (namespaces(control), live)
        })
    }

    /// Every namespace.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn namespaces(&self) -> Result<Vec<NamespaceStatus>, HostError> {
        self.ask(|control, _| namespaces(control))
    }

    /// The whole host at one moment.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn status(&self) -> Result<HostStatus, HostError> {
        self.ask(|control, _| HostStatus {
            controllers: control.controllers().map(controller_status).collect(),
            namespaces: namespaces(control),
            waits: control_waits(control),
            tombstones: control.tombstones(),
            receipts: control.receipts().cloned().collect(),
            counters: control.counters().clone(),
        })
    }

    /// The controllers of one subsystem.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn controllers_of(&self, subnqn: &str) -> Result<Vec<ControllerStatus>, HostError> {
        let subnqn = subnqn.to_owned();
        self.ask(move |control, _| {
            let of_it = control.controllers().filter(|info| info.spec.subnqn.as_str() == subnqn);
            of_it.map(controller_status).collect()
        })
    }

    /// Everything that control and the lanes wait for, the earliest first (`every_wait_has_a_deadline`).
    ///
    /// # Errors
    /// If control or a lane does not answer.
    pub fn waits(&self) -> Result<Vec<WaitStatus>, HostError> {
        let mut waits = self.ask(|control, _| control_waits(control))?;
        for (number, (lane, _)) in (0..).zip(self.lanes()?) {
            let owner = WaitOwner::Lane(LaneId(number));
            waits.extend(lane.waits.iter().map(|wait| WaitStatus {
                at: wait.at,
                owner,
                what: WaitFor::Lane(wait.why),
            }));
        }
        waits.sort_by_key(|wait| wait.at);
        Ok(waits)
    }

    /// Unfenced lives whose ranges are guarded.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn tombstones(&self) -> Result<Vec<Tombstone>, HostError> {
        self.ask(|control, _| control.tombstones())
    }

    /// One namespace; `None`: it is not there.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn namespace_of(&self, head: HeadId) -> Result<Option<NamespaceStatus>, HostError> {
        self.ask(move |control, _| {
            let found = control.heads().find(|info| info.id == head);
            found.map(|head| namespace_status(control, head))
        })
    }

    /// The state of one controller; `None`: it is not there.
    ///
    /// # Errors
    /// If the host does not answer.
    pub fn state_of(&self, ctrl: CtrlId) -> Result<Option<StateName>, HostError> {
        self.ask(move |control, _| control.controllers().find(|info| info.id == ctrl).map(|info| info.state.name()))
    }

    /// Proves that control and every lane are alive: each has taken a turn since this was asked.
    ///
    /// # Errors
    /// If one of them has not within that time.
    pub fn pulse(&self, within: Duration) -> Result<(), HostError> {
        let (sender, beats) = mpsc::channel();
        // The asker may have given up.
        let beat = |sender: &Sender<()>| _ = sender.send(());
        let own = sender.clone();
        let question = ControlMail::Ask(Box::new(move |_, _| beat(&own)));
        self.0.control.offer(question).map_err(|_| HostError::Gone)?;
        for lane in &self.0.lanes {
            let own = sender.clone();
            lane.offer(LaneMail::Ask(Box::new(move |_| beat(&own)))).map_err(|_| HostError::Gone)?;
        }
        let deadline = std::time::Instant::now() + within;
        for _ in 0..=self.0.lanes.len() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            beats.recv_timeout(left).map_err(|_| HostError::Gone)?;
        }
        Ok(())
    }

    /// What each lane is busy with, and its counters.
    ///
    /// # Errors
    /// If a lane does not answer.
    pub fn lanes(&self) -> Result<Vec<(LaneStatus, LaneCounters)>, HostError> {
        self.ask_lanes(|lane| (lane.status(), *lane.counters()))
    }

    /// How many lanes it has.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.0.lanes.len()
    }

    /// Counters and times of every path and namespace, and of the lanes as a whole.
    ///
    /// # Errors
    /// If a lane does not answer.
    pub fn data_counters(&self) -> Result<DataCounters, HostError> {
        let lanes = self.ask_lanes(|lane| DataCounters::of(lane, interlock_ring::now()))?;
        Ok(lanes
            .into_iter()
            .reduce(|mut sum, lane| {
                sum.add(lane);
                sum
            })
            .unwrap_or_default())
    }

    /// Asks every lane the same; all are asked before the first answer is awaited.
    fn ask_lanes<R: Send + 'static>(
        &self,
        ask: impl Fn(&Lane) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, HostError> {
        let mut answers = Vec::new();
        for lane in &self.0.lanes {
            let (sender, receiver) = mpsc::channel();
            let ask = ask.clone();
            let question = move |lane: &Lane| {
                // The asker may have given up.
                let _ = sender.send(ask(lane));
            };
            lane.offer(LaneMail::Ask(Box::new(question))).map_err(|_| HostError::Gone)?;
            answers.push(receiver);
        }
        answers.into_iter().map(|answer| answer.recv_timeout(ANSWER_WITHIN).map_err(|_| HostError::Gone)).collect()
    }

    /// Ends the host in order, at most within the given time; then its services are detached in any case. Writes in
    /// doubt that are not fenced by then end as indeterminate.
    ///
    /// # Errors
    /// If the orderly end took too long.
    pub fn shutdown(&self, within: Duration) -> Result<(), HostError> {
        let events = self.subscribe();
        let deadline = std::time::Instant::now() + within;
        let asked = self.ask(|control, now| control.shutdown(now));
        let ended = asked.is_ok()
            && loop {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                match events.recv_timeout(left) {
                    Ok(Event { kind: EventKind::ShutDown, .. }) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
        let services = std::mem::take(&mut *self.0.services.write().unwrap_or_else(PoisonError::into_inner));
        for (reactor, service) in services {
            // Gone already is as good.
            let _ = reactor.detach(service).wait(ANSWER_WITHIN);
        }
        // The last marks must be durable, and the directory free, before anybody builds upon that.
        if self.0.jobs.wait(ANSWER_WITHIN) && ended { Ok(()) } else { Err(HostError::Gone) }
    }

    fn ask<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control, Instant) -> R + Send + 'static,
    ) -> Result<R, HostError> {
        let (sender, receiver) = mpsc::channel();
        let question = ControlMail::Ask(Box::new(move |control, now| {
            // The asker may have given up.
            let _ = sender.send(ask(control, now));
        }));
        self.0.control.offer(question).map_err(|_| HostError::Gone)?;
        receiver.recv_timeout(ANSWER_WITHIN).map_err(|_| HostError::Gone)
    }
}

fn control_waits(control: &Control) -> Vec<WaitStatus> {
    let wait =
        |wait: Deadline<Why>| WaitStatus { at: wait.at, owner: wait.why.owner(), what: WaitFor::Control(wait.why) };
    control.waits().map(wait).collect()
}

fn namespaces(control: &Control) -> Vec<NamespaceStatus> {
    control.heads().map(|head| namespace_status(control, head)).collect()
}

fn namespace_status(control: &Control, head: HeadInfo<'_>) -> NamespaceStatus {
    let path = |(ctrl, life, ana, ana_group)| PathStatus { ctrl, life, ana, ana_group };
    NamespaceStatus {
        head: head.id,
        subnqn: head.subnqn.to_string(),
        nsid: head.nsid,
        shape: head.shape,
        ids: *head.ids,
        paths: head.paths.into_iter().map(path).collect(),
        suspects: control.suspects().filter(|suspect| suspect.head == head.id).collect(),
    }
}

fn controller_status(info: ControllerInfo<'_>) -> ControllerStatus {
    ControllerStatus {
        id: info.id,
        addr: address(info.spec),
        peer: info.addr,
        subnqn: info.spec.subnqn.to_string(),
        spec: info.spec.clone(),
        state: info.state.name(),
        life: info.state.life(),
        slow: info.slow,
        facts: info.facts.cloned(),
        fencing: info.fencing,
        last_error: info.last_error.map(str::to_owned),
        counters: info.counters.clone(),
    }
}

fn address(spec: &ControllerSpec) -> String {
    if spec.traddr.contains(':') {
        format!("[{}]:{}", spec.traddr, spec.trsvcid)
    } else {
        format!("{}:{}", spec.traddr, spec.trsvcid)
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod ends;
