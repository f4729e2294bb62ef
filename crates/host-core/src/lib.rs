//! The brain of the host, sans-io.
//!
//! The field's hosts retry a write elsewhere the moment its path is lost, although the lost controller may still
//! execute it. Here one choke point decides for every command of a lost life whether it is retried, held or failed, and
//! it never lets a write that may still be executed be overtaken. That decision has to survive any order of messages
//! between threads, so it is made by machines that exchange values:
//!
//! - one [`Control`] per host: controllers, admin queue pairs, fences, reconnect, ANA, namespaces, receipts;
//! - one [`Lane`] per reactor: I/O queue pairs, the ledger of what was sent, path choice, guard, requeue list;
//! - [`ToLane`] and [`ToControl`]: everything they say to each other. Drivers carry them in order per pair, after any
//!   delay.
//!
//! A driver calls `handle_*` with what happened, then drains `poll_output` and `poll_send`, then sleeps until
//! `next_deadline`. Nothing here knows a socket, a clock or a thread.
#![no_std]

extern crate alloc;

mod ids;
mod msg;
mod policy;
mod request;

pub use ids::{ConnId, CtrlId, HeadId, JobId, LaneId, LifeId};
pub use msg::{
    AnaState, ConnAction, ConnEvent, Dial, DownReason, GuardEntry, GuardKey, Head, LedgerEntry, Path, PathTable, QueueSpec, Release,
    Suspicion, ToControl, ToLane,
};
pub use policy::{FencePolicy, IoPolicy, Reconnect, Timeouts};
pub use request::{Op, Outcome, Refused, Request, Shape};
