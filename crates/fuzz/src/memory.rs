//! What a peer can make this side hold, counted.
//!
//! "Bounded" is easily said; the allocator knows. It counts every byte of the process, so a body is to run alone: the
//! fuzzer does, and the replay of the corpus is one test in a process of its own.

use cap::Cap;
use std::alloc::System;

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX / 2);

/// Most bytes that one input may make a body hold, its rig and a copy of the state it begins in included.
pub const CAP: usize = 16 << 20;

/// Caches of the process itself that grow once: the states that bodies begin in, the output of a test.
const SLACK: usize = 4 << 20;

/// Calls `body` and holds what it allocates against [`CAP`].
///
/// # Panics
/// If it was more at any moment, or if memory is still held when the body is over.
pub fn capped(name: &str, body: impl FnOnce()) {
    let (before, peak_before) = (HEAP.allocated(), HEAP.max_allocated());
    body();
    let (after, peak) = (HEAP.allocated(), HEAP.max_allocated());
    // The peak is of the whole process: what came before is no fault of this body.
    assert!(
        peak == peak_before || peak <= before + CAP,
        "{name}: {} bytes were allocated at once, the cap is {CAP}",
        peak.saturating_sub(before)
    );
    assert!(after <= before + SLACK, "{name}: {} bytes were never given back", after.saturating_sub(before));
}

/// The most bytes that this process had allocated at once.
#[must_use]
pub fn peak() -> usize {
    HEAP.max_allocated()
}
