//! Our own controllers, as the daemon tells of them.
//!
//! [`snapshot`] is the one translation from what the control interface says to the model: a monitor uses it on the other
//! side of the socket, and the daemon itself for its file tree and its metrics. So they cannot differ.

mod listen;

use crate::changes::Weight;
use crate::natural::natural_order;
use crate::{
    Controller, ControllerCounters, Counter, Happened, Head, HeadCounters, HostFacts, Io, Path, PathCounters, Recovery,
    Snapshot, Source, SourceError, Subsystem, Times,
};
use interlock_api::{
    Client, ControllerStatus, Counters, Done, IoCounters, IoPolicy, Level, NamespaceStatus, PathStatus, SetCounter,
    Status, SubsystemStatus,
};
use listen::Listener;
use std::collections::HashMap;
use std::path;
use std::time::Duration;

/// An answer of the daemon is a matter of milliseconds.
const WITHIN: Duration = Duration::from_secs(10);

/// The daemon behind a control socket.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
    listener: Listener,
}

impl Daemon {
    /// The daemon that listens on `socket`. Nothing is asked yet.
    #[must_use]
    pub fn at(socket: &path::Path) -> Self {
        let client = Client::new(socket, WITHIN);
        Self { listener: Listener::of(client.clone()), client }
    }
}

impl Source for Daemon {
    fn describe(&self) -> String {
        let socket = self.client.socket();
        if socket == path::Path::new(interlock_api::DEFAULT_SOCKET) {
            "the daemon's controllers".to_owned()
        } else {
            format!("the controllers of {}", socket.display())
        }
    }

    fn sample(&mut self) -> Result<Snapshot, SourceError> {
        let status: Status = self.client.get("/v1/status")?;
        let counters: Counters = self.client.get("/v1/counters")?;
        Ok(snapshot(&status, &counters))
    }

    fn scrape(&mut self) -> Result<Snapshot, SourceError> {
        let status: Status = self.client.get("/v1/status")?;
        let counters: Counters = self.client.get("/v1/counters?monotonic=true")?;
        Ok(snapshot(&status, &counters))
    }

    fn happened(&mut self) -> Option<Vec<Happened>> {
        Some(self.listener.take())
    }

    fn reset(&mut self, counter: &Counter) -> Result<(), SourceError> {
        let request =
            SetCounter { device: counter.device.clone(), counter: Some(counter.name.attribute().to_owned()), value: 0 };
        let _: Done = self.client.send("PATCH", "/v1/counters", &request)?;
        Ok(())
    }
}

/// How much an event of the daemon matters.
const fn weight(level: Level) -> Weight {
    match level {
        Level::Info => Weight::Info,
        Level::Warn => Weight::Warning,
        Level::Error => Weight::Critical,
    }
}

/// What the daemon says, as the model has it. The two need not be of exactly the same moment.
#[must_use]
pub fn snapshot(status: &Status, counters: &Counters) -> Snapshot {
    let told = Told::of(status, counters);
    let mut subsystems: Vec<Subsystem> = status.subsystems.iter().map(|one| subsystem(one, &told)).collect();
    subsystems.sort_by(|a, b| natural_order(&a.name, &b.name));
    Snapshot {
        at: Duration::from_micros(counters.at_us),
        subsystems,
        host: Some(Box::new(HostFacts {
            version: status.version.clone(),
            pid: status.pid,
            since_unix_ms: counters.since_unix_ms,
            hostnqn: status.hostnqn.clone(),
            hostid: status.hostid.clone(),
            counters: counters.host.clone(),
            tombstones: status.tombstones.clone(),
        })),
    }
}

/// What was told, by what it belongs to: a thousand controllers are not looked through a thousand times.
struct Told<'a> {
    status: &'a Status,
    counters: &'a Counters,
    /// By subsystem.
    controllers: HashMap<&'a str, Vec<&'a ControllerStatus>>,
    /// By subsystem.
    namespaces: HashMap<&'a str, Vec<&'a NamespaceStatus>>,
    /// By namespace, with their names.
    paths: HashMap<&'a str, Vec<(&'a str, &'a interlock_api::PathCounters)>>,
}

impl<'a> Told<'a> {
    fn of(status: &'a Status, counters: &'a Counters) -> Self {
        let mut told =
            Self { status, counters, controllers: HashMap::new(), namespaces: HashMap::new(), paths: HashMap::new() };
        for ctrl in &status.controllers {
            told.controllers.entry(&ctrl.subsystem).or_default().push(ctrl);
        }
        for namespace in &status.namespaces {
            told.namespaces.entry(&namespace.subsystem).or_default().push(namespace);
        }
        for (name, path) in &counters.paths {
            told.paths.entry(&path.namespace).or_default().push((name, path));
        }
        told
    }
}

fn subsystem(one: &SubsystemStatus, told: &Told<'_>) -> Subsystem {
    let Told { status, counters, .. } = told;
    let of = |ctrl: &&ControllerStatus| controller(ctrl, status, counters);
    let mut controllers: Vec<Controller> =
        told.controllers.get(one.name.as_str()).into_iter().flatten().map(of).collect();
    controllers.sort_by(|a, b| natural_order(&a.name, &b.name));
    let of = |namespace: &&NamespaceStatus| head(namespace, told);
    let mut namespaces: Vec<Head> = told.namespaces.get(one.name.as_str()).into_iter().flatten().map(of).collect();
    namespaces.sort_by(|a, b| natural_order(&a.name, &b.name));
    Subsystem {
        name: one.name.clone(),
        nqn: one.nqn.clone(),
        model: one.model.clone(),
        serial: one.serial.clone(),
        firmware: one.firmware.clone(),
        kind: "nvm".to_owned(),
        iopolicy: Some(policy(one.iopolicy).to_owned()),
        totals: counters.subsystems.get(&one.name).cloned().map(Box::new),
        controllers,
        namespaces,
    }
}

const fn policy(policy: IoPolicy) -> &'static str {
    match policy {
        IoPolicy::Numa => "numa",
        IoPolicy::RoundRobin => "round-robin",
        IoPolicy::QueueDepth => "queue-depth",
    }
}

fn controller(ctrl: &ControllerStatus, status: &Status, counters: &Counters) -> Controller {
    let counted = counters.controllers.get(&ctrl.name).unwrap_or(&ctrl.counters);
    let facts = ctrl.facts.as_ref();
    let limit = |seconds: i64| u32::try_from(seconds).ok();
    let mut address = format!("traddr={},trsvcid={}", ctrl.path.traddr, ctrl.path.trsvcid);
    if let Some(host) = &ctrl.host_traddr {
        address.push_str(&format!(",host_traddr={host}"));
    }
    if let Some(iface) = &ctrl.host_iface {
        address.push_str(&format!(",host_iface={iface}"));
    }
    Controller {
        name: ctrl.name.clone(),
        transport: ctrl.path.transport.clone(),
        address,
        state: ctrl.state.into(),
        cntlid: facts.map(|facts| facts.cntlid),
        hostnqn: Some(status.hostnqn.clone()),
        hostid: Some(status.hostid.clone()),
        kato_s: facts.and_then(|facts| u32::try_from(facts.kato_ms.div_ceil(1000)).ok()),
        reconnect_delay_s: u32::try_from(ctrl.settings.reconnect_delay_s).ok(),
        ctrl_loss_tmo_s: limit(ctrl.settings.ctrl_loss_tmo_s),
        fast_io_fail_tmo_s: limit(ctrl.settings.fast_io_fail_tmo_s),
        queues: facts.map(|facts| u32::from(facts.io_queues) + 1),
        sqsize: facts.map(|facts| facts.sqsize),
        numa_node: None,
        counters: ControllerCounters {
            command_error_count: Some(counted.command_error_count),
            reset_count: Some(counted.reset_count),
            reconnect_count: Some(counted.reconnect_count),
        },
        recovery: Some(Box::new(Recovery {
            life: facts.map(|facts| facts.life.clone()),
            ciu: facts.map(|facts| facts.ciu),
            cirn: facts.map(|facts| facts.cirn),
            cqt_ms: facts.and_then(|facts| facts.cqt_ms),
            ccrl: facts.map(|facts| facts.ccrl),
            for_ms: ctrl.for_ms,
            reason: ctrl.reason.clone(),
            last_error: ctrl.last_error.clone(),
            slow: ctrl.slow,
            waits: ctrl.waits.clone(),
            fencing: ctrl.fencing.clone(),
            counted: counted.clone(),
        })),
    }
}

fn head(namespace: &NamespaceStatus, told: &Told<'_>) -> Head {
    let counters = told.counters;
    let counted = counters.heads.get(&namespace.name);
    let current: HashMap<&str, &PathStatus> = namespace.paths.iter().map(|path| (path.name.as_str(), path)).collect();
    // A path whose controller is away has no entry in the status, but it is still a path that counts.
    let mut paths: Vec<Path> = told
        .paths
        .get(namespace.name.as_str())
        .into_iter()
        .flatten()
        .map(|(name, path)| {
            let now = current.get(name);
            Path {
                name: (*name).to_owned(),
                controller: path.controller.clone(),
                ana_state: now.map(|now| now.ana_state).or(path.ana_state).map(Into::into),
                ana_group: now.and_then(|now| now.ana_group),
                queue_depth: u32::try_from(path.io.in_flight).ok(),
                numa_nodes: None,
                io: Some(io(&path.io)),
                times: Some(Box::new(times(&path.io))),
                counters: PathCounters {
                    command_retries_count: Some(path.command_retries_count),
                    command_error_count: Some(path.command_error_count),
                    multipath_failover_count: Some(path.multipath_failover_count),
                },
            }
        })
        .collect();
    for path in namespace.paths.iter().filter(|path| !counters.paths.contains_key(&path.name)) {
        // It is younger than the counters.
        paths.push(Path {
            name: path.name.clone(),
            controller: path.controller.clone(),
            ana_state: Some(path.ana_state.into()),
            ana_group: path.ana_group,
            ..Path::default()
        });
    }
    paths.sort_by(|a, b| natural_order(&a.name, &b.name));
    Head {
        name: namespace.name.clone(),
        nsid: Some(namespace.nsid),
        size_bytes: Some(namespace.size_bytes),
        block_bytes: Some(namespace.block_bytes),
        read_only: Some(namespace.read_only),
        uuid: namespace.uuid.clone(),
        nguid: namespace.nguid.clone(),
        eui64: namespace.eui64.clone(),
        io: counted.map(|head| io(&head.io)),
        times: counted.map(|head| Box::new(times(&head.io))),
        counters: HeadCounters {
            io_requeue_no_usable_path_count: counted.map(|head| head.io_requeue_no_usable_path_count),
            io_fail_no_available_path_count: counted.map(|head| head.io_fail_no_available_path_count),
        },
        flush_error: namespace.flush_error.clone(),
        suspects: namespace.suspects.clone(),
        paths,
    }
}

const fn io(io: &IoCounters) -> Io {
    Io {
        reads: io.reads,
        read_bytes: io.read_bytes,
        read_us: io.read_us,
        writes: io.writes,
        write_bytes: io.written_bytes,
        write_us: io.write_us,
        compares: Some(io.compares),
        flushes: io.flushes,
        flush_us: io.flush_us,
        in_flight: io.in_flight,
        busy_us: io.busy_us,
    }
}

fn times(io: &IoCounters) -> Times {
    Times { read: io.read_times.clone(), write: io.write_times.clone(), flush: io.flush_times.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_are_neither_reads_nor_writes() {
        let told = io(&IoCounters { reads: 1, writes: 2, compares: 3, ..IoCounters::default() });
        assert_eq!((told.reads, told.writes, told.compares), (1, 2, Some(3)));
    }
}
