//! Once a lane said that it condemned a life, its kernel is given nothing more of it.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{LifeId, ToControl};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Check {
    condemned: BTreeSet<(usize, LifeId)>,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "no_send_after_condemned"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => {
                self.condemned.clear();
                None
            }
            Seen::LaneSaid(lane, ToControl::Condemned { life, .. }) => {
                self.condemned.insert((*lane, *life));
                None
            }
            Seen::Given { lane, life } if self.condemned.contains(&(*lane, *life)) => {
                Some(format!("lane{lane} sent on {life}, which it had condemned"))
            }
            _ => None,
        }
    }
}
