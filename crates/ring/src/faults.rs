//! What a kernel may do at a system call, and seldom does.
//!
//! Calls move fewer bytes than they could, are interrupted, or find no memory, once in a million times and never in a
//! test. Here a test stands at the boundary and decides for each call; without one, a call costs one look at an `Option`.
//! What follows a decision is what would follow the kernel's: a send that took a part is followed by
//! [`crate::Event::Writable`], bytes that were left are announced again.

use crate::FileOp;
use std::fmt;

/// A system call that can be decided about.
#[derive(Debug)]
pub enum Call<'a> {
    /// Bytes are given to a socket: so many.
    Send(usize),
    /// Bytes are taken from a socket: there is room for so many.
    Receive(usize),
    /// An operation on a file begins.
    File(&'a FileOp),
    /// A connection is aborted: it is disconnected, and where that is refused, let go of. If it fails, neither was done.
    Abort,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel decides.
    Pass,
    /// It moves at most so many bytes, at least 1. Nothing for operations without bytes.
    AtMost(usize),
    /// It fails with this `errno`, and nothing is done. `EAGAIN` of a socket is not for here: the kernel gives it only
    /// when there is nothing to do, and tells when there is.
    Fail(i32),
}

/// Decides what becomes of the system calls of a pool, from any of its threads. For tests.
pub trait Faults: Send + Sync {
    /// What becomes of this call.
    fn decide(&self, call: &Call<'_>) -> Verdict;
}

impl fmt::Debug for dyn Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}
