//! What lanes say.

use super::Control;
use super::life::{Condemned, Ended, Life, Phase};
use crate::guards::{self as conditions, Guard};
use crate::{DownReason, EventKind, LaneId, LedgerEntry, LifeId, Loss, ToControl, ToLane};
use alloc::vec::Vec;
use interlock_base::Instant;
use interlock_wire::sqe::Cqe;

impl Control {
    /// What a lane said. Messages of one lane come in order; nothing is assumed across lanes.
    pub fn handle_lane(&mut self, now: Instant, lane: LaneId, message: ToControl) {
        match message {
            ToControl::QueueUp { life, qid } => self.handle_queue_up(now, life, qid),
            ToControl::QueueDown { life, qid, why } => self.handle_queue_down(now, lane, life, qid, why),
            ToControl::Suspect { life, why } => self.handle_suspicion(now, life, why),
            ToControl::Condemned { life, ledger, settled } => self.handle_ledger(now, lane, life, &ledger, settled),
            ToControl::Quiet { life, at } => self.handle_quiet(now, lane, life, at),
            ToControl::Drained(life) => self.handle_drained(now, lane, life),
            ToControl::GuardSeen(epoch) => {
                let before = self.guards.seen_by_all();
                self.guards.handle_seen(lane, epoch);
                let seen = before + 1..=self.guards.seen_by_all();
                // Those that waited for this epoch; to the others it says nothing.
                let waited = |life: &Life| life.condemned().is_some_and(|c| seen.contains(&c.guard_epoch));
                let lives: Vec<_> = self.lives.iter().filter(|(_, life)| waited(life)).map(|(id, _)| *id).collect();
                for life in lives {
                    self.advance(now, life);
                }
            }
            ToControl::Late { life, key, cqe } => self.handle_late(now, lane, life, key, cqe),
            ToControl::Abandoned(entry) => self.handle_abandoned(&entry),
            ToControl::HandedOver(number) => self.handovers.handle(lane, number),
            ToControl::Resolved(keys) => {
                for key in &keys {
                    self.guards.remove(*key);
                }
                self.suspects.ended(now, &keys);
                self.publish_guards();
            }
            ToControl::AnaStale(life_id) => {
                if let Some(life) = self.lives.get_mut(&life_id) {
                    (life.todo.ana, life.todo.tell) = (true, true);
                    self.do_tasks(now, life_id);
                }
            }
            ToControl::Traffic { life, submitted } => self.handle_traffic(now, life, submitted),
            ToControl::Poison(report) => self.handle_suspects(now, lane, &report),
            ToControl::Flush { seq, head } => self.caches.asks(lane, seq, head),
            ToControl::FlushTold { head, lives } => self.caches.told(head, &lives),
            ToControl::Cached { life, entries } => self.caches.says(lane, life, entries),
            ToControl::FirstGood { life, at } => self.emit(at, EventKind::FirstGood { life }),
        }
        self.settle_down(now);
    }

    fn handle_queue_down(&mut self, now: Instant, lane: LaneId, life_id: LifeId, qid: u16, why: DownReason) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        if !life.queues.contains_key(&qid) {
            return;
        }
        if matches!(life.phase, Phase::Closing { .. }) {
            return; // Its lanes are drained; what closes now closes in order.
        }
        self.life_failed(now, life_id, Loss::Queue { lane, qid, why });
    }

    fn handle_ledger(&mut self, now: Instant, lane: LaneId, life_id: LifeId, ledger: &[LedgerEntry], settled: usize) {
        let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) else { return };
        if !condemned.unanswered.remove(&lane) {
            return;
        }
        for entry in ledger {
            condemned.in_doubt.insert(entry.key);
            condemned.oldest = Some(condemned.oldest.map_or(entry.since, |oldest| oldest.min(entry.since)));
        }
        condemned.in_doubt_ever += ledger.len();
        condemned.settled += settled;
        let is_guarded = condemned.policy == crate::FencePolicy::Strict;
        if is_guarded {
            for entry in ledger {
                self.guards.add(entry);
            }
            self.publish_guards();
        }
        let epoch = self.guards.epoch();
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let ctrl = life.ctrl;
        let Some(condemned) = life.condemned_mut() else { return };
        condemned.guard_epoch = epoch;
        let is_sorted = condemned.is_sorted();
        if is_sorted && condemned.served {
            let (in_doubt, settled) = (condemned.in_doubt_ever, condemned.settled);
            let oldest = condemned.oldest.map(|oldest| condemned.at.since(oldest));
            self.emit(now, EventKind::Condemned { ctrl, life: life_id, in_doubt, settled, oldest });
        }
        if is_sorted {
            self.judge_cache(now, life_id, false);
            self.judge_suspects(now, life_id);
        }
        self.advance(now, life_id);
    }

    pub(super) fn handle_quiet(&mut self, now: Instant, lane: LaneId, life_id: LifeId, at: Instant) {
        let Some(condemned) = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut()) else { return };
        if condemned.noisy.remove(&lane) {
            condemned.last_quiet = condemned.last_quiet.max(at);
            self.advance(now, life_id);
        }
    }

    /// A late answer is decided once, here: before the fence it is the result, after it nothing
    /// (`late_completion_decided_once`).
    fn handle_late(&mut self, now: Instant, lane: LaneId, life_id: LifeId, key: crate::GuardKey, cqe: Cqe) {
        let ctrl_id = self.lives.get(&life_id).map(|life| life.ctrl);
        // A lost controller with a cache of its own has it there, and nowhere else: the answer is worth nothing to a flush,
        // which may have been told of this loss before the answer is heard. So it stays in doubt, and is written elsewhere.
        let cached = cqe.status().is_success() && self.guards.head_of(key).is_some_and(|head| self.caches.is_own(head));
        let condemned = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut());
        let taken = condemned.is_some_and(|condemned| {
            let held = condemned.ended != Ended::Indeterminate && !cached && condemned.in_doubt.remove(&key);
            condemned.answered_late += usize::from(held);
            held
        }) || !conditions::enabled(Guard::LateOnce);
        let fences = ctrl_id.and_then(|id| self.controllers.get_mut(&id)).map(|ctrl| &mut ctrl.counters.fences);
        for fences in fences.into_iter().chain([&mut self.counters.fences]) {
            if taken {
                fences.late_taken += 1;
            } else {
                fences.late_dropped += 1;
            }
        }
        self.emit(now, EventKind::Late { life: life_id, counted: taken });
        if taken {
            self.tell_lane(lane, ToLane::Answered { key, cqe });
            self.guards.remove(key);
            self.publish_guards();
            self.advance(now, life_id);
        } else {
            // It came late for a life whose end left a tombstone: the command is over, whatever was told its caller.
            let tombstone = self.lives.get_mut(&life_id).and_then(|life| life.condemned_mut());
            let over = |condemned: &mut Condemned| condemned.ended == Ended::Indeterminate || !cached;
            if tombstone.is_some_and(|condemned| over(condemned) && condemned.in_doubt.remove(&key)) {
                self.guards.remove(key);
                self.publish_guards();
                self.advance(now, life_id);
            }
        }
    }

    fn handle_abandoned(&mut self, entry: &LedgerEntry) {
        if !conditions::enabled(Guard::AbandonedOnEveryLane) {
            return;
        }
        let Some(life) = self.lives.get_mut(&entry.life) else { return };
        match life.condemned_mut() {
            // The ledger of its lane holds it already, and with that everything is said.
            Some(condemned) if condemned.in_doubt.contains(&entry.key) => {}
            // The ledger that is still to come will hold it.
            Some(condemned) if condemned.unanswered.contains(&LaneId(entry.key.lane)) => {}
            Some(_) => return,
            None => {}
        }
        self.guards.add(entry);
        self.publish_guards();
    }

    /// Tells every lane what nobody may touch, if that changed.
    pub(super) fn publish_guards(&mut self) {
        if let Some((epoch, entries)) = self.guards.publish() {
            self.tell_lanes(&ToLane::Guard { epoch, entries });
        }
    }

    /// Lives that are being fenced.
    pub(super) fn condemned_lives(&self) -> Vec<LifeId> {
        self.lives.iter().filter(|(_, life)| life.is_condemned()).map(|(id, _)| *id).collect()
    }
}
