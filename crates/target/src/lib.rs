//! A target for NVMe/TCP with cross-controller reset and command quiesce time, on real sockets.
//!
//! A host that fences needs a peer that can be fenced, and one that can be told to misbehave. What the target decides
//! stands in `target-core`; this crate carries its bytes and holds its blocks: in memory, in a file, or nowhere.

pub mod channel;
mod clock;
pub mod config;
mod control;
mod device;
mod file;
mod flush;
mod fuzz;
pub mod help;
mod hex;
mod kept;
mod lane;
mod memory;
mod namespaces;
mod panic;
mod shape;
pub mod status;
mod store;
mod target;
mod told;
mod turns;

pub use file::FileError;
#[doc(hidden)]
pub use fuzz::{fuzz_channel, fuzz_file};
pub use interlock_ring::{Backend, Call, Faults, FileOp, Pool, PoolConfig, Reactor, Verdict};
pub use interlock_target_core::{
    By, Change, ConnId, Event as TargetEvent, Fault, Ghost, Life, LifeId, Loss, NamespaceError, NamespaceKey, PortId,
    SubsystemId,
};
pub use interlock_wire::status::Status;
pub use kept::KeptError;
pub use panic::OnPanic;
pub use target::{EVENTS_MAX, Stamped, Target, TargetError};
