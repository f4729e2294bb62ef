//! A namespace in memory.
//!
//! Several reactors read and write it at once, and overlapping commands have no order among themselves, exactly as on a
//! device. So it is never borrowed: the only thing that touches it is a bounded raw copy, here and nowhere else. The
//! pages come from an anonymous mapping: a large namespace costs nothing until it is written.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Zeroed bytes of a fixed length that many threads may copy from and to.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
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
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("the kernel mapped page zero"))?;
        Ok(Self { base, len })
    }

    fn at(&self, offset: u64, len: usize) -> *mut u8 {
        let start = usize::try_from(offset).expect("the lane checked the range against the namespace");
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "the lane checked the range");
        // SAFETY: `start + len` lies within the mapping, checked above.
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
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
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
    #[should_panic(expected = "checked the range")]
    fn a_copy_cannot_leave_the_mapping() {
        Memory::new(4096).unwrap().read(4095, &mut [0; 2]);
    }
}
