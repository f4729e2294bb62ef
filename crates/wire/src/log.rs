//! Log pages that are no subject of their own, and how any page is cut to what was asked for.
//!
//! NVM Express Base Specification, "Get Log Page command", "Log Page Identifiers".

use alloc::vec::Vec;
use bitflags::bitflags;

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::{admin::GetLog, status::Status};

/// Supported log pages.
pub const LID_SUPPORTED: u8 = 0x00;
/// Error information.
pub const LID_ERROR: u8 = 0x01;
/// SMART / health information.
pub const LID_SMART: u8 = 0x02;
/// Firmware slots.
pub const LID_FIRMWARE: u8 = 0x03;
/// Changed attached namespaces.
pub const LID_CHANGED_NAMESPACES: u8 = 0x04;
/// Commands supported and effects.
pub const LID_EFFECTS: u8 = 0x05;
/// Feature identifiers supported and effects.
pub const LID_FEATURES: u8 = 0x12;
/// NVMe-MI commands supported and effects.
pub const LID_MI_EFFECTS: u8 = 0x13;
/// Asymmetric namespace access, see [`crate::ana`].
pub const LID_ANA: u8 = 0x0C;
/// Cross-Controller Reset, see [`crate::ccr`].
pub const LID_CCR: u8 = 0x1E;
/// Lost host communication.
pub const LID_LOST_HOST: u8 = 0x1F;
/// Discovery, see [`crate::discovery`].
pub const LID_DISCOVERY: u8 = 0x70;

/// All namespaces, or the controller.
pub const NSID_ALL: u32 = u32::MAX;

/// What of `page` answers this command: cut at its end, zeros behind the page's end.
///
/// # Errors
/// Invalid Field, with DNR, if the offset lies behind the page; so does a length above `limit` bytes, which bounds
/// what a host can make a target allocate (its largest transfer).
pub fn slice(page: &[u8], get: &GetLog, limit: u32) -> Result<Vec<u8>, Status> {
    let start = usize::try_from(get.offset).ok().filter(|at| *at <= page.len());
    match start {
        Some(start) if get.len <= limit => {
            let rest = &page[start..];
            let mut out = rest[..rest.len().min(get.len as usize)].to_vec();
            out.resize(get.len as usize, 0);
            Ok(out)
        }
        _ => Err(Status::INVALID_FIELD.with_dnr()),
    }
}

wire! {
    /// Supported log pages, LID 00h: bit 0 of entry `n` says that log `n` is there.
    pub struct SupportedLogs [1024] {
        /// One entry per LID.
        0 => pub entries: [U32; 256],
    }
}

impl SupportedLogs {
    /// With these logs.
    #[must_use]
    pub fn of(lids: &[u8]) -> Self {
        let mut logs = Self::default();
        for lid in lids {
            logs.entries[usize::from(*lid)].set(1);
        }
        logs
    }

    /// Whether this log is there.
    #[must_use]
    pub const fn has(&self, lid: u8) -> bool {
        self.entries[lid as usize].get() & 1 != 0
    }
}

wire! {
    /// Entry of the error log, LID 01h. NVM Express Base Specification, "Error Information Log Entry".
    pub struct ErrorEntry [64] {
        /// Counts errors over the life of the controller; 0 an empty entry.
        0 => pub count: U64,
        /// Queue of the command.
        8 => pub sqid: U16,
        /// The command.
        10 => pub cid: U16,
        /// Its status word, phase in bit 0.
        12 => pub status: U16,
        /// Where the bad parameter is: byte in 7:0, bit in 10:8; FFFFh nowhere.
        14 => pub location: U16,
        /// First block in error.
        16 => pub lba: U64,
        /// Namespace.
        24 => pub nsid: U32,
        /// Vendor's log with more about it.
        28 => pub vendor_lid: u8,
        /// Transport: 3 TCP.
        29 => pub trtype: u8,
        /// Command set.
        30 => pub csi: u8,
        /// Opcode.
        31 => pub opcode: u8,
        /// Command specific.
        32 => pub command_info: U64,
        /// Transport specific.
        40 => pub transport_info: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        42 => pub rsvd: [u8; 21],
        /// Version of this entry.
        63 => pub version: u8,
    }
}

wire! {
    /// Health, LID 02h. NVM Express Base Specification, "SMART / Health Information log page".
    pub struct Smart [512] {
        /// Critical warnings.
        0 => pub critical_warning: u8,
        /// Temperature, K.
        1 => pub temperature: U16,
        /// Spare left, percent.
        3 => pub available_spare: u8,
        /// Spare that warns, percent.
        4 => pub spare_threshold: u8,
        /// Endurance used, percent; may exceed 100.
        5 => pub percentage_used: u8,
        /// Endurance group warnings.
        6 => pub endurance_warning: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        7 => pub rsvd0: [u8; 25],
        /// Read, in 1000 times 512 bytes.
        32 => pub data_units_read: U128,
        /// Written, in 1000 times 512 bytes.
        48 => pub data_units_written: U128,
        /// Read commands.
        64 => pub host_reads: U128,
        /// Write commands.
        80 => pub host_writes: U128,
        /// Busy, minutes.
        96 => pub busy_minutes: U128,
        /// Power cycles.
        112 => pub power_cycles: U128,
        /// Powered, hours.
        128 => pub power_on_hours: U128,
        /// Unsafe shutdowns.
        144 => pub unsafe_shutdowns: U128,
        /// Media and integrity errors.
        160 => pub media_errors: U128,
        /// Entries the error log ever had.
        176 => pub error_entries: U128,
        /// Minutes above WCTEMP.
        192 => pub warning_minutes: U32,
        /// Minutes above CCTEMP.
        196 => pub critical_minutes: U32,
        /// Temperature sensors, K.
        200 => pub sensors: [U16; 8],
        /// Reserved, zero.
        #[doc(hidden)]
        216 => pub rsvd1: [u8; 296],
    }
}

wire! {
    /// Firmware slots, LID 03h. NVM Express Base Specification, "Firmware Slot Information log page".
    pub struct FirmwareSlots [512] {
        /// Active slot in bits 2:0.
        0 => pub afi: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        1 => pub rsvd0: [u8; 7],
        /// Revisions of slots 1 to 7.
        8 => pub frs: [[u8; 8]; 7],
        /// Reserved, zero.
        #[doc(hidden)]
        64 => pub rsvd1: [u8; 448],
    }
}

bitflags! {
    /// Effects of a command. NVM Express Base Specification, "Commands Supported and Effects log page".
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Effects: u32 {
        /// The command is supported.
        const SUPPORTED = 1;
        /// Changes blocks.
        const BLOCK_CHANGE = 1 << 1;
        /// Changes capabilities of a namespace.
        const NAMESPACE_CHANGE = 1 << 2;
        /// Changes the inventory of namespaces.
        const INVENTORY_CHANGE = 1 << 3;
        /// Changes capabilities of the controller.
        const CONTROLLER_CHANGE = 1 << 4;
        /// Scope: the controller.
        const OF_CONTROLLER = 1 << 21;
        /// Others exist.
        const _ = !0;
    }
}

wire! {
    /// Commands supported and effects, LID 05h.
    pub struct EffectsLog [4096] {
        /// Per admin opcode.
        0 => pub admin: [U32; 256],
        /// Per I/O opcode.
        1024 => pub io: [U32; 256],
        /// Reserved, zero.
        #[doc(hidden)]
        2048 => pub rsvd: [u8; 2048],
    }
}

impl EffectsLog {
    /// What an admin command does.
    #[must_use]
    pub const fn admin(&self, opcode: u8) -> Effects {
        Effects::from_bits_retain(self.admin[opcode as usize].get())
    }

    /// What an I/O command does.
    #[must_use]
    pub const fn io(&self, opcode: u8) -> Effects {
        Effects::from_bits_retain(self.io[opcode as usize].get())
    }

    /// Says what an admin command does.
    pub fn set_admin(&mut self, opcode: u8, effects: Effects) {
        self.admin[usize::from(opcode)].set(effects.bits());
    }

    /// Says what an I/O command does.
    pub fn set_io(&mut self, opcode: u8, effects: Effects) {
        self.io[usize::from(opcode)].set(effects.bits());
    }
}

/// Namespaces that changed, LID 04h. NVM Express Base Specification, "Changed Attached Namespace List log page".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChangedNamespaces {
    /// These, ascending.
    These(Vec<u32>),
    /// More than the page can name: look at all.
    Overflow,
}

impl ChangedNamespaces {
    /// Bytes of the page.
    pub const LEN: u32 = 4096;
    const MAX: usize = 1024;

    /// Reads one. Order and repetition do no harm here, so they are not judged; it comes back sorted.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut nsids = Vec::new();
        for raw in bytes.chunks_exact(4).take(Self::MAX) {
            match u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) {
                0 => break,
                NSID_ALL => return Self::Overflow,
                nsid => nsids.push(nsid),
            }
        }
        nsids.sort_unstable();
        nsids.dedup();
        Self::These(nsids)
    }

    /// The page; more than 1024 namespaces become an overflow.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::These(nsids) if nsids.len() <= Self::MAX => crate::identify::encode_list(nsids.iter().copied()),
            _ => crate::identify::encode_list([NSID_ALL]),
        }
    }
}

wire! {
    /// Feature identifiers supported and effects, LID 12h, and NVMe-MI commands supported and effects, LID 13h (all zeros: none).
    /// NVM Express Base Specification, "Feature Identifiers Supported and Effects", "NVMe-MI Commands Supported and Effects".
    pub struct FeaturesLog [4096] {
        /// Per feature identifier: bit 0 supported, bit 20 of a namespace, bit 21 of a controller.
        0 => pub features: [U32; 256],
        /// Reserved, zero.
        #[doc(hidden)]
        1024 => pub rsvd: [u8; 3072],
    }
}

impl FeaturesLog {
    /// With these features, of a controller each.
    #[must_use]
    pub fn of(fids: &[u8]) -> Self {
        let mut log = Self::default();
        for fid in fids {
            log.features[usize::from(*fid)].set((Effects::SUPPORTED | Effects::OF_CONTROLLER).bits());
        }
        log
    }
}
