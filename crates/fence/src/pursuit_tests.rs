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

fn results(fence: &Pursuit) -> Vec<CcrResult> {
    fence.attempts().iter().map(|attempt| attempt.result).collect()
}

/// A fence that has asked the first of two sources.
fn asked() -> Pursuit {
    let mut fence = Pursuit::new(IDENTITY, HOLD);
    assert_eq!(fence.poll(at(0), &two()), [Ask::Ccr(S1)]);
    assert_eq!(fence.poll(at(0), &two()), [], "one at a time");
    fence
}

#[test]
fn immediate_reset_is_proof_at_once() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::SUCCESS, true), None);
    assert_eq!(fence.proof(), Some(Proof { method: Method::Immediate, source: Some(S1), at: at(1) }));
    assert_eq!(results(&fence)[0], CcrResult::Immediate);
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
    assert_eq!(results(&fence)[0], CcrResult::LogFailed(2));
    assert_eq!(fence.poll(at(2), &two()), [Ask::Ccr(S2)]);
    fence.handle_ccr(at(3), S2, Status::SUCCESS, false);
    fence.handle_log(at(4), S2, &[entry(EntryState::Failed)]);
    assert_eq!(fence.poll(at(4), &two()), []);
    assert_eq!(fence.poll(at(102), &two()), [Ask::Ccr(S1)]);
}

#[test]
fn each_status_has_its_action() {
    // Refused, whatever for: the next source at once, this one again later. A peer may be wrong once.
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
        assert_eq!(fence.poll(at(100), &two()), [], "{status}");
        assert_eq!(fence.poll(at(101), &two()), [Ask::Ccr(S1)], "{status}");
        assert_eq!(results(&fence)[0], CcrResult::Refused(status));
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
fn a_full_log_is_purged_and_asked_again() {
    let mut fence = asked();
    assert_eq!(fence.handle_ccr(at(1), S1, Status::CCR_LOG_FULL, false), Some(Ask::Purge(S1)));
    // Only S1 is there; it serves again once its purge is done.
    assert_eq!(fence.poll(at(1), &[]), []);
    assert_eq!(fence.next_deadline(at(1)), None, "the end of the purge wakes it, no clock");
    assert_eq!(fence.poll(at(2), &[candidate(S1)]), [Ask::Ccr(S1)]);
    assert_eq!(fence.handle_ccr(at(3), S1, Status::CCR_LOG_FULL, false), Some(Ask::Purge(S1)));
    assert_eq!(fence.poll(at(202), &[candidate(S1)]), [], "that did not help: not at once");
    assert_eq!(fence.poll(at(203), &[candidate(S1)]), [Ask::Ccr(S1)]);
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
    let mut fence = Pursuit::new(IDENTITY, HOLD);
    fence.poll(at(0), &[slow]);
    assert_eq!(fence.next_deadline(at(0)), Some(at(200)));
}

#[test]
fn a_lost_source_is_replaced_at_once_and_heard_no_more() {
    let mut fence = asked();
    fence.handle_ccr(at(1), S1, Status::SUCCESS, false);
    fence.handle_source_lost(at(3), S1);
    assert_eq!(results(&fence)[0], CcrResult::SourceLost);
    assert_eq!(fence.poll(at(2), &[candidate(S2)]), [Ask::Ccr(S2)]);
    fence.handle_log(at(3), S1, &[entry(EntryState::Success)]);
    assert_eq!(fence.proof(), None);
}

#[test]
fn without_a_proof_the_hold_ends_it_and_says_what_it_rests_on() {
    for (hold, method) in [(HOLD, Method::Time), (Hold::Assumed(Duration::from_secs(10)), Method::Assumed)] {
        let mut fence = Pursuit::new(IDENTITY, hold);
        fence.poll(at(0), &[]);
        assert_eq!(fence.deadline(), None, "no t0, no deadline");
        assert_eq!(fence.poll(at(1_000_000), &[]), []);
        assert_eq!(fence.proof(), None, "time proves nothing before t0 is known");
        fence.handle_t0(at(100));
        assert_eq!(fence.deadline(), Some(at(10_100)));
        assert_eq!(fence.poll(at(100), &[]), [Ask::RawClock]);
        fence.handle_raw_clock(at(100), at(500_000));
        assert_eq!(fence.hold_due(), Some(at(10_100)));
        assert_eq!(fence.poll(at(10_099), &[]), []);
        // By the one clock it has passed, by the other it has not yet.
        assert_eq!(fence.poll(at(10_100), &[]), [Ask::RawClock]);
        fence.handle_raw_clock(at(10_100), at(509_999));
        assert_eq!(fence.poll(at(10_100), &[]), []);
        assert_eq!((fence.proof(), fence.hold_due()), (None, Some(at(10_101))));
        assert_eq!(fence.poll(at(10_101), &[]), [Ask::RawClock]);
        fence.handle_raw_clock(at(10_101), at(510_000));
        fence.poll(at(10_101), &[]);
        assert_eq!(fence.proof(), Some(Proof { method, source: None, at: at(10_101) }));
        assert_eq!(fence.hold_due(), None);
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
    let mut fence = Pursuit::new(IDENTITY, Hold::Unbounded);
    fence.handle_t0(at(0));
    fence.poll(at(u64::MAX / 2_000_000), &[]);
    assert_eq!((fence.proof(), fence.deadline()), (None, None));
}

#[test]
fn a_life_without_a_name_is_never_reset_by_another() {
    let nameless = Instance { cntlid: 3, ciu: 0, cirn: 0 };
    let mut fence = Pursuit::new(nameless, HOLD);
    assert_eq!(fence.poll(at(0), &two()), []);
}

#[test]
fn a_source_that_could_not_be_asked_is_tried_later() {
    let mut fence = asked();
    fence.handle_not_sent(at(0), S1);
    assert_eq!(fence.attempts().sent(), 0);
    assert_eq!(fence.poll(at(0), &two()), [Ask::Ccr(S2)]);
}

/// Polls every 10 ms from `from` to `until` with these sources; `answer` is what each of them says. When CCR was sent.
fn ask_on(fence: &mut Pursuit, from: u64, until: u64, sources: &[Candidate], answer: (Status, bool)) -> Vec<u64> {
    let mut sent = Vec::new();
    for now in (from..until).step_by(10) {
        for ask in fence.poll(at(now), sources) {
            if let Ask::Ccr(source) = ask {
                sent.push(now);
                fence.handle_ccr(at(now), source, answer.0, answer.1);
            }
        }
    }
    sent
}

#[test]
fn it_is_asked_for_as_long_as_it_is_in_doubt() {
    // KATO 0: only a reset can end it. Whatever the only source says for a day, it is asked again, less and less often.
    for status in [
        Status::CCR_LIMIT_EXCEEDED,
        Status::CCR_LOG_FULL,
        Status::CCR_IN_PROGRESS,
        Status::INTERNAL_ERROR,
        Status::INVALID_FIELD.with_dnr(),
        Status::INVALID_OPCODE,
    ] {
        let mut fence = Pursuit::new(IDENTITY, Hold::Unbounded);
        let sent = ask_on(&mut fence, 0, 100_000, &[candidate(S1)], (status, false));
        let pauses: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted() && pauses[1] >= 100, "{status}: {pauses:?}");
        assert!(pauses[10..].iter().all(|pause| *pause == 1_000), "{status}: {pauses:?}");
        assert_eq!(fence.attempts().sent(), sent.len() as u64);
        assert_eq!(fence.attempts().iter().count(), 2 * CcrAttempts::EACH_END);
        // There is a moment at which it is asked again, and then it serves.
        assert!(fence.next_deadline(at(100_000)).is_some_and(|next| next <= at(101_000)), "{status}");
        ask_on(&mut fence, 100_000, 102_000, &[candidate(S1)], (Status::SUCCESS, true));
        assert_eq!(fence.proof().map(|proof| proof.method), Some(Method::Immediate), "{status}");
    }
}

#[test]
fn a_new_source_is_asked_at_once() {
    let mut fence = Pursuit::new(IDENTITY, Hold::Unbounded);
    ask_on(&mut fence, 0, 100_000, &[candidate(S1)], (Status::CCR_LIMIT_EXCEEDED, false));
    let next = fence.next_deadline(at(100_000)).expect("it is asked again");
    let before = Instant::from_nanos(next.as_nanos() - 1);
    assert_eq!(fence.poll(before, &[candidate(S1)]), []);
    assert_eq!(fence.poll(before, &two()), [Ask::Ccr(S2)]);
}

#[test]
fn a_reset_that_never_ends_keeps_nobody_else_from_being_asked() {
    for (hold, patience) in [(HOLD, 1_000), (Hold::Unbounded, 5_000)] {
        let mut fence = Pursuit::new(IDENTITY, hold);
        assert_eq!(fence.poll(at(0), &two()), [Ask::Ccr(S1)]);
        fence.handle_ccr(at(0), S1, Status::SUCCESS, false);
        let mut asked = None;
        for now in (0..10_000).step_by(10) {
            let asks = fence.poll(at(now), &two());
            asked = asked.or_else(|| asks.contains(&Ask::Ccr(S2)).then_some(now));
            fence.handle_log(at(now), S1, &[]);
        }
        assert_eq!(asked, Some(patience));
        // What its log says in the end still counts.
        fence.handle_log(at(10_000), S1, &[entry(EntryState::Success)]);
        assert_eq!(fence.proof().map(|proof| (proof.method, proof.source)), Some((Method::Log, Some(S1))));
    }
}

#[test]
fn what_is_known_of_sources_is_bounded_by_those_that_live() {
    let mut fence = Pursuit::new(IDENTITY, Hold::Unbounded);
    for n in 0..10_000 {
        let source = Candidate { life: LifeId(n), ..candidate(S1) };
        assert_eq!(fence.poll(at(n), &[source]), [Ask::Ccr(LifeId(n))]);
        fence.handle_ccr(at(n), LifeId(n), Status::SUCCESS, false);
        fence.handle_source_lost(at(n), LifeId(n));
        assert!(fence.known.is_empty());
    }
    assert_eq!(fence.attempts().sent(), 10_000);
}
