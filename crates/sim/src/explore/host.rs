//! What the host's driver does, one event at a time.

use super::scene::Death;
use super::state::{Action, End, Fate, Link, LinkId, Machine, Msg, Owner, Part, Piece, State};
use crate::outbox::{Memory, Outbox};
use crate::world::address;
use interlock_base::{Instant, Span};
use interlock_host_core as host;
use interlock_host_core::{ConnAction, ConnEvent, ConnectionEnd, DownReason, Job, JobResult, LaneOutput, Output};
use interlock_proto::SendList;
use interlock_target_core as target;
use interlock_wire::digest::crc32c_append;
use std::collections::VecDeque;
use std::rc::Rc;

/// Never at the latest.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl State {
    /// One thing happens, and everything that the machines want at once.
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Submit(write) => self.submit(write),
            Action::Abandon(write) => self.abandon(write),
            Action::Die(port) => self.die(port),
            Action::ToLane(lane) => self.mail_to_lane(lane),
            Action::FromLane(lane) => self.mail_from_lane(lane),
            Action::Job(job) => {
                self.jobs.get_mut().remove(&job);
                self.note(|| "disk    done".to_owned());
                self.control.get_mut().handle_job_done(self.now, job, JobResult::Done);
                self.drain_control();
            }
            Action::Dial(link) => self.dial(link),
            Action::ToTarget(link) => self.arrive_at_target(link),
            Action::ToHost(link) => self.arrive_at_host(link),
            Action::LoseToTarget(link) => {
                self.note(|| format!("network {}: what was under way to the target is lost", named(link)));
                if let Some(link) = self.links.get_mut(&link) {
                    link.get_mut().to_target.retain(|msg| !matches!(msg.piece, Piece::Bytes(_)));
                }
                self.sweep();
            }
            Action::LoseToHost(link) => {
                self.note(|| format!("network {}: what was under way to the host is lost", named(link)));
                if let Some(link) = self.links.get_mut(&link) {
                    link.get_mut().to_host.retain(|msg| !matches!(msg.piece, Piece::Bytes(_)));
                }
            }
            Action::Drained(link) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.get_mut().watched = false;
                }
                self.tell(link, ConnEvent::SendQueueEmpty);
            }
            Action::Media(id) => self.media_done(id),
            Action::Release => {
                self.released = true;
                self.note(|| "target  goes on with every write it held".to_owned());
                self.target.get_mut().script(target::Fault::Release);
                self.drain_target();
            }
            Action::Timer(machine) => self.timer(machine),
        }
    }

    fn timer(&mut self, machine: Machine) {
        let deadlines = match machine {
            Machine::HostControl => self.control.get().next_deadline().map(|d| (d.at, d.why.to_string())),
            Machine::HostLane(lane) => {
                self.lanes[usize::from(lane)].get().lane.next_deadline().map(|d| (d.at, format!("{:?}", d.why)))
            }
            Machine::TargetControl => self.target.get().next_deadline().map(|d| (d.at, format!("{:?}", d.why))),
            Machine::TargetLane => self.target_lane.get().lane.next_deadline().map(|d| (d.at, format!("{:?}", d.why))),
        };
        let Some((at, why)) = deadlines else { return };
        if at > self.now {
            self.now = at;
            // Time has passed: it is too late for a second path to die in the same moment.
            for fate in &mut self.fates {
                if *fate == Fate::Alive {
                    *fate = Fate::Spared;
                }
            }
            if self.now > self.began + self.horizon() {
                let text = self.unfinished();
                self.blame(Some(super::judge::wrong(self.now, "every_wait_has_a_deadline", text)));
            }
        }
        self.note(|| format!("timer   {machine:?}: {why}"));
        let now = self.now;
        match machine {
            Machine::HostControl => {
                self.control.get_mut().handle_timeout(now);
                self.drain_control();
            }
            Machine::HostLane(lane) => {
                self.lanes[usize::from(lane)].get_mut().lane.handle_timeout(now);
                self.drain_lane(lane);
            }
            Machine::TargetControl => {
                self.target.get_mut().handle_timeout(now);
                self.drain_target();
            }
            Machine::TargetLane => {
                self.target_lane.get_mut().lane.handle_timeout(now);
                self.drain_target();
            }
        }
    }

    pub(super) fn submit(&mut self, write: usize) {
        let lane = self.scene.writes[write].lane;
        let Some(head) = self.head else { return };
        let side = self.lanes[usize::from(lane)].get_mut();
        let mut data = vec![0; 512];
        data[0] = write as u8 + 1;
        let buf = side.memory.insert(data);
        let request = host::Request {
            head,
            op: host::Op::Write { fua: false },
            slba: 0,
            nlb: 1,
            data: Some(Span { buf, offset: 0, len: 512 }),
        };
        let taken = side.lane.submit(self.now, request, write as u64);
        self.note(|| format!("app     W{} on lane{lane}", write + 1));
        self.judge.get_mut().taken(lane, write);
        if let Err(refused) = taken {
            let found = self.judge.get_mut().ended(self.now, write, host::Outcome::NotSent(refused));
            self.blame(found);
        }
        self.drain_lane(lane);
    }

    fn abandon(&mut self, write: usize) {
        let lane = self.scene.writes[write].lane;
        self.note(|| format!("app     gives W{} up", write + 1));
        self.judge.get_mut().writes[write].abandoned = true;
        let now = self.now;
        self.lanes[usize::from(lane)].get_mut().lane.abandon(now, write as u64);
        self.drain_lane(lane);
    }

    /// A path dies.
    fn die(&mut self, port: usize) {
        self.fates[port] = Fate::Dead;
        let death = self.scene.deaths[port];
        self.note(|| format!("network path {} dies ({death:?})", name(port)));
        // A new controller appears on A; B stays closed.
        self.open_ports[port] = port == 0;
        if port == 0 && self.scene.stalls {
            // What is held stays held; what comes later is not.
            self.target.get_mut().script(target::Fault::StopHolding { port: target::PortId(0) });
            self.drain_target();
        }
        let (soon, late) = (self.soon(), self.late());
        let links: Vec<LinkId> = self.links.iter().filter(|(_, l)| l.get().port == port).map(|(id, _)| *id).collect();
        for id in links {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let link = link.get_mut();
            link.dead = true;
            for msg in &mut link.to_target {
                msg.due = late;
            }
            let is_lost = death != Death::Admin || id.0 == Owner::Control;
            if is_lost {
                for msg in &mut link.to_host {
                    msg.due = soon;
                }
                link.to_host.push_back(Msg { piece: Piece::Rst, due: soon });
            } else {
                for msg in &mut link.to_host {
                    msg.due = late;
                }
            }
            if death == Death::ResetHeard {
                link.to_target.push_back(Msg { piece: Piece::Rst, due: NEVER });
            }
        }
    }

    fn mail_to_lane(&mut self, lane: u16) {
        let at = usize::from(lane);
        let Some((_, message)) = self.to_lane[at].get_mut().pop_front() else { return };
        self.note(|| format!("lane{lane}   <- {}", brief(&message)));
        self.judge.get_mut().lane_takes(lane, &message);
        let now = self.now;
        let side = self.lanes[at].get_mut();
        if let host::ToLane::OpenQueue(spec) = &message {
            side.opening.push_back(spec.life);
        }
        side.lane.handle_control(now, message);
        self.drain_lane(lane);
        // A queue that the lane refuses to open, because its life is ending, has no connection.
        if !self.lanes[at].get().opening.is_empty() {
            self.lanes[at].get_mut().opening.clear();
        }
    }

    fn mail_from_lane(&mut self, lane: u16) {
        let Some((_, message)) = self.from_lane[usize::from(lane)].get_mut().pop_front() else { return };
        self.note(|| format!("control <- lane{lane} {}", brief(&message)));
        self.judge.get_mut().control_takes(lane, &message);
        self.control.get_mut().handle_lane(self.now, host::LaneId(lane), message);
        self.drain_control();
    }

    pub(super) fn drain_control(&mut self) {
        let mut sends = VecDeque::new();
        loop {
            while let Some(output) = self.control.get_mut().poll_output() {
                match output {
                    Output::Conn(action) => self.act(Owner::Control, action, &mut sends),
                    Output::ToLane(lane, message) => {
                        self.judge.get_mut().control_says(&message);
                        let due = self.soon();
                        self.to_lane[usize::from(lane.0)].get_mut().push_back((due, message));
                    }
                    Output::Job(id, Job::RecordLife(_) | Job::ConfirmOwner | Job::Resolve { .. }) => {
                        let due = self.soon();
                        self.jobs.get_mut().insert(id, due);
                    }
                    // Nobody waits for these.
                    Output::Job(id, Job::MarkClean(_) | Job::ForgetLife(_)) => {
                        self.control.get_mut().handle_job_done(self.now, id, JobResult::Done);
                    }
                    Output::Cut(lane, life) => {
                        let mine = |(id, link): (&LinkId, &Part<Link>)| {
                            (id.0 == Owner::Lane(lane.0) && link.get().life == Some(life)).then_some(*id)
                        };
                        for id in self.links.iter().filter_map(mine).collect::<Vec<_>>() {
                            self.host_gone(id, Some(Piece::Rst));
                        }
                        self.control.get_mut().handle_cut(self.now, lane, life);
                    }
                    Output::RawClock(life) => self.control.get_mut().handle_raw_clock(self.now, life, self.now),
                    Output::Event(event) => self.host_event(&event.kind),
                }
            }
            let Some(conn) = sends.pop_front() else { break };
            self.flush((Owner::Control, conn));
        }
    }

    pub(super) fn drain_lane(&mut self, lane: u16) {
        let mut sends = VecDeque::new();
        loop {
            while let Some(output) = self.lanes[usize::from(lane)].get_mut().lane.poll_output() {
                match output {
                    LaneOutput::Conn(action) => self.act(Owner::Lane(lane), action, &mut sends),
                    LaneOutput::ToControl(message) => {
                        self.judge.get_mut().lane_says(&message);
                        let due = self.soon();
                        self.from_lane[usize::from(lane)].get_mut().push_back((due, message));
                    }
                    LaneOutput::Forward { to, .. } | LaneOutput::GiveUp { to, .. } => {
                        unreachable!("lane{lane} asks {to}, in a world in which each lane has a queue")
                    }
                    LaneOutput::FlushLost { .. } => {}
                    LaneOutput::Done { token, outcome } => {
                        self.note(|| format!("app     W{} ends: {outcome:?}", token + 1));
                        let found = self.judge.get_mut().ended(self.now, token as usize, outcome);
                        self.blame(found);
                    }
                }
            }
            let Some(conn) = sends.pop_front() else { break };
            self.flush((Owner::Lane(lane), conn));
        }
    }

    fn host_event(&mut self, event: &host::EventKind) {
        self.note(|| format!("host    {event}"));
        if let host::EventKind::NamespaceAdded { head, .. } = event {
            self.head = Some(*head);
        }
        let open = &self.target_lane.get().lane;
        let media = self.media.get();
        let executable = |life: target::LifeId| {
            open.lives().filter(|(id, open)| *id == life && *open).count()
                + media.values().filter(|work| work.op.life == life).count()
        };
        let found = self.judge.get_mut().told(self.now, event, executable);
        self.blame(found);
    }

    fn act(&mut self, owner: Owner, action: ConnAction, sends: &mut VecDeque<host::ConnId>) {
        match action {
            ConnAction::Open(conn, dial) => {
                let port = (0..2).find(|port| address(*port) == dial.addr).expect("only ports are dialled");
                let life = match owner {
                    Owner::Control => None,
                    Owner::Lane(lane) => self.lanes[usize::from(lane)].get_mut().opening.pop_front(),
                };
                let link = Link {
                    port,
                    life,
                    host: End::Opening,
                    target: End::Opening,
                    to_target: VecDeque::new(),
                    to_host: VecDeque::new(),
                    watched: false,
                    dead: false,
                    received: Vec::new(),
                };
                self.links.insert((owner, conn), Part::new(link));
            }
            ConnAction::Send(conn) => sends.push_back(conn),
            // A kernel takes all it is offered: nothing was polled and not given.
            ConnAction::StopSending(_) => {}
            ConnAction::WatchDrain(conn) => {
                if let Some(link) = self.links.get_mut(&(owner, conn)) {
                    link.get_mut().watched = true;
                }
            }
            ConnAction::Abort(conn) => {
                self.host_gone((owner, conn), Some(Piece::Rst));
                let now = self.now;
                match owner {
                    Owner::Control => self.control.get_mut().handle_conn(now, conn, ConnEvent::Aborted),
                    Owner::Lane(lane) => {
                        self.lanes[usize::from(lane)].get_mut().lane.handle_conn(now, conn, ConnEvent::Aborted);
                    }
                }
            }
            ConnAction::Close(conn) => {
                self.flush((owner, conn));
                self.host_gone((owner, conn), Some(Piece::Fin));
            }
        }
    }

    /// Sends everything that is ready, as one message.
    fn flush(&mut self, id: LinkId) {
        let (owner, conn) = id;
        let Some(link) = self.links.get(&id) else { return };
        if link.get().host != End::Open {
            return;
        }
        let life = link.get().life;
        let now = self.now;
        let mut bytes = Vec::new();
        loop {
            let mut list = SendList::new();
            let mut out = Outbox::default();
            let ready = match owner {
                Owner::Control => {
                    self.control.get_mut().poll_send(conn, &mut list);
                    out.fill(&Memory::default(), &list);
                    out.take(&Memory::default(), usize::MAX)
                }
                Owner::Lane(lane) => {
                    let side = self.lanes[usize::from(lane)].get_mut();
                    side.lane.poll_send(conn, &mut list);
                    out.fill(&side.memory, &list);
                    out.take(&side.memory, usize::MAX)
                }
            };
            let count = ready.len() as u64;
            if count == 0 {
                break;
            }
            bytes.extend(ready);
            match owner {
                Owner::Control => self.control.get_mut().handle_given(now, conn, count),
                Owner::Lane(lane) => self.lanes[usize::from(lane)].get_mut().lane.handle_given(now, conn, count),
            }
        }
        if bytes.is_empty() {
            return;
        }
        if let (Some(life), Owner::Lane(lane)) = (life, owner) {
            let found = self.judge.get().given(now, lane, life);
            self.blame(found);
        }
        let (soon, late) = (self.soon(), self.late());
        if let Some(link) = self.links.get_mut(&id) {
            let link = link.get_mut();
            if link.target != End::Gone {
                let due = if link.dead { late } else { soon };
                link.to_target.push_back(Msg { piece: Piece::Bytes(Rc::new(bytes)), due });
            }
        }
    }

    /// The host's socket exists no more. What it sent may still be under way.
    pub(super) fn host_gone(&mut self, id: LinkId, with: Option<Piece>) {
        let (late, soon) = (self.late(), self.soon());
        let Some(link) = self.links.get_mut(&id) else { return };
        let link = link.get_mut();
        let was_open = link.host == End::Open;
        link.host = End::Gone;
        link.watched = false;
        link.to_host.clear();
        if link.target == End::Opening {
            link.to_target.clear();
        }
        // An orderly end delivers everything; an abort empties the send queue, but not the network.
        let orderly = with == Some(Piece::Fin) && !link.dead;
        if !orderly {
            link.dead = true;
            for msg in &mut link.to_target {
                if msg.due != NEVER {
                    msg.due = msg.due.max(late);
                }
            }
        }
        let heard = self.scene.deaths[link.port] == Death::ResetHeard || self.fates[link.port] != Fate::Dead;
        if let Some(piece) = with
            && was_open
            && link.target == End::Open
            && (orderly || heard)
        {
            link.to_target.push_back(Msg { piece, due: if orderly { soon } else { NEVER } });
        }
        self.sweep();
    }

    fn dial(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let port = link.get().port;
        if !self.open_ports[port] {
            link.get_mut().host = End::Gone;
            self.note(|| format!("network {}: refused by port {}", named(id), name(port)));
            self.sweep();
            return self.tell(id, ConnEvent::Down(DownReason::Unreachable("connection refused".to_owned())));
        }
        link.get_mut().host = End::Open;
        link.get_mut().target = End::Open;
        self.note(|| format!("network {}: connected to port {}", named(id), name(port)));
        self.accept(id, port);
        self.tell(id, ConnEvent::Up);
    }

    pub(super) fn tell(&mut self, id: LinkId, event: ConnEvent) {
        let (owner, conn) = id;
        self.note(|| format!("host    {}: {event:?}", named(id)));
        let now = self.now;
        match owner {
            Owner::Control => {
                self.control.get_mut().handle_conn(now, conn, event);
                self.drain_control();
            }
            Owner::Lane(lane) => {
                self.lanes[usize::from(lane)].get_mut().lane.handle_conn(now, conn, event);
                self.drain_lane(lane);
            }
        }
    }

    fn arrive_at_host(&mut self, id: LinkId) {
        let Some(msg) = self.links.get_mut(&id).and_then(|link| link.get_mut().to_host.pop_front()) else { return };
        match msg.piece {
            Piece::Bytes(bytes) => {
                let (owner, conn) = id;
                let now = self.now;
                let mut at = 0;
                while at < bytes.len() {
                    let taken = match owner {
                        Owner::Control => self.control.get_mut().handle_bytes(now, conn, &bytes[at..]),
                        Owner::Lane(lane) => {
                            self.lanes[usize::from(lane)].get_mut().lane.handle_bytes(now, conn, &bytes[at..])
                        }
                    };
                    at += taken.used;
                    let Some(place) = taken.place else {
                        assert!(taken.used > 0, "the host's end of a queue pair always knows where its bytes go");
                        continue;
                    };
                    let Owner::Lane(lane) = owner else { unreachable!("control's data is its own") };
                    let from = &bytes[at..at + place.to.len as usize];
                    let side = self.lanes[usize::from(lane)].get_mut();
                    side.memory.bytes_mut(place.to).copy_from_slice(from);
                    let digest = place.digest.map_or(0, |seed| crc32c_append(seed, from));
                    side.lane.handle_placed(now, conn, place.to.len, digest);
                    at += place.to.len as usize;
                }
                self.note(|| format!("host    {} <- {} bytes", named(id), bytes.len()));
                match owner {
                    Owner::Control => self.drain_control(),
                    Owner::Lane(lane) => self.drain_lane(lane),
                }
            }
            Piece::Fin | Piece::Rst => {
                self.host_gone(id, None);
                self.tell(id, ConnEvent::Down(DownReason::Lost(ConnectionEnd::Reset)));
            }
        }
    }
}

/// A connection, for people.
pub(super) fn named(id: LinkId) -> String {
    match id.0 {
        Owner::Control => format!("admin {}", id.1),
        Owner::Lane(lane) => format!("lane{lane} {}", id.1),
    }
}

pub(super) const fn name(port: usize) -> char {
    if port == 0 { 'A' } else { 'B' }
}

/// The first words of a message: tables are long and say little.
fn brief(message: &impl std::fmt::Debug) -> String {
    let text = format!("{message:?}");
    let cut = text.char_indices().nth(160).map_or(text.len(), |(at, _)| at);
    if cut < text.len() { format!("{}...", &text[..cut]) } else { text }
}
