//! Requests become commands, and answers become outcomes.

use super::command::command;
use super::guard::Blocked;
use super::heads::{Choice, Chosen};
use super::requests::{Bias, Doubt, Held, Reason, Sent, State, Tracked};
use super::suspects::WITNESS;
use super::{Lane, LaneOutput, LaneWhy, LifeStanding};
use crate::barrier::HANDOVER_WITHIN;
use crate::coverage::decide;
use crate::guards::{self as conditions, Guard};
use crate::{Case, Disposition, Provenance, Standing};
use crate::{ConnId, FencePolicy, GuardKey, HeadId, Outcome, Refused, Request, Suspicion, ToControl, Waiting};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::{Instant, Key};
use interlock_fence::flush_may_have_lost;
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// What may have become possible during a call; acted upon once, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Wake {
    /// A path may have become usable, or none may return any more: everything that waits tries again.
    pub(super) paths: bool,
    /// A guarded range became free.
    pub(super) guards: bool,
    /// A request is to be sent again.
    pub(super) turns: bool,
    /// A queue has a free slot.
    pub(super) slots: bool,
}

impl Lane {
    /// Checks a request and takes it over.
    pub(super) fn accept(&mut self, now: Instant, request: Request, token: u64) -> Result<(), Refused> {
        if self.shutting_down {
            return Err(Refused::ShuttingDown);
        }
        if self.requests.len() >= self.config.requests_max as usize {
            self.counters.refused_busy += 1;
            return Err(Refused::Busy);
        }
        let head = self.heads.find(request.head).ok_or(Refused::NoSuchNamespace)?;
        self.heads.check(head, &request, &self.lives)?;
        self.counters.accepted += 1;
        let index = self.requests.insert(request, token, head, now);
        self.heads.head_counter(head).io.began(now);
        self.attempt(now, index);
        Ok(())
    }

    /// Tries to put a request on a queue; it waits if that is not possible now, and ends if it never will be.
    pub(super) fn attempt(&mut self, now: Instant, index: u32) {
        let Some(tracked) = self.requests.get(index) else { return };
        debug_assert!(
            matches!(tracked.state, State::Waiting(_)),
            "one_owner_per_tag: {tracked:?} is on a queue already"
        );
        let (request, head, bias) = (tracked.request, tracked.head, tracked.bias);
        let key = self.guards.key(tracked.seq);
        if self.shutting_down {
            return self.end_unsent(now, index, Refused::ShuttingDown);
        }
        let bytes = request.data.map_or(0, |span| span.len);
        let choice = self.heads.choose(head, &self.lives, bytes, bias);
        // What cannot go anywhere ends even if it would have to wait for a guard.
        match choice {
            Choice::NoSuchNamespace => return self.end_unsent(now, index, Refused::NoSuchNamespace),
            Choice::TooLarge => return self.end_unsent(now, index, Refused::TooLarge),
            Choice::Nothing { may_return: false } => {
                self.heads.head_counter(head).fail_no_available_path += 1;
                return self.end_unsent(now, index, Refused::NoPath);
            }
            Choice::Path(_) | Choice::Full | Choice::Elsewhere(_) | Choice::Nothing { may_return: true } => {}
        }
        let blocked = self.blocked_by_guard(&request, key);
        if blocked == Blocked::Endless {
            self.counters.refused_unfenced += 1;
            return self.end_unsent(now, index, Refused::Unfenced);
        }
        if blocked == Blocked::Waits {
            return self.wait_guarded(index, Reason::Guard);
        }
        if !self.barrier.is_empty() && self.blocked_by_barrier(&request) {
            let until = self.handover_until(now, index);
            return self.wait_guarded(index, Reason::Handover { until });
        }
        if request.op == crate::Op::Flush
            && self.heads.flushes_each(head)
            && conditions::enabled(Guard::FlushEachCache)
            && matches!(choice, Choice::Path(_) | Choice::Full)
        {
            return self.flush_each(now, index);
        }
        match choice {
            Choice::Path(chosen) => self.send(now, index, &chosen),
            Choice::Full => self.wait(index, Reason::Slot),
            Choice::Elsewhere(to) => self.forward(now, index, to),
            _ => {
                self.heads.head_counter(head).requeue_no_usable_path += 1;
                self.wait(index, Reason::Path);
            }
        }
    }

    /// `overlaps_wait`. While nothing is in doubt this is one load.
    pub(super) fn blocked_by_guard(&self, request: &Request, key: GuardKey) -> Blocked {
        if self.guards.is_empty() || !request.op.changes_media() || !conditions::enabled(Guard::OverlapsWait) {
            return Blocked::No;
        }
        self.guards.blocks(request.head, request.range(), key)
    }

    /// True if it changes blocks that another lane's caller has given up, under any name that the disk may have.
    #[cold]
    pub(super) fn blocked_by_barrier(&self, request: &Request) -> bool {
        let given_up = |(head, range)| self.barrier.blocks(head, range);
        request.op.changes_media() && self.guards.names_of(request.head, request.range()).any(given_up)
    }

    fn wait_guarded(&mut self, index: u32, reason: Reason) {
        let state = self.requests.get(index).map(|tracked| tracked.state);
        if !matches!(state, Some(State::Waiting(Reason::Guard | Reason::Handover { .. }))) {
            self.counters.guarded += 1;
        }
        self.wait(index, reason);
    }

    /// How long the request waits to hear what became of writes that were given up: once and for all.
    fn handover_until(&mut self, now: Instant, index: u32) -> Instant {
        let state = self.requests.get(index).map(|tracked| tracked.state);
        let until = match state {
            Some(State::Waiting(Reason::Handover { until })) => until,
            _ => now + HANDOVER_WITHIN,
        };
        self.timers.set_earliest(LaneWhy::Handover, until);
        until
    }

    /// Some have waited too long: a reactor hangs.
    pub(super) fn handover_overdue(&mut self, now: Instant) {
        let waits = |tracked: &Tracked| match tracked.state {
            State::Waiting(Reason::Handover { until }) => Some(until),
            _ => None,
        };
        for index in self.requests.select(|tracked| waits(tracked).is_some_and(|until| until <= now)) {
            let Some(seq) = self.requests.get(index).map(|tracked| tracked.seq) else { continue };
            self.requests.waiting.remove(&seq);
            self.end_unsent(now, index, Refused::HandoverOverdue);
        }
        self.watch_delays();
    }

    pub(super) fn wait(&mut self, index: u32, reason: Reason) {
        let Some(tracked) = self.requests.get_mut(index) else { return };
        tracked.state = State::Waiting(reason);
        let (seq, head) = (tracked.seq, tracked.head);
        if reason == Reason::Slot {
            self.heads.backlog(head, index);
        } else {
            self.requests.waiting.insert(seq, index);
        }
    }

    /// The request is tried again at the end of this call, in order of acceptance.
    pub(super) fn again(&mut self, index: u32, bias: Bias) {
        if let Some(tracked) = self.requests.get_mut(index) {
            tracked.bias = bias;
        }
        self.wait(index, Reason::Turn);
        self.wake.turns = true;
    }

    pub(super) fn send(&mut self, now: Instant, index: u32, chosen: &Chosen) {
        let serial = self.requests.next_command(index);
        let Some(tracked) = self.requests.get_mut(index) else { return };
        let Some(life) = self.lives.get_mut(chosen.life) else { return };
        let Some(link) = self.links.get_mut(chosen.conn) else { return };
        debug_assert!(
            matches!(life.standing, LifeStanding::Active | LifeStanding::Isolated),
            "no_send_after_condemned: {} is {:?}",
            life.id,
            life.standing
        );
        let (sqe, out, into) = command(&tracked.request, chosen.nsid);
        let queue = link.sending().expect("path choice names queues that are up");
        let (conn, path) = (chosen.conn, chosen.counters);
        if queue.submit(sqe, out, into, serial).is_err() {
            debug_assert!(false, "the load of {conn} was counted wrong: its queue is full");
            return self.wait(index, Reason::Slot);
        }
        tracked.state = State::Sent(Sent { command: serial, conn, life: chosen.life, path, since: now });
        life.took(conn);
        link.watch(now, &mut self.timers);
        link.ask_to_send(&mut self.outputs);
        self.heads.took(tracked.head, chosen);
        self.heads.path_counter(path).io.began(now);
        self.counters.commands += 1;
    }

    /// A completion came on `conn`. `unusable` if its data is no good although the status is.
    pub(super) fn completed(&mut self, now: Instant, conn: ConnId, serial: u64, cqe: &Cqe, unusable: bool) {
        let Some(index) = self.requests.by_command(serial) else { return self.stray(conn, serial, cqe) };
        let Some(tracked) = self.requests.get(index) else { return };
        let key = self.guards.key(tracked.seq);
        // The controller says it succeeded, but moved its data wrongly: as if it had said that.
        let failed = unusable && cqe.status().is_success();
        let cqe = if failed { cqe.with_status(Status::TRANSIENT_TRANSPORT_ERROR) } else { *cqe };
        match tracked.state {
            State::Sent(sent) => {
                debug_assert_eq!(sent.conn, conn, "one_owner_per_tag: answered on another connection");
                self.answered_in_time(now, index, sent, cqe.status());
            }
            State::Held(held) => {
                // Control decides each command once: answered or released (`late_completion_decided_once`).
                self.counters.late_completions += 1;
                self.outputs.push_back(LaneOutput::ToControl(ToControl::Late { life: held.life, key, cqe }));
            }
            State::Waiting(_) | State::Ending { .. } | State::Forwarded { .. } => self.counters.stray_completions += 1,
        }
    }

    /// A completion of a command that carries no request any more. What a Flush reports counts all the same.
    #[cold]
    fn stray(&mut self, conn: ConnId, serial: u64, cqe: &Cqe) {
        self.counters.stray_completions += 1;
        let Some(left) = self.links.get_mut(conn).map(|link| &mut link.left_flushes) else { return };
        if let Some(at) = left.iter().position(|(command, _)| *command == serial) {
            let (_, head) = left.swap_remove(at);
            self.flush_reports(head, cqe.status());
        }
    }

    /// A Flush that no caller waits for was answered.
    #[cold]
    pub(super) fn flush_reports(&mut self, head: HeadId, status: Status) {
        if flush_may_have_lost(status) {
            self.outputs.push_back(LaneOutput::FlushLost { head, status });
        }
    }

    fn answered_in_time(&mut self, now: Instant, index: u32, sent: Sent, status: Status) {
        let Some(tracked) = self.requests.get(index) else { return };
        let (request, head, since) = (tracked.request, tracked.head, tracked.since);
        let case = case_of(tracked, Provenance::Answered(status), Standing::Live, FencePolicy::Strict);
        let mut emptied = false;
        let mut disposition = decide(case);
        if let Some(life) = self.lives.get_mut(sent.life) {
            life.gave_back(sent.conn);
            if life.standing != LifeStanding::Active {
                emptied = life.in_flight == 0;
                if life.standing != LifeStanding::Isolated {
                    disposition = decide(Case { standing: Standing::Condemned, ..case });
                }
            }
            if status.is_success() && self.heads.flushes_each(head) {
                life.caches.answered(now, request.head, request.op, sent, self.requests.last_command());
            }
            if status.is_success() && !life.first_good {
                life.first_good = true;
                let first = ToControl::FirstGood { life: life.id, at: now };
                self.outputs.push_back(LaneOutput::ToControl(first));
            }
            if status.is_ana() {
                self.heads.mark_stale(head, sent.life);
                if !life.ana_asked {
                    life.ana_asked = true;
                    self.outputs.push_back(LaneOutput::ToControl(ToControl::AnaStale(life.id)));
                }
            }
        }
        self.heads.answered(sent.path, sent.since);
        self.heads.path_counter(sent.path).io.ended(now);
        self.wake.slots = true;
        if disposition == Disposition::Complete && since == sent.since && self.plans.is_empty() {
            // The command was all of its request: both took the same time, and one count says so of both.
            self.heads.count_whole(sent.path, &request, since, now);
            self.finish(now, index, Outcome::Ok);
            if emptied {
                self.emptied(sent.life);
            }
            return;
        }
        if status.is_success() || status.is(Status::COMPARE_FAILURE) {
            self.heads.count_command(sent.path, &request, sent.since, now);
        }
        if !status.is_success()
            && let Some(tracked) = self.requests.get_mut(index)
        {
            tracked.note_error(status);
        }
        if !self.lost.is_empty() && !matches!(disposition, Disposition::Complete | Disposition::Fail(_)) {
            self.lost_answered(index);
        }
        let moves = disposition == Disposition::RetryElsewhere && status.is_ana();
        if !(moves && self.flush_refused(now, index, status, sent.path)) {
            self.dispose(now, index, disposition, sent.path, Some(sent.life));
        }
        if emptied {
            self.emptied(sent.life);
        }
    }

    /// Does what the choke point decided about a command that was on `path` of `life`.
    pub(super) fn dispose(&mut self, now: Instant, index: u32, disposition: Disposition, path: u32, life: Option<Key>) {
        if disposition == Disposition::Complete && !self.plans.is_empty() && self.flush_goes_on(index) {
            return;
        }
        let Some(tracked) = self.requests.get_mut(index) else { return };
        let avoid = life.map_or(Bias::None, Bias::Avoid);
        match disposition {
            Disposition::Wait => {}
            Disposition::Complete => {
                let (request, head, since) = (tracked.request, tracked.head, tracked.since);
                self.heads.count_request(head, &request, since, now);
                self.finish(now, index, Outcome::Ok);
            }
            Disposition::Fail(status) => {
                let differs = status.is(Status::COMPARE_FAILURE);
                self.heads.path_counter(path).errors += u64::from(!differs);
                if differs {
                    let (request, head, since) = (tracked.request, tracked.head, tracked.since);
                    self.heads.count_request(head, &request, since, now);
                }
                if status.is(Status::RESERVATION_CONFLICT) {
                    self.conflict(now, index, life, status);
                }
                self.finish(now, index, Outcome::Failed(status));
            }
            Disposition::RetrySamePath { crd } => {
                tracked.retries += 1;
                self.heads.path_counter(path).retries += 1;
                let delay =
                    life.and_then(|key| self.lives.get(key)).map_or(Duration::ZERO, |life| life.retry_delay(crd));
                self.again(index, life.map_or(Bias::None, Bias::Prefer));
                if !delay.is_zero() {
                    let until = now + delay;
                    self.wait(index, Reason::Delay { until });
                }
            }
            Disposition::RetryElsewhere => {
                tracked.retries = tracked.retries.saturating_add(1);
                self.heads.path_counter(path).failovers += 1;
                self.again(index, avoid);
            }
            Disposition::RetryUnsafe => {
                tracked.doubt = Doubt::Unfenced;
                self.counters.unsafe_failovers += 1;
                let counters = self.heads.path_counter(path);
                counters.failovers += 1;
                counters.unsafe_failovers += 1;
                self.again(index, avoid);
            }
            Disposition::Hold => self.hold(index, path),
            Disposition::Drop => self.end_unsent(now, index, Refused::Abandoned),
            Disposition::Indeterminate { until } => {
                // Only what is held can be given up.
                let State::Held(held) = tracked.state else { return };
                tracked.state = State::Ending { life: held.life, until };
                self.end_indeterminate(now, index);
            }
            Disposition::OutcomeUnknown => self.finish(now, index, Outcome::OutcomeUnknown),
        }
    }

    #[cold]
    fn conflict(&mut self, now: Instant, index: u32, life: Option<Key>, status: Status) {
        let head = self.requests.get(index).map(|tracked| tracked.request.head);
        let life = life.and_then(|key| self.lives.get(key)).map(|life| life.id);
        let (Some(head), Some(life)) = (head, life) else { return };
        if let Some(commands) = self.conflicts.handle(now, head, 1) {
            self.say(ToControl::Conflict { head, life, status, commands });
        }
    }

    fn hold(&mut self, index: u32, path: u32) {
        let Some(tracked) = self.requests.get_mut(index) else { return };
        let State::Sent(sent) = tracked.state else { return };
        let Some(life) = self.lives.get_mut(sent.life) else { return };
        tracked.state = State::Held(Held { command: sent.command, life: life.id, path, since: sent.since });
        life.held += 1;
        self.counters.held += 1;
        let key = self.guards.key(tracked.seq);
        self.guards.start(key, tracked.request.head, tracked.request.range());
    }

    /// Ends a request of which nothing is on any queue. `NotSent` says that nothing of it took effect: what an earlier command
    /// may have done is not covered up.
    pub(super) fn end_unsent(&mut self, now: Instant, index: u32, why: Refused) {
        let Some(tracked) = self.requests.get(index) else { return };
        self.finish(now, index, tracked.doubt.unsent(why));
    }

    /// Ends a request that was given up, once its guard outlives it: every lane has it in its table then, and this lane
    /// sees that it does (`guard_before_giving_up`).
    pub(super) fn end_indeterminate(&mut self, now: Instant, index: u32) {
        let Some(tracked) = self.requests.get(index) else { return };
        let State::Ending { until, .. } = tracked.state else { return };
        let key = self.guards.key(tracked.seq);
        self.forget_lost(key.seq);
        if self.guards.lists(key) {
            self.guards.hand_over(key);
        } else if !self.shutting_down {
            return;
        }
        self.done(now, index, Outcome::Indeterminate { until });
    }

    /// Ends a request and, with it, its guard.
    pub(super) fn finish(&mut self, now: Instant, index: u32, outcome: Outcome) {
        let Some(tracked) = self.requests.get(index) else { return };
        self.end_guard(self.guards.key(tracked.seq));
        self.done(now, index, outcome);
    }

    pub(super) fn end_guard(&mut self, key: GuardKey) {
        if self.guards.end(key) {
            self.forget_lost(key.seq);
            self.resolved.push(key);
            self.wake.guards = true;
        }
    }

    fn done(&mut self, now: Instant, index: u32, outcome: Outcome) {
        let Some(tracked) = self.requests.remove(index) else { return };
        debug_assert!(
            !self.requests.waiting.contains_key(&tracked.seq),
            "completes_exactly_once: {tracked:?} still waits"
        );
        if !self.plans.is_empty() {
            self.plans.remove(&tracked.seq);
        }
        self.counters.done += 1;
        self.heads.head_counter(tracked.head).io.ended(now);
        self.outputs.push_back(LaneOutput::Done { token: tracked.token, outcome });
    }

    /// Ends every public call: what became possible is tried, in order, and control is told what was resolved.
    pub(super) fn finish_call(&mut self, now: Instant) {
        while self.wake != Wake::default() {
            let wake = core::mem::take(&mut self.wake);
            if wake.paths {
                self.retry_backlogs(now);
            }
            if wake.paths || wake.guards || wake.turns || (wake.slots && !self.plans.is_empty()) {
                self.retry_waiting(now, wake);
                self.watch_delays();
            }
            if wake.slots && !self.heads.backlogged.is_empty() {
                self.retry_slots(now);
            }
        }
        if !self.resolved.is_empty() {
            let keys = core::mem::take(&mut self.resolved);
            self.outputs.push_back(LaneOutput::ToControl(ToControl::Resolved(keys)));
        }
    }

    fn retry_waiting(&mut self, now: Instant, wake: Wake) {
        let (lives, heads, shutting_down) = (&self.lives, &self.heads, self.shutting_down);
        let is_gone = |bias: Bias| match bias {
            Bias::Prefer(life) => lives.get(life).is_none_or(|life| !life.is_usable()),
            Bias::None | Bias::Avoid(_) => true,
        };
        let due = |tracked: &Tracked| match tracked.state {
            // The delay was asked for by a controller: without that one there is nothing to wait for.
            State::Waiting(Reason::Delay { until }) => {
                until <= now || (wake.paths && (is_gone(tracked.bias) || shutting_down))
            }
            State::Waiting(Reason::Turn) => true,
            State::Waiting(Reason::Guard | Reason::Handover { .. }) => wake.guards || wake.paths,
            State::Waiting(Reason::Path) => wake.paths,
            State::Waiting(Reason::Pinned) => wake.slots || wake.paths,
            State::Waiting(Reason::Plan) => shutting_down,
            State::Waiting(Reason::Table { epoch }) => shutting_down || heads.table_epoch() >= epoch,
            State::Waiting(Reason::Alone) => {
                let goes = || heads.is_hopeless(tracked.head, lives) || heads.is_only_elsewhere(tracked.head, lives);
                shutting_down || (wake.paths && goes())
            }
            _ => false,
        };
        let indices = self.requests.waiting.iter().map(|(seq, index)| (*seq, *index));
        let ready: Vec<(u64, u32)> = indices.filter(|(_, index)| self.requests.get(*index).is_some_and(due)).collect();
        for (seq, index) in ready {
            self.requests.waiting.remove(&seq);
            if self.lost.is_empty() || !self.keep_back(index) {
                self.attempt(now, index);
            }
        }
    }

    /// The first of the delays that controllers asked for is over.
    pub(super) fn retry_delayed(&mut self) {
        self.wake.turns = true;
    }

    /// Delays that are not over have a timer, and so have handovers.
    fn watch_delays(&mut self) {
        let (mut delay, mut handover) = (None::<Instant>, None::<Instant>);
        for index in self.requests.waiting.values() {
            let (earliest, at) = match self.requests.get(*index).map(|tracked| tracked.state) {
                Some(State::Waiting(Reason::Delay { until })) => (&mut delay, until),
                Some(State::Waiting(Reason::Handover { until })) => (&mut handover, until),
                _ => continue,
            };
            *earliest = Some(earliest.map_or(at, |earliest| earliest.min(at)));
        }
        for (why, at) in [(LaneWhy::Retry, delay), (LaneWhy::Handover, handover)] {
            match at {
                Some(at) => self.timers.set(why, at),
                None => self.timers.stop(why),
            }
        }
    }

    /// Paths have changed: everything in every backlog chooses anew.
    fn retry_backlogs(&mut self, now: Instant) {
        let heads = core::mem::take(&mut self.heads.backlogged);
        for head in heads {
            let backlog = core::mem::take(&mut self.heads.slot_mut(head).backlog);
            for index in backlog {
                self.attempt(now, index);
            }
        }
    }

    /// A slot is free: the namespaces that wait for one take turns.
    fn retry_slots(&mut self, now: Instant) {
        for _ in 0..self.heads.backlogged.len() {
            let Some(head) = self.heads.backlogged.pop_front() else { return };
            while let Some(&index) = self.heads.slot_mut(head).backlog.front() {
                let Some(tracked) = self.requests.get(index) else { break };
                let bytes = tracked.request.data.map_or(0, |span| span.len);
                if matches!(self.heads.choose(head, &self.lives, bytes, tracked.bias), Choice::Full) {
                    break;
                }
                // Keeps the slot out of `backlogged` until the loop is done with it.
                self.heads.slot_mut(head).backlog.pop_front();
                self.attempt(now, index);
            }
            if !self.heads.slot_mut(head).backlog.is_empty() && !self.heads.backlogged.contains(&head) {
                self.heads.backlogged.push_back(head);
            }
        }
    }

    /// The oldest command of a queue is due. Bounded by the depth of the queue, and seldom.
    pub(super) fn io_timeout(&mut self, now: Instant, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn) else { return };
        link.watched = false;
        let (io_timeout, life, qid) = (link.spec.io_timeout, link.spec.life, link.spec.qid);
        let super::link::Stage::Up(queue) = &link.stage else { return };
        let mut oldest: Option<(Instant, u16)> = None;
        let mut others_answer = false;
        let witness = link.witness.filter(|_| conditions::enabled(Guard::WitnessTimed));
        for outstanding in queue.outstanding() {
            let request = self.requests.by_command(outstanding.token).and_then(|index| self.requests.get(index));
            let (since, path) = match request.map(|tracked| tracked.state) {
                Some(State::Sent(sent)) => (sent.since, Some(sent.path)),
                None if outstanding.token == WITNESS => match witness {
                    Some((since, _)) => (since, None),
                    None => continue,
                },
                _ => continue,
            };
            let this = (since, outstanding.cid);
            oldest = Some(oldest.map_or(this, |oldest| oldest.min(this)));
            if since + io_timeout <= now {
                others_answer |= path.is_some_and(|path| self.heads.others_answer(path, since));
            }
        }
        let Some((since, cid)) = oldest else { return };
        link.watched = true;
        if since + io_timeout > now {
            return self.timers.set(LaneWhy::Io(conn), since + io_timeout);
        }
        self.timers.set(LaneWhy::Io(conn), now + io_timeout);
        self.counters.timeouts += 1;
        let oldest = Waiting { qid, cid };
        let why = Suspicion::IoTimeout { since, others_answer, oldest };
        self.outputs.push_back(LaneOutput::ToControl(ToControl::Suspect { life, why }));
    }
}

/// The case of a request for the choke point.
pub(super) const fn case_of(
    tracked: &Tracked,
    provenance: Provenance,
    standing: Standing,
    policy: FencePolicy,
) -> Case {
    Case {
        op: tracked.request.op,
        provenance,
        standing,
        policy,
        abandoned: tracked.abandoned,
        retries: tracked.retries,
    }
}
