//! The oracle against worlds that are known to be right, known to be wrong, and small enough to try everything.
//!
//! 1. A register in memory executes operations at random moments between submission and end, several times, block by
//!    block: whatever it does is legal and must never be flagged.
//! 2. The same register executes one operation again after its answer and after another answered change of the
//!    block: the read-back must always flag it.
//! 3. For tiny histories with made-up read results a second definition, written as a search over everything the
//!    register could have done, says which are legal. Both must agree, in both directions.

use interlock_base::{Instant, Rng};
use interlock_check::{Content, Op, OpId, OpKind, Oracle, OracleConfig, Outcome, Stamp, Violation};
use std::collections::BTreeSet;

const RUN: u64 = 3;
const NOW: Instant = Instant::ZERO;
const BLOCKS: usize = 6;

/// A disk that a test owns, and the operations that may still touch it.
struct World {
    rng: Rng,
    disk: [Content; BLOCKS],
    /// Operations that may take effect, whether or not the application still waits for them.
    armed: Vec<Op>,
    /// Reads that go on, with what they have picked up so far.
    reads: Vec<(Op, Vec<Option<Content>>)>,
    ended: Vec<Op>,
    oracle: Oracle,
    next: u64,
    /// That found a difference, and that found none.
    compares: [u32; 2],
}

fn content(op: &Op, lba: u64) -> Content {
    match op.kind {
        OpKind::Write => Content::Stamp(Stamp::of(RUN, op, lba)),
        _ => Content::Zero,
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            disk: [Content::Zero; BLOCKS],
            armed: Vec::new(),
            reads: Vec::new(),
            ended: Vec::new(),
            oracle: Oracle::new(OracleConfig::new(RUN)),
            next: 1,
            compares: [0; 2],
        }
    }

    fn submit(&mut self, kind: OpKind, lba: u64, nlb: u32) -> Op {
        let generation = if kind.changes_media() { self.next as u32 } else { 0 };
        let op = Op { id: OpId(self.next), kind, lba, nlb, generation };
        self.next += 1;
        self.oracle.submitted(op, NOW);
        op
    }

    fn submit_any(&mut self) {
        let lba = self.rng.below(BLOCKS as u64);
        let nlb = 1 + self.rng.below((BLOCKS as u64 - lba).min(3)) as u32;
        match self.rng.below(10) {
            0..4 => {
                let kind = if self.rng.percent(40) { OpKind::Compare } else { OpKind::Read };
                let op = self.submit(kind, lba, nlb);
                self.reads.push((op, vec![None; nlb as usize]));
            }
            kind => {
                let kind = [OpKind::WriteZeroes, OpKind::Discard].get(kind as usize - 4).copied();
                let op = self.submit(kind.unwrap_or(OpKind::Write), lba, nlb);
                self.armed.push(op);
            }
        }
    }

    fn execute_block(&mut self, op: &Op, lba: u64) {
        self.disk[lba as usize] = content(op, lba);
    }

    /// Something happens inside: some block of an armed operation is written, some block of a read is fetched.
    fn happen(&mut self) {
        if !self.armed.is_empty() && self.rng.percent(60) {
            let op = self.armed[self.rng.below(self.armed.len() as u64) as usize];
            let lba = op.lba + self.rng.below(u64::from(op.nlb));
            self.execute_block(&op, lba);
        }
        if !self.reads.is_empty() && self.rng.percent(60) {
            let at = self.rng.below(self.reads.len() as u64) as usize;
            let (op, got) = &mut self.reads[at];
            let block = self.rng.below(u64::from(op.nlb));
            got[block as usize] = Some(self.disk[(op.lba + block) as usize]);
        }
    }

    /// An armed operation ends in some way; before an `Ok` it is executed in full.
    fn end_one(&mut self) {
        if self.armed.is_empty() {
            return;
        }
        let at = self.rng.below(self.armed.len() as u64) as usize;
        let op = self.armed.swap_remove(at);
        let unfinished = self.oracle.unfinished().any(|other| other.id == op.id);
        assert!(unfinished);
        match self.rng.below(12) {
            0 => self.oracle.answered(op.id, Outcome::Failed, NOW),
            1 => self.oracle.answered(op.id, Outcome::UnknownSettled, NOW),
            2 => {
                self.oracle.abandoned(op.id, NOW);
                self.linger(op);
            }
            3 => {
                self.oracle.answered(op.id, Outcome::Indeterminate, NOW);
                self.linger(op);
            }
            _ => {
                for lba in op.range() {
                    self.execute_block(&op, lba);
                }
                for _ in 0..self.rng.below(4) {
                    self.happen();
                }
                self.oracle.answered(op.id, Outcome::Ok, NOW);
            }
        }
        self.ended.push(op);
    }

    /// `op` goes on being possible for a while, then its life is settled.
    fn linger(&mut self, op: Op) {
        for _ in 0..self.rng.below(6) {
            if self.rng.percent(40) {
                let lba = op.lba + self.rng.below(u64::from(op.nlb));
                self.execute_block(&op, lba);
            }
            if self.rng.percent(30) {
                self.submit_any();
            }
            self.happen();
        }
        self.oracle.life_settled(op.id, NOW);
    }

    fn end_read(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let at = self.rng.below(self.reads.len() as u64) as usize;
        let (op, got) = self.reads.swap_remove(at);
        let contents: Vec<Content> =
            op.range().zip(got).map(|(lba, got)| got.unwrap_or(self.disk[lba as usize])).collect();
        if op.kind == OpKind::Read {
            return self.oracle.read_answered(op.id, &contents, NOW);
        }
        let expected: Vec<Content> = op.range().map(|lba| self.oracle.believed(lba).expect("a fresh disk")).collect();
        let equal = contents == expected;
        self.compares[usize::from(equal)] += 1;
        self.oracle.compared(op.id, &expected, equal, NOW);
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            match self.rng.below(10) {
                0..3 if self.armed.len() + self.reads.len() < 8 => self.submit_any(),
                3..5 => self.end_one(),
                5..7 => self.end_read(),
                _ => self.happen(),
            }
        }
    }

    fn drain(&mut self) {
        while !self.armed.is_empty() || !self.reads.is_empty() {
            self.end_one();
            self.end_read();
        }
    }

    fn read_back(&mut self) {
        let op = self.submit(OpKind::Read, 0, BLOCKS as u32);
        let disk = self.disk;
        self.oracle.read_answered(op.id, &disk, NOW);
    }
}

#[test]
fn a_legal_history_is_never_flagged() {
    let mut compares = [0; 2];
    for seed in 0..2000 {
        let mut world = World::new(seed);
        world.run(150);
        world.drain();
        world.read_back();
        world.read_back();
        assert_eq!(world.oracle.violations(), [], "seed {seed}");
        compares = [0, 1].map(|equal| compares[equal] + world.compares[equal]);
    }
    assert!(compares.into_iter().all(|count| count > 1000), "{compares:?} compares found a difference, and none");
}

#[test]
fn a_compare_that_lies_is_flagged_as_soon_as_its_block_is_certain() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        world.run(120);
        world.drain();
        world.read_back();
        let lba = world.rng.below(BLOCKS as u64);
        let (certain, other) = (world.disk[lba as usize], world.disk[(lba as usize + 1) % BLOCKS]);
        assert_eq!(world.oracle.believed(lba), Some(certain), "seed {seed}: it was just read");
        let op = world.submit(OpKind::Compare, lba, 1);
        world.oracle.compared(op.id, &[certain], false, NOW);
        assert_eq!(world.oracle.violations(), [Violation::SeenDifferent { lba, op: op.id }], "seed {seed}");
        let op = world.submit(OpKind::Compare, lba, 1);
        if other != certain {
            world.oracle.compared(op.id, &[other], true, NOW);
            assert_eq!(world.oracle.violations_total(), 2, "seed {seed}");
        }
    }
}

#[test]
fn a_ghost_after_a_later_answer_is_always_flagged_by_the_read_back() {
    let mut ghosts = 0;
    for seed in 0..2000 {
        let mut world = World::new(seed);
        world.run(120);
        world.drain();
        let Some(ghost) = world.ended.get(world.rng.below(world.ended.len().max(1) as u64) as usize).copied() else {
            continue;
        };
        // The application goes on: another answered write of one of its blocks, then the ghost lands there.
        let lba = ghost.lba + world.rng.below(u64::from(ghost.nlb));
        let later = world.submit(OpKind::Write, lba, 1);
        world.execute_block(&later, lba);
        world.oracle.answered(later.id, Outcome::Ok, NOW);
        assert_eq!(world.oracle.violations(), [], "seed {seed}");
        world.execute_block(&ghost, lba);
        world.read_back();
        ghosts += 1;
        match world.oracle.violations() {
            [Violation::Stale { lba: at, found, overwrote }] => {
                assert_eq!((*at, found.op, overwrote.op), (lba, ghost.id, later.id), "seed {seed}");
            }
            [Violation::Lost { lba: at, lost, suspect, .. }] => {
                assert!(ghost.kind != OpKind::Write && suspect.is_some(), "seed {seed}");
                assert_eq!((*at, lost.op), (lba, later.id), "seed {seed}");
            }
            other => panic!("seed {seed}: ghost {} is not flagged: {other:?}", ghost.id),
        }
    }
    assert!(ghosts > 1800, "{ghosts} histories had a ghost");
}

// --- The second definition -------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Step {
    Submit(usize),
    End(usize, Outcome),
    Settle(usize),
    ReadBegin(usize),
    /// The value is the number of a write, or `INITIAL`.
    ReadEnd(usize, usize),
}

const INITIAL: usize = 31;

/// What the register could be: its value, the writes that took effect since their submission, and for every read that
/// goes on the values it met. All sets are bit masks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Possible {
    value: usize,
    happened: u32,
    met: [u32; 3],
}

/// Everything reachable from `states` by letting armed writes take effect.
fn closure(states: BTreeSet<Possible>, armed: u32, reading: u32) -> BTreeSet<Possible> {
    let mut all = BTreeSet::new();
    let mut todo: Vec<Possible> = states.into_iter().collect();
    while let Some(mut state) = todo.pop() {
        for read in 0..3 {
            if reading & 1 << read != 0 {
                state.met[read] |= 1 << state.value;
            }
        }
        if !all.insert(state) {
            continue;
        }
        for write in (0..5).filter(|write| armed & 1 << write != 0) {
            todo.push(Possible { value: write, happened: state.happened | 1 << write, ..state });
        }
    }
    all
}

/// The first step after which no register can have done all this.
fn impossible_at(steps: &[Step]) -> Option<usize> {
    let mut states = BTreeSet::from([Possible { value: INITIAL, happened: 0, met: [0; 3] }]);
    let (mut armed, mut reading) = (0_u32, 0_u32);
    for (at, step) in steps.iter().enumerate() {
        states = closure(states, armed, reading);
        match *step {
            Step::Submit(write) => armed |= 1 << write,
            Step::End(write, Outcome::Ok) => {
                states.retain(|state| state.happened & 1 << write != 0);
                armed &= !(1 << write);
            }
            Step::End(_, Outcome::Indeterminate) => {}
            Step::End(write, _) | Step::Settle(write) => armed &= !(1 << write),
            Step::ReadBegin(read) => {
                reading |= 1 << read;
                states = states
                    .into_iter()
                    .map(|mut state| {
                        state.met[read] = 0;
                        state
                    })
                    .collect();
            }
            Step::ReadEnd(read, value) => {
                states.retain(|state| state.met[read] & 1 << value != 0);
                reading &= !(1 << read);
                states = states
                    .into_iter()
                    .map(|mut state| {
                        state.met[read] = 0;
                        state
                    })
                    .collect();
            }
        }
        if states.is_empty() {
            return Some(at);
        }
    }
    None
}

/// The first step after which the oracle finds something.
fn flagged_at(steps: &[Step]) -> Option<usize> {
    let write = |number: usize| Op {
        id: OpId(number as u64 + 1),
        kind: OpKind::Write,
        lba: 0,
        nlb: 1,
        generation: number as u32 + 1,
    };
    let mut oracle = Oracle::new(OracleConfig::new(RUN));
    let mut ids = [0; 3];
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Submit(number) => oracle.submitted(write(number), NOW),
            Step::End(number, outcome) => oracle.answered(OpId(number as u64 + 1), outcome, NOW),
            Step::Settle(number) => oracle.life_settled(OpId(number as u64 + 1), NOW),
            Step::ReadBegin(read) => {
                ids[read] = 100 + at as u64;
                oracle.submitted(Op { id: OpId(ids[read]), kind: OpKind::Read, lba: 0, nlb: 1, generation: 0 }, NOW);
            }
            Step::ReadEnd(read, value) => {
                let content = match value {
                    INITIAL => Content::Zero,
                    number => Content::Stamp(Stamp::of(RUN, &write(number), 0)),
                };
                oracle.read_answered(OpId(ids[read]), &[content], NOW);
            }
        }
        if !oracle.violations().is_empty() {
            return Some(at);
        }
    }
    None
}

/// A history of at most 5 writes and 3 reads at once, whose reads return any write submitted so far.
fn draw(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut submitted, mut waiting, mut open, mut reading) = (0, Vec::new(), Vec::new(), [false; 3]);
    while steps.len() < 16 {
        match rng.below(5) {
            0 if submitted < 5 => {
                steps.push(Step::Submit(submitted));
                waiting.push(submitted);
                submitted += 1;
            }
            1 if !waiting.is_empty() => {
                let write = waiting.swap_remove(rng.below(waiting.len() as u64) as usize);
                let outcome =
                    [Outcome::Ok, Outcome::Ok, Outcome::Failed, Outcome::Indeterminate][rng.below(4) as usize];
                if outcome == Outcome::Indeterminate {
                    open.push(write);
                }
                steps.push(Step::End(write, outcome));
            }
            2 if !open.is_empty() => {
                steps.push(Step::Settle(open.swap_remove(rng.below(open.len() as u64) as usize)));
            }
            _ => {
                let read = rng.below(3) as usize;
                if reading[read] {
                    let value = rng.below(submitted as u64 + 1) as usize;
                    steps.push(Step::ReadEnd(read, if value == submitted { INITIAL } else { value }));
                } else {
                    steps.push(Step::ReadBegin(read));
                }
                reading[read] = !reading[read];
            }
        }
    }
    steps
}

/// 200,000 were tried once; these few still find every rule that is dropped.
const ROUNDS: usize = 1000;

#[test]
fn both_definitions_agree_on_every_small_history() {
    let mut rng = Rng::new(1);
    let (mut legal, mut impossible) = (0, 0);
    for round in 0..ROUNDS {
        let steps = draw(&mut rng);
        let expected = impossible_at(&steps);
        assert_eq!(flagged_at(&steps), expected, "round {round}: {steps:#?}");
        match expected {
            Some(_) => impossible += 1,
            None => legal += 1,
        }
    }
    assert!(legal > ROUNDS / 20 && impossible > ROUNDS / 4, "{legal} legal, {impossible} impossible");
}
