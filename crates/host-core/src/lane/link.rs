//! One I/O queue pair and the socket below it.

use super::{LaneOutput, LaneWhy};
use crate::{ConnAction, ConnId, HeadId, QueueSpec};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use interlock_base::{Instant, Key, Timers};
use interlock_proto::host::Queue;

#[derive(Clone, Debug, Hash)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) life: Key,
    pub(super) spec: Arc<QueueSpec>,
    pub(super) stage: Stage,
    /// `Send` was said and `poll_send` not called since.
    pub(super) send_asked: bool,
    /// The I/O timer runs.
    pub(super) watched: bool,
    /// Since when a witness is outstanding, a Flush of the lane's own that no request stands for, and of which namespace.
    pub(super) witness: Option<(Instant, Option<HeadId>)>,
    /// Commands that were a Flush when the life was condemned, and are sent again elsewhere: an answer that comes all the same may be
    /// the only report of a loss.
    pub(super) left_flushes: Vec<(u64, HeadId)>,
    /// How the peer broke the protocol before the queue was up, while it is told so.
    pub(super) broken: Option<String>,
}

#[derive(Clone, Debug, Hash)]
pub(super) enum Stage {
    /// TCP connects.
    Dialing,
    /// ICReq and Connect are on their way.
    Connecting(Queue),
    /// Usable.
    Up(Queue),
    /// Lost while it was up, and its life not condemned yet; the queue still is the ledger of what was sent.
    Lost(Queue, Socket),
    /// Its life is condemned; answers still count while there is a queue to decode them.
    Condemned(Option<Queue>, Socket),
}

/// What is left of a socket on which nothing may be sent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Socket {
    /// A termination request may go out, nothing else.
    LastWords,
    /// `WatchDrain` was said.
    Watched,
    /// Its send queue was seen empty; it is kept for late answers.
    Empty,
    /// `Abort` was said.
    Aborting,
    /// It does not exist any more.
    Gone,
}

impl Link {
    /// The queue, if what arrives is for it.
    pub(super) const fn receiving(&mut self) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Connecting(queue)
            | Stage::Up(queue)
            | Stage::Condemned(Some(queue), Socket::Watched | Socket::Empty) => Some(queue),
            Stage::Dialing | Stage::Lost(..) | Stage::Condemned(..) => None,
        }
    }

    /// The same, to look at.
    pub(super) const fn receiving_ref(&self) -> Option<&Queue> {
        match &self.stage {
            Stage::Connecting(queue)
            | Stage::Up(queue)
            | Stage::Condemned(Some(queue), Socket::Watched | Socket::Empty) => Some(queue),
            Stage::Dialing | Stage::Lost(..) | Stage::Condemned(..) => None,
        }
    }

    /// The queue, if it may send (`no_send_after_condemned`).
    pub(super) const fn sending(&mut self) -> Option<&mut Queue> {
        match &mut self.stage {
            Stage::Connecting(queue) | Stage::Up(queue) | Stage::Lost(queue, Socket::LastWords) => Some(queue),
            Stage::Dialing | Stage::Lost(..) | Stage::Condemned(..) => None,
        }
    }

    /// True if no byte can leave its socket any more.
    pub(super) const fn is_quiet(&self) -> bool {
        matches!(self.stage, Stage::Lost(_, Socket::Gone) | Stage::Condemned(_, Socket::Empty | Socket::Gone))
    }

    /// A command was put on the queue: the oldest there is timed.
    pub(super) fn watch(&mut self, now: Instant, timers: &mut Timers<LaneWhy>) {
        if !self.watched {
            self.watched = true;
            timers.set(LaneWhy::Io(self.conn), now + self.spec.io_timeout);
        }
    }

    pub(super) fn ask_to_send(&mut self, outputs: &mut VecDeque<LaneOutput>) {
        if !self.send_asked {
            self.send_asked = true;
            outputs.push_back(LaneOutput::Conn(ConnAction::Send(self.conn)));
        }
    }
}

/// The links of a lane, found by connection.
#[derive(Clone, Debug, Hash, Default)]
pub(super) struct Links {
    /// Names only grow, so this stays sorted by name.
    all: Vec<Link>,
    last: u32,
}

impl Links {
    pub(super) fn open(&mut self, life: Key, spec: Arc<QueueSpec>) -> ConnId {
        self.last = self.last.checked_add(1).expect("four billion connections outlast any process");
        let conn = ConnId(self.last);
        self.all.push(Link {
            conn,
            life,
            spec,
            stage: Stage::Dialing,
            send_asked: false,
            watched: false,
            witness: None,
            left_flushes: Vec::new(),
            broken: None,
        });
        conn
    }

    fn position(&self, conn: ConnId) -> Option<usize> {
        self.all.binary_search_by_key(&conn, |link| link.conn).ok()
    }

    pub(super) fn get(&self, conn: ConnId) -> Option<&Link> {
        self.position(conn).map(|at| &self.all[at])
    }

    pub(super) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.position(conn).map(|at| &mut self.all[at])
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Link> {
        self.position(conn).map(|at| self.all.remove(at))
    }
}
