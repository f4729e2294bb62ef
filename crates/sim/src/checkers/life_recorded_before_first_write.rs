//! No change of a life reaches the media before the record of that life is durable.

use super::{Checker, Seen};
use crate::draw::Plan;
use crate::parts::Division;
use interlock_base::Instant;
use interlock_host_core::Job;
use interlock_target_core::{Event, LifeId};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Check {
    division: Division,
    /// The newest of each Controller ID of a subsystem: a target without CCR tells no more of itself than that.
    newest: BTreeMap<(u16, u16), (LifeId, u64)>,
    recorded: BTreeSet<LifeId>,
}

impl Check {
    pub(super) const fn new(plan: &Plan) -> Self {
        Self { division: plan.division, newest: BTreeMap::new(), recorded: BTreeSet::new() }
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "life_recorded_before_first_write"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            // It counts its lives anew.
            Seen::TargetCrashed => {
                self.newest.clear();
                self.recorded.clear();
                None
            }
            Seen::Target(Event::Enabled { life }) => {
                self.newest.insert((life.subsystem.0, life.cntlid), (life.id, life.cirn));
                None
            }
            Seen::JobDone(Job::RecordLife(record)) => {
                let identity = record.identity;
                let part = self.division.part_at(record.addr);
                if let Some((id, cirn)) = self.newest.get(&(part, identity.cntlid))
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
