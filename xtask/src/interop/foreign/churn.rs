//! Queues that come and go. SPDK's block layer opens one for each thread that uses a device, and closes it with the thread.

use super::Foreign;
use super::host::{Association, Identity, Queue};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Keep Alive Timeout; the target notices a lost host after twice that.
const KATO: Duration = Duration::from_secs(2);

/// How long the target lets a host make up for a queue that it lost.
const QUEUE_GRACE: Duration = Duration::from_secs(5);

/// The highest queue that is used: 16 are allowed.
const QUEUES: u16 = 8;

/// How long queues come and go: longer than both.
fn span(bench: &Foreign) -> Duration {
    (2 * KATO).max(QUEUE_GRACE) + Duration::from_secs(bench.setup.times(2, 20).into())
}

pub(super) fn idle(bench: &mut Foreign) -> Result<String> {
    let mut association = Association::open(bench.target.ports[0], &Identity::named(1)?, KATO)?;
    let mut stays = association.queue(1)?;
    let (begun, span) = (Instant::now(), span(bench));
    let (mut opened, mut longest) = (0_u32, Duration::ZERO);
    while begun.elapsed() < span {
        let qid = 2 + (opened % u32::from(QUEUES - 1)) as u16;
        let mut queue = association.queue(qid)?;
        if opened.is_multiple_of(2) {
            // The other half of them never does anything.
            queue.verify(u64::from(qid), 0)?;
        }
        queue.finish()?;
        opened += 1;
        if opened.is_multiple_of(20) {
            let asked = Instant::now();
            stays.write(100, opened as u8)?;
            stays.verify(100, opened as u8)?;
            longest = longest.max(asked.elapsed());
            association.keep_alive()?;
        }
    }
    // All of them, for longer than a host that lost one has to make up for it.
    stays.finish()?;
    let alone = Instant::now();
    while alone.elapsed() < QUEUE_GRACE + Duration::from_secs(1) {
        association.keep_alive().context("without an I/O queue")?;
        wait::pass(KATO / 4);
    }
    let mut again = association.queue(1)?;
    again.write(100, 0)?;
    again.verify(100, 0)?;
    bench.nothing_was_lost()?;
    Ok(format!(
        "{opened} queues came and went in {} s, the slowest write and read beside them took {longest:?}",
        span.as_secs()
    ))
}

pub(super) fn under_load(bench: &mut Foreign) -> Result<String> {
    let mut association = Association::open(bench.target.ports[0], &Identity::named(1)?, KATO)?;
    let over = AtomicBool::new(false);
    let loads = (1..=3).map(|qid| association.queue(qid).map(|queue| (qid, queue))).collect::<Result<Vec<_>>>()?;
    let span = span(bench);
    let (opened, passes) = std::thread::scope(|scope| {
        let threads: Vec<_> = loads
            .into_iter()
            .map(|(qid, queue)| {
                let over = &over;
                scope.spawn(move || load(queue, u64::from(qid) * 100, over))
            })
            .collect();
        let opened = churn(&mut association, span);
        over.store(true, Ordering::Relaxed);
        let passes = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<u32>>>()
            .context("a queue that stayed");
        Ok::<_, anyhow::Error>((opened?, passes?))
    })?;
    bench.nothing_was_lost()?;
    ensure!(passes.iter().all(|count| *count > 0), "some load did nothing: {passes:?}");
    let passes: u32 = passes.iter().sum();
    Ok(format!("{opened} queues came and went in {} s beside {passes} blocks written and read back", span.as_secs()))
}

/// Queues that are used and closed as soon as the last answer has come.
fn churn(association: &mut Association, span: Duration) -> Result<u32> {
    let begun = Instant::now();
    let mut opened = 0;
    while begun.elapsed() < span {
        let mut open = Vec::new();
        for qid in 4..=QUEUES {
            open.push((qid, association.queue(qid)?));
            opened += 1;
        }
        for (qid, mut queue) in open {
            let block = u64::from(qid) * 100;
            queue.write(block, opened as u8)?;
            queue.verify(block, opened as u8)?;
            queue.finish()?;
        }
        association.keep_alive()?;
    }
    Ok(opened)
}

/// Writes blocks and reads them back until it is over; answers how many.
fn load(mut queue: Queue, first: u64, over: &AtomicBool) -> Result<u32> {
    let mut passes = 0;
    while !over.load(Ordering::Relaxed) {
        let (block, byte) = (first + u64::from(passes % 64), (passes % 251) as u8);
        queue.write(block, byte)?;
        queue.verify(block, byte)?;
        passes += 1;
    }
    Ok(passes)
}
