//! One model of what there is and what it does, whoever drives it.
//!
//! Paths die in the kernel's host as they do in ours, and the person who looks at three in the morning should not need a
//! second tool for the second host. So everything that shows something - the terminal monitor, the one-shot tables -
//! shows a [`Snapshot`], and a [`Source`] fills it. [`daemon::Daemon`] is the source for our own controllers;
//! [`sysfs::Sysfs`] that for those that the Linux kernel drives: it needs no daemon and no privilege but the right to read
//! `/sys`.
//!
//! [`health`] says what of it is not well, in words.
//!
//! Two snapshots give [`Rates`] (as `nvme top` computes them) and [`changes`](changes::between): what happened between
//! them, in words, for a timeline.

pub mod changes;
pub mod daemon;
pub mod devd;
pub mod health;
pub mod journal;
pub mod metrics;
mod model;
mod natural;
mod percentiles;
mod rates;
mod source;
pub mod story;
pub mod sysfs;
pub mod tree;
mod word;

pub use model::{
    Controller, ControllerCounters, Head, HeadCounters, HostFacts, Io, Path, PathCounters, Recovery, Snapshot,
    Subsystem, Times,
};
pub use natural::natural_order;
pub use percentiles::{Latency, Percentiles};
pub use rates::{Direction, Rates};
pub use source::{Counter, CounterName, Happened, Source, SourceError};
pub use word::{Named, Word};
