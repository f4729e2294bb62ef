//! `interlock top`: watch paths, live or once.

use crate::output;
use crate::source::SourceArgs;
use anyhow::{Context, Result};
use interlock_top::{Options, once};
use std::process::ExitCode;
use std::time::Duration;

/// Watch subsystems, controllers and paths: I/O, states, counters and events
///
/// top shows the controllers of the daemon if one runs, and otherwise those of the kernel, from /sys. That needs no daemon and
/// no privilege; only resetting a counter needs root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  interlock top                          live, every second
  interlock top -d 5                     every five seconds
  interlock top --source sys             what the kernel drives, also if the daemon is there
  interlock top --once -o json           one sample for a script
  interlock top --once -o csv            a line for each path")]
pub(crate) struct TopArgs {
    /// Seconds between samples
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=3600))]
    delay: u16,
    /// Print one sample and exit
    #[arg(long)]
    once: bool,
    /// Format of --once [default: csv]
    #[arg(short = 'o', long = "output-format", value_name = "FORMAT", value_enum, requires = "once")]
    format: Option<Format>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Csv,
}

pub(crate) fn run(args: &TopArgs) -> Result<ExitCode> {
    let mut source = args.source.source()?;
    let delay = Duration::from_secs(args.delay.into());
    if !args.once {
        // A source that is not there is said at once, in words that stay on the screen.
        source.sample()?;
        interlock_top::run(&mut *source, Options { delay }).context("the monitor ended")?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = once::look(&mut *source, delay)?;
    output::print(&match args.format.unwrap_or(Format::Csv) {
        Format::Json => report.to_json()?,
        Format::Csv => report.to_csv(),
    })?;
    Ok(ExitCode::SUCCESS)
}
