//! Replies on their way into the socket.

use interlock_ring::{Buf, Cx, Sock};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

/// Pieces given to the kernel in one call.
const SLICES: usize = 64;

/// Sends per turn: one busy connection must not starve the others of its reactor.
const SENDS_PER_TURN: usize = 16;

/// A head and its payload.
#[derive(Debug)]
struct Reply {
    head: Vec<u8>,
    payload: Vec<Buf>,
    /// It answers a command that counts as in flight until the kernel has taken all of it.
    counts: bool,
}

impl Reply {
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.head.as_slice()).chain(self.payload.iter().map(Buf::as_slice))
    }

    fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }
}

/// Replies that the kernel has not taken. Bounded by what its owner lets be in flight.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    replies: VecDeque<Reply>,
    /// How much of the first one was taken.
    given: usize,
    counted: usize,
    /// Bytes of payload.
    payload: usize,
    /// Bytes of answers to no command.
    uncounted: usize,
    /// Bytes that the kernel has taken so far.
    sent: u64,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// Replies that count as in flight.
    pub(super) const fn counted(&self) -> usize {
        self.counted
    }

    /// Bytes of payload that wait.
    pub(super) const fn payload(&self) -> usize {
        self.payload
    }

    /// Bytes that wait and answer no command.
    pub(super) const fn uncounted(&self) -> usize {
        self.uncounted
    }

    /// Bytes that the kernel has taken so far.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Something that answers no command.
    pub(super) fn push_bytes(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.uncounted += bytes.len();
            self.replies.push_back(Reply { head: bytes, payload: Vec::new(), counts: false });
        }
    }

    /// The answer of a command.
    pub(super) fn push(&mut self, head: Vec<u8>, payload: Vec<Buf>) {
        self.counted += 1;
        self.payload += payload.iter().map(Buf::len).sum::<usize>();
        self.replies.push_back(Reply { head, payload, counts: true });
    }

    /// Forgets everything: nobody will read it.
    pub(super) fn clear(&mut self) {
        *self = Self { sent: self.sent, ..Self::default() };
    }

    /// Gives the kernel what it takes. True: there is more, and it has no room or this turn is over.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_>, sock: Sock) -> io::Result<bool> {
        for _ in 0..SENDS_PER_TURN {
            if self.replies.is_empty() {
                return Ok(false);
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.slices(&mut slices);
            match cx.send_vectored(sock, &slices[..count]) {
                Ok(bytes) => self.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(!self.replies.is_empty())
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.given;
        let mut count = 0;
        for part in self.replies.iter().flat_map(Reply::parts) {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            slices[count] = IoSlice::new(&part[skip..]);
            (skip, count) = (0, count + 1);
            if count == SLICES {
                break;
            }
        }
        count
    }

    fn advance(&mut self, bytes: usize) {
        self.given += bytes;
        self.sent += bytes as u64;
        while let Some(len) = self.replies.front().map(Reply::len) {
            if self.given < len {
                return;
            }
            self.given -= len;
            let Some(reply) = self.replies.pop_front() else { return };
            if reply.counts {
                self.counted -= 1;
            } else {
                self.uncounted -= reply.head.len();
            }
            self.payload -= reply.payload.iter().map(Buf::len).sum::<usize>();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_gives_the_same_stream() {
        for step in 1..=14 {
            let mut outbox = Outbox::default();
            outbox.push_bytes(b"hello".to_vec());
            outbox.push_bytes(Vec::new());
            outbox.push(b"head".to_vec(), vec![Buf::copied(b"pay"), Buf::copied(b""), Buf::copied(b"load")]);
            outbox.push(b"end".to_vec(), Vec::new());
            assert_eq!((outbox.counted(), outbox.payload()), (2, 7));
            let mut stream = Vec::new();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = outbox.slices(&mut slices);
                let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                let given = step.min(offered.len());
                stream.extend_from_slice(&offered[..given]);
                outbox.advance(given);
            }
            assert_eq!(stream, b"helloheadpayloadend", "given {step} bytes at a time");
            assert_eq!((outbox.counted(), outbox.payload(), outbox.uncounted(), outbox.sent()), (0, 0, 0, 19));
        }
    }
}
