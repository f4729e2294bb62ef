//! The queue pairs of one reactor, and the gate in front of the media.
//!
//! A lane moves I/O commands between its connections and the namespaces without asking anybody; everything that
//! *decides* - who may connect, what a controller is, when a life is over - is `Control`'s, and the lane only obeys it.
//!
//! # How a driver runs a lane
//! 1. `handle_accepted` for each connection. Received bytes go to `handle_bytes`, exactly as for
//!    [`interlock_proto::target::Queue`]; on its error send what `poll_send` still yields, close, `handle_closed`.
//! 2. After every `handle_*` call: drain `poll_output`, then arm a timer for `next_deadline`.
//! 3. Every `NeedBuffer` and every `Media` is answered exactly once, also after the connection is gone: buffers come
//!    back with `FreeBuffer`, and a life stays known until its last media operation is over.
//! 4. Before reading, writing or accepting: `is_muted`, `is_port_muted`.

mod commands;
mod conn;
mod crowd;
mod gate;
mod holding;
mod nvm;
mod room;
mod unread;

use crate::config::{CONNECTION_BYTES, Limits};
use crate::message::{Role, ToControl, ToLane};
use crate::namespace::Namespaces;
use crate::quota::{AccountId, Ledger, Turns};
use crate::status::{ConnView, PayerView};
use crate::{
    ConnId, Event, Fault, LaneId, LifeId, Loss, MediaId, MediaKind, NamespaceKey, Payer, PortId, Report, SubsystemId,
};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use conn::{Conn, Held, Slot, Stage, Want};
use core::net::SocketAddr;
use core::time::Duration;
use gate::{Inside, Job, LaneLife, MEDIA_MAX, Permit, Stalled, Tombstone};
use interlock_base::{BufId, Deadline, Instant, Slab, Span, Timers};
use interlock_proto::target::{Event as QueueEvent, Queue, QueueConfig};
use interlock_proto::{Padded, SendList, Source, Taken};
use interlock_wire::pdu::Fatal;
use interlock_wire::status::Status;

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// When to give up on a connection that has not completed its Connect.
    Handshake(ConnId),
    /// When to see whether the peer of a connection still sends and takes data.
    Transfer(ConnId),
    /// When to let a command go on that a script delays; the number counts stalled commands.
    Delay(u64),
}

/// An operation on a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaOp {
    /// Names it in the answer.
    pub id: MediaId,
    /// Whose it is: a checker holds it against the fences it was told of.
    pub life: LifeId,
    /// Which namespace.
    pub namespace: NamespaceKey,
    /// What to do.
    pub kind: MediaKind,
    /// From this moment on no part of it may begin; what has not begun by then ends with [`TooLate`](crate::MediaResult::TooLate). A
    /// driver that hands it to others looks at the clock when it is begun.
    pub until: Option<Instant>,
}

/// What a lane wants from its driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LaneOutput {
    /// Carry this to `Control`, in order.
    ToControl(ToControl),
    /// A buffer for the data of a command. Answer once with `handle_buffer`, now or later.
    NeedBuffer {
        /// The connection.
        conn: ConnId,
        /// The command.
        slot: u16,
        /// Bytes, at most `Limits::max_transfer`.
        len: u32,
    },
    /// A buffer is not used any more.
    FreeBuffer(BufId),
    /// Do this on a namespace and answer once with `handle_media_done`.
    Media(MediaOp),
    /// End the connection orderly; the lane has forgotten it.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Reset the connection; the lane has forgotten it.
    Abort {
        /// Which.
        conn: ConnId,
    },
    /// The connection is over but its port is mute: keep the socket, read and write nothing, until `Abort`.
    Park {
        /// Which.
        conn: ConnId,
    },
    /// The connection has something to send.
    SendReady {
        /// Which.
        conn: ConnId,
    },
    /// The connection takes bytes again: offer what it had left.
    ReadReady {
        /// Which.
        conn: ConnId,
    },
    /// Something happened.
    Event(Event),
}

/// The scripted faults of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct PortFaults {
    hold: bool,
    takes: Takes,
    mute: bool,
    delay_ms: u32,
    /// What commands are answered with.
    fail: Option<Status>,
}

/// Which commands a port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Takes {
    #[default]
    All,
    /// They vanish.
    Nothing,
    /// Those that name a block of `Lane::deadly` end their controller.
    AllButOne,
}

/// How a connection ends, for the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Close,
    Abort,
    /// The driver closed it already.
    Closed,
}

/// The queue pairs of one reactor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    id: LaneId,
    limits: Limits,
    conns: BTreeMap<ConnId, Conn>,
    parked: BTreeMap<ConnId, PortId>,
    lives: BTreeMap<LifeId, LaneLife>,
    namespaces: BTreeMap<SubsystemId, Arc<Namespaces>>,
    /// How many tables of them it was given so far.
    tables: u64,
    faults: BTreeMap<PortId, PortFaults>,
    /// Namespace and block whose commands end their controller.
    deadly: BTreeMap<PortId, (u32, u64)>,
    jobs: Slab<Job>,
    /// By the order in which they came.
    stalled: BTreeMap<u64, Stalled>,
    tombstones: BTreeMap<u64, Tombstone>,
    next_order: u64,
    /// What stalls until somebody says so, on all lanes.
    holding: holding::Holding,
    /// What happened since `Control` asked.
    report: Report,
    /// Who holds what.
    ledger: Ledger,
    /// Buffers that nobody uses.
    stock: room::Stock,
    /// Connections with commands that wait for room: each gets it for one in its turn.
    thirsty: Turns<ConnId>,
    /// Commands that wait until fewer media operations are under way.
    deferred: Turns<Inside>,
    /// Connections without a complete Connect, by payer; the oldest first.
    half_open: BTreeSet<(AccountId, ConnId)>,
    /// What is read now has come in after this moment.
    looked: Option<Instant>,
    /// Commands that were refused by the clock.
    too_late: u64,
    timers: Timers<Why>,
    outputs: VecDeque<LaneOutput>,
}

impl Lane {
    /// A lane without connections.
    #[must_use]
    pub fn new(id: LaneId, limits: Limits) -> Self {
        Self {
            id,
            limits,
            conns: BTreeMap::new(),
            parked: BTreeMap::new(),
            lives: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            tables: 0,
            faults: BTreeMap::new(),
            deadly: BTreeMap::new(),
            jobs: Slab::new(),
            stalled: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            next_order: 0,
            holding: holding::Holding::default(),
            report: Report::default(),
            ledger: Ledger::new(limits.memory, limits.connections.into(), MEDIA_MAX),
            stock: room::Stock::default(),
            thirsty: Turns::default(),
            deferred: Turns::default(),
            half_open: BTreeSet::new(),
            looked: None,
            too_late: 0,
            timers: Timers::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> LaneId {
        self.id
    }

    /// What its peers can make it hold.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many connections it has, parked ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len() + self.parked.len()
    }

    /// Every connection, parked ones excluded.
    pub fn conn_views(&self) -> impl Iterator<Item = ConnView> + '_ {
        self.conns.iter().map(|(conn, known)| known.view(*conn))
    }

    /// Bytes that commands hold, in buffers and elsewhere.
    #[must_use]
    pub const fn buffered(&self) -> u64 {
        self.ledger.in_transit()
    }

    /// Bytes that peers hold in all, at most [`Limits::memory`].
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.ledger.used()
    }

    /// Connections that were refused, or ended to make room for others.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.ledger.refused()
    }

    /// Everybody who holds something here.
    pub fn payer_views(&self) -> impl Iterator<Item = PayerView> + '_ {
        self.ledger.accounts().map(|account| PayerView {
            payer: account.payer,
            connections: account.connections,
            bytes: account.held,
            refused: account.refused,
        })
    }

    /// Free buffers that it keeps for the next commands.
    #[must_use]
    pub const fn stocked(&self) -> usize {
        self.stock.len()
    }

    /// Which of the namespaces that ever had this NSID this lane knows ([`crate::Namespaces::serial`]): its driver has let go
    /// of every earlier one.
    #[must_use]
    pub fn serial(&self, key: NamespaceKey) -> Option<u64> {
        self.namespaces.get(&key.subsystem)?.serial(key.nsid)
    }

    /// Commands that stall inside, that wait for their turn at the media, and media operations that are under way.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.stalled.len() + self.jobs.len() + self.deferred.len()
    }

    /// Commands that came to their execution when their host had to be given up already, by the clock.
    #[must_use]
    pub const fn too_late(&self) -> u64 {
        self.too_late
    }

    /// True if nothing is to be read from or written to the connection: its port is scripted to be mute.
    #[must_use]
    pub fn is_muted(&self, conn: ConnId) -> bool {
        self.parked.contains_key(&conn) || self.conns.get(&conn).is_some_and(|conn| self.is_port_muted(conn.port))
    }

    /// True if nothing is to be accepted on the port.
    #[must_use]
    pub fn is_port_muted(&self, port: PortId) -> bool {
        self.faults.get(&port).is_some_and(|faults| faults.mute)
    }

    /// True if the connection takes no more bytes until `ReadReady`.
    #[must_use]
    pub fn is_blocked(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|conn| conn.queue.is_blocked())
    }

    /// What to do next. Drained after every call.
    pub fn poll_output(&mut self) -> Option<LaneOutput> {
        self.outputs.pop_front()
    }

    /// The next wait to end.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline<Why>> {
        self.timers.next()
    }

    /// All waits, the earliest first.
    pub fn waits(&self) -> impl Iterator<Item = Deadline<Why>> + '_ {
        self.timers.iter()
    }

    /// A connection was accepted on `port`; `local` is this end of it, and `payer` whom it is charged to.
    pub fn handle_accepted(&mut self, now: Instant, conn: ConnId, port: PortId, local: SocketAddr, payer: Payer) {
        if self.half_open.len() >= self.limits.half_open as usize
            && let Some(oldest) = self.to_make_room(payer)
        {
            self.crowd_out(oldest);
        }
        if !self.ledger.has_place(payer, CONNECTION_BYTES)
            && let Some(oldest) = self.to_give_its_place(payer)
        {
            self.crowd_out(oldest);
        }
        if !self.ledger.has_place(payer, CONNECTION_BYTES) {
            self.ledger.refuse(payer);
            self.out(LaneOutput::Event(Event::Dropped { conn, port, why: Loss::Crowded }));
            return self.out(LaneOutput::Abort { conn });
        }
        let account = self.ledger.enter(payer, CONNECTION_BYTES);
        let queue = Queue::new(QueueConfig {
            hdgst_allowed: self.limits.hdgst,
            ddgst_allowed: self.limits.ddgst,
            maxh2cdata: self.limits.max_h2c_data,
            in_capsule_max: self.limits.in_capsule,
            max_transfer: self.limits.max_transfer,
            // A host may see an answer before its slot is free here.
            slots: self.limits.queue_depth.saturating_mul(2),
        });
        self.conns.insert(conn, Conn::new(queue, port, local, payer, account));
        self.half_open.insert((account, conn));
        self.timers.set(Why::Handshake(conn), now + Duration::from_millis(self.limits.handshake_ms.into()));
        self.out(LaneOutput::Event(Event::Accepted { conn, port }));
        self.after(conn);
    }

    /// The driver looked at its sockets at `at`: what it reads from now on had not come in by then. Without this call
    /// everything is taken to come in when it is read, which is wrong for a process that was stopped in between: what a host
    /// sent before it gave the path up would keep the path alive.
    pub const fn handle_looked(&mut self, at: Instant) {
        self.looked = Some(at);
    }

    /// The driver reads the connection again.
    fn read_ready(&mut self, now: Instant, conn: ConnId) {
        if let Some(known) = self.conns.get_mut(&conn).filter(|known| !known.unread.is_nothing()) {
            known.unread.goes_on(self.looked, now);
        }
        self.out(LaneOutput::ReadReady { conn });
    }

    /// Bytes came in. See [`Queue::handle_bytes`].
    ///
    /// # Errors
    /// The peer broke the protocol: the association is over. Send what `poll_send` yields, close, `handle_closed`.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Result<Taken, Fatal> {
        let Some(known) = self.conns.get_mut(&conn) else {
            let used = if self.parked.contains_key(&conn) { 0 } else { bytes.len() };
            return Ok(Taken { used, place: None });
        };
        if self.faults.get(&known.port).is_some_and(|faults| faults.mute) {
            return Ok(Taken { used: 0, place: None });
        }
        if known.stage == Stage::Over {
            return Ok(Taken { used: bytes.len(), place: None });
        }
        let result = known.queue.handle_bytes(bytes);
        self.drain(now, conn);
        self.settle(now, conn);
        if result.is_err() {
            self.condemn(conn);
            self.after(conn);
        }
        result
    }

    /// After bytes came in and were acted upon: whether more of them may be read, and whether there is something to send.
    fn settle(&mut self, now: Instant, conn: ConnId) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let mut overdrawn = false;
        if known.queue.is_blocked() {
            known.unread.stops(self.looked, now);
            overdrawn = known.overdrawn;
        } else if !known.unread.is_nothing() {
            known.unread.goes_on(self.looked, now);
        }
        if known.announce() {
            self.outputs.push_back(LaneOutput::SendReady { conn });
        }
        if known.unwatched() {
            self.watch(now, conn);
        }
        if overdrawn {
            self.judge_kept(conn);
        }
    }

    /// So many bytes were put where `Place` or `direct` said. See [`Queue::handle_placed`].
    pub fn handle_placed(&mut self, now: Instant, conn: ConnId, len: u32, digest: u32) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.queue.handle_placed(len, digest);
            self.drain(now, conn);
            self.after(conn);
        }
    }

    /// Where the next bytes of the stream can be received directly. See [`Queue::direct`].
    #[must_use]
    pub fn direct(&self, conn: ConnId, min: u32) -> Option<Span> {
        if self.is_muted(conn) {
            return None;
        }
        self.conns.get(&conn)?.queue.direct(min)
    }

    /// What to continue the digest of directly received bytes with. See [`Queue::direct_digest`].
    #[must_use]
    pub fn direct_digest(&self, conn: ConnId) -> Option<u32> {
        self.conns.get(&conn)?.queue.direct_digest()
    }

    /// Appends what is to be sent on the connection. Nothing while its port is mute.
    pub fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        if self.is_muted(conn) {
            return;
        }
        if let Some(known) = self.conns.get_mut(&conn) {
            known.announced = false;
            known.queue.poll_send(list);
        }
    }

    /// The kernel took that many more bytes of what `poll_send` gave.
    pub fn handle_given(&mut self, now: Instant, conn: ConnId, bytes: u64) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.queue.handle_given(bytes);
            self.drain(now, conn);
            self.after(conn);
        }
    }

    /// The peer closed or reset the connection, or it broke.
    pub fn handle_closed(&mut self, conn: ConnId) {
        self.parked.remove(&conn);
        self.end(conn, End::Closed, Loss::Closed, true);
    }

    /// The peer closed its direction in order, and everything that it sent was handed over. As [`Lane::handle_closed`], but
    /// an I/O queue that has nothing inside takes nothing with it.
    pub fn handle_finished(&mut self, conn: ConnId) {
        let why = match self.conns.get(&conn) {
            Some(known) if matches!(known.stage, Stage::Io(_)) => {
                if known.queue.is_idle() {
                    Loss::Left
                } else {
                    Loss::Unfinished
                }
            }
            _ => Loss::Closed,
        };
        self.parked.remove(&conn);
        self.end(conn, End::Closed, why, true);
    }

    /// The buffer that `NeedBuffer` asked for; exactly as long.
    pub fn handle_buffer(&mut self, now: Instant, conn: ConnId, slot: u16, span: Span) {
        // Who asked for it is gone, and pays no more.
        let Some(known) = self.conns.get_mut(&conn) else { return self.out(LaneOutput::FreeBuffer(span.buf)) };
        match known.take(slot) {
            Slot::Waiting(Want::Buffer { task, .. }) => {
                if self.furnish(now, conn, slot, task, span) {
                    self.drain(now, conn);
                    self.read_ready(now, conn);
                }
            }
            other => {
                known.set(slot, other);
                // The connection is condemned, and pays no more either.
                self.out(LaneOutput::FreeBuffer(span.buf));
            }
        }
        self.after(conn);
    }

    /// A message of `Control`.
    pub fn handle_control(&mut self, now: Instant, message: ToLane) {
        match message {
            ToLane::Namespaces { subsystem, namespaces } => {
                self.namespaces.insert(subsystem, namespaces);
                self.tables += 1;
            }
            ToLane::Admit { conn, slot, role, sqsize, sq_flow_control, dw0 } => {
                self.admit(conn, slot, role, sqsize, sq_flow_control, dw0);
            }
            ToLane::Answer { conn, slot, status, dw0, dw1, data } => {
                if let Some(known) = self.conns.get_mut(&conn)
                    && let Slot::Asked { room, bytes } = known.take(slot)
                {
                    if known.stage == Stage::Connecting {
                        known.stage = Stage::New;
                        let queue = known.fixed - CONNECTION_BYTES;
                        known.fixed -= queue;
                        self.ledger.give_fixed(known.account, queue);
                    }
                    known.set(slot, Slot::Answering(Held::Bytes(bytes)));
                    let data = if data.is_empty() {
                        Source::None
                    } else if data.len() < room as usize {
                        Source::Padded(Box::new(Padded { bytes: data, len: room }))
                    } else {
                        Source::Bytes(data)
                    };
                    known.queue.respond(slot, status, dw0, dw1, data);
                    self.drain(now, conn);
                }
                self.after(conn);
            }
            ToLane::Forget { conn, slot } => {
                if let Some(known) = self.conns.get_mut(&conn)
                    && let Slot::Asked { bytes, .. } = known.take(slot)
                {
                    known.queue.forget(slot);
                    let account = known.account;
                    self.give(account, Some(conn), bytes);
                }
            }
            ToLane::End { conn, why } => self.end(conn, End::Abort, why, false),
            ToLane::Cut { life, why, until } => {
                self.end_lease(life, until);
                let conns: Vec<ConnId> =
                    self.lives.get(&life).map(|life| life.conns.iter().copied().collect()).unwrap_or_default();
                let how = if why == Loss::Reset { End::Close } else { End::Abort };
                for conn in conns {
                    self.end(conn, how, why, false);
                }
            }
            ToLane::Quiesce { life, by } => self.quiesce(life, by),
            ToLane::Listen { life, since } => self.listen(life, since),
            ToLane::Lease { life, until } => self.set_lease(life, until),
            ToLane::Report { ticket } => {
                for life in self.lives.values_mut() {
                    let counters = core::mem::take(&mut life.counters);
                    self.report.counters.entry(life.life.subsystem).or_default().add(&counters);
                }
                let report = core::mem::take(&mut self.report);
                self.out(LaneOutput::ToControl(ToControl::Reported { ticket, report }));
            }
            ToLane::Holding { lane, order, ghost } => self.holding.note(lane, order, ghost),
            ToLane::Fault(fault) => self.script(now, fault),
        }
    }

    /// The clock moved on.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(why) = self.timers.expired(now) {
            match why {
                Why::Handshake(conn) => self.end(conn, End::Abort, Loss::Handshake, true),
                Why::Transfer(conn) => self.check_transfers(now, conn),
                Why::Delay(order) => self.deliver(now, order),
            }
        }
    }

    /// Begins to look at the transfers of a connection that has commands.
    fn watch(&mut self, now: Instant, conn: ConnId) {
        if let Some(known) = self.conns.get_mut(&conn).filter(|known| known.unwatched()) {
            known.looked = known.look();
            self.timers.set(Why::Transfer(conn), now + Duration::from_millis(self.limits.transfer_ms.into()));
        }
    }

    /// A connection whose peer neither sends what it announced nor takes what it asked for holds buffers for nothing.
    fn check_transfers(&mut self, now: Instant, conn: ConnId) {
        let Some(port) = self.conns.get(&conn).map(|known| known.port) else { return };
        let muted = self.is_port_muted(port);
        let Some(known) = self.conns.get_mut(&conn) else { return };
        if known.has_stalled() && !muted {
            return self.end(conn, End::Abort, Loss::Stalled, true);
        }
        known.looked = None;
        self.watch(now, conn);
    }

    fn out(&mut self, output: LaneOutput) {
        self.outputs.push_back(output);
    }

    /// Says once that there is something to send.
    fn after(&mut self, conn: ConnId) {
        if self.conns.get_mut(&conn).is_some_and(Conn::announce) {
            self.out(LaneOutput::SendReady { conn });
        }
    }

    fn drain(&mut self, now: Instant, conn: ConnId) {
        while let Some(event) = self.conns.get_mut(&conn).and_then(|known| known.queue.poll_event()) {
            match event {
                QueueEvent::Ready { .. } => {}
                QueueEvent::Command { slot, sqe, transfer } => self.command(now, conn, slot, sqe, transfer),
                QueueEvent::Arrived { slot, data, digest_ok } => self.arrived(now, conn, slot, data, digest_ok),
                QueueEvent::Sent { slot } => {
                    let Some(known) = self.conns.get_mut(&conn) else { continue };
                    known.transfer_ended();
                    let account = known.account;
                    match known.take(slot) {
                        Slot::Answering(Held::Span(span)) => self.free(account, Some(conn), Some(span)),
                        Slot::Answering(Held::Bytes(bytes)) => self.give(account, Some(conn), bytes),
                        _ => {}
                    }
                }
                QueueEvent::TermReq { .. } => self.end(conn, End::Close, Loss::Protocol, true),
            }
        }
    }

    fn admit(&mut self, conn: ConnId, slot: u16, role: Role, sqsize: u16, sq_flow_control: bool, dw0: u32) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        if !matches!(known.take(slot), Slot::Asked { .. }) {
            return;
        }
        known.queue.connected(sqsize, sq_flow_control, matches!(role, Role::Io { .. }));
        known.set(slot, Slot::Answering(Held::Nothing));
        known.queue.respond(slot, Status::SUCCESS, dw0, 0, Source::None);
        self.timers.stop(Why::Handshake(conn));
        if self.half_open.remove(&(known.account, conn)) {
            self.ledger.connected(known.account);
        }
        known.reserve = self.limits.reserve();
        match role {
            Role::Admin => known.stage = Stage::Admin,
            Role::Io { life, qid, until } => {
                known.qid = qid;
                known.stage = Stage::Io(life.id);
                self.lives.entry(life.id).or_insert_with(|| LaneLife::new(life, until)).conns.insert(conn);
                // While this lane had no queue of it, nobody told it until when the life may execute.
                self.set_lease(life.id, until);
            }
        }
        self.after(conn);
    }

    /// The peer broke the protocol: the association is over, the socket lives until the termination request is sent.
    fn condemn(&mut self, conn: ConnId) {
        if let Some((port, told)) = self.strip(conn) {
            self.out(LaneOutput::Event(Event::Dropped { conn, port, why: Loss::Protocol }));
            if told {
                self.out(LaneOutput::ToControl(ToControl::Gone { conn, why: Loss::Protocol }));
            }
        }
    }

    /// The connection is over. `tell` if `Control` does not know yet.
    fn end(&mut self, conn: ConnId, how: End, why: Loss, tell: bool) {
        let was_over = self.conns.get(&conn).is_some_and(|known| known.stage == Stage::Over);
        let Some(port) = self.conns.get(&conn).map(|known| known.port) else { return };
        match how {
            End::Closed => {}
            End::Close | End::Abort if self.is_port_muted(port) => {
                self.parked.insert(conn, port);
                self.out(LaneOutput::Park { conn });
            }
            End::Close => self.out(LaneOutput::Close { conn }),
            End::Abort => self.out(LaneOutput::Abort { conn }),
        }
        let stripped = self.strip(conn);
        if let Some(known) = self.conns.remove(&conn) {
            self.free_answers(known);
        }
        if let Some((port, told)) = stripped.filter(|_| !was_over) {
            self.out(LaneOutput::Event(Event::Dropped { conn, port, why }));
            if tell && told {
                self.out(LaneOutput::ToControl(ToControl::Gone { conn, why }));
            }
        }
    }

    /// The driver was told that the connection is over, and sends nothing of it after that: what it may still have polled goes
    /// back. Not to the stock, from where another command could have it before the driver hears of the end.
    fn free_answers(&mut self, known: Conn) {
        for slot in known.slots {
            if let Slot::Leaving(span) = slot {
                self.out(LaneOutput::FreeBuffer(span.buf));
                self.give(known.account, None, crate::quota::buffer(span.len));
            }
        }
    }

    /// Takes everything from a connection but its socket, and the buffers of answers that its driver may still have to send.
    /// Answers its port and whether `Control` knows of it.
    fn strip(&mut self, conn: ConnId) -> Option<(PortId, bool)> {
        let known = self.conns.get_mut(&conn)?;
        let (port, stage, account) = (known.port, known.stage, known.account);
        if stage == Stage::Over {
            return Some((port, false));
        }
        known.stage = Stage::Over;
        known.thirsty.clear();
        let slots = core::mem::take(&mut known.slots);
        known.slots = slots.iter().map(Slot::leaving).collect();
        let (fixed, kept) = (core::mem::take(&mut known.fixed), core::mem::take(&mut known.kept));
        // What commands have of it they give back to the payer.
        (known.reserve, known.lent) = (0, 0);
        self.timers.stop(Why::Handshake(conn));
        self.timers.stop(Why::Transfer(conn));
        self.thirsty.remove_where(account, |waiting| *waiting == conn);
        self.orphan(conn, account);
        for slot in slots {
            match slot {
                Slot::Filling(_, span) => self.free(account, None, Some(span)),
                // The buffer has no owner when it comes.
                Slot::Waiting(Want::Buffer { len, asked: true, .. }) => {
                    self.give(account, None, crate::quota::buffer(len));
                }
                Slot::Collecting(_, bytes)
                | Slot::Ranges { bytes, .. }
                | Slot::Asked { bytes, .. }
                | Slot::Answering(Held::Bytes(bytes)) => self.give(account, None, bytes),
                Slot::Answering(Held::Nothing | Held::Span(_)) | Slot::Leaving(_) => {}
                Slot::Free | Slot::Waiting(_) | Slot::Inside => {}
            }
        }
        self.ledger.give_kept(account, kept);
        let half_open = self.half_open.remove(&(account, conn));
        self.ledger.leave(account, fixed, half_open);
        if !self.thirsty.is_empty() {
            self.quench(None);
        }
        if let Stage::Io(life) = stage
            && let Some(life) = self.lives.get_mut(&life)
        {
            life.conns.remove(&conn);
        }
        Some((port, !matches!(stage, Stage::New | Stage::Over)))
    }

    fn script(&mut self, now: Instant, fault: Fault) {
        match fault {
            Fault::HoldWrites { port } => self.faults.entry(port).or_default().hold = true,
            Fault::StopHolding { port } => self.faults.entry(port).or_default().hold = false,
            Fault::Release => self.release(now),
            Fault::Delay { port, ms } => self.faults.entry(port).or_default().delay_ms = ms,
            Fault::Drop { port } => self.faults.entry(port).or_default().takes = Takes::Nothing,
            Fault::CrashOn { port, nsid, lba } => {
                self.faults.entry(port).or_default().takes = Takes::AllButOne;
                self.deadly.insert(port, (nsid, lba));
            }
            Fault::FailIo { port, status } => {
                self.faults.entry(port).or_default().fail = Some(status).filter(|status| !status.is_success());
            }
            Fault::Mute { port } => {
                if !core::mem::replace(&mut self.faults.entry(port).or_default().mute, true) {
                    let looked = self.looked;
                    let conns = self.conns.values_mut().filter(|known| known.port == port);
                    conns.for_each(|known| known.unread.stops(looked, now));
                }
            }
            Fault::Unmute { port } => self.unmute(now, port),
            Fault::ResetConnections { port } | Fault::ClosePort { port } => {
                let conns: Vec<ConnId> =
                    self.conns.iter().filter(|(_, known)| known.port == port).map(|(conn, _)| *conn).collect();
                for conn in conns {
                    self.end(conn, End::Abort, Loss::Script, true);
                }
            }
            Fault::Clear => {
                self.release(now);
                let ports: Vec<PortId> = self.faults.keys().copied().collect();
                for port in ports {
                    self.unmute(now, port);
                }
                self.faults.clear();
                self.deadly.clear();
            }
            // `Control`'s own.
            Fault::OpenPort { .. }
            | Fault::CcrRefuse(_)
            | Fault::CcrLate { .. }
            | Fault::CcrLoseEvent
            | Fault::CcrStaleEntry
            | Fault::CcrKeepEntries
            | Fault::CcrFail
            | Fault::RepeatEvent
            | Fault::SlowDrain { .. }
            | Fault::RdyBeforeDrained => {}
        }
    }

    fn unmute(&mut self, now: Instant, port: PortId) {
        if !self.is_port_muted(port) {
            return;
        }
        self.faults.entry(port).or_default().mute = false;
        let parked: Vec<ConnId> = self.parked.iter().filter(|(_, at)| **at == port).map(|(conn, _)| *conn).collect();
        for conn in parked {
            self.parked.remove(&conn);
            self.out(LaneOutput::Abort { conn });
        }
        let conns: Vec<ConnId> =
            self.conns.iter().filter(|(_, known)| known.port == port).map(|(conn, _)| *conn).collect();
        for conn in conns {
            self.read_ready(now, conn);
            self.out(LaneOutput::SendReady { conn });
        }
    }

    /// Lives of which this lane would begin a media operation at `now`: for tests.
    pub fn executable(&self, now: Instant) -> impl Iterator<Item = LifeId> + '_ {
        self.lives.iter().filter(move |(_, life)| life.may_execute(now)).map(|(id, _)| *id)
    }

    /// Lives that this lane knows, and whether each may still execute: for tests and for `status`.
    pub fn lives(&self) -> impl Iterator<Item = (LifeId, bool)> + '_ {
        self.lives.iter().map(|(id, life)| (*id, life.permit == Permit::Open))
    }
}
