//! Whose turn it is: the machines of one host are in the world, those of the other one are put aside.
//!
//! Everything that carries out what a host wants is written for the host that is in the world. An event of the other one
//! changes the two, is handled, and changes them back. The kernel's events belong to the host that opened the connection; any
//! other that is scheduled in the turn of the second host is marked as its own.

use super::Neighbour;
use crate::crash::Process;
use crate::draw::Plan;
use crate::net::{Link, Owner, Way};
use crate::outbox::Memory;
use crate::world::{Box_, Ev, HostLane, Machine, Mail, World};
use interlock_base::{Instant, Rng};
use interlock_host_core::{
    ConnId, Control, ControllerSpec, HostConfig, Lane, LaneConfig, LaneId, LifeId, OnLoss, Reconnect,
};
use interlock_wire::nqn::{HostId, Nqn};
use std::collections::{BTreeMap, VecDeque};
use std::mem::swap;
use std::time::Duration;

/// Processes of the second host count from here on.
pub(super) const PROCESS: u32 = 1 << 20;

/// True if the second host opened it.
pub(crate) const fn is_others(link: &Link) -> bool {
    link.process >= PROCESS
}

/// All that the world knows of a host and not of its application.
pub(crate) struct Site {
    pub(super) control: Control,
    lanes: Vec<HostLane>,
    opening: Vec<VecDeque<LifeId>>,
    host_flush: VecDeque<usize>,
    by_host: BTreeMap<(Owner, ConnId), usize>,
    process: Process,
    host_mail_us: u64,
    armed: Vec<(Machine, Instant)>,
    mail: Vec<(Box_, VecDeque<Mail>)>,
    mail_at: Vec<(Box_, Instant)>,
}

/// Who the second host says that it is.
pub(super) fn config(plan: &Plan, what: Neighbour, seed: u64) -> HostConfig {
    let first = HostConfig { lanes: 1, ..plan.host_config(seed) };
    if what.same {
        return first;
    }
    HostConfig { hostnqn: Nqn::new("nqn.2026-01.sim:second").expect("a valid name"), hostid: HostId([9; 16]), ..first }
}

impl Site {
    pub(super) fn new(plan: &Plan, what: Neighbour, rng: &mut Rng) -> Self {
        let lane = LaneConfig { id: LaneId(0), requests_max: 256, seed: rng.next_u64() };
        Self {
            control: Control::new(config(plan, what, rng.next_u64())),
            lanes: vec![HostLane { lane: Lane::new(lane), memory: Memory::default() }],
            opening: vec![VecDeque::new()],
            host_flush: VecDeque::new(),
            by_host: BTreeMap::new(),
            process: Process::first(PROCESS),
            host_mail_us: plan.mail_us,
            armed: Vec::new(),
            mail: Vec::new(),
            mail_at: Vec::new(),
        }
    }

    pub(super) const fn set_mail(&mut self, us: u64) {
        self.host_mail_us = us;
    }

    /// Buffers that are lent.
    pub(crate) fn buffers(&self) -> usize {
        self.lanes.iter().map(|lane| lane.memory.len()).sum()
    }
}

impl Plan {
    /// What the second host is asked to stay connected to: as the first one, but that it never gives up, and does not wait to be asked.
    pub(super) fn spec_of_other(&self, port: usize) -> ControllerSpec {
        let spec = self.spec(port);
        ControllerSpec {
            kato: self.kato,
            allow_no_kato: false,
            nr_io_queues: 1,
            on_loss: OnLoss::Reconnect,
            reconnect: Reconnect { delay: Duration::from_millis(20), ctrl_loss: None, fast_io_fail: None },
            ..spec
        }
    }
}

impl World {
    /// The other host takes its turn.
    pub(super) fn change_turns(&mut self) {
        let Some(other) = &mut self.other else { return };
        let site = &mut other.site;
        swap(&mut self.control, &mut site.control);
        swap(&mut self.lanes, &mut site.lanes);
        swap(&mut self.opening, &mut site.opening);
        swap(&mut self.host_flush, &mut site.host_flush);
        swap(&mut self.by_host, &mut site.by_host);
        swap(&mut self.process, &mut site.process);
        swap(&mut self.host_mail_us, &mut site.host_mail_us);
        let of_host = |machine: &Machine| matches!(machine, Machine::HostControl | Machine::HostLane(_));
        let hosts = |which: &Box_| matches!(which, Box_::ToHostLane(_) | Box_::FromHostLane(_));
        self.armed.exchange(&mut site.armed, of_host);
        self.mail.exchange(&mut site.mail, hosts);
        self.mail_at.exchange(&mut site.mail_at, hosts);
    }

    /// Marks an event that is scheduled in the turn of the second host.
    pub(crate) fn marked(&self, event: Ev) -> Ev {
        let of_machines = matches!(
            event,
            Ev::Wake(Machine::HostControl | Machine::HostLane(_))
                | Ev::Mail(Box_::ToHostLane(_) | Box_::FromHostLane(_))
                | Ev::Job(..)
                | Ev::Look(..)
        );
        if of_machines && self.is_others_turn() { Ev::Others(Box::new(event)) } else { event }
    }

    /// Handles an event of the second host in its turn, and gives back any other.
    pub(crate) fn take_turn(&mut self, event: Ev) -> Option<Ev> {
        let event = match event {
            Ev::Others(event) => *event,
            Ev::Up(link)
            | Ev::Refused(link)
            | Ev::Deliver(link, Way::ToHost)
            | Ev::FlushHost(link)
            | Ev::Drained(link)
            | Ev::CloseBy(link)
            | Ev::UserTimeout(link)
                if is_others(&self.links[link]) =>
            {
                event
            }
            event => return Some(event),
        };
        self.change_turns();
        self.dispatch(event);
        self.change_turns();
        None
    }
}
