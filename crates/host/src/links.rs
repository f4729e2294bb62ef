//! The connections of control or of a lane, as the machine's actions and the reactor's events want them.
//!
//! Control and lane ask for connections in the same words ([`ConnAction`]) and hear of them in the same words
//! ([`ConnEvent`]). This is the one place that turns those words into socket calls. It decides nothing.

use crate::store::SocketPair;
use interlock_base::Instant;
use interlock_carry::{Io, Machine, Wires};
use interlock_host_core::{ConnAction, ConnEvent, ConnId, ConnectionEnd, Dial, DownReason, LaneId, LifeId};
use interlock_ring::{Aborter, BufTable, ConnectOptions, Cx, Event, Sock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the send queue of a draining socket is looked at: the kernel does not tell when it is empty.
const DRAIN_LOOK: Duration = Duration::from_millis(2);

/// An orderly close waits so long for the kernel to take what is left, then the socket is aborted.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A connection that the kernel did not let go of is aborted again after so long.
const ABORT_AGAIN: Duration = Duration::from_secs(1);

/// A machine that speaks of its connections in the host's words.
pub(crate) trait HostMachine: Machine<Conn = ConnId> {
    fn handle_conn(&mut self, now: Instant, conn: ConnId, event: ConnEvent);

    /// The life for which it was opened; `None`: for none, or it is forgotten.
    fn life_of(&self, _conn: ConnId) -> Option<LifeId> {
        None
    }
}

/// The connections of a host, over all its reactors: what a successor must see gone, and what can be ended when the
/// reactor of a lane hangs. Touched only when one begins or ends.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<BTreeMap<(Owner, ConnId), Socket>>>);

/// The lane that a connection belongs to; control has none.
type Owner = Option<LaneId>;

struct Socket {
    life: Option<LifeId>,
    aborter: Aborter,
    /// Its ends, once it is connected.
    pair: Option<SocketPair>,
    /// Its reactor has begun to abort it, and knows alone how that went: the aborter finds nothing any more.
    ending: bool,
}

impl Sockets {
    /// Those of a life, whatever address the kernel says that they lead to: it need not be the one that was dialled.
    pub(crate) fn of(&self, life: LifeId) -> Vec<SocketPair> {
        self.lock().values().filter(|socket| socket.life == Some(life)).filter_map(|socket| socket.pair).collect()
    }

    /// Aborts every connection that a lane has opened for a life, from whatever thread. True if nothing of what was
    /// queued in them can be sent any more, and nothing added: the kernel has said so of each.
    pub(crate) fn cut(&self, lane: LaneId, life: LifeId) -> bool {
        let sockets = self.lock();
        let mine = sockets.iter().filter(|((owner, _), socket)| *owner == Some(lane) && socket.life == Some(life));
        // All of them, also if the first refuses.
        mine.map(|(_, socket)| socket.aborter.abort().is_ok() && !socket.ending).fold(true, |all, one| all & one)
    }

    /// From now on its reactor alone says when it is gone, with [`Sockets::gone`].
    fn ending(&self, owner: Owner, conn: ConnId) {
        if let Some(socket) = self.lock().get_mut(&(owner, conn)) {
            socket.ending = true;
        }
    }

    fn gone(&self, owner: Owner, conn: ConnId) {
        self.lock().remove(&(owner, conn));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Owner, ConnId), Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Links {
    wires: Wires<ConnId>,
    owner: Owner,
    sockets: Sockets,
    opening: BTreeMap<Sock, ConnId>,
    draining: BTreeSet<ConnId>,
    closing: BTreeMap<ConnId, Instant>,
    refused: BTreeMap<ConnId, Refused>,
    to_flush: BTreeSet<ConnId>,
    next_look: Option<Instant>,
}

/// A connection that was to end and of which the kernel did not say that it has: it may still deliver what it holds.
struct Refused {
    sock: Sock,
    again: Instant,
    /// What the machine hears once it is gone.
    then: ConnEvent,
}

impl Links {
    /// With the list in which others find its connections, under the name of their owner.
    pub(crate) fn new(owner: Owner, sockets: Sockets) -> Self {
        Self { owner, sockets, ..Self::default() }
    }

    /// Does what the machine wants.
    pub(crate) fn act(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine, action: ConnAction) {
        match action {
            ConnAction::Open(conn, dial) => self.open(cx, machine, conn, &dial),
            ConnAction::Send(conn) => {
                self.to_flush.insert(conn);
            }
            ConnAction::StopSending(conn) => {
                self.to_flush.remove(&conn);
                self.wires.stop_sending(cx, conn);
            }
            ConnAction::WatchDrain(conn) => {
                self.draining.insert(conn);
                self.look(cx, machine);
            }
            ConnAction::Abort(conn) => {
                // While the kernel refuses to empty the send queue, the machine is not told that it is empty: a hold does
                // not begin, and only a reset of the controller can fence.
                self.end(cx, machine, conn, ConnEvent::Aborted);
            }
            ConnAction::Close(conn) => {
                self.closing.insert(conn, cx.now() + CLOSE_WITHIN);
                self.to_flush.insert(conn);
            }
        }
    }

    /// Tells the machine what happened to its sockets.
    pub(crate) fn handle(
        &mut self,
        cx: &mut Cx<'_>,
        machine: &mut impl HostMachine,
        memory: &mut BufTable,
        event: Event,
    ) {
        match event {
            Event::Connected { sock } => {
                if let Some(conn) = self.opening.remove(&sock) {
                    self.wires.insert(conn, sock);
                    match (cx.local_addr(sock), cx.peer_addr(sock), cx.inode(sock)) {
                        (Ok(local), Ok(peer), Ok(inode)) => {
                            if let Some(socket) = self.sockets.lock().get_mut(&(self.owner, conn)) {
                                socket.pair = Some(SocketPair { local, peer, inode });
                            }
                        }
                        // Gone again: without its ends it could not be recorded.
                        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                            return self.ended(cx, machine, conn, Io::Ended(Some(error)));
                        }
                    }
                    machine.handle_conn(cx.now(), conn, ConnEvent::Up);
                    self.to_flush.insert(conn);
                }
            }
            Event::ConnectFailed { sock, error } => {
                if let Some(conn) = self.opening.remove(&sock) {
                    self.sockets.gone(self.owner, conn);
                    let why = DownReason::Unreachable(words(&error));
                    machine.handle_conn(cx.now(), conn, ConnEvent::Down(why));
                }
            }
            Event::Readable { sock } => {
                if let Some(conn) = self.wires.conn(sock) {
                    let outcome = self.wires.readable(cx, machine, memory, conn);
                    self.ended(cx, machine, conn, outcome);
                }
            }
            Event::Writable { sock } => self.to_flush.extend(self.wires.conn(sock)),
            Event::Hangup { sock, error } => {
                if let Some(conn) = self.wires.conn(sock) {
                    self.ended(cx, machine, conn, Io::Ended(error));
                }
            }
            _ => {}
        }
    }

    /// Sends what is ready, and looks after sockets that are about to end. Call once per turn, after the machine's
    /// outputs were drained; more outputs may follow.
    pub(crate) fn turn(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine, memory: &BufTable) {
        while let Some(conn) = self.to_flush.pop_first() {
            let outcome = self.wires.flush(cx, machine, memory, conn);
            self.ended(cx, machine, conn, outcome);
        }
        let now = cx.now();
        let over: Vec<(ConnId, bool)> = self
            .closing
            .iter()
            .map(|(conn, until)| (*conn, self.wires.is_flushed(*conn), *until))
            .filter(|(_, flushed, until)| *flushed || *until <= now)
            .map(|(conn, flushed, _)| (conn, flushed))
            .collect();
        for (conn, flushed) in over {
            self.closing.remove(&conn);
            if flushed && let Some(sock) = self.wires.remove(conn) {
                cx.close(sock);
            }
            self.let_go(cx, conn, ConnEvent::Aborted);
        }
        let again: Vec<ConnId> =
            self.refused.iter().filter(|(_, one)| one.again <= now).map(|(conn, _)| *conn).collect();
        for conn in again {
            if let Some(Refused { then, .. }) = self.refused.get(&conn) {
                let then = then.clone();
                self.end(cx, machine, conn, then);
            }
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.look(cx, machine);
        }
    }

    /// When [`Links::turn`] wants to be called again at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let again = self.refused.values().map(|one| one.again);
        self.closing.values().copied().chain(again).chain(self.next_look).min()
    }

    /// Ends every socket at once: the host is gone.
    pub(crate) fn abort_all(&mut self, cx: &mut Cx<'_>) {
        let conns: Vec<ConnId> = self.wires.conns().chain(self.opening.values().copied()).collect();
        for conn in conns {
            self.let_go(cx, conn, ConnEvent::Aborted);
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine, conn: ConnId, dial: &Dial) {
        let options = ConnectOptions {
            addr: dial.addr,
            local: dial.local,
            iface: dial.iface.clone(),
            user_timeout: Some(dial.user_timeout),
        };
        match cx.connect(&options) {
            Ok(sock) => {
                self.opening.insert(sock, conn);
                if let Ok(aborter) = cx.aborter(sock) {
                    let socket = Socket { life: machine.life_of(conn), aborter, pair: None, ending: false };
                    self.sockets.lock().insert((self.owner, conn), socket);
                }
            }
            Err(error) => {
                let why = DownReason::Unreachable(words(&error));
                machine.handle_conn(cx.now(), conn, ConnEvent::Down(why));
            }
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine, conn: ConnId, outcome: Io) {
        let Io::Ended(error) = outcome else { return };
        let how = connection_end(error.as_ref());
        self.end(cx, machine, conn, ConnEvent::Down(DownReason::Lost(how)));
    }

    /// Ends the socket, in whatever state, and tells the machine `then`: now, or once the kernel has let go of it.
    fn end(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine, conn: ConnId, then: ConnEvent) {
        if self.let_go(cx, conn, then.clone()) {
            machine.handle_conn(cx.now(), conn, then);
        }
    }

    /// The socket, in whatever state, exists no more; true if nothing it held is delivered any more. Else it is asked for
    /// again.
    fn let_go(&mut self, cx: &mut Cx<'_>, conn: ConnId, then: ConnEvent) -> bool {
        self.to_flush.remove(&conn);
        self.draining.remove(&conn);
        self.closing.remove(&conn);
        let opening = self.opening.iter().find(|(_, opening)| **opening == conn).map(|(sock, _)| *sock);
        if let Some(sock) = opening {
            self.opening.remove(&sock);
        }
        let refused = self.refused.remove(&conn).map(|one| one.sock);
        if let Some(sock) = self.wires.remove(conn).or(opening).or(refused) {
            self.sockets.ending(self.owner, conn);
            if cx.abort(sock).is_err() {
                self.refused.insert(conn, Refused { sock, again: cx.now() + ABORT_AGAIN, then });
                return false;
            }
        }
        // Not before: until then somebody else may have to do it.
        self.sockets.gone(self.owner, conn);
        true
    }

    /// True if nothing waits in the socket to be delivered.
    fn is_empty(&self, cx: &mut Cx<'_>, conn: ConnId) -> bool {
        !self.refused.contains_key(&conn)
            && self.wires.sock(conn).is_none_or(|sock| cx.outq(sock).is_ok_and(|bytes| bytes == 0))
    }

    fn look(&mut self, cx: &mut Cx<'_>, machine: &mut impl HostMachine) {
        let empty: Vec<ConnId> = self.draining.iter().copied().filter(|conn| self.is_empty(cx, *conn)).collect();
        for conn in empty {
            self.draining.remove(&conn);
            machine.handle_conn(cx.now(), conn, ConnEvent::SendQueueEmpty);
        }
        self.next_look = if self.draining.is_empty() { None } else { Some(cx.now() + DRAIN_LOOK) };
    }
}

/// How a connection that was up ended, by the error of its socket; `None` if there was none.
fn connection_end(error: Option<&io::Error>) -> ConnectionEnd {
    match error {
        None => ConnectionEnd::Closed,
        Some(error) if error.kind() == io::ErrorKind::ConnectionReset => ConnectionEnd::Reset,
        Some(error) => ConnectionEnd::Failed(words(error)),
    }
}

/// The kernel's words without its number: `connection refused`, not `Connection refused (os error 111)`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod refusals;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_for_people() {
        assert_eq!(words(&io::Error::from_raw_os_error(libc_refused())), "connection refused");
    }

    #[test]
    fn the_end_of_a_connection_is_known_by_its_error_and_not_by_its_words() {
        assert_eq!(connection_end(None), ConnectionEnd::Closed);
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "in the words of another language");
        assert_eq!(connection_end(Some(&reset)), ConnectionEnd::Reset);
        let misleading = io::Error::new(io::ErrorKind::TimedOut, "closed or reset, who knows");
        assert_eq!(connection_end(Some(&misleading)), ConnectionEnd::Failed("closed or reset, who knows".into()));
    }

    fn libc_refused() -> i32 {
        // ECONNREFUSED on Linux.
        111
    }
}
