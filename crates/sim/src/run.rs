//! Runs, one per seed, on as many threads as are given.

use crate::draw::Plan;
use crate::mutation::Mutation;
use crate::world::{Stats, Violation, World};
use interlock_base::Instant;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as Clock};

/// What came of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was wrong; a run ends at the first.
    pub violation: Option<Violation>,
    /// What happened.
    pub stats: Stats,
    /// Everything that happened, if it was asked for.
    pub trace: Option<String>,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics of the cores are findings: they are caught and reported with their seed, not printed.
fn hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
}

/// Runs one seed.
#[must_use]
pub fn run_seed(seed: u64, mutation: Option<Mutation>, traced: bool) -> Outcome {
    let mut world = World::new(Plan::draw(seed, mutation), traced);
    let ended = caught(Instant::ZERO, || world.run());
    let mut violation = world.violations.first().cloned();
    if let Err(found) = ended {
        let found = Violation { at: world.now, ..found };
        if let Some(trace) = &mut world.trace {
            trace.push_str(&format!("PANIC {found}\n"));
        }
        violation = violation.or(Some(found));
    }
    Outcome { seed, violation, stats: world.stats, trace: world.trace.take() }
}

/// Runs `what`; an assertion of the cores that fails is a violation.
pub(crate) fn caught(at: Instant, what: impl FnOnce()) -> Result<(), Violation> {
    hook();
    let before = QUIET.replace(true);
    let ended = catch_unwind(AssertUnwindSafe(what));
    QUIET.set(before);
    ended.map_err(|panic| {
        let text = words(&*panic);
        // Assertions of the cores begin with the name of the invariant.
        let name = text.split(':').next().filter(|name| name.contains('_') && !name.contains(' '));
        Violation { invariant: name.unwrap_or("cores_never_panic").to_owned(), at, text: text.clone() }
    })
}

fn words(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many seeds.
    Runs(u64),
    /// So long.
    Time(Duration),
}

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub runs: u64,
    /// Sums over all runs.
    pub total: Stats,
    /// Runs with at least one receipt.
    pub runs_with_fence: u64,
    /// Runs in which a ghost tried to execute after its life was fenced.
    pub runs_with_ghost: u64,
    /// What was wrong, by seed; at most as many as asked for.
    pub found: Vec<Outcome>,
    /// Real time.
    pub took: Duration,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        let stats = outcome.stats;
        let total = &mut self.total;
        total.ios += stats.ios;
        total.faults += stats.faults;
        total.fences += stats.fences;
        total.by_reset += stats.by_reset;
        total.lost += stats.lost;
        total.in_doubt += stats.in_doubt;
        total.crashes += stats.crashes;
        total.predecessors += stats.predecessors;
        total.ghosts_armed += stats.ghosts_armed;
        total.ghosts_refused += stats.ghosts_refused;
        total.ghosts_executed += stats.ghosts_executed;
        total.virtual_ms += stats.virtual_ms;
        total.events += stats.events;
        total.mutated += stats.mutated;
        self.runs_with_fence += u64::from(stats.fences > 0);
        self.runs_with_ghost += u64::from(stats.ghosts_refused > 0);
        if outcome.violation.is_some() {
            self.found.push(outcome);
        }
    }
}

/// What is told of many seeds while they run, now and then: what came of them so far.
pub type Progress<'a> = &'a (dyn Fn(&Summary) + Sync);

/// So often.
const TELL: Duration = Duration::from_secs(10);

/// Runs seeds from `first` on, and stops when `most` of them went wrong.
#[must_use]
pub fn run_many(first: u64, until: Until, threads: usize, mutation: Option<Mutation>, most: usize) -> Summary {
    run_many_telling(first, until, threads, mutation, most, &|_| {})
}

/// As [`run_many`], and says every ten seconds how far it is.
#[must_use]
pub fn run_many_telling(
    first: u64,
    until: Until,
    threads: usize,
    mutation: Option<Mutation>,
    most: usize,
    tell: Progress<'_>,
) -> Summary {
    Mutation::install(mutation);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let began = Clock::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let over = match until {
                        Until::Runs(runs) => index >= runs,
                        Until::Time(time) => began.elapsed() >= time,
                    };
                    if over {
                        break;
                    }
                    let outcome = run_seed(first.wrapping_add(index), mutation, false);
                    let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    summary.add(outcome);
                    if began.elapsed() >= summary.took + TELL {
                        summary.took = began.elapsed();
                        tell(&summary);
                    }
                    if summary.found.len() >= most {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let reached = Mutation::reached();
    Mutation::install(None);
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.took = began.elapsed();
    summary.total.mutated += u64::from(reached);
    summary.found.sort_by_key(|outcome| outcome.seed);
    summary
}
