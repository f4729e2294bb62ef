//! Small types that several formats share.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use utoipa::ToSchema;

/// The format version of a document: written as the number `V`, and read as nothing else, so that a program never
/// misreads a document that is newer than itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Version<const V: u32>;

impl<const V: u32> Serialize for Version<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(V)
    }
}

impl<'de, const V: u32> Deserialize<'de> for Version<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            found if found == V => Ok(Self),
            found => {
                let side = if found > V { "newer" } else { "older" };
                let text =
                    format!("this document has format version {found}, which is {side} than this program reads ({V})");
                Err(D::Error::custom(text))
            }
        }
    }
}

/// A 64-bit identifier, written as `0x` and 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex64(pub u64);

impl fmt::Display for Hex64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

impl Serialize for Hex64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("0x")
            .filter(|digits| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not 0x and 16 hexadecimal digits")))
    }
}

/// One enable-to-reset span of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct Life {
    /// Controller ID.
    pub cntlid: u16,
    /// Controller Instance Uniquifier; 0 if the controller reports none.
    pub ciu: u8,
    /// Controller Instance Random Number; 0 if the controller reports none.
    #[schema(value_type = String)]
    pub cirn: Hex64,
}

/// Where a controller is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct PathAddress {
    /// `tcp`.
    pub transport: String,
    /// Address, with scope for link-local IPv6.
    pub traddr: String,
    /// Port number.
    pub trsvcid: String,
}

impl PathAddress {
    /// Over TCP.
    #[must_use]
    pub fn tcp(traddr: impl Into<String>, port: u16) -> Self {
        Self { transport: "tcp".into(), traddr: traddr.into(), trsvcid: port.to_string() }
    }
}

impl fmt::Display for PathAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.traddr.contains(':') {
            write!(f, "[{}]:{}", self.traddr, self.trsvcid)
        } else {
            write!(f, "{}:{}", self.traddr, self.trsvcid)
        }
    }
}

/// A status as it stands in a completion.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct StatusCode {
    /// Status Code Type and Status Code: SCT << 8 | SC.
    pub code: u16,
    /// Do Not Retry.
    pub dnr: bool,
    /// In the specification's words.
    pub text: String,
}

/// Asymmetric namespace access state, in Linux' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnaState {
    /// 1h.
    Optimized,
    /// 2h.
    NonOptimized,
    /// 3h.
    Inaccessible,
    /// 4h.
    PersistentLoss,
    /// Fh.
    Change,
}

impl AnaState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Optimized, Self::NonOptimized, Self::Inaccessible, Self::PersistentLoss, Self::Change];

    /// The word that Linux uses in sysfs `ana_state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        }
    }

    /// True if the path carries I/O.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// A setting without the effect that its name promises.
    Pointless,
    /// Outages are longer than they need be.
    Slow,
    /// Data can be lost or overwritten.
    Unsafe,
}
