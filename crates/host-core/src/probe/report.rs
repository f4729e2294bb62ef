//! What a look found.

use crate::LifeFacts;
use alloc::boxed::Box;
use alloc::vec::Vec;
use interlock_proto::host::Facts;
use interlock_wire::FromBytes;
use interlock_wire::discovery::{Entry, Header, Log, LogError, Record, RecordError};
use interlock_wire::identify::Geometry;

/// What a target said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The controller that answered.
    pub facts: Box<Facts>,
    /// What it was asked for.
    pub found: Found,
}

/// By goal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The discovery log.
    Discovery(DiscoveryLog),
    /// The subsystem.
    Subsystem(SubsystemFound),
}

/// A discovery log, read as a whole: the generation was the same before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryLog {
    /// Generation counter.
    pub generation: u64,
    /// The records, as they are on the wire: also those for transports that this host does not speak.
    pub entries: Vec<Entry>,
}

impl DiscoveryLog {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        // The checks of the format stand in one place.
        let log = Log::parse(bytes)?;
        let rest = Header::ref_from_prefix(bytes).map_or(&[][..], |(_, rest)| rest);
        let count = log.records.len();
        let entries =
            <[Entry]>::ref_from_prefix_with_elems(rest, count).map_or_else(|_| Vec::new(), |(e, _)| e.to_vec());
        Ok(Self { generation: log.generation, entries })
    }

    /// The records, each usable or not.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, RecordError>> + '_ {
        self.entries.iter().map(Entry::parse)
    }
}

/// A subsystem, as a failover sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubsystemFound {
    /// Keep Alive Timer as the controller reports it, in milliseconds; `None` if it does not say.
    pub kato_ms: Option<u32>,
    /// Its namespaces, ascending.
    pub namespaces: Vec<NamespaceFound>,
    /// True if it has more than were asked for.
    pub more_namespaces: bool,
}

/// One namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceFound {
    /// Namespace identifier.
    pub nsid: u32,
    /// Blocks.
    pub geometry: Geometry,
    /// Several controllers may have it at once (NMIC).
    pub shared: bool,
    /// Hosts can reserve it (RESCAP offers a type of reservation).
    pub reservations: bool,
    /// Write protected.
    pub read_only: bool,
    /// ANA group; 0 if it is in none.
    pub anagrpid: u32,
}

impl ProbeReport {
    /// As the stall function wants it.
    #[must_use]
    pub fn life_facts(&self) -> LifeFacts {
        LifeFacts::of(&self.facts, self.facts.identify.events(), 1)
    }
}
