//! `interlock doctor`: what a failover through a subsystem would look like.

mod text;

use crate::failure::Failure;
use crate::identity::{Looker, PeerArgs, failed};
use crate::output::{Format, OutputArgs, print, say};
use interlock_api::Severity;
use interlock_host::discovery::{subsystems, ways_to};
use interlock_host::doctor::{Ways, examine};
use interlock_host::{ControllerSpec, Found, HostSettings, Nqn, ProbeError, ProbeSpec, TargetProblem};
use std::process::ExitCode;
use std::time::Duration;

/// The port of discovery services, by convention.
const DISCOVERY_PORT: u16 = 8009;

/// Say what a failover through a subsystem would look like, and what to change
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    peer: PeerArgs,
    /// TCP port of the subsystem
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 4420)]
    trsvcid: u16,
    /// Subsystem NQN
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: String,
    /// Keep Alive Timeout to ask for, in seconds; 0: none
    #[arg(short = 'k', long, value_name = "S", default_value_t = 5)]
    keep_alive_tmo: u64,
    /// Give a lost controller up after so many seconds; -1: never
    #[arg(short = 'l', long, value_name = "S", default_value_t = 600, allow_hyphen_values = true)]
    ctrl_loss_tmo: i64,
    /// Fail I/O that is not in doubt after so many seconds without a path; default: off
    #[arg(long, value_name = "S")]
    fast_io_fail_tmo: Option<u64>,
    /// Ask for header digests
    #[arg(short = 'g', long)]
    hdr_digest: bool,
    /// Ask for data digests
    #[arg(short = 'G', long)]
    data_digest: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let settings = args.peer.settings()?;
    let spec = spec(args)?;
    let looker = Looker::new()?;
    let result = look(args, &looker, &spec, &settings);
    looker.end()?;
    result
}

/// The settings that are to be judged.
fn spec(args: &DoctorArgs) -> anyhow::Result<ControllerSpec> {
    let subnqn = Nqn::new(args.nqn.as_str()).map_err(|why| Failure::new(format!("-n: {why}")))?;
    let mut spec = ControllerSpec::new(&args.peer.traddr, args.trsvcid, subnqn);
    spec.kato = Duration::from_secs(args.keep_alive_tmo);
    // It is a finding, not a mistake.
    spec.allow_no_kato = true;
    spec.reconnect.ctrl_loss = u64::try_from(args.ctrl_loss_tmo).ok().map(Duration::from_secs);
    spec.reconnect.fast_io_fail = args.fast_io_fail_tmo.map(Duration::from_secs);
    spec.hdgst = args.hdr_digest;
    spec.ddgst = args.data_digest;
    spec.check(1).map_err(Failure::new)?;
    Ok(spec)
}

fn look(
    args: &DoctorArgs,
    looker: &Looker,
    spec: &ControllerSpec,
    settings: &HostSettings,
) -> anyhow::Result<ExitCode> {
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
        Err(error) => return Err(explain(args, looker, settings, &error).into()),
    };
    let ways = match discovery(args, looker, settings) {
        Ok(ways) => Ways::Known(ways),
        Err(why) => Ways::NotKnown(why),
    };
    let findings = examine(&report, spec, settings.hostnqn.as_str(), &ways);
    print(&match args.output.format {
        Format::Normal => text::normal(&findings, &report, &ways),
        Format::Json => interlock_api::to_pretty(&findings)?,
    })?;
    let unsafe_found = findings.findings.iter().any(|finding| finding.severity == Severity::Unsafe);
    Ok(if unsafe_found { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The ways that a discovery log of this address names: of the port itself, which may have one, or of the port that
/// should.
fn discovery(args: &DoctorArgs, looker: &Looker, settings: &HostSettings) -> Result<Vec<(String, u16, u16)>, String> {
    let mut last = String::new();
    for port in [args.trsvcid, DISCOVERY_PORT] {
        let spec = args.peer.direct(ProbeSpec::discovery(&args.peer.traddr, port, settings.clone()));
        match looker.look(&spec, args.peer.within()).map(|report| report.found) {
            Ok(Found::Discovery(log)) => match ways_to(&log, &args.nqn) {
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
fn explain(args: &DoctorArgs, looker: &Looker, settings: &HostSettings, error: &ProbeError) -> Failure {
    let ProbeError::Target { addr, why: TargetProblem::NoSuchSubsystem { subnqn } } = error else {
        return failed(error);
    };
    let spec = args.peer.direct(ProbeSpec::discovery(&args.peer.traddr, args.trsvcid, settings.clone()));
    let Ok(report) = looker.look(&spec, args.peer.within()) else { return failed(error) };
    let Found::Discovery(log) = &report.found else { return failed(error) };
    let ways: Vec<String> =
        ways_to(log, subnqn).iter().map(|(traddr, port, _)| format!("-a {traddr} -s {port}")).collect();
    if !ways.is_empty() {
        let text = format!("{addr}: this is a discovery controller, and an I/O controller was meant");
        return Failure::new(text).hint(format!("`{subnqn}` is reached by {}", ways.join(" or ")));
    }
    let known = subsystems(log);
    if known.is_empty() {
        return failed(error).hint("the discovery log of this port names no subsystem at all");
    }
    Failure::new(error).hint(format!("the subsystems of this target are: {}", known.join(", ")))
}
