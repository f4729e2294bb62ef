//! The barrier behind which a write is given up.
//!
//! A caller that gives a write up continues as if the write were over: it may submit its next write over the same blocks to any lane, and
//! reach a queue there in one step, long before the lane of the first one has heard of anything. Then the first, still in
//! a queue or in the network, overwrites the second, which was answered. So what is given up is written into a log that
//! all lanes share *before* its caller goes on, and every lane reads that log before it takes a later request:
//!
//! ```text
//! caller   AbandonLog::abandon(lane, head, range) -> n      before the drop, the cancel, the close returns
//!          to the lane of the request: abandon it; that was n
//! lane     dequeues a request: first AbandonLog::take -> Lane::handle_abandoned
//!          a change of these blocks waits; reads, other blocks and other namespaces pass
//! its own  Lane::abandon: it ends, or its range is guarded; ToControl::Abandoned, then ToControl::HandedOver(n)
//! control  ToLane::Guard with its range, then ToLane::HandedOver(lane, n): from here on the guards say what waits
//! ```
//!
//! Numbers count per lane, in the order in which the lane is told: so one number says of all before it that they are in
//! the table of guards, answered, or were never sent. Nothing here depends on another lane's haste: a lane that hangs holds
//! up what overlaps what was given up on it, and nothing else, and that not for ever ([`HANDOVER_WITHIN`]).
//!
//! Who gives up very much costs precision and no memory: beyond [`MAX_ABANDONED`] entries the ranges of each namespace
//! become one, the whole of it.

use crate::{HeadId, LaneId};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;
use interlock_base::Ranges;

/// Abandoned ranges that are kept apart, for one lane; more of them become one for each namespace and lane.
pub const MAX_ABANDONED: usize = 1024;

/// How long a request waits to hear what became of a write that was given up. The message from a caller over two lanes and
/// control takes microseconds: after this time a reactor hangs, and the request is refused. It was not sent.
pub const HANDOVER_WITHIN: Duration = Duration::from_secs(10);

/// Changes that were given up by their caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Abandoned {
    /// The lane that has the request.
    pub lane: LaneId,
    /// Counts what was given up there, from 1. Requests that were given up together share one.
    pub number: u64,
    /// The namespace.
    pub head: HeadId,
    /// The blocks.
    pub range: Range<u64>,
}

/// Merges what was given up on one lane in one namespace. The newest number counts: it is over when all of it is.
fn merged(entries: impl IntoIterator<Item = Abandoned>) -> Vec<Abandoned> {
    let mut newest = BTreeMap::<(LaneId, HeadId), u64>::new();
    for entry in entries {
        let number = newest.entry((entry.lane, entry.head)).or_default();
        *number = entry.number.max(*number);
    }
    newest.into_iter().map(|((lane, head), number)| Abandoned { lane, number, head, range: 0..u64::MAX }).collect()
}

/// What was given up and not read by every lane: shared by all that submit to a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct AbandonLog {
    /// By lane.
    numbers: Vec<u64>,
    /// By lane: what it has not read.
    unread: Vec<Vec<Abandoned>>,
}

impl AbandonLog {
    /// An empty log for this number of lanes.
    #[must_use]
    pub fn new(lanes: u16) -> Self {
        let lanes = usize::from(lanes);
        Self { numbers: alloc::vec![0; lanes], unread: alloc::vec![Vec::new(); lanes] }
    }

    /// The changes that a request, or several of them, would have made are given up. Call it before their caller goes on,
    /// and tell the lane the number that this returns, in the order of these calls.
    ///
    /// # Panics
    /// If there is no such lane.
    pub fn abandon(&mut self, lane: LaneId, changes: impl IntoIterator<Item = (HeadId, Range<u64>)>) -> u64 {
        let number = &mut self.numbers[usize::from(lane.0)];
        *number += 1;
        let number = *number;
        for (head, range) in changes {
            for unread in &mut self.unread {
                unread.push(Abandoned { lane, number, head, range: range.clone() });
                if unread.len() > MAX_ABANDONED {
                    *unread = merged(core::mem::take(unread));
                }
            }
        }
        number
    }

    /// What a lane has not read: for [`Lane::handle_abandoned`](crate::Lane::handle_abandoned), before it takes anything
    /// that was submitted before this call.
    #[must_use]
    pub fn take(&mut self, lane: LaneId) -> Vec<Abandoned> {
        self.unread.get_mut(usize::from(lane.0)).map(core::mem::take).unwrap_or_default()
    }
}

/// What a lane knows to be given up, and not yet to be guarded or over.
#[derive(Clone, Debug, Hash, Default)]
pub(crate) struct Barrier {
    /// What waits behind it; empty while nothing is given up: the one load that the data path pays.
    ranges: BTreeMap<HeadId, Ranges<u64, ()>>,
    /// By lane and number, then a name of its own: its namespace.
    names: BTreeMap<(LaneId, u64, u64), HeadId>,
    last_name: u64,
    /// By lane: everything up to this number is guarded here, or over.
    handed: BTreeMap<LaneId, u64>,
}

impl Barrier {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if a change of these blocks has to wait.
    pub(crate) fn blocks(&self, head: HeadId, range: Range<u64>) -> bool {
        self.ranges.get(&head).is_some_and(|ranges| ranges.overlapping(range).next().is_some())
    }

    /// The log says what was given up.
    pub(crate) fn handle_abandoned(&mut self, entries: Vec<Abandoned>) {
        for entry in entries {
            self.add(entry);
        }
        if self.names.len() > MAX_ABANDONED {
            let names = core::mem::take(&mut self.names);
            self.ranges.clear();
            let all = names.into_iter().map(|((lane, number, _), head)| Abandoned { lane, number, head, range: 0..0 });
            for entry in merged(all) {
                self.add(entry);
            }
        }
    }

    fn add(&mut self, entry: Abandoned) {
        let Abandoned { lane, number, head, range } = entry;
        if self.handed.get(&lane).is_some_and(|handed| *handed >= number) {
            return;
        }
        self.last_name += 1;
        self.names.insert((lane, number, self.last_name), head);
        self.ranges.entry(head).or_default().insert(self.last_name, range, ());
    }

    /// What was given up on `lane` up to this number is guarded here from now on, or over. True if something may wait for
    /// that.
    pub(crate) fn handle_handed_over(&mut self, lane: LaneId, number: u64) -> bool {
        let handed = self.handed.entry(lane).or_default();
        *handed = number.max(*handed);
        let over: Vec<_> = self.names.range((lane, 0, 0)..=(lane, number, u64::MAX)).map(|(name, _)| *name).collect();
        for name in &over {
            let Some(head) = self.names.remove(name) else { continue };
            let Some(ranges) = self.ranges.get_mut(&head) else { continue };
            ranges.remove(name.2);
            if ranges.is_empty() {
                self.ranges.remove(&head);
            }
        }
        !over.is_empty()
    }
}

/// What control has heard of lanes and not passed on: the newest number of each.
#[derive(Clone, Debug, Hash, Default)]
pub(crate) struct Handovers(BTreeMap<LaneId, u64>);

impl Handovers {
    /// A lane has said of everything up to this number what is in doubt.
    pub(crate) fn handle(&mut self, lane: LaneId, number: u64) {
        let newest = self.0.entry(lane).or_default();
        *newest = number.max(*newest);
    }

    /// What every lane is to be told, after everything else: the newest number of a lane.
    pub(crate) fn poll(&mut self) -> Option<(LaneId, u64)> {
        self.0.pop_last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LaneId = LaneId(0);
    const B: LaneId = LaneId(1);
    const HEAD: HeadId = HeadId(7);

    #[test]
    fn every_lane_reads_once_what_was_given_up_on_any() {
        let mut log = AbandonLog::new(2);
        assert_eq!(log.abandon(A, [(HEAD, 0..8)]), 1);
        assert_eq!(log.abandon(A, [(HEAD, 8..16), (HEAD, 32..40)]), 2);
        assert_eq!(log.abandon(B, [(HEAD, 4..6)]), 1, "numbers count per lane");
        let read = log.take(B);
        assert_eq!(read, log.take(A));
        let short: Vec<_> = read.iter().map(|entry| (entry.lane, entry.number, entry.range.clone())).collect();
        assert_eq!(short, [(A, 1, 0..8), (A, 2, 8..16), (A, 2, 32..40), (B, 1, 4..6)]);
        assert!(log.take(A).is_empty() && log.take(LaneId(9)).is_empty());
    }

    #[test]
    fn a_number_frees_all_before_it_of_its_lane_and_no_others() {
        let (mut log, mut barrier) = (AbandonLog::new(2), Barrier::default());
        log.abandon(A, [(HEAD, 0..8)]);
        log.abandon(A, [(HEAD, 8..16)]);
        log.abandon(A, [(HEAD, 16..24)]);
        log.abandon(B, [(HEAD, 100..108), (HeadId(8), 0..8)]);
        barrier.handle_abandoned(log.take(B));
        assert!(barrier.blocks(HEAD, 7..9) && !barrier.blocks(HEAD, 24..100) && !barrier.blocks(HeadId(9), 0..8));
        assert!(barrier.handle_handed_over(A, 2));
        assert!(!barrier.blocks(HEAD, 0..16) && barrier.blocks(HEAD, 16..17) && barrier.blocks(HEAD, 107..200));
        assert!(!barrier.handle_handed_over(A, 2), "once");
        assert!(barrier.handle_handed_over(A, 3) && barrier.handle_handed_over(B, 1));
        assert!(barrier.is_empty());
    }

    #[test]
    fn what_the_log_says_too_late_is_known_already() {
        let (mut log, mut barrier) = (AbandonLog::new(2), Barrier::default());
        log.abandon(A, [(HEAD, 0..8)]);
        assert!(!barrier.handle_handed_over(A, 1));
        barrier.handle_abandoned(log.take(B));
        assert!(barrier.is_empty());
        log.abandon(A, [(HEAD, 0..8)]);
        barrier.handle_abandoned(log.take(B));
        assert!(barrier.blocks(HEAD, 0..1), "the next one is not");
    }

    #[test]
    fn who_gives_up_very_much_costs_no_memory() {
        let (mut log, mut barrier) = (AbandonLog::new(2), Barrier::default());
        for at in 0..10 * MAX_ABANDONED as u64 {
            log.abandon(A, [(HeadId((at % 3) as u32), 2 * at..2 * at + 1)]);
            if at.is_multiple_of(700) {
                barrier.handle_abandoned(log.take(B));
            }
            assert!(barrier.names.len() <= MAX_ABANDONED && log.unread[0].len() <= MAX_ABANDONED);
        }
        barrier.handle_abandoned(log.take(B));
        let last = 10 * MAX_ABANDONED as u64;
        for head in 0..3 {
            assert!(barrier.blocks(HeadId(head), 1..2), "all of it counts as given up");
        }
        assert!(!barrier.blocks(HeadId(3), 1..2));
        barrier.handle_handed_over(A, last - 1);
        assert!(!barrier.is_empty(), "the newest is not over");
        barrier.handle_handed_over(A, last);
        assert!(barrier.is_empty());
    }

    #[test]
    fn lanes_are_told_the_newest_number_of_each_once() {
        let mut handovers = Handovers::default();
        handovers.handle(A, 1);
        handovers.handle(B, 4);
        handovers.handle(A, 3);
        assert_eq!([handovers.poll(), handovers.poll(), handovers.poll()], [Some((B, 4)), Some((A, 3)), None]);
    }
}
