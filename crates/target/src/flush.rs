//! The flushes of a file, over all lanes, and what of them outlives this process: the decisions are those of [`FlushLatch`].

use crate::kept::Kept;
use interlock_target_core::flush::FlushLatch;
pub(crate) use interlock_target_core::flush::{Ended, Question};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// How long the answer to a flush that failed waits for the failure to be remembered durably.
const RECORD_WITHIN: Duration = Duration::from_secs(1);

/// How long whoever repairs a disk waits for the one that keeps the failure.
const CLEAR_WITHIN: Duration = Duration::from_secs(5);

/// Whom a failure is told to.
type Teller = Box<dyn Fn(String) + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    latch: FlushLatch,
    /// Until when those that failed wait for that to be remembered.
    recording: Option<Instant>,
    /// That it takes too long was told.
    told_late: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Locked while it is written, which takes as long as its disk does.
    kept: Mutex<Option<Kept>>,
    teller: Mutex<Option<Teller>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl Shared {
    fn tell(&self, words: String) {
        if let Some(teller) = &*lock(&self.teller) {
            teller(words);
        }
    }
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
        let state = Mutex::new(State { latch: FlushLatch::new(failed), ..State::default() });
        Self { shared: Arc::new(Shared { state, kept: Mutex::new(kept), teller: Mutex::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// What is kept beside the file.
    pub(crate) fn kept<T>(&self, read: impl FnOnce(&Kept) -> T) -> Option<T> {
        lock(&self.shared.kept).as_ref().map(read)
    }

    /// Calls `teller` with the reason when a flush fails and none had.
    pub(crate) fn set_teller(&self, teller: impl Fn(String) + Send + Sync + 'static) {
        *lock(&self.shared.teller) = Some(Box::new(teller));
    }

    /// Why one has failed, until [`Flushes::clear`].
    pub(crate) fn failed(&self) -> Option<String> {
        self.lock().latch.failed().map(str::to_owned)
    }

    /// How a flush ends that need not be begun, because an earlier one has failed.
    pub(crate) fn refuse(&self) -> Option<Ended> {
        let until = {
            let mut state = self.lock();
            state.latch.failed()?;
            let question = state.latch.ask();
            state.latch.withdraw(question);
            question
        };
        Some(self.settle(until))
    }

    /// The kernel is asked.
    pub(crate) fn ask(&self) -> Question {
        self.lock().latch.ask()
    }

    /// The kernel has answered that everything is durable.
    pub(crate) fn succeeded(&self, question: Question) -> Ended {
        let ended = self.lock().latch.succeeded(question);
        if ended == Ended::Lost { self.settle(question) } else { ended }
    }

    /// Looks again at an answer that was [`Ended::Unsure`]. It is that also while a failure is being remembered.
    pub(crate) fn settle(&self, until: Question) -> Ended {
        let mut state = self.lock();
        let ended = state.latch.settle(until);
        match state.recording.filter(|_| ended == Ended::Lost) {
            Some(by) if Instant::now() < by => return Ended::Unsure(until),
            Some(_) if !state.told_late => {
                let words = not_remembered(state.latch.failed().unwrap_or_default(), "its disk does not answer");
                state.told_late = true;
                drop(state);
                self.shared.tell(words);
            }
            _ => {}
        }
        ended
    }

    /// It was not asked after all, or its answer says nothing of durability.
    pub(crate) fn withdraw(&self, question: Question) {
        self.lock().latch.withdraw(question);
    }

    /// The kernel has answered that data may be lost. Answers may go out when that is remembered durably, or could not be in
    /// time ([`Flushes::settle`]).
    pub(crate) fn fail(&self, question: Question, why: &str) -> Ended {
        let mut state = self.lock();
        if !state.latch.fail(question, why) {
            drop(state);
            return self.settle(question);
        }
        state.recording = Some(Instant::now() + RECORD_WITHIN);
        state.told_late = false;
        drop(state);
        // On a thread of its own: the disk that failed may hang as well, and the lane serves others.
        let (shared, words) = (self.shared.clone(), why.to_owned());
        let spawned = std::thread::Builder::new().name("flush-failed".into()).spawn(move || {
            let outcome = match &mut *lock(&shared.kept) {
                Some(kept) => kept.set_flush_failed(Some(words.clone())).map_err(|error| error.to_string()),
                None => Err("nothing is kept beside it".to_owned()),
            };
            recorded(&shared, &words, outcome);
        });
        if let Err(error) = spawned {
            recorded(&self.shared, why, Err(error.to_string()));
        }
        self.settle(question)
    }

    /// Somebody says that the failure was dealt with. True if there was one.
    ///
    /// # Errors
    /// It cannot be forgotten durably, or what keeps it does not answer in time: nothing has changed then.
    pub(crate) fn clear(&self) -> io::Result<bool> {
        // In this order: what is being remembered at this moment is remembered first.
        let mut kept = lock_within(&self.shared.kept, CLEAR_WITHIN).ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, "the disk that keeps the failed flush does not answer")
        })?;
        if self.failed().is_none() {
            return Ok(false);
        }
        if let Some(kept) = &mut *kept {
            kept.set_flush_failed(None)?;
        }
        Ok(self.lock().latch.clear())
    }
}

/// A failure is remembered, or cannot be: those that wait for it may be answered, and it is told.
fn recorded(shared: &Shared, why: &str, outcome: Result<(), String>) {
    let mut state = lock(&shared.state);
    state.recording = None;
    drop(state);
    shared.tell(match outcome {
        Ok(()) => why.to_owned(),
        Err(reason) => not_remembered(why, &reason),
    });
}

fn not_remembered(why: &str, reason: &str) -> String {
    format!("{why} (A RESTART WILL NOT KNOW OF IT: {reason})")
}

/// Locks, unless somebody else has it for that long.
fn lock_within<T>(mutex: &Mutex<T>, within: Duration) -> Option<MutexGuard<'_, T>> {
    let deadline = Instant::now() + within;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(within / 500),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks again until it is known; the record is written by another thread.
    fn known(flushes: &Flushes, until: Question) -> Ended {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match flushes.settle(until) {
                Ended::Unsure(_) if Instant::now() < deadline => std::thread::yield_now(),
                ended => return ended,
            }
        }
    }

    fn told(flushes: &Flushes) -> Arc<Mutex<Vec<String>>> {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let into = told.clone();
        flushes.set_teller(move |words| into.lock().unwrap().push(words));
        told
    }

    #[test]
    fn a_failure_is_told_once_and_counts_until_it_is_cleared() {
        let flushes = Flushes::default();
        let told = told(&flushes);
        let (one, two) = (flushes.ask(), flushes.ask());
        let Ended::Unsure(until) = flushes.succeeded(two) else { panic!("the first one may be told of the loss") };
        flushes.fail(one, "EIO");
        assert_eq!(known(&flushes, until), Ended::Lost);
        assert_eq!((flushes.failed().as_deref(), flushes.refuse()), (Some("EIO"), Some(Ended::Lost)));
        let again = flushes.ask();
        assert_eq!(flushes.succeeded(again), Ended::Lost);
        assert!(flushes.clear().unwrap() && !flushes.clear().unwrap());
        let again = flushes.ask();
        assert_eq!((flushes.succeeded(again), flushes.refuse()), (Ended::Durable, None));
        assert_eq!(told.lock().unwrap().len(), 1);
    }

    #[test]
    fn nobody_is_answered_before_the_failure_is_remembered_or_that_took_too_long() {
        let flushes = Flushes::default();
        let told = told(&flushes);
        let (one, two) = (flushes.ask(), flushes.ask());
        // Its disk hangs.
        let hangs = lock(&flushes.shared.kept);
        let begun = Instant::now();
        let Ended::Unsure(until) = flushes.fail(one, "EIO") else { panic!("nothing is remembered yet") };
        assert!(matches!(flushes.fail(two, "EIO"), Ended::Unsure(_)), "nor for the second one that failed");
        assert!(matches!(flushes.refuse(), Some(Ended::Unsure(_))), "nor for those that come then");
        assert!(begun.elapsed() < RECORD_WITHIN, "and the lane has not waited for it");
        assert_eq!(known(&flushes, until), Ended::Lost);
        assert!(begun.elapsed() >= RECORD_WITHIN && told.lock().unwrap()[0].contains("does not answer"));
        let error = flushes.clear().unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && flushes.failed().is_some());
        drop(hangs);
        assert!(flushes.clear().unwrap());
    }
}
