//! The thread that writes.

use super::store::{Fault, Store};
use super::{Bounds, Counts, Floor, Owner, RESERVE};
use interlock_api::Event;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events of one transaction.
const BATCH: usize = 512;
/// The bounds are looked at after so many events, and after [`IDLE`] without any.
const TRIM_EVERY: u64 = 1_000;
/// See [`TRIM_EVERY`].
const IDLE: Duration = Duration::from_secs(600);

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Mail {
    /// Keep this.
    Event(Arc<Event>),
    /// Say when everything before is kept.
    Flush(SyncSender<()>),
    /// End in order, and say so.
    End(SyncSender<()>),
}

/// Writes until it is told to end.
pub(super) fn write(
    mut store: Store,
    mut floor: Option<Floor>,
    owner: &Owner,
    bounds: Bounds,
    letters: &Receiver<Mail>,
    counts: &Counts,
) {
    let mut since_trim = TRIM_EVERY;
    let mut failing = false;
    let mut trimmed = Instant::now();
    loop {
        if since_trim >= TRIM_EVERY {
            since_trim = 0;
            let lived = std::mem::replace(&mut trimmed, Instant::now()).elapsed();
            if let Err(fault) = store.trim(bounds, unix_ms(), lived) {
                tracing::warn!("the journal was not trimmed: {fault}");
            }
            counts.bytes.store(store.bytes(), Ordering::Relaxed);
        }
        let mut batch = Vec::new();
        let mut waiting = Vec::new();
        let mut ends = false;
        let mut letter = match letters.recv_timeout(IDLE) {
            Ok(letter) => Some(letter),
            Err(RecvTimeoutError::Timeout) => {
                since_trim = TRIM_EVERY;
                continue;
            }
            // It was not waited for any longer.
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while let Some(next) = letter {
            match next {
                Mail::Event(event) => {
                    counts.waiting.fetch_sub(1, Ordering::Relaxed);
                    batch.push(event);
                }
                Mail::Flush(done) => waiting.push(done),
                Mail::End(done) => {
                    waiting.push(done);
                    ends = true;
                }
            }
            letter = if ends || batch.len() >= BATCH { None } else { letters.try_recv().ok() };
        }
        if !batch.is_empty() {
            let reserve = counts.told.load(Ordering::Relaxed) + RESERVE;
            let kept = keep(&mut store, owner, &batch, reserve);
            let count = batch.len() as u64;
            since_trim += count;
            match kept {
                Ok(()) => {
                    counts.written.fetch_add(count, Ordering::Relaxed);
                    counts.bytes.store(store.bytes(), Ordering::Relaxed);
                    if std::mem::take(&mut failing) {
                        tracing::info!("the journal is written again");
                    }
                }
                Err(fault) => {
                    counts.dropped.fetch_add(count, Ordering::Relaxed);
                    promise(&mut floor, reserve);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(
                            "the journal is not written, and what happens meanwhile is missing in it: {fault}"
                        );
                    }
                }
            }
        }
        if ends && let Err(fault) = store.end(counts.told.load(Ordering::Relaxed) + 1) {
            tracing::warn!("the end of the journal was not noted: {fault}");
        }
        for done in waiting {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
        if ends {
            return;
        }
    }
}

/// The journal cannot say that numbers below `reserve` may have been told: then the floor does.
pub(super) fn promise(floor: &mut Option<Floor>, reserve: u64) {
    let Some(floor) = floor else { return };
    // Every event of a disk that refuses comes here, and few of them need a write.
    if reserve > floor.value() + RESERVE / 2
        && let Err(error) = floor.raise(reserve)
    {
        tracing::warn!("numbers of events may be used twice after a crash: {error}");
    }
}

/// Keeps a batch; in a new file, if the old one is damaged.
pub(super) fn keep(store: &mut Store, owner: &Owner, batch: &[Arc<Event>], reserve: u64) -> Result<(), Fault> {
    match store.insert(batch, reserve) {
        Err(fault) if fault.is_damage() => {
            let note = store.begin_anew(owner, &fault)?;
            tracing::error!("{note}");
            store.insert(batch, reserve)
        }
        other => other,
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
