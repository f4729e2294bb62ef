//! What can be done with a file.
//!
//! The caller opens the file (and chooses `O_DIRECT`, locks, modes); the ring only moves bytes. A buffer is owned by
//! the operation until it comes back in [`crate::Event::Op`], because the kernel uses it after the call has returned.

use crate::Buf;
use interlock_base::Instant;
use std::io;
use std::ops::Range;

/// Until when an operation must have begun, on a clock of the caller's choice.
#[derive(Clone, Copy, Debug)]
pub struct StartBy {
    /// The clock, read where the operation begins.
    pub clock: fn() -> Instant,
    /// From this moment on it does not begin.
    pub at: Instant,
}

impl StartBy {
    /// True if it is too late.
    #[must_use]
    pub fn is_over(&self) -> bool {
        (self.clock)() >= self.at
    }
}

/// One operation on a file.
#[derive(Debug)]
pub enum FileOp {
    /// Reads into `buf[part]`. The operation must be the sole holder of `buf` (`buffer_has_one_writer`).
    Read {
        /// Destination; comes back with the result.
        buf: Buf,
        /// Which bytes of `buf`; at most 1 GiB.
        part: Range<usize>,
        /// Byte offset in the file.
        offset: u64,
    },
    /// Writes `buf[part]`.
    Write {
        /// Source; may be shared. Comes back with the result.
        buf: Buf,
        /// Which bytes of `buf`; at most 1 GiB.
        part: Range<usize>,
        /// Byte offset in the file.
        offset: u64,
        /// The data is durable when the operation ends (`RWF_DSYNC`).
        durable: bool,
    },
    /// Makes earlier *completed* writes durable.
    Sync {
        /// True: only what is needed to read the data back (`fdatasync`).
        data_only: bool,
    },
    /// Changes what space a range occupies (`fallocate`).
    Space {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// What to do with the range.
        how: Space,
    },
    /// A command of the file's driver with a buffer (`IORING_OP_URING_CMD`, 16 bytes): `head`, then the address of
    /// `buf`, which the driver may read and write until the operation ends. It must be the sole holder of `buf`.
    Driver {
        /// The driver's number for it.
        op: u32,
        /// The driver's first 8 bytes.
        head: [u8; 8],
        /// What the driver reads or writes; comes back with the result.
        buf: Buf,
    },
}

/// What to do with a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Reserve it, growing the file if needed.
    Allocate,
    /// Make it read as zeroes, keeping the space.
    Zero,
    /// Make it read as zeroes, giving the space back.
    Punch,
}

/// No single operation moves more: the kernel's own limit is just below 2 GiB.
pub(crate) const TRANSFER_MAX: usize = 1 << 30;

impl FileOp {
    /// What makes the operation impossible before the kernel sees it.
    pub(crate) fn fault(&mut self) -> Option<io::Error> {
        let whole = match self {
            Self::Driver { buf, .. } => 0..buf.len(),
            _ => 0..0,
        };
        let (buf, part) = match &*self {
            Self::Read { buf, part, .. } | Self::Write { buf, part, .. } => (buf, part),
            Self::Driver { buf, .. } => (buf, &whole),
            Self::Sync { .. } | Self::Space { .. } => return None,
        };
        let why = if part.start > part.end || part.end > buf.len() {
            format!("bytes {}..{} leave a buffer of {} bytes", part.start, part.end, buf.len())
        } else if part.len() > TRANSFER_MAX {
            format!("{} bytes in one operation; {TRANSFER_MAX} is the limit", part.len())
        } else if matches!(self, Self::Read { buf, .. } | Self::Driver { buf, .. } if !buf.is_unique()) {
            "what fills a buffer must be its only holder".to_owned()
        } else {
            return None;
        };
        Some(io::Error::new(io::ErrorKind::InvalidInput, why))
    }

    /// Moves at most `most` bytes, at least 1.
    pub(crate) fn shorten(&mut self, most: usize) {
        if let Self::Read { part, .. } | Self::Write { part, .. } = self {
            part.end = part.end.min(part.start.saturating_add(most.max(1)));
        }
    }

    /// The buffer, to be given back.
    pub(crate) fn into_buf(self) -> Option<Buf> {
        match self {
            Self::Read { buf, .. } | Self::Write { buf, .. } | Self::Driver { buf, .. } => Some(buf),
            Self::Sync { .. } | Self::Space { .. } => None,
        }
    }
}
