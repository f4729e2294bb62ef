//! Both sides, joined by wires that can be tapped and tampered with.

use super::host::{self, HostRig, Key};
use super::target::{self, TargetRig};
use super::{ROUNDS, SOCKET_ROOM};
use crate::pdus::{Pdus, Read};
use interlock_base::Instant;
use interlock_host_core::ControllerSpec;
use interlock_target_core::ConnId;
use interlock_wire::pdu::{Agreed, Direction, IcResp, PduType};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long bytes are under way, so that the order of a conversation can be read from its times.
const HOP: Duration = Duration::from_micros(20);

/// PDUs that are kept back on one wire at most.
const KEPT_BACK: usize = 256;

/// Something that happened on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// The connection with this number was opened, to this port.
    Open(u16),
    /// Bytes went this way.
    Bytes(Direction, Vec<u8>),
    /// The side that sends this way ended it: in order, or by a reset.
    End(Direction, bool),
}

/// One line of a tap: when, on which connection, what.
pub type Line = (Instant, usize, Tapped);

/// One connection.
#[derive(Clone, Debug)]
pub struct Wire {
    /// Its number, from 0, in the order of opening.
    pub number: usize,
    /// Its name at the target.
    pub conn: ConnId,
    cutter: Pdus,
    /// PDUs on their way to the host.
    pub down: VecDeque<Vec<u8>>,
    closed: bool,
}

/// Both sides and the wires.
#[derive(Clone)]
pub struct Joint {
    /// The host.
    pub host: HostRig,
    /// The target.
    pub target: TargetRig,
    /// Connections that the host has or had.
    pub wires: BTreeMap<Key, Wire>,
    /// Everything that went over the wires, if somebody listens.
    pub tap: Option<Vec<Line>>,
    /// What the target says stays on the wire until somebody passes it on.
    pub tamper: bool,
    /// Ports that nobody answers on.
    pub shut: Vec<u16>,
}

impl Joint {
    /// Nobody is connected.
    #[must_use]
    pub fn new(host: HostRig, target: TargetRig) -> Self {
        Self { host, target, wires: BTreeMap::new(), tap: None, tamper: false, shut: Vec::new() }
    }

    /// Lets the host stay connected through a port.
    ///
    /// # Panics
    /// If the host refuses.
    pub fn connect(&mut self, port: u16, change: impl FnOnce(&mut ControllerSpec)) -> interlock_host_core::CtrlId {
        let address = target::address(port);
        let nqn = interlock_wire::nqn::Nqn::new(target::SUBNQN).expect("a valid name");
        let mut spec = ControllerSpec::new(address.ip().to_string(), port, nqn);
        change(&mut spec);
        self.host.control.connect(self.host.now, spec).expect("a specification that can work")
    }

    /// Lets everything move until nothing does.
    ///
    /// # Panics
    /// If it never comes to rest.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.host.run();
            self.target.run();
            if !self.carry() {
                return;
            }
        }
        panic!("the two never come to rest");
    }

    /// Lets time pass, wait by wait.
    ///
    /// # Panics
    /// If it does not pass.
    pub fn advance(&mut self, span: Duration) {
        let end = self.host.now + span;
        for _ in 0..ROUNDS {
            let next = self.host.next_deadline().into_iter().chain(self.target.next_deadline()).min();
            let at = next.filter(|at| *at <= end).unwrap_or(end);
            self.host.tick(at);
            self.target.tick(at);
            self.run();
            if at == end {
                return;
            }
        }
        panic!("time stands still");
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// If it is not so in time.
    pub fn until(&mut self, within: Duration, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let end = self.host.now + within;
        self.run();
        while !is(self) {
            assert!(self.host.now < end, "not within {within:?}: {what}");
            self.advance(Duration::from_millis(1));
        }
    }

    /// Passes a PDU on to the host that was kept back. False if there is none.
    pub fn pass(&mut self, key: Key) -> bool {
        let Some(bytes) = self.wires.get_mut(&key).and_then(|wire| wire.down.pop_front()) else { return false };
        self.give_host(key, &bytes);
        true
    }

    /// Bytes reach the host, whoever made them.
    pub fn give_host(&mut self, key: Key, bytes: &[u8]) {
        self.hop(key, Tapped::Bytes(Direction::ToHost, bytes.to_vec()));
        self.host.deliver(key, bytes);
        self.host.run();
    }

    /// Wires whose host end is open, oldest first.
    #[must_use]
    pub fn live(&self) -> Vec<Key> {
        let open = |key: &&Key| self.host.sockets[*key].end == host::End::Open;
        let mut keys: Vec<Key> = self.wires.keys().filter(open).copied().collect();
        keys.sort_by_key(|key| self.wires[key].number);
        keys
    }

    fn hop(&mut self, key: Key, what: Tapped) {
        let now = self.host.now.max(self.target.now) + HOP;
        (self.host.now, self.target.now) = (now, now);
        let number = self.wires[&key].number;
        if let Some(tap) = &mut self.tap {
            tap.push((now, number, what));
        }
    }

    /// One round of everything that is under way.
    fn carry(&mut self) -> bool {
        let mut moved = false;
        for key in self.host.sockets.keys().copied().collect::<Vec<_>>() {
            moved |= match self.host.sockets[&key].end {
                host::End::Opening => self.open(key),
                _ if self.wires.contains_key(&key) => self.carry_up(key) | self.carry_down(key),
                _ => false,
            };
        }
        moved
    }

    fn open(&mut self, key: Key) -> bool {
        let port = self.host.sockets[&key].dial.addr.port();
        if self.shut.contains(&port) || !target::PORTS.contains(&port) {
            self.host.down(key);
            return true;
        }
        let wire = Wire {
            number: self.wires.len(),
            conn: self.target.accept(port),
            cutter: Pdus::new(Direction::ToHost, Agreed::NOTHING),
            down: VecDeque::new(),
            closed: false,
        };
        self.wires.insert(key, wire);
        self.hop(key, Tapped::Open(port));
        self.host.up(key);
        true
    }

    fn carry_up(&mut self, key: Key) -> bool {
        let Wire { conn, closed, .. } = self.wires[&key];
        if closed {
            return false;
        }
        let mut moved = false;
        if self.target.backlog(conn) < SOCKET_ROOM {
            let bytes = self.host.take(key);
            if !bytes.is_empty() {
                moved = true;
                self.hop(key, Tapped::Bytes(Direction::ToController, bytes.clone()));
                self.target.deliver(conn, &bytes);
                self.target.run();
            }
        }
        let end = self.host.sockets[&key].end;
        if end != host::End::Open && self.target.backlog(conn) == 0 {
            self.wires.get_mut(&key).expect("a wire").closed = true;
            if end != host::End::ByPeer {
                self.hop(key, Tapped::End(Direction::ToController, end == host::End::Closed));
            }
            self.target.hang_up(conn);
            moved = true;
        }
        moved
    }

    fn carry_down(&mut self, key: Key) -> bool {
        let conn = self.wires[&key].conn;
        if self.host.sockets[&key].end != host::End::Open {
            self.target.take(conn);
            return false;
        }
        let mut moved = false;
        if self.wires[&key].down.len() < KEPT_BACK {
            let bytes = self.target.take(conn);
            moved |= !bytes.is_empty();
            self.cut(key, &bytes);
            while !self.tamper && self.pass(key) {}
        }
        let end = self.target.sockets[&conn].end;
        if end != target::End::Open
            && self.host.sockets[&key].end == host::End::Open
            && self.wires[&key].down.is_empty()
        {
            moved = true;
            self.hop(key, Tapped::End(Direction::ToHost, end == target::End::Closed));
            self.host.down(key);
        }
        moved
    }

    /// Cuts what the target said into PDUs. All of it must be legal.
    fn cut(&mut self, key: Key, bytes: &[u8]) {
        let wire = self.wires.get_mut(&key).expect("a wire");
        wire.cutter.push(bytes);
        loop {
            match wire.cutter.read() {
                Read::More => return,
                Read::Bad(fatal) => panic!("the target broke the protocol: {fatal}"),
                Read::Pdu(pdu) => {
                    if pdu.layout.pdu == PduType::IcResp {
                        let resp: IcResp = pdu.read().expect("the validator fixed the length");
                        wire.cutter.agree(Agreed {
                            hdgst: resp.hdgst(),
                            ddgst: resp.ddgst(),
                            align: 4,
                            max_data: u32::MAX,
                            max_in_capsule: 0,
                            ready: true,
                        });
                    }
                    assert!(pdu.digests_ok, "the target's digests are right");
                    wire.down.push_back(pdu.bytes);
                }
            }
        }
    }
}
