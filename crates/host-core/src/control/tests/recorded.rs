//! What a live controller begins to serve is recorded before it is written to.

use super::world::*;
use crate::*;
use alloc::vec;
use interlock_wire::admin::AsyncEvent;
use interlock_wire::identify::NamespaceIds;

/// A live controller without namespaces, whose next namespace the test adds.
fn live_and_empty() -> (World, CtrlId) {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").nsids = vec![];
    let a = world.connect(World::spec(1));
    assert_eq!((world.state(a), world.paths()), (StateName::Live, vec![]));
    (world, a)
}

#[test]
fn a_disk_that_a_live_controller_finds_is_recorded_before_it_is_a_path() {
    let (mut world, a) = live_and_empty();
    world.keep_records = true;
    world.ports.get_mut(&1).expect("a port").nsids = vec![1];
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(100 * MS);
    let job = world.keeps_records.take().expect("asked to record");
    assert!(matches!(world.jobs.last(), Some(Job::RecordLife(record)) if record.disks.len() == 1));
    assert_eq!(world.paths(), [], "no path before the record is durable");
    // Looking again meanwhile changes nothing, and asks for nothing twice.
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(5_000 * MS);
    assert_eq!((world.paths(), world.keeps_records), (vec![], None));
    world.control.handle_job_done(world.now, job, JobResult::Done);
    world.run();
    assert_eq!(world.paths(), [world.life(a)]);
}

#[test]
fn a_disk_that_the_store_refuses_to_record_is_no_path_and_is_tried_again() {
    let (mut world, a) = live_and_empty();
    world.refuses_records = true;
    world.ports.get_mut(&1).expect("a port").nsids = vec![1];
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(600_000 * MS);
    assert_eq!(world.paths(), []);
    let refused = |e: &EventKind| matches!(e, EventKind::StoreRefused { work: StoreWork::Disks, .. });
    let times = world.events.iter().filter(|e| refused(&e.kind)).count();
    assert!((8..=20).contains(&times), "tried {times} times in ten minutes");
    world.refuses_records = false;
    world.advance(70_000 * MS);
    assert_eq!(world.paths(), [world.life(a)]);
}

#[test]
fn a_disk_that_takes_the_place_of_another_on_a_live_controller_is_recorded_first() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    let before = world.control.heads().next().expect("found").id;
    world.keep_records = true;
    world.ports.get_mut(&1).expect("a port").ids = NamespaceIds { uuid: Some([8; 16]), ..NamespaceIds::default() };
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(100 * MS);
    assert_eq!(world.paths(), [], "the old one is gone, the new one is not recorded");
    // A setting that is recorded beside it says nothing about a record that is still out.
    let job = world.keeps_records.take().expect("asked to record");
    world.control.handle_job_done(world.now, job, JobResult::Done);
    world.run();
    let (after, paths) = (world.control.heads().last().expect("found").id, world.paths());
    assert!(after != before && paths == [world.life(a)], "{before} {after}");
}
