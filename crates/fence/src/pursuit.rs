//! The pursuit of one lost instance: whom to ask to reset it, and when time alone ends it. A pure machine.
//!
//! It is told who could be a source, what they answered, what their logs say and when nothing of the life can leave the
//! host any more; it says whom to ask, whose log to read and when the life is over. The first proof wins. A success
//! without Immediate Reset Successful is no proof, an entry that was in the log before is no proof, and what is not
//! understood is no proof: then the next source is asked, until the one deadline. A life without one (KATO 0) is asked for
//! until it is fenced: what a source cannot do now it may be able to do in an hour, and another one may be connected.
//!
//! What is known of each source, and what follows from what it says, is the table in `via`, drawn in `docs/tables.md`.

use crate::Hold;
use crate::guards::{self as conditions, Guard};
use crate::hold_clock::HoldClock;
use crate::source::{Candidate, choose, ends_of};
use crate::via::{ViaEvent, ViaNext, ViaStage, note};
use crate::{CcrAttempt, CcrAttempts, CcrResult, Identity, LifeId, Method};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr::{Entry, State as EntryState};
use interlock_wire::status::Status;

/// A source that did not answer gets no less time than this before the next one is asked.
pub(crate) const PATIENCE_MIN: Duration = Duration::from_millis(20);
/// A log page is read at least this often while an entry is awaited.
const POLL_MAX: Duration = Duration::from_millis(100);
/// ... and not more often than this.
const POLL_MIN: Duration = Duration::from_millis(5);
/// Before a source that could not help is asked again: at first, and at most. In between it doubles.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// A reset that was begun and whose end is in no log is waited for alone for a tenth of the hold, but not shorter and not
/// longer than this. Then others are asked as well.
const BEGUN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The last look at a log page comes so long before the deadline.
const FINAL_READ: Duration = Duration::from_millis(20);

/// What the machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// Send CCR for the life through this source.
    Ccr(LifeId),
    /// Read the CCR log of this source, removing what is completed.
    ReadLog(LifeId),
    /// Purge the log of this source before it is used again.
    Purge(LifeId),
    /// Say where the raw clock stands: the hold begins or may have passed.
    RawClock,
}

/// Why a life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proof {
    pub(crate) method: Method,
    pub(crate) source: Option<LifeId>,
    pub(crate) at: Instant,
}

/// What is known of one source in this fence: its stage, and when something is to be done about it. What may follow what
/// is the table of [`ViaStage::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Via {
    Asked { patience: Instant },
    Overdue,
    Pending { patience: Instant, read_at: Instant },
    Elsewhere { again: Instant, read_at: Instant },
    Full { again: Instant },
    Spent { again: Instant },
}

impl Via {
    const fn stage(self) -> ViaStage {
        match self {
            Self::Asked { .. } => ViaStage::Asked,
            Self::Overdue => ViaStage::Overdue,
            Self::Pending { .. } => ViaStage::Pending,
            Self::Elsewhere { .. } => ViaStage::Elsewhere,
            Self::Full { .. } => ViaStage::Full,
            Self::Spent { .. } => ViaStage::Spent,
        }
    }
}

/// A source in this fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    via: Via,
    /// It has begun a reset of the life, whose end its log did not tell yet.
    began: bool,
    /// How often it could not help: how long it is left alone grows with that.
    failed: u32,
}

impl Known {
    const FRESH: Self = Self { via: Via::Spent { again: Instant::ZERO }, began: false, failed: 0 };

    /// How long it is left alone.
    fn pause(&self) -> Duration {
        (AGAIN.0 * (1 << self.failed.saturating_sub(1).min(8))).min(AGAIN.1)
    }
}

/// The fence of one life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pursuit {
    identity: Identity,
    hold: Hold,
    t0: Option<Instant>,
    /// Of the hold, from t0 on.
    clock: Option<HoldClock>,
    final_read: bool,
    /// Live sources that were asked.
    known: BTreeMap<LifeId, Known>,
    attempts: CcrAttempts,
    proof: Option<Proof>,
}

impl Pursuit {
    pub(crate) fn new(identity: Identity, hold: Hold) -> Self {
        Self {
            identity,
            hold,
            t0: None,
            clock: None,
            final_read: false,
            known: BTreeMap::new(),
            attempts: CcrAttempts::default(),
            proof: None,
        }
    }

    pub(crate) const fn proof(&self) -> Option<Proof> {
        self.proof
    }

    pub(crate) const fn hold(&self) -> Hold {
        self.hold
    }

    pub(crate) const fn t0(&self) -> Option<Instant> {
        self.t0
    }

    pub(crate) const fn attempts(&self) -> &CcrAttempts {
        &self.attempts
    }

    /// When time alone ends it; known from t0 on.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.clock.map(|clock| clock.deadline())
    }

    /// From `at` on nothing of the life can leave this host.
    pub(crate) fn handle_t0(&mut self, at: Instant) {
        self.t0 = Some(at);
        self.clock = self.hold.span().map(|hold| HoldClock::new(at, hold));
    }

    /// The raw clock stands at `raw`.
    pub(crate) fn handle_raw_clock(&mut self, now: Instant, raw: Instant) {
        if let Some(clock) = &mut self.clock {
            clock.handle_raw(now, raw);
        }
    }

    /// When the hold is to be looked at again.
    pub(crate) fn hold_due(&self) -> Option<Instant> {
        self.clock.filter(|_| self.proof.is_none())?.next_deadline()
    }

    fn poll_every(&self) -> Duration {
        self.hold.span().map_or(POLL_MAX, |hold| (hold / 50).clamp(POLL_MIN, POLL_MAX))
    }

    /// How long a reset that was begun is waited for before others are asked as well.
    fn begun_patience(&self) -> Duration {
        self.hold.span().map_or(BEGUN.1, |hold| (hold / 10).clamp(BEGUN.0, BEGUN.1))
    }

    /// Something happened to a source: the table says what follows. True if it is somewhere else now.
    fn step(&mut self, now: Instant, source: LifeId, event: ViaEvent, patience: Duration) -> bool {
        let mut known = self.known.get(&source).copied().unwrap_or(Known::FRESH);
        let stage = self.known.get(&source).map_or(ViaStage::Fresh, |known| known.via.stage());
        let every = self.poll_every();
        note(stage, event);
        let to = match stage.next(event) {
            ViaNext::Stays => return false,
            ViaNext::Proof => {
                let method = if event == ViaEvent::Immediate { Method::Immediate } else { Method::Log };
                self.prove(now, method, Some(source));
                return false;
            }
            ViaNext::To(to) => to,
        };
        if matches!(to, ViaStage::Spent | ViaStage::Full | ViaStage::Elsewhere) {
            known.failed = known.failed.saturating_add(1);
        }
        let again = now + known.pause();
        known.via = match to {
            ViaStage::Fresh => {
                self.known.remove(&source);
                return true;
            }
            ViaStage::Asked => Via::Asked { patience: now + patience },
            ViaStage::Overdue => Via::Overdue,
            ViaStage::Pending => Via::Pending { patience: now + self.begun_patience(), read_at: now + every },
            ViaStage::Elsewhere => Via::Elsewhere { again, read_at: now + every },
            // Once it is purged it may have room at once. If that did not help, it is left alone as any other.
            ViaStage::Full => Via::Full { again: if known.failed == 1 { now } else { again } },
            ViaStage::Spent => Via::Spent { again },
        };
        known.began |= event == ViaEvent::Begun;
        known.began &= event != ViaEvent::EntryFailed;
        self.known.insert(source, known);
        true
    }

    fn prove(&mut self, now: Instant, method: Method, source: Option<LifeId>) {
        if self.proof.is_none() {
            self.proof = Some(Proof { method, source, at: now });
        }
    }

    /// An operator declares the life over, without proof.
    pub(crate) fn handle_accepted(&mut self, now: Instant) {
        self.prove(now, Method::AcceptedRisk, None);
    }

    /// The controller, which is known to drain first, has said that it is disabled.
    pub(crate) fn handle_disabled(&mut self, now: Instant) {
        self.prove(now, Method::DrainedDisable, None);
    }

    /// What to do at `now`, given who could be a source. Each `Ask` is carried out at once by the caller.
    pub(crate) fn poll(&mut self, now: Instant, candidates: &[Candidate]) -> Vec<Ask> {
        let mut asks = Vec::new();
        if self.proof.is_some() {
            return asks;
        }
        if let Some(clock) = &mut self.clock {
            let deadline = clock.deadline();
            if clock.has_passed() {
                let method = if self.hold.is_assumed() { Method::Assumed } else { Method::Time };
                self.prove(now, method, None);
                return asks;
            }
            if clock.poll(now) {
                asks.push(Ask::RawClock);
            }
            if !self.final_read && now + FINAL_READ >= deadline {
                self.final_read = true;
                asks.extend(self.known.keys().map(|source| Ask::ReadLog(*source)));
            }
        }
        if !self.identity.is_reported() {
            return asks;
        }
        let every = self.poll_every();
        let late = self.known.iter().filter(|(_, known)| match known.via {
            Via::Asked { patience } | Via::Pending { patience, .. } => now >= patience,
            _ => false,
        });
        for source in late.map(|(source, _)| *source).collect::<Vec<_>>() {
            self.step(now, source, ViaEvent::NoAnswer, Duration::ZERO);
        }
        for (source, known) in &mut self.known {
            match &mut known.via {
                Via::Pending { read_at, .. } | Via::Elsewhere { read_at, .. } if now >= *read_at => {
                    *read_at = now + every;
                    asks.push(Ask::ReadLog(*source));
                }
                _ => {}
            }
        }
        asks.dedup();
        let busy = self.known.values().any(|known| matches!(known.via, Via::Asked { .. } | Via::Pending { .. }));
        if !busy && let Some(next) = self.next_source(now, candidates) {
            let patience = (next.latency_p99 * 4).max(PATIENCE_MIN);
            self.step(now, next.life, ViaEvent::Sent, patience);
            self.attempts.push(CcrAttempt { source: next.life, sent: now, result: CcrResult::Waiting });
            asks.push(Ask::Ccr(next.life));
        }
        asks
    }

    /// A source never asked first; else one that may be asked again.
    fn next_source(&self, now: Instant, candidates: &[Candidate]) -> Option<Candidate> {
        let fresh = choose(candidates.iter().filter(|c| !self.known.contains_key(&c.life)));
        fresh.or_else(|| {
            choose(candidates.iter().filter(|c| match self.known.get(&c.life).map(|known| known.via) {
                Some(Via::Full { again } | Via::Spent { again } | Via::Elsewhere { again, .. }) => now >= again,
                _ => false,
            }))
        })
    }

    /// When to poll again at the latest, after `now`; `None`: when something happens. A source that may be asked again
    /// and cannot serve now is no reason to wake up: whatever lets it serve is.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.proof.is_some() {
            return None;
        }
        let steps = self.known.values().flat_map(|known| match known.via {
            Via::Asked { patience } => [Some(patience), None],
            Via::Pending { patience, read_at } => [Some(patience), Some(read_at)],
            Via::Elsewhere { again, read_at } => [Some(again), Some(read_at)],
            Via::Full { again } | Via::Spent { again } => [Some(again), None],
            Via::Overdue => [None, None],
        });
        let last_look = self.deadline().filter(|_| !self.final_read && !self.known.is_empty()).map(|at| {
            Instant::from_nanos(at.as_nanos().saturating_sub(u64::try_from(FINAL_READ.as_nanos()).unwrap_or(0)))
        });
        steps.flatten().chain(last_look).filter(|at| *at > now).min()
    }

    /// CCR through `source` was completed.
    pub(crate) fn handle_ccr(&mut self, now: Instant, source: LifeId, status: Status, immediate: bool) -> Option<Ask> {
        let event = if status.is_success() && immediate {
            ViaEvent::Immediate
        } else if status.is_success() {
            ViaEvent::Begun
        } else if status.is(Status::CCR_IN_PROGRESS) {
            ViaEvent::InProgress
        } else if status.is(Status::CCR_LOG_FULL) {
            ViaEvent::LogFull
        } else if status.is(Status::CCR_LIMIT_EXCEEDED) {
            ViaEvent::Limit
        } else {
            ViaEvent::Refused
        };
        self.attempts.note(
            source,
            match event {
                ViaEvent::Immediate => CcrResult::Immediate,
                ViaEvent::Begun => CcrResult::Accepted,
                _ => CcrResult::Refused(status),
            },
        );
        if !self.step(now, source, event, Duration::ZERO) {
            return None;
        }
        match event {
            // The event may have been sent before this answer: look at once.
            ViaEvent::Begun | ViaEvent::InProgress => Some(Ask::ReadLog(source)),
            ViaEvent::LogFull => Some(Ask::Purge(source)),
            _ => None,
        }
    }

    /// CCR could not even be handed to `source`.
    pub(crate) fn handle_not_sent(&mut self, now: Instant, source: LifeId) {
        self.step(now, source, ViaEvent::NotSent, Duration::ZERO);
        self.attempts.take_back(source);
    }

    /// The log of `source` was read after it had answered a CCR. The caller has made sure that no entry of the same name
    /// was there when that was sent; if one came meanwhile, it stands beside that of the reset under way.
    pub(crate) fn handle_log(&mut self, now: Instant, source: LifeId, entries: &[Entry]) {
        let Some(known) = self.known.get(&source).copied() else { return };
        let stage = known.via.stage();
        if stage.next(ViaEvent::EntryFailed) == ViaNext::Stays {
            return;
        }
        // "In progress" may be the doing of another source, whose log tells. Of what this one did not begin itself an
        // entry here says nothing: it may be of an earlier life.
        if stage == ViaStage::Elsewhere && !known.began && conditions::enabled(Guard::OwnEntriesOnly) {
            return;
        }
        let name = (self.identity.cntlid, self.identity.ciu);
        let ends = || ends_of(entries, name).filter(|state| *state != EntryState::InProgress);
        // Of several ends one is older, and nothing says which. A failure among them may be that of this reset.
        let failed = ends().find(|state| *state != EntryState::Success);
        // That an old end was looked for before is a net by itself: whoever cuts it cuts this one, too.
        let nets = conditions::enabled(Guard::ReturnedEntriesCount) && conditions::enabled(Guard::StaleEntryBars);
        let failed = failed.filter(|_| nets);
        let Some(end) = failed.or_else(|| ends().next()) else { return };
        match if conditions::enabled(Guard::LogSuccessOnly) { end } else { EntryState::Success } {
            EntryState::InProgress => {}
            EntryState::Success => {
                self.attempts.note(source, CcrResult::LogSuccess);
                self.step(now, source, ViaEvent::EntrySuccess, Duration::ZERO);
            }
            EntryState::Failed | EntryState::Reserved(_) => {
                let code = if let EntryState::Reserved(code) = end { code } else { 2 };
                self.attempts.note(source, CcrResult::LogFailed(code));
                self.step(now, source, ViaEvent::EntryFailed, Duration::ZERO);
            }
        }
    }

    /// `source` is no longer live: what was asked of it will not be answered (`healthy_paths_undisturbed` has nothing
    /// to say here; the next `poll` asks another). A life that is over never comes back, so it is forgotten.
    pub(crate) fn handle_source_lost(&mut self, now: Instant, source: LifeId) {
        let unanswered = self.known.get(&source).is_some_and(|known| {
            matches!(known.via, Via::Asked { .. } | Via::Overdue | Via::Pending { .. }) || known.began
        });
        if self.step(now, source, ViaEvent::Lost, Duration::ZERO) && unanswered {
            self.attempts.note(source, CcrResult::SourceLost);
        }
    }
}

#[cfg(test)]
#[path = "pursuit_tests.rs"]
mod tests;
