//! What else may happen while a life is being fenced, and what a live controller may say.

use super::world::*;
use crate::*;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::admin::{self, AsyncEvent};
use interlock_wire::nqn::Nqn;
use interlock_wire::sqe::{LateEffect, OPCODE_FABRICS};
use interlock_wire::status::Status;
use interlock_wire::{ana, ccr};

/// Path A lost with a write in doubt, and nobody who could reset it.
fn fencing() -> (World, CtrlId, LifeId) {
    let (mut world, a, _) = World::two_paths(2);
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Refuse(Status::INVALID_OPCODE);
    }
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.settled(0, life), None);
    (world, a, life)
}

#[test]
fn what_else_happens_to_a_lost_life_starts_no_second_fence() {
    let (mut world, _, life) = fencing();
    let why = DownReason::Lost(ConnectionEnd::Reset);
    world.say(1, ToControl::QueueDown { life, qid: 2, why: why.clone() });
    world.say(0, ToControl::QueueDown { life, qid: 1, why });
    let oldest = Waiting { qid: 1, cid: 1 };
    for others_answer in [false, true] {
        let why = Suspicion::IoTimeout { since: Instant::ZERO, others_answer, oldest };
        world.say(0, ToControl::Suspect { life, why });
    }
    world.say(0, ToControl::AnaStale(life));
    world.say(0, ToControl::Drained(life));
    world.say(0, ToControl::QueueUp { life, qid: 1 });
    assert_eq!(world.settled(0, life), None, "it goes on waiting");
    assert_eq!(world.control.counters().fences.attempts, 1);
    assert_eq!(world.events.iter().filter(|e| matches!(e.kind, EventKind::Lost { .. })).count(), 1);
    world.advance(20_000 * MS);
    assert_eq!(world.control.receipts().count(), 1);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

#[test]
fn reservation_conflicts_of_all_lanes_are_one_event() {
    let (mut world, _, life) = fencing();
    let status = Status::RESERVATION_CONFLICT;
    let head = HeadId(1);
    for lane in [0, 1] {
        world.say(lane, ToControl::Conflict { head, life, status, commands: 1 });
    }
    let told = |world: &World| -> Vec<u64> {
        let of = |event: &Event| match event.kind {
            EventKind::ReservationConflict { commands, .. } => Some(commands),
            _ => None,
        };
        world.events.iter().filter_map(of).collect()
    };
    assert_eq!(told(&world), [1]);
    world.advance(10_000 * MS);
    world.say(1, ToControl::Conflict { head, life, status, commands: 40 });
    assert_eq!(told(&world), [1, 41]);
}

#[test]
fn a_reset_during_a_fence_ends_the_new_life_and_hurries_nothing() {
    let (mut world, a, life) = fencing();
    let second = world.life(a);
    world.control.reset(world.now, a).expect("known");
    world.run();
    assert!(world.life(a) > second, "the path has a third life");
    assert_eq!(world.settled(0, life), None, "the first is held as before");
    assert_eq!(world.control.tombstones(), []);
    world.advance(20_000 * MS);
    assert_eq!((world.receipt().life, world.receipt().method), (life, Method::Time));
}

#[test]
fn a_rescan_finds_what_nobody_told_and_leaves_what_is_not_live_alone() {
    let (mut world, a, b) = World::two_paths(1);
    let blocks = |world: &World| world.control.heads().map(|head| head.shape.blocks).collect::<Vec<_>>();
    let before = blocks(&world);
    for port in [1, 2] {
        world.ports.get_mut(&port).expect("a port").blocks = 2_000;
    }
    world.advance(1_000 * MS);
    assert_eq!(blocks(&world), before, "a controller that says nothing is not asked");
    world.control.rescan(world.now, a).expect("known");
    world.run();
    assert_eq!(blocks(&world), [2_000]);
    world.ports.get_mut(&2).expect("a port").open = false;
    let life = world.life(b);
    world.lose(life, Vec::new());
    world.control.rescan(world.now, b).expect("known, and looked at when it is back");
    world.run();
    assert_ne!(world.state(b), StateName::Live);
    world.control.disconnect(world.now, b).expect("known");
    world.advance(60_000 * MS);
    assert!(world.control.rescan(world.now, b).is_err(), "it is gone");
}

#[test]
fn what_is_read_from_a_controller_ends_with_its_life() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").mute = true;
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(5_500 * MS);
    assert!(world.saw(|e| matches!(e, EventKind::Lost { how: Loss::KeepAlive, .. })));
    assert!(world.control.waits().all(|wait| !wait.why.to_string().starts_with(&life.to_string())));
    assert!(world.paths().iter().all(|path| *path != life));
}

#[test]
fn a_controller_of_another_subsystem_is_never_asked() {
    let mut world = World::new(1, &[1, 2, 3]);
    let a = world.connect(World::spec(1));
    let subnqn = Nqn::new("nqn.2014-08.org.example:another").expect("valid");
    world.connect(ControllerSpec { subnqn, ..World::spec(2) });
    world.advance(1_500 * MS);
    world.ports.get_mut(&1).expect("a port").open = false;
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(5_000 * MS);
    assert_eq!((world.ccrs.len(), world.settled(0, life)), (0, None));
    // One of the same subsystem is, as soon as it is there.
    world.connect(World::spec(3));
    assert_eq!(world.ccrs.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [3]);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

#[test]
fn a_transition_that_the_table_forbids_is_told_and_counted() {
    let (mut world, a, _) = World::two_paths(1);
    world.lanes[0].keeps_drained = true;
    world.control.disconnect(world.now, a).expect("known");
    world.run();
    world.control.reset(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Deleting, "nothing was done");
    let refused = EventKind::TransitionRefused { ctrl: a, from: StateName::Deleting, to: StateName::Resetting };
    assert!(world.saw(|e| *e == refused));
    let info = world.control.controllers().find(|info| info.id == a).expect("known");
    assert_eq!(info.counters.transitions_refused, 1);
}

#[test]
fn keep_alive_is_one_second_to_one_minute_and_sockets_give_up_as_soon() {
    let world = World::new(1, &[]);
    for (kato, good) in [(999, false), (1_000, true), (60_000, true), (60_001, false)] {
        let mut control = world.control.clone();
        let spec = ControllerSpec { kato: Duration::from_millis(kato), ..World::spec(1) };
        assert_eq!(control.connect(world.now, spec).is_ok(), good, "{kato} ms");
    }
    let (world, ..) = World::two_paths(1);
    let dial = world.lanes[0].heard.iter().find_map(|message| match message {
        ToLane::OpenQueue(spec) => Some(spec.dial.clone()),
        _ => None,
    });
    assert_eq!(dial.expect("opened").user_timeout, Duration::from_secs(5), "KATO");
}

/// Two paths that report ANA, both optimized.
fn with_ana() -> (World, CtrlId, CtrlId) {
    let mut world = World::new(1, &[1, 2]);
    for port in world.ports.values_mut() {
        port.ana = Some(ana::State::Optimized);
    }
    let (a, b) = (world.connect(World::spec(1)), world.connect(World::spec(2)));
    world.advance(1_500 * MS);
    (world, a, b)
}

/// The state of the path through `life` in the table that lane 0 holds.
fn state_of(world: &World, life: LifeId) -> Option<AnaState> {
    let heads = &world.control.paths().heads;
    heads.values().flat_map(|head| &head.paths).find(|path| path.life == life).map(|path| path.ana)
}

#[test]
fn a_change_of_ana_reaches_every_lane_whether_it_is_told_or_met() {
    let (mut world, a, _) = with_ana();
    let life = world.life(a);
    assert_eq!(state_of(&world, life), Some(AnaState::Optimized));
    world.ports.get_mut(&1).expect("a port").ana = Some(ana::State::Inaccessible);
    world.tell(1, AsyncEvent::ANA_CHANGED);
    assert_eq!(state_of(&world, life), Some(AnaState::Inaccessible));
    assert!(world.saw(|e| matches!(e, EventKind::AnaChanged { to: AnaState::Inaccessible, .. })));
    // The event was lost: a lane met the status.
    world.ports.get_mut(&1).expect("a port").ana = Some(ana::State::NonOptimized);
    world.say(0, ToControl::AnaStale(life));
    assert_eq!(state_of(&world, life), Some(AnaState::NonOptimized));
    assert_eq!(world.life(a), life, "no path is lost by it");
}

/// How many tables lane 0 was told.
fn tables(world: &World) -> usize {
    world.lanes[0].heard.iter().filter(|message| matches!(message, ToLane::Paths(_))).count()
}

#[test]
fn a_path_that_was_put_aside_is_told_anew_although_nothing_has_changed() {
    // With ANA: it changed, and changed back before it was read. Without: the controller has no business to say so.
    for ana in [Some(ana::State::Optimized), None] {
        let mut world = World::new(1, &[1]);
        world.ports.get_mut(&1).expect("a port").ana = ana;
        let ctrl = world.connect(World::spec(1));
        let (life, before) = (world.life(ctrl), tables(&world));
        for again in 1..4 {
            world.say(0, ToControl::AnaStale(life));
            assert_eq!(tables(&world), before + again - 1, "not at once: it may go on like this");
            world.advance(100 * MS);
            assert_eq!(tables(&world), before + again, "{ana:?}: the lane would wait for ever");
        }
        world.advance(10_000 * MS);
        assert_eq!((tables(&world), world.life(ctrl)), (before + 3, life));
    }
}

#[test]
fn what_cannot_be_read_of_a_live_controller_is_read_again() {
    for event in [AsyncEvent::NAMESPACE_CHANGED, AsyncEvent::ANA_CHANGED] {
        let (mut world, a, _) = with_ana();
        let life = world.life(a);
        let port = world.ports.get_mut(&1).expect("a port");
        (port.unreadable, port.blocks, port.ana) = (true, 2_000, Some(ana::State::NonOptimized));
        world.ports.get_mut(&2).expect("a port").blocks = 2_000;
        let since = world.now;
        world.tell(1, event);
        world.advance(4_000 * MS);
        assert_eq!(world.reads, [since, since + 1_000 * MS, since + 3_000 * MS], "twice as long each time");
        assert!(world.control.waits().any(|wait| wait.why == Why::Reread(life)), "it can be listed");
        world.ports.get_mut(&1).expect("a port").unreadable = false;
        world.advance(3_000 * MS);
        assert_eq!(state_of(&world, life), Some(AnaState::NonOptimized));
        let grown = world.saw(|e| matches!(e, EventKind::NamespaceResized { .. }));
        assert_eq!((grown, world.life(a)), (event == AsyncEvent::NAMESPACE_CHANGED, life));
        assert!(!world.control.waits().any(|wait| wait.why == Why::Reread(life)));
    }
}

#[test]
fn a_group_that_stays_in_change_ends_the_life_after_twice_its_time() {
    let (mut world, a, _) = with_ana();
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").ana = Some(ana::State::Change);
    world.tell(1, AsyncEvent::ANA_CHANGED);
    let since = world.now;
    assert!(world.control.waits().any(|wait| wait.why == Why::AnaTransition(life) && wait.at == since + 20_000 * MS));
    world.advance(10_000 * MS);
    world.say(0, ToControl::AnaStale(life));
    world.advance(9_999 * MS);
    assert_eq!(world.life(a), life);
    world.advance(MS);
    assert!(
        world.saw(|e| matches!(e, EventKind::Lost { how: Loss::AnaTransition, .. })),
        "seeing it again is no reprieve"
    );
    // One that comes through in time is left alone.
    let (mut world, a, _) = with_ana();
    let life = world.life(a);
    for state in [ana::State::Change, ana::State::Optimized] {
        world.ports.get_mut(&1).expect("a port").ana = Some(state);
        world.tell(1, AsyncEvent::ANA_CHANGED);
        world.advance(19_000 * MS);
    }
    assert_eq!((world.life(a), state_of(&world, life)), (life, Some(AnaState::Optimized)));
}

#[test]
fn a_namespace_that_grows_on_one_path_before_the_other_stays_one() {
    let (mut world, a, b) = World::two_paths(1);
    let blocks = |world: &World| world.control.heads().map(|head| head.shape.blocks).collect::<Vec<_>>();
    for port in [1, 2] {
        world.ports.get_mut(&port).expect("a port").blocks = 2_000;
        world.tell(port, AsyncEvent::NAMESPACE_CHANGED);
        assert_eq!(blocks(&world), [2_000], "after port {port}");
        // The other one has not heard of it: it is no path until it has.
        let lives = [world.life(a), world.life(b)];
        assert_eq!(world.paths(), lives[..usize::from(port)], "after port {port}");
    }
    assert_eq!(world.events.iter().filter(|e| matches!(e.kind, EventKind::NamespaceResized { .. })).count(), 1);
}

#[test]
fn no_admin_command_of_the_host_can_do_anything_late() {
    let (mut world, _, life) = fencing();
    // A whole life and its end: a hold by time, events, Keep Alive, an orderly shutdown.
    world.tell(2, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(20_000 * MS);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    world.control.shutdown(world.now);
    world.run();
    let seen: BTreeSet<u8> = world.asked.iter().map(|sqe| sqe.opcode).collect();
    let all = [
        OPCODE_FABRICS,
        ccr::OPCODE,
        admin::OPCODE_GET_LOG,
        admin::OPCODE_IDENTIFY,
        admin::OPCODE_SET_FEATURES,
        admin::OPCODE_GET_FEATURES,
        admin::OPCODE_ASYNC_EVENT,
        admin::OPCODE_KEEP_ALIVE,
    ];
    assert_eq!(seen, BTreeSet::from(all), "the commands of a life that loses its sibling");
    for sqe in &world.asked {
        assert_eq!(admin::late_effect(sqe), LateEffect::None, "{sqe:?}");
    }
}

/// A live controller that does not know of a new size is treated as one that comes back with the old one.
#[test]
fn a_controller_that_repeats_the_old_size_is_no_path_until_it_agrees() {
    let (mut world, a, b) = World::two_paths(1);
    let (first, second) = (world.life(a), world.life(b));
    for blocks in [2_000, 500] {
        world.ports.get_mut(&1).expect("a port").blocks = blocks;
        world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
        assert_eq!(world.control.heads().map(|head| head.shape.blocks).collect::<Vec<_>>(), [blocks]);
        assert_eq!(world.paths(), [first], "to {blocks} blocks: the other one was asked, and has not heard of it");
        let refused = if blocks == 2_000 { "on other paths 2000" } else { "on other paths 500" };
        assert!(
            world
                .saw(|e| matches!(e, EventKind::PathRefused { ctrl, why, .. } if *ctrl == b && why.ends_with(refused)))
        );
        // It hears of it, and says so or is looked at.
        world.ports.get_mut(&2).expect("a port").blocks = blocks;
        world.advance(60_000 * MS);
        assert_eq!(world.paths(), [first, second]);
    }
    let resized = world.events.iter().filter(|e| matches!(e.kind, EventKind::NamespaceResized { .. })).count();
    assert_eq!(resized, 2, "nobody contradicts anybody");
}
