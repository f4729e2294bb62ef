//! One controller: what a host got by its admin Connect.

use super::health::Errors;
use crate::life::HostIdentity;
use crate::status::{ControllerStage, ControllerView};
use crate::watch::Watch;
use crate::{ConnId, LaneId, LifeId, Payer, PortId, SubsystemId};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Instant;
use interlock_wire::admin::{AsyncEvent, EventMask};
use interlock_wire::ccr::Entry;
use interlock_wire::fabrics::{Cc, Csts, ShutdownStatus};

/// Asynchronous Event Requests that a controller holds (AERL + 1).
pub(super) const EVENT_REQUESTS_MAX: usize = 4;

/// A controller, by the order of creation. CNTLIDs come back; these do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerKey(pub u32);

/// Where a connection is.
pub(super) type Place = (LaneId, ConnId);

/// What a controller serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Discovery,
    Io(SubsystemId),
}

/// Where the controller stands between enable and reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// CC.EN is 0 and nothing is under way.
    Disabled,
    /// CSTS.RDY is 1; an I/O controller has a life.
    Ready(Option<LifeId>),
    /// CC.EN went to 0, but the life is not over: RDY stays 1 until it is.
    Disabling(LifeId),
    /// A shutdown was asked for, but the life is not over.
    ShuttingDown(LifeId),
    /// The shutdown is complete.
    ShutDown,
    /// CC asked for what is not there.
    Failed,
}

/// How far a CCR that this controller received has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Run {
    /// Its answer waits a moment, so that it can say "immediate".
    Answering { slot: u16 },
    /// It was answered as pending: the log says "in progress".
    Logged,
}

/// A CCR in progress, with this controller as source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CcrRun {
    pub(super) life: LifeId,
    pub(super) icid: u16,
    pub(super) ciu: u8,
    pub(super) run: Run,
}

/// Asynchronous events of one controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Events {
    /// Which ones the host wants.
    pub(super) wanted: EventMask,
    /// Happened, and not told.
    pending: Vec<AsyncEvent>,
    /// Told; masked until their log is read.
    masked: Vec<AsyncEvent>,
    /// Told last.
    last: Option<AsyncEvent>,
    /// Requests to answer, by slot of the admin queue.
    pub(super) requests: VecDeque<u16>,
}

impl Events {
    pub(super) const fn new(wanted: EventMask) -> Self {
        Self { wanted, pending: Vec::new(), masked: Vec::new(), last: None, requests: VecDeque::new() }
    }

    /// Something happened. Events of one kind collapse until they are told.
    pub(super) fn raise(&mut self, event: AsyncEvent) {
        let wanted = event.mask().is_none_or(|mask| self.wanted.contains(mask));
        if wanted && !self.pending.contains(&event) {
            self.pending.push(event);
        }
    }

    /// The log was read: what it tells need not be told, and the next event may be.
    pub(super) fn read(&mut self, lid: u8) {
        self.pending.retain(|event| event.log != lid);
        self.masked.retain(|event| event.log != lid);
    }

    /// The next request to answer, and with what.
    pub(super) fn next(&mut self) -> Option<(u16, AsyncEvent)> {
        let at = self.pending.iter().position(|event| !self.masked.contains(event))?;
        let slot = self.requests.pop_front()?;
        let event = self.pending.remove(at);
        self.masked.push(event);
        self.last = Some(event);
        Some((slot, event))
    }

    /// What was told last, to be told again.
    pub(super) fn repeat(&mut self) -> Option<(u16, AsyncEvent)> {
        let event = self.last?;
        Some((self.requests.pop_front()?, event))
    }
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Controller {
    pub(super) kind: Kind,
    pub(super) cntlid: u16,
    pub(super) host: HostIdentity,
    pub(super) port: PortId,
    pub(super) local: SocketAddr,
    /// Who pays for it.
    pub(super) payer: Payer,
    /// When the last command came of which this machine was told, and whether the lanes will tell of the next.
    pub(super) heard: Instant,
    pub(super) listened: bool,
    pub(super) admin: Place,
    pub(super) queues: BTreeMap<u16, Place>,
    pub(super) queues_granted: u16,
    pub(super) cc: Cc,
    pub(super) stage: Stage,
    /// Of the current or last life; a new life gets new ones.
    pub(super) ciu: u8,
    pub(super) cirn: u64,
    /// In force; 0 is off.
    pub(super) kato_ms: u32,
    /// Its Keep Alive Timer.
    pub(super) watch: Watch,
    /// An I/O queue of the life was reset or broke: no other one makes up for it.
    pub(super) broken: bool,
    pub(super) events: Events,
    /// Log 01h.
    pub(super) errors: Errors,
    /// For log 04h.
    pub(super) changed: BTreeSet<u32>,
    pub(super) ccrs: Vec<CcrRun>,
    /// Completed entries of log 1Eh.
    pub(super) ccr_log: Vec<Entry>,
}

impl Controller {
    /// The life, while it is live.
    pub(super) const fn life(&self) -> Option<LifeId> {
        match self.stage {
            Stage::Ready(life) => life,
            _ => None,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    pub(super) const fn subsystem(&self) -> Option<SubsystemId> {
        match self.kind {
            Kind::Io(subsystem) => Some(subsystem),
            Kind::Discovery => None,
        }
    }

    /// What it looks like.
    pub(super) fn view(&self, key: ControllerKey) -> ControllerView {
        ControllerView {
            key,
            cntlid: self.cntlid,
            subsystem: self.subsystem(),
            host: self.host.nqn.clone(),
            port: self.port,
            kato_ms: self.kato_ms,
            queues: self.queues.len(),
            stage: match self.stage {
                Stage::Disabled => ControllerStage::Disabled,
                Stage::Ready(life) => ControllerStage::Ready(life),
                Stage::Disabling(life) | Stage::ShuttingDown(life) => ControllerStage::Ending(life),
                Stage::ShutDown => ControllerStage::ShutDown,
                Stage::Failed => ControllerStage::Failed,
            },
            event_requests: self.events.requests.len(),
            ccr_entries: self.ccr_log.len(),
            payer: self.payer,
        }
    }

    /// Controller Status.
    pub(super) fn csts(&self) -> Csts {
        let none = Csts::default();
        match self.stage {
            Stage::Disabled => none,
            Stage::Ready(_) | Stage::Disabling(_) => none.with_ready(true),
            Stage::ShuttingDown(_) => none.with_ready(true).with_shutdown(ShutdownStatus::Occurring),
            Stage::ShutDown => none.with_shutdown(ShutdownStatus::Complete),
            Stage::Failed => none.with_fatal(true),
        }
    }

    /// Which events can be asked for.
    pub(super) fn oaes(&self, ana: bool, ccr: bool) -> EventMask {
        match self.kind {
            Kind::Discovery => EventMask::DISCOVERY,
            Kind::Io(_) => {
                let mut mask = EventMask::NAMESPACE;
                mask.set(EventMask::ANA, ana);
                mask.set(EventMask::CCR, ccr);
                mask
            }
        }
    }

    /// Which events are on before the host says anything.
    pub(super) const fn default_events(kind: Kind) -> EventMask {
        match kind {
            Kind::Discovery => EventMask::DISCOVERY,
            Kind::Io(_) => EventMask::NAMESPACE.union(EventMask::ANA),
        }
    }
}
