//! Commands of the NVM command set.
//!
//! Besides building and reading them, this says of each what decides a failover: whether it changes media, and
//! whether it may be repeated once its fate is unknown.
//!
//! NVM Express NVM Command Set Specification, "I/O Commands".

use alloc::vec::Vec;

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U32, U64},
};

use crate::{
    sqe::{LateEffect, Sgl, Sqe},
    status::Status,
};

/// Flush.
pub const OPCODE_FLUSH: u8 = 0x00;
/// Write.
pub const OPCODE_WRITE: u8 = 0x01;
/// Read.
pub const OPCODE_READ: u8 = 0x02;
/// Write Uncorrectable.
pub const OPCODE_WRITE_UNCORRECTABLE: u8 = 0x04;
/// Compare.
pub const OPCODE_COMPARE: u8 = 0x05;
/// Write Zeroes.
pub const OPCODE_WRITE_ZEROES: u8 = 0x08;
/// Dataset Management.
pub const OPCODE_DSM: u8 = 0x09;
/// Verify.
pub const OPCODE_VERIFY: u8 = 0x0C;
/// Reservation Report.
pub const OPCODE_RESERVATION_REPORT: u8 = 0x0E;

/// Most blocks one command can name: NLB is a 0's based 16-bit field.
pub const NLB_MAX: u32 = 65_536;
/// Most ranges of one Dataset Management.
pub const DSM_RANGES_MAX: usize = 256;
/// Bytes of one range of Dataset Management.
pub const DSM_RANGE_LEN: usize = 16;

/// A command of the NVM command set. Block counts (`nlb`) are real counts, 1 to 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Make what was answered durable.
    Flush,
    /// Read blocks.
    Read {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
        /// From media, not from cache.
        fua: bool,
    },
    /// Write blocks.
    Write {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
        /// Durable before it is answered.
        fua: bool,
    },
    /// Make blocks unreadable.
    WriteUncorrectable {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
    },
    /// Compare blocks with data of the host.
    Compare {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
        /// With media, not with cache.
        fua: bool,
    },
    /// Set blocks to zero.
    WriteZeroes {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
        /// DEAC: deallocate them where that reads as zero.
        deallocate: bool,
        /// Durable before it is answered.
        fua: bool,
    },
    /// Dataset Management.
    Dsm {
        /// Ranges in the data, 1 to 256.
        ranges: u16,
        /// AD: deallocate them; otherwise they are hints.
        deallocate: bool,
    },
    /// Verify blocks without moving data.
    Verify {
        /// First block.
        slba: u64,
        /// Blocks.
        nlb: u32,
    },
}

const CDW12_FUA: u32 = 1 << 30;
const CDW12_DEAC: u32 = 1 << 25;
const CDW11_AD: u32 = 1 << 2;

impl Command {
    /// Reads one. Its namespace is `sqe.nsid`.
    ///
    /// # Errors
    /// The status to answer with: an unknown opcode.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        let cdw12 = sqe.cdw12.get();
        let (slba, nlb, fua) = (sqe.cdw10_11(), (cdw12 & 0xFFFF) + 1, cdw12 & CDW12_FUA != 0);
        match sqe.opcode {
            OPCODE_FLUSH => Ok(Self::Flush),
            OPCODE_WRITE => Ok(Self::Write { slba, nlb, fua }),
            OPCODE_READ => Ok(Self::Read { slba, nlb, fua }),
            OPCODE_WRITE_UNCORRECTABLE => Ok(Self::WriteUncorrectable { slba, nlb }),
            OPCODE_COMPARE => Ok(Self::Compare { slba, nlb, fua }),
            OPCODE_WRITE_ZEROES => Ok(Self::WriteZeroes { slba, nlb, deallocate: cdw12 & CDW12_DEAC != 0, fua }),
            OPCODE_DSM => Ok(Self::Dsm {
                ranges: (sqe.cdw10.get() & 0xFF) as u16 + 1,
                deallocate: sqe.cdw11.get() & CDW11_AD != 0,
            }),
            OPCODE_VERIFY => Ok(Self::Verify { slba, nlb }),
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        }
    }

    /// The command for this namespace. It describes no data yet: see [`Self::data_len`] and [`Sqe::set_sgl`].
    ///
    /// # Panics
    /// If a count is 0 or above what its field can hold.
    #[must_use]
    pub fn to_sqe(&self, nsid: u32) -> Sqe {
        let mut sqe = Sqe::new(self.opcode()).with_nsid(nsid);
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let extra = match *self {
            Self::Read { fua, .. } | Self::Write { fua, .. } | Self::Compare { fua, .. } => bit(fua, CDW12_FUA),
            Self::WriteZeroes { deallocate, fua, .. } => bit(fua, CDW12_FUA) | bit(deallocate, CDW12_DEAC),
            _ => 0,
        };
        if let Some((slba, nlb)) = self.blocks() {
            assert!((1..=NLB_MAX).contains(&nlb), "a command names 1 to {NLB_MAX} blocks, not {nlb}");
            sqe.set_cdw10_11(slba);
            sqe.cdw12.set((nlb - 1) | extra);
        }
        if let Self::Dsm { ranges, deallocate } = *self {
            assert!((1..=DSM_RANGES_MAX).contains(&usize::from(ranges)), "1 to 256 ranges, not {ranges}");
            sqe.cdw10.set(u32::from(ranges) - 1);
            sqe.cdw11.set(bit(deallocate, CDW11_AD));
        }
        sqe
    }

    /// The opcode.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Flush => OPCODE_FLUSH,
            Self::Read { .. } => OPCODE_READ,
            Self::Write { .. } => OPCODE_WRITE,
            Self::WriteUncorrectable { .. } => OPCODE_WRITE_UNCORRECTABLE,
            Self::Compare { .. } => OPCODE_COMPARE,
            Self::WriteZeroes { .. } => OPCODE_WRITE_ZEROES,
            Self::Dsm { .. } => OPCODE_DSM,
            Self::Verify { .. } => OPCODE_VERIFY,
        }
    }

    /// First block and number of blocks, where the command itself names them.
    #[must_use]
    pub const fn blocks(&self) -> Option<(u64, u32)> {
        match *self {
            Self::Read { slba, nlb, .. }
            | Self::Write { slba, nlb, .. }
            | Self::WriteUncorrectable { slba, nlb }
            | Self::Compare { slba, nlb, .. }
            | Self::WriteZeroes { slba, nlb, .. }
            | Self::Verify { slba, nlb } => Some((slba, nlb)),
            Self::Flush | Self::Dsm { .. } => None,
        }
    }

    /// Whether the blocks it names lie within a namespace of `nsze` blocks.
    ///
    /// # Errors
    /// LBA Out of Range, with DNR.
    pub fn check_range(&self, nsze: u64) -> Result<(), Status> {
        match self.blocks() {
            Some((slba, nlb)) if slba.checked_add(u64::from(nlb)).is_none_or(|end| end > nsze) => {
                Err(Status::LBA_OUT_OF_RANGE.with_dnr())
            }
            _ => Ok(()),
        }
    }

    /// Bytes of data it moves, in either direction, with blocks of `block` bytes.
    #[must_use]
    pub const fn data_len(&self, block: u32) -> u64 {
        match *self {
            Self::Read { nlb, .. } | Self::Write { nlb, .. } | Self::Compare { nlb, .. } => nlb as u64 * block as u64,
            Self::Dsm { ranges, .. } => ranges as u64 * DSM_RANGE_LEN as u64,
            _ => 0,
        }
    }

    /// Whether it changes what later reads return.
    #[must_use]
    pub const fn is_media_changing(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::WriteUncorrectable { .. }
                | Self::WriteZeroes { .. }
                | Self::Dsm { deallocate: true, .. }
        )
    }

    /// Whether it may still change something after its connection is gone: it is then in doubt until fenced.
    #[must_use]
    pub const fn has_late_effect(&self) -> bool {
        self.is_media_changing()
    }
}

/// What an unanswered I/O command may still do, for any opcode: what is not known to be repeatable is not repeated.
#[must_use]
pub fn late_effect(sqe: &Sqe) -> LateEffect {
    if sqe.flags & 3 != 0 {
        // One half of a fused pair: a second Compare may see the first Write.
        return LateEffect::Unrepeatable;
    }
    match Command::from_sqe(sqe) {
        Ok(command) if command.has_late_effect() => LateEffect::Repeatable,
        Ok(_) => LateEffect::None,
        Err(_) if sqe.opcode == OPCODE_RESERVATION_REPORT => LateEffect::None,
        Err(_) => LateEffect::Unrepeatable,
    }
}

/// A command with its data in a buffer of the host (moved by R2T or C2HData).
#[must_use]
pub fn with_transport_data(mut sqe: Sqe, len: u32) -> Sqe {
    sqe.set_sgl(Sgl::Transport { len });
    sqe
}

wire! {
    /// A range of Dataset Management. NVM Command Set Specification, "Dataset Management command", "Range Definition".
    pub struct DsmRange [16] {
        /// Context attributes, a hint.
        0 => pub cattr: U32,
        /// Blocks, *not* 0's based; 0 names none.
        4 => pub nlb: U32,
        /// First block.
        8 => pub slba: U64,
    }
}

impl DsmRange {
    /// `nlb` blocks from `slba` on.
    #[must_use]
    pub fn new(slba: u64, nlb: u32) -> Self {
        Self { cattr: U32::new(0), nlb: U32::new(nlb), slba: U64::new(slba) }
    }

    /// The data for these ranges.
    #[must_use]
    pub fn encode(ranges: &[Self]) -> Vec<u8> {
        ranges.as_bytes().to_vec()
    }

    /// Reads the `count` ranges that a command announced; more data than that is ignored, hosts send it.
    ///
    /// # Errors
    /// Data SGL Length Invalid, with DNR, if there is less.
    pub fn decode(bytes: &[u8], count: u16) -> Result<Vec<Self>, Status> {
        <[Self]>::ref_from_prefix_with_elems(bytes, usize::from(count))
            .map(|(ranges, _)| ranges.to_vec())
            .map_err(|_| Status::SGL_DATA_LENGTH_INVALID.with_dnr())
    }
}
