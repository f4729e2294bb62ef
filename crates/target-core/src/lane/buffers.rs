//! Who gets a buffer next.
//!
//! Buffers are what a peer can make a lane hold, so there is a limit for the lane, and one for each connection: a host
//! that asks for much and takes nothing must not leave the others without. Commands that find no room wait, in their
//! order within a connection, the connections by turns.
//!
//! A buffer that is free again is kept in a small [`Stock`]: the next command of that length gets it at once, in the same
//! call that brought the command. Without it a queue stops at each write that brings its data, until its driver has been
//! asked for a buffer and has offered the bytes again.

use super::conn::Slot;
use super::gate::Task;
use super::{Lane, LaneOutput};
use crate::{ConnId, Work};
use alloc::vec::Vec;
use interlock_base::{Instant, Span};
use interlock_proto::Sink;

/// Longest buffer that is kept: what comes in a capsule is no longer, and larger transfers do not feel the detour.
const STOCKED_MAX: u32 = 8192;

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

/// What became of an attempt to give a connection one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poured {
    /// It has one more.
    One,
    /// It wants none, or must first give back some of its own.
    None,
    /// The lane has no room.
    Full,
}

impl Lane {
    /// A command needs a buffer: gives it one, asks for one, or lets it wait until there is room.
    pub(super) fn need(&mut self, now: Instant, conn: ConnId, slot: u16, task: Task, len: u32) {
        if let Some(span) = self.take_stocked(conn, len) {
            self.furnish(now, conn, slot, task, span);
            return;
        }
        self.set(conn, slot, Slot::Unbuffered(task, len));
        if let Some(known) = self.conns.get_mut(&conn) {
            known.thirsty.push_back(slot);
            self.serve(conn);
        }
    }

    /// A buffer of the stock, if nobody waits for one and there is room.
    fn take_stocked(&mut self, conn: ConnId, len: u32) -> Option<Span> {
        let (bytes, limits) = (u64::from(len), &self.limits);
        let known = self.conns.get_mut(&conn)?;
        let waits = !self.thirsty.is_empty() || known.queued || !known.thirsty.is_empty();
        if waits || known.buffered + bytes > limits.buffered_per_connection || self.buffered + bytes > limits.buffered {
            return None;
        }
        let span = self.stock.take(len)?;
        known.buffered += bytes;
        self.buffered += bytes;
        Some(span)
    }

    /// A command has its buffer. True if its data can come now.
    pub(super) fn furnish(&mut self, now: Instant, conn: ConnId, slot: u16, task: Task, span: Span) -> bool {
        if matches!(task.work, Work::Read(_) | Work::Verify(_)) {
            self.set(conn, slot, Slot::Inside);
            self.pass(now, conn, slot, task, Some(span));
            return false;
        }
        self.set(conn, slot, Slot::Filling(task, span));
        self.receive(conn, slot, Sink::Span(span));
        true
    }

    /// Gives a buffer back, and its room to those who wait. `conn` is who had it, while its connection stands.
    pub(super) fn free(&mut self, conn: Option<ConnId>, span: Option<Span>) {
        let Some(span) = span else { return };
        let bytes = u64::from(span.len);
        self.buffered = self.buffered.saturating_sub(bytes);
        if let Some(known) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
            known.buffered = known.buffered.saturating_sub(bytes);
        }
        if !self.stock.put(span, self.limits.stock) {
            self.out(LaneOutput::FreeBuffer(span.buf));
        }
        while let Some(next) = self.thirsty.front().copied() {
            match self.pour(next) {
                Poured::Full => break,
                Poured::One => self.thirsty.rotate_left(1),
                Poured::None => {
                    self.thirsty.pop_front();
                    if let Some(known) = self.conns.get_mut(&next) {
                        known.queued = false;
                    }
                }
            }
        }
        if let Some(conn) = conn {
            self.serve(conn);
        }
    }

    /// Gives a connection what it may have, or puts it into the queue.
    fn serve(&mut self, conn: ConnId) {
        loop {
            let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.queued && !known.thirsty.is_empty())
            else {
                return;
            };
            if !self.thirsty.is_empty() {
                known.queued = true;
                return self.thirsty.push_back(conn);
            }
            match self.pour(conn) {
                Poured::One => {}
                Poured::None => return,
                Poured::Full => {
                    if let Some(known) = self.conns.get_mut(&conn) {
                        known.queued = true;
                    }
                    return self.thirsty.push_back(conn);
                }
            }
        }
    }

    fn pour(&mut self, conn: ConnId) -> Poured {
        let Some(known) = self.conns.get_mut(&conn) else { return Poured::None };
        while let Some(slot) = known.thirsty.front().copied() {
            let Some(Slot::Unbuffered(_, len)) = known.slots.get(usize::from(slot)) else {
                known.thirsty.pop_front();
                continue;
            };
            let (len, bytes) = (*len, u64::from(*len));
            if known.buffered + bytes > self.limits.buffered_per_connection {
                return Poured::None;
            }
            if self.buffered + bytes > self.limits.buffered {
                return Poured::Full;
            }
            known.thirsty.pop_front();
            known.buffered += bytes;
            self.buffered += bytes;
            self.out(LaneOutput::NeedBuffer { conn, slot, len });
            return Poured::One;
        }
        Poured::None
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
