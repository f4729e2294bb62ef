//! Mail between threads.
//!
//! Order between one sender and one receiver is the only thing the machines rely on, so a mailbox is a locked queue
//! and a wake-up. It is not on the steady path of a reactor's own work: that goes through the local door.

use interlock_ring::Waker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
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
        Self(Arc::new(Shared { queue: Mutex::new(VecDeque::new()), waker: OnceLock::new() }))
    }
}

impl<T> Mailbox<T> {
    /// Says who reads. Mail sent before is kept; the reader looks once after this.
    pub fn set_reader(&self, waker: Waker) {
        // A mailbox has one reader for life; a second call would be a bug of this crate and changes nothing.
        let _ = self.0.waker.set(waker);
    }

    /// Adds mail, and wakes the reader if there was none.
    pub fn send(&self, mail: T) {
        let was_empty = {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push_back(mail);
            queue.len() == 1
        };
        if was_empty && let Some(waker) = self.0.waker.get() {
            waker.wake();
        }
    }

    /// Takes everything, in order.
    #[must_use]
    pub fn take(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.0.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
