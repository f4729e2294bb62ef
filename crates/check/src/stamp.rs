//! What a written block carries.
//!
//! A read must say *which operation* wrote a block, and must notice a block of which only a part arrived. So a block
//! is a header, a body in which every word depends on the whole header and on its place, and a trailer that repeats
//! the operation; no part of it can be exchanged with that of another write unnoticed.
//!
//! Layout, little endian: magic (8), LBA (8), operation (8), run (8), generation (4), block size (4), checksum of these
//! 40 bytes (8), body, operation (8), magic (8).

use crate::op::{Op, OpId};

/// The smallest block that can be stamped, in bytes.
pub const MIN_BLOCK: usize = 512;
/// The largest block that can be stamped, in bytes.
pub const MAX_BLOCK: usize = 4096;

const HEAD_MAGIC: u64 = u64::from_le_bytes(*b"ILKstamp");
const TAIL_MAGIC: u64 = u64::from_le_bytes(*b"ILKtrail");
const HEADER: usize = 48;
const TRAILER: usize = 16;

/// Who wrote a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The block it was written for.
    pub lba: u64,
    /// See [`Op::generation`].
    pub generation: u32,
    /// The operation that wrote it.
    pub op: OpId,
    /// The run that the operation belongs to, so that data of an earlier run is not taken for ours.
    pub run: u64,
}

impl Stamp {
    /// The stamp that `op` of `run` puts into block `lba`.
    #[must_use]
    pub const fn of(run: u64, op: &Op, lba: u64) -> Self {
        Self { lba, generation: op.generation, op: op.id, run }
    }

    /// Fills `block` with this stamp.
    ///
    /// # Panics
    /// If `block` is not [`MIN_BLOCK`]..=[`MAX_BLOCK`] bytes in steps of 8.
    pub fn encode(&self, block: &mut [u8]) {
        check_size(block);
        let len = block.len();
        put(block, 0, HEAD_MAGIC);
        put(block, 8, self.lba);
        put(block, 16, self.op.0);
        put(block, 24, self.run);
        put(block, 32, u64::from(self.generation) | (len as u64) << 32);
        let seal = seal(block);
        put(block, 40, seal);
        for (place, word) in block[HEADER..len - TRAILER].chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&body(seal, place as u64).to_le_bytes());
        }
        put(block, len - 16, self.op.0);
        put(block, len - 8, TAIL_MAGIC);
    }
}

/// What a block that was read turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// A whole stamp.
    Stamp(Stamp),
    /// All zeroes: deallocated, zeroed or never written.
    Zero,
    /// All FFh: deallocated, on namespaces that say so.
    Ones,
    /// Parts of different writes.
    Torn {
        /// The stamp at its beginning, if that is whole.
        head: Option<Stamp>,
        /// The operation named at its end, if one is named there.
        tail: Option<OpId>,
        /// The first byte (a multiple of 8) that does not belong to `head`; 0 without `head`.
        at: u32,
    },
    /// Nothing that we ever write.
    Foreign,
}

impl Content {
    /// Fills `block` so that it decodes as this.
    ///
    /// # Panics
    /// If this is torn or foreign, which says too little, and as [`Stamp::encode`].
    pub fn encode(&self, block: &mut [u8]) {
        check_size(block);
        match self {
            Self::Stamp(stamp) => stamp.encode(block),
            Self::Zero => block.fill(0),
            Self::Ones => block.fill(0xff),
            Self::Torn { .. } | Self::Foreign => panic!("{self:?} cannot be written again"),
        }
    }

    /// Says what `block` is.
    ///
    /// # Panics
    /// If `block` is not [`MIN_BLOCK`]..=[`MAX_BLOCK`] bytes in steps of 8.
    #[must_use]
    pub fn decode(block: &[u8]) -> Self {
        check_size(block);
        let len = block.len();
        match block[0] {
            0 if block.iter().all(|byte| *byte == 0) => return Self::Zero,
            0xff if block.iter().all(|byte| *byte == 0xff) => return Self::Ones,
            _ => {}
        }
        let tail = (get(block, len - 8) == TAIL_MAGIC).then(|| OpId(get(block, len - 16)));
        let sealed = get(block, 40);
        let head =
            (get(block, 0) == HEAD_MAGIC && sealed == seal(block) && get(block, 32) >> 32 == len as u64).then(|| {
                Stamp {
                    lba: get(block, 8),
                    op: OpId(get(block, 16)),
                    run: get(block, 24),
                    generation: get(block, 32) as u32,
                }
            });
        match head {
            Some(stamp) => {
                let wrong = block[HEADER..len - TRAILER]
                    .chunks_exact(8)
                    .enumerate()
                    .position(|(place, word)| word != body(sealed, place as u64).to_le_bytes())
                    .map(|place| HEADER + 8 * place)
                    .or_else(|| (get(block, len - 16) != stamp.op.0).then_some(len - 16))
                    .or_else(|| tail.is_none().then_some(len - 8));
                match wrong {
                    None => Self::Stamp(stamp),
                    Some(at) => Self::Torn { head, tail, at: at as u32 },
                }
            }
            None if tail.is_some() || get(block, 0) == HEAD_MAGIC => Self::Torn { head: None, tail, at: 0 },
            None => Self::Foreign,
        }
    }
}

fn check_size(block: &[u8]) {
    let len = block.len();
    assert!(
        (MIN_BLOCK..=MAX_BLOCK).contains(&len) && len.is_multiple_of(8),
        "a block of {len} bytes cannot be stamped"
    );
}

fn put(block: &mut [u8], at: usize, value: u64) {
    block[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(block: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&block[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The checksum of the header fields; also the key of the body.
fn seal(block: &[u8]) -> u64 {
    (0..5).fold(0x1c3_a11ed, |sum, word| mix(sum ^ get(block, 8 * word)))
}

/// One word of the body. Never zero in all words, and different in every place.
const fn body(key: u64, place: u64) -> u64 {
    mix(key.wrapping_add((place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// The finaliser of `SplitMix64`: a bijection, so that different words stay different.
const fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const OLD: Stamp = Stamp { lba: 7, generation: 1, op: OpId(12), run: 99 };
    const NEW: Stamp = Stamp { lba: 7, generation: 2, op: OpId(17), run: 99 };

    fn block(stamp: Stamp, len: usize) -> Vec<u8> {
        let mut block = vec![0xaa; len];
        stamp.encode(&mut block);
        block
    }

    #[test]
    fn a_whole_block_says_who_wrote_it() {
        for len in [512, 520, 1024, 2048, 4096] {
            assert_eq!(Content::decode(&block(OLD, len)), Content::Stamp(OLD), "{len} bytes");
        }
    }

    #[test]
    fn zeroes_ones_and_strangers_are_told_apart() {
        assert_eq!(Content::decode(&[0; 512]), Content::Zero);
        assert_eq!(Content::decode(&[0xff; 512]), Content::Ones);
        assert_eq!(Content::decode(&[0x5a; 512]), Content::Foreign);
        let mut almost = [0; 512];
        almost[300] = 1;
        assert_eq!(Content::decode(&almost), Content::Foreign);
    }

    #[test]
    fn a_block_torn_at_any_word_is_noticed() {
        for len in [512, 4096] {
            let (old, new) = (block(OLD, len), block(NEW, len));
            for other in [&old, &vec![0; len], &vec![0xff; len], &vec![0x5a; len]] {
                for cut in (8..len).step_by(8) {
                    for (front, rear) in [(&new, other), (other, &new)] {
                        let mut torn = rear.clone();
                        torn[..cut].copy_from_slice(&front[..cut]);
                        // Two of our blocks begin and end alike, so the outermost cuts tear nothing.
                        let whole = torn == new || torn == *other;
                        assert_ne!(whole, matches!(Content::decode(&torn), Content::Torn { .. }), "torn at {cut}");
                        assert!(!whole || cut <= 16 || cut == len - 8, "a cut at {cut} tears");
                    }
                }
            }
        }
    }

    #[test]
    fn a_torn_block_names_both_writers() {
        let mut torn = block(OLD, 512);
        torn[256..].copy_from_slice(&block(NEW, 512)[256..]);
        assert_eq!(Content::decode(&torn), Content::Torn { head: Some(OLD), tail: Some(OpId(17)), at: 256 });
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = block(OLD, 512);
        for bit in 0..512 * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Content::decode(&bad), Content::Torn { .. }), "bit {bit}");
        }
    }

    #[test]
    fn a_block_of_another_size_is_not_ours() {
        let big = block(OLD, 4096);
        assert!(matches!(Content::decode(&big[..512]), Content::Torn { head: None, .. }));
    }

    #[test]
    #[should_panic(expected = "cannot be stamped")]
    fn a_block_too_small_for_a_stamp_is_refused() {
        OLD.encode(&mut [0; 256]);
    }
}
