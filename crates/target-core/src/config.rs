//! What a target is, before anybody connects to it.
//!
//! Plain values without defaults hidden elsewhere: the driver and the tests fill them in, `Control::new` checks them
//! once and names the first thing that cannot work.

use crate::namespace::Namespace;
use crate::quota::buffer;
use crate::{PortId, SubsystemId};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;
use interlock_wire::fabrics::CNTLID_MAX;
use interlock_wire::nqn::Nqn;

/// How long a controller that lost an I/O connection waits to be disabled or shut down in order. Linux allows itself 5 s
/// for a shutdown.
pub(crate) const QUEUE_LOSS_GRACE: Duration = Duration::from_secs(5);

/// How long a discovery controller without keep alive may stay silent.
pub const DISCOVERY_IDLE: Duration = Duration::from_secs(120);

/// How long the admin queue of a controller that serves nothing (disabled, failed, shut down) may stay silent where no
/// Keep Alive Timeout ends it: a host that resets needs a moment, one that was frozen in between never comes back.
pub const ASSOCIATION_IDLE: Duration = Duration::from_secs(120);

/// Longest Keep Alive Timeout that is granted, in milliseconds: a controller whose host has gone is held for twice as long.
pub const KATO_MAX: u32 = 3_600_000;

/// Most data of one admin or Fabrics command that a host sends, in bytes: what every in-capsule command fits in.
pub const ADMIN_DATA_MAX: u32 = 8192;

/// A whole target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The subsystems; their place is their [`SubsystemId`].
    pub subsystems: Vec<SubsystemConfig>,
    /// The ports. Every subsystem is offered on every port that does not say otherwise.
    pub ports: Vec<PortConfig>,
    /// How many lanes there are: ids 0..lanes. At least 1.
    pub lanes: u16,
    /// What a peer can make the target hold.
    pub limits: Limits,
}

/// One NVM subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubsystemConfig {
    /// Its NQN.
    pub nqn: Nqn,
    /// Serial number, ASCII, at most 20 characters.
    pub serial: String,
    /// Model number, ASCII, at most 40 characters.
    pub model: String,
    /// Who may connect.
    pub hosts: Hosts,
    /// The namespaces it begins with.
    pub namespaces: Vec<Namespace>,
    /// Lowest and highest CNTLID: nodes that serve one subsystem together use ranges that do not meet.
    pub cntlids: (u16, u16),
    /// Keep-alive granularity (KAS) in units of 100 ms, at least 1. Requested timeouts are rounded up to it.
    pub kas: u16,
    /// Traffic based keep alive (TBKAS): every command proves that the host is alive.
    pub tbkas: bool,
    /// Command Quiesce Time as reported, in milliseconds; 0 reports nothing.
    pub cqt_ms: u16,
    /// How long after a *noticed* loss the life really quiesces, in milliseconds. An honest target reports at least
    /// this as `cqt_ms`.
    pub quiesce_ms: u32,
    /// Cross-controller reset.
    pub ccr: Ccr,
    /// ANA reporting, with groups 1..=`groups`; none if 0. A namespace names its group.
    pub ana_groups: u32,
}

/// Cross-controller reset, as offered by a subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ccr {
    /// Not offered: CIU, CIRN and CCRL read 0, opcode 38h is invalid.
    Off,
    /// Offered.
    On {
        /// CCRL: how many may be in progress at once per source controller, 1 to 255. The specification's advice is 4.
        limit: u8,
        /// A life goes on executing what it holds for so long after the CCR came, in milliseconds; 0 is a good target.
        drain_ms: u32,
        /// How long the answer may wait for the reset to finish, so that it can say "immediate", in milliseconds.
        answer_ms: u32,
    },
}

impl Ccr {
    /// On, immediate, four at once; the answer waits at most 10 ms.
    pub const DEFAULT: Self = Self::On { limit: 4, drain_ms: 0, answer_ms: 10 };

    /// CCRL.
    #[must_use]
    pub const fn limit(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::On { limit, .. } => limit,
        }
    }
}

/// Who may connect to a subsystem. Access is by Host NQN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hosts {
    /// Every host.
    Any,
    /// These and no other.
    List(Vec<Nqn>),
}

impl Hosts {
    /// True if `host` may connect.
    #[must_use]
    pub fn admits(&self, host: &Nqn) -> bool {
        match self {
            Self::Any => true,
            Self::List(list) => list.contains(host),
        }
    }
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortConfig {
    /// Its number, unique.
    pub id: PortId,
    /// Where it listens. With port 0 the driver tells the real one after binding (`Control::set_port_address`). With
    /// an unspecified address the discovery log shows the local address of the connection that reads it.
    pub address: SocketAddr,
    /// What it offers.
    pub offers: Offers,
}

/// What a port offers besides the discovery service, which every port offers under the well-known NQN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Offers {
    /// Discovery only.
    Discovery,
    /// All subsystems.
    All,
    /// These subsystems.
    Some(Vec<SubsystemId>),
}

impl Offers {
    /// True if `subsystem` is reached through this port.
    #[must_use]
    pub fn includes(&self, subsystem: SubsystemId) -> bool {
        match self {
            Self::Discovery => false,
            Self::All => true,
            Self::Some(list) => list.contains(&subsystem),
        }
    }
}

/// What a peer can make the target hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Connections per lane. At this much, the oldest one without a complete Connect makes room for a new one; if there
    /// is none, the new one is closed at once.
    pub connections: u32,
    /// Connections per lane without a complete Connect. At this much, the oldest of them makes room for a new one: a host
    /// that means it is through in milliseconds, so it is never the oldest for long.
    pub half_open: u32,
    /// How long a connection may stay without a complete Connect, in milliseconds, 100 to 600,000.
    pub handshake_ms: u32,
    /// How long a peer may leave the data of a command unsent, or an answer untaken, before its connection is over, in
    /// milliseconds, 1000 to 3,600,000. It is over after this time and before twice as much.
    pub transfer_ms: u32,
    /// Controllers per subsystem, and discovery controllers of the whole target.
    pub controllers: u16,
    /// I/O queues per controller.
    pub io_queues: u16,
    /// Deepest queue in entries, 2 to 4096. CAP.MQES is one less.
    pub queue_depth: u16,
    /// Largest data transfer of one command in bytes: 4096 times a power of two (MDTS).
    pub max_transfer: u32,
    /// Most in-capsule data of an I/O command in bytes, a multiple of 16 (IOCCSZ).
    pub in_capsule: u32,
    /// Most data in one H2CData PDU in bytes, a multiple of 4, at least 4096.
    pub max_h2c_data: u32,
    /// Bytes that peers can make a lane hold, whatever they do: buffers, data of admin commands, answers, and what
    /// connections and controllers take as such, which is a half at most. Without room commands wait for others, and connections
    /// are refused. What one address may have of it depends on what is left ([`SHARE`](crate::SHARE)). At least
    /// [`Limits::memory_min`].
    pub memory: u64,
    /// Bytes in buffers per connection: one of several connections from an address cannot take all that the address may have.
    /// At least `max_transfer`.
    pub buffered_per_connection: u64,
    /// Payload bytes in free buffers that a lane keeps and gives to the next command at once, instead of asking for one;
    /// beyond that it gives them back. 0: it keeps none.
    pub stock: u64,
    /// Grant header digests to hosts that ask.
    pub hdgst: bool,
    /// Grant data digests to hosts that ask.
    pub ddgst: bool,
    /// Largest Controller Instance Uniquifier, 1 to 255: they start anywhere and go round. A small one makes lives of one
    /// Controller ID share their CIU often, which the Controller Instance Random Number then has to tell apart.
    pub ciu_max: u8,
}

/// What a connection takes as such, in bytes.
pub(crate) const CONNECTION_BYTES: u64 = 8192;

/// What a controller takes besides, in bytes.
pub(crate) const CONTROLLER_BYTES: u64 = 16_384;

/// What each command takes that a queue can hold, in bytes, data aside.
pub(crate) const COMMAND_BYTES: u64 = 512;

impl Limits {
    /// What a queue takes whose Connect asks for `sqsize` (0's based), besides its connection, in bytes.
    #[must_use]
    pub(crate) fn queue_bytes(&self, sqsize: u16) -> u64 {
        // As many as `Queue::connected` makes room for.
        let slots = (u64::from(sqsize) + 1).min(self.queue_depth.into()) * 2;
        slots * COMMAND_BYTES + self.reserve()
    }

    /// What each queue sets aside for the one command whose data came along with it, in bytes: what such data takes at most.
    pub(crate) fn reserve(&self) -> u64 {
        buffer(self.in_capsule.max(ADMIN_DATA_MAX))
    }

    /// The least that [`memory`](Self::memory) can be: there is room for a transfer and an association even where others
    /// took what they can.
    #[must_use]
    pub fn memory_min(&self) -> u64 {
        let queue = CONNECTION_BYTES + CONTROLLER_BYTES + self.queue_bytes(self.queue_depth);
        4 * u64::from(self.max_transfer).max(queue)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            half_open: 1024,
            handshake_ms: 10_000,
            transfer_ms: 30_000,
            controllers: 1024,
            io_queues: 64,
            queue_depth: 128,
            max_transfer: 1024 * 1024,
            in_capsule: 8192,
            max_h2c_data: 256 * 1024,
            memory: 512 * 1024 * 1024,
            buffered_per_connection: 32 * 1024 * 1024,
            stock: 0,
            hdgst: true,
            ddgst: true,
            ciu_max: u8::MAX,
        }
    }
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two ports have one number.
    #[error("port {} is there twice", .0.0)]
    PortTwice(PortId),
    /// Two subsystems have one NQN, or one has that of the discovery service.
    #[error("subsystem `{0}` is there twice, or has the NQN of the discovery service")]
    NqnTaken(Nqn),
    /// A number is outside of its range.
    #[error("{what} is {value}; it must be {range}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
    /// A text is too long or not printable ASCII.
    #[error("{what} `{text}` must be printable ASCII of at most {max} characters")]
    Text {
        /// Which text.
        what: &'static str,
        /// What it is.
        text: String,
        /// Most characters.
        max: usize,
    },
    /// A namespace cannot be.
    #[error("subsystem `{nqn}`: {why}")]
    Namespace {
        /// Where.
        nqn: Nqn,
        /// Why.
        why: NamespaceError,
    },
}

/// Why a namespace cannot be added or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// NSID 0, or above [`NSID_MAX`](crate::NSID_MAX).
    #[error("namespace id {0} is outside of 1..={max}", max = crate::NSID_MAX)]
    Id(u32),
    /// The NSID is taken.
    #[error("namespace {0} is there already")]
    Taken(u32),
    /// Another namespace has the same identifiers.
    #[error("namespaces {0} and {1} have the same NGUID, UUID or EUI64")]
    SameIdentity(u32, u32),
    /// No blocks, or a size that is not 512 or 4096.
    #[error("namespace {0}: the block size must be 512 or 4096 and there must be at least one block")]
    Shape(u32),
    /// The ANA group does not exist.
    #[error("namespace {nsid}: ANA group {group} does not exist")]
    Group {
        /// Which namespace.
        nsid: u32,
        /// Its group.
        group: u32,
    },
    /// No such namespace or subsystem.
    #[error("namespace {0} is not there")]
    Absent(u32),
}

impl Config {
    /// Checks everything that can be checked without a network.
    ///
    /// # Errors
    /// The first thing that cannot work, by name.
    pub fn check(&self) -> Result<(), ConfigError> {
        let ranged = |what, value: u64, low: u64, high: u64, range| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { what, value, range }) }
        };
        let limits = &self.limits;
        ranged("lanes", self.lanes.into(), 1, 1024, "1 to 1024")?;
        ranged("queue_depth", limits.queue_depth.into(), 32, 4096, "32 to 4096")?;
        ranged("io_queues", limits.io_queues.into(), 1, 65_534, "1 to 65534")?;
        ranged("controllers", limits.controllers.into(), 1, CNTLID_MAX.into(), "1 to 65519")?;
        ranged("in_capsule", limits.in_capsule.into(), 0, 1 << 20, "at most 1 MiB")?;
        let power = limits.max_transfer.is_power_of_two();
        ranged("max_transfer", if power { limits.max_transfer.into() } else { 0 }, 8192, 1 << 26, POWER)?;
        ranged("max_h2c_data", limits.max_h2c_data.into(), 4096, 1 << 26, "4096 to 64 MiB")?;
        ranged("max_h2c_data modulo 4", (limits.max_h2c_data % 4).into(), 0, 0, "0")?;
        ranged("in_capsule modulo 16", (limits.in_capsule % 16).into(), 0, 0, "0")?;
        ranged("connections", limits.connections.into(), 1, 1 << 20, "1 to 1048576")?;
        ranged("half_open", limits.half_open.into(), 1, 1 << 20, "1 to 1048576")?;
        ranged("handshake_ms", limits.handshake_ms.into(), 100, 600_000, "100 to 600000")?;
        ranged("transfer_ms", limits.transfer_ms.into(), 1000, 3_600_000, "1000 to 3600000")?;
        let least = limits.max_transfer.into();
        ranged("buffered_per_connection", limits.buffered_per_connection, least, u64::MAX, "at least max_transfer")?;
        let range = "at least 4 transfers, and 4 of the deepest queues";
        ranged("memory", limits.memory, limits.memory_min(), u64::MAX, range)?;
        for (n, port) in self.ports.iter().enumerate() {
            if self.ports[..n].iter().any(|other| other.id == port.id) {
                return Err(ConfigError::PortTwice(port.id));
            }
        }
        for (n, subsystem) in self.subsystems.iter().enumerate() {
            let taken = self.subsystems[..n].iter().any(|other| other.nqn == subsystem.nqn);
            if taken || subsystem.nqn.is_discovery() {
                return Err(ConfigError::NqnTaken(subsystem.nqn.clone()));
            }
            subsystem.check(&ranged)?;
        }
        Ok(())
    }
}

const POWER: &str = "a power of two from 8192 to 64 MiB";

impl SubsystemConfig {
    fn check(
        &self,
        ranged: &impl Fn(&'static str, u64, u64, u64, &'static str) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        for (what, text, max) in [("serial", &self.serial, 20), ("model", &self.model, 40)] {
            if text.len() > max || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
                return Err(ConfigError::Text { what, text: text.clone(), max });
            }
        }
        let (low, high) = self.cntlids;
        ranged("lowest CNTLID", low.into(), 1, CNTLID_MAX.into(), "1 to 65519")?;
        ranged("highest CNTLID", high.into(), low.into(), CNTLID_MAX.into(), "the lowest to 65519")?;
        ranged("kas", self.kas.into(), 1, 600, "1 to 600")?;
        ranged("ana_groups", self.ana_groups.into(), 0, 1024, "at most 1024")?;
        if let Ccr::On { limit, answer_ms, .. } = self.ccr {
            ranged("ccr limit", limit.into(), 1, 255, "1 to 255")?;
            ranged("ccr answer_ms", answer_ms.into(), 0, 1000, "at most 1000")?;
        }
        Ok(())
    }
}
