//! Buffers that outlive their last use.
//!
//! A payload is read by the kernel after the call that named it has returned, sits in a held command, or waits in a
//! send list. A [`Buf`] is therefore owned and counted: it stays where it is until the last holder lets go
//! (`buffer_outlives_its_last_use`), and it can be written only by a sole holder (`buffer_has_one_writer`).

use crate::memory::Memory;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes at a stable, 4 KiB-aligned address, shared by counting. A clone shares; so does a slice.
#[derive(Clone)]
pub struct Buf {
    region: Arc<Region>,
    start: usize,
    len: usize,
}

struct Region {
    memory: Memory,
    home: Weak<Shelves>,
    account: Option<Account>,
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(Account(held)) = &self.account {
            held.fetch_sub(self.memory.len(), Ordering::AcqRel);
        }
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::replace(&mut self.memory, Memory::empty()));
        }
    }
}

impl Buf {
    /// A buffer of `len` zeroed bytes of its own, without a pool.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        Self {
            region: Arc::new(Region { memory: Memory::zeroed(len), home: Weak::new(), account: None }),
            start: 0,
            len,
        }
    }

    /// A buffer with a copy of `bytes`.
    #[must_use]
    pub fn copied(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf.get_mut().expect("nobody else holds a new buffer").copy_from_slice(bytes);
        buf
    }

    /// Bytes in this view.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if the view has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.region.memory.as_slice()[self.start..self.start + self.len]
    }

    /// The bytes, to be written; `None` while another `Buf` (a clone, a slice, an operation in flight) shares them.
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut [u8]> {
        let region = Arc::get_mut(&mut self.region)?;
        Some(&mut region.memory.as_mut_slice()[self.start..self.start + self.len])
    }

    /// True if this is the only holder of the bytes. A hint where threads share the `Buf` itself; [`Buf::get_mut`] is sure.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.region) == 1
    }

    /// A view of a part of this view, sharing the bytes.
    ///
    /// # Panics
    /// If `part` leaves the view.
    #[must_use]
    pub fn slice(&self, part: Range<usize>) -> Self {
        self.clone().narrowed(part)
    }

    /// This view narrowed to a part of itself; a sole holder remains one.
    ///
    /// # Panics
    /// If `part` leaves the view.
    #[must_use]
    pub fn narrowed(self, part: Range<usize>) -> Self {
        assert!(
            part.start <= part.end && part.end <= self.len,
            "{}..{} leaves a buffer of {} bytes",
            part.start,
            part.end,
            self.len
        );
        Self { start: self.start + part.start, len: part.end - part.start, region: self.region }
    }
}

impl AsRef<[u8]> for Buf {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({:p}+{}, {} bytes)", self.region.memory.as_slice().as_ptr(), self.start, self.len)
    }
}

/// Sizes from 4 KiB, doubling: 4 KiB to 4 MiB. Larger buffers are made and freed each time.
const CLASSES: usize = 11;

/// Buffers that are used again: one free list per power of two from 4 KiB to 4 MiB. A clone is the same pool.
///
/// A buffer returns by itself when its last holder drops it, on whatever thread that is.
#[derive(Clone)]
pub struct BufPool {
    shelves: Arc<Shelves>,
    account: Option<Account>,
}

/// What one user of a pool holds of it. A clone is the same account.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<AtomicUsize>);

impl Account {
    /// Bytes of buffers that were taken on this account and that somebody still holds, whoever that is by now. Sizes are those
    /// of the memory behind them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

struct Shelves {
    cached_max: usize,
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    cached: usize,
    held: usize,
    by_class: [Vec<Memory>; CLASSES],
}

impl BufPool {
    /// What a pool keeps unless told otherwise: enough for 512 transfers of 128 KiB.
    pub const CACHED_MAX_DEFAULT: usize = 64 << 20;

    /// A pool that keeps at most `cached_max` bytes of free buffers; more are given back to the system.
    #[must_use]
    pub fn new(cached_max: usize) -> Self {
        Self { shelves: Arc::new(Shelves { cached_max, free: Mutex::default() }), account: None }
    }

    /// The same pool, for somebody whose buffers are counted.
    #[must_use]
    pub fn on_account(&self, account: &Account) -> Self {
        Self { shelves: Arc::clone(&self.shelves), account: Some(account.clone()) }
    }

    /// A buffer of `len` bytes. **Its bytes are those of an earlier user**: send or show only what was written since.
    #[must_use]
    pub fn take(&self, len: usize) -> Buf {
        let memory = self.shelves.get(len).unwrap_or_else(|| Memory::zeroed(bytes_for(len)));
        if let Some(Account(held)) = &self.account {
            held.fetch_add(memory.len(), Ordering::AcqRel);
        }
        let (home, account) = (Arc::downgrade(&self.shelves), self.account.clone());
        Buf { region: Arc::new(Region { memory, home, account }), start: 0, len }
    }

    /// A buffer of `len` zeroed bytes.
    #[must_use]
    pub fn take_zeroed(&self, len: usize) -> Buf {
        let mut buf = self.take(len);
        buf.get_mut().expect("nobody else holds a new buffer").fill(0);
        buf
    }

    /// Bytes of buffers that somebody still holds: a caller, the kernel, a queue of a lost path. Sizes are those of the
    /// memory behind them.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shelves.free().held
    }

    /// Bytes of free buffers that wait for their next use.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.shelves.free().cached
    }
}

impl Default for BufPool {
    fn default() -> Self {
        Self::new(Self::CACHED_MAX_DEFAULT)
    }
}

impl fmt::Debug for BufPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufPool({} of at most {} bytes cached)", self.cached(), self.shelves.cached_max)
    }
}

impl Shelves {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free buffer for `len` bytes; `None`: make one of [`bytes_for`]. It is held from now on either way.
    fn get(&self, len: usize) -> Option<Memory> {
        let mut free = self.free();
        free.held += bytes_for(len);
        let memory = free.by_class[class_of(len)?].pop()?;
        free.cached -= memory.len();
        Some(memory)
    }

    fn put(&self, memory: Memory) {
        let mut free = self.free();
        free.held -= memory.len();
        let Some(class) = class_of(memory.len()).filter(|class| class_bytes(*class) == memory.len()) else { return };
        if free.cached + memory.len() <= self.cached_max {
            free.cached += memory.len();
            free.by_class[class].push(memory);
        }
    }
}

const fn class_bytes(class: usize) -> usize {
    crate::memory::ALIGN << class
}

/// The size of the memory behind a buffer of `len` bytes: a class is filled whole, so that it fits its shelf.
fn bytes_for(len: usize) -> usize {
    class_of(len).map_or_else(|| len.next_multiple_of(crate::memory::ALIGN), class_bytes)
}

/// The smallest class that holds `len` bytes.
fn class_of(len: usize) -> Option<usize> {
    (0..CLASSES).find(|class| len <= class_bytes(*class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sole_holder_writes() {
        let mut buf = Buf::zeroed(10_000);
        assert_eq!(buf.as_slice().as_ptr() as usize % 4096, 0);
        buf.get_mut().unwrap()[5000] = 7;
        let mut part = buf.slice(4096..8192);
        assert_eq!(part.as_slice()[5000 - 4096], 7);
        assert!(buf.get_mut().is_none(), "a slice shares");
        assert!(part.get_mut().is_none(), "and is no owner either");
        drop(buf);
        part.get_mut().unwrap()[0] = 1;
        assert!(part.clone().get_mut().is_none());
        assert_eq!(part.narrowed(0..1).get_mut().unwrap(), [1]);
    }

    #[test]
    #[should_panic(expected = "leaves a buffer of 10 bytes")]
    fn a_slice_cannot_leave_its_view_although_the_region_is_larger() {
        let _ = Buf::zeroed(10).slice(4..11);
    }

    #[test]
    fn a_pool_takes_back_what_the_last_holder_dropped_up_to_its_bound() {
        let pool = BufPool::new(12 << 10);
        let a = pool.take(5000);
        let at = a.as_slice().as_ptr();
        let shared = a.clone();
        drop(a);
        assert_eq!((pool.cached(), pool.held()), (0, 8192), "still held");
        drop(shared);
        assert_eq!((pool.cached(), pool.held()), (8192, 0));
        let again = pool.take(8192);
        assert_eq!(again.as_slice().as_ptr(), at, "the same class is used again");
        let more: Vec<Buf> = (0..3).map(|_| pool.take(4096)).collect();
        drop(again);
        drop(more);
        assert_eq!(pool.cached(), 12 << 10, "8 KiB and one of 4 KiB; the rest was freed");
        let large = pool.take((64 << 20) + 1);
        assert_eq!(pool.held(), (64 << 20) + 4096);
        drop(large);
        assert_eq!((pool.cached(), pool.held()), (12 << 10, 0), "too large for any class");
        let orphan = pool.take(1);
        drop(pool);
        drop(orphan);
    }

    #[test]
    fn an_account_counts_what_was_taken_on_it_until_the_last_holder_lets_go() {
        let (pool, account) = (BufPool::default(), Account::default());
        let _other = pool.take(4096);
        let buf = pool.on_account(&account).take(5000);
        let part = buf.slice(0..10);
        drop(buf);
        assert_eq!((account.held(), pool.held()), (8192, 8192 + 4096), "sent, held or sliced: it is still there");
        drop(part);
        assert_eq!((account.held(), pool.held()), (0, 4096));
        let _again = pool.take(8192);
        assert_eq!(account.held(), 0, "what it gave back is nobody's");
    }

    #[test]
    fn zeroed_means_zeroed_again() {
        let pool = BufPool::default();
        let mut buf = pool.take(4096);
        buf.get_mut().unwrap().fill(9);
        drop(buf);
        assert!(pool.take_zeroed(4096).as_slice().iter().all(|byte| *byte == 0));
    }
}
