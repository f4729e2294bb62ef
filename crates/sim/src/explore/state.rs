//! One state of the small world, and what can happen in it next.
//!
//! Parts that a step does not touch are shared with the state it came from, and keep their fingerprint.

use super::judge::Judge;
use super::scene::{CALM, Death, SmallWorld};
use crate::outbox::Memory;
use crate::world::Violation;
use interlock_base::Instant;
use interlock_host_core as host;
use interlock_target_core as target;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

/// A machine or a queue, shared until it is changed.
#[derive(Clone, Debug)]
pub(super) struct Part<T> {
    value: Rc<T>,
    print: Cell<Option<u64>>,
}

impl<T: Clone + Hash> Part<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Rc::new(value), print: Cell::new(None) }
    }

    pub(super) fn get(&self) -> &T {
        &self.value
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.print.set(None);
        Rc::make_mut(&mut self.value)
    }

    fn print(&self) -> u64 {
        if let Some(print) = self.print.get() {
            return print;
        }
        let mut hasher = DefaultHasher::new();
        self.value.hash(&mut hasher);
        let print = hasher.finish();
        self.print.set(Some(print));
        print
    }
}

/// Which machine of the host owns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Owner {
    Control,
    Lane(u16),
}

/// A connection, by the name that its owner gave it.
pub(super) type LinkId = (Owner, host::ConnId);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// Not there yet.
    Opening,
    Open,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Bytes(Rc<Vec<u8>>),
    Fin,
    Rst,
}

/// What is under way, and until when at the latest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Msg {
    pub(super) piece: Piece,
    pub(super) due: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) port: usize,
    /// Whose I/O queue it is; `None` for admin queues.
    pub(super) life: Option<host::LifeId>,
    pub(super) host: End,
    pub(super) target: End,
    pub(super) to_target: VecDeque<Msg>,
    pub(super) to_host: VecDeque<Msg>,
    /// The host waits to hear that its send queue is empty.
    pub(super) watched: bool,
    /// Its path has died: what is under way on it may be late, or lost.
    pub(super) dead: bool,
    /// What the target has received and not taken.
    pub(super) received: Vec<u8>,
}

impl Link {
    fn is_over(&self) -> bool {
        self.host == End::Gone && self.target != End::Open && self.to_target.is_empty() && self.to_host.is_empty()
    }
}

#[derive(Clone, Debug, Hash)]
pub(super) struct HostLane {
    pub(super) lane: host::Lane,
    pub(super) memory: Memory,
    /// Lives whose queue this lane was told to open, in order.
    pub(super) opening: VecDeque<host::LifeId>,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct TargetLane {
    pub(super) lane: target::Lane,
    pub(super) memory: Memory,
}

/// An operation that the namespace works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Work {
    pub(super) op: target::MediaOp,
    /// Which write.
    pub(super) write: usize,
    pub(super) due: Instant,
}

/// Whether a path has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Alive,
    Dead,
    /// It was not to die, or it is too late for it.
    Spared,
}

/// A machine with timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Machine {
    HostControl,
    HostLane(u16),
    TargetControl,
    TargetLane,
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Submit(usize),
    Abandon(usize),
    Die(usize),
    ToLane(u16),
    FromLane(u16),
    Job(host::JobId),
    Dial(LinkId),
    ToTarget(LinkId),
    ToHost(LinkId),
    /// What is under way to the target before the end of the connection is lost.
    LoseToTarget(LinkId),
    /// The same, to the host.
    LoseToHost(LinkId),
    Drained(LinkId),
    Media(target::MediaId),
    Release,
    Timer(Machine),
}

/// A state.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) scene: Rc<SmallWorld>,
    pub(super) now: Instant,
    pub(super) began: Instant,
    pub(super) control: Part<host::Control>,
    pub(super) lanes: Vec<Part<HostLane>>,
    pub(super) target: Part<target::Control>,
    pub(super) target_lane: Part<TargetLane>,
    pub(super) links: BTreeMap<LinkId, Part<Link>>,
    pub(super) to_lane: Vec<Part<VecDeque<(Instant, host::ToLane)>>>,
    pub(super) from_lane: Vec<Part<VecDeque<(Instant, host::ToControl)>>>,
    pub(super) jobs: Part<BTreeMap<host::JobId, Instant>>,
    pub(super) media: Part<BTreeMap<target::MediaId, Work>>,
    pub(super) judge: Part<Judge>,
    pub(super) head: Option<host::HeadId>,
    pub(super) fates: [Fate; 2],
    pub(super) open_ports: [bool; 2],
    pub(super) released: bool,
    pub(super) wrong: Option<Violation>,
    /// What happened, in words, if somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
}

impl State {
    /// Both paths live, for [`CALM`]; nothing asked for yet.
    pub(super) fn connected(scene: &SmallWorld, seed: u64) -> Self {
        let config = scene.target();
        let limits = config.limits;
        let lanes = usize::from(scene.lanes);
        let mut state = Self {
            now: Instant::ZERO,
            began: Instant::ZERO,
            control: Part::new(host::Control::new(scene.host())),
            lanes: (0..scene.lanes)
                .map(|id| {
                    let config = host::LaneConfig {
                        id: host::LaneId(id),
                        requests_max: 16,
                        seed: seed.wrapping_add(u64::from(id) << 8),
                    };
                    Part::new(HostLane {
                        lane: host::Lane::new(config),
                        memory: Memory::default(),
                        opening: VecDeque::new(),
                    })
                })
                .collect(),
            target: Part::new(target::Control::new(config, 3).expect("a small world has a target that can work")),
            target_lane: Part::new(TargetLane {
                lane: target::Lane::new(target::LaneId(0), limits),
                memory: Memory::default(),
            }),
            links: BTreeMap::new(),
            to_lane: vec![Part::new(VecDeque::new()); lanes],
            from_lane: vec![Part::new(VecDeque::new()); lanes],
            jobs: Part::new(BTreeMap::new()),
            media: Part::new(BTreeMap::new()),
            judge: Part::new(Judge::new(scene.lanes, scene.writes.len())),
            head: None,
            fates: scene.deaths.map(|death| if death == Death::None { Fate::Spared } else { Fate::Alive }),
            open_ports: [true, true],
            released: false,
            wrong: None,
            story: None,
            scene: Rc::new(scene.clone()),
        };
        state.drain_target();
        for port in 0..2 {
            let spec = state.scene.spec(port);
            let now = state.now;
            state.control.get_mut().connect(now, spec).expect("a small world asks for what can be");
            state.drain_control();
        }
        state.settle_until(Instant::ZERO + CALM);
        if scene.stalls {
            let fault = target::Fault::HoldWrites { port: target::PortId(0) };
            state.target.get_mut().script(fault);
            state.drain_target();
        }
        state.began = state.now;
        state
    }

    /// One order of events, the simplest, up to `until`.
    fn settle_until(&mut self, until: Instant) {
        loop {
            if let Some(action) = self.urgent().into_iter().next() {
                self.carry_out(action);
                continue;
            }
            match self.next_timer() {
                Some(at) if at < until => {
                    self.now = at;
                    let machine = self.due_machines().into_iter().next().expect("a timer belongs to a machine");
                    self.carry_out(Action::Timer(machine));
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// True if bytes are under way on an I/O queue of a port.
    pub(super) fn sent_through(&self, port: usize) -> bool {
        self.links.values().map(Part::get).any(|link| {
            link.port == port
                && link.life.is_some()
                && link.to_target.iter().any(|m| matches!(m.piece, Piece::Bytes(_)))
        })
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let since = self.now - self.began;
            story.push(format!("{:>9.3} ms  {}", since.as_secs_f64() * 1000.0, text()));
        }
    }

    pub(super) fn blame(&mut self, found: Option<Violation>) {
        if self.wrong.is_none() {
            self.wrong = found;
        }
    }

    /// The state in one number, but for chance.
    pub(super) fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.now.hash(&mut hasher);
        (self.fates, self.open_ports, self.released).hash(&mut hasher);
        self.control.print().hash(&mut hasher);
        self.target.print().hash(&mut hasher);
        self.target_lane.print().hash(&mut hasher);
        self.jobs.print().hash(&mut hasher);
        self.media.print().hash(&mut hasher);
        self.judge.print().hash(&mut hasher);
        for lane in &self.lanes {
            lane.print().hash(&mut hasher);
        }
        for mail in &self.to_lane {
            mail.print().hash(&mut hasher);
        }
        for mail in &self.from_lane {
            mail.print().hash(&mut hasher);
        }
        for (id, link) in &self.links {
            (id, link.print()).hash(&mut hasher);
        }
        hasher.finish()
    }

    // --- What can happen ---

    /// Everything that can happen now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = self.urgent();
        actions.extend(self.may_be_asked().map(Action::Submit));
        for (index, write) in self.scene.writes.iter().enumerate() {
            let asked = &self.judge.get().writes[index];
            if write.may_be_abandoned && asked.key.is_some() && asked.ended.is_none() && !asked.abandoned {
                actions.push(Action::Abandon(index));
            }
        }
        if self.fates[0] == Fate::Alive {
            actions.push(Action::Die(0));
        } else if self.may_die_too() {
            actions.push(Action::Die(1));
        }
        for (id, link) in &self.links {
            let link = link.get();
            if link.to_target.front().is_some_and(|msg| !self.is_urgent(msg)) && self.may_arrive(link) {
                actions.push(Action::ToTarget(*id));
            }
            if link.dead && link.to_target.iter().any(|msg| matches!(msg.piece, Piece::Bytes(_))) {
                actions.push(Action::LoseToTarget(*id));
            }
            if link.to_host.front().is_some_and(|msg| !self.is_urgent(msg)) {
                actions.push(Action::ToHost(*id));
            }
            let ends = link.to_host.back().is_some_and(|msg| matches!(msg.piece, Piece::Rst));
            if link.dead && ends && link.to_host.len() > 1 {
                actions.push(Action::LoseToHost(*id));
            }
        }
        actions.extend(self.media.get().keys().map(|id| Action::Media(*id)));
        if self.scene.stalls && !self.released {
            actions.push(Action::Release);
        }
        if let Some(at) = self.next_timer()
            && !self.is_done()
            && self.fates[0] != Fate::Alive
            && self.may_pass(at)
        {
            let mut later = self.clone();
            later.now = at;
            actions.extend(later.due_machines().into_iter().map(Action::Timer));
        }
        actions
    }

    /// Path B may die as long as the fence of A's life is not over and no time has passed.
    fn may_die_too(&self) -> bool {
        let first = self.judge.get().named.iter().next().map(|(life, _)| *life);
        self.fates[1] == Fate::Alive
            && self.fates[0] == Fate::Dead
            && first.is_some_and(|life| !self.judge.get().over.contains(&life))
    }

    fn is_urgent(&self, msg: &Msg) -> bool {
        msg.due <= self.now + self.scene.slack
    }

    /// A connection that the target has closed takes nothing more.
    fn may_arrive(&self, link: &Link) -> bool {
        link.target == End::Open && link.to_target.front().is_some()
    }

    /// What can happen while nothing is wrong and no time passes.
    fn urgent(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        actions.extend(self.due_machines().into_iter().map(Action::Timer));
        for lane in 0..self.scene.lanes {
            if !self.to_lane[usize::from(lane)].get().is_empty() {
                actions.push(Action::ToLane(lane));
            }
            if !self.from_lane[usize::from(lane)].get().is_empty() {
                actions.push(Action::FromLane(lane));
            }
        }
        actions.extend(self.jobs.get().keys().map(|job| Action::Job(*job)));
        for (id, link) in &self.links {
            let link = link.get();
            if link.host == End::Opening {
                actions.push(Action::Dial(*id));
            }
            if link.to_target.front().is_some_and(|msg| self.is_urgent(msg)) && self.may_arrive(link) {
                actions.push(Action::ToTarget(*id));
            }
            if link.to_host.front().is_some_and(|msg| self.is_urgent(msg)) {
                actions.push(Action::ToHost(*id));
            }
            if link.watched && link.to_target.is_empty() && link.host == End::Open {
                actions.push(Action::Drained(*id));
            }
        }
        actions
    }

    /// Messages on connections that are being set up.
    pub(super) fn setting_up(&self) -> Vec<Action> {
        let connecting: Vec<usize> = (0..2)
            .filter(|port| {
                let address = crate::world::address(*port).ip().to_string();
                self.control
                    .get()
                    .controllers()
                    .any(|info| info.spec.traddr == address && matches!(info.state, host::State::Connecting { .. }))
            })
            .collect();
        let mut actions = Vec::new();
        for (id, link) in &self.links {
            let link = link.get();
            let young = match link.life {
                None => connecting.contains(&link.port),
                Some(life) => !self.judge.get().named.contains_key(&life),
            };
            if !young || link.dead {
                continue;
            }
            if link.host == End::Opening && self.open_ports[link.port] && self.fates[link.port] != Fate::Alive {
                actions.push(Action::Dial(*id));
            }
            if link.host != End::Open || link.target != End::Open || self.fates[link.port] == Fate::Alive {
                continue;
            }
            if !link.to_target.is_empty() {
                actions.push(Action::ToTarget(*id));
            } else if !link.to_host.is_empty() {
                actions.push(Action::ToHost(*id));
            }
        }
        actions
    }

    /// True if `action`, which led here from `before`, changed nothing but its connection and one machine.
    pub(super) fn differs_silently(&self, before: &Self, action: Action) -> bool {
        let same = |one: &[u64], other: &[u64]| one == other;
        let mail = |state: &Self| -> Vec<u64> {
            let down = state.to_lane.iter().map(Part::print);
            down.chain(state.from_lane.iter().map(Part::print)).collect()
        };
        let world = |state: &Self| [state.jobs.print(), state.media.print()];
        let host = |state: &Self| -> Vec<u64> {
            std::iter::once(state.control.print()).chain(state.lanes.iter().map(Part::print)).collect()
        };
        let target = |state: &Self| [state.target.print(), state.target_lane.print()];
        let (id, one_side) = match action {
            Action::ToTarget(id) => (id, same(&host(self), &host(before))),
            Action::ToHost(id) => (id, same(&target(self), &target(before))),
            Action::Dial(id) => (id, true),
            _ => return false,
        };
        let others = |state: &Self| -> Vec<(LinkId, u64)> {
            state.links.iter().filter(|(other, _)| **other != id).map(|(id, link)| (*id, link.print())).collect()
        };
        one_side
            && same(&mail(self), &mail(before))
            && same(&world(self), &world(before))
            && self.judge.get().knows_no_more_than(before.judge.get())
            && others(self) == others(before)
            && self.links.contains_key(&id)
    }

    fn deadline(&self, machine: Machine) -> Option<Instant> {
        match machine {
            Machine::HostControl => self.control.get().next_deadline().map(|d| d.at),
            Machine::HostLane(lane) => self.lanes[usize::from(lane)].get().lane.next_deadline().map(|d| d.at),
            Machine::TargetControl => self.target.get().next_deadline().map(|d| d.at),
            Machine::TargetLane => self.target_lane.get().lane.next_deadline().map(|d| d.at),
        }
    }

    fn machines(&self) -> impl Iterator<Item = Machine> + use<> {
        let lanes = (0..self.scene.lanes).map(Machine::HostLane);
        [Machine::HostControl, Machine::TargetControl, Machine::TargetLane].into_iter().chain(lanes)
    }

    fn due_machines(&self) -> Vec<Machine> {
        self.machines().filter(|machine| self.deadline(*machine).is_some_and(|at| at <= self.now)).collect()
    }

    /// The next moment at which a timer fires.
    fn next_timer(&self) -> Option<Instant> {
        self.machines().filter_map(|machine| self.deadline(machine)).min().filter(|at| *at > self.now)
    }

    /// Writes that the application has not asked for yet, and may.
    fn may_be_asked(&self) -> impl Iterator<Item = usize> {
        let writes = &self.judge.get().writes;
        let open = |of: usize| writes[of].key.is_none() && writes[of].ended.is_none();
        let ready = move |of: &Option<usize>| of.is_none_or(|of| writes[of].ended.is_some());
        let all = self.scene.writes.iter().enumerate();
        all.filter(move |(index, write)| open(*index) && ready(&write.after)).map(|(index, _)| index)
    }

    /// True if time may go on to `at`: nothing that is under way has to arrive before.
    fn may_pass(&self, at: Instant) -> bool {
        let mail = self.to_lane.iter().filter_map(|mail| mail.get().front().map(|(due, _)| *due));
        let back = self.from_lane.iter().filter_map(|mail| mail.get().front().map(|(due, _)| *due));
        let jobs = self.jobs.get().values().copied();
        let media = self.media.get().values().map(|work| work.due);
        let links = self.links.values().flat_map(|link| {
            let link = link.get();
            let there = link.to_target.front().filter(|_| link.target == End::Open).map(|msg| msg.due);
            let here = link.to_host.front().map(|msg| msg.due);
            let waits = link.host == End::Opening || (link.watched && link.to_target.is_empty());
            [there, here, (waits && link.host != End::Gone).then_some(self.now)].into_iter().flatten()
        });
        let due = self.due_machines().into_iter().map(|_| self.now);
        // An application that never asks is none: what it asks for last has half the time to end in.
        let unasked = self.may_be_asked().map(|_| self.began + self.horizon() / 2);
        mail.chain(back).chain(jobs).chain(media).chain(links).chain(due).chain(unasked).all(|due| due >= at)
    }

    /// True once every write has ended and every life that was lost is over: nothing is waited for.
    pub(super) fn is_done(&self) -> bool {
        self.judge.get().writes.iter().all(|write| write.ended.is_some())
            && !self.may_die_too()
            && self.control.get().controllers().all(|info| info.fencing.is_empty())
    }

    /// Nothing can happen any more. Says what is wrong with that, if anything is.
    pub(super) fn at_rest(&self) -> Option<Violation> {
        if !self.is_done() {
            return Some(super::judge::wrong(self.now, "every_wait_has_a_deadline", self.unfinished()));
        }
        None
    }

    pub(super) fn unfinished(&self) -> String {
        let waits: Vec<String> =
            self.control.get().waits().map(|wait| format!("{} until {}", wait.why, wait.at)).collect();
        let open: Vec<usize> = (0..self.scene.writes.len())
            .filter(|index| self.judge.get().writes[*index].ended.is_none())
            .map(|index| index + 1)
            .collect();
        format!("writes {open:?} have not ended, or a life is not over; control waits for {waits:?}")
    }

    /// A message that is sent now arrives by then.
    pub(super) fn soon(&self) -> Instant {
        self.now + self.scene.slack
    }

    /// What the network may still have of a connection that is gone arrives by then.
    pub(super) fn late(&self) -> Instant {
        self.now + SmallWorld::network_bound()
    }

    /// Forgets connections on which nothing can happen any more.
    pub(super) fn sweep(&mut self) {
        self.links.retain(|_, link| !link.get().is_over());
    }

    pub(super) fn media_due(&self) -> Instant {
        self.now + self.scene.media
    }

    pub(super) fn horizon(&self) -> Duration {
        self.scene.horizon
    }
}
