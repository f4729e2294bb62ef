//! Load of our own host whose result is known.
//!
//! The namespace is cut into slots, each with one write in flight at most, so that what a slot must hold is never a
//! matter of order: the last acknowledged generation, or one whose outcome nobody knows.

use anyhow::{Context, Result, bail, ensure};
use interlock_host::{Completions, Namespace, Op, Outcome};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest that one answer may take: holds by time included.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Reads in flight while everything is checked.
const READS_AT_ONCE: usize = 64;

/// What a slot may hold.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The last generation that was acknowledged. 0: never written.
    certain: u32,
    /// Later generations that may have taken effect.
    possible: Vec<u32>,
}

/// Verified load on one namespace.
pub(super) struct Load {
    namespace: Namespace,
    slots: Vec<Slot>,
    /// Blocks of one slot.
    blocks: u32,
    generation: u32,
}

/// What a load did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) writes: u64,
    pub(super) reads: u64,
    /// Writes whose outcome stayed unknown.
    pub(super) unknown: u64,
    /// The longest that any request took.
    pub(super) longest: Duration,
}

/// When a load ends.
#[derive(Clone, Copy)]
pub(super) enum Until<'a> {
    /// After so many writes.
    Writes(u64),
    /// When this becomes true.
    Told(&'a AtomicBool),
}

impl Load {
    /// `slots` slots of `blocks` blocks from the start of the namespace.
    pub(super) fn new(namespace: Namespace, slots: usize, blocks: u32) -> Self {
        Self::beginning_with(namespace, slots, blocks, 0)
    }

    /// The same, with generations from `generation` on: later than those of whoever wrote before.
    pub(super) fn beginning_with(namespace: Namespace, slots: usize, blocks: u32, generation: u32) -> Self {
        Self { namespace, slots: vec![Slot::default(); slots], blocks, generation }
    }

    /// Writes at a queue depth; every fourth request reads a slot and checks it.
    pub(super) fn run(&mut self, depth: usize, until: Until<'_>) -> Result<Done> {
        ensure!(depth <= self.slots.len(), "a slot has one request in flight at most");
        let queue = Completions::new();
        let mut in_flight: Vec<Option<(Op, u32, Instant)>> = vec![None; self.slots.len()];
        let (mut flying, mut next, mut done) = (0, 0, Done::default());
        loop {
            let over = match until {
                Until::Writes(count) => done.writes + done.reads >= count,
                Until::Told(flag) => flag.load(Ordering::Relaxed),
            };
            while !over && flying < depth {
                // Slots in turn, over those that are busy.
                next = (next + 1) % self.slots.len();
                if in_flight[next].is_some() {
                    continue;
                }
                self.generation += 1;
                let (op, buf) = if self.generation.is_multiple_of(4) {
                    (Op::Read, self.namespace.buffer(self.blocks))
                } else {
                    let mut buf = self.namespace.buffer(self.blocks);
                    fill(buf.get_mut().context("a fresh buffer has one holder")?, next, self.generation);
                    (Op::Write { fua: self.generation.is_multiple_of(7) }, buf)
                };
                in_flight[next] = Some((op, self.generation, Instant::now()));
                let slba = next as u64 * u64::from(self.blocks);
                self.namespace.submit(op, slba, self.blocks, Some(buf), &queue, next as u64);
                flying += 1;
            }
            if flying == 0 {
                return Ok(done);
            }
            let answer = queue.wait_until(Instant::now() + ANSWER_WITHIN).context("a request was never answered")?;
            let place = usize::try_from(answer.token)?;
            let (op, generation, since) = in_flight[place].take().context("an answer that nobody waits for")?;
            flying -= 1;
            done.longest = done.longest.max(since.elapsed());
            let slot = &mut self.slots[place];
            match (op, answer.outcome) {
                (Op::Read, Outcome::Ok) => {
                    done.reads += 1;
                    slot.check(place, answer.buf.as_ref().context("a read gives its buffer back")?.as_slice())?;
                }
                (_, Outcome::Ok) => {
                    done.writes += 1;
                    *slot = Slot { certain: generation, possible: Vec::new() };
                }
                (Op::Write { .. }, Outcome::OutcomeUnknown | Outcome::Indeterminate { .. }) => {
                    done.unknown += 1;
                    slot.possible.push(generation);
                }
                (op, outcome) => bail!("{op:?} of slot {place} ended with {outcome:?}"),
            }
        }
    }

    /// Reads every slot and checks it.
    pub(super) fn verify(&self) -> Result<()> {
        ensure!(self.namespace.flush().wait().0 == Outcome::Ok, "the flush failed");
        let places: Vec<(usize, &Slot)> = self.slots.iter().enumerate().collect();
        // Not one by one: a long wire would make minutes of it.
        for some in places.chunks(READS_AT_ONCE) {
            let read = |place: usize| self.namespace.read(place as u64 * u64::from(self.blocks), self.blocks);
            let pending: Vec<_> = some.iter().map(|(place, slot)| (*place, *slot, read(*place))).collect();
            for (place, slot, read) in pending {
                let (outcome, buf) = read.wait();
                ensure!(outcome == Outcome::Ok, "the read of slot {place} ended with {outcome:?}");
                slot.check(place, buf.context("a read gives its buffer back")?.as_slice())?;
            }
        }
        Ok(())
    }
}

impl Slot {
    fn check(&self, place: usize, bytes: &[u8]) -> Result<()> {
        if self.certain == 0 {
            // What lay there before is not ours to know.
            return Ok(());
        }
        let found = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        ensure!(
            found == self.certain || self.possible.contains(&found),
            "slot {place} holds generation {found}, but {} was acknowledged last ({:?} possible)",
            self.certain,
            self.possible
        );
        let mut expected = vec![0; bytes.len()];
        fill(&mut expected, place, found);
        let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
        ensure!(differs.is_none(), "slot {place} is torn or damaged from byte {differs:?} on");
        Ok(())
    }
}

/// Every piece of 16 bytes says what it is: generation, slot, offset.
fn fill(bytes: &mut [u8], place: usize, generation: u32) {
    for (index, piece) in bytes.chunks_exact_mut(16).enumerate() {
        piece[..4].copy_from_slice(&generation.to_le_bytes());
        piece[4..8].copy_from_slice(&(index as u32).to_le_bytes());
        piece[8..].copy_from_slice(&(place as u64).to_le_bytes());
    }
}
