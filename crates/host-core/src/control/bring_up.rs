//! From a configured port to a live controller.
//!
//! ```text
//! resolve -> TCP -> ICReq -> association (proto) -> namespaces -> I/O queues on the lanes -> record the life, and
//!     ask whose queues they are -> LIVE
//! ```
//! Paths are published only at the end, so no I/O is ever sent on a life that is not recorded
//! (`life_recorded_before_first_write`). A failure on the way ends the attempt and never needs a fence; lanes that may
//! have opened queues are told to close them through the same door as ever.

use super::admin::{ADMIN_SQSIZE, Answer, Purpose};
use super::joined::Outstanding;
use super::life::{IoQueue, Life, Phase, Task};
use super::reconnect::{self, Next};
use super::waits::Why;
use super::{Control, Job, JobFor, JobResult, LifeFacts, LifeRecord, State};
use crate::guards::{self as conditions, Guard};
use crate::stall::hold_terms;
use crate::{
    ConnectFailure, ConnectionEnd, CtrlId, Dial, DownReason, EventKind, JobId, LaneId, LifeId, Loss, OnLoss, QueueSpec,
    StoreWork, ToLane,
};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use interlock_base::Instant;
use interlock_fence::{Input, SourceFacts};
use interlock_proto::host::{AnaLog, Association, AssociationConfig, Facts, KeepAlive, Kind, Step};
use interlock_wire::admin::EventMask;
use interlock_wire::fabrics::{CNTLID_DYNAMIC, Cc};

impl Control {
    /// Begins an attempt: a new life.
    pub(super) fn begin_attempt(&mut self, now: Instant, ctrl_id: CtrlId, attempt: u32, why: &str) {
        let life_id = LifeId(self.next_life);
        if !self.transit(now, ctrl_id, State::Connecting { attempt, life: life_id }, why) {
            return;
        }
        self.next_life += 1;
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        if ctrl.ever_live {
            ctrl.counters.reconnect_count += 1;
            self.counters.reconnect_count += 1;
        }
        let max = reconnect::max_attempts(&ctrl.spec.reconnect);
        let (host, port) = (ctrl.spec.traddr.clone(), ctrl.spec.trsvcid);
        let (total, subnqn) = (ctrl.spec.timeouts.connect_total, ctrl.spec.subnqn.clone());
        self.timers.stop(Why::Reconnect(ctrl_id));
        self.timers.set(Why::ConnectTotal(life_id), now + total);
        self.lives.insert(life_id, Life::new(now, ctrl_id, subnqn, attempt));
        self.emit(now, EventKind::ReconnectAttempt { ctrl: ctrl_id, attempt, max });
        match host.parse::<IpAddr>() {
            Ok(ip) => self.dial(now, life_id, SocketAddr::new(ip, port)),
            Err(_) => {
                self.job(JobFor::Resolve(life_id), Job::Resolve { host, port });
            }
        }
    }

    /// A job was done.
    pub fn handle_job_done(&mut self, now: Instant, job: JobId, result: JobResult) {
        match (self.jobs.remove(&job), result) {
            (Some(JobFor::Resolve(life)), JobResult::Resolved(addrs)) => match self.address_of(life, &addrs) {
                Some(addr) if self.is_in(life, |phase| matches!(phase, Phase::Resolving)) => {
                    self.dial(now, life, addr);
                }
                Some(_) => {}
                None => {
                    self.attempt_failed(now, life, ConnectFailure::Name, "the name has no address".to_string(), false)
                }
            },
            (Some(JobFor::Resolve(life)), JobResult::Failed(why)) => {
                self.attempt_failed(now, life, ConnectFailure::Name, format!("cannot resolve the name: {why}"), false);
            }
            (Some(JobFor::Record { life, disks }), JobResult::Done) => self.record_is_durable(now, life, disks),
            (Some(JobFor::Owner(life)), JobResult::Done) => self.fence(now, Input::Owner(life)),
            (Some(JobFor::Owner(_)), JobResult::Failed(why)) => self.disowned(now, why),
            (Some(JobFor::Record { life, .. }), JobResult::Failed(why)) => {
                let why = format!("cannot record the life before its first write: {why}");
                self.attempt_failed(now, life, ConnectFailure::Record, why, false);
            }
            (Some(JobFor::Disks { life, disks }), JobResult::Done) => self.disks_recorded(now, life, disks),
            (Some(JobFor::Disks { life, .. }), JobResult::Failed(why)) => {
                self.emit(now, EventKind::StoreRefused { life, work: StoreWork::Disks, why });
                self.disks_not_recorded(now, life);
            }
            (Some(JobFor::Store(life, work)), JobResult::Failed(why)) => {
                self.emit(now, EventKind::StoreRefused { life, work, why });
                if work == StoreWork::Terms {
                    self.terms_not_recorded(now, life);
                }
            }
            _ => {}
        }
        self.settle_down(now);
    }

    fn is_in(&self, life: LifeId, phase: impl Fn(&Phase) -> bool) -> bool {
        self.lives.get(&life).is_some_and(|life| phase(&life.phase))
    }

    /// Of several addresses each attempt takes the next one: the first may be dead for good.
    fn address_of(&self, life: LifeId, addrs: &[SocketAddr]) -> Option<SocketAddr> {
        let attempt = self.lives.get(&life).map_or(1, |life| life.attempt.max(1));
        addrs.iter().cycle().nth((attempt as usize - 1) % addrs.len().max(1)).copied()
    }

    fn dial(&mut self, now: Instant, life_id: LifeId, addr: SocketAddr) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        life.addr = Some(addr);
        life.phase = Phase::Dialing;
        let ctrl_id = life.ctrl;
        let Some(dial) = self.dial_of(ctrl_id, addr) else { return };
        let limit = self.controllers.get(&ctrl_id).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.tcp_connect);
        self.timers.set(Why::TcpConnect(life_id), now + limit);
        self.open_admin(life_id, dial);
    }

    fn dial_of(&self, ctrl: CtrlId, addr: SocketAddr) -> Option<Dial> {
        let spec = &self.controllers.get(&ctrl)?.spec;
        Some(Dial {
            addr,
            local: spec.host_traddr.map(|ip| SocketAddr::new(ip, 0)),
            iface: spec.host_iface.clone(),
            user_timeout: if spec.kato.is_zero() { super::MAX_KATO } else { spec.kato },
        })
    }

    pub(super) fn handle_admin_up(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| matches!(life.phase, Phase::Dialing)) else {
            return;
        };
        life.phase = Phase::Greeting;
        let conn = life.admin.as_ref().map(|admin| admin.conn);
        let limit = self.controllers.get(&life.ctrl).map_or(Duration::ZERO, |ctrl| ctrl.spec.timeouts.handshake);
        self.timers.stop(Why::TcpConnect(life_id));
        self.timers.set(Why::Handshake(life_id), now + limit);
        if let Some(conn) = conn {
            self.conn(crate::ConnAction::Send(conn));
        }
    }

    pub(super) fn handle_admin_ready(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| matches!(life.phase, Phase::Greeting)) else {
            return;
        };
        let Some(ctrl) = self.controllers.get(&life.ctrl) else { return };
        let mut association = Association::new(AssociationConfig {
            hostnqn: self.config.hostnqn.clone(),
            hostid: self.config.hostid,
            subnqn: ctrl.spec.subnqn.clone(),
            kind: Kind::Io,
            kato_ms: u32::try_from(ctrl.spec.kato.as_millis()).unwrap_or(u32::MAX),
            admin_sqsize: ADMIN_SQSIZE,
            cntlid: CNTLID_DYNAMIC,
            io_queues_wanted: ctrl.spec.queues(self.config.lanes),
            want_events: EventMask::NAMESPACE | EventMask::ANA | EventMask::CCR,
        });
        let step = association.start();
        life.phase = Phase::Associating(Box::new(association));
        self.take_step(now, life_id, step);
    }

    fn take_step(&mut self, now: Instant, life_id: LifeId, step: Step) {
        match step {
            Step::Ask(command) => {
                let limit = self.admin_limit(life_id);
                self.ask(now, life_id, Purpose::Association, command, limit);
            }
            Step::Wait(pause) => self.timers.set(Why::Poll(life_id), now + pause),
            Step::Live(facts) => self.handle_facts(now, life_id, *facts),
        }
    }

    pub(super) fn handle_association(&mut self, now: Instant, life_id: LifeId, answer: &Answer) {
        // The first answer is that of Connect: the handshake is over.
        self.timers.stop(Why::Handshake(life_id));
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Phase::Associating(association) = &mut life.phase else { return };
        let step = association.handle_answer(now, &answer.cqe, &answer.data, answer.error);
        self.take_result(now, life_id, step);
    }

    pub(super) fn handle_poll(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        match &mut life.phase {
            Phase::Associating(association) => {
                let step = association.handle_waited(now);
                self.take_result(now, life_id, step);
            }
            Phase::Closing { .. } => self.poll_shutdown(now, life_id),
            Phase::Condemned(_) => self.poll_disable(now, life_id),
            _ => {}
        }
    }

    fn take_result(&mut self, now: Instant, life_id: LifeId, step: Result<Step, interlock_proto::host::ConnectError>) {
        match step {
            Ok(step) => self.take_step(now, life_id, step),
            Err(e) => {
                let why = format!("{e}; {}", e.hint);
                self.attempt_failed(now, life_id, ConnectFailure::Refused, why, e.permanent);
            }
        }
    }

    fn handle_facts(&mut self, now: Instant, life_id: LifeId, facts: Facts) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(ctrl) = self.controllers.get(&life.ctrl) else { return };
        let kato = facts.kato.unwrap_or(Duration::ZERO);
        if kato.is_zero() && !ctrl.spec.allow_no_kato {
            let why = "the controller runs without Keep Alive (KATO 0): a lost path could never be fenced by time; \
                       let the target use Keep Alive";
            self.attempt_failed(now, life_id, ConnectFailure::Unsuitable, why.to_string(), true);
            return;
        }
        if facts.io_queues == 0 {
            let why = "the controller grants no I/O queue".to_string();
            self.attempt_failed(now, life_id, ConnectFailure::Unsuitable, why, false);
            return;
        }
        let named = LifeFacts::of(&facts, facts.events.unwrap_or(EventMask::empty()), self.config.lanes);
        if self.refuse_duplicate(now, life_id, &named) {
            return;
        }
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(ctrl) = self.controllers.get(&life.ctrl) else { return };
        // A controller whose own timer is off still answers: this host's half of Keep Alive goes on.
        let asked = u32::try_from(ctrl.spec.kato.as_millis()).unwrap_or(u32::MAX);
        let kato_ms = if kato.is_zero() { asked } else { u32::try_from(kato.as_millis()).unwrap_or(u32::MAX) };
        // Its timer runs since it was enabled, and what was read since may have taken long.
        life.keep_alive = Some(KeepAlive::new(life.begun, kato_ms, facts.tbkas.stated().is_some()));
        let source = SourceFacts {
            life: life_id,
            ctrl: life.ctrl,
            subnqn: life.subnqn.clone(),
            identity: named.identity,
            addr: life.addr,
            local: super::condemn::local(&ctrl.spec),
            ccrl: named.ccrl.unwrap_or(0),
            begun: life.begun,
        };
        life.ana_log = Some(AnaLog::new(&facts.identify, named.max_transfer)).filter(|_| named.ana);
        life.cc = Cc::new(facts.cap.css_csi()).with_enable(true);
        life.ana = facts.ana;
        let expected = self.heads.members_of(life.ctrl, life_id).map(|(nsid, ..)| nsid).collect();
        life.task = Task::Scan(super::scan::Scan::new(named.vs, expected));
        life.facts = Some(named);
        life.phase = Phase::Scanning;
        self.poll_keep_alive(now, life_id);
        self.ask_async_event(now, life_id);
        if self.lives.get(&life_id).is_some_and(Life::may_send) {
            self.fence(now, Input::SourceFound(Box::new(source)));
        }
        self.go_on_with_task(now, life_id);
    }

    /// The namespaces are known: now the I/O queues.
    pub(super) fn open_queues(&mut self, life_id: LifeId) {
        let lanes = self.config.lanes;
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(ctrl) = self.controllers.get(&life.ctrl) else { return };
        let (Some(facts), Some(addr)) = (&life.facts, life.addr) else { return };
        let count = facts.io_queues.min(ctrl.spec.queues(lanes));
        life.phase = Phase::OpeningQueues;
        life.queues = (1..=count).map(|qid| (qid, IoQueue::Opening)).collect();
        let spec = &ctrl.spec;
        let base = QueueSpec {
            life: life_id,
            ctrl: life.ctrl,
            dial: Dial { addr, local: None, iface: None, user_timeout: Duration::ZERO },
            hostnqn: self.config.hostnqn.clone(),
            hostid: self.config.hostid,
            subnqn: spec.subnqn.clone(),
            cntlid: facts.identity.cntlid,
            qid: 0,
            sqsize: (spec.queue_size - 1).min(facts.sqsize_max),
            hdgst: spec.hdgst,
            ddgst: spec.ddgst,
            in_capsule: facts.in_capsule,
            max_transfer: facts.max_transfer,
            connect_timeout: spec.timeouts.handshake,
            io_timeout: spec.timeouts.io,
            retry_delays: facts.retry_delays,
            late_grace: spec.timeouts.late_grace,
        };
        let ctrl_id = life.ctrl;
        let Some(dial) = self.dial_of(ctrl_id, addr) else { return };
        for qid in 1..=count {
            let spec = QueueSpec { qid, dial: dial.clone(), ..base.clone() };
            self.tell_lane(LaneId((qid - 1) % lanes), ToLane::OpenQueue(Arc::new(spec)));
        }
    }

    pub(super) fn handle_queue_up(&mut self, now: Instant, life_id: LifeId, qid: u16) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(queue) = life.queues.get_mut(&qid) else { return };
        *queue = IoQueue::Up;
        if !matches!(life.phase, Phase::OpeningQueues) || life.queues.values().any(|queue| *queue != IoQueue::Up) {
            return;
        }
        life.phase = Phase::Recording(Outstanding::ALL);
        life.recorded.note(life.found.iter().map(|found| &found.ids));
        let disks = life.recorded.give();
        let Some(record) = self.record_of(life_id) else { return };
        self.job(JobFor::Record { life: life_id, disks }, Job::RecordLife(Box::new(record)));
        if !conditions::enabled(Guard::RecordFirst) {
            self.record_is_durable(now, life_id, disks);
        }
        self.ask_who_was_joined(now, life_id);
    }

    /// A successor of this process would know the life, and so many disks of it.
    fn record_is_durable(&mut self, now: Instant, life_id: LifeId, disks: usize) {
        if let Some(life) = self.lives.get_mut(&life_id) {
            life.recorded.stored(disks);
        }
        self.outstanding(now, life_id, Outstanding::recorded);
    }

    /// What a successor must know of a life, as things are set now.
    fn record_of(&self, life_id: LifeId) -> Option<LifeRecord> {
        let life = self.lives.get(&life_id)?;
        let spec = &self.controllers.get(&life.ctrl)?.spec;
        let facts = life.facts.as_ref()?;
        Some(LifeRecord {
            life: life_id,
            ctrl: life.ctrl,
            hostnqn: self.config.hostnqn.clone(),
            hostid: self.config.hostid,
            subnqn: spec.subnqn.clone(),
            addr: life.addr?,
            identity: facts.identity,
            hold: hold_terms(spec, facts),
            disks: life.recorded.disks().to_vec(),
        })
    }

    /// A setting has changed that a successor of this process would have to wait for.
    pub(super) fn record_again(&mut self, ctrl: CtrlId) {
        // One whose first record is under way was given the old terms, and goes live with them.
        let is_given = |phase: &Phase| matches!(phase, Phase::Recording(_) | Phase::Live | Phase::Draining { .. });
        let used = |life: &Life| life.ctrl == ctrl && is_given(&life.phase);
        let lives: Vec<_> = self.lives.iter().filter(|(_, life)| used(life)).map(|(id, _)| *id).collect();
        for record in lives.into_iter().filter_map(|life| self.record_of(life)).collect::<Vec<_>>() {
            let work = JobFor::Store(record.life, StoreWork::Terms);
            self.job(work, Job::RecordLife(Box::new(record)));
        }
    }

    /// A live controller serves a disk that is not recorded yet: once it is, it becomes a path.
    pub(super) fn record_disks(&mut self, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id).filter(|life| life.is_live()) else { return };
        if life.recorded.note(life.found.iter().map(|found| &found.ids)) {
            let disks = life.recorded.give();
            let Some(record) = self.record_of(life_id) else { return };
            self.job(JobFor::Disks { life: life_id, disks }, Job::RecordLife(Box::new(record)));
        }
    }

    /// Recorded: from now on it may be written to.
    pub(super) fn go_live(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let (ctrl_id, attempt, queues) = (life.ctrl, life.attempt, life.queues.len());
        let Some(facts) = life.facts.clone() else { return };
        if !self.transit(now, ctrl_id, State::Live { life: life_id }, "connected") {
            return;
        }
        if let Some(life) = self.lives.get_mut(&life_id) {
            life.phase = Phase::Live;
        }
        for why in [Why::ConnectTotal(life_id), Why::Handshake(life_id), Why::Poll(life_id)] {
            self.timers.stop(why);
        }
        self.timers.stop(Why::ControllerLoss(ctrl_id));
        self.timers.stop(Why::FastIoFail(ctrl_id));
        // A list that has lost a namespace is looked at sooner.
        self.timers.set_earliest(Why::Look(life_id), now + super::live::next_look(life_id));
        let queues = u16::try_from(queues).unwrap_or(u16::MAX);
        if let Some(life) = self.lives.get(&life_id) {
            self.suspects.live(now, &life.subnqn, life_id, ctrl_id, facts.kato_in_force());
        }
        self.emit(now, EventKind::LifeBegan { ctrl: ctrl_id, life: life_id, facts: Box::new(facts), queues });
        if let Some(ctrl) = self.controllers.get_mut(&ctrl_id) {
            ctrl.fast_failed = false;
            ctrl.last_error = None;
            let again = core::mem::replace(&mut ctrl.ever_live, true);
            let (max, after) = (reconnect::max_attempts(&ctrl.spec.reconnect), now - ctrl.lost_at);
            if again {
                self.emit(now, EventKind::Reconnected { ctrl: ctrl_id, attempt, max, after });
            }
        }
        self.take_namespaces(now, life_id);
        self.publish_paths();
        self.do_tasks(now, life_id);
        self.fence(now, Input::SourceUp(life_id));
    }

    /// An attempt did not become a life.
    pub(super) fn attempt_failed(
        &mut self,
        now: Instant,
        life_id: LifeId,
        kind: ConnectFailure,
        why: String,
        permanent: bool,
    ) {
        let Some(life) = self.lives.get(&life_id).filter(|life| Self::is_bring_up(&life.phase)) else { return };
        let (ctrl_id, attempt) = (life.ctrl, life.attempt);
        self.end_attempt(now, life_id);
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        ctrl.last_error = Some(why.clone());
        let permanent_now = permanent && !ctrl.spec.ignore_dnr;
        let next = match ctrl.spec.on_loss {
            // Others decide when, and `ctrl_loss` for how long; no delay means that they are not told again.
            OnLoss::Notify if !permanent_now => Next::WhenAsked,
            _ => reconnect::after_failure(&ctrl.spec.reconnect, now, ctrl.lost_at, permanent_now, &mut self.rng),
        };
        let at = if let Next::At(at) = next { Some(at) } else { None };
        let permanent = permanent_now;
        self.emit(
            now,
            EventKind::ConnectFailed { ctrl: ctrl_id, attempt, kind, why: why.clone(), permanent, next: at },
        );
        match next {
            Next::At(at) => {
                if self.transit(now, ctrl_id, State::Waiting { attempt }, why) {
                    self.pause(now, ctrl_id, Pause::Until(at));
                }
            }
            Next::WhenAsked => {
                if self.transit(now, ctrl_id, State::Waiting { attempt }, why) {
                    self.pause(now, ctrl_id, Pause::Delay);
                }
            }
            Next::Stop(reason) => self.give_up(now, ctrl_id, format!("{why} ({reason})")),
        }
    }

    /// Ends the life of an attempt, and leaves its controller alone.
    pub(super) fn end_attempt(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id).filter(|life| Self::is_bring_up(&life.phase)) else { return };
        if life.queues.is_empty() {
            self.drop_admin(life_id, false);
            self.forget_life(now, life_id);
        } else {
            // Lanes may have opened queues: they close them as those of any other life. Nothing was sent on them.
            let why = DownReason::Lost(ConnectionEnd::Aborted("the attempt to connect ended"));
            self.condemn(now, life_id, Loss::AdminConnection(why));
        }
    }

    /// The next attempt after a loss: at once, unless the life that was lost had barely begun.
    pub(super) fn reconnect_after_loss(&mut self, now: Instant, ctrl_id: CtrlId, lived: Duration, why: &str) {
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        ctrl.lost_at = now;
        let reconnect = ctrl.spec.reconnect;
        let limit = reconnect.ctrl_loss.filter(|limit| limit.is_zero());
        if limit.is_some() {
            self.give_up(now, ctrl_id, format!("{why} (ctrl_loss_tmo is 0)"));
            return;
        }
        if let Some(limit) = reconnect.ctrl_loss {
            self.timers.set(Why::ControllerLoss(ctrl_id), now + limit);
        }
        if let Some(limit) = reconnect.fast_io_fail {
            self.timers.set(Why::FastIoFail(ctrl_id), now + limit);
        }
        let on_loss = ctrl.spec.on_loss;
        ctrl.flap_pause = reconnect::flap_pause(&reconnect, lived, ctrl.flap_pause);
        let pause = ctrl.flap_pause;
        if pause.is_zero() && on_loss == OnLoss::Reconnect {
            self.begin_attempt(now, ctrl_id, 1, why);
        } else if self.transit(now, ctrl_id, State::Waiting { attempt: 0 }, why) {
            let pause = if on_loss == OnLoss::Notify { Pause::Delay } else { Pause::Until(now + pause) };
            self.pause(now, ctrl_id, pause);
        }
    }

    /// A controller waits: for its next attempt, or for somebody to ask for it, who is told so now.
    pub(super) fn pause(&mut self, now: Instant, ctrl_id: CtrlId, pause: Pause) {
        let Some(ctrl) = self.controllers.get(&ctrl_id) else { return };
        let delay = ctrl.spec.reconnect.delay;
        let at = match (ctrl.spec.on_loss, pause) {
            (OnLoss::Reconnect, Pause::Until(at)) => Some(at),
            (OnLoss::Reconnect, Pause::Delay) => Some(now + delay),
            (OnLoss::Notify, _) => Some(now + delay).filter(|_| !delay.is_zero()),
        };
        if ctrl.spec.on_loss == OnLoss::Notify {
            let since = ctrl.lost_at;
            self.emit(now, EventKind::ReconnectWanted { ctrl: ctrl_id, since });
        }
        match at {
            Some(at) => self.timers.set(Why::Reconnect(ctrl_id), at),
            None => self.timers.stop(Why::Reconnect(ctrl_id)),
        }
    }

    /// The pause of a controller that waits is over: it is tried, or asked for again.
    pub(super) fn pause_is_over(&mut self, now: Instant, ctrl_id: CtrlId) {
        let Some(ctrl) = self.controllers.get(&ctrl_id) else { return };
        let State::Waiting { attempt } = ctrl.state else { return };
        match ctrl.spec.on_loss {
            OnLoss::Reconnect => self.begin_attempt(now, ctrl_id, attempt + 1, "reconnecting"),
            OnLoss::Notify => self.pause(now, ctrl_id, Pause::Delay),
        }
    }
}

/// How long a controller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// As its policy says.
    Delay,
    /// Until then.
    Until(Instant),
}
