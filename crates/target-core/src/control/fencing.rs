//! The end of lives, and Cross-Controller Reset.
//!
//! What a life does next stands in the table of [`crate::life`]; this module carries it out. Success of a CCR is said
//! in one place only, [`Control::finish_ccrs`], and that is called in one place only: when the last lane has answered.
//!
//! NVM Express Base Specification 2.3, "Cross-Controller Reset command".

use super::controller::{CcrRun, ControllerKey, Kind, Run, Stage};
use super::{Control, ControlOutput, Why};
use crate::config::Ccr;
use crate::life::{Action, HostIdentity, Input, LifeState};
use crate::message::ToLane;
use crate::{By, Event, LaneId, Life, LifeId, Loss, Payer};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::admin::AsyncEvent;
use interlock_wire::ccr::{self, CrossControllerReset, ENTRIES_MAX, Entry};
use interlock_wire::status::Status;

/// CCRF: the request was validated and the controller level reset was begun.
const CCRF_VALIDATED_AND_BEGUN: u8 = 0b11;

/// A life that can still change media.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LifeEntry {
    pub(super) life: Life,
    pub(super) host: HostIdentity,
    /// Who pays for it.
    pub(super) payer: Payer,
    /// Its controller, until the association is over.
    pub(super) controller: Option<ControllerKey>,
    pub(super) state: LifeState,
    /// Lanes that have not answered `Quiesced`.
    pub(super) waiting: BTreeSet<LaneId>,
    /// Stalled media-changing commands per lane.
    pub(super) held: BTreeMap<LaneId, u32>,
    /// Stalled media-changing commands that were cancelled.
    pub(super) cancelled: u32,
    /// When its loss is noticed at the latest, if somebody looks at the clock then.
    pub(super) noticeable: Option<Instant>,
}

impl Control {
    /// A life begins: CSTS.RDY goes from 0 to 1.
    pub(super) fn begin_life(&mut self, key: ControllerKey) -> Option<LifeId> {
        let ciu_max = self.config.limits.ciu_max.max(1);
        let controller = self.controllers.get_mut(&key)?;
        let subsystem = controller.subsystem()?;
        controller.ciu = if controller.ciu >= ciu_max { 1 } else { controller.ciu + 1 };
        controller.cirn = nonzero(&mut self.rng);
        let id = LifeId(self.next_life);
        self.next_life += 1;
        let life = Life { id, subsystem, cntlid: controller.cntlid, ciu: controller.ciu, cirn: controller.cirn };
        let entry = LifeEntry {
            life,
            host: controller.host.clone(),
            payer: controller.payer,
            controller: Some(key),
            state: LifeState::Live,
            waiting: BTreeSet::new(),
            held: BTreeMap::new(),
            cancelled: 0,
            noticeable: None,
        };
        self.lives.insert(id, entry);
        self.out(ControlOutput::Event(Event::Enabled { life }));
        Some(id)
    }

    /// Something happened to a life.
    pub(super) fn apply(&mut self, now: Instant, id: LifeId, input: Input, why: Loss) {
        let Some(entry) = self.lives.get_mut(&id) else { return };
        let life = entry.life;
        let (state, action) = entry.state.after(input);
        entry.state = state;
        match action {
            Action::None => {}
            Action::CutAndDrain => {
                // What was noticed early ends early; a drain that a script makes slow has the time that the host was given.
                let quiesce_ms = self.config.subsystems[usize::from(life.subsystem.0)].quiesce_ms;
                let by_time = matches!(state, LifeState::Draining { by: By::Time });
                let until = by_time.then(|| now + Duration::from_millis(quiesce_ms.into()));
                self.broadcast(&ToLane::Cut { life: id, why, until });
                self.out(ControlOutput::Event(Event::Lost { life, why }));
                self.watch_quiesce(now, life, why);
                self.drain(now, life, state);
            }
            Action::Hasten => self.drain(now, life, state),
            Action::Quiesce => {
                self.timers.stop(Why::Drain(id));
                let LifeState::Quiescing { by } = state else { return };
                let lanes = self.lanes().collect();
                if let Some(entry) = self.lives.get_mut(&id) {
                    entry.waiting = lanes;
                }
                self.broadcast(&ToLane::Quiesce { life: id, by });
            }
            Action::End { by } => self.end_life(now, id, by),
        }
    }

    /// Waits for the drain time of `state`, or goes on at once if there is none.
    fn drain(&mut self, now: Instant, life: Life, state: LifeState) {
        let LifeState::Draining { by } = state else { return };
        let config = &self.config.subsystems[usize::from(life.subsystem.0)];
        let ms = match by {
            By::Time => config.quiesce_ms,
            By::Ccr => match config.ccr {
                Ccr::On { drain_ms, .. } => drain_ms.saturating_add(self.script.slow_drain_ms),
                Ccr::Off => 0,
            },
            By::Reset => 0,
        };
        if ms == 0 {
            self.apply(now, life.id, Input::DrainOver, Loss::Closed);
        } else {
            let over = now + Duration::from_millis(ms.into());
            // A reset ends it no later than silence would have: the host that asked for it counts on that, too.
            let silence = self.lives.get(&life.id).and_then(|entry| entry.noticeable).filter(|_| by == By::Ccr);
            let last = silence.map(|at| at + Duration::from_millis(config.quiesce_ms.into()));
            self.timers.set_earliest(Why::Drain(life.id), last.map_or(over, |last| last.min(over)));
        }
    }

    /// A lane has quiesced a life.
    pub(super) fn handle_quiesced(&mut self, now: Instant, lane: LaneId, id: LifeId, cancelled: u32) {
        let Some(entry) = self.lives.get_mut(&id) else { return };
        if !entry.waiting.remove(&lane) {
            return;
        }
        entry.cancelled += cancelled;
        entry.held.remove(&lane);
        if entry.waiting.is_empty() {
            self.apply(now, id, Input::Quiesced, Loss::Closed);
        }
    }

    /// Every lane has answered: nothing of the life can change media any more.
    fn end_life(&mut self, now: Instant, id: LifeId, by: By) {
        let Some(entry) = self.lives.remove(&id) else { return };
        self.timers.stop(Why::Quiesced(id));
        let LifeEntry { life, host, payer, controller, cancelled, .. } = entry;
        self.ended.remember(life, host, payer);
        self.out(ControlOutput::Event(Event::Fenced { life, by, cancelled }));
        if let Some(controller) = controller.and_then(|key| self.controllers.get_mut(&key)) {
            controller.stage = match controller.stage {
                Stage::Disabling(_) => Stage::Disabled,
                Stage::ShuttingDown(_) => Stage::ShutDown,
                other => other,
            };
        }
        self.finish_ccrs(now, id);
        self.check_ended();
    }

    /// The only place where a CCR becomes a success.
    fn finish_ccrs(&mut self, now: Instant, life: LifeId) {
        let sources: Vec<(ControllerKey, CcrRun)> = self
            .controllers
            .iter()
            .flat_map(|(key, controller)| controller.ccrs.iter().map(|run| (*key, *run)))
            .filter(|(_, run)| run.life == life)
            .collect();
        for (source, run) in sources {
            match run.run {
                Run::Answering { slot } => {
                    self.timers.stop(Why::CcrAnswer(source, life));
                    if let Some(controller) = self.controllers.get_mut(&source) {
                        controller.ccrs.retain(|other| other.life != life);
                    }
                    self.answer_ccr(source, slot, run.icid, Status::SUCCESS, true);
                }
                Run::Logged if self.script.ccr_late_ms > 0 => {
                    let late = Duration::from_millis(self.script.ccr_late_ms.into());
                    self.timers.set(Why::CcrReport(source, life), now + late);
                }
                Run::Logged => self.report_ccr(source, life),
            }
        }
    }

    /// A finished CCR that was answered as pending: its entry turns to success, and the event is raised.
    pub(super) fn report_ccr(&mut self, source: ControllerKey, life: LifeId) {
        let Some(controller) = self.controllers.get_mut(&source) else { return };
        let Some(at) = controller.ccrs.iter().position(|run| run.life == life) else { return };
        let run = controller.ccrs.remove(at);
        controller.ccr_log.push(entry(run.icid, run.ciu, ccr::State::Success));
        if !self.script.ccr_lose_event {
            self.raise(source, AsyncEvent::CCR_COMPLETED);
        }
    }

    /// The answer to a CCR has waited long enough for the reset to finish.
    pub(super) fn answer_ccr_pending(&mut self, source: ControllerKey, life: LifeId) {
        let Some(controller) = self.controllers.get_mut(&source) else { return };
        let Some(run) = controller.ccrs.iter_mut().find(|run| run.life == life) else { return };
        let icid = run.icid;
        if let Run::Answering { slot } = core::mem::replace(&mut run.run, Run::Logged) {
            self.answer_ccr(source, slot, icid, Status::SUCCESS, false);
        }
    }

    fn answer_ccr(&mut self, source: ControllerKey, slot: u16, icid: u16, status: Status, immediate: bool) {
        let Some(cntlid) = self.controllers.get(&source).map(|controller| controller.cntlid) else { return };
        self.out(ControlOutput::Event(Event::CcrAnswered { source: cntlid, icid, status, immediate }));
        let dw0 = if status.is_success() { ccr::answer(immediate) } else { 0 };
        self.answer(source, slot, status, dw0, 0, Vec::new());
    }

    /// A CCR command.
    pub(super) fn handle_ccr(&mut self, now: Instant, source: ControllerKey, slot: u16, command: CrossControllerReset) {
        let icid = command.impacted.cntlid;
        match self.judge_ccr(source, command) {
            Err(status) => self.answer_ccr(source, slot, icid, status, false),
            Ok(None) => self.answer_ccr(source, slot, icid, Status::SUCCESS, true),
            Ok(Some(_)) if self.script.ccr_fail => {
                let failed = entry(icid, command.impacted.ciu, ccr::State::Failed);
                if let Some(controller) = self.controllers.get_mut(&source) {
                    controller.ccr_log.push(failed);
                }
                self.answer_ccr(source, slot, icid, Status::SUCCESS, false);
                self.raise(source, AsyncEvent::CCR_COMPLETED);
            }
            Ok(Some(life)) => {
                let run = CcrRun { life, icid, ciu: command.impacted.ciu, run: Run::Answering { slot } };
                if let Some(controller) = self.controllers.get_mut(&source) {
                    controller.ccrs.push(run);
                }
                self.begin_ccr(now, source, life);
            }
        }
    }

    fn begin_ccr(&mut self, now: Instant, source: ControllerKey, life: LifeId) {
        let Some(entry) = self.lives.get(&life) else { return };
        let Ccr::On { answer_ms, .. } = self.config.subsystems[usize::from(entry.life.subsystem.0)].ccr else {
            return;
        };
        self.timers.set(Why::CcrAnswer(source, life), now + Duration::from_millis(answer_ms.into()));
        match entry.controller {
            Some(impacted) => self.lose(now, impacted, Loss::Ccr),
            None => self.apply(now, life, Input::Ccr, Loss::Ccr),
        }
        // While it drains it cannot be immediate: say so now.
        let drains = self.lives.get(&life).is_some_and(|entry| matches!(entry.state, LifeState::Draining { .. }));
        if drains || answer_ms == 0 {
            self.timers.stop(Why::CcrAnswer(source, life));
            self.answer_ccr_pending(source, life);
        }
    }

    /// Which life a CCR is to reset; none if it is over already.
    fn judge_ccr(&mut self, source: ControllerKey, command: CrossControllerReset) -> Result<Option<LifeId>, Status> {
        let impacted = command.impacted;
        let invalid = Status::INVALID_FIELD.with_dnr();
        let controller = self.controllers.get(&source).ok_or(invalid)?;
        let Kind::Io(subsystem) = controller.kind else { return Err(Status::INVALID_OPCODE.with_dnr()) };
        let names = |life: &Life| {
            life.subsystem == subsystem
                && life.cntlid == impacted.cntlid
                && life.ciu == impacted.ciu
                && life.cirn == impacted.cirn
        };
        let found = self.lives.values().find(|entry| names(&entry.life));
        let held = found.map_or(0, |entry| entry.held.values().sum());
        let limit = self.config.subsystems[usize::from(subsystem.0)].ccr.limit();
        let same_host = |entry: &LifeEntry| entry.host == controller.host;
        let verdict = if let Some(status) = self.script.ccr_refuse {
            Err(status)
        } else if limit == 0 {
            Err(Status::INVALID_OPCODE.with_dnr())
        } else if impacted.cntlid == controller.cntlid {
            Err(invalid)
        } else if let Some(entry) = found.filter(|entry| same_host(entry)) {
            let id = entry.life.id;
            let running = self.controllers.values().flat_map(|other| &other.ccrs).any(|run| run.life == id);
            if running {
                Err(Status::CCR_IN_PROGRESS)
            } else if controller.ccrs.len() >= usize::from(limit) {
                Err(Status::CCR_LIMIT_EXCEEDED)
            } else if controller.ccrs.len() + controller.ccr_log.len() >= ENTRIES_MAX {
                Err(Status::CCR_LOG_FULL)
            } else {
                Ok(Some(id))
            }
        } else if self.ended.find(&controller.host, names).is_some() {
            Ok(None)
        } else {
            // Never existed, belongs to another host, or ended too long ago to know.
            Err(invalid)
        };
        let event = Event::CcrReceived {
            source: controller.cntlid,
            icid: impacted.cntlid,
            ciu: impacted.ciu,
            cirn: impacted.cirn,
            held,
        };
        self.out(ControlOutput::Event(event));
        verdict
    }

    /// Log page 1Eh of a controller.
    pub(super) fn ccr_page(&self, key: ControllerKey) -> Vec<u8> {
        let Some(controller) = self.controllers.get(&key) else { return Vec::new() };
        let running = controller
            .ccrs
            .iter()
            .filter(|run| run.run == Run::Logged)
            .map(|run| entry(run.icid, run.ciu, ccr::State::InProgress));
        let entries: Vec<Entry> = running.chain(controller.ccr_log.iter().copied()).collect();
        ccr::encode_log(&entries)
    }

    /// Puts into every CCR log what earlier lives with the CIUs of today's would have left there.
    pub(super) fn plant_stale_entries(&mut self) {
        let mut plants = Vec::new();
        for (key, source) in self.controllers.iter().filter(|(_, source)| source.is_ready()) {
            for entry in self.lives.values() {
                if source.subsystem() == Some(entry.life.subsystem)
                    && source.host == entry.host
                    && source.cntlid != entry.life.cntlid
                {
                    plants.push((*key, entry.life));
                }
            }
        }
        for (key, life) in plants {
            if let Some(source) = self.controllers.get_mut(&key)
                && source.ccrs.len() + source.ccr_log.len() < ENTRIES_MAX
            {
                source.ccr_log.push(entry(life.cntlid, life.ciu, ccr::State::Success));
            }
            if !self.script.ccr_lose_event {
                self.raise(key, AsyncEvent::CCR_COMPLETED);
            }
        }
    }
}

const fn entry(icid: u16, ciu: u8, state: ccr::State) -> Entry {
    Entry { icid, ciu, acid: 0, state, flags: CCRF_VALIDATED_AND_BEGUN }
}

/// A random number that is not 0: 0 means "not reported".
pub(super) fn nonzero(rng: &mut interlock_base::Rng) -> u64 {
    rng.next_u64().max(1)
}
