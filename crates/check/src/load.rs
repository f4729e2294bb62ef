//! Operations that make staleness visible.
//!
//! A ghost on a large disk lands where nobody writes again and nobody looks. So most operations go to few blocks, a
//! good part of them to two or three; blocks whose writes were retried are rewritten at once with new stamps; and at
//! the end everything that was ever touched is read back. The rest goes anywhere, so that size and alignment vary.
//!
//! The generator is pure: a seed and the order of `finished` calls give the whole sequence. The driver keeps the queue
//! depth.

use crate::op::{Op, OpId, OpKind};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use interlock_base::{Ranges, Rng};

/// How often each kind is drawn, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weights {
    /// Reads.
    pub read: u32,
    /// Writes.
    pub write: u32,
    /// Write zeroes.
    pub write_zeroes: u32,
    /// Discards.
    pub discard: u32,
    /// Flushes.
    pub flush: u32,
    /// Compares.
    pub compare: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { read: 35, write: 55, write_zeroes: 4, discard: 4, flush: 2, compare: 0 }
    }
}

impl Weights {
    fn draw(self, rng: &mut Rng) -> OpKind {
        let kinds = [
            (OpKind::Read, self.read),
            (OpKind::Write, self.write),
            (OpKind::WriteZeroes, self.write_zeroes),
            (OpKind::Discard, self.discard),
            (OpKind::Flush, self.flush),
            (OpKind::Compare, self.compare),
        ];
        let mut at = rng.below(kinds.iter().map(|(_, weight)| u64::from(*weight)).sum());
        for (kind, weight) in kinds {
            match at.checked_sub(u64::from(weight)) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        OpKind::Read
    }
}

/// May operations overlap while they are in flight?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// Never: each block has one clear history.
    Disjoint,
    /// As it comes.
    Allowed,
}

/// How a load is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadConfig {
    /// The run, as in stamps.
    pub run: u64,
    /// Everything depends on it.
    pub seed: u64,
    /// First block used.
    pub first_lba: u64,
    /// Blocks used from there; at least 1.
    pub blocks: u64,
    /// Hot blocks, spread evenly: 8..=64, and no more than `blocks`.
    pub hot: u64,
    /// Of these, the very hot ones: 2 or 3.
    pub very_hot: u64,
    /// In so many of 100 operations the first block is a hot one.
    pub hot_percent: u64,
    /// In so many of 100 of these it is a very hot one.
    pub very_hot_percent: u64,
    /// The largest operation, in blocks; at least 1.
    pub max_blocks: u32,
    /// The mix.
    pub weights: Weights,
    /// May operations overlap while in flight?
    pub overlap: Overlap,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self {
            run: 0,
            seed: 0,
            first_lba: 0,
            blocks: 64 * 1024,
            hot: 32,
            very_hot: 3,
            hot_percent: 70,
            very_hot_percent: 40,
            max_blocks: 8,
            weights: Weights::default(),
            overlap: Overlap::Disjoint,
        }
    }
}

/// So many places are tried before `next_op` says that there is no room.
const PLACES_TRIED: u32 = 64;

/// The generator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    config: LoadConfig,
    rng: Rng,
    next_id: u64,
    in_flight: Ranges<OpId, ()>,
    rewrites: VecDeque<(u64, u32)>,
    /// Every block that an operation touched, with its latest generation (0: only read).
    touched: BTreeMap<u64, u32>,
}

impl Load {
    /// A load. Numbers outside their ranges are moved to the nearest that is inside.
    #[must_use]
    pub fn new(mut config: LoadConfig) -> Self {
        config.blocks = config.blocks.clamp(1, u64::MAX - config.first_lba);
        config.hot = config.hot.clamp(8, 64).min(config.blocks);
        config.very_hot = config.very_hot.clamp(2, 3).min(config.hot);
        config.max_blocks = config.max_blocks.clamp(1, u32::try_from(config.blocks).unwrap_or(u32::MAX));
        Self {
            config,
            rng: Rng::new(config.seed),
            next_id: 1,
            in_flight: Ranges::new(),
            rewrites: VecDeque::new(),
            touched: BTreeMap::new(),
        }
    }

    /// The set-up in force.
    #[must_use]
    pub const fn config(&self) -> &LoadConfig {
        &self.config
    }

    /// The next operation, in flight from now on: a waiting rewrite, else a drawn one. `None` if operations must not
    /// overlap and no room was found: ask again after something has finished.
    pub fn next_op(&mut self) -> Option<Op> {
        if let Some(op) = self.next_rewrite() {
            return Some(op);
        }
        let kind = self.config.weights.draw(&mut self.rng);
        if kind == OpKind::Flush {
            return Some(self.issue(kind, 0, 0));
        }
        (0..PLACES_TRIED).find_map(|tried| {
            let (lba, nlb) = self.place(tried);
            self.has_room(lba, nlb).then(|| self.issue(kind, lba, nlb))
        })
    }

    /// `op` was retried: its blocks are to be rewritten with new stamps, before anything else is drawn. Whatever kind
    /// it was, the rewrite is a write. Nothing happens for reads and flushes.
    pub fn rewrite_of(&mut self, op: &Op) {
        if op.kind.changes_media() {
            self.rewrites.push_back((op.lba, op.nlb));
        }
    }

    /// The next rewrite that has room, in flight from now on.
    pub fn next_rewrite(&mut self) -> Option<Op> {
        let at = self.rewrites.iter().position(|(lba, nlb)| self.has_room(*lba, *nlb))?;
        let (lba, nlb) = self.rewrites.remove(at)?;
        Some(self.issue(OpKind::Write, lba, nlb))
    }

    /// How many rewrites wait.
    #[must_use]
    pub fn rewrites_waiting(&self) -> usize {
        self.rewrites.len()
    }

    /// `id` is in flight no more: it was answered, or given up and settled. Its blocks are free again.
    pub fn finished(&mut self, id: OpId) {
        self.in_flight.remove(id);
    }

    /// How many operations with a range are in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Reads of everything that was ever touched, in order, as few as their size allows. They do not count as in
    /// flight: the read-back begins when nothing else is.
    pub fn read_back(&mut self) -> Vec<Op> {
        let mut ops: Vec<Op> = Vec::new();
        for lba in self.touched.keys() {
            match ops.last_mut() {
                Some(op) if op.range().end == *lba && op.nlb < self.config.max_blocks => op.nlb += 1,
                _ => {
                    let id = OpId(self.next_id);
                    self.next_id += 1;
                    ops.push(Op { id, kind: OpKind::Read, lba: *lba, nlb: 1, generation: 0 });
                }
            }
        }
        ops
    }

    /// The hot blocks, the very hot ones first.
    pub fn hot_blocks(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.config.hot).map(|index| self.hot_block(index))
    }

    fn hot_block(&self, index: u64) -> u64 {
        // Spread over the range, so that operations on neighbours do not hide each other.
        let step = self.config.blocks / self.config.hot;
        self.config.first_lba + index * step
    }

    fn has_room(&self, lba: u64, nlb: u32) -> bool {
        match self.config.overlap {
            Overlap::Allowed => true,
            Overlap::Disjoint => self.in_flight.overlapping(lba..lba + u64::from(nlb)).next().is_none(),
        }
    }

    /// A place for an operation; the more were tried in vain, the more of the range is used.
    fn place(&mut self, tried: u32) -> (u64, u32) {
        let LoadConfig { first_lba, blocks, hot, very_hot, hot_percent, very_hot_percent, max_blocks, .. } =
            self.config;
        let hot_drawn = self.rng.percent(hot_percent);
        let lba = if hot_drawn && tried < PLACES_TRIED / 2 {
            let among = if self.rng.percent(very_hot_percent) && tried == 0 { very_hot } else { hot };
            let index = self.rng.below(among);
            self.hot_block(index)
        } else {
            first_lba + self.rng.below(blocks)
        };
        let end = first_lba + blocks;
        // Small ones are as frequent as all larger ones together.
        let largest = if self.rng.percent(50) { 1 } else { max_blocks };
        let nlb = 1 + self.rng.below(u64::from(largest)).min(end - lba - 1);
        (lba, nlb as u32)
    }

    fn issue(&mut self, kind: OpKind, lba: u64, nlb: u32) -> Op {
        let id = OpId(self.next_id);
        self.next_id += 1;
        let mut op = Op { id, kind, lba, nlb, generation: 0 };
        if kind.changes_media() {
            op.generation = 1 + self.touched.range(op.range()).map(|(_, generation)| *generation).max().unwrap_or(0);
        }
        for lba in op.range() {
            let generation = self.touched.entry(lba).or_insert(0);
            *generation = op.generation.max(*generation);
        }
        if nlb > 0 {
            self.in_flight.insert(id, op.range(), ());
        }
        op
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    fn config(seed: u64) -> LoadConfig {
        LoadConfig { seed, blocks: 2048, ..LoadConfig::default() }
    }

    /// Runs `count` operations at a queue depth of 32 and gives all of them.
    fn run(load: &mut Load, count: usize) -> Vec<Op> {
        let mut flying: VecDeque<Op> = VecDeque::new();
        let mut all = Vec::new();
        while all.len() < count {
            while flying.len() < 32
                && let Some(op) = load.next_op()
            {
                flying.push_back(op);
                all.push(op);
            }
            let done = flying.pop_front().expect("something is in flight or there is room");
            load.finished(done.id);
        }
        while let Some(done) = flying.pop_front() {
            load.finished(done.id);
        }
        all
    }

    fn touches(one: &Op, other: &Op) -> bool {
        one.range().start.max(other.range().start) < one.range().end.min(other.range().end)
    }

    #[test]
    fn a_seed_is_the_whole_load() {
        assert_eq!(run(&mut Load::new(config(3)), 500), run(&mut Load::new(config(3)), 500));
        assert_ne!(run(&mut Load::new(config(3)), 500), run(&mut Load::new(config(4)), 500));
    }

    #[test]
    fn disjoint_operations_never_overlap_in_flight_and_others_do() {
        for (overlap, expected) in [(Overlap::Disjoint, false), (Overlap::Allowed, true)] {
            let mut overlapped = false;
            for seed in 0..20 {
                let mut load = Load::new(LoadConfig { overlap, ..config(seed) });
                let mut flying: Vec<Op> = Vec::new();
                let mut rng = Rng::new(seed);
                for step in 0..500 {
                    if step % 7 == 0
                        && let Some(op) = flying.last()
                    {
                        load.rewrite_of(op);
                    }
                    match load.next_op() {
                        Some(op) if flying.len() < 32 => {
                            overlapped |= flying.iter().any(|other| touches(&op, other));
                            flying.push(op);
                        }
                        other => {
                            flying.extend(other);
                            let at = rng.below(flying.len() as u64) as usize;
                            load.finished(flying.swap_remove(at).id);
                        }
                    }
                }
            }
            assert_eq!(overlapped, expected, "{overlap:?}");
        }
    }

    #[test]
    fn nothing_fits_where_everything_is_in_flight() {
        let weights = Weights { read: 0, write: 1, write_zeroes: 0, discard: 0, flush: 0, compare: 0 };
        let mut load = Load::new(LoadConfig { blocks: 1, weights, ..config(1) });
        let only = load.next_op().expect("nothing is in flight");
        assert_eq!((only.lba, only.nlb), (0, 1));
        assert_eq!(load.next_op(), None);
        load.finished(only.id);
        assert_eq!(load.next_op().map(|op| op.generation), Some(2));
    }

    #[test]
    fn most_operations_go_to_few_blocks_and_the_rest_everywhere() {
        let mut load = Load::new(config(11));
        let hot: BTreeSet<u64> = load.hot_blocks().collect();
        let very_hot: BTreeSet<u64> = load.hot_blocks().take(3).collect();
        assert_eq!(hot.len(), 32);
        let all = run(&mut load, 4000);
        let count = |set: &BTreeSet<u64>| all.iter().filter(|op| op.nlb > 0 && set.contains(&op.lba)).count();
        assert!(count(&hot) > 2000, "{} on hot blocks", count(&hot));
        // Per block. At a queue depth of 32 without overlap the very hot ones are busy most of the time.
        assert!(
            count(&very_hot) * 29 > (count(&hot) - count(&very_hot)) * 4,
            "{} on very hot blocks",
            count(&very_hot)
        );
        let places: BTreeSet<u64> = all.iter().map(|op| op.lba).collect();
        assert!(places.len() > 300, "{} places", places.len());
        for kind in [OpKind::Read, OpKind::Write, OpKind::WriteZeroes, OpKind::Discard, OpKind::Flush] {
            assert!(all.iter().any(|op| op.kind == kind), "{kind:?}");
        }
        assert!((1..=8).all(|nlb| all.iter().any(|op| op.nlb == nlb)), "all sizes");
        assert!(all.iter().all(|op| op.range().end <= 2048), "inside the namespace");
    }

    #[test]
    fn the_range_begins_where_it_was_told_to() {
        let mut load = Load::new(LoadConfig { first_lba: 5000, blocks: 100, ..config(2) });
        assert!(run(&mut load, 300).iter().all(|op| op.nlb == 0 || (op.lba >= 5000 && op.range().end <= 5100)));
    }

    #[test]
    fn a_later_change_of_a_block_has_a_greater_generation() {
        let mut load = Load::new(config(5));
        let mut latest: BTreeMap<u64, u32> = BTreeMap::new();
        for op in run(&mut load, 2000).iter().filter(|op| op.kind.changes_media()) {
            for lba in op.range() {
                let before = latest.insert(lba, op.generation);
                assert!(before.is_none_or(|before| before < op.generation), "LBA {lba}");
            }
        }
    }

    #[test]
    fn a_rewrite_waits_for_its_blocks_and_comes_first() {
        let weights = Weights { read: 0, write: 1, write_zeroes: 0, discard: 0, flush: 0, compare: 0 };
        let mut load = Load::new(LoadConfig { weights, ..config(9) });
        let first = load.next_op().expect("room");
        load.rewrite_of(&first);
        assert_eq!(load.next_rewrite(), None, "its blocks are in flight");
        assert_eq!(load.rewrites_waiting(), 1);
        load.finished(first.id);
        let rewrite = load.next_op().expect("room");
        assert_eq!((rewrite.kind, rewrite.lba, rewrite.nlb), (OpKind::Write, first.lba, first.nlb));
        assert!(rewrite.id > first.id && rewrite.generation > first.generation);
        assert_eq!(load.rewrites_waiting(), 0);
        load.rewrite_of(&Op { kind: OpKind::Read, ..first });
        assert_eq!(load.rewrites_waiting(), 0, "reads need no rewrite");
    }

    #[test]
    fn the_read_back_covers_every_touched_block_once() {
        let mut load = Load::new(config(6));
        let touched: BTreeSet<u64> = run(&mut load, 1000).iter().flat_map(Op::range).collect();
        let back = load.read_back();
        let covered: Vec<u64> = back.iter().flat_map(Op::range).collect();
        assert_eq!(covered, touched.into_iter().collect::<Vec<_>>());
        assert!(back.iter().all(|op| op.kind == OpKind::Read && (1..=8).contains(&op.nlb)));
        assert!(back.windows(2).all(|pair| pair[0].id < pair[1].id));
    }
}
