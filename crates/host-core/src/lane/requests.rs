//! The requests of a lane, from acceptance to `Done`, and the ledger of what was sent for them.
//!
//! A request may be carried by several commands, one after the other. Each command has a token of its own that is never
//! used again (`one_owner_per_tag`), so that an answer to an earlier one can never be taken for an answer to a later one.

pub(super) use crate::forward::Doubt;
use crate::{LaneId, LifeId, Request};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use interlock_base::{Instant, Key};
use interlock_wire::status::Status;

use crate::ConnId;

const INDEX_BITS: u32 = 20;
/// Bound of [`super::LaneConfig::requests_max`]: what fits the low bits of a command token.
pub(super) const MAX_REQUESTS: u32 = 1 << INDEX_BITS;

/// One request.
#[derive(Clone, Debug, Hash)]
pub(super) struct Tracked {
    pub(super) request: Request,
    /// The caller's.
    pub(super) token: u64,
    /// Order of acceptance.
    pub(super) seq: u64,
    /// Slot of its namespace in `Heads`.
    pub(super) head: u32,
    /// When it was accepted.
    pub(super) since: Instant,
    pub(super) state: State,
    /// What an earlier command of it may have done.
    pub(super) doubt: Doubt,
    pub(super) bias: Bias,
    pub(super) retries: u8,
    pub(super) abandoned: bool,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    /// Nothing of it is on any queue.
    Waiting(Reason),
    /// On a queue of a life that was not condemned.
    Sent(Sent),
    /// In doubt, its life condemned.
    Held(Held),
    /// Given up without a fence; ends as soon as its guard is in control's table.
    Ending { life: LifeId, until: Option<Instant> },
    /// Another lane carries it out, and knows it by this ticket.
    Forwarded { ticket: u64, to: LaneId },
}

/// What a waiting request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// Its next attempt, at the end of this call.
    Turn,
    /// A range that nobody may touch.
    Guard,
    /// To hear what became of writes over the same blocks that were given up.
    Handover {
        /// Nobody waits longer.
        until: Instant,
    },
    /// A usable path.
    Path,
    /// The delay that its controller asked for.
    Delay {
        /// When that is over.
        until: Instant,
    },
    /// A free slot on a queue.
    Slot,
    /// The same, on a queue of one life and no other.
    Pinned,
    /// What control says about whom it has to ask.
    Plan,
    /// What control says about a command that instances were lost with.
    Alone,
    /// The table of paths by which another lane forwarded it.
    Table {
        /// It, or a later one.
        epoch: u64,
    },
}

/// A command on a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sent {
    pub(super) command: u64,
    pub(super) conn: ConnId,
    pub(super) life: Key,
    /// Slot of its counters in `Heads`.
    pub(super) path: u32,
    pub(super) since: Instant,
}

/// A command in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    pub(super) command: u64,
    pub(super) life: LifeId,
    pub(super) path: u32,
    pub(super) since: Instant,
}

impl Tracked {
    /// A command of it was answered with `status`, and another one may follow it. An error of the media may come after a
    /// part of the change; an ANA status says that the command was not processed at all.
    pub(super) const fn note_error(&mut self, status: Status) {
        let may_have_changed = self.request.op.changes_media() && !status.is_ana();
        if may_have_changed && matches!(self.doubt, Doubt::None | Doubt::Answered(_)) {
            self.doubt = Doubt::Answered(status);
        }
    }
}

/// Which path a request would rather take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bias {
    None,
    /// The path that asked for a retry.
    Prefer(Key),
    /// The path that failed.
    Avoid(Key),
}

/// All requests.
#[derive(Clone, Debug, Hash, Default)]
pub(super) struct Requests {
    slots: Vec<Option<Tracked>>,
    free: Vec<u32>,
    last_seq: u64,
    last_serial: u64,
    /// Everything that waits for a guard, a path or its turn, in order of acceptance. Not used while all goes well.
    pub(super) waiting: BTreeMap<u64, u32>,
}

impl Requests {
    pub(super) const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True if there is one for the namespace in this slot.
    pub(super) fn has_head(&self, slot: u32) -> bool {
        self.slots.iter().flatten().any(|tracked| tracked.head == slot)
    }

    pub(super) fn insert(&mut self, request: Request, token: u64, head: u32, now: Instant) -> u32 {
        self.last_seq += 1;
        let tracked = Tracked {
            request,
            token,
            seq: self.last_seq,
            head,
            since: now,
            state: State::Waiting(Reason::Turn),
            doubt: Doubt::None,
            bias: Bias::None,
            retries: 0,
            abandoned: false,
        };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(tracked);
            return index;
        }
        self.slots.push(Some(tracked));
        u32::try_from(self.slots.len() - 1).expect("requests_max is at most 2^20")
    }

    pub(super) fn get(&self, index: u32) -> Option<&Tracked> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Tracked> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Tracked> {
        let tracked = self.slots.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(tracked)
    }

    /// A token for a command that carries the request, never given before.
    pub(super) const fn next_command(&mut self, index: u32) -> u64 {
        self.last_serial += 1;
        self.last_serial << INDEX_BITS | index as u64
    }

    /// The newest token of a command.
    pub(super) const fn last_command(&self) -> u64 {
        self.last_serial << INDEX_BITS | (MAX_REQUESTS - 1) as u64
    }

    /// The request that `command` carries, unless it was taken from it.
    pub(super) fn by_command(&self, command: u64) -> Option<u32> {
        let index = (command & u64::from(MAX_REQUESTS - 1)) as u32;
        let carried_by = match self.get(index)?.state {
            State::Sent(sent) => sent.command,
            State::Held(held) => held.command,
            State::Forwarded { ticket, .. } => ticket,
            State::Waiting(_) | State::Ending { .. } => return None,
        };
        (carried_by == command).then_some(index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Tracked)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| slot.as_ref().map(|tracked| (index, tracked)))
    }

    /// The requests that `pick` names, in order of acceptance. A walk over all of them: not for the steady path.
    pub(super) fn select(&self, mut pick: impl FnMut(&Tracked) -> bool) -> Vec<u32> {
        let mut found: Vec<(u64, u32)> =
            self.iter().filter(|(_, tracked)| pick(tracked)).map(|(index, tracked)| (tracked.seq, index)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| index).collect()
    }
}
