//! One look, for scripts: what there is, what it does, as JSON or CSV.

use interlock_api::SubsystemCounters;
use interlock_observe::health::{self, Finding};
use interlock_observe::{
    Controller, ControllerCounters, HeadCounters, Io, Latency, PathCounters, Percentiles, Rates, Snapshot, Source,
    SourceError, Times,
};
use serde::Serialize;
use std::collections::BTreeMap;
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
    /// Sums over everything that it has or had; `null` where nobody keeps them.
    pub totals: Option<SubsystemCounters>,
    /// What is not well, worst first.
    pub findings: Vec<Finding>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceReport>,
}

/// A namespace.
#[derive(Debug, Serialize)]
pub struct NamespaceReport {
    /// `nvme0n1`.
    pub name: String,
    /// Namespace ID.
    pub nsid: Option<u32>,
    /// Capacity in bytes.
    pub size_bytes: Option<u64>,
    /// Its counters.
    pub counters: HeadCounters,
    /// What it does.
    pub rates: Rates,
    /// How long it takes; `null` where nothing ended, or only sums are known.
    pub latency: Latency,
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
    /// How long it takes; `null` where nothing ended, or only sums are known.
    pub latency: Latency,
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
    let mut old: BTreeMap<&str, (Option<Io>, Option<&Times>)> = BTreeMap::new();
    for head in before.subsystems.iter().flat_map(|subsystem| &subsystem.namespaces) {
        old.extend(head.paths.iter().map(|path| (path.name.as_str(), (path.io, path.times.as_deref()))));
        old.insert(&head.name, (head.io, head.times.as_deref()));
    }
    let rates = |name: &str, io: Option<Io>| {
        let old = old.get(name).and_then(|(io, _)| io.as_ref());
        io.map(|io| Rates::between(old, &io, interval)).unwrap_or_default()
    };
    let latency = |name: &str, times: Option<&Times>| {
        let old = old.get(name).and_then(|(_, times)| *times);
        times.zip(old).map(|(now, old)| Latency::of(&now.since(old))).unwrap_or_default()
    };
    let subsystems = now.subsystems.iter().map(|subsystem| SubsystemReport {
        name: subsystem.name.clone(),
        nqn: subsystem.nqn.clone(),
        model: subsystem.model.clone(),
        serial: subsystem.serial.clone(),
        iopolicy: subsystem.iopolicy.clone(),
        controllers: subsystem.controllers.clone(),
        totals: subsystem.totals.as_deref().cloned(),
        findings: health::of(subsystem, now.host.as_deref()),
        namespaces: subsystem
            .namespaces
            .iter()
            .map(|head| NamespaceReport {
                name: head.name.clone(),
                nsid: head.nsid,
                size_bytes: head.size_bytes,
                counters: head.counters,
                rates: rates(&head.name, head.io),
                latency: latency(&head.name, head.times.as_deref()),
                paths: head
                    .paths
                    .iter()
                    .map(|path| PathReport {
                        name: path.name.clone(),
                        controller: path.controller.clone(),
                        ana_state: path.ana_state.as_ref().map(ToString::to_string),
                        counters: path.counters,
                        rates: rates(&path.name, path.io),
                        latency: latency(&path.name, path.times.as_deref()),
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
             write_bytes_per_s,read_latency_ms,write_latency_ms,in_flight,busy_percent,p50_ms,p99_ms\n",
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
        controller.state.to_string(),
        number(reset_count),
        number(reconnect_count),
        number(command_error_count),
        head.name.clone(),
        number(head.nsid.map(u64::from)),
        number(head.counters.io_requeue_no_usable_path_count),
        number(head.counters.io_fail_no_available_path_count),
        path.name.clone(),
        path.ana_state.as_ref().map(ToString::to_string).unwrap_or_default(),
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
    let part =
        |value: fn(Percentiles) -> f64| path.latency.all.map(|all| format!("{:.3}", value(all))).unwrap_or_default();
    fields.extend([part(|all| all.p50_ms), part(|all| all.p99_ms)]);
    fields
}

/// A field as RFC 4180 wants it. A name is what a peer says: its control characters reach no terminal.
fn quoted(field: &str) -> String {
    let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let field: String = field.chars().map(plain).collect();
    if field.contains(['"', ',']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_field_is_one_field_and_sends_nothing_to_a_terminal() {
        for (field, csv) in [
            ("nvme0", "nvme0"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("a\nb\r", "a\\nb\\r"),
            ("\u{1b}[31mred\t\u{9b}", "\\u{1b}[31mred\\t\\u{9b}"),
            ("\u{fffd}", "\u{fffd}"),
        ] {
            assert_eq!(quoted(field), csv);
        }
    }
}
