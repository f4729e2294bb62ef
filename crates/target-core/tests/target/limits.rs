//! What a peer can make the target hold, and for how long.

use crate::rig::*;
use interlock_target_core::{Event, Loss};
use interlock_wire::fabrics::Connect;
use interlock_wire::log::{LID_CCR, LID_CHANGED_NAMESPACES, LID_ERROR, LID_FIRMWARE, LID_SMART};
use interlock_wire::nvm::Command;
use interlock_wire::status::Status;

fn dropped(rig: &Rig, loss: Loss) -> usize {
    rig.events.iter().filter(|event| matches!(event, Event::Dropped { why, .. } if *why == loss)).count()
}

/// Bytes of a command capsule without data.
const CAPSULE: usize = 72;

const fn write(slba: u64, nlb: u32) -> Command {
    Command::Write { slba, nlb, fua: false }
}

#[test]
fn a_connection_without_a_connect_has_so_long() {
    let mut config = config();
    config.limits.handshake_ms = 3000;
    let mut rig = Rig::new(config);
    let silent = rig.dial(A);
    let refused = rig.dial(A);
    let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
    let host = Host::new(1);
    assert_ne!(rig.connect(refused, connect, &host.data("nqn.2026-01.test:other", 0xFFFF)).status(), Status::SUCCESS);
    let (living, _) = host.admin(&mut rig, A, SUBNQN);
    rig.advance(2999);
    assert!(rig.is_open(silent) && rig.is_open(refused));
    rig.advance(2);
    assert!(!rig.is_open(silent) && !rig.is_open(refused) && rig.is_open(living));
    assert_eq!((dropped(&rig, Loss::Handshake), rig.lanes[LANE_A].connections()), (2, 1));
}

#[test]
fn the_oldest_without_a_connect_makes_room() {
    let mut config = config();
    config.limits.half_open = 3;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    let silent: Vec<_> = (0..3).map(|_| rig.dial(A)).collect();
    // A host that means it gets in although the places are taken.
    let second = Host::new(2).live(&mut rig, A);
    assert!(!rig.is_open(silent[0]) && rig.is_open(silent[1]) && rig.is_open(silent[2]));
    assert_eq!(dropped(&rig, Loss::Crowded), 1);
    for path in [a, second] {
        assert_eq!(path.read(&mut rig, 0), 0);
    }
}

#[test]
fn connections_are_bounded() {
    let mut config = config();
    config.limits.connections = 4;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    let (silent, second) = (rig.dial(A), Host::new(2).admin(&mut rig, A, SUBNQN).0);
    let third = Host::new(3).admin(&mut rig, A, SUBNQN).0;
    assert!(!rig.is_open(silent) && rig.is_open(second) && rig.is_open(third), "who has no Connect makes room");
    let fourth = rig.dial(A);
    assert!(!rig.is_open(fourth), "nobody can make room");
    assert!(rig.is_open(a.io) && rig.is_open(second) && rig.is_open(third));
    assert_eq!((dropped(&rig, Loss::Crowded), rig.lanes[LANE_A].connections()), (2, 4));
    rig.hang_up(third);
    Host::new(3).admin(&mut rig, A, SUBNQN);
}

#[test]
fn zeros_that_a_host_asks_for_are_not_held() {
    for digests in [false, true] {
        let mut rig = Rig::new(config());
        rig.digests = digests;
        let a = Host::new(1).live(&mut rig, A);
        rig.largest_answer = 0;
        for lid in [LID_ERROR, LID_SMART, LID_FIRMWARE, LID_CHANGED_NAMESPACES, LID_CCR] {
            let page = log(&mut rig, a.admin, lid, 65_536);
            assert!(page[4096..].iter().all(|byte| *byte == 0));
            let (head, whole) = (log(&mut rig, a.admin, lid, 512), &page[..512]);
            assert_eq!(head, whole, "log {lid:#x} is the same in pieces of any length");
        }
        assert!(rig.largest_answer <= 4096, "{} bytes for pages of nothing", rig.largest_answer);
    }
}

#[test]
fn one_host_cannot_have_all_controllers() {
    let mut config = config();
    config.limits.controllers_per_host = 2;
    let mut rig = Rig::new(config);
    let first = Host::new(1).admin(&mut rig, A, SUBNQN).0;
    Host::new(1).admin(&mut rig, B, SUBNQN);
    let conn = rig.dial(A);
    let connect = Connect { qid: 0, sqsize: 31, sq_flow_control: true, kato_ms: 0 };
    let refused = rig.connect(conn, connect, &Host::new(1).data(SUBNQN, 0xFFFF));
    assert_eq!(refused.status(), Status::CONNECT_CONTROLLER_BUSY, "without DNR: it may try again");
    Host::new(2).admin(&mut rig, A, SUBNQN);
    rig.hang_up(first);
    assert_eq!(rig.connect(conn, connect, &Host::new(1).data(SUBNQN, 0xFFFF)).status(), Status::SUCCESS);
}

#[test]
fn one_connection_cannot_have_all_buffers() {
    let mut config = config();
    config.limits.buffered = 4 * 65_536;
    config.limits.buffered_per_connection = 2 * 65_536;
    let mut rig = Rig::new(config);
    let (greedy, good) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
    // Many large reads whose data is not taken.
    rig.wires.get_mut(&greedy.io).unwrap().deaf = true;
    let read = Command::Read { slba: 0, nlb: 64, fua: false };
    let tokens: Vec<u64> = (0..8).map(|_| rig.submit(greedy.io, read.to_sqe(1), &[], 32_768)).collect();
    assert_eq!(rig.buffers(), 4, "its share: four of 32 KiB");
    for n in 0..8 {
        let token = rig.submit(good.io, write(n * 64, 64).to_sqe(1), &[2; 32_768], 0);
        assert_eq!(rig.answer(good.io, token).expect("at once").0.status(), Status::SUCCESS);
    }
    assert_eq!(rig.buffers(), 4);
    // It is taken after all: what waited is served.
    rig.wires.get_mut(&greedy.io).unwrap().deaf = false;
    rig.run();
    assert!(tokens.into_iter().all(|token| rig.answer(greedy.io, token).is_some()));
    assert_eq!((rig.buffers(), rig.lanes[LANE_A].buffered()), (0, 0));
}

#[test]
fn those_who_wait_for_the_lanes_buffers_take_turns() {
    let mut config = config();
    config.limits.buffered = 65_536;
    config.limits.buffered_per_connection = 65_536;
    let mut rig = Rig::new(config);
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
    rig.slow_media = true;
    let read = Command::Read { slba: 0, nlb: 64, fua: false };
    let many: Vec<u64> = (0..8).map(|_| rig.submit(a.io, read.to_sqe(1), &[], 32_768)).collect();
    let one = rig.submit(b.io, read.to_sqe(1), &[], 32_768);
    let mut steps = 0;
    while rig.answer(b.io, one).is_none() {
        assert!(rig.media_step(), "there is something to do");
        rig.run();
        steps += 1;
    }
    assert!(steps <= 4, "one command waited behind {steps} of another host");
    rig.slow_media = false;
    rig.run();
    assert!(many.into_iter().all(|token| rig.answer(a.io, token).is_some()));
    assert_eq!(rig.lanes[LANE_A].buffered(), 0);
}

#[test]
fn a_peer_that_neither_sends_nor_takes_data_is_given_up() {
    for deaf in [false, true] {
        let mut rig = Rig::new(config());
        let (stuck, good) = (Host::new(1).live(&mut rig, A), Host::new(2).live(&mut rig, A));
        let wire = rig.wires.get_mut(&stuck.io).unwrap();
        if deaf {
            wire.deaf = true;
            rig.submit(stuck.io, Command::Read { slba: 0, nlb: 64, fua: false }.to_sqe(1), &[], 32_768);
        } else {
            wire.sends = Some(CAPSULE + 100);
            rig.submit(stuck.io, write(0, 64).to_sqe(1), &[1; 32_768], 0);
        }
        assert_eq!(rig.buffers(), 1, "deaf: {deaf}");
        rig.advance(29_999);
        assert!(rig.is_open(stuck.io), "deaf: {deaf}");
        assert_eq!(good.read(&mut rig, 0), 0);
        rig.advance(30_002);
        assert!(!rig.is_open(stuck.io) && rig.is_open(good.io), "deaf: {deaf}");
        let lost = |event: &Event| matches!(event, Event::Lost { why: Loss::Stalled, .. });
        assert_eq!(rig.events.iter().filter(|event| lost(event)).count(), 1, "deaf: {deaf}");
        assert_eq!(rig.buffers(), 0, "deaf: {deaf}");
    }
}

#[test]
fn a_slow_peer_and_a_slow_disk_are_not_given_up() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    a.aer(&mut rig);
    // A byte now and then, but each command ends in time.
    for n in 0..4 {
        rig.wires.get_mut(&a.io).unwrap().sends = Some(CAPSULE + 100);
        let token = rig.submit(a.io, write(n * 64, 64).to_sqe(1), &[1; 32_768], 0);
        rig.advance(25_000);
        rig.wires.get_mut(&a.io).unwrap().sends = None;
        rig.run();
        assert!(rig.answer(a.io, token).is_some(), "round {n}");
    }
    rig.slow_media = true;
    let token = rig.submit(a.io, Command::Flush.to_sqe(1), &[], 0);
    rig.advance(600_000);
    rig.slow_media = false;
    rig.run();
    assert!(rig.answer(a.io, token).is_some());
    // A connection that has nothing to do is watched no more.
    rig.advance(600_000);
    assert!(rig.is_open(a.io) && rig.is_open(a.admin));
    assert_eq!(dropped(&rig, Loss::Stalled), 0);
}
