//! Status codes, with their names in words.
//!
//! A status decides whether a command is retried, moved to another path or given up, and it is what a person reads
//! when something failed. So the codes, the classes and the words stand in one table.
//!
//! NVM Express Base Specification, "Status Field"; the path related class also drives failover.

use core::fmt;

/// Status of a command, as in bits 15:1 of the completion's last word: SC in bits 7:0, SCT in 10:8, CRD in 12:11,
/// M in 13, DNR in 14.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Status(pub u16);

macro_rules! statuses {
    ($( $name:ident = $code:literal, $words:literal; )*) => {
        impl Status {
            $(
                #[doc = concat!(stringify!($code), ": ", $words, ".")]
                pub const $name: Self = Self($code);
            )*

            /// The name of the code in words, if the specification gives it one.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.code() {
                    $( $code => Some($words), )*
                    _ => None,
                }
            }

            /// Every code with a name.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )* ];
        }
    };
}

statuses! {
    SUCCESS = 0x000, "Success";
    INVALID_OPCODE = 0x001, "Invalid Command Opcode";
    INVALID_FIELD = 0x002, "Invalid Field in Command";
    CID_CONFLICT = 0x003, "Command ID Conflict";
    DATA_TRANSFER_ERROR = 0x004, "Data Transfer Error";
    POWER_LOSS = 0x005, "Commands Aborted due to Power Loss Notification";
    INTERNAL_ERROR = 0x006, "Internal Error";
    ABORT_REQUESTED = 0x007, "Command Abort Requested";
    ABORTED_SQ_DELETION = 0x008, "Command Aborted due to SQ Deletion";
    FAILED_FUSED = 0x009, "Command Aborted due to Failed Fused Command";
    MISSING_FUSED = 0x00A, "Command Aborted due to Missing Fused Command";
    INVALID_NAMESPACE = 0x00B, "Invalid Namespace or Format";
    COMMAND_SEQUENCE_ERROR = 0x00C, "Command Sequence Error";
    INVALID_SGL_SEGMENT = 0x00D, "Invalid SGL Segment Descriptor";
    INVALID_SGL_COUNT = 0x00E, "Invalid Number of SGL Descriptors";
    SGL_DATA_LENGTH_INVALID = 0x00F, "Data SGL Length Invalid";
    SGL_METADATA_LENGTH_INVALID = 0x010, "Metadata SGL Length Invalid";
    SGL_TYPE_INVALID = 0x011, "SGL Descriptor Type Invalid";
    CMB_INVALID_USE = 0x012, "Invalid Use of Controller Memory Buffer";
    PRP_OFFSET_INVALID = 0x013, "PRP Offset Invalid";
    ATOMIC_WRITE_UNIT_EXCEEDED = 0x014, "Atomic Write Unit Exceeded";
    OPERATION_DENIED = 0x015, "Operation Denied";
    SGL_OFFSET_INVALID = 0x016, "SGL Offset Invalid";
    HOST_ID_INCONSISTENT = 0x018, "Host Identifier Inconsistent Format";
    KEEP_ALIVE_EXPIRED = 0x019, "Keep Alive Timer Expired";
    KEEP_ALIVE_INVALID = 0x01A, "Keep Alive Timeout Invalid";
    ABORTED_PREEMPT = 0x01B, "Command Aborted due to Preempt and Abort";
    SANITIZE_FAILED = 0x01C, "Sanitize Failed";
    SANITIZE_IN_PROGRESS = 0x01D, "Sanitize In Progress";
    SGL_GRANULARITY_INVALID = 0x01E, "SGL Data Block Granularity Invalid";
    NOT_SUPPORTED_IN_CMB = 0x01F, "Command Not Supported for Queue in CMB";
    NAMESPACE_WRITE_PROTECTED = 0x020, "Namespace is Write Protected";
    COMMAND_INTERRUPTED = 0x021, "Command Interrupted";
    TRANSIENT_TRANSPORT_ERROR = 0x022, "Transient Transport Error";
    PROHIBITED_BY_LOCKDOWN = 0x023, "Command Prohibited by Command and Feature Lockdown";
    ADMIN_MEDIA_NOT_READY = 0x024, "Admin Command Media Not Ready";
    FDP_DISABLED = 0x029, "FDP Disabled";
    LBA_OUT_OF_RANGE = 0x080, "LBA Out of Range";
    CAPACITY_EXCEEDED = 0x081, "Capacity Exceeded";
    NAMESPACE_NOT_READY = 0x082, "Namespace Not Ready";
    RESERVATION_CONFLICT = 0x083, "Reservation Conflict";
    FORMAT_IN_PROGRESS = 0x084, "Format In Progress";

    CQ_INVALID = 0x100, "Completion Queue Invalid";
    INVALID_QUEUE_ID = 0x101, "Invalid Queue Identifier";
    INVALID_QUEUE_SIZE = 0x102, "Invalid Queue Size";
    ABORT_LIMIT_EXCEEDED = 0x103, "Abort Command Limit Exceeded";
    AER_LIMIT_EXCEEDED = 0x105, "Asynchronous Event Request Limit Exceeded";
    INVALID_FIRMWARE_SLOT = 0x106, "Invalid Firmware Slot";
    INVALID_FIRMWARE_IMAGE = 0x107, "Invalid Firmware Image";
    INVALID_INTERRUPT_VECTOR = 0x108, "Invalid Interrupt Vector";
    INVALID_LOG_PAGE = 0x109, "Invalid Log Page";
    INVALID_FORMAT = 0x10A, "Invalid Format";
    FEATURE_NOT_SAVEABLE = 0x10D, "Feature Identifier Not Saveable";
    FEATURE_NOT_CHANGEABLE = 0x10E, "Feature Not Changeable";
    FEATURE_NOT_PER_NAMESPACE = 0x10F, "Feature Not Namespace Specific";
    OVERLAPPING_RANGE = 0x114, "Overlapping Range";
    NAMESPACE_INSUFFICIENT_CAPACITY = 0x115, "Namespace Insufficient Capacity";
    NAMESPACE_ID_UNAVAILABLE = 0x116, "Namespace Identifier Unavailable";
    NAMESPACE_ALREADY_ATTACHED = 0x118, "Namespace Already Attached";
    NAMESPACE_IS_PRIVATE = 0x119, "Namespace Is Private";
    NAMESPACE_NOT_ATTACHED = 0x11A, "Namespace Not Attached";
    CONTROLLER_LIST_INVALID = 0x11C, "Controller List Invalid";
    INVALID_CONTROLLER_ID = 0x11F, "Invalid Controller Identifier";
    ANA_GROUP_ID_INVALID = 0x124, "ANA Group Identifier Invalid";
    ANA_ATTACH_FAILED = 0x125, "ANA Attach Failed";
    COMMAND_SET_NOT_SUPPORTED = 0x129, "I/O Command Set Not Supported";
    COMMAND_SET_NOT_ENABLED = 0x12A, "I/O Command Set Not Enabled";
    COMMAND_SET_COMBINATION_REJECTED = 0x12B, "I/O Command Set Combination Rejected";
    INVALID_COMMAND_SET = 0x12C, "Invalid I/O Command Set";
    INVALID_DISCOVERY_INFORMATION = 0x12F, "Invalid Discovery Information";
    INSUFFICIENT_DISCOVERY_RESOURCES = 0x132, "Insufficient Discovery Resources";
    CCR_IN_PROGRESS = 0x13F, "Cross-Controller Reset in Progress";
    CCR_LOG_FULL = 0x140, "Cross-Controller Reset Log Page Full";
    CCR_LIMIT_EXCEEDED = 0x141, "Cross-Controller Reset Limit Exceeded";
    CONNECT_INCOMPATIBLE_FORMAT = 0x180, "Connect Incompatible Format, or Conflicting Attributes";
    CONNECT_CONTROLLER_BUSY = 0x181, "Connect Controller Busy, or Invalid Protection Information";
    CONNECT_INVALID_PARAMETERS = 0x182, "Connect Invalid Parameters, or Attempted Write to Read Only Range";
    CONNECT_RESTART_DISCOVERY = 0x183, "Connect Restart Discovery, or Command Size Limit Exceeded";
    CONNECT_INVALID_HOST = 0x184, "Connect Invalid Host";
    INVALID_QUEUE_TYPE = 0x185, "Invalid Queue Type, or Incompatible Namespace or Format";
    FAST_COPY_NOT_POSSIBLE = 0x186, "Fast Copy Not Possible";
    OVERLAPPING_IO_RANGE = 0x187, "Overlapping I/O Range";
    DISCOVERY_RESTART = 0x190, "Discover Restart";
    AUTHENTICATION_REQUIRED = 0x191, "Authentication Required";

    WRITE_FAULT = 0x280, "Write Fault";
    UNRECOVERED_READ = 0x281, "Unrecovered Read Error";
    GUARD_CHECK = 0x282, "End-to-end Guard Check Error";
    APPLICATION_TAG_CHECK = 0x283, "End-to-end Application Tag Check Error";
    REFERENCE_TAG_CHECK = 0x284, "End-to-end Reference Tag Check Error";
    COMPARE_FAILURE = 0x285, "Compare Failure";
    ACCESS_DENIED = 0x286, "Access Denied";
    DEALLOCATED_BLOCK = 0x287, "Deallocated or Unwritten Logical Block";
    STORAGE_TAG_CHECK = 0x288, "End-to-end Storage Tag Check Error";

    INTERNAL_PATH_ERROR = 0x300, "Internal Path Error";
    ANA_PERSISTENT_LOSS = 0x301, "Asymmetric Access Persistent Loss";
    ANA_INACCESSIBLE = 0x302, "Asymmetric Access Inaccessible";
    ANA_TRANSITION = 0x303, "Asymmetric Access Transition";
    CONTROLLER_PATH_ERROR = 0x360, "Controller Pathing Error";
    HOST_PATH_ERROR = 0x370, "Host Pathing Error";
    ABORTED_BY_HOST = 0x371, "Command Aborted By Host";
}

impl Status {
    /// 0x180 on a queue of the NVM command set: the attributes conflict.
    pub const CONFLICTING_ATTRIBUTES: Self = Self(0x180);
    /// 0x182 on a queue of the NVM command set: the blocks are read only.
    pub const READ_ONLY_RANGE: Self = Self(0x182);
    /// 0x183 on a queue of the NVM command set: more than Copy, Dataset Management or Verify may name at once.
    pub const COMMAND_SIZE_LIMIT: Self = Self(0x183);

    const CRD_SHIFT: u16 = 11;
    const MORE: u16 = 1 << 13;
    const DNR: u16 = 1 << 14;

    /// A status from its type and code.
    #[must_use]
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self(((sct as u16 & 7) << 8) | sc as u16)
    }

    /// Status Code Type: 0 generic, 1 command specific, 2 media, 3 path related, 7 vendor.
    #[must_use]
    pub const fn sct(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Status Code.
    #[must_use]
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// SCT and SC as one number, SCT << 8 | SC: what to compare.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0 & 0x7FF
    }

    /// Whether both have the same type and code, whatever their retry hints.
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        self.code() == other.code()
    }

    /// Whether the command succeeded.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.code() == 0
    }

    /// Do Not Retry: the same command will fail again.
    #[must_use]
    pub const fn dnr(self) -> bool {
        self.0 & Self::DNR != 0
    }

    /// Same, with Do Not Retry.
    #[must_use]
    pub const fn with_dnr(self) -> Self {
        Self(self.0 | Self::DNR)
    }

    /// More: the error log has an entry about this.
    #[must_use]
    pub const fn more(self) -> bool {
        self.0 & Self::MORE != 0
    }

    /// Command Retry Delay: 0 none, 1..=3 the index of Identify Controller's CRDT.
    #[must_use]
    pub const fn crd(self) -> u8 {
        (self.0 >> Self::CRD_SHIFT) as u8 & 3
    }

    /// Same, with this retry delay index (0..=3).
    #[must_use]
    pub const fn with_crd(self, index: u8) -> Self {
        Self((self.0 & !(3 << Self::CRD_SHIFT)) | ((index as u16 & 3) << Self::CRD_SHIFT))
    }

    /// Whether it speaks of the path and not of the namespace: another path may serve the command.
    #[must_use]
    pub const fn is_path_related(self) -> bool {
        self.sct() == 3
    }

    /// Whether it reports an ANA state, so that the ANA log is worth reading.
    #[must_use]
    pub const fn is_ana(self) -> bool {
        matches!(self.code(), 0x301..=0x303)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => {
                let kind = match self.sct() {
                    0 => "generic",
                    1 => "command specific",
                    2 => "media",
                    3 => "path related",
                    7 => "vendor specific",
                    _ => "reserved",
                };
                write!(f, "unnamed {kind} status")?;
            }
        }
        if !self.is_success() {
            write!(f, " ({:03x}h{})", self.code(), if self.dnr() { ", do not retry" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}
