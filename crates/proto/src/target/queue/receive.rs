//! What the host sent, PDU by PDU.

use super::{CommandKind, Item, Owner, Phase, Queue, Slot, Via, Work};
use crate::frame::{Destination, Received};
use crate::target::{Event, Transfer};
use crate::{Sink, Source};
use interlock_wire::FromBytes;
use interlock_wire::fabrics::{ADMIN_IN_CAPSULE_MAX, FCTYPE_CONNECT};
use interlock_wire::pdu::{
    Agreed, CapsuleCmd, Fatal, Fes, Flags, Framing, H2cData, IcReq, Layout, PduType, TermReq, check_window,
};
use interlock_wire::sqe::{DataDirection, Sgl, Sqe};
use interlock_wire::status::Status;

const HEADER_LEN: &str = "the validator fixed the header length";

impl Queue {
    pub(super) fn handle_head(&mut self, layout: &Layout) -> Result<(), Fatal> {
        match layout.pdu {
            PduType::IcReq => self.handle_icreq(),
            PduType::H2cTermReq => {
                let term = TermReq::decode(self.rx.head()).expect(HEADER_LEN);
                self.phase = Phase::Terminated;
                // The owner hears of the end before it hears that buffers are free: its driver may be about to send them.
                self.events.push_back(Event::TermReq { fes: term.fes.get(), fei: term.fei.get() });
                self.halt();
                Ok(())
            }
            PduType::CapsuleCmd => self.handle_capsule(layout),
            PduType::H2cData => self.handle_h2cdata(layout),
            PduType::IcResp | PduType::C2hTermReq | PduType::CapsuleResp | PduType::C2hData | PduType::R2t => {
                unreachable!("the validator refuses PDUs of the other direction")
            }
        }
    }

    fn handle_icreq(&mut self) -> Result<(), Fatal> {
        let req = IcReq::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        req.check()?;
        let hdgst = req.hdgst() && self.config.hdgst_allowed;
        let ddgst = req.ddgst() && self.config.ddgst_allowed;
        self.phase = Phase::Ready(Framing { hdgst, ddgst, align: req.align() });
        self.rx.agree(Agreed {
            hdgst,
            ddgst,
            align: 4,
            max_data: self.config.maxh2cdata,
            max_in_capsule: self.config.in_capsule_max.max(ADMIN_IN_CAPSULE_MAX),
            ready: true,
        });
        self.enqueue(Item::Greeting);
        self.events.push_back(Event::Ready { hdgst, ddgst });
        Ok(())
    }

    fn handle_capsule(&mut self, layout: &Layout) -> Result<(), Fatal> {
        let capsule = CapsuleCmd::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        capsule.check(layout)?;
        let sqe = capsule.sqe;
        let most = if self.io && !sqe.is_fabrics() { self.config.in_capsule_max } else { ADMIN_IN_CAPSULE_MAX };
        if layout.data > most {
            return Err(Fatal::new(
                Fes::DataTransferLimitExceeded,
                0,
                "more in-capsule data than a capsule of this queue may carry",
            ));
        }
        let cid = sqe.cid.get();
        let verdict = sqe.check_flags().and_then(|()| self.transfer(&sqe));
        let kind = match verdict {
            Err(_) => CommandKind::Refused,
            Ok(_) if sqe.is_fabrics() && sqe.fctype() == FCTYPE_CONNECT => CommandKind::Connect,
            Ok(_) => CommandKind::Other,
        };
        let (len, work) = match verdict {
            Err(_) | Ok(Transfer::None) => (0, Work::Open),
            Ok(Transfer::ToHost { len }) => (len, Work::Open),
            Ok(Transfer::FromHost { len, in_capsule }) => (len, Work::Offered { in_capsule }),
        };
        let slot = self.claim(Slot { cid, len, kind, work })?;
        match verdict {
            Ok(transfer) => {
                debug_assert!(layout.data == 0 || matches!(transfer, Transfer::FromHost { in_capsule: true, .. }));
                self.events.push_back(Event::Command { slot, sqe, transfer });
            }
            Err(status) => {
                if layout.data > 0 {
                    self.rx.set_destination(Destination::Nowhere);
                    self.current = Some(Owner::Nobody);
                }
                self.respond(slot, status, 0, 0, Source::None);
            }
        }
        Ok(())
    }

    /// What data the command moves, or the status that refuses it.
    fn transfer(&self, sqe: &Sqe) -> Result<Transfer, Status> {
        let bounded =
            |len: u32| if len <= self.config.max_transfer { Ok(len) } else { Err(Status::INVALID_FIELD.with_dnr()) };
        match (sqe.data_direction(), sqe.sgl()) {
            // Data in the capsule that the command cannot have.
            (DataDirection::None | DataDirection::ToHost, Sgl::InCapsule { len }) if len > 0 => {
                Err(Status::INVALID_FIELD.with_dnr())
            }
            (DataDirection::None, _) => Ok(Transfer::None),
            (_, sgl) if sgl.is_empty() => Ok(Transfer::None),
            (_, Sgl::Unsupported { .. }) => Err(Status::SGL_TYPE_INVALID.with_dnr()),
            (DataDirection::ToController | DataDirection::Both, Sgl::InCapsule { len }) => {
                Ok(Transfer::FromHost { len, in_capsule: true })
            }
            (DataDirection::ToController | DataDirection::Both, Sgl::Transport { len }) => {
                bounded(len).map(|len| Transfer::FromHost { len, in_capsule: false })
            }
            (DataDirection::ToHost, Sgl::Transport { len } | Sgl::InCapsule { len }) => {
                bounded(len).map(|len| Transfer::ToHost { len })
            }
        }
    }

    fn claim(&mut self, slot: Slot) -> Result<u16, Fatal> {
        if let Some(index) = self.free.pop() {
            self.slots[usize::from(index)] = slot;
            return Ok(index);
        }
        let index = u16::try_from(self.slots.len()).expect("slots are bounded by a u16");
        if index >= self.limit {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "more commands at once than the queue size allows"));
        }
        self.slots.push(slot);
        Ok(index)
    }

    fn handle_h2cdata(&mut self, layout: &Layout) -> Result<(), Fatal> {
        let header = H2cData::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        let (slot, offset, len) = (header.ttag.get(), header.datao.get(), header.datal.get());
        let entry = self.slots.get(usize::from(slot));
        let Some((entry, received)) = entry.and_then(|entry| match &entry.work {
            Work::Receiving { via: Via::R2t, received, .. } | Work::Draining { received, .. } => {
                Some((entry, *received))
            }
            _ => None,
        }) else {
            return Err(Fatal::new(Fes::InvalidPduHeaderField, 10, "TTAG names no R2T that waits for data"));
        };
        if entry.cid != header.cccid.get() {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "CCCID is not the command of this TTAG"));
        }
        header.check(layout, self.rx.agreed())?;
        check_window(offset, len, received, entry.len)?;
        if header.ch.flags().contains(Flags::LAST) != (offset + len == entry.len) {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "LAST_PDU disagrees with the length of the R2T"));
        }
        self.place(slot, offset, len);
        Ok(())
    }

    /// Names the destination of `len` bytes at `offset` of the data of this slot.
    pub(super) fn place(&mut self, slot: u16, offset: u32, len: u32) {
        let entry = &mut self.slots[usize::from(slot)];
        let to = match &mut entry.work {
            Work::Receiving { into: Sink::Span(span), .. } => Destination::Span(span.slice(offset, len)),
            Work::Receiving { into: Sink::Bytes(_), data, .. } => {
                let mut data = core::mem::take(data);
                data.reserve_exact((entry.len - offset) as usize);
                Destination::Bytes(data)
            }
            _ => Destination::Nowhere,
        };
        self.rx.set_destination(to);
        self.current = Some(Owner::Slot(slot));
    }

    pub(super) fn handle_body(&mut self, body: Received) {
        let Some(Owner::Slot(slot)) = self.current.take() else { return };
        let entry = &mut self.slots[usize::from(slot)];
        match core::mem::replace(&mut entry.work, Work::Open) {
            Work::Receiving { into, received, digest_ok, via, .. } => {
                let received = received + body.len;
                let digest_ok = digest_ok && body.digest_ok;
                if received == entry.len {
                    self.events.push_back(Event::Arrived { slot, data: body.bytes, digest_ok });
                } else {
                    entry.work = Work::Receiving { into, received, digest_ok, data: body.bytes, via };
                }
            }
            Work::Draining { received, reply } => {
                let received = received + body.len;
                if received == entry.len {
                    entry.work = Work::Replying(reply);
                    self.enqueue(Item::Slot(slot));
                } else {
                    entry.work = Work::Draining { received, reply };
                }
            }
            Work::Free | Work::Open | Work::Offered { .. } | Work::Replying(_) | Work::Leaving => {
                unreachable!("data has an owner only while its slot receives")
            }
        }
    }
}
