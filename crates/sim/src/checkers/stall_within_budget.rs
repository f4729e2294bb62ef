//! What `interlock doctor` says beforehand bounds what happens: a path that falls silent is noticed in time, and a life
//! that is lost holds its commands no longer than told. One pure function ([`worst_stall`]) serves both.

use super::{Checker, Seen};
use crate::draw::Plan;
use interlock_base::Instant;
use interlock_host_core::stall::{Stall, worst_stall};
use interlock_host_core::{ControllerSpec, CtrlId, EventKind, LifeId, StateName};
use std::collections::BTreeMap;
use std::time::Duration;

/// Timers, and a round of messages.
const SLACK: Duration = Duration::from_millis(300);

struct Budget {
    life: LifeId,
    detect: Option<Duration>,
    /// Since when nothing of it comes through, or nothing of its peer.
    silent: Option<Instant>,
}

pub(super) struct Check {
    spec: ControllerSpec,
    delays: Duration,
    /// By how many millionths the clock of the world is ahead of the other one of the host.
    fast_ppm: u32,
    /// The process has heard that it is the host no more: it ends.
    disowned: bool,
    live: BTreeMap<CtrlId, Budget>,
    budgets: BTreeMap<LifeId, Stall>,
    /// Lost, and their commands are held until this at the latest.
    lost: BTreeMap<LifeId, (Instant, Instant)>,
}

impl Check {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            spec: plan.spec(0),
            delays: Duration::from_micros(plan.mail_us),
            fast_ppm: u32::try_from(plan.extras.fast_ppm).unwrap_or(0),
            disowned: false,
            live: BTreeMap::new(),
            budgets: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    fn slack(&self) -> Duration {
        SLACK + self.delays * 4
    }
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "stall_within_budget"
    }

    fn see(&mut self, now: Instant, seen: &Seen<'_>) -> Option<String> {
        let slack = self.slack();
        match seen {
            Seen::Delays(longest) => self.delays = self.delays.max(*longest),
            Seen::Host(EventKind::Disowned { .. }) => self.disowned = true,
            Seen::Crashed => {
                self.disowned = false;
                self.live.clear();
                self.lost.clear();
            }
            Seen::Host(EventKind::LifeBegan { ctrl, life, facts, .. }) => {
                let budget = worst_stall(&self.spec, facts);
                self.live.insert(*ctrl, Budget { life: *life, detect: budget.detect, silent: None });
                self.budgets.insert(*life, budget);
            }
            Seen::Silent { ctrl, silent } => {
                if let Some(live) = self.live.get_mut(ctrl) {
                    live.silent = silent.then_some(live.silent.unwrap_or(now));
                }
            }
            // It ends in order.
            Seen::Host(EventKind::ControllerState { ctrl, to, .. }) if *to != StateName::Live => {
                self.live.remove(ctrl);
            }
            Seen::Host(EventKind::Lost { ctrl, life, how, .. }) => {
                self.live.remove(ctrl);
                let budget = self.budgets.get(life)?;
                // The budget is that of a loss. Where a disable is a fence, an end that was asked for waits for one first.
                let disable = how.is_asked_for() && self.spec.disable_is_fence;
                let disable = if disable { self.spec.timeouts.drain } else { Duration::ZERO };
                let hold = budget.hold?;
                let longer = hold * self.fast_ppm / 1_000_000;
                let until = now + disable + budget.stop + hold + longer + slack;
                self.lost.insert(*life, (now, until));
            }
            Seen::Host(EventKind::Fenced(receipt)) => {
                self.lost.remove(&receipt.life);
            }
            Seen::Host(EventKind::NothingInDoubt { life, .. } | EventKind::TombstoneSet { life, .. }) => {
                self.lost.remove(life);
            }
            Seen::Tick if !self.disowned => {
                let late = self.lost.iter().find(|(_, (_, until))| now > *until + self.delays * 4);
                if let Some((life, (since, until))) = late {
                    return Some(format!("{life}, lost at {since}, was to be over by {until}"));
                }
                let unnoticed = self.live.iter().find_map(|(ctrl, live)| {
                    let since = live.silent?;
                    (now > since + live.detect? + slack).then_some((ctrl, live.life, since))
                });
                if let Some((ctrl, life, since)) = unnoticed {
                    return Some(format!("{life} of {ctrl} is silent since {since}, and that is not noticed"));
                }
            }
            _ => {}
        }
        None
    }
}
