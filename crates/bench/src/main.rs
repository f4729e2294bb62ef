//! How fast the data plane is.
//!
//! One process, two reactors: embedded targets on one, hosts on the other, loopback between them. The load is a service on
//! the host's reactor and uses the local door, so that what is measured is the data plane and not the mail between threads.
//! Beside each case runs the limit program (`limit.rs`) on the same reactors. Cases are run in turn, round after round, so
//! that whatever else the machine does hits all of them alike; what is reported is the median of the ratios of neighbours,
//! with its quartiles. `docs/performance.md` has the figures and what was tried.

mod case;
mod failover;
mod limit;
mod load;
mod machine;
mod nbd;
mod plot;
mod report;
mod round;
mod scale;
mod spread;

use anyhow::{Context, Result, ensure};
use case::{BAR, Case, Door, LOWER_BAR};
use clap::Parser;
use machine::{Connected, Pair};
use nbd::Export;
use report::{Report, Row};
use round::Round;
use serde::Serialize;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Of the JSON that is written.
const FORMAT_VERSION: u32 = 1;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations of the process so far.
fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Bytes that are allocated now.
fn heap() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)) as u64
}

/// Measure the data plane against a program that moves the same bytes and does nothing else
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Rounds over all cases
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How long one case runs in one round, in milliseconds
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// Only cases whose name or queue depth ("QD 32") contains all of these words
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Only cases that have a goal
    #[arg(long)]
    bars: bool,
    /// List the cases and end
    #[arg(long)]
    list: bool,
    /// How long a reactor spins before it sleeps, in microseconds, in the cases that spin
    #[arg(long, default_value_t = 30)]
    spin: u64,
    /// Kill paths instead, and measure what the application feels; words then choose among the kinds of loss
    #[arg(long, conflicts_with_all = ["bars", "list", "svg"])]
    failover: bool,
    /// Measure what 500 subsystems of two paths cost, and lose all first paths at once
    #[arg(long, conflicts_with_all = ["bars", "list", "svg", "failover"])]
    scale: bool,
    /// Subsystems of two paths
    #[arg(long, requires = "scale", default_value_t = 500)]
    subsystems: usize,
    /// Serve so many subsystems to another process of this program
    #[arg(long, hide = true)]
    serve_targets: Option<usize>,
    /// Kills of each kind of loss (1,000 signalled, 50 silent)
    #[arg(long, requires = "failover")]
    kills: Option<usize>,
    /// Write JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Draw the ratios into this file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0 && args.millis > 0, "nothing to measure");
    if let Some(subsystems) = args.serve_targets {
        return scale::serve(subsystems);
    }
    if args.failover {
        return failover(&args);
    }
    if args.scale {
        return many(&args);
    }
    let wanted = |case: &Case| {
        let name = format!("{} QD {} ", case.name, case.depth);
        (case.bar || !args.bars) && args.words.iter().all(|word| name.contains(word.as_str()))
    };
    let cases: Vec<Case> = Case::all().into_iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "no case has all of these words in its name; --list shows them");
    let mut out = std::io::stdout().lock();
    if args.list {
        for case in &cases {
            writeln!(out, "{}, QD {}{}", case.name, case.depth, if case.bar { " (has a goal)" } else { "" })?;
        }
        return Ok(());
    }
    let report = measure(&args, &cases)?;
    if let Some(path) = &args.svg {
        std::fs::write(path, plot::svg(&report)?).with_context(|| path.display().to_string())?;
    }
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", report.table()?)?;
    }
    Ok(())
}

fn failover(args: &Args) -> Result<()> {
    let rows = failover::measure(&Pair::new(Duration::from_micros(args.spin))?, args.kills, &args.words)?;
    ensure!(!rows.is_empty(), "no kind of loss has all of these words in its name");
    say(args, "failover", &rows, &failover::text(&rows))?;
    let empty = rows.iter().find(|row| row.kills <= row.inconclusive);
    ensure!(empty.is_none(), "inconclusive: most kills left nothing in doubt");
    Ok(())
}

fn many(args: &Args) -> Result<()> {
    ensure!(args.subsystems > 0, "nothing to measure");
    let scale = scale::measure(args.subsystems)?;
    say(args, "scale", &scale, &scale.text()?)
}

/// Writes what was measured: as JSON under its name, or as text.
fn say(args: &Args, name: &str, data: &impl Serialize, text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = serde_json::json!({ "format_version": FORMAT_VERSION, "machine": spread::machine(), name: data });
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{text}")?;
    }
    Ok(())
}

fn measure(args: &Args, cases: &[Case]) -> Result<Report> {
    let spinning = Pair::new(Duration::from_micros(args.spin))?;
    let sleeping = Pair::new(Duration::ZERO)?;
    let pair_of = |case: &Case| if case.scene.spin { &spinning } else { &sleeping };
    // A connection for each case: what the kernel learned of large transfers it keeps for a socket's life, and the limit
    // program has a socket for each round.
    let scenes: Vec<Connected> =
        cases.iter().map(|case| Connected::new(pair_of(case), case.scene)).collect::<Result<_>>()?;
    let mut exports = Vec::new();
    for (case, scene) in cases.iter().zip(&scenes) {
        let export = (case.door == Door::Nbd).then(|| Export::new(&pair_of(case).host, &scene.namespace));
        exports.push(export.transpose()?);
    }
    let mut rounds: Vec<(Vec<Round>, Vec<Round>)> = cases.iter().map(|_| Default::default()).collect();
    for seed in 0..args.rounds as u64 {
        for (((case, scene), export), (host, limit)) in cases.iter().zip(&scenes).zip(&exports).zip(&mut rounds) {
            let pair = pair_of(case);
            let plan = case.plan(Duration::from_millis(args.millis), seed);
            let bytes = scene.namespace.shape().block_size * case.blocks;
            host.push(pair.metered(|| match export {
                Some(export) => export.round(plan, bytes),
                None => scene.library(pair, plan),
            })?);
            limit.push(pair.metered(|| pair.limit(case.scene.connections, bytes as usize, plan))?);
        }
    }
    exports.into_iter().flatten().try_for_each(Export::end)?;
    scenes.into_iter().try_for_each(Connected::end)?;
    Ok(Report {
        format_version: FORMAT_VERSION,
        rounds: args.rounds,
        millis: args.millis,
        spin_us: args.spin,
        backend: spinning.host.backend().0.to_string(),
        machine: spread::machine(),
        bar: BAR,
        lower_bar: LOWER_BAR,
        cases: cases.iter().zip(&rounds).map(|(case, (host, limit))| Row::new(case, host, limit)).collect(),
    })
}
