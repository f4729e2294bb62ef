//! Who gets room next.
//!
//! What a command needs besides its place in a queue - a buffer, room for the data of an admin command or for its answer - is
//! charged to the payer of its connection ([`crate::quota`]). Each connection has a bound of its own as well: a host that asks
//! for much and takes nothing must not leave its other connections without. Commands that find no room wait, in their
//! order within a connection; payers take turns, and the connections of one payer do.
//!
//! A command whose data came along with it holds up everything that its host sent behind it, also the data of commands that have
//! their buffers already. If it waited for one of those, nobody would ever go on. So it stands in front of all others of its
//! connection, and each connection has set aside what one such command takes: where there is no other room it gets that. It comes
//! back when such a command has been executed, which takes nothing more from the host.
//!
//! A buffer that is free again is kept in a small [`Stock`]: the next command of that length gets it at once, in the same
//! call that brought the command. Without it a queue stops at each write that brings its data, until its driver has been
//! asked for a buffer and has offered the bytes again.

use super::conn::{Slot, Want};
use super::gate::Task;
use super::{End, Lane, LaneOutput};
use crate::message::ToControl;
use crate::quota::{self, AccountId};
use crate::{ConnId, Loss, Work};
use alloc::vec::Vec;
use interlock_base::{Instant, Span};
use interlock_proto::Sink;

/// Longest buffer that is kept: what comes in a capsule is no longer, and larger transfers do not feel the detour.
const STOCKED_MAX: u32 = 8192;

/// Bytes that `Control` makes of a log page at most; the rest of what a host asks for is zeros, which are made when they are sent.
const PAGE_MAX: u32 = 16_384;

/// Payers that are tried in vain when something is free again, before that is left for the next time.
const TRIES: usize = 64;

/// Free buffers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Stock {
    spans: Vec<Span>,
    bytes: u64,
}

impl Stock {
    pub(super) const fn len(&self) -> usize {
        self.spans.len()
    }

    /// Keeps a buffer, if that leaves no more than `most` bytes here.
    fn put(&mut self, span: Span, most: u64) -> bool {
        let bytes = self.bytes + u64::from(span.len);
        let fits = span.len <= STOCKED_MAX && bytes <= most;
        if fits {
            self.bytes = bytes;
            self.spans.push(span);
        }
        fits
    }

    /// Gives the buffer of this length that was put last.
    fn take(&mut self, len: u32) -> Option<Span> {
        let at = self.spans.iter().rposition(|span| span.len == len)?;
        self.bytes -= u64::from(len);
        Some(self.spans.swap_remove(at))
    }
}

impl Want {
    /// What it takes, in bytes.
    const fn bytes(&self) -> u64 {
        match self {
            Self::Buffer { len, .. } => quota::buffer(*len),
            Self::Data(_, len) | Self::Ranges { len, .. } => *len as u64,
            // The page itself, and what is polled of the answer before the kernel takes it.
            Self::Page(_, room, _) => (*room as u64) + if *room < PAGE_MAX { *room } else { PAGE_MAX } as u64,
        }
    }
}

/// What became of an attempt to give a connection room for one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poured {
    /// It has room for one more.
    One,
    /// It wants none, or must first give back some of its own.
    None,
    /// Its payer has its share.
    Over,
}

impl Lane {
    /// A command needs a buffer: gives it one, asks for one, or lets it wait until there is room.
    pub(super) fn need(&mut self, now: Instant, conn: ConnId, slot: u16, task: Task, len: u32) {
        if let Some(span) = self.take_stocked(conn, len) {
            self.furnish(now, conn, slot, task, span);
            return;
        }
        self.want(conn, slot, Want::Buffer { task, len, asked: false });
    }

    /// A command needs room: it gets it, or waits.
    pub(super) fn want(&mut self, conn: ConnId, slot: u16, want: Want) {
        self.set(conn, slot, Slot::Waiting(want));
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let first = known.queue.holds_up(slot);
        if first {
            known.thirsty.push_front(slot);
        } else {
            known.thirsty.push_back(slot);
        }
        self.serve(conn);
        if first {
            self.lend(conn);
        }
    }

    /// A command that holds up its connection has found no room: it gets what the connection has set aside, if that is there.
    #[cold]
    fn lend(&mut self, conn: ConnId) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let Some(slot) = known.thirsty.front().copied().filter(|slot| known.queue.holds_up(*slot)) else { return };
        let Some(Slot::Waiting(want)) = known.slots.get(usize::from(slot)) else { return };
        let bytes = want.bytes();
        if known.lent + bytes > known.reserve {
            return;
        }
        known.thirsty.pop_front();
        known.lent += bytes;
        known.fixed -= bytes;
        known.buffered += bytes;
        self.ledger.lend(known.account, bytes);
        self.grant(conn, slot, bytes);
    }

    /// A buffer of the stock, if nobody waits for one and there is room.
    fn take_stocked(&mut self, conn: ConnId, len: u32) -> Option<Span> {
        let bytes = quota::buffer(len);
        let known = self.conns.get_mut(&conn)?;
        let waits = !self.thirsty.is_empty() && self.thirsty.contains(known.account) || !known.thirsty.is_empty();
        if waits || known.buffered + bytes > self.limits.buffered_per_connection {
            return None;
        }
        let span = self.stock.take(len)?;
        if !self.ledger.take(known.account, bytes) {
            // It came out of there just now.
            self.stock.put(span, u64::MAX);
            return None;
        }
        known.buffered += bytes;
        Some(span)
    }

    /// A command has its buffer. True if its data can come now.
    pub(super) fn furnish(&mut self, now: Instant, conn: ConnId, slot: u16, task: Task, span: Span) -> bool {
        if matches!(task.work, Work::Read(_) | Work::Verify(_)) {
            self.pass(now, conn, slot, task, Some(span));
            return false;
        }
        if let Some(known) = self.conns.get_mut(&conn) {
            known.set(slot, Slot::Filling(task, span));
            known.queue.receive(slot, Sink::Span(span));
        }
        true
    }

    /// Gives a buffer back, and its room to those who wait. `conn` is who had it, while its connection stands.
    pub(super) fn free(&mut self, account: AccountId, conn: Option<ConnId>, span: Option<Span>) {
        let Some(span) = span else { return };
        if !self.stock.put(span, self.limits.stock) {
            self.out(LaneOutput::FreeBuffer(span.buf));
        }
        self.give(account, conn, quota::buffer(span.len));
    }

    /// Gives room back, and to those who wait.
    pub(super) fn give(&mut self, account: AccountId, conn: Option<ConnId>, bytes: u64) {
        self.ledger.give(account, bytes);
        let known = conn.and_then(|conn| self.conns.get_mut(&conn));
        let waits = known.is_some_and(|known| {
            known.buffered = known.buffered.saturating_sub(bytes);
            if known.lent > 0 {
                // Whoever had it: what such commands hold is never less than what is lent.
                let back = known.lent.min(bytes);
                known.lent -= back;
                known.fixed += back;
                self.ledger.repay(account, back);
            }
            !known.thirsty.is_empty()
        });
        if waits || !self.thirsty.is_empty() {
            self.quench(conn);
        }
    }

    /// There is room: gives it to those who wait.
    #[cold]
    pub(super) fn quench(&mut self, conn: Option<ConnId>) {
        let mut tries = self.thirsty.payers().min(TRIES);
        while let Some(next) = self.thirsty.front().map(|(_, conn)| *conn) {
            match self.pour(next) {
                Poured::One => self.thirsty.requeue(),
                Poured::None => {
                    self.thirsty.pop();
                    if let Some(known) = self.conns.get_mut(&next) {
                        known.queued = false;
                    }
                }
                Poured::Over => {
                    self.thirsty.pass();
                    tries = tries.saturating_sub(1);
                    if tries == 0 {
                        break;
                    }
                }
            }
        }
        if let Some(conn) = conn {
            self.serve(conn);
            self.lend(conn);
        }
    }

    /// Gives a connection what it may have, or puts it into the queue.
    fn serve(&mut self, conn: ConnId) {
        loop {
            let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.queued && !known.thirsty.is_empty())
            else {
                return;
            };
            let account = known.account;
            // The connections of one payer are served in their order.
            let poured = if self.thirsty.contains(account) { Poured::Over } else { self.pour(conn) };
            match poured {
                Poured::One => {}
                Poured::None => return,
                Poured::Over => {
                    if let Some(known) = self.conns.get_mut(&conn) {
                        known.queued = true;
                    }
                    return self.thirsty.push(account, conn);
                }
            }
        }
    }

    fn pour(&mut self, conn: ConnId) -> Poured {
        let Some(known) = self.conns.get_mut(&conn) else { return Poured::None };
        while let Some(slot) = known.thirsty.front().copied() {
            let Some(Slot::Waiting(want)) = known.slots.get(usize::from(slot)) else {
                known.thirsty.pop_front();
                continue;
            };
            let bytes = want.bytes();
            let own = known.buffered + bytes > self.limits.buffered_per_connection && known.buffered > 0;
            if own {
                return Poured::None;
            }
            if !self.ledger.take(known.account, bytes) {
                return Poured::Over;
            }
            known.thirsty.pop_front();
            known.buffered += bytes;
            self.grant(conn, slot, bytes);
            return Poured::One;
        }
        Poured::None
    }

    /// There is room for a command: it goes on.
    fn grant(&mut self, conn: ConnId, slot: u16, bytes: u64) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        match known.take(slot) {
            Slot::Waiting(Want::Buffer { task, len, .. }) => {
                known.set(slot, Slot::Waiting(Want::Buffer { task, len, asked: true }));
                self.out(LaneOutput::NeedBuffer { conn, slot, len });
            }
            Slot::Waiting(Want::Data(sqe, len)) => {
                known.set(slot, Slot::Collecting(sqe, bytes));
                self.collect(conn, slot, len);
            }
            Slot::Waiting(Want::Ranges { nsid, checked, count, len }) => {
                known.set(slot, Slot::Ranges { nsid, checked, count, bytes });
                self.collect(conn, slot, len);
            }
            Slot::Waiting(Want::Page(sqe, room, at)) => {
                known.set(slot, Slot::Asked { room, bytes });
                self.out(LaneOutput::ToControl(ToControl::Admin { conn, slot, sqe, data: Vec::new(), room, at }));
            }
            other => known.set(slot, other),
        }
    }

    /// The data of a command that is no payload can come.
    fn collect(&mut self, conn: ConnId, slot: u16, len: u32) {
        self.receive(conn, slot, Sink::Bytes(len));
        // It goes on in this turn, or a later one.
        self.read_ready(self.looked.unwrap_or(Instant::ZERO), conn);
        self.after(conn);
    }

    /// The driver keeps so many bytes that came on the connection: it is blocked, and its peer cannot be told to send less.
    #[cold]
    pub fn handle_kept(&mut self, conn: ConnId, bytes: usize) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let account = known.account;
        let before = core::mem::replace(&mut known.kept, bytes as u64);
        self.ledger.give_kept(account, before);
        known.overdrawn = !self.ledger.keep(account, bytes as u64);
        self.judge_kept(conn);
        if before > 0 {
            self.quench(None);
        }
    }

    /// Ends a connection of which more is kept than its payer may have. One whose driver has been asked for a buffer stays while
    /// there is room at all: a driver that gives it at once keeps those bytes for a moment.
    #[cold]
    pub(super) fn judge_kept(&mut self, conn: ConnId) {
        let Some(known) = self.conns.get(&conn).filter(|known| known.overdrawn) else { return };
        if known.awaits_buffer() && self.ledger.used() <= self.limits.memory {
            return;
        }
        self.ledger.refuse(known.payer);
        self.end(conn, End::Abort, Loss::Crowded, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_base::BufId;

    fn span(buf: u32, len: u32) -> Span {
        Span { buf: BufId(buf), offset: 0, len }
    }

    #[test]
    fn the_stock_keeps_short_buffers_up_to_its_bound_and_gives_exact_ones() {
        let mut stock = Stock::default();
        assert!(stock.put(span(1, 4096), 12_288));
        assert!(stock.put(span(2, 8192), 12_288));
        assert!(!stock.put(span(3, 512), 12_288), "full");
        assert!(!stock.put(span(4, 8193), 1 << 30), "long");
        assert_eq!(stock.take(512), None);
        assert_eq!(stock.take(4096), Some(span(1, 4096)));
        assert_eq!(stock.take(4096), None);
        assert!(stock.put(span(3, 512), 12_288), "there is room again");
        assert!(!Stock::default().put(span(1, 512), 0), "a bound of 0 keeps none");
    }
}
