//! Whether flushes of a file tell the truth.
//!
//! The kernel tells of lost data once: the first `fdatasync` after the loss fails, and the next one succeeds over the same hole. A
//! host that asks again, or another host, would be told that its writes are durable. So the first failure is remembered, for all
//! lanes and durably, and no flush succeeds until somebody says that it was dealt with.
//!
//! The kernel also tells only one of several that ask at the same time. A success is therefore worth something only when
//! everyone who was asking by then has had an answer and none was a failure: until then it is [`Ended::Unsure`].

use crate::kept::Kept;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How long the answer to a flush that failed waits for the failure to be remembered durably.
const RECORD_WITHIN: Duration = Duration::from_secs(1);

/// One question to the kernel that may be answered with the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Question(u64);

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything is durable.
    Durable,
    /// Data was lost, now or earlier.
    Lost,
    /// Somebody who asked before this question has no answer yet: ask [`Flushes::settle`] again.
    Unsure(Question),
}

#[derive(Debug, Default)]
struct State {
    /// Why one has failed.
    failed: Option<String>,
    /// Told to nobody yet.
    news: Option<String>,
    next: u64,
    /// Questions without an answer.
    open: BTreeSet<Question>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Locked while it is written, which takes as long as its disk does.
    kept: Mutex<Option<Kept>>,
}

/// The flushes of one file, on all lanes.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    shared: Arc<Shared>,
}

impl Flushes {
    /// With what was remembered by an earlier target.
    pub(crate) fn new(kept: Option<Kept>) -> Self {
        let failed = kept.as_ref().and_then(|kept| kept.content.flush_failed.clone());
        let state = Mutex::new(State { failed, ..State::default() });
        Self { shared: Arc::new(Shared { state, kept: Mutex::new(kept) }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// What is kept beside the file.
    pub(crate) fn kept<T>(&self, read: impl FnOnce(&Kept) -> T) -> Option<T> {
        lock(&self.shared.kept).as_ref().map(read)
    }

    /// Why one has failed, until [`Flushes::clear`].
    pub(crate) fn failed(&self) -> Option<String> {
        self.lock().failed.clone()
    }

    /// What there is to tell of a failure, once.
    pub(crate) fn take_news(&self) -> Option<String> {
        self.lock().news.take()
    }

    /// The kernel is asked.
    pub(crate) fn ask(&self) -> Question {
        let mut state = self.lock();
        let question = Question(state.next);
        state.next += 1;
        state.open.insert(question);
        question
    }

    /// The kernel has answered that everything is durable.
    pub(crate) fn succeeded(&self, question: Question) -> Ended {
        let mut state = self.lock();
        state.open.remove(&question);
        let until = Question(state.next);
        state.worth(until)
    }

    /// Looks again at an answer that was [`Ended::Unsure`].
    pub(crate) fn settle(&self, until: Question) -> Ended {
        self.lock().worth(until)
    }

    /// It was not asked after all, or its answer says nothing of durability.
    pub(crate) fn withdraw(&self, question: Question) {
        self.lock().open.remove(&question);
    }

    /// The kernel has answered that data may be lost. Remembered durably when it returns, or told that it could not be.
    pub(crate) fn fail(&self, question: Question, why: &str) {
        let mut state = self.lock();
        state.open.remove(&question);
        if state.failed.is_some() {
            return;
        }
        state.failed = Some(why.to_owned());
        drop(state);
        // On a thread of its own: the disk that failed may hang as well, and the lane serves others.
        let (told, done) = mpsc::channel();
        let (shared, words) = (self.shared.clone(), why.to_owned());
        let record = move || {
            let outcome = match &mut *lock(&shared.kept) {
                Some(kept) => kept.set_flush_failed(Some(words)).map_err(|error| error.to_string()),
                None => Err("nothing is kept beside it".to_owned()),
            };
            // Whoever waited may have given up.
            let _ = told.send(outcome);
        };
        let outcome = match std::thread::Builder::new().name("flush-failed".into()).spawn(record) {
            Ok(_) => done.recv_timeout(RECORD_WITHIN).unwrap_or_else(|_| Err("its disk does not answer".to_owned())),
            Err(error) => Err(error.to_string()),
        };
        self.lock().news = Some(match outcome {
            Ok(()) => why.to_owned(),
            Err(reason) => format!("{why} (A RESTART WILL NOT KNOW OF IT: {reason})"),
        });
    }

    /// Somebody says that the failure was dealt with. True if there was one.
    ///
    /// # Errors
    /// It cannot be forgotten durably: nothing has changed then.
    pub(crate) fn clear(&self) -> std::io::Result<bool> {
        // In this order: what is being remembered at this moment is remembered first.
        let mut kept = lock(&self.shared.kept);
        if self.failed().is_none() {
            return Ok(false);
        }
        if let Some(kept) = &mut *kept {
            kept.set_flush_failed(None)?;
        }
        self.lock().failed = None;
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn worth(&self, until: Question) -> Ended {
        if self.failed.is_some() {
            Ended::Lost
        } else if self.open.first().is_some_and(|first| *first < until) {
            Ended::Unsure(until)
        } else {
            Ended::Durable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_beside_a_failure_is_none() {
        let flushes = Flushes::default();
        let (one, two, three) = (flushes.ask(), flushes.ask(), flushes.ask());
        let Ended::Unsure(until) = flushes.succeeded(two) else { panic!("the first one may be told of the loss") };
        assert_eq!(flushes.settle(until), Ended::Unsure(until));
        let late = flushes.ask();
        flushes.fail(one, "EIO");
        assert_eq!(flushes.settle(until), Ended::Lost);
        assert_eq!((flushes.succeeded(three), flushes.succeeded(late)), (Ended::Lost, Ended::Lost));
        assert!(flushes.failed().is_some() && flushes.take_news().is_some() && flushes.take_news().is_none());
        assert!(flushes.clear().unwrap() && !flushes.clear().unwrap());
        let again = flushes.ask();
        assert_eq!(flushes.succeeded(again), Ended::Durable);
    }

    #[test]
    fn whoever_asks_later_is_not_waited_for() {
        let flushes = Flushes::default();
        let (one, two) = (flushes.ask(), flushes.ask());
        let Ended::Unsure(until) = flushes.succeeded(two) else { panic!("the first one is open") };
        let later = flushes.ask();
        assert_eq!(flushes.succeeded(one), Ended::Unsure(Question(later.0 + 1)), "the later one may be told of a loss");
        assert_eq!(flushes.settle(until), Ended::Durable);
        flushes.withdraw(later);
    }
}
