//! One reactor's share of the data plane.
//!
//! A retry that is decided in the wrong place is how data dies: a timeout handler here, a reconnect there, each with
//! its own idea of what may be sent again. A [`Lane`] has one choke point, [`classify`], and everything that happens to
//! a command without a good answer is a row of its table. What surrounds it is bookkeeping, cut by subject:
//!
//! - `connect`: from `OpenQueue` to a usable queue pair, and its loss;
//! - `data`: requests become commands, commands become answers; the requeue list;
//! - `heads`: which path is chosen;
//! - `loss`: condemn, hold, settle, answer late, drain, abandon;
//! - `flush`: a flush that has to go to several controllers;
//! - `suspects`: commands that instances were lost with;
//! - `forward`: requests that another lane carries out, for want of a queue here;
//! - `guard`: the ranges that nobody may touch, and who may go first; before that, what was given up on any lane
//!   ([`barrier`](crate::barrier)).
//!
//! # How requests go
//!
//! ```text
//! submit ── free, path up ──────────────> on a queue ── answered ──> Done
//!    │                                      │   │  ^
//!    ├─ path up on another lane = forwarded │   │  │
//!    ├─ guard overlaps / no path / no slot  │   │  └── released: fenced, and its turn has come
//!    │        = waiting, in order ──────────┘   │
//!    │                                     life condemned
//!    │                                          ├─ settled (unsent, or without late effect) ─> waiting, other path
//!    └─ refused                                 └─ in doubt ─> held ── Answered ─> Done
//!                                                               ├──── Settle(Retry) ─> released
//!                                                               └──── Settle(Indeterminate) ─> Done, guard stays
//! ```
//!
//! # Why reads pass a guard
//! A guarded write has not been answered to anybody who waits, so it may take effect at any moment until it is; a read
//! may return the content before or after it. A flush promises only what was answered when it was submitted, and a
//! write in doubt was not.
//!
//! # Buffers (`buffer_outlives_its_last_use`)
//! `Done` for a request means that no queue will send from its span or place into it again: its command was answered,
//! or its queue was halted and `StopSending` was said, or (reads) it was detached. The driver carries outputs out in
//! order, and the kernel copies what it is given.

mod command;
mod connect;
mod counters;
mod data;
mod flush;
mod forward;
mod guard;
mod heads;
mod latency;
mod life;
mod link;
mod loss;
mod requests;
mod suspects;
#[cfg(test)]
mod tests;

pub use counters::{HeadCounters, IoCounters, LaneCounters, PathCounters};
pub use latency::{Latencies, Latency};
pub use life::LifeStanding;

use crate::barrier::{Abandoned, Barrier};
use crate::conflicts::Conflicts;
use crate::forward::Past;
use crate::guards::{self as conditions, Guard};
use crate::{
    ConnAction, ConnEvent, ConnId, CtrlId, GuardKey, HeadId, LaneId, LifeId, Outcome, Refused, Request, ToControl,
    ToLane,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use interlock_base::{Deadline, Instant, Rng, Slab, Span, Timers, fingerprint};
use interlock_proto::{SendList, Taken};
use interlock_wire::status::Status;

/// How to set up a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LaneConfig {
    /// Its name, unique within the host.
    pub id: LaneId,
    /// Requests it holds at once at most, sent, waiting or held: 1 to 2^20. More are [`Refused::Busy`].
    pub requests_max: u32,
    /// Chance, for where round robin begins.
    pub seed: u64,
}

/// What a lane wants done. Carried out in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LaneOutput {
    /// Something with a connection.
    Conn(ConnAction),
    /// Tell control, in order.
    ToControl(ToControl),
    /// A request has ended (`completes_exactly_once`); its buffer is free.
    Done {
        /// As given to [`Lane::submit`].
        token: u64,
        /// How.
        outcome: Outcome,
    },
    /// A Flush that no caller waits for reports a loss: tell [`FlushLatch::handle_lost`](crate::latch::FlushLatch::handle_lost) before
    /// any later output is carried out.
    FlushLost {
        /// The namespace.
        head: HeadId,
        /// What the controller said.
        status: Status,
    },
    /// Have another lane carry a request out ([`forward`](crate::forward)): [`Lane::serve`] there, and when it is done there,
    /// [`Lane::handle_served`] here. In order, with [`LaneOutput::GiveUp`].
    Forward {
        /// The lane.
        to: LaneId,
        /// The name of the request between the two lanes.
        ticket: u64,
        /// As given to [`Lane::submit`]. Its buffer goes with it.
        token: u64,
        /// The request.
        request: Request,
        /// What it has behind it.
        past: Past,
    },
    /// Nobody waits for a forwarded request any more: write `change` into the log of what was given up
    /// ([`AbandonLog::abandon`](crate::barrier::AbandonLog::abandon)) for that lane, before any later output of this one is
    /// carried out, then have that lane [`Lane::abandon`] the request and say that number with [`Lane::handed_over`].
    GiveUp {
        /// The lane that has it.
        to: LaneId,
        /// As in [`LaneOutput::Forward`].
        ticket: u64,
        /// The blocks, if it changes any.
        change: Option<(HeadId, Range<u64>)>,
    },
}

// Every output of every request is of this size.
const _: () = assert!(size_of::<LaneOutput>() <= 112, "what is rare is boxed");

/// Why a lane wants to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneWhy {
    /// TCP connect, ICResp and Connect of a queue pair must be done (`QueueSpec::connect_timeout`).
    Connect(ConnId),
    /// The oldest command of a queue has had no answer (`QueueSpec::io_timeout`).
    Io(ConnId),
    /// A condemned socket still has unacknowledged bytes: it is aborted (`QueueSpec::late_grace`), and again until it is
    /// known to be gone.
    LateGrace(ConnId),
    /// A controller asked for a retry after a delay, which is over.
    Retry,
    /// Changes of blocks that somebody gave up, on a lane that has not said what became of them
    /// ([`HANDOVER_WITHIN`](crate::barrier::HANDOVER_WITHIN)): they are refused then.
    Handover,
    /// The last words to a peer that broke the protocol have had their time: the socket is aborted.
    LastWords(ConnId),
}

impl fmt::Display for LaneWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(conn) => write!(f, "{conn}: TCP connect, ICResp and Connect"),
            Self::Io(conn) => write!(f, "{conn}: answer to the oldest I/O command"),
            Self::LateGrace(conn) => write!(f, "{conn}: late completions, and the socket to be gone"),
            Self::Retry => f.write_str("retries after the delay that a controller asked for"),
            Self::Handover => f.write_str("what became of writes that were given up"),
            Self::LastWords(conn) => write!(f, "{conn}: a termination request to leave"),
        }
    }
}

/// One life, as a lane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LifeStatus {
    /// The life.
    pub life: LifeId,
    /// Its controller.
    pub ctrl: CtrlId,
    /// What may be done on it.
    pub standing: LifeStanding,
    /// Commands sent or about to be sent, without an answer.
    pub in_flight: u32,
    /// Commands held because they are in doubt.
    pub held: u32,
    /// Queue pairs that are usable.
    pub queues_up: u32,
}

/// What a lane is busy with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct LaneStatus {
    /// Requests that have not ended.
    pub requests: u32,
    /// On a queue.
    pub in_flight: u32,
    /// In doubt on a lost life.
    pub held: u32,
    /// Waiting for a guarded range to become free; released commands that wait for their turn are among them.
    pub guarded: u32,
    /// Waiting for a usable path.
    pub requeued: u32,
    /// Waiting for the delay that a controller asked for.
    pub delayed: u32,
    /// Waiting for a free slot on a queue.
    pub backlogged: u32,
    /// Ranges that nobody may touch, over all lanes.
    pub guards: u32,
    /// By life.
    pub lives: Vec<LifeStatus>,
    /// What it waits for by itself, the earliest first. What is held or guarded ends by control's deadlines.
    pub waits: Vec<Deadline<LaneWhy>>,
}

/// One reactor's share of the data plane, sans-io.
#[derive(Clone, Debug, Hash)]
pub struct Lane {
    config: LaneConfig,
    requests: requests::Requests,
    heads: heads::Heads,
    lives: Slab<life::Life>,
    links: link::Links,
    guards: guard::Guards,
    barrier: Barrier,
    /// Flushes that go to several controllers, by order of acceptance.
    plans: BTreeMap<u64, flush::Plan>,
    /// Requests that were outstanding on lost instances.
    lost: suspects::Lost,
    conflicts: Conflicts,
    timers: Timers<LaneWhy>,
    counters: LaneCounters,
    outputs: VecDeque<LaneOutput>,
    /// Guarded commands that ended during this call: one message for all of them.
    resolved: Vec<GuardKey>,
    /// What may have become possible during this call.
    wake: data::Wake,
    rng: Rng,
    shutting_down: bool,
}

impl Lane {
    /// A lane without queues and namespaces.
    ///
    /// # Panics
    /// If `requests_max` is 0 or above 2^20.
    #[must_use]
    pub fn new(config: LaneConfig) -> Self {
        assert!(
            (1..=requests::MAX_REQUESTS).contains(&config.requests_max),
            "requests_max must be 1 to 2^20, not {}",
            config.requests_max
        );
        Self {
            config,
            requests: requests::Requests::default(),
            heads: heads::Heads::new(config.id),
            lives: Slab::new(),
            links: link::Links::default(),
            guards: guard::Guards::new(config.id),
            barrier: Barrier::default(),
            plans: BTreeMap::new(),
            lost: suspects::Lost::new(),
            conflicts: Conflicts::default(),
            timers: Timers::new(),
            counters: LaneCounters::default(),
            outputs: VecDeque::new(),
            resolved: Vec::new(),
            wake: data::Wake::default(),
            rng: Rng::new(config.seed),
            shutting_down: false,
        }
    }

    /// Takes a request over. `token` is the caller's and comes back in exactly one [`LaneOutput::Done`].
    ///
    /// # Errors
    /// Why it was refused; then nothing happened and no `Done` will come.
    pub fn submit(&mut self, now: Instant, request: Request, token: u64) -> Result<(), Refused> {
        let accepted = self.accept(now, request, token);
        self.finish_call(now);
        accepted
    }

    /// Nobody waits for the request any more: its future was dropped, its client is gone. Nothing is cancelled. If it was
    /// not sent it ends at once; if a write was sent, its range is guarded until it is answered or fenced, and it is never
    /// retried. `Done` comes in any case, when the buffer is free. A token that is not known (any more) is ignored.
    pub fn abandon(&mut self, now: Instant, token: u64) {
        self.abandon_request(now, token);
        self.finish_call(now);
    }

    /// Everything that was given up under this number and those before it was told with [`Lane::abandon`]. Control is told,
    /// and passes it on: until then every lane has what it overlaps wait.
    pub fn handed_over(&mut self, now: Instant, number: u64) {
        self.wake.guards |= self.barrier.handle_handed_over(self.config.id, number);
        self.say(ToControl::HandedOver(number));
        self.finish_call(now);
    }

    /// Callers of any lane have given these changes up. Changes of the same blocks that are submitted from now on wait until
    /// it is known which of them are in doubt. Call it with [`AbandonLog::take`](crate::barrier::AbandonLog::take) before
    /// every [`Lane::submit`], [`Lane::serve`] and [`ToLane::HandedOver`].
    pub fn handle_abandoned(&mut self, entries: Vec<Abandoned>) {
        if conditions::enabled(Guard::EpochAtDequeue) {
            self.barrier.handle_abandoned(entries);
        }
    }

    /// A message from control.
    pub fn handle_control(&mut self, now: Instant, message: ToLane) {
        match message {
            ToLane::OpenQueue(spec) => self.open_queue(now, spec),
            ToLane::Paths(table) => {
                self.guards.set_twins(table.twins.clone());
                self.heads.set_table(table, &self.lives, &mut self.rng);
                for (_, life) in self.lives.iter_mut() {
                    life.ana_asked = false;
                }
                self.wake.paths = true;
            }
            ToLane::Forget(heads) => {
                let requests = &self.requests;
                self.heads.forget(&heads, |slot| requests.has_head(slot));
            }
            ToLane::Condemn { life, policy } => self.condemn(now, life, policy),
            ToLane::Drain(life) => self.drain(now, life),
            ToLane::Guard { epoch, entries } => self.guard_table(now, epoch, entries),
            ToLane::HandedOver { lane, number } => self.wake.guards |= self.barrier.handle_handed_over(lane, number),
            ToLane::FlushPlan { seq, lives, lost } => self.flush_plan(now, seq, lives, lost),
            ToLane::Poison(order) => self.suspect_order(now, order),
            ToLane::Answered { key, cqe } => self.answered(now, key, &cqe),
            ToLane::Settle { life, release } => self.settle(now, life, release),
            ToLane::AskTraffic(life) => self.tell_traffic(life),
            ToLane::Shutdown => self.shut_down(now),
        }
        self.finish_call(now);
    }

    /// Says what I/O of a life has been answered last, by its submission.
    #[cold]
    fn tell_traffic(&mut self, life: LifeId) {
        let ctrl = self.life(life).and_then(|key| self.lives.get(key)).map(|life| life.ctrl);
        if let Some(submitted) = ctrl.and_then(|ctrl| self.heads.last_answered(ctrl)) {
            self.say(ToControl::Traffic { life, submitted });
        }
    }

    /// Something happened to a connection. Events of connections that the lane has forgotten are ignored.
    pub fn handle_conn(&mut self, now: Instant, conn: ConnId, event: ConnEvent) {
        self.conn_event(now, conn, event);
        self.finish_call(now);
    }

    /// Bytes arrived. What to do with the answer: see the front page of `interlock_proto`. A peer that breaks the
    /// protocol is dealt with inside; its bytes, and those of connections already given up, are swallowed.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        let taken = self.bytes(now, conn, bytes);
        self.finish_call(now);
        taken
    }

    /// `len` bytes of payload were placed where [`Lane::handle_bytes`] or [`Lane::direct`] said; `crc` is the CRC-32C
    /// that was asked for, or 0.
    pub fn handle_placed(&mut self, now: Instant, conn: ConnId, len: u32, crc: u32) {
        if let Some(queue) = self.links.get_mut(conn).and_then(link::Link::receiving) {
            queue.handle_placed(len, crc);
            self.queue_events(now, conn);
        }
        self.finish_call(now);
    }

    /// Where the next bytes of the stream belong, if at least `min` of them are payload of one span: receive straight
    /// into it, then call [`Lane::handle_placed`].
    #[must_use]
    pub fn direct(&self, conn: ConnId, min: u32) -> Option<Span> {
        self.links.get(conn)?.receiving_ref()?.direct(min)
    }

    /// The CRC-32C to continue while receiving into [`Lane::direct`]'s span, if a data digest is on.
    #[must_use]
    pub fn direct_digest(&self, conn: ConnId) -> Option<u32> {
        self.links.get(conn)?.receiving_ref()?.direct_digest()
    }

    /// The kernel accepted that many more of the polled bytes.
    pub fn handle_given(&mut self, now: Instant, conn: ConnId, bytes: u64) {
        let Some(queue) = self.links.get_mut(conn).and_then(link::Link::sending) else { return };
        queue.handle_given(bytes);
        // An answer may have waited for the driver to let go of its command.
        self.queue_events(now, conn);
        self.finish_call(now);
    }

    /// A deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(why) = self.timers.expired(now) {
            self.expire(now, why);
        }
        self.finish_call(now);
    }

    /// The next thing to do. Call until `None` after every other call.
    pub fn poll_output(&mut self) -> Option<LaneOutput> {
        self.outputs.pop_front()
    }

    /// Appends what is ready to be sent on `conn`, at most `interlock_proto::MAX_POLL_BYTES`. Report what the kernel
    /// accepted with [`Lane::handle_given`]; if more is ready then, another [`ConnAction::Send`] comes.
    pub fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        let Some(link) = self.links.get_mut(conn) else { return };
        link.send_asked = false;
        if let Some(queue) = link.sending() {
            queue.poll_send(list);
        }
    }

    /// When the lane wants to be called next, and why.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline<LaneWhy>> {
        self.timers.next()
    }

    /// Everything it waits for that has a deadline of its own, the earliest first. What is held or guarded ends by
    /// control's deadlines.
    pub fn waits(&self) -> impl Iterator<Item = Deadline<LaneWhy>> + '_ {
        self.timers.iter()
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> LaneId {
        self.config.id
    }

    /// Counters of the lane as a whole.
    #[must_use]
    pub const fn counters(&self) -> &LaneCounters {
        &self.counters
    }

    /// Counters of every namespace that the lane knows, or of which it ever carried out anything.
    #[must_use]
    pub fn head_counters(&self) -> Vec<HeadCounters> {
        self.heads.head_counters()
    }

    /// Counters of every path of these namespaces; they outlive the path.
    #[must_use]
    pub fn path_counters(&self) -> Vec<PathCounters> {
        self.heads.path_counters()
    }

    /// How long requests took, one for each of [`Lane::head_counters`].
    #[must_use]
    pub fn head_latencies(&self) -> Vec<Latencies> {
        self.heads.head_latencies()
    }

    /// How long commands took, one for each of [`Lane::path_counters`].
    #[must_use]
    pub fn path_latencies(&self) -> Vec<Latencies> {
        self.heads.path_latencies()
    }

    /// The life that a connection belongs to; `None` once it is forgotten.
    #[must_use]
    pub fn life_of(&self, conn: ConnId) -> Option<LifeId> {
        self.links.get(conn).map(|link| link.spec.life)
    }

    /// Commands on queues of `life`, sent or about to be, without an answer.
    #[must_use]
    pub fn in_flight(&self, life: LifeId) -> u32 {
        self.life(life).and_then(|key| self.lives.get(key)).map_or(0, |life| life.in_flight)
    }

    /// Requests that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// True if every request has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.len() == 0
    }

    /// One number for the whole state, outputs that were not polled included: equal after equal histories, in every run.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self)
    }

    /// What it is busy with. Costs a walk over all requests.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        self.status_now()
    }
}
