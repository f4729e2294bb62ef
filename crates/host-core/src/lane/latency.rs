//! How long commands took, as a distribution: a mean hides exactly the commands that people call about.
//!
//! Counting one costs a division by a constant, a leading-zero count and an increment in memory that only its lane writes.

use alloc::boxed::Box;
use core::hash::{Hash, Hasher};

/// A histogram of times. Buckets are four to an octave, so a percentile read from it is at most a quarter too high;
/// from 1 us to [`Latency::LAST_US`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latency {
    buckets: Box<[u64; Self::BUCKETS]>,
}

impl Latency {
    /// Buckets, the last of which takes everything that is longer.
    pub const BUCKETS: usize = 96;
    /// The first microsecond that only the last bucket takes: about 29 s, more than a command may take by default.
    pub const LAST_US: u64 = 7 << 22;

    /// One command took so long.
    pub fn count(&mut self, nanos: u64) {
        self.buckets[Self::bucket(nanos / 1000)] += 1;
    }

    const fn bucket(us: u64) -> usize {
        if us < 4 {
            return us as usize;
        }
        let octave = 63 - us.leading_zeros() as usize;
        let bucket = 4 * (octave - 1) + (us >> (octave - 2) & 3) as usize;
        if bucket < Self::BUCKETS { bucket } else { Self::BUCKETS - 1 }
    }

    /// The first time, in microseconds, that is too long for a bucket; `None` for the last.
    #[must_use]
    pub const fn below_us(bucket: usize) -> Option<u64> {
        if bucket + 1 >= Self::BUCKETS {
            return None;
        }
        if bucket < 4 {
            return Some(bucket as u64 + 1);
        }
        Some((bucket as u64 % 4 + 5) << (bucket / 4 - 1))
    }

    /// Counts, by bucket.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        self.buckets.as_slice()
    }

    /// Adds what another lane counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine += theirs;
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: Box::new([0; Self::BUCKETS]) }
    }
}

/// Empty buckets, which are most, say nothing about a state.
impl Hash for Latency {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for filled in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            filled.hash(state);
        }
    }
}

/// Times of one path, or of one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Latencies {
    /// Reads.
    pub reads: Latency,
    /// Writes, write zeroes and discards.
    pub writes: Latency,
    /// Flushes.
    pub flushes: Latency,
}

impl Latencies {
    /// Adds what another lane counted.
    pub fn add(&mut self, other: &Self) {
        self.reads.add(&other.reads);
        self.writes.add(&other.writes);
        self.flushes.add(&other.flushes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_the_bucket_whose_bounds_it_lies_between() {
        let mut previous = 0;
        for us in 0..5000 {
            let bucket = Latency::bucket(us);
            assert!(bucket == previous || bucket == previous + 1, "{us} us: no bucket is left out");
            previous = bucket;
        }
        for us in (0..5000).chain((0..40).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let bucket = Latency::bucket(us);
            assert!(bucket < Latency::BUCKETS);
            assert!(Latency::below_us(bucket).is_none_or(|below| us < below), "{us} us in {bucket}");
            let from = bucket.checked_sub(1).and_then(Latency::below_us).unwrap_or(0);
            assert!(us >= from, "{us} us in {bucket}, which begins at {from}");
        }
        assert_eq!(Latency::bucket(Latency::LAST_US - 1), Latency::BUCKETS - 2);
        assert_eq!(Latency::bucket(Latency::LAST_US), Latency::BUCKETS - 1);
        assert_eq!(Latency::below_us(Latency::BUCKETS - 2), Some(Latency::LAST_US));
    }

    #[test]
    fn lanes_add_up() {
        let (mut a, mut b) = (Latencies::default(), Latencies::default());
        a.reads.count(1_500);
        b.reads.count(1_999);
        b.flushes.count(u64::MAX);
        a.add(&b);
        assert_eq!(a.reads.buckets()[1], 2);
        assert_eq!(a.flushes.buckets()[Latency::BUCKETS - 1], 1);
        assert_eq!(a.writes.buckets().iter().sum::<u64>(), 0);
    }
}
