//! The host, fed by a hostile target.
//!
//! What a real target says is kept on the wire, and the bytes of the fuzzer decide what becomes of each PDU: passed,
//! spoilt, dropped, doubled, swapped, cut, preceded by one that nobody sent. So every state that a real target leads a
//! host into is where the lies begin.

use crate::input::Input;
use crate::peer::pdu;
use crate::rig::host::{End, HostRig, Key};
use crate::rig::joint::Joint;
use crate::rig::target::{BLOCK, BLOCKS, TargetRig, config};
use interlock_base::Instant;
use interlock_host_core::{ControllerSpec, CtrlId, OnLoss, Op, Reconnect, Timeouts};
use interlock_target_core::config::{Ccr, Limits};
use interlock_target_core::{Fault, PortId};
use interlock_wire::ana;
use interlock_wire::pdu::{
    C2hData, CapsuleResp, Direction, Fatal, Fes, Flags, Framing, IcResp, R2t, TermReq, encode_header,
};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};
use std::sync::OnceLock;
use std::time::Duration;

/// Actions of one input.
const ACTIONS: usize = 200;

/// Longer than any wait that the configuration of the bodies allows, and than any that a target may ask for.
const FOR_EVER: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// How the controllers of all inputs are asked for.
fn spec(digests: bool) -> impl Fn(&mut ControllerSpec) {
    move |spec| {
        spec.kato = Duration::from_secs(2);
        spec.queue_size = 16;
        spec.nr_io_queues = 1;
        (spec.hdgst, spec.ddgst) = (digests, digests);
        spec.reconnect = Reconnect {
            delay: Duration::from_secs(1),
            ctrl_loss: Some(Duration::from_secs(60)),
            fast_io_fail: Some(Duration::from_secs(10)),
        };
        spec.on_loss = OnLoss::Reconnect;
        spec.timeouts = Timeouts {
            io: Duration::from_secs(3),
            io_hard: Duration::from_secs(12),
            admin: Duration::from_secs(3),
            assumed_cqt: Some(Duration::from_secs(1)),
            ..Timeouts::default()
        };
    }
}

#[derive(Clone)]
struct World {
    joint: Joint,
    ctrls: Vec<CtrlId>,
    framing: Framing,
    submitted: u64,
}

pub(crate) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = begin(input.byte());
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
    }
    world.finish();
}

/// The states to begin in: two live paths, with digests or without, from a target with CCR or without; or a host that
/// has just been told to connect.
fn begin(mode: u8) -> World {
    static READY: [OnceLock<World>; 6] = [const { OnceLock::new() }; 6];
    let mode = usize::from(mode % 6);
    READY[mode]
        .get_or_init(|| {
            let mut config = config(Limits { max_transfer: 8192, ..Limits::default() });
            if mode % 3 == 2 {
                config.subsystems[0].ccr = Ccr::Off;
            }
            let digests = mode % 3 == 1;
            let mut joint = Joint::new(HostRig::new(9), TargetRig::new(config));
            let ctrls = [4420, 4421].map(|port| joint.connect(port, spec(digests))).to_vec();
            if mode < 3 {
                joint.until(Duration::from_secs(2), "two paths", |joint| {
                    let live = joint.host.control.paths().heads.values().map(|head| head.paths.len()).sum::<usize>();
                    live == 2
                });
            }
            joint.tamper = true;
            let framing = Framing { hdgst: digests, ddgst: digests, align: 4 };
            World { joint, ctrls, framing, submitted: 0 }
        })
        .clone()
}

impl World {
    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        match action % 24 {
            // Mostly the target is honest.
            0..=3 => self.pass_all(usize::from(action >> 4) + 1),
            4 | 5 => self.submit(input),
            6 => {
                let ms = u64::from(input.one_of(&[1_u16, 10, 100, 250, 1000, 2000, 3000, 6000, 12_000]));
                self.advance(Duration::from_millis(ms));
            }
            7 => self.verb(input),
            8 => self.target_acts(input),
            _ => {
                let live = self.joint.live();
                if !live.is_empty() {
                    let key = live[input.below(live.len())];
                    self.lie(key, action % 24, input);
                }
            }
        }
        self.joint.run();
    }

    /// Passes up to so many PDUs on every wire.
    fn pass_all(&mut self, most: usize) {
        for _ in 0..most {
            let mut moved = false;
            for key in self.joint.live() {
                moved |= self.joint.host.sockets[&key].end == End::Open && self.joint.pass(key);
            }
            self.joint.run();
            if !moved {
                return;
            }
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let (slba, nlb) = (u64::from(input.byte()) % BLOCKS, u32::from(input.one_of(&[1_u8, 2, 4, 16, 17])));
        let op = match input.below(8) {
            0..=2 => Op::Write { fua: input.flag() },
            3 => Op::Read,
            4 => Op::Compare,
            5 => Op::WriteZeroes { deallocate: input.flag() },
            6 => Op::Discard,
            _ => Op::Flush,
        };
        let (slba, nlb) = if op == Op::Flush { (0, 0) } else { (slba, nlb) };
        self.submitted += u64::from(self.joint.host.submit(op, slba, nlb, BLOCK).is_ok());
    }

    fn verb(&mut self, input: &mut Input<'_>) {
        let ctrl = self.ctrls[input.below(self.ctrls.len())];
        let host = &mut self.joint.host;
        match input.below(7) {
            0 => drop(host.control.reset(host.now, ctrl)),
            1 => drop(host.control.reconnect(host.now, ctrl)),
            2 => {
                if let Some(token) = host.any_open(input.below(64)) {
                    host.lane.abandon(host.now, token);
                }
            }
            3 => host.slow_mail = !host.slow_mail,
            4 => {
                if self.joint.shut.is_empty() {
                    self.joint.shut.push(4420);
                } else {
                    self.joint.shut.clear();
                }
            }
            5 => drop(host.control.rescan(host.now, ctrl)),
            _ => drop(host.control.disconnect(host.now, ctrl)),
        }
    }

    fn target_acts(&mut self, input: &mut Input<'_>) {
        let target = &mut self.joint.target;
        let port = PortId(input.one_of(&[4420, 4421]));
        match input.below(7) {
            0 => target.control.script(Fault::HoldWrites { port }),
            1 => target.control.script(Fault::Release),
            2 => target.control.script(Fault::ResetConnections { port }),
            3 => target.control.script(Fault::CcrLate { ms: 500 }),
            4 => target.control.script(Fault::CcrStaleEntry),
            5 => {
                let subsystem = target.control.subsystem(crate::rig::target::SUBNQN).expect("it is configured");
                let state = input.one_of(&[ana::State::Optimized, ana::State::Inaccessible, ana::State::Change]);
                target.control.set_ana(subsystem, 1, port, state);
            }
            _ => target.control.script(Fault::Clear),
        }
    }

    /// Something on one wire that no honest target would do.
    fn lie(&mut self, key: Key, kind: u8, input: &mut Input<'_>) {
        let wire = self.joint.wires.get_mut(&key).expect("a live wire");
        let framing = self.framing;
        match kind {
            // A bit in a header: never unnoticed with digests, anything without.
            9..=11 => {
                let Some(first) = wire.down.front_mut() else { return };
                let place = usize::from(input.byte()) % first.len();
                first[place] ^= input.byte();
                self.joint.pass(key);
            }
            // A field of the payload: what Identify and the logs say.
            12..=14 => {
                let Some(first) = wire.down.front_mut() else { return };
                let place = usize::from(input.word()) % first.len();
                for (to, from) in first[place..].iter_mut().zip(input.some(8)) {
                    *to = *from;
                }
                mend_digests(first);
                self.joint.pass(key);
            }
            15 => drop(wire.down.pop_front()),
            16 => {
                if let Some(first) = wire.down.front().cloned() {
                    wire.down.push_front(first);
                }
            }
            17 if wire.down.len() > 1 => wire.down.swap(0, 1),
            18 => {
                if let Some(first) = wire.down.front_mut() {
                    first.truncate(usize::from(input.word()) % (first.len() + 1));
                }
                self.joint.pass(key);
            }
            19 => {
                let bytes = self.forged(framing, input);
                self.joint.give_host(key, &bytes);
            }
            20 => {
                // An answer that the target did give, with another status or result.
                let Some(first) = wire.down.front_mut() else { return };
                if first[0] == 5 && first.len() >= 24 {
                    let (at, value) = (8 + input.below(16), input.byte());
                    first[at] = value;
                    mend_digests(first);
                }
                self.joint.pass(key);
            }
            21 => {
                let conn = wire.conn;
                self.joint.target.hang_up(conn);
                self.joint.host.down(key);
            }
            22 => {
                let bytes = input.some(64).to_vec();
                self.joint.give_host(key, &bytes);
            }
            _ => drop(self.joint.pass(key)),
        }
    }

    /// A PDU that nobody asked for.
    fn forged(&self, framing: Framing, input: &mut Input<'_>) -> Vec<u8> {
        let cid = (input.word() % 64) | (u16::from(input.byte() & 15) << 12);
        let (offset, len) = (u32::from(input.word()) * 4, u32::from(input.byte()) * 4 + 4);
        match input.below(6) {
            0 => {
                let cqe = Cqe::new(cid, 0, Status(input.word())).with_result(input.dword(), input.dword());
                pdu(&CapsuleResp::new(cqe, &framing), &[])
            }
            1 => {
                let flags = if input.flag() { Flags::LAST | Flags::SUCCESS } else { Flags::empty() };
                pdu(&C2hData::new(cid, offset, len, flags, &framing), &vec![input.byte(); len as usize])
            }
            2 => pdu(&R2t::new(cid, input.word(), offset, len, &framing), &[]),
            3 => IcResp::new(input.flag(), input.flag(), 4, 4096).as_bytes().to_vec(),
            4 => {
                // A header whose promise is larger than memory.
                let mut header = C2hData::new(cid, 0, 4, Flags::LAST, &framing);
                header.ch.plen.set(input.dword() | 1 << 31);
                header.datal.set(input.dword());
                let mut out = Vec::new();
                encode_header(&header, &mut out);
                out
            }
            _ => TermReq::encode(Direction::ToHost, &Fatal::new(Fes::DataTransferOutOfRange, 0, "fuzz"), &[0; 24]),
        }
    }

    fn advance(&mut self, span: Duration) {
        self.joint.run();
        let end = self.joint.host.now + span;
        self.pass_time(end);
    }

    /// To `end`, wait by wait.
    fn pass_time(&mut self, end: Instant) {
        let mut steps = 0;
        loop {
            let next = self.joint.host.next_deadline().into_iter().chain(self.joint.target.next_deadline()).min();
            let at = next.filter(|at| *at <= end).unwrap_or(end);
            self.joint.host.tick(at);
            self.joint.target.tick(at);
            self.joint.run();
            steps += 1;
            assert!(steps < 100_000, "a wait has no end: {:?}", self.joint.host.control.next_deadline());
            if at == end {
                return;
            }
        }
    }

    /// The target says nothing any more, on any wire, and takes nobody; then the operator ends the host.
    fn finish(mut self) {
        self.joint.host.slow_mail = false;
        self.joint.shut = crate::rig::target::PORTS.to_vec();
        for wire in self.joint.wires.values_mut() {
            wire.down.clear();
        }
        let now = self.joint.host.now;
        self.joint.host.control.shutdown(now);
        self.joint.run();
        let end = self.joint.host.now + FOR_EVER;
        self.host_alone(end);
        let host = &self.joint.host;
        assert!(host.control.has_ended(), "the host never ends: {:?}", host.control.waits().collect::<Vec<_>>());
        assert_eq!(host.unanswered(), 0, "requests without an end");
        assert_eq!(host.done.len() as u64, self.submitted, "completes_exactly_once");
        assert_eq!(host.buffers(), 0, "buffers that nobody gives back");
        for (key, socket) in &host.sockets {
            let over = matches!(socket.end, End::Closed | End::Reset | End::ByPeer);
            assert!(over, "{key:?} is stuck: {:?}", socket.end);
        }
    }

    fn host_alone(&mut self, end: Instant) {
        let mut steps = 0;
        self.joint.host.run();
        while let Some(at) = self.joint.host.next_deadline().filter(|at| *at <= end) {
            steps += 1;
            assert!(steps < 100_000, "a wait has no end: {:?}", self.joint.host.control.next_deadline());
            self.joint.host.tick(at);
            for key in self.joint.host.sockets.keys().copied().collect::<Vec<_>>() {
                if self.joint.host.sockets[&key].end == End::Opening {
                    self.joint.host.down(key);
                }
                // The wire takes what it is given; nobody reads it.
                self.joint.host.take(key);
            }
            self.joint.host.run();
        }
    }
}

/// Makes the digests right again, so that a changed field is believed.
fn mend_digests(bytes: &mut [u8]) {
    use interlock_wire::digest::crc32c;
    let Ok((common, _)) = interlock_wire::pdu::CommonHeader::read_from_prefix(bytes) else { return };
    let (flags, hlen, pdo) = (common.flags(), usize::from(common.hlen), usize::from(common.pdo));
    if flags.contains(Flags::HDGST) && bytes.len() >= hlen + 4 {
        let sum = crc32c(&bytes[..hlen]).to_le_bytes();
        bytes[hlen..hlen + 4].copy_from_slice(&sum);
    }
    if flags.contains(Flags::DDGST) && pdo > hlen && bytes.len() >= pdo + 4 {
        let end = bytes.len() - 4;
        let sum = crc32c(&bytes[pdo..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&sum);
    }
}
