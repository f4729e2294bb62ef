//! The fence of one condemned life: a pure machine.
//!
//! It is told who could be a source, what they answered, what their logs say and when nothing of the life can leave the
//! host any more; it says whom to ask, whose log to read and when the life is over. The first proof wins. A success
//! without Immediate Reset Successful is no proof, an entry that was in the log before is no proof, and what is not
//! understood is no proof: then the next source is asked, until the one deadline.
//!
//! What is known of each source, and what follows from what it says, is the table in `via`, drawn in `docs/tables.md`.

use super::source::{Candidate, choose, ends_of};
use super::via::{ViaEvent, ViaNext, ViaStage};
use crate::guards::{self as conditions, Guard};
use crate::{CcrAttempt, CcrResult, Identity, LifeId, Method};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr::{Entry, State as EntryState};
use interlock_wire::status::Status;

/// A source that did not answer gets no less time than this before the next one is asked.
pub(super) const PATIENCE_MIN: Duration = Duration::from_millis(20);
/// A log page is read at least this often while an entry is awaited.
const POLL_MAX: Duration = Duration::from_millis(100);
/// ... and not more often than this.
const POLL_MIN: Duration = Duration::from_millis(5);
/// Before a source that could not help is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// The last look at a log page comes so long before the deadline.
const FINAL_READ: Duration = Duration::from_millis(20);
/// CCR commands kept in the receipt of one life.
const MAX_ATTEMPTS: usize = 64;

/// What the machine wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// Send CCR for the life through this source.
    Ccr(LifeId),
    /// Read the CCR log of this source, removing what is completed.
    ReadLog(LifeId),
    /// Purge the log of this source before it is used again.
    Purge(LifeId),
}

/// Why a life is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proof {
    pub(super) method: Method,
    pub(super) source: Option<LifeId>,
    pub(super) at: Instant,
}

/// How long a life must be held if nobody resets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hold {
    /// So long after t0, by what the target states.
    Stated(Duration),
    /// So long after t0, if the target quiesces within the assumed time.
    Assumed { hold: Duration, cqt: Duration },
    /// KATO is 0: time proves nothing.
    Unbounded,
}

impl Hold {
    pub(super) const fn span(self) -> Option<Duration> {
        match self {
            Self::Stated(hold) | Self::Assumed { hold, .. } => Some(hold),
            Self::Unbounded => None,
        }
    }

    pub(super) const fn assumed(self) -> Option<Duration> {
        match self {
            Self::Assumed { cqt, .. } => Some(cqt),
            Self::Stated(_) | Self::Unbounded => None,
        }
    }
}

/// What is known of one source in this fence: its stage, and when something is to be done about it. What may follow what
/// is the table of [`ViaStage::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Via {
    Asked { patience: Instant },
    Overdue,
    Pending { read_at: Instant },
    Elsewhere { again: Instant, read_at: Instant },
    Full { again: Instant },
    Spent { again: Instant },
    Out,
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
            Self::Out => ViaStage::Out,
        }
    }
}

/// The fence of one life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fence {
    identity: Identity,
    hold: Hold,
    t0: Option<Instant>,
    final_read: bool,
    via: BTreeMap<LifeId, Via>,
    full_once: Vec<LifeId>,
    attempts: Vec<CcrAttempt>,
    proof: Option<Proof>,
}

impl Fence {
    pub(super) const fn new(identity: Identity, hold: Hold) -> Self {
        Self {
            identity,
            hold,
            t0: None,
            final_read: false,
            via: BTreeMap::new(),
            full_once: Vec::new(),
            attempts: Vec::new(),
            proof: None,
        }
    }

    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    pub(super) const fn proof(&self) -> Option<Proof> {
        self.proof
    }

    pub(super) const fn hold(&self) -> Hold {
        self.hold
    }

    pub(super) const fn t0(&self) -> Option<Instant> {
        self.t0
    }

    pub(super) fn attempts(&self) -> &[CcrAttempt] {
        &self.attempts
    }

    /// When time alone ends it; known from t0 on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.t0? + self.hold.span()?)
    }

    /// From `at` on nothing of the life can leave this host.
    pub(super) fn handle_t0(&mut self, at: Instant) {
        self.t0 = Some(at);
    }

    fn poll_every(&self) -> Duration {
        self.hold.span().map_or(POLL_MAX, |hold| (hold / 50).clamp(POLL_MIN, POLL_MAX))
    }

    /// Something happened to a source: the table says what follows. True if it is somewhere else now.
    fn step(&mut self, now: Instant, source: LifeId, event: ViaEvent, patience: Duration) -> bool {
        let stage = self.via.get(&source).map_or(ViaStage::Fresh, |via| via.stage());
        let every = self.poll_every();
        let to = match stage.next(event) {
            ViaNext::Stays => return false,
            ViaNext::Proof => {
                let method = if event == ViaEvent::Immediate { Method::Immediate } else { Method::Log };
                self.prove(now, method, Some(source));
                return false;
            }
            ViaNext::To(ViaStage::Fresh) => {
                self.via.remove(&source);
                return true;
            }
            ViaNext::To(ViaStage::Asked) => Via::Asked { patience: now + patience },
            ViaNext::To(ViaStage::Overdue) => Via::Overdue,
            ViaNext::To(ViaStage::Pending) => Via::Pending { read_at: now + every },
            ViaNext::To(ViaStage::Elsewhere) => Via::Elsewhere { again: now + AGAIN, read_at: now + every },
            ViaNext::To(ViaStage::Full) => Via::Full { again: now },
            ViaNext::To(ViaStage::Spent) => Via::Spent { again: now + AGAIN },
            ViaNext::To(ViaStage::Out) => Via::Out,
        };
        self.via.insert(source, to);
        true
    }

    fn note(&mut self, source: LifeId, result: CcrResult) {
        if let Some(attempt) = self.attempts.iter_mut().rev().find(|attempt| attempt.source == source) {
            attempt.result = result;
        }
    }

    fn prove(&mut self, now: Instant, method: Method, source: Option<LifeId>) {
        if self.proof.is_none() {
            self.proof = Some(Proof { method, source, at: now });
        }
    }

    /// Somebody takes it upon himself.
    pub(super) fn handle_accepted(&mut self, now: Instant) {
        self.prove(now, Method::AcceptedRisk, None);
    }

    /// The controller, which is known to drain first, has said that it is disabled.
    pub(super) fn handle_disabled(&mut self, now: Instant) {
        self.prove(now, Method::DrainedDisable, None);
    }

    /// What to do at `now`, given who could be a source. Each `Ask` is carried out at once by the caller.
    pub(super) fn poll(&mut self, now: Instant, candidates: &[Candidate]) -> Vec<Ask> {
        let mut asks = Vec::new();
        if self.proof.is_some() {
            return asks;
        }
        if let Some(deadline) = self.deadline() {
            if now >= deadline {
                let method = if self.hold.assumed().is_some() { Method::Assumed } else { Method::Time };
                self.prove(now, method, None);
                return asks;
            }
            if !self.final_read && now + FINAL_READ >= deadline {
                self.final_read = true;
                asks.extend(
                    self.via
                        .iter()
                        .filter(|(_, via)| !matches!(via, Via::Out))
                        .map(|(source, _)| Ask::ReadLog(*source)),
                );
            }
        }
        if !self.identity.is_reported() {
            return asks;
        }
        let every = self.poll_every();
        let late = self.via.iter().filter(|(_, via)| matches!(via, Via::Asked { patience } if now >= *patience));
        for source in late.map(|(source, _)| *source).collect::<Vec<_>>() {
            self.step(now, source, ViaEvent::NoAnswer, Duration::ZERO);
        }
        for (source, via) in &mut self.via {
            match via {
                Via::Pending { read_at } | Via::Elsewhere { read_at, .. } if now >= *read_at => {
                    *read_at = now + every;
                    asks.push(Ask::ReadLog(*source));
                }
                _ => {}
            }
        }
        asks.dedup();
        let busy = self.via.values().any(|via| matches!(via, Via::Asked { .. } | Via::Pending { .. }));
        if !busy
            && let Some(next) = self.next_source(now, candidates)
            && self.attempts.len() < MAX_ATTEMPTS
        {
            let patience = (next.latency_p99 * 4).max(PATIENCE_MIN);
            self.step(now, next.life, ViaEvent::Sent, patience);
            self.attempts.push(CcrAttempt { source: next.life, sent: now, result: CcrResult::Waiting });
            asks.push(Ask::Ccr(next.life));
        }
        asks
    }

    /// A source never asked first; else one that may be asked again.
    fn next_source(&self, now: Instant, candidates: &[Candidate]) -> Option<Candidate> {
        let fresh = choose(candidates.iter().filter(|c| !self.via.contains_key(&c.life)));
        fresh.or_else(|| {
            choose(candidates.iter().filter(|c| match self.via.get(&c.life) {
                Some(Via::Full { again } | Via::Spent { again } | Via::Elsewhere { again, .. }) => now >= *again,
                _ => false,
            }))
        })
    }

    /// When to poll again at the latest, after `now`; `None`: when something happens. A source that may be asked again
    /// and cannot serve now is no reason to wake up: whatever lets it serve is.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if self.proof.is_some() {
            return None;
        }
        let steps = self.via.values().flat_map(|via| match *via {
            Via::Asked { patience } => [Some(patience), None],
            Via::Pending { read_at } => [Some(read_at), None],
            Via::Elsewhere { again, read_at } => [Some(again), Some(read_at)],
            Via::Full { again } | Via::Spent { again } => [Some(again), None],
            Via::Overdue | Via::Out => [None, None],
        });
        let last_look = self.deadline().filter(|_| !self.final_read && !self.via.is_empty()).map(|at| {
            Instant::from_nanos(at.as_nanos().saturating_sub(u64::try_from(FINAL_READ.as_nanos()).unwrap_or(0)))
        });
        steps.flatten().chain(last_look).filter(|at| *at > now).min()
    }

    /// CCR through `source` was completed.
    pub(super) fn handle_ccr(&mut self, now: Instant, source: LifeId, status: Status, immediate: bool) -> Option<Ask> {
        let event = if status.is_success() && immediate {
            ViaEvent::Immediate
        } else if status.is_success() {
            ViaEvent::Begun
        } else if status.is(Status::CCR_IN_PROGRESS) {
            ViaEvent::InProgress
        } else if status.is(Status::CCR_LOG_FULL) && !self.full_once.contains(&source) {
            ViaEvent::LogFull
        } else if status.is(Status::CCR_LIMIT_EXCEEDED) {
            ViaEvent::Limit
        } else {
            ViaEvent::Refused
        };
        self.note(
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
            ViaEvent::LogFull => {
                self.full_once.push(source);
                Some(Ask::Purge(source))
            }
            _ => None,
        }
    }

    /// CCR could not even be handed to `source`.
    pub(super) fn handle_not_sent(&mut self, now: Instant, source: LifeId) {
        self.step(now, source, ViaEvent::NotSent, Duration::ZERO);
        self.attempts.pop_if(|attempt| attempt.source == source && attempt.result == CcrResult::Waiting);
    }

    /// The log of `source` was read after it had answered a CCR. The caller has made sure that no entry of the same name
    /// was there when that was sent; if one came meanwhile, it stands beside that of the reset under way.
    pub(super) fn handle_log(&mut self, now: Instant, source: LifeId, entries: &[Entry]) {
        let Some(stage) = self.via.get(&source).map(|via| via.stage()) else { return };
        if stage.next(ViaEvent::EntryFailed) == ViaNext::Stays {
            return;
        }
        // "In progress" may be the doing of another source, whose log tells. Of what this one did not begin itself an
        // entry here says nothing: it may be of an earlier life.
        let began = self.attempts.iter().any(|asked| asked.source == source && asked.result == CcrResult::Accepted);
        if stage == ViaStage::Elsewhere && !began && conditions::enabled(Guard::OwnEntriesOnly) {
            return;
        }
        let name = (self.identity.cntlid, self.identity.ciu);
        for state in ends_of(entries, name) {
            let state = if conditions::enabled(Guard::LogSuccessOnly) { state } else { EntryState::Success };
            match state {
                EntryState::InProgress => {}
                EntryState::Success => {
                    self.note(source, CcrResult::LogSuccess);
                    self.step(now, source, ViaEvent::EntrySuccess, Duration::ZERO);
                }
                EntryState::Failed | EntryState::Reserved(_) => {
                    let code = if let EntryState::Reserved(code) = state { code } else { 2 };
                    self.note(source, CcrResult::LogFailed(code));
                    self.step(now, source, ViaEvent::EntryFailed, Duration::ZERO);
                }
            }
        }
    }

    /// `source` is no longer live: what was asked of it will not be answered (`healthy_paths_undisturbed` has nothing
    /// to say here; the next `poll` asks another).
    pub(super) fn handle_source_lost(&mut self, now: Instant, source: LifeId) {
        let unanswered = matches!(self.via.get(&source), Some(Via::Asked { .. } | Via::Overdue | Via::Pending { .. }));
        if self.step(now, source, ViaEvent::Lost, Duration::ZERO) && unanswered {
            self.note(source, CcrResult::SourceLost);
        }
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
