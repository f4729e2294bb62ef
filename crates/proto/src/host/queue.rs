//! The host's end of a queue pair.
//!
//! Fencing stands on one question that only this machine can answer: *may the controller know of this command?* So it
//! counts the bytes it handed out ([`Queue::poll_send`]) and the bytes the kernel took ([`Queue::handle_given`]), and
//! keeps for every command where in that stream it begins. A command of which not one byte was taken is safe to send
//! elsewhere; everything else is in doubt until it is answered or fenced.
//!
//! ```text
//!            submit            poll_send           handle_given          response
//!   (none) ---------> waiting ----------> polled ----------------> begun ---------> completed
//!                     sent: Nothing       sent: Nothing            sent: Begun      once, when no polled byte
//!                                                                                   of it is still to be given
//! ```
//!
//! NVMe/TCP Transport Specification, "Data Transfer", "Error Handling".

mod receive;

use super::event::{Event, Full, MAX_DEPTH, Outstanding, QueueConfig, Sent};
use crate::frame::{Fed, Frames};
use crate::{DataError, MAX_CONTROL_DATA, SendList, Sink, Source, Taken};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use interlock_base::Span;
use interlock_wire::IntoBytes;
use interlock_wire::fabrics::ADMIN_IN_CAPSULE_MAX;
use interlock_wire::pdu::{Agreed, CapsuleCmd, Direction, Fatal, Flags, Framing, H2cData, IcReq, TermReq};
use interlock_wire::sqe::{Cqe, Sgl, Sqe};

/// R2Ts a controller may have outstanding per command, 0's based: one. More would not be faster (one R2T may cover
/// the whole command) and would have to be kept.
const MAXR2T: u32 = 0;

/// The host's end of a queue pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    config: QueueConfig,
    phase: Phase,
    sending: Sending,
    rx: Frames,
    /// The data PDU under way.
    current: Option<Current>,
    /// As many as commands were ever outstanding at once: most queues of a host with a thousand controllers are idle.
    slots: Vec<Slot>,
    /// Of those, the ones without a command.
    free: Vec<u16>,
    /// Command identifiers: this many low bits are the slot, the rest its generation.
    index_bits: u32,
    /// What may be sent next, in order. A CID of an ended command finds nothing.
    ready: VecDeque<u16>,
    events: VecDeque<Event>,
    /// Slots whose command was answered before all of its polled bytes were given.
    deferred: Vec<u16>,
    /// Bytes handed out so far.
    polled: u64,
    /// Bytes the kernel took so far.
    given: u64,
    submitted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// ICReq is to be sent.
    Fresh,
    /// ICResp is awaited.
    Initializing,
    /// Commands flow.
    Ready { maxh2cdata: u32, align: u32 },
    /// The controller sent a termination request.
    Terminated,
    /// The controller broke the protocol.
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    generation: u16,
    command: Option<Command>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Command {
    token: u64,
    order: u64,
    sqe: Sqe,
    out: Source,
    into: Sink,
    moving: Moving,
    /// Where in the stream its first byte is, once it was polled.
    begin: Option<u64>,
    /// Where in the stream its last byte polled so far ends.
    end: u64,
    /// Set once: `completes_exactly_once`.
    answer: Option<(Cqe, Option<DataError>)>,
}

/// The data of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Moving {
    /// None.
    Nothing,
    /// Goes with the command.
    InCapsule,
    /// Goes when asked for; `asked` bytes were.
    ToController { asked: u32, window: Option<Window> },
    /// Comes; `len` bytes are expected.
    ToHost { len: u32, received: u32, last: bool, digest_ok: bool, data: Vec<u8> },
}

/// An R2T that is being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Window {
    ttag: u16,
    next: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Current {
    slot: u16,
    flags: Flags,
}

impl Queue {
    /// A queue whose ICReq is ready to be sent.
    ///
    /// # Panics
    /// If `depth` is 0 or above [`MAX_DEPTH`].
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        assert!((1..=MAX_DEPTH).contains(&config.depth), "a queue holds 1 to {MAX_DEPTH} commands");
        let depth = config.depth;
        Self {
            phase: Phase::Fresh,
            sending: Sending::Open,
            rx: Frames::new(Direction::ToHost, Agreed::NOTHING),
            current: None,
            slots: Vec::new(),
            free: Vec::new(),
            // One more value than slots, so that FFFFh, which means "no command" in the error log, never comes up.
            index_bits: u16::BITS - depth.leading_zeros(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            deferred: Vec::new(),
            polled: 0,
            given: 0,
            submitted: 0,
            config,
        }
    }

    /// Takes a command. Its CID, flags and SGL are filled in here; before the connection is ready it waits.
    /// Returns its CID.
    ///
    /// # Errors
    /// [`Full`] if `depth` commands are outstanding.
    ///
    /// # Panics
    /// If the command both sends and receives data, or control data is above [`MAX_CONTROL_DATA`].
    pub fn submit(&mut self, mut sqe: Sqe, out: Source, into: Sink, token: u64) -> Result<u16, Full> {
        assert!(out.is_empty() || into.is_empty(), "no command on TCP moves data both ways");
        assert!(
            !matches!(&into, Sink::Bytes(len) if *len > MAX_CONTROL_DATA)
                && !matches!(&out, Source::Bytes(bytes) if bytes.len() > MAX_CONTROL_DATA as usize),
            "control data is bounded by MAX_CONTROL_DATA"
        );
        let index = self.free.pop().or_else(|| self.new_slot()).ok_or(Full)?;
        let slot = &mut self.slots[usize::from(index)];
        let cid = index | slot.generation << self.index_bits;
        let fits = if sqe.is_fabrics() { ADMIN_IN_CAPSULE_MAX } else { 0 }.max(self.config.in_capsule);
        let (sgl, moving) = match (out.len(), into.len()) {
            (0, 0) => (Sgl::NONE, Moving::Nothing),
            (0, len) => {
                let moving = Moving::ToHost { len, received: 0, last: false, digest_ok: true, data: Vec::new() };
                (Sgl::Transport { len }, moving)
            }
            (len, _) if len <= fits => (Sgl::InCapsule { len }, Moving::InCapsule),
            (len, _) => (Sgl::Transport { len }, Moving::ToController { asked: 0, window: None }),
        };
        sqe.flags = interlock_wire::sqe::FLAGS_SGL;
        sqe.cid.set(cid);
        sqe.set_sgl(sgl);
        let order = self.submitted;
        self.submitted += 1;
        slot.command = Some(Command { token, order, sqe, out, into, moving, begin: None, end: 0, answer: None });
        if self.sending == Sending::Open {
            self.ready.push_back(cid);
        }
        Ok(cid)
    }

    /// One more slot, if the depth allows it.
    fn new_slot(&mut self) -> Option<u16> {
        let index = u16::try_from(self.slots.len()).ok().filter(|index| *index < self.config.depth)?;
        self.slots.push(Slot { generation: 0, command: None });
        Some(index)
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
            Sending::Open => match self.phase {
                Phase::Fresh => {
                    list.raw(self.request().as_bytes());
                    self.phase = Phase::Initializing;
                }
                Phase::Ready { maxh2cdata, align } => {
                    // The stream offset of the list's first byte; it may lie before the stream.
                    let base = self.polled.wrapping_sub(before);
                    while !list.is_full()
                        && let Some(cid) = self.ready.pop_front()
                    {
                        self.send_one(cid, base, maxh2cdata, align, list);
                    }
                }
                Phase::Initializing | Phase::Terminated | Phase::Failed(_) => {}
            },
        }
        self.polled += list.bytes() - before;
    }

    /// Whether [`Self::poll_send`] has something.
    #[must_use]
    pub fn wants_send(&self) -> bool {
        match &self.sending {
            Sending::Halted => false,
            Sending::Last(_) => true,
            Sending::Open => match self.phase {
                Phase::Fresh => true,
                Phase::Ready { .. } => !self.ready.is_empty(),
                Phase::Initializing | Phase::Terminated | Phase::Failed(_) => false,
            },
        }
    }

    /// The kernel took that many more bytes of what was polled.
    ///
    /// # Panics
    /// If that is more than was polled: the driver's mistake.
    pub fn handle_given(&mut self, bytes: u64) {
        self.given += bytes;
        assert!(self.given <= self.polled, "the driver gave more bytes than it was handed");
        if !self.deferred.is_empty() {
            self.release_deferred();
        }
    }

    /// Takes received bytes, up to the next payload. See the [crate] documentation for the loop around it.
    ///
    /// # Errors
    /// The controller broke the protocol. One termination request is ready to be sent; close the connection, then
    /// [`Self::halt`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Taken, Fatal> {
        match &self.phase {
            Phase::Failed(fatal) => return Err(*fatal),
            Phase::Terminated => return Ok(Taken { used: bytes.len(), place: None }),
            Phase::Fresh | Phase::Initializing | Phase::Ready { .. } => {}
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

    /// The life is condemned: nothing is polled ever again, also no data for a late R2T and no termination request
    /// (`no_send_after_condemned`). Responses are still decoded. The driver forgets what it polled but did not give,
    /// before anyone asks for [`Self::outstanding`].
    pub fn halt(&mut self) {
        self.sending = Sending::Halted;
        self.ready.clear();
        self.release_deferred();
    }

    /// The receiver of this command's data is gone: from now on its data is dropped, never placed
    /// (`buffer_has_one_writer`). Its completion is still reported. Nothing happens if the command is not outstanding.
    pub fn detach(&mut self, token: u64) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(command) = slot.command.as_mut().filter(|command| command.token == token) else { continue };
            command.into = Sink::None;
            if let Moving::ToHost { data, .. } = &mut command.moving {
                *data = Vec::new();
            }
            if self.current.is_some_and(|current| usize::from(current.slot) == index) {
                self.rx.drop_rest();
            }
        }
    }

    /// Every command without an answer, in no particular order (see [`Outstanding::order`]).
    pub fn outstanding(&self) -> impl Iterator<Item = Outstanding> + '_ {
        self.slots.iter().filter_map(|slot| {
            let command = slot.command.as_ref().filter(|command| command.answer.is_none())?;
            let begun = command.begin.is_some_and(|begin| self.given > begin);
            Some(Outstanding {
                token: command.token,
                cid: command.sqe.cid.get(),
                opcode: command.sqe.opcode,
                sent: if begun { Sent::Begun } else { Sent::Nothing },
                order: command.order,
            })
        })
    }

    /// From now on up to `bytes` of data go inside a capsule (IOCCSZ became known).
    pub fn set_in_capsule(&mut self, bytes: u32) {
        self.config.in_capsule = bytes;
    }

    /// Whether the connection is initialised and alive.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Never: a host knows where data goes before it asks for it.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        false
    }

    /// Commands that hold a slot.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Commands that can be submitted before [`Full`].
    #[must_use]
    pub fn room(&self) -> usize {
        usize::from(self.config.depth) - self.in_flight()
    }

    fn request(&self) -> IcReq {
        IcReq::new(self.config.hdgst, self.config.ddgst, 4, MAXR2T)
    }

    /// Sends the capsule of `cid`, or its next H2CData PDU. `base` is the stream offset of the list's first byte.
    fn send_one(&mut self, cid: u16, base: u64, maxh2cdata: u32, align: u32, list: &mut SendList) {
        let framing = Framing { hdgst: self.config.hdgst, ddgst: self.config.ddgst, align };
        let ddgst = framing.ddgst;
        let Some(command) = self.command_mut(cid).filter(|command| command.answer.is_none()) else { return };
        let mut more = false;
        if command.begin.is_none() {
            command.begin = Some(base.wrapping_add(list.bytes()));
            let len = if command.moving == Moving::InCapsule { command.out.len() } else { 0 };
            let capsule = CapsuleCmd::new(command.sqe, len, &framing);
            list.pdu(&capsule, capsule.ch.pdo);
            if len > 0 {
                list.data(&command.out, 0, len, ddgst);
            }
        } else if let Moving::ToController { window: window @ Some(_), .. } = &mut command.moving
            && let Some(Window { ttag, next, end }) = *window
        {
            let len = (end - next).min(maxh2cdata);
            let last = next + len == end;
            let header = H2cData::new(cid, ttag, next, len, last, &framing);
            list.pdu(&header, header.ch.pdo);
            list.data(&command.out, next, len, ddgst);
            *window = (!last).then_some(Window { ttag, next: next + len, end });
            more = !last;
        }
        command.end = base.wrapping_add(list.bytes());
        if more {
            self.ready.push_back(cid);
        }
    }

    /// The controller answered the command in this slot.
    fn complete(&mut self, slot: u16, cqe: Cqe) {
        let command = self.slots[usize::from(slot)].command.as_mut().expect("a known slot has a command");
        debug_assert!(command.answer.is_none(), "completes_exactly_once");
        let success = cqe.status().is_success();
        let detached = command.into == Sink::None;
        let error = match &command.moving {
            Moving::ToHost { digest_ok: false, .. } => Some(DataError::Digest),
            Moving::ToHost { len, received, .. } if success && received < len && !detached => Some(DataError::Short),
            Moving::ToController { asked, window } if success && (*asked < command.out.len() || window.is_some()) => {
                Some(DataError::Short)
            }
            _ => None,
        };
        command.answer = Some((cqe, error));
        if self.sending == Sending::Halted || command.end <= self.given {
            self.report(slot);
        } else {
            // A driver still holds bytes of it: `buffer_outlives_its_last_use`.
            self.deferred.push(slot);
        }
    }

    fn release_deferred(&mut self) {
        let mut at = 0;
        while let Some(&slot) = self.deferred.get(at) {
            let end = self.slots[usize::from(slot)].command.as_ref().map_or(0, |command| command.end);
            if self.sending == Sending::Halted || end <= self.given {
                self.deferred.swap_remove(at);
                self.report(slot);
            } else {
                at += 1;
            }
        }
    }

    /// Frees the slot of an answered command and tells its owner.
    fn report(&mut self, index: u16) {
        let slot = &mut self.slots[usize::from(index)];
        let Some(Command { token, moving, answer: Some((cqe, error)), .. }) = slot.command.take() else {
            unreachable!("only answered commands are reported")
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        let data = match moving {
            Moving::ToHost { data, .. } => data,
            Moving::Nothing | Moving::InCapsule | Moving::ToController { .. } => Vec::new(),
        };
        self.events.push_back(Event::Completed { token, cqe, data, error });
    }

    fn command_mut(&mut self, cid: u16) -> Option<&mut Command> {
        let index = self.index(cid);
        let command = self.slots.get_mut(usize::from(index))?.command.as_mut()?;
        (command.sqe.cid.get() == cid).then_some(command)
    }

    const fn index(&self, cid: u16) -> u16 {
        cid & ((1 << self.index_bits) - 1)
    }

    fn fail(&mut self, fatal: Fatal) -> Fatal {
        self.phase = Phase::Failed(fatal);
        self.ready.clear();
        if self.sending == Sending::Open {
            self.sending = Sending::Last(TermReq::encode(Direction::ToController, &fatal, self.rx.head()));
        }
        fatal
    }
}
