//! What was accepted after every lane had a guard in its table does not execute while that guard stands, nor what was
//! accepted by any lane after another was given up while that one may execute; and of two guarded commands that overlap
//! the later one waits for the earlier.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_check::OpId;
use interlock_host_core::{GuardKey, HeadId, LifeId, Release, ToControl, ToLane};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

struct Guarded {
    range: Range<u64>,
    head: HeadId,
    /// The first table that lists it.
    epoch: u64,
    /// When the last lane had it; `None`: not yet.
    everywhere: Option<Instant>,
}

#[derive(Clone)]
struct Taken {
    at: Instant,
    key: GuardKey,
    nsid: u32,
}

#[derive(Default)]
pub(super) struct Check {
    guards: BTreeMap<GuardKey, Guarded>,
    seen: BTreeMap<usize, u64>,
    last_epoch: u64,
    taken: BTreeMap<OpId, Taken>,
    by_key: BTreeMap<GuardKey, u32>,
    /// Given up and not ended: every lane knows it at once.
    abandoned: BTreeMap<OpId, (Instant, GuardKey, u32, Range<u64>)>,
    /// Ended, and the application does not know yet.
    guests_done: BTreeSet<OpId>,
    ledgers: BTreeMap<LifeId, Vec<GuardKey>>,
    /// When commands in doubt were released.
    released: BTreeMap<GuardKey, Instant>,
    /// Of these, what was released with its life: it guards its range until it has ended, whatever a table says.
    settled: BTreeSet<GuardKey>,
    tombstones: BTreeSet<LifeId>,
    /// What a table left out before its lane had said that it ended.
    left_out: BTreeMap<GuardKey, Guarded>,
}

impl Check {
    /// Nothing of it is waited for any more.
    fn ended(&mut self, key: &GuardKey) {
        self.left_out.remove(key);
        self.settled.remove(key);
        for ledger in self.ledgers.values_mut() {
            ledger.retain(|held| held != key);
        }
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "overlaps_wait"
    }

    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => *self = Self::default(),
            Seen::Accepted { op, key, nsid } => {
                self.taken.insert(*op, Taken { at: now, key: *key, nsid: *nsid });
                self.by_key.insert(*key, *nsid);
                // Another lane carries it out from now on, under a name of its own.
                if let Some((_, of, ..)) = self.abandoned.get_mut(op) {
                    *of = *key;
                }
            }
            Seen::ControlSaid(lane, ToLane::Guard { epoch, entries }) => {
                self.seen.entry(*lane).or_default();
                if *epoch > self.last_epoch {
                    self.last_epoch = *epoch;
                    let mut guards = BTreeMap::new();
                    for entry in entries.iter() {
                        let before = self.guards.remove(&entry.key).or_else(|| self.left_out.remove(&entry.key));
                        let guarded = before.unwrap_or_else(|| Guarded {
                            range: entry.range.clone(),
                            head: entry.head,
                            epoch: *epoch,
                            everywhere: None,
                        });
                        guards.insert(entry.key, guarded);
                    }
                    self.left_out.append(&mut self.guards);
                    self.guards = guards;
                }
            }
            // The lane has ended it: its guard is as good as gone, whatever is still on its way.
            Seen::LaneSaid(_, ToControl::Resolved(keys)) => {
                for key in keys {
                    self.guards.remove(key);
                    self.ended(key);
                }
            }
            Seen::Abandoned { op, key, nsid, range } if !self.guests_done.contains(op) => {
                self.abandoned.insert(*op, (now, *key, *nsid, range.clone()));
            }
            Seen::Done { op, key, .. } => {
                self.guests_done.remove(op);
                self.abandoned.remove(op);
                if let Some(key) = key {
                    self.ended(key);
                }
            }
            // Its lane knows, and sends what waited for it.
            Seen::GuestDone { op } => {
                self.guests_done.insert(*op);
                self.abandoned.remove(op);
            }
            Seen::ControlTook(_, ToControl::Condemned { life, ledger, .. }) => {
                let keys = ledger.iter().map(|entry| entry.key);
                self.ledgers.entry(*life).or_default().extend(keys.clone());
                // Held anew, for another life.
                keys.for_each(|key| {
                    self.settled.remove(&key);
                });
            }
            // A late answer releases this one alone, and at once: if it goes elsewhere now, the end of its old life is none of
            // its matters.
            Seen::ControlSaid(_, ToLane::Answered { key, .. }) => {
                for ledger in self.ledgers.values_mut() {
                    ledger.retain(|held| held != key);
                }
                self.ended(key);
                self.released.insert(*key, now);
            }
            // It was answered, whatever becomes of the answer.
            Seen::ControlTook(_, ToControl::Late { key, .. }) => {
                self.abandoned.retain(|_, (_, other, ..)| other != key);
            }
            // Left unfenced: nothing of it is sent again, and its end frees the ranges at once.
            Seen::ControlSaid(0, ToLane::Settle { life, release: Release::Indeterminate { .. } }) => {
                self.tombstones.insert(*life);
            }
            Seen::ControlSaid(0, ToLane::Settle { life, release: Release::Retry }) => {
                let sent_again = !self.tombstones.remove(life);
                for key in self.ledgers.remove(life).unwrap_or_default() {
                    self.released.insert(key, now);
                    // Fenced: it executes no more.
                    self.abandoned.retain(|_, (_, other, ..)| *other != key);
                    if sent_again {
                        self.settled.insert(key);
                    }
                }
            }
            Seen::ControlTook(lane, ToControl::GuardSeen(epoch)) => {
                self.seen.insert(*lane, *epoch);
                let least = self.seen.values().copied().min().unwrap_or(0);
                for guarded in self.guards.values_mut().filter(|guarded| guarded.epoch <= least) {
                    guarded.everywhere.get_or_insert(now);
                }
            }
            Seen::Executed { op: Some(op), nsid, range, .. } => {
                let taken = self.taken.get(op)?;
                let given_up = self.abandoned.values().find(|(at, key, of, guarded)| {
                    let overlaps = range.start.max(guarded.start) < range.end.min(guarded.end);
                    *of == *nsid && overlaps && *key != taken.key && taken.at > *at
                });
                if let Some((at, key, ..)) = given_up {
                    return Some(format!(
                        "#{:x} touches {range:?}, which {key:?}, given up at {at}, still guards",
                        op.0
                    ));
                }
                let left_out = self.left_out.iter().filter(|(key, _)| self.settled.contains(key));
                let overlapping = self.guards.iter().chain(left_out).find(|(key, guarded)| {
                    let overlaps = range.start.max(guarded.range.start) < range.end.min(guarded.range.end);
                    let same = self.by_key.get(*key) == Some(nsid) && taken.nsid == *nsid;
                    let later = guarded.everywhere.is_some_and(|everywhere| taken.at > everywhere);
                    let released = self.released.get(&taken.key);
                    let in_turn = **key < taken.key
                        && guarded.everywhere.is_some_and(|everywhere| released.is_some_and(|at| *at > everywhere));
                    same && overlaps && **key != taken.key && (later || in_turn)
                });
                if let Some((key, guarded)) = overlapping {
                    return Some(format!(
                        "#{:x}, taken at {}, touches {range:?} of {} while {key:?} guards {:?} since {}",
                        op.0,
                        taken.at,
                        guarded.head,
                        guarded.range,
                        guarded.everywhere.unwrap_or_default()
                    ));
                }
            }
            _ => {}
        }
        None
    }
}
