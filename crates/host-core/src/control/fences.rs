//! Between Control and the fences: what happens goes in, and what comes out is carried out in order.

use super::admin::{Answer, Purpose, plain, reading};
use super::waits::Why;
use super::{Control, Job, JobFor, MAX_RECEIPTS, Output};
use crate::{EventKind, LifeId, Method, Receipt, StoreWork, ToLane};
use alloc::boxed::Box;
use interlock_base::{Deadline, Instant};
use interlock_fence as fence;
use interlock_fence::{Input, Told, Wait};
use interlock_wire::ccr::{self, CrossControllerReset};

/// A wait of the fences, as one of Control's.
pub(super) const fn wait(wait: Deadline<Wait>) -> Deadline<Why> {
    let why = match wait.why {
        Wait::Lanes(life) => Why::LaneAnswer(life),
        Wait::Source(life) => Why::Fence(life),
        Wait::Hold(life) => Why::Hold(life),
        Wait::GiveUp(life) => Why::Grace(life),
        Wait::OldSockets(life) => Why::OldSockets(life),
        Wait::Owner(life) => Why::Owner(life),
    };
    Deadline { at: wait.at, why }
}

impl Control {
    /// Something that concerns fences happened.
    pub(super) fn fence(&mut self, now: Instant, input: Input) {
        self.fences.handle(now, input);
        self.route(now);
    }

    /// Carries out what the fences want.
    pub(super) fn route(&mut self, now: Instant) {
        while let Some(output) = self.fences.poll(now) {
            self.carry_out(now, output);
        }
    }

    fn carry_out(&mut self, now: Instant, output: fence::Output) {
        match output {
            fence::Output::Ccr { life, source, impacted } => {
                let sqe = CrossControllerReset { impacted }.to_sqe();
                let limit = self.admin_limit(source);
                if self.ask(now, source, Purpose::Ccr { life }, plain(sqe), limit) {
                    self.count_ccr(now, life, source);
                } else {
                    self.fences.handle(now, Input::CcrNotSent { life, source });
                }
            }
            fence::Output::ReadLog { source, remove } => {
                let get = ccr::get_log(remove);
                let limit = self.admin_limit(source);
                if !self.ask(now, source, Purpose::CcrLog { remove }, reading(get.to_sqe(), get.len), limit) {
                    self.fences.handle(now, Input::LogNotSent(source));
                }
            }
            fence::Output::Table { epoch, entries } => self.tell_lanes(&ToLane::Guard { epoch, entries }),
            fence::Output::Cut(lane, life) => self.outputs.push_back(Output::Cut(lane, life)),
            fence::Output::RawClock(life) => self.outputs.push_back(Output::RawClock(life)),
            fence::Output::ConfirmOwner(life) => {
                self.job(JobFor::Owner(life), Job::ConfirmOwner);
            }
            fence::Output::Disowned(why) => self.disowned(now, why),
            fence::Output::Sorted { life, in_doubt, settled, oldest } => {
                if let Some(lost) = self.fences.lost(life).filter(|lost| lost.served) {
                    let ctrl = lost.ctrl;
                    self.emit(now, EventKind::Condemned { ctrl, life, in_doubt, settled, oldest });
                }
                self.judge_cache(now, life, false);
                self.judge_suspects(now, life);
            }
            fence::Output::Answer { lane, key, cqe } => self.tell_lane(lane, ToLane::Answered { key, cqe }),
            fence::Output::Settle { life, release } => self.tell_lanes(&ToLane::Settle { life, release }),
            fence::Output::Fenced(receipt) => self.keep_receipt(now, *receipt),
            fence::Output::GivenUp(life) => {
                let Some(given_up) = self.lives.get(&life) else { return };
                let ctrl = given_up.ctrl;
                self.suspects.given_up(now, &given_up.subnqn, life);
                self.drop_admin(life, false);
                self.check_deleted(now, ctrl);
            }
            fence::Output::Over(life) => {
                self.job(JobFor::Store(life, StoreWork::Forget), Job::ForgetLife(life));
                self.drop_admin(life, false);
                self.forget_life(now, life);
            }
            fence::Output::Left(ctrl) => self.check_deleted(now, ctrl),
            fence::Output::Told(told) => self.pass_on(now, told),
        }
    }

    /// What fences tell is counted, and told to whoever listens.
    fn pass_on(&mut self, now: Instant, told: Told) {
        let kind = match told {
            Told::HoldUntil { life, t0, deadline, assumed } => EventKind::HoldUntil { life, t0, deadline, assumed },
            Told::CcrAnswered { life, source, status, immediate } => {
                let Some(source) = self.lives.get(&source).map(|source| source.ctrl) else { return };
                if let Some(ctrl) = self.controllers.get_mut(&source) {
                    *ctrl.counters.ccr_by_status.entry(status.code()).or_default() += 1;
                }
                EventKind::CcrAnswered { life, source, status, immediate }
            }
            Told::StaleEntry { life, source } => EventKind::StaleEntry { life, source },
            Told::LaneSilent { life, lanes } => EventKind::LaneSilent { life, lanes },
            Told::Late { life, counted } => {
                self.count(life, |fences| {
                    if counted {
                        fences.late_taken += 1;
                    } else {
                        fences.late_dropped += 1;
                    }
                });
                EventKind::Late { life, counted }
            }
            Told::NothingInDoubt { life, answered_late } => {
                self.count(life, |fences| fences.not_needed += 1);
                let Some(ctrl) = self.lives.get(&life).map(|life| life.ctrl) else { return };
                EventKind::NothingInDoubt { ctrl, life, answered_late }
            }
            Told::Released { life, commands, method } => {
                if method == Method::Legacy {
                    self.count(life, |fences| fences.unsafe_failovers += commands as u64);
                }
                EventKind::Released { life, commands }
            }
            Told::TombstoneSet { life, in_doubt, until } => {
                self.count(life, |fences| fences.tombstones += 1);
                EventKind::TombstoneSet { life, in_doubt, until }
            }
            Told::TombstoneEnded { life, method } => EventKind::TombstoneEnded { life, method },
            Told::PredecessorFound { ctrl, life, subnqn, identity } => {
                self.counters.fences.attempts += 1;
                EventKind::PredecessorFound { ctrl, life, subnqn, identity }
            }
            Told::PredecessorLingers { life } => EventKind::PredecessorLingers { life },
            Told::OwnerUnconfirmed { life } => EventKind::OwnerUnconfirmed { life },
        };
        self.emit(now, kind);
    }

    /// Counts for the controller of a life, and for the host.
    fn count(&mut self, life: LifeId, add: impl Fn(&mut super::FenceCounters)) {
        let ctrl = self.lives.get(&life).map(|life| life.ctrl);
        let ctrl = ctrl.and_then(|ctrl| self.controllers.get_mut(&ctrl)).map(|ctrl| &mut ctrl.counters.fences);
        ctrl.into_iter().chain([&mut self.counters.fences]).for_each(add);
    }

    fn count_ccr(&mut self, now: Instant, life: LifeId, source_life: LifeId) {
        let Some(source) = self.lives.get(&source_life).map(|source| source.ctrl) else { return };
        if let Some(ctrl) = self.controllers.get_mut(&source) {
            ctrl.counters.ccr_sent += 1;
        }
        self.emit(now, EventKind::CcrSent { life, source, source_life });
    }

    pub(super) fn handle_ccr(&mut self, now: Instant, source: LifeId, life: LifeId, answer: &Answer) {
        let immediate = ccr::immediate(answer.cqe.dw0.get());
        self.fence(now, Input::CcrAnswer { life, source, status: answer.status(), immediate });
    }

    fn keep_receipt(&mut self, now: Instant, receipt: Receipt) {
        let held_ms = receipt.held_ms();
        let in_doubt = receipt.in_doubt as u64;
        self.count(receipt.life, |fences| {
            *fences.by_method.entry(receipt.method).or_default() += 1;
            fences.held_ms += held_ms;
            fences.in_doubt += in_doubt;
            fences.in_doubt_max = fences.in_doubt_max.max(in_doubt);
            if receipt.method == Method::AcceptedRisk {
                // Of a predecessor the number is not known: it is one risk at least.
                fences.unsafe_failovers += in_doubt.max(1);
            }
        });
        self.emit(now, EventKind::Fenced(Box::new(receipt.clone())));
        if self.receipts.len() >= MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        self.receipts.push_back(receipt);
    }
}
