//! Whatever the client sends, what is submitted is aligned, inside, and allowed.

use super::handshake::Agreed;
use super::transmission::{Command, PAYLOAD_MAX, Request, Taken, Then, Transmission, View};
use super::wire::*;
use proptest::prelude::*;

fn machine(structured: bool) -> Transmission {
    Transmission::new(&Agreed { name: "a".into(), structured, allocation: structured })
}

const VIEW: View = View { size: 1 << 20, block: 4096, read_only: false };

fn request(flags: u16, kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    [
        &REQUEST.to_be_bytes()[..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
    ]
    .concat()
}

/// What a driver sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Submit(Request, Option<Vec<u8>>),
    Refuse(u64, Errno),
    Disconnect,
    Broken,
}

/// Drives a machine over `bytes`, `step` at a time; `direct` places large payload as a driver's direct receive does.
fn drive(view: &View, bytes: &[u8], step: usize, direct: bool) -> Vec<Seen> {
    let mut machine = machine(true);
    let mut seen = Vec::new();
    let mut incoming: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + step).min(bytes.len());
        if direct && let Some((place, len)) = machine.direct(1) {
            let len = (len as usize).min(end - at);
            incoming.as_mut().unwrap()[place as usize..][..len].copy_from_slice(&bytes[at..at + len]);
            at += len;
            seen.extend(machine.handle_placed(len as u32).map(|done| Seen::Submit(done, incoming.take())));
            continue;
        }
        let Taken { used, then } = machine.handle_bytes(view, &bytes[at..end]);
        assert!(used <= end - at);
        at += used;
        match then {
            Then::More => assert!(used > 0, "no progress"),
            Then::Announced { len } => incoming = Some(vec![0; len as usize]),
            Then::Place { at: place, len } => {
                assert!(len > 0 && len as usize <= end - at);
                incoming.as_mut().unwrap()[place as usize..][..len as usize]
                    .copy_from_slice(&bytes[at..][..len as usize]);
                at += len as usize;
                seen.extend(machine.handle_placed(len).map(|done| Seen::Submit(done, incoming.take())));
            }
            Then::Submit(request) => seen.push(Seen::Submit(request, None)),
            Then::Refuse { cookie, errno, .. } => seen.push(Seen::Refuse(cookie, errno)),
            Then::Disconnect => seen.push(Seen::Disconnect),
            Then::Broken(_) => seen.push(Seen::Broken),
        }
    }
    seen
}

#[test]
fn every_split_gives_the_same_commands() {
    let payload: Vec<u8> = (0..8192_u32).map(|at| at as u8).collect();
    let bytes = [
        request(0, CMD_READ, 1, 0, 4096),
        request(0, CMD_WRITE, 2, 4096, 8192),
        payload.clone(),
        request(0, CMD_WRITE, 3, 100, 8192), // refused: its payload is read past
        payload.clone(),
        request(CMD_FLAG_FUA, CMD_WRITE, 4, 0, 4096),
        payload[..4096].to_vec(),
        request(0, CMD_FLUSH, 5, 0, 0),
        request(0, CMD_DISC, 6, 0, 0),
        b"nothing after a goodbye counts".to_vec(),
    ]
    .concat();
    let submit =
        |cookie, command, data: Option<&[u8]>| Seen::Submit(Request { cookie, command }, data.map(<[u8]>::to_vec));
    let want = [
        submit(1, Command::Read { offset: 0, len: 4096 }, None),
        submit(2, Command::Write { offset: 4096, len: 8192, fua: false }, Some(&payload)),
        Seen::Refuse(3, Errno::Invalid),
        submit(4, Command::Write { offset: 0, len: 4096, fua: true }, Some(&payload[..4096])),
        submit(5, Command::Flush, None),
        Seen::Disconnect,
    ];
    for step in (1..64).chain([4096, 5000, bytes.len()]) {
        for direct in [false, true] {
            assert_eq!(drive(&VIEW, &bytes, step, direct), want, "{step} bytes at a time, direct: {direct}");
        }
    }
}

/// A client that sends its payload and reads nothing meanwhile must not find an answer in its way, and one that reads each
/// answer before it sends more must not take the answer for that of something else.
#[test]
fn a_refusal_comes_after_the_payload() {
    let too_long = PAYLOAD_MAX + 4096;
    let wide = View { size: 1 << 40, ..VIEW };
    for (view, header, errno) in [
        (VIEW, request(0, CMD_WRITE, 7, 100, 8192), Errno::Invalid),
        (VIEW, request(0, CMD_WRITE, 7, VIEW.size, 4096), Errno::NoSpace),
        (VIEW, request(0x8000, CMD_WRITE, 7, 0, 4096), Errno::Invalid),
        (View { read_only: true, ..VIEW }, request(0, CMD_WRITE, 7, 0, 4096), Errno::Perm),
        (wide, request(0, CMD_WRITE, 7, 0, too_long), Errno::Invalid),
    ] {
        let len = be32(&header, 24).unwrap() as usize;
        let mut machine = machine(false);
        assert_eq!(machine.handle_bytes(&view, &header), Taken { used: 28, then: Then::More });
        assert!(!machine.is_between(), "its payload follows");
        assert_eq!(machine.handle_bytes(&view, &vec![0; len - 1]), Taken { used: len - 1, then: Then::More });
        let Taken { used: 1, then: Then::Refuse { cookie: 7, errno: got, .. } } = machine.handle_bytes(&view, &[0; 9])
        else {
            panic!("not refused after its last byte")
        };
        assert_eq!(got, errno);
        assert!(machine.is_between(), "in step");
    }
}

#[test]
fn a_write_without_memory_is_refused_after_its_payload() {
    let mut machine = machine(false);
    let announced = machine.handle_bytes(&VIEW, &request(0, CMD_WRITE, 9, 0, 4096)).then;
    assert_eq!(announced, Then::Announced { len: 4096 });
    machine.handle_no_memory();
    assert_eq!(machine.handle_bytes(&VIEW, &[1; 4095]), Taken { used: 4095, then: Then::More });
    let then = machine.handle_bytes(&VIEW, &[1]).then;
    assert!(matches!(then, Then::Refuse { cookie: 9, errno: Errno::NoMemory, .. }), "{then:?}");
}

#[test]
fn commands_are_bounded_between_each_other_only() {
    let mut machine = machine(false);
    assert!(machine.is_between());
    let bytes = request(0, CMD_WRITE, 1, 0, 4096);
    machine.handle_bytes(&VIEW, &bytes[..10]);
    assert!(!machine.is_between(), "in a header");
    machine.handle_bytes(&VIEW, &bytes[10..]);
    assert!(!machine.is_between(), "before the payload");
    assert_eq!(machine.direct(4096), Some((0, 4096)));
    assert_eq!(machine.direct(4097), None);
    machine.handle_placed(96);
    assert_eq!(machine.direct(1), Some((96, 4000)));
    assert!(machine.handle_placed(4000).is_some());
    assert!(machine.is_between());
}

#[test]
fn replies_are_what_the_protocol_says() {
    let (simple, structured) = (machine(false), machine(true));
    assert_eq!(simple.done(7), [&SIMPLE_REPLY.to_be_bytes()[..], &[0; 4], &7_u64.to_be_bytes()].concat());
    assert_eq!(simple.data(7, 0, 512), simple.done(7));
    assert_eq!(simple.error(7, Errno::NoSpace, "why")[4..8], [0, 0, 0, 28]);
    let head = |kind: u16, len: u32| {
        [&STRUCTURED_REPLY.to_be_bytes()[..], &[0, 1], &kind.to_be_bytes(), &7_u64.to_be_bytes(), &len.to_be_bytes()]
            .concat()
    };
    assert_eq!(structured.data(7, 4096, 512), [head(1, 520), 4096_u64.to_be_bytes().to_vec()].concat());
    assert_eq!(structured.data(7, 0, 0), head(0, 0));
    assert_eq!(structured.block_status(7, 9), [head(5, 12), vec![0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0]].concat());
    let why = "x".repeat(5000);
    let error = structured.error(7, Errno::Io, &why);
    assert_eq!(error, [head(0x8001, 6 + 4096), vec![0, 0, 0, 5, 0x10, 0], why.as_bytes()[..4096].to_vec()].concat());
}

proptest! {
    /// Nearly right requests and garbage: no panic, progress, and only what may be done is submitted.
    #[test]
    fn whatever_is_submitted_may_be_done(
        parts in prop::collection::vec(part(), 0..20),
        step in 1_usize..9000,
        block in prop_oneof![Just(512_u32), Just(4096)],
        read_only: bool,
        direct: bool,
    ) {
        let view = View { size: 1 << 20, block, read_only };
        let inside = |offset: u64, len: u32| {
            offset.is_multiple_of(u64::from(block)) && len.is_multiple_of(block) && offset + u64::from(len) <= view.size
        };
        for seen in drive(&view, &parts.concat(), step, direct) {
            let Seen::Submit(request, data) = seen else { continue };
            match request.command {
                Command::Read { offset, len } => prop_assert!(inside(offset, len) && len <= PAYLOAD_MAX),
                Command::Write { offset, len, .. } => {
                    prop_assert!(inside(offset, len) && !read_only);
                    prop_assert_eq!(data.map_or(0, |data| data.len()), len as usize);
                }
                Command::Trim { offset, len, .. } | Command::WriteZeroes { offset, len, .. } => {
                    prop_assert!(inside(offset, len) && !read_only);
                }
                Command::BlockStatus { len } => prop_assert!(len > 0 && u64::from(len) <= view.size),
                Command::Flush => {}
            }
        }
    }
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![(0_u64..300).prop_map(|block| block * 4096), any::<u64>(), 0_u64..(1 << 20)];
    let len = prop_oneof![(0_u32..5).prop_map(|block| block * 4096), any::<u32>(), 0_u32..9000];
    prop_oneof![
        8 => (any::<bool>(), 0_u16..9, any::<u64>(), offset, len, any::<bool>()).prop_map(
            |(flagged, kind, cookie, offset, len, paid)| {
                let mut bytes = request(if flagged { 1 } else { 0 }, kind, cookie, offset, len);
                if kind == CMD_WRITE && paid && len < 20_000 {
                    bytes.extend(vec![0xaa; len as usize]);
                }
                bytes
            }
        ),
        1 => prop::collection::vec(any::<u8>(), 0..100),
    ]
}
