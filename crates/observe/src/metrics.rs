//! What Prometheus scrapes: OpenMetrics text made of a snapshot, with nothing kept in between.
//!
//! Names and labels of subsystems are those of node_exporter's `node_nvmesubsystem_*` under our prefix, so that dashboards
//! of kernel hosts need no new words. Units are base units, counters end in `_total`, a state is one series per state.
//! A scrape must never see a counter fall: the daemon gives what it counts without anybody's resets, and [`Monotonic`]
//! does what can be done for a source that only shows what was left over.

mod monotonic;
mod page;
mod plain;

pub use monotonic::Monotonic;
pub use plain::{PLAIN_CONTENT_TYPE, plain, wants_openmetrics};

use crate::{Controller, Head, Io, Path, Snapshot, Subsystem, Word};
use interlock_api::{ControllerState, HostCounters, Method};
use page::{Labels, Page};

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// States of a controller, as Linux names them; `unknown` is whatever is none of them, as node_exporter has it.
const STATES: [&str; 7] = ["new", "live", "resetting", "connecting", "deleting", "dead", "unknown"];

/// The state of a controller as one of [`STATES`]. Linux tells apart whether a controller that is being deleted still does
/// I/O; for whoever watches it is being deleted.
fn state(state: &Word<ControllerState>) -> &'static str {
    match state {
        Word::Known(state) => state.as_linux().name(),
        Word::Other(text) if text == "deleting (no IO)" => ControllerState::Deleting.name(),
        Word::Other(_) => "unknown",
    }
}

/// ANA states, as Linux names them.
const ANA_STATES: [&str; 5] = ["optimized", "non-optimized", "inaccessible", "persistent-loss", "change"];

/// Everything that a snapshot says, as OpenMetrics text. What a source does not know is left out.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    subsystems(&mut page, snapshot);
    controllers(&mut page, snapshot);
    paths(&mut page, snapshot);
    namespaces(&mut page, snapshot);
    if let Some(host) = &snapshot.host {
        let labels = [("version", &*host.version), ("hostnqn", &*host.hostnqn), ("hostid", &*host.hostid)];
        page.gauges("host_info", "The host, by its identity", [(Labels::of(labels), Some(1))]);
        let help = "Lives that ended unfenced: what they may still write is guarded";
        page.gauge("tombstones", help, host.tombstones.len() as u64);
        fences(&mut page, &host.counters);
    }
    page.done()
}

/// Devices of a kind, each with the labels that all its series begin with.
struct Labelled<T>(Vec<(Labels, T)>);

impl<T: Copy> Labelled<T> {
    /// What `value` says of each.
    fn each<V>(&self, value: impl Fn(T) -> V) -> impl Iterator<Item = (&Labels, V)> {
        self.0.iter().map(move |(labels, one)| (labels, value(*one)))
    }

    /// What `value` says of each by something more, which is a label of this name.
    fn by<'a, V, I: IntoIterator<Item = (&'a str, V)>>(
        &self,
        name: &'static str,
        values: impl Fn(T) -> I,
    ) -> impl Iterator<Item = (Labels, V)> {
        let values = self.each(values);
        values.flat_map(move |(labels, values)| {
            values.into_iter().map(move |(which, value)| (labels.clone().with(name, which), value))
        })
    }
}

fn subsystems(page: &mut Page, snapshot: &Snapshot) {
    let all = Labelled(snapshot.subsystems.iter().map(|one| (Labels::of([("subsystem", &*one.name)]), one)).collect());
    let info = all.0.iter().map(|(labels, one)| {
        let said = labels.clone().with("nqn", &one.nqn).with("model", &one.model).with("serial", &one.serial);
        (said.with("iopolicy", one.iopolicy.as_deref().unwrap_or("none")), Some(1))
    });
    page.gauges("subsystem_info", "A subsystem, by what it says of itself", info);
    let devices = all.by("device", |one| one.namespaces.iter().map(|head| (&*head.name, Some(1))));
    page.gauges("subsystem_namespace_info", "A namespace of a subsystem", devices);
    let count = |value: fn(&Subsystem) -> usize| all.each(move |one| Some(value(one) as u64));
    page.gauges("subsystem_paths", "Controllers of a subsystem", count(|one| one.controllers.len()));
    page.gauges("subsystem_paths_live", "Controllers that are live", count(Subsystem::live));
    let states = all.0.iter().flat_map(|(labels, one)| {
        one.controllers.iter().map(|ctrl| {
            (labels.clone().with("controller", &ctrl.name).with("transport", &ctrl.transport), state(&ctrl.state))
        })
    });
    page.states("subsystem_path_state", "The state of a controller: 1 for the one it is in", &STATES, states);
    let totals =
        |value: fn(&interlock_api::SubsystemCounters) -> u64| all.each(move |one| Some(value(one.totals.as_deref()?)));
    page.counters(
        "subsystem_resets",
        "Instances of controllers that ended by loss, reset or disconnect, those that are gone included",
        totals(|t| t.reset_count),
    );
    page.counters(
        "subsystem_reconnects",
        "Attempts to reconnect, of controllers that are gone included",
        totals(|t| t.reconnect_count),
    );
    page.counters(
        "subsystem_failovers",
        "Requests that left a path for another, over paths that are gone included",
        totals(|t| t.multipath_failover_count),
    );
}

fn controllers(page: &mut Page, snapshot: &Snapshot) {
    let label = |one: &Subsystem, ctrl: &Controller| Labels::of([("subsystem", &one.name), ("controller", &ctrl.name)]);
    let all = snapshot.subsystems.iter();
    let all = all.flat_map(|one| one.controllers.iter().map(move |ctrl| (label(one, ctrl), ctrl)));
    let all = Labelled(all.collect());
    let ours = |value: fn(&interlock_api::ControllerCounters) -> u64| {
        all.each(move |ctrl| Some(value(&ctrl.recovery.as_ref()?.counted)))
    };
    page.counters(
        "controller_resets",
        "Resets, asked for or by error recovery",
        all.each(|ctrl| ctrl.counters.reset_count),
    );
    page.counters("controller_reconnects", "Attempts to reconnect", all.each(|ctrl| ctrl.counters.reconnect_count));
    page.counters(
        "controller_command_errors",
        "Admin commands that ended with an error",
        all.each(|ctrl| ctrl.counters.command_error_count),
    );
    page.gauges(
        "controller_slow",
        "1 while a controller looks wrong and is avoided",
        all.each(|ctrl| Some(ctrl.recovery.as_ref()?.slow.into())),
    );
    page.gauges(
        "controller_fencing",
        "Earlier lives of a controller that are not fenced yet",
        all.each(|ctrl| Some(ctrl.recovery.as_ref()?.fencing.len() as u64)),
    );
    page.counters("controller_keep_alive_timeouts", "Keep Alives without an answer", ours(|c| c.keep_alive_timeouts));
    page.counters("controller_io_timeouts", "I/O commands without an answer in time", ours(|c| c.io_timeouts));
    page.counters("controller_aborts", "Commands it was asked to abort", ours(|c| c.aborts));
    page.counters("controller_transitions_refused", "State transitions refused", ours(|c| c.transitions_refused));
    let ccr = all.by("status", |ctrl| {
        let counted = ctrl.recovery.iter().flat_map(|ours| &ours.counted.ccr_by_status);
        counted.map(|(status, count)| (&**status, Some(*count)))
    });
    page.counters("controller_ccr", "Cross-Controller Resets completed by a controller, by NVMe status", ccr);
}

fn paths(page: &mut Page, snapshot: &Snapshot) {
    let label = |one: &Subsystem, head: &Head, path: &Path| {
        Labels::of([
            ("subsystem", &one.name),
            ("namespace", &head.name),
            ("controller", &path.controller),
            ("path", &path.name),
        ])
    };
    let all = heads(snapshot).flat_map(|(one, head)| head.paths.iter().map(move |path| (label(one, head, path), path)));
    let all = Labelled(all.collect());
    page.counters(
        "path_failovers",
        "Requests that left a path for another",
        all.each(|path| path.counters.multipath_failover_count),
    );
    page.counters(
        "path_command_retries",
        "Requests sent again on the same path",
        all.each(|path| path.counters.command_retries_count),
    );
    page.counters(
        "path_command_errors",
        "Requests that ended with an error",
        all.each(|path| path.counters.command_error_count),
    );
    page.counters(
        "path_compares",
        "Compares answered over a path, with equal blocks or with different ones",
        all.each(|path| path.io?.compares),
    );
    page.gauges("path_inflight", "Commands under way", all.each(|path| Some(path.io?.in_flight)));
    let states = all.0.iter().filter_map(|(labels, path)| Some((labels, path.ana_state.as_ref()?.as_str())));
    page.states("path_ana_state", "The ANA state of a path: 1 for the one it is in", &ANA_STATES, states);
    let bytes = all.by("op", |path| {
        path.io.into_iter().flat_map(|io| [("read", Some(io.read_bytes)), ("write", Some(io.write_bytes))])
    });
    page.counters_in_bytes("io", "Bytes moved over a path", bytes);
    let times = all.by("op", |path| path.io.into_iter().flat_map(|io| durations(io, path.times.as_deref())));
    page.histograms("io_duration", "How long commands took on a path, from queue to answer", times);
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

fn heads(snapshot: &Snapshot) -> impl Iterator<Item = (&Subsystem, &Head)> {
    snapshot.subsystems.iter().flat_map(|one| one.namespaces.iter().map(move |head| (one, head)))
}

fn namespaces(page: &mut Page, snapshot: &Snapshot) {
    let label = |one: &Subsystem, head: &Head| Labels::of([("subsystem", &one.name), ("namespace", &head.name)]);
    let all = Labelled(heads(snapshot).map(|(one, head)| (label(one, head), head)).collect());
    page.counters(
        "namespace_requeued_ios",
        "Requests put aside because no path was usable",
        all.each(|head| head.counters.io_requeue_no_usable_path_count),
    );
    page.counters(
        "namespace_failed_ios",
        "Requests failed because no path was left",
        all.each(|head| head.counters.io_fail_no_available_path_count),
    );
    page.counters(
        "namespace_compares",
        "Compares answered, with equal blocks or with different ones",
        all.each(|head| head.io?.compares),
    );
    page.gauges_in_bytes("namespace_size", "Capacity of a namespace", all.each(|head| head.size_bytes));
    page.gauges("namespace_inflight", "Requests under way", all.each(|head| Some(head.io?.in_flight)));
    let times = all.by("op", |head| head.io.into_iter().flat_map(|io| durations(io, head.times.as_deref())));
    page.histograms("namespace_io_duration", "How long requests took, with every wait and every failover", times);
}

fn fences(page: &mut Page, host: &HostCounters) {
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
            let labels = Labels::of([("method", method.name()), ("result", result(*method))]);
            (labels, Some(fences.by_method.get(method).copied().unwrap_or_default()))
        }),
    );
    for (name, help, value) in [
        ("fence_attempts", "Lives condemned", fences.attempts),
        ("fences_not_needed", "Lives without a command in doubt", fences.not_needed),
        ("commands_in_doubt", "Commands that were in doubt when their life was condemned", fences.in_doubt),
        ("unsafe_failovers", "Commands retried without a fence: should stay 0", fences.unsafe_failovers),
        ("requests_held", "Requests held because they were in doubt", host.held),
        ("requests_delayed", "Requests that waited because they overlap one in doubt", host.failover_delayed),
        ("late_completions", "Answers that came after their life was condemned", host.late_completions),
    ] {
        page.counter(name, help, value);
    }
    page.seconds("hold", "Time for which commands were held", fences.hold_time_total_ms);
    fn spread(all: &interlock_api::Durations) -> page::Durations<'_> {
        page::Durations { count: all.times.count(), sum_us: all.sum_us, spread: Some(&all.times) }
    }
    page.histograms(
        "fence_duration",
        "From the detection of a loss to the proof",
        host.fence_durations.iter().map(|(method, all)| (Labels::of([("method", method.name())]), spread(all))),
    );
    page.histograms(
        "failover_duration",
        "Stages of failovers: detect from the oldest command in doubt to the loss, fence from there to the proof, release from the proof until commands continued, reconnect from loss",
        host.failover_durations.iter().map(|(stage, all)| (Labels::of([("stage", stage)]), spread(all))),
    );
}

#[cfg(test)]
mod tests;
