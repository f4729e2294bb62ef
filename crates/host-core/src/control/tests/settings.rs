//! What may be changed while a controller runs, who reconnects it, and how a flapping path is slowed down.

use super::world::*;
use crate::*;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

const SEC: Duration = Duration::from_secs(1);

fn spec(reconnect: Reconnect) -> ControllerSpec {
    ControllerSpec { reconnect, ..World::spec(1) }
}

/// One path, lost 2 s after it came, and its port is closed.
fn lost(spec: ControllerSpec) -> (World, CtrlId) {
    let mut world = World::new(1, &[1]);
    let a = world.connect(spec);
    world.advance(2 * SEC);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.lose(world.life(a), Vec::new());
    assert_eq!(world.state(a), StateName::Waiting);
    (world, a)
}

fn wait_of(world: &World, why: Why) -> Option<Duration> {
    world.control.waits().find(|wait| wait.why == why).map(|wait| wait.at - world.now)
}

#[test]
fn which_times_go_together() {
    let (sec, year) = (|n: u64| Some(Duration::from_secs(n)), MAX_RECONNECT);
    let long = Some(year + SEC);
    for (delay, loss, fast, want) in [
        (10 * SEC, sec(600), None, Ok(())),
        (10 * SEC, None, None, Ok(())),
        (10 * SEC, None, sec(9_999), Ok(())),
        (Duration::ZERO, sec(600), None, Ok(())),
        (10 * SEC, sec(0), None, Ok(())),
        (10 * SEC, sec(0), sec(0), Ok(())),
        // The first attempt comes at once, so a limit below the delay still means one.
        (10 * SEC, sec(5), sec(5), Ok(())),
        (year, Some(year), Some(year), Ok(())),
        (10 * SEC, sec(5), sec(6), Err(SpecError::FastIoFail)),
        (10 * SEC, sec(0), sec(1), Err(SpecError::FastIoFail)),
        (year + SEC, None, None, Err(SpecError::TooLong)),
        (10 * SEC, long, None, Err(SpecError::TooLong)),
        (10 * SEC, None, long, Err(SpecError::TooLong)),
    ] {
        let reconnect = Reconnect { delay, ctrl_loss: loss, fast_io_fail: fast };
        assert_eq!(spec(reconnect).check(), want, "{reconnect:?}");
        // The same rules at run time, whatever the order; what is refused changes nothing.
        let mut world = World::new(1, &[1]);
        let a = world.connect(spec(Reconnect { delay: SEC, ctrl_loss: None, fast_io_fail: None }));
        let steps = [Setting::ReconnectDelay(delay), Setting::CtrlLossTmo(loss), Setting::FastIoFailTmo(fast)];
        let ends: Vec<_> = steps.into_iter().map(|step| world.control.set(world.now, a, step)).collect();
        assert_eq!(ends.iter().find_map(|end| end.err()), want.err().map(SettingError::Spec), "{reconnect:?}");
        let now = world.control.controllers().next().expect("it").spec.reconnect;
        assert_eq!(now == reconnect, want.is_ok());
        assert_eq!(spec(now).check(), Ok(()));
    }
}

#[test]
fn a_setting_of_nobody_is_refused() {
    let mut world = World::new(1, &[1]);
    let nobody = NoSuchController(CtrlId(5));
    let set = world.control.set(world.now, CtrlId(5), Setting::ReconnectDelay(SEC));
    assert_eq!(set, Err(SettingError::NoSuchController(nobody)));
    assert_eq!(world.control.reconnect(world.now, CtrlId(5)), Err(nobody));
}

#[test]
fn a_new_delay_counts_at_once() {
    let (mut world, a) = lost(spec(Reconnect::default()));
    assert!(wait_of(&world, Why::Reconnect(a)).is_some_and(|wait| wait > 8 * SEC));
    world.control.set(world.now, a, Setting::ReconnectDelay(SEC)).expect("valid");
    assert_eq!(wait_of(&world, Why::Reconnect(a)), Some(SEC));
    world.ports.get_mut(&1).expect("a port").open = true;
    world.advance(SEC);
    assert_eq!(world.state(a), StateName::Live);
    assert!(world.control.set(world.now, a, Setting::ReconnectDelay(2 * SEC)).is_ok());
    assert_eq!(wait_of(&world, Why::Reconnect(a)), None, "a live controller waits for nothing");
}

#[test]
fn a_new_limit_runs_from_the_loss() {
    let (mut world, a) = lost(spec(Reconnect::default()));
    world.advance(5 * SEC);
    assert_eq!(wait_of(&world, Why::ControllerLoss(a)), Some(595 * SEC));
    world.control.set(world.now, a, Setting::CtrlLossTmo(Some(8 * SEC))).expect("valid");
    assert_eq!(wait_of(&world, Why::ControllerLoss(a)), Some(3 * SEC));
    world.control.set(world.now, a, Setting::CtrlLossTmo(None)).expect("valid");
    assert_eq!(wait_of(&world, Why::ControllerLoss(a)), None);
    world.control.set(world.now, a, Setting::CtrlLossTmo(Some(4 * SEC))).expect("valid");
    world.advance(Duration::ZERO);
    assert_eq!(world.state(a), StateName::Dead, "it is over already");
}

#[test]
fn no_patience_after_a_loss_is_no_limit_for_the_first_connect() {
    let mut world = World::new(1, &[]);
    let a = world.connect(World::spec(1));
    world.control.set(world.now, a, Setting::CtrlLossTmo(Some(Duration::ZERO))).expect("valid");
    world.advance(SEC);
    assert_eq!(world.state(a), StateName::Waiting);
    world.ports.insert(1, Port::default());
    world.advance(11 * SEC);
    assert_eq!(world.state(a), StateName::Live);
    world.advance(2 * SEC);
    world.lose(world.life(a), Vec::new());
    assert_eq!(world.state(a), StateName::Dead);
}

#[test]
fn io_that_failed_fast_waits_again_when_the_limit_is_taken_back() {
    let may_return = |world: &World| world.control.paths().heads.values().next().map(|head| head.may_return);
    let (mut world, a) = lost(spec(Reconnect::default()));
    world.control.set(world.now, a, Setting::FastIoFailTmo(Some(3 * SEC))).expect("valid");
    world.advance(2_999 * MS);
    assert_eq!(may_return(&world), Some(true));
    world.advance(MS);
    assert_eq!(may_return(&world), Some(false));
    // Still over: nothing changes.
    world.control.set(world.now, a, Setting::FastIoFailTmo(Some(2 * SEC))).expect("valid");
    world.run();
    assert_eq!((may_return(&world), wait_of(&world, Why::FastIoFail(a))), (Some(false), None));
    world.control.set(world.now, a, Setting::FastIoFailTmo(Some(5 * SEC))).expect("valid");
    world.run();
    assert_eq!((may_return(&world), wait_of(&world, Why::FastIoFail(a))), (Some(true), Some(2 * SEC)));
    world.advance(2 * SEC);
    assert_eq!(may_return(&world), Some(false));
    world.control.set(world.now, a, Setting::FastIoFailTmo(None)).expect("valid");
    world.run();
    assert_eq!(may_return(&world), Some(true));
}

#[test]
fn the_io_policy_belongs_to_the_subsystem() {
    let (mut world, a, b) = World::two_paths(1);
    world.control.set(world.now, a, Setting::IoPolicy(IoPolicy::QueueDepth)).expect("valid");
    world.run();
    let policy = |ctrl| world.control.controllers().find(|info| info.id == ctrl).map(|info| info.spec.iopolicy);
    assert_eq!((policy(a), policy(b)), (Some(IoPolicy::QueueDepth), Some(IoPolicy::QueueDepth)));
    assert!(world.control.paths().heads.values().all(|head| head.policy == IoPolicy::QueueDepth));
    assert!(world.saw(|e| matches!(e, EventKind::SettingChanged { .. })));
}

#[test]
fn the_fence_policy_holds_for_losses_from_now_on() {
    let (mut world, a, b) = World::two_paths(1);
    let (first, second) = (world.life(a), world.life(b));
    world.control.set(world.now, a, Setting::FencePolicy(FencePolicy::Legacy)).expect("valid");
    let entry = world.write(first, 0, 1);
    world.lose(first, vec![entry]);
    assert_eq!(world.receipt().method, Method::Legacy);
    let entry = world.write(second, 0, 2);
    world.lose(second, vec![entry]);
    assert_eq!(world.receipt().method, Method::Immediate, "the other controller kept its own");
}

#[test]
fn notify_tells_at_once_and_after_every_delay_and_acts_when_it_is_told() {
    let (mut world, a) = lost(ControllerSpec { on_loss: OnLoss::Notify, ..World::spec(1) });
    let wanted =
        |world: &World| world.events.iter().filter(|e| matches!(e.kind, EventKind::ReconnectWanted { .. })).count();
    let attempts = world.connects.len();
    assert_eq!(wanted(&world), 1, "at once");
    world.advance(35 * SEC);
    assert_eq!((wanted(&world), world.connects.len()), (4, attempts), "told three times more; nothing was tried");
    world.control.reconnect(world.now, a).expect("known");
    world.run();
    assert_eq!((world.state(a), wanted(&world)), (StateName::Waiting, 5), "the port is closed: it asks again");
    world.ports.get_mut(&1).expect("a port").open = true;
    world.advance(30 * SEC);
    assert_eq!(world.state(a), StateName::Waiting);
    world.control.reconnect(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Live);
    let asked = wanted(&world);
    world.control.reconnect(world.now, a).expect("known");
    world.advance(60 * SEC);
    assert_eq!((world.state(a), wanted(&world)), (StateName::Live, asked), "a live controller is left alone");
}

#[test]
fn notify_ends_at_ctrl_loss_also_if_its_delay_is_off() {
    let reconnect = Reconnect { delay: Duration::ZERO, ctrl_loss: Some(30 * SEC), fast_io_fail: None };
    let (mut world, a) = lost(ControllerSpec { on_loss: OnLoss::Notify, ..spec(reconnect) });
    world.control.reconnect(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Waiting, "one attempt that fails is not the end here");
    assert_eq!(wait_of(&world, Why::Reconnect(a)), None);
    world.advance(29_999 * MS);
    assert_eq!(world.state(a), StateName::Waiting);
    world.advance(MS);
    assert_eq!(world.state(a), StateName::Dead);
    assert!(world.control.reconnect(world.now, a).is_err());
}

#[test]
fn a_lost_path_is_fenced_by_time_while_nobody_reconnects_it() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(ControllerSpec { on_loss: OnLoss::Notify, ..World::spec(1) });
    world.advance(2 * SEC);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(12 * SEC);
    assert_eq!(world.receipt().method, Method::Time);
    assert_eq!(world.state(a), StateName::Waiting);
}

#[test]
fn a_flapping_path_pauses_twice_as_long_each_time_up_to_a_bound() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let at = world.now;
        world.lose(world.life(a), Vec::new());
        world.advance(wait_of(&world, Why::Reconnect(a)).expect("it waits"));
        assert_eq!(world.state(a), StateName::Live);
        pauses.push((world.now - at).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Longer than a second, and shorter than the pause before: it still flaps.
    world.advance(50 * SEC);
    world.lose(world.life(a), Vec::new());
    assert_eq!(wait_of(&world, Why::Reconnect(a)), Some(60 * SEC));
    world.advance(60 * SEC);
    // It lasted: a blip costs no time.
    world.advance(60 * SEC);
    let life = world.life(a);
    world.lose(life, Vec::new());
    assert_eq!(world.state(a), StateName::Live);
    assert_ne!(world.life(a), life);
    // And the pause begins small again.
    world.lose(world.life(a), Vec::new());
    assert_eq!(wait_of(&world, Why::Reconnect(a)), Some(SEC));
}

#[test]
fn a_name_comes_back_with_its_counters_and_is_given_once() {
    let mut world = World::new(1, &[1, 2]);
    let spec = |port| World::spec(port);
    let b = CtrlId(7);
    world.control.connect_as(world.now, b, spec(1)).expect("free");
    assert_eq!(world.control.connect_as(world.now, b, spec(2)), Err(SpecError::NameInUse(b)));
    world.run();
    world.advance(2 * SEC);
    assert_eq!(world.state(b), StateName::Live);
    assert_eq!(world.connect(spec(2)), CtrlId(8), "names that are given go on after those that were asked for");
    world.control.disconnect(world.now, b).expect("it is there");
    world.run();
    world.advance(2 * SEC);
    assert_eq!(world.state(b), StateName::Dead);
    world.control.connect_as(world.now, b, spec(1)).expect("free again");
    world.run();
    world.advance(2 * SEC);
    assert_eq!(world.state(b), StateName::Live);
    let info = world.control.controllers().find(|info| info.id == b).expect("it");
    assert_eq!(info.counters.reset_count, 1, "of its first time");
}

fn terms_recorded(world: &World) -> Vec<u32> {
    let recorded = world.jobs.iter().filter_map(|job| match job {
        crate::Job::RecordLife(record) => Some(record.hold.slew_permille),
        _ => None,
    });
    recorded.map(u32::from).collect()
}

#[test]
fn a_setting_that_changes_while_a_life_is_recorded_is_recorded_too() {
    let mut world = World::new(1, &[1]);
    world.keep_records = true;
    let a = world.connect(World::spec(1));
    let first = world.keeps_records.take().expect("the record of the new life");
    world.control.set(world.now, a, Setting::ClockSlew(500)).expect("valid");
    world.run();
    assert_eq!(terms_recorded(&world).last(), Some(&500), "before it goes live with the old one");
    let second = world.keeps_records.take().expect("another record");
    for job in [first, second] {
        world.control.handle_job_done(world.now, job, JobResult::Done);
    }
    world.run();
    assert_eq!(world.state(a), StateName::Live);
}

#[test]
fn a_setting_that_the_store_refuses_is_given_again() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    world.refuses_records = true;
    world.control.set(world.now, a, Setting::ClockSlew(500)).expect("valid");
    world.run();
    world.advance(30 * SEC);
    world.refuses_records = false;
    world.jobs.clear();
    world.advance(120 * SEC);
    assert_eq!(terms_recorded(&world), [500], "once the store takes it, and no more then");
    assert_eq!(world.state(a), StateName::Live);
}

#[test]
fn the_allowance_for_slow_clocks_holds_for_losses_from_now_on_and_for_a_successor() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let a = world.connect(World::spec(1));
    world.jobs.clear();
    world.control.set(world.now, a, Setting::ClockSlew(500)).expect("valid");
    assert!(world.control.set(world.now, a, Setting::ClockSlew(1_001)).is_err());
    world.run();
    let recorded = world.jobs.iter().filter_map(|job| match job {
        crate::Job::RecordLife(record) => Some((record.life, record.hold.slew_permille)),
        _ => None,
    });
    let recorded: Vec<_> = recorded.collect();
    assert_eq!(recorded, [(world.life(a), 500)]);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    let until = world.control.unfenced(&nqn(), 1).into_iter().find(|unfenced| unfenced.life == life);
    let wanted = UnfencedWhy::Lost { until: Some(world.now + (10_010 + 5_005 + 100) * MS) };
    assert_eq!(until.map(|unfenced| unfenced.why), Some(wanted));
}
