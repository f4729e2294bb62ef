//! The choke point, row by row.

use crate::{Case, Disposition, FencePolicy, MAX_SAME_PATH_RETRIES, Op, Provenance, Standing, classify};
use interlock_base::Instant;
use interlock_wire::status::Status;

const READ: Op = Op::Read;
const COMPARE: Op = Op::Compare;
const FLUSH: Op = Op::Flush;
const WRITE: Op = Op::Write { fua: false };
const MEDIA_CHANGING: [Op; 4] = [WRITE, Op::Write { fua: true }, Op::WriteZeroes { deallocate: true }, Op::Discard];
const OPS: [Op; 7] =
    [READ, COMPARE, FLUSH, WRITE, Op::Write { fua: true }, Op::WriteZeroes { deallocate: false }, Op::Discard];
const UNTIL: Option<Instant> = Some(Instant::from_millis(7));
const STANDINGS: [Standing; 4] =
    [Standing::Live, Standing::Condemned, Standing::Fenced, Standing::GivenUp { until: UNTIL }];
const POLICIES: [FencePolicy; 2] = [FencePolicy::Strict, FencePolicy::Legacy];

fn every(mut check: impl FnMut(Case)) {
    for op in OPS {
        for standing in STANDINGS {
            for policy in POLICIES {
                for abandoned in [false, true] {
                    for retries in [0, MAX_SAME_PATH_RETRIES] {
                        let provenance = Provenance::Unsent;
                        check(Case { op, provenance, standing, policy, abandoned, retries });
                    }
                }
            }
        }
    }
}

#[test]
fn unsent_commands_are_settled() {
    every(|case| {
        let want = match (case.standing, case.abandoned) {
            (Standing::Live, _) => Disposition::Wait,
            (_, true) => Disposition::Drop,
            (_, false) => Disposition::RetryElsewhere,
        };
        assert_eq!(classify(case), want, "{case:?}");
    });
}

#[test]
fn unanswered_commands_without_late_effect_are_settled() {
    every(|case| {
        if !matches!(case.op, Op::Read | Op::Compare | Op::Flush) {
            return;
        }
        let case = Case { provenance: Provenance::Unanswered, ..case };
        assert_eq!(classify(case), classify(Case { provenance: Provenance::Unsent, ..case }), "{case:?}");
    });
}

#[test]
fn unanswered_media_changing_commands_are_in_doubt() {
    use Disposition::{Hold, Indeterminate, OutcomeUnknown, RetryElsewhere, RetryUnsafe, Wait};
    use FencePolicy::{Legacy, Strict};
    let given_up = Standing::GivenUp { until: UNTIL };
    let table = [
        (Standing::Live, Strict, false, Wait),
        (Standing::Live, Strict, true, Wait),
        (Standing::Live, Legacy, false, Wait),
        (Standing::Live, Legacy, true, Wait),
        (Standing::Condemned, Strict, false, Hold),
        (Standing::Condemned, Strict, true, Hold),
        (Standing::Condemned, Legacy, false, RetryUnsafe),
        (Standing::Condemned, Legacy, true, Hold),
        (Standing::Fenced, Strict, false, RetryElsewhere),
        (Standing::Fenced, Strict, true, OutcomeUnknown),
        (Standing::Fenced, Legacy, false, RetryElsewhere),
        (Standing::Fenced, Legacy, true, OutcomeUnknown),
        (given_up, Strict, false, Indeterminate { until: UNTIL }),
        (given_up, Strict, true, Indeterminate { until: UNTIL }),
        (given_up, Legacy, false, Indeterminate { until: UNTIL }),
        (given_up, Legacy, true, Indeterminate { until: UNTIL }),
    ];
    for op in MEDIA_CHANGING {
        for (standing, policy, abandoned, want) in table {
            for retries in [0, MAX_SAME_PATH_RETRIES] {
                let case = Case { op, provenance: Provenance::Unanswered, standing, policy, abandoned, retries };
                assert_eq!(classify(case), want, "{case:?}");
            }
        }
    }
}

#[test]
fn an_answer_ends_all_doubt() {
    use Disposition::{Complete, Fail, RetryElsewhere, RetrySamePath};
    let (internal, path, ana) = (Status::INTERNAL_ERROR, Status::CONTROLLER_PATH_ERROR, Status::ANA_TRANSITION);
    let (media, different) = (Status::UNRECOVERED_READ, Status::COMPARE_FAILURE);
    let (later, at_once) = (internal.with_crd(2), RetrySamePath { crd: 0 });
    let full = MAX_SAME_PATH_RETRIES;
    // status, retries, on a life that is live, on one that is not, abandoned
    let table = [
        (Status::SUCCESS, 0, Complete, Complete, Complete),
        (Status::SUCCESS, full, Complete, Complete, Complete),
        (later, 0, RetrySamePath { crd: 2 }, RetryElsewhere, Fail(later)),
        (internal, 0, at_once, RetryElsewhere, Fail(internal)),
        (internal, full - 1, at_once, RetryElsewhere, Fail(internal)),
        (internal, full, Fail(internal), Fail(internal), Fail(internal)),
        (internal.with_dnr(), 0, Fail(internal.with_dnr()), Fail(internal.with_dnr()), Fail(internal.with_dnr())),
        (media, 0, at_once, RetryElsewhere, Fail(media)),
        (different, 0, Fail(different), Fail(different), Fail(different)),
        (path, 0, RetryElsewhere, RetryElsewhere, Fail(path)),
        (path, full, Fail(path), Fail(path), Fail(path)),
        (path.with_dnr(), 0, Fail(path.with_dnr()), Fail(path.with_dnr()), Fail(path.with_dnr())),
        (ana, 0, RetryElsewhere, RetryElsewhere, Fail(ana)),
        (ana, full, RetryElsewhere, RetryElsewhere, Fail(ana)),
        (ana.with_dnr(), 0, Fail(ana.with_dnr()), Fail(ana.with_dnr()), Fail(ana.with_dnr())),
    ];
    every(|case| {
        for (status, retries, live, lost, abandoned) in table {
            let case = Case { provenance: Provenance::Answered(status), retries, ..case };
            let want = match case.standing {
                _ if case.abandoned => abandoned,
                // A second Flush would succeed over what the first one lost.
                _ if case.op == Op::Flush && (status.is(internal) || status.is(media)) => Fail(status),
                Standing::Live => live,
                _ => lost,
            };
            assert_eq!(classify(case), want, "{case:?}");
        }
    });
}

#[test]
fn a_flush_that_may_have_lost_something_is_not_sent_again() {
    use crate::flush_may_have_lost;
    let lost = [
        Status::WRITE_FAULT,
        Status::ACCESS_DENIED,
        Status::INTERNAL_ERROR,
        Status::CAPACITY_EXCEEDED,
        Status::POWER_LOSS,
        Status::new(7, 0x11),
    ];
    let kept = [
        Status::SUCCESS,
        Status::CONTROLLER_PATH_ERROR,
        Status::ANA_TRANSITION,
        Status::NAMESPACE_NOT_READY,
        Status::COMMAND_INTERRUPTED,
        Status::RESERVATION_CONFLICT,
        Status::INVALID_NAMESPACE,
        Status::TRANSIENT_TRANSPORT_ERROR,
    ];
    for (status, may) in lost.map(|status| (status, true)).into_iter().chain(kept.map(|status| (status, false))) {
        assert_eq!((flush_may_have_lost(status), flush_may_have_lost(status.with_crd(1))), (may, may), "{status}");
        every(|case| {
            let case = Case { op: Op::Flush, provenance: Provenance::Answered(status), retries: 0, ..case };
            let fails = matches!(classify(case), Disposition::Fail(_));
            assert_eq!(fails, may || case.abandoned && !status.is_success(), "{case:?}");
        });
    }
}
