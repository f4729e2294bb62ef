//! The target, fed any sequence of valid, nearly valid and hostile PDUs on several connections.
//!
//! The bytes are a list of actions. Most of them are what a host does; any of them may be told to spoil the PDU it
//! makes, so that the target is wrong-footed in a state that only legal steps reach.

use crate::input::Input;
use crate::peer::{Peer, connect_data, pdu};
use crate::rig::target::{BLOCK, SUBNQN, Slow, TargetRig, config, tight};
use interlock_base::Instant;
use interlock_target_core::{Event, Life};
use interlock_wire::admin::{self, EventMask, GetFeatures, GetLog, Identify, QueueCount, SetFeatures};
use interlock_wire::ccr::{self, CrossControllerReset, Instance};
use interlock_wire::fabrics::{Cc, Connect, PropertyGet, PropertySet, Shutdown};
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::pdu::{CapsuleCmd, Direction, Fatal, Fes, IcReq, TermReq};
use interlock_wire::sqe::{Sgl, Sqe};
use interlock_wire::{FromBytes, IntoBytes, ana};
use std::sync::OnceLock;
use std::time::Duration;

/// Actions of one input.
const ACTIONS: usize = 200;

/// Connections of one input, closed ones included.
const PEERS: usize = 24;

/// The longest KATO whose end is waited for. It has 32 bits of milliseconds, and a host that asks for 50 days gets them, or for
/// none at all: such a controller must not outlive the target, and may outlive the wait.
const KATO_MAX: Duration = Duration::from_secs(60 * 60);

/// Longer than any other wait; a target that lets traffic count (TBKAS) looks twice for Keep Alive.
const FOR_EVER: Duration = Duration::from_secs(3 * 60 * 60);

/// Bytes that wait for a target which does not read: a window of TCP.
const WINDOW: usize = 64 << 10;

#[derive(Clone)]
struct World {
    rig: TargetRig,
    peers: Vec<Peer>,
    seen: usize,
    lives: Vec<Life>,
    cntlids: Vec<u16>,
    immortal: bool,
}

pub(crate) fn body(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = begin(input.byte());
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
        world.look();
    }
    world.finish();
}

/// The states to begin in: two hosts with a controller each and one I/O queue each, with digests or without; or nobody.
fn begin(mode: u8) -> World {
    static READY: [OnceLock<World>; 3] = [const { OnceLock::new() }; 3];
    let mode = usize::from(mode % 4);
    let mut world = READY[mode % 3]
        .get_or_init(|| {
            let mut rig = TargetRig::new(config(tight()));
            let mut peers = Vec::new();
            if mode % 3 < 2 {
                for port in [4420, 4421] {
                    let (admin, cntlid) = Peer::admin(&mut rig, port, 1, 5000, mode % 3 == 1);
                    peers.push(admin);
                    peers.push(Peer::io(&mut rig, port, 1, cntlid, mode % 3 == 1));
                }
            }
            World { rig, peers, seen: 0, lives: Vec::new(), cntlids: vec![1], immortal: false }
        })
        .clone();
    if mode == 3 {
        world.rig.slow = Slow { media: true, buffers: true, mail: false, bite: 0 };
    }
    world.look();
    world
}

impl World {
    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        if action.is_multiple_of(20) && self.peers.len() < PEERS {
            let port = input.one_of(&crate::rig::target::PORTS);
            let mut peer = Peer::dial(&mut self.rig, port);
            match input.below(4) {
                0 => peer.greet(&mut self.rig, false, false),
                1 => peer.greet(&mut self.rig, true, true),
                2 => peer.greet(&mut self.rig, input.flag(), input.flag()),
                _ => {}
            }
            self.peers.push(peer);
            return;
        }
        if self.world_acts(action, input) || self.peers.is_empty() {
            return;
        }
        let at = input.below(self.peers.len());
        let bytes = self.words(at, action, input);
        self.send(at, &bytes, input);
    }

    /// What happens around the connections. False if the action is something else.
    fn world_acts(&mut self, action: u8, input: &mut Input<'_>) -> bool {
        let knob = |on: &mut bool| *on = !*on;
        match action % 20 {
            1 => {
                let ms = u64::from(input.one_of(&[1_u16, 9, 10, 100, 600, 2000, 6000, 11_000, 60_000]));
                self.rig.advance(Duration::from_millis(ms));
            }
            2 => match input.below(6) {
                0 => knob(&mut self.rig.slow.media),
                1 => knob(&mut self.rig.slow.buffers),
                2 => knob(&mut self.rig.slow.mail),
                3 => self.rig.slow.bite = input.below(80),
                4 => {
                    let state = input.one_of(&[ana::State::Optimized, ana::State::Inaccessible, ana::State::Change]);
                    let port = interlock_target_core::PortId(4420);
                    let subsystem = self.rig.control.subsystem(SUBNQN).expect("it is configured");
                    self.rig.control.set_ana(subsystem, 1, port, state);
                }
                _ => {
                    let subsystem = self.rig.control.subsystem(SUBNQN).expect("it is configured");
                    let _ = self.rig.control.resize_namespace(subsystem, 1, u64::from(input.byte() % 128) + 1);
                }
            },
            3 if !self.peers.is_empty() => {
                let conn = self.peers[input.below(self.peers.len())].conn;
                self.rig.hang_up(conn);
            }
            _ => return false,
        }
        self.rig.run();
        true
    }

    /// What a peer says.
    fn words(&mut self, at: usize, action: u8, input: &mut Input<'_>) -> Vec<u8> {
        let cid = self.peers[at].cid();
        let peer = &self.peers[at];
        let host = 1 + u8::from(action & 0x80 != 0);
        let with_cid = |mut sqe: Sqe| {
            sqe.cid.set(cid);
            sqe
        };
        let cntlid = self.cntlids[input.below(self.cntlids.len())];
        match action % 20 {
            4 | 5 => {
                let qid = if action % 20 == 4 { 0 } else { u16::from(input.byte() % 4) };
                let connect = Connect {
                    qid,
                    sqsize: input.one_of(&[31, 1, 0, 63, u16::MAX]),
                    sq_flow_control: input.flag(),
                    kato_ms: input.one_of(&[1000, 5000, 120_000, 0, u32::MAX]),
                };
                let names = [SUBNQN, SUBNQN, "nqn.2014-08.org.nvmexpress.discovery", "nqn.2026-11.io.interlock:none"];
                let subnqn = input.one_of(&names);
                let cntlid = if qid == 0 { 0xFFFF } else { cntlid };
                peer.capsule(with_cid(connect.to_sqe()), connect_data(host, subnqn, cntlid).as_bytes())
            }
            6 => {
                let cc = Cc::new(false);
                let sqe = match input.below(6) {
                    0 => PropertySet::cc(cc.with_enable(true)).to_sqe(),
                    1 => PropertySet::cc(cc.with_enable(false)).to_sqe(),
                    2 => PropertySet::cc(cc.with_enable(true).with_shutdown(Shutdown::Normal)).to_sqe(),
                    3 => PropertySet::cc(Cc(input.dword())).to_sqe(),
                    4 => PropertyGet::CSTS.to_sqe(),
                    _ => PropertyGet { offset: input.dword(), ..PropertyGet::CSTS }.to_sqe(),
                };
                peer.capsule(with_cid(sqe), &[])
            }
            7 | 8 => {
                let sqe = self.admin_command(input);
                self.peers[at].capsule(with_cid(sqe), &[])
            }
            9 | 10 => self.nvm_command(at, cid, input),
            11 => {
                // Anything at all as a command, with as much data as it likes.
                let mut sqe = Sqe::read_from_bytes(&input.array::<64>()).expect("64 bytes");
                sqe.flags = 0x40;
                let len = usize::from(input.word() % 9000);
                if input.flag() {
                    sqe.set_sgl(Sgl::InCapsule { len: len as u32 });
                }
                let header = CapsuleCmd::new(sqe, len as u32, &peer.framing);
                pdu(&header, &vec![input.byte(); len])
            }
            12..=14 => self.answer_r2t(at, input),
            15 => TermReq::encode(Direction::ToController, &Fatal::new(Fes::PduSequenceError, 0, "fuzz"), &[0; 8]),
            16 => {
                let mut req = IcReq::new(input.flag(), input.flag(), 4, u32::from(input.byte()));
                if input.flag() {
                    let (at, value) = (input.below(16), input.byte());
                    req.as_mut_bytes()[at] = value;
                }
                req.as_bytes().to_vec()
            }
            17 => {
                // An answer that only the other side gives.
                let mut bytes = input.array::<24>().to_vec();
                bytes[2] = 24;
                bytes
            }
            _ => {
                let bytes = input.some(96).to_vec();
                // These may be commands as well.
                self.peers[at].commands += bytes.len() as u64 + 2;
                bytes
            }
        }
    }

    fn admin_command(&self, input: &mut Input<'_>) -> Sqe {
        let len = input.one_of(&[4096_u32, 16, 64, 512, 1024, 8192, 8196, 1 << 20]);
        let lid = input.one_of(&[0x0C_u8, 0x70, 0x1E, 0, 1, 2, 3, 4, 5, 0x12, 0xFF]);
        let life = self.lives.last();
        let impacted = life.map_or(Instance { cntlid: 1, ciu: 1, cirn: 1 }, |life| Instance {
            cntlid: life.cntlid,
            ciu: life.ciu,
            cirn: if input.below(4) == 0 { input.qword() } else { life.cirn },
        });
        let nsid = u32::from(input.byte() % 3);
        let mut sqe = match input.below(16) {
            0 => Identify::Controller.to_sqe(),
            1 => Identify::ActiveNamespaces { after: nsid }.to_sqe(),
            2 => Identify::Namespace { nsid }.to_sqe(),
            3 => Identify::Descriptors { nsid }.to_sqe(),
            4 => Identify::NamespaceIndependent { nsid }.to_sqe(),
            5 => GetLog::new(lid, len).to_sqe(),
            6 => GetLog::new(lid, len).at(u64::from(input.word()) * 4).to_sqe(),
            7 => ccr::get_log(input.flag()).to_sqe(),
            8 => SetFeatures::queues(QueueCount::pairs(1 + u16::from(input.byte()))).to_sqe(),
            9 => SetFeatures::keep_alive(input.dword()).to_sqe(),
            10 => SetFeatures::async_events(EventMask::from_bits_retain(input.dword())).to_sqe(),
            11 => GetFeatures::current(input.byte()).to_sqe(),
            12 => admin::async_event_request(),
            13 => admin::keep_alive(),
            14 => CrossControllerReset { impacted }.to_sqe(),
            _ => {
                let mut sqe = Sqe::new(input.byte());
                sqe.set_cdw10_11(input.qword());
                sqe
            }
        };
        if input.below(16) == 15 {
            sqe.set_sgl(Sgl::Transport { len });
        }
        sqe
    }

    /// An I/O command, its data in the capsule or to be asked for.
    fn nvm_command(&self, at: usize, cid: u16, input: &mut Input<'_>) -> Vec<u8> {
        let peer = &self.peers[at];
        let slba = u64::from(input.byte());
        let nlb = u32::from(input.one_of(&[1_u8, 2, 3, 8, 16, 17]));
        let fua = input.flag();
        let command = match input.below(9) {
            0 | 1 => Command::Write { slba, nlb, fua },
            2 | 3 => Command::Read { slba, nlb, fua },
            4 => Command::Compare { slba, nlb, fua },
            5 => Command::WriteZeroes { slba, nlb, fua, deallocate: fua },
            6 => Command::Flush,
            7 => Command::Verify { slba, nlb },
            _ => {
                let ranges: Vec<DsmRange> = (0..=input.byte() % 5)
                    .map(|_| DsmRange::new(u64::from(input.byte()), input.dword() % 64))
                    .collect();
                let mut sqe = Sqe::new(0x09).with_nsid(1);
                sqe.set_cdw10_11((ranges.len() as u64 - 1) | 4 << 32);
                sqe.cid.set(cid);
                let bytes = DsmRange::encode(&ranges);
                if fua {
                    sqe.set_sgl(Sgl::Transport { len: bytes.len() as u32 });
                    return peer.capsule(sqe, &[]);
                }
                return peer.capsule(sqe, &bytes);
            }
        };
        let mut sqe = command.to_sqe(if input.below(16) == 15 { input.dword() } else { 1 });
        sqe.cid.set(cid);
        let len = u32::try_from(command.data_len(BLOCK)).expect("a few blocks");
        let out = matches!(command, Command::Write { .. } | Command::Compare { .. });
        if out && len <= 1024 && input.flag() {
            return peer.capsule(sqe, &vec![cid as u8; len as usize]);
        }
        sqe.set_sgl(Sgl::Transport { len });
        peer.capsule(sqe, &[])
    }

    /// Data that was asked for: whole, a part, or elsewhere.
    fn answer_r2t(&mut self, at: usize, input: &mut Input<'_>) -> Vec<u8> {
        let peer = &mut self.peers[at];
        let Some(mut r2t) = peer.r2ts.pop_front() else {
            return peer.h2c(input.word() % 16, input.word() % 16, 0, 512, true);
        };
        let (offset, left) = (r2t.r2to.get(), r2t.r2tl.get());
        let len = if input.flag() { left.min(4096) } else { left.min(u32::from(input.byte()) * 4 + 4) };
        let bytes = peer.h2c(r2t.cccid.get(), r2t.ttag.get(), offset, len, len == left);
        if len < left {
            r2t.r2to.set(offset + len);
            r2t.r2tl.set(left - len);
            peer.r2ts.push_front(r2t);
        }
        bytes
    }

    /// Sends it, perhaps spoilt, perhaps twice, perhaps in pieces.
    fn send(&mut self, at: usize, bytes: &[u8], input: &mut Input<'_>) {
        let mut bytes = bytes.to_vec();
        let spoil = input.byte();
        match spoil {
            0xF0..=0xF7 if !bytes.is_empty() => {
                let place = usize::from(input.word()) % bytes.len().min(96);
                bytes[place] ^= input.byte();
                // It may have become anything.
                self.peers[at].commands += 1;
            }
            0xF8 | 0xF9 => bytes.truncate(usize::from(input.word()) % (bytes.len() + 1)),
            0xFA => bytes.extend_from_slice(&bytes.clone()),
            _ => {}
        }
        let peer = &mut self.peers[at];
        peer.commands += 2;
        if self.rig.backlog(peer.conn) + bytes.len() > WINDOW {
            return;
        }
        let cut = if spoil == 0xFB { usize::from(input.byte()).min(bytes.len()) } else { bytes.len() };
        for part in [&bytes[..cut], &bytes[cut..]] {
            if !part.is_empty() {
                peer.say(&mut self.rig, part);
            }
        }
        // Now and then a peer does not read.
        if spoil != 0xFC {
            for peer in &mut self.peers {
                peer.listen(&mut self.rig);
            }
        }
    }

    fn look(&mut self) {
        for event in &self.rig.events[self.seen..] {
            match event {
                Event::Enabled { life } => self.lives.push(*life),
                Event::ControllerCreated { cntlid, .. } => self.cntlids.push(*cntlid),
                _ => {}
            }
        }
        self.seen = self.rig.events.len();
        // By Connect, or by Set Features later.
        let mut katos = self.rig.control.controller_views().map(|controller| u128::from(controller.kato_ms));
        self.immortal |= katos.any(|ms| ms == 0 || ms > KATO_MAX.as_millis());
        let open = self.peers.iter().filter(|peer| self.rig.is_open(peer.conn)).count();
        assert!(open <= tight().connections as usize * 2, "connections are bounded");
    }

    /// Nobody says anything any more.
    fn finish(mut self) {
        self.rig.slow = Slow::default();
        self.rig.run();
        for peer in &mut self.peers {
            peer.listen(&mut self.rig);
        }
        self.look();
        let end = self.rig.now + FOR_EVER;
        self.pass_time(end);
        self.look();
        if !self.immortal {
            for peer in &self.peers {
                assert!(!self.rig.is_open(peer.conn), "{:?} is stuck: nobody waits for it", peer.conn);
            }
            assert_eq!(self.rig.held(), (0, 0, 0), "all that is left of them: buffers, operations, lives");
        }
        self.rig.control.shutdown(self.rig.now);
        let end = self.rig.now + Duration::from_secs(60);
        self.pass_time(end);
        for peer in &self.peers {
            assert!(!self.rig.is_open(peer.conn), "{:?} outlives the target", peer.conn);
        }
        assert_eq!(self.rig.held(), (0, 0, 0), "all that is left after the end: buffers, operations, lives");
        assert!(self.rig.events.contains(&Event::ShutDown));
    }

    /// To `end`, wait by wait, reading what is said meanwhile.
    fn pass_time(&mut self, end: Instant) {
        self.rig.run();
        let mut steps = 0;
        while let Some(at) = self.rig.next_deadline().filter(|at| *at <= end) {
            steps += 1;
            assert!(steps < 10_000, "a wait has no end");
            self.rig.tick(at);
        }
        self.rig.tick(end);
        for peer in &mut self.peers {
            peer.listen(&mut self.rig);
        }
    }
}
