//! The loss of a life: in one transition every lane is told to stop, the admin queue is halted, and the fence begins.

use super::life::{AdminEnd, Phase};
use super::waits::Why;
use super::{Control, ControllerSpec, Job, JobFor};
use crate::guards::{self as conditions, Guard};
use crate::stall::hold_terms;
use crate::{ConnectFailure, EventKind, FencePolicy, LaneId, LifeId, Loss, StoreWork, ToLane};
use alloc::boxed::Box;
use alloc::string::ToString;
use core::time::Duration;
use interlock_base::Instant;
use interlock_fence::{Input, LANE_CUT, Local, Lost};
use interlock_wire::ccr;

/// From where a controller is connected, as far as the operator chose it.
pub(super) fn local(spec: &ControllerSpec) -> Local {
    Local { traddr: spec.host_traddr, iface: spec.host_iface.clone() }
}

impl Control {
    /// Something went wrong with a life, in whatever phase it is.
    pub(super) fn life_failed(&mut self, now: Instant, life_id: LifeId, loss: Loss) {
        let Some(life) = self.lives.get(&life_id) else { return };
        // What a suspect alone explains says nothing about the path.
        let explained = self.suspects.alone_on(&life.subnqn, life_id).is_some();
        let (ctrl_id, lived) = (life.ctrl, if explained { Duration::MAX } else { now - life.begun });
        match &life.phase {
            Phase::Condemned(_) => {} // The association is over already.
            // Every command is answered: what the controller does now is its own affair.
            Phase::Closing { .. } => self.close_finished(now, life_id),
            Phase::Live => {
                let why = loss.to_string();
                self.condemn(now, life_id, loss);
                self.reconnect_after_loss(now, ctrl_id, lived, &why);
                self.publish_paths();
            }
            Phase::Draining { .. } => {
                let why = loss.to_string();
                self.condemn(now, life_id, loss);
                self.end_of_life(now, ctrl_id, &why);
            }
            _ => {
                let (why, permanent) = match &loss {
                    Loss::AdminConnection(crate::DownReason::Refused { text, permanent })
                    | Loss::Queue { why: crate::DownReason::Refused { text, permanent }, .. } => {
                        (text.clone(), *permanent)
                    }
                    other => (other.to_string(), false),
                };
                self.attempt_failed(now, life_id, kind_of(&loss), why, permanent);
            }
        }
    }

    /// Nothing more is sent on the life from here on, by anybody.
    pub(super) fn condemn(&mut self, now: Instant, life_id: LifeId, loss: Loss) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let ctrl_id = life.ctrl;
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        let was_usable = matches!(life.phase, Phase::Live | Phase::Draining { .. });
        let terms = life.facts.as_ref().map(|facts| hold_terms(&ctrl.spec, facts));
        let nameless = ccr::Instance { cntlid: 0, ciu: 0, cirn: 0 };
        let identity = life.facts.as_ref().map_or(nameless, |facts| facts.identity);
        let (policy, grace) = (ctrl.spec.fence, ctrl.spec.timeouts.late_grace);
        let last_chance = ctrl.spec.timeouts.connect_total;
        let local = local(&ctrl.spec);
        let declared = ctrl.spec.disable_is_fence && policy == FencePolicy::Strict;
        if was_usable {
            ctrl.counters.fences.attempts += 1;
            ctrl.counters.reset_count += 1;
            self.counters.fences.attempts += 1;
            self.counters.reset_count += 1;
        }
        let suspect = self.suspects.alone_on(&life.subnqn, life_id);
        self.stop_timers_of(life_id);
        self.tell_lanes(&ToLane::Condemn { life: life_id, policy });
        // Where the operator declared it, an end that was asked for asks the controller itself as well.
        let admin = if declared && was_usable && loss.is_asked_for() && self.ask_to_disable(now, life_id) {
            AdminEnd::Disabling
        } else {
            self.halt_admin(now, life_id, grace)
        };
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.phase = Phase::Condemned(admin);
        life.slow = false;
        let lost = Lost {
            life: life_id,
            ctrl: ctrl_id,
            subnqn: life.subnqn.clone(),
            addr: life.addr,
            local,
            identity,
            terms,
            policy,
            loss: loss.clone(),
            served: was_usable,
            suspect,
            admin_quiet: admin.quiet(),
            late_grace: grace,
            last_chance,
        };
        if !conditions::enabled(Guard::CleanMeansAnswered) {
            self.job(JobFor::Store(life_id, StoreWork::MarkClean), Job::MarkClean(life_id));
        }
        self.heads.drop_life(life_id);
        self.caches.ends(life_id);
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.not_live(now, &life.subnqn, life_id);
        }
        if was_usable {
            self.emit(now, EventKind::Lost { ctrl: ctrl_id, life: life_id, how: loss });
        }
        self.fence(now, Input::Lost(Box::new(lost)));
    }

    /// Every lane has said what it knows of the cache of a life that has ended, or its controller has flushed it.
    pub(super) fn judge_cache(&mut self, now: Instant, life_id: LifeId, flushed: bool) {
        for head in self.caches.over(life_id, flushed) {
            self.emit(now, EventKind::CacheLost { head, life: life_id });
        }
    }

    pub(super) fn stop_timers_of(&mut self, life_id: LifeId) {
        for why in [
            Why::TcpConnect(life_id),
            Why::Handshake(life_id),
            Why::ConnectTotal(life_id),
            Why::Poll(life_id),
            Why::Admin(life_id),
            Why::LastWords(life_id),
            Why::KeepAlive(life_id),
            Why::Probe(life_id),
            Why::Slow(life_id),
            Why::Reread(life_id),
            Why::Event(life_id),
            Why::Look(life_id),
            Why::AnaTransition(life_id),
            Why::Drain(life_id),
            Why::Shutdown(life_id),
            Why::Disable(life_id),
            Why::LateGrace(life_id),
        ] {
            self.timers.stop(why);
        }
    }

    /// [`Output::Cut`](super::Output::Cut) is done: nothing that the lane has sent on the life, or will try to send, leaves this host from
    /// `now` on. What it may still connect carries no command: it reads that the life is condemned before it could hear
    /// an answer to its Connect.
    pub fn handle_cut(&mut self, now: Instant, lane: LaneId, life: LifeId) {
        self.fence(now, Input::Quiet { lane, life, at: now });
        self.settle_down(now);
    }

    /// [`Output::RawClock`](super::Output::RawClock) is answered: at `now`, `CLOCK_MONOTONIC_RAW` (or whatever clock nobody sets) stands at `raw`,
    /// counted from any zero that stays the same. A life that is over is ignored.
    pub fn handle_raw_clock(&mut self, now: Instant, life_id: LifeId, raw: Instant) {
        if self.fences.is_lost(life_id) {
            self.fence(now, Input::RawClock { life: life_id, raw });
            self.settle_down(now);
        }
    }

    /// The admin socket of a condemned life has had its time. Asked again for as long as nobody says that it is gone:
    /// before that nothing is known to have left it.
    pub(super) fn handle_late_grace(&mut self, now: Instant, life_id: LifeId) {
        if let Some(admin) = self.lives.get(&life_id).and_then(|life| life.admin.as_ref()) {
            let conn = admin.conn;
            self.timers.set(Why::LateGrace(life_id), now + LANE_CUT);
            self.conn(crate::ConnAction::Abort(conn));
        }
    }
}

/// Which failure to connect a loss is that comes before the controller is live.
fn kind_of(loss: &Loss) -> ConnectFailure {
    match loss {
        Loss::AdminConnection(why) | Loss::Queue { why, .. } => why.into(),
        Loss::Protocol(_) | Loss::Terminated(_) => ConnectFailure::Protocol,
        Loss::KeepAlive | Loss::AdminTimeout(_) | Loss::IoTimeout(_) => ConnectFailure::TimedOut,
        _ => ConnectFailure::Lost,
    }
}
