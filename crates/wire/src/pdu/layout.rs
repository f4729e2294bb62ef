//! The validator: from eight bytes to what will follow, or to the reason why not.

use alloc::vec::Vec;

use zerocopy::{Immutable, IntoBytes};

use super::{CommonHeader, Fatal, Fes, Flags, PduType, TERM_DATA_MAX};
use crate::digest;

/// Largest PDO: the end of a command capsule's header at the largest alignment.
pub const PDO_MAX: u8 = 128;

/// Who receives a PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From host to controller.
    ToController,
    /// From controller to host.
    ToHost,
}

/// How this side frames what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Framing {
    /// Header digests are on.
    pub hdgst: bool,
    /// Data digests are on.
    pub ddgst: bool,
    /// Alignment in bytes that the *peer* asked for in data it receives (4..=128).
    pub align: u32,
}

impl Framing {
    /// No digests, the smallest alignment.
    pub const PLAIN: Self = Self { hdgst: false, ddgst: false, align: 4 };
}

/// What both ends of a connection agreed on, seen from the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// Header digests are on.
    pub hdgst: bool,
    /// Data digests are on.
    pub ddgst: bool,
    /// Alignment in bytes that this side asked for in data it receives (4..=128).
    pub align: u32,
    /// Most data bytes this side takes in one H2CData or C2HData PDU.
    pub max_data: u32,
    /// Most data bytes this side takes inside a command capsule.
    pub max_in_capsule: u32,
    /// ICReq and ICResp were exchanged.
    pub ready: bool,
}

impl Agreed {
    /// Before anything was agreed: only the exchange of ICReq and ICResp (or a termination) may come.
    pub const NOTHING: Self =
        Self { hdgst: false, ddgst: false, align: 4, max_data: 0, max_in_capsule: 0, ready: false };
}

/// Where the parts of one PDU are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Type.
    pub pdu: PduType,
    /// HLEN: bytes of the header, without digest.
    pub header: usize,
    /// Bytes of the header and its digest.
    pub head_total: usize,
    /// Padding bytes between header and data.
    pub pad: usize,
    /// Data bytes.
    pub data: u32,
    /// Whether a data digest follows the data.
    pub ddgst: bool,
}

impl Layout {
    /// Whether a header digest follows the header.
    #[must_use]
    pub const fn hdgst(&self) -> bool {
        self.head_total > self.header
    }

    /// Bytes of the whole PDU: its PLEN.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.head_total as u64 + self.pad as u64 + self.data as u64 + if self.ddgst { digest::LEN as u64 } else { 0 }
    }
}

const fn bad(offset: u32, why: &'static str) -> Fatal {
    Fatal::new(Fes::InvalidPduHeaderField, offset, why)
}

/// Judges the first eight bytes of a PDU that this side received.
///
/// # Errors
/// The lowest bad field, and how the connection is to be terminated for it.
pub fn validate(dir: Direction, ch: &CommonHeader, agreed: &Agreed) -> Result<Layout, Fatal> {
    // offset 0: type, direction, sequence
    let pdu = PduType::from_u8(ch.pdu_type).ok_or(bad(0, "unknown PDU type"))?;
    if pdu.direction() != dir {
        return Err(bad(0, "this PDU type goes the other way"));
    }
    match pdu {
        PduType::H2cTermReq | PduType::C2hTermReq => {}
        PduType::IcReq | PduType::IcResp if agreed.ready => {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "the connection was initialized before"));
        }
        PduType::IcReq | PduType::IcResp => {}
        _ if !agreed.ready => {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "the connection is not initialized yet"));
        }
        _ => {}
    }
    let digests = pdu.has_digests();
    let hlen = pdu.header_len();
    let head_total = hlen + if digests && agreed.hdgst { digest::LEN } else { 0 };
    let plen = ch.plen.get();
    let has_data = match pdu {
        PduType::H2cData | PduType::C2hData => true,
        PduType::CapsuleCmd => plen as usize > head_total,
        _ => false,
    };
    let ddgst = agreed.ddgst && has_data;

    // offset 1: flags
    let flags = Flags::from_bits(ch.flags).ok_or(bad(1, "reserved FLAGS bits are set"))?;
    if !pdu.allowed_flags().contains(flags) {
        return Err(bad(1, "FLAGS has bits that this PDU type does not know"));
    }
    if flags.contains(Flags::HDGST) != (digests && agreed.hdgst) {
        return Err(bad(1, "HDGSTF differs from what was agreed"));
    }
    if flags.contains(Flags::DDGST) != ddgst {
        return Err(bad(1, "DDGSTF differs from what was agreed"));
    }
    if flags.contains(Flags::SUCCESS) && !flags.contains(Flags::LAST) {
        return Err(bad(1, "SUCCESS without LAST_PDU"));
    }

    // offset 2: header length
    if usize::from(ch.hlen) != hlen {
        return Err(bad(2, "HLEN is not the header length of this PDU type"));
    }

    // offset 3: data offset
    let pdo = usize::from(ch.pdo);
    if has_data {
        if pdo < head_total {
            return Err(bad(3, "PDO points into the header"));
        }
        if ch.pdo > PDO_MAX {
            return Err(bad(3, "PDO is above 128"));
        }
        if !(pdo as u32).is_multiple_of(agreed.align.max(1)) {
            return Err(bad(3, "PDO has not the alignment that was asked for"));
        }
        if pdo as u64 > u64::from(plen) && plen as usize > head_total {
            return Err(bad(3, "PDO points behind the PDU"));
        }
    } else if pdo != 0 && !(digests && pdo == head_total) {
        return Err(bad(3, "PDO is set but this PDU carries no data"));
    }

    // offset 4: length
    let (pad, data) = if has_data {
        let before = pdo as u64 + if ddgst { digest::LEN as u64 } else { 0 };
        match u64::from(plen).checked_sub(before) {
            None | Some(0) => return Err(bad(4, "PLEN leaves no room for data")),
            Some(data) => (pdo - head_total, data as u32),
        }
    } else {
        let extra = (plen as usize).checked_sub(head_total).ok_or(bad(4, "PLEN is shorter than the header"))?;
        match pdu {
            PduType::H2cTermReq | PduType::C2hTermReq if extra <= TERM_DATA_MAX => (0, extra as u32),
            PduType::H2cTermReq | PduType::C2hTermReq => return Err(bad(4, "a termination carries at most 128 bytes")),
            _ if extra == 0 => (0, 0),
            _ => return Err(bad(4, "PLEN is not the length of this PDU type")),
        }
    };
    match pdu {
        PduType::CapsuleCmd if data > agreed.max_in_capsule => {
            Err(Fatal::new(Fes::DataTransferLimitExceeded, 0, "more in-capsule data than a capsule may carry"))
        }
        PduType::H2cData if data > agreed.max_data => {
            Err(Fatal::new(Fes::DataTransferLimitExceeded, 0, "H2CData carries more than MAXH2CDATA"))
        }
        PduType::C2hData if data > agreed.max_data => {
            Err(Fatal::new(Fes::DataTransferOutOfRange, 0, "C2HData carries more than any command asked for"))
        }
        _ => Ok(Layout { pdu, header: hlen, head_total, pad, data, ddgst }),
    }
}

/// Whether DATAL is the data that is there.
pub(super) fn check_datal(datal: u32, layout: &Layout) -> Result<(), Fatal> {
    if datal == layout.data { Ok(()) } else { Err(bad(16, "DATAL is not the length of the data in the PDU")) }
}

/// Judges a piece of `len` bytes at `offset`, where the next one is `expected` and the window ends at `end`.
///
/// # Errors
/// Out of the window, or in it but not next.
pub fn check_window(offset: u32, len: u32, expected: u32, end: u32) -> Result<(), Fatal> {
    if u64::from(offset) + u64::from(len) > u64::from(end) {
        return Err(Fatal::new(Fes::DataTransferOutOfRange, 0, "the transfer leaves the data of its command"));
    }
    if offset != expected {
        return Err(Fatal::new(Fes::PduSequenceError, 0, "the transfer does not go on where the last one ended"));
    }
    Ok(())
}

/// Appends a header, and its digest where its FLAGS ask for one. Returns the bytes appended.
pub fn encode_header<T: IntoBytes + Immutable>(header: &T, out: &mut Vec<u8>) -> usize {
    let bytes = header.as_bytes();
    out.extend_from_slice(bytes);
    if bytes.get(1).is_some_and(|flags| flags & Flags::HDGST.bits() != 0) {
        out.extend_from_slice(&digest::crc32c(bytes).to_le_bytes());
        return bytes.len() + digest::LEN;
    }
    bytes.len()
}
