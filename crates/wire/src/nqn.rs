//! Names: NVMe Qualified Names and host identifiers.
//!
//! Fencing works per host identity and per subsystem, so both are types of their own that cannot hold nonsense.
//!
//! NVM Express Base Specification, "NVMe Qualified Names", "Host Identifier".

use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

/// Longest name in bytes, without its terminator.
pub const NQN_MAX: usize = 223;
/// Bytes of the field that holds a name.
pub const NQN_FIELD: usize = 256;
/// The name under which every discovery service can be reached.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// What comes before the UUID in the UUID form of a name.
pub const NQN_UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NqnError {
    /// Nothing there.
    #[error("the NQN is empty")]
    Empty,
    /// More bytes than a name may have.
    #[error("the NQN is {0} bytes long, {NQN_MAX} are allowed")]
    TooLong(usize),
    /// No NUL in its field.
    #[error("the NQN is not terminated within its field of {NQN_FIELD} bytes")]
    Unterminated,
    /// Bytes that are no text.
    #[error("the NQN is not UTF-8 from byte {0} on")]
    NotUtf8(usize),
    /// A NUL or another control character.
    #[error("the NQN holds a control character at byte {0}")]
    Control(usize),
}

/// A checked NVMe Qualified Name: 1 to 223 bytes of UTF-8 without control characters. Compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nqn(String);

impl Nqn {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self, NqnError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NqnError::Empty);
        }
        if name.len() > NQN_MAX {
            return Err(NqnError::TooLong(name.len()));
        }
        match name.char_indices().find(|(_, c)| c.is_control()) {
            Some((at, _)) => Err(NqnError::Control(at)),
            None => Ok(Self(name)),
        }
    }

    /// Reads a name from its NUL-terminated field. What follows the NUL is ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_field(field: &[u8; NQN_FIELD]) -> Result<Self, NqnError> {
        let end = field.iter().position(|b| *b == 0).ok_or(NqnError::Unterminated)?;
        let text = core::str::from_utf8(&field[..end]).map_err(|e| NqnError::NotUtf8(e.valid_up_to()))?;
        Self::new(text)
    }

    /// The name in its field, the rest zero.
    #[must_use]
    pub fn to_field(&self) -> [u8; NQN_FIELD] {
        let mut field = [0; NQN_FIELD];
        field[..self.0.len()].copy_from_slice(self.0.as_bytes());
        field
    }

    /// The well-known name of discovery.
    #[must_use]
    pub fn discovery() -> Self {
        Self(DISCOVERY_NQN.to_string())
    }

    /// The UUID form of this host's name.
    #[must_use]
    pub fn of_host(id: HostId) -> Self {
        Self(alloc::format!("{NQN_UUID_PREFIX}{id}"))
    }

    /// Whether this is the well-known name of discovery.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        self.0 == DISCOVERY_NQN
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nqn({})", self.0)
    }
}

impl FromStr for Nqn {
    type Err = NqnError;

    fn from_str(s: &str) -> Result<Self, NqnError> {
        Self::new(s)
    }
}

impl AsRef<str> for Nqn {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Why a host identifier was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HostIdError {
    /// Not of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    #[error("a host identifier is a UUID, xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in hexadecimal")]
    NotUuid,
    /// All zero.
    #[error("a host identifier of all zeros names no host")]
    Zero,
}

/// A 128-bit host identifier, a UUID in the byte order in which it is printed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub [u8; 16]);

impl HostId {
    /// Whether this is the invalid identifier of all zeros.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

impl FromStr for HostId {
    type Err = HostIdError;

    fn from_str(s: &str) -> Result<Self, HostIdError> {
        let bytes = s.as_bytes();
        if bytes.len() != 36 {
            return Err(HostIdError::NotUuid);
        }
        let mut id = [0; 16];
        let mut nibbles = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return Err(HostIdError::NotUuid);
                }
                continue;
            }
            let digit = (*byte as char).to_digit(16).ok_or(HostIdError::NotUuid)?;
            id[nibbles / 2] = id[nibbles / 2] << 4 | digit as u8;
            nibbles += 1;
        }
        if id == [0; 16] { Err(HostIdError::Zero) } else { Ok(Self(id)) }
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostId({self})")
    }
}
