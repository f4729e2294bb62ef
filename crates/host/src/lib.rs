//! An NVMe/TCP host that fences before it fails over, as a library.
//!
//! Everything that must not go wrong is decided in `host-core`; this crate carries bytes, time and messages between its
//! machines and the kernel, and gives programs two doors to a namespace:
//!
//! - [`Namespace`]: from any thread, with plain futures (or blocking waits) and no runtime;
//! - [`LocalNamespace`]: from a service on the same reactor, with tokens and a completion queue.
//!
//! The program makes the reactors ([`Pool`]); the host is a guest on them. See [`Host`] for an example.

mod abandon;
mod completion;
mod control;
mod counters;
pub mod discovery;
pub mod doctor;
mod host;
mod identity;
mod jobs;
mod lane;
mod latch;
mod links;
mod local;
mod names;
mod namespace;
mod panic;
mod predecessor;
mod probe;
mod split;
mod store;
pub mod words;

pub use completion::{Completion, Completions, Pending};
pub use counters::DataCounters;
pub use host::{
    ControllerStatus, EVENTS_BEHIND, Host, HostError, HostSettings, HostStatus, NamespaceStatus, PathStatus, WaitFor,
    WaitStatus,
};
pub use identity::{IdentityInUse, IdentityLock};
pub use interlock_base::Instant;
pub use interlock_host_core::poison::{self, SuspectCommand};
pub use interlock_host_core::probe::{DiscoveryLog, Found, Goal, ProbeError as TargetProblem, ProbeReport};
pub use interlock_host_core::stall::{self, HoldTerms, Stall};
pub use interlock_host_core::{
    AnaState, Assumption, CcrAttempt, CcrAttempts, CcrResult, ConnectFailure, ConnectionEnd, ControllerCounters,
    ControllerSpec, CtrlId, DownReason, Event, EventKind, Fact, FenceCounters, FencePolicy, FencedBy, FlushScope,
    Guarded, HeadCounters, HeadId, HostCounters, Identity, IoCounters, IoPolicy, LaneCounters, LaneStatus, LaneWhy,
    Latencies, Latency, LifeFacts, LifeId, LifeRecord, Loss, MAX_DEAD, Method, NoSuchController, NotUnfenced, OnLoss,
    Op, Outcome, PathCounters, Receipt, Reconnect, Refused, Setting, SettingError, Shape, SpecError, StateName,
    Termination, Timeouts, Tombstone, Unfenced, UnfencedWhy, Uniquifier, WaitOwner, Why, Witness,
};
pub use interlock_ring::{Backend, Buf, Pool, PoolConfig, Reactor};
pub use interlock_wire::identify::NamespaceIds;
pub use interlock_wire::nqn::{HostId, Nqn};
pub use interlock_wire::status::Status;
pub use local::LocalNamespace;
pub use names::look_up;
pub use namespace::Namespace;
pub use panic::OnPanic;
pub use probe::{ProbeError, ProbeSpec, Watch, Watched, probe};
pub use split::{Split, SplitEnd};
#[doc(hidden)]
pub use store::fuzz_lives;
pub use store::{FileStore, LifeStore, MemoryStore, OldSockets, Predecessor, SocketPair, StoreError};
