//! `cargo xtask interop`: the product against a peer that strangers wrote.
//!
//! Our own two ends agree with each other even where both are wrong. Here one end is the Linux kernel, in a guest that
//! `interop/lab` boots. One boot serves every case of a direction; each case begins without controllers. A case that
//! cannot be tried is skipped with its reason and counted, and a run in which everything was skipped is a failure.

mod foreign;
mod guest;
mod kernel_log;
mod linux_host;
mod linux_target;
mod load;
mod prepare;
mod sigkill;
mod target;
mod wait;
mod wire;

pub use kernel_log::Exceptions;
pub use sigkill::child_main as sigkill_child;
pub use wire::host_main as wire_host;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Try the product against a real Linux kernel, hosts of other habits, dead wires and kills
#[derive(Parser)]
#[command(name = "cargo xtask interop")]
struct Args {
    /// Only cases whose name contains this, repeatable
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Say which cases there are and what they prove
    #[arg(long)]
    list: bool,
    /// Only one direction
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// Only the cases with wires that die; the same as `--direction wire`
    #[arg(long, conflicts_with = "direction")]
    wire: bool,
    /// The cases that fit into a change's check: everything once, nothing for long
    #[arg(long)]
    quick: bool,
    /// What a clean machine runs for every change: make what is missing, then as --quick; each side of the kernel must
    /// have passed something
    #[arg(long, conflicts_with_all = ["quick", "cases", "direction", "wire"])]
    ci: bool,
    /// Use a debug build of the product
    #[arg(long)]
    debug: bool,
    /// Use this program instead of building the product
    #[arg(long, value_name = "FILE", conflicts_with = "debug")]
    binary: Option<PathBuf>,
    /// Keep the folder with the output of every step, and say where it is
    #[arg(long)]
    keep: bool,
}

impl Args {
    fn only(&self) -> Option<Direction> {
        if self.wire { Some(Direction::Wire) } else { self.direction }
    }
}

/// Who is the host and who is the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Linux connects to our target.
    LinuxHost,
    /// Our host connects to Linux's target.
    LinuxTarget,
    /// Our host and our target, with wires between them that die.
    Wire,
    /// Our host and our target, and one of them is killed.
    Killed,
    /// Our target, and a host that does what those of other makers do.
    ForeignHost,
}

impl Direction {
    const ALL: [Self; 5] = [Self::ForeignHost, Self::Killed, Self::Wire, Self::LinuxHost, Self::LinuxTarget];

    const fn name(self) -> &'static str {
        match self {
            Self::LinuxHost => "linux-host",
            Self::LinuxTarget => "linux-target",
            Self::Wire => "wire",
            Self::Killed => "killed",
            Self::ForeignHost => "foreign-host",
        }
    }

    /// True if it needs a guest with a kernel of its own.
    const fn is_guest(self) -> bool {
        matches!(self, Self::LinuxHost | Self::LinuxTarget)
    }
}

/// How much a run tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What a change's check has time for.
    Quick,
    /// Everything.
    Full,
}

/// One case: what it proves, and its steps. The text that the steps give is a fact for the line of the report.
pub(crate) struct Case<B> {
    name: &'static str,
    proves: &'static str,
    /// The shallowest run that includes it.
    from: Depth,
    steps: fn(&mut B) -> Result<String>,
}

/// A direction's standing: the guest, our end, and what is put right between two cases.
pub(crate) trait Bench {
    /// Before a case: nothing is connected and everything serves.
    fn before(&mut self, case: &str) -> Result<()>;
    /// After a case, failed or not: what the kernel said meanwhile that is on no list.
    fn after(&mut self, case: &str) -> Result<Vec<String>>;
}

/// Why a case was not tried. An error, so that steps can stop with it anywhere.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// What every bench needs to know.
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) depth: Depth,
    pub(crate) exceptions: Exceptions,
}

impl Setup {
    /// How often something is repeated.
    pub(crate) fn times(&self, quick: u32, full: u32) -> u32 {
        if self.depth == Depth::Quick { quick } else { full }
    }
}

/// What came out.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn line(&mut self, direction: Direction, case: &str, took: Duration, result: &Result<String>) -> Result<()> {
        let (word, text) = match result {
            Ok(fact) => {
                self.passed += 1;
                ("pass", fact.clone())
            }
            Err(error) if error.downcast_ref::<Skip>().is_some() => {
                self.skipped += 1;
                ("skip", error.to_string())
            }
            Err(error) => {
                self.failed += 1;
                ("FAIL", format!("{error:#}"))
            }
        };
        let name = format!("{}/{case}", direction.name());
        say(&format!("{word}  {name:<34} {:>5.1} s  {text}", took.as_secs_f64()))
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// If the arguments are wrong, the product cannot be built, or nothing can be written.
pub fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let args = match Args::try_parse_from(std::iter::once("interop".to_owned()).chain(args)) {
        Ok(args) => args,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    };
    if args.list {
        return list(&args);
    }
    if args.ci {
        prepare::everything()?;
    }
    let directions: Vec<Direction> =
        Direction::ALL.into_iter().filter(|direction| args.only().is_none_or(|only| only == *direction)).collect();
    let no_guest = if directions.iter().any(|direction| direction.is_guest()) { guest::unavailable()? } else { None };
    let no_wires = if directions.contains(&Direction::Wire) { wire::unavailable() } else { None };
    let unavailable = |direction: Direction| match direction {
        Direction::LinuxHost | Direction::LinuxTarget => no_guest.as_deref(),
        Direction::Wire => no_wires.as_deref(),
        Direction::Killed | Direction::ForeignHost => None,
    };
    let possible = directions.iter().any(|direction| unavailable(*direction).is_none());
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize().with_context(|| binary.display().to_string())?,
        None if possible => build(args.debug)?,
        None => PathBuf::new(),
    };
    let depth = if args.quick || args.ci { Depth::Quick } else { Depth::Full };
    let dir = std::env::temp_dir().join(format!("interlock-interop-{}", std::process::id()));
    let mut whole = Tally::default();
    let mut silent = Vec::new();
    for direction in directions {
        let setup =
            Setup { binary: binary.clone(), dir: dir.join(direction.name()), depth, exceptions: Exceptions::read()? };
        let why = unavailable(direction);
        let mut tally = Tally::default();
        match direction {
            Direction::LinuxHost => run(direction, linux_host::CASES, &args, depth, why, &mut tally, || {
                linux_host::LinuxHost::start(setup)
            })?,
            Direction::LinuxTarget => run(direction, linux_target::CASES, &args, depth, why, &mut tally, || {
                linux_target::LinuxTarget::start(setup)
            })?,
            Direction::ForeignHost => {
                run(direction, foreign::CASES, &args, depth, why, &mut tally, || foreign::Foreign::start(setup))?;
            }
            Direction::Killed => {
                run(direction, sigkill::CASES, &args, depth, why, &mut tally, || sigkill::Sigkill::start(setup))?;
            }
            Direction::Wire => {
                run(direction, wire::CASES, &args, depth, why, &mut tally, || wire::Wire::start(setup))?;
            }
        }
        if direction.is_guest() && tally.passed == 0 {
            silent.push(direction.name());
        }
        whole.add(&tally);
    }
    if args.keep {
        say(&format!("what every step said is in {}", dir.display()))?;
    } else if dir.exists() {
        std::fs::remove_dir_all(&dir).context("the folder of this run cannot be removed")?;
    }
    let Tally { passed, failed, skipped } = whole;
    say(&format!("{passed} passed, {failed} failed, {skipped} skipped"))?;
    if passed + failed + skipped == 0 {
        bail!("no case has such a name: see --list");
    }
    if args.ci && !silent.is_empty() {
        say(&format!("not green: nothing passed in {}", silent.join(" and ")))?;
        return Ok(ExitCode::FAILURE);
    }
    // A run that tried nothing has shown nothing.
    Ok(if failed > 0 || passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn wanted<'a, B>(cases: &'a [Case<B>], args: &'a Args, depth: Depth) -> impl Iterator<Item = &'a Case<B>> {
    cases.iter().filter(move |case| {
        let named = args.cases.iter().any(|name| case.name.contains(name.as_str()));
        // Who names a case wants it, however long it takes.
        if args.cases.is_empty() { depth == Depth::Full || case.from == Depth::Quick } else { named }
    })
}

fn run<B: Bench>(
    direction: Direction,
    cases: &[Case<B>],
    args: &Args,
    depth: Depth,
    unavailable: Option<&str>,
    tally: &mut Tally,
    start: impl FnOnce() -> Result<B>,
) -> Result<()> {
    let cases: Vec<_> = wanted(cases, args, depth).collect();
    if cases.is_empty() {
        return Ok(());
    }
    if let Some(why) = unavailable {
        for case in cases {
            tally.line(direction, case.name, Duration::ZERO, &Err(Skip(why.to_owned()).into()))?;
        }
        return Ok(());
    }
    let began = Instant::now();
    let mut bench = match start() {
        Ok(bench) => bench,
        Err(error) => {
            let error = error.context("the guest or our end did not come up");
            return tally.line(direction, "boot", began.elapsed(), &Err(error));
        }
    };
    if direction.is_guest() {
        // A boot proves nothing and is not counted.
        say(&format!("{}: a Linux kernel is up after {:.1} s", direction.name(), began.elapsed().as_secs_f64()))?;
    }
    for case in cases {
        let began = Instant::now();
        let result = bench.before(case.name).and_then(|()| (case.steps)(&mut bench));
        let log = bench.after(case.name);
        let result = match (result, log) {
            (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(lines)) if !lines.is_empty() => {
                Err(anyhow::anyhow!("the kernel complained: {}", lines.join(" | ")))
            }
            (Err(error), Ok(lines)) if !lines.is_empty() && error.downcast_ref::<Skip>().is_none() => {
                Err(error.context(format!("the kernel complained: {}", lines.join(" | "))))
            }
            (result, _) => result,
        };
        tally.line(direction, case.name, began.elapsed(), &result)?;
    }
    Ok(())
}

fn list(args: &Args) -> Result<ExitCode> {
    fn part<B>(direction: Direction, cases: &[Case<B>], args: &Args) -> Result<()> {
        if args.only().is_some_and(|only| only != direction) {
            return Ok(());
        }
        for case in cases {
            let quick = if case.from == Depth::Quick { "quick" } else { "" };
            say(&format!("{:<34} {quick:<5}  {}", format!("{}/{}", direction.name(), case.name), case.proves))?;
        }
        Ok(())
    }
    part(Direction::ForeignHost, foreign::CASES, args)?;
    part(Direction::Killed, sigkill::CASES, args)?;
    part(Direction::LinuxHost, linux_host::CASES, args)?;
    part(Direction::LinuxTarget, linux_target::CASES, args)?;
    part(Direction::Wire, wire::CASES, args)?;
    Ok(ExitCode::SUCCESS)
}

/// The product, as a user would run it.
fn build(debug: bool) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "interlock-cli", "--message-format", "json-render-diagnostics"]);
    if !debug {
        cargo.arg("--release");
    }
    let output =
        cargo.current_dir(root()).stderr(std::process::Stdio::inherit()).output().context("cargo cannot be run")?;
    if !output.status.success() {
        bail!("the product cannot be built");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    executable.context("cargo built no program")
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
