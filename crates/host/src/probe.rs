//! One look at a target from a program: names resolved, a socket opened and closed, an answer or a sentence.
//!
//! What is asked and how each failure is told is decided in `host-core`; this carries bytes for it on a reactor, and is
//! gone when the answer is there. A [`Watch`] is a look at a discovery log that stays.

use crate::host::HostSettings;
use crate::links::{HostMachine, Links};
use interlock_base::{Instant, Span};
use interlock_carry::Machine;
use interlock_host_core::probe::{self, DiscoveryLog, Found, Goal, Probe, ProbeConfig, ProbeOutput, ProbeReport};
use interlock_host_core::{ConnEvent, ConnId, Dial, Timeouts};
use interlock_proto::{SendList, Taken};
use interlock_ring::{BufTable, Cx, Event, Reactor, Service, Waker};
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// On top of the limit that the machine keeps itself: an orderly close and the way between threads.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Whom to look at, and how.
#[derive(Clone, Debug)]
pub struct ProbeSpec {
    /// Address or name; link-local IPv6 with its scope (`fe80::1%eth0`).
    pub traddr: String,
    /// TCP port.
    pub trsvcid: u16,
    /// Local address to bind.
    pub host_traddr: Option<IpAddr>,
    /// Interface to bind.
    pub host_iface: Option<String>,
    /// Subsystem; the discovery NQN for [`Goal::Discovery`].
    pub subnqn: Nqn,
    /// What to look at.
    pub goal: Goal,
    /// Who asks.
    pub settings: HostSettings,
    /// Keep Alive Timeout to ask for; zero: none.
    pub kato: Duration,
    /// Header digest.
    pub hdgst: bool,
    /// Data digest.
    pub ddgst: bool,
    /// With which of a name's addresses to begin; counted round.
    pub turn: usize,
    /// Limits of the steps; `connect_total` is replaced by the limit of the whole look.
    pub timeouts: Timeouts,
}

impl ProbeSpec {
    /// Reads the discovery log at this address, without keep alive.
    #[must_use]
    pub fn discovery(traddr: impl Into<String>, trsvcid: u16, settings: HostSettings) -> Self {
        Self {
            traddr: traddr.into(),
            trsvcid,
            host_traddr: None,
            host_iface: None,
            subnqn: Nqn::discovery(),
            goal: Goal::Discovery,
            settings,
            kato: Duration::ZERO,
            hdgst: false,
            ddgst: false,
            turn: 0,
            timeouts: Timeouts::default(),
        }
    }

    /// Looks at a subsystem at this address, with a Keep Alive Timeout of 5 s.
    #[must_use]
    pub fn subsystem(traddr: impl Into<String>, trsvcid: u16, subnqn: Nqn, settings: HostSettings) -> Self {
        Self {
            subnqn,
            goal: Goal::Subsystem,
            kato: Duration::from_secs(5),
            ..Self::discovery(traddr, trsvcid, settings)
        }
    }
}

impl ProbeSpec {
    /// For one address, with this limit of everything.
    fn config(&self, addr: SocketAddr, within: Duration) -> ProbeConfig {
        ProbeConfig {
            dial: Dial {
                addr,
                local: self.host_traddr.map(|ip| SocketAddr::new(ip, 0)),
                iface: self.host_iface.clone(),
                user_timeout: self.timeouts.handshake,
            },
            hostnqn: self.settings.hostnqn.clone(),
            hostid: self.settings.hostid,
            subnqn: self.subnqn.clone(),
            goal: self.goal,
            kato: self.kato,
            hdgst: self.hdgst,
            ddgst: self.ddgst,
            timeouts: Timeouts { connect_total: within, ..self.timeouts },
        }
    }
}

/// Why a look found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The name has no address.
    #[error("`{name}` cannot be resolved: {why}")]
    Resolve {
        /// As given.
        name: String,
        /// The resolver's words.
        why: String,
    },
    /// The target, or the way to it.
    #[error("{addr}: {why}")]
    Target {
        /// Where.
        addr: SocketAddr,
        /// What is wrong, in one sentence.
        why: probe::ProbeError,
    },
    /// The reactor does not answer.
    #[error("the look was not finished: its reactor has ended or is stuck")]
    Gone,
}

impl ProbeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Resolve { .. } => Some("give an address, or a name that this machine can resolve"),
            Self::Target { why, .. } => why.hint(),
            Self::Gone => None,
        }
    }

    /// True if the controller does not take the Keep Alive Timeout that was asked for, or has no Keep Alive command: asked
    /// without one it may answer.
    #[must_use]
    pub fn refuses_keep_alive(&self) -> bool {
        let Self::Target { why, .. } = self else { return false };
        match why {
            probe::ProbeError::Refused(error) => error.status.is_some_and(|status| {
                error.step == "Connect"
                    && (status.is(Status::CONNECT_INVALID_PARAMETERS) || status.is(Status::KEEP_ALIVE_INVALID))
            }),
            probe::ProbeError::Failed { step: "Keep Alive", status } => {
                status.is(Status::INVALID_OPCODE) || status.is(Status::INVALID_FIELD)
            }
            _ => false,
        }
    }
}

/// Looks at a target once, at most `within`. A name with several addresses is tried at each, with an equal share of the time
/// that is left, until one gives what was asked for. Blocks the calling thread, which must not be a reactor.
///
/// # Errors
/// What is wrong with the address, the port, the subsystem or this host's identity.
pub fn probe(reactor: &Reactor, spec: &ProbeSpec, within: Duration) -> Result<ProbeReport, ProbeError> {
    let ends = std::time::Instant::now() + within;
    let addresses = addresses(spec)?;
    let mut first = None;
    for (place, addr) in addresses.iter().enumerate() {
        let left = ends.saturating_duration_since(std::time::Instant::now());
        let others = u32::try_from(addresses.len() - place).unwrap_or(u32::MAX);
        let why = match look(reactor, spec.config(*addr, left / others), left / others)? {
            Ok(report) => return Ok(*report),
            Err(why) => ProbeError::Target { addr: *addr, why: told_once(why, *addr) },
        };
        // Whoever answers says more than nobody; and the first is the best address.
        let silent =
            |error: &ProbeError| matches!(error, ProbeError::Target { why: probe::ProbeError::Unreachable { .. }, .. });
        if first.as_ref().is_none_or(|known| silent(known) && !silent(&why)) {
            first = Some(why);
        }
    }
    Err(first.expect("a name has at least one address, and each was tried"))
}

/// The addresses of a look, beginning with the one whose turn it is; at least one.
fn addresses(spec: &ProbeSpec) -> Result<Vec<SocketAddr>, ProbeError> {
    let failed = |why| ProbeError::Resolve { name: spec.traddr.clone(), why };
    let mut all = crate::names::addresses(&spec.traddr, spec.trsvcid).map_err(|error| failed(error.to_string()))?;
    if all.is_empty() {
        return Err(failed("it has no address".into()));
    }
    let turn = spec.turn % all.len();
    all.rotate_left(turn);
    Ok(all)
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Watched {
    /// The log, as it is from now on.
    Log(DiscoveryLog),
    /// The watch is over; nothing follows. `Ok`: it was ended in order.
    Over(Result<(), ProbeError>),
}

/// A discovery controller that is being watched. Dropping it ends the watch, in order if the controller answers.
pub struct Watch(Arc<Wishes>);

#[derive(Default)]
struct Wishes {
    refresh: AtomicBool,
    stop: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Wishes {
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

impl Watch {
    /// Connects to a discovery controller and stays: `tell` hears of its log at once and after each change, on the reactor,
    /// until the watch is over. One address of a name is tried, that of [`ProbeSpec::turn`]. Resolving may block: not from a
    /// reactor.
    ///
    /// # Errors
    /// The name cannot be resolved, or the reactor has ended.
    pub fn start(
        reactor: &Reactor,
        spec: &ProbeSpec,
        mut tell: impl FnMut(Watched) + Send + 'static,
    ) -> Result<Self, ProbeError> {
        let addr = addresses(spec)?[0];
        let mut config = spec.config(addr, spec.timeouts.connect_total);
        config.goal = Goal::Watch;
        let wishes = Arc::<Wishes>::default();
        let wanted = Arc::clone(&wishes);
        let tell = Box::new(move |told: Told| match told {
            Told::Found(report) => {
                if let Found::Discovery(log) = report.found {
                    tell(Watched::Log(log));
                }
            }
            Told::Over(Ok(_)) => tell(Watched::Over(Ok(()))),
            Told::Over(Err(why)) => tell(Watched::Over(Err(ProbeError::Target { addr, why: told_once(why, addr) }))),
        });
        reactor
            .attach(move |cx| {
                let _ = wanted.waker.set(cx.waker()); // attached once
                Box::new(ProbeService::new(Probe::new(config), tell, Some(wanted)))
            })
            .map_err(|_| ProbeError::Gone)?;
        Ok(Self(wishes))
    }

    /// Has the log read again.
    pub fn refresh(&self) {
        self.0.refresh.store(true, Ordering::Release);
        self.0.wake();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.wake();
    }
}

fn told_once(why: probe::ProbeError, addr: SocketAddr) -> probe::ProbeError {
    match why {
        probe::ProbeError::Unreachable { why } => probe::ProbeError::Unreachable { why: without_address(&why, addr) },
        other => other,
    }
}

/// The kernel's words alone: the address stands before the sentence already.
fn without_address(text: &str, addr: SocketAddr) -> String {
    let text = text.split_once(&format!("{addr}: ")).map_or(text, |(_, words)| words);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

type Answer = Result<Box<ProbeReport>, probe::ProbeError>;

/// What a probe's owner hears.
enum Told {
    Found(Box<ProbeReport>),
    Over(Answer),
}

fn look(reactor: &Reactor, config: ProbeConfig, within: Duration) -> Result<Answer, ProbeError> {
    let (sender, receiver) = mpsc::channel();
    let id = reactor
        .attach(move |_| {
            let tell = Box::new(move |told| {
                if let Told::Over(answer) = told {
                    // The asker may have given up.
                    let _ = sender.send(answer);
                }
            });
            Box::new(ProbeService::new(Probe::new(config), tell, None))
        })
        .map_err(|_| ProbeError::Gone)?;
    receiver.recv_timeout(within + ANSWER_WITHIN).map_err(|_| {
        // Nothing is left behind. Whether it is gone at once is no matter: nobody waits for it.
        drop(reactor.detach(id));
        ProbeError::Gone
    })
}

struct ProbeMachine(Probe);

impl Machine for ProbeMachine {
    type Conn = ConnId;

    fn handle_bytes(&mut self, now: Instant, _conn: ConnId, bytes: &[u8]) -> Taken {
        self.0.handle_bytes(now, bytes)
    }

    fn handle_placed(&mut self, _now: Instant, _conn: ConnId, _len: u32, _digest: u32) {
        debug_assert!(false, "control data is owned by the machine: there is nothing to place");
    }

    fn direct(&self, _conn: ConnId, _min: u32) -> Option<(Span, Option<u32>)> {
        None
    }

    fn handle_given(&mut self, _now: Instant, _conn: ConnId, bytes: u64) {
        self.0.handle_given(bytes);
    }

    fn poll_send(&mut self, _conn: ConnId, list: &mut SendList) {
        self.0.poll_send(list);
    }

    fn is_blocked(&self, _conn: ConnId) -> bool {
        false
    }
}

impl HostMachine for ProbeMachine {
    fn handle_conn(&mut self, now: Instant, _conn: ConnId, event: ConnEvent) {
        self.0.handle_conn(now, event);
    }
}

struct ProbeService {
    machine: ProbeMachine,
    links: Links,
    /// A look has no payload; the table stays empty.
    memory: BufTable,
    answer: Option<Answer>,
    tell: Box<dyn FnMut(Told)>,
    /// Of a watch.
    wishes: Option<Arc<Wishes>>,
}

impl ProbeService {
    fn new(probe: Probe, tell: Box<dyn FnMut(Told)>, wishes: Option<Arc<Wishes>>) -> Self {
        Self {
            machine: ProbeMachine(probe),
            links: Links::default(),
            memory: BufTable::default(),
            answer: None,
            tell,
            wishes,
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, output: ProbeOutput) {
        match output {
            ProbeOutput::Conn(action) => self.links.act(cx, &mut self.machine, action),
            ProbeOutput::Found(report) => (self.tell)(Told::Found(report)),
            ProbeOutput::Done(answer) => self.answer = Some(answer),
        }
    }
}

impl Service for ProbeService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Attached => self.machine.0.start(cx.now()),
            Event::Deadline => self.machine.0.handle_timeout(cx.now()),
            Event::Detach => self.links.abort_all(cx),
            Event::Mail => {} // `turn` looks
            event => self.links.handle(cx, &mut self.machine, &mut self.memory, event),
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        if let Some(wishes) = &self.wishes {
            if wishes.refresh.swap(false, Ordering::AcqRel) {
                self.machine.0.refresh(cx.now());
            }
            if wishes.stop.load(Ordering::Acquire) {
                self.machine.0.stop(cx.now());
            }
        }
        loop {
            while let Some(output) = self.machine.0.poll_output() {
                self.output(cx, output);
            }
            self.links.turn(cx, &mut self.machine, &self.memory);
            let Some(output) = self.machine.0.poll_output() else { break };
            self.output(cx, output);
        }
        let links = self.links.next_deadline();
        cx.set_deadline(self.machine.0.next_deadline().into_iter().chain(links).min());
        // The goodbye has left before anyone is told, so that a program that ends now cuts nothing off.
        if links.is_none()
            && let Some(answer) = self.answer.take()
        {
            (self.tell)(Told::Over(answer));
            cx.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_told_once() {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(without_address("connect to 127.0.0.1:1: Connection refused", addr), "connection refused");
        assert_eq!(without_address("network is unreachable", addr), "network is unreachable");
    }

    #[test]
    fn addresses_are_taken_with_and_without_brackets() {
        let settings = HostSettings::random().expect("random");
        let of = |name: &str| addresses(&ProbeSpec::discovery(name, 4420, settings.clone()));
        let v6: SocketAddr = "[::1]:4420".parse().expect("an address");
        assert_eq!(of("[::1]").expect("an address"), [v6]);
        assert_eq!(of("::1").expect("an address"), [v6]);
        let scoped = of("fe80::1%lo").expect("an address with a scope");
        assert!(matches!(scoped[..], [SocketAddr::V6(addr)] if addr.scope_id() != 0));
        assert!(matches!(of("no such name"), Err(ProbeError::Resolve { .. })));
    }
}
