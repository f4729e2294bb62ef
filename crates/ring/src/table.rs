//! Which buffer a core means.
//!
//! Cores say "the next 8192 bytes belong in buffer 17 at 4096". A [`BufTable`] of the driver turns such a
//! [`Span`] into bytes. A [`BufId`] is given out again only after a [`BufTable::remove`], which the driver does when
//! its core has let go of the last span.

use crate::Buf;
use interlock_base::{BufId, Span};
use std::io::IoSlice;

/// Numbered slots of buffers, one table per machine.
#[derive(Debug, Default)]
pub struct BufTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
enum Slot {
    Free,
    Here(Buf),
    /// Lent to an operation that needs the bytes for itself; the number stays reserved.
    Lent,
}

impl BufTable {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Stores `buf` and gives its number.
    ///
    /// # Panics
    /// If four billion buffers are stored at once: queue depths bound them far below that.
    pub fn insert(&mut self, buf: Buf) -> BufId {
        if let Some(free) = self.free.pop() {
            self.slots[free as usize] = Slot::Here(buf);
            return BufId(free);
        }
        let id = u32::try_from(self.slots.len()).expect("queue depths bound the buffers far below 2^32");
        self.slots.push(Slot::Here(buf));
        BufId(id)
    }

    /// Takes the buffer out and frees its number. `None` if there is none, or if it is lent (the number is freed even
    /// then, so that [`BufTable::give_back`] of it will be refused).
    pub fn remove(&mut self, id: BufId) -> Option<Buf> {
        let slot = self.slots.get_mut(id.0 as usize)?;
        match std::mem::replace(slot, Slot::Free) {
            Slot::Free => None,
            Slot::Here(buf) => {
                self.free.push(id.0);
                Some(buf)
            }
            Slot::Lent => {
                self.free.push(id.0);
                None
            }
        }
    }

    /// Lends the buffer to an operation that must be its sole holder (a read from a file). The number stays reserved.
    pub fn lend(&mut self, id: BufId) -> Option<Buf> {
        let slot = self.slots.get_mut(id.0 as usize).filter(|slot| matches!(slot, Slot::Here(_)))?;
        match std::mem::replace(slot, Slot::Lent) {
            Slot::Here(buf) => Some(buf),
            Slot::Free | Slot::Lent => None,
        }
    }

    /// Puts a lent buffer back. `Err` returns it if its number is not lent any more.
    ///
    /// # Errors
    /// The number was freed meanwhile: the buffer has no place here, and the caller may drop it.
    pub fn give_back(&mut self, id: BufId, buf: Buf) -> Result<(), Buf> {
        match self.slots.get_mut(id.0 as usize) {
            Some(slot @ Slot::Lent) => {
                *slot = Slot::Here(buf);
                Ok(())
            }
            _ => Err(buf),
        }
    }

    /// The buffer of `id`, to be shared by a clone.
    #[must_use]
    pub fn buf(&self, id: BufId) -> Option<&Buf> {
        match self.slots.get(id.0 as usize) {
            Some(Slot::Here(buf)) => Some(buf),
            _ => None,
        }
    }

    /// The bytes of `span`; `None` if its buffer is not here, or shorter.
    #[must_use]
    pub fn get(&self, span: Span) -> Option<&[u8]> {
        self.buf(span.buf)?.as_slice().get(span.offset as usize..)?.get(..span.len as usize)
    }

    /// The bytes of `span`.
    ///
    /// # Panics
    /// If its buffer is not here, or shorter: the core named a span that it had let go of.
    #[must_use]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.get(span).unwrap_or_else(|| panic!("{span:?} names bytes that this driver does not hold"))
    }

    /// The bytes of `span`, to be written; `None` if its buffer is not here, or shorter, or shared
    /// (`buffer_has_one_writer`).
    #[must_use]
    pub fn bytes_mut(&mut self, span: Span) -> Option<&mut [u8]> {
        match self.slots.get_mut(span.buf.0 as usize)? {
            Slot::Here(buf) => buf.get_mut()?.get_mut(span.offset as usize..)?.get_mut(..span.len as usize),
            Slot::Free | Slot::Lent => None,
        }
    }

    /// The bytes of `span` as a piece of a vectored send.
    ///
    /// # Panics
    /// As [`BufTable::bytes`].
    #[must_use]
    pub fn io_slice(&self, span: Span) -> IoSlice<'_> {
        IoSlice::new(self.bytes(span))
    }

    /// How many numbers are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True if no number is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(buf: BufId, offset: u32, len: u32) -> Span {
        Span { buf, offset, len }
    }

    #[test]
    fn spans_reach_their_bytes_and_no_others() {
        let mut table = BufTable::new();
        let id = table.insert(Buf::zeroed(100));
        table.bytes_mut(span(id, 90, 10)).unwrap().fill(5);
        assert_eq!(table.bytes(span(id, 89, 3)), [0, 5, 5]);
        assert_eq!(&*table.io_slice(span(id, 98, 2)), [5, 5]);
        assert!(table.get(span(id, 90, 11)).is_none(), "beyond the view, although inside the page");
        assert!(table.bytes_mut(span(id, 101, 0)).is_none());
        assert!(table.get(span(BufId(7), 0, 1)).is_none());
    }

    #[test]
    fn a_shared_buffer_is_not_written() {
        let mut table = BufTable::new();
        let id = table.insert(Buf::zeroed(8));
        let held = table.buf(id).unwrap().clone();
        assert!(table.bytes_mut(span(id, 0, 8)).is_none());
        assert_eq!(table.bytes(span(id, 0, 8)), held.as_slice());
        drop(held);
        assert!(table.bytes_mut(span(id, 0, 8)).is_some());
    }

    #[test]
    fn a_lent_buffer_keeps_its_number_until_that_is_removed() {
        let mut table = BufTable::new();
        let id = table.insert(Buf::zeroed(8));
        let lent = table.lend(id).unwrap();
        assert!(table.lend(id).is_none());
        assert!(table.get(span(id, 0, 1)).is_none());
        assert_ne!(table.insert(Buf::zeroed(8)), id);
        assert!(table.give_back(id, lent).is_ok());
        let lent = table.lend(id).unwrap();
        assert!(table.remove(id).is_none(), "removed while lent");
        assert!(table.give_back(id, lent).is_err());
        assert_eq!(table.insert(Buf::zeroed(1)), id, "the number is free once");
        assert_eq!(table.len(), 2);
        assert!(table.remove(id).is_some());
        assert!(table.remove(id).is_none(), "and freed once");
        assert_eq!(table.len(), 1);
    }
}
