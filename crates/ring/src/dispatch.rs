//! From poll bits to events.
//!
//! One multishot poll per socket reports everything as edges. Here they become what a service hears, in the order that
//! loses nothing: bytes that can still be read before the news that the connection is dead.

use crate::core::{Core, Role, Stream, Wait};
use crate::socket::Accepted;
use crate::{Event, Listener, Sock, socket};
use interlock_base::Key;
use std::io::{self, Read};
use std::time::Duration;

/// How long a listener waits after the kernel could not give it a connection (no descriptors, no memory).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How long a connection rests after the kernel had no memory for a send or a receive: nothing tells when it has again.
pub(crate) const MEMORY_RETRY: Duration = Duration::from_millis(10);

/// Connections taken from one listener in one turn; the others wait for the next, so that it starves nobody.
const ACCEPTS_PER_TURN: usize = 16;

/// How long an orderly close waits for the peer's end of the stream, so that what arrives meanwhile does not make the
/// kernel reset the connection and lose what is still queued.
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// Sockets in an orderly close at once; more are left to the kernel without the wait.
pub(crate) const LINGERING_MAX: usize = 1024;

pub(crate) const IN: u32 = libc::POLLIN as u32;
pub(crate) const OUT: u32 = libc::POLLOUT as u32;
const ENDED: u32 = libc::POLLRDHUP as u32;
const READ: u32 = IN | ENDED;
const DEAD: u32 = (libc::POLLERR | libc::POLLHUP) as u32;

impl Core {
    pub(crate) fn dispatch_ready(&mut self) {
        let mut ready = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for key in ready.drain(..) {
            let Some(source) = self.sources.get_mut(key) else { continue };
            let bits = std::mem::take(&mut source.bits);
            match source.role {
                Role::Connecting { .. } => self.dispatch_connecting(key, bits),
                Role::Stream(_) => self.dispatch_stream(key, bits),
                Role::Listening { .. } => self.dispatch_listener(key),
                Role::Lingering => self.discard(key),
            }
        }
        self.spare = ready;
    }

    fn dispatch_connecting(&mut self, key: Key, bits: u32) {
        let Some(source) = self.sources.get_mut(key) else { return };
        let (Role::Connecting { addr }, Some(owner)) = (&source.role, source.owner) else { return };
        let addr = *addr;
        let sock = Sock(key);
        match socket::outcome(&source.socket) {
            None => {}
            Some(Ok(())) => {
                source.role = Role::Stream(Stream { writable: true, ..Stream::new() });
                self.mark(key, bits & (READ | DEAD));
                self.tell(owner, Event::Connected { sock });
            }
            Some(Err(error)) => {
                drop(self.forget_source(key));
                let error = io::Error::new(error.kind(), format!("connect to {addr}: {error}"));
                self.tell(owner, Event::ConnectFailed { sock, error });
            }
        }
    }

    fn dispatch_stream(&mut self, key: Key, bits: u32) {
        let sock = Sock(key);
        let dead = bits & DEAD != 0;
        if bits & OUT != 0
            && let Some((_, stream)) = self.stream(key)
        {
            stream.writable = true;
        }
        if bits & ENDED != 0
            && let Some((_, stream)) = self.stream(key)
        {
            stream.ended = true;
        }
        if let Some((owner, stream)) = self.stream(key)
            && (bits & READ != 0 || dead)
            && !stream.paused
        {
            self.tell(owner, Event::Readable { sock });
        }
        // Each event may have closed the socket, or changed what it wants.
        if let Some((owner, stream)) = self.stream(key)
            && bits & OUT != 0
            && !dead
            && stream.want_write
        {
            self.tell(owner, Event::Writable { sock });
        }
        if dead
            && let Some((owner, stream)) = self.stream(key)
            && !stream.hung
        {
            stream.hung = true;
            let taken = stream.error;
            let socket = self.sources.get(key).map(|source| source.socket.take_error());
            let error = match socket {
                Some(Ok(Some(error)) | Err(error)) => Some(error),
                _ => taken.map(io::Error::from_raw_os_error),
            };
            self.tell(owner, Event::Hangup { sock, error });
        }
    }

    /// The stream of a live source, and its owner.
    fn stream(&mut self, key: Key) -> Option<(Key, &mut Stream)> {
        let source = self.sources.get_mut(key)?;
        match (&mut source.role, source.owner) {
            (Role::Stream(stream), Some(owner)) => Some((owner, stream)),
            _ => None,
        }
    }

    fn dispatch_listener(&mut self, key: Key) {
        let listener = Listener(key);
        for _ in 0..ACCEPTS_PER_TURN {
            // Looked up each time: the event before may have paused or closed it.
            let Some(source) = self.sources.get(key) else { return };
            let (Role::Listening { paused: false }, Some(owner)) = (&source.role, source.owner) else { return };
            let accepted = match socket::accept(&source.socket) {
                Ok(None) => return,
                Ok(Some(accepted)) => self.take_in(owner, listener, accepted),
                Err(error) => Err(error),
            };
            match accepted {
                Ok(event) => self.tell(owner, event),
                Err(error) => {
                    self.timers.set(Wait::Accept(key), crate::now() + ACCEPT_RETRY);
                    self.tell(owner, Event::AcceptFailed { listener, error });
                    return;
                }
            }
        }
        self.mark(key, IN);
    }

    fn take_in(&mut self, owner: Key, listener: Listener, accepted: Accepted) -> io::Result<Event> {
        let mut add = |socket| self.add_source(owner, socket, Role::Stream(Stream::new())).map(Sock);
        Ok(match accepted {
            Accepted::Local(socket) => Event::AcceptedLocal { listener, sock: add(socket)? },
            Accepted::Tcp(socket, peer, local) => Event::Accepted { listener, sock: add(socket)?, peer, local },
        })
    }

    /// Reads some of what still comes on a socket that is closed in order; more in the next turn, until the peer ends its side too.
    fn discard(&mut self, key: Key) {
        let mut scratch = self.take_staging();
        let mut over = false;
        if let Some(source) = self.sources.get(key) {
            match (&*source.socket).read(&mut scratch) {
                Ok(0) => over = true,
                Ok(_) => self.mark(key, IN),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => self.mark(key, IN),
                    kind => over = kind != io::ErrorKind::WouldBlock,
                },
            }
        }
        self.staging = scratch;
        if over {
            drop(self.forget_source(key));
        }
    }

    /// The staging bytes of this reactor; a nested taker gets some of its own.
    pub(crate) fn take_staging(&mut self) -> Vec<u8> {
        let staging = std::mem::take(&mut self.staging);
        if staging.is_empty() { vec![0; self.staging_len] } else { staging }
    }
}
