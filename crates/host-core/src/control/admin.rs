//! The admin connection of a life: its queue pair, what is outstanding on it and for whom, and the doors of the driver.

use super::Control;
use super::life::{AdminEnd, Life, Phase};
use super::waits::Why;
use crate::guards::{self as conditions, Guard};
use crate::{ConnAction, ConnEvent, ConnId, ConnectionEnd, DownReason, LifeId, Loss, Termination};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;
use interlock_base::{Instant, Span};
use interlock_fence::Input;
use interlock_proto::host::{AdminCommand, Event as QueueEvent, Queue, QueueConfig};
use interlock_proto::{DataError, SendList, Sink, Source as Payload, Taken};
use interlock_wire::admin;
use interlock_wire::sqe::{Cqe, LateEffect, Sqe};
use interlock_wire::status::Status;

/// SQSIZE of the admin queue (0's based), as Linux asks for it.
pub(super) const ADMIN_SQSIZE: u16 = 31;
/// In-capsule data of a Fabrics command always fits; nothing else is sent with data.
const ADMIN_IN_CAPSULE: u32 = 8192;

/// How long a termination request may take to leave before the association ends.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// For whom an admin command was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Association,
    Task,
    AsyncEvent,
    KeepAlive,
    Probe,
    /// A Keep Alive that asks whether it is still there, with a limit of its own.
    Presence,
    /// Whether it is ready still, once its I/O queues have connected.
    Joined,
    Ccr {
        life: LifeId,
    },
    CcrLog {
        /// What is completed is removed by the read.
        remove: bool,
    },
    Shutdown,
    ShutdownPoll,
    Abort,
    Disable,
    DisablePoll,
}

impl Purpose {
    /// True if it belongs to the shutdown of the controller: nothing else may be sent to one that was told to shut down.
    const fn is_shutdown(self) -> bool {
        matches!(self, Self::Shutdown | Self::ShutdownPoll)
    }

    /// True if it may be sent on a life that is condemned, while its controller is asked to disable itself.
    const fn is_disable(self) -> bool {
        matches!(self, Self::Disable | Self::DisablePoll)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Association => "a command of the connect sequence",
            Self::Task => "Identify or Get Log Page",
            Self::AsyncEvent => "Asynchronous Event Request",
            Self::KeepAlive | Self::Probe | Self::Presence => "Keep Alive",
            Self::Ccr { .. } => "Cross-Controller Reset",
            Self::CcrLog { .. } => "Get Log Page, Cross-Controller Reset",
            Self::Shutdown | Self::ShutdownPoll => "controller shutdown",
            Self::Joined => "Property Get, CSTS",
            Self::Abort => "Abort",
            Self::Disable | Self::DisablePoll => "controller disable",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    purpose: Purpose,
    sent: Instant,
    until: Option<Instant>,
}

/// The admin connection of one life.
#[derive(Clone, Debug, Hash)]
pub(super) struct Admin {
    pub(super) conn: ConnId,
    pub(super) queue: Queue,
    pending: BTreeMap<u64, Pending>,
    next_token: u64,
    /// How the controller broke the protocol, while it is told so.
    broken: Option<String>,
}

impl Admin {
    pub(super) fn new(conn: ConnId, hdgst: bool, ddgst: bool) -> Self {
        let config = QueueConfig { depth: ADMIN_SQSIZE, hdgst, ddgst, in_capsule: ADMIN_IN_CAPSULE };
        Self { conn, queue: Queue::new(config), pending: BTreeMap::new(), next_token: 0, broken: None }
    }

    /// What was asked is waited for no longer; answers to it are answers to nobody.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.pending.values().filter_map(|pending| pending.until).min()
    }

    /// The command that has waited too long, if one has.
    fn overdue(&self, now: Instant) -> Option<Purpose> {
        self.pending.values().find(|p| p.until.is_some_and(|until| now >= until)).map(|p| p.purpose)
    }
}

/// A completed admin command.
pub(super) struct Answer {
    pub(super) purpose: Purpose,
    pub(super) cqe: Cqe,
    pub(super) data: Vec<u8>,
    pub(super) error: Option<DataError>,
}

impl Answer {
    /// The status; data that did not arrive whole counts as a transfer error.
    pub(super) const fn status(&self) -> Status {
        match self.error {
            Some(_) if self.cqe.status().is_success() => Status::DATA_TRANSFER_ERROR,
            _ => self.cqe.status(),
        }
    }
}

/// A command without data.
pub(super) const fn plain(sqe: Sqe) -> AdminCommand {
    AdminCommand { sqe, out: Vec::new(), into: 0 }
}

/// A command that reads `into` bytes.
pub(super) const fn reading(sqe: Sqe, into: u32) -> AdminCommand {
    AdminCommand { sqe, out: Vec::new(), into }
}

impl Control {
    /// Opens the admin connection of a life.
    pub(super) fn open_admin(&mut self, life_id: LifeId, dial: crate::Dial) {
        let conn = ConnId(self.next_conn);
        self.next_conn = self.next_conn.wrapping_add(1);
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Some(ctrl) = self.controllers.get(&life.ctrl) else { return };
        life.admin = Some(Admin::new(conn, ctrl.spec.hdgst, ctrl.spec.ddgst));
        self.conns.insert(conn, life_id);
        self.conn(ConnAction::Open(conn, dial));
    }

    /// Submits an admin command. False if the queue is full or gone.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        life_id: LifeId,
        purpose: Purpose,
        command: AdminCommand,
        limit: Option<Duration>,
    ) -> bool {
        let AdminCommand { sqe, out, into } = command;
        // Nobody guards what an admin command that was lost may still do: none may do anything.
        debug_assert_eq!(admin::late_effect(&sqe), LateEffect::None, "{sqe:?}");
        let may = |life: &&mut Life| match life.phase {
            Phase::Closing { .. } => purpose.is_shutdown(),
            _ => life.may_send() || (purpose.is_disable() && life.is_disabling()),
        };
        let Some(life) = self.lives.get_mut(&life_id).filter(may) else { return false };
        let Some(admin) = &mut life.admin else { return false };
        let token = admin.next_token;
        let out = if out.is_empty() { Payload::None } else { Payload::Bytes(out) };
        let into = if into == 0 { Sink::None } else { Sink::Bytes(into) };
        if admin.queue.submit(sqe, out, into, token).is_err() {
            return false;
        }
        admin.next_token += 1;
        admin.pending.insert(token, Pending { purpose, sent: now, until: limit.map(|limit| now + limit) });
        let conn = admin.conn;
        self.watch_admin(life_id);
        self.conn(ConnAction::Send(conn));
        true
    }

    /// The limit of an ordinary admin command of this life.
    pub(super) fn admin_limit(&self, life_id: LifeId) -> Option<Duration> {
        let life = self.lives.get(&life_id)?;
        self.controllers.get(&life.ctrl).map(|ctrl| ctrl.spec.timeouts.admin)
    }

    fn watch_admin(&mut self, life_id: LifeId) {
        let next = self.lives.get(&life_id).and_then(|life| life.admin.as_ref()).and_then(Admin::next_deadline);
        match next {
            Some(at) => self.timers.set(Why::Admin(life_id), at),
            None => self.timers.stop(Why::Admin(life_id)),
        }
    }

    pub(super) fn handle_admin_timeout(&mut self, now: Instant, life_id: LifeId) {
        let overdue = self.lives.get(&life_id).and_then(|life| life.admin.as_ref()).and_then(|a| a.overdue(now));
        match overdue {
            Some(purpose) => self.life_failed(now, life_id, Loss::AdminTimeout(purpose.name())),
            None => self.watch_admin(life_id),
        }
    }

    /// Stops everything on the admin queue at once; its socket ends by itself or by `late_grace`.
    pub(super) fn halt_admin(&mut self, now: Instant, life_id: LifeId, late_grace: Duration) -> AdminEnd {
        let Some(life) = self.lives.get_mut(&life_id) else { return AdminEnd::Quiet(now) };
        life.keep_alive = None;
        let Some(admin) = &mut life.admin else { return AdminEnd::Quiet(now) };
        let halts = conditions::enabled(Guard::AdminHalted);
        if halts {
            admin.queue.halt();
        }
        let conn = admin.conn;
        self.timers.stop(Why::Admin(life_id));
        self.timers.set(Why::LateGrace(life_id), now + late_grace);
        if halts {
            self.conn(ConnAction::StopSending(conn));
        }
        self.conn(ConnAction::WatchDrain(conn));
        if conditions::enabled(Guard::AdminQuiet) { AdminEnd::Leaving } else { AdminEnd::Quiet(now) }
    }

    /// Ends the admin connection without ceremony, and forgets it.
    pub(super) fn drop_admin(&mut self, life_id: LifeId, orderly: bool) {
        let Some(admin) = self.lives.get_mut(&life_id).and_then(|life| life.admin.take()) else { return };
        self.conns.remove(&admin.conn);
        self.conn(if orderly { ConnAction::Close(admin.conn) } else { ConnAction::Abort(admin.conn) });
    }

    /// What the driver saw on a connection.
    pub fn handle_conn(&mut self, now: Instant, conn: ConnId, event: ConnEvent) {
        let Some(life_id) = self.conns.get(&conn).copied() else { return };
        match event {
            ConnEvent::Up => self.handle_admin_up(now, life_id),
            ConnEvent::SendQueueEmpty => self.handle_admin_quiet(now, life_id),
            ConnEvent::Down(_) | ConnEvent::Aborted => {
                self.conns.remove(&conn);
                let Some(life) = self.lives.get_mut(&life_id) else { return };
                let broken = life.admin.take().and_then(|admin| admin.broken);
                if life.is_condemned() {
                    self.handle_admin_quiet(now, life_id);
                    return;
                }
                let loss = match (broken, event) {
                    (Some(why), _) => Loss::Protocol(why),
                    (None, ConnEvent::Down(why)) => Loss::AdminConnection(why),
                    _ => Loss::AdminConnection(DownReason::Lost(ConnectionEnd::Aborted("the socket was aborted"))),
                };
                self.life_failed(now, life_id, loss);
            }
        }
        self.settle_down(now);
    }

    fn handle_admin_quiet(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let Phase::Condemned(admin @ (AdminEnd::Leaving | AdminEnd::Disabling)) = &mut life.phase else { return };
        *admin = AdminEnd::Quiet(now);
        for why in [Why::LateGrace(life_id), Why::Disable(life_id), Why::Poll(life_id)] {
            self.timers.stop(why);
        }
        self.fence(now, Input::Admin { life: life_id, disabled: false, quiet: Some(now) });
    }

    /// Received bytes of a connection. Says how many are done with; the admin queue never places payload.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        let all = Taken { used: bytes.len(), place: None };
        let Some(life_id) = self.conns.get(&conn).copied() else { return all };
        let Some(admin) = self.lives.get_mut(&life_id).and_then(|life| life.admin.as_mut()) else { return all };
        let taken = admin.queue.handle_bytes(bytes);
        let mut events = Vec::new();
        while let Some(event) = admin.queue.poll_event() {
            events.push(event);
        }
        let conn_open = admin.queue.wants_send();
        if conn_open {
            self.conn(ConnAction::Send(conn));
        }
        for event in events {
            self.handle_queue_event(now, life_id, event);
        }
        let taken = match taken {
            Ok(taken) => taken,
            Err(fatal) => {
                self.handle_broken(now, life_id, fatal.why);
                all
            }
        };
        self.settle_down(now);
        taken
    }

    /// The controller broke the protocol. It is told why before the association ends, and nothing else is said any more: the
    /// queue takes no command.
    fn handle_broken(&mut self, now: Instant, life_id: LifeId, why: &str) {
        let Some(life) = self.lives.get_mut(&life_id) else { return };
        let is_condemned = life.is_condemned();
        let Some(admin) = life.admin.as_mut().filter(|admin| admin.broken.is_none()) else { return };
        if is_condemned {
            return; // Its association is over, and nothing may leave the socket.
        }
        admin.broken = Some(why.to_string());
        let conn = admin.conn;
        self.timers.set(Why::LastWords(life_id), now + LAST_WORDS);
        self.conn(ConnAction::Send(conn));
    }

    pub(super) fn handle_last_words(&mut self, now: Instant, life_id: LifeId) {
        let admin = self.lives.get_mut(&life_id).and_then(|life| life.admin.as_mut());
        if let Some(why) = admin.and_then(|admin| admin.broken.take()) {
            self.life_failed(now, life_id, Loss::Protocol(why));
        }
    }

    /// Bytes that [`Control::handle_bytes`] asked to be placed. The admin queue asks for none.
    pub fn handle_placed(&mut self, _now: Instant, conn: ConnId, len: u32, crc: u32) {
        let Some(life_id) = self.conns.get(&conn) else { return };
        if let Some(admin) = self.lives.get_mut(life_id).and_then(|life| life.admin.as_mut()) {
            admin.queue.handle_placed(len, crc);
        }
    }

    /// Never: the admin queue has no payload in buffers.
    #[must_use]
    pub const fn direct(&self, _conn: ConnId, _min: u32) -> Option<Span> {
        None
    }

    /// That many more bytes of what was polled were accepted by the kernel.
    pub fn handle_given(&mut self, _now: Instant, conn: ConnId, bytes: u64) {
        let Some(life_id) = self.conns.get(&conn) else { return };
        if let Some(admin) = self.lives.get_mut(life_id).and_then(|life| life.admin.as_mut()) {
            admin.queue.handle_given(bytes);
        }
    }

    /// Appends what is ready to be sent on a connection.
    pub fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        let Some(life_id) = self.conns.get(&conn) else { return };
        if let Some(admin) = self.lives.get_mut(life_id).and_then(|life| life.admin.as_mut()) {
            admin.queue.poll_send(list);
        }
    }

    fn handle_queue_event(&mut self, now: Instant, life_id: LifeId, event: QueueEvent) {
        match event {
            QueueEvent::Ready { .. } => self.handle_admin_ready(now, life_id),
            QueueEvent::TermReq { fes, fei } => {
                self.life_failed(now, life_id, Loss::Terminated(Termination { fes, fei }));
            }
            QueueEvent::Completed { token, cqe, data, error } => {
                let Some(life) = self.lives.get_mut(&life_id) else { return };
                let Some(pending) = life.admin.as_mut().and_then(|admin| admin.pending.remove(&token)) else { return };
                if life.is_condemned() && !(pending.purpose.is_disable() && life.is_disabling()) {
                    return; // The life is over; a late admin answer changes nothing.
                }
                if let Some(keep_alive) = &mut life.keep_alive {
                    keep_alive.handle_traffic(pending.sent);
                }
                if !matches!(pending.purpose, Purpose::AsyncEvent) {
                    self.fences.handle(now, Input::Latency(life_id, now - pending.sent));
                }
                let answer = Answer { purpose: pending.purpose, cqe, data, error };
                if !answer.status().is_success()
                    && let Some(ctrl) = self.controllers.get_mut(&life.ctrl)
                {
                    ctrl.counters.command_error_count += 1;
                }
                self.watch_admin(life_id);
                self.handle_answer(now, life_id, answer);
            }
        }
    }

    fn handle_answer(&mut self, now: Instant, life_id: LifeId, answer: Answer) {
        match answer.purpose {
            Purpose::Association => self.handle_association(now, life_id, &answer),
            Purpose::Task => self.handle_task(now, life_id, &answer),
            Purpose::AsyncEvent => self.handle_async_event(now, life_id, &answer),
            Purpose::KeepAlive => self.handle_keep_alive(now, life_id),
            Purpose::Joined => self.handle_joined(now, life_id, &answer),
            Purpose::Probe => self.handle_probe(now, life_id),
            Purpose::Ccr { life } => self.handle_ccr(now, life_id, life, &answer),
            Purpose::CcrLog { remove } => self.handle_ccr_log(now, life_id, remove, &answer),
            Purpose::Shutdown => self.handle_shutdown_asked(now, life_id, &answer),
            Purpose::ShutdownPoll => self.handle_shutdown_polled(now, life_id, &answer),
            // Whether an Abort helped, the command's own answer says; and who answers is there.
            Purpose::Abort | Purpose::Presence => {}
            Purpose::Disable => self.handle_disable(now, life_id, &answer),
            Purpose::DisablePoll => self.handle_disable_polled(now, life_id, &answer),
        }
    }

    /// True if the admin queue could be used for something new in this phase.
    pub(super) fn is_bring_up(phase: &Phase) -> bool {
        !matches!(phase, Phase::Live | Phase::Draining { .. } | Phase::Closing { .. } | Phase::Condemned(_))
    }
}
