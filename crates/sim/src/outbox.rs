//! What was polled from a machine and not yet taken by the kernel: pieces that name payload until the moment of sending.

use crc32c::crc32c;
use interlock_base::{BufId, Span};
use interlock_proto::{Segment, SendList};
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Debug, Hash)]
enum Piece {
    Bytes(Vec<u8>),
    Payload(Span),
}

/// Buffers of one driver.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Memory {
    buffers: BTreeMap<BufId, Vec<u8>>,
    last: u32,
}

impl Memory {
    pub(crate) fn insert(&mut self, bytes: Vec<u8>) -> BufId {
        self.last += 1;
        self.buffers.insert(BufId(self.last), bytes);
        BufId(self.last)
    }

    pub(crate) fn remove(&mut self, buf: BufId) -> Option<Vec<u8>> {
        self.buffers.remove(&buf)
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let buffer = self.buffers.get(&span.buf);
        let buffer = buffer.unwrap_or_else(|| panic!("buffer_outlives_its_last_use: {span:?} was given back"));
        &buffer[span.offset as usize..][..span.len as usize]
    }

    pub(crate) fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        let buffer = self.buffers.get_mut(&span.buf);
        let buffer = buffer.unwrap_or_else(|| panic!("buffer_has_one_writer: {span:?} was given back"));
        &mut buffer[span.offset as usize..][..span.len as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.buffers.len()
    }
}

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// How much of the first piece was given.
    offset: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.pieces.clear();
        self.offset = 0;
    }

    pub(crate) fn fill(&mut self, memory: &Memory, list: &SendList) {
        for segment in &list.segments {
            match *segment {
                Segment::Header { start, len } => {
                    let bytes = list.headers[start as usize..][..len as usize].to_vec();
                    self.pieces.push_back(Piece::Bytes(bytes));
                }
                Segment::Payload { span, digest } => {
                    self.pieces.push_back(Piece::Payload(span));
                    if digest {
                        let sum = crc32c(memory.bytes(span)).to_le_bytes();
                        self.pieces.push_back(Piece::Bytes(sum.to_vec()));
                    }
                }
            }
        }
    }

    /// Takes at most `room` bytes, as the kernel does.
    pub(crate) fn take(&mut self, memory: &Memory, room: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < room {
            let Some(piece) = self.pieces.front() else { break };
            let bytes: &[u8] = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Payload(span) => memory.bytes(*span),
            };
            let rest = &bytes[self.offset..];
            let count = rest.len().min(room - taken.len());
            taken.extend_from_slice(&rest[..count]);
            self.offset += count;
            if self.offset == bytes.len() {
                self.pieces.pop_front();
                self.offset = 0;
            }
        }
        taken
    }
}
