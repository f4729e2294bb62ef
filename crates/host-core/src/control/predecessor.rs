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

use super::life::{AdminEnd, Life, Phase};
use super::{Control, LifeRecord};
use crate::{CtrlId, HeadId, LifeId};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use interlock_base::Instant;
use interlock_fence::{Input, LostStanding, Predecessor};
use interlock_wire::nqn::Nqn;

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
            life.phase = Phase::Condemned(AdminEnd::Leaving);
            self.lives.insert(record.life, life);
            let left = Predecessor {
                life: record.life,
                ctrl: record.ctrl,
                subnqn: record.subnqn,
                addr: record.addr,
                identity: record.identity,
                terms: record.hold,
                disks: record.disks,
            };
            self.fence(now, Input::Predecessor(Box::new(left)));
        }
        self.settle_down(now);
    }

    /// The earlier process of this life holds no lock any more, and since `at` none of its sockets exists: the hold
    /// counts from there. A life that is fenced already, or is no predecessor's, is ignored.
    pub fn predecessor_gone(&mut self, now: Instant, life_id: LifeId, at: Instant) {
        if self.fences.standing(life_id).is_some_and(|lost| lost.predecessor) {
            self.fence(now, Input::SocketsGone { life: life_id, at });
            self.settle_down(now);
        }
    }

    /// An operator who knows more than this host (the array was switched off, say) declares the life over, without proof:
    /// what waits for its fence continues. Counted as `unsafe_failovers`, and the receipt says so.
    ///
    /// # Errors
    /// If no such life waits for a fence.
    pub fn fence_accept_risk(&mut self, now: Instant, life_id: LifeId) -> Result<(), NotUnfenced> {
        if !self.fences.is_lost(life_id) {
            return Err(NotUnfenced(life_id));
        }
        self.fence(now, Input::AcceptRisk(life_id));
        self.settle_down(now);
        Ok(())
    }

    /// Every life of this host that may still change the namespace.
    #[must_use]
    pub fn unfenced(&self, subnqn: &Nqn, nsid: u32) -> Vec<Unfenced> {
        let heads = self.heads.named(subnqn, nsid);
        self.unfenced_where(subnqn, heads.iter().copied(), |id| {
            heads.iter().any(|head| self.fences.concerns(id, *head))
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
        let theirs = heads.filter_map(|head| self.heads.ids(head)).flat_map(|ids| self.fences.could_write(ids));
        let theirs: BTreeSet<LifeId> = theirs.collect();
        let others =
            theirs.iter().filter_map(|id| Some((*id, self.lives.get(id)?))).filter(|(_, l)| l.subnqn != *subnqn);
        for (id, life) in self.lives.of(subnqn).chain(others) {
            let why = match self.fences.standing(id) {
                Some(LostStanding { predecessor: true, until, .. }) => Some(UnfencedWhy::Predecessor { until }),
                Some(LostStanding { sorted, until, .. }) => {
                    (!sorted || concerns(id)).then_some(UnfencedWhy::Lost { until })
                }
                None => Some(UnfencedWhy::Alive),
            };
            found.extend(why.map(|why| Unfenced { ctrl: life.ctrl, life: id, why }));
        }
        found
    }

    /// Says which namespaces were found before they are published as paths, so that no lane can write first to what a
    /// predecessor may still change.
    pub(super) fn guard_for_predecessors(&mut self, now: Instant, subnqn: &Nqn, heads: &BTreeSet<HeadId>) {
        let heads = heads.iter().map(|head| (*head, self.heads.ids(*head).copied())).collect();
        self.fence(now, Input::Found { subnqn: subnqn.clone(), heads });
    }
}
