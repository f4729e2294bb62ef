//! Commands that instances are lost with.
//!
//! A command on which a target dies is in doubt, is fenced, goes to the next path, and kills that one, too: one bad block
//! takes a whole subsystem away. But a target that crashes on its own, or a switch that flaps, loses commands in just the
//! same way, and those must not fail. So a command is suspected by counting, and judged by evidence alone:
//!
//! 1. After [`LOSSES`] instances that the target ended while a command was outstanding on them, the command is a *suspect*.
//!    It is not sent again together with others.
//! 2. Once the last of these instances is fenced, it gets a turn: one instance is *isolated* (its lanes let what is
//!    outstanding end and start nothing there), another command shows that the instance serves I/O (the *witness*, a Flush),
//!    and then the suspect is sent there, alone.
//! 3. An answer clears it. If the target ends the instance, that is a *death*. It counts only if the same controller loses no
//!    instance without the suspect within [`LIVED`] of it, and if some instance of the namespace lives on for [`LIVED`].
//! 4. After [`DEATHS`] of them, and one more witness that is answered, the suspect fails. A death within [`LIVED`] of which other
//!    controllers lost instances as well weighs half: the command may have ended the whole target, or something else did.
//!
//! Whatever else happens is no evidence. The suspect waits, its next turn comes later each time ([`PAUSE`] to [`PAUSE_MAX`]),
//! and it is named as long as it waits. An instance is isolated for a bounded time ([`Suspects::live`]), and after a turn that
//! used this time up the others have it for as long.
//!
//! Several suspects of one loss take turns on the same isolated instance, those with the fewest deaths first: `n` of them, of
//! which `p` end their instances, take `n` round trips, `2 p` fences with their reconnects, and two times [`LIVED`].
//!
//! An end that this host decided on, or was asked for, is no loss of this kind. Nor is silence (no answer to Keep Alive, an
//! I/O timeout), which every dead path shows - unless the suspect was the only command outstanding on the instance.
//!
//! The witness is timed as every command is, so that an instance that never answers it is lost like any other. An instance on
//! which a turn did not come to its end in time is isolated again only after the others.
//!
//! A command has the name that its first lane gave it, whichever lane carries it out later, and its turn is where it is. A lane
//! with a queue on the isolated instance says that it is empty when its last command there has ended, one without a queue at
//! once.
//!
//! One of these machines stands for one subsystem. It sees no lane and no clock: its owner tells it what happens and carries
//! out what [`Suspects::poll`] decides.

use crate::guards::{self as conditions, Guard};
use crate::{CtrlId, GuardKey, HeadId, LaneId, LedgerEntry, LifeId, Op};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use interlock_base::Instant;
pub use interlock_fence::{Cause, SuspectCommand};

/// Instances lost with a command that make it a suspect.
pub const LOSSES: u8 = 3;
/// Deaths of isolated instances that fail a suspect.
pub const DEATHS: usize = 2;
/// How long an instance must live without a suspect, after a death, for that death to count.
pub const LIVED: Duration = Duration::from_secs(1);
/// From a turn that showed nothing to the next one of the same suspect. It doubles from turn to turn.
pub const PAUSE: Duration = Duration::from_millis(250);
/// The longest such pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// An instance is isolated for at least this long before it is given back.
const ISOLATED: Duration = Duration::from_secs(5);
/// While a suspect waits for an instance to come up, it is looked again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A command that was outstanding on an instance when a lane stopped using it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Carried {
    /// The command, under the name that it has had since its first loss.
    pub command: LedgerEntry,
    /// The lane does not send it again before it is told to: it was carried by [`LOSSES`] instances or more.
    pub waits: bool,
}

/// What a lane knows of a request that was outstanding on a lost instance. It goes with the request to a lane that carries it out
/// ([`forward`](crate::forward)), and so does its name: that of its first lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Carriers {
    /// Of its name: not a [`GuardKey`], because that would take more room in every output of a lane.
    seq: u64,
    lane: u16,
    /// Instances that were lost with it, by whomever they were ended.
    pub(crate) lost: u8,
    /// Control has said that it is no suspect, since the last of them.
    pub(crate) free: bool,
}

impl Carriers {
    pub(crate) const fn new(name: GuardKey) -> Self {
        Self { seq: name.seq, lane: name.lane, lost: 0, free: false }
    }

    /// What control knows it by.
    pub(crate) const fn name(self) -> GuardKey {
        GuardKey { seq: self.seq, lane: self.lane }
    }

    /// It is not sent again before control has spoken.
    pub(crate) const fn waits(self) -> bool {
        self.lost >= LOSSES && !self.free
    }
}

/// What control tells lanes about suspects and the instances on which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Start nothing more on the instance. Answered by [`Report::Isolated`] once nothing is outstanding there.
    Isolate(LifeId),
    /// The instance is as any other again.
    Share(LifeId),
    /// Send a Flush to the namespace on the isolated instance. Answered by [`Report::Witnessed`], or not at all.
    Witness {
        /// The instance.
        life: LifeId,
        /// The namespace identifier there.
        nsid: u32,
    },
    /// Send this suspect on the isolated instance. If that cannot be, the answer is [`Report::NotSent`].
    Alone {
        /// The suspect.
        key: GuardKey,
        /// The instance.
        life: LifeId,
        /// The namespace identifier there.
        nsid: u32,
    },
    /// The command is no suspect: send it again as any other.
    Free(GuardKey),
    /// End it.
    Fail {
        /// The suspect.
        key: GuardKey,
        /// Instances that were lost with it.
        instances: u32,
    },
}

/// What a lane tells control about such commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// These commands were outstanding on an instance that this lane uses no more. Said before `Condemned`, where there are
    /// any.
    Carried {
        /// The instance.
        life: LifeId,
        /// The commands.
        commands: Vec<Carried>,
    },
    /// Nothing of this lane is outstanding on the isolated instance.
    Isolated(LifeId),
    /// The witness was answered.
    Witnessed(LifeId),
    /// The suspect could not be sent on the isolated instance: it waits for a protected range, or is too large for it.
    NotSent(GuardKey),
    /// The command was answered, and goes on all the same (an error that is tried again).
    Answered(GuardKey),
    /// Another lane had this command, which may be a suspect, and this one keeps it back from now on.
    Here(GuardKey),
    /// The command has ended. Every lane that had it says so, after everything else that it says of it.
    Ended(GuardKey),
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Tell every lane.
    All(Order),
    /// Tell the lane that has the command of this name.
    One(GuardKey, Order),
    /// Tell the world.
    Tell(SuspectCommand, Stage),
    /// Instances of this controller were lost because of a suspect: it does not flap.
    Forgive(CtrlId),
}

/// How far a suspect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It is one now.
    Suspected,
    /// It is sent alone on this instance.
    Alone(LifeId),
    /// It was answered: it is none.
    Cleared,
    /// Its turn showed nothing, and it waits for the next one.
    Waits(Unclear),
    /// It fails.
    Failed,
}

/// Why a turn showed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unclear {
    /// Instances are lost without it as well.
    LostWithout,
    /// The isolated instance did not become empty, or did not answer, in its time.
    Slow,
    /// It could not be sent: it waits for a protected range.
    NotSent,
    /// Its instance ended otherwise.
    Ended,
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LostWithout => "instances are lost without it as well",
            Self::Slow => "the instance on which it was to be alone did not answer in time",
            Self::NotSent => "it could not be sent alone",
            Self::Ended => "the instance on which it was to be alone ended otherwise",
        })
    }
}

/// A death of an isolated instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Death {
    ctrl: CtrlId,
    at: Instant,
    /// Some instance lived on for [`LIVED`].
    counts: bool,
    /// Another controller lost an instance at about the same time.
    together: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stands {
    /// Not suspected.
    Counted,
    /// Suspected; this instance, which carried it last, may still execute it.
    Fencing(LifeId),
    /// It waits for its turn, not before this moment.
    Ready(Instant),
    /// It is its turn.
    Turn,
    /// The time of its turn was over before it was answered: others use its instance as well.
    Shared(LifeId),
    /// Its lane was told to end it.
    Failed,
}

#[derive(Clone, Debug, Hash)]
struct Command {
    head: HeadId,
    op: Op,
    range: Range<u64>,
    instances: u32,
    losses: u8,
    /// The instance that carried it last.
    last: LifeId,
    /// Controllers whose instances were lost with it.
    lost_on: BTreeSet<CtrlId>,
    deaths: Vec<Death>,
    stands: Stands,
    /// Turns that showed nothing.
    unclear: u32,
}

impl Command {
    const fn new(command: &LedgerEntry) -> Self {
        Self {
            head: command.head,
            op: command.op,
            range: command.range.start..command.range.end,
            instances: 0,
            losses: 0,
            last: command.life,
            lost_on: BTreeSet::new(),
            deaths: Vec::new(),
            stands: Stands::Counted,
            unclear: 0,
        }
    }

    fn shown(&self, key: GuardKey) -> SuspectCommand {
        let alone = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX);
        let (head, op, range, instances) = (self.head, self.op, self.range.clone(), self.instances);
        SuspectCommand { key, head, op, range, instances, alone }
    }

    fn is_suspect(&self) -> bool {
        self.stands != Stands::Counted
    }

    /// A death that does not count yet.
    fn pending(&self) -> Option<Instant> {
        self.deaths.iter().filter(|death| !death.counts).map(|death| death.at).max()
    }

    fn is_judged(&self) -> bool {
        let halves: usize = self.deaths.iter().map(|death| if death.together { 1 } else { 2 }).sum();
        halves >= 2 * DEATHS && self.pending().is_none()
    }
}

/// A live instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Instance {
    ctrl: CtrlId,
    since: Instant,
    limit: Duration,
}

/// What happens on the isolated instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Lanes have commands outstanding there.
    Emptying,
    /// Nothing.
    Idle,
    /// A witness is outstanding, for the sake of this suspect, in the namespace that has this identifier there.
    Witness(GuardKey, u32),
    /// The suspect is outstanding.
    Alone(GuardKey),
}

/// An isolated instance.
#[derive(Clone, Debug, Hash)]
struct Turn {
    life: LifeId,
    began: Instant,
    until: Instant,
    /// Lanes that have commands outstanding there.
    busy: BTreeSet<LaneId>,
    step: Step,
}

/// A way to the namespace of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// The instance.
    pub life: LifeId,
    /// The namespace identifier there.
    pub nsid: u32,
    /// The lane that has the command has an I/O queue there.
    pub own_queue: bool,
}

/// The commands of one subsystem that instances were lost with. See the module's text.
#[derive(Clone, Debug, Hash, Default)]
pub struct Suspects {
    lanes: u16,
    /// Commands that were outstanding when an instance was lost and that have not ended.
    commands: BTreeMap<GuardKey, Command>,
    /// What instances carried of which not all lanes have spoken yet; and whether its lane keeps it back.
    carried: BTreeMap<LifeId, BTreeMap<GuardKey, bool>>,
    instances: BTreeMap<LifeId, Instance>,
    /// When a controller last lost an instance that no isolated suspect explains, and what that one carried.
    unexplained: BTreeMap<CtrlId, (Instant, BTreeSet<GuardKey>)>,
    turn: Option<Turn>,
    /// Instances on which a turn had no end in its time, since a turn ended otherwise.
    slow: BTreeSet<LifeId>,
    /// Others have the instances until then.
    rest_until: Instant,
    out: VecDeque<Decision>,
}

impl Suspects {
    /// Of a host with this number of lanes.
    #[must_use]
    pub fn new(lanes: u16) -> Self {
        Self { lanes, ..Self::default() }
    }

    /// True while there is a suspect.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.turn.is_some() || self.commands.values().any(Command::is_suspect)
    }

    /// True if it knows of no instance and no command.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.instances.is_empty() && self.commands.is_empty() && self.carried.is_empty() && self.out.is_empty()
    }

    /// True if this command was outstanding on an instance that was lost.
    #[must_use]
    pub fn carries(&self, key: GuardKey) -> bool {
        self.commands.contains_key(&key)
    }

    /// The suspects.
    pub fn suspects(&self) -> impl Iterator<Item = SuspectCommand> + '_ {
        self.commands.iter().filter(|(_, command)| command.is_suspect()).map(|(key, command)| command.shown(*key))
    }

    /// The instance carries a suspect alone, so that its loss says nothing about its path.
    #[must_use]
    pub fn is_alone(&self, life: LifeId) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.life == life && matches!(turn.step, Step::Alone(_)))
    }

    /// The suspect that the instance carries alone.
    #[must_use]
    pub fn alone_on(&self, life: LifeId) -> Option<SuspectCommand> {
        let Some(Turn { step: Step::Alone(key), .. }) = self.turn.as_ref().filter(|turn| turn.life == life) else {
            return None;
        };
        Some(self.commands.get(key)?.shown(*key))
    }

    /// An instance is usable from now on. It is isolated for at most two times its Keep Alive Timeout and a second, so that
    /// also a silent death is noticed, and at least for 5 s.
    pub fn live(&mut self, now: Instant, life: LifeId, ctrl: CtrlId, kato: Duration) {
        let limit = ISOLATED.max(kato * 2 + Duration::from_secs(1));
        self.instances.insert(life, Instance { ctrl, since: now, limit });
    }

    /// An instance is not used any more, by whomever that was decided. If it is lost, [`Suspects::lost`] follows.
    pub fn not_live(&mut self, now: Instant, life: LifeId) {
        self.gone(life);
        if self.turn.as_ref().is_some_and(|turn| turn.life == life && !matches!(turn.step, Step::Alone(_))) {
            let Some(turn) = self.turn.take() else { return };
            if let Step::Witness(key, _) = turn.step {
                self.unclear(now, key, Unclear::Ended);
            }
        }
    }

    fn gone(&mut self, life: LifeId) {
        self.instances.remove(&life);
        self.slow.remove(&life);
    }

    /// A lane has stopped using an instance, on which these of its commands were outstanding.
    pub fn carried(&mut self, life: LifeId, commands: &[Carried]) {
        let carried = self.carried.entry(life).or_default();
        for Carried { command, waits } in commands {
            self.commands.entry(command.key).or_insert_with(|| Command::new(command)).last = life;
            // One instance may have carried it twice: it was forwarded to a lane that did not know yet. Lanes are not heard in order.
            *carried.entry(command.key).or_default() |= *waits;
        }
    }

    /// An instance is lost, and every lane has said what it carried.
    pub fn lost(&mut self, now: Instant, life: LifeId, ctrl: CtrlId, cause: Cause) {
        self.gone(life);
        let mut carried = self.carried.remove(&life).unwrap_or_default();
        carried.retain(|key, _| self.commands.contains_key(key));
        let counts = cause == Cause::Target || (cause == Cause::Silence && carried.len() == 1);
        // What was not outstanding any more did not end it.
        let alone = match self.turn.take_if(|turn| turn.life == life).map(|turn| turn.step) {
            Some(Step::Alone(key)) => Some(key),
            _ => None,
        };
        let death = alone.filter(|key| counts && carried.contains_key(key));
        if let Some(key) = death {
            self.died(now, key, ctrl);
        } else {
            if counts {
                self.lost_unexplained(now, ctrl, carried.keys().copied().collect());
            }
            if let Some(key) = alone {
                self.unclear(now, key, Unclear::Ended);
            }
        }
        for (key, waits) in carried {
            let Some(command) = self.commands.get_mut(&key) else { continue };
            if counts {
                command.instances += 1;
                command.losses = command.losses.saturating_add(1);
                command.lost_on.insert(ctrl);
            }
            if command.is_suspect() {
                command.stands = Stands::Fencing(life);
            } else if command.losses >= LOSSES {
                command.stands = Stands::Fencing(life);
                self.out.push_back(Decision::Tell(command.shown(key), Stage::Suspected));
                self.out.extend(command.lost_on.iter().map(|ctrl| Decision::Forgive(*ctrl)));
            } else if waits {
                self.out.push_back(Decision::One(key, Order::Free(key)));
            }
        }
    }

    /// The isolated instance that carried this suspect was lost.
    fn died(&mut self, now: Instant, key: GuardKey, ctrl: CtrlId) {
        if self.disturbed(key, ctrl).is_some_and(|at| now < at + LIVED) {
            return self.unclear(now, key, Unclear::LostWithout);
        }
        let without = |(at, carried): &(Instant, BTreeSet<GuardKey>)| now < *at + LIVED && !carried.contains(&key);
        let together = self.unexplained.iter().any(|(other, loss)| *other != ctrl && without(loss));
        if let Some(command) = self.commands.get_mut(&key) {
            command.deaths.push(Death { ctrl, at: now, counts: false, together });
        }
    }

    /// When the controller last lost an instance that did not carry this suspect, and no other suspect alone.
    fn disturbed(&self, key: GuardKey, ctrl: CtrlId) -> Option<Instant> {
        self.unexplained.get(&ctrl).filter(|(_, carried)| !carried.contains(&key)).map(|(at, _)| *at)
    }

    /// A controller lost an instance, and no isolated suspect explains that: deaths of its other instances prove nothing
    /// about those commands that this one did not carry.
    fn lost_unexplained(&mut self, now: Instant, ctrl: CtrlId, carried: BTreeSet<GuardKey>) {
        let mut unclear = Vec::new();
        for (key, command) in self.commands.iter_mut().filter(|(key, _)| !carried.contains(key)) {
            let before = command.deaths.len();
            command.deaths.retain(|death| death.ctrl != ctrl);
            command.deaths.iter_mut().for_each(|death| death.together |= now < death.at + LIVED);
            if command.deaths.len() < before {
                unclear.push(*key);
            }
        }
        self.unexplained.insert(ctrl, (now, carried));
        for key in unclear {
            self.unclear(now, key, Unclear::LostWithout);
        }
    }

    /// The instance is over: what it carried may be sent again.
    pub fn over(&mut self, now: Instant, life: LifeId) {
        self.carried.remove(&life);
        for command in self.commands.values_mut().filter(|command| command.stands == Stands::Fencing(life)) {
            command.stands = Stands::Ready(now + pause(command.unclear));
        }
    }

    /// The instance was given up unfenced: the changes that it carried have ended, the rest may be sent again.
    pub fn given_up(&mut self, now: Instant, life: LifeId) {
        self.commands.retain(|_, command| command.last != life || !command.op.changes_media());
        self.over(now, life);
    }

    /// The command has ended, or was answered and goes on: no instance was lost with that one.
    pub fn ended(&mut self, now: Instant, key: GuardKey) {
        let Some(command) = self.commands.remove(&key) else { return };
        if let Some(turn) = &mut self.turn
            && matches!(turn.step, Step::Alone(of) | Step::Witness(of, _) if of == key)
        {
            turn.step = Step::Idle;
        }
        if command.is_suspect() && command.stands != Stands::Failed {
            self.out.push_back(Decision::Tell(command.shown(key), Stage::Cleared));
        }
        if !self.is_busy() {
            self.unexplained.retain(|_, (at, _)| now < *at + LIVED);
        }
    }

    /// Another lane keeps the command back from now on. What its former lane was told meanwhile was told to nobody.
    pub fn here(&mut self, key: GuardKey) {
        for carried in self.carried.values_mut() {
            if let Some(waits) = carried.get_mut(&key) {
                // It is judged later, and the lane waits to hear of it.
                *waits = true;
                return;
            }
        }
        let Some(command) = self.commands.get(&key) else { return };
        match command.stands {
            Stands::Counted => self.out.push_back(Decision::One(key, Order::Free(key))),
            Stands::Failed => {
                let instances = command.instances;
                self.out.push_back(Decision::One(key, Order::Fail { key, instances }));
            }
            Stands::Fencing(_) | Stands::Ready(_) | Stands::Turn | Stands::Shared(_) => {}
        }
    }

    /// Nothing of this lane is outstanding on the isolated instance.
    pub fn isolated(&mut self, lane: LaneId, life: LifeId) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.life == life && turn.step == Step::Emptying) {
            turn.busy.remove(&lane);
            if turn.busy.is_empty() {
                turn.step = Step::Idle;
            }
        }
    }

    /// The witness was answered: this instance serves I/O without the suspect whose turn it is.
    pub fn witnessed(&mut self, life: LifeId) {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.life == life) else { return };
        let Step::Witness(key, nsid) = turn.step else { return };
        turn.step = Step::Idle;
        let Some(command) = self.commands.get_mut(&key) else { return };
        if command.is_judged() {
            self.fail(key);
            return;
        }
        turn.step = Step::Alone(key);
        self.out.push_back(Decision::One(key, Order::Alone { key, life, nsid }));
        self.out.push_back(Decision::Tell(command.shown(key), Stage::Alone(life)));
    }

    /// The suspect could not be sent.
    pub fn not_sent(&mut self, now: Instant, key: GuardKey) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.step == Step::Alone(key)) {
            turn.step = Step::Idle;
            self.unclear(now, key, Unclear::NotSent);
        }
    }

    fn fail(&mut self, key: GuardKey) {
        let Some(command) = self.commands.get_mut(&key) else { return };
        command.stands = Stands::Failed;
        let (shown, instances) = (command.shown(key), command.instances);
        self.out.push_back(Decision::Tell(shown, Stage::Failed));
        self.out.push_back(Decision::One(key, Order::Fail { key, instances }));
    }

    fn unclear(&mut self, now: Instant, key: GuardKey, why: Unclear) {
        let Some(command) = self.commands.get_mut(&key) else { return };
        command.unclear = command.unclear.saturating_add(1);
        if why != Unclear::Slow {
            self.slow.clear();
        }
        if matches!(command.stands, Stands::Turn | Stands::Ready(_)) {
            command.stands = Stands::Ready(now + pause(command.unclear));
        }
        self.out.push_back(Decision::Tell(command.shown(key), Stage::Waits(why)));
    }

    /// When to call [`Suspects::poll`] again at the latest. `None`: nothing waits.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if let Some(turn) = &self.turn {
            return Some(turn.until);
        }
        let due = |command: &Command| {
            let Stands::Ready(at) = command.stands else { return None };
            let lived = command.pending().map(|death| {
                let lived = self.instances.values().map(|instance| instance.since.max(death) + LIVED);
                lived.min().unwrap_or(now + LOOK_AGAIN)
            });
            let at = at.max(self.rest_until).max(lived.unwrap_or(at));
            // Due, and not begun: no instance serves its namespace. One that comes up asks again.
            Some(if at <= now { now + LOOK_AGAIN } else { at })
        };
        self.commands.values().filter_map(due).min()
    }

    /// What to do next; `None`: nothing. `ways`: the instances that serve the namespace of a command now. Call it until it says
    /// `None`, after every other call.
    pub fn poll(&mut self, now: Instant, ways: impl Fn(GuardKey, HeadId) -> Vec<Way>) -> Option<Decision> {
        if self.out.is_empty() {
            self.step(now, ways);
        }
        self.out.pop_front()
    }

    fn step(&mut self, now: Instant, ways: impl Fn(GuardKey, HeadId) -> Vec<Way>) {
        self.confirm(now, &ways);
        if !conditions::enabled(Guard::SuspectAlone) {
            let ready = |command: &&Command| matches!(command.stands, Stands::Ready(_));
            if let Some(key) = self.commands.iter().find(|(_, command)| ready(command)).map(|(key, _)| *key) {
                self.fail(key);
            }
            return;
        }
        if self.turn.as_ref().is_some_and(|turn| now >= turn.until) {
            self.end_turn(now);
        }
        match self.turn.as_ref().map(|turn| (turn.life, turn.step)) {
            Some((life, Step::Idle)) => self.next_on(now, life, &ways),
            Some(_) => {}
            None if now >= self.rest_until => self.begin_turn(now, &ways),
            None => {}
        }
    }

    /// Deaths after which an instance of the namespace has lived long enough count.
    fn confirm(&mut self, now: Instant, ways: &impl Fn(GuardKey, HeadId) -> Vec<Way>) {
        let instances = &self.instances;
        for (key, command) in &mut self.commands {
            let Some(last) = command.pending() else { continue };
            let lived = |life: &LifeId| {
                let since = instances.get(life).map(|instance| instance.since.max(last));
                since.is_some_and(|since| now >= since + LIVED)
            };
            if ways(*key, command.head).iter().any(|way| lived(&way.life))
                || !conditions::enabled(Guard::SuspectWitness)
            {
                command.deaths.iter_mut().for_each(|death| death.counts = true);
            }
        }
    }

    /// Suspects whose turn it could be, those with the fewest deaths first, then in the order of their names.
    fn in_turn(&self, now: Instant) -> Vec<(GuardKey, HeadId)> {
        let ready = |command: &Command| match command.stands {
            Stands::Ready(at) => at <= now && command.pending().is_none(),
            _ => false,
        };
        let mut ready: Vec<_> = self.commands.iter().filter(|(_, command)| ready(command)).collect();
        ready.sort_by_key(|(key, command)| (command.deaths.len(), **key));
        ready.into_iter().map(|(key, command)| (*key, command.head)).collect()
    }

    /// Isolates an instance for the first suspect that has one: one that was not too slow for the last turns, of the controller
    /// that has lost none without a suspect for longest, and of these the youngest.
    fn begin_turn(&mut self, now: Instant, ways: &impl Fn(GuardKey, HeadId) -> Vec<Way>) {
        for (key, head) in self.in_turn(now) {
            let ways = ways(key, head);
            // Its lane sends it there. One that has no queue anywhere hands it over to a lane that has.
            let own = ways.iter().filter(|way| way.own_queue);
            let known = own.filter_map(|way| Some((way.life, *self.instances.get(&way.life)?)));
            let calm = |instance: &Instance| core::cmp::Reverse(self.disturbed(key, instance.ctrl));
            let in_time = |life: &LifeId| !self.slow.contains(life);
            let rank = |(life, instance): &(LifeId, Instance)| (in_time(life), calm(instance), instance.since, *life);
            let Some((life, instance)) = known.max_by_key(rank) else { continue };
            if !in_time(&life) {
                // All of them were: they take turns.
                self.slow.clear();
            }
            let busy = (0..self.lanes).map(LaneId).collect();
            self.turn = Some(Turn { life, began: now, until: now + instance.limit, busy, step: Step::Emptying });
            self.out.push_back(Decision::All(Order::Isolate(life)));
            return;
        }
    }

    /// The next suspect that can be tried on the isolated instance, or the instance is given back. None begins late: it
    /// needs its time, too.
    fn next_on(&mut self, now: Instant, life: LifeId, ways: &impl Fn(GuardKey, HeadId) -> Vec<Way>) {
        let Some(Turn { began, until, .. }) = self.turn else { return };
        let late = now >= began + (until - began) / 2;
        let way = |key: GuardKey, head| {
            let is_way = |way: &Way| way.life == life && way.own_queue && self.instances.contains_key(&life);
            ways(key, head).into_iter().find(is_way)
        };
        let next = self.in_turn(now).into_iter().find_map(|(key, head)| Some((key, way(key, head)?.nsid)));
        let Some((key, nsid)) = next.filter(|_| !late) else {
            self.turn = None;
            self.rest_until = if late { now + (now - began) } else { self.rest_until };
            self.out.push_back(Decision::All(Order::Share(life)));
            return;
        };
        if let Some(command) = self.commands.get_mut(&key) {
            command.stands = Stands::Turn;
        }
        if let Some(turn) = &mut self.turn {
            turn.step = Step::Witness(key, nsid);
        }
        if conditions::enabled(Guard::SuspectWitness) {
            self.out.push_back(Decision::One(key, Order::Witness { life, nsid }));
        } else {
            self.witnessed(life);
        }
    }

    /// The instance was isolated long enough.
    fn end_turn(&mut self, now: Instant) {
        let Some(turn) = self.turn.take() else { return };
        self.rest_until = now + (now - turn.began);
        self.slow.insert(turn.life);
        self.out.push_back(Decision::All(Order::Share(turn.life)));
        match turn.step {
            Step::Alone(key) => {
                if let Some(command) = self.commands.get_mut(&key) {
                    command.stands = Stands::Shared(turn.life);
                }
                self.unclear(now, key, Unclear::Slow);
            }
            Step::Witness(key, _) => self.unclear(now, key, Unclear::Slow),
            Step::Emptying | Step::Idle => {
                for (key, _) in self.in_turn(now) {
                    self.unclear(now, key, Unclear::Slow);
                }
            }
        }
    }
}

/// Before the next turn of a suspect, after this number of turns that showed nothing.
fn pause(unclear: u32) -> Duration {
    if unclear == 0 { Duration::ZERO } else { PAUSE.saturating_mul(1 << unclear.min(8)).min(PAUSE_MAX) }
}

#[cfg(test)]
mod tests;
