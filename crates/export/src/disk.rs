//! Requests of a block device, carried out on a namespace.
//!
//! A client of a block device asks for byte ranges of any length and understands two answers: done, and error. A
//! namespace takes blocks, up to what one command may carry, and can also answer that a write *may still* take effect.
//! This stands between the two: it cuts requests into pieces, gathers their answers, and keeps what has no good answer
//! yet as the export's [`OnLoss`](crate::OnLoss) says. With `Hold`, an error never means "perhaps later": the piece is
//! submitted again, the host's guard makes it wait until the lost life is fenced, and only then is it answered.
//!
//! Submitting an unanswered write again is allowed: until it was answered it may take effect more than once.

use crate::{Counters, OnLoss};
use interlock_base::{Instant, Key, Slab};
use interlock_host::{Buf, LocalNamespace, Op, Outcome, Refused, Status};
use interlock_ring::{BufPool, Cx};
use std::collections::VecDeque;
use std::time::Duration;

/// Blocks one Write Zeroes or Dataset Management command names here at most: what Write Zeroes can.
const BLOCKS_MAX: u32 = 65_536;

/// Payload of one command at first, in bytes; it shrinks if the controllers carry less.
const PIECE_BYTES: u32 = 1 << 20;

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
        data: Buf,
        fua: bool,
    },
    WriteZeroes {
        offset: u64,
        len: u32,
        deallocate: bool,
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

struct Job {
    token: u64,
    op: Op,
    /// The payload of a write.
    data: Option<Buf>,
    slba: u64,
    blocks: u64,
    /// Blocks that became pieces.
    cut: u64,
    pieces: u32,
    /// What was read so far.
    parts: Vec<(u64, Buf)>,
    fault: Option<Fault>,
    flush_after: bool,
}

struct Piece {
    job: Key,
    slba: u64,
    nlb: u32,
    /// Since when it is held.
    held: Option<Instant>,
}

/// A namespace as a block device, for one connection or queue on a reactor. Dropping it abandons what is in flight.
pub(crate) struct Disk {
    door: LocalNamespace,
    buffers: BufPool,
    block: u32,
    /// Blocks of payload in one command.
    piece: u32,
    on_loss: OnLoss,
    jobs: Slab<Job>,
    pieces: Slab<Piece>,
    again: VecDeque<(Instant, Key)>,
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
            jobs: Slab::new(),
            pieces: Slab::new(),
            again: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// Requests that are not finished.
    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Starts a request; it ends with exactly one [`Finished`].
    pub(crate) fn submit(&mut self, cx: &Cx<'_>, work: Work, token: u64) {
        let (op, offset, len, data, flush_after) = match work {
            Work::Read { offset, len } => (Op::Read, offset, u64::from(len), None, false),
            Work::Write { offset, data, fua } => (Op::Write { fua }, offset, data.len() as u64, Some(data), false),
            Work::WriteZeroes { offset, len, deallocate, fua } => {
                (Op::WriteZeroes { deallocate }, offset, u64::from(len), None, fua)
            }
            Work::Discard { offset, len, fua } => (Op::Discard, offset, u64::from(len), None, fua),
            Work::Flush => (Op::Flush, 0, 0, None, false),
        };
        let block = u64::from(self.block);
        let job = Job {
            token,
            op,
            data,
            slba: offset / block,
            blocks: len / block,
            cut: 0,
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
            let more = job.fault.is_none() && if job.op == Op::Flush { job.cut == 0 } else { job.cut < job.blocks };
            if more && job.pieces < PIECES_MAX {
                let most = if matches!(job.op, Op::Read | Op::Write { .. }) { self.piece } else { BLOCKS_MAX };
                let nlb = (job.blocks - job.cut).min(u64::from(most)) as u32; // at most `most`
                let slba = job.slba + job.cut;
                job.cut += u64::from(nlb).max(1);
                job.pieces += 1;
                let piece = self.pieces.insert(Piece { job: key, slba, nlb, held: None });
                self.send(cx, piece);
            } else if job.pieces > 0 {
                return;
            } else if job.flush_after && job.fault.is_none() {
                // No command but Write has Force Unit Access everywhere: what was changed is made durable by a flush.
                (job.op, job.cut, job.flush_after) = (Op::Flush, 0, false);
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
        let Some(piece) = self.pieces.get(key) else { return };
        let Some(job) = self.jobs.get(piece.job) else { return };
        let bytes = piece.nlb as usize * self.block as usize;
        let buf = match job.op {
            Op::Read => Some(self.buffers.take(bytes)),
            _ => job.data.as_ref().map(|data| {
                let from = (piece.slba - job.slba) as usize * self.block as usize; // inside the payload
                data.slice(from..from + bytes)
            }),
        };
        let (slba, nlb) = if job.op == Op::Flush { (0, 0) } else { (piece.slba, piece.nlb) };
        self.door.submit(cx, job.op, slba, nlb, buf.filter(|_| job.op != Op::Flush), key.to_u64());
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
            Outcome::NotSent(Refused::Busy) => return self.hold(cx, key),
            Outcome::NotSent(Refused::NoPath | Refused::NoSuchNamespace) if hold => return self.hold(cx, key),
            Outcome::Indeterminate { .. } | Outcome::OutcomeUnknown if hold => return self.hold(cx, key),
            Outcome::Failed(status) => Some(Fault::Failed(status)),
            Outcome::NotSent(refused) => Some(Fault::Refused(refused)),
            Outcome::Indeterminate { .. } => Some(Fault::Indeterminate),
            Outcome::OutcomeUnknown => Some(Fault::Unknown),
            Outcome::CacheLost { .. } => Some(Fault::CacheLost),
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
        let other = self.pieces.insert(Piece { job, slba, nlb: rest, held: None });
        if let Some(job) = self.jobs.get_mut(job) {
            job.pieces += 1;
        }
        self.send(cx, key);
        self.send(cx, other);
    }
}
