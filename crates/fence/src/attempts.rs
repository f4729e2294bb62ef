//! The Cross-Controller Reset commands of one fence, as many as a receipt can keep.
//!
//! A life without an end by time is asked for until it is fenced, which may take days. What a reader needs of that is how
//! it began, how it ended and how often it was tried: so the list is bounded, and the asking is not.

use crate::LifeId;
use alloc::vec::Vec;
use interlock_base::Instant;
use interlock_wire::status::Status;

/// One Cross-Controller Reset command sent for a life, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CcrAttempt {
    /// The source: the life through which it was sent.
    pub source: LifeId,
    /// When.
    pub sent: Instant,
    /// What is known of it.
    pub result: CcrResult,
}

/// What became of one Cross-Controller Reset command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CcrResult {
    /// No completion yet.
    Waiting,
    /// Success with Immediate Reset Successful.
    Immediate,
    /// Success without it: the log page will say.
    Accepted,
    /// The log page said success.
    LogSuccess,
    /// The log page said anything else.
    LogFailed(u8),
    /// Refused with this status.
    Refused(Status),
    /// The source was lost meanwhile.
    SourceLost,
}

/// What was sent: the first commands, the last ones, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CcrAttempts {
    kept: Vec<CcrAttempt>,
    sent: u64,
}

impl CcrAttempts {
    /// The number of first commands that are kept, and of last ones.
    pub const EACH_END: usize = 32;

    /// Those that are kept, in the order in which they were sent.
    pub fn iter(&self) -> impl Iterator<Item = &CcrAttempt> {
        self.kept.iter()
    }

    /// How many were sent in all.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// How many were sent between the first and the last ones, and are not kept.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.sent - self.kept.len() as u64
    }

    pub(crate) fn push(&mut self, attempt: CcrAttempt) {
        if self.kept.len() == 2 * Self::EACH_END {
            self.kept.remove(Self::EACH_END);
        }
        self.kept.push(attempt);
        self.sent += 1;
    }

    /// The last command to this source ended so. One that is not kept any more is not corrected.
    pub(crate) fn note(&mut self, source: LifeId, result: CcrResult) {
        if let Some(attempt) = self.kept.iter_mut().rev().find(|attempt| attempt.source == source) {
            attempt.result = result;
        }
    }

    /// The last command could not be handed to this source after all.
    pub(crate) fn take_back(&mut self, source: LifeId) {
        let last = self.kept.pop_if(|attempt| attempt.source == source && attempt.result == CcrResult::Waiting);
        self.sent -= u64::from(last.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(n: u64) -> CcrAttempt {
        CcrAttempt { source: LifeId(n % 2), sent: Instant::from_millis(n), result: CcrResult::Waiting }
    }

    #[test]
    fn the_first_and_the_last_are_kept_and_all_are_counted() {
        let mut attempts = CcrAttempts::default();
        for n in 0..1_000 {
            attempts.push(attempt(n));
            assert!(attempts.iter().count() <= 2 * CcrAttempts::EACH_END);
        }
        let kept: Vec<_> = attempts.iter().map(|attempt| attempt.sent).collect();
        let wanted: Vec<_> = (0..32).chain(968..1_000).map(Instant::from_millis).collect();
        assert_eq!((kept, attempts.sent(), attempts.left_out()), (wanted, 1_000, 936));
    }

    #[test]
    fn what_became_of_one_is_said_of_the_last_to_its_source() {
        let mut attempts = CcrAttempts::default();
        (0..4).for_each(|n| attempts.push(attempt(n)));
        attempts.note(LifeId(0), CcrResult::Immediate);
        let results: Vec<_> = attempts.iter().map(|attempt| attempt.result).collect();
        assert_eq!(results, [CcrResult::Waiting, CcrResult::Waiting, CcrResult::Immediate, CcrResult::Waiting]);
        attempts.take_back(LifeId(0));
        assert_eq!(attempts.sent(), 4, "the last one went to another source");
        attempts.take_back(LifeId(1));
        assert_eq!((attempts.sent(), attempts.left_out()), (3, 0));
    }
}
