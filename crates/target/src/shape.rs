//! From a configuration to what the core and the lanes are made of.
//!
//! The configuration speaks the language of whoever writes it, the core that of the specification; both must be able to
//! change alone. Everything that translates stands here.

use crate::config::{Ana, Backing as BackingConfig, Config, FaultConfig, NamespaceConfig};
use crate::file::Opened;
use crate::memory::Memory;
use crate::store::Backing;
use crate::target::TargetError;
use interlock_target_core::config::{
    Ccr, Config as CoreConfig, Hosts, Limits, Offers, PortConfig as CorePort, SubsystemConfig,
};
use interlock_target_core::{Fault, Namespace, PortId};
use interlock_wire::ana::State as AnaState;
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;
use std::sync::Arc;

/// Keep-alive granularity in units of 100 ms: a KATO of whole seconds is taken as it is.
const KAS: u16 = 10;

/// Highest CNTLID that a controller may have: FFF0h and above are reserved.
const CNTLID_MAX: u16 = 0xffef;

/// How long an answer to CCR may wait for the reset to finish, so that it can say "immediate", in milliseconds.
const CCR_ANSWER_MS: u32 = 10;

/// Opens what holds the blocks of a namespace, and says what the namespace looks like.
pub(crate) fn open(nqn: &str, nsid: u32, config: &NamespaceConfig) -> Result<(Namespace, Backing), TargetError> {
    let (bytes, backing) = match &config.backing {
        BackingConfig::Memory { bytes } => {
            let memory = Memory::new(*bytes).map_err(|source| TargetError::Memory { nsid, bytes: *bytes, source })?;
            (*bytes, Backing::Memory(Arc::new(memory)))
        }
        BackingConfig::Null { bytes } => (*bytes, Backing::Null),
        BackingConfig::File { path } => {
            let opened = Opened::new(path, config.block_size, config.read_only)?;
            (opened.len, Backing::File(Arc::new(opened)))
        }
    };
    let (nguid, uuid) = identity(nqn, nsid, &config.backing.to_string());
    let namespace = Namespace {
        nsid,
        blocks: bytes / u64::from(config.block_size),
        block_shift: u8::try_from(config.block_size.trailing_zeros()).unwrap_or(12),
        read_only: config.read_only,
        nguid,
        uuid,
        ana_group: config.ana_group,
        // Not every file system can make deallocated blocks read as zeroes.
        zeroes_when_deallocated: !matches!(backing, Backing::File(_)),
    };
    Ok((namespace, backing))
}

/// Identifiers that are the same on every port and after every restart: drawn from the names.
fn identity(nqn: &str, nsid: u32, backing: &str) -> ([u8; 16], [u8; 16]) {
    let draw = |salt: &str| {
        let high = interlock_base::fingerprint(&(salt, nqn, nsid, backing));
        let low = interlock_base::fingerprint(&(high, salt, backing));
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    };
    let mut uuid = draw("uuid");
    // RFC 9562: version 8 (made by a rule of our own), variant 1.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    (draw("nguid"), uuid)
}

pub(crate) fn core_config(config: &Config, lanes: u16, namespaces: Vec<Namespace>) -> Result<CoreConfig, TargetError> {
    let nqn = |text: &String| Nqn::new(text.as_str()).map_err(|why| TargetError::Nqn { text: text.clone(), why });
    let hosts = if config.allow_hosts.is_empty() {
        Hosts::Any
    } else {
        Hosts::List(config.allow_hosts.iter().map(nqn).collect::<Result<_, _>>()?)
    };
    let recovery = config.recovery;
    let ccr = if recovery.ccr {
        Ccr::On { limit: recovery.ccr_limit, drain_ms: 0, answer_ms: CCR_ANSWER_MS }
    } else {
        Ccr::Off
    };
    let subsystem = SubsystemConfig {
        nqn: nqn(&config.nqn)?,
        serial: config.serial.clone(),
        model: config.model.clone(),
        hosts,
        namespaces,
        cntlids: (1, CNTLID_MAX),
        kas: KAS,
        tbkas: recovery.traffic_based_keep_alive,
        cqt_ms: recovery.cqt_ms,
        quiesce_ms: recovery.quiesce_ms,
        ccr,
        ana_groups: config.ana_groups,
    };
    let all = config.ports.iter().map(|port| (port, Offers::All));
    let discovery = config.discovery.iter().map(|port| (port, Offers::Discovery));
    let ports = (0..)
        .zip(all.chain(discovery))
        .map(|(id, (port, offers))| CorePort { id: PortId(id), address: port.listen, offers })
        .collect();
    let limits = Limits {
        connections: config.limits.connections,
        half_open: config.limits.half_open,
        handshake_ms: config.limits.handshake_ms,
        transfer_ms: config.limits.transfer_ms,
        controllers: config.limits.controllers,
        controllers_per_host: config.limits.controllers_per_host,
        buffered: u64::from(config.limits.buffers_mib) << 20,
        buffered_per_connection: u64::from(config.limits.connection_buffers_mib) << 20,
        io_queues: config.io_queues,
        queue_depth: config.queue_size.max(32),
        max_transfer: config.max_transfer_kib * 1024,
        stock: STOCK,
        hdgst: config.digests,
        ddgst: config.digests,
        ..Limits::default()
    };
    Ok(CoreConfig { subsystems: vec![subsystem], ports, lanes, limits })
}

/// Bytes in free buffers that a lane keeps for the next commands: a full queue of 256 requests of 4 KiB.
const STOCK: u64 = 1 << 20;

pub(crate) const fn ana_of(state: Ana) -> AnaState {
    match state {
        Ana::Optimized => AnaState::Optimized,
        Ana::NonOptimized => AnaState::NonOptimized,
        Ana::Inaccessible => AnaState::Inaccessible,
        Ana::PersistentLoss => AnaState::PersistentLoss,
        Ana::Change => AnaState::Change,
    }
}

/// How the configuration calls a state.
pub(crate) const fn ana_words(state: AnaState) -> Ana {
    match state {
        AnaState::Optimized => Ana::Optimized,
        AnaState::NonOptimized => Ana::NonOptimized,
        AnaState::Inaccessible => Ana::Inaccessible,
        AnaState::PersistentLoss => Ana::PersistentLoss,
        AnaState::Change => Ana::Change,
    }
}

pub(crate) const fn fault_of(fault: FaultConfig) -> Fault {
    match fault {
        FaultConfig::HoldWrites { port } => Fault::HoldWrites { port: PortId(port) },
        FaultConfig::StopHolding { port } => Fault::StopHolding { port: PortId(port) },
        FaultConfig::Release {} => Fault::Release,
        FaultConfig::Delay { port, ms } => Fault::Delay { port: PortId(port), ms },
        FaultConfig::Drop { port } => Fault::Drop { port: PortId(port) },
        FaultConfig::FailIo { port, status } => Fault::FailIo { port: PortId(port), status: Status(status) },
        FaultConfig::Mute { port } => Fault::Mute { port: PortId(port) },
        FaultConfig::Unmute { port } => Fault::Unmute { port: PortId(port) },
        FaultConfig::ResetConnections { port } => Fault::ResetConnections { port: PortId(port) },
        FaultConfig::CcrRefuse { status } => Fault::CcrRefuse(Status(status)),
        FaultConfig::CcrLate { ms } => Fault::CcrLate { ms },
        FaultConfig::CcrLoseEvent {} => Fault::CcrLoseEvent,
        FaultConfig::RepeatEvent {} => Fault::RepeatEvent,
        FaultConfig::CcrStaleEntry {} => Fault::CcrStaleEntry,
        FaultConfig::CcrKeepEntries {} => Fault::CcrKeepEntries,
        FaultConfig::CcrFail {} => Fault::CcrFail,
        FaultConfig::SlowDrain { ms } => Fault::SlowDrain { ms },
        FaultConfig::RdyBeforeDrained {} => Fault::RdyBeforeDrained,
        FaultConfig::Clear {} => Fault::Clear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_and_differ() {
        let one = identity("nqn.2026-11.io.example:a", 1, "mem:1");
        assert_eq!(one, identity("nqn.2026-11.io.example:a", 1, "mem:1"));
        assert_ne!(one.0, one.1);
        assert_ne!(one, identity("nqn.2026-11.io.example:a", 2, "mem:1"));
        assert_ne!(one, identity("nqn.2026-11.io.example:b", 1, "mem:1"));
    }
}
