//! What paths are killed on: a host, and many subsystems of two ports or one.
//!
//! A path that is lost soon after it began flaps, and the host pauses before it comes back. So that a thousand kills do not
//! take a thousand times that pause, subsystems take turns: each has rested when its turn comes again.

use super::scene::Scene;
use anyhow::{Context, Result, bail};
use interlock_base::Instant;
use interlock_host::{ControllerSpec, CtrlId, Event, Host, HostSettings, Namespace, Nqn, Reconnect, Timeouts};
use interlock_ring::{Pool, now};
use interlock_target::config::{Ana, Backing, Config, NamespaceConfig, PortConfig, Recovery};
use interlock_target::{Stamped, Target};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Subsystems that take turns.
const SUBJECTS: usize = 16;

/// Anything that takes milliseconds when all is well.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);

/// Entries per I/O queue: more than what is held back on one path.
const QUEUE_SIZE: u16 = 1024;

/// How long a target goes on with what it holds: longer than any stall, so that a ghost that is stopped was stopped by
/// the reset.
const QUIESCE_MS: u16 = 4000;

/// A dead port accepts connections (the kernel does) and says nothing: give up soon.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// Between attempts.
const DELAY: Duration = Duration::from_millis(200);

/// One subsystem.
pub(crate) struct Subject {
    pub(crate) target: Target,
    pub(crate) target_events: Receiver<Stamped>,
    pub(crate) namespace: Namespace,
    /// The path that is killed, through the first port.
    pub(crate) victim: CtrlId,
}

/// All of it.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) events: Receiver<Event>,
    pub(crate) subjects: Vec<Subject>,
    /// Its paths stay well.
    pub(crate) bystander: Subject,
}

impl Ground {
    pub(crate) fn new(host_pool: &Pool, target_pool: &Pool, scene: &Scene) -> Result<Self> {
        let host = Host::start(host_pool.reactors(), HostSettings::random()?)?;
        let events = host.subscribe();
        let subject = |place| subject(&host, target_pool, scene, place);
        let subjects = (0..SUBJECTS).map(subject).collect::<Result<Vec<_>>>()?;
        let bystander = subject(SUBJECTS)?;
        Ok(Self { host, events, subjects, bystander })
    }

    /// The next thing that the host tells before `deadline`; none if it has passed.
    pub(crate) fn event(&self, deadline: Instant) -> Option<Event> {
        self.events.recv_timeout(deadline - now()).ok()
    }

    /// Lets time pass, and forgets what the host tells meanwhile.
    pub(crate) fn let_pass(&self, time: Duration) {
        let deadline = now() + time;
        while self.event(deadline).is_some() {}
    }

    pub(crate) fn end(self) -> Result<()> {
        self.host.shutdown(WITHIN)?;
        for subject in self.subjects.into_iter().chain([self.bystander]) {
            subject.target.shutdown(WITHIN)?;
        }
        Ok(())
    }
}

fn subject(host: &Host, pool: &Pool, scene: &Scene, place: usize) -> Result<Subject> {
    let nqn = format!("nqn.2026-11.io.interlock:bench-{place}");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        nqn: Some(nqn.clone()),
        ports: vec![PortConfig { listen, ana: Ana::Optimized }; scene.paths],
        namespaces: vec![NamespaceConfig {
            nsid: Some(1),
            block_size: 4096,
            ..NamespaceConfig::new(Backing::Null { bytes: 64 << 30 })
        }],
        queue_size: QUEUE_SIZE,
        recovery: Recovery { cqt_ms: QUIESCE_MS, quiesce_ms: QUIESCE_MS.into(), ..Recovery::default() },
        ..Config::default()
    };
    let target = Target::start(pool.reactors(), &config)?;
    let target_events = target.subscribe();
    let mut victim = None;
    for addr in target.ports() {
        let spec = ControllerSpec {
            kato: scene.kato,
            queue_size: QUEUE_SIZE,
            reconnect: Reconnect { delay: DELAY, ..Reconnect::default() },
            timeouts: Timeouts { tcp_connect: HANDSHAKE, handshake: HANDSHAKE, ..Timeouts::default() },
            ..ControllerSpec::new(addr.ip().to_string(), addr.port(), Nqn::new(&nqn)?)
        };
        let ctrl = host.connect_and_wait(spec, WITHIN)?;
        victim.get_or_insert(ctrl);
    }
    let victim = victim.context("a scene has one path at least")?;
    Ok(Subject { namespace: namespace(host, &nqn)?, target, target_events, victim })
}

/// The namespace is found a moment after the first controller is live.
pub(crate) fn namespace(host: &Host, nqn: &str) -> Result<Namespace> {
    if let Ok(namespace) = host.namespace(nqn, 1) {
        return Ok(namespace);
    }
    let events = host.subscribe();
    let deadline = now() + WITHIN;
    loop {
        match host.namespace(nqn, 1) {
            Ok(namespace) => return Ok(namespace),
            // Whatever happens next may be that it was found.
            Err(error) if events.recv_timeout(deadline - now()).is_err() => bail!(error),
            Err(_) => {}
        }
    }
}
