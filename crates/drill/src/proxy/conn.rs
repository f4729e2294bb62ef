//! One connection through the proxy: a socket to each side and what is on its way between them.

use crate::proxy::ConnId;
use crate::proxy::cut::{Answers, Cutter, HeldWrite};
use interlock_ring::{Cx, Sock};
use std::io;

/// More than so much on its way, and no more is taken from its sender.
const BACKLOG: usize = 1 << 20;

/// More than so much held back, and no more is taken from the host: it has to wait, as with any full network.
const KEPT_MAX: usize = 64 << 20;

/// Bytes on their way to one side.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Gives the kernel what it takes.
    ///
    /// # Errors
    /// The connection is dead.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_>, sock: Sock) -> io::Result<()> {
        while self.left() > 0 {
            match cx.send(sock, &self.bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.left() == 0 {
            self.bytes.clear();
            self.sent = 0;
        }
        cx.want_write(sock, self.left() > 0)
    }
}

/// Which side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Target,
}

/// The side of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Far {
    Connecting(Sock),
    Open(Sock),
    Closed,
}

/// The side of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    Open(Sock),
    /// It has ended in order: the target is told as soon as everything has reached it.
    Ended,
    /// It is gone and the target is not to know.
    Gone,
}

/// Whether anything goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    Speaks,
    /// What the target sends is lost.
    Mute,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    pub(crate) path: usize,
    pub(crate) near: Near,
    pub(crate) far: Far,
    pub(crate) voice: Voice,
    pub(crate) cutter: Cutter,
    pub(crate) answers: Answers,
    pub(crate) to_target: Outgoing,
    pub(crate) to_host: Outgoing,
    /// Of the cutter's held writes so many were told.
    pub(crate) told: usize,
    /// Held writes that were delivered and have no answer yet.
    pub(crate) awaited: Vec<HeldWrite>,
    /// Nothing is taken from the host, or the target, until what it sent before has gone on.
    waiting: [bool; 2],
}

impl Conn {
    pub(crate) fn new(id: ConnId, path: usize, host: Sock, target: Sock) -> Self {
        Self {
            id,
            path,
            near: Near::Open(host),
            far: Far::Connecting(target),
            voice: Voice::Speaks,
            cutter: Cutter::new(),
            answers: Answers::new(),
            to_target: Outgoing::default(),
            to_host: Outgoing::default(),
            told: 0,
            awaited: Vec::new(),
            waiting: [false; 2],
        }
    }

    pub(crate) fn host(&self) -> Option<Sock> {
        match self.near {
            Near::Open(sock) => Some(sock),
            Near::Ended | Near::Gone => None,
        }
    }

    pub(crate) const fn target(&self) -> Option<Sock> {
        match self.far {
            Far::Connecting(sock) | Far::Open(sock) => Some(sock),
            Far::Closed => None,
        }
    }

    /// The target must not learn what became of the host.
    pub(crate) fn is_broken(&self) -> bool {
        self.voice == Voice::Mute || self.near == Near::Gone || self.cutter.is_cut()
    }

    pub(crate) const fn waits(&self, side: Side) -> bool {
        self.waiting[side as usize]
    }

    pub(crate) const fn set_waits(&mut self, side: Side, waits: bool) {
        self.waiting[side as usize] = waits;
    }

    pub(crate) fn host_must_wait(&self) -> bool {
        self.to_target.left() > BACKLOG || self.cutter.kept() > KEPT_MAX
    }

    pub(crate) fn target_must_wait(&self) -> bool {
        self.to_host.left() > BACKLOG
    }
}
