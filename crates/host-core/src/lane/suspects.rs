//! Commands that instances were lost with ([`poison`](crate::poison)), as far as a lane has to do with it.
//!
//! The lane counts, keeps back what was lost too often before control has heard of it, and does as it is told. Nothing of
//! this is there while all goes well: the count belongs to a request that was lost, and the map of them is empty.

use super::guard::Blocked;
use super::requests::{Reason, State};
use super::{Lane, LifeStanding};
use crate::Provenance;
use crate::poison::{Carried, Carriers, Order, Report};
use crate::{ConnId, FencePolicy, GuardKey, LifeId, Outcome, ToControl};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use interlock_base::{Instant, Key};
use interlock_proto::{Sink, Source};
use interlock_wire::nvm::Command;
use interlock_wire::status::Status;

/// Token of a witness; the one below that of a Connect, which no request has either.
pub(super) const WITNESS: u64 = u64::MAX - 1;

/// Requests that were outstanding on lost instances, by order of acceptance. A forwarded one stays here until it has ended.
pub(super) type Lost = BTreeMap<u64, Carriers>;

impl Lane {
    /// Counts what was outstanding on an instance that is condemned, and tells control. What the legacy policy repeats at
    /// once is not protected.
    pub(super) fn note_carried(&mut self, life: LifeId, ledger: &[(u64, u32, Provenance)], policy: FencePolicy) {
        let mut commands = Vec::new();
        for (seq, index, provenance) in ledger {
            // A flush with a plan goes to each controller once, whatever became of the others.
            if *provenance != Provenance::Unanswered
                || policy == FencePolicy::Legacy
                || self.plans.contains_key(seq)
                || self.requests.get(*index).is_none_or(|tracked| tracked.abandoned)
            {
                continue;
            }
            let Some(mut command) = self.ledger_entry(*index, life) else { continue };
            if !command.op.changes_media() {
                // Its end is noticed as that of a change is.
                self.guards.mark(command.key, command.head);
            }
            let carriers = self.lost.entry(*seq).or_insert_with(|| Carriers::new(command.key));
            carriers.lost = carriers.lost.saturating_add(1);
            carriers.free = false;
            command.key = carriers.name();
            let waits = carriers.waits();
            commands.push(Carried { command, waits });
        }
        if !commands.is_empty() {
            self.report(Report::Carried { life, commands });
        }
    }

    /// A request is to be sent again: it waits for control if it may be a suspect. Not if its namespace is gone: of one that went
    /// while the request was held nobody would say anything. And not if only other lanes have queues: one of them keeps it back.
    #[cold]
    pub(super) fn keep_back(&mut self, index: u32) -> bool {
        let Some(tracked) = self.requests.get(index) else { return false };
        let waits = self.lost.get(&tracked.seq).is_some_and(|carriers| carriers.waits());
        let stays = waits
            && !self.shutting_down
            && !self.heads.is_hopeless(tracked.head, &self.lives)
            && !self.heads.is_only_elsewhere(tracked.head, &self.lives);
        if stays {
            self.wait(index, Reason::Alone);
        }
        stays
    }

    /// A request comes from another lane, and instances were lost with it there.
    #[cold]
    pub(super) fn take_lost(&mut self, index: u32, carriers: Carriers) {
        let Some(tracked) = self.requests.get(index) else { return };
        let (seq, head) = (tracked.seq, tracked.request.head);
        self.lost.insert(seq, carriers);
        self.guards.mark(self.guards.key(seq), head);
        if carriers.waits() {
            self.report(Report::Here(carriers.name()));
        }
    }

    /// The request of this order of acceptance has ended.
    #[cold]
    pub(super) fn forget_lost(&mut self, seq: u64) {
        if let Some(carriers) = self.lost.remove(&seq) {
            self.report(Report::Ended(carriers.name()));
        }
    }

    /// A command of the request was answered with an error that is tried again: no instance was lost with it.
    #[cold]
    pub(super) fn lost_answered(&mut self, index: u32) {
        let Some(seq) = self.requests.get(index).map(|tracked| tracked.seq) else { return };
        if let Some(carriers) = self.lost.remove(&seq) {
            self.report(Report::Answered(carriers.name()));
        }
    }

    /// What control says.
    pub(super) fn suspect_order(&mut self, now: Instant, order: Order) {
        match order {
            Order::Isolate(id) => {
                let Some(key) = self.life(id) else {
                    // There is no queue of it here. Nor is anything forwarded to one.
                    self.heads.close_elsewhere(id);
                    return self.report(Report::Isolated(id));
                };
                let Some(life) = self.lives.get_mut(key).filter(|life| life.standing == LifeStanding::Active) else {
                    return;
                };
                life.standing = LifeStanding::Isolated;
                // What waits for a slot there goes elsewhere.
                self.wake.paths = true;
                self.emptied(key);
            }
            Order::Share(id) => {
                let life = self.life(id).and_then(|key| self.lives.get_mut(key));
                if let Some(life) = life.filter(|life| life.standing == LifeStanding::Isolated) {
                    life.standing = LifeStanding::Active;
                    self.wake.paths = true;
                }
                self.wake.paths |= self.heads.open_elsewhere(id);
            }
            Order::Witness { life, nsid } => self.send_witness(now, life, nsid),
            Order::Alone { key, life, nsid } => {
                if !self.send_alone(now, key, life, nsid) {
                    self.report(Report::NotSent(key));
                }
            }
            Order::Free(key) => {
                let Some((_, carriers)) = self.lost.iter_mut().find(|(_, carriers)| carriers.name() == key) else {
                    return;
                };
                carriers.free = true;
                if let Some((_, index)) = self.kept_back(key) {
                    self.wait(index, Reason::Turn);
                    self.wake.turns = true;
                }
            }
            Order::Fail { key, instances } => {
                if let Some((seq, index)) = self.kept_back(key) {
                    self.requests.waiting.remove(&seq);
                    self.finish(now, index, Outcome::Poison { instances });
                }
            }
        }
    }

    /// Nothing is outstanding on an instance that lets no more begin: if it is isolated, control is told.
    #[cold]
    pub(super) fn emptied(&mut self, key: Key) {
        let Some(life) = self.lives.get(key).filter(|life| life.in_flight == 0) else { return };
        match life.standing {
            LifeStanding::Draining => self.drained(key),
            LifeStanding::Isolated => self.report(Report::Isolated(life.id)),
            _ => {}
        }
    }

    /// It is timed as any command is: an instance that never answers it has lost a command.
    fn send_witness(&mut self, now: Instant, id: LifeId, nsid: u32) {
        let Some(key) = self.isolated(id) else { return };
        let head = self.heads.on(key, nsid);
        let Some(conn) = self.lives.get(key).and_then(super::life::Life::free_queue) else { return };
        let Some(queue) = self.links.get_mut(conn).and_then(super::link::Link::sending) else { return };
        if queue.submit(Command::Flush.to_sqe(nsid), Source::None, Sink::None, WITNESS).is_err() {
            return;
        }
        if let Some(life) = self.lives.get_mut(key) {
            life.took(conn);
        }
        if let Some(link) = self.links.get_mut(conn) {
            link.witness = Some((now, head));
            link.watch(now, &mut self.timers);
            link.ask_to_send(&mut self.outputs);
        }
    }

    /// The answer of a witness: whatever it says, the instance has lived through an I/O command. It is a Flush as well, and what it
    /// says of the namespace counts.
    #[cold]
    pub(super) fn witnessed(&mut self, conn: ConnId, status: Status) {
        let Some(link) = self.links.get_mut(conn) else { return };
        let key = link.life;
        if let Some((_, Some(head))) = link.witness.take() {
            self.flush_reports(head, status);
        }
        let Some(life) = self.lives.get_mut(key) else { return };
        if matches!(life.standing, LifeStanding::Condemned(_) | LifeStanding::Settled) {
            return;
        }
        life.gave_back(conn);
        let (id, isolated) = (life.id, life.standing == LifeStanding::Isolated);
        self.wake.slots = true;
        if isolated {
            self.report(Report::Witnessed(id));
        }
        self.emptied(key);
    }

    /// Sends a suspect on the isolated instance. False if that cannot be.
    fn send_alone(&mut self, now: Instant, key: GuardKey, life: LifeId, nsid: u32) -> bool {
        let (Some((seq, index)), Some(slot)) = (self.kept_back(key), self.isolated(life)) else { return false };
        let Some(request) = self.requests.get(index).map(|tracked| tracked.request) else { return false };
        let Some(life) = self.lives.get(slot) else { return false };
        let fits = request.data.is_none_or(|span| span.len <= life.max_transfer);
        let (Some(conn), ctrl) = (life.free_queue(), life.ctrl) else { return false };
        let own = self.guards.key(seq);
        if !fits || self.blocked_by_guard(&request, own) != Blocked::No || self.blocked_by_barrier(&request) {
            return false;
        }
        self.requests.waiting.remove(&seq);
        let chosen = self.heads.pinned(request.head, ctrl, slot, conn, nsid);
        self.send(now, index, &chosen);
        true
    }

    /// The life, if it is isolated here.
    fn isolated(&self, id: LifeId) -> Option<Key> {
        let is_isolated = |key: &Key| self.lives.get(*key).is_some_and(|l| l.standing == LifeStanding::Isolated);
        self.life(id).filter(is_isolated)
    }

    /// The request that control knows by this name, if it is kept back: its order of acceptance, and where it is.
    fn kept_back(&self, name: GuardKey) -> Option<(u64, u32)> {
        let (seq, _) = self.lost.iter().find(|(_, carriers)| carriers.name() == name)?;
        let index = *self.requests.waiting.get(seq)?;
        (self.requests.get(index)?.state == State::Waiting(Reason::Alone)).then_some((*seq, index))
    }

    pub(super) fn report(&mut self, report: Report) {
        self.say(ToControl::Poison(report));
    }
}
