//! The simulator's program. `cargo xtask sim` builds it with every assertion of the cores on and runs it.

use interlock_sim::{
    ATTEMPTS, ENOUGH_RUNS, Hunt, Kind, Kinds, Mix, Mutation, Shard, Shards, Stats, Summary, Until, Violation, cover,
    hunt, minimise, run_many, run_seed,
};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A tenth of a run is spent on small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: cargo xtask sim [--runs N | --seconds S] [--seed X] [--trace] [--threads N]
       cargo xtask sim --shards FILE --runs N [--seed X] [--threads N]
       cargo xtask sim --mutations [--runs N] [--seconds S]
       cargo xtask sim --explore [--help]
       cargo xtask sim --coverage [--runs N]
       cargo xtask sim --help

  --runs N      so many seeds (default 2000; with --mutations: at most so many per mutation, default 10000)
  --seconds S   as many seeds as fit into so many seconds
  --seed X      the first seed, or with neither --runs nor --seconds the only one (decimal, or 0x...)
  --story       cut what went wrong down to the least that still does, and tell it (with --mutation: of the first seed
                that goes wrong)
  --trace       print everything that happens in the one seed
  --most N      go on until so many seeds went wrong (default 1)
  --shards F    run only those of the seeds that were not run on this source yet, note what is finished in this file, and
                count all that was run on this source
  --threads N   default: one per core
  --without KIND  let worlds draw no fault of this kind (--kinds: which there are)
  --always KIND every world has this kind: a hunt among mixes that are rare otherwise
  --coverage    say which transitions of the tables the runs (default 2000) never met
  --mutation X  break the machines in this one way, as the list that --mutations prints names it
  --mutations   break the machines on purpose, one way after the other, and say which invariant notices;
                with --seconds as many as fit into so many seconds, from one on that the seed decides
";

const EXITS: &str = "
exit status: 0 nothing is wrong; 1 something is; 2 not understood; 3 inconclusive: some kind of fault was too rare
";

/// What the runs amount to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Wrong,
    Inconclusive,
}

impl From<bool> for Verdict {
    fn from(good: bool) -> Self {
        if good { Self::Good } else { Self::Wrong }
    }
}

struct Args {
    runs: Option<u64>,
    seconds: Option<u64>,
    seed: Option<u64>,
    threads: usize,
    most: usize,
    trace: bool,
    story: bool,
    coverage: bool,
    mutations: bool,
    only: Option<String>,
    shards: Option<PathBuf>,
    kinds: Kinds,
    list_kinds: bool,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is no number"))
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.to_string() == text);
    found.ok_or_else(|| format!("`{text}` is no kind of fault; `--kinds` names them"))
}

/// What is asked for; `None`: how to ask.
fn parse() -> Result<Option<Args>, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut args = Args {
        runs: None,
        seconds: None,
        seed: None,
        threads,
        most: 1,
        trace: false,
        story: false,
        coverage: false,
        mutations: false,
        only: None,
        shards: None,
        kinds: Kinds::all(),
        list_kinds: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--runs" => args.runs = Some(number(&value()?)?),
            "--seconds" => args.seconds = Some(number(&value()?)?),
            "--seed" => args.seed = Some(number(&value()?)?),
            "--threads" => args.threads = usize::try_from(number(&value()?)?).unwrap_or(threads),
            "--most" => args.most = usize::try_from(number(&value()?)?).unwrap_or(usize::MAX).max(1),
            "--coverage" => args.coverage = true,
            "--story" => args.story = true,
            "--trace" => args.trace = true,
            "--mutations" => args.mutations = true,
            "--mutation" => args.only = Some(value()?),
            "--shards" => args.shards = Some(value()?.into()),
            "--without" => args.kinds.remove(kind(&value()?)?),
            "--always" => {
                let kind = kind(&value()?)?;
                if !args.kinds.make_certain(kind) {
                    return Err(format!("{kind} is nothing that a world as a whole has or has not"));
                }
            }
            "--kinds" => args.list_kinds = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("`{other}` is not known\n\n{USAGE}")),
        }
    }
    Ok(Some(args))
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--explore") {
        return interlock_sim::explore_main(std::env::args().skip(2));
    }
    let done = |args: Option<Args>| match args {
        Some(args) => run(&args),
        None => write!(io::stdout(), "{USAGE}{EXITS}").map(|()| Verdict::Good),
    };
    let outcome = parse().and_then(|args| done(args).map_err(|error| error.to_string()));
    match outcome {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::FAILURE,
        Ok(Verdict::Inconclusive) => ExitCode::from(3),
        Err(text) => {
            // There is nowhere left to say it if this fails.
            let _ = writeln!(io::stderr(), "error: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> io::Result<Verdict> {
    let mut out = io::stdout().lock();
    if args.list_kinds {
        for kind in Kind::ALL {
            writeln!(out, "{kind}")?;
        }
        return Ok(Verdict::Good);
    }
    args.kinds.install();
    let only = args.only.as_ref().and_then(|name| {
        Mutation::all()
            .into_iter()
            .find(|m| m.to_string() == *name || m.to_string().strip_prefix("without ") == Some(name))
    });
    if args.only.is_some() && only.is_none() {
        return Err(io::Error::other("this build does not know that mutation"));
    }
    if args.mutations {
        return mutations(&mut out, args, only).map(Verdict::from);
    }
    if let Some(file) = &args.shards {
        return shards(&mut out, args, file);
    }
    if args.coverage {
        let coverage = cover(args.seed.unwrap_or(0), args.runs.unwrap_or(2000));
        write!(out, "{coverage}")?;
        return Ok(coverage.unexpected().next().is_none().into());
    }
    if args.story {
        return story(&mut out, args, only).map(Verdict::from);
    }
    if let (Some(seed), None, None) = (args.seed, args.runs, args.seconds) {
        return one(&mut out, seed, only, args.trace).map(Verdict::from);
    }
    let until = match (args.runs, args.seconds) {
        (_, Some(seconds)) => Until::Time(Duration::from_secs(seconds)),
        (runs, None) => Until::Runs(runs.unwrap_or(2000)),
    };
    // On the other stream, so that what is kept of a long run is its summary.
    let progress = |summary: &Summary| {
        let Summary { runs, took, total, found, done_below, .. } = summary;
        let line = format!(
            "{runs} runs in {:.0} s ({:.0} per second and core), {} fences, {} ghosts tried, {} violations; \
             every seed below {done_below} is done",
            took.as_secs_f64(),
            summary.runs_per_core(),
            total.fences,
            total.ghosts_refused,
            found.len()
        );
        // If nobody reads it the runs go on all the same.
        let _ = writeln!(io::stderr(), "{line}");
    };
    let stop = asked_to_end()?;
    let first = args.seed.unwrap_or(0);
    let threads = args.threads;
    let any = |_: &_| true;
    let hunted =
        Hunt { first, until, threads, mutation: only, most: args.most, counts: &any, tell: &progress, stop: &stop };
    let summary = hunt(hunted);
    report(&mut out, &summary)?;
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        writeln!(out, "stopped; go on with: cargo xtask sim --seed {}", summary.done_below)?;
    }
    if let [outcome] = &summary.found[..] {
        tell(&mut out, outcome.seed, only, args.kinds)?;
    }
    for outcome in &summary.found {
        if let Some(violation) = &outcome.violation {
            writeln!(out, "VIOLATION {violation}")?;
            let broken = only.map_or_else(String::new, |mutation| format!(" --mutation \"{mutation}\""));
            let more = beside_the_seed(args.kinds);
            writeln!(out, "reproduce: cargo xtask sim --seed {:#x}{broken}{more} --trace", outcome.seed)?;
        }
    }
    Ok(verdict(summary.found.len() as u64, &summary.mix))
}

/// What `cargo xtask sim` says of the source that it built.
const SOURCE: &str = "INTERLOCK_SIM_SOURCE";

/// A hunt in pieces that are noted in a file.
fn shards(out: &mut impl Write, args: &Args, file: &Path) -> io::Result<Verdict> {
    let source = std::env::var(SOURCE)
        .map_err(|_| io::Error::other("nobody says which source this is: start it with `cargo xtask sim`"))?;
    let kinds = beside_the_seed(args.kinds).replace(" --", "").replace(' ', ":");
    let of = if kinds.is_empty() { source } else { format!("{source}/{kinds}") };
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut done = Shards::parse(&text).map_err(|why| io::Error::other(format!("{}: {why}", file.display())))?;
    // What was torn off goes.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    std::fs::write(file, &text[..whole])?;
    let missing = done.missing(&of, args.seed.unwrap_or(0), args.runs.unwrap_or(2000));
    let stop = asked_to_end()?;
    let mut found = Vec::new();
    for (first, runs) in missing {
        let hunted = Hunt {
            first,
            until: Until::Runs(runs),
            threads: args.threads,
            mutation: None,
            most: usize::MAX,
            counts: &|_| true,
            tell: &|_| {},
            stop: &stop,
        };
        let summary = hunt(hunted);
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let shard = Shard { of: of.clone(), first, runs, violations: summary.found.len() as u64, mix: summary.mix };
        let mut log = std::fs::OpenOptions::new().append(true).open(file)?;
        writeln!(log, "{shard}")?;
        log.sync_data()?;
        done.add(shard);
        found.extend(summary.found);
        let (runs, violations) = done.counted(&of);
        writeln!(io::stderr(), "{runs} runs on source {of}, {violations} violations")?;
    }
    for outcome in &found {
        if let Some(violation) = &outcome.violation {
            writeln!(out, "VIOLATION {violation}")?;
            writeln!(
                out,
                "reproduce: cargo xtask sim --seed {:#x}{} --trace",
                outcome.seed,
                beside_the_seed(args.kinds)
            )?;
        }
    }
    let (runs, violations) = done.counted(&of);
    let mix = done.mix(&of);
    describe(out, &mix)?;
    writeln!(out, "{runs} runs on source {of}, {violations} violations")?;
    Ok(verdict(violations, &mix))
}

/// What must be said besides a seed to meet the same world.
fn beside_the_seed(kinds: Kinds) -> String {
    let less = Kinds::all().iter().filter(|kind| !kinds.contains(*kind)).map(|kind| format!(" --without {kind}"));
    let must = kinds.iter().filter(|kind| kinds.is_certain(*kind)).map(|kind| format!(" --always {kind}"));
    less.chain(must).collect()
}

fn verdict(violations: u64, mix: &Mix) -> Verdict {
    if violations > 0 {
        return Verdict::Wrong;
    }
    match mix.rare() {
        Some(rare) if !rare.is_empty() => Verdict::Inconclusive,
        _ => Verdict::Good,
    }
}

/// Set when somebody asks the program to end: what it has begun is finished and reported.
fn asked_to_end() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Who asks twice does not want to wait.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// The first seed that goes wrong, as a story.
fn story(out: &mut impl Write, args: &Args, mutation: Option<Mutation>) -> io::Result<bool> {
    let first = args.seed.unwrap_or(0);
    let runs = args.runs.unwrap_or(if args.seed.is_some() { 1 } else { 10_000 });
    let summary = run_many(first, Until::Runs(runs), 1, mutation, 1);
    let Some(outcome) = summary.found.first() else {
        writeln!(out, "nothing goes wrong in {} runs from seed {first:#x} on", summary.runs)?;
        return Ok(true);
    };
    tell(out, outcome.seed, mutation, args.kinds)?;
    Ok(false)
}

fn tell(out: &mut impl Write, seed: u64, mutation: Option<Mutation>, kinds: Kinds) -> io::Result<()> {
    match minimise(seed, mutation, ATTEMPTS) {
        Some(story) => writeln!(out, "{story}")?,
        None => writeln!(out, "seed {seed:#x} goes wrong only in company")?,
    }
    let broken = mutation.map(|mutation| format!(" --mutation '{mutation}'")).unwrap_or_default();
    writeln!(out, "reproduce: cargo xtask sim --seed {seed:#x}{broken}{} --story", beside_the_seed(kinds))
}

fn one(out: &mut impl Write, seed: u64, mutation: Option<Mutation>, trace: bool) -> io::Result<bool> {
    Mutation::install(mutation);
    let outcome = run_seed(seed, mutation, trace);
    Mutation::install(None);
    if let Some(trace) = &outcome.trace {
        out.write_all(trace.as_bytes())?;
    }
    writeln!(out, "{:?}", outcome.stats)?;
    match &outcome.violation {
        Some(violation) => writeln!(out, "VIOLATION {violation}")?,
        None => writeln!(out, "seed {seed:#x}: no violation")?,
    }
    Ok(outcome.violation.is_none())
}

fn report(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let Summary { runs, total, took, .. } = summary;
    let runs_f = (*runs).max(1) as f64;
    let Stats { ios, faults, fences, by_reset, lost, in_doubt, ghosts_armed, ghosts_refused, .. } = *total;
    let seconds = took.as_secs_f64();
    writeln!(
        out,
        "{runs} runs in {seconds:.1} s: {:.0} runs per second, {:.0} per second of a core ({:.1} s of processor time)",
        runs_f / seconds,
        summary.runs_per_core(),
        summary.cpu.as_secs_f64()
    )?;
    for (name, value) in [
        ("I/Os", ios),
        ("faults", faults),
        ("lives lost", lost),
        ("commands in doubt", in_doubt),
        ("fences", fences),
        ("  of these by reset", by_reset),
        ("processes that died", total.crashes),
        ("lives they left", total.predecessors),
        ("ghosts armed", ghosts_armed),
        ("ghosts executed before the fence", total.ghosts_executed),
        ("ghosts that tried after it", ghosts_refused),
        ("virtual seconds", total.virtual_ms / 1000),
        ("events", total.events),
    ] {
        writeln!(out, "  {:>9.2} {name} per run", value as f64 / runs_f)?;
    }
    writeln!(out, "  {:.1} % of runs with a fence", summary.runs_with_fence as f64 * 100.0 / runs_f)?;
    writeln!(out, "  {:.1} % of runs with a ghost that tried", summary.runs_with_ghost as f64 * 100.0 / runs_f)?;
    describe(out, &summary.mix)?;
    writeln!(out, "  {} violations", summary.found.len())
}

/// What the runs met, and whether that is enough to say anything.
fn describe(out: &mut impl Write, mix: &Mix) -> io::Result<()> {
    write!(out, "{mix}")?;
    match mix.rare() {
        None => writeln!(out, "  too few runs to judge the mix: that takes {ENOUGH_RUNS}"),
        Some(rare) if rare.is_empty() => Ok(()),
        Some(rare) => {
            let names: Vec<_> = rare.iter().map(ToString::to_string).collect();
            let names = names.join(", ");
            writeln!(out, "  INCONCLUSIVE: with a write in doubt, less than one run in a hundred met {names}")
        }
    }
}

/// In a sample, a mutation that has less time than this is not begun.
const SAMPLE_LEAST: Duration = Duration::from_millis(500);

fn mutations(out: &mut impl Write, args: &Args, only: Option<Mutation>) -> io::Result<bool> {
    let most = args.runs.unwrap_or(10_000);
    let first = args.seed.unwrap_or(0);
    let began = std::time::Instant::now();
    let limit = args.seconds.map(Duration::from_secs);
    let asked: Vec<Mutation> = match limit {
        Some(_) => Mutation::rotated(first),
        None => Mutation::all(),
    };
    let asked = asked.into_iter().filter(|mutation| only.is_none_or(|only| only == *mutation));
    let asked: Vec<Mutation> = asked.collect();
    let (mut all_caught, mut judged) = (true, 0);
    for mutation in asked.iter().copied() {
        let left = limit.map(|limit| limit.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left < SAMPLE_LEAST) {
            break;
        }
        // One that takes long leaves time for others.
        let left = left.map(|left| left / 2);
        let counts = |violation: &Violation| mutation.is_proven_by(&violation.invariant);
        let summary = hunt(Hunt {
            first,
            until: left.map_or(Until::Runs(most), |left| Until::Either(most, left)),
            threads: args.threads,
            mutation: Some(mutation),
            most: 1,
            counts: &counts,
            tell: &|_| {},
            stop: &AtomicBool::new(false),
        });
        let found = || summary.found.iter().filter_map(|outcome| Some((outcome.seed, outcome.violation.as_ref()?)));
        let weak = found().find(|(_, violation)| !counts(violation));
        let name = mutation.to_string();
        let ended = left.is_none_or(|_| summary.runs >= most) || found().any(|(_, violation)| counts(violation));
        if !ended {
            writeln!(out, "{name:<29} not judged: its time was over after {} runs", summary.runs)?;
            continue;
        }
        judged += 1;
        match found().find(|(_, violation)| counts(violation)) {
            Some((seed, violation)) => {
                let by = &violation.invariant;
                write!(out, "{name:<29} caught by {by:<34} seed {seed:#x}, {} runs", summary.runs)?;
                match weak.filter(|(other, _)| *other < seed) {
                    Some((other, weak)) => writeln!(out, " (before, only {}: seed {other:#x})", weak.invariant)?,
                    None => writeln!(out)?,
                }
            }
            None if weak.is_some() => {
                all_caught = false;
                let by = weak.map(|(_, violation)| violation.invariant.clone()).unwrap_or_default();
                writeln!(out, "{name:<29} WEAK: only {by} in {} runs", summary.runs)?;
            }
            None if mutation.is_counted() && summary.total.mutated == 0 => {
                all_caught = false;
                writeln!(out, "{name:<29} INCONCLUSIVE: never reached in {} runs", summary.runs)?;
            }
            None => {
                all_caught = false;
                writeln!(out, "{name:<29} SURVIVED {} runs", summary.runs)?;
            }
        }
        out.flush()?;
    }
    if limit.is_some() {
        writeln!(out, "{judged} of {} mutations in {:.0} s", asked.len(), began.elapsed().as_secs_f64())?;
    }
    // Who judged nothing has shown nothing.
    Ok(all_caught && judged > 0)
}
