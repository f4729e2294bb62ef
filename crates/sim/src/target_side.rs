//! What the driver of the target does: sockets, buffers, media.

use crate::checkers::Seen;
use crate::media::Failure;
use crate::mix::Kind;
use crate::mutation::Tampering;
use crate::neighbour::is_others;
use crate::net::{HostState, Link, Piece, SEND_QUEUE, TargetState, Way};
use crate::world::{Box_, Ev, Machine, Mail, World, address, note, payer};
use crc32c::crc32c_append;
use interlock_base::Span;
use interlock_check::OpKind;
use interlock_proto::{SendList, Taken};
use interlock_target_core::flush::Ended;
use interlock_target_core::status::{ControllerStage, ControllerView};
use interlock_target_core::{
    ConnId, ControlOutput, Event, LaneOutput, MediaId, MediaKind, MediaOp, MediaResult, PortId, Role, ToLane,
};
use interlock_wire::status::Status;
use std::time::Duration;

/// A flush beside others that have no answer is looked at again after this.
const SETTLE_AGAIN: Duration = Duration::from_micros(100);

impl World {
    /// A connection is established: the target's lane accepts it, unless its port is mute.
    pub(crate) fn accept(&mut self, link: usize) {
        let Link { port, lane, target, .. } = self.links[link];
        if target != TargetState::Backlog || self.net.paths[port].muted {
            return;
        }
        let now = self.target_now();
        let payer = payer(if is_others(&self.links[link]) { 2 } else { 1 });
        let target_lane = &mut self.target_lanes[lane];
        let conn = ConnId(target_lane.next_conn);
        target_lane.next_conn += 1;
        self.links[link].target = TargetState::Open(conn);
        self.links[link].target_start = self.target_start;
        self.by_target.insert((lane, conn), link);
        target_lane.lane.handle_accepted(now, conn, PortId(port as u16), address(port), payer);
        self.drain_target();
        self.read_target(link);
    }

    /// Bytes, or an end, arrive at the target.
    pub(crate) fn arrive_at_target(&mut self, link: usize, piece: Piece) {
        let Link { host, target, port, lane, .. } = self.links[link];
        match piece {
            Piece::Bytes(bytes) => {
                if target == TargetState::Gone {
                    if host == HostState::Open {
                        self.give(link, Way::ToHost, Piece::Rst);
                    }
                    return;
                }
                self.links[link].received.extend_from_slice(&bytes);
                self.read_target(link);
            }
            Piece::Fin | Piece::Rst => match target {
                TargetState::Backlog => self.links[link].target = TargetState::Gone,
                TargetState::Gone => {}
                TargetState::Open(conn) => {
                    // A mute port does not even notice that its peer has left; it does when it speaks again.
                    if self.net.paths[port].muted || self.target_lanes[lane].lane.is_muted(conn) {
                        let later = Duration::from_millis(50);
                        self.net.paths[port].disturbed = true;
                        let at = self.now + later;
                        let pipe = &mut self.links[link].to_target;
                        // In front: what its peer sent after the reset belongs to no connection any more.
                        pipe.segments.push_front(crate::net::Segment {
                            at,
                            given: self.now,
                            piece: Piece::Rst,
                            past: true,
                        });
                        return;
                    }
                    self.forget_target(link);
                    self.target_lanes[lane].lane.handle_closed(conn);
                }
            },
        }
        self.drain_target();
    }

    /// Offers what was received to the lane, in pieces as reads return it.
    fn read_target(&mut self, link: usize) {
        loop {
            let Link { target: TargetState::Open(conn), lane, .. } = self.links[link] else { return };
            let len = self.links[link].received.len();
            let len = if len == 0 { 0 } else { self.torn(len) };
            if len == 0 || self.target_lanes[lane].lane.is_muted(conn) {
                break;
            }
            let bytes: Vec<u8> = self.links[link].received[..len].to_vec();
            let used = self.offer_target(lane, conn, &bytes);
            self.links[link].received.drain(..used);
            self.drain_target();
            if used < len {
                break;
            }
        }
        self.drain_target();
    }

    fn offer_target(&mut self, lane: usize, conn: ConnId, bytes: &[u8]) -> usize {
        let (now, looked) = (self.target_now(), self.target_looked(lane));
        let target = &mut self.target_lanes[lane];
        target.lane.handle_looked(looked);
        let mut at = 0;
        while at < bytes.len() {
            let taken = target.lane.handle_bytes(now, conn, &bytes[at..]).unwrap_or_else(|_| {
                target.condemned.push(conn);
                Taken { used: bytes.len() - at, place: None }
            });
            at += taken.used;
            if let Some(place) = taken.place {
                let from = &bytes[at..at + place.to.len as usize];
                target.memory.bytes_mut(place.to).copy_from_slice(from);
                let digest = place.digest.map_or(0, |seed| crc32c_append(seed, from));
                target.lane.handle_placed(now, conn, place.to.len, digest);
                at += place.to.len as usize;
            } else if taken.used == 0 || target.lane.is_blocked(conn) {
                break;
            }
        }
        at
    }

    /// Carries out everything that the machines of the target want.
    pub(crate) fn drain_target(&mut self) {
        loop {
            let mut idle = true;
            while let Some(output) = self.target.poll_output() {
                idle = false;
                self.target_output(output);
            }
            for lane in 0..self.target_lanes.len() {
                while let Some(output) = self.target_lanes[lane].lane.poll_output() {
                    idle = false;
                    self.target_lane_output(lane, output);
                }
                if let Some(conn) = self.target_lanes[lane].condemned.pop() {
                    idle = false;
                    if let Some(link) = self.by_target.get(&(lane, conn)).copied() {
                        self.close_target(link);
                    }
                    self.target_lanes[lane].lane.handle_closed(conn);
                }
                while let Some(link) = self.target_lanes[lane].to_flush.pop_front() {
                    idle = false;
                    self.flush_target(link);
                }
            }
            if idle {
                break;
            }
        }
        self.arm(Machine::TargetControl);
        for lane in 0..self.target_lanes.len() {
            self.arm(Machine::TargetLane(lane));
        }
    }

    fn target_output(&mut self, output: ControlOutput) {
        match output {
            ControlOutput::ToLane(lane, message) => {
                let message = self.tamper_answer(message);
                let lane = usize::from(lane.0);
                if let Some(message) = self.answer_of_target(lane, message) {
                    self.post(Box_::ToTargetLane(lane), Mail::TargetDown(message));
                }
            }
            ControlOutput::ClosePort(port) => self.net.paths[usize::from(port.0)].open = false,
            ControlOutput::OpenPort(port) => self.open_port(usize::from(port.0)),
            ControlOutput::Event(event) => {
                if let Event::CcrAnswered { status, immediate, .. } = &event {
                    let fake = (status.is_success() && !immediate && self.tampers(Tampering::ImmediateFaked))
                        || (!status.is_success() && self.tampers(Tampering::RefusalAsSuccess));
                    self.chaos.fake_next_answer = fake;
                    self.stats.mutated |= u64::from(fake);
                }
                self.target_event(&event);
            }
        }
    }

    fn tamper_answer(&mut self, message: ToLane) -> ToLane {
        let message = if self.tampers(Tampering::GateByClock) || self.plan.extras.timers_late {
            self.without_lease(message)
        } else {
            message
        };
        match message {
            ToLane::Answer { conn, slot, dw1, data, .. } if self.chaos.fake_next_answer => {
                self.chaos.fake_next_answer = false;
                let dw0 = interlock_wire::ccr::answer(true);
                ToLane::Answer { conn, slot, status: Status::SUCCESS, dw0, dw1, data }
            }
            message => message,
        }
    }

    fn without_lease(&mut self, mut message: ToLane) -> ToLane {
        let (ToLane::Admit { role: Role::Io { until, .. }, .. }
        | ToLane::Lease { until, .. }
        | ToLane::Cut { until, .. }) = &mut message
        else {
            return message;
        };
        let taken = until.take().is_some();
        self.stats.mutated |= u64::from(taken && self.tampers(Tampering::GateByClock));
        message
    }

    fn target_event(&mut self, event: &Event) {
        note!(self, "target: {event:?}");
        match event {
            Event::ControllerCreated { cntlid, port, .. } => self.controller_created(*cntlid, *port),
            Event::Enabled { life } => self.life_enabled(*life),
            Event::Fenced { life, .. } => {
                let shut_down = |view: &ControllerView| {
                    let of = view.cntlid == life.cntlid && view.subsystem == Some(life.subsystem);
                    of && view.stage == ControllerStage::ShutDown
                };
                let orderly = self.target.controller_views().any(|view| shut_down(&view));
                self.media.life_over(*life, orderly);
            }
            Event::GhostArmed(_) => self.stats.ghosts_armed += 1,
            Event::GhostRefused { .. } => self.stats.ghosts_refused += 1,
            Event::GhostExecuted(_) => self.stats.ghosts_executed += 1,
            _ => {}
        }
        self.lives_at_target(event);
        if !self.asked_by_other(event) {
            self.see(&Seen::Target(event));
        }
    }

    fn target_lane_output(&mut self, lane: usize, output: LaneOutput) {
        let found = |world: &Self, conn| world.by_target.get(&(lane, conn)).copied();
        match output {
            LaneOutput::ToControl(message) => {
                if let Some(message) = self.asked_of_target(lane, message) {
                    self.post(Box_::FromTargetLane(lane), Mail::TargetUp(message));
                }
            }
            LaneOutput::Event(event) => self.target_event(&event),
            LaneOutput::NeedBuffer { conn, slot, len } => {
                let now = self.target_now();
                let target = &mut self.target_lanes[lane];
                let buf = target.memory.insert(vec![0; len as usize]);
                target.lane.handle_buffer(now, conn, slot, Span { buf, offset: 0, len });
            }
            LaneOutput::FreeBuffer(buf) => {
                self.target_lanes[lane].memory.remove(buf);
            }
            LaneOutput::Media(op) => self.begin_media(lane, op),
            LaneOutput::Close { conn } => {
                if let Some(link) = found(self, conn) {
                    self.close_target(link);
                }
            }
            LaneOutput::Abort { conn } => {
                if let Some(link) = found(self, conn) {
                    self.forget_target(link);
                    self.give(link, Way::ToHost, Piece::Rst);
                }
            }
            LaneOutput::Park { conn } => {
                if let Some(link) = found(self, conn) {
                    self.links[link].target_out.clear();
                }
            }
            LaneOutput::SendReady { conn } => {
                let link = found(self, conn);
                self.target_lanes[lane].to_flush.extend(link);
            }
            LaneOutput::ReadReady { conn } => {
                if let Some(link) = found(self, conn)
                    && !self.links[link].received.is_empty()
                {
                    // In the next turn: this one is draining outputs.
                    let at = self.now;
                    let pipe = &mut self.links[link].to_target;
                    let segment = crate::net::Segment { at, given: at, piece: Piece::Bytes(Vec::new()), past: true };
                    pipe.segments.push_front(segment);
                    pipe.armed = None;
                    self.arm_pipe(link, Way::ToTarget);
                }
            }
        }
    }

    /// Sends what was polled, then ends in order.
    fn close_target(&mut self, link: usize) {
        self.flush_target(link);
        let Link { target: TargetState::Open(_), lane, .. } = self.links[link] else { return };
        let rest = self.links[link].target_out.take(&self.target_lanes[lane].memory, usize::MAX);
        if !rest.is_empty() {
            self.give(link, Way::ToHost, Piece::Bytes(rest));
        }
        self.forget_target(link);
        self.give(link, Way::ToHost, Piece::Fin);
    }

    /// The target's socket exists no more.
    pub(crate) fn forget_target(&mut self, link: usize) {
        if let TargetState::Open(conn) = self.links[link].target {
            let lane = self.links[link].lane;
            self.by_target.remove(&(lane, conn));
        }
        let entry = &mut self.links[link];
        entry.target = TargetState::Gone;
        entry.target_out.clear();
        entry.received.clear();
    }

    fn flush_target(&mut self, link: usize) {
        loop {
            let Link { target: TargetState::Open(conn), lane, .. } = self.links[link] else { return };
            let target = &mut self.target_lanes[lane];
            if target.lane.is_muted(conn) {
                return;
            }
            if self.links[link].target_out.is_empty() {
                let mut list = SendList::new();
                target.lane.poll_send(conn, &mut list);
                self.links[link].target_out.fill(&target.memory, &list);
                if self.links[link].target_out.is_empty() {
                    return;
                }
            }
            let room = SEND_QUEUE.saturating_sub(self.links[link].to_host.queued);
            if room == 0 {
                return;
            }
            let short = self.net.rng.percent(4);
            let room = if short { 1 + self.net.rng.below(room.min(700) as u64) as usize } else { room };
            let bytes = self.links[link].target_out.take(&self.target_lanes[lane].memory, room);
            let count = bytes.len() as u64;
            self.give(link, Way::ToHost, Piece::Bytes(bytes));
            let now = self.target_now();
            self.target_lanes[lane].lane.handle_given(now, conn, count);
            if short && !self.links[link].target_out.is_empty() {
                let pause = Duration::from_micros(10 + self.net.rng.below(3000));
                self.after(pause, Ev::FlushTarget(link));
                return;
            }
        }
    }

    /// A script may have silenced a port, or given it its voice back.
    pub(crate) fn mute_as_scripted(&mut self, lane: usize) {
        for port in 0..self.plan.ports {
            if self.net.paths[port].lane != lane {
                continue;
            }
            let muted = self.target_lanes[lane].lane.is_port_muted(PortId(port as u16));
            if std::mem::replace(&mut self.net.paths[port].muted, muted) && !muted {
                for link in 0..self.links.len() {
                    if self.links[link].port == port && self.links[link].host == HostState::Open {
                        self.accept(link);
                    }
                }
            }
        }
    }

    // --- Media ---

    fn begin_media(&mut self, lane: usize, op: MediaOp) {
        note!(self, "media: begins {op:?}");
        let data = match &op.kind {
            MediaKind::Write { from, .. } => self.target_lanes[lane].memory.bytes(*from).to_vec(),
            _ => Vec::new(),
        };
        let changes =
            matches!(op.kind, MediaKind::Write { .. } | MediaKind::Zero { .. } | MediaKind::Deallocate { .. });
        let early = changes && self.tampers(Tampering::MediaDoneTooEarly);
        let id = op.id;
        // A driver lets go of a namespace that was taken away before it is given another: nothing of the one before reaches it.
        let key = op.namespace;
        let now_there = self.target.namespaces(key.subsystem).and_then(|all| all.serial(key.nsid));
        // One that has another name now is what it was.
        if !self.is_renamed() && self.target_lanes[lane].lane.serial(key) != now_there {
            return self.finish_media(lane, id, MediaResult::Gone);
        }
        let disk = self.app.mounted_number(op.namespace.subsystem.0, op.namespace.nsid);
        let (key, delay) = self.media.begin(lane, disk, op, data, early);
        self.after(delay, Ev::Media(lane, key));
        if early {
            self.stats.mutated = 1;
            self.finish_media(lane, id, MediaResult::Done);
        }
    }

    /// An operation takes effect, and is over.
    pub(crate) fn media_done(&mut self, lane: usize, key: u64) {
        // What a target that was switched off had begun never happens.
        let Some(mut work) = self.media.take(key) else { return };
        match self.media.end_flush(&mut work) {
            None | Some(Ended::Durable) => {}
            Some(Ended::Lost) => {
                note!(self, "media: a flush fails");
                self.met(Kind::FlushLoses);
                let result = self.media.flush_result();
                self.finish_media(lane, work.op.id, result);
                return self.drain_target();
            }
            Some(Ended::Unsure(_)) => {
                self.media.put_back(key, work);
                return self.after(SETTLE_AGAIN, Ev::Media(lane, key));
            }
        }
        let blocks = self
            .target
            .namespaces(work.op.namespace.subsystem)
            .and_then(|all| all.get(work.op.namespace.nsid))
            .map_or(0, |namespace| namespace.blocks);
        if let Some(Failure { result, applied: false }) = work.fails {
            note!(self, "media: {:?} fails, and nothing is changed", work.op.kind);
            if !work.early {
                self.finish_media(lane, work.op.id, result);
            }
            return self.drain_target();
        }
        let life = self.app.life(work.op.life);
        let mut ops = Vec::new();
        for (range, kind, data) in work.changes() {
            if self.is_others_change(range.start, kind, data, life) {
                continue;
            }
            let op = self.app.executed(work.disk, &range, kind, data, self.now);
            self.one_disk_one_head(work.disk, op);
            note!(self, "media: {kind:?} {range:?} of {op:?} takes effect for {life}");
            // Zeroes carry no name: which of several that asked for them is only the kindest guess.
            let certain = op.filter(|_| kind == OpKind::Write);
            self.see(&Seen::Executed { op: certain, nsid: work.disk as u32 + 1, range: range.clone(), life });
            self.app.white_box_executed(op, life, self.now);
            ops.push(op);
        }
        let memory = &mut self.target_lanes[lane].memory;
        let result = self.media.apply(&work, life, blocks, memory);
        self.stats.mutated |= u64::from(self.media.skipped);
        for op in ops.into_iter().flatten() {
            self.app.applied(op, self.media.changes(), self.plan.own_caches);
        }
        if !work.early {
            let failed = work.fails.map(|failure| failure.result);
            self.finish_media(lane, work.op.id, failed.unwrap_or(result));
        }
        self.drain_target();
    }

    fn finish_media(&mut self, lane: usize, id: MediaId, result: MediaResult) {
        let now = self.target_now();
        self.target_lanes[lane].lane.handle_media_done(now, id, result);
    }
}
