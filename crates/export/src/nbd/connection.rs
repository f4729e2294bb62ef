//! One client: carries bytes between its socket, the protocol's machines and the disk.
//!
//! Reading stops while as much is in flight as the bounds allow; replies count until the kernel has taken them, so a
//! client that does not read cannot make this grow. A request whose payload exceeds what the connection may hold waits
//! for memory before any is made, and with it what the client sent after it. A client that says goodbye gets its answers first; one that is
//! gone without it has its requests abandoned.

use super::handshake::{Agreed, Handshake, SAY_MAX, Standing};
use super::memory::{AGAIN_AFTER, Stall};
use super::outbox::Outbox;
use super::succession::{Predecessors, is_hung_up};
use super::table::{Export, Order, Seated};
use super::transmission::{Command, NO_MEMORY, Request, Then, Transmission};
use crate::Counters;
use crate::disk::{Disk, Fault, Finished, Work};
use crate::fault::{Errno, told};
use crate::payload::{Incoming, Payload};
use interlock_base::{Instant, Key, Slab};
use interlock_host::Buf;
use interlock_ring::{Cx, Event, Loose, Service, Sock, now};
use std::io::ErrorKind;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

/// Commands of one connection in flight at once.
const COMMANDS_MAX: usize = 128;

/// Payload of one connection in flight at once, in bytes. One more command of 32 MiB may come on top.
const PAYLOAD_IN_FLIGHT_MAX: usize = 64 << 20;

/// A client that has not chosen an export by then is sent away.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// When everything is answered, a client that is leaving gets so long to read it.
const GOODBYE_WITHIN: Duration = Duration::from_secs(10);

/// Receives per turn: one busy connection must not starve the others of its reactor.
const RECEIVES_PER_TURN: usize = 16;

/// Answers that make room for more commands, and those received then, so often per turn: for the same reason.
const ROUNDS_PER_TURN: usize = 16;

/// Payload of at least this many bytes is received straight into its place.
const DIRECT_MIN: u32 = 16 << 10;

enum Phase {
    /// Its client connects more often than it may, and nothing is done for it before this moment.
    Waiting(Instant),
    Asking(Handshake, Instant),
    /// It has chosen, and comes after those that are gone.
    Queueing(Box<(Agreed, Arc<Export>, Predecessors)>, Instant),
    Serving(Box<Serving>),
}

struct Serving {
    machine: Transmission,
    export: Arc<Export>,
    /// `None`: the export is shut, and everything fails.
    disk: Option<Disk>,
    /// The number of the export's gate at which that was so.
    gate: u64,
    /// The write that is being received, once it may hold its payload.
    incoming: Option<Incoming>,
    /// What waits for memory.
    parked: Option<Parked>,
    live: Slab<Live>,
    /// Payload of live commands.
    payload: usize,
}

/// A command that waits for memory.
struct Parked {
    /// A read; `None`: the write that was announced.
    read: Option<Request>,
    len: usize,
    /// Then it is answered with an error.
    until: Instant,
}

/// A command without an answer.
struct Live {
    request: Request,
    payload: usize,
}

/// Whether more is read, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open,
    /// Nothing more is read; when all is answered and sent, it closes in order, at the latest at that moment.
    Leaving(Option<Instant>),
    /// Drop it now.
    Gone,
}

pub(super) struct Connection {
    sock: Sock,
    phase: Phase,
    /// Given up after what is in `phase`: who sees it empty may rely on that.
    seated: Seated,
    course: Course,
    out: Outbox,
    /// Bytes that came while too much was in flight: at most what one receive takes.
    stash: Vec<u8>,
    unstashed: usize,
    /// Nobody reads replies any more.
    deaf: bool,
    /// The peer has closed its end altogether.
    hung: bool,
    wants_write: bool,
    /// Bytes that came so far.
    received: u64,
    stall: Stall,
    /// When a client that stalls is to be looked at.
    look_at: Option<Instant>,
    counters: Counters,
}

impl Connection {
    /// A connection that is greeted when it is its turn.
    pub(super) fn new(cx: &mut Cx<'_>, loose: Loose, seated: Seated, turn: Instant) -> Self {
        seated.seat.set_waker(cx.waker());
        let stall = Stall::new(seated.allowance.patience());
        Self {
            sock: cx.adopt(loose),
            phase: Phase::Waiting(turn),
            seated,
            course: Course::Open,
            out: Outbox::default(),
            stash: Vec::new(),
            unstashed: 0,
            deaf: false,
            hung: false,
            wants_write: false,
            received: 0,
            stall,
            look_at: None,
            counters: Counters::default(),
        }
    }

    /// Reads what is there, as far as the bounds allow.
    fn receive(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..RECEIVES_PER_TURN {
            if self.course != Course::Open || self.is_full() {
                return;
            }
            if !self.stash.is_empty() {
                let stash = mem::take(&mut self.stash);
                self.unstashed += self.feed(cx, &stash[self.unstashed..]);
                if self.unstashed < stash.len() {
                    self.stash = stash;
                } else {
                    self.unstashed = 0;
                }
                continue;
            }
            if self.receive_once(cx) {
                return;
            }
        }
        cx.again(self.sock);
    }

    /// One call to the kernel; true if nothing more is there.
    fn receive_once(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Phase::Serving(serving) = &mut self.phase
            && let Some((at, _)) = serving.machine.direct(DIRECT_MIN)
            && let Some(room) = serving.incoming.as_mut().and_then(|incoming| incoming.room(at as usize))
        {
            let len = room.len();
            return match cx.recv(self.sock, room) {
                Ok(0) => self.ended(),
                Ok(count) => {
                    self.received += count as u64;
                    self.placed(cx, count as u32); // no more than what is missing
                    count < len
                }
                Err(error) => self.failed(error.kind()),
            };
        }
        let sock = self.sock;
        cx.with_staging(|cx, staging| match cx.recv(sock, staging) {
            Ok(0) => self.ended(),
            Ok(count) => {
                self.received += count as u64;
                let used = self.feed(cx, &staging[..count]);
                if used < count && self.course == Course::Open {
                    self.stash.extend_from_slice(&staging[used..count]);
                    self.unstashed = 0;
                }
                count < staging.len()
            }
            Err(error) => self.failed(error.kind()),
        })
    }

    fn failed(&mut self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::WouldBlock => true,
            _ => self.ended(),
        }
    }

    /// The stream has ended without a goodbye.
    fn ended(&mut self) -> bool {
        self.course = Course::Gone;
        true
    }

    /// Offers bytes to the machines; says how many they used.
    fn feed(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.course == Course::Open && !self.is_full() {
            at += match &mut self.phase {
                Phase::Asking(handshake, _) => {
                    let used = handshake.handle_bytes(&self.seated, &bytes[at..]);
                    self.out.push_bytes(handshake.take_output());
                    self.after_handshake(cx);
                    used
                }
                Phase::Waiting(_) | Phase::Queueing(..) => return at,
                Phase::Serving(_) => self.take(cx, &bytes[at..]),
            };
        }
        at
    }

    fn after_handshake(&mut self, cx: &mut Cx<'_>) {
        let Phase::Asking(handshake, until) = &self.phase else { return };
        let until = *until;
        match handshake.standing() {
            Standing::Asking => {}
            Standing::Goodbye | Standing::Broken(_) => self.course = Course::Leaving(None),
            Standing::Agreed(agreed) => {
                match self.seated.choose(cx, &agreed.name) {
                    Some((export, before)) => {
                        self.phase = Phase::Queueing(Box::new((agreed.clone(), export, before)), until);
                        self.begin(cx);
                    }
                    // It was taken away in this moment.
                    None => self.course = Course::Gone,
                }
            }
        }
    }

    /// Greets the client, if it is its turn; true if it did.
    fn greet(&mut self, cx: &Cx<'_>) -> bool {
        if !matches!(self.phase, Phase::Waiting(turn) if turn <= cx.now()) {
            return false;
        }
        let mut handshake = Handshake::new();
        self.out.push_bytes(handshake.take_output());
        self.phase = Phase::Asking(handshake, cx.now() + HANDSHAKE_WITHIN);
        true
    }

    /// Begins to serve, if it is its turn; true if it did.
    fn begin(&mut self, cx: &Cx<'_>) -> bool {
        let Phase::Queueing(queueing, _) = &mut self.phase else { return false };
        let (agreed, export, before) = &mut **queueing;
        if !before.are_through() {
            return false;
        }
        let (gate, export, machine) = (export.gate.number(), Arc::clone(export), Transmission::new(agreed));
        match self.seated.disk(cx, &export) {
            Some(disk) => {
                let disk = Some(disk);
                self.phase = Phase::Serving(Box::new(Serving {
                    machine,
                    export,
                    disk,
                    gate,
                    incoming: None,
                    parked: None,
                    live: Slab::new(),
                    payload: 0,
                }));
            }
            // It was taken away in this moment, or this reactor has no lane of its host.
            None => self.course = Course::Gone,
        }
        true
    }

    /// Goes on with what waited for something else than bytes of the client; true if it did.
    fn go_on(&mut self, cx: &mut Cx<'_>) -> bool {
        match &mut self.phase {
            Phase::Asking(handshake, _) if handshake.is_listing() => {
                if self.out.uncounted() < SAY_MAX {
                    handshake.list(&self.seated);
                    self.out.push_bytes(handshake.take_output());
                }
                true
            }
            Phase::Serving(serving) if serving.parked.is_some() => {
                self.look_for_memory(cx);
                !self.is_full()
            }
            _ => false,
        }
    }

    /// What new clients have asked that has no answer yet. If this client is gone, it is read to its end now.
    fn look_after_client(&mut self, cx: &mut Cx<'_>) -> Option<u64> {
        let question = self.seated.seat.roll.question()?;
        self.hung |= is_hung_up(cx, self.sock);
        Some(question)
    }

    fn take(&mut self, cx: &mut Cx<'_>, bytes: &[u8]) -> usize {
        let Phase::Serving(serving) = &mut self.phase else { return 0 };
        let taken = serving.machine.handle_bytes(&serving.export.view(), bytes);
        let mut used = taken.used;
        match taken.then {
            Then::More => {}
            Then::Announced { len } => {
                let parked =
                    Parked { read: None, len: len as usize, until: cx.now() + self.seated.allowance.patience() };
                self.unpark(cx, parked);
            }
            Then::Place { at, len } => {
                let incoming = serving.incoming.as_mut().expect("a payload is read once it has its memory");
                let count = incoming.place(self.seated.buffers(), at as usize, &bytes[..len as usize]);
                self.placed(cx, count as u32); // at most `len`
                used += count;
            }
            Then::Submit(request) => match request.command {
                Command::Read { len, .. } => {
                    let parked = Parked {
                        read: Some(request),
                        len: len as usize,
                        until: cx.now() + self.seated.allowance.patience(),
                    };
                    self.unpark(cx, parked);
                }
                _ => self.submit(cx, request, None),
            },
            Then::Refuse { cookie, errno, why } => {
                self.counters.errors += 1;
                let head = serving.machine.error(cookie, errno, why);
                self.reply(head, Vec::new());
            }
            Then::Disconnect => self.course = Course::Leaving(None),
            Then::Broken(_) => self.course = Course::Gone,
        }
        used
    }

    /// Goes on with a command if it may have its memory; else it waits, and with it everything after it.
    fn unpark(&mut self, cx: &mut Cx<'_>, parked: Parked) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        // What is in flight already, and this.
        let bytes = serving.payload + self.out.payload() + parked.len;
        if !self.seated.allowance.covers(bytes, || cx.waker()) {
            serving.parked = Some(parked);
        } else if let Some(request) = parked.read {
            self.submit(cx, request, None);
        } else {
            serving.incoming = Some(Incoming::new(parked.len));
        }
    }

    /// Looks again at what waits for memory; ends its wait if that has lasted too long.
    fn look_for_memory(&mut self, cx: &mut Cx<'_>) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        let Some(parked) = serving.parked.take() else { return };
        if cx.now() < parked.until {
            return self.unpark(cx, parked);
        }
        self.seated.allowance.give_up();
        match parked.read {
            Some(request) => {
                self.counters.errors += 1;
                let head = serving.machine.error(request.cookie, Errno::NoMemory, NO_MEMORY);
                self.reply(head, Vec::new());
            }
            None => serving.machine.handle_no_memory(),
        }
    }

    /// Payload that this connection holds, or has announced.
    fn held(&self) -> usize {
        let Phase::Serving(serving) = &self.phase else { return 0 };
        serving.payload + self.out.payload() + serving.incoming.as_ref().map_or(0, Incoming::len)
    }

    /// Gives back what it does not need. A client that keeps from others what it does not use is sent away.
    fn share(&mut self, now: Instant) {
        self.seated.allowance.settle(self.held());
        let Phase::Serving(serving) = &self.phase else { return };
        let owes = serving.incoming.is_some() || !self.out.is_empty();
        let bytes = self.received.wrapping_add(self.out.sent());
        let again = serving.parked.is_some().then(|| now + AGAIN_AFTER);
        let stalls = self.stall.observe(now, bytes, owes && self.seated.allowance.has_grant());
        self.look_at = again.into_iter().chain(stalls).min();
        if self.stall.is_over(now) && self.seated.allowance.is_wanted() && self.course == Course::Open {
            self.course = Course::Gone;
        }
    }

    fn placed(&mut self, cx: &mut Cx<'_>, len: u32) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        if let Some(request) = serving.machine.handle_placed(len) {
            let data = serving.incoming.take().map(Incoming::complete);
            self.submit(cx, request, data);
        }
    }

    fn submit(&mut self, cx: &mut Cx<'_>, request: Request, data: Option<Payload>) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        let work = match request.command {
            Command::Read { offset, len } => Work::Read { offset, len },
            Command::Write { offset, fua, .. } => {
                Work::Write { offset, data: data.unwrap_or_else(|| Buf::zeroed(0).into()), fua }
            }
            Command::Flush => Work::Flush,
            Command::Trim { offset, len, fua } => Work::Discard { offset, len, fua },
            Command::WriteZeroes { offset, len, fua, deallocate, fast } => {
                Work::WriteZeroes { offset, len, deallocate, fast, fua }
            }
            Command::BlockStatus { len } => {
                let head = serving.machine.block_status(request.cookie, len);
                return self.reply(head, Vec::new());
            }
        };
        let Some(disk) = &mut serving.disk else { return self.fail(request, Fault::Shut) };
        let payload = match request.command {
            Command::Read { len, .. } | Command::Write { len, .. } => len as usize,
            _ => 0,
        };
        serving.payload += payload;
        let key = serving.live.insert(Live { request, payload });
        disk.submit(cx, work, key.to_u64());
    }

    fn fail(&mut self, request: Request, fault: Fault) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        self.counters.errors += 1;
        serving.export.settings.faults.note(now(), fault, || request.command.to_string());
        let (errno, why) = told(fault);
        let head = serving.machine.error(request.cookie, errno, &why);
        self.reply(head, Vec::new());
    }

    /// Follows the gate of its export: when it is shut everything that is under way fails, and when it is opened a disk is
    /// behind it again.
    fn follow(&mut self, cx: &mut Cx<'_>) {
        let Phase::Serving(serving) = &mut self.phase else { return };
        let number = serving.export.gate.number();
        if serving.gate == number {
            return;
        }
        serving.gate = number;
        serving.disk = None; // abandons
        self.seated.allowance.abandon();
        let live = mem::take(&mut serving.live);
        serving.payload = 0;
        serving.disk = self.seated.disk(cx, &serving.export);
        for (_, Live { request, .. }) in live.iter() {
            self.counters.abandoned += 1;
            self.fail(*request, Fault::Shut);
        }
    }

    /// Answers everything that is finished.
    fn answer(&mut self, cx: &mut Cx<'_>) {
        loop {
            let Phase::Serving(serving) = &mut self.phase else { return };
            let Some(Finished { token, result }) = serving.disk.as_mut().and_then(|disk| disk.poll(cx)) else { return };
            let Some(Live { request, payload }) = serving.live.remove(Key::from_u64(token)) else { continue };
            serving.payload -= payload;
            let machine = &serving.machine;
            let (head, parts) = match result {
                Ok(parts) => {
                    count(&mut self.counters, request.command);
                    match request.command {
                        Command::Read { offset, len } => (machine.data(request.cookie, offset, len), parts),
                        _ => (machine.done(request.cookie), Vec::new()),
                    }
                }
                Err(fault) => {
                    self.fail(request, fault);
                    continue;
                }
            };
            self.reply(head, parts);
        }
    }

    fn reply(&mut self, head: Vec<u8>, payload: Vec<Buf>) {
        if !self.deaf {
            self.out.push(head, payload);
        }
    }

    fn flush(&mut self, cx: &mut Cx<'_>) {
        let more = self.out.flush(cx, self.sock).unwrap_or_else(|_| {
            // What it has sent may still end with a goodbye: reading decides what it is.
            self.deaf = true;
            self.out.clear();
            false
        });
        if more != self.wants_write {
            self.wants_write = more;
            let _ = cx.want_write(self.sock, more); // closed: nothing to write
        }
    }

    /// True if as much is in flight as may be, or a command waits for memory. In the middle of a command never: it has its
    /// place already.
    fn is_full(&self) -> bool {
        let serving = match &self.phase {
            Phase::Asking(..) => return self.out.uncounted() >= SAY_MAX,
            Phase::Waiting(_) | Phase::Queueing(..) => return true,
            Phase::Serving(serving) => serving,
        };
        if serving.parked.is_some() {
            return true;
        }
        serving.machine.is_between()
            && (serving.live.len() + self.out.counted() >= COMMANDS_MAX
                || serving.payload + self.out.payload() >= PAYLOAD_IN_FLIGHT_MAX)
    }

    fn is_idle(&self) -> bool {
        match &self.phase {
            Phase::Waiting(_) | Phase::Asking(..) | Phase::Queueing(..) => true,
            Phase::Serving(serving) => {
                (self.is_left() || serving.live.is_empty())
                    && serving.parked.as_ref().is_none_or(|parked| parked.read.is_none())
            }
        }
    }

    /// Its host has ended with requests of it: nobody here will answer them.
    fn is_left(&self) -> bool {
        matches!(&self.phase, Phase::Serving(serving) if serving.disk.as_ref().is_some_and(Disk::is_left))
    }

    fn obey(&mut self) {
        match (self.seated.seat.order(), self.course) {
            (Order::Drop, _) => self.course = Course::Gone,
            (Order::Drain, Course::Open) => self.course = Course::Leaving(None),
            _ => {}
        }
    }

    /// Ends what has come to its end; true if it has.
    fn end(&mut self, cx: &mut Cx<'_>) -> bool {
        let now = cx.now();
        if self.course == Course::Open && self.is_left() {
            self.course = Course::Leaving(None); // it may ask whoever comes next
        }
        match self.course {
            Course::Leaving(_) if self.is_idle() && self.out.is_empty() => cx.close(self.sock),
            Course::Leaving(None) if self.is_idle() => {
                self.course = Course::Leaving(Some(now + GOODBYE_WITHIN));
                return false;
            }
            Course::Leaving(Some(until)) if until <= now => drop(cx.abort(self.sock)),
            Course::Gone => drop(cx.abort(self.sock)),
            Course::Open | Course::Leaving(_) => return false,
        }
        if let Phase::Serving(serving) = &self.phase {
            self.counters.abandoned += serving.live.len() as u64;
        }
        cx.detach();
        true
    }

    fn publish(&mut self) {
        let mut counters = self.counters;
        if let Phase::Serving(serving) = &self.phase
            && let Some(disk) = &serving.disk
        {
            counters.in_flight = disk.in_flight() as u64;
            disk.count_held(&mut counters);
        }
        self.seated.seat.counters.set(counters);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = match self.course {
            Course::Leaving(until) => until,
            _ => None,
        };
        let phase = match &self.phase {
            Phase::Waiting(until) | Phase::Asking(_, until) | Phase::Queueing(_, until) => Some(*until),
            Phase::Serving(serving) => serving.disk.as_ref().and_then(Disk::next_deadline),
        };
        own.into_iter().chain(phase).chain(self.look_at).min()
    }
}

impl Service for Connection {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Readable { .. } => self.receive(cx),
            Event::Hangup { .. } => self.hung = true,
            Event::Deadline => match &mut self.phase {
                Phase::Asking(_, until) | Phase::Queueing(_, until) if *until <= cx.now() => self.course = Course::Gone,
                Phase::Waiting(_) | Phase::Asking(..) | Phase::Queueing(..) => {}
                Phase::Serving(serving) => {
                    if let Some(disk) = &mut serving.disk {
                        disk.handle_timeout(cx);
                    }
                }
            },
            // Orders and completions are looked at in the turn; the disk abandons what it has when it is dropped.
            _ => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        self.obey();
        self.follow(cx);
        let mut began = self.greet(cx) | self.begin(cx);
        let question = self.look_after_client(cx);
        for round in 0..=ROUNDS_PER_TURN {
            let was_full = self.is_full() || mem::take(&mut began);
            let freed = self.go_on(cx);
            self.answer(cx);
            self.flush(cx);
            let has_room = !self.is_full() && self.course == Course::Open;
            if !has_room || !(was_full || freed || self.hung || !self.stash.is_empty()) {
                break;
            }
            if round == ROUNDS_PER_TURN {
                cx.again(self.sock);
                break;
            }
            self.receive(cx);
        }
        if self.hung && self.course == Course::Open && self.is_full() {
            // It left more behind than it may have in flight, and reads no answers: that is no goodbye.
            self.course = Course::Gone;
        }
        self.share(cx.now());
        let over = self.end(cx);
        if let Some(question) = question.filter(|_| !over) {
            self.seated.seat.roll.tell(question);
        }
        self.publish();
        if !over {
            cx.set_deadline(self.next_deadline());
        }
    }
}

fn count(counters: &mut Counters, command: Command) {
    match command {
        Command::Read { len, .. } => {
            counters.reads += 1;
            counters.read_bytes += u64::from(len);
        }
        Command::Write { len, .. } => {
            counters.writes += 1;
            counters.written_bytes += u64::from(len);
        }
        Command::Flush => counters.flushes += 1,
        Command::Trim { .. } => counters.trims += 1,
        Command::WriteZeroes { .. } => counters.zeroes += 1,
        Command::BlockStatus { .. } => {}
    }
}
