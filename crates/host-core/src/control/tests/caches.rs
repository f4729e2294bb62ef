//! Controllers with a cache of their own: whom a flush asks, and what is lost with one.

use super::world::*;
use crate::*;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_wire::status::Status;

fn spec(port: u16) -> ControllerSpec {
    ControllerSpec { flush_scope: FlushScope::Controller, ..World::spec(port) }
}

/// Two lanes, two controllers with caches of their own.
fn own_caches() -> (World, CtrlId, CtrlId, HeadId) {
    let mut world = World::new(2, &[1, 2]);
    let (a, b) = (world.connect(spec(1)), world.connect(spec(2)));
    world.advance(1_500 * MS);
    let head = world.control.heads().next().expect("a head").id;
    (world, a, b, head)
}

/// The answers that a lane got to its questions about flushes.
fn plans(world: &World, lane: usize) -> Vec<(Vec<LifeId>, Vec<LifeId>)> {
    let plan = |message: &ToLane| match message {
        ToLane::FlushPlan { lives, lost, .. } => Some((lives.iter().map(|(life, _)| *life).collect(), lost.clone())),
        _ => None,
    };
    world.lanes[lane].heard.iter().filter_map(plan).collect()
}

#[test]
fn a_flush_hears_whom_to_ask_once_every_lost_life_is_judged() {
    let (mut world, a, b, head) = own_caches();
    let (life, other) = (world.life(a), world.life(b));
    world.say(0, ToControl::Flush { seq: 1, head });
    assert_eq!(plans(&world, 0), [(vec![life, other], Vec::new())]);
    let wrote = Some(world.now);
    world.lanes[0].cached = vec![CacheEntry { head, wrote, flushed: None }];
    world.lanes[1].keeps_condemned = true;
    world.ports.get_mut(&1).expect("a port").open = false;
    world.lose(life, Vec::new());
    world.say(0, ToControl::Flush { seq: 2, head });
    assert_eq!(plans(&world, 0).len(), 1, "lane 1 may have flushed it, or have written more");
    world.say(1, ToControl::Condemned { life, ledger: Vec::new(), settled: 0 });
    assert_eq!(plans(&world, 0)[1..], [(vec![other], vec![life])]);
    assert!(world.saw(|e| matches!(e, EventKind::CacheLost { .. })));
    // Until somebody was told, everybody is.
    world.say(1, ToControl::Flush { seq: 9, head });
    world.say(0, ToControl::FlushTold { head, lives: vec![life] });
    world.say(1, ToControl::Flush { seq: 10, head });
    assert_eq!(plans(&world, 1), [(vec![other], vec![life]), (vec![other], Vec::new())]);
}

/// A disk whose identifier was misread once has another name afterwards.
#[test]
fn a_loss_is_told_under_the_name_that_the_disk_has_by_its_right_identifiers() {
    let mut world = World::new(2, &[1]);
    let a = world.connect(spec(1));
    world.advance(1_500 * MS);
    let (life, misread) = (world.life(a), world.control.heads().next().expect("a head").id);
    world.lanes[0].cached = vec![CacheEntry { head: misread, wrote: Some(world.now), flushed: None }];
    world.ports.get_mut(&1).expect("a port").ids.uuid = Some([8; 16]);
    world.lose(life, Vec::new());
    world.advance(1_500 * MS);
    let (after, head) = (world.life(a), world.control.heads().next().expect("a head").id);
    assert!(life != after && misread != head, "{misread} {head}");
    world.say(1, ToControl::Flush { seq: 1, head });
    assert_eq!(
        plans(&world, 1),
        [(vec![after], vec![life])],
        "what was written under the old name may be of this disk"
    );
    world.say(1, ToControl::FlushTold { head, lives: vec![life] });
    world.say(1, ToControl::Flush { seq: 2, head });
    assert_eq!(plans(&world, 1)[1..], [(vec![after], Vec::new())]);
}

#[test]
fn what_another_lane_has_flushed_is_not_lost() {
    let (mut world, a, _, head) = own_caches();
    let (life, wrote) = (world.life(a), Some(world.now));
    world.lanes[0].cached = vec![CacheEntry { head, wrote, flushed: None }];
    world.lanes[1].cached = vec![CacheEntry { head, wrote: None, flushed: Some(world.now + MS) }];
    world.lose(life, Vec::new());
    assert!(!world.saw(|e| matches!(e, EventKind::CacheLost { .. })));
}

#[test]
fn an_orderly_shutdown_leaves_nothing_in_a_cache() {
    for (orderly, mute) in [(true, false), (false, true)] {
        let (mut world, a, _, head) = own_caches();
        world.lanes[0].cached = vec![CacheEntry { head, wrote: Some(world.now), flushed: None }];
        world.ports.get_mut(&1).expect("a port").mute = mute;
        world.control.disconnect(world.now, a).expect("known");
        world.run();
        world.advance(20_000 * MS);
        let lost = world.saw(|e| matches!(e, EventKind::CacheLost { .. }));
        assert_eq!(lost, !orderly, "a controller that does not answer may have lost it");
        world.say(1, ToControl::Flush { seq: 3, head });
        assert_eq!(plans(&world, 1).last().expect("answered").1.is_empty(), orderly);
    }
}

#[test]
fn a_late_answer_of_a_lost_controller_is_in_its_cache_and_nowhere_else() {
    let own = FlushScope::Controller;
    for (scope, op, status, taken) in [
        (own, Op::Write { fua: false }, Status::SUCCESS, false),
        (own, Op::WriteZeroes { deallocate: false }, Status::SUCCESS, false),
        (own, Op::Discard, Status::SUCCESS, false),
        (own, Op::Write { fua: false }, Status::LBA_OUT_OF_RANGE, true),
        (FlushScope::Subsystem, Op::Write { fua: false }, Status::SUCCESS, true),
    ] {
        let mut world = World::new(2, &[1, 2]);
        let a = world.connect(ControllerSpec { flush_scope: scope, ..World::spec(1) });
        world.connect(ControllerSpec { flush_scope: scope, ..World::spec(2) });
        world.advance(1_500 * MS);
        for port in world.ports.values_mut() {
            port.ccr = Ccr::Pending;
        }
        let life = world.life(a);
        let (entry, other) = (LedgerEntry { op, ..world.write(life, 0, 1) }, world.write(life, 0, 9));
        let key = entry.key;
        world.lose(life, vec![entry, other]);
        let cqe = good().with_status(status);
        world.say(0, ToControl::Late { life, key, cqe });
        let answered = world.lanes[0].heard.contains(&ToLane::Answered { key, cqe });
        assert_eq!(answered, taken, "{scope:?} {op:?} {status}");
        // What was not taken goes on being held, and goes elsewhere once the life is fenced.
        let guarded = |message: &ToLane| match message {
            ToLane::Guard { entries, .. } => Some(entries.iter().any(|entry| entry.key == key)),
            _ => None,
        };
        assert_eq!(world.lanes[1].heard.iter().rev().find_map(guarded), Some(!taken), "{scope:?} {op:?} {status}");
        world.advance(60_000 * MS);
        assert_eq!(world.settled(0, life), Some(Release::Retry));
    }
}

/// What a cache holds does not change because nobody is left who could say whose it is.
#[test]
fn caches_are_known_when_the_last_of_their_controllers_is_gone() {
    let mut world = World::new(2, &[1]);
    let reconnect = Reconnect { ctrl_loss: Some(Duration::ZERO), ..Reconnect::default() };
    let a = world.connect(ControllerSpec { reconnect, ..spec(1) });
    world.advance(1_500 * MS);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    let key = entry.key;
    world.lose(life, vec![entry]);
    assert!(world.control.controllers().all(|ctrl| ctrl.state.name() == StateName::Dead), "nobody is left");
    let cqe = good();
    world.say(0, ToControl::Late { life, key, cqe });
    assert!(!world.lanes[0].heard.contains(&ToLane::Answered { key, cqe }), "it is in a lost cache, and nowhere else");
}

#[test]
fn a_cache_is_shared_by_all_controllers_of_a_subsystem_or_by_none() {
    let (mut world, a, _, _) = own_caches();
    let refused = world.control.connect(world.now, World::spec(3));
    assert_eq!(refused, Err(SpecError::FlushScope(a)));
}
