//! Reads and writes of any length: as many commands as the paths need.
//!
//! How much one command may carry is the controller's affair (MDTS), and paths of one namespace may differ. Nothing is
//! asked beforehand: a command that no path carries was not sent, and is halved; what was learnt holds for the rest. So a
//! failover to a controller that carries less costs a few halvings, and no error.

use crate::completion::Pending;
use crate::namespace::Namespace;
use crate::{Buf, Outcome};
use interlock_host_core::{Op, Refused};
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Commands of one transfer that are in flight at once.
const FLYING_MAX: usize = 16;

/// One of the waits that [`Split::wait`] is made of.
const LONG: Duration = Duration::from_secs(60);

/// How a [`Split`] ended.
#[derive(Debug)]
pub struct SplitEnd {
    /// `Ok` if everything was transferred. Else how a command ended that was not: one whose outcome is not known, if there
    /// is one (it may still take effect), or the first in order of blocks.
    pub outcome: Outcome,
    /// Blocks that were transferred, from the first on without a gap. Blocks behind them may have been as well.
    pub done: u32,
    /// The buffer, given back. Of a read that failed its first `done` blocks are valid.
    pub buf: Option<Buf>,
}

/// A read or a write of any length in flight. Await it, or [`wait`](Self::wait) for it on a thread of your own.
///
/// **It is not atomic**, unless it fits in one command: others can see some of its blocks written and others not, also
/// between commands that are atomic by themselves (AWUN, NABO), and a loss of power or an error can leave it so. Its
/// commands are sent in no order that can be relied on. While a path is in doubt each of them is held, fenced and repeated
/// as any other command, and the transfer ends when all have ended.
///
/// Dropping it **abandons** the commands in flight, as dropping a [`Pending`] does; those that were not sent are not sent.
#[must_use = "a transfer that nobody waits for is abandoned"]
pub struct Split(Box<Transfer>);

/// What a [`Split`] is made of.
struct Transfer {
    namespace: Namespace,
    op: Op,
    slba: u64,
    /// The payload; of a read it is filled as commands end. `None` while one command has it all.
    whole: Option<Buf>,
    parts: Parts,
    flying: Vec<(Part, Pending)>,
}

/// Blocks, counted from the beginning of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    at: u32,
    nlb: u32,
}

/// Which blocks are still to be sent, in what pieces, and what went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    /// Blocks of the most that one command has not been refused for.
    most: u32,
    waiting: VecDeque<Part>,
    /// How the worst part ended that did not end well.
    fault: Option<(Part, Outcome)>,
    /// The first block that was not transferred.
    done: u32,
}

impl Parts {
    const fn new(nlb: u32) -> Self {
        Self { most: nlb, waiting: VecDeque::new(), fault: None, done: nlb }
    }

    /// What is sent next. After a fault nothing more is.
    fn next(&mut self) -> Option<Part> {
        if self.fault.is_some() {
            return None;
        }
        let part = self.waiting.pop_front()?;
        let now = Part { nlb: part.nlb.min(self.most), ..part };
        if now.nlb < part.nlb {
            self.waiting.push_front(Part { at: part.at + now.nlb, nlb: part.nlb - now.nlb });
        }
        Some(now)
    }

    fn ended(&mut self, part: Part, outcome: Outcome) {
        match outcome {
            Outcome::Ok => {}
            Outcome::NotSent(Refused::TooLarge) if part.nlb > 1 => {
                self.most = self.most.min(part.nlb.div_ceil(2));
                self.waiting.push_front(part);
            }
            failed => {
                self.done = self.done.min(part.at);
                let rank = |(part, outcome): &(Part, Outcome)| (may_take_effect(*outcome), std::cmp::Reverse(part.at));
                if self.fault.as_ref().is_none_or(|fault| rank(&(part, failed)) > rank(fault)) {
                    self.fault = Some((part, failed));
                }
            }
        }
    }

    /// How the transfer ended, and how many blocks of it are done without a gap.
    fn end(&self) -> (Outcome, u32) {
        match (self.fault, self.waiting.iter().map(|part| part.at).min()) {
            (None, None) => (Outcome::Ok, self.done),
            (fault, unsent) => {
                let outcome = fault.map_or(Outcome::NotSent(Refused::TooLarge), |(_, outcome)| outcome);
                (outcome, unsent.map_or(self.done, |at| at.min(self.done)))
            }
        }
    }
}

impl Split {
    pub(crate) fn new(namespace: &Namespace, op: Op, slba: u64, nlb: u32, buf: Buf) -> Self {
        let flying = vec![(Part { at: 0, nlb }, namespace.with_blocks(op, slba, buf))];
        let namespace = namespace.clone();
        Self(Box::new(Transfer { namespace, op, slba, whole: None, parts: Parts::new(nlb), flying }))
    }

    /// Waits for the end on this thread. See [`Pending::wait`].
    #[must_use]
    pub fn wait(mut self) -> SplitEnd {
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
    /// Gives the transfer back if it has not ended: wait again, or drop it and so abandon what is in flight.
    pub fn wait_until(mut self, deadline: Instant) -> Result<SplitEnd, Self> {
        // In any order: it ends when all have ended.
        while let Some((part, pending)) = self.0.flying.pop() {
            match pending.wait_until(deadline) {
                Ok((outcome, buf)) => self.0.ended(part, outcome, buf),
                Err(still) => {
                    self.0.flying.push((part, still));
                    return Err(self);
                }
            }
            self.0.send();
        }
        Ok(self.0.end())
    }
}

impl Transfer {
    /// Sends what there is room for.
    fn send(&mut self) {
        while self.flying.len() < FLYING_MAX
            && let Some(whole) = &self.whole
            && let Some(part) = self.parts.next()
        {
            let buf = if self.op == Op::Read { self.namespace.buffer(part.nlb) } else { whole.slice(self.bytes(part)) };
            let pending = self.namespace.with_blocks(self.op, self.slba + u64::from(part.at), buf);
            self.flying.push((part, pending));
        }
    }

    fn ended(&mut self, part: Part, outcome: Outcome, buf: Option<Buf>) {
        let into = self.bytes(part);
        let mut outcome = outcome;
        match (&mut self.whole, buf) {
            // One command had it all.
            (None, buf) => self.whole = buf,
            (Some(whole), Some(buf)) if self.op == Op::Read && outcome == Outcome::Ok => match whole.get_mut() {
                Some(whole) => whole[into].copy_from_slice(buf.as_slice()),
                None => outcome = Outcome::NotSent(Refused::SharedBuffer),
            },
            (Some(_), _) => {}
        }
        self.parts.ended(part, outcome);
    }

    fn bytes(&self, part: Part) -> Range<usize> {
        let block = self.namespace.shape().block_size as usize;
        part.at as usize * block..(part.at + part.nlb) as usize * block
    }

    fn end(&mut self) -> SplitEnd {
        let (outcome, done) = self.parts.end();
        SplitEnd { outcome, done, buf: self.whole.take() }
    }
}

/// 2 if it may take effect later, 1 if it may have taken effect, 0 if what became of it is known.
const fn may_take_effect(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Indeterminate { .. } => 2,
        Outcome::OutcomeUnknown | Outcome::Poison { .. } => 1,
        Outcome::Ok | Outcome::Failed(_) | Outcome::NotSent(_) | Outcome::CacheLost { .. } => 0,
    }
}

impl Future for Split {
    type Output = SplitEnd;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<SplitEnd> {
        let this = &mut *self.0;
        let mut place = 0;
        while place < this.flying.len() {
            match Pin::new(&mut this.flying[place].1).poll(context) {
                Poll::Ready((outcome, buf)) => {
                    let (part, _) = this.flying.swap_remove(place);
                    this.ended(part, outcome, buf);
                    // What is sent now stands at the end, and is polled in this loop as well.
                    this.send();
                }
                Poll::Pending => place += 1,
            }
        }
        if this.flying.is_empty() { Poll::Ready(this.end()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_wire::status::Status;

    const TOO_LARGE: Outcome = Outcome::NotSent(Refused::TooLarge);

    /// Sends everything to paths that carry `most` blocks.
    fn carry(parts: &mut Parts, most: u32) -> Vec<Part> {
        let mut carried = Vec::new();
        while let Some(part) = parts.next() {
            let fits = part.nlb <= most;
            parts.ended(part, if fits { Outcome::Ok } else { TOO_LARGE });
            carried.extend(fits.then_some(part));
        }
        carried
    }

    fn refused(nlb: u32) -> Parts {
        let mut parts = Parts::new(nlb);
        parts.ended(Part { at: 0, nlb }, TOO_LARGE);
        parts
    }

    #[test]
    fn every_block_is_carried_once_whatever_a_path_takes() {
        for nlb in [2, 3, 7, 64, 100, 65_537] {
            for most in [1, 2, 3, 8, 63] {
                let mut parts = refused(nlb);
                let mut carried = carry(&mut parts, most);
                assert_eq!(parts.end(), (Outcome::Ok, nlb), "{nlb} by {most}");
                carried.sort_by_key(|part| part.at);
                let end = carried.iter().fold(0, |end, part| {
                    assert_eq!(part.at, end, "{nlb} by {most}: no gap, no overlap");
                    end + part.nlb
                });
                assert_eq!(end, nlb);
            }
        }
    }

    #[test]
    fn what_is_left_becomes_smaller_when_a_smaller_path_takes_over() {
        let mut parts = refused(64);
        assert_eq!(parts.next(), Some(Part { at: 0, nlb: 32 }));
        parts.ended(Part { at: 0, nlb: 32 }, Outcome::Ok);
        let second = parts.next().expect("the second half");
        parts.ended(second, TOO_LARGE);
        assert_eq!(carry(&mut parts, 8).iter().map(|part| part.nlb).max(), Some(8));
        assert_eq!(parts.end(), (Outcome::Ok, 64));
    }

    #[test]
    fn a_block_that_nobody_carries_ends_it() {
        let mut parts = refused(4);
        assert_eq!(carry(&mut parts, 0), []);
        assert_eq!(parts.end(), (TOO_LARGE, 0));
    }

    #[test]
    fn nothing_is_sent_after_a_fault_and_what_may_still_take_effect_is_what_is_told() {
        let failed = Outcome::Failed(Status::NAMESPACE_NOT_READY);
        let unknown = Outcome::Indeterminate { until: None };
        let mut parts = refused(64);
        parts.most = 16;
        let flying: Vec<Part> = (0..3).filter_map(|_| parts.next()).collect();
        parts.ended(flying[1], failed);
        assert_eq!(parts.next(), None);
        parts.ended(flying[2], unknown);
        parts.ended(flying[0], Outcome::Ok);
        assert_eq!(parts.end(), (unknown, 16), "the first 16 are done, and 32 to 47 may be written late");
        let mut parts = refused(64);
        parts.most = 16;
        let flying: Vec<Part> = (0..2).filter_map(|_| parts.next()).collect();
        parts.ended(flying[1], failed);
        parts.ended(flying[0], Outcome::NotSent(Refused::NoPath));
        assert_eq!(parts.end(), (Outcome::NotSent(Refused::NoPath), 0), "the first in order of blocks");
    }
}
