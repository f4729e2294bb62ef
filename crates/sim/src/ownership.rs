//! Whether a process still speaks for its host: somebody may have taken its state directory away.
//!
//! What was in doubt by then belongs to whoever took it. So a process that asks is told, ends, and is started again.

use crate::chaos::Act;
use crate::checkers::Seen;
use crate::mix::Kind;
use crate::world::{Phase, World, note};
use interlock_host_core::JobResult;
use std::time::Duration;

impl World {
    /// Somebody else owns the state directory from now on.
    pub(crate) fn lose_ownership(&mut self) {
        if self.process.down || self.process.zombie || self.process.disowned {
            return;
        }
        note!(self, "host: another process owns the state directory");
        self.process.disowned = true;
        self.see(&Seen::Disowned);
    }

    /// The answer to the question who owns it.
    pub(crate) fn confirm_owner(&self) -> JobResult {
        if self.process.disowned { JobResult::Failed("the lock was replaced".to_owned()) } else { JobResult::Done }
    }

    /// The process has heard that it owns nothing, and ends.
    pub(crate) fn disowned(&mut self) {
        self.met(Kind::OwnerReplaced);
        if self.phase == Phase::Faults {
            let soon = Duration::from_micros(self.mail_rng.below(300_000));
            let again = Duration::from_millis(1 + self.mail_rng.below(500));
            self.plan_act(self.now + soon, Act::Crash { power: false, again, linger: Duration::from_millis(20) });
        }
    }

    /// Whatever has happened, a process that owns its state directory runs from now on.
    pub(crate) fn restore_ownership(&mut self) {
        if self.process.disowned && !self.process.down {
            self.crash(false, Duration::from_millis(1), Duration::ZERO);
        }
    }
}
