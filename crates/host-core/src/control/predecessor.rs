//! Lives that an earlier process of this host left behind.
//!
//! A process that was killed may have writes in the network, in the queues of the kernel or inside the target, and it
//! can no longer say which. So every write to the subsystems of its lives, and to the disks that they served wherever these are
//! found, waits until each of those lives is fenced:
//! through the first controller of the subsystem that is live again, or by time. Reads flow. Such a life is a tombstone
//! that this process did not set itself; it takes the same fence, and leaves the same receipt.
//!
//! The clock of the fence by time begins when the driver knows that the sockets of that process are gone: that it is
//! dead does not say so, the kernel goes on sending what a dead process had queued.

use super::condemn::hold_of;
use super::fence::{Fence, Hold};
use super::life::{AdminEnd, Condemned, Ended, Life, Owner, Phase};
use super::waits::Why;
use super::{Control, LifeRecord};
use crate::guards::{self as conditions, Guard};
use crate::{CtrlId, EventKind, FencePolicy, HeadId, LifeId, Loss};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::nqn::Nqn;

/// A predecessor that no time fences (KATO 0) has so long to be reset once a controller of its subsystem is live. Then
/// what overlaps it is refused instead of waiting.
const LAST_CHANCE: Duration = Duration::from_secs(5);

/// Sockets of an earlier process that are still there are told of so often.
const OLD_SOCKETS: Duration = Duration::from_secs(10);

/// Why a life may still change a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnfencedWhy {
    /// It was not lost: this host may write through it.
    Alive,
    /// It was lost, and is not fenced yet.
    Lost {
        /// When that ends by time, as far as it is known.
        until: Option<Instant>,
    },
    /// An earlier process left it, and it is not fenced yet.
    Predecessor {
        /// When that ends by time, as far as it is known.
        until: Option<Instant>,
    },
}

/// A life of this host that may still change a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unfenced {
    /// The configured path it belongs to.
    pub ctrl: CtrlId,
    /// The life.
    pub life: LifeId,
    /// Why.
    pub why: UnfencedWhy,
}

/// There is no life of this name that was lost and is not fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{0} is not waiting for a fence: it is live, fenced, or was never there")]
pub struct NotUnfenced(pub LifeId);

impl Control {
    /// What earlier processes of this host recorded and neither fenced nor marked clean. Call it once, before the first
    /// [`Control::connect`]. Names of lives and controllers go on after those of the records.
    ///
    /// # Panics
    /// If a controller was configured already, or a record is another host's: nobody could fence that.
    pub fn predecessors(&mut self, now: Instant, records: Vec<LifeRecord>) {
        assert!(self.controllers.is_empty(), "predecessors must be known before the first path: it may write at once");
        for record in records {
            assert!(
                record.hostnqn == self.config.hostnqn && record.hostid == self.config.hostid,
                "{} was recorded by another host, {}",
                record.life,
                record.hostnqn
            );
            self.next_life = self.next_life.max(record.life.0.saturating_add(1));
            self.next_ctrl = self.next_ctrl.max(record.ctrl.0.saturating_add(1));
            let mut life = Life::new(now, record.ctrl, record.subnqn.clone(), 0);
            life.addr = Some(record.addr);
            life.phase = Phase::Condemned(Box::new(Condemned {
                served: true,
                loss: Loss::Predecessor,
                at: now,
                policy: FencePolicy::Strict,
                fence: Fence::new(record.identity, hold_of(&record.hold)),
                terms: Some(record.hold),
                unanswered: BTreeSet::new(),
                noisy: BTreeSet::new(),
                last_quiet: now,
                admin: AdminEnd::Leaving,
                in_doubt: BTreeSet::new(),
                in_doubt_ever: 0,
                oldest: None,
                answered_late: 0,
                settled: 0,
                guard_epoch: 0,
                ended: Ended::Indeterminate,
                owner: Owner::Unasked,
                lane_overdue: false,
                by: None,
                stale_told: BTreeSet::new(),
                suspect: None,
            }));
            self.lives.insert(record.life, life);
            self.left.add(record.life, record.disks);
            self.counters.fences.attempts += 1;
            self.timers.set(Why::OldSockets(record.life), now + OLD_SOCKETS);
            self.emit(
                now,
                EventKind::PredecessorFound {
                    ctrl: record.ctrl,
                    life: record.life,
                    subnqn: record.subnqn,
                    identity: record.identity,
                },
            );
        }
        self.settle_down(now);
    }

    /// The earlier process of this life holds no lock any more, and since `at` none of its sockets exists: the hold
    /// counts from there. A life that is fenced already, or is no predecessor's, is ignored.
    pub fn predecessor_gone(&mut self, now: Instant, life_id: LifeId, at: Instant) {
        let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) else { return };
        if condemned.loss != Loss::Predecessor {
            return;
        }
        condemned.admin = AdminEnd::Quiet(at);
        self.timers.stop(Why::OldSockets(life_id));
        self.advance(now, life_id);
        self.settle_down(now);
    }

    /// An operator who knows more than this host (the array was switched off, say) declares the life over, without proof:
    /// what waits for its fence continues. Counted as `unsafe_failovers`, and the receipt says so.
    ///
    /// # Errors
    /// If no such life waits for a fence.
    pub fn fence_accept_risk(&mut self, now: Instant, life_id: LifeId) -> Result<(), NotUnfenced> {
        let condemned =
            self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()).ok_or(NotUnfenced(life_id))?;
        condemned.fence.handle_accepted(now);
        self.advance(now, life_id);
        self.settle_down(now);
        Ok(())
    }

    /// Every life of this host that may still change the namespace.
    #[must_use]
    pub fn unfenced(&self, subnqn: &Nqn, nsid: u32) -> Vec<Unfenced> {
        let heads = self.heads.named(subnqn, nsid);
        self.unfenced_where(subnqn, heads.iter().copied(), |id| {
            heads.iter().any(|head| self.guards.concerns(id, *head))
        })
    }

    /// Every life of this host that may still change any namespace of the subsystem.
    #[must_use]
    pub fn unfenced_of(&self, subnqn: &Nqn) -> Vec<Unfenced> {
        self.unfenced_where(subnqn, self.heads.of_subsystem(subnqn), |_| true)
    }

    /// Lives of the subsystem that may still change what `concerns` says that they are about, and lives that earlier processes
    /// left elsewhere and that could write to one of the disks `heads`.
    fn unfenced_where(
        &self,
        subnqn: &Nqn,
        heads: impl Iterator<Item = HeadId>,
        concerns: impl Fn(LifeId) -> bool,
    ) -> Vec<Unfenced> {
        let mut found = Vec::new();
        let theirs = heads.filter_map(|head| self.heads.ids(head)).flat_map(|ids| self.left.could_write(ids));
        let theirs: BTreeSet<LifeId> = theirs.collect();
        let others =
            theirs.iter().filter_map(|id| Some((*id, self.lives.get(id)?))).filter(|(_, l)| l.subnqn != *subnqn);
        for (id, life) in self.lives.of(subnqn).chain(others) {
            let why = match life.condemned() {
                Some(condemned) if condemned.loss == Loss::Predecessor => {
                    Some(UnfencedWhy::Predecessor { until: condemned.fence.deadline() })
                }
                Some(condemned) => {
                    let concerned = !condemned.is_sorted() || concerns(id);
                    concerned.then_some(UnfencedWhy::Lost { until: condemned.fence.deadline() })
                }
                None => Some(UnfencedWhy::Alive),
            };
            found.extend(why.map(|why| Unfenced { ctrl: life.ctrl, life: id, why }));
        }
        found
    }

    /// Guards the namespaces that this life found against what predecessors may still do to them. Called before they
    /// are published as paths, so no lane can write first.
    pub(super) fn guard_for_predecessors(&mut self, now: Instant, subnqn: &Nqn, heads: &BTreeSet<HeadId>) {
        if !conditions::enabled(Guard::PredecessorGuardsAll) {
            return;
        }
        let of_subsystem: BTreeSet<_> = self
            .lives
            .of(subnqn)
            .filter(|(_, life)| life.condemned().is_some_and(|c| c.loss == Loss::Predecessor))
            .map(|(id, _)| id)
            .collect();
        let mut guarded: BTreeMap<LifeId, BTreeSet<HeadId>> =
            of_subsystem.into_iter().map(|life| (life, heads.clone())).collect();
        for head in heads {
            for life in self.heads.ids(*head).into_iter().flat_map(|ids| self.left.could_write(ids)) {
                guarded.entry(life).or_default().insert(*head);
            }
        }
        for (life, heads) in guarded {
            let unbounded = self
                .lives
                .get(&life)
                .and_then(|life| life.condemned())
                .is_some_and(|condemned| condemned.fence.hold() == Hold::Unbounded);
            if unbounded && !self.guards.is_endless(life) {
                self.timers.set_earliest(Why::Grace(life), now + LAST_CHANCE);
            }
            for head in heads {
                if self.guards.add_whole(life, head, self.next_whole) {
                    self.next_whole += 1;
                }
            }
        }
        self.publish_guards();
    }

    /// The sockets of a predecessor are still there.
    pub(super) fn handle_old_sockets(&mut self, now: Instant, life_id: LifeId) {
        self.timers.set(Why::OldSockets(life_id), now + OLD_SOCKETS);
        self.emit(now, EventKind::PredecessorLingers { life: life_id });
    }
}
