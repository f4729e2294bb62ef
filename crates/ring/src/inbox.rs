//! How other threads reach a reactor.
//!
//! A wake-up costs a system call only if the reactor sleeps: it says so *before* it looks into its inbox for the last
//! time, and whoever finds it asleep writes its eventfd, once. Mail itself lies in mailboxes of the services; the
//! inbox only says who has some, at most once each.

use crate::core::Factory;
use interlock_base::Key;
use rustix::event::{EventfdFlags, eventfd};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

/// What other threads want from a reactor.
pub(crate) enum Command {
    Attach {
        id: u64,
        factory: Factory,
    },
    Detach {
        id: u64,
        done: mpsc::Sender<()>,
    },
    /// Detach what is left and end the thread.
    Stop,
}

pub(crate) struct Inbox {
    bell: OwnedFd,
    asleep: AtomicBool,
    /// How much lies in `letters`, to be seen without the lock.
    count: AtomicUsize,
    letters: Mutex<Letters>,
}

#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) mail: Vec<Key>,
    pub(crate) commands: Vec<Command>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            asleep: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            letters: Mutex::default(),
        })
    }

    /// The eventfd that is written when the reactor sleeps.
    pub(crate) const fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if the reactor has ended and will never look.
    pub(crate) fn send(&self, command: Command) -> bool {
        let mut letters = self.lock();
        if letters.closed {
            return false;
        }
        letters.commands.push(command);
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(letters);
        self.ring();
        true
    }

    fn mail(&self, service: Key) {
        let mut letters = self.lock();
        if letters.closed {
            return;
        }
        letters.mail.push(service);
        self.count.fetch_add(1, Ordering::SeqCst);
        drop(letters);
        self.ring();
    }

    /// Wakes the reactor if it sleeps. Whoever comes after the first finds it awake.
    fn ring(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            // The counter would have to reach 2^64 for this to fail.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Announces the sleep. False if something lies here: then do not sleep.
    pub(crate) fn fall_asleep(&self) -> bool {
        // Store, then load, both sequentially consistent; a sender adds, then swaps. One of the two sees the other.
        self.asleep.store(true, Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        self.wake_up();
        false
    }

    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Takes everything, for lists that are empty and whose room the next letters get.
    pub(crate) fn take(&self, into: &mut Letters) {
        let mut letters = self.lock();
        self.count.store(0, Ordering::SeqCst);
        std::mem::swap(&mut letters.mail, &mut into.mail);
        std::mem::swap(&mut letters.commands, &mut into.commands);
    }

    /// Takes everything and accepts nothing more.
    pub(crate) fn close(&self, into: &mut Letters) {
        self.lock().closed = true;
        self.take(into);
    }
}

/// Tells one service to look into its mailboxes. May be used from any thread, and outlive the service.
#[derive(Clone)]
pub struct Waker {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) service: Key,
    pub(crate) pending: Arc<AtomicBool>,
}

impl Waker {
    /// The service will get [`crate::Event::Mail`] after this call, and then sees everything that was put into its
    /// mailboxes before it. Calls before that event fall together. Cheap while the reactor is awake; a service that
    /// is gone is not told.
    pub fn wake(&self) {
        // A read-modify-write even when already set: what this thread has put down becomes visible to the swap with
        // which the reactor clears the flag.
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.inbox.mail(self.service);
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").field("service", &self.service).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(inbox: &Inbox) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(inbox.bell(), &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    #[test]
    fn the_bell_rings_once_per_sleep_and_never_while_awake() {
        let inbox = Arc::new(Inbox::new().unwrap());
        let waker = |index| Waker {
            inbox: inbox.clone(),
            service: Key { index, generation: 0 },
            pending: Arc::new(AtomicBool::new(false)),
        };
        let (a, b) = (waker(0), waker(1));
        a.wake();
        assert_eq!(rung(&inbox), 0, "awake");
        assert!(!inbox.fall_asleep(), "mail lies here");
        let take = || {
            let mut letters = Letters::default();
            inbox.take(&mut letters);
            letters.mail
        };
        assert_eq!(take().len(), 1);
        assert!(inbox.fall_asleep());
        a.wake();
        assert_eq!(rung(&inbox), 0, "the flag of `a` was not cleared: its event is still to come");
        a.pending.store(false, Ordering::SeqCst);
        a.wake();
        a.wake();
        b.wake();
        assert_eq!(rung(&inbox), 1);
        assert_eq!(take(), [a.service, b.service]);
        let mut last = Letters::default();
        inbox.close(&mut last);
        assert!(last.commands.is_empty());
        assert!(!inbox.send(Command::Stop), "closed");
    }
}
