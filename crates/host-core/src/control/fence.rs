//! The fence of one condemned life: a pure machine.
//!
//! It is told who could be a source, what they answered, what their logs say and when nothing of the life can leave the
//! host any more; it says whom to ask, whose log to read and when the life is over. The first proof wins. A success
//! without Immediate Reset Successful is no proof, an entry that was in the log before is no proof, and what is not
//! understood is no proof: then the next source is asked, until the one deadline.
//!
//! What is known of one Cross-Controller Reset command:
//!
//! ```text
//! asked -- success, IRS=1 --------------------------------> proof
//!   |----- success, IRS=0 --> pending -- entry: success --> proof
//!   |                            +------ entry: other ----> spent (again if nobody else is left)
//!   |----- 13Fh in progress -> elsewhere: read its log, ask again, ask others
//!   |----- 140h log full ----> full: purge, ask once more, then out
//!   |----- 141h limit -------> spent, may be asked again later
//!   |----- any other status -> out for this fence
//!   |----- no CQE in time ---> overdue: stays valid, the next source is asked
//!   +----- source lost ------> out
//! ```

use super::source::{Candidate, choose, ends_of};
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

/// What is known of one source in this fence.
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
        for (source, via) in &mut self.via {
            match via {
                Via::Asked { patience } if now >= *patience => *via = Via::Overdue,
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
            self.via.insert(next.life, Via::Asked { patience: now + patience });
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
        if status.is_success() {
            if immediate {
                self.note(source, CcrResult::Immediate);
                self.prove(now, Method::Immediate, Some(source));
                return None;
            }
            self.note(source, CcrResult::Accepted);
            // The event may have been sent before this answer: look at once.
            self.via.insert(source, Via::Pending { read_at: now + self.poll_every() });
            return Some(Ask::ReadLog(source));
        }
        self.note(source, CcrResult::Refused(status));
        if status.is(Status::CCR_IN_PROGRESS) {
            self.via.insert(source, Via::Elsewhere { again: now + AGAIN, read_at: now + self.poll_every() });
            return Some(Ask::ReadLog(source));
        }
        if status.is(Status::CCR_LOG_FULL) && !self.full_once.contains(&source) {
            self.full_once.push(source);
            self.via.insert(source, Via::Full { again: now });
            return Some(Ask::Purge(source));
        }
        let spent = status.is(Status::CCR_LIMIT_EXCEEDED);
        self.via.insert(source, if spent { Via::Spent { again: now + AGAIN } } else { Via::Out });
        None
    }

    /// CCR could not even be handed to `source`.
    pub(super) fn handle_not_sent(&mut self, now: Instant, source: LifeId) {
        self.via.insert(source, Via::Spent { again: now + AGAIN });
        self.attempts.pop_if(|attempt| attempt.source == source && attempt.result == CcrResult::Waiting);
    }

    /// The log of `source` was read after it had answered a CCR. The caller has made sure that no entry of the same name
    /// was there when that was sent; if one came meanwhile, it stands beside that of the reset under way.
    pub(super) fn handle_log(&mut self, now: Instant, source: LifeId, entries: &[Entry]) {
        if !matches!(
            self.via.get(&source),
            Some(Via::Asked { .. } | Via::Overdue | Via::Pending { .. } | Via::Elsewhere { .. })
        ) {
            return;
        }
        // "In progress" may be the doing of another source, whose log tells. Of what this one did not begin itself an
        // entry here says nothing: it may be of an earlier life.
        let began = self.attempts.iter().any(|asked| asked.source == source && asked.result == CcrResult::Accepted);
        if matches!(self.via.get(&source), Some(Via::Elsewhere { .. }))
            && !began
            && conditions::enabled(Guard::OwnEntriesOnly)
        {
            return;
        }
        let name = (self.identity.cntlid, self.identity.ciu);
        for state in ends_of(entries, name) {
            let state = if conditions::enabled(Guard::LogSuccessOnly) { state } else { EntryState::Success };
            match state {
                EntryState::InProgress => {}
                EntryState::Success => {
                    self.note(source, CcrResult::LogSuccess);
                    self.prove(now, Method::Log, Some(source));
                }
                EntryState::Failed | EntryState::Reserved(_) => {
                    let code = if let EntryState::Reserved(code) = state { code } else { 2 };
                    self.note(source, CcrResult::LogFailed(code));
                    self.via.insert(source, Via::Spent { again: now + AGAIN });
                }
            }
        }
    }

    /// `source` is no longer live: what was asked of it will not be answered (`healthy_paths_undisturbed` has nothing
    /// to say here; the next `poll` asks another).
    pub(super) fn handle_source_lost(&mut self, source: LifeId) {
        if let Some(via) = self.via.get_mut(&source) {
            let unanswered = matches!(via, Via::Asked { .. } | Via::Overdue | Via::Pending { .. });
            *via = Via::Out;
            if unanswered {
                self.note(source, CcrResult::SourceLost);
            }
        }
    }
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
