//! What a lane knows about one life of a controller.

use crate::{ConnId, CtrlId, FencePolicy, LifeId, QueueSpec};
use alloc::vec::Vec;
use core::time::Duration;

/// What a lane may do on a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifeStanding {
    /// Send.
    Active,
    /// Send what control names, and nothing else.
    Isolated,
    /// A queue of it was lost: nothing new is sent while control decides.
    Broken,
    /// It ends in order: nothing new is sent, answers are awaited.
    Draining,
    /// Nothing is sent (`no_send_after_condemned`).
    Condemned(FencePolicy),
    /// Decided; only its sockets still have to go.
    Settled,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Life {
    pub(super) id: LifeId,
    pub(super) ctrl: CtrlId,
    pub(super) standing: LifeStanding,
    pub(super) queues: Vec<QueueSlot>,
    pub(super) in_flight: u32,
    pub(super) held: u32,
    /// Bytes one command may carry.
    pub(super) max_transfer: u32,
    /// How long a retry waits that the controller asks for, by CRD - 1: never longer than a command may take at all.
    pub(super) retry_delays: [Duration; 3],
    /// What it may hold in a cache of its own; empty where controllers share theirs.
    pub(super) caches: super::flush::Caches,
    pub(super) first_good: bool,
    /// `AnaStale` was said and no new table came since.
    pub(super) ana_asked: bool,
    pub(super) quiet_said: bool,
}

/// What path choice needs of one queue, in one place.
#[derive(Clone, Debug, Hash)]
pub(super) struct QueueSlot {
    pub(super) conn: ConnId,
    pub(super) up: bool,
    pub(super) load: u32,
    pub(super) depth: u32,
}

impl Life {
    pub(super) fn new(spec: &QueueSpec) -> Self {
        Self {
            id: spec.life,
            ctrl: spec.ctrl,
            standing: LifeStanding::Active,
            queues: Vec::new(),
            in_flight: 0,
            held: 0,
            max_transfer: spec.max_transfer,
            retry_delays: spec.retry_delays.map(|delay| delay.min(spec.io_timeout)),
            caches: super::flush::Caches::default(),
            first_good: false,
            ana_asked: false,
            quiet_said: false,
        }
    }

    /// True if new commands may be put on one of its queues.
    pub(super) fn is_usable(&self) -> bool {
        self.standing == LifeStanding::Active && self.queues.iter().any(|queue| queue.up)
    }

    /// What a retry waits that was asked for with this CRD.
    pub(super) fn retry_delay(&self, crd: u8) -> Duration {
        let at = usize::from(crd).checked_sub(1);
        at.and_then(|at| self.retry_delays.get(at)).copied().unwrap_or_default()
    }

    /// The least loaded queue with a free slot.
    pub(super) fn free_queue(&self) -> Option<ConnId> {
        let free = self.queues.iter().filter(|queue| queue.up && queue.load < queue.depth);
        free.min_by_key(|queue| queue.load).map(|queue| queue.conn)
    }

    pub(super) fn queue_mut(&mut self, conn: ConnId) -> Option<&mut QueueSlot> {
        self.queues.iter_mut().find(|queue| queue.conn == conn)
    }

    /// A command was put on the queue.
    pub(super) fn took(&mut self, conn: ConnId) {
        self.in_flight += 1;
        if let Some(queue) = self.queue_mut(conn) {
            queue.load += 1;
        }
    }

    /// A command on the queue was answered or taken off the ledger.
    pub(super) fn gave_back(&mut self, conn: ConnId) {
        debug_assert!(self.in_flight > 0, "one_owner_per_tag: {} has nothing in flight", self.id);
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(queue) = self.queue_mut(conn) {
            queue.load = queue.load.saturating_sub(1);
        }
    }
}
