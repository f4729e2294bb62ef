//! Admin commands: built by hosts, read by targets.
//!
//! What a target does not know it answers with a status; so a parser here returns either the command or that status.
//!
//! NVM Express Base Specification, "Admin Command Set".

use alloc::vec::Vec;
use bitflags::bitflags;
use core::fmt;

use crate::{
    ccr::{self, CrossControllerReset},
    log,
    sqe::{LateEffect, OPCODE_FABRICS, Sgl, Sqe},
    status::Status,
};

/// Get Log Page.
pub const OPCODE_GET_LOG: u8 = 0x02;
/// Identify.
pub const OPCODE_IDENTIFY: u8 = 0x06;
/// Abort.
pub const OPCODE_ABORT: u8 = 0x08;
/// Set Features.
pub const OPCODE_SET_FEATURES: u8 = 0x09;
/// Get Features.
pub const OPCODE_GET_FEATURES: u8 = 0x0A;
/// Asynchronous Event Request.
pub const OPCODE_ASYNC_EVENT: u8 = 0x0C;
/// Keep Alive.
pub const OPCODE_KEEP_ALIVE: u8 = 0x18;

/// Bytes of every Identify answer.
pub const IDENTIFY_LEN: u32 = 4096;

/// Feature: volatile write cache.
pub const FID_VOLATILE_WRITE_CACHE: u8 = 0x06;
/// Feature: arbitration.
pub const FID_ARBITRATION: u8 = 0x01;
/// Feature: power management.
pub const FID_POWER: u8 = 0x02;
/// Feature: temperature threshold.
pub const FID_TEMPERATURE: u8 = 0x04;
/// Feature: error recovery.
pub const FID_ERROR_RECOVERY: u8 = 0x05;
/// Feature: write atomicity normal.
pub const FID_WRITE_ATOMICITY: u8 = 0x0A;
/// Feature: number of queues.
pub const FID_QUEUES: u8 = 0x07;
/// Feature: asynchronous event configuration.
pub const FID_ASYNC_EVENTS: u8 = 0x0B;
/// Feature: timestamp.
pub const FID_TIMESTAMP: u8 = 0x0E;
/// Feature: Keep Alive Timer.
pub const FID_KEEP_ALIVE: u8 = 0x0F;
/// Feature: host behavior support.
pub const FID_HOST_BEHAVIOR: u8 = 0x16;
/// Feature: host identifier.
pub const FID_HOST_ID: u8 = 0x81;

/// An admin command that is no Fabrics command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Get Log Page.
    GetLog(GetLog),
    /// Identify.
    Identify(Identify),
    /// Abort.
    Abort(Abort),
    /// Set Features.
    SetFeatures(SetFeatures),
    /// Get Features.
    GetFeatures(GetFeatures),
    /// Asynchronous Event Request.
    AsyncEventRequest,
    /// Keep Alive.
    KeepAlive,
    /// Cross-Controller Reset.
    CrossControllerReset(CrossControllerReset),
}

impl Command {
    /// Reads one.
    ///
    /// # Errors
    /// The status to answer with.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        match sqe.opcode {
            OPCODE_GET_LOG => GetLog::from_sqe(sqe).map(Self::GetLog),
            OPCODE_IDENTIFY => Identify::from_sqe(sqe).map(Self::Identify),
            OPCODE_ABORT => Ok(Self::Abort(Abort::from_sqe(sqe))),
            OPCODE_SET_FEATURES => Ok(Self::SetFeatures(SetFeatures::from_sqe(sqe))),
            OPCODE_GET_FEATURES => GetFeatures::from_sqe(sqe).map(Self::GetFeatures),
            OPCODE_ASYNC_EVENT => Ok(Self::AsyncEventRequest),
            OPCODE_KEEP_ALIVE => Ok(Self::KeepAlive),
            ccr::OPCODE => CrossControllerReset::from_sqe(sqe).map(Self::CrossControllerReset),
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        }
    }

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        match self {
            Self::GetLog(c) => c.to_sqe(),
            Self::Identify(c) => c.to_sqe(),
            Self::Abort(c) => c.to_sqe(),
            Self::SetFeatures(c) => c.to_sqe(),
            Self::GetFeatures(c) => c.to_sqe(),
            Self::AsyncEventRequest => async_event_request(),
            Self::KeepAlive => keep_alive(),
            Self::CrossControllerReset(c) => c.to_sqe(),
        }
    }

    /// Whether it changes what is on media. None of these does.
    #[must_use]
    pub const fn is_media_changing(&self) -> bool {
        false
    }

    /// Whether it may still change something after its connection is gone.
    #[must_use]
    pub fn has_late_effect(&self) -> bool {
        late_effect(&self.to_sqe()) != LateEffect::None
    }
}

/// What an unanswered admin command may still do, for any opcode: what is not known to be harmless is not repeated.
#[must_use]
pub fn late_effect(sqe: &Sqe) -> LateEffect {
    match sqe.opcode {
        OPCODE_GET_LOG
        | OPCODE_IDENTIFY
        | OPCODE_ABORT
        | OPCODE_GET_FEATURES
        | OPCODE_ASYNC_EVENT
        | OPCODE_KEEP_ALIVE
        | OPCODE_FABRICS
        | ccr::OPCODE => LateEffect::None,
        OPCODE_SET_FEATURES if !SetFeatures::from_sqe(sqe).save => LateEffect::None,
        _ => LateEffect::Unrepeatable,
    }
}

/// A Keep Alive.
#[must_use]
pub fn keep_alive() -> Sqe {
    Sqe::new(OPCODE_KEEP_ALIVE)
}

/// An Asynchronous Event Request.
#[must_use]
pub fn async_event_request() -> Sqe {
    Sqe::new(OPCODE_ASYNC_EVENT)
}

/// Get Log Page. NVM Express Base Specification, "Get Log Page command".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GetLog {
    /// Which log, see [`crate::log`].
    pub lid: u8,
    /// Namespace; FFFFFFFFh or 0 the whole controller.
    pub nsid: u32,
    /// Log specific parameter, 7 bits.
    pub lsp: u8,
    /// RAE: leave the event that told about this log masked.
    pub retain_event: bool,
    /// First byte, a multiple of 4.
    pub offset: u64,
    /// Bytes, a multiple of 4, at least 4.
    pub len: u32,
}

impl GetLog {
    const OFFSET_TYPE_INDEX: u32 = 1 << 23;

    /// The first `len` bytes of a log of the controller; clears its event.
    #[must_use]
    pub const fn new(lid: u8, len: u32) -> Self {
        Self { lid, nsid: log::NSID_ALL, lsp: 0, retain_event: false, offset: 0, len }
    }

    /// Same, from this byte on.
    #[must_use]
    pub const fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The command; its data comes back by the transport.
    ///
    /// # Panics
    /// If `len` or `offset` are no multiples of 4, or `len` is 0.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        assert!(self.len >= 4 && self.len.is_multiple_of(4), "a log is read in dwords, not {} bytes", self.len);
        assert!(self.offset.is_multiple_of(4), "a log is read from a dword on, not byte {}", self.offset);
        let numd = self.len / 4 - 1;
        let mut sqe = Sqe::new(OPCODE_GET_LOG).with_nsid(self.nsid);
        sqe.cdw10.set(
            u32::from(self.lid)
                | (u32::from(self.lsp) & 0x7F) << 8
                | u32::from(self.retain_event) << 15
                | (numd & 0xFFFF) << 16,
        );
        sqe.cdw11.set(numd >> 16);
        sqe.set_cdw12_13(self.offset);
        sqe.set_sgl(Sgl::Transport { len: self.len });
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Field for an index instead of an offset, an offset between dwords, or 4 GiB and more.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        let (cdw10, offset) = (sqe.cdw10.get(), sqe.cdw12_13());
        let numd = cdw10 >> 16 | (sqe.cdw11.get() & 0xFFFF) << 16;
        let len = numd.checked_add(1).and_then(|n| n.checked_mul(4));
        match len {
            Some(len) if offset.is_multiple_of(4) && sqe.cdw14.get() & Self::OFFSET_TYPE_INDEX == 0 => Ok(Self {
                lid: cdw10 as u8,
                nsid: sqe.nsid.get(),
                lsp: (cdw10 >> 8) as u8 & 0x7F,
                retain_event: cdw10 >> 15 & 1 != 0,
                offset,
                len,
            }),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }
}

/// Identify. NVM Express Base Specification, "Identify command". The answer has 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identify {
    /// CNS 00h: a namespace, as the NVM command set sees it.
    Namespace {
        /// Which.
        nsid: u32,
    },
    /// CNS 01h: the controller.
    Controller,
    /// CNS 02h: active namespaces, ascending.
    ActiveNamespaces {
        /// Only those above.
        after: u32,
    },
    /// CNS 03h: the identifiers of a namespace.
    Descriptors {
        /// Which.
        nsid: u32,
    },
    /// CNS 05h: a namespace, as one command set sees it.
    NamespaceCsi {
        /// Which.
        nsid: u32,
        /// Command set; 0 NVM.
        csi: u8,
    },
    /// CNS 06h: the controller, as one command set sees it.
    ControllerCsi {
        /// Command set; 0 NVM.
        csi: u8,
    },
    /// CNS 08h: a namespace, independent of command sets.
    NamespaceIndependent {
        /// Which.
        nsid: u32,
    },
}

impl Identify {
    /// The command; its data comes back by the transport.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let (cns, nsid, csi) = match *self {
            Self::Namespace { nsid } => (0x00, nsid, 0),
            Self::Controller => (0x01, 0, 0),
            Self::ActiveNamespaces { after } => (0x02, after, 0),
            Self::Descriptors { nsid } => (0x03, nsid, 0),
            Self::NamespaceCsi { nsid, csi } => (0x05, nsid, csi),
            Self::ControllerCsi { csi } => (0x06, 0, csi),
            Self::NamespaceIndependent { nsid } => (0x08, nsid, 0),
        };
        let mut sqe = Sqe::new(OPCODE_IDENTIFY).with_nsid(nsid);
        sqe.cdw10.set(cns);
        sqe.cdw11.set(u32::from(csi) << 24);
        sqe.set_sgl(Sgl::Transport { len: IDENTIFY_LEN });
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Field for what is not known here.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        let (nsid, csi) = (sqe.nsid.get(), (sqe.cdw11.get() >> 24) as u8);
        match sqe.cdw10.get() as u8 {
            0x00 => Ok(Self::Namespace { nsid }),
            0x01 => Ok(Self::Controller),
            0x02 => Ok(Self::ActiveNamespaces { after: nsid }),
            0x03 => Ok(Self::Descriptors { nsid }),
            0x05 => Ok(Self::NamespaceCsi { nsid, csi }),
            0x06 => Ok(Self::ControllerCsi { csi }),
            0x08 => Ok(Self::NamespaceIndependent { nsid }),
            _ => Err(Status::INVALID_FIELD.with_dnr()),
        }
    }
}

/// Abort. NVM Express Base Specification, "Abort command".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Abort {
    /// Queue of the command.
    pub sqid: u16,
    /// The command.
    pub cid: u16,
}

impl Abort {
    /// DW0 of the answer: the command was not aborted.
    pub const NOT_ABORTED: u32 = 1;

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(OPCODE_ABORT);
        sqe.cdw10.set(u32::from(self.sqid) | u32::from(self.cid) << 16);
        sqe
    }

    /// Reads one.
    #[must_use]
    pub const fn from_sqe(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self { sqid: cdw10 as u16, cid: (cdw10 >> 16) as u16 }
    }
}

/// What a host can do. NVM Express Base Specification, "Host Behavior Support".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct HostBehavior {
    /// ACRE: it waits before a retry as long as the controller asks for; without this no controller asks.
    pub retry_delays: bool,
}

impl HostBehavior {
    /// Bytes of the structure.
    pub const LEN: usize = 512;

    /// As it goes with Set Features.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; Self::LEN];
        bytes[0] = u8::from(self.retry_delays);
        bytes
    }

    /// Reads one; `None` if it is not whole.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= Self::LEN).then(|| Self { retry_delays: bytes[0] & 1 != 0 })
    }
}

/// Set Features. NVM Express Base Specification, "Set Features command".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetFeatures {
    /// Which feature.
    pub fid: u8,
    /// SV: keep the value over resets.
    pub save: bool,
    /// Namespace, where the feature is one of a namespace.
    pub nsid: u32,
    /// Value.
    pub cdw11: u32,
}

impl SetFeatures {
    /// Asks for I/O queues.
    #[must_use]
    pub const fn queues(count: QueueCount) -> Self {
        Self { fid: FID_QUEUES, save: false, nsid: 0, cdw11: count.to_u32() }
    }

    /// Sets the Keep Alive Timer, in ms; 0 off.
    #[must_use]
    pub const fn keep_alive(kato_ms: u32) -> Self {
        Self { fid: FID_KEEP_ALIVE, save: false, nsid: 0, cdw11: kato_ms }
    }

    /// Says what this host can do, in a [`HostBehavior`] that goes with it.
    #[must_use]
    pub const fn host_behavior() -> Self {
        Self { fid: FID_HOST_BEHAVIOR, save: false, nsid: 0, cdw11: 0 }
    }

    /// Chooses the events to be told of.
    #[must_use]
    pub const fn async_events(events: EventMask) -> Self {
        Self { fid: FID_ASYNC_EVENTS, save: false, nsid: 0, cdw11: events.bits() }
    }

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(OPCODE_SET_FEATURES).with_nsid(self.nsid);
        sqe.cdw10.set(u32::from(self.fid) | u32::from(self.save) << 31);
        sqe.cdw11.set(self.cdw11);
        sqe
    }

    /// Reads one.
    #[must_use]
    pub const fn from_sqe(sqe: &Sqe) -> Self {
        let cdw10 = sqe.cdw10.get();
        Self { fid: cdw10 as u8, save: cdw10 >> 31 != 0, nsid: sqe.nsid.get(), cdw11: sqe.cdw11.get() }
    }
}

/// Which value of a feature is asked for (SEL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Select {
    /// The value in use.
    Current,
    /// The default.
    Default,
    /// The saved one.
    Saved,
    /// What can be done with the feature.
    Capabilities,
}

/// Get Features. NVM Express Base Specification, "Get Features command".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GetFeatures {
    /// Which feature.
    pub fid: u8,
    /// Which value of it.
    pub select: Select,
    /// Namespace, where the feature is one of a namespace.
    pub nsid: u32,
}

impl GetFeatures {
    /// The current value of a feature of the controller.
    #[must_use]
    pub const fn current(fid: u8) -> Self {
        Self { fid, select: Select::Current, nsid: 0 }
    }

    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(OPCODE_GET_FEATURES).with_nsid(self.nsid);
        let select = match self.select {
            Select::Current => 0,
            Select::Default => 1,
            Select::Saved => 2,
            Select::Capabilities => 3,
        };
        sqe.cdw10.set(u32::from(self.fid) | select << 8);
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Field for a reserved SEL.
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        let cdw10 = sqe.cdw10.get();
        let select = match cdw10 >> 8 & 7 {
            0 => Select::Current,
            1 => Select::Default,
            2 => Select::Saved,
            3 => Select::Capabilities,
            _ => return Err(Status::INVALID_FIELD.with_dnr()),
        };
        Ok(Self { fid: cdw10 as u8, select, nsid: sqe.nsid.get() })
    }
}

/// Number of Queues, asked for (CDW11) or given (DW0). NVM Express Base Specification, "Number of Queues".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueCount {
    /// Submission queues, 0's based; FFFFh is invalid.
    pub nsq: u16,
    /// Completion queues, 0's based; FFFFh is invalid.
    pub ncq: u16,
}

impl QueueCount {
    /// That many pairs, at least one.
    #[must_use]
    pub const fn pairs(count: u16) -> Self {
        let n = count.saturating_sub(1);
        Self { nsq: n, ncq: n }
    }

    /// From a CDW11 or DW0.
    #[must_use]
    pub const fn from_u32(value: u32) -> Self {
        Self { nsq: value as u16, ncq: (value >> 16) as u16 }
    }

    /// The CDW11 or DW0.
    #[must_use]
    pub const fn to_u32(self) -> u32 {
        self.nsq as u32 | (self.ncq as u32) << 16
    }

    /// Whether both numbers are possible.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.nsq != u16::MAX && self.ncq != u16::MAX
    }

    /// How many queue pairs that makes.
    #[must_use]
    pub const fn usable(self) -> u16 {
        let least = if self.nsq < self.ncq { self.nsq } else { self.ncq };
        least.saturating_add(1)
    }
}

bitflags! {
    /// Events, in OAES (supported) and in the Asynchronous Event Configuration feature (wanted). NVM Express Base
    /// Specification, "Asynchronous Event Configuration".
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct EventMask: u32 {
        /// SMART / health critical warnings, which OAES does not name.
        const HEALTH = 0xFF;
        /// Attached namespace attributes.
        const NAMESPACE = 1 << 8;
        /// Firmware activation.
        const FIRMWARE = 1 << 9;
        /// Asymmetric namespace access.
        const ANA = 1 << 11;
        /// Cross-Controller Reset completed.
        const CCR = 1 << 20;
        /// Lost host communication.
        const LOST_HOST = 1 << 21;
        /// Discovery log.
        const DISCOVERY = 1 << 31;
        /// Others exist.
        const _ = !0;
    }
}

/// An asynchronous event, as in DW0 of the completion of a request. NVM Express Base Specification, "Asynchronous
/// Event Request command", "Asynchronous Event Information".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AsyncEvent {
    /// Type: 0 error, 1 health, 2 notice, 6 command set specific, 7 vendor.
    pub kind: u8,
    /// Information.
    pub info: u8,
    /// The log to read, which also lets the next event of this kind through.
    pub log: u8,
}

impl AsyncEvent {
    /// Error: persistent internal error.
    pub const PERSISTENT_ERROR: Self = Self { kind: 0, info: 0x03, log: log::LID_ERROR };
    /// Notice: namespaces changed.
    pub const NAMESPACE_CHANGED: Self = Self { kind: 2, info: 0x00, log: log::LID_CHANGED_NAMESPACES };
    /// Notice: firmware activation begins.
    pub const FIRMWARE_ACTIVATION: Self = Self { kind: 2, info: 0x01, log: log::LID_FIRMWARE };
    /// Notice: ANA states changed.
    pub const ANA_CHANGED: Self = Self { kind: 2, info: 0x03, log: log::LID_ANA };
    /// Notice: the discovery log changed.
    pub const DISCOVERY_CHANGED: Self = Self { kind: 2, info: 0xF0, log: log::LID_DISCOVERY };
    /// Notice: a Cross-Controller Reset completed.
    pub const CCR_COMPLETED: Self = Self { kind: 2, info: 0xF4, log: log::LID_CCR };
    /// Notice: another controller lost its host.
    pub const LOST_HOST: Self = Self { kind: 2, info: 0xF5, log: log::LID_LOST_HOST };

    /// From DW0.
    #[must_use]
    pub const fn from_dw0(dw0: u32) -> Self {
        Self { kind: dw0 as u8 & 7, info: (dw0 >> 8) as u8, log: (dw0 >> 16) as u8 }
    }

    /// DW0.
    #[must_use]
    pub const fn to_dw0(self) -> u32 {
        self.kind as u32 | (self.info as u32) << 8 | (self.log as u32) << 16
    }

    /// The bit that enables it; `None` for events that are always on.
    #[must_use]
    pub const fn mask(self) -> Option<EventMask> {
        match (self.kind, self.info) {
            (2, 0x00) => Some(EventMask::NAMESPACE),
            (2, 0x01) => Some(EventMask::FIRMWARE),
            (2, 0x03) => Some(EventMask::ANA),
            (2, 0xF0) => Some(EventMask::DISCOVERY),
            (2, 0xF4) => Some(EventMask::CCR),
            (2, 0xF5) => Some(EventMask::LOST_HOST),
            _ => None,
        }
    }
}

impl fmt::Display for AsyncEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match (self.kind, self.info) {
            (0, 0x03) => "persistent internal error",
            (2, 0x00) => "attached namespace attribute changed",
            (2, 0x01) => "firmware activation starting",
            (2, 0x03) => "asymmetric namespace access changed",
            (2, 0xF0) => "discovery log changed",
            (2, 0xF4) => "Cross-Controller Reset completed",
            (2, 0xF5) => "lost host communication",
            _ => {
                return write!(f, "event of type {}, information {:02x}h, log {:02x}h", self.kind, self.info, self.log);
            }
        };
        f.write_str(name)
    }
}
