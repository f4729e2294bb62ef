//! Properties of a controller: what on a memory-based controller are its registers.
//!
//! Typed values of the four that bring a controller up and down. NVM Express Base Specification, "Controller
//! Properties".

use core::{fmt, time::Duration};

/// Offset of CAP, 8 bytes.
pub const CAP: u32 = 0x00;
/// Offset of VS, 4 bytes.
pub const VS: u32 = 0x08;
/// Offset of CC, 4 bytes.
pub const CC: u32 = 0x14;
/// Offset of CSTS, 4 bytes.
pub const CSTS: u32 = 0x1C;
/// Offset of NSSR, 4 bytes.
pub const NSSR: u32 = 0x20;
/// Offset of CRTO, 4 bytes.
pub const CRTO: u32 = 0x68;

/// Controller Capabilities (CAP).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cap(pub u64);

impl Cap {
    /// What a fabrics controller for NVM namespaces reports: contiguous queues, 4 KiB pages. `mqes` is the largest
    /// I/O queue, 0's based; `to` how long enabling may take, rounded up to 500 ms.
    #[must_use]
    pub fn new(mqes: u16, to: Duration) -> Self {
        let to = to.as_millis().div_ceil(500).clamp(1, 255) as u64;
        Self(u64::from(mqes) | 1 << 16 | to << 24 | 1 << 37)
    }

    /// Maximum Queue Entries Supported on I/O queues, 0's based.
    #[must_use]
    pub const fn mqes(self) -> u16 {
        self.0 as u16
    }

    /// Timeout: how long CSTS.RDY may take to follow CC.EN.
    #[must_use]
    pub const fn to(self) -> Duration {
        Duration::from_millis((self.0 >> 24 & 0xFF) * 500)
    }

    /// Whether the NVM command set is there.
    #[must_use]
    pub const fn css_nvm(self) -> bool {
        self.0 >> 37 & 1 != 0
    }

    /// Whether command sets are chosen by CSI.
    #[must_use]
    pub const fn css_csi(self) -> bool {
        self.0 >> 43 & 1 != 0
    }

    /// Whether only admin commands are there.
    #[must_use]
    pub const fn css_admin_only(self) -> bool {
        self.0 >> 44 & 1 != 0
    }

    /// Memory Page Size Minimum: the page is 4 KiB << n. The unit of MDTS.
    #[must_use]
    pub const fn mpsmin(self) -> u8 {
        (self.0 >> 48 & 0xF) as u8
    }

    /// Whether CRTO has to be asked for the ready timeout.
    #[must_use]
    pub const fn crwms(self) -> bool {
        self.0 >> 59 & 1 != 0
    }
}

/// Controller Ready Timeouts (CRTO).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Crto(pub u32);

impl Crto {
    /// Ready with media timeout.
    #[must_use]
    pub const fn crwmt(self) -> Duration {
        Duration::from_millis((self.0 & 0xFFFF) as u64 * 500)
    }
}

/// Shutdown Notification (CC.SHN).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shutdown {
    /// None asked for.
    None,
    /// Finish what runs, then stop.
    Normal,
    /// Stop at once.
    Abrupt,
    /// 11b.
    Reserved,
}

/// Controller Configuration (CC).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cc(pub u32);

impl Cc {
    const EN: u32 = 1;
    const SHN_SHIFT: u32 = 14;

    /// What a host writes before it enables: NVM command set (or all supported ones where `csi`), 4 KiB pages,
    /// entries of 64 and 16 bytes, EN 0.
    #[must_use]
    pub const fn new(csi: bool) -> Self {
        Self((if csi { 0b110 << 4 } else { 0 }) | 6 << 16 | 4 << 20)
    }

    /// Same, enabled or not.
    #[must_use]
    pub const fn with_enable(self, on: bool) -> Self {
        Self(if on { self.0 | Self::EN } else { self.0 & !Self::EN })
    }

    /// Same, with this shutdown notification.
    #[must_use]
    pub const fn with_shutdown(self, shn: Shutdown) -> Self {
        let bits = match shn {
            Shutdown::None => 0,
            Shutdown::Normal => 1,
            Shutdown::Abrupt => 2,
            Shutdown::Reserved => 3,
        };
        Self((self.0 & !(3 << Self::SHN_SHIFT)) | bits << Self::SHN_SHIFT)
    }

    /// EN.
    #[must_use]
    pub const fn enabled(self) -> bool {
        self.0 & Self::EN != 0
    }

    /// SHN.
    #[must_use]
    pub const fn shutdown(self) -> Shutdown {
        match self.0 >> Self::SHN_SHIFT & 3 {
            0 => Shutdown::None,
            1 => Shutdown::Normal,
            2 => Shutdown::Abrupt,
            _ => Shutdown::Reserved,
        }
    }

    /// CSS: 000b NVM, 110b all supported sets, 111b admin only.
    #[must_use]
    pub const fn css(self) -> u8 {
        (self.0 >> 4 & 7) as u8
    }

    /// MPS: pages are 4 KiB << n.
    #[must_use]
    pub const fn mps(self) -> u8 {
        (self.0 >> 7 & 0xF) as u8
    }

    /// AMS: arbitration.
    #[must_use]
    pub const fn ams(self) -> u8 {
        (self.0 >> 11 & 7) as u8
    }

    /// IOSQES: submission entries are 2^n bytes.
    #[must_use]
    pub const fn iosqes(self) -> u8 {
        (self.0 >> 16 & 0xF) as u8
    }

    /// IOCQES: completion entries are 2^n bytes.
    #[must_use]
    pub const fn iocqes(self) -> u8 {
        (self.0 >> 20 & 0xF) as u8
    }
}

/// Shutdown Status (CSTS.SHST).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ShutdownStatus {
    /// No shutdown.
    Normal,
    /// Under way.
    Occurring,
    /// Done.
    Complete,
    /// 11b.
    Reserved,
}

/// Controller Status (CSTS).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Csts(pub u32);

impl Csts {
    const RDY: u32 = 1;
    const CFS: u32 = 2;
    const SHST_SHIFT: u32 = 2;

    /// Same, ready or not.
    #[must_use]
    pub const fn with_ready(self, on: bool) -> Self {
        Self(if on { self.0 | Self::RDY } else { self.0 & !Self::RDY })
    }

    /// Same, with Controller Fatal Status or not.
    #[must_use]
    pub const fn with_fatal(self, on: bool) -> Self {
        Self(if on { self.0 | Self::CFS } else { self.0 & !Self::CFS })
    }

    /// Same, with this shutdown status.
    #[must_use]
    pub const fn with_shutdown(self, shst: ShutdownStatus) -> Self {
        let bits = match shst {
            ShutdownStatus::Normal => 0,
            ShutdownStatus::Occurring => 1,
            ShutdownStatus::Complete => 2,
            ShutdownStatus::Reserved => 3,
        };
        Self((self.0 & !(3 << Self::SHST_SHIFT)) | bits << Self::SHST_SHIFT)
    }

    /// RDY.
    #[must_use]
    pub const fn ready(self) -> bool {
        self.0 & Self::RDY != 0
    }

    /// CFS: the controller met an error it cannot get out of.
    #[must_use]
    pub const fn fatal(self) -> bool {
        self.0 & Self::CFS != 0
    }

    /// SHST.
    #[must_use]
    pub const fn shutdown(self) -> ShutdownStatus {
        match self.0 >> Self::SHST_SHIFT & 3 {
            0 => ShutdownStatus::Normal,
            1 => ShutdownStatus::Occurring,
            2 => ShutdownStatus::Complete,
            _ => ShutdownStatus::Reserved,
        }
    }
}

/// Version (VS): major << 16 | minor << 8 | tertiary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Version(pub u32);

impl Version {
    /// 2.1, the first with everything a fencing host relies on but CCR, which announces itself by CCRL.
    pub const V2_1: Self = Self(0x0002_0100);
    /// 2.3, which knows Cross-Controller Reset.
    pub const V2_3: Self = Self(0x0002_0300);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 >> 8 & 0xFF)?;
        match self.0 & 0xFF {
            0 => Ok(()),
            tertiary => write!(f, ".{tertiary}"),
        }
    }
}
