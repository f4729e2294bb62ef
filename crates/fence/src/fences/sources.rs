//! Through whom lost instances are reset: the sources that are there, what their logs hold, and what they answer.

use super::{Fences, Step};
use crate::door::{Output, SourceFacts, Told};
use crate::guards::{self as conditions, Guard};
use crate::pursuit::Ask;
use crate::source::{Candidate, Source};
use crate::{FencedBy, Identity, LifeId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::ccr::Entry;
use interlock_wire::nqn::Nqn;
use interlock_wire::status::Status;

/// Whether the log of a source is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LogRead {
    Idle,
    Reading,
    /// And once more after that.
    Again,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    facts: SourceFacts,
    is_live: bool,
    log: Source,
    reads: LogRead,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Sources {
    all: BTreeMap<LifeId, Known>,
    by_subsystem: BTreeMap<Nqn, BTreeSet<LifeId>>,
}

impl Sources {
    fn insert(&mut self, facts: SourceFacts) {
        self.by_subsystem.entry(facts.subnqn.clone()).or_default().insert(facts.life);
        let log = Source::new(facts.ccrl);
        self.all.insert(facts.life, Known { facts, is_live: false, log, reads: LogRead::Idle });
    }

    pub(super) fn remove(&mut self, source: LifeId) {
        let Some(known) = self.all.remove(&source) else { return };
        if let Some(kin) = self.by_subsystem.get_mut(&known.facts.subnqn) {
            kin.remove(&source);
            if kin.is_empty() {
                self.by_subsystem.remove(&known.facts.subnqn);
            }
        }
    }

    pub(super) fn subsystem(&self, source: LifeId) -> Option<&Nqn> {
        self.all.get(&source).map(|known| &known.facts.subnqn)
    }

    pub(super) fn live_of(&self, subnqn: &Nqn) -> Vec<LifeId> {
        self.live(subnqn).map(|known| known.facts.life).collect()
    }

    fn live<'a>(&'a self, subnqn: &Nqn) -> impl Iterator<Item = &'a Known> + use<'a> {
        let kin = self.by_subsystem.get(subnqn).into_iter().flatten();
        kin.filter_map(|source| self.all.get(source)).filter(|known| known.is_live)
    }

    pub(super) fn named(&self, source: LifeId) -> Option<FencedBy> {
        let SourceFacts { life, ctrl, identity, addr, .. } = self.all.get(&source)?.facts;
        Some(FencedBy { ctrl, life, identity, addr })
    }

    pub(super) fn handle_up(&mut self, source: LifeId) {
        if let Some(known) = self.all.get_mut(&source) {
            known.is_live = true;
        }
    }

    pub(super) fn handle_down(&mut self, source: LifeId) {
        if let Some(known) = self.all.get_mut(&source) {
            known.is_live = false;
        }
    }

    pub(super) fn handle_latency(&mut self, source: LifeId, latency: Duration) {
        if let Some(known) = self.all.get_mut(&source) {
            known.log.add_latency(latency);
        }
    }

    pub(super) fn handle_sent(&mut self, source: LifeId, name: (u16, u8), life: LifeId) {
        if let Some(known) = self.all.get_mut(&source) {
            known.log.handle_sent(name, life);
        }
    }

    pub(super) fn handle_log_not_sent(&mut self, source: LifeId) {
        if let Some(known) = self.all.get_mut(&source) {
            known.reads = LogRead::Idle;
            known.log.handle_not_read();
        }
    }

    pub(super) fn handle_fence_over(&mut self, source: LifeId, life: LifeId) {
        if let Some(known) = self.all.get_mut(&source) {
            known.log.handle_fence_over(life);
        }
    }

    /// The name of the newest instance of the same path as `life`, this one or another that is known.
    fn newest(&self, life: LifeId, lost: &BTreeMap<LifeId, crate::fencing::Instance>) -> Option<Identity> {
        let ctrl = lost.get(&life)?.lost.ctrl;
        let source = self.all.values().rev().find(|known| known.facts.ctrl == ctrl);
        let older = lost.values().rev().find(|lost| lost.lost.ctrl == ctrl && lost.identity().is_some());
        let source = source.map(|known| (known.facts.life, known.facts.identity));
        let older = older.map(|lost| (lost.lost.life, lost.lost.identity));
        source.into_iter().chain(older).max_by_key(|(life, _)| *life).map(|(_, identity)| identity)
    }
}

impl Fences {
    pub(super) fn handle_source_found(&mut self, facts: SourceFacts) {
        let source = facts.life;
        self.sources.insert(facts);
        self.purge(source);
    }

    /// What was asked of this source will not be answered.
    pub(super) fn handle_source_lost(&mut self, now: Instant, source: LifeId) {
        let lost = self.instances.get(&source).map(|lost| &lost.lost.subnqn);
        let Some(subnqn) = lost.or_else(|| self.sources.subsystem(source)) else { return };
        let kin: Vec<LifeId> = self.of(subnqn).map(|(life, _)| life).collect();
        for life in kin {
            if let Some(lost) = self.instances.get_mut(&life) {
                lost.stale_told.remove(&source);
                lost.pursuit.handle_source_lost(now, source);
            }
        }
    }

    /// Who may be asked to reset this instance now. Names once who would be asked but for an old entry in its log.
    pub(super) fn candidates(&mut self, life: LifeId) -> Vec<Candidate> {
        let Some(lost) = self.instances.get(&life) else { return Vec::new() };
        let Some(name) = lost.name() else { return Vec::new() };
        let mut candidates = Vec::new();
        let mut unpurged = Vec::new();
        let mut stale = Vec::new();
        for Known { facts, log, .. } in self.sources.live(&lost.lost.subnqn) {
            if log.is_blocked_by_stale(name) {
                stale.push((facts.life, facts.ctrl));
            }
            if log.needs_purge_for(name) {
                unpurged.push(facts.life);
            }
            if !log.may_serve(name, life) {
                continue;
            }
            candidates.push(Candidate {
                life: facts.life,
                cntlid: facts.identity.cntlid,
                shares_fate: facts.local.is_shared(&lost.lost.local) || facts.addr == lost.lost.addr,
                failures: log.failures,
                latency_p99: log.latency_p99(),
                newer: facts.begun >= lost.at,
            });
        }
        for source in unpurged {
            self.purge(source);
        }
        for (source, ctrl) in stale {
            if self.instances.get_mut(&life).is_some_and(|lost| lost.stale_told.insert(source)) {
                self.tell(Told::StaleEntry { life, source: ctrl });
            }
        }
        candidates
    }

    /// Asks for CCR. The name is that of the loss, never read again (`fence_bound_to_one_instance`). True if what follows
    /// waits for whether it could be sent.
    pub(super) fn send_ccr(&mut self, life: LifeId, source: LifeId) -> bool {
        let Some(impacted) = self.instances.get(&life).and_then(crate::fencing::Instance::identity) else {
            return false;
        };
        let impacted = if conditions::enabled(Guard::IdentitySnapshot) {
            impacted
        } else {
            // As if it were read again: the newest instance of the same path.
            self.sources.newest(life, &self.instances).unwrap_or(impacted)
        };
        self.outputs.push_back(Output::Ccr { life, source, impacted });
        self.agenda.push_front(Step::Sent { life, source, name: (impacted.cntlid, impacted.ciu) });
        true
    }

    pub(super) fn handle_not_sent(&mut self, now: Instant, life: LifeId, source: LifeId) {
        let waits = |step: &Step| matches!(step, Step::Sent { life: of, source: through, .. } if *of == life && *through == source);
        if !self.agenda.front().is_some_and(waits) {
            return; // It was said too late: whether it left is not known, and its answer counts.
        }
        self.agenda.pop_front();
        if let Some(lost) = self.instances.get_mut(&life) {
            lost.pursuit.handle_not_sent(now, source);
        }
        self.agenda.push_front(Step::Pursue(life));
    }

    pub(super) fn handle_ccr(&mut self, now: Instant, life: LifeId, source: LifeId, status: Status, immediate: bool) {
        let immediate = status.is_success() && (immediate || !conditions::enabled(Guard::ImmediateOnly));
        let in_progress = status.is(Status::CCR_IN_PROGRESS);
        let name = self.instances.get(&life).and_then(crate::fencing::Instance::name);
        let Some(known) = self.sources.all.get_mut(&source) else { return };
        let pending = (status.is_success() && !immediate) || in_progress;
        let transient = in_progress || status.is(Status::CCR_LIMIT_EXCEEDED) || status.is(Status::CCR_LOG_FULL);
        known.log.handle_answered(name, life, pending, !status.is_success() && !transient);
        self.tell(Told::CcrAnswered { life, source, status, immediate });
        let lost = self.instances.get_mut(&life);
        match lost.and_then(|lost| lost.pursuit.handle_ccr(now, source, status, immediate)) {
            Some(Ask::ReadLog(source)) => self.read_log(source),
            Some(Ask::Purge(source)) => self.purge_again(source),
            Some(Ask::Ccr(_) | Ask::RawClock) | None => {}
        }
        // What an earlier read had to leave in the log can be removed once nothing is unanswered.
        self.purge_if_needed(source);
        // A slot of the source may have become free for another instance.
        self.advance_kin(source);
    }

    /// Reads the log of a source, removing what is completed unless an answer is awaited. Reads do not overlap.
    pub(super) fn read_log(&mut self, source: LifeId) {
        let Some(known) = self.sources.all.get_mut(&source) else { return };
        match known.reads {
            LogRead::Idle => {
                known.reads = LogRead::Reading;
                let remove = known.log.may_remove();
                known.log.handle_read();
                self.outputs.push_back(Output::ReadLog { source, remove });
            }
            LogRead::Reading | LogRead::Again => known.reads = LogRead::Again,
        }
    }

    /// Sees to it that nothing old is in the log of a source before it is used.
    pub(super) fn purge(&mut self, source: LifeId) {
        if self.sources.all.get_mut(&source).is_some_and(|known| known.log.begin_purge()) {
            self.read_log(source);
        }
    }

    pub(super) fn purge_if_needed(&mut self, source: LifeId) {
        if self.sources.all.get(&source).is_some_and(|known| known.log.needs_purge()) {
            self.purge(source);
        }
    }

    pub(super) fn purge_again(&mut self, source: LifeId) {
        if let Some(known) = self.sources.all.get_mut(&source) {
            known.log.want_purge();
        }
        self.purge(source);
    }

    /// Time to look whether the log must be read.
    pub(super) fn handle_purge(&mut self, source: LifeId, anew: bool) {
        if !anew {
            return self.purge_if_needed(source);
        }
        if let Some(known) = self.sources.all.get_mut(&source) {
            known.log.read_again();
        }
        self.purge(source);
    }

    pub(super) fn handle_log(&mut self, now: Instant, source: LifeId, removed: bool, entries: Option<Vec<Entry>>) {
        let Some(known) = self.sources.all.get_mut(&source) else { return };
        let again = core::mem::replace(&mut known.reads, LogRead::Idle) == LogRead::Again;
        let Some(entries) = entries else {
            // Until it can be read it serves nobody; those who wait for an entry go on asking.
            known.log.handle_log_failed();
            self.advance_kin(source);
            return;
        };
        let kin: Vec<LifeId> = self.by_subsystem.get(&known.facts.subnqn).into_iter().flatten().copied().collect();
        for life in kin {
            let Some(lost) = self.instances.get_mut(&life) else { continue };
            let Some(name) = lost.name() else { continue };
            if known.log.is_open_for(name, life) {
                lost.pursuit.handle_log(now, source, &entries);
            }
        }
        if known.log.handle_log(&entries, removed) || again {
            self.read_log(source);
        } else {
            self.purge_if_needed(source);
        }
        self.advance_kin(source);
    }
}
