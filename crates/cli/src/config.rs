//! `interlock config validate|show`: what the configuration says, without a daemon.

use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print, say};
use clap::Subcommand;
use interlock_daemon::{Config, ConfigError, Exclusions, Places, fabrics};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Check the configuration, or show what it comes to
#[derive(clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check all files; exit code 1 if anything is wrong
    Validate(Files),
    /// Show what would be connected and exported
    Show(Files),
}

#[derive(clap::Args)]
struct Files {
    /// Configuration; default: /etc/interlock/interlock.toml
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory with the files of nvme-cli
    #[arg(long, value_name = "DIR", default_value = "/etc/nvme")]
    nvme_dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Validate(files) => validate(files),
        Verb::Show(files) => show(files),
    }
}

fn read(files: &Files) -> anyhow::Result<(Config, fabrics::Wanted)> {
    let usual = Places::usual().config;
    let config = Config::read(files.config.as_ref().unwrap_or(&usual), files.config.is_some()).map_err(|error| {
        let failure = Failure::new(&error);
        match error {
            ConfigError::Bad { hint: Some(hint), .. } => failure.hint(hint),
            _ => failure,
        }
    })?;
    let mut theirs = fabrics::Wanted::read(&files.nvme_dir);
    theirs.problems.extend(Exclusions::read(&files.nvme_dir).problems);
    Ok((config, theirs))
}

fn validate(files: &Files) -> anyhow::Result<ExitCode> {
    let (config, theirs) = read(files)?;
    for problem in &theirs.problems {
        say(&format!("error: {problem}"))?;
    }
    if files.output.format == Format::Json {
        print(&serde_json::to_string_pretty(&json!({ "format_version": 1, "problems": theirs.problems }))?)?;
    } else if theirs.problems.is_empty() {
        let connections = config.requests().len() + theirs.connections.len();
        print(&format!(
            "good: {connections} connection(s), {} discovery controller(s), {} export(s)",
            config.discovery.len() + theirs.discovery.len(),
            config.exports.len()
        ))?;
    }
    Ok(if theirs.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(files: &Files) -> anyhow::Result<ExitCode> {
    let (config, theirs) = read(files)?;
    let mut connections = config.requests();
    connections.extend(theirs.connections);
    match files.output.format {
        Format::Json => {
            let text = json!({
                "format_version": 1,
                "daemon": config.daemon,
                "connections": connections,
                "discovery": config.discovery().into_iter().chain(theirs.discovery).collect::<Vec<_>>(),
                "exports": config.exports,
                "problems": theirs.problems,
            });
            print(&serde_json::to_string_pretty(&text)?)?;
        }
        Format::Normal => {
            // As one file that says everything: the files of nvme-cli become part of it.
            let mut whole = config.clone();
            whole.defaults = Default::default();
            whole.connections = connections.iter().filter_map(|request| toml::Table::try_from(request).ok()).collect();
            print(&whole.to_toml())?;
            for one in &theirs.discovery {
                print(&format!(
                    "# discovery controller {} port {}: see `interlock connect-all`",
                    one.traddr, one.trsvcid
                ))?;
            }
            for problem in &theirs.problems {
                say(&format!("error: {problem}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
