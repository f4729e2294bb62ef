//! Submission and completion queue entries.
//!
//! On TCP every command says where its data is by one SGL descriptor of two possible kinds, so that is what
//! [`Sgl`] knows; anything else a peer may write there is kept as [`Sgl::Unsupported`] and answered, never guessed.
//!
//! NVM Express Base Specification, "Submission Queue Entry", "Completion Queue Entry", "Scatter Gather List (SGL)".

use zerocopy::little_endian::{U16, U32, U64};

use crate::status::Status;

/// Value of byte 1 of every command on fabrics: SGLs, not fused.
pub const FLAGS_SGL: u8 = 0x40;
/// Opcode of all Fabrics commands.
pub const OPCODE_FABRICS: u8 = 0x7F;

wire! {
    /// SGL descriptor. NVM Express Base Specification, "SGL Descriptor".
    pub struct SglDescriptor [16] {
        /// Address, or the offset in the capsule.
        0 => pub address: U64,
        /// Length in bytes.
        8 => pub length: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        12 => pub rsvd: [u8; 3],
        /// Type in bits 7:4, subtype in bits 3:0.
        15 => pub kind: u8,
    }
}

wire! {
    /// Submission queue entry. NVM Express Base Specification, "Submission Queue Entry".
    pub struct Sqe [64] {
        /// Opcode; bits 1:0 give the direction of the data.
        0 => pub opcode: u8,
        /// FUSE in bits 1:0, PSDT in bits 7:6.
        1 => pub flags: u8,
        /// Command identifier, unique among the outstanding commands of a queue.
        2 => pub cid: U16,
        /// Namespace identifier. In Fabrics commands byte 0 of it is FCTYPE.
        4 => pub nsid: U32,
        /// Command Dword 2.
        8 => pub cdw2: U32,
        /// Command Dword 3.
        12 => pub cdw3: U32,
        /// Metadata pointer, unused on TCP.
        16 => pub mptr: U64,
        /// SGL 1.
        24 => pub sgl1: SglDescriptor,
        /// Command Dword 10.
        40 => pub cdw10: U32,
        /// Command Dword 11.
        44 => pub cdw11: U32,
        /// Command Dword 12.
        48 => pub cdw12: U32,
        /// Command Dword 13.
        52 => pub cdw13: U32,
        /// Command Dword 14.
        56 => pub cdw14: U32,
        /// Command Dword 15.
        60 => pub cdw15: U32,
    }
}

/// Which way the data of a command goes, from bits 1:0 of its opcode (or FCTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataDirection {
    /// No data (00b).
    None,
    /// From host to controller (01b).
    ToController,
    /// From controller to host (10b).
    ToHost,
    /// Both ways (11b). No command on TCP does that.
    Both,
}

impl DataDirection {
    /// From the low two bits of an opcode.
    #[must_use]
    pub const fn of(opcode: u8) -> Self {
        match opcode & 3 {
            0 => Self::None,
            1 => Self::ToController,
            2 => Self::ToHost,
            _ => Self::Both,
        }
    }
}

/// What a command may still do to its subsystem after its connection is gone, and what that means for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LateEffect {
    /// None: it can be repeated elsewhere at any time.
    None,
    /// It may still change something, and doing it twice is the same as once: in doubt until fenced, then repeatable.
    Repeatable,
    /// It may still change something, and doing it twice is something else: in doubt until fenced, then reported as
    /// settled with an unknown outcome, never repeated.
    Unrepeatable,
}

/// Where the data of a command is. TCP Transport Specification, "SGLs".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sgl {
    /// Behind the command in its capsule, at offset 0 of the data area.
    InCapsule {
        /// Bytes.
        len: u32,
    },
    /// In a buffer of the host, moved by the transport. A length of 0 means no data.
    Transport {
        /// Bytes.
        len: u32,
    },
    /// What TCP does not know: other descriptor types, or an offset into the capsule's data.
    Unsupported {
        /// Type and subtype.
        kind: u8,
        /// Address or offset.
        address: u64,
        /// Bytes it claims.
        len: u32,
    },
}

impl Sgl {
    /// Data Block descriptor with subtype Offset.
    pub const KIND_IN_CAPSULE: u8 = 0x01;
    /// Transport SGL Data Block descriptor with the transport's own subtype.
    pub const KIND_TRANSPORT: u8 = 0x5A;
    /// No data.
    pub const NONE: Self = Self::Transport { len: 0 };

    /// Bytes it describes.
    #[must_use]
    pub const fn len(self) -> u32 {
        match self {
            Self::InCapsule { len } | Self::Transport { len } | Self::Unsupported { len, .. } => len,
        }
    }

    /// Whether it describes no data.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Sqe {
    /// A command with nothing but its opcode, without data and with the flags that fabrics demand.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        let mut sqe = Self { opcode, flags: FLAGS_SGL, ..Self::default() };
        sqe.set_sgl(Sgl::NONE);
        sqe
    }

    /// A Fabrics command of this type.
    #[must_use]
    pub fn fabrics(fctype: u8) -> Self {
        let mut sqe = Self::new(OPCODE_FABRICS);
        sqe.nsid.set(u32::from(fctype));
        sqe
    }

    /// Same, for this namespace.
    #[must_use]
    pub fn with_nsid(mut self, nsid: u32) -> Self {
        self.nsid.set(nsid);
        self
    }

    /// Whether this is a Fabrics command.
    #[must_use]
    pub const fn is_fabrics(&self) -> bool {
        self.opcode == OPCODE_FABRICS
    }

    /// FCTYPE; means something only in a Fabrics command.
    #[must_use]
    pub const fn fctype(&self) -> u8 {
        self.nsid.to_bytes()[0]
    }

    /// Where the data is.
    #[must_use]
    pub const fn sgl(&self) -> Sgl {
        let len = self.sgl1.length.get();
        match (self.sgl1.kind, self.sgl1.address.get()) {
            (Sgl::KIND_IN_CAPSULE, 0) => Sgl::InCapsule { len },
            (Sgl::KIND_TRANSPORT, _) => Sgl::Transport { len },
            (kind, address) => Sgl::Unsupported { kind, address, len },
        }
    }

    /// Says where the data is.
    pub fn set_sgl(&mut self, sgl: Sgl) {
        let (kind, address, len) = match sgl {
            Sgl::InCapsule { len } => (Sgl::KIND_IN_CAPSULE, 0, len),
            Sgl::Transport { len } => (Sgl::KIND_TRANSPORT, 0, len),
            Sgl::Unsupported { kind, address, len } => (kind, address, len),
        };
        self.sgl1 = SglDescriptor { address: U64::new(address), length: U32::new(len), rsvd: [0; 3], kind };
    }

    /// Which way its data goes, if the SGL describes any.
    #[must_use]
    pub const fn data_direction(&self) -> DataDirection {
        DataDirection::of(if self.is_fabrics() { self.fctype() } else { self.opcode })
    }

    /// CDW10 and CDW11 as one number (a starting LBA).
    #[must_use]
    pub const fn cdw10_11(&self) -> u64 {
        self.cdw10.get() as u64 | (self.cdw11.get() as u64) << 32
    }

    /// Sets CDW10 and CDW11 from one number.
    pub fn set_cdw10_11(&mut self, value: u64) {
        self.cdw10.set(value as u32);
        self.cdw11.set((value >> 32) as u32);
    }

    /// CDW12 and CDW13 as one number.
    #[must_use]
    pub const fn cdw12_13(&self) -> u64 {
        self.cdw12.get() as u64 | (self.cdw13.get() as u64) << 32
    }

    /// Sets CDW12 and CDW13 from one number.
    pub fn set_cdw12_13(&mut self, value: u64) {
        self.cdw12.set(value as u32);
        self.cdw13.set((value >> 32) as u32);
    }

    /// What every command on TCP must have: SGLs (PSDT 01b), not fused, no reserved bits in byte 1.
    ///
    /// # Errors
    /// Invalid Field in Command, with DNR.
    pub const fn check_flags(&self) -> Result<(), Status> {
        if self.flags == FLAGS_SGL { Ok(()) } else { Err(Status::INVALID_FIELD.with_dnr()) }
    }
}

wire! {
    /// Completion queue entry. NVM Express Base Specification, "Completion Queue Entry".
    pub struct Cqe [16] {
        /// Command specific result.
        0 => pub dw0: U32,
        /// Command specific result, second half.
        4 => pub dw1: U32,
        /// Submission queue head pointer; FFFFh in the answer to a Connect that switched flow control off.
        8 => pub sqhd: U16,
        /// Submission queue identifier.
        10 => pub sqid: U16,
        /// Which command this answers.
        12 => pub cid: U16,
        /// Phase in bit 0 (unused on fabrics), the status above it; see [`Cqe::status`].
        14 => pub status_word: U16,
    }
}

impl Cqe {
    /// An answer without a result.
    #[must_use]
    pub fn new(cid: u16, sqhd: u16, status: Status) -> Self {
        Self { sqhd: U16::new(sqhd), cid: U16::new(cid), ..Self::default() }.with_status(status)
    }

    /// Same, with this result.
    #[must_use]
    pub fn with_result(mut self, dw0: u32, dw1: u32) -> Self {
        self.dw0.set(dw0);
        self.dw1.set(dw1);
        self
    }

    /// Same, with this status.
    #[must_use]
    pub fn with_status(mut self, status: Status) -> Self {
        self.status_word.set(status.0 << 1);
        self
    }

    /// The status, phase shifted out.
    #[must_use]
    pub const fn status(&self) -> Status {
        Status(self.status_word.get() >> 1)
    }

    /// DW0 and DW1 as one number (an 8-byte property).
    #[must_use]
    pub const fn result(&self) -> u64 {
        self.dw0.get() as u64 | (self.dw1.get() as u64) << 32
    }
}
