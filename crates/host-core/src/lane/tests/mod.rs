//! Tests of the lane against scripted targets in memory.
//!
//! [`Rig`] is the driver and the network: it carries the lane's outputs out in order, keeps what was polled but not
//! given, copies payload, and lets each target live as long as it likes - also after its connection is gone, which is
//! what a ghost is. The targets speak through the real target role of `interlock_proto`.

mod barrier;
mod data;
mod flush;
mod forward;
mod loss;
mod random;
mod suspects;
mod table;

use crate::{
    AnaState, ConnAction, ConnEvent, ConnId, ConnectionEnd, CtrlId, Dial, DownReason, FencePolicy, FlushScope,
    GuardEntry, Head, HeadId, IoPolicy, Lane, LaneConfig, LaneId, LaneOutput, LifeId, Op, Outcome, Path, PathTable,
    QueueSpec, Refused, Request, Shape, ToControl, ToLane,
};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::{BufId, Instant, Span};
use interlock_proto::target::{Event as TargetEvent, Queue as TargetQueue, QueueConfig as TargetConfig, Transfer};
use interlock_proto::{Segment, SendList, Sink, Source};
use interlock_wire::fabrics::ConnectAnswer;
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::nvm::Command as NvmCommand;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

const BLOCK: u32 = 512;
const HEAD: HeadId = HeadId(1);
const A: LifeId = LifeId(1);
const B: LifeId = LifeId(2);

/// A command that a target has taken and not answered.
#[derive(Clone, Debug)]
struct Taken {
    slot: u16,
    nvm: NvmCommand,
    /// The token of the write, from its payload.
    stamp: Option<u64>,
}

/// One connection: kernel, network and target.
struct Wire {
    spec: Arc<QueueSpec>,
    target: TargetQueue,
    connected: bool,
    /// Polled, not given to the kernel: bytes, and the buffer they are read from.
    unsent: Vec<(Vec<u8>, Option<BufId>)>,
    /// How many more bytes the kernel takes; `None`: any.
    window: Option<u64>,
    wants_send: bool,
    to_target: Vec<u8>,
    to_host: Vec<u8>,
    /// The host's end exists.
    socket: bool,
    watched: bool,
    closed: bool,
    /// Nothing arrives at the host any more.
    mute: bool,
    /// With data, by slot, while it is on its way.
    arriving: BTreeMap<u16, NvmCommand>,
    taken: Vec<Taken>,
    /// Of the command that came last.
    last_cid: u16,
}

struct Rig {
    lane: Lane,
    now: Instant,
    wires: BTreeMap<ConnId, Wire>,
    buffers: BTreeMap<BufId, Vec<u8>>,
    /// Requests that have not ended.
    open: BTreeSet<u64>,
    done: BTreeMap<u64, Outcome>,
    /// Ended since somebody looked.
    just_done: Vec<u64>,
    control: Vec<ToControl>,
    /// What other lanes are asked for.
    to_lanes: Vec<LaneOutput>,
    flushes_lost: Vec<(HeadId, Status)>,
    last_token: u64,
    /// Queues asked for whose connection was not opened yet.
    opening: VecDeque<Arc<QueueSpec>>,
    in_capsule: u32,
    sqsize: u16,
}

impl Rig {
    fn new() -> Self {
        Self::of_lane(0)
    }

    fn of_lane(id: u16) -> Self {
        Self {
            lane: Lane::new(LaneConfig { id: LaneId(id), requests_max: 64, seed: 1 }),
            now: Instant::from_millis(1),
            wires: BTreeMap::new(),
            buffers: BTreeMap::new(),
            open: BTreeSet::new(),
            done: BTreeMap::new(),
            just_done: Vec::new(),
            control: Vec::new(),
            to_lanes: Vec::new(),
            flushes_lost: Vec::new(),
            last_token: 0,
            opening: VecDeque::new(),
            in_capsule: 4096,
            sqsize: 16,
        }
    }

    /// Lives A and B up, round robin, one namespace.
    fn two_paths() -> Self {
        let mut rig = Self::new();
        rig.open(A);
        rig.open(B);
        rig.paths(&[A, B]);
        rig
    }

    fn spec(&self, life: LifeId, qid: u16) -> QueueSpec {
        QueueSpec {
            life,
            ctrl: CtrlId((life.0 % 10) as u32),
            dial: Dial {
                addr: "127.0.0.1:4420".parse().unwrap(),
                local: None,
                iface: None,
                user_timeout: Duration::from_secs(5),
            },
            hostnqn: Nqn::new("nqn.2014-08.org.example:host").unwrap(),
            hostid: HostId([7; 16]),
            subnqn: Nqn::new("nqn.2014-08.org.example:sub").unwrap(),
            cntlid: 1,
            qid,
            sqsize: self.sqsize,
            hdgst: false,
            ddgst: false,
            in_capsule: self.in_capsule,
            max_transfer: 64 * 1024,
            connect_timeout: Duration::from_secs(10),
            io_timeout: Duration::from_secs(30),
            retry_delays: [1, 2, 40].map(Duration::from_secs),
            late_grace: Duration::from_millis(250),
        }
    }

    fn open(&mut self, life: LifeId) {
        self.open_queue(life, 1);
        self.run();
        assert!(self.heard(&ToControl::QueueUp { life, qid: 1 }), "{life} did not come up: {:?}", self.control);
    }

    fn open_queue(&mut self, life: LifeId, qid: u16) {
        let spec = Arc::new(self.spec(life, qid));
        self.opening.push_back(Arc::clone(&spec));
        self.tell(ToLane::OpenQueue(spec));
    }

    fn table(lives: &[(LifeId, AnaState, bool)], policy: IoPolicy, may_return: bool) -> PathTable {
        let shape = Shape { block_size: BLOCK, blocks: 1000, metadata: 0, read_only: false };
        let paths = lives
            .iter()
            .map(|(life, ana, slow)| Path { life: *life, nsid: 1, ana: *ana, slow: *slow, queues: 1 })
            .collect();
        PathTable {
            epoch: 1,
            twins: BTreeMap::new(),
            heads: BTreeMap::from([(HEAD, Head { shape, policy, flush: FlushScope::Subsystem, paths, may_return })]),
        }
    }

    fn paths(&mut self, lives: &[LifeId]) {
        let lives: Vec<_> = lives.iter().map(|life| (*life, AnaState::Optimized, false)).collect();
        self.tell(ToLane::Paths(Arc::new(Self::table(&lives, IoPolicy::RoundRobin, true))));
    }

    fn tell(&mut self, message: ToLane) {
        self.lane.handle_control(self.now, message);
        self.outputs();
    }

    fn heard(&self, message: &ToControl) -> bool {
        self.control.contains(message)
    }

    /// What control was told since the last call.
    fn hear(&mut self) -> Vec<ToControl> {
        core::mem::take(&mut self.control)
    }

    fn submit(&mut self, op: Op, slba: u64, nlb: u32) -> u64 {
        self.try_submit(op, slba, nlb).unwrap()
    }

    fn try_submit(&mut self, op: Op, slba: u64, nlb: u32) -> Result<u64, Refused> {
        self.last_token += 1;
        let token = self.last_token;
        let data = op.carries_blocks().then(|| {
            let buf = BufId(u32::try_from(token).unwrap());
            let mut bytes = vec![0; (nlb * BLOCK) as usize];
            if op != Op::Read {
                for block in bytes.chunks_mut(BLOCK as usize) {
                    block[..8].copy_from_slice(&token.to_le_bytes());
                }
            }
            self.buffers.insert(buf, bytes);
            Span { buf, offset: 0, len: nlb * BLOCK }
        });
        self.lane.submit(self.now, Request { head: HEAD, op, slba, nlb, data }, token)?;
        self.open.insert(token);
        self.outputs();
        Ok(token)
    }

    fn write(&mut self, slba: u64, nlb: u32) -> u64 {
        self.submit(Op::Write { fua: false }, slba, nlb)
    }

    fn read(&mut self, slba: u64, nlb: u32) -> u64 {
        self.submit(Op::Read, slba, nlb)
    }

    /// Carries out what the lane wants, in order; sends nothing.
    fn outputs(&mut self) {
        while let Some(output) = self.lane.poll_output() {
            match output {
                LaneOutput::Done { token, outcome } => {
                    assert!(self.open.remove(&token), "completes_exactly_once: {token} ended twice");
                    self.done.insert(token, outcome);
                    self.just_done.push(token);
                    let buf = BufId(u32::try_from(token).unwrap());
                    for (conn, wire) in &self.wires {
                        let used = wire.unsent.iter().any(|(_, of)| *of == Some(buf));
                        assert!(!used, "buffer_outlives_its_last_use: {token} ended while {conn} still sends from it");
                    }
                    self.buffers.remove(&buf);
                }
                LaneOutput::ToControl(message) => self.control.push(message),
                LaneOutput::Conn(action) => self.act(action),
                LaneOutput::FlushLost { head, status } => self.flushes_lost.push((head, status)),
                to_lane @ (LaneOutput::Forward { .. } | LaneOutput::GiveUp { .. }) => self.to_lanes.push(to_lane),
            }
        }
    }

    fn act(&mut self, action: ConnAction) {
        match action {
            ConnAction::Open(conn, _) => {
                let spec = self.opening.pop_front().expect("queues are opened when they are asked for");
                let target = TargetQueue::new(TargetConfig {
                    hdgst_allowed: true,
                    ddgst_allowed: true,
                    maxh2cdata: 4096,
                    in_capsule_max: self.in_capsule,
                    max_transfer: 1 << 20,
                    slots: 64,
                });
                let wire = Wire {
                    spec,
                    target,
                    connected: false,
                    unsent: Vec::new(),
                    window: None,
                    wants_send: false,
                    to_target: Vec::new(),
                    to_host: Vec::new(),
                    socket: true,
                    watched: false,
                    closed: false,
                    mute: false,
                    arriving: BTreeMap::new(),
                    taken: Vec::new(),
                    last_cid: 0,
                };
                self.wires.insert(conn, wire);
            }
            ConnAction::Send(conn) => self.wire(conn).wants_send = true,
            ConnAction::StopSending(conn) => {
                self.wire(conn).unsent.clear();
                self.wire(conn).wants_send = false;
            }
            ConnAction::WatchDrain(conn) => self.wire(conn).watched = true,
            ConnAction::Abort(conn) => {
                let wire = self.wire(conn);
                wire.unsent.clear();
                wire.to_host.clear();
                wire.socket = false;
                wire.closed = false;
                wire.watched = false;
            }
            ConnAction::Close(conn) => {
                self.wire(conn).closed = true;
                self.wire(conn).socket = false;
            }
        }
    }

    fn wire(&mut self, conn: ConnId) -> &mut Wire {
        self.wires.get_mut(&conn).unwrap()
    }

    /// The first connection of a life.
    fn conn(&self, life: LifeId) -> ConnId {
        *self.wires.iter().find(|(_, wire)| wire.spec.life == life).unwrap().0
    }

    fn of(&mut self, life: LifeId) -> &mut Wire {
        let conn = self.conn(life);
        self.wire(conn)
    }

    /// Lets everything flow until nothing moves.
    fn run(&mut self) {
        loop {
            self.outputs();
            let mut moved = false;
            let conns: Vec<ConnId> = self.wires.keys().copied().collect();
            for conn in conns {
                if !self.wire(conn).connected {
                    if self.wire(conn).socket {
                        self.wire(conn).connected = true;
                        self.event(conn, ConnEvent::Up);
                        moved = true;
                    }
                    continue;
                }
                moved |= self.give(conn);
                moved |= self.at_target(conn);
                moved |= self.at_host(conn);
            }
            if !moved {
                return;
            }
        }
    }

    fn event(&mut self, conn: ConnId, event: ConnEvent) {
        self.lane.handle_conn(self.now, conn, event);
        self.outputs();
    }

    /// The driver: polls what is ready and gives the kernel what it takes.
    fn give(&mut self, conn: ConnId) -> bool {
        let wire = self.wires.get_mut(&conn).unwrap();
        if !wire.socket {
            return false;
        }
        if wire.wants_send && wire.unsent.is_empty() {
            wire.wants_send = false;
            let mut list = SendList::new();
            self.lane.poll_send(conn, &mut list);
            for segment in &list.segments {
                let piece = match *segment {
                    Segment::Header { start, len } => {
                        (list.headers[start as usize..(start + len) as usize].to_vec(), None)
                    }
                    Segment::Payload { span, .. } => {
                        let from = &self.buffers[&span.buf];
                        (from[span.offset as usize..(span.offset + span.len) as usize].to_vec(), Some(span.buf))
                    }
                };
                wire.unsent.push(piece);
            }
        }
        let mut given = 0;
        while let Some((bytes, _)) = wire.unsent.first_mut() {
            let take = wire.window.map_or(bytes.len(), |window| bytes.len().min(usize::try_from(window).unwrap()));
            wire.to_target.extend(bytes.drain(..take));
            given += take as u64;
            wire.window = wire.window.map(|window| window - take as u64);
            if !bytes.is_empty() {
                break;
            }
            wire.unsent.remove(0);
        }
        if given > 0 {
            self.lane.handle_given(self.now, conn, given);
            self.outputs();
        }
        given > 0
    }

    /// What reached the target is taken there; commands wait to be answered.
    fn at_target(&mut self, conn: ConnId) -> bool {
        let wire = self.wires.get_mut(&conn).unwrap();
        let mut moved = false;
        loop {
            let taken = wire.target.handle_bytes(&wire.to_target).unwrap();
            wire.to_target.drain(..taken.used);
            assert!(taken.place.is_none(), "the scripted target takes its data as bytes");
            let mut progress = taken.used > 0;
            while let Some(event) = wire.target.poll_event() {
                progress = true;
                wire.target_event(event);
            }
            moved |= progress;
            if !progress {
                break;
            }
        }
        let mut list = SendList::new();
        wire.target.poll_send(&mut list);
        for segment in &list.segments {
            let Segment::Header { start, len } = *segment else { panic!("the scripted target sends bytes") };
            wire.to_host.extend_from_slice(&list.headers[start as usize..(start + len) as usize]);
        }
        wire.target.handle_given(list.bytes());
        while wire.target.poll_event().is_some() {}
        moved || !list.is_empty()
    }

    fn at_host(&mut self, conn: ConnId) -> bool {
        let wire = self.wires.get_mut(&conn).unwrap();
        if !wire.socket || wire.mute || wire.to_host.is_empty() {
            return false;
        }
        let bytes = core::mem::take(&mut wire.to_host);
        let mut at = 0;
        loop {
            let taken = self.lane.handle_bytes(self.now, conn, &bytes[at..]);
            at += taken.used;
            if let Some(place) = taken.place {
                let len = place.to.len as usize;
                let buffer = self.buffers.get_mut(&place.to.buf);
                let buffer = buffer.expect("buffer_has_one_writer: data is placed into a buffer that was given back");
                buffer[place.to.offset as usize..][..len].copy_from_slice(&bytes[at..at + len]);
                at += len;
                self.lane.handle_placed(self.now, conn, place.to.len, 0);
            } else if taken.used == 0 {
                break;
            }
        }
        assert_eq!(at, bytes.len(), "a host takes every byte");
        self.outputs();
        true
    }

    /// Lets the target of `life` answer everything it has.
    fn answer(&mut self, life: LifeId) {
        self.answer_with(life, Status::SUCCESS);
    }

    fn answer_with(&mut self, life: LifeId, status: Status) {
        for wire in self.wires.values_mut().filter(|wire| wire.spec.life == life) {
            for taken in core::mem::take(&mut wire.taken) {
                wire.respond(&taken, status);
            }
        }
        self.run();
    }

    /// The stamps of the writes that the target of `life` has and has not answered.
    fn held_by(&mut self, life: LifeId) -> Vec<u64> {
        self.of(life).taken.iter().filter_map(|taken| taken.stamp).collect()
    }

    fn condemn(&mut self, life: LifeId) {
        self.tell(ToLane::Condemn { life, policy: FencePolicy::Strict });
    }

    /// A guard table of everything that the ledgers say.
    fn guard(&mut self, epoch: u64, entries: &[GuardEntry]) {
        self.tell(ToLane::Guard { epoch, entries: Arc::new(entries.to_vec()) });
    }

    fn drop_connection(&mut self, life: LifeId) {
        let conn = self.conn(life);
        let wire = self.wire(conn);
        wire.socket = false;
        wire.unsent.clear();
        wire.to_host.clear();
        self.event(conn, ConnEvent::Down(DownReason::Lost(ConnectionEnd::Reset)));
    }

    fn elapse(&mut self, span: Duration) {
        self.now += span;
        self.lane.handle_timeout(self.now);
        self.outputs();
    }
}

impl Wire {
    fn target_event(&mut self, event: TargetEvent) {
        match event {
            TargetEvent::Command { slot, sqe, transfer } => {
                self.last_cid = sqe.cid.get();
                match transfer {
                    Transfer::FromHost { len, .. } => {
                        if let Some(nvm) = nvm(&sqe) {
                            self.arriving.insert(slot, nvm);
                        }
                        self.target.receive(slot, Sink::Bytes(len));
                    }
                    Transfer::None | Transfer::ToHost { .. } => {
                        let nvm = nvm(&sqe).expect("Connect has data");
                        self.taken.push(Taken { slot, nvm, stamp: None });
                    }
                }
            }
            TargetEvent::Arrived { slot, data, digest_ok } => {
                assert!(digest_ok);
                let Some(nvm) = self.arriving.remove(&slot) else {
                    self.target.connected(self.spec.sqsize, false, true);
                    let answer =
                        ConnectAnswer { cntlid: 1, authentication_required: false, secure_channel_required: false };
                    return self.target.respond(slot, Status::SUCCESS, answer.to_dw0(), 0, Source::None);
                };
                let stamp =
                    matches!(nvm, NvmCommand::Write { .. }).then(|| u64::from_le_bytes(data[..8].try_into().unwrap()));
                self.taken.push(Taken { slot, nvm, stamp });
            }
            TargetEvent::Ready { .. } | TargetEvent::Sent { .. } => {}
            TargetEvent::TermReq { fes, fei } => panic!("the host says the target broke the protocol: {fes} {fei}"),
        }
    }

    fn respond(&mut self, taken: &Taken, status: Status) {
        let data = match taken.nvm {
            NvmCommand::Read { nlb, .. } if status.is_success() => Source::Bytes(vec![0xD1; (nlb * BLOCK) as usize]),
            _ => Source::None,
        };
        self.target.respond(taken.slot, status, 0, 0, data);
    }
}

fn nvm(sqe: &Sqe) -> Option<NvmCommand> {
    (!sqe.is_fabrics()).then(|| NvmCommand::from_sqe(sqe).unwrap())
}
