//! The part of the target that decides.
//!
//! One `Control` per target: who may connect to what, what a controller is and says, when a life begins and when it is
//! over. It never touches a connection; lanes do, and tell it by message.
//!
//! # How a driver runs it
//! Carry every `ToControl` here in order per lane; drain `poll_output` after every call and carry every `ToLane` in
//! order per lane; call `handle_timeout` at `next_deadline`, and hand over before it what lanes had sent by then: a host that spoke
//! in time is not lost because its message lay unread.

mod admin;
mod connect;
mod controller;
mod fencing;
mod health;
mod identify;
mod keep_alive;
mod logs;
mod overrun;
mod places;

use crate::config::{Config, ConfigError, NamespaceError, PortConfig, QUEUE_LOSS_GRACE};
use crate::life::{EndedLives, Input, LifeState};
use crate::message::{ToControl, ToLane};
use crate::namespace::{Namespace, Namespaces};
use crate::status::{ControllerView, LifeView, PortView};
use crate::{Event, Fault, LaneId, Life, LifeId, Loss, PortId, SubsystemId};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use controller::{Controller, Kind, Place, Stage};
use core::net::SocketAddr;
use core::time::Duration;
use fencing::LifeEntry;
use interlock_base::{Deadline, Instant, Rng, Timers};
use interlock_wire::admin::AsyncEvent;
use interlock_wire::ana;
use interlock_wire::status::Status;

pub use controller::ControllerKey;

/// What `Control` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// When to see whether the host of a controller is still there.
    KeepAlive(ControllerKey),
    /// When to end the association of a controller that lost an I/O queue, if its host has not done so in order.
    QueueLost(ControllerKey),
    /// When to tell the lanes to quiesce a life.
    Drain(LifeId),
    /// When a life must be over, by the Command Quiesce Time that its controller states.
    Quiesced(LifeId),
    /// When to answer a CCR as pending, because it was not immediate.
    CcrAnswer(ControllerKey, LifeId),
    /// When to answer hosts that want to know of health or errors, whether or not all lanes have said what they know.
    Health,
    /// When to report a finished CCR that a script keeps back.
    CcrReport(ControllerKey, LifeId),
}

/// What `Control` wants from its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControlOutput {
    /// Carry this to a lane, in order.
    ToLane(LaneId, ToLane),
    /// Stop listening on a port.
    ClosePort(PortId),
    /// Listen on a port again, at its address.
    OpenPort(PortId),
    /// Something happened.
    Event(Event),
}

/// What scripts have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Script {
    ccr_refuse: Option<Status>,
    ccr_late_ms: u32,
    ccr_lose_event: bool,
    ccr_keep_entries: bool,
    ccr_fail: bool,
    slow_drain_ms: u32,
    rdy_before_drained: bool,
}

/// What changes of a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subsystem {
    namespaces: Namespaces,
    /// Where the search for a free CNTLID begins: behind the one given last, so that none comes back soon.
    next_cntlid: u16,
    /// Changes of the ANA log, as seen through a port, and of each group in it.
    ana_changes: BTreeMap<PortId, u64>,
    group_changes: BTreeMap<(PortId, u32), u64>,
}

/// The part of the target that decides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    config: Config,
    rng: Rng,
    subsystems: Vec<Subsystem>,
    controllers: BTreeMap<ControllerKey, Controller>,
    /// Which queue of which controller a connection is.
    conns: BTreeMap<Place, (ControllerKey, u16)>,
    lives: BTreeMap<LifeId, LifeEntry>,
    ended: EndedLives,
    script: Script,
    health: health::Health,
    /// Lives that did not end within the Command Quiesce Time.
    overruns: u64,
    /// Generation of the discovery log.
    genctr: u64,
    /// Ports that are closed for now.
    closed: BTreeSet<PortId>,
    next_controller: u32,
    next_life: u64,
    next_discovery_cntlid: u16,
    ending: bool,
    timers: Timers<Why>,
    /// When to see whether the hosts of controllers are still there.
    silence: Timers<ControllerKey>,
    outputs: VecDeque<ControlOutput>,
}

impl Control {
    /// A target without connections. `seed` is where CIU, CIRN and the first CNTLIDs come from.
    ///
    /// # Errors
    /// What in the configuration cannot work.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let mut subsystems = Vec::new();
        for subsystem in &config.subsystems {
            let mut namespaces = Namespaces::new(subsystem.ana_groups);
            for namespace in &subsystem.namespaces {
                namespaces
                    .add(namespace.clone())
                    .map_err(|why| ConfigError::Namespace { nqn: subsystem.nqn.clone(), why })?;
            }
            subsystems.push(Subsystem {
                namespaces,
                next_cntlid: subsystem.cntlids.0,
                ana_changes: BTreeMap::new(),
                group_changes: BTreeMap::new(),
            });
        }
        let mut control = Self {
            config,
            rng: Rng::new(seed),
            subsystems,
            controllers: BTreeMap::new(),
            conns: BTreeMap::new(),
            lives: BTreeMap::new(),
            ended: EndedLives::default(),
            script: Script::default(),
            health: health::Health::default(),
            overruns: 0,
            genctr: 1,
            closed: BTreeSet::new(),
            next_controller: 1,
            next_life: 1,
            next_discovery_cntlid: 1,
            ending: false,
            timers: Timers::new(),
            silence: Timers::new(),
            outputs: VecDeque::new(),
        };
        for id in control.subsystem_ids() {
            control.publish(id);
        }
        Ok(control)
    }

    /// The configuration it began with; port addresses as they are now.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The namespaces of a subsystem.
    #[must_use]
    pub fn namespaces(&self, subsystem: SubsystemId) -> Option<&Namespaces> {
        self.subsystems.get(usize::from(subsystem.0)).map(|subsystem| &subsystem.namespaces)
    }

    /// The subsystem with this NQN.
    #[must_use]
    pub fn subsystem(&self, nqn: &str) -> Option<SubsystemId> {
        let at = self.config.subsystems.iter().position(|subsystem| subsystem.nqn.as_str() == nqn)?;
        u16::try_from(at).ok().map(SubsystemId)
    }

    /// Every life that can still change media, and how far its end has come.
    pub fn lives(&self) -> impl Iterator<Item = (Life, LifeState)> + '_ {
        self.lives.values().map(|entry| (entry.life, entry.state))
    }

    /// How many controllers there are, discovery controllers included.
    #[must_use]
    pub fn controllers(&self) -> usize {
        self.controllers.len()
    }

    /// Every controller, in the order of creation.
    pub fn controller_views(&self) -> impl Iterator<Item = ControllerView> + '_ {
        self.controllers.iter().map(|(key, controller)| controller.view(*key))
    }

    /// Every life that can still change media, in the order in which they began.
    pub fn life_views(&self) -> impl Iterator<Item = LifeView> + '_ {
        self.lives.values().map(|entry| LifeView {
            life: entry.life,
            state: entry.state,
            held: entry.held.values().sum(),
        })
    }

    /// Every port, open or not.
    pub fn port_views(&self) -> impl Iterator<Item = PortView> + '_ {
        let view = |port: &PortConfig| PortView { port: port.id, address: port.address, offers: port.offers.clone() };
        self.config.ports.iter().map(view)
    }

    /// What to do next. Drained after every call.
    pub fn poll_output(&mut self) -> Option<ControlOutput> {
        self.outputs.pop_front()
    }

    /// The next wait to end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline<Why>> {
        let silence = self.silence.next().map(|wait| Deadline { at: wait.at, why: Why::KeepAlive(wait.why) });
        silence.into_iter().chain(self.timers.next()).min_by_key(|wait| wait.at)
    }

    fn waits_for_hosts(&self) -> impl Iterator<Item = Deadline<Why>> + '_ {
        self.silence.iter().map(|wait| Deadline { at: wait.at, why: Why::KeepAlive(wait.why) })
    }

    /// All waits.
    pub fn waits(&self) -> impl Iterator<Item = Deadline<Why>> + '_ {
        self.waits_for_hosts().chain(self.timers.iter())
    }

    /// A message of a lane. What was due before it comes first, but the silence of hosts: what they sent in time may lie behind
    /// it. A host that was silent for too long when it sent this is lost by it, also if the process was stopped meanwhile and the
    /// message lies before the timer.
    pub fn handle_lane(&mut self, now: Instant, lane: LaneId, message: ToControl) {
        self.expire(now);
        self.note_time(now);
        match message {
            ToControl::Connect { conn, slot, port, local, payer, sqe, data, at } => {
                self.handle_connect(now, at, (lane, conn), slot, port, local, payer, &sqe, &data);
            }
            ToControl::Admin { conn, slot, sqe, data: _, room, at } => {
                if let Some((key, 0)) = self.conns.get(&(lane, conn)).copied()
                    && self.is_heard_in_time(now, at, key)
                {
                    self.handle_admin(now, at, key, slot, &sqe, room);
                }
            }
            ToControl::Gone { conn, why } => self.handle_gone(now, (lane, conn), why),
            ToControl::Traffic { life, at } => {
                if let Some(key) = self.lives.get(&life).and_then(|entry| entry.controller)
                    && self.is_heard_in_time(now, at, key)
                {
                    self.hear(key, at);
                }
            }
            ToControl::Held { life, count } => {
                if let Some(entry) = self.lives.get_mut(&life) {
                    entry.held.insert(lane, count);
                }
            }
            ToControl::Holding { order, ghost } => {
                for other in self.lanes().filter(|other| *other != lane) {
                    self.to(other, ToLane::Holding { lane, order, ghost });
                }
            }
            ToControl::Reported { ticket, report } => self.handle_report(now, lane, ticket, report),
            ToControl::Quiesced { life, cancelled } => self.handle_quiesced(now, lane, life, cancelled),
        }
    }

    /// The clock moved on, and every message that a lane had sent by `now` was handed over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.expire(now);
        while let Some(key) = self.silence.expired(now) {
            self.check_keep_alive(now, now, key);
        }
        // Whoever notices a loss late may find that what follows from it is due.
        self.expire(now);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(why) = self.timers.expired(now) {
            match why {
                // Has timers of its own.
                Why::KeepAlive(_) => {}
                Why::QueueLost(key) => self.lose(now, key, Loss::Sibling),
                Why::Drain(life) => self.apply(now, life, Input::DrainOver, Loss::Closed),
                Why::Quiesced(life) => self.note_overrun(life),
                Why::CcrAnswer(source, life) => self.answer_ccr_pending(source, life),
                Why::CcrReport(source, life) => self.report_ccr(source, life),
                Why::Health => self.answer_questions(now),
            }
        }
    }

    /// The driver bound a port: this is its real address.
    pub fn set_port_address(&mut self, port: PortId, address: SocketAddr) {
        if let Some(known) = self.config.ports.iter_mut().find(|known| known.id == port)
            && known.address != address
        {
            known.address = address;
            self.genctr = self.genctr.wrapping_add(1);
            self.raise_where(AsyncEvent::DISCOVERY_CHANGED, |controller| controller.kind == Kind::Discovery);
        }
    }

    /// A port is open or closed from now on: discovery names only those that are open. Hosts that watch are told.
    pub fn set_port_open(&mut self, port: PortId, open: bool) {
        let changed = if open { self.closed.remove(&port) } else { self.closed.insert(port) };
        if changed {
            self.genctr = self.genctr.wrapping_add(1);
            self.raise_where(AsyncEvent::DISCOVERY_CHANGED, |controller| controller.kind == Kind::Discovery);
        }
    }

    /// Adds a namespace; its storage must be there already. Hosts are told.
    ///
    /// # Errors
    /// If it cannot be, or its NSID or identity is taken.
    pub fn add_namespace(&mut self, subsystem: SubsystemId, namespace: Namespace) -> Result<(), NamespaceError> {
        let nsid = namespace.nsid;
        self.change(subsystem, nsid, |namespaces| namespaces.add(namespace))
    }

    /// Changes the size of a namespace in blocks; its storage must be as large already. Hosts are told.
    ///
    /// # Errors
    /// If it is not there.
    pub fn resize_namespace(&mut self, subsystem: SubsystemId, nsid: u32, blocks: u64) -> Result<(), NamespaceError> {
        self.change(subsystem, nsid, |namespaces| namespaces.resize(nsid, blocks))
    }

    /// Takes a namespace away. Hosts are told; operations that are under way on it end as the driver says.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove_namespace(&mut self, subsystem: SubsystemId, nsid: u32) -> Result<(), NamespaceError> {
        self.change(subsystem, nsid, |namespaces| namespaces.remove(nsid))
    }

    /// Sets the ANA state of a group as seen through a port. Hosts on that port are told if it changed; answers
    /// whether it did.
    pub fn set_ana(&mut self, subsystem: SubsystemId, group: u32, port: PortId, state: ana::State) -> bool {
        let Some(known) = self.subsystems.get_mut(usize::from(subsystem.0)) else { return false };
        if !known.namespaces.set_ana(port, group, state) {
            return false;
        }
        *known.ana_changes.entry(port).or_default() += 1;
        *known.group_changes.entry((port, group)).or_default() += 1;
        self.publish(subsystem);
        self.raise_where(AsyncEvent::ANA_CHANGED, |controller| {
            controller.subsystem() == Some(subsystem) && controller.port == port
        });
        true
    }

    /// Does something wrong, as told.
    pub fn script(&mut self, fault: Fault) {
        match fault {
            Fault::CcrRefuse(status) => self.script.ccr_refuse = Some(status),
            Fault::CcrLate { ms } => self.script.ccr_late_ms = ms,
            Fault::CcrLoseEvent => self.script.ccr_lose_event = true,
            Fault::CcrStaleEntry => self.plant_stale_entries(),
            Fault::CcrKeepEntries => self.script.ccr_keep_entries = true,
            Fault::CcrFail => self.script.ccr_fail = true,
            Fault::RepeatEvent => self.repeat_events(),
            Fault::SlowDrain { ms } => self.script.slow_drain_ms = ms,
            Fault::RdyBeforeDrained => self.script.rdy_before_drained = true,
            Fault::OpenPort { port } => {
                self.set_port_open(port, true);
                self.out(ControlOutput::OpenPort(port));
            }
            Fault::ClosePort { port } => {
                self.set_port_open(port, false);
                self.out(ControlOutput::ClosePort(port));
                self.out(ControlOutput::Event(Event::PortClosed { port }));
                self.broadcast(&ToLane::Fault(fault));
            }
            Fault::Clear => {
                self.script = Script::default();
                self.broadcast(&ToLane::Fault(fault));
            }
            Fault::HoldWrites { .. }
            | Fault::StopHolding { .. }
            | Fault::Release
            | Fault::Delay { .. }
            | Fault::Drop { .. }
            | Fault::CrashOn { .. }
            | Fault::FailIo { .. }
            | Fault::Mute { .. }
            | Fault::Unmute { .. }
            | Fault::ResetConnections { .. } => self.broadcast(&ToLane::Fault(fault)),
        }
    }

    /// Ends everything: associations at once, lives when they are quiesced. [`Event::ShutDown`] says that it is done.
    pub fn shutdown(&mut self, now: Instant) {
        self.ending = true;
        let keys: Vec<ControllerKey> = self.controllers.keys().copied().collect();
        for key in keys {
            self.lose(now, key, Loss::Shutdown);
        }
        let lives: Vec<LifeId> = self.lives.keys().copied().collect();
        for life in lives {
            self.apply(now, life, Input::Reset, Loss::Shutdown);
        }
        self.check_ended();
    }

    fn check_ended(&mut self) {
        if self.ending && self.lives.is_empty() {
            self.ending = false;
            self.out(ControlOutput::Event(Event::ShutDown));
        }
    }

    fn out(&mut self, output: ControlOutput) {
        self.outputs.push_back(output);
    }

    fn to(&mut self, lane: LaneId, message: ToLane) {
        self.out(ControlOutput::ToLane(lane, message));
    }

    fn lanes(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..self.config.lanes).map(LaneId)
    }

    fn broadcast(&mut self, message: &ToLane) {
        for lane in self.lanes() {
            self.to(lane, message.clone());
        }
    }

    fn subsystem_ids(&self) -> impl Iterator<Item = SubsystemId> + use<> {
        (0..u16::try_from(self.subsystems.len()).unwrap_or(u16::MAX)).map(SubsystemId)
    }

    /// Gives the lanes the namespaces of a subsystem as they are now.
    fn publish(&mut self, subsystem: SubsystemId) {
        if let Some(known) = self.subsystems.get(usize::from(subsystem.0)) {
            let namespaces = Arc::new(known.namespaces.clone());
            self.broadcast(&ToLane::Namespaces { subsystem, namespaces });
        }
    }

    fn change(
        &mut self,
        subsystem: SubsystemId,
        nsid: u32,
        change: impl FnOnce(&mut Namespaces) -> Result<(), NamespaceError>,
    ) -> Result<(), NamespaceError> {
        let known = self.subsystems.get_mut(usize::from(subsystem.0)).ok_or(NamespaceError::Absent(nsid))?;
        change(&mut known.namespaces)?;
        for port in &self.config.ports {
            *known.ana_changes.entry(port.id).or_default() += 1;
        }
        self.publish(subsystem);
        for controller in self.controllers.values_mut() {
            if controller.subsystem() == Some(subsystem) && controller.is_ready() {
                controller.changed.insert(nsid);
            }
        }
        self.raise_where(AsyncEvent::NAMESPACE_CHANGED, |controller| controller.subsystem() == Some(subsystem));
        Ok(())
    }

    fn raise_where(&mut self, event: AsyncEvent, which: impl Fn(&Controller) -> bool) {
        let keys: Vec<ControllerKey> = self
            .controllers
            .iter()
            .filter(|(_, controller)| controller.is_ready() && which(controller))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.raise(key, event);
        }
    }

    fn raise(&mut self, key: ControllerKey, event: AsyncEvent) {
        if let Some(controller) = self.controllers.get_mut(&key) {
            controller.events.raise(event);
            self.tell(key);
        }
    }

    /// As scripted: what was told last is told once more.
    fn repeat_events(&mut self) {
        let keys: Vec<ControllerKey> = self.controllers.keys().copied().collect();
        for key in keys {
            if let Some((slot, event)) =
                self.controllers.get_mut(&key).and_then(|controller| controller.events.repeat())
            {
                self.answer(key, slot, Status::SUCCESS, event.to_dw0(), 0, Vec::new());
            }
        }
    }

    /// Answers event requests with what there is to tell.
    fn tell(&mut self, key: ControllerKey) {
        while let Some((slot, event)) = self.controllers.get_mut(&key).and_then(|controller| controller.events.next()) {
            self.answer(key, slot, Status::SUCCESS, event.to_dw0(), 0, Vec::new());
        }
    }

    /// Answers a command on the admin queue.
    fn answer(&mut self, key: ControllerKey, slot: u16, status: Status, dw0: u32, dw1: u32, data: Vec<u8>) {
        if let Some((lane, conn)) = self.controllers.get(&key).map(|controller| controller.admin) {
            self.to(lane, ToLane::Answer { conn, slot, status, dw0, dw1, data });
        }
    }

    fn handle_gone(&mut self, now: Instant, place: Place, why: Loss) {
        let Some((key, qid)) = self.conns.remove(&place) else { return };
        let Some(controller) = self.controllers.get_mut(&key) else { return };
        if qid == 0 {
            self.lose(now, key, why);
        } else {
            controller.queues.remove(&qid);
            // The loss of a queue ends the association. A host that resets or removes a controller in order closes the
            // I/O connections first and disables it on the admin queue afterwards (Linux does), so a close alone gets
            // a moment. Never more than KATO: by then a lost host would be noticed anyway.
            // One that had nothing inside takes nothing with it: hosts open and close queues as they like.
            if why == Loss::Left {
                return;
            }
            controller.broken |= why == Loss::Closed;
            if controller.is_ready() && matches!(why, Loss::Closed | Loss::Unfinished) {
                let grace = match controller.kato_ms {
                    0 => QUEUE_LOSS_GRACE,
                    ms => QUEUE_LOSS_GRACE.min(Duration::from_millis(ms.into())),
                };
                self.timers.set_earliest(Why::QueueLost(key), now + grace);
            } else if controller.is_ready() {
                self.lose(now, key, why);
            }
        }
    }

    /// The association of a controller is over, and with it the controller. Its life ends in its own time.
    fn lose(&mut self, now: Instant, key: ControllerKey, why: Loss) {
        let Some(controller) = self.controllers.remove(&key) else { return };
        let (lane, conn) = controller.admin;
        if self.conns.remove(&controller.admin).is_some() {
            let why = if why == Loss::Closed { Loss::Sibling } else { why };
            self.to(lane, ToLane::End { conn, why });
        }
        self.forget_queues(&controller);
        self.drop_questions(key);
        self.silence.stop(key);
        self.timers.stop_where(|wait| match wait {
            Why::KeepAlive(whose) | Why::QueueLost(whose) | Why::CcrAnswer(whose, _) | Why::CcrReport(whose, _) => {
                whose == key
            }
            Why::Drain(_) | Why::Quiesced(_) | Why::Health => false,
        });
        let life = match controller.stage {
            Stage::Ready(life) => life,
            Stage::Disabling(life) | Stage::ShuttingDown(life) => Some(life),
            Stage::Disabled | Stage::ShutDown | Stage::Failed => None,
        };
        if let Some(life) = life {
            if let Some(entry) = self.lives.get_mut(&life) {
                entry.controller = None;
                entry.noticeable = controller.watch.lease(Duration::ZERO);
            }
            let input = match why {
                Loss::Ccr => Input::Ccr,
                Loss::Shutdown => Input::Reset,
                _ => Input::Lost,
            };
            self.apply(now, life, input, why);
        }
        if self.ending {
            self.check_ended();
        }
    }

    fn forget_queues(&mut self, controller: &Controller) {
        for place in controller.queues.values() {
            self.conns.remove(place);
        }
    }
}
