//! Nothing is written before the lives that an earlier process left are over: which ranges they have in doubt is not
//! known, so everything overlaps them.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId};
use interlock_target_core::{self as target, Event};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Check {
    left: BTreeSet<LifeId>,
    /// Lives that began at the target after the process did: only it can write through them.
    new: BTreeSet<target::LifeId>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "overlaps_wait"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed | Seen::TargetCrashed => self.new.clear(),
            Seen::Restarted(lives) => self.left = lives.iter().map(|(life, _)| *life).collect(),
            Seen::Target(Event::Enabled { life }) => {
                self.new.insert(life.id);
            }
            Seen::Host(EventKind::Fenced(receipt)) => {
                self.left.remove(&receipt.life);
            }
            Seen::Executed { life, range, .. } if !self.left.is_empty() && self.new.contains(&life.id) => {
                return Some(format!(
                    "{life} changed {range:?} while {:?}, left by an earlier process, were not over",
                    self.left
                ));
            }
            _ => {}
        }
        None
    }
}
