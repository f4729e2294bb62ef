//! A namespace in memory.
//!
//! Several reactors read and write it at once, and overlapping commands have no order among themselves, exactly as on a
//! device. So it is never borrowed: the only thing that touches it is a bounded raw copy, here and nowhere else. The
//! pages come from an anonymous mapping: a large namespace costs nothing until it is written. Addresses for its growth
//! are reserved from the start, so that it can be resized under load without moving.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Addresses are reserved for a growth to this many times the first size, and at least to [`ROOM_MIN`].
const ROOM_FACTOR: usize = 16;

/// Addresses reserved at least, in bytes. They cost nothing.
const ROOM_MIN: usize = 64 << 30;

/// Zeroed bytes that many threads may copy from and to. They can become more, never fewer.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    /// Bytes that can be touched.
    len: AtomicUsize,
    /// Bytes of addresses that are ours.
    room: usize,
}

// SAFETY: the mapping lives until `drop`, which needs the only reference; its bytes are touched by raw copies alone, and
// no reference to them is ever made. Racing copies may tear, as they may on a device; every byte is a valid `u8`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` zero bytes.
    pub(crate) fn new(len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).ok().filter(|len| (1..=isize::MAX.cast_unsigned()).contains(len)).ok_or_else(
            || io::Error::new(io::ErrorKind::InvalidInput, "a memory namespace of this size cannot exist"),
        )?;
        let room = len.saturating_mul(ROOM_FACTOR).max(ROOM_MIN);
        // Where addresses are rationed (`ulimit -v`) it gets what it needs now, and cannot grow.
        let (base, room) = reserve(room).map(|base| (base, room)).or_else(|_| reserve(len).map(|base| (base, len)))?;
        let memory = Self { base, len: AtomicUsize::new(0), room };
        memory.open(len)?;
        Ok(memory)
    }

    /// Bytes to which it can grow.
    pub(crate) const fn room(&self) -> u64 {
        self.room as u64
    }

    /// Becomes `len` bytes long if it is shorter, and makes everything from `from` on zero: what an earlier, larger
    /// namespace left there is gone.
    pub(crate) fn grow(&self, from: u64, len: u64) -> io::Result<()> {
        let bytes = usize::try_from(len).ok().filter(|len| *len <= self.room);
        let bytes =
            bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there are no addresses for it"))?;
        if bytes > self.len.load(Ordering::Acquire) {
            self.open(bytes)?;
        }
        self.zero(from..len);
        Ok(())
    }

    /// Makes the first `len` bytes accessible.
    fn open(&self, len: usize) -> io::Result<()> {
        // SAFETY: `len` bytes from `base` lie within our own mapping (`room`), and more access to them harms nobody.
        let result = unsafe { libc::mprotect(self.base.as_ptr().cast(), len, libc::PROT_READ | libc::PROT_WRITE) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        let start = usize::try_from(offset).expect("the lane checked the range against the namespace");
        let open = self.len.load(Ordering::Acquire);
        assert!(start.checked_add(len).is_some_and(|end| end <= open), "the lane checked the range");
        // SAFETY: `start + len` lies within the accessible part of the mapping, checked above.
        unsafe { self.base.as_ptr().add(start) }
    }

    /// Copies out.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        // SAFETY: `from` is valid for `into.len()` bytes; `into` is exclusive, so they cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Copies in.
    pub(crate) fn write(&self, offset: u64, from: &[u8]) {
        let into = self.at(offset, from.len());
        // SAFETY: `into` is valid for `from.len()` bytes; no reference into the mapping exists, so they cannot overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into, from.len()) }
    }

    /// Makes bytes zero. Whole pages are given back to the kernel.
    pub(crate) fn zero(&self, range: Range<u64>) {
        const PAGE: u64 = 4096;
        let first = range.start.next_multiple_of(PAGE);
        let last = range.end / PAGE * PAGE;
        if first >= last {
            return self.fill_zero(range);
        }
        self.fill_zero(range.start..first);
        self.fill_zero(last..range.end);
        let len = usize::try_from(last - first).expect("within the mapping");
        let pages = self.at(first, len);
        // SAFETY: the pages lie within our own private anonymous mapping; after this they read as zero.
        let result = unsafe { libc::madvise(pages.cast(), len, libc::MADV_DONTNEED) };
        if result != 0 {
            self.fill_zero(first..last);
        }
    }

    fn fill_zero(&self, range: Range<u64>) {
        let len = usize::try_from(range.end.saturating_sub(range.start)).expect("within the mapping");
        let into = self.at(range.start, len);
        // SAFETY: `into` is valid for `len` bytes.
        unsafe { std::ptr::write_bytes(into, 0, len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nobody else holds it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.room) };
    }
}

/// Addresses that cannot be touched yet.
fn reserve(room: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), room, libc::PROT_NONE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("the kernel mapped page zero"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_reaches_exactly_its_range() {
        let memory = Memory::new(5 * 4096).unwrap();
        memory.write(0, &[0xaa; 5 * 4096]);
        memory.zero(4000..13_000);
        let mut all = vec![0; 5 * 4096];
        memory.read(0, &mut all);
        for (at, byte) in all.iter().enumerate() {
            assert_eq!(*byte, if (4000..13_000).contains(&at) { 0 } else { 0xaa }, "byte {at}");
        }
    }

    #[test]
    fn it_grows_without_moving_and_the_new_part_is_zero() {
        let memory = Memory::new(8192).unwrap();
        memory.write(0, &[0xaa; 8192]);
        // As after a shrink to one block: what lay behind it must not come back.
        memory.grow(4096, 3 << 20).unwrap();
        let mut all = vec![1; 3 << 20];
        memory.read(0, &mut all);
        assert!(all[..4096].iter().all(|byte| *byte == 0xaa) && all[4096..].iter().all(|byte| *byte == 0));
        assert!(memory.grow(0, memory.room() + 1).is_err());
    }

    #[test]
    #[should_panic(expected = "checked the range")]
    fn a_copy_cannot_leave_the_mapping() {
        Memory::new(4096).unwrap().read(4095, &mut [0; 2]);
    }
}
