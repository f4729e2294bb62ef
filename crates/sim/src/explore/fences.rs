//! Worlds of fences alone: no queue, no bytes, one machine ([`interlock_fence::Fences`]) and whatever can happen at its door.
//!
//! Lost instances, sources with their logs, lanes with their mail, the store and two clocks are played here, each as badly as the
//! specification lets it be; what may happen is tried in every order, and each world is walked to its end.
//!
//! # What is reduced
//! - **Time is abstract.** An answer, the end of a reset, a lane's mail and the store's word come *at once* (before any timer),
//!   *late* (at the first timer after [`LATE`], which is longer than any patience), or, where they may be lost, *never*. Between
//!   these moments a machine that sees only its own deadlines has nothing to tell them apart by. Timers fire in the order of
//!   their deadlines.
//! - **A target is as slow as it may be.** A lost instance can execute until a source has reset it, or until the longest time that
//!   its terms allow has passed since the last byte left this host. An earlier end only makes less wrong, so it is not tried.
//! - **A lane takes its mail and answers in one step.** What it knows before this host knows that it does makes nothing wrong.
//! - **Lanes and sources of one kind are told apart by their names alone**, so only one of several equal ones is made late.
//! - **Answers that prove nothing are counted** ([`FenceWorld::answers`]); after them a source is silent. Without a bound a target
//!   could refuse for ever, and the record of what was asked would never be the same twice.

mod state;

use interlock_base::fingerprint;
use interlock_fence::LifeId;
use state::{Action, State};
use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant as Clock};

/// What may come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slow {
    /// Mail of the last lane.
    Lane,
    /// The answer to a Cross-Controller Reset.
    Answer,
    /// The end of a reset that was begun.
    Reset,
    /// The store's word on who this host is.
    Store,
}

/// How a clock that the hold trusts is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WrongClock {
    /// Neither.
    None,
    /// The one that moments are taken from goes a tenth too fast.
    Monotonic,
    /// The one that nobody sets goes a tenth too fast.
    Raw,
}

/// One world of fences.
#[derive(Clone, Debug)]
pub struct FenceWorld {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    /// Lanes of the host.
    pub lanes: u16,
    /// Writes that were sent and not answered: on which lane, on which instance.
    pub writes: Vec<(u16, LifeId)>,
    /// Instances that are lost, in any order.
    pub lost: Vec<LifeId>,
    /// Somebody asked for that.
    pub asked_for: bool,
    /// Controllers that can reset.
    pub sources: Vec<LifeId>,
    /// The log of the first source holds an entry of an earlier reset of the same name.
    pub old_entry: bool,
    /// The last source carries out an earlier reset of the same name, which its log lists once it has ended, whenever that is;
    /// and sources tell of changes of their logs.
    pub old_reset: bool,
    /// Sources keep what a read was to remove.
    pub keeps: bool,
    /// Answers, ends and reads that prove nothing, in all.
    pub answers: u8,
    /// Sources that die.
    pub deaths: u8,
    /// The first commands that are to be sent cannot be.
    pub unsent: u8,
    /// Late completions that may come.
    pub late: bool,
    /// Somebody may ask that what is held is given up.
    pub give_up: bool,
    /// An earlier process left an instance.
    pub predecessor: bool,
    /// What comes late.
    pub slow: Vec<Slow>,
    /// Time proves something.
    pub bounded: bool,
    /// Which clock is wrong.
    pub clock: WrongClock,
}

/// An instance that is lost.
pub(crate) const A: LifeId = LifeId(1);
/// Another one.
pub(crate) const B: LifeId = LifeId(2);
/// A source.
pub(crate) const S: LifeId = LifeId(3);
/// The next instance of the path of the first: it is a source, too.
pub(crate) const NEXT: LifeId = LifeId(4);
/// What an earlier process left.
pub(crate) const P: LifeId = LifeId(5);

/// Longer than any patience of a fence whose hold is as long as in these worlds.
pub(crate) const LATE: Duration = Duration::from_millis(1_500);

impl FenceWorld {
    /// All of them, the smaller first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let base = Self {
            name: "fences-reset",
            about: "one instance is lost; one source answers in every way, and its log may hold an old entry",
            lanes: 1,
            writes: vec![(0, A)],
            lost: vec![A],
            asked_for: false,
            sources: vec![S],
            old_entry: true,
            old_reset: false,
            keeps: false,
            answers: 2,
            deaths: 1,
            unsent: 0,
            late: false,
            give_up: false,
            predecessor: false,
            slow: vec![Slow::Answer, Slow::Reset],
            bounded: true,
            clock: WrongClock::None,
        };
        let quick = Self { answers: 0, deaths: 0, old_entry: false, slow: Vec::new(), ..base.clone() };
        let timed = Self { sources: Vec::new(), ..quick.clone() };
        vec![
            Self {
                name: "fences-time",
                about: "no source: time alone, with sockets that are quiet at once or late",
                lanes: 2,
                writes: vec![(0, A), (1, A)],
                slow: vec![Slow::Lane],
                ..timed.clone()
            },
            Self {
                name: "fences-fast-clock",
                about: "the same, and the clock that moments are taken from is fast",
                clock: WrongClock::Monotonic,
                ..timed.clone()
            },
            Self {
                name: "fences-fast-raw-clock",
                about: "the same with the other clock",
                clock: WrongClock::Raw,
                ..timed.clone()
            },
            Self {
                name: "fences-asked-for",
                about: "somebody disconnects a controller that left a write unanswered",
                asked_for: true,
                ..timed.clone()
            },
            Self {
                name: "fences-late-lane",
                about: "two lanes, the last of them late; late completions; commands are given up",
                lanes: 2,
                writes: vec![(0, A), (1, A)],
                late: true,
                give_up: true,
                slow: vec![Slow::Lane],
                ..quick.clone()
            },
            Self {
                name: "fences-late-ledger",
                about: "two lanes, and only the late one has something in doubt",
                lanes: 2,
                writes: vec![(1, A)],
                slow: vec![Slow::Lane],
                ..quick.clone()
            },
            Self {
                name: "fences-silent-store",
                about: "the store says late, or never, whether this process is still the host",
                late: true,
                give_up: true,
                slow: vec![Slow::Store],
                ..quick.clone()
            },
            Self {
                name: "fences-unbounded",
                about: "KATO 0: no time proves anything; what is held is given up in the end, and stays protected",
                late: true,
                give_up: true,
                bounded: false,
                answers: 1,
                slow: vec![Slow::Answer],
                ..quick.clone()
            },
            Self {
                name: "fences-predecessor",
                about: "an earlier process left an instance, and another is lost",
                predecessor: true,
                answers: 1,
                slow: vec![Slow::Answer],
                ..quick.clone()
            },
            base.clone(),
            Self {
                name: "fences-unsent",
                about: "the first commands cannot be sent; then the source answers in every way, and may die",
                unsent: 2,
                old_entry: false,
                slow: vec![Slow::Answer],
                ..base.clone()
            },
            Self {
                name: "fences-fails-late",
                about: "one source begins a reset, is asked again meanwhile, and fails at it",
                answers: 5,
                deaths: 0,
                old_entry: false,
                slow: vec![Slow::Reset],
                ..base.clone()
            },
            Self {
                name: "fences-kept-log",
                about: "a source keeps what reads were to remove",
                keeps: true,
                deaths: 0,
                ..base.clone()
            },
            Self {
                name: "fences-kept-late",
                about: "the same, and the old entry comes after the log was read",
                keeps: true,
                deaths: 0,
                old_entry: false,
                old_reset: true,
                ..base.clone()
            },
            Self {
                name: "fences-two-sources",
                about: "one instance is lost; two sources answer in every way, and an earlier reset of the same name ends \
                        in the log of one of them",
                sources: vec![S, NEXT],
                old_entry: false,
                old_reset: true,
                slow: vec![Slow::Reset],
                ..base.clone()
            },
            Self {
                name: "fences-two-lost",
                about: "two instances are lost in any order, and two sources answer in every way",
                writes: vec![(0, A), (0, B)],
                lost: vec![A, B],
                sources: vec![S, NEXT],
                answers: 1,
                deaths: 0,
                slow: vec![Slow::Reset],
                ..base
            },
        ]
    }
}

/// What a walk saw.
#[derive(Clone, Debug)]
pub struct FencesSeen {
    /// Different states.
    pub states: u64,
    /// Steps that were tried.
    pub steps: u64,
    /// States in which nothing can happen any more.
    pub ends: u64,
    /// True if every state was seen that can be reached.
    pub complete: bool,
    /// Real time.
    pub took: Duration,
    /// What was wrong first: the invariant, and how it comes to that.
    pub found: Option<(&'static str, Vec<String>)>,
}

/// Walks through a world until everything was seen, something is wrong, or a limit is reached.
#[must_use]
pub fn explore_fences(world: &FenceWorld, states: u64, time: Duration) -> FencesSeen {
    let began = Clock::now();
    let mut result = FencesSeen { states: 1, steps: 0, ends: 0, complete: true, took: Duration::ZERO, found: None };
    let start = State::new(world);
    let mut seen = HashSet::from([fingerprint(&start)]);
    let first = start.actions(world);
    let mut stack: Vec<(State, Vec<Action>, usize)> = vec![(start, first, 0)];
    while let Some((state, actions, next)) = stack.last_mut() {
        let Some(action) = actions.get(*next).copied() else {
            stack.pop();
            continue;
        };
        *next += 1;
        result.steps += 1;
        let mut after = state.clone();
        after.carry_out(world, action);
        if after.wrong.is_none() && !seen.insert(fingerprint(&after)) {
            continue;
        }
        let actions = if after.wrong.is_some() { Vec::new() } else { after.actions(world) };
        if actions.is_empty() {
            result.ends += 1;
            if let Some(wrong) = after.wrong.or_else(|| after.at_rest()) {
                let story = stack.iter().map(|(_, actions, next)| format!("{:?}", actions[*next - 1])).collect();
                result.found = Some((wrong, story));
                result.complete = false;
                break;
            }
        }
        result.states += 1;
        if result.states >= states || (result.states.is_multiple_of(1024) && began.elapsed() >= time) {
            result.complete = false;
            break;
        }
        stack.push((after, actions, 0));
    }
    result.took = began.elapsed();
    result
}

/// Keys by instance.
type Keys = BTreeSet<interlock_fence::GuardKey>;
