//! Clients that announce and send nothing, ask and read nothing, or come in crowds: what they cost, and what others notice.

mod common;

use common::raw::{Answer, FAST_ZERO, FLUSH, READ, Raw, TRIM, WRITE, ZEROES, request};
use common::{PATIENCE, Setting, Stage, wait_for};
use interlock_export::{ExportSettings, NbdLimits, NbdMemory, NbdServer, NbdSettings, Stop};
use interlock_target::{Fault, PortId};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

const BLOCK: u32 = 4096;
const LONGEST: u32 = 32 << 20;
const ENOMEM: u32 = 12;
const ENOTSUP: u32 = 95;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 512) as u8 ^ at as u8).collect()
}

/// A stage with a second server, whose memory is known.
fn limited(limits: NbdLimits) -> (Stage, NbdServer, NbdMemory, PathBuf) {
    let stage = Stage::set(&Setting::default());
    let memory = NbdMemory::new(limits);
    let socket = stage.dir.file("greedy");
    let settings = NbdSettings { memory: memory.clone(), ..NbdSettings::new(&socket) };
    let server = NbdServer::start(stage.pools[1].reactors(), settings).expect("it listens");
    server.add(ExportSettings::new("disk", stage.namespace())).expect("the name is free");
    (stage, server, memory, socket)
}

fn end(stage: Stage, server: NbdServer, memory: &NbdMemory) {
    server.stop(Stop::Force, PATIENCE).expect("force always ends");
    drop(server);
    wait_for("everything is given back", || (memory.held() == 0).then_some(()));
    stage.strike();
}

#[test]
fn a_header_costs_nothing_and_bytes_cost_their_part() {
    let (stage, server, memory, socket) = limited(NbdLimits::default());
    let mut silent: Vec<Raw> = (0..100).map(|_| Raw::open(&socket, "disk", true)).collect();
    for raw in &mut silent {
        raw.command(WRITE, 0, 1, 0, LONGEST, &[]);
    }
    let mut other = Raw::open(&socket, "disk", true);
    for _ in 0..100 {
        assert!(matches!(other.read(0, BLOCK), Answer::Data(_)), "others do not wait");
    }
    let before = memory.held();
    assert!(before < 1 << 20, "{before} bytes for 100 headers");
    silent[0].send(&[7; 4096]);
    let first = wait_for("the first bytes are there", || Some(memory.held()).filter(|held| *held > before));
    assert!(first - before <= 1 << 20, "{} bytes for 4096", first - before);
    // Those that wait for their memory are no obstacle to small requests, and get theirs when others are gone.
    assert_eq!(other.write(0, &pattern(256 << 10)), Answer::Done);
    let mut last = silent.pop().expect("there are 100");
    drop(silent);
    let data = pattern(LONGEST as usize);
    last.send(&data);
    assert_eq!(last.answer(0), (1, Answer::Done));
    assert!(last.read(0, LONGEST) == Answer::Data(data), "what came in pieces is one write");
    end(stage, server, &memory);
}

#[test]
fn who_asks_for_much_and_reads_nothing_is_bounded_over_all_its_connections() {
    let limits = NbdLimits { payload: 64 << 20, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    let asked: Vec<u8> = (0..100).flat_map(|cookie| request(READ, 0, cookie, 0, 8 << 20)).collect();
    let mut deaf: Vec<Raw> = (0..20).map(|_| Raw::open(&socket, "disk", true)).collect();
    deaf.iter_mut().for_each(|raw| raw.send(&asked));
    let mut other = Raw::open(&socket, "disk", true);
    for _ in 0..200 {
        assert!(matches!(other.read(0, 64 << 10), Answer::Data(_)));
        // A quarter for this process, and what each connection has for itself.
        let held = memory.held();
        assert!(held <= (16 << 20) + 21 * (256 << 10), "{held} bytes");
    }
    end(stage, server, &memory);
}

#[test]
fn who_stalls_with_what_others_wait_for_is_sent_away() {
    let patience = Duration::from_millis(500);
    let limits = NbdLimits { payload: 64 << 20, patience, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    let mut stalled = Raw::open(&socket, "disk", true);
    stalled.command(WRITE, 0, 1, 0, 16 << 20, &[7; 4096]);
    wait_for("it has begun", || (memory.held() > 0).then_some(()));
    let mut other = Raw::open(&socket, "disk", true);
    let mut answers = Vec::new();
    // It may give up before the other one is sent away; then it asks again.
    let data = wait_for("it gets its memory", || match other.read(0, 16 << 20) {
        Answer::Data(data) => Some(data),
        Answer::Error(errno, why) => {
            answers.push((errno, why));
            None
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(data.len(), 16 << 20);
    assert!(answers.iter().all(|(errno, why)| *errno == ENOMEM && why.contains("not carried out")), "{answers:?}");
    stalled.ends();
    end(stage, server, &memory);
}

#[test]
fn what_gets_no_memory_fails_in_step_and_nothing_of_it_is_done() {
    let patience = Duration::from_millis(100);
    let limits = NbdLimits { payload: 16 << 20, patience, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    let mut raw = Raw::open(&socket, "disk", true);
    let before = pattern(BLOCK as usize);
    assert_eq!(raw.write(0, &before), Answer::Done);
    for _ in 0..2 {
        let refused = raw.write(0, &vec![9; LONGEST as usize]);
        assert!(matches!(&refused, Answer::Error(ENOMEM, why) if why.contains("not carried out")), "{refused:?}");
        let refused = raw.read(0, LONGEST);
        assert!(matches!(&refused, Answer::Error(ENOMEM, _)), "{refused:?}");
        assert_eq!(raw.read(0, BLOCK), Answer::Data(before.clone()), "in step, and nothing was written");
    }
    end(stage, server, &memory);
}

#[test]
fn who_asks_vanishes_and_comes_again_gets_no_more_than_who_stays() {
    let limits = NbdLimits { payload: 64 << 20, connections: 64, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    let asked: Vec<u8> = (0..200).flat_map(|cookie| request(READ, 0, cookie, 0, 8 << 20)).collect();
    // What is asked for is not answered while they come and go.
    for port in [PortId(0), PortId(1)] {
        stage.target.script(Fault::Mute { port });
    }
    let mut most = 0;
    for _ in 0..200 {
        let mut raw = Raw::connect(&socket);
        let mut hello = [0; 18];
        if raw.read_exact(&mut hello).is_ok() {
            let opt_go = b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0";
            raw.write_all(&[&3_u32.to_be_bytes()[..], opt_go, &asked].concat()).expect("it reads");
            let before = memory.held();
            let _ = raw.read(&mut [0; 1]); // it is served
            most = most.max(memory.held()).max(before);
        }
    }
    // A quarter of the payload for this process, and what its connections have for themselves.
    assert!(most > 4 << 20, "{most} bytes show nothing");
    assert!(most <= (16 << 20) + 64 / 4 * (256 << 10), "{most} bytes");
    for port in [PortId(0), PortId(1)] {
        stage.target.script(Fault::Unmute { port });
    }
    wait_for("what was abandoned is over", || (memory.held() == 0).then_some(()));
    end(stage, server, &memory);
}

#[test]
fn what_clients_abandon_counts_until_it_is_over() {
    let limits = NbdLimits { payload: 8 << 20, connections: 16, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    for port in [PortId(0), PortId(1)] {
        stage.target.script(Fault::HoldWrites { port });
    }
    let data = pattern(256 << 10);
    // Each leaves a write that its lane still holds. In the end nobody is let in.
    let mut rounds = 0_u64;
    let refused = loop {
        let mut raw = Raw::connect(&socket);
        let mut hello = [0; 18];
        if raw.read_exact(&mut hello).is_err() {
            break true;
        }
        let held = memory.held();
        let opt_go = [&b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0"[..]].concat();
        raw.write_all(
            &[&3_u32.to_be_bytes()[..], &opt_go, &request(WRITE, 0, 1, rounds << 18, 256 << 10), &data].concat(),
        )
        .expect("it reads");
        wait_for("it is held", || (memory.held() > held).then_some(()));
        drop(raw);
        wait_for("it is gone", || server.status()[0].connections.is_empty().then_some(()));
        rounds += 1;
        if rounds > 200 {
            break false;
        }
    };
    assert!(refused, "{} bytes are held", memory.held());
    assert!(memory.held() <= (8 << 20) + 17 * (256 << 10), "{} bytes", memory.held());
    stage.target.script(Fault::Clear);
    stage.target.script(Fault::Release);
    wait_for("they are over", || (memory.held() == 0).then_some(()));
    assert!(matches!(Raw::open(&socket, "disk", true).read(0, BLOCK), Answer::Data(_)), "and everybody is let in");
    end(stage, server, &memory);
}

#[test]
fn a_crowd_of_one_process_leaves_places_for_others() {
    let limits = NbdLimits { connections: 16, ..NbdLimits::default() };
    let (stage, server, memory, socket) = limited(limits);
    let crowd: Vec<Raw> = (0..4).map(|_| Raw::open(&socket, "disk", true)).collect();
    let mut refused = Raw::connect(&socket);
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest); // returns only when the server has closed
    assert!(rest.is_empty(), "a quarter of the places is what one process gets");
    drop(crowd);
    wait_for("their places are free", || server.status()[0].connections.is_empty().then_some(()));
    drop(Raw::open(&socket, "disk", true));
    end(stage, server, &memory);
}

/// Clients are offered zeroes and discards, and the controller has neither command.
#[test]
fn what_a_controller_lacks_is_emulated() {
    let setting = Setting { through: Some(|port| common::lacking::start(port, &[0x08, 0x09])), ..Setting::default() };
    let stage = Stage::set(&setting).exported();
    let mut raw = Raw::open(stage.socket(), "disk", true);
    let data = pattern(40 << 20);
    for at in [0, 8 << 20, 16 << 20, 24 << 20, 32 << 20] {
        assert_eq!(raw.write(at as u64, &data[at..at + (8 << 20)]), Answer::Done);
    }
    assert_eq!(raw.ask(TRIM, 0, 0, BLOCK, &[]), Answer::Done, "advice");
    assert!(matches!(raw.ask(ZEROES, FAST_ZERO, 0, BLOCK, &[]), Answer::Error(ENOTSUP, _)));
    assert_eq!(raw.read(0, BLOCK), Answer::Data(data[..BLOCK as usize].to_vec()), "not even begun");
    assert_eq!(raw.ask(ZEROES, 1, BLOCK.into(), 33 << 20, &[]), Answer::Done, "written, and flushed");
    let Answer::Data(back) = raw.read(0, 32 << 20) else { panic!("no data") };
    assert_eq!(back[..BLOCK as usize], data[..BLOCK as usize]);
    assert!(back[BLOCK as usize..].iter().all(|byte| *byte == 0));
    let Answer::Data(back) = raw.read(32 << 20, 8 << 20) else { panic!("no data") };
    let to = (1 << 20) + BLOCK as usize;
    assert!(back[..to].iter().all(|byte| *byte == 0));
    assert!(back[to..] == data[(32 << 20) + to..]);
    assert!(matches!(raw.ask(ZEROES, FAST_ZERO, 0, BLOCK, &[]), Answer::Error(ENOTSUP, _)), "known by now");
    assert_eq!(raw.ask(FLUSH, 0, 0, 0, &[]), Answer::Done);
    stage.strike();
}

#[test]
fn who_connects_again_and_again_waits_is_sent_away_and_stops_nobody_who_stays() {
    let (stage, server, memory, socket) = limited(NbdLimits { connections: 4_096, ..NbdLimits::default() });
    let mut stays = Raw::open(&socket, "disk", true);
    // What one process may have at once, and what may wait for its turn beside that, several times.
    let crowd: Vec<_> = (0..800).map(|_| Raw::connect(&socket)).collect();
    for _ in 0..100 {
        assert!(matches!(stays.read(0, BLOCK), Answer::Data(_)), "who is there already is served");
    }
    let greeted = crowd.into_iter().map(|mut stream| matches!(stream.read(&mut [0; 18]), Ok(18))).collect::<Vec<_>>();
    let count = greeted.iter().filter(|greeted| **greeted).count();
    assert!(greeted[..60].iter().all(|greeted| *greeted), "those who come seldom do not wait");
    assert!(count > 64, "{count} of 800: who has to wait has a turn");
    assert!(count < 800, "who would have to wait for too long is sent away");
    // When its crowd has gone, the same process has turns again.
    wait_for("a turn", || {
        let mut stream = Raw::connect(&socket);
        matches!(stream.read(&mut [0; 18]), Ok(18)).then_some(())
    });
    assert!(matches!(stays.read(0, BLOCK), Answer::Data(_)));
    drop(stays);
    end(stage, server, &memory);
}
