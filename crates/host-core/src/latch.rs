//! A flush that failed is never followed by one that succeeds over the same lost data (`failed_flush_latches`).
//!
//! A controller that could not make something durable often says so once, and has forgotten it when it is asked again.
//! The writes that were lost may be anybody's who writes to the namespace, and the flush that failed may be another's,
//! or of somebody who is gone: so it is the namespace that remembers, over all lanes and handles, until somebody acts.
//!
//! What says nothing of the data is not remembered: a path that could not be used, and a Flush that the controller did not begin
//! ([`flush_may_have_lost`]). A report counts whoever asked: the host itself, and a request that was sent again meanwhile
//! ([`FlushLatch::handle_lost`]).

use crate::guards::{self as conditions, Guard};
use crate::{HeadId, Outcome, Twin};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use interlock_fence::flush_may_have_lost;
use interlock_wire::status::Status;

/// The namespaces of a host whose flushes fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FlushLatch {
    /// What the first of them said.
    failed: BTreeMap<HeadId, Outcome>,
    /// Other names that the same disk has, or had; only where there are any.
    alike: BTreeMap<HeadId, BTreeSet<HeadId>>,
}

impl FlushLatch {
    /// True if no flush has failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty()
    }

    /// A flush has ended, its caller being told next, whoever it was: says what is to be told.
    pub fn handle_ended(&mut self, head: HeadId, outcome: Outcome) -> Outcome {
        if let Some(first) = self.error(head).filter(|_| conditions::enabled(Guard::FlushLatch)) {
            // What was not sent is nothing worse than that; everything else would be believed.
            return if outcome == Outcome::Ok { first } else { outcome };
        }
        if loses_data(outcome) {
            self.failed.entry(head).or_insert(outcome);
        }
        outcome
    }

    /// A Flush that is no request any more was answered so: what it was to make durable may be lost.
    pub fn handle_lost(&mut self, head: HeadId, status: Status) {
        self.failed.entry(head).or_insert(Outcome::Failed(status));
    }

    /// Why every flush of the namespace fails, if it does.
    #[must_use]
    pub fn error(&self, head: HeadId) -> Option<Outcome> {
        self.names(head).find_map(|name| self.failed.get(&name).copied())
    }

    /// Lanes are told of these namespaces: what was lost under one name of a disk is lost under every other.
    pub fn handle_twins(&mut self, twins: &BTreeMap<HeadId, Vec<Twin>>) {
        for (head, twins) in twins {
            for twin in twins.iter().filter(|twin| twin.same) {
                self.alike.entry(*head).or_default().insert(twin.head);
                self.alike.entry(twin.head).or_default().insert(*head);
            }
        }
    }

    /// These names are gone, and nothing was ever sent under them.
    pub fn handle_forgotten(&mut self, heads: &[HeadId]) {
        for head in heads {
            for twin in self.alike.remove(head).unwrap_or_default() {
                if let Some(alike) = self.alike.get_mut(&twin) {
                    alike.remove(head);
                    if alike.is_empty() {
                        self.alike.remove(&twin);
                    }
                }
            }
        }
    }

    /// Every name of the disk, this one first.
    fn names(&self, head: HeadId) -> impl Iterator<Item = HeadId> {
        core::iter::once(head).chain(self.alike.get(&head).into_iter().flatten().copied())
    }

    /// What was lost has been written again, or the caller accepts the loss. Returns what it was.
    pub fn clear(&mut self, head: HeadId) -> Option<Outcome> {
        let names: Vec<HeadId> = self.names(head).collect();
        names.into_iter().filter_map(|name| self.failed.remove(&name)).next_back()
    }
}

/// True if a flush that ended so says that answered writes may be lost.
const fn loses_data(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(status) => flush_may_have_lost(status),
        Outcome::CacheLost { .. } => true,
        // A flush has no late effect: what became of it says nothing of what it would have made durable.
        Outcome::Ok
        | Outcome::NotSent(_)
        | Outcome::Indeterminate { .. }
        | Outcome::OutcomeUnknown
        | Outcome::Poison { .. } => false,
    }
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
            Outcome::Failed(Status::INTERNAL_ERROR),
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
    fn a_disk_that_has_another_name_has_lost_what_it_lost() {
        let lost = Outcome::Failed(Status::WRITE_FAULT);
        let (old, new, other) = (HeadId(1), HeadId(2), HeadId(3));
        let twin = |head, same| Twin { head, whole: false, same };
        let twins = BTreeMap::from([(new, alloc::vec![twin(old, true), twin(other, false)])]);
        for told_first in [true, false] {
            let mut latch = FlushLatch::default();
            if told_first {
                latch.handle_twins(&twins);
            }
            assert_eq!(latch.handle_ended(old, lost), lost);
            latch.handle_twins(&twins);
            assert_eq!((latch.error(new), latch.handle_ended(new, Outcome::Ok)), (Some(lost), lost));
            assert_eq!(latch.handle_ended(other, Outcome::Ok), Outcome::Ok, "another disk under the same NSID");
            assert_eq!((latch.clear(new), latch.error(old)), (Some(lost), None), "cleared by either name");
            assert_eq!(latch.handle_ended(old, Outcome::Ok), Outcome::Ok);
        }
    }

    #[test]
    fn names_that_are_forgotten_leave_nothing_behind() {
        let mut latch = FlushLatch::default();
        let (first, second) = (HeadId(1), HeadId(2));
        for n in 3..1000 {
            let twins = [first, second].map(|head| Twin { head, whole: false, same: true }).to_vec();
            latch.handle_twins(&BTreeMap::from([(HeadId(n), twins)]));
            latch.handle_forgotten(&[HeadId(n)]);
            assert!(latch.alike.is_empty(), "{n}");
        }
        latch.handle_twins(&BTreeMap::from([(first, alloc::vec![Twin { head: second, whole: false, same: true }])]));
        latch.handle_lost(first, Status::WRITE_FAULT);
        latch.handle_forgotten(&[HeadId(7)]);
        assert!(latch.error(second).is_some());
    }

    #[test]
    fn a_loss_that_no_caller_hears_of_fails_the_next_flush() {
        let mut latch = FlushLatch::default();
        latch.handle_lost(HEAD, Status::WRITE_FAULT);
        let lost = Outcome::Failed(Status::WRITE_FAULT);
        assert_eq!(latch.handle_ended(HEAD, Outcome::Ok), lost);
        latch.handle_lost(HEAD, Status::INTERNAL_ERROR);
        assert_eq!(
            (latch.error(HEAD), latch.clear(HEAD), latch.error(HEAD)),
            (Some(lost), Some(lost), None),
            "the first one"
        );
    }

    #[test]
    fn what_says_nothing_of_the_data_is_not_remembered() {
        let statuses = [
            Status::CONTROLLER_PATH_ERROR.with_dnr(),
            Status::ANA_INACCESSIBLE,
            Status::NAMESPACE_NOT_READY,
            Status::RESERVATION_CONFLICT.with_dnr(),
            Status::INVALID_NAMESPACE.with_dnr(),
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
