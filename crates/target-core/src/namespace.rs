//! Namespaces, and through which port they can be reached how.
//!
//! One table per subsystem, made by `Control` and given whole to every lane after each change: what a lane checks a
//! command against is always one consistent state.

use crate::config::NamespaceError;
use crate::{PortId, Work};
use alloc::collections::BTreeMap;
use interlock_wire::ana::State;
use interlock_wire::status::Status;

/// Highest NSID: the number of namespaces (NN, MNAN) that Identify Controller states, so that the ANA log and the
/// list of changed namespaces stay small.
pub const NSID_MAX: u32 = 1024;

/// One namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// Namespace Identifier, 1..=[`NSID_MAX`].
    pub nsid: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// log2 of the block size in bytes: 9 or 12.
    pub block_shift: u8,
    /// Writes answer Namespace Is Write Protected.
    pub read_only: bool,
    /// Namespace Globally Unique Identifier, the same on every path and after every restart.
    pub nguid: [u8; 16],
    /// Namespace UUID in RFC 4122 byte order.
    pub uuid: [u8; 16],
    /// IEEE Extended Unique Identifier, if one is stated.
    pub eui64: Option<[u8; 8]>,
    /// ANA group; ignored if the subsystem reports no ANA.
    pub ana_group: u32,
    /// What reading a deallocated or zeroed block yields: true if zeros, as a memory or sparse file does.
    pub zeroes_when_deallocated: bool,
}

impl Namespace {
    fn shares_identity(&self, other: &Self) -> bool {
        let eui64 = self.eui64.is_some() && self.eui64 == other.eui64;
        self.nguid == other.nguid || self.uuid == other.uuid || eui64
    }

    /// True if every block that `work` touches exists.
    #[must_use]
    pub fn holds(&self, work: &Work) -> bool {
        work.ranges().all(|range| range.slba.checked_add(range.blocks).is_some_and(|end| end <= self.blocks))
    }
}

/// All namespaces of one subsystem, and the ANA states of its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Namespaces {
    by_id: BTreeMap<u32, Entry>,
    /// How many were ever added.
    added: u64,
    groups: u32,
    /// Only what is not Optimized.
    ana: BTreeMap<(PortId, u32), State>,
}

/// A namespace, and which of those that ever had its NSID it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    serial: u64,
    namespace: Namespace,
}

impl Namespaces {
    /// No namespaces; `groups` ANA groups, 0 for none at all.
    #[must_use]
    pub fn new(groups: u32) -> Self {
        Self { groups, ..Self::default() }
    }

    /// Adds one.
    ///
    /// # Errors
    /// If it cannot be, or its NSID or identity is taken.
    pub fn add(&mut self, namespace: Namespace) -> Result<(), NamespaceError> {
        let nsid = namespace.nsid;
        if nsid == 0 || nsid > NSID_MAX {
            return Err(NamespaceError::Id(nsid));
        }
        if !matches!(namespace.block_shift, 9 | 12) || namespace.blocks == 0 {
            return Err(NamespaceError::Shape(nsid));
        }
        if self.groups != 0 && !(1..=self.groups).contains(&namespace.ana_group) {
            return Err(NamespaceError::Group { nsid, group: namespace.ana_group });
        }
        if self.by_id.contains_key(&nsid) {
            return Err(NamespaceError::Taken(nsid));
        }
        if let Some(same) = self.iter().find(|other| other.shares_identity(&namespace)) {
            return Err(NamespaceError::SameIdentity(same.nsid, nsid));
        }
        self.added += 1;
        self.by_id.insert(nsid, Entry { serial: self.added, namespace });
        Ok(())
    }

    /// Changes the size of one.
    ///
    /// # Errors
    /// If it is not there, or nothing would be left of it.
    pub fn resize(&mut self, nsid: u32, blocks: u64) -> Result<(), NamespaceError> {
        let entry = self.by_id.get_mut(&nsid).ok_or(NamespaceError::Absent(nsid))?;
        if blocks == 0 {
            return Err(NamespaceError::Shape(nsid));
        }
        entry.namespace.blocks = blocks;
        Ok(())
    }

    /// Takes one away.
    ///
    /// # Errors
    /// If it is not there.
    pub fn remove(&mut self, nsid: u32) -> Result<(), NamespaceError> {
        self.by_id.remove(&nsid).map(|_| ()).ok_or(NamespaceError::Absent(nsid))
    }

    /// Sets the ANA state of a group as seen through a port. Answers whether it changed; groups that do not exist and
    /// states that are no state of a group do not.
    pub fn set_ana(&mut self, port: PortId, group: u32, state: State) -> bool {
        if !(1..=self.groups).contains(&group) || self.state(port, group) == state {
            return false;
        }
        if state == State::Optimized {
            self.ana.remove(&(port, group));
        } else {
            self.ana.insert((port, group), state);
        }
        true
    }

    /// The ANA state of a group as seen through a port.
    #[must_use]
    pub fn state(&self, port: PortId, group: u32) -> State {
        self.ana.get(&(port, group)).copied().unwrap_or(State::Optimized)
    }

    /// How many ANA groups there are; 0: ANA is not reported.
    #[must_use]
    pub const fn groups(&self) -> u32 {
        self.groups
    }

    /// One namespace.
    #[must_use]
    pub fn get(&self, nsid: u32) -> Option<&Namespace> {
        self.by_id.get(&nsid).map(|entry| &entry.namespace)
    }

    /// Which of the namespaces that ever had this NSID it is: a command that waited for anything while one was taken away and
    /// another put in its place must not reach the other.
    #[must_use]
    pub fn serial(&self, nsid: u32) -> Option<u64> {
        self.by_id.get(&nsid).map(|entry| entry.serial)
    }

    /// Why a command cannot go on that was checked against the namespace of this serial number: that one was taken away (and
    /// perhaps another has its NSID now), or no longer has all its blocks.
    pub(crate) fn lapsed(&self, nsid: u32, serial: u64, work: &Work) -> Option<Status> {
        match self.by_id.get(&nsid).filter(|entry| entry.serial == serial) {
            None => Some(Status::INVALID_NAMESPACE.with_dnr()),
            Some(entry) if !entry.namespace.holds(work) => Some(Status::LBA_OUT_OF_RANGE.with_dnr()),
            Some(_) => None,
        }
    }

    /// All namespaces, by ascending NSID.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.by_id.values().map(|entry| &entry.namespace)
    }

    /// Checks a command of `nsid` that came in through `port` against the namespace. `transfer` is the length in bytes
    /// of the data that the command's SGL describes. Answers the [`Namespaces::serial`] of what it was checked against.
    ///
    /// # Errors
    /// The status to answer with.
    pub fn check(&self, port: PortId, nsid: u32, work: &Work, transfer: u32) -> Result<u64, Status> {
        let Entry { serial, namespace } = self.by_id.get(&nsid).ok_or(Status::INVALID_NAMESPACE.with_dnr())?;
        if self.groups != 0
            && let Some(status) = self.state(port, namespace.ana_group).status()
        {
            return Err(status);
        }
        if work.changes_media() && namespace.read_only {
            return Err(Status::NAMESPACE_WRITE_PROTECTED.with_dnr());
        }
        if !namespace.holds(work) {
            return Err(Status::LBA_OUT_OF_RANGE.with_dnr());
        }
        match work.data_blocks() {
            Some(blocks) if blocks << namespace.block_shift != u64::from(transfer) => {
                Err(Status::SGL_DATA_LENGTH_INVALID.with_dnr())
            }
            _ => Ok(*serial),
        }
    }
}
