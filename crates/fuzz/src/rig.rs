//! The real machines of both sides with everything around them that is not theirs: sockets, buffers, media, mail, time.
//!
//! Nothing here decides. A rig carries what a machine wants and what happens to it, in one thread, at the moment that
//! the test chooses; it is a value, so a test prepares one state and begins from a copy of it a million times.

pub mod host;
pub mod joint;
pub mod target;

use interlock_base::{BufId, Span};
use interlock_proto::{Segment, SendList};
use interlock_wire::digest::crc32c;
use std::collections::BTreeMap;

/// A rig that moves so often without coming to rest never will.
pub(crate) const ROUNDS: usize = 20_000;

/// Bytes that a socket's send queue takes: far less than a machine could say.
pub(crate) const SOCKET_ROOM: usize = 64 << 10;

/// Buffers of a driver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    buffers: BTreeMap<BufId, Vec<u8>>,
    last: u32,
}

impl Memory {
    pub(crate) fn insert(&mut self, bytes: Vec<u8>) -> Span {
        self.last += 1;
        let (buf, len) = (BufId(self.last), u32::try_from(bytes.len()).expect("a buffer of a test is small"));
        self.buffers.insert(buf, bytes);
        Span { buf, offset: 0, len }
    }

    pub(crate) fn remove(&mut self, buf: BufId) -> Vec<u8> {
        self.buffers.remove(&buf).unwrap_or_else(|| panic!("{buf:?} was given back before"))
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

    /// Appends the bytes that a driver would put on the wire.
    pub(crate) fn flatten(&self, list: &SendList, out: &mut Vec<u8>) {
        assert!(list.bytes() <= interlock_proto::MAX_POLL_BYTES * 2, "a poll is bounded");
        assert!(list.segments.len() <= interlock_proto::MAX_POLL_SEGMENTS + 4, "a poll is bounded");
        for segment in &list.segments {
            match *segment {
                Segment::Header { start, len } => {
                    out.extend_from_slice(&list.headers[start as usize..][..len as usize]);
                }
                Segment::Payload { span, digest } => {
                    out.extend_from_slice(self.bytes(span));
                    if digest {
                        out.extend_from_slice(&crc32c(self.bytes(span)).to_le_bytes());
                    }
                }
            }
        }
    }
}
