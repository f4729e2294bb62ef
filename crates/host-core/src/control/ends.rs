//! How lives and controllers end, once nothing of them is held: forgotten, given up, buried.

use super::waits::Why;
use super::{Control, State};
use crate::{CtrlId, EventKind, LifeId, StateName};
use alloc::vec::Vec;
use interlock_base::Instant;
use interlock_fence::Input;

impl Control {
    /// Another process may be this host now: nothing that is held goes on here, and this host ends.
    pub(super) fn disowned(&mut self, now: Instant, why: alloc::string::String) {
        self.emit(now, EventKind::Disowned { why });
        self.fence(now, Input::Disowned);
        self.shutdown(now);
    }

    /// Forgets a life and everything that was waited for on its account.
    pub(super) fn forget_life(&mut self, now: Instant, life_id: LifeId) {
        self.stop_timers_of(life_id);
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.over(now, &life.subnqn, life_id);
        }
        self.lives.remove(life_id);
        self.fence(now, Input::SourceGone(life_id));
        self.heads.drop_life(life_id);
    }

    /// The controller is given up for good. What is in doubt stays held until its fence, which has an end; if it has
    /// none (KATO 0), it becomes a tombstone.
    pub(super) fn give_up(&mut self, now: Instant, ctrl_id: CtrlId, why: alloc::string::String) {
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        ctrl.last_error = Some(why.clone());
        if let Some(life) = ctrl.state.life() {
            self.end_attempt(now, life);
        }
        if !self.transit(now, ctrl_id, State::Dead, why.clone()) {
            return;
        }
        self.emit(now, EventKind::GivenUp { ctrl: ctrl_id, why });
        self.bury(now, ctrl_id);
        let lost: Vec<LifeId> = self.fences.lost_of(ctrl_id).filter(|life| self.fences.is_unbounded(*life)).collect();
        for life in lost {
            self.fence(now, Input::GiveUp(life));
        }
    }

    /// Nothing serves through this controller any more.
    pub(super) fn bury(&mut self, now: Instant, ctrl_id: CtrlId) {
        for why in [Why::Reconnect(ctrl_id), Why::ControllerLoss(ctrl_id), Why::FastIoFail(ctrl_id)] {
            self.timers.stop(why);
        }
        self.heads.drop_controller(ctrl_id);
        self.sweep_heads(now);
        self.publish_paths();
        self.drop_oldest_dead();
    }

    fn drop_oldest_dead(&mut self) {
        let dead: Vec<_> = self
            .controllers
            .iter()
            .filter(|(id, ctrl)| {
                ctrl.state.name() == StateName::Dead && !self.lives.values().any(|life| life.ctrl == **id)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in dead.iter().take(dead.len().saturating_sub(super::MAX_DEAD)) {
            self.controllers.remove(id);
        }
    }
}
