//! What a service can do.
//!
//! A [`Cx`] is lent to a service for one call. Everything that it names belongs to that service: names of sockets and
//! files that are closed, or another's, find nothing and are answered with [`io::ErrorKind::NotFound`].

use crate::core::{Core, Role, Source, Stream, Wait};
use crate::dispatch::{IN, LINGER, LINGERING_MAX, MEMORY_RETRY, OUT};
use crate::pool::Reactor;
use crate::{
    Aborter, Call, ConnectOptions, Event, File, FileOp, Listener, Loose, Service, ServiceId, Sock, StartBy, Verdict,
    Waker,
};
use crate::{socket, sys};
use interlock_base::{Instant, Key};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Slices that one vectored call takes (the kernel's `UIO_MAXIOV`). More may be given: the call then moves a part.
pub const SLICES_MAX: usize = 1024;

/// The reactor, as seen by one service during one call.
pub struct Cx<'a> {
    core: &'a mut Core,
    me: Key,
}

impl<'a> Cx<'a> {
    pub(crate) const fn new(core: &'a mut Core, me: Key) -> Self {
        Self { core, me }
    }
}

/// Time, mail, life.
impl Cx<'_> {
    /// The present. See [`crate::now`].
    #[must_use]
    pub fn now(&self) -> Instant {
        crate::now()
    }

    /// This service.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        ServiceId(self.core.services.get(self.me).map_or(0, |entry| entry.id))
    }

    /// This reactor.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        self.core.link.clone()
    }

    /// System calls that this reactor has made for data so far: sends, receives and waits. Each costs about as much as the
    /// work on a small request, so that this is what a benchmark counts.
    #[must_use]
    pub const fn system_calls(&self) -> u64 {
        self.core.transfers + self.core.poller.calls()
    }

    /// What other threads (and other services) wake this service with.
    #[must_use]
    pub fn waker(&self) -> Waker {
        let pending = self.core.services.get(self.me).map(|entry| entry.mail.clone()).unwrap_or_default();
        Waker { inbox: self.core.link.inbox.clone(), service: self.me, pending }
    }

    /// When to be called with [`Event::Deadline`], once; `None`: not. Replaces what was set before.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        match at {
            Some(at) => self.core.timers.set(Wait::Service(self.me), at),
            None => self.core.timers.stop(Wait::Service(self.me)),
        }
    }

    /// Attaches another service to this reactor. Its factory runs after this call has returned.
    pub fn attach(&mut self, factory: impl FnOnce(&mut Cx<'_>) -> Box<dyn Service> + 'static) -> ServiceId {
        let id = self.core.link.shared.register(self.core.link.index);
        self.core.spawned.push((id, Box::new(factory)));
        ServiceId(id)
    }

    /// Detaches this service at the end of this turn.
    pub fn detach(&mut self) {
        if !self.core.leaving.contains(&self.me) {
            self.core.leaving.push(self.me);
        }
    }
}

/// Making and ending connections.
impl Cx<'_> {
    /// Begins to connect. [`Event::Connected`] or [`Event::ConnectFailed`] follows; how long to wait is the service's
    /// matter (abort the socket when its patience ends).
    ///
    /// # Errors
    /// What the kernel refuses at once: no route, an unknown interface, a local address that is not ours.
    pub fn connect(&mut self, options: &ConnectOptions) -> io::Result<Sock> {
        let socket = socket::connecting(options)?;
        Ok(Sock(self.core.add_source(self.me, socket, Role::Connecting { addr: options.addr })?))
    }

    /// Listens on `addr` (port 0: the kernel chooses) and says where.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        let socket = socket::listening(addr)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(addr);
        Ok((Listener(self.core.add_source(self.me, socket, Role::Listening { paused: false })?), local))
    }

    /// Takes connections from a listening socket that the caller has made: a Unix socket, whose name and mode are the
    /// caller's matter, or an inherited one.
    ///
    /// # Errors
    /// The socket does not listen.
    pub fn adopt_listener(&mut self, fd: OwnedFd) -> io::Result<Listener> {
        let socket = socket::adopted(fd)?;
        Ok(Listener(self.core.add_source(self.me, socket, Role::Listening { paused: false })?))
    }

    /// Stops or resumes taking connections. The kernel goes on completing handshakes up to its backlog meanwhile.
    ///
    /// # Errors
    /// The listener is closed.
    pub fn pause_accept(&mut self, listener: Listener, pause: bool) -> io::Result<()> {
        match &mut self.source(listener.0)?.role {
            Role::Listening { paused } => *paused = pause,
            _ => return Err(gone()),
        }
        if !pause {
            self.core.mark(listener.0, IN);
        }
        Ok(())
    }

    /// Stops listening: when this returns, connecting is refused, and connections that nobody had taken are reset.
    pub fn close_listener(&mut self, listener: Listener) {
        if self.source(listener.0).is_ok()
            && let Some(source) = self.core.forget_source(listener.0)
        {
            // The poll in the ring keeps the socket alive for a moment; this acts on the socket itself.
            let _ = source.socket.shutdown(Shutdown::Both);
        }
    }

    /// Ends a connection in order: everything that was queued is delivered, then the end of the stream; linger is off.
    /// The name is dead when this returns; the rest happens behind it, bounded in time. A connection that does not
    /// stand yet is aborted.
    pub fn close(&mut self, sock: Sock) {
        let Ok(source) = self.source(sock.0) else { return };
        if !matches!(source.role, Role::Stream(_)) {
            let _ = self.abort(sock);
            return;
        }
        source.owner = None;
        source.role = Role::Lingering;
        // Both fail only on a connection that is dead already.
        let _ = source.socket.set_linger(None);
        let _ = source.socket.shutdown(Shutdown::Write);
        self.core.lingering += 1;
        if self.core.lingering > LINGERING_MAX {
            drop(self.core.forget_source(sock.0));
            return;
        }
        self.core.timers.set(Wait::Linger(sock.0), crate::now() + LINGER);
        self.core.mark(sock.0, IN);
    }

    /// Ends a connection at once. When this returns `Ok`, nothing of its send queue can be sent any more; the peer is
    /// sent a reset, and can read only what lay in its receive buffer. The name is dead in either case, but that of a
    /// connection whose abort was refused is good for asking again.
    ///
    /// # Errors
    /// The kernel refused to empty the queue (a security module, for example): the connection must be treated as one
    /// that may still deliver, until asking again succeeds.
    pub fn abort(&mut self, sock: Sock) -> io::Result<()> {
        if self.core.refused.get(&sock.0).is_none_or(|refused| refused.owner != Some(self.me)) {
            self.source(sock.0)?;
        }
        self.core.abort_source(sock.0)
    }

    /// A way for another thread to abort this connection if this reactor is stuck. Costs no descriptor.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn aborter(&mut self, sock: Sock) -> io::Result<Aborter> {
        Ok(Aborter(Arc::downgrade(&self.source(sock.0)?.socket)))
    }

    /// Takes a connection off this reactor, so that another one can [`Cx::adopt`] it. Bytes wait in the kernel
    /// meanwhile.
    ///
    /// # Errors
    /// The socket is closed or not connected.
    pub fn release(&mut self, sock: Sock) -> io::Result<Loose> {
        self.stream(sock)?;
        self.core.forget_source(sock.0).map(|source| Loose::new(source.socket)).ok_or_else(gone)
    }

    /// Takes a connection over. [`Event::Readable`] follows if bytes are waiting; [`Event::Hangup`] if the kernel has no
    /// room to watch it.
    pub fn adopt(&mut self, loose: Loose) -> Sock {
        Sock(self.core.adopt_source(self.me, loose.into_socket()))
    }
}

/// Moving bytes.
impl Cx<'_> {
    /// Receives what is there. `Ok(0)`: the peer has ended its side (or `into` is empty).
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there now; [`Event::Readable`] follows. Else the connection is dead.
    pub fn recv(&mut self, sock: Sock, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len();
        self.receive(sock, room, |mut socket, most| socket.read(&mut into[..most]))
    }

    /// Receives into several slices in turn: a payload's place first, staging after it.
    ///
    /// # Errors
    /// As [`Cx::recv`].
    pub fn recv_vectored(&mut self, sock: Sock, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let count = into.len().min(SLICES_MAX);
        let room = into[..count].iter().map(|slice| slice.len()).sum();
        self.receive(sock, room, |mut socket, most| {
            if most == room {
                return socket.read_vectored(&mut into[..count]);
            }
            let first = into.iter_mut().find(|slice| !slice.is_empty());
            first.map_or(Ok(0), |slice| {
                let most = most.min(slice.len());
                socket.read(&mut slice[..most])
            })
        })
    }

    /// What becomes of a call, if somebody stands at the boundary.
    fn decide(&self, call: &Call<'_>) -> Verdict {
        self.core.faults.as_ref().map_or(Verdict::Pass, |faults| faults.decide(call))
    }

    fn receive(
        &mut self,
        sock: Sock,
        room: usize,
        mut call: impl FnMut(&socket2::Socket, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (bytes, cut) = loop {
            let verdict = self.decide(&Call::Receive(room));
            let most = if let Verdict::AtMost(most) = verdict { most.clamp(1, room.max(1)).min(room) } else { room };
            self.core.transfers += 1;
            let source = self.source(sock.0)?;
            let Role::Stream(stream) = &mut source.role else { return Err(gone()) };
            let outcome = match verdict {
                Verdict::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
                Verdict::Pass | Verdict::AtMost(_) => call(&source.socket, most),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(error) if lacks_memory(&error) => {
                    self.core.timers.set(Wait::Memory(sock.0), crate::now() + MEMORY_RETRY);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(error) => {
                    stream.error = stream.error.or(error.raw_os_error());
                    return Err(error);
                }
                Ok(bytes) => break (bytes, most < room && bytes == most),
            }
        };
        // A last piece and the end of the stream may come in one edge; a service that stops at a short receive, as it
        // may, would never hear of the end. Nor of what a decision at the boundary left in the kernel.
        let ended = matches!(&self.source(sock.0)?.role, Role::Stream(stream) if stream.ended);
        if bytes > 0 && (ended || cut) {
            self.core.mark(sock.0, IN);
        }
        Ok(bytes)
    }

    /// Lends the staging bytes of this reactor, to receive into them. What they hold is lost after the call: a service
    /// that cannot use all of it copies the rest.
    pub fn with_staging<R>(&mut self, work: impl FnOnce(&mut Self, &mut [u8]) -> R) -> R {
        let mut staging = self.core.take_staging();
        let result = work(self, &mut staging);
        self.core.staging = staging;
        result
    }

    /// Gives bytes to the kernel; says how many it took. Only the first [`SLICES_MAX`] slices are looked
    /// at. After a part, as after `WouldBlock`, [`Event::Writable`] follows if it is wanted.
    ///
    /// # Errors
    /// `WouldBlock`: no room now. Else the connection is dead.
    pub fn send_vectored(&mut self, sock: Sock, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let verdict = self.decide(&Call::Send(asked));
            self.core.transfers += 1;
            let source = self.source(sock.0)?;
            let Role::Stream(stream) = &mut source.role else { return Err(gone()) };
            const FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            let outcome = match verdict {
                Verdict::Pass => source.socket.send_vectored_with_flags(slices, FLAGS),
                Verdict::AtMost(most) => {
                    let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| &slice[..]);
                    source.socket.send_with_flags(&first[..most.max(1).min(first.len())], FLAGS)
                }
                Verdict::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if lacks_memory(&error) => {
                    stream.writable = false;
                    self.core.timers.set(Wait::Memory(sock.0), crate::now() + MEMORY_RETRY);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Err(error) => {
                    stream.writable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        stream.error = stream.error.or(error.raw_os_error());
                    }
                    return Err(error);
                }
                Ok(bytes) => {
                    if bytes < asked {
                        stream.writable = false;
                        if verdict != Verdict::Pass {
                            // The kernel has room, and so will not tell that it has.
                            self.core.mark(sock.0, OUT);
                        }
                    }
                    return Ok(bytes);
                }
            }
        }
    }

    /// As [`Cx::send_vectored`], for one slice.
    ///
    /// # Errors
    /// As [`Cx::send_vectored`].
    pub fn send(&mut self, sock: Sock, bytes: &[u8]) -> io::Result<usize> {
        self.send_vectored(sock, &[IoSlice::new(bytes)])
    }

    /// Whether [`Event::Writable`] is wanted. If there is room already, it follows in the next turn.
    ///
    /// # Errors
    /// The socket is closed or not connected.
    pub fn want_write(&mut self, sock: Sock, want: bool) -> io::Result<()> {
        let stream = self.stream(sock)?;
        stream.want_write = want;
        if want && stream.writable {
            self.core.mark(sock.0, OUT);
        }
        Ok(())
    }

    /// Stops or resumes [`Event::Readable`]. The kernel goes on receiving up to its window; a death of the connection
    /// is still told. Resuming is followed by one [`Event::Readable`], whether bytes are there or not.
    ///
    /// # Errors
    /// The socket is closed or not connected.
    pub fn pause_read(&mut self, sock: Sock, pause: bool) -> io::Result<()> {
        self.stream(sock)?.paused = pause;
        if !pause {
            self.core.mark(sock.0, IN);
        }
        Ok(())
    }

    /// Asks for [`Event::Readable`] in the next turn: for a service that stopped receiving before `WouldBlock`, to let
    /// others have their turn. Nothing happens if the socket is closed.
    pub fn again(&mut self, sock: Sock) {
        if self.source(sock.0).is_ok() {
            self.core.mark(sock.0, IN);
        }
    }

    /// Bytes in the send queue that the peer has not acknowledged.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn outq(&mut self, sock: Sock) -> io::Result<u32> {
        sys::outq(&self.source(sock.0)?.socket)
    }

    /// The number that the kernel's tables of connections show for this socket, and for no other (`/proc/net/tcp`, column
    /// `inode`).
    ///
    /// # Errors
    /// The socket is closed.
    pub fn inode(&mut self, sock: Sock) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.source(sock.0)?.socket)?.st_ino)
    }

    /// The address of this side.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn local_addr(&mut self, sock: Sock) -> io::Result<SocketAddr> {
        self.source(sock.0)?.socket.local_addr()?.as_socket().ok_or_else(gone)
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// The socket is closed or not connected.
    pub fn peer_addr(&mut self, sock: Sock) -> io::Result<SocketAddr> {
        self.source(sock.0)?.socket.peer_addr()?.as_socket().ok_or_else(gone)
    }

    /// How long sent bytes may stay unacknowledged before the kernel gives up (`TCP_USER_TIMEOUT`); `None`: the
    /// system's default.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn set_user_timeout(&mut self, sock: Sock, timeout: Option<Duration>) -> io::Result<()> {
        self.source(sock.0)?.socket.set_tcp_user_timeout(timeout)
    }

    /// Runs `call` with the socket's descriptor, for options that this crate does not know.
    ///
    /// # Errors
    /// The socket is closed.
    pub fn with_fd<R>(&mut self, sock: Sock, call: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> R) -> io::Result<R> {
        Ok(call(self.source(sock.0)?.socket.as_fd()))
    }

    fn source(&mut self, key: Key) -> io::Result<&mut Source> {
        let me = self.me;
        self.core.sources.get_mut(key).filter(|source| source.owner == Some(me)).ok_or_else(gone)
    }

    fn stream(&mut self, sock: Sock) -> io::Result<&mut Stream> {
        match &mut self.source(sock.0)?.role {
            Role::Stream(stream) => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::NotConnected, "the connection does not stand yet")),
        }
    }
}

/// Files.
impl Cx<'_> {
    /// Hands an open file over to this reactor, for as long as this service lives.
    pub fn add_file(&mut self, fd: OwnedFd) -> File {
        File(self.core.files.insert((self.me, Arc::new(fd))))
    }

    /// Closes a file. Operations in flight end as usual, and hold the descriptor until then.
    pub fn remove_file(&mut self, file: File) {
        if self.core.files.get(file.0).is_some_and(|(owner, _)| *owner == self.me) {
            self.core.files.remove(file.0);
        }
    }

    /// Starts an operation on a file. Whatever becomes of it, exactly one [`Event::Op`] with `token` follows and gives
    /// the buffer back; an operation that is impossible (unknown file, a part beyond the buffer, a shared buffer for
    /// a read) fails with [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::NotFound`] there. Operations in flight
    /// together may end in any order.
    pub fn submit(&mut self, file: File, op: FileOp, token: u64) {
        self.submit_by(file, op, token, None);
    }

    /// As [`Cx::submit`], for an operation that must not begin later than `by` says: one that is submitted too late, or that no thread
    /// came to in time, ends with [`io::ErrorKind::TimedOut`]. A ring needs no thread: it hands the operation to the kernel at the
    /// end of the turn, and to have been handed over is to have begun. What the kernel does not do at once (`fallocate`, `fdatasync`,
    /// writes through the page cache) can wait for a worker of the kernel behind other operations on a file that hangs, and nobody
    /// looks at the clock there.
    pub fn submit_by(&mut self, file: File, mut op: FileOp, token: u64, by: Option<StartBy>) {
        match self.decide(&Call::File(&op)) {
            Verdict::Pass => {}
            Verdict::AtMost(most) => op.shorten(most),
            Verdict::Fail(errno) => {
                let result = Err(io::Error::from_raw_os_error(errno));
                return self.core.pending.push_back((self.me, Event::Op { token, result, buf: op.into_buf() }));
            }
        }
        let fd = match self.core.files.get(file.0).filter(|(owner, _)| *owner == self.me) {
            Some(_) if by.is_some_and(|by| by.is_over()) => Err(io::ErrorKind::TimedOut.into()),
            Some((_, fd)) => op.fault().map_or_else(|| Ok(fd.clone()), Err),
            None => Err(gone()),
        };
        match fd {
            Ok(fd) => self.core.poller.file(fd, op, self.me, token, by),
            Err(error) => {
                let event = Event::Op { token, result: Err(error), buf: op.into_buf() };
                self.core.pending.push_back((self.me, event));
            }
        }
    }
}

impl fmt::Debug for Cx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("service", &self.id()).finish_non_exhaustive()
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "closed already, or another service's")
}

/// The kernel has no memory at present. It says so to whoever asks next, and to nobody when it has again.
fn lacks_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM))
}
