//! `interlock status`: every controller, since when, waiting for what until when.

use crate::ask::AskArgs;
use crate::list::{bytes, of_device, waiting};
use crate::manage::line;
use crate::output::{Format, OutputArgs, print};
use interlock_api::{ControllerStatus, FencePolicy, NamespaceStatus, Status, WaitKind};
use std::fmt::Write;
use std::process::ExitCode;

/// Show current state and pending timeouts
#[derive(clap::Args)]
pub(crate) struct StatusArgs {
    /// Only the subsystem of this device, as in nvme0, nvme0n1 or nvme-subsys0
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let status = of_device(args.ask.status()?, args.device.as_deref())?;
    print(&match args.output.format {
        Format::Normal => normal(&status, args.output.verbose > 0),
        Format::Json => interlock_api::to_pretty(&status)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// For people: the controllers by subsystem, then what is left of the past.
fn normal(status: &Status, all: bool) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "daemon {} (process {}), host {}", status.version, status.pid, status.hostnqn);
    if status.controllers.is_empty() {
        let _ = writeln!(text, "nothing is connected");
    }
    for subsystem in &status.subsystems {
        let _ = writeln!(text, "\n{} {}", subsystem.name, subsystem.nqn);
        for ctrl in status.controllers.iter().filter(|ctrl| ctrl.subsystem == subsystem.name) {
            controller(&mut text, ctrl, all);
        }
        for ns in status.namespaces.iter().filter(|ns| ns.subsystem == subsystem.name) {
            let _ = writeln!(text, "  {}  {}  {}", ns.name, bytes(ns.size_bytes), paths(status, ns));
            for suspect in &ns.suspects {
                let _ = writeln!(text, "         SUSPECT: {suspect}; it waits to be sent alone");
            }
            if let Some(error) = &ns.flush_error {
                let until = format!("none succeeds until `interlock clear-flush-error {}`", ns.name);
                let _ = writeln!(text, "         A FLUSH FAILED ({error}): {until}");
            }
        }
        for name in status.waiting_names.iter().filter(|name| name.subsystem == subsystem.name) {
            let _ = writeln!(text, "  {}", waiting(name));
        }
    }
    if !status.discovery.is_empty() {
        let _ = writeln!(text, "\ndiscovery controllers");
    }
    for one in &status.discovery {
        let log = one.generation.map_or_else(String::new, |n| format!(", log {n} with {} records", one.records));
        let _ = writeln!(text, "  {}  {} for {}{log} ({})", one.path, one.state, span(one.for_ms), one.origin);
        if let Some(error) = &one.last_error {
            let _ = writeln!(text, "         {error}");
        }
        if let Some(left) = one.next_attempt_ms {
            let _ = writeln!(text, "         tried again in {}", span(left));
        }
    }
    if !status.exports.is_empty() {
        let _ = writeln!(text, "\nexports");
    }
    for export in &status.exports {
        let _ = writeln!(text, "  {}", line(export));
    }
    if !status.tombstones.is_empty() {
        let _ = writeln!(text, "\nunfenced lives (writes to what they guard wait)");
    }
    for stone in &status.tombstones {
        let until = match stone.left_ms {
            Some(left) => format!("at most {} more", span(left)),
            None => "until a fence succeeds".into(),
        };
        let _ = writeln!(text, "  {} of {}: {}, {until}", stone.life, stone.controller, stone.guarded);
    }
    let totals = &status.totals;
    let fences: Vec<String> = totals.fences.iter().map(|(method, count)| format!("{count} {method}")).collect();
    let _ = write!(text, "\n{} instances ended, {} attempts to reconnect", totals.reset_count, totals.reconnect_count);
    let _ = writeln!(text, ", fences: {}", if fences.is_empty() { "none".into() } else { fences.join(", ") });
    if totals.unsafe_failovers > 0 {
        let _ = writeln!(text, "UNSAFE: {} commands were repeated without a fence", totals.unsafe_failovers);
    }
    match status.journal {
        None => text.push_str("no journal: what happens is forgotten when the daemon ends\n"),
        Some(journal) if journal.dropped > 0 => {
            let _ =
                writeln!(text, "{} events are missing in the journal: its disk was too slow or full", journal.dropped);
        }
        Some(_) => {}
    }
    text
}

/// The paths of a namespace, those of lost controllers with the state of the controller, after what that means for I/O.
fn paths(status: &Status, ns: &NamespaceStatus) -> String {
    let state = |name: &str| status.controllers.iter().find(|ctrl| ctrl.name == name).map(|ctrl| ctrl.state);
    let mut all: Vec<String> = ns.paths.iter().map(|path| format!("{} {}", path.controller, path.ana_state)).collect();
    all.extend(
        ns.lost_paths
            .iter()
            .filter_map(|path| state(&path.controller).map(|state| format!("{} {state}", path.controller))),
    );
    match ns.unreachable {
        None => all.join(", "),
        Some(why) if all.is_empty() => why.to_string(),
        Some(why) => format!("{why} ({})", all.join(", ")),
    }
}

fn controller(text: &mut String, ctrl: &ControllerStatus, all: bool) {
    let mut marks = String::new();
    if ctrl.slow {
        marks.push_str(", slow");
    }
    if ctrl.settings.fence == FencePolicy::Legacy {
        marks.push_str(", UNSAFE fence policy legacy");
    }
    let _ = writeln!(
        text,
        "  {}  {} {}  {} for {}{marks}",
        ctrl.name,
        ctrl.path.transport,
        ctrl.path,
        ctrl.state,
        span(ctrl.for_ms)
    );
    if let Some(error) = &ctrl.last_error {
        let _ = writeln!(text, "         {error}");
    }
    if !ctrl.fencing.is_empty() {
        let _ = writeln!(text, "         being fenced: {}", ctrl.fencing.join(", "));
    }
    for wait in ctrl.waits.iter().filter(|wait| all || tells(wait.kind)) {
        let life = wait.life.as_ref().map_or_else(String::new, |life| format!(" ({life})"));
        let _ = writeln!(text, "         waits for {}{life}: {} left", wait.reason, span(wait.left_ms));
    }
    if let Some(facts) = ctrl.facts.as_ref().filter(|facts| facts.shares_queues()) {
        let _ = writeln!(text, "         {} of {} I/O queues, shared by the reactors", facts.io_queues, facts.reactors);
    }
    if let (true, Some(facts)) = (all, &ctrl.facts) {
        let cqt = facts.cqt_ms.map_or_else(|| "none".into(), |ms| format!("{ms} ms"));
        let _ = writeln!(
            text,
            "         {}, CNTLID {}, CIU {}, CCRL {}, KATO {} ms, CQT {cqt}, {} I/O queue(s)",
            facts.life, facts.cntlid, facts.ciu, facts.ccrl, facts.kato_ms, facts.io_queues
        );
    }
}

/// What a healthy controller does all the time is no news.
const fn tells(kind: WaitKind) -> bool {
    !matches!(kind, WaitKind::KeepAlive | WaitKind::Look)
}

/// A span as people say it.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..100_000 => format!("{:.1} s", ms as f64 / 1e3),
        100_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}
