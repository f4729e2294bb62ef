//! Runs, one per seed, on as many threads as are given.

use crate::draw::Plan;
use crate::mix::Mix;
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
    /// So many seeds, or so long, whichever comes first.
    Either(u64, Duration),
}

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub runs: u64,
    /// Sums over all runs.
    pub total: Stats,
    /// Which kinds of faults they met.
    pub mix: Mix,
    /// Runs with at least one receipt.
    pub runs_with_fence: u64,
    /// Runs in which a ghost tried to execute after its life was fenced.
    pub runs_with_ghost: u64,
    /// What was wrong, by seed; at most as many as asked for.
    pub found: Vec<Outcome>,
    /// Real time.
    pub took: Duration,
    /// Processor time of all threads: what a busy machine took from the runs is not in it.
    pub cpu: Duration,
    /// Every seed below this one, from the first on, was run.
    pub done_below: u64,
}

impl Summary {
    /// Runs per second of processor time.
    #[must_use]
    pub fn runs_per_core(&self) -> f64 {
        self.runs as f64 / self.cpu.as_secs_f64().max(f64::EPSILON)
    }

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
        self.mix.add(stats.met);
        self.runs_with_fence += u64::from(stats.fences > 0);
        self.runs_with_ghost += u64::from(stats.ghosts_refused > 0);
        if outcome.violation.is_some() {
            self.found.push(outcome);
        }
    }
}

/// What is told of many seeds while they run, now and then: what came of them so far.
pub type Progress<'a> = &'a (dyn Fn(&Summary) + Sync);

/// So often at first, and so often once it has been told for [`LONG`].
const TELL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Who runs for so long does not look every moment.
const LONG: Duration = Duration::from_secs(120);

/// What this process has used of its processors.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// How many runs to make, on how many threads, and when to stop.
#[derive(Clone, Copy)]
pub struct Hunt<'a> {
    /// The first seed.
    pub first: u64,
    /// How long to go on.
    pub until: Until,
    /// How many runs at once; at least one.
    pub threads: usize,
    /// How the machines are broken.
    pub mutation: Option<Mutation>,
    /// Ends when so many seeds went wrong in a way that counts.
    pub most: usize,
    /// Which of the things that are wrong count.
    pub counts: &'a (dyn Fn(&Violation) -> bool + Sync),
    /// Told how far it is, every ten seconds at first and every minute later.
    pub tell: Progress<'a>,
    /// Somebody asks it to end: what has begun is finished.
    pub stop: &'a AtomicBool,
}

/// Runs seeds from `first` on, and stops when `most` of them went wrong.
#[must_use]
pub fn run_many(first: u64, until: Until, threads: usize, mutation: Option<Mutation>, most: usize) -> Summary {
    let stop = AtomicBool::new(false);
    hunt(Hunt { first, until, threads, mutation, most, counts: &|_| true, tell: &|_| {}, stop: &stop })
}

/// Runs seeds, in order, as [`Hunt`] says.
#[must_use]
pub fn hunt(hunt: Hunt<'_>) -> Summary {
    let Hunt { first, until, mutation, most, counts, tell, stop, .. } = hunt;
    Mutation::install(mutation);
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    // What each thread is at: nothing below the least of them is missing.
    let busy: Vec<AtomicU64> = (0..hunt.threads.max(1)).map(|_| AtomicU64::new(0)).collect();
    let summary = Mutex::new((Summary::default(), Duration::ZERO));
    let began = (Clock::now(), processor_time());
    let counting = |outcome: &&Outcome| outcome.violation.as_ref().is_some_and(counts);
    std::thread::scope(|scope| {
        for mine in &busy {
            let (busy, summary, next, enough) = (&busy, &summary, &next, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    mine.store(index, Ordering::Relaxed);
                    let over = match until {
                        Until::Runs(runs) => index >= runs,
                        Until::Time(time) => began.0.elapsed() >= time,
                        Until::Either(runs, time) => index >= runs || began.0.elapsed() >= time,
                    };
                    if over {
                        break;
                    }
                    let outcome = run_seed(first.wrapping_add(index), mutation, false);
                    let mut guard = summary.lock().unwrap_or_else(PoisonError::into_inner);
                    let (summary, told) = &mut *guard;
                    summary.add(outcome);
                    summary.took = began.0.elapsed();
                    if summary.took >= *told + if *told < LONG { TELL.0 } else { TELL.1 } {
                        *told = summary.took;
                        summary.cpu = processor_time().saturating_sub(began.1);
                        let least = busy.iter().filter(|other| !std::ptr::eq(*other, mine));
                        let least = least.map(|other| other.load(Ordering::Relaxed)).min().unwrap_or(index);
                        summary.done_below = first.wrapping_add(least.min(index));
                        tell(summary);
                    }
                    if summary.found.iter().filter(counting).count() >= most {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
                mine.store(u64::MAX, Ordering::Relaxed);
            });
        }
    });
    let reached = Mutation::reached();
    Mutation::install(None);
    let (mut summary, _) = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.took = began.0.elapsed();
    summary.cpu = processor_time().saturating_sub(began.1);
    summary.done_below = first.wrapping_add(summary.runs);
    summary.total.mutated += u64::from(reached);
    summary.found.sort_by_key(|outcome| outcome.seed);
    summary
}
