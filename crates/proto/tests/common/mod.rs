//! Both ends of a queue pair, joined in memory through any split of the byte stream.
//!
//! The pair plays what drivers do: it flattens what was polled, gives it to a "kernel" in pieces, delivers pieces of
//! that, places payload in a store, and keeps what a blocked queue did not take. All chance comes from one seed.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use interlock_base::{BufId, Rng, Span};
use interlock_proto::{Segment, SendList, Sink, Source, Taken, host, target};
use interlock_wire::digest::{crc32c, crc32c_append};
use interlock_wire::pdu::Fatal;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;
use std::collections::{BTreeMap, VecDeque};

/// Buffers by number.
#[derive(Clone, Debug, Default)]
pub struct Store(pub Vec<Vec<u8>>);

impl Store {
    pub fn add(&mut self, bytes: Vec<u8>) -> Span {
        let span = Span { buf: BufId(self.0.len() as u32), offset: 0, len: bytes.len() as u32 };
        self.0.push(bytes);
        span
    }

    pub fn get(&self, span: Span) -> &[u8] {
        &self.0[span.buf.0 as usize][span.offset as usize..][..span.len as usize]
    }

    pub fn put(&mut self, span: Span, bytes: &[u8]) {
        self.0[span.buf.0 as usize][span.offset as usize..][..span.len as usize].copy_from_slice(bytes);
    }
}

/// The bytes a driver would put on the wire.
pub fn flatten(list: &SendList, store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    for segment in &list.segments {
        match *segment {
            Segment::Header { start, len } => out.extend_from_slice(&list.headers[start as usize..][..len as usize]),
            Segment::Payload { span, digest } => {
                out.extend_from_slice(store.get(span));
                if digest {
                    out.extend_from_slice(&crc32c(store.get(span)).to_le_bytes());
                }
            }
        }
    }
    assert_eq!(out.len() as u64, list.bytes(), "a list knows its length");
    out
}

/// What both queues have in common for a driver.
pub trait End {
    type Event;
    fn bytes(&mut self, bytes: &[u8]) -> Result<Taken, Fatal>;
    fn placed(&mut self, len: u32, crc: u32);
    fn next_event(&mut self) -> Option<Self::Event>;
    fn direct(&self, min: u32) -> Option<(Span, Option<u32>)>;
    fn poll(&mut self, list: &mut SendList);
    fn given(&mut self, bytes: u64);
}

macro_rules! end {
    ($queue:ty, $event:ty) => {
        impl End for $queue {
            type Event = $event;
            fn bytes(&mut self, bytes: &[u8]) -> Result<Taken, Fatal> {
                self.handle_bytes(bytes)
            }
            fn placed(&mut self, len: u32, crc: u32) {
                self.handle_placed(len, crc);
            }
            fn next_event(&mut self) -> Option<$event> {
                self.poll_event()
            }
            fn direct(&self, min: u32) -> Option<(Span, Option<u32>)> {
                <$queue>::direct(self, min).map(|span| (span, self.direct_digest()))
            }
            fn poll(&mut self, list: &mut SendList) {
                self.poll_send(list);
            }
            fn given(&mut self, bytes: u64) {
                self.handle_given(bytes);
            }
        }
    };
}
end!(host::Queue, host::Event);
end!(target::Queue, target::Event);

/// Everything that is ready to be sent, given to the kernel at once.
pub fn send_all(end: &mut impl End, store: &Store) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let mut list = SendList::new();
        end.poll(&mut list);
        if list.is_empty() {
            return out;
        }
        end.given(list.bytes());
        out.extend(flatten(&list, store));
    }
}

/// The receive loop of a driver. What was not taken stays in `stash`.
pub fn receive<E: End>(
    end: &mut E,
    store: &mut Store,
    stash: &mut Vec<u8>,
    mut on_event: impl FnMut(&mut E, &mut Store, E::Event),
) -> Result<(), Fatal> {
    let mut at = 0;
    loop {
        let taken = end.bytes(&stash[at..])?;
        at += taken.used;
        if let Some(place) = taken.place {
            let piece = &stash[at..at + place.to.len as usize];
            store.put(place.to, piece);
            let crc = place.digest.map_or(0, |seed| crc32c_append(seed, piece));
            end.placed(place.to.len, crc);
            at += piece.len();
        }
        let mut heard = false;
        while let Some(event) = end.next_event() {
            heard = true;
            on_event(end, store, event);
        }
        if taken.used == 0 && taken.place.is_none() && !heard {
            stash.drain(..at);
            return Ok(());
        }
    }
}

/// Bytes that tell which operation they belong to and where in it they are.
pub fn pattern(tag: u32, len: u32) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(tag));
    (0..len.div_ceil(8)).flat_map(|_| rng.next_u64().to_le_bytes()).take(len as usize).collect()
}

/// One operation of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Nothing,
    Write { len: u32, bytes: bool },
    Read { len: u32, bytes: bool },
}

pub fn length(op: Op) -> u64 {
    match op {
        Op::Nothing => 0,
        Op::Write { len, .. } | Op::Read { len, .. } => u64::from(len),
    }
}

pub const OPCODE_NOTHING: u8 = 0x00;
pub const OPCODE_WRITE: u8 = 0x01;
pub const OPCODE_READ: u8 = 0x02;

/// The command of an operation; its tag travels as the namespace.
pub fn command(op: Op, tag: u32) -> Sqe {
    let opcode = match op {
        Op::Nothing => OPCODE_NOTHING,
        Op::Write { .. } => OPCODE_WRITE,
        Op::Read { .. } => OPCODE_READ,
    };
    Sqe::new(opcode).with_nsid(tag)
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub hdgst: bool,
    pub ddgst: bool,
    pub in_capsule: u32,
    pub maxh2cdata: u32,
    pub depth: u16,
    pub sq_flow_control: bool,
}

impl Settings {
    pub const PLAIN: Self =
        Self { hdgst: false, ddgst: false, in_capsule: 4096, maxh2cdata: 8192, depth: 8, sq_flow_control: false };

    pub fn host(&self) -> host::Queue {
        host::Queue::new(host::QueueConfig {
            depth: self.depth,
            hdgst: self.hdgst,
            ddgst: self.ddgst,
            in_capsule: self.in_capsule,
        })
    }

    pub fn target(&self) -> target::Queue {
        target::Queue::new(target::QueueConfig {
            hdgst_allowed: true,
            ddgst_allowed: true,
            maxh2cdata: self.maxh2cdata,
            in_capsule_max: self.in_capsule,
            max_transfer: 1 << 20,
            slots: 64,
        })
    }
}

/// What the target does with a command once its data is there (or none is needed).
#[derive(Clone, Debug)]
enum Later {
    Receive { slot: u16, len: u32, bytes: bool },
    Answer { slot: u16, status: Status, data: Source },
}

#[derive(Clone, Debug)]
struct Taking {
    tag: u32,
    len: u32,
    into: Option<Span>,
}

/// A host, a target, and the wires between them.
pub struct Pair {
    pub host: host::Queue,
    pub target: target::Queue,
    pub host_store: Store,
    pub target_store: Store,
    rng: Rng,
    /// Polled, not yet given; given, not yet delivered; delivered, not yet taken. To the target, then to the host.
    polled: [VecDeque<u8>; 2],
    wire: [VecDeque<u8>; 2],
    stash: [Vec<u8>; 2],
    later: Vec<Later>,
    taking: BTreeMap<u16, Taking>,
    busy: BTreeMap<u16, u32>,
    /// Tags of commands whose data came whole at the target.
    pub stored: Vec<u32>,
    pub sent: Vec<u32>,
    ops: Vec<(Op, Option<Span>)>,
    next: usize,
    pub completed: Vec<Option<host::Event>>,
    /// How much of everything the chance of this run likes to move at once.
    appetite: u64,
}

impl Pair {
    pub fn new(settings: Settings, seed: u64, ops: &[Op]) -> Self {
        let mut rng = Rng::new(seed);
        let mut host_store = Store::default();
        let ops: Vec<(Op, Option<Span>)> = ops
            .iter()
            .enumerate()
            .map(|(tag, op)| match *op {
                Op::Write { len, bytes: false } => (*op, Some(host_store.add(pattern(tag as u32, len)))),
                Op::Read { len, bytes: false } => (*op, Some(host_store.add(vec![0xEE; len as usize]))),
                _ => (*op, None),
            })
            .collect();
        let mut target = settings.target();
        target.connected(settings.depth, settings.sq_flow_control, true);
        // Small tests go byte by byte; large ones would take minutes that way.
        let moved: u64 = ops.iter().map(|(op, _)| length(*op)).sum();
        let appetite = [1, 3, 40, 700, 9000, 200_000][rng.below(6) as usize].max(moved / 3000);
        Self {
            host: settings.host(),
            target,
            host_store,
            target_store: Store::default(),
            rng,
            polled: Default::default(),
            wire: Default::default(),
            stash: Default::default(),
            later: Vec::new(),
            taking: BTreeMap::new(),
            busy: BTreeMap::new(),
            stored: Vec::new(),
            sent: Vec::new(),
            completed: vec![None; ops.len()],
            ops,
            next: 0,
            appetite,
        }
    }

    pub fn done(&self) -> bool {
        self.completed.iter().all(Option::is_some)
            && self.target.in_flight() == 0
            && self.polled.iter().chain(&self.wire).all(VecDeque::is_empty)
    }

    fn some(&mut self) -> usize {
        (1 + self.rng.below(self.appetite)) as usize
    }

    /// One thing happens somewhere.
    pub fn step(&mut self) {
        match self.rng.below(8) {
            0 => self.submit(),
            1 => {
                let mut list = SendList::new();
                self.host.poll_send(&mut list);
                self.polled[0].extend(flatten(&list, &self.host_store));
            }
            2 => {
                let mut list = SendList::new();
                self.target.poll_send(&mut list);
                self.polled[1].extend(flatten(&list, &self.target_store));
            }
            3 => {
                let n = self.some().min(self.polled[0].len());
                self.wire[0].extend(self.polled[0].drain(..n));
                self.host.handle_given(n as u64);
                self.host_events();
            }
            4 => {
                let n = self.some().min(self.polled[1].len());
                self.wire[1].extend(self.polled[1].drain(..n));
                self.target.handle_given(n as u64);
                self.target_receive();
            }
            5 => {
                self.deliver_to_target();
            }
            6 => self.deliver_to_host(),
            _ => self.target_works(),
        }
    }

    fn submit(&mut self) {
        let Some(&(op, span)) = self.ops.get(self.next) else { return };
        let tag = self.next as u32;
        let (out, into) = match (op, span) {
            (Op::Nothing, _) => (Source::None, Sink::None),
            (Op::Write { .. }, Some(span)) => (Source::Span(span), Sink::None),
            (Op::Write { len, .. }, None) => (Source::Bytes(pattern(tag, len)), Sink::None),
            (Op::Read { .. }, Some(span)) => (Source::None, Sink::Span(span)),
            (Op::Read { len, .. }, None) => (Source::None, Sink::Bytes(len)),
        };
        if self.host.submit(command(op, tag), out, into, u64::from(tag)).is_ok() {
            self.next += 1;
        }
    }

    /// Now and then as a driver that receives straight into a buffer, else through the stash.
    fn deliver_to_host(&mut self) {
        let n = self.some().min(self.wire[1].len());
        if self.stash[1].is_empty()
            && self.rng.percent(50)
            && let Some((span, seed)) = End::direct(&self.host, 16)
        {
            let n = n.min(span.len as usize);
            let piece: Vec<u8> = self.wire[1].drain(..n).collect();
            self.host_store.put(span.slice(0, n as u32), &piece);
            self.host.handle_placed(n as u32, seed.map_or(0, |seed| crc32c_append(seed, &piece)));
        } else {
            self.stash[1].extend(self.wire[1].drain(..n));
        }
        let mut events = Vec::new();
        receive(&mut self.host, &mut self.host_store, &mut self.stash[1], |_, _, event| events.push(event))
            .expect("the target keeps to the protocol");
        events.into_iter().for_each(|event| self.heard(event));
    }

    fn deliver_to_target(&mut self) {
        let n = self.some().min(self.wire[0].len());
        if self.stash[0].is_empty()
            && self.rng.percent(50)
            && let Some((span, seed)) = End::direct(&self.target, 16)
        {
            let n = n.min(span.len as usize);
            let piece: Vec<u8> = self.wire[0].drain(..n).collect();
            self.target_store.put(span.slice(0, n as u32), &piece);
            self.target.handle_placed(n as u32, seed.map_or(0, |seed| crc32c_append(seed, &piece)));
        } else {
            self.stash[0].extend(self.wire[0].drain(..n));
        }
        self.target_receive();
    }

    fn host_events(&mut self) {
        while let Some(event) = self.host.poll_event() {
            self.heard(event);
        }
    }

    fn heard(&mut self, event: host::Event) {
        match &event {
            host::Event::Ready { .. } => {}
            host::Event::Completed { token, .. } => {
                let entry = &mut self.completed[*token as usize];
                assert!(entry.is_none(), "completes_exactly_once");
                *entry = Some(event);
            }
            host::Event::TermReq { .. } => panic!("the target had no reason"),
        }
    }

    fn target_receive(&mut self) {
        let mut events = Vec::new();
        receive(&mut self.target, &mut self.target_store, &mut self.stash[0], |_, _, event| events.push(event))
            .expect("the host keeps to the protocol");
        for event in events {
            self.target_heard(event);
        }
    }

    fn target_heard(&mut self, event: target::Event) {
        match event {
            target::Event::Ready { .. } => {}
            target::Event::Command { slot, sqe, transfer } => {
                let tag = sqe.nsid.get();
                assert_eq!(self.busy.insert(slot, tag), None, "one_owner_per_tag");
                match (self.ops[tag as usize].0, transfer) {
                    (Op::Nothing, target::Transfer::None) => {
                        self.later.push(Later::Answer { slot, status: Status::SUCCESS, data: Source::None });
                    }
                    (Op::Write { len, bytes }, target::Transfer::FromHost { len: asked, .. }) => {
                        assert_eq!(len, asked);
                        self.taking.insert(slot, Taking { tag, len, into: None });
                        self.later.push(Later::Receive { slot, len, bytes });
                    }
                    (Op::Read { len, bytes }, target::Transfer::ToHost { len: asked }) => {
                        assert_eq!(len, asked);
                        let data = pattern(tag, len);
                        let data = if bytes { Source::Bytes(data) } else { Source::Span(self.target_store.add(data)) };
                        self.later.push(Later::Answer { slot, status: Status::SUCCESS, data });
                    }
                    other => panic!("{other:?}"),
                }
            }
            target::Event::Arrived { slot, data, digest_ok } => {
                assert!(digest_ok);
                let Taking { tag, len, into } = self.taking.remove(&slot).expect("data was asked for");
                let got = into.map_or(&data[..], |span| self.target_store.get(span));
                assert!(got == pattern(tag, len), "data of command {tag} arrived changed");
                self.stored.push(tag);
                self.later.push(Later::Answer { slot, status: Status::SUCCESS, data: Source::None });
            }
            target::Event::Sent { slot } => {
                self.sent.push(self.busy.remove(&slot).expect("a command ends once"));
            }
            target::Event::TermReq { .. } => panic!("the host had no reason"),
        }
    }

    /// One of the things the target has to do, out of order.
    fn target_works(&mut self) {
        if self.later.is_empty() {
            return;
        }
        let at = self.rng.below(self.later.len() as u64) as usize;
        match self.later.swap_remove(at) {
            Later::Receive { slot, len, bytes: true } => self.target.receive(slot, Sink::Bytes(len)),
            Later::Receive { slot, len, bytes: false } => {
                let span = self.target_store.add(vec![0xDD; len as usize]);
                self.taking.get_mut(&slot).expect("it was announced").into = Some(span);
                self.target.receive(slot, Sink::Span(span));
            }
            Later::Answer { slot, status, data } => self.target.respond(slot, status, 0, 0, data),
        }
        self.target_receive();
    }
}
