//! The controller's end of a queue pair.
//!
//! It turns a byte stream into commands with a place for their data, and answers into bytes, and it keeps what the
//! transport demands of a controller: ask for data before it comes (R2T), send data in order, end every command once,
//! and never hold more than a bounded number of commands of one host. What a command means is decided above.
//!
//! ```text
//!              Command event                  receive()                    data complete: Arrived
//!  capsule --+---------------> offered ------------------> receiving ---------------+
//!            |  FromHost          | respond(): refused        | respond(): the rest  |
//!            |                    |                           | is still taken       |
//!            +---------------> open <-------------------------|----------------------+
//!               None, ToHost      | respond()                 |
//!                                 v                           v        last byte given: Sent
//!                              replying <---------------------+ ---------------------------> free
//! ```
//!
//! NVMe/TCP Transport Specification, "Data Transfer", "Error Handling".

mod receive;

use super::event::{Event, QueueConfig};
use crate::frame::{Destination, Fed, Frames};
use crate::{MAX_CONTROL_DATA, SendList, Sink, Source, Taken};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use interlock_base::Span;
use interlock_wire::IntoBytes;
use interlock_wire::pdu::{Agreed, C2hData, CapsuleResp, Direction, Fatal, Flags, Framing, IcResp, R2t, TermReq};
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// Most bytes of data in one C2HData PDU that this side sends: large enough that its header costs nothing, small
/// enough that another command's answer never waits long behind it.
pub const MAX_C2H_DATA: u32 = 128 * 1024;

/// Commands at once before the Connect command said how many there may be. A host sends one and waits.
const SLOTS_BEFORE_CONNECT: u16 = 4;

/// SQHD in the answer to a Connect that switched SQ flow control off.
const SQHD_UNUSED: u16 = 0xFFFF;

/// The controller's end of a queue pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    config: QueueConfig,
    phase: Phase,
    sending: Sending,
    rx: Frames,
    /// Whose data is under way.
    current: Option<Owner>,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Slots there may be: grows once, with the Connect command.
    limit: u16,
    flow: Flow,
    /// Connected as an I/O queue.
    io: bool,
    ready: VecDeque<Item>,
    events: VecDeque<Event>,
    /// Responses that were polled as a whole: where in the stream they end, and whose they are.
    leaving: VecDeque<(u64, u16)>,
    /// Bytes handed out so far.
    polled: u64,
    /// Bytes the kernel took so far.
    given: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// ICReq is awaited.
    Fresh,
    /// Commands flow; what this side sends is framed like this.
    Ready(Framing),
    /// The host sent a termination request.
    Terminated,
    /// The host broke the protocol.
    Failed(Fatal),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sending {
    /// Whatever is ready.
    Open,
    /// This termination request, then nothing.
    Last(Vec<u8>),
    /// Nothing ever again.
    Halted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    /// ICResp.
    Greeting,
    /// The R2T or the response of this slot. Found empty-handed if the slot has nothing to send any more.
    Slot(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Slot(u16),
    /// The data is dropped; its command was answered already.
    Nobody,
}

/// Submission queue flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flow {
    NotConnected,
    /// SQHD counts answers, modulo SQSIZE + 1.
    On {
        sqsize: u16,
        sqhd: u16,
    },
    Off,
}

impl Flow {
    /// One entry more was consumed.
    const fn consume(&mut self) -> Self {
        if let Self::On { sqsize, sqhd } = self {
            *sqhd = if *sqhd >= *sqsize { 0 } else { *sqhd + 1 };
        }
        *self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    cid: u16,
    /// Of its data, in whichever direction.
    len: u32,
    kind: CommandKind,
    work: Work,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CommandKind {
    Connect,
    Other,
    /// Answered here; the owner of the queue never saw it.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// No command.
    Free,
    /// The owner will answer.
    Open,
    /// The owner will say where the data goes, or answer.
    Offered { in_capsule: bool },
    /// Data comes.
    Receiving { into: Sink, received: u32, digest_ok: bool, data: Vec<u8>, via: Via },
    /// The owner answered in the middle of the data that was asked for. The rest is taken and dropped: until then
    /// the host may use the transfer tag.
    Draining { received: u32, reply: Reply },
    /// The answer waits to be polled, or is polled in part.
    Replying(Reply),
    /// The whole answer was polled.
    Leaving,
}

/// How data comes from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Via {
    Capsule,
    /// The R2T waits to be polled.
    R2tWaiting,
    /// The R2T was polled.
    R2t,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reply {
    status: Status,
    dw0: u32,
    dw1: u32,
    data: Source,
    /// Bytes of the data polled so far.
    sent: u32,
}

impl Queue {
    /// A queue that awaits ICReq. The driver limits how long.
    ///
    /// # Panics
    /// If `slots` is 0 or `maxh2cdata` is below 4096 or not a multiple of 4.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        assert!(config.slots > 0, "a queue has at least one slot");
        assert!(
            config.maxh2cdata >= 4096 && config.maxh2cdata.is_multiple_of(4),
            "MAXH2CDATA is at least 4096 and a multiple of 4"
        );
        Self {
            phase: Phase::Fresh,
            sending: Sending::Open,
            rx: Frames::new(Direction::ToController, Agreed::NOTHING),
            current: None,
            slots: Vec::new(),
            free: Vec::new(),
            limit: config.slots.min(SLOTS_BEFORE_CONNECT),
            flow: Flow::NotConnected,
            ready: VecDeque::new(),
            events: VecDeque::new(),
            leaving: VecDeque::new(),
            io: false,
            polled: 0,
            given: 0,
            config,
        }
    }

    /// The Connect command is about to be answered with success: up to `2 * (sqsize + 1)` commands (but not above
    /// `slots`) may be there at once, because a host may see an answer before its slot is free here. `sqsize` is
    /// 0's based. With SQ flow control the SQHD of answers counts; without it reads may end by the SUCCESS flag. On an I/O
    /// queue (`io`), commands bring no more data in their capsules than IOCCSZ says.
    pub fn connected(&mut self, sqsize: u16, sq_flow_control: bool, io: bool) {
        self.io = io;
        let wanted = (u32::from(sqsize) + 1) * 2;
        self.limit = self.limit.max(u16::try_from(wanted).unwrap_or(u16::MAX).min(self.config.slots));
        self.flow = if sq_flow_control { Flow::On { sqsize, sqhd: 0 } } else { Flow::Off };
        // Nothing grows on the steady path.
        let slots = usize::from(self.limit);
        self.slots.reserve(slots - self.slots.len());
        self.free.reserve(slots);
        self.ready.reserve(slots * 2);
        self.leaving.reserve(slots);
        self.events.reserve(slots * 2);
    }

    /// Answers [`Transfer::FromHost`](super::Transfer::FromHost): the data goes there. [`Sink::None`] drops it; [`Event::Arrived`] comes anyway.
    ///
    /// # Panics
    /// If the command waits for no such answer, or the destination is too small, or more than [`MAX_CONTROL_DATA`]
    /// bytes are to be held here: mistakes of the owner, who sees the length in the event first.
    pub fn receive(&mut self, slot: u16, into: Sink) {
        let entry = self.slots.get_mut(usize::from(slot)).expect("the owner names a slot it was given");
        let Work::Offered { in_capsule } = entry.work else {
            panic!("slot {slot} has no data to be received");
        };
        let into = match into {
            Sink::None => Sink::None,
            Sink::Span(span) => Sink::Span(span.slice(0, entry.len)),
            Sink::Bytes(len) => {
                assert!(len >= entry.len && entry.len <= MAX_CONTROL_DATA, "control data is bounded");
                Sink::Bytes(entry.len)
            }
        };
        let via = if in_capsule { Via::Capsule } else { Via::R2tWaiting };
        entry.work = Work::Receiving { into, received: 0, digest_ok: true, data: Vec::new(), via };
        if in_capsule {
            self.place(slot, 0, entry_len(&self.slots, slot));
        } else {
            self.enqueue(Item::Slot(slot));
        }
    }

    /// Answers a command. `data` goes along if the status is success: at most as long as the host asked for. Data of
    /// the host that still comes is dropped. After [`Self::halt`] the answer counts as sent at once.
    ///
    /// # Panics
    /// If the command was answered before, or the data is too long: mistakes of the owner.
    pub fn respond(&mut self, slot: u16, status: Status, dw0: u32, dw1: u32, data: Source) {
        let entry = self.slots.get_mut(usize::from(slot)).expect("the owner names a slot it was given");
        assert!(data.len() <= entry.len, "an answer has at most the data that was asked for");
        let data = if status.is_success() { data } else { Source::None };
        let reply = Reply { status, dw0, dw1, data, sent: 0 };
        let (next, blocked) = match core::mem::replace(&mut entry.work, Work::Leaving) {
            Work::Open => (Work::Replying(reply), false),
            Work::Offered { in_capsule } => (Work::Replying(reply), in_capsule),
            Work::Receiving { via: Via::Capsule | Via::R2tWaiting, .. } => (Work::Replying(reply), false),
            Work::Receiving { via: Via::R2t, received, .. } => (Work::Draining { received, reply }, false),
            Work::Free | Work::Draining { .. } | Work::Replying(_) | Work::Leaving => {
                panic!("slot {slot} has no command without an answer (`completes_exactly_once`)")
            }
        };
        let draining = matches!(next, Work::Draining { .. });
        entry.work = next;
        if blocked {
            self.rx.set_destination(Destination::Nowhere);
            self.current = Some(Owner::Nobody);
        } else if self.current == Some(Owner::Slot(slot)) {
            self.rx.drop_rest();
            if !draining {
                self.current = Some(Owner::Nobody);
            }
        }
        if self.sending == Sending::Halted {
            self.release(slot);
        } else if !draining {
            self.enqueue(Item::Slot(slot));
        }
    }

    /// Appends what is ready to be sent, up to about [`MAX_POLL_BYTES`](crate::MAX_POLL_BYTES); call again once that
    /// is given. What was appended is in the stream: the driver sends all of it, in order, or nothing of the rest.
    pub fn poll_send(&mut self, list: &mut SendList) {
        let before = list.bytes();
        match &self.sending {
            Sending::Halted => return,
            Sending::Last(bytes) => {
                list.raw(bytes);
                self.sending = Sending::Halted;
            }
            Sending::Open => {
                let Phase::Ready(framing) = self.phase else { return };
                // The stream offset of the list's first byte; it may lie before the stream.
                let base = self.polled.wrapping_sub(before);
                while !list.is_full()
                    && let Some(item) = self.ready.pop_front()
                {
                    match item {
                        Item::Greeting => {
                            list.raw(IcResp::new(framing.hdgst, framing.ddgst, 4, self.config.maxh2cdata).as_bytes());
                        }
                        Item::Slot(slot) => self.send_one(slot, base, framing, list),
                    }
                }
            }
        }
        self.polled += list.bytes() - before;
    }

    /// Whether [`Self::poll_send`] has something.
    #[must_use]
    pub fn wants_send(&self) -> bool {
        match self.sending {
            Sending::Halted => false,
            Sending::Last(_) => true,
            Sending::Open => !self.ready.is_empty(),
        }
    }

    /// The kernel took that many more bytes of what was polled.
    ///
    /// # Panics
    /// If that is more than was polled: the driver's mistake.
    pub fn handle_given(&mut self, bytes: u64) {
        self.given += bytes;
        assert!(self.given <= self.polled, "the driver gave more bytes than it was handed");
        while let Some(&(end, slot)) = self.leaving.front()
            && end <= self.given
        {
            self.leaving.pop_front();
            self.release(slot);
        }
    }

    /// Takes received bytes, up to the next payload or the next command whose in-capsule data has no place yet. See
    /// the [crate] documentation for the loop around it.
    ///
    /// # Errors
    /// The host broke the protocol. One termination request is ready to be sent; close the connection.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Taken, Fatal> {
        match &self.phase {
            Phase::Failed(fatal) => return Err(*fatal),
            Phase::Terminated => return Ok(Taken { used: bytes.len(), place: None }),
            Phase::Fresh | Phase::Ready(_) => {}
        }
        let mut used = 0;
        loop {
            let step = self.rx.feed(&bytes[used..]).and_then(|(n, fed)| {
                used += n;
                match fed {
                    Fed::More => Ok(Some(None)),
                    Fed::Place(place) => Ok(Some(Some(place))),
                    Fed::Head(layout) => self.handle_head(&layout).map(|()| None),
                    Fed::Body(received) => {
                        self.handle_body(received);
                        Ok(None)
                    }
                }
            });
            match step {
                Ok(None) if self.phase == Phase::Terminated => return Ok(Taken { used: bytes.len(), place: None }),
                Ok(None) => {}
                Ok(Some(place)) => return Ok(Taken { used, place }),
                Err(fatal) => return Err(self.fail(fatal)),
            }
        }
    }

    /// The driver placed `len` bytes; `digest` is the continued CRC-32C (any value if none was asked for).
    ///
    /// # Panics
    /// If no data was expected: the driver's mistake.
    pub fn handle_placed(&mut self, len: u32, digest: u32) {
        if let Some(received) = self.rx.placed(len, digest) {
            self.handle_body(received);
        }
    }

    /// If at least `min` of the next bytes of the stream are payload for one span: that span. The driver may receive
    /// into it and call [`Self::handle_placed`] with as many bytes as came.
    #[must_use]
    pub fn direct(&self, min: u32) -> Option<Span> {
        self.rx.direct(min).map(|place| place.to)
    }

    /// With [`Self::direct`]: the CRC-32C to continue, if a data digest is on.
    #[must_use]
    pub fn direct_digest(&self) -> Option<u32> {
        self.rx.direct(0).and_then(|place| place.digest)
    }

    /// What happened. Drain it.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Nothing is polled ever again. The driver forgets what it polled but did not give, so every answered command
    /// counts as sent: its buffers are free.
    pub fn halt(&mut self) {
        self.sending = Sending::Halted;
        self.ready.clear();
        self.leaving.clear();
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].work, Work::Draining { .. } | Work::Replying(_) | Work::Leaving) {
                self.release(u16::try_from(index).expect("slots are bounded by a u16"));
            }
        }
    }

    /// Whether the connection is initialised and alive.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// Whether received bytes wait for [`Self::receive`] or [`Self::respond`].
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.rx.is_blocked()
    }

    /// Whether a command waits for [`Self::receive`] or [`Self::respond`] whose data came along with it: nothing that the host sent
    /// behind it is read before that.
    #[must_use]
    pub fn holds_up(&self, slot: u16) -> bool {
        let entry = self.slots.get(usize::from(slot));
        entry.is_some_and(|entry| matches!(entry.work, Work::Offered { in_capsule: true }))
    }

    /// Whether nothing that the host sent is still inside: no command without its whole answer, and no part of a PDU.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0 && self.rx.is_between_pdus()
    }

    /// A command is over without an answer, because its controller was reset or shut down. Its submission queue entry counts as
    /// consumed. There is no [`Event::Sent`] for it.
    ///
    /// # Panics
    /// If it has data, or was answered: mistakes of the owner.
    pub fn forget(&mut self, slot: u16) {
        let entry = self.slots.get_mut(usize::from(slot)).expect("the owner names a slot it was given");
        assert!(matches!(entry.work, Work::Open), "slot {slot} has a command without data and without an answer");
        entry.work = Work::Free;
        self.free.push(slot);
        self.flow.consume();
    }

    /// Command Identifier of the command that holds a slot, or held it last.
    ///
    /// # Panics
    /// If no command ever held it: a mistake of the owner.
    #[must_use]
    pub fn cid(&self, slot: u16) -> u16 {
        self.slots[usize::from(slot)].cid
    }

    /// Commands that hold a slot.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn enqueue(&mut self, item: Item) {
        if self.sending == Sending::Open {
            self.ready.push_back(item);
        }
    }

    /// Sends the R2T of this slot, or the next PDUs of its response.
    fn send_one(&mut self, slot: u16, base: u64, framing: Framing, list: &mut SendList) {
        let entry = &mut self.slots[usize::from(slot)];
        let reply = match &mut entry.work {
            Work::Receiving { via: via @ Via::R2tWaiting, .. } => {
                *via = Via::R2t;
                list.pdu(&R2t::new(entry.cid, slot, 0, entry.len, &framing), 0);
                return;
            }
            Work::Replying(reply) => reply,
            Work::Free | Work::Open | Work::Offered { .. } | Work::Leaving => return,
            Work::Receiving { .. } | Work::Draining { .. } => return,
        };
        let mut answered = false;
        let total = reply.data.len();
        if reply.sent < total {
            let len = (total - reply.sent).min(MAX_C2H_DATA);
            let mut flags = Flags::empty();
            if reply.sent + len == total {
                flags |= Flags::LAST;
                answered =
                    self.flow == Flow::Off && reply.status == Status::SUCCESS && reply.dw0 == 0 && reply.dw1 == 0;
                flags.set(Flags::SUCCESS, answered);
            }
            let header = C2hData::new(entry.cid, reply.sent, len, flags, &framing);
            list.pdu(&header, header.ch.pdo);
            list.data(&reply.data, reply.sent, len, framing.ddgst);
            reply.sent += len;
            if reply.sent < total {
                self.ready.push_back(Item::Slot(slot));
                return;
            }
        }
        if !answered {
            let sqhd = match self.flow.consume() {
                Flow::On { sqhd, .. } => sqhd,
                Flow::Off if entry.kind == CommandKind::Connect => SQHD_UNUSED,
                Flow::Off | Flow::NotConnected => 0,
            };
            let cqe = Cqe::new(entry.cid, sqhd, reply.status).with_result(reply.dw0, reply.dw1);
            list.pdu(&CapsuleResp::new(cqe, &framing), 0);
        }
        entry.work = Work::Leaving;
        self.leaving.push_back((base.wrapping_add(list.bytes()), slot));
    }

    /// The command of this slot is over and none of its bytes is needed any more.
    fn release(&mut self, slot: u16) {
        if self.current == Some(Owner::Slot(slot)) {
            self.rx.drop_rest();
            self.current = Some(Owner::Nobody);
        }
        let entry = &mut self.slots[usize::from(slot)];
        entry.work = Work::Free;
        self.free.push(slot);
        if entry.kind != CommandKind::Refused {
            self.events.push_back(Event::Sent { slot });
        }
    }

    fn fail(&mut self, fatal: Fatal) -> Fatal {
        self.phase = Phase::Failed(fatal);
        self.ready.clear();
        if self.sending == Sending::Open {
            self.sending = Sending::Last(TermReq::encode(Direction::ToHost, &fatal, self.rx.head()));
        }
        fatal
    }
}

fn entry_len(slots: &[Slot], slot: u16) -> u32 {
    slots[usize::from(slot)].len
}
