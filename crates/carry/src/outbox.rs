//! What was polled from a machine and not yet taken by the kernel.

use interlock_base::Span;
use interlock_proto::{Segment, SendList};
use interlock_ring::BufTable;
use std::io::IoSlice;

/// Pieces given to the kernel in one call. A command is two or three; more per call no longer saves anything.
pub(crate) const SLICES: usize = 64;

#[derive(Clone, Copy)]
enum Piece {
    Header { start: usize, len: usize },
    Payload(Span),
    Digest([u8; 4]),
}

impl Piece {
    const fn len(&self) -> usize {
        match self {
            Self::Header { len, .. } => *len,
            Self::Payload(span) => span.len as usize,
            Self::Digest(_) => 4,
        }
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    list: SendList,
    pieces: Vec<Piece>,
    /// The first piece that was not given whole, and how much of it was.
    next: usize,
    offset: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.pieces.len()
    }

    /// Forgets what was not given.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.pieces.clear();
        self.next = 0;
        self.offset = 0;
    }

    /// Fills an empty outbox.
    pub(crate) fn fill(&mut self, memory: &BufTable, poll: impl FnOnce(&mut SendList)) {
        debug_assert!(self.is_empty(), "what was polled before is not given yet");
        self.clear();
        poll(&mut self.list);
        for segment in &self.list.segments {
            match *segment {
                Segment::Header { start, len } => {
                    self.pieces.push(Piece::Header { start: start as usize, len: len as usize });
                }
                Segment::Payload { span, digest } => {
                    self.pieces.push(Piece::Payload(span));
                    if digest {
                        self.pieces.push(Piece::Digest(crc32c::crc32c(memory.bytes(span)).to_le_bytes()));
                    }
                }
            }
        }
    }

    /// The next pieces, as slices; says how many.
    pub(crate) fn slices<'a>(&'a self, memory: &'a BufTable, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut count = 0;
        let mut offset = self.offset;
        for piece in self.pieces[self.next..].iter().take(SLICES) {
            let bytes: &[u8] = match piece {
                Piece::Header { start, len } => &self.list.headers[*start..*start + *len],
                Piece::Payload(span) => memory.bytes(*span),
                Piece::Digest(digest) => digest,
            };
            slices[count] = IoSlice::new(&bytes[offset..]);
            offset = 0;
            count += 1;
        }
        count
    }

    /// The kernel took so many bytes.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left = self.pieces[self.next].len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                return;
            }
            bytes -= left;
            self.offset = 0;
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_ring::Buf;

    #[test]
    fn every_split_gives_the_same_stream() {
        let mut memory = BufTable::default();
        let buf = memory.insert(Buf::copied(b"payload"));
        let whole: Vec<u8> =
            [b"head".as_slice(), b"payload", &crc32c::crc32c(b"payload").to_le_bytes(), b"tail"].concat();
        for step in 1..=whole.len() {
            let mut outbox = Outbox::default();
            outbox.fill(&memory, |list| {
                list.headers.extend_from_slice(b"headtail");
                list.segments.push(Segment::Header { start: 0, len: 4 });
                list.segments.push(Segment::Payload { span: Span { buf, offset: 0, len: 7 }, digest: true });
                list.segments.push(Segment::Header { start: 4, len: 4 });
            });
            let mut stream = Vec::new();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = outbox.slices(&memory, &mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let given = step.min(offered.len());
                stream.extend_from_slice(&offered[..given]);
                outbox.advance(given);
            }
            assert_eq!(stream, whole, "given {step} bytes at a time");
        }
    }
}
