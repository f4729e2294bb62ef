//! A second host at the same target: another machine, with a process, records and a load of its own.
//!
//! It writes blocks that the first one never touches, and everything that the first one promises to its application it
//! promises to its own. What is done to one of them is no matter of the other (`hosts_apart`): no instance of one is reset,
//! ended or slowed down because of the other, and nothing that one has written takes effect on an instance of the other. That
//! holds also where both say that they are the same host, as after a virtual machine was cloned: the target cannot tell them
//! apart then, and each must name the instances that are its own.
//!
//! The world has one host at a time: the machines of the other one are put aside ([`turns`]) and take their turn when an event
//! is theirs.

mod turns;

use crate::chaos::Act;
use crate::checkers::Seen;
use crate::draw::Plan;
use crate::media::BLOCK;
use crate::mix::{Kind, Kinds};
use crate::mutation::Tampering;
use crate::world::{Ev, HostLane, Phase, SPARE_BLOCKS, World, note};
use interlock_base::{BufId, Instant, Rng, Span};
use interlock_check::{Content, Load, LoadConfig, Op, OpKind, Oracle, OracleConfig, Outcome, Overlap, Stamp, Weights};
use interlock_host_core as host;
use interlock_target_core as target;
use interlock_wire::ccr::{CrossControllerReset, Instance};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::turns::{Site, is_others};

/// Which second host a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// It says that it is the first one: the same host NQN and the same host identifier.
    pub(crate) same: bool,
    /// Nothing is done to it, to its paths or to the target: only the first one has faults.
    pub(crate) spared: bool,
    /// It is a copy of the first machine, records included, and is switched on while that one goes on.
    pub(crate) cloned: bool,
}

impl Neighbour {
    pub(crate) fn draw(seed: u64, kinds: Kinds) -> Option<Self> {
        let rng = &mut Rng::new(seed ^ 0x51a1_5eed_0004_0001);
        let (which, spared, cloned) = (rng.below(100), rng.percent(40), rng.percent(50));
        let same = Self { same: true, spared, cloned: cloned && !spared };
        match which {
            0..=4 if kinds.contains(Kind::SecondHost) => Some(Self { same: false, spared, cloned: false }),
            5..=9 if kinds.contains(Kind::SameIdentity) => Some(same),
            _ if kinds.is_certain(Kind::SameIdentity) => Some(same),
            _ => None,
        }
    }

    const fn kind(self) -> Kind {
        if self.same { Kind::SameIdentity } else { Kind::SecondHost }
    }

    /// What is changed in the rest of the plan.
    pub(crate) fn apply(self, plan: &mut Plan) {
        // Both have instances that are over and not forgotten.
        plan.cntlids += 2 * plan.ports as u16;
        // Its blocks stand behind those of the first one, and stay there.
        plan.extras.replaces = false;
        plan.extras.formats = false;
        if self.spared {
            plan.bent_permille = 0;
            plan.extras.suspends = false;
            plan.extras.keeps_entries = false;
            plan.extras.crash_loops = false;
            plan.extras.poison = false;
            plan.io_timeout = plan.io_timeout.max(Duration::from_secs(3));
        }
    }

    /// True if this cannot be done in a world with such a second host.
    pub(crate) const fn forbids(self, act: &Act) -> bool {
        match act {
            Act::Resize { .. } => true,
            _ if !self.spared => false,
            // What is done to the first machine, to its paths, or to the resets that it asks for.
            Act::Episode
            | Act::Burst(_)
            | Act::Rst { .. }
            | Act::RstAdmin { .. }
            | Act::Flap { .. }
            | Act::Silence { .. }
            | Act::Drip { .. }
            | Act::Limbo { .. }
            | Act::Reset(_)
            | Act::Disconnect(_)
            | Act::Connect(_)
            | Act::Mail { .. }
            | Act::Hang(_)
            | Act::Crash { .. }
            | Act::Second
            | Act::Wake
            | Act::BadHour(_)
            | Act::LastWords { .. }
            | Act::LoseOwnership
            | Act::BadDisk(_)
            | Act::LanePanics { .. }
            | Act::GiveUp(_)
            | Act::Set { .. }
            | Act::Rescan(_)
            | Act::Reconnect
            | Act::ClearFlushErrors
            | Act::AcceptRisk
            | Act::KillSources(_)
            | Act::StepRawClock(_) => false,
            Act::Stall { machine, .. } => {
                !matches!(machine, crate::world::Machine::HostControl | crate::world::Machine::HostLane(_))
            }
            Act::Script(fault) => !matches!(
                fault,
                target::Fault::CcrRefuse(_)
                    | target::Fault::CcrLate { .. }
                    | target::Fault::CcrLoseEvent
                    | target::Fault::CcrStaleEntry
                    | target::Fault::CcrFail
                    | target::Fault::RepeatEvent
                    | target::Fault::SlowDrain { .. }
                    | target::Fault::Release
                    | target::Fault::Clear
            ),
            _ => true,
        }
    }
}

/// Blocks of its own, of those behind the blocks of the first host.
const BLOCKS: u64 = 16;
const _: () = assert!(BLOCKS <= SPARE_BLOCKS, "a namespace has room for both");
/// Its runs begin with this number: no volume of the first host has it.
const RUN: u64 = 1 << 20;
/// Requests that it has at once, and in all.
const DEPTH: usize = 4;
const REQUESTS: u32 = 60;
/// Whoever is spared ends a request within this: the longest media operation, a slow network, queues.
const SERVED: Duration = Duration::from_secs(5);

/// One of its disks.
struct Volume {
    nsid: u32,
    head: Option<host::HeadId>,
    load: Load,
    oracle: Oracle,
}

/// One of its requests that has not ended.
struct Asked {
    volume: usize,
    op: Op,
    since: Instant,
    buf: Option<BufId>,
    must_succeed: bool,
}

/// The second host of a run, and its application.
pub(crate) struct Other {
    what: Neighbour,
    /// The machines of the host whose turn it is not.
    pub(crate) site: Site,
    volumes: Vec<Volume>,
    asked: BTreeMap<u64, Asked>,
    /// Of a copy: it was switched on.
    begun: bool,
    issued: u32,
    token: u64,
    rng: Rng,
    /// Connections of the target's lanes that asked for an admin queue last, by what they were given: whose they are.
    owners: BTreeMap<target::LifeId, bool>,
    created: BTreeMap<(u16, u16), bool>,
    /// Whose Connect the target is reading.
    connecting: bool,
}

impl Other {
    pub(crate) fn new(plan: &Plan, what: Neighbour) -> Self {
        let mut rng = Rng::new(plan.seed ^ 0x51a1_5eed_0004_0002);
        let site = Site::new(plan, what, &mut rng);
        let volumes = (1..=plan.namespaces as u32)
            .map(|nsid| Volume {
                nsid,
                head: None,
                load: Load::new(LoadConfig {
                    run: RUN + u64::from(nsid),
                    seed: rng.next_u64(),
                    first_lba: plan.blocks,
                    blocks: BLOCKS,
                    hot: 8,
                    very_hot: 2,
                    max_blocks: 4,
                    weights: Weights { read: 30, write: 70, write_zeroes: 0, discard: 0, flush: 0, compare: 0 },
                    overlap: Overlap::Allowed,
                    ..LoadConfig::default()
                }),
                oracle: Oracle::new(OracleConfig::new(RUN + u64::from(nsid))),
            })
            .collect();
        Self {
            what,
            site,
            volumes,
            asked: BTreeMap::new(),
            begun: false,
            issued: 0,
            token: 0,
            rng,
            owners: BTreeMap::new(),
            created: BTreeMap::new(),
            connecting: false,
        }
    }
}

impl World {
    /// True if it is the turn of the second host.
    pub(crate) fn is_others_turn(&self) -> bool {
        self.process.number >= turns::PROCESS
    }

    /// True if nothing may be done to this connection: it is one of a second host that is spared.
    pub(crate) fn is_spared_link(&self, link: usize) -> bool {
        self.plan.neighbour.is_some_and(|other| other.spared) && turns::is_others(&self.links[link])
    }

    /// The second host is switched on.
    pub(crate) fn start_other(&mut self) {
        let Some(what) = self.plan.neighbour else { return };
        if !what.cloned {
            self.connect_other();
        }
        self.after(Duration::from_millis(3), Ev::OthersTick);
    }

    /// A copy of the first machine is switched on: to it, what runs there is what an earlier process has left, and none of its
    /// sockets is here.
    fn clone_begins(&mut self) {
        let records = self.process.records();
        note!(self, "second host: begins as a copy, with {} recorded lives", records.len());
        self.disturb_all();
        self.change_turns();
        let lives: Vec<host::LifeId> = records.iter().map(|record| record.life).collect();
        self.control.predecessors(self.now, records);
        for life in lives {
            self.control.predecessor_gone(self.now, life, self.now);
        }
        self.change_turns();
        self.connect_other();
    }

    /// Whatever it is not connected to, or was told not to try again, it is told to connect.
    pub(crate) fn connect_other(&mut self) {
        if self.other.is_none() {
            return;
        }
        self.change_turns();
        for port in 0..self.plan.ports {
            let spec = self.plan.spec_of_other(port);
            // A controller that is configured already stays as it is.
            let answer = self.control.connect(self.now, spec);
            note!(self, "second host: connect at port {port}: {answer:?}");
        }
        self.drain_host();
        self.change_turns();
    }

    /// Messages within the second host take this long at most, unless it is spared.
    pub(crate) const fn slow_other(&mut self, us: u64) {
        if let Some(other) = &mut self.other
            && !other.what.spared
        {
            other.site.set_mail(us);
        }
    }

    /// That there is a second host is met when a write of the first one is in doubt.
    pub(crate) fn met_other(&mut self) {
        if let Some(what) = self.plan.neighbour {
            self.met(what.kind());
        }
    }

    /// Its load goes on.
    pub(crate) fn others_tick(&mut self) {
        let expected = self.chaos.expected();
        let Some(other) = &mut self.other else { return };
        let mean = u64::try_from(expected.as_micros()).unwrap_or(u64::MAX) / u64::from(REQUESTS);
        let pause = Duration::from_micros(1 + other.rng.below(2 * mean.max(100)));
        match self.phase {
            Phase::Starting => {}
            Phase::Faults if other.what.cloned && !other.begun => {
                other.begun = true;
                self.clone_begins();
            }
            Phase::Faults if other.asked.len() < DEPTH && other.issued < REQUESTS => {
                for _ in 0..=other.rng.below(3) {
                    self.others_request();
                }
            }
            Phase::Faults => {}
            _ => return,
        }
        self.after(pause, Ev::OthersTick);
    }

    fn others_request(&mut self) {
        let Some(other) = &mut self.other else { return };
        let volume = other.rng.below(other.volumes.len() as u64) as usize;
        if other.volumes[volume].head.is_none() {
            return;
        }
        if let Some(op) = other.volumes[volume].load.next_op() {
            other.issued += 1;
            self.others_submit(volume, op, false);
        }
    }

    fn others_submit(&mut self, volume: usize, op: Op, must_succeed: bool) {
        let now = self.now;
        let Some(other) = &mut self.other else { return };
        let Volume { head: Some(head), oracle, nsid, .. } = &mut other.volumes[volume] else { return };
        let (head, run) = (*head, RUN + u64::from(*nsid));
        oracle.submitted(op, now);
        other.token += 1;
        let token = other.token;
        let mut data = vec![0xee; op.nlb as usize * BLOCK];
        if op.kind == OpKind::Write {
            for (block, lba) in data.chunks_mut(BLOCK).zip(op.range()) {
                Stamp::of(run, &op, lba).encode(block);
            }
        }
        let len = data.len() as u32;
        self.change_turns();
        let HostLane { lane, memory } = &mut self.lanes[0];
        let buf = memory.insert(data);
        let request = host::Request {
            head,
            op: if op.kind == OpKind::Write { host::Op::Write { fua: false } } else { host::Op::Read },
            slba: op.lba,
            nlb: op.nlb,
            data: Some(Span { buf, offset: 0, len }),
        };
        let taken = lane.submit(now, request, token);
        note!(self, "second host: #{token} {} {:?}: {taken:?}", op.kind.name(), op.range());
        let asked = Asked { volume, op, since: now, buf: Some(buf), must_succeed };
        if let Some(other) = &mut self.other {
            other.asked.insert(token, asked);
        }
        match taken {
            Ok(()) => self.drain_host(),
            Err(refused) => self.others_done(token, host::Outcome::NotSent(refused)),
        }
        self.change_turns();
    }

    /// In its turn: its lane says that a request has ended.
    pub(crate) fn others_done(&mut self, token: u64, outcome: host::Outcome) {
        let now = self.now;
        note!(self, "second host: #{token} ends: {outcome:?}");
        let Some(other) = &mut self.other else { return };
        let Some(asked) = other.asked.remove(&token) else {
            return self.violate("completes_exactly_once", format!("#{token} of the second host ended twice"));
        };
        let data = asked.buf.and_then(|buf| self.lanes[0].memory.remove(buf));
        let Volume { oracle, load, .. } = &mut other.volumes[asked.volume];
        let ends = match outcome {
            host::Outcome::Ok => Outcome::Ok,
            host::Outcome::Failed(_) | host::Outcome::CacheLost { .. } => Outcome::Failed,
            host::Outcome::NotSent(_) => Outcome::NotSent,
            host::Outcome::Indeterminate { .. } => Outcome::Indeterminate,
            host::Outcome::OutcomeUnknown | host::Outcome::Poison { .. } => Outcome::UnknownSettled,
        };
        match (ends, asked.op.kind, data) {
            (Outcome::Ok, OpKind::Read, Some(data)) => {
                let contents: Vec<Content> = data.chunks(BLOCK).map(Content::decode).collect();
                oracle.read_answered(asked.op.id, &contents, now);
            }
            _ => oracle.answered(asked.op.id, ends, now),
        }
        load.finished(asked.op.id);
        let found = oracle.violations().first().map(|found| (found.invariant(), found.to_string()));
        if let Some((invariant, text)) = found {
            self.violate(invariant, format!("second host: {text}"));
        }
        if asked.must_succeed && ends != Outcome::Ok {
            let text = format!("#{token} of the second host, read after everything was healed: {outcome:?}");
            self.violate("healed_paths_serve", text);
        }
    }

    /// In its turn: its control tells something.
    pub(crate) fn others_event(&mut self, event: &host::EventKind) {
        match event {
            host::EventKind::NamespaceAdded { head, nsid, .. } => {
                if self.control.open(*head)
                    && let Some(volume) = self.other.as_mut().and_then(|other| other.of_namespace(*nsid))
                {
                    volume.head = Some(*head);
                }
            }
            host::EventKind::Lost { ctrl, how, .. } if self.plan.neighbour.is_some_and(|other| other.spared) => {
                let calm = matches!(self.phase, Phase::Starting | Phase::Faults);
                if calm {
                    let text = format!("the host to which nothing is done has lost {ctrl}: {how}");
                    self.violate("hosts_apart", text);
                }
            }
            _ => {}
        }
    }

    /// Nothing that is done to the first host makes the second one wait.
    pub(crate) fn hosts_apart(&mut self) {
        let now = self.now;
        let Some(other) = self.other.as_ref().filter(|other| other.what.spared) else { return };
        if self.phase != Phase::Faults {
            return;
        }
        let late = other.asked.iter().find(|(_, asked)| now > asked.since + SERVED);
        if let Some((token, asked)) = late {
            let text =
                format!("#{token} of the host to which nothing is done, asked at {}, has not ended", asked.since);
            self.violate("hosts_apart", text);
        }
    }

    /// Nothing of it is under way, and it has every path that it is meant to have.
    pub(crate) fn other_is_whole(&self) -> bool {
        let live = |control: &host::Control| {
            control.controllers().filter(|info| matches!(info.state, host::State::Live { .. })).count()
        };
        self.other.as_ref().is_none_or(|other| {
            other.asked.is_empty()
                && other.volumes.iter().all(|volume| volume.head.is_some())
                && live(&other.site.control) >= self.plan.ports
        })
    }

    /// True if nothing that it asked for has no answer.
    pub(crate) fn other_is_idle(&self) -> bool {
        self.other.as_ref().is_none_or(|other| other.asked.is_empty())
    }

    /// What it still waits for, in words.
    pub(crate) fn others_waits(&self) -> String {
        self.other.as_ref().map_or_else(String::new, |other| {
            let waits: Vec<String> =
                other.site.control.waits().map(|wait| format!("{} until {}", wait.why, wait.at)).collect();
            format!("; the second host: open {:?}, waits {waits:?}", other.asked.keys())
        })
    }

    /// Everything that it ever touched is read.
    pub(crate) fn others_read_back(&mut self) {
        let Some(other) = &mut self.other else { return };
        let all: Vec<(usize, Op)> = (0..)
            .zip(&mut other.volumes)
            .flat_map(|(at, volume)| volume.load.read_back().into_iter().map(move |op| (at, op)))
            .collect();
        for (volume, op) in all {
            self.others_submit(volume, op, true);
        }
    }

    /// The run ends: it shuts down.
    pub(crate) fn end_other(&mut self) {
        if self.other.is_some() {
            self.change_turns();
            self.control.shutdown(self.now);
            self.drain_host();
            self.change_turns();
        }
    }

    /// True if there is none any more.
    pub(crate) fn other_has_ended(&self) -> bool {
        self.other.as_ref().is_none_or(|other| other.site.control.has_ended())
    }

    // --- Whose an instance is ---

    /// The target's control is about to read what came in on this connection.
    pub(crate) fn whose_connect(&mut self, lane: usize, message: &target::ToControl) {
        let target::ToControl::Connect { conn, .. } = message else { return };
        let link = self.by_target.get(&(lane, *conn)).copied();
        let others = link.is_some_and(|link| turns::is_others(&self.links[link]));
        if let Some(other) = &mut self.other {
            other.connecting = others;
        }
    }

    /// The target made a controller, of the Connect that it is reading.
    pub(crate) fn whose_controller(&mut self, subsystem: u16, cntlid: u16) {
        if let Some(other) = &mut self.other {
            other.created.insert((subsystem, cntlid), other.connecting);
        }
    }

    /// The target began an instance of a controller.
    pub(crate) fn whose_life(&mut self, life: target::Life) {
        if let Some(other) = &mut self.other {
            let others = other.created.get(&(life.subsystem.0, life.cntlid)).copied().unwrap_or(false);
            other.owners.insert(life.id, others);
        }
    }

    /// True if this instance is one of the second host.
    pub(crate) fn is_others_life(&self, life: target::LifeId) -> bool {
        self.other.as_ref().is_some_and(|other| other.owners.get(&life).copied().unwrap_or(false))
    }

    /// The target is asked by a controller of the second host to reset an instance. Of a copy that may be one of the first host.
    pub(crate) fn asked_by_other(&mut self, event: &target::Event) -> bool {
        let target::Event::CcrReceived { source, .. } = event else { return false };
        let others = self.other.as_ref().is_some_and(|other| other.created.get(&(0, *source)) == Some(&true));
        if others && self.plan.neighbour.is_some_and(|other| other.cloned) {
            self.disturb_all();
        }
        others
    }

    /// A reset that the first host asks for names the newest instance of the second one (tampering).
    pub(crate) fn tamper_reset(&mut self, lane: usize, message: &mut target::ToControl) {
        if !self.tampers(Tampering::ResetsTheOther) {
            return;
        }
        let (target::ToControl::Admin { conn, sqe, .. }, Some(other)) = (message, &self.other) else { return };
        let first = self.by_target.get(&(lane, *conn)).is_some_and(|link| !is_others(&self.links[*link]));
        let newest = other.owners.iter().rev().find(|(_, others)| **others).map(|(id, _)| self.app.life(*id));
        if let (true, Some(life), Ok(_)) = (first, newest, CrossControllerReset::from_sqe(sqe)) {
            let impacted = Instance { cntlid: life.cntlid, ciu: life.ciu, cirn: life.cirn };
            let cid = sqe.cid;
            *sqe = CrossControllerReset { impacted }.to_sqe();
            sqe.cid = cid;
            self.stats.mutated = 1;
        }
    }

    /// A change of blocks takes effect. True if they are those of the second host.
    pub(crate) fn is_others_change(&mut self, lba: u64, kind: OpKind, data: &[u8], life: target::Life) -> bool {
        if self.other.is_none() {
            return false;
        }
        let others = lba >= self.plan.blocks;
        if others != self.is_others_life(life.id) {
            let text = format!(
                "{} of LBA {lba}, which the {} host asked for, takes effect on {life}, an instance of the other one",
                kind.name(),
                if others { "second" } else { "first" }
            );
            self.violate("hosts_apart", text);
        }
        if others {
            let what = data.get(..BLOCK).map(Content::decode);
            note!(self, "media: {what:?} of the second host takes effect for {life}");
        }
        others
    }

    /// Something that only concerns the first host, or the target, is seen.
    pub(crate) fn is_seen(&self, seen: &Seen<'_>) -> bool {
        !self.is_others_turn() || matches!(seen, Seen::Target(_) | Seen::Executed { .. } | Seen::TargetCrashed)
    }
}

impl Other {
    fn of_namespace(&mut self, nsid: u32) -> Option<&mut Volume> {
        self.volumes.iter_mut().find(|volume| volume.nsid == nsid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_check::OpId;

    #[test]
    fn of_a_hundred_worlds_some_have_a_second_host_of_each_kind() {
        let drawn: Vec<Neighbour> = (0..1000).filter_map(|seed| Neighbour::draw(seed, Kinds::all())).collect();
        for (same, spared, cloned) in [
            (false, false, false),
            (false, true, false),
            (true, false, false),
            (true, false, true),
            (true, true, false),
        ] {
            let count = drawn.iter().filter(|one| **one == Neighbour { same, spared, cloned }).count();
            assert!(count >= 5, "{count} of 1000 with {same}, {spared}, {cloned}");
        }
        assert_eq!(Neighbour::draw(drawn.len() as u64, Kinds::default()), None);
    }

    #[test]
    fn its_identity_is_that_of_the_first_one_or_another() {
        let plan = Plan::draw(1, None);
        let first = plan.host_config(1);
        for same in [false, true] {
            let other = turns::config(&plan, Neighbour { same, spared: false, cloned: false }, 1);
            assert_eq!(other.hostnqn == first.hostnqn && other.hostid == first.hostid, same);
        }
    }

    #[test]
    fn oracles_know_its_writes_by_their_run() {
        let op = Op { id: OpId(1), kind: OpKind::Write, lba: 8, nlb: 1, generation: 1 };
        assert!(Stamp::of(RUN + 1, &op, 8).run > 64, "no volume of the first host has so high a number");
    }
}
