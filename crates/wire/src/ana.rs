//! Asymmetric Namespace Access: which path may serve which namespace.
//!
//! The log is the only place where a host learns that, so it is read strictly: a page that contradicts itself is
//! refused as a whole rather than half believed.
//!
//! NVM Express Base Specification, "Asymmetric Namespace Access Log Page".

use alloc::vec::Vec;
use core::fmt;

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32, U64},
};

use crate::status::Status;

/// LSP bit: groups only, without their namespaces (RGO).
pub const LSP_GROUPS_ONLY: u8 = 1;

/// State of a group, seen through one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// The way to go.
    Optimized = 0x1,
    /// Works, but another way is better.
    NonOptimized = 0x2,
    /// Not through this controller.
    Inaccessible = 0x3,
    /// Never again through this controller.
    PersistentLoss = 0x4,
    /// On its way to another state, for at most ANATT.
    Change = 0xF,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Optimized, Self::NonOptimized, Self::Inaccessible, Self::PersistentLoss, Self::Change];

    /// From its number, if that is one.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == value)
    }

    /// Whether I/O is served in this state.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }

    /// What I/O is answered with in this state; `None` if it is served.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        match self {
            Self::Optimized | Self::NonOptimized => None,
            Self::Inaccessible => Some(Status::ANA_INACCESSIBLE),
            Self::PersistentLoss => Some(Status::ANA_PERSISTENT_LOSS),
            Self::Change => Some(Status::ANA_TRANSITION),
        }
    }

    /// The name that sysfs and nvme-cli use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

wire! {
    struct RawHeader [16] {
        0 => chgcnt: U64,
        8 => ngrps: U16,
        10 => rsvd: [u8; 6],
    }
}

wire! {
    struct RawGroup [32] {
        0 => grpid: U32,
        4 => nnsids: U32,
        8 => chgcnt: U64,
        16 => state: u8,
        17 => rsvd: [u8; 15],
    }
}

/// A group of namespaces that change state together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Identifier, 1 to ANAGRPMAX.
    pub id: u32,
    /// Its own change count; 0 not reported.
    pub change_count: u64,
    /// State.
    pub state: State,
    /// Its namespaces, ascending. Empty if only groups were asked for.
    pub nsids: Vec<u32>,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    /// Counts changes of the log.
    pub change_count: u64,
    /// Groups, ascending.
    pub groups: Vec<Group>,
}

/// Why a log was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LogError {
    /// Fewer bytes than the header.
    #[error("the ANA log has {0} bytes, its header needs 16")]
    NoHeader(usize),
    /// The bytes end within a group.
    #[error("the ANA log ends within group {index} of {groups}")]
    Truncated {
        /// Which descriptor, from 0.
        index: u16,
        /// How many the header claims.
        groups: u16,
    },
    /// Group identifier 0.
    #[error("the ANA log has a group with identifier 0")]
    GroupZero,
    /// A group twice.
    #[error("the ANA log names group {0} twice")]
    GroupTwice(u32),
    /// A state without a meaning.
    #[error("the ANA log gives group {group} the unknown state {state:#x}")]
    UnknownState {
        /// Group.
        group: u32,
        /// State.
        state: u8,
    },
    /// Namespace 0 or FFFFFFFFh.
    #[error("the ANA log puts the impossible namespace {nsid:#x} into group {group}")]
    BadNamespace {
        /// Group.
        group: u32,
        /// Namespace.
        nsid: u32,
    },
    /// A namespace twice.
    #[error("the ANA log names namespace {0} twice")]
    NamespaceTwice(u32),
}

impl Log {
    /// Bytes to read for everything a controller can report, from Identify Controller's NANAGRPID and MNAN (or NN
    /// where MNAN is 0).
    #[must_use]
    pub const fn max_len(nanagrpid: u32, mnan: u32) -> u64 {
        16 + nanagrpid as u64 * 32 + mnan as u64 * 4
    }

    /// Reads one. What follows the last group is ignored.
    ///
    /// # Errors
    /// If it is cut off or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        let (header, mut rest) = RawHeader::ref_from_prefix(bytes).map_err(|_| LogError::NoHeader(bytes.len()))?;
        let claimed = header.ngrps.get();
        let mut groups: Vec<Group> = Vec::new();
        let mut seen: Vec<u32> = Vec::new();
        for index in 0..claimed {
            let truncated = LogError::Truncated { index, groups: claimed };
            let (raw, behind) = RawGroup::ref_from_prefix(rest).map_err(|_| truncated)?;
            let count = usize::try_from(raw.nnsids.get()).map_err(|_| truncated)?;
            let (nsids, behind) = <[U32]>::ref_from_prefix_with_elems(behind, count).map_err(|_| truncated)?;
            rest = behind;
            let id = raw.grpid.get();
            if id == 0 {
                return Err(LogError::GroupZero);
            }
            let code = raw.state & 0xF;
            let state = State::from_u8(code).ok_or(LogError::UnknownState { group: id, state: code })?;
            let mut nsids: Vec<u32> = nsids.iter().map(|n| n.get()).collect();
            if let Some(&nsid) = nsids.iter().find(|n| matches!(**n, 0 | u32::MAX)) {
                return Err(LogError::BadNamespace { group: id, nsid });
            }
            nsids.sort_unstable();
            seen.extend_from_slice(&nsids);
            groups.push(Group { id, change_count: raw.chgcnt.get(), state, nsids });
        }
        groups.sort_by_key(|group| group.id);
        if let Some(pair) = groups.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(LogError::GroupTwice(pair[0].id));
        }
        seen.sort_unstable();
        if let Some(pair) = seen.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(LogError::NamespaceTwice(pair[0]));
        }
        Ok(Self { change_count: header.chgcnt.get(), groups })
    }

    /// The page. `groups_only` leaves the namespaces out.
    #[must_use]
    pub fn encode(&self, groups_only: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let header =
            RawHeader { chgcnt: U64::new(self.change_count), ngrps: U16::new(self.groups.len() as u16), rsvd: [0; 6] };
        out.extend_from_slice(header.as_bytes());
        for group in &self.groups {
            let nsids = if groups_only { &[] } else { group.nsids.as_slice() };
            let raw = RawGroup {
                grpid: U32::new(group.id),
                nnsids: U32::new(nsids.len() as u32),
                chgcnt: U64::new(group.change_count),
                state: group.state as u8,
                rsvd: [0; 15],
            };
            out.extend_from_slice(raw.as_bytes());
            for nsid in nsids {
                out.extend_from_slice(&nsid.to_le_bytes());
            }
        }
        out
    }

    /// The group with this identifier.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&Group> {
        self.groups.binary_search_by_key(&id, |group| group.id).ok().map(|at| &self.groups[at])
    }

    /// The state of a namespace that the log names.
    #[must_use]
    pub fn state_of(&self, nsid: u32) -> Option<State> {
        self.groups.iter().find(|group| group.nsids.binary_search(&nsid).is_ok()).map(|group| group.state)
    }
}
