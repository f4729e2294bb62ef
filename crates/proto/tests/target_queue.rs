//! The controller's end: early refusals, SQHD, halting, and when a slot is free again.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use common::{Op, Settings, Store, command, receive, send_all};
use interlock_proto::target::{Event, Queue, Transfer};
use interlock_proto::{SendList, Sink, Source};
use interlock_wire::digest::crc32c;
use interlock_wire::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, Direction, Fatal, Fes, Flags, Framing, H2cData, IcReq, R2t, TermReq,
    encode_header,
};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};

const PLAIN: &Framing = &Framing::PLAIN;

fn pdu<T: IntoBytes + zerocopy::Immutable>(header: &T, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(header, &mut out);
    out.extend_from_slice(data);
    out
}

fn fresh(ddgst: bool) -> Queue {
    let mut queue = Settings { maxh2cdata: 4096, ..Settings::PLAIN }.target();
    queue.handle_bytes(IcReq::new(false, ddgst, 4, 0).as_bytes()).unwrap();
    assert_eq!(queue.poll_event(), Some(Event::Ready { hdgst: false, ddgst }));
    send_all(&mut queue, &Store::default());
    queue
}

fn capsule(op: Op, cid: u16, in_capsule: bool) -> Vec<u8> {
    let (len, data) = match op {
        Op::Nothing => (0, 0),
        Op::Read { len, .. } => (len, 0),
        Op::Write { len, .. } => (len, if in_capsule { len } else { 0 }),
    };
    let mut sqe = command(op, 1);
    sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
    sqe.cid.set(cid);
    pdu(&CapsuleCmd::new(sqe, data, PLAIN), &vec![0xAB; data as usize])
}

fn write(len: u32) -> Op {
    Op::Write { len, bytes: true }
}

fn read(len: u32) -> Op {
    Op::Read { len, bytes: true }
}

fn resp(cid: u16, sqhd: u16, status: Status) -> Vec<u8> {
    pdu(&CapsuleResp::new(Cqe::new(cid, sqhd, status), PLAIN), &[])
}

#[test]
fn in_capsule_data_blocks_until_its_place_is_known() {
    let mut queue = fresh(false);
    let mut stream = capsule(write(512), 1, true);
    stream.extend(capsule(Op::Nothing, 2, false));
    let taken = queue.handle_bytes(&stream).unwrap();
    assert_eq!((taken.used, taken.place), (72, None));
    assert!(queue.is_blocked());
    assert_eq!(queue.handle_bytes(&stream[72..]).unwrap().used, 0);
    let transfer = Transfer::FromHost { len: 512, in_capsule: true };
    assert!(matches!(queue.poll_event(), Some(Event::Command { slot: 0, transfer: t, .. }) if t == transfer));
    let mut refusing = queue.clone();

    queue.receive(0, Sink::Bytes(512));
    assert!(!queue.is_blocked());
    assert_eq!(queue.handle_bytes(&stream[72..]).unwrap().used, stream.len() - 72);
    assert_eq!(queue.poll_event(), Some(Event::Arrived { slot: 0, data: vec![0xAB; 512], digest_ok: true }));
    assert!(matches!(queue.poll_event(), Some(Event::Command { slot: 1, transfer: Transfer::None, .. })));

    // Refused early: the data is dropped, what follows is read.
    refusing.respond(0, Status::INVALID_NAMESPACE, 0, 0, Source::None);
    assert_eq!(refusing.handle_bytes(&stream[72..]).unwrap().used, stream.len() - 72);
    assert_eq!(send_all(&mut refusing, &Store::default()), resp(1, 0, Status::INVALID_NAMESPACE));
}

#[test]
fn a_refusal_in_the_middle_of_asked_data_takes_the_rest_first() {
    let mut queue = fresh(false);
    queue.connected(3, false, true);
    queue.handle_bytes(&capsule(write(8192), 5, false)).unwrap();
    let mut unsent = queue.clone();
    queue.receive(0, Sink::Bytes(8192));
    let mut waiting = queue.clone();
    assert_eq!(send_all(&mut queue, &Store::default()), pdu(&R2t::new(5, 0, 0, 8192, PLAIN), &[]));
    let first = pdu(&H2cData::new(5, 0, 0, 4096, false, PLAIN), &[1; 4096]);
    let second = pdu(&H2cData::new(5, 0, 4096, 4096, true, PLAIN), &[1; 4096]);
    queue.handle_bytes(&[&first[..], &second[..100]].concat()).unwrap();
    queue.respond(0, Status::ABORT_REQUESTED, 0, 0, Source::None);
    assert!(send_all(&mut queue, &Store::default()).is_empty(), "the host may still use the tag");
    while queue.poll_event().is_some() {}
    queue.handle_bytes(&second[100..]).unwrap();
    assert_eq!(queue.poll_event(), None, "no Arrived: it was answered");
    assert_eq!(send_all(&mut queue, &Store::default()), resp(5, 0, Status::ABORT_REQUESTED));
    assert_eq!(queue.poll_event(), Some(Event::Sent { slot: 0 }));

    // An R2T that was not sent yet never is.
    for early in [&mut waiting, &mut unsent] {
        early.respond(0, Status::ABORT_REQUESTED, 0, 0, Source::None);
        assert_eq!(send_all(early, &Store::default()), resp(5, 0, Status::ABORT_REQUESTED));
    }
}

#[test]
fn sqhd_counts_answers_with_flow_control_and_success_needs_it_off() {
    let mut queue = fresh(false);
    queue.connected(2, true, true);
    for sqhd in [1, 2, 0, 1] {
        queue.handle_bytes(&capsule(Op::Nothing, 7, false)).unwrap();
        queue.respond(0, Status::SUCCESS, 0, 0, Source::None);
        assert_eq!(send_all(&mut queue, &Store::default()), resp(7, sqhd, Status::SUCCESS));
    }
    queue.handle_bytes(&capsule(read(4), 7, false)).unwrap();
    queue.respond(0, Status::SUCCESS, 0, 0, Source::Bytes(vec![9; 4]));
    let mut want = pdu(&C2hData::new(7, 0, 4, Flags::LAST, PLAIN), &[9; 4]);
    want.extend(resp(7, 2, Status::SUCCESS));
    assert_eq!(send_all(&mut queue, &Store::default()), want);

    let mut queue = fresh(false);
    let mut connect = Sqe::fabrics(1);
    connect.cid.set(1);
    queue.handle_bytes(&pdu(&CapsuleCmd::new(connect, 0, PLAIN), &[])).unwrap();
    queue.connected(2, false, true);
    queue.respond(0, Status::SUCCESS, 77, 0, Source::None);
    let cqe = CapsuleResp::read_from_bytes(&send_all(&mut queue, &Store::default())).unwrap().cqe;
    assert_eq!((cqe.sqhd.get(), cqe.dw0.get()), (0xFFFF, 77));
    for (dw0, flags, tail) in [(0, Flags::LAST | Flags::SUCCESS, 0), (5, Flags::LAST, 24)] {
        queue.handle_bytes(&capsule(read(4), 7, false)).unwrap();
        queue.respond(0, Status::SUCCESS, dw0, 0, Source::Bytes(vec![9; 4]));
        let sent = send_all(&mut queue, &Store::default());
        assert_eq!(sent[..28], pdu(&C2hData::new(7, 0, 4, flags, PLAIN), &[9; 4]));
        assert_eq!(sent.len(), 28 + tail);
    }
}

#[test]
fn an_error_brings_no_data() {
    let mut queue = fresh(false);
    queue.handle_bytes(&capsule(read(512), 7, false)).unwrap();
    queue.respond(0, Status::UNRECOVERED_READ, 0, 0, Source::Bytes(vec![9; 512]));
    assert_eq!(send_all(&mut queue, &Store::default()), resp(7, 0, Status::UNRECOVERED_READ));
}

#[test]
fn a_slot_is_free_when_its_last_byte_was_given() {
    let mut store = Store::default();
    let span = store.add(vec![1; 300_000]);
    let mut queue = fresh(false);
    queue.connected(3, false, true);
    while queue.poll_event().is_some() {}
    queue.handle_bytes(&capsule(read(300_000), 7, false)).unwrap();
    queue.handle_bytes(&capsule(read(4096), 8, false)).unwrap();
    while queue.poll_event().is_some() {}
    queue.respond(0, Status::SUCCESS, 0, 0, Source::Span(span));
    queue.respond(1, Status::SUCCESS, 0, 0, Source::Span(span.slice(0, 4096)));
    let mut list = SendList::new();
    queue.poll_send(&mut list);
    // Three PDUs for the large one; the small one need not wait for all of them.
    assert_eq!(list.bytes(), 300_000 + 3 * 24 + 4096 + 24);
    let mut halted = queue.clone();
    queue.handle_given(128 * 1024 + 24 + 4096 + 24);
    assert_eq!(queue.poll_event(), Some(Event::Sent { slot: 1 }));
    queue.handle_given(list.bytes() - (128 * 1024 + 24 + 4096 + 24) - 1);
    assert_eq!(queue.poll_event(), None);
    queue.handle_given(1);
    assert_eq!(queue.poll_event(), Some(Event::Sent { slot: 0 }));
    assert_eq!(queue.in_flight(), 0);

    // Halted, the driver drops what it holds: everything answered is free, and answers go nowhere.
    halted.handle_bytes(&capsule(Op::Nothing, 9, false)).unwrap();
    halted.halt();
    let slots: Vec<_> = core::iter::from_fn(|| halted.poll_event()).collect();
    assert!(slots.contains(&Event::Sent { slot: 0 }) && slots.contains(&Event::Sent { slot: 1 }));
    assert_eq!(halted.in_flight(), 1);
    halted.respond(2, Status::SUCCESS, 0, 0, Source::None);
    assert_eq!(halted.poll_event(), Some(Event::Sent { slot: 2 }));
    assert!(!halted.wants_send());
}

#[test]
fn a_queue_whose_last_pdu_brought_data_is_idle_once_that_was_answered() {
    for (in_capsule, len) in [(true, 512), (false, 512), (false, 8192)] {
        let mut queue = fresh(false);
        queue.connected(3, false, true);
        let mut store = Store::default();
        let span = store.add(vec![0; len as usize]);
        let mut sqe = command(write(len), 1);
        sqe.cid.set(1);
        sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
        let capsule = pdu(&CapsuleCmd::new(sqe, if in_capsule { len } else { 0 }, PLAIN), &[]);
        assert_eq!(queue.handle_bytes(&capsule[..5]).unwrap().used, 5);
        assert!(!queue.is_idle(), "a part of a header");
        queue.handle_bytes(&capsule[5..]).unwrap();
        queue.receive(0, Sink::Span(span));
        send_all(&mut queue, &store);
        let pieces = if in_capsule { 0..=0 } else { 1..=len.div_ceil(4096) };
        for piece in pieces {
            let size = len.min(4096);
            if piece > 0 {
                let (offset, last) = ((piece - 1) * size, piece * size == len);
                queue.handle_bytes(&pdu(&H2cData::new(1, 0, offset, size, last, PLAIN), &[])).unwrap();
            }
            assert!(!queue.is_idle(), "its data is not there");
            // The last bytes of the stream go straight into their place, and nothing is offered after them.
            queue.handle_bytes(&[]).unwrap();
            queue.handle_placed(size, 0);
        }
        queue.respond(0, Status::SUCCESS, 0, 0, Source::None);
        assert!(!queue.is_idle(), "its answer is not there");
        send_all(&mut queue, &store);
        assert!(queue.is_idle(), "in_capsule: {in_capsule}, len: {len}");
    }
}

#[test]
fn a_termination_request_is_told_before_the_buffers_that_it_frees() {
    let mut queue = fresh(false);
    queue.connected(3, false, true);
    queue.handle_bytes(&capsule(read(4096), 1, false)).unwrap();
    assert!(matches!(queue.poll_event(), Some(Event::Command { slot: 0, .. })));
    let mut store = Store::default();
    queue.respond(0, Status::SUCCESS, 0, 0, Source::Span(store.add(vec![1; 4096])));
    let mut list = SendList::new();
    queue.poll_send(&mut list);
    assert!(list.bytes() > 4096, "the driver has the answer, and the kernel has not");
    let end = Fatal::new(Fes::PduSequenceError, 0, "as the host says");
    queue.handle_bytes(&TermReq::encode(Direction::ToController, &end, &[0; 8])).unwrap();
    assert!(matches!(queue.poll_event(), Some(Event::TermReq { .. })));
    assert_eq!(queue.poll_event(), Some(Event::Sent { slot: 0 }));
    assert_eq!(queue.poll_event(), None);
}

#[test]
fn a_wrong_data_digest_is_reported_with_the_data() {
    let framing = Framing { hdgst: false, ddgst: true, align: 4 };
    for (in_capsule, flip) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut queue = fresh(true);
        queue.connected(3, false, true);
        let mut sqe = command(write(8192), 1);
        let (len, data) = if in_capsule { (512, 512) } else { (8192, 0) };
        sqe.set_sgl(if in_capsule { Sgl::InCapsule { len } } else { Sgl::Transport { len } });
        let mut store = Store::default();
        let span = store.add(vec![0; len as usize]);
        let mut stream = pdu(&CapsuleCmd::new(sqe, data, &framing), &vec![3; data as usize]);
        let mut pieces = vec![];
        if in_capsule {
            stream.extend(crc32c(&[3; 512]).to_le_bytes());
        } else {
            for (offset, last) in [(0, false), (4096, true)] {
                let mut piece = pdu(&H2cData::new(0, 0, offset, 4096, last, &framing), &[3; 4096]);
                piece.extend(crc32c(&[3; 4096]).to_le_bytes());
                pieces.push(piece);
            }
        }
        let at = if in_capsule { 100 } else { 50 };
        if flip {
            let first = if in_capsule { &mut stream } else { &mut pieces[0] };
            first[at] ^= 1;
        }
        let mut arrived = None;
        let mut on_event = |queue: &mut Queue, _: &mut Store, event: Event| match event {
            Event::Command { slot, .. } => queue.receive(slot, Sink::Span(span)),
            Event::Arrived { digest_ok, .. } => arrived = Some(digest_ok),
            other => panic!("{other:?}"),
        };
        receive(&mut queue, &mut store, &mut stream, &mut on_event).unwrap();
        send_all(&mut queue, &store);
        for mut piece in pieces {
            receive(&mut queue, &mut store, &mut piece, &mut on_event).unwrap();
        }
        assert_eq!(arrived, Some(!flip), "in capsule: {in_capsule}");
    }
}
