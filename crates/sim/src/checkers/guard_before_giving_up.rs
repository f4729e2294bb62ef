//! Nobody is told "indeterminate" before every lane holds the guard of that command; and the guard outlives the request
//! (`in_doubt_outlives_its_request`) until its life is over or its answer came. Nor is anything released before every
//! lane has said what is in doubt and has confirmed the guards.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, GuardKey, LifeId, Outcome, ToControl, ToLane};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Check {
    listed: BTreeMap<GuardKey, u64>,
    epoch: u64,
    seen: BTreeMap<usize, u64>,
    /// What lanes have confirmed to control.
    confirmed: BTreeMap<usize, u64>,
    /// The first table that ever listed it.
    ever: BTreeMap<GuardKey, u64>,
    /// Left unfenced.
    tombstones: BTreeMap<GuardKey, LifeId>,
    /// Commands in doubt, by life, until they are answered.
    given_up: BTreeMap<LifeId, BTreeSet<GuardKey>>,
    sorted: BTreeMap<LifeId, BTreeSet<usize>>,
    ledgers: BTreeMap<LifeId, Vec<GuardKey>>,
    /// Answered late, through this life.
    late: BTreeMap<GuardKey, LifeId>,
}

impl Check {
    fn forget(&mut self, key: GuardKey) {
        self.tombstones.remove(&key);
        for keys in self.given_up.values_mut() {
            keys.remove(&key);
        }
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "guard_before_giving_up"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => *self = Self::default(),
            Seen::ControlSaid(lane, ToLane::Guard { epoch, entries }) => {
                self.seen.entry(*lane).or_default();
                if *epoch > self.epoch {
                    self.epoch = *epoch;
                    let keys: BTreeSet<GuardKey> = entries.iter().map(|entry| entry.key).collect();
                    self.listed.retain(|key, _| keys.contains(key));
                    let lost = self.tombstones.keys().find(|key| !keys.contains(key)).copied();
                    for key in keys {
                        self.listed.entry(key).or_insert(*epoch);
                        self.ever.entry(key).or_insert(*epoch);
                    }
                    if let Some(key) = lost {
                        let life = self.tombstones.remove(&key);
                        return Some(format!("{key:?} is guarded no more, and {life:?} is not over"));
                    }
                }
            }
            Seen::Host(EventKind::TombstoneSet { life, .. }) => {
                let keys = self.given_up.remove(life).unwrap_or_default();
                self.tombstones.extend(keys.into_iter().map(|key| (key, *life)));
            }
            Seen::Host(EventKind::Fenced(receipt)) => self.tombstones.retain(|_, life| *life != receipt.life),
            Seen::ControlTook(_, ToControl::Late { key, life, .. }) => {
                self.late.insert(*key, *life);
                self.forget(*key);
            }
            // It may be sent again, be in doubt on another life and be guarded anew: no business of this one.
            Seen::ControlSaid(_, ToLane::Answered { key, .. }) => {
                if let Some(ledger) = self.late.remove(key).and_then(|life| self.ledgers.get_mut(&life)) {
                    ledger.retain(|other| other != key);
                }
            }
            Seen::ControlTook(_, ToControl::Resolved(keys)) => {
                for key in keys {
                    self.forget(*key);
                }
            }
            Seen::ControlTook(lane, ToControl::GuardSeen(epoch)) => {
                self.confirmed.insert(*lane, *epoch);
            }
            Seen::ControlTook(lane, ToControl::Condemned { life, ledger, .. }) => {
                self.given_up.entry(*life).or_default().extend(ledger.iter().map(|entry| entry.key));
                self.sorted.entry(*life).or_default().insert(*lane);
                self.ledgers.entry(*life).or_default().extend(ledger.iter().map(|entry| entry.key));
            }
            Seen::ControlSaid(0, ToLane::Settle { life, .. }) => {
                let keys = self.ledgers.remove(life).unwrap_or_default();
                let sorted = self.sorted.remove(life).map_or(0, |lanes| lanes.len());
                if !keys.is_empty() && sorted < self.seen.len() {
                    return Some(format!("{life} was settled when {sorted} lanes had said what is in doubt"));
                }
                let needed = keys.iter().filter_map(|key| self.listed.get(key)).copied().max().unwrap_or(0);
                let missing = self.seen.keys().find(|lane| self.confirmed.get(lane).copied().unwrap_or(0) < needed);
                if let Some(lane) = missing {
                    return Some(format!("{life} was settled before lane{lane} had confirmed table {needed}"));
                }
            }
            Seen::LaneTook(lane, ToLane::Guard { epoch, .. }) | Seen::LaneSaid(lane, ToControl::GuardSeen(epoch)) => {
                self.seen.insert(*lane, *epoch);
            }
            Seen::Done { op, key: Some(key), outcome: Outcome::Indeterminate { .. } } => {
                // Listed once and gone: its life was fenced meanwhile, and the message about that is under way.
                let Some(since) = self.ever.get(key) else {
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
