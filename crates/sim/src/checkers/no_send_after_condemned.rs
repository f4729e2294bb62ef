//! Once a lane said that it condemned a life, its kernel is given nothing more of it; nor is it on the admin queue once
//! control has condemned it; and when the hold begins, no socket of the life has anything left to send.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId, ToControl, ToLane};
use std::collections::BTreeSet;

pub(super) struct Check {
    /// An end that was asked for asks the controller itself to disable, on its admin queue.
    disables: bool,
    condemned: BTreeSet<(usize, LifeId)>,
    admin: BTreeSet<LifeId>,
}

impl Check {
    pub(super) const fn new(disables: bool) -> Self {
        Self { disables, condemned: BTreeSet::new(), admin: BTreeSet::new() }
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "no_send_after_condemned"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => {
                self.condemned.clear();
                self.admin.clear();
                None
            }
            Seen::LaneSaid(lane, ToControl::Condemned { life, .. }) => {
                self.condemned.insert((*lane, *life));
                None
            }
            Seen::ControlSaid(0, ToLane::Condemn { life, .. }) => {
                self.admin.insert(*life);
                None
            }
            Seen::Host(EventKind::Lost { life, how, .. }) if self.disables && how.is_asked_for() => {
                self.admin.remove(life);
                None
            }
            Seen::HoldBegins { life, unsent } => {
                self.admin.insert(*life);
                (*unsent > 0).then(|| format!("the hold of {life} began with {unsent} bytes in its send queues"))
            }
            Seen::Given { lane, life } if self.condemned.contains(&(*lane, *life)) => {
                Some(format!("lane{lane} sent on {life}, which it had condemned"))
            }
            Seen::GivenOnAdmin { life } if self.admin.contains(life) => {
                Some(format!("control sent on the admin queue of {life}, which it had condemned"))
            }
            _ => None,
        }
    }
}
