//! Carries for one lane of the target on one reactor: sockets, buffers, namespaces.

use crate::clock;
use crate::control::ControlMail;
use crate::panic::Ending;
use crate::store::{Backing, Store};
use crate::turns::{Backlog, Piece, Turns};
use interlock_base::{Instant, Span};
use interlock_carry::{Io, Machine, Mailbox, Read, Wires};
use interlock_proto::{SendList, Taken};
use interlock_ring::{BufPool, BufTable, Cx, Event, Listener, Service, Sock};
use interlock_target_core::status::{ConnView, PayerView};
use interlock_target_core::{
    ConnId, Event as TargetEvent, Lane, LaneId, LaneOutput, MediaId, MediaResult, Namespace, NamespaceKey, Payer,
    PortId, ToLane,
};
use rustix::io::ioctl_fionread;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Bytes of free buffers that a lane keeps for reuse at most, and which part of what peers may make it hold.
const CACHED_MAX: u64 = 64 << 20;
const CACHED_PART: u64 = 8;

/// At least so often the sockets of a lane are looked at. The smallest Keep Alive Timeout is a second, and a host that keeps
/// alive speaks twice in it.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Connections that are read in one turn as they come; with more of them, and more than one payer, payers take turns.
const AS_THEY_COME: u32 = 4;

/// A turn that takes longer is a long one: for so many turns after it, payers take turns at once.
const LONG: Duration = Duration::from_millis(2);
const WARY: u8 = u8::MAX;

/// How long pieces of work are done in one turn of the reactor before it looks for news.
const TURN: Duration = Duration::from_millis(1);

/// Bytes that the kernel is given in one piece of work.
const SEND_PIECE: usize = 256 << 10;

/// What other threads tell a lane.
pub(crate) enum LaneMail {
    /// From control, in order.
    Control(ToLane),
    /// Listen for a port; the address that was bound goes back.
    Listen { port: PortId, addr: SocketAddr, bound: Sender<io::Result<SocketAddr>> },
    /// Listen again, where the port listened before; tell the outcome also to whoever asked.
    Open { port: PortId, addr: SocketAddr, bound: Option<Sender<io::Result<SocketAddr>>> },
    /// Stop listening.
    Close(PortId),
    /// Use this for the blocks of a namespace.
    Attach { key: NamespaceKey, namespace: Namespace, backing: Backing, attached: Sender<io::Result<()>> },
    /// The namespace is gone: let go of what holds its blocks as soon as nothing is under way on it.
    Detach { key: NamespaceKey, detached: Sender<()> },
    /// Say what it looks like.
    Status(Sender<LaneStatus>),
    /// End: another part of the target has panicked.
    End,
    #[cfg(test)]
    Panic,
}

/// What a lane looks like.
pub(crate) struct LaneStatus {
    /// The ports that it listens on.
    pub(crate) open: Vec<PortId>,
    /// Its connections, with the address of the peer.
    pub(crate) connections: Vec<(ConnView, Option<SocketAddr>)>,
    /// Bytes in buffers that commands hold.
    pub(crate) buffered: u64,
    /// Bytes that peers hold in all.
    pub(crate) held: u64,
    /// Connections that were refused, or ended to make room.
    pub(crate) refused: u64,
    /// Who holds something.
    pub(crate) payers: Vec<PayerView>,
    /// Bytes in free buffers that are kept for reuse.
    pub(crate) cached: u64,
    /// Commands that stall inside, and media operations under way.
    pub(crate) inside: usize,
    /// Commands that were refused by the clock.
    pub(crate) too_late: u64,
}

/// What holds the blocks of a namespace on this lane. NSIDs come back, these numbers do not: an operation that is under
/// way ends where it began, also if another namespace has the NSID by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StoreId(u64);

/// The lane, on the target's own clock.
struct LaneMachine {
    lane: Lane,
    /// Connections whose peer broke the protocol: they are told how, then closed.
    condemned: Vec<ConnId>,
}

impl Machine for LaneMachine {
    type Conn = ConnId;

    fn handle_bytes(&mut self, _: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        self.lane.handle_bytes(clock::now(), conn, bytes).unwrap_or_else(|_| {
            self.condemned.push(conn);
            Taken { used: bytes.len(), place: None }
        })
    }

    fn handle_placed(&mut self, _: Instant, conn: ConnId, len: u32, digest: u32) {
        self.lane.handle_placed(clock::now(), conn, len, digest);
    }

    fn direct(&self, conn: ConnId, min: u32) -> Option<(Span, Option<u32>)> {
        self.lane.direct(conn, min).map(|span| (span, self.lane.direct_digest(conn)))
    }

    fn handle_given(&mut self, _: Instant, conn: ConnId, bytes: u64) {
        self.lane.handle_given(clock::now(), conn, bytes);
    }

    fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        self.lane.poll_send(conn, list);
    }

    fn is_blocked(&self, conn: ConnId) -> bool {
        self.lane.is_blocked(conn)
    }

    fn handle_kept(&mut self, conn: ConnId, bytes: usize) {
        self.lane.handle_kept(conn, bytes);
    }
}

/// The service of one lane.
pub(crate) struct LaneService {
    id: LaneId,
    machine: LaneMachine,
    wires: Wires<ConnId>,
    memory: BufTable,
    pool: BufPool,
    stores: BTreeMap<StoreId, Store>,
    /// Which of them serve; the others wait for their last operation.
    serving: BTreeMap<NamespaceKey, StoreId>,
    next_store: u64,
    /// Where a media operation in the kernel belongs to.
    media: BTreeMap<MediaId, StoreId>,
    listeners: BTreeMap<PortId, Listener>,
    /// Ports whose connections cannot be taken at present.
    starved: BTreeSet<PortId>,
    to_flush: BTreeSet<ConnId>,
    /// Who waits for a piece of time, while there is too little for all.
    turns: Turns,
    /// Connections that were read as they came in this turn.
    came: u32,
    /// There is more to do than time: payers take turns.
    crowded: bool,
    /// Turns since the last long one are fewer by this than [`WARY`].
    wary: u8,
    /// What is read in this piece came in after this moment.
    dated: Option<Instant>,
    muted: BTreeSet<ConnId>,
    next_conn: u32,
    mailbox: Mailbox<LaneMail>,
    control: Mailbox<ControlMail>,
    ending: Arc<Ending>,
    /// When the sockets were looked at before this turn.
    looked: Instant,
    /// When this turn began, within one.
    turn_began: Option<Instant>,
    /// When the reactor calls.
    armed: Option<Instant>,
}

impl LaneService {
    pub(crate) fn new(
        cx: &Cx<'_>,
        lane: Lane,
        mailbox: Mailbox<LaneMail>,
        control: Mailbox<ControlMail>,
        ending: Arc<Ending>,
    ) -> Self {
        mailbox.set_reader(cx.waker());
        let cached = (lane.limits().memory / CACHED_PART).min(CACHED_MAX);
        Self {
            id: lane.id(),
            machine: LaneMachine { lane, condemned: Vec::new() },
            wires: Wires::default(),
            memory: BufTable::default(),
            pool: BufPool::new(cached as usize),
            stores: BTreeMap::new(),
            serving: BTreeMap::new(),
            next_store: 0,
            media: BTreeMap::new(),
            listeners: BTreeMap::new(),
            starved: BTreeSet::new(),
            to_flush: BTreeSet::new(),
            turns: Turns::default(),
            came: 0,
            crowded: false,
            wary: 0,
            dated: None,
            muted: BTreeSet::new(),
            next_conn: 1,
            mailbox,
            control,
            ending,
            looked: clock::now(),
            turn_began: None,
            armed: None,
        }
    }

    fn mail(&mut self, cx: &mut Cx<'_>, mail: LaneMail) {
        match mail {
            LaneMail::Control(message) => self.machine.lane.handle_control(clock::now(), message),
            LaneMail::Listen { port, addr, bound } => {
                let outcome = cx.listen(addr).map(|(listener, addr)| {
                    self.listeners.insert(port, listener);
                    addr
                });
                // Whoever asked may have given up.
                let _ = bound.send(outcome);
            }
            LaneMail::Open { port, addr, bound } => {
                let outcome = self.open(cx, port, addr);
                if let Some(bound) = bound {
                    // Whoever asked may have given up.
                    let _ = bound.send(outcome);
                }
            }
            LaneMail::Close(port) => {
                self.starved.remove(&port);
                if let Some(listener) = self.listeners.remove(&port) {
                    cx.close_listener(listener);
                }
            }
            LaneMail::Attach { key, namespace, backing, attached } => {
                let outcome = backing.attach(cx, &namespace).map(|store| {
                    let id = StoreId(self.next_store);
                    self.next_store += 1;
                    self.stores.insert(id, store);
                    if let Some(old) = self.serving.insert(key, id) {
                        self.retire(cx, old);
                    }
                });
                // Whoever asked may have given up.
                let _ = attached.send(outcome);
            }
            LaneMail::Detach { key, detached } => {
                if let Some(store) = self.serving.remove(&key) {
                    self.retire(cx, store);
                }
                // Whoever asked may have given up.
                let _ = detached.send(());
            }
            LaneMail::Status(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(self.status(cx));
            }
            LaneMail::End => cx.detach(),
            #[cfg(test)]
            LaneMail::Panic => panic!("as asked by the test"),
        }
    }

    fn open(&mut self, cx: &mut Cx<'_>, port: PortId, addr: SocketAddr) -> io::Result<SocketAddr> {
        if self.listeners.contains_key(&port) {
            return Ok(addr);
        }
        let outcome = cx.listen(addr);
        let event = match &outcome {
            Ok(_) => TargetEvent::PortOpened { port },
            Err(error) => TargetEvent::PortFailed { port, why: error.to_string().into() },
        };
        self.control.send(ControlMail::Event(cx.now(), event));
        let (listener, addr) = outcome?;
        self.listeners.insert(port, listener);
        // A script may have muted the port while it was closed.
        let _ = cx.pause_accept(listener, self.machine.lane.is_port_muted(port));
        Ok(addr)
    }

    /// A store serves no more. It goes when its last operation is over: its life is waited for until then.
    fn retire(&mut self, cx: &mut Cx<'_>, id: StoreId) {
        let serving = |id| self.serving.values().any(|store| *store == id);
        let busy = |id| self.media.values().any(|store| *store == id);
        // In this order: there are few that serve, and the answer is nearly always that it does.
        if !serving(id)
            && !busy(id)
            && let Some(store) = self.stores.remove(&id)
        {
            store.close(cx);
        }
    }

    fn status(&self, cx: &mut Cx<'_>) -> LaneStatus {
        let peer = |cx: &mut Cx<'_>, conn| self.wires.sock(conn).and_then(|sock| cx.peer_addr(sock).ok());
        LaneStatus {
            open: self.listeners.keys().copied().collect(),
            connections: self.machine.lane.conn_views().map(|view| (view, peer(cx, view.conn))).collect(),
            buffered: self.machine.lane.buffered(),
            held: self.machine.lane.held(),
            refused: self.machine.lane.refused(),
            payers: self.machine.lane.payer_views().collect(),
            cached: self.pool.cached() as u64,
            inside: self.machine.lane.inside(),
            too_late: self.machine.lane.too_late(),
        }
    }

    /// Connections of a listener cannot be taken: the reactor tries again by itself.
    fn starves(&mut self, cx: &Cx<'_>, listener: Listener, error: &io::Error) {
        let port = self.listeners.iter().find(|(_, known)| **known == listener).map(|(port, _)| *port);
        if let Some(port) = port.filter(|port| self.starved.insert(*port)) {
            let event = TargetEvent::AcceptFailed { port, why: error.to_string().into() };
            self.control.send(ControlMail::Event(cx.now(), event));
        }
    }

    fn accepted(&mut self, cx: &mut Cx<'_>, listener: Listener, sock: Sock, peer: IpAddr, local: SocketAddr) {
        let Some(port) = self.listeners.iter().find(|(_, known)| **known == listener).map(|(port, _)| *port) else {
            // The port was closed in the same turn; a socket that cannot be aborted has nothing to send either.
            let _ = cx.abort(sock);
            return;
        };
        if self.starved.remove(&port) {
            self.control.send(ControlMail::Event(cx.now(), TargetEvent::AcceptResumed { port }));
        }
        let conn = self.free_conn();
        self.wires.insert(conn, sock);
        self.turns.enter(conn, Payer::at(peer));
        self.machine.lane.handle_accepted(clock::now(), conn, port, local, Payer::at(peer));
        self.mute_as_scripted(cx, conn);
    }

    /// A number that no connection has. Whoever connects often enough makes them come round, and some connections stay.
    fn free_conn(&mut self) -> ConnId {
        loop {
            let conn = ConnId(self.next_conn);
            self.next_conn = self.next_conn.wrapping_add(1);
            if self.wires.sock(conn).is_none() {
                return conn;
            }
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, output: LaneOutput) {
        match output {
            LaneOutput::ToControl(message) => self.control.send(ControlMail::Lane(self.id, message)),
            LaneOutput::Event(event) => self.control.send(ControlMail::Event(cx.now(), event)),
            LaneOutput::NeedBuffer { conn, slot, len } => {
                let buf = self.memory.insert(self.pool.take(len as usize));
                self.machine.lane.handle_buffer(clock::now(), conn, slot, Span { buf, offset: 0, len });
            }
            LaneOutput::FreeBuffer(buf) => {
                // Back to the pool with its last holder.
                let _ = self.memory.remove(buf);
            }
            LaneOutput::Media(op) => {
                let serving = self.serving.get(&op.namespace).copied();
                let result = match serving.and_then(|id| self.stores.get_mut(&id).map(|store| (id, store))) {
                    Some((id, store)) => store.start(cx, &mut self.memory, op.id, op.kind, op.until).ok_or(id),
                    None => Ok(MediaResult::Gone),
                };
                match result {
                    Ok(result) => self.machine.lane.handle_media_done(clock::now(), op.id, result),
                    Err(store) => {
                        self.media.insert(op.id, store);
                    }
                }
            }
            LaneOutput::Close { conn } => {
                // What was polled before belongs to the answers that the peer is owed.
                let _ = self.wires.flush(cx, &mut self.machine, &self.memory, conn);
                if let Some(sock) = self.forget(conn) {
                    cx.close(sock);
                }
            }
            LaneOutput::Abort { conn } => {
                if let Some(sock) = self.forget(conn) {
                    // The peer is gone or condemned; what the kernel still holds is answers, which change nothing.
                    let _ = cx.abort(sock);
                }
            }
            LaneOutput::Park { conn } => {
                self.wires.stop_sending(cx, conn);
                self.wires.mute(cx, conn, true);
                self.muted.insert(conn);
            }
            LaneOutput::SendReady { conn } => self.writable(conn),
            LaneOutput::ReadReady { conn } => self.readable(cx, conn),
        }
    }

    /// Whether payers take turns: there is more to do than time, or there was a while ago.
    fn take_turns(&mut self) -> bool {
        self.crowded |= self.wary > 0 && self.turns.payers() > 1;
        self.crowded
    }

    /// Bytes may be there.
    fn readable(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if self.take_turns() {
            self.turns.wants_read(conn, Backlog::since(self.dated.unwrap_or(self.looked)));
        } else {
            self.read(cx, conn);
        }
    }

    /// Something may be sent.
    fn writable(&mut self, conn: ConnId) {
        if self.take_turns() {
            self.turns.wants_write(conn);
        } else {
            self.to_flush.insert(conn);
        }
    }

    /// The connection has ended, and waits for its turn to be read: reads once what came before the end, as without a crowd.
    fn read_to_its_end(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        if let Some(backlog) = self.turns.take_read(conn) {
            self.date(Some(backlog.from()));
            self.read(cx, conn);
            self.date(None);
        }
    }

    /// Sees whether what was done as it came took long. Where only one payer has connections nobody else waits for it.
    fn look_back(&mut self) {
        let took = self.turn_began.map_or(Duration::ZERO, |began| clock::now().since(began));
        self.wary = if took > LONG { WARY } else { self.wary.saturating_sub(1) };
    }

    /// Does pieces of work for those who wait, for the time of a turn.
    #[cold]
    fn serve(&mut self, cx: &mut Cx<'_>) {
        let begun = clock::now();
        let mut now = begun;
        while now.since(begun) < TURN {
            let Some(piece) = self.turns.next() else { break };
            self.piece(cx, &piece);
            let end = clock::now();
            self.turns.charge(&piece, end.since(now));
            now = end;
        }
        self.crowded = !self.turns.is_empty();
    }

    /// Reads and sends a piece of a connection, and does what follows from it.
    fn piece(&mut self, cx: &mut Cx<'_>, piece: &Piece) {
        let conn = piece.conn;
        if let Some(backlog) = piece.wants.read {
            self.read_piece(cx, conn, backlog, piece.read);
            self.settle(cx);
        }
        if piece.wants.write {
            let (outcome, more) = self.wires.flush_some(cx, &mut self.machine, &self.memory, conn, SEND_PIECE);
            if more {
                self.turns.wants_write(conn);
            }
            self.ended(cx, conn, outcome);
            self.settle(cx);
        }
    }

    fn read_piece(&mut self, cx: &mut Cx<'_>, conn: ConnId, mut backlog: Backlog, most: usize) {
        self.date(Some(backlog.from()));
        match self.wires.read(cx, &mut self.machine, &mut self.memory, conn, most) {
            Read::All => {}
            Read::More(bytes) => {
                if backlog.read(bytes as u64) {
                    backlog.look(clock::now(), self.unread(cx, conn));
                }
                self.turns.wants_read(conn, backlog);
            }
            Read::Ended(error) => self.ended(cx, conn, Io::Ended(error)),
        }
        while let Some(output) = self.machine.lane.poll_output() {
            self.output(cx, output);
        }
        self.date(None);
    }

    /// What is read until the next call came in after this moment, or else after the sockets were looked at before this turn.
    fn date(&mut self, from: Option<Instant>) {
        self.dated = from;
        self.machine.lane.handle_looked(from.unwrap_or(self.looked));
    }

    /// Bytes of a connection that lie in the kernel.
    fn unread(&self, cx: &mut Cx<'_>, conn: ConnId) -> u64 {
        let bytes = self.wires.sock(conn).and_then(|sock| cx.with_fd(sock, |fd| ioctl_fionread(fd)).ok());
        // Where nobody can say, all that follows is taken to be old.
        bytes.and_then(Result::ok).unwrap_or(u64::MAX)
    }

    fn read(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let outcome = self.wires.readable(cx, &mut self.machine, &mut self.memory, conn);
        self.ended(cx, conn, outcome);
    }

    fn ended(&mut self, cx: &mut Cx<'_>, conn: ConnId, outcome: Io) {
        if let Io::Ended(error) = outcome {
            if let Some(sock) = self.forget(conn) {
                // Nothing of ours needs to reach a peer that has left.
                let _ = cx.abort(sock);
            }
            match error {
                None => self.machine.lane.handle_finished(conn),
                Some(_) => self.machine.lane.handle_closed(conn),
            }
        }
    }

    fn forget(&mut self, conn: ConnId) -> Option<Sock> {
        self.to_flush.remove(&conn);
        self.turns.leave(conn);
        self.muted.remove(&conn);
        self.wires.remove(conn)
    }

    /// Carries out everything the lane wants, until it wants nothing.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        loop {
            while let Some(output) = self.machine.lane.poll_output() {
                self.output(cx, output);
            }
            if let Some(conn) = self.machine.condemned.pop() {
                let _ = self.wires.flush(cx, &mut self.machine, &self.memory, conn);
                if let Some(sock) = self.forget(conn) {
                    cx.close(sock);
                }
                self.machine.lane.handle_closed(conn);
            } else if let Some(conn) = self.to_flush.pop_first() {
                let outcome = self.wires.flush(cx, &mut self.machine, &self.memory, conn);
                self.ended(cx, conn, outcome);
            } else {
                let Some(output) = self.machine.lane.poll_output() else { break };
                self.output(cx, output);
            }
        }
    }

    /// Has itself called at the next deadline of the lane, and soon enough to look at the sockets: what a host sends is taken
    /// to have come in after the look before. A call that comes too early costs less than setting the deadline in each turn.
    fn arm(&mut self, cx: &mut Cx<'_>) {
        let look = (self.machine.lane.connections() > 0).then(|| self.turn_began.unwrap_or(self.looked) + LOOK_AGAIN);
        let look = if self.crowded { self.turn_began } else { look };
        let next = self.machine.lane.next_deadline().map(|deadline| deadline.at).into_iter().chain(look).min();
        if self.armed.is_none_or(|armed| next.is_some_and(|next| next < armed)) {
            self.armed = next;
            cx.set_deadline(next.map(|at| cx.now() + at.since(clock::now())));
        }
    }

    /// A script may have silenced or restored ports.
    fn mute_all_as_scripted(&mut self, cx: &mut Cx<'_>) {
        let conns: Vec<ConnId> = self.wires.conns().collect();
        for conn in conns {
            self.mute_as_scripted(cx, conn);
        }
        for (port, listener) in &self.listeners {
            // A listener that is gone needs no pause.
            let _ = cx.pause_accept(*listener, self.machine.lane.is_port_muted(*port));
        }
    }

    fn mute_as_scripted(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let muted = self.machine.lane.is_muted(conn);
        if muted == self.muted.contains(&conn) {
            return;
        }
        self.wires.mute(cx, conn, muted);
        if muted {
            self.muted.insert(conn);
        } else {
            self.muted.remove(&conn);
            self.to_flush.insert(conn);
        }
    }
}

impl Service for LaneService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        if self.turn_began.is_none() {
            self.turn_began = Some(clock::now());
            self.machine.lane.handle_looked(self.looked);
        }
        match event {
            Event::Attached | Event::Mail => {
                let mut scripted = false;
                for mail in self.mailbox.take() {
                    scripted |= matches!(mail, LaneMail::Control(ToLane::Fault(_)));
                    self.mail(cx, mail);
                }
                if scripted {
                    self.mute_all_as_scripted(cx);
                }
            }
            Event::Deadline => {
                self.armed = None;
                self.machine.lane.handle_timeout(clock::now());
            }
            Event::Accepted { listener, sock, peer, local } => self.accepted(cx, listener, sock, peer.ip(), local),
            Event::Readable { sock } => {
                if let Some(conn) = self.wires.conn(sock) {
                    self.came += 1;
                    self.crowded |= self.came > AS_THEY_COME && self.turns.payers() > 1;
                    self.readable(cx, conn);
                }
            }
            Event::Writable { sock } => {
                if let Some(conn) = self.wires.conn(sock) {
                    self.writable(conn);
                }
            }
            Event::Hangup { sock, error } => {
                // A mute port does not even notice that its peer has left.
                if let Some(conn) = self.wires.conn(sock).filter(|conn| !self.muted.contains(conn)) {
                    // Whatever the kernel says of it, an orderly end is one that is read.
                    let error = error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into());
                    self.read_to_its_end(cx, conn);
                    self.ended(cx, conn, Io::Ended(Some(error)));
                }
            }
            Event::Op { token, result, buf } => {
                let Some(store_id) = self.media.get(&MediaId(token)).copied() else { return };
                if let Some(store) = self.stores.get_mut(&store_id)
                    && let Some((id, result)) = store.handle_op(cx, &mut self.memory, Event::Op { token, result, buf })
                {
                    self.media.remove(&id);
                    self.machine.lane.handle_media_done(clock::now(), id, result);
                    self.retire(cx, store_id);
                }
            }
            Event::AcceptFailed { listener, error } => self.starves(cx, listener, &error),
            Event::Connected { .. } | Event::ConnectFailed { .. } | Event::AcceptedLocal { .. } | Event::Detach => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        self.settle(cx);
        self.came = 0;
        if self.turns.payers() > 1 {
            self.look_back();
        }
        if self.crowded {
            self.serve(cx);
        }
        self.arm(cx);
        self.looked = self.turn_began.take().unwrap_or(self.looked);
    }

    fn panicked(&mut self, message: &str) {
        self.ending.begin(&format!("lane {}", self.id.0), message);
    }
}

/// However it ends, whoever asks afterwards hears at once that nobody answers.
impl Drop for LaneService {
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}
