//! What each violation earns from the whole machine, and that nobody else pays for it.
//!
//! `proto` tests what a queue pair says; here the same violations reach a target with two hosts, and a host with two
//! paths. The offender is told the status and the offset, its association ends, and the other one does not notice.

use interlock_fuzz::peer::{Peer, pdu};
use interlock_fuzz::rig::host::{End, HostRig, Key, Owner};
use interlock_fuzz::rig::joint::{Joint, Tapped};
use interlock_fuzz::rig::target::{BLOCK, TargetRig, config};
use interlock_host_core::{AnaState, Op, Outcome};
use interlock_target_core::config::Limits;
use interlock_wire::admin::{OPCODE_IDENTIFY, OPCODE_SET_FEATURES};
use interlock_wire::digest::crc32c;
use interlock_wire::fabrics::FCTYPE_CONNECT;
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, Direction, Fes, Flags, Framing, H2cData, IcReq, IcResp, PduType, R2t, TermReq,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};
use std::time::Duration;

const PLAIN: &Framing = &Framing::PLAIN;
const DIGESTS: &Framing = &Framing { hdgst: true, ddgst: true, align: 4 };

const IOCCSZ_BYTES: u32 = 4096;

fn limits() -> Limits {
    Limits {
        max_transfer: 65_536,
        in_capsule: IOCCSZ_BYTES,
        max_h2c_data: 4096,
        queue_depth: 32,
        hdgst: true,
        ddgst: true,
        ..Limits::default()
    }
}

/// The bytes with one of them changed; a header digest is made right again, where there is one.
fn edit(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    // The type says how long a header is, whatever the changed bytes say.
    let header = if [0, 1].contains(&bytes[0]) { 128 } else { usize::from(bytes[2]) };
    if bytes[1] & Flags::HDGST.bits() != 0 && at < header && bytes.len() >= header + 4 {
        let digest = crc32c(&bytes[..header]).to_le_bytes();
        bytes[header..header + 4].copy_from_slice(&digest);
    }
    bytes
}

/// The bytes with one of them damaged under way.
fn damage(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// A command that sends data, for either kind of queue: Write, or Set Features.
fn write(queue: Queue, len: u32, in_capsule: bool) -> Sqe {
    let mut sqe = match queue {
        Queue::Io => Command::Write { slba: 0, nlb: len.max(BLOCK) / BLOCK, fua: false }.to_sqe(1),
        Queue::Admin => Sqe::new(OPCODE_SET_FEATURES),
    };
    sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
    sqe.cid.set(9);
    sqe
}

fn capsule(sqe: Sqe, data: u32, framing: &Framing) -> Vec<u8> {
    pdu(&CapsuleCmd::new(sqe, data, framing), &vec![0; data as usize])
}

/// On which queue somebody misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Admin,
    Io,
}

const QUEUES: [Queue; 2] = [Queue::Admin, Queue::Io];

/// What a host has done before it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// The queue is connected.
    Connected,
    /// A command that sends 8192 bytes has its R2T: command 9, tag 0.
    Asked,
}

/// What was sent, when, and what it earns.
type Row = (&'static str, Before, Vec<u8>, Fes, u32);

/// What any queue is terminated for, with and without digests.
fn of_a_host(queue: Queue, framing: &Framing) -> Vec<Row> {
    use Before::{Asked, Connected};
    use Fes::{
        DataTransferLimitExceeded as Limit, DataTransferOutOfRange as Range, HeaderDigestError as Digest,
        InvalidPduHeaderField as Field, PduSequenceError as Sequence, UnsupportedParameter as Parameter,
    };
    let bare = || capsule(write(queue, 0, false), 0, framing);
    let filled = || capsule(write(queue, 512, true), 512, framing);
    let h2c = |cid, ttag, offset, len: u32, last| {
        pdu(&H2cData::new(cid, ttag, offset, len, last, framing), &vec![0; len as usize])
    };
    let mut at_an_offset = write(queue, 512, true);
    at_an_offset.sgl1.address.set(64);
    let mut keyed = write(queue, 512, false);
    keyed.sgl1.kind = 0x4F;
    let most = if queue == Queue::Io { IOCCSZ_BYTES } else { 8192 };
    let too_much = most + 4;
    let other_digests = if framing.hdgst { PLAIN } else { DIGESTS };
    let mut table: Vec<Row> = vec![
        ("second ICReq", Connected, IcReq::new(false, false, 4, 0).as_bytes().to_vec(), Sequence, 0),
        ("unknown type", Connected, edit(bare(), 0, 8), Field, 0),
        ("kickstart", Connected, edit(bare(), 0, 0x0A), Field, 0),
        ("wrong direction", Connected, edit(bare(), 0, 5), Field, 0),
        ("reserved FLAGS", Connected, edit(bare(), 1, bare()[1] | 0x10), Field, 1),
        ("HDGSTF", Connected, capsule(write(queue, 0, false), 0, other_digests), Field, 1),
        ("DDGSTF", Connected, edit(filled(), 1, filled()[1] ^ Flags::DDGST.bits()), Field, 1),
        ("HLEN", Connected, edit(bare(), 2, 71), Field, 2),
        ("PDO without data", Connected, edit(bare(), 3, 4), Field, 3),
        ("PDO in the header", Connected, edit(filled(), 3, 68), Field, 3),
        ("PDO is not aligned", Connected, edit(filled(), 3, 78), Field, 3),
        ("PDO above 128", Connected, edit(filled(), 3, 132), Field, 3),
        ("PLEN below HLEN", Connected, edit(bare(), 4, 71), Field, 4),
        ("SGL and PLEN differ", Connected, capsule(write(queue, 512, true), 508, framing), Field, 4),
        ("more than a capsule holds", Connected, capsule(write(queue, too_much, true), too_much, framing), Limit, 0),
        ("more than any capsule holds", Connected, capsule(write(queue, 8196, true), 8196, framing), Limit, 0),
        ("in-capsule data at an offset", Connected, capsule(at_an_offset, 512, framing), Parameter, 32),
        ("in-capsule data, keyed SGL", Connected, capsule(keyed, 512, framing), Parameter, 47),
        ("H2CData nobody asked for", Connected, h2c(9, 0, 0, 512, true), Field, 10),
        ("unknown TTAG", Asked, h2c(9, 1, 0, 4096, false), Field, 10),
        ("TTAG beyond all", Asked, h2c(9, 0xFFFF, 0, 4096, false), Field, 10),
        ("CCCID of another command", Asked, h2c(8, 0, 0, 4096, false), Sequence, 0),
        ("more than MAXH2CDATA", Asked, h2c(9, 0, 0, 4100, false), Limit, 0),
        ("DATAL", Asked, edit(h2c(9, 0, 0, 4096, false), 16, 4), Field, 16),
        ("H2CData without data", Asked, edit(h2c(9, 0, 0, 4, false), 4, h2c(9, 0, 0, 4, false)[4] - 4), Field, 4),
        ("beyond the R2T", Asked, h2c(9, 0, 8192, 4, false), Range, 0),
        ("out of order", Asked, h2c(9, 0, 4096, 4096, true), Sequence, 0),
        ("LAST_PDU too early", Asked, h2c(9, 0, 0, 4096, true), Sequence, 0),
        ("SUCCESS, which is the controller's", Asked, edit(h2c(9, 0, 0, 4096, false), 1, 8), Field, 1),
    ];
    if framing.hdgst {
        let sent = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (command, data) = (damage(bare(), 40), damage(h2c(9, 0, 0, 4096, false), 12));
        table.push(("a wrong header digest", Connected, command.clone(), Digest, sent(&command, 72)));
        table.push(("a wrong header digest of data", Asked, data.clone(), Digest, sent(&data, 24)));
        let field = damage(bare(), 74);
        table.push(("a damaged header digest", Connected, field.clone(), Digest, sent(&field, 72)));
    }
    table
}

/// What a connection is terminated for that is not initialised yet.
fn before_icreq() -> Vec<(&'static str, Vec<u8>, Fes, u32)> {
    use Fes::{InvalidPduHeaderField as Field, PduSequenceError as Sequence, UnsupportedParameter as Parameter};
    let icreq = |at, value| edit(IcReq::new(false, false, 4, 0).as_bytes().to_vec(), at, value);
    vec![
        ("command before ICReq", capsule(write(Queue::Io, 0, false), 0, PLAIN), Sequence, 0),
        ("data before ICReq", pdu(&H2cData::new(0, 0, 0, 4, true, PLAIN), &[0; 4]), Sequence, 0),
        ("unknown type first", icreq(0, 0x0A), Field, 0),
        ("ICResp from a host", icreq(0, 1), Field, 0),
        ("ICReq: FLAGS", icreq(1, 1), Field, 1),
        ("ICReq: HLEN", icreq(2, 127), Field, 2),
        ("ICReq: PDO", icreq(3, 8), Field, 3),
        ("ICReq: PLEN", icreq(4, 127), Field, 4),
        ("ICReq: PFV", icreq(8, 1), Parameter, 8),
        ("ICReq: HPDA", icreq(10, 32), Field, 10),
        ("ICReq: reserved DGST bits", icreq(11, 4), Field, 11),
    ]
}

/// A target with another host on it, whose queues must not notice anything.
fn with_a_good_host() -> (TargetRig, Peer, Peer) {
    let mut rig = TargetRig::new(config(limits()));
    let (admin, cntlid) = Peer::admin(&mut rig, 4420, 2, 5000, false);
    let io = Peer::io(&mut rig, 4420, 2, cntlid, false);
    (rig, admin, io)
}

/// The offender says `bytes`, and is told what it earned; nobody else notices.
fn offends(rig: &mut TargetRig, good: [&mut Peer; 2], mut bad: Peer, what: &str, bytes: &[u8], fes: Fes, fei: u32) {
    bad.commands += 2;
    bad.say(rig, bytes);
    bad.listen(rig);
    let term = bad.termination.unwrap_or_else(|| panic!("{what}: no C2HTermReq"));
    assert_eq!((Fes::from_u16(term.fes.get()), term.fei.get()), (Some(fes), fei), "{what}");
    assert!(!rig.is_open(bad.conn), "{what}: its connection ends");
    let [admin, io] = good;
    assert!(rig.is_open(io.conn) && rig.is_open(admin.conn), "{what}: another host's does not");
    let mut sqe = Command::Read { slba: 0, nlb: 1, fua: false }.to_sqe(1);
    sqe.set_sgl(Sgl::Transport { len: BLOCK });
    assert_eq!(io.ask(rig, sqe, &[]).status(), Status::SUCCESS, "{what}");
    assert_eq!(admin.ask(rig, interlock_wire::admin::keep_alive(), &[]).status(), Status::SUCCESS, "{what}");
}

#[test]
fn a_target_tells_the_offender_and_serves_everybody_else() {
    let (prepared, admin, io) = with_a_good_host();
    for (what, bytes, fes, fei) in before_icreq() {
        let (mut rig, mut admin, mut io) = (prepared.clone(), admin.clone(), io.clone());
        let bad = Peer::dial(&mut rig, 4420);
        offends(&mut rig, [&mut admin, &mut io], bad, what, &bytes, fes, fei);
    }
    for queue in QUEUES {
        for framing in [PLAIN, DIGESTS] {
            for (what, before, bytes, fes, fei) in of_a_host(queue, framing) {
                let what = format!("{what}, {queue:?} queue, digests {}", framing.hdgst);
                let (mut rig, mut admin, mut io) = (prepared.clone(), admin.clone(), io.clone());
                let bad = offender(&mut rig, queue, framing, before);
                offends(&mut rig, [&mut admin, &mut io], bad, &what, &bytes, fes, fei);
            }
        }
    }
}

/// A host that has come so far.
fn offender(rig: &mut TargetRig, queue: Queue, framing: &Framing, before: Before) -> Peer {
    let (admin, cntlid) = Peer::admin(rig, 4420, 1, 5000, framing.hdgst);
    let mut peer = match queue {
        Queue::Admin => admin,
        Queue::Io => Peer::io(rig, 4420, 1, cntlid, framing.hdgst),
    };
    assert_eq!((peer.framing.hdgst, peer.framing.ddgst), (framing.hdgst, framing.ddgst));
    if before == Before::Asked {
        peer.commands += 1;
        peer.say(rig, &capsule(write(queue, 8192, false), 0, framing));
        peer.listen(rig);
        let r2t = peer.r2ts.front().expect("data is asked for");
        assert_eq!((r2t.cccid.get(), r2t.ttag.get(), r2t.r2tl.get()), (9, 0, 8192));
    }
    peer
}

#[test]
fn a_wrong_data_digest_costs_a_host_its_command_alone() {
    let (prepared, ..) = with_a_good_host();
    for queue in QUEUES {
        let in_capsule = damage(capsule(write(queue, 512, true), 512, DIGESTS), 100);
        let whole = pdu(&H2cData::new(9, 0, 0, 4096, false, DIGESTS), &[0; 4096]);
        let asked = [whole, damage(pdu(&H2cData::new(9, 0, 4096, 4096, true, DIGESTS), &[0; 4096]), 100)].concat();
        for (before, bytes) in [(Before::Connected, in_capsule), (Before::Asked, asked)] {
            let mut rig = prepared.clone();
            let mut peer = offender(&mut rig, queue, DIGESTS, before);
            peer.commands += 1;
            peer.say(&mut rig, &bytes);
            peer.listen(&mut rig);
            let answer = peer.answers.pop_front().expect("an answer");
            assert_eq!(
                (answer.cid.get(), answer.status()),
                (9, Status::TRANSIENT_TRANSPORT_ERROR),
                "{queue:?}, {before:?}"
            );
            assert!(peer.termination.is_none() && rig.is_open(peer.conn), "{queue:?}, {before:?}: nothing else ends");
        }
    }
}

/// What a host waits for when the lie comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// For ICResp.
    Greeting,
    /// For the answer of a command whose data was in its capsule: Connect, or a write of 512 bytes.
    Inline,
    /// For data: of Identify, or of a read of 8192 bytes.
    Read,
    /// For the R2T of a write of 8192 bytes; no admin command has such data.
    Write,
    /// For nothing.
    Nothing,
}

/// The port on which the controller lies; the other one behaves.
const LIAR: u16 = 4420;

fn optimized_paths(joint: &Joint) -> usize {
    let heads = joint.host.control.paths().heads.values();
    heads.flat_map(|head| &head.paths).filter(|path| path.ana == AnaState::Optimized).count()
}

fn connect(joint: &mut Joint, port: u16, framing: Framing) {
    joint.connect(port, |spec| {
        spec.nr_io_queues = 1;
        (spec.hdgst, spec.ddgst) = (framing.hdgst, framing.ddgst);
    });
}

/// The last command that the host sent on a wire.
fn last_command(joint: &Joint, key: Key) -> Option<Sqe> {
    let number = joint.wires[&key].number;
    let tap = joint.tap.as_ref().expect("somebody listens");
    tap.iter().rev().find_map(|(_, wire, what)| match what {
        Tapped::Bytes(Direction::ToController, bytes) if *wire == number && bytes[0] == PduType::CapsuleCmd as u8 => {
            Some(CapsuleCmd::read_from_prefix(bytes).expect("a capsule").0.sqe)
        }
        _ => None,
    })
}

/// Both ends, the wire to lie on, and the command that waits there.
fn prepared(queue: Queue, framing: Framing, waiting: Waiting) -> (Joint, Key, u16) {
    let owner = if queue == Queue::Admin { Owner::Control } else { Owner::Lane };
    let mut joint = Joint::new(HostRig::new(9), TargetRig::new(config(limits())));
    joint.tap = Some(Vec::new());
    connect(&mut joint, 4421, framing);
    joint.until(Duration::from_secs(2), "the path that behaves", |joint| optimized_paths(joint) == 1);
    let liars = |joint: &Joint| {
        let of = |key: &&Key| key.0 == owner && joint.host.sockets[*key].dial.addr.port() == LIAR;
        joint.live().iter().find(of).copied()
    };
    let during_bring_up = waiting == Waiting::Greeting || (queue == Queue::Admin && waiting != Waiting::Nothing);
    connect(&mut joint, LIAR, framing);
    if during_bring_up {
        joint.tamper = true;
        joint.run();
        // Everybody hears everything, word by word, until the host waits for what it is to wait for.
        for _ in 0..1000 {
            if let Some(key) = liars(&joint) {
                let said = last_command(&joint, key);
                let (cid, is) = said.map_or((0, false), |sqe| {
                    let connect = sqe.is_fabrics() && sqe.fctype() == FCTYPE_CONNECT;
                    let identify = sqe.opcode == OPCODE_IDENTIFY;
                    (sqe.cid.get(), if waiting == Waiting::Inline { connect } else { identify })
                });
                if is || waiting == Waiting::Greeting {
                    return (joint, key, cid);
                }
            }
            for key in joint.live() {
                joint.pass(key);
            }
            joint.run();
        }
        panic!("{queue:?}: never waiting for {waiting:?}");
    }
    joint.until(Duration::from_secs(2), "two paths", |joint| optimized_paths(joint) == 2);
    let key = liars(&joint).expect("it is connected");
    joint.tamper = true;
    let (op, nlb) = match waiting {
        Waiting::Greeting | Waiting::Nothing => return (joint, key, 0),
        Waiting::Read => (Op::Read, 16),
        Waiting::Write => (Op::Write { fua: false }, 16),
        Waiting::Inline => (Op::Write { fua: false }, 1),
    };
    // One for each path.
    for n in 0..2 {
        joint.host.submit(op, n * 16, nlb, BLOCK).expect("a request that can be sent");
    }
    joint.run();
    let cid = last_command(&joint, key).expect("it sent something").cid.get();
    (joint, key, cid)
}

/// Makes the lie, from the command that waits.
type Lie = Box<dyn Fn(u16) -> Vec<u8>>;

/// What a host terminates a connection for, on either kind of queue, with and without digests.
fn of_a_controller(queue: Queue, framing: Framing) -> Vec<(&'static str, Waiting, Lie, Fes, u32)> {
    use Fes::{
        DataTransferLimitExceeded as Limit, DataTransferOutOfRange as Range, InvalidPduHeaderField as Field,
        PduSequenceError as Sequence, UnsupportedParameter as Parameter,
    };
    use Waiting::{Greeting, Inline, Nothing, Read, Write};
    fn lie(make: impl Fn(u16) -> Vec<u8> + 'static) -> Lie {
        Box::new(make)
    }
    let Framing { hdgst, ddgst, .. } = framing;
    let granted = move |hdgst, ddgst| lie(move |_| IcResp::new(hdgst, ddgst, 4, 4096).as_bytes().to_vec());
    let icresp = move |at: usize, value: u8| {
        lie(move |_| edit(IcResp::new(hdgst, ddgst, 4, 4096).as_bytes().to_vec(), at, value))
    };
    let resp = move |cid| pdu(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), &framing), &[]);
    let c2h = move |cid, offset, len: u32, flags| {
        pdu(&C2hData::new(cid, offset, len, flags, &framing), &vec![0; len as usize])
    };
    let r2t = move |cid, offset, len| pdu(&R2t::new(cid, 3, offset, len, &framing), &[]);
    let none = Flags::empty();
    let digests = u8::from(hdgst) | u8::from(ddgst) << 1;
    // Of the read, and of the data in a capsule.
    let (whole, inline) = if queue == Queue::Admin { (4096, 1024) } else { (8192, 512) };
    let half = whole / 2;
    let mut table: Vec<(&'static str, Waiting, Lie, Fes, u32)> = vec![
        ("response before ICResp", Greeting, lie(resp), Sequence, 0),
        ("ICResp: FLAGS", Greeting, icresp(1, 4), Field, 1),
        ("ICResp: HLEN", Greeting, icresp(2, 24), Field, 2),
        ("ICResp: PDO", Greeting, icresp(3, 8), Field, 3),
        ("ICResp: PLEN", Greeting, icresp(4, 132), Field, 4),
        ("ICResp: PFV", Greeting, icresp(8, 1), Parameter, 8),
        ("ICResp: CPDA", Greeting, icresp(10, 32), Field, 10),
        ("ICResp: reserved DGST bits", Greeting, icresp(11, digests | 0x80), Field, 11),
        ("ICResp: another header digest", Greeting, granted(!hdgst, ddgst), Parameter, 11),
        ("ICResp: another data digest", Greeting, granted(hdgst, !ddgst), Parameter, 11),
        ("ICResp: MAXH2CDATA", Greeting, icresp(13, 0), Field, 12),
        ("ICResp: MAXH2CDATA is not dwords", Greeting, icresp(12, 2), Field, 12),
        ("second ICResp", Nothing, icresp(8, 0), Sequence, 0),
        ("unknown type", Nothing, lie(move |cid| edit(resp(cid), 0, 0x0B)), Field, 0),
        ("a PDU of the host", Nothing, lie(move |cid| edit(resp(cid), 0, 6)), Field, 0),
        ("reserved FLAGS", Nothing, lie(move |cid| edit(resp(cid), 1, resp(cid)[1] | 0x40)), Field, 1),
        ("HDGSTF", Nothing, lie(move |cid| edit(resp(cid), 1, resp(cid)[1] ^ 1)), Field, 1),
        ("HLEN", Nothing, lie(move |cid| edit(resp(cid), 2, 32)), Field, 2),
        ("PDO", Nothing, lie(move |cid| edit(resp(cid), 3, 8)), Field, 3),
        ("PLEN", Nothing, lie(move |cid| edit(resp(cid), 4, 36)), Field, 4),
        ("response to an unknown CID", Nothing, lie(move |_| resp(0x111)), Field, 8),
        ("response to another generation", Read, lie(move |cid| resp(cid ^ 0x1000)), Field, 8),
        ("data for an unknown CID", Read, lie(move |cid| c2h(cid ^ 0x1000, 0, 4, none)), Field, 8),
        ("data for a command that gets none", Inline, lie(move |cid| c2h(cid, 0, 4, none)), Range, 0),
        ("too much data", Read, lie(move |cid| c2h(cid, 0, whole + 4, none)), Range, 0),
        ("data out of order", Read, lie(move |cid| c2h(cid, half, half, none)), Sequence, 0),
        (
            "data after the last",
            Read,
            lie(move |cid| [c2h(cid, 0, half, Flags::LAST), c2h(cid, half, half, Flags::LAST)].concat()),
            Sequence,
            0,
        ),
        ("DDGSTF", Read, lie(move |cid| edit(c2h(cid, 0, half, none), 1, c2h(cid, 0, 4, none)[1] ^ 2)), Field, 1),
        ("SUCCESS without LAST_PDU", Read, lie(move |cid| c2h(cid, 0, 4, Flags::SUCCESS)), Field, 1),
        ("DATAL", Read, lie(move |cid| edit(c2h(cid, 0, half, none), 16, 4)), Field, 16),
        ("R2T for an unknown CID", Inline, lie(move |cid| r2t(cid ^ 0x1000, 0, 512)), Field, 8),
        ("R2T for a read", Read, lie(move |cid| r2t(cid, 0, half)), Range, 0),
        ("R2T for nothing", Inline, lie(move |cid| r2t(cid, 0, 0)), Field, 16),
        ("R2T for data that was in the capsule", Inline, lie(move |cid| r2t(cid, 0, inline)), Sequence, 0),
    ];
    if queue == Queue::Io {
        table.extend([
            ("data for a write", Write, lie(move |cid| c2h(cid, 0, 4, none)), Range, 0),
            ("R2T for no bytes of a write", Write, lie(move |cid| r2t(cid, 0, 0)), Field, 16),
            ("R2T beyond the command", Write, lie(move |cid| r2t(cid, 0, 8196)), Range, 0),
            ("R2T out of order", Write, lie(move |cid| r2t(cid, 4096, 4096)), Sequence, 0),
            ("a second R2T", Write, lie(move |cid| [r2t(cid, 0, 4096), r2t(cid, 4096, 4096)].concat()), Limit, 0),
        ]);
    }
    if framing.hdgst {
        // What is told as FEI is the digest that came, so that it is set by hand: 1 is never right here.
        let wrong = |bytes: Vec<u8>| {
            let mut bytes = bytes;
            bytes[24..28].copy_from_slice(&1_u32.to_le_bytes());
            bytes
        };
        table.extend([
            ("a wrong header digest", Nothing, lie(move |cid| wrong(resp(cid))), Fes::HeaderDigestError, 1),
            ("the same of data", Read, lie(move |cid| wrong(c2h(cid, 0, half, none))), Fes::HeaderDigestError, 1),
        ]);
    }
    table
}

#[test]
fn a_host_tells_the_offender_and_keeps_its_other_path() {
    for queue in QUEUES {
        for framing in [*PLAIN, *DIGESTS] {
            for (what, waiting, make, fes, fei) in of_a_controller(queue, framing) {
                let what = format!("{what}, {queue:?} queue, digests {}", framing.hdgst);
                let (mut joint, key, cid) = prepared(queue, framing, waiting);
                let number = joint.wires[&key].number;
                let on_another_port = |other: &Key| joint.host.sockets[other].dial.addr.port() != LIAR;
                let others: Vec<Key> = joint.live().into_iter().filter(on_another_port).collect();
                assert_eq!(others.len(), 2, "{what}");
                joint.give_host(key, &make(cid));
                joint.tamper = false;
                joint.run();
                let tap = joint.tap.take().expect("somebody listens");
                let term = tap.iter().find_map(|(_, wire, said)| match said {
                    Tapped::Bytes(Direction::ToController, bytes) if *wire == number && bytes[0] == 2 => {
                        TermReq::decode(bytes)
                    }
                    _ => None,
                });
                let term = term.unwrap_or_else(|| panic!("{what}: no H2CTermReq"));
                assert_eq!((Fes::from_u16(term.fes.get()), term.fei.get()), (Some(fes), fei), "{what}");
                joint.until(Duration::from_secs(2), &what, |joint| joint.host.sockets[&key].end != End::Open);
                for other in others {
                    assert_eq!(joint.host.sockets[&other].end, End::Open, "{what}: the other path stays");
                }
                // Everything that was asked for is answered, through the other path or after the fence; and a controller that
                // lied is tried again.
                joint.until(Duration::from_secs(60), &what, |joint| {
                    joint.host.unanswered() == 0 && optimized_paths(joint) == 2
                });
                assert!(
                    joint.host.done.values().all(|outcome| *outcome == Outcome::Ok),
                    "{what}: {:?}",
                    joint.host.done
                );
            }
        }
    }
}
