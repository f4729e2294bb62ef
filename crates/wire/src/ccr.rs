//! Cross-Controller Reset: the fence.
//!
//! A host that lost a controller asks another one of the same subsystem to reset it. Success means that no command of
//! that controller *instance* can touch media any more. Everything here names an instance by three numbers, because
//! a controller identifier alone comes back with every reconnect.
//!
//! NVM Express Base Specification 2.3, "Cross-Controller Reset command", "Cross-Controller Reset log page".

use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, IntoBytes, little_endian::U16};

use crate::{admin::GetLog, log, sqe::Sqe, status::Status};

/// Opcode, on the admin queue of the source controller.
pub const OPCODE: u8 = 0x38;
/// Bytes of the log page.
pub const LOG_LEN: usize = 4096;
/// Most entries of the log page.
pub const ENTRIES_MAX: usize = 511;

/// One life of one controller: from an enable to the reset that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// Controller identifier.
    pub cntlid: u16,
    /// Controller Instance Uniquifier; 0 not reported.
    pub ciu: u8,
    /// Controller Instance Random Number; 0 not reported.
    pub cirn: u64,
}

impl Instance {
    /// Whether the controller says which life it is, without which it cannot be fenced by name.
    #[must_use]
    pub const fn is_reported(&self) -> bool {
        self.ciu != 0 && self.cirn != 0
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "controller {:#06x}, instance {:02x}/{:016x}", self.cntlid, self.ciu, self.cirn)
    }
}

/// The command: reset the impacted controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CrossControllerReset {
    /// Which life is to end.
    pub impacted: Instance,
}

impl CrossControllerReset {
    /// The command.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::new(OPCODE);
        sqe.cdw10.set(u32::from(self.impacted.cntlid) | u32::from(self.impacted.ciu) << 16);
        sqe.set_cdw12_13(self.impacted.cirn);
        sqe
    }

    /// Reads one.
    ///
    /// # Errors
    /// Invalid Opcode if it is another command; Invalid Field if it cannot name an instance (CIU or CIRN 0).
    pub fn from_sqe(sqe: &Sqe) -> Result<Self, Status> {
        if sqe.opcode != OPCODE {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        let cdw10 = sqe.cdw10.get();
        let impacted = Instance { cntlid: cdw10 as u16, ciu: (cdw10 >> 16) as u8, cirn: sqe.cdw12_13() };
        if impacted.is_reported() { Ok(Self { impacted }) } else { Err(Status::INVALID_FIELD.with_dnr()) }
    }
}

/// Immediate Reset Successful, bit 0 of DW0 of a *successful* completion: the instance is dead already, and neither an
/// entry nor an event will come.
#[must_use]
pub const fn immediate(dw0: u32) -> bool {
    dw0 & 1 != 0
}

/// DW0 of a successful completion.
#[must_use]
pub const fn answer(immediate: bool) -> u32 {
    immediate as u32
}

/// How a reset stands (CCRS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Under way.
    InProgress,
    /// Done.
    Success,
    /// Given up.
    Failed,
    /// A value without a meaning; it proves nothing.
    Reserved(u8),
}

impl State {
    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::InProgress,
            1 => Self::Success,
            2 => Self::Failed,
            other => Self::Reserved(other),
        }
    }

    const fn to_u8(self) -> u8 {
        match self {
            Self::InProgress => 0,
            Self::Success => 1,
            Self::Failed => 2,
            Self::Reserved(other) => other,
        }
    }
}

wire! {
    struct RawHeader [8] {
        0 => ne: U16,
        2 => rsvd: [u8; 6],
    }
}

wire! {
    struct RawEntry [8] {
        0 => icid: U16,
        2 => ciu: u8,
        3 => rsvd: u8,
        4 => acid: U16,
        6 => ccrs: u8,
        7 => ccrf: u8,
    }
}

/// An entry of the log page. It carries no CIRN, so by itself it proves nothing about an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Impacted controller.
    pub icid: u16,
    /// The uniquifier that the command gave.
    pub ciu: u8,
    /// Another controller that may serve the reset; 0 none.
    pub acid: u16,
    /// How the reset stands.
    pub state: State,
    /// CCRF: bit 0 validated, bit 1 controller level reset initiated, bits 3:2 retry.
    pub flags: u8,
}

/// Why a log page was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LogError {
    /// Fewer bytes than the header.
    #[error("the Cross-Controller Reset log has {0} bytes, its header needs 8")]
    NoHeader(usize),
    /// More entries than the page can have.
    #[error("the Cross-Controller Reset log claims {0} entries, {ENTRIES_MAX} are possible")]
    TooMany(u16),
    /// Entries cut off.
    #[error("the Cross-Controller Reset log claims {claimed} entries but has room for {room}")]
    Truncated {
        /// What NE says.
        claimed: u16,
        /// What the bytes can hold.
        room: usize,
    },
}

/// Reads the log page.
///
/// # Errors
/// If it is no such page.
pub fn parse_log(bytes: &[u8]) -> Result<Vec<Entry>, LogError> {
    let (header, rest) = RawHeader::ref_from_prefix(bytes).map_err(|_| LogError::NoHeader(bytes.len()))?;
    let claimed = header.ne.get();
    if usize::from(claimed) > ENTRIES_MAX {
        return Err(LogError::TooMany(claimed));
    }
    let (entries, _) = <[RawEntry]>::ref_from_prefix_with_elems(rest, usize::from(claimed))
        .map_err(|_| LogError::Truncated { claimed, room: rest.len() / size_of::<RawEntry>() })?;
    Ok(entries
        .iter()
        .map(|raw| Entry {
            icid: raw.icid.get(),
            ciu: raw.ciu,
            acid: raw.acid.get(),
            state: State::from_u8(raw.ccrs),
            flags: raw.ccrf,
        })
        .collect())
}

/// The log page with these entries; only the first 511 fit.
#[must_use]
pub fn encode_log(entries: &[Entry]) -> Vec<u8> {
    let entries = &entries[..entries.len().min(ENTRIES_MAX)];
    let mut out = Vec::with_capacity(LOG_LEN);
    out.extend_from_slice(RawHeader { ne: U16::new(entries.len() as u16), rsvd: [0; 6] }.as_bytes());
    for entry in entries {
        let raw = RawEntry {
            icid: U16::new(entry.icid),
            ciu: entry.ciu,
            rsvd: 0,
            acid: U16::new(entry.acid),
            ccrs: entry.state.to_u8(),
            ccrf: entry.flags,
        };
        out.extend_from_slice(raw.as_bytes());
    }
    out.resize(LOG_LEN, 0);
    out
}

/// Reads the whole log page; `remove_completed` (RMC) also removes the completed entries that it returns.
#[must_use]
pub const fn get_log(remove_completed: bool) -> GetLog {
    GetLog {
        lid: log::LID_CCR,
        nsid: log::NSID_ALL,
        lsp: remove_completed as u8,
        retain_event: false,
        offset: 0,
        len: LOG_LEN as u32,
    }
}

/// Whether a Get Log Page of this log removes completed entries.
#[must_use]
pub const fn removes_completed(get: &GetLog) -> bool {
    get.lsp & 1 != 0
}
