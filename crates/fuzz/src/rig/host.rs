//! The host without its driver: one `Control` and one `Lane`.

use super::{Memory, ROUNDS, SOCKET_ROOM};
use interlock_base::Instant;
use interlock_host_core::{
    ConnAction, ConnEvent, ConnId, ConnectionEnd, Control, Dial, DownReason, EventKind, HeadId, HostConfig, JobResult,
    Lane, LaneConfig, LaneId, LaneOutput, Op, Outcome, Output, Refused, Request, ToControl, ToLane,
};
use interlock_proto::SendList;
use interlock_wire::digest::crc32c_append;
use interlock_wire::nqn::{HostId, Nqn};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// An admin queue.
    Control,
    /// An I/O queue.
    Lane,
}

/// Names a connection.
pub type Key = (Owner, ConnId);

/// How a socket of the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked for.
    Opening,
    /// Open.
    Open,
    /// Closed in order by the host: what it sent still arrives.
    Closed,
    /// Reset by the host.
    Reset,
    /// Ended by the peer, or never there.
    ByPeer,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Socket {
    /// Where to.
    pub dial: Dial,
    polled: Vec<u8>,
    /// What the host said and nobody took yet: the kernel's send queue.
    pub sent: Vec<u8>,
    /// Whether it is still there.
    pub end: End,
    draining: bool,
    closing: bool,
}

/// The host, and what it believes to be its driver.
#[derive(Clone)]
pub struct HostRig {
    /// The part that decides.
    pub control: Control,
    /// The part that moves data.
    pub lane: Lane,
    /// Now.
    pub now: Instant,
    /// No message moves between the two.
    pub slow_mail: bool,
    /// Every connection since the beginning.
    pub sockets: BTreeMap<Key, Socket>,
    /// How requests ended.
    pub done: BTreeMap<u64, Outcome>,
    /// Everything that happened.
    pub events: Vec<EventKind>,
    /// Requests that have not ended.
    open: BTreeMap<u64, Option<interlock_base::Span>>,
    /// What was read.
    pub read: BTreeMap<u64, Vec<u8>>,
    to_lane: VecDeque<ToLane>,
    to_control: VecDeque<ToControl>,
    memory: Memory,
    next_token: u64,
}

impl HostRig {
    /// A host that is connected to nothing.
    #[must_use]
    pub fn new(id: u8) -> Self {
        let hostid = HostId([id; 16]);
        let config = HostConfig { hostnqn: Nqn::of_host(hostid), hostid, lanes: 1, seed: 3 };
        Self {
            control: Control::new(config),
            lane: Lane::new(LaneConfig { id: LaneId(0), requests_max: 64, seed: 5 }),
            now: Instant::from_millis(1000),
            slow_mail: false,
            sockets: BTreeMap::new(),
            done: BTreeMap::new(),
            events: Vec::new(),
            open: BTreeMap::new(),
            read: BTreeMap::new(),
            to_lane: VecDeque::new(),
            to_control: VecDeque::new(),
            memory: Memory::default(),
            next_token: 1,
        }
    }

    /// The first namespace, if one is known.
    #[must_use]
    pub fn head(&self) -> Option<HeadId> {
        self.control.heads().next().map(|head| head.id)
    }

    /// Submits a request of the first namespace. What is written says which request it is, block by block.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn submit(&mut self, op: Op, slba: u64, nlb: u32, block: u32) -> Result<u64, Refused> {
        let head = self.head().ok_or(Refused::NoSuchNamespace)?;
        let token = self.next_token;
        let data = op.carries_blocks().then(|| {
            let len = (nlb.min(1024) * block) as usize;
            let bytes = (0..len).map(|at| (token as usize + at / block as usize) as u8).collect();
            self.memory.insert(bytes)
        });
        let refused = self.lane.submit(self.now, Request { head, op, slba, nlb, data }, token);
        if let Err(why) = refused {
            if let Some(span) = data {
                self.memory.remove(span.buf);
            }
            self.outputs();
            return Err(why);
        }
        self.next_token += 1;
        self.open.insert(token, data);
        self.outputs();
        Ok(token)
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// A token of a request that has not ended.
    #[must_use]
    pub fn any_open(&self, nth: usize) -> Option<u64> {
        self.open.keys().nth(nth % self.open.len().max(1)).copied()
    }

    /// A connection that was asked for is there.
    pub fn up(&mut self, key: Key) {
        self.sockets.get_mut(&key).expect("a connection").end = End::Open;
        self.tell(key, ConnEvent::Up);
    }

    /// The peer ended a connection, or refused it.
    pub fn down(&mut self, key: Key) {
        let socket = self.sockets.get_mut(&key).expect("a connection");
        let why = match socket.end {
            End::Opening => DownReason::Unreachable("connection refused".into()),
            End::Open => DownReason::Lost(ConnectionEnd::Reset),
            End::Closed | End::Reset | End::ByPeer => return,
        };
        (socket.end, socket.polled, socket.sent) = (End::ByPeer, Vec::new(), Vec::new());
        self.tell(key, ConnEvent::Down(why));
    }

    /// Bytes came in.
    pub fn deliver(&mut self, key: Key, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && self.sockets[&key].end == End::Open {
            let taken = match key.0 {
                Owner::Control => self.control.handle_bytes(self.now, key.1, &bytes[at..]),
                Owner::Lane => self.lane.handle_bytes(self.now, key.1, &bytes[at..]),
            };
            at += taken.used;
            if let Some(place) = taken.place {
                let piece = &bytes[at..at + place.to.len as usize];
                self.memory.bytes_mut(place.to).copy_from_slice(piece);
                let digest = place.digest.map_or(0, |seed| crc32c_append(seed, piece));
                at += piece.len();
                self.lane.handle_placed(self.now, key.1, place.to.len, digest);
            } else {
                assert!(taken.used > 0, "a host takes every byte");
            }
            self.outputs();
        }
    }

    /// What the host said on a connection: it is on its way, the send queue is empty.
    pub fn take(&mut self, key: Key) -> Vec<u8> {
        std::mem::take(&mut self.sockets.get_mut(&key).expect("a connection").sent)
    }

    /// Lets everything move until nothing does.
    ///
    /// # Panics
    /// If it never comes to rest.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.outputs();
            let mut moved = false;
            moved |= !self.slow_mail && self.move_mail();
            for key in self.sockets.keys().copied().collect::<Vec<_>>() {
                moved |= self.write(key);
            }
            if !moved {
                return;
            }
        }
        panic!("the host never comes to rest");
    }

    fn move_mail(&mut self) -> bool {
        let mut moved = false;
        while let Some(message) = self.to_lane.pop_front() {
            moved = true;
            self.lane.handle_control(self.now, message);
            self.outputs();
        }
        while let Some(message) = self.to_control.pop_front() {
            moved = true;
            self.control.handle_lane(self.now, LaneId(0), message);
            self.outputs();
        }
        moved
    }

    /// When it wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let lane = self.lane.next_deadline().map(|wait| wait.at);
        self.control.next_deadline().map(|wait| wait.at).into_iter().chain(lane).min()
    }

    /// It is `now`.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.lane.handle_timeout(self.now);
        self.outputs();
        self.control.handle_timeout(self.now);
        self.run();
    }

    /// Lets time pass, wait by wait.
    ///
    /// # Panics
    /// If it does not pass.
    pub fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..ROUNDS {
            match self.next_deadline().filter(|at| *at <= end) {
                Some(at) => self.tick(at),
                None => return self.tick(end),
            }
        }
        panic!("time stands still: {:?}", self.control.next_deadline());
    }

    /// Buffers in use.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.memory.len()
    }

    fn tell(&mut self, key: Key, event: ConnEvent) {
        match key.0 {
            Owner::Control => self.control.handle_conn(self.now, key.1, event),
            Owner::Lane => self.lane.handle_conn(self.now, key.1, event),
        }
        self.outputs();
    }

    /// The kernel takes what it has room for, and tells when its queue is empty.
    fn write(&mut self, key: Key) -> bool {
        let socket = self.sockets.get_mut(&key).expect("a connection");
        if socket.end != End::Open {
            return false;
        }
        if socket.polled.is_empty() {
            let mut list = SendList::new();
            match key.0 {
                Owner::Control => self.control.poll_send(key.1, &mut list),
                Owner::Lane => self.lane.poll_send(key.1, &mut list),
            }
            self.memory.flatten(&list, &mut socket.polled);
        }
        let room = SOCKET_ROOM.saturating_sub(socket.sent.len()).min(socket.polled.len());
        if room > 0 {
            socket.sent.extend(socket.polled.drain(..room));
            match key.0 {
                Owner::Control => self.control.handle_given(self.now, key.1, room as u64),
                Owner::Lane => self.lane.handle_given(self.now, key.1, room as u64),
            }
            self.outputs();
            return true;
        }
        if socket.closing && socket.polled.is_empty() {
            socket.end = End::Closed;
            return true;
        }
        if socket.draining && socket.sent.is_empty() {
            socket.draining = false;
            self.tell(key, ConnEvent::SendQueueEmpty);
            return true;
        }
        false
    }

    /// Carries out what the machines want.
    fn outputs(&mut self) {
        loop {
            let mut idle = true;
            while let Some(output) = self.control.poll_output() {
                idle = false;
                match output {
                    Output::Conn(action) => self.act(Owner::Control, action),
                    Output::ToLane(_, message) => self.to_lane.push_back(message),
                    Output::Job(id, _) => self.control.handle_job_done(self.now, id, JobResult::Done),
                    Output::Cut(lane, life) => {
                        for ((owner, conn), socket) in &mut self.sockets {
                            let mine = *owner == Owner::Lane && self.lane.life_of(*conn) == Some(life);
                            if mine && matches!(socket.end, End::Opening | End::Open) {
                                socket.end = End::Reset;
                                socket.polled.clear();
                            }
                        }
                        self.control.handle_cut(self.now, lane, life);
                    }
                    Output::RawClock(life) => self.control.handle_raw_clock(self.now, life, self.now),
                    Output::Event(event) => self.events.push(event.kind),
                }
            }
            while let Some(output) = self.lane.poll_output() {
                idle = false;
                match output {
                    LaneOutput::Conn(action) => self.act(Owner::Lane, action),
                    LaneOutput::ToControl(message) => self.to_control.push_back(message),
                    LaneOutput::Forward { to, .. } | LaneOutput::GiveUp { to, .. } => {
                        panic!("a host of one lane asks {to} for something")
                    }
                    LaneOutput::FlushLost { .. } => {}
                    LaneOutput::Done { token, outcome } => {
                        let data = self.open.remove(&token);
                        let data = data.unwrap_or_else(|| panic!("completes_exactly_once: {token} ended twice"));
                        if let Some(span) = data {
                            let bytes = self.memory.remove(span.buf);
                            self.read.insert(token, bytes);
                        }
                        self.done.insert(token, outcome);
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn act(&mut self, owner: Owner, action: ConnAction) {
        match action {
            ConnAction::Open(conn, dial) => {
                let (polled, sent) = (Vec::new(), Vec::new());
                let socket = Socket { dial, polled, sent, end: End::Opening, draining: false, closing: false };
                self.sockets.insert((owner, conn), socket);
            }
            // At once, as the drivers do: what follows may be the end of the connection.
            ConnAction::Send(conn) => {
                if self.sockets.contains_key(&(owner, conn)) {
                    self.write((owner, conn));
                }
            }
            ConnAction::StopSending(conn) => {
                if let Some(socket) = self.sockets.get_mut(&(owner, conn)) {
                    socket.polled.clear();
                }
            }
            ConnAction::WatchDrain(conn) => {
                if let Some(socket) = self.sockets.get_mut(&(owner, conn)) {
                    socket.draining = true;
                }
            }
            ConnAction::Abort(conn) => {
                if let Some(socket) = self.sockets.get_mut(&(owner, conn)) {
                    if matches!(socket.end, End::Opening | End::Open) {
                        socket.end = End::Reset;
                    }
                    // What the kernel was given has left: the wires of the rigs are fast.
                    socket.polled.clear();
                }
                self.tell((owner, conn), ConnEvent::Aborted);
            }
            ConnAction::Close(conn) => {
                if let Some(socket) = self.sockets.get_mut(&(owner, conn)) {
                    if socket.end == End::Opening {
                        socket.end = End::Reset;
                    }
                    socket.closing = true;
                }
            }
        }
    }
}
