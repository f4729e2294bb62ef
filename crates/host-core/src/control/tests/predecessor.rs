//! What an earlier process left, and what ends it.

use super::world::*;
use crate::stall::HoldTerms;
use crate::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::{HostId, Nqn};

const OLD: LifeId = LifeId(40);
const NAMED: Identity = Identity { cntlid: 77, ciu: 9, cirn: 0x77 };

pub(super) fn record(life: LifeId) -> LifeRecord {
    let hostid = HostId([7; 16]);
    LifeRecord {
        life,
        ctrl: CtrlId(3),
        hostnqn: Nqn::of_host(hostid),
        hostid,
        subnqn: nqn(),
        addr: ([192, 0, 2, 1], 1).into(),
        identity: NAMED,
        hold: HoldTerms {
            kato: Duration::from_secs(5),
            kato_assumed: false,
            tbkas: false,
            cqt: Some(10 * MS),
            assumed_cqt: Some(Duration::from_secs(5)),
            slew_permille: 100,
            proxy_delay: Duration::ZERO,
        },
        disks: vec![],
    }
}

/// KATO 5 s, M = 2, CQT 10 ms, 10 % and 100 ms.
fn hold() -> Duration {
    11_111 * MS
}

fn world(records: Vec<LifeRecord>) -> World {
    let mut world = World::new(2, &[1, 2]);
    world.control.predecessors(world.now, records);
    world.run();
    world
}

/// What the guard table that a lane heard last says.
fn guards(world: &World, lane: usize) -> Vec<GuardEntry> {
    let last = world.lanes[lane].heard.iter().rev().find_map(|message| match message {
        ToLane::Guard { entries, .. } => Some(entries.to_vec()),
        _ => None,
    });
    last.unwrap_or_default()
}

fn no_ccr(world: &mut World) {
    for port in world.ports.values_mut() {
        port.ccrl = 0;
    }
}

#[test]
fn every_write_waits_until_the_first_live_controller_has_reset_what_was_left() {
    let mut world = world(vec![record(OLD)]);
    assert!(world.saw(|e| matches!(e, EventKind::PredecessorFound { life: OLD, .. })));
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Pending;
    }
    let a = world.connect(World::spec(1));
    assert!(a > CtrlId(3) && world.life(a) > OLD, "no name is used twice");
    for lane in [0, 1] {
        let guard = world.heard(lane, |m| matches!(m, ToLane::Guard { .. })).expect("guarded");
        let has_path =
            |m: &ToLane| matches!(m, ToLane::Paths(table) if table.heads.values().any(|h| !h.paths.is_empty()));
        let paths = world.heard(lane, has_path).expect("published");
        assert!(guard < paths, "no lane has a path that is not guarded");
        let table = guards(&world, lane);
        assert_eq!((table.len(), &table[0].range, table[0].stands), (1, &(0..u64::MAX), GuardStands::Held));
    }
    assert_eq!(world.ccrs, [(1, NAMED)], "at once, through the controller that just came");
    world.advance(500 * MS);
    assert_eq!(guards(&world, 0).len(), 1, "accepted is no proof");
    world.complete_ccr(1, true);
    assert_eq!((guards(&world, 0).len(), guards(&world, 1).len()), (0, 0));
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.life, receipt.identity), (Method::Log, OLD, NAMED));
    assert_eq!((&receipt.loss, receipt.source.map(|by| by.ctrl)), (&Loss::Predecessor, Some(a)));
    assert!(world.jobs.contains(&Job::ForgetLife(OLD)), "it is not found again");
    assert_eq!(world.control.tombstones(), []);
    assert_eq!((world.settled(0, OLD), world.control.counters().fences.by(Method::Log)), (Some(Release::Retry), 1));
}

#[test]
fn what_no_time_ends_and_nobody_resets_is_refused_instead_of_waited_for() {
    let mut old = record(OLD);
    old.hold.kato = Duration::ZERO;
    let mut world = world(vec![old]);
    no_ccr(&mut world);
    world.advance(60_000 * MS);
    world.connect(World::spec(1));
    let stands = |world: &World| guards(world, 1).iter().map(|entry| entry.stands).collect::<Vec<_>>();
    assert_eq!(stands(&world), [GuardStands::Held], "the controller that just came may reset it");
    world.advance(4_999 * MS);
    assert_eq!(stands(&world), [GuardStands::Held]);
    world.advance(MS);
    assert_eq!(stands(&world), [GuardStands::Endless]);
    // Nothing that comes later waits either, and a risk that is accepted frees it.
    world.connect(World::spec(2));
    assert_eq!(stands(&world), [GuardStands::Endless]);
    world.control.fence_accept_risk(world.now, OLD).expect("it waits");
    world.run();
    assert_eq!(stands(&world), []);
}

#[test]
fn time_counts_from_the_moment_its_sockets_are_gone() {
    let mut world = world(vec![record(OLD)]);
    no_ccr(&mut world);
    world.connect(World::spec(1));
    world.advance(60_000 * MS);
    let lingers = world.events.iter().filter(|e| matches!(e.kind, EventKind::PredecessorLingers { life: OLD })).count();
    assert_eq!(lingers, 6, "it is told for as long as it lasts");
    assert_eq!(guards(&world, 0).len(), 1, "a dead process is no silent one");
    assert_eq!(world.control.tombstones()[0].until, None);
    let gone = world.now;
    world.control.predecessor_gone(world.now, OLD, gone);
    world.run();
    let tombstone = world.control.tombstones()[0].clone();
    assert_eq!((tombstone.until, tombstone.guarded), (Some(gone + hold()), Guarded::Subsystem));
    // Saying it again moves nothing.
    world.advance(1_000 * MS);
    world.control.predecessor_gone(world.now, OLD, world.now);
    world.advance(hold() - 1_001 * MS);
    assert_eq!(guards(&world, 0).len(), 1);
    world.advance(MS);
    assert_eq!(guards(&world, 0).len(), 0);
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.t0, receipt.fenced), (Method::Time, Some(gone), gone + hold()));
    assert!(!world.control.waits().any(|wait| matches!(wait.why, Why::OldSockets(_) | Why::Hold(OLD))));
}

#[test]
fn only_what_a_predecessor_left_is_told_to_be_gone() {
    let mut world = World::new(1, &[1]);
    no_ccr(&mut world);
    let a = world.connect(World::spec(1));
    world.advance(2_000 * MS);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.ports.get_mut(&1).expect("a port").mute = true; // Bytes stay in the send queue of its admin socket.
    world.lose(life, vec![entry]);
    world.control.predecessor_gone(world.now, life, world.now);
    world.run();
    assert!(!world.saw(|e| matches!(e, EventKind::HoldUntil { .. })));
}

#[test]
fn an_assumed_quiesce_time_is_named_and_without_keep_alive_there_is_no_end() {
    let assumed = LifeRecord { hold: HoldTerms { cqt: None, ..record(OLD).hold }, ..record(OLD) };
    let endless = LifeRecord { hold: HoldTerms { kato: Duration::ZERO, ..record(OLD).hold }, ..record(LifeId(41)) };
    let mut world = world(vec![assumed, endless]);
    no_ccr(&mut world);
    world.connect(World::spec(1));
    for life in [OLD, LifeId(41)] {
        world.control.predecessor_gone(world.now, life, world.now);
    }
    world.advance(100_000 * MS);
    assert_eq!((world.receipt().method, world.receipt().assumed_cqt), (Method::Assumed, Some(Duration::from_secs(5))));
    let left: Vec<_> = world.control.tombstones().iter().map(|t| (t.life, t.until)).collect();
    assert_eq!(left, [(LifeId(41), None)]);
    assert_eq!(guards(&world, 0).len(), 1, "one guard for each life");
}

#[test]
fn other_subsystems_are_none_of_its_business() {
    let other = Nqn::new("nqn.2014-08.org.example:other").expect("valid");
    let mut world = world(vec![LifeRecord { subnqn: other.clone(), ..record(OLD) }]);
    let a = world.connect(World::spec(1));
    assert_eq!(guards(&world, 0), []);
    assert_eq!(world.ccrs, []);
    assert_eq!(world.control.tombstones().len(), 1);
    let why = |nqn: &Nqn| world.control.unfenced(nqn, 1).iter().map(|u| (u.life, u.why)).collect::<Vec<_>>();
    assert_eq!(why(&nqn()), [(world.life(a), UnfencedWhy::Alive)]);
    assert_eq!(why(&other), [(OLD, UnfencedWhy::Predecessor { until: None })]);
}

#[test]
fn a_disk_that_it_served_is_guarded_in_another_subsystem_too() {
    let other = Nqn::new("nqn.2014-08.org.example:other").expect("valid");
    let nguid = |id| NamespaceIds { nguid: Some([id; 16]), ..NamespaceIds::default() };
    for (recorded, is_guarded) in [(nguid(8), true), (nguid(3), false)] {
        let mut world = World::new(2, &[1]);
        world.ports.get_mut(&1).expect("a port").ids.nguid = Some([8; 16]);
        world.control.predecessors(
            world.now,
            vec![LifeRecord { subnqn: other.clone(), disks: vec![nguid(4), recorded], ..record(OLD) }],
        );
        world.run();
        world.connect(World::spec(1));
        assert_eq!(guards(&world, 0).len(), usize::from(is_guarded), "{recorded:?}");
        let unfenced = world.control.unfenced(&nqn(), 1);
        assert_eq!(unfenced.iter().any(|unfenced| unfenced.life == OLD), is_guarded);
        world.control.predecessor_gone(world.now, OLD, world.now);
        world.run();
        world.advance(20_000 * MS);
        assert_eq!(guards(&world, 0), [], "fenced by time");
        assert_eq!(world.receipt().life, OLD);
    }
}

#[test]
fn a_life_is_recorded_with_what_it_serves_and_anew_when_that_becomes_more() {
    let mut world = World::new(1, &[1]);
    world.connect(World::spec(1));
    let recorded = |world: &World| {
        let records = world.jobs.iter().filter_map(|job| match job {
            Job::RecordLife(record) => Some(record.disks.clone()),
            _ => None,
        });
        records.collect::<Vec<_>>()
    };
    let ids = world.ports[&1].ids;
    assert_eq!(recorded(&world), [vec![ids]]);
    let more = NamespaceIds { nguid: Some([8; 16]), ..ids };
    world.ports.get_mut(&1).expect("a port").ids = more;
    world.advance(150_000 * MS);
    assert_eq!(recorded(&world), [vec![ids], vec![ids, more]], "once, however often it is looked at");
}

#[test]
fn a_namespace_that_comes_later_is_guarded_before_it_is_a_path() {
    let mut world = world(vec![record(OLD)]);
    no_ccr(&mut world);
    let a = world.connect(World::spec(1));
    world.control.disconnect(world.now, a).expect("known");
    world.run();
    assert_eq!(world.state(a), StateName::Dead);
    assert!(world.saw(|e| matches!(e, EventKind::NamespaceRemoved { .. })));
    world.connect(World::spec(2));
    assert_eq!(guards(&world, 0).len(), 1, "the same guard, not a second one");
    assert_eq!(world.paths().len(), 1);
}

#[test]
fn accepting_the_risk_ends_a_tombstone_and_is_counted_as_unsafe() {
    let mut world = world(vec![record(OLD)]);
    no_ccr(&mut world);
    let a = world.connect(World::spec(1));
    assert_eq!(
        world.control.fence_accept_risk(world.now, world.life(a)),
        Err(NotUnfenced(world.life(a))),
        "it is live"
    );
    world.control.fence_accept_risk(world.now, OLD).expect("it waits");
    world.run();
    assert_eq!(guards(&world, 0).len(), 0);
    let receipt = world.receipt();
    assert!(receipt.method == Method::AcceptedRisk && !receipt.method.is_proof());
    assert!(world.saw(|e| e.to_string().contains("NOT fenced, the risk was accepted")));
    let fences = &world.control.counters().fences;
    assert_eq!((fences.by(Method::AcceptedRisk), fences.unsafe_failovers), (1, 1));
    assert_eq!(world.control.fence_accept_risk(world.now, OLD), Err(NotUnfenced(OLD)));
}

#[test]
fn accepting_the_risk_releases_what_is_held_but_not_before_every_lane_has_stopped() {
    let (mut world, a, b) = World::two_paths(2);
    no_ccr(&mut world);
    for ctrl in [a, b] {
        world.control.reset(world.now, ctrl).expect("known");
    }
    world.run();
    world.advance(2_000 * MS);
    let life = world.life(a);
    world.lanes[1].keeps_condemned = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.control.fence_accept_risk(world.now, life).expect("it waits");
    world.run();
    assert_eq!(world.settled(0, life), None);
    world.say(1, ToControl::Condemned { life, ledger: Vec::new(), settled: 0 });
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    assert_eq!(world.control.counters().fences.unsafe_failovers, 1);
}

#[test]
fn what_is_not_fenced_is_named_by_namespace() {
    let (mut world, a, b) = World::two_paths(1);
    no_ccr(&mut world);
    for ctrl in [a, b] {
        world.control.reset(world.now, ctrl).expect("known");
    }
    world.run();
    world.advance(2_000 * MS);
    world.ports.get_mut(&1).expect("a port").open = false;
    let life = world.life(a);
    let lost = |world: &World, nsid| {
        let all = world.control.unfenced(&nqn(), nsid);
        all.iter().filter(|u| u.why != UnfencedWhy::Alive).map(|u| u.life).collect::<Vec<_>>()
    };
    world.lanes[0].keeps_condemned = true;
    world.lose(life, Vec::new());
    assert_eq!((lost(&world, 1), lost(&world, 2)), (vec![life], vec![life]), "its lane has not said what is in doubt");
    let entry = world.write(life, 0, 1);
    world.say(0, ToControl::Condemned { life, ledger: vec![entry], settled: 0 });
    world.say(0, ToControl::Quiet { life, at: world.now });
    assert_eq!((lost(&world, 1), lost(&world, 2)), (vec![life], vec![]));
    let until = Some(world.now + hold());
    assert!(world.control.unfenced(&nqn(), 1).iter().any(|u| u.why == UnfencedWhy::Lost { until }));
    world.advance(hold());
    assert_eq!(lost(&world, 1), []);
    assert_eq!(world.control.unfenced(&nqn(), 1).len(), 1, "the other path is alive");
}

#[test]
fn a_host_may_end_while_a_predecessor_is_unfenced_and_leaves_its_record() {
    let mut world = world(vec![record(OLD)]);
    no_ccr(&mut world);
    world.connect(World::spec(1));
    world.control.shutdown(world.now);
    world.run();
    assert!(world.control.has_ended());
    assert!(!world.jobs.contains(&Job::ForgetLife(OLD)) && !world.jobs.contains(&Job::MarkClean(OLD)));
}

#[test]
#[should_panic(expected = "was recorded by another host")]
fn a_record_of_another_host_cannot_be_fenced() {
    world(vec![LifeRecord { hostid: HostId([8; 16]), ..record(OLD) }]);
}

#[test]
#[should_panic(expected = "before the first path")]
fn predecessors_must_be_known_before_a_path_is() {
    let (mut world, ..) = World::two_paths(1);
    world.control.predecessors(Instant::from_millis(0), vec![record(OLD)]);
}

#[test]
fn a_record_says_what_a_successor_needs() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(ControllerSpec { proxied: true, ..World::spec(1) });
    let recorded =
        world.jobs.iter().find_map(|job| if let Job::RecordLife(record) = job { Some(record) } else { None });
    let recorded = recorded.expect("recorded");
    assert_eq!((recorded.life, recorded.ctrl, recorded.identity), (world.life(a), a, world.identity(a)));
    assert_eq!((recorded.hold.kato, recorded.hold.cqt), (Duration::from_secs(5), Some(10 * MS)));
    assert_eq!(recorded.addr, ([192, 0, 2, 1], 1).into());
}
