//! Carries for one lane on one reactor.
//!
//! Two kinds of callers submit here: foreign threads by mail, and services of the same reactor directly, without a
//! thread crossing. Buffers are owned by this driver from submission until the lane says `Done`, which it does only when
//! no queue can place into them or send from them any more (`buffer_outlives_its_last_use`).

use crate::abandon::Abandons;
use crate::completion::{QueueId, Reply};
use crate::control::ControlMail;
use crate::latch::FlushErrors;
use crate::links::{HostMachine, Links, Sockets};
use crate::local::LocalReply;
use crate::panic::Ending;
use interlock_base::{BufId, Instant, Key, Slab, Span};
use interlock_carry::{Machine, Mailbox};
use interlock_host_core::forward::Past;
use interlock_host_core::{
    ConnEvent, ConnId, HeadId, Lane, LaneId, LaneOutput, LifeId, Op, Outcome, Refused, Request, ToLane,
};
use interlock_proto::{SendList, Taken};
use interlock_ring::{Buf, BufTable, Cx, Event, Service, Waker};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// What other threads tell a lane.
pub(crate) enum LaneMail {
    /// From control, in order.
    Control(ToLane),
    /// A request of a foreign thread. `id` is the sender's, for `Abandon`.
    Submit { id: u64, request: Request, buf: Option<Buf>, reply: Reply },
    /// Nobody waits for it any more. `number` if it is in the log of what was given up.
    Abandon { id: u64, number: Option<u64> },
    /// A request that another lane forwards, with its buffer. It ends with `Served` to `back`.
    Serve { from: LaneId, ticket: u64, request: Request, past: Past, buf: Option<Buf>, back: Mailbox<LaneMail> },
    /// What was forwarded under this ticket has ended.
    Served { ticket: u64, outcome: Outcome, buf: Option<Buf> },
    /// As `Abandon`, of what `from` forwarded.
    AbandonServed { from: LaneId, ticket: u64, number: Option<u64> },
    /// The same of everything whose end goes to this queue.
    AbandonQueue { queue: QueueId, number: u64 },
    /// What was given up under this number was abandoned before this was sent.
    HandedOver(u64),
    /// Nothing is taken any more: what is under way ends.
    Close,
    /// Run this with the lane: for status and counters.
    Ask(Box<dyn FnOnce(&Lane) + Send>),
}

impl LaneMail {
    /// Nobody will read it: a request in it ends as one that was never sent.
    pub(crate) fn refuse(self, why: Refused) {
        match self {
            Self::Submit { buf, reply, .. } => reply.send(Outcome::NotSent(why), buf),
            Self::Serve { ticket, past, buf, back, .. } => {
                back.send(Self::Served { ticket, outcome: past.refused(why), buf });
            }
            _ => {}
        }
    }
}

/// Whom to answer.
enum Answer {
    Foreign {
        id: u64,
        reply: Reply,
    },
    Local(LocalReply),
    /// The lane that forwarded it under this ticket.
    Lane {
        from: LaneId,
        ticket: u64,
        back: Mailbox<LaneMail>,
    },
}

/// What a request may leave behind that others must know of.
enum Touches {
    Nothing,
    /// It changes these blocks.
    Blocks(HeadId, Range<u64>),
    /// It makes durable what others have written.
    Cache(HeadId),
}

impl Touches {
    fn of(request: &Request) -> Self {
        match request.op {
            Op::Flush => Self::Cache(request.head),
            op if op.changes_media() => Self::Blocks(request.head, request.range()),
            _ => Self::Nothing,
        }
    }

    fn blocks(&self) -> Option<(HeadId, Range<u64>)> {
        match self {
            Self::Blocks(head, range) => Some((*head, range.clone())),
            Self::Nothing | Self::Cache(_) => None,
        }
    }
}

struct Waiting {
    answer: Answer,
    buf: Option<BufId>,
    touches: Touches,
}

pub(crate) struct LaneMachine(pub(crate) Lane);

impl Machine for LaneMachine {
    type Conn = ConnId;

    fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        self.0.handle_bytes(now, conn, bytes)
    }

    fn handle_placed(&mut self, now: Instant, conn: ConnId, len: u32, digest: u32) {
        self.0.handle_placed(now, conn, len, digest);
    }

    fn direct(&self, conn: ConnId, min: u32) -> Option<(Span, Option<u32>)> {
        self.0.direct(conn, min).map(|span| (span, self.0.direct_digest(conn)))
    }

    fn handle_given(&mut self, now: Instant, conn: ConnId, bytes: u64) {
        self.0.handle_given(now, conn, bytes);
    }

    fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        self.0.poll_send(conn, list);
    }

    fn is_blocked(&self, _conn: ConnId) -> bool {
        // The host's end of a queue pair always knows where its bytes go.
        false
    }
}

impl HostMachine for LaneMachine {
    fn handle_conn(&mut self, now: Instant, conn: ConnId, event: ConnEvent) {
        self.0.handle_conn(now, conn, event);
    }

    fn life_of(&self, conn: ConnId) -> Option<LifeId> {
        self.0.life_of(conn)
    }
}

/// The state of a lane's driver. The service and the local doors of its reactor share it.
pub(crate) struct LaneDriver {
    id: LaneId,
    machine: LaneMachine,
    links: Links,
    memory: BufTable,
    waiting: Slab<Waiting>,
    /// Foreign requests by their sender's id, for `Abandon`.
    foreign: BTreeMap<u64, Key>,
    /// Requests that other lanes carry out, by ticket: their tokens.
    forwarded: BTreeMap<u64, u64>,
    /// Requests of other lanes, by who forwarded them and under which ticket.
    served: BTreeMap<(LaneId, u64), Key>,
    lanes: Arc<[Mailbox<LaneMail>]>,
    to_control: Mailbox<ControlMail>,
    abandons: Arc<Abandons>,
    flush_errors: Arc<FlushErrors>,
    waker: Waker,
    /// Its service is gone: nothing is carried any more.
    ended: bool,
}

impl LaneDriver {
    fn submit(&mut self, now: Instant, mut request: Request, buf: Option<Buf>, answer: Answer) {
        if self.ended {
            self.finish(answer, Outcome::NotSent(Refused::ShuttingDown), buf);
            return;
        }
        let reads = matches!(request.op, interlock_host_core::Op::Read);
        let mut buf = buf;
        if reads && buf.as_mut().is_some_and(|buf| !buf.is_unique()) {
            self.finish(answer, Outcome::NotSent(Refused::SharedBuffer), buf);
            return;
        }
        let len = buf.as_ref().map_or(0, |buf| buf.as_slice().len());
        let id = buf.map(|buf| self.memory.insert(buf));
        request.data = id.map(|buf| Span { buf, offset: 0, len: u32::try_from(len).unwrap_or(u32::MAX) });
        let foreign = if let Answer::Foreign { id, .. } = &answer { Some(*id) } else { None };
        let touches = Touches::of(&request);
        let key = self.waiting.insert(Waiting { answer, buf: id, touches });
        if let Some(foreign) = foreign {
            self.foreign.insert(foreign, key);
        }
        if let Err(refused) = self.machine.0.submit(now, request, key.to_u64()) {
            self.done(key.to_u64(), Outcome::NotSent(refused));
        }
    }

    /// Has another lane carry a request out: its buffer goes there.
    #[cold]
    fn forward(&mut self, now: Instant, to: LaneId, ticket: u64, token: u64, request: Request, past: Past) {
        let Some(waiting) = self.waiting.get_mut(Key::from_u64(token)) else {
            debug_assert!(false, "completes_exactly_once: a request was forwarded that had ended");
            return;
        };
        let buf = waiting.buf.take().and_then(|id| self.memory.remove(id));
        self.forwarded.insert(ticket, token);
        let (from, back) = (self.id, self.lanes[usize::from(self.id.0)].clone());
        let mail = LaneMail::Serve { from, ticket, request, past, buf, back };
        if let Err(LaneMail::Serve { buf, .. }) = self.lanes[usize::from(to.0)].pass(mail) {
            self.served(now, ticket, past.refused(Refused::ShuttingDown), buf);
        }
    }

    /// Carries a request of another lane out.
    fn serve(&mut self, now: Instant, request: Request, past: Past, buf: Option<Buf>, answer: Answer) {
        let id = buf.map(|buf| self.memory.insert(buf));
        let data = request.data.zip(id).map(|(span, buf)| Span { buf, ..span });
        let name = if let Answer::Lane { from, ticket, .. } = &answer { Some((*from, *ticket)) } else { None };
        // What it may leave behind is looked at where it was asked for.
        let key = self.waiting.insert(Waiting { answer, buf: id, touches: Touches::Nothing });
        if let Some(name) = name {
            self.served.insert(name, key);
        }
        self.machine.0.serve(now, Request { data, ..request }, past, key.to_u64());
    }

    /// Another lane has ended a request of this one, and its buffer is back.
    fn served(&mut self, now: Instant, ticket: u64, outcome: Outcome, buf: Option<Buf>) {
        let token = self.forwarded.remove(&ticket);
        let Some(waiting) = token.and_then(|token| self.waiting.get_mut(Key::from_u64(token))) else { return };
        waiting.buf = buf.map(|buf| self.memory.insert(buf));
        self.machine.0.handle_served(now, ticket, outcome);
    }

    /// A request of a service on this reactor.
    pub(crate) fn submit_local(&mut self, now: Instant, request: Request, buf: Option<Buf>, reply: LocalReply) {
        self.read_abandoned();
        self.submit(now, request, buf, Answer::Local(reply));
        // The sockets belong to the lane's service: it sends in its own turn.
        self.waker.wake();
    }

    /// Gives up the requests of a local door that is gone.
    pub(crate) fn abandon_local(&mut self, now: Instant, mine: impl Fn(&LocalReply) -> bool) {
        let mine = |waiting: &Waiting| matches!(&waiting.answer, Answer::Local(reply) if mine(reply));
        let changes: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| mine(waiting))
            .filter_map(|(_, waiting)| waiting.touches.blocks())
            .collect();
        if self.abandon_all(now, mine) {
            self.waker.wake();
        }
        if !changes.is_empty() && !self.ended {
            self.abandons.abandoned(self.id, changes);
        }
    }

    /// True if there were any.
    fn abandon_all(&mut self, now: Instant, which: impl Fn(&Waiting) -> bool) -> bool {
        let keys: Vec<Key> = self.waiting.iter().filter(|(_, waiting)| which(waiting)).map(|(key, _)| key).collect();
        for key in &keys {
            self.machine.0.abandon(now, key.to_u64());
        }
        !keys.is_empty()
    }

    /// Hears what was given up on any lane before what is submitted next was asked for.
    fn read_abandoned(&mut self) {
        if let Some(news) = self.abandons.take(self.id) {
            self.machine.0.handle_abandoned(news.abandoned);
            self.ended |= news.closed;
        }
    }

    fn done(&mut self, token: u64, mut outcome: Outcome) {
        let Some(waiting) = self.waiting.remove(Key::from_u64(token)) else {
            debug_assert!(false, "completes_exactly_once: the lane ended a request twice");
            return;
        };
        if let Touches::Cache(head) = waiting.touches {
            outcome = self.flush_errors.ended(head, outcome);
        }
        let buf = waiting.buf.and_then(|id| self.memory.remove(id));
        self.finish(waiting.answer, outcome, buf);
    }

    fn finish(&mut self, answer: Answer, outcome: Outcome, buf: Option<Buf>) {
        match answer {
            Answer::Foreign { id, reply } => {
                self.foreign.remove(&id);
                reply.send(outcome, buf);
            }
            Answer::Local(reply) => reply.send(outcome, buf),
            Answer::Lane { from, ticket, back } => {
                self.served.remove(&(from, ticket));
                back.send(LaneMail::Served { ticket, outcome, buf });
            }
        }
    }

    fn mail(&mut self, now: Instant, mail: LaneMail) {
        match mail {
            LaneMail::Control(message) => {
                if matches!(message, ToLane::Shutdown) {
                    // What ends as indeterminate here must not be overtaken on a lane that has not heard it yet.
                    self.abandons.close();
                    self.ended = true;
                }
                self.flush_errors.hear(&message);
                self.machine.0.handle_control(now, message);
            }
            LaneMail::Submit { id, request, buf, reply } => {
                self.submit(now, request, buf, Answer::Foreign { id, reply });
            }
            LaneMail::Abandon { id, number } => {
                if let Some(key) = self.foreign.get(&id) {
                    self.machine.0.abandon(now, key.to_u64());
                }
                if let Some(number) = number {
                    self.machine.0.handed_over(now, number);
                }
            }
            LaneMail::Serve { from, ticket, request, past, buf, back } => {
                self.serve(now, request, past, buf, Answer::Lane { from, ticket, back });
            }
            LaneMail::Served { ticket, outcome, buf } => self.served(now, ticket, outcome, buf),
            LaneMail::AbandonServed { from, ticket, number } => {
                if let Some(key) = self.served.get(&(from, ticket)) {
                    self.machine.0.abandon(now, key.to_u64());
                }
                if let Some(number) = number {
                    self.machine.0.handed_over(now, number);
                }
            }
            LaneMail::AbandonQueue { queue, number } => {
                self.abandon_all(
                    now,
                    |waiting| matches!(&waiting.answer, Answer::Foreign { reply, .. } if reply.goes_to(&queue)),
                );
                self.machine.0.handed_over(now, number);
            }
            LaneMail::Close => self.machine.0.handle_control(now, ToLane::Shutdown),
            LaneMail::HandedOver(number) => self.machine.0.handed_over(now, number),
            LaneMail::Ask(ask) => ask(&self.machine.0),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, output: LaneOutput) {
        match output {
            LaneOutput::Conn(action) => self.links.act(cx, &mut self.machine, action),
            LaneOutput::ToControl(message) => self.to_control.send(ControlMail::Lane(self.id, message)),
            LaneOutput::Done { token, outcome } => self.done(token, outcome),
            LaneOutput::FlushLost { head, status } => self.flush_errors.lost(head, status),
            LaneOutput::Forward { to, ticket, token, request, past } => {
                self.forward(cx.now(), to, ticket, token, request, past);
            }
            LaneOutput::GiveUp { to, ticket, change } => self.abandons.forwarded(to, self.id, ticket, change),
        }
    }

    /// Its sockets are gone, and with them everything it could do: each request ends with what is true of it.
    fn end(&mut self, now: Instant) {
        self.machine.0.handle_control(now, ToLane::Shutdown);
        while let Some(output) = self.machine.0.poll_output() {
            match output {
                LaneOutput::Done { token, outcome } => self.done(token, outcome),
                LaneOutput::FlushLost { head, status } => self.flush_errors.lost(head, status),
                _ => {}
            }
        }
        self.forsake();
    }

    /// Whatever was not answered will not be: after a panic of the lane nobody knows what became of it.
    fn forsake(&mut self) {
        self.ended = true;
        let left: Vec<u64> = self.waiting.iter().map(|(key, _)| key.to_u64()).collect();
        for token in left {
            self.done(token, Outcome::Indeterminate { until: None });
        }
    }

    /// Carries out everything the lane wants, until it wants nothing.
    fn drain(&mut self, cx: &mut Cx<'_>) {
        loop {
            while let Some(output) = self.machine.0.poll_output() {
                self.output(cx, output);
            }
            self.links.turn(cx, &mut self.machine, &self.memory);
            let Some(output) = self.machine.0.poll_output() else { break };
            self.output(cx, output);
        }
        let lane = self.machine.0.next_deadline().map(|deadline| deadline.at);
        cx.set_deadline(lane.into_iter().chain(self.links.next_deadline()).min());
    }
}

/// What the lanes of a host have in common.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) abandons: Arc<Abandons>,
    pub(crate) flush_errors: Arc<FlushErrors>,
    pub(crate) ending: Arc<Ending>,
    /// All of them, by number.
    pub(crate) lanes: Arc<[Mailbox<LaneMail>]>,
}

/// The service of one lane.
pub(crate) struct LaneService {
    driver: Rc<RefCell<LaneDriver>>,
    mailbox: Mailbox<LaneMail>,
    key: crate::local::LaneKey,
    ending: Arc<Ending>,
    /// It was detached.
    in_order: bool,
}

impl LaneService {
    pub(crate) fn new(
        cx: &Cx<'_>,
        lane: Lane,
        key: crate::local::LaneKey,
        mailbox: Mailbox<LaneMail>,
        to_control: Mailbox<ControlMail>,
        common: &Common,
        sockets: Sockets,
    ) -> Self {
        mailbox.set_reader(cx.waker());
        let driver = Rc::new(RefCell::new(LaneDriver {
            id: key.lane,
            machine: LaneMachine(lane),
            links: Links::new(Some(key.lane), sockets),
            memory: BufTable::default(),
            waiting: Slab::new(),
            foreign: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            served: BTreeMap::new(),
            lanes: Arc::clone(&common.lanes),
            to_control,
            abandons: Arc::clone(&common.abandons),
            flush_errors: Arc::clone(&common.flush_errors),
            waker: cx.waker(),
            ended: false,
        }));
        let ending = Arc::clone(&common.ending);
        crate::local::register(key, &driver, &ending);
        Self { driver, mailbox, key, ending, in_order: false }
    }
}

impl Service for LaneService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        let driver = &mut *self.driver.borrow_mut();
        match event {
            Event::Attached | Event::Mail => {
                let mails = self.mailbox.take();
                // After they were taken: see `Abandons::take`.
                driver.read_abandoned();
                for mail in mails {
                    driver.mail(cx.now(), mail);
                }
            }
            Event::Deadline => driver.machine.0.handle_timeout(cx.now()),
            Event::Detach => {
                // Before anybody is told.
                driver.abandons.close();
                self.in_order = true;
                driver.links.abort_all(cx);
                driver.end(cx.now());
                crate::local::unregister(self.key);
            }
            event => driver.links.handle(cx, &mut driver.machine, &mut driver.memory, event),
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        self.driver.borrow_mut().drain(cx);
    }

    fn panicked(&mut self, message: &str) {
        self.ending.begin(&self.key.lane.to_string(), message);
    }
}

/// However the service ends - in order, by a panic, with its reactor - nobody waits for it afterwards.
impl Drop for LaneService {
    fn drop(&mut self) {
        if !self.in_order {
            self.ending.begin_without_reactor(&self.key.lane.to_string());
        }
        for mail in self.mailbox.close() {
            mail.refuse(Refused::ShuttingDown);
        }
        // Local doors share the driver and may outlive this.
        if let Ok(mut driver) = self.driver.try_borrow_mut() {
            driver.forsake();
        }
    }
}
