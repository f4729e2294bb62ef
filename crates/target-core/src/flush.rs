//! Whether a flush of a backing device tells the truth.
//!
//! A kernel tells of lost data once: the first `fdatasync` after the loss fails, and the next one succeeds over the same hole. A
//! host that asks again, or another host, would be told that its writes are durable. So the first failure is remembered until
//! somebody says that it was dealt with. Its driver makes it outlive the process, and shares one of these among all lanes.
//!
//! A kernel also tells only one of several that ask at the same time. A success is therefore worth something only when
//! everyone who was asking by then has had an answer and none was a failure: until then it is [`Ended::Unsure`].

use alloc::collections::BTreeSet;
use alloc::string::String;

/// One question to the device that may be answered with the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question(u64);

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// Everything is durable.
    Durable,
    /// Data was lost, now or earlier.
    Lost,
    /// Somebody who asked before this question has no answer yet: ask [`FlushLatch::settle`] again.
    Unsure(Question),
}

/// The flushes of one backing device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlushLatch {
    failed: Option<String>,
    next: u64,
    /// Questions without an answer.
    open: BTreeSet<Question>,
}

impl FlushLatch {
    /// With what an earlier process remembered.
    #[must_use]
    pub fn new(failed: Option<String>) -> Self {
        Self { failed, ..Self::default() }
    }

    /// Why one has failed, until [`FlushLatch::clear`]. Then whatever promises durability fails before it is begun.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The device is asked.
    pub fn ask(&mut self) -> Question {
        let question = Question(self.next);
        self.next += 1;
        self.open.insert(question);
        question
    }

    /// The device has answered that everything is durable.
    pub fn succeeded(&mut self, question: Question) -> Ended {
        self.open.remove(&question);
        self.settle(Question(self.next))
    }

    /// Looks again at an answer that was [`Ended::Unsure`].
    #[must_use]
    pub fn settle(&self, until: Question) -> Ended {
        if self.failed.is_some() {
            Ended::Lost
        } else if self.open.first().is_some_and(|first| *first < until) {
            Ended::Unsure(until)
        } else {
            Ended::Durable
        }
    }

    /// It was not asked after all, or its answer says nothing of durability.
    pub fn withdraw(&mut self, question: Question) {
        self.open.remove(&question);
    }

    /// The device has answered that data may be lost. True if this is the first to say so: then it is to be recorded.
    pub fn fail(&mut self, question: Question, why: &str) -> bool {
        self.open.remove(&question);
        let first = self.failed.is_none();
        if first {
            self.failed = Some(why.into());
        }
        first
    }

    /// Somebody says that the failure was dealt with. True if there was one.
    pub fn clear(&mut self) -> bool {
        self.failed.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_beside_a_failure_is_none() {
        let mut flushes = FlushLatch::default();
        let (one, two, three) = (flushes.ask(), flushes.ask(), flushes.ask());
        let Ended::Unsure(until) = flushes.succeeded(two) else { panic!("the first one may be told of the loss") };
        assert_eq!(flushes.settle(until), Ended::Unsure(until));
        let late = flushes.ask();
        assert!(flushes.fail(one, "EIO"));
        assert_eq!(flushes.settle(until), Ended::Lost);
        assert_eq!((flushes.succeeded(three), flushes.succeeded(late)), (Ended::Lost, Ended::Lost));
        let again = flushes.ask();
        assert!(!flushes.fail(again, "ENOSPC"));
        assert_eq!(flushes.failed(), Some("EIO"));
        assert!(flushes.clear() && !flushes.clear());
        let again = flushes.ask();
        assert_eq!(flushes.succeeded(again), Ended::Durable);
        assert_eq!(FlushLatch::new(Some("EIO".into())).settle(Question(0)), Ended::Lost, "over processes");
    }

    #[test]
    fn whoever_asks_later_is_not_waited_for() {
        let mut flushes = FlushLatch::default();
        let (one, two) = (flushes.ask(), flushes.ask());
        let Ended::Unsure(until) = flushes.succeeded(two) else { panic!("the first one is open") };
        let later = flushes.ask();
        assert_eq!(flushes.succeeded(one), Ended::Unsure(Question(later.0 + 1)), "the later one may be told of a loss");
        assert_eq!(flushes.settle(until), Ended::Durable);
        flushes.withdraw(later);
    }
}
