//! What happens to commands when their life is lost.

use super::*;
use crate::{GuardKey, GuardStands, Release};
use interlock_wire::IntoBytes;
use interlock_wire::sqe::Cqe;

const fn key(seq: u64) -> GuardKey {
    GuardKey { seq, lane: 0 }
}

const fn entry(seq: u64, range: core::ops::Range<u64>) -> GuardEntry {
    GuardEntry { key: key(seq), head: HEAD, range, stands: GuardStands::Held }
}

fn keys(ledger: &[crate::LedgerEntry]) -> Vec<u64> {
    ledger.iter().map(|entry| entry.key.seq).collect()
}

/// The ledger that the lane gave for `life`.
fn ledger(heard: &[ToControl], of: LifeId) -> Vec<crate::LedgerEntry> {
    let found = heard.iter().find_map(|message| match message {
        ToControl::Condemned { life, ledger, .. } if *life == of => Some(ledger.clone()),
        _ => None,
    });
    found.expect("the lane answers Condemn")
}

/// One path: what is submitted goes there.
fn on_a() -> Rig {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig
}

#[test]
fn unsent_goes_elsewhere_at_once_and_sent_is_held() {
    let mut rig = on_a();
    let sent = rig.write(0, 1);
    rig.run();
    let half = rig.write(10, 1);
    rig.of(A).window = Some(30);
    rig.run();
    let unsent = rig.write(20, 1);
    rig.run();
    assert_eq!(rig.held_by(A), [sent]);
    rig.paths(&[A, B]);
    rig.hear();
    rig.condemn(A);
    assert_eq!(keys(&ledger(&rig.hear(), A)), [sent, half], "the first byte decides");
    rig.run();
    assert_eq!(rig.held_by(B), [unsent]);
    let status = rig.lane.status();
    assert_eq!((status.held, status.in_flight), (2, 1));
    rig.answer(B);
    assert_eq!(rig.done.get(&unsent), Some(&Outcome::Ok));
    assert_eq!(rig.done.len(), 1);
    // The fence: both go, in the order in which they were submitted.
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert_eq!(rig.held_by(B), [sent, half]);
    rig.answer(B);
    assert!(rig.heard(&ToControl::Resolved(vec![key(sent), key(half)])), "{:?}", rig.control);
    assert_eq!(rig.lane.counters().released, 2);
    assert_eq!(rig.lane.path_counters()[0].failovers, 3);
    assert!(rig.lane.is_empty());
}

#[test]
fn no_byte_is_sent_after_condemned() {
    let mut rig = on_a();
    rig.in_capsule = 0;
    let token = rig.write(0, 64);
    rig.of(A).window = Some(100);
    rig.run();
    let conn = rig.conn(A);
    rig.condemn(A);
    rig.of(A).window = None;
    let mut list = SendList::new();
    rig.lane.poll_send(conn, &mut list);
    assert!(list.is_empty());
    rig.run();
    assert_eq!(rig.lane.status().held, 1);
    assert!(rig.open.contains(&token));
}

#[test]
fn r2t_after_condemned_gets_no_data() {
    let mut rig = Rig::new();
    rig.in_capsule = 0;
    rig.open(A);
    rig.paths(&[A]);
    rig.of(A).mute = true;
    let token = rig.write(0, 8);
    rig.run();
    assert!(rig.of(A).arriving.len() == 1 && rig.held_by(A).is_empty(), "the target waits for data");
    rig.condemn(A);
    rig.of(A).mute = false;
    rig.run();
    assert!(rig.held_by(A).is_empty(), "no_send_after_condemned");
    assert!(rig.open.contains(&token));
}

#[test]
fn quiet_follows_the_empty_send_queue_or_the_abort() {
    let mut rig = on_a();
    rig.write(0, 1);
    rig.run();
    rig.hear();
    rig.condemn(A);
    let conn = rig.conn(A);
    assert!(rig.of(A).watched && rig.of(A).socket);
    assert!(!rig.hear().iter().any(|message| matches!(message, ToControl::Quiet { .. })));
    rig.now += Duration::from_millis(3);
    rig.event(conn, ConnEvent::SendQueueEmpty);
    let at = rig.now;
    assert!(rig.heard(&ToControl::Quiet { life: A, at }));
    assert!(rig.of(A).socket, "it stays open for late answers");
    assert_eq!(rig.lane.next_deadline(), None);

    let mut rig = on_a();
    rig.write(0, 1);
    rig.run();
    rig.condemn(A);
    rig.elapse(Duration::from_millis(249));
    assert!(rig.of(A).socket);
    rig.elapse(Duration::from_millis(1));
    assert!(!rig.of(A).socket);
    assert!(!rig.hear().iter().any(|message| matches!(message, ToControl::Quiet { .. })));
    let conn = rig.conn(A);
    rig.event(conn, ConnEvent::Aborted);
    let at = rig.now;
    assert!(rig.heard(&ToControl::Quiet { life: A, at }));
}

#[test]
fn the_ledger_says_when_each_command_was_sent() {
    let mut rig = on_a();
    let first = rig.now;
    rig.write(0, 1);
    rig.run();
    rig.elapse(Duration::from_millis(20));
    let second = rig.now;
    rig.write(10, 1);
    rig.run();
    rig.elapse(Duration::from_millis(5));
    rig.condemn(A);
    let times: Vec<_> = ledger(&rig.hear(), A).iter().map(|entry| entry.since).collect();
    assert_eq!(times, [first, second]);
    // Asked again, it says the same of what it holds.
    rig.condemn(A);
    let times: Vec<_> = ledger(&rig.hear(), A).iter().map(|entry| entry.since).collect();
    assert_eq!(times, [first, second]);
}

#[test]
fn a_life_without_queues_is_answered_all_the_same() {
    let mut rig = Rig::new();
    rig.condemn(A);
    let at = rig.now;
    assert_eq!(
        rig.hear(),
        [ToControl::Condemned { life: A, ledger: vec![], settled: 0 }, ToControl::Quiet { life: A, at }]
    );
    rig.tell(ToLane::Drain(B));
    assert_eq!(rig.hear(), [ToControl::Drained(B)]);
}

#[test]
fn a_late_answer_is_decided_by_control() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.condemn(A);
    rig.answer(A);
    assert!(rig.done.is_empty(), "the lane does not decide");
    let late = rig.hear().into_iter().find_map(|message| match message {
        ToControl::Late { life: A, key, cqe } => Some((key, cqe)),
        _ => None,
    });
    let (key, cqe) = late.unwrap();
    rig.tell(ToLane::Answered { key, cqe });
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    assert!(rig.heard(&ToControl::Resolved(vec![key])));
    assert_eq!(rig.lane.status().guards, 0);
    assert_eq!(rig.lane.counters().late_completions, 1);
    // Decided once: neither a second answer nor the fence finds anything.
    rig.tell(ToLane::Answered { key, cqe });
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.paths(&[B]);
    rig.run();
    assert!(rig.held_by(B).is_empty());
}

#[test]
fn a_late_answer_with_an_error_is_classified_like_any_other() {
    let mut rig = on_a();
    let final_error = rig.write(0, 1);
    let path_error = rig.write(10, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    let dnr = Status::INVALID_FIELD.with_dnr();
    rig.tell(ToLane::Answered { key: key(1), cqe: Cqe::new(0, 0, dnr) });
    rig.tell(ToLane::Answered { key: key(2), cqe: Cqe::new(0, 0, Status::INTERNAL_PATH_ERROR) });
    assert_eq!(rig.done.get(&final_error), Some(&Outcome::Failed(dnr)));
    rig.run();
    assert_eq!(rig.held_by(B), [path_error], "answered, hence settled: it need not wait for the fence");
    assert!(rig.heard(&ToControl::Resolved(vec![key(2)])));
}

#[test]
fn settle_closes_sockets_before_it_releases() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    // The answer lies in the receive buffer when the fence comes.
    let conn = rig.conn(A);
    let wire = rig.wire(conn);
    let taken = wire.taken.pop().unwrap();
    wire.respond(&taken, Status::SUCCESS);
    rig.at_target(conn);
    assert!(!rig.of(A).to_host.is_empty());
    let bytes = rig.of(A).to_host.clone();
    rig.lane.handle_control(rig.now, ToLane::Settle { life: A, release: Release::Retry });
    let first = rig.lane.poll_output();
    assert_eq!(first, Some(LaneOutput::Conn(ConnAction::Abort(conn))));
    rig.act(ConnAction::Abort(conn));
    rig.outputs();
    rig.hear();
    // Even a driver that delivers it now cannot make it count.
    let taken = rig.lane.handle_bytes(rig.now, conn, &bytes);
    assert_eq!(taken.used, bytes.len());
    rig.run();
    assert!(rig.hear().is_empty() && rig.done.is_empty());
    assert_eq!(rig.held_by(B), [token]);
    rig.answer(B);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    rig.event(conn, ConnEvent::Aborted);
    assert!(rig.lane.status().lives.iter().all(|life| life.life != A), "a settled life without sockets is forgotten");
}

#[test]
fn a_read_is_moved_at_once_and_its_late_data_is_dropped() {
    let mut rig = on_a();
    let token = rig.read(0, 4);
    let held = rig.write(50, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    rig.run();
    rig.answer(B);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    // The buffer is gone; the rig panics if anything is placed into it.
    rig.answer(A);
    assert_eq!(rig.lane.counters().stray_completions, 1);
    assert_eq!(rig.lane.counters().late_completions, 1);
    assert!(rig.open.contains(&held));
}

#[test]
fn a_compare_is_moved_at_once_and_its_answer_is_final() {
    for status in [Status::SUCCESS, Status::COMPARE_FAILURE, Status::COMPARE_FAILURE.with_dnr()] {
        let mut rig = on_a();
        let small = rig.submit(Op::Compare, 50, 1);
        let large = rig.submit(Op::Compare, 50, 100);
        let write = rig.write(50, 100);
        rig.run();
        rig.paths(&[A, B]);
        rig.condemn(A);
        rig.run();
        assert!(rig.open.contains(&write) && rig.lane.status().guarded == 0, "what is held keeps no compare back");
        // Each was sent to both controllers, and ends by the first answer of the one that is still used.
        rig.answer_with(B, status);
        let want = if status.is_success() { Outcome::Ok } else { Outcome::Failed(status) };
        assert_eq!((rig.done.get(&small), rig.done.get(&large)), (Some(&want), Some(&want)), "answered once");
        assert_eq!(want.is_different(), !status.is_success());
        let paths = rig.lane.path_counters();
        assert_eq!(paths.iter().map(|path| (path.io.compares, path.errors, path.retries)).max(), Some((2, 0, 0)));
        rig.answer(A);
        assert_eq!(rig.lane.counters().stray_completions, 2);
        assert!(rig.open.contains(&write));
    }
}

#[test]
fn new_writes_wait_for_a_guarded_range_and_reads_do_not() {
    let mut rig = on_a();
    let doubt = rig.write(10, 4);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    // The guard is there before control's table is.
    let over = rig.write(13, 1);
    let zero = rig.submit(Op::WriteZeroes { deallocate: false }, 8, 3);
    let discard = rig.submit(Op::Discard, 12, 100);
    let beside = rig.write(14, 1);
    let read = rig.read(10, 4);
    let flush = rig.submit(Op::Flush, 0, 0);
    rig.run();
    assert_eq!(rig.held_by(B), [beside]);
    rig.answer(B);
    for token in [beside, read, flush] {
        assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    }
    assert_eq!(rig.lane.status().guarded, 3);
    rig.guard(1, &[entry(doubt, 10..14)]);
    assert!(rig.heard(&ToControl::GuardSeen(1)));
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert_eq!(rig.held_by(B), [doubt], "the retry goes first, alone");
    assert_eq!(rig.lane.status().guarded, 3);
    rig.answer(B);
    rig.run();
    rig.answer(B);
    for token in [doubt, over, zero, discard] {
        assert_eq!(rig.done.get(&token), Some(&Outcome::Ok), "{token}");
    }
    assert_eq!(rig.lane.counters().guarded, 3);
}

#[test]
fn overlapping_held_writes_are_released_one_after_the_other() {
    let mut rig = on_a();
    let first = rig.write(10, 4);
    let second = rig.write(12, 4);
    let third = rig.write(14, 4);
    let apart = rig.write(100, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    rig.guard(1, &[entry(1, 10..14), entry(2, 12..16), entry(3, 14..18), entry(4, 100..101)]);
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert_eq!(rig.held_by(B), [first, apart]);
    rig.answer(B);
    assert_eq!(rig.held_by(B), [second], "its own guard ended here although the table still lists it");
    rig.answer(B);
    assert_eq!(rig.held_by(B), [third]);
    rig.answer(B);
    assert!(rig.lane.is_empty());
    // The table still lists them for others; here they are known to be gone.
    rig.write(10, 1);
    rig.run();
    assert_eq!(rig.held_by(B).len(), 1);
    rig.guard(2, &[]);
    assert_eq!(rig.lane.status().guards, 0);
}

#[test]
fn a_held_write_waits_for_an_older_one_of_another_lane() {
    let mut rig = on_a();
    let token = rig.write(10, 4);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    let other = GuardEntry { key: GuardKey { seq: 0, lane: 9 }, head: HEAD, range: 13..20, stands: GuardStands::Held };
    let younger =
        GuardEntry { key: GuardKey { seq: 1, lane: 9 }, head: HEAD, range: 10..11, stands: GuardStands::Released };
    rig.guard(1, &[other.clone(), younger.clone(), entry(1, 10..14)]);
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert!(rig.held_by(B).is_empty());
    rig.guard(2, &[younger, entry(1, 10..14)]);
    rig.run();
    assert_eq!(rig.held_by(B), [token], "a younger one waits for this one, not the reverse");
}

#[test]
fn what_overlaps_an_endless_guard_is_refused_and_reads_go() {
    let mut rig = Rig::two_paths();
    let other = GuardEntry { key: GuardKey { seq: 500, lane: 9 }, head: HEAD, range: 5..9, stands: GuardStands::Held };
    rig.guard(1, core::slice::from_ref(&other));
    let waiting = rig.write(8, 4);
    assert_eq!(rig.lane.status().guarded, 1, "it may end yet");
    rig.guard(2, &[GuardEntry { stands: GuardStands::Endless, ..other.clone() }]);
    assert_eq!(rig.done.get(&waiting), Some(&Outcome::NotSent(Refused::Unfenced)));
    let (late, beside, read) = (rig.write(5, 1), rig.write(9, 1), rig.read(5, 4));
    let discard = rig.submit(Op::Discard, 0, 100);
    assert_eq!(rig.done.get(&late), Some(&Outcome::NotSent(Refused::Unfenced)));
    assert_eq!(rig.done.get(&discard), Some(&Outcome::NotSent(Refused::Unfenced)));
    rig.run();
    rig.answer(A);
    rig.answer(B);
    assert_eq!((rig.done.get(&beside), rig.done.get(&read)), (Some(&Outcome::Ok), Some(&Outcome::Ok)));
    assert_eq!(rig.lane.counters().refused_unfenced, 3);
    // Once it is gone, so is the refusal.
    rig.guard(3, &[]);
    rig.write(5, 1);
    rig.run();
    assert_eq!(rig.lane.status().in_flight, 1);
}

#[test]
fn a_released_write_behind_an_endless_guard_says_that_its_outcome_is_not_known() {
    let mut rig = on_a();
    let token = rig.write(10, 4);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    let older =
        GuardEntry { key: GuardKey { seq: 0, lane: 9 }, head: HEAD, range: 13..20, stands: GuardStands::Endless };
    rig.guard(1, &[older, entry(1, 10..14)]);
    assert!(rig.open.contains(&token), "it is held: nothing is decided about it yet");
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    assert_eq!(rig.done.get(&token), Some(&Outcome::OutcomeUnknown), "sent once, and never again");
}

#[test]
fn a_guard_of_another_lane_holds_new_writes_by_head_and_range() {
    let mut rig = Rig::two_paths();
    let other =
        GuardEntry { key: GuardKey { seq: 500, lane: 9 }, head: HEAD, range: 5..6, stands: GuardStands::Released };
    let elsewhere = GuardEntry { head: HeadId(2), range: 0..1000, ..other.clone() };
    rig.guard(1, core::slice::from_ref(&elsewhere));
    rig.write(5, 1);
    rig.run();
    assert_eq!(rig.lane.status().in_flight, 1);
    rig.guard(2, &[elsewhere, other]);
    rig.write(5, 1);
    rig.run();
    assert_eq!(rig.lane.status().guarded, 1);
    rig.guard(3, &[]);
    assert_eq!(rig.lane.status().in_flight, 2);
}

#[test]
fn a_retry_that_is_lost_again_is_held_again_under_its_name() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert_eq!(rig.held_by(B), [token]);
    rig.hear();
    rig.condemn(B);
    let heard = rig.hear();
    assert_eq!(keys(&ledger(&heard, B)), [token]);
    assert_eq!(rig.lane.status().guards, 1);
    rig.tell(ToLane::Settle { life: B, release: Release::Retry });
    let c = LifeId(3);
    rig.open(c);
    rig.paths(&[c]);
    rig.run();
    rig.answer(c);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
}

#[test]
fn released_without_any_path_left_is_unknown_not_unsent() {
    let mut rig = on_a();
    let held = rig.write(0, 1);
    rig.run();
    rig.condemn(A);
    let fresh = rig.write(50, 1);
    let guarded = rig.write(0, 1);
    let none = Rig::table(&[], IoPolicy::RoundRobin, false);
    rig.tell(ToLane::Paths(Arc::new(none)));
    assert_eq!(rig.done.get(&fresh), Some(&Outcome::NotSent(Refused::NoPath)));
    assert_eq!(rig.done.get(&guarded), Some(&Outcome::NotSent(Refused::NoPath)), "settled I/O fails in time");
    assert!(rig.open.contains(&held), "what is in doubt is exempt until its fence");
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    assert_eq!(rig.done.get(&held), Some(&Outcome::OutcomeUnknown));
    assert!(rig.heard(&ToControl::Resolved(vec![key(1)])));
}

/// An error may come after a part of the change: whoever hears "not sent" would believe that the blocks are as they were.
#[test]
fn an_error_without_any_path_left_is_told_and_not_covered_up() {
    let none = || ToLane::Paths(Arc::new(Rig::table(&[], IoPolicy::RoundRobin, false)));
    let failed = Outcome::Failed(Status::INTERNAL_ERROR);
    let cases = [
        (Op::Write { fua: false }, Status::INTERNAL_ERROR, failed),
        (Op::Discard, Status::INTERNAL_ERROR, failed),
        (Op::Read, Status::INTERNAL_ERROR, Outcome::NotSent(Refused::NoPath)),
        (Op::Write { fua: false }, Status::ANA_INACCESSIBLE, Outcome::NotSent(Refused::NoPath)),
    ];
    for (op, status, end) in cases {
        // In time: its path is lost before it can be sent there again.
        let mut rig = on_a();
        let token = rig.submit(op, 0, 1);
        rig.run();
        rig.answer_with(A, status.with_crd(1));
        rig.condemn(A);
        rig.tell(none());
        let told = match end {
            Outcome::Failed(status) => Outcome::Failed(status.with_crd(1)),
            other => other,
        };
        assert_eq!(rig.done.get(&token), Some(&told), "{op:?}, {status}, in time");
        if !op.changes_media() {
            continue;
        }
        // Late: its life was condemned before.
        let mut rig = on_a();
        let token = rig.submit(op, 0, 1);
        rig.run();
        rig.condemn(A);
        rig.tell(ToLane::Answered { key: key(1), cqe: Cqe::new(0, 0, status) });
        rig.tell(none());
        assert_eq!(rig.done.get(&token), Some(&end), "{op:?}, {status}, late");
    }
}

#[test]
fn giving_up_waits_for_the_guard_and_leaves_it() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.condemn(A);
    let until = Some(rig.now + Duration::from_secs(9));
    rig.tell(ToLane::Settle { life: A, release: Release::Indeterminate { until } });
    assert!(rig.done.is_empty(), "guard_before_giving_up");
    rig.guard(1, &[entry(1, 0..1)]);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Indeterminate { until }));
    assert!(!rig.hear().iter().any(|message| matches!(message, ToControl::Resolved(_))), "the tombstone stays");
    let next = rig.write(0, 1);
    rig.run();
    assert!(rig.held_by(B).is_empty(), "in_doubt_outlives_its_request");
    rig.guard(2, &[]);
    rig.run();
    assert_eq!(rig.held_by(B), [next]);
}

#[test]
fn legacy_sends_again_at_once_and_counts_it() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.hear();
    rig.tell(ToLane::Condemn { life: A, policy: FencePolicy::Legacy });
    assert_eq!(keys(&ledger(&rig.hear(), A)), [token], "control counts what was risked");
    rig.run();
    assert_eq!(rig.held_by(B), [token]);
    assert_eq!(rig.lane.counters().unsafe_failovers, 1);
    assert_eq!(rig.lane.path_counters()[0].unsafe_failovers, 1);
    // Its answer from the lost life is nobody's.
    rig.answer(A);
    assert!(rig.done.is_empty());
    assert_eq!(rig.lane.counters().stray_completions, 1);
    rig.answer(B);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
}

#[test]
fn an_abandoned_write_is_guarded_until_it_is_answered() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.hear();
    rig.lane.abandon(rig.now, token);
    rig.outputs();
    let heard = rig.hear();
    assert!(
        matches!(&heard[..], [ToControl::Abandoned(entry)] if entry.key == key(1) && entry.life == A && entry.abandoned),
        "{heard:?}"
    );
    let over = rig.write(0, 1);
    rig.run();
    assert_eq!(rig.held_by(A), [token]);
    rig.answer(A);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    assert!(rig.heard(&ToControl::Resolved(vec![key(1)])));
    assert_eq!(rig.held_by(A), [over]);
}

#[test]
fn an_abandoned_write_is_never_sent_again() {
    let mut rig = on_a();
    let sent = rig.write(0, 1);
    let held = rig.write(10, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.lane.abandon(rig.now, sent);
    rig.condemn(A);
    rig.lane.abandon(rig.now, held);
    rig.outputs();
    let heard = rig.hear();
    assert!(ledger(&heard, A)[0].abandoned);
    assert!(heard.iter().any(|m| matches!(m, ToControl::Abandoned(entry) if entry.key == key(2))));
    assert!(rig.done.is_empty(), "their buffers are still theirs");
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    assert_eq!(rig.done.get(&sent), Some(&Outcome::OutcomeUnknown));
    assert_eq!(rig.done.get(&held), Some(&Outcome::OutcomeUnknown));
    assert!(rig.held_by(B).is_empty());
    assert!(rig.heard(&ToControl::Resolved(vec![key(1), key(2)])));
}

#[test]
fn an_abandoned_request_that_was_not_sent_ends_at_once() {
    let mut rig = Rig::new();
    rig.paths(&[A]);
    let waiting = rig.write(0, 1);
    rig.lane.abandon(rig.now, waiting);
    rig.lane.abandon(rig.now, 999);
    rig.outputs();
    assert_eq!(rig.done.get(&waiting), Some(&Outcome::NotSent(Refused::Abandoned)));
    assert!(rig.hear().is_empty());
}

#[test]
fn a_drained_life_ends_when_its_last_answer_came() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let last = rig.write(0, 1);
    rig.run();
    rig.paths(&[A, B]);
    rig.hear();
    rig.tell(ToLane::Drain(A));
    let next = rig.write(1, 1);
    let next2 = rig.write(2, 1);
    rig.run();
    assert_eq!(rig.held_by(B), [next, next2], "nothing new on a draining life");
    assert!(rig.hear().is_empty() && !rig.of(A).closed);
    rig.answer(A);
    assert_eq!(rig.done.get(&last), Some(&Outcome::Ok));
    assert!(rig.of(A).closed);
    assert!(rig.heard(&ToControl::Drained(A)));
    assert_eq!(rig.lane.in_flight(A), 0);
}

#[test]
fn a_draining_life_can_still_be_condemned() {
    let mut rig = on_a();
    let token = rig.write(0, 1);
    rig.run();
    rig.tell(ToLane::Drain(A));
    rig.hear();
    rig.condemn(A);
    assert_eq!(keys(&ledger(&rig.hear(), A)), [token]);
    rig.paths(&[B]);
    rig.tell(ToLane::Settle { life: A, release: Release::Retry });
    rig.run();
    rig.answer(B);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
}

#[test]
fn shutdown_ends_everything_with_the_truth() {
    let mut rig = on_a();
    let write = rig.write(0, 1);
    let read = rig.read(0, 1);
    rig.run();
    rig.tell(ToLane::Shutdown);
    assert_eq!(rig.done.get(&write), Some(&Outcome::Indeterminate { until: None }));
    assert_eq!(rig.done.get(&read), Some(&Outcome::NotSent(Refused::ShuttingDown)));
    assert_eq!(rig.try_submit(Op::Flush, 0, 0), Err(Refused::ShuttingDown));
    assert!(!rig.of(A).socket && !rig.of(B).socket);
    assert!(rig.lane.is_empty());
}

#[test]
fn an_answer_that_waits_for_the_driver_counts_when_its_life_is_condemned() {
    let mut rig = Rig::new();
    rig.in_capsule = 0;
    rig.open(A);
    rig.open(B);
    rig.paths(&[A]);
    // The capsule leaves, its data only in part; the target refuses the command in the middle of it.
    rig.of(A).window = Some(72 + 50);
    let token = rig.write(0, 8);
    rig.run();
    let wire = rig.of(A);
    assert!(!wire.unsent.is_empty());
    // CapsuleResp: type, flags, HLEN, PDO, PLEN. Our own target would wait for the data it asked for.
    wire.to_host.extend_from_slice(&[5, 0, 24, 0, 24, 0, 0, 0]);
    let cqe = Cqe::new(wire.last_cid, 0, Status::INTERNAL_PATH_ERROR);
    wire.to_host.extend_from_slice(cqe.as_bytes());
    rig.run();
    assert!(rig.open.contains(&token), "the driver still sends from its buffer");
    rig.paths(&[A, B]);
    rig.hear();
    rig.condemn(A);
    assert!(ledger(&rig.hear(), A).is_empty(), "it was answered");
    rig.run();
    assert_eq!(rig.held_by(B), [token]);
    rig.answer(B);
    assert_eq!(rig.done.get(&token), Some(&Outcome::Ok));
    assert_eq!(rig.lane.in_flight(A), 0);
}

#[test]
fn what_goes_on_at_once_is_counted_beside_what_is_in_doubt() {
    let mut rig = on_a();
    rig.write(0, 1);
    rig.read(8, 1);
    rig.submit(Op::Flush, 0, 0);
    rig.run();
    rig.of(A).window = Some(0);
    rig.write(16, 1);
    rig.run();
    rig.hear();
    rig.condemn(A);
    let said = rig.hear().into_iter().find_map(|message| match message {
        ToControl::Condemned { life: A, ledger, settled } => Some((ledger.len(), settled)),
        _ => None,
    });
    assert_eq!(said, Some((1, 3)), "a read, a flush, and a write of which no byte was given away");
}

#[test]
fn a_socket_that_is_not_known_to_be_gone_is_aborted_again() {
    let mut rig = on_a();
    rig.write(0, 1);
    rig.run();
    rig.condemn(A);
    let conn = rig.conn(A);
    rig.elapse(Duration::from_millis(250));
    assert!(!rig.of(A).socket);
    for _ in 0..3 {
        let due = rig.lane.waits().next().expect("it is waited for");
        assert_eq!((due.why, due.at), (crate::LaneWhy::LateGrace(conn), rig.now + Duration::from_secs(1)));
        rig.lane.handle_timeout(due.at);
        rig.now = due.at;
        assert_eq!(rig.lane.poll_output(), Some(LaneOutput::Conn(ConnAction::Abort(conn))));
    }
    rig.event(conn, ConnEvent::Aborted);
    assert_eq!(rig.lane.next_deadline(), None);
    let at = rig.now;
    assert!(rig.heard(&ToControl::Quiet { life: A, at }));
}

#[test]
fn a_flush_that_fails_after_its_path_was_condemned_is_heard() {
    for (status, lost) in [(Status::WRITE_FAULT, true), (Status::SUCCESS, false), (Status::ANA_TRANSITION, false)] {
        let mut rig = Rig::two_paths();
        rig.paths(&[A]);
        let flush = rig.submit(Op::Flush, 0, 0);
        rig.run();
        rig.condemn(A);
        rig.paths(&[B]);
        rig.run();
        rig.answer(B);
        assert_eq!(rig.done.get(&flush), Some(&Outcome::Ok));
        rig.answer_with(A, status);
        rig.answer_with(A, status);
        assert_eq!(rig.flushes_lost, if lost { vec![(HEAD, status)] } else { vec![] }, "once: {status}");
    }
}

#[test]
fn a_flush_is_asked_for_once() {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    let flush = rig.submit(Op::Flush, 0, 0);
    rig.run();
    rig.answer_with(A, Status::WRITE_FAULT);
    assert_eq!(rig.done.get(&flush), Some(&Outcome::Failed(Status::WRITE_FAULT)));
    assert!(rig.of(A).taken.is_empty(), "no second one");
}
