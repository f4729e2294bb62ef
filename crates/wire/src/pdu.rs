//! The PDUs of the TCP transport.
//!
//! Eight bytes that every PDU begins with decide how much will be read, so they are judged by one pure function,
//! [`validate`], for both roles: what a host and a target accept can then never drift apart. What depends on the rest
//! of a header is judged by that header's own `check`. Both name the lowest bad field first, as the termination
//! request wants it.
//!
//! NVMe/TCP Transport Specification, "Transport Protocol Data Units".

mod header;
mod layout;
mod termination;

pub use header::{C2hData, CapsuleCmd, CapsuleResp, CommonHeader, Flags, H2cData, IcReq, IcResp, PduType, R2t};
pub use layout::{Agreed, Direction, Framing, Layout, PDO_MAX, check_window, encode_header, validate};
pub use termination::{Fatal, Fes, TERM_DATA_MAX, TermReq};
