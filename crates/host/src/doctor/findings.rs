//! Every setting that is unsafe or pointless, with what to change.
//!
//! One function per question; each returns nothing if all is well. Codes are stable: programs match on them.

use super::stalls::text;
use super::{FlushNsid, Ways, flush_nsid};
use interlock_api::{Finding, Severity};
use interlock_host_core::probe::{ProbeReport, SubsystemFound};
use interlock_host_core::stall::{hold_terms, worst_stall};
use interlock_host_core::{ControllerSpec, FencePolicy, LifeFacts};
use interlock_wire::ana;
use interlock_wire::identify::CMIC_MULTI_CONTROLLER;
use std::time::Duration;

/// Above this, a lost path stalls longer than most applications wait.
const SLOW_KATO: Duration = Duration::from_secs(10);

pub(super) struct Case<'a> {
    pub(super) report: &'a ProbeReport,
    pub(super) found: &'a SubsystemFound,
    pub(super) facts: &'a LifeFacts,
    pub(super) spec: &'a ControllerSpec,
    pub(super) ways: &'a Ways,
}

impl Case<'_> {
    fn ccr(&self) -> bool {
        self.facts.offers_ccr()
    }
}

pub(super) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let questions = [
        policy,
        fence,
        instance,
        quiesce,
        keep_alive,
        keep_alive_given,
        keep_alive_assumed,
        given_up,
        fast_fail,
        ways,
        limit,
    ];
    let mut findings: Vec<Finding> = questions.iter().filter_map(|question| question(case)).collect();
    findings.extend(namespaces(case));
    findings.extend(reservations(case));
    findings.extend(groups(case));
    findings.extend(cache(case));
    findings.extend(unstated(case));
    // Stable: equals stay in the order of the questions.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn finding(severity: Severity, code: &str, text: String, change: &str) -> Option<Finding> {
    let change = (!change.is_empty()).then(|| change.to_owned());
    Some(Finding { severity, code: code.to_owned(), text, change })
}

fn policy(case: &Case<'_>) -> Option<Finding> {
    if case.spec.fence == FencePolicy::Strict {
        return None;
    }
    let text = "the legacy policy repeats writes at once, although the lost controller may still execute them".into();
    finding(Severity::Unsafe, "legacy-policy", text, "leave the fence policy at strict")
}

fn fence(case: &Case<'_>) -> Option<Finding> {
    match (case.ccr(), case.facts.cqt.value().is_some()) {
        (true, _) => None,
        (false, true) => {
            let hold = hold_terms(case.spec, case.facts).hold();
            let waits = hold.map_or_else(|| "without end".into(), |hold| format!("for {}", text(hold)));
            let text = format!("no Cross-Controller Reset: every failover holds writes in doubt {waits}");
            finding(
                Severity::Slow,
                "no-ccr",
                text,
                "use a target with CCR (TP8028); a shorter KATO (-k) shortens the wait",
            )
        }
        (false, false) => {
            let Some(assumed) = case.spec.timeouts.assumed_cqt else {
                let text = "the target offers neither CCR nor CQT, and nothing may be assumed: a write in doubt ends as not \
                            known, and its range stays guarded until an operator accepts the risk (`interlock fence`)";
                let change = "use a target with CCR or CQT; or state what it needs: --assumed-cqt";
                return finding(Severity::Slow, "no-fence", text.into(), change);
            };
            let text = format!(
                "the target offers neither CCR nor CQT: the hold rests on the assumption that it quiesces within {}. A target \
                 process or virtual machine that is paused for longer breaks it, and loses data",
                text(assumed)
            );
            let change = "ask the vendor how long a lost controller can continue to write; use a target with CCR or CQT; \
                          `--assumed-cqt never` assumes nothing";
            finding(Severity::Unsafe, "no-fence", text, change)
        }
    }
}

fn instance(case: &Case<'_>) -> Option<Finding> {
    if !case.facts.can_reset() || case.facts.can_be_reset() {
        return None;
    }
    let text = "CCRL says that resets are possible, but the controller names no instance (CIU 0): it cannot be reset";
    finding(Severity::Pointless, "ccr-without-instance", text.into(), "report it to the vendor: CCR needs CIU and CIRN")
}

fn quiesce(case: &Case<'_>) -> Option<Finding> {
    if case.facts.cqt.value().is_some() || !case.ccr() {
        return None;
    }
    let text = match case.spec.timeouts.assumed_cqt {
        Some(assumed) => {
            format!("the target states no CQT: should a reset fail, the hold rests on an assumed {}", text(assumed))
        }
        None => "the target states no CQT and nothing may be assumed: should a reset fail, no time ends a doubt".into(),
    };
    finding(Severity::Note, "no-cqt", text, "set a CQT on the target, if it has one")
}

fn keep_alive(case: &Case<'_>) -> Option<Finding> {
    let kato = case.facts.kato_in_force();
    if kato.is_zero() {
        let severity = if case.ccr() { Severity::Slow } else { Severity::Unsafe };
        let text = "keep alive is off: a path that dies without a word is not noticed, and no time ends a doubt".into();
        return finding(severity, "no-keep-alive", text, "ask for a Keep Alive Timeout: -k 5");
    }
    if kato > SLOW_KATO {
        let text = format!("KATO is {}: a path that dies without a word is noticed only then", text(kato));
        return finding(Severity::Slow, "long-keep-alive", text, "use a shorter Keep Alive Timeout: -k 5");
    }
    None
}

fn keep_alive_given(case: &Case<'_>) -> Option<Finding> {
    let given = Duration::from_millis(case.found.kato_ms?.into());
    if given == case.spec.kato {
        return None;
    }
    let text = format!(
        "{} of Keep Alive Timeout were asked for and {} are in force; every bound uses the longer one",
        text(case.spec.kato),
        text(given)
    );
    finding(Severity::Note, "keep-alive-changed", text, "")
}

fn keep_alive_assumed(case: &Case<'_>) -> Option<Finding> {
    let why = case.facts.kato.assumption()?;
    let assumed = text(case.facts.kato_in_force());
    let text = format!("{why} ({assumed}) is assumed, and no fence by time is more than an assumption");
    let change = "use a target that answers Get Features (Keep Alive Timer), or one with CCR (TP8028)";
    let severity = if case.ccr() { Severity::Note } else { Severity::Unsafe };
    finding(severity, "keep-alive-assumed", text, change)
}

/// What nothing contradicts, because nothing is stated.
fn unstated(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let missing: Vec<&str> = [("serial number", &case.facts.serial), ("model number", &case.facts.model)]
        .into_iter()
        .filter_map(|(name, fact)| fact.value().is_none().then_some(name))
        .collect();
    if !missing.is_empty() {
        let text = format!(
            "the controller states no {}: another target with this NQN and identifiers of its own is not told from it by that",
            missing.join(" and no ")
        );
        findings.extend(finding(Severity::Note, "serial-not-stated", text, "set them on the target"));
    }
    if let Some(why) = case.report.facts.subnqn.assumption() {
        let text = format!("{why} is assumed");
        findings.extend(finding(Severity::Note, "subsystem-not-named", text, "use a target of NVMe 1.2.1 or later"));
    }
    if let Some(why) = case.facts.tbkas.assumption() {
        let text =
            format!("{why}: a hold reckons with Traffic Based Keep Alive (three times KATO), and Keep Alive does not");
        findings.extend(finding(Severity::Note, "tbkas-assumed", text, "use a target of NVMe 1.2.1 or later"));
    }
    findings
}

fn given_up(case: &Case<'_>) -> Option<Finding> {
    let worst = worst_stall(case.spec, case.facts);
    let (given_up, hold) = (worst.given_up_after?, worst.hold?);
    if given_up >= worst.stop + hold {
        return None;
    }
    let text = format!(
        "ctrl_loss_tmo {} gives a controller up before the {} in which it may still write are over",
        text(given_up),
        text(worst.stop + hold)
    );
    let change = "use a longer ctrl_loss_tmo (-l): writes in doubt end as indeterminate else";
    finding(Severity::Unsafe, "given-up-before-fenced", text, change)
}

fn fast_fail(case: &Case<'_>) -> Option<Finding> {
    let fast = case.spec.reconnect.fast_io_fail?;
    if case.spec.reconnect.ctrl_loss.is_some_and(|loss| fast >= loss) {
        let text = "fast_io_fail_tmo is not shorter than ctrl_loss_tmo, which fails I/O first".into();
        return finding(Severity::Pointless, "fast-io-fail-late", text, "make it shorter, or leave it out");
    }
    let hold = worst_stall(case.spec, case.facts).hold?;
    if case.ccr() || fast >= hold {
        return None;
    }
    let text = format!(
        "fast_io_fail_tmo fails I/O after {}, but writes in doubt are answered only after their fence, {}",
        text(fast),
        text(hold)
    );
    finding(Severity::Note, "fast-io-fail-before-fence", text, "")
}

fn ways(case: &Case<'_>) -> Option<Finding> {
    match case.ways {
        Ways::NotKnown(why) => {
            let text = format!("whether there is a second path is not known: {why}");
            finding(Severity::Note, "ports-not-known", text, "run `interlock discover` against the discovery service")
        }
        Ways::Known(ways) if ways.len() < 2 => {
            let text = "the discovery log names one port only: a failover has nowhere to go, I/O waits for this path";
            finding(Severity::Slow, "single-path", text.into(), "give the subsystem a second port")
        }
        Ways::Known(_) if case.report.facts.identify.cmic & CMIC_MULTI_CONTROLLER == 0 => {
            let text =
                "there are several ports, but the subsystem says that it has one controller at most (CMIC)".into();
            finding(Severity::Pointless, "one-controller", text, "allow several controllers on the target")
        }
        Ways::Known(_) => None,
    }
}

fn limit(case: &Case<'_>) -> Option<Finding> {
    if case.facts.ccrl.unwrap_or(0) != 1 {
        return None;
    }
    let text = "CCRL is 1: controllers that are lost together are reset one after the other".into();
    finding(Severity::Note, "ccr-limit", text, "raise the limit on the target")
}

fn namespaces(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if case.found.namespaces.is_empty() {
        let text = "no namespace is attached to this controller for this host".into();
        findings.extend(finding(Severity::Pointless, "no-namespace", text, "attach one on the target"));
    }
    let alone: Vec<String> =
        case.found.namespaces.iter().filter(|ns| !ns.shared).map(|ns| ns.nsid.to_string()).collect();
    if !alone.is_empty() {
        let text = format!("not shared (NMIC): {}: a second path cannot reach it", namespace_list(&alone));
        findings.extend(finding(Severity::Pointless, "not-shared", text, "make it shared on the target"));
    }
    findings.extend(more_namespaces(case));
    findings
}

/// A list that is full may go on. Whether it does is known if the controller states how many there can be, or how far their
/// identifiers go. Base Specification, "Identify Controller Data Structure" (NN, MNAN).
fn more_namespaces(case: &Case<'_>) -> Option<Finding> {
    let (most, looked) = (case.report.facts.identify.max_namespaces(), case.found.namespaces.len());
    if !case.found.more_namespaces || u64::from(most) <= looked as u64 {
        return None;
    }
    let text =
        format!("{looked} namespaces were looked at, as many as a host uses of one controller: there may be more");
    finding(Severity::Note, "more-namespaces", text, "spread them over several subsystems if they are needed here")
}

/// Another host may lock this one out, and no failover helps then.
fn reservations(case: &Case<'_>) -> Option<Finding> {
    let offered: Vec<String> =
        case.found.namespaces.iter().filter(|ns| ns.reservations).map(|ns| ns.nsid.to_string()).collect();
    if offered.is_empty() {
        return None;
    }
    let text = format!(
        "{} offer reservations (RESCAP), and this host uses none: while another host holds one, commands fail with Reservation \
         Conflict on every path (event `reservation_conflict`)",
        namespace_list(&offered)
    );
    finding(Severity::Note, "reservations", text, "let only one cluster manager of the hosts use reservations of them")
}

fn namespace_list(nsids: &[String]) -> String {
    let word = if nsids.len() == 1 { "namespace" } else { "namespaces" };
    format!("{word} {}", nsids.join(", "))
}

fn groups(case: &Case<'_>) -> Vec<Finding> {
    let Some(log) = &case.report.facts.ana else { return Vec::new() };
    let mut findings = Vec::new();
    for group in log.groups.iter().filter(|group| !group.nsids.is_empty()) {
        let (code, change) = match group.state {
            ana::State::Optimized | ana::State::NonOptimized => continue,
            ana::State::Inaccessible => ("ana-inaccessible", "connect to the port through which it is accessible, too"),
            ana::State::PersistentLoss => ("ana-persistent-loss", "the target will not serve it here again"),
            ana::State::Change => ("ana-change", "look again when the target has finished"),
        };
        let text = format!("ANA group {} is {} through this port", group.id, group.state);
        findings.extend(finding(Severity::Slow, code, text, change));
    }
    findings
}

fn cache(case: &Case<'_>) -> Option<Finding> {
    if !case.facts.vwc {
        return None;
    }
    let scope = match flush_nsid(case.report) {
        FlushNsid::All => "Flush can name all namespaces at once",
        FlushNsid::OneNamespace => "Flush takes one namespace at a time",
        FlushNsid::NotSpecified => "whether Flush can name all namespaces is not said",
    };
    let text = format!("writes are answered from a volatile cache: only Flush or FUA makes them durable; {scope}");
    let change = "if its controllers do not share that cache (ask its maker), connect with --flush-scope controller";
    finding(Severity::Note, "volatile-cache", text, change)
}
