//! The connections of one machine on one reactor.

use crate::Machine;
use crate::outbox::{Outbox, SLICES};
use interlock_base::Instant;
use interlock_ring::{BufTable, Cx, Sock};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};

/// Payload of at least this many bytes is received straight into its place; less is staged and copied once. A copy of
/// 16 KiB costs about as much as the extra system call that it saves.
const DIRECT_MIN: u32 = 16 * 1024;

/// Sends per call of [`Wires::flush`]: one busy connection must not starve the others of its reactor.
const SENDS_PER_TURN: usize = 16;

/// How a connection stands after carrying for it.
#[derive(Debug)]
pub enum Io {
    /// All was done that can be done now.
    Done,
    /// The peer closed its direction, or the connection broke (the error says how). The socket still exists.
    Ended(Option<io::Error>),
}

struct Wire {
    sock: Sock,
    outbox: Outbox,
    /// Bytes that came while the machine was blocked, and how many of them it has used since. Bounded by one staging
    /// buffer: nothing is received meanwhile.
    stash: Vec<u8>,
    unstashed: usize,
    /// Nothing is read or written (a scripted dead wire).
    muted: bool,
    wants_write: bool,
}

/// How a connection stands after a piece of what came was read.
#[derive(Debug)]
pub enum Read {
    /// Nothing more was there, or the machine takes nothing at present.
    All,
    /// So many bytes were read, and more may be there.
    More(usize),
    /// As [`Io::Ended`].
    Ended(Option<io::Error>),
}

/// The connections of one machine on one reactor.
pub struct Wires<C> {
    wires: BTreeMap<C, Wire>,
    by_sock: BTreeMap<Sock, C>,
}

impl<C> Default for Wires<C> {
    fn default() -> Self {
        Self { wires: BTreeMap::new(), by_sock: BTreeMap::new() }
    }
}

impl<C: Copy + Ord> Wires<C> {
    /// Binds a connection of the machine to a socket.
    pub fn insert(&mut self, conn: C, sock: Sock) {
        let wire =
            Wire { sock, outbox: Outbox::default(), stash: Vec::new(), unstashed: 0, muted: false, wants_write: false };
        self.wires.insert(conn, wire);
        self.by_sock.insert(sock, conn);
    }

    /// Forgets a connection; its socket is the caller's to end.
    pub fn remove(&mut self, conn: C) -> Option<Sock> {
        let wire = self.wires.remove(&conn)?;
        self.by_sock.remove(&wire.sock);
        Some(wire.sock)
    }

    /// The connection of a socket.
    #[must_use]
    pub fn conn(&self, sock: Sock) -> Option<C> {
        self.by_sock.get(&sock).copied()
    }

    /// The socket of a connection.
    #[must_use]
    pub fn sock(&self, conn: C) -> Option<Sock> {
        self.wires.get(&conn).map(|wire| wire.sock)
    }

    /// All connections.
    pub fn conns(&self) -> impl Iterator<Item = C> + '_ {
        self.wires.keys().copied()
    }

    /// True if everything that was polled for this connection was given to the kernel.
    #[must_use]
    pub fn is_flushed(&self, conn: C) -> bool {
        self.wires.get(&conn).is_none_or(|wire| wire.outbox.is_empty())
    }

    /// Forgets what was polled and not yet given to the kernel.
    pub fn stop_sending(&mut self, cx: &mut Cx<'_>, conn: C) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.outbox.clear();
            want_write(wire, cx, false);
        }
    }

    /// Stops or resumes all carrying for this connection. After resuming, the caller calls `readable` and `flush`.
    pub fn mute(&mut self, cx: &mut Cx<'_>, conn: C, muted: bool) {
        if let Some(wire) = self.wires.get_mut(&conn) {
            wire.muted = muted;
            // A socket that is closed already has nothing to pause.
            let _ = cx.pause_read(wire.sock, muted);
        }
    }

    /// Carries received bytes into the machine.
    pub fn readable<M: Machine<Conn = C>>(
        &mut self,
        cx: &mut Cx<'_>,
        machine: &mut M,
        memory: &mut BufTable,
        conn: C,
    ) -> Io {
        match self.read(cx, machine, memory, conn, usize::MAX) {
            Read::More(_) => {
                if let Some(sock) = self.sock(conn) {
                    cx.again(sock);
                }
                Io::Done
            }
            Read::All => Io::Done,
            Read::Ended(error) => Io::Ended(error),
        }
    }

    /// As [`Wires::readable`], no more than `most` bytes at once unless they are payload that goes straight into its place. The
    /// caller comes again if there may be more.
    pub fn read<M: Machine<Conn = C>>(
        &mut self,
        cx: &mut Cx<'_>,
        machine: &mut M,
        memory: &mut BufTable,
        conn: C,
        most: usize,
    ) -> Read {
        let Some(wire) = self.wires.get_mut(&conn) else { return Read::All };
        if wire.muted {
            return Read::All;
        }
        if !wire.stash.is_empty() {
            let used = offer(cx.now(), machine, memory, conn, &wire.stash[wire.unstashed..]);
            wire.unstashed += used;
            if wire.unstashed < wire.stash.len() {
                return Read::All;
            }
            // One that is blocked seldom keeps no memory for it.
            wire.stash = Vec::new();
            wire.unstashed = 0;
            machine.handle_kept(conn, 0);
        }
        cx.with_staging(|cx, staging| {
            let most = most.min(staging.len());
            receive(cx, machine, memory, conn, wire, &mut staging[..most])
        })
    }

    /// Gives the kernel what the machine has to send on this connection.
    pub fn flush<M: Machine<Conn = C>>(&mut self, cx: &mut Cx<'_>, machine: &mut M, memory: &BufTable, conn: C) -> Io {
        let Some(wire) = self.wires.get_mut(&conn) else { return Io::Done };
        if wire.muted {
            return Io::Done;
        }
        for _ in 0..SENDS_PER_TURN {
            match give(wire, cx, machine, memory, conn, usize::MAX) {
                Given::Some => {}
                Given::All => return Io::Done,
                Given::NoRoom => break,
                Given::Ended(error) => return Io::Ended(Some(error)),
            }
        }
        want_write(wire, cx, true);
        Io::Done
    }

    /// As [`Wires::flush`] in one call, which ends with the piece that makes it `most` bytes or more. The second is true if there may
    /// be more, and room for it.
    pub fn flush_some<M: Machine<Conn = C>>(
        &mut self,
        cx: &mut Cx<'_>,
        machine: &mut M,
        memory: &BufTable,
        conn: C,
        most: usize,
    ) -> (Io, bool) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.muted) else { return (Io::Done, false) };
        match give(wire, cx, machine, memory, conn, most) {
            Given::Some => (Io::Done, true),
            Given::All => (Io::Done, false),
            Given::NoRoom => {
                want_write(wire, cx, true);
                (Io::Done, false)
            }
            Given::Ended(error) => (Io::Ended(Some(error)), false),
        }
    }
}

/// What became of one call.
enum Given {
    /// The kernel took something, or will be asked again.
    Some,
    /// There is nothing to give.
    All,
    /// The kernel takes nothing now.
    NoRoom,
    /// The connection broke.
    Ended(io::Error),
}

/// Gives the kernel, in one call, about `most` bytes of what the machine has to send.
#[inline]
fn give<M: Machine>(
    wire: &mut Wire,
    cx: &mut Cx<'_>,
    machine: &mut M,
    memory: &BufTable,
    conn: M::Conn,
    most: usize,
) -> Given {
    if wire.outbox.is_empty() {
        wire.outbox.fill(memory, |list| machine.poll_send(conn, list));
        if wire.outbox.is_empty() {
            want_write(wire, cx, false);
            return Given::All;
        }
    }
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = wire.outbox.slices(memory, &mut slices);
    if most < usize::MAX {
        count = up_to(&slices[..count], most);
    }
    match cx.send_vectored(wire.sock, &slices[..count]) {
        Ok(given) => {
            wire.outbox.advance(given);
            machine.handle_given(cx.now(), conn, given as u64);
            Given::Some
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Given::NoRoom,
        Err(error) if error.kind() == ErrorKind::Interrupted => Given::Some,
        Err(error) => {
            wire.outbox.clear();
            want_write(wire, cx, false);
            Given::Ended(error)
        }
    }
}

/// How many of the slices have `most` bytes together, or all of them have not.
#[cold]
fn up_to(slices: &[IoSlice<'_>], most: usize) -> usize {
    let mut bytes = 0;
    let full = slices.iter().position(|slice| {
        bytes += slice.len();
        bytes >= most
    });
    full.map_or(slices.len(), |last| last + 1)
}

fn want_write(wire: &mut Wire, cx: &mut Cx<'_>, wants: bool) {
    if wire.wants_write != wants {
        wire.wants_write = wants;
        // A socket that is closed already has nothing to write.
        let _ = cx.want_write(wire.sock, wants);
    }
}

/// Receives once. If more may be there the connection has another turn: what this makes the machine say is sent before, so that
/// the peer has something to do meanwhile, and one busy connection does not starve the others of its reactor.
fn receive<M: Machine>(
    cx: &mut Cx<'_>,
    machine: &mut M,
    memory: &mut BufTable,
    conn: M::Conn,
    wire: &mut Wire,
    staging: &mut [u8],
) -> Read {
    let direct = machine.direct(conn, DIRECT_MIN);
    let received = match direct {
        Some((span, _)) => {
            let place = memory.bytes_mut(span).expect("a driver's buffer has one writer: the queue that names it");
            cx.recv(wire.sock, place)
        }
        None => cx.recv(wire.sock, staging),
    };
    let room = direct.map_or(staging.len(), |(span, _)| span.len as usize);
    let count = match received {
        Ok(0) => return Read::Ended(None),
        Ok(count) => count,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Read::All,
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            return Read::More(0);
        }
        Err(error) => return Read::Ended(Some(error)),
    };
    // One look at the clock for everything that came together: it was there by now.
    let now = cx.now();
    if let Some((span, seed)) = direct {
        let len = u32::try_from(count).expect("no longer than the span");
        let digest = seed.map_or(0, |seed| crc32c::crc32c_append(seed, memory.bytes(span.slice(0, len))));
        machine.handle_placed(now, conn, len, digest);
    } else {
        let used = offer(now, machine, memory, conn, &staging[..count]);
        if used < count {
            // Blocked: the rest waits until the machine was answered, and nothing more is received meanwhile.
            wire.stash.extend_from_slice(&staging[used..count]);
            crate::note_copied(count - used);
            machine.handle_kept(conn, count - used);
            return Read::All;
        }
    }
    if count == room { Read::More(count) } else { Read::All }
}

/// Offers bytes to the machine and places payload where it says; returns how many were used.
fn offer<M: Machine>(now: Instant, machine: &mut M, memory: &mut BufTable, conn: M::Conn, bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let taken = machine.handle_bytes(now, conn, &bytes[at..]);
        at += taken.used;
        if let Some(place) = taken.place {
            let len = place.to.len as usize;
            let from = &bytes[at..at + len];
            memory
                .bytes_mut(place.to)
                .expect("a driver's buffer has one writer: the queue that names it")
                .copy_from_slice(from);
            crate::note_copied(len);
            let digest = place.digest.map_or(0, |seed| crc32c::crc32c_append(seed, from));
            machine.handle_placed(now, conn, place.to.len, digest);
            at += len;
        } else if taken.used == 0 || machine.is_blocked(conn) {
            break;
        }
    }
    at
}
