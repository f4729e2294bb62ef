//! The whole host at one moment, in the words of the control interface.

use crate::connect::settings;
use crate::events::Told;
use crate::known::Known;
use crate::names;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api as api;
use interlock_host::{
    AnaState, ControllerStatus, CtrlId, HostStatus, Instant, NamespaceIds, NamespaceStatus, Outcome, StateName,
    WaitFor, WaitOwner, WaitStatus, Why,
};
use interlock_ring::now;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whole milliseconds, rounded up: what is left must not look over before it is.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Controllers that are not live, by subsystem: a subsystem's namespaces have lost paths through its own only.
struct Away<'a>(BTreeMap<&'a str, Vec<CtrlId>>);

impl<'a> Away<'a> {
    fn of(shown: &[&'a ControllerStatus]) -> Self {
        let mut away: BTreeMap<&str, Vec<CtrlId>> = BTreeMap::new();
        for ctrl in shown.iter().filter(|ctrl| ctrl.state != StateName::Live) {
            away.entry(&ctrl.subnqn).or_default().push(ctrl.id);
        }
        Self(away)
    }
}

impl Service {
    /// Everything that `status`, `list` and the others print.
    pub(crate) fn status(&self) -> Result<api::Status, Refusal> {
        Ok(self.status_of(&self.host.status()?))
    }

    /// The same, of what the host has told.
    pub(crate) fn status_of(&self, status: &HostStatus) -> api::Status {
        self.counting.learn_paths(&status.namespaces);
        let numbers = self.numbers(status);
        let heads = self.head_numbers(&status.namespaces);
        let controllers = self.shown(status);
        let away = Away::of(&controllers);
        let settings = self.host.settings();
        let waits = by_owner(&status.waits);
        api::Status {
            format_version: api::Version,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_unix_ms: self.started_unix_ms,
            hostnqn: settings.hostnqn.to_string(),
            hostid: settings.hostid.to_string(),
            subsystems: subsystems(&controllers, &numbers, &self.known.of(&status.controllers)),
            controllers: controllers.iter().map(|ctrl| controller(ctrl, &waits, &numbers, &self.told)).collect(),
            namespaces: status
                .namespaces
                .iter()
                .map(|ns| api::NamespaceStatus {
                    lost_paths: self.lost_paths(ns, (numbers[&ns.subnqn], heads[&ns.head]), &away),
                    ..namespace(ns, (numbers[&ns.subnqn], heads[&ns.head]), self.host.flush_error(ns.head))
                })
                .collect(),
            waiting_names: self.waiting_of(&status.namespaces),
            exports: self.export_status(&status.namespaces),
            discovery: self.discovery.status(),
            tombstones: tombstones(status),
            totals: totals(status),
            journal: self.told.journal(),
            limits: self.budget.ledger().status(),
        }
    }

    fn lost_paths(&self, ns: &NamespaceStatus, (subsystem, number): (u32, u32), away: &Away<'_>) -> Vec<api::LostPath> {
        let Some(away) = away.0.get(ns.subnqn.as_str()) else { return Vec::new() };
        let there: BTreeSet<CtrlId> = ns.paths.iter().map(|path| path.ctrl).collect();
        let lost = self.counting.lost_paths(ns.head, away.iter().copied().filter(|ctrl| !there.contains(ctrl)));
        lost.into_iter()
            .map(|(ctrl, state)| api::LostPath {
                name: names::path(subsystem, ctrl, number),
                controller: ctrl.to_string(),
                ana_state: state.map(ana),
            })
            .collect()
    }

    /// Controllers that are shown: given up is shown, disconnected is not.
    pub(crate) fn shown<'a>(&self, status: &'a HostStatus) -> Vec<&'a ControllerStatus> {
        let known: BTreeMap<u32, bool> =
            self.record().record.controllers.iter().map(|known| (known.number, known.wanted)).collect();
        let shown = |ctrl: &&ControllerStatus| {
            ctrl.state != StateName::Dead || known.get(&ctrl.id.0).copied().unwrap_or_default()
        };
        status.controllers.iter().filter(shown).collect()
    }

    /// Numbers of all subsystems that are there.
    pub(crate) fn numbers(&self, status: &HostStatus) -> BTreeMap<String, u32> {
        let controllers = status.controllers.iter().map(|ctrl| ctrl.subnqn.as_str());
        let nqns = controllers.chain(status.namespaces.iter().map(|ns| ns.subnqn.as_str()));
        let mut devices = self.devices();
        let mut file = self.record();
        devices.number_subsystems(&mut file.record, nqns);
        file.record.subsystems.clone()
    }

    /// The exports alone.
    pub(crate) fn export_list(&self) -> api::Exports {
        let seen = self.host.namespaces().unwrap_or_default();
        api::Exports { format_version: api::Version, exports: self.export_status(&seen) }
    }
}

fn subsystems(
    controllers: &[&ControllerStatus],
    numbers: &BTreeMap<String, u32>,
    last: &BTreeMap<CtrlId, Known>,
) -> Vec<api::SubsystemStatus> {
    let mut found: BTreeMap<u32, api::SubsystemStatus> = BTreeMap::new();
    for ctrl in controllers {
        let number = numbers[&ctrl.subnqn];
        let entry = found.entry(number).or_insert_with(|| api::SubsystemStatus {
            name: names::subsystem(number),
            nqn: ctrl.subnqn.clone(),
            iopolicy: settings(&ctrl.spec).iopolicy,
            model: String::new(),
            serial: String::new(),
            firmware: String::new(),
            last_known: false,
        });
        // What a live controller reports comes before what another one reported when it was live.
        let live = ctrl.facts.as_ref().map(Known::of);
        let (known, last_known) = match (live, last.get(&ctrl.id)) {
            (Some(live), _) => (live, false),
            (None, Some(last)) if entry.serial.is_empty() => (last.clone(), true),
            (None, _) => continue,
        };
        (entry.model, entry.serial, entry.firmware, entry.last_known) =
            (known.model, known.serial, known.firmware, last_known);
    }
    found.into_values().collect()
}

/// Waits of control, by the controller or the life that each is of.
fn by_owner(waits: &[WaitStatus]) -> BTreeMap<WaitOwner, Vec<(Instant, Why)>> {
    let mut all: BTreeMap<WaitOwner, Vec<(Instant, Why)>> = BTreeMap::new();
    for wait in waits {
        if let WaitFor::Control(why) = wait.what {
            all.entry(wait.owner).or_default().push((wait.at, why));
        }
    }
    all
}

fn wait(at: Instant, why: Why) -> api::WaitStatus {
    let life = match why.owner() {
        WaitOwner::Life(life) => Some(life.to_string()),
        WaitOwner::Controller(_) | WaitOwner::Lane(_) | WaitOwner::Host => None,
    };
    api::WaitStatus { kind: wait_kind(why), life, reason: why.what().into(), left_ms: millis(at.since(now())) }
}

const fn wait_kind(why: Why) -> api::WaitKind {
    match why {
        Why::Reconnect(_) => api::WaitKind::Reconnect,
        Why::ControllerLoss(_) => api::WaitKind::ControllerLoss,
        Why::FastIoFail(_) => api::WaitKind::FastIoFail,
        Why::TcpConnect(_) => api::WaitKind::TcpConnect,
        Why::Handshake(_) => api::WaitKind::Handshake,
        Why::ConnectTotal(_) => api::WaitKind::ConnectTotal,
        Why::Poll(_) => api::WaitKind::Poll,
        Why::Admin(_) => api::WaitKind::Admin,
        Why::LastWords(_) => api::WaitKind::LastWords,
        Why::KeepAlive(_) => api::WaitKind::KeepAlive,
        Why::Probe(_) => api::WaitKind::Probe,
        Why::Slow(_) => api::WaitKind::Slow,
        Why::Reread(_) => api::WaitKind::Reread,
        Why::Event(_) => api::WaitKind::Event,
        Why::Look(_) => api::WaitKind::Look,
        Why::AnaTransition(_) => api::WaitKind::AnaTransition,
        Why::Drain(_) => api::WaitKind::Drain,
        Why::Shutdown(_) => api::WaitKind::Shutdown,
        Why::Disable(_) => api::WaitKind::Disable,
        Why::LaneAnswer(_) => api::WaitKind::LaneAnswer,
        Why::LateGrace(_) => api::WaitKind::LateGrace,
        Why::Fence(_) => api::WaitKind::Fence,
        Why::Hold(_) => api::WaitKind::Hold,
        Why::Grace(_) => api::WaitKind::Grace,
        Why::OldSockets(_) => api::WaitKind::OldSockets,
        Why::Owner(_) => api::WaitKind::Owner,
        Why::Suspects => api::WaitKind::Suspects,
    }
}

fn controller(
    ctrl: &ControllerStatus,
    waits: &BTreeMap<WaitOwner, Vec<(Instant, Why)>>,
    numbers: &BTreeMap<String, u32>,
    told: &Told,
) -> api::ControllerStatus {
    let since = told.since(ctrl.id);
    let owners = ctrl.fencing.iter().chain(&ctrl.life).map(|life| WaitOwner::Life(*life));
    let owners = owners.chain([WaitOwner::Controller(ctrl.id)]);
    let mut mine: Vec<(Instant, Why)> = owners.filter_map(|owner| waits.get(&owner)).flatten().copied().collect();
    mine.sort_unstable();
    api::ControllerStatus {
        name: ctrl.id.to_string(),
        subsystem: names::subsystem(numbers[&ctrl.subnqn]),
        subnqn: ctrl.subnqn.clone(),
        path: api::PathAddress::tcp(&ctrl.spec.traddr, ctrl.spec.trsvcid),
        host_traddr: ctrl.spec.host_traddr.map(|addr| addr.to_string()),
        host_iface: ctrl.spec.host_iface.clone(),
        peer: ctrl.peer.map(|peer| peer.to_string()),
        state: interlock_host::words::state(ctrl.state).as_linux(),
        for_ms: since.as_ref().map_or(0, |since| millis(now().since(since.at))),
        reason: since.map_or_else(String::new, |since| since.why),
        slow: ctrl.slow,
        waits: mine.into_iter().map(|(at, why)| wait(at, why)).collect(),
        fencing: ctrl.fencing.iter().map(ToString::to_string).collect(),
        last_error: ctrl.last_error.clone().filter(|_| ctrl.state != StateName::Live),
        facts: ctrl.facts.as_ref().filter(|_| ctrl.state == StateName::Live).map(|facts| api::ControllerFacts {
            life: ctrl.life.map_or_else(String::new, |life| life.to_string()),
            cntlid: facts.identity.cntlid,
            ciu: facts.identity.ciu,
            cirn: api::Hex64(facts.identity.cirn),
            kato_ms: millis(facts.kato_in_force()),
            cqt_ms: facts.cqt.value().copied().map(millis),
            ccrl: facts.ccrl.unwrap_or(0),
            io_queues: facts.io_queues,
            reactors: facts.lanes,
            sqsize: ctrl.spec.queue_size.saturating_sub(1).min(facts.sqsize_max),
            model: facts.model.value().cloned().unwrap_or_default(),
            serial: facts.serial.value().cloned().unwrap_or_default(),
            firmware: facts.firmware.clone(),
        }),
        settings: settings(&ctrl.spec),
        counters: crate::counting::controller(&ctrl.counters),
    }
}

fn namespace(
    ns: &NamespaceStatus,
    (subsystem, number): (u32, u32),
    flush_error: Option<Outcome>,
) -> api::NamespaceStatus {
    let NamespaceIds { eui64, nguid, uuid, .. } = ns.ids;
    let paths: Vec<api::PathStatus> = ns
        .paths
        .iter()
        .map(|path| api::PathStatus {
            name: names::path(subsystem, path.ctrl, number),
            controller: path.ctrl.to_string(),
            ana_state: ana(path.ana),
            ana_group: Some(path.ana_group).filter(|group| *group != 0),
        })
        .collect();
    api::NamespaceStatus {
        name: names::head(subsystem, number),
        subsystem: names::subsystem(subsystem),
        subnqn: ns.subnqn.clone(),
        nsid: ns.nsid,
        size_bytes: ns.shape.blocks.saturating_mul(ns.shape.block_size.into()),
        block_bytes: ns.shape.block_size,
        read_only: ns.shape.read_only,
        uuid: uuid.map(|id| interlock_host::HostId(id).to_string()),
        nguid: nguid.map(|id| hex(&id)),
        eui64: eui64.map(|id| hex(&id)),
        flush_error: flush_error.map(lost),
        suspects: ns.suspects.iter().map(interlock_host::words::suspect).collect(),
        lost_paths: Vec::new(),
        unreachable: api::Unreachable::of(&paths),
        paths,
    }
}

/// How the flush that failed first did, as a part of a sentence that says that it failed.
pub(crate) fn lost(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(status) => status.to_string(),
        other => other.to_string(),
    }
}

pub(crate) const fn ana(state: AnaState) -> api::AnaState {
    match state {
        AnaState::Optimized => api::AnaState::Optimized,
        AnaState::NonOptimized => api::AnaState::NonOptimized,
        AnaState::Inaccessible => api::AnaState::Inaccessible,
        AnaState::PersistentLoss => api::AnaState::PersistentLoss,
        AnaState::Change => api::AnaState::Change,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tombstones(status: &HostStatus) -> Vec<api::TombstoneStatus> {
    status
        .tombstones
        .iter()
        .map(|stone| api::TombstoneStatus {
            controller: stone.ctrl.to_string(),
            life: stone.life.to_string(),
            subnqn: stone.subnqn.to_string(),
            guarded: stone.guarded.to_string(),
            left_ms: stone.until.map(|until| millis(until.since(now()))),
        })
        .collect()
}

fn totals(status: &HostStatus) -> api::Totals {
    let fences = &status.counters.fences;
    api::Totals {
        reset_count: status.counters.reset_count,
        reconnect_count: status.counters.reconnect_count,
        fence_attempts: fences.attempts,
        fences_not_needed: fences.not_needed,
        fences: fences.by_method.iter().map(|(method, count)| (method.name().to_owned(), *count)).collect(),
        unsafe_failovers: fences.unsafe_failovers,
    }
}
