//! The flushes of a file, over all lanes, and what of them outlives this process: the decisions are those of [`FlushLatch`].

use crate::kept::Kept;
use interlock_target_core::flush::FlushLatch;
pub(crate) use interlock_target_core::flush::{Ended, Question};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How long the answer to a flush that failed waits for the failure to be remembered durably.
const RECORD_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    latch: FlushLatch,
    /// Told to nobody yet.
    news: Option<String>,
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
        let state = Mutex::new(State { latch: FlushLatch::new(failed), news: None });
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
        self.lock().latch.failed().map(str::to_owned)
    }

    /// What there is to tell of a failure, once.
    pub(crate) fn take_news(&self) -> Option<String> {
        self.lock().news.take()
    }

    /// The kernel is asked.
    pub(crate) fn ask(&self) -> Question {
        self.lock().latch.ask()
    }

    /// The kernel has answered that everything is durable.
    pub(crate) fn succeeded(&self, question: Question) -> Ended {
        self.lock().latch.succeeded(question)
    }

    /// Looks again at an answer that was [`Ended::Unsure`].
    pub(crate) fn settle(&self, until: Question) -> Ended {
        self.lock().latch.settle(until)
    }

    /// It was not asked after all, or its answer says nothing of durability.
    pub(crate) fn withdraw(&self, question: Question) {
        self.lock().latch.withdraw(question);
    }

    /// The kernel has answered that data may be lost. Remembered durably when it returns, or told that it could not be.
    pub(crate) fn fail(&self, question: Question, why: &str) {
        if !self.lock().latch.fail(question, why) {
            return;
        }
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
        Ok(self.lock().latch.clear())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
