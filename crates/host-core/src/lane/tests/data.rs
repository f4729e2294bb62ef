//! Steady state: connecting, choosing, retrying, waiting.

use super::*;
use crate::{LaneWhy, Suspicion, Waiting};

/// How many commands each life's target has.
fn spread(rig: &mut Rig, lives: &[LifeId]) -> Vec<usize> {
    lives.iter().map(|life| rig.of(*life).taken.len()).collect()
}

#[test]
fn payload_goes_both_ways_whatever_its_size() {
    for in_capsule in [0, 4096] {
        let mut rig = Rig::new();
        rig.in_capsule = in_capsule;
        rig.open(A);
        rig.paths(&[A]);
        let small = rig.write(0, 1);
        let large = rig.write(10, 128);
        let read = rig.read(0, 16);
        let zero = rig.submit(Op::WriteZeroes { deallocate: true }, 3, 4);
        let discard = rig.submit(Op::Discard, 3, 4);
        let compare = rig.submit(Op::Compare, 20, 64);
        rig.run();
        assert_eq!(rig.of(A).taken.len(), 6);
        rig.answer(A);
        for token in [small, large, read, zero, discard, compare] {
            assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
        }
        let path = rig.lane.path_counters()[0];
        assert_eq!((path.io.reads, path.io.writes, path.io.compares, path.io.read_bytes), (1, 4, 1, 8192));
        assert_eq!(path.io.written_bytes, 129 * 512);
        assert_eq!((path.io.in_flight, rig.lane.head_counters()[0].io.in_flight), (0, 0));
        let times = &rig.lane.path_latencies()[0];
        assert_eq!((times.reads.buckets().iter().sum::<u64>(), times.writes.buckets().iter().sum()), (1, 4u64));
        let head = rig.lane.head_counters()[0].io;
        assert_eq!((head.reads, head.writes, head.compares, head.written_bytes), (1, 4, 1, 129 * 512));
        assert_eq!(rig.hear().iter().filter(|m| matches!(m, ToControl::FirstGood { life: A, .. })).count(), 1);
    }
}

#[test]
fn requests_are_checked_against_the_namespace() {
    let mut rig = Rig::two_paths();
    assert_eq!(rig.try_submit(Op::Read, 1000, 1), Err(Refused::OutOfRange));
    assert_eq!(rig.try_submit(Op::Read, u64::MAX, 2), Err(Refused::OutOfRange));
    assert_eq!(rig.try_submit(Op::Discard, 0, 0), Err(Refused::OutOfRange));
    assert_eq!(rig.try_submit(Op::Write { fua: true }, 0, 129), Err(Refused::TooLarge));
    let wrong = Request { head: HEAD, op: Op::Read, slba: 0, nlb: 1, data: None };
    assert_eq!(rig.lane.submit(rig.now, wrong, 7), Err(Refused::WrongLength));
    assert_eq!(rig.lane.submit(rig.now, Request { op: Op::Compare, ..wrong }, 7), Err(Refused::WrongLength));
    let none = Request { head: HeadId(9), ..wrong };
    assert_eq!(rig.lane.submit(rig.now, none, 7), Err(Refused::NoSuchNamespace));
    let mut table = Rig::table(&[(A, AnaState::Optimized, false)], IoPolicy::Numa, true);
    table.heads.get_mut(&HEAD).unwrap().shape.read_only = true;
    rig.tell(ToLane::Paths(Arc::new(table)));
    assert_eq!(rig.try_submit(Op::Discard, 0, 1), Err(Refused::ReadOnly));
    assert!(rig.lane.is_empty());
}

#[test]
fn the_lane_is_bounded() {
    let mut rig = Rig::two_paths();
    for _ in 0..64 {
        rig.write(0, 1);
    }
    assert_eq!(rig.try_submit(Op::Flush, 0, 0), Err(Refused::Busy));
    rig.run();
    assert_eq!(spread(&mut rig, &[A, B]), [16, 16]);
    assert_eq!(rig.lane.status().backlogged, 32);
    rig.answer(A);
    assert_eq!(spread(&mut rig, &[A, B]), [16, 16], "free slots are taken at once");
    rig.answer(B);
    rig.answer(A);
    rig.answer(B);
    rig.answer(A);
    assert!(rig.lane.is_empty());
    assert_eq!(rig.lane.counters().done, 64);
    assert_eq!(rig.lane.counters().refused_busy, 1);
}

#[test]
fn the_backlog_moves_when_paths_change() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    for _ in 0..20 {
        rig.write(0, 1);
    }
    let dropped = rig.write(0, 1);
    rig.lane.abandon(rig.now, dropped);
    rig.run();
    assert_eq!(rig.done.get(&dropped), Some(&Outcome::NotSent(Refused::Abandoned)));
    assert_eq!(spread(&mut rig, &[A, B]), [16, 0]);
    rig.paths(&[A, B]);
    rig.run();
    assert_eq!(spread(&mut rig, &[A, B]), [16, 4]);
}

#[test]
fn paths_are_chosen_by_state_then_policy() {
    let c = LifeId(3);
    let mut rig = Rig::two_paths();
    rig.open(c);
    let cases = [
        // ANA of A, B, C; slow; policy; where six commands go
        ([AnaState::Optimized; 3], [false; 3], IoPolicy::RoundRobin, [2, 2, 2]),
        ([AnaState::Optimized; 3], [false; 3], IoPolicy::QueueDepth, [2, 2, 2]),
        ([AnaState::Optimized; 3], [false; 3], IoPolicy::Numa, [6, 0, 0]),
        (
            [AnaState::NonOptimized, AnaState::Optimized, AnaState::Optimized],
            [false; 3],
            IoPolicy::RoundRobin,
            [0, 3, 3],
        ),
        (
            [AnaState::NonOptimized, AnaState::Inaccessible, AnaState::Change],
            [false; 3],
            IoPolicy::RoundRobin,
            [6, 0, 0],
        ),
        ([AnaState::Optimized; 3], [true, false, true], IoPolicy::RoundRobin, [0, 6, 0]),
        (
            [AnaState::Optimized, AnaState::NonOptimized, AnaState::PersistentLoss],
            [true, false, false],
            IoPolicy::Numa,
            [0, 6, 0],
        ),
        ([AnaState::Optimized; 3], [true; 3], IoPolicy::RoundRobin, [2, 2, 2]),
    ];
    for (ana, slow, policy, want) in cases {
        let lives = [(A, ana[0], slow[0]), (B, ana[1], slow[1]), (c, ana[2], slow[2])];
        rig.tell(ToLane::Paths(Arc::new(Rig::table(&lives, policy, true))));
        for slba in 0..6 {
            rig.write(slba * 10, 1);
        }
        rig.run();
        assert_eq!(spread(&mut rig, &[A, B, c]), want, "{ana:?} {slow:?} {policy:?}");
        for life in [A, B, c] {
            rig.answer(life);
        }
    }
}

#[test]
fn queue_depth_avoids_the_busy_path() {
    let mut rig = Rig::two_paths();
    rig.tell(ToLane::Paths(Arc::new(Rig::table(
        &[(A, AnaState::Optimized, false), (B, AnaState::Optimized, false)],
        IoPolicy::QueueDepth,
        true,
    ))));
    for slba in 0..4 {
        rig.write(slba * 10, 1);
    }
    rig.run();
    rig.answer(B);
    for slba in 0..4 {
        rig.write(slba * 10, 1);
    }
    rig.run();
    assert_eq!(spread(&mut rig, &[A, B]), [3, 3]);
}

#[test]
fn several_queues_of_a_life_share_its_load() {
    let mut rig = Rig::new();
    rig.open(A);
    rig.open_queue(A, 2);
    rig.run();
    assert!(rig.heard(&ToControl::QueueUp { life: A, qid: 2 }));
    rig.paths(&[A]);
    for slba in 0..6 {
        rig.write(slba * 10, 1);
    }
    rig.run();
    let loads: Vec<usize> = rig.wires.values().map(|wire| wire.taken.len()).collect();
    assert_eq!(loads, [3, 3]);
    assert_eq!(rig.lane.in_flight(A), 6);
    rig.hear();
    rig.condemn(A);
    let conns: Vec<ConnId> = rig.wires.keys().copied().collect();
    rig.event(conns[0], ConnEvent::SendQueueEmpty);
    assert!(!rig.hear().iter().any(|m| matches!(m, ToControl::Quiet { .. })), "the last socket decides");
    rig.event(conns[1], ConnEvent::SendQueueEmpty);
    assert!(rig.hear().iter().any(|m| matches!(m, ToControl::Quiet { .. })));
}

#[test]
fn requests_without_a_path_wait_in_order_or_fail() {
    let mut rig = Rig::new();
    rig.paths(&[A]);
    let first = rig.write(0, 1);
    let second = rig.write(1, 1);
    assert_eq!(rig.lane.status().requeued, 2);
    assert_eq!(rig.lane.head_counters()[0].requeue_no_usable_path, 2);
    rig.open(A);
    rig.run();
    assert_eq!(rig.held_by(A), [first, second]);
    rig.answer(A);
    rig.tell(ToLane::Paths(Arc::new(Rig::table(&[(A, AnaState::Inaccessible, false)], IoPolicy::RoundRobin, true))));
    let third = rig.read(0, 1);
    assert_eq!(rig.lane.status().requeued, 1);
    rig.tell(ToLane::Paths(Arc::new(Rig::table(&[(A, AnaState::Inaccessible, false)], IoPolicy::RoundRobin, false))));
    assert_eq!(rig.done.get(&third), Some(&Outcome::NotSent(Refused::NoPath)));
    assert_eq!(rig.lane.head_counters()[0].fail_no_available_path, 1);
    let fourth = rig.read(0, 1);
    assert_eq!(rig.done.get(&fourth), Some(&Outcome::NotSent(Refused::NoPath)));
    rig.tell(ToLane::Paths(Arc::new(PathTable::default())));
    assert_eq!(rig.try_submit(Op::Flush, 0, 0), Err(Refused::NoSuchNamespace));
}

#[test]
fn errors_are_retried_on_the_same_path_five_times() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let token = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    for round in 0..5 {
        assert_eq!(spread(&mut rig, &[A, B]), [1, 0], "round {round}");
        rig.answer_with(A, Status::INTERNAL_ERROR);
    }
    assert!(rig.open.contains(&token));
    rig.answer_with(A, Status::INTERNAL_ERROR);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Failed(Status::INTERNAL_ERROR)));
    let path = rig.lane.path_counters()[0];
    assert_eq!((path.retries, path.errors, path.failovers), (5, 1, 0));
}

#[test]
fn do_not_retry_is_obeyed() {
    let mut rig = Rig::two_paths();
    let token = rig.read(0, 1);
    rig.run();
    let status = Status::LBA_OUT_OF_RANGE.with_dnr();
    rig.answer_with(A, status);
    rig.answer_with(B, status);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Failed(status)));
}

#[test]
fn a_reservation_conflict_is_the_result_and_is_reported_at_a_bounded_rate() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.hear();
    let status = Status::RESERVATION_CONFLICT.with_dnr();
    let conflict = |commands| ToControl::Conflict { head: HEAD, life: A, status, commands };
    for round in 0..100 {
        let token = rig.write(round, 1);
        rig.run();
        rig.answer_with(A, status);
        assert_eq!(rig.done.get(&token), Some(&Outcome::Failed(status)), "never sent elsewhere");
    }
    assert_eq!(rig.hear(), [conflict(1)]);
    rig.now += crate::conflicts::REPORT_EVERY;
    rig.write(0, 1);
    rig.run();
    rig.answer_with(A, status);
    let said: Vec<ToControl> = rig.hear();
    assert_eq!(said, [conflict(100)]);
}

#[test]
fn an_ana_error_moves_the_request_and_shuts_the_path_until_the_next_table() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let one = rig.write(0, 1);
    let two = rig.write(10, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.hear();
    rig.answer_with(A, Status::ANA_INACCESSIBLE);
    assert_eq!(rig.hear(), [ToControl::AnaStale(A)], "asked for once");
    assert_eq!(rig.held_by(B), [one, two]);
    for slba in 20..24 {
        rig.write(slba, 1);
    }
    rig.run();
    assert_eq!(spread(&mut rig, &[A, B]), [0, 6]);
    assert_eq!(rig.lane.path_counters()[0].failovers, 2);
    rig.paths(&[A, B]);
    rig.write(30, 1);
    rig.write(31, 1);
    rig.run();
    assert_eq!(spread(&mut rig, &[A, B]), [1, 7]);
}

#[test]
fn a_path_error_on_every_path_ends() {
    let mut rig = Rig::two_paths();
    let token = rig.write(0, 1);
    rig.run();
    for _ in 0..10 {
        rig.answer_with(A, Status::CONTROLLER_PATH_ERROR);
        rig.answer_with(B, Status::CONTROLLER_PATH_ERROR);
    }
    assert_eq!(rig.done.get(&token), Some(&Outcome::Failed(Status::CONTROLLER_PATH_ERROR)));
}

#[test]
fn a_lost_queue_is_reported_and_not_used_while_control_decides() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let lost = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.hear();
    rig.drop_connection(A);
    let heard = rig.hear();
    assert!(matches!(&heard[..], [ToControl::QueueDown { life: A, qid: 1, why: DownReason::Lost(_) }]), "{heard:?}");
    for slba in 10..14 {
        rig.write(slba, 1);
    }
    rig.run();
    assert_eq!(rig.held_by(B).len(), 4);
    assert!(rig.open.contains(&lost));
    rig.condemn(A);
    let at = rig.now;
    let heard = rig.hear();
    assert!(heard.contains(&ToControl::Quiet { life: A, at }), "its socket is gone already");
    assert!(heard.iter().any(|m| matches!(m, ToControl::Condemned { ledger, .. } if ledger.len() == 1)));
}

#[test]
fn garbage_costs_the_connection() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.write(0, 1);
    rig.run();
    rig.hear();
    let conn = rig.conn(A);
    let taken = rig.lane.handle_bytes(rig.now, conn, &[0xFF; 64]);
    assert_eq!(taken.used, 64);
    rig.outputs();
    let heard = rig.hear();
    assert!(matches!(&heard[..], [ToControl::QueueDown { life: A, why: DownReason::Protocol(_), .. }]), "{heard:?}");
    assert_eq!(rig.lane.next_deadline().map(|deadline| deadline.why), Some(LaneWhy::LastWords(conn)));
    let mut list = SendList::new();
    rig.lane.poll_send(conn, &mut list);
    assert_eq!(list.headers[0], 2, "H2CTermReq");
    rig.elapse(Duration::from_millis(50));
    assert!(!rig.of(A).socket);
    rig.condemn(A);
    assert_eq!(rig.lane.status().held, 1);
    let conn = rig.conn(A);
    rig.event(conn, ConnEvent::Aborted);
    let at = rig.now;
    assert!(rig.heard(&ToControl::Quiet { life: A, at }));
}

#[test]
fn connecting_has_one_deadline_for_all_steps() {
    let mut rig = Rig::new();
    rig.open_queue(A, 1);
    rig.elapse(Duration::from_secs(9));
    let conn = rig.conn(A);
    rig.wire(conn).connected = true;
    rig.event(conn, ConnEvent::Up);
    assert!(rig.wire(conn).wants_send);
    rig.elapse(Duration::from_secs(1));
    let heard = rig.hear();
    assert!(matches!(&heard[..], [ToControl::QueueDown { why: DownReason::TimedOut(_), .. }]), "{heard:?}");
    assert!(!rig.wire(conn).socket);
    rig.event(conn, ConnEvent::Aborted);
    assert!(rig.hear().is_empty());
    assert_eq!(rig.lane.next_deadline(), None);
}

#[test]
fn a_queue_that_another_controller_answers_is_not_used() {
    let mut rig = Rig::new();
    // The admin queue spoke with controller 2; here answers controller 1.
    let spec = Arc::new(QueueSpec { cntlid: 2, ..rig.spec(A, 1) });
    rig.opening.push_back(Arc::clone(&spec));
    rig.tell(ToLane::OpenQueue(spec));
    rig.run();
    let heard = rig.hear();
    let refused = |text: &str| text.contains("controller 0x0001, not 0x0002");
    assert!(
        matches!(&heard[..], [ToControl::QueueDown { why: DownReason::Refused { text, permanent: false }, .. }]
            if refused(text)),
        "{heard:?}"
    );
}

#[test]
fn an_unreachable_port_is_reported() {
    let mut rig = Rig::new();
    rig.open_queue(A, 1);
    let conn = rig.conn(A);
    let why = DownReason::Unreachable("connection refused".to_string());
    rig.event(conn, ConnEvent::Down(why.clone()));
    assert_eq!(rig.hear(), [ToControl::QueueDown { life: A, qid: 1, why }]);
}

#[test]
fn a_timeout_is_a_suspicion_with_a_second_witness_or_without() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.write(0, 1);
    rig.run();
    let since = rig.now;
    let oldest = Waiting { qid: 1, cid: rig.of(A).last_cid };
    rig.hear();
    rig.elapse(Duration::from_secs(29));
    assert!(rig.hear().is_empty());
    rig.elapse(Duration::from_secs(1));
    let alone = Suspicion::IoTimeout { since, others_answer: false, oldest };
    assert_eq!(rig.hear(), [ToControl::Suspect { life: A, why: alone }]);
    rig.paths(&[B]);
    rig.write(50, 1);
    rig.run();
    rig.answer(B);
    rig.hear();
    rig.elapse(Duration::from_secs(30));
    let witness = Suspicion::IoTimeout { since, others_answer: true, oldest };
    assert_eq!(rig.hear(), [ToControl::Suspect { life: A, why: witness }], "it is said again");
    rig.answer(A);
    rig.elapse(Duration::from_secs(30));
    assert!(rig.hear().iter().all(|message| matches!(message, ToControl::FirstGood { .. })));
    assert_eq!(rig.lane.next_deadline(), None, "an idle queue has no timer");
    assert_eq!(rig.lane.counters().timeouts, 2);
}

#[test]
fn a_lane_says_what_io_of_a_controller_was_answered_last() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.tell(ToLane::AskTraffic(A));
    assert!(rig.hear().iter().all(|message| !matches!(message, ToControl::Traffic { .. })), "nothing was answered");
    let first = rig.now;
    rig.write(0, 1);
    rig.run();
    rig.elapse(Duration::from_secs(1));
    rig.answer(A);
    rig.write(8, 1);
    rig.run();
    rig.hear();
    rig.tell(ToLane::AskTraffic(A));
    assert_eq!(rig.hear(), [ToControl::Traffic { life: A, submitted: first }], "what has no answer is no sign of life");
}

#[test]
fn equal_histories_have_equal_fingerprints_and_every_step_has_its_own() {
    let history = || {
        let mut rig = Rig::new();
        let mut seen = vec![rig.lane.fingerprint()];
        rig.open(A);
        seen.push(rig.lane.fingerprint());
        rig.paths(&[A]);
        seen.push(rig.lane.fingerprint());
        rig.write(0, 8);
        seen.push(rig.lane.fingerprint());
        rig.run();
        seen.push(rig.lane.fingerprint());
        rig.condemn(A);
        seen.push(rig.lane.fingerprint());
        seen
    };
    let first = history();
    assert_eq!(first, history());
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len(), "a step left no trace: {first:x?}");
}

#[test]
fn a_retry_waits_as_long_as_the_controller_asks_for_and_no_longer_than_a_command_may_take() {
    for (crd, seconds) in [(0, 0), (1, 1), (2, 2), (3, 30)] {
        let mut rig = Rig::two_paths();
        rig.paths(&[A]);
        let token = rig.write(0, 1);
        rig.run();
        rig.paths(&[A, B]);
        let status = Status::INTERNAL_ERROR.with_crd(crd);
        rig.answer_with(A, status);
        if seconds > 0 {
            assert!(rig.held_by(A).is_empty(), "CRD {crd}: not before its time");
            assert_eq!(rig.lane.status().delayed, 1);
            let end = rig.now + Duration::from_secs(seconds);
            assert!(rig.lane.waits().any(|wait| wait.why == LaneWhy::Retry && wait.at == end));
            // Nothing else that happens makes it come earlier.
            rig.paths(&[A, B]);
            rig.write(0, 1);
            rig.elapse(Duration::from_secs(seconds) - Duration::from_millis(1));
            assert_eq!(rig.lane.status().delayed, 1);
            rig.elapse(Duration::from_millis(1));
        }
        rig.run();
        assert_eq!(rig.held_by(A)[0..1], [token], "CRD {crd}: on the same path");
        assert_eq!(rig.lane.status().delayed, 0);
        assert!(!rig.lane.waits().any(|wait| wait.why == LaneWhy::Retry));
    }
}

#[test]
fn a_delayed_retry_does_not_wait_for_a_path_that_is_gone() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let token = rig.write(0, 1);
    rig.run();
    rig.answer_with(A, Status::INTERNAL_ERROR.with_crd(2));
    assert_eq!(rig.lane.status().delayed, 1);
    rig.paths(&[A, B]);
    rig.condemn(A);
    rig.paths(&[B]);
    rig.run();
    assert_eq!(rig.held_by(B), [token], "it was answered: settled");
    // Nor for one that is abandoned, or a host that ends.
    rig.answer_with(B, Status::INTERNAL_ERROR.with_crd(1));
    assert_eq!(rig.lane.status().delayed, 1);
    rig.tell(ToLane::Shutdown);
    let last = Status::INTERNAL_ERROR.with_crd(1);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Failed(last)), "what a controller said is not covered up");
}

#[test]
fn every_wait_of_a_lane_has_a_deadline() {
    let listed = |rig: &Rig| -> Vec<alloc::string::String> {
        rig.lane.status().waits.iter().map(|wait| wait.why.to_string()).collect()
    };
    let mut rig = Rig::new();
    rig.open_queue(A, 1);
    assert_eq!(listed(&rig), ["conn1: TCP connect, ICResp and Connect"]);
    rig.run();
    rig.paths(&[A]);
    assert_eq!(listed(&rig), [""; 0], "nothing is waited for while nothing is asked");
    rig.write(0, 1);
    rig.run();
    assert_eq!(listed(&rig), ["conn1: answer to the oldest I/O command"]);
    rig.answer_with(A, Status::INTERNAL_ERROR.with_crd(1));
    assert_eq!(listed(&rig)[0], "retries after the delay that a controller asked for");
    rig.elapse(Duration::from_secs(1));
    rig.run();
    rig.condemn(A);
    assert_eq!(listed(&rig), ["conn1: late completions, and the socket to be gone"]);
    rig.elapse(Duration::from_millis(250));
    assert_eq!(listed(&rig), ["conn1: late completions, and the socket to be gone"], "until it is known to be");
    let conn = rig.conn(A);
    rig.event(conn, ConnEvent::Aborted);
    assert_eq!(listed(&rig), [""; 0], "what is held waits for control");
}

#[test]
fn in_flight_and_busy_are_counted_through_a_failover() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.write(0, 1);
    rig.read(8, 1);
    rig.run();
    let on = |rig: &Rig| -> Vec<u32> { rig.lane.path_counters().iter().map(|path| path.io.in_flight).collect() };
    let of_head = |rig: &Rig| rig.lane.head_counters()[0].io.in_flight;
    assert_eq!((on(&rig), of_head(&rig)), (vec![2, 0], 2));
    rig.now += Duration::from_millis(5);
    let busy = rig.lane.path_counters()[0].io;
    assert_eq!((busy.busy_nanos, busy.busy_nanos_at(rig.now)), (0, 5_000_000), "the present span counts when asked");
    rig.paths(&[A, B]);
    rig.condemn(A);
    rig.run();
    assert_eq!((on(&rig), of_head(&rig)), (vec![0, 1], 2), "the read moved, the write is held on no path");
    assert_eq!(rig.lane.path_counters()[0].io.busy_nanos, 5_000_000);
    rig.answer(B);
    rig.tell(ToLane::Settle { life: A, release: crate::Release::Retry });
    rig.now += Duration::from_millis(3);
    rig.run();
    rig.answer(B);
    assert_eq!((on(&rig), of_head(&rig)), (vec![0, 0], 0));
    let head = rig.lane.head_counters()[0].io;
    assert_eq!(
        (head.reads, head.writes, head.write_nanos),
        (1, 1, 8_000_000),
        "what the caller felt, not what one path took"
    );
    assert_eq!(rig.lane.path_counters()[1].io.write_nanos, 3_000_000);
}

#[test]
fn a_namespace_that_is_forgotten_leaves_its_slot_to_another() {
    let mut rig = Rig::new();
    rig.open(A);
    let shape = Shape { block_size: BLOCK, blocks: 1000, metadata: 0, read_only: false };
    let table = |ids: &[HeadId]| {
        let head = || Head {
            shape,
            policy: IoPolicy::RoundRobin,
            flush: FlushScope::Subsystem,
            paths: vec![Path { life: A, nsid: 1, ana: AnaState::Optimized, slow: false, queues: 1 }],
            may_return: true,
        };
        let heads = ids.iter().map(|id| (*id, head())).collect();
        ToLane::Paths(Arc::new(PathTable { epoch: 1, twins: BTreeMap::new(), heads }))
    };
    let used = |rig: &Rig| {
        let heads: Vec<HeadId> = rig.lane.head_counters().iter().map(|head| head.head).collect();
        (heads, rig.lane.path_counters().len(), rig.lane.head_latencies().len(), rig.lane.path_latencies().len())
    };
    for n in 0..1_000 {
        rig.tell(table(&[HEAD, HeadId(n + 10)]));
        assert_eq!(used(&rig), (vec![HEAD, HeadId(n + 10)], 2, 2, 2));
        rig.tell(table(&[HEAD]));
        rig.tell(ToLane::Forget(Arc::new(vec![HeadId(n + 10), HeadId(7_777)])));
        assert_eq!(used(&rig), (vec![HEAD], 1, 1, 1));
        let flush = Request { op: Op::Flush, head: HeadId(n + 10), slba: 0, nlb: 0, data: None };
        assert_eq!(rig.lane.submit(rig.now, flush, 1), Err(Refused::NoSuchNamespace));
    }
    assert_eq!(rig.lane.heads.slots(), (2, 2), "two namespaces at most were there at once");
}
