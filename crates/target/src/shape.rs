//! From a configuration to what the core and the lanes are made of.
//!
//! The configuration speaks the language of whoever writes it, the core that of the specification; both must be able to
//! change alone. Everything that translates stands here.

use crate::config::{Ana, Backing as BackingConfig, Config, ConfigError, FaultConfig, NamespaceConfig};
use crate::file::Opened;
use crate::kept::{self, Kept};
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
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Keep-alive granularity in units of 100 ms: a KATO of whole seconds is taken as it is.
const KAS: u16 = 10;

/// Highest CNTLID that a controller may have: FFF0h and above are reserved.
const CNTLID_MAX: u16 = 0xffef;

/// How long an answer to CCR may wait for the reset to finish, so that it can say "immediate", in milliseconds.
const CCR_ANSWER_MS: u32 = 10;

/// Opens what holds the blocks of a namespace, and says what the namespace looks like. What outlives the target lies in
/// `state`, or beside the namespace.
pub(crate) fn open(
    nsid: u32,
    config: &NamespaceConfig,
    state: Option<&Path>,
) -> Result<(Namespace, Backing), TargetError> {
    let (bytes, backing) = match &config.backing {
        BackingConfig::Memory { bytes } => {
            let memory = Memory::new(*bytes).map_err(|source| TargetError::Memory { nsid, bytes: *bytes, source })?;
            (*bytes, Backing::Memory(Arc::new(memory)))
        }
        BackingConfig::Null { bytes } => (*bytes, Backing::Null),
        BackingConfig::File { path } => {
            // In this order: whoever has the lock of the file has what lies beside it.
            let mut opened = Opened::new(path, config.block_size, config.read_only)?;
            let place = kept::place(path, state)?;
            let kept = match Kept::read(&place)? {
                Some(kept) => Some(kept),
                None if config.read_only && config.is_named() => None,
                None => Some(Kept::open(&place)?),
            };
            opened.set_kept(kept);
            (opened.len, Backing::File(Arc::new(opened)))
        }
    };
    let (nguid, uuid) = identity(config, &backing)?;
    let namespace = Namespace {
        nsid,
        blocks: bytes / u64::from(config.block_size),
        block_shift: u8::try_from(config.block_size.trailing_zeros()).unwrap_or(12),
        read_only: config.read_only,
        nguid,
        uuid,
        eui64: config.eui64.map(|id| id.0),
        ana_group: config.ana_group,
        // Not every file system can make deallocated blocks read as zeroes.
        zeroes_when_deallocated: !matches!(backing, Backing::File(_)),
    };
    Ok((namespace, backing))
}

/// NGUID and UUID of a namespace: as given, as kept, or such as nobody else has.
fn identity(config: &NamespaceConfig, backing: &Backing) -> io::Result<([u8; 16], [u8; 16])> {
    if config.is_named() {
        // Other nodes of the same namespace are given the same, and must come to the same.
        let follow = |salt: &str| drawn_from(salt, config);
        let uuid = || {
            let mut uuid = follow("uuid");
            // RFC 9562: version 8 (made by a rule of our own), variant 1.
            uuid[6] = uuid[6] & 0x0f | 0x80;
            uuid[8] = uuid[8] & 0x3f | 0x80;
            uuid
        };
        let nguid = config.nguid.map_or_else(|| follow("nguid"), |id| id.0);
        return Ok((nguid, config.uuid.map_or_else(uuid, |id| id.0)));
    }
    match backing {
        Backing::File(file) => match file.identity() {
            Some((nguid, uuid)) => Ok((nguid.0, uuid.0)),
            None => Err(io::Error::other("a file without an identity")),
        },
        Backing::Memory(_) | Backing::Null => Ok((kept::random()?.0, kept::random_uuid()?.0)),
    }
}

/// An identifier that follows from those that are given: of two rounds of FNV-1a over bytes that are written down here, so that every
/// build on every machine comes to the same.
fn drawn_from(salt: &str, config: &NamespaceConfig) -> [u8; 16] {
    let mut named = salt.as_bytes().to_vec();
    named.push(0xff);
    let mut put = |given: Option<&[u8]>| {
        named.extend(u64::from(given.is_some()).to_le_bytes());
        if let Some(bytes) = given {
            named.extend((bytes.len() as u64).to_le_bytes());
            named.extend(bytes);
        }
    };
    put(config.uuid.as_ref().map(|id| &id.0[..]));
    put(config.nguid.as_ref().map(|id| &id.0[..]));
    put(config.eui64.as_ref().map(|id| &id.0[..]));
    let high = fnv_1a(&named);
    let low = fnv_1a(&[&high.to_le_bytes()[..], &named].concat());
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a target is called that was told no name: drawn from what is kept, or such as nobody else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Subsystem NQN.
    pub(crate) nqn: String,
    /// Serial number.
    pub(crate) serial: String,
}

impl Names {
    pub(crate) fn new(config: &Config, backings: &[(Namespace, Backing)]) -> Result<Self, TargetError> {
        let kept = |(_, backing): &(Namespace, Backing)| match backing {
            Backing::File(file) => file.identity().map(|(_, uuid)| uuid),
            Backing::Memory(_) | Backing::Null => None,
        };
        let drawn_from = match &config.state {
            Some(folder) => Kept::open(&folder.join("target.interlock"))?.content.uuid,
            None => match backings.iter().find_map(kept) {
                Some(uuid) => uuid,
                None => kept::random_uuid()?,
            },
        };
        let nqn = config.nqn.clone().unwrap_or_else(|| format!("nqn.2026-11.io.interlock:{drawn_from}"));
        let serial = config.serial.clone().unwrap_or_else(|| {
            let digits = drawn_from.to_string().replace('-', "");
            digits[..SERIAL_LEN].to_ascii_uppercase()
        });
        Ok(Self { nqn, serial })
    }
}

/// Characters of a serial number.
const SERIAL_LEN: usize = 20;

pub(crate) fn core_config(
    config: &Config,
    names: &Names,
    lanes: u16,
    namespaces: Vec<Namespace>,
) -> Result<CoreConfig, TargetError> {
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
        nqn: nqn(&names.nqn)?,
        serial: names.serial.clone(),
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
        memory: (u64::from(config.limits.memory_mib) << 20) / u64::from(lanes.max(1)),
        buffered_per_connection: u64::from(config.limits.connection_buffers_mib) << 20,
        io_queues: config.io_queues,
        queue_depth: config.queue_size,
        max_transfer: config.max_transfer_kib * 1024,
        stock: STOCK,
        hdgst: config.digests,
        ddgst: config.digests,
        ..Limits::default()
    };
    let core = CoreConfig { subsystems: vec![subsystem], ports, lanes, limits };
    if limits.memory < limits.memory_min() {
        return Err(ConfigError::Value(format!(
            "`limits.memory_mib` is {}: {lanes} reactors share it, and each needs room for four of the largest transfers and queues: use \
             at least {}",
            config.limits.memory_mib,
            (limits.memory_min() * u64::from(lanes.max(1))).div_ceil(1 << 20)
        ))
        .into());
    }
    Ok(core)
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
        FaultConfig::CrashOn { port, nsid, lba } => Fault::CrashOn { port: PortId(port), nsid, lba },
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

    fn core(config: &Config, lanes: u16) -> Result<(), TargetError> {
        config.check()?;
        let names = Names { nqn: crate::config::SAMPLE_NQN.into(), serial: "1".into() };
        let core = core_config(config, &names, lanes, Vec::new())?;
        Ok(core.check()?)
    }

    /// A value that a file may have is one that the target can be made of, and only such values are documented.
    #[test]
    fn whatever_a_file_may_say_the_core_takes() {
        let good = || {
            let text = "[[port]]\nlisten = 0\n[[namespace]]\nbacking = \"mem:1M\"\n";
            Config::from_toml(text).unwrap()
        };
        let with = |key: &str, value: u64, transfer: u32| {
            let mut config = Config { max_transfer_kib: transfer, ..good() };
            let limits = format!("{{\"{key}\":{value},\"connection_buffers_mib\":16}}");
            let limits = if key == "connection_buffers_mib" { format!("{{\"{key}\":{value}}}") } else { limits };
            config.limits = serde_json::from_str(&limits).unwrap();
            core(&config, 1)
        };
        for transfer in [8, 64, 1024, 16_384] {
            for (name, _, low, high) in good().limits.ranges(transfer) {
                assert!(with(name, low, transfer).is_ok(), "{name} = {low}: {:?}", with(name, low, transfer));
                assert!(with(name, high, transfer).is_ok(), "{name} = {high}: {:?}", with(name, high, transfer));
                for beyond in [low.wrapping_sub(1), high + 1].into_iter().filter(|value| *value < 1 << 32) {
                    // A u16 cannot even be read.
                    if name == "controllers" && beyond > 65_535 {
                        continue;
                    }
                    let why = with(name, beyond, transfer).unwrap_err().to_string();
                    assert_eq!(why, format!("`limits.{name}` is {beyond}: use {low} to {high}"));
                }
            }
        }
        type Set = fn(&mut Config, u32);
        let keys: [(&str, Set, u32, u32); 4] = [
            ("max_transfer_kib", |config, value| config.max_transfer_kib = value, 8, 16_384),
            ("queue_size", |config, value| config.queue_size = value as u16, 32, 1024),
            ("io_queues", |config, value| config.io_queues = value as u16, 1, 128),
            ("ana_groups", |config, value| config.ana_groups = value, 1, 128),
        ];
        for (name, set, low, high) in keys {
            for (value, fits) in [(low, true), (high, true), (low / 2, false), (high + 1, false)] {
                let mut config = good();
                set(&mut config, value);
                config.limits.connection_buffers_mib = 64;
                let outcome = core(&config, 1);
                assert_eq!(outcome.is_ok(), fits, "{name} = {value}: {outcome:?}");
                let names_it = outcome.map_or_else(|why| why.to_string().contains(&format!("`{name}`")), |()| true);
                assert!(names_it, "{name} = {value}");
            }
        }
        let why =
            core(&Config { limits: crate::config::LimitsConfig { memory_mib: 7, ..Default::default() }, ..good() }, 2);
        assert!(why.unwrap_err().to_string().ends_with("use at least 8"));
    }

    fn named(edit: impl FnOnce(&mut NamespaceConfig)) -> ([u8; 16], [u8; 16]) {
        let mut config = NamespaceConfig::new("mem:1M".parse().unwrap());
        edit(&mut config);
        let (namespace, _) = open(1, &config, None).unwrap();
        (namespace.nguid, namespace.uuid)
    }

    #[test]
    fn memory_is_another_disk_at_every_start_unless_it_is_named() {
        assert_ne!(named(|_| {}), named(|_| {}));
        let uuid = || Some("12345678-9abc-8def-8123-456789abcdef".parse().unwrap());
        let one = named(|config| config.uuid = uuid());
        assert_eq!((one, one.1[0]), (named(|config| config.uuid = uuid()), 0x12), "nodes come to the same");
        let other = named(|config| config.eui64 = Some("0025385b71b00001".parse().unwrap()));
        assert_ne!((one.0, one.1), other);
    }

    /// Hosts know these disks: no build may draw others. They are what earlier builds drew by derived hashes.
    #[test]
    fn drawn_identifiers_never_change() {
        let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (nguid, uuid) = named(|config| config.eui64 = Some("0025385b71b00001".parse().unwrap()));
        assert_eq!(
            (hex(nguid).as_str(), hex(uuid).as_str()),
            ("b7208a98071689e42d09b5ac71b5db03", "62fa9bd1f8968bbaaa2fadcb161c3a6d")
        );
        let (nguid, _) = named(|config| config.uuid = Some("12345678-9abc-8def-8123-456789abcdef".parse().unwrap()));
        assert_eq!(hex(nguid), "0c8fef6e269162a66ce0666b2ef7a2f5");
    }

    #[test]
    fn a_file_is_the_same_disk_again_and_names_its_target() {
        let folder = std::env::temp_dir().join(format!("interlock-shape-{}", std::process::id()));
        let names = |name: &str, state: Option<&Path>| {
            let path = folder.join(name);
            std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
            let config = NamespaceConfig::new(BackingConfig::File { path });
            let opened = open(1, &config, state).unwrap();
            let config = Config { state: state.map(Into::into), ..Config::default() };
            (Names::new(&config, std::slice::from_ref(&opened)).unwrap(), opened.0.uuid, opened.0.nguid)
        };
        std::fs::create_dir_all(&folder).unwrap();
        let one = names("one.img", None);
        assert_eq!(one, names("one.img", None));
        let two = names("two.img", None);
        assert!(one.0.nqn != two.0.nqn && one.0.serial != two.0.serial && one.1 != two.1 && one.2 != two.2);
        let state = folder.join("state");
        let kept = names("two.img", Some(&state));
        assert_eq!(kept, names("two.img", Some(&state)));
        assert_ne!(kept.1, two.1, "another folder, another disk");
        std::fs::remove_dir_all(folder).unwrap();
        let unnamed = |config: &Config| Names::new(config, &[]).unwrap();
        assert_ne!(unnamed(&Config::default()), unnamed(&Config::default()));
    }
}
