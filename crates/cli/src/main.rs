//! The one binary, `interlock`: parses, calls, prints.
//!
//! What a command found goes to standard output, as text or as JSON; what went wrong goes to standard error, as one
//! sentence and what to do next. Exit codes: 0 success, 1 failure; `drill` also has 2, inconclusive.

mod discover;
mod doctor;
mod drill;
mod failure;
mod identity;
mod output;
mod target;
mod top;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// An NVMe/TCP host in user space that fences before it fails over.
#[derive(Parser)]
#[command(name = "interlock", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Drill(drill::DrillArgs),
    Target(target::TargetArgs),
    Discover(discover::DiscoverArgs),
    Doctor(doctor::DoctorArgs),
    Top(top::TopArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no failure. Nothing can be done if even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let result = match &cli.command {
        Command::Drill(args) => drill::run(args),
        Command::Target(args) => target::run(args),
        Command::Discover(args) => discover::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Top(args) => top::run(args),
    };
    result.unwrap_or_else(|error| failure::report(&error))
}
