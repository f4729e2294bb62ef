//! What each violation of the protocol earns: the right fatal error status and its information.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use common::{Op, Settings, Store, command, send_all};
use interlock_proto::{Sink, Source, host, target};
use interlock_wire::fabrics::Connect;
use interlock_wire::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Direction, Fatal, Fes, Flags, Framing, H2cData, IcReq, IcResp,
    PduType, R2t, TermReq, encode_header,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};

const PLAIN: &Framing = &Framing::PLAIN;
const HDGST: &Framing = &Framing { hdgst: true, ddgst: false, align: 4 };

fn bytes<T: IntoBytes + zerocopy::Immutable>(header: &T, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(header, &mut out);
    out.extend_from_slice(data);
    out
}

fn edit(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

fn write(len: u32, in_capsule: bool) -> Sqe {
    let mut sqe = command(Op::Write { len, bytes: false }, 0);
    sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
    sqe.cid.set(9);
    sqe
}

fn target(hdgst: bool) -> target::Queue {
    let mut queue = Settings { maxh2cdata: 4096, ..Settings::PLAIN }.target();
    queue.handle_bytes(IcReq::new(hdgst, false, 4, 0).as_bytes()).unwrap();
    queue.connected(3, false, true);
    let sent = send_all(&mut queue, &Store::default());
    assert_eq!(sent, IcResp::new(hdgst, false, 4, 4096).as_bytes());
    queue
}

/// A target with an R2T of 12288 bytes outstanding, in slot 0, for command 9.
fn asking(hdgst: bool) -> target::Queue {
    let framing = if hdgst { HDGST } else { PLAIN };
    let mut queue = target(hdgst);
    queue.handle_bytes(&bytes(&CapsuleCmd::new(write(12288, false), 0, framing), &[])).unwrap();
    queue.receive(0, Sink::Bytes(12288));
    assert_eq!(send_all(&mut queue, &Store::default()), bytes(&R2t::new(9, 0, 0, 12288, framing), &[]));
    queue
}

fn h2c(cid: u16, ttag: u16, offset: u32, len: u32, last: bool) -> Vec<u8> {
    bytes(&H2cData::new(cid, ttag, offset, len, last, PLAIN), &vec![0; len as usize])
}

#[test]
fn a_target_terminates_with_the_right_status() {
    use Fes::*;
    let capsule = || bytes(&CapsuleCmd::new(write(0, false), 0, PLAIN), &[]);
    let fresh = || Settings::PLAIN.target();
    let icreq = |at, value| edit(IcReq::new(false, false, 4, 0).as_bytes().to_vec(), at, value);
    let with_data = |sqe: Sqe, len: u32| bytes(&CapsuleCmd::new(sqe, len, PLAIN), &vec![0; len as usize]);
    let mut offset_sgl = write(512, true);
    offset_sgl.sgl1.address.set(64);
    let table: Vec<(&str, target::Queue, Vec<u8>, Fes, u32)> = vec![
        ("command before ICReq", fresh(), capsule(), PduSequenceError, 0),
        ("PFV", fresh(), icreq(8, 1), UnsupportedParameter, 8),
        ("HPDA", fresh(), icreq(10, 32), InvalidPduHeaderField, 10),
        ("DGST", fresh(), icreq(11, 4), InvalidPduHeaderField, 11),
        ("ICReq length", fresh(), icreq(4, 127), InvalidPduHeaderField, 4),
        ("second ICReq", target(false), icreq(8, 0), PduSequenceError, 0),
        ("unknown type", target(false), edit(capsule(), 0, 8), InvalidPduHeaderField, 0),
        ("wrong direction", target(false), edit(capsule(), 0, 5), InvalidPduHeaderField, 0),
        ("flags", target(false), edit(capsule(), 1, 0x10), InvalidPduHeaderField, 1),
        ("HDGSTF not agreed", target(false), edit(capsule(), 1, 1), InvalidPduHeaderField, 1),
        ("HDGSTF missing", target(true), capsule(), InvalidPduHeaderField, 1),
        ("HLEN", target(false), edit(capsule(), 2, 71), InvalidPduHeaderField, 2),
        ("PDO", target(false), edit(capsule(), 3, 4), InvalidPduHeaderField, 3),
        ("PLEN", target(false), edit(capsule(), 4, 71), InvalidPduHeaderField, 4),
        ("in-capsule data and SGL differ", target(false), with_data(write(512, true), 508), InvalidPduHeaderField, 4),
        ("more than a capsule holds", target(false), with_data(write(8196, true), 8196), DataTransferLimitExceeded, 0),
        ("more than IOCCSZ says", target(false), with_data(write(4100, true), 4100), DataTransferLimitExceeded, 0),
        ("in-capsule data at an offset", target(false), with_data(offset_sgl, 512), UnsupportedParameter, 32),
        ("TTAG", asking(false), h2c(9, 1, 0, 4096, false), InvalidPduHeaderField, 10),
        ("TTAG beyond all slots", asking(false), h2c(9, 0xFFFF, 0, 4096, false), InvalidPduHeaderField, 10),
        ("data nobody asked for", target(false), h2c(9, 0, 0, 4096, false), InvalidPduHeaderField, 10),
        ("CCCID", asking(false), h2c(8, 0, 0, 4096, false), PduSequenceError, 0),
        ("MAXH2CDATA", asking(false), h2c(9, 0, 0, 4100, false), DataTransferLimitExceeded, 0),
        ("DATAL", asking(false), edit(h2c(9, 0, 0, 4096, false), 16, 4), InvalidPduHeaderField, 16),
        ("out of range", asking(false), h2c(9, 0, 12288, 4, false), DataTransferOutOfRange, 0),
        ("out of order", asking(false), h2c(9, 0, 4096, 4096, false), PduSequenceError, 0),
        ("LAST_PDU too early", asking(false), h2c(9, 0, 0, 4096, true), PduSequenceError, 0),
    ];
    for (what, mut queue, stream, fes, fei) in table {
        let fatal = queue.handle_bytes(&stream).expect_err(what);
        assert_eq!((fatal.fes, fatal.fei), (fes, fei), "{what}: {fatal}");
        terminated(&mut queue, &fatal, &stream, Direction::ToHost, what);
        assert_eq!(queue.handle_bytes(&stream), Err(fatal), "{what}: it stays failed");
    }
}

/// Exactly one termination request comes out, with the leading bytes of the offender.
fn terminated(queue: &mut impl common::End, fatal: &Fatal, offender: &[u8], to: Direction, what: &str) {
    let sent = send_all(queue, &Store::default());
    let term = TermReq::decode(&sent).expect(what);
    assert_eq!(
        (term.fes.get(), term.fei.get(), term.ch.pdu_type),
        (fatal.fes as u16, fatal.fei, if to == Direction::ToHost { 3 } else { 2 }),
        "{what}"
    );
    assert_eq!(sent.len(), term.ch.plen.get() as usize, "{what}");
    let shown = &sent[24..];
    assert!(shown.len() >= 8 && offender.starts_with(shown), "{what}: carries the offender's header");
    assert!(send_all(queue, &Store::default()).is_empty(), "{what}: nothing after it");
}

#[test]
fn h2cdata_behind_the_end_or_after_it_is_refused() {
    let mut queue = asking(false);
    queue.handle_bytes(&h2c(9, 0, 0, 4096, false)).unwrap();
    queue.handle_bytes(&h2c(9, 0, 4096, 4096, false)).unwrap();
    let mut early = queue.clone();
    assert_eq!(early.handle_bytes(&h2c(9, 0, 4096, 4096, false)).unwrap_err().fes, Fes::PduSequenceError);
    let mut open_end = queue.clone();
    assert_eq!(open_end.handle_bytes(&h2c(9, 0, 8192, 4096, false)).unwrap_err().fes, Fes::PduSequenceError);
    queue.handle_bytes(&h2c(9, 0, 8192, 4096, true)).unwrap();
    let fatal = queue.handle_bytes(&h2c(9, 0, 8192, 4096, true)).unwrap_err();
    assert_eq!((fatal.fes, fatal.fei), (Fes::InvalidPduHeaderField, 10));
}

#[test]
fn ioccsz_binds_the_commands_of_io_queues_alone() {
    let capsule = |sqe: Sqe, len: u32| bytes(&CapsuleCmd::new(sqe, len, PLAIN), &vec![0; len as usize]);
    let settings = Settings { in_capsule: 512, ..Settings::PLAIN };
    let connected = |io| {
        let mut queue = settings.target();
        queue.handle_bytes(IcReq::new(false, false, 4, 0).as_bytes()).unwrap();
        queue.connected(3, false, io);
        queue
    };
    let admin = write(8192, true);
    assert!(connected(false).handle_bytes(&capsule(admin, 8192)).is_ok(), "an admin queue");
    let mut fabrics = Connect { qid: 1, sqsize: 3, sq_flow_control: false, kato_ms: 0 }.to_sqe();
    fabrics.set_sgl(Sgl::InCapsule { len: 8192 });
    assert!(connected(true).handle_bytes(&capsule(fabrics, 8192)).is_ok(), "a Fabrics command");
    assert!(connected(true).handle_bytes(&capsule(write(512, true), 512)).is_ok(), "as much as IOCCSZ says");
    let fatal = connected(true).handle_bytes(&capsule(write(516, true), 516)).unwrap_err();
    assert_eq!((fatal.fes, fatal.fei), (Fes::DataTransferLimitExceeded, 0));
    // More than 8192 where IOCCSZ says so, and not elsewhere.
    let settings = Settings { in_capsule: 16_384, ..Settings::PLAIN };
    for (io, fine) in [(true, true), (false, false)] {
        let mut queue = settings.target();
        queue.handle_bytes(IcReq::new(false, false, 4, 0).as_bytes()).unwrap();
        queue.connected(3, false, io);
        assert_eq!(queue.handle_bytes(&capsule(write(16_384, true), 16_384)).is_ok(), fine, "io: {io}");
    }
}

#[test]
fn a_flooding_host_is_terminated() {
    let mut queue = target(false);
    let capsule = bytes(&CapsuleCmd::new(write(0, false), 0, PLAIN), &[]);
    // SQSIZE 3: four entries, twice.
    for _ in 0..8 {
        queue.handle_bytes(&capsule).unwrap();
    }
    assert_eq!(queue.in_flight(), 8);
    assert_eq!(queue.handle_bytes(&capsule).unwrap_err().fes, Fes::PduSequenceError);
}

#[test]
fn commands_the_transport_cannot_carry_are_answered_with_a_status() {
    let mut fused = write(0, false);
    fused.flags = 0x41;
    let mut keyed = write(512, false);
    keyed.sgl1.kind = 0x4F;
    let mut inline_read = command(Op::Read { len: 512, bytes: false }, 0);
    inline_read.set_sgl(Sgl::InCapsule { len: 512 });
    let huge = write(2 << 20, false);
    for (sqe, data, status) in [
        (fused, 0, Status::INVALID_FIELD),
        (keyed, 0, Status::SGL_TYPE_INVALID),
        (inline_read, 512, Status::INVALID_FIELD),
        (huge, 0, Status::INVALID_FIELD),
    ] {
        let mut queue = target(false);
        while queue.poll_event().is_some() {}
        let stream = bytes(&CapsuleCmd::new(sqe, data, PLAIN), &vec![0xAA; data as usize]);
        assert_eq!(queue.handle_bytes(&stream).unwrap().used, stream.len());
        assert_eq!(queue.poll_event(), None, "its owner never sees it");
        let answer = send_all(&mut queue, &Store::default());
        let cqe = CapsuleResp::read_from_bytes(&answer).unwrap().cqe;
        assert_eq!((cqe.status(), cqe.cid.get()), (status.with_dnr(), sqe.cid.get()));
        assert_eq!((queue.poll_event(), queue.in_flight()), (None, 0));
    }
}

fn host(hdgst: bool, ddgst: bool) -> host::Queue {
    let mut queue = Settings { hdgst, ddgst, depth: 4, ..Settings::PLAIN }.host();
    send_all(&mut queue, &Store::default());
    queue.handle_bytes(IcResp::new(hdgst, ddgst, 4, 4096).as_bytes()).unwrap();
    assert_eq!(queue.poll_event(), Some(host::Event::Ready { maxh2cdata: 4096 }));
    queue
}

/// A host with one command under way: (queue, CID).
fn busy(out: u32, into: u32) -> (host::Queue, u16) {
    let mut queue = host(false, false);
    let source = if out > 0 { Source::Bytes(vec![7; out as usize]) } else { Source::None };
    let sink = if into > 0 { Sink::Bytes(into) } else { Sink::None };
    let cid = queue.submit(Sqe::new(1), source, sink, 77).unwrap();
    send_all(&mut queue, &Store::default());
    (queue, cid)
}

fn c2h(cid: u16, offset: u32, len: u32, flags: Flags) -> Vec<u8> {
    bytes(&C2hData::new(cid, offset, len, flags, PLAIN), &vec![0x5A; len as usize])
}

fn r2t(cid: u16, offset: u32, len: u32) -> Vec<u8> {
    bytes(&R2t::new(cid, 3, offset, len, PLAIN), &[])
}

#[test]
fn a_host_terminates_with_the_right_status() {
    use Fes::*;
    let fresh = |hdgst, ddgst| {
        let mut queue = Settings { hdgst, ddgst, ..Settings::PLAIN }.host();
        send_all(&mut queue, &Store::default());
        queue
    };
    let icresp = |at, value| edit(IcResp::new(false, false, 4, 4096).as_bytes().to_vec(), at, value);
    let granted = |hdgst, ddgst| IcResp::new(hdgst, ddgst, 4, 4096).as_bytes().to_vec();
    let resp = |cid| bytes(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), PLAIN), &[]);
    let none = Flags::empty();
    let (idle, cid) = busy(0, 0);
    let (reading, rcid) = busy(0, 8192);
    let (writing, wcid) = busy(8192, 0);
    let (inline, icid) = busy(512, 0);
    let table: Vec<(&str, host::Queue, Vec<u8>, Fes, u32)> = vec![
        ("response before ICResp", fresh(false, false), resp(0), PduSequenceError, 0),
        ("PFV", fresh(false, false), icresp(8, 1), UnsupportedParameter, 8),
        ("CPDA", fresh(false, false), icresp(10, 32), InvalidPduHeaderField, 10),
        ("MAXH2CDATA", fresh(false, false), icresp(13, 0), InvalidPduHeaderField, 12),
        ("digest nobody asked for", fresh(false, false), granted(true, false), UnsupportedParameter, 11),
        ("header digest declined", fresh(true, true), granted(false, true), UnsupportedParameter, 11),
        ("data digest declined", fresh(true, true), granted(true, false), UnsupportedParameter, 11),
        ("second ICResp", idle.clone(), icresp(8, 0), PduSequenceError, 0),
        ("unknown CID", idle.clone(), resp(cid + 1), InvalidPduHeaderField, 8),
        ("CID of another generation", idle.clone(), resp(cid | 1 << 12), InvalidPduHeaderField, 8),
        ("CID beyond all slots", idle.clone(), resp(7), InvalidPduHeaderField, 8),
        ("data for unknown CID", idle.clone(), c2h(cid + 1, 0, 4, none), InvalidPduHeaderField, 8),
        ("data for a command without", idle.clone(), c2h(cid, 0, 4, none), DataTransferOutOfRange, 0),
        ("data for a write", writing.clone(), c2h(wcid, 0, 4, none), DataTransferOutOfRange, 0),
        ("too much data", reading.clone(), c2h(rcid, 0, 8196, none), DataTransferOutOfRange, 0),
        ("data out of order", reading.clone(), c2h(rcid, 4096, 4096, none), PduSequenceError, 0),
        ("SUCCESS without LAST", reading.clone(), c2h(rcid, 0, 4, Flags::SUCCESS), InvalidPduHeaderField, 1),
        ("DATAL", reading.clone(), edit(c2h(rcid, 0, 4096, none), 16, 4), InvalidPduHeaderField, 16),
        ("R2T for unknown CID", writing.clone(), r2t(wcid + 1, 0, 4096), InvalidPduHeaderField, 8),
        ("R2T for a read", reading.clone(), r2t(rcid, 0, 4096), DataTransferOutOfRange, 0),
        ("R2T for nothing", writing.clone(), r2t(wcid, 0, 0), InvalidPduHeaderField, 16),
        ("R2T beyond the command", writing.clone(), r2t(wcid, 0, 8196), DataTransferOutOfRange, 0),
        ("R2T out of order", writing.clone(), r2t(wcid, 4096, 4096), PduSequenceError, 0),
        ("R2T for in-capsule data", inline.clone(), r2t(icid, 0, 512), PduSequenceError, 0),
        ("a PDU of the host", idle.clone(), edit(resp(cid), 0, 6), InvalidPduHeaderField, 0),
    ];
    for (what, mut queue, stream, fes, fei) in table {
        let fatal = queue.handle_bytes(&stream).expect_err(what);
        assert_eq!((fatal.fes, fatal.fei), (fes, fei), "{what}: {fatal}");
        terminated(&mut queue, &fatal, &stream, Direction::ToController, what);
    }
}

#[test]
fn an_early_r2t_exceeds_the_limit() {
    let (mut queue, cid) = busy(8192, 0);
    queue.handle_bytes(&r2t(cid, 0, 4096)).unwrap();
    let fatal = queue.handle_bytes(&r2t(cid, 4096, 4096)).unwrap_err();
    assert_eq!(fatal.fes, Fes::DataTransferLimitExceeded);
}

#[test]
fn data_after_the_last_is_refused() {
    let (mut queue, cid) = busy(0, 8192);
    queue.handle_bytes(&c2h(cid, 0, 4096, Flags::LAST)).unwrap();
    let fatal = queue.handle_bytes(&c2h(cid, 4096, 4096, Flags::LAST)).unwrap_err();
    assert_eq!(fatal.fes, Fes::PduSequenceError);
}

#[test]
fn a_response_answers_once() {
    let (mut queue, cid) = busy(0, 0);
    let resp = bytes(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), PLAIN), &[]);
    queue.handle_bytes(&resp).unwrap();
    assert!(matches!(queue.poll_event(), Some(host::Event::Completed { token: 77, .. })));
    assert_eq!(queue.handle_bytes(&resp).unwrap_err().fei, 8);
}

#[test]
fn a_response_to_a_command_that_was_never_sent_is_refused() {
    let mut queue = host(false, false);
    let cid = queue.submit(Sqe::new(0), Source::None, Sink::None, 1).unwrap();
    let resp = bytes(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), PLAIN), &[]);
    assert_eq!(queue.handle_bytes(&resp).unwrap_err().fei, 8);
}

#[test]
fn a_wrong_header_digest_is_fatal_and_named() {
    let mut queue = host(true, false);
    let cid = queue.submit(Sqe::new(0), Source::None, Sink::None, 1).unwrap();
    send_all(&mut queue, &Store::default());
    let mut resp = bytes(&CapsuleResp::new(Cqe::new(cid, 0, Status::SUCCESS), HDGST), &[]);
    let right = u32::from_le_bytes(resp[24..28].try_into().unwrap());
    resp[24] ^= 1;
    let fatal = queue.handle_bytes(&resp).unwrap_err();
    assert_eq!((fatal.fes, fatal.fei), (Fes::HeaderDigestError, right ^ 1));

    let mut queue = target(true);
    let capsule = edit(bytes(&CapsuleCmd::new(write(0, false), 0, HDGST), &[]), 20, 1);
    assert_eq!(queue.handle_bytes(&capsule).unwrap_err().fes, Fes::HeaderDigestError);
}

#[test]
fn a_termination_request_ends_everything_without_an_answer() {
    let fatal = Fatal::new(Fes::PduSequenceError, 5, "test");
    let (mut queue, cid) = busy(8192, 0);
    queue.handle_bytes(&r2t(cid, 0, 8192)).unwrap();
    let term = TermReq::encode(Direction::ToHost, &fatal, &[0; 24]);
    let taken = queue.handle_bytes(&[&term[..], &[0xFF; 100]].concat()).unwrap();
    assert_eq!(taken.used, term.len() + 100);
    assert_eq!(queue.poll_event(), Some(host::Event::TermReq { fes: 2, fei: 5 }));
    assert!(send_all(&mut queue, &Store::default()).is_empty());

    let mut queue = asking(false);
    while queue.poll_event().is_some() {}
    let term = TermReq::encode(Direction::ToController, &fatal, &[]);
    queue.handle_bytes(&term).unwrap();
    assert_eq!(queue.poll_event(), Some(target::Event::TermReq { fes: 2, fei: 5 }));
    queue.respond(0, Status::SUCCESS, 0, 0, Source::None);
    assert_eq!(queue.poll_event(), Some(target::Event::Sent { slot: 0 }));
    assert!(send_all(&mut queue, &Store::default()).is_empty());
}

#[test]
fn padding_is_skipped_and_made_as_the_peer_asked() {
    // A host that wants its data aligned to 128 bytes.
    let mut queue = Settings::PLAIN.target();
    queue.handle_bytes(IcReq::new(true, false, 128, 0).as_bytes()).unwrap();
    queue.connected(3, false, true);
    let mut sqe = command(Op::Read { len: 8, bytes: false }, 0);
    sqe.set_sgl(Sgl::Transport { len: 8 });
    queue.handle_bytes(&bytes(&CapsuleCmd::new(sqe, 0, HDGST), &[])).unwrap();
    queue.respond(0, Status::SUCCESS, 0, 0, Source::Bytes(vec![1; 8]));
    let sent = send_all(&mut queue, &Store::default())[128..].to_vec();
    assert_eq!((sent.len(), sent[3], &sent[28..128], &sent[128..]), (136, 128, &[0; 100][..], &[1; 8][..]));

    // A controller that wants the same, and pads what it sends more than it must.
    let mut queue = Settings { hdgst: true, ..Settings::PLAIN }.host();
    send_all(&mut queue, &Store::default());
    queue.handle_bytes(IcResp::new(true, false, 128, 4096).as_bytes()).unwrap();
    queue.submit(Sqe::new(1), Source::Bytes(vec![2; 8]), Sink::None, 1).unwrap();
    let cid = queue.submit(Sqe::new(2), Source::None, Sink::Bytes(8), 2).unwrap();
    let sent = send_all(&mut queue, &Store::default());
    assert_eq!((sent[3], &sent[76..128], &sent[128..136]), (128, &[0; 52][..], &[2; 8][..]));
    let framing = Framing { hdgst: true, ddgst: false, align: 128 };
    let header = C2hData::new(cid, 0, 8, Flags::LAST | Flags::SUCCESS, &framing);
    let mut stream = bytes(&header, &[0xEE; 100]);
    stream.extend([3; 8]);
    while queue.poll_event().is_some() {}
    queue.handle_bytes(&stream).unwrap();
    let Some(host::Event::Completed { data, error: None, .. }) = queue.poll_event() else { panic!() };
    assert_eq!(data, [3; 8]);
    assert_eq!(CommonHeader::read_from_prefix(&stream).unwrap().0.pdu_type, PduType::C2hData as u8);
}
