//! Health and errors, as log pages.
//!
//! Lanes are asked when a host wants to know ([`crate::health`]); the host is answered when all have said what they know, or
//! after a moment with what is known.
//!
//! NVM Express Base Specification, "SMART / Health Information log page", "Error Information log page".

use super::controller::{ControllerKey, Kind};
use super::{Control, Why};
use crate::health::{Counters, ERRORS_MAX, Failure, Report};
use crate::message::ToLane;
use crate::{LaneId, SubsystemId};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::IntoBytes;
use interlock_wire::admin::GetLog;
use interlock_wire::log::{ErrorEntry, Smart};
use interlock_wire::status::Status;

/// How long an answer waits for the lanes.
const LANES_WITHIN: Duration = Duration::from_millis(100);

/// Room temperature, in kelvin.
const TEMPERATURE: u16 = 298;

/// TRTYPE of TCP.
const TCP: u8 = 3;

/// PARMLOC: no byte of the command is known to be wrong.
const NOWHERE: u16 = 0xFFFF;

/// A Get Log Page that waits for the lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    key: ControllerKey,
    slot: u16,
    get: GetLog,
    ticket: u64,
    waiting: BTreeSet<LaneId>,
}

/// What is known of health and errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Health {
    /// When this machine was first told anything.
    since: Option<Instant>,
    counters: BTreeMap<SubsystemId, Counters>,
    questions: Vec<Question>,
    next_ticket: u64,
}

/// The error log of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Errors {
    /// Errors that it ever had.
    total: u64,
    /// The last ones with their numbers, the newest first.
    last: VecDeque<(u64, Failure)>,
}

impl Errors {
    pub(super) fn note(&mut self, failure: Failure) {
        self.total += 1;
        self.last.push_front((self.total, failure));
        self.last.truncate(ERRORS_MAX);
    }

    /// The log page: the newest error first.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> =
            self.last.iter().flat_map(|(count, failure)| entry(*count, failure).as_bytes().to_vec()).collect();
        page.resize(ERRORS_MAX * size_of::<ErrorEntry>(), 0);
        page
    }
}

fn entry(count: u64, failure: &Failure) -> ErrorEntry {
    let mut entry = ErrorEntry { trtype: TCP, opcode: failure.opcode, version: 1, ..ErrorEntry::default() };
    entry.count.set(count);
    entry.sqid.set(failure.qid);
    entry.cid.set(failure.cid);
    // As in a completion queue entry, where the phase tag is bit 0.
    entry.status.set(failure.status.0 << 1);
    entry.location.set(NOWHERE);
    entry.lba.set(failure.lba);
    entry.nsid.set(failure.nsid);
    entry
}

impl Control {
    pub(super) fn note_time(&mut self, now: Instant) {
        self.health.since.get_or_insert(now);
    }

    /// A host wants a page for which the lanes must be asked.
    pub(super) fn ask_lanes(&mut self, now: Instant, key: ControllerKey, slot: u16, get: GetLog) {
        let ticket = self.health.next_ticket;
        self.health.next_ticket += 1;
        let waiting = self.lanes().collect();
        self.health.questions.push(Question { key, slot, get, ticket, waiting });
        self.timers.set_earliest(Why::Health(key), now + LANES_WITHIN);
        self.broadcast(&ToLane::Report { ticket });
    }

    /// A lane says what happened there.
    pub(super) fn handle_report(&mut self, now: Instant, lane: LaneId, ticket: u64, report: Report) {
        for (subsystem, counters) in &report.counters {
            self.health.counters.entry(*subsystem).or_default().add(counters);
        }
        for (life, count) in report.forgotten {
            if let Some(controller) = self.owner(life) {
                controller.errors.total += count;
            }
        }
        for failure in report.failures {
            if let Some(controller) = failure.life.and_then(|life| self.owner(life)) {
                controller.errors.note(failure);
            }
        }
        for question in &mut self.health.questions {
            if question.ticket <= ticket {
                question.waiting.remove(&lane);
            }
        }
        self.answer_questions(now, |question| question.waiting.is_empty());
    }

    fn owner(&mut self, life: crate::LifeId) -> Option<&mut super::controller::Controller> {
        let key = self.lives.get(&life)?.controller?;
        self.controllers.get_mut(&key)
    }

    /// The lanes took too long: a host is answered with what is known.
    pub(super) fn answer_without_lanes(&mut self, now: Instant, key: ControllerKey) {
        self.answer_questions(now, |question| question.key == key);
    }

    fn answer_questions(&mut self, now: Instant, over: impl Fn(&Question) -> bool) {
        let questions = core::mem::take(&mut self.health.questions);
        let (answered, left): (Vec<Question>, Vec<Question>) = questions.into_iter().partition(over);
        self.health.questions = left;
        for Question { key, slot, get, .. } in answered {
            if !self.health.questions.iter().any(|question| question.key == key) {
                self.timers.stop(Why::Health(key));
            }
            match self.get_log(now, key, &get) {
                Ok(page) => self.answer(key, slot, Status::SUCCESS, 0, 0, page),
                Err(status) => self.answer(key, slot, status, 0, 0, Vec::new()),
            }
            self.tell(key);
        }
    }

    /// A controller is reset or gone: what it asked for is answered no more. Names the commands.
    pub(super) fn drop_questions(&mut self, key: ControllerKey) -> Vec<u16> {
        self.timers.stop(Why::Health(key));
        let questions = core::mem::take(&mut self.health.questions);
        let (dropped, left): (Vec<Question>, Vec<Question>) = questions.into_iter().partition(|known| known.key == key);
        self.health.questions = left;
        dropped.into_iter().map(|question| question.slot).collect()
    }

    /// Log 02h. Counted since the target was started.
    pub(super) fn smart(&self, now: Instant, key: ControllerKey) -> Smart {
        let mut page = Smart { available_spare: 100, spare_threshold: 10, ..Smart::default() };
        page.temperature.set(TEMPERATURE);
        let Some(controller) = self.controllers.get(&key) else { return page };
        let Kind::Io(subsystem) = controller.kind else { return page };
        let counters = self.health.counters.get(&subsystem).copied().unwrap_or_default();
        // In thousands of 512 bytes, rounded up.
        let units = |bytes: u64| u128::from(bytes.div_ceil(512_000));
        page.data_units_read.set(units(counters.bytes_read));
        page.data_units_written.set(units(counters.bytes_written));
        page.host_reads.set(counters.reads.into());
        page.host_writes.set(counters.writes.into());
        page.media_errors.set(counters.media_errors.into());
        page.error_entries.set(controller.errors.total.into());
        page.power_cycles.set(1);
        let on = self.health.since.map_or(Duration::ZERO, |since| now.since(since));
        page.power_on_hours.set((on.as_secs() / 3600).into());
        page
    }
}
