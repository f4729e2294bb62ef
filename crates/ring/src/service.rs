//! What a reactor runs.
//!
//! A reactor knows nothing of NVMe. It runs *services*: hosts, targets, export sessions, the fault proxy. A service
//! is called with what happened ([`Event`]) and acts through [`crate::Cx`]; it is never called from another thread,
//! and never while it is already running.

use crate::{Buf, Cx};
use interlock_base::Key;
use std::io;
use std::net::SocketAddr;

/// A connected (or connecting) TCP socket of a service. It names the socket *and* its generation: once closed, the
/// name finds nothing, however often the slot and the descriptor are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sock(pub(crate) Key);

/// A listening TCP socket of a service. See [`Sock`] for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener(pub(crate) Key);

/// A file of a service. See [`Sock`] for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File(pub(crate) Key);

/// A service in its pool; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub(crate) u64);

/// A part of the program that lives on one reactor. It need not be `Send`: its factory runs on the reactor.
pub trait Service {
    /// Something happened. Act through `cx`; do not block.
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event);

    /// Called once per loop turn after the last [`Event`] of that turn, if there was any: flush sends here.
    fn turn(&mut self, cx: &mut Cx<'_>) {
        let _ = cx;
    }

    /// It has panicked, in one of the methods above, with this message. It is dropped next and gets no event any more; the
    /// other services go on. A service that others cannot do without ends more than itself here.
    fn panicked(&mut self, message: &str) {
        let _ = message;
    }
}

/// What happened to a service.
#[derive(Debug)]
pub enum Event {
    /// The service runs now. Always the first event.
    Attached,
    /// A [`crate::Waker`] of this service was used, once or often: look into every mailbox.
    Mail,
    /// The connection stands.
    Connected {
        /// As returned by [`crate::Cx::connect`].
        sock: Sock,
    },
    /// The connection could not be made; the socket is gone.
    ConnectFailed {
        /// As returned by [`crate::Cx::connect`].
        sock: Sock,
        /// Why, with the address.
        error: io::Error,
    },
    /// A peer connected.
    Accepted {
        /// Where.
        listener: Listener,
        /// The new connection. It belongs to this service.
        sock: Sock,
        /// The peer's address.
        peer: SocketAddr,
        /// The address that the peer connected to.
        local: SocketAddr,
    },
    /// A peer of this machine connected to a Unix socket that was [adopted](crate::Cx::adopt_listener).
    AcceptedLocal {
        /// Where.
        listener: Listener,
        /// The new connection. It belongs to this service.
        sock: Sock,
    },
    /// A connection could not be taken from the kernel (too many open files, for example). The reactor tries again
    /// after [`crate::ACCEPT_RETRY`].
    AcceptFailed {
        /// Where.
        listener: Listener,
        /// Why.
        error: io::Error,
    },
    /// Bytes, or the end of the stream, may be waiting. The notice is an *edge*: receive until `WouldBlock`, until
    /// fewer bytes came than there was room for, or until a budget of your own ends; in the last case call
    /// [`crate::Cx::again`], or nothing will tell you about the rest. May be spurious.
    Readable {
        /// Which.
        sock: Sock,
    },
    /// The kernel takes bytes again; only while [`crate::Cx::want_write`] is on. May be spurious.
    Writable {
        /// Which.
        sock: Sock,
    },
    /// The connection is dead in both directions. Comes once, after a last [`Event::Readable`] unless that is paused
    /// (bytes that lay in the receive buffer can still be received). The service must close or abort the socket.
    Hangup {
        /// Which.
        sock: Sock,
        /// Why, if the kernel knows: `None` after an orderly end of both directions.
        error: Option<io::Error>,
    },
    /// The deadline of this service has passed; it is cleared.
    Deadline,
    /// A file operation is over. Every operation that was submitted ends with exactly one of these, unless the
    /// service is detached first.
    Op {
        /// As given to [`crate::Cx::submit`].
        token: u64,
        /// Bytes moved (0 for operations without bytes). Fewer than asked for is possible at the end of the file and
        /// on a full device: the service goes on from there.
        result: io::Result<u32>,
        /// The buffer, given back.
        buf: Option<Buf>,
    },
    /// The last event: the service is dropped after it, and what sockets it still has are aborted. Sockets that shall
    /// end in order must be closed here.
    Detach,
}
