//! The black box: which values may a block have?
//!
//! The oracle sees what an application sees: submissions, answers and what reads returned. Its model, per block:
//!
//! - A media-changing operation may take effect any number of times between its submission and its end. Its end is its
//!   answer, or, if it was given up (abandoned, or its outcome is indeterminate), the moment its life is settled. Blocks
//!   of one operation take effect independently (multi-block writes are torn freely), a single block is atomic.
//! - When a change is answered `Ok` that was submitted after the giving-up of an operation which it overlaps, the
//!   given-up one is over, whatever is known of its life: whoever goes on relies on that answer
//!   (`given_up_is_over_when_a_later_change_is_answered`). An answer that comes for it later says how it ended, not when.
//! - An operation answered `Ok` took effect at least once in between; one that failed may have; one that was not sent
//!   never did.
//! - Operations that overlap in time have no order.
//! - A read returns a value that the block had at some time during the read.
//!
//! From that follows when a value `v`, whose operation has ended, is impossible: something *other* was in the block at
//! a moment after the end of `v`. There are two witnesses for such a moment: a change answered `Ok` that was submitted
//! after `v` ended, or a read that began after `v` ended and saw something else. The second is the rule that a block
//! never flips back; it needs no rule of its own for a single unanswered write.
//!
//! Order is the order of calls, so the driver reports a submission before it gives the request away, and an answer
//! after it got it. Instants are kept for reports only.

use crate::op::{Op, OpId, OpKind, Outcome};
use crate::stamp::{Content, Stamp};
use crate::violation::{Violation, Written};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use interlock_base::{Instant, Ranges};

/// So many violations are kept; the rest is counted only ([`Oracle::violations_total`]).
pub const MAX_VIOLATIONS: usize = 1024;

/// What blocks hold before the first operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initial {
    /// Zeroes: a fresh namespace.
    Zero,
    /// Anything but stamps of this run: a namespace used before.
    Unknown,
}

/// What a deallocated block reads as (Identify Namespace, DLFEAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deallocated {
    /// All bytes 00h.
    Zeros,
    /// All bytes FFh.
    Ones,
    /// Not reported: what was there before, 00h, or FFh.
    Unreported,
}

/// How an oracle is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OracleConfig {
    /// The run whose stamps are ours.
    pub run: u64,
    /// What blocks hold before the first operation.
    pub initial: Initial,
    /// What discarded blocks read as.
    pub deallocated: Deallocated,
    /// The answer to a later change that overlaps it ends what was given up. Always right for a host that keeps its
    /// promise; without it an abandoned operation stays possible until its life is settled.
    pub later_answer_ends: bool,
}

impl OracleConfig {
    /// A fresh namespace whose deallocated blocks read as zeroes.
    #[must_use]
    pub const fn new(run: u64) -> Self {
        Self { run, initial: Initial::Zero, deallocated: Deallocated::Zeros, later_answer_ends: true }
    }
}

/// Position in the order of calls; 0 is before the first.
type Tick = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Value {
    Initial,
    Op(OpId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// The application waits for its answer.
    Waiting,
    /// The application gave it up then; an answer may still come.
    Abandoned(Tick),
    /// The application was told then that nobody knows.
    Indeterminate(Tick),
    /// It was given up, and a change that was submitted later was answered.
    Overtaken {
        /// When it was answered: this one can take effect no more.
        at: Tick,
        by: OpId,
        /// Nothing more will be said of this one.
        told: bool,
    },
    /// It can take effect no more.
    Ended(Tick),
    /// It never had an effect.
    NotSent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    op: Op,
    began: Tick,
    phase: Phase,
    /// A read returned it.
    seen: bool,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Block {
    /// What it may hold now, or hold again.
    live: Vec<Value>,
    /// Of the changes answered `Ok`, the one submitted last.
    last_ok: Option<(Tick, OpId)>,
    /// Of the reads answered, what the one submitted last saw.
    last_seen: Option<(Tick, Content)>,
    /// The zeroing operation that ended last, for reports.
    last_zeroed: Option<OpId>,
}

impl Default for Block {
    fn default() -> Self {
        Self { live: vec![Value::Initial], last_ok: None, last_seen: None, last_zeroed: None }
    }
}

/// A read that has not been answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reading {
    began: Tick,
    /// Per block: everything that was possible at some time since it began.
    possible: Vec<Vec<Value>>,
}

/// The black box oracle. It remembers every media-changing operation of the run (some 64 bytes each) and every block
/// that was changed or read back differently; both are bounded by the load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Oracle {
    config: OracleConfig,
    tick: Tick,
    ops: BTreeMap<OpId, Record>,
    blocks: BTreeMap<u64, Block>,
    reads: BTreeMap<OpId, Reading>,
    reading: Ranges<OpId, ()>,
    violations: Vec<Violation>,
    total: u64,
    reported: BTreeSet<(u64, Option<OpId>)>,
    first_violation_at: Option<Instant>,
}

impl Oracle {
    /// Nothing has happened.
    #[must_use]
    pub fn new(config: OracleConfig) -> Self {
        Self {
            config,
            tick: 0,
            ops: BTreeMap::new(),
            blocks: BTreeMap::new(),
            reads: BTreeMap::new(),
            reading: Ranges::new(),
            violations: Vec::new(),
            total: 0,
            reported: BTreeSet::new(),
            first_violation_at: None,
        }
    }

    /// `op` is about to be given to the host.
    ///
    /// # Panics
    /// If its number was used before: the load never does that.
    pub fn submitted(&mut self, op: Op, _now: Instant) {
        self.tick += 1;
        let record = Record { op, began: self.tick, phase: Phase::Waiting, seen: false };
        assert!(self.ops.insert(op.id, record).is_none(), "operation {} was submitted twice", op.id);
        if op.kind.observes() {
            let possible = op
                .range()
                .map(|lba| self.blocks.get(&lba).map_or_else(|| vec![Value::Initial], |block| block.live.clone()))
                .collect();
            self.reads.insert(op.id, Reading { began: self.tick, possible });
            self.reading.insert(op.id, op.range(), ());
        }
        if !op.kind.changes_media() {
            return;
        }
        for lba in op.range() {
            self.blocks.entry(lba).or_default().live.push(Value::Op(op.id));
        }
        let Self { reading, reads, .. } = self;
        for (id, range, ()) in reading.overlapping(op.range()) {
            let Some(read) = reads.get_mut(&id) else { continue };
            for lba in op.range().start.max(range.start)..op.range().end.min(range.end) {
                read.possible[(lba - range.start) as usize].push(Value::Op(op.id));
            }
        }
    }

    /// The application got the answer for `id`. For a read that succeeded call [`Oracle::read_answered`] instead, for a
    /// compare that found its blocks equal or different [`Oracle::compared`].
    pub fn answered(&mut self, id: OpId, outcome: Outcome, now: Instant) {
        self.tick += 1;
        let Some(op) = self.take_answer(id, now) else { return };
        if !op.kind.changes_media() {
            self.forget_read(id);
            self.set_phase(id, Phase::Ended(self.tick));
            return;
        }
        let overtaken = match self.ops.get(&id).map(|record| record.phase) {
            Some(Phase::Overtaken { at, by, .. }) => Some(Phase::Overtaken { at, by, told: true }),
            _ => None,
        };
        match (outcome, overtaken) {
            (Outcome::NotSent, _) => {
                self.set_phase(id, Phase::NotSent);
                self.never_happened(op);
                if self.ops.get(&id).is_some_and(|record| record.seen) {
                    self.report(Violation::NotSent { lba: op.lba, op: id }, Some(id), now);
                }
            }
            (_, Some(overtaken)) => self.set_phase(id, overtaken),
            (Outcome::Ok, None) => {
                self.overtake(op);
                self.end(op, true);
            }
            (Outcome::Failed | Outcome::UnknownSettled, None) => self.end(op, false),
            (Outcome::Indeterminate, None) => self.set_phase(id, Phase::Indeterminate(self.tick)),
        }
    }

    /// What was over by the answer to the change `id`: operations that it overlaps and that had been given up before it was
    /// submitted. To be asked after each [`Oracle::answered`] with [`Outcome::Ok`], once.
    #[must_use]
    pub fn overtaken_by(&self, id: OpId) -> BTreeSet<OpId> {
        let by_it = |other: &OpId| {
            self.ops.get(other).is_some_and(|record| matches!(record.phase, Phase::Overtaken { by, .. } if by == id))
        };
        self.op(id).into_iter().flat_map(|op| self.in_blocks_of(op)).filter(by_it).collect()
    }

    /// Operations whose values the blocks of `op` may hold.
    fn in_blocks_of(&self, op: Op) -> impl Iterator<Item = OpId> + '_ {
        let blocks = op.range().filter_map(|lba| self.blocks.get(&lba));
        blocks.flat_map(|block| &block.live).filter_map(|value| match value {
            Value::Op(id) => Some(*id),
            Value::Initial => None,
        })
    }

    /// The application has given `id` up without an answer: it stays possible until [`Oracle::life_settled`], or until a
    /// change that is submitted from now on is answered. Report it once the host has been told.
    pub fn abandoned(&mut self, id: OpId, _now: Instant) {
        self.tick += 1;
        let Some(record) = self.ops.get_mut(&id).filter(|record| record.phase == Phase::Waiting) else { return };
        if record.op.kind.changes_media() {
            record.phase = Phase::Abandoned(self.tick);
        } else {
            record.phase = Phase::Ended(self.tick);
            self.forget_read(id);
        }
    }

    /// The last life on which the abandoned or indeterminate operation `id` was sent is fenced, or its tombstone has
    /// ended: it takes effect no more. Nothing happens if it had ended already.
    pub fn life_settled(&mut self, id: OpId, _now: Instant) {
        self.tick += 1;
        if let Some(record) = self.ops.get(&id).copied()
            && matches!(record.phase, Phase::Abandoned(_) | Phase::Indeterminate(_))
        {
            self.end(record.op, false);
        }
    }

    /// The read `id` succeeded and returned `contents`, one per block.
    ///
    /// # Panics
    /// If `contents` has not one entry per block of the read.
    pub fn read_answered(&mut self, id: OpId, contents: &[Content], now: Instant) {
        let Some((op, read)) = self.take_read(id, contents.len(), now) else { return };
        for ((lba, possible), content) in op.range().zip(&read.possible).zip(contents) {
            let (lba, content) = (lba, *content);
            if possible.iter().any(|value| self.may_read(*value, lba, content)) {
                self.saw(lba, read.began, possible, content);
            } else {
                let found = match content {
                    Content::Stamp(stamp) => Some(stamp.op),
                    _ => None,
                };
                let violation = self.explain(lba, content);
                self.report(violation, found, now);
            }
        }
    }

    /// The compare `id` was answered: its blocks were `expected`, one per block, or (`equal` is false) at least one of them
    /// was something else. Each block was compared at some time of its own since the submission.
    ///
    /// # Panics
    /// If `expected` has not one entry per block of the compare.
    pub fn compared(&mut self, id: OpId, expected: &[Content], equal: bool, now: Instant) {
        if equal {
            return self.read_answered(id, expected, now);
        }
        let Some((op, read)) = self.take_read(id, expected.len(), now) else { return };
        let may_differ = op
            .range()
            .zip(&read.possible)
            .zip(expected)
            .any(|((lba, possible), content)| possible.iter().any(|value| !self.must_read(*value, lba, *content)));
        if !may_differ {
            self.report(Violation::SeenDifferent { lba: op.lba, op: id }, Some(id), now);
        }
    }

    /// What an application that is alone would expect in block `lba`: what was answered or seen last. `None` if it knows
    /// nothing of it.
    #[must_use]
    pub fn believed(&self, lba: u64) -> Option<Content> {
        let block = self.blocks.get(&lba);
        let answered = block.and_then(|block| block.last_ok).and_then(|(began, id)| {
            let op = self.ops.get(&id)?.op;
            Some((began, self.reads_as(&op, lba)?))
        });
        let seen = block.and_then(|block| block.last_seen);
        let initial = || (self.config.initial == Initial::Zero).then_some(Content::Zero);
        let last = answered.into_iter().chain(seen).max_by_key(|(began, _)| *began).map(|(_, content)| content);
        last.filter(|content| !matches!(content, Content::Torn { .. } | Content::Foreign)).or_else(initial)
    }

    /// What is wrong so far, each block and operation once; at most [`MAX_VIOLATIONS`].
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many there are in all.
    #[must_use]
    pub const fn violations_total(&self) -> u64 {
        self.total
    }

    /// When the first one was noticed.
    #[must_use]
    pub const fn first_violation_at(&self) -> Option<Instant> {
        self.first_violation_at
    }

    /// Operations whose end is not known: waiting, abandoned or indeterminate.
    pub fn unfinished(&self) -> impl Iterator<Item = Op> + '_ {
        self.ops
            .values()
            .filter(|record| matches!(record.phase, Phase::Waiting | Phase::Abandoned(_) | Phase::Indeterminate(_)))
            .map(|record| record.op)
    }

    /// The operation `id`, if it was submitted.
    #[must_use]
    pub fn op(&self, id: OpId) -> Option<Op> {
        self.ops.get(&id).map(|record| record.op)
    }

    /// Accepts an answer once.
    fn take_answer(&mut self, id: OpId, now: Instant) -> Option<Op> {
        match self.ops.get(&id) {
            Some(Record {
                op,
                phase: Phase::Waiting | Phase::Abandoned(_) | Phase::Overtaken { told: false, .. },
                ..
            }) => Some(*op),
            _ => {
                self.report(Violation::AnsweredTwice { op: id }, Some(id), now);
                None
            }
        }
    }

    /// Accepts the answer of a read or compare of so many blocks.
    fn take_read(&mut self, id: OpId, blocks: usize, now: Instant) -> Option<(Op, Reading)> {
        self.tick += 1;
        let op = self.take_answer(id, now)?;
        assert_eq!(blocks, op.nlb as usize, "{} {id} has {} blocks", op.kind.name(), op.nlb);
        self.set_phase(id, Phase::Ended(self.tick));
        self.reading.remove(id);
        Some((op, self.reads.remove(&id)?))
    }

    fn set_phase(&mut self, id: OpId, phase: Phase) {
        if let Some(record) = self.ops.get_mut(&id) {
            record.phase = phase;
        }
    }

    fn forget_read(&mut self, id: OpId) {
        self.reading.remove(id);
        self.reads.remove(&id);
    }

    /// When `value` was submitted.
    fn began(&self, value: Value) -> Tick {
        match value {
            Value::Initial => 0,
            Value::Op(id) => self.ops.get(&id).map_or(0, |record| record.began),
        }
    }

    /// When `value` ended, for good; `None` if it may still take effect.
    fn ended(&self, value: Value) -> Option<Tick> {
        ended(&self.ops, value)
    }

    /// `op` is answered: what it overlaps and was given up before it was submitted takes effect no more.
    fn overtake(&mut self, op: Op) {
        let Some(began) = self.ops.get(&op.id).map(|record| record.began).filter(|_| self.config.later_answer_ends)
        else {
            return;
        };
        let over: BTreeSet<OpId> = self.in_blocks_of(op).collect();
        for id in over {
            let Some(record) = self.ops.get(&id).copied() else { continue };
            let (given_up, told) = match record.phase {
                Phase::Abandoned(given_up) => (given_up, false),
                Phase::Indeterminate(given_up) => (given_up, true),
                _ => continue,
            };
            if given_up < began {
                self.end(record.op, false);
                self.set_phase(id, Phase::Overtaken { at: self.tick, by: op.id, told });
            }
        }
    }

    /// `op` takes effect no more; if it took effect for certain, whatever ended before it began is gone.
    fn end(&mut self, op: Op, took_effect: bool) {
        self.set_phase(op.id, Phase::Ended(self.tick));
        let Some(began) = self.ops.get(&op.id).map(|record| record.began) else { return };
        // "What was there before" is one of the things an unreported deallocation may leave.
        let replaces = op.kind != OpKind::Discard || self.config.deallocated != Deallocated::Unreported;
        let Self { ops, blocks, .. } = self;
        for lba in op.range() {
            let block = blocks.entry(lba).or_default();
            if op.kind != OpKind::Write {
                block.last_zeroed = Some(op.id);
            }
            if took_effect && replaces {
                block.live.retain(|value| ended(ops, *value).is_none_or(|ended| ended > began));
                if block.last_ok.is_none_or(|(last, _)| last < began) {
                    block.last_ok = Some((began, op.id));
                }
            }
        }
    }

    /// `op` was not sent: no read may return it.
    fn never_happened(&mut self, op: Op) {
        let gone = Value::Op(op.id);
        for lba in op.range() {
            if let Some(block) = self.blocks.get_mut(&lba) {
                block.live.retain(|value| *value != gone);
            }
        }
        for possible in self.reads.values_mut().flat_map(|read| read.possible.iter_mut()) {
            possible.retain(|value| *value != gone);
        }
    }

    /// True if a block `lba` that holds `value` reads as `content`.
    fn may_read(&self, value: Value, lba: u64, content: Content) -> bool {
        match value {
            Value::Initial => match self.config.initial {
                Initial::Zero => content == Content::Zero,
                Initial::Unknown => match content {
                    Content::Stamp(stamp) => stamp.run != self.config.run,
                    Content::Zero | Content::Ones | Content::Foreign => true,
                    Content::Torn { .. } => false,
                },
            },
            Value::Op(id) => {
                let Some(record) = self.ops.get(&id) else { return false };
                match self.reads_as(&record.op, lba) {
                    Some(only) => content == only,
                    // Of these only an unreported deallocation changes blocks.
                    None => record.op.kind == OpKind::Discard && matches!(content, Content::Zero | Content::Ones),
                }
            }
        }
    }

    /// What block `lba` reads as after `op`, if there is only one answer.
    fn reads_as(&self, op: &Op, lba: u64) -> Option<Content> {
        match (op.kind, self.config.deallocated) {
            (OpKind::Write, _) => Some(Content::Stamp(Stamp::of(self.config.run, op, lba))),
            (OpKind::WriteZeroes, _) | (OpKind::Discard, Deallocated::Zeros) => Some(Content::Zero),
            (OpKind::Discard, Deallocated::Ones) => Some(Content::Ones),
            (OpKind::Discard, Deallocated::Unreported) => None,
            (OpKind::Read | OpKind::Flush | OpKind::Compare, _) => None,
        }
    }

    /// True if a block `lba` that holds `value` reads as `content` and as nothing else.
    fn must_read(&self, value: Value, lba: u64, content: Content) -> bool {
        match value {
            Value::Initial => self.config.initial == Initial::Zero && content == Content::Zero,
            Value::Op(id) => self.ops.get(&id).is_some_and(|record| self.reads_as(&record.op, lba) == Some(content)),
        }
    }

    /// A read that began at `began` legally saw `content`: at some moment since then, and since whatever put it there
    /// was submitted, nothing else was in the block.
    fn saw(&mut self, lba: u64, began: Tick, possible: &[Value], content: Content) {
        if let Content::Stamp(stamp) = content
            && let Some(record) = self.ops.get_mut(&stamp.op)
        {
            record.seen = true;
        }
        let seen = || possible.iter().copied().filter(|value| self.may_read(*value, lba, content));
        let began = seen().map(|value| self.began(value)).min().unwrap_or(0).max(began);
        // The latest moment at which what was seen can have come to be there; `None`: it still can.
        let came = seen()
            .map(|value| self.ended(value))
            .reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other)))
            .flatten();
        // Whatever ended before the read began and reads differently cannot be there after it.
        let gone = |oracle: &Self, value: Value| {
            oracle.ended(value).is_some_and(|ended| ended < began) && !oracle.may_read(value, lba, content)
        };
        if let Some(mut block) = self.blocks.remove(&lba) {
            block.live.retain(|value| !gone(self, *value));
            if block.last_seen.is_none_or(|(last, _)| last < began) {
                block.last_seen = Some((began, content));
            }
            self.blocks.insert(lba, block);
        }
        // Nor can a read that goes on have met it earlier, unless what was seen came to be there later than that.
        let Some(came) = came else { return };
        let others: Vec<OpId> = self.reading.overlapping(lba..lba + 1).map(|(id, ..)| id).collect();
        for id in others {
            let Some(mut read) = self.reads.remove(&id) else { continue };
            if let Some(first) = self.ops.get(&id).map(|record| record.op.lba) {
                read.possible[(lba - first) as usize]
                    .retain(|value| !gone(self, *value) || came > read.began.max(self.began(*value)));
            }
            self.reads.insert(id, read);
        }
    }

    /// Why block `lba` cannot read as `content`.
    fn explain(&self, lba: u64, content: Content) -> Violation {
        let block = self.blocks.get(&lba);
        let last_ok = block.and_then(|block| block.last_ok);
        let last_seen = block.and_then(|block| block.last_seen);
        let found = match content {
            Content::Torn { head, tail, at } => return Violation::Torn { lba, head, tail, at },
            Content::Foreign => return Violation::Foreign { lba, found: None },
            Content::Stamp(found) if found.run != self.config.run => {
                return Violation::Foreign { lba, found: Some(found) };
            }
            Content::Stamp(found) if found.lba != lba => return Violation::Misplaced { lba, found },
            Content::Stamp(found) => found,
            Content::Zero | Content::Ones => {
                let suspect = block
                    .and_then(|block| block.last_zeroed)
                    .and_then(|id| self.written(id))
                    .filter(|suspect| last_ok.is_none_or(|(_, ok)| ok != suspect.op));
                return match (last_ok.and_then(|(_, id)| self.written(id)), last_seen) {
                    (Some(lost), _) => Violation::Lost { lba, found: content, lost, suspect },
                    (None, Some((_, seen))) => Violation::FlippedBack { lba, found: content, seen },
                    (None, None) => Violation::Foreign { lba, found: None },
                };
            }
        };
        let Some(record) = self.ops.get(&found.op) else { return Violation::Unwritten { lba, found } };
        if Stamp::of(self.config.run, &record.op, lba) != found
            || record.op.kind != OpKind::Write
            || !record.op.covers(lba)
        {
            return Violation::Unwritten { lba, found };
        }
        match record.phase {
            Phase::NotSent => Violation::NotSent { lba, op: found.op },
            Phase::Ended(ended) => match (last_ok, last_seen) {
                (Some((began, id)), _)
                    if began > ended
                        && let Some(overwrote) = self.written(id) =>
                {
                    Violation::Stale { lba, found, overwrote }
                }
                (_, Some((_, seen))) => Violation::FlippedBack { lba, found: content, seen },
                _ => Violation::Unwritten { lba, found },
            },
            Phase::Overtaken { by, .. } => match self.written(by) {
                Some(later) => Violation::GivenUpCameBack { lba, found, later },
                None => Violation::Unwritten { lba, found },
            },
            // Unfinished operations are always possible.
            Phase::Waiting | Phase::Abandoned(_) | Phase::Indeterminate(_) => Violation::Unwritten { lba, found },
        }
    }

    fn written(&self, id: OpId) -> Option<Written> {
        self.ops.get(&id).map(|record| Written::from(&record.op))
    }

    fn report(&mut self, violation: Violation, found: Option<OpId>, now: Instant) {
        let place = violation.lba().unwrap_or(u64::MAX);
        if !self.reported.insert((place, found)) {
            return;
        }
        self.total += 1;
        self.first_violation_at.get_or_insert(now);
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation);
        }
    }
}

fn ended(ops: &BTreeMap<OpId, Record>, value: Value) -> Option<Tick> {
    match value {
        Value::Initial => Some(0),
        Value::Op(id) => match ops.get(&id)?.phase {
            Phase::Ended(tick) | Phase::Overtaken { at: tick, .. } => Some(tick),
            Phase::Waiting | Phase::Abandoned(_) | Phase::Indeterminate(_) | Phase::NotSent => None,
        },
    }
}
