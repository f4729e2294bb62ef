//! An end that was asked for, of a controller that is known to drain before it says that it is disabled.
//!
//! By the specification a controller that answers CSTS.RDY = 0 to CC.EN = 0 executes nothing any more. Common targets say
//! so at once and go on, so it counts only where the operator declared the target ([`crate::ControllerSpec`]'s
//! `disable_is_fence`). It is asked on the admin queue of the life itself, after every lane was told to stop, beside
//! whatever else fences the life. What is sent there may move t0, and t0 waits for it: nothing is gained by time while
//! the controller is asked. A loss that nobody asked for is never answered in this way; its admin queue is lost too.

use super::Control;
use super::admin::{Answer, Purpose, plain};
use super::life::Phase;
use super::waits::Why;
use crate::LifeId;
use core::time::Duration;
use interlock_base::Instant;
use interlock_fence::Input;
use interlock_wire::fabrics::{Csts, PropertyGet, PropertySet};

/// Between two looks at CSTS.
const LOOK: Duration = Duration::from_millis(10);

impl Control {
    /// Sends CC.EN = 0, as the last but for looks at CSTS. False if it could not be sent.
    pub(super) fn ask_to_disable(&mut self, now: Instant, life_id: LifeId) -> bool {
        let Some(life) = self.lives.get_mut(&life_id) else { return false };
        life.keep_alive = None;
        if let Some(admin) = &mut life.admin {
            // Whatever else was asked of it is waited for no longer.
            admin.forget_pending();
        }
        let limit = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.drain);
        let sqe = PropertySet::cc(life.cc.with_enable(false)).to_sqe();
        let sent = self.ask(now, life_id, Purpose::Disable, plain(sqe), None);
        if sent {
            self.timers.stop(Why::Admin(life_id));
            self.timers.set(Why::Disable(life_id), now + limit);
        }
        sent
    }

    pub(super) fn handle_disable(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        if answer.status().is_success() {
            self.poll_disable(now, life_id)
        } else {
            self.disable_over(now, life_id, false)
        }
    }

    pub(super) fn poll_disable(&mut self, now: Instant, life_id: LifeId) {
        if !self.ask(now, life_id, Purpose::DisablePoll, plain(PropertyGet::CSTS.to_sqe()), None) {
            self.disable_over(now, life_id, false);
        }
    }

    pub(super) fn handle_disable_polled(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        let csts = Csts(answer.cqe.dw0.get());
        if !answer.status().is_success() || csts.fatal() {
            self.disable_over(now, life_id, false);
        } else if csts.ready() {
            self.timers.set(Why::Poll(life_id), now + LOOK);
        } else {
            self.disable_over(now, life_id, true);
        }
    }

    /// It is asked no longer, because it said that it is `disabled` or for another reason: the admin queue ends as that of any condemned life.
    pub(super) fn disable_over(&mut self, now: Instant, life_id: LifeId, disabled: bool) {
        let Some(life) = self.lives.get(&life_id).filter(|life| life.is_disabling()) else { return };
        let grace = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.late_grace);
        for why in [Why::Disable(life_id), Why::Poll(life_id)] {
            self.timers.stop(why);
        }
        let admin = self.halt_admin(now, life_id, grace);
        if let Some(life) = self.lives.get_mut(&life_id) {
            life.phase = Phase::Condemned(admin);
        }
        self.fence(now, Input::Admin { life: life_id, disabled, quiet: admin.quiet() });
    }
}
