//! Fatal errors and how they are told to the peer.

use alloc::vec::Vec;
use core::fmt;

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32},
};

use super::{CommonHeader, Direction, Flags, Framing, PduType};

/// Most bytes of the offending header that a termination carries.
pub const TERM_DATA_MAX: usize = 128;

/// Fatal Error Status. TCP Transport Specification, "Fatal Error Status".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Fes {
    /// A field of a header is bad; FEI is its offset.
    InvalidPduHeaderField = 1,
    /// A PDU came out of order.
    PduSequenceError = 2,
    /// The header digest is wrong; FEI is the one received.
    HeaderDigestError = 3,
    /// Data outside the buffer of its command.
    DataTransferOutOfRange = 4,
    /// More data than allowed (from a controller), more R2Ts than allowed (from a host).
    DataTransferLimitExceeded = 5,
    /// A parameter is not supported; FEI is its offset.
    UnsupportedParameter = 6,
}

impl Fes {
    /// From its number, if that is one.
    #[must_use]
    pub const fn from_u16(value: u16) -> Option<Self> {
        match value {
            1 => Some(Self::InvalidPduHeaderField),
            2 => Some(Self::PduSequenceError),
            3 => Some(Self::HeaderDigestError),
            4 => Some(Self::DataTransferOutOfRange),
            5 => Some(Self::DataTransferLimitExceeded),
            6 => Some(Self::UnsupportedParameter),
            _ => None,
        }
    }
}

impl fmt::Display for Fes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidPduHeaderField => "Invalid PDU Header Field",
            Self::PduSequenceError => "PDU Sequence Error",
            Self::HeaderDigestError => "Header Digest Error",
            Self::DataTransferOutOfRange => "Data Transfer Out of Range",
            Self::DataTransferLimitExceeded => "Data Transfer Limit Exceeded",
            Self::UnsupportedParameter => "Unsupported Parameter",
        })
    }
}

/// The peer broke the protocol: the connection ends, nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("peer broke the protocol: {why} ({fes}, FEI {fei})")]
pub struct Fatal {
    /// Status for the termination request.
    pub fes: Fes,
    /// Information for it; its meaning depends on the status.
    pub fei: u32,
    /// What was wrong, in words.
    pub why: &'static str,
}

impl Fatal {
    /// An error with its status, its information and its reason.
    #[must_use]
    pub const fn new(fes: Fes, fei: u32, why: &'static str) -> Self {
        Self { fes, fei, why }
    }

    /// A header whose digest is wrong; `received` is the digest that came.
    #[must_use]
    pub const fn header_digest(received: u32) -> Self {
        Self::new(Fes::HeaderDigestError, received, "the header digest does not match the header")
    }
}

wire! {
    /// Terminate Connection Request, both directions. TCP Transport Specification, "Host to Controller Terminate
    /// Connection Request PDU (H2CTermReq)", "Controller to Host Terminate Connection Request PDU (C2HTermReq)".
    pub struct TermReq [24] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// Fatal error status, see [`Fes`].
        8 => pub fes: U16,
        /// Fatal error information.
        10 => pub fei: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        14 => pub rsvd: [u8; 10],
    }
}

impl TermReq {
    /// The whole PDU that tells `fatal` to the peer; `offender` are the leading bytes of the PDU that caused it, of
    /// which at most 128 go along. Peers exist that refuse a termination without any, so at least eight are sent.
    #[must_use]
    pub fn encode(to: Direction, fatal: &Fatal, offender: &[u8]) -> Vec<u8> {
        let pdu = match to {
            Direction::ToController => PduType::H2cTermReq,
            Direction::ToHost => PduType::C2hTermReq,
        };
        let offender = &offender[..offender.len().min(TERM_DATA_MAX)];
        let data = offender.len().max(size_of::<CommonHeader>());
        let req = Self {
            ch: CommonHeader::build(pdu, Flags::empty(), data as u32, &Framing::PLAIN),
            fes: U16::new(fatal.fes as u16),
            fei: U32::new(fatal.fei),
            rsvd: [0; 10],
        };
        let mut out = Vec::with_capacity(size_of::<Self>() + data);
        out.extend_from_slice(req.as_bytes());
        out.extend_from_slice(offender);
        out.resize(size_of::<Self>() + data, 0);
        out
    }

    /// Reads the header of one. `None` if `bytes` are too few.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes).ok().map(|(req, _)| req)
    }
}
