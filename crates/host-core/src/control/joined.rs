//! Which controller the I/O queues of a life have joined.
//!
//! An I/O Connect names its controller by CNTLID and no more, and so does the answer. A target that was started again
//! meanwhile may have given that number to another controller: of another path of this host, or of a second machine that
//! says it is this host. The queue would join the instance of *that* controller, and nothing that is sent on it would end
//! with this life: no reset names it, and the Keep Alives of the other one let it go on past every hold.
//!
//! So once the last queue has joined, the controller is asked on its own admin queue whether it is ready still. As long as that
//! association stands no other controller has its number, and it is still there when it answers: every queue that joined
//! before has joined this one. Only then, and once it is recorded, is the life used.
//!
//! NVM Express Base Specification, "Connect Command and Response", "Property Get Command and Response".

use super::Control;
use super::admin::{Answer, Purpose, plain};
use super::life::Phase;
use crate::guards::{self as conditions, Guard};
use crate::{ConnectFailure, LifeId};
use alloc::string::ToString;
use interlock_base::Instant;
use interlock_wire::fabrics::{Csts, PropertyGet};

/// What a life that has all its queues still waits for before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outstanding {
    record: bool,
    presence: bool,
}

impl Outstanding {
    /// Nothing has come.
    pub(super) const ALL: Self = Self { record: true, presence: true };

    /// The life is recorded.
    pub(super) const fn recorded(self) -> Self {
        Self { record: false, ..self }
    }

    /// Its controller is still there.
    const fn answered(self) -> Self {
        Self { presence: false, ..self }
    }

    const fn is_over(self) -> bool {
        !self.record && !self.presence
    }

    /// What is missing, in words.
    pub(super) const fn text(self) -> &'static str {
        if self.record {
            "the life was not recorded"
        } else {
            "the controller did not answer after its I/O queues had connected"
        }
    }
}

impl Control {
    /// The last queue of a life has joined a controller of its number.
    pub(super) fn ask_who_was_joined(&mut self, now: Instant, life_id: LifeId) {
        if !conditions::enabled(Guard::QueuesJoined) {
            return self.outstanding(now, life_id, Outstanding::answered);
        }
        let limit = self.admin_limit(life_id);
        if !self.ask(now, life_id, Purpose::Joined, plain(PropertyGet::CSTS.to_sqe()), limit) {
            self.attempt_failed(
                now,
                life_id,
                ConnectFailure::Lost,
                "the admin queue takes no command".to_string(),
                false,
            );
        }
    }

    /// The controller is there: also one that does not say whether it is ready has its number still.
    pub(super) fn handle_joined(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        let csts = Csts(answer.cqe.dw0.get());
        if answer.status().is_success() && (csts.fatal() || !csts.ready()) {
            let why = "the controller is not ready any more, just after its I/O queues had connected".to_string();
            return self.attempt_failed(now, life_id, ConnectFailure::Lost, why, false);
        }
        self.outstanding(now, life_id, Outstanding::answered);
    }

    /// Something of what a life waits for has come.
    pub(super) fn outstanding(&mut self, now: Instant, life_id: LifeId, come: impl Fn(Outstanding) -> Outstanding) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Phase::Recording(outstanding) = &mut life.phase else { return };
        *outstanding = come(*outstanding);
        if outstanding.is_over() {
            self.go_live(now, life_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_used_once_it_is_recorded_and_its_controller_has_answered() {
        let all = Outstanding::ALL;
        assert!(!all.is_over() && !all.recorded().is_over() && !all.answered().is_over());
        assert!(all.recorded().answered().is_over() && all.answered().recorded().is_over());
        assert_ne!(all.text(), all.recorded().text());
    }
}
