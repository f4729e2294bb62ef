//! Requests that one lane of the host has another carry out: the mail between two lanes, with the bytes.
//!
//! As with the product's drivers: the buffer goes with the request and comes back with its end, and what is given up on the way
//! is written into the log of the serving lane before the first lane says anything else.

use crate::checkers::Seen;
use crate::mix::Kind;
use crate::world::{Box_, Mail, World, note};
use interlock_base::{BufId, Span};
use interlock_check::OpId;
use interlock_host_core as host;
use interlock_host_core::forward::Past;
use std::collections::{BTreeMap, BTreeSet};

/// From one lane to another.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    Serve { ticket: u64, op: OpId, request: host::Request, past: Past, data: Option<Vec<u8>> },
    Served { ticket: u64, op: OpId, outcome: host::Outcome, data: Option<Vec<u8>> },
    Abandon { op: OpId, number: Option<u64> },
}

/// A request that a lane carries out for another.
#[derive(Clone, Debug)]
struct Guest {
    from: usize,
    ticket: u64,
    buf: Option<BufId>,
}

/// What the lanes of one process do for each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Relay {
    guests: BTreeMap<(usize, u64), Guest>,
    /// By lane and ticket.
    tickets: BTreeMap<(usize, u64), u64>,
    /// Given up, and the lane that has the request has not read it.
    unread: BTreeSet<u64>,
}

impl Relay {
    pub(super) fn is_unread(&self, op: OpId) -> bool {
        self.unread.contains(&op.0)
    }
}

impl World {
    fn buffer_of(&mut self, lane: usize, op: OpId) -> Option<&mut Option<BufId>> {
        if let Some(guest) = self.app.relay.guests.get_mut(&(lane, op.0)) {
            return Some(&mut guest.buf);
        }
        self.app.asked.get_mut(&op.0).filter(|asked| asked.door == lane).map(|asked| &mut asked.buf)
    }

    /// A lane has another carry a request out.
    pub(crate) fn forward(
        &mut self,
        lane: usize,
        to: usize,
        ticket: u64,
        op: OpId,
        request: host::Request,
        past: Past,
    ) {
        self.met(Kind::QueuesShared);
        note!(self, "host: lane{lane} has lane{to} carry #{:x} out", op.0);
        let buf = self.buffer_of(lane, op).and_then(Option::take);
        let data = buf.and_then(|buf| self.lanes[lane].memory.remove(buf));
        self.app.relay.tickets.insert((lane, ticket), op.0);
        self.post(Box_::HostLanes(lane, to), Mail::Lanes(Letter::Serve { ticket, op, request, past, data }));
    }

    /// Nobody waits for a request any more that a lane had forwarded.
    pub(crate) fn give_up_forwarded(
        &mut self,
        lane: usize,
        to: usize,
        ticket: u64,
        change: Option<(host::HeadId, std::ops::Range<u64>)>,
    ) {
        let Some(op) = self.app.relay.tickets.get(&(lane, ticket)).copied() else { return };
        let number = change.map(|change| self.app.abandons.log(to, change));
        self.app.relay.unread.insert(op);
        self.post(Box_::HostLanes(lane, to), Mail::Lanes(Letter::Abandon { op: OpId(op), number }));
    }

    /// A guest of this lane has ended; false if the request is none.
    pub(super) fn guest_done(&mut self, lane: usize, token: u64, outcome: host::Outcome) -> bool {
        let Some(Guest { from, ticket, buf }) = self.app.relay.guests.remove(&(lane, token)) else { return false };
        let data = buf.and_then(|buf| self.lanes[lane].memory.remove(buf));
        let op = OpId(token);
        self.see(&Seen::GuestDone { op });
        self.post(Box_::HostLanes(lane, from), Mail::Lanes(Letter::Served { ticket, op, outcome, data }));
        true
    }

    /// A lane hears numbers in their order, as in one mailbox: what was given up before is read before, wherever it comes from.
    pub(super) fn hear_those_before(&mut self, lane: usize, number: Option<u64>) {
        let Some(number) = number else { return };
        loop {
            let earlier = |of: Option<u64>| of.filter(|of| *of < number);
            let by_mail = earlier(self.app.abandons.next_number(lane));
            let boxes = (0..self.lanes.len()).map(|from| Box_::HostLanes(from, lane));
            let by_letter = boxes.filter_map(|which| Some((earlier(self.next_number(which))?, which))).min();
            match (by_mail, by_letter) {
                (Some(mail), letter) if letter.is_none_or(|(letter, _)| mail < letter) => {
                    self.abandoned(lane, self.process.number);
                }
                (_, Some((_, which))) => self.carry(which),
                (_, None) => return,
            }
        }
    }

    /// The number of the first change that is given up in a mailbox between two lanes.
    fn next_number(&self, which: Box_) -> Option<u64> {
        self.mail.get(&which)?.iter().find_map(|mail| match mail {
            Mail::Lanes(Letter::Abandon { number, .. }) => *number,
            _ => None,
        })
    }

    /// A lane reads what another wants.
    pub(crate) fn read_letter(&mut self, from: usize, lane: usize, letter: Letter) {
        let now = self.now;
        self.read_abandoned(lane);
        match letter {
            Letter::Serve { ticket, op, request, past, data } => {
                let buf = data.map(|data| self.lanes[lane].memory.insert(data));
                self.app.relay.guests.insert((lane, op.0), Guest { from, ticket, buf });
                self.app.accepted[lane] += 1;
                let key = host::GuardKey { seq: self.app.accepted[lane], lane: lane as u16 };
                self.app.by_key.insert(key, op.0);
                let mut nsid = 0;
                if let Some(asked) = self.app.asked.get_mut(&op.0) {
                    asked.key = Some(key);
                    nsid = asked.volume as u32 + 1;
                }
                self.see(&Seen::Accepted { op, key, nsid });
                let data = request.data.zip(buf).map(|(span, buf)| Span { buf, ..span });
                self.lanes[lane].lane.serve(now, host::Request { data, ..request }, past, op.0);
            }
            Letter::Served { ticket, op, outcome, data } => {
                self.app.relay.tickets.remove(&(lane, ticket));
                let buf = data.map(|data| self.lanes[lane].memory.insert(data));
                if let Some(of) = self.buffer_of(lane, op) {
                    *of = buf;
                }
                self.lanes[lane].lane.handle_served(now, ticket, outcome);
            }
            Letter::Abandon { op, number } => {
                self.hear_those_before(lane, number);
                self.app.relay.unread.remove(&op.0);
                if self.app.relay.guests.contains_key(&(lane, op.0)) {
                    self.lanes[lane].lane.abandon(now, op.0);
                }
                if let Some(number) = number {
                    self.lanes[lane].lane.handed_over(now, number);
                }
            }
        }
        self.drain_host();
    }
}
