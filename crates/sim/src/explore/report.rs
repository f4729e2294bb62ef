//! `cargo xtask sim --explore`: walks, and says how much of each world was seen.

use super::fences::{FenceWorld, FencesSeen, explore_fences};
use super::scene::SmallWorld;
use super::search::{Exploration, Limits, explore};
use crate::mutation::Mutation;
use crate::world::Violation;
#[cfg(feature = "mutations")]
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "usage: cargo xtask sim --explore [--world NAME]... [--minutes N] [--mutation NAME | --mutations] [--list]

  --world NAME      only this world, repeatable; `fences` means every world of fences alone (default: all but the large
                    ones)
  --minutes N       stop each walk after so long (default 20)
  --states N        stop each walk after so many states (default 100000000)
  --unreduced       try the steps of connections being set up in every order too (the ends are the same)
  --mutation NAME   with this guard of the cores switched off, which a walk has to notice
  --mutations       every guard, one after the other, in every world asked for, until one notices; fails if none notices one
                    that these worlds ask for
  --list            say which small worlds there are
";

struct Args {
    worlds: Vec<SmallWorld>,
    fences: Vec<FenceWorld>,
    limits: Limits,
    mutation: Option<Mutation>,
    mutations: bool,
    list: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Args>, String> {
    let mut args = Args {
        worlds: Vec::new(),
        fences: Vec::new(),
        limits: Limits { time: Duration::from_secs(20 * 60), states: 100_000_000, unreduced: false },
        mutation: None,
        mutations: false,
        list: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        match word.as_str() {
            "--world" => {
                let name = value()?;
                let fences = FenceWorld::all().into_iter().filter(|world| name == "fences" || name == world.name);
                let small = SmallWorld::all().into_iter().filter(|world| name == world.name);
                let before = (args.fences.len(), args.worlds.len());
                args.fences.extend(fences);
                args.worlds.extend(small);
                if before == (args.fences.len(), args.worlds.len()) {
                    return Err(format!("there is no world `{name}`; --list names them"));
                }
            }
            "--minutes" => args.limits.time = Duration::from_secs(number(value()?)?.saturating_mul(60)),
            "--states" => args.limits.states = number(value()?)?,
            "--mutation" => {
                let name = value()?;
                args.mutation = Some(guard(&name)?);
            }
            "--unreduced" => args.limits.unreduced = true,
            "--mutations" => args.mutations = true,
            "--list" => args.list = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("`{other}` is not known\n\n{USAGE}")),
        }
    }
    if args.worlds.is_empty() && args.fences.is_empty() {
        args.fences = FenceWorld::all();
        args.worlds = SmallWorld::all().into_iter().filter(|world| !world.large).collect();
    }
    Ok(Some(args))
}

/// Only guards of the cores: tampering is between machines of the seeded world.
fn guards() -> Vec<Mutation> {
    Mutation::all().into_iter().filter(|mutation| !matches!(mutation, Mutation::Tampering(_))).collect()
}

fn guard(name: &str) -> Result<Mutation, String> {
    let known = guards();
    let found = known.iter().copied().find(|mutation| {
        let text = mutation.to_string();
        text == name || text.strip_prefix("without ") == Some(name)
    });
    found.ok_or_else(|| {
        let names: Vec<String> = known.iter().map(ToString::to_string).collect();
        format!("this build does not know the guard `{name}`; it knows: {}", names.join(", "))
    })
}

/// The arguments are those after `--explore`.
#[must_use]
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let done = |args: Option<Args>| match args {
        Some(args) => run(&args),
        None => write!(io::stdout(), "{USAGE}").map(|()| true),
    };
    let outcome = parse(words).and_then(|args| done(args).map_err(|error| error.to_string()));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            // There is nowhere left to say it if this fails.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    if args.list {
        for world in SmallWorld::all() {
            let large = if world.large { " (large: only by name)" } else { "" };
            writeln!(out, "{:<22} {}{large}", world.name, world.about)?;
        }
        for world in FenceWorld::all() {
            writeln!(out, "{:<22} {}", world.name, world.about)?;
        }
        return Ok(true);
    }
    if args.mutations {
        return all_guards(&mut out, args);
    }
    let (mut good, mut complete) = (true, args.mutation.is_none());
    for world in &args.fences {
        writeln!(out, "{}: {}", world.name, world.about)?;
        out.flush()?;
        Mutation::install(args.mutation);
        let seen = explore_fences(world, args.limits.states, args.limits.time);
        Mutation::install(None);
        complete &= seen.complete;
        writeln!(out, "  {}", fences_line(&seen))?;
        if let Some((wrong, story)) = &seen.found {
            good = false;
            writeln!(out, "  VIOLATION {wrong}, in {} steps:", story.len())?;
            for step in story {
                writeln!(out, "    {step}")?;
            }
        }
    }
    #[cfg(feature = "mutations")]
    if !args.fences.is_empty() && args.mutation.is_none() {
        good &= rows(&mut out, complete && args.fences.len() == FenceWorld::all().len())?;
    }
    #[cfg(not(feature = "mutations"))]
    let _ = complete;
    for world in &args.worlds {
        writeln!(out, "{}: {}", world.name, world.about)?;
        out.flush()?;
        let seen = explore(world, args.limits, args.mutation);
        writeln!(out, "  {}", line(&seen))?;
        if let Some(found) = &seen.found {
            good = false;
            writeln!(out, "  VIOLATION {}", found.violation)?;
            writeln!(out, "  the shortest way there that was found has {} steps:", found.steps)?;
            for step in &found.story {
                writeln!(out, "    {step}")?;
            }
        }
        out.flush()?;
    }
    Ok(good)
}

/// Where a guard that is switched off is noticed.
struct Noticed {
    world: &'static str,
    invariant: String,
    states: u64,
    steps: usize,
}

/// Which walk notices which guard. False if one of them matters in these worlds and none notices.
fn all_guards(out: &mut impl Write, args: &Args) -> io::Result<bool> {
    // Which of them worlds of fences ask for at all.
    for world in &args.fences {
        let _ = explore_fences(world, args.limits.states, args.limits.time);
    }
    let of_fences: Vec<Mutation> = guards().into_iter().filter(|guard| guard.was_asked_for()).collect();
    let (mut caught, mut survived, mut foreign) = (0, Vec::new(), 0);
    writeln!(out, "{:<32} {:<32} {:<22} {:>8} {:>6}", "without", "dies", "in the world", "states", "steps")?;
    for guard in guards() {
        let (noticed, reached) = notice(args, guard, of_fences.contains(&guard));
        let name = guard.to_string();
        let name = name.strip_prefix("without ").unwrap_or(&name);
        match noticed {
            Some(Noticed { world, invariant, states, steps }) => {
                caught += 1;
                writeln!(out, "{name:<32} {invariant:<32} {world:<22} {states:>8} {steps:>6}")?;
            }
            None if reached => {
                survived.push(name.to_owned());
                writeln!(out, "{name:<32} NOTHING, although these worlds ask for it")?;
            }
            None => foreign += 1,
        }
        out.flush()?;
    }
    let all = caught + survived.len();
    writeln!(
        out,
        "{caught} of {all} conditions that these worlds ask for are noticed; {foreign} others are not asked for"
    )?;
    Ok(survived.is_empty())
}

/// The first walk that notices the guard; and whether it was asked for at all.
fn notice(args: &Args, guard: Mutation, of_fences: bool) -> (Option<Noticed>, bool) {
    for world in if of_fences { &args.fences[..] } else { &[] } {
        Mutation::install(Some(guard));
        let seen = explore_fences(world, args.limits.states, args.limits.time);
        Mutation::install(None);
        if let Some((invariant, story)) = seen.found {
            let (invariant, steps) = (invariant.to_owned(), story.len());
            return (Some(Noticed { world: world.name, invariant, states: seen.states, steps }), true);
        }
    }
    let mut reached = of_fences;
    for world in &args.worlds {
        let seen = explore(world, args.limits, Some(guard));
        reached |= seen.reached;
        if let Some(found) = seen.found {
            let Violation { invariant, .. } = found.violation;
            return (Some(Noticed { world: world.name, invariant, states: seen.states, steps: found.steps }), true);
        }
    }
    (None, reached)
}

/// Which rows of the table of sources the worlds of fences met. False if one of them cannot be met and was, or can be and was not
/// although every world was walked to its end.
#[cfg(feature = "mutations")]
fn rows(out: &mut impl Write, complete: bool) -> io::Result<bool> {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let (mut met, mut wrong, mut unmet) = (0, Vec::new(), Vec::new());
    for (stage, event, was_met) in interlock_fence::via_rows() {
        match (was_met, stage.impossible(event)) {
            (true, None) => met += 1,
            (true, Some(_)) => wrong.push(format!("{stage}: {event}")),
            (false, None) => unmet.push(format!("{stage}: {event}")),
            (false, Some(why)) => reasons.entry(why).or_default().push(format!("{stage}: {event}")),
        }
    }
    let impossible: usize = reasons.values().map(Vec::len).sum();
    writeln!(out, "rows of the table of sources: {met} met, {impossible} impossible, {} not met", unmet.len())?;
    for (why, rows) in &reasons {
        writeln!(out, "  {:>2} impossible: {why}", rows.len())?;
    }
    for row in &wrong {
        writeln!(out, "  MET, although it is said to be impossible: {row}")?;
    }
    for row in &unmet {
        writeln!(out, "  not met: {row}")?;
    }
    Ok(wrong.is_empty() && (unmet.is_empty() || !complete))
}

fn fences_line(seen: &FencesSeen) -> String {
    let word = match (&seen.found, seen.complete) {
        (Some(_), _) => "stopped at a violation",
        (None, true) => "complete",
        (None, false) => "NOT complete: a limit was reached",
    };
    let FencesSeen { states, steps, ends, took, .. } = seen;
    format!("{states} states, {steps} steps, {ends} ends, {:.1} s: {word}", took.as_secs_f64())
}

fn line(seen: &Exploration) -> String {
    let word = match (&seen.found, seen.complete) {
        (Some(_), _) => "stopped at a violation",
        (None, true) => "complete",
        (None, false) => "NOT complete: a limit was reached",
    };
    let rate = seen.states as f64 / seen.took.as_secs_f64().max(0.001);
    format!(
        "{} states, {} steps, {} ends ({:016x}), depth {}, {:.1} s ({rate:.0} states/s): {word}",
        seen.states,
        seen.edges,
        seen.ends,
        seen.ends_print,
        seen.depth,
        seen.took.as_secs_f64()
    )
}
