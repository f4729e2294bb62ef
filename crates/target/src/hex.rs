//! Identifiers of namespaces, as people write them.

use crate::config::ConfigError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// An identifier of `N` bytes, in the order of the specification: hexadecimal digits, dashes between them as one likes. Never all
/// zeros, which says "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identifier<const N: usize>(pub [u8; N]);

impl<const N: usize> FromStr for Identifier<N> {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::Value(format!(
                "`{text}` is not a valid identifier: use {} hexadecimal digits, not all 0",
                2 * N
            ))
        };
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != '-')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect::<Option<_>>()
            .filter(|digits: &Vec<u8>| digits.len() == 2 * N)
            .ok_or_else(wrong)?;
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        if bytes == [0; N] { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

/// 16 bytes have the dashes of a UUID.
impl<const N: usize> fmt::Display for Identifier<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if N == 16 && [4, 6, 8, 10].contains(&place) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Identifier<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<const N: usize> Serialize for Identifier<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_are_written() {
        let uuid: Identifier<16> = "12345678-9abc-8def-8123-456789abcdef".parse().unwrap();
        assert_eq!((uuid.0[0], uuid.0[15]), (0x12, 0xef));
        assert_eq!(uuid.to_string(), "12345678-9abc-8def-8123-456789abcdef");
        let eui64: Identifier<8> = "0025385B71B00001".parse().unwrap();
        assert_eq!(eui64.to_string(), "0025385b71b00001");
        for text in ["", "0025385b71b0000", "0025385b71b0000g", "0000000000000000", "0025385b71b000011"] {
            assert!(text.parse::<Identifier<8>>().is_err(), "{text}");
        }
    }
}
