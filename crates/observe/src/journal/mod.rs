//! The journal: every event, kept over restarts, so that "what happened last night?" has an answer.
//!
//! The kernel's log is a ring, and a daemon that was restarted has forgotten. So everything that is told goes into a small
//! SQLite database beside the records of lives: every transition, receipt, counter reset, each under the number under which
//! it was told. The numbers go on after a restart, also after one that nobody wanted: then some are left out, and the gap
//! says that something may be missing.
//!
//! Whoever tells is never made to wait. [`Journal::record`] puts into a bounded queue; a thread of its own writes. If the
//! disk is slower than the events, the rest is dropped and counted, and the numbers show the gap. The journal is bounded by
//! age and size, and nothing in it can keep a daemon from starting: a damaged one is set aside under another name.

mod floor;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use floor::{FLOOR, Floor};
pub use store::{JournalError, Owner, Reader};

use interlock_api::{Event, What};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::Store;
use writer::{Mail, write};

/// The file in the directory of a host.
pub const FILE: &str = "journal.db";

/// Events that may wait to be written. A thousand paths lost at once are about as many.
pub const QUEUE: usize = 16_384;

/// Places of it that only receipts take: a flood of other events drops none of them.
pub(crate) const FOR_RECEIPTS: usize = 1_024;

/// The last events are written within this, or not at all.
const END_WITHIN: Duration = Duration::from_secs(5);
/// A full queue is looked at again after this.
const ROOM_AGAIN: Duration = Duration::from_millis(1);

/// Numbers are promised to nobody else this far ahead: after a crash the next process goes on behind them.
pub(crate) const RESERVE: u64 = 1_024;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Events older than this are removed, once the daemon has run for as long since.
    pub age: Duration,
    /// The oldest are removed when the file is larger than this, in bytes; at least 1 MiB.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { age: Duration::from_secs(90 * 24 * 3600), bytes: 64 << 20 }
    }
}

/// What was found at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The number of the next event.
    pub next: u64,
    /// What somebody should know: a damaged file that was set aside.
    pub notes: Vec<String>,
}

/// Counts of what became of events. All since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// The highest number that was given to [`Journal::record`].
    told: AtomicU64,
    written: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
    /// In the queue.
    waiting: AtomicUsize,
}

/// How the journal stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Events written since the start.
    pub written: u64,
    /// Events dropped since the start, because the queue was full or the disk refused.
    pub dropped: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The journal of one host.
#[derive(Debug)]
pub struct Journal {
    file: PathBuf,
    mail: SyncSender<Mail>,
    counts: Arc<Counts>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Journal {
    /// Opens the journal in the directory of a host, or begins one. A damaged file is set aside.
    ///
    /// # Errors
    /// If a later program wrote it, it is another host's, or the system refuses.
    pub fn open(dir: &Path, owner: &Owner, bounds: Bounds) -> Result<(Self, Begin), JournalError> {
        let file = dir.join(FILE);
        let (store, begin) = Store::open(&file, owner)?;
        // Whoever asks for the first number says what is wrong with it.
        let floor = Floor::open(dir).ok().map(|(floor, _)| floor);
        let (mail, letters) = sync_channel(QUEUE);
        let counts = Arc::new(Counts::default());
        counts.told.store(begin.next.saturating_sub(1), Ordering::Relaxed);
        counts.bytes.store(store.bytes(), Ordering::Relaxed);
        let (shared, owner) = (Arc::clone(&counts), owner.clone());
        let thread = std::thread::Builder::new()
            .name("interlock-journal".into())
            .spawn(move || write(store, floor, &owner, bounds, &letters, &shared))
            .map_err(|error| JournalError::io("start a thread for", &file, error))?;
        Ok((Self { file, mail, counts, thread: Mutex::new(Some(thread)) }, begin))
    }

    /// Keeps an event, or counts that it was dropped. Never waits.
    pub fn record(&self, event: Arc<Event>) {
        self.counts.told.store(event.seq, Ordering::Relaxed);
        let most = if matches!(event.what, What::Fenced { .. }) { QUEUE } else { QUEUE - FOR_RECEIPTS };
        if self.counts.waiting.load(Ordering::Relaxed) >= most {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        match self.mail.try_send(Mail::Event(event)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything recorded before is written or dropped: false if that took longer than this.
    #[must_use]
    pub fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let (done, is_done) = sync_channel(1);
        self.post(Mail::Flush(done), deadline)
            && is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// Puts a letter into the queue as soon as there is room: false if there was none in time.
    fn post(&self, letter: Mail, deadline: Instant) -> bool {
        let mut letter = letter;
        while let Err(refused) = self.mail.try_send(letter) {
            letter = match refused {
                TrySendError::Full(letter) if Instant::now() < deadline => letter,
                _ => return false,
            };
            std::thread::park_timeout(ROOM_AGAIN);
        }
        true
    }

    /// Reads what is written so far, on a connection of its own.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn reader(&self) -> Result<Reader, JournalError> {
        Reader::open(&self.file)
    }

    /// Writes what waits, and notes that the end was in order. What is recorded afterwards is dropped. A disk that does not
    /// answer is not waited for.
    pub fn end(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let deadline = Instant::now() + END_WITHIN;
        let (done, is_done) = sync_channel(1);
        let posted = self.post(Mail::End(done), deadline);
        if posted && is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {
            // It has nothing left to do.
            let _ = thread.join();
        } else {
            tracing::warn!("the journal did not end within {END_WITHIN:?}; its last events may be missing");
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Standing {
            written: load(&self.counts.written),
            dropped: load(&self.counts.dropped),
            bytes: load(&self.counts.bytes),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}
