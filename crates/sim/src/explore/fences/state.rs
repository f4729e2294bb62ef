//! The state of a world of fences: the machine, and what is true around it.

use super::{A, B, FenceWorld, Keys, LATE, NEXT, P, S, Slow, WrongClock};
use interlock_base::Instant;
use interlock_fence::{
    CtrlId, FencePolicy, Fences, GuardEntry, GuardKey, HeadId, HoldTerms, Identity, Input, LaneId, LedgerEntry, LifeId,
    Local, Loss, Lost, Op, Output, Predecessor, Release, SourceFacts,
};
use interlock_wire::ccr::{Entry, State as EntryState};
use interlock_wire::nqn::Nqn;
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const START: Instant = Instant::from_millis(10_000);
const KATO: Duration = Duration::from_secs(1);
const CQT: Duration = Duration::from_secs(1);
/// The longest that a target with these terms may go on: (3 KATO + CQT) by a clock that is a tenth slow, and a little.
const WORST: Duration = Duration::from_millis(4_450);

/// How a source answers, or how a reset ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Immediate,
    Begun,
    InProgress,
    LogFull,
    Limit,
    Refused,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Immediate, Self::Begun, Self::InProgress, Self::LogFull, Self::Limit, Self::Refused];

    const fn status(self) -> Status {
        match self {
            Self::Immediate | Self::Begun => Status::SUCCESS,
            Self::InProgress => Status::CCR_IN_PROGRESS,
            Self::LogFull => Status::CCR_LOG_FULL,
            Self::Limit => Status::CCR_LIMIT_EXCEEDED,
            Self::Refused => Status::INVALID_FIELD,
        }
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Action {
    /// An instance is lost.
    Lose(LifeId),
    /// A lane takes its next mail.
    Mail(u16),
    /// Nothing of the instance can leave the sockets of a lane any more; `None`: its admin socket.
    Quiet(LifeId, Option<u16>),
    /// The target carries out a Cross-Controller Reset.
    Take(LifeId, LifeId, Kind),
    /// Its answer arrives.
    Deliver(LifeId, LifeId),
    /// A reset ends, well or not.
    ResetEnds(LifeId, usize, bool),
    /// The target reads its log.
    TakeLog(LifeId),
    /// What it read arrives, or an error.
    DeliverLog(LifeId, bool),
    /// A source dies.
    Die(LifeId),
    /// The store says who this host is.
    Owner(LifeId),
    /// A completion comes late.
    Late(u16, LifeId),
    /// Somebody does not wait any longer.
    GiveUp(LifeId),
    /// What was released has ended.
    Resolved(u16, LifeId),
    /// The sockets of the earlier process are gone.
    Gone,
    /// The next timer fires.
    Timer,
}

#[derive(Clone, Debug, Hash)]
enum Mail {
    Lost(LifeId),
    Table(u64, Arc<Vec<GuardEntry>>),
    Settle(LifeId, Release),
}

/// Something that is under way, since when, and at which later moment it may still end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct UnderWay {
    since: Instant,
    late: Option<Instant>,
}

impl UnderWay {
    const fn new(now: Instant) -> Self {
        Self { since: now, late: None }
    }

    fn is_now(&self, now: Instant) -> bool {
        self.since == now || self.late == Some(now)
    }

    /// Time has come to `now`.
    fn pass(&mut self, now: Instant, slow: bool) {
        if slow && self.late.is_none() && now >= self.since + LATE {
            self.late = Some(now);
        }
    }
}

#[derive(Clone, Debug, Hash)]
struct Lane {
    mail: VecDeque<Mail>,
    /// What nobody may touch, as this lane knows it.
    table: Vec<GuardKey>,
    stopped: BTreeSet<LifeId>,
    /// Instances that are settled for it, in order to take late answers no longer.
    settled: BTreeSet<LifeId>,
    since: UnderWay,
}

#[derive(Clone, Debug, Hash)]
struct Reset {
    icid: u16,
    ciu: u8,
    /// `None`: an earlier instance, which is no matter here.
    life: Option<LifeId>,
    ends: UnderWay,
}

#[derive(Clone, Debug, Hash)]
enum Read {
    Asked { remove: bool },
    Taken { remove: bool, entries: Vec<Entry> },
}

#[derive(Clone, Debug, Hash)]
struct Source {
    log: Vec<Entry>,
    resets: Vec<Reset>,
    /// By instance: what was named, and what was answered.
    asked: BTreeMap<LifeId, (Identity, Option<Kind>, UnderWay)>,
    read: Option<Read>,
}

/// What is true of a lost instance.
#[derive(Clone, Debug, Hash)]
struct Truth {
    /// A source has reset it.
    reset: bool,
    /// Lanes (and `None`, its admin socket) from which something may still leave.
    open: BTreeSet<Option<u16>>,
    /// When the last byte left.
    left: Instant,
    /// Writes that are held: sent, in doubt, not answered.
    held: Keys,
    /// Of these, those that this host was told of.
    known: Keys,
    released: bool,
    given_up: bool,
    owner: bool,
    late_budget: bool,
}

/// One state.
#[derive(Clone, Debug, Hash)]
pub(super) struct State {
    now: Instant,
    fences: Fences,
    lanes: Vec<Lane>,
    truths: BTreeMap<LifeId, Truth>,
    to_lose: BTreeSet<LifeId>,
    sources: BTreeMap<LifeId, Source>,
    owners: BTreeMap<LifeId, UnderWay>,
    /// What was released, and has not ended yet.
    sent_again: Keys,
    published: Vec<GuardEntry>,
    answers: u8,
    deaths: u8,
    unsent: u8,
    give_up: bool,
    sockets: bool,
    /// The first thing that is wrong.
    pub(super) wrong: Option<&'static str>,
}

fn subsystem() -> Nqn {
    Nqn::new("nqn.2026-01.sim:fences").expect("a valid name")
}

/// The name of an instance. The next instance of a path has the same CNTLID and another CIU.
const fn identity(life: LifeId) -> Identity {
    let (cntlid, ciu) = match life {
        A => (1, 0x51),
        B => (2, 0x52),
        NEXT => (1, 0x54),
        P => (5, 0x55),
        _ => (3, 0x53),
    };
    Identity { cntlid, ciu, cirn: 0x1000 + life.0 }
}

const fn ctrl(life: LifeId) -> CtrlId {
    match life {
        A | NEXT => CtrlId(0),
        B => CtrlId(1),
        P => CtrlId(4),
        _ => CtrlId(2),
    }
}

const fn terms(bounded: bool) -> HoldTerms {
    HoldTerms {
        kato: if bounded { KATO } else { Duration::ZERO },
        kato_assumed: false,
        tbkas: true,
        cqt: Some(CQT),
        assumed_cqt: None,
        proxy_delay: Duration::ZERO,
        slew_permille: 100,
    }
}

fn key(lane: u16, life: LifeId) -> GuardKey {
    GuardKey { seq: life.0, lane }
}

impl State {
    pub(super) fn new(world: &FenceWorld) -> Self {
        let mut state = Self {
            now: START,
            fences: Fences::new(world.lanes),
            lanes: (0..world.lanes)
                .map(|_| Lane {
                    mail: VecDeque::new(),
                    table: Vec::new(),
                    stopped: BTreeSet::new(),
                    settled: BTreeSet::new(),
                    since: UnderWay::new(START),
                })
                .collect(),
            truths: BTreeMap::new(),
            to_lose: world.lost.iter().copied().collect(),
            sources: BTreeMap::new(),
            owners: BTreeMap::new(),
            sent_again: Keys::new(),
            published: Vec::new(),
            answers: world.answers,
            deaths: world.deaths,
            unsent: world.unsent,
            give_up: world.give_up,
            sockets: world.predecessor,
            wrong: None,
        };
        if world.predecessor {
            let left = Predecessor {
                life: P,
                ctrl: ctrl(P),
                subnqn: subsystem(),
                addr: ([127, 0, 0, 1], 4420).into(),
                identity: identity(P),
                terms: terms(true),
                disks: Vec::new(),
            };
            let truth = Truth {
                reset: false,
                open: BTreeSet::from([None]),
                left: START,
                held: Keys::from([key(u16::MAX, P)]),
                known: Keys::new(),
                released: false,
                given_up: true,
                owner: false,
                late_budget: false,
            };
            state.truths.insert(P, truth);
            state.fences.handle(START, Input::Predecessor(Box::new(left)));
            state.input(world, Input::Found { subnqn: subsystem(), heads: vec![(HeadId(0), None)] });
        }
        for source in &world.sources {
            let facts = SourceFacts {
                life: *source,
                ctrl: ctrl(*source),
                subnqn: subsystem(),
                identity: identity(*source),
                addr: None,
                local: Local { iface: Some(source.to_string()), traddr: None },
                ccrl: 1,
                begun: START,
            };
            let Identity { cntlid: icid, ciu, .. } = identity(A);
            let old = Entry { icid, ciu, acid: 0, state: EntryState::Success, flags: 0 };
            let log = if world.old_entry && *source == S { vec![old] } else { Vec::new() };
            let resets = if world.old_reset && Some(source) == world.sources.last() {
                vec![Reset { icid, ciu, life: None, ends: UnderWay::new(START) }]
            } else {
                Vec::new()
            };
            state.sources.insert(*source, Source { log, resets, asked: BTreeMap::new(), read: None });
            state.input(world, Input::SourceFound(Box::new(facts)));
            state.input(world, Input::SourceUp(*source));
        }
        state
    }

    fn truly(&self, world: &FenceWorld) -> Duration {
        let passed = self.now - START;
        if world.clock == WrongClock::Monotonic { passed * 10 / 11 } else { passed }
    }

    fn raw(&self, world: &FenceWorld) -> Instant {
        let passed = self.truly(world);
        START + if world.clock == WrongClock::Raw { passed * 11 / 10 } else { passed }
    }

    /// True if the instance can execute nothing more.
    fn is_over(&self, world: &FenceWorld, life: LifeId) -> bool {
        let Some(truth) = self.truths.get(&life) else { return false };
        let left = truth.left - START;
        let left = if world.clock == WrongClock::Monotonic { left * 10 / 11 } else { left };
        let by_time = world.bounded || life == P;
        truth.reset || (by_time && truth.open.is_empty() && self.truly(world) >= left + WORST)
    }

    fn wrong(&mut self, invariant: &'static str) {
        self.wrong = self.wrong.or(Some(invariant));
    }

    fn input(&mut self, world: &FenceWorld, input: Input) {
        self.fences.handle(self.now, input);
        self.drain(world);
    }

    fn drain(&mut self, world: &FenceWorld) {
        while let Some(output) = self.fences.poll(self.now) {
            self.output(world, output);
        }
        // What this host was told of is protected until it has ended.
        let protected = |key: &GuardKey| self.published.iter().any(|entry| entry.key == *key);
        let known = self.truths.values().flat_map(|truth| &truth.known).chain(&self.sent_again);
        let whole = self.truths.get(&P).is_none_or(|truth| truth.released || !self.published.is_empty());
        if !known.into_iter().all(protected) || !whole {
            self.wrong("overlaps_wait");
        }
    }

    fn output(&mut self, world: &FenceWorld, output: Output) {
        let now = self.now;
        match output {
            Output::Ccr { life, source, impacted } => {
                if impacted != identity(life) {
                    self.wrong("fence_bound_to_one_instance");
                }
                match self.sources.get_mut(&source) {
                    Some(_) if self.unsent > 0 => {
                        self.unsent -= 1;
                        self.fences.handle(now, Input::CcrNotSent { life, source });
                    }
                    Some(through) => {
                        through.asked.insert(life, (impacted, None, UnderWay::new(now)));
                    }
                    None => self.fences.handle(now, Input::CcrNotSent { life, source }),
                }
            }
            Output::ReadLog { source, remove } => match self.sources.get_mut(&source) {
                Some(from) => from.read = Some(Read::Asked { remove }),
                None => self.fences.handle(now, Input::LogNotSent(source)),
            },
            Output::Table { epoch, entries } => {
                self.published = entries.to_vec();
                self.mail(&Mail::Table(epoch, entries));
            }
            Output::Cut(lane, life) => self.quiet(world, life, Some(lane.0)),
            Output::RawClock(life) => {
                let raw = self.raw(world);
                self.fences.handle(now, Input::RawClock { life, raw });
            }
            Output::ConfirmOwner(life) => {
                self.owners.insert(life, UnderWay::new(now));
            }
            Output::Disowned(_) => {
                self.owners.clear();
                self.fences.handle(now, Input::Disowned);
            }
            Output::Answer { lane, key, .. } => {
                let life = LifeId(key.seq);
                let truth = self.truths.get_mut(&life);
                let first = truth.is_some_and(|truth| {
                    truth.known.remove(&key);
                    truth.held.remove(&key) && !truth.released && !truth.given_up
                });
                if !first || lane.0 != key.lane {
                    self.wrong("late_completion_decided_once");
                }
            }
            Output::Settle { life, release } => self.settle(world, life, release),
            Output::Sorted { .. }
            | Output::Fenced(_)
            | Output::GivenUp(_)
            | Output::Over(_)
            | Output::Left(_)
            | Output::Told(_) => {}
        }
    }

    fn settle(&mut self, world: &FenceWorld, life: LifeId, release: Release) {
        let over = self.is_over(world, life);
        let lanes = &self.lanes;
        let Some(truth) = self.truths.get_mut(&life) else { return };
        let guarded = |key: &GuardKey| key.lane == u16::MAX || lanes.iter().all(|lane| lane.table.contains(key));
        let wrong = if truth.held.is_empty() {
            None
        } else if release == Release::Retry && !over {
            Some("no_stale_write_after_failover")
        } else if !truth.held.iter().all(guarded) {
            Some("guard_before_giving_up")
        } else if release == Release::Retry && !truth.owner {
            Some("only_the_owner_releases")
        } else {
            None
        };
        if release == Release::Retry {
            if !truth.given_up {
                self.sent_again.extend(truth.held.iter().filter(|key| key.lane != u16::MAX));
            }
            truth.released = true;
            truth.known.clear();
        } else {
            truth.given_up = true;
        }
        self.mail(&Mail::Settle(life, release));
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    fn mail(&mut self, mail: &Mail) {
        for lane in &mut self.lanes {
            if lane.mail.is_empty() {
                lane.since = UnderWay::new(self.now);
            }
            lane.mail.push_back(mail.clone());
        }
    }

    fn quiet(&mut self, world: &FenceWorld, life: LifeId, lane: Option<u16>) {
        let now = self.now;
        if let Some(truth) = self.truths.get_mut(&life)
            && truth.open.remove(&lane)
        {
            truth.left = now;
        }
        match lane {
            Some(lane) => self.fences.handle(now, Input::Quiet { lane: LaneId(lane), life, at: now }),
            None if life == P => self.fences.handle(now, Input::SocketsGone { life, at: now }),
            None => self.fences.handle(now, Input::Admin { life, disabled: false, quiet: Some(now) }),
        }
        let _ = world;
    }

    /// Everything that may happen now.
    pub(super) fn actions(&self, world: &FenceWorld) -> Vec<Action> {
        let mut all = Vec::new();
        let now = self.now;
        let mut waits = false;
        if now == START {
            all.extend(self.to_lose.iter().map(|life| Action::Lose(*life)));
            waits = !self.to_lose.is_empty();
        }
        let last = world.lanes - 1;
        let late_lane = |lane: u16| lane == last && world.slow.contains(&Slow::Lane);
        for (number, lane) in (0..).zip(&self.lanes) {
            if !lane.mail.is_empty() && (!late_lane(number) || lane.since.is_now(now)) {
                all.push(Action::Mail(number));
                // It comes in the end.
                waits |= !late_lane(number) || lane.since.late.is_some();
            }
        }
        for (life, truth) in &self.truths {
            for lane in &truth.open {
                let stopped =
                    lane.is_none_or(|lane| self.lanes.get(usize::from(lane)).is_some_and(|l| l.stopped.contains(life)));
                if stopped {
                    all.push(if *life == P { Action::Gone } else { Action::Quiet(*life, *lane) });
                    waits |= lane.is_none_or(|lane| !late_lane(lane));
                }
            }
            for (number, lane) in (0..).zip(&self.lanes) {
                let heard = lane.stopped.contains(life) && !lane.settled.contains(life);
                if world.late && truth.late_budget && heard && world.writes.contains(&(number, *life)) {
                    all.push(Action::Late(number, *life));
                }
            }
            if self.give_up && !truth.released && *life != P {
                all.push(Action::GiveUp(*life));
            }
        }
        for (id, source) in &self.sources {
            for (life, (named, answer, under_way)) in &source.asked {
                if !under_way.is_now(now) {
                    continue;
                }
                if answer.is_none() {
                    let running = self.sources.values().flat_map(|source| &source.resets);
                    let mut running = running.filter(|reset| (reset.icid, reset.ciu) == (named.cntlid, named.ciu));
                    let progress = running.next().is_some();
                    let kinds = Kind::ALL.into_iter().filter(|kind| match kind {
                        Kind::Immediate => true,
                        Kind::InProgress => progress && self.answers > 0,
                        Kind::Begun | Kind::LogFull | Kind::Limit | Kind::Refused => self.answers > 0,
                    });
                    all.extend(kinds.map(|kind| Action::Take(*id, *life, kind)));
                } else {
                    all.push(Action::Deliver(*id, *life));
                }
                waits |= !world.slow.contains(&Slow::Answer);
            }
            for (number, reset) in source.resets.iter().enumerate() {
                if reset.ends.is_now(now) || reset.life.is_none() && now == START {
                    all.push(Action::ResetEnds(*id, number, true));
                    if reset.life.is_some() && self.answers > 0 {
                        all.push(Action::ResetEnds(*id, number, false));
                    }
                }
            }
            match &source.read {
                Some(Read::Asked { .. }) => all.push(Action::TakeLog(*id)),
                Some(Read::Taken { .. }) => {
                    all.push(Action::DeliverLog(*id, true));
                    if self.answers > 0 {
                        all.push(Action::DeliverLog(*id, false));
                    }
                }
                None => {}
            }
            waits |= source.read.is_some();
            let busy = !source.asked.is_empty() || !source.resets.is_empty() || source.read.is_some();
            if self.deaths > 0 && busy && !self.truths.is_empty() {
                all.push(Action::Die(*id));
            }
        }
        for (life, asked) in &self.owners {
            let slow = world.slow.contains(&Slow::Store);
            if !slow || asked.is_now(now) {
                all.push(Action::Owner(*life));
                waits |= !slow;
            }
        }
        for key in &self.sent_again {
            let settled =
                self.lanes.get(usize::from(key.lane)).is_some_and(|lane| lane.settled.contains(&LifeId(key.seq)));
            if settled {
                all.push(Action::Resolved(key.lane, LifeId(key.seq)));
                waits = true;
            }
        }
        if !waits && self.fences.next_deadline().is_some() && self.matters() {
            all.push(Action::Timer);
        }
        all
    }

    /// True while a timer can still change anything: what waits for a reset that nobody can carry out waits for ever.
    fn matters(&self) -> bool {
        let waits = |(life, truth): (&LifeId, &Truth)| {
            let asks = !self.sources.is_empty() && self.answers > 0;
            self.fences.is_lost(*life) && (!truth.given_up || !self.fences.is_unbounded(*life) || asks)
        };
        self.truths.iter().any(waits) && self.now < START + Duration::from_secs(180)
    }

    /// What is wrong if nothing can happen any more.
    pub(super) fn at_rest(&self) -> Option<&'static str> {
        let held = self.truths.keys().any(|life| self.fences.is_lost(*life) && !self.fences.is_tombstone(*life));
        held.then_some("every_wait_has_a_deadline")
    }

    pub(super) fn carry_out(&mut self, world: &FenceWorld, action: Action) {
        let now = self.now;
        match action {
            Action::Lose(life) => self.lose(world, life),
            Action::Mail(lane) => self.take_mail(world, lane),
            Action::Quiet(life, lane) => self.quiet(world, life, lane),
            Action::Gone => self.quiet(world, P, None),
            Action::Take(source, life, kind) => self.take(source, life, kind),
            Action::Deliver(source, life) => {
                let asked = self.sources.get_mut(&source).and_then(|source| source.asked.remove(&life));
                if let Some((_, Some(kind), _)) = asked {
                    let immediate = kind == Kind::Immediate;
                    self.fences.handle(now, Input::CcrAnswer { life, source, status: kind.status(), immediate });
                }
            }
            Action::ResetEnds(source, number, good) => {
                if !good {
                    self.answers -= 1;
                }
                if let Some(from) = self.sources.get_mut(&source) {
                    let Reset { icid, ciu, life, .. } = from.resets.remove(number);
                    let state = if good { EntryState::Success } else { EntryState::Failed };
                    from.log.push(Entry { icid, ciu, acid: 0, state, flags: 0 });
                    if let Some(truth) = life.filter(|_| good).and_then(|life| self.truths.get_mut(&life)) {
                        truth.reset = true;
                    }
                }
                if world.old_reset {
                    self.fences.handle(now, Input::LogChanged(source));
                }
            }
            Action::TakeLog(source) => self.take_log(world, source),
            Action::DeliverLog(source, good) => {
                let read = self.sources.get_mut(&source).and_then(|source| source.read.take());
                if !good {
                    self.answers -= 1;
                }
                if let Some(Read::Taken { remove, entries }) = read {
                    let entries = good.then_some(entries);
                    let failed = entries.is_none();
                    self.fences.handle(now, Input::Log { source, removed: remove, entries });
                    if failed {
                        self.fences.handle(now, Input::Purge { source, anew: true });
                    }
                }
            }
            Action::Die(source) => {
                self.deaths -= 1;
                self.sources.remove(&source);
                self.fences.handle(now, Input::SourceDown(source));
                self.fences.handle(now, Input::SourceGone(source));
            }
            Action::Owner(life) => {
                self.owners.remove(&life);
                if let Some(truth) = self.truths.get_mut(&life) {
                    truth.owner = true;
                }
                self.fences.handle(now, Input::Owner(life));
            }
            Action::Late(lane, life) => {
                let key = key(lane, life);
                if let Some(truth) = self.truths.get_mut(&life) {
                    truth.late_budget = false;
                    if truth.given_up {
                        truth.held.remove(&key);
                        truth.known.remove(&key);
                    }
                }
                let input = Input::Late { lane: LaneId(lane), life, key, cqe: Cqe::default(), cached: false };
                self.fences.handle(now, input);
            }
            Action::GiveUp(life) => {
                self.give_up = false;
                self.fences.handle(now, Input::GiveUp(life));
            }
            Action::Resolved(lane, life) => {
                let key = key(lane, life);
                self.sent_again.remove(&key);
                self.fences.handle(now, Input::Resolved(vec![key]));
            }
            Action::Timer => self.pass(world),
        }
        self.drain(world);
    }

    fn pass(&mut self, world: &FenceWorld) {
        if let Some(next) = self.fences.next_deadline() {
            self.now = self.now.max(next.at);
        }
        let now = self.now;
        let slow = |what| world.slow.contains(&what);
        let last = self.lanes.len() - 1;
        self.lanes[last].since.pass(now, slow(Slow::Lane));
        for source in self.sources.values_mut() {
            source.asked.values_mut().for_each(|(_, _, asked)| asked.pass(now, slow(Slow::Answer)));
            source.resets.iter_mut().for_each(|reset| reset.ends.pass(now, slow(Slow::Reset)));
        }
        self.owners.values_mut().for_each(|asked| asked.pass(now, slow(Slow::Store)));
        self.fences.handle_timeout(now);
    }

    fn lose(&mut self, world: &FenceWorld, life: LifeId) {
        self.to_lose.remove(&life);
        let held: Keys = world.writes.iter().filter(|(_, on)| *on == life).map(|(lane, on)| key(*lane, *on)).collect();
        let truth = Truth {
            reset: false,
            open: (0..world.lanes).map(Some).chain([None]).collect(),
            left: self.now,
            held,
            known: Keys::new(),
            released: false,
            given_up: false,
            owner: false,
            late_budget: world.late,
        };
        self.truths.insert(life, truth);
        let lost = Lost {
            life,
            ctrl: ctrl(life),
            subnqn: subsystem(),
            addr: None,
            local: Local { iface: Some(life.to_string()), traddr: None },
            identity: identity(life),
            terms: Some(terms(world.bounded)),
            policy: FencePolicy::Strict,
            loss: if world.asked_for { Loss::Disconnect } else { Loss::KeepAlive },
            served: true,
            suspect: None,
            admin_quiet: None,
            late_grace: Duration::from_millis(250),
            last_chance: Duration::from_secs(6),
        };
        self.mail(&Mail::Lost(life));
        self.fences.handle(self.now, Input::Lost(Box::new(lost)));
    }

    fn take_mail(&mut self, world: &FenceWorld, number: u16) {
        let now = self.now;
        let lane = &mut self.lanes[usize::from(number)];
        let Some(mail) = lane.mail.pop_front() else { return };
        match mail {
            Mail::Lost(life) => {
                lane.stopped.insert(life);
                let Some(truth) = self.truths.get_mut(&life) else { return };
                let mine = world.writes.iter().filter(|(on, of)| *on == number && *of == life);
                let entries: Vec<LedgerEntry> = mine
                    .map(|(lane, life)| LedgerEntry {
                        key: key(*lane, *life),
                        life: *life,
                        head: HeadId(0),
                        op: Op::Write { fua: false },
                        range: 0..8,
                        since: START,
                        abandoned: false,
                    })
                    .collect();
                if !truth.released {
                    truth.known.extend(entries.iter().map(|entry| entry.key));
                }
                self.fences.handle(now, Input::Ledger { lane: LaneId(number), life, entries, settled: 0 });
            }
            Mail::Table(epoch, entries) => {
                lane.table = entries.iter().map(|entry| entry.key).collect();
                self.fences.handle(now, Input::TableSeen { lane: LaneId(number), epoch });
            }
            Mail::Settle(life, release) => {
                if release == Release::Retry {
                    lane.settled.insert(life);
                }
            }
        }
    }

    /// The target carries a Cross-Controller Reset out.
    fn take(&mut self, source: LifeId, life: LifeId, kind: Kind) {
        let now = self.now;
        if kind != Kind::Immediate {
            self.answers -= 1;
        }
        let Some(source) = self.sources.get_mut(&source) else { return };
        let Some((named, answer, _)) = source.asked.get_mut(&life) else { return };
        *answer = Some(kind);
        let meant = Some(life).filter(|life| identity(*life) == *named);
        match kind {
            Kind::Immediate => {
                if let Some(truth) = meant.and_then(|life| self.truths.get_mut(&life)) {
                    truth.reset = true;
                }
            }
            Kind::Begun => {
                let (icid, ciu) = (named.cntlid, named.ciu);
                source.resets.push(Reset { icid, ciu, life: meant, ends: UnderWay::new(now) });
            }
            Kind::InProgress | Kind::LogFull | Kind::Limit | Kind::Refused => {}
        }
    }

    fn take_log(&mut self, world: &FenceWorld, source: LifeId) {
        let Some(source) = self.sources.get_mut(&source) else { return };
        let Some(Read::Asked { remove }) = source.read else { return };
        let running = source.resets.iter().filter(|reset| reset.life.is_some()).map(|reset| Entry {
            icid: reset.icid,
            ciu: reset.ciu,
            acid: 0,
            state: EntryState::InProgress,
            flags: 0,
        });
        let entries = source.log.iter().copied().chain(running).collect();
        if remove && !world.keeps {
            source.log.clear();
        }
        source.read = Some(Read::Taken { remove, entries });
    }
}
