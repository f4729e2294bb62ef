//! One reactor: what it owns, and its loop.
//!
//! A turn of the loop takes everything that has been reported (completions, mail, commands, deadlines), tells the
//! services, then gives every service that heard something one [`crate::Service::turn`], then submits and waits in one
//! system call. A service that panics is taken out with everything that it owns; the others go on.

use crate::inbox::{Command, Inbox, Letters};
use crate::poller::{Done, Poller, Watcher};
use crate::pool::{Panicked, Reactor};
use crate::socket;
use crate::{Backend, Call, Cx, Event, Faults, Service, Verdict};
use interlock_base::{Instant, Key, Slab, Timers};
use socket2::Socket;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

pub(crate) type Factory = Box<dyn FnOnce(&mut Cx<'_>) -> Box<dyn Service> + Send>;
pub(crate) type LocalFactory = Box<dyn FnOnce(&mut Cx<'_>) -> Box<dyn Service>>;

/// Why the reactor wants to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// The deadline of a service.
    Service(Key),
    /// The end of an orderly close whose peer goes on sending.
    Linger(Key),
    /// Accepting failed for lack of something.
    Accept(Key),
    /// A send or a receive failed for lack of something.
    Memory(Key),
}

/// A socket, and who has it.
pub(crate) struct Source {
    /// `None` once the service has closed it in order.
    pub(crate) owner: Option<Key>,
    /// Shared with nobody but an [`crate::Aborter`] at work.
    pub(crate) socket: Arc<Socket>,
    pub(crate) role: Role,
    pub(crate) watch: Option<Key>,
    /// Poll bits to be told; not 0 exactly while it stands in `Core::ready`.
    pub(crate) bits: u32,
}

/// A connection whose abort was refused.
pub(crate) struct Refused {
    pub(crate) owner: Option<Key>,
    /// If another thread was at work on it, so that letting go of it was not its end.
    socket: Option<Arc<Socket>>,
    watch: Option<Key>,
}

/// Refused aborts that can be asked for again; of the oldest beyond that nothing is ever known.
const REFUSED_MAX: usize = 4096;

pub(crate) enum Role {
    Connecting { addr: SocketAddr },
    Stream(Stream),
    Listening { paused: bool },
    Lingering,
}

pub(crate) struct Stream {
    pub(crate) paused: bool,
    pub(crate) want_write: bool,
    /// The kernel has reported room since the last refusal.
    pub(crate) writable: bool,
    pub(crate) hung: bool,
    /// The peer has ended its side: there is an end of the stream to be read, and no edge will tell of it again.
    pub(crate) ended: bool,
    /// The error that a call has taken from the socket; the hangup names it again.
    pub(crate) error: Option<i32>,
}

impl Stream {
    pub(crate) const fn new() -> Self {
        Self { paused: false, want_write: false, writable: false, hung: false, ended: false, error: None }
    }
}

pub(crate) struct Entry {
    pub(crate) id: u64,
    service: Option<Box<dyn Service>>,
    pub(crate) mail: Arc<AtomicBool>,
    touched: bool,
    done: Vec<mpsc::Sender<()>>,
}

pub(crate) struct Core {
    pub(crate) poller: Poller,
    pub(crate) link: Reactor,
    pub(crate) sources: Slab<Source>,
    pub(crate) services: Slab<Entry>,
    ids: BTreeMap<u64, Key>,
    pub(crate) files: Slab<(Key, Arc<OwnedFd>)>,
    pub(crate) timers: Timers<Wait>,
    /// Sources with news.
    pub(crate) ready: Vec<Key>,
    /// Events that were made here and not by the kernel.
    pub(crate) pending: VecDeque<(Key, Event)>,
    /// Services to be given a turn.
    touched: Vec<Key>,
    /// Room for the next list that is worked through, so that none is allocated anew in each turn.
    pub(crate) spare: Vec<Key>,
    letters: Letters,
    pub(crate) leaving: Vec<Key>,
    pub(crate) spawned: Vec<(u64, LocalFactory)>,
    pub(crate) staging: Vec<u8>,
    pub(crate) staging_len: usize,
    pub(crate) lingering: usize,
    /// Connections whose abort was refused and that may still deliver, with what keeps them.
    pub(crate) refused: BTreeMap<Key, Refused>,
    /// Sends and receives so far.
    pub(crate) transfers: u64,
    spin: Duration,
    stopping: bool,
    done: Vec<Done>,
    pub(crate) faults: Option<Arc<dyn Faults>>,
}

/// How long the end of a reactor waits for file operations that the kernel still has.
const FILES_END_MAX: Duration = Duration::from_secs(5);

/// The longest single sleep; only a bound, nothing happens then.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

impl Core {
    /// With what `io_uring` was refused for, if that is why it does not run on one.
    pub(crate) fn new(
        link: Reactor,
        spin: Duration,
        staging_len: usize,
        faults: Option<Arc<dyn Faults>>,
        backend: Option<Backend>,
    ) -> io::Result<(Self, Option<io::Error>)> {
        let (poller, refused) = Poller::open(backend, link.inbox.bell())?;
        let core = Self {
            poller,
            link,
            sources: Slab::new(),
            services: Slab::new(),
            ids: BTreeMap::new(),
            files: Slab::new(),
            timers: Timers::new(),
            ready: Vec::new(),
            pending: VecDeque::new(),
            touched: Vec::new(),
            spare: Vec::new(),
            letters: Letters::default(),
            leaving: Vec::new(),
            spawned: Vec::new(),
            staging: Vec::new(),
            staging_len,
            lingering: 0,
            refused: BTreeMap::new(),
            transfers: 0,
            spin,
            stopping: false,
            done: Vec::new(),
            faults,
        };
        Ok((core, refused))
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.link.inbox
    }

    /// Runs until told to stop, or until the ring fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let result = self.turns();
        self.end();
        result
    }

    fn turns(&mut self) -> io::Result<()> {
        while !self.stopping {
            self.note_completions();
            self.read_inbox();
            for (id, factory) in std::mem::take(&mut self.spawned) {
                self.attach(id, factory);
            }
            self.expire();
            for _ in 0..self.pending.len() {
                let Some((service, event)) = self.pending.pop_front() else { break };
                self.tell(service, event);
            }
            self.dispatch_ready();
            let mut touched = std::mem::replace(&mut self.touched, std::mem::take(&mut self.spare));
            for service in touched.drain(..) {
                if let Some(entry) = self.services.get_mut(service) {
                    entry.touched = false;
                    self.invoke(service, |service, cx| service.turn(cx));
                }
            }
            self.spare = touched;
            for service in std::mem::take(&mut self.leaving) {
                self.detach(service);
            }
            self.wait()?;
        }
        Ok(())
    }

    /// Ends everything: services in reverse order of attachment, closing sockets, file operations.
    fn end(&mut self) {
        let ids: Vec<Key> = self.ids.values().rev().copied().collect();
        for service in ids {
            self.detach(service);
        }
        let mut letters = std::mem::take(&mut self.letters);
        self.inbox().close(&mut letters);
        for command in letters.commands.drain(..) {
            if let Command::Attach { id, .. } = command {
                self.link.shared.forget(id);
            }
        }
        for (id, _) in self.spawned.drain(..) {
            self.link.shared.forget(id);
        }
        // Sockets that close in order are left to the kernel, which delivers what they have queued.
        self.sources = Slab::new();
        let _ = self.poller.enter(None); // what fails here fails below too
        let until = crate::now() + FILES_END_MAX;
        while self.poller.files_in_flight() > 0 {
            let left = until.since(crate::now());
            if left.is_zero() || self.poller.enter(Some(left)).is_err() {
                break; // their buffers are never used again
            }
            self.note_completions();
        }
    }

    fn note_completions(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        self.poller.drain(&mut done);
        for done in done.drain(..) {
            match done {
                Done::Ready { watcher: Watcher::Bell, armed, .. } => {
                    if !armed {
                        // Only a ring gives watches up, and it takes every one.
                        let _ = self.poller.watch(self.link.inbox.bell(), Watcher::Bell);
                    }
                }
                Done::Ready { watcher: Watcher::Source(key), bits, armed } => self.note_ready(key, bits, armed),
                Done::File { owner, token, result, buf } => {
                    self.pending.push_back((owner, Event::Op { token, result, buf }));
                }
            }
        }
        self.done = done;
    }

    fn note_ready(&mut self, key: Key, bits: u32, armed: bool) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if !armed {
            source.watch = None;
            // A dead socket would report itself for ever.
            if bits & (libc::POLLERR | libc::POLLHUP) as u32 == 0 {
                let _ = self.watch(key); // as for the bell
            }
        }
        self.mark(key, bits);
    }

    /// Has `bits` told to the owner in the next round.
    pub(crate) fn mark(&mut self, key: Key, bits: u32) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if source.bits == 0 && bits != 0 {
            self.ready.push(key);
        }
        source.bits |= bits;
    }

    fn read_inbox(&mut self) {
        if self.inbox().is_empty() {
            return;
        }
        let mut letters = std::mem::take(&mut self.letters);
        self.inbox().take(&mut letters);
        for command in letters.commands.drain(..) {
            match command {
                Command::Attach { id, factory } => self.attach(id, factory),
                Command::Detach { id, done } => {
                    // Unknown: gone already, and dropping `done` says so.
                    if let Some(key) = self.ids.get(&id).copied() {
                        if let Some(entry) = self.services.get_mut(key) {
                            entry.done.push(done);
                        }
                        self.detach(key);
                    }
                }
                Command::Stop => self.stopping = true,
            }
        }
        for service in letters.mail.drain(..) {
            if let Some(entry) = self.services.get(service) {
                // Cleared first: mail that comes during the event is announced again.
                entry.mail.swap(false, Ordering::AcqRel);
                self.tell(service, Event::Mail);
            }
        }
        self.letters = letters;
    }

    fn expire(&mut self) {
        let now = crate::now();
        // Taken before anything is told: a service that asks for the past again must not keep the loop here.
        let due: Vec<Wait> = std::iter::from_fn(|| self.timers.expired(now)).collect();
        for why in due {
            match why {
                Wait::Service(service) => self.tell(service, Event::Deadline),
                Wait::Linger(key) => drop(self.forget_source(key)),
                Wait::Accept(key) => self.mark(key, libc::POLLIN as u32),
                Wait::Memory(key) => self.mark(key, (libc::POLLIN | libc::POLLOUT) as u32),
            }
        }
    }

    /// Delivers an event.
    pub(crate) fn tell(&mut self, service: Key, event: Event) {
        let Some(entry) = self.services.get_mut(service) else { return };
        if !entry.touched {
            entry.touched = true;
            self.touched.push(service);
        }
        self.invoke(service, |service, cx| service.handle(cx, event));
    }

    /// Runs a service, and takes it out if it panics.
    fn invoke(&mut self, key: Key, call: impl FnOnce(&mut dyn Service, &mut Cx<'_>)) {
        let Some(mut service) = self.services.get_mut(key).and_then(|entry| entry.service.take()) else { return };
        let result = catch_unwind(AssertUnwindSafe(|| call(&mut *service, &mut Cx::new(self, key))));
        match result {
            Ok(()) => {
                if let Some(entry) = self.services.get_mut(key) {
                    entry.service = Some(service);
                }
            }
            Err(panic) => {
                let message = words_of(&*panic);
                // What it says of that itself may panic as well, and is noted the same way.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| service.panicked(&message))) {
                    self.note_panic(key, &*panic);
                }
                self.note_panic(key, &*panic);
                self.drop_service(key, service);
                self.bury(key);
            }
        }
    }

    fn attach(&mut self, id: u64, factory: impl FnOnce(&mut Cx<'_>) -> Box<dyn Service>) {
        let entry = Entry { id, service: None, mail: Arc::default(), touched: false, done: Vec::new() };
        let key = self.services.insert(entry);
        self.ids.insert(id, key);
        match catch_unwind(AssertUnwindSafe(|| factory(&mut Cx::new(self, key)))) {
            Ok(service) => {
                if let Some(entry) = self.services.get_mut(key) {
                    entry.service = Some(service);
                }
                self.tell(key, Event::Attached);
            }
            Err(panic) => {
                self.note_panic(key, &*panic);
                self.bury(key);
            }
        }
    }

    fn detach(&mut self, key: Key) {
        self.invoke(key, |service, cx| service.handle(cx, Event::Detach));
        if let Some(service) = self.services.get_mut(key).and_then(|entry| entry.service.take()) {
            self.drop_service(key, service);
        }
        self.bury(key);
    }

    fn drop_service(&mut self, key: Key, service: Box<dyn Service>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(service))) {
            self.note_panic(key, &*panic);
        }
    }

    /// Ends everything that a service has left behind.
    fn bury(&mut self, key: Key) {
        let Some(entry) = self.services.remove(key) else { return };
        let mine: Vec<Key> = self.sources.iter().filter(|(_, s)| s.owner == Some(key)).map(|(key, _)| key).collect();
        for source in mine {
            // Nobody is left to be told of a refusal; the descriptor is closed with linger {1,0} in any case.
            let _ = self.abort_source(source);
        }
        self.refused.retain(|_, refused| refused.owner != Some(key));
        let mine: Vec<Key> = self.files.iter().filter(|(_, (of, _))| *of == key).map(|(key, _)| key).collect();
        for file in mine {
            self.files.remove(file);
        }
        self.poller.cancel_files(key);
        self.timers.stop(Wait::Service(key));
        self.ids.remove(&entry.id);
        self.link.shared.forget(entry.id);
        for done in entry.done {
            let _ = done.send(()); // whoever waited may have given up
        }
    }

    fn note_panic(&self, key: Key, panic: &(dyn Any + Send)) {
        let message = words_of(panic);
        let service = self.services.get(key).map_or(0, |entry| entry.id);
        self.link.shared.note_panic(Panicked { service: crate::ServiceId(service), message });
    }

    /// Takes a socket in and watches it.
    ///
    /// # Errors
    /// It cannot be watched, and is closed.
    pub(crate) fn add_source(&mut self, owner: Key, socket: impl Into<Arc<Socket>>, role: Role) -> io::Result<Key> {
        let socket = socket.into();
        let key = self.sources.insert(Source { owner: Some(owner), socket, role, watch: None, bits: 0 });
        let watched = self.watch(key);
        if watched.is_err() {
            self.sources.remove(key);
        }
        watched.map(|()| key)
    }

    /// As [`Core::add_source`] for a connection that has its owner already; one that cannot be watched is told dead.
    pub(crate) fn adopt_source(&mut self, owner: Key, socket: Arc<Socket>) -> Key {
        let role = Role::Stream(Stream::new());
        let key = self.sources.insert(Source { owner: Some(owner), socket, role, watch: None, bits: 0 });
        if let Err(error) = self.watch(key) {
            if let Some(Source { role: Role::Stream(stream), .. }) = self.sources.get_mut(key) {
                stream.error = error.raw_os_error();
            }
            self.mark(key, libc::POLLERR as u32);
        }
        key
    }

    fn watch(&mut self, key: Key) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(key) else { return Ok(()) };
        source.watch = Some(self.poller.watch(&source.socket, Watcher::Source(key))?);
        Ok(())
    }

    /// Takes a source out; what the kernel still reports about it meets nobody.
    pub(crate) fn forget_source(&mut self, key: Key) -> Option<Source> {
        let source = self.sources.remove(key)?;
        if let Some(watch) = source.watch {
            self.poller.unwatch(watch, &source.socket);
        }
        if matches!(source.role, Role::Lingering) {
            self.lingering -= 1;
        }
        self.timers.stop(Wait::Linger(key));
        self.timers.stop(Wait::Accept(key));
        self.timers.stop(Wait::Memory(key));
        Some(source)
    }

    /// Ends a connection at once, its send queue with it; or stops a listener. One for which that was refused before is
    /// tried again.
    pub(crate) fn abort_source(&mut self, key: Key) -> io::Result<()> {
        let mut one = match self.forget_source(key) {
            Some(Source { owner, socket, watch, .. }) => Refused { owner, socket: Some(socket), watch },
            None => match self.refused.remove(&key) {
                Some(refused) => refused,
                None => return Ok(()),
            },
        };
        let ended = self.end_connection(&mut one);
        if ended.is_err() {
            self.refused.insert(key, one);
            if self.refused.len() > REFUSED_MAX {
                self.refused.pop_first();
            }
        }
        ended
    }

    fn end_connection(&mut self, one: &mut Refused) -> io::Result<()> {
        let fault = match self.faults.as_ref().map(|faults| faults.decide(&Call::Abort)) {
            Some(Verdict::Fail(errno)) => Some(io::Error::from_raw_os_error(errno)),
            _ => None,
        };
        let mut refused = None;
        if let Some(socket) = one.socket.take() {
            // The watch in the ring holds a reference to the socket, so that closing the descriptor alone would do nothing
            // until the kernel has cancelled it. Disconnecting acts at once.
            if fault.is_none() {
                let Err(error) = socket::cut(&socket) else { return Ok(()) };
                refused = Some(error);
            }
            // linger {1,0}: the last reference resets the connection
            if let Err(shared) = Arc::try_unwrap(socket) {
                one.socket = Some(shared);
                let busy =
                    || io::Error::new(io::ErrorKind::ResourceBusy, "another thread is at work on the connection");
                return Err(fault.or(refused).unwrap_or_else(busy));
            }
        }
        if let Some(error) = fault {
            return Err(error);
        }
        let settled = one.watch.map_or(Ok(()), |watch| self.poller.settle(watch));
        settled.map_err(|error| match refused {
            Some(refused) => io::Error::new(error.kind(), format!("abort: {refused}; then {error}")),
            None => error,
        })
    }

    fn is_busy(&self) -> bool {
        self.stopping
            || !(self.ready.is_empty()
                && self.pending.is_empty()
                && self.spawned.is_empty()
                && self.leaving.is_empty()
                && self.touched.is_empty()
                && self.inbox().is_empty())
    }

    /// Submits, and waits for whatever comes first.
    fn wait(&mut self) -> io::Result<()> {
        if self.is_busy() {
            if self.poller.has_submissions() || self.poller.has_news() {
                self.poller.enter(None)?;
            }
            return Ok(());
        }
        let until = self.timers.next().map(|next| next.at);
        if !self.spin.is_zero() && self.spin_until(until)? {
            return Ok(());
        }
        let left = until.map_or(SLEEP_MAX, |at| at.since(crate::now()).min(SLEEP_MAX));
        if left.is_zero() || !self.inbox().fall_asleep() {
            return self.poller.enter(None);
        }
        let result = self.poller.enter(Some(left));
        self.inbox().wake_up();
        result
    }

    /// Looks for news without sleeping, for as long as was configured. True if there are some.
    fn spin_until(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        if self.poller.has_submissions() {
            self.poller.enter(None)?;
        }
        let end = crate::now() + self.spin;
        let end = deadline.map_or(end, |at| at.min(end));
        loop {
            // Deferred completions appear only inside an enter; the ring's flag says when one is worth it.
            if self.poller.has_news() {
                self.poller.enter(None)?;
                return Ok(true);
            }
            if !self.inbox().is_empty() {
                return Ok(true);
            }
            if crate::now() >= end {
                return Ok(false);
            }
            for _ in 0..16 {
                std::hint::spin_loop();
            }
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without words".to_owned(),
    }
}
