//! The door for services of the same reactor: no thread crossing, no lock, no allocation on the steady path.
//!
//! A block front end or a load generator that runs on a lane's reactor submits straight into the lane and finds its
//! completions in a queue of its own, after a wake-up of its own service.

use crate::lane::LaneDriver;
use crate::panic::{Ending, Sentry};
use crate::{Buf, Completion, Outcome};
use interlock_host_core::{HeadId, LaneId, Op, Request, Shape};
use interlock_ring::{Cx, Waker};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Names one lane of one host in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) host: u64,
    pub(crate) lane: LaneId,
}

/// A lane of this thread, and what a panic of it ends.
struct Found {
    driver: Weak<RefCell<LaneDriver>>,
    ending: Arc<Ending>,
}

thread_local! {
    /// The lanes that run on this thread.
    static LANES: RefCell<BTreeMap<LaneKey, Found>> = const { RefCell::new(BTreeMap::new()) };
}

pub(crate) fn register(key: LaneKey, driver: &Rc<RefCell<LaneDriver>>, ending: &Arc<Ending>) {
    let found = Found { driver: Rc::downgrade(driver), ending: Arc::clone(ending) };
    LANES.with_borrow_mut(|lanes| lanes.insert(key, found));
}

pub(crate) fn unregister(key: LaneKey) {
    LANES.with_borrow_mut(|lanes| lanes.remove(&key));
}

fn find(host: u64) -> Option<(Rc<RefCell<LaneDriver>>, Arc<Ending>)> {
    LANES.with_borrow(|lanes| {
        let (_, found) = lanes.iter().find(|(key, _)| key.host == host)?;
        Some((found.driver.upgrade()?, Arc::clone(&found.ending)))
    })
}

type Queue = Rc<RefCell<VecDeque<Completion>>>;

/// Where a local answer goes.
pub(crate) struct LocalReply {
    queue: Queue,
    waker: Rc<Waker>,
    token: u64,
}

impl LocalReply {
    pub(crate) fn send(self, outcome: Outcome, buf: Option<Buf>) {
        let mut queue = self.queue.borrow_mut();
        queue.push_back(Completion { token: self.token, outcome, buf });
        if queue.len() == 1 {
            self.waker.wake();
        }
    }
}

/// A namespace, for a service on the reactor of one of the host's lanes. Get one with
/// [`Namespace::local`](crate::Namespace::local).
///
/// Completions arrive in a queue; the service that opened the door gets `Event::Mail` when it is no longer empty.
///
/// ```no_run
/// use interlock_host::{LocalNamespace, Namespace, Op};
/// use interlock_ring::{Buf, Cx, Event, Service};
///
/// /// Reads one block after the other for as long as it is attached.
/// struct Reader(LocalNamespace, u64);
///
/// impl Reader {
///     fn next(&mut self, cx: &Cx<'_>, buf: Buf) {
///         self.1 = (self.1 + 1) % self.0.shape().blocks;
///         self.0.submit(cx, Op::Read, self.1, 1, Some(buf), self.1);
///     }
/// }
///
/// impl Service for Reader {
///     fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
///         match event {
///             Event::Attached => self.next(cx, Buf::zeroed(self.0.shape().block_size as usize)),
///             Event::Mail => {
///                 while let Some(completion) = self.0.poll() {
///                     self.next(cx, completion.buf.expect("the buffer comes back"));
///                 }
///             }
///             _ => {}
///         }
///     }
/// }
/// ```
pub struct LocalNamespace {
    driver: Rc<RefCell<LaneDriver>>,
    ending: Arc<Ending>,
    head: HeadId,
    shape: Shape,
    queue: Queue,
    waker: Rc<Waker>,
}

impl LocalNamespace {
    pub(crate) fn open(cx: &Cx<'_>, host: u64, head: HeadId, shape: Shape) -> Option<Self> {
        let (driver, ending) = find(host)?;
        Some(Self { driver, ending, head, shape, queue: Queue::default(), waker: Rc::new(cx.waker()) })
    }

    /// What it looks like.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Submits one request. `buf` must be exactly `nlb` blocks for reads, compares and writes and absent otherwise; for a read the
    /// caller must hold no other clone of it. The answer comes as a [`Completion`] with `token`, always exactly once.
    pub fn submit(&self, cx: &Cx<'_>, op: Op, slba: u64, nlb: u32, buf: Option<Buf>, token: u64) {
        let request = Request { head: self.head, op, slba, nlb, data: None };
        let reply = LocalReply { queue: Rc::clone(&self.queue), waker: Rc::clone(&self.waker), token };
        let sentry = Sentry::new(&self.ending);
        self.driver.borrow_mut().submit_local(cx.now(), request, buf, reply);
        sentry.leave();
    }

    /// Gives up everything that is not answered: nobody waits for it any more. It is not cancelled: a write may still take
    /// effect, its range is guarded until it was answered or fenced, and it is never retried. Dropping the door does the
    /// same. A walk over all requests of the lane.
    pub fn abandon(&self) {
        let sentry = Sentry::new(&self.ending);
        self.driver.borrow_mut().abandon_local(interlock_ring::now(), |reply| Rc::ptr_eq(&reply.queue, &self.queue));
        sentry.leave();
    }

    /// The next finished request.
    pub fn poll(&self) -> Option<Completion> {
        self.queue.borrow_mut().pop_front()
    }
}

impl Drop for LocalNamespace {
    fn drop(&mut self) {
        self.abandon();
    }
}
