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
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, Direction, Fes, Flags, Framing, H2cData, IcReq, IcResp, R2t, TermReq,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};
use std::time::Duration;

const PLAIN: &Framing = &Framing::PLAIN;
const HDGST: &Framing = &Framing { hdgst: true, ddgst: false, align: 4 };

fn limits() -> Limits {
    Limits { max_transfer: 65_536, in_capsule: 4096, max_h2c_data: 4096, queue_depth: 32, ..Limits::default() }
}

fn edit(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

fn write(len: u32, in_capsule: bool) -> Sqe {
    let mut sqe = Command::Write { slba: 0, nlb: len.max(BLOCK) / BLOCK, fua: false }.to_sqe(1);
    sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
    sqe.cid.set(9);
    sqe
}

fn capsule(sqe: Sqe, data: u32, framing: &Framing) -> Vec<u8> {
    pdu(&CapsuleCmd::new(sqe, data, framing), &vec![0; data as usize])
}

/// What a host has done before it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// TCP is connected.
    Nothing,
    /// The I/O queue is connected.
    Io,
    /// The I/O queue is connected, with header digests.
    IoDigests,
    /// The admin queue is connected.
    Admin,
    /// A write of 12288 bytes on the I/O queue has its R2T: command 9, tag 0.
    Asked,
}

#[test]
fn a_target_tells_the_offender_and_serves_everybody_else() {
    use Before::{Admin, Asked, Io, IoDigests, Nothing};
    use Fes::{
        DataTransferLimitExceeded as Limit, DataTransferOutOfRange as Range, HeaderDigestError as Digest,
        InvalidPduHeaderField as Field, PduSequenceError as Sequence, UnsupportedParameter as Parameter,
    };
    let bare = || capsule(write(0, false), 0, PLAIN);
    let icreq = |at, value| edit(IcReq::new(false, false, 4, 0).as_bytes().to_vec(), at, value);
    let h2c = |cid, ttag, offset, len: u32, last| {
        pdu(&H2cData::new(cid, ttag, offset, len, last, PLAIN), &vec![0; len as usize])
    };
    let mut at_an_offset = write(512, true);
    at_an_offset.sgl1.address.set(64);
    let mut keyed = write(512, false);
    keyed.sgl1.kind = 0x4F;
    let damaged = edit(capsule(write(0, false), 0, HDGST), 72, 0);
    let sent_digest = u32::from_le_bytes(damaged[72..76].try_into().expect("four bytes"));
    let table: Vec<(&str, Before, Vec<u8>, Fes, u32)> = vec![
        ("command before ICReq", Nothing, bare(), Sequence, 0),
        ("unknown type first", Nothing, icreq(0, 0x0A), Field, 0),
        ("ICReq: PFV", Nothing, icreq(8, 1), Parameter, 8),
        ("ICReq: HPDA", Nothing, icreq(10, 32), Field, 10),
        ("ICReq: reserved DGST bits", Nothing, icreq(11, 4), Field, 11),
        ("ICReq: HLEN", Nothing, icreq(2, 127), Field, 2),
        ("ICReq: PDO", Nothing, icreq(3, 8), Field, 3),
        ("ICReq: PLEN", Nothing, icreq(4, 127), Field, 4),
        ("second ICReq", Io, icreq(8, 0), Sequence, 0),
        ("second ICReq, admin queue", Admin, icreq(8, 0), Sequence, 0),
        ("unknown type", Io, edit(bare(), 0, 8), Field, 0),
        ("kickstart", Io, edit(bare(), 0, 0x0A), Field, 0),
        ("wrong direction", Io, edit(bare(), 0, 5), Field, 0),
        ("reserved FLAGS", Io, edit(bare(), 1, 0x10), Field, 1),
        ("reserved FLAGS, admin queue", Admin, edit(bare(), 1, 0x10), Field, 1),
        ("HDGSTF not agreed", Io, edit(bare(), 1, 1), Field, 1),
        ("HDGSTF missing", IoDigests, bare(), Field, 1),
        ("HLEN", Io, edit(bare(), 2, 71), Field, 2),
        ("PDO without data", Io, edit(bare(), 3, 4), Field, 3),
        ("PDO in the header", Io, edit(capsule(write(512, true), 512, PLAIN), 3, 68), Field, 3),
        ("PDO above 128", Io, edit(capsule(write(512, true), 512, PLAIN), 3, 132), Field, 3),
        ("PLEN below HLEN", Io, edit(bare(), 4, 71), Field, 4),
        ("SGL and PLEN differ", Io, capsule(write(512, true), 508, PLAIN), Field, 4),
        ("a wrong header digest", IoDigests, damaged, Digest, sent_digest),
        ("more than a capsule holds", Io, capsule(write(8196, true), 8196, PLAIN), Limit, 0),
        ("in-capsule data at an offset", Io, capsule(at_an_offset, 512, PLAIN), Parameter, 32),
        ("in-capsule data, keyed SGL", Io, capsule(keyed, 512, PLAIN), Parameter, 47),
        ("H2CData nobody asked for", Io, h2c(9, 0, 0, 4096, false), Field, 10),
        ("H2CData on the admin queue", Admin, h2c(9, 0, 0, 512, true), Field, 10),
        ("unknown TTAG", Asked, h2c(9, 1, 0, 4096, false), Field, 10),
        ("TTAG beyond all", Asked, h2c(9, 0xFFFF, 0, 4096, false), Field, 10),
        ("CCCID of another command", Asked, h2c(8, 0, 0, 4096, false), Sequence, 0),
        ("more than MAXH2CDATA", Asked, h2c(9, 0, 0, 4100, false), Limit, 0),
        ("DATAL", Asked, edit(h2c(9, 0, 0, 4096, false), 16, 4), Field, 16),
        ("beyond the R2T", Asked, h2c(9, 0, 12_288, 4, false), Range, 0),
        ("out of order", Asked, h2c(9, 0, 4096, 4096, false), Sequence, 0),
        ("LAST_PDU too early", Asked, h2c(9, 0, 0, 4096, true), Sequence, 0),
    ];
    for (what, before, bytes, fes, fei) in table {
        let mut rig = TargetRig::new(config(limits()));
        let (mut good_admin, good_cntlid) = Peer::admin(&mut rig, 4420, 2, 5000, false);
        let mut good = Peer::io(&mut rig, 4420, 2, good_cntlid, false);
        let mut bad = offender(&mut rig, before);
        bad.commands += 2;
        bad.say(&mut rig, &bytes);
        bad.listen(&mut rig);
        let term = bad.termination.unwrap_or_else(|| panic!("{what}: no C2HTermReq"));
        assert_eq!((Fes::from_u16(term.fes.get()), term.fei.get()), (Some(fes), fei), "{what}");
        assert!(!rig.is_open(bad.conn), "{what}: its connection ends");
        assert!(rig.is_open(good.conn) && rig.is_open(good_admin.conn), "{what}: another host's does not");
        let read = Command::Read { slba: 0, nlb: 1, fua: false }.to_sqe(1);
        let mut sqe = read;
        sqe.set_sgl(Sgl::Transport { len: BLOCK });
        assert_eq!(good.ask(&mut rig, sqe, &[]).status(), Status::SUCCESS, "{what}");
        let keep_alive = interlock_wire::admin::keep_alive();
        assert_eq!(good_admin.ask(&mut rig, keep_alive, &[]).status(), Status::SUCCESS, "{what}");
    }
}

fn offender(rig: &mut TargetRig, before: Before) -> Peer {
    if before == Before::Nothing {
        return Peer::dial(rig, 4420);
    }
    let digests = before == Before::IoDigests;
    let (admin, cntlid) = Peer::admin(rig, 4420, 1, 5000, false);
    if before == Before::Admin {
        return admin;
    }
    let mut io = if digests {
        let mut peer = Peer::dial(rig, 4420);
        peer.greet(rig, true, false);
        let connect = interlock_wire::fabrics::Connect { qid: 1, sqsize: 31, sq_flow_control: false, kato_ms: 0 };
        let data = interlock_fuzz::peer::connect_data(1, interlock_fuzz::rig::target::SUBNQN, cntlid);
        assert_eq!(peer.ask(rig, connect.to_sqe(), data.as_bytes()).status(), Status::SUCCESS);
        peer
    } else {
        Peer::io(rig, 4420, 1, cntlid, false)
    };
    if before == Before::Asked {
        io.commands += 1;
        let bytes = capsule(write(12_288, false), 0, PLAIN);
        io.say(rig, &bytes);
        io.listen(rig);
        let r2t = io.r2ts.front().expect("data is asked for");
        assert_eq!((r2t.cccid.get(), r2t.ttag.get(), r2t.r2tl.get()), (9, 0, 12_288));
    }
    io
}

/// What a host waits for when the lie comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// For ICResp.
    Greeting,
    /// For nothing.
    Nothing,
    /// For the data of a read of 8192 bytes.
    Read,
    /// For the R2T of a write of 8192 bytes.
    Write,
    /// For the answer of a write of 512 bytes, sent in the capsule.
    Inline,
}

fn joint() -> Joint {
    let mut joint = Joint::new(HostRig::new(9), TargetRig::new(config(limits())));
    joint.tap = Some(Vec::new());
    for port in [4420, 4421] {
        joint.connect(port, |spec| spec.nr_io_queues = 1);
    }
    joint
}

/// The wire to lie on, and the command that waits there.
fn prepared(waiting: Waiting) -> (Joint, Key, u16) {
    let mut joint = joint();
    if waiting == Waiting::Greeting {
        joint.tamper = true;
        joint.run();
        // The admin queues hear everything, until the first I/O queue waits for its ICResp.
        for _ in 0..1000 {
            let live = joint.live();
            if let Some(key) = live.iter().find(|key| key.0 == Owner::Lane) {
                return (joint, *key, 0);
            }
            for key in live {
                joint.pass(key);
            }
            joint.run();
        }
        panic!("no I/O queue is ever opened");
    }
    joint.until(Duration::from_secs(2), "two paths", |joint| {
        let heads = joint.host.control.paths().heads.values();
        heads.flat_map(|head| &head.paths).filter(|path| path.ana == AnaState::Optimized).count() == 2
    });
    let key = joint.live().into_iter().find(|key| key.0 == Owner::Lane).expect("an I/O queue");
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
    let number = joint.wires[&key].number;
    let tap = joint.tap.as_ref().expect("somebody listens");
    let said = tap.iter().rev().find_map(|(_, wire, what)| match what {
        Tapped::Bytes(Direction::ToController, bytes) if *wire == number => Some(bytes),
        _ => None,
    });
    let command = CapsuleCmd::read_from_prefix(said.expect("it sent something")).expect("a capsule").0;
    (joint, key, command.sqe.cid.get())
}

#[test]
fn a_host_tells_the_offender_and_keeps_its_other_path() {
    use Fes::{
        DataTransferLimitExceeded as Limit, DataTransferOutOfRange as Range, InvalidPduHeaderField as Field,
        PduSequenceError as Sequence, UnsupportedParameter as Parameter,
    };
    use Waiting::{Greeting, Inline, Nothing, Read, Write};
    type Lie = Box<dyn Fn(u16) -> Vec<u8>>;
    fn lie(make: impl Fn(u16) -> Vec<u8> + 'static) -> Lie {
        Box::new(make)
    }
    let icresp =
        |at: usize, value: u8| lie(move |_| edit(IcResp::new(false, false, 4, 4096).as_bytes().to_vec(), at, value));
    let resp = |cid| pdu(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), PLAIN), &[]);
    let c2h = |cid, offset, len: u32, flags| pdu(&C2hData::new(cid, offset, len, flags, PLAIN), &vec![0; len as usize]);
    let r2t = |cid, offset, len| pdu(&R2t::new(cid, 3, offset, len, PLAIN), &[]);
    let none = Flags::empty();
    let table: Vec<(&str, Waiting, Lie, Fes, u32)> = vec![
        ("response before ICResp", Greeting, lie(resp), Sequence, 0),
        ("ICResp: PFV", Greeting, icresp(8, 1), Parameter, 8),
        ("ICResp: CPDA", Greeting, icresp(10, 32), Field, 10),
        ("ICResp: reserved DGST bits", Greeting, icresp(11, 0x80), Field, 11),
        ("ICResp: a digest nobody asked for", Greeting, icresp(11, 1), Parameter, 11),
        ("ICResp: MAXH2CDATA", Greeting, icresp(13, 0), Field, 12),
        ("ICResp: HLEN", Greeting, icresp(2, 24), Field, 2),
        ("ICResp: PLEN", Greeting, icresp(4, 132), Field, 4),
        ("second ICResp", Nothing, icresp(8, 0), Sequence, 0),
        ("unknown type", Nothing, lie(move |cid| edit(resp(cid), 0, 0x0B)), Field, 0),
        ("a PDU of the host", Nothing, lie(move |cid| edit(resp(cid), 0, 6)), Field, 0),
        ("reserved FLAGS", Nothing, lie(move |cid| edit(resp(cid), 1, 0x40)), Field, 1),
        ("HLEN", Nothing, lie(move |cid| edit(resp(cid), 2, 28)), Field, 2),
        ("PDO", Nothing, lie(move |cid| edit(resp(cid), 3, 8)), Field, 3),
        ("PLEN", Nothing, lie(move |cid| edit(resp(cid), 4, 28)), Field, 4),
        ("response to an unknown CID", Nothing, lie(move |_| resp(0x111)), Field, 8),
        ("response to another generation", Read, lie(move |cid| resp(cid ^ 0x1000)), Field, 8),
        ("data for an unknown CID", Read, lie(move |cid| c2h(cid ^ 0x1000, 0, 4, none)), Field, 8),
        ("data for a write", Write, lie(move |cid| c2h(cid, 0, 4, none)), Range, 0),
        ("too much data", Read, lie(move |cid| c2h(cid, 0, 8196, none)), Range, 0),
        ("data out of order", Read, lie(move |cid| c2h(cid, 4096, 4096, none)), Sequence, 0),
        ("SUCCESS without LAST_PDU", Read, lie(move |cid| c2h(cid, 0, 4, Flags::SUCCESS)), Field, 1),
        ("DATAL", Read, lie(move |cid| edit(c2h(cid, 0, 4096, none), 16, 4)), Field, 16),
        ("R2T for an unknown CID", Write, lie(move |cid| r2t(cid ^ 0x1000, 0, 4096)), Field, 8),
        ("R2T for a read", Read, lie(move |cid| r2t(cid, 0, 4096)), Range, 0),
        ("R2T for nothing", Write, lie(move |cid| r2t(cid, 0, 0)), Field, 16),
        ("R2T beyond the command", Write, lie(move |cid| r2t(cid, 0, 8196)), Range, 0),
        ("R2T out of order", Write, lie(move |cid| r2t(cid, 4096, 4096)), Sequence, 0),
        ("R2T for data that was in the capsule", Inline, lie(move |cid| r2t(cid, 0, 512)), Sequence, 0),
        ("a second R2T", Write, lie(move |cid| [r2t(cid, 0, 4096), r2t(cid, 4096, 4096)].concat()), Limit, 0),
    ];
    for (what, waiting, make, fes, fei) in table {
        let (mut joint, key, cid) = prepared(waiting);
        let number = joint.wires[&key].number;
        let port = joint.host.sockets[&key].dial.addr.port();
        let others: Vec<Key> =
            joint.live().into_iter().filter(|other| joint.host.sockets[other].dial.addr.port() != port).collect();
        assert!(!others.is_empty());
        joint.give_host(key, &make(cid));
        joint.tamper = false;
        joint.run();
        let tap = joint.tap.take().expect("somebody listens");
        let term = tap.iter().find_map(|(_, wire, said)| match said {
            Tapped::Bytes(Direction::ToController, bytes) if *wire == number && bytes[0] == 2 => TermReq::decode(bytes),
            _ => None,
        });
        // A host that is still connecting resets without a word; what it would say is tested in `proto`.
        if waiting != Greeting {
            let term = term.unwrap_or_else(|| panic!("{what}: no H2CTermReq"));
            assert_eq!((Fes::from_u16(term.fes.get()), term.fei.get()), (Some(fes), fei), "{what}");
        }
        joint.until(Duration::from_secs(2), what, |joint| joint.host.sockets[&key].end != End::Open);
        for other in others {
            assert_eq!(joint.host.sockets[&other].end, End::Open, "{what}: the other path stays");
        }
        // Everything that was asked for is answered, through the other path or after the fence.
        joint.until(Duration::from_secs(30), what, |joint| joint.host.unanswered() == 0 && joint.host.head().is_some());
        assert!(joint.host.done.values().all(|outcome| *outcome == Outcome::Ok), "{what}: {:?}", joint.host.done);
    }
}
