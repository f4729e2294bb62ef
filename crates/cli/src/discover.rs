//! `interlock discover`: what is reachable there.

use crate::failure::Failure;
use crate::identity::{Looker, PeerArgs};
use crate::output::{Format, OutputArgs, print, say};
use crate::sources::Sources;
use interlock_host::discovery::{RecordWords, in_words};
use interlock_host::{DiscoveryLog, Found, HostSettings, Nqn, ProbeReport, ProbeSpec};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// Print the discovery log of a target; without -a, those of all configured discovery controllers
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
#[command(mut_arg("traddr", |arg| arg.required(false).default_value("").hide_default_value(true)))]
pub(crate) struct DiscoverArgs {
    #[command(flatten)]
    peer: PeerArgs,
    /// TCP port of the discovery service
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 8009)]
    trsvcid: u16,
    /// NQN of the discovery controller; default: the well-known one
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: Option<String>,
    /// Configuration, if no address is given; default: /etc/interlock/interlock.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory with the files of nvme-cli
    #[arg(long, value_name = "DIR", default_value = "/etc/nvme")]
    nvme_dir: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &DiscoverArgs) -> anyhow::Result<ExitCode> {
    let settings = args.peer.settings()?;
    if args.peer.traddr.is_empty() {
        return configured(args, &settings);
    }
    let mut spec = args.peer.direct(ProbeSpec::discovery(&args.peer.traddr, args.trsvcid, settings));
    if let Some(nqn) = &args.nqn {
        spec.subnqn = Nqn::new(nqn.as_str()).map_err(|why| Failure::new(format!("-n: {why}")))?;
    }
    if args.output.verbose > 0 {
        say(&format!("asking {} port {} as {}", spec.traddr, spec.trsvcid, spec.settings.hostnqn))?;
    }
    let looker = Looker::new()?;
    let result = looker.look(&spec, args.peer.within());
    looker.end()?;
    let log = log_of(result.map_err(|error| args.peer.failed(&error))?)?;
    let records = in_words(&log);
    print(&match args.output.format {
        Format::Normal => normal(log.generation, &records),
        Format::Json => serde_json::to_string_pretty(&as_json(log.generation, &records))?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn log_of(report: ProbeReport) -> Result<DiscoveryLog, Failure> {
    match report.found {
        Found::Discovery(log) => Ok(log),
        Found::Subsystem(_) => Err(Failure::new("the target answered another question than was asked")),
    }
}

/// Everything that is configured is asked; what fails is told beside the rest.
fn configured(args: &DiscoverArgs, settings: &HostSettings) -> anyhow::Result<ExitCode> {
    let sources = Sources::read(args.config.as_ref(), &args.nvme_dir, settings)?;
    if sources.ask.is_empty() && sources.problems.is_empty() {
        return Err(Failure::new("no discovery controller is configured")
            .kind(interlock_api::ProblemKind::NotFound)
            .hint("give one with -a")
            .hint("or write [[discovery]] into the configuration")
            .into());
    }
    sources.say_notes()?;
    let mut problems = sources.problems;
    let looker = Looker::new()?;
    let mut logs = Vec::new();
    for one in &sources.ask {
        let at = format!("{} port {}", one.controller.traddr, one.controller.trsvcid);
        let asked = one.probe(settings).map_err(Failure::new).and_then(|spec| {
            let mut spec = args.peer.direct(spec);
            // What the configuration says of the way there, the command line may say otherwise.
            spec.host_traddr = spec.host_traddr.or(one.controller.host_traddr);
            spec.host_iface = spec.host_iface.or_else(|| one.controller.host_iface.clone());
            log_of(looker.look(&spec, args.peer.within()).map_err(|error| args.peer.failed(&error))?)
        });
        match asked {
            Ok(log) => logs.push((one, at, log)),
            Err(failure) => problems.push(format!("discovery at {at}: {}", failure.in_one_line())),
        }
    }
    looker.end()?;
    match args.output.format {
        Format::Normal => {
            for (_, at, log) in &logs {
                print(&format!("{at}\n{}", normal(log.generation, &in_words(log))))?;
            }
        }
        Format::Json => {
            let logs: Vec<_> = logs
                .iter()
                .map(|(one, _, log)| {
                    let mut text = as_json(log.generation, &in_words(log));
                    text["traddr"] = json!(one.controller.traddr);
                    text["trsvcid"] = json!(one.controller.trsvcid);
                    text
                })
                .collect();
            print(&serde_json::to_string_pretty(&json!({ "format_version": 1, "logs": logs, "problems": problems }))?)?;
        }
    }
    for problem in &problems {
        say(&format!("error: {problem}"))?;
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As nvme-cli prints it: scripts read this.
fn normal(generation: u64, records: &[RecordWords]) -> String {
    let mut text = format!("Discovery Log Number of Records {}, Generation counter {generation}\n", records.len());
    for (index, record) in records.iter().enumerate() {
        let portid = record.portid.to_string();
        let fields = [
            ("trtype", record.trtype),
            ("adrfam", record.adrfam),
            ("subtype", record.subtype),
            ("treq", record.treq),
            ("portid", &portid),
            ("trsvcid", &record.trsvcid),
            ("subnqn", &record.subnqn),
            ("traddr", &record.traddr),
            ("eflags", record.eflags),
        ];
        // Writing to a String cannot fail.
        let _ = writeln!(text, "=====Discovery Log Entry {index}======");
        for (name, value) in fields.into_iter().chain(record.sectype.map(|sectype| ("sectype", sectype))) {
            let _ = writeln!(text, "{:<8} {value}", format!("{name}:"));
        }
    }
    text
}

fn as_json(generation: u64, records: &[RecordWords]) -> serde_json::Value {
    let records: Vec<_> = records
        .iter()
        .map(|record| {
            json!({
                "trtype": record.trtype,
                "adrfam": record.adrfam,
                "subtype": record.subtype,
                "treq": record.treq,
                "portid": record.portid,
                "trsvcid": record.trsvcid,
                "subnqn": record.subnqn,
                "traddr": record.traddr,
                "eflags": record.eflags,
                "sectype": record.sectype,
            })
        })
        .collect();
    json!({ "format_version": 1, "genctr": generation, "records": records })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_nvme_cli() {
        let record = RecordWords {
            trtype: "tcp",
            adrfam: "ipv4",
            subtype: "nvme subsystem",
            treq: "not specified, sq flow control disable supported",
            portid: 1,
            trsvcid: "4420".into(),
            subnqn: "nqn.2026-11.io.example:disk".into(),
            traddr: "192.0.2.1".into(),
            eflags: "none",
            sectype: Some("none"),
            over_tcp: Some(interlock_host::discovery::RecordKind::Nvm),
            needs_secure_channel: false,
        };
        let expected = "\
Discovery Log Number of Records 1, Generation counter 7
=====Discovery Log Entry 0======
trtype:  tcp
adrfam:  ipv4
subtype: nvme subsystem
treq:    not specified, sq flow control disable supported
portid:  1
trsvcid: 4420
subnqn:  nqn.2026-11.io.example:disk
traddr:  192.0.2.1
eflags:  none
sectype: none
";
        assert_eq!(normal(7, &[record]), expected);
    }
}
