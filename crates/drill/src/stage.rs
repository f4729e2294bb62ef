//! What a scenario is played on: a target and a host, each on reactors of its own.

use crate::evidence::Fencing;
use crate::receipts::Paths;
use crate::run::Options;
use crate::scenario::{self, Scenario};
use interlock_host::{
    ControllerSpec, Event, FencePolicy, Host, HostError, HostSettings, LifeFacts, Namespace, Nqn, Reconnect, Timeouts,
};
use interlock_ring::{Pool, PoolConfig};
use interlock_target::config::{Backing, Config, NamespaceConfig, PortConfig, Recovery, SAMPLE_NQN};
use interlock_target::{Stamped, Target, TargetError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Bytes of the namespace.
const NAMESPACE_BYTES: u64 = 64 << 20;

/// Bytes per block.
const BLOCK_BYTES: u32 = 4096;

/// The one namespace.
const NSID: u32 = 1;

/// Connecting over loopback is a matter of milliseconds.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// An orderly end, too.
pub(crate) const END_WITHIN: Duration = Duration::from_secs(10);

/// Between attempts to reconnect, so that the drill stays short.
const RECONNECT_DELAY: Duration = Duration::from_millis(200);

/// A port that is dead without a word accepts connections (the kernel does) and says nothing: give up soon.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(1);

/// Why there is nothing to play on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("the drill cannot start its threads: {0}")]
    Threads(#[from] io::Error),
    #[error("the embedded target does not start: {0}")]
    Target(#[from] TargetError),
    #[error("the host does not connect to the target: {0}")]
    Host(#[from] HostError),
    #[error("the host found no namespace within {CONNECT_WITHIN:?}: {0}")]
    NoNamespace(HostError),
}

/// A target and a host that is connected to it.
pub(crate) struct Stage {
    pub(crate) target: Target,
    pub(crate) target_events: Receiver<Stamped>,
    pub(crate) host: Host,
    pub(crate) host_events: Receiver<Event>,
    pub(crate) namespace: Namespace,
    /// Where each controller is reached.
    pub(crate) paths: Paths,
    /// What the host was told about each path.
    pub(crate) spec: ControllerSpec,
    target_pool: Pool,
    host_pool: Pool,
}

impl Stage {
    /// Sets it up.
    pub(crate) fn set(scenario: &Scenario, fencing: Fencing, options: &Options) -> Result<Self, StageError> {
        let pool = |name: &str| {
            Pool::new(PoolConfig { reactors: 1, spin: options.spin, name: name.to_owned(), ..PoolConfig::default() })
        };
        let target_pool = pool("drill-target")?;
        let target = Target::start(target_pool.reactors(), &target_config(scenario))?;
        let target_events = target.subscribe();
        let host_pool = pool("drill-host")?;
        let host = Host::start(host_pool.reactors(), HostSettings::random()?)?;
        let host_events = host.subscribe();
        let subnqn = Nqn::new(SAMPLE_NQN).expect("the default NQN is one");
        let mut paths = Paths::new();
        let mut spec = None;
        for addr in target.ports() {
            let path = controller(*addr, &subnqn, scenario, fencing, options);
            paths.insert(host.connect_and_wait(path.clone(), CONNECT_WITHIN)?, *addr);
            spec.get_or_insert(path);
        }
        let spec = spec.expect("every scenario has a path");
        let namespace = namespace(&host, SAMPLE_NQN, NSID)?;
        Ok(Self { target, target_events, host, host_events, namespace, paths, spec, target_pool, host_pool })
    }

    /// What the first controller says of itself.
    pub(crate) fn facts(&self) -> Option<LifeFacts> {
        self.host.status().ok()?.controllers.into_iter().find_map(|controller| controller.facts)
    }

    /// Takes it down, the host first. What does not end in time is said in words.
    pub(crate) fn strike(self) -> Vec<String> {
        let mut troubles = Vec::new();
        let mut ended = |who: &str, result: Result<(), String>| {
            if let Err(error) = result {
                troubles.push(format!("{who} did not end within {END_WITHIN:?}: {error}"));
            }
        };
        ended("the host", self.host.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        ended("the target", self.target.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        drop((self.namespace, self.host, self.target));
        ended("the host's reactor", self.host_pool.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        ended("the target's reactor", self.target_pool.shutdown(END_WITHIN).map_err(|error| error.to_string()));
        troubles
    }
}

fn target_config(scenario: &Scenario) -> Config {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ports = match scenario.paths {
        scenario::Paths::One => 1,
        scenario::Paths::Two => 2,
    };
    let offers = scenario.offers;
    Config {
        ports: vec![PortConfig { listen, ana: interlock_target::config::Ana::Optimized }; ports],
        namespaces: vec![NamespaceConfig {
            nsid: Some(NSID),
            block_size: BLOCK_BYTES,
            ..NamespaceConfig::new(Backing::Memory { bytes: NAMESPACE_BYTES })
        }],
        recovery: Recovery {
            ccr: offers.ccr,
            cqt_ms: offers.cqt_ms,
            quiesce_ms: offers.quiesce_ms,
            // The shorter of the two bounds, so that the drill stays short.
            traffic_based_keep_alive: false,
            ..Recovery::default()
        },
        nqn: Some(SAMPLE_NQN.into()),
        ..Config::default()
    }
}

/// What the host is told about one path.
pub(crate) fn controller(
    addr: SocketAddr,
    subnqn: &Nqn,
    scenario: &Scenario,
    fencing: Fencing,
    options: &Options,
) -> ControllerSpec {
    ControllerSpec {
        kato: options.kato.unwrap_or(scenario.kato),
        nr_io_queues: options.nr_io_queues.unwrap_or(0),
        hdgst: options.digests,
        ddgst: options.digests,
        reconnect: Reconnect { delay: RECONNECT_DELAY, fast_io_fail: scenario.fast_io_fail, ..Reconnect::default() },
        timeouts: Timeouts {
            tcp_connect: HANDSHAKE_WITHIN,
            handshake: HANDSHAKE_WITHIN,
            assumed_cqt: Some(options.assumed_cqt.unwrap_or(scenario.assumed_cqt)),
            ..Timeouts::default()
        },
        fence: match fencing {
            Fencing::Strict => FencePolicy::Strict,
            Fencing::Legacy => FencePolicy::Legacy,
        },
        ..ControllerSpec::new(addr.ip().to_string(), addr.port(), subnqn.clone())
    }
}

/// The namespace is found a moment after the first controller is live.
pub(crate) fn namespace(host: &Host, subnqn: &str, nsid: u32) -> Result<Namespace, StageError> {
    let events = host.subscribe();
    let deadline = Instant::now() + CONNECT_WITHIN;
    loop {
        match host.namespace(subnqn, nsid) {
            Ok(namespace) => return Ok(namespace),
            Err(error) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Whatever happens next may be that it was found.
                if events.recv_timeout(left).is_err() {
                    return Err(StageError::NoNamespace(error));
                }
            }
        }
    }
}
