//! The way of a command: from the queue to the gate, with everything checked and its data in place.

use super::conn::{Held, Slot, Stage, Want};
use super::gate::{Checked, Inside, Task};
use super::nvm::{self, Parsed};
use super::{Lane, LaneOutput, unread};
use crate::config::{ADMIN_DATA_MAX, CONTROLLER_BYTES};
use crate::message::ToControl;
use crate::{BlockRange, ConnId, Event, Failure, LifeId, PortId, Work};
use alloc::vec::Vec;
use interlock_base::{Instant, Span};
use interlock_proto::target::Transfer;
use interlock_proto::{Sink, Source};
use interlock_wire::fabrics::{Connect, FCTYPE_CONNECT};
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

impl Lane {
    /// Refuses or completes a command. A span is what the host gets.
    pub(super) fn answer(&mut self, conn: ConnId, slot: u16, status: Status, data: Option<Span>) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        known.set(slot, Slot::Answering(data.map_or(Held::Nothing, Held::Span)));
        known.queue.respond(slot, status, 0, 0, data.map_or(Source::None, Source::Span));
        self.after(conn);
    }

    pub(super) fn command(&mut self, now: Instant, conn: ConnId, slot: u16, sqe: Sqe, transfer: Transfer) {
        let Some(known) = self.conns.get(&conn) else { return };
        let (stage, port) = (known.stage, known.port);
        let at = unread::arrived(known.unread, self.looked, now);
        let connect = sqe.is_fabrics() && sqe.fctype() == FCTYPE_CONNECT;
        let outcome = match stage {
            Stage::Over => return,
            Stage::New if connect => match transfer {
                // What it takes is charged to the connection as such: there are few at once.
                Transfer::FromHost { len: 1024, .. } => {
                    self.set(conn, slot, Slot::Collecting(sqe, 0));
                    self.receive(conn, slot, Sink::Bytes(1024));
                    Ok(())
                }
                _ => Err(Status::SGL_DATA_LENGTH_INVALID.with_dnr()),
            },
            Stage::New | Stage::Connecting => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
            Stage::Admin | Stage::Io(_) if connect => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
            Stage::Admin => self.admin(at, conn, slot, sqe, transfer),
            Stage::Io(life) => {
                self.heard(at, life);
                self.io(now, (conn, slot), port, life, &sqe, transfer)
            }
        };
        if let Err(status) = outcome {
            if let Stage::Io(_) = stage {
                let lba = u64::from(sqe.cdw11.get()) << 32 | u64::from(sqe.cdw10.get());
                self.note_failure(now, conn, slot, (sqe.opcode, sqe.nsid.get(), lba), status);
            }
            self.answer(conn, slot, status, None);
        }
    }

    /// A command of an I/O queue ends with an error: opcode, namespace and first block of it.
    #[cold]
    pub(super) fn note_failure(
        &mut self,
        at: Instant,
        conn: ConnId,
        slot: u16,
        (opcode, nsid, lba): (u8, u32, u64),
        status: Status,
    ) {
        let Some(known) = self.conns.get(&conn) else { return };
        let Stage::Io(life) = known.stage else { return };
        let (qid, cid) = (known.qid, known.queue.cid(slot));
        self.report.fail(Failure { at, life: Some(life), qid, cid, opcode, nsid, lba, status });
    }

    pub(super) fn admin(
        &mut self,
        at: Instant,
        conn: ConnId,
        slot: u16,
        sqe: Sqe,
        transfer: Transfer,
    ) -> Result<(), Status> {
        let room = match transfer {
            Transfer::FromHost { len, .. } if len > ADMIN_DATA_MAX => return Err(Status::INVALID_FIELD.with_dnr()),
            Transfer::FromHost { len, .. } => {
                self.want(conn, slot, Want::Data(sqe, len));
                return Ok(());
            }
            Transfer::ToHost { len } => {
                self.want(conn, slot, Want::Page(sqe, len, at));
                return Ok(());
            }
            Transfer::None => 0,
        };
        self.set(conn, slot, Slot::Asked { room, bytes: 0 });
        self.out(LaneOutput::ToControl(ToControl::Admin { conn, slot, sqe, data: Vec::new(), room, at }));
        Ok(())
    }

    pub(super) fn io(
        &mut self,
        now: Instant,
        (conn, slot): (ConnId, u16),
        port: PortId,
        life: LifeId,
        sqe: &Sqe,
        transfer: Transfer,
    ) -> Result<(), Status> {
        if sqe.is_fabrics() {
            // Authentication and deletion of single queues are not offered.
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        let nsid = sqe.nsid.get();
        let (len, from_host) = match transfer {
            Transfer::None => (0, false),
            Transfer::FromHost { len, .. } => (len, true),
            Transfer::ToHost { len } => (len, false),
        };
        match nvm::parse(sqe)? {
            Parsed::Ranges { count, deallocate } => {
                let checked = self.check(port, life, nsid, &Work::Deallocate(Vec::new()), 0)?;
                if !from_host || len < u32::from(count) * 16 || len > ADMIN_DATA_MAX {
                    return Err(Status::SGL_DATA_LENGTH_INVALID.with_dnr());
                }
                let count = if deallocate { count } else { 0 };
                self.want(conn, slot, Want::Ranges { nsid, checked, count, len });
            }
            Parsed::Work(work) => {
                let sends = matches!(work, Work::Write { .. } | Work::Compare(_));
                let checked = self.check(port, life, nsid, &work, len)?;
                if work.data_blocks().is_some() && from_host != sends {
                    return Err(Status::SGL_DATA_LENGTH_INVALID.with_dnr());
                }
                // What a Verify reads travels nowhere, and needs a buffer all the same.
                let len = if let Work::Verify(range) = work { self.bytes(life, nsid, range) } else { len.into() };
                let Some(len) = u32::try_from(len).ok().filter(|len| *len <= self.limits.max_transfer) else {
                    return Err(Status::INVALID_FIELD.with_dnr());
                };
                let task = Task { nsid, checked, work };
                if task.work.data_blocks().is_some() || matches!(task.work, Work::Verify(_)) {
                    self.need(now, conn, slot, task, len);
                } else {
                    self.pass(now, conn, slot, task, None);
                }
            }
        }
        Ok(())
    }

    /// The bytes of a range, in a namespace that was found to have it.
    fn bytes(&self, life: LifeId, nsid: u32, range: BlockRange) -> u64 {
        let namespaces = self.lives.get(&life).and_then(|known| self.namespaces.get(&known.life.subsystem));
        let shift = namespaces.and_then(|all| all.get(nsid)).map_or(0, |namespace| namespace.block_shift);
        range.blocks << shift
    }

    fn check(&self, port: PortId, life: LifeId, nsid: u32, work: &Work, len: u32) -> Result<Checked, Status> {
        let gone = Status::COMMAND_SEQUENCE_ERROR.with_dnr();
        let life = self.lives.get(&life).ok_or(gone)?;
        let namespaces = self.namespaces.get(&life.life.subsystem).ok_or(Status::INVALID_NAMESPACE)?;
        Ok(Checked { serial: namespaces.check(port, nsid, work, len)?, table: self.tables })
    }

    pub(super) fn arrived(&mut self, now: Instant, conn: ConnId, slot: u16, data: Vec<u8>, digest_ok: bool) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let (account, port) = (known.account, known.port);
        let at = unread::arrived(known.unread, self.looked, now);
        let state = known.take(slot);
        known.transfer_ended();
        if !digest_ok {
            match state {
                Slot::Filling(_, span) => self.free(account, Some(conn), Some(span)),
                Slot::Collecting(_, bytes) | Slot::Ranges { bytes, .. } => self.give(account, Some(conn), bytes),
                _ => {}
            }
            return self.answer(conn, slot, Status::TRANSIENT_TRANSPORT_ERROR, None);
        }
        match state {
            Slot::Collecting(sqe, bytes) => {
                known.set(slot, Slot::Asked { room: 0, bytes });
                if known.stage == Stage::New {
                    return self.connect(conn, slot, sqe, data, at);
                }
                self.out(LaneOutput::ToControl(ToControl::Admin { conn, slot, sqe, data, room: 0, at }));
            }
            Slot::Ranges { nsid, checked, count, bytes } => {
                let Stage::Io(life) = known.stage else { return };
                self.give(account, Some(conn), bytes);
                let work = match nvm::ranges(&data, count) {
                    Ok(ranges) if ranges.is_empty() => return self.answer(conn, slot, Status::SUCCESS, None),
                    Ok(ranges) => Work::Deallocate(ranges),
                    Err(status) => return self.answer(conn, slot, status, None),
                };
                let lapsed = self.lapsed(life, nsid, checked, &work).map_or(Ok(()), Err);
                match lapsed.and_then(|()| self.check(port, life, nsid, &work, 0)) {
                    Err(status) => self.answer(conn, slot, status, None),
                    Ok(_) => self.pass(now, conn, slot, Task { nsid, checked, work }, None),
                }
            }
            Slot::Filling(task, span) => {
                self.pass(now, conn, slot, task, Some(span));
            }
            other => known.set(slot, other),
        }
    }

    /// A Connect is complete: what its queue takes is charged before anybody looks at it.
    fn connect(&mut self, conn: ConnId, slot: u16, sqe: Sqe, data: Vec<u8>, at: Instant) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        let (port, local, payer) = (known.port, known.local, known.payer);
        let bytes = Connect::from_sqe(&sqe).map_or(0, |connect| {
            let controller = if connect.qid == 0 { CONTROLLER_BYTES } else { 0 };
            self.limits.queue_bytes(connect.sqsize) + controller
        });
        if !self.ledger.take_fixed(known.account, bytes) {
            self.ledger.refuse(payer);
            known.take(slot);
            let status = Status::CONNECT_CONTROLLER_BUSY;
            self.out(LaneOutput::Event(Event::ConnectRefused { port, status }));
            // Without DNR: others may leave.
            return self.answer(conn, slot, status, None);
        }
        known.fixed += bytes;
        known.stage = Stage::Connecting;
        self.out(LaneOutput::ToControl(ToControl::Connect { conn, slot, port, local, payer, sqe, data, at }));
    }

    /// To the gate.
    pub(super) fn pass(&mut self, now: Instant, conn: ConnId, slot: u16, task: Task, span: Option<Span>) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        known.set(slot, Slot::Inside);
        let (port, account) = (known.port, known.account);
        let Stage::Io(life) = known.stage else { return self.free(account, Some(conn), span) };
        self.arrive(now, port, Inside { life, account, owner: Some((conn, slot)), task, span });
    }

    pub(super) fn set(&mut self, conn: ConnId, slot: u16, state: Slot) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.set(slot, state);
        }
    }

    pub(super) fn receive(&mut self, conn: ConnId, slot: u16, sink: Sink) {
        if let Some(known) = self.conns.get_mut(&conn) {
            known.queue.receive(slot, sink);
        }
    }
}
