//! Names for the data of a command.
//!
//! Bulk data is named by [`Span`] and never seen by a queue. Small control data (Identify, log pages, Connect) is
//! owned bytes, so that the machines that need its content get it without a detour through a driver's buffer.

use alloc::boxed::Box;
use alloc::vec::Vec;
use interlock_base::Span;

/// Largest control data of one command, in bytes. The longest thing asked for this way is a log page; 1 MiB holds
/// the ANA log of a quarter of a million namespaces and bounds what a peer can make this side allocate.
pub const MAX_CONTROL_DATA: u32 = 1 << 20;

/// Data that this side sends for one command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The command sends nothing.
    None,
    /// Payload in a driver's buffer.
    Span(Span),
    /// Control data.
    Bytes(Vec<u8>),
    /// Control data with zeros behind it. Boxed, because it is rare: every request moves a [`Source`] several times.
    Padded(Box<Padded>),
}

/// Control data with zeros behind it, which are made when they are sent: a peer that asks for much of what is little, and
/// takes nothing, has little held for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Padded {
    /// What is not only zeros.
    pub bytes: Vec<u8>,
    /// Bytes in all, at least as many.
    pub len: u32,
}

// Three words: every request moves one.
const _: () = assert!(size_of::<Source>() <= 24);

impl Source {
    /// Length in bytes.
    ///
    /// # Panics
    /// If control data is 4 GiB long: [`MAX_CONTROL_DATA`] is checked where it enters.
    #[must_use]
    pub fn len(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Span(span) => span.len,
            Self::Bytes(bytes) => u32::try_from(bytes.len()).expect("control data is bounded by MAX_CONTROL_DATA"),
            Self::Padded(padded) => padded.len,
        }
    }

    /// True if nothing is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where data that this side receives for one command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sink {
    /// The command receives nothing, or what comes is dropped.
    None,
    /// Into a driver's buffer.
    Span(Span),
    /// Control data of exactly this length in bytes, at most [`MAX_CONTROL_DATA`]; handed over with the event.
    Bytes(u32),
}

impl Sink {
    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> u32 {
        match self {
            Self::None => 0,
            Self::Span(span) => span.len,
            Self::Bytes(len) => *len,
        }
    }

    /// True if nothing is received.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a queue did with offered bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taken {
    /// So many of the offered bytes are done with.
    pub used: usize,
    /// What to do with the bytes that follow them.
    pub place: Option<Place>,
}

/// Copy `to.len` bytes, then call `handle_placed(to.len, crc)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Where they belong. Never longer than what was offered.
    pub to: Span,
    /// Some if a data digest is on: the finished CRC-32C of the bytes of this PDU before these (0 if there are none).
    /// Continue it (`crc32c_append(seed, bytes)`) and give the result to `handle_placed`.
    pub digest: Option<u32>,
}

/// Why the data of a command that the peer completed cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataError {
    /// A data digest did not match. Only this command suffers.
    Digest,
    /// The peer reported success but moved fewer bytes than the command is about.
    Short,
}
