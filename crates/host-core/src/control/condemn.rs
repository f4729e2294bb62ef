//! From "nothing more is sent on this life" to "it can execute nothing more".
//!
//! Everything a condemned life waits for comes together in [`Control::advance`], which is called after each of it and
//! decides again from the state alone: there is no order of messages that it depends on.

use super::admin::{Answer, Purpose, plain};
use super::fence::{Ask, Fence, Hold};
use super::life::{AdminEnd, Condemned, Ended, Life, Owner, Phase};
use super::source::Candidate;
use super::waits::Why;
use super::{Control, Job, JobFor, Output};
use crate::guards::{self as conditions, Guard};
use crate::stall::HoldTerms;
use crate::{ConnectFailure, EventKind, FencePolicy, FencedBy, LaneId, LifeId, Loss, StoreWork, ToLane};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr::{self, CrossControllerReset};
use interlock_wire::status::Status;

/// A lane that has not confirmed a condemned life for so long is named, again and again: its reactor hangs. Nothing is
/// released meanwhile.
const LANE_ANSWER: Duration = Duration::from_millis(100);
/// Once it was named, the sockets that it keeps are aborted from outside after this, and again as often until the kernel
/// has confirmed it. Not sooner: a busy machine is no hung reactor, and late answers would be lost with the sockets.
const LANE_CUT: Duration = Duration::from_secs(1);

/// How long a life with these terms must be held.
pub(super) fn hold_of(terms: &HoldTerms) -> Hold {
    match terms.hold() {
        None => Hold::Unbounded,
        Some(hold) if terms.is_assumed() => Hold::Assumed(hold),
        Some(hold) => Hold::Stated(hold),
    }
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
        let terms = life.facts.as_ref().map(|facts| HoldTerms::of(&ctrl.spec, facts));
        let hold = terms.as_ref().map_or(Hold::Unbounded, hold_of);
        let nameless = ccr::Instance { cntlid: 0, ciu: 0, cirn: 0 };
        let identity = life.facts.as_ref().map_or(nameless, |facts| facts.identity);
        let (policy, grace) = (ctrl.spec.fence, ctrl.spec.timeouts.late_grace);
        let last_chance = ctrl.spec.timeouts.connect_total;
        let declared = ctrl.spec.disable_is_fence && policy == FencePolicy::Strict;
        if was_usable {
            ctrl.counters.fences.attempts += 1;
            ctrl.counters.reset_count += 1;
            self.counters.fences.attempts += 1;
            self.counters.reset_count += 1;
        }
        let suspect = self.suspects.alone_on(&life.subnqn, life_id);
        let asked_for = loss.is_asked_for();
        self.stop_timers_of(life_id);
        self.tell_lanes(&ToLane::Condemn { life: life_id, policy });
        // Where the operator declared it, an end that was asked for asks the controller itself as well.
        let admin = if declared && was_usable && loss.is_asked_for() && self.ask_to_disable(now, life_id) {
            AdminEnd::Disabling
        } else {
            self.halt_admin(now, life_id, grace)
        };
        let lanes: BTreeSet<LaneId> = (0..self.config.lanes).map(LaneId).collect();
        if let Some(life) = self.lives.get_mut(&life_id) {
            life.phase = Phase::Condemned(Box::new(Condemned {
                served: was_usable,
                loss: loss.clone(),
                at: now,
                policy,
                fence: Fence::new(identity, hold),
                terms,
                unanswered: lanes.clone(),
                noisy: lanes,
                last_quiet: now,
                admin,
                in_doubt: BTreeSet::new(),
                in_doubt_ever: 0,
                oldest: None,
                answered_late: 0,
                settled: 0,
                guard_epoch: 0,
                ended: Ended::Held,
                owner: Owner::Unasked,
                lane_overdue: false,
                by: None,
                stale_told: BTreeSet::new(),
                suspect,
            }));
            life.slow = false;
        }
        self.timers.set(Why::LaneAnswer(life_id), now + LANE_ANSWER);
        // Where time proves nothing, what is held must not be held for ever: a source that is not there after a whole
        // attempt to come back is not waited for.
        if hold == Hold::Unbounded && was_usable && policy == FencePolicy::Strict {
            self.timers.set(Why::Grace(life_id), now + last_chance);
        }
        if asked_for && !conditions::enabled(Guard::OrderlyEndIsFenced) {
            // As if the disable that it ends with had been a fence.
            if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) {
                condemned.fence.handle_accepted(now);
            }
        }
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
        // Whoever waited for it as a source asks another in this same transition.
        for id in self.lives.kin(life_id, Life::is_condemned) {
            if let Some(condemned) = self.lives.get_mut(&id).and_then(|life| life.condemned_mut()) {
                condemned.stale_told.remove(&life_id);
                condemned.fence.handle_source_lost(now, life_id);
            }
        }
        self.advance_kin(now, life_id);
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
            Why::LaneAnswer(life_id),
            Why::LateGrace(life_id),
            Why::Fence(life_id),
            Why::Hold(life_id),
            Why::Grace(life_id),
            Why::OldSockets(life_id),
            Why::Owner(life_id),
        ] {
            self.timers.stop(why);
        }
    }

    /// Every fence of the subsystem of this life, after something that may concern any of them.
    pub(super) fn advance_kin(&mut self, now: Instant, life_id: LifeId) {
        // Those with most commands held come first where sources are scarce.
        let Some(subnqn) = self.lives.get(&life_id).map(|life| &life.subnqn) else { return };
        let kin = self.lives.of(subnqn);
        let mut lives: Vec<_> =
            kin.filter_map(|(id, life)| life.condemned().map(|c| (core::cmp::Reverse(c.in_doubt.len()), id))).collect();
        lives.sort_unstable();
        for (_, life) in lives {
            self.advance(now, life);
        }
    }

    /// Takes every step that is possible now for a condemned life.
    pub(super) fn advance(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(condemned) = life.condemned_mut() else { return };
        if condemned.is_sorted() {
            if !condemned.is_doubtful() {
                self.end_without_doubt(now, life_id);
                return;
            }
            if condemned.policy == FencePolicy::Legacy {
                self.end_legacy(now, life_id);
                return;
            }
        }
        if condemned.fence.t0().is_none()
            && let Some(t0) = condemned.t0()
        {
            condemned.fence.handle_t0(t0);
            let (deadline, assumed) = (condemned.fence.deadline(), condemned.fence.hold().is_assumed());
            // Of a life that never served nobody was told that it is lost, and nobody is told its end.
            if condemned.policy == FencePolicy::Strict && condemned.served {
                self.emit(now, EventKind::HoldUntil { life: life_id, t0, deadline, assumed });
            }
        }
        self.note_source(life_id);
        self.pursue(now, life_id);
        self.try_release(now, life_id);
        self.try_give_up(now, life_id);
        self.watch_lanes(now, life_id);
    }

    /// Lanes without whose word a condemned life does not go on: they have not stopped, may still be sending, or do not
    /// hold the guards that a release or an end waits for.
    fn awaited_lanes(&self, life_id: LifeId) -> Vec<LaneId> {
        let Some(condemned) = self.lives.get(&life_id).and_then(|life| life.condemned()) else { return Vec::new() };
        let mut lanes: BTreeSet<LaneId> = condemned.unanswered.union(&condemned.noisy).copied().collect();
        if condemned.fence.proof().is_some() || condemned.ended == Ended::Wanted {
            lanes.extend(self.guards.unseen(condemned.guard_epoch));
        }
        lanes.into_iter().collect()
    }

    /// While a lane is waited for, there is a deadline at which that is told.
    fn watch_lanes(&mut self, now: Instant, life_id: LifeId) {
        let why = Why::LaneAnswer(life_id);
        if self.awaited_lanes(life_id).is_empty() {
            self.timers.stop(why);
        } else if self.timers.at(why).is_none() {
            self.timers.set(why, now + LANE_CUT);
        }
    }

    /// Notes who gave the proof, while it is there to be named.
    fn note_source(&mut self, life_id: LifeId) {
        let proof = self.lives.get(&life_id).and_then(|life| life.condemned()).and_then(|c| c.fence.proof());
        let Some(id) = proof.and_then(|proof| proof.source) else { return };
        let by = self.lives.get(&id).and_then(|source| {
            let identity = source.facts.as_ref()?.identity;
            Some(FencedBy { ctrl: source.ctrl, life: id, identity, addr: source.addr })
        });
        if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) {
            condemned.by = condemned.by.or(by);
        }
    }

    /// Asks sources as far as that makes sense now.
    fn pursue(&mut self, now: Instant, life_id: LifeId) {
        loop {
            let candidates = self.candidates(now, life_id);
            let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) else { return };
            let doubtful = condemned.is_doubtful() || condemned.lane_overdue;
            if condemned.policy == FencePolicy::Legacy || !doubtful {
                return;
            }
            let asks = condemned.fence.poll(now, &candidates);
            match condemned.fence.next_deadline(now) {
                Some(at) => self.timers.set(Why::Fence(life_id), at),
                None => self.timers.stop(Why::Fence(life_id)),
            }
            match condemned.fence.hold_due() {
                Some(at) => self.timers.set(Why::Hold(life_id), at),
                None => self.timers.stop(Why::Hold(life_id)),
            }
            let mut again = false;
            for ask in asks {
                match ask {
                    Ask::Ccr(source) => again |= !self.send_ccr(now, life_id, source),
                    Ask::ReadLog(source) => self.read_ccr_log(now, source),
                    Ask::Purge(source) => self.purge_again(now, source),
                    Ask::RawClock => self.outputs.push_back(Output::RawClock(life_id)),
                }
            }
            if !again {
                return;
            }
        }
    }

    /// Who may be asked to reset this life now. Names once who would be asked but for an old entry in its log.
    fn candidates(&mut self, now: Instant, life_id: LifeId) -> Vec<Candidate> {
        let Some(life) = self.lives.get(&life_id) else { return Vec::new() };
        let (Some(condemned), Some(name)) = (life.condemned(), life.name()) else { return Vec::new() };
        let (addr, at) = (life.addr, condemned.at);
        let mine = self.controllers.get(&life.ctrl).map(|ctrl| (ctrl.spec.host_traddr, ctrl.spec.host_iface.clone()));
        let mut candidates = Vec::new();
        let mut unpurged = Vec::new();
        let mut stale = Vec::new();
        for (id, other) in self.lives.of(&life.subnqn).filter(|(id, other)| *id != life_id && other.is_live()) {
            let (Some(ctrl), Some(facts)) = (self.controllers.get(&other.ctrl), &other.facts) else { continue };
            if other.source.is_blocked_by_stale(name) {
                stale.push((id, other.ctrl));
            }
            if other.source.needs_purge_for(name) {
                unpurged.push(id);
            }
            if !other.source.may_serve(name, life_id) {
                continue;
            }
            let theirs = (ctrl.spec.host_traddr, ctrl.spec.host_iface.clone());
            let same_local = theirs != (None, None) && mine.as_ref() == Some(&theirs);
            candidates.push(Candidate {
                life: id,
                cntlid: facts.identity.cntlid,
                shares_fate: same_local || other.addr == addr,
                failures: other.source.failures,
                latency_p99: other.source.latency_p99(),
                newer: other.begun >= at,
            });
        }
        for id in unpurged {
            self.purge_source(now, id);
        }
        for (id, source) in stale {
            let told = self
                .lives
                .get_mut(&life_id)
                .and_then(|life| life.condemned_mut())
                .is_some_and(|condemned| !condemned.stale_told.insert(id));
            if !told {
                self.emit(now, EventKind::StaleEntry { life: life_id, source });
            }
        }
        candidates
    }

    fn purge_again(&mut self, now: Instant, source: LifeId) {
        if let Some(life) = self.lives.get_mut(&source) {
            life.source.want_purge();
        }
        self.purge_source(now, source);
    }

    /// Sends CCR. The name is the snapshot of the life, never read again (`fence_bound_to_one_life`).
    fn send_ccr(&mut self, now: Instant, life_id: LifeId, source_id: LifeId) -> bool {
        let limit = self.admin_limit(source_id);
        let Some(impacted) = self.lives.get(&life_id).and_then(|life| life.identity()) else { return true };
        let impacted = if conditions::enabled(Guard::IdentitySnapshot) {
            impacted
        } else {
            // As if it were read again: the newest life of the same path.
            let ctrl = self.lives.get(&life_id).map(|life| life.ctrl);
            let newest =
                self.lives.values().rev().filter(|life| Some(life.ctrl) == ctrl).find_map(|life| life.identity());
            newest.unwrap_or(impacted)
        };
        let sqe = CrossControllerReset { impacted }.to_sqe();
        let sent = self.ask(now, source_id, Purpose::Ccr { life: life_id }, plain(sqe), limit);
        if !sent {
            if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) {
                condemned.fence.handle_not_sent(now, source_id);
            }
            return false;
        }
        let Some(source) = self.lives.get_mut(&source_id) else { return true };
        source.source.handle_sent((impacted.cntlid, impacted.ciu), life_id);
        let ctrl_id = source.ctrl;
        if let Some(ctrl) = self.controllers.get_mut(&ctrl_id) {
            ctrl.counters.ccr_sent += 1;
        }
        self.emit(now, EventKind::CcrSent { life: life_id, source: ctrl_id, source_life: source_id });
        true
    }

    pub(super) fn handle_ccr(&mut self, now: Instant, source_id: LifeId, life_id: LifeId, answer: &Answer) {
        let status = answer.status();
        let immediate =
            status.is_success() && (ccr::immediate(answer.cqe.dw0.get()) || !conditions::enabled(Guard::ImmediateOnly));
        let in_progress = status.is(Status::CCR_IN_PROGRESS);
        let Some(source) = self.lives.get_mut(&source_id) else { return };
        let ctrl_id = source.ctrl;
        let name = self.lives.get(&life_id).and_then(|life| life.name());
        let Some(source) = self.lives.get_mut(&source_id) else { return };
        let pending = (status.is_success() && !immediate) || in_progress;
        let transient = in_progress || status.is(Status::CCR_LIMIT_EXCEEDED) || status.is(Status::CCR_LOG_FULL);
        source.source.handle_answered(name, life_id, pending, !status.is_success() && !transient);
        if let Some(ctrl) = self.controllers.get_mut(&ctrl_id) {
            *ctrl.counters.ccr_by_status.entry(status.code()).or_default() += 1;
        }
        self.emit(now, EventKind::CcrAnswered { life: life_id, source: ctrl_id, status, immediate });
        let ask = self
            .lives
            .get_mut(&life_id)
            .and_then(|life| life.condemned_mut())
            .and_then(|condemned| condemned.fence.handle_ccr(now, source_id, status, immediate));
        match ask {
            Some(Ask::ReadLog(source)) => self.read_ccr_log(now, source),
            Some(Ask::Purge(source)) => self.purge_again(now, source),
            Some(Ask::Ccr(_) | Ask::RawClock) | None => {}
        }
        // What an earlier read had to leave in the log can be removed once nothing is unanswered.
        if self.lives.get(&source_id).is_some_and(|source| source.source.needs_purge()) {
            self.purge_source(now, source_id);
        }
        // A slot of the source may have become free for another life.
        self.advance_kin(now, source_id);
    }

    pub(super) fn handle_lane_overdue(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let grace = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.late_grace);
        let Some(condemned) = life.condemned_mut() else { return };
        let stopped = condemned.unanswered.is_empty();
        let quiet_by = condemned.at + grace + LANE_ANSWER;
        condemned.lane_overdue |= !stopped;
        if stopped && now < quiet_by {
            // Its sockets have their time for late answers first.
            self.timers.set(Why::LaneAnswer(life_id), quiet_by);
            return;
        }
        let lanes = self.awaited_lanes(life_id);
        if lanes.is_empty() {
            return;
        }
        self.timers.set(Why::LaneAnswer(life_id), now + LANE_CUT);
        self.emit(now, EventKind::LaneSilent { life: life_id, lanes });
        self.cut_noisy(now, life_id);
        self.advance(now, life_id);
    }

    /// What a hung lane keeps in its sockets must not leave them after the hold has begun, and the hold must not wait for
    /// a lane that never comes back: another thread aborts them. That makes the life quiet and no more: what is in doubt
    /// is known to the lane alone, so nothing is released, and nothing given up, before it answers.
    fn cut_noisy(&mut self, now: Instant, life_id: LifeId) {
        let Some(condemned) = self.lives.get(&life_id).and_then(|life| life.condemned()) else { return };
        if now < condemned.at + LANE_CUT {
            return;
        }
        let noisy: Vec<LaneId> = condemned.noisy.iter().copied().collect();
        self.outputs.extend(noisy.into_iter().map(|lane| Output::Cut(lane, life_id)));
    }

    /// [`Output::Cut`] is done: nothing that the lane has sent on the life, or will try to send, leaves this host from
    /// `now` on. What it may still connect carries no command: it reads that the life is condemned before it could hear
    /// an answer to its Connect.
    pub fn handle_cut(&mut self, now: Instant, lane: LaneId, life: LifeId) {
        self.handle_quiet(now, lane, life, now);
        self.settle_down(now);
    }

    /// [`Output::RawClock`] is answered: at `now`, `CLOCK_MONOTONIC_RAW` (or whatever clock nobody sets) stands at `raw`,
    /// counted from any zero that stays the same. A life that is over is ignored.
    pub fn handle_raw_clock(&mut self, now: Instant, life_id: LifeId, raw: Instant) {
        if let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) {
            condemned.fence.handle_raw_clock(now, raw);
            self.advance(now, life_id);
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

    /// A life had its time to be fenced before it is given up. What waits for a predecessor that no time fences waits no
    /// longer.
    pub(super) fn handle_grace(&mut self, now: Instant, life_id: LifeId) {
        let condemned = self.lives.get(&life_id).and_then(|life| life.condemned());
        let unbounded = condemned.is_some_and(|condemned| condemned.fence.hold() == Hold::Unbounded);
        if unbounded && condemned.is_some_and(|condemned| condemned.ended == Ended::Indeterminate) {
            if self.guards.endless(life_id) {
                self.publish_guards();
            }
            return;
        }
        self.want_give_up(now, life_id);
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
