//! What to send, as one list for one vectored call.
//!
//! Headers, digests and control data lie in an arena; payload is named. Everything that is ready on a connection goes
//! into one list, so that many small PDUs cost one system call.

use crate::Source;
use alloc::vec::Vec;
use interlock_base::Span;
use interlock_wire::{IntoBytes, digest, pdu};
use zerocopy::Immutable;

/// A queue stops adding PDUs to a list once it holds this many bytes: more does not fit a socket's send buffer and
/// would only make the bytes that a condemned queue already gave away harder to tell from those it did not.
pub const MAX_POLL_BYTES: u64 = 1 << 20;

/// A queue stops adding PDUs to a list once it holds this many segments: the kernel takes at most 1024 at once, and
/// one PDU adds at most two.
pub const MAX_POLL_SEGMENTS: usize = 256;

/// Bytes to send, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SendList {
    /// The bytes of all [`Segment::Header`]s.
    pub headers: Vec<u8>,
    /// What to send, in this order.
    pub segments: Vec<Segment>,
    total: u64,
}

/// One piece of a [`SendList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// `len` bytes of [`SendList::headers`] from `start` on.
    Header {
        /// First byte.
        start: u32,
        /// Bytes.
        len: u32,
    },
    /// Payload.
    Payload {
        /// Where it lies. The buffer is in use until `handle_given` covered it.
        span: Span,
        /// The driver appends the CRC-32C of the span, 4 bytes little-endian.
        digest: bool,
    },
}

impl SendList {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.headers.clear();
        self.segments.clear();
        self.total = 0;
    }

    /// True if there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Bytes on the wire, digests included.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.total
    }

    /// True if no further PDU should be added in this call.
    pub(crate) fn is_full(&self) -> bool {
        self.total >= MAX_POLL_BYTES || self.segments.len() >= MAX_POLL_SEGMENTS
    }

    /// Appends a header with its digest, padded up to its PDO.
    pub(crate) fn pdu<T: IntoBytes + Immutable>(&mut self, header: &T, pdo: u8) {
        let start = self.headers.len();
        let len = pdu::encode_header(header, &mut self.headers);
        self.headers.resize(start + len.max(usize::from(pdo)), 0);
        self.appended(start);
    }

    /// Appends a part of the data of a command, and its digest.
    pub(crate) fn data(&mut self, source: &Source, offset: u32, len: u32, ddgst: bool) {
        match source {
            Source::None => {}
            Source::Span(span) => {
                self.total += u64::from(len) + if ddgst { digest::LEN as u64 } else { 0 };
                self.segments.push(Segment::Payload { span: span.slice(offset, len), digest: ddgst });
            }
            Source::Bytes(bytes) => self.piece(bytes, offset, len, ddgst),
            Source::Padded(padded) => self.piece(&padded.bytes, offset, len, ddgst),
        }
    }

    /// Appends `len` bytes of control data from `offset` on, zeros where it has none, and their digest.
    fn piece(&mut self, bytes: &[u8], offset: u32, len: u32, ddgst: bool) {
        let start = self.headers.len();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        self.headers.extend_from_slice(&rest[..rest.len().min(len as usize)]);
        self.headers.resize(start + len as usize, 0);
        let digest = if ddgst { Some(digest::crc32c(&self.headers[start..])) } else { None };
        self.appended(start);
        if let Some(digest) = digest {
            self.raw(&digest.to_le_bytes());
        }
    }

    /// Appends bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let start = self.headers.len();
        self.headers.extend_from_slice(bytes);
        self.appended(start);
    }

    /// The arena grew from `start` on; neighbours become one segment.
    fn appended(&mut self, start: usize) {
        let start = u32::try_from(start).expect("a list is drained long before it holds 4 GiB");
        let end = u32::try_from(self.headers.len()).expect("headers and control data are bounded");
        let more = end - start;
        if more == 0 {
            return;
        }
        self.total += u64::from(more);
        if let Some(Segment::Header { start: first, len }) = self.segments.last_mut()
            && *first + *len == start
        {
            *len += more;
            return;
        }
        self.segments.push(Segment::Header { start, len: more });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_base::BufId;

    #[test]
    fn neighbouring_headers_are_one_segment() {
        let mut list = SendList::new();
        list.raw(&[1, 2]);
        list.raw(&[]);
        list.raw(&[3]);
        let span = Span { buf: BufId(1), offset: 0, len: 10 };
        list.data(&Source::Span(span), 0, 10, true);
        list.data(&Source::Bytes(alloc::vec![3, 4, 5]), 1, 1, false);
        assert_eq!(
            list.segments,
            [
                Segment::Header { start: 0, len: 3 },
                Segment::Payload { span, digest: true },
                Segment::Header { start: 3, len: 1 }
            ]
        );
        assert_eq!(list.bytes(), 18);
        list.clear();
        assert!(list.is_empty());
    }
}
