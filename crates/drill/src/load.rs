//! The verified load, carried out through the host.
//!
//! What to do and what may be read are decided in `check`. Here operations become requests and answers become facts:
//! every answer reaches the oracle in the order in which the application got it, and every change that was in flight
//! when a path was lost is rewritten with a new stamp as soon as it was answered, so that a ghost has something to
//! spoil.

use crate::evidence::Fencing;
use interlock_base::Instant;
use interlock_check::{
    Content, Deallocated, Initial, Load, LoadConfig, Op, OpId, OpKind, Oracle, OracleConfig, Outcome, ReadBack, Stamp,
    Violation, Weights,
};
use interlock_host::{Buf, Completion, Completions, Namespace, Op as HostOp, Outcome as HostOutcome};
use interlock_ring::now;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Operations in flight, besides those that were in flight when a path was lost: other work of an application goes on.
pub(crate) const QUEUE_DEPTH: usize = 32;

/// While a path swallows what it is given, reads included, more may be in flight: otherwise they could take every place
/// before enough writes are held, and the scenario would wait for nothing. Below the queue size of the path (128).
const HOLD_DEPTH: usize = 96;

/// After a request found no path, the load waits so long before it asks again.
const PAUSE: Duration = Duration::from_millis(20);

/// Latencies are counted in microseconds, to three digits.
const DIGITS: u8 = 3;

/// A change that so many later operations have overtaken is held.
const OVERTAKEN_MIN: u32 = 2;

/// So is one that waited so long, when nothing is left that could overtake it: everything in flight is held.
const SURELY_HELD: Duration = Duration::from_millis(500);

/// What the load draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Everything, as fast as it is answered.
    Mixed,
    /// Everything, but no faster than one operation in this time: most in flight are those that stall.
    Paced(Duration),
    /// Nothing new.
    Off,
}

/// An operation in flight.
#[derive(Clone, Debug)]
struct Flying {
    op: Op,
    submitted: Instant,
    /// It was in flight when a path was lost.
    suspect: bool,
    rewrite: bool,
    /// Operations that were submitted later and answered earlier.
    overtaken: u32,
}

/// A change that was in flight when a path was lost, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// What it was.
    pub(crate) op: Op,
    /// When it was submitted.
    pub(crate) submitted: Instant,
    /// When and how the application was answered.
    pub(crate) answered: Option<(Instant, Outcome)>,
    /// After it was given up: the first change submitted since that was answered, and when.
    pub(crate) overtaken: Option<(OpId, Instant)>,
}

/// An operation that ended other than well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// When it was submitted.
    pub(crate) submitted: Instant,
    /// When it ended.
    pub(crate) at: Instant,
    /// Never sent, or of no effect: it was not in doubt.
    pub(crate) settled: bool,
    /// In words.
    pub(crate) why: String,
}

/// What the application felt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Felt {
    /// The longest that an operation waited; what was in flight when the path broke counts from there.
    pub(crate) longest: Duration,
    /// The 99th percentile of all.
    pub(crate) p99: Duration,
}

/// Where the load plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ground {
    /// So many blocks from the first on.
    pub(crate) blocks: u64,
    /// Blocks of the largest operation.
    pub(crate) max_blocks: u32,
    /// What they hold before.
    pub(crate) before: Initial,
    /// What they read as after a discard.
    pub(crate) deallocated: Deallocated,
    /// The mix that the target can do.
    pub(crate) weights: Weights,
}

impl Ground {
    /// All of a fresh namespace of our own target.
    pub(crate) fn fresh(blocks: u64) -> Self {
        let max_blocks = LoadConfig::default().max_blocks;
        let (before, deallocated) = (Initial::Zero, Deallocated::Zeros);
        Self { blocks, max_blocks, before, deallocated, weights: Weights::default() }
    }
}

/// The load on one namespace.
pub(crate) struct Driver {
    namespace: Namespace,
    queue: Completions,
    load: Load,
    oracle: Oracle,
    run: u64,
    fencing: Fencing,
    feed: Feed,
    last_submitted: Instant,
    paused_until: Instant,
    broken: Option<Instant>,
    flying: BTreeMap<OpId, Flying>,
    suspects: BTreeMap<OpId, Suspect>,
    rewritten: u64,
    failures: Vec<Failure>,
    failures_total: u64,
    latencies: hdrhistogram::Histogram<u64>,
    longest: Duration,
}

/// So many failures are kept in words.
const FAILURES_KEPT: usize = 4096;

impl Driver {
    /// A load on `namespace`, wholly determined by `seed` and the order of answers.
    pub(crate) fn new(namespace: Namespace, ground: Ground, fencing: Fencing, seed: u64) -> Self {
        let Ground { blocks, max_blocks, before, deallocated, weights } = ground;
        let config = LoadConfig { run: seed, seed, blocks, max_blocks, weights, ..LoadConfig::default() };
        Self {
            namespace,
            queue: Completions::new(),
            load: Load::new(config),
            oracle: Oracle::new(OracleConfig { initial: before, deallocated, ..OracleConfig::new(seed) }),
            run: seed,
            fencing,
            feed: Feed::Off,
            last_submitted: Instant::ZERO,
            paused_until: Instant::ZERO,
            broken: None,
            flying: BTreeMap::new(),
            suspects: BTreeMap::new(),
            rewritten: 0,
            failures: Vec::new(),
            failures_total: 0,
            latencies: hdrhistogram::Histogram::new(DIGITS).expect("three digits are within the histogram's range"),
            longest: Duration::ZERO,
        }
    }

    /// What is drawn from now on. Waiting rewrites are always drawn, unless it is [`Feed::Off`].
    pub(crate) fn feed(&mut self, feed: Feed) {
        self.feed = feed;
    }

    /// The path breaks now: waits are counted from here.
    pub(crate) fn broken(&mut self, at: Instant) {
        self.broken = Some(at);
    }

    /// A path was lost at `at`: what was in flight then is suspect.
    pub(crate) fn lost(&mut self, at: Instant) {
        for flying in self.flying.values_mut().filter(|flying| flying.op.kind.changes_media()) {
            if flying.submitted <= at && !flying.suspect {
                flying.suspect = true;
                let suspect = Suspect { op: flying.op, submitted: flying.submitted, answered: None, overtaken: None };
                self.suspects.insert(flying.op.id, suspect);
            }
        }
    }

    /// Changes that have been in flight for at least `age`, and were overtaken meanwhile: it is not the machine that is
    /// slow.
    pub(crate) fn stuck(&self, age: Duration) -> usize {
        let now = now();
        let stuck = |flying: &&Flying| {
            let waits = now - flying.submitted;
            let overtaken = waits >= age && flying.overtaken >= OVERTAKEN_MIN;
            flying.op.kind.changes_media() && (overtaken || waits >= SURELY_HELD)
        };
        self.flying.values().filter(stuck).count()
    }

    /// Operations in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.flying.len()
    }

    /// Changes that were in flight when a path was lost.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = &Suspect> {
        self.suspects.values()
    }

    /// True if every one of them was answered.
    pub(crate) fn suspects_answered(&self) -> bool {
        self.suspects.values().all(|suspect| suspect.answered.is_some())
    }

    /// True if, besides, their blocks were rewritten and the rewrites answered.
    pub(crate) fn rewrites_answered(&self) -> bool {
        self.suspects_answered()
            && self.load.rewrites_waiting() == 0
            && self.flying.values().all(|flying| !flying.rewrite)
    }

    /// Rewrites that were answered.
    pub(crate) const fn rewritten(&self) -> u64 {
        self.rewritten
    }

    /// Operations that ended other than well; at most [`FAILURES_KEPT`].
    pub(crate) fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// All of them.
    pub(crate) const fn failures_total(&self) -> u64 {
        self.failures_total
    }

    /// What the application felt.
    pub(crate) fn felt(&self) -> Felt {
        let p99 = Duration::from_micros(self.latencies.value_at_quantile(0.99));
        Felt { longest: self.longest, p99: p99.min(self.longest) }
    }

    /// What the oracle found.
    pub(crate) fn violations(&self) -> &[Violation] {
        self.oracle.violations()
    }

    /// Submits what is to be submitted now.
    pub(crate) fn submit(&mut self) {
        if self.feed == Feed::Off {
            return;
        }
        let depth = if matches!(self.feed, Feed::Paced(_)) { HOLD_DEPTH } else { QUEUE_DEPTH };
        let mut free = depth.saturating_sub(self.flying.values().filter(|flying| !flying.suspect).count());
        while free > 0 {
            let now = now();
            if now < self.paused_until {
                return;
            }
            if let Feed::Paced(gap) = self.feed
                && now < self.last_submitted + gap
            {
                return;
            }
            let (op, rewrite) = match self.load.next_rewrite() {
                Some(op) => (op, true),
                None => match self.load.next_op() {
                    Some(op) => (op, false),
                    None => return,
                },
            };
            self.last_submitted = now;
            self.issue(op, rewrite);
            free -= 1;
        }
    }

    /// Waits for answers, at most until `until` and not longer than the load may rest.
    pub(crate) fn wait(&self, until: Instant) -> Vec<Completion> {
        let rest = match self.feed {
            Feed::Paced(gap) => gap,
            Feed::Mixed | Feed::Off => TURN,
        };
        let left = (until - now()).min(rest);
        let mut answers: Vec<Completion> =
            self.queue.wait_until(std::time::Instant::now() + left).into_iter().collect();
        while answers.len() < QUEUE_DEPTH
            && let Some(answer) = self.queue.poll()
        {
            answers.push(answer);
        }
        answers
    }

    /// The application gets an answer.
    pub(crate) fn answer(&mut self, answer: Completion) {
        let at = now();
        let id = OpId(answer.token);
        let Some(flying) = self.flying.remove(&id) else { return };
        self.load.finished(id);
        for (_, older) in self.flying.range_mut(..id) {
            older.overtaken += 1;
        }
        let outcome = outcome(answer.outcome, self.fencing);
        match (flying.op.kind, outcome, &answer.buf) {
            (OpKind::Read, Outcome::Ok, Some(buf)) => self.oracle.read_answered(id, &self.contents(buf), at),
            _ => self.oracle.answered(id, outcome, at),
        }
        if flying.op.kind.changes_media() && outcome == Outcome::Ok {
            for over in self.oracle.overtaken_by(id) {
                if let Some(suspect) = self.suspects.get_mut(&over) {
                    suspect.overtaken = Some((id, at));
                }
            }
        }
        self.measure(&flying, at);
        if outcome != Outcome::Ok {
            self.failed(&flying, at, answer.outcome);
        }
        if flying.rewrite && outcome == Outcome::Ok {
            self.rewritten += 1;
        }
        if flying.suspect {
            if let Some(suspect) = self.suspects.get_mut(&id) {
                suspect.answered = Some((at, outcome));
            }
            self.load.rewrite_of(&flying.op);
        } else if flying.rewrite && outcome != Outcome::Ok {
            self.load.rewrite_of(&flying.op);
        }
    }

    /// Reads everything back that was ever touched, within the time given.
    pub(crate) fn read_back(&mut self, within: Duration) -> ReadBack {
        let mut left: VecDeque<Op> = self.load.read_back().into();
        let deadline = now() + within;
        let mut missing = 0;
        while !left.is_empty() || !self.flying.is_empty() {
            while self.flying.len() < QUEUE_DEPTH
                && let Some(op) = left.pop_front()
            {
                self.issue(op, false);
            }
            if now() >= deadline {
                break;
            }
            for answer in self.wait(deadline) {
                let id = OpId(answer.token);
                if answer.outcome != HostOutcome::Ok {
                    missing += self.flying.get(&id).map_or(0, |flying| u64::from(flying.op.nlb));
                }
                self.answer(answer);
            }
        }
        let unread = left.iter().chain(self.flying.values().map(|flying| &flying.op));
        missing += unread.map(|op| u64::from(op.nlb)).sum::<u64>();
        if missing == 0 { ReadBack::Complete } else { ReadBack::Missing { blocks: missing } }
    }

    /// Writes zeroes wherever the load has been, within the time given: says how many blocks it could not clean. To be
    /// called last; nobody judges it.
    pub(crate) fn clean(&mut self, within: Duration) -> u64 {
        let deadline = std::time::Instant::now() + within;
        let mut left: VecDeque<Op> = self.load.read_back().into();
        let queue = Completions::new();
        let mut flying: BTreeMap<u64, u32> = BTreeMap::new();
        let mut dirty = 0;
        while !left.is_empty() || !flying.is_empty() {
            while flying.len() < QUEUE_DEPTH
                && let Some(op) = left.pop_front()
            {
                let mut buf = self.namespace.buffer(op.nlb);
                buf.get_mut().expect("nobody else holds a new buffer").fill(0);
                flying.insert(op.id.0, op.nlb);
                self.namespace.submit(HostOp::Write { fua: false }, op.lba, op.nlb, Some(buf), &queue, op.id.0);
            }
            let Some(answer) = queue.wait_until(deadline) else { break };
            let blocks = flying.remove(&answer.token).unwrap_or(0);
            if answer.outcome != HostOutcome::Ok {
                dirty += u64::from(blocks);
            }
        }
        let unwritten = left.iter().map(|op| op.nlb).chain(flying.into_values());
        dirty + unwritten.map(u64::from).sum::<u64>()
    }

    fn issue(&mut self, op: Op, rewrite: bool) {
        let (kind, buf) = match op.kind {
            OpKind::Read => (HostOp::Read, Some(self.namespace.buffer(op.nlb))),
            OpKind::Write => (HostOp::Write { fua: false }, Some(self.stamped(&op))),
            OpKind::WriteZeroes => (HostOp::WriteZeroes { deallocate: false }, None),
            OpKind::Discard => (HostOp::Discard, None),
            OpKind::Flush => (HostOp::Flush, None),
            OpKind::Compare => unreachable!("the weights of a drill's load have no compares"),
        };
        let submitted = now();
        self.oracle.submitted(op, submitted);
        self.flying.insert(op.id, Flying { op, submitted, suspect: false, rewrite, overtaken: 0 });
        self.namespace.submit(kind, op.lba, op.nlb, buf, &self.queue, op.id.0);
    }

    fn stamped(&self, op: &Op) -> Buf {
        let mut buf = self.namespace.buffer(op.nlb);
        let bytes = buf.get_mut().expect("nobody else holds a new buffer");
        let blocks = bytes.chunks_exact_mut(self.namespace.shape().block_size as usize);
        for (lba, block) in op.range().zip(blocks) {
            Stamp::of(self.run, op, lba).encode(block);
        }
        buf
    }

    fn contents(&self, buf: &Buf) -> Vec<Content> {
        buf.as_slice().chunks_exact(self.namespace.shape().block_size as usize).map(Content::decode).collect()
    }

    fn measure(&mut self, flying: &Flying, at: Instant) {
        // What stalled before the path broke was the target's doing.
        let waited = at - self.broken.map_or(flying.submitted, |broken| flying.submitted.max(broken));
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX).max(1);
        // It grows with what it is given; a value beyond all bounds would be no latency.
        let _ = self.latencies.record(micros);
        self.longest = self.longest.max(waited);
    }

    fn failed(&mut self, flying: &Flying, at: Instant, outcome: HostOutcome) {
        self.failures_total += 1;
        let settled = matches!(outcome, HostOutcome::NotSent(_) | HostOutcome::Failed(_));
        let why = match outcome {
            HostOutcome::Failed(status) => format!("failed: {status}"),
            HostOutcome::NotSent(why) => {
                self.paused_until = at + PAUSE;
                format!("not sent: {why}")
            }
            HostOutcome::Indeterminate { .. } => "outcome unknown, not settled".into(),
            HostOutcome::OutcomeUnknown => "outcome unknown, settled".into(),
            HostOutcome::Poison { .. } => outcome.to_string(),
            HostOutcome::CacheLost { life } => format!("answered writes may be lost with the cache of {life}"),
            HostOutcome::Ok => "done".into(),
        };
        if self.failures.len() < FAILURES_KEPT {
            let why = format!("{} {} {why}", flying.op.kind.name(), flying.op.id);
            self.failures.push(Failure { submitted: flying.submitted, at, settled, why });
        }
    }
}

/// The load looks at events at least so often.
pub(crate) const TURN: Duration = Duration::from_millis(5);

/// What the application takes the end of a request for.
const fn outcome(outcome: HostOutcome, fencing: Fencing) -> Outcome {
    match outcome {
        // Hosts that do not fence report an I/O error, and every application takes that for an end.
        HostOutcome::Indeterminate { .. } if matches!(fencing, Fencing::Legacy) => Outcome::Failed,
        HostOutcome::Ok => Outcome::Ok,
        HostOutcome::Failed(_) | HostOutcome::CacheLost { .. } => Outcome::Failed,
        HostOutcome::NotSent(_) => Outcome::NotSent,
        HostOutcome::Indeterminate { .. } => Outcome::Indeterminate,
        HostOutcome::OutcomeUnknown | HostOutcome::Poison { .. } => Outcome::UnknownSettled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_is_over_only_for_hosts_that_do_not_fence() {
        let open = HostOutcome::Indeterminate { until: None };
        assert_eq!(outcome(open, Fencing::Strict), Outcome::Indeterminate);
        assert_eq!(outcome(open, Fencing::Legacy), Outcome::Failed);
        assert_eq!(outcome(HostOutcome::OutcomeUnknown, Fencing::Legacy), Outcome::UnknownSettled);
    }
}
