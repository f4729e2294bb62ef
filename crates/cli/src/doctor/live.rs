//! What a running daemon says of the subsystem that is judged.

use crate::failure::Failure;
use interlock_api::{
    ControllerState, ControllerStatus, DoctorReport, FencePolicy, Finding, LiveController, LiveFacts, NamespaceStatus,
    OnLoss, Severity, Status, SubsystemStatus, Unreachable, same_address,
};
use interlock_host::doctor::Ways;
use interlock_host::{ControllerSpec, FencePolicy as HostFence, OnLoss as HostOnLoss};
use std::net::SocketAddr;
use std::time::Duration;

/// A subsystem that a running daemon has connected.
#[derive(Clone, Copy)]
pub(super) struct Live<'a> {
    pub(super) status: &'a Status,
    pub(super) subsystem: &'a SubsystemStatus,
}

impl<'a> Live<'a> {
    /// If the daemon has it.
    pub(super) fn of(status: &'a Status, nqn: &str) -> Option<Self> {
        let subsystem = status.subsystems.iter().find(|subsystem| subsystem.nqn == nqn)?;
        Some(Self { status, subsystem })
    }

    fn controllers(&self) -> impl Iterator<Item = &'a ControllerStatus> + use<'a> {
        let name = &self.subsystem.name;
        self.status.controllers.iter().filter(move |ctrl| ctrl.subsystem == *name)
    }

    /// A port to look at: one that is live, else any.
    pub(super) fn port(&self) -> Option<(String, u16)> {
        let best = self.controllers().min_by_key(|ctrl| ctrl.state != ControllerState::Live)?;
        Some((best.path.traddr.clone(), best.path.trsvcid.parse().ok()?))
    }

    /// Why a subsystem could not be looked at, with what the daemon knows of it.
    pub(super) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let mut failure = Failure::of(error);
        for ctrl in self.controllers().filter(|ctrl| ctrl.state != ControllerState::Live) {
            let why = ctrl.last_error.as_ref().unwrap_or(&ctrl.reason);
            failure = failure.hint(format!("{} ({}) is {}: {why}", ctrl.name, ctrl.path, ctrl.state));
        }
        for ns in self.namespaces() {
            if let Some(why) = ns.unreachable {
                failure = failure.hint(no_path(ns, why).text);
            }
        }
        failure.hint("`interlock status` says what is waited for").into()
    }

    fn namespaces(&self) -> impl Iterator<Item = &'a NamespaceStatus> + use<'a> {
        let name = &self.subsystem.name;
        self.status.namespaces.iter().filter(move |ns| ns.subsystem == *name)
    }

    /// What is in force there, in place of the defaults.
    pub(super) fn apply(&self, spec: &mut ControllerSpec) {
        let Some(first) = self.controllers().next() else { return };
        let settings = &first.settings;
        let limit = |seconds: i64| u64::try_from(seconds).ok().map(Duration::from_secs);
        spec.reconnect.delay = Duration::from_secs(settings.reconnect_delay_s);
        spec.reconnect.ctrl_loss = limit(settings.ctrl_loss_tmo_s);
        spec.reconnect.fast_io_fail = limit(settings.fast_io_fail_tmo_s);
        spec.fence = match settings.fence {
            FencePolicy::Strict => HostFence::Strict,
            FencePolicy::Legacy => HostFence::Legacy,
        };
        spec.timeouts.assumed_cqt = u64::try_from(settings.assumed_cqt_ms).ok().map(Duration::from_millis);
        spec.timeouts.clock_slew_permille = settings.clock_slew_permille;
        spec.timeouts.proxy_delay = Duration::from_millis(settings.proxy_delay_ms);
        spec.proxied = settings.proxy_delay_ms > 0;
        spec.disable_is_fence = settings.disable_is_fence;
        spec.on_loss = match settings.on_loss {
            OnLoss::Reconnect => HostOnLoss::Reconnect,
            OnLoss::Notify => HostOnLoss::Notify,
        };
        if let Some(facts) = self.controllers().find_map(|ctrl| ctrl.facts.as_ref()) {
            spec.kato = Duration::from_millis(facts.kato_ms);
        }
    }

    /// Live paths through ports that the discovery log does not name. Where the log is the shorter of the two, it does not say
    /// how many paths there are: that finding is taken back.
    fn ways_not_named(&self, report: &mut Vec<Finding>, ways: &Ways) -> Vec<Finding> {
        let Ways::Known(ways) = ways else { return Vec::new() };
        let named = |ctrl: &ControllerStatus| ways.iter().any(|(traddr, port, _)| goes_through(ctrl, traddr, *port));
        let live = || self.controllers().filter(|ctrl| ctrl.state == ControllerState::Live);
        let others: Vec<Finding> = live()
            .filter(|ctrl| !named(ctrl))
            .map(|ctrl| Finding {
                severity: Severity::Note,
                code: "way-not-in-log".into(),
                text: format!(
                    "the discovery log does not name the port of {} ({}), which is connected",
                    ctrl.name, ctrl.path
                ),
                change: Some(
                    "let the discovery service of the target name all its ports: other hosts find only those".into(),
                ),
            })
            .collect();
        if !others.is_empty() && live().count() > 1 {
            report.retain(|finding| finding.code != "single-path");
        }
        others
    }

    /// Adds what it knows to a report.
    pub(super) fn add(&self, report: &mut DoctorReport, ways: &Ways) {
        let unfenced: Vec<_> =
            self.status.tombstones.iter().filter(|stone| stone.subnqn == self.subsystem.nqn).collect();
        let mut findings = Vec::new();
        for ctrl in self.controllers().filter(|ctrl| ctrl.state != ControllerState::Live) {
            let why = ctrl.last_error.as_ref().map_or_else(|| ctrl.reason.clone(), Clone::clone);
            findings.push(Finding {
                severity: Severity::Slow,
                code: "path-down".into(),
                text: format!("{} ({}) is {}: {why}", ctrl.name, ctrl.path, ctrl.state),
                change: Some(format!("see `interlock status`; `interlock reconnect {}` tries at once", ctrl.name)),
            });
        }
        findings.extend(self.controllers().filter_map(|ctrl| {
            let facts = ctrl.facts.as_ref().filter(|facts| facts.shares_queues())?;
            Some(Finding {
                severity: Severity::Note,
                code: "queues-shared".into(),
                text: format!(
                    "{} ({}) has {} I/O queues for {} reactors: those without one hand their requests to another",
                    ctrl.name, ctrl.path, facts.io_queues, facts.reactors
                ),
                change: Some("let the target grant one for each reactor, or give the daemon fewer `reactors`".into()),
            })
        }));
        if let Ways::Known(ways) = ways {
            for (traddr, trsvcid, _) in ways {
                if !self.controllers().any(|ctrl| goes_through(ctrl, traddr, *trsvcid)) {
                    findings.push(Finding {
                        severity: Severity::Note,
                        code: "way-not-used".into(),
                        text: format!("the daemon does not use the way through {traddr} port {trsvcid}"),
                        change: Some(format!("interlock connect -a {traddr} -s {trsvcid} -n {}", self.subsystem.nqn)),
                    });
                }
            }
        }
        findings.extend(self.ways_not_named(&mut report.findings, ways));
        for stone in &unfenced {
            let until = stone.left_ms.map_or_else(
                || "until a fence succeeds".into(),
                |left| format!("at most {} s more", left.div_ceil(1000)),
            );
            findings.push(Finding {
                severity: Severity::Slow,
                code: "life-not-fenced".into(),
                text: format!("{} of {} is not fenced: {} wait {until}", stone.life, stone.controller, stone.guarded),
                change: None,
            });
        }
        for ns in self.namespaces() {
            findings.extend(ns.unreachable.map(|why| no_path(ns, why)));
            findings.extend(ns.suspects.iter().map(|suspect| Finding {
                severity: Severity::Slow,
                code: "suspect-command".into(),
                text: format!(
                    "{}: {suspect}; it waits to be sent alone, and fails if the target dies on it again",
                    ns.name
                ),
                change: None,
            }));
            if let Some(error) = &ns.flush_error {
                findings.push(Finding {
                    severity: Severity::Unsafe,
                    code: "flush-failed".into(),
                    text: format!(
                        "a flush of {} failed ({error}): answered writes may be lost, and no other succeeds",
                        ns.name
                    ),
                    change: Some(format!("rewrite what was lost, then `interlock clear-flush-error {}`", ns.name)),
                });
            }
        }
        let unsafe_failovers = self.status.totals.unsafe_failovers;
        if unsafe_failovers > 0 {
            findings.push(Finding {
                severity: Severity::Unsafe,
                code: "unsafe-failovers".into(),
                text: format!("{unsafe_failovers} commands were repeated without a fence since the daemon began"),
                change: Some("leave the fence policy at strict; check the data".into()),
            });
        }
        report.findings.extend(findings);
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        report.live = Some(LiveFacts {
            pid: self.status.pid,
            controllers: self
                .controllers()
                .map(|ctrl| LiveController {
                    name: ctrl.name.clone(),
                    path: ctrl.path.clone(),
                    state: ctrl.state,
                    for_ms: ctrl.for_ms,
                })
                .collect(),
            unfenced: unfenced.iter().map(|stone| stone.life.clone()).collect(),
            unsafe_failovers,
        });
    }
}

/// True if a controller is connected through this port, whether it was asked for by address or by name.
fn goes_through(ctrl: &ControllerStatus, traddr: &str, trsvcid: u16) -> bool {
    let peer = || ctrl.peer.as_ref().and_then(|peer| peer.parse::<SocketAddr>().ok());
    let by_name = || peer().is_some_and(|at| at.port() == trsvcid && same_address(&at.ip().to_string(), traddr));
    (ctrl.path.trsvcid == trsvcid.to_string() && same_address(&ctrl.path.traddr, traddr)) || by_name()
}

/// I/O waits although controllers may be live.
fn no_path(ns: &NamespaceStatus, why: Unreachable) -> Finding {
    let (code, what, change) = match why {
        Unreachable::NoUsablePath => (
            "no-usable-path",
            "the ANA state of every path forbids it",
            "make an ANA group of it accessible on the target, or connect a port through which it is",
        ),
        _ => ("no-path", "no live controller has it", "`interlock status` shows what its controllers wait for"),
    };
    Finding {
        severity: Severity::Slow,
        code: code.into(),
        text: format!("I/O to {} waits: {what}", ns.name),
        change: Some(change.into()),
    }
}
