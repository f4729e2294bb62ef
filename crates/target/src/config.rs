//! What a target is made of, from a file or from flags.
//!
//! Both ways end in one [`Config`], so that nothing can be said in a file that flags cannot say, and the other way
//! round. A key that nobody knows is an error that names the key and the nearest right one: a typing error must not
//! silently leave a default in force.

pub use crate::hex::Identifier;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A subsystem NQN for examples and tests. Targets that are told none make one of their own.
pub const SAMPLE_NQN: &str = "nqn.2026-11.io.interlock:target";

/// The IANA port of NVMe/TCP I/O controllers.
pub const IO_PORT: u16 = 4420;

/// The IANA port of NVMe/TCP discovery controllers.
pub const DISCOVERY_PORT: u16 = 8009;

/// A whole target: one subsystem, its ports and namespaces, and a discovery service on every port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Subsystem NQN. Without one the target has a name that no other has: new at every start if all of its namespaces are in
    /// memory, kept beside the first one that is not, or in [`state`](Self::state).
    pub nqn: Option<String>,
    /// Serial number: 1 to 20 printable ASCII characters. Without one it is kept or new as the name is. Nodes that serve one
    /// subsystem together have the same.
    pub serial: Option<String>,
    /// A folder for what outlives the target: its name, the identities of its namespaces, flushes that failed. Without one
    /// that lies beside each file, and for devices in `/var/lib/interlock/target`.
    pub state: Option<PathBuf>,
    /// Model number: at most 40 ASCII characters.
    pub model: String,
    /// Host NQNs that may connect; empty: any.
    pub allow_hosts: Vec<String>,
    /// Where to listen for I/O controllers. Each also answers discovery.
    #[serde(rename = "port")]
    pub ports: Vec<PortConfig>,
    /// Where to listen for discovery controllers only.
    #[serde(rename = "discovery")]
    pub discovery: Vec<PortConfig>,
    /// What to serve, NSID 1 first unless said otherwise.
    #[serde(rename = "namespace")]
    pub namespaces: Vec<NamespaceConfig>,
    /// How many ANA groups there are: 1 to 128. Default 1.
    pub ana_groups: u32,
    /// How it recovers.
    pub recovery: Recovery,
    /// Grant digests to hosts that ask for them. Default true.
    pub digests: bool,
    /// Largest transfer of one command in KiB: a power of two from 8 to 16384, because an MDTS of 0 would say that
    /// there is no limit. Default 1024.
    pub max_transfer_kib: u32,
    /// Entries of the deepest queue, 32 (an admin queue has as many) to 1024. Default 128.
    pub queue_size: u16,
    /// I/O queues of one controller at most, 1 to 128. Default 16.
    pub io_queues: u16,
    /// What peers can make it hold, and for how long.
    pub limits: LimitsConfig,
    /// Faults in force from the start.
    #[serde(rename = "fault")]
    pub faults: Vec<FaultConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nqn: None,
            serial: None,
            state: None,
            model: "Interlock target".into(),
            allow_hosts: Vec::new(),
            ports: Vec::new(),
            discovery: Vec::new(),
            namespaces: Vec::new(),
            ana_groups: 1,
            recovery: Recovery::default(),
            digests: true,
            max_transfer_kib: 1024,
            queue_size: 128,
            io_queues: 16,
            limits: LimitsConfig::default(),
            faults: Vec::new(),
        }
    }
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// `ADDRESS:PORT`, or a port alone for every local IPv4 address. Port 0: any free one.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    /// The ANA state of every group through this port. Default optimized.
    #[serde(default)]
    pub ana: Ana,
}

/// Base Specification, "Asymmetric Namespace Access states".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ana {
    /// ANA Optimized.
    #[default]
    Optimized,
    /// ANA Non-Optimized.
    NonOptimized,
    /// ANA Inaccessible.
    Inaccessible,
    /// ANA Persistent Loss.
    PersistentLoss,
    /// ANA Change.
    Change,
}

impl fmt::Display for Ana {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        })
    }
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceConfig {
    /// What holds its blocks: `mem:SIZE`, `file:PATH` or `null:SIZE`.
    #[serde(deserialize_with = "parsed", serialize_with = "as_text")]
    pub backing: Backing,
    /// Namespace identifier; by place if absent (the lowest free one for a namespace that is added later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<u32>,
    /// Bytes per block: 512 or 4096. Default 4096.
    #[serde(default = "default_block_size")]
    pub block_size: u32,
    /// Write protected.
    #[serde(default)]
    pub read_only: bool,
    /// Its ANA group. Default 1.
    #[serde(default = "default_ana_group")]
    pub ana_group: u32,
    /// Namespace UUID. Who gives an identifier says who the namespace is, as nodes that serve one together must: what is not
    /// given follows from what is. Without any, that is kept beside a file and for a device, and new at every start in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Identifier<16>>,
    /// Namespace Globally Unique Identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nguid: Option<Identifier<16>>,
    /// IEEE Extended Unique Identifier. Without one none is stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eui64: Option<Identifier<8>>,
}

impl NamespaceConfig {
    /// A writable namespace with blocks of 4096 bytes in ANA group 1, its NSID by place.
    #[must_use]
    pub const fn new(backing: Backing) -> Self {
        Self {
            backing,
            nsid: None,
            block_size: default_block_size(),
            read_only: false,
            ana_group: default_ana_group(),
            uuid: None,
            nguid: None,
            eui64: None,
        }
    }
}

const fn default_block_size() -> u32 {
    4096
}

const fn default_ana_group() -> u32 {
    1
}

/// What holds the blocks of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory; contents end with the target.
    Memory {
        /// Bytes.
        bytes: u64,
    },
    /// A file or block device; its length is the size.
    File {
        /// Where it lies.
        path: PathBuf,
    },
    /// Nothing: writes vanish, reads are zero. For measuring.
    Null {
        /// Bytes.
        bytes: u64,
    },
}

/// What the target offers a host that lost a path, and what it really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recovery {
    /// Answer Cross-Controller Reset (TP8028).
    pub ccr: bool,
    /// Cross-Controller Resets that one controller has in progress at most.
    pub ccr_limit: u8,
    /// Command Quiesce Time to report, in milliseconds; 0: none is stated.
    pub cqt_ms: u16,
    /// How long a lost life really goes on executing after its loss was noticed, in milliseconds. Must not be longer than
    /// a reported `cqt_ms`.
    pub quiesce_ms: u32,
    /// Count any command as a sign of life (TBKAS), as Linux does.
    pub traffic_based_keep_alive: bool,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { ccr: true, ccr_limit: 4, cqt_ms: 1000, quiesce_ms: 500, traffic_based_keep_alive: true }
    }
}

/// What peers can make a target hold, and for how long. A reactor serves one lane; by default there is one per port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Connections per lane. Default 4096.
    pub connections: u32,
    /// Connections per lane that have no complete Connect yet: the oldest of them makes room for one more. Default 1024.
    pub half_open: u32,
    /// How long a connection may stay without a complete Connect, in milliseconds. Default 10,000.
    pub handshake_ms: u32,
    /// How long a peer may leave the data of a command unsent, or an answer untaken, in milliseconds. Default 30,000.
    pub transfer_ms: u32,
    /// Controllers, and as many discovery controllers. Default 1024.
    pub controllers: u16,
    /// Everything that peers can make the target hold, over all lanes, in MiB; each lane has the same part of it. Default 512.
    pub memory_mib: u32,
    /// Payload in buffers per connection, in MiB: at least the largest transfer. Default 32.
    pub connection_buffers_mib: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 4096,
            half_open: 1024,
            handshake_ms: 10_000,
            transfer_ms: 30_000,
            controllers: 1024,
            memory_mib: 512,
            connection_buffers_mib: 32,
        }
    }
}

impl LimitsConfig {
    /// The name, value, least and most of each, where one command moves so much at most.
    pub(crate) fn ranges(&self, max_transfer_kib: u32) -> [(&'static str, u64, u64, u64); 7] {
        let largest = u64::from(max_transfer_kib).div_ceil(1024);
        [
            ("connections", self.connections.into(), 1, 1 << 20),
            ("half_open", self.half_open.into(), 1, 1 << 20),
            ("handshake_ms", self.handshake_ms.into(), 100, 600_000),
            ("transfer_ms", self.transfer_ms.into(), 1000, 3_600_000),
            ("controllers", self.controllers.into(), 1, 65_519),
            ("memory_mib", self.memory_mib.into(), largest * 4, 1 << 20),
            ("connection_buffers_mib", self.connection_buffers_mib.into(), largest, 1 << 20),
        ]
    }

    fn check(&self, max_transfer_kib: u32) -> Result<(), ConfigError> {
        for (name, value, low, high) in self.ranges(max_transfer_kib) {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Value(format!("`limits.{name}` is {value}: use {low} to {high}")));
            }
        }
        Ok(())
    }
}

/// A scripted fault, as `target.toml` and the control channel say it. What it does in full stands at [`crate::Fault`];
/// ports are named by their place in the list of ports, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum FaultConfig {
    /// Media-changing commands received on a port stall.
    HoldWrites {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// Once: commands received on a port from now on execute again; what is held stays held.
    StopHolding {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// Once: every held command is delivered now, and holding ends on every port.
    Release {},
    /// I/O commands received on a port start later.
    Delay {
        /// Its place in the list of ports, from 0.
        port: u16,
        /// Milliseconds.
        ms: u32,
    },
    /// I/O commands received on a port vanish.
    Drop {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// A controller dies of every command received on a port that names this block.
    CrashOn {
        /// Its place in the list of ports, from 0.
        port: u16,
        /// The namespace; 0: every I/O command counts, whatever it names.
        nsid: u32,
        /// The block.
        lba: u64,
    },
    /// I/O commands received on a port are answered with a status and not executed; 0 ends it.
    FailIo {
        /// Its place in the list of ports, from 0.
        port: u16,
        /// Code type in bits 10:8, code in bits 7:0, Do Not Retry in bit 14: 0x360 is Controller Pathing Error.
        status: u16,
    },
    /// A port is dead without a word: nothing is read, written, closed or accepted.
    Mute {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// Once: a muted port speaks again.
    Unmute {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// Once: every connection of a port is reset.
    ResetConnections {
        /// Its place in the list of ports, from 0.
        port: u16,
    },
    /// CCR is refused with a status: code type in bits 10:8, code in bits 7:0.
    CcrRefuse {
        /// Such as 0x141.
        status: u16,
    },
    /// The CCR log turns to success later.
    CcrLate {
        /// Milliseconds.
        ms: u32,
    },
    /// No event is raised when a CCR finishes.
    CcrLoseEvent {},
    /// Once: every controller tells its last event once more.
    RepeatEvent {},
    /// Once: every CCR log gets a completed entry as an earlier life would have left behind.
    CcrStaleEntry {},
    /// What a host asks to be removed from a CCR log stays there.
    CcrKeepEntries {},
    /// A reset is accepted and fails: the life goes on.
    CcrFail {},
    /// A life that is reset goes on executing for so long.
    SlowDrain {
        /// Milliseconds.
        ms: u32,
    },
    /// RDY=0 is reported although commands may still execute.
    RdyBeforeDrained {},
    /// Once: all of the above end; held commands are delivered, muted ports speak.
    Clear {},
}

impl FaultConfig {
    /// The port that it names, if it is about one.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::HoldWrites { port }
            | Self::StopHolding { port }
            | Self::Delay { port, .. }
            | Self::Drop { port }
            | Self::CrashOn { port, .. }
            | Self::FailIo { port, .. }
            | Self::Mute { port }
            | Self::Unmute { port }
            | Self::ResetConnections { port } => Some(port),
            Self::Release {}
            | Self::CcrRefuse { .. }
            | Self::CcrLate { .. }
            | Self::CcrLoseEvent {}
            | Self::CcrStaleEntry {}
            | Self::CcrKeepEntries {}
            | Self::CcrFail {}
            | Self::RepeatEvent {}
            | Self::SlowDrain { .. }
            | Self::RdyBeforeDrained {}
            | Self::Clear {} => None,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or a value has the wrong form.
    #[error("{0}")]
    Syntax(String),
    /// A choice that nobody knows.
    #[error("unknown choice `{choice}`{}", instead(nearest.as_deref(), known))]
    UnknownChoice {
        /// As written.
        choice: String,
        /// The nearest right one.
        nearest: Option<String>,
        /// All right ones.
        known: Vec<String>,
    },
    /// A key that nobody knows.
    #[error("unknown key `{key}`{}", instead(nearest.as_deref(), known))]
    UnknownKey {
        /// As written.
        key: String,
        /// The nearest right one.
        nearest: Option<String>,
        /// All right ones.
        known: Vec<String>,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
}

/// What could have been meant: the nearest one, and all that there are.
fn instead(nearest: Option<&str>, known: &[String]) -> String {
    let nearest = nearest.map_or_else(String::new, |name| format!(" did you mean `{name}`?"));
    let all: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    match &all[..] {
        [] => String::new(),
        [only] => format!(":{nearest} there is {only}"),
        all => format!(":{nearest} there are {}", all.join(", ")),
    }
}

impl Config {
    /// Reads a `target.toml`.
    ///
    /// # Errors
    /// If it is not TOML, has a key that nobody knows, or says something that cannot be.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| explain(&error))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the value that cannot be, and what it could be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |text: String| Err(ConfigError::Value(text));
        if self.ports.is_empty() {
            return value("a target needs at least one port: add `[[port]]` with `listen`, or `--port`".into());
        }
        if self.namespaces.is_empty() {
            return value("a target needs at least one namespace: add `[[namespace]]`, or `--namespace mem:1G`".into());
        }
        if !(self.max_transfer_kib.is_power_of_two() && (8..=16384).contains(&self.max_transfer_kib)) {
            return value(format!(
                "`max_transfer_kib` is {}: use a power of two from 8 to 16384",
                self.max_transfer_kib
            ));
        }
        if !(32..=1024).contains(&self.queue_size) {
            return value(format!("`queue_size` is {}: use 32 to 1024", self.queue_size));
        }
        if !(1..=128).contains(&self.io_queues) {
            return value(format!("`io_queues` is {}: use 1 to 128", self.io_queues));
        }
        let fits = |text: &str, most| text.len() <= most && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        let serial = self.serial.as_deref().is_none_or(|text| fits(text, 20) && !text.trim().is_empty());
        if !serial || !fits(&self.model, 40) {
            return value("`serial` holds 1 to 20 and `model` 40 printable ASCII characters at most".into());
        }
        self.limits.check(self.max_transfer_kib)?;
        let recovery = self.recovery;
        if recovery.ccr && recovery.ccr_limit == 0 {
            return value("`recovery.ccr_limit` is 0, which says that CCR is not supported: use `ccr = false`".into());
        }
        if recovery.cqt_ms > 0 && recovery.quiesce_ms > u32::from(recovery.cqt_ms) {
            return value(format!(
                "`recovery.quiesce_ms` is {} but `recovery.cqt_ms` promises {}: a host would release writes too early",
                recovery.quiesce_ms, recovery.cqt_ms
            ));
        }
        if !(1..=128).contains(&self.ana_groups) {
            return value(format!("`ana_groups` is {}: use 1 to 128", self.ana_groups));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (place, namespace) in self.namespaces.iter().enumerate() {
            namespace.check(self.ana_groups)?;
            let nsid = self.nsid(place);
            if !(1..=1024).contains(&nsid) || !seen.insert(nsid) {
                return value(format!("`nsid` {nsid} is used twice or not within 1 to 1024"));
            }
        }
        for fault in &self.faults {
            if let Some(port) = fault.port()
                && usize::from(port) >= self.ports.len()
            {
                let there = match self.ports.len() {
                    1 => "the only one is port 0".to_owned(),
                    ports => format!("there are ports 0 to {}", ports - 1),
                };
                return value(format!("a fault names port {port}, which is not there: {there}"));
            }
        }
        Ok(())
    }

    /// The NSID of the namespace at `place` in the list.
    #[must_use]
    pub fn nsid(&self, place: usize) -> u32 {
        self.namespaces[place].nsid.unwrap_or_else(|| u32::try_from(place).map_or(0, |place| place + 1))
    }
}

impl NamespaceConfig {
    /// True if whoever configured it says who it is.
    pub(crate) const fn is_named(&self) -> bool {
        self.uuid.is_some() || self.nguid.is_some() || self.eui64.is_some()
    }

    /// Checks what the types cannot say, in a target with so many ANA groups.
    ///
    /// # Errors
    /// Names the value that cannot be, and what it could be.
    pub fn check(&self, ana_groups: u32) -> Result<(), ConfigError> {
        if ![512, 4096].contains(&self.block_size) {
            return Err(ConfigError::Value(format!("`block_size` is {}: use 512 or 4096", self.block_size)));
        }
        if !(1..=ana_groups).contains(&self.ana_group) {
            let why = match ana_groups {
                1 => "there is one ANA group (`ana_groups` makes more)".to_owned(),
                groups => format!("there are ANA groups 1 to {groups}"),
            };
            return Err(ConfigError::Value(format!("`ana_group` is {}: {why}", self.ana_group)));
        }
        Ok(())
    }
}

fn explain(error: &toml::de::Error) -> ConfigError {
    unknown_key(error.message()).unwrap_or_else(|| ConfigError::Syntax(error.to_string().trim_end().to_owned()))
}

/// Reads the words that serde has for a key or a choice that it does not know: "unknown field `x`, expected one of `a`,
/// `b`".
#[must_use]
pub fn unknown_key(message: &str) -> Option<ConfigError> {
    let field = message.strip_prefix("unknown field `");
    let mut quoted = field.or_else(|| message.strip_prefix("unknown variant `"))?.split('`');
    let written = quoted.next().unwrap_or_default().to_owned();
    let known: Vec<String> = quoted.skip(1).step_by(2).map(Into::into).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&written, name), name.clone()))
        .filter(|(distance, name)| *distance <= name.len().max(written.len()) / 2)
        .min()
        .map(|(_, name)| name);
    Some(match field {
        Some(_) => ConfigError::UnknownKey { key: written, nearest, known },
        None => ConfigError::UnknownChoice { choice: written, nearest, known },
    })
}

impl FromStr for PortConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let listen = match text.parse::<u16>() {
            Ok(port) => SocketAddr::from(([0, 0, 0, 0], port)),
            Err(_) => text.parse().map_err(|_| {
                ConfigError::Value(format!(
                    "`{text}` is not a valid address to listen on: use `4420`, `127.0.0.1:4420` or `[::1]:4420`"
                ))
            })?,
        };
        Ok(Self { listen, ana: Ana::default() })
    }
}

impl FromStr for Backing {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.split_once(':') {
            Some(("mem", size)) => Ok(Self::Memory { bytes: size_in_bytes(size)? }),
            Some(("null", size)) => Ok(Self::Null { bytes: size_in_bytes(size)? }),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File { path: path.into() }),
            _ => Err(ConfigError::Value(format!(
                "`{text}` is not a valid namespace: use `mem:1G`, `file:disk.img` or `null:64G`"
            ))),
        }
    }
}

impl FromStr for Ana {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let all = [Self::Optimized, Self::NonOptimized, Self::Inaccessible, Self::PersistentLoss, Self::Change];
        all.into_iter().find(|state| state.to_string() == text).ok_or_else(|| {
            let words = all.map(|state| format!("`{state}`")).join(", ");
            ConfigError::Value(format!("`{text}` is not a valid ANA state: use one of {words}"))
        })
    }
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { bytes } => write!(f, "mem:{bytes}"),
            Self::File { path } => write!(f, "file:{}", path.display()),
            Self::Null { bytes } => write!(f, "null:{bytes}"),
        }
    }
}

/// Bytes from `4096`, `64K`, `512M`, `1G`, `2T`; units are powers of 1024, as with `qemu-img` and `truncate`.
///
/// # Errors
/// If it is not a number with one of these units, or too large.
pub fn size_in_bytes(text: &str) -> Result<u64, ConfigError> {
    let wrong =
        || ConfigError::Value(format!("`{text}` is not a valid size: use a number with K, M, G or T, such as `512M`"));
    let upper = text.to_ascii_uppercase();
    let trimmed = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
    let (digits, shift) = match trimmed.bytes().last() {
        Some(b'K') => (&trimmed[..trimmed.len() - 1], 10),
        Some(b'M') => (&trimmed[..trimmed.len() - 1], 20),
        Some(b'G') => (&trimmed[..trimmed.len() - 1], 30),
        Some(b'T') => (&trimmed[..trimmed.len() - 1], 40),
        _ => (trimmed, 0),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

fn listen_address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Listen {
        Port(u16),
        Text(String),
    }
    let text = match Listen::deserialize(deserializer)? {
        Listen::Port(port) => port.to_string(),
        Listen::Text(text) => text,
    };
    text.parse::<PortConfig>().map(|port| port.listen).map_err(serde::de::Error::custom)
}

fn parsed<'de, D: serde::Deserializer<'de>, T: FromStr<Err = ConfigError>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        nqn = "nqn.2026-11.io.example:disk"
        [[port]]
        listen = 4420
        [[port]]
        listen = "127.0.0.1:4421"
        ana = "non-optimized"
        [[namespace]]
        backing = "file:disk.img"
        block_size = 512
        [recovery]
        ccr = false
        [[fault]]
        kind = "delay"
        port = 1
        ms = 20
    "#;

    #[test]
    fn a_file_says_what_flags_say() {
        let config = Config::from_toml(GOOD).unwrap();
        assert_eq!(config.ports[0], "4420".parse().unwrap());
        assert_eq!(config.ports[1].ana, Ana::NonOptimized);
        assert_eq!(config.namespaces[0].backing, "file:disk.img".parse().unwrap());
        assert_eq!(config.faults, [FaultConfig::Delay { port: 1, ms: 20 }]);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest() {
        let error = Config::from_toml(&GOOD.replace("ccr = false", "crc = false")).unwrap_err();
        let words = "unknown key `crc`: did you mean `ccr`? there are `ccr`, `ccr_limit`, `cqt_ms`, `quiesce_ms`, ";
        assert_eq!(error.to_string(), format!("{words}`traffic_based_keep_alive`"));
        let error = Config::from_toml(&GOOD.replace("block_size", "blocksize")).unwrap_err();
        assert!(
            error.to_string().starts_with("unknown key `blocksize`: did you mean `block_size`? there are `backing`,")
        );
    }

    #[test]
    fn an_unknown_fault_is_answered_with_those_that_there_are() {
        for kind in ["nothing", "dealy"] {
            let error = Config::from_toml(&GOOD.replace("\"delay\"", &format!("\"{kind}\""))).unwrap_err().to_string();
            assert!(error.starts_with(&format!("unknown choice `{kind}`:")), "{error}");
            for known in crate::help::FAULTS {
                assert!(error.contains(&format!("`{}`", known.name)), "{}: {error}", known.name);
            }
        }
        let error = Config::from_toml(&GOOD.replace("[recovery]", "[limits]\nlines = 1\n[recovery]")).unwrap_err();
        for known in crate::help::LIMITS {
            assert!(error.to_string().contains(&format!("`{}`", known.name)), "{}: {error}", known.name);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (from, to, word) in [
            ("block_size = 512", "block_size = 1024", "512 or 4096"),
            ("ccr = false", "quiesce_ms = 2000", "promises"),
            ("port = 1", "port = 2", "there are ports 0 to 1"),
            (
                "[[port]]",
                "max_transfer_kib = 4\n[[port]]",
                "`max_transfer_kib` is 4: use a power of two from 8 to 16384",
            ),
            ("[[port]]", "queue_size = 16\n[[port]]", "`queue_size` is 16: use 32 to 1024"),
            ("[recovery]", "[limits]\nconnections = 0\n[recovery]", "`limits.connections` is 0: use 1 to 1048576"),
            ("[recovery]", "[limits]\nhalfopen = 0\n[recovery]", "did you mean `half_open`?"),
            ("[recovery]", "ana_groups = 2\n[recovery]", "unknown key `ana_groups`"),
            ("file:disk.img", "flie:disk.img", "mem:1G"),
            ("listen = 4420", "listen = \"here\"", "`here` is not a valid address"),
        ] {
            let error = Config::from_toml(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(word), "{to}: {error}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4096", 4096), ("64K", 65_536), ("1G", 1 << 30), ("2TiB", 2 << 40), ("3MB", 3 << 20)] {
            assert_eq!(size_in_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "G", "1.5G", "99999999999T", "-1"] {
            assert!(size_in_bytes(text).is_err(), "{text}");
        }
    }
}
