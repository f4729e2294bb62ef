//! What Prometheus scrapes: OpenMetrics text made of a snapshot, with nothing kept in between.
//!
//! Names and labels of subsystems are those of node_exporter's `node_nvmesubsystem_*` under our prefix, so that dashboards
//! of kernel hosts need no new words. Units are base units, counters end in `_total`, a state is one series per state.
//! A scrape must never see a counter fall: the daemon gives what it counts without anybody's resets, and [`Monotonic`]
//! does what can be done for a source that only shows what was left over.

mod monotonic;
mod page;

pub use monotonic::Monotonic;

use crate::{Controller, Head, Io, Path, Snapshot, Subsystem};
use interlock_api::{HostCounters, Method};
use page::{Labels, Page};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// States of a controller, as Linux names them.
const STATES: [&str; 7] = ["new", "live", "resetting", "connecting", "deleting", "deleting (no IO)", "dead"];
/// ANA states, as Linux names them.
const ANA_STATES: [&str; 5] = ["optimized", "non-optimized", "inaccessible", "persistent-loss", "change"];

/// Everything that a snapshot says, as OpenMetrics text. What a source does not know is left out.
///
/// # Errors
/// Never, in fact: a string takes everything.
pub fn text(snapshot: Arc<Snapshot>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("interlock");
    registry.register_collector(Box::new(All(snapshot)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct All(Arc<Snapshot>);

impl Collector for All {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page(encoder);
        subsystems(page, &self.0)?;
        controllers(page, &self.0)?;
        paths(page, &self.0)?;
        namespaces(page, &self.0)?;
        match &self.0.host {
            Some(host) => {
                page.gauges(
                    "host_info",
                    "The host, by its identity",
                    [(vec![("version", &*host.version), ("hostnqn", &host.hostnqn), ("hostid", &host.hostid)], 1)],
                )?;
                let help = "Lives that ended unfenced: what they may still write is guarded";
                page.gauge("tombstones", help, host.tombstones.len() as u64)?;
                fences(page, &host.counters)
            }
            None => Ok(()),
        }
    }
}

fn subsystems(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    let all = || snapshot.subsystems.iter();
    page.gauges(
        "subsystem_info",
        "A subsystem, by what it says of itself",
        all().map(|one| {
            let policy = one.iopolicy.as_deref().unwrap_or("none");
            let labels = vec![
                ("subsystem", &*one.name),
                ("nqn", &one.nqn),
                ("model", &one.model),
                ("serial", &one.serial),
                ("iopolicy", policy),
            ];
            (labels, 1)
        }),
    )?;
    let devices = all().flat_map(|one| one.namespaces.iter().map(move |head| (one, head)));
    page.gauges(
        "subsystem_namespace_info",
        "A namespace of a subsystem",
        devices.map(|(one, head)| (vec![("subsystem", &*one.name), ("device", &head.name)], 1)),
    )?;
    let named = |one: &'_ Subsystem, count: usize| (vec![("subsystem", one.name.clone())], count as u64);
    page.gauges("subsystem_paths", "Controllers of a subsystem", all().map(|one| named(one, one.controllers.len())))?;
    page.gauges("subsystem_paths_live", "Controllers that are live", all().map(|one| named(one, one.live())))?;
    let states = all().flat_map(|one| one.controllers.iter().map(move |ctrl| (one, ctrl))).flat_map(|(one, ctrl)| {
        STATES.iter().map(move |state| {
            let labels = vec![
                ("subsystem", &*one.name),
                ("controller", &ctrl.name),
                ("transport", &ctrl.transport),
                ("state", state),
            ];
            (labels, u64::from(ctrl.state == *state))
        })
    });
    page.gauges("subsystem_path_state", "The state of a controller: 1 for the one it is in", states)?;
    let totals = |value: fn(&interlock_api::SubsystemCounters) -> u64| {
        all().filter_map(move |one| Some((vec![("subsystem", &*one.name)], value(one.totals.as_deref()?))))
    };
    page.counters(
        "subsystem_resets",
        "Resets of controllers, those that are gone included",
        totals(|t| t.reset_count),
    )?;
    page.counters(
        "subsystem_reconnects",
        "Attempts to reconnect, of controllers that are gone included",
        totals(|t| t.reconnect_count),
    )?;
    page.counters(
        "subsystem_failovers",
        "Requests that left a path for another, over paths that are gone included",
        totals(|t| t.multipath_failover_count),
    )
}

fn controllers(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    fn each<'a>(
        snapshot: &'a Snapshot,
        value: impl Fn(&'a Controller) -> Option<u64> + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        let all = snapshot.subsystems.iter().flat_map(|one| one.controllers.iter().map(move |ctrl| (one, ctrl)));
        all.filter_map(move |(one, ctrl)| {
            Some((vec![("subsystem", &*one.name), ("controller", &*ctrl.name)], value(ctrl)?))
        })
    }
    let ours = |value: fn(&interlock_api::ControllerCounters) -> u64| {
        each(snapshot, move |ctrl| Some(value(&ctrl.recovery.as_ref()?.counted)))
    };
    page.counters(
        "controller_resets",
        "Resets, asked for or by error recovery",
        each(snapshot, |ctrl| ctrl.counters.reset_count),
    )?;
    page.counters(
        "controller_reconnects",
        "Attempts to reconnect",
        each(snapshot, |ctrl| ctrl.counters.reconnect_count),
    )?;
    page.counters(
        "controller_command_errors",
        "Admin commands that ended with an error",
        each(snapshot, |ctrl| ctrl.counters.command_error_count),
    )?;
    page.gauges(
        "controller_slow",
        "1 while a controller looks wrong and is avoided",
        each(snapshot, |ctrl| Some(ctrl.recovery.as_ref()?.slow.into())),
    )?;
    page.gauges(
        "controller_fencing",
        "Earlier lives of a controller that are not fenced yet",
        each(snapshot, |ctrl| Some(ctrl.recovery.as_ref()?.fencing.len() as u64)),
    )?;
    page.counters("controller_keep_alive_timeouts", "Keep Alives without an answer", ours(|c| c.keep_alive_timeouts))?;
    page.counters("controller_io_timeouts", "I/O commands without an answer in time", ours(|c| c.io_timeouts))?;
    page.counters("controller_aborts", "Commands it was asked to abort", ours(|c| c.aborts))?;
    page.counters("controller_transitions_refused", "State transitions refused", ours(|c| c.transitions_refused))?;
    let ccr = snapshot.subsystems.iter().flat_map(|one| one.controllers.iter().map(move |ctrl| (one, ctrl)));
    let ccr = ccr.filter_map(|(one, ctrl)| Some((one, ctrl, ctrl.recovery.as_ref()?))).flat_map(|(one, ctrl, ours)| {
        ours.counted.ccr_by_status.iter().map(move |(status, count)| {
            (vec![("subsystem", &*one.name), ("controller", &*ctrl.name), ("status", &**status)], *count)
        })
    });
    page.counters("controller_ccr", "Cross-Controller Resets completed by a controller, by NVMe status", ccr)
}

/// The labels of a path.
fn path_labels<'a>(one: &'a Subsystem, head: &'a Head, path: &'a Path) -> Labels<'a> {
    vec![("subsystem", &one.name), ("namespace", &head.name), ("controller", &path.controller), ("path", &path.name)]
}

fn each_path(snapshot: &Snapshot) -> impl Iterator<Item = (&Subsystem, &Head, &Path)> {
    snapshot
        .subsystems
        .iter()
        .flat_map(|one| one.namespaces.iter().map(move |head| (one, head)))
        .flat_map(|(one, head)| head.paths.iter().map(move |path| (one, head, path)))
}

fn paths(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    fn each<'a>(
        snapshot: &'a Snapshot,
        value: impl Fn(&'a Path) -> Option<u64> + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        each_path(snapshot).filter_map(move |(one, head, path)| Some((path_labels(one, head, path), value(path)?)))
    }
    page.counters(
        "path_failovers",
        "Requests that left a path for another",
        each(snapshot, |path| path.counters.multipath_failover_count),
    )?;
    page.counters(
        "path_command_retries",
        "Requests sent again on the same path",
        each(snapshot, |path| path.counters.command_retries_count),
    )?;
    page.counters(
        "path_command_errors",
        "Requests that ended with an error",
        each(snapshot, |path| path.counters.command_error_count),
    )?;
    page.gauges("path_inflight", "Commands under way", each(snapshot, |path| Some(path.io?.in_flight)))?;
    let states = each_path(snapshot).filter(|(_, _, path)| path.ana_state.is_some()).flat_map(|(one, head, path)| {
        ANA_STATES.iter().map(move |state| {
            let mut labels = path_labels(one, head, path);
            labels.push(("state", state));
            (labels, u64::from(path.ana_state.as_deref() == Some(*state)))
        })
    });
    page.gauges("path_ana_state", "The ANA state of a path: 1 for the one it is in", states)?;
    let ops =
        || each_path(snapshot).filter_map(|(one, head, path)| Some((path_labels(one, head, path), path.io?, path)));
    let bytes = ops().flat_map(|(labels, io, _)| {
        [("read", io.read_bytes), ("write", io.write_bytes)].map(|(op, bytes)| (with_op(&labels, op), bytes))
    });
    page.counters_in("io", "bytes", "Bytes moved over a path", bytes)?;
    let times = ops().flat_map(|(labels, io, path)| {
        durations(io, path.times.as_deref()).map(move |(op, time)| (with_op(&labels, op), time))
    });
    page.histograms("io_duration", "How long commands took on a path, from queue to answer", times)
}

fn with_op<'a>(labels: &Labels<'a>, op: &'static str) -> Labels<'a> {
    let mut labels = labels.clone();
    labels.push(("op", op));
    labels
}

/// By operation: how many, how long altogether, and how the times spread where that is known.
fn durations(io: Io, times: Option<&crate::Times>) -> impl Iterator<Item = (&'static str, page::Durations<'_>)> {
    let of = |count, sum_us, spread| page::Durations { count, sum_us, spread };
    let ops = [
        ("read", of(io.reads, io.read_us, times.map(|times| &times.read))),
        ("write", of(io.writes, io.write_us, times.map(|times| &times.write))),
        ("flush", of(io.flushes, io.flush_us, times.map(|times| &times.flush))),
    ];
    // Most paths never see a flush: its series begins with the first.
    ops.into_iter().filter(|(op, time)| *op != "flush" || time.count > 0)
}

fn namespaces(page: &mut Page<'_>, snapshot: &Snapshot) -> fmt::Result {
    fn each<'a>(
        snapshot: &'a Snapshot,
        value: impl Fn(&'a Head) -> Option<u64> + 'a,
    ) -> impl Iterator<Item = (Labels<'a>, u64)> + 'a {
        let all = snapshot.subsystems.iter().flat_map(|one| one.namespaces.iter().map(move |head| (one, head)));
        all.filter_map(move |(one, head)| {
            Some((vec![("subsystem", &*one.name), ("namespace", &*head.name)], value(head)?))
        })
    }
    page.counters(
        "namespace_requeued_ios",
        "Requests put aside because no path was usable",
        each(snapshot, |head| head.counters.io_requeue_no_usable_path_count),
    )?;
    page.counters(
        "namespace_failed_ios",
        "Requests failed because no path was left",
        each(snapshot, |head| head.counters.io_fail_no_available_path_count),
    )?;
    page.gauges_in("namespace_size", "bytes", "Capacity of a namespace", each(snapshot, |head| head.size_bytes))?;
    page.gauges("namespace_inflight", "Requests under way", each(snapshot, |head| Some(head.io?.in_flight)))?;
    let all = snapshot.subsystems.iter().flat_map(|one| one.namespaces.iter().map(move |head| (one, head)));
    let times = all.filter_map(|(one, head)| Some((one, head, head.io?))).flat_map(|(one, head, io)| {
        let labels = vec![("subsystem", &*one.name), ("namespace", &*head.name)];
        durations(io, head.times.as_deref()).map(move |(op, time)| (with_op(&labels, op), time))
    });
    page.histograms("namespace_io_duration", "How long requests took, with every wait and every failover", times)
}

fn fences(page: &mut Page<'_>, host: &HostCounters) -> fmt::Result {
    let fences = &host.fences;
    let result = |method: Method| match method {
        Method::Assumed => "assumed",
        Method::Legacy | Method::AcceptedRisk => "unsafe",
        _ => "proven",
    };
    // All of them from the start: an alert on the first unsafe one needs its zero before.
    page.counters(
        "fences",
        "Ends of lost lives, by method and by what that is worth",
        Method::ALL.iter().map(|method| {
            let labels = vec![("method", method.name()), ("result", result(*method))];
            (labels, fences.by_method.get(method).copied().unwrap_or_default())
        }),
    )?;
    for (name, help, value) in [
        ("fence_attempts", "Lives condemned", fences.attempts),
        ("fences_not_needed", "Lives without a command in doubt", fences.not_needed),
        ("commands_in_doubt", "Commands that were in doubt when their life was condemned", fences.in_doubt),
        ("unsafe_failovers", "Commands retried without a fence: should stay 0", fences.unsafe_failovers),
        ("requests_held", "Requests held because they were in doubt", host.held),
        ("requests_delayed", "Requests that waited because they overlap one in doubt", host.failover_delayed),
        ("late_completions", "Answers that came after their life was condemned", host.late_completions),
    ] {
        page.counter(name, help, value)?;
    }
    page.seconds("hold", "Time for which commands were held", fences.hold_time_total_ms)?;
    fn spread(all: &interlock_api::Durations) -> page::Durations<'_> {
        page::Durations { count: all.times.count(), sum_us: all.sum_us, spread: Some(&all.times) }
    }
    page.histograms(
        "fence_duration",
        "From the detection of a loss to the proof",
        host.fence_durations.iter().map(|(method, all)| (vec![("method", method.name())], spread(all))),
    )?;
    page.histograms(
        "failover_duration",
        "Stages of failovers: detect from the oldest command in doubt to the loss, fence from there to the proof, release from the proof until commands went on, reconnect from loss",
        host.failover_durations.iter().map(|(stage, all)| (vec![("stage", &**stage)], spread(all))),
    )
}

#[cfg(test)]
mod tests;
