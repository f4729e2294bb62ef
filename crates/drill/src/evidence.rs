//! From what was observed to what a verdict rests on.
//!
//! Nothing here asks the host whether it did well. Writes in doubt and receipts are the host's claims; what the target
//! held, executed and refused is the target's own log; what the blocks hold is the oracle's. The three are brought
//! together by the life (CNTLID, CIU, CIRN), by block ranges, and by one clock.

use crate::foreign::NetLog;
use crate::load::Suspect;
use interlock_api::{CcrUse, StatusCode};
use interlock_base::Instant;
use interlock_check::{Evidence, Fence, Ghosts, Life, Method, OpId, OpKind, Outcome, ReadBack, Violation, WhiteBox};
use interlock_host::{Event, EventKind, Identity, LifeId, Loss, Method as HostMethod, Receipt};
use interlock_target::{By, Change, Ghost, Stamped, TargetEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Whether the host fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// Before it retries.
    Strict,
    /// Not at all: it does what today's hosts do.
    Legacy,
}

/// Everything that was observed in one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// What the host was told to do.
    pub(crate) fencing: Fencing,
    /// When the path broke.
    pub(crate) broken: Instant,
    /// The host's events, from before the first connect.
    pub(crate) host: Vec<Event>,
    /// The target's events, from before the first connect.
    pub(crate) target: Vec<Stamped>,
    /// The network's events, if that is what misbehaved.
    pub(crate) network: Option<NetLog>,
    /// Changes that were in flight when a path was lost.
    pub(crate) suspects: Vec<Suspect>,
    /// What the black-box oracle found.
    pub(crate) violations: Vec<Violation>,
    /// Was everything looked at?
    pub(crate) read_back: ReadBack,
}

/// What became of one held write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    life: Life,
    op: Option<Suspect>,
    /// Nothing of its life could be executed from here on, by the target's log.
    quiesced: Option<Instant>,
    executed: Option<Instant>,
    refused: Option<(Instant, By)>,
}

impl Held {
    /// When it was decided that it is executed, or never will be.
    fn decided(&self) -> Option<Instant> {
        [self.quiesced, self.executed, self.refused.map(|(at, _)| at)].into_iter().flatten().min()
    }
}

impl Record {
    /// What the host said of the loss: first how, and how long after the fault.
    pub(crate) fn detection(&self) -> Option<(&Loss, Duration)> {
        self.after_break().find_map(|event| match &event.kind {
            EventKind::Lost { how, .. } => Some((how, event.at - self.broken)),
            _ => None,
        })
    }

    /// The receipts for lives that were lost since the fault.
    pub(crate) fn receipts(&self) -> impl Iterator<Item = &Receipt> {
        self.after_break().filter_map(|event| match &event.kind {
            EventKind::Fenced(receipt) => Some(&**receipt),
            _ => None,
        })
    }

    /// Lives that were lost since the fault, with the moment at which every lane had stopped and what was in doubt.
    pub(crate) fn condemned(&self) -> impl Iterator<Item = (LifeId, Instant, usize)> {
        self.after_break().filter_map(|event| match event.kind {
            EventKind::Condemned { life, in_doubt, .. } => Some((life, event.at, in_doubt)),
            _ => None,
        })
    }

    /// Attempts to reconnect since the fault.
    pub(crate) fn reconnect_attempts(&self) -> u64 {
        self.after_break().filter(|event| matches!(event.kind, EventKind::ReconnectAttempt { .. })).count() as u64
    }

    /// How a life of the host is named to the target, and what it said of itself.
    pub(crate) fn identity(&self, life: LifeId) -> Option<Identity> {
        self.began(life).map(|(identity, _)| identity)
    }

    /// The target's own name for a life of the host. A target without CCR reports neither CIU nor CIRN, so that its
    /// CNTLID and the moment at which it began must do.
    pub(crate) fn life(&self, life: LifeId) -> Option<Life> {
        let (identity, at) = self.began(life)?;
        let mut enabled =
            self.target.iter().rev().filter(|stamped| stamped.at <= at).filter_map(|stamped| match stamped.event {
                TargetEvent::Enabled { life } => Some(life_of(life)),
                _ => None,
            });
        let is_it = |life: &Life| {
            life.cntlid == identity.cntlid
                && (!identity.is_reported() || (life.ciu, life.cirn) == (identity.ciu, identity.cirn))
        };
        enabled.find(is_it)
    }

    fn began(&self, life: LifeId) -> Option<(Identity, Instant)> {
        self.host.iter().find_map(|event| match &event.kind {
            EventKind::LifeBegan { life: begun, facts, .. } if *begun == life => Some((facts.identity, event.at)),
            _ => None,
        })
    }

    /// Operations that the target held when their connection ended: what was in doubt beyond any doubt.
    pub(crate) fn held_ops(&self) -> BTreeSet<OpId> {
        self.held().iter().filter_map(|held| Some(held.op?.op.id)).collect()
    }

    /// What the target stopped the ghosts by.
    pub(crate) fn stopped_by(&self) -> BTreeSet<By> {
        self.held().iter().filter_map(|held| held.refused.map(|(_, by)| by)).collect()
    }

    /// Held writes that wait for their end, by the target's log: neither executed nor refused.
    pub(crate) fn ghosts_waiting(&self) -> u64 {
        self.armed()
            - self.held().iter().filter(|held| held.executed.is_some() || held.refused.is_some()).count() as u64
    }

    /// Held writes, by the target's log.
    pub(crate) fn armed(&self) -> u64 {
        let mut cancelled: BTreeMap<Life, u64> = BTreeMap::new();
        for held in self.held() {
            *cancelled.entry(held.life).or_default() += 1;
        }
        // A command that was cancelled while its connection was still there shows only in that count until it tries.
        for stamped in self.target_after_break() {
            if let TargetEvent::Fenced { life, cancelled: count, .. } = stamped.event {
                let named = cancelled.entry(life_of(life)).or_default();
                *named = (*named).max(count.into());
            }
        }
        cancelled.values().sum()
    }

    /// What the verdict rests on.
    pub(crate) fn evidence(&self) -> Evidence {
        if let Some(network) = &self.network {
            return network.evidence(self);
        }
        let held = self.held();
        let mut ghosts = Ghosts { armed: self.armed(), ..Ghosts::default() };
        for ghost in &held {
            let fenced = self.fenced(ghost.life);
            let after_fence = |at: Instant| fenced.is_some_and(|fenced| at > fenced);
            match (ghost.executed, ghost.refused) {
                (Some(at), _) if after_fence(at) => ghosts.executed += 1,
                (None, Some((at, _))) if after_fence(at) => ghosts.stopped += 1,
                (Some(_), _) | (_, Some(_)) => ghosts.ended_before_fence += 1,
                (None, None) => {}
            }
        }
        Evidence {
            writes_in_doubt: self.condemned().map(|(_, _, in_doubt)| in_doubt as u64).sum(),
            held_at_fence: self.held_at_fence(&held),
            ghosts,
            fence: self.fence(),
            violations: self.violations.iter().copied().chain(self.white_box(&held)).collect(),
            read_back: self.read_back,
        }
    }

    /// Promises broken that no oracle sees: writes in doubt that were answered before their life was fenced.
    pub(crate) fn answered_too_early(&self) -> Vec<String> {
        if self.fencing == Fencing::Legacy {
            return Vec::new();
        }
        if let Some(network) = &self.network {
            return network.answered_too_early(self);
        }
        let early = self.held().into_iter().filter_map(|held| {
            let op = held.op?;
            let (answered, _) = op.answered?;
            let name = format!("{} {} was in doubt and was answered", op.op.kind.name(), op.op.id);
            match self.fenced(held.life) {
                Some(fenced) if answered >= fenced => None,
                Some(fenced) => {
                    let early = (fenced - answered).as_secs_f64() * 1e3;
                    Some(format!("{name} {early:.3} ms before {} was fenced", held.life))
                }
                None => Some(format!("{name} although {} was never fenced", held.life)),
            }
        });
        early.collect()
    }

    /// When the host declared a life fenced.
    pub(crate) fn fenced(&self, life: Life) -> Option<Instant> {
        self.receipts().find(|receipt| self.life(receipt.life) == Some(life)).map(|receipt| receipt.fenced)
    }

    pub(crate) fn fence(&self) -> Fence {
        let assumed = self.receipts().filter(|receipt| receipt.method == HostMethod::Assumed);
        // Where only the Keep Alive Timeout was assumed, the quiesce time is the one that the target states.
        let quiesces = |receipt: &Receipt| {
            let stated = receipt.terms.and_then(|terms| terms.cqt);
            receipt.assumed_cqt.or(stated).unwrap_or_default()
        };
        match (self.fencing, assumed.map(quiesces).max()) {
            (Fencing::Legacy, _) => Fence::None,
            (Fencing::Strict, Some(cqt)) => Fence::Assumed { ms: u64::try_from(cqt.as_millis()).unwrap_or(u64::MAX) },
            (Fencing::Strict, None) => Fence::Proven,
        }
    }

    /// What became of Cross-Controller Reset since the fault.
    pub(crate) fn ccr(&self) -> CcrUse {
        let sent = self.after_break().filter(|event| matches!(event.kind, EventKind::CcrSent { .. })).count() as u64;
        if self.receipts().any(|receipt| matches!(receipt.method, HostMethod::Immediate | HostMethod::Log)) {
            return CcrUse::Used { sent };
        }
        let refused = self.after_break().filter_map(|event| match event.kind {
            EventKind::CcrAnswered { status, .. } if !status.is_success() => Some(status),
            _ => None,
        });
        if let Some(status) = refused.last() {
            let status = StatusCode { code: status.code(), dnr: status.dnr(), text: status.to_string() };
            return CcrUse::Refused { sent, status };
        }
        let offers = self.host.iter().any(|event| match &event.kind {
            EventKind::LifeBegan { facts, .. } => facts.ccrl.unwrap_or(0) > 0,
            _ => false,
        });
        match (sent, offers) {
            (1.., _) => CcrUse::Unanswered { sent },
            (0, true) => CcrUse::NotSent,
            (0, false) => CcrUse::NotOffered,
        }
    }

    /// The Keep Alive Timeout that a fence rests on although the target does not report it.
    pub(crate) fn assumed_kato(&self) -> Option<Duration> {
        self.receipts().filter_map(|receipt| receipt.assumed_kato).max()
    }

    /// Every held write the target named, with what became of it.
    fn held(&self) -> Vec<Held> {
        let mut order: Vec<Ghost> = Vec::new();
        let mut fates: BTreeMap<(Life, u8, u64, u64), Held> = BTreeMap::new();
        let key = |ghost: &Ghost| (life_of(ghost.life), ghost.change as u8, ghost.slba, ghost.blocks);
        for stamped in self.target_after_break() {
            let ghost = match stamped.event {
                TargetEvent::GhostArmed(ghost)
                | TargetEvent::GhostExecuted(ghost)
                | TargetEvent::GhostRefused { ghost, .. } => ghost,
                _ => continue,
            };
            let held = fates.entry(key(&ghost)).or_insert_with(|| {
                order.push(ghost);
                let life = life_of(ghost.life);
                Held { life, op: self.suspect(&ghost), quiesced: self.quiesced(life), executed: None, refused: None }
            });
            match stamped.event {
                TargetEvent::GhostExecuted(_) => held.executed = held.executed.or(Some(stamped.at)),
                TargetEvent::GhostRefused { by, .. } => held.refused = held.refused.or(Some((stamped.at, by))),
                _ => {}
            }
        }
        order.iter().map(|ghost| fates[&key(ghost)]).collect()
    }

    /// Operations in flight do not overlap, so blocks and kind name one.
    fn suspect(&self, ghost: &Ghost) -> Option<Suspect> {
        let kind = match ghost.change {
            Change::Write => OpKind::Write,
            Change::WriteZeroes => OpKind::WriteZeroes,
            Change::Deallocate => OpKind::Discard,
        };
        let is_it = |suspect: &&Suspect| {
            suspect.op.kind == kind && suspect.op.lba == ghost.slba && u64::from(suspect.op.nlb) == ghost.blocks
        };
        self.suspects.iter().filter(is_it).min_by_key(|suspect| suspect.submitted).copied()
    }

    fn quiesced(&self, life: Life) -> Option<Instant> {
        self.target_after_break().find_map(|stamped| match stamped.event {
            TargetEvent::Fenced { life: fenced, .. } if life_of(fenced) == life => Some(stamped.at),
            _ => None,
        })
    }

    /// What the target held when the fence began: by its own count when CCR came in, else by what it did afterwards.
    fn held_at_fence(&self, held: &[Held]) -> u64 {
        let lives: Vec<(Life, Instant)> =
            self.condemned().filter_map(|(life, at, _)| Some((self.life(life)?, at))).collect();
        lives
            .iter()
            .map(|(life, began)| {
                let counted = self.target_after_break().filter_map(|stamped| match stamped.event {
                    TargetEvent::CcrReceived { icid, ciu, cirn, held, .. }
                        if (Life { cntlid: icid, ciu, cirn }) == *life =>
                    {
                        Some(u64::from(held))
                    }
                    _ => None,
                });
                let undecided = |held: &&Held| held.life == *life && held.decided().is_none_or(|at| at > *began);
                counted.max().unwrap_or_else(|| held.iter().filter(undecided).count() as u64)
            })
            .sum()
    }

    /// What the application knows of the changes that were in flight when the path was lost.
    pub(crate) fn white_box_of_suspects(&self) -> WhiteBox {
        let mut white = WhiteBox::new();
        for suspect in &self.suspects {
            match suspect.answered {
                Some((at, Outcome::Ok | Outcome::Failed | Outcome::NotSent | Outcome::UnknownSettled)) => {
                    white.answered(suspect.op.id, at);
                }
                Some((_, Outcome::Indeterminate)) | None => {
                    if let Some((later, at)) = suspect.overtaken {
                        white.overtaken(suspect.op.id, later, at);
                    }
                }
            }
        }
        white
    }

    fn white_box(&self, held: &[Held]) -> Vec<Violation> {
        let mut white = self.white_box_of_suspects();
        for ghost in held {
            if let (Some(at), Some(suspect)) = (ghost.executed, ghost.op) {
                white.executed(suspect.op.id, ghost.life, at);
            }
        }
        for receipt in self.receipts() {
            let Some(life) = self.life(receipt.life) else { continue };
            let executable = |ghost: &&Held| ghost.life == life && ghost.decided().is_none_or(|at| at > receipt.fenced);
            let executable = held.iter().filter(executable).count();
            white.receipt(life, method(receipt.method), u32::try_from(executable).unwrap_or(u32::MAX), receipt.fenced);
        }
        white.violations().collect()
    }

    fn after_break(&self) -> impl Iterator<Item = &Event> {
        self.host.iter().filter(|event| event.at >= self.broken)
    }

    fn target_after_break(&self) -> impl Iterator<Item = &Stamped> {
        self.target.iter().filter(|stamped| stamped.at >= self.broken)
    }
}

/// A life as the target names it.
pub(crate) const fn life_of(life: interlock_target::Life) -> Life {
    Life { cntlid: life.cntlid, ciu: life.ciu, cirn: life.cirn }
}

const fn method(method: HostMethod) -> Method {
    match method {
        HostMethod::Immediate => Method::Immediate,
        HostMethod::Log => Method::Log,
        HostMethod::DrainedDisable => Method::DrainedDisable,
        HostMethod::Time => Method::Time,
        HostMethod::Assumed => Method::Assumed,
        HostMethod::Legacy => Method::Legacy,
        HostMethod::AcceptedRisk => Method::AcceptedRisk,
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
