//! Health and errors, as log pages.
//!
//! Lanes are asked when a host wants to know ([`crate::health`]); the host is answered when all have said what they know, or
//! after a moment with what is known. Hosts can want to know as often as they like, so a lane is asked one question at a time: what
//! it says serves all who asked before it was asked, and those who asked later make it be asked once more. However many wait,
//! few are answered at once.
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

/// Hosts that are answered at once; others wait for [`SOON`].
const AT_ONCE: usize = 64;
const SOON: Duration = Duration::from_millis(1);

/// A Get Log Page that waits for the lanes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    key: ControllerKey,
    slot: u16,
    get: GetLog,
    /// When to answer it at the latest.
    due: Instant,
}

/// What a lane was asked. Questions have numbers, and a ticket is the number of the first that it does not serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Asked {
    /// The ticket under way.
    ticket: Option<u64>,
    /// The last one that was answered.
    answered: u64,
}

/// What is known of health and errors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Health {
    /// When this machine was first told anything.
    since: Option<Instant>,
    counters: BTreeMap<SubsystemId, Counters>,
    /// By number: in the order in which they came, and are due.
    questions: BTreeMap<u64, Question>,
    by_controller: BTreeSet<(ControllerKey, u64)>,
    next_question: u64,
    lanes: BTreeMap<LaneId, Asked>,
}

impl Health {
    fn ask(&mut self, question: Question) {
        self.by_controller.insert((question.key, self.next_question));
        self.questions.insert(self.next_question, question);
        self.next_question += 1;
    }

    /// The ticket to ask a lane with, if it has to be asked.
    fn ticket(&mut self, lane: LaneId) -> Option<u64> {
        let asked = self.lanes.entry(lane).or_default();
        let wants = self.questions.last_key_value().is_some_and(|(number, _)| *number >= asked.answered);
        if asked.ticket.is_some() || !wants {
            return None;
        }
        asked.ticket = Some(self.next_question);
        asked.ticket
    }

    /// When the first question can be answered: at once if all lanes have said what they know.
    fn first(&self) -> Option<Option<Instant>> {
        let (number, question) = self.questions.first_key_value()?;
        let told = self.lanes.values().all(|asked| *number < asked.answered);
        Some(Some(question.due).filter(|_| !told))
    }

    /// When to go on with answers.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.first().map(|due| due.unwrap_or(now).max(now + SOON))
    }

    /// The first question, if it can be answered now.
    fn pop(&mut self, now: Instant) -> Option<Question> {
        if self.first()?.is_some_and(|due| now < due) {
            return None;
        }
        let (number, question) = self.questions.pop_first()?;
        self.by_controller.remove(&(question.key, number));
        Some(question)
    }

    /// Forgets what a controller wants to know, and names its commands.
    fn forget(&mut self, key: ControllerKey) -> Vec<u16> {
        let mine: Vec<_> = self.by_controller.range((key, 0)..=(key, u64::MAX)).copied().collect();
        let dropped = mine.into_iter().filter_map(|known| {
            self.by_controller.remove(&known);
            self.questions.remove(&known.1)
        });
        dropped.map(|question| question.slot).collect()
    }
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
        self.health.ask(Question { key, slot, get, due: now + LANES_WITHIN });
        for lane in self.lanes() {
            self.ask_lane(lane);
        }
        self.timers.set_earliest(Why::Health, now + LANES_WITHIN);
    }

    fn ask_lane(&mut self, lane: LaneId) {
        if let Some(ticket) = self.health.ticket(lane) {
            self.to(lane, ToLane::Report { ticket });
        }
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
        let asked = self.health.lanes.entry(lane).or_default();
        asked.ticket = None;
        asked.answered = asked.answered.max(ticket);
        self.answer_questions(now);
        self.ask_lane(lane);
    }

    fn owner(&mut self, life: crate::LifeId) -> Option<&mut super::controller::Controller> {
        let key = self.lives.get(&life)?.controller?;
        self.controllers.get_mut(&key)
    }

    /// Answers those who wait for the lanes, as far as they need not wait for them any more.
    pub(super) fn answer_questions(&mut self, now: Instant) {
        for _ in 0..AT_ONCE {
            let Some(Question { key, slot, get, .. }) = self.health.pop(now) else { break };
            match self.get_log(now, key, &get) {
                Ok(page) => self.answer(key, slot, Status::SUCCESS, 0, 0, page),
                Err(status) => self.answer(key, slot, status, 0, 0, Vec::new()),
            }
            self.tell(key);
        }
        match self.health.next(now) {
            Some(at) => self.timers.set(Why::Health, at),
            None => self.timers.stop(Why::Health),
        }
    }

    /// A controller is reset or gone: what it asked for is answered no more. Names the commands.
    pub(super) fn drop_questions(&mut self, key: ControllerKey) -> Vec<u16> {
        self.health.forget(key)
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
