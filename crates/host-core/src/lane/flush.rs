//! A flush where every controller has a write cache of its own (`FlushScope::Controller`).
//!
//! A Flush makes durable what was written through the controller that it is sent to. Where controllers share their cache
//! one is as good as another. Where they do not, it has to go to each that may hold something, and those this lane cannot
//! know: another lane may have written through a life of which this one has no table yet. So it asks, and control answers
//! once every life of the namespace that has ended is judged (`flush_covers_answered_writes`): these are to be asked, and
//! those were lost with something in their caches.
//!
//! They are asked one after the other, as commands of the same request. If one of them is lost meanwhile, control is
//! asked again: it knows of the loss before, because this lane has said so on the same way.

use super::requests::{Bias, Reason, Sent, State};
use super::{Lane, LifeStanding};
use crate::MAX_SAME_PATH_RETRIES;
use crate::{CacheEntry, HeadId, LaneId, LifeId, Op, Outcome, ToControl};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::{Instant, Key};
use interlock_wire::status::Status;

/// A controller whose ANA state forbids a flush for the moment is asked again after this; and so is control, if what it says does
/// not fit to what the lane has, unless the lane hears of other paths before.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);

/// What is left to do for a flush.
#[derive(Clone, Debug, Hash)]
pub(super) struct Plan {
    /// Lives to be asked, and the namespace identifier there.
    lives: VecDeque<(LifeId, u32)>,
    /// Lives that ended with something in their caches.
    lost: Vec<LifeId>,
    /// Nothing was done by it yet.
    fresh: bool,
}

/// What the caches of one life may hold, by namespace, as far as this lane knows.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Caches(BTreeMap<HeadId, Cached>);

#[derive(Clone, Copy, Debug, Default, Hash)]
struct Cached {
    /// When the last write was answered that no later flush of this lane covers, and the last command issued by then.
    wrote: Option<(Instant, u64)>,
    /// When the last flush that ended well was sent.
    flushed: Option<Instant>,
}

impl Caches {
    /// A command was answered well. `last` is the newest command by now, this one is `sent`.
    pub(super) fn answered(&mut self, now: Instant, head: HeadId, op: Op, sent: Sent, last: u64) {
        match op {
            Op::Read | Op::Compare | Op::Write { fua: true } => {}
            Op::Write { fua: false } | Op::WriteZeroes { .. } | Op::Discard => {
                self.0.entry(head).or_default().wrote = Some((now, last));
            }
            Op::Flush => {
                let cached = self.0.entry(head).or_default();
                // Names of commands grow: it was issued after everything that was answered by then.
                cached.wrote = cached.wrote.filter(|(_, last)| sent.command <= *last);
                cached.flushed = cached.flushed.max(Some(sent.since));
            }
        }
    }

    fn entries(&self) -> Vec<CacheEntry> {
        let entry = |(head, cached): (&HeadId, &Cached)| CacheEntry {
            head: *head,
            wrote: cached.wrote.map(|(at, _)| at),
            flushed: cached.flushed,
        };
        self.0.iter().map(entry).collect()
    }
}

impl Lane {
    /// Takes the next step of a flush: the question whom to ask, the next of them, or the end.
    pub(super) fn flush_each(&mut self, now: Instant, index: u32) {
        let Some(tracked) = self.requests.get(index) else { return };
        let (seq, request, head) = (tracked.seq, tracked.request, tracked.head);
        let Some(plan) = self.plans.get_mut(&seq) else { return self.ask_whom_to_flush(index) };
        let fresh = core::mem::replace(&mut plan.fresh, false);
        let Some((life, nsid)) = plan.lives.front().copied() else { return self.flushed(now, index) };
        let key = self.life(life);
        if key.and_then(|key| self.lives.get(key)).is_some_and(|life| life.standing == LifeStanding::Isolated) {
            // A suspect is alone there for a moment: whom to ask does not change by that.
            return self.wait(index, Reason::Pinned);
        }
        let usable = |key: &Key| self.lives.get(*key).is_some_and(super::life::Life::is_usable);
        if key.is_none() && self.config.id.0 > 0 {
            // There is no queue of it here: the first lane has one of every life.
            return self.forward(now, index, LaneId(0));
        }
        let Some(key) = key.filter(usable) else {
            // It is lost, or on its way out.
            self.plans.remove(&seq);
            if !fresh {
                return self.ask_whom_to_flush(index);
            }
            // And control did not know: it would say the same at once.
            self.again(index, Bias::None);
            return self.wait(index, Reason::Delay { until: now + FLUSH_AGAIN });
        };
        let Some(life) = self.lives.get(key) else { return };
        match life.free_queue() {
            Some(conn) => {
                let chosen = self.heads.pinned(request.head, life.ctrl, key, conn, nsid);
                debug_assert_eq!(self.heads.find(request.head), Some(head), "a request keeps its namespace");
                self.send(now, index, &chosen);
            }
            None => self.wait(index, Reason::Pinned),
        }
    }

    fn ask_whom_to_flush(&mut self, index: u32) {
        let Some(tracked) = self.requests.get(index) else { return };
        let (seq, head) = (tracked.seq, tracked.request.head);
        self.say(ToControl::Flush { seq, head });
        self.wait(index, Reason::Plan);
    }

    /// Every life of the plan has answered well.
    fn flushed(&mut self, now: Instant, index: u32) {
        let Some(tracked) = self.requests.get(index) else { return };
        let (seq, head, abandoned) = (tracked.seq, tracked.request.head, tracked.abandoned);
        let (request, slot, since) = (tracked.request, tracked.head, tracked.since);
        let lost = self.plans.remove(&seq).map(|plan| plan.lost).unwrap_or_default();
        match lost.first().copied() {
            None => {
                self.heads.count_request(slot, &request, since, now);
                self.finish(now, index, Outcome::Ok);
            }
            Some(life) => {
                // Told once - unless nobody hears it.
                if !abandoned {
                    self.say(ToControl::FlushTold { head, lives: lost });
                }
                self.finish(now, index, Outcome::CacheLost { life });
            }
        }
    }

    /// Control has said whom to ask.
    pub(super) fn flush_plan(&mut self, now: Instant, seq: u64, lives: Vec<(LifeId, u32)>, lost: Vec<LifeId>) {
        let Some(index) = self.requests.waiting.get(&seq).copied() else { return };
        let asked = self.requests.get(index).is_some_and(|tracked| tracked.state == State::Waiting(Reason::Plan));
        if asked {
            self.requests.waiting.remove(&seq);
            self.plans.insert(seq, Plan { lives: lives.into(), lost, fresh: true });
            self.attempt(now, index);
        }
    }

    /// A command of the request has ended well. True if more of them follow.
    pub(super) fn flush_goes_on(&mut self, index: u32) -> bool {
        let Some(tracked) = self.requests.get(index) else { return false };
        let Some(plan) = self.plans.get_mut(&tracked.seq) else { return false };
        plan.lives.pop_front();
        self.again(index, Bias::None);
        true
    }

    /// A flush that had to go to this controller was answered with an ANA status: no other can do it in its place, so it
    /// is asked again later, and as often as a command is sent again at most. False if that is not what it was.
    pub(super) fn flush_refused(&mut self, now: Instant, index: u32, status: Status, path: u32) -> bool {
        let Some(tracked) = self.requests.get_mut(index) else { return false };
        if self.plans.remove(&tracked.seq).is_none() {
            return false;
        }
        tracked.retries = tracked.retries.saturating_add(1);
        if tracked.retries > MAX_SAME_PATH_RETRIES {
            self.heads.path_counter(path).errors += 1;
            self.finish(now, index, Outcome::Failed(status));
        } else {
            self.heads.path_counter(path).retries += 1;
            self.again(index, Bias::None);
            self.wait(index, Reason::Delay { until: now + FLUSH_AGAIN });
        }
        true
    }

    /// Tells control what a life that ends may hold in a cache of its own.
    pub(super) fn say_cached(&mut self, key: Key) {
        let Some(life) = self.lives.get(key) else { return };
        let (life, entries) = (life.id, life.caches.entries());
        if !entries.is_empty() {
            self.say(ToControl::Cached { life, entries });
        }
    }
}
