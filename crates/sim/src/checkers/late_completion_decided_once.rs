//! A command in doubt is answered or released, never both; and answered at most once.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{GuardKey, LifeId, Release, ToControl, ToLane};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Check {
    in_doubt: BTreeMap<GuardKey, LifeId>,
    answered: BTreeSet<(GuardKey, LifeId)>,
    released: BTreeSet<LifeId>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "late_completion_decided_once"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => *self = Self::default(),
            Seen::ControlTook(_, ToControl::Condemned { ledger, .. }) => {
                self.in_doubt.extend(ledger.iter().map(|entry| (entry.key, entry.life)));
            }
            Seen::ControlSaid(_, ToLane::Settle { life, release: Release::Retry }) => {
                self.released.insert(*life);
            }
            Seen::ControlSaid(_, ToLane::Answered { key, .. }) => {
                let Some(life) = self.in_doubt.get(key) else {
                    return Some(format!("{key:?} was answered, and was not in doubt"));
                };
                if self.released.contains(life) {
                    return Some(format!("{key:?} was answered after {life} had been released"));
                }
                if !self.answered.insert((*key, *life)) {
                    return Some(format!("{key:?} was answered twice"));
                }
            }
            _ => {}
        }
        None
    }
}
