//! The payload of a write: memory that is taken as bytes come, not as they are promised.
//!
//! A header of 28 bytes announces up to 32 MiB. Memory for that is taken piece by piece, each when its first byte is
//! there, so that whoever announces and sends nothing costs nothing, and nothing is zeroed that is never used.

use interlock_host::Buf;
use interlock_ring::BufPool;

/// Bytes of one part; the last may be shorter. A multiple of every block size, and what one command carries at first.
pub(crate) const PART_BYTES: usize = 1 << 20;

/// Bytes of a write in one or several buffers.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    first: Buf,
    /// Each but the last has [`PART_BYTES`], and so has `first` then.
    more: Vec<Buf>,
}

impl From<Buf> for Payload {
    /// All of it in one buffer.
    fn from(first: Buf) -> Self {
        Self { first, more: Vec::new() }
    }
}

impl Payload {
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.more.iter().map(Buf::len).sum::<usize>()
    }

    /// The bytes from `at` on that stand in one buffer, at most `len`. Empty beyond the end.
    pub(crate) fn slice(&self, at: usize, len: usize) -> Buf {
        let (mut at, mut part) = (at, &self.first);
        for next in &self.more {
            if at < part.len() {
                break;
            }
            at -= part.len();
            part = next;
        }
        let from = at.min(part.len());
        part.slice(from..(from + len).min(part.len()))
    }
}

/// The payload of a write that is being received.
#[derive(Debug)]
pub(crate) struct Incoming {
    len: usize,
    payload: Option<Payload>,
}

impl Incoming {
    /// For `len` bytes, at least one.
    pub(crate) const fn new(len: usize) -> Self {
        Self { len, payload: None }
    }

    /// Bytes that will have come in the end.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The room for what belongs at `at` and later, as far as its memory is there; `None`: the next byte brings it.
    pub(crate) fn room(&mut self, at: usize) -> Option<&mut [u8]> {
        let payload = self.payload.as_mut()?;
        let part = match (at / PART_BYTES).checked_sub(1) {
            None => &mut payload.first,
            Some(index) => payload.more.get_mut(index)?,
        };
        let room = part.get_mut().expect("nobody else holds a payload that is not complete");
        Some(&mut room[at % PART_BYTES..])
    }

    /// Copies what came for `at`, with memory for it; gives how many bytes found their place: at least one.
    pub(crate) fn place(&mut self, buffers: &BufPool, at: usize, bytes: &[u8]) -> usize {
        if self.room(at).is_none() {
            let part = buffers.take((self.len - at).min(PART_BYTES));
            match &mut self.payload {
                None => self.payload = Some(part.into()),
                Some(payload) => payload.more.push(part),
            }
        }
        let room = self.room(at).expect("it was just made");
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        count
    }

    /// All of it, once the last byte is in its place.
    pub(crate) fn complete(self) -> Payload {
        self.payload.expect("a payload has at least one byte")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_with_the_bytes_and_every_byte_finds_its_place() {
        let buffers = BufPool::new(0);
        let len = 2 * PART_BYTES + 4096;
        let byte = |at: usize| (at / 7) as u8;
        let bytes: Vec<u8> = (0..len).map(byte).collect();
        for step in [1000, 4096, 65_536, PART_BYTES, len] {
            let mut incoming = Incoming::new(len);
            assert_eq!((buffers.held(), incoming.room(0).is_none()), (0, true), "a header alone costs nothing");
            let mut at = 0;
            while at < len {
                let end = (at + step).min(len);
                at += incoming.place(&buffers, at, &bytes[at..end]);
                assert!(buffers.held() < at + PART_BYTES, "{} bytes for {at}", buffers.held());
            }
            let payload = incoming.complete();
            assert_eq!(payload.len(), len);
            let mut back = Vec::new();
            while back.len() < len {
                back.extend_from_slice(payload.slice(back.len(), 300_000).as_slice());
            }
            assert!(back == bytes, "{step} bytes at a time");
            assert!(payload.slice(len, 1).is_empty());
        }
        assert_eq!(buffers.held(), 0);
        let whole = Payload::from(Buf::copied(&bytes));
        assert_eq!(
            (whole.len(), whole.slice(PART_BYTES, len).len()),
            (len, len - PART_BYTES),
            "one buffer is one part"
        );
    }
}
