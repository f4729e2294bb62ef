//! What every core stands on.
//!
//! The cores take time, chance and buffers as *values*, so that the simulator can own all three. This crate has the
//! types for them and nothing else: no clock, no socket, no log.
//!
//! - [`Instant`]: a point in time, counted from an arbitrary zero that the driver chose.
//! - [`Timers`] and [`Deadline`]: a flat table of named waits. Every wait can be listed with its reason.
//! - [`Rng`]: seeded chance, passed down from whoever built the machine.
//! - [`Slab`] and [`Key`]: owned slots with generations, so that a late answer never meets a newer request.
//! - [`Ranges`]: which block ranges overlap; the ground of the overlap guard.
//! - [`Share`] and [`Pot`]: who may hold how much of what belongs to all.
//! - [`Span`]: names payload bytes without holding them.
//! - [`fingerprint`]: one number for the state of a machine, the same in every run.
#![no_std]

extern crate alloc;

mod deadline;
mod fingerprint;
mod ranges;
mod rng;
mod share;
mod slab;
mod span;
mod time;

pub use deadline::{Deadline, Timers};
pub use fingerprint::fingerprint;
pub use ranges::Ranges;
pub use rng::Rng;
pub use share::{Pot, Share};
pub use slab::{Key, Slab};
pub use span::{BufId, Span};
pub use time::Instant;
