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
    /// Try the steps of a connection that is being set up in every order too, although that makes no difference: to
    /// see that it makes none.
    pub unreduced: bool,
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
    /// All of them in one number, whatever the order in which they were found.
    pub ends_print: u64,
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
    /// What the only action of this frame leads to, if that is known already.
    forced: Option<State>,
}

impl Frame {
    fn enter(state: State, unreduced: bool) -> Self {
        if state.wrong.is_some() {
            return Self { state, actions: Vec::new(), next: 0, forced: None };
        }
        if !unreduced && let Some((action, next)) = silent_step(&state) {
            return Self { state, actions: vec![action], next: 0, forced: Some(next) };
        }
        let actions = state.actions();
        Self { state, actions, next: 0, forced: None }
    }
}

/// A step that may be taken before all others, if there is one (a partial-order reduction).
///
/// A controller that appears, and each of its queues, is set up over a healthy connection that carries one request at a
/// time, and most steps of that change nothing else: TCP connects, the target takes a request and answers it, the host
/// takes an answer and sends the next request. Such a step is tried on a copy and counts as *silent* if no mail was
/// posted, no job begun, no other connection touched, nothing executed, nothing told that anybody judges by (but that a
/// life was enabled), and the target was not involved in an answer nor the host in a request. Then
/// - nothing that can happen before it depends on it, nor it on that: it changes a life that nobody else looks at before
///   it is live; nobody else uses the connection, and its path is not to die (again); only one controller appears in
///   these worlds, so names are given to nobody else meanwhile; and no time passes while it is under way (for that there
///   must be no slack);
/// - nobody sees it;
/// - a connection is set up in a bounded number of steps, so nothing else is put off for ever.
///
/// So every order of the other events is still tried if this one comes first, and the states in between need not be
/// kept. A test takes silent steps before and after everything else that can happen; `--unreduced` walks without this,
/// and ends in the same states.
fn silent_step(state: &State) -> Option<(Action, State)> {
    if !state.scene.slack.is_zero() {
        return None;
    }
    state.setting_up().into_iter().find_map(|action| {
        let mut next = state.clone();
        step(&mut next, action);
        (next.wrong.is_none() && next.differs_silently(state, action)).then_some((action, next))
    })
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
        ends_print: 0,
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
    let mut stack = vec![Frame::enter(start, limits.unreduced)];
    while let Some(frame) = stack.last_mut() {
        let Some(action) = frame.actions.get(frame.next).copied() else {
            stack.pop();
            continue;
        };
        frame.next += 1;
        result.edges += 1;
        let state = match frame.forced.take() {
            Some(state) => state,
            None => {
                let mut state = frame.state.clone();
                step(&mut state, action);
                state
            }
        };
        let frame = Frame::enter(state, limits.unreduced);
        let state = &frame.state;
        if frame.forced.is_some() {
            stack.push(frame);
            continue;
        }
        if state.wrong.is_none() && !seen.insert(state.print()) {
            continue;
        }
        if frame.actions.is_empty() {
            result.ends += 1;
            result.ends_print ^= state.print();
            let found = state.wrong.clone().or_else(|| state.at_rest());
            if let Some(violation) = found {
                return Some((way(&stack), violation));
            }
        }
        result.states += 1;
        stack.push(frame);
        result.depth = result.depth.max(stack.len());
        if result.states >= limits.states || (result.states.is_multiple_of(1024) && began.elapsed() >= limits.time) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reduction stands on: in whichever order a silent step and anything else happen, the same comes of it.
    #[test]
    fn silent_steps_commute_with_everything() {
        let worlds = SmallWorld::all();
        let world = worlds.iter().find(|world| world.name == "heard").expect("a small world of that name");
        let mut pairs = 0;
        let mut stack = vec![world.start()];
        let mut seen = HashSet::new();
        while let Some(state) = stack.pop()
            && pairs < 300
        {
            let actions = state.actions();
            if let Some((silent, after)) = silent_step(&state) {
                for action in actions.iter().filter(|action| **action != silent) {
                    let (mut one, mut other) = (after.clone(), state.clone());
                    assert!(one.actions().contains(action), "{silent:?} prevents {action:?}");
                    step(&mut one, *action);
                    step(&mut other, *action);
                    assert!(other.actions().contains(&silent), "{action:?} prevents {silent:?}");
                    step(&mut other, silent);
                    assert_eq!(one.print(), other.print(), "{silent:?} and {action:?}");
                    pairs += 1;
                }
            }
            for action in actions {
                let mut next = state.clone();
                step(&mut next, action);
                if seen.insert(next.print()) {
                    stack.push(next);
                }
            }
        }
        assert_eq!(pairs.min(300), 300, "hardly anything was compared");
    }
}
