//! From a seed that went wrong to the least that still goes wrong.
//!
//! A run has hundreds of requests and dozens of faults, and a mistake needs a handful of each. So what the seed drew is
//! taken away piece by piece - faults, requests, settings - for as long as the same invariant dies: halves first, single
//! pieces last (delta debugging). What is left is told as a story. Nothing here is drawn: the same seed gives the same
//! story.

use crate::draw::{Plan, Reset};
use crate::mutation::Mutation;
use crate::run::caught;
use crate::story::Line;
use crate::world::{Violation, World};
use interlock_base::Instant;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is taken away from a run: faults and requests by the order in which they are drawn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    pub(crate) acts: BTreeSet<u64>,
    pub(crate) ops: BTreeSet<u64>,
}

/// Worlds that a minimisation runs if nobody says otherwise: more bring nothing.
pub const ATTEMPTS: u32 = 4000;

/// The least that still goes wrong, as a story.
#[derive(Clone, Debug)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub violation: Violation,
    /// Faults left, and how many there were.
    pub faults: (usize, usize),
    /// Requests left, and how many there were.
    pub requests: (usize, usize),
    /// Worlds that were run to find it.
    pub attempts: u32,
    world: String,
    lines: Vec<Line>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {:#x}, cut down to {} of {} faults and {} of {} requests in {} runs",
            self.seed, self.faults.0, self.faults.1, self.requests.0, self.requests.1, self.attempts
        )?;
        writeln!(f, "{}\n", self.world)?;
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(f, "\n{}: {}", self.violation.invariant, self.violation.text)
    }
}

struct Attempt {
    violation: Option<Violation>,
    acts: Vec<u64>,
    ops: Vec<u64>,
    lines: Vec<Line>,
}

fn attempt(plan: Plan, told: bool) -> Attempt {
    let mut world = World::new(plan, false);
    world.story = told.then(Default::default);
    let ended = caught(Instant::ZERO, || world.run());
    let now = world.now;
    let violation = world.violations.first().cloned().or(ended.err().map(|found| Violation { at: now, ..found }));
    let (acts, ops) = (std::mem::take(&mut world.struck), std::mem::take(&mut world.submitted));
    let violation = violation.map(|violation| world.retold(violation));
    let lines = world.story.take().map(|story| story.lines(violation.as_ref())).unwrap_or_default();
    Attempt { violation, acts, ops, lines }
}

struct Search {
    plan: Plan,
    invariant: String,
    attempts: u32,
    most: u32,
}

impl Search {
    /// Takes `plan` over if the same invariant still dies in it.
    fn take(&mut self, plan: Plan) -> bool {
        if self.attempts >= self.most {
            return false;
        }
        self.attempts += 1;
        let dies = attempt(plan.clone(), false).violation.is_some_and(|found| found.invariant == self.invariant);
        if dies {
            self.plan = plan;
        }
        dies
    }

    fn settings(&mut self) {
        for simpler in SIMPLER {
            let mut plan = self.plan.clone();
            simpler(&mut plan);
            self.take(plan);
        }
    }

    /// Cuts as many of `all` as possible.
    fn pieces(&mut self, all: &[u64], cut: impl Fn(&mut Cut, &[u64])) {
        let mut left = all.to_vec();
        let mut size = left.len();
        while size > 0 {
            let mut at = 0;
            while at < left.len() {
                let end = (at + size).min(left.len());
                let mut plan = self.plan.clone();
                cut(Arc::make_mut(&mut plan.cut), &left[at..end]);
                if self.take(plan) {
                    left.drain(at..end);
                } else {
                    at = end;
                }
            }
            size /= 2;
        }
    }
}

/// Simpler settings, tried one after the other.
const SIMPLER: [fn(&mut Plan); 20] = [
    |plan| plan.bent_permille = 0,
    |plan| plan.namespaces = 1,
    |plan| plan.host_lanes = 1,
    |plan| plan.target_lanes = 1,
    |plan| plan.controllers = plan.ports,
    |plan| plan.queues_per_lane = 1,
    |plan| plan.abandon_percent = 0,
    |plan| plan.hdgst = false,
    |plan| plan.ddgst = false,
    |plan| plan.ana = false,
    |plan| plan.own_caches = false,
    |plan| plan.in_capsule = 8192,
    |plan| plan.delay_us = (20, 0),
    |plan| plan.mail_us = 1,
    |plan| plan.media_us = 20,
    |plan| plan.depth = 6,
    |plan| plan.kas = 1,
    |plan| plan.fast_io_fail = None,
    |plan| plan.ctrl_loss = None,
    |plan| plan.ports = plan.ports.min(2),
];

/// Cuts the run of a seed down, in about `most` runs. `None` if nothing goes wrong in it.
#[must_use]
pub fn minimise(seed: u64, mutation: Option<Mutation>, most: u32) -> Option<Story> {
    Mutation::install(mutation);
    let story = search(seed, mutation, most);
    Mutation::install(None);
    story
}

fn search(seed: u64, mutation: Option<Mutation>, most: u32) -> Option<Story> {
    let plan = Plan::draw(seed, mutation);
    let whole = attempt(plan.clone(), false);
    let mut search = Search { plan, invariant: whole.violation?.invariant, attempts: 1, most };
    let (faults, requests) = (whole.acts.len(), whole.ops.len());
    for _ in 0..2 {
        let now = attempt(search.plan.clone(), false);
        search.pieces(&now.acts, |cut, some| cut.acts.extend(some));
        let now = attempt(search.plan.clone(), false);
        search.pieces(&now.ops, |cut, some| cut.ops.extend(some));
        search.settings();
    }
    let last = attempt(search.plan.clone(), true);
    Some(Story {
        seed,
        violation: last.violation?,
        faults: (last.acts.len(), faults),
        requests: (last.ops.len(), requests),
        attempts: search.attempts,
        world: describe(&search.plan),
        lines: last.lines,
    })
}

fn count(many: usize, one: &str) -> String {
    if many == 1 { format!("1 {one}") } else { format!("{many} {one}s") }
}

fn describe(plan: &Plan) -> String {
    let ms = |span: Duration| format!("{} ms", span.as_millis());
    let reset = match plan.reset {
        Reset::Off => "no cross-controller reset".to_owned(),
        Reset::On { drain_ms: 0, .. } => "cross-controller reset".to_owned(),
        Reset::On { drain_ms, .. } => format!("cross-controller reset that takes {drain_ms} ms"),
    };
    let cqt =
        plan.cqt.map_or_else(|| format!("no CQT ({} assumed)", ms(plan.assumed_cqt)), |c| format!("CQT {}", ms(c)));
    let caches = if plan.own_caches { "; each controller has a cache of its own" } else { "" };
    format!(
        "the world: {}, {}, {}; KATO {}, {cqt}, {reset}; without it a life is held {}{caches}",
        count(plan.ports, "port"),
        count(usize::from(plan.host_lanes), "lane"),
        count(plan.namespaces, "namespace"),
        ms(plan.kato_in_force()),
        ms(plan.hold()),
    )
}
