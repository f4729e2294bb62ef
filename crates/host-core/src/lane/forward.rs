//! Requests that another lane carries out, and those that this one carries out for others ([`forward`](crate::forward)).
//!
//! All of it is beside the steady path: a lane that has a queue on the best path of a namespace never comes here.

use super::requests::{Bias, MAX_REQUESTS, Reason, State};
use super::{Lane, LaneOutput};
use crate::forward::Past;
use crate::guards::{self as conditions, Guard};
use crate::poison::Report;
use crate::{LaneId, Outcome, Refused, Request};
use interlock_base::Instant;

impl Lane {
    /// Has another lane carry a request out. Nothing of it is on a queue here; what an earlier command did is over, or nobody
    /// waits for its end (legacy): its guard ends here, and what may have happened goes with it.
    #[cold]
    pub(super) fn forward(&mut self, now: Instant, index: u32, to: LaneId) {
        debug_assert!(to < self.config.id, "a request is forwarded to a lane with a lower number, not to {to}");
        let ticket = self.requests.next_command(index);
        let Some(tracked) = self.requests.get_mut(index) else { return };
        tracked.state = State::Forwarded { ticket, to };
        let (token, request, seq, head) = (tracked.token, tracked.request, tracked.seq, tracked.head);
        let lost = self.lost.remove(&seq);
        let past = Past {
            since: tracked.since,
            table: self.heads.table_epoch(),
            doubt: tracked.doubt,
            retries: tracked.retries,
            carriers: lost.filter(|_| conditions::enabled(Guard::CountTravels)),
        };
        let key = self.guards.key(seq);
        self.plans.remove(&seq);
        self.end_guard(key);
        if let Some(carriers) = past.carriers {
            // Its name ends when it has ended there.
            self.lost.insert(seq, carriers);
            self.guards.mark(key, request.head);
        } else if let Some(carriers) = lost {
            self.report(Report::Ended(carriers.name()));
        }
        self.heads.head_counter(head).io.ended(now);
        self.counters.forwarded += 1;
        self.outputs.push_back(LaneOutput::Forward { to, ticket, token, request, past });
    }

    /// Takes over a request that another lane forwarded: its outputs [`LaneOutput::Forward`] of that lane say which. `token` is as
    /// in [`Lane::submit`]: `Done` comes in any case. Read what was given up before, as for [`Lane::submit`].
    pub fn serve(&mut self, now: Instant, request: Request, past: Past, token: u64) {
        if self.requests.len() >= MAX_REQUESTS as usize {
            self.counters.refused_busy += 1;
            return self.outputs.push_back(LaneOutput::Done { token, outcome: past.refused(Refused::Busy) });
        }
        let head = self.heads.slot_or_new(request.head, &mut self.rng);
        let index = self.requests.insert(request, token, head, past.since);
        if let Some(tracked) = self.requests.get_mut(index) {
            (tracked.doubt, tracked.retries) = (past.doubt, past.retries);
        }
        self.counters.served += 1;
        self.heads.head_counter(head).io.began(now);
        if let Some(carriers) = past.carriers {
            self.take_lost(index, carriers);
        }
        if past.table > self.heads.table_epoch() && !self.shutting_down {
            self.wait(index, Reason::Table { epoch: past.table });
        } else if past.carriers.is_some() {
            self.again(index, Bias::None);
        } else {
            self.attempt(now, index);
        }
        self.finish_call(now);
    }

    /// The lane to which a request was forwarded says how it ended. A ticket that is not known is ignored.
    pub fn handle_served(&mut self, now: Instant, ticket: u64, outcome: Outcome) {
        let Some(index) = self.requests.by_command(ticket) else { return };
        let Some(tracked) = self.requests.get(index) else { return };
        if !matches!(tracked.state, State::Forwarded { .. }) {
            debug_assert!(false, "one_owner_per_tag: {tracked:?} was not forwarded");
            return;
        }
        let (token, seq) = (tracked.token, tracked.seq);
        // That lane has counted it.
        self.requests.remove(index);
        self.end_guard(self.guards.key(seq));
        self.outputs.push_back(LaneOutput::Done { token, outcome });
        self.finish_call(now);
    }

    /// Nobody waits for a forwarded request any more. What overlaps it waits here until it has ended there: this lane may take
    /// the next request before what it says now is written into the log.
    #[cold]
    pub(super) fn give_up_forwarded(&mut self, to: LaneId, ticket: u64, seq: u64, request: &Request) {
        let change = request.op.changes_media() && conditions::enabled(Guard::GiveUpFollows);
        if change {
            self.guards.start(self.guards.key(seq), request.head, request.range());
        }
        let change = change.then(|| (request.head, request.range()));
        self.outputs.push_back(LaneOutput::GiveUp { to, ticket, change });
    }
}
