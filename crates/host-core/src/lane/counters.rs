//! What a lane counts. Nothing here ever decreases (`counters_never_decrease`); a reader that wants a fresh start
//! keeps a baseline. Names and moments are those of Linux' `diag` attributes where Linux has them.

use super::latency::Latencies;
use crate::{CtrlId, HeadId, Op};
use interlock_base::Instant;

/// Counters of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LaneCounters {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests ended.
    pub done: u64,
    /// Commands put on a queue, retries included.
    pub commands: u64,
    /// Commands that became in doubt and were held.
    pub held: u64,
    /// Held commands released after their fence.
    pub released: u64,
    /// Commands in doubt that were sent again at once because the policy is legacy.
    pub unsafe_failovers: u64,
    /// Completions that came for commands of condemned lives, decided by control.
    pub late_completions: u64,
    /// Completions that came for commands the lane no longer waited for: counted and dropped.
    pub stray_completions: u64,
    /// Requests that waited because their range was guarded.
    pub guarded: u64,
    /// Requests refused because the lane was at its bound.
    pub refused_busy: u64,
    /// Requests refused because their range is guarded by what no time ends.
    pub refused_unfenced: u64,
    /// Sent requests that were abandoned.
    pub abandoned: u64,
    /// I/O timeouts reported as suspicions.
    pub timeouts: u64,
    /// Requests that another lane was asked to carry out, because this one has no queue on their path.
    pub forwarded: u64,
    /// Requests that were carried out for other lanes.
    pub served: u64,
}

impl LaneCounters {
    /// Adds what another lane counted.
    pub const fn add(&mut self, other: &Self) {
        let Self {
            accepted,
            done,
            commands,
            held,
            released,
            unsafe_failovers,
            late_completions,
            stray_completions,
            guarded,
            refused_busy,
            refused_unfenced,
            abandoned,
            timeouts,
            forwarded,
            served,
        } = other;
        self.accepted += *accepted;
        self.done += *done;
        self.commands += *commands;
        self.held += *held;
        self.released += *released;
        self.unsafe_failovers += *unsafe_failovers;
        self.late_completions += *late_completions;
        self.stray_completions += *stray_completions;
        self.guarded += *guarded;
        self.refused_busy += *refused_busy;
        self.refused_unfenced += *refused_unfenced;
        self.abandoned += *abandoned;
        self.timeouts += *timeouts;
        self.forwarded += *forwarded;
        self.served += *served;
    }
}

/// Counters of one namespace on one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeadCounters {
    /// The namespace.
    pub head: HeadId,
    /// `io_requeue_no_usable_path_count`: no path was usable but one may return; counted at every attempt.
    pub requeue_no_usable_path: u64,
    /// `io_fail_no_available_path_count`: no path was usable and none may return.
    pub fail_no_available_path: u64,
    /// Requests answered well, from acceptance to the end: with every wait and every failover, as the caller felt them.
    pub io: IoCounters,
}

impl HeadCounters {
    pub(super) const fn new(head: HeadId) -> Self {
        Self { head, requeue_no_usable_path: 0, fail_no_available_path: 0, io: IoCounters::new() }
    }
}

impl HeadCounters {
    /// Adds what another lane counted of the same namespace.
    pub fn add(&mut self, other: &Self) {
        self.requeue_no_usable_path += other.requeue_no_usable_path;
        self.fail_no_available_path += other.fail_no_available_path;
        self.io.add(&other.io);
    }
}

/// Counters of one path on one lane: a namespace through a configured controller, over all of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathCounters {
    /// The namespace.
    pub head: HeadId,
    /// The controller.
    pub ctrl: CtrlId,
    /// `command_retries_count`: sent again on this path after an error.
    pub retries: u64,
    /// `command_error_count`: requests that ended with an error status from this path.
    pub errors: u64,
    /// `multipath_failover_count`: requests moved away because this path failed them.
    pub failovers: u64,
    /// Of these, moved while in doubt (legacy).
    pub unsafe_failovers: u64,
    /// Commands answered well, from queue to answer.
    pub io: IoCounters,
}

impl PathCounters {
    pub(super) const fn new(head: HeadId, ctrl: CtrlId) -> Self {
        Self { head, ctrl, retries: 0, errors: 0, failovers: 0, unsafe_failovers: 0, io: IoCounters::new() }
    }

    /// Adds what another lane counted of the same path.
    pub fn add(&mut self, other: &Self) {
        self.retries += other.retries;
        self.errors += other.errors;
        self.failovers += other.failovers;
        self.unsafe_failovers += other.unsafe_failovers;
        self.io.add(&other.io);
    }
}

/// What was done, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IoCounters {
    /// Reads.
    pub reads: u64,
    /// Writes, write zeroes and discards.
    pub writes: u64,
    /// Compares, with equal blocks or with different ones.
    pub compares: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of payload written.
    pub written_bytes: u64,
    /// Time of all reads, in ns.
    pub read_nanos: u64,
    /// Time of all writes, in ns.
    pub write_nanos: u64,
    /// Time of all flushes, in ns.
    pub flush_nanos: u64,
    /// Under way now, answered well or not.
    pub in_flight: u32,
    /// Time in which at least one was under way, in ns; the present span is not in it.
    pub busy_nanos: u64,
    /// When the first of those that are under way began.
    pub busy_since: Instant,
}

impl IoCounters {
    pub(super) const fn new() -> Self {
        Self {
            reads: 0,
            writes: 0,
            compares: 0,
            flushes: 0,
            read_bytes: 0,
            written_bytes: 0,
            read_nanos: 0,
            write_nanos: 0,
            flush_nanos: 0,
            in_flight: 0,
            busy_nanos: 0,
            busy_since: Instant::ZERO,
        }
    }

    /// Time in which at least one was under way, up to `now`, in ns.
    #[must_use]
    pub const fn busy_nanos_at(&self, now: Instant) -> u64 {
        if self.in_flight == 0 { self.busy_nanos } else { self.busy_nanos + nanos(self.busy_since, now) }
    }

    pub(super) const fn began(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.busy_since = now;
        }
        self.in_flight += 1;
    }

    pub(super) const fn ended(&mut self, now: Instant) {
        debug_assert!(self.in_flight > 0, "one_owner_per_tag: more commands ended than began");
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.busy_nanos += nanos(self.busy_since, now);
        }
    }

    /// One was answered well.
    pub(super) fn good(&mut self, latencies: &mut Latencies, op: Op, bytes: u64, took: u64) {
        match op {
            Op::Read => {
                self.reads += 1;
                self.read_bytes += bytes;
                self.read_nanos = self.read_nanos.saturating_add(took);
                latencies.reads.count(took);
            }
            Op::Write { .. } | Op::WriteZeroes { .. } | Op::Discard => {
                self.writes += 1;
                self.written_bytes += bytes;
                self.write_nanos = self.write_nanos.saturating_add(took);
                latencies.writes.count(took);
            }
            Op::Compare => self.compares += 1,
            Op::Flush => {
                self.flushes += 1;
                self.flush_nanos = self.flush_nanos.saturating_add(took);
                latencies.flushes.count(took);
            }
        }
    }

    /// Adds what another lane counted. Lanes are busy at the same time: the busiest says how busy all are.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.compares += other.compares;
        self.flushes += other.flushes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.read_nanos = self.read_nanos.saturating_add(other.read_nanos);
        self.write_nanos = self.write_nanos.saturating_add(other.write_nanos);
        self.flush_nanos = self.flush_nanos.saturating_add(other.flush_nanos);
        self.busy_since = if self.in_flight == 0 { other.busy_since } else { self.busy_since };
        self.in_flight += other.in_flight;
        self.busy_nanos = self.busy_nanos.max(other.busy_nanos);
    }
}

/// From `since` to `now`, in ns.
pub(super) const fn nanos(since: Instant, now: Instant) -> u64 {
    now.as_nanos().saturating_sub(since.as_nanos())
}
