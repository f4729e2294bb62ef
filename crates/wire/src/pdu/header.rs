//! The headers, field by field, and the checks of what only they carry.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};

use super::{Agreed, Direction, Fatal, Fes, Framing, Layout, layout};
use crate::{
    digest,
    sqe::{Cqe, Sgl, Sqe},
};

/// Types of PDU. TCP Transport Specification, "PDU Type".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request.
    IcReq = 0x00,
    /// Initialize Connection Response.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command Capsule.
    CapsuleCmd = 0x04,
    /// Response Capsule.
    CapsuleResp = 0x05,
    /// Host to Controller Data Transfer.
    H2cData = 0x06,
    /// Controller to Host Data Transfer.
    C2hData = 0x07,
    /// Ready to Transfer.
    R2t = 0x09,
}

impl PduType {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::IcReq,
        Self::IcResp,
        Self::H2cTermReq,
        Self::C2hTermReq,
        Self::CapsuleCmd,
        Self::CapsuleResp,
        Self::H2cData,
        Self::C2hData,
        Self::R2t,
    ];

    /// From its number, if that is one.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|pdu| *pdu as u8 == value)
    }

    /// Who receives it.
    #[must_use]
    pub const fn direction(self) -> Direction {
        if self as u8 & 1 == 0 { Direction::ToController } else { Direction::ToHost }
    }

    /// HLEN: bytes of the header, without its digest.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::IcReq | Self::IcResp => 128,
            Self::CapsuleCmd => 72,
            _ => 24,
        }
    }

    /// Whether this type carries a header digest once that was agreed.
    #[must_use]
    pub const fn has_digests(self) -> bool {
        self as u8 >= Self::CapsuleCmd as u8
    }

    /// The flags this type may have.
    #[must_use]
    pub const fn allowed_flags(self) -> Flags {
        match self {
            Self::IcReq | Self::IcResp | Self::H2cTermReq | Self::C2hTermReq => Flags::empty(),
            Self::CapsuleResp | Self::R2t => Flags::HDGST,
            Self::CapsuleCmd => Flags::HDGST.union(Flags::DDGST),
            Self::H2cData => Flags::HDGST.union(Flags::DDGST).union(Flags::LAST),
            Self::C2hData => Flags::all(),
        }
    }
}

bitflags! {
    /// FLAGS of the common header. TCP Transport Specification, "PDU Common Header".
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Flags: u8 {
        /// HDGSTF: a header digest follows the header.
        const HDGST = 1;
        /// DDGSTF: a data digest follows the data.
        const DDGST = 2;
        /// LAST_PDU: the last data of this command (C2HData) or of this R2T (H2CData).
        const LAST = 4;
        /// SUCCESS: the command succeeded and no response capsule will come (C2HData).
        const SUCCESS = 8;
    }
}

wire! {
    /// What every PDU begins with. TCP Transport Specification, "PDU Common Header".
    pub struct CommonHeader [8] {
        /// Type, see [`PduType`].
        0 => pub pdu_type: u8,
        /// Flags, see [`Flags`].
        1 => pub flags: u8,
        /// Bytes of the header without its digest.
        2 => pub hlen: u8,
        /// Offset of the data; 0 without data.
        3 => pub pdo: u8,
        /// Bytes of the whole PDU on the wire.
        4 => pub plen: U32,
    }
}

impl CommonHeader {
    /// The header of a PDU with `data` bytes of data. `flags` are LAST and SUCCESS; the digest flags follow from the
    /// framing.
    ///
    /// # Panics
    /// If `data` is so large that PLEN overflows, or the alignment above 128: transfers have a bound far below that.
    #[must_use]
    pub fn build(pdu: PduType, flags: Flags, data: u32, framing: &Framing) -> Self {
        let hlen = pdu.header_len() as u32;
        let hdgst = framing.hdgst && pdu.has_digests();
        let ddgst = framing.ddgst && pdu.has_digests() && data > 0;
        let align = framing.align.max(4);
        let head = hlen + if hdgst { digest::LEN as u32 } else { 0 };
        let (pdo, tail) = match (data, pdu) {
            (0, _) => (0, head),
            (_, PduType::H2cTermReq | PduType::C2hTermReq) => (0, head),
            _ => (head.next_multiple_of(align), head.next_multiple_of(align)),
        };
        let plen = tail.checked_add(data).and_then(|n| n.checked_add(if ddgst { digest::LEN as u32 } else { 0 }));
        let mut flags = flags;
        flags.set(Flags::HDGST, hdgst);
        flags.set(Flags::DDGST, ddgst);
        Self {
            pdu_type: pdu as u8,
            flags: flags.bits(),
            hlen: hlen as u8,
            pdo: u8::try_from(pdo).expect("alignments end at 128 bytes"),
            plen: U32::new(plen.expect("a transfer has a bound far below 4 GiB")),
        }
    }

    /// The flags; unknown bits dropped ([`super::validate`] refuses them).
    #[must_use]
    pub const fn flags(&self) -> Flags {
        Flags::from_bits_truncate(self.flags)
    }
}

/// Bits of DGST in ICReq and ICResp: header digest, data digest.
const DGST_HEADER: u8 = 1;
const DGST_DATA: u8 = 2;
/// Highest HPDA or CPDA: an alignment of 128 bytes.
const PDA_MAX: u8 = 31;
/// Smallest MAXH2CDATA a controller may state.
const MAXH2CDATA_MIN: u32 = 4096;

fn dgst(hdgst: bool, ddgst: bool) -> u8 {
    u8::from(hdgst) * DGST_HEADER + u8::from(ddgst) * DGST_DATA
}

/// HPDA or CPDA for an alignment in bytes.
fn pda(align: u32) -> u8 {
    assert!(align.is_multiple_of(4) && (4..=128).contains(&align), "an alignment is 4 to 128 bytes in steps of 4");
    (align / 4 - 1) as u8
}

/// The checks ICReq and ICResp share.
fn check_ic(pfv: u16, pda: u8, dgst: u8) -> Result<(), Fatal> {
    if pfv != 0 {
        return Err(Fatal::new(Fes::UnsupportedParameter, 8, "PFV names a PDU format other than 0"));
    }
    if pda > PDA_MAX {
        return Err(Fatal::new(Fes::InvalidPduHeaderField, 10, "HPDA or CPDA is above 31"));
    }
    if dgst & !(DGST_HEADER | DGST_DATA) != 0 {
        return Err(Fatal::new(Fes::InvalidPduHeaderField, 11, "DGST has reserved bits set"));
    }
    Ok(())
}

wire! {
    /// Initialize Connection Request. TCP Transport Specification, "Initialize Connection Request PDU (ICReq)".
    pub struct IcReq [128] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// PDU format version; 0 is the only one.
        8 => pub pfv: U16,
        /// Alignment the host wants for data it receives, in dwords, 0's based.
        10 => pub hpda: u8,
        /// Digests asked for: bit 0 header, bit 1 data.
        11 => pub dgst: u8,
        /// R2Ts that may be outstanding per command, 0's based.
        12 => pub maxr2t: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        16 => pub rsvd: [u8; 112],
    }
}

impl IcReq {
    /// Asks for these digests; `align` is in bytes (4 to 128), `maxr2t` 0's based.
    ///
    /// # Panics
    /// If `align` is none of 4, 8, .. 128.
    #[must_use]
    pub fn new(hdgst: bool, ddgst: bool, align: u32, maxr2t: u32) -> Self {
        Self {
            ch: CommonHeader::build(PduType::IcReq, Flags::empty(), 0, &Framing::PLAIN),
            hpda: pda(align),
            dgst: dgst(hdgst, ddgst),
            maxr2t: U32::new(maxr2t),
            ..Self::default()
        }
    }

    /// Whether a header digest is asked for.
    #[must_use]
    pub const fn hdgst(&self) -> bool {
        self.dgst & DGST_HEADER != 0
    }

    /// Whether a data digest is asked for.
    #[must_use]
    pub const fn ddgst(&self) -> bool {
        self.dgst & DGST_DATA != 0
    }

    /// The alignment asked for, in bytes. Call after [`Self::check`].
    #[must_use]
    pub const fn align(&self) -> u32 {
        (self.hpda as u32 + 1) * 4
    }

    /// What a target must refuse.
    ///
    /// # Errors
    /// The lowest bad field.
    pub fn check(&self) -> Result<(), Fatal> {
        check_ic(self.pfv.get(), self.hpda, self.dgst)
    }
}

wire! {
    /// Initialize Connection Response. TCP Transport Specification, "Initialize Connection Response PDU (ICResp)".
    pub struct IcResp [128] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// PDU format version; 0 is the only one.
        8 => pub pfv: U16,
        /// Alignment the controller wants for data it receives, in dwords, 0's based.
        10 => pub cpda: u8,
        /// Digests in use: bit 0 header, bit 1 data.
        11 => pub dgst: u8,
        /// Most data bytes in one H2CData PDU; at least 4096, a multiple of 4.
        12 => pub maxh2cdata: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        16 => pub rsvd: [u8; 112],
    }
}

impl IcResp {
    /// Answers with these digests; `align` is in bytes (4 to 128), `maxh2cdata` in bytes.
    ///
    /// # Panics
    /// If `align` is none of 4, 8, .. 128.
    #[must_use]
    pub fn new(hdgst: bool, ddgst: bool, align: u32, maxh2cdata: u32) -> Self {
        Self {
            ch: CommonHeader::build(PduType::IcResp, Flags::empty(), 0, &Framing::PLAIN),
            cpda: pda(align),
            dgst: dgst(hdgst, ddgst),
            maxh2cdata: U32::new(maxh2cdata),
            ..Self::default()
        }
    }

    /// Whether headers have digests from now on.
    #[must_use]
    pub const fn hdgst(&self) -> bool {
        self.dgst & DGST_HEADER != 0
    }

    /// Whether data has digests from now on.
    #[must_use]
    pub const fn ddgst(&self) -> bool {
        self.dgst & DGST_DATA != 0
    }

    /// The alignment asked for, in bytes. Call after [`Self::check`].
    #[must_use]
    pub const fn align(&self) -> u32 {
        (self.cpda as u32 + 1) * 4
    }

    /// What a host that sent `requested` must refuse. A *declined* digest is legal on the wire; whether it is
    /// acceptable is for the caller to decide.
    ///
    /// # Errors
    /// The lowest bad field.
    pub fn check(&self, requested: &IcReq) -> Result<(), Fatal> {
        check_ic(self.pfv.get(), self.cpda, self.dgst)?;
        if self.dgst & !requested.dgst != 0 {
            return Err(Fatal::new(Fes::UnsupportedParameter, 11, "ICResp enables a digest that was not asked for"));
        }
        let max = self.maxh2cdata.get();
        if max < MAXH2CDATA_MIN || !max.is_multiple_of(4) {
            return Err(Fatal::new(Fes::InvalidPduHeaderField, 12, "MAXH2CDATA is below 4096 or not a multiple of 4"));
        }
        Ok(())
    }
}

wire! {
    /// Command Capsule. TCP Transport Specification, "Command Capsule PDU (CapsuleCmd)".
    pub struct CapsuleCmd [72] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// The command.
        8 => pub sqe: Sqe,
    }
}

impl CapsuleCmd {
    /// A capsule with `in_capsule` bytes of data behind the command.
    #[must_use]
    pub fn new(sqe: Sqe, in_capsule: u32, framing: &Framing) -> Self {
        Self { ch: CommonHeader::build(PduType::CapsuleCmd, Flags::empty(), in_capsule, framing), sqe }
    }

    /// Whether the SGL agrees with the data that is there. Without data an unknown SGL is no matter for the
    /// connection: the command is answered with a status.
    ///
    /// # Errors
    /// The lowest bad field.
    pub fn check(&self, layout: &Layout) -> Result<(), Fatal> {
        let (described, fatal) = match self.sqe.sgl() {
            Sgl::InCapsule { len } => (len, None),
            Sgl::Transport { .. } => (0, None),
            Sgl::Unsupported { kind: Sgl::KIND_IN_CAPSULE, len, .. } => {
                (len, Some(Fatal::new(Fes::UnsupportedParameter, 32, "in-capsule data at an offset other than 0")))
            }
            Sgl::Unsupported { .. } if layout.data == 0 => (0, None),
            Sgl::Unsupported { .. } => (
                layout.data,
                Some(Fatal::new(Fes::UnsupportedParameter, 47, "the SGL of in-capsule data has an unsupported type")),
            ),
        };
        if described != layout.data {
            return Err(Fatal::new(
                Fes::InvalidPduHeaderField,
                4,
                "PLEN and the SGL disagree about the in-capsule data",
            ));
        }
        fatal.map_or(Ok(()), Err)
    }
}

wire! {
    /// Response Capsule. TCP Transport Specification, "Response Capsule PDU (CapsuleResp)".
    pub struct CapsuleResp [24] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// The completion.
        8 => pub cqe: Cqe,
    }
}

impl CapsuleResp {
    /// A capsule with this completion.
    #[must_use]
    pub fn new(cqe: Cqe, framing: &Framing) -> Self {
        Self { ch: CommonHeader::build(PduType::CapsuleResp, Flags::empty(), 0, framing), cqe }
    }
}

wire! {
    /// Host to Controller Data. TCP Transport Specification, "Host To Controller Data Transfer PDU (H2CData)".
    pub struct H2cData [24] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// Command identifier of the command.
        8 => pub cccid: U16,
        /// Transfer tag, copied from the R2T.
        10 => pub ttag: U16,
        /// Offset in the data of the command.
        12 => pub datao: U32,
        /// Bytes of data in this PDU.
        16 => pub datal: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        20 => pub rsvd: [u8; 4],
    }
}

impl H2cData {
    /// `len` bytes at `offset` of the command's data.
    #[must_use]
    pub fn new(cccid: u16, ttag: u16, offset: u32, len: u32, last: bool, framing: &Framing) -> Self {
        let flags = if last { Flags::LAST } else { Flags::empty() };
        Self {
            ch: CommonHeader::build(PduType::H2cData, flags, len, framing),
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            datao: U32::new(offset),
            datal: U32::new(len),
            rsvd: [0; 4],
        }
    }

    /// Whether DATAL is what is there, and within MAXH2CDATA.
    ///
    /// # Errors
    /// The lowest bad field.
    pub fn check(&self, layout: &Layout, agreed: &Agreed) -> Result<(), Fatal> {
        layout::check_datal(self.datal.get(), layout)?;
        if self.datal.get() > agreed.max_data {
            return Err(Fatal::new(Fes::DataTransferLimitExceeded, 0, "H2CData carries more than MAXH2CDATA"));
        }
        Ok(())
    }
}

wire! {
    /// Controller to Host Data. TCP Transport Specification, "Controller To Host Data Transfer PDU (C2HData)".
    pub struct C2hData [24] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// Command identifier of the command.
        8 => pub cccid: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        10 => pub rsvd0: [u8; 2],
        /// Offset in the data of the command.
        12 => pub datao: U32,
        /// Bytes of data in this PDU.
        16 => pub datal: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        20 => pub rsvd1: [u8; 4],
    }
}

impl C2hData {
    /// `len` bytes at `offset` of the command's data; `flags` are LAST and SUCCESS.
    #[must_use]
    pub fn new(cccid: u16, offset: u32, len: u32, flags: Flags, framing: &Framing) -> Self {
        Self {
            ch: CommonHeader::build(PduType::C2hData, flags, len, framing),
            cccid: U16::new(cccid),
            rsvd0: [0; 2],
            datao: U32::new(offset),
            datal: U32::new(len),
            rsvd1: [0; 4],
        }
    }

    /// Whether DATAL is what is there.
    ///
    /// # Errors
    /// The lowest bad field.
    pub fn check(&self, layout: &Layout) -> Result<(), Fatal> {
        layout::check_datal(self.datal.get(), layout)
    }
}

wire! {
    /// Ready to Transfer. TCP Transport Specification, "Ready to Transfer PDU (R2T)".
    pub struct R2t [24] {
        /// Common header.
        0 => pub ch: CommonHeader,
        /// Command identifier of the command.
        8 => pub cccid: U16,
        /// Transfer tag, chosen by the controller.
        10 => pub ttag: U16,
        /// Offset in the data of the command.
        12 => pub r2to: U32,
        /// Bytes asked for.
        16 => pub r2tl: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        20 => pub rsvd: [u8; 4],
    }
}

impl R2t {
    /// Asks for `len` bytes at `offset` of the command's data.
    #[must_use]
    pub fn new(cccid: u16, ttag: u16, offset: u32, len: u32, framing: &Framing) -> Self {
        Self {
            ch: CommonHeader::build(PduType::R2t, Flags::empty(), 0, framing),
            cccid: U16::new(cccid),
            ttag: U16::new(ttag),
            r2to: U32::new(offset),
            r2tl: U32::new(len),
            rsvd: [0; 4],
        }
    }

    /// What a host must refuse: `expected` is the offset up to which data was asked for before, `total` the length of
    /// the command's data.
    ///
    /// # Errors
    /// Nothing asked for, beyond the command's data, or out of order.
    pub fn check(&self, expected: u32, total: u32) -> Result<(), Fatal> {
        if self.r2tl.get() == 0 {
            return Err(Fatal::new(Fes::InvalidPduHeaderField, 16, "R2T asks for no data"));
        }
        layout::check_window(self.r2to.get(), self.r2tl.get(), expected, total)
    }
}
