//! Attempts that fail, ends that are asked for, and what is left behind.

use super::world::*;
use crate::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::admin::AsyncEvent;
use interlock_wire::status::Status;

#[test]
fn a_port_that_refuses_is_tried_at_once_and_then_with_jitter() {
    let mut world = World::new(1, &[]);
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Waiting);
    assert!(world.saw(|e| e.to_string().contains("connection refused")));
    world.advance(35_000 * MS);
    let gaps: Vec<_> = world.connects.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(gaps.len(), 3);
    assert!(gaps.iter().all(|gap| (9_000..=11_000).contains(gap)), "{gaps:?}");
    world.ports.insert(1, Port::default());
    world.advance(11_000 * MS);
    assert_eq!(world.state(a), StateName::Live);
}

#[test]
fn do_not_retry_ends_it_unless_told_otherwise() {
    let refused = Port { connect: Status::CONNECT_INVALID_HOST.with_dnr(), ..Port::default() };
    let mut world = World::new(1, &[]);
    world.ports.insert(1, refused);
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Dead);
    assert!(world.saw(|e| matches!(e, EventKind::GivenUp { .. })));
    let b = world.connect(ControllerSpec { ignore_dnr: true, ..World::spec(1) });
    assert_eq!(world.state(b), StateName::Waiting);
}

#[test]
fn a_name_that_has_no_address_is_one_sentence() {
    let mut world = World::new(1, &[]);
    let a = world.connect(ControllerSpec { traddr: "array.example".to_string(), ..World::spec(99) });
    assert_eq!(world.state(a), StateName::Waiting);
    assert!(world.saw(|e| e.to_string().contains("cannot resolve the name: no such name")));
}

#[test]
fn each_attempt_takes_the_next_address_of_a_name() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(ControllerSpec { traddr: "array.example".to_string(), ..World::spec(98) });
    assert_eq!(world.state(a), StateName::Waiting);
    world.advance(11_000 * MS);
    assert_eq!(world.state(a), StateName::Live);
}

#[test]
fn a_namespace_of_another_shape_is_refused_and_named() {
    let mut world = World::new(1, &[1, 2]);
    world.ports.get_mut(&2).expect("a port").blocks = 999;
    let a = world.connect(World::spec(1));
    let b = world.connect(World::spec(2));
    assert_eq!(world.state(b), StateName::Live);
    assert!(world.saw(|e| matches!(e, EventKind::PathRefused { ctrl, why, .. } if *ctrl == b && why.contains("999"))));
    assert_eq!(world.paths(), [world.life(a)]);
}

#[test]
fn ctrl_loss_and_fast_io_fail_run_from_the_loss() {
    let mut world = World::new(1, &[1]);
    let reconnect = Reconnect { ctrl_loss: Some(30_000 * MS), fast_io_fail: Some(5_000 * MS), ..Reconnect::default() };
    let a = world.connect(ControllerSpec { reconnect, ..World::spec(1) });
    world.advance(2_000 * MS);
    let may_return = |world: &World| world.control.paths().heads.values().next().map(|head| head.may_return);
    world.ports.get_mut(&1).expect("a port").open = false;
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(4_999 * MS);
    assert_eq!(may_return(&world), Some(true));
    world.advance(MS);
    assert_eq!(may_return(&world), Some(false), "settled I/O fails; what is in doubt is still held");
    assert_eq!(world.settled(0, life), None);
    world.advance(7_000 * MS);
    assert_eq!(world.settled(0, life), Some(Release::Retry), "fenced by time");
    world.advance(17_999 * MS);
    assert_eq!(world.state(a), StateName::Waiting);
    world.advance(MS);
    assert_eq!(world.state(a), StateName::Dead);
    assert!(world.saw(|e| matches!(e, EventKind::NamespaceRemoved { .. })));
}

#[test]
fn reset_drains_shuts_down_in_order_and_comes_back() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    world.control.reset(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Live);
    assert_ne!(world.life(a), life);
    assert!(world.jobs.contains(&Job::MarkClean(life)));
    assert_eq!(world.ccrs, [], "nothing was left unanswered");
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

#[test]
fn a_record_that_the_store_does_not_change_is_told() {
    let (mut world, a, b) = World::two_paths(1);
    world.store_refuses = true;
    let (drained, lost) = (world.life(a), world.life(b));
    world.control.reset(world.now, a).expect("known");
    world.run();
    let entry = world.write(lost, 0, 1);
    world.lose(lost, vec![entry]);
    world.advance(20_000 * MS);
    for (of, what) in [(drained, StoreWork::MarkClean), (lost, StoreWork::Forget)] {
        let told = |kind: &EventKind| matches!(kind, EventKind::StoreRefused { life, work, .. } if (*life, *work) == (of, what));
        assert!(world.saw(told), "{of}: {what:?}");
    }
    assert!(world.saw(|e| e.to_string().contains("refused a change (the disk is full); a successor of this process")));
}

#[test]
fn reset_fences_what_the_drain_left() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    world.lanes[0].keeps_drained = true;
    world.lanes[0].ledger = vec![world.write(life, 0, 1)];
    world.control.reset(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Resetting);
    world.advance(4_999 * MS);
    assert_eq!(world.ccrs, []);
    world.advance(MS);
    assert_eq!(world.receipt().loss, Loss::Reset);
    assert_eq!(world.receipt().method, Method::Immediate);
    assert!(!world.jobs.contains(&Job::MarkClean(life)));
    assert_eq!(world.state(a), StateName::Live);
}

#[test]
fn a_controller_that_is_shut_down_gets_no_other_command() {
    // A scan is under way, so far, when the last lane has drained; the ports look at what follows.
    let mut scanning = 0;
    for steps in 0..10 {
        let (mut world, a, _) = World::two_paths(1);
        world.lanes[0].keeps_drained = true;
        let life = world.life(a);
        world.send_event(1, AsyncEvent::NAMESPACE_CHANGED);
        world.control.disconnect(world.now, a).expect("known");
        scanning += (0..steps).filter(|_| world.step()).count();
        world.control.handle_lane(world.now, LaneId(0), ToControl::Drained(life));
        world.run();
        world.advance(2_000 * MS);
        assert_eq!(world.state(a), StateName::Dead, "after {steps} steps");
    }
    assert!(scanning > 10, "no scan was under way: nothing was shown");
}

#[test]
fn a_forced_end_leaves_a_tombstone_that_a_later_controller_ends() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let a = world.connect(World::spec(1));
    world.advance(2_000 * MS);
    let life = world.life(a);
    world.lanes[0].keeps_drained = true;
    let entry = world.write(life, 0, 1);
    world.lanes[0].ledger = vec![entry];
    let asked = world.now;
    world.control.disconnect(world.now, a).expect("known");
    world.run();
    world.advance(9_999 * MS);
    assert_eq!(world.state(a), StateName::Deleting);
    assert_eq!(world.settled(0, life), None);
    world.advance(MS);
    assert_eq!(world.state(a), StateName::Dead, "in time: drain and grace");
    let tombstones = world.control.tombstones();
    assert_eq!((tombstones.len(), tombstones[0].life, tombstones[0].guarded), (1, life, Guarded::Commands(1)));
    let until = tombstones[0].until.expect("KATO bounds it");
    assert!(until > asked + 15_000 * MS);
    assert_eq!(world.settled(0, life), Some(Release::Indeterminate { until: Some(until) }));
    let guarded = |world: &World| {
        world.lanes[0].heard.iter().rev().find_map(|m| match m {
            ToLane::Guard { entries, .. } => Some(entries.len()),
            _ => None,
        })
    };
    assert_eq!(guarded(&world), Some(1), "the range outlives its controller");
    // The same subsystem again: the new controller can reset the old life.
    world.ports.get_mut(&1).expect("a port").ccrl = 4;
    world.lanes[0].keeps_drained = false;
    world.connect(World::spec(1));
    assert_eq!(world.ccrs.len(), 1);
    assert_eq!(world.control.tombstones(), []);
    assert_eq!(guarded(&world), Some(0));
    assert!(world.saw(|e| matches!(e, EventKind::TombstoneEnded { method: Method::Immediate, .. })));
}

#[test]
fn a_tombstone_guards_until_its_time_is_over() {
    let mut world = World::new(1, &[1, 2]);
    for port in world.ports.values_mut() {
        port.ccrl = 0;
    }
    let a = world.connect(World::spec(1));
    let b = world.connect(World::spec(2));
    let (life, other) = (world.life(a), world.life(b));
    world.ports.get_mut(&1).expect("a port").open = false;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.control.disconnect(world.now, a).expect("known");
    world.run();
    world.advance(5_000 * MS);
    assert_eq!(world.control.tombstones().len(), 1);
    let guarded = |world: &World| {
        let table = world.lanes[0].heard.iter().rev().find_map(|m| match m {
            ToLane::Guard { entries, .. } => Some(entries.clone()),
            _ => None,
        });
        table.expect("guarded").iter().map(|entry| (entry.key.seq, entry.stands)).collect::<Vec<_>>()
    };
    // The next table still holds its range.
    let abandoned = LedgerEntry { abandoned: true, ..world.write(other, 0, 9) };
    world.say(0, ToControl::Abandoned(abandoned));
    assert_eq!(guarded(&world), [(1, GuardStands::Held), (9, GuardStands::Held)]);
    world.advance(20_000 * MS);
    assert_eq!(world.control.tombstones(), []);
    assert_eq!(world.receipt().method, Method::Time);
    assert_eq!(guarded(&world), [(9, GuardStands::Held)]);
    assert!(world.control.waits().all(|wait| !wait.why.to_string().contains(&life.to_string())));
}

#[test]
fn without_kato_nothing_connects_unless_allowed_and_then_only_ccr_ends_a_doubt() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let spec = ControllerSpec { kato: Duration::ZERO, ..World::spec(1) };
    assert_eq!(world.control.connect(world.now, spec.clone()), Err(SpecError::NoKato));
    let reconnect = Reconnect { ctrl_loss: Some(Duration::from_secs(20)), ..Reconnect::default() };
    let a = world.connect(ControllerSpec { allow_no_kato: true, reconnect, ..spec });
    world.advance(2_000 * MS);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").open = false;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(25_000 * MS);
    assert_eq!(world.state(a), StateName::Dead);
    assert_eq!(world.settled(0, life), Some(Release::Indeterminate { until: None }));
    world.advance(Duration::from_secs(100_000));
    assert_eq!(world.control.tombstones().len(), 1, "time proves nothing");
}

/// What the guard table that lane 0 heard last says about each entry.
fn stands(world: &World) -> Vec<GuardStands> {
    let table = world.lanes[0].heard.iter().rev().find_map(|m| match m {
        ToLane::Guard { entries, .. } => Some(entries.clone()),
        _ => None,
    });
    table.map_or(Vec::new(), |table| table.iter().map(|entry| entry.stands).collect())
}

#[test]
fn a_doubt_that_no_time_ends_is_given_up_after_one_attempt_and_its_guard_says_so() {
    let mut world = World::new(1, &[1, 2]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    // Nothing ever gives this controller up.
    let reconnect = Reconnect { ctrl_loss: None, ..Reconnect::default() };
    let spec = ControllerSpec { kato: Duration::ZERO, allow_no_kato: true, reconnect, ..World::spec(1) };
    let patience = spec.timeouts.connect_total;
    let a = world.connect(spec);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(stands(&world), [GuardStands::Held], "what overlaps waits for a source");
    let until = world.control.waits().find(|wait| wait.why == Why::Grace(life)).expect("listed").at;
    assert_eq!(until, world.now + patience);
    world.advance(patience - MS);
    assert_eq!(world.settled(0, life), None);
    world.advance(MS);
    assert_eq!(world.settled(0, life), Some(Release::Indeterminate { until: None }));
    assert_eq!(stands(&world), [GuardStands::Endless], "what overlaps is refused");
    assert_eq!(world.state(a), StateName::Live, "the path itself is back, and goes on");
    // A controller that can reset the lost one ends it all the same.
    world.connect(World::spec(2));
    world.advance(100 * MS);
    assert_eq!(world.receipt().method, Method::Immediate);
    assert_eq!((stands(&world), world.control.tombstones()), (vec![], vec![]));
}

#[test]
fn a_controller_that_switched_keep_alive_off_is_refused_by_name() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").kato = Some(0);
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Dead, "trying again cannot help");
    let info = world.control.controllers().next().expect("kept");
    assert!(info.last_error.is_some_and(|why| why.contains("KATO 0")), "{:?}", info.last_error);
    // Allowed on request. It is still asked for signs of life: that is how its loss is noticed.
    let a = world.connect(ControllerSpec { allow_no_kato: true, ..World::spec(1) });
    assert_eq!(world.state(a), StateName::Live);
    assert!(world.control.waits().any(|wait| wait.why == Why::KeepAlive(world.life(a))));
    let entry = world.write(world.life(a), 0, 1);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").mute = true;
    world.lanes[0].ledger = vec![entry];
    world.advance(5_500 * MS);
    assert!(world.saw(|e| matches!(e, EventKind::Lost { how: Loss::KeepAlive, .. })));
    assert!(world.saw(|e| matches!(e, EventKind::HoldUntil { life: of, deadline: None, .. } if *of == life)));
}

#[test]
fn shutdown_ends_everything_with_a_deadline() {
    let (mut world, a, b) = World::two_paths(2);
    world.control.shutdown(world.now);
    world.run();
    assert!(world.control.has_ended());
    assert_eq!((world.state(a), world.state(b)), (StateName::Dead, StateName::Dead));
    assert_eq!(world.heard(1, |m| matches!(m, ToLane::Shutdown)), Some(world.lanes[1].heard.len() - 1));
    assert_eq!(world.jobs.iter().filter(|job| matches!(job, Job::MarkClean(_))).count(), 2);
    assert_eq!(world.control.next_deadline(), None);
    let refused = world.control.connect(world.now, World::spec(1));
    assert_eq!(refused, Err(SpecError::ShuttingDown));
}

#[test]
fn every_step_of_connecting_has_a_deadline() {
    // Takes the connection and says nothing.
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").mute = true;
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Connecting);
    world.advance(10_000 * MS);
    assert_eq!(world.state(a), StateName::Waiting);
    assert!(world.saw(|e| e.to_string().contains("timed out: ICResp and Connect")));
    // A lane that never opens its queue.
    assert!(world.control.waits().all(|wait| wait.at < Instant::from_millis(u64::MAX / 2_000_000)));
}

#[test]
fn the_same_seed_and_inputs_give_the_same_outputs() {
    let run = || {
        let mut world = World::new(1, &[]);
        world.connect(World::spec(1));
        world.advance(100_000 * MS);
        world.connects
    };
    assert_eq!(run(), run());
}

#[test]
fn the_same_port_twice_is_refused_by_name() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    assert_eq!(world.control.connect(world.now, World::spec(1)), Err(SpecError::Duplicate(a)));
    world.control.disconnect(world.now, a).expect("known");
    world.run();
    assert_eq!(world.control.disconnect(world.now, a), Err(NoSuchController(a)));
    assert_eq!(world.control.heads().count(), 0);
}

/// Path 1 is reset, and one command is left unanswered after its drain.
fn reset_with_a_leftover(declared: bool, stays_ready: bool) -> (World, CtrlId, LifeId) {
    let mut world = World::new(1, &[1]);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ccrl, port.stays_ready) = (0, stays_ready);
    let a = world.connect(ControllerSpec { disable_is_fence: declared, ..World::spec(1) });
    let life = world.life(a);
    world.lanes[0].keeps_drained = true;
    world.lanes[0].ledger = vec![world.write(life, 0, 1)];
    world.control.reset(world.now, a).expect("known");
    world.advance(5_000 * MS);
    (world, a, life)
}

#[test]
fn a_disable_is_a_fence_only_where_that_was_declared() {
    let (mut world, a, life) = reset_with_a_leftover(true, false);
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.life, receipt.loss), (Method::DrainedDisable, life, Loss::Reset));
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    assert_eq!(world.state(a), StateName::Live);
    world.advance(60_000 * MS);
    assert_eq!(world.control.receipts().count(), 1);
    // The same controller, and nobody vouches for it: it says at once that it is disabled, and goes on writing.
    let (mut world, _, life) = reset_with_a_leftover(false, false);
    world.advance(1_000 * MS);
    assert_eq!(world.settled(0, life), None);
    world.advance(20_000 * MS);
    assert_eq!(world.receipt().method, Method::Time);
}

#[test]
fn a_disable_that_does_not_end_ends_by_its_limit_and_the_hold_begins_then() {
    let (mut world, _, life) = reset_with_a_leftover(true, true);
    let asked = world.now;
    assert!(world.control.waits().any(|wait| wait.why == Why::Disable(life) && wait.at == asked + 5_000 * MS));
    world.advance(4_999 * MS);
    assert!(!world.saw(|e| matches!(e, EventKind::HoldUntil { .. })), "something is still sent on its admin queue");
    world.advance(MS);
    assert!(world.saw(|e| matches!(e, EventKind::HoldUntil { t0, .. } if *t0 == asked + 5_000 * MS)));
    world.advance(20_000 * MS);
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.t0), (Method::Time, Some(asked + 5_000 * MS)));
}

#[test]
fn a_loss_that_nobody_asked_for_is_never_fenced_by_a_disable() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let a = world.connect(ControllerSpec { disable_is_fence: true, ..World::spec(1) });
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(1_000 * MS);
    assert_eq!(world.settled(0, life), None);
    world.advance(20_000 * MS);
    assert_eq!(world.receipt().method, Method::Time);
}
