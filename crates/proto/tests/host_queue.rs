//! What fencing rests on: what the controller may know of, silence after a halt, and no byte into a buffer that is gone.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use common::{Settings, Store, flatten, pattern, receive, send_all};
use interlock_base::Span;
use interlock_proto::host::{Event, Full, Queue, Sent};
use interlock_proto::{DataError, SendList, Sink, Source};
use interlock_wire::digest::crc32c;
use interlock_wire::pdu::{C2hData, CapsuleResp, Flags, Framing, H2cData, IcResp, R2t, encode_header};
use interlock_wire::sqe::{Cqe, Sqe};
use interlock_wire::status::Status;
use interlock_wire::{FromBytes, IntoBytes};

const PLAIN: &Framing = &Framing::PLAIN;

fn ready(settings: Settings) -> Queue {
    let mut queue = settings.host();
    send_all(&mut queue, &Store::default());
    queue.handle_bytes(IcResp::new(settings.hdgst, settings.ddgst, 4, 4096).as_bytes()).unwrap();
    assert_eq!(queue.poll_event(), Some(Event::Ready { maxh2cdata: 4096 }));
    queue
}

fn pdu<T: IntoBytes + zerocopy::Immutable>(header: &T, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(header, &mut out);
    out.extend_from_slice(data);
    out
}

fn answer(cid: u16, status: Status) -> Vec<u8> {
    pdu(&CapsuleResp::new(Cqe::new(cid, 0, status), PLAIN), &[])
}

fn c2h(cid: u16, offset: u32, data: &[u8], flags: Flags) -> Vec<u8> {
    pdu(&C2hData::new(cid, offset, data.len() as u32, flags, PLAIN), data)
}

fn sent(queue: &Queue) -> Vec<(u64, Sent)> {
    let mut all: Vec<_> = queue.outstanding().map(|o| (o.order, o.token, o.sent)).collect();
    all.sort_unstable_by_key(|entry| entry.0);
    all.into_iter().map(|(_, token, sent)| (token, sent)).collect()
}

fn write(queue: &mut Queue, len: u32, token: u64) -> u16 {
    queue.submit(Sqe::new(1), Source::Bytes(pattern(token as u32, len)), Sink::None, token).unwrap()
}

#[test]
fn a_command_is_begun_with_its_first_byte() {
    let mut queue = Settings { in_capsule: 4096, ..Settings::PLAIN }.host();
    // Submitted before the connection is there: waits behind ICReq.
    write(&mut queue, 512, 1);
    let mut list = SendList::new();
    queue.poll_send(&mut list);
    assert_eq!(list.bytes(), 128, "only ICReq");
    queue.handle_given(128);
    assert_eq!(sent(&queue), [(1, Sent::Nothing)]);
    queue.handle_bytes(IcResp::new(false, false, 4, 4096).as_bytes()).unwrap();
    write(&mut queue, 512, 2);
    write(&mut queue, 512, 3);
    let mut list = SendList::new();
    queue.poll_send(&mut list);
    assert_eq!(list.bytes(), 3 * (72 + 512));
    assert_eq!(sent(&queue), [(1, Sent::Nothing), (2, Sent::Nothing), (3, Sent::Nothing)], "polled is not given");
    queue.handle_given(1);
    assert_eq!(sent(&queue), [(1, Sent::Begun), (2, Sent::Nothing), (3, Sent::Nothing)]);
    queue.handle_given(72 + 512 - 1);
    assert_eq!(sent(&queue)[1], (2, Sent::Nothing), "the first one is given whole, not a byte of the second");
    queue.handle_given(1);
    assert_eq!(sent(&queue), [(1, Sent::Begun), (2, Sent::Begun), (3, Sent::Nothing)]);
    // The kernel takes nothing more; the driver drops the rest.
    queue.halt();
    assert_eq!(sent(&queue), [(1, Sent::Begun), (2, Sent::Begun), (3, Sent::Nothing)]);
}

#[test]
fn after_a_halt_nothing_is_sent_and_answers_still_count() {
    let mut queue = ready(Settings::PLAIN);
    let first = write(&mut queue, 8192, 1);
    let second = write(&mut queue, 8192, 2);
    send_all(&mut queue, &Store::default());
    queue.handle_bytes(&pdu(&R2t::new(first, 5, 0, 8192, PLAIN), &[])).unwrap();
    assert!(queue.wants_send());
    queue.halt();
    assert!(!queue.wants_send());
    assert!(send_all(&mut queue, &Store::default()).is_empty(), "no data for an R2T that came before");
    queue.handle_bytes(&pdu(&R2t::new(second, 6, 0, 8192, PLAIN), &[])).unwrap();
    assert!(send_all(&mut queue, &Store::default()).is_empty(), "no data for a late R2T");
    write(&mut queue, 512, 3);
    assert!(send_all(&mut queue, &Store::default()).is_empty(), "no new command");
    queue.handle_bytes(&answer(second, Status::INTERNAL_ERROR)).unwrap();
    let Some(Event::Completed { token: 2, cqe, .. }) = queue.poll_event() else { panic!() };
    assert_eq!(cqe.status(), Status::INTERNAL_ERROR);
    assert_eq!(sent(&queue), [(1, Sent::Begun), (3, Sent::Nothing)]);
    queue.handle_bytes(&[0xFF; 8]).unwrap_err();
    assert!(send_all(&mut queue, &Store::default()).is_empty(), "no termination request");
}

#[test]
fn a_halt_before_anything_was_sent_sends_nothing_at_all() {
    let mut queue = Settings::PLAIN.host();
    write(&mut queue, 512, 1);
    queue.halt();
    assert!(send_all(&mut queue, &Store::default()).is_empty());
    assert_eq!(sent(&queue), [(1, Sent::Nothing)]);
}

#[test]
fn a_detached_read_never_touches_its_buffer_again() {
    let mut store = Store::default();
    let span = store.add(vec![0xEE; 8192]);
    let mut queue = ready(Settings::PLAIN);
    let cid = queue.submit(Sqe::new(2), Source::None, Sink::Span(span), 1).unwrap();
    send_all(&mut queue, &store);
    let data = pattern(1, 8192);
    let mut stream = c2h(cid, 0, &data[..4096], Flags::empty());
    stream.extend(c2h(cid, 4096, &data[4096..], Flags::LAST | Flags::SUCCESS));
    // Detached in the middle of the first PDU.
    let mut stash = stream[..1024].to_vec();
    receive(&mut queue, &mut store, &mut stash, |_, _, event| panic!("{event:?}")).unwrap();
    assert_eq!(queue.direct(1), Some(span.slice(1000, 3096)));
    queue.detach(1);
    assert_eq!(queue.direct(1), None);
    let mut stash = stream[1024..].to_vec();
    let mut events = Vec::new();
    receive(&mut queue, &mut store, &mut stash, |_, _, event| events.push(event)).unwrap();
    assert!(store.get(span)[..1000] == data[..1000] && store.get(span)[1000..].iter().all(|b| *b == 0xEE));
    let [Event::Completed { token: 1, data, error: None, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(data.is_empty());
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn detaching_before_the_data_comes_skips_all_of_it() {
    let mut store = Store::default();
    let span = store.add(vec![0xEE; 512]);
    let mut queue = ready(Settings { ddgst: true, ..Settings::PLAIN });
    let cid = queue.submit(Sqe::new(2), Source::None, Sink::Span(span), 1).unwrap();
    send_all(&mut queue, &store);
    queue.detach(1);
    let framing = Framing { hdgst: false, ddgst: true, align: 4 };
    let mut stash = pdu(&C2hData::new(cid, 0, 512, Flags::LAST, &framing), &[1; 512]);
    stash.extend([0; 4]); // a wrong digest of data that nobody wants
    stash.extend(answer(cid, Status::SUCCESS));
    let mut events = Vec::new();
    receive(&mut queue, &mut store, &mut stash, |_, _, event| events.push(event)).unwrap();
    assert!(matches!(events[..], [Event::Completed { token: 1, error: None, .. }]));
    assert_eq!(store.get(span), [0xEE; 512]);
}

#[test]
fn a_completion_waits_until_no_byte_of_the_command_is_still_to_be_given() {
    let mut store = Store::default();
    let span = store.add(pattern(1, 4096));
    let mut queue = ready(Settings { in_capsule: 4096, ..Settings::PLAIN });
    let cid = queue.submit(Sqe::new(1), Source::Span(span), Sink::None, 1).unwrap();
    let mut list = SendList::new();
    queue.poll_send(&mut list);
    queue.handle_given(100);
    // An impatient controller refuses it by its header.
    queue.handle_bytes(&answer(cid, Status::INVALID_NAMESPACE)).unwrap();
    assert_eq!(queue.poll_event(), None, "buffer_outlives_its_last_use");
    assert_eq!((queue.outstanding().count(), queue.in_flight()), (0, 1));
    let mut halted = queue.clone();
    queue.handle_given(72 + 4096 - 100 - 1);
    assert_eq!(queue.poll_event(), None);
    queue.handle_given(1);
    assert!(matches!(queue.poll_event(), Some(Event::Completed { token: 1, .. })));
    // If the driver drops what it holds, nothing is to be waited for.
    halted.halt();
    assert!(matches!(halted.poll_event(), Some(Event::Completed { token: 1, .. })));
}

#[test]
fn several_r2ts_one_after_the_other_are_answered() {
    let mut store = Store::default();
    let data = pattern(1, 20480);
    let span: Span = store.add(data.clone());
    let mut queue = ready(Settings::PLAIN);
    let cid = queue.submit(Sqe::new(1), Source::Span(span), Sink::None, 1).unwrap();
    assert_eq!(send_all(&mut queue, &store).len(), 72);
    let mut at = 0;
    for (ttag, len) in [(3_u16, 4096_u32), (9, 10240), (3, 6144)] {
        queue.handle_bytes(&pdu(&R2t::new(cid, ttag, at, len, PLAIN), &[])).unwrap();
        let mut sent = send_all(&mut queue, &store);
        let mut left = len;
        while left > 0 {
            let piece = left.min(4096);
            let header = H2cData::new(cid, ttag, at, piece, piece == left, PLAIN);
            let want = pdu(&header, &data[at as usize..][..piece as usize]);
            assert!(sent[..want.len()] == want);
            sent.drain(..want.len());
            (at, left) = (at + piece, left - piece);
        }
        assert!(sent.is_empty());
    }
    queue.handle_bytes(&answer(cid, Status::SUCCESS)).unwrap();
    assert!(matches!(queue.poll_event(), Some(Event::Completed { token: 1, error: None, .. })));
}

#[test]
fn success_with_too_little_data_is_short() {
    let mut queue = ready(Settings::PLAIN);
    let read = queue.submit(Sqe::new(2), Source::None, Sink::Bytes(1024), 1).unwrap();
    let failed = queue.submit(Sqe::new(2), Source::None, Sink::Bytes(1024), 2).unwrap();
    let flagged = queue.submit(Sqe::new(2), Source::None, Sink::Bytes(1024), 3).unwrap();
    let unasked = write(&mut queue, 8192, 4);
    send_all(&mut queue, &Store::default());
    let mut stream = c2h(read, 0, &[1; 512], Flags::LAST);
    stream.extend(answer(read, Status::SUCCESS));
    stream.extend(c2h(failed, 0, &[1; 512], Flags::empty()));
    stream.extend(answer(failed, Status::UNRECOVERED_READ));
    stream.extend(c2h(flagged, 0, &[1; 4], Flags::LAST | Flags::SUCCESS));
    stream.extend(answer(unasked, Status::SUCCESS));
    queue.handle_bytes(&stream).unwrap();
    let errors: Vec<_> = core::iter::from_fn(|| queue.poll_event())
        .map(|event| match event {
            Event::Completed { token, error, data, .. } => (token, error, data.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    let short = Some(DataError::Short);
    assert_eq!(errors, [(1, short, 512), (2, None, 512), (3, short, 4), (4, short, 0)]);
}

#[test]
fn a_wrong_data_digest_fails_its_command_and_no_other() {
    let mut store = Store::default();
    let span = store.add(vec![0; 1024]);
    let mut queue = ready(Settings { ddgst: true, ..Settings::PLAIN });
    let framing = Framing { hdgst: false, ddgst: true, align: 4 };
    let data = pattern(1, 1024);
    for (token, sink, flip) in [
        (1, Sink::Span(span), true),
        (2, Sink::Span(span), false),
        (3, Sink::Bytes(1024), true),
        (4, Sink::Bytes(1024), false),
    ] {
        let cid = queue.submit(Sqe::new(2), Source::None, sink, token).unwrap();
        send_all(&mut queue, &store);
        let mut stash = pdu(&C2hData::new(cid, 0, 1024, Flags::LAST | Flags::SUCCESS, &framing), &data);
        stash.extend(crc32c(&data).to_le_bytes());
        if flip {
            stash[700] ^= 0x10;
        }
        let mut events = Vec::new();
        receive(&mut queue, &mut store, &mut stash, |_, _, event| events.push(event)).unwrap();
        let [Event::Completed { error, cqe, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((*error, cqe.status()), (flip.then_some(DataError::Digest), Status::SUCCESS), "{token}");
    }
}

#[test]
fn the_queue_is_full_at_its_depth_and_identifiers_change() {
    let mut queue = ready(Settings { depth: 2, ..Settings::PLAIN });
    let mut seen = Vec::new();
    for round in 0..40 {
        let a = queue.submit(Sqe::new(0), Source::None, Sink::None, round).unwrap();
        let b = queue.submit(Sqe::new(0), Source::None, Sink::None, round).unwrap();
        assert_eq!(queue.submit(Sqe::new(0), Source::None, Sink::None, round), Err(Full));
        send_all(&mut queue, &Store::default());
        queue.handle_bytes(&[answer(b, Status::SUCCESS), answer(a, Status::SUCCESS)].concat()).unwrap();
        while queue.poll_event().is_some() {}
        seen.extend([a, b]);
    }
    seen.sort_unstable();
    let all = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), all, "no identifier comes back soon");
    assert!(!seen.contains(&0xFFFF));
}

#[test]
fn fabrics_commands_bring_their_data_whatever_the_capsule_size() {
    let mut queue = ready(Settings { in_capsule: 0, ..Settings::PLAIN });
    queue.submit(Sqe::fabrics(1), Source::Bytes(vec![1; 1024]), Sink::None, 1).unwrap();
    assert_eq!(send_all(&mut queue, &Store::default()).len(), 72 + 1024);
    write(&mut queue, 512, 2);
    assert_eq!(send_all(&mut queue, &Store::default()).len(), 72);
    queue.set_in_capsule(512);
    write(&mut queue, 512, 3);
    let sent = send_all(&mut queue, &Store::default());
    assert_eq!(sent.len(), 72 + 512);
    let sqe = Sqe::read_from_bytes(&sent[8..72]).unwrap();
    assert_eq!((sqe.flags, sqe.sgl1.kind, sqe.sgl1.length.get()), (0x40, 0x01, 512));
}

#[test]
fn one_poll_is_bounded_and_the_rest_follows() {
    let mut store = Store::default();
    let mut queue = ready(Settings { in_capsule: 1 << 20, depth: 8, ..Settings::PLAIN });
    for token in 0..8 {
        let span = store.add(vec![0; 512 * 1024]);
        queue.submit(Sqe::new(1), Source::Span(span), Sink::None, token).unwrap();
    }
    let mut polls = 0;
    loop {
        let mut list = SendList::new();
        queue.poll_send(&mut list);
        if list.is_empty() {
            break;
        }
        assert!(list.bytes() < interlock_proto::MAX_POLL_BYTES + 600 * 1024);
        assert_eq!(flatten(&list, &store).len() as u64, list.bytes());
        polls += 1;
    }
    assert_eq!(polls, 4);
}
