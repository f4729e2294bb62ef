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

pub mod barrier;
pub mod conflicts;
mod control;
#[doc(hidden)]
pub mod coverage;
mod event;
pub mod forward;
mod ids;
mod lane;
pub mod latch;
mod msg;
pub mod poison;
mod policy;
pub mod probe;
mod request;
pub mod stall;

pub use control::{
    Control, ControllerCounters, ControllerInfo, ControllerSpec, FenceCounters, HeadInfo, HostConfig, HostCounters,
    Job, JobResult, LifeFacts, LifeRecord, MAX_DEAD, MAX_IO_QUEUES, MAX_KATO, MAX_RECEIPTS, MAX_RECONNECT,
    MAX_SLEW_PERMILLE, MIN_KATO, NoSuchController, NotUnfenced, Output, Setting, SettingError, SpecError, State,
    StateName, Unfenced, UnfencedWhy, WaitOwner, Why,
};
pub use event::{Event, EventKind, StoreWork};
pub use ids::{ConnId, JobId};
#[doc(hidden)]
pub use interlock_fence::guards;
pub use interlock_fence::{
    Case, CcrAttempt, CcrAttempts, CcrResult, ConnectFailure, ConnectionEnd, CtrlId, Disposition, DownReason,
    FencePolicy, FencedBy, GuardEntry, GuardKey, GuardStands, Guarded, HeadId, Identity, LaneId, LedgerEntry, LifeId,
    Loss, MAX_SAME_PATH_RETRIES, Method, Op, Provenance, Receipt, Release, Standing, Termination, Tombstone, ViaEvent,
    ViaNext, ViaStage, Witness, classify, flush_may_have_lost,
};
pub use interlock_proto::host::{Assumption, Fact, Uniquifier};
pub use lane::{
    HeadCounters, IoCounters, Lane, LaneConfig, LaneCounters, LaneOutput, LaneStatus, LaneWhy, Latencies, Latency,
    LifeStanding, LifeStatus, PathCounters,
};
pub use msg::{
    AnaState, CacheEntry, ConnAction, ConnEvent, Dial, Head, Path, PathTable, QueueSpec, Suspicion, ToControl, ToLane,
    Twin, Waiting,
};
pub use policy::{FlushScope, IoPolicy, OnLoss, Reconnect, Timeouts};
pub use request::{Outcome, Refused, Request, Shape};
