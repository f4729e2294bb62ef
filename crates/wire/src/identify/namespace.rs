//! Identify Namespace, namespace lists and namespace identifiers.

use alloc::vec::Vec;

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32, U64},
};

wire! {
    /// LBA format. NVM Command Set Specification, "LBA Format Data Structure".
    pub struct Lbaf [4] {
        /// Metadata bytes per block.
        0 => pub ms: U16,
        /// Block size 2^n; at least 9.
        2 => pub lbads: u8,
        /// Relative performance.
        3 => pub rp: u8,
    }
}

wire! {
    /// Identify Namespace, CNS 00h. NVM Command Set Specification, "Identify Namespace Data Structure".
    pub struct IdentifyNamespace [4096] {
        /// Size in blocks.
        0 => pub nsze: U64,
        /// Capacity in blocks; 0 not attached.
        8 => pub ncap: U64,
        /// Utilization in blocks.
        16 => pub nuse: U64,
        /// Features.
        24 => pub nsfeat: u8,
        /// LBA formats, 0's based.
        25 => pub nlbaf: u8,
        /// Formatted LBA size.
        26 => pub flbas: u8,
        /// Metadata capabilities.
        27 => pub mc: u8,
        /// Data protection capabilities.
        28 => pub dpc: u8,
        /// Data protection settings.
        29 => pub dps: u8,
        /// Multi-path capabilities: bit 0 shared.
        30 => pub nmic: u8,
        /// Reservation capabilities.
        31 => pub rescap: u8,
        /// Format progress.
        32 => pub fpi: u8,
        /// Deallocate features.
        33 => pub dlfeat: u8,
        /// Atomic write unit, normal, 0's based.
        34 => pub nawun: U16,
        /// Atomic write unit, power fail, 0's based.
        36 => pub nawupf: U16,
        /// Atomic compare and write unit, 0's based.
        38 => pub nacwu: U16,
        /// Atomic boundary size, normal.
        40 => pub nabsn: U16,
        /// Atomic boundary offset.
        42 => pub nabo: U16,
        /// Atomic boundary size, power fail.
        44 => pub nabspf: U16,
        /// Optimal I/O boundary in blocks.
        46 => pub noiob: U16,
        /// Capacity in bytes, 128 bits.
        48 => pub nvmcap: [u8; 16],
        /// Preferred write granularity, 0's based.
        64 => pub npwg: U16,
        /// Preferred write alignment, 0's based.
        66 => pub npwa: U16,
        /// Preferred deallocate granularity, 0's based.
        68 => pub npdg: U16,
        /// Preferred deallocate alignment, 0's based.
        70 => pub npda: U16,
        /// Optimal write size, 0's based.
        72 => pub nows: U16,
        /// Copy: blocks per range.
        74 => pub mssrl: U16,
        /// Copy: blocks in all.
        76 => pub mcl: U32,
        /// Copy: ranges, 0's based.
        80 => pub msrc: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        81 => pub rsvd0: [u8; 11],
        /// ANA group.
        92 => pub anagrpid: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        96 => pub rsvd1: [u8; 3],
        /// Attributes: bit 0 write protected.
        99 => pub nsattr: u8,
        /// NVM set.
        100 => pub nvmsetid: U16,
        /// Endurance group.
        102 => pub endgid: U16,
        /// NGUID, in the order in which it is printed.
        104 => pub nguid: [u8; 16],
        /// EUI-64, in the order in which it is printed.
        120 => pub eui64: [u8; 8],
        /// LBA formats.
        128 => pub lbaf: [Lbaf; 64],
        /// Reserved, zero.
        #[doc(hidden)]
        384 => pub rsvd2: [u8; 3712],
    }
}

/// Blocks of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Number of blocks.
    pub blocks: u64,
    /// Data bytes of a block, a power of two from 512 on.
    pub block_size: u32,
    /// Metadata bytes of a block.
    pub metadata: u16,
    /// Whether metadata travels interleaved with the data.
    pub extended: bool,
}

/// Why a namespace cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GeometryError {
    /// NSZE or NCAP 0: nothing attached under this identifier.
    #[error("the namespace is not attached (its size or capacity is 0)")]
    NotAttached,
    /// FLBAS names a format that the namespace does not have.
    #[error("the namespace uses LBA format {used} of {formats}")]
    NoSuchFormat {
        /// Index in use.
        used: u8,
        /// Number of formats.
        formats: u8,
    },
    /// LBADS out of range.
    #[error("the namespace has blocks of 2^{0} bytes, 2^9 to 2^24 are possible")]
    BlockSize(u8),
    /// NSZE times the block size does not fit in 64 bits.
    #[error("the namespace claims {blocks} blocks of {block_size} bytes, more than can be addressed")]
    TooLarge {
        /// Number of blocks.
        blocks: u64,
        /// Bytes of a block.
        block_size: u32,
    },
}

impl IdentifyNamespace {
    /// Size and blocks.
    ///
    /// # Errors
    /// If no namespace can be like that.
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let blocks = self.nsze.get();
        if blocks == 0 || self.ncap.get() == 0 {
            return Err(GeometryError::NotAttached);
        }
        let used = (self.flbas & 0xF) | (self.flbas >> 5 & 3) << 4;
        let format = self.lbaf[usize::from(used)];
        // Formats beyond NLBAF exist (NULBAF), so an unused index shows by its block size of zero.
        if format.lbads == 0 {
            return Err(GeometryError::NoSuchFormat { used, formats: self.nlbaf.saturating_add(1) });
        }
        if !(9..=24).contains(&format.lbads) {
            return Err(GeometryError::BlockSize(format.lbads));
        }
        let block_size = 1u32 << format.lbads;
        if blocks.checked_mul(u64::from(block_size)).is_none() {
            return Err(GeometryError::TooLarge { blocks, block_size });
        }
        Ok(Geometry { blocks, block_size, metadata: format.ms.get(), extended: self.flbas & 0x10 != 0 })
    }

    /// Whether more than one controller may have it.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.nmic & 1 != 0
    }

    /// Whether hosts can reserve it: RESCAP offers a type of reservation at least (bits 1 to 6).
    #[must_use]
    pub const fn offers_reservations(&self) -> bool {
        self.rescap & 0x7E != 0
    }

    /// Whether it is write protected.
    #[must_use]
    pub const fn is_write_protected(&self) -> bool {
        self.nsattr & 1 != 0
    }
}

wire! {
    /// CNS 08h. NVM Express Base Specification, "I/O Command Set Independent Identify Namespace Data Structure".
    pub struct NamespaceIndependent [4096] {
        /// Features.
        0 => pub nsfeat: u8,
        /// Multi-path capabilities: bit 0 shared.
        1 => pub nmic: u8,
        /// Reservation capabilities.
        2 => pub rescap: u8,
        /// Format progress.
        3 => pub fpi: u8,
        /// ANA group.
        4 => pub anagrpid: U32,
        /// Attributes: bit 0 write protected.
        8 => pub nsattr: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        9 => pub rsvd0: u8,
        /// NVM set.
        10 => pub nvmsetid: U16,
        /// Endurance group.
        12 => pub endgid: U16,
        /// Status: bit 0 ready.
        14 => pub nstat: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        15 => pub rsvd1: [u8; 4081],
    }
}

wire! {
    /// CNS 05h for the NVM command set. NVM Command Set Specification, "I/O Command Set specific Identify Namespace
    /// Data Structure".
    pub struct NvmNamespace [4096] {
        /// Storage tag mask.
        0 => pub lbstm: U64,
        /// Protection information capabilities.
        8 => pub pic: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        9 => pub rsvd0: [u8; 3],
        /// Extended LBA formats.
        12 => pub elbaf: [U32; 64],
        /// Preferred deallocate granularity, large.
        268 => pub npdgl: U32,
        /// Preferred read granularity.
        272 => pub nprg: U32,
        /// Preferred read alignment.
        276 => pub npra: U32,
        /// Optimal read size.
        280 => pub nors: U32,
        /// Preferred deallocate alignment, large.
        284 => pub npdal: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        288 => pub rsvd1: [u8; 3808],
    }
}

wire! {
    /// CNS 06h for the NVM command set. NVM Command Set Specification, "I/O Command Set specific Identify Controller
    /// Data Structure".
    pub struct NvmController [4096] {
        /// Verify size limit, 2^n pages; 0 none.
        0 => pub vsl: u8,
        /// Write Zeroes size limit, 2^n pages; 0 none.
        1 => pub wzsl: u8,
        /// Write Uncorrectable size limit, 2^n pages; 0 none.
        2 => pub wusl: u8,
        /// Dataset Management ranges; 0 no limit.
        3 => pub dmrl: u8,
        /// Dataset Management blocks per range; 0 no limit.
        4 => pub dmrsl: U32,
        /// Dataset Management blocks in all; 0 no limit.
        8 => pub dmsl: U64,
        /// Reserved, zero.
        #[doc(hidden)]
        16 => pub rsvd: [u8; 4080],
    }
}

/// Why a namespace list was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ListError {
    /// Not ascending, so that reading on would never end.
    #[error("the namespace list is not ascending: {next} follows {before}")]
    NotAscending {
        /// What came before (or the value asked for).
        before: u32,
        /// What came.
        next: u32,
    },
    /// FFFFFFFEh or FFFFFFFFh.
    #[error("the namespace list names the impossible namespace {0:#x}")]
    BadNamespace(u32),
}

/// Entries of a namespace list.
const LIST_MAX: usize = 1024;

/// Reads a namespace list (CNS 02h) that was asked for the namespaces above `after`. Fewer than 1024 entries mean that
/// there are no more.
///
/// # Errors
/// If it is not ascending, or names what no namespace can be.
pub fn parse_list(bytes: &[u8], after: u32) -> Result<Vec<u32>, ListError> {
    let mut list = Vec::new();
    let mut before = after;
    for raw in bytes.chunks_exact(4).take(LIST_MAX) {
        let next = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        if next == 0 {
            break;
        }
        if next >= u32::MAX - 1 {
            return Err(ListError::BadNamespace(next));
        }
        if next <= before {
            return Err(ListError::NotAscending { before, next });
        }
        list.push(next);
        before = next;
    }
    Ok(list)
}

/// The namespace list (4096 bytes) with the first 1024 of these ascending namespaces.
#[must_use]
pub fn encode_list(nsids: impl IntoIterator<Item = u32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(LIST_MAX * 4);
    for nsid in nsids.into_iter().take(LIST_MAX) {
        out.extend_from_slice(&nsid.to_le_bytes());
    }
    out.resize(LIST_MAX * 4, 0);
    out
}

wire! {
    struct RawDescriptor [4] {
        0 => nidt: u8,
        1 => nidl: u8,
        2 => rsvd: [u8; 2],
    }
}

/// Identifiers of a namespace, CNS 03h. NVM Express Base Specification, "Namespace Identification Descriptor".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceIds {
    /// EUI-64.
    pub eui64: Option<[u8; 8]>,
    /// NGUID.
    pub nguid: Option<[u8; 16]>,
    /// UUID.
    pub uuid: Option<[u8; 16]>,
    /// Command set; 0 NVM.
    pub csi: Option<u8>,
}

/// Why namespace identifiers were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DescriptorError {
    /// The bytes end within a descriptor.
    #[error("the namespace identifier at byte {0} is cut off")]
    Truncated(usize),
    /// A known type with another length.
    #[error("the namespace identifier at byte {at} has type {nidt} and {nidl} bytes")]
    Length {
        /// Offset of the descriptor.
        at: usize,
        /// Type.
        nidt: u8,
        /// Length.
        nidl: u8,
    },
    /// A type twice, with different values.
    #[error("the namespace has two identifiers of type {0}")]
    Twice(u8),
}

impl DescriptorError {
    /// True if it leaves open which command set the namespace belongs to.
    #[must_use]
    pub const fn is_of_command_set(&self) -> bool {
        matches!(self, Self::Length { nidt: NamespaceIds::CSI, .. } | Self::Twice(NamespaceIds::CSI))
    }
}

impl NamespaceIds {
    const EUI64: u8 = 1;
    const NGUID: u8 = 2;
    const UUID: u8 = 3;
    const CSI: u8 = 4;

    /// Reads the descriptors; unknown types are skipped, and all-zero identifiers count as absent.
    ///
    /// # Errors
    /// If they are cut off or contradict themselves.
    pub fn parse(bytes: &[u8]) -> Result<Self, DescriptorError> {
        match Self::read(bytes) {
            (ids, None) => Ok(ids),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same of a namespace that need not be lost for a bad descriptor: what can be believed, and the first thing that
    /// cannot. A type whose length is wrong, or that has two values, counts as absent.
    #[must_use]
    pub fn read(bytes: &[u8]) -> (Self, Option<DescriptorError>) {
        let mut ids = Self::default();
        let mut bad = None;
        let mut twice = [false; 4];
        let mut at = 0;
        while let Ok((raw, rest)) = RawDescriptor::ref_from_prefix(&bytes[at..]) {
            if raw.nidl == 0 {
                break;
            }
            let Some(value) = rest.get(..usize::from(raw.nidl)) else {
                bad = bad.or(Some(DescriptorError::Truncated(at)));
                break;
            };
            let length = DescriptorError::Length { at, nidt: raw.nidt, nidl: raw.nidl };
            let result = match raw.nidt {
                Self::EUI64 => set(&mut ids.eui64, value, raw.nidt, length),
                Self::NGUID => set(&mut ids.nguid, value, raw.nidt, length),
                Self::UUID => set(&mut ids.uuid, value, raw.nidt, length),
                Self::CSI => match (value, ids.csi) {
                    (&[csi], Some(before)) if before != csi => Err(DescriptorError::Twice(raw.nidt)),
                    (&[csi], _) => {
                        ids.csi = Some(csi);
                        Ok(())
                    }
                    _ => Err(length),
                },
                _ => Ok(()),
            };
            if let Err(error) = result {
                twice[usize::from(raw.nidt & 3)] |= matches!(error, DescriptorError::Twice(_));
                bad = bad.or(Some(error));
            }
            at += size_of::<RawDescriptor>() + usize::from(raw.nidl);
        }
        // Which of the two is meant, nobody knows.
        ids.eui64 = ids.eui64.filter(|_| !twice[usize::from(Self::EUI64)]);
        ids.nguid = ids.nguid.filter(|_| !twice[usize::from(Self::NGUID)]);
        ids.uuid = ids.uuid.filter(|_| !twice[usize::from(Self::UUID)]);
        (ids, bad)
    }

    /// The descriptors, 4096 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        let mut put = |nidt: u8, value: &[u8]| {
            out.extend_from_slice(RawDescriptor { nidt, nidl: value.len() as u8, rsvd: [0; 2] }.as_bytes());
            out.extend_from_slice(value);
        };
        if let Some(id) = &self.eui64 {
            put(Self::EUI64, id);
        }
        if let Some(id) = &self.nguid {
            put(Self::NGUID, id);
        }
        if let Some(id) = &self.uuid {
            put(Self::UUID, id);
        }
        if let Some(csi) = self.csi {
            put(Self::CSI, &[csi]);
        }
        out.resize(4096, 0);
        out
    }

    /// True if one identifier is equal, whatever the others say.
    #[must_use]
    pub fn shares_one_with(&self, other: &Self) -> bool {
        (self.uuid.is_some() && self.uuid == other.uuid)
            || (self.nguid.is_some() && self.nguid == other.nguid)
            || (self.eui64.is_some() && self.eui64 == other.eui64)
    }

    /// Whether there is anything by which the namespace can be known again on another path.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.eui64.is_some() || self.nguid.is_some() || self.uuid.is_some()
    }
}

fn set<const N: usize>(
    to: &mut Option<[u8; N]>,
    value: &[u8],
    nidt: u8,
    length: DescriptorError,
) -> Result<(), DescriptorError> {
    let value = <[u8; N]>::try_from(value).map_err(|_| length)?;
    if value == [0; N] {
        return Ok(());
    }
    if to.is_some_and(|before| before != value) {
        return Err(DescriptorError::Twice(nidt));
    }
    *to = Some(value);
    Ok(())
}
