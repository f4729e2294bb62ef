//! The world: a clock, a queue of events, two cores and everything between them.
//!
//! One thread, no real time, one order of events: the seed decides all of it. A machine is called, its outputs are
//! carried out until it wants nothing more, and its next deadline is noted; exactly what the drivers do.

use crate::agenda::{Agenda, Few};
use crate::app::{App, Letter};
use crate::chaos::Chaos;
use crate::checkers::{Checkers, Seen};
use crate::clocks::Clocks;
use crate::coverage::Coverage;
use crate::crash::{Panic, Process};
use crate::disks::Disk;
use crate::draw::{Plan, Reset};
use crate::media::Media;
use crate::mix::{Kind, Met};
use crate::mutation::{Mutation, Tampering};
use crate::neighbour::Other;
use crate::net::{Link, Net, Owner, Path, Way};
use crate::outbox::Memory;
use crate::parts::{Division, Parts};
use crate::peer::Peer;
use crate::stall::Stall;
use crate::store::BadDisk;
use crate::story::Lines;
use interlock_base::{Instant, Rng};
use interlock_check::OpId;
use interlock_host_core as host;
use interlock_target_core as target;
use interlock_wire::nqn::{HostId, Nqn};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// A machine that is called, and that may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    HostControl,
    HostLane(usize),
    TargetControl,
    TargetLane(usize),
}

/// A mailbox: order is kept, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::enum_variant_names, reason = "each box belongs to a lane: its name says which way and whose")]
pub(crate) enum Box_ {
    ToHostLane(usize),
    FromHostLane(usize),
    /// From one lane to another.
    HostLanes(usize, usize),
    ToTargetLane(usize),
    FromTargetLane(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Mail {
    HostDown(host::ToLane),
    HostUp(host::ToControl),
    Lanes(Letter),
    TargetDown(target::ToLane),
    TargetUp(target::ToControl),
}

#[derive(Clone, Debug)]
pub(crate) enum Ev {
    Wake(Machine),
    /// The time of its stall is over.
    Resume(Machine),
    Mail(Box_),
    Dial(usize),
    Up(usize),
    Refused(usize),
    Deliver(usize, Way),
    FlushHost(usize),
    FlushTarget(usize),
    Drained(usize),
    UserTimeout(usize),
    CloseBy(usize),
    Job(u32, host::JobId),
    /// The kernel takes a socket of a dead process down.
    Orphan(usize),
    Restart,
    /// It is looked whether sockets of an earlier process are gone.
    Look(u32, Duration),
    Media(usize, u64),
    LateAnswer(u64),
    /// A target that stood still has read its sockets.
    Looked,
    Submit(usize, OpId),
    /// The application gives a request up.
    Abandon(usize, OpId),
    /// A lane of this process reads that.
    Abandoned(usize, u32),
    Tick,
    Chaos(u64),
    Phase,
    /// Of the machines of the second host.
    Others(Box<Ev>),
    /// The load of the second host goes on.
    OthersTick,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The invariant, by its name in the design.
    pub invariant: String,
    /// When.
    pub at: Instant,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.at, self.invariant, self.text)
    }
}

/// What a run did, so that a run in which nothing could go wrong is not taken for a good one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests that were answered or given up.
    pub ios: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Receipts by any proof, or by time.
    pub fences: u64,
    /// Of these, by cross-controller reset.
    pub by_reset: u64,
    /// Lives that were lost.
    pub lost: u64,
    /// Commands in doubt.
    pub in_doubt: u64,
    /// Processes of the host that died.
    pub crashes: u64,
    /// Lives that a process found of an earlier one.
    pub predecessors: u64,
    /// Stalled commands whose connection was lost.
    pub ghosts_armed: u64,
    /// Ghosts that tried to execute after their life was fenced, and were stopped.
    pub ghosts_refused: u64,
    /// Ghosts that were executed before the fence.
    pub ghosts_executed: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
    /// Events handled.
    pub events: u64,
    /// Which kinds of faults it met.
    pub met: Met,
    /// True in how many runs the mutation had an effect; 1 or 0 for one run.
    pub mutated: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Faults,
    /// Everything is healed; every accepted request must end.
    Healing,
    /// Every ghost is delivered or refused.
    Ghosts,
    ReadBack,
    Ending,
    Over,
}

pub(crate) struct HostLane {
    pub(crate) lane: host::Lane,
    pub(crate) memory: Memory,
}

pub(crate) struct TargetLane {
    pub(crate) lane: target::Lane,
    pub(crate) memory: Memory,
    pub(crate) next_conn: u32,
    pub(crate) to_flush: VecDeque<usize>,
    pub(crate) condemned: Vec<target::ConnId>,
}

/// A run in progress.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    agenda: Agenda,
    pub(crate) armed: Few<Machine, Instant>,
    pub(crate) stalled: Few<Machine, Stall>,
    pub(crate) mail: Few<Box_, VecDeque<Mail>>,
    pub(crate) mail_at: Few<Box_, Instant>,
    pub(crate) mail_rng: Rng,
    mail_us: u64,
    /// Of messages within the host: a fault may make them slow.
    pub(crate) host_mail_us: u64,
    pub(crate) process: Process,
    pub(crate) control: host::Control,
    pub(crate) lanes: Vec<HostLane>,
    pub(crate) opening: Vec<VecDeque<host::LifeId>>,
    pub(crate) host_flush: VecDeque<usize>,
    pub(crate) target: target::Control,
    pub(crate) target_lanes: Vec<TargetLane>,
    /// How often the target was switched off.
    pub(crate) target_start: u32,
    pub(crate) links: Vec<Link>,
    pub(crate) by_host: BTreeMap<(Owner, host::ConnId), usize>,
    pub(crate) by_target: BTreeMap<(usize, target::ConnId), usize>,
    pub(crate) net: Net,
    pub(crate) clocks: Clocks,
    pub(crate) parts: Parts,
    /// The second host, if there is one.
    pub(crate) other: Option<Box<Other>>,
    pub(crate) media: Media,
    pub(crate) flushes: crate::flushes::Flushes,
    pub(crate) app: App,
    pub(crate) chaos: Chaos,
    pub(crate) peer: Peer,
    pub(crate) logs: crate::long_log::Logs,
    /// The disk with the records, while it is worse than usual.
    pub(crate) bad_disk: Option<BadDisk>,
    pub(crate) panics: Option<Panic>,
    /// Since when the target stands still, or stood, and until when.
    pub(crate) target_stopped: Option<(Instant, Instant)>,
    /// Lanes of the target that read what came in since.
    pub(crate) target_looked: Few<usize, Instant>,
    pub(crate) phase: Phase,
    pub(crate) phase_until: Instant,
    pub(crate) phase_began: Instant,
    pub(crate) checkers: Checkers,
    pub(crate) violations: Vec<Violation>,
    pub(crate) stats: Stats,
    pub(crate) trace: Option<String>,
    /// What was met, if somebody wants to know.
    pub(crate) coverage: Option<Coverage>,
    /// The run as a story, if somebody wants to read it.
    pub(crate) story: Option<Lines>,
    /// Faults and requests that happened, by the order in which they were drawn.
    pub(crate) struck: Vec<u64>,
    pub(crate) submitted: Vec<u64>,
}

/// Writes a line of the trace, if there is one.
macro_rules! note {
    ($world:expr, $($arg:tt)*) => {
        if $world.trace.is_some() {
            $world.write(format_args!($($arg)*));
        }
    };
}
pub(crate) use note;

impl World {
    pub(crate) fn new(plan: Plan, traced: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let (control, lanes) = machines_of_host(&plan, &mut rng);
        let (target, target_lanes) = machines_of_target(&plan, &mut rng);
        let paths = (0..plan.ports)
            .map(|port| Path {
                open: !(port == 1 && matches!(plan.division, Division::Impostor { .. })),
                lane: port % usize::from(plan.target_lanes),
                silent_to_target: false,
                silent_to_host: false,
                limbo: Duration::ZERO,
                muted: false,
                disturbed: false,
            })
            .collect();
        let net = Net { paths, rng: rng.fork(), delay_us: plan.delay_us, bound: plan.network_bound() };
        let trace = traced.then(|| format!("{plan:#?}\n"));
        Self {
            now: Instant::ZERO,
            agenda: Agenda::default(),
            armed: Few::default(),
            stalled: Few::default(),
            mail: Few::default(),
            mail_at: Few::default(),
            mail_rng: rng.fork(),
            mail_us: plan.mail_us,
            host_mail_us: plan.mail_us,
            process: Process::default(),
            control,
            lanes,
            opening: vec![VecDeque::new(); usize::from(plan.host_lanes)],
            host_flush: VecDeque::new(),
            target,
            target_lanes,
            target_start: 0,
            links: Vec::new(),
            by_host: BTreeMap::new(),
            by_target: BTreeMap::new(),
            net,
            clocks: plan.extras.clocks(),
            parts: Parts::default(),
            other: plan.neighbour.map(|what| Box::new(Other::new(&plan, what))),
            media: Media::new(&plan, rng.fork()),
            flushes: crate::flushes::Flushes::default(),
            app: App::new(&plan, rng.fork()),
            chaos: Chaos::new(&plan, rng.fork()),
            peer: Peer::new(plan.seed),
            logs: crate::long_log::Logs::default(),
            bad_disk: None,
            panics: None,
            target_stopped: None,
            target_looked: Few::default(),
            phase: Phase::Starting,
            phase_until: Instant::ZERO,
            phase_began: Instant::ZERO,
            checkers: Checkers::new(&plan),
            violations: Vec::new(),
            stats: Stats::default(),
            trace,
            coverage: None,
            story: None,
            struck: Vec::new(),
            submitted: Vec::new(),
            plan,
        }
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) {
        self.start();
        while let Some((at, event)) = self.agenda.pop() {
            self.now = at;
            self.stats.events += 1;
            self.handle(event);
            if self.phase == Phase::Over || !self.violations.is_empty() {
                break;
            }
            if self.stats.events > MAX_EVENTS {
                self.violate("every_wait_has_a_deadline", "the world does not come to an end".to_owned());
            }
        }
        if self.violations.is_empty() && self.phase != Phase::Over {
            self.violate("every_wait_has_a_deadline", "nothing is waited for, and the run has not ended".to_owned());
        }
        if self.violations.is_empty() {
            self.judge();
        }
        self.stats.virtual_ms = self.now.as_nanos() / 1_000_000;
        for violation in self.violations.clone() {
            note!(self, "VIOLATION {violation}");
        }
    }

    fn start(&mut self) {
        self.script_standing();
        self.met_ways();
        self.leave_out_what_is_late();
        self.drain_target();
        for port in 0..self.plan.ports {
            self.connect(port);
        }
        self.drain_host();
        self.start_other();
        self.at(Instant::from_millis(1), Ev::Phase);
        self.at(Instant::from_millis(2), Ev::Tick);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Ev) {
        let event = self.marked(event);
        self.agenda.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, span: Duration, event: Ev) {
        self.at(self.now + span, event);
    }

    pub(crate) fn violate(&mut self, invariant: &str, text: String) {
        self.violations.push(Violation { invariant: invariant.to_owned(), at: self.now, text });
    }

    pub(crate) fn write(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            use fmt::Write as _;
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{} {line}", self.now);
        }
    }

    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        if let Some(coverage) = &mut self.coverage {
            coverage.see(seen);
        }
        if self.story.is_some() {
            self.tell(seen);
        }
        if self.process.zombie || !self.is_seen(seen) {
            // Only the oracles know who is right now.
            return;
        }
        let found = self.checkers.see(self.now, seen);
        self.violations.extend(found);
    }

    /// A fault of this kind occurs, or goes on.
    pub(crate) fn met(&mut self, kind: Kind) {
        let met = &mut self.stats.met;
        met.ever.insert(kind);
        if !met.in_doubt.contains(kind) && self.app.is_in_doubt() {
            self.stats.met.in_doubt.insert(kind);
        }
    }

    pub(crate) const fn tampers(&self, with: Tampering) -> bool {
        matches!(self.plan.mutation, Some(Mutation::Tampering(what)) if what as u32 == with as u32)
    }

    /// Who handles an event, if it can be late.
    /// Whose event it is, if it is not the kernel's or the world's.
    pub(crate) fn machine(&self, event: &Ev) -> Option<Machine> {
        Some(match event {
            Ev::Wake(machine) => *machine,
            Ev::Mail(Box_::ToHostLane(lane) | Box_::HostLanes(_, lane))
            | Ev::Submit(lane, _)
            | Ev::Abandoned(lane, _) => Machine::HostLane(*lane),
            Ev::Mail(Box_::FromHostLane(_)) | Ev::Job(..) => Machine::HostControl,
            // The kernel waits for nobody.
            Ev::Up(link)
            | Ev::Refused(link)
            | Ev::Deliver(link, Way::ToHost)
            | Ev::FlushHost(link)
            | Ev::Drained(link)
            | Ev::CloseBy(link)
                if !self.is_ours(*link) =>
            {
                return None;
            }
            Ev::Mail(Box_::ToTargetLane(lane)) => Machine::TargetLane(*lane),
            Ev::Mail(Box_::FromTargetLane(_)) => Machine::TargetControl,
            Ev::Up(link)
            | Ev::Refused(link)
            | Ev::Deliver(link, Way::ToHost)
            | Ev::FlushHost(link)
            | Ev::Drained(link)
            | Ev::CloseBy(link) => self.owner(*link),
            Ev::Deliver(link, Way::ToTarget) | Ev::FlushTarget(link) => Machine::TargetLane(self.links[*link].lane),
            Ev::Dial(_)
            | Ev::UserTimeout(_)
            | Ev::Orphan(_)
            | Ev::Restart
            | Ev::Look(..)
            | Ev::Media(..)
            | Ev::LateAnswer(_)
            | Ev::Looked
            | Ev::Resume(_)
            | Ev::Abandon(..)
            | Ev::Tick
            | Ev::Chaos(_)
            | Ev::Phase
            | Ev::Others(_)
            | Ev::OthersTick => return None,
        })
    }

    pub(crate) fn owner(&self, link: usize) -> Machine {
        match self.links[link].owner {
            Owner::Control => Machine::HostControl,
            Owner::Lane(lane) => Machine::HostLane(usize::from(lane)),
        }
    }

    fn handle(&mut self, event: Ev) {
        let Some(event) = self.take_turn(event) else { return };
        let Some(event) = self.hold_back(event) else { return };
        if let Some(panic) = self.panics {
            let called = self.machine(&event) == Some(Machine::HostLane(panic.lane));
            self.panics = Some(Panic { called, ..panic });
        }
        self.dispatch(event);
    }

    /// Whatever it is, it happens now, to the host whose turn it is.
    pub(crate) fn dispatch(&mut self, event: Ev) {
        match event {
            Ev::Resume(machine) => self.resume(machine),
            Ev::Wake(machine) => self.wake(machine),
            Ev::Mail(which) => self.carry(which),
            Ev::Dial(link) => self.dial(link),
            Ev::Up(link) => self.up(link),
            Ev::Refused(link) => self.refused(link),
            Ev::Deliver(link, way) => self.deliver(link, way),
            Ev::FlushHost(link) => {
                self.host_flush.push_back(link);
                self.drain_host();
            }
            Ev::FlushTarget(link) => {
                let lane = self.links[link].lane;
                self.target_lanes[lane].to_flush.push_back(link);
                self.drain_target();
            }
            Ev::Drained(link) => self.drained(link),
            Ev::UserTimeout(link) => self.user_timeout(link),
            Ev::CloseBy(link) => self.close_by(link),
            Ev::Job(process, id) => self.job_done(process, id),
            Ev::Orphan(link) => self.orphan(link),
            Ev::Restart => self.restart(),
            Ev::Look(process, pause) => self.look_for_old_sockets(process, pause),
            Ev::Media(lane, key) => self.media_done(lane, key),
            Ev::Looked => self.looked(),
            Ev::LateAnswer(key) => self.late_answer(key),
            Ev::Submit(lane, op) => self.submit(lane, op),
            Ev::Abandon(lane, op) => self.give_up(lane, op),
            Ev::Abandoned(lane, process) => self.abandoned(lane, process),
            Ev::Tick => self.tick(),
            Ev::Chaos(key) => self.strike(key),
            Ev::Phase => self.next_phase(),
            Ev::OthersTick => self.others_tick(),
            Ev::Others(_) => unreachable!("taken out before"),
        }
    }

    fn wake(&mut self, machine: Machine) {
        if self.armed.get(&machine).is_some_and(|armed| *armed <= self.now) {
            self.armed.remove(&machine);
        }
        let now = self.now;
        match machine {
            Machine::HostControl => {
                if self.control.next_deadline().is_some_and(|deadline| deadline.at <= now) {
                    self.control.handle_timeout(now);
                }
            }
            Machine::HostLane(lane) => {
                let lane = &mut self.lanes[lane].lane;
                if lane.next_deadline().is_some_and(|deadline| deadline.at <= now) {
                    lane.handle_timeout(now);
                }
            }
            Machine::TargetControl => {
                let now = self.target_now();
                if self.target.next_deadline().is_some_and(|deadline| deadline.at <= now) {
                    self.target.handle_timeout(now);
                }
            }
            Machine::TargetLane(lane) => {
                let now = self.target_now();
                let lane = &mut self.target_lanes[lane].lane;
                if lane.next_deadline().is_some_and(|deadline| deadline.at <= now) {
                    lane.handle_timeout(now);
                }
            }
        }
        match machine {
            Machine::HostControl | Machine::HostLane(_) => self.drain_host(),
            Machine::TargetControl | Machine::TargetLane(_) => self.drain_target(),
        }
    }

    /// Notes when a machine wants to be called.
    pub(crate) fn arm(&mut self, machine: Machine) {
        let next = match machine {
            Machine::HostControl => self.control.next_deadline().map(|deadline| deadline.at),
            Machine::HostLane(lane) => self.lanes[lane].lane.next_deadline().map(|deadline| deadline.at),
            Machine::TargetControl => self.target.next_deadline().map(|next| self.when_target_fires(next.at)),
            Machine::TargetLane(lane) => {
                let next = self.target_lanes[lane].lane.next_deadline();
                next.map(|next| self.when_target_fires(next.at))
            }
        };
        let Some(next) = next.map(|at| at.max(self.now)) else { return };
        if self.armed.get(&machine).is_none_or(|armed| next < *armed) {
            self.armed.insert(machine, next);
            self.at(next, Ev::Wake(machine));
        }
    }

    /// Puts mail into a box; it arrives after whatever is in it.
    pub(crate) fn post(&mut self, which: Box_, mail: Mail) {
        let us = match which {
            Box_::ToHostLane(_) | Box_::FromHostLane(_) | Box_::HostLanes(..) => self.host_mail_us,
            Box_::ToTargetLane(_) | Box_::FromTargetLane(_) => self.mail_us,
        };
        let delay = Duration::from_nanos(200 + self.mail_rng.below(us * 1000));
        let last = self.mail_at.get(&which).copied().unwrap_or_default();
        let at = last.max(self.now + delay);
        self.mail_at.insert(which, at);
        self.mail.or_default(which).push_back(mail);
        self.at(at, Ev::Mail(which));
    }

    pub(crate) fn carry(&mut self, which: Box_) {
        let Some(mail) = self.mail.get_mut(&which).and_then(VecDeque::pop_front) else { return };
        let now = self.now;
        match (which, mail) {
            (Box_::ToHostLane(lane), Mail::HostDown(message)) => {
                self.see(&Seen::LaneTook(lane, &message));
                note!(self, "host lane{lane} <- {message:?}");
                if let host::ToLane::OpenQueue(spec) = &message {
                    self.opening[lane].push_back(spec.life);
                }
                if !self.is_others_turn() {
                    self.flushes.hear(&message);
                    self.read_abandoned(lane);
                }
                self.lanes[lane].lane.handle_control(now, message);
                self.drain_host();
                // A queue that the lane refuses to open, because its life is ending, has no connection.
                self.opening[lane].clear();
            }
            (Box_::FromHostLane(lane), Mail::HostUp(message)) => {
                self.see(&Seen::ControlTook(lane, &message));
                note!(self, "host control <- lane{lane} {message:?}");
                self.control.handle_lane(now, host::LaneId(lane as u16), message);
                self.drain_host();
            }
            (Box_::HostLanes(from, lane), Mail::Lanes(letter)) => self.read_letter(from, lane, letter),
            (Box_::ToTargetLane(lane), Mail::TargetDown(message)) => {
                note!(self, "target lane{lane} <- {message:?}");
                let now = self.target_now();
                self.target_lanes[lane].lane.handle_control(now, message);
                self.mute_as_scripted(lane);
                self.drain_target();
            }
            (Box_::FromTargetLane(lane), Mail::TargetUp(message)) => {
                note!(self, "target control <- lane{lane} {message:?}");
                self.whose_connect(lane, &message);
                let now = self.target_now();
                self.target.handle_lane(now, target::LaneId(lane as u16), message);
                self.drain_target();
            }
            _ => unreachable!("a box carries one kind of mail"),
        }
    }
}

/// A target that was just switched on.
pub(crate) fn machines_of_target(plan: &Plan, rng: &mut Rng) -> (target::Control, Vec<TargetLane>) {
    let config = target_config(plan);
    let limits = config.limits;
    let control = target::Control::new(config, rng.next_u64()).expect("a plan makes a target that can work");
    let lanes = (0..plan.target_lanes)
        .map(|id| TargetLane {
            lane: target::Lane::new(target::LaneId(id), limits),
            memory: Memory::default(),
            next_conn: 1,
            to_flush: VecDeque::new(),
            condemned: Vec::new(),
        })
        .collect();
    (control, lanes)
}

/// A process of the host before its first breath.
pub(crate) fn machines_of_host(plan: &Plan, rng: &mut Rng) -> (host::Control, Vec<HostLane>) {
    let control = host::Control::new(plan.host_config(rng.next_u64()));
    let lanes = (0..plan.host_lanes)
        .map(|id| HostLane {
            lane: host::Lane::new(host::LaneConfig { id: host::LaneId(id), requests_max: 256, seed: rng.next_u64() }),
            memory: Memory::default(),
        })
        .collect();
    (control, lanes)
}

impl Plan {
    /// Who the host says that it is.
    pub(crate) fn host_config(&self, seed: u64) -> host::HostConfig {
        host::HostConfig {
            hostnqn: Nqn::new("nqn.2026-01.sim:host").expect("a valid name"),
            hostid: HostId([7; 16]),
            lanes: self.host_lanes,
            seed,
        }
    }
}

/// More events than any run needs: a world that goes on has a wait without an end.
const MAX_EVENTS: u64 = 2_000_000;

fn target_config(plan: &Plan) -> target::Config {
    let division = plan.division;
    let namespaces =
        |part| (1..).take(plan.namespaces).map(|nsid| Disk::first(division, part, nsid).namespace(plan)).collect();
    let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
    let subsystem = |part| target::config::SubsystemConfig {
        nqn: division.inner_nqn(part),
        serial: division.serial(part).into(),
        model: "Simulated".into(),
        hosts: target::config::Hosts::Any,
        namespaces: namespaces(part),
        cntlids: division.cntlids(part, plan.cntlids),
        kas: plan.kas,
        tbkas: plan.tbkas,
        cqt_ms: plan.cqt.map_or(0, |cqt| u16::try_from(cqt.as_millis()).unwrap_or(u16::MAX)),
        quiesce_ms: match plan.mutation {
            Some(Mutation::Tampering(Tampering::QuiesceTimeLie)) => ms(plan.quiesce + plan.hold() * 2),
            _ => ms(plan.quiesce),
        },
        ccr: match plan.reset {
            Reset::Off => target::config::Ccr::Off,
            Reset::On { limit, drain_ms, answer_ms } => target::config::Ccr::On { limit, drain_ms, answer_ms },
        },
        ana_groups: plan.ana_groups(),
    };
    target::Config {
        subsystems: (0..division.parts()).map(subsystem).collect(),
        ports: (0..plan.ports)
            .map(|port| target::config::PortConfig {
                id: target::PortId(port as u16),
                address: address(port),
                offers: target::config::Offers::Some(vec![target::SubsystemId(division.part_of(port))]),
            })
            .collect(),
        lanes: plan.target_lanes,
        limits: target::config::Limits {
            in_capsule: plan.in_capsule,
            hdgst: plan.hdgst,
            ddgst: plan.ddgst,
            ciu_max: plan.ciu_max,
            stock: plan.stock,
            ..target::config::Limits::default()
        },
    }
}

/// Blocks of a namespace behind those that the load uses: it may shrink by so many.
pub(crate) const SPARE_BLOCKS: u64 = 32;

/// Who pays for the connections of the host of this number.
pub(crate) fn payer(host: u8) -> target::Payer {
    target::Payer::at([198, 51, 100, host].into())
}

pub(crate) fn address(port: usize) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([192, 0, 2, 1 + port as u8], 4420))
}
