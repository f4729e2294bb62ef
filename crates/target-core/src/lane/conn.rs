//! One connection of a lane: its queue pair, what it became, and what its commands wait for.

use super::gate::{Checked, Task};
use super::unread::Unread;
use crate::config::CONNECTION_BYTES;
use crate::quota::AccountId;
use crate::status::{ConnStage, ConnView};
use crate::{ConnId, LifeId, Payer, PortId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;
use interlock_base::{Instant, Span};
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

/// What a command needs room for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Want {
    /// A buffer of so many bytes; the driver was asked for it, or there was no room yet.
    Buffer { task: Task, len: u32, asked: bool },
    /// So many bytes of data that go to `Control` with it.
    Data(Sqe, u32),
    /// The answer of `Control`, of so many bytes; the command had not come in before this moment.
    Page(Sqe, u32, Instant),
    /// The ranges of a Dataset Management command in so many bytes: so many ranges, of this namespace.
    Ranges { nsid: u32, checked: Checked, count: u16, len: u32 },
}

/// What an answer holds until it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// A buffer.
    Span(Span),
    /// So many bytes elsewhere.
    Bytes(u64),
}

/// What a command waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// The slot is unused.
    Free,
    /// Room.
    Waiting(Want),
    /// Its data, which goes to `Control` with it: so many bytes.
    Collecting(Sqe, u64),
    /// The ranges of a Dataset Management command: so many, of this namespace.
    Ranges {
        /// NSID.
        nsid: u32,
        /// What has it.
        checked: Checked,
        /// How many of them count.
        count: u16,
        /// Bytes that they take.
        bytes: u64,
    },
    /// The answer of `Control`.
    Asked {
        /// Bytes that the host wants.
        room: u32,
        /// Bytes that the command, or its answer, takes.
        bytes: u64,
    },
    /// Its data, into this buffer.
    Filling(Task, Span),
    /// The gate or the namespace.
    Inside,
    /// The end of its response, which may still need something.
    Answering(Held),
    /// The end of its connection: its driver may still send from this buffer.
    Leaving(Span),
}

impl Slot {
    /// What is left of it once its connection is stripped.
    pub(super) const fn leaving(&self) -> Self {
        match self {
            Self::Answering(Held::Span(span)) => Self::Leaving(*span),
            _ => Self::Free,
        }
    }

    /// True if nothing but the peer can let it go on: it must send data, or take what it was sent.
    const fn waits_for_peer(&self) -> bool {
        match self {
            Self::Collecting(..) | Self::Ranges { .. } | Self::Filling(..) | Self::Answering(_) => true,
            Self::Free | Self::Asked { .. } | Self::Waiting(_) | Self::Inside | Self::Leaving(_) => false,
        }
    }
}

/// How the transfers of a connection stood when they were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Look {
    /// Commands waited for the peer.
    waiting: bool,
    /// Transfers that had ended by then.
    ended: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Conn {
    pub(super) queue: Queue,
    pub(super) port: PortId,
    pub(super) local: SocketAddr,
    pub(super) stage: Stage,
    /// Its queue, once it is an I/O queue.
    pub(super) qid: u16,
    /// Who pays for it, and its account.
    pub(super) payer: Payer,
    pub(super) account: AccountId,
    /// Bytes that it takes as such, and bytes that its driver keeps for it.
    pub(super) fixed: u64,
    pub(super) kept: u64,
    /// What it has set aside for a command whose data came along with it, and what of that such commands have now.
    pub(super) reserve: u64,
    pub(super) lent: u64,
    /// By slot number of the queue; grows to what the host uses, at most the queue's bound.
    pub(super) slots: Vec<Slot>,
    /// Slots that are in use, and those of them that wait for the peer.
    used: u16,
    waiting: u16,
    /// Transfers from and to the peer that have ended.
    ended: u64,
    /// The last look at its transfers; none while it has no command.
    pub(super) looked: Option<Look>,
    /// Bytes in buffers of its commands.
    pub(super) buffered: u64,
    /// Commands that wait for room, in their order; first of all the one whose data is next in the stream.
    pub(super) thirsty: VecDeque<u16>,
    /// It stands in the queue of the lane for room.
    pub(super) queued: bool,
    /// The driver knows that there is something to send.
    pub(super) announced: bool,
    /// Its driver keeps more than its payer may have kept.
    pub(super) overdrawn: bool,
    /// It was not read for a while.
    pub(super) unread: Unread,
}

impl Conn {
    pub(super) fn new(queue: Queue, port: PortId, local: SocketAddr, payer: Payer, account: AccountId) -> Self {
        Self {
            queue,
            port,
            local,
            stage: Stage::New,
            qid: 0,
            payer,
            account,
            fixed: CONNECTION_BYTES,
            kept: 0,
            reserve: 0,
            lent: 0,
            slots: Vec::new(),
            used: 0,
            waiting: 0,
            ended: 0,
            looked: None,
            buffered: 0,
            thirsty: VecDeque::new(),
            queued: false,
            announced: false,
            overdrawn: false,
            unread: Unread::default(),
        }
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
            commands: self.used.into(),
        }
    }

    pub(super) fn set(&mut self, slot: u16, state: Slot) {
        let at = usize::from(slot);
        if at >= self.slots.len() {
            self.slots.resize(at + 1, Slot::Free);
        }
        self.count(&state, 1);
        let before = core::mem::replace(&mut self.slots[at], state);
        self.count(&before, -1);
    }

    fn count(&mut self, state: &Slot, by: i16) {
        if !matches!(state, Slot::Free) {
            self.used = self.used.saturating_add_signed(by);
        }
        if state.waits_for_peer() {
            self.waiting = self.waiting.saturating_add_signed(by);
        }
    }

    /// The peer has sent, or taken, the last byte of something.
    pub(super) const fn transfer_ended(&mut self) {
        self.ended += 1;
    }

    /// True once for everything that there is to send: the driver is to be told.
    pub(super) fn announce(&mut self) -> bool {
        let news = !self.announced && self.queue.wants_send();
        self.announced |= news;
        news
    }

    /// True if it has commands whose transfers nobody looks at.
    pub(super) const fn unwatched(&self) -> bool {
        self.used > 0 && self.looked.is_none()
    }

    /// How its transfers stand.
    pub(super) const fn look(&self) -> Option<Look> {
        if self.used > 0 { Some(Look { waiting: self.waiting > 0, ended: self.ended }) } else { None }
    }

    /// True if, since the last look, it waited for its peer all the time, and nothing came of it.
    pub(super) fn has_stalled(&self) -> bool {
        self.waiting > 0 && self.looked == Some(Look { waiting: true, ended: self.ended }) && !self.keeps_peer_waiting()
    }

    /// True if what the peer is waited for may lie in the stream behind a command that waits for room here, and nothing waits
    /// for the peer to take it.
    fn keeps_peer_waiting(&self) -> bool {
        self.queue.is_blocked() && !self.slots.iter().any(|slot| matches!(slot, Slot::Answering(_)))
    }

    /// True if its driver has been asked for a buffer: the connection goes on when that comes.
    pub(super) fn awaits_buffer(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Waiting(Want::Buffer { asked: true, .. })))
    }

    /// Takes the state of a slot out, leaving it free.
    pub(super) fn take(&mut self, slot: u16) -> Slot {
        let state = match self.slots.get_mut(usize::from(slot)) {
            Some(state) => core::mem::replace(state, Slot::Free),
            None => Slot::Free,
        };
        self.count(&state, -1);
        state
    }
}
