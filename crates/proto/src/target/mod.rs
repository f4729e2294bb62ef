//! The controller's side of a queue pair.

mod event;
mod queue;

pub use event::{Event, QueueConfig, Transfer};
pub use queue::{MAX_C2H_DATA, Queue};
