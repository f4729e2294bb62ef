//! What the driver of the host does: carries actions of its machines to sockets, and what happens there to the machines.
//!
//! Everything here mirrors the product's drivers; nothing decides.

use crate::checkers::Seen;
use crate::mutation::Tampering;
use crate::net::{HostState, Link, Owner, Piece, Pipe, SEND_QUEUE, Segment, TargetState, Way};
use crate::outbox::Outbox;
use crate::store::Fate;
use crate::world::{Box_, Ev, Machine, Mail, World, address, note};
use crc32c::crc32c_append;
use interlock_base::Instant;
use interlock_check::OpId;
use interlock_host_core::{
    ConnAction, ConnEvent, ConnectionEnd, Dial, DownReason, Job, JobId, JobResult, LaneOutput, LifeId, Output, Release,
    ToControl, ToLane,
};
use interlock_proto::{Segment as SendSegment, SendList};
use std::sync::Arc;
use std::time::Duration;

/// An orderly close waits so long, then the socket is aborted.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

impl World {
    /// Asks control to stay connected through a port.
    pub(crate) fn connect(&mut self, port: usize) {
        if self.process.down || !self.is_wanted(port) {
            return;
        }
        for controller in (port..self.plan.controllers).step_by(self.plan.ports) {
            self.connect_controller(controller);
        }
    }

    pub(crate) fn job_done(&mut self, process: u32, id: JobId) {
        let Some(job) = self.process.finish_job(process, id) else { return };
        let unsynced = matches!(job, Job::RecordLife(_)) && self.tampers(Tampering::RecordNotSynced);
        let fate = self.fate(&job);
        if fate != (Fate::Failed { done: false }) {
            self.process.store.carry_out(process, &job, !unsynced);
        }
        self.stats.mutated |= u64::from(unsynced);
        if fate != Fate::Done {
            self.control.handle_job_done(self.now, id, JobResult::Failed("the disk says no".to_owned()));
            return self.drain_host();
        }
        self.see(&Seen::JobDone(&job));
        let result = match &job {
            Job::Resolve { host, .. } => JobResult::Failed(format!("`{host}` is no address")),
            Job::ConfirmOwner => self.confirm_owner(),
            Job::RecordLife(_) | Job::MarkClean(_) | Job::ForgetLife(_) => JobResult::Done,
        };
        self.control.handle_job_done(self.now, id, result);
        self.drain_host();
    }

    /// Carries out everything that the machines of the host want, until they want nothing.
    pub(crate) fn drain_host(&mut self) {
        if !self.is_others_turn() && self.panics_now() {
            return;
        }
        loop {
            let mut idle = true;
            while let Some(output) = self.control.poll_output() {
                idle = false;
                self.control_output(output);
            }
            for lane in 0..self.lanes.len() {
                while let Some(output) = self.lanes[lane].lane.poll_output() {
                    idle = false;
                    self.lane_output(lane, output);
                }
            }
            while let Some(link) = self.host_flush.pop_front() {
                idle = false;
                self.flush_host(link);
            }
            if idle {
                break;
            }
        }
        self.arm(Machine::HostControl);
        for lane in 0..self.lanes.len() {
            self.arm(Machine::HostLane(lane));
        }
        self.judge_logs();
    }

    fn control_output(&mut self, output: Output) {
        match output {
            Output::Conn(action) => self.act(Owner::Control, action),
            Output::ToLane(lane, message) => {
                let lane = usize::from(lane.0);
                for message in self.tamper_down(lane, message) {
                    self.see(&Seen::ControlSaid(lane, &message));
                    let heard = !self.is_others_turn();
                    if heard && matches!(message, ToLane::OpenQueue(_)) {
                        self.opens_queue(false);
                    }
                    if heard && let (0, ToLane::Settle { life, release: Release::Retry }) = (lane, &message) {
                        self.life_released(*life);
                    }
                    if heard && let (0, ToLane::Guard { entries, .. }) = (lane, &message) {
                        self.guards_published(entries);
                    }
                    self.post(Box_::ToHostLane(lane), Mail::HostDown(message));
                }
            }
            Output::Job(id, job) => {
                if !self.is_others_turn()
                    && let Job::RecordLife(record) = &job
                {
                    self.life_named(record);
                }
                let delay = Duration::from_micros(50 + self.mail_rng.below(20_000)) + self.disk_delay();
                let at = self.process.begin_job(self.now + delay, id, job);
                self.at(at, Ev::Job(self.process.number, id));
            }
            Output::Cut(lane, life) => {
                let mine = |link: &Link| link.owner == Owner::Lane(lane.0) && link.life == Some(life);
                let process = self.process.number;
                let cut =
                    (0..self.links.len()).filter(|at| self.links[*at].process == process && mine(&self.links[*at]));
                for link in cut.collect::<Vec<_>>() {
                    self.end_host(link, true);
                }
                self.control.handle_cut(self.now, lane, life);
            }
            Output::RawClock(life) => self.control.handle_raw_clock(self.now, life, self.raw_now()),
            Output::Event(event) => {
                note!(self, "host: {event}");
                self.host_event(&event.kind);
            }
        }
    }

    fn lane_output(&mut self, lane: usize, output: LaneOutput) {
        match output {
            LaneOutput::Conn(action) => self.act(Owner::Lane(lane as u16), action),
            LaneOutput::ToControl(message) => {
                self.see(&Seen::LaneSaid(lane, &message));
                let heard = !self.is_others_turn();
                if heard && matches!(message, ToControl::QueueUp { .. }) {
                    self.opens_queue(true);
                }
                if heard && let ToControl::Condemned { ledger, .. } = &message {
                    self.ledger(ledger);
                }
                if heard && let ToControl::FlushTold { head, lives } = &message {
                    self.app.cache_loss_told(*head, lives, |change| self.media.holder(change));
                }
                for message in self.tamper_up(lane, message) {
                    self.post(Box_::FromHostLane(lane), Mail::HostUp(message));
                }
            }
            LaneOutput::Done { token, outcome } if self.is_others_turn() => self.others_done(token, outcome),
            LaneOutput::Done { token, outcome } => self.done(lane, token, outcome),
            LaneOutput::FlushLost { head, status } if !self.is_others_turn() => self.flush_lost(head, status),
            LaneOutput::FlushLost { .. } => {}
            LaneOutput::Forward { to, ticket, token, request, past } => {
                self.forward(lane, usize::from(to.0), ticket, OpId(token), request, past);
            }
            LaneOutput::GiveUp { to, ticket, change } => {
                self.give_up_forwarded(lane, usize::from(to.0), ticket, change);
            }
        }
    }

    fn tamper_down(&mut self, lane: usize, message: ToLane) -> Vec<ToLane> {
        match message {
            ToLane::Guard { epoch, entries } if self.tampers(Tampering::GuardsDropped) && lane > 0 => {
                self.stats.mutated |= u64::from(!entries.is_empty());
                vec![ToLane::Guard { epoch, entries: Arc::new(Vec::new()) }]
            }
            ToLane::Condemn { life, policy } if self.tampers(Tampering::SettledAtOnce) => {
                self.stats.mutated = 1;
                vec![ToLane::Condemn { life, policy }, ToLane::Settle { life, release: Release::Retry }]
            }
            message => vec![message],
        }
    }

    fn tamper_up(&mut self, _lane: usize, message: ToControl) -> Vec<ToControl> {
        match message {
            ToControl::Condemned { life, ledger, settled } if self.tampers(Tampering::LedgerTruncated) => {
                self.stats.mutated |= u64::from(!ledger.is_empty());
                vec![ToControl::Condemned { life, ledger: Vec::new(), settled }]
            }
            ToControl::Condemned { life, mut ledger, settled } if self.tampers(Tampering::LedgerShortened) => {
                self.stats.mutated |= u64::from(!ledger.is_empty());
                ledger.pop();
                vec![ToControl::Condemned { life, ledger, settled }]
            }
            ToControl::Condemned { life, ledger, settled } if self.tampers(Tampering::QuietTooEarly) => {
                self.stats.mutated |= u64::from(!ledger.is_empty());
                vec![ToControl::Condemned { life, ledger, settled }, ToControl::Quiet { life, at: self.now }]
            }
            ToControl::Quiet { .. } if self.tampers(Tampering::QuietTooEarly) => Vec::new(),
            message => vec![message],
        }
    }

    fn act(&mut self, owner: Owner, action: ConnAction) {
        let found = |world: &Self, conn| world.by_host.get(&(owner, conn)).copied();
        match action {
            ConnAction::Open(conn, dial) => self.open(owner, conn, &dial),
            ConnAction::Send(conn) => self.host_flush.extend(found(self, conn)),
            ConnAction::StopSending(conn) => {
                if let Some(link) = found(self, conn) {
                    self.links[link].host_out.clear();
                }
            }
            ConnAction::WatchDrain(conn) => {
                let Some(link) = found(self, conn) else { return };
                self.links[link].draining = true;
                let faked = self.tampers(Tampering::DrainFaked) && self.links[link].to_target.queued > 0;
                self.stats.mutated |= u64::from(faked);
                if faked || self.links[link].to_target.queued == 0 {
                    self.after(Duration::from_micros(50), Ev::Drained(link));
                }
            }
            ConnAction::Abort(conn) => {
                if let Some(link) = found(self, conn) {
                    self.end_host(link, true);
                }
                self.tell_conn(owner, conn, ConnEvent::Aborted);
            }
            ConnAction::Close(conn) => {
                let Some(link) = found(self, conn) else { return };
                self.links[link].closing = true;
                self.host_flush.push_back(link);
                self.after(CLOSE_WITHIN, Ev::CloseBy(link));
            }
        }
    }

    pub(crate) fn tell_conn(&mut self, owner: Owner, conn: interlock_host_core::ConnId, event: ConnEvent) {
        note!(self, "host {owner:?} {conn}: {event:?}");
        match owner {
            Owner::Control => self.control.handle_conn(self.now, conn, event),
            Owner::Lane(lane) => self.lanes[usize::from(lane)].lane.handle_conn(self.now, conn, event),
        }
    }

    fn open(&mut self, owner: Owner, conn: interlock_host_core::ConnId, dial: &Dial) {
        let port = (0..self.plan.ports).find(|port| address(*port) == dial.addr).expect("only ports are dialled");
        let life = match owner {
            Owner::Control => None,
            Owner::Lane(lane) => self.opening[usize::from(lane)].pop_front(),
        };
        let link = self.links.len();
        self.links.push(Link {
            process: self.process.number,
            owner,
            conn,
            life,
            port,
            lane: self.net.paths[port].lane,
            host: HostState::Opening,
            target: TargetState::Backlog,
            target_start: self.target_start,
            to_target: Pipe::default(),
            to_host: Pipe::default(),
            host_out: Outbox::default(),
            target_out: Outbox::default(),
            draining: false,
            closing: false,
            aborted: false,
            received: Vec::new(),
            idle: self.now,
            user_timeout: if self.plan.user_timeout { dial.user_timeout } else { Duration::from_secs(900) },
        });
        self.by_host.insert((owner, conn), link);
        let delay = self.net.delay();
        self.after(delay, Ev::Dial(link));
    }

    /// A SYN arrives, or would.
    pub(crate) fn dial(&mut self, link: usize) {
        let Link { port, host, .. } = self.links[link];
        if host != HostState::Opening {
            return;
        }
        let open = self.net.paths[port].open;
        if self.is_silent(link, Way::ToTarget) || self.is_silent(link, Way::ToHost) {
            // Sent again until someone gives up.
            self.after(Duration::from_millis(200), Ev::Dial(link));
            return;
        }
        let delay = self.net.delay();
        self.after(delay, if open { Ev::Up(link) } else { Ev::Refused(link) });
    }

    pub(crate) fn up(&mut self, link: usize) {
        let Link { owner, conn, host, .. } = self.links[link];
        if host != HostState::Opening {
            return;
        }
        self.links[link].host = HostState::Open;
        self.accept(link);
        self.tell_conn(owner, conn, ConnEvent::Up);
        self.host_flush.push_back(link);
        self.drain_host();
    }

    pub(crate) fn refused(&mut self, link: usize) {
        let Link { owner, conn, host, .. } = self.links[link];
        if host != HostState::Opening {
            return;
        }
        self.links[link].host = HostState::Gone;
        if !self.is_ours(link) {
            return;
        }
        self.tell_conn(owner, conn, ConnEvent::Down(DownReason::Unreachable("connection refused".to_owned())));
        self.drain_host();
    }

    fn flush_host(&mut self, link: usize) {
        loop {
            let Link { owner, conn, host, .. } = self.links[link];
            if host != HostState::Open || !self.is_ours(link) {
                return;
            }
            if self.links[link].host_out.is_empty() {
                let mut list = SendList::new();
                match owner {
                    Owner::Control => self.control.poll_send(conn, &mut list),
                    Owner::Lane(lane) => self.lanes[usize::from(lane)].lane.poll_send(conn, &mut list),
                }
                let empty = crate::outbox::Memory::default();
                let memory = match owner {
                    Owner::Control => &empty,
                    Owner::Lane(lane) => &self.lanes[usize::from(lane)].memory,
                };
                self.links[link].host_out.fill(memory, &list);
                self.see_commands(link, &list);
                if self.links[link].host_out.is_empty() {
                    self.links[link].idle = self.now;
                    break;
                }
            }
            let most = if owner == Owner::Control { self.plan.extras.admin_queue } else { SEND_QUEUE };
            let room = most.saturating_sub(self.links[link].to_target.queued);
            if room == 0 {
                // Goes on when something was acknowledged.
                return;
            }
            // Now and then a kernel takes less than it could.
            let short = self.net.rng.percent(6);
            let room = if short { 1 + self.net.rng.below(room.min(700) as u64) as usize } else { room };
            let empty = crate::outbox::Memory::default();
            let memory = match owner {
                Owner::Control => &empty,
                Owner::Lane(lane) => &self.lanes[usize::from(lane)].memory,
            };
            let bytes = self.links[link].host_out.take(memory, room);
            let count = bytes.len() as u64;
            match (self.links[link].life, owner) {
                (Some(life), Owner::Lane(lane)) => self.see(&Seen::Given { lane: usize::from(lane), life }),
                (_, Owner::Control) => self.given_on_admin(link),
                (None, Owner::Lane(_)) => {}
            }
            self.give(link, Way::ToTarget, Piece::Bytes(bytes));
            match owner {
                Owner::Control => self.control.handle_given(self.now, conn, count),
                Owner::Lane(lane) => self.lanes[usize::from(lane)].lane.handle_given(self.now, conn, count),
            }
            if short && !self.links[link].host_out.is_empty() {
                let pause = Duration::from_micros(10 + self.net.rng.below(3000));
                self.after(pause, Ev::FlushHost(link));
                return;
            }
        }
        if self.links[link].closing {
            self.links[link].closing = false;
            self.links[link].host = HostState::Gone;
            self.give(link, Way::ToTarget, Piece::Fin);
        }
    }

    /// Bytes of an admin queue were given to a kernel.
    fn given_on_admin(&mut self, link: usize) {
        if let Some(life) = self.control.life_of(self.links[link].conn) {
            self.see(&Seen::GivenOnAdmin { life });
        }
        if !self.is_others_turn() {
            self.last_words(self.links[link].port);
        }
    }

    /// What lies in the send queues of a life, admin queue included, or waits to be put there. A kernel that goes on sending for a
    /// socket that was aborted has not let go of it.
    pub(crate) fn unsent(&self, life: LifeId) -> usize {
        let of_life = |link: &&Link| match link.owner {
            Owner::Control => self.control.life_of(link.conn) == Some(life),
            Owner::Lane(_) => link.life == Some(life),
        };
        let ours = self.links.iter().filter(|link| link.process == self.process.number);
        ours.filter(of_life).map(|link| link.to_target.queued + usize::from(!link.host_out.is_empty())).sum()
    }

    /// Says which namespaces the commands of an I/O queue go to.
    fn see_commands(&mut self, link: usize, list: &SendList) {
        let Link { life: Some(life), owner: Owner::Lane(lane), idle: queued_since, .. } = self.links[link] else {
            return;
        };
        for segment in &list.segments {
            let SendSegment::Header { start, len } = *segment else { continue };
            let bytes = &list.headers[start as usize..][..len as usize];
            let Some((opcode, nsid)) = command(bytes) else { continue };
            // Nobody else can flush this controller's own cache: it is asked whatever its ANA state, and says no itself.
            if opcode == FLUSH && self.plan.own_caches {
                continue;
            }
            self.see(&Seen::Sent { lane: usize::from(lane), life, nsid, queued_since });
        }
    }

    pub(crate) fn close_by(&mut self, link: usize) {
        if self.links[link].closing {
            self.end_host(link, true);
        }
    }

    pub(crate) fn drained(&mut self, link: usize) {
        let Link { owner, conn, draining, host, .. } = self.links[link];
        let empty = self.links[link].to_target.queued == 0 || self.tampers(Tampering::DrainFaked);
        if !draining || host != HostState::Open || !empty {
            return;
        }
        self.links[link].draining = false;
        self.tell_conn(owner, conn, ConnEvent::SendQueueEmpty);
        self.drain_host();
    }

    pub(crate) fn user_timeout(&mut self, link: usize) {
        let Link { owner, conn, host, user_timeout, .. } = self.links[link];
        let oldest = self.links[link].to_target.segments.iter().find(|segment| !segment.past).map(|s| s.given);
        if host != HostState::Open || self.links[link].to_target.queued == 0 {
            return;
        }
        let Some(oldest) = oldest else { return };
        if oldest + user_timeout > self.now {
            self.at(oldest + user_timeout, Ev::UserTimeout(link));
            return;
        }
        self.end_host(link, true);
        if !self.is_ours(link) {
            return;
        }
        self.tell_conn(
            owner,
            conn,
            ConnEvent::Down(DownReason::Lost(ConnectionEnd::Failed("connection timed out".to_owned()))),
        );
        self.drain_host();
    }

    /// The host's socket exists no more: its send queue is emptied. Copies of what it gave may still be under way.
    pub(crate) fn end_host(&mut self, link: usize, tell: bool) {
        let now = self.now;
        let bound = self.net.bound;
        let delivers = self.tampers(Tampering::AbortDelivers);
        let Link { host, .. } = self.links[link];
        self.links[link].host_out.clear();
        self.links[link].draining = false;
        self.links[link].closing = false;
        if host != HostState::Open {
            self.links[link].host = HostState::Gone;
            return;
        }
        self.links[link].host = HostState::Gone;
        let silent = self.is_silent(link, Way::ToTarget);
        let pipe = &mut self.links[link].to_target;
        if delivers {
            self.stats.mutated |= u64::from(pipe.queued > 0);
            self.give(link, Way::ToTarget, Piece::Fin);
            return;
        }
        self.links[link].aborted = true;
        let pipe = &mut self.links[link].to_target;
        pipe.queued = 0;
        let whole = self.net.rng.percent(50);
        let keep =
            if whole { pipe.segments.len() } else { self.net.rng.below(pipe.segments.len() as u64 + 1) as usize };
        pipe.segments.truncate(keep);
        if silent {
            // Most of it was never more than a retransmission; some may sit in a box on the way.
            if self.net.rng.percent(50) {
                pipe.segments.clear();
            }
            let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
            let late = now + Duration::from_nanos(self.net.rng.below(nanos));
            for segment in &mut pipe.segments {
                segment.past = true;
                segment.at = segment.at.max(late).min(now + bound);
            }
        }
        pipe.segments.retain(|segment| segment.at <= now + bound);
        self.links[link].to_target.armed = None;
        if silent || !tell {
            self.arm_pipe(link, Way::ToTarget);
        } else {
            self.give(link, Way::ToTarget, Piece::Rst);
        }
    }

    /// Bytes, or an end, arrive at the host.
    pub(crate) fn arrive_at_host(&mut self, link: usize, piece: Piece) {
        let Link { owner, conn, host, .. } = self.links[link];
        if host != HostState::Open {
            if matches!(piece, Piece::Bytes(_)) && !matches!(self.links[link].target, TargetState::Gone) {
                self.give(link, Way::ToTarget, Piece::Rst);
            }
            return;
        }
        if !self.is_ours(link) {
            // Nobody reads it any more.
            if !matches!(piece, Piece::Bytes(_)) {
                self.end_host(link, matches!(piece, Piece::Fin));
            }
            return;
        }
        match piece {
            Piece::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let len = self.torn(rest.len());
                    self.offer_host(owner, conn, &rest[..len]);
                    rest = &rest[len..];
                }
            }
            end @ (Piece::Fin | Piece::Rst) => {
                // Who receives a reset answers nothing: the peer may not know of it.
                self.end_host(link, matches!(end, Piece::Fin));
                let how = if matches!(end, Piece::Fin) { ConnectionEnd::Closed } else { ConnectionEnd::Reset };
                self.tell_conn(owner, conn, ConnEvent::Down(DownReason::Lost(how)));
            }
        }
        self.drain_host();
    }

    fn offer_host(&mut self, owner: Owner, conn: interlock_host_core::ConnId, bytes: &[u8]) {
        let now = self.now;
        let mut at = 0;
        while at < bytes.len() {
            let taken = match owner {
                Owner::Control => self.control.handle_bytes(now, conn, &bytes[at..]),
                Owner::Lane(lane) => self.lanes[usize::from(lane)].lane.handle_bytes(now, conn, &bytes[at..]),
            };
            at += taken.used;
            let Some(place) = taken.place else {
                assert!(taken.used > 0, "the host's end of a queue pair always knows where its bytes go");
                continue;
            };
            let Owner::Lane(lane) = owner else { unreachable!("control's data is its own") };
            let from = &bytes[at..at + place.to.len as usize];
            let lane = &mut self.lanes[usize::from(lane)];
            lane.memory.bytes_mut(place.to).copy_from_slice(from);
            let digest = place.digest.map_or(0, |seed| crc32c_append(seed, from));
            lane.lane.handle_placed(now, conn, place.to.len, digest);
            at += place.to.len as usize;
        }
    }

    /// How much of what is there a read returns.
    pub(crate) fn torn(&mut self, len: usize) -> usize {
        if len > 1 && self.net.rng.percent(8) { 1 + self.net.rng.below(len as u64 - 1) as usize } else { len }
    }

    // --- Pipes ---

    pub(crate) fn pipe(&mut self, link: usize, way: Way) -> &mut Pipe {
        match way {
            Way::ToTarget => &mut self.links[link].to_target,
            Way::ToHost => &mut self.links[link].to_host,
        }
    }

    /// A kernel sends.
    pub(crate) fn give(&mut self, link: usize, way: Way, piece: Piece) {
        let now = self.now;
        let delay = self.net.delay();
        let Link { port, user_timeout, .. } = self.links[link];
        let limbo = if way == Way::ToTarget && !self.is_spared_link(link) {
            self.net.paths[port].limbo
        } else {
            Duration::ZERO
        };
        let pipe = self.pipe(link, way);
        let at = pipe.last_at().max(now + delay + limbo);
        let mut watch = false;
        if let Piece::Bytes(bytes) = &piece {
            watch = pipe.queued == 0 && way == Way::ToTarget;
            pipe.queued += bytes.len();
        }
        pipe.segments.push_back(Segment { at, given: now, piece, past: false });
        self.arm_pipe(link, way);
        if watch {
            self.at(now + user_timeout, Ev::UserTimeout(link));
        }
    }

    /// True if nothing comes through this way.
    fn is_silent(&self, link: usize, way: Way) -> bool {
        self.net.paths[self.links[link].port].silent(way) && !self.is_spared_link(link)
    }

    pub(crate) fn arm_pipe(&mut self, link: usize, way: Way) {
        let now = self.now;
        let silent = self.is_silent(link, way);
        let pipe = self.pipe(link, way);
        let Some(first) = pipe.segments.front() else { return };
        if silent && !first.past {
            return;
        }
        let at = first.at.max(now);
        if pipe.armed.is_none_or(|armed: Instant| at < armed) {
            pipe.armed = Some(at);
            self.at(at, Ev::Deliver(link, way));
        }
    }

    pub(crate) fn deliver(&mut self, link: usize, way: Way) {
        let now = self.now;
        let silent = self.is_silent(link, way);
        let pipe = self.pipe(link, way);
        if pipe.armed != Some(now) {
            return;
        }
        pipe.armed = None;
        let due = pipe.segments.front().is_some_and(|first| first.at <= now && (!silent || first.past));
        if due && let Some(segment) = pipe.segments.pop_front() {
            let sender_alive = match way {
                Way::ToTarget => self.links[link].host == HostState::Open,
                Way::ToHost => matches!(self.links[link].target, TargetState::Open(_)),
            };
            if let Piece::Bytes(bytes) = &segment.piece {
                let count = bytes.len();
                let pipe = self.pipe(link, way);
                pipe.queued = pipe.queued.saturating_sub(count);
                if sender_alive {
                    self.acknowledged(link, way);
                }
            }
            match way {
                Way::ToTarget => self.arrive_at_target(link, segment.piece),
                Way::ToHost => self.arrive_at_host(link, segment.piece),
            }
        }
        self.arm_pipe(link, way);
    }

    fn acknowledged(&mut self, link: usize, way: Way) {
        match way {
            Way::ToTarget => {
                if self.links[link].draining && self.links[link].to_target.queued == 0 {
                    let look = Duration::from_micros(self.net.rng.below(2000));
                    self.after(look, Ev::Drained(link));
                }
                if !self.links[link].host_out.is_empty() {
                    let delay = self.net.delay();
                    self.after(delay, Ev::FlushHost(link));
                }
            }
            Way::ToHost => {
                if !self.links[link].target_out.is_empty() {
                    let delay = self.net.delay();
                    self.after(delay, Ev::FlushTarget(link));
                }
            }
        }
    }
}

/// Opcode of Flush.
const FLUSH: u8 = 0;

/// Of a Command Capsule of an I/O command: opcode and namespace. Several PDUs may stand behind each other; the first
/// counts.
fn command(header: &[u8]) -> Option<(u8, u32)> {
    const CAPSULE_COMMAND: u8 = 4;
    const FABRICS: u8 = 0x7f;
    let (kind, opcode) = (*header.first()?, *header.get(8)?);
    let nsid = header.get(12..16)?;
    (kind == CAPSULE_COMMAND && opcode != FABRICS)
        .then(|| (opcode, u32::from_le_bytes([nsid[0], nsid[1], nsid[2], nsid[3]])))
}
