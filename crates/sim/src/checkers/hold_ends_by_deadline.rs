//! A life whose hold has begun is over by the deadline that was told, but for messages that are still on their way.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Timers and a round of messages.
const SLACK: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct Check {
    until: BTreeMap<LifeId, Instant>,
    /// How long anything was held up on purpose.
    delays: Duration,
    /// The process has heard that it is the host no more: it releases nothing, and ends.
    disowned: bool,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "hold_ends_by_deadline"
    }

    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Crashed => {
                self.until.clear();
                self.disowned = false;
            }
            Seen::Host(EventKind::Disowned { .. }) => self.disowned = true,
            Seen::Delays(longest) => self.delays = self.delays.max(*longest),
            Seen::Host(EventKind::HoldUntil { life, deadline: Some(deadline), .. }) => {
                self.until.insert(*life, *deadline);
            }
            Seen::Host(EventKind::Fenced(receipt)) => {
                self.until.remove(&receipt.life);
            }
            Seen::Host(EventKind::NothingInDoubt { life, .. } | EventKind::TombstoneSet { life, .. }) => {
                self.until.remove(life);
            }
            Seen::Tick if !self.disowned => {
                let slack = SLACK + self.delays * 4;
                let late = self.until.iter().find(|(_, until)| now > **until + slack)?;
                return Some(format!("{} was to be over at {}", late.0, late.1));
            }
            _ => {}
        }
        None
    }
}
