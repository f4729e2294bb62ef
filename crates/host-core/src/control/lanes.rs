//! What lanes say.

use super::Control;
use super::life::Phase;
use crate::guards::{self as conditions, Guard};
use crate::{DownReason, EventKind, GuardKey, LaneId, LedgerEntry, LifeId, Loss, ToControl};
use interlock_base::Instant;
use interlock_fence::Input;
use interlock_wire::sqe::Cqe;

impl Control {
    /// What a lane said. Messages of one lane come in order; nothing is assumed across lanes.
    pub fn handle_lane(&mut self, now: Instant, lane: LaneId, message: ToControl) {
        match message {
            ToControl::QueueUp { life, qid } => self.handle_queue_up(now, life, qid),
            ToControl::QueueDown { life, qid, why } => self.handle_queue_down(now, lane, life, qid, why),
            ToControl::Suspect { life, why } => self.handle_suspicion(now, life, why),
            ToControl::Condemned { life, ledger: entries, settled } => {
                self.fence(now, Input::Ledger { lane, life, entries, settled });
            }
            ToControl::Quiet { life, at } => self.fence(now, Input::Quiet { lane, life, at }),
            ToControl::Drained(life) => self.handle_drained(now, lane, life),
            ToControl::GuardSeen(epoch) => self.fence(now, Input::TableSeen { lane, epoch }),
            ToControl::Late { life, key, cqe } => self.handle_late(now, lane, life, key, cqe),
            ToControl::Abandoned(entry) => self.handle_abandoned(now, entry),
            ToControl::HandedOver(number) => self.handovers.handle(lane, number),
            ToControl::Resolved(keys) => self.fence(now, Input::Resolved(keys)),
            ToControl::AnaStale(life_id) => {
                if let Some(life) = self.lives.get_mut(&life_id) {
                    (life.todo.ana, life.todo.tell) = (true, true);
                    self.do_tasks(now, life_id);
                }
            }
            ToControl::Conflict { head, life, status, commands } => {
                if let Some(commands) = self.conflicts.handle(now, head, commands) {
                    self.emit(now, EventKind::ReservationConflict { head, life, status, commands });
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

    /// A lost controller with a cache of its own has a late answer's data there, and nowhere else: the answer is worth nothing
    /// to a flush, which may have been told of this loss before the answer is heard. So it stays in doubt, and is written
    /// elsewhere.
    fn handle_late(&mut self, now: Instant, lane: LaneId, life: LifeId, key: GuardKey, cqe: Cqe) {
        let cached = cqe.status().is_success() && self.fences.head_of(key).is_some_and(|head| self.caches.is_own(head));
        self.fence(now, Input::Late { lane, life, key, cqe, cached });
    }

    fn handle_abandoned(&mut self, now: Instant, entry: LedgerEntry) {
        if conditions::enabled(Guard::AbandonedOnEveryLane) && self.lives.get(&entry.life).is_some() {
            self.fence(now, Input::Abandoned(entry));
        }
    }
}
