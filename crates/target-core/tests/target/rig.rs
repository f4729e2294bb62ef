//! The world around the target: sockets, buffers, disks, time and hosts.

use core::time::Duration;
use interlock_base::{BufId, Instant, Span};
use interlock_proto::host::{Event as HostEvent, Queue, QueueConfig};
use interlock_proto::{Segment, SendList, Sink, Source};
use interlock_target_core::config::{Ccr, Hosts, Limits, Offers, PortConfig, SubsystemConfig};
use interlock_target_core::*;
use interlock_wire::admin::{EventMask, GetLog, Identify};
use interlock_wire::ccr::{CrossControllerReset, Instance};
use interlock_wire::digest::{crc32c, crc32c_append};
use interlock_wire::fabrics::{Cc, Connect, ConnectAnswer, ConnectData, Csts, PropertyGet, PropertySet};
use interlock_wire::identify::IdentifyController;
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::nvm::Command;
use interlock_wire::pdu::Fatal;
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

pub(crate) const SUBNQN: &str = "nqn.2026-01.test:subsystem";
pub(crate) const A: PortId = PortId(1);
pub(crate) const B: PortId = PortId(2);
pub(crate) const BLOCKS: u64 = 1024;
/// Bytes of a command capsule without data.
pub(crate) const CAPSULE: usize = 72;
/// The lane that connections of this port are on.
pub(crate) const LANE_A: usize = 0;
pub(crate) const LANE_B: usize = 1;

pub(crate) fn namespace(nsid: u32) -> Namespace {
    Namespace {
        nsid,
        blocks: BLOCKS,
        block_shift: 9,
        read_only: false,
        nguid: [nsid as u8; 16],
        uuid: [nsid as u8 + 100; 16],
        ana_group: 1,
        eui64: None,
        zeroes_when_deallocated: true,
    }
}

pub(crate) fn address(n: u8) -> IpAddr {
    [198, 51, 100, n].into()
}

pub(crate) fn config() -> Config {
    let port = |id: PortId, number: u16| PortConfig {
        id,
        address: SocketAddr::from(([127, 0, 0, 1], number)),
        offers: Offers::All,
    };
    Config {
        subsystems: vec![SubsystemConfig {
            nqn: Nqn::new(SUBNQN).unwrap(),
            serial: "serial-1".into(),
            model: "model".into(),
            hosts: Hosts::Any,
            namespaces: vec![namespace(1)],
            cntlids: (1, 100),
            kas: 1,
            tbkas: true,
            cqt_ms: 500,
            quiesce_ms: 400,
            ccr: Ccr::DEFAULT,
            ana_groups: 2,
        }],
        ports: vec![port(A, 4420), port(B, 4421)],
        lanes: 2,
        limits: Limits { queue_depth: 64, max_transfer: 65_536, memory: 4 << 20, stock: 64 << 10, ..Limits::default() },
    }
}

/// One host's view of one connection.
pub(crate) struct Wire {
    lane: usize,
    pub(crate) queue: Queue,
    /// Bytes on the way to the target and to the host.
    up: Vec<u8>,
    down: Vec<u8>,
    pub(crate) open: bool,
    pub(crate) parked: bool,
    pub(crate) fatal: Option<Fatal>,
    /// Bytes that the host still sends; all that it has if none.
    pub(crate) sends: Option<usize>,
    /// The host takes nothing: what was polled stays where it is.
    pub(crate) deaf: bool,
    /// What was polled and the kernel has not taken.
    outbox: SendList,
    answers: BTreeMap<u64, (Cqe, Vec<u8>)>,
}

impl Wire {
    /// The kernel takes what was polled; says how much that was.
    fn give(&mut self, buffers: &BTreeMap<BufId, Vec<u8>>) -> u64 {
        let list = core::mem::take(&mut self.outbox);
        for segment in &list.segments {
            match *segment {
                Segment::Header { start, len } => {
                    self.down.extend_from_slice(&list.headers[start as usize..][..len as usize]);
                }
                Segment::Payload { span, digest } => {
                    let buffer = buffers.get(&span.buf).expect("what was polled is there until it was given");
                    let bytes = &buffer[span.offset as usize..][..span.len as usize];
                    self.down.extend_from_slice(bytes);
                    if digest {
                        self.down.extend_from_slice(&crc32c(bytes).to_le_bytes());
                    }
                }
            }
        }
        list.bytes()
    }
}

pub(crate) struct Rig {
    pub(crate) control: Control,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) now: Instant,
    pub(crate) wires: BTreeMap<ConnId, Wire>,
    pub(crate) to_lane: Vec<VecDeque<ToLane>>,
    to_control: Vec<VecDeque<ToControl>>,
    /// Lanes to which, and from which, nothing is carried.
    pub(crate) cut_off: BTreeSet<usize>,
    buffers: BTreeMap<BufId, Vec<u8>>,
    next_buffer: u32,
    /// No `NeedBuffer` is answered while set.
    pub(crate) no_buffers: bool,
    wanting: Vec<(usize, ConnId, u16, u32)>,
    /// Buffers that lanes have asked for.
    pub(crate) asked: usize,
    pub(crate) disks: BTreeMap<u32, Vec<u8>>,
    /// Media operations wait while set.
    pub(crate) slow_media: bool,
    /// How every media operation ends while set.
    pub(crate) media_fails: Option<MediaResult>,
    pub(crate) media: VecDeque<(usize, MediaOp)>,
    pub(crate) events: Vec<Event>,
    pub(crate) ports: Vec<ControlOutput>,
    next_conn: u32,
    next_token: u64,
    pub(crate) digests: bool,
    /// Where connections come from.
    pub(crate) from: IpAddr,
    /// The most data of an answer that a lane was given to hold.
    pub(crate) largest_answer: usize,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let lanes: Vec<Lane> = (0..config.lanes).map(|n| Lane::new(LaneId(n), config.limits)).collect();
        let mut rig = Self {
            to_lane: lanes.iter().map(|_| VecDeque::new()).collect(),
            to_control: lanes.iter().map(|_| VecDeque::new()).collect(),
            lanes,
            control: Control::new(config, 7).unwrap(),
            now: Instant::from_millis(1000),
            wires: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            buffers: BTreeMap::new(),
            next_buffer: 1,
            no_buffers: false,
            wanting: Vec::new(),
            asked: 0,
            disks: BTreeMap::from([(1, vec![0; BLOCKS as usize * 512])]),
            slow_media: false,
            media_fails: None,
            media: VecDeque::new(),
            events: Vec::new(),
            ports: Vec::new(),
            next_conn: 1,
            next_token: 1,
            digests: false,
            from: address(1),
            largest_answer: 0,
        };
        rig.run();
        rig
    }

    /// A connection whose ICReq is on its way.
    pub(crate) fn dial(&mut self, port: PortId) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let lane = if port == A { LANE_A } else { LANE_B } % self.lanes.len();
        let queue = Queue::new(QueueConfig { depth: 31, hdgst: self.digests, ddgst: self.digests, in_capsule: 1024 });
        let wire = Wire {
            lane,
            queue,
            up: Vec::new(),
            down: Vec::new(),
            open: true,
            parked: false,
            fatal: None,
            sends: None,
            deaf: false,
            outbox: SendList::new(),
            answers: BTreeMap::new(),
        };
        self.wires.insert(conn, wire);
        let local = SocketAddr::from(([192, 0, 2, 1], 4420));
        self.lanes[lane].handle_accepted(self.now, conn, port, local, Payer::at(self.from));
        self.run();
        conn
    }

    /// Submits a command; its answer is taken later.
    pub(crate) fn submit(&mut self, conn: ConnId, sqe: Sqe, out: &[u8], into: u32) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let source = if out.is_empty() { Source::None } else { Source::Bytes(out.to_vec()) };
        let sink = if into == 0 { Sink::None } else { Sink::Bytes(into) };
        self.wires.get_mut(&conn).unwrap().queue.submit(sqe, source, sink, token).unwrap();
        self.run();
        token
    }

    /// The answer, if it came.
    pub(crate) fn answer(&mut self, conn: ConnId, token: u64) -> Option<(Cqe, Vec<u8>)> {
        self.wires.get_mut(&conn).unwrap().answers.remove(&token)
    }

    /// Submits and expects the answer at once.
    pub(crate) fn ask(&mut self, conn: ConnId, sqe: Sqe, out: &[u8], into: u32) -> (Cqe, Vec<u8>) {
        let token = self.submit(conn, sqe, out, into);
        self.answer(conn, token).expect("an answer at once")
    }

    /// Same, and expects success.
    pub(crate) fn get(&mut self, conn: ConnId, sqe: Sqe, into: u32) -> Vec<u8> {
        let (cqe, data) = self.ask(conn, sqe, &[], into);
        assert_eq!(cqe.status(), Status::SUCCESS);
        data
    }

    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.wires[&conn].open
    }

    /// Bytes from a host that no queue made.
    pub(crate) fn inject(&mut self, conn: ConnId, bytes: &[u8]) {
        self.wires.get_mut(&conn).unwrap().up.extend_from_slice(bytes);
        self.run();
    }

    /// The host's end breaks.
    pub(crate) fn hang_up(&mut self, conn: ConnId) {
        let wire = self.wires.get_mut(&conn).unwrap();
        wire.open = false;
        let lane = wire.lane;
        self.lanes[lane].handle_closed(conn);
        self.run();
    }

    /// The host's end closes in order, and what it sent before arrives.
    pub(crate) fn finish(&mut self, conn: ConnId) {
        self.run();
        let wire = self.wires.get_mut(&conn).unwrap();
        wire.open = false;
        let lane = wire.lane;
        self.lanes[lane].handle_finished(conn);
        self.run();
    }

    /// Everything moves until nothing does.
    pub(crate) fn run(&mut self) {
        let conns: Vec<ConnId> = self.wires.keys().copied().collect();
        loop {
            let mut moved = false;
            for conn in &conns {
                moved |= self.move_wire(*conn);
            }
            moved |= self.move_messages();
            if !self.slow_media {
                moved |= self.media_step();
            }
            if !self.no_buffers {
                for (lane, conn, slot, len) in core::mem::take(&mut self.wanting) {
                    moved = true;
                    let buf = BufId(self.next_buffer);
                    self.next_buffer += 1;
                    self.buffers.insert(buf, vec![0xEE; len as usize]);
                    self.lanes[lane].handle_buffer(self.now, conn, slot, Span { buf, offset: 0, len });
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn move_wire(&mut self, conn: ConnId) -> bool {
        let mut moved = false;
        let mut placed = Vec::new();
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open) else { return false };
        let lane = &mut self.lanes[wire.lane];
        let mut list = SendList::new();
        wire.queue.poll_send(&mut list);
        wire.queue.handle_given(list.bytes());
        assert!(list.segments.iter().all(|segment| matches!(segment, Segment::Header { .. })));
        wire.up.extend_from_slice(&list.headers);
        // Up, in a loop as a driver does it.
        while wire.fatal.is_none() && !lane.is_muted(conn) {
            let visible = wire.sends.unwrap_or(usize::MAX).min(wire.up.len());
            match lane.handle_bytes(self.now, conn, &wire.up[..visible]) {
                Ok(taken) => {
                    wire.up.drain(..taken.used);
                    wire.sends = wire.sends.map(|left| left - taken.used);
                    if let Some(place) = taken.place {
                        let len = place.to.len as usize;
                        let bytes: Vec<u8> = wire.up.drain(..len).collect();
                        wire.sends = wire.sends.map(|left| left - len);
                        placed.push(place.to.buf);
                        let buffer = self.buffers.get_mut(&place.to.buf).expect("a buffer in use");
                        buffer[place.to.offset as usize..][..len].copy_from_slice(&bytes);
                        let digest = place.digest.map_or(0, |seed| crc32c_append(seed, &bytes));
                        lane.handle_placed(self.now, conn, place.to.len, digest);
                    } else if taken.used == 0 {
                        break;
                    }
                    moved = true;
                }
                Err(fatal) => {
                    wire.fatal = Some(fatal);
                    moved = true;
                }
            }
        }
        // Down.
        if wire.outbox.is_empty() {
            lane.poll_send(conn, &mut wire.outbox);
        }
        if !wire.deaf && !lane.is_muted(conn) && !wire.outbox.is_empty() {
            moved = true;
            let given = wire.give(&self.buffers);
            lane.handle_given(self.now, conn, given);
        }
        while !wire.down.is_empty() {
            let taken = wire.queue.handle_bytes(&wire.down).expect("the target keeps to the protocol");
            assert!(taken.place.is_none(), "the rig's hosts take everything as control data");
            wire.down.drain(..taken.used);
            if taken.used == 0 {
                break;
            }
        }
        while let Some(event) = wire.queue.poll_event() {
            if let HostEvent::Completed { token, cqe, data, error } = event {
                assert_eq!(error, None);
                wire.answers.insert(token, (cqe, data));
            }
        }
        let (n, failed) = (wire.lane, wire.fatal.is_some());
        for buf in placed {
            self.assert_not_polled(buf, "written");
        }
        if failed {
            // As a driver does it: what the lane wants, then what the peer is owed, then the end.
            while let Some(output) = self.lanes[n].poll_output() {
                self.lane_output(n, output);
            }
            self.close(conn);
            self.lanes[n].handle_closed(conn);
        }
        moved
    }

    /// The kernel takes what it can of what was polled, and the socket is gone.
    fn close(&mut self, conn: ConnId) {
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        if !wire.outbox.is_empty() {
            wire.give(&self.buffers);
        }
        wire.open = false;
    }

    /// Somebody else may have the buffer now, or is given it: no driver is about to send it.
    fn assert_not_polled(&self, buf: BufId, what: &str) {
        for (conn, wire) in &self.wires {
            let names = |segment: &Segment| matches!(segment, Segment::Payload { span, .. } if span.buf == buf);
            let polled = wire.open && wire.outbox.segments.iter().any(names);
            assert!(!polled, "{buf:?} is {what} while it waits to be sent on {conn:?}");
        }
    }

    fn move_messages(&mut self) -> bool {
        let mut moved = false;
        for n in 0..self.lanes.len() {
            while let Some(output) = self.lanes[n].poll_output() {
                moved = true;
                self.lane_output(n, output);
            }
            if self.cut_off.contains(&n) {
                continue;
            }
            while let Some(message) = self.to_control[n].pop_front() {
                moved = true;
                self.control.handle_lane(self.now, LaneId(n as u16), message);
            }
        }
        while let Some(output) = self.control.poll_output() {
            moved = true;
            match output {
                ControlOutput::ToLane(lane, message) => self.to_lane[usize::from(lane.0)].push_back(message),
                ControlOutput::Event(event) => self.events.push(event),
                port => self.ports.push(port),
            }
        }
        for n in 0..self.lanes.len() {
            if self.cut_off.contains(&n) {
                continue;
            }
            while let Some(message) = self.to_lane[n].pop_front() {
                moved = true;
                if let ToLane::Answer { data, .. } = &message {
                    self.largest_answer = self.largest_answer.max(data.capacity());
                }
                self.lanes[n].handle_control(self.now, message);
            }
        }
        moved
    }

    fn lane_output(&mut self, n: usize, output: LaneOutput) {
        match output {
            LaneOutput::ToControl(message) => self.to_control[n].push_back(message),
            LaneOutput::NeedBuffer { conn, slot, len } => {
                self.asked += 1;
                self.wanting.push((n, conn, slot, len));
            }
            LaneOutput::FreeBuffer(buf) => {
                self.assert_not_polled(buf, "freed");
                assert!(self.buffers.remove(&buf).is_some(), "{buf:?} is freed once");
            }
            LaneOutput::Media(op) => self.media.push_back((n, op)),
            LaneOutput::Close { conn } => self.close(conn),
            LaneOutput::Abort { conn } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.open = false;
                }
            }
            LaneOutput::Park { conn } => {
                let wire = self.wires.get_mut(&conn).unwrap();
                wire.parked = true;
                wire.outbox.clear();
            }
            LaneOutput::SendReady { .. } | LaneOutput::ReadReady { .. } => {}
            LaneOutput::Event(event) => self.events.push(event),
        }
    }

    /// The oldest media operation is done.
    pub(crate) fn media_step(&mut self) -> bool {
        let Some((n, op)) = self.media.pop_front() else { return false };
        if let Some(result) = self.media_fails {
            self.lanes[n].handle_media_done(self.now, op.id, result);
            return true;
        }
        let disk = self.disks.get_mut(&op.namespace.nsid).expect("a disk");
        let mut result = MediaResult::Done;
        let at = |slba: u64| slba as usize * 512;
        match op.kind {
            MediaKind::Read { slba, into } => {
                let len = into.len as usize;
                self.buffers.get_mut(&into.buf).unwrap()[..len].copy_from_slice(&disk[at(slba)..][..len]);
            }
            MediaKind::Write { slba, from, .. } => {
                let bytes = &self.buffers[&from.buf];
                disk[at(slba)..][..bytes.len()].copy_from_slice(bytes);
            }
            MediaKind::Compare { slba, with } => {
                let bytes = &self.buffers[&with.buf];
                if disk[at(slba)..][..bytes.len()] != bytes[..] {
                    result = MediaResult::Different;
                }
            }
            MediaKind::Zero { range, .. } => disk[at(range.slba)..at(range.slba + range.blocks)].fill(0),
            MediaKind::Deallocate { ranges } => {
                for range in ranges {
                    disk[at(range.slba)..at(range.slba + range.blocks)].fill(0);
                }
            }
            MediaKind::Flush => {}
        }
        self.lanes[n].handle_media_done(self.now, op.id, result);
        true
    }

    /// Time passes, wait by wait.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        loop {
            let next = self
                .lanes
                .iter()
                .filter_map(|lane| lane.next_deadline().map(|wait| wait.at))
                .chain(self.control.next_deadline().map(|wait| wait.at))
                .min();
            self.now = next.filter(|at| *at < end).unwrap_or(end).max(self.now);
            for lane in &mut self.lanes {
                lane.handle_timeout(self.now);
            }
            self.control.handle_timeout(self.now);
            self.run();
            if self.now >= end {
                return;
            }
        }
    }

    pub(crate) fn script(&mut self, fault: Fault) {
        self.control.script(fault);
        self.run();
    }

    /// Buffers that somebody still uses.
    pub(crate) fn buffers(&self) -> usize {
        self.buffers.len() - self.lanes.iter().map(Lane::stocked).sum::<usize>()
    }

    pub(crate) fn disk(&self, slba: u64) -> u8 {
        self.disks[&1][slba as usize * 512]
    }

    pub(crate) fn connect(&mut self, conn: ConnId, connect: Connect, data: &ConnectData) -> Cqe {
        self.ask(conn, connect.to_sqe(), data.as_bytes(), 0).0
    }
}

/// A host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) nqn: Nqn,
    pub(crate) id: HostId,
    pub(crate) kato_ms: u32,
}

impl Host {
    pub(crate) fn new(n: u8) -> Self {
        Self { nqn: Nqn::new(format!("nqn.2026-01.test:host{n}")).unwrap(), id: HostId([n; 16]), kato_ms: 0 }
    }

    pub(crate) fn data(&self, subnqn: &str, cntlid: u16) -> ConnectData {
        ConnectData::new(self.id, &self.nqn, &Nqn::new(subnqn).unwrap(), cntlid)
    }

    /// An admin queue whose controller is not enabled.
    pub(crate) fn admin(&self, rig: &mut Rig, port: PortId, subnqn: &str) -> (ConnId, u16) {
        let conn = rig.dial(port);
        let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: self.kato_ms };
        let cqe = rig.connect(conn, connect, &self.data(subnqn, 0xFFFF));
        assert_eq!(cqe.status(), Status::SUCCESS);
        (conn, ConnectAnswer::from_dw0(cqe.dw0.get()).cntlid)
    }

    /// An enabled controller with one I/O queue.
    pub(crate) fn live(&self, rig: &mut Rig, port: PortId) -> Path {
        let (admin, cntlid) = self.admin(rig, port, SUBNQN);
        set_cc(rig, admin, Cc::new(false).with_enable(true));
        assert!(csts(rig, admin).ready());
        let identify = identify(rig, admin);
        assert_eq!(identify.cntlid.get(), cntlid);
        let io = self.queue(rig, port, cntlid, 1);
        Path { admin, io, cntlid, instance: identify.instance() }
    }

    pub(crate) fn queue(&self, rig: &mut Rig, port: PortId, cntlid: u16, qid: u16) -> ConnId {
        let io = rig.dial(port);
        let connect = Connect { qid, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        let cqe = rig.connect(io, connect, &self.data(SUBNQN, cntlid));
        assert_eq!(cqe.status(), Status::SUCCESS);
        io
    }
}

/// A live controller of a host.
#[derive(Clone, Copy)]
pub(crate) struct Path {
    pub(crate) admin: ConnId,
    pub(crate) io: ConnId,
    pub(crate) cntlid: u16,
    pub(crate) instance: Instance,
}

impl Path {
    pub(crate) fn write(&self, rig: &mut Rig, slba: u64, byte: u8) -> u64 {
        let sqe = Command::Write { slba, nlb: 1, fua: false }.to_sqe(1);
        rig.submit(self.io, sqe, &[byte; 512], 0)
    }

    pub(crate) fn read(&self, rig: &mut Rig, slba: u64) -> u8 {
        let data = rig.get(self.io, Command::Read { slba, nlb: 1, fua: false }.to_sqe(1), 512);
        assert!(data.iter().all(|byte| *byte == data[0]));
        data[0]
    }

    /// Asks this controller to reset another one: its answer, if it came.
    pub(crate) fn ccr(&self, rig: &mut Rig, impacted: Instance) -> u64 {
        rig.submit(self.admin, CrossControllerReset { impacted }.to_sqe(), &[], 0)
    }

    pub(crate) fn ccr_now(&self, rig: &mut Rig, impacted: Instance) -> (Status, bool) {
        let token = self.ccr(rig, impacted);
        let (cqe, _) = rig.answer(self.admin, token).expect("an answer at once");
        (cqe.status(), interlock_wire::ccr::immediate(cqe.dw0.get()))
    }

    pub(crate) fn log(&self, rig: &mut Rig, remove: bool) -> Vec<interlock_wire::ccr::Entry> {
        let page = rig.get(self.admin, interlock_wire::ccr::get_log(remove).to_sqe(), 4096);
        interlock_wire::ccr::parse_log(&page).unwrap()
    }

    pub(crate) fn want_events(&self, rig: &mut Rig, events: EventMask) {
        rig.get(self.admin, interlock_wire::admin::SetFeatures::async_events(events).to_sqe(), 0);
    }

    pub(crate) fn aer(&self, rig: &mut Rig) -> u64 {
        rig.submit(self.admin, interlock_wire::admin::async_event_request(), &[], 0)
    }
}

pub(crate) fn set_cc(rig: &mut Rig, admin: ConnId, cc: Cc) {
    rig.get(admin, PropertySet::cc(cc).to_sqe(), 0);
}

pub(crate) fn csts(rig: &mut Rig, admin: ConnId) -> Csts {
    let (cqe, _) = rig.ask(admin, PropertyGet::CSTS.to_sqe(), &[], 0);
    assert_eq!(cqe.status(), Status::SUCCESS);
    Csts(cqe.dw0.get())
}

pub(crate) fn identify(rig: &mut Rig, admin: ConnId) -> IdentifyController {
    IdentifyController::read_from_bytes(&rig.get(admin, Identify::Controller.to_sqe(), 4096)).unwrap()
}

pub(crate) fn log(rig: &mut Rig, admin: ConnId, lid: u8, len: u32) -> Vec<u8> {
    rig.get(admin, GetLog::new(lid, len).to_sqe(), len)
}
