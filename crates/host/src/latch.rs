//! Which flushes of the host must not succeed any more, over all lanes.

use crate::Outcome;
use interlock_host_core::latch::FlushLatch;
use interlock_host_core::{HeadId, ToLane};
use interlock_wire::status::Status;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the lanes of one host know together. Looked at when a flush ends, never for anything else.
#[derive(Default)]
pub(crate) struct FlushErrors(Mutex<FlushLatch>);

impl FlushErrors {
    fn lock(&self) -> MutexGuard<'_, FlushLatch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane says how a flush has ended; gives what its caller is told. Called whether or not somebody hears it.
    pub(crate) fn ended(&self, head: HeadId, outcome: Outcome) -> Outcome {
        self.lock().handle_ended(head, outcome)
    }

    /// A Flush that no caller waits for reports a loss.
    pub(crate) fn lost(&self, head: HeadId, status: Status) {
        self.lock().handle_lost(head, status);
    }

    /// Before a lane hears this: what was lost under one name of a disk is lost under every other.
    pub(crate) fn hear(&self, message: &ToLane) {
        match message {
            ToLane::Paths(table) if !table.twins.is_empty() => self.lock().handle_twins(&table.twins),
            ToLane::Forget(heads) => self.lock().handle_forgotten(heads),
            _ => {}
        }
    }

    pub(crate) fn error(&self, head: HeadId) -> Option<Outcome> {
        self.lock().error(head)
    }

    pub(crate) fn clear(&self, head: HeadId) -> Option<Outcome> {
        self.lock().clear(head)
    }
}
