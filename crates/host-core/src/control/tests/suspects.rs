//! Commands that instances were lost with, through Control: three losses, a turn alone, and the end.

use super::world::{MS, World};
use crate::poison::{Carried, Order, Report, Stage};
use crate::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

/// The live instance of the controller is reset by the target, with this write outstanding and in doubt.
fn lose(world: &mut World, ctrl: CtrlId, seq: u64) -> LifeId {
    let life = world.life(ctrl);
    let entry = LedgerEntry { life, ..world.write(life, 0, seq) };
    world.lanes[0].carried = vec![entry.clone()];
    world.lose(life, vec![entry]);
    life
}

fn orders(world: &World, lane: usize) -> Vec<Order> {
    let orders = world.lanes[lane].heard.iter().filter_map(|message| match message {
        ToLane::Poison(order) => Some(*order),
        _ => None,
    });
    orders.collect()
}

fn alone(world: &World) -> Vec<LifeId> {
    let alone = orders(world, 0).into_iter().filter_map(|order| match order {
        Order::Alone { life, .. } => Some(life),
        _ => None,
    });
    alone.collect()
}

const KEY: GuardKey = GuardKey { seq: 1, lane: 0 };

fn stages(world: &World) -> Vec<Stage> {
    let stages = world.events.iter().filter_map(|event| match &event.kind {
        EventKind::Suspect { stage, .. } => Some(*stage),
        _ => None,
    });
    stages.collect()
}

#[test]
fn a_write_on_which_the_target_dies_is_tried_alone_and_fails_by_evidence() {
    let (mut world, a, b) = World::two_paths(2);
    for ctrl in [a, b] {
        lose(&mut world, ctrl, 1);
    }
    assert_eq!(alone(&world), []);
    lose(&mut world, a, 1);
    assert_eq!(world.control.suspects().map(|suspect| suspect.key).collect::<Vec<_>>(), [KEY]);
    assert!(world.control.waits().any(|wait| wait.why == Why::Suspects), "it waits with a deadline");
    assert_eq!(alone(&world).len(), 1, "its instances are fenced: it is sent on one that every lane has emptied");
    for turn in 1..=2_u32 {
        let life = *alone(&world).last().expect("its turn");
        assert!(orders(&world, 1).contains(&Order::Isolate(life)), "on the other lane as well");
        let ctrl = if world.life(a) == life { a } else { b };
        let lost = lose(&mut world, ctrl, 1);
        assert_eq!(lost, life);
        let suspect = world.receipt().suspect.clone().expect("the receipt names it");
        assert_eq!((suspect.key, suspect.instances), (KEY, 2 + turn));
        assert_eq!(world.state(ctrl), StateName::Live, "its path does not pause as one that flaps");
        world.advance(1_100 * MS);
    }
    assert!(orders(&world, 0).contains(&Order::Fail { key: KEY, instances: 5 }), "{:?}", orders(&world, 0));
    let told = |text: &str| world.events.iter().any(|event| event.to_string().contains(text));
    assert!(told("Write of head0 (8 blocks from LBA 8): fails, 5 instances were lost with it, 2 of them"));
    world.say(0, ToControl::Poison(Report::Ended(KEY)));
    assert_eq!(world.control.suspects().count(), 0);
    assert!(world.control.waits().all(|wait| wait.why != Why::Suspects));
    let last = orders(&world, 1).into_iter().rev().find(|order| matches!(order, Order::Isolate(_) | Order::Share(_)));
    assert!(matches!(last, Some(Order::Share(_))), "the others have every instance again");
}

#[test]
fn one_that_is_answered_alone_is_cleared() {
    let (mut world, a, b) = World::two_paths(1);
    for ctrl in [a, b, a] {
        lose(&mut world, ctrl, 1);
    }
    world.say(0, ToControl::Poison(Report::Ended(KEY)));
    assert_eq!(stages(&world).last(), Some(&Stage::Cleared));
    assert!(matches!(orders(&world, 0).last(), Some(Order::Share(_))));
}

#[test]
fn a_suspect_is_not_sent_before_the_last_instance_that_carried_it_is_fenced() {
    let mut world = World::new(1, &[1, 2]);
    for port in world.ports.values_mut() {
        (port.ccrl, port.ciu) = (0, 0);
    }
    let (a, b) = (world.connect(World::spec(1)), world.connect(World::spec(2)));
    world.advance(1_500 * MS);
    for ctrl in [a, b, a] {
        world.advance(1_500 * MS);
        lose(&mut world, ctrl, 1);
        assert_eq!(alone(&world), []);
    }
    // KATO 5 s, CQT 10 ms: 10 s and the margins.
    world.advance(10_000 * MS);
    assert_eq!(alone(&world), [], "{:?}", stages(&world));
    world.advance(2_000 * MS);
    assert_eq!(alone(&world).len(), 1);
}

#[test]
fn losses_that_a_suspect_explains_do_not_pause_its_paths() {
    let (mut world, a, b) = World::two_paths(1);
    // The second loss in a row within a second: the path pauses as one that flaps.
    lose(&mut world, a, 1);
    lose(&mut world, a, 1);
    assert_eq!(world.state(a), StateName::Waiting);
    lose(&mut world, b, 1);
    assert_eq!(world.state(a), StateName::Live, "the third explains them all: it comes back at once");
    assert!(alone(&world).len() == 1, "{:?}", orders(&world, 0));
}

#[test]
fn resets_that_were_asked_for_and_silence_beside_others_make_no_suspect() {
    let (mut world, a, _) = World::two_paths(1);
    for _ in 0..4 {
        let life = world.life(a);
        let entries: Vec<_> = [1, 2].map(|seq| world.write(life, 0, seq)).into();
        (world.lanes[0].carried, world.lanes[0].ledger) = (entries.clone(), entries);
        world.lanes[0].keeps_drained = true;
        world.control.reset(world.now, a).expect("known");
        world.run();
        world.advance(Duration::from_secs(20));
        assert_eq!(world.state(a), StateName::Live);
    }
    assert_eq!((world.control.suspects().count(), stages(&world)), (0, vec![]));
    let freed = orders(&world, 0).into_iter().filter(|order| *order == Order::Free(KEY)).count();
    assert_eq!(freed, 4, "its lane may have counted, and is told to go on");
}

/// A name of the second lane, for what the first one carries out.
const FORWARDED: GuardKey = GuardKey { seq: 1, lane: 1 };

/// As [`lose`], of what the second lane accepted and this one has.
fn lose_forwarded(world: &mut World, ctrl: CtrlId, lane: usize) {
    let life = world.life(ctrl);
    let entry = world.write(life, 1, 1);
    world.lanes[lane].carried = vec![entry];
    world.lose(life, vec![]);
}

#[test]
fn a_command_that_another_lane_carries_out_is_counted_on_and_has_its_turn_there() {
    let (mut world, a, b) = World::two_paths(2);
    lose_forwarded(&mut world, a, 1);
    lose_forwarded(&mut world, b, 1);
    assert!(stages(&world).is_empty());
    lose_forwarded(&mut world, a, 0);
    assert_eq!(world.control.suspects().map(|suspect| suspect.key).collect::<Vec<_>>(), [FORWARDED]);
    assert_eq!(alone(&world).len(), 1, "the lane that has it is told: {:?}", orders(&world, 0));
    let to_origin = orders(&world, 1).into_iter().filter(|order| matches!(order, Order::Alone { .. })).count();
    assert_eq!(to_origin, 0, "and not the one that accepted it");
    // Heard last, said first.
    world.say(1, ToControl::Poison(Report::Ended(FORWARDED)));
    assert_eq!(world.control.suspects().count(), 0);
    world.say(0, ToControl::Poison(Report::Ended(FORWARDED)));
    assert!(world.control.waits().all(|wait| wait.why != Why::Suspects));
}

#[test]
fn what_a_lane_was_told_of_a_command_that_it_had_forwarded_is_said_again_where_it_is() {
    let (mut world, a, _) = World::two_paths(2);
    lose_forwarded(&mut world, a, 1);
    let freed = |world: &World, lane| orders(world, lane).contains(&Order::Free(FORWARDED));
    assert!(freed(&world, 1) && !freed(&world, 0), "the lane has counted three, and control one");
    world.say(0, ToControl::Poison(Report::Here(FORWARDED)));
    assert!(freed(&world, 0), "{:?}", orders(&world, 0));
}

#[test]
fn a_suspect_that_no_lane_with_a_queue_has_waits_for_the_lane_that_takes_it_over() {
    let mut world = World::new(2, &[1, 2]);
    for port in world.ports.values_mut() {
        port.grants = Some(1);
    }
    let (a, b) = (world.connect(World::spec(1)), world.connect(World::spec(2)));
    world.advance(1_500 * MS);
    for ctrl in [a, b, a] {
        lose_forwarded(&mut world, ctrl, 1);
    }
    assert_eq!(world.control.suspects().count(), 1);
    assert_eq!(alone(&world), [], "the second lane has no queue anywhere");
    world.say(0, ToControl::Poison(Report::Here(FORWARDED)));
    assert_eq!(alone(&world).len(), 1, "the first has");
}

#[test]
fn of_two_lanes_that_lost_one_command_with_one_instance_the_later_counts() {
    // The first of them forwarded it to the other, which had not heard of the loss, and is heard last.
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    let entry = world.write(life, 1, 1);
    let carried = |waits| {
        let commands = vec![Carried { command: entry.clone(), waits }];
        ToControl::Poison(Report::Carried { life, commands })
    };
    world.say(0, carried(true));
    world.say(1, carried(false));
    world.lose(life, vec![]);
    assert!(orders(&world, 0).contains(&Order::Free(FORWARDED)), "it waits to hear that it is no suspect");
}
