//! The discovery log: where subsystems can be reached.
//!
//! Records come from a service that may know transports we do not, so one bad record does not hide the good ones:
//! each is judged by itself.
//!
//! NVM Express Base Specification, "Discovery Log Page".

use alloc::{string::String, vec::Vec};

use zerocopy::{
    FromBytes, IntoBytes,
    little_endian::{U16, U32, U64},
};

use crate::{
    admin::GetLog,
    identify::text,
    log,
    nqn::{Nqn, NqnError},
};

/// Bytes of the header, and of each record.
pub const RECORD_LEN: usize = 1024;
/// TRTYPE of TCP.
pub const TRTYPE_TCP: u8 = 3;
/// LSP bit: port local entries only.
pub const LSP_PORT_LOCAL: u8 = 1 << 1;
/// EFLAGS bit: this service takes persistent connections.
pub const EFLAG_EPCSD: u16 = 1 << 1;
/// EFLAGS bit: the same information comes from another entry too.
pub const EFLAG_DUPRETINFO: u16 = 1;

wire! {
    /// Header of the log, LID 70h.
    pub struct Header [1024] {
        /// Generation counter.
        0 => pub genctr: U64,
        /// Number of records.
        8 => pub numrec: U64,
        /// Record format, 0.
        16 => pub recfmt: U16,
        /// Flags of the page.
        18 => pub dlpf: u8,
        /// Reserved, zero.
        #[doc(hidden)]
        19 => pub rsvd0: u8,
        /// Total length, where records are extended.
        20 => pub tdlpl: U32,
        /// Reserved, zero.
        #[doc(hidden)]
        24 => pub rsvd1: [u8; 1000],
    }
}

wire! {
    /// A record as it is on the wire. NVM Express Base Specification, "Discovery Log Page Entry".
    pub struct Entry [1024] {
        /// Transport: 3 TCP.
        0 => pub trtype: u8,
        /// Address family: 1 IPv4, 2 IPv6.
        1 => pub adrfam: u8,
        /// What is there.
        2 => pub subtype: u8,
        /// Transport requirements.
        3 => pub treq: u8,
        /// Port of the subsystem.
        4 => pub portid: U16,
        /// Controller; FFFFh any.
        6 => pub cntlid: U16,
        /// Largest admin queue.
        8 => pub asqsz: U16,
        /// Flags of the entry.
        10 => pub eflags: U16,
        /// Reserved, zero.
        #[doc(hidden)]
        12 => pub rsvd0: [u8; 20],
        /// Service (TCP port in decimal).
        32 => pub trsvcid: [u8; 32],
        /// Reserved, zero.
        #[doc(hidden)]
        64 => pub rsvd1: [u8; 192],
        /// Name of the subsystem.
        256 => pub subnqn: [u8; 256],
        /// Address.
        512 => pub traddr: [u8; 256],
        /// Transport specific; for TCP byte 0 is SECTYPE.
        768 => pub tsas: [u8; 256],
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What a record leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Another discovery service.
    Referral,
    /// A subsystem with namespaces.
    Nvm,
    /// This discovery service itself.
    Current,
}

/// Whether a secure channel is needed (TREQ 1:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecureChannel {
    /// It does not say.
    NotSpecified,
    /// Needed.
    Required,
    /// Not needed.
    NotRequired,
    /// 11b.
    Reserved,
}

/// Security of TCP (SECTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    /// None.
    None,
    /// TLS 1.3 or later.
    Tls13,
    /// Something else.
    Other(u8),
}

/// A record for TCP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// What is there.
    pub kind: Kind,
    /// Family of the address.
    pub family: Family,
    /// Address, as text.
    pub traddr: String,
    /// TCP port.
    pub trsvcid: u16,
    /// Name of the subsystem.
    pub subnqn: Nqn,
    /// Port of the subsystem.
    pub portid: u16,
    /// Controller; FFFFh any.
    pub cntlid: u16,
    /// Largest admin queue, entries.
    pub asqsz: u16,
    /// EFLAGS.
    pub eflags: u16,
    /// Whether a secure channel is needed.
    pub secure_channel: SecureChannel,
    /// Whether SQ flow control can be switched off.
    pub may_disable_sq_flow_control: bool,
    /// What secures it.
    pub security: Security,
}

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RecordError {
    /// Not TCP.
    #[error("transport type {0} is not TCP")]
    Transport(u8),
    /// Neither IPv4 nor IPv6.
    #[error("address family {0} is neither IPv4 nor IPv6")]
    Family(u8),
    /// An unknown kind.
    #[error("subsystem type {0} is unknown")]
    Kind(u8),
    /// No address.
    #[error("the transport address is empty")]
    NoAddress,
    /// No port.
    #[error("the service identifier `{0}` is not a TCP port")]
    Service(String),
    /// No name.
    #[error("the subsystem has no usable name: {0}")]
    Name(#[from] NqnError),
}

impl Entry {
    /// The record in it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn parse(&self) -> Result<Record, RecordError> {
        if self.trtype != TRTYPE_TCP {
            return Err(RecordError::Transport(self.trtype));
        }
        let family = match self.adrfam {
            1 => Family::Ipv4,
            2 => Family::Ipv6,
            other => return Err(RecordError::Family(other)),
        };
        let kind = match self.subtype {
            1 => Kind::Referral,
            2 => Kind::Nvm,
            3 => Kind::Current,
            other => return Err(RecordError::Kind(other)),
        };
        let service = text(&self.trsvcid);
        let trsvcid = service.parse().ok().filter(|port| *port != 0);
        let trsvcid = trsvcid.ok_or(RecordError::Service(service))?;
        // A peer may have filled the field to its end: its last byte counts as the terminator.
        let mut subnqn = self.subnqn;
        subnqn[subnqn.len() - 1] = 0;
        let subnqn = Nqn::from_field(&subnqn)?;
        let traddr = text(&self.traddr);
        if traddr.is_empty() {
            return Err(RecordError::NoAddress);
        }
        Ok(Record {
            kind,
            family,
            traddr,
            trsvcid,
            subnqn,
            portid: self.portid.get(),
            cntlid: self.cntlid.get(),
            asqsz: self.asqsz.get(),
            eflags: self.eflags.get(),
            secure_channel: match self.treq & 3 {
                0 => SecureChannel::NotSpecified,
                1 => SecureChannel::Required,
                2 => SecureChannel::NotRequired,
                _ => SecureChannel::Reserved,
            },
            may_disable_sq_flow_control: self.treq & 4 != 0,
            security: match self.tsas[0] {
                0 => Security::None,
                2 => Security::Tls13,
                other => Security::Other(other),
            },
        })
    }
}

impl Record {
    /// The record as it is on the wire. An address longer than its field is cut.
    #[must_use]
    pub fn to_entry(&self) -> Entry {
        let mut entry = Entry {
            trtype: TRTYPE_TCP,
            adrfam: match self.family {
                Family::Ipv4 => 1,
                Family::Ipv6 => 2,
            },
            subtype: match self.kind {
                Kind::Referral => 1,
                Kind::Nvm => 2,
                Kind::Current => 3,
            },
            treq: match self.secure_channel {
                SecureChannel::NotSpecified => 0,
                SecureChannel::Required => 1,
                SecureChannel::NotRequired => 2,
                SecureChannel::Reserved => 3,
            } | u8::from(self.may_disable_sq_flow_control) << 2,
            portid: U16::new(self.portid),
            cntlid: U16::new(self.cntlid),
            asqsz: U16::new(self.asqsz),
            eflags: U16::new(self.eflags),
            subnqn: self.subnqn.to_field(),
            ..Entry::default()
        };
        put(&mut entry.trsvcid, &alloc::format!("{}", self.trsvcid));
        put(&mut entry.traddr, &self.traddr);
        entry.tsas[0] = match self.security {
            Security::None => 0,
            Security::Tls13 => 2,
            Security::Other(other) => other,
        };
        entry
    }
}

/// Text in a field, the rest and always the last byte NUL.
fn put(field: &mut [u8], text: &str) {
    let room = field.len() - 1;
    let text = &text.as_bytes()[..text.len().min(room)];
    field[..text.len()].copy_from_slice(text);
}

/// Why a log was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LogError {
    /// Fewer bytes than the header.
    #[error("the discovery log has {0} bytes, its header needs {RECORD_LEN}")]
    NoHeader(usize),
    /// An unknown format.
    #[error("the discovery log has record format {0}, only 0 is known")]
    Format(u16),
    /// Records are missing.
    #[error("the discovery log claims {claimed} records but {present} were read")]
    Truncated {
        /// What NUMREC says.
        claimed: u64,
        /// What the bytes hold.
        present: usize,
    },
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// Generation; two reads with the same one saw the same log.
    pub generation: u64,
    /// The records, each usable or not.
    pub records: Vec<Result<Record, RecordError>>,
}

impl Log {
    /// Reads a whole log.
    ///
    /// # Errors
    /// If its format is unknown or records are missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| LogError::NoHeader(bytes.len()))?;
        if header.recfmt.get() != 0 {
            return Err(LogError::Format(header.recfmt.get()));
        }
        let truncated = LogError::Truncated { claimed: header.numrec.get(), present: rest.len() / RECORD_LEN };
        let count = usize::try_from(header.numrec.get()).map_err(|_| truncated)?;
        let (entries, _) = <[Entry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| truncated)?;
        Ok(Self { generation: header.genctr.get(), records: entries.iter().map(Entry::parse).collect() })
    }

    /// The page with these records.
    #[must_use]
    pub fn encode(generation: u64, records: &[Record]) -> Vec<u8> {
        let mut out = Vec::with_capacity((records.len() + 1) * RECORD_LEN);
        let header =
            Header { genctr: U64::new(generation), numrec: U64::new(records.len() as u64), ..Header::default() };
        out.extend_from_slice(header.as_bytes());
        for record in records {
            out.extend_from_slice(record.to_entry().as_bytes());
        }
        out
    }
}

/// Reads the header and as many records as fit into `len` bytes.
#[must_use]
pub const fn get_log(len: u32) -> GetLog {
    GetLog { nsid: 0, ..GetLog::new(log::LID_DISCOVERY, len) }
}
