//! Mail between threads.
//!
//! Order between one sender and one receiver is the only thing the machines rely on, so a mailbox is a locked queue
//! and a wake-up. It is not on the steady path of a reactor's own work: that goes through the local door.
//!
//! Two kinds of mail come here. What machines say to each other must arrive whole: each side says no more than its own
//! bounded state gives rise to. What foreign threads ask for has no such bound, so it is *offered*: a mailbox that is
//! full, or whose reader is gone, gives it back, and its sender knows at once instead of waiting for an answer that
//! nobody will write.

use interlock_ring::Waker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Mail that waits in one mailbox at most before offers are given back. As many requests as a lane of the host holds: a
/// reader that is further behind than that gains nothing by more.
pub const MAX_OFFERED: usize = 65_536;

/// A mailbox did not take what it was offered.
#[derive(Debug, PartialEq, Eq)]
pub enum NotTaken<T> {
    /// [`MAX_OFFERED`] pieces wait already: try again after one was answered.
    Full(T),
    /// Its reader is gone for good.
    Closed(T),
}

struct Queue<T> {
    mail: VecDeque<T>,
    closed: bool,
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    waker: OnceLock<Waker>,
}

/// A queue that wakes its reader. Clones share it.
pub struct Mailbox<T>(Arc<Shared<T>>);

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        let queue = Mutex::new(Queue { mail: VecDeque::new(), closed: false });
        Self(Arc::new(Shared { queue, waker: OnceLock::new() }))
    }
}

impl<T> Mailbox<T> {
    /// Says who reads. Mail sent before is kept; the reader looks once after this.
    pub fn set_reader(&self, waker: Waker) {
        // A mailbox has one reader for life; a second call would be a bug of this crate and changes nothing.
        let _ = self.0.waker.set(waker);
    }

    /// Adds mail of another machine, and wakes the reader if there was none. Nothing is lost while the reader lives; mail
    /// for one that is gone is dropped.
    pub fn send(&self, mail: T) {
        // What is given back has no reader, and never will: dropping it is its end.
        drop(self.add(mail, usize::MAX));
    }

    /// As [`Mailbox::send`], for mail that somebody waits for.
    ///
    /// # Errors
    /// Gives it back if nobody will read it.
    pub fn pass(&self, mail: T) -> Result<(), T> {
        self.add(mail, usize::MAX).map_err(|(NotTaken::Closed(mail) | NotTaken::Full(mail))| mail)
    }

    /// Adds mail of a foreign thread, and wakes the reader if there was none.
    ///
    /// # Errors
    /// Gives it back if too much waits already, or nobody will read it.
    pub fn offer(&self, mail: T) -> Result<(), NotTaken<T>> {
        self.add(mail, MAX_OFFERED)
    }

    fn add(&self, mail: T, most: usize) -> Result<(), NotTaken<T>> {
        let was_empty = {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(NotTaken::Closed(mail));
            }
            if queue.mail.len() >= most {
                return Err(NotTaken::Full(mail));
            }
            queue.mail.push_back(mail);
            queue.mail.len() == 1
        };
        if was_empty && let Some(waker) = self.0.waker.get() {
            waker.wake();
        }
        Ok(())
    }

    /// Takes everything, in order.
    #[must_use]
    pub fn take(&self) -> VecDeque<T> {
        std::mem::take(&mut self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).mail)
    }

    /// The reader goes: nothing is taken from now on. Gives what nobody has read; closing twice is as good.
    #[must_use = "what was not read must be answered"]
    pub fn close(&self) -> VecDeque<T> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        std::mem::take(&mut queue.mail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_pushed_back_at_the_bound_and_mail_of_machines_is_not() {
        let mailbox = Mailbox::default();
        for mail in 0..MAX_OFFERED {
            assert_eq!(mailbox.offer(mail), Ok(()));
        }
        assert_eq!(mailbox.offer(7), Err(NotTaken::Full(7)));
        mailbox.send(MAX_OFFERED);
        assert!(mailbox.take().into_iter().eq(0..=MAX_OFFERED), "in order, and nothing lost");
        assert_eq!(mailbox.offer(8), Ok(()), "there is room again");
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_waits_and_what_comes() {
        let mailbox = Mailbox::default();
        let clone = mailbox.clone();
        clone.send(1);
        assert_eq!(mailbox.close(), [1]);
        assert_eq!(clone.offer(2), Err(NotTaken::Closed(2)));
        clone.send(3);
        assert_eq!(clone.pass(4), Err(4));
        assert!(mailbox.take().is_empty() && mailbox.close().is_empty());
    }
}
