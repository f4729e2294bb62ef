//! What a reactor waits on.
//!
//! This is the seam behind which the kernel's ways of waiting stand: watch a descriptor, run a file operation, wait. There
//! are two: `io_uring`, and epoll with a few threads for files where `io_uring` is forbidden. Whoever stands above this
//! seam cannot tell them apart, and the tests of this crate run over both.

mod epoll;
mod files;
mod uring;

use crate::file::{FileOp, StartBy};
use crate::{Backend, Buf};
use epoll::Epoll;
use interlock_base::Key;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use uring::Uring;
pub(crate) use uring::explain;

/// Who watches a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watcher {
    /// The reactor's own eventfd.
    Bell,
    /// A socket or listener.
    Source(Key),
}

/// What is reported.
#[derive(Debug)]
pub(crate) enum Done {
    /// A watched descriptor has these poll bits; if not `armed`, the watch is over and must be set again.
    Ready { watcher: Watcher, bits: u32, armed: bool },
    /// A file operation is over.
    File { owner: Key, token: u64, result: io::Result<u32>, buf: Option<Buf> },
}

/// What is watched on a socket: everything, as edges.
const SOCKET_BITS: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;

/// What is watched on an eventfd.
const BELL_BITS: u32 = libc::POLLIN as u32;

impl Watcher {
    const fn bits(self) -> u32 {
        match self {
            Self::Bell => BELL_BITS,
            Self::Source(_) => SOCKET_BITS,
        }
    }
}

/// One of the two.
#[expect(clippy::large_enum_variant, reason = "one per reactor, made once")]
pub(crate) enum Poller {
    Uring(Uring),
    Epoll(Epoll),
}

impl Poller {
    /// Makes what `want` names, which watches `bell`. Without a wish: `io_uring`, or epoll if the kernel refuses that; then
    /// the refusal comes along. Must be called on the thread that uses it.
    ///
    /// # Errors
    /// What is wished for is refused, or both are.
    pub(crate) fn open(want: Option<Backend>, bell: &OwnedFd) -> io::Result<(Self, Option<io::Error>)> {
        let refused = match want {
            Some(Backend::Epoll) => None,
            None | Some(Backend::IoUring) => match Self::uring(bell) {
                Ok(poller) => return Ok((poller, None)),
                // Without descriptors nothing else could be made either.
                Err(error) if want.is_some() || lacks_descriptors(&error) => return Err(error),
                Err(error) => Some(error),
            },
        };
        let mut poller = Self::Epoll(Epoll::new()?);
        poller.watch(bell, Watcher::Bell)?;
        Ok((poller, refused))
    }

    fn uring(bell: &OwnedFd) -> io::Result<Self> {
        let mut ring = Uring::new()?;
        ring.watch(bell, Watcher::Bell);
        // A filter may let a ring be made, and then refuse its use.
        ring.enter(None).map_err(explain)?;
        Ok(Self::Uring(ring))
    }

    /// Which one it is.
    pub(crate) const fn backend(&self) -> Backend {
        match self {
            Self::Uring(_) => Backend::IoUring,
            Self::Epoll(_) => Backend::Epoll,
        }
    }

    /// Reports every change of the descriptor's readiness until [`Poller::unwatch`], and its present one.
    ///
    /// # Errors
    /// The kernel has no room for another watch.
    pub(crate) fn watch(&mut self, fd: impl AsFd, watcher: Watcher) -> io::Result<Key> {
        match self {
            Self::Uring(ring) => Ok(ring.watch(fd, watcher)),
            Self::Epoll(epoll) => epoll.watch(fd, watcher),
        }
    }

    /// Ends the watch of a descriptor that is still open. What it still reports names a watcher that its owner has
    /// forgotten.
    pub(crate) fn unwatch(&mut self, watch: Key, fd: impl AsFd) {
        match self {
            Self::Uring(ring) => ring.unwatch(watch),
            Self::Epoll(epoll) => epoll.unwatch(watch, fd),
        }
    }

    /// Makes sure that the kernel has let go of the descriptor of an ended watch.
    ///
    /// # Errors
    /// It has not, after a bounded number of attempts.
    pub(crate) fn settle(&mut self, watch: Key) -> io::Result<()> {
        match self {
            Self::Uring(ring) => ring.settle(watch),
            // It never holds one.
            Self::Epoll(_) => Ok(()),
        }
    }

    /// Starts a file operation whose buffer was checked by [`FileOp::fault`].
    pub(crate) fn file(&mut self, fd: Arc<OwnedFd>, op: FileOp, owner: Key, token: u64, by: Option<StartBy>) {
        match self {
            Self::Uring(ring) => ring.file(fd, op, owner, token),
            Self::Epoll(epoll) => epoll.file(fd, op, owner, token, by),
        }
    }

    /// Ends the file operations of `owner` early where that is possible. Each still reports its end.
    pub(crate) fn cancel_files(&mut self, owner: Key) {
        match self {
            Self::Uring(ring) => ring.cancel_files(owner),
            Self::Epoll(epoll) => epoll.cancel_files(owner),
        }
    }

    /// True if something waits to be submitted.
    pub(crate) fn has_submissions(&mut self) -> bool {
        match self {
            Self::Uring(ring) => ring.has_submissions(),
            Self::Epoll(_) => false,
        }
    }

    /// True if [`Poller::drain`] would find something, or the kernel has work that it does only inside an enter.
    pub(crate) fn has_news(&mut self) -> bool {
        match self {
            Self::Uring(ring) => ring.has_news(),
            Self::Epoll(epoll) => epoll.has_news(),
        }
    }

    /// Submits what is queued and looks for news; with `wait`, sleeps until something is reported or the time is over.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Uring(ring) => ring.enter(wait),
            Self::Epoll(epoll) => epoll.enter(wait),
        }
    }

    /// Everything that was reported.
    pub(crate) fn drain(&mut self, out: &mut Vec<Done>) {
        match self {
            Self::Uring(ring) => ring.drain(out),
            Self::Epoll(epoll) => epoll.drain(out),
        }
    }

    /// System calls made so far.
    pub(crate) const fn calls(&self) -> u64 {
        match self {
            Self::Uring(ring) => ring.calls(),
            Self::Epoll(epoll) => epoll.calls(),
        }
    }

    /// How many file operations have not reported their end.
    pub(crate) const fn files_in_flight(&self) -> usize {
        match self {
            Self::Uring(ring) => ring.files_in_flight(),
            Self::Epoll(epoll) => epoll.files_in_flight(),
        }
    }
}

fn lacks_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
