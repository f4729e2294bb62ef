//! The numbers of the NBD protocol.
//!
//! Names are those of the protocol's own document (doc/proto.md of the NBD project, sections "Fixed newstyle
//! negotiation" and "Transmission"). Everything on the wire is big-endian.

pub(crate) use crate::fault::Errno;

/// First words of the server.
pub(crate) const INIT_PASSWD: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT": second words of the server, and the start of every option.
pub(crate) const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
/// The start of every option reply.
pub(crate) const OPT_REPLY: u64 = 0x0003_e889_0455_65a9;
/// The start of every request.
pub(crate) const REQUEST: u32 = 0x2560_9513;
/// The start of every simple reply.
pub(crate) const SIMPLE_REPLY: u32 = 0x6744_6698;
/// The start of every chunk of a structured reply.
pub(crate) const STRUCTURED_REPLY: u32 = 0x668e_33ef;

/// Handshake flags of the server, and the same two of the client.
pub(crate) const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// No 124 zeroes after `NBD_OPT_EXPORT_NAME`.
pub(crate) const FLAG_NO_ZEROES: u16 = 2;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_LIST_META_CONTEXT: u32 = 9;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;

pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META_CONTEXT: u32 = 4;
pub(crate) const REP_ERR_UNSUP: u32 = 0x8000_0001;
pub(crate) const REP_ERR_INVALID: u32 = 0x8000_0003;
pub(crate) const REP_ERR_UNKNOWN: u32 = 0x8000_0006;
pub(crate) const REP_ERR_TOO_BIG: u32 = 0x8000_0009;

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_NAME: u16 = 1;
pub(crate) const INFO_DESCRIPTION: u16 = 2;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

pub(crate) const TRANS_HAS_FLAGS: u16 = 1;
pub(crate) const TRANS_READ_ONLY: u16 = 1 << 1;
pub(crate) const TRANS_SEND_FLUSH: u16 = 1 << 2;
pub(crate) const TRANS_SEND_FUA: u16 = 1 << 3;
pub(crate) const TRANS_SEND_TRIM: u16 = 1 << 5;
pub(crate) const TRANS_SEND_WRITE_ZEROES: u16 = 1 << 6;
pub(crate) const TRANS_SEND_DF: u16 = 1 << 7;
pub(crate) const TRANS_CAN_MULTI_CONN: u16 = 1 << 8;
pub(crate) const TRANS_SEND_FAST_ZERO: u16 = 1 << 11;

pub(crate) const CMD_READ: u16 = 0;
pub(crate) const CMD_WRITE: u16 = 1;
pub(crate) const CMD_DISC: u16 = 2;
pub(crate) const CMD_FLUSH: u16 = 3;
pub(crate) const CMD_TRIM: u16 = 4;
pub(crate) const CMD_WRITE_ZEROES: u16 = 6;
pub(crate) const CMD_BLOCK_STATUS: u16 = 7;

pub(crate) const CMD_FLAG_FUA: u16 = 1;
pub(crate) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub(crate) const CMD_FLAG_DF: u16 = 1 << 2;
pub(crate) const CMD_FLAG_REQ_ONE: u16 = 1 << 3;
pub(crate) const CMD_FLAG_FAST_ZERO: u16 = 1 << 4;

/// The last chunk of a reply.
pub(crate) const REPLY_FLAG_DONE: u16 = 1;
pub(crate) const REPLY_NONE: u16 = 0;
pub(crate) const REPLY_OFFSET_DATA: u16 = 1;
pub(crate) const REPLY_BLOCK_STATUS: u16 = 5;
pub(crate) const REPLY_ERROR: u16 = 0x8001;

/// Bytes of a request without its payload.
pub(crate) const REQUEST_LEN: usize = 28;

/// The longest string (name, description, query) of the protocol.
pub(crate) const STRING_MAX: usize = 4096;

/// The one metadata context there is.
pub(crate) const BASE_ALLOCATION: &str = "base:allocation";
/// Its number in replies.
pub(crate) const BASE_ALLOCATION_ID: u32 = 1;

/// The `N` bytes at `at`, if they are there.
pub(crate) fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    part(bytes, at).map(u16::from_be_bytes)
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    part(bytes, at).map(u32::from_be_bytes)
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    part(bytes, at).map(u64::from_be_bytes)
}
