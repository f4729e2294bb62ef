//! Commands on admin queues: properties, features, events, and the way to everything else.
//!
//! NVM Express Base Specification, "Admin Command Set", "Controller Properties", "Features".

use super::controller::{Controller, ControllerKey, EVENT_REQUESTS_MAX, Events, Kind, Stage};
use super::identify::WARNING_TEMPERATURE;
use super::{Control, Why};
use crate::Loss;
use crate::config::{Ccr, KATO_MAX};
use crate::health::Failure;
use crate::life::Input;
use crate::message::ToLane;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::admin::{
    self, Abort, EventMask, FID_ARBITRATION, FID_ASYNC_EVENTS, FID_ERROR_RECOVERY, FID_HOST_ID, FID_KEEP_ALIVE,
    FID_POWER, FID_QUEUES, FID_TEMPERATURE, FID_VOLATILE_WRITE_CACHE, FID_WRITE_ATOMICITY, GetFeatures, IDENTIFY_LEN,
    QueueCount, Select, SetFeatures,
};
use interlock_wire::fabrics::{self, Cap, Cc, PropertyGet, PropertySet, PropertySize, Shutdown, Version};
use interlock_wire::log::{LID_ERROR, LID_SMART, NSID_ALL};
use interlock_wire::property;
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

/// How long enabling and disabling may take (CAP.TO): disabling waits for the slowest media operation.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Arbitration: no limit to a burst.
const ARBITRATION_UNLIMITED: u32 = 0b111;

/// Temperature Threshold: THSEL says under.
const TEMPERATURE_UNDER: u32 = 1 << 20;

/// What a command is answered with: DW0, DW1 and data; nothing if the answer comes later.
type Answer = Option<(u32, u32, Vec<u8>)>;

const fn value(dw0: u32) -> Answer {
    Some((dw0, 0, Vec::new()))
}

impl Control {
    /// A command on an admin queue, which came in after `at`.
    pub(super) fn handle_admin(
        &mut self,
        now: Instant,
        at: Instant,
        key: ControllerKey,
        slot: u16,
        sqe: &Sqe,
        room: u32,
    ) {
        self.hear(key, at);
        let outcome = if sqe.is_fabrics() {
            self.handle_fabrics(now, key, sqe)
        } else {
            self.handle_nvme(now, at, key, slot, sqe, room)
        };
        match outcome {
            Ok(Some((dw0, dw1, data))) => self.answer(key, slot, Status::SUCCESS, dw0, dw1, data),
            Ok(None) => {}
            Err(status) => {
                self.note_error(at, key, sqe, status);
                self.answer(key, slot, status, 0, 0, Vec::new());
            }
        }
        // An event request may meet an event, and a log that was read may let the next one through.
        self.tell(key);
    }

    #[cold]
    fn note_error(&mut self, at: Instant, key: ControllerKey, sqe: &Sqe, status: Status) {
        let nsid = if sqe.is_fabrics() { 0 } else { sqe.nsid.get() };
        let (cid, opcode) = (sqe.cid.get(), sqe.opcode);
        self.with(key, |controller| {
            controller.errors.note(Failure { at, life: None, qid: 0, cid, opcode, nsid, lba: 0, status });
        });
    }

    fn handle_fabrics(&mut self, now: Instant, key: ControllerKey, sqe: &Sqe) -> Result<Answer, Status> {
        match fabrics::Command::from_sqe(sqe)? {
            fabrics::Command::PropertyGet(get) => self.property_get(key, get),
            fabrics::Command::PropertySet(set) => self.property_set(now, key, set),
            fabrics::Command::Connect(_) => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
            fabrics::Command::Disconnect => Err(Status::INVALID_QUEUE_TYPE.with_dnr()),
            fabrics::Command::AuthSend | fabrics::Command::AuthReceive => Err(Status::INVALID_OPCODE.with_dnr()),
        }
    }

    fn property_get(&self, key: ControllerKey, get: PropertyGet) -> Result<Answer, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let controller = self.controllers.get(&key).ok_or(invalid)?;
        match (get.offset, get.size) {
            (property::CAP, PropertySize::Eight) => {
                let cap = Cap::new(self.config.limits.queue_depth - 1, READY_WITHIN).0;
                Ok(Some((cap as u32, (cap >> 32) as u32, Vec::new())))
            }
            (property::VS, PropertySize::Four) => Ok(value(self.version(controller).0)),
            (property::CC, PropertySize::Four) => Ok(value(controller.cc.0)),
            (property::CSTS, PropertySize::Four) => Ok(value(controller.csts().0)),
            _ => Err(invalid),
        }
    }

    pub(super) fn version(&self, controller: &Controller) -> Version {
        if self.ccr_limit(controller) > 0 { Version::V2_3 } else { Version::V2_1 }
    }

    pub(super) fn ccr_limit(&self, controller: &Controller) -> u8 {
        controller.subsystem().map_or(0, |id| self.config.subsystems[usize::from(id.0)].ccr.limit())
    }

    fn property_set(&mut self, now: Instant, key: ControllerKey, set: PropertySet) -> Result<Answer, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        if (set.offset, set.size) != (property::CC, PropertySize::Four) {
            return Err(invalid);
        }
        let controller = self.controllers.get_mut(&key).ok_or(invalid)?;
        let cc = Cc(u32::try_from(set.value).map_err(|_| invalid)?);
        let before = core::mem::replace(&mut controller.cc, cc);
        let asks_shutdown = |cc: Cc| matches!(cc.shutdown(), Shutdown::Normal | Shutdown::Abrupt);
        if before.enabled() && !cc.enabled() {
            self.disable(now, key);
        } else if !before.enabled() && cc.enabled() {
            self.enable(now, key, cc);
        }
        if asks_shutdown(cc) && !asks_shutdown(before) {
            self.shut_down_controller(now, key);
        }
        Ok(value(0))
    }

    fn enable(&mut self, now: Instant, key: ControllerKey, cc: Cc) {
        let Some(controller) = self.controllers.get_mut(&key) else { return };
        let entries = controller.kind == Kind::Discovery || (cc.iosqes(), cc.iocqes()) == (6, 4);
        controller.stage = match controller.stage {
            Stage::Disabled if cc.mps() != 0 || cc.ams() != 0 || cc.css() != 0 || !entries => Stage::Failed,
            Stage::Disabled => Stage::Ready(None),
            // Not before RDY is 0.
            _ => Stage::Failed,
        };
        if controller.stage == Stage::Failed {
            return;
        }
        controller.events = Events::new(Controller::default_events(controller.kind));
        controller.changed.clear();
        controller.broken = false;
        // A source's log begins empty; what it was asked for earlier is nobody's business any more.
        controller.ccrs.clear();
        controller.ccr_log.clear();
        let life = self.begin_life(key);
        if let Some(controller) = self.controllers.get_mut(&key) {
            controller.stage = Stage::Ready(life);
        }
        self.arm_keep_alive(now, key);
    }

    fn disable(&mut self, now: Instant, key: ControllerKey) {
        let rdy_at_once = self.script.rdy_before_drained;
        self.take_down(now, key, |life| if rdy_at_once { Stage::Disabled } else { Stage::Disabling(life) });
        if let Some(controller) = self.controllers.get_mut(&key) {
            match controller.stage {
                Stage::Ready(_) | Stage::ShutDown | Stage::Failed => controller.stage = Stage::Disabled,
                // The shutdown becomes a reset; both wait for the same life.
                Stage::ShuttingDown(life) => controller.stage = Stage::Disabling(life),
                Stage::Disabled | Stage::Disabling(_) => {}
            }
        }
        self.arm_keep_alive(now, key);
    }

    fn shut_down_controller(&mut self, now: Instant, key: ControllerKey) {
        self.take_down(now, key, Stage::ShuttingDown);
        if let Some(controller) = self.controllers.get_mut(&key)
            && matches!(controller.stage, Stage::Ready(_) | Stage::Disabled | Stage::Failed)
        {
            controller.stage = Stage::ShutDown;
        }
        self.arm_keep_alive(now, key);
    }

    /// Ends the life of a ready controller whose admin queue stays.
    fn take_down(&mut self, now: Instant, key: ControllerKey, next: impl Fn(crate::LifeId) -> Stage) {
        let Some(controller) = self.controllers.get_mut(&key).filter(|controller| controller.is_ready()) else {
            return;
        };
        let requests = core::mem::take(&mut controller.events.requests);
        let queues = core::mem::take(&mut controller.queues);
        let life = controller.life();
        // CCRs that wait for their answer go on without it: their source is being reset.
        let answers: Vec<u16> = controller
            .ccrs
            .drain(..)
            .filter_map(|run| match run.run {
                super::controller::Run::Answering { slot } => Some(slot),
                super::controller::Run::Logged => None,
            })
            .collect();
        if let Some(life) = life {
            controller.stage = next(life);
        }
        let questions = self.drop_questions(key);
        self.timers.stop_where(|wait| {
            matches!(wait, Why::QueueLost(whose) | Why::CcrAnswer(whose, _) | Why::CcrReport(whose, _) if whose == key)
        });
        // A reset and a shutdown take commands away without an answer: hosts do not expect one.
        if let Some((lane, conn)) = self.controllers.get(&key).map(|controller| controller.admin) {
            for slot in requests.into_iter().chain(answers).chain(questions) {
                self.to(lane, ToLane::Forget { conn, slot });
            }
        }
        for place in queues.values() {
            self.conns.remove(place);
        }
        if let Some(life) = life {
            let at_once = self.controllers.get(&key).is_some_and(|controller| controller.stage == Stage::Disabled);
            if at_once {
                // Scripted: the host reads RDY=0 although the life goes on as after a loss.
                if let Some(entry) = self.lives.get_mut(&life) {
                    entry.controller = None;
                }
                self.apply(now, life, Input::Lost, Loss::Reset);
            } else {
                self.apply(now, life, Input::Reset, Loss::Reset);
            }
        }
    }

    fn handle_nvme(
        &mut self,
        now: Instant,
        at: Instant,
        key: ControllerKey,
        slot: u16,
        sqe: &Sqe,
        room: u32,
    ) -> Result<Answer, Status> {
        let sequence = Status::COMMAND_SEQUENCE_ERROR.with_dnr();
        let controller = self.controllers.get(&key).filter(|controller| controller.is_ready()).ok_or(sequence)?;
        let discovery = controller.kind == Kind::Discovery;
        let length = Status::SGL_DATA_LENGTH_INVALID.with_dnr();
        match admin::Command::from_sqe(sqe)? {
            admin::Command::KeepAlive => self.keep_alive(at, key),
            admin::Command::AsyncEventRequest => {
                let controller = self.controllers.get_mut(&key).ok_or(sequence)?;
                if controller.events.requests.len() == EVENT_REQUESTS_MAX {
                    return Err(Status::AER_LIMIT_EXCEEDED.with_dnr());
                }
                controller.events.requests.push_back(slot);
                Ok(None)
            }
            admin::Command::Identify(_) if room != IDENTIFY_LEN => Err(length),
            admin::Command::Identify(identify) => self.identify(key, identify).map(|page| Some((0, 0, page))),
            // Health is that of the controller: LPA does not offer that of a namespace.
            admin::Command::GetLog(get) if get.lid == LID_SMART && ![0, NSID_ALL].contains(&get.nsid) => {
                Err(Status::INVALID_FIELD.with_dnr())
            }
            admin::Command::GetLog(get) if get.len != room => Err(length),
            admin::Command::GetLog(get) if [LID_SMART, LID_ERROR].contains(&get.lid) && !discovery => {
                self.ask_lanes(now, key, slot, get);
                Ok(None)
            }
            admin::Command::GetLog(get) => self.get_log(now, key, &get).map(|page| Some((0, 0, page))),
            admin::Command::SetFeatures(set) => self.set_features(at, key, set),
            admin::Command::GetFeatures(get) => self.get_features(key, get, sqe.cdw11.get(), room),
            admin::Command::Abort(_) | admin::Command::CrossControllerReset(_) if discovery => {
                Err(Status::INVALID_OPCODE.with_dnr())
            }
            admin::Command::Abort(_) => Ok(value(Abort::NOT_ABORTED)),
            admin::Command::CrossControllerReset(command) => {
                if self.ccr_limit(controller) == 0 {
                    return Err(Status::INVALID_OPCODE.with_dnr());
                }
                self.handle_ccr(now, key, slot, command);
                Ok(None)
            }
        }
    }

    fn keep_alive(&mut self, at: Instant, key: ControllerKey) -> Result<Answer, Status> {
        let invalid = Status::KEEP_ALIVE_INVALID.with_dnr();
        let controller = self.controllers.get_mut(&key).filter(|controller| controller.kato_ms > 0).ok_or(invalid)?;
        if controller.watch.keep_alive(at) {
            self.heard(key);
        }
        Ok(value(0))
    }

    fn set_features(&mut self, at: Instant, key: ControllerKey, set: SetFeatures) -> Result<Answer, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        if set.save {
            return Err(Status::FEATURE_NOT_SAVEABLE.with_dnr());
        }
        let most = self.config.limits.io_queues;
        let controller = self.controllers.get(&key).ok_or(invalid)?;
        let io = controller.subsystem();
        match set.fid {
            FID_QUEUES if io.is_some() => {
                let asked = QueueCount::from_u32(set.cdw11);
                if !asked.is_valid() {
                    return Err(invalid);
                }
                if !controller.queues.is_empty() {
                    return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr());
                }
                let granted = asked.usable().min(most);
                self.with(key, |controller| controller.queues_granted = granted);
                Ok(value(QueueCount::pairs(granted).to_u32()))
            }
            FID_ASYNC_EVENTS => {
                let wanted = EventMask::from_bits_retain(set.cdw11);
                // Health warnings are not among the events that OAES names.
                if !self.oaes(controller).union(EventMask::HEALTH).contains(wanted) {
                    return Err(invalid);
                }
                self.with(key, |controller| controller.events.wanted = wanted);
                Ok(value(0))
            }
            FID_KEEP_ALIVE if set.cdw11 > KATO_MAX => Err(Status::KEEP_ALIVE_INVALID.with_dnr()),
            FID_KEEP_ALIVE => {
                let kato_ms = self.round_kato(controller.kind, set.cdw11);
                self.with(key, |controller| controller.kato_ms = kato_ms);
                self.arm_keep_alive(at, key);
                Ok(value(0))
            }
            FID_VOLATILE_WRITE_CACHE if io.is_some() && set.cdw11 & 1 == 1 => Ok(value(0)),
            FID_VOLATILE_WRITE_CACHE if io.is_some() => Err(Status::FEATURE_NOT_CHANGEABLE.with_dnr()),
            FID_ARBITRATION | FID_POWER | FID_TEMPERATURE | FID_ERROR_RECOVERY | FID_WRITE_ATOMICITY
                if io.is_some() =>
            {
                Err(Status::FEATURE_NOT_CHANGEABLE.with_dnr())
            }
            // On fabrics the host identifier is set by Connect.
            FID_HOST_ID => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
            _ => Err(invalid),
        }
    }

    fn get_features(&self, key: ControllerKey, get: GetFeatures, cdw11: u32, room: u32) -> Result<Answer, Status> {
        let invalid = Status::INVALID_FIELD.with_dnr();
        let controller = self.controllers.get(&key).ok_or(invalid)?;
        if !matches!(get.select, Select::Current | Select::Default) {
            return Err(invalid);
        }
        let io = controller.subsystem().is_some();
        match get.fid {
            FID_QUEUES if io => Ok(value(QueueCount::pairs(controller.queues_granted).to_u32())),
            FID_ASYNC_EVENTS => Ok(value(controller.events.wanted.bits())),
            FID_KEEP_ALIVE => Ok(value(controller.kato_ms)),
            FID_VOLATILE_WRITE_CACHE if io => Ok(value(1)),
            FID_ARBITRATION if io => Ok(value(ARBITRATION_UNLIMITED)),
            // Power state 0, no time-limited error recovery, and writes as atomic as without the feature.
            FID_POWER | FID_ERROR_RECOVERY | FID_WRITE_ATOMICITY if io => Ok(value(0)),
            // The composite temperature, or a sensor; over or under.
            FID_TEMPERATURE if io => {
                Ok(value(if cdw11 & TEMPERATURE_UNDER == 0 { WARNING_TEMPERATURE.into() } else { 0 }))
            }
            FID_HOST_ID if io && cdw11 & 1 == 1 && room == 16 => Ok(Some((0, 0, controller.host.id.0.to_vec()))),
            FID_HOST_ID if io => Err(Status::HOST_ID_INCONSISTENT.with_dnr()),
            _ => Err(invalid),
        }
    }

    fn with(&mut self, key: ControllerKey, change: impl FnOnce(&mut Controller)) {
        if let Some(controller) = self.controllers.get_mut(&key) {
            change(controller);
        }
    }

    /// The events that a controller can tell of.
    pub(super) fn oaes(&self, controller: &Controller) -> EventMask {
        let config = controller.subsystem().map(|id| &self.config.subsystems[usize::from(id.0)]);
        let (ana, ccr) = config.map_or((false, false), |c| (c.ana_groups > 0, c.ccr != Ccr::Off));
        controller.oaes(ana, ccr)
    }
}
