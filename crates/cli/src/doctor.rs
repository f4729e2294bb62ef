//! `interlock doctor`: what a failover through a subsystem would look like.

mod live;
mod text;

use self::live::Live;
use crate::ask::AskArgs;
use crate::connect::seconds_or_off;
use crate::failure::Failure;
use crate::identity::{Looker, PeerArgs};
use crate::list::subsystem_of;
use crate::output::{Format, OutputArgs, print, say};
use interlock_api::{DoctorReport, Severity, Status};
use interlock_host::discovery::{subsystems, ways_to};
use interlock_host::doctor::{Ways, examine};
use interlock_host::{ControllerSpec, Found, HostSettings, Nqn, ProbeError, ProbeSpec, TargetProblem};
use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// The port of discovery services, by convention.
const DISCOVERY_PORT: u16 = 8009;

/// Check a subsystem: what a failover would look like, and what to change
///
/// If the daemon has the subsystem connected, doctor judges the settings of the daemon and what it knows. Without -a, doctor
/// checks every connected subsystem. The exit status is 1 if a finding is UNSAFE, or if something could not be checked.
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
#[command(mut_arg("traddr", |arg| arg.required(false).default_value("").hide_default_value(true).requires("nqn")))]
pub(crate) struct DoctorArgs {
    /// Only the subsystem of this device of the daemon, as in nvme0, nvme0n1 or nvme-subsys0
    #[arg(value_name = "DEVICE", conflicts_with = "traddr")]
    device: Option<String>,
    #[command(flatten)]
    peer: PeerArgs,
    /// TCP port of the subsystem
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 4420)]
    trsvcid: u16,
    /// Subsystem NQN
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: Option<String>,
    /// Keep Alive Timeout to ask for, in seconds; 0: none; default: that of the daemon, or 5
    #[arg(short = 'k', long, value_name = "S")]
    keep_alive_tmo: Option<u64>,
    /// Judge with this ctrl_loss_tmo, in seconds; -1 or `off`: never give up; default: that of the daemon, or 600
    #[arg(short = 'l', long, value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    ctrl_loss_tmo: Option<i64>,
    /// Judge with this fast_io_fail_tmo, in seconds; -1 or `off`: never fail; default: that of the daemon, or off
    #[arg(long, value_name = "S", allow_hyphen_values = true, value_parser = seconds_or_off)]
    fast_io_fail_tmo: Option<i64>,
    /// Ask for header digests
    #[arg(short = 'g', long)]
    hdr_digest: bool,
    /// Ask for data digests
    #[arg(short = 'G', long)]
    data_digest: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One port to look at.
struct Case<'a> {
    traddr: String,
    trsvcid: u16,
    nqn: Nqn,
    live: Option<Live<'a>>,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    // With an address it is no matter whether it is there.
    let daemon = args.ask.client().get::<Status>("/v1/status");
    let status = daemon.as_ref().ok();
    if let Err(error @ interlock_api::ClientError::NotThere { error: why, .. }) = &daemon
        && why.kind() == std::io::ErrorKind::PermissionDenied
    {
        // What it has connected is not known: said, because the report is another one without it.
        say(&format!("note: {error}: the daemon's settings and identity are not used"))?;
    }
    let cases = cases(args, &daemon)?;
    args.peer.refuse_security()?;
    let settings = match status.filter(|_| !args.peer.names_a_host()) {
        // The target must see the host that is connected, or would be.
        Some(status) => HostSettings {
            hostnqn: Nqn::new(status.hostnqn.as_str()).map_err(Failure::new)?,
            hostid: status.hostid.parse().map_err(|why| Failure::new(format!("{why}")))?,
        },
        None => args.peer.settings()?,
    };
    let looker = Looker::new()?;
    let looked: Vec<_> = cases.iter().map(|case| look(args, &looker, case, &settings)).collect();
    looker.end()?;
    let one_asked = !args.peer.traddr.is_empty();
    // One subsystem that does not answer keeps nothing from being said of the others.
    let (mut reports, mut problems) = (Vec::new(), Vec::new());
    for (case, looked) in cases.iter().zip(looked) {
        match looked {
            Ok(report) => reports.push(report),
            Err(error) => problems.push(match &case.live {
                Some(live) => live.explain(&error),
                None => error,
            }),
        }
    }
    if reports.is_empty() && problems.len() == 1 {
        return Err(problems.remove(0));
    }
    let looked = reports;
    let text = match args.output.format {
        Format::Normal => looked.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n\n"),
        Format::Json if one_asked => interlock_api::to_pretty(&looked[0].0)?,
        Format::Json => {
            let reports: Vec<_> = looked.iter().map(|(report, _)| report).collect();
            let problems: Vec<_> = problems.iter().map(crate::failure::problem).collect();
            let document = serde_json::json!({ "format_version": 1, "reports": reports, "problems": problems });
            serde_json::to_string_pretty(&document)?
        }
    };
    if !looked.is_empty() || args.output.format == Format::Json {
        print(&text)?;
    }
    for problem in &problems {
        crate::failure::tell(problem);
    }
    let mut findings = looked.iter().flat_map(|(report, _)| &report.findings);
    let unsafe_found = findings.any(|finding| finding.severity == Severity::Unsafe);
    Ok(if unsafe_found || !problems.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is to be looked at: what was asked for, or everything that the daemon has connected.
fn cases<'a>(
    args: &DoctorArgs,
    daemon: &'a Result<Status, interlock_api::ClientError>,
) -> anyhow::Result<Vec<Case<'a>>> {
    let nqn = |text: &str| Nqn::new(text).map_err(|why| Failure::new(format!("-n: {why}")));
    if !args.peer.traddr.is_empty() {
        let nqn = nqn(args.nqn.as_deref().unwrap_or_default())?;
        let live = daemon.as_ref().ok().and_then(|status| Live::of(status, nqn.as_str()));
        return Ok(vec![Case { traddr: args.peer.traddr.clone(), trsvcid: args.trsvcid, nqn, live }]);
    }
    let status = match daemon {
        Ok(status) => status,
        Err(interlock_api::ClientError::NotThere { socket, error })
            if error.kind() != std::io::ErrorKind::PermissionDenied =>
        {
            let text = format!("nothing to check: no -a was given, and no daemon listens on {}", socket.display());
            return Err(Failure::new(text)
                .kind(interlock_api::ProblemKind::NoDaemon)
                .hint("give a port of a subsystem: -a ADDR -s PORT -n NQN")
                .hint("or start the daemon: doctor then checks every connected subsystem")
                .into());
        }
        Err(error @ interlock_api::ClientError::NotThere { .. }) => {
            return Err(Failure::new(error)
                .kind(interlock_api::ProblemKind::Denied)
                .hint("only the owner and the group of the socket may ask; become one of them, or give -a ADDR -s PORT -n NQN")
                .into());
        }
        Err(error) => return Err(Failure::new(error).kind(crate::failure::of_client(error)).into()),
    };
    let mut cases = Vec::new();
    let of_device = args.device.as_deref().map(|device| subsystem_of(status, device)).transpose()?;
    for subsystem in &status.subsystems {
        if args.nqn.as_ref().is_some_and(|asked| *asked != subsystem.nqn)
            || of_device.as_ref().is_some_and(|name| *name != subsystem.name)
        {
            continue;
        }
        let live = Live { status, subsystem };
        if let Some((traddr, trsvcid)) = live.port() {
            cases.push(Case { traddr, trsvcid, nqn: nqn(&subsystem.nqn)?, live: Some(live) });
        }
    }
    if cases.is_empty() {
        let failure = Failure::new(match &args.nqn {
            Some(nqn) => format!("the daemon has not connected `{nqn}`"),
            None => "the daemon has nothing connected".into(),
        })
        .kind(interlock_api::ProblemKind::NotFound);
        return Err(failure.hint("give a port of a subsystem: -a ADDR -s PORT -n NQN").into());
    }
    Ok(cases)
}

/// The settings that are to be judged: those of the daemon if it has the subsystem, but for what is asked for here.
fn spec(args: &DoctorArgs, case: &Case<'_>) -> anyhow::Result<ControllerSpec> {
    let mut spec = ControllerSpec::new(&case.traddr, case.trsvcid, case.nqn.clone());
    if let Some(live) = &case.live {
        live.apply(&mut spec);
    }
    spec.kato = args.keep_alive_tmo.map_or(spec.kato, Duration::from_secs);
    // It is a finding, not a mistake.
    spec.allow_no_kato = true;
    if let Some(seconds) = args.ctrl_loss_tmo {
        spec.reconnect.ctrl_loss = u64::try_from(seconds).ok().map(Duration::from_secs);
    }
    if let Some(seconds) = args.fast_io_fail_tmo {
        spec.reconnect.fast_io_fail = u64::try_from(seconds).ok().map(Duration::from_secs);
    }
    spec.hdgst = args.hdr_digest;
    spec.ddgst = args.data_digest;
    spec.check().map_err(Failure::new)?;
    Ok(spec)
}

fn look(
    args: &DoctorArgs,
    looker: &Looker,
    case: &Case<'_>,
    settings: &HostSettings,
) -> anyhow::Result<(DoctorReport, String)> {
    let mut spec = spec(args, case)?;
    let mut asked = ProbeSpec::subsystem(&spec.traddr, spec.trsvcid, spec.subnqn.clone(), settings.clone());
    asked.kato = spec.kato;
    asked.hdgst = spec.hdgst;
    asked.ddgst = spec.ddgst;
    let asked = args.peer.direct(asked);
    if args.output.verbose > 0 {
        say(&format!("asking {} port {} as {}", asked.traddr, asked.trsvcid, settings.hostnqn))?;
    }
    let report = match looker.look(&asked, args.peer.within()) {
        Ok(report) => report,
        Err(error) => return Err(explain(args, looker, case, settings, &error).into()),
    };
    let ways = match discovery(args, looker, case, settings) {
        Ok(ways) => Ways::Known(ways),
        Err(why) => Ways::NotKnown(why),
    };
    if let Ways::Known(known) = &ways
        && let Some(same) = same_port(&case.traddr, case.trsvcid, known)
    {
        // The log knows by its address what was asked for by name: it is one port.
        spec.traddr = same;
    }
    let mut findings = examine(&report, &spec, settings.hostnqn.as_str(), &ways);
    if let Some(live) = &case.live {
        live.add(&mut findings, &ways);
    }
    let text = text::normal(&findings, &report, &ways);
    Ok((findings, text))
}

/// The address under which a log names the port that was asked for by name.
fn same_port(name: &str, port: u16, ways: &[(String, u16, u16)]) -> Option<String> {
    let addresses: Vec<IpAddr> = (name, port).to_socket_addrs().ok()?.map(|addr| addr.ip()).collect();
    let same = |way: &&(String, u16, u16)| way.1 == port && way.0.parse().is_ok_and(|ip| addresses.contains(&ip));
    ways.iter().find(same).map(|(traddr, ..)| traddr.clone())
}

/// The ways that a discovery log of this address names: of the port itself, which may have one, or of the port that
/// should.
fn discovery(
    args: &DoctorArgs,
    looker: &Looker,
    case: &Case<'_>,
    settings: &HostSettings,
) -> Result<Vec<(String, u16, u16)>, String> {
    let mut last = String::new();
    for port in [case.trsvcid, DISCOVERY_PORT] {
        let spec = args.peer.direct(ProbeSpec::discovery(&case.traddr, port, settings.clone()));
        match looker.look(&spec, args.peer.within()).map(|report| report.found) {
            Ok(Found::Discovery(log)) => match ways_to(&log, case.nqn.as_str()) {
                ways if ways.is_empty() => {
                    last = format!("the discovery log of port {port} does not name the subsystem")
                }
                ways => return Ok(ways),
            },
            Ok(Found::Subsystem(_)) => last = "the target answered another question than was asked".into(),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Why the subsystem could not be looked at. A port that knows no such subsystem may know where it is.
fn explain(
    args: &DoctorArgs,
    looker: &Looker,
    case: &Case<'_>,
    settings: &HostSettings,
    error: &ProbeError,
) -> Failure {
    let ProbeError::Target { addr, why: TargetProblem::NoSuchSubsystem { subnqn } } = error else {
        return args.peer.failed(error);
    };
    let spec = args.peer.direct(ProbeSpec::discovery(&case.traddr, case.trsvcid, settings.clone()));
    let Ok(report) = looker.look(&spec, args.peer.within()) else { return args.peer.failed(error) };
    let Found::Discovery(log) = &report.found else { return args.peer.failed(error) };
    let ways: Vec<String> =
        ways_to(log, subnqn).iter().map(|(traddr, port, _)| format!("-a {traddr} -s {port}")).collect();
    if !ways.is_empty() {
        let text = format!("{addr}: this is a discovery controller, and an I/O controller was meant");
        return Failure::new(text).hint(format!("`{subnqn}` is reached by {}", ways.join(" or ")));
    }
    let known = subsystems(log);
    if known.is_empty() {
        return args.peer.failed(error).hint("the discovery log of this port names no subsystem at all");
    }
    Failure::new(error).hint(format!("the subsystems of this target are: {}", known.join(", ")))
}
