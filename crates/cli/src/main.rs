//! The one binary, `interlock`: parses, calls, prints.
//!
//! What a command found goes to standard output, as text or as JSON; what went wrong goes to standard error, as one
//! sentence and what to do next. Exit codes: 0 success, 1 failure; of `drill` 0 safe, 1 unsafe, 2
//! inconclusive, 3 not drilled.

mod ask;
mod complete;
mod config;
mod connect;
mod connect_all;
mod daemon;
mod discover;
mod doctor;
mod drill;
mod events;
mod explain;
mod failure;
mod handover;
#[cfg(test)]
mod helps;
mod id_ctrl;
mod identity;
mod io;
mod list;
mod log;
mod manage;
mod metrics;
mod nvme_cli;
mod output;
mod pages;
mod source;
mod sources;
mod status;
mod target;
#[cfg(test)]
mod texts;
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
    Daemon(daemon::DaemonArgs),
    Connect(connect::ConnectArgs),
    ConnectAll(connect_all::ConnectAllArgs),
    Disconnect(connect::DisconnectArgs),
    DisconnectAll(connect::DisconnectAllArgs),
    /// List namespaces; with -v, subsystems and controllers as well
    List(list::ListArgs),
    /// List subsystems and their controllers
    ListSubsys(list::ListArgs),
    /// List subsystems, their namespaces and the paths to them
    ShowTopology(list::ListArgs),
    Status(status::StatusArgs),
    /// Reconnect a lost controller now; also one that was given up
    Reconnect(manage::DeviceArgs),
    /// Read the namespaces of a controller again, as after an event
    #[command(alias = "rescan")]
    NsRescan(manage::DeviceArgs),
    /// Reset a controller: drain, shut down, reconnect
    Reset(manage::DeviceArgs),
    Set(manage::SetArgs),
    Fence(manage::FenceArgs),
    Handover(handover::HandoverArgs),
    ClearFlushError(manage::ClearFlushErrorArgs),
    Export(manage::ExportArgs),
    Unexport(manage::UnexportArgs),
    Events(events::EventsArgs),
    History(explain::HistoryArgs),
    Explain(explain::ExplainArgs),
    Io(io::IoArgs),
    Config(config::ConfigArgs),
    Drill(drill::DrillArgs),
    Target(target::TargetArgs),
    Discover(discover::DiscoverArgs),
    Doctor(doctor::DoctorArgs),
    IdCtrl(id_ctrl::IdCtrlArgs),
    Top(top::TopArgs),
    Metrics(metrics::MetricsArgs),
    Completion(pages::CompletionArgs),
    Man(pages::ManArgs),
}

fn main() -> ExitCode {
    let args = nvme_cli::spelt(std::env::args_os());
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if let [_, asked, rest @ ..] = words.as_slice()
        && asked == complete::ASKED_BY_SCRIPTS
    {
        complete::run::<Cli>(rest);
        return ExitCode::SUCCESS;
    }
    let format = output::asked_for(std::env::args_os());
    // Exit code 1 of a drill says that data is not safe, and nothing else may.
    let drills = std::env::args_os().nth(1).is_some_and(|word| word == "drill");
    let failed = |code: ExitCode| {
        if drills && code == ExitCode::FAILURE { ExitCode::from(interlock_drill::NOT_DRILLED) } else { code }
    };
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(failure) = nvme_cli::explained(&error, &words) {
                return failed(failure::report(&failure.into(), format));
            }
            // Help and version are no failure. Nothing can be done if even this cannot be printed.
            if error.use_stderr() && format == output::Format::Json {
                let text = error.render().to_string();
                // The first paragraph: what is missing stands in lines of its own.
                let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
                let first = first.join(" ");
                let failure = failure::Failure::new(first.trim_start_matches("error: "))
                    .kind(interlock_api::ProblemKind::BadRequest);
                return failed(failure::report(&failure.hint("see `--help`").into(), format));
            }
            let _ = error.print();
            return if error.use_stderr() { failed(ExitCode::FAILURE) } else { ExitCode::SUCCESS };
        }
    };
    if !matches!(cli.command, Command::Daemon(_)) {
        log::of_a_verb();
    }
    let result = match &cli.command {
        Command::Daemon(args) => daemon::run(args),
        Command::Connect(args) => connect::connect(args),
        Command::ConnectAll(args) => connect_all::run(args),
        Command::Disconnect(args) => connect::disconnect(args),
        Command::DisconnectAll(args) => connect::disconnect_all(args),
        Command::List(args) => list::list(args),
        Command::ListSubsys(args) => list::list_subsys(args),
        Command::ShowTopology(args) => list::show_topology(args),
        Command::Status(args) => status::run(args),
        Command::Reconnect(args) => manage::reconnect(args),
        Command::NsRescan(args) => manage::rescan(args),
        Command::Reset(args) => manage::reset(args),
        Command::Set(args) => manage::set(args),
        Command::Fence(args) => manage::fence(args),
        Command::Handover(args) => handover::run(args),
        Command::ClearFlushError(args) => manage::clear_flush_error(args),
        Command::Export(args) => manage::export(args),
        Command::Unexport(args) => manage::unexport(args),
        Command::Events(args) => events::run(args),
        Command::History(args) => explain::history(args),
        Command::Explain(args) => explain::explain(args),
        Command::Io(args) => io::run(args),
        Command::Config(args) => config::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Target(args) => target::run(args),
        Command::Discover(args) => discover::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::IdCtrl(args) => id_ctrl::run(args),
        Command::Top(args) => top::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Completion(args) => pages::completion::<Cli>(args),
        Command::Man(args) => pages::man::<Cli>(args),
    };
    result.unwrap_or_else(|error| failed(failure::report(&error, format)))
}
