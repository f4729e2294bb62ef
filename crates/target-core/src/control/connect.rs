//! Connect: who gets a controller, and which queue may join it.
//!
//! NVM Express Base Specification, "Connect Command and Response".

use super::controller::{Controller, ControllerKey, Events, Kind, Place, Stage};
use super::health::Errors;
use super::{Control, ControlOutput, Why};
use crate::config::{Hosts, KATO_MAX};
use crate::life::HostIdentity;
use crate::message::{Role, ToLane};
use crate::watch::Watch;
use crate::{Event, Payer, PortId, SubsystemId};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Instant;
use interlock_wire::fabrics::{CNTLID_DYNAMIC, CNTLID_MAX, Cc, Connect, ConnectAnswer, ConnectData, InvalidParameter};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

/// Why a Connect is refused: status and DW0.
struct Refusal(Status, u32);

impl From<InvalidParameter> for Refusal {
    fn from(parameter: InvalidParameter) -> Self {
        Self(Status::CONNECT_INVALID_PARAMETERS.with_dnr(), parameter.to_dw0())
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(status, 0)
    }
}

/// The name of a host that says none (SPDK's tools do where any host is allowed): its identifier tells it from others.
fn named_by(id: HostId) -> Option<Nqn> {
    Nqn::new(alloc::format!("nqn.2014-08.org.nvmexpress:uuid:{id}")).ok()
}

/// What a Connect asks for, parsed.
struct Asked {
    connect: Connect,
    data: ConnectData,
    host: HostIdentity,
    kind: Kind,
}

impl Control {
    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    pub(super) fn handle_connect(
        &mut self,
        now: Instant,
        at: Instant,
        place: Place,
        slot: u16,
        port: PortId,
        local: SocketAddr,
        payer: Payer,
        sqe: &Sqe,
        data: &[u8],
    ) {
        let outcome = self.ask(port, sqe, data).and_then(|asked| {
            if asked.connect.qid == 0 {
                self.create(now, place, port, local, payer, &asked)
            } else {
                self.join(now, at, place, port, &asked)
            }
            .map(|(cntlid, role)| (asked.connect, cntlid, role))
        });
        let (lane, conn) = place;
        match outcome {
            Ok((connect, cntlid, role)) => {
                let answer = ConnectAnswer { cntlid, authentication_required: false, secure_channel_required: false };
                let Connect { sqsize, sq_flow_control, .. } = connect;
                let dw0 = answer.to_dw0();
                self.to(lane, ToLane::Admit { conn, slot, role, sqsize, sq_flow_control, dw0 });
            }
            Err(Refusal(status, dw0)) => {
                self.out(ControlOutput::Event(Event::ConnectRefused { port, status }));
                self.to(lane, ToLane::Answer { conn, slot, status, dw0, dw1: 0, data: Vec::new() });
            }
        }
    }

    /// What every Connect must get right.
    fn ask(&self, port: PortId, sqe: &Sqe, data: &[u8]) -> Result<Asked, Refusal> {
        let connect = Connect::from_sqe(sqe)?;
        let data = ConnectData::decode(data).ok_or(Status::SGL_DATA_LENGTH_INVALID.with_dnr())?;
        let subnqn = data.subnqn().map_err(|_| InvalidParameter::SUBNQN)?;
        if data.hostid().is_zero() {
            return Err(InvalidParameter::HOSTID.into());
        }
        let nameless = data.hostnqn[0] == 0;
        let nqn = if nameless { named_by(data.hostid()) } else { data.hostnqn().ok() };
        let nqn = nqn.ok_or(InvalidParameter::HOSTNQN)?;
        let kind = if subnqn.is_discovery() {
            Kind::Discovery
        } else {
            let offers = self.config.ports.iter().find(|known| known.id == port).map(|known| &known.offers);
            let id = self
                .subsystem(subnqn.as_str())
                .filter(|id| offers.is_some_and(|offers| offers.includes(*id)))
                .ok_or(InvalidParameter::SUBNQN)?;
            let hosts = &self.config.subsystems[usize::from(id.0)].hosts;
            if nameless && *hosts != Hosts::Any {
                return Err(InvalidParameter::HOSTNQN.into());
            }
            if !hosts.admits(&nqn) {
                return Err(Status::CONNECT_INVALID_HOST.with_dnr().into());
            }
            Kind::Io(id)
        };
        if connect.kato_ms > KATO_MAX {
            return Err(Status::KEEP_ALIVE_INVALID.with_dnr().into());
        }
        if connect.sqsize == 0 || connect.sqsize >= self.config.limits.queue_depth {
            return Err(InvalidParameter::SQSIZE.into());
        }
        Ok(Asked { connect, host: HostIdentity { nqn, id: data.hostid() }, data, kind })
    }

    /// The admin queue: creates a controller.
    fn create(
        &mut self,
        now: Instant,
        place: Place,
        port: PortId,
        local: SocketAddr,
        payer: Payer,
        asked: &Asked,
    ) -> Result<(u16, Role), Refusal> {
        if asked.data.cntlid.get() != CNTLID_DYNAMIC {
            return Err(InvalidParameter::CNTLID.into());
        }
        if self.ending || !self.find_place(now, asked.kind, payer) {
            // Without DNR: the host may try again.
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let cntlid = self.free_cntlid(asked.kind).ok_or(Status::CONNECT_CONTROLLER_BUSY)?;
        let kato_ms = self.round_kato(asked.kind, asked.connect.kato_ms);
        let key = ControllerKey(self.next_controller);
        self.next_controller += 1;
        let controller = Controller {
            kind: asked.kind,
            cntlid,
            host: asked.host.clone(),
            port,
            local,
            payer,
            heard: now,
            listened: false,
            admin: place,
            queues: BTreeMap::new(),
            queues_granted: self.config.limits.io_queues,
            cc: Cc::default(),
            stage: Stage::Disabled,
            ciu: u8::try_from(self.rng.below(self.config.limits.ciu_max.max(1).into())).unwrap_or(0) + 1,
            cirn: super::fencing::nonzero(&mut self.rng),
            kato_ms,
            watch: Watch::new(now, None, true),
            broken: false,
            events: Events::new(Controller::default_events(asked.kind)),
            errors: Errors::default(),
            changed: BTreeSet::new(),
            ccrs: Vec::new(),
            ccr_log: Vec::new(),
        };
        let event = Event::ControllerCreated {
            subsystem: controller.subsystem(),
            cntlid,
            host: Box::new(asked.host.nqn.clone()),
            port,
            kato_ms,
        };
        self.controllers.insert(key, controller);
        self.conns.insert(place, (key, 0));
        self.arm_keep_alive(now, key);
        self.out(ControlOutput::Event(event));
        Ok((cntlid, Role::Admin))
    }

    /// An I/O queue joins the life of a controller, by a Connect that came in after `at`.
    fn join(
        &mut self,
        now: Instant,
        at: Instant,
        place: Place,
        port: PortId,
        asked: &Asked,
    ) -> Result<(u16, Role), Refusal> {
        let qid = asked.connect.qid;
        let Kind::Io(_) = asked.kind else { return Err(InvalidParameter::QID.into()) };
        let cntlid = asked.data.cntlid.get();
        let (key, controller) = self
            .controllers
            .iter()
            .find(|(_, other)| other.kind == asked.kind && other.cntlid == cntlid && other.port == port)
            .ok_or(InvalidParameter::CNTLID)?;
        if controller.host.nqn != asked.host.nqn {
            return Err(Status::CONNECT_INVALID_HOST.with_dnr().into());
        }
        if controller.host.id != asked.host.id {
            return Err(InvalidParameter::HOSTID.into());
        }
        let key = *key;
        if !self.is_heard_in_time(now, at, key) {
            return Err(InvalidParameter::CNTLID.into());
        }
        let controller = self.controllers.get_mut(&key).ok_or(InvalidParameter::CNTLID)?;
        if qid > controller.queues_granted {
            return Err(InvalidParameter::QID.into());
        }
        let life = controller.life().ok_or(Status::COMMAND_SEQUENCE_ERROR.with_dnr())?;
        if controller.queues.contains_key(&qid) {
            return Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr().into());
        }
        let entry = self.lives.get(&life).ok_or(Status::COMMAND_SEQUENCE_ERROR.with_dnr())?;
        controller.queues.insert(qid, place);
        let (life, broken) = (entry.life, controller.broken);
        if !broken {
            self.timers.stop(Why::QueueLost(key));
        }
        self.conns.insert(place, (key, qid));
        self.out(ControlOutput::Event(Event::Connected { life, qid }));
        self.hear(key, at);
        let until = self.lease(key);
        Ok((cntlid, Role::Io { life, qid, until }))
    }

    /// A CNTLID that no controller has and no life that is still ending; the one used longest ago by the way of counting.
    fn free_cntlid(&mut self, kind: Kind) -> Option<u16> {
        let (low, high) = match kind {
            Kind::Discovery => (1, CNTLID_MAX),
            Kind::Io(SubsystemId(at)) => self.config.subsystems[usize::from(at)].cntlids,
        };
        let first = match kind {
            Kind::Discovery => self.next_discovery_cntlid,
            Kind::Io(SubsystemId(at)) => self.subsystems[usize::from(at)].next_cntlid,
        };
        let taken: BTreeSet<u16> = self
            .controllers
            .values()
            .filter(|other| other.kind == kind)
            .map(|other| other.cntlid)
            .chain(self.lives.values().filter(|e| Kind::Io(e.life.subsystem) == kind).map(|e| e.life.cntlid))
            .collect();
        let found = (first..=high).chain(low..first).find(|id| !taken.contains(id))?;
        let next = if found >= high { low } else { found + 1 };
        match kind {
            Kind::Discovery => self.next_discovery_cntlid = next,
            Kind::Io(SubsystemId(at)) => self.subsystems[usize::from(at)].next_cntlid = next,
        }
        Some(found)
    }

    /// The keep-alive timeout in force: rounded up to the granularity; 0 stays off.
    pub(super) fn round_kato(&self, kind: Kind, asked_ms: u32) -> u32 {
        let unit = match kind {
            Kind::Discovery => 1000,
            Kind::Io(SubsystemId(at)) => u32::from(self.config.subsystems[usize::from(at)].kas) * 100,
        };
        asked_ms.div_ceil(unit).saturating_mul(unit)
    }
}
