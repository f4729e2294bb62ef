//! The controller's side of a queue pair.

mod queue;

pub use queue::{Event, MAX_C2H_DATA, Queue, QueueConfig, Transfer};
