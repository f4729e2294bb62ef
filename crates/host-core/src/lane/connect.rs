//! From `OpenQueue` to a usable queue pair, and how it is lost.
//!
//! TCP connect, ICReq and ICResp, Connect: one deadline for all of it. The loss of a queue that was up decides nothing
//! here. Its commands stay on its ledger until control condemns the life; only new ones go elsewhere at once.

use super::life::{Life, QueueSlot};
use super::link::{Socket, Stage};
use super::suspects::WITNESS;
use super::{Lane, LaneOutput, LaneWhy, LifeStanding};
use crate::guards::{self as conditions, Guard};
use crate::{ConnAction, ConnEvent, ConnId, ConnectionEnd, DownReason, LifeId, QueueSpec, Termination, ToControl};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::time::Duration;
use interlock_base::{Instant, Key};
use interlock_proto::host::{Event, MAX_DEPTH, Queue, QueueConfig};
use interlock_proto::{Sink, Source, Taken};
use interlock_wire::IntoBytes;
use interlock_wire::fabrics::{Connect, ConnectAnswer, ConnectData, InvalidParameter};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// Token of the Connect command; no request ever has it, for its serial would be the last of all.
const CONNECT: u64 = u64::MAX;

/// A socket that was to be aborted and is not known to be gone is asked for again.
pub(super) const ABORT_AGAIN: Duration = Duration::from_secs(1);

/// How long a termination request may take to leave before the socket is aborted.
const LAST_WORDS: Duration = Duration::from_millis(50);

impl Lane {
    pub(super) fn life(&self, id: LifeId) -> Option<Key> {
        self.lives.iter().find(|(_, life)| life.id == id).map(|(key, _)| key)
    }

    pub(super) fn open_queue(&mut self, now: Instant, spec: Arc<QueueSpec>) {
        let known = self.life(spec.life);
        let standing = known.and_then(|key| self.lives.get(key)).map_or(LifeStanding::Active, |life| life.standing);
        if self.shutting_down || standing != LifeStanding::Active {
            let why = DownReason::Lost(ConnectionEnd::Aborted("its life is ending; nothing new is opened on it"));
            return self.say(ToControl::QueueDown { life: spec.life, qid: spec.qid, why });
        }
        let key = known.unwrap_or_else(|| {
            let key = self.lives.insert(Life::new(&spec));
            self.heads.compile(&self.lives, &mut self.rng);
            key
        });
        let conn = self.links.open(key, Arc::clone(&spec));
        if let Some(life) = self.lives.get_mut(key) {
            life.max_transfer = life.max_transfer.min(spec.max_transfer);
            life.queues.push(QueueSlot { conn, up: false, load: 0, depth: u32::from(depth(&spec)) });
        }
        self.timers.set(LaneWhy::Connect(conn), now + spec.connect_timeout);
        self.outputs.push_back(LaneOutput::Conn(ConnAction::Open(conn, spec.dial.clone())));
    }

    pub(super) fn conn_event(&mut self, now: Instant, conn: ConnId, event: ConnEvent) {
        match event {
            ConnEvent::Up => self.tcp_up(conn),
            ConnEvent::Down(why) => self.socket_gone(now, conn, why),
            ConnEvent::Aborted => {
                self.socket_gone(now, conn, DownReason::Lost(ConnectionEnd::Aborted("the socket was aborted")));
            }
            ConnEvent::SendQueueEmpty => self.send_queue_empty(now, conn),
        }
    }

    fn tcp_up(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(conn) else { return };
        if !matches!(link.stage, Stage::Dialing) {
            return;
        }
        let spec = &link.spec;
        let mut queue = Queue::new(QueueConfig {
            depth: depth(spec),
            hdgst: spec.hdgst,
            ddgst: spec.ddgst,
            in_capsule: spec.in_capsule,
        });
        let connect = Connect { qid: spec.qid, sqsize: spec.sqsize, sq_flow_control: false, kato_ms: 0 };
        let data = ConnectData::new(spec.hostid, &spec.hostnqn, &spec.subnqn, spec.cntlid);
        let data = Source::Bytes(data.as_bytes().to_vec());
        queue.submit(connect.to_sqe(), data, Sink::None, CONNECT).expect("a new queue has a free slot");
        link.stage = Stage::Connecting(queue);
        link.ask_to_send(&mut self.outputs);
    }

    fn socket_gone(&mut self, now: Instant, conn: ConnId, why: DownReason) {
        let Some(link) = self.links.get_mut(conn) else { return };
        match &mut link.stage {
            Stage::Dialing | Stage::Connecting(_) => self.not_connected(conn, why),
            Stage::Up(_) => self.lost(conn, why, Socket::Gone),
            Stage::Lost(_, socket) => {
                *socket = Socket::Gone;
                self.timers.stop(LaneWhy::LastWords(conn));
            }
            Stage::Condemned(queue, socket) => {
                *queue = None;
                *socket = Socket::Gone;
                self.timers.stop(LaneWhy::LateGrace(conn));
                let life = link.life;
                self.check_quiet(now, life);
            }
        }
    }

    /// The queue never came up: its socket goes, and nothing of the lane's was ever sent on it.
    fn not_connected(&mut self, conn: ConnId, why: DownReason) {
        self.timers.stop(LaneWhy::Connect(conn));
        self.timers.stop(LaneWhy::LastWords(conn));
        let Some(link) = self.links.remove(conn) else { return };
        let why = link.broken.map_or(why, DownReason::Protocol);
        if let Some(life) = self.lives.get_mut(link.life) {
            life.queues.retain(|queue| queue.conn != conn);
        }
        self.say(ToControl::QueueDown { life: link.spec.life, qid: link.spec.qid, why });
    }

    fn abort_connecting(&mut self, conn: ConnId, why: DownReason) {
        self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
        self.not_connected(conn, why);
    }

    /// A queue that was up is lost. The queue machine stays as the ledger until control condemns the life.
    fn lost(&mut self, conn: ConnId, why: DownReason, socket: Socket) {
        let Some(link) = self.links.get_mut(conn) else { return };
        let Stage::Up(queue) = core::mem::replace(&mut link.stage, Stage::Dialing) else { return };
        link.stage = Stage::Lost(queue, socket);
        link.watched = false;
        self.timers.stop(LaneWhy::Io(conn));
        let (life, qid) = (link.spec.life, link.spec.qid);
        if let Some(life) = self.lives.get_mut(link.life) {
            if matches!(life.standing, LifeStanding::Active | LifeStanding::Isolated) {
                life.standing = LifeStanding::Broken;
            }
            if let Some(queue) = life.queue_mut(conn) {
                queue.up = false;
            }
        }
        // What waits may have lost its last way.
        self.wake.paths = true;
        self.say(ToControl::QueueDown { life, qid, why });
    }

    pub(super) fn bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        let swallowed = Taken { used: bytes.len(), place: None };
        let Some(queue) = self.links.get_mut(conn).and_then(super::link::Link::receiving) else { return swallowed };
        match queue.handle_bytes(bytes) {
            Ok(taken) => {
                self.queue_events(now, conn);
                taken
            }
            Err(fatal) => {
                // What was complete before the bad bytes counts.
                self.queue_events(now, conn);
                self.broken(now, conn, fatal.why);
                swallowed
            }
        }
    }

    /// The peer broke the protocol on `conn`.
    fn broken(&mut self, now: Instant, conn: ConnId, why: &str) {
        let text = format!("the peer broke the protocol: {why}");
        let Some(link) = self.links.get_mut(conn) else { return };
        match &mut link.stage {
            Stage::Connecting(_) => {
                if link.broken.is_none() {
                    link.broken = Some(text);
                    self.timers.set(LaneWhy::LastWords(conn), now + LAST_WORDS);
                    link.ask_to_send(&mut self.outputs);
                }
            }
            Stage::Up(_) => {
                self.lost(conn, DownReason::Protocol(text), Socket::LastWords);
                self.timers.set(LaneWhy::LastWords(conn), now + LAST_WORDS);
                if let Some(link) = self.links.get_mut(conn) {
                    link.ask_to_send(&mut self.outputs);
                }
            }
            Stage::Condemned(queue, socket @ (Socket::Watched | Socket::Empty)) => {
                *queue = None;
                *socket = Socket::Aborting;
                self.timers.set(LaneWhy::LateGrace(conn), now + ABORT_AGAIN);
                self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
            }
            Stage::Dialing | Stage::Lost(..) | Stage::Condemned(..) => {}
        }
    }

    pub(super) fn queue_events(&mut self, now: Instant, conn: ConnId) {
        while let Some(event) =
            self.links.get_mut(conn).and_then(super::link::Link::receiving).and_then(Queue::poll_event)
        {
            match event {
                Event::Ready { .. } => {}
                Event::Completed { token, cqe, .. } if token >= WITNESS => self.own_answered(conn, token, &cqe),
                Event::Completed { token, cqe, error, .. } => self.completed(now, conn, token, &cqe, error.is_some()),
                Event::TermReq { fes, fei } => self.terminated(conn, fes, fei),
            }
        }
        // Data transfer may have been asked for: R2T.
        if let Some(link) = self.links.get_mut(conn)
            && link.sending().is_some_and(|queue| queue.wants_send())
        {
            link.ask_to_send(&mut self.outputs);
        }
    }

    /// A command of the lane's own was answered.
    #[cold]
    fn own_answered(&mut self, conn: ConnId, token: u64, cqe: &Cqe) {
        if token == CONNECT { self.connect_answered(conn, cqe) } else { self.witnessed(conn, cqe.status()) }
    }

    fn terminated(&mut self, conn: ConnId, fes: u16, fei: u32) {
        let why = DownReason::Terminated(Termination { fes, fei });
        let Some(link) = self.links.get_mut(conn) else { return };
        match &mut link.stage {
            Stage::Connecting(_) => self.abort_connecting(conn, why),
            Stage::Up(_) => {
                self.lost(conn, why, Socket::Aborting);
                self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
            }
            // Nothing is sent there any more, and the peer will close it.
            Stage::Dialing | Stage::Lost(..) | Stage::Condemned(..) => {}
        }
    }

    fn connect_answered(&mut self, conn: ConnId, cqe: &Cqe) {
        let status = cqe.status();
        let answer = ConnectAnswer::from_dw0(cqe.dw0.get());
        if !status.is_success() {
            let why = DownReason::Refused { text: connect_error(cqe), permanent: is_final(cqe) };
            return self.abort_connecting(conn, why);
        }
        if answer.authentication_required || answer.secure_channel_required {
            let text = "the controller demands in-band authentication, which is not supported yet".to_string();
            return self.abort_connecting(conn, DownReason::Refused { text, permanent: true });
        }
        let Some(link) = self.links.get_mut(conn) else { return };
        if answer.cntlid != link.spec.cntlid && conditions::enabled(Guard::DuplicateCntlid) {
            // Another target answers here: its disks are not those that were looked at.
            let text = format!(
                "Connect of I/O queue {} was answered by controller {:#06x}, not {:#06x}: two targets may answer here",
                link.spec.qid, answer.cntlid, link.spec.cntlid
            );
            return self.abort_connecting(conn, DownReason::Refused { text, permanent: false });
        }
        let stage = core::mem::replace(&mut link.stage, Stage::Dialing);
        match stage {
            Stage::Connecting(queue) => {
                link.stage = Stage::Up(queue);
                self.timers.stop(LaneWhy::Connect(conn));
                let (life, qid) = (link.spec.life, link.spec.qid);
                if let Some(queue) = self.lives.get_mut(link.life).and_then(|life| life.queue_mut(conn)) {
                    queue.up = true;
                }
                self.wake.paths = true;
                self.say(ToControl::QueueUp { life, qid });
            }
            other => link.stage = other,
        }
    }

    pub(super) fn expire(&mut self, now: Instant, why: LaneWhy) {
        match why {
            LaneWhy::Connect(conn) => {
                let Some(link) = self.links.get(conn) else { return };
                let step = match link.stage {
                    Stage::Dialing => "TCP connect",
                    _ => "ICReq or Connect",
                };
                let text = format!("{step} of I/O queue {} had no answer in time", link.spec.qid);
                self.abort_connecting(conn, DownReason::TimedOut(text));
            }
            LaneWhy::Io(conn) => self.io_timeout(now, conn),
            LaneWhy::Retry => self.retry_delayed(),
            LaneWhy::Handover => self.handover_overdue(now),
            LaneWhy::LateGrace(conn) => {
                let Some(link) = self.links.get_mut(conn) else { return };
                if let Stage::Condemned(queue, socket @ (Socket::Watched | Socket::Aborting)) = &mut link.stage {
                    *queue = None;
                    *socket = Socket::Aborting;
                    // Asked again until somebody says that it is gone: only then nothing can leave it.
                    self.timers.set(LaneWhy::LateGrace(conn), now + ABORT_AGAIN);
                    self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
                }
            }
            LaneWhy::LastWords(conn) => {
                let Some(link) = self.links.get_mut(conn) else { return };
                match &mut link.stage {
                    Stage::Lost(_, socket @ Socket::LastWords) => {
                        *socket = Socket::Aborting;
                        self.outputs.push_back(LaneOutput::Conn(ConnAction::Abort(conn)));
                    }
                    Stage::Connecting(_) => {
                        let why = DownReason::Protocol("it was told that it broke the protocol".to_string());
                        self.abort_connecting(conn, why);
                    }
                    Stage::Dialing | Stage::Up(_) | Stage::Lost(..) | Stage::Condemned(..) => {}
                }
            }
        }
    }

    pub(super) fn say(&mut self, message: ToControl) {
        self.outputs.push_back(LaneOutput::ToControl(message));
    }
}

fn depth(spec: &QueueSpec) -> u16 {
    spec.sqsize.clamp(1, MAX_DEPTH)
}

fn connect_error(cqe: &Cqe) -> String {
    let status = cqe.status();
    if status.is(Status::CONNECT_INVALID_PARAMETERS) {
        let what = InvalidParameter::from_dw0(cqe.dw0.get());
        return format!("Connect was refused: {status}: {what}");
    }
    format!("Connect was refused: {status}")
}

/// True if connecting again cannot help. The admin queue of this controller has just been let in, so a refusal of anything
/// that both Connects name (the controller, the host, the subsystem) says that the controller is gone: its target was started
/// again meanwhile. Do Not Retry is about this command then, and the next attempt makes another one.
fn is_final(cqe: &Cqe) -> bool {
    let status = cqe.status();
    let parameter = InvalidParameter::from_dw0(cqe.dw0.get());
    let gone = status.is(Status::CONNECT_INVALID_HOST)
        || status.is(Status::CONNECT_INVALID_PARAMETERS)
            && !matches!(parameter, InvalidParameter::QID | InvalidParameter::SQSIZE);
    status.dnr() && !gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_finds_its_controller_gone_is_no_reason_to_give_the_path_up() {
        let refused = |status: Status, parameter: InvalidParameter| {
            is_final(&Cqe::new(1, 0, status.with_dnr()).with_result(parameter.to_dw0(), 0))
        };
        let silent = InvalidParameter::from_dw0(0);
        for parameter in [
            InvalidParameter::CNTLID,
            InvalidParameter::HOSTID,
            InvalidParameter::HOSTNQN,
            InvalidParameter::SUBNQN,
            silent,
        ] {
            assert!(!refused(Status::CONNECT_INVALID_PARAMETERS, parameter), "{parameter}");
        }
        assert!(!refused(Status::CONNECT_INVALID_HOST, silent), "it is the controller of another host by now");
        for parameter in [InvalidParameter::QID, InvalidParameter::SQSIZE] {
            assert!(
                refused(Status::CONNECT_INVALID_PARAMETERS, parameter),
                "{parameter}: asked for again it is wrong again"
            );
        }
        assert!(refused(Status::INVALID_FIELD, silent));
    }
}
