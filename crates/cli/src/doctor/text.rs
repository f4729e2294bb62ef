//! A doctor's report for people.

use interlock_api::{DoctorReport, Failure, Finding, NamespaceFacts, Severity, Stall};
use interlock_host::ProbeReport;
use interlock_host::doctor::{FlushNsid, Ways, flush_nsid};

pub(super) fn normal(report: &DoctorReport, probe: &ProbeReport, ways: &Ways) -> String {
    let mut lines = Vec::new();
    facts(&mut lines, report, probe, ways);
    lines.push(String::new());
    lines.push("Worst-case stall of writes in doubt".into());
    for stall in &report.stalls {
        stalls(&mut lines, stall);
    }
    lines.push(String::new());
    if report.findings.is_empty() {
        lines.push("Findings: none".into());
    } else {
        lines.push("Findings".into());
        report.findings.iter().for_each(|finding| findings(&mut lines, finding));
    }
    lines.join("\n")
}

fn stated(text: &str) -> &str {
    if text.is_empty() { "(not stated)" } else { text }
}

fn facts(lines: &mut Vec<String>, report: &DoctorReport, probe: &ProbeReport, ways: &Ways) {
    let mut fact = |name: &str, text: String| lines.push(format!("{name:<11}{text}"));
    let who = &report.subsystem;
    fact("Subsystem", who.nqn.clone());
    fact(
        "Controller",
        format!(
            "{} of {}, serial {}, firmware {}, NVMe {}",
            who.cntlid,
            stated(&who.model),
            stated(&who.serial),
            who.firmware,
            who.version
        ),
    );
    fact("Host", report.hostnqn.clone());
    match &report.live {
        Some(live) => {
            let paths: Vec<String> =
                live.controllers.iter().map(|ctrl| format!("{} {} {}", ctrl.name, ctrl.path, ctrl.state)).collect();
            fact(
                "Daemon",
                format!("process {} has it connected, and its settings are judged: {}", live.pid, paths.join(", ")),
            );
        }
        None => {
            fact("Daemon", "does not run, or has not connected this: the settings of this command are judged".into())
        }
    }
    let ports: Vec<String> =
        report.ports.iter().map(|port| format!("{}{}", port.path, if port.asked { " (asked)" } else { "" })).collect();
    match ways {
        Ways::Known(_) => fact("Ports", ports.join(", ")),
        Ways::NotKnown(why) => fact("Ports", format!("{}; others are not known: {why}", ports.join(", "))),
    }
    fact(
        "CCR",
        if report.ccr.supported {
            format!(
                "yes, {} at once (CCRL); this life is CIU {:#04x}, CIRN {}",
                report.ccr.ccrl, report.ccr.ciu, report.ccr.cirn
            )
        } else {
            "no: a lost controller cannot be reset through another one".into()
        },
    );
    fact("CQT", report.cqt_ms.map_or_else(|| "none stated".into(), millis));
    let kato = &report.kato;
    let effective =
        if kato.effective_ms == 0 { "off".into() } else { format!("{} in force", millis(kato.effective_ms)) };
    fact(
        "KATO",
        format!("{} asked for, {effective}; granularity {}", millis(kato.requested_ms), millis(kato.granularity_ms)),
    );
    fact("TBKAS", if report.tbkas { "yes: any command counts as keep alive".into() } else { "no".into() });
    fact(
        "ANA",
        match report.ana.anatt_s {
            Some(anatt) => format!("yes, changes take at most {anatt} s"),
            None => "not reported".into(),
        },
    );
    for group in &report.ana.groups {
        let nsids: Vec<String> = group.nsids.iter().map(u32::to_string).collect();
        let state = serde_json::to_value(group.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
        let served = if nsids.is_empty() { "no namespaces".into() } else { format!("namespaces {}", nsids.join(", ")) };
        fact("", format!("group {}: {state}, {served}", group.id));
    }
    let scope = match flush_nsid(probe) {
        FlushNsid::All => "Flush can name all namespaces at once",
        FlushNsid::OneNamespace => "Flush takes one namespace at a time",
        FlushNsid::NotSpecified => "the scope of Flush is not said",
    };
    fact(
        "VWC",
        format!("{}; {scope}", if report.vwc { "volatile write cache present" } else { "no volatile write cache" }),
    );
    for namespace in &report.namespaces {
        fact("Namespace", one_namespace(namespace));
    }
    fact("RESCAP", reservations(&report.namespaces));
}

/// Whether another host can make commands of this one fail.
fn reservations(namespaces: &[NamespaceFacts]) -> String {
    let offered: Vec<String> = namespaces.iter().filter(|ns| ns.reservations).map(|ns| ns.nsid.to_string()).collect();
    match offered.len() {
        0 => "reservations: not offered".into(),
        _ => format!(
            "reservations: offered (namespaces {}); another host's reservation makes writes fail with Reservation Conflict",
            offered.join(", ")
        ),
    }
}

fn one_namespace(namespace: &NamespaceFacts) -> String {
    let shared = if namespace.shared { "shared" } else { "not shared" };
    let group = namespace.anagrpid.map(|group| format!(", ANA group {group}")).unwrap_or_default();
    format!(
        "{}: {}, blocks of {} bytes, {shared}{group}",
        namespace.nsid,
        size(namespace.size_bytes),
        namespace.block_bytes
    )
}

fn stalls(lines: &mut Vec<String>, stall: &Stall) {
    let after = match stall.failure {
        Failure::SignalledLoss => "a path is closed or reset, another is there",
        Failure::SilentLoss => "a path dies without a word, another is there",
        Failure::SinglePath => "the only path is reset, its port is still there",
        Failure::LastPath => "all paths are lost",
    };
    let total = stall.total_ms.map_or_else(|| "no bound".into(), |ms| format!("at most {}", millis(ms)));
    let assumed = if stall.assumed { ", under an assumption about the target" } else { "" };
    lines.push(format!("  {after}: {total}{assumed}"));
    for stage in &stall.stages {
        let bound = stage.ms.map_or_else(|| "no bound".into(), millis);
        lines.push(format!("    {:<10}{bound:>9}  {}", stage.name, stage.because));
    }
}

fn findings(lines: &mut Vec<String>, finding: &Finding) {
    let severity = match finding.severity {
        Severity::Unsafe => "UNSAFE",
        Severity::Slow => "slow",
        Severity::Pointless => "pointless",
        Severity::Note => "note",
    };
    lines.push(format!("  {severity:<10}{} ({})", finding.text, finding.code));
    if let Some(change) = &finding.change {
        lines.push(format!("  {:<10}change: {change}", ""));
    }
}

/// `250 ms`, `5 s`, `16.51 s`.
fn millis(ms: u64) -> String {
    match (ms / 1000, ms % 1000) {
        (0, ms) => format!("{ms} ms"),
        (s, 0) => format!("{s} s"),
        (s, ms) => format!("{s}.{} s", format!("{ms:03}").trim_end_matches('0')),
    }
}

/// In the largest binary unit that is exact.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact() {
        assert_eq!([millis(250), millis(5000), millis(16_510), millis(0)], ["250 ms", "5 s", "16.51 s", "0 ms"]);
        assert_eq!([size(1 << 30), size(3 << 20), size(1000), size(0)], ["1 GiB", "3 MiB", "1000 bytes", "0 bytes"]);
    }
}
