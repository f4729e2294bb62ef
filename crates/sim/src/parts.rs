//! Worlds in which not everything is one subsystem of one target: two subsystems of one host, and two targets that claim
//! one NQN without knowing of each other.
//!
//! Ports with an even number lead to the first part, those with an odd number to the second. Each part has disks of its
//! own, and what is written to one of them may never be found on another (`one_disk_one_head`). Two targets of one NQN
//! are two subsystems of the simulated one; on the way the second is called as the host calls it.

use crate::chaos::Act;
use crate::draw::Plan;
use crate::mix::{Kind, Kinds};
use crate::world::{Phase, World, note};
use interlock_base::Rng;
use interlock_host_core::{CtrlId, EventKind, GuardKey, HeadId, State};
use interlock_target_core::{Fault, SubsystemId, ToControl, ToLane};
use interlock_wire::nqn::Nqn;
use std::net::SocketAddr;
use std::time::Duration;

/// How a world is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Division {
    /// One subsystem.
    None,
    /// Two subsystems with one set of NSIDs and CNTLIDs. `spared`: nothing is done to the second one.
    Subsystems { spared: bool },
    /// Two targets of one NQN. Their disks differ, and say so.
    Claims {
        /// Both count their controllers from the same number on.
        cntlids: bool,
        /// Both have one serial number.
        serial: bool,
    },
    /// A second target that was set up just like the first one, identifiers of its disks included, is there for a while.
    /// It is told apart by a controller that the first one has, too (`serial`), or by its serial number.
    Impostor {
        /// Both have one serial number.
        serial: bool,
    },
    /// Two subsystems that serve the same disks. The host is connected to the first one until its process ends for the first time,
    /// and to the second one from then on. `late`: one disk comes when the host is there already.
    Moved { late: bool },
    /// One controller; its disks are given other identifiers while it is connected.
    Renames,
}

impl Division {
    pub(crate) fn draw(seed: u64, kinds: Kinds) -> Self {
        let rng = &mut Rng::new(seed ^ 0x51a1_5eed_0003_0001);
        let (which, first, second) = (rng.below(100), rng.percent(50), rng.percent(50));
        match which {
            0..=5 if kinds.contains(Kind::TwoSubsystems) => Self::Subsystems { spared: first },
            6..=10 if kinds.contains(Kind::TwoTargets) => Self::Claims { cntlids: first, serial: second },
            11..=15 if kinds.contains(Kind::Impostor) => Self::Impostor { serial: first },
            16..=19 if kinds.contains(Kind::DiskRenamed) => Self::Renames,
            20..=24 if kinds.contains(Kind::SubsystemMoved) => Self::Moved { late: first },
            _ => Self::None,
        }
    }

    /// True if both parts serve the same disks.
    pub(crate) const fn shares_disks(self) -> bool {
        matches!(self, Self::Moved { .. })
    }

    /// How many parts it has.
    pub(crate) const fn parts(self) -> u16 {
        match self {
            Self::None | Self::Renames => 1,
            Self::Subsystems { .. } | Self::Claims { .. } | Self::Impostor { .. } | Self::Moved { .. } => 2,
        }
    }

    /// True if the second part is no subsystem of its own.
    const fn is_claimed(self) -> bool {
        matches!(self, Self::Claims { .. } | Self::Impostor { .. })
    }

    /// To which of them a port leads.
    pub(crate) const fn part_of(self, port: usize) -> u16 {
        port as u16 % self.parts()
    }

    /// ... and the address of one.
    pub(crate) fn part_at(self, address: SocketAddr) -> u16 {
        let port = (0..usize::from(u8::MAX)).find(|port| crate::world::address(*port) == address);
        port.map_or(0, |port| self.part_of(port))
    }

    /// What the second part has behind the first identifiers of a disk.
    pub(crate) const fn identity(self, part: u16) -> u8 {
        match self {
            Self::Impostor { .. } | Self::Moved { .. } => 0,
            _ => part as u8 * 8,
        }
    }

    /// What is changed in the rest of the plan.
    pub(crate) fn apply(self, plan: &mut Plan) {
        let (ports, seed) = (plan.ports, plan.seed);
        match self {
            Self::None => return,
            Self::Subsystems { spared } => {
                plan.ports = ports.clamp(3, 4);
                if spared {
                    // Only what is done to the first one may make anybody wait.
                    plan.bent_permille = 0;
                    plan.ways.no_kato = false;
                    plan.ways.refused_permille = 0;
                    plan.ways.slow = Duration::ZERO;
                    plan.io_timeout = Duration::from_secs(3);
                    plan.extras.ownership = false;
                    plan.extras.suspends = false;
                }
            }
            Self::Claims { .. } => plan.ports = ports.clamp(2, 4),
            Self::Moved { late } => {
                plan.ports = ports.clamp(2, 4);
                // Time alone must do: nobody of the other subsystem can be asked for a reset.
                plan.ways.no_kato = false;
                if late {
                    // Long enough to write to it, if the host did not wait for the record.
                    plan.ways.slow = plan.ways.slow.max(SLOW_STORE);
                    plan.neighbour = None;
                }
            }
            Self::Impostor { .. } => {
                plan.ports = 2;
                plan.ways.no_kato = false;
            }
            Self::Renames => {
                plan.ports = 1;
            }
        }
        let more = Rng::new(seed ^ 0x51a1_5eed_0003_0002).percent(20);
        plan.controllers = plan.ports + usize::from(more && matches!(self, Self::Subsystems { .. })) * 2;
        plan.cntlids = plan.controllers as u16 + 2;
        // Disks have enough to do with this.
        plan.extras.replaces = false;
        plan.extras.formats = false;
    }

    /// From which numbers a part counts its controllers.
    pub(crate) const fn cntlids(self, part: u16, count: u16) -> (u16, u16) {
        match self {
            // There is no other name to give.
            Self::Impostor { serial: true } => (1, 1),
            Self::Claims { cntlids: false, .. } if part > 0 => (count + 1, 2 * count),
            _ => (1, count),
        }
    }

    /// The serial number of a part.
    pub(crate) const fn serial(self, part: u16) -> &'static str {
        match self {
            Self::Claims { serial: false, .. } | Self::Impostor { serial: false } | Self::Subsystems { .. }
                if part > 0 =>
            {
                "SIM-B"
            }
            _ => "SIM",
        }
    }

    /// How the target knows a part.
    pub(crate) fn inner_nqn(self, part: u16) -> Nqn {
        let name = ["nqn.2026-01.sim:array", "nqn.2026-01.sim:other"][usize::from(part)];
        Nqn::new(name).expect("a valid name")
    }

    /// How the host knows a part.
    pub(crate) fn nqn(self, part: u16) -> Nqn {
        self.inner_nqn(if self.is_claimed() { 0 } else { part })
    }
}

/// What a run knows of its parts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Somebody has found out that there are two, and has switched the second one off.
    ended: bool,
    /// The second one is there just now.
    impostor: bool,
    /// Disks were given other identifiers so often.
    renamed: u8,
    /// The host has gone over to the second subsystem that serves its disks.
    moved: bool,
    /// The last disk is not there yet.
    late: bool,
}

/// How late the store may be where that matters.
const SLOW_STORE: Duration = Duration::from_millis(60);

/// Where SUBNQN stands in the data of a Connect, and in Identify Controller.
const IN_CONNECT: usize = 256;
const IN_IDENTIFY: usize = 768;
/// The length of Identify Controller.
const IDENTIFY: usize = 4096;
/// Whoever is spared ends a request within this: the longest media operation, a slow network, queues.
const SERVED: Duration = Duration::from_secs(5);

fn rename(data: &mut [u8], at: usize, from: &Nqn, to: &Nqn) {
    let field = to.to_field();
    let name = from.as_str().as_bytes();
    if let Some(place) = data.get_mut(at..at + field.len())
        && place.starts_with(name)
        && place[name.len()] == 0
    {
        place.copy_from_slice(&field);
    }
}

impl World {
    /// The subsystem of the target behind a port.
    pub(crate) const fn subsystem_of(&self, port: usize) -> SubsystemId {
        SubsystemId(self.plan.division.part_of(port))
    }

    /// True if the host is meant to be connected there.
    pub(crate) const fn is_wanted(&self, port: usize) -> bool {
        let part = self.plan.division.part_of(port);
        match self.plan.division {
            Division::Moved { .. } => part == self.parts.moved as u16,
            _ => !self.parts.ended || part == 0,
        }
    }

    /// How many controllers the host is meant to have in this part.
    pub(crate) fn controllers_of_part(&self, part: u16) -> usize {
        let ports = (0..self.plan.controllers).map(|controller| controller % self.plan.ports);
        ports.filter(|port| self.is_wanted(*port) && self.plan.division.part_of(*port) == part).count()
    }

    /// A process of the host begins, and is configured for the subsystem that serves the disks now.
    pub(crate) fn move_over(&mut self) {
        if matches!(self.plan.division, Division::Moved { .. }) && !self.parts.moved {
            note!(self, "operator: the disks are reached through the other subsystem from now on");
            self.parts.moved = true;
        }
    }

    /// True if the host reaches its disks through the second of two subsystems.
    pub(crate) const fn is_moved(&self) -> bool {
        self.parts.moved
    }

    /// True if disks were given other names.
    pub(crate) const fn is_renamed(&self) -> bool {
        self.parts.renamed > 0
    }

    /// A port listens again, if there is anybody behind it.
    pub(crate) fn open_port(&mut self, port: usize) {
        let absent = match self.plan.division {
            Division::Impostor { .. } => port == 1 && !self.parts.impostor,
            // Both serve, whoever is connected.
            Division::Moved { .. } => false,
            _ => !self.is_wanted(port),
        };
        self.net.paths[port].open = !absent;
    }

    pub(crate) fn open_ports(&mut self) {
        for port in 0..self.plan.ports {
            self.open_port(port);
        }
    }

    /// The host has found every disk; where two targets claim a name, one of them.
    pub(crate) fn is_ready(&self) -> bool {
        if !self.parts.ended && matches!(self.plan.division, Division::Claims { .. }) {
            return self.app.is_ready_somewhere();
        }
        self.app.is_ready(|part, nsid| self.is_lasting(part) && !self.is_late(nsid))
    }

    // --- A disk that comes late ---

    /// True if there is no such disk yet.
    pub(crate) const fn is_late(&self, nsid: u32) -> bool {
        self.parts.late && nsid as usize == self.plan.namespaces
    }

    /// A world begins, in which a disk may come late.
    pub(crate) fn leave_out_what_is_late(&mut self) {
        if self.plan.division == (Division::Moved { late: true }) {
            self.parts.late = true;
            self.remount();
        }
    }

    /// It comes, in both subsystems.
    pub(crate) fn bring_what_is_late(&mut self) {
        if !std::mem::take(&mut self.parts.late) {
            return;
        }
        let nsid = self.plan.namespaces as u32;
        note!(self, "target: namespace {nsid} is there from now on");
        for part in 0..self.plan.division.parts() {
            let disk = self.app.mounted(part, nsid);
            self.target.add_namespace(SubsystemId(part), disk.namespace(&self.plan)).expect("its NSID is free");
        }
        self.drain_target();
    }

    /// True if the disks of this part can be used to the end.
    pub(crate) const fn is_lasting(&self, part: u16) -> bool {
        part == 0 || !self.plan.division.is_claimed()
    }

    /// A Connect reaches the second part, which is called otherwise there.
    pub(crate) fn call_inside(&self, message: &mut ToControl) {
        if !self.plan.division.is_claimed() {
            return;
        }
        if let ToControl::Connect { port, data, .. } = message {
            let division = self.plan.division;
            let part = division.part_of(usize::from(port.0));
            rename(data, IN_CONNECT, &division.nqn(part), &division.inner_nqn(part));
        }
    }

    /// What the second part says of itself reaches the host.
    pub(crate) fn call_outside(&self, message: &mut ToLane) {
        if !self.plan.division.is_claimed() {
            return;
        }
        if let ToLane::Answer { data, .. } = message
            && data.len() == IDENTIFY
        {
            rename(data, IN_IDENTIFY, &self.plan.division.inner_nqn(1), &self.plan.division.nqn(1));
        }
    }

    /// What a divided world is, at its beginning and when a write is in doubt.
    pub(crate) fn met_division(&mut self) {
        let kind = match self.plan.division {
            Division::Subsystems { .. } => Kind::TwoSubsystems,
            Division::Claims { .. } => Kind::TwoTargets,
            Division::Renames if self.parts.renamed > 0 => Kind::DiskRenamed,
            Division::Moved { .. } if self.parts.moved => Kind::SubsystemMoved,
            Division::None | Division::Impostor { .. } | Division::Renames | Division::Moved { .. } => {
                return self.met_other();
            }
        };
        self.met(kind);
    }

    /// True if this cannot be done in a world that is so divided.
    pub(crate) fn is_spared(&self, act: &Act) -> bool {
        let second = |port: usize| port % 2 == 1;
        let port = act.port();
        match self.plan.division {
            Division::None | Division::Claims { .. } | Division::Renames | Division::Moved { .. } => false,
            // The second one is switched on and off by hand.
            Division::Impostor { .. } => {
                port.is_some_and(second)
                    || matches!(act, Act::TargetOff { .. })
                    || self.parts.impostor && act.is_fault()
            }
            Division::Subsystems { spared: false } => false,
            Division::Subsystems { spared: true } => match port {
                Some(port) => second(port),
                None => !matches!(
                    act,
                    Act::Burst(_)
                        | Act::GiveUp(_)
                        | Act::KillSources(_)
                        | Act::AcceptRisk
                        | Act::Reconnect
                        | Act::StepRawClock(_)
                        | Act::Script(
                            Fault::CcrRefuse(_)
                                | Fault::CcrLate { .. }
                                | Fault::CcrLoseEvent
                                | Fault::CcrStaleEntry
                                | Fault::CcrKeepEntries
                                | Fault::CcrFail
                                | Fault::RepeatEvent
                                | Fault::SlowDrain { .. }
                                | Fault::Release
                                | Fault::Clear
                        )
                ),
            },
        }
    }

    /// Nothing that happens to another subsystem makes this one wait.
    pub(crate) fn subsystems_apart(&mut self) {
        if self.plan.division != (Division::Subsystems { spared: true }) || self.phase != Phase::Faults {
            return;
        }
        if let Some((id, since)) = self.app.open_since(|disk| disk.part == 1, self.now, SERVED) {
            let text = format!("#{id:x}, asked of the subsystem to which nothing is done since {since}, has not ended");
            self.violate("subsystems_apart", text);
        }
    }

    // --- Two targets of one NQN ---

    /// The second target is switched on, while the first one serves.
    pub(crate) fn impostor_on(&mut self, lasts: Duration) {
        if self.parts.ended || self.parts.impostor || !self.first_serves() || self.is_disturbed() {
            return;
        }
        note!(self, "target: another one of the same name is switched on");
        self.parts.impostor = true;
        self.met(Kind::Impostor);
        self.net.paths[1].open = true;
        self.plan_act(self.now + lasts, Act::ImpostorOff);
        for ctrl in self.controllers_of(1) {
            let _ = self.control.reconnect(self.now, ctrl);
        }
        self.connect(1);
    }

    /// The second target is switched off, before the first one serves no more.
    pub(crate) fn impostor_off(&mut self) {
        if !std::mem::take(&mut self.parts.impostor) {
            return;
        }
        note!(self, "target: the other one is switched off");
        self.cut_second();
    }

    fn cut_second(&mut self) {
        self.net.paths[1].open = false;
        for link in 0..self.links.len() {
            if self.links[link].port == 1 {
                self.lose_link(link);
            }
        }
    }

    /// True if the first target can be reached by the host just now.
    fn first_serves(&self) -> bool {
        let of_first: Vec<CtrlId> = self.controllers_of(0);
        let live = |ctrl: &&CtrlId| {
            self.control.controllers().any(|info| info.id == **ctrl && matches!(info.state, State::Live { .. }))
        };
        of_first.iter().filter(live).count() > 0
    }

    /// True while something is wrong on the way to the first one.
    fn is_disturbed(&self) -> bool {
        let path = &self.net.paths[0];
        !path.open || path.silent_to_host || path.silent_to_target || path.muted || self.process.down
    }

    /// The first target is lost: nobody could tell the second one from it now, so it is gone in the same moment.
    pub(crate) fn parts_heard(&mut self, event: &EventKind) {
        if matches!(event, EventKind::Lost { .. }) && self.parts.impostor && !self.first_serves() {
            self.impostor_off();
        }
    }

    /// Somebody has found out: the second target is switched off for good.
    pub(crate) fn end_claims(&mut self) {
        if !self.plan.division.is_claimed() {
            return;
        }
        self.parts.ended = true;
        self.parts.impostor = false;
        for port in (0..self.plan.ports).filter(|port| port % 2 == 1) {
            self.disturb(Some(port));
            for ctrl in self.controllers_of(port) {
                let _ = self.control.disconnect(self.now, ctrl);
            }
        }
        self.drain_host();
        for port in (0..self.plan.ports).filter(|port| port % 2 == 1) {
            self.net.paths[port].open = false;
            for link in 0..self.links.len() {
                if self.links[link].port == port {
                    self.lose_link(link);
                }
            }
        }
    }

    // --- Names ---

    /// Every disk of the target has other identifiers from now on; what is on it stays.
    pub(crate) fn rename_disks(&mut self) {
        self.parts.renamed += 1;
        for nsid in 1..=self.plan.namespaces as u32 {
            let disk = self.app.rename(nsid, self.parts.renamed);
            note!(self, "target: namespace {nsid} is called {disk:?} from now on");
            let subsystem = SubsystemId(0);
            self.target.remove_namespace(subsystem, nsid).expect("it was there");
            self.target.add_namespace(subsystem, disk.namespace(&self.plan)).expect("its NSID is free");
        }
        self.met(Kind::DiskRenamed);
        self.drain_target();
    }

    /// A new head stands for a namespace: nothing of what was there under its NSID may be protected still.
    pub(crate) fn new_head_is_free(&mut self, head: HeadId) {
        let heads: Vec<_> = self.control.heads().map(|info| (info.id, info.subnqn.clone(), info.nsid)).collect();
        let Some((_, subnqn, nsid)) = heads.iter().find(|(id, ..)| *id == head) else { return };
        let found = self.app.protected().find(|(_, of)| {
            *of != head && self.app.place_of(*of).is_some_and(|(name, id)| name == *subnqn && id == *nsid)
        });
        let found: Option<(GuardKey, HeadId)> = found;
        if let Some((key, of)) = found {
            let text =
                format!("{head} appears under NSID {nsid} while {key:?} of {of}, known there before, is protected");
            self.violate("one_disk_one_head", text);
        }
        let (subnqn, nsid) = (subnqn.clone(), *nsid);
        self.app.place(head, subnqn, nsid);
    }
}
