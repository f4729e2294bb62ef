//! How a condemned life ends: released with a receipt, without one because nothing was in doubt, or given up as a
//! tombstone.
//!
//! Nothing that is held goes on before the proof is there, every lane has stopped and holds the guards, and this process
//! is known to be the host still.

use super::fence::{Hold, Proof};
use super::life::{Ended, Life, Owner};
use super::waits::Why;
use super::{Control, Job, JobFor, MAX_RECEIPTS, State};
use crate::guards::{self as conditions, Guard};
use crate::{CtrlId, EventKind, LifeId, Method, Receipt, Release, StateName, StoreWork, ToLane};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;

/// Whether this process is still the host is a look at a file; after this it is told that nobody has looked.
const OWNER_ANSWER: Duration = Duration::from_secs(1);
/// A store that is silent for so long says nothing any more: this host ends as if it were disowned, and a successor fences.
const OWNER_SILENCE: Duration = Duration::from_secs(120);

impl Control {
    /// Releases, if the proof is there and every lane has stopped and holds the guards.
    pub(super) fn try_release(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let Some(condemned) = life.condemned() else { return };
        let Some(proof) = condemned.fence.proof() else { return };
        // The first condition says at once what the second brings about for all but an empty table: a lane has said what
        // is in doubt before it says that it has seen a guard. So no test can tell whether it is there.
        let seen = self.guards.is_seen(condemned.guard_epoch) || !conditions::enabled(Guard::ReleaseWaitsGuardSeen);
        let sorted = condemned.is_sorted() || !conditions::enabled(Guard::ReleaseWaitsSorted);
        if !sorted || !seen {
            return;
        }
        if conditions::enabled(Guard::OwnerConfirmed) && !self.is_owner(now, life_id) {
            return;
        }
        let Some(condemned) = self.lives.get(&life_id).and_then(|life| life.condemned()) else { return };
        let commands = condemned.in_doubt.len();
        let was_tombstone = condemned.ended == Ended::Indeterminate;
        self.issue_receipt(now, life_id, proof);
        if was_tombstone {
            self.emit(now, EventKind::TombstoneEnded { life: life_id, method: proof.method });
            self.guards.remove_life(life_id);
            self.publish_guards();
        } else {
            if conditions::enabled(Guard::ReleasedStayGuarded) {
                self.guards.release(life_id);
            } else {
                self.guards.remove_life(life_id);
            }
            self.publish_guards();
            self.emit(now, EventKind::Released { life: life_id, commands });
        }
        self.tell_lanes(&ToLane::Settle { life: life_id, release: Release::Retry });
        self.finish_life(now, life_id);
    }

    /// True once it is known that this process still speaks for its host. Asks, if nobody has.
    fn is_owner(&mut self, now: Instant, life_id: LifeId) -> bool {
        let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) else { return false };
        match condemned.owner {
            Owner::Confirmed => return true,
            Owner::Asked(_) => return false,
            Owner::Unasked => condemned.owner = Owner::Asked(now),
        }
        self.timers.set(Why::Owner(life_id), now + OWNER_ANSWER);
        self.job(JobFor::Owner(life_id), Job::ConfirmOwner);
        false
    }

    pub(super) fn handle_owner(&mut self, now: Instant, life_id: LifeId) {
        self.timers.stop(Why::Owner(life_id));
        if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) {
            condemned.owner = Owner::Confirmed;
            self.advance(now, life_id);
        }
    }

    /// Nobody has said whether this process still speaks for its host. It is waited for: what is released to a second
    /// owner is what two processes write. But not for ever: then what is held ends as not known, and stays guarded.
    pub(super) fn handle_owner_silent(&mut self, now: Instant, life_id: LifeId) {
        let asked = self.lives.get(&life_id).and_then(|life| life.condemned()).map(|condemned| condemned.owner);
        if let Some(Owner::Asked(since)) = asked
            && now >= since + OWNER_SILENCE
        {
            let why = "the state directory has not said for 120 s whether this process is still the host";
            return self.disowned(now, why.into());
        }
        self.timers.set(Why::Owner(life_id), now + OWNER_ANSWER);
        self.emit(now, EventKind::OwnerUnconfirmed { life: life_id });
    }

    /// Another process may be this host now: nothing that is held goes on here, and this host ends.
    pub(super) fn disowned(&mut self, now: Instant, why: alloc::string::String) {
        self.emit(now, EventKind::Disowned { why });
        for life in self.condemned_lives() {
            self.timers.stop(Why::Owner(life));
            self.want_give_up(now, life);
        }
        self.shutdown(now);
    }

    /// Nothing is in doubt: no fence is needed, or none any more.
    pub(super) fn end_without_doubt(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let (ctrl, Some(condemned)) = (life.ctrl, life.condemned()) else { return };
        let answered_late = condemned.answered_late;
        if condemned.served {
            if let Some(ctrl) = self.controllers.get_mut(&ctrl) {
                ctrl.counters.fences.not_needed += 1;
            }
            self.counters.fences.not_needed += 1;
            self.emit(now, EventKind::NothingInDoubt { ctrl, life: life_id, answered_late });
        }
        self.guards.remove_life(life_id);
        self.publish_guards();
        self.tell_lanes(&ToLane::Settle { life: life_id, release: Release::Retry });
        self.finish_life(now, life_id);
    }

    /// Legacy: the lanes have retried already; this says so.
    pub(super) fn end_legacy(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let (ctrl_id, Some(condemned)) = (life.ctrl, life.condemned()) else { return };
        let commands = condemned.in_doubt.len();
        self.issue_receipt(now, life_id, Proof { method: Method::Legacy, source: None, at: now });
        let fences = self.controllers.get_mut(&ctrl_id).map(|ctrl| &mut ctrl.counters.fences);
        for fences in fences.into_iter().chain([&mut self.counters.fences]) {
            fences.unsafe_failovers += commands as u64;
        }
        self.guards.remove_life(life_id);
        self.publish_guards();
        self.tell_lanes(&ToLane::Settle { life: life_id, release: Release::Retry });
        self.emit(now, EventKind::Released { life: life_id, commands });
        self.finish_life(now, life_id);
    }

    /// Ends the commands of a life unfenced, if that was asked for: not before t0 is known, and not before every lane
    /// holds their guards (`guard_before_giving_up`).
    pub(super) fn try_give_up(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let ctrl_id = life.ctrl;
        let Some(condemned) = life.condemned_mut() else { return };
        if condemned.ended != Ended::Wanted
            || !condemned.is_sorted()
            || condemned.fence.t0().is_none()
            || (!self.guards.is_seen(condemned.guard_epoch) && conditions::enabled(Guard::GiveUpWaitsGuardSeen))
        {
            return;
        }
        condemned.ended = Ended::Indeterminate;
        let (until, in_doubt) = (condemned.fence.deadline(), condemned.in_doubt.len());
        let is_endless = condemned.fence.hold() == Hold::Unbounded;
        let fences = self.controllers.get_mut(&ctrl_id).map(|ctrl| &mut ctrl.counters.fences);
        for fences in fences.into_iter().chain([&mut self.counters.fences]) {
            fences.tombstones += 1;
        }
        self.tell_lanes(&ToLane::Settle { life: life_id, release: Release::Indeterminate { until } });
        self.emit(now, EventKind::TombstoneSet { life: life_id, in_doubt, until });
        if is_endless {
            self.guards.endless(life_id);
            self.publish_guards();
        }
        if !conditions::enabled(Guard::TombstoneKept) {
            self.guards.remove_life(life_id);
            self.publish_guards();
        }
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.given_up(now, &life.subnqn, life_id);
        }
        self.drop_admin(life_id, false);
        self.check_deleted(now, ctrl_id);
    }

    fn issue_receipt(&mut self, now: Instant, life_id: LifeId, proof: Proof) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let Some(condemned) = life.condemned() else { return };
        let assumed = condemned.terms.filter(|_| proof.method == Method::Assumed);
        let receipt = Receipt {
            number: self.next_receipt,
            ctrl: life.ctrl,
            life: life_id,
            subnqn: life.subnqn.clone(),
            identity: condemned.fence.identity(),
            addr: life.addr,
            terms: condemned.terms,
            method: proof.method,
            source: condemned.by,
            in_doubt: condemned.in_doubt_ever,
            answered_late: condemned.answered_late,
            settled: condemned.settled,
            loss: condemned.loss.clone(),
            detected: condemned.at,
            t0: condemned.fence.t0(),
            fenced: proof.at,
            released: now,
            deadline: condemned.fence.deadline(),
            assumed_cqt: assumed.filter(|terms| terms.cqt.is_none()).and_then(|terms| terms.assumed_cqt),
            assumed_kato: assumed.filter(|terms| terms.kato_assumed).map(|terms| terms.kato),
            attempts: condemned.fence.attempts().clone(),
            suspect: condemned.suspect.clone(),
        };
        self.next_receipt += 1;
        let held_ms = receipt.held_ms();
        let in_doubt = receipt.in_doubt as u64;
        let fences = self.controllers.get_mut(&receipt.ctrl).map(|ctrl| &mut ctrl.counters.fences);
        for fences in fences.into_iter().chain([&mut self.counters.fences]) {
            *fences.by_method.entry(receipt.method).or_default() += 1;
            fences.held_ms += held_ms;
            fences.in_doubt += in_doubt;
            fences.in_doubt_max = fences.in_doubt_max.max(in_doubt);
            if receipt.method == Method::AcceptedRisk {
                // Of a predecessor the number is not known: it is one risk at least.
                fences.unsafe_failovers += in_doubt.max(1);
            }
        }
        self.emit(now, EventKind::Fenced(Box::new(receipt.clone())));
        if self.receipts.len() >= MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt);
    }

    /// A condemned life is over: its sockets go, its sources are purged, it is forgotten.
    fn finish_life(&mut self, now: Instant, life_id: LifeId) {
        let ctrl_id = self.lives.get(&life_id).map(|life| life.ctrl);
        self.job(JobFor::Store(life_id, StoreWork::Forget), Job::ForgetLife(life_id));
        self.drop_admin(life_id, false);
        let sources = self.lives.kin(life_id, Life::is_live);
        self.forget_life(now, life_id);
        for id in sources {
            if let Some(source) = self.lives.get_mut(&id) {
                source.source.handle_fence_over(life_id);
            }
            if self.lives.get(&id).is_some_and(|source| source.source.needs_purge()) {
                self.purge_source(now, id);
            }
        }
        if let Some(ctrl_id) = ctrl_id {
            self.check_deleted(now, ctrl_id);
        }
    }

    /// Forgets a life and everything that was waited for on its account.
    pub(super) fn forget_life(&mut self, now: Instant, life_id: LifeId) {
        self.stop_timers_of(life_id);
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.over(now, &life.subnqn, life_id);
        }
        self.lives.remove(life_id);
        self.left.remove(life_id);
        self.heads.drop_life(life_id);
    }

    /// The commands of a life are to be ended although it is not fenced.
    pub(super) fn want_give_up(&mut self, now: Instant, life_id: LifeId) {
        if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut())
            && condemned.ended == Ended::Held
        {
            condemned.ended = Ended::Wanted;
            self.advance(now, life_id);
        }
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
        for life in self.condemned_lives() {
            let unbounded = self
                .lives
                .get(&life)
                .filter(|life| life.ctrl == ctrl_id)
                .and_then(|life| life.condemned())
                .is_some_and(|condemned| condemned.fence.hold() == Hold::Unbounded);
            if unbounded {
                self.want_give_up(now, life);
            }
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
