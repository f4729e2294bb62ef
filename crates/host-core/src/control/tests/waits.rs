//! Whoever is waited for, and whoever does not answer: there is a deadline, it can be listed with its reason, and time
//! alone brings the host to where only somebody outside can help (`every_wait_has_a_deadline`).

use super::world::*;
use crate::*;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_wire::status::Status;

/// One that does not answer, and the reasons of which at least one must be listed then.
type Case = (&'static str, fn() -> World, &'static [&'static str]);

fn lost_with(prepare: impl Fn(&mut World)) -> World {
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    prepare(&mut world);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world
}

fn silent_ccr(world: &mut World) {
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Silent;
    }
}

fn no_ccr(world: &mut World) {
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Refuse(Status::INVALID_OPCODE);
    }
}

const CASES: &[Case] = &[
    (
        "a resolver",
        || {
            let mut world = World::new(1, &[1]);
            world.keep_names = true;
            world.connect(ControllerSpec { traddr: "target.example".to_string(), ..World::spec(1) });
            world
        },
        &["to become live"],
    ),
    (
        "TCP",
        || {
            let mut world = World::new(1, &[1]);
            world.keep_opens = true;
            world.connect(World::spec(1));
            world
        },
        &["TCP connect"],
    ),
    (
        "a peer that takes everything and says nothing",
        || {
            let mut world = World::new(1, &[1]);
            world.ports.get_mut(&1).expect("a port").mute = true;
            world.connect(World::spec(1));
            world
        },
        &["ICResp and Connect"],
    ),
    (
        "a lane that opens no queue",
        || {
            let mut world = World::new(1, &[1]);
            world.lanes[0].keeps_opening = true;
            world.connect(World::spec(1));
            world
        },
        &["to become live"],
    ),
    (
        "a store that does not record",
        || {
            let mut world = World::new(1, &[1]);
            world.keep_records = true;
            world.connect(World::spec(1));
            world
        },
        &["to become live"],
    ),
    (
        "a controller that was live",
        || {
            let (mut world, ..) = World::two_paths(1);
            world.ports.get_mut(&1).expect("a port").mute = true;
            world
        },
        &["keep alive"],
    ),
    (
        "a lane that does not drain",
        || {
            let (mut world, a, _) = World::two_paths(1);
            world.lanes[0].keeps_drained = true;
            world.control.reset(world.now, a).expect("known");
            world.run();
            world
        },
        &["drain"],
    ),
    (
        "a controller that does not shut down",
        || {
            let (mut world, a, _) = World::two_paths(1);
            world.ports.get_mut(&1).expect("a port").mute = true;
            world.control.disconnect(world.now, a).expect("known");
            world.run();
            world
        },
        &["controller shutdown"],
    ),
    ("a lane that does not stop", || lost_with(|world| world.lanes[1].keeps_condemned = true), &["lanes to stop"]),
    (
        "a lane that is never quiet",
        || {
            lost_with(|world| {
                world.lanes[1].keeps_quiet = true;
                silent_ccr(world);
            })
        },
        &["lanes to stop"],
    ),
    (
        "a lane that never holds the guards",
        || lost_with(|world| world.lanes[1].keeps_guard_seen = true),
        &["lanes to stop"],
    ),
    (
        "an admin socket that is never gone",
        || {
            lost_with(|world| {
                world.keep_aborts = true;
                no_ccr(world);
                world.ports.get_mut(&1).expect("a port").mute = true;
            })
        },
        &["late completions on the admin queue"],
    ),
    ("a source that does not answer", || lost_with(silent_ccr), &["next step of the fence", "fence by time"]),
    ("a target without CCR", || lost_with(no_ccr), &["fence by time"]),
    (
        "a store that does not say whose this host is",
        || lost_with(|world| world.keep_owner = true),
        &["whether this process is still this host"],
    ),
    (
        "a port that is gone",
        || {
            let (mut world, a, _) = World::two_paths(1);
            world.ports.get_mut(&1).expect("a port").open = false;
            let life = world.life(a);
            world.lose(life, Vec::new());
            world
        },
        &["next attempt to connect"],
    ),
];

#[test]
fn every_wait_has_a_deadline() {
    for (who, world, reasons) in CASES {
        let mut world = world();
        let listed: Vec<String> = world.control.waits().map(|wait| wait.why.to_string()).collect();
        for reason in *reasons {
            assert!(listed.iter().any(|why| why.contains(reason)), "{who}: `{reason}` is not among {listed:?}");
        }
        // As long as it lasts, something is due; and nothing is due so late that it is no deadline.
        for _ in 0..100 {
            let Some(deadline) = world.control.next_deadline() else { break };
            let most = world.now + Duration::from_secs(3_600);
            assert!(deadline.at <= most, "{who}: {} at {}", deadline.why, deadline.at);
            world.advance(deadline.at - world.now);
        }
        let unfinished = world.control.controllers().any(|info| !info.fencing.is_empty());
        assert!(!unfinished || world.control.next_deadline().is_some(), "{who}: waited for without end");
    }
}

/// A lane that never says anything about a lost life again, and no source that could reset it.
fn hung(change: impl Fn(&mut World)) -> World {
    lost_with(|world| {
        no_ccr(world);
        world.lanes[1].keeps_condemned = true;
        change(world);
    })
}

#[test]
fn the_sockets_of_a_lane_that_hangs_are_aborted_from_outside_and_the_hold_begins() {
    let mut world = hung(|_| {});
    let lost = world.now;
    let life = world.control.controllers().find_map(|info| info.fencing.first().copied()).expect("it is being fenced");
    world.advance(999 * MS);
    assert!(world.cuts.is_empty(), "a busy machine is no hung reactor");
    assert!(!world.saw(|e| matches!(e, EventKind::HoldUntil { .. })));
    world.advance(200 * MS);
    let (at, lane, of) = world.cuts[0];
    assert_eq!((lane, of, world.cuts.len()), (LaneId(1), life, 1), "only the lane that is silent, and once");
    assert!(at >= lost + 1_000 * MS);
    let t0 = |e: &EventKind| matches!(e, EventKind::HoldUntil { t0, .. } if *t0 == at);
    assert!(world.saw(t0), "t0 is the moment at which the kernel has confirmed it");
    world.advance(60_000 * MS);
    // The hold is long over. What is in doubt on that lane nobody else knows: nothing is released, nothing given up.
    assert_eq!((world.settled(0, life), world.settled(1, life), world.cuts.len()), (None, None, 1));
    assert!(world.control.receipts().next().is_none());
    // It comes back: the proof is there, and nothing has to be waited for any more.
    let entry = world.write(life, 1, 7);
    world.say(1, ToControl::Condemned { life, ledger: vec![entry], settled: 0 });
    world.say(1, ToControl::Quiet { life, at: world.now });
    assert_eq!(world.settled(1, life), Some(Release::Retry));
    assert_eq!((world.receipt().t0, world.receipt().in_doubt), (Some(at), 2));
}

#[test]
fn no_hold_is_told_of_a_life_that_never_served() {
    let mut world = World::new(2, &[1]);
    no_ccr(&mut world);
    (world.lanes[1].keeps_opening, world.lanes[1].keeps_condemned) = (true, true);
    let ctrl = world.connect(World::spec(1));
    let life = world.life(ctrl);
    world.advance(Timeouts::default().connect_total + 3_000 * MS);
    assert_eq!(
        world.cuts.first().map(|(_, lane, of)| (*lane, *of)),
        Some((LaneId(1), life)),
        "nothing leaves any more"
    );
    let told = |e: &EventKind| match e {
        EventKind::Lost { life: of, .. } | EventKind::HoldUntil { life: of, .. } => *of == life,
        _ => false,
    };
    assert!(!world.saw(told), "nobody was told that it is there");
    // Nor of its end, when the lane comes back.
    world.say(1, ToControl::Condemned { life, ledger: Vec::new(), settled: 0 });
    world.say(1, ToControl::Quiet { life, at: world.now });
    assert!(!world.saw(|e| matches!(e, EventKind::NothingInDoubt { life: of, .. } if *of == life)));
}

#[test]
fn a_socket_that_the_kernel_does_not_let_go_is_asked_for_again_and_begins_no_hold() {
    let mut world = hung(|world| world.keep_cuts = true);
    world.advance(10_000 * MS);
    assert!((8..=11).contains(&world.cuts.len()), "once per second: {:?}", world.cuts);
    assert!(!world.saw(|e| matches!(e, EventKind::HoldUntil { .. })));
}

#[test]
fn a_lane_that_has_stopped_keeps_its_sockets_for_late_answers_before_they_are_aborted() {
    let mut world = lost_with(|world| {
        no_ccr(world);
        world.lanes[1].keeps_quiet = true;
    });
    let (lost, grace) = (world.now, Timeouts::default().late_grace);
    world.advance(grace);
    assert!(world.cuts.is_empty());
    world.advance(2_000 * MS);
    assert!(world.cuts.iter().all(|(at, lane, _)| *lane == LaneId(1) && *at >= lost + grace), "{:?}", world.cuts);
    assert!(world.saw(|e| matches!(e, EventKind::HoldUntil { .. })));
}

#[test]
fn a_lane_that_keeps_a_fence_waiting_is_named_whatever_it_owes() {
    for (who, keep) in [
        ("its stop", (|lane| lane.keeps_condemned = true) as fn(&mut FakeLane)),
        ("that it is quiet", |lane| lane.keeps_quiet = true),
        ("the guards", |lane| lane.keeps_guard_seen = true),
    ] {
        let mut world = lost_with(|world| {
            silent_ccr(world);
            keep(&mut world.lanes[1]);
            if world.lanes[1].keeps_guard_seen {
                world.ports.get_mut(&2).expect("a port").ccr = Ccr::Immediate;
            }
        });
        world.advance(5_000 * MS);
        let named = |e: &EventKind| matches!(e, EventKind::LaneSilent { lanes, .. } if *lanes == [LaneId(1)]);
        assert!(world.saw(named), "{who}");
    }
    // One that answers within its time is not.
    let mut world = lost_with(silent_ccr);
    world.advance(5_000 * MS);
    assert!(!world.saw(|e| matches!(e, EventKind::LaneSilent { .. })));
}

#[test]
fn a_life_whose_controller_does_not_answer_after_its_queues_have_joined_is_never_used() {
    // The target was started again, and its number is another controller's by the time the queue joins.
    let mut world = World::new(1, &[1]);
    world.lanes[0].keeps_opening = true;
    let ctrl = world.connect(World::spec(1));
    let life = world.life(ctrl);
    world.ports.get_mut(&1).expect("a port").mute = true;
    world.say(0, ToControl::QueueUp { life, qid: 1 });
    world.advance(100 * MS);
    assert!(world.jobs.iter().any(|job| matches!(job, Job::RecordLife(_))), "that does not wait");
    assert_ne!(world.state(ctrl), StateName::Live);
    world.advance(Timeouts::default().admin);
    // It was asked in vain, and the next attempt finds a controller that answers.
    world.lanes[0].keeps_opening = false;
    world.ports.get_mut(&1).expect("a port").mute = false;
    world.advance(60_000 * MS);
    assert_eq!(world.state(ctrl), StateName::Live);
    assert_ne!(world.life(ctrl), life);
    assert!(!world.saw(|e| matches!(e, EventKind::LifeBegan { life: of, .. } if *of == life)));
}
