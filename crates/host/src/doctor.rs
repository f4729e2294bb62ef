//! What a failover through a subsystem would look like, before it happens.
//!
//! Timers multiply silently: nobody can tell from the settings alone how long an outage will stall I/O, or whether the
//! data survives it. [`examine`] is a pure function from what a target said of itself and the settings of this host to a
//! report: facts, worst cases by the stall function that also checks real failovers, and what to change.

mod findings;
mod stalls;

#[cfg(test)]
mod tests;

use interlock_api as api;
use interlock_host_core::ControllerSpec;
use interlock_host_core::probe::{Found, ProbeReport, SubsystemFound};
use interlock_wire::ana;
use interlock_wire::fabrics::Version;

/// What is known of the ways to a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ways {
    /// A discovery log names these: address, TCP port, port ID.
    Known(Vec<(String, u16, u16)>),
    /// No discovery log could be read, for this reason.
    NotKnown(String),
}

/// Whether Flush takes the broadcast NSID. Base Specification, "Volatile Write Cache" (VWC bits 2:1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushNsid {
    /// Not said.
    NotSpecified,
    /// One namespace at a time.
    OneNamespace,
    /// FFFFFFFFh flushes all namespaces.
    All,
}

/// Reads what the controller says about Flush.
#[must_use]
pub fn flush_nsid(report: &ProbeReport) -> FlushNsid {
    match report.facts.identify.vwc >> 1 & 3 {
        2 => FlushNsid::OneNamespace,
        3 => FlushNsid::All,
        _ => FlushNsid::NotSpecified,
    }
}

/// Judges a subsystem and the settings with which it would be used. The worst findings come first.
#[must_use]
pub fn examine(report: &ProbeReport, spec: &ControllerSpec, hostnqn: &str, ways: &Ways) -> api::DoctorReport {
    let nothing = SubsystemFound::default();
    let found = match &report.found {
        Found::Subsystem(found) => found,
        Found::Discovery(_) => &nothing,
    };
    let facts = report.life_facts();
    let identify = &report.facts.identify;
    let stalls = stalls::stalls(spec, &facts);
    let findings = findings::findings(&findings::Case { report, found, facts: &facts, spec, ways });
    api::DoctorReport {
        format_version: api::Version,
        subsystem: api::SubsystemFacts {
            nqn: spec.subnqn.to_string(),
            serial: facts.serial.value().cloned().unwrap_or_default(),
            model: facts.model.value().cloned().unwrap_or_default(),
            firmware: facts.firmware.clone(),
            version: Version(facts.vs).to_string(),
            cntlid: facts.identity.cntlid,
        },
        hostnqn: hostnqn.to_owned(),
        ports: ports(spec, ways),
        ccr: api::CcrFacts {
            supported: facts.offers_ccr(),
            ccrl: facts.ccrl.unwrap_or(0),
            ciu: facts.identity.ciu,
            cirn: api::Hex64(facts.identity.cirn),
        },
        cqt_ms: facts.cqt.value().copied().map(millis),
        kato: api::KatoFacts {
            requested_ms: millis(spec.kato),
            effective_ms: found.kato_ms.map_or_else(|| millis(facts.kato_in_force()), u64::from),
            granularity_ms: identify.keep_alive_granularity().map_or(0, millis),
        },
        tbkas: facts.tbkas.value().is_some(),
        ana: api::AnaFacts {
            supported: facts.ana,
            anatt_s: facts.ana.then_some(facts.anatt.as_secs()),
            groups: report.facts.ana.as_ref().map(groups).unwrap_or_default(),
        },
        vwc: facts.vwc,
        namespaces: found
            .namespaces
            .iter()
            .map(|ns| api::NamespaceFacts {
                nsid: ns.nsid,
                size_bytes: ns.geometry.blocks.saturating_mul(ns.geometry.block_size.into()),
                block_bytes: ns.geometry.block_size,
                shared: ns.shared,
                reservations: ns.reservations,
                anagrpid: facts.ana.then_some(ns.anagrpid),
            })
            .collect(),
        stalls,
        findings,
        live: None,
    }
}

fn ports(spec: &ControllerSpec, ways: &Ways) -> Vec<api::PortFacts> {
    let mut ports: Vec<api::PortFacts> = match ways {
        Ways::Known(ways) => ways
            .iter()
            .map(|(traddr, port, portid)| api::PortFacts {
                portid: Some(*portid),
                path: api::PathAddress::tcp(traddr, *port),
                asked: *port == spec.trsvcid && *traddr == spec.traddr,
            })
            .collect(),
        Ways::NotKnown(_) => Vec::new(),
    };
    if !ports.iter().any(|port| port.asked) {
        // The log may name the same port by another address; then it is listed twice, which is true as far as is known.
        let path = api::PathAddress::tcp(&spec.traddr, spec.trsvcid);
        ports.insert(0, api::PortFacts { portid: None, path, asked: true });
    }
    ports
}

fn groups(log: &ana::Log) -> Vec<api::AnaGroup> {
    log.groups
        .iter()
        .map(|group| api::AnaGroup {
            id: group.id,
            state: match group.state {
                ana::State::Optimized => api::AnaState::Optimized,
                ana::State::NonOptimized => api::AnaState::NonOptimized,
                ana::State::Inaccessible => api::AnaState::Inaccessible,
                ana::State::PersistentLoss => api::AnaState::PersistentLoss,
                ana::State::Change => api::AnaState::Change,
            },
            nsids: group.nsids.clone(),
        })
        .collect()
}

/// Whole milliseconds, rounded up: a bound must not become smaller by being printed.
fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
