//! Nobody is told "indeterminate" before every lane holds the guard of that command; and the guard outlives the request
//! (`in_doubt_outlives_its_request`) until its life is over or its answer came.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{GuardKey, Outcome, ToControl, ToLane};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Check {
    listed: BTreeMap<GuardKey, u64>,
    epoch: u64,
    seen: BTreeMap<usize, u64>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "guard_before_giving_up"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::ControlSaid(lane, ToLane::Guard { epoch, entries }) => {
                self.seen.entry(*lane).or_default();
                if *epoch > self.epoch {
                    self.epoch = *epoch;
                    let keys: BTreeSet<GuardKey> = entries.iter().map(|entry| entry.key).collect();
                    self.listed.retain(|key, _| keys.contains(key));
                    for key in keys {
                        self.listed.entry(key).or_insert(*epoch);
                    }
                }
            }
            Seen::LaneTook(lane, ToLane::Guard { epoch, .. }) | Seen::LaneSaid(lane, ToControl::GuardSeen(epoch)) => {
                self.seen.insert(*lane, *epoch);
            }
            Seen::Done { op, key: Some(key), outcome: Outcome::Indeterminate { .. } } => {
                let Some(since) = self.listed.get(key) else {
                    return Some(format!("#{:x} ended as indeterminate without a guard", op.0));
                };
                let missing = self.seen.iter().find(|(_, epoch)| *epoch < since);
                if let Some((lane, epoch)) = missing {
                    return Some(format!(
                        "#{:x} ended as indeterminate, its guard came with table {since}, lane{lane} has {epoch}",
                        op.0
                    ));
                }
            }
            _ => {}
        }
        None
    }
}
