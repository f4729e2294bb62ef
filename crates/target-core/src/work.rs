//! What an I/O command asks a namespace to do, free of its encoding.
//!
//! The gate in front of the media must know two things about every command: which blocks it touches, and whether it
//! changes them. Everything that may be held, refused or found in doubt later is decided on this value.

use crate::Change;
use alloc::vec::Vec;
use interlock_base::Span;
use interlock_wire::nvm;

/// Most ranges of one Dataset Management command.
pub const RANGES_MAX: usize = 256;

/// A piece of a namespace, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First block.
    pub slba: u64,
    /// How many.
    pub blocks: u64,
}

/// What an I/O command asks for. Payload is named separately.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Read.
    Read(BlockRange),
    /// Compare with what the host sent.
    Compare(BlockRange),
    /// Read, and tell nobody but whether it could be read.
    Verify(BlockRange),
    /// Write.
    Write {
        /// Where.
        range: BlockRange,
        /// Force Unit Access: durable before it is answered.
        fua: bool,
    },
    /// Write Zeroes.
    Zero {
        /// Where.
        range: BlockRange,
        /// DEAC: the blocks may be deallocated, if they then read as zeros.
        deallocate: bool,
        /// Force Unit Access.
        fua: bool,
    },
    /// Dataset Management with the deallocate attribute: a wish, not an order.
    Deallocate(Vec<BlockRange>),
    /// Flush.
    Flush,
}

impl Work {
    /// True if it may change what later reads return: it must never execute after its life was fenced.
    #[must_use]
    pub const fn changes_media(&self) -> bool {
        self.change().is_some()
    }

    /// How it changes media, if it does.
    #[must_use]
    pub const fn change(&self) -> Option<Change> {
        match self {
            Self::Write { .. } => Some(Change::Write),
            Self::Zero { .. } => Some(Change::WriteZeroes),
            Self::Deallocate(_) => Some(Change::Deallocate),
            Self::Read(_) | Self::Compare(_) | Self::Verify(_) | Self::Flush => None,
        }
    }

    /// Its opcode.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Read(_) => nvm::OPCODE_READ,
            Self::Compare(_) => nvm::OPCODE_COMPARE,
            Self::Verify(_) => nvm::OPCODE_VERIFY,
            Self::Write { .. } => nvm::OPCODE_WRITE,
            Self::Zero { .. } => nvm::OPCODE_WRITE_ZEROES,
            Self::Deallocate(_) => nvm::OPCODE_DSM,
            Self::Flush => nvm::OPCODE_FLUSH,
        }
    }

    /// The blocks that it touches.
    pub fn ranges(&self) -> impl Iterator<Item = BlockRange> + '_ {
        let (one, many): (Option<BlockRange>, &[BlockRange]) = match self {
            Self::Read(range)
            | Self::Compare(range)
            | Self::Verify(range)
            | Self::Write { range, .. }
            | Self::Zero { range, .. } => (Some(*range), &[]),
            Self::Deallocate(ranges) => (None, ranges),
            Self::Flush => (None, &[]),
        };
        one.into_iter().chain(many.iter().copied())
    }

    /// How many blocks of data travel with it; none if its data is no blocks.
    #[must_use]
    pub const fn data_blocks(&self) -> Option<u64> {
        match self {
            Self::Read(range) | Self::Compare(range) | Self::Write { range, .. } => Some(range.blocks),
            Self::Verify(_) | Self::Zero { .. } | Self::Deallocate(_) | Self::Flush => None,
        }
    }
}

/// What a namespace is asked to do now. The driver answers with `Lane::handle_media_done`, once, whatever happens to
/// the connection meanwhile: the life stays known until it did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Fill `into` with the blocks from `slba` on; its length is a multiple of the block size.
    Read {
        /// First block.
        slba: u64,
        /// Where to.
        into: Span,
    },
    /// Compare the blocks from `slba` on with `with`.
    Compare {
        /// First block.
        slba: u64,
        /// The expected content.
        with: Span,
    },
    /// Write `from` to the blocks from `slba` on.
    Write {
        /// First block.
        slba: u64,
        /// The new content.
        from: Span,
        /// Durable before done.
        fua: bool,
    },
    /// Everything that was done before becomes durable.
    Flush,
    /// The blocks read as zeros afterwards.
    Zero {
        /// Where.
        range: BlockRange,
        /// Their storage may be given back.
        deallocate: bool,
        /// Durable before done.
        fua: bool,
    },
    /// The storage of the blocks may be given back.
    Deallocate {
        /// Where, 1 to [`RANGES_MAX`] ranges.
        ranges: Vec<BlockRange>,
    },
}

/// How a media operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaResult {
    /// Done.
    Done,
    /// A comparison found a difference.
    Different,
    /// The blocks could not be read.
    ReadFailed,
    /// The blocks could not be written. Their content is the old, the new, or a mixture of both.
    WriteFailed,
    /// There is no room left for the blocks.
    NoSpace,
    /// The namespace is gone or smaller than it was.
    Gone,
    /// What was written earlier was lost, or may have been: nothing that promises to be durable succeeds any more.
    FlushFailed,
    /// It, or the rest of it, was not begun, because the moment was over until which it had to begin.
    TooLate,
}
