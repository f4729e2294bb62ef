//! `interlock config validate|show`: what the configuration says, without a daemon.

use crate::output::{Format, OutputArgs, print, say};
use crate::sources::configuration;
use clap::Subcommand;
use interlock_api::ConnectRequest;
use interlock_daemon::{Config, Exclusions, fabrics, identity, same_identity};
use interlock_host::HostSettings;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Check the configuration, or print the effective one
#[derive(clap::Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check all files; the exit code is 1 if anything is wrong
    Validate(Files),
    /// Print the effective configuration: what would be connected and exported
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

/// Everything that the daemon would read.
struct All {
    config: Config,
    theirs: fabrics::Wanted,
    /// What it would refuse.
    problems: Vec<String>,
    /// What must not be connected by itself; `None`: a list cannot be read.
    excluded: Option<Exclusions>,
    /// This host, as the lists name it.
    who: Option<HostSettings>,
}

fn read(files: &Files) -> anyhow::Result<All> {
    let config = configuration(files.config.as_ref())?;
    let mut problems: Vec<String> = config.check_here().err().into_iter().collect();
    let who = identity::look(&files.nvme_dir).unwrap_or_else(|error| {
        problems.push(error.to_string());
        None
    });
    let theirs = fabrics::Wanted::read(&files.nvme_dir, who.as_ref());
    problems.extend(theirs.problems.iter().cloned());
    let excluded = match Exclusions::read(&files.nvme_dir) {
        Ok(lists) => {
            problems.extend(lists.problems.iter().cloned());
            Some(lists)
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    if let Some(who) = who.as_ref().filter(|_| !config.daemon.share_identity_with_kernel) {
        match same_identity(Path::new("/sys"), who) {
            Ok(controllers) => problems.extend(controllers.iter().map(|one| {
                format!("the kernel's NVMe driver uses the identity of this host: {one}; the daemon refuses a first start beside it")
            })),
            Err(error) => problems.push(format!("/sys/class/nvme: {error}")),
        }
    }
    Ok(All { config, theirs, problems, excluded, who })
}

fn validate(files: &Files) -> anyhow::Result<ExitCode> {
    let All { config, theirs, problems, .. } = read(files)?;
    for problem in &problems {
        say(&format!("error: {problem}"))?;
    }
    for note in &theirs.notes {
        say(&format!("note: {note}"))?;
    }
    if files.output.format == Format::Json {
        let text = json!({ "format_version": 1, "problems": problems, "notes": theirs.notes });
        print(&serde_json::to_string_pretty(&text)?)?;
    } else if problems.is_empty() {
        let (connections, discovery) = (theirs.connections.len(), theirs.discovery.len());
        print(&format!(
            "good: {} connection(s), {} discovery controller(s), {} export(s)",
            config.requests().len() + if config.daemon.nvme_cli_files { connections } else { 0 },
            config.discovery.len() + if config.daemon.nvme_cli_files { discovery } else { 0 },
            config.exports.len()
        ))?;
        if connections + discovery > 0 && !config.daemon.nvme_cli_files {
            print(&format!(
                "{}: {connections} connection(s) and {discovery} discovery controller(s) of nvme-cli, which the daemon does not \
                 connect without `nvme_cli_files = true` in [daemon]",
                files.nvme_dir.display()
            ))?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As `[[connect]]` takes it.
fn table(request: &ConnectRequest) -> Option<toml::Table> {
    // That a file names it goes without saying there.
    toml::Table::try_from(ConnectRequest { found: false, ..request.clone() }).ok()
}

fn show(files: &Files) -> anyhow::Result<ExitCode> {
    let All { config, theirs, problems, excluded, who } = read(files)?;
    let mut connections = config.requests();
    connections.extend(theirs.connections);
    let mut discovery = config.discovery();
    discovery.extend(theirs.discovery.iter().map(|one| one.controller.clone()));
    let mut notes = theirs.notes;
    // Without an identity the daemon makes one: no list can name it.
    let who = who.map_or_else(HostSettings::random, Ok)?;
    let mut is_left = |one: &ConnectRequest| {
        let left = excluded.as_ref().is_some_and(|lists| !lists.excludes(one, &who));
        if !left {
            notes.push(format!(
                "{} on {} port {}: excluded from automatic connection",
                one.subnqn, one.traddr, one.trsvcid
            ));
        }
        left
    };
    connections.retain(&mut is_left);
    discovery.retain(&mut is_left);
    match files.output.format {
        Format::Json => {
            let text = json!({
                "format_version": 1,
                "daemon": config.daemon,
                "connections": connections,
                "discovery": discovery,
                "exports": config.exports,
                "problems": problems,
                "notes": notes,
            });
            print(&serde_json::to_string_pretty(&text)?)?;
        }
        Format::Normal => {
            // As one file that says everything: the files of nvme-cli become part of it.
            let mut whole = config.clone();
            whole.defaults = Default::default();
            whole.connections = connections.iter().filter_map(table).collect();
            print(&whole.to_toml())?;
            for one in theirs.discovery.iter().filter(|one| discovery.contains(&one.controller)) {
                print(&format!(
                    "# discovery controller {} port {}: see `interlock connect-all`",
                    one.controller.traddr, one.controller.trsvcid
                ))?;
            }
            for problem in &problems {
                say(&format!("error: {problem}"))?;
            }
            for note in &notes {
                say(&format!("note: {note}"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
