//! Requests of a block device, carried out on a namespace.
//!
//! A client of a block device asks for byte ranges of any length and understands two answers: done, and error. A
//! namespace takes blocks, up to what one command may carry, and can also answer that a write *may still* take effect.
//! This stands between the two: it cuts requests into pieces, gathers their answers, and keeps what has no good answer
//! yet as the export's [`OnLoss`](crate::OnLoss) says. With `Hold`, an error never means "perhaps later": the piece is
//! submitted again, the host's guard makes it wait until the lost life is fenced, and only then is it answered. If the
//! host ends before that, it is left without an answer: whoever comes after this process asks for it again.
//!
//! Submitting an unanswered write again is allowed: until it was answered it may take effect more than once.
//!
//! A controller need not have commands for zeroes and for discarding. Clients are offered both and get both: zeroes are
//! written, unless the client wants them fast or not at all, and a discard, which is advice, is taken for given.

use crate::payload::{PART_BYTES, Payload};
use crate::{Counters, OnLoss};
use interlock_base::{Instant, Key, Slab};
use interlock_host::{Buf, LocalNamespace, Op, Outcome, Refused, Status};
use interlock_ring::{BufPool, Cx};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Duration;

/// Blocks one Write Zeroes or Dataset Management command names here at most: what Write Zeroes can.
const BLOCKS_MAX: u32 = 65_536;

/// Payload of one command at first, in bytes; it shrinks if the controllers carry less.
const PIECE_BYTES: u32 = PART_BYTES as u32;

/// Pieces of one request in flight at once.
const PIECES_MAX: u32 = 16;

/// After a refusal that may pass, a piece waits so long before it is submitted again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What is asked for. Offsets and lengths are bytes, multiples of the block size and inside the namespace.
#[derive(Debug)]
pub(crate) enum Work {
    Read {
        offset: u64,
        len: u32,
    },
    /// `data` may be shared.
    Write {
        offset: u64,
        data: Payload,
        fua: bool,
    },
    /// `fast`: fails with [`Fault::NotFast`] where zeroes would have to be written.
    WriteZeroes {
        offset: u64,
        len: u32,
        deallocate: bool,
        fast: bool,
        fua: bool,
    },
    Discard {
        offset: u64,
        len: u32,
        fua: bool,
    },
    Flush,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A controller answered with this.
    Failed(Status),
    /// It was not sent.
    Refused(Refused),
    /// It may still take effect.
    Indeterminate,
    /// It may have taken effect and cannot any more.
    Unknown,
    /// A flush: a controller was lost with answered writes in its cache.
    CacheLost,
    /// Zeroes that were to be fast: the controller has no command for them.
    NotFast,
    /// The target ended this number of instances while it was outstanding, and serves others.
    Poison(u32),
    /// The export is shut: its namespace is gone, or another one is there.
    Shut,
}

/// One finished request.
#[derive(Debug)]
pub(crate) struct Finished {
    /// As given to [`Disk::submit`].
    pub(crate) token: u64,
    /// What was read, in order; empty for everything else.
    pub(crate) result: Result<Vec<Buf>, Fault>,
}

/// What a write writes.
enum Data {
    Nothing,
    Payload(Payload),
    /// In place of a command that the controller does not have.
    Zeroes,
}

struct Job {
    token: u64,
    op: Op,
    data: Data,
    /// Zeroes must not be written one by one.
    fast: bool,
    slba: u64,
    blocks: u64,
    /// Blocks that became pieces.
    cut: u64,
    /// First block and number of blocks of pieces that are to be cut anew.
    anew: Vec<(u64, u64)>,
    pieces: u32,
    /// What was read so far.
    parts: Vec<(u64, Buf)>,
    fault: Option<Fault>,
    flush_after: bool,
}

impl Job {
    /// The next blocks that can be a piece: from where, and how many; `None`: all are.
    fn rest(&self) -> Option<(u64, u64)> {
        match self.anew.last() {
            _ if self.fault.is_some() => None,
            Some(range) => Some(*range),
            None if self.op == Op::Flush => (self.cut == 0).then_some((0, 0)),
            None => (self.cut < self.blocks).then(|| (self.slba + self.cut, self.blocks - self.cut)),
        }
    }

    /// The controller has no command for its zeroes.
    fn become_writes(&mut self) {
        if self.fast {
            self.fault = self.fault.or(Some(Fault::NotFast));
        }
        (self.op, self.data) = (Op::Write { fua: false }, Data::Zeroes);
    }

    /// Of what [`Job::rest`] gives, so many blocks are a piece now.
    fn take(&mut self, nlb: u64) {
        match self.anew.last_mut() {
            Some((slba, left)) if *left > nlb => (*slba, *left) = (*slba + nlb, *left - nlb),
            Some(_) => drop(self.anew.pop()),
            None => self.cut += nlb.max(1),
        }
        self.pieces += 1;
    }
}

struct Piece {
    job: Key,
    slba: u64,
    nlb: u32,
    /// As it was sent last.
    op: Op,
    /// Since when it is held.
    held: Option<Instant>,
}

/// True if the controller says with this status that it has no such command, and there is another way.
fn lacks(op: Op, status: Status) -> bool {
    match op {
        // More than Write Zeroes takes at once (WZSL) is an invalid field.
        Op::WriteZeroes { .. } => status.is(Status::INVALID_OPCODE) || status.is(Status::INVALID_FIELD),
        Op::Discard => status.is(Status::INVALID_OPCODE),
        _ => false,
    }
}

/// Zeroes for one piece, the same for all.
fn zeroes(block: u32) -> &'static Buf {
    static ZEROES: OnceLock<Buf> = OnceLock::new();
    debug_assert!(block <= PIECE_BYTES, "a piece has at least one block");
    ZEROES.get_or_init(|| Buf::zeroed(PIECE_BYTES as usize))
}

/// A namespace as a block device, for one connection or queue on a reactor. Dropping it abandons what is in flight.
pub(crate) struct Disk {
    door: LocalNamespace,
    buffers: BufPool,
    block: u32,
    /// Blocks of payload in one command.
    piece: u32,
    on_loss: OnLoss,
    /// A controller has answered that it has no command for zeroes.
    writes_zeroes: bool,
    jobs: Slab<Job>,
    pieces: Slab<Piece>,
    again: VecDeque<(Instant, Key)>,
    /// The host has ended for good, and a piece was left without an answer.
    left: bool,
    finished: VecDeque<Finished>,
}

impl Disk {
    pub(crate) fn new(door: LocalNamespace, buffers: BufPool, on_loss: OnLoss) -> Self {
        let block = door.shape().block_size;
        Self {
            door,
            buffers,
            block,
            piece: (PIECE_BYTES / block).max(1),
            on_loss,
            writes_zeroes: false,
            jobs: Slab::new(),
            pieces: Slab::new(),
            again: VecDeque::new(),
            left: false,
            finished: VecDeque::new(),
        }
    }

    /// Requests that are not finished.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// True if the host has ended with requests in flight that will never be finished here, and nothing of them is under
    /// way any more: they are for whoever comes after this process.
    pub(crate) fn is_left(&self) -> bool {
        self.left && self.pieces.is_empty() && self.finished.is_empty()
    }

    /// Starts a request; it ends with exactly one [`Finished`], unless the host ends first and the export holds.
    pub(crate) fn submit(&mut self, cx: &Cx<'_>, work: Work, token: u64) {
        let (op, offset, len, fast, flush_after) = match &work {
            Work::Read { offset, len } => (Op::Read, *offset, u64::from(*len), false, false),
            Work::Write { offset, data, fua } => (Op::Write { fua: *fua }, *offset, data.len() as u64, false, false),
            Work::WriteZeroes { offset, len, deallocate, fast, fua } => {
                (Op::WriteZeroes { deallocate: *deallocate }, *offset, u64::from(*len), *fast, *fua)
            }
            Work::Discard { offset, len, fua } => (Op::Discard, *offset, u64::from(*len), false, *fua),
            Work::Flush => (Op::Flush, 0, 0, false, false),
        };
        let block = u64::from(self.block);
        let job = Job {
            token,
            op,
            data: if let Work::Write { data, .. } = work { Data::Payload(data) } else { Data::Nothing },
            fast,
            slba: offset / block,
            blocks: len / block,
            cut: 0,
            anew: Vec::new(),
            pieces: 0,
            parts: Vec::new(),
            fault: None,
            flush_after,
        };
        let key = self.jobs.insert(job);
        self.go_on(cx, key);
    }

    /// The next finished request.
    pub(crate) fn poll(&mut self, cx: &Cx<'_>) -> Option<Finished> {
        while self.finished.is_empty() {
            let completion = self.door.poll()?;
            self.answered(cx, Key::from_u64(completion.token), completion.outcome, completion.buf);
        }
        self.finished.pop_front()
    }

    /// When [`Disk::handle_timeout`] wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.again.front().map(|(at, _)| *at)
    }

    /// Submits again what was held.
    pub(crate) fn handle_timeout(&mut self, cx: &Cx<'_>) {
        let now = cx.now();
        while let Some((_, key)) = self.again.pop_front_if(|(at, _)| *at <= now) {
            self.send(cx, key);
        }
    }

    /// Adds to `counters` what is held at this moment, and since when.
    pub(crate) fn count_held(&self, counters: &mut Counters) {
        for since in self.pieces.iter().filter_map(|(_, piece)| piece.held) {
            counters.held += 1;
            counters.held_since = Some(counters.held_since.map_or(since, |other| other.min(since)));
        }
    }

    /// Cuts pieces of a job while it may have more, and ends it when it has none.
    fn go_on(&mut self, cx: &Cx<'_>, key: Key) {
        loop {
            let Some(job) = self.jobs.get_mut(key) else { return };
            if self.writes_zeroes && matches!(job.op, Op::WriteZeroes { .. }) {
                job.become_writes();
            }
            if let Some((slba, left)) = job.rest().filter(|_| job.pieces < PIECES_MAX) {
                let most = if matches!(job.op, Op::Read | Op::Write { .. }) { self.piece } else { BLOCKS_MAX };
                let mut nlb = left.min(u64::from(most)) as u32; // at most `most`
                if let Data::Payload(data) = &job.data {
                    let part = data.slice(((slba - job.slba) * u64::from(self.block)) as usize, usize::MAX >> 1);
                    nlb = nlb.min((part.len() / self.block as usize) as u32); // a part is smaller than 4 GiB
                }
                job.take(u64::from(nlb));
                let piece = self.pieces.insert(Piece { job: key, slba, nlb, op: job.op, held: None });
                self.send(cx, piece);
            } else if job.pieces > 0 {
                return;
            } else if job.flush_after && job.fault.is_none() {
                // No command but Write has Force Unit Access everywhere: what was changed is made durable by a flush.
                (job.op, job.data, job.cut, job.flush_after) = (Op::Flush, Data::Nothing, 0, false);
            } else {
                return self.end(key);
            }
        }
    }

    fn end(&mut self, key: Key) {
        let Some(mut job) = self.jobs.remove(key) else { return };
        job.parts.sort_unstable_by_key(|(slba, _)| *slba);
        let result = match job.fault {
            Some(fault) => Err(fault),
            None => Ok(job.parts.into_iter().map(|(_, buf)| buf).collect()),
        };
        self.finished.push_back(Finished { token: job.token, result });
    }

    fn send(&mut self, cx: &Cx<'_>, key: Key) {
        let Some(piece) = self.pieces.get_mut(key) else { return };
        let Some(job) = self.jobs.get(piece.job) else { return };
        piece.op = job.op;
        let bytes = piece.nlb as usize * self.block as usize;
        let buf = match (job.op, &job.data) {
            (Op::Read, _) => Some(self.buffers.take(bytes)),
            (Op::Write { .. }, Data::Payload(data)) => {
                Some(data.slice((piece.slba - job.slba) as usize * self.block as usize, bytes)) // inside the payload
            }
            // Cut for one command without a payload: too long for one with it.
            (Op::Write { .. }, Data::Zeroes) if piece.nlb > self.piece => return self.write_zeroes(cx, key),
            (Op::Write { .. }, Data::Zeroes) => Some(zeroes(self.block).slice(0..bytes)),
            _ => None,
        };
        let (slba, nlb) = if job.op == Op::Flush { (0, 0) } else { (piece.slba, piece.nlb) };
        self.door.submit(cx, job.op, slba, nlb, buf, key.to_u64());
    }

    /// The zeroes of this piece are written, in smaller ones.
    fn write_zeroes(&mut self, cx: &Cx<'_>, key: Key) {
        self.writes_zeroes = true;
        let Some(Piece { job: of, slba, nlb, .. }) = self.pieces.remove(key) else { return };
        let Some(job) = self.jobs.get_mut(of) else { return };
        job.pieces -= 1;
        job.anew.push((slba, nlb.into()));
        self.go_on(cx, of);
    }

    fn answered(&mut self, cx: &Cx<'_>, key: Key, outcome: Outcome, buf: Option<Buf>) {
        let Some(piece) = self.pieces.get(key) else {
            debug_assert!(false, "completes_exactly_once: a piece was answered twice");
            return;
        };
        let hold = self.on_loss == OnLoss::Hold;
        let fault = match outcome {
            Outcome::Ok => None,
            Outcome::NotSent(Refused::TooLarge) if piece.nlb > 1 => return self.halve(cx, key),
            // Only Dataset Management answers with this: its ranges have limits of their own.
            Outcome::Failed(status) if status.is(Status::COMMAND_SIZE_LIMIT) && piece.nlb > 1 => {
                return self.halve(cx, key);
            }
            Outcome::Failed(status) if lacks(piece.op, status) => match piece.op {
                Op::Discard => None,
                _ => return self.write_zeroes(cx, key),
            },
            Outcome::NotSent(Refused::Busy) => return self.hold(cx, key),
            Outcome::NotSent(Refused::NoPath | Refused::NoSuchNamespace) if hold => return self.hold(cx, key),
            Outcome::Indeterminate { .. } | Outcome::OutcomeUnknown if hold => return self.hold(cx, key),
            Outcome::NotSent(Refused::ShuttingDown) if hold => return self.leave(key),
            Outcome::Failed(status) => Some(Fault::Failed(status)),
            Outcome::NotSent(refused) => Some(Fault::Refused(refused)),
            Outcome::Indeterminate { .. } => Some(Fault::Indeterminate),
            Outcome::OutcomeUnknown => Some(Fault::Unknown),
            Outcome::CacheLost { .. } => Some(Fault::CacheLost),
            // Held, it would be sent again and end the next ones.
            Outcome::Poison { instances } => Some(Fault::Poison(instances)),
        };
        let Some(piece) = self.pieces.remove(key) else { return };
        let Some(job) = self.jobs.get_mut(piece.job) else { return };
        job.pieces -= 1;
        // The first fault is the one that is told.
        job.fault = job.fault.or(fault);
        if let (Op::Read, None, Some(buf)) = (job.op, fault, buf) {
            job.parts.push((piece.slba, buf));
        }
        self.go_on(cx, piece.job);
    }

    fn hold(&mut self, cx: &Cx<'_>, key: Key) {
        let now = cx.now();
        if let Some(piece) = self.pieces.get_mut(key) {
            piece.held.get_or_insert(now);
            self.again.push_back((now + AGAIN_AFTER, key));
        }
    }

    /// The host has ended: this piece has no answer here, and its job no end.
    fn leave(&mut self, key: Key) {
        self.left = true;
        self.pieces.remove(key);
    }

    /// A controller carries less than was thought: half of it, and from now on so for every payload.
    fn halve(&mut self, cx: &Cx<'_>, key: Key) {
        let Some(piece) = self.pieces.get_mut(key) else { return };
        let first = piece.nlb / 2;
        let rest = piece.nlb - first;
        piece.nlb = first;
        let (job, slba) = (piece.job, piece.slba + u64::from(first));
        if self.jobs.get(job).is_some_and(|job| matches!(job.op, Op::Read | Op::Write { .. })) {
            self.piece = self.piece.min(rest);
        }
        let other = Piece { job, slba, nlb: rest, op: piece.op, held: None };
        let other = self.pieces.insert(other);
        if let Some(job) = self.jobs.get_mut(job) {
            job.pieces += 1;
        }
        self.send(cx, key);
        self.send(cx, other);
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
