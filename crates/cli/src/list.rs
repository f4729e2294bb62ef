//! `interlock list`, `list-subsys`, `show-topology`: what nvme-cli prints, under its key names.

use crate::ask::AskArgs;
use crate::failure::Failure;
use crate::output::{Format, OutputArgs, print};
use comfy_table::{CellAlignment, Table, presets};
use interlock_api::{
    AnaState, ControllerStatus, NamespaceStatus, PathAddress, ProblemKind, Status, SubsystemStatus, WaitingName,
};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::ExitCode;

/// A plain list.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Only the subsystem of this device, as in nvme0, nvme0n1 or nvme-subsys0
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// List namespaces; with -v, subsystems and controllers as well.
pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    if args.output.verbose > 0 { show(args, verbose, devices) } else { show(args, normal, devices) }
}

/// List subsystems and their controllers.
pub(crate) fn list_subsys(args: &ListArgs) -> anyhow::Result<ExitCode> {
    show(args, subsystems, |status| topology(status, false))
}

/// List subsystems, their namespaces and the paths to them.
pub(crate) fn show_topology(args: &ListArgs) -> anyhow::Result<ExitCode> {
    show(args, tree, |status| topology(status, true))
}

fn show(
    args: &ListArgs,
    text: impl Fn(&Status) -> String,
    data: impl Fn(&Status) -> Value,
) -> anyhow::Result<ExitCode> {
    let status = of_device(args.ask.status()?, args.device.as_deref())?;
    match args.output.format {
        Format::Normal => {
            let text = text(&status);
            if !text.is_empty() {
                print(&text)?;
            }
        }
        Format::Json => print(&serde_json::to_string_pretty(&data(&status))?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What of a status belongs to the subsystem of a device; everything if none is named.
pub(crate) fn of_device(mut status: Status, device: Option<&str>) -> Result<Status, Failure> {
    let Some(device) = device else { return Ok(status) };
    let name = subsystem_of(&status, device)?;
    let nqn = status.subsystems.iter().find(|one| one.name == name).map(|one| one.nqn.clone()).unwrap_or_default();
    status.subsystems.retain(|subsystem| subsystem.name == name);
    status.controllers.retain(|ctrl| ctrl.subsystem == name);
    status.namespaces.retain(|ns| ns.subsystem == name);
    status.waiting_names.retain(|waiting| waiting.subsystem == name);
    status.exports.retain(|export| export.subnqn == nqn);
    status.tombstones.retain(|stone| stone.subnqn == nqn);
    status.discovery.clear();
    Ok(status)
}

/// The subsystem to which a device belongs, by name.
pub(crate) fn subsystem_of(status: &Status, device: &str) -> Result<String, Failure> {
    let name = device.strip_prefix("/dev/").unwrap_or(device);
    let subsystem = status
        .subsystems
        .iter()
        .find(|subsystem| {
            subsystem.name == name
                || subsystem.nqn == name
                || of(status, subsystem).any(|ctrl| ctrl.name == name)
                || namespaces_of(status, subsystem).any(|ns| ns.name == name)
                || status.waiting_names.iter().any(|one| one.subsystem == subsystem.name && one.name == name)
        })
        .map(|subsystem| subsystem.name.clone());
    subsystem.ok_or_else(|| {
        let known: Vec<&str> = status.controllers.iter().map(|ctrl| ctrl.name.as_str()).collect();
        let failure = Failure::new(format!("no device `{name}`")).kind(ProblemKind::NotFound);
        if known.is_empty() {
            failure.hint("nothing is connected: `interlock connect` does that")
        } else {
            failure.hint(format!("connected are: {}", known.join(", ")))
        }
    })
}

/// The address as nvme-cli writes it.
pub(crate) fn address(path: &PathAddress, ctrl: &ControllerStatus) -> String {
    let mut text = format!("traddr={},trsvcid={}", path.traddr, path.trsvcid);
    if let Some(addr) = &ctrl.host_traddr {
        text.push_str(&format!(",host_traddr={addr}"));
    }
    if let Some(name) = &ctrl.host_iface {
        text.push_str(&format!(",host_iface={name}"));
    }
    text
}

/// Bytes in units of 1000, as disks are sold and nvme-cli prints them.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut rest = count as f64;
    while rest >= 1000.0 && unit + 1 < UNITS.len() {
        rest /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{rest:.2} {}", UNITS[unit]) }
}

fn of<'a>(status: &'a Status, subsystem: &'a SubsystemStatus) -> impl Iterator<Item = &'a ControllerStatus> {
    status.controllers.iter().filter(|ctrl| ctrl.subsystem == subsystem.name)
}

fn namespaces_of<'a>(status: &'a Status, subsystem: &'a SubsystemStatus) -> impl Iterator<Item = &'a NamespaceStatus> {
    status.namespaces.iter().filter(|ns| ns.subsystem == subsystem.name)
}

/// One path of a namespace in a listing, lost or not.
struct Way<'a> {
    name: &'a str,
    /// `None`: not known.
    ana_state: Option<AnaState>,
}

/// The paths of a namespace with their controllers, in the order of these. A lost path has its last ANA state, as in Linux.
fn ways<'a>(
    status: &'a Status,
    subsystem: &'a SubsystemStatus,
    ns: &'a NamespaceStatus,
) -> impl Iterator<Item = (Way<'a>, &'a ControllerStatus)> {
    of(status, subsystem).filter_map(|ctrl| {
        let live = ns.paths.iter().find(|path| path.controller == ctrl.name);
        let live = live.map(|path| Way { name: &path.name, ana_state: Some(path.ana_state) });
        let lost = || ns.lost_paths.iter().find(|path| path.controller == ctrl.name);
        let way = live.or_else(|| lost().map(|path| Way { name: &path.name, ana_state: path.ana_state }))?;
        Some((way, ctrl))
    })
}

// --- list ---

fn normal(status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["Node", "SN", "Model", "Namespace", "Size", "Format", "FW Rev", "Paths", "Export"]);
    for ns in &status.namespaces {
        let subsystem = status.subsystems.iter().find(|subsystem| subsystem.name == ns.subsystem);
        let about = |get: fn(&SubsystemStatus) -> &String| subsystem.map_or_else(String::new, |s| get(s).clone());
        let exports: Vec<&str> = status
            .exports
            .iter()
            .filter(|export| export.namespace == ns.name)
            .map(|export| export.device.as_deref().unwrap_or(&export.name))
            .collect();
        let usable =
            ns.paths.iter().filter(|path| matches!(path.ana_state, AnaState::Optimized | AnaState::NonOptimized));
        table.add_row([
            ns.name.clone(),
            match subsystem {
                Some(subsystem) if subsystem.last_known => format!("{} (last known)", subsystem.serial),
                _ => about(|s| &s.serial),
            },
            about(|s| &s.model),
            format!("{:#x}", ns.nsid),
            bytes(ns.size_bytes),
            format!("{} + 0 B", ns.block_bytes),
            about(|s| &s.firmware),
            format!(
                "{}/{}{}",
                usable.count(),
                status.controllers.iter().filter(|c| c.subsystem == ns.subsystem).count(),
                ns.unreachable.map_or_else(String::new, |why| format!(" {why}"))
            ),
            exports.join(","),
        ]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index == 4 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = if !status.namespaces.is_empty() {
        table.trim_fmt()
    } else if status.controllers.is_empty() {
        "nothing is connected".into()
    } else {
        "no namespace is there: see `interlock status`".into()
    };
    for name in &status.waiting_names {
        text.push('\n');
        text.push_str(&waiting(name));
    }
    text
}

/// A device name that leads nowhere, and why.
pub(crate) fn waiting(name: &WaitingName) -> String {
    format!("{} (of {}) waits for {}", name.name, name.bound_to, name.waits_for)
}

/// Three tables, as `nvme list -v` has them: subsystems, controllers, namespaces.
fn verbose(status: &Status) -> String {
    if status.controllers.is_empty() && status.namespaces.is_empty() {
        return "nothing is connected".into();
    }
    let subsystems = status.subsystems.iter().map(|subsystem| {
        let names: Vec<&str> = of(status, subsystem).map(|ctrl| ctrl.name.as_str()).collect();
        vec![subsystem.name.clone(), subsystem.nqn.clone(), names.join(", ")]
    });
    let controllers = status.controllers.iter().map(|ctrl| {
        let subsystem = status.subsystems.iter().find(|subsystem| subsystem.name == ctrl.subsystem);
        let about = |get: fn(&SubsystemStatus) -> &String| subsystem.map_or_else(String::new, |s| get(s).clone());
        let through = |ns: &&NamespaceStatus| ns.paths.iter().any(|path| path.controller == ctrl.name);
        let names: Vec<&str> = status.namespaces.iter().filter(through).map(|ns| ns.name.as_str()).collect();
        vec![
            ctrl.name.clone(),
            ctrl.facts.as_ref().map_or_else(String::new, |facts| facts.cntlid.to_string()),
            about(|s| &s.serial),
            about(|s| &s.model),
            about(|s| &s.firmware),
            ctrl.path.transport.clone(),
            address(&ctrl.path, ctrl),
            ctrl.state.to_string(),
            ctrl.subsystem.clone(),
            names.join(", "),
        ]
    });
    let namespaces = status.namespaces.iter().map(|ns| {
        let names: Vec<&str> = ns.paths.iter().map(|path| path.controller.as_str()).collect();
        vec![
            ns.name.clone(),
            format!("{:#x}", ns.nsid),
            bytes(ns.size_bytes),
            format!("{} + 0 B", ns.block_bytes),
            names.join(", "),
        ]
    });
    [
        columns(&["Subsystem", "Subsystem-NQN", "Controllers"], subsystems),
        columns(
            &["Device", "Cntlid", "SN", "MN", "FR", "TxPort", "Address", "State", "Subsystem", "Namespaces"],
            controllers,
        ),
        columns(&["Device", "NSID", "Size", "Format", "Controllers"], namespaces),
    ]
    .join("\n\n")
}

fn columns(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn devices(status: &Status) -> Value {
    let subsystems: Vec<Value> = status
        .subsystems
        .iter()
        .map(|subsystem| {
            let controllers: Vec<Value> = of(status, subsystem)
                .map(|ctrl| {
                    let paths: Vec<Value> = namespaces_of(status, subsystem)
                        .flat_map(|ns| &ns.paths)
                        .filter(|path| path.controller == ctrl.name)
                        .map(|path| json!({ "Path": path.name, "ANAState": path.ana_state }))
                        .collect();
                    json!({
                        "Controller": ctrl.name,
                        "Cntlid": ctrl.facts.as_ref().map_or_else(String::new, |facts| facts.cntlid.to_string()),
                        "SerialNumber": subsystem.serial,
                        "ModelNumber": subsystem.model,
                        "Firmware": subsystem.firmware,
                        "LastKnown": subsystem.last_known,
                        "Transport": ctrl.path.transport,
                        "Address": address(&ctrl.path, ctrl),
                        "State": ctrl.state,
                        "Namespaces": [],
                        "Paths": paths,
                    })
                })
                .collect();
            let namespaces: Vec<Value> = namespaces_of(status, subsystem)
                .map(|ns| {
                    json!({
                        "NameSpace": ns.name,
                        "NSID": ns.nsid,
                        "UsedBytes": ns.size_bytes,
                        "MaximumLBA": ns.size_bytes / u64::from(ns.block_bytes.max(1)),
                        "PhysicalSize": ns.size_bytes,
                        "SectorSize": ns.block_bytes,
                        "ReadOnly": ns.read_only,
                    })
                })
                .collect();
            json!({
                "Subsystem": subsystem.name,
                "SubsystemNQN": subsystem.nqn,
                "Controllers": controllers,
                "Namespaces": namespaces,
            })
        })
        .collect();
    json!({
        "format_version": 1,
        "Devices": [{ "HostNQN": status.hostnqn, "HostID": status.hostid, "Subsystems": subsystems }],
    })
}

// --- list-subsys, show-topology ---

fn head(text: &mut String, status: &Status, subsystem: &SubsystemStatus) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{} - NQN={}", subsystem.name, subsystem.nqn);
    let indent = " ".repeat(subsystem.name.len() + 3);
    let _ = writeln!(text, "{indent}hostnqn={}", status.hostnqn);
    let _ = writeln!(text, "{indent}iopolicy={}", policy(subsystem));
    let _ = writeln!(text, "\\");
}

fn policy(subsystem: &SubsystemStatus) -> &'static str {
    match subsystem.iopolicy {
        interlock_api::IoPolicy::RoundRobin => "round-robin",
        interlock_api::IoPolicy::QueueDepth => "queue-depth",
        interlock_api::IoPolicy::Numa => "numa",
    }
}

fn subsystems(status: &Status) -> String {
    let mut text = String::new();
    for subsystem in &status.subsystems {
        head(&mut text, status, subsystem);
        for ctrl in of(status, subsystem) {
            let _ = writeln!(
                text,
                " +- {} {} {} {}",
                ctrl.name,
                ctrl.path.transport,
                address(&ctrl.path, ctrl),
                ctrl.state
            );
        }
    }
    text
}

fn tree(status: &Status) -> String {
    let mut text = String::new();
    for subsystem in &status.subsystems {
        head(&mut text, status, subsystem);
        for ns in namespaces_of(status, subsystem) {
            let _ = writeln!(text, " +- {}", ns.name);
            let _ = writeln!(text, " \\");
            for (path, ctrl) in ways(status, subsystem, ns) {
                let _ = write!(
                    text,
                    "  +- {} {} {} {}",
                    ctrl.name,
                    ctrl.path.transport,
                    address(&ctrl.path, ctrl),
                    ctrl.state
                );
                let _ = writeln!(text, "{}", path.ana_state.map_or_else(String::new, |ana| format!(" {ana}")));
            }
        }
    }
    text
}

fn topology(status: &Status, by_namespace: bool) -> Value {
    let controller = |ctrl: &ControllerStatus| {
        json!({
            "Name": ctrl.name,
            "Transport": ctrl.path.transport,
            "Address": address(&ctrl.path, ctrl),
            "AddressDetails": {
                "traddr": ctrl.path.traddr,
                "trsvcid": ctrl.path.trsvcid,
                "host_traddr": ctrl.host_traddr,
                "host_iface": ctrl.host_iface,
            },
            "State": ctrl.state,
        })
    };
    let all: Vec<Value> = status
        .subsystems
        .iter()
        .map(|subsystem| {
            let named = json!({ "Name": subsystem.name, "NQN": subsystem.nqn, "IOPolicy": policy(subsystem) });
            let mut object = named;
            if by_namespace {
                let namespaces: Vec<Value> = namespaces_of(status, subsystem)
                    .map(|ns| {
                        let paths: Vec<Value> = ways(status, subsystem, ns)
                            .map(|(path, ctrl)| {
                                let ana = path.ana_state.map_or_else(String::new, |ana| ana.to_string());
                                json!({ "Path": path.name, "ANAState": ana, "Controller": [controller(ctrl)] })
                            })
                            .collect();
                        json!({ "NSID": ns.nsid, "Name": ns.name, "Paths": paths })
                    })
                    .collect();
                object["Namespaces"] = namespaces.into();
            } else {
                object["Paths"] = of(status, subsystem).map(controller).collect();
            }
            object
        })
        .collect();
    json!([{ "format_version": 1, "HostNQN": status.hostnqn, "HostID": status.hostid, "Subsystems": all }])
}
