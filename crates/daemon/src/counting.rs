//! What the host counts, under the names of the devices; and what it would forget.
//!
//! The host counts without end and without looking back. Three things are added here. Baselines: an operator who sets a
//! counter to zero sees it begin anew at once, while what is scraped goes on. Totals of subsystems: they grow by what
//! each controller grew, so that they outlive it. And the times of failovers, which are events and no counters.

use crate::names;
use crate::refusal::Refusal;
use crate::service::Service;
use interlock_api as api;
use interlock_host::{
    AnaState, ControllerStatus, CtrlId, DataCounters, EventKind, HeadId, HostStatus, Latency, NamespaceStatus, words,
};
use interlock_observe::CounterName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is remembered beside the host's own counters.
#[derive(Debug, Default)]
pub(crate) struct Counting(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Where each namespace that was ever seen belongs.
    heads: BTreeMap<HeadId, (String, u32)>,
    /// The ANA state that each path of a controller had last, also while that is away.
    ana: BTreeMap<CtrlId, BTreeMap<HeadId, AnaState>>,
    /// What each controller had counted when it was last looked at.
    last: BTreeMap<CtrlId, api::ControllerCounters>,
    /// By NQN, over controllers.
    totals: BTreeMap<String, api::SubsystemCounters>,
    baselines: BTreeMap<(String, &'static str), u64>,
    fence_durations: BTreeMap<api::Method, Durations>,
    failover_durations: BTreeMap<&'static str, Durations>,
}

/// How long something took, each time.
#[derive(Debug, Default)]
struct Durations {
    sum: Duration,
    times: Latency,
}

impl Durations {
    fn count(&mut self, span: Duration) {
        self.sum += span;
        self.times.count(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }

    fn told(&self) -> api::Durations {
        let sum_us = u64::try_from(self.sum.as_micros()).unwrap_or(u64::MAX);
        api::Durations { sum_us, times: histogram(&self.times) }
    }
}

impl Counting {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers which paths there are, for the time when they are lost.
    pub(crate) fn learn_paths(&self, namespaces: &[NamespaceStatus]) {
        self.inner().learn_paths(namespaces);
    }

    /// The last ANA states of the paths of a namespace through these controllers, which are not live. A controller of which
    /// nothing is remembered is taken to have had every namespace of its subsystem.
    pub(crate) fn lost_paths(
        &self,
        head: HeadId,
        away: impl Iterator<Item = CtrlId>,
    ) -> Vec<(CtrlId, Option<AnaState>)> {
        let inner = self.inner();
        away.filter_map(|ctrl| {
            let known = inner.ana.get(&ctrl);
            let ana = known.and_then(|known| known.get(&head)).copied();
            (ana.is_some() || known.is_none()).then_some((ctrl, ana))
        })
        .collect()
    }

    /// Something happened whose time is worth keeping.
    pub(crate) fn hear(&self, kind: &EventKind) {
        match kind {
            EventKind::Fenced(receipt) => {
                let mut inner = self.inner();
                let fence = receipt.fenced - receipt.detected;
                inner.fence_durations.entry(words::method(receipt.method)).or_default().count(fence);
                inner.failover_durations.entry("fence").or_default().count(fence);
                let release = receipt.released - receipt.fenced;
                inner.failover_durations.entry("release").or_default().count(release);
            }
            // What the application had already waited when the loss was noticed.
            EventKind::Condemned { oldest: Some(oldest), .. } => {
                self.inner().failover_durations.entry("detect").or_default().count(*oldest);
            }
            EventKind::Reconnected { after, .. } => {
                self.inner().failover_durations.entry("reconnect").or_default().count(*after);
            }
            _ => {}
        }
    }
}

impl Service {
    /// Everything that is counted: as operators see it, or as it never goes backwards.
    pub(crate) fn counters(&self, monotonic: bool) -> Result<api::Counters, Refusal> {
        self.counters_of(&self.host.status()?, monotonic)
    }

    /// The same, with what the host has told of the controllers.
    pub(crate) fn counters_of(&self, status: &HostStatus, monotonic: bool) -> Result<api::Counters, Refusal> {
        let data = self.host.data_counters()?;
        let numbers = self.numbers(status);
        let heads = self.head_numbers(&status.namespaces);
        let shown = self.shown(status);
        let mut inner = self.counting.inner();
        inner.learn(status, &heads);
        inner.forget(status, &data);
        if inner.totals.len() > numbers.len() {
            // The record has forgotten these: their number is another's, or nobody's.
            inner.totals.retain(|nqn, _| numbers.contains_key(nqn));
        }
        let mut counters = inner.counters(status, &shown, &data, &numbers);
        counters.since_unix_ms = self.started_unix_ms;
        if !monotonic {
            for ((device, attribute), base) in &inner.baselines {
                if let Some(value) = linux_counter(&mut counters, device, attribute) {
                    *value = value.wrapping_sub(*base);
                }
            }
        }
        Ok(counters)
    }

    /// Sets what a counter shows, or all of a device.
    pub(crate) fn set_counter(&self, request: &api::SetCounter) -> Result<api::Done, Refusal> {
        let mut counters = self.counters(true)?;
        let kind = api::ProblemKind::NotFound;
        let all = CounterName::of_device(&request.device);
        let wanted: Vec<CounterName> = match &request.counter {
            None => all.to_vec(),
            Some(name) => all.iter().copied().filter(|counter| counter.is_called(name)).collect(),
        };
        let mut inner = self.counting.inner();
        let mut done = Vec::new();
        for name in wanted {
            if let Some(value) = linux_counter(&mut counters, &request.device, name.attribute()) {
                let key = (request.device.clone(), name.attribute());
                let old = inner.baselines.insert(key, value.wrapping_sub(request.value)).unwrap_or_default();
                done.push((name, value.wrapping_sub(old)));
            }
        }
        drop(inner);
        if done.is_empty() {
            let what = request.counter.as_ref().map_or_else(|| "counters".into(), |name| format!("counter `{name}`"));
            let has: Vec<&str> = all.iter().map(|name| name.attribute()).collect();
            let refusal = Refusal::new(kind, format!("no device `{}`, or it has no {what}", request.device));
            return Err(refusal.hint(format!("a device of such a name has: {}", has.join(", "))));
        }
        for (name, from) in done {
            let (device, counter, to) = (request.device.clone(), name.attribute().to_owned(), request.value);
            let text = format!("{device}: {counter} set from {from} to {to}");
            self.told.happened(api::Level::Info, None, api::What::CounterReset { device, counter, from, to }, text);
        }
        Ok(api::Done { format_version: api::Version, devices: vec![request.device.clone()] })
    }
}

/// The counter that `diag/` of a device calls so.
fn linux_counter<'a>(counters: &'a mut api::Counters, device: &str, attribute: &str) -> Option<&'a mut u64> {
    if let Some(ctrl) = counters.controllers.get_mut(device) {
        return match attribute {
            "command_error_count" => Some(&mut ctrl.command_error_count),
            "reset_count" => Some(&mut ctrl.reset_count),
            "reconnect_count" => Some(&mut ctrl.reconnect_count),
            _ => None,
        };
    }
    if let Some(path) = counters.paths.get_mut(device) {
        return match attribute {
            "command_retries_count" => Some(&mut path.command_retries_count),
            "command_error_count" => Some(&mut path.command_error_count),
            "multipath_failover_count" => Some(&mut path.multipath_failover_count),
            _ => None,
        };
    }
    let head = counters.heads.get_mut(device)?;
    match attribute {
        "io_requeue_no_usable_path_count" => Some(&mut head.io_requeue_no_usable_path_count),
        "io_fail_no_available_path_count" => Some(&mut head.io_fail_no_available_path_count),
        _ => None,
    }
}

impl Inner {
    /// Remembers what the host may forget.
    fn learn(&mut self, status: &HostStatus, heads: &BTreeMap<HeadId, u32>) {
        for namespace in &status.namespaces {
            if let Some(number) = heads.get(&namespace.head) {
                self.heads.insert(namespace.head, (namespace.subnqn.clone(), *number));
            }
        }
        self.learn_paths(&status.namespaces);
        for ctrl in &status.controllers {
            let now = controller(&ctrl.counters);
            let last = self.last.insert(ctrl.id, now.clone()).unwrap_or_default();
            let total = self.totals.entry(ctrl.subnqn.clone()).or_default();
            total.reset_count += grown(last.reset_count, now.reset_count);
            total.reconnect_count += grown(last.reconnect_count, now.reconnect_count);
            add_growth(&mut total.fences, &last.fences, &now.fences);
        }
    }

    /// Remembers the paths through live controllers, and forgets what these do not have any more.
    fn learn_paths(&mut self, namespaces: &[NamespaceStatus]) {
        let mut now: BTreeMap<CtrlId, BTreeMap<HeadId, AnaState>> = BTreeMap::new();
        for (head, path) in namespaces.iter().flat_map(|ns| ns.paths.iter().map(|path| (ns.head, path))) {
            now.entry(path.ctrl).or_default().insert(head, path.ana);
        }
        self.ana.extend(now);
    }

    /// Namespaces that the host has forgotten never did anything.
    fn forget(&mut self, status: &HostStatus, data: &DataCounters) {
        if self.heads.len() > data.heads.len() {
            let there: BTreeSet<HeadId> = status.namespaces.iter().map(|namespace| namespace.head).collect();
            self.heads.retain(|head, _| there.contains(head) || data.heads.contains_key(head));
            let Self { heads, ana, .. } = self;
            ana.values_mut().for_each(|paths| paths.retain(|head, _| heads.contains_key(head)));
            ana.retain(|_, paths| !paths.is_empty());
        }
    }

    fn counters(
        &self,
        status: &HostStatus,
        shown: &[&ControllerStatus],
        data: &DataCounters,
        numbers: &BTreeMap<String, u32>,
    ) -> api::Counters {
        let named = |head: &HeadId| {
            let (subnqn, number) = self.heads.get(head)?;
            Some((subnqn, *numbers.get(subnqn)?, *number))
        };
        let mut subsystems: BTreeMap<String, api::SubsystemCounters> = BTreeMap::new();
        for (nqn, number) in numbers {
            let total = self.totals.get(nqn).cloned().unwrap_or_default();
            subsystems.insert(names::subsystem(*number), api::SubsystemCounters { nqn: nqn.clone(), ..total });
        }
        let there: BTreeSet<(CtrlId, &str)> = shown.iter().map(|ctrl| (ctrl.id, ctrl.subnqn.as_str())).collect();
        let standing: BTreeSet<HeadId> = status.namespaces.iter().map(|namespace| namespace.head).collect();
        let mut paths = BTreeMap::new();
        for ((head, ctrl), (path, times)) in &data.paths {
            let Some((subnqn, subsystem, number)) = named(head) else { continue };
            if let Some(total) = subsystems.get_mut(&names::subsystem(subsystem)) {
                total.command_retries_count += path.retries;
                total.command_error_count += path.errors;
                total.multipath_failover_count += path.failovers;
            }
            if !there.contains(&(*ctrl, subnqn.as_str())) {
                continue;
            }
            paths.insert(
                names::path(subsystem, *ctrl, number),
                api::PathCounters {
                    namespace: names::head(subsystem, number),
                    controller: ctrl.to_string(),
                    ana_state: self.ana.get(ctrl).and_then(|paths| paths.get(head)).copied().map(crate::view::ana),
                    command_retries_count: path.retries,
                    command_error_count: path.errors,
                    multipath_failover_count: path.failovers,
                    unsafe_failovers: path.unsafe_failovers,
                    io: io(&path.io, times),
                },
            );
        }
        let mut heads = BTreeMap::new();
        for (id, (head, times)) in &data.heads {
            let Some((_, subsystem, number)) = named(id) else { continue };
            if let Some(total) = subsystems.get_mut(&names::subsystem(subsystem)) {
                total.io_requeue_no_usable_path_count += head.requeue_no_usable_path;
                total.io_fail_no_available_path_count += head.fail_no_available_path;
            }
            if standing.contains(id) {
                heads.insert(
                    names::head(subsystem, number),
                    api::HeadCounters {
                        io_requeue_no_usable_path_count: head.requeue_no_usable_path,
                        io_fail_no_available_path_count: head.fail_no_available_path,
                        io: io(&head.io, times),
                    },
                );
            }
        }
        api::Counters {
            format_version: api::Version,
            at_us: data.at.as_nanos() / 1_000,
            since_unix_ms: 0,
            controllers: shown.iter().map(|ctrl| (ctrl.id.to_string(), controller(&ctrl.counters))).collect(),
            paths,
            heads,
            subsystems,
            host: api::HostCounters {
                fences: fences(&status.counters.fences),
                reset_count: status.counters.reset_count,
                reconnect_count: status.counters.reconnect_count,
                held: data.lanes.held,
                released: data.lanes.released,
                failover_delayed: data.lanes.guarded,
                late_completions: data.lanes.late_completions,
                stray_completions: data.lanes.stray_completions,
                abandoned: data.lanes.abandoned,
                fence_durations: self.fence_durations.iter().map(|(how, times)| (*how, times.told())).collect(),
                failover_durations: self
                    .failover_durations
                    .iter()
                    .map(|(stage, times)| ((*stage).to_owned(), times.told()))
                    .collect(),
            },
        }
    }
}

/// What a counter grew by; one that fell began anew.
const fn grown(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}

fn add_growth(total: &mut api::FenceCounters, last: &api::FenceCounters, now: &api::FenceCounters) {
    total.attempts += grown(last.attempts, now.attempts);
    total.not_needed += grown(last.not_needed, now.not_needed);
    for (method, count) in &now.by_method {
        *total.by_method.entry(*method).or_default() +=
            grown(last.by_method.get(method).copied().unwrap_or_default(), *count);
    }
    total.in_doubt += grown(last.in_doubt, now.in_doubt);
    total.in_doubt_max = total.in_doubt_max.max(now.in_doubt_max);
    total.hold_time_total_ms += grown(last.hold_time_total_ms, now.hold_time_total_ms);
    total.late_taken += grown(last.late_taken, now.late_taken);
    total.late_dropped += grown(last.late_dropped, now.late_dropped);
    total.unsafe_failovers += grown(last.unsafe_failovers, now.unsafe_failovers);
    total.tombstones += grown(last.tombstones, now.tombstones);
}

/// Counters of a controller, in the words of the control interface.
pub(crate) fn controller(counters: &interlock_host::ControllerCounters) -> api::ControllerCounters {
    api::ControllerCounters {
        command_error_count: counters.command_error_count,
        reset_count: counters.reset_count,
        reconnect_count: counters.reconnect_count,
        transitions_refused: counters.transitions_refused,
        keep_alive_timeouts: counters.keep_alive_timeouts,
        io_timeouts: counters.io_timeouts,
        aborts: counters.aborts,
        slow_count: counters.slow,
        ccr_sent: counters.ccr_sent,
        ccr_by_status: counters.ccr_by_status.iter().map(|(code, count)| (format!("{code:#05x}"), *count)).collect(),
        fences: fences(&counters.fences),
    }
}

fn fences(counters: &interlock_host::FenceCounters) -> api::FenceCounters {
    api::FenceCounters {
        attempts: counters.attempts,
        not_needed: counters.not_needed,
        by_method: counters.by_method.iter().map(|(method, count)| (words::method(*method), *count)).collect(),
        in_doubt: counters.in_doubt,
        in_doubt_max: counters.in_doubt_max,
        hold_time_total_ms: counters.held_ms,
        late_taken: counters.late_taken,
        late_dropped: counters.late_dropped,
        unsafe_failovers: counters.unsafe_failovers,
        tombstones: counters.tombstones,
    }
}

fn io(io: &interlock_host::IoCounters, times: &interlock_host::Latencies) -> api::IoCounters {
    api::IoCounters {
        reads: io.reads,
        writes: io.writes,
        compares: io.compares,
        flushes: io.flushes,
        read_bytes: io.read_bytes,
        written_bytes: io.written_bytes,
        read_us: io.read_nanos / 1_000,
        write_us: io.write_nanos / 1_000,
        flush_us: io.flush_nanos / 1_000,
        in_flight: io.in_flight.into(),
        busy_us: io.busy_nanos / 1_000,
        read_times: histogram(&times.reads),
        write_times: histogram(&times.writes),
        flush_times: histogram(&times.flushes),
    }
}

fn histogram(times: &Latency) -> api::Histogram {
    let filled = times.buckets().iter().enumerate().filter(|(_, count)| **count > 0);
    api::Histogram(filled.map(|(bucket, count)| (Latency::below_us(bucket), *count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host::LifeId;

    #[test]
    fn what_was_waited_before_a_loss_was_noticed_is_a_stage() {
        let counting = Counting::default();
        let condemned =
            |oldest| EventKind::Condemned { ctrl: CtrlId(0), life: LifeId(1), in_doubt: 1, settled: 0, oldest };
        counting.hear(&condemned(Some(Duration::from_millis(700))));
        counting.hear(&condemned(None));
        let inner = counting.inner();
        let detect = inner.failover_durations["detect"].told();
        assert_eq!(detect.sum_us, 700_000);
        assert_eq!(detect.times.0.iter().map(|(_, count)| count).sum::<u64>(), 1, "nothing in doubt: nobody waited");
    }
}
