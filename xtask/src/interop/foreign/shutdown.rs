//! A host that has dropped its event requests when it shuts a controller down, or resets it. SPDK ends the connection of a target
//! that answers them all the same.

use super::Foreign;
use super::host::{Association, Identity};
use crate::interop::wait;
use anyhow::{Context, Result, ensure};
use interlock_wire::admin::{FID_ASYNC_EVENTS, GetFeatures};
use interlock_wire::fabrics::{Cc, Shutdown, ShutdownStatus};
use std::time::Duration;

/// Event requests that a controller takes (AERL + 1).
const REQUESTS: usize = 4;

/// How a host ends its controller: what it is called, and what is written to CC.
type Ending = (&'static str, fn(Cc) -> Cc);

const ENDS: [Ending; 5] = [
    ("a normal shutdown", |cc| cc.with_shutdown(Shutdown::Normal)),
    ("an abrupt shutdown", |cc| cc.with_shutdown(Shutdown::Abrupt)),
    ("a reset", |cc| cc.with_enable(false)),
    ("a shutdown and a reset at once", |cc| cc.with_shutdown(Shutdown::Normal).with_enable(false)),
    ("a reset without I/O queues", |cc| cc.with_enable(false)),
];

pub(super) fn with_requests(bench: &mut Foreign) -> Result<String> {
    let rounds = bench.setup.times(2, 20);
    for round in 0..rounds {
        for (number, (what, end)) in ENDS.iter().enumerate() {
            once(bench, number, *end, round).with_context(|| format!("{what}, round {round}"))?;
        }
    }
    bench.nothing_was_lost()?;
    Ok(format!("{} ways, {rounds} times each, {REQUESTS} requests outstanding", ENDS.len()))
}

fn once(bench: &Foreign, number: usize, end: fn(Cc) -> Cc, round: u32) -> Result<()> {
    let mut association = Association::open(bench.target.ports[0], &Identity::named(1)?, Duration::from_secs(5))?;
    let enabled = Cc::new(false).with_enable(true);
    let mut queue = if number + 1 == ENDS.len() { None } else { Some(association.queue(1)?) };
    if let Some(queue) = &mut queue {
        queue.write(0, round as u8)?;
    }
    for _ in 0..REQUESTS {
        association.ask_for_event()?;
    }
    // They are there when it ends: this is answered after them.
    association.admin.get(GetFeatures::current(FID_ASYNC_EVENTS).to_sqe(), &[], 0)?;
    association.admin.drop_all();
    association.set_cc(end(enabled))?;
    wait::for_some("the end of the shutdown or reset", Duration::from_secs(10), || {
        let csts = association.csts()?;
        let complete = csts.shutdown() == ShutdownStatus::Complete;
        Ok(if end(enabled).enabled() { complete } else { !csts.ready() }.then_some(()))
    })?;
    association.admin.is_quiet(Duration::from_millis(100))?;
    drop(queue);
    // The same connection serves another instance, which takes as many requests as the first.
    association.set_cc(Cc::new(false))?;
    association.set_cc(enabled)?;
    ensure!(association.csts()?.ready(), "it is enabled again");
    for _ in 0..REQUESTS {
        association.ask_for_event()?;
    }
    association.admin.is_quiet(Duration::from_millis(50)).context("requests of the next instance")?;
    let mut queue = association.queue(1)?;
    queue.verify(0, round as u8)?;
    queue.finish()?;
    association.admin.drop_all();
    association.set_cc(enabled.with_shutdown(Shutdown::Normal))?;
    association.admin.finish()
}
