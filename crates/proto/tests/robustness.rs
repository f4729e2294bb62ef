//! A stream that was damaged, or never was one: no wrong header is accepted, nothing panics.
#![allow(clippy::unwrap_used)] // a test that unwraps nothing fails

mod common;

use common::{Op, Settings, Store, command, pattern, receive, send_all};
use interlock_proto::{Sink, Source, host, target};
use interlock_wire::IntoBytes;
use interlock_wire::pdu::{Fatal, IcReq, IcResp};
use interlock_wire::status::Status;
use proptest::prelude::*;

const SETTINGS: Settings =
    Settings { hdgst: true, ddgst: true, in_capsule: 512, maxh2cdata: 4096, depth: 8, sq_flow_control: false };

const OPS: [Op; 5] = [
    Op::Nothing,
    Op::Write { len: 64, bytes: false },
    Op::Read { len: 64, bytes: false },
    Op::Write { len: 5000, bytes: false },
    Op::Read { len: 128, bytes: true },
];

/// Answers everything at once, so that what it does depends on the stream alone.
fn answer_at_once(queue: &mut target::Queue, store: &mut Store, event: &target::Event) {
    match *event {
        target::Event::Command { slot, transfer, .. } => match transfer {
            target::Transfer::None => queue.respond(slot, Status::SUCCESS, 0, 0, Source::None),
            target::Transfer::ToHost { len } => {
                let span = store.add(pattern(9, len));
                queue.respond(slot, Status::SUCCESS, 0, 0, Source::Span(span));
            }
            target::Transfer::FromHost { len, .. } => {
                let span = store.add(vec![0; len as usize]);
                queue.receive(slot, Sink::Span(span));
            }
        },
        target::Event::Arrived { slot, .. } => queue.respond(slot, Status::SUCCESS, 0, 0, Source::None),
        target::Event::Ready { .. } => queue.connected(8, false, true),
        target::Event::Sent { .. } | target::Event::TermReq { .. } => {}
    }
}

/// One target's view of a stream to it: what it saw, what it said, how it ended.
fn feed_target(settings: Settings, pieces: &[Vec<u8>]) -> (Vec<target::Event>, Vec<Vec<u8>>, Option<Fatal>) {
    let mut queue = settings.target();
    let mut store = Store::default();
    let (mut events, mut said, mut stash) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        stash.extend_from_slice(piece);
        let end = receive(&mut queue, &mut store, &mut stash, |queue, store, event| {
            answer_at_once(queue, store, &event);
            events.push(event);
        });
        said.push(send_all(&mut queue, &store));
        if let Err(fatal) = end {
            return (events, said, Some(fatal));
        }
    }
    (events, said, None)
}

fn host_with_ops(settings: Settings, store: &mut Store) -> host::Queue {
    let mut queue = settings.host();
    for (tag, op) in OPS.into_iter().enumerate() {
        let (out, into) = match op {
            Op::Nothing => (Source::None, Sink::None),
            Op::Write { len, .. } => (Source::Span(store.add(pattern(tag as u32, len))), Sink::None),
            Op::Read { len, bytes: true } => (Source::None, Sink::Bytes(len)),
            Op::Read { len, bytes: false } => (Source::None, Sink::Span(store.add(vec![0; len as usize]))),
        };
        queue.submit(command(op, tag as u32), out, into, tag as u64).unwrap();
    }
    queue
}

fn feed_host(settings: Settings, pieces: &[Vec<u8>]) -> (Vec<host::Event>, Vec<Vec<u8>>, Option<Fatal>) {
    let mut store = Store::default();
    let mut queue = host_with_ops(settings, &mut store);
    let (mut events, mut stash) = (Vec::new(), Vec::new());
    let mut said = vec![send_all(&mut queue, &store)];
    for piece in pieces {
        stash.extend_from_slice(piece);
        let end = receive(&mut queue, &mut store, &mut stash, |_, _, event| events.push(event));
        said.push(send_all(&mut queue, &store));
        if let Err(fatal) = end {
            return (events, said, Some(fatal));
        }
    }
    (events, said, None)
}

/// What a healthy pair says, turn by turn: (to the target, to the host).
fn dialogue(settings: Settings) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut to_target, mut to_host): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    loop {
        let (events, said, fatal) = feed_host(settings, &to_host);
        assert_eq!(fatal, None);
        to_target.push(said.last().unwrap().clone());
        let (_, said, fatal) = feed_target(settings, &to_target);
        assert_eq!(fatal, None);
        if events.iter().filter(|event| matches!(event, host::Event::Completed { .. })).count() == OPS.len() {
            return (to_target, to_host);
        }
        to_host.push(said.last().unwrap().clone());
    }
}

/// Every copy of `pieces` in which one byte at or behind `from` has one bit (or all of them) flipped.
fn flips(pieces: &[Vec<u8>], from: usize) -> impl Iterator<Item = (usize, Vec<Vec<u8>>)> {
    let total: usize = pieces.iter().map(Vec::len).sum();
    let pieces = pieces.to_vec();
    (from..total).flat_map(|at| [1_u8 << (at % 8), 0xFF].map(move |mask| (at, mask))).map(move |(at, mask)| {
        let mut copy = pieces.clone();
        let mut left = at;
        for piece in &mut copy {
            if let Some(byte) = piece.get_mut(left) {
                *byte ^= mask;
                break;
            }
            left -= piece.len();
        }
        (at, copy)
    })
}

#[test]
fn no_flipped_byte_makes_a_target_believe_another_header() {
    let (to_target, _) = dialogue(SETTINGS);
    let (clean, said, _) = feed_target(SETTINGS, &to_target);
    let mut fatal = 0;
    // ICReq, the first 128 bytes, carries no digest.
    for (at, damaged) in flips(&to_target, 128) {
        let (events, heard, end) = feed_target(SETTINGS, &damaged);
        for (event, want) in events.iter().zip(&clean) {
            match (event, want) {
                (target::Event::Arrived { slot, .. }, target::Event::Arrived { slot: right, .. }) => {
                    assert_eq!(slot, right, "byte {at}");
                }
                _ => assert_eq!(event, want, "byte {at}"),
            }
        }
        let broken = events.iter().any(|event| matches!(event, target::Event::Arrived { digest_ok: false, .. }));
        assert!(end.is_some() || broken, "byte {at} was damaged and nobody noticed");
        if broken {
            assert_eq!((events.len(), &heard), (clean.len(), &said), "byte {at}: only that command suffers");
        }
        fatal += u32::from(end.is_some());
    }
    assert!(fatal > 500, "headers were damaged");
}

#[test]
fn no_flipped_byte_makes_a_host_believe_another_header() {
    let (_, to_host) = dialogue(SETTINGS);
    let (clean, ..) = feed_host(SETTINGS, &to_host);
    let mut fatal = 0;
    for (at, damaged) in flips(&to_host, 128) {
        let (events, _, end) = feed_host(SETTINGS, &damaged);
        let mut broken = false;
        for (event, want) in events.iter().zip(&clean) {
            match (event, want) {
                (
                    host::Event::Completed { token, cqe, error: Some(_), .. },
                    host::Event::Completed { token: right, cqe: answer, .. },
                ) => {
                    assert_eq!((token, cqe), (right, answer), "byte {at}");
                    broken = true;
                }
                _ => assert_eq!(event, want, "byte {at}"),
            }
        }
        assert!(end.is_some() || broken, "byte {at} was damaged and nobody noticed");
        fatal += u32::from(end.is_some());
    }
    assert!(fatal > 200, "headers were damaged");
}

#[test]
fn a_dialogue_is_the_same_in_every_run() {
    for (hdgst, ddgst) in [(false, false), (true, true)] {
        let settings = Settings { hdgst, ddgst, ..SETTINGS };
        assert_eq!(dialogue(settings), dialogue(settings));
    }
}

fn digests() -> impl Strategy<Value = Settings> {
    (any::<bool>(), any::<bool>()).prop_map(|(hdgst, ddgst)| Settings { hdgst, ddgst, ..SETTINGS })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(
        settings in digests(), greet: bool, garbage in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let icreq = IcReq::new(settings.hdgst, settings.ddgst, 4, 0).as_bytes().to_vec();
        let icresp = IcResp::new(settings.hdgst, settings.ddgst, 4, 4096).as_bytes().to_vec();
        let (icreq, icresp) = if greet { (icreq, icresp) } else { (Vec::new(), Vec::new()) };
        feed_target(settings, &[icreq, garbage.clone()]);
        feed_host(settings, &[icresp, garbage]);
    }

    /// Without digests damage is not noticed by the transport: it must still be survived, and in bounds.
    #[test]
    fn damaged_dialogues_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in 1..200_usize
    ) {
        let settings = Settings { hdgst: false, ddgst: false, ..SETTINGS };
        let (to_target, to_host) = dialogue(settings);
        let hurt = |pieces: Vec<Vec<u8>>| -> Vec<Vec<u8>> {
            let mut stream = pieces.concat();
            for (at, value) in &damage {
                let at = at.index(stream.len());
                stream[at] = *value;
            }
            stream.chunks(cut).map(<[u8]>::to_vec).collect()
        };
        feed_target(settings, &hurt(to_target));
        feed_host(settings, &hurt(to_host));
    }
}
