//! The host's side: queue pair, association, keep alive.

mod ana_log;
mod association;
mod event;
mod fact;
mod keep_alive;
mod queue;
mod refusal;

pub use ana_log::{AnaLog, AnaLogError};
pub use association::{AdminCommand, Association, AssociationConfig, Facts, Kind, Step, Uniquifier};
pub use event::{Event, Full, MAX_DEPTH, Outstanding, QueueConfig, Sent};
pub use fact::{Assumption, Fact, Heard, Question, Unread};
pub use keep_alive::{KeepAlive, Pulse};
pub use queue::Queue;
pub use refusal::{ConnectError, connect_refused};
