//! Which rows of the classification table were asked for: so that a hunt can say what it never met.
//!
//! Built only with the feature `mutations`, which no shipped crate can enable; otherwise `note` is empty.

use crate::{Case, Disposition, FencePolicy, Op, Provenance, Standing, classify};
use alloc::string::String;
use alloc::vec::Vec;
use interlock_base::Instant;
use interlock_wire::status::Status;

const PROVENANCES: [(&str, Provenance); 8] = [
    ("unsent", Provenance::Unsent),
    ("unanswered", Provenance::Unanswered),
    ("answered: success", Provenance::Answered(Status::SUCCESS)),
    ("answered: do not retry", Provenance::Answered(Status::INTERNAL_ERROR.with_dnr())),
    ("answered: ANA", Provenance::Answered(Status::ANA_INACCESSIBLE)),
    ("answered: path", Provenance::Answered(Status::CONTROLLER_PATH_ERROR)),
    ("answered: other", Provenance::Answered(Status::INTERNAL_ERROR)),
    ("answered: different", Provenance::Answered(Status::COMPARE_FAILURE)),
];
const STANDINGS: [(&str, Standing); 4] = [
    ("live", Standing::Live),
    ("condemned", Standing::Condemned),
    ("fenced", Standing::Fenced),
    ("given up", Standing::GivenUp { until: Some(Instant::ZERO) }),
];

const fn provenance(case: Case) -> usize {
    match case.provenance {
        Provenance::Unsent => 0,
        Provenance::Unanswered => 1,
        Provenance::Answered(status) if status.is_success() => 2,
        Provenance::Answered(status) if status.is(Status::COMPARE_FAILURE) => 7,
        Provenance::Answered(status) if status.dnr() => 3,
        Provenance::Answered(status) if status.is_ana() => 4,
        Provenance::Answered(status) if status.is_path_related() => 5,
        Provenance::Answered(_) => 6,
    }
}

const fn standing(case: Case) -> usize {
    match case.standing {
        Standing::Live => 0,
        Standing::Condemned => 1,
        Standing::Fenced => 2,
        Standing::GivenUp { .. } => 3,
    }
}

/// The row of a case. Legacy and strict share rows: where policy matters is a row of the table test.
const fn row(case: Case) -> usize {
    ((provenance(case) * 4 + standing(case)) * 2 + case.op.changes_media() as usize) * 2 + case.abandoned as usize
}

/// A case was decided.
#[cfg(not(feature = "mutations"))]
pub(crate) const fn note(_case: Case) {}

#[cfg(feature = "mutations")]
mod seen {
    use super::{Case, row};
    use core::sync::atomic::{AtomicU64, Ordering};

    static SEEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

    pub(crate) fn note(case: Case) {
        let row = row(case);
        SEEN[row / 64].fetch_or(1 << (row % 64), Ordering::Relaxed);
    }

    pub(super) fn was_seen(case: Case) -> bool {
        let row = row(case);
        SEEN[row / 64].load(Ordering::Relaxed) & 1 << (row % 64) != 0
    }
}

#[cfg(feature = "mutations")]
pub(crate) use seen::note;

/// [`classify`], for a command of a lane: a hunt wants to know which rows it met.
pub(crate) fn decide(case: Case) -> Disposition {
    note(case);
    classify(case)
}

/// True if a lane can ask for it: it asks about what was answered, about what is on a life that is condemned, and, once
/// that is over, about the changes that it held.
const fn is_asked(case: Case) -> bool {
    if provenance(case) == 7 && case.op.changes_media() {
        return false;
    }
    match case.standing {
        Standing::Live => matches!(case.provenance, Provenance::Answered(_)),
        Standing::Condemned => true,
        Standing::Fenced | Standing::GivenUp { .. } => {
            matches!(case.provenance, Provenance::Unanswered) && case.op.changes_media()
        }
    }
}

/// Every row that a lane can ask for, by name, and whether it was asked for in this process; without the feature `mutations` none was.
#[must_use]
pub fn classification() -> Vec<(String, bool)> {
    let mut rows = Vec::new();
    for (what, provenance) in PROVENANCES {
        for (how, standing) in STANDINGS {
            for (kind, op) in [("quiet", Op::Read), ("change", Op::Write { fua: false })] {
                for (whose, abandoned) in [("", false), (", given up by its caller", true)] {
                    let case = Case { op, provenance, standing, policy: FencePolicy::Strict, abandoned, retries: 0 };
                    if is_asked(case) {
                        rows.push((alloc::format!("{kind}, {what}, life {how}{whose}"), was_seen(case)));
                    }
                }
            }
        }
    }
    rows
}

#[cfg(feature = "mutations")]
use seen::was_seen;

#[cfg(not(feature = "mutations"))]
const fn was_seen(case: Case) -> bool {
    let _ = row(case);
    false
}
