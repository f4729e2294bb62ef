//! Instructions that the cores need for a request.
//!
//! Times on a shared machine say little, and a slow leak of speed goes unnoticed. Instructions can be counted exactly: the
//! two cores are joined through memory (`crates/fuzz/src/bin/instructions.rs`), and callgrind counts what is executed of
//! their source files, the code of others that was inlined into their functions included. The counts are kept in a file;
//! a change that makes them grow by more than `Build::tolerance` must change that file on purpose.
//!
//! Two builds are counted. The build that the tests use is there already, and its counts do not depend on what the optimiser
//! happens to inline. The optimized build (`--optimized`) is what a user runs. Both say that the cores do more than before,
//! not how long it takes; that is what `bench` is for.

use crate::house;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};

/// A build whose instructions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    /// The build of the tests.
    Plain,
    /// The release build.
    Optimized,
}

impl Build {
    /// Growth that is no news.
    const fn tolerance(self) -> f64 {
        match self {
            Self::Plain => 0.05,
            Self::Optimized => 0.02,
        }
    }
}

/// What arithmetic with fractions adds.
const ROUNDING: f64 = 1e-9;

/// Where the counts are kept.
const KEPT: &str = "crates/bench/instructions.json";

/// Requests that are counted per operation.
const REQUESTS: u64 = 640;

/// The crates whose code is counted.
const CORES: [&str; 6] = ["base", "wire", "fence", "proto", "host-core", "target-core"];

/// Instructions per request, by crate.
type Counts = BTreeMap<String, f64>;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// With which they were counted: another one counts differently.
    rustc: String,
    /// By operation: 4 KiB, 32 in flight.
    operations: BTreeMap<String, Counts>,
    /// The same of the optimized build.
    #[serde(default)]
    optimized: BTreeMap<String, Counts>,
}

impl Kept {
    const fn of(&self, build: Build) -> &BTreeMap<String, Counts> {
        match build {
            Build::Plain => &self.operations,
            Build::Optimized => &self.optimized,
        }
    }
}

/// `cargo xtask instructions [--optimized] [--write]`: compares with what is kept, or keeps what was counted.
///
/// # Errors
/// They have grown, or cannot be counted.
pub fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let (mut write, mut build) = (false, Build::Plain);
    for arg in args {
        match arg.as_str() {
            "--write" => write = true,
            "--optimized" => build = Build::Optimized,
            _ => bail!("unknown option {arg:?}; the options are --optimized and --write"),
        }
    }
    let mut out = std::io::stdout().lock();
    if Command::new("valgrind").arg("--version").output().is_err() {
        writeln!(out, "SKIPPED: valgrind is not installed, so nobody has counted the instructions of the cores")?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = house::root().join(KEPT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {KEPT}"))?;
    let kept: Kept = serde_json::from_str(&text).with_context(|| KEPT.to_owned())?;
    let now = count(build)?;
    if write {
        let kept = match build {
            Build::Plain => Kept { optimized: kept.optimized, ..now },
            Build::Optimized => Kept { operations: kept.operations, ..now },
        };
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&kept)?))?;
        writeln!(out, "{}kept in {KEPT}", table(kept.of(build), kept.of(build)))?;
        return Ok(ExitCode::SUCCESS);
    }
    write!(out, "{}", table(kept.of(build), now.of(build)))?;
    if kept.rustc != now.rustc {
        writeln!(out, "kept with {}, counted with {}", kept.rustc, now.rustc)?;
    }
    let grown = grown(kept.of(build), now.of(build), build.tolerance());
    if grown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for (operation, growth) in grown {
        writeln!(out, "a {operation} takes {:.1} % more instructions than {KEPT} says", growth * 100.0)?;
    }
    writeln!(
        out,
        "if that is meant, the same command with `--write` keeps the new counts; say in the commit what they buy"
    )?;
    Ok(ExitCode::FAILURE)
}

type Operations = BTreeMap<String, Counts>;

fn table(kept: &Operations, now: &Operations) -> String {
    let mut text = String::new();
    for (operation, counts) in now {
        let kept = kept.get(operation).map_or(0.0, total);
        text += &format!("{operation}: {:.0} instructions per request, {kept:.0} kept (", total(counts));
        let parts: Vec<String> = counts.iter().map(|(part, count)| format!("{part} {count:.0}")).collect();
        text += &format!("{})\n", parts.join(", "));
    }
    text
}

fn total(counts: &Counts) -> f64 {
    counts.values().sum()
}

/// Operations that take more than is tolerated, and by which part.
fn grown(kept: &Operations, now: &Operations, tolerance: f64) -> Vec<(String, f64)> {
    let growth = |(operation, counts): (&String, &Counts)| {
        let before = kept.get(operation).map_or(0.0, total);
        (operation.clone(), if before > 0.0 { total(counts) / before - 1.0 } else { f64::INFINITY })
    };
    now.iter().map(growth).filter(|(_, growth)| *growth > tolerance + ROUNDING).collect()
}

fn count(build: Build) -> Result<Kept> {
    let mut arguments = vec!["build", "--quiet", "--package", "interlock-fuzz", "--bin", "instructions"];
    let folder = match build {
        Build::Plain => "debug",
        Build::Optimized => {
            arguments.push("--release");
            "release"
        }
    };
    let built = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(house::root())
        .status()
        .context("cargo cannot be run")?;
    ensure!(built.success(), "the program cannot be built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| house::root().join("target"), Into::into);
    let program = target.join(folder).join("instructions");
    let version = Command::new("rustc").arg("--version").current_dir(house::root()).output()?;
    let mut kept = Kept { rustc: String::from_utf8(version.stdout)?.trim().to_owned(), ..Kept::default() };
    for operation in ["read", "write"] {
        let counts = run(&program, operation)?;
        match build {
            Build::Plain => &mut kept.operations,
            Build::Optimized => &mut kept.optimized,
        }
        .insert(operation.to_owned(), counts);
    }
    Ok(kept)
}

fn run(program: &Path, operation: &str) -> Result<Counts> {
    let file = std::env::temp_dir().join(format!("interlock-instructions-{}-{operation}", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=*instructions*steady*",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args([operation, &REQUESTS.to_string()])
        .output()
        .context("valgrind cannot be run")?;
    ensure!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file)?;
    std::fs::remove_file(&file)?;
    let counts = parse(&text);
    ensure!(total(&counts) > 0.0, "callgrind counted nothing of the cores: has `steady` been inlined?");
    Ok(counts.into_iter().map(|(part, count)| (part, (count / REQUESTS as f64).round())).collect())
}

/// Instructions by crate, out of what callgrind writes: each line of cost belongs to a source file and to a function; the
/// line after `calls=` is the cost of somebody else.
fn parse(text: &str) -> Counts {
    let mut counts = Counts::new();
    let (mut file, mut function) = (None, None);
    let mut called = false;
    for line in text.lines() {
        if let Some((key, name)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => file = core_of_file(name),
                "fn" => function = core_of_function(name),
                "calls" => called = true,
                _ => {}
            }
            continue;
        }
        let Some((position, cost)) = line.split_once(' ') else { continue };
        if !position.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        if std::mem::take(&mut called) {
            continue;
        }
        if let (Some(core), Ok(cost)) = (file.or(function), cost.trim().parse::<f64>()) {
            *counts.entry(core.to_owned()).or_default() += cost;
        }
    }
    counts
}

fn core_of_file(name: &str) -> Option<&'static str> {
    CORES.into_iter().find(|core| name.contains(&format!("crates/{core}/src/")))
}

/// Functions of a core, and what the compiler made of somebody's generic code for its types.
fn core_of_function(name: &str) -> Option<&'static str> {
    let crate_of = |core: &str| format!("interlock_{}::", core.replace('-', "_"));
    let at = |core: &&str| name.find(&crate_of(core));
    CORES.into_iter().filter(|core| at(core).is_some()).min_by_key(|core| at(core))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_go_to_the_source_file_or_else_to_the_function_and_never_to_a_caller() {
        let text = "\
events: Ir
fl=/src/crates/proto/src/frame.rs
fn=interlock_proto::frame::Frames::feed
10 100
fi=/rustc/library/alloc/src/vec/mod.rs
11 20
fe=/src/crates/proto/src/frame.rs
cfn=memcpy
calls=1 5
12 4000
13 1
fl=/lib/string.c
fn=memcpy
5 4000
fl=/src/crates/fuzz/src/rig/host.rs
fn=interlock_fuzz::rig::host::HostRig::run
7 50
fi=/src/crates/host-core/src/lane.rs
8 7
totals: 4178
";
        let counts = parse(text);
        assert_eq!(counts, [("host-core".to_owned(), 7.0), ("proto".to_owned(), 121.0)].into());
    }

    #[test]
    fn growth_beyond_the_tolerance_is_named_and_less_is_not() {
        let kept = |read: f64| Operations::from([("read".to_owned(), [("proto".to_owned(), read)].into())]);
        assert!(grown(&kept(100.0), &kept(105.0), 0.05).is_empty());
        assert!(grown(&kept(100.0), &kept(90.0), 0.05).is_empty());
        assert_eq!(grown(&kept(100.0), &kept(106.0), 0.05).len(), 1);
        assert_eq!(grown(&kept(100.0), &kept(103.0), 0.02).len(), 1);
        assert_eq!(grown(&Operations::new(), &kept(1.0), 0.05).len(), 1, "an operation that is not in the file");
    }
}
