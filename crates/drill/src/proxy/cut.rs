//! What one connection carries to the target, and the place at which it is cut.
//!
//! A network that delays bytes delays everything behind them on the same connection. So a connection is cut at one
//! place: in the middle of the data of an R2T transfer if one comes along in time - the target knows that command and
//! waits for the rest -, else before a whole command capsule that changes media. What lies behind the cut is kept, in
//! order, until it is delivered or nobody wants it any more; writes that are complete there are *held*.

use crate::proxy::frame::{Framer, Head, Step};
use interlock_check::OpKind;
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{CapsuleCmd, CapsuleResp, Direction, H2cData, PduType};
use interlock_wire::sqe::{Sgl, Sqe};
use interlock_wire::{fabrics, nvm};
use std::collections::BTreeMap;

/// So many whole writes are let through while the data of an R2T transfer is waited for.
pub(crate) const PATIENCE: u32 = 24;

/// How much of a write is on this side of the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    /// All of it: the target has never heard of it.
    Capsule,
    /// Its data, or the second half of it: the target knows the command.
    Data,
}

/// A command that changes media and is complete behind the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldWrite {
    /// Command identifier.
    pub(crate) cid: u16,
    /// What it does.
    pub(crate) kind: OpKind,
    /// First block and number of blocks; `None` if the command does not name them (discards name them in their data).
    pub(crate) blocks: Option<(u64, u32)>,
    /// How much of it is held.
    pub(crate) extent: Extent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything goes through.
    Through,
    /// A place to cut is looked for; so many whole writes more are let through.
    Seeking(u32),
    /// So many bytes are let through yet.
    Until(u64),
    /// Nothing goes through.
    Cut,
}

/// A write whose data the target asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transfer {
    write: HeldWrite,
    left: u32,
}

/// What the PDU that is coming in will have completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Completes {
    Nothing,
    Write(HeldWrite),
    Data { cid: u16, bytes: u32 },
}

/// The way to the target of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cutter {
    framer: Framer,
    mode: Mode,
    /// Of a queue, once its Connect was seen.
    qid: Option<u16>,
    /// A header that is not complete yet: where it goes is not known.
    undecided: Vec<u8>,
    kept: Vec<u8>,
    completes: Completes,
    transfers: BTreeMap<u16, Transfer>,
    held: Vec<HeldWrite>,
}

impl Cutter {
    /// Everything goes through.
    pub(crate) const fn new() -> Self {
        Self {
            framer: Framer::new(Direction::ToController),
            mode: Mode::Through,
            qid: None,
            undecided: Vec::new(),
            kept: Vec::new(),
            completes: Completes::Nothing,
            transfers: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    /// A place to cut is looked for from now on, if this is an I/O queue.
    pub(crate) fn hold(&mut self) {
        if self.mode == Mode::Through && self.is_io() {
            self.mode = Mode::Seeking(PATIENCE);
        }
    }

    /// Nothing goes through any more.
    pub(crate) fn cut(&mut self) {
        self.mode = Mode::Cut;
    }

    /// True if nothing goes through.
    pub(crate) fn is_cut(&self) -> bool {
        self.mode == Mode::Cut
    }

    /// Bytes that are kept.
    pub(crate) const fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Writes that are complete behind the cut, in order.
    pub(crate) fn held(&self) -> &[HeldWrite] {
        &self.held
    }

    /// The cut heals: gives what was kept, with the writes that are complete in it, and lets everything through from
    /// now on.
    pub(crate) fn release(&mut self) -> (Vec<u8>, Vec<HeldWrite>) {
        self.mode = Mode::Through;
        (std::mem::take(&mut self.kept), std::mem::take(&mut self.held))
    }

    /// The target answered a command.
    pub(crate) fn answered(&mut self, cid: u16) {
        self.transfers.remove(&cid);
    }

    /// Bytes of the host. What goes through is added to `out`.
    pub(crate) fn handle_bytes(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            let in_head = self.framer.in_head();
            let (taken, step) = self.framer.next(bytes);
            let (piece, rest) = bytes.split_at(taken);
            bytes = rest;
            if in_head {
                self.undecided.extend_from_slice(piece);
            } else {
                self.route(piece, out);
            }
            match step {
                Step::Head(head) => {
                    self.decide(&head);
                    self.route_undecided(out);
                }
                Step::End => self.end(),
                Step::Part if self.framer.is_lost() => {
                    self.route_undecided(out);
                    if bytes.is_empty() {
                        return;
                    }
                }
                Step::Part if bytes.is_empty() => return,
                Step::Part => {}
            }
        }
    }

    fn is_io(&self) -> bool {
        self.qid.is_some_and(|qid| qid > 0)
    }

    fn route_undecided(&mut self, out: &mut Vec<u8>) {
        let head = std::mem::take(&mut self.undecided);
        self.route(&head, out);
    }

    fn route(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match &mut self.mode {
            Mode::Through | Mode::Seeking(_) => out.extend_from_slice(piece),
            Mode::Until(left) => {
                let through = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.len());
                *left -= through as u64;
                out.extend_from_slice(&piece[..through]);
                self.kept.extend_from_slice(&piece[through..]);
                if *left == 0 {
                    self.mode = Mode::Cut;
                }
            }
            Mode::Cut => self.kept.extend_from_slice(piece),
        }
    }

    /// A header is complete: what does its PDU do, and is it the place to cut?
    fn decide(&mut self, head: &Head) {
        self.completes = Completes::Nothing;
        match head.layout.pdu {
            PduType::CapsuleCmd => {
                let Some(capsule) = head.read::<CapsuleCmd>() else { return };
                self.decide_command(&capsule.sqe);
            }
            PduType::H2cData => {
                let Some(data) = head.read::<H2cData>() else { return };
                let cid = data.cccid.get();
                if !self.transfers.contains_key(&cid) {
                    return;
                }
                self.completes = Completes::Data { cid, bytes: head.layout.data };
                if matches!(self.mode, Mode::Seeking(_)) {
                    let before = head.layout.head_total + head.layout.pad;
                    self.mode = Mode::Until(before as u64 + u64::from(head.layout.data / 2));
                }
            }
            _ => {}
        }
    }

    fn decide_command(&mut self, sqe: &Sqe) {
        if sqe.is_fabrics() && sqe.fctype() == fabrics::FCTYPE_CONNECT {
            self.qid = fabrics::Connect::from_sqe(sqe).ok().map(|connect| connect.qid);
            return;
        }
        let Some(write) = self.write(sqe) else { return };
        match sqe.sgl() {
            Sgl::Transport { len } if len > 0 => {
                // Behind the cut it is a command whose data nobody will send.
                if self.mode != Mode::Cut {
                    let write = HeldWrite { extent: Extent::Data, ..write };
                    self.transfers.insert(write.cid, Transfer { write, left: len });
                }
                return;
            }
            _ => self.completes = Completes::Write(write),
        }
        match &mut self.mode {
            Mode::Seeking(0) => self.mode = Mode::Cut,
            Mode::Seeking(left) => *left -= 1,
            Mode::Through | Mode::Until(_) | Mode::Cut => {}
        }
    }

    fn write(&self, sqe: &Sqe) -> Option<HeldWrite> {
        let command = nvm::Command::from_sqe(sqe).ok().filter(|command| self.is_io() && command.is_media_changing())?;
        let kind = match command {
            Command::WriteZeroes { .. } => OpKind::WriteZeroes,
            Command::Dsm { .. } => OpKind::Discard,
            _ => OpKind::Write,
        };
        Some(HeldWrite { cid: sqe.cid.get(), kind, blocks: command.blocks(), extent: Extent::Capsule })
    }

    /// A PDU is complete.
    fn end(&mut self) {
        let cut = self.mode == Mode::Cut;
        match std::mem::replace(&mut self.completes, Completes::Nothing) {
            Completes::Nothing => {}
            Completes::Write(write) => {
                if cut {
                    self.held.push(write);
                }
            }
            Completes::Data { cid, bytes } => {
                let Some(transfer) = self.transfers.get_mut(&cid) else { return };
                transfer.left = transfer.left.saturating_sub(bytes);
                if transfer.left == 0 {
                    let write = transfer.write;
                    self.transfers.remove(&cid);
                    if cut {
                        self.held.push(write);
                    }
                }
            }
        }
    }
}

/// The way back: what the target answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answers(Framer);

impl Answers {
    /// At the beginning of a connection.
    pub(crate) const fn new() -> Self {
        Self(Framer::new(Direction::ToHost))
    }

    /// Bytes of the target: every command that they answer, and whether it succeeded.
    pub(crate) fn handle_bytes(&mut self, mut bytes: &[u8]) -> Vec<(u16, bool)> {
        let mut answers = Vec::new();
        loop {
            let (taken, step) = self.0.next(bytes);
            bytes = &bytes[taken..];
            match step {
                Step::Head(head) if head.layout.pdu == PduType::CapsuleResp => {
                    if let Some(capsule) = head.read::<CapsuleResp>() {
                        answers.push((capsule.cqe.cid.get(), capsule.cqe.status().is_success()));
                    }
                }
                Step::Part if bytes.is_empty() => return answers,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::samples::{FRAMINGS, Sample};
    use interlock_wire::pdu::{Framing, encode_header};
    use interlock_wire::sqe::Cqe;
    use interlock_wire::status::Status;

    /// What went through and the cutter afterwards; `hold` is said after so many bytes.
    fn carry(stream: &[u8], pieces: usize, hold: usize) -> (Vec<u8>, Cutter) {
        let (mut cutter, mut out) = (Cutter::new(), Vec::new());
        let (before, after) = stream.split_at(hold);
        before.chunks(pieces).for_each(|piece| cutter.handle_bytes(piece, &mut out));
        cutter.hold();
        after.chunks(pieces).for_each(|piece| cutter.handle_bytes(piece, &mut out));
        (out, cutter)
    }

    /// Number, first block and extent.
    fn named(held: &[HeldWrite]) -> Vec<(u16, u64, Extent)> {
        held.iter().map(|write| (write.cid, write.blocks.expect("a write names them").0, write.extent)).collect()
    }

    #[test]
    fn the_data_of_a_transfer_is_cut_in_half_and_what_follows_is_held_whole() {
        for framing in FRAMINGS {
            let mut sample = Sample::connected(1, &framing);
            let connected = sample.stream.len();
            sample.write(1, 0, &framing);
            sample.transfer(2, 8, &framing);
            let known = sample.stream.len();
            sample.data(2, 0, 4096, &framing);
            sample.read(3, &framing);
            sample.write(4, 16, &framing);
            sample.transfer(5, 24, &framing);
            let stream = &sample.stream;
            for pieces in [1, 7, 100, 4096, stream.len()] {
                let (out, mut cutter) = carry(stream, pieces, connected);
                assert!(cutter.is_cut());
                assert!(out.len() > known + 2048 && out.len() < known + 2048 + 200, "half of the data went through");
                assert_eq!(
                    named(cutter.held()),
                    [(2, 8, Extent::Data), (4, 16, Extent::Capsule)],
                    "{framing:?} in pieces of {pieces}"
                );
                assert_eq!([out, cutter.release().0].concat(), *stream, "nothing is lost, nothing changes its place");
            }
        }
    }

    #[test]
    fn without_a_transfer_whole_capsules_are_held_in_the_end() {
        let mut sample = Sample::connected(1, &Framing::PLAIN);
        let connected = sample.stream.len();
        let writes = PATIENCE as u16 + 3;
        (0..writes).for_each(|cid| sample.write(cid, u64::from(cid) * 8, &Framing::PLAIN));
        let (out, cutter) = carry(&sample.stream, 33, connected);
        assert_eq!(out.len(), sample.ends[1 + PATIENCE as usize], "cut between two PDUs");
        assert_eq!(cutter.held().len(), 3);
        assert!(cutter.held().iter().all(|write| write.extent == Extent::Capsule));
    }

    #[test]
    fn what_is_not_complete_is_not_held() {
        let mut sample = Sample::connected(1, &Framing::PLAIN);
        sample.transfer(2, 8, &Framing::PLAIN);
        sample.data(2, 0, 2048, &Framing::PLAIN);
        sample.write(4, 16, &Framing::PLAIN);
        let stream = &sample.stream[..sample.stream.len() - 1];
        let (mut cutter, mut out) = (Cutter::new(), Vec::new());
        cutter.handle_bytes(&stream[..sample.ends[2]], &mut out);
        cutter.cut();
        cutter.handle_bytes(&stream[sample.ends[2]..], &mut out);
        assert_eq!(cutter.held(), [], "half of the data is missing, and the last byte of the capsule");
        cutter.handle_bytes(&sample.stream[stream.len()..], &mut out);
        assert_eq!(named(cutter.held()), [(4, 16, Extent::Capsule)]);
    }

    #[test]
    fn an_admin_queue_is_never_a_place_to_hold_writes() {
        let mut sample = Sample::connected(0, &Framing::PLAIN);
        let connected = sample.stream.len();
        // What would be a write there is another command here.
        (0..100).for_each(|cid| sample.write(cid, 0, &Framing::PLAIN));
        let (out, cutter) = carry(&sample.stream, 50, connected);
        assert_eq!((out, cutter.held()), (sample.stream, [].as_slice()));
    }

    #[test]
    fn a_stream_that_cannot_be_followed_goes_through_as_it_is() {
        let noise: Vec<u8> = (0..1000_u32).map(|byte| (byte * 7 + 200) as u8).collect();
        for pieces in [1, 3, 1000] {
            assert_eq!(carry(&noise, pieces, 10).0, noise);
        }
    }

    #[test]
    fn answers_are_found_in_any_pieces() {
        for framing in FRAMINGS {
            let mut stream = Vec::new();
            for (cid, status) in [(3, Status::SUCCESS), (4, Status::INVALID_FIELD)] {
                encode_header(&CapsuleResp::new(Cqe::new(cid, 0, status), &framing), &mut stream);
            }
            for pieces in 1..stream.len() {
                let mut answers = Answers::new();
                let found: Vec<_> = stream.chunks(pieces).flat_map(|piece| answers.handle_bytes(piece)).collect();
                assert_eq!(found, [(3, true), (4, false)]);
            }
        }
    }
}
