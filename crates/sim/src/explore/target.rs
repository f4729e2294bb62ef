//! What the target's driver does, one event at a time.

use super::host::named;
use super::state::{End, LinkId, Msg, Owner, Piece, State, Work};
use crate::outbox::Outbox;
use crate::world::{address, payer};
use interlock_base::Span;
use interlock_host_core as host;
use interlock_proto::{SendList, Taken};
use interlock_target_core::{
    ConnId, ControlOutput, Event, LaneId, LaneOutput, MediaId, MediaKind, MediaOp, MediaResult, PortId,
};
use interlock_wire::digest::crc32c_append;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Connections of one owner.
const PER_OWNER: u32 = 1 << 16;

/// The target's name of a connection depends on nothing but the host's name of it: the order in which connections come
/// up makes no difference.
const fn conn_of(id: LinkId) -> ConnId {
    let owner = match id.0 {
        Owner::Control => 0,
        Owner::Lane(lane) => 1 + lane as u32,
    };
    ConnId(owner * PER_OWNER + id.1.0)
}

const fn link_of(conn: ConnId) -> LinkId {
    let owner = match conn.0 / PER_OWNER {
        0 => Owner::Control,
        lane => Owner::Lane(lane as u16 - 1),
    };
    (owner, host::ConnId(conn.0 % PER_OWNER))
}

impl State {
    pub(super) fn accept(&mut self, id: LinkId, port: usize) {
        let now = self.now;
        let lane = &mut self.target_lane.get_mut().lane;
        lane.handle_accepted(now, conn_of(id), PortId(port as u16), address(port), payer(1));
        self.drain_target();
    }

    pub(super) fn arrive_at_target(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(msg) = link.get_mut().to_target.pop_front() else { return };
        match msg.piece {
            Piece::Bytes(bytes) => {
                self.note(|| format!("target  {} <- {} bytes", named(id), bytes.len()));
                if let Some(link) = self.links.get_mut(&id) {
                    link.get_mut().received.extend_from_slice(&bytes);
                }
                self.read_target(id);
            }
            Piece::Fin | Piece::Rst => {
                self.note(|| format!("target  {}: the peer is gone", named(id)));
                self.target_gone(id, None);
                self.target_lane.get_mut().lane.handle_closed(conn_of(id));
            }
        }
        self.drain_target();
        self.sweep();
    }

    /// Offers what was received for as long as something of it is taken.
    fn read_target(&mut self, id: LinkId) {
        loop {
            let Some(link) = self.links.get_mut(&id).filter(|link| link.get().target == End::Open) else { return };
            let bytes = std::mem::take(&mut link.get_mut().received);
            if bytes.is_empty() {
                return;
            }
            let used = self.offer_target(id, &bytes);
            if let Some(link) = self.links.get_mut(&id).filter(|link| link.get().target == End::Open) {
                link.get_mut().received = bytes[used..].to_vec();
            }
            // Buffers are given here, so that it can take more.
            let woken = self.drain_target().contains(&id);
            if used == 0 && !woken {
                return;
            }
        }
    }

    fn offer_target(&mut self, id: LinkId, bytes: &[u8]) -> usize {
        let now = self.now;
        let conn = conn_of(id);
        let mut at = 0;
        while at < bytes.len() {
            let side = self.target_lane.get_mut();
            let taken = match side.lane.handle_bytes(now, conn, &bytes[at..]) {
                Ok(taken) => taken,
                Err(_) => {
                    self.target_gone(id, Some(Piece::Fin));
                    self.target_lane.get_mut().lane.handle_closed(conn);
                    Taken { used: bytes.len() - at, place: None }
                }
            };
            at += taken.used;
            let side = self.target_lane.get_mut();
            if let Some(place) = taken.place {
                let from = &bytes[at..at + place.to.len as usize];
                side.memory.bytes_mut(place.to).copy_from_slice(from);
                let digest = place.digest.map_or(0, |seed| crc32c_append(seed, from));
                side.lane.handle_placed(now, conn, place.to.len, digest);
                at += place.to.len as usize;
            } else if taken.used == 0 || side.lane.is_blocked(conn) {
                break;
            }
        }
        at
    }

    /// Carries out everything that the target wants; answers which connections take bytes again.
    pub(super) fn drain_target(&mut self) -> BTreeSet<LinkId> {
        let mut woken = BTreeSet::new();
        let mut sends = BTreeSet::new();
        loop {
            let now = self.now;
            if let Some(output) = self.target.get_mut().poll_output() {
                match output {
                    ControlOutput::ToLane(_, message) => self.target_lane.get_mut().lane.handle_control(now, message),
                    ControlOutput::ClosePort(_) | ControlOutput::OpenPort(_) => {}
                    ControlOutput::Event(event) => self.target_event(&event),
                }
                continue;
            }
            if let Some(output) = self.target_lane.get_mut().lane.poll_output() {
                self.lane_output(output, &mut woken, &mut sends);
                continue;
            }
            let Some(id) = sends.pop_first() else { break };
            self.flush_target(id);
        }
        woken
    }

    fn lane_output(&mut self, output: LaneOutput, woken: &mut BTreeSet<LinkId>, sends: &mut BTreeSet<LinkId>) {
        let now = self.now;
        match output {
            LaneOutput::ToControl(message) => self.target.get_mut().handle_lane(now, LaneId(0), message),
            LaneOutput::Event(event) => self.target_event(&event),
            LaneOutput::NeedBuffer { conn, slot, len } => {
                let side = self.target_lane.get_mut();
                let buf = side.memory.insert(vec![0; len as usize]);
                side.lane.handle_buffer(now, conn, slot, Span { buf, offset: 0, len });
            }
            LaneOutput::FreeBuffer(buf) => {
                self.target_lane.get_mut().memory.remove(buf);
            }
            LaneOutput::Media(op) => self.begin_media(op),
            LaneOutput::Close { conn } => {
                self.flush_target(link_of(conn));
                self.target_gone(link_of(conn), Some(Piece::Fin));
            }
            LaneOutput::Abort { conn } | LaneOutput::Park { conn } => {
                self.target_gone(link_of(conn), Some(Piece::Rst));
            }
            LaneOutput::SendReady { conn } => {
                sends.insert(link_of(conn));
            }
            LaneOutput::ReadReady { conn } => {
                woken.insert(link_of(conn));
            }
        }
    }

    /// The target's socket exists no more: nothing arrives on it.
    fn target_gone(&mut self, id: LinkId, with: Option<Piece>) {
        let (soon, late) = (self.soon(), self.late());
        let Some(link) = self.links.get_mut(&id) else { return };
        let link = link.get_mut();
        if link.target != End::Open {
            return;
        }
        link.target = End::Gone;
        link.received.clear();
        link.to_target.clear();
        if let Some(piece) = with
            && link.host == End::Open
            && !link.to_host.iter().any(|msg| matches!(msg.piece, Piece::Rst))
        {
            link.to_host.push_back(Msg { piece, due: if link.dead { late } else { soon } });
        }
    }

    fn flush_target(&mut self, id: LinkId) {
        let conn = conn_of(id);
        let now = self.now;
        let (soon, late) = (self.soon(), self.late());
        if !self.links.get(&id).is_some_and(|link| link.get().target == End::Open) {
            return;
        }
        let mut bytes = Vec::new();
        let side = self.target_lane.get_mut();
        loop {
            let mut list = SendList::new();
            side.lane.poll_send(conn, &mut list);
            let mut out = Outbox::default();
            out.fill(&side.memory, &list);
            let ready = out.take(&side.memory, usize::MAX);
            if ready.is_empty() {
                break;
            }
            side.lane.handle_given(now, conn, ready.len() as u64);
            bytes.extend(ready);
        }
        if bytes.is_empty() {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            let link = link.get_mut();
            // A connection that was reset under the target swallows what it says.
            let cut = link.to_host.iter().any(|msg| matches!(msg.piece, Piece::Rst));
            if link.host == End::Open && !cut {
                let due = if link.dead { late } else { soon };
                link.to_host.push_back(Msg { piece: Piece::Bytes(Rc::new(bytes)), due });
            }
        }
    }

    fn target_event(&mut self, event: &Event) {
        self.note(|| format!("target  {event:?}"));
        if let Event::Enabled { life } = event {
            self.judge.get_mut().enabled(*life);
        }
        let found = self.judge.get().target_told(self.now, event);
        self.blame(found);
    }

    fn begin_media(&mut self, op: MediaOp) {
        let write = match &op.kind {
            MediaKind::Write { from, .. } => usize::from(self.target_lane.get().memory.bytes(*from)[0]).checked_sub(1),
            _ => None,
        };
        match write {
            Some(write) => {
                let due = self.media_due();
                self.note(|| format!("target  begins W{} for life {}", write + 1, op.life.0));
                self.media.get_mut().insert(op.id, Work { op, write, due });
            }
            None => self.target_lane.get_mut().lane.handle_media_done(self.now, op.id, MediaResult::Done),
        }
    }

    pub(super) fn media_done(&mut self, id: MediaId) {
        let Some(work) = self.media.get_mut().remove(&id) else { return };
        self.note(|| format!("media   W{} takes effect for life {}", work.write + 1, work.op.life.0));
        let found = self.judge.get_mut().effect(self.now, work.write, work.op.life);
        self.blame(found);
        self.target_lane.get_mut().lane.handle_media_done(self.now, id, MediaResult::Done);
        self.drain_target();
    }
}
