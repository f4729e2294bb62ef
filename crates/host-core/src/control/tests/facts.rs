//! What a fence rests on is stated, or assumed by name, or the attempt fails and is made again.

use super::world::*;
use crate::*;
use alloc::vec;
use core::time::Duration;
use interlock_wire::admin::{Command, FID_ASYNC_EVENTS, FID_KEEP_ALIVE};
use interlock_wire::status::Status;

fn reads_kato(command: &Command) -> bool {
    matches!(command, Command::GetFeatures(get) if get.fid == FID_KEEP_ALIVE)
}

fn sets_events(command: &Command) -> bool {
    matches!(command, Command::SetFeatures(set) if set.fid == FID_ASYNC_EVENTS)
}

/// A port whose controllers use a longer KATO than they are asked for, and answer `what` so, so often.
fn world(what: fn(&Command) -> bool, status: Status, times: u32) -> World {
    let mut world = World::new(1, &[1]);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.kato, port.ccrl) = (Some(10_000), 0);
    port.bad = vec![Bad { what, status, times }];
    world
}

fn failed(world: &World) -> usize {
    world.events.iter().filter(|e| matches!(e.kind, EventKind::ConnectFailed { permanent: false, .. })).count()
}

#[test]
fn a_fact_that_could_not_be_read_costs_an_attempt_and_never_shortens_a_hold() {
    for (what, status) in [
        (reads_kato as fn(&Command) -> bool, Status::INTERNAL_ERROR),
        (reads_kato, Status::INTERNAL_ERROR.with_dnr()),
        (reads_kato, Status::COMMAND_INTERRUPTED.with_crd(1)),
        (sets_events, Status::TRANSIENT_TRANSPORT_ERROR.with_dnr()),
    ] {
        let mut world = world(what, status, 1);
        let a = world.connect(World::spec(1));
        assert_eq!((world.state(a), failed(&world)), (StateName::Waiting, 1), "{status}");
        world.advance(15_000 * MS);
        assert_eq!(world.state(a), StateName::Live, "{status}: it was read the next time");
        let life = world.life(a);
        let entry = world.write(life, 0, 1);
        let lost = world.now;
        world.lose(life, vec![entry]);
        world.advance(30_000 * MS);
        let receipt = world.receipt();
        assert_eq!((receipt.method, receipt.assumed_kato), (Method::Time, None));
        assert!(receipt.fenced - lost >= Duration::from_secs(20), "twice the KATO in force");
    }
}

#[test]
fn a_keep_alive_timeout_that_is_not_reported_is_assumed_and_the_receipt_says_so() {
    let mut world = world(reads_kato, Status::INVALID_FIELD.with_dnr(), u32::MAX);
    let a = world.connect(World::spec(1));
    let facts =
        world.control.controllers().find(|info| info.id == a).and_then(|info| info.facts).expect("live").clone();
    assert_eq!(facts.kato, Fact::Assumed(Duration::from_secs(5), Assumption::KeepAliveNotReported));
    let recorded = world.jobs.iter().find_map(|job| match job {
        Job::RecordLife(record) => Some(record.hold),
        _ => None,
    });
    assert!(recorded.expect("recorded").kato_assumed, "a successor must know");
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(20_000 * MS);
    assert!(world.saw(|e| matches!(e, EventKind::HoldUntil { assumed: true, .. })));
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.assumed_cqt), (Method::Assumed, None), "the quiesce time is stated");
    assert_eq!(receipt.assumed_kato, Some(Duration::from_secs(5)));
}

#[test]
fn a_target_that_states_that_it_offers_nothing_works() {
    let mut world = world(sets_events, Status::INVALID_FIELD, u32::MAX);
    world.ports.get_mut(&1).expect("a port").cqt_ms = 0;
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Live);
    let facts =
        world.control.controllers().find(|info| info.id == a).and_then(|info| info.facts).expect("live").clone();
    assert_eq!((facts.cqt, facts.ccrl, facts.ccr_event), (Fact::NotOffered, Fact::NotOffered, false));
}
