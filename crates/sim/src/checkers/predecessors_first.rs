//! Nothing is written before the lives that an earlier process left are over: which ranges they have in doubt is not
//! known, so everything overlaps them.

use super::{Checker, Seen};
use crate::draw::Plan;
use crate::parts::Division;
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId};
use interlock_target_core::{self as target, Event};
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::Nqn;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Check {
    division: Division,
    /// By the name of its subsystem, and by the disks that it is known to have served.
    left: BTreeMap<LifeId, (Nqn, Vec<NamespaceIds>)>,
    /// Lives that began at the target after the process did: only it can write through them.
    new: BTreeSet<target::LifeId>,
}

impl Check {
    pub(super) const fn new(plan: &Plan) -> Self {
        Self { division: plan.division, left: BTreeMap::new(), new: BTreeSet::new() }
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "overlaps_wait"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed | Seen::TargetCrashed => self.new.clear(),
            Seen::Restarted(lives) => {
                self.left =
                    lives.iter().map(|record| (record.life, (record.subnqn.clone(), record.disks.clone()))).collect();
            }
            Seen::Target(Event::Enabled { life }) => {
                self.new.insert(life.id);
            }
            Seen::Host(EventKind::Fenced(receipt)) => {
                self.left.remove(&receipt.life);
            }
            Seen::Executed { life, range, nsid, .. } if !self.left.is_empty() && self.new.contains(&life.id) => {
                let subsystem = self.division.nqn(life.subsystem.0);
                let (left, _) = self.left.iter().find(|(_, (of, disks))| {
                    let served = || disks.iter().any(|ids| crate::disks::is_first(*nsid, ids));
                    *of == subsystem || self.division.shares_disks() && served()
                })?;
                return Some(format!(
                    "{life} changed {range:?} while {left}, left by an earlier process, was not over"
                ));
            }
            _ => {}
        }
        None
    }
}
