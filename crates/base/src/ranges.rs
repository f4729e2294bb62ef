//! Which block ranges overlap.
//!
//! The overlap guard asks one question on every write while anything is in doubt: does this range touch a guarded one?
//! [`Ranges`] answers it in the logarithm of its size plus the ranges that start near the one asked for.

use alloc::collections::BTreeMap;
use core::ops::Range;

/// A set of half-open ranges, each with a unique id and a value. Ranges may overlap each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ranges<I: Copy + Ord, V> {
    /// Start, then id; an outer map by start, so that a search can begin at a start alone.
    by_start: BTreeMap<u64, BTreeMap<I, (u64, V)>>,
    starts: BTreeMap<I, u64>,
    /// No stored range is longer; it only grows until the set is empty.
    longest: u64,
}

impl<I: Copy + Ord, V> Default for Ranges<I, V> {
    fn default() -> Self {
        Self { by_start: BTreeMap::new(), starts: BTreeMap::new(), longest: 0 }
    }
}

impl<I: Copy + Ord, V> Ranges<I, V> {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the range of `id`. An empty range overlaps nothing.
    pub fn insert(&mut self, id: I, range: Range<u64>, value: V) {
        self.remove(id);
        self.longest = self.longest.max(range.end.saturating_sub(range.start));
        self.starts.insert(id, range.start);
        self.by_start.entry(range.start).or_default().insert(id, (range.end, value));
    }

    /// Takes the range of `id` out.
    pub fn remove(&mut self, id: I) -> Option<V> {
        let start = self.starts.remove(&id)?;
        let here = self.by_start.get_mut(&start)?;
        let (_, value) = here.remove(&id)?;
        if here.is_empty() {
            self.by_start.remove(&start);
        }
        if self.starts.is_empty() {
            self.longest = 0;
        }
        Some(value)
    }

    /// Every stored range that shares at least one block with `range`, in order of its start.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (I, Range<u64>, &V)> {
        // A range that starts earlier than this ends before `range` begins. An empty `range` has no blocks.
        let from = range.start.saturating_sub(self.longest);
        let until = if range.is_empty() { from } else { range.end };
        self.by_start
            .range(from..until)
            .flat_map(|(start, here)| here.iter().map(|(id, (end, value))| (*id, *start..*end, value)))
            .filter(move |(_, stored, _)| !stored.is_empty() && range.start < stored.end)
    }

    /// How many ranges are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// True if nothing is stored: the one load that the data path pays while nothing is in doubt.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// All ranges in order of their start.
    pub fn iter(&self) -> impl Iterator<Item = (I, Range<u64>, &V)> {
        self.by_start.iter().flat_map(|(start, here)| here.iter().map(|(id, (end, value))| (*id, *start..*end, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use alloc::vec::Vec;

    #[test]
    fn agrees_with_a_plain_list() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut ranges = Ranges::new();
            let mut list: Vec<(u32, Range<u64>)> = Vec::new();
            for id in 0..40_u32 {
                let start = rng.below(64);
                let range = start..start + rng.below(9);
                ranges.insert(id, range.clone(), ());
                list.push((id, range));
                if rng.percent(40) {
                    let (gone, _) = list.remove(usize::try_from(rng.below(list.len() as u64)).unwrap());
                    assert_eq!(ranges.remove(gone), Some(()));
                }
                let start = rng.below(64);
                let asked = start..start + rng.below(9);
                let mut got: Vec<u32> = ranges.overlapping(asked.clone()).map(|(id, ..)| id).collect();
                got.sort_unstable();
                let mut want: Vec<u32> = list
                    .iter()
                    .filter(|(_, have)| have.start.max(asked.start) < have.end.min(asked.end))
                    .map(|(id, _)| *id)
                    .collect();
                want.sort_unstable();
                assert_eq!(got, want, "seed {seed}, asked {asked:?}");
            }
        }
    }
}
