//! No change of a life reaches the media before the record of that life is durable.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::Job;
use interlock_target_core::{Event, LifeId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Check {
    /// The newest of each Controller ID: a target without CCR tells no more of itself than that.
    newest: BTreeMap<u16, (LifeId, u64)>,
    recorded: BTreeSet<LifeId>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "life_recorded_before_first_write"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            // It counts its lives anew.
            Seen::TargetCrashed => {
                *self = Self::default();
                None
            }
            Seen::Target(Event::Enabled { life }) => {
                self.newest.insert(life.cntlid, (life.id, life.cirn));
                None
            }
            Seen::JobDone(Job::RecordLife(record)) => {
                let identity = record.identity;
                if let Some((id, cirn)) = self.newest.get(&identity.cntlid)
                    && (identity.cirn == 0 || identity.cirn == *cirn)
                {
                    self.recorded.insert(*id);
                }
                None
            }
            Seen::Executed { life, .. } if !self.recorded.contains(&life.id) => {
                Some(format!("{life} changed the media and is not recorded"))
            }
            _ => None,
        }
    }
}
