//! What was accepted after every lane had a guard in its table does not execute while that guard stands; and of two
//! guarded commands that overlap the later one waits for the earlier.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_check::OpId;
use interlock_host_core::{GuardKey, HeadId, ToControl, ToLane};
use std::collections::BTreeMap;
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
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "overlaps_wait"
    }

    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Accepted { op, key, nsid } => {
                self.taken.insert(*op, Taken { at: now, key: *key, nsid: *nsid });
                self.by_key.insert(*key, *nsid);
            }
            Seen::ControlSaid(lane, ToLane::Guard { epoch, entries }) => {
                self.seen.entry(*lane).or_default();
                if *epoch > self.last_epoch {
                    self.last_epoch = *epoch;
                    let mut guards = BTreeMap::new();
                    for entry in entries.iter() {
                        let before = self.guards.remove(&entry.key);
                        let guarded = before.unwrap_or_else(|| Guarded {
                            range: entry.range.clone(),
                            head: entry.head,
                            epoch: *epoch,
                            everywhere: None,
                        });
                        guards.insert(entry.key, guarded);
                    }
                    self.guards = guards;
                }
            }
            // The lane has ended it: its guard is as good as gone, whatever is still on its way.
            Seen::LaneSaid(_, ToControl::Resolved(keys)) => {
                for key in keys {
                    self.guards.remove(key);
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
                let overlapping = self.guards.iter().find(|(key, guarded)| {
                    let overlaps = range.start.max(guarded.range.start) < range.end.min(guarded.range.end);
                    let same = self.by_key.get(*key) == Some(nsid) && taken.nsid == *nsid;
                    let later = guarded.everywhere.is_some_and(|everywhere| taken.at > everywhere);
                    same && overlaps && **key != taken.key && later
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
