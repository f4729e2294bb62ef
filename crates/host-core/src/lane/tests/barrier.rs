//! What was given up on another lane, and what is submitted here afterwards.

use super::*;
use crate::barrier::{AbandonLog, HANDOVER_WITHIN};
use crate::{GuardKey, GuardStands, LaneWhy, Twin};

const ELSEWHERE: LaneId = LaneId(1);

fn on_a() -> (Rig, AbandonLog) {
    let mut rig = Rig::two_paths();
    rig.paths(&[A]);
    rig.hear();
    (rig, AbandonLog::new(2))
}

fn given_up(rig: &mut Rig, log: &mut AbandonLog, lane: LaneId, range: core::ops::Range<u64>) -> u64 {
    let number = log.abandon(lane, [(HEAD, range)]);
    rig.lane.handle_abandoned(log.take(LaneId(0)));
    number
}

/// The guard of what was given up elsewhere.
fn guard_of(range: core::ops::Range<u64>) -> GuardEntry {
    GuardEntry { key: GuardKey { seq: 1, lane: ELSEWHERE.0 }, head: HEAD, range, stands: GuardStands::Held }
}

#[test]
fn a_later_write_waits_until_what_was_given_up_is_guarded_and_then_until_it_is_over() {
    let (mut rig, mut log) = on_a();
    let number = given_up(&mut rig, &mut log, ELSEWHERE, 8..16);
    let over = rig.write(15, 1);
    let beside = rig.write(16, 1);
    let read = rig.read(8, 8);
    rig.run();
    assert_eq!(rig.held_by(A), [beside], "a change of the same blocks waits; nothing else does");
    assert_eq!(rig.of(A).taken.len(), 2, "the read of {read} passes");
    assert_eq!(rig.lane.status().guarded, 1);
    assert!(rig.lane.waits().any(|wait| wait.why == LaneWhy::Handover && wait.at == rig.now + HANDOVER_WITHIN));
    rig.guard(1, &[guard_of(8..16)]);
    rig.tell(ToLane::HandedOver { lane: ELSEWHERE, number });
    rig.run();
    assert_eq!(rig.held_by(A), [beside], "now the guard says so");
    assert!(rig.lane.waits().all(|wait| wait.why != LaneWhy::Handover));
    rig.guard(2, &[]);
    rig.run();
    assert_eq!(rig.held_by(A), [beside, over]);
}

#[test]
fn what_was_given_up_under_another_name_of_the_disk_is_waited_for() {
    let old = HeadId(HEAD.0 + 1);
    for (whole, waits) in [(false, [true, false]), (true, [true, true])] {
        let (mut rig, mut log) = on_a();
        let mut table = Rig::table(&[(A, AnaState::Optimized, false)], IoPolicy::RoundRobin, true);
        table.twins = BTreeMap::from([(HEAD, vec![Twin { head: old, whole, same: true }])]);
        rig.tell(ToLane::Paths(Arc::new(table)));
        log.abandon(ELSEWHERE, [(old, 8..16)]);
        rig.lane.handle_abandoned(log.take(LaneId(0)));
        let (over, beside) = (rig.write(15, 1), rig.write(16, 1));
        rig.run();
        let held = rig.held_by(A);
        assert_eq!([over, beside].map(|write| !held.contains(&write)), waits, "whole: {whole}");
    }
}

#[test]
fn what_was_given_up_unsent_holds_nobody_up_once_that_is_known() {
    let (mut rig, mut log) = on_a();
    let first = given_up(&mut rig, &mut log, ELSEWHERE, 0..8);
    let second = given_up(&mut rig, &mut log, ELSEWHERE, 4..12);
    let over = rig.write(7, 1);
    rig.run();
    rig.tell(ToLane::HandedOver { lane: ELSEWHERE, number: first });
    rig.run();
    assert!(rig.held_by(A).is_empty(), "the other one overlaps too");
    rig.tell(ToLane::HandedOver { lane: ELSEWHERE, number: second });
    rig.run();
    assert_eq!(rig.held_by(A), [over]);
}

#[test]
fn a_lane_knows_at_once_of_its_own_and_tells_control_last() {
    let (mut rig, mut log) = on_a();
    let sent = rig.write(0, 8);
    rig.run();
    let number = given_up(&mut rig, &mut log, LaneId(0), 0..8);
    // Asked through another door of the same lane, before the lane has read that it is to abandon the first.
    let over = rig.write(0, 1);
    rig.run();
    assert_eq!(rig.held_by(A), [sent]);
    rig.lane.abandon(rig.now, sent);
    rig.lane.handed_over(rig.now, number);
    rig.run();
    let heard = rig.hear();
    assert!(matches!(&heard[..], [ToControl::Abandoned(_), ToControl::HandedOver(1)]), "{heard:?}");
    assert_eq!(rig.held_by(A), [sent], "guarded on this lane");
    rig.answer(A);
    assert_eq!(rig.held_by(A), [over]);
}

#[test]
fn nobody_waits_for_ever_for_a_reactor_that_hangs() {
    let (mut rig, mut log) = on_a();
    given_up(&mut rig, &mut log, ELSEWHERE, 0..8);
    let over = rig.write(0, 1);
    rig.elapse(Duration::from_secs(1));
    let later = rig.write(1, 1);
    rig.elapse(HANDOVER_WITHIN - Duration::from_secs(1));
    assert_eq!(rig.done.get(&over), Some(&Outcome::NotSent(Refused::HandoverOverdue)));
    assert_eq!(rig.done.get(&later), None, "it has waited less long");
    rig.elapse(Duration::from_secs(1));
    assert_eq!(rig.done.get(&later), Some(&Outcome::NotSent(Refused::HandoverOverdue)));
    assert!(rig.held_by(A).is_empty());
}
