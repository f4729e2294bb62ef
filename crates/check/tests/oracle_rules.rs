//! The rules of the black box oracle, one history each.
//!
//! Every history stands beside its legal neighbour, so that a rule that is dropped, or made too strict, fails here.

use interlock_base::Instant;
use interlock_check::{
    Content, Deallocated, Initial, Op, OpId, OpKind, Oracle, OracleConfig, Outcome, Stamp, Violation, Written,
};

const RUN: u64 = 7;
const NOW: Instant = Instant::ZERO;

/// A history under test: every step is one call. Operations are on LBA 5 unless said otherwise.
struct History(Oracle);

fn op(id: u64, kind: OpKind, lba: u64, nlb: u32) -> Op {
    let generation = if kind.changes_media() { id as u32 } else { 0 };
    Op { id: OpId(id), kind, lba, nlb, generation }
}

/// What block `lba` reads as if write `id` is in it.
fn stamp(id: u64, lba: u64) -> Stamp {
    Stamp { lba, generation: id as u32, op: OpId(id), run: RUN }
}

fn wrote(id: u64, kind: OpKind) -> Written {
    Written { op: OpId(id), kind, generation: id as u32 }
}

fn data(id: u64) -> Content {
    Content::Stamp(stamp(id, 5))
}

impl History {
    fn new() -> Self {
        Self::with(OracleConfig::new(RUN))
    }

    fn with(config: OracleConfig) -> Self {
        Self(Oracle::new(config))
    }

    fn submit(mut self, id: u64, kind: OpKind) -> Self {
        self.0.submitted(op(id, kind, 5, 1), NOW);
        self
    }

    fn answer(mut self, id: u64, outcome: Outcome) -> Self {
        self.0.answered(OpId(id), outcome, NOW);
        self
    }

    fn abandon(mut self, id: u64) -> Self {
        self.0.abandoned(OpId(id), NOW);
        self
    }

    fn settle(mut self, id: u64) -> Self {
        self.0.life_settled(OpId(id), NOW);
        self
    }

    /// A change from submission to success.
    fn done(self, id: u64, kind: OpKind) -> Self {
        self.submit(id, kind).answer(id, Outcome::Ok)
    }

    fn write(self, id: u64) -> Self {
        self.done(id, OpKind::Write)
    }

    fn returns(mut self, id: u64, content: Content) -> Self {
        self.0.read_answered(OpId(id), &[content], NOW);
        self
    }

    /// A read from submission to its answer.
    fn read(self, id: u64, content: Content) -> Self {
        self.submit(id, OpKind::Read).returns(id, content)
    }

    #[track_caller]
    fn legal(self) -> Self {
        assert_eq!(self.0.violations(), []);
        self
    }

    #[track_caller]
    fn violates(self, expected: Violation) {
        assert_eq!(self.0.violations(), [expected]);
        assert_eq!(self.0.violations_total(), 1);
        assert_eq!(self.0.first_violation_at(), Some(NOW));
    }
}

#[test]
fn what_was_answered_last_is_what_is_read() {
    History::new().read(1, Content::Zero).write(2).write(3).read(4, data(3)).legal();
}

#[test]
fn an_older_write_after_a_later_answer_is_stale() {
    let expected = Violation::Stale { lba: 5, found: stamp(1, 5), overwrote: wrote(2, OpKind::Write) };
    History::new().write(1).write(2).read(3, data(1)).violates(expected);
    let text = expected.to_string();
    assert_eq!(text, "LBA 5: write #2 (generation 2), answered, was overwritten by the older write #1 (generation 1)");
}

#[test]
fn each_stale_block_and_write_is_reported_once() {
    let expected = Violation::Stale { lba: 5, found: stamp(1, 5), overwrote: wrote(2, OpKind::Write) };
    History::new().write(1).write(2).read(3, data(1)).read(4, data(1)).violates(expected);
}

#[test]
fn a_write_brought_back_after_a_discard_or_write_zeroes_is_stale() {
    for kind in [OpKind::WriteZeroes, OpKind::Discard] {
        let expected = Violation::Stale { lba: 5, found: stamp(1, 5), overwrote: wrote(2, kind) };
        History::new().write(1).done(2, kind).read(3, Content::Zero).read(4, data(1)).violates(expected);
    }
}

#[test]
fn an_answered_write_that_is_gone_is_lost() {
    let lost = wrote(1, OpKind::Write);
    History::new().write(1).read(2, Content::Zero).violates(Violation::Lost {
        lba: 5,
        found: Content::Zero,
        lost,
        suspect: None,
    });
    // The ghost of a write zeroes leaves no stamp; it is named as the suspect.
    History::new().done(1, OpKind::WriteZeroes).write(2).read(3, Content::Zero).violates(Violation::Lost {
        lba: 5,
        found: Content::Zero,
        lost: wrote(2, OpKind::Write),
        suspect: Some(wrote(1, OpKind::WriteZeroes)),
    });
}

#[test]
fn overlapping_writes_have_no_order() {
    for last in [1, 2] {
        History::new()
            .submit(1, OpKind::Write)
            .submit(2, OpKind::Write)
            .answer(2, Outcome::Ok)
            .answer(1, Outcome::Ok)
            .read(3, data(last))
            .legal();
    }
}

#[test]
fn an_unfinished_write_may_take_effect_again_and_again() {
    // The false alarm of a single-effect register: W1 on a lost path, W2 answered, W1 retried.
    History::new()
        .submit(1, OpKind::Write)
        .submit(2, OpKind::Write)
        .read(3, data(1))
        .answer(2, Outcome::Ok)
        .read(4, data(2))
        .read(5, data(1))
        .answer(1, Outcome::Ok)
        .read(6, data(1))
        .legal();
}

#[test]
fn after_its_answer_a_value_is_fixed() {
    // Both ended: what one read saw stays, though either would have been legal.
    let both = || {
        History::new()
            .submit(1, OpKind::Write)
            .submit(2, OpKind::Write)
            .answer(1, Outcome::Ok)
            .answer(2, Outcome::Ok)
            .read(3, data(2))
    };
    both().read(4, data(2)).legal();
    both().read(4, data(1)).violates(Violation::FlippedBack { lba: 5, found: data(1), seen: data(2) });
}

#[test]
fn a_single_unanswered_write_does_not_flip_back() {
    let history = || History::new().write(1).submit(2, OpKind::Write);
    history().read(3, data(1)).read(4, data(2)).read(5, data(2)).legal();
    history().read(3, data(2)).read(4, data(1)).violates(Violation::FlippedBack {
        lba: 5,
        found: data(1),
        seen: data(2),
    });
}

#[test]
fn a_single_unanswered_write_does_not_flip_back_to_what_was_there_at_first() {
    History::new().submit(1, OpKind::Write).read(2, data(1)).read(3, Content::Zero).violates(Violation::FlippedBack {
        lba: 5,
        found: Content::Zero,
        seen: data(1),
    });
}

#[test]
fn reads_that_overlap_may_see_both_values_in_either_order() {
    History::new()
        .write(1)
        .submit(2, OpKind::Read)
        .submit(3, OpKind::Write)
        .submit(4, OpKind::Read)
        .returns(4, data(3))
        .returns(2, data(1))
        .legal();
}

#[test]
fn reads_that_overlap_cannot_see_two_values_when_nothing_is_unfinished() {
    History::new()
        .submit(1, OpKind::Write)
        .submit(2, OpKind::Write)
        .answer(1, Outcome::Ok)
        .answer(2, Outcome::Ok)
        .submit(3, OpKind::Read)
        .submit(4, OpKind::Read)
        .returns(3, data(1))
        .returns(4, data(2))
        .violates(Violation::FlippedBack { lba: 5, found: data(2), seen: data(1) });
}

#[test]
fn a_read_may_return_what_was_there_when_it_began() {
    let begun = History::new().write(1).submit(2, OpKind::Read);
    begun.write(3).returns(2, data(1)).legal();
    // And what came after it began, though never what was submitted after it ended.
    History::new().submit(2, OpKind::Read).write(3).returns(2, data(3)).legal();
}

/// Judges a host that does not promise that a later answer ends what was given up.
fn loose() -> History {
    History::with(OracleConfig { later_answer_ends: false, ..OracleConfig::new(RUN) })
}

#[test]
fn an_indeterminate_write_stays_possible_until_its_life_is_settled() {
    let open = || loose().submit(1, OpKind::Write).answer(1, Outcome::Indeterminate).write(2);
    let stale = |by| Violation::Stale { lba: 5, found: stamp(1, 5), overwrote: wrote(by, OpKind::Write) };
    open().read(3, data(2)).read(4, data(1)).legal();
    open().settle(1).read(3, data(1)).legal();
    open().settle(1).read(3, data(2)).read(4, data(1)).violates(Violation::FlippedBack {
        lba: 5,
        found: data(1),
        seen: data(2),
    });
    open().settle(1).write(3).read(4, data(1)).violates(stale(3));
    // Not merely until it is overwritten.
    open().write(3).write(4).read(5, data(1)).legal();
    // Nothing else makes it over where the host promises more.
    let promised = History::new().submit(1, OpKind::Write).answer(1, Outcome::Indeterminate);
    promised.read(2, Content::Zero).read(3, data(1)).legal();
}

#[test]
fn an_abandoned_write_stays_possible_until_its_life_is_settled() {
    let abandoned = || loose().submit(1, OpKind::Write).abandon(1);
    abandoned().write(2).read(3, data(2)).read(4, data(1)).legal();
    abandoned().write(2).write(3).read(4, data(1)).legal();
    let expected = Violation::Stale { lba: 5, found: stamp(1, 5), overwrote: wrote(2, OpKind::Write) };
    abandoned().settle(1).write(2).read(3, data(1)).violates(expected);
    // Settling means nothing while the application still waits.
    History::new().submit(1, OpKind::Write).settle(1).write(2).read(3, data(1)).answer(1, Outcome::Ok).legal();
}

#[test]
fn what_was_given_up_is_over_when_a_later_change_is_answered() {
    let came_back = || Violation::GivenUpCameBack { lba: 5, found: stamp(1, 5), later: wrote(2, OpKind::Write) };
    let abandoned = || History::new().submit(1, OpKind::Write).abandon(1);
    let indeterminate = || History::new().submit(1, OpKind::Write).answer(1, Outcome::Indeterminate);
    for given_up in [abandoned, indeterminate] {
        // Until the answer either may be there: the later one may even be overwritten before it is answered.
        given_up().submit(2, OpKind::Write).read(3, data(2)).read(4, data(1)).legal();
        given_up().write(2).read(3, data(1)).legal();
    }
    // Another answered change of the block, and it is gone for good.
    abandoned().write(2).write(3).read(4, data(1)).violates(came_back());
    indeterminate().write(2).write(3).read(4, data(1)).violates(came_back());
    // A read that saw the later one shows it as well.
    abandoned().write(2).read(3, data(2)).read(4, data(1)).violates(came_back());
    assert_eq!(came_back().invariant(), "given_up_is_over_when_a_later_change_is_answered");
}

#[test]
fn a_change_that_was_submitted_before_the_giving_up_or_failed_ends_nothing() {
    let both = || History::new().submit(1, OpKind::Write).submit(2, OpKind::Write).abandon(1);
    both().answer(2, Outcome::Ok).write(3).read(4, data(3)).legal();
    both().answer(2, Outcome::Ok).read(3, data(2)).read(4, data(1)).legal();
    let failed = History::new().submit(1, OpKind::Write).abandon(1).submit(2, OpKind::Write);
    failed.answer(2, Outcome::Failed).read(3, data(2)).read(4, data(1)).legal();
    // Nor does one of other blocks.
    let mut elsewhere = History::new().submit(1, OpKind::Write).abandon(1);
    elsewhere.0.submitted(op(2, OpKind::Write, 6, 1), NOW);
    elsewhere.answer(2, Outcome::Ok).read(3, Content::Zero).read(4, data(1)).legal();
}

#[test]
fn an_answer_for_what_was_overtaken_is_taken_once_and_moves_nothing() {
    let overtaken = History::new().submit(1, OpKind::Write).abandon(1).write(2);
    assert!(overtaken.0.overtaken_by(OpId(2)).into_iter().eq([OpId(1)]));
    assert_eq!(overtaken.0.unfinished().count(), 0);
    let overtaken = overtaken.write(3).answer(1, Outcome::Ok).settle(1).legal();
    let again = History(overtaken.0.clone());
    again.answer(1, Outcome::Ok).violates(Violation::AnsweredTwice { op: OpId(1) });
    let came_back = Violation::GivenUpCameBack { lba: 5, found: stamp(1, 5), later: wrote(2, OpKind::Write) };
    overtaken.read(4, data(1)).violates(came_back);
    // An indeterminate one had its answer.
    let told = History::new().submit(1, OpKind::Write).answer(1, Outcome::Indeterminate).write(2);
    told.answer(1, Outcome::Ok).violates(Violation::AnsweredTwice { op: OpId(1) });
    // That it was never sent is news all the same.
    let not_sent = History::new().submit(1, OpKind::Write).abandon(1).write(2).answer(1, Outcome::NotSent);
    not_sent.read(3, data(1)).violates(Violation::NotSent { lba: 5, op: OpId(1) });
}

#[test]
fn a_failed_write_may_have_happened_but_does_not_happen_later() {
    for outcome in [Outcome::Failed, Outcome::UnknownSettled] {
        let failed = || History::new().write(1).submit(2, OpKind::Write).answer(2, outcome);
        failed().read(3, data(1)).legal();
        failed().read(3, data(2)).legal();
        failed().read(3, data(1)).read(4, data(2)).violates(Violation::FlippedBack {
            lba: 5,
            found: data(2),
            seen: data(1),
        });
    }
}

#[test]
fn what_was_not_sent_never_happens() {
    History::new().write(1).submit(2, OpKind::Write).answer(2, Outcome::NotSent).read(3, data(1)).legal();
    let expected = Violation::NotSent { lba: 5, op: OpId(2) };
    let unsent = || History::new().submit(2, OpKind::Write).answer(2, Outcome::NotSent);
    unsent().read(3, data(2)).violates(expected);
    // A read that saw it before, or goes on meanwhile, is no excuse.
    History::new().submit(2, OpKind::Write).read(3, data(2)).answer(2, Outcome::NotSent).violates(expected);
    History::new()
        .submit(3, OpKind::Read)
        .submit(2, OpKind::Write)
        .answer(2, Outcome::NotSent)
        .returns(3, data(2))
        .violates(expected);
}

#[test]
fn a_request_ends_once() {
    let expected = Violation::AnsweredTwice { op: OpId(1) };
    History::new().write(1).answer(1, Outcome::Ok).violates(expected);
    History::new().answer(1, Outcome::Ok).violates(expected);
    History::new().submit(1, OpKind::Write).answer(1, Outcome::Indeterminate).answer(1, Outcome::Ok).violates(expected);
    History::new().read(1, Content::Zero).returns(1, Content::Zero).violates(expected);
    // The answer of an abandoned operation may still be seen by somebody.
    History::new().submit(1, OpKind::Write).abandon(1).answer(1, Outcome::Ok).legal();
}

#[test]
fn strangers_are_told_from_stale_data() {
    let other_run = Stamp { run: 8, ..stamp(1, 5) };
    let other_place = stamp(1, 6);
    let torn = Content::Torn { head: Some(stamp(1, 5)), tail: Some(OpId(2)), at: 256 };
    let table = [
        (Content::Foreign, Violation::Foreign { lba: 5, found: None }),
        (Content::Stamp(other_run), Violation::Foreign { lba: 5, found: Some(other_run) }),
        (Content::Stamp(other_place), Violation::Misplaced { lba: 5, found: other_place }),
        (data(99), Violation::Unwritten { lba: 5, found: stamp(99, 5) }),
        (
            Content::Stamp(Stamp { generation: 9, ..stamp(1, 5) }),
            Violation::Unwritten { lba: 5, found: Stamp { generation: 9, ..stamp(1, 5) } },
        ),
        (torn, Violation::Torn { lba: 5, head: Some(stamp(1, 5)), tail: Some(OpId(2)), at: 256 }),
    ];
    for (content, expected) in table {
        History::new().write(1).read(2, content).violates(expected);
    }
}

#[test]
fn a_used_namespace_may_hold_anything_until_it_is_written() {
    let used = || History::with(OracleConfig { initial: Initial::Unknown, ..OracleConfig::new(RUN) });
    let other_run = Content::Stamp(Stamp { run: 8, ..stamp(1, 5) });
    for content in [Content::Zero, Content::Ones, Content::Foreign, other_run] {
        used().read(1, content).legal();
    }
    used().read(1, data(9)).violates(Violation::Unwritten { lba: 5, found: stamp(9, 5) });
    used().write(1).read(2, Content::Foreign).violates(Violation::Foreign { lba: 5, found: None });
}

#[test]
fn deallocated_blocks_read_as_the_target_states() {
    let discarded = |deallocated| {
        History::with(OracleConfig { deallocated, ..OracleConfig::new(RUN) }).write(1).done(2, OpKind::Discard)
    };
    let lost = |found| Violation::Lost { lba: 5, found, lost: wrote(2, OpKind::Discard), suspect: None };
    discarded(Deallocated::Zeros).read(3, Content::Zero).legal();
    discarded(Deallocated::Zeros).read(3, Content::Ones).violates(lost(Content::Ones));
    discarded(Deallocated::Ones).read(3, Content::Ones).legal();
    discarded(Deallocated::Ones).read(3, Content::Zero).violates(lost(Content::Zero));
    for content in [Content::Zero, Content::Ones, data(1)] {
        // Any of them, but then always the same.
        discarded(Deallocated::Unreported).read(3, content).read(4, content).legal();
    }
    discarded(Deallocated::Unreported).read(3, Content::Zero).read(4, data(1)).violates(Violation::FlippedBack {
        lba: 5,
        found: data(1),
        seen: Content::Zero,
    });
}

#[test]
fn multi_block_writes_are_torn_freely_and_judged_block_by_block() {
    let mut oracle = Oracle::new(OracleConfig::new(RUN));
    for id in [1, 2] {
        oracle.submitted(op(id, OpKind::Write, 4 + id, 3), NOW); // blocks 5..8 and 6..9
    }
    oracle.answered(OpId(1), Outcome::Ok, NOW);
    oracle.answered(OpId(2), Outcome::Ok, NOW);
    let on = |id, lba| Content::Stamp(stamp(id, lba));
    oracle.submitted(op(3, OpKind::Read, 4, 6), NOW);
    oracle.read_answered(OpId(3), &[Content::Zero, on(1, 5), on(2, 6), on(1, 7), on(2, 8), Content::Zero], NOW);
    assert_eq!(oracle.violations(), []);
    // Block 5 was not covered by the second write.
    oracle.submitted(op(4, OpKind::Read, 5, 1), NOW);
    oracle.read_answered(OpId(4), &[on(2, 5)], NOW);
    assert_eq!(oracle.violations(), [Violation::Unwritten { lba: 5, found: stamp(2, 5) }]);
}

#[test]
fn unfinished_operations_can_be_listed() {
    let history = loose()
        .submit(1, OpKind::Write)
        .submit(2, OpKind::Write)
        .answer(2, Outcome::Indeterminate)
        .submit(3, OpKind::Write)
        .abandon(3)
        .submit(4, OpKind::Read)
        .abandon(4)
        .write(5);
    assert_eq!(history.0.unfinished().map(|op| op.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(history.settle(2).settle(3).0.unfinished().map(|op| op.id.0).collect::<Vec<_>>(), [1]);
}
