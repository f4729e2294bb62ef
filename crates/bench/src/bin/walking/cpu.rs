//! Which thread runs where, and what it takes.

use anyhow::{Context, Result};
use rustix::process::{Pid, getpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// Two cores: one for everything that an I/O passes through, one for everything else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) io: usize,
    pub(crate) rest: usize,
}

impl Cores {
    /// The first two that this process may use; `None` if there is only one.
    pub(crate) fn two() -> Result<Option<Self>> {
        let mine = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| mine.is_set(*cpu));
        Ok(cpus.next().zip(cpus.next()).map(|(io, rest)| Self { io, rest }))
    }
}

/// Confines this thread to a core.
pub(crate) fn pin_me(core: usize) -> Result<()> {
    Ok(sched_setaffinity(None, &only(core))?)
}

fn only(core: usize) -> CpuSet {
    let mut cpus = CpuSet::new();
    cpus.set(core);
    cpus
}

/// The threads of a process, by number and name.
fn threads(pid: Pid) -> Result<Vec<(Pid, String)>> {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let mut found = Vec::new();
    for entry in fs::read_dir(tasks)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        // It may have ended since it was listed.
        if let Some((number, name)) = number.zip(fs::read_to_string(entry.path().join("comm")).ok()) {
            found.push((number, name.trim_end().to_owned()));
        }
    }
    Ok(found)
}

/// Confines the threads of a process whose name begins so to one core, and all others to another.
pub(crate) fn pin(pid: Pid, begins: &str, theirs: usize, others: usize) -> Result<()> {
    for (thread, name) in threads(pid)? {
        let core = if name.starts_with(begins) { theirs } else { others };
        sched_setaffinity(Some(thread), &only(core)).with_context(|| format!("thread {name} cannot be confined"))?;
    }
    Ok(())
}

/// This process.
pub(crate) fn me() -> Pid {
    getpid()
}

/// Processor time of a process since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Of its reactors.
    pub(crate) reactor: Duration,
    /// Of all its other threads that still run.
    pub(crate) rest: Duration,
}

impl Spent {
    /// Of a process whose reactors' names begin so.
    pub(crate) fn of(pid: Pid, begins: &str) -> Result<Self> {
        let mut spent = Self::default();
        for (thread, name) in threads(pid)? {
            let place = format!("/proc/{}/task/{}/schedstat", pid.as_raw_nonzero(), thread.as_raw_nonzero());
            // It may have ended since it was listed.
            let Ok(text) = fs::read_to_string(place) else { continue };
            let first = text.split_whitespace().next().context("schedstat is empty")?;
            let time = Duration::from_nanos(first.parse()?);
            if name.starts_with(begins) {
                spent.reactor += time;
            } else {
                spent.rest += time;
            }
        }
        Ok(spent)
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        // A thread that has ended took its time along.
        Self { reactor: self.reactor.saturating_sub(before.reactor), rest: self.rest.saturating_sub(before.rest) }
    }
}
