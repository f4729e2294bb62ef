//! The oracle that reads the target's own log.
//!
//! From outside a ghost shows only if it lands on a block that was rewritten in between and read afterwards. The
//! target's log of executions shows it always: an execution after the answer, or after the fence of its life, is the
//! violation, whatever the block reads as. Feed order does not matter: logs of two programs are merged afterwards, so
//! every rule compares the instants it was given.

use crate::op::OpId;
use crate::violation::Violation;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use interlock_base::Instant;

/// One enable-to-reset span of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// Controller ID.
    pub cntlid: u16,
    /// Controller Instance Uniquifier.
    pub ciu: u8,
    /// Controller Instance Random Number.
    pub cirn: u64,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}/{:02x}/{:016x}", self.cntlid, self.ciu, self.cirn)
    }
}

/// How a fence was established.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Cross-Controller Reset, done when its completion arrived.
    Immediate,
    /// Cross-Controller Reset, done by an entry in the log page.
    Log,
    /// A disable on a target known to drain first.
    DrainedDisable,
    /// The target's stated time bound has passed.
    Time,
    /// An assumed time bound has passed: no proof.
    Assumed,
    /// Nothing was waited for: what today's hosts do.
    Legacy,
    /// An operator declared it over: no proof.
    AcceptedRisk,
}

impl Method {
    /// True if it proves that nothing of the life can be executed any more.
    #[must_use]
    pub const fn is_proof(self) -> bool {
        match self {
            Self::Immediate | Self::Log | Self::DrainedDisable | Self::Time => true,
            Self::Assumed | Self::Legacy | Self::AcceptedRisk => false,
        }
    }

    /// As in receipts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Log => "log",
            Self::DrainedDisable => "drained-disable",
            Self::Time => "time",
            Self::Assumed => "assumed",
            Self::Legacy => "legacy",
            Self::AcceptedRisk => "accepted-risk",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Execution {
    op: OpId,
    life: Life,
    at: Instant,
}

/// Checks a target's log of executions against answers and receipts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WhiteBox {
    executions: Vec<Execution>,
    /// When each was over, and by the answer to which later one, if it had been given up.
    ended: BTreeMap<OpId, (Instant, Option<OpId>)>,
    receipts: BTreeMap<Life, (Method, Instant)>,
    executable: Vec<Violation>,
}

impl WhiteBox {
    /// Nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The target touched the media for a command of `life` that carries out `op`; `at` is when that began.
    pub fn executed(&mut self, op: OpId, life: Life, at: Instant) {
        self.executions.push(Execution { op, life, at });
    }

    /// The application was answered at `at`, or was told after a fence that `op` is not retried. Not for
    /// indeterminate ends: those stay possible until their fence, which [`WhiteBox::receipt`] reports. The first
    /// call counts.
    pub fn answered(&mut self, op: OpId, at: Instant) {
        self.ended.entry(op).or_insert((at, None));
    }

    /// `op` had been given up, and at `at` the application was answered `later`, which overlaps it and was submitted
    /// since ([`Oracle::overtaken_by`](crate::Oracle::overtaken_by)). The first end of an operation counts.
    pub fn overtaken(&mut self, op: OpId, later: OpId, at: Instant) {
        self.ended.entry(op).or_insert((at, Some(later)));
    }

    /// The host declared `life` fenced at `at`. `executable` is how many of its commands the target, its sockets or
    /// the network could still execute at that instant; 0 if the observer cannot see that. The first proof counts.
    pub fn receipt(&mut self, life: Life, method: Method, executable: u32, at: Instant) {
        if !method.is_proof() {
            return;
        }
        self.receipts.entry(life).or_insert((method, at));
        if executable > 0 {
            self.executable.push(Violation::ExecutableAtReceipt { life, method, commands: executable });
        }
    }

    /// What is wrong with everything fed so far: at most one violation per execution and one per receipt.
    pub fn violations(&self) -> impl Iterator<Item = Violation> + '_ {
        let late = self.executions.iter().filter_map(|&Execution { op, life, at }| {
            if let Some((method, fenced)) = self.receipts.get(&life)
                && at > *fenced
            {
                let late_ns = at.as_nanos() - fenced.as_nanos();
                return Some(Violation::ExecutedAfterReceipt { op, life, method: *method, late_ns });
            }
            let (ended, later) = self.ended.get(&op).filter(|(ended, _)| at > *ended)?;
            let late_ns = at.as_nanos() - ended.as_nanos();
            Some(match *later {
                Some(later) => Violation::ExecutedAfterLaterAnswer { op, life, later, late_ns },
                None => Violation::ExecutedAfterAnswer { op, life, late_ns },
            })
        });
        self.executable.iter().copied().chain(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Life = Life { cntlid: 1, ciu: 7, cirn: 70 };
    /// The same controller in its next life.
    const A2: Life = Life { cntlid: 1, ciu: 7, cirn: 71 };
    const B: Life = Life { cntlid: 2, ciu: 1, cirn: 10 };
    const OP: OpId = OpId(5);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn executions_before_the_answer_are_legal_however_many() {
        let mut box_ = WhiteBox::new();
        box_.executed(OP, A, ms(1));
        box_.executed(OP, B, ms(2));
        box_.executed(OP, A, ms(3));
        box_.answered(OP, ms(3));
        assert_eq!(box_.violations().count(), 0);
    }

    #[test]
    fn an_execution_after_the_answer_is_found_in_either_feed_order() {
        let expected = Violation::ExecutedAfterAnswer { op: OP, life: A, late_ns: 4_000_000 };
        let mut box_ = WhiteBox::new();
        box_.answered(OP, ms(3));
        box_.executed(OP, A, ms(7));
        assert!(box_.violations().eq([expected]));
        let mut box_ = WhiteBox::new();
        box_.executed(OP, A, ms(7));
        box_.answered(OP, ms(3));
        assert!(box_.violations().eq([expected]));
    }

    #[test]
    fn an_execution_after_the_answer_to_a_later_change_is_found_and_names_it() {
        let mut box_ = WhiteBox::new();
        box_.executed(OP, A, ms(3));
        box_.overtaken(OP, OpId(9), ms(3));
        // That it ended later, as far as anybody said, changes nothing.
        box_.answered(OP, ms(8));
        assert_eq!(box_.violations().count(), 0);
        box_.executed(OP, A, ms(7));
        let expected = Violation::ExecutedAfterLaterAnswer { op: OP, life: A, later: OpId(9), late_ns: 4_000_000 };
        assert!(box_.violations().eq([expected]));
    }

    #[test]
    fn a_second_answer_does_not_move_the_first() {
        let mut box_ = WhiteBox::new();
        box_.answered(OP, ms(3));
        box_.answered(OP, ms(9));
        box_.executed(OP, A, ms(7));
        assert_eq!(box_.violations().count(), 1);
    }

    #[test]
    fn an_execution_after_a_proof_is_found_and_after_an_assumption_is_not() {
        for method in [
            Method::Immediate,
            Method::Log,
            Method::DrainedDisable,
            Method::Time,
            Method::Assumed,
            Method::Legacy,
            Method::AcceptedRisk,
        ] {
            let mut box_ = WhiteBox::new();
            box_.executed(OP, A, ms(10));
            box_.receipt(A, method, 0, ms(10));
            assert_eq!(box_.violations().count(), 0, "{method:?}: executed no later than the receipt");
            box_.executed(OP, A, ms(11));
            let expected = Violation::ExecutedAfterReceipt { op: OP, life: A, method, late_ns: 1_000_000 };
            assert!(box_.violations().eq(method.is_proof().then_some(expected)), "{method:?}");
        }
    }

    #[test]
    fn a_receipt_is_bound_to_one_life() {
        let mut box_ = WhiteBox::new();
        box_.receipt(A, Method::Immediate, 0, ms(1));
        box_.executed(OP, A2, ms(2));
        box_.executed(OP, B, ms(2));
        assert_eq!(box_.violations().count(), 0);
    }

    #[test]
    fn a_receipt_with_something_executable_left_is_wrong_at_once() {
        let mut box_ = WhiteBox::new();
        box_.receipt(A, Method::Assumed, 3, ms(1));
        assert_eq!(box_.violations().count(), 0);
        box_.receipt(A, Method::Log, 3, ms(1));
        let expected = Violation::ExecutableAtReceipt { life: A, method: Method::Log, commands: 3 };
        assert!(box_.violations().eq([expected]));
    }
}
