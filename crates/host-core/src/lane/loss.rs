//! Condemn, hold, settle; late answers, orderly ends, abandoned requests.
//!
//! The order inside [`Lane::condemn`] is the heart of it: first every queue of the life is halted, then the ledger is
//! sorted and the ranges of what is in doubt are guarded, and only then, at the end of the call, is anything sent again.

use super::connect::ABORT_AGAIN;
use super::data::case_of;
use super::link::{Socket, Stage};
use super::requests::{Doubt, Reason, State};
use super::{Lane, LaneOutput, LaneStatus, LaneWhy, LifeStanding, LifeStatus};
use crate::coverage::decide;
use crate::guards::{self as conditions, Guard};
use crate::{
    ConnAction, ConnId, FencePolicy, GuardEntry, GuardKey, LedgerEntry, LifeId, Op, Outcome, Refused, Release,
    ToControl,
};
use crate::{Disposition, Provenance, Standing};
use alloc::sync::Arc;
use alloc::vec::Vec;
use interlock_base::{Instant, Key};
use interlock_proto::host::{Event, Sent};
use interlock_wire::sqe::Cqe;

impl Lane {
    pub(super) fn condemn(&mut self, now: Instant, life: LifeId, policy: FencePolicy) {
        let Some(key) = self.life(life) else {
            self.heads.open_elsewhere(life);
            self.say(ToControl::Condemned { life, ledger: Vec::new(), settled: 0 });
            return self.say(ToControl::Quiet { life, at: now });
        };
        let Some(entry) = self.lives.get_mut(key) else { return };
        if !matches!(entry.standing, LifeStanding::Condemned(_) | LifeStanding::Settled) {
            entry.standing = LifeStanding::Condemned(policy);
            let conns: Vec<ConnId> = entry.queues.iter().map(|queue| queue.conn).collect();
            let mut ledger = Vec::new();
            for conn in &conns {
                self.halt(now, *conn, &mut ledger);
            }
            // Oldest first: released, requeued and reported in the order in which they were accepted.
            ledger.sort_unstable_by_key(|(seq, ..)| *seq);
            self.note_carried(life, &ledger, policy);
            let all = ledger.len();
            let sorted =
                ledger.into_iter().filter_map(|(_, index, provenance)| self.sort(now, life, index, provenance, policy));
            let ledger: Vec<_> = sorted.collect();
            let settled = all - ledger.len();
            for conn in conns {
                self.detach_unheld(conn);
            }
            self.say_cached(key);
            self.say(ToControl::Condemned { life, ledger, settled });
        } else {
            let ledger = self.held_ledger(life);
            self.say(ToControl::Condemned { life, ledger, settled: 0 });
        }
        self.check_quiet(now, key);
    }

    /// Stops a queue of a condemned life for good and appends what is on it to `ledger`.
    fn halt(&mut self, now: Instant, conn: ConnId, ledger: &mut Vec<(u64, u32, Provenance)>) {
        let Some(link) = self.links.get_mut(conn) else { return };
        self.timers.stop_where(|why| {
            matches!(why, LaneWhy::Connect(c) | LaneWhy::Io(c) | LaneWhy::LastWords(c) | LaneWhy::LateGrace(c) if c == conn)
        });
        link.watched = false;
        let (queue, socket) = match core::mem::replace(&mut link.stage, Stage::Dialing) {
            Stage::Dialing | Stage::Connecting(_) => (None, Socket::Aborting),
            Stage::Up(queue) => (Some(queue), Socket::Watched),
            Stage::Lost(queue, Socket::Gone) => (Some(queue), Socket::Gone),
            Stage::Lost(queue, _) => (Some(queue), Socket::Aborting),
            Stage::Condemned(queue, socket) => (queue, socket),
        };
        match socket {
            Socket::Watched => {
                if conditions::enabled(Guard::StopSending) {
                    self.outputs.push_back(LaneOutput::Conn(ConnAction::StopSending(conn)));
                }
                self.outputs.push_back(LaneOutput::Conn(ConnAction::WatchDrain(conn)));
                self.timers.set(LaneWhy::LateGrace(conn), now + link.spec.late_grace);
            }
            Socket::Aborting => {
                self.outputs.push_back(LaneOutput::Conn(ConnAction::StopSending(conn)));
                self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
                self.timers.set(LaneWhy::LateGrace(conn), now + ABORT_AGAIN);
            }
            Socket::LastWords | Socket::Empty | Socket::Gone => {}
        }
        let queue = queue.map(|mut queue| {
            queue.halt();
            // Answers that waited for the driver to let go of the command's bytes: it has, with `StopSending`.
            while let Some(event) = queue.poll_event() {
                if let Event::Completed { token, cqe, error, .. } = event {
                    self.completed(now, conn, token, &cqe, error.is_some());
                }
            }
            queue
        });
        if let Some(queue) = &queue {
            for command in queue.outstanding() {
                let Some(index) = self.requests.by_command(command.token) else { continue };
                let Some(tracked) = self.requests.get(index) else { continue };
                let provenance = match command.sent {
                    Sent::Begun if !conditions::enabled(Guard::SentIsInDoubt) => Provenance::Unsent,
                    Sent::Nothing => Provenance::Unsent,
                    Sent::Begun => Provenance::Unanswered,
                };
                ledger.push((tracked.seq, index, provenance));
            }
        }
        let Some(link) = self.links.get_mut(conn) else { return };
        if let Some(slot) = self.lives.get_mut(link.life).and_then(|life| life.queue_mut(conn)) {
            slot.up = false;
        }
        // Only an open socket has answers left to decode.
        link.stage = Stage::Condemned(if socket == Socket::Watched { queue } else { None }, socket);
    }

    /// Decides about one command of a life that was just condemned; answers with its entry if it is in doubt, also if
    /// the policy has it sent again all the same.
    fn sort(
        &mut self,
        now: Instant,
        life: LifeId,
        index: u32,
        provenance: Provenance,
        policy: FencePolicy,
    ) -> Option<LedgerEntry> {
        let tracked = self.requests.get(index)?;
        let State::Sent(sent) = tracked.state else { return None };
        let mut disposition = decide(case_of(tracked, provenance, Standing::Condemned, policy));
        let zeroing = matches!(tracked.request.op, Op::WriteZeroes { .. } | Op::Discard);
        let held = conditions::enabled(Guard::Hold) && (!zeroing || conditions::enabled(Guard::ZeroingIsHeld));
        if disposition == Disposition::Hold && !held {
            disposition = Disposition::RetryElsewhere;
        }
        if tracked.request.op == Op::Flush
            && provenance == Provenance::Unanswered
            && let Some(link) = self.links.get_mut(sent.conn)
        {
            link.left_flushes.push((sent.command, tracked.request.head));
        }
        let in_doubt = matches!(disposition, Disposition::Hold | Disposition::RetryUnsafe);
        let entry = if in_doubt { self.ledger_entry(index, life) } else { None };
        if let Some(life) = self.lives.get_mut(sent.life) {
            life.gave_back(sent.conn);
        }
        self.heads.path_counter(sent.path).io.ended(now);
        self.dispose(now, index, disposition, sent.path, Some(sent.life));
        entry
    }

    /// What is not held was taken from the queue: data that still comes for it must not reach a buffer that is somebody
    /// else's by then (`buffer_has_one_writer`).
    fn detach_unheld(&mut self, conn: ConnId) {
        if !conditions::enabled(Guard::Detach) {
            return;
        }
        let Some(link) = self.links.get_mut(conn) else { return };
        let Stage::Condemned(Some(queue), _) = &mut link.stage else { return };
        let requests = &self.requests;
        let freed: Vec<u64> = queue
            .outstanding()
            .map(|command| command.token)
            .filter(|token| requests.by_command(*token).is_none())
            .collect();
        for token in freed {
            queue.detach(token);
        }
    }

    fn held_ledger(&self, life: LifeId) -> Vec<LedgerEntry> {
        let held = self.requests.select(|tracked| matches!(tracked.state, State::Held(held) if held.life == life));
        held.into_iter().filter_map(|index| self.ledger_entry(index, life)).collect()
    }

    pub(super) fn ledger_entry(&self, index: u32, life: LifeId) -> Option<LedgerEntry> {
        let tracked = self.requests.get(index)?;
        let since = match tracked.state {
            State::Sent(sent) => sent.since,
            State::Held(held) => held.since,
            State::Waiting(_) | State::Ending { .. } | State::Forwarded { .. } => return None,
        };
        Some(LedgerEntry {
            key: self.guards.key(tracked.seq),
            life,
            head: tracked.request.head,
            op: tracked.request.op,
            range: tracked.request.range(),
            since,
            abandoned: tracked.abandoned,
        })
    }

    pub(super) fn send_queue_empty(&mut self, now: Instant, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn) else { return };
        if let Stage::Condemned(_, socket @ Socket::Watched) = &mut link.stage {
            *socket = Socket::Empty;
            self.timers.stop(LaneWhy::LateGrace(conn));
            let life = link.life;
            self.check_quiet(now, life);
        }
    }

    /// Says `Quiet` once no socket of a condemned life can send, and forgets a settled life whose sockets are gone.
    pub(super) fn check_quiet(&mut self, now: Instant, key: Key) {
        let Some(life) = self.lives.get_mut(key) else { return };
        if !matches!(life.standing, LifeStanding::Condemned(_) | LifeStanding::Settled) {
            return;
        }
        let quiet = life.queues.iter().all(|queue| self.links.get(queue.conn).is_none_or(super::link::Link::is_quiet));
        if quiet && !life.quiet_said {
            life.quiet_said = true;
            self.outputs.push_back(LaneOutput::ToControl(ToControl::Quiet { life: life.id, at: now }));
        }
        if life.standing == LifeStanding::Settled {
            let links = &self.links;
            let gone = |conn| links.get(conn).is_none_or(|l| matches!(l.stage, Stage::Condemned(_, Socket::Gone)));
            if life.queues.iter().all(|queue| gone(queue.conn)) {
                self.forget(key);
            }
        }
    }

    fn forget(&mut self, key: Key) {
        let Some(life) = self.lives.remove(key) else { return };
        for queue in life.queues {
            self.links.remove(queue.conn);
            self.timers.stop_where(|why| {
                matches!(why, LaneWhy::Connect(c) | LaneWhy::Io(c) | LaneWhy::LastWords(c) | LaneWhy::LateGrace(c) if c == queue.conn)
            });
        }
    }

    pub(super) fn settle(&mut self, now: Instant, life: LifeId, release: Release) {
        if release == Release::Retry {
            // Given up before, fenced after all.
            let given_up = |state| matches!(state, State::Ending { life: of, .. } if of == life);
            for index in self.requests.select(|tracked| given_up(tracked.state)) {
                self.finish(now, index, Outcome::OutcomeUnknown);
            }
        }
        let Some(key) = self.life(life) else { return };
        let standing = self.lives.get(key).map(|life| life.standing);
        if !matches!(standing, Some(LifeStanding::Condemned(_) | LifeStanding::Settled)) {
            self.condemn(now, life, FencePolicy::Strict);
        }
        // First the sockets, then the commands: no answer and no data of this life counts from here on.
        self.close_condemned(key);
        if let Some(life) = self.lives.get_mut(key) {
            life.standing = LifeStanding::Settled;
            life.held = 0;
        }
        let held = self.requests.select(|tracked| matches!(tracked.state, State::Held(held) if held.life == life));
        for index in held {
            let Some(tracked) = self.requests.get_mut(index) else { continue };
            let State::Held(held) = tracked.state else { continue };
            let standing = match release {
                Release::Retry => Standing::Fenced,
                Release::Indeterminate { until } => Standing::GivenUp { until },
            };
            let mut disposition = decide(case_of(tracked, Provenance::Unanswered, standing, FencePolicy::Strict));
            if disposition == Disposition::OutcomeUnknown && !conditions::enabled(Guard::AbandonedNeverRetried) {
                disposition = Disposition::RetryElsewhere;
            }
            if disposition == Disposition::RetryElsewhere {
                tracked.doubt = Doubt::Fenced;
                self.counters.released += 1;
            }
            self.dispose(now, index, disposition, held.path, Some(key));
        }
        self.check_quiet(now, key);
    }

    fn close_condemned(&mut self, key: Key) {
        let Some(life) = self.lives.get(key) else { return };
        for queue in &life.queues {
            let Some(link) = self.links.get_mut(queue.conn) else { continue };
            if let Stage::Condemned(queue, socket) = &mut link.stage {
                *queue = None;
                if matches!(socket, Socket::Watched | Socket::Empty) {
                    *socket = Socket::Aborting;
                    self.timers.stop(LaneWhy::LateGrace(link.conn));
                    self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(link.conn)));
                }
            }
        }
    }

    /// Control decided that a held command was answered: exactly as if the answer had come in time.
    pub(super) fn answered(&mut self, now: Instant, key: GuardKey, cqe: &Cqe) {
        if key.lane != self.config.id.0 {
            return;
        }
        let found = self.requests.select(|tracked| tracked.seq == key.seq);
        let Some(index) = found.first().copied() else { return };
        let Some(tracked) = self.requests.get_mut(index) else { return };
        let State::Held(held) = tracked.state else { return };
        if !cqe.status().is_success() {
            tracked.note_error(cqe.status());
        }
        let provenance = Provenance::Answered(cqe.status());
        let disposition = decide(case_of(tracked, provenance, Standing::Condemned, FencePolicy::Strict));
        let life = self.life(held.life);
        if let Some(life) = life.and_then(|key| self.lives.get_mut(key)) {
            life.held = life.held.saturating_sub(1);
        }
        if !self.lost.is_empty() {
            self.lost_answered(index);
        }
        // An answered command cannot execute any more: its range is free even if its request goes on elsewhere.
        self.end_guard(key);
        self.dispose(now, index, disposition, held.path, life);
    }

    pub(super) fn guard_table(&mut self, now: Instant, epoch: u64, entries: Arc<Vec<GuardEntry>>) {
        self.guards.set_table(entries);
        self.say(ToControl::GuardSeen(epoch));
        for index in self.requests.select(|tracked| matches!(tracked.state, State::Ending { .. })) {
            self.end_indeterminate(now, index);
        }
        self.wake.guards = true;
    }

    pub(super) fn drain(&mut self, now: Instant, life: LifeId) {
        let Some(key) = self.life(life) else {
            self.heads.open_elsewhere(life);
            return self.say(ToControl::Drained(life));
        };
        let Some(entry) = self.lives.get_mut(key) else { return };
        if matches!(entry.standing, LifeStanding::Condemned(_) | LifeStanding::Settled) {
            // It was condemned meanwhile; that answers this as well.
            return self.check_quiet(now, key);
        }
        entry.standing = LifeStanding::Draining;
        self.wake.paths = true;
        if entry.in_flight == 0 {
            self.drained(key);
        }
    }

    /// Nothing of a draining life is in flight any more: its sockets close in order.
    pub(super) fn drained(&mut self, key: Key) {
        let Some(life) = self.lives.get(key) else { return };
        debug_assert_eq!(life.in_flight, 0, "{} is drained with commands in flight", life.id);
        let id = life.id;
        for queue in &life.queues {
            let Some(link) = self.links.get(queue.conn) else { continue };
            let action = match link.stage {
                Stage::Up(_) => ConnAction::Close(link.conn),
                Stage::Lost(_, Socket::Gone) => continue,
                _ => ConnAction::Abort(link.conn),
            };
            self.outputs.push_back(LaneOutput::Conn(action));
        }
        self.say_cached(key);
        self.forget(key);
        self.say(ToControl::Drained(id));
    }

    pub(super) fn abandon_request(&mut self, now: Instant, token: u64) {
        let found = self.requests.select(|tracked| tracked.token == token && !tracked.abandoned);
        for index in found {
            let Some(tracked) = self.requests.get_mut(index) else { continue };
            tracked.abandoned = true;
            let (seq, head, request) = (tracked.seq, tracked.head, tracked.request);
            let key = self.guards.key(seq);
            match tracked.state {
                State::Waiting(reason) => {
                    if reason == Reason::Slot {
                        self.heads.leave_backlog(head, index);
                    } else {
                        self.requests.waiting.remove(&seq);
                    }
                    self.end_unsent(now, index, Refused::Abandoned);
                }
                State::Sent(sent) => {
                    self.counters.abandoned += 1;
                    if request.op.changes_media() && conditions::enabled(Guard::AbandonedIsGuarded) {
                        self.guards.start(key, request.head, request.range());
                        let life = self.lives.get(sent.life).map(|life| life.id);
                        if let Some(entry) = life.and_then(|life| self.ledger_entry(index, life)) {
                            self.say(ToControl::Abandoned(entry));
                        }
                    }
                }
                State::Held(held) => {
                    self.counters.abandoned += 1;
                    if let Some(entry) = self.ledger_entry(index, held.life) {
                        self.say(ToControl::Abandoned(entry));
                    }
                }
                State::Forwarded { ticket, to } => self.give_up_forwarded(to, ticket, seq, &request),
                State::Ending { .. } => {}
            }
        }
    }

    /// Control says this last, after it ended every life. What is left all the same ends with the truth about it.
    pub(super) fn shut_down(&mut self, now: Instant) {
        self.shutting_down = true;
        let left: Vec<LifeId> = self.lives.iter().map(|(_, life)| life.id).collect();
        for life in left {
            self.settle(now, life, Release::Indeterminate { until: None });
        }
        for index in self.requests.select(|tracked| matches!(tracked.state, State::Ending { .. })) {
            self.end_indeterminate(now, index);
        }
        self.wake.paths = true;
    }

    pub(super) fn status_now(&self) -> LaneStatus {
        let mut status = LaneStatus {
            requests: count(self.requests.len()),
            guards: count(self.guards.len()),
            backlogged: count(self.heads.backlog_len()),
            ..LaneStatus::default()
        };
        for (_, tracked) in self.requests.iter() {
            match tracked.state {
                State::Waiting(Reason::Guard | Reason::Handover { .. }) => status.guarded += 1,
                State::Waiting(Reason::Path | Reason::Turn | Reason::Plan | Reason::Alone | Reason::Table { .. }) => {
                    status.requeued += 1;
                }
                State::Waiting(Reason::Delay { .. }) => status.delayed += 1,
                State::Waiting(Reason::Pinned) => status.backlogged += 1,
                State::Waiting(Reason::Slot) => {}
                State::Sent(_) => status.in_flight += 1,
                // The lane that carries it out says how it stands.
                State::Forwarded { .. } => status.requests -= 1,
                State::Held(_) | State::Ending { .. } => status.held += 1,
            }
        }
        status.lives.extend(self.lives.iter().map(|(_, life)| LifeStatus {
            life: life.id,
            ctrl: life.ctrl,
            standing: life.standing,
            in_flight: life.in_flight,
            held: life.held,
            queues_up: count(life.queues.iter().filter(|queue| queue.up).count()),
        }));
        status.lives.sort_unstable_by_key(|life| life.life);
        status.waits.extend(self.waits());
        status
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
