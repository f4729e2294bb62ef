//! Requests that are given up: the log that all lanes read, and the mail to the lane that has the request.
//!
//! As with the product's handles: what is given up stands in the log before the application goes on; the lane of the
//! request hears of it later, in order, and every lane reads the log before it takes a request.

use crate::checkers::Seen;
use crate::mix::Kind;
use crate::world::{Ev, World, note};
use interlock_check::OpId;
use interlock_host_core::barrier::AbandonLog;
use interlock_host_core::{HeadId, LaneId};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// What one process of the host knows of requests that were given up.
#[derive(Clone, Debug)]
pub(super) struct Abandons {
    log: AbandonLog,
    /// By lane: mail that it has not read, with the number that a change has in the log.
    mail: Vec<VecDeque<(OpId, Option<u64>)>>,
}

impl Abandons {
    pub(super) fn new(lanes: usize) -> Self {
        let count = u16::try_from(lanes).expect("a plan has few lanes");
        Self { log: AbandonLog::new(count), mail: vec![VecDeque::new(); lanes] }
    }
}

impl Abandons {
    /// The number of the first change in the mail of a lane.
    pub(super) fn next_number(&self, lane: usize) -> Option<u64> {
        self.mail[lane].iter().find_map(|(_, number)| *number)
    }

    /// Given up on a lane: its number.
    pub(super) fn log(&mut self, lane: usize, change: (HeadId, Range<u64>)) -> u64 {
        self.log.abandon(LaneId(lane as u16), [change])
    }

    /// True if the lane of a request has not read that it was given up.
    pub(super) fn is_unread(&self, op: OpId) -> bool {
        self.mail.iter().flatten().any(|(of, _)| *of == op)
    }
}

impl World {
    /// The application gives a request up.
    pub(crate) fn give_up(&mut self, lane: usize, op: OpId) {
        let Some(asked) = self.app.asked.get_mut(&op.0) else { return };
        let Some(key) = asked.key.filter(|_| asked.ended.is_none()) else { return };
        asked.abandoned = true;
        let (volume, id, head) = (asked.volume, asked.op.id, asked.head);
        let (changes, range) = (asked.op.kind.changes_media(), asked.op.range());
        note!(self, "app: gives #{:x} up", op.0);
        self.app.volumes[volume].oracle.abandoned(id, self.now);
        self.app.volumes[volume].load.finished(id);
        let change = head.filter(|_| changes).map(|head| (head, range.clone()));
        let number = change.map(|change| self.app.abandons.log.abandon(LaneId(lane as u16), [change]));
        self.app.abandons.mail[lane].push_back((op, number));
        if changes {
            self.met(Kind::GivenUp);
            self.see(&Seen::Abandoned { op, key, nsid: volume as u32 + 1, range });
        }
        let most = if self.app.rng.percent(20) { 1_000_000 } else { 20_000 };
        let delay = Duration::from_nanos(200 + self.app.rng.below(most));
        self.after(delay, Ev::Abandoned(lane, self.process.number));
    }

    /// A lane reads that a request was given up.
    pub(crate) fn abandoned(&mut self, lane: usize, process: u32) {
        if process != self.process.number {
            return;
        }
        let Some((op, number)) = self.app.abandons.mail[lane].pop_front() else { return };
        self.hear_those_before(lane, number);
        self.lanes[lane].lane.abandon(self.now, op.0);
        if let Some(number) = number {
            self.lanes[lane].lane.handed_over(self.now, number);
        }
        self.drain_host();
    }

    /// A lane is about to take a request, or to hear what has been handed over.
    pub(crate) fn read_abandoned(&mut self, lane: usize) {
        let abandoned = self.app.abandons.log.take(LaneId(lane as u16));
        self.lanes[lane].lane.handle_abandoned(abandoned);
    }
}
