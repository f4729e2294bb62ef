//! What a fence rests on is stated, or assumed by name, or the attempt fails and is made again.

use super::world::*;
use crate::*;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_wire::admin::{AsyncEvent, Command, FID_ASYNC_EVENTS, FID_KEEP_ALIVE, Identify};
use interlock_wire::ana;
use interlock_wire::ccr;
use interlock_wire::identify::NamespaceIds;
use interlock_wire::log::LID_ANA;
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

fn descriptors(command: &Command) -> bool {
    matches!(command, Command::Identify(Identify::Descriptors { .. }))
}

fn list(command: &Command) -> bool {
    matches!(command, Command::Identify(Identify::ActiveNamespaces { .. }))
}

fn heads(world: &World) -> alloc::vec::Vec<(HeadId, usize)> {
    world.control.heads().map(|head| (head.id, head.paths.len())).collect()
}

fn refusals(world: &World) -> usize {
    world.events.iter().filter(|e| matches!(e.kind, EventKind::PathRefused { .. })).count()
}

const DISK: HeadId = HeadId(0);

/// One path with a write in doubt on it; the port answers `what` so when the controller is there again.
fn lost_with_a_write(lose: impl FnOnce(&mut Port)) -> (World, CtrlId) {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let a = world.connect(World::spec(1));
    world.advance(1_500 * MS);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    lose(world.ports.get_mut(&1).expect("a port"));
    world.lose(life, vec![entry]);
    (world, a)
}

#[test]
fn one_failed_look_at_the_identifiers_makes_no_new_disk() {
    for status in [Status::INTERNAL_ERROR, Status::INTERNAL_ERROR.with_dnr(), Status::COMMAND_INTERRUPTED] {
        let (mut world, a) = lost_with_a_write(|port| port.bad = vec![Bad { what: descriptors, status, times: 2 }]);
        assert_eq!(world.state(a), StateName::Live, "the controller is there, and may reset others");
        assert_eq!(heads(&world), [(DISK, 0)], "its disk is not known again yet");
        assert_eq!(refusals(&world), 1);
        world.advance(1_000 * MS);
        assert_eq!((heads(&world), refusals(&world)), (vec![(DISK, 0)], 1), "the same is said once");
        world.advance(2_000 * MS);
        assert_eq!(heads(&world), [(DISK, 1)], "the second time it could be read");
        assert_eq!(world.control.heads().count(), 1);
    }
}

#[test]
fn identifiers_that_are_not_stated_for_a_while_make_no_new_disk() {
    for none in [NamespaceIds::default(), NamespaceIds { nguid: Some([3; 16]), ..NamespaceIds::default() }] {
        let (mut world, _) = lost_with_a_write(|port| port.ids = none);
        world.advance(3_000 * MS);
        assert_eq!(heads(&world), [(DISK, 0)]);
        assert!(world.saw(|e| matches!(e, EventKind::PathRefused { why, .. } if why.contains("no identifier"))));
        world.ports.get_mut(&1).expect("a port").ids.uuid = Some([9; 16]);
        world.advance(5_000 * MS);
        assert_eq!(heads(&world), [(DISK, 1)]);
        // What it states now is part of what it is.
        let ids = *world.control.heads().next().expect("a head").ids;
        assert_eq!((ids.uuid, ids.nguid), (Some([9; 16]), none.nguid));
    }
}

#[test]
fn another_disk_under_the_same_nsid_waits_for_what_is_protected() {
    let (mut world, _) = lost_with_a_write(|port| port.ids.uuid = Some([8; 16]));
    world.advance(5_000 * MS);
    assert_eq!(heads(&world), [], "the old one is gone, the new one waits");
    let fenced = |world: &World| world.control.receipts().count();
    assert_eq!(fenced(&world), 0);
    world.advance(10_000 * MS);
    assert_eq!(fenced(&world), 1);
    // The lane has ended what it held: nothing is protected any more.
    world.say(0, ToControl::Resolved(vec![GuardKey { seq: 1, lane: 0 }]));
    world.advance(60_000 * MS);
    assert_eq!(heads(&world), [(HeadId(1), 1)]);
}

#[test]
fn a_list_that_is_short_or_unreadable_once_takes_no_path_away() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    world.advance(1_500 * MS);
    let port = world.ports.get_mut(&1).expect("a port");
    port.bad = vec![
        Bad { what: list, status: Status::INTERNAL_ERROR, times: 1 },
        Bad { what: descriptors, status: Status::INTERNAL_ERROR, times: 1 },
    ];
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(1_000 * MS);
    assert_eq!(heads(&world), [(DISK, 1)], "a look that failed removes nothing");
    world.advance(10_000 * MS);
    assert_eq!(heads(&world), [(DISK, 1)]);
    world.ports.get_mut(&1).expect("a port").nsids.clear();
    world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
    world.advance(MS);
    assert_eq!((heads(&world), world.state(a)), (vec![], StateName::Live), "said twice, it is gone");
}

#[test]
fn a_disk_that_was_misread_on_one_path_is_read_again_when_another_contradicts() {
    let mut world = World::new(1, &[1, 2]);
    let right = world.ports[&1].ids;
    world.ports.get_mut(&1).expect("a port").ids.uuid = Some([9; 16]);
    world.connect(World::spec(1));
    world.advance(1_500 * MS);
    world.ports.get_mut(&1).expect("a port").ids = right;
    world.connect(World::spec(2));
    world.advance(10_000 * MS);
    let paths: alloc::vec::Vec<usize> = heads(&world).into_iter().map(|(_, paths)| paths).collect();
    assert_eq!(paths, [2], "one disk, two paths");
}

#[test]
fn a_disk_whose_identifiers_were_missing_at_first_is_known_by_them_on_both_paths() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut world = World::new(1, &[1, 2]);
        let right = world.ports[&first].ids;
        world.ports.get_mut(&first).expect("a port").ids = NamespaceIds::default();
        world.connect(World::spec(first));
        world.advance(1_500 * MS);
        world.ports.get_mut(&first).expect("a port").ids = right;
        world.connect(World::spec(second));
        world.advance(10_000 * MS);
        let found: alloc::vec::Vec<_> = world.control.heads().map(|head| (*head.ids, head.paths.len())).collect();
        assert_eq!(found, [(right, 2)], "connected first: {first}");
    }
}

#[test]
fn a_disk_that_was_misread_on_its_only_path_is_read_once_more_soon() {
    let right = NamespaceIds { uuid: Some([9; 16]), ..NamespaceIds::default() };
    for wrong in [NamespaceIds::default(), NamespaceIds { uuid: Some([8; 16]), ..right }] {
        let mut world = World::new(1, &[1]);
        world.ports.get_mut(&1).expect("a port").ids = wrong;
        world.connect(World::spec(1));
        world.advance(1_500 * MS);
        assert_eq!(heads(&world), [(DISK, 1)], "what it states is believed until it states something else");
        world.ports.get_mut(&1).expect("a port").ids = right;
        world.advance(75_000 * MS);
        let found: alloc::vec::Vec<_> = world.control.heads().map(|head| (*head.ids, head.paths.len())).collect();
        assert_eq!(found, [(right, 1)]);
    }
}

#[test]
fn a_namespace_that_was_gone_is_found_again_without_an_event() {
    for reconnects in [false, true] {
        let mut world = World::new(1, &[1]);
        let a = world.connect(World::spec(1));
        world.advance(1_500 * MS);
        let nsids = core::mem::take(&mut world.ports.get_mut(&1).expect("a port").nsids);
        if reconnects {
            let life = world.life(a);
            world.lose(life, alloc::vec::Vec::new());
        } else {
            world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
        }
        world.advance(MS);
        assert_eq!((heads(&world), world.state(a)), (vec![], StateName::Live), "said twice");
        world.advance(5_000 * MS);
        assert_eq!(heads(&world), [], "it is not there");
        world.ports.get_mut(&1).expect("a port").nsids = nsids;
        world.advance(5_000 * MS);
        assert_eq!(heads(&world), [(DISK, 1)], "reconnects: {reconnects}");
        let before = world.asked.len();
        world.advance(600_000 * MS);
        let looks = world.asked[before..].iter().filter_map(|sqe| Command::from_sqe(sqe).ok()).filter(list).count();
        assert!(looks <= 16, "{looks} in ten minutes: it becomes as rare as it was");
    }
}

#[test]
fn a_disk_without_an_identifier_serves_on_one_path_and_comes_back() {
    let mut world = World::new(1, &[1, 2]);
    for port in world.ports.values_mut() {
        port.ids = NamespaceIds::default();
    }
    let a = world.connect(World::spec(1));
    world.connect(World::spec(2));
    world.advance(1_500 * MS);
    assert_eq!(heads(&world), [(DISK, 1)]);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.lose(life, vec![]);
    world.advance(120_000 * MS);
    assert_eq!(heads(&world), [(DISK, 1)], "the other path takes over, looked at again");
}

#[test]
fn a_disk_that_was_formatted_is_another_head_and_the_old_one_never_comes_back() {
    let mut world = World::new(1, &[1]);
    world.connect(World::spec(1));
    world.advance(1_500 * MS);
    assert!(world.control.open(DISK), "something may be sent to it");
    for (lbads, head) in [(9, HeadId(1)), (12, HeadId(2))] {
        world.ports.get_mut(&1).expect("a port").lbads = lbads;
        world.tell(1, AsyncEvent::NAMESPACE_CHANGED);
        world.advance(3_000 * MS);
        assert_eq!(heads(&world), [(head, 1)], "blocks of 2^{lbads} bytes");
    }
    let table = world.control.paths();
    let twins = |head, whole| Twin { head: HeadId(head), whole, same: true };
    assert_eq!(table.twins[&HeadId(2)], [twins(0, false), twins(1, true)]);
    assert!(world.saw(|e| matches!(e, EventKind::NamespaceRemoved { head: DISK })));
}

#[test]
fn a_disk_that_was_formatted_waits_for_what_is_protected() {
    let (mut world, _) = lost_with_a_write(|port| port.lbads = 9);
    world.advance(5_000 * MS);
    assert_eq!(heads(&world), [], "the old one is gone, the new one waits");
    assert!(world.saw(|e| matches!(e, EventKind::PathRefused { why, .. } if why.contains("512 bytes now, and 4096"))));
    world.advance(10_000 * MS);
    assert_eq!(world.control.receipts().count(), 1);
    world.say(0, ToControl::Resolved(vec![GuardKey { seq: 1, lane: 0 }]));
    world.advance(60_000 * MS);
    assert_eq!(heads(&world), [(HeadId(1), 1)]);
}

/// Two ports; what comes through the second one contradicts the first.
fn strangers(second: impl FnOnce(&mut Port)) -> (World, CtrlId, CtrlId) {
    let mut world = World::new(1, &[1, 2]);
    for port in world.ports.values_mut() {
        (port.serial, port.model) = ("A", "M");
    }
    second(world.ports.get_mut(&2).expect("a port"));
    let a = world.connect(World::spec(1));
    world.advance(1_500 * MS);
    let b = world.connect(World::spec(2));
    (world, a, b)
}

#[test]
fn a_second_controller_of_one_name_is_refused_by_name_and_never_for_good() {
    for (second, word) in [
        ((|port: &mut Port| port.cntlid = Some(1)) as fn(&mut Port), "controller 0x0001"),
        (|port| port.serial = "B", "serial number `B`, not `A`"),
        (|port| port.model = "N", "model `N`, not `M`"),
    ] {
        let (mut world, a, b) = strangers(second);
        assert_eq!((world.state(a), world.state(b)), (StateName::Live, StateName::Waiting), "{word}");
        assert!(
            world.saw(|e| matches!(e, EventKind::ConnectFailed { permanent: false, why, .. }
            if why.contains(word) && why.contains("nvme0"))),
            "{word}"
        );
        world.advance(60_000 * MS);
        assert_eq!(
            (world.state(a), world.state(b)),
            (StateName::Live, StateName::Waiting),
            "{word}: the older one is there"
        );
        assert_eq!(heads(&world), [(DISK, 1)], "its disk has one path");
        // They are given names of their own.
        let port = world.ports.get_mut(&2).expect("a port");
        (port.cntlid, port.serial, port.model) = (None, "A", "M");
        world.advance(15_000 * MS);
        assert_eq!((world.state(b), heads(&world)), (StateName::Live, vec![(DISK, 2)]), "{word}");
    }
}

#[test]
fn a_target_that_was_started_again_is_believed_once_the_older_controller_does_not_answer() {
    let (mut world, a, b) = strangers(|port| port.cntlid = Some(1));
    // The connections of the older one are dead, and nobody has noticed yet.
    world.ports.get_mut(&1).expect("a port").mute = true;
    let older = world.life(a);
    world.advance(200 * MS);
    assert!(!matches!(world.state(b), StateName::Live));
    world.advance(2_500 * MS);
    assert!(world.saw(|e| matches!(e, EventKind::Lost { life, .. } if *life == older)), "asked at once, it had KATO/2");
    world.advance(12_000 * MS);
    assert_eq!(world.state(b), StateName::Live, "a life that is being fenced does not count");
}

#[test]
fn a_predecessor_of_the_same_name_refuses_nobody() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").cntlid = Some(3);
    world.control.predecessors(world.now, vec![super::predecessor::record(LifeId(40))]);
    world.run();
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Live);
}

fn with_ana(mnan: u32) -> (World, CtrlId) {
    let mut world = World::new(1, &[1]);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.mnan) = (Some(ana::State::Optimized), mnan);
    let a = world.connect(World::spec(1));
    world.advance(1_500 * MS);
    (world, a)
}

fn ana_state(world: &World) -> AnaState {
    world.control.heads().next().and_then(|head| head.paths.first().map(|path| path.2)).expect("a path")
}

fn reads_ana(command: &Command) -> bool {
    matches!(command, Command::GetLog(get) if get.lid == LID_ANA)
}

fn reads_ccr(command: &Command) -> bool {
    matches!(command, Command::GetLog(get) if get.lid == ccr::get_log(true).lid)
}

fn asks_event(command: &Command) -> bool {
    matches!(command, Command::AsyncEventRequest)
}

fn asked(world: &World, what: fn(&Command) -> bool) -> usize {
    let commands = world.asked.iter().filter(|sqe| !sqe.is_fabrics()).filter_map(|sqe| Command::from_sqe(sqe).ok());
    commands.filter(what).count()
}

/// The controller counts from the moment at which it was enabled, which the host knows only as the beginning of its attempt.
#[test]
fn a_connect_that_took_long_sends_keep_alive_at_once() {
    let asks_keep_alive = |command: &Command| matches!(command, Command::KeepAlive);
    for (took, sent) in [(2_400, 0), (2_600, 1), (6_000, 1)] {
        let mut world = World::new(1, &[1]);
        world.keep_names = true;
        let a = world.connect(ControllerSpec { traddr: "target.example".into(), ..World::spec(1) });
        world.advance(took * MS);
        let job = world.keeps_records.take().expect("a name to look up");
        let addrs = vec![([192, 0, 2, 1], 1).into()];
        world.control.handle_job_done(world.now, job, JobResult::Resolved(addrs));
        world.run();
        assert_eq!(world.state(a), StateName::Live);
        assert_eq!(asked(&world, asks_keep_alive), sent, "after {took} ms of 5 s");
    }
}

#[test]
fn the_ana_log_of_a_target_with_room_for_many_namespaces_is_read_after_connect_too() {
    for mnan in [0, 1_024, 32_700, 1 << 20, u32::MAX] {
        let (mut world, _) = with_ana(mnan);
        assert_eq!(ana_state(&world), AnaState::Optimized, "MNAN {mnan}");
        world.ports.get_mut(&1).expect("a port").ana = Some(ana::State::Inaccessible);
        world.tell(1, AsyncEvent::ANA_CHANGED);
        world.advance(MS);
        assert_eq!(ana_state(&world), AnaState::Inaccessible, "MNAN {mnan}");
    }
}

#[test]
fn of_a_controller_that_refuses_rgo_the_whole_ana_log_is_read() {
    let groups_only = |command: &Command| matches!(command, Command::GetLog(get) if get.lid == LID_ANA && get.lsp & ana::LSP_GROUPS_ONLY != 0);
    let mut world = World::new(1, &[1]);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.mnan) = (Some(ana::State::Optimized), 32_700);
    port.bad = vec![Bad { what: groups_only, status: Status::INVALID_FIELD.with_dnr(), times: u32::MAX }];
    world.connect(World::spec(1));
    world.advance(100 * MS);
    assert_eq!(ana_state(&world), AnaState::Optimized, "after connect");
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.ana_count) = (Some(ana::State::Inaccessible), 7);
    world.tell(1, AsyncEvent::ANA_CHANGED);
    world.advance(MS);
    assert_eq!(ana_state(&world), AnaState::Inaccessible, "and later");
    assert!(asked(&world, groups_only) >= 2);
}

#[test]
fn a_path_that_lanes_put_aside_is_tried_again_also_if_the_log_cannot_be_read() {
    let (mut world, a) = with_ana(0);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").bad =
        vec![Bad { what: reads_ana, status: Status::INTERNAL_ERROR, times: u32::MAX }];
    let tables = |world: &World| world.lanes[0].heard.iter().filter(|m| matches!(m, ToLane::Paths(_))).count();
    let before = tables(&world);
    world.say(0, ToControl::AnaStale(life));
    assert_eq!(tables(&world), before);
    assert!(world.saw(|e| matches!(e, EventKind::AnaUnread { .. })), "it is told");
    world.advance(1_100 * MS);
    assert_eq!(tables(&world), before + 1, "tried again after a pause");
    // A lane that meets the same status again puts it aside again, and it is tried again, less and less often.
    let mut tried = 0;
    for _ in 0..600 {
        let heard = tables(&world);
        world.say(0, ToControl::AnaStale(life));
        world.advance(1_000 * MS);
        tried += tables(&world) - heard;
    }
    assert!((8..=40).contains(&tried), "{tried} times in ten minutes");
}

#[test]
fn an_older_ana_log_of_the_same_instance_is_not_applied() {
    let (mut world, _) = with_ana(0);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.ana_count) = (Some(ana::State::Inaccessible), 0);
    world.tell(1, AsyncEvent::ANA_CHANGED);
    assert_eq!(ana_state(&world), AnaState::Optimized);
    world.ports.get_mut(&1).expect("a port").ana_count = 2;
    world.advance(2_000 * MS);
    assert_eq!(ana_state(&world), AnaState::Inaccessible, "it was read again");
}

#[test]
fn an_event_request_that_fails_is_made_again_and_meanwhile_it_is_looked() {
    let mut world = World::new(1, &[1]);
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.eventless) = (Some(ana::State::Optimized), Some(Status::ABORT_REQUESTED));
    world.connect(World::spec(1));
    world.advance(10_000 * MS);
    assert!((2..=6).contains(&asked(&world, asks_event)), "{}", asked(&world, asks_event));
    // Nobody is told, and it is seen all the same.
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.ana_count) = (Some(ana::State::NonOptimized), 2);
    port.nsids = vec![1, 2];
    world.advance(75_000 * MS);
    assert_eq!(ana_state(&world), AnaState::NonOptimized);
    let second =
        |e: &EventKind| matches!(e, EventKind::PathRefused { nsid: 2, why, .. } if why.contains("same identifier"));
    assert!(world.saw(second), "the new one as well");
    let before = asked(&world, asks_event);
    world.ports.get_mut(&1).expect("a port").eventless = None;
    world.advance(130_000 * MS);
    assert_eq!(asked(&world, asks_event), before + 1, "it waits there now");
    let port = world.ports.get_mut(&1).expect("a port");
    (port.ana, port.ana_count) = (Some(ana::State::Optimized), 3);
    world.tell(1, AsyncEvent::ANA_CHANGED);
    assert_eq!(ana_state(&world), AnaState::Optimized);
}

#[test]
fn a_source_whose_log_could_not_be_read_once_serves_again() {
    let (mut world, a, b) = World::two_paths(1);
    let (life, other) = (world.life(a), world.life(b));
    world.ports.get_mut(&2).expect("a port").bad =
        vec![Bad { what: reads_ccr, status: Status::INTERNAL_ERROR, times: 2 }];
    world.tell(2, AsyncEvent::CCR_COMPLETED);
    world.ports.get_mut(&1).expect("a port").open = false;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.ccrs.len(), 0, "nothing is known of its log");
    world.advance(4_000 * MS);
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.source.map(|by| by.life)), (Method::Immediate, Some(other)));
}

#[test]
fn a_look_is_cheap_and_a_look_that_fails_removes_nothing() {
    let (mut world, _) = with_ana(0);
    let before = world.asked.len();
    world.advance(300_000 * MS);
    let commands: alloc::vec::Vec<_> =
        world.asked[before..].iter().filter_map(|sqe| Command::from_sqe(sqe).ok()).collect();
    let looks = commands.iter().filter(|command| !matches!(command, Command::KeepAlive)).count();
    assert!((8..=12).contains(&looks), "{looks} commands in five minutes, two a minute");
    let port = world.ports.get_mut(&1).expect("a port");
    port.bad = vec![
        Bad { what: list, status: Status::INTERNAL_ERROR, times: 3 },
        Bad { what: reads_ana, status: Status::INTERNAL_ERROR, times: 3 },
    ];
    world.advance(300_000 * MS);
    assert_eq!((heads(&world), ana_state(&world)), (vec![(DISK, 1)], AnaState::Optimized));
}

#[test]
fn a_storm_of_events_is_answered_at_a_bounded_rate_and_told_once() {
    let (mut world, _) = with_ana(0);
    let storm = |world: &mut World, ms: u32, events: &[AsyncEvent]| {
        let before = asked(world, asks_event);
        for _ in 0..ms {
            events.iter().for_each(|event| world.tell(1, *event));
            world.advance(MS);
        }
        asked(world, asks_event) - before
    };
    let unknown = AsyncEvent::from_dw0(0x007f_6607);
    let answered = storm(&mut world, 30_000, &[AsyncEvent::NAMESPACE_CHANGED, AsyncEvent::ANA_CHANGED, unknown]);
    assert!((60..=64).contains(&answered), "{answered} events in 30 s");
    let told = |world: &World| world.events.iter().filter(|e| matches!(e.kind, EventKind::EventStorm { .. })).count();
    assert_eq!(told(&world), 1);
    // What happens meanwhile is seen all the same.
    world.ports.get_mut(&1).expect("a port").ana = Some(ana::State::Inaccessible);
    storm(&mut world, 2_000, &[AsyncEvent::ANA_CHANGED]);
    assert_eq!(ana_state(&world), AnaState::Inaccessible);
    // Calm again, it is answered at once.
    world.advance(120_000 * MS);
    for state in [ana::State::Optimized, ana::State::Inaccessible, ana::State::Optimized] {
        world.ports.get_mut(&1).expect("a port").ana = Some(state);
        world.tell(1, AsyncEvent::ANA_CHANGED);
    }
    assert_eq!((ana_state(&world), told(&world)), (AnaState::Optimized, 1));
}

/// The I/O queues of a controller: which lane was asked to open which, and what the table says of its paths.
fn queues(world: &World, ctrl: CtrlId) -> (Vec<(usize, u16)>, Vec<u16>) {
    let life = world.life(ctrl);
    let opened = |(lane, fake): (usize, &FakeLane)| {
        let of = |message: &ToLane| match message {
            ToLane::OpenQueue(spec) if spec.life == life => Some((lane, spec.qid)),
            _ => None,
        };
        fake.heard.iter().filter_map(of).collect::<Vec<_>>()
    };
    let table = world.table();
    let paths = table.heads.values().flat_map(|head| &head.paths).filter(|path| path.life == life);
    (world.lanes.iter().enumerate().flat_map(opened).collect(), paths.map(|path| path.queues).collect())
}

#[test]
fn lanes_share_the_queues_of_a_controller_that_grants_fewer() {
    let mut world = World::new(4, &[1, 2]);
    world.ports.get_mut(&1).expect("a port").grants = Some(2);
    let (a, b) = (world.connect(World::spec(1)), world.connect(World::spec(2)));
    assert_eq!((world.state(a), world.state(b)), (StateName::Live, StateName::Live));
    assert_eq!(queues(&world, a), (vec![(0, 1), (1, 2)], vec![2]));
    assert_eq!(queues(&world, b), (vec![(0, 1), (1, 2), (2, 3), (3, 4)], vec![4]), "each path has its own number");
    let shares = |ctrl| {
        let info = world.control.controllers().find(|info| info.id == ctrl).expect("known");
        info.facts.expect("live").shares_queues()
    };
    assert!(shares(a) && !shares(b));
    // The next instance grants another number.
    world.ports.get_mut(&1).expect("a port").grants = Some(3);
    let life = world.life(a);
    world.lose(life, Vec::new());
    world.advance(Duration::from_secs(30));
    assert_eq!(queues(&world, a), (vec![(0, 1), (1, 2), (2, 3)], vec![3]));
    // So it is if fewer are asked for.
    let c = world.connect(ControllerSpec { nr_io_queues: 1, host_iface: Some("eth1".into()), ..World::spec(2) });
    assert_eq!(queues(&world, c), (vec![(0, 1)], vec![1]));
}
