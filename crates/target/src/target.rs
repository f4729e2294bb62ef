//! A whole target: its lanes on their reactors, and the handle that programs hold.

use crate::config::{Ana, Config, ConfigError, FaultConfig, NamespaceConfig};
use crate::control::{ControlMail, ControlService};
use crate::file::FileError;
use crate::kept::KeptError;
use crate::lane::{LaneMail, LaneService};
use crate::panic::{Ending, OnPanic};
use crate::shape::{Names, ana_of, core_config, fault_of, open};
use crate::store::Backing;
use interlock_base::Instant;
use interlock_carry::Mailbox;
use interlock_ring::{Reactor, ServiceId};
use interlock_target_core::config::Config as CoreConfig;
use interlock_target_core::{Control, Event, Fault, Lane, LaneId, Namespace, NamespaceError, PortId, SubsystemId};
use interlock_wire::ana::State as AnaState;
use interlock_wire::nqn::NqnError;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An answer from a reactor is a matter of microseconds; after this it is stuck or gone.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a process that was killed may hold an address: io_uring lets go of its sockets a moment after the process is gone,
/// and whoever supervises a target starts the next one at once.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(2);

/// Between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_millis(20);

/// Events that a listener may leave untaken.
pub const EVENTS_MAX: usize = 16_384;

/// The one subsystem of a target.
pub(crate) const SUBSYSTEM: SubsystemId = SubsystemId(0);

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When; the same clock as a host's in the same machine (`CLOCK_MONOTONIC`).
    pub at: Instant,
    /// What.
    pub event: Event,
}

/// Why a target cannot start or do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The configuration says something that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An NQN is not one.
    #[error("`{text}` is not a valid NQN: {why}")]
    Nqn {
        /// As given.
        text: String,
        /// Why.
        why: NqnError,
    },
    /// The core refuses the configuration.
    #[error("{0}")]
    Core(#[from] interlock_target_core::ConfigError),
    /// A namespace cannot be.
    #[error("{0}")]
    Namespace(#[from] NamespaceError),
    /// A file cannot be a namespace.
    #[error(transparent)]
    File(#[from] FileError),
    /// What outlives the target cannot be kept.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// Memory for a namespace cannot be had.
    #[error("namespace {nsid}: {bytes} bytes of memory cannot be had: {source}")]
    Memory {
        /// Which namespace.
        nsid: u32,
        /// How much.
        bytes: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A port cannot be opened.
    #[error("cannot {source}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// There is no such port.
    #[error("there is no port {port}: {}", if *.ports == 1 { "the only one is port 0".into() } else { format!("there are ports 0 to {}", .ports - 1) })]
    NoPort {
        /// As asked.
        port: u16,
        /// How many there are.
        ports: usize,
    },
    /// There is no such ANA group.
    #[error("there is no ANA group {group}: {}", if *.groups == 1 { "the only one is group 1".into() } else { format!("there are groups 1 to {}", .groups) })]
    NoGroup {
        /// As asked.
        group: u32,
        /// How many there are.
        groups: u32,
    },
    /// A namespace cannot have this size.
    #[error("namespace {nsid} cannot have {bytes} bytes: {why}")]
    Resize {
        /// Which namespace.
        nsid: u32,
        /// As asked.
        bytes: u64,
        /// Why not.
        why: String,
    },
    /// The system refuses something else.
    #[error("the target cannot start: {0}")]
    Start(#[from] io::Error),
    /// A reactor does not answer.
    #[error("the target does not answer: its reactor has ended or is stuck")]
    Gone,
}

/// A running target. It ends with [`Target::shutdown`], with its reactors, or as a whole when a part of it panics ([`OnPanic`]).
///
/// ```
/// use interlock_target::{Pool, PoolConfig, Target, config::Config};
/// use std::time::Duration;
///
/// let config = Config::from_toml(r#"
///     [[port]]
///     listen = "127.0.0.1:0"
///     [[namespace]]
///     backing = "mem:64M"
/// "#)?;
/// let pool = Pool::new(PoolConfig::default())?;
/// let target = Target::start(pool.reactors(), &config)?;
/// assert_ne!(target.ports()[0].port(), 0);
/// target.shutdown(Duration::from_secs(5))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Target {
    pub(crate) config: Config,
    pub(crate) names: Names,
    ports: Vec<SocketAddr>,
    discovery: Vec<SocketAddr>,
    pub(crate) control: Mailbox<ControlMail>,
    pub(crate) lanes: Vec<Mailbox<LaneMail>>,
    services: Mutex<Vec<(Reactor, ServiceId)>>,
    /// The namespaces that there are. Locked while one is changed: changes happen one after the other.
    pub(crate) namespaces: Mutex<BTreeMap<u32, Kept>>,
}

/// A namespace as it was asked for, and what holds its blocks.
pub(crate) struct Kept {
    pub(crate) config: NamespaceConfig,
    pub(crate) backing: Backing,
}

impl Target {
    /// Starts a target: control on the first reactor, a lane on each, ports spread over the lanes.
    ///
    /// # Errors
    /// If the configuration cannot be, a file or an address is in use, or a reactor cannot be used. Nothing is left
    /// behind then.
    pub fn start(reactors: &[Reactor], config: &Config) -> Result<Self, TargetError> {
        Self::start_as(reactors, config, OnPanic::EndTarget)
    }

    /// As [`Target::start`], and says what a panic of a part of it ends.
    ///
    /// # Errors
    /// As [`Target::start`].
    pub fn start_as(reactors: &[Reactor], config: &Config, on_panic: OnPanic) -> Result<Self, TargetError> {
        config.check()?;
        let lanes = u16::try_from(reactors.len())
            .ok()
            .filter(|lanes| *lanes > 0)
            .ok_or_else(|| io::Error::other("a target runs on 1 to 65,535 reactors"))?;
        let mut namespaces = Vec::new();
        for (place, namespace) in config.namespaces.iter().enumerate() {
            namespaces.push(open(config.nsid(place), namespace, config.state.as_deref())?);
        }
        let names = Names::new(config, &namespaces)?;
        let core =
            core_config(config, &names, lanes, namespaces.iter().map(|(namespace, _)| namespace.clone()).collect())?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::from)?;
        let mut control = Control::new(core.clone(), u64::from_le_bytes(seed))?;

        let mut starting = Self {
            config: config.clone(),
            names,
            ports: Vec::new(),
            discovery: Vec::new(),
            control: Mailbox::default(),
            lanes: (0..lanes).map(|_| Mailbox::default()).collect(),
            services: Mutex::new(Vec::new()),
            namespaces: Mutex::new(BTreeMap::new()),
        };
        let ending = Arc::new(Ending::new(on_panic, starting.control.clone(), starting.lanes.clone()));
        let outcome = starting.start_services(reactors, config, &core, &mut control, namespaces, &ending);
        let places = match outcome {
            Ok(places) => places,
            Err(error) => {
                starting.detach();
                return Err(error);
            }
        };
        let mailbox = starting.control.clone();
        let lanes = starting.lanes.clone();
        starting.attach(&reactors[0], move |cx| {
            Box::new(ControlService::new(cx, control, mailbox, lanes, places, ending))
        })?;
        for fault in &config.faults {
            starting.script(fault_of(*fault));
        }
        Ok(starting)
    }

    fn start_services(
        &mut self,
        reactors: &[Reactor],
        config: &Config,
        core: &CoreConfig,
        control: &mut Control,
        namespaces: Vec<(Namespace, Backing)>,
        ending: &Arc<Ending>,
    ) -> Result<BTreeMap<PortId, (usize, SocketAddr)>, TargetError> {
        for (id, (reactor, mailbox)) in (0..core.lanes).zip(reactors.iter().zip(self.lanes.clone())) {
            let lane = Lane::new(LaneId(id), core.limits);
            let (control, ending) = (self.control.clone(), Arc::clone(ending));
            self.attach(reactor, move |cx| Box::new(LaneService::new(cx, lane, mailbox, control, ending)))?;
        }
        for (place, (namespace, backing)) in namespaces.into_iter().enumerate() {
            self.attach_namespace(&namespace, &backing)?;
            let kept = Kept { config: config.namespaces[place].clone(), backing };
            self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.nsid, kept);
        }
        let mut places = BTreeMap::new();
        for (index, port) in core.ports.iter().enumerate() {
            let lane = index % self.lanes.len();
            let addr = self.listen(lane, port.id, port.address)?;
            control.set_port_address(port.id, addr);
            places.insert(port.id, (lane, addr));
            if index < config.ports.len() {
                self.ports.push(addr);
                let state = ana_of(config.ports[index].ana);
                if state != AnaState::Optimized {
                    for group in 1..=config.ana_groups {
                        control.set_ana(SUBSYSTEM, group, port.id, state);
                    }
                }
            } else {
                self.discovery.push(addr);
            }
        }
        Ok(places)
    }

    /// Listens on a port for the first time.
    fn listen(&self, lane: usize, port: PortId, addr: SocketAddr) -> Result<SocketAddr, TargetError> {
        once_free(PREDECESSOR_WITHIN, || {
            let (bound, answer) = mpsc::channel();
            self.lanes[lane].send(LaneMail::Listen { port, addr, bound });
            answer
                .recv_timeout(ANSWER_WITHIN)
                .map_err(|_| TargetError::Gone)?
                .map_err(|source| TargetError::Listen { addr, source })
        })
    }

    /// Where each port listens, in the order of the configuration: `PortId(n)` is the n-th.
    #[must_use]
    pub fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// The NQN of its subsystem: as configured, or one that no other target has.
    #[must_use]
    pub fn nqn(&self) -> &str {
        &self.names.nqn
    }

    /// Where the discovery-only ports listen.
    #[must_use]
    pub fn discovery(&self) -> &[SocketAddr] {
        &self.discovery
    }

    /// What happens from now on. Drop the receiver to end it. Who leaves [`EVENTS_MAX`] events untaken misses those that come
    /// then, and is told how many ([`Event::Missed`]).
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Stamped> {
        let (sender, receiver) = mpsc::sync_channel(EVENTS_MAX);
        self.control.send(ControlMail::Subscribe(sender));
        receiver
    }

    /// Does something wrong, as told.
    pub fn script(&self, fault: Fault) {
        self.control.send(ControlMail::Ask(Box::new(move |control, _| {
            control.script(fault);
            Box::new(|| {})
        })));
    }

    /// Does something wrong, as a configuration says it. Done when it returns.
    ///
    /// # Errors
    /// If it names a port that is not there, or the target does not answer.
    pub fn script_config(&self, fault: FaultConfig) -> Result<(), TargetError> {
        if let Some(port) = fault.port() {
            self.known(PortId(port))?;
        }
        self.ask(move |control, _| control.script(fault_of(fault)))?;
        // Mail is read in order: a lane that answers this knows of the fault.
        self.lane_status().map(drop)
    }

    /// Sets the ANA state of a group as seen through a port; connected hosts are told. Answers whether it changed.
    ///
    /// # Errors
    /// If there is no such port or group, or the target does not answer.
    pub fn set_ana(&self, port: PortId, group: u32, state: Ana) -> Result<bool, TargetError> {
        self.known(port)?;
        let groups = self.config.ana_groups;
        if !(1..=groups).contains(&group) {
            return Err(TargetError::NoGroup { group, groups });
        }
        self.ask(move |control, _| control.set_ana(SUBSYSTEM, group, port, ana_of(state)))
    }

    /// Stops listening on a port and resets its connections. Done when it returns.
    ///
    /// # Errors
    /// If there is no such port, or the target does not answer.
    pub fn close_port(&self, port: PortId) -> Result<(), TargetError> {
        self.known(port)?;
        self.ask(move |control, _| control.script(Fault::ClosePort { port }))?;
        // Mail is read in order: a lane that answers this has closed the port.
        self.lane_status().map(drop)
    }

    /// Listens on a closed port again, where it listened before. Nothing happens if it is open.
    ///
    /// # Errors
    /// If there is no such port, its address was taken meanwhile, or the target does not answer.
    pub fn open_port(&self, port: PortId) -> Result<SocketAddr, TargetError> {
        let addr = self.known(port)?;
        let (bound, answer) = mpsc::channel();
        self.control.send(ControlMail::Open(port, bound));
        let outcome = answer.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)?;
        outcome.map_err(|source| TargetError::Listen { addr, source })
    }

    fn known(&self, port: PortId) -> Result<SocketAddr, TargetError> {
        let all = || self.ports.iter().chain(&self.discovery);
        all().nth(port.0.into()).copied().ok_or(TargetError::NoPort { port: port.0, ports: all().count() })
    }

    /// Ends the target: associations at once, and lives when their last media operation is over.
    ///
    /// # Errors
    /// If that took longer than the given time; its services are detached all the same.
    pub fn shutdown(&self, within: Duration) -> Result<(), TargetError> {
        let events = self.subscribe();
        let deadline = std::time::Instant::now() + within;
        let ended = self.ask(|control, now| control.shutdown(now)).is_ok()
            && loop {
                let left = deadline.saturating_duration_since(std::time::Instant::now());
                match events.recv_timeout(left) {
                    Ok(Stamped { event: Event::ShutDown, .. }) => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
        self.detach();
        if ended { Ok(()) } else { Err(TargetError::Gone) }
    }

    fn attach(
        &self,
        reactor: &Reactor,
        factory: impl FnOnce(&mut interlock_ring::Cx<'_>) -> Box<dyn interlock_ring::Service> + Send + 'static,
    ) -> Result<(), TargetError> {
        let id = reactor.attach(factory).map_err(|_| TargetError::Gone)?;
        self.services.lock().unwrap_or_else(PoisonError::into_inner).push((reactor.clone(), id));
        Ok(())
    }

    fn detach(&self) {
        let services = std::mem::take(&mut *self.services.lock().unwrap_or_else(PoisonError::into_inner));
        for (reactor, service) in services {
            // Gone already is as good.
            let _ = reactor.detach(service).wait(ANSWER_WITHIN);
        }
    }

    pub(crate) fn ask<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control, Instant) -> R + Send + 'static,
    ) -> Result<R, TargetError> {
        let (sender, receiver) = mpsc::channel();
        self.control.send(ControlMail::Ask(Box::new(move |control, now| {
            let answer = ask(control, now);
            Box::new(move || {
                // The asker may have given up.
                let _ = sender.send(answer);
            })
        })));
        receiver.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)
    }
}

/// Listens as soon as nobody else does, or says why that was not so within the time given.
fn once_free<T>(within: Duration, mut listen: impl FnMut() -> Result<T, TargetError>) -> Result<T, TargetError> {
    let deadline = std::time::Instant::now() + within;
    loop {
        match listen() {
            Err(TargetError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && std::time::Instant::now() < deadline =>
            {
                std::thread::park_timeout(LISTEN_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: io::ErrorKind) -> TargetError {
        TargetError::Listen { addr: ([127, 0, 0, 1], 4420).into(), source: kind.into() }
    }

    #[test]
    fn an_address_that_a_dying_process_holds_is_waited_for() {
        let mut attempts = 0;
        let outcome = once_free(PREDECESSOR_WITHIN, || {
            attempts += 1;
            if attempts < 3 { Err(refused(io::ErrorKind::AddrInUse)) } else { Ok(attempts) }
        });
        assert_eq!(outcome.unwrap(), 3);
    }

    #[test]
    fn what_no_wait_can_help_is_said_at_once_and_the_wait_ends() {
        for (within, kind) in
            [(PREDECESSOR_WITHIN, io::ErrorKind::PermissionDenied), (Duration::ZERO, io::ErrorKind::AddrInUse)]
        {
            let mut attempts = 0;
            let outcome: Result<(), _> = once_free(within, || {
                attempts += 1;
                Err(refused(kind))
            });
            assert!(matches!(outcome, Err(TargetError::Listen { source, .. }) if source.kind() == kind));
            assert_eq!(attempts, 1, "{kind}");
        }
    }
}
