//! A new client writes after those that are gone.
//!
//! A client that is killed leaves writes in its socket, in a lane and on their way. Whoever learns of its end and
//! connects goes on from there, and may be served by another reactor, which has heard of nothing. So a client that has
//! chosen an export waits until every connection of that export has looked whether its own client is still there: the
//! kernel knows that from the moment of its end. One that is gone is read to its end and its writes are given up (what
//! that means to the lanes is the host's business) before the new client's first command is taken.
//!
//! Clients that are there together have no order. Nor has one that said goodbye without waiting for its answers: what
//! it asked for is carried out, and is concurrent with what others ask meanwhile.

use super::table::Seat;
use interlock_ring::{Cx, Sock, Waker};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a connection is asked by new ones, and what it has answered.
#[derive(Default)]
pub(super) struct Roll {
    asked: AtomicU64,
    told: AtomicU64,
    /// It is gone, and what it had is given up.
    gone: AtomicBool,
    /// Connections that wait for an answer, by their number: each once, and none that is gone.
    askers: Mutex<BTreeMap<u64, Waker>>,
}

impl Roll {
    /// Asks; gives the number of the question.
    fn ask(&self, number: u64, asker: Waker) -> u64 {
        self.askers().insert(number, asker);
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn is_through(&self, question: u64) -> bool {
        self.gone.load(Ordering::Acquire) || self.told.load(Ordering::Acquire) >= question
    }

    /// The newest question, if it was not answered.
    pub(super) fn question(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked > self.told.load(Ordering::Relaxed)).then_some(asked)
    }

    /// Its client was there after this question had been asked.
    pub(super) fn tell(&self, question: u64) {
        self.told.store(question, Ordering::Release);
        self.wake_askers();
    }

    /// Everything that the connection had is given up.
    pub(super) fn tell_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.wake_askers();
    }

    fn wake_askers(&self) {
        for asker in std::mem::take(&mut *self.askers()).into_values() {
            asker.wake();
        }
    }

    fn askers(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that a new client comes after.
pub(super) struct Predecessors {
    /// The number of the client that asks.
    number: u64,
    asked: Vec<(Arc<Seat>, u64)>,
}

impl Predecessors {
    /// Asks them all.
    pub(super) fn ask<'a>(number: u64, seats: impl Iterator<Item = &'a Arc<Seat>>, cx: &Cx<'_>) -> Self {
        let ask = |seat: &Arc<Seat>| {
            let question = seat.roll.ask(number, cx.waker());
            seat.wake();
            (Arc::clone(seat), question)
        };
        Self { number, asked: seats.map(ask).collect() }
    }

    /// True once all of them have answered or are gone.
    pub(super) fn are_through(&mut self) -> bool {
        self.asked.retain(|(seat, question)| !seat.roll.is_through(*question));
        self.asked.is_empty()
    }
}

impl Drop for Predecessors {
    fn drop(&mut self) {
        for (seat, _) in &self.asked {
            seat.roll.askers().remove(&self.number);
        }
    }
}

/// True if the peer has closed its end altogether, whatever it left to be read.
pub(super) fn is_hung_up(cx: &mut Cx<'_>, sock: Sock) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let looked = cx.with_fd(sock, |fd| {
        let mut polled = [PollFd::new(&fd, PollFlags::empty())];
        let ready = rustix::event::poll(&mut polled, Some(&now));
        ready.map(|_| polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
    });
    // A socket that cannot be asked serves nobody.
    !matches!(looked, Ok(Ok(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_by_a_later_word_or_by_the_end() {
        let roll = Roll::default();
        assert_eq!(roll.question(), None);
        let first = roll.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let second = roll.asked.fetch_add(1, Ordering::AcqRel) + 1;
        assert_eq!(roll.question(), Some(second), "one look answers all that were asked before it");
        roll.tell(first);
        assert!(roll.is_through(first) && !roll.is_through(second));
        roll.tell_gone();
        assert!(roll.is_through(second));
    }
}
