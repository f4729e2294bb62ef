//! One number for the state of a machine.
//!
//! The simulator compares runs and the exhaustive explorer prunes states by it, so it must be the same in every run
//! and on every machine: FNV-1a over whatever the machine's `Hash` feeds, with no random state.

use core::hash::{Hash, Hasher};

/// The fingerprint of `machine`. Equal machines have equal fingerprints; the reverse holds but for chance.
#[must_use]
pub fn fingerprint(machine: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    machine.hash(&mut hasher);
    hasher.finish()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_fnv_1a() {
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        hasher.write(b"a");
        assert_eq!(hasher.finish(), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(fingerprint(&1_u32), fingerprint(&2_u32));
    }
}
