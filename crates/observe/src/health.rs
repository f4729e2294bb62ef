//! What is not well with a subsystem, in words, and what to do about it.
//!
//! A state as a word (`degraded`) says that one should look; this says at what. It reads a [`Snapshot`] alone, so the
//! monitor and the one-shot report name the same things, whoever drives the controllers. What has never been counted is
//! not held against anybody: a source that does not know fences has no findings about them.

use crate::changes::Weight;
use crate::{Controller, Head, HostFacts, Snapshot, Subsystem, Word};
use interlock_api::{AnaState, ControllerState, Method};
use serde::Serialize;

/// One thing that is not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters; never [`Weight::Info`].
    pub weight: Weight,
    /// Name of the subsystem.
    pub subsystem: String,
    /// Name of the device it is about.
    pub device: String,
    /// What is not well, in one line without its device.
    pub what: String,
    /// What to do, or to look at.
    pub hint: &'static str,
}

/// What is not well with any subsystem, those that matter most first.
#[must_use]
pub fn of_all(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        snapshot.subsystems.iter().flat_map(|one| of(one, snapshot.host.as_deref())).collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    found
}

/// What is not well with one subsystem, what matters most first. `host` has what outlives controllers, if it is known.
#[must_use]
pub fn of(subsystem: &Subsystem, host: Option<&HostFacts>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut note = |weight, device: &str, what: String, hint| {
        found.push(Finding { weight, subsystem: subsystem.name.clone(), device: device.to_owned(), what, hint });
    };
    for controller in &subsystem.controllers {
        of_controller(controller, &mut note);
    }
    match &subsystem.controllers[..] {
        [only] if is_fabric(&only.transport) && subsystem.kind != "discovery" => note(
            Weight::Warning,
            &only.name,
            "no second path: I/O stops when this controller is lost".to_owned(),
            "connect another port of the target",
        ),
        _ => {}
    }
    for head in &subsystem.namespaces {
        of_head(subsystem, head, &mut note);
    }
    if let Some(totals) = &subsystem.totals {
        let fences = &totals.fences;
        if fences.unsafe_failovers > 0 {
            let what = format!("{} retried without a fence: data may be stale", commands(fences.unsafe_failovers));
            note(
                Weight::Critical,
                &subsystem.name,
                what,
                "check the data; `set --fence-policy strict` ends the policy",
            );
        }
        for method in [Method::Assumed, Method::Legacy, Method::AcceptedRisk] {
            let times = fences.by_method.get(&method).copied().unwrap_or_default();
            if times > 0 {
                let what =
                    format!("{times} of {} lives ended by `{}`, which is no proof", fences.attempts, method.name());
                note(Weight::Warning, &subsystem.name, what, "`interlock doctor` says what the target lacks");
            }
        }
    }
    let tombstones = host.map_or(&[][..], |host| &host.tombstones);
    for tombstone in tombstones.iter().filter(|tombstone| tombstone.subnqn == subsystem.nqn) {
        let over = tombstone.left_ms.map_or_else(|| "until it is fenced".to_owned(), |ms| format!("for {}", time(ms)));
        let what = format!("{} is not fenced: {} guarded {over}", tombstone.life, tombstone.guarded);
        note(Weight::Warning, &tombstone.controller, what, "connect another path, or `interlock fence`");
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    found
}

fn of_controller(controller: &Controller, note: &mut impl FnMut(Weight, &str, String, &'static str)) {
    let recovery = controller.recovery.as_deref();
    if !controller.is_live() {
        let weight = if controller.state.is(ControllerState::Dead) { Weight::Critical } else { Weight::Warning };
        let mut what = controller.state.to_string();
        if let Some(recovery) = recovery {
            // Since the last attempt is not since the loss: how long would mislead.
            let why = recovery.last_error.as_ref().unwrap_or(&recovery.reason);
            if !why.is_empty() {
                what.push_str(&format!(": {why}"));
            }
        }
        note(weight, &controller.name, what, "check network and target; `interlock reconnect` retries");
    }
    let Some(recovery) = recovery else { return };
    if recovery.slow {
        let what = "slow: commands are late, and it is avoided".to_owned();
        note(Weight::Warning, &controller.name, what, "compare the latency of the paths");
    }
    if !recovery.fencing.is_empty() {
        let what = format!("{} not fenced yet: commands in doubt are held", recovery.fencing.join(", "));
        note(Weight::Warning, &controller.name, what, "`interlock status` says what is waited for");
    }
}

/// Transports by which a second path is possible; a disk in this machine has one.
fn is_fabric(transport: &str) -> bool {
    matches!(transport, "tcp" | "rdma" | "fc" | "loop")
}

fn of_head(subsystem: &Subsystem, head: &Head, note: &mut impl FnMut(Weight, &str, String, &'static str)) {
    let live = |name: &str| subsystem.controller(name).is_some_and(Controller::is_live);
    let usable = |state: &Option<Word<AnaState>>| {
        state.as_ref().is_none_or(|state| matches!(state, Word::Known(state) if state.is_usable()))
    };
    for path in head.paths.iter().filter(|path| live(&path.controller) && !usable(&path.ana_state)) {
        let state = path.ana_state.as_ref().map_or("unknown", Word::as_str);
        let weight = Weight::Warning;
        note(weight, &path.name, format!("ANA {state}: it carries no I/O"), "the target decides this: ask it why");
    }
    let carrying: Vec<_> = head.paths.iter().filter(|path| live(&path.controller) && usable(&path.ana_state)).collect();
    match &carrying[..] {
        [] => note(
            Weight::Critical,
            &head.name,
            "no usable path: I/O waits or fails".to_owned(),
            "check the network, the target, its ANA states",
        ),
        [last] if head.paths.len() > 1 => note(
            Weight::Warning,
            &head.name,
            format!("one usable path of {} is left, {}", head.paths.len(), last.name),
            "bring the others back before it is lost, too",
        ),
        _ => {}
    }
    if let Some(error) = &head.flush_error {
        note(
            Weight::Critical,
            &head.name,
            format!("a flush failed ({error}): none succeeds until that is cleared"),
            "rewrite what was lost, then `interlock clear-flush-error`",
        );
    }
    for suspect in &head.suspects {
        note(
            Weight::Warning,
            &head.name,
            format!("{suspect}: it waits to be sent alone"),
            "wait; if the target dies on it alone as well, it fails, and the fault is in the target at these blocks",
        );
    }
    let failed = head.counters.io_fail_no_available_path_count.unwrap_or_default();
    if failed > 0 {
        let what = format!("{failed} I/O failed because no path was left");
        note(Weight::Critical, &head.name, what, "see who got the errors, then set the counter back");
    }
}

fn commands(count: u64) -> String {
    if count == 1 { "1 command".to_owned() } else { format!("{count} commands") }
}

fn time(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadCounters, Path, Recovery};
    use interlock_api::{SubsystemCounters, SuspectCommand, TombstoneStatus};

    fn well() -> Subsystem {
        let controller = |name: &str| Controller {
            name: name.into(),
            transport: "tcp".into(),
            state: "live".into(),
            ..Controller::default()
        };
        let path = |name: &str, controller: &str| Path {
            name: name.into(),
            controller: controller.into(),
            ana_state: Some("optimized".into()),
            ..Path::default()
        };
        Subsystem {
            name: "nvme-subsys0".into(),
            nqn: "nqn.a".into(),
            kind: "nvm".into(),
            controllers: vec![controller("nvme0"), controller("nvme1")],
            namespaces: vec![Head {
                name: "nvme0n1".into(),
                paths: vec![path("nvme0c0n1", "nvme0"), path("nvme0c1n1", "nvme1")],
                ..Head::default()
            }],
            totals: Some(Box::default()),
            ..Subsystem::default()
        }
    }

    fn said(subsystem: &Subsystem) -> Vec<String> {
        of(subsystem, None).into_iter().map(|one| format!("{}: {}", one.device, one.what)).collect()
    }

    #[test]
    fn what_is_well_has_no_findings() {
        assert_eq!(said(&well()), Vec::<String>::new());
    }

    #[test]
    fn a_lost_controller_is_told_with_what_it_costs() {
        let mut subsystem = well();
        subsystem.controllers[0].state = "connecting".into();
        subsystem.controllers[0].recovery = Some(Box::new(Recovery {
            for_ms: 4200,
            last_error: Some("connection refused".into()),
            fencing: vec!["life0".into()],
            ..Recovery::default()
        }));
        assert_eq!(
            said(&subsystem),
            [
                "nvme0: connecting: connection refused",
                "nvme0: life0 not fenced yet: commands in doubt are held",
                "nvme0n1: one usable path of 2 is left, nvme0c1n1",
            ]
        );
        subsystem.controllers[1].state = "dead".into();
        let all = of(&subsystem, None);
        assert_eq!((all[0].weight, all[0].what.as_str()), (Weight::Critical, "dead"), "what matters most comes first");
        assert_eq!(all[1].what, "no usable path: I/O waits or fails");
    }

    #[test]
    fn paths_that_carry_nothing_and_those_that_are_alone() {
        let mut subsystem = well();
        subsystem.namespaces[0].paths[1].ana_state = Some("inaccessible".into());
        assert_eq!(
            said(&subsystem),
            ["nvme0c1n1: ANA inaccessible: it carries no I/O", "nvme0n1: one usable path of 2 is left, nvme0c0n1"]
        );
        subsystem.controllers.pop();
        subsystem.namespaces[0].paths.pop();
        assert_eq!(said(&subsystem), ["nvme0: no second path: I/O stops when this controller is lost"]);
        subsystem.controllers[0].transport = "pcie".into();
        assert_eq!(said(&subsystem), Vec::<String>::new(), "a disk in its slot has one path");
    }

    #[test]
    fn what_was_not_proven_and_what_failed() {
        let mut subsystem = well();
        let mut totals = SubsystemCounters::default();
        totals.fences.attempts = 3;
        totals.fences.unsafe_failovers = 2;
        totals.fences.by_method = [(Method::Assumed, 1), (Method::Time, 1), (Method::Legacy, 1)].into();
        subsystem.totals = Some(Box::new(totals));
        subsystem.namespaces[0].counters =
            HeadCounters { io_fail_no_available_path_count: Some(7), ..HeadCounters::default() };
        subsystem.namespaces[0].flush_error = Some("Write Fault".into());
        let suspect = SuspectCommand { command: "Write".into(), first_lba: 8, blocks: 2, instances_lost: 3 };
        subsystem.namespaces[0].suspects = vec![suspect];
        assert_eq!(
            said(&subsystem),
            [
                "nvme0n1: a flush failed (Write Fault): none succeeds until that is cleared",
                "nvme0n1: 7 I/O failed because no path was left",
                "nvme-subsys0: 2 commands retried without a fence: data may be stale",
                "nvme0n1: 3 instances were lost with a Write (2 blocks from LBA 8): it waits to be sent alone",
                "nvme-subsys0: 1 of 3 lives ended by `assumed`, which is no proof",
                "nvme-subsys0: 1 of 3 lives ended by `legacy`, which is no proof",
            ]
        );
    }

    #[test]
    fn a_tombstone_is_told_of_its_subsystem_alone() {
        let tombstone = |subnqn: &str| TombstoneStatus {
            controller: "nvme0".into(),
            life: "life0".into(),
            subnqn: subnqn.into(),
            guarded: "8 blocks of NSID 1".into(),
            left_ms: None,
        };
        let host = HostFacts { tombstones: vec![tombstone("nqn.a"), tombstone("nqn.b")], ..HostFacts::default() };
        let all = of(&well(), Some(&host));
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!(all[0].what, "life0 is not fenced: 8 blocks of NSID 1 guarded until it is fenced");
    }
}
