//! What a disk is, as its namespace states it, and whether what is found later is the same.

use interlock_host::{HostId, NamespaceIds};
use std::fmt;

/// What a disk is: the identifiers that its namespace states, and the size of its blocks.
///
/// Where a namespace is found (subsystem and NSID) says which disk is *meant*; only this says which disk is *there*: an
/// NSID is given to another namespace as soon as the first one is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DiskIdentity {
    /// UUID.
    pub uuid: Option<[u8; 16]>,
    /// NGUID.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64.
    pub eui64: Option<[u8; 8]>,
    /// Bytes per block. Another size moves every byte: whoever counted in the old one must not go on.
    pub block_size: u32,
}

/// Why what is there is not the disk that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// An identifier that both state is another one.
    Identifier {
        /// `UUID`, `NGUID` or `EUI64`.
        name: &'static str,
        /// The disk that is meant.
        bound: DiskIdentity,
        /// The disk that is there.
        found: DiskIdentity,
    },
    /// They have no identifier in common: nothing says that it is the same.
    NothingInCommon {
        /// The disk that is meant.
        bound: DiskIdentity,
        /// The disk that is there.
        found: DiskIdentity,
    },
    /// It is the same disk with blocks of another size.
    BlockSize {
        /// Bytes per block of the disk that is meant.
        bound: u32,
        /// Bytes per block now.
        found: u32,
    },
}

impl DiskIdentity {
    /// Of a namespace that states `ids`.
    #[must_use]
    pub const fn new(ids: &NamespaceIds, block_size: u32) -> Self {
        Self { uuid: ids.uuid, nguid: ids.nguid, eui64: ids.eui64, block_size }
    }

    /// True if it states any identifier. If not, nothing but its place says which disk it is.
    #[must_use]
    pub const fn is_stated(&self) -> bool {
        self.uuid.is_some() || self.nguid.is_some() || self.eui64.is_some()
    }

    /// Why `found` is not this disk. `None`: at least one identifier is the same, none contradicts, and blocks have the same
    /// size; or neither states any identifier.
    #[must_use]
    pub fn difference(&self, found: &Self) -> Option<Difference> {
        let (bound, found) = (*self, *found);
        let pairs = [
            ("UUID", compare(bound.uuid.as_ref(), found.uuid.as_ref())),
            ("NGUID", compare(bound.nguid.as_ref(), found.nguid.as_ref())),
            ("EUI64", compare(bound.eui64.as_ref(), found.eui64.as_ref())),
        ];
        if let Some((name, _)) = pairs.iter().find(|(_, same)| *same == Some(false)) {
            return Some(Difference::Identifier { name, bound, found });
        }
        let common = pairs.iter().any(|(_, same)| *same == Some(true));
        if !common && (bound.is_stated() || found.is_stated()) {
            return Some(Difference::NothingInCommon { bound, found });
        }
        (bound.block_size != found.block_size)
            .then_some(Difference::BlockSize { bound: bound.block_size, found: found.block_size })
    }
}

fn compare<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> Option<bool> {
    Some(one? == other?)
}

/// The strongest identifier, with its name.
impl fmt::Display for DiskIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |f: &mut fmt::Formatter<'_>, name: &str, bytes: &[u8]| {
            write!(f, "{name} ")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        };
        match (&self.uuid, &self.nguid, &self.eui64) {
            (Some(uuid), ..) => write!(f, "UUID {}", HostId(*uuid)),
            (None, Some(nguid), _) => hex(f, "NGUID", nguid),
            (None, None, Some(eui64)) => hex(f, "EUI64", eui64),
            (None, None, None) => f.write_str("a disk without an identifier"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identifier { name: "UUID", bound, found } => {
                write!(f, "another disk is there: {found}, and {bound} is meant")
            }
            Self::Identifier { name, bound, found } => {
                let only = |disk: &DiskIdentity| DiskIdentity {
                    uuid: None,
                    nguid: disk.nguid.filter(|_| *name == "NGUID"),
                    eui64: disk.eui64,
                    block_size: disk.block_size,
                };
                write!(f, "another disk is there: {}, and {} is meant", only(found), only(bound))
            }
            Self::NothingInCommon { bound, found } => {
                write!(f, "nothing says that it is the same disk: {found} is there, and {bound} is meant")
            }
            Self::BlockSize { bound, found } => {
                write!(f, "its blocks have {found} bytes now, and clients count in blocks of {bound} bytes")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const fn disk(id: u8) -> DiskIdentity {
        DiskIdentity { uuid: Some([id; 16]), nguid: Some([id; 16]), eui64: None, block_size: 4096 }
    }

    #[test]
    fn the_same_is_what_has_one_identifier_in_common_and_none_that_contradicts() {
        let bound = disk(1);
        let only_uuid = DiskIdentity { nguid: None, ..bound };
        let only_nguid = DiskIdentity { uuid: None, ..bound };
        let grown = DiskIdentity { eui64: Some([9; 8]), ..bound };
        for same in [bound, only_uuid, only_nguid, grown] {
            assert_eq!(bound.difference(&same), None, "{same:?}");
            assert_eq!(same.difference(&bound), None, "{same:?}");
        }
        let none = DiskIdentity { uuid: None, nguid: None, ..bound };
        assert_eq!(none.difference(&none), None, "there is nothing else to go by");
        let others = [
            (disk(2), "another disk is there: UUID 02020202-"),
            (DiskIdentity { nguid: Some([3; 16]), ..bound }, "another disk is there: NGUID 0303"),
            (DiskIdentity { nguid: Some([3; 16]), uuid: None, ..bound }, "another disk is there: NGUID 0303"),
            (none, "nothing says that it is the same disk: a disk without an identifier is there"),
            (DiskIdentity { eui64: Some([1; 8]), ..none }, "nothing says that it is the same disk: EUI64 0101"),
            (DiskIdentity { block_size: 512, ..bound }, "its blocks have 512 bytes now"),
        ];
        for (other, why) in others {
            let told = bound.difference(&other).expect(why).to_string();
            assert!(told.starts_with(why), "{told}");
        }
        assert!(none.difference(&bound).is_some(), "what was bound without an identifier is not known by one later");
    }
}
