//! Identify Controller.

use alloc::string::String;
use bitflags::bitflags;
use core::time::Duration;

use zerocopy::little_endian::{U16, U32, U64};

use crate::{
    admin::EventMask,
    ccr::Instance,
    nqn::{Nqn, NqnError},
};

/// CMIC: the subsystem may have more than one port.
pub const CMIC_MULTI_PORT: u8 = 1;
/// CMIC: the subsystem may have more than one controller.
pub const CMIC_MULTI_CONTROLLER: u8 = 1 << 1;
/// CMIC: ANA is reported.
pub const CMIC_ANA: u8 = 1 << 3;
/// CTRATT: 128-bit host identifiers.
pub const CTRATT_HOST_ID_128: u32 = 1;
/// CTRATT: any command counts as a Keep Alive.
pub const CTRATT_TBKAS: u32 = 1 << 6;
/// CNTRLTYPE: I/O controller.
pub const CNTRLTYPE_IO: u8 = 1;
/// CNTRLTYPE: discovery controller.
pub const CNTRLTYPE_DISCOVERY: u8 = 2;

bitflags! {
    /// Optional NVM Command Support (ONCS).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Oncs: u16 {
        /// Compare.
        const COMPARE = 1;
        /// Write Uncorrectable.
        const WRITE_UNCORRECTABLE = 1 << 1;
        /// Dataset Management.
        const DSM = 1 << 2;
        /// Write Zeroes.
        const WRITE_ZEROES = 1 << 3;
        /// Reservations.
        const RESERVATIONS = 1 << 5;
        /// Verify.
        const VERIFY = 1 << 7;
        /// Others exist.
        const _ = !0;
    }
}

wire! {
    /// Identify Controller, CNS 01h. NVM Express Base Specification, "Identify Controller Data Structure".
    pub struct IdentifyController [4096] {
        /// PCI vendor.
        0 => pub vid: U16,
        /// PCI subsystem vendor.
        2 => pub ssvid: U16,
        /// Serial number, ASCII padded with spaces.
        4 => pub sn: [u8; 20],
        /// Model number, ASCII padded with spaces.
        24 => pub mn: [u8; 40],
        /// Firmware revision, ASCII padded with spaces.
        64 => pub fr: [u8; 8],
        /// Recommended arbitration burst, 2^n.
        72 => pub rab: u8,
        /// OUI.
        73 => pub ieee: [u8; 3],
        /// Multi-path capabilities.
        76 => pub cmic: u8,
        /// Maximum data transfer size: 2^n pages of CAP.MPSMIN; 0 unlimited.
        77 => pub mdts: u8,
        /// Controller identifier.
        78 => pub cntlid: U16,
        /// Version.
        80 => pub ver: U32,
        /// Resume latency from RTD3, us.
        84 => pub rtd3r: U32,
        /// Entry latency to RTD3, us.
        88 => pub rtd3e: U32,
        /// Optional asynchronous events.
        92 => pub oaes: U32,
        /// Controller attributes.
        96 => pub ctratt: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        100 => pub rsvd0: [u8; 11],
        /// Controller type: 1 I/O, 2 discovery, 3 admin.
        111 => pub cntrltype: u8,
        /// FRU GUID.
        112 => pub fguid: [u8; 16],
        /// Command retry delays 1 to 3, in 100 ms.
        128 => pub crdt: [U16; 3],
        /// Controller reachability capabilities.
        134 => pub crcap: u8,
        /// Controller Instance Uniquifier; 0 not reported.
        135 => pub ciu: u8,
        /// Controller Instance Random Number; 0 not reported.
        136 => pub cirn: U64,
        /// Reserved, zero.
        #[doc(hidden)]
        144 => pub rsvd1: [u8; 112],
        /// Optional admin commands.
        256 => pub oacs: U16,
        /// Abort command limit, 0's based.
        258 => pub acl: u8,
        /// Asynchronous event request limit, 0's based.
        259 => pub aerl: u8,
        /// Firmware updates.
        260 => pub frmw: u8,
        /// Log page attributes: bit 1 effects log, bit 2 offsets.
        261 => pub lpa: u8,
        /// Error log entries, 0's based.
        262 => pub elpe: u8,
        /// Power states, 0's based.
        263 => pub npss: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        264 => pub rsvd2: [u8; 2],
        /// Warning temperature, K.
        266 => pub wctemp: U16,
        /// Critical temperature, K.
        268 => pub cctemp: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        270 => pub rsvd3: [u8; 50],
        /// Keep Alive granularity in 100 ms; 0 no Keep Alive.
        320 => pub kas: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        322 => pub rsvd4: [u8; 18],
        /// Highest endurance group.
        340 => pub endgidmax: U16,
        /// Longest time in the ANA change state, s.
        342 => pub anatt: u8,
        /// ANA capabilities.
        343 => pub anacap: u8,
        /// Highest ANA group.
        344 => pub anagrpmax: U32,
        /// Number of ANA groups.
        348 => pub nanagrpid: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        352 => pub rsvd5: [u8; 34],
        /// Command Quiesce Time, ms; 0 not reported.
        386 => pub cqt: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        388 => pub rsvd6: [u8; 124],
        /// Submission entry sizes.
        512 => pub sqes: u8,
        /// Completion entry sizes.
        513 => pub cqes: u8,
        /// Most outstanding commands per queue.
        514 => pub maxcmd: U16,
        /// Highest namespace.
        516 => pub nn: U32,
        /// Optional NVM commands, see [`Oncs`].
        520 => pub oncs: U16,
        /// Fused operations.
        522 => pub fuses: U16,
        /// Format attributes.
        524 => pub fna: u8,
        /// Volatile write cache: bit 0 present, 2:1 whether Flush takes FFFFFFFFh.
        525 => pub vwc: u8,
        /// Atomic write unit, normal, 0's based.
        526 => pub awun: U16,
        /// Atomic write unit, power fail, 0's based.
        528 => pub awupf: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        530 => pub rsvd7: u8,
        /// Namespace write protection.
        531 => pub nwpc: u8,
        /// Atomic compare and write unit, 0's based.
        532 => pub acwu: U16,
        /// Copy formats.
        534 => pub ocfs: U16,
        /// SGL support.
        536 => pub sgls: U32,
        /// Most namespaces attached; 0 see NN.
        540 => pub mnan: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        544 => pub rsvd8: [u8; 224],
        /// Name of the subsystem, NUL terminated.
        768 => pub subnqn: [u8; 256],
        /// Reserved, zero.
        #[doc(hidden)]
        1024 => pub rsvd9: [u8; 768],
        /// Largest command capsule of an I/O queue, in 16 bytes.
        1792 => pub ioccsz: U32,
        /// Largest response capsule of an I/O queue, in 16 bytes.
        1796 => pub iorcsz: U32,
        /// In-capsule data offset, in 16 bytes; 0 on TCP.
        1800 => pub icdoff: U16,
        /// Fabrics controller attributes.
        1802 => pub fcatt: u8,
        /// Most SGL descriptors; 1 on TCP.
        1803 => pub msdbd: u8,
        /// Optional Fabrics commands: bit 0 Disconnect.
        1804 => pub ofcs: U16,
        /// Discovery controller type.
        1806 => pub dctype: u8,
        /// Cross-Controller Resets this controller can have in progress as source; 0 none.
        1807 => pub ccrl: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        1808 => pub rsvd10: [u8; 240],
        /// Power states.
        2048 => pub psd: [[u8; 32]; 32],
        /// Vendor specific.
        3072 => pub vendor: [u8; 1024],
    }
}

impl IdentifyController {
    /// Which life of which controller this is.
    #[must_use]
    pub const fn instance(&self) -> Instance {
        Instance { cntlid: self.cntlid.get(), ciu: self.ciu, cirn: self.cirn.get() }
    }

    /// How long after a lost connection commands may still run; `None` if not reported.
    #[must_use]
    pub fn command_quiesce_time(&self) -> Option<Duration> {
        match self.cqt.get() {
            0 => None,
            ms => Some(Duration::from_millis(u64::from(ms))),
        }
    }

    /// Whether ANA is reported.
    #[must_use]
    pub const fn reports_ana(&self) -> bool {
        self.cmic & CMIC_ANA != 0
    }

    /// Whether any command restarts the Keep Alive timer.
    #[must_use]
    pub const fn traffic_based_keep_alive(&self) -> bool {
        self.ctratt.get() & CTRATT_TBKAS != 0
    }

    /// Keep Alive granularity; `None` if there is no Keep Alive.
    #[must_use]
    pub fn keep_alive_granularity(&self) -> Option<Duration> {
        match self.kas.get() {
            0 => None,
            n => Some(Duration::from_millis(u64::from(n) * 100)),
        }
    }

    /// The events it can tell of.
    #[must_use]
    pub const fn events(&self) -> EventMask {
        EventMask::from_bits_retain(self.oaes.get())
    }

    /// The optional NVM commands it knows.
    #[must_use]
    pub const fn optional_commands(&self) -> Oncs {
        Oncs::from_bits_retain(self.oncs.get())
    }

    /// Most bytes one command may move, with CAP.MPSMIN; `None` without a limit (or with one beyond 4 GiB).
    #[must_use]
    pub fn max_transfer(&self, mpsmin: u8) -> Option<u32> {
        match self.mdts {
            0 => None,
            n => 1u32.checked_shl(u32::from(n) + 12 + u32::from(mpsmin)),
        }
    }

    /// Most bytes of in-capsule data on an I/O queue.
    #[must_use]
    pub const fn in_capsule_io(&self) -> u32 {
        self.ioccsz.get().saturating_sub(4).saturating_mul(16)
    }

    /// States that much in-capsule data on I/O queues; rounded down to 16 bytes.
    pub fn set_in_capsule_io(&mut self, bytes: u32) {
        self.ioccsz.set(4 + bytes / 16);
    }

    /// Most namespaces the ANA log can name.
    #[must_use]
    pub const fn max_namespaces(&self) -> u32 {
        match self.mnan.get() {
            0 => self.nn.get(),
            n => n,
        }
    }

    /// Whether there is a volatile write cache.
    #[must_use]
    pub const fn has_volatile_cache(&self) -> bool {
        self.vwc & 1 != 0
    }

    /// The delay that a status with this CRD (1..=3) asks for.
    #[must_use]
    pub fn retry_delay(&self, crd: u8) -> Duration {
        let units = usize::from(crd).checked_sub(1).and_then(|at| self.crdt.get(at)).map_or(0, |n| n.get());
        Duration::from_millis(u64::from(units) * 100)
    }

    /// The name of the subsystem.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn subnqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// Serial number.
    #[must_use]
    pub fn serial(&self) -> String {
        text(&self.sn)
    }

    /// Model number.
    #[must_use]
    pub fn model(&self) -> String {
        text(&self.mn)
    }

    /// Firmware revision.
    #[must_use]
    pub fn firmware(&self) -> String {
        text(&self.fr)
    }
}

/// The text of a field: up to the first NUL, without padding, anything that is no printable ASCII shown as `?`.
#[must_use]
pub fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let shown: String =
        field[..end].iter().map(|b| if matches!(b, b' '..=b'~') { char::from(*b) } else { '?' }).collect();
    String::from(shown.trim())
}

/// A field with this text, padded with spaces; what does not fit or is no printable ASCII is left out.
#[must_use]
pub fn text_field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (to, from) in field.iter_mut().zip(text.bytes().filter(|b| matches!(b, b' '..=b'~'))) {
        *to = from;
    }
    field
}
