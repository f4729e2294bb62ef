//! Runs the benchmark: a program of its own, built as what is shipped.

use crate::house;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};

/// `cargo xtask bench [...]`: the arguments are the benchmark's own.
///
/// # Errors
/// If cargo cannot be run.
pub fn main(args: impl Iterator<Item = String>) -> Result<ExitCode> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", "interlock-bench", "--bin", "interlock-bench", "--"])
        .args(args)
        .current_dir(house::root())
        .status()
        .context("cargo cannot be run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
