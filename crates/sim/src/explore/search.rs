//! The walk: depth first, each state once.

use super::scene::SmallWorld;
use super::state::{Action, State};
use crate::mutation::Mutation;
use crate::run::caught;
use crate::world::Violation;
use std::collections::HashSet;
use std::time::{Duration, Instant as Clock};

/// When to stop although not everything was seen.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so long.
    pub time: Duration,
    /// After so many states: each costs about 16 bytes.
    pub states: u64,
}

/// What a walk through one small world saw.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// Different states.
    pub states: u64,
    /// Steps that were tried.
    pub edges: u64,
    /// States in which nothing can happen any more.
    pub ends: u64,
    /// The longest way that was walked.
    pub depth: usize,
    /// True if every state was seen that can be reached.
    pub complete: bool,
    /// Real time.
    pub took: Duration,
    /// The first thing that was wrong.
    pub found: Option<Found>,
    /// The guard that was switched off was asked for.
    pub reached: bool,
}

/// Something wrong, and how it comes to that.
#[derive(Clone, Debug)]
pub struct Found {
    /// What.
    pub violation: Violation,
    /// The shortest way there that was found, told step by step.
    pub story: Vec<String>,
    /// How many steps that are.
    pub steps: usize,
}

struct Frame {
    state: State,
    actions: Vec<Action>,
    next: usize,
}

/// Walks through a small world until everything was seen, something is wrong, or a limit is reached.
#[must_use]
pub fn explore(world: &SmallWorld, limits: Limits, mutation: Option<Mutation>) -> Exploration {
    Mutation::install(mutation);
    let began = Clock::now();
    let mut seen = HashSet::new();
    let mut result = Exploration {
        states: 0,
        edges: 0,
        ends: 0,
        depth: 0,
        complete: false,
        took: Duration::ZERO,
        found: None,
        reached: false,
    };
    let start = world.start();
    let mut bad = walk(start.clone(), &limits, began, &mut seen, &mut result);
    result.reached = Mutation::reached();
    result.complete = bad.is_none() && began.elapsed() < limits.time && result.states < limits.states;
    if let Some((way, violation)) = bad.take() {
        let way = shorten(&start, way, &violation);
        let (story, violation) = tell(&start, &way).unwrap_or((Vec::new(), violation));
        result.found = Some(Found { violation, story, steps: way.len() });
    }
    Mutation::install(None);
    result.took = began.elapsed();
    result
}

type Way = Vec<Action>;

fn walk(
    start: State,
    limits: &Limits,
    began: Clock,
    seen: &mut HashSet<u64>,
    result: &mut Exploration,
) -> Option<(Way, Violation)> {
    let way = |stack: &[Frame]| stack.iter().map(|frame| frame.actions[frame.next - 1]).collect();
    seen.insert(start.print());
    result.states = 1;
    let actions = start.actions();
    let mut stack = vec![Frame { state: start, actions, next: 0 }];
    while let Some(frame) = stack.last_mut() {
        let Some(action) = frame.actions.get(frame.next).copied() else {
            stack.pop();
            continue;
        };
        frame.next += 1;
        let mut state = frame.state.clone();
        result.edges += 1;
        step(&mut state, action);
        if state.wrong.is_none() && !seen.insert(state.print()) {
            continue;
        }
        let actions = if state.wrong.is_none() { state.actions() } else { Vec::new() };
        if actions.is_empty() {
            result.ends += 1;
            let found = state.wrong.clone().or_else(|| state.at_rest());
            if let Some(violation) = found {
                return Some((way(&stack), violation));
            }
        }
        result.states += 1;
        stack.push(Frame { state, actions, next: 0 });
        result.depth = result.depth.max(stack.len());
        if result.states >= limits.states || (result.states % 1024 == 0 && began.elapsed() >= limits.time) {
            break;
        }
    }
    None
}

/// One step; an assertion of the cores that fails is a finding.
fn step(state: &mut State, action: Action) {
    let now = state.now;
    if let Err(violation) = caught(now, || state.carry_out(action)) {
        state.wrong = state.wrong.take().or(Some(violation));
    }
}

/// Walks a way; steps that are not possible are left out. Answers what goes wrong, and after how many steps.
fn follow(start: &State, way: &[Action]) -> (State, Way) {
    let mut state = start.clone();
    let mut taken = Vec::new();
    for action in way {
        if state.wrong.is_some() {
            break;
        }
        if state.actions().contains(action) {
            step(&mut state, *action);
            taken.push(*action);
        }
    }
    if state.wrong.is_none() && state.actions().is_empty() {
        state.wrong = state.at_rest();
    }
    (state, taken)
}

/// Leaves out steps for as long as the same invariant dies: halves first, single steps last.
fn shorten(start: &State, mut way: Way, violation: &Violation) -> Way {
    let mut size = way.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < way.len() {
            let end = (at + size).min(way.len());
            let mut shorter = way.clone();
            shorter.drain(at..end);
            let (state, taken) = follow(start, &shorter);
            if state.wrong.is_some_and(|wrong| wrong.invariant == violation.invariant) && taken.len() < way.len() {
                way = taken;
            } else {
                at = end;
            }
        }
        size /= 2;
    }
    way
}

fn tell(start: &State, way: &[Action]) -> Option<(Vec<String>, Violation)> {
    let mut state = start.clone();
    state.story = Some(Vec::new());
    for action in way {
        step(&mut state, *action);
    }
    if state.wrong.is_none() {
        state.wrong = state.at_rest();
    }
    let violation = state.wrong.take()?;
    Some((state.story.take()?, violation))
}
