//! The host's side: queue pair, association, keep alive.

mod association;
mod keep_alive;
mod queue;
mod refusal;

pub use association::{AdminCommand, Association, AssociationConfig, Facts, Kind, Step};
pub use keep_alive::{KeepAlive, Pulse};
pub use queue::{Event, Full, MAX_DEPTH, Outstanding, Queue, QueueConfig, Sent};
pub use refusal::{ConnectError, connect_refused};
