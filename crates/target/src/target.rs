//! A whole target: its lanes on their reactors, and the handle that programs hold.

use crate::config::{Ana, Backing as BackingConfig, Config, ConfigError, FaultConfig, NamespaceConfig};
use crate::control::{ControlMail, ControlService};
use crate::file::{FileError, Opened};
use crate::lane::{LaneMail, LaneService};
use crate::memory::Memory;
use crate::store::Backing;
use interlock_base::Instant;
use interlock_carry::Mailbox;
use interlock_ring::{Reactor, ServiceId};
use interlock_target_core::config::{
    Ccr, Config as CoreConfig, Hosts, Limits, Offers, PortConfig as CorePort, SubsystemConfig,
};
use interlock_target_core::{
    Control, Event, Fault, Lane, LaneId, Namespace, NamespaceError, NamespaceKey, PortId, SubsystemId,
};
use interlock_wire::ana::State as AnaState;
use interlock_wire::nqn::{Nqn, NqnError};
use interlock_wire::status::Status;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An answer from a reactor is a matter of microseconds; after this it is stuck or gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The one subsystem of a target.
const SUBSYSTEM: SubsystemId = SubsystemId(0);

/// Keep-alive granularity in units of 100 ms: a KATO of whole seconds is taken as it is.
const KAS: u16 = 10;

/// Highest CNTLID that a controller may have: FFF0h and above are reserved.
const CNTLID_MAX: u16 = 0xffef;

/// How long an answer to CCR may wait for the reset to finish, so that it can say "immediate", in milliseconds.
const CCR_ANSWER_MS: u32 = 10;

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
    #[error("`{text}` is no NQN: {why}")]
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
    /// The system refuses something else.
    #[error("the target cannot start: {0}")]
    Start(#[from] io::Error),
    /// A reactor does not answer.
    #[error("the target does not answer: its reactor has ended or is stuck")]
    Gone,
}

/// A running target. It ends with [`Target::shutdown`], or with its reactors.
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
    ports: Vec<SocketAddr>,
    discovery: Vec<SocketAddr>,
    control: Mailbox<ControlMail>,
    lanes: Vec<Mailbox<LaneMail>>,
    services: Mutex<Vec<(Reactor, ServiceId)>>,
}

impl Target {
    /// Starts a target: control on the first reactor, a lane on each, ports spread over the lanes.
    ///
    /// # Errors
    /// If the configuration cannot be, a file or an address is in use, or a reactor cannot be used. Nothing is left
    /// behind then.
    pub fn start(reactors: &[Reactor], config: &Config) -> Result<Self, TargetError> {
        config.check()?;
        let lanes = u16::try_from(reactors.len())
            .ok()
            .filter(|lanes| *lanes > 0)
            .ok_or_else(|| io::Error::other("a target runs on 1 to 65,535 reactors"))?;
        let mut namespaces = Vec::new();
        for (place, namespace) in config.namespaces.iter().enumerate() {
            namespaces.push(open(&config.nqn, config.nsid(place), namespace)?);
        }
        let core = core_config(config, lanes, namespaces.iter().map(|(namespace, _)| namespace.clone()).collect())?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::from)?;
        let mut control = Control::new(core.clone(), u64::from_le_bytes(seed))?;

        let mut starting = Self {
            ports: Vec::new(),
            discovery: Vec::new(),
            control: Mailbox::default(),
            lanes: (0..lanes).map(|_| Mailbox::default()).collect(),
            services: Mutex::new(Vec::new()),
        };
        let outcome = starting.start_services(reactors, config, &core, &mut control, namespaces);
        let places = match outcome {
            Ok(places) => places,
            Err(error) => {
                starting.detach();
                return Err(error);
            }
        };
        let mailbox = starting.control.clone();
        let lanes = starting.lanes.clone();
        starting.attach(&reactors[0], move |cx| Box::new(ControlService::new(cx, control, mailbox, lanes, places)))?;
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
    ) -> Result<BTreeMap<PortId, (usize, SocketAddr)>, TargetError> {
        for (id, (reactor, mailbox)) in (0..core.lanes).zip(reactors.iter().zip(self.lanes.clone())) {
            let lane = Lane::new(LaneId(id), core.limits);
            let control = self.control.clone();
            self.attach(reactor, move |cx| Box::new(LaneService::new(cx, lane, mailbox, control)))?;
        }
        for (namespace, backing) in namespaces {
            self.attach_namespace(&namespace, &backing)?;
        }
        let mut places = BTreeMap::new();
        for (index, port) in core.ports.iter().enumerate() {
            let lane = index % self.lanes.len();
            let (bound, answer) = mpsc::channel();
            self.lanes[lane].send(LaneMail::Listen { port: port.id, addr: port.address, bound });
            let addr = answer
                .recv_timeout(ANSWER_WITHIN)
                .map_err(|_| TargetError::Gone)?
                .map_err(|source| TargetError::Listen { addr: port.address, source })?;
            control.set_port_address(port.id, addr);
            places.insert(port.id, (lane, addr));
            if index < config.ports.len() {
                self.ports.push(addr);
                let state = ana_of(config.ports[index].ana);
                if state != AnaState::Optimized {
                    control.set_ana(SUBSYSTEM, 1, port.id, state);
                }
            } else {
                self.discovery.push(addr);
            }
        }
        Ok(places)
    }

    /// Where each port listens, in the order of the configuration: `PortId(n)` is the n-th.
    #[must_use]
    pub fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// Where the discovery-only ports listen.
    #[must_use]
    pub fn discovery(&self) -> &[SocketAddr] {
        &self.discovery
    }

    /// What happens from now on. Drop the receiver to end it.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<Stamped> {
        let (sender, receiver) = mpsc::channel();
        self.control.send(ControlMail::Subscribe(sender));
        receiver
    }

    /// Does something wrong, as told.
    pub fn script(&self, fault: Fault) {
        self.control.send(ControlMail::Ask(Box::new(move |control, _| control.script(fault))));
    }

    /// Adds a namespace; connected hosts are told.
    ///
    /// # Errors
    /// If it cannot be opened, or its identifier is taken.
    pub fn add_namespace(&self, nqn: &str, nsid: u32, config: &NamespaceConfig) -> Result<(), TargetError> {
        let (namespace, backing) = open(nqn, nsid, config)?;
        self.attach_namespace(&namespace, &backing)?;
        Ok(self.ask(move |control, _| control.add_namespace(SUBSYSTEM, namespace))??)
    }

    /// Takes a namespace away; connected hosts are told.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_namespace(&self, nsid: u32) -> Result<(), TargetError> {
        Ok(self.ask(move |control, _| control.remove_namespace(SUBSYSTEM, nsid))??)
    }

    /// Sets the ANA state of all namespaces as seen through a port; connected hosts are told.
    ///
    /// # Errors
    /// If the target does not answer.
    pub fn set_ana(&self, port: PortId, state: Ana) -> Result<bool, TargetError> {
        self.ask(move |control, _| control.set_ana(SUBSYSTEM, 1, port, ana_of(state)))
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

    fn attach_namespace(&self, namespace: &Namespace, backing: &Backing) -> Result<(), TargetError> {
        let key = NamespaceKey { subsystem: SUBSYSTEM, nsid: namespace.nsid };
        for lane in &self.lanes {
            let (attached, answer) = mpsc::channel();
            let (namespace, backing) = (namespace.clone(), backing.clone());
            lane.send(LaneMail::Attach { key, namespace, backing, attached });
            answer.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)??;
        }
        Ok(())
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

    fn ask<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Control, Instant) -> R + Send + 'static,
    ) -> Result<R, TargetError> {
        let (sender, receiver) = mpsc::channel();
        self.control.send(ControlMail::Ask(Box::new(move |control, now| {
            // The asker may have given up.
            let _ = sender.send(ask(control, now));
        })));
        receiver.recv_timeout(ANSWER_WITHIN).map_err(|_| TargetError::Gone)
    }
}

/// Opens what holds the blocks of a namespace, and says what the namespace looks like.
fn open(nqn: &str, nsid: u32, config: &NamespaceConfig) -> Result<(Namespace, Backing), TargetError> {
    let (bytes, backing) = match &config.backing {
        BackingConfig::Memory { bytes } => {
            let memory = Memory::new(*bytes).map_err(|source| TargetError::Memory { nsid, bytes: *bytes, source })?;
            (*bytes, Backing::Memory(Arc::new(memory)))
        }
        BackingConfig::Null { bytes } => (*bytes, Backing::Null),
        BackingConfig::File { path } => {
            let opened = Opened::new(path, config.block_size, config.read_only)?;
            (opened.len, Backing::File(Arc::new(opened)))
        }
    };
    let (nguid, uuid) = identity(nqn, nsid, &config.backing.to_string());
    let namespace = Namespace {
        nsid,
        blocks: bytes / u64::from(config.block_size),
        block_shift: u8::try_from(config.block_size.trailing_zeros()).unwrap_or(12),
        read_only: config.read_only,
        nguid,
        uuid,
        ana_group: 1,
        // Not every file system can make deallocated blocks read as zeroes.
        zeroes_when_deallocated: !matches!(backing, Backing::File(_)),
    };
    Ok((namespace, backing))
}

/// Identifiers that are the same on every port and after every restart: drawn from the names.
fn identity(nqn: &str, nsid: u32, backing: &str) -> ([u8; 16], [u8; 16]) {
    let draw = |salt: &str| {
        let high = interlock_base::fingerprint(&(salt, nqn, nsid, backing));
        let low = interlock_base::fingerprint(&(high, salt, backing));
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    };
    let mut uuid = draw("uuid");
    // RFC 9562: version 8 (made by a rule of our own), variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    (draw("nguid"), uuid)
}

fn core_config(config: &Config, lanes: u16, namespaces: Vec<Namespace>) -> Result<CoreConfig, TargetError> {
    let nqn = |text: &String| Nqn::new(text.as_str()).map_err(|why| TargetError::Nqn { text: text.clone(), why });
    let hosts = if config.allow_hosts.is_empty() {
        Hosts::Any
    } else {
        Hosts::List(config.allow_hosts.iter().map(nqn).collect::<Result<_, _>>()?)
    };
    let recovery = config.recovery;
    let ccr = if recovery.ccr {
        Ccr::On { limit: recovery.ccr_limit, drain_ms: 0, answer_ms: CCR_ANSWER_MS }
    } else {
        Ccr::Off
    };
    let subsystem = SubsystemConfig {
        nqn: nqn(&config.nqn)?,
        serial: config.serial.clone(),
        model: config.model.clone(),
        hosts,
        namespaces,
        cntlids: (1, CNTLID_MAX),
        kas: KAS,
        tbkas: recovery.traffic_based_keep_alive,
        cqt_ms: recovery.cqt_ms,
        quiesce_ms: recovery.quiesce_ms,
        ccr,
        ana_groups: 1,
    };
    let all = config.ports.iter().map(|port| (port, Offers::All));
    let discovery = config.discovery.iter().map(|port| (port, Offers::Discovery));
    let ports = (0..)
        .zip(all.chain(discovery))
        .map(|(id, (port, offers))| CorePort { id: PortId(id), address: port.listen, offers })
        .collect();
    let limits = Limits {
        io_queues: config.io_queues,
        queue_depth: config.queue_size.max(32),
        max_transfer: config.max_transfer_kib * 1024,
        hdgst: config.digests,
        ddgst: config.digests,
        ..Limits::default()
    };
    Ok(CoreConfig { subsystems: vec![subsystem], ports, lanes, limits })
}

const fn ana_of(state: Ana) -> AnaState {
    match state {
        Ana::Optimized => AnaState::Optimized,
        Ana::NonOptimized => AnaState::NonOptimized,
        Ana::Inaccessible => AnaState::Inaccessible,
    }
}

fn fault_of(fault: FaultConfig) -> Fault {
    match fault {
        FaultConfig::HoldWrites { port } => Fault::HoldWrites { port: PortId(port) },
        FaultConfig::Delay { port, ms } => Fault::Delay { port: PortId(port), ms },
        FaultConfig::Drop { port } => Fault::Drop { port: PortId(port) },
        FaultConfig::CcrRefuse { status } => Fault::CcrRefuse(Status(status)),
        FaultConfig::CcrLate { ms } => Fault::CcrLate { ms },
        FaultConfig::CcrLoseEvent => Fault::CcrLoseEvent,
        FaultConfig::SlowDrain { ms } => Fault::SlowDrain { ms },
        FaultConfig::RdyBeforeDrained => Fault::RdyBeforeDrained,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_and_differ() {
        let one = identity("nqn.2026-11.io.example:a", 1, "mem:1");
        assert_eq!(one, identity("nqn.2026-11.io.example:a", 1, "mem:1"));
        assert_ne!(one.0, one.1);
        assert_ne!(one, identity("nqn.2026-11.io.example:a", 2, "mem:1"));
        assert_ne!(one, identity("nqn.2026-11.io.example:b", 1, "mem:1"));
    }
}
