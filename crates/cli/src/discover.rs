//! `interlock discover`: what is reachable there.

use crate::failure::Failure;
use crate::identity::{Looker, PeerArgs, failed};
use crate::output::{Format, OutputArgs, print, say};
use interlock_host::discovery::{RecordWords, in_words};
use interlock_host::{Found, ProbeSpec};
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// Print the discovery log of a target
#[derive(clap::Args)]
#[command(after_help = crate::log::ENVIRONMENT)]
pub(crate) struct DiscoverArgs {
    #[command(flatten)]
    peer: PeerArgs,
    /// TCP port of the discovery service
    #[arg(short = 's', long, value_name = "PORT", default_value_t = 8009)]
    trsvcid: u16,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &DiscoverArgs) -> anyhow::Result<ExitCode> {
    let spec = args.peer.direct(ProbeSpec::discovery(&args.peer.traddr, args.trsvcid, args.peer.settings()?));
    if args.output.verbose > 0 {
        say(&format!("asking {} port {} as {}", spec.traddr, spec.trsvcid, spec.settings.hostnqn))?;
    }
    let looker = Looker::new()?;
    let result = looker.look(&spec, args.peer.within());
    looker.end()?;
    let report = result.map_err(|error| failed(&error))?;
    let Found::Discovery(log) = &report.found else {
        return Err(Failure::new("the target answered another question than was asked").into());
    };
    let records = in_words(log);
    print(&match args.output.format {
        Format::Normal => normal(log.generation, &records),
        Format::Json => as_json(log.generation, &records)?,
    })?;
    Ok(ExitCode::SUCCESS)
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

fn as_json(generation: u64, records: &[RecordWords]) -> serde_json::Result<String> {
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
    serde_json::to_string_pretty(&json!({ "format_version": 1, "genctr": generation, "records": records }))
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
