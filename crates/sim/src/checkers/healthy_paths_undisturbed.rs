//! A path to which nothing was done is not lost.

use super::{Checker, Seen};
use interlock_base::Instant;
use interlock_host_core::{CtrlId, EventKind, Loss, Witness};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Check {
    disturbed: BTreeSet<CtrlId>,
    everything: bool,
}

impl Checker for Check {
    fn name(&self) -> &'static str {
        "healthy_paths_undisturbed"
    }

    fn see(&mut self, _now: Instant, seen: &Seen<'_>) -> Option<String> {
        match seen {
            Seen::Disturbed(Some(ctrl)) => {
                self.disturbed.insert(*ctrl);
                None
            }
            Seen::Crashed => {
                self.disturbed.clear();
                None
            }
            Seen::Disturbed(None) => {
                self.everything = true;
                None
            }
            Seen::Host(EventKind::Lost { ctrl, how, .. })
                if !self.everything
                    && !self.disturbed.contains(ctrl)
                    && !how.is_asked_for()
                    // Slow media look like that for once; it is no more than one life in the time of a hold.
                    && !matches!(how, Loss::IoTimeout(Witness::OtherPathAnswers)) =>
            {
                Some(format!("{ctrl} was lost ({how}), and nothing had been done to it"))
            }
            _ => None,
        }
    }
}
