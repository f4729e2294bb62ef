//! Reports of failed I/O, on their way from the reactors to the events.
//!
//! A reactor must not wait, and an event is written to the log before it has its number: a terminal that nobody reads would
//! stop all I/O. So a thread writes them, and what it is too slow for is dropped. Each export reports seldom
//! ([`interlock_export::TELL_EVERY`]).

use crate::events::Told;
use interlock_api::Level;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Reports that wait for the thread, of all exports.
const WAITING_MAX: usize = 64;

/// Where reports go. A clone leads to the same thread, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Reports(SyncSender<String>);

impl Reports {
    pub(super) fn new(told: Arc<Told>) -> Self {
        let (sender, reports) = sync_channel::<String>(WAITING_MAX);
        let write = move || reports.into_iter().for_each(|text| told.note(Level::Warn, "io-failed", text));
        if let Err(error) = std::thread::Builder::new().name("interlock-reports".into()).spawn(write) {
            tracing::error!("failed I/O of exports is not reported: no thread for it: {error}");
        }
        Self(sender)
    }

    /// Never waits.
    pub(super) fn send(&self, text: String) {
        let _ = self.0.try_send(text); // the clients were told of the failure
    }
}
