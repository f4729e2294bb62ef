//! Each answer, each loss, each log: what the fence makes of it.

use super::*;
use interlock_wire::ccr::Instance;

const IDENTITY: Instance = Instance { cntlid: 3, ciu: 0x5A, cirn: 0x1122_3344_5566_7788 };
const HOLD: Hold = Hold::Stated(Duration::from_secs(10));
const S1: LifeId = LifeId(11);
const S2: LifeId = LifeId(12);

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn candidate(life: LifeId) -> Candidate {
    Candidate {
        life,
        cntlid: u16::try_from(life.0).expect("small"),
        shares_fate: false,
        failures: 0,
        latency_p99: Duration::from_millis(1),
        newer: false,
    }
}

fn entry(state: EntryState) -> Entry {
    Entry { icid: 3, ciu: 0x5A, acid: 0, state, flags: 0 }
}

fn two() -> [Candidate; 2] {
    [candidate(S1), candidate(S2)]
}

/// A fence that has asked the first of two sources.
fn asked() -> Fence {
    let mut fence = Fence::new(IDENTITY, HOLD);
    assert_eq!(fence.poll(at(0), &two()), [Ask::Ccr(S1)]);
    assert_eq!(fence.poll(at(0), &two()), [], "one at a time");
    fence
}

#[test]
fn immediate_reset_is_proof_at_once() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::SUCCESS, true), None);
    assert_eq!(fence.proof(), Some(Proof { method: Method::Immediate, source: Some(S1), at: at(1) }));
    assert_eq!(fence.attempts()[0].result, CcrResult::Immediate);
    assert_eq!(fence.poll(at(50), &two()), [], "nobody is asked any more");
    assert_eq!(fence.next_deadline(at(50)), None);
}

#[test]
fn success_without_irs_is_no_proof_until_the_log_says_so() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::SUCCESS, false), Some(Ask::ReadLog(S1)));
    assert_eq!(fence.proof(), None);
    fence.handle_log(at(2), S1, &[entry(EntryState::InProgress)]);
    fence.handle_log(at(2), S1, &[]);
    assert_eq!(fence.proof(), None);
    // The event is lost: the log is read anyway, every 100 ms for a hold of 10 s.
    assert_eq!(fence.poll(at(100), &two()), []);
    assert_eq!(fence.next_deadline(at(100)), Some(at(101)));
    assert_eq!(fence.poll(at(101), &two()), [Ask::ReadLog(S1)]);
    fence.handle_log(at(102), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), Some(Proof { method: Method::Log, source: Some(S1), at: at(102) }));
}

#[test]
fn an_old_entry_beside_the_reset_under_way_proves_nothing() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    for state in [EntryState::Success, EntryState::Failed] {
        fence.handle_log(at(2), S1, &[entry(state), entry(EntryState::InProgress)]);
        fence.handle_log(at(2), S1, &[entry(EntryState::InProgress), entry(state)]);
    }
    assert_eq!(fence.proof(), None);
    assert_eq!(fence.poll(at(3), &two()), [], "it is waited for");
    fence.handle_log(at(4), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof().map(|proof| proof.method), Some(Method::Log));
}

#[test]
fn entries_of_others_prove_nothing() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    let other_ciu = Entry { ciu: 0x5B, ..entry(EntryState::Success) };
    let other_icid = Entry { icid: 4, ..entry(EntryState::Success) };
    fence.handle_log(at(2), S1, &[other_ciu, other_icid, entry(EntryState::Reserved(3))]);
    assert_eq!(fence.proof(), None);
    // Nor does the log of a source that was not asked.
    fence.handle_log(at(2), S2, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), None);
}

#[test]
fn a_failed_entry_sends_it_to_the_next_source_and_back_when_none_is_left() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    fence.handle_log(at(2), S1, &[entry(EntryState::Failed)]);
    assert_eq!(fence.attempts()[0].result, CcrResult::LogFailed(2));
    assert_eq!(fence.poll(at(2), &two()), [Ask::Ccr(S2)]);
    fence.handle_ccr(at(3), S2, Status::SUCCESS, false);
    fence.handle_log(at(4), S2, &[entry(EntryState::Failed)]);
    assert_eq!(fence.poll(at(4), &two()), []);
    assert_eq!(fence.poll(at(102), &two()), [Ask::Ccr(S1)]);
}

#[test]
fn each_status_has_its_action() {
    // Refused for good: the next source at once, this one never again.
    for status in [
        Status::INVALID_OPCODE,
        Status::INVALID_FIELD,
        Status::INVALID_FIELD.with_dnr(),
        Status::new(1, 0x1F),
        Status::INTERNAL_ERROR,
        Status::new(3, 0x70),
    ] {
        let mut fence = asked();
        assert_eq!(fence.handle_ccr(at(1), S1, status, true), None, "IRS means nothing with {status}");
        assert_eq!(fence.proof(), None);
        assert_eq!(fence.poll(at(1), &two()), [Ask::Ccr(S2)], "{status}");
        fence.handle_ccr(at(2), S2, status, false);
        assert_eq!(fence.poll(at(5_000), &two()), [], "{status}");
        assert_eq!(fence.attempts()[0].result, CcrResult::Refused(status));
    }
}

#[test]
fn in_progress_elsewhere_is_polled_and_asked_again() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::CCR_IN_PROGRESS, false), Some(Ask::ReadLog(S1)));
    assert_eq!(fence.proof(), None, "13Fh is no success");
    assert_eq!(fence.poll(at(1), &two()), [Ask::Ccr(S2)], "the next one is asked as well");
    fence.handle_ccr(at(2), S2, Status::INVALID_FIELD, false);
    let asks = fence.poll(at(101), &two());
    assert_eq!(asks, [Ask::ReadLog(S1), Ask::Ccr(S1)]);
    fence.handle_ccr(at(102), S1, Status::SUCCESS, true);
    assert_eq!(fence.proof().map(|proof| proof.method), Some(Method::Immediate));
}

#[test]
fn an_entry_on_a_source_that_began_nothing_proves_nothing() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::CCR_IN_PROGRESS, false);
    fence.handle_log(at(2), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), None, "somebody else resets it, and this entry is of an earlier life");
    // What it began itself, and was asked for again, its log may tell.
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    fence.handle_log(at(2), S1, &[entry(EntryState::Failed)]);
    assert_eq!(fence.poll(at(150), &[candidate(S1)]), [Ask::Ccr(S1)]);
    fence.handle_ccr(at(151), S1, Status::CCR_IN_PROGRESS, false);
    fence.handle_log(at(152), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), None, "the entry that failed was the one it began");
}

#[test]
fn a_full_log_is_purged_and_asked_once_more() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::CCR_LOG_FULL, false), Some(Ask::Purge(S1)));
    // Only S1 is there; it serves again once its purge is done.
    assert_eq!(fence.poll(at(1), &[]), []);
    assert_eq!(fence.next_deadline(at(1)), None, "the end of the purge wakes it, no clock");
    assert_eq!(fence.poll(at(2), &[candidate(S1)]), [Ask::Ccr(S1)]);
    assert_eq!(fence.handle_ccr(at(3), S1, Status::CCR_LOG_FULL, false), None);
    assert_eq!(fence.poll(at(5_000), &[candidate(S1)]), []);
}

#[test]
fn a_limit_is_transient() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::CCR_LIMIT_EXCEEDED, false);
    assert_eq!(fence.poll(at(1), &two()), [Ask::Ccr(S2)]);
    fence.handle_ccr(at(2), S2, Status::CCR_LIMIT_EXCEEDED, false);
    assert_eq!(fence.poll(at(50), &two()), []);
    assert_eq!(fence.poll(at(101), &two()), [Ask::Ccr(S1)]);
}

#[test]
fn a_silent_source_does_not_eat_the_deadline_and_may_still_prove() {
    let mut fence = asked();
    assert_eq!(fence.next_deadline(at(0)), Some(at(20)));
    assert_eq!(fence.poll(at(19), &two()), []);
    assert_eq!(fence.poll(at(20), &two()), [Ask::Ccr(S2)]);
    fence.handle_ccr(at(30), S1, Status::SUCCESS, true);
    assert_eq!(fence.proof().and_then(|proof| proof.source), Some(S1));
    // A slow source gets four times its own latency.
    let slow = Candidate { latency_p99: Duration::from_millis(50), ..candidate(S1) };
    let mut fence = Fence::new(IDENTITY, HOLD);
    fence.poll(at(0), &[slow]);
    assert_eq!(fence.next_deadline(at(0)), Some(at(200)));
}

#[test]
fn a_lost_source_is_replaced_at_once_and_heard_no_more() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    fence.handle_source_lost(at(3), S1);
    assert_eq!(fence.attempts()[0].result, CcrResult::SourceLost);
    assert_eq!(fence.poll(at(2), &[candidate(S2)]), [Ask::Ccr(S2)]);
    fence.handle_log(at(3), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), None);
}

#[test]
fn without_a_proof_the_hold_ends_it_and_says_what_it_rests_on() {
    for (hold, method) in [
        (HOLD, Method::Time),
        (Hold::Assumed { hold: Duration::from_secs(10), cqt: Duration::from_secs(5) }, Method::Assumed),
    ] {
        let mut fence = Fence::new(IDENTITY, hold);
        fence.poll(at(0), &[]);
        assert_eq!(fence.deadline(), None, "no t0, no deadline");
        assert_eq!(fence.poll(at(1_000_000), &[]), []);
        assert_eq!(fence.proof(), None, "time proves nothing before t0 is known");
        fence.handle_t0(at(100));
        assert_eq!(fence.deadline(), Some(at(10_100)));
        fence.poll(at(10_099), &[]);
        assert_eq!(fence.proof(), None);
        fence.poll(at(10_100), &[]);
        assert_eq!(fence.proof(), Some(Proof { method, source: None, at: at(10_100) }));
    }
}

#[test]
fn the_last_look_at_the_log_comes_before_the_deadline() {
    let mut fence = asked();
    fence.handle_t0(at(0));
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    for ms in (101..9_900).step_by(100) {
        fence.poll(at(ms), &two());
    }
    assert!(fence.next_deadline(at(9_900)).is_some_and(|next| next <= at(9_980)));
    assert!(fence.poll(at(9_980), &two()).contains(&Ask::ReadLog(S1)));
    fence.handle_log(at(9_990), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof().map(|proof| proof.method), Some(Method::Log));
}

#[test]
fn without_kato_only_a_reset_ends_it() {
    let mut fence = Fence::new(IDENTITY, Hold::Unbounded);
    fence.handle_t0(at(0));
    fence.poll(at(u64::MAX / 2_000_000), &[]);
    assert_eq!((fence.proof(), fence.deadline()), (None, None));
}

#[test]
fn a_life_without_a_name_is_never_reset_by_another() {
    let nameless = Instance { cntlid: 3, ciu: 0, cirn: 0 };
    let mut fence = Fence::new(nameless, HOLD);
    assert_eq!(fence.poll(at(0), &two()), []);
}

#[test]
fn a_source_that_could_not_be_asked_is_tried_later() {
    let mut fence = asked();
    fence.handle_not_sent(at(0), S1);
    assert!(fence.attempts().is_empty());
    assert_eq!(fence.poll(at(0), &two()), [Ask::Ccr(S2)]);
}
