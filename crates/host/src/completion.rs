//! How a foreign thread learns that its request is over.
//!
//! Two ways, one mechanism: a future for those who wait for one request, and a [`Completions`] queue for those who keep
//! many in flight and want them as they end.

use crate::{Buf, Outcome};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// One finished request.
#[derive(Debug)]
pub struct Completion {
    /// As given at submission.
    pub token: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The buffer, given back.
    pub buf: Option<Buf>,
}

/// A queue of finished requests; any thread may wait on it.
#[derive(Clone, Default)]
pub struct Completions(Arc<(Mutex<VecDeque<Completion>>, Condvar)>);

impl Completions {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next finished request, if one is there.
    #[must_use]
    pub fn poll(&self) -> Option<Completion> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Waits for the next finished request, at most until `deadline`.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant) -> Option<Completion> {
        let (queue, ready) = &*self.0;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(completion) = queue.pop_front() {
                return Some(completion);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO)?;
            queue = ready.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, completion: Completion) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(completion);
        self.0.1.notify_one();
    }
}

#[derive(Default)]
struct Cell {
    state: Mutex<CellState>,
    ready: Condvar,
}

#[derive(Default)]
enum CellState {
    #[default]
    Waiting,
    Polled(Waker),
    Done(Outcome, Option<Buf>),
    Taken,
}

/// Where the lane driver puts an answer.
pub(crate) enum Reply {
    Queue(Completions, u64),
    Future(Arc<dyn Answer>),
}

/// The side of a future that the lane driver sees.
pub(crate) trait Answer: Send + Sync {
    fn answer(&self, outcome: Outcome, buf: Option<Buf>);
}

impl Answer for Cell {
    fn answer(&self, outcome: Outcome, buf: Option<Buf>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let CellState::Polled(waker) = std::mem::replace(&mut *state, CellState::Done(outcome, buf)) {
            waker.wake();
        }
        self.ready.notify_all();
    }
}

impl Reply {
    pub(crate) fn send(self, outcome: Outcome, buf: Option<Buf>) {
        match self {
            Self::Queue(queue, token) => queue.push(Completion { token, outcome, buf }),
            Self::Future(cell) => cell.answer(outcome, buf),
        }
    }
}

/// A request in flight. Await it, or [`wait`](Self::wait) for it on a thread of your own.
///
/// Dropping it **abandons** the request and does not cancel it: the driver keeps the buffer until nothing uses it any
/// more, a write may still take effect, its range is guarded until it was answered or fenced, and it is never retried.
#[must_use = "a request that nobody waits for is abandoned"]
pub struct Pending {
    cell: Arc<Cell>,
    abandon: Option<Box<dyn FnOnce() + Send>>,
}

impl Pending {
    pub(crate) fn new(start: impl FnOnce(Reply) -> Box<dyn FnOnce() + Send>) -> Self {
        let cell = Arc::new(Cell::default());
        let abandon = start(Reply::Future(Arc::clone(&cell) as Arc<dyn Answer>));
        Self { cell, abandon: Some(abandon) }
    }

    /// Waits for the end on this thread. The lane's own deadlines bound the wait.
    pub fn wait(mut self) -> (Outcome, Option<Buf>) {
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if matches!(*state, CellState::Done(..)) {
                break;
            }
            state = self.cell.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let CellState::Done(outcome, buf) = std::mem::replace(&mut *state, CellState::Taken) else {
            unreachable!("the loop ends with an answer")
        };
        drop(state);
        self.abandon = None;
        (outcome, buf)
    }
}

impl Future for Pending {
    type Output = (Outcome, Option<Buf>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let cell = Arc::clone(&self.cell);
        let mut state = cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, CellState::Taken) {
            CellState::Done(outcome, buf) => {
                self.abandon = None;
                Poll::Ready((outcome, buf))
            }
            CellState::Waiting | CellState::Polled(_) => {
                *state = CellState::Polled(context.waker().clone());
                Poll::Pending
            }
            CellState::Taken => panic!("a request was polled after it had ended"),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(abandon) = self.abandon.take() {
            abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn pending() -> (Pending, Reply, Arc<AtomicBool>) {
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut taken = None;
        let flag = Arc::clone(&abandoned);
        let pending = Pending::new(|reply| {
            taken = Some(reply);
            Box::new(move || flag.store(true, Ordering::SeqCst))
        });
        (pending, taken.expect("`new` calls it"), abandoned)
    }

    #[test]
    fn dropping_abandons_and_waiting_does_not() {
        let (dropped, _reply, abandoned) = pending();
        drop(dropped);
        assert!(abandoned.load(Ordering::SeqCst));
        let (waited, reply, abandoned) = pending();
        reply.send(Outcome::Ok, None);
        assert_eq!(waited.wait().0, Outcome::Ok);
        assert!(!abandoned.load(Ordering::SeqCst));
    }

    #[test]
    fn an_answer_wakes_whoever_waits() {
        let (waiting, reply, _) = pending();
        let thread = std::thread::spawn(move || waiting.wait().0);
        reply.send(Outcome::OutcomeUnknown, None);
        assert_eq!(thread.join().unwrap(), Outcome::OutcomeUnknown);
    }

    #[test]
    fn a_queue_gives_up_at_its_deadline() {
        let queue = Completions::new();
        assert!(queue.wait_until(Instant::now()).is_none());
        Reply::Queue(queue.clone(), 7).send(Outcome::Ok, None);
        assert_eq!(queue.wait_until(Instant::now() + Duration::from_secs(5)).unwrap().token, 7);
    }
}
