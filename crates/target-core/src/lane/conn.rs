//! One connection of a lane: its queue pair, what it became, and what its commands wait for.

use super::gate::Task;
use crate::status::{ConnStage, ConnView};
use crate::{ConnId, LifeId, PortId};
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::Span;
use interlock_proto::target::Queue;
use interlock_wire::sqe::Sqe;

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Nothing but Connect is legal.
    New,
    /// Its Connect is with `Control`.
    Connecting,
    /// The admin queue of a controller: every command goes to `Control`.
    Admin,
    /// An I/O queue of a life.
    Io(LifeId),
    /// It broke the protocol: only its termination request is still to be sent.
    Over,
}

/// What a command waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The slot is unused.
    Free,
    /// Its data, which goes to `Control` with it.
    Collecting(Sqe),
    /// The ranges of a Dataset Management command: so many, of this namespace.
    Ranges {
        /// NSID.
        nsid: u32,
        /// How many of them count.
        count: u16,
    },
    /// The answer of `Control`.
    Asked,
    /// A buffer.
    Unbuffered(Task, u32),
    /// Its data, into this buffer.
    Filling(Task, Span),
    /// The gate or the namespace.
    Inside,
    /// The end of its response, which may still need a buffer.
    Answering(Option<Span>),
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conn {
    pub(super) queue: Queue,
    pub(super) port: PortId,
    pub(super) local: SocketAddr,
    pub(super) stage: Stage,
    /// By slot number of the queue; grows to what the host uses, at most the queue's bound.
    pub(super) slots: Vec<Slot>,
    /// The driver knows that there is something to send.
    pub(super) announced: bool,
}

impl Conn {
    pub(super) fn new(queue: Queue, port: PortId, local: SocketAddr) -> Self {
        Self { queue, port, local, stage: Stage::New, slots: Vec::new(), announced: false }
    }

    /// What it looks like.
    pub(super) fn view(&self, conn: ConnId) -> ConnView {
        ConnView {
            conn,
            port: self.port,
            stage: match self.stage {
                Stage::New | Stage::Connecting => ConnStage::New,
                Stage::Admin => ConnStage::Admin,
                Stage::Io(life) => ConnStage::Io(life),
                Stage::Over => ConnStage::Over,
            },
            commands: self.slots.iter().filter(|slot| **slot != Slot::Free).count(),
        }
    }

    pub(super) fn set(&mut self, slot: u16, state: Slot) {
        let at = usize::from(slot);
        if at >= self.slots.len() {
            self.slots.resize(at + 1, Slot::Free);
        }
        self.slots[at] = state;
    }

    /// Takes the state of a slot out, leaving it free.
    pub(super) fn take(&mut self, slot: u16) -> Slot {
        match self.slots.get_mut(usize::from(slot)) {
            Some(state) => core::mem::replace(state, Slot::Free),
            None => Slot::Free,
        }
    }
}
