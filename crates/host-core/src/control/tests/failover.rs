//! Losses, and what becomes of commands in doubt.

use super::world::*;
use crate::*;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr as wire_ccr;
use interlock_wire::status::Status;

#[test]
fn two_ports_become_two_paths_of_one_namespace() {
    let (world, a, b) = World::two_paths(2);
    assert_eq!((world.state(a), world.state(b)), (StateName::Live, StateName::Live));
    assert_eq!(world.control.heads().count(), 1);
    assert_eq!(world.paths(), [world.life(a), world.life(b)]);
    // Recorded before it was published: the job stands before the table.
    assert!(world.jobs.iter().filter(|job| matches!(job, Job::RecordLife(_))).count() == 2);
    // One queue per lane.
    for (lane, qid) in [(0, 1), (1, 2)] {
        assert!(world.heard(lane, |m| matches!(m, ToLane::OpenQueue(spec) if spec.qid == qid)).is_some());
    }
}

#[test]
fn life_recorded_before_first_write() {
    let mut world = World::new(1, &[1]);
    world.keep_records = true;
    let a = world.connect(World::spec(1));
    assert_eq!(world.state(a), StateName::Connecting);
    assert_eq!(world.paths(), [], "no path before the record is durable");
    let job = world.keeps_records.expect("asked to record");
    world.control.handle_job_done(world.now, job, JobResult::Done);
    world.run();
    assert_eq!(world.state(a), StateName::Live);
    assert_eq!(world.paths(), [world.life(a)]);
}

#[test]
fn ccr_through_the_sibling_fences_before_anything_is_released() {
    let (mut world, a, b) = World::two_paths(2);
    let (life, named) = (world.life(a), world.identity(a));
    world.lanes[1].keeps_guard_seen = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry.clone()]);
    // The proof is there, but one lane does not hold the guard yet: nothing is released.
    assert_eq!(world.ccrs, [(2, named)], "the snapshot of the life, through the other port");
    assert_eq!(world.settled(0, life), None);
    assert!(!world.saw(|e| matches!(e, EventKind::Fenced(_))));
    // Its path is gone, and the port is reconnected at once, as a new life.
    assert_eq!(world.state(a), StateName::Live);
    assert_ne!(world.life(a), life);
    assert_eq!(world.paths(), [world.life(b), world.life(a)]);
    world.lanes[1].keeps_guard_seen = false;
    let epoch = world.lanes[1].heard.iter().rev().find_map(|m| match m {
        ToLane::Guard { epoch, entries } => Some((*epoch, entries.clone())),
        _ => None,
    });
    let (epoch, entries) = epoch.expect("guarded");
    assert_eq!((entries.len(), entries[0].stands, &entries[0].range), (1, GuardStands::Held, &(8..16)));
    world.say(1, ToControl::GuardSeen(epoch));
    for lane in [0, 1] {
        assert_eq!(world.settled(lane, life), Some(Release::Retry));
        let condemn = world.heard(lane, |m| matches!(m, ToLane::Condemn { .. })).expect("condemned");
        let guard = world.heard(lane, |m| matches!(m, ToLane::Guard { .. })).expect("guarded");
        let settle = world.heard(lane, |m| matches!(m, ToLane::Settle { .. })).expect("settled");
        assert!(condemn < guard && guard < settle);
    }
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.life, receipt.identity, receipt.in_doubt), (Method::Immediate, life, named, 1));
    assert_eq!(receipt.source.map(|by| by.ctrl), Some(b));
    assert_eq!(receipt.held(), Duration::ZERO);
    // The guard stays, released, until the lane says that the command is over.
    let last = |world: &World| {
        world.lanes[0].heard.iter().rev().find_map(|m| match m {
            ToLane::Guard { entries, .. } => Some(Arc::clone(entries)),
            _ => None,
        })
    };
    assert!(last(&world).is_some_and(|entries| entries.len() == 1 && entries[0].stands == GuardStands::Released));
    world.say(0, ToControl::Resolved(vec![entry.key]));
    assert!(last(&world).is_some_and(|entries| entries.is_empty()));
    assert_eq!(world.control.counters().fences.by(Method::Immediate), 1);
}

#[test]
fn nothing_in_doubt_needs_no_fence() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    world.lose(life, Vec::new());
    assert_eq!(world.ccrs, []);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    assert!(world.saw(|e| matches!(e, EventKind::NothingInDoubt { .. })));
    assert_eq!(world.control.receipts().count(), 0);
}

#[test]
fn a_single_path_is_fenced_through_its_own_successor() {
    let mut world = World::new(1, &[1]);
    let a = world.connect(World::spec(1));
    world.advance(2_000 * MS);
    let (life, named) = (world.life(a), world.identity(a));
    let lost = world.now;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.connects.last(), Some(&lost), "at once, not after reconnect_delay");
    assert_eq!(world.ccrs, [(1, named)]);
    let receipt = world.receipt();
    assert_eq!(receipt.method, Method::Immediate);
    assert_eq!(receipt.source.map(|by| by.life), Some(world.life(a)));
    assert!(world.saw(|e| matches!(e, EventKind::Reconnected { attempt: 1, max: Some(60), .. })));
}

#[test]
fn a_pending_reset_is_believed_from_the_log_only() {
    for event in [true, false] {
        let (mut world, a, _) = World::two_paths(1);
        let life = world.life(a);
        for port in [1, 2] {
            world.ports.get_mut(&port).expect("a port").ccr = Ccr::Pending;
        }
        let entry = world.write(life, 0, 1);
        world.lose(life, vec![entry]);
        world.advance(500 * MS);
        assert_eq!(world.settled(0, life), None, "accepted is no proof");
        world.complete_ccr(2, event);
        if event {
            assert_eq!(world.receipt().method, Method::Log, "at once");
        } else {
            assert_eq!(world.settled(0, life), None);
            world.advance(110 * MS);
            assert_eq!(world.receipt().method, Method::Log, "the log is polled: the event was lost");
        }
        assert_eq!(world.settled(0, life), Some(Release::Retry));
        assert_eq!(world.ccrs.len(), 1);
    }
}

#[test]
fn an_entry_that_came_after_the_purge_fences_nobody() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    let named = world.identity(a);
    for port in [1, 2] {
        world.ports.get_mut(&port).expect("a port").ccr = Ccr::Pending;
    }
    // It is there when the loss is noticed, and its event has not been read yet.
    world.plant_success(2, named.cntlid, named.ciu);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(500 * MS);
    assert_eq!(world.settled(0, life), None, "the reset is under way");
    world.complete_ccr(2, true);
    assert_eq!(world.receipt().method, Method::Log);
}

#[test]
fn an_entry_of_an_earlier_life_fences_nobody() {
    let (mut world, a, _) = World::two_paths(1);
    let b2 = {
        // The second port's next controller finds a success entry that names the life on port 1.
        let named = world.identity(a);
        let old =
            wire_ccr::Entry { icid: named.cntlid, ciu: named.ciu, acid: 0, state: wire_ccr::State::Success, flags: 0 };
        let port = world.ports.get_mut(&2).expect("a port");
        port.stale = vec![old];
        port.ccr = Ccr::Pending;
        let b = world.control.controllers().nth(1).expect("two").id;
        let life = world.life(b);
        world.lose(life, Vec::new());
        world.advance(2_000 * MS);
        b
    };
    assert_eq!(world.state(b2), StateName::Live);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").open = false;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(1_000 * MS);
    assert_eq!(world.ccrs, [], "its log cannot be believed for this life");
    assert!(world.saw(|e| matches!(e, EventKind::StaleEntry { .. })));
    assert_eq!(world.settled(0, life), None);
    world.advance(20_000 * MS);
    assert_eq!(world.receipt().method, Method::Time);
}

#[test]
fn hold_ends_by_deadline() {
    // KATO 5 s, M = 2, CQT 10 ms or 5 s assumed, 10 % and 100 ms.
    for (cqt_ms, method, hold) in [(10, Method::Time, 11_111 * MS), (0, Method::Assumed, 16_600 * MS)] {
        let mut world = World::new(1, &[1, 2]);
        for port in world.ports.values_mut() {
            (port.ccrl, port.cqt_ms) = (0, cqt_ms);
        }
        let a = world.connect(World::spec(1));
        world.connect(World::spec(2));
        let life = world.life(a);
        world.lanes[0].keeps_quiet = true;
        let entry = world.write(life, 0, 1);
        world.lose(life, vec![entry]);
        world.advance(50 * MS);
        let t0 = world.now;
        world.say(0, ToControl::Quiet { life, at: t0 });
        world.advance(hold - MS);
        assert_eq!(world.settled(0, life), None, "{method:?}");
        world.advance(MS);
        assert_eq!(world.settled(0, life), Some(Release::Retry));
        let receipt = world.receipt();
        assert_eq!((receipt.method, receipt.t0, receipt.deadline), (method, Some(t0), Some(t0 + hold)));
        assert_eq!(receipt.assumed_cqt, (cqt_ms == 0).then_some(5_000 * MS));
        assert_eq!(receipt.held(), hold + 50 * MS);
        assert_eq!(receipt.method.is_proof(), cqt_ms != 0);
    }
}

/// The host's monotonic clock is made faster by a tenth, so that 10 s of it are 9 s: the hold ends by the raw one.
#[test]
fn a_hold_ends_once_both_clocks_of_the_host_have_gone_so_far() {
    type Clock = fn(Instant) -> Instant;
    let rates: [(Clock, u64); 2] = [
        (|now| Instant::from_nanos(now.as_nanos() / 10 * 9), 12_345),
        (|now| Instant::from_nanos(now.as_nanos() / 9 * 10), 11_111),
    ];
    for (raw_clock, ends) in rates {
        let mut world = World::new(1, &[1, 2]);
        for port in world.ports.values_mut() {
            port.ccrl = 0;
        }
        world.raw_clock = raw_clock;
        let a = world.connect(World::spec(1));
        world.connect(World::spec(2));
        let life = world.life(a);
        let entry = world.write(life, 0, 1);
        let t0 = world.now;
        world.lose(life, vec![entry]);
        world.advance(Duration::from_millis(ends) - MS);
        assert_eq!(world.settled(0, life), None, "{ends}");
        world.advance(2 * MS);
        assert_eq!(world.settled(0, life), Some(Release::Retry), "{ends}");
        let receipt = world.receipt();
        assert_eq!((receipt.method, receipt.t0, receipt.deadline), (Method::Time, Some(t0), Some(t0 + 11_111 * MS)));
    }
}

#[test]
fn t0_waits_for_the_admin_socket_too() {
    let mut world = World::new(1, &[1]);
    world.ports.get_mut(&1).expect("a port").ccrl = 0;
    let a = world.connect(World::spec(1));
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").mute = true;
    let at = world.now;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert!(!world.saw(|e| matches!(e, EventKind::HoldUntil { .. })), "bytes may lie in its send queue");
    world.advance(250 * MS);
    let t0 = world.events.iter().find_map(|e| match e.kind {
        EventKind::HoldUntil { t0, .. } => Some(t0),
        _ => None,
    });
    assert_eq!(t0, Some(at + 250 * MS), "aborted after late_grace");
}

#[test]
fn a_source_that_dies_meanwhile_is_replaced_in_the_same_transition() {
    let mut world = World::new(1, &[1, 2, 3]);
    let [a, b, c] = [1, 2, 3].map(|port| world.connect(World::spec(port)));
    world.advance(2_000 * MS);
    for port in world.ports.values_mut() {
        (port.ccr, port.open) = (Ccr::Pending, false);
    }
    let (life, named) = (world.life(a), world.identity(a));
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.ccrs, [(2, named)]);
    let source = world.life(b);
    world.lose(source, Vec::new());
    assert_eq!(world.ccrs, [(2, named), (3, named)]);
    world.complete_ccr(3, true);
    let receipt = world.receipt();
    assert_eq!(receipt.source.map(|by| by.ctrl), Some(c));
    assert_eq!(
        receipt.attempts.iter().map(|a| a.result).collect::<Vec<_>>(),
        [CcrResult::SourceLost, CcrResult::LogSuccess]
    );
}

#[test]
fn refused_by_one_source_the_next_is_asked() {
    let mut world = World::new(1, &[1, 2, 3]);
    let [a, ..] = [1, 2, 3].map(|port| world.connect(World::spec(port)));
    world.advance(2_000 * MS);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Refuse(Status::INVALID_OPCODE);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.ccrs.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(world.receipt().method, Method::Immediate);
    let counters = world.control.controllers().nth(1).expect("b").counters.clone();
    assert_eq!((counters.ccr_sent, counters.ccr_by_status.get(&1)), (1, Some(&1)));
}

#[test]
fn a_silent_source_is_overtaken() {
    let mut world = World::new(1, &[1, 2, 3]);
    let [a, ..] = [1, 2, 3].map(|port| world.connect(World::spec(port)));
    world.advance(2_000 * MS);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Silent;
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.settled(0, life), None);
    world.advance(20 * MS);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

#[test]
fn late_completion_decided_once() {
    let (mut world, a, _) = World::two_paths(1);
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Pending;
    }
    let life = world.life(a);
    let (first, second) = (world.write(life, 0, 1), world.write(life, 0, 2));
    world.lose(life, vec![first.clone(), second.clone()]);
    let late = |key| ToControl::Late { life, key, cqe: good() };
    world.say(0, late(first.key));
    world.say(0, late(first.key));
    let answered = world.lanes[0].heard.iter().filter(|m| matches!(m, ToLane::Answered { .. })).count();
    assert_eq!(answered, 1, "once");
    world.complete_ccr(2, true);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    // Released: whatever comes now is dropped.
    world.say(0, late(second.key));
    let answered = world.lanes[0].heard.iter().filter(|m| matches!(m, ToLane::Answered { .. })).count();
    assert_eq!(answered, 1);
    let fences = &world.control.counters().fences;
    assert_eq!((fences.late_taken, fences.late_dropped), (1, 2));
    let receipt = world.receipt();
    assert_eq!((receipt.in_doubt, receipt.answered_late), (2, 1));
}

#[test]
fn all_answered_late_ends_the_fence() {
    let (mut world, a, _) = World::two_paths(1);
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Pending;
    }
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry.clone()]);
    world.say(0, ToControl::Late { life, key: entry.key, cqe: good() });
    assert!(world.saw(|e| matches!(e, EventKind::NothingInDoubt { answered_late: 1, .. })));
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

#[test]
fn legacy_retries_at_once_and_says_so() {
    let mut world = World::new(1, &[1, 2]);
    let spec = |port| ControllerSpec { fence: FencePolicy::Legacy, ..World::spec(port) };
    let a = world.connect(spec(1));
    world.connect(spec(2));
    world.advance(2_000 * MS);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert!(world.heard(0, |m| matches!(m, ToLane::Condemn { policy: FencePolicy::Legacy, .. })).is_some());
    assert_eq!(world.ccrs, []);
    assert!(world.heard(0, |m| matches!(m, ToLane::Guard { .. })).is_none());
    let receipt = world.receipt();
    assert_eq!((receipt.method, receipt.held()), (Method::Legacy, Duration::ZERO));
    assert_eq!(world.control.counters().fences.unsafe_failovers, 1);
}

#[test]
fn silence_is_noticed_by_keep_alive_and_nothing_is_sent_after_that() {
    let (mut world, a, b) = World::two_paths(1);
    let life = world.life(a);
    world.ports.get_mut(&1).expect("a port").mute = true;
    let entry = world.write(life, 0, 1);
    world.lanes[0].ledger = vec![entry];
    let dead = world.now;
    world.advance(5_000 * MS);
    let lost = world.events.iter().find(|e| matches!(e.kind, EventKind::Lost { .. })).expect("noticed");
    assert!(matches!(lost.kind, EventKind::Lost { how: Loss::KeepAlive, .. }));
    assert!(lost.at - dead <= 5_000 * MS, "within KATO");
    let receipt = world.receipt();
    assert_eq!((receipt.life, receipt.method), (life, Method::Immediate));
    assert_eq!(receipt.source.map(|by| by.ctrl), Some(b));
    assert_eq!(world.state(a), StateName::Connecting);
}

#[test]
fn under_tbkas_a_late_keep_alive_answer_is_no_loss_while_io_is_answered() {
    for (tbkas, kept) in [(true, true), (false, false)] {
        let mut world = World::new(2, &[1]);
        world.ports.get_mut(&1).expect("a port").tbkas = tbkas;
        let ctrl = world.connect(World::spec(1));
        let life = world.life(ctrl);
        world.ports.get_mut(&1).expect("a port").mute = true;
        // KATO is 5 s. The admin queue says nothing for 8 s, lane 1 has its writes answered.
        for _ in 0..80 {
            world.advance(100 * MS);
            let asked = world.lanes[1].heard.iter().filter(|m| matches!(m, ToLane::AskTraffic(_))).count();
            if asked > 0 {
                world.lanes[1].heard.clear();
                let submitted = world.now;
                world.say(1, ToControl::Traffic { life, submitted });
            }
        }
        assert_eq!(!world.saw(|e| matches!(e, EventKind::Lost { .. })), kept, "TBKAS {tbkas}");
        if kept {
            // The lanes have nothing to say any more: that is noticed within KATO of the last that was answered.
            world.advance(5_000 * MS);
            assert!(world.saw(|e| matches!(e, EventKind::Lost { how: Loss::KeepAlive, .. })));
        }
    }
}

#[test]
fn a_lane_that_does_not_answer_is_named_and_waited_for() {
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    world.lanes[1].keeps_condemned = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.ccrs.len(), 1, "CCR does not wait for it");
    world.advance(60_000 * MS);
    assert_eq!(world.settled(0, life), None, "it may still be sending");
    assert!(world.saw(|e| matches!(e, EventKind::LaneSilent { lanes, .. } if *lanes == [LaneId(1)])));
    world.say(1, ToControl::Condemned { life, ledger: Vec::new(), settled: 0 });
    assert_eq!(world.settled(0, life), Some(Release::Retry));
}

const OLDEST: Waiting = Waiting { qid: 1, cid: 7 };

#[test]
fn a_slow_disk_takes_no_path_down() {
    let (mut world, a, b) = World::two_paths(1);
    let since = world.now;
    world.advance(30_000 * MS);
    for ctrl in [a, b] {
        let life = world.life(ctrl);
        let why = Suspicion::IoTimeout { since, others_answer: false, oldest: OLDEST };
        world.say(0, ToControl::Suspect { life, why });
    }
    assert_eq!((world.state(a), world.state(b)), (StateName::Live, StateName::Live));
    assert!(!world.saw(|e| matches!(e, EventKind::Lost { .. })));
    assert_eq!(world.control.controllers().filter(|info| info.slow).count(), 2);
    world.advance(61_000 * MS);
    assert_eq!(world.control.controllers().filter(|info| info.slow).count(), 0);
}

#[test]
fn a_second_witness_condemns() {
    let (mut world, a, b) = World::two_paths(1);
    let (life, other) = (world.life(a), world.life(b));
    let since = world.now;
    world.advance(30_000 * MS);
    let why = Suspicion::IoTimeout { since, others_answer: true, oldest: OLDEST };
    world.say(0, ToControl::Suspect { life, why });
    assert!(world.saw(|e| matches!(e, EventKind::Lost { how: Loss::IoTimeout(Witness::OtherPathAnswers), .. })));
    // Not one path after the other: within a hold the second is only called slow.
    world.say(0, ToControl::Suspect { life: other, why });
    assert_eq!(world.life(b), other);
    assert_eq!(world.events.iter().filter(|e| matches!(e.kind, EventKind::Lost { .. })).count(), 1);
    assert!(world.saw(|e| e.to_string().contains("slow")));
}

#[test]
fn without_kato_paths_do_not_fall_one_after_the_other_either() {
    let mut world = World::new(1, &[1, 2]);
    let spec = |port| ControllerSpec { kato: Duration::ZERO, allow_no_kato: true, ..World::spec(port) };
    let (a, b) = (world.connect(spec(1)), world.connect(spec(2)));
    world.advance(1_500 * MS);
    let why = Suspicion::IoTimeout { since: world.now, others_answer: true, oldest: OLDEST };
    let (life, other) = (world.life(a), world.life(b));
    world.advance(30_000 * MS);
    world.say(0, ToControl::Suspect { life, why });
    assert_ne!(world.life(a), life);
    world.advance(59_000 * MS);
    world.say(0, ToControl::Suspect { life: other, why });
    assert_eq!(world.life(b), other, "within the time that the first may be doubtful");
    world.advance(1_000 * MS);
    world.say(0, ToControl::Suspect { life: other, why });
    assert_ne!(world.life(b), other);
}

#[test]
fn a_command_that_vanished_ends_although_the_sibling_is_idle() {
    let (mut world, a, b) = World::two_paths(1);
    let (life, other) = (world.life(a), world.life(b));
    let since = world.now;
    let why = Suspicion::IoTimeout { since, others_answer: false, oldest: OLDEST };
    for _ in 0..9 {
        world.advance(30_000 * MS);
        world.say(0, ToControl::Suspect { life, why });
        assert!(!world.saw(|e| matches!(e, EventKind::Lost { .. })), "no witness, and the limit has not passed");
    }
    world.advance(30_000 * MS);
    world.say(0, ToControl::Suspect { life, why });
    assert!(world.saw(|e| matches!(e, EventKind::Lost { how: Loss::IoTimeout(Witness::HardLimit), .. })));
    // Slow media does not take the other one down with it.
    world.say(0, ToControl::Suspect { life: other, why });
    assert_eq!(world.life(b), other);
}

#[test]
fn a_full_log_is_purged_and_asked_again() {
    let (mut world, a, _) = World::two_paths(1);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Refuse(Status::CCR_LOG_FULL);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!(world.ccrs.len(), 2, "at once after the purge, and then no sooner than in 200 ms");
    world.advance(1_000 * MS);
    assert!((3..=5).contains(&world.ccrs.len()), "{}", world.ccrs.len());
    assert_eq!(world.settled(0, life), None);
    // It has room at last.
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Immediate;
    world.advance(1_000 * MS);
    assert!(world.settled(0, life).is_some());
}

#[test]
fn in_progress_elsewhere_is_asked_again_until_it_is_over() {
    let (mut world, a, _) = World::two_paths(1);
    world.ports.get_mut(&1).expect("a port").open = false;
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Refuse(Status::CCR_IN_PROGRESS);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(250 * MS);
    assert_eq!(world.settled(0, life), None, "13Fh is no success");
    world.ports.get_mut(&2).expect("a port").ccr = Ccr::Immediate;
    world.advance(110 * MS);
    assert_eq!(world.receipt().method, Method::Immediate);
}

#[test]
fn a_retry_that_is_lost_again_is_guarded_again() {
    let (mut world, a, b) = World::two_paths(1);
    let life = world.life(a);
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry.clone()]);
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    // Retried through the other path, which is lost as well, before it was answered.
    let second = world.life(b);
    for port in world.ports.values_mut() {
        port.ccr = Ccr::Pending;
    }
    world.lose(second, vec![LedgerEntry { life: second, ..entry }]);
    let released = world.lanes[0].heard.iter().rev().find_map(|m| match m {
        ToLane::Guard { entries, .. } => Some(entries.iter().map(|e| e.stands).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(released, Some(vec![GuardStands::Held]));
    assert_eq!(world.settled(0, second), None);
}

#[test]
fn both_lost_at_once_are_fenced_through_whoever_comes_first() {
    let (mut world, a, b) = World::two_paths(2);
    let (first, second) = (world.life(a), world.life(b));
    for port in world.ports.values_mut() {
        port.open = false;
    }
    world.lanes[0].ledger = vec![world.write(first, 0, 1), world.write(second, 0, 2)];
    for life in [first, second] {
        let why = DownReason::Lost(ConnectionEnd::Reset);
        world.say(0, ToControl::QueueDown { life, qid: 1, why });
    }
    // The first loss found the second path still live; nobody is left for the second.
    assert_eq!(world.settled(0, second), None);
    world.ports.get_mut(&1).expect("a port").open = true;
    world.advance(11_000 * MS);
    assert_eq!(world.settled(0, second), Some(Release::Retry));
    assert_eq!(world.control.receipts().count(), 2);
}

#[test]
fn a_late_command_is_asked_to_be_aborted_once_and_that_proves_nothing() {
    let (mut world, a, _) = World::two_paths(1);
    let life = world.life(a);
    let since = world.now;
    let why = Suspicion::IoTimeout { since, others_answer: false, oldest: OLDEST };
    for _ in 0..3 {
        world.advance(30_000 * MS);
        world.say(0, ToControl::Suspect { life, why });
    }
    let (sqid, cid) = (OLDEST.qid, OLDEST.cid);
    assert_eq!(world.aborts, [interlock_wire::admin::Abort { sqid, cid }]);
    assert_eq!((world.state(a), world.life(a)), (StateName::Live, life));
    // The next command that is late is another one.
    let why = Suspicion::IoTimeout { since: world.now, others_answer: false, oldest: Waiting { qid: 1, cid: 8 } };
    world.say(0, ToControl::Suspect { life, why });
    assert_eq!(world.aborts.len(), 2);
    let info = world.control.controllers().find(|info| info.id == a).expect("known");
    assert_eq!(info.counters.aborts, 2);
    assert_eq!(world.control.receipts().count(), 0);
}

#[test]
fn a_receipt_says_how_many_commands_went_on_at_once() {
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    world.lanes[0].settled = 3;
    world.lanes[1].settled = 2;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert_eq!((world.receipt().in_doubt, world.receipt().settled), (1, 5));
    assert!(world.saw(|e| e.to_string().contains("1 commands in doubt, 5 go on at once")));
}

#[test]
fn it_is_told_how_long_the_oldest_command_in_doubt_had_waited() {
    let (mut world, a, _) = World::two_paths(2);
    world.advance(500 * MS);
    let life = world.life(a);
    let now = world.now;
    let sent = |seq, at: u64| LedgerEntry {
        since: interlock_base::Instant::from_nanos(now.as_nanos() - at * 1_000_000),
        ..world.write(life, 0, seq)
    };
    let ledger = vec![sent(1, 7), sent(2, 30), sent(3, 8)];
    world.lose(life, ledger);
    assert!(world.saw(|e| matches!(e, EventKind::Condemned { oldest: Some(age), .. } if *age == 30 * MS)));
}

#[test]
fn nothing_held_goes_on_before_this_process_is_known_to_be_the_host_still() {
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    world.keep_owner = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    let job = world.keeps_records.expect("asked");
    assert!(!world.ccrs.is_empty() && world.settled(0, life).is_none(), "fenced, and not released");
    let at = world.now;
    assert!(world.control.waits().any(|wait| wait.why == Why::Owner(life) && wait.at == at + 1_000 * MS));
    world.advance(60_000 * MS);
    assert_eq!(world.settled(0, life), None, "silence is no answer");
    let told = world.events.iter().filter(|e| matches!(e.kind, EventKind::OwnerUnconfirmed { life: of } if of == life));
    assert_eq!(told.count(), 60);
    world.keep_owner = false;
    world.control.handle_job_done(world.now, job, JobResult::Done);
    world.run();
    assert_eq!(world.settled(0, life), Some(Release::Retry));
    assert_eq!(world.jobs.iter().filter(|job| **job == Job::ConfirmOwner).count(), 1, "asked once");
    assert!(world.control.waits().all(|wait| wait.why != Why::Owner(life)));
}

#[test]
fn a_store_that_never_answers_ends_the_host_and_releases_nothing() {
    let (mut world, a, _) = World::two_paths(2);
    let life = world.life(a);
    world.keep_owner = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    world.advance(119_000 * MS);
    assert_eq!(world.settled(0, life), None);
    world.advance(2_000 * MS);
    assert!(world.saw(|e| matches!(e, EventKind::Disowned { why } if why.contains("120 s"))));
    assert!(matches!(world.settled(0, life), Some(Release::Indeterminate { until: Some(_) })), "not retried");
    // An answer that comes now lets nothing go on.
    let job = world.keeps_records.expect("asked");
    world.control.handle_job_done(world.now, job, JobResult::Done);
    world.run();
    assert!(!world.saw(|e| matches!(e, EventKind::Released { .. })));
}

#[test]
fn a_process_that_is_no_longer_the_host_releases_nothing_and_ends() {
    let (mut world, a, b) = World::two_paths(2);
    let life = world.life(a);
    world.disowned = true;
    let entry = world.write(life, 0, 1);
    world.lose(life, vec![entry]);
    assert!(world.saw(|e| matches!(e, EventKind::Disowned { why } if why.contains("replaced"))));
    assert!(matches!(world.settled(0, life), Some(Release::Indeterminate { until: Some(_) })), "not retried");
    world.advance(60_000 * MS);
    assert_eq!(world.control.receipts().count(), 0);
    assert!(world.control.has_ended());
    assert_eq!((world.state(a), world.state(b)), (StateName::Dead, StateName::Dead));
    assert!(
        world.heard(0, |m| matches!(m, ToLane::Settle { life: of, release: Release::Retry } if *of == life)).is_none()
    );
}
