//! What must never be, seen from outside of the machines; part of the state, because it remembers.

use crate::world::Violation;
use interlock_base::Instant;
use interlock_host_core as host;
use interlock_target_core as target;
use std::collections::{BTreeMap, BTreeSet};

/// One write, as its caller sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) key: Option<host::GuardKey>,
    pub(super) abandoned: bool,
    pub(super) ended: Option<host::Outcome>,
    /// How often it took effect, up to two.
    pub(super) effects: u8,
    /// What was guarded on every lane when it was taken.
    waits_for: BTreeSet<host::GuardKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Judge {
    pub(super) writes: Vec<Asked>,
    /// Requests taken, by lane.
    taken: Vec<u64>,
    enabled: Vec<target::Life>,
    pub(super) named: BTreeMap<host::LifeId, target::Life>,
    lost: BTreeSet<host::LifeId>,
    /// Fenced with a proof.
    fenced: BTreeSet<target::LifeId>,
    /// Over, for whatever reason.
    pub(super) over: BTreeSet<host::LifeId>,
    /// Lanes that were told to send nothing more.
    condemned: BTreeSet<(u16, host::LifeId)>,
    /// What is guarded, since which table.
    guarded: BTreeMap<host::GuardKey, u64>,
    seen: Vec<u64>,
    /// The content of the one block: the write that took effect last.
    pub(super) content: Option<usize>,
}

pub(super) fn wrong(at: Instant, invariant: &str, text: String) -> Violation {
    Violation { invariant: invariant.to_owned(), at, text }
}

fn name(write: usize) -> String {
    format!("W{}", write + 1)
}

impl Judge {
    pub(super) fn new(lanes: u16, writes: usize) -> Self {
        Self {
            writes: vec![Asked::default(); writes],
            taken: vec![0; usize::from(lanes)],
            enabled: Vec::new(),
            named: BTreeMap::new(),
            lost: BTreeSet::new(),
            fenced: BTreeSet::new(),
            over: BTreeSet::new(),
            condemned: BTreeSet::new(),
            guarded: BTreeMap::new(),
            seen: vec![0; usize::from(lanes)],
            content: None,
        }
    }

    /// A lane took a write over.
    pub(super) fn taken(&mut self, lane: u16, write: usize) {
        self.taken[usize::from(lane)] += 1;
        let least = self.seen.iter().copied().min().unwrap_or(0);
        let asked = &mut self.writes[write];
        asked.key = Some(host::GuardKey { seq: self.taken[usize::from(lane)], lane });
        asked.waits_for = self.guarded.iter().filter(|(_, epoch)| **epoch <= least).map(|(key, _)| *key).collect();
    }

    /// A write ended.
    pub(super) fn ended(&mut self, now: Instant, write: usize, outcome: host::Outcome) -> Option<Violation> {
        let asked = &mut self.writes[write];
        if let Some(before) = asked.ended {
            let text = format!("{} ended twice: {before:?}, then {outcome:?}", name(write));
            return Some(wrong(now, "completes_exactly_once", text));
        }
        asked.ended = Some(outcome);
        (outcome == host::Outcome::Ok && asked.effects == 0)
            .then(|| wrong(now, "completes_exactly_once", format!("{} was answered and took no effect", name(write))))
    }

    /// A write takes effect on the media.
    pub(super) fn effect(&mut self, now: Instant, write: usize, life: target::LifeId) -> Option<Violation> {
        self.content = Some(write);
        let asked = &mut self.writes[write];
        asked.effects = (asked.effects + 1).min(2);
        let settled = match asked.ended {
            None | Some(host::Outcome::Indeterminate { .. }) => None,
            Some(outcome) => Some(format!("{} takes effect after its caller was told {outcome:?}", name(write))),
        };
        let fenced = self
            .fenced
            .contains(&life)
            .then(|| format!("{} takes effect through life {}, for which there is a receipt", name(write), life.0));
        if let Some(text) = settled.or(fenced) {
            return Some(wrong(now, "no_stale_write_after_failover", text));
        }
        let mine = self.writes[write].key;
        let over =
            self.writes[write].waits_for.iter().find(|key| self.guarded.contains_key(key) && Some(**key) != mine);
        over.map(|key| {
            let text = format!("{} takes effect while {key:?} is guarded, as it was when it was taken", name(write));
            wrong(now, "overlaps_wait", text)
        })
    }

    /// True if nothing but that a life was enabled happened since `before`.
    pub(super) fn knows_no_more_than(&self, before: &Self) -> bool {
        self == before || Self { enabled: before.enabled.clone(), ..self.clone() } == *before
    }

    /// A life of the target began.
    pub(super) fn enabled(&mut self, life: target::Life) {
        self.enabled.push(life);
    }

    /// Bytes of a life were given to a kernel.
    pub(super) fn given(&self, now: Instant, lane: u16, life: host::LifeId) -> Option<Violation> {
        self.condemned
            .contains(&(lane, life))
            .then(|| wrong(now, "no_send_after_condemned", format!("lane{lane} gives bytes of {life} to the kernel")))
    }

    /// Mail arrives at a lane of the host.
    pub(super) fn lane_takes(&mut self, lane: u16, message: &host::ToLane) {
        if let host::ToLane::Condemn { life, .. } = message {
            self.condemned.insert((lane, *life));
        }
    }

    /// Mail of a lane arrives at control.
    pub(super) fn control_takes(&mut self, lane: u16, message: &host::ToControl) {
        if let host::ToControl::GuardSeen(epoch) = message {
            let seen = &mut self.seen[usize::from(lane)];
            *seen = (*seen).max(*epoch);
        }
    }

    /// A lane says something: what it has resolved guards nothing any more.
    pub(super) fn lane_says(&mut self, message: &host::ToControl) {
        if let host::ToControl::Resolved(keys) = message {
            for key in keys {
                self.guarded.remove(key);
            }
        }
    }

    /// Control says something to a lane.
    pub(super) fn control_says(&mut self, message: &host::ToLane) {
        if let host::ToLane::Guard { epoch, entries } = message {
            let now: BTreeSet<_> = entries.iter().map(|entry| entry.key).collect();
            self.guarded.retain(|key, _| now.contains(key));
            for key in now {
                self.guarded.entry(key).or_insert(*epoch);
            }
        }
    }

    /// Control tells the world something. `executable`: how much of a life could still take effect.
    pub(super) fn told(
        &mut self,
        now: Instant,
        event: &host::EventKind,
        executable: impl Fn(target::LifeId) -> usize,
    ) -> Option<Violation> {
        match event {
            host::EventKind::LifeBegan { life, facts, .. } => {
                let host::Identity { cntlid, cirn, .. } = facts.identity;
                let known = self.enabled.iter().rev().find(|l| l.cntlid == cntlid && (cirn == 0 || l.cirn == cirn));
                if let Some(known) = known {
                    self.named.insert(*life, *known);
                }
            }
            host::EventKind::Lost { life, .. } => {
                self.lost.insert(*life);
            }
            host::EventKind::NothingInDoubt { life, .. } => {
                self.over.insert(*life);
            }
            host::EventKind::Fenced(receipt) => {
                self.over.insert(receipt.life);
                let known = self.named.get(&receipt.life)?;
                // What is assumed of this target is true.
                let claims = receipt.method.is_proof() || receipt.method == host::Method::Assumed;
                if claims {
                    self.fenced.insert(known.id);
                    let left = executable(known.id);
                    if left > 0 {
                        let text = format!(
                            "{} is called fenced ({}), and {left} lanes or operations of the target can still write for it",
                            receipt.life,
                            receipt.method.name()
                        );
                        return Some(wrong(now, "no_stale_write_after_failover", text));
                    }
                }
            }
            _ => {}
        }
        None
    }

    /// The target tells the world something.
    pub(super) fn target_told(&self, now: Instant, event: &target::Event) -> Option<Violation> {
        let target::Event::CcrReceived { icid, ciu, cirn, .. } = event else { return None };
        let (id, _) = self.named.iter().find(|(_, l)| (l.cntlid, l.ciu, l.cirn) == (*icid, *ciu, *cirn))?;
        (!self.lost.contains(id))
            .then(|| wrong(now, "fence_bound_to_one_life", format!("a reset of {id} was asked for, which is not lost")))
    }
}
