//! The target without its driver: one `Control`, its lanes, and a small disk.

use super::{Memory, ROUNDS, SOCKET_ROOM};
use interlock_base::{Instant, Span};
use interlock_proto::SendList;
use interlock_target_core::config::{Ccr, Config, Hosts, Limits, Offers, PortConfig, SubsystemConfig};
use interlock_target_core::{
    ConnId, Control, ControlOutput, Event, Lane, LaneId, LaneOutput, MediaKind, MediaOp, MediaResult, Namespace, Payer,
    PortId, ToControl, ToLane,
};
use interlock_wire::digest::crc32c_append;
use interlock_wire::nqn::Nqn;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// The subsystem of every rig.
pub const SUBNQN: &str = "nqn.2026-11.io.interlock:golden";

/// The ports: 4420 and 4421 offer the subsystem, 8009 is the discovery service alone.
pub const PORTS: [u16; 3] = [4420, 4421, 8009];

/// Blocks of the namespace.
pub const BLOCKS: u64 = 128;

/// Bytes of a block.
pub const BLOCK: u32 = 512;

/// Where a port listens, in a network for documentation.
#[must_use]
pub fn address(port: u16) -> SocketAddr {
    let host = if port == 4421 { 2 } else { 1 };
    SocketAddr::from(([192, 0, 2, host], port))
}

/// A small target that a peer can fill quickly: two lanes, three ports, one namespace, CCR, CQT and ANA.
#[must_use]
pub fn config(limits: Limits) -> Config {
    let port = |number: u16| PortConfig {
        id: PortId(number),
        address: address(number),
        offers: if number == 8009 { Offers::Discovery } else { Offers::All },
    };
    Config {
        subsystems: vec![SubsystemConfig {
            nqn: Nqn::new(SUBNQN).expect("a valid name"),
            serial: "0001".into(),
            model: "Interlock".into(),
            hosts: Hosts::Any,
            namespaces: vec![Namespace {
                nsid: 1,
                blocks: BLOCKS,
                block_shift: 9,
                read_only: false,
                nguid: [1; 16],
                uuid: [2; 16],
                ana_group: 1,
                eui64: None,
                zeroes_when_deallocated: true,
            }],
            cntlids: (1, 100),
            kas: 1,
            tbkas: true,
            cqt_ms: 500,
            quiesce_ms: 400,
            ccr: Ccr::DEFAULT,
            ana_groups: 2,
        }],
        ports: PORTS.into_iter().map(port).collect(),
        lanes: 2,
        limits,
    }
}

/// Limits so tight that a short input meets each of them.
#[must_use]
pub fn tight() -> Limits {
    Limits {
        connections: 8,
        half_open: 4,
        controllers: 4,
        io_queues: 2,
        queue_depth: 32,
        max_transfer: 8192,
        in_capsule: 1024,
        max_h2c_data: 4096,
        memory: 288 << 10,
        buffered_per_connection: 16 << 10,
        hdgst: true,
        ddgst: true,
        ..Limits::default()
    }
}

/// How a socket of the target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Open.
    Open,
    /// Closed in order by the target: what it sent still arrives.
    Closed,
    /// Reset by the target.
    Reset,
    /// Closed by the peer.
    ByPeer,
}

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct Socket {
    lane: usize,
    /// Where it came in.
    pub port: u16,
    inbox: Vec<u8>,
    polled: Vec<u8>,
    /// What the target said and nobody took yet.
    pub sent: Vec<u8>,
    /// Whether it is still there.
    pub end: End,
}

/// What the world around the target does not do at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    /// Operations on the namespace wait.
    pub media: bool,
    /// Nobody has a buffer.
    pub buffers: bool,
    /// No message moves between `Control` and lane 1.
    pub mail: bool,
    /// Reads return so many bytes at most; 0: everything.
    pub bite: usize,
}

/// The target, and what it believes to be its driver.
#[derive(Clone)]
pub struct TargetRig {
    /// The part that decides.
    pub control: Control,
    lanes: Vec<Lane>,
    /// Now.
    pub now: Instant,
    /// What waits.
    pub slow: Slow,
    /// Every connection since the beginning.
    pub sockets: BTreeMap<ConnId, Socket>,
    /// Everything that happened.
    pub events: Vec<Event>,
    to_lane: Vec<VecDeque<ToLane>>,
    to_control: Vec<VecDeque<ToControl>>,
    memory: Memory,
    disk: Vec<u8>,
    media: VecDeque<(usize, MediaOp)>,
    wanting: VecDeque<(usize, ConnId, u16, u32)>,
    next_conn: u32,
}

impl TargetRig {
    /// A target that nobody has connected to.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let lanes: Vec<Lane> = (0..config.lanes).map(|n| Lane::new(LaneId(n), config.limits)).collect();
        let mut rig = Self {
            to_lane: lanes.iter().map(|_| VecDeque::new()).collect(),
            to_control: lanes.iter().map(|_| VecDeque::new()).collect(),
            lanes,
            control: Control::new(config, 7).expect("a configuration that can work"),
            now: Instant::from_millis(1000),
            slow: Slow::default(),
            sockets: BTreeMap::new(),
            events: Vec::new(),
            memory: Memory::default(),
            disk: vec![0; (BLOCKS * u64::from(BLOCK)) as usize],
            media: VecDeque::new(),
            wanting: VecDeque::new(),
            next_conn: 1,
        };
        rig.run();
        rig
    }

    /// Somebody connects to a port. Ports take turns on the lanes.
    pub fn accept(&mut self, port: u16) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let lane = usize::from(port == 4421);
        let socket = Socket { lane, port, inbox: Vec::new(), polled: Vec::new(), sent: Vec::new(), end: End::Open };
        self.sockets.insert(conn, socket);
        self.lanes[lane].handle_accepted(
            self.now,
            conn,
            PortId(port),
            address(port),
            Payer::at([198, 51, 100, 1].into()),
        );
        self.outputs();
        conn
    }

    /// Bytes of a peer are there to be read.
    pub fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let socket = self.sockets.get_mut(&conn).expect("a connection");
        if socket.end == End::Open {
            socket.inbox.extend_from_slice(bytes);
        }
    }

    /// What the target said on a connection.
    pub fn take(&mut self, conn: ConnId) -> Vec<u8> {
        std::mem::take(&mut self.sockets.get_mut(&conn).expect("a connection").sent)
    }

    /// Bytes that wait to be read.
    #[must_use]
    pub fn backlog(&self, conn: ConnId) -> usize {
        self.sockets[&conn].inbox.len()
    }

    /// The peer closes or resets.
    pub fn hang_up(&mut self, conn: ConnId) {
        if self.sockets[&conn].end == End::Open {
            self.end(conn, End::ByPeer);
            let lane = self.sockets[&conn].lane;
            self.lanes[lane].handle_closed(conn);
            self.outputs();
        }
    }

    /// True while the target has it.
    #[must_use]
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.sockets[&conn].end == End::Open
    }

    /// Lets everything move until nothing does.
    ///
    /// # Panics
    /// If it never comes to rest.
    pub fn run(&mut self) {
        for _ in 0..ROUNDS {
            self.outputs();
            let mut moved = self.move_mail();
            let open = |(conn, socket): (&ConnId, &Socket)| (socket.end == End::Open).then_some(*conn);
            for conn in self.sockets.iter().filter_map(open).collect::<Vec<_>>() {
                moved |= self.read(conn);
                moved |= self.write(conn);
            }
            if !self.slow.media {
                moved |= self.media_step();
            }
            if !self.slow.buffers {
                while let Some((lane, conn, slot, len)) = self.wanting.pop_front() {
                    moved = true;
                    let span = self.memory.insert(vec![0xEE; len as usize]);
                    self.lanes[lane].handle_buffer(self.now, conn, slot, span);
                    self.outputs();
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the target never comes to rest");
    }

    /// When it wants to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().filter_map(|lane| lane.next_deadline().map(|wait| wait.at));
        lanes.chain(self.control.next_deadline().map(|wait| wait.at)).min()
    }

    /// It is `now`.
    pub fn tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for lane in &mut self.lanes {
            lane.handle_timeout(self.now);
        }
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
        panic!("time stands still: {:?}", self.next_deadline());
    }

    /// Buffers in use, operations under way, and lives that any lane remembers.
    #[must_use]
    pub fn held(&self) -> (usize, usize, usize) {
        let lives: usize = self.lanes.iter().map(|lane| lane.lives().count()).sum();
        (self.memory.len(), self.media.len() + self.wanting.len(), lives + self.control.lives().count())
    }

    /// The disk's bytes from a block on.
    #[must_use]
    pub fn disk(&self, slba: u64) -> &[u8] {
        &self.disk[(slba * u64::from(BLOCK)) as usize..]
    }

    /// The disk, to be filled.
    pub fn disk_mut(&mut self) -> &mut [u8] {
        &mut self.disk
    }

    fn end(&mut self, conn: ConnId, end: End) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && socket.end == End::Open
        {
            if end == End::Closed {
                let polled = std::mem::take(&mut socket.polled);
                socket.sent.extend(polled);
            }
            (socket.inbox, socket.polled, socket.end) = (Vec::new(), Vec::new(), end);
        }
    }

    fn read(&mut self, conn: ConnId) -> bool {
        let mut moved = false;
        loop {
            let socket = self.sockets.get_mut(&conn).expect("a connection");
            let lane = &mut self.lanes[socket.lane];
            let bite = if self.slow.bite == 0 { usize::MAX } else { self.slow.bite };
            let len = socket.inbox.len().min(bite);
            if len == 0 || socket.end != End::Open {
                return moved;
            }
            let Ok(taken) = lane.handle_bytes(self.now, conn, &socket.inbox[..len]) else {
                // As a driver does: the last words, then a close in order.
                self.outputs();
                self.say_all(conn);
                self.end(conn, End::Closed);
                let lane = self.sockets[&conn].lane;
                self.lanes[lane].handle_closed(conn);
                self.outputs();
                return true;
            };
            assert!(taken.used <= len, "a machine takes what it was offered");
            socket.inbox.drain(..taken.used);
            if let Some(place) = taken.place {
                let piece = &socket.inbox[..place.to.len as usize];
                assert!(taken.used + piece.len() <= len, "a place is for bytes that are there");
                self.memory.bytes_mut(place.to).copy_from_slice(piece);
                let digest = place.digest.map_or(0, |seed| crc32c_append(seed, piece));
                socket.inbox.drain(..place.to.len as usize);
                lane.handle_placed(self.now, conn, place.to.len, digest);
            }
            self.outputs();
            if taken.used == 0 && taken.place.is_none() {
                return moved;
            }
            moved = true;
        }
    }

    fn write(&mut self, conn: ConnId) -> bool {
        let socket = self.sockets.get_mut(&conn).expect("a connection");
        if socket.end != End::Open {
            return false;
        }
        let lane = socket.lane;
        if socket.polled.is_empty() {
            let mut list = SendList::new();
            self.lanes[lane].poll_send(conn, &mut list);
            self.memory.flatten(&list, &mut socket.polled);
        }
        let room = SOCKET_ROOM.saturating_sub(socket.sent.len()).min(socket.polled.len());
        if room == 0 {
            return false;
        }
        socket.sent.extend(socket.polled.drain(..room));
        self.lanes[lane].handle_given(self.now, conn, room as u64);
        self.outputs();
        true
    }

    fn say_all(&mut self, conn: ConnId) {
        let socket = self.sockets.get_mut(&conn).expect("a connection");
        let mut list = SendList::new();
        self.lanes[socket.lane].poll_send(conn, &mut list);
        let polled = std::mem::take(&mut socket.polled);
        socket.sent.extend(polled);
        self.memory.flatten(&list, &mut socket.sent);
    }

    fn move_mail(&mut self) -> bool {
        let mut moved = false;
        for n in 0..self.lanes.len() {
            if self.slow.mail && n == 1 {
                continue;
            }
            while let Some(message) = self.to_control[n].pop_front() {
                moved = true;
                self.control.handle_lane(self.now, LaneId(n as u16), message);
                self.outputs();
            }
            while let Some(message) = self.to_lane[n].pop_front() {
                moved = true;
                self.lanes[n].handle_control(self.now, message);
                self.outputs();
            }
        }
        moved
    }

    /// Carries out what the machines want.
    fn outputs(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                ControlOutput::ToLane(lane, message) => self.to_lane[usize::from(lane.0)].push_back(message),
                ControlOutput::Event(event) => self.events.push(event),
                ControlOutput::ClosePort(_) | ControlOutput::OpenPort(_) => {}
            }
        }
        for n in 0..self.lanes.len() {
            while let Some(output) = self.lanes[n].poll_output() {
                match output {
                    LaneOutput::ToControl(message) => self.to_control[n].push_back(message),
                    LaneOutput::NeedBuffer { conn, slot, len } => self.wanting.push_back((n, conn, slot, len)),
                    LaneOutput::FreeBuffer(buf) => drop(self.memory.remove(buf)),
                    LaneOutput::Media(op) => self.media.push_back((n, op)),
                    LaneOutput::Close { conn } => self.end(conn, End::Closed),
                    LaneOutput::Abort { conn } => self.end(conn, End::Reset),
                    LaneOutput::Event(event) => self.events.push(event),
                    LaneOutput::Park { .. } | LaneOutput::SendReady { .. } | LaneOutput::ReadReady { .. } => {}
                }
            }
        }
    }

    fn media_step(&mut self) -> bool {
        let Some((lane, op)) = self.media.pop_front() else { return false };
        let at = |slba: u64| (slba * u64::from(BLOCK)) as usize;
        let mut result = MediaResult::Done;
        let bytes_of = |span: Span| span.len as usize;
        match op.kind {
            MediaKind::Read { slba, into } => {
                self.memory.bytes_mut(into).copy_from_slice(&self.disk[at(slba)..][..bytes_of(into)]);
            }
            MediaKind::Write { slba, from, .. } => {
                self.disk[at(slba)..][..bytes_of(from)].copy_from_slice(self.memory.bytes(from));
            }
            MediaKind::Compare { slba, with } => {
                if self.disk[at(slba)..][..bytes_of(with)] != *self.memory.bytes(with) {
                    result = MediaResult::Different;
                }
            }
            MediaKind::Zero { range, .. } => self.disk[at(range.slba)..at(range.slba + range.blocks)].fill(0),
            MediaKind::Deallocate { ranges } => {
                for range in ranges {
                    self.disk[at(range.slba)..at(range.slba + range.blocks)].fill(0);
                }
            }
            MediaKind::Flush => {}
        }
        self.lanes[lane].handle_media_done(self.now, op.id, result);
        self.outputs();
        true
    }
}
