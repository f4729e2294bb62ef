//! Whether lives end within the time that their controllers state.
//!
//! A host that has no other proof waits for the Command Quiesce Time and then writes. What this target still executes by
//! then is the fault that the host cannot see, so the target says it.

use super::{Control, ControlOutput, Why};
use crate::{Event, Life, LifeId, Loss};
use core::time::Duration;
use interlock_base::Instant;

impl Control {
    /// The association of a life is over: its controller may state until when the life must be over too. Who finds the loss
    /// late has no more time for it. A host that resets a controller in order relies on CSTS.RDY and not on time.
    pub(super) fn watch_quiesce(&mut self, now: Instant, life: Life, why: Loss) {
        let cqt_ms = self.config.subsystems[usize::from(life.subsystem.0)].cqt_ms;
        if cqt_ms > 0 && why != Loss::Reset {
            let noticeable = self.lives.get(&life.id).and_then(|entry| entry.noticeable);
            let from = noticeable.map_or(now, |at| at.min(now));
            self.timers.set(Why::Quiesced(life.id), from + Duration::from_millis(cqt_ms.into()));
        }
    }

    /// The Command Quiesce Time is over, and the life is not.
    pub(super) fn note_overrun(&mut self, id: LifeId) {
        let Some(life) = self.lives.get(&id).map(|entry| entry.life) else { return };
        self.overruns += 1;
        let cqt_ms = self.config.subsystems[usize::from(life.subsystem.0)].cqt_ms;
        self.out(ControlOutput::Event(Event::QuiesceOverrun { life, cqt_ms }));
    }

    /// Lives that were not over when the Command Quiesce Time of their controller was.
    #[must_use]
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }
}
