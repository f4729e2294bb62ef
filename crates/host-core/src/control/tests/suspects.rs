//! Commands that instances were lost with, through Control: three losses, a turn alone, and the end.

use super::world::{MS, World};
use crate::poison::{Order, Stage};
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
    world.say(0, ToControl::Resolved(vec![KEY]));
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
    world.say(0, ToControl::Resolved(vec![KEY]));
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
