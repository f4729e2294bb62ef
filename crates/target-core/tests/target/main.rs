//! `Control` and lanes in memory, with real host queues on the other side.
//!
//! Messages between lanes and `Control` keep their order per pair and can be held back per lane, media operations can be
//! held back too: a fence that is reported early is seen here, and nowhere else as easily.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod rig;

mod admin;
mod clock;
mod connect;
mod faults;
mod fencing;
mod io;
mod limits;
mod mandatory;
mod spans;
mod storm;
