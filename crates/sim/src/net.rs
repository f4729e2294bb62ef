//! TCP, as far as it can hurt.
//!
//! A connection is two pipes. What an end gave to its kernel lies in that kernel's send queue until the other kernel
//! has it; bytes arrive in order, cut anywhere, after any delay; a path may swallow everything in one direction or in
//! both and give it back when it heals (retransmission); an end may die and leave the other half open. An abort empties
//! the send queue, but copies may still be under way: they arrive later, up to [`Net::bound`], and before the reset.

use interlock_base::{Instant, Rng};
use interlock_host_core::{ConnId as HostConn, LifeId};
use interlock_target_core::ConnId as TargetConn;
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes that a kernel takes before it says "would block".
pub(crate) const SEND_QUEUE: usize = 16 * 1024;

/// Which machine of the host owns a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Control,
    Lane(u16),
}

/// Direction of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToTarget,
    ToHost,
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    Fin,
    Rst,
}

#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) at: Instant,
    pub(crate) given: Instant,
    pub(crate) piece: Piece,
    /// Beyond the part of the path that is silent: it arrives whatever happens to the path.
    pub(crate) past: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) segments: VecDeque<Segment>,
    /// Bytes in the sender's kernel: given and not acknowledged.
    pub(crate) queued: usize,
    /// A delivery event is on its way.
    pub(crate) armed: Option<Instant>,
}

impl Pipe {
    pub(crate) fn last_at(&self) -> Instant {
        self.segments.back().map_or(Instant::ZERO, |segment| segment.at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostState {
    Opening,
    Open,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetState {
    /// Not accepted yet.
    Backlog,
    Open(TargetConn),
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Which process of the host opened it.
    pub(crate) process: u32,
    pub(crate) owner: Owner,
    pub(crate) conn: HostConn,
    /// Whose I/O queue it is; `None` for admin queues.
    pub(crate) life: Option<LifeId>,
    pub(crate) port: usize,
    pub(crate) lane: usize,
    pub(crate) host: HostState,
    pub(crate) target: TargetState,
    /// How often the target had been switched off before it accepted it.
    pub(crate) target_start: u32,
    pub(crate) to_target: Pipe,
    pub(crate) to_host: Pipe,
    pub(crate) host_out: crate::outbox::Outbox,
    pub(crate) target_out: crate::outbox::Outbox,
    /// The machine waits to hear that its send queue is empty.
    pub(crate) draining: bool,
    /// An orderly close is under way.
    pub(crate) closing: bool,
    /// The host's socket was aborted: what is under way is not sent again if it is lost.
    pub(crate) aborted: bool,
    /// What the target's kernel has and its lane has not taken.
    pub(crate) received: Vec<u8>,
    pub(crate) user_timeout: Duration,
    /// When its queue pair last had nothing to send.
    pub(crate) idle: Instant,
}

/// One port of the target and the path to it.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) open: bool,
    pub(crate) lane: usize,
    pub(crate) silent_to_target: bool,
    pub(crate) silent_to_host: bool,
    /// Added to every segment that goes to the target while a box on the way is full.
    pub(crate) limbo: Duration,
    pub(crate) muted: bool,
    /// Something was done to it or to its controller lately: what it loses needs no other reason.
    pub(crate) disturbed: bool,
}

impl Path {
    pub(crate) const fn silent(&self, way: Way) -> bool {
        match way {
            Way::ToTarget => self.silent_to_target,
            Way::ToHost => self.silent_to_host,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) paths: Vec<Path>,
    pub(crate) rng: Rng,
    /// One way, in microseconds: least, and how much more.
    pub(crate) delay_us: (u64, u64),
    /// Copies of bytes arrive no later than this after their sender aborted.
    pub(crate) bound: Duration,
}

impl Net {
    pub(crate) fn delay(&mut self) -> Duration {
        let (least, more) = self.delay_us;
        Duration::from_micros(least + self.rng.below(more + 1))
    }
}
