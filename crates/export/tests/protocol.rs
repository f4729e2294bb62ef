//! What a client may rely on, and what a bad one cannot do: byte by byte against an export over two paths.

mod common;

use common::raw::{Answer, DISC, FAST_ZERO, FLUSH, FUA, NO_HOLE, READ, Raw, STATUS, TRIM, WRITE, ZEROES, request};
use common::{Dir, PATIENCE, Setting, Stage, wait_for};
use interlock_export::{ExportError, ExportSettings, NbdServer, NbdSettings, OnLoss, Stop, UblkDevice, UblkSettings};
use interlock_host::Shape;
use interlock_target::{Fault, PortId};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const ENOTSUP: u32 = 95;

const BLOCK: u32 = 4096;
const PORTS: [PortId; 2] = [PortId(0), PortId(1)];

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at / 512) as u8 ^ at as u8 ^ seed).collect()
}

fn all_ports(stage: &Stage, fault: impl Fn(PortId) -> Fault) {
    PORTS.into_iter().for_each(|port| stage.target.script(fault(port)));
}

#[test]
fn every_command_does_what_it_says() {
    let stage = Stage::set(&Setting::default()).exported();
    for structured in [false, true] {
        let mut raw = Raw::open(stage.socket(), "disk", structured);
        assert_eq!((raw.size, raw.block_min), (64 << 20, BLOCK));
        let data = pattern(5 << 20, 7);
        assert_eq!(raw.write(BLOCK.into(), &data), Answer::Done);
        assert_eq!(raw.read(BLOCK.into(), 5 << 20), Answer::Data(data.clone()), "more than one command carries");
        assert_eq!(raw.ask(WRITE, FUA, 0, BLOCK, &data[..BLOCK as usize]), Answer::Done);
        assert_eq!(raw.ask(FLUSH, 0, 0, 0, &[]), Answer::Done);
        for flags in [0, FUA, NO_HOLE, NO_HOLE | FUA, FAST_ZERO] {
            assert_eq!(raw.write(0, &data[..3 * BLOCK as usize]), Answer::Done);
            assert_eq!(raw.ask(ZEROES, flags, BLOCK.into(), BLOCK, &[]), Answer::Done);
            let Answer::Data(back) = raw.read(0, 3 * BLOCK) else { panic!("no data") };
            let block = BLOCK as usize;
            assert!(back[block..2 * block].iter().all(|byte| *byte == 0), "flags {flags}");
            assert_eq!((&back[..block], &back[2 * block..]), (&data[..block], &data[2 * block..3 * block]));
        }
        assert!(matches!(raw.ask(ZEROES, NO_HOLE | FAST_ZERO, 0, BLOCK, &[]), Answer::Error(ENOTSUP, _)));
        assert_eq!(raw.ask(TRIM, 0, 0, 32 << 20, &[]), Answer::Done);
        assert_eq!(raw.ask(TRIM, FUA, 0, BLOCK, &[]), Answer::Done);
        if structured {
            assert_eq!(raw.ask(STATUS, 0, BLOCK.into(), 8 * BLOCK, &[]), Answer::Extents(vec![(8 * BLOCK, 0)]));
        }
        assert_eq!(raw.read(0, 0), Answer::Done);
        raw.command(DISC, 0, 1, 0, 0, &[]);
        raw.ends();
    }
    let counters = wait_for("both are gone", || Some(stage.status()).filter(|now| now.connections.is_empty())).counters;
    assert_eq!((counters.writes, counters.trims, counters.zeroes, counters.flushes), (14, 4, 10, 2));
    assert_eq!((counters.errors, counters.abandoned, counters.in_flight), (2, 0, 0));
    stage.strike();
}

#[test]
fn what_cannot_be_done_is_refused_with_its_number_and_the_connection_goes_on() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut read_only = ExportSettings::new("frozen", stage.namespace());
    read_only.read_only = true;
    stage.server.add(read_only).unwrap();
    let size: u64 = 64 << 20;
    let block = BLOCK as usize;
    let cases = [
        (READ, 0, 1, BLOCK, EINVAL),
        (READ, 0, 0, BLOCK + 512, EINVAL),
        (WRITE, 0, 512, 512, EINVAL),
        (READ, 0, size, BLOCK, EINVAL),
        (READ, 0, u64::MAX - 4095, BLOCK, EINVAL),
        (WRITE, 0, size - 4096, 2 * BLOCK, ENOSPC),
        (ZEROES, 0, size, BLOCK, ENOSPC),
        (TRIM, 0, size - 4096, 2 * BLOCK, EINVAL),
        (TRIM, 0, 4096, 100, EINVAL),
        (READ, 0, 0, 33 << 20, EINVAL),
        (READ, 1 << 9, 0, BLOCK, EINVAL),
        (WRITE, NO_HOLE, 0, BLOCK, EINVAL),
        (STATUS, 0, 0, 0, EINVAL),
        (5, 0, 0, BLOCK, EINVAL),
        (999, 0, 0, 0, EINVAL),
    ];
    for structured in [false, true] {
        let mut raw = Raw::open(stage.socket(), "disk", structured);
        for (kind, flags, offset, len, errno) in cases {
            let payload = if kind == WRITE { pattern(len as usize, 1) } else { Vec::new() };
            let Answer::Error(got, why) = raw.ask(kind, flags, offset, len, &payload) else {
                panic!("{kind} {flags} {offset} {len} was done")
            };
            assert_eq!(got, errno, "{kind} {flags} {offset} {len}: {why}");
            assert_eq!(why.is_empty(), !structured, "a sentence where there is room for one");
        }
        assert_eq!(raw.write(0, &pattern(block, 3)), Answer::Done);
        assert_eq!(raw.read(0, BLOCK), Answer::Data(pattern(block, 3)), "the stream is still in step");
        let mut frozen = Raw::open(stage.socket(), "frozen", structured);
        assert_eq!(frozen.flags & 2, 2, "NBD_FLAG_READ_ONLY");
        for kind in [WRITE, TRIM, ZEROES] {
            let payload = if kind == WRITE { pattern(block, 1) } else { Vec::new() };
            assert!(matches!(frozen.ask(kind, 0, 0, BLOCK, &payload), Answer::Error(EPERM, _)));
        }
        assert_eq!(frozen.read(0, BLOCK), Answer::Data(pattern(block, 3)));
    }
    stage.strike();
}

#[test]
fn small_transfers_and_small_blocks_are_cut_and_joined() {
    let setting = Setting { block_size: 512, more: "max_transfer_kib = 16", ..Setting::default() };
    let stage = Stage::set(&setting).exported();
    let mut raw = Raw::open(stage.socket(), "disk", true);
    assert_eq!(raw.block_min, 512);
    let data = pattern((3 << 20) + 512, 9);
    assert_eq!(raw.write(512, &data), Answer::Done);
    assert_eq!(raw.read(512, (3 << 20) + 512), Answer::Data(data));
    assert_eq!(raw.ask(ZEROES, 0, 0, 48 << 20, &[]), Answer::Done, "98,304 blocks: more than one command names");
    assert_eq!(raw.read(0, 4 << 20), Answer::Data(vec![0; 4 << 20]));
    stage.strike();
}

#[test]
fn a_goodbye_waits_for_its_writes() {
    let stage = Stage::set(&Setting::default()).exported();
    all_ports(&stage, |port| Fault::HoldWrites { port });
    let mut raw = Raw::open(stage.socket(), "disk", true);
    let data = pattern(BLOCK as usize, 5);
    raw.command(WRITE, 0, 42, 0, BLOCK, &data);
    raw.command(DISC, 0, 43, 0, 0, &[]);
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    // Closed without reading: it said goodbye, so its write counts.
    drop(raw);
    let mut other = Raw::open(stage.socket(), "disk", true);
    assert!(matches!(other.read(0, BLOCK), Answer::Data(_)), "reads go on");
    assert_eq!(stage.status().connections.len(), 2, "it waits");
    stage.target.script(Fault::Release);
    let status = wait_for("it ends", || Some(stage.status()).filter(|now| now.connections.len() == 1));
    assert_eq!((status.counters.writes, status.counters.abandoned), (1, 0));
    assert_eq!(other.read(0, BLOCK), Answer::Data(data));
    stage.strike();
}

#[test]
fn a_client_that_vanishes_abandons_its_writes_and_they_are_guarded() {
    let stage = Stage::set(&Setting::default()).exported();
    all_ports(&stage, |port| Fault::HoldWrites { port });
    let mut raw = Raw::open(stage.socket(), "disk", false);
    raw.command(WRITE, 0, 1, 0, BLOCK, &pattern(BLOCK as usize, 1));
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    drop(raw);
    wait_for("it is abandoned", || {
        let now = stage.status();
        (now.connections.is_empty() && now.counters.abandoned == 1).then_some(())
    });
    all_ports(&stage, |port| Fault::StopHolding { port });
    let mut other = Raw::open(stage.socket(), "disk", false);
    let newer = pattern(BLOCK as usize, 2);
    other.command(WRITE, 0, 2, 0, BLOCK, &newer);
    wait_for("the newer write waits for the older one", || {
        let lanes = stage.host.lanes().unwrap();
        lanes.iter().any(|(_, counters)| counters.guarded >= 1).then_some(())
    });
    stage.target.script(Fault::Release);
    assert_eq!(other.answer(0), (2, Answer::Done));
    assert_eq!(other.read(0, BLOCK), Answer::Data(newer));
    stage.strike();
}

#[test]
fn with_hold_a_client_waits_for_a_path_and_its_fence() {
    let fast_io_fail = Some(Duration::from_millis(100));
    let stage = Stage::set(&Setting { fast_io_fail, ..Setting::default() }).exported();
    let data = pattern(BLOCK as usize, 6);
    all_ports(&stage, |port| Fault::HoldWrites { port });
    let mut raw = Raw::open(stage.socket(), "disk", true);
    raw.command(WRITE, 0, 1, 0, BLOCK, &data);
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    all_ports(&stage, |port| Fault::ClosePort { port });
    // In doubt, and no path: the read shows that the host has given up the paths.
    raw.command(READ, 0, 2, 1 << 20, BLOCK, &[]);
    let held = wait_for("the read is held", || Some(stage.status().counters).filter(|now| now.held >= 1));
    assert!(held.held_since.is_some());
    assert_eq!(held.errors, 0);
    all_ports(&stage, |port| Fault::StopHolding { port });
    all_ports(&stage, |port| Fault::OpenPort { port });
    let mut answers = [raw.answer(BLOCK as usize), raw.answer(BLOCK as usize)];
    answers.sort_by_key(|(cookie, _)| *cookie);
    assert_eq!(answers[0], (1, Answer::Done));
    assert!(matches!(answers[1], (2, Answer::Data(_))));
    // The held copy of the target is a ghost now; it must not have been counted upon.
    stage.target.script(Fault::Release);
    assert_eq!(raw.read(0, BLOCK), Answer::Data(data));
    assert_eq!(stage.status().counters.errors, 0);
    stage.strike();
}

#[test]
fn with_fail_a_client_is_told_as_soon_as_the_host_gives_up() {
    let fast_io_fail = Some(Duration::from_millis(100));
    let stage = Stage::set(&Setting { fast_io_fail, ..Setting::default() });
    let settings = ExportSettings { on_loss: OnLoss::Fail, ..ExportSettings::new("disk", stage.namespace()) };
    stage.server.add(settings).unwrap();
    let mut raw = Raw::open(stage.socket(), "disk", true);
    all_ports(&stage, |port| Fault::ClosePort { port });
    assert_eq!(raw.read(0, BLOCK), Answer::Error(EIO, "no path to the namespace is left".into()));
    all_ports(&stage, |port| Fault::OpenPort { port });
    wait_for("it works again", || matches!(raw.read(0, BLOCK), Answer::Data(_)).then_some(()));
    stage.strike();
}

#[test]
fn a_client_that_does_not_read_is_bounded_and_disturbs_nobody() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut deaf = Raw::open(stage.socket(), "disk", true);
    let requests: Vec<u8> = (0..300).flat_map(|cookie| request(READ, 0, cookie, 0, 1 << 20)).collect();
    deaf.send(&requests);
    wait_for("it has filled what it may", || {
        let counters = stage.status().counters;
        // Replies that wait hold payload, too: the bound is on both together.
        (counters.reads >= 30 && counters.in_flight == 0).then_some(())
    });
    let mut other = Raw::open(stage.socket(), "disk", true);
    for _ in 0..100 {
        assert!(matches!(other.read(0, BLOCK), Answer::Data(_)));
    }
    let answered = stage.status().connections[0].counters.reads;
    assert!(answered < 100, "{answered} replies of 1 MiB for a client that reads nothing");
    let mut cookies: Vec<u64> = (0..300).map(|_| deaf.answer(1 << 20).0).collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..300), "and then it gets them all, each once");
    stage.strike();
}

#[test]
fn what_is_in_use_ends_only_when_told_how() {
    let stage = Stage::set(&Setting::default()).exported();
    all_ports(&stage, |port| Fault::HoldWrites { port });
    let mut raw = Raw::open(stage.socket(), "disk", true);
    let refused = stage.server.remove("disk", Stop::IfUnused, PATIENCE).unwrap_err();
    assert!(matches!(&refused, ExportError::InUse { connections: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("`disk` is in use: 1 client"), "{refused}");
    let unknown = stage.server.remove("dusk", Stop::Force, PATIENCE).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no export `dusk`: there are disk");
    raw.command(WRITE, 0, 1, 0, BLOCK, &pattern(BLOCK as usize, 1));
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    let late = stage.server.remove("disk", Stop::Drain, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(late, ExportError::NotEnded { connections: 1, .. }), "{late}");
    assert_eq!(stage.server.status(), [], "offered no more");
    // Draining goes on; with force it ends although the write is not answered.
    stage.server.stop(Stop::Force, PATIENCE).unwrap();
    raw.ends();
    assert!(!stage.socket().exists(), "the socket is removed");
    stage.target.script(Fault::Clear);
    stage.strike();
}

#[test]
fn a_drain_answers_what_was_asked_and_then_closes() {
    let stage = Stage::set(&Setting::default()).exported();
    all_ports(&stage, |port| Fault::HoldWrites { port });
    let mut raw = Raw::open(stage.socket(), "disk", true);
    raw.command(WRITE, 0, 1, 0, BLOCK, &pattern(BLOCK as usize, 1));
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| stage.server.stop(Stop::Drain, PATIENCE));
        wait_for("it is offered no more", || stage.server.status().is_empty().then_some(()));
        stage.target.script(Fault::Release);
        assert_eq!(raw.answer(0), (1, Answer::Done));
        raw.ends();
        drain.join().unwrap().unwrap();
    });
    stage.strike();
}

#[test]
fn a_flush_on_one_connection_covers_the_writes_of_another() {
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() }).exported();
    let mut first = Raw::open(stage.socket(), "disk", true);
    let mut second = Raw::open(stage.socket(), "disk", true);
    assert_eq!(first.flags & 256, 256, "NBD_FLAG_CAN_MULTI_CONN");
    for round in 0..50_u8 {
        let data = pattern(BLOCK as usize, round);
        assert_eq!(first.write(0, &data), Answer::Done);
        assert_eq!(second.ask(FLUSH, 0, 0, 0, &[]), Answer::Done);
        assert_eq!(second.read(0, BLOCK), Answer::Data(data));
    }
    stage.strike();
}

#[test]
fn a_resize_is_told_to_new_clients_and_bounds_old_ones() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut old = Raw::open(stage.socket(), "disk", true);
    let shape = stage.namespace().shape();
    stage.server.reshape("disk", Shape { blocks: shape.blocks / 2, ..shape }).unwrap();
    assert!(matches!(old.read(32 << 20, BLOCK), Answer::Error(EINVAL, _)));
    assert_eq!(Raw::open(stage.socket(), "disk", true).size, 32 << 20);
    stage.server.reshape("disk", Shape { read_only: true, ..shape }).unwrap();
    assert!(matches!(old.read(32 << 20, BLOCK), Answer::Data(_)), "grown again");
    assert!(matches!(old.write(0, &pattern(4096, 0)), Answer::Error(EPERM, _)));
    stage.strike();
}

#[test]
fn garbage_costs_its_connection_and_nothing_else() {
    let stage = Stage::set(&Setting::default()).exported();
    let hostile: [&[u8]; 5] = [
        &[0xff; 4],
        b"\0\0\0\x03GARBAGE!GARBAGE!GARBAGE!",
        b"\0\0\0\x03IHAVEOPT\0\0\0\x07\xff\xff\xff\xff",
        b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04nope",
        b"\0\0\0\x03IHAVEOPT\0\0\0\x02\0\0\0\0",
    ];
    for bytes in hostile {
        let mut stream = Raw::connect(stage.socket());
        let _ = stream.write_all(bytes);
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest); // returns only when the server has closed
    }
    let mut raw = Raw::open(stage.socket(), "disk", true);
    let _ = raw.stream.write_all(&[0x55; 1 << 16]); // it may be cut off before the end
    raw.ends();
    assert!(
        matches!(Raw::open(stage.socket(), "", true).read(0, BLOCK), Answer::Data(_)),
        "the only one needs no name"
    );
    stage.strike();
}

#[test]
fn a_socket_is_taken_over_only_from_nobody() {
    let pool = interlock_host::Pool::new(interlock_host::PoolConfig::default()).unwrap();
    let dir = Dir::new();
    let settings = || NbdSettings::new(dir.file("nbd"));
    let server = NbdServer::start(pool.reactors(), settings()).unwrap();
    assert_eq!(std::fs::metadata(dir.file("nbd")).unwrap().permissions().mode() & 0o777, 0o600);
    let second = NbdServer::start(pool.reactors(), settings()).map(drop).unwrap_err();
    assert!(matches!(second, ExportError::SocketInUse { .. }), "{second}");
    server.stop(Stop::IfUnused, PATIENCE).unwrap();
    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(dir.file("nbd")).unwrap());
    drop(NbdServer::start(pool.reactors(), NbdSettings { mode: 0o660, ..settings() }).unwrap());
    std::fs::write(dir.file("data"), "precious").unwrap();
    let file = NbdServer::start(pool.reactors(), NbdSettings::new(dir.file("data"))).map(drop).unwrap_err();
    assert!(matches!(file, ExportError::NotASocket { .. }), "{file}");
    assert_eq!(std::fs::read(dir.file("data")).unwrap(), b"precious");
    pool.shutdown(PATIENCE).unwrap();
}

/// The kernel's block devices speak through a ring only; one sentence says so before anything is touched.
#[test]
fn ublk_on_epoll_is_refused_with_the_reason() {
    let stage = Stage::set(&Setting::default());
    let epoll = interlock_host::PoolConfig { backend: Some(interlock_host::Backend::Epoll), ..Default::default() };
    let pool = interlock_host::Pool::new(epoll).unwrap();
    let settings = UblkSettings::new(ExportSettings::new("disk", stage.namespace()));
    let error = UblkDevice::start(pool.reactors(), &stage.host, settings, PATIENCE).map(drop).unwrap_err();
    assert!(matches!(&error, ExportError::NoUblk { why } if why.contains("io_uring")), "{error}");
    pool.shutdown(PATIENCE).unwrap();
    stage.strike();
}

/// Paths are lost and requests wait; then it turns out that the disk is gone: they fail, and nobody new is let in. The same
/// disk comes back, and the same client goes on.
#[test]
fn a_shut_export_fails_what_waits_and_lets_nobody_in_until_it_is_opened() {
    let stage = Stage::set(&Setting::default()).exported();
    let mut raw = Raw::open(stage.socket(), "disk", true);
    let data = pattern(BLOCK as usize, 1);
    assert_eq!(raw.write(0, &data), Answer::Done);
    all_ports(&stage, |port| Fault::HoldWrites { port });
    raw.command(WRITE, 0, 5, BLOCK.into(), BLOCK, &data);
    wait_for("the write is under way", || (stage.status().counters.in_flight == 1).then_some(()));
    let namespace = stage.namespace();
    stage.server.shut("disk").unwrap();
    let (cookie, answer) = raw.answer(0);
    assert!(matches!(answer, Answer::Error(EIO, ref why) if why.contains("is gone")), "{answer:?}");
    assert_eq!(cookie, 5);
    assert!(matches!(raw.read(0, BLOCK), Answer::Error(EIO, _)), "and so does what comes later");
    assert!(matches!(raw.write(0, &data), Answer::Error(EIO, _)), "its payload is taken, and the stream goes on");
    assert!(matches!(raw.ask(FLUSH, 0, 0, 0, &[]), Answer::Error(EIO, _)));
    let status = stage.status();
    assert!(!status.open);
    assert_eq!((status.counters.in_flight, status.counters.abandoned), (0, 1));
    let mut refused = Raw::connect(stage.socket());
    refused.write_all(&[&3_u32.to_be_bytes()[..], b"IHAVEOPT\0\0\0\x01\0\0\0\x04disk"].concat()).unwrap();
    let mut hello = Vec::new();
    let _ = std::io::Read::read_to_end(&mut refused, &mut hello); // returns only when the server has closed
    assert_eq!(hello.len(), 18, "a greeting, and no disk");
    stage.target.script(Fault::Clear);
    stage.target.script(Fault::Release);
    stage.server.open("disk", namespace).unwrap();
    let answer = wait_for("the write that was abandoned is answered or fenced", || match raw.read(0, BLOCK) {
        Answer::Data(data) => Some(data),
        _ => None,
    });
    assert_eq!(answer, data);
    assert_eq!(raw.write(BLOCK.into(), &data), Answer::Done);
    assert!(matches!(stage.server.shut("other"), Err(ExportError::NoSuchExport { .. })));
    stage.strike();
}
