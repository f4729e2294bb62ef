//! What the controller sent, PDU by PDU.

use super::{Current, Moving, Phase, Queue, Sending, Window};
use crate::Sink;
use crate::frame::{Destination, Received};
use crate::host::Event;
use interlock_wire::FromBytes;
use interlock_wire::pdu::{
    Agreed, C2hData, CapsuleResp, Fatal, Fes, Flags, IcResp, Layout, PduType, R2t, TermReq, check_window,
};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

const UNKNOWN_CID: Fatal =
    Fatal::new(Fes::InvalidPduHeaderField, 8, "the command identifier names no outstanding command");
const HEADER_LEN: &str = "the validator fixed the header length";

impl Queue {
    pub(super) fn handle_head(&mut self, layout: &Layout) -> Result<(), Fatal> {
        match layout.pdu {
            PduType::IcResp => self.handle_icresp(),
            PduType::C2hTermReq => {
                let term = TermReq::decode(self.rx.head()).expect(HEADER_LEN);
                self.phase = Phase::Terminated;
                self.halt();
                self.events.push_back(Event::TermReq { fes: term.fes.get(), fei: term.fei.get() });
                Ok(())
            }
            PduType::CapsuleResp => {
                let resp = CapsuleResp::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
                let index = self.known(resp.cqe.cid.get())?;
                self.complete(index, resp.cqe);
                Ok(())
            }
            PduType::C2hData => self.handle_c2hdata(layout),
            PduType::R2t => self.handle_r2t(),
            PduType::IcReq | PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData => {
                unreachable!("the validator refuses PDUs of the other direction")
            }
        }
    }

    fn handle_icresp(&mut self) -> Result<(), Fatal> {
        if self.phase != Phase::Initializing {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "ICResp came before ICReq was sent"));
        }
        let resp = IcResp::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        resp.check(&self.request())?;
        if resp.hdgst() != self.config.hdgst {
            return Err(Fatal::new(Fes::UnsupportedParameter, 11, "the controller declined the header digest"));
        }
        if resp.ddgst() != self.config.ddgst {
            return Err(Fatal::new(Fes::UnsupportedParameter, 11, "the controller declined the data digest"));
        }
        let maxh2cdata = resp.maxh2cdata.get();
        self.phase = Phase::Ready { maxh2cdata, align: resp.align() };
        self.rx.agree(Agreed {
            hdgst: self.config.hdgst,
            ddgst: self.config.ddgst,
            align: 4,
            // Each command has its own bound, checked against its own length.
            max_data: u32::MAX,
            max_in_capsule: 0,
            ready: true,
        });
        self.events.push_back(Event::Ready { maxh2cdata });
        Ok(())
    }

    fn handle_c2hdata(&mut self, layout: &Layout) -> Result<(), Fatal> {
        let header = C2hData::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        let slot = self.known(header.cccid.get())?;
        header.check(layout)?;
        let command = self.slots[usize::from(slot)].command.as_mut().expect("a known slot has a command");
        let Moving::ToHost { len: expected, received, last, data, .. } = &mut command.moving else {
            return Err(Fatal::new(Fes::DataTransferOutOfRange, 0, "data for a command that receives none"));
        };
        let (offset, len) = (header.datao.get(), header.datal.get());
        check_window(offset, len, *received, *expected)?;
        if *last {
            return Err(Fatal::new(Fes::PduSequenceError, 0, "data after the LAST_PDU of its command"));
        }
        let to = match command.into {
            Sink::None => Destination::Nowhere,
            Sink::Span(span) => Destination::Span(span.slice(offset, len)),
            Sink::Bytes(_) => {
                let mut data = core::mem::take(data);
                data.reserve_exact((*expected - offset) as usize);
                Destination::Bytes(data)
            }
        };
        self.rx.set_destination(to);
        self.current = Some(Current { slot, flags: header.ch.flags() });
        Ok(())
    }

    fn handle_r2t(&mut self) -> Result<(), Fatal> {
        let header = R2t::read_from_bytes(self.rx.head()).expect(HEADER_LEN);
        let cid = header.cccid.get();
        let slot = self.known(cid)?;
        let command = self.slots[usize::from(slot)].command.as_mut().expect("a known slot has a command");
        let total = command.out.len();
        let Moving::ToController { asked, window } = &mut command.moving else {
            // In-capsule data was asked for by sending it; no data leaves no window at all.
            header.check(total, total)?;
            return Err(Fatal::new(Fes::PduSequenceError, 0, "R2T for a command that has nothing left to send"));
        };
        header.check(*asked, total)?;
        if window.is_some() {
            return Err(Fatal::new(Fes::DataTransferLimitExceeded, 0, "more R2Ts outstanding than MAXR2T allows"));
        }
        let (next, len) = (header.r2to.get(), header.r2tl.get());
        *window = Some(Window { ttag: header.ttag.get(), next, end: next + len });
        *asked = next + len;
        if self.sending == Sending::Open {
            self.ready.push_back(cid);
        }
        Ok(())
    }

    pub(super) fn handle_body(&mut self, body: Received) {
        let current = self.current.take().expect("data has an owner from its header to its end");
        let command = self.slots[usize::from(current.slot)].command.as_mut().expect("it was outstanding at its header");
        let Moving::ToHost { received, last, digest_ok, data, .. } = &mut command.moving else {
            unreachable!("data was only accepted for a command that receives some")
        };
        *received += body.len;
        *last = current.flags.contains(Flags::LAST);
        *digest_ok &= body.digest_ok;
        *data = body.bytes;
        if current.flags.contains(Flags::SUCCESS) {
            let cqe = Cqe::new(command.sqe.cid.get(), 0, Status::SUCCESS);
            self.complete(current.slot, cqe);
        }
    }

    /// The slot of an unanswered command that the controller can know.
    fn known(&self, cid: u16) -> Result<u16, Fatal> {
        let index = self.index(cid);
        match self.slots.get(usize::from(index)).and_then(|slot| slot.command.as_ref()) {
            Some(command) if command.sqe.cid.get() == cid && command.begin.is_some() && command.answer.is_none() => {
                Ok(index)
            }
            _ => Err(UNKNOWN_CID),
        }
    }
}
