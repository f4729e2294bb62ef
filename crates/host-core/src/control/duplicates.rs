//! Two disks never become one: whether a controller that has just come up can belong to the subsystem that it names.
//!
//! Two targets that were set up alike - one NQN, controller identifiers counted from the same number, namespaces with the
//! same identifiers - would be merged into one subsystem, and a write would go to either of two disks. So what must be
//! unique in a subsystem, or the same over it, is compared with every controller of it that is there (Base Specification,
//! "NVM Subsystem" and "Identify Controller Data Structure": CNTLID, SN, MN). The newcomer is refused by name, never for
//! good: a target that was started again faster than its old connections were noticed to be dead looks the same. So the
//! older controller is asked at once whether it is still there. A life that is being fenced does not count.

use super::Control;
use super::LifeFacts;
use super::admin::{Purpose, plain};
use super::life::{Life, Phase};
use super::reconnect::SOON;
use super::waits::Why;
use crate::guards::{self as conditions, Guard};
use crate::{ConnectFailure, LifeId, OnLoss, State};
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use interlock_base::Instant;
use interlock_proto::host::Fact;
use interlock_wire::admin;

/// Why two controllers cannot belong to one subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Conflict {
    /// The same name.
    #[error("controller {0:#06x}")]
    Cntlid(u16),
    /// Another machine.
    #[error("serial number `{new}`, not `{old}`")]
    Serial {
        /// Of the newcomer.
        new: String,
        /// Of the other.
        old: String,
    },
    /// Another machine.
    #[error("model `{new}`, not `{old}`")]
    Model {
        /// Of the newcomer.
        new: String,
        /// Of the other.
        old: String,
    },
}

/// What keeps them apart, if anything does. What one of them does not state contradicts nothing.
pub(super) fn conflict(new: &LifeFacts, old: &LifeFacts) -> Option<Conflict> {
    let differing = |new: &Fact<String>, old: &Fact<String>| {
        let both = new.stated()?.clone();
        let pair = (both, old.stated()?.clone());
        (pair.0 != pair.1 && conditions::enabled(Guard::OneSerial)).then_some(pair)
    };
    if new.identity.cntlid == old.identity.cntlid && conditions::enabled(Guard::DuplicateCntlid) {
        return Some(Conflict::Cntlid(new.identity.cntlid));
    }
    if let Some((new, old)) = differing(&new.serial, &old.serial) {
        return Some(Conflict::Serial { new, old });
    }
    differing(&new.model, &old.model).map(|(new, old)| Conflict::Model { new, old })
}

/// True if commands may be sent through it, or are about to be.
fn is_there(life: &Life) -> bool {
    !matches!(life.phase, Phase::Condemned(_) | Phase::Closing { .. })
}

impl Control {
    /// Refuses a controller that cannot belong to its subsystem beside those that are there, and asks the one that it
    /// contradicts whether it still is. False if nothing is wrong.
    pub(super) fn refuse_duplicate(&mut self, now: Instant, life_id: LifeId, facts: &LifeFacts) -> bool {
        let Some(life) = self.lives.get(&life_id) else { return false };
        let (ctrl_id, first) = (life.ctrl, life.attempt == 1);
        let others = self.lives.of(&life.subnqn).filter(|(id, other)| *id != life_id && is_there(other));
        let found = others.filter_map(|(id, other)| Some((id, other, conflict(facts, other.facts.as_ref()?)?))).next();
        let Some((older_id, older, conflict)) = found else { return false };
        let older_ctrl = older.ctrl;
        let hint = match conflict {
            Conflict::Cntlid(_) => "give each node its own range of controller identifiers",
            Conflict::Serial { .. } | Conflict::Model { .. } => "give all nodes of the subsystem the same one",
        };
        let why = format!(
            "{conflict} contradicts {older_ctrl}, a controller of the same subsystem that is there: two targets have one \
             NQN, or this one was started again; {older_ctrl} is asked whether it is still there, and this is tried \
             again; if they are one subsystem, {hint}"
        );
        let limit = older.facts.as_ref().map(|facts| facts.kato_in_force() / 2).filter(|limit| !limit.is_zero());
        let limit = limit.into_iter().chain(self.admin_limit(older_id)).min();
        self.attempt_failed(now, life_id, ConnectFailure::Unsuitable, why, false);
        self.still_there(now, older_id, limit);
        // If the older one is gone that shows at once, so the first retry does not wait long.
        let waits = self
            .controllers
            .get(&ctrl_id)
            .is_some_and(|ctrl| matches!(ctrl.state, State::Waiting { .. }) && ctrl.spec.on_loss == OnLoss::Reconnect);
        if first && waits {
            self.timers.set_earliest(Why::Reconnect(ctrl_id), now + SOON);
        }
        true
    }

    /// Asks a controller for a sign of life; without one in time its life is over.
    fn still_there(&mut self, now: Instant, life_id: LifeId, limit: Option<Duration>) {
        self.ask(now, life_id, Purpose::Presence, plain(admin::keep_alive()), limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_is_unique_and_what_is_the_same_in_a_subsystem() {
        let old = LifeFacts::sample();
        let other = |cntlid: u16, serial: &str, model: &str| {
            let of = |text: &str| Fact::of_text(text.to_string());
            let mut facts = LifeFacts { serial: of(serial), model: of(model), ..old.clone() };
            facts.identity.cntlid = cntlid;
            conflict(&facts, &old).map(|conflict| conflict.to_string())
        };
        let own = old.identity.cntlid;
        assert_eq!(other(own, "A", "M"), Some(format!("controller {own:#06x}")));
        assert_eq!(other(own + 1, "A", "M"), None);
        assert_eq!(other(own + 1, "B", "M"), Some("serial number `B`, not `A`".to_string()));
        assert_eq!(other(own + 1, "A", "N"), Some("model `N`, not `M`".to_string()));
        assert_eq!(other(own + 1, "", ""), None, "nothing is stated");
    }
}
