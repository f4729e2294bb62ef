//! One look, for scripts: what there is, what it does, as JSON or CSV.

use interlock_observe::{
    Controller, ControllerCounters, HeadCounters, PathCounters, Rates, Snapshot, Source, SourceError,
};
use serde::Serialize;
use std::time::Duration;

/// Version of the JSON. A new field does not change it.
pub const FORMAT_VERSION: u32 = 1;

/// Two samples of a source, and what happened between them.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What was looked at.
    pub source: String,
    /// Time between the two samples, in milliseconds.
    pub interval_ms: u64,
    /// In natural order of their names.
    pub subsystems: Vec<SubsystemReport>,
}

/// A subsystem.
#[derive(Debug, Serialize)]
pub struct SubsystemReport {
    /// `nvme-subsys0`.
    pub name: String,
    /// Its NQN.
    pub nqn: String,
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// How a path is chosen; `null` without multipath.
    pub iopolicy: Option<String>,
    /// Its controllers.
    pub controllers: Vec<Controller>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceReport>,
}

/// A namespace.
#[derive(Debug, Serialize)]
pub struct NamespaceReport {
    /// `nvme0n1`.
    pub name: String,
    /// Namespace ID.
    pub nsid: u32,
    /// Capacity in bytes.
    pub size_bytes: Option<u64>,
    /// Its counters.
    pub counters: HeadCounters,
    /// What it does.
    pub rates: Rates,
    /// Its paths.
    pub paths: Vec<PathReport>,
}

/// A path.
#[derive(Debug, Serialize)]
pub struct PathReport {
    /// `nvme0c1n1`.
    pub name: String,
    /// Name of its controller.
    pub controller: String,
    /// ANA state; `null` if unknown.
    pub ana_state: Option<String>,
    /// Its counters.
    pub counters: PathCounters,
    /// What it does.
    pub rates: Rates,
}

/// Looks twice, `interval` apart.
///
/// # Errors
/// If the source cannot be read.
#[expect(clippy::disallowed_methods, reason = "the interval is what is asked for: rates need two samples")]
pub fn look(source: &mut dyn Source, interval: Duration) -> Result<Report, SourceError> {
    let before = source.sample()?;
    std::thread::sleep(interval);
    let now = source.sample()?;
    Ok(report(source.describe(), &before, &now))
}

/// What happened from `before` to `now`.
#[must_use]
pub fn report(source: String, before: &Snapshot, now: &Snapshot) -> Report {
    let interval = now.at.saturating_sub(before.at);
    let old = |name: &str| {
        let heads = before.subsystems.iter().flat_map(|subsystem| &subsystem.namespaces);
        heads.clone().find(|head| head.name == name).map_or_else(
            || heads.flat_map(|head| &head.paths).find(|path| path.name == name).and_then(|path| path.io),
            |head| head.io,
        )
    };
    let rates = |name: &str, io: Option<interlock_observe::Io>| {
        io.map(|io| Rates::between(old(name).as_ref(), &io, interval)).unwrap_or_default()
    };
    let subsystems = now.subsystems.iter().map(|subsystem| SubsystemReport {
        name: subsystem.name.clone(),
        nqn: subsystem.nqn.clone(),
        model: subsystem.model.clone(),
        serial: subsystem.serial.clone(),
        iopolicy: subsystem.iopolicy.clone(),
        controllers: subsystem.controllers.clone(),
        namespaces: subsystem
            .namespaces
            .iter()
            .map(|head| NamespaceReport {
                name: head.name.clone(),
                nsid: head.nsid,
                size_bytes: head.size_bytes,
                counters: head.counters,
                rates: rates(&head.name, head.io),
                paths: head
                    .paths
                    .iter()
                    .map(|path| PathReport {
                        name: path.name.clone(),
                        controller: path.controller.clone(),
                        ana_state: path.ana_state.clone(),
                        counters: path.counters,
                        rates: rates(&path.name, path.io),
                    })
                    .collect(),
            })
            .collect(),
    });
    Report {
        format_version: FORMAT_VERSION,
        source,
        interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
        subsystems: subsystems.collect(),
    }
}

impl Report {
    /// As indented JSON.
    ///
    /// # Errors
    /// Never, in fact: all keys are strings.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// As comma-separated values, a line for each path, a head line first. An unknown value is empty.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "subsystem,nqn,iopolicy,controller,transport,address,state,resets,reconnects,controller_errors,namespace,\
             nsid,requeued,failed,path,ana_state,failovers,retries,errors,read_iops,write_iops,read_bytes_per_s,\
             write_bytes_per_s,read_latency_ms,write_latency_ms,in_flight,busy_percent\n",
        );
        for subsystem in &self.subsystems {
            for head in &subsystem.namespaces {
                for path in &head.paths {
                    let fields = fields(subsystem, head, path);
                    text.push_str(&fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(","));
                    text.push('\n');
                }
            }
        }
        text
    }
}

fn fields(subsystem: &SubsystemReport, head: &NamespaceReport, path: &PathReport) -> Vec<String> {
    let unknown = Controller::default();
    let controller = subsystem.controllers.iter().find(|one| one.name == path.controller).unwrap_or(&unknown);
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let ControllerCounters { command_error_count, reset_count, reconnect_count } = controller.counters;
    let (read, write) = (path.rates.read, path.rates.write);
    let mut fields = vec![
        subsystem.name.clone(),
        subsystem.nqn.clone(),
        subsystem.iopolicy.clone().unwrap_or_default(),
        controller.name.clone(),
        controller.transport.clone(),
        controller.address.clone(),
        controller.state.clone(),
        number(reset_count),
        number(reconnect_count),
        number(command_error_count),
        head.name.clone(),
        head.nsid.to_string(),
        number(head.counters.io_requeue_no_usable_path_count),
        number(head.counters.io_fail_no_available_path_count),
        path.name.clone(),
        path.ana_state.clone().unwrap_or_default(),
        number(path.counters.multipath_failover_count),
        number(path.counters.command_retries_count),
        number(path.counters.command_error_count),
    ];
    fields.extend(
        [read.iops, write.iops, read.bytes_per_s, write.bytes_per_s, read.latency_ms, write.latency_ms]
            .map(|value| format!("{value:.2}")),
    );
    fields.push(path.rates.in_flight.to_string());
    fields.push(format!("{:.2}", path.rates.busy_percent));
    fields
}

/// A field as RFC 4180 wants it.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
