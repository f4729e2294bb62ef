//! A flush that failed is never followed by one that succeeds over the same lost data (`failed_flush_latches`).
//!
//! A controller that could not make something durable often says so once, and has forgotten it when it is asked again.
//! The writes that were lost may be anybody's who writes to the namespace, and the flush that failed may be another's,
//! or of somebody who is gone: so it is the namespace that remembers, over all lanes and handles, until somebody acts.
//!
//! What says nothing of the data is not remembered: a path that could not be used, and an error that the controller asks
//! to be tried again (no Do Not Retry), unless it is one of the media.

use crate::{HeadId, Outcome};
use alloc::collections::BTreeMap;
use interlock_wire::status::Status;

/// NVM Express Base Specification, "Status Code Type": Media and Data Integrity Errors.
const SCT_MEDIA: u8 = 2;

/// The namespaces of a host whose flushes fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FlushLatch {
    /// What the first of them said.
    failed: BTreeMap<HeadId, Outcome>,
}

impl FlushLatch {
    /// True if no flush has failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// A flush has ended, its caller being told next, whoever it was: says what is to be told.
    pub fn handle_ended(&mut self, head: HeadId, outcome: Outcome) -> Outcome {
        if let Some(first) = self.failed.get(&head) {
            // What was not sent is nothing worse than that; everything else would be believed.
            return if outcome == Outcome::Ok { *first } else { outcome };
        }
        if loses_data(outcome) {
            self.failed.insert(head, outcome);
        }
        outcome
    }

    /// Why every flush of the namespace fails, if it does.
    #[must_use]
    pub fn error(&self, head: HeadId) -> Option<Outcome> {
        self.failed.get(&head).copied()
    }

    /// What was lost has been written again, or the caller accepts the loss. Returns what it was.
    pub fn clear(&mut self, head: HeadId) -> Option<Outcome> {
        self.failed.remove(&head)
    }
}

/// True if a flush that ended so says that answered writes may be lost.
const fn loses_data(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(status) => says_of_data(status),
        Outcome::CacheLost { .. } => true,
        // A flush has no late effect: what became of it says nothing of what it would have made durable.
        Outcome::Ok
        | Outcome::NotSent(_)
        | Outcome::Indeterminate { .. }
        | Outcome::OutcomeUnknown
        | Outcome::Poison { .. } => false,
    }
}

const fn says_of_data(status: Status) -> bool {
    !status.is_path_related() && (status.dnr() || status.sct() == SCT_MEDIA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LifeId, Refused};

    const HEAD: HeadId = HeadId(1);

    #[test]
    fn after_a_flush_that_failed_none_succeeds_before_somebody_acts() {
        for lost in [
            Outcome::Failed(Status::INTERNAL_ERROR.with_dnr()),
            Outcome::Failed(Status::WRITE_FAULT),
            Outcome::CacheLost { life: LifeId(3) },
        ] {
            let mut latch = FlushLatch::default();
            assert_eq!(latch.handle_ended(HEAD, Outcome::Ok), Outcome::Ok);
            assert_eq!(latch.handle_ended(HEAD, lost), lost);
            assert_eq!(latch.handle_ended(HEAD, Outcome::Ok), lost, "it is anybody's data");
            assert_eq!(latch.handle_ended(HeadId(2), Outcome::Ok), Outcome::Ok, "of this namespace alone");
            let unsent = Outcome::NotSent(Refused::NoPath);
            assert_eq!(latch.handle_ended(HEAD, unsent), unsent);
            assert_eq!(latch.error(HEAD), Some(lost));
            assert_eq!((latch.clear(HEAD), latch.clear(HEAD)), (Some(lost), None));
            assert_eq!(latch.handle_ended(HEAD, Outcome::Ok), Outcome::Ok);
        }
    }

    #[test]
    fn what_says_nothing_of_the_data_is_not_remembered() {
        let statuses = [
            Status::CONTROLLER_PATH_ERROR.with_dnr(),
            Status::ANA_INACCESSIBLE,
            Status::INTERNAL_ERROR,
            Status::NAMESPACE_NOT_READY,
        ];
        let failed = statuses.into_iter().map(Outcome::Failed);
        let unsent = [Outcome::NotSent(Refused::ShuttingDown), Outcome::OutcomeUnknown];
        for outcome in failed.chain(unsent) {
            let mut latch = FlushLatch::default();
            assert_eq!(latch.handle_ended(HEAD, outcome), outcome);
            assert_eq!(latch.handle_ended(HEAD, Outcome::Ok), Outcome::Ok, "after {outcome:?}");
            assert!(latch.is_empty());
        }
    }
}
