//! `interlock connect-all`: everything that a discovery controller names, or everything that is configured.
//!
//! What fails does not keep the rest from being tried, and whatever failed is named and makes the exit code 1: a service
//! manager that sees success would never try again.

use crate::ask::{AskArgs, failed};
use crate::connect::{SettingArgs, WhoArgs, as_command, connect_one};
use crate::failure::Failure;
use crate::identity::Looker;
use crate::output::{Format, OutputArgs, print, say};
use crate::sources::Sources;
use interlock_api::{Client, ConnectRequest, DiscoveryControllers};
use interlock_daemon::{DiscoveryController, Exclusions, discovered};
use interlock_host::{HostSettings, Nqn};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Connect everything that a discovery controller names; without -a, everything that is configured
#[derive(clap::Args)]
pub(crate) struct ConnectAllArgs {
    /// Address or name of a discovery controller; default: those of the configuration
    #[arg(short = 'a', long, value_name = "ADDR", value_parser = crate::connect::address)]
    traddr: Option<String>,
    /// TCP port of the discovery service
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 8009, requires = "traddr")]
    trsvcid: u16,
    /// NQN of the discovery controller; default: the well-known one
    #[arg(short = 'n', long, value_name = "NQN", requires = "traddr")]
    nqn: Option<String>,
    /// Transport
    #[arg(short, long, value_name = "TYPE", value_enum, default_value_t = crate::identity::Transport::Tcp)]
    transport: crate::identity::Transport,
    /// Configuration; default: /etc/interlock/interlock.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory with the files of nvme-cli
    #[arg(long, value_name = "DIR", default_value = "/etc/nvme")]
    nvme_dir: PathBuf,
    /// Give up on a discovery controller after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout: u64,
    /// Keep watching the discovery controller, also after restarts, and connect what it names later
    #[arg(short = 'p', long, requires = "traddr", conflicts_with = "dry_run")]
    persistent: bool,
    /// Print what would be connected, and connect nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    settings: SettingArgs,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &ConnectAllArgs) -> anyhow::Result<ExitCode> {
    let crate::identity::Transport::Tcp = args.transport;
    let client = args.ask.client();
    let status = args.ask.status()?;
    args.who.check(&client)?;
    // The target must see the host that will connect.
    let who = HostSettings {
        hostnqn: Nqn::new(status.hostnqn.as_str()).map_err(Failure::new)?,
        hostid: status.hostid.parse().map_err(|why| Failure::new(format!("{why}")))?,
    };
    // What belongs to somebody else is not connected by itself; while nobody knows what that is, nothing is.
    let excluded = Exclusions::read(&args.nvme_dir).map_err(Failure::caused)?;
    let Sources { mut wanted, mut ask, mut problems, .. } = sources(args, &who)?;
    problems.extend(excluded.problems.iter().cloned());
    // One that is given with -a is asked for by name.
    ask.retain(|one| args.traddr.is_some() || !excluded.excludes(&one.controller, &who));
    let looker = Looker::new()?;
    for controller in &ask {
        let all = discovered(&looker.reactor(), controller, &who, Duration::from_millis(args.timeout));
        wanted.extend(all.found);
        problems.extend(all.problems);
    }
    looker.end()?;
    wanted.retain(|found| !excluded.excludes(found, &who));
    // The same port may be named by several.
    let mut seen = Vec::<ConnectRequest>::new();
    for request in &mut wanted {
        request.first_attempt_decides = true;
        args.settings.apply(request);
    }
    wanted.retain(|request| {
        let new = !seen.iter().any(|old| old.is_same_path(request));
        seen.extend(new.then(|| request.clone()));
        new
    });
    let mut connected = Vec::new();
    if !args.dry_run {
        connect(&client, &wanted, &mut connected, &mut problems);
    }
    for one in ask.iter().filter(|_| args.persistent) {
        client.send::<DiscoveryControllers>("POST", "/v1/discovery", &one.controller).map_err(failed)?;
    }
    report(args, &wanted, &connected, &problems)
}

/// What is to be connected, and who is to be asked.
fn sources(args: &ConnectAllArgs, who: &HostSettings) -> anyhow::Result<Sources> {
    if let Some(traddr) = &args.traddr {
        let nqn = args.nqn.clone().unwrap_or_else(|| Nqn::discovery().to_string());
        let request = args.settings.request(traddr, args.trsvcid, &nqn)?;
        return Ok(Sources { ask: vec![DiscoveryController::of(request)], ..Sources::default() });
    }
    args.settings.refuse_security()?;
    let sources = Sources::read(args.config.as_ref(), &args.nvme_dir, who)?;
    if sources.is_empty() {
        let text = "nothing is configured";
        return Err(Failure::new(text)
            .kind(interlock_api::ProblemKind::NotFound)
            .hint("give a discovery controller with -a")
            .hint("or write [[connect]] into the configuration")
            .into());
    }
    sources.say_notes()?;
    Ok(sources)
}

fn connect(
    client: &Client,
    wanted: &[ConnectRequest],
    connected: &mut Vec<(String, ConnectRequest)>,
    problems: &mut Vec<String>,
) {
    for request in wanted {
        match connect_one(client, request, true) {
            Ok(done) => connected.push((done.device, request.clone())),
            Err(failure) => {
                let at = format!("{} on {} port {}", request.subnqn, request.traddr, request.trsvcid);
                problems.push(format!("{at}: {}", failure.in_one_line()));
            }
        }
    }
}

fn report(
    args: &ConnectAllArgs,
    wanted: &[ConnectRequest],
    connected: &[(String, ConnectRequest)],
    problems: &[String],
) -> anyhow::Result<ExitCode> {
    match args.output.format {
        Format::Json => {
            let done: Vec<_> =
                connected.iter().map(|(device, request)| json!({ "device": device, "request": request })).collect();
            let text = json!({ "format_version": 1, "wanted": wanted, "connected": done, "problems": problems });
            print(&serde_json::to_string_pretty(&text)?)?;
        }
        Format::Normal if args.dry_run => {
            for request in wanted {
                print(&as_command(request))?;
            }
        }
        Format::Normal => {
            for (device, request) in connected {
                print(&format!("{device}: {} on {} port {}", request.subnqn, request.traddr, request.trsvcid))?;
            }
        }
    }
    for problem in problems {
        say(&format!("error: {problem}"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
