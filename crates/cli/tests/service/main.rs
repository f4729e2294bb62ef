//! The daemon as its users meet it: the real binary, the real target, real clients, real signals.
//!
//! Nothing waits for time to pass: a daemon says in its log when it listens, and what is to become true is asked for
//! until it is, or until a deadline far beyond what a busy machine needs.

mod agree;
#[path = "../cli/child.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod child;
mod completion;
mod counters;
mod crowded;
mod damaged;
mod dashboard;
mod discovery;
mod disk;
mod events;
mod flush_error;
mod full_disk;
mod handover;
mod hints;
mod hooks;
mod identity;
mod kills;
mod memory;
mod metrics;
mod nbd;
mod same_disk;
mod scene;
mod silent;
mod slips;
mod standing;
mod systemd;
mod tree;
mod upgrade;
mod verbs;
