//! Waiting with epoll, where `io_uring` is forbidden.
//!
//! Containers' seccomp profiles and careful administrators forbid `io_uring`; the data must be as safe there, only slower.
//! Sockets are watched by one edge-triggered registration each, which reports what a multishot poll of a ring reports. It
//! holds no reference to the socket, so an abort needs nothing from it. Files go to [`Files`].
//!
//! Times are those of `epoll_pwait`: a sleep ends up to a millisecond late. `epoll_pwait2` would be exact, and is missing
//! from the very profiles for which this is written.

use super::files::Files;
use super::{BELL_BITS, Done, Watcher};
use crate::file::{FileOp, StartBy};
use interlock_base::{Key, Slab};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// News taken in one call; the rest comes with the next.
const EVENTS: usize = 256;

/// The registration of the eventfd with which file threads ring.
const FILES: u64 = u64::MAX;

pub(crate) struct Epoll {
    fd: OwnedFd,
    watches: Slab<Watcher>,
    files: Files,
    events: Vec<Event>,
    calls: u64,
    /// What was taken and not drained yet.
    stash: Vec<Done>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        let files = Files::new()?;
        epoll::add(&fd, files.bell(), EventData::new_u64(FILES), flags(BELL_BITS))?;
        Ok(Self { fd, watches: Slab::new(), files, events: Vec::with_capacity(EVENTS), calls: 0, stash: Vec::new() })
    }

    pub(crate) fn watch(&mut self, fd: impl AsFd, watcher: Watcher) -> io::Result<Key> {
        let watch = self.watches.insert(watcher);
        let added = epoll::add(&self.fd, fd, EventData::new_u64(watch.to_u64()), flags(watcher.bits()));
        if let Err(error) = added {
            self.watches.remove(watch);
            return Err(error.into());
        }
        Ok(watch)
    }

    pub(crate) fn unwatch(&mut self, watch: Key, fd: impl AsFd) {
        if self.watches.remove(watch).is_some() {
            // Not left to the close of the descriptor: a second one (an `Aborter`) would keep the registration alive.
            // Fails only if it is not there.
            let _ = epoll::delete(&self.fd, fd);
        }
    }

    pub(crate) fn file(&mut self, fd: Arc<OwnedFd>, op: FileOp, owner: Key, token: u64, by: Option<StartBy>) {
        if let Some(refused) = self.files.submit_by(fd, op, owner, token, by) {
            self.stash.push(refused);
        }
    }

    pub(crate) fn cancel_files(&mut self, owner: Key) {
        self.files.cancel(owner, &mut self.stash);
    }

    pub(crate) fn has_news(&mut self) -> bool {
        // What fails here fails in the next enter too, and is told there.
        !self.stash.is_empty() || self.files.has_news() || (self.look(Duration::ZERO).is_ok() && !self.stash.is_empty())
    }

    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        if !self.stash.is_empty() || self.files.has_news() {
            return Ok(());
        }
        let wait = wait.unwrap_or_default();
        self.look(self.files.patience().map_or(wait, |patience| patience.min(wait)))
    }

    /// Takes the news that come within this time.
    fn look(&mut self, wait: Duration) -> io::Result<()> {
        let wait = Timespec::try_from(wait).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.events.clear();
        self.calls += 1;
        match epoll::wait(&self.fd, spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            let (data, bits) = ({ event.data }.u64(), { event.flags }.bits());
            // The bell of the files only ends the sleep. A watch that was ended meanwhile finds nobody.
            if data != FILES
                && let Some(watcher) = self.watches.get(Key::from_u64(data))
            {
                self.stash.push(Done::Ready { watcher: *watcher, bits, armed: true });
            }
        }
        Ok(())
    }

    pub(crate) fn drain(&mut self, out: &mut Vec<Done>) {
        out.append(&mut self.stash);
        self.files.drain(out);
    }

    /// Looks so far.
    pub(crate) const fn calls(&self) -> u64 {
        self.calls
    }

    pub(crate) const fn files_in_flight(&self) -> usize {
        self.files.in_flight()
    }
}

/// Poll bits as epoll names them: the same numbers, and edges.
const fn flags(bits: u32) -> EventFlags {
    EventFlags::from_bits_retain(bits).union(EventFlags::ET)
}

const _: () = {
    assert!(EventFlags::IN.bits() == libc::POLLIN as u32 && EventFlags::OUT.bits() == libc::POLLOUT as u32);
    assert!(EventFlags::ERR.bits() == libc::POLLERR as u32 && EventFlags::HUP.bits() == libc::POLLHUP as u32);
    assert!(EventFlags::RDHUP.bits() == libc::POLLRDHUP as u32);
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    fn ready(epoll: &mut Epoll, wait: Option<Duration>) -> Vec<(Watcher, u32)> {
        epoll.enter(wait).unwrap();
        let mut done = Vec::new();
        epoll.drain(&mut done);
        let each = |done| match done {
            Done::Ready { watcher, bits, armed: true } => (watcher, bits),
            other => panic!("{other:?}"),
        };
        done.into_iter().map(each).collect()
    }

    /// An aborter holds a second descriptor of the socket, and with it the registration, unless that is taken out by name.
    #[test]
    fn an_ended_watch_is_silent_although_the_socket_lives_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut b, _) = listener.accept().unwrap();
        let mut epoll = Epoll::new().unwrap();
        let (first, second) = (Watcher::Source(Key::from_u64(1)), Watcher::Source(Key::from_u64(2)));
        let watch = epoll.watch(&a, first).unwrap();
        assert_eq!(ready(&mut epoll, SOON), [(first, libc::POLLOUT as u32)]);
        assert_eq!(ready(&mut epoll, None), [], "told once");
        let _other = a.try_clone().unwrap();
        epoll.unwatch(watch, &a);
        drop(a);
        b.write_all(b"x").unwrap();
        let c = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        epoll.watch(&c, second).unwrap();
        assert_eq!(ready(&mut epoll, SOON), [(second, libc::POLLOUT as u32)]);
        assert_eq!(ready(&mut epoll, None), []);
    }

    #[test]
    fn a_descriptor_that_cannot_be_watched_is_refused() {
        let mut epoll = Epoll::new().unwrap();
        let file = std::fs::File::open("/").unwrap();
        let error = epoll.watch(&file, Watcher::Source(Key::from_u64(1))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(epoll.watches.is_empty());
    }
}
