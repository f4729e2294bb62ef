//! Payload that user space copies.
//!
//! A copy of 4 KiB is cheap and one of 1 MiB is not, and copies creep in. Whoever copies payload says so here, so that a
//! benchmark can tell how often each byte was moved.

use std::cell::Cell;

thread_local! {
    static COPIED: Cell<u64> = const { Cell::new(0) };
}

/// Counts bytes of payload that this thread has just copied.
pub fn note_copied(bytes: usize) {
    COPIED.with(|copied| copied.set(copied.get().wrapping_add(bytes as u64)));
}

/// Bytes of payload that this thread has copied so far. Not those that the kernel copied.
#[must_use]
pub fn copied() -> u64 {
    COPIED.with(Cell::get)
}
