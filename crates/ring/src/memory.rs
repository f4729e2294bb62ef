//! Aligned memory with an owner.
//!
//! `O_DIRECT` wants 4 KiB alignment, which `Vec<u8>` cannot promise. All `unsafe` that buffers need stands here: a
//! [`Memory`] is a `Box<[u8]>` with an alignment, and borrows like one.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

/// The alignment of every buffer, and the smallest size class: a page, and the largest common logical block.
pub(crate) const ALIGN: usize = 4096;

/// Owned, initialised bytes at an address that is a multiple of [`ALIGN`].
pub(crate) struct Memory {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: `Memory` owns its bytes as `Box<[u8]>` does; nothing about it belongs to a thread.
unsafe impl Send for Memory {}
// SAFETY: `&Memory` only gives `&[u8]`.
unsafe impl Sync for Memory {}

impl Memory {
    /// No bytes, no allocation.
    pub(crate) const fn empty() -> Self {
        Self { at: NonNull::dangling(), len: 0 }
    }

    /// At least `len` zeroed bytes, rounded up to a multiple of [`ALIGN`].
    pub(crate) fn zeroed(len: usize) -> Self {
        if len == 0 {
            return Self::empty();
        }
        let layout = Self::layout(len.checked_next_multiple_of(ALIGN).expect("a buffer is smaller than the memory"));
        // SAFETY: the layout's size is not zero.
        let at = unsafe { alloc_zeroed(layout) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(layout) };
        Self { at, len: layout.size() }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, ALIGN).expect("a buffer is smaller than the memory")
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `at` is valid for `len` initialised bytes (zeroed at allocation; dangling only with `len` 0) as long
        // as `self` lives, and `&mut` access needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` excludes every other borrow.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: allocated in `zeroed` with this very layout, and freed only here.
            unsafe { dealloc(self.at.as_ptr(), Self::layout(self.len)) }
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({:p}, {} bytes)", self.at, self.len)
    }
}
