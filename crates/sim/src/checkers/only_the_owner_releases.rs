//! What was lost after another process had taken the host over is not released by the one before.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, FencePolicy, LifeId, ToLane};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Check {
    disowned: bool,
    /// Condemned since then.
    lost: BTreeSet<LifeId>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "only_the_owner_releases"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => *self = Self::default(),
            Seen::Disowned => self.disowned = true,
            Seen::ControlSaid(0, ToLane::Condemn { life, policy: FencePolicy::Strict }) if self.disowned => {
                self.lost.insert(*life);
            }
            Seen::Host(EventKind::Released { life, commands }) if *commands > 0 && self.lost.contains(life) => {
                return Some(format!(
                    "{commands} commands of {life} were released by a process that is the host no more"
                ));
            }
            Seen::Host(EventKind::TombstoneEnded { life, .. }) if self.lost.contains(life) => {
                return Some(format!("what {life} guarded was opened by a process that is the host no more"));
            }
            _ => {}
        }
        None
    }
}
