//! Who gets a buffer next.
//!
//! Buffers are what a peer can make a lane hold, so there is a limit for the lane, and one for each connection: a host
//! that asks for much and takes nothing must not leave the others without. Commands that find no room wait, in their
//! order within a connection, the connections by turns.

use super::conn::Slot;
use super::{Lane, LaneOutput};
use crate::ConnId;
use interlock_base::Span;

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
    /// A command needs a buffer: asks for one, or lets the command wait until there is room.
    pub(super) fn need(&mut self, conn: ConnId, slot: u16) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.thirsty.push_back(slot);
            self.serve(conn);
        }
    }

    /// Gives a buffer back, and its room to those who wait. `conn` is who had it, while its connection stands.
    pub(super) fn free(&mut self, conn: Option<ConnId>, span: Option<Span>) {
        let Some(span) = span else { return };
        let bytes = u64::from(span.len);
        self.buffered = self.buffered.saturating_sub(bytes);
        if let Some(known) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
            known.buffered = known.buffered.saturating_sub(bytes);
        }
        self.out(LaneOutput::FreeBuffer(span.buf));
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
