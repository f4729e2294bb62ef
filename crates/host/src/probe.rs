//! One look at a target from a program: names resolved, a socket opened and closed, an answer or a sentence.
//!
//! What is asked and how each failure is told is decided in `host-core`; this carries bytes for it on a reactor, and is
//! gone when the answer is there.

use crate::host::HostSettings;
use crate::links::{HostMachine, Links};
use interlock_base::{Instant, Span};
use interlock_carry::Machine;
use interlock_host_core::probe::{self, Goal, Probe, ProbeConfig, ProbeOutput, ProbeReport};
use interlock_host_core::{ConnEvent, ConnId, Dial, Timeouts};
use interlock_proto::{SendList, Taken};
use interlock_ring::{BufTable, Cx, Event, Reactor, Service};
use interlock_wire::nqn::Nqn;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Sender};
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
}

/// Looks at a target once, at most `within`. A name with several addresses is tried at each until one answers.
/// Blocks the calling thread, which must not be a reactor.
///
/// # Errors
/// What is wrong with the address, the port, the subsystem or this host's identity.
pub fn probe(reactor: &Reactor, spec: &ProbeSpec, within: Duration) -> Result<ProbeReport, ProbeError> {
    let ends = std::time::Instant::now() + within;
    let mut last = None;
    for addr in resolve(&spec.traddr, spec.trsvcid)? {
        let left = ends.saturating_duration_since(std::time::Instant::now());
        let config = ProbeConfig {
            dial: Dial {
                addr,
                local: spec.host_traddr.map(|ip| SocketAddr::new(ip, 0)),
                iface: spec.host_iface.clone(),
                user_timeout: spec.timeouts.handshake,
            },
            hostnqn: spec.settings.hostnqn.clone(),
            hostid: spec.settings.hostid,
            subnqn: spec.subnqn.clone(),
            goal: spec.goal,
            kato: spec.kato,
            hdgst: spec.hdgst,
            ddgst: spec.ddgst,
            timeouts: Timeouts { connect_total: left, ..spec.timeouts },
        };
        match look(reactor, config, left)? {
            Ok(report) => return Ok(*report),
            Err(probe::ProbeError::Unreachable { why }) => {
                let why = probe::ProbeError::Unreachable { why: without_address(&why, addr) };
                last = Some(ProbeError::Target { addr, why });
            }
            Err(why) => return Err(ProbeError::Target { addr, why }),
        }
    }
    Err(last.unwrap_or_else(|| ProbeError::Resolve { name: spec.traddr.clone(), why: "it has no address".into() }))
}

/// The addresses of a name. An address may stand in brackets, as IPv6 often does.
fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, ProbeError> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    match (bare, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(ProbeError::Resolve { name: name.to_owned(), why: error.to_string() }),
    }
}

/// The kernel's words alone: the address stands before the sentence already.
fn without_address(text: &str, addr: SocketAddr) -> String {
    let text = text.split_once(&format!("{addr}: ")).map_or(text, |(_, words)| words);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

type Answer = Result<Box<ProbeReport>, probe::ProbeError>;

fn look(reactor: &Reactor, config: ProbeConfig, within: Duration) -> Result<Answer, ProbeError> {
    let (sender, receiver) = mpsc::channel();
    let id = reactor
        .attach(move |_| Box::new(ProbeService::new(Probe::new(config), sender)))
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
    sender: Sender<Answer>,
}

impl ProbeService {
    fn new(probe: Probe, sender: Sender<Answer>) -> Self {
        Self {
            machine: ProbeMachine(probe),
            links: Links::default(),
            memory: BufTable::default(),
            answer: None,
            sender,
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, output: ProbeOutput) {
        match output {
            ProbeOutput::Conn(action) => self.links.act(cx, &mut self.machine, action),
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
            event => self.links.handle(cx, &mut self.machine, &mut self.memory, event),
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
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
            // The asker may have given up.
            let _ = self.sender.send(answer);
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
        let v6: SocketAddr = "[::1]:4420".parse().expect("an address");
        assert_eq!(resolve("[::1]", 4420).expect("an address"), [v6]);
        assert_eq!(resolve("::1", 4420).expect("an address"), [v6]);
        let scoped = resolve("fe80::1%lo", 4420).expect("an address with a scope");
        assert!(matches!(scoped[..], [SocketAddr::V6(addr)] if addr.scope_id() != 0));
        assert!(matches!(resolve("no such name", 1), Err(ProbeError::Resolve { .. })));
    }
}
