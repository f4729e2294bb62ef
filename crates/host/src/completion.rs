//! How a foreign thread learns that its request is over.
//!
//! Two ways, one mechanism: a future for those who wait for one request, and a [`Completions`] queue for those who keep
//! many in flight and want them as they end.

use crate::abandon::Abandons;
use crate::{Buf, Outcome};
use interlock_host_core::{HeadId, LaneId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// One of the waits that [`Pending::wait`] is made of: long, so that it costs nothing.
const LONG: Duration = Duration::from_secs(60);

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

/// A queue of finished requests; any thread may wait on it. Clones share it.
///
/// Dropping the last of them **abandons** what has not ended, as dropping a [`Pending`] does.
#[derive(Clone, Default)]
pub struct Completions(Arc<Readers>);

/// Those who may read a queue, all together.
#[derive(Default)]
struct Readers {
    queue: QueueId,
    /// Through which lanes, and for which namespaces, requests were submitted whose ends go here; by the address of the log
    /// of their host, which is held.
    doors: Mutex<BTreeMap<(usize, LaneId), Door>>,
}

/// What may be under way through one lane.
struct Door {
    abandons: Arc<Abandons>,
    heads: BTreeSet<HeadId>,
}

impl Drop for Readers {
    fn drop(&mut self) {
        // Every request that has not ended holds the queue as well.
        if Arc::strong_count(&self.queue.0) == 1 {
            return;
        }
        let doors = std::mem::take(self.doors.get_mut().unwrap_or_else(PoisonError::into_inner));
        for ((_, lane), Door { abandons, heads }) in doors {
            abandons.queue(lane, &self.queue, heads);
        }
    }
}

/// A queue, for those who fill it.
#[derive(Clone, Default)]
pub(crate) struct QueueId(Arc<(Mutex<VecDeque<Completion>>, Condvar)>);

impl QueueId {
    fn push(&self, completion: Completion) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(completion);
        self.0.1.notify_one();
    }
}

impl Completions {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next finished request, if one is there.
    #[must_use]
    pub fn poll(&self) -> Option<Completion> {
        self.0.queue.0.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Waits for the next finished request, at most until `deadline`.
    #[must_use]
    pub fn wait_until(&self, deadline: Instant) -> Option<Completion> {
        let (queue, ready) = &*self.0.queue.0;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(completion) = queue.pop_front() {
                return Some(completion);
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO)?;
            queue = ready.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Requests are submitted on this lane whose ends go here.
    pub(crate) fn used_by(&self, abandons: &Arc<Abandons>, lane: LaneId, head: HeadId) {
        let mut doors = self.0.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = (Arc::as_ptr(abandons).addr(), lane);
        if let Some(known) = doors.get_mut(&door) {
            known.heads.insert(head);
            return;
        }
        // A host that is gone has nothing under way.
        doors.retain(|_, known| Arc::strong_count(&known.abandons) > 1);
        doors.insert(door, Door { abandons: Arc::clone(abandons), heads: BTreeSet::from([head]) });
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

/// Where the lane driver puts an answer. Whoever drops it unanswered has answered too: nobody knows what became of the
/// request, and its caller hears that instead of nothing.
pub(crate) struct Reply(Option<To>);

enum To {
    Queue(QueueId, u64),
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
    /// To a queue, under this token.
    pub(crate) fn queue(queue: &Completions, token: u64) -> Self {
        Self(Some(To::Queue(queue.0.queue.clone(), token)))
    }

    /// True if the answer goes to this queue.
    pub(crate) fn goes_to(&self, queue: &QueueId) -> bool {
        matches!(&self.0, Some(To::Queue(to, _)) if Arc::ptr_eq(&to.0, &queue.0))
    }

    pub(crate) fn send(mut self, outcome: Outcome, buf: Option<Buf>) {
        self.answer(outcome, buf);
    }

    fn answer(&mut self, outcome: Outcome, buf: Option<Buf>) {
        match self.0.take() {
            Some(To::Queue(queue, token)) => queue.push(Completion { token, outcome, buf }),
            Some(To::Future(cell)) => cell.answer(outcome, buf),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(Outcome::Indeterminate { until: None }, None);
    }
}

/// A request in flight. Await it, or [`wait`](Self::wait) for it on a thread of your own.
///
/// Dropping it **abandons** the request and does not cancel it: the driver keeps the buffer until nothing uses it any
/// more, a write may still take effect, its range is guarded until it was answered or fenced, and it is never retried.
/// Whatever is submitted after the drop, through any handle of the host, comes after it: a change of the same blocks waits.
#[must_use = "a request that nobody waits for is abandoned"]
pub struct Pending {
    cell: Arc<Cell>,
    abandon: Option<Box<dyn FnOnce() + Send>>,
}

impl Pending {
    pub(crate) fn new(start: impl FnOnce(Reply) -> Box<dyn FnOnce() + Send>) -> Self {
        let cell = Arc::new(Cell::default());
        let abandon = start(Reply(Some(To::Future(Arc::clone(&cell) as Arc<dyn Answer>))));
        Self { cell, abandon: Some(abandon) }
    }

    /// Waits for the end on this thread. The deadlines of the host bound the wait while its reactor runs, and a host
    /// that ends (in order, by a panic, with its reactor) ends its requests. To bound the wait by a time of your own, see
    /// [`Pending::wait_until`].
    pub fn wait(mut self) -> (Outcome, Option<Buf>) {
        loop {
            match self.wait_until(Instant::now() + LONG) {
                Ok(end) => return end,
                Err(still) => self = still,
            }
        }
    }

    /// Waits for the end on this thread, at most until `deadline`.
    ///
    /// # Errors
    /// Gives the request back if it has not ended: wait again, or drop it and so abandon it.
    pub fn wait_until(mut self, deadline: Instant) -> Result<(Outcome, Option<Buf>), Self> {
        let cell = Arc::clone(&self.cell);
        let mut state = cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *state, CellState::Taken) {
                CellState::Done(outcome, buf) => {
                    self.abandon = None;
                    return Ok((outcome, buf));
                }
                waiting => *state = waiting,
            }
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| *left > Duration::ZERO);
            let Some(left) = left else { return Err(self) };
            state = cell.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
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
        let Some(abandon) = self.abandon.take() else { return };
        // What has ended leaves nothing behind.
        let ended = matches!(&*self.cell.state.lock().unwrap_or_else(PoisonError::into_inner), CellState::Done(..));
        if !ended {
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
    fn what_nobody_answers_is_indeterminate() {
        let (waiting, reply, abandoned) = pending();
        drop(reply);
        assert_eq!(waiting.wait().0, Outcome::Indeterminate { until: None });
        assert!(!abandoned.load(Ordering::SeqCst), "it has ended: there is nothing to abandon");
        let queue = Completions::new();
        drop(Reply::queue(&queue, 9));
        let end = queue.poll().expect("dropped is answered");
        assert_eq!((end.token, end.outcome), (9, Outcome::Indeterminate { until: None }));
        Reply::queue(&queue, 10).send(Outcome::Ok, None);
        assert_eq!(queue.poll().expect("answered").outcome, Outcome::Ok);
        assert!(queue.poll().is_none(), "once");
    }

    #[test]
    fn a_wait_with_a_deadline_gives_the_request_back() {
        let (waiting, reply, abandoned) = pending();
        let Err(still) = waiting.wait_until(Instant::now()) else { panic!("nobody answered") };
        assert!(!abandoned.load(Ordering::SeqCst), "given back, not abandoned");
        reply.send(Outcome::Ok, None);
        assert_eq!(still.wait_until(Instant::now()).ok().expect("answered").0, Outcome::Ok);
    }

    #[test]
    fn a_queue_gives_up_at_its_deadline() {
        let queue = Completions::new();
        assert!(queue.wait_until(Instant::now()).is_none());
        Reply::queue(&queue, 7).send(Outcome::Ok, None);
        assert_eq!(queue.wait_until(Instant::now() + Duration::from_secs(5)).unwrap().token, 7);
    }
}
