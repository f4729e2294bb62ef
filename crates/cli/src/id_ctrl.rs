//! `interlock id-ctrl`: the Identify Controller data structure, under the names that nvme-cli prints.
//!
//! A look of its own asks for it, with the identity of the daemon and by the way of one of its controllers: what the daemon reads
//! while it connects is not kept as a whole.

use crate::ask::AskArgs;
use crate::failure::Failure;
use crate::identity::{Looker, failed};
use crate::list::subsystem_of;
use crate::output::{Format, OutputArgs, print, say};
use interlock_api::{ControllerState, ControllerStatus, ProblemKind, Status};
use interlock_host::{HostSettings, Nqn, ProbeReport, ProbeSpec};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Show what a controller states of itself (Identify Controller)
///
/// A look of its own asks, with the identity of the daemon, by the way of the named controller, or of a live one of the named
/// subsystem. The target gives the look a controller of its own: CNTLID, CIU and CIRN are those of that one; `interlock status
/// -v` shows those of the controllers that carry I/O.
#[derive(clap::Args)]
pub(crate) struct IdCtrlArgs {
    /// Controller, or a namespace or subsystem for any of its controllers, as in nvme0, nvme0n1 or nvme-subsys0
    #[arg(value_name = "DEVICE")]
    device: String,
    /// Give up after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &IdCtrlArgs) -> anyhow::Result<ExitCode> {
    let status = args.ask.status()?;
    let controller = controller(&status, &args.device)?;
    let settings = HostSettings {
        hostnqn: Nqn::new(status.hostnqn.as_str()).map_err(Failure::new)?,
        hostid: status.hostid.parse().map_err(|why| Failure::new(format!("{why}")))?,
    };
    let nqn = Nqn::new(controller.subnqn.as_str()).map_err(Failure::new)?;
    let port = controller.path.trsvcid.parse().map_err(|_| Failure::new("the controller has no TCP port"))?;
    let mut spec = ProbeSpec::subsystem(&controller.path.traddr, port, nqn, settings);
    spec.host_traddr = controller.host_traddr.as_ref().and_then(|addr| addr.parse().ok());
    spec.host_iface.clone_from(&controller.host_iface);
    (spec.hdgst, spec.ddgst) = (controller.settings.hdr_digest, controller.settings.data_digest);
    if args.output.verbose > 0 {
        say(&format!("asking {} port {} as {}", spec.traddr, spec.trsvcid, spec.settings.hostnqn))?;
    }
    let looker = Looker::new()?;
    let looked = looker.look(&spec, Duration::from_millis(args.timeout));
    looker.end()?;
    let report = looked.map_err(|error| failed(&error).device(Some(controller.name.clone())))?;
    print(&match args.output.format {
        Format::Normal => normal(&report),
        Format::Json => serde_json::to_string_pretty(&as_json(&report))?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The controller that is named, or one of the subsystem that is: a live one, if there is one.
fn controller<'a>(status: &'a Status, device: &str) -> Result<&'a ControllerStatus, Failure> {
    let name = device.strip_prefix("/dev/").unwrap_or(device);
    if let Some(controller) = status.controllers.iter().find(|ctrl| ctrl.name == name) {
        return Ok(controller);
    }
    let subsystem = subsystem_of(status, device)?;
    let of = status.controllers.iter().filter(|ctrl| ctrl.subsystem == subsystem);
    of.min_by_key(|ctrl| ctrl.state != ControllerState::Live)
        .ok_or_else(|| Failure::new(format!("`{name}` has no controller")).kind(ProblemKind::NotFound))
}

/// One field: a count, bits or an identifier, or text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Count(u64),
    Bits(u64),
    Text(String),
}

use Field::{Bits, Count, Text};

/// The fields in the order of the structure. Base Specification, "Identify Controller Data Structure".
fn fields(report: &ProbeReport) -> Vec<(&'static str, Field)> {
    let id = &report.facts.identify;
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Text(String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned())
    };
    vec![
        ("vid", Bits(id.vid.get().into())),
        ("ssvid", Bits(id.ssvid.get().into())),
        ("sn", text(&id.sn)),
        ("mn", text(&id.mn)),
        ("fr", text(&id.fr)),
        ("rab", Count(id.rab.into())),
        // The least significant byte comes first.
        ("ieee", Text(id.ieee.iter().rev().map(|byte| format!("{byte:02x}")).collect())),
        ("cmic", Bits(id.cmic.into())),
        ("mdts", Count(id.mdts.into())),
        ("cntlid", Bits(id.cntlid.get().into())),
        ("ver", Bits(id.ver.get().into())),
        ("rtd3r", Bits(id.rtd3r.get().into())),
        ("rtd3e", Bits(id.rtd3e.get().into())),
        ("oaes", Bits(id.oaes.get().into())),
        ("ctratt", Bits(id.ctratt.get().into())),
        ("cntrltype", Count(id.cntrltype.into())),
        ("crcap", Bits(id.crcap.into())),
        ("ciu", Count(id.ciu.into())),
        ("cirn", Bits(id.cirn.get())),
        ("oacs", Bits(id.oacs.get().into())),
        ("acl", Count(id.acl.into())),
        ("aerl", Count(id.aerl.into())),
        ("frmw", Bits(id.frmw.into())),
        ("lpa", Bits(id.lpa.into())),
        ("elpe", Count(id.elpe.into())),
        ("npss", Count(id.npss.into())),
        ("wctemp", Count(id.wctemp.get().into())),
        ("cctemp", Count(id.cctemp.get().into())),
        ("kas", Count(id.kas.get().into())),
        ("endgidmax", Count(id.endgidmax.get().into())),
        ("anatt", Count(id.anatt.into())),
        ("anacap", Bits(id.anacap.into())),
        ("anagrpmax", Count(id.anagrpmax.get().into())),
        ("nanagrpid", Count(id.nanagrpid.get().into())),
        ("cqt", Count(id.cqt.get().into())),
        ("sqes", Bits(id.sqes.into())),
        ("cqes", Bits(id.cqes.into())),
        ("maxcmd", Count(id.maxcmd.get().into())),
        ("nn", Count(id.nn.get().into())),
        ("oncs", Bits(id.oncs.get().into())),
        ("fuses", Bits(id.fuses.get().into())),
        ("fna", Bits(id.fna.into())),
        ("vwc", Bits(id.vwc.into())),
        ("awun", Count(id.awun.get().into())),
        ("awupf", Count(id.awupf.get().into())),
        ("nwpc", Bits(id.nwpc.into())),
        ("acwu", Count(id.acwu.get().into())),
        ("ocfs", Bits(id.ocfs.get().into())),
        ("sgls", Bits(id.sgls.get().into())),
        ("mnan", Count(id.mnan.get().into())),
        ("subnqn", text(&id.subnqn)),
        ("ioccsz", Count(id.ioccsz.get().into())),
        ("iorcsz", Count(id.iorcsz.get().into())),
        ("icdoff", Count(id.icdoff.get().into())),
        ("fcatt", Bits(id.fcatt.into())),
        ("msdbd", Count(id.msdbd.into())),
        ("ofcs", Bits(id.ofcs.get().into())),
        ("dctype", Count(id.dctype.into())),
        ("ccrl", Count(id.ccrl.into())),
    ]
}

/// What a peer says may be anything: it must not move a cursor.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// As nvme-cli prints it.
fn normal(report: &ProbeReport) -> String {
    let line = |(name, field): (&str, Field)| match field {
        Count(number) => format!("{name:<10}: {number}\n"),
        Bits(bits) => format!("{name:<10}: {bits:#x}\n"),
        Text(text) => format!("{name:<10}: {}\n", shown(&text)),
    };
    format!("NVME Identify Controller:\n{}", fields(report).into_iter().map(line).collect::<String>())
}

/// The same for programs. CIRN is hexadecimal text: many readers of JSON round large numbers.
fn as_json(report: &ProbeReport) -> Value {
    let mut all = Map::new();
    all.insert("format_version".into(), json!(1));
    for (name, field) in fields(report) {
        let value = match field {
            Bits(bits) if name == "cirn" => json!(format!("{bits:#x}")),
            Count(number) | Bits(number) => json!(number),
            Text(text) => json!(text),
        };
        all.insert(name.into(), value);
    }
    Value::Object(all)
}
