//! A life whose hold has begun is over by the deadline that was told, but for messages that are still on their way.

use super::{Checker, Seen};
use crate::draw::Plan;
use interlock_base::Instant;
use interlock_host_core::{EventKind, LifeId};
use std::collections::BTreeMap;
use std::time::Duration;

/// Timers and a round of messages.
const SLACK: Duration = Duration::from_millis(200);

pub(super) struct Check {
    /// By how many millionths the clock of the told deadline is ahead of the other one.
    fast_ppm: u32,
    until: BTreeMap<LifeId, Instant>,
    /// How long anything was held up on purpose.
    delays: Duration,
    /// The process has heard that it is the host no more: it releases nothing, and ends.
    disowned: bool,
}

impl Check {
    pub(super) fn new(plan: &Plan) -> Self {
        let fast_ppm = u32::try_from(plan.extras.fast_ppm).unwrap_or(0);
        Self { fast_ppm, until: BTreeMap::new(), delays: Duration::ZERO, disowned: false }
    }
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
            Seen::Host(EventKind::HoldUntil { life, t0, deadline: Some(deadline), .. }) => {
                // It ends when the other clock has gone as far.
                let longer = (*deadline - *t0) * self.fast_ppm / 1_000_000;
                self.until.insert(*life, *deadline + longer);
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
