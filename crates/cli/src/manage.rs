//! `interlock reset`, `ns-rescan`, `reconnect`, `set`, `fence`, `clear-flush-error`, `export`, `unexport`, `events`.

use crate::ask::{AskArgs, EndArgs, failed};
use crate::connect::{Fence, Loss, Policy, each, seconds_or_off};
use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print, say};
use clap::ValueEnum;
use interlock_api::{
    ClientError, Done, ExportKind, ExportOnLoss, ExportRequest, ExportStatus, Exports, Fenced, ProblemKind, SetRequest,
    escaped,
};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A block device begins when earlier lives are fenced: an assumed quiesce time may have to pass.
const EXPORT_WITHIN: Duration = Duration::from_secs(120);

/// Which devices.
#[derive(clap::Args)]
pub(crate) struct DeviceArgs {
    /// Controllers or subsystems by name, as in nvme0 or nvme-subsys0
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<String>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// End the life of a controller in order and begin a new one.
pub(crate) fn reset(args: &DeviceArgs) -> anyhow::Result<ExitCode> {
    to_each(args, "reset")
}

/// Look at the namespaces of a controller now.
pub(crate) fn rescan(args: &DeviceArgs) -> anyhow::Result<ExitCode> {
    to_each(args, "rescan")
}

/// Try now to reconnect a lost controller.
pub(crate) fn reconnect(args: &DeviceArgs) -> anyhow::Result<ExitCode> {
    to_each(args, "reconnect")
}

fn to_each(args: &DeviceArgs, verb: &str) -> anyhow::Result<ExitCode> {
    let client = args.ask.client();
    let (mut all, mut failures) = (Done::default(), Vec::new());
    for device in &args.devices {
        let word = device.strip_prefix("/dev/").unwrap_or(device);
        match client.call::<Done>("POST", &format!("/v1/controllers/{}/{verb}", escaped(word)), None) {
            Ok(done) => all.devices.extend(done.devices),
            Err(error) => failures.push(failed(error)),
        }
    }
    if args.output.format == Format::Normal && !all.devices.is_empty() {
        print(&all.devices.iter().map(|device| format!("{verb} {device}\n")).collect::<String>())?;
    }
    each(failures, &all.devices, args.devices.len(), args.output.format, || Ok(serde_json::to_string_pretty(&all)?))
}

fn told(done: &Done, verb: &str, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    print(&match output.format {
        Format::Normal => done.devices.iter().map(|device| format!("{verb} {device}\n")).collect(),
        Format::Json => serde_json::to_string_pretty(done)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Change settings of a connected controller, or of all of a subsystem
#[derive(clap::Args)]
pub(crate) struct SetArgs {
    /// Controller or subsystem by name, as in nvme0 or nvme-subsys0
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Seconds between attempts to reconnect
    #[arg(short = 'c', long, value_name = "S")]
    reconnect_delay: Option<u32>,
    /// Give up on a lost controller after this many seconds; -1 or `off`: never
    #[arg(short = 'l', long, value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    ctrl_loss_tmo: Option<i64>,
    /// Fail I/O that is not in doubt after this many seconds without a path; -1 or `off`: never
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    fast_io_fail_tmo: Option<i64>,
    /// Policy that chooses the path of a command, for the whole subsystem
    #[arg(long, value_name = "POLICY", value_enum)]
    iopolicy: Option<Policy>,
    /// When to repeat a write of a lost path elsewhere
    #[arg(long, value_name = "POLICY", value_enum)]
    fence_policy: Option<Fence>,
    /// Who reconnects a lost controller
    #[arg(long, value_name = "WHO", value_enum)]
    on_loss: Option<Loss>,
    /// Allowance for a slow clock of the target: percent by which its times may be longer than stated, 0 to 100; for losses
    /// from now on
    #[arg(long, value_name = "PERCENT", value_parser = crate::connect::percent)]
    clock_slew: Option<u16>,
    /// Quiesce time to assume where the target states none, in milliseconds; -1 or `never`: assume none; for losses from now on
    #[arg(long, value_name = "MS", allow_hyphen_values = true, value_parser = crate::connect::millis_or_never)]
    assumed_cqt: Option<i64>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn set(args: &SetArgs) -> anyhow::Result<ExitCode> {
    let request = SetRequest {
        reconnect_delay_s: args.reconnect_delay,
        ctrl_loss_tmo_s: args.ctrl_loss_tmo,
        fast_io_fail_tmo_s: args.fast_io_fail_tmo,
        iopolicy: args.iopolicy.map(Into::into),
        fence: args.fence_policy.map(Into::into),
        on_loss: args.on_loss.map(Into::into),
        clock_slew_permille: args.clock_slew,
        assumed_cqt_ms: args.assumed_cqt,
    };
    if request == SetRequest::default() {
        return Err(Failure::new("nothing is to be changed")
            .kind(ProblemKind::BadRequest)
            .hint("give at least one setting, such as -l (--ctrl-loss-tmo)")
            .into());
    }
    let word = args.device.strip_prefix("/dev/").unwrap_or(&args.device);
    let path = format!("/v1/controllers/{}", escaped(word));
    let done: Done = args.ask.client().send("PATCH", &path, &request).map_err(failed)?;
    told(&done, "set", &args.output)
}

/// Wait until this host cannot change a namespace any more, or accept the risk of a lost instance
///
/// With --wait, exit code 0 means that this host cannot write to the namespace any more: every lost instance is fenced, and no
/// controller of the subsystem is connected or being connected. While one is, the exit code is 1, unless --lost-only is given:
/// then only lost instances matter.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["wait", "accept_risk"])))]
pub(crate) struct FenceArgs {
    /// Namespace on which to wait for every lost instance to be fenced: nvme0n1, or NQN:NSID
    #[arg(long, value_name = "NAMESPACE")]
    wait: Option<String>,
    /// Declare this instance, as `status` names it, fenced without proof. UNSAFE, and counted as unsafe
    #[arg(long, value_name = "LIFE")]
    accept_risk: Option<String>,
    /// Succeed once every lost instance is fenced, although connected controllers can still write
    #[arg(long, requires = "wait")]
    lost_only: bool,
    /// Give up after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    timeout: u64,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn fence(args: &FenceArgs) -> anyhow::Result<ExitCode> {
    if let Some(life) = &args.accept_risk {
        let path = format!("/v1/lives/{}/accept-risk", escaped(life));
        let done: Done = args.ask.client().call("POST", &path, None).map_err(failed)?;
        return told(&done, "risk accepted for", &args.output);
    }
    let namespace = args.wait.as_deref().unwrap_or_default();
    let path = format!("/v1/namespaces/{}/fence?timeout_ms={}", escaped(namespace), args.timeout);
    let fenced: Fenced = args.ask.client_within(Duration::from_millis(args.timeout)).get(&path).map_err(failed)?;
    let alive: Vec<String> = fenced.alive.iter().map(|life| format!("{} of {}", life.life, life.controller)).collect();
    print(&match args.output.format {
        Format::Normal => {
            let rest = if alive.is_empty() {
                "this host cannot write to it any more".into()
            } else {
                format!("still connected, and able to write: {}", alive.join(", "))
            };
            format!("{}: every lost life is fenced; {rest}", fenced.namespace)
        }
        Format::Json => serde_json::to_string_pretty(&fenced)?,
    })?;
    if alive.is_empty() || args.lost_only {
        return Ok(ExitCode::SUCCESS);
    }
    say("error: this host can still write to it")?;
    say("hint: end that with `interlock disconnect`; if only lost lives matter, use --lost-only")?;
    Ok(ExitCode::FAILURE)
}

/// Let flushes of a namespace succeed again after one lost data; rewrite what was lost first
///
/// A target that could not make answered writes durable often reports it once. The daemon remembers it: every later flush of the
/// namespace fails, for every client, until this command. Which writes were lost cannot be known.
#[derive(clap::Args)]
pub(crate) struct ClearFlushErrorArgs {
    /// Namespace: nvme0n1, or NQN:NSID
    #[arg(value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn clear_flush_error(args: &ClearFlushErrorArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/namespaces/{}/flush-error", escaped(&args.namespace));
    let done: Done = args.ask.client().call("DELETE", &path, None).map_err(failed)?;
    told(&done, "flushes may succeed again on", &args.output)
}

/// Choices of `--on-loss` of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Held {
    /// I/O waits for a path, without a limit
    Hold,
    /// I/O fails; writes in doubt still wait for their fence
    Fail,
}

/// Choices of `--type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// NBD over a Unix socket, for qemu, nbdcopy, nbd-client and others
    Nbd,
    /// Block device of this kernel, /dev/ublkb0, with a link by its name in /dev/interlock; needs root
    Ublk,
}

/// Export a namespace as a block device; without a namespace, list the exports
///
/// Exports return after a restart, a crash and a SIGKILL of the daemon. A block device of the kernel stays meanwhile, and its
/// I/O waits; the next daemon fences what the dead process had sent before it sends anything again.
#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// Namespace: nvme0n1, or NQN:NSID
    #[arg(value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Kind of the block device
    #[arg(long = "type", value_name = "TYPE", value_enum, default_value_t = Kind::Nbd)]
    kind: Kind,
    /// Name for clients; default: the name of the namespace
    #[arg(long, value_name = "NAME", requires = "namespace")]
    name: Option<String>,
    /// N of /dev/ublkbN; default: the lowest that is free
    #[arg(long, value_name = "N", requires = "namespace")]
    ublk_id: Option<u32>,
    /// Unix socket for clients; default: nbd.sock beside the control socket
    #[arg(long, value_name = "PATH", requires = "namespace")]
    nbd_socket: Option<PathBuf>,
    /// Refuse writes
    #[arg(long, requires = "namespace")]
    read_only: bool,
    /// What clients see when no path is left; default: hold
    #[arg(long, value_name = "WHAT", value_enum, requires = "namespace")]
    on_loss: Option<Held>,
    /// Succeed if the namespace is exported already
    #[arg(long)]
    idempotent: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn export(args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let client = args.ask.client_within(EXPORT_WITHIN);
    let Some(namespace) = &args.namespace else {
        let all: Exports = client.get("/v1/exports").map_err(failed)?;
        print(&match args.output.format {
            Format::Normal if all.exports.is_empty() => "nothing is exported".into(),
            Format::Normal => all.exports.iter().map(|export| line(export) + "\n").collect(),
            Format::Json => serde_json::to_string_pretty(&all)?,
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let socket = match &args.nbd_socket {
        Some(path) => Some(std::path::absolute(path)?.display().to_string()),
        None => None,
    };
    let request = ExportRequest {
        namespace: namespace.clone(),
        kind: match args.kind {
            Kind::Nbd => ExportKind::Nbd,
            Kind::Ublk => ExportKind::Ublk,
        },
        name: args.name.clone(),
        socket,
        ublk_id: args.ublk_id,
        read_only: args.read_only,
        on_loss: match args.on_loss {
            Some(Held::Fail) => ExportOnLoss::Fail,
            Some(Held::Hold) | None => ExportOnLoss::Hold,
        },
    };
    let export = match client.send::<ExportStatus>("POST", "/v1/exports", &request) {
        Err(ClientError::Problem(problem)) if args.idempotent && problem.kind == ProblemKind::Already => {
            let all: Exports = client.get("/v1/exports").map_err(failed)?;
            all.exports
                .into_iter()
                .find(|export| Some(&export.name) == problem.device.as_ref())
                .ok_or_else(|| crate::failure::Failure::new("it was unexported meanwhile"))?
        }
        other => other.map_err(failed)?,
    };
    print(&match args.output.format {
        Format::Normal => export.address().to_owned(),
        Format::Json => serde_json::to_string_pretty(&export)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One export in one line.
pub(crate) fn line(export: &ExportStatus) -> String {
    let state = match (&export.waits_for, export.clients) {
        (Some(what), _) => format!("waits for {what}"),
        (None, Some(clients)) => format!("{clients} client(s)"),
        (None, None) => format!("{} in flight", export.in_flight),
    };
    let read_only = if export.read_only { ", read-only" } else { "" };
    let link = export.link.as_ref().map_or_else(String::new, |link| format!(", {link}"));
    format!("{} ({}{read_only}, {state}): {}{link}", export.name, export.namespace, export.address())
}

/// End an export
#[derive(clap::Args)]
pub(crate) struct UnexportArgs {
    /// Name of the export
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    end: EndArgs,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn unexport(args: &UnexportArgs) -> anyhow::Result<ExitCode> {
    let done = args.end.end(&args.ask.client(), &format!("/v1/exports/{}", escaped(&args.name)))?;
    told(&done, "unexported", &args.output)
}
