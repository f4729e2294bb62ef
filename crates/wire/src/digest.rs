//! CRC-32C, the checksum of headers and data.
//!
//! Header digests are checked here, by table, because headers are short and the cores have no processor features to
//! ask for. Bulk data is summed by the driver while it copies; the seed convention is the same on both sides: the
//! running value is always the *finished* checksum of what came before, 0 for nothing.
//!
//! NVMe/TCP Transport Specification, "Digests" (polynomial 1EDC6F41h, reflected, stored little-endian).

use crc::{CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Bytes of a digest on the wire.
pub const LEN: usize = 4;

/// The CRC-32C of `bytes`. On the wire: `to_le_bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}

/// The CRC-32C of what gave `seed`, followed by `bytes`. A seed of 0 begins.
#[must_use]
pub fn crc32c_append(seed: u32, bytes: &[u8]) -> u32 {
    let mut digest = CRC32C.digest_with_initial((!seed).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// A CRC-32C that grows piece by piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Goes on from the finished checksum of earlier bytes.
    #[must_use]
    pub const fn resume(value: u32) -> Self {
        Self(value)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = crc32c_append(self.0, bytes);
    }

    /// The checksum of everything added so far.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}
