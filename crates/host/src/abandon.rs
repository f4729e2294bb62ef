//! What callers give up, known to every lane before they go on.
//!
//! The way of carrying for [`interlock_host_core::barrier`]: one log for all handles of a host, and a flag for each lane,
//! so that a lane with nothing to read pays one load.

use crate::completion::QueueId;
use crate::lane::LaneMail;
use interlock_carry::Mailbox;
use interlock_host_core::barrier::{AbandonLog, Abandoned};
use interlock_host_core::{HeadId, LaneId, Request};
use std::mem;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The log of one host.
pub(crate) struct Abandons {
    log: Mutex<Log>,
    /// By lane: there is something to read.
    unread: Vec<AtomicBool>,
    lanes: Vec<Mailbox<LaneMail>>,
}

struct Log {
    abandoned: AbandonLog,
    /// Nothing is taken any more.
    closed: bool,
}

/// What a lane has to know before it takes a request.
pub(crate) struct News {
    pub(crate) abandoned: Vec<Abandoned>,
    /// It takes none any more.
    pub(crate) closed: bool,
}

impl Abandons {
    pub(crate) fn new(lanes: &[Mailbox<LaneMail>]) -> Self {
        let count = u16::try_from(lanes.len()).expect("a host has at most 65,535 lanes");
        let unread = lanes.iter().map(|_| AtomicBool::new(false)).collect();
        let log = Log { abandoned: AbandonLog::new(count), closed: false };
        Self { log: Mutex::new(log), unread, lanes: lanes.to_vec() }
    }

    /// Nobody waits for this request of a foreign thread any more. When this returns, every later change of the same blocks
    /// waits for what becomes of it.
    pub(crate) fn request(&self, lane: LaneId, id: u64, request: &Request) {
        if request.op.changes_media() {
            self.changes(lane, [(request.head, request.range())], |number| LaneMail::Abandon {
                id,
                number: Some(number),
            });
        } else {
            self.send(lane, LaneMail::Abandon { id, number: None });
        }
    }

    /// Nobody reads this queue any more. Which changes of these namespaces are unanswered its lane alone knows: until it has
    /// said so, each of them counts as given up as a whole.
    pub(crate) fn queue(&self, lane: LaneId, queue: &QueueId, heads: impl IntoIterator<Item = HeadId>) {
        let changes = heads.into_iter().map(|head| (head, 0..u64::MAX));
        self.changes(lane, changes, |number| LaneMail::AbandonQueue { queue: queue.clone(), number });
    }

    /// The lane has abandoned these changes already.
    pub(crate) fn abandoned(&self, lane: LaneId, changes: impl IntoIterator<Item = (HeadId, Range<u64>)>) {
        self.changes(lane, changes, LaneMail::HandedOver);
    }

    /// Nobody waits for a request any more that `from` had forwarded to `lane`: its changes are given up there, too.
    pub(crate) fn forwarded(&self, lane: LaneId, from: LaneId, ticket: u64, change: Option<(HeadId, Range<u64>)>) {
        match change {
            Some(change) => {
                self.changes(lane, [change], |number| LaneMail::AbandonServed { from, ticket, number: Some(number) });
            }
            None => self.send(lane, LaneMail::AbandonServed { from, ticket, number: None }),
        }
    }

    fn changes(
        &self,
        lane: LaneId,
        changes: impl IntoIterator<Item = (HeadId, Range<u64>)>,
        mail: impl FnOnce(u64) -> LaneMail,
    ) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let number = log.abandoned.abandon(lane, changes);
        for unread in &self.unread {
            unread.store(true, Ordering::Release);
        }
        // Under the lock: the lane hears numbers in their order.
        self.send(lane, mail(number));
    }

    fn send(&self, lane: LaneId, mail: LaneMail) {
        // As many of these as requests: bounded with them.
        if let Some(mailbox) = self.lanes.get(usize::from(lane.0)) {
            mailbox.send(mail);
        }
    }

    /// What a lane has not read. Called after requests were taken from a mailbox, and before they are submitted: whoever
    /// gave something up before asking for one of them has written it here before.
    pub(crate) fn take(&self, lane: LaneId) -> Option<News> {
        let unread = self.unread.get(usize::from(lane.0))?;
        if !unread.load(Ordering::Acquire) {
            return None;
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        unread.store(false, Ordering::Relaxed); // under the lock, as all that is written
        Some(News { abandoned: log.abandoned.take(lane), closed: log.closed })
    }

    /// The host ends, or a lane of it: no lane takes anything that is asked for from now on. Whoever is told afterwards that
    /// nobody knows what became of a write cannot write over it through this host.
    pub(crate) fn close(&self) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if mem::replace(&mut log.closed, true) {
            return;
        }
        for unread in &self.unread {
            unread.store(true, Ordering::Release);
        }
        drop(log);
        for mailbox in &self.lanes {
            mailbox.send(LaneMail::Close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;
    use crate::completion::{Completions, Pending, Reply};
    use interlock_host_core::Op;
    use std::sync::Arc;

    const HEAD: HeadId = HeadId(3);
    const A: LaneId = LaneId(0);
    const B: LaneId = LaneId(1);

    fn two_lanes() -> (Arc<Abandons>, [Mailbox<LaneMail>; 2]) {
        let lanes = [Mailbox::default(), Mailbox::default()];
        (Arc::new(Abandons::new(&lanes)), lanes)
    }

    fn pending(abandons: &Arc<Abandons>, op: Op) -> (Pending, Reply) {
        let request = Request { head: HEAD, op, slba: 8, nlb: 4, data: None };
        let (abandons, mut reply) = (Arc::clone(abandons), None);
        let pending = Pending::new(|to| {
            reply = Some(to);
            Box::new(move || abandons.request(A, 7, &request))
        });
        (pending, reply.expect("`new` calls it"))
    }

    #[test]
    fn a_dropped_write_is_known_to_every_lane_when_the_drop_returns() {
        let (abandons, [mail, _]) = two_lanes();
        let (write, _reply) = pending(&abandons, Op::Write { fua: false });
        assert!(abandons.take(B).is_none(), "one load, and nothing to read");
        drop(write);
        let expected = [Abandoned { lane: A, number: 1, head: HEAD, range: 8..12 }];
        let taken = |lane| abandons.take(lane).map(|news| news.abandoned);
        assert_eq!(taken(B).as_deref(), Some(&expected[..]));
        assert_eq!(taken(A).as_deref(), Some(&expected[..]), "its own lane may not have read its mail");
        assert!(abandons.take(B).is_none() && abandons.take(A).is_none());
        assert!(matches!(mail.take().pop_front(), Some(LaneMail::Abandon { id: 7, number: Some(1) })));
    }

    #[test]
    fn what_changes_nothing_or_has_ended_holds_nobody_up() {
        let (abandons, [mail, _]) = two_lanes();
        let (read, _reply) = pending(&abandons, Op::Read);
        drop(read);
        assert!(matches!(mail.take().pop_front(), Some(LaneMail::Abandon { number: None, .. })));
        let (write, reply) = pending(&abandons, Op::Discard);
        reply.send(Outcome::Ok, None);
        drop(write);
        assert!(mail.take().is_empty() && abandons.take(B).is_none());
    }

    #[test]
    fn a_queue_that_nobody_reads_any_more_gives_up_what_it_would_have_said() {
        let (abandons, [mail, _]) = two_lanes();
        let queue = Completions::new();
        for head in [HEAD, HeadId(4), HEAD] {
            queue.used_by(&abandons, A, head);
        }
        let (first, second) = (Reply::queue(&queue, 1), Reply::queue(&Completions::new(), 2));
        let reader = queue.clone();
        drop(queue);
        assert!(abandons.take(B).is_none(), "somebody reads it still");
        drop(reader);
        let entry = |head| Abandoned { lane: A, number: 1, head, range: 0..u64::MAX };
        let mut read = abandons.take(B).expect("given up").abandoned;
        read.sort_by_key(|entry| entry.head);
        assert_eq!(read, [entry(HEAD), entry(HeadId(4))]);
        let Some(LaneMail::AbandonQueue { queue, number: 1 }) = mail.take().pop_front() else { panic!("no mail") };
        assert!(first.goes_to(&queue) && !second.goes_to(&queue));
    }

    #[test]
    fn a_queue_without_open_requests_gives_nothing_up() {
        let (abandons, [mail, _]) = two_lanes();
        let queue = Completions::new();
        queue.used_by(&abandons, A, HEAD);
        Reply::queue(&queue, 1).send(Outcome::Ok, None);
        drop(queue);
        assert!(mail.take().is_empty() && abandons.take(B).is_none());
    }
}
