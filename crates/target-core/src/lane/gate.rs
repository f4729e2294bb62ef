//! The gate in front of the media.
//!
//! A command is executed only if its life may still execute *at that moment*, whoever delivered it and however long it
//! stalled: this one check is what makes a fence true. The scripted stalls sit here too, before the check, because that
//! is where a real array stalls: behind the queue, inside the device, out of reach of the connection.

use super::{End, Lane, LaneOutput, MediaOp, Takes, Why};
use crate::quota::AccountId;
use crate::{
    BlockRange, By, ConnId, Counters, Event, Ghost, Life, LifeId, Loss, MediaId, MediaKind, MediaResult, NamespaceKey,
    Namespaces, PortId, SubsystemId, ToControl, Work,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::time::Duration;
use interlock_base::{Instant, Key, Span};
use interlock_wire::nvm::{OPCODE_COMPARE, OPCODE_READ, OPCODE_WRITE};
use interlock_wire::status::Status;

/// Most cancelled stalled commands that are remembered until they try to execute; the oldest is forgotten first.
pub(super) const TOMBSTONES_MAX: usize = 16_384;

/// Bytes that lie at the media of a lane at once, each operation counted as [`OPERATION_COST`] more: a command of another payer waits for
/// no more than what it takes to move these, and a disk has enough to do.
pub(super) const MEDIA_MAX: u64 = 32 << 20;

/// What an operation costs besides its bytes: some 500 small ones are under way at once.
const OPERATION_COST: u64 = 64 << 10;

/// Bytes of an operation that count: a very long one can still begin.
const COUNTED_MAX: u64 = 1 << 20;

/// Bytes that a block counts as where no payload says how many there are: the largest that there is.
const BLOCK: u64 = 4096;

/// While few operations are under way, the small ones among them are not counted: nobody waits long for them.
const FEW: usize = 256;
const SMALL: u32 = 16 << 10;

/// Payers that are tried in vain when an operation is over, before that is left for the next one.
const TRIES: usize = 64;

/// What a command asks for, without its data.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) nsid: u32,
    pub(super) checked: Checked,
    pub(super) work: Work,
}

/// What a command was checked against. Before it is executed the namespace can be taken away, another can get its NSID, or it
/// can lose blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    /// Which of the namespaces that ever had its NSID ([`crate::Namespaces::serial`]).
    pub(super) serial: u64,
    /// As how many tables of namespaces had come by then: while there is no newer one, nothing has changed.
    pub(super) table: u64,
}

/// A command behind its queue: its data is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inside {
    pub(super) life: LifeId,
    /// Who pays.
    pub(super) account: AccountId,
    /// Who waits for the answer; nobody once the connection is gone.
    pub(super) owner: Option<(ConnId, u16)>,
    pub(super) task: Task,
    pub(super) span: Option<Span>,
}

/// Until when a command stalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Until {
    /// Until somebody says so.
    Released,
    /// Its timer.
    Timer,
}

/// A stalled command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stalled {
    pub(super) inside: Inside,
    pub(super) until: Until,
}

/// A stalled command that was cancelled, and that will still try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tombstone {
    ghost: Ghost,
    by: By,
    until: Until,
}

/// A command that a namespace works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Job {
    life: LifeId,
    account: AccountId,
    /// What it was charged for being under way.
    cost: u64,
    pub(super) owner: Option<(ConnId, u16)>,
    span: Option<Span>,
    /// Its opcode, namespace and first block.
    what: (u8, u32, u64),
}

/// Whether a life may execute, as this lane knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Permit {
    /// Its commands execute, those without a connection too.
    Open,
    /// Nothing executes any more; waiting for the last media operation.
    Quiescing {
        /// What ended it.
        by: By,
        /// Stalled commands that were cancelled.
        cancelled: u32,
    },
}

/// What is known of the traffic of a life since `Control` asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Traffic {
    /// None yet.
    Silent,
    /// The first was reported; this is when the last command came.
    Reported {
        /// When.
        last: Instant,
    },
}

/// What a lane knows of a life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LaneLife {
    pub(super) life: Life,
    pub(super) permit: Permit,
    pub(super) conns: BTreeSet<ConnId>,
    pub(super) traffic: Traffic,
    /// Media operations that have not completed.
    outstanding: u32,
    /// What was done since `Control` asked.
    pub(super) counters: Counters,
    /// Stalled media-changing commands.
    held: u32,
    /// From this moment on nothing begins, whatever the permit says and whoever has not noticed.
    until: Option<Instant>,
}

impl LaneLife {
    pub(super) fn new(life: Life, until: Option<Instant>) -> Self {
        let traffic = Traffic::Silent;
        Self {
            life,
            permit: Permit::Open,
            conns: BTreeSet::new(),
            traffic,
            outstanding: 0,
            counters: Counters::default(),
            held: 0,
            until,
        }
    }

    /// A media operation is over.
    fn count(&mut self, opcode: u8, span: Option<Span>, result: MediaResult) {
        let bytes = span.map_or(0, |span| u64::from(span.len));
        match (opcode, result) {
            (OPCODE_READ | OPCODE_COMPARE, MediaResult::Done | MediaResult::Different) => {
                self.counters.reads += 1;
                self.counters.bytes_read += bytes;
            }
            (OPCODE_WRITE, MediaResult::Done) => {
                self.counters.writes += 1;
                self.counters.bytes_written += bytes;
            }
            (_, MediaResult::ReadFailed | MediaResult::WriteFailed | MediaResult::FlushFailed) => {
                self.counters.media_errors += 1;
            }
            _ => {}
        }
    }

    /// True if a media operation may begin.
    pub(super) fn may_execute(&self, now: Instant) -> bool {
        self.permit == Permit::Open && self.until.is_none_or(|until| now < until)
    }
}

impl Lane {
    /// A command with all its data arrives at the gate.
    pub(super) fn arrive(&mut self, now: Instant, port: PortId, inside: Inside) {
        let faults = self.faults.get(&port).copied().unwrap_or_default();
        if faults.takes != Takes::All && self.swallows(port, faults.takes, &inside) {
            return;
        }
        if let Some(status) = faults.fail {
            self.free(inside.account, inside.owner.map(|(conn, _)| conn), inside.span);
            if let Some((conn, slot)) = inside.owner {
                let Task { nsid, work, .. } = &inside.task;
                let what = (work.opcode(), *nsid, first_block(work));
                self.note_failure(now, conn, slot, what, status);
                self.answer(conn, slot, status, None);
            }
        } else if faults.hold && inside.task.work.changes_media() {
            self.stall(inside, Until::Released);
        } else if faults.delay_ms > 0 {
            let order = self.stall(inside, Until::Timer);
            self.timers.set(Why::Delay(order), now + Duration::from_millis(faults.delay_ms.into()));
        } else {
            self.execute(now, inside);
        }
    }

    /// True if the port does not take the command: it vanishes, or its controller ends with it.
    #[cold]
    fn swallows(&mut self, port: PortId, takes: Takes, inside: &Inside) -> bool {
        let deadly = self.deadly.get(&port).copied().filter(|_| takes == Takes::AllButOne);
        if let Some((nsid, lba)) = deadly {
            let names = |range: BlockRange| range.slba <= lba && lba - range.slba < range.blocks;
            if nsid != 0 && (inside.task.nsid != nsid || !inside.task.work.ranges().any(names)) {
                return false;
            }
        }
        // The slot stays occupied, as it would if the command were lost: only the connection's end frees it.
        let conn = inside.owner.map(|(conn, _)| conn);
        self.free(inside.account, conn, inside.span);
        if let (Some(conn), Some(_)) = (conn, deadly) {
            self.end(conn, End::Abort, Loss::Script, true);
        }
        true
    }

    fn stall(&mut self, inside: Inside, until: Until) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        let (life, changes) = (inside.life, inside.task.work.changes_media());
        self.stalled.insert(order, Stalled { inside, until });
        if changes {
            self.count_held(life, 1);
        }
        if until == Until::Released
            && let Some(ghost) = self.ghost(order)
        {
            self.out(LaneOutput::Event(Event::Held(ghost)));
            self.hold(order, Some(ghost));
        }
        order
    }

    /// A command stalls until somebody says so, or does so no more: all lanes are to know.
    fn hold(&mut self, order: u64, ghost: Option<Ghost>) {
        self.holding.note(self.id, order, ghost);
        self.out(LaneOutput::ToControl(ToControl::Holding { order, ghost }));
    }

    /// A change is executed while others stall: says whom it overtakes.
    #[cold]
    fn tell_overtaken(&mut self, by: Life, namespace: NamespaceKey, work: &Work) {
        for ghost in self.holding.overtaken(namespace, work.ranges()) {
            self.out(LaneOutput::Event(Event::Overtaken { ghost, by }));
        }
    }

    fn count_held(&mut self, id: LifeId, change: i32) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.held = life.held.saturating_add_signed(change);
            let count = life.held;
            self.out(LaneOutput::ToControl(ToControl::Held { life: id, count }));
        }
    }

    /// To the media, when it is its turn.
    fn execute(&mut self, now: Instant, inside: Inside) {
        // Without payload it may be a command for any number of blocks.
        let len = inside.span.map_or(u32::MAX, |span| span.len);
        if len <= SMALL && self.jobs.len() < FEW && self.deferred.is_empty() {
            return self.begin(now, inside, 0);
        }
        self.execute_in_turn(now, inside);
    }

    #[cold]
    fn execute_in_turn(&mut self, now: Instant, inside: Inside) {
        let cost = cost(&inside);
        if self.deferred.contains(inside.account) || !self.ledger.begin(inside.account, cost) {
            return self.deferred.push(inside.account, inside);
        }
        self.begin(now, inside, cost);
    }

    fn end_at_media(&mut self, account: AccountId, cost: u64) {
        if cost > 0 {
            self.ledger.end(account, cost);
        }
    }

    /// Something at the media is over: others begin.
    #[cold]
    fn begin_deferred(&mut self, now: Instant) {
        let mut tries = self.deferred.payers().min(TRIES);
        while let Some((account, cost)) = self.deferred.front().map(|(account, inside)| (account, cost(inside))) {
            if self.ledger.begin(account, cost) {
                let Some(inside) = self.deferred.pop() else { return };
                self.begin(now, inside, cost);
            } else {
                self.deferred.pass();
                tries = tries.saturating_sub(1);
                if tries == 0 {
                    return;
                }
            }
        }
    }

    /// The check, and nothing executes around it.
    fn begin(&mut self, now: Instant, inside: Inside, cost: u64) {
        if inside.owner.is_none() {
            self.ledger.end_orphan(inside.account);
        }
        let Inside { life, account, owner, task: Task { nsid, checked, work }, span } = inside;
        let Some(known) = self.lives.get_mut(&life).filter(|known| known.may_execute(now)) else {
            // Quiescing cancels what stalls and cuts the queues. What comes here all the same comes after a moment at which
            // the host must have been given up, and nobody has looked at the clock since.
            self.end_at_media(account, cost);
            self.too_late += 1;
            self.tell_refused(life, nsid, &work, owner.is_none());
            self.free(account, owner.map(|(conn, _)| conn), span);
            if let Some((conn, slot)) = owner {
                self.answer(conn, slot, Status::ABORT_REQUESTED, None);
            }
            return;
        };
        if checked.table != self.tables
            && let Some(status) = lapsed(&self.namespaces, known.life, nsid, checked, &work)
        {
            return self.lapse(now, (account, cost), owner, (work.opcode(), nsid, first_block(&work)), span, status);
        }
        known.outstanding += 1;
        let by = known.life;
        let namespace = NamespaceKey { subsystem: known.life.subsystem, nsid };
        let ghost = if owner.is_none() { ghost_of(known.life, namespace, &work) } else { None };
        let what = (work.opcode(), nsid, first_block(&work));
        let until = known.until;
        let job = Job { life, account, cost, owner, span, what };
        let id = MediaId(self.jobs.insert(job).to_u64());
        if !self.holding.is_empty() && work.changes_media() {
            self.tell_overtaken(by, namespace, &work);
        }
        if let Some(ghost) = ghost {
            self.out(LaneOutput::Event(Event::GhostExecuted(ghost)));
        }
        self.out(LaneOutput::Media(MediaOp { id, life, namespace, kind: media(work, span), until }));
    }

    /// Why a command of a life cannot go on: what it was checked against is no more.
    #[cold]
    pub(super) fn lapsed(&self, life: LifeId, nsid: u32, checked: Checked, work: &Work) -> Option<Status> {
        let life = self.lives.get(&life)?.life;
        lapsed(&self.namespaces, life, nsid, checked, work)
    }

    /// A command comes to its execution, and what it was checked against is no more.
    #[cold]
    fn lapse(
        &mut self,
        now: Instant,
        (account, cost): (AccountId, u64),
        owner: Option<(ConnId, u16)>,
        what: (u8, u32, u64),
        span: Option<Span>,
        status: Status,
    ) {
        self.end_at_media(account, cost);
        self.free(account, owner.map(|(conn, _)| conn), span);
        if let Some((conn, slot)) = owner {
            self.note_failure(now, conn, slot, what, status);
            self.answer(conn, slot, status, None);
        }
    }

    /// A command is refused, because its life may execute no more.
    fn tell_refused(&mut self, id: LifeId, nsid: u32, work: &Work, is_ghost: bool) {
        let Some(life) = self.lives.get(&id).map(|known| known.life) else { return };
        let Some(ghost) = ghost_of(life, NamespaceKey { subsystem: life.subsystem, nsid }, work) else { return };
        self.out(LaneOutput::Event(if is_ghost {
            Event::GhostRefused { ghost, by: By::Time }
        } else {
            Event::TooLate(ghost)
        }));
    }

    /// `Control` says until when the life may begin media operations.
    pub(super) fn set_lease(&mut self, id: LifeId, until: Option<Instant>) {
        if let Some(life) = self.lives.get_mut(&id) {
            life.until = until;
        }
    }

    /// The association of a life is over: it gets no more time than it has, and none after `until`.
    pub(super) fn end_lease(&mut self, id: LifeId, until: Option<Instant>) {
        if let (Some(life), Some(until)) = (self.lives.get_mut(&id), until) {
            life.until = Some(life.until.map_or(until, |known| known.min(until)));
        }
    }

    /// The namespace is done with an operation. Every [`LaneOutput::Media`] is answered exactly once.
    pub fn handle_media_done(&mut self, now: Instant, id: MediaId, result: MediaResult) {
        let Some(job) = self.jobs.remove(Key::from_u64(id.0)) else { return };
        match job.owner {
            Some((conn, slot)) => {
                let status = status(result);
                if !status.is_success() {
                    self.note_failure(now, conn, slot, job.what, status);
                }
                if job.what.0 == OPCODE_READ && status.is_success() {
                    self.answer(conn, slot, status, job.span);
                } else {
                    self.free(job.account, Some(conn), job.span);
                    self.answer(conn, slot, status, None);
                }
            }
            None => self.free(job.account, None, job.span),
        }
        self.end_at_media(job.account, job.cost);
        if !self.deferred.is_empty() {
            self.begin_deferred(now);
        }
        self.too_late += u64::from(result == MediaResult::TooLate);
        if let Some(life) = self.lives.get_mut(&job.life) {
            life.outstanding -= 1;
            life.count(job.what.0, job.span, result);
            if life.permit != Permit::Open {
                self.finish_quiescing(job.life);
            }
        }
    }

    /// The connection `conn` is gone: what it had inside has no owner any more, and stalled changes become ghosts. What has not
    /// begun never does.
    pub(super) fn orphan(&mut self, conn: ConnId, account: AccountId) {
        let gone = |inside: &Inside| inside.owner.is_some_and(|(owner, _)| owner == conn);
        for inside in self.deferred.remove_where(account, gone) {
            self.free(account, None, inside.span);
        }
        for (_, job) in self.jobs.iter_mut() {
            job.owner = job.owner.filter(|(owner, _)| *owner != conn);
        }
        let mine = |stalled: &Stalled| stalled.inside.owner.is_some_and(|(owner, _)| owner == conn);
        let orders: alloc::vec::Vec<u64> =
            self.stalled.iter().filter(|(_, stalled)| mine(stalled)).map(|(order, _)| *order).collect();
        for order in orders {
            let Some(stalled) = self.stalled.get_mut(&order) else { continue };
            stalled.inside.owner = None;
            match self.ghost(order) {
                Some(ghost) => {
                    self.ledger.orphan(account);
                    self.out(LaneOutput::Event(Event::GhostArmed(ghost)));
                }
                None => {
                    // Nobody wants the answer and nothing would change.
                    self.timers.stop(Why::Delay(order));
                    if let Some(stalled) = self.stalled.remove(&order) {
                        self.free(account, None, stalled.inside.span);
                    }
                }
            }
        }
    }

    fn ghost(&self, order: u64) -> Option<Ghost> {
        let inside = &self.stalled.get(&order)?.inside;
        let life = self.lives.get(&inside.life)?.life;
        ghost_of(life, NamespaceKey { subsystem: life.subsystem, nsid: inside.task.nsid }, &inside.task.work)
    }

    /// `Control` wants the life quiesced.
    pub(super) fn quiesce(&mut self, id: LifeId, by: By) {
        let orders: alloc::vec::Vec<u64> =
            self.stalled.iter().filter(|(_, stalled)| stalled.inside.life == id).map(|(order, _)| *order).collect();
        let mut cancelled = 0;
        for order in orders {
            let ghost = self.ghost(order);
            let Some(stalled) = self.stalled.remove(&order) else { continue };
            self.let_go(&stalled.inside);
            if let Some(ghost) = ghost {
                cancelled += 1;
                self.out(LaneOutput::Event(Event::HeldStopped { ghost, by }));
                if stalled.until == Until::Released {
                    self.hold(order, None);
                }
                if self.tombstones.len() == TOMBSTONES_MAX {
                    self.tombstones.pop_first();
                }
                self.tombstones.insert(order, Tombstone { ghost, by, until: stalled.until });
            } else {
                self.timers.stop(Why::Delay(order));
            }
        }
        match self.lives.get_mut(&id) {
            Some(life) => {
                life.permit = Permit::Quiescing { by, cancelled };
                life.held = 0;
                self.finish_quiescing(id);
            }
            // This lane never had a queue of it.
            None => self.out(LaneOutput::ToControl(ToControl::Quiesced { life: id, cancelled: 0 })),
        }
    }

    /// Reports the life as quiesced if its last media operation is over.
    fn finish_quiescing(&mut self, id: LifeId) {
        let Some(life) = self.lives.get(&id) else { return };
        if let Permit::Quiescing { cancelled, .. } = life.permit
            && life.outstanding == 0
        {
            let (subsystem, counters) = (life.life.subsystem, life.counters);
            self.report.counters.entry(subsystem).or_default().add(&counters);
            self.report.forget(id);
            self.lives.remove(&id);
            self.out(LaneOutput::ToControl(ToControl::Quiesced { life: id, cancelled }));
        }
    }

    /// What stalls until somebody says so is delivered now, in the order in which it came; cancelled commands try too.
    pub(super) fn release(&mut self, now: Instant) {
        for faults in self.faults.values_mut() {
            faults.hold = false;
        }
        let mut orders: BTreeSet<u64> =
            self.stalled.iter().filter(|(_, s)| s.until == Until::Released).map(|(order, _)| *order).collect();
        orders.extend(self.tombstones.iter().filter(|(_, t)| t.until == Until::Released).map(|(order, _)| *order));
        for order in orders {
            self.deliver(now, order);
        }
    }

    /// A stalled command goes on: it is executed, or its life was quiesced and it is refused.
    pub(super) fn deliver(&mut self, now: Instant, order: u64) {
        if let Some(Tombstone { ghost, by, .. }) = self.tombstones.remove(&order) {
            self.out(LaneOutput::Event(Event::GhostRefused { ghost, by }));
        }
        let ghost = self.ghost(order);
        if let Some(stalled) = self.stalled.remove(&order) {
            if stalled.inside.task.work.changes_media() {
                self.count_held(stalled.inside.life, -1);
            }
            if let Some(ghost) = ghost.filter(|_| stalled.until == Until::Released) {
                self.hold(order, None);
                let Inside { life, task: Task { nsid, checked, work }, .. } = &stalled.inside;
                let may = self.lives.get(life).is_some_and(|life| life.may_execute(now))
                    && self.lapsed(*life, *nsid, *checked, work).is_none();
                if stalled.inside.owner.is_some() && may {
                    self.out(LaneOutput::Event(Event::HeldExecuted(ghost)));
                }
            }
            self.execute(now, stalled.inside);
        }
    }

    /// A command that is not executed holds nothing any more.
    fn let_go(&mut self, inside: &Inside) {
        self.free(inside.account, inside.owner.map(|(conn, _)| conn), inside.span);
        if inside.owner.is_none() {
            self.ledger.end_orphan(inside.account);
        }
    }

    /// A command came in on a queue of this life.
    pub(super) fn heard(&mut self, now: Instant, id: LifeId) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        match life.traffic {
            Traffic::Silent => {
                life.traffic = Traffic::Reported { last: now };
                self.out(LaneOutput::ToControl(ToControl::Traffic { life: id, at: now }));
            }
            Traffic::Reported { .. } => life.traffic = Traffic::Reported { last: now },
        }
    }

    /// `Control` looked at `since` and wants to hear of what comes after that. What came while its wish was under way
    /// is reported at once; what came earlier is not, or the loss would be noticed a whole timeout late.
    pub(super) fn listen(&mut self, id: LifeId, since: Instant) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        if let Traffic::Reported { last } = life.traffic {
            if last > since {
                self.out(LaneOutput::ToControl(ToControl::Traffic { life: id, at: last }));
            } else {
                life.traffic = Traffic::Silent;
            }
        }
    }
}

/// What a command costs while it is at the media: its bytes, and what every operation takes. Blocks that become zero without payload
/// count as well: a disk may have to write them.
fn cost(inside: &Inside) -> u64 {
    let bytes = match inside.span {
        Some(span) => span.len.into(),
        None => {
            inside.task.work.ranges().fold(0, |sum: u64, range| sum.saturating_add(range.blocks)).saturating_mul(BLOCK)
        }
    };
    OPERATION_COST + bytes.min(COUNTED_MAX)
}

/// Why a command cannot be executed that was checked against an earlier table of namespaces.
#[cold]
fn lapsed(
    namespaces: &BTreeMap<SubsystemId, Arc<Namespaces>>,
    life: Life,
    nsid: u32,
    checked: Checked,
    work: &Work,
) -> Option<Status> {
    let gone = Some(Status::INVALID_NAMESPACE.with_dnr());
    namespaces.get(&life.subsystem).map_or(gone, |all| all.lapsed(nsid, checked.serial, work))
}

fn first_block(work: &Work) -> u64 {
    work.ranges().next().map_or(0, |range| range.slba)
}

fn ghost_of(life: Life, namespace: NamespaceKey, work: &Work) -> Option<Ghost> {
    let change = work.change()?;
    let BlockRange { slba, blocks } = work.ranges().next()?;
    Some(Ghost { life, namespace, change, slba, blocks })
}

fn media(work: Work, span: Option<Span>) -> MediaKind {
    let buffer = || span.expect("a command that moves data comes to the gate with its buffer");
    match work {
        Work::Read(range) | Work::Verify(range) => MediaKind::Read { slba: range.slba, into: buffer() },
        Work::Compare(range) => MediaKind::Compare { slba: range.slba, with: buffer() },
        Work::Write { range, fua } => MediaKind::Write { slba: range.slba, from: buffer(), fua },
        Work::Zero { range, deallocate, fua } => MediaKind::Zero { range, deallocate, fua },
        Work::Deallocate(ranges) => MediaKind::Deallocate { ranges },
        Work::Flush => MediaKind::Flush,
    }
}

/// What the host is told about the end of a media operation.
const fn status(result: MediaResult) -> Status {
    match result {
        MediaResult::Done => Status::SUCCESS,
        MediaResult::Different => Status::COMPARE_FAILURE.with_dnr(),
        MediaResult::ReadFailed => Status::UNRECOVERED_READ,
        MediaResult::WriteFailed => Status::WRITE_FAULT,
        MediaResult::NoSpace => Status::CAPACITY_EXCEEDED.with_dnr(),
        MediaResult::Gone => Status::INVALID_NAMESPACE.with_dnr(),
        MediaResult::FlushFailed => Status::WRITE_FAULT.with_dnr(),
        MediaResult::TooLate => Status::ABORT_REQUESTED,
    }
}
