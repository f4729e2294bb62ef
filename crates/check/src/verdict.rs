//! What the evidence of a scenario amounts to.
//!
//! A drill in which nothing could have gone wrong must not say "safe". So a verdict is computed from evidence by one
//! pure function, and "safe" needs proof that the danger was there: enough writes in doubt, writes still held by the
//! target when the fence began, and at least one that it tried to execute afterwards and was stopped.

use crate::violation::Violation;
use alloc::vec::Vec;
use core::fmt;

/// A scenario with fewer writes in doubt shows nothing.
pub const MIN_IN_DOUBT: u64 = 8;

/// What the scenario was set up to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fence {
    /// A fence, proven by the target.
    Proven,
    /// A hold that rests on an assumption.
    Assumed {
        /// The target is assumed to quiesce within so many milliseconds.
        ms: u64,
    },
    /// No fence, on purpose (policy `legacy`): the run must be caught.
    None,
}

/// What became of the writes that the target held back, by its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ghosts {
    /// Held back, to be executed later if nobody stops it.
    pub armed: u64,
    /// Executed before the fence was declared (or cancelled by a quiesce): harmless, the host was still holding.
    pub ended_before_fence: u64,
    /// Tried after the fence, and stopped.
    pub stopped: u64,
    /// Executed after the fence.
    pub executed: u64,
}

/// Was everything looked at, after every ghost had been decided?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadBack {
    /// Every touched block was read.
    Complete,
    /// So many blocks could not be read.
    Missing {
        /// How many.
        blocks: u64,
    },
    /// It did not take place.
    Absent,
}

/// All that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Writes that were sent on the lost path and unanswered when it was condemned.
    pub writes_in_doubt: u64,
    /// Writes that the target still held when the fence began.
    pub held_at_fence: u64,
    /// What became of them.
    pub ghosts: Ghosts,
    /// What the scenario was set up to show.
    pub fence: Fence,
    /// What the oracles found, black and white.
    pub violations: Vec<Violation>,
    /// Was everything looked at?
    pub read_back: ReadBack,
}

/// Why a scenario shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Fewer than [`MIN_IN_DOUBT`] writes were in doubt.
    TooFewInDoubt {
        /// How many were.
        found: u64,
    },
    /// The target held no write when the fence began.
    NothingHeld,
    /// After the fence the target tried to execute nothing.
    NothingStopped,
    /// Held writes were neither executed nor stopped before the read-back.
    GhostsUndecided {
        /// How many.
        left: u64,
    },
    /// The read-back is not complete.
    ReadBackIncomplete {
        /// How many blocks are missing; `None` if it did not take place.
        missing: Option<u64>,
    },
    /// The run had no fence, and nothing stale was found: the check was not proven able to fail.
    NotCaught,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewInDoubt { found } => {
                write!(f, "only {found} writes were in doubt, at least {MIN_IN_DOUBT} are needed")
            }
            Self::NothingHeld => f.write_str("the target held no write when the fence began"),
            Self::NothingStopped => f.write_str("after the fence the target tried to execute nothing"),
            Self::GhostsUndecided { left } => {
                write!(f, "{left} held writes were neither executed nor stopped before the read-back")
            }
            Self::ReadBackIncomplete { missing: Some(blocks) } => {
                write!(f, "{blocks} blocks could not be read back")
            }
            Self::ReadBackIncomplete { missing: None } => f.write_str("nothing was read back"),
            Self::NotCaught => f.write_str("the run had no fence, yet nothing stale was found"),
        }
    }
}

/// What a scenario showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It could have gone wrong and did not.
    Safe,
    /// It did not go wrong, but rests on an assumption that nobody proved.
    SafeIf {
        /// The target must quiesce within so many milliseconds.
        assumed_ms: u64,
    },
    /// It went wrong.
    Unsafe {
        /// How; not empty.
        violations: Vec<Violation>,
    },
    /// It shows nothing.
    Inconclusive {
        /// Why; not empty.
        reasons: Vec<Reason>,
    },
}

impl Verdict {
    /// Weighs `evidence`. Violations count always; without any, every condition for "safe" must hold.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let Evidence { writes_in_doubt, held_at_fence, ghosts, fence, .. } = *evidence;
        let mut violations = evidence.violations.clone();
        if fence != Fence::None && ghosts.executed > 0 && violations.is_empty() {
            violations.push(Violation::GhostsExecuted { count: ghosts.executed });
        }
        if !violations.is_empty() {
            return Self::Unsafe { violations };
        }
        let mut reasons = Vec::new();
        if writes_in_doubt < MIN_IN_DOUBT {
            reasons.push(Reason::TooFewInDoubt { found: writes_in_doubt });
        }
        if held_at_fence == 0 {
            reasons.push(Reason::NothingHeld);
        }
        if fence != Fence::None && ghosts.stopped == 0 {
            reasons.push(Reason::NothingStopped);
        }
        let decided = ghosts.ended_before_fence + ghosts.stopped + ghosts.executed;
        if ghosts.armed > decided {
            reasons.push(Reason::GhostsUndecided { left: ghosts.armed - decided });
        }
        match evidence.read_back {
            ReadBack::Complete => {}
            ReadBack::Missing { blocks } => reasons.push(Reason::ReadBackIncomplete { missing: Some(blocks) }),
            ReadBack::Absent => reasons.push(Reason::ReadBackIncomplete { missing: None }),
        }
        if fence == Fence::None {
            reasons.push(Reason::NotCaught);
        }
        match fence {
            _ if !reasons.is_empty() => Self::Inconclusive { reasons },
            Fence::Assumed { ms } => Self::SafeIf { assumed_ms: ms },
            Fence::Proven | Fence::None => Self::Safe,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Safe => f.write_str("SAFE"),
            Self::SafeIf { assumed_ms } => write!(f, "SAFE IF the target quiesces within {assumed_ms} ms"),
            Self::Unsafe { .. } => f.write_str("UNSAFE"),
            Self::Inconclusive { .. } => f.write_str("INCONCLUSIVE"),
        }
    }
}

/// The exit code for several verdicts: 1 if anything was unsafe, else 2 if anything was inconclusive or there was
/// nothing, else 0. Safe under a stated assumption is safe: the assumption is printed beside it.
#[must_use]
pub fn exit_code<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> u8 {
    verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Unsafe { .. } => 1,
            Verdict::Inconclusive { .. } => 2,
            Verdict::Safe | Verdict::SafeIf { .. } => 0,
        })
        .reduce(|one: u8, other| match (one, other) {
            (1, _) | (_, 1) => 1,
            (one, other) => one.max(other),
        })
        .unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::OpId;
    use alloc::string::ToString;
    use alloc::vec;

    const WRONG: Violation = Violation::AnsweredTwice { op: OpId(1) };

    fn good() -> Evidence {
        Evidence {
            writes_in_doubt: 8,
            held_at_fence: 1,
            ghosts: Ghosts { armed: 3, ended_before_fence: 2, stopped: 1, executed: 0 },
            fence: Fence::Proven,
            violations: Vec::new(),
            read_back: ReadBack::Complete,
        }
    }

    #[test]
    fn the_least_evidence_that_is_enough() {
        assert_eq!(Verdict::of(&good()), Verdict::Safe);
        let assumed = Evidence { fence: Fence::Assumed { ms: 5000 }, ..good() };
        assert_eq!(Verdict::of(&assumed), Verdict::SafeIf { assumed_ms: 5000 });
        assert_eq!(Verdict::of(&assumed).to_string(), "SAFE IF the target quiesces within 5000 ms");
    }

    #[test]
    fn each_condition_is_needed() {
        let ghosts = good().ghosts;
        let table = [
            (Evidence { writes_in_doubt: 7, ..good() }, Reason::TooFewInDoubt { found: 7 }),
            (Evidence { held_at_fence: 0, ..good() }, Reason::NothingHeld),
            (
                Evidence { ghosts: Ghosts { ended_before_fence: 3, stopped: 0, ..ghosts }, ..good() },
                Reason::NothingStopped,
            ),
            (Evidence { ghosts: Ghosts { armed: 5, ..ghosts }, ..good() }, Reason::GhostsUndecided { left: 2 }),
            (
                Evidence { read_back: ReadBack::Missing { blocks: 4 }, ..good() },
                Reason::ReadBackIncomplete { missing: Some(4) },
            ),
            (Evidence { read_back: ReadBack::Absent, ..good() }, Reason::ReadBackIncomplete { missing: None }),
        ];
        for (evidence, reason) in table {
            assert_eq!(Verdict::of(&evidence), Verdict::Inconclusive { reasons: vec![reason] });
            let assumed = Evidence { fence: Fence::Assumed { ms: 1 }, ..evidence.clone() };
            assert_eq!(Verdict::of(&assumed), Verdict::Inconclusive { reasons: vec![reason] });
            let wrong = Evidence { violations: vec![WRONG], ..evidence };
            assert_eq!(Verdict::of(&wrong), Verdict::Unsafe { violations: vec![WRONG] }, "violations count always");
        }
    }

    #[test]
    fn a_ghost_executed_after_the_fence_is_unsafe_even_if_no_read_met_it() {
        for fence in [Fence::Proven, Fence::Assumed { ms: 1 }] {
            let ghosts = Ghosts { armed: 3, ended_before_fence: 0, stopped: 2, executed: 1 };
            let expected = Verdict::Unsafe { violations: vec![Violation::GhostsExecuted { count: 1 }] };
            assert_eq!(Verdict::of(&Evidence { ghosts, fence, ..good() }), expected);
        }
    }

    #[test]
    fn a_run_without_a_fence_is_never_safe() {
        let ghosts = Ghosts { armed: 3, ended_before_fence: 0, stopped: 0, executed: 3 };
        let lucky = Evidence { fence: Fence::None, ghosts, ..good() };
        assert_eq!(Verdict::of(&lucky), Verdict::Inconclusive { reasons: vec![Reason::NotCaught] });
        let caught = Evidence { violations: vec![WRONG], ..lucky };
        assert_eq!(Verdict::of(&caught), Verdict::Unsafe { violations: vec![WRONG] });
    }

    #[test]
    fn exit_codes_over_several_verdicts() {
        let safe = Verdict::Safe;
        let safe_if = Verdict::SafeIf { assumed_ms: 1 };
        let bad = Verdict::Unsafe { violations: vec![WRONG] };
        let unclear = Verdict::Inconclusive { reasons: vec![Reason::NothingHeld] };
        assert_eq!(exit_code([&safe, &safe_if]), 0);
        assert_eq!(exit_code([&safe, &unclear, &safe]), 2);
        assert_eq!(exit_code([&unclear, &bad, &unclear]), 1);
        assert_eq!(exit_code([&bad, &safe]), 1);
        assert_eq!(exit_code([]), 2);
    }
}
