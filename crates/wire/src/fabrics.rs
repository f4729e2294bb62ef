//! Fabrics commands: how a queue is connected and a controller is configured.
//!
//! NVM Express Base Specification, "Fabrics Command Set".

use zerocopy::{FromBytes, little_endian::U16};

pub use crate::property::{Cap, Cc, Crto, Csts, Shutdown, ShutdownStatus, Version};
use crate::{
    nqn::{HostId, Nqn, NqnError},
    property,
    sqe::{Cqe, Sgl, Sqe},
    status::Status,
};

/// FCTYPE of Property Set.
pub const FCTYPE_PROPERTY_SET: u8 = 0x00;
/// FCTYPE of Connect.
pub const FCTYPE_CONNECT: u8 = 0x01;
/// FCTYPE of Property Get.
pub const FCTYPE_PROPERTY_GET: u8 = 0x04;
/// FCTYPE of Authentication Send.
pub const FCTYPE_AUTH_SEND: u8 = 0x05;
/// FCTYPE of Authentication Receive.
pub const FCTYPE_AUTH_RECEIVE: u8 = 0x06;
/// FCTYPE of Disconnect.
pub const FCTYPE_DISCONNECT: u8 = 0x08;
/// Largest in-capsule data of the admin queue and of Fabrics commands on any queue, whatever IOCCSZ says.
pub const ADMIN_IN_CAPSULE_MAX: u32 = 8192;
/// CNTLID in an admin Connect: any controller.
pub const CNTLID_DYNAMIC: u16 = 0xFFFF;
/// CNTLID in an admin Connect: any controller of the static model.
pub const CNTLID_STATIC: u16 = 0xFFFE;
/// Highest CNTLID a controller can have; the lowest is 1.
pub const CNTLID_MAX: u16 = 0xFFEF;

/// A Fabrics command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Connect a queue.
    Connect(Connect),
    /// Read a property.
    PropertyGet(PropertyGet),
    /// Write a property.
    PropertySet(PropertySet),
    /// Authentication Send.
    AuthSend,
    /// Authentication Receive.
    AuthReceive,
    /// Disconnect an I/O queue.
    Disconnect,
}

impl Command {
    /// Reads one.
    ///
    /// # Errors
    /// The status to answer with: no Fabrics command, an unknown FCTYPE, or a field that is wrong in itself.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        if !sqe.is_fabrics() {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        match sqe.fctype() {
            FCTYPE_PROPERTY_SET => PropertySet::from_sqe(sqe).map(Self::PropertySet),
            FCTYPE_CONNECT => Connect::from_sqe(sqe).map(Self::Connect),
            FCTYPE_PROPERTY_GET => PropertyGet::from_sqe(sqe).map(Self::PropertyGet),
            FCTYPE_AUTH_SEND => Ok(Self::AuthSend),
            FCTYPE_AUTH_RECEIVE => Ok(Self::AuthReceive),
            FCTYPE_DISCONNECT if sqe.cdw10.get() as u16 == 0 => Ok(Self::Disconnect),
            FCTYPE_DISCONNECT => Err(Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr()),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    /// Whether it may be sent on an I/O queue.
    #[must_use]
    pub const fn allowed_on_io_queue(&self) -> bool {
        !matches!(self, Self::PropertyGet(_) | Self::PropertySet(_))
    }
}

/// A Disconnect command, for the I/O queue it is sent on.
#[must_use]
pub fn disconnect() -> Sqe {
    Sqe::fabrics(FCTYPE_DISCONNECT)
}

/// Connect. NVM Express Base Specification, "Connect Command and Response".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connect {
    /// Queue; 0 is the admin queue, which creates the controller.
    pub qid: u16,
    /// Entries of the submission queue, 0's based.
    pub sqsize: u16,
    /// Whether the controller reports SQHD.
    pub sq_flow_control: bool,
    /// Keep Alive Timeout in ms; 0 off, and 0 on I/O queues.
    pub kato_ms: u32,
}

impl Connect {
    const DISABLE_SQ_FLOW_CONTROL: u8 = 1 << 2;

    /// The command. Its 1024 bytes of [`ConnectData`] go in the capsule.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::fabrics(FCTYPE_CONNECT);
        let cattr = if self.sq_flow_control { 0 } else { Self::DISABLE_SQ_FLOW_CONTROL };
        sqe.cdw10.set(u32::from(self.qid) << 16);
        sqe.cdw11.set(u32::from(self.sqsize) | u32::from(cattr) << 16);
        sqe.cdw12.set(self.kato_ms);
        sqe.set_sgl(Sgl::InCapsule { len: size_of::<ConnectData>() as u32 });
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Connect Incompatible Format if RECFMT is not 0.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        if sqe.cdw10.get() as u16 != 0 {
            return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.with_dnr());
        }
        let cattr = (sqe.cdw11.get() >> 16) as u8;
        Ok(Self {
            qid: (sqe.cdw10.get() >> 16) as u16,
            sqsize: sqe.cdw11.get() as u16,
            sq_flow_control: cattr & Self::DISABLE_SQ_FLOW_CONTROL == 0,
            kato_ms: sqe.cdw12.get(),
        })
    }
}

wire! {
    /// Data of a Connect. NVM Express Base Specification, "Connect Command - Data".
    pub struct ConnectData [1024] {
        /// Host identifier.
        0 => pub hostid: [u8; 16],
        /// Controller asked for: FFFFh any on the admin queue, the assigned one on I/O queues.
        16 => pub cntlid: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        18 => pub rsvd0: [u8; 238],
        /// Name of the subsystem, NUL terminated.
        256 => pub subnqn: [u8; 256],
        /// Name of the host, NUL terminated.
        512 => pub hostnqn: [u8; 256],
        /// Reserved, zero.
        #[doc(hidden)]
        768 => pub rsvd1: [u8; 256],
    }
}

impl ConnectData {
    /// From its parts.
    #[must_use]
    pub fn new(hostid: HostId, hostnqn: &Nqn, subnqn: &Nqn, cntlid: u16) -> Self {
        Self {
            hostid: hostid.0,
            cntlid: U16::new(cntlid),
            subnqn: subnqn.to_field(),
            hostnqn: hostnqn.to_field(),
            ..Self::default()
        }
    }

    /// Reads the data of a Connect. `None` if there are not 1024 bytes of it.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read_from_bytes(bytes).ok()
    }

    /// The host identifier.
    #[must_use]
    pub const fn hostid(&self) -> HostId {
        HostId(self.hostid)
    }

    /// The name of the subsystem.
    ///
    /// # Errors
    /// What is wrong with it; answer with [`InvalidParameter::SUBNQN`].
    pub fn subnqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// The name of the host.
    ///
    /// # Errors
    /// What is wrong with it; answer with [`InvalidParameter::HOSTNQN`].
    pub fn hostnqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.hostnqn)
    }
}

/// What a successful Connect answers in DW0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectAnswer {
    /// The controller.
    pub cntlid: u16,
    /// ATR: in-band authentication is demanded.
    pub authentication_required: bool,
    /// ASCR: in-band authentication and a secure channel from it are demanded.
    pub secure_channel_required: bool,
}

impl ConnectAnswer {
    /// Reads DW0.
    #[must_use]
    pub const fn from_dw0(dw0: u32) -> Self {
        Self {
            cntlid: dw0 as u16,
            authentication_required: dw0 & 1 << 17 != 0,
            secure_channel_required: dw0 & 1 << 18 != 0,
        }
    }

    /// DW0.
    #[must_use]
    pub const fn to_dw0(self) -> u32 {
        self.cntlid as u32 | (self.authentication_required as u32) << 17 | (self.secure_channel_required as u32) << 18
    }
}

/// Which field a Connect Invalid Parameters speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InvalidParameter {
    /// Byte offset (IPO).
    pub offset: u16,
    /// Whether the offset counts in the data (IATTR 1) or in the command (0).
    pub in_data: bool,
}

impl InvalidParameter {
    /// QID.
    pub const QID: Self = Self { offset: 42, in_data: false };
    /// SQSIZE.
    pub const SQSIZE: Self = Self { offset: 44, in_data: false };
    /// Host identifier.
    pub const HOSTID: Self = Self { offset: 0, in_data: true };
    /// Controller.
    pub const CNTLID: Self = Self { offset: 16, in_data: true };
    /// Name of the subsystem.
    pub const SUBNQN: Self = Self { offset: 256, in_data: true };
    /// Name of the host.
    pub const HOSTNQN: Self = Self { offset: 512, in_data: true };

    /// Reads DW0 of the completion.
    #[must_use]
    pub const fn from_dw0(dw0: u32) -> Self {
        Self { offset: dw0 as u16, in_data: dw0 >> 16 & 1 != 0 }
    }

    /// DW0 of the completion.
    #[must_use]
    pub const fn to_dw0(self) -> u32 {
        self.offset as u32 | (self.in_data as u32) << 16
    }

    /// The field's name, if it is one a Connect has.
    #[must_use]
    pub const fn field(self) -> Option<&'static str> {
        match (self.in_data, self.offset) {
            (false, 40 | 41) => Some("record format"),
            (false, 42 | 43) => Some("queue identifier"),
            (false, 44 | 45) => Some("queue size"),
            (false, 46) => Some("connect attributes"),
            (false, 48..=51) => Some("keep alive timeout"),
            (true, 0..=15) => Some("host identifier"),
            (true, 16 | 17) => Some("controller identifier"),
            (true, 256..=511) => Some("subsystem NQN"),
            (true, 512..=767) => Some("host NQN"),
            _ => None,
        }
    }
}

impl core::fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let place = if self.in_data { "data" } else { "command" };
        match self.field() {
            Some(field) => write!(f, "{field} (byte {} of the {place})", self.offset),
            None => write!(f, "byte {} of the {place}", self.offset),
        }
    }
}

/// Size of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PropertySize {
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

impl PropertySize {
    fn from_attrib(attrib: u8) -> Result<Self, Status> {
        match attrib & 7 {
            0 => Ok(Self::Four),
            1 => Ok(Self::Eight),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }

    fn attrib(self) -> u32 {
        match self {
            Self::Four => 0,
            Self::Eight => 1,
        }
    }
}

/// Property Get. NVM Express Base Specification, "Property Get Command and Response".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PropertyGet {
    /// Offset, see [`crate::property`].
    pub offset: u32,
    /// Size.
    pub size: PropertySize,
}

impl PropertyGet {
    /// Reads CAP.
    pub const CAP: Self = Self { offset: property::CAP, size: PropertySize::Eight };
    /// Reads VS.
    pub const VS: Self = Self { offset: property::VS, size: PropertySize::Four };
    /// Reads CC.
    pub const CC: Self = Self { offset: property::CC, size: PropertySize::Four };
    /// Reads CSTS.
    pub const CSTS: Self = Self { offset: property::CSTS, size: PropertySize::Four };
    /// Reads CRTO.
    pub const CRTO: Self = Self { offset: property::CRTO, size: PropertySize::Four };

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::fabrics(FCTYPE_PROPERTY_GET);
        sqe.cdw10.set(self.size.attrib());
        sqe.cdw11.set(self.offset);
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Field for a size that does not exist.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        Ok(Self { size: PropertySize::from_attrib(sqe.cdw10.get() as u8)?, offset: sqe.cdw11.get() })
    }

    /// The value in an answer.
    #[must_use]
    pub fn value(&self, cqe: &Cqe) -> u64 {
        match self.size {
            PropertySize::Four => u64::from(cqe.dw0.get()),
            PropertySize::Eight => cqe.result(),
        }
    }
}

/// Property Set. NVM Express Base Specification, "Property Set Command and Response".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PropertySet {
    /// Offset, see [`crate::property`].
    pub offset: u32,
    /// Size.
    pub size: PropertySize,
    /// Value.
    pub value: u64,
}

impl PropertySet {
    /// Writes CC.
    #[must_use]
    pub const fn cc(cc: Cc) -> Self {
        Self { offset: property::CC, size: PropertySize::Four, value: cc.0 as u64 }
    }

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::fabrics(FCTYPE_PROPERTY_SET);
        sqe.cdw10.set(self.size.attrib());
        sqe.cdw11.set(self.offset);
        sqe.set_cdw12_13(self.value);
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Field for a size that does not exist.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        let size = PropertySize::from_attrib(sqe.cdw10.get() as u8)?;
        let value = match size {
            PropertySize::Four => u64::from(sqe.cdw12.get()),
            PropertySize::Eight => sqe.cdw12_13(),
        };
        Ok(Self { offset: sqe.cdw11.get(), size, value })
    }
}
