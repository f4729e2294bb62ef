//! Reactors are made by the program.
//!
//! A library that starts threads of its own cannot share them. Here the program makes one [`Pool`], and everything
//! that does I/O attaches to it; the pool knows who is attached, in which order, and ends them in reverse.

use crate::core::Core;
use crate::inbox::{Command, Inbox};
use crate::{Backend, Cx, Faults, Service, ServiceId, backend};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a pool is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Threads, at least 1.
    pub reactors: usize,
    /// How long a reactor looks for news before it sleeps. More costs processor time while idle, less costs latency:
    /// 30 us was measured to be 2 to 7 times faster than 0 at low queue depths, and no better beyond. 0 in tests.
    pub spin: Duration,
    /// Staging bytes per reactor: the most that one receive takes before it is sorted into place.
    pub staging: usize,
    /// Names the threads: `name-0`, `name-1`, ... (the kernel shows 15 bytes).
    pub name: String,
    /// What the reactors wait with. `None`: what [`Backend::VARIABLE`] says in the environment, else `io_uring`, and epoll
    /// with a warning where the kernel refuses that.
    pub backend: Option<Backend>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            reactors: 1,
            spin: Duration::from_micros(30),
            staging: 256 << 10,
            name: "reactor".to_owned(),
            backend: None,
        }
    }
}

/// Threads that run services. Dropping it shuts it down as [`Pool::shutdown`] does, within [`Pool::DROP_WITHIN`], and
/// panics if that failed (unless the thread is panicking already): a service's panic is never lost.
#[derive(Debug)]
pub struct Pool {
    reactors: Vec<Reactor>,
    threads: Vec<Thread>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Thread {
    name: String,
    handle: JoinHandle<io::Result<()>>,
    /// Disconnected when the thread is over.
    over: mpsc::Receiver<()>,
}

/// A handle to one reactor, from any thread.
#[derive(Clone)]
pub struct Reactor {
    pub(crate) index: usize,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) shared: Arc<Shared>,
}

/// What the threads of a pool have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    next: AtomicU64,
    backend: OnceLock<Backend>,
    /// Why it is not `io_uring`, if nobody has asked for that.
    refused: OnceLock<String>,
    /// Which reactor has which service.
    services: Mutex<BTreeMap<u64, usize>>,
    panics: Mutex<Vec<Panicked>>,
}

impl Shared {
    pub(crate) fn register(&self, reactor: usize) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.services.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reactor);
        id
    }

    pub(crate) fn forget(&self, id: u64) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn last(&self) -> Option<(u64, usize)> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.last_key_value().map(|(id, reactor)| (*id, *reactor))
    }

    pub(crate) fn note_panic(&self, panic: Panicked) {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).push(panic);
    }
}

impl Pool {
    /// How long a drop waits.
    pub const DROP_WITHIN: Duration = Duration::from_secs(10);

    /// Starts the threads.
    ///
    /// # Errors
    /// The backend that was asked for is refused (the error says what to change), or no thread can be made.
    pub fn new(config: PoolConfig) -> io::Result<Self> {
        Self::make(config, None)
    }

    /// As [`Pool::new`], with somebody at the boundary to the kernel who decides about each system call. For tests.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_faults(config: PoolConfig, faults: Arc<dyn Faults>) -> io::Result<Self> {
        Self::make(config, Some(faults))
    }

    fn make(config: PoolConfig, faults: Option<Arc<dyn Faults>>) -> io::Result<Self> {
        let mut pool = Self { reactors: Vec::new(), threads: Vec::new(), shared: Arc::default() };
        let mut backend = config.backend.map_or_else(Backend::asked, |backend| Ok(Some(backend)))?;
        for index in 0..config.reactors.max(1) {
            let reactor = Reactor { index, inbox: Arc::new(Inbox::new()?), shared: pool.shared.clone() };
            let name = format!("{}-{index}", config.name);
            let (ready, made) = mpsc::channel();
            let (alive, over) = mpsc::channel::<()>();
            let (link, spin, staging) = (reactor.clone(), config.spin, config.staging.max(4096));
            let faults = faults.clone();
            // The ring belongs to the thread that makes it.
            let handle = std::thread::Builder::new().name(name.clone()).spawn(move || {
                let _alive = alive;
                let mut core = match Core::new(link, spin, staging, faults, backend) {
                    Ok((core, refused)) => {
                        let _ = ready.send(Ok((core.poller.backend(), refused)));
                        core
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error)); // `new` is waiting for it
                        return Ok(());
                    }
                };
                core.run()
            })?;
            pool.threads.push(Thread { name, handle, over });
            let made = made.recv().unwrap_or_else(|_| Err(io::Error::other("a reactor ended before it began")));
            let (chosen, refused) = made?;
            if let Some(refused) = refused {
                backend::warn(&refused);
                pool.shared.refused.get_or_init(|| refused.to_string());
            }
            // What the first one got, all get.
            backend = Some(*pool.shared.backend.get_or_init(|| chosen));
            pool.reactors.push(reactor);
        }
        Ok(pool)
    }

    /// What its reactors wait with, and why that is not `io_uring` although nobody asked for epoll.
    #[must_use]
    pub fn backend(&self) -> (Backend, Option<&str>) {
        (self.reactors[0].backend(), self.shared.refused.get().map(String::as_str))
    }

    /// How many reactors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.reactors.len()
    }

    /// Never: a pool has at least one reactor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reactors.is_empty()
    }

    /// One of the reactors; numbers beyond the last begin again at the first.
    #[must_use]
    pub fn reactor(&self, index: usize) -> Reactor {
        self.reactors[index % self.reactors.len()].clone()
    }

    /// All reactors.
    #[must_use]
    pub fn reactors(&self) -> &[Reactor] {
        &self.reactors
    }

    /// The services that have panicked so far. They are gone; the others go on.
    #[must_use]
    pub fn panicked(&self) -> Vec<Panicked> {
        self.shared.panics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Detaches every service, the last attached first, over all reactors, each before the next; then ends the
    /// threads. No service may be attached meanwhile by another thread.
    ///
    /// # Errors
    /// A service has panicked, at any time; a ring has failed; or a reactor did not answer in time: its thread is left
    /// behind, with whatever it is stuck in.
    pub fn shutdown(mut self, within: Duration) -> Result<(), ShutdownError> {
        self.end(within)
    }

    fn end(&mut self, within: Duration) -> Result<(), ShutdownError> {
        let until = crate::now() + within;
        let left = || until.since(crate::now());
        while let Some((id, reactor)) = self.shared.last() {
            // Half of what is left for each: one that is stuck leaves time for the others.
            // The end of a stuck reactor is told below.
            let _ = self.reactors[reactor].detach(ServiceId(id)).wait(left() / 2);
            // A service of a reactor that has ended is gone without having been forgotten.
            self.shared.forget(id);
        }
        for reactor in &self.reactors {
            reactor.inbox.send(Command::Stop);
        }
        let mut error = ShutdownError::default();
        for thread in self.threads.drain(..) {
            if thread.over.recv_timeout(left()) == Err(mpsc::RecvTimeoutError::Timeout) {
                error.stuck.push(thread.name);
                continue;
            }
            match thread.handle.join() {
                Ok(Ok(())) => {}
                Ok(Err(failed)) => error.failed.push(format!("{}: {failed}", thread.name)),
                Err(_) => error.failed.push(format!("{}: the reactor itself panicked", thread.name)),
            }
        }
        error.panicked = std::mem::take(&mut *self.shared.panics.lock().unwrap_or_else(PoisonError::into_inner));
        if error == ShutdownError::default() { Ok(()) } else { Err(error) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        if let Err(error) = self.end(Self::DROP_WITHIN)
            && !std::thread::panicking()
        {
            panic!("{error}");
        }
    }
}

impl Reactor {
    /// Which one of its pool.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What it waits with.
    #[must_use]
    pub fn backend(&self) -> Backend {
        *self.shared.backend.get().expect("a pool gives its reactors away when they are made")
    }

    /// Attaches a service. The factory runs on the reactor, so that the service need not be `Send`; it may connect,
    /// listen and take its [`crate::Waker`] already.
    ///
    /// # Errors
    /// The reactor has ended.
    pub fn attach(
        &self,
        factory: impl FnOnce(&mut Cx<'_>) -> Box<dyn Service> + Send + 'static,
    ) -> Result<ServiceId, Stopped> {
        let id = self.shared.register(self.index);
        if self.inbox.send(Command::Attach { id, factory: Box::new(factory) }) {
            Ok(ServiceId(id))
        } else {
            self.shared.forget(id);
            Err(Stopped)
        }
    }

    /// Detaches a service of this reactor: it gets [`crate::Event::Detach`] and is dropped; its sockets are aborted,
    /// its files closed. Nothing happens if it is gone already.
    pub fn detach(&self, id: ServiceId) -> Detaching {
        let (done, wait) = mpsc::channel();
        self.inbox.send(Command::Detach { id: id.0, done });
        Detaching(wait)
    }
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reactor({})", self.index)
    }
}

/// A detachment under way. Dropping it does not take it back.
#[derive(Debug)]
pub struct Detaching(mpsc::Receiver<()>);

impl Detaching {
    /// Waits until the service is gone. Not from a service of the same reactor, which would wait for itself.
    ///
    /// # Errors
    /// It is not gone yet.
    pub fn wait(&self, within: Duration) -> Result<(), NotDetached> {
        match self.0.recv_timeout(within) {
            Err(mpsc::RecvTimeoutError::Timeout) => Err(NotDetached),
            // Disconnected: gone already, or with its reactor.
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

/// The reactor has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reactor has ended: its pool was shut down, or its ring failed")
    }
}

impl std::error::Error for Stopped {}

/// A service was not detached in time: its reactor is stuck in some service's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotDetached;

impl fmt::Display for NotDetached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service was not detached in time: its reactor is stuck in a call of some service")
    }
}

impl std::error::Error for NotDetached {}

/// A service that panicked. Its sockets were aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    /// Which.
    pub service: ServiceId,
    /// The words of the panic.
    pub message: String,
}

/// What went wrong until a pool ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownError {
    /// Services that panicked.
    pub panicked: Vec<Panicked>,
    /// Reactors (by thread name) whose ring failed, and how.
    pub failed: Vec<String>,
    /// Reactors (by thread name) that did not end in time; their threads are left behind.
    pub stuck: Vec<String>,
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.panicked.iter().map(|p| format!("service {} panicked: {}", p.service.0, p.message)));
        parts.extend(self.failed.iter().map(|failed| format!("reactor failed: {failed}")));
        parts.extend(self.stuck.iter().map(|name| format!("reactor {name} did not end in time")));
        f.write_str(&parts.join("; "))
    }
}

impl std::error::Error for ShutdownError {}
