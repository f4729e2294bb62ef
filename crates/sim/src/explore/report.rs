//! `cargo xtask sim --explore`: walks, and says how much of each world was seen.

use super::fences::{FenceWorld, FencesSeen, explore_fences};
use super::scene::SmallWorld;
use super::search::{Exploration, Limits, explore};
use crate::mutation::Mutation;
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
  --mutations       every guard, one after the other, in every world asked for, until one notices
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
    let mut good = true;
    for world in &args.fences {
        writeln!(out, "{}: {}", world.name, world.about)?;
        out.flush()?;
        Mutation::install(args.mutation);
        let seen = explore_fences(world, args.limits.states, args.limits.time);
        Mutation::install(None);
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
    if !args.fences.is_empty() {
        rows(&mut out)?;
    }
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

/// Which walk notices which guard.
fn all_guards(out: &mut impl Write, args: &Args) -> io::Result<bool> {
    for guard in guards() {
        let mut reached = false;
        let mut caught = false;
        for world in &args.fences {
            Mutation::install(Some(guard));
            let seen = explore_fences(world, args.limits.states, args.limits.time);
            reached |= Mutation::reached();
            Mutation::install(None);
            if let Some((wrong, story)) = &seen.found {
                let (states, steps) = (seen.states, story.len());
                let (name, guard) = (world.name, guard.to_string());
                writeln!(out, "{guard:<32} caught in {name:<22} by {wrong:<30} after {states} states, {steps} steps")?;
                caught = true;
                break;
            }
        }
        for world in if caught { &[][..] } else { &args.worlds[..] } {
            let seen = explore(world, args.limits, Some(guard));
            reached |= seen.reached;
            if let Some(found) = &seen.found {
                writeln!(
                    out,
                    "{:<32} caught in {:<22} by {:<30} after {} states, {} steps",
                    guard.to_string(),
                    world.name,
                    found.violation.invariant,
                    seen.states,
                    found.steps
                )?;
                caught = true;
                break;
            }
        }
        if !caught {
            let word = if reached { "not seen to matter in these worlds" } else { "never reached in these worlds" };
            writeln!(out, "{:<32} {word}", guard.to_string())?;
        }
        out.flush()?;
    }
    Ok(true)
}

/// Which rows of the table of sources the worlds of fences met.
#[cfg(feature = "mutations")]
fn rows(out: &mut impl Write) -> io::Result<()> {
    let rows = interlock_fence::via_rows();
    let met = rows.iter().filter(|(.., met)| *met).count();
    writeln!(
        out,
        "rows of the table of sources that were met: {met} of {}; not met, but for those that change nothing:",
        rows.len()
    )?;
    for (stage, event, _) in
        rows.iter().filter(|(stage, event, met)| !met && stage.next(*event) != interlock_fence::ViaNext::Stays)
    {
        writeln!(out, "  {stage}: {event}")?;
    }
    Ok(())
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
