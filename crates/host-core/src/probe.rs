//! One look at a target: a single admin connection that asks and leaves.
//!
//! Before anyone trusts a subsystem with data they ask two things: what is reachable there (`discover`), and what would
//! a failover look like (`doctor`). Neither may leave anything behind, hang, or answer "error -5". So a look is a machine
//! of its own, apart from [`Control`](crate::Control): one connection, one command at a time, a limit on every step, and
//! for everything that can be wrong with an address a sentence of its own ([`ProbeError`]).
//!
//! ```text
//!          start        Up              Ready               live              all asked
//!   idle --------> tcp -----> greeting -------> association ------> questions ----------> leaving ----> over
//!                   |             |                  |                  |                    |
//!                   +-------------+------------------+------------------+--> over (Err)      +--> over (Ok, whatever
//!                                                                                                 the goodbye meets)
//! ```
//!
//! A watch ([`Goal::Watch`]) is a look at a discovery log that stays: with a Keep Alive, an event request, and the log read
//! anew whenever the controller says that it has changed. How often to try again after a loss is for its owner.
//!
//! A driver calls [`Probe::start`], then `handle_*` with what happened, and drains [`Probe::poll_output`] and
//! [`Probe::poll_send`]; [`ProbeOutput::Done`] comes exactly once.

mod error;
mod report;

#[cfg(test)]
mod tests;

pub use error::ProbeError;
pub use report::{DiscoveryLog, Found, NamespaceFound, ProbeReport, SubsystemFound};

use crate::{ConnAction, ConnEvent, ConnId, ConnectionEnd, Dial, DownReason, Timeouts};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;
use error::FirstWords;
use interlock_base::Instant;
use interlock_proto::host::{
    AdminCommand, Association, AssociationConfig, Event, Facts, Kind, Queue, QueueConfig, Step,
};
use interlock_proto::{DataError, SendList, Sink, Source, Taken};
use interlock_wire::FromBytes;
use interlock_wire::admin::{self, AsyncEvent, EventMask, FID_KEEP_ALIVE, GetFeatures, IDENTIFY_LEN, Identify};
use interlock_wire::discovery::{self, Header, RECORD_LEN};
use interlock_wire::fabrics::{CNTLID_DYNAMIC, Cc, PropertyGet, PropertySet, Shutdown};
use interlock_wire::identify::{self, CNTRLTYPE_IO, IdentifyNamespace};
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::sqe::{Cqe, Sqe};

/// The one connection of a probe.
pub const CONN: ConnId = ConnId(0);

/// Most records read of a discovery log: 4 MiB. A service that claims more is not believed.
pub const MAX_RECORDS: u64 = 4096;

/// Most namespaces asked for one by one: the first page of the list.
pub const MAX_NAMESPACES: usize = 1024;

/// How often a discovery log that changes while it is read is begun anew, the first time included.
pub const LOG_TRIES: u8 = 6;

/// Bytes of a discovery log read at once. Every controller can transfer a page.
const LOG_CHUNK: u32 = 4096;

/// Entries of the admin queue, 0's based: what every controller has to accept.
const ADMIN_SQSIZE: u16 = 31;

/// Tokens of commands on the queue: of those that are asked one at a time, and of the two that go beside them.
const ASKED: u64 = 0;
const EVENT: u64 = 1;
const ALIVE: u64 = 2;

/// A goodbye that takes longer than this is not waited for: the answers are there already.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// The discovery log of a discovery controller.
    Discovery,
    /// The discovery log of a discovery controller, now and whenever it changes: the connection stays.
    Watch,
    /// A subsystem, as a failover sees it: controller, namespaces, ANA, keep alive. No I/O queue is opened.
    Subsystem,
}

/// Whom to look at, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProbeConfig {
    /// Where.
    pub dial: Dial,
    /// Who asks: host NQN.
    pub hostnqn: Nqn,
    /// Who asks: Host Identifier.
    pub hostid: HostId,
    /// Which subsystem; the discovery NQN for [`Goal::Discovery`].
    pub subnqn: Nqn,
    /// What to look at.
    pub goal: Goal,
    /// Keep Alive Timeout to ask for; zero: none.
    pub kato: Duration,
    /// Header digest.
    pub hdgst: bool,
    /// Data digest.
    pub ddgst: bool,
    /// `tcp_connect`, `handshake`, `admin` and `connect_total` bound the steps and the whole.
    pub timeouts: Timeouts,
}

/// What a probe wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutput {
    /// Something for its connection.
    Conn(ConnAction),
    /// The log, as it is from now on: only of [`Goal::Watch`], and of that as often as it was read.
    Found(Box<ProbeReport>),
    /// The look is over. A `Close` or `Abort` of its connection came before.
    Done(Result<Box<ProbeReport>, ProbeError>),
}

/// One look at a target.
#[derive(Clone, Debug)]
pub struct Probe {
    config: ProbeConfig,
    stage: Stage,
    queue: Option<Queue>,
    first_words: FirstWords,
    found: Option<Box<ProbeReport>>,
    /// The limit of the step under way.
    step_ends: Option<(Instant, Duration)>,
    /// When to ask for CSTS again.
    look_again: Option<Instant>,
    /// The limit of everything.
    ends: Option<(Instant, Duration)>,
    alive: Option<Alive>,
    /// The log has changed since its reading began.
    changed: bool,
    outputs: VecDeque<ProbeOutput>,
}

/// The heartbeat of a connection that stays.
#[derive(Clone, Copy, Debug)]
struct Alive {
    kato: Duration,
    /// The next one is due, or its answer.
    at: Instant,
    asked: bool,
}

/// Where it stands. Each stage holds exactly what the next answer needs.
#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Dialing,
    Greeting,
    /// The Connect command is under way.
    Connecting(Box<Association>),
    Associating(Box<Association>),
    Asking(Question),
    /// The log was read, and may change.
    Watching,
    Leaving(Goodbye),
    Over,
}

#[derive(Clone, Debug)]
enum Question {
    LogHeader {
        tries: u8,
    },
    LogRecords {
        tries: u8,
        generation: u64,
        records: u64,
        bytes: Vec<u8>,
    },
    LogCheck {
        tries: u8,
        generation: u64,
        bytes: Vec<u8>,
    },
    KeepAlive,
    Namespaces,
    /// The first of these is being asked for.
    Namespace(VecDeque<u32>),
}

#[derive(Clone, Copy, Debug)]
enum Goodbye {
    ReadCc,
    ShutDown,
}

impl Stage {
    /// What is waited for, in words that end "no answer to ...".
    const fn step(&self) -> &'static str {
        match self {
            Self::Idle | Self::Dialing => "TCP connect",
            Self::Greeting => "ICReq, the first PDU of NVMe/TCP",
            Self::Connecting(_) => "Connect",
            Self::Associating(_) => "enabling the controller",
            Self::Asking(question) => match question {
                Question::LogHeader { .. } | Question::LogRecords { .. } | Question::LogCheck { .. } => {
                    "Get Log Page (discovery)"
                }
                Question::KeepAlive => "Get Features (Keep Alive Timer)",
                Question::Namespaces => "Identify (active namespaces)",
                Question::Namespace(_) => "Identify (namespace)",
            },
            Self::Watching => "Keep Alive",
            Self::Leaving(_) | Self::Over => "the shutdown",
        }
    }
}

impl Probe {
    /// A probe that has not begun.
    #[must_use]
    pub fn new(config: ProbeConfig) -> Self {
        Self {
            config,
            stage: Stage::Idle,
            queue: None,
            first_words: FirstWords::default(),
            found: None,
            step_ends: None,
            look_again: None,
            ends: None,
            alive: None,
            changed: false,
            outputs: VecDeque::new(),
        }
    }

    /// Begins. A second call changes nothing.
    pub fn start(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Idle) {
            return;
        }
        if self.config.goal == Goal::Subsystem && self.config.subnqn.is_discovery() {
            return self.end(Err(ProbeError::DiscoveryMeantAsIo));
        }
        self.stage = Stage::Dialing;
        let (step, all) = (self.config.timeouts.tcp_connect, self.config.timeouts.connect_total);
        self.step_ends = Some((now + step, step));
        self.ends = Some((now + all, all));
        self.act(ConnAction::Open(CONN, self.config.dial.clone()));
    }

    /// Reads the log of a watched controller again, if that is not being done already.
    pub fn refresh(&mut self, now: Instant) {
        match self.stage {
            Stage::Watching => self.read_header(now, 1),
            Stage::Asking(_) => self.changed = true,
            _ => {}
        }
    }

    /// Ends the watch in order; one that has not read the log yet just ends.
    pub fn stop(&mut self, now: Instant) {
        match self.stage {
            Stage::Watching => self.say_goodbye(now),
            Stage::Leaving(_) | Stage::Over => {}
            _ => self.fail(ProbeError::Lost { step: self.stage.step(), why: "it was given up".to_string() }),
        }
    }

    /// Something happened to the connection.
    pub fn handle_conn(&mut self, now: Instant, event: ConnEvent) {
        match event {
            ConnEvent::Up if matches!(self.stage, Stage::Dialing) => {
                self.queue = Some(Queue::new(QueueConfig {
                    depth: ADMIN_SQSIZE,
                    hdgst: self.config.hdgst,
                    ddgst: self.config.ddgst,
                    in_capsule: 0,
                }));
                self.stage = Stage::Greeting;
                self.limit(now, self.config.timeouts.handshake);
                self.act(ConnAction::Send(CONN));
            }
            ConnEvent::Down(why) => self.down(why),
            ConnEvent::Aborted => self.down(DownReason::Lost(ConnectionEnd::Aborted("the socket was aborted"))),
            ConnEvent::Up | ConnEvent::SendQueueEmpty => {}
        }
    }

    /// Bytes came.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) -> Taken {
        let swallowed = Taken { used: bytes.len(), place: None };
        if matches!(self.stage, Stage::Greeting) {
            self.first_words.add(bytes);
        }
        let Some(queue) = &mut self.queue else { return swallowed };
        let result = queue.handle_bytes(bytes);
        self.events(now);
        match result {
            Ok(taken) if !self.is_over() => taken,
            Ok(_) => swallowed,
            Err(fatal) => {
                let error = match self.stage {
                    Stage::Greeting => self.first_words.judge(fatal.why),
                    _ => ProbeError::Protocol { step: self.stage.step(), why: fatal.why.to_string() },
                };
                // In order, not aborted: the termination request tells the other side what was wrong.
                self.close_with(error);
                swallowed
            }
        }
    }

    /// The kernel took so many more bytes of what was polled.
    pub fn handle_given(&mut self, bytes: u64) {
        if let Some(queue) = &mut self.queue {
            queue.handle_given(bytes);
        }
    }

    /// Appends what is ready to be sent.
    pub fn poll_send(&mut self, list: &mut SendList) {
        if let Some(queue) = &mut self.queue {
            queue.poll_send(list);
        }
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.look_again.is_some_and(|at| at <= now)
            && let Stage::Associating(association) = &mut self.stage
        {
            self.look_again = None;
            match association.handle_waited(now) {
                Ok(step) => self.associate(now, step),
                Err(error) => self.fail(ProbeError::Refused(Box::new(error))),
            }
        }
        if let Some(alive) = self.alive.filter(|alive| alive.at <= now && !self.is_over()) {
            if alive.asked {
                return self.fail(ProbeError::TimedOut { step: "Keep Alive", within: alive.kato });
            }
            self.alive = Some(Alive { at: now + alive.kato, asked: true, ..alive });
            self.beside(admin::keep_alive(), ALIVE);
        }
        let over = [self.step_ends, self.ends].into_iter().flatten().find(|(at, _)| *at <= now);
        if let Some((_, within)) = over {
            match self.stage {
                Stage::Leaving(_) => self.leave(),
                Stage::Greeting => self.fail(self.first_words.judge_silence(within)),
                _ => self.fail(ProbeError::TimedOut { step: self.stage.step(), within }),
            }
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let limits = [self.step_ends, self.ends].into_iter().flatten().map(|(at, _)| at);
        limits.chain(self.look_again).chain(self.alive.map(|alive| alive.at)).min()
    }

    /// What it wants. Drain it.
    pub fn poll_output(&mut self) -> Option<ProbeOutput> {
        self.outputs.pop_front()
    }

    const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    fn act(&mut self, action: ConnAction) {
        self.outputs.push_back(ProbeOutput::Conn(action));
    }

    fn limit(&mut self, now: Instant, within: Duration) {
        self.step_ends = Some((now + within, within));
    }

    fn down(&mut self, why: DownReason) {
        let text = match why {
            DownReason::Unreachable(text)
            | DownReason::Protocol(text)
            | DownReason::Refused { text, .. }
            | DownReason::TimedOut(text) => text,
            DownReason::Lost(end) => end.to_string(),
            DownReason::Terminated(said) => said.to_string(),
        };
        match &self.stage {
            Stage::Idle | Stage::Over => {}
            Stage::Dialing => self.end(Err(ProbeError::Unreachable { why: text })),
            Stage::Greeting => {
                let error = self.first_words.judge_end(text);
                self.end(Err(error));
            }
            Stage::Leaving(_) => self.leave(),
            stage => {
                let error = ProbeError::Lost { step: stage.step(), why: text };
                self.end(Err(error));
            }
        }
    }

    fn events(&mut self, now: Instant) {
        while let Some(event) = self.queue.as_mut().and_then(Queue::poll_event) {
            match event {
                Event::Ready { .. } => self.greeted(now),
                Event::Completed { token: ALIVE, cqe, .. } => self.still_alive(now, &cqe),
                Event::Completed { token: EVENT, cqe, .. } => self.happened(now, &cqe),
                Event::Completed { cqe, data, error, .. } => self.answered(now, &cqe, &data, error),
                Event::TermReq { fes, fei } => {
                    let error = ProbeError::Terminated { step: self.stage.step(), fes, fei };
                    if !self.is_over() {
                        self.fail(error);
                    }
                }
            }
        }
    }

    fn greeted(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Greeting) {
            return;
        }
        let config = &self.config;
        let mut association = Box::new(Association::new(AssociationConfig {
            hostnqn: config.hostnqn.clone(),
            hostid: config.hostid,
            subnqn: config.subnqn.clone(),
            kind: match config.goal {
                Goal::Discovery | Goal::Watch => Kind::Discovery,
                Goal::Subsystem => Kind::Io,
            },
            kato_ms: u32::try_from(config.kato.as_millis()).unwrap_or(u32::MAX),
            admin_sqsize: ADMIN_SQSIZE,
            cntlid: CNTLID_DYNAMIC,
            io_queues_wanted: 1,
            want_events: if config.goal == Goal::Watch { EventMask::DISCOVERY } else { EventMask::empty() },
        }));
        let Step::Ask(command) = association.start() else {
            unreachable!("an association begins with a command: Connect");
        };
        self.stage = Stage::Connecting(association);
        self.ask(now, command, self.config.timeouts.handshake);
    }

    fn ask(&mut self, now: Instant, command: AdminCommand, within: Duration) {
        let out = if command.out.is_empty() { Source::None } else { Source::Bytes(command.out) };
        let into = if command.into == 0 { Sink::None } else { Sink::Bytes(command.into) };
        if let Some(queue) = &mut self.queue {
            queue.submit(command.sqe, out, into, ASKED).expect("one command at a time fits every queue");
        }
        self.limit(now, within);
        self.act(ConnAction::Send(CONN));
    }

    /// Sends a command that nothing else waits for.
    fn beside(&mut self, sqe: Sqe, token: u64) {
        if let Some(queue) = &mut self.queue {
            queue.submit(sqe, Source::None, Sink::None, token).expect("three commands fit every queue");
        }
        self.act(ConnAction::Send(CONN));
    }

    fn still_alive(&mut self, now: Instant, cqe: &Cqe) {
        let Some(alive) = self.alive.filter(|_| !self.is_over()) else { return };
        let status = cqe.status();
        if !status.is_success() {
            return self.fail(ProbeError::Failed { step: "Keep Alive", status });
        }
        self.alive = Some(Alive { at: now + alive.kato / 2, asked: false, ..alive });
    }

    /// An event of a watched controller. One that has none says so by an error: then only [`Self::refresh`] finds changes.
    fn happened(&mut self, now: Instant, cqe: &Cqe) {
        if self.is_over() || !cqe.status().is_success() {
            return;
        }
        self.beside(admin::async_event_request(), EVENT);
        if AsyncEvent::from_dw0(cqe.dw0.get()) == AsyncEvent::DISCOVERY_CHANGED {
            self.refresh(now);
        }
    }

    fn answered(&mut self, now: Instant, cqe: &Cqe, data: &[u8], error: Option<DataError>) {
        match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Connecting(association) => {
                if let Some(error) = ProbeError::of_connect(&self.config, cqe) {
                    return self.fail(error);
                }
                self.stage = Stage::Associating(association);
                self.associated(now, cqe, data, error);
            }
            stage @ Stage::Associating(_) => {
                self.stage = stage;
                self.associated(now, cqe, data, error);
            }
            Stage::Asking(question) => {
                self.stage = Stage::Asking(question.clone());
                if let Err(error) = self.understand(now, question, cqe, data, error) {
                    self.fail(error);
                }
            }
            Stage::Leaving(Goodbye::ReadCc) if cqe.status().is_success() => {
                self.stage = Stage::Leaving(Goodbye::ShutDown);
                let cc = Cc(cqe.dw0.get()).with_shutdown(Shutdown::Normal);
                self.ask(now, command(PropertySet::cc(cc).to_sqe(), 0), LEAVE_WITHIN);
            }
            Stage::Leaving(_) => self.leave(),
            stage @ (Stage::Idle | Stage::Dialing | Stage::Greeting | Stage::Watching | Stage::Over) => {
                self.stage = stage;
            }
        }
    }

    fn associated(&mut self, now: Instant, cqe: &Cqe, data: &[u8], error: Option<DataError>) {
        let Stage::Associating(association) = &mut self.stage else { return };
        match association.handle_answer(now, cqe, data, error) {
            Ok(step) => self.associate(now, step),
            Err(error) => self.fail(ProbeError::Refused(Box::new(error))),
        }
    }

    fn associate(&mut self, now: Instant, step: Step) {
        match step {
            Step::Ask(command) => self.ask(now, command, self.config.timeouts.admin),
            Step::Wait(time) => {
                self.step_ends = None;
                self.look_again = Some(now + time);
            }
            Step::Live(facts) => self.live(now, facts),
        }
    }

    fn live(&mut self, now: Instant, facts: Box<Facts>) {
        let kind = facts.identify.cntrltype;
        match self.config.goal {
            Goal::Discovery | Goal::Watch if kind == CNTRLTYPE_IO => self.fail(ProbeError::NotDiscovery),
            Goal::Discovery | Goal::Watch => {
                if self.config.goal == Goal::Watch {
                    if let Some(kato) = facts.kato.value().copied().filter(|kato| !kato.is_zero()) {
                        self.alive = Some(Alive { kato, at: now + kato / 2, asked: false });
                    }
                    // Asked before the log is read: no change is missed.
                    self.beside(admin::async_event_request(), EVENT);
                }
                let found = Found::Discovery(DiscoveryLog::default());
                self.found = Some(Box::new(ProbeReport { facts, found }));
                self.read_header(now, 1);
            }
            // The association accepts no discovery controller where an I/O controller is wanted.
            Goal::Subsystem => {
                let found = SubsystemFound::default();
                self.found = Some(Box::new(ProbeReport { facts, found: Found::Subsystem(found) }));
                let ask = command(GetFeatures::current(FID_KEEP_ALIVE).to_sqe(), 0);
                self.question(now, Question::KeepAlive, ask);
            }
        }
    }

    fn question(&mut self, now: Instant, question: Question, command: AdminCommand) {
        self.stage = Stage::Asking(question);
        self.ask(now, command, self.config.timeouts.admin);
    }

    fn understand(
        &mut self,
        now: Instant,
        question: Question,
        cqe: &Cqe,
        data: &[u8],
        error: Option<DataError>,
    ) -> Result<(), ProbeError> {
        let step = self.stage.step();
        let status = cqe.status();
        if let Some(error) = error {
            return Err(ProbeError::Nonsense { step, why: words(error).to_string() });
        }
        let optional = matches!(question, Question::KeepAlive | Question::Namespace(_));
        if !status.is_success() && !optional {
            return Err(ProbeError::Failed { step, status });
        }
        match question {
            Question::LogHeader { tries } => {
                let header = header(step, data)?;
                let (generation, records) = (header.genctr.get(), header.numrec.get());
                if records > MAX_RECORDS {
                    let why = alloc::format!("the log claims {records} records; at most {MAX_RECORDS} are read");
                    return Err(ProbeError::Nonsense { step, why });
                }
                self.read_records(now, tries, generation, records, data.to_vec());
            }
            Question::LogRecords { tries, generation, records, mut bytes } => {
                bytes.extend_from_slice(data);
                self.read_records(now, tries, generation, records, bytes);
            }
            Question::LogCheck { tries, generation, bytes } => {
                let header = header(step, data)?;
                if header.genctr.get() == generation {
                    let log = DiscoveryLog::parse(&bytes)
                        .map_err(|error| ProbeError::Nonsense { step, why: error.to_string() })?;
                    if let Some(report) = &mut self.found {
                        report.found = Found::Discovery(log);
                    }
                    match &self.found {
                        Some(report) if self.config.goal == Goal::Watch => {
                            self.outputs.push_back(ProbeOutput::Found(report.clone()));
                            self.stage = Stage::Watching;
                            (self.step_ends, self.ends) = (None, None);
                            if core::mem::take(&mut self.changed) {
                                self.read_header(now, 1);
                            }
                        }
                        _ => self.say_goodbye(now),
                    }
                } else if tries < LOG_TRIES {
                    self.read_header(now, tries + 1);
                } else {
                    return Err(ProbeError::LogUnsteady { tries });
                }
            }
            Question::KeepAlive => {
                if let Some(found) = self.subsystem() {
                    found.kato_ms = status.is_success().then_some(cqe.dw0.get());
                }
                let ask = command(Identify::ActiveNamespaces { after: 0 }.to_sqe(), IDENTIFY_LEN);
                self.question(now, Question::Namespaces, ask);
            }
            Question::Namespaces => {
                let list = identify::parse_list(data, 0)
                    .map_err(|error| ProbeError::Nonsense { step, why: error.to_string() })?;
                if let Some(found) = self.subsystem() {
                    found.more_namespaces = list.len() == MAX_NAMESPACES;
                }
                self.next_namespace(now, list.into());
            }
            Question::Namespace(mut left) => {
                // One that was detached since it was listed, or that is no namespace of blocks, is left out.
                if let (Some(nsid), true, Ok(identify), Some(found)) =
                    (left.pop_front(), status.is_success(), IdentifyNamespace::read_from_bytes(data), self.subsystem())
                    && let Ok(geometry) = identify.geometry()
                {
                    found.namespaces.push(NamespaceFound {
                        nsid,
                        geometry,
                        shared: identify.is_shared(),
                        reservations: identify.offers_reservations(),
                        read_only: identify.is_write_protected(),
                        anagrpid: identify.anagrpid.get(),
                    });
                }
                self.next_namespace(now, left);
            }
        }
        Ok(())
    }

    fn subsystem(&mut self) -> Option<&mut SubsystemFound> {
        match self.found.as_deref_mut().map(|report| &mut report.found) {
            Some(Found::Subsystem(found)) => Some(found),
            _ => None,
        }
    }

    fn next_namespace(&mut self, now: Instant, left: VecDeque<u32>) {
        match left.front() {
            Some(&nsid) => {
                let ask = command(Identify::Namespace { nsid }.to_sqe(), IDENTIFY_LEN);
                self.question(now, Question::Namespace(left), ask);
            }
            None => self.say_goodbye(now),
        }
    }

    fn read_header(&mut self, now: Instant, tries: u8) {
        let ask = command(discovery::get_log(RECORD_LEN as u32).to_sqe(), RECORD_LEN as u32);
        self.question(now, Question::LogHeader { tries }, ask);
    }

    /// Reads what is missing in `bytes`, or the header again once nothing is.
    fn read_records(&mut self, now: Instant, tries: u8, generation: u64, records: u64, bytes: Vec<u8>) {
        let missing = ((records + 1) * RECORD_LEN as u64).saturating_sub(bytes.len() as u64);
        if missing == 0 {
            let ask = command(discovery::get_log(RECORD_LEN as u32).to_sqe(), RECORD_LEN as u32);
            self.question(now, Question::LogCheck { tries, generation, bytes }, ask);
        } else {
            let len = u32::try_from(missing).unwrap_or(LOG_CHUNK).min(LOG_CHUNK);
            let ask = command(discovery::get_log(len).at(bytes.len() as u64).to_sqe(), len);
            self.question(now, Question::LogRecords { tries, generation, records, bytes }, ask);
        }
    }

    fn say_goodbye(&mut self, now: Instant) {
        self.alive = None;
        self.stage = Stage::Leaving(Goodbye::ReadCc);
        self.ask(now, command(PropertyGet::CC.to_sqe(), 0), LEAVE_WITHIN);
    }

    /// Everything was answered; how the goodbye went does not matter.
    fn leave(&mut self) {
        self.act(ConnAction::Close(CONN));
        if let Some(report) = self.found.take() {
            self.end(Ok(report));
        }
    }

    fn fail(&mut self, error: ProbeError) {
        self.act(ConnAction::Abort(CONN));
        self.end(Err(error));
    }

    fn close_with(&mut self, error: ProbeError) {
        self.act(ConnAction::Close(CONN));
        self.end(Err(error));
    }

    fn end(&mut self, result: Result<Box<ProbeReport>, ProbeError>) {
        self.stage = Stage::Over;
        self.step_ends = None;
        self.look_again = None;
        self.ends = None;
        self.alive = None;
        self.outputs.push_back(ProbeOutput::Done(result));
    }
}

const fn command(sqe: Sqe, into: u32) -> AdminCommand {
    AdminCommand { sqe, out: Vec::new(), into }
}

fn header<'a>(step: &'static str, data: &'a [u8]) -> Result<&'a Header, ProbeError> {
    match Header::ref_from_prefix(data) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(ProbeError::Nonsense { step, why: "the log is shorter than its header".to_string() }),
    }
}

const fn words(error: DataError) -> &'static str {
    match error {
        DataError::Digest => "its data digest is wrong",
        DataError::Short => "less data came than was asked for",
    }
}
