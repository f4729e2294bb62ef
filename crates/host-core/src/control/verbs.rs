//! What the operator wants, and what the clock says.
//!
//! Every end of a life takes the same door: drain first, then a fence for what is left unanswered. A forced end ends in
//! time because it leaves a tombstone, not because it forgets.

use super::admin::{Answer, Purpose, plain};
use super::counters::ControllerCounters;
use super::life::{Ending, Life, Phase};
use super::waits::Why;
use super::{Control, Controller, ControllerSpec, Job, JobFor, Mode, NoSuchController, SpecError, State, StateName};
use crate::{CtrlId, DownReason, EventKind, LaneId, LifeId, Loss, Release, StoreWork, ToLane};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_fence::Input;
use interlock_wire::fabrics::{Csts, PropertyGet, PropertySet, Shutdown, ShutdownStatus};

/// Between two looks at CSTS during a shutdown.
const SHUTDOWN_POLL: Duration = Duration::from_millis(10);

impl Control {
    /// Stay connected to this from now on. Success or failure comes as events.
    ///
    /// # Errors
    /// The setting that is wrong, or the controller that is this one already.
    pub fn connect(&mut self, now: Instant, spec: ControllerSpec) -> Result<CtrlId, SpecError> {
        let id = CtrlId(self.next_ctrl);
        self.connect_as(now, id, spec)?;
        Ok(id)
    }

    /// As [`Control::connect`], under a name that somebody remembers: of a controller that is gone, or that an earlier
    /// process had. Its counters go on; earlier lives of that name that are not fenced are its own.
    ///
    /// # Errors
    /// As [`Control::connect`], and if the name is in use.
    pub fn connect_as(&mut self, now: Instant, id: CtrlId, spec: ControllerSpec) -> Result<(), SpecError> {
        if self.mode != Mode::Running {
            return Err(SpecError::ShuttingDown);
        }
        spec.check()?;
        let same = |ctrl: &Controller| {
            let old = &ctrl.spec;
            ctrl.state.may_serve()
                && (&old.traddr, old.trsvcid, &old.subnqn, old.host_traddr, &old.host_iface)
                    == (&spec.traddr, spec.trsvcid, &spec.subnqn, spec.host_traddr, &spec.host_iface)
        };
        if let Some((id, _)) = self.controllers.iter().find(|(_, ctrl)| same(ctrl)) {
            return Err(SpecError::Duplicate(*id));
        }
        let other_scope = |ctrl: &Controller| {
            ctrl.state.name() != StateName::Dead
                && ctrl.spec.subnqn == spec.subnqn
                && ctrl.spec.flush_scope != spec.flush_scope
        };
        if let Some((id, _)) = self.controllers.iter().find(|(_, ctrl)| other_scope(ctrl)) {
            return Err(SpecError::FlushScope(*id));
        }
        let counters = match self.controllers.get(&id) {
            None => ControllerCounters::default(),
            Some(old) if old.state.name() == StateName::Dead => old.counters.clone(),
            Some(_) => return Err(SpecError::NameInUse(id)),
        };
        self.next_ctrl = self.next_ctrl.max(id.0.saturating_add(1));
        let limit = spec.reconnect.ctrl_loss.filter(|limit| !limit.is_zero());
        self.controllers.insert(
            id,
            Controller {
                spec,
                state: State::New,
                lost_at: now,
                ever_live: false,
                fast_failed: false,
                flap_pause: Duration::ZERO,
                last_error: None,
                counters,
            },
        );
        if let Some(limit) = limit {
            self.timers.set(Why::ControllerLoss(id), now + limit);
        }
        self.begin_attempt(now, id, 1, "connect");
        self.settle_down(now);
        Ok(())
    }

    /// Ends a controller: drained, then what is left unanswered is fenced, then - after as long again - left as a
    /// tombstone.
    ///
    /// # Errors
    /// There is no such controller, or it is gone.
    pub fn disconnect(&mut self, now: Instant, ctrl: CtrlId) -> Result<(), NoSuchController> {
        self.known(ctrl)?;
        self.delete(now, ctrl, Ending::Disconnect);
        self.settle_down(now);
        Ok(())
    }

    /// Ends the life of a controller in order and begins a new one; a controller that waits tries again at once.
    ///
    /// # Errors
    /// There is no such controller, or it is gone.
    pub fn reset(&mut self, now: Instant, ctrl_id: CtrlId) -> Result<(), NoSuchController> {
        self.known(ctrl_id)?;
        match self.controllers.get(&ctrl_id).map(|ctrl| ctrl.state) {
            Some(State::Waiting { attempt }) => self.begin_attempt(now, ctrl_id, attempt + 1, "reset"),
            // It is being begun already.
            Some(State::New | State::Connecting { .. } | State::Resetting { .. }) | None => {}
            Some(state) => {
                // The table refuses this to a controller that ends.
                let life = state.life().unwrap_or(LifeId(0));
                if self.transit(now, ctrl_id, State::Resetting { life }, "reset") {
                    self.drain(now, life, Ending::Reset);
                }
            }
        }
        self.settle_down(now);
        Ok(())
    }

    /// Somebody is about to send commands to this namespace: its name is kept for as long as this host runs. Call it before
    /// the first request. False if the host does not know the namespace (any more): nothing may be sent to it.
    #[must_use]
    pub fn open(&mut self, head: crate::HeadId) -> bool {
        self.heads.open(head)
    }

    /// Looks at the namespaces of a controller as if it had said that they changed; what cannot be read is tried again. A
    /// controller that is not live is looked at when it is.
    ///
    /// # Errors
    /// There is no such controller, or it is gone.
    pub fn rescan(&mut self, now: Instant, ctrl_id: CtrlId) -> Result<(), NoSuchController> {
        self.known(ctrl_id)?;
        let life = self.controllers.get(&ctrl_id).and_then(|ctrl| ctrl.state.life());
        if let Some(life_id) = life.filter(|id| self.lives.get(id).is_some_and(Life::is_live)) {
            if let Some(life) = self.lives.get_mut(&life_id) {
                life.todo.rescan = true;
            }
            self.do_tasks(now, life_id);
        }
        self.settle_down(now);
        Ok(())
    }

    /// Ends everything in order. [`Control::has_ended`] says when it is over; every step has a deadline.
    pub fn shutdown(&mut self, now: Instant) {
        if self.mode != Mode::Running {
            return;
        }
        self.mode = Mode::ShuttingDown;
        let all: Vec<_> = self.controllers.keys().copied().collect();
        for ctrl in all {
            self.delete(now, ctrl, Ending::Shutdown);
        }
        self.settle_down(now);
    }

    pub(super) fn known(&self, ctrl: CtrlId) -> Result<(), NoSuchController> {
        match self.controllers.get(&ctrl).map(|ctrl| ctrl.state.name()) {
            None | Some(StateName::Dead) => Err(NoSuchController(ctrl)),
            Some(_) => Ok(()),
        }
    }

    fn delete(&mut self, now: Instant, ctrl_id: CtrlId, why: Ending) {
        let Some(ctrl) = self.controllers.get(&ctrl_id) else { return };
        let (state, grace) = (ctrl.state, ctrl.spec.timeouts.drain);
        if matches!(state.name(), StateName::Deleting) {
            return;
        }
        if matches!(state.name(), StateName::Dead) {
            // Given up earlier; what is still held of it must not keep a host from ending.
            self.set_grace(now, ctrl_id, grace);
            return;
        }
        let text = why.loss().to_string();
        if !self.transit(now, ctrl_id, State::Deleting { life: state.life() }, text) {
            return;
        }
        for timer in [Why::Reconnect(ctrl_id), Why::ControllerLoss(ctrl_id), Why::FastIoFail(ctrl_id)] {
            self.timers.stop(timer);
        }
        match state {
            State::Live { life } => self.drain(now, life, why),
            State::Resetting { life } => {
                if let Some(Phase::Draining { why: old, .. } | Phase::Closing { why: old }) =
                    self.lives.get_mut(&life).map(|life| &mut life.phase)
                {
                    *old = why;
                }
            }
            State::Connecting { life, .. } => self.end_attempt(now, life),
            State::New | State::Waiting { .. } | State::Deleting { .. } | State::Dead => {}
        }
        self.set_grace(now, ctrl_id, grace);
        self.publish_paths();
        self.check_deleted(now, ctrl_id);
    }

    /// Earlier lives of a controller that ends have so long to be fenced; then they become tombstones.
    fn set_grace(&mut self, now: Instant, ctrl_id: CtrlId, grace: Duration) {
        let lost: Vec<LifeId> = self.fences.lost_of(ctrl_id).collect();
        for life in lost {
            self.fence(now, Input::GiveUpBy(life, now + grace));
        }
    }

    /// A controller that ends is gone once nothing is held on its account.
    pub(super) fn check_deleted(&mut self, now: Instant, ctrl_id: CtrlId) {
        let Some(ctrl) = self.controllers.get(&ctrl_id) else { return };
        if ctrl.state.name() != StateName::Deleting {
            return;
        }
        let left = self.lives.iter().any(|(id, life)| life.ctrl == ctrl_id && !self.fences.is_tombstone(*id));
        if !left && self.transit(now, ctrl_id, State::Dead, "removed") {
            self.bury(now, ctrl_id);
        }
    }

    /// A life that was to end has been condemned: what happens to its controller.
    pub(super) fn end_of_life(&mut self, now: Instant, ctrl_id: CtrlId, why: &str) {
        let Some(ctrl) = self.controllers.get(&ctrl_id) else { return };
        match ctrl.state.name() {
            StateName::Resetting => self.reconnect_after_loss(now, ctrl_id, Duration::MAX, why),
            StateName::Deleting => {
                let grace = ctrl.spec.timeouts.drain;
                self.set_grace(now, ctrl_id, grace);
                self.check_deleted(now, ctrl_id);
            }
            _ => {}
        }
    }

    // --- The orderly end of a life ---

    fn drain(&mut self, now: Instant, life_id: LifeId, why: Ending) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let limit = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.drain);
        life.phase = Phase::Draining { why, waiting: (0..self.config.lanes).map(LaneId).collect() };
        self.timers.set(Why::Drain(life_id), now + limit);
        self.heads.drop_life(life_id);
        self.caches.ends(life_id);
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.not_live(now, &life.subnqn, life_id);
        }
        self.publish_paths();
        self.tell_lanes(&ToLane::Drain(life_id));
        self.fence(now, Input::SourceDown(life_id));
    }

    pub(super) fn handle_drained(&mut self, now: Instant, lane: LaneId, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Phase::Draining { why, waiting } = &mut life.phase else { return };
        waiting.remove(&lane);
        if !waiting.is_empty() {
            return;
        }
        let why = *why;
        life.phase = Phase::Closing { why };
        let limit = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.drain);
        self.timers.stop(Why::Drain(life_id));
        self.timers.set(Why::Shutdown(life_id), now + limit);
        let sqe = PropertySet::cc(life.cc.with_shutdown(Shutdown::Normal)).to_sqe();
        if !self.ask(now, life_id, Purpose::Shutdown, plain(sqe), None) {
            self.close_finished(now, life_id);
        }
    }

    pub(super) fn handle_shutdown_asked(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        if answer.status().is_success() {
            self.poll_shutdown(now, life_id);
        } else {
            self.close_finished(now, life_id);
        }
    }

    pub(super) fn poll_shutdown(&mut self, now: Instant, life_id: LifeId) {
        let sqe = PropertyGet::CSTS.to_sqe();
        if !self.ask(now, life_id, Purpose::ShutdownPoll, plain(sqe), None) {
            self.close_finished(now, life_id);
        }
    }

    pub(super) fn handle_shutdown_polled(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        let csts = Csts(answer.cqe.dw0.get());
        let shutdown = csts.shutdown();
        if answer.status().is_success() && shutdown == ShutdownStatus::Occurring {
            self.timers.set(Why::Poll(life_id), now + SHUTDOWN_POLL);
        } else {
            if answer.status().is_success() && shutdown == ShutdownStatus::Complete {
                // Base Specification, "Shutdown": nothing is left in its cache.
                self.judge_cache(now, life_id, true);
            }
            self.close_finished(now, life_id);
        }
    }

    /// Everything of the life was answered: it is clean, whether or not the controller finished its shutdown.
    pub(super) fn close_finished(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let Phase::Closing { .. } = life.phase else { return };
        let ctrl_id = life.ctrl;
        self.judge_cache(now, life_id, false);
        self.job(JobFor::Store(life_id, StoreWork::MarkClean), Job::MarkClean(life_id));
        self.tell_lanes(&ToLane::Settle { life: life_id, release: Release::Retry });
        self.fence(now, Input::Closed(life_id));
        self.drop_admin(life_id, true);
        self.forget_life(now, life_id);
        if let Some(ctrl) = self.controllers.get_mut(&ctrl_id) {
            ctrl.counters.reset_count += 1;
            self.counters.reset_count += 1;
        }
        self.end_of_life(now, ctrl_id, "reset");
        self.publish_paths();
    }

    // --- The clock ---

    /// Everything whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(next) = self.next_deadline().filter(|next| next.at <= now) {
            if self.timers.next() == Some(next) {
                self.timers.stop(next.why);
                self.handle_expired(now, next.why);
            } else {
                self.fences.handle_timeout(now);
                self.route(now);
            }
        }
        self.settle_down(now);
    }

    fn handle_expired(&mut self, now: Instant, why: Why) {
        let timed_out = |what: &str| Loss::AdminConnection(DownReason::TimedOut(what.to_string()));
        match why {
            Why::Reconnect(ctrl) => {
                self.pause_is_over(now, ctrl);
            }
            Why::ControllerLoss(ctrl) => self.give_up(now, ctrl, "ctrl_loss_tmo has passed".to_string()),
            Why::FastIoFail(id) => {
                if let Some(ctrl) = self.controllers.get_mut(&id) {
                    ctrl.fast_failed = true;
                    self.emit(now, EventKind::FastIoFail { ctrl: id });
                    self.publish_paths();
                }
            }
            Why::TcpConnect(life) => self.life_failed(now, life, timed_out("TCP connect")),
            Why::Handshake(life) => self.life_failed(now, life, timed_out("ICResp and Connect")),
            Why::ConnectTotal(life) => {
                let step = self.lives.get(&life).map_or("", |life| match &life.phase {
                    Phase::Resolving => "the name was not resolved",
                    Phase::Recording(outstanding) => outstanding.text(),
                    Phase::OpeningQueues => "I/O queues did not open",
                    Phase::Scanning => "namespaces were not all identified",
                    _ => "the controller did not become live",
                });
                self.life_failed(now, life, timed_out(step));
            }
            Why::Poll(life) => self.handle_poll(now, life),
            Why::Admin(life) => self.handle_admin_timeout(now, life),
            Why::LastWords(life) => self.handle_last_words(now, life),
            Why::KeepAlive(life) => self.poll_keep_alive(now, life),
            Why::Probe(life) => self.handle_probe_timeout(now, life),
            Why::Slow(life) => self.handle_calm(now, life),
            Why::AnaTransition(life) => self.life_failed(now, life, Loss::AnaTransition),
            Why::Drain(life) => {
                if let Some(Phase::Draining { why, .. }) = self.lives.get(&life).map(|life| &life.phase) {
                    let loss = why.loss();
                    self.life_failed(now, life, loss);
                }
            }
            Why::Shutdown(life) => self.close_finished(now, life),
            Why::Disable(life) => self.disable_over(now, life, false),
            Why::Reread(life) => self.handle_reread(now, life),
            Why::Event(life) => self.ask_async_event(now, life),
            Why::Look(life) => self.handle_look(now, life),
            Why::LateGrace(life) => self.handle_late_grace(now, life),
            // What they want is done at the end of every call.
            Why::Suspects => {}
            // The fences'.
            Why::LaneAnswer(_) | Why::Fence(_) | Why::Hold(_) | Why::Grace(_) | Why::Owner(_) | Why::OldSockets(_) => {}
        }
    }

    /// After every input: what follows from the sum of it.
    pub(super) fn settle_down(&mut self, now: Instant) {
        while let Some((lane, plan)) = self.caches.poll() {
            self.tell_lane(lane, plan);
        }
        self.settle_suspects(now);
        if self.mode == Mode::ShuttingDown
            && self.controllers.values().all(|ctrl| ctrl.state.name() == StateName::Dead)
            && self.lives.iter().all(|(id, _)| self.fences.is_tombstone(*id))
        {
            self.mode = Mode::Ended;
            self.tell_lanes(&ToLane::Shutdown);
            self.emit(now, EventKind::ShutDown);
        }
    }
}
