//! Carries for control, and hands out what it says.

use crate::jobs::Jobs;
use crate::lane::LaneMail;
use crate::links::{HostMachine, Links, Sockets};
use crate::panic::Ending;
use interlock_base::{Instant, Span};
use interlock_carry::{Machine, Mailbox};
use interlock_host_core::{
    ConnEvent, ConnId, Control, Event as HostEvent, JobId, JobResult, LaneId, LifeId, Output, ToControl,
};
use interlock_proto::{SendList, Taken};
use interlock_ring::{BufTable, Cx, Event, Service};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Something to be run with control, on its reactor.
pub(crate) type Question = Box<dyn FnOnce(&mut Control, Instant) + Send>;

/// What other threads tell control.
pub(crate) enum ControlMail {
    /// From a lane, in order.
    Lane(LaneId, ToControl),
    /// A job is done.
    Job(JobId, JobResult),
    /// Run this with control: verbs and questions of the library.
    Ask(Question),
    /// Tell this one what happens from now on.
    Subscribe(SyncSender<HostEvent>),
}

struct ControlMachine(Control);

impl Machine for ControlMachine {
    type Conn = ConnId;

    fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> Taken {
        self.0.handle_bytes(now, conn, bytes)
    }

    fn handle_placed(&mut self, _now: Instant, _conn: ConnId, _len: u32, _digest: u32) {
        debug_assert!(false, "control data is owned by the machine: there is nothing to place");
    }

    fn direct(&self, _conn: ConnId, _min: u32) -> Option<(Span, Option<u32>)> {
        None
    }

    fn handle_given(&mut self, now: Instant, conn: ConnId, bytes: u64) {
        self.0.handle_given(now, conn, bytes);
    }

    fn poll_send(&mut self, conn: ConnId, list: &mut SendList) {
        self.0.poll_send(conn, list);
    }

    fn is_blocked(&self, _conn: ConnId) -> bool {
        false
    }
}

impl HostMachine for ControlMachine {
    fn handle_conn(&mut self, now: Instant, conn: ConnId, event: ConnEvent) {
        self.0.handle_conn(now, conn, event);
    }

    fn life_of(&self, conn: ConnId) -> Option<LifeId> {
        self.0.life_of(conn)
    }
}

/// The service of control.
pub(crate) struct ControlService {
    machine: ControlMachine,
    links: Links,
    sockets: Sockets,
    /// Control has no payload; the table stays empty.
    memory: BufTable,
    mailbox: Mailbox<ControlMail>,
    lanes: Vec<Mailbox<LaneMail>>,
    jobs: Jobs,
    listeners: Vec<SyncSender<HostEvent>>,
    ending: Arc<Ending>,
    /// It was detached.
    in_order: bool,
}

impl ControlService {
    pub(crate) fn new(
        cx: &Cx<'_>,
        control: Control,
        mailbox: Mailbox<ControlMail>,
        lanes: Vec<Mailbox<LaneMail>>,
        jobs: Jobs,
        sockets: Sockets,
        ending: Arc<Ending>,
    ) -> Self {
        mailbox.set_reader(cx.waker());
        Self {
            machine: ControlMachine(control),
            links: Links::new(None, sockets.clone()),
            sockets,
            memory: BufTable::default(),
            mailbox,
            lanes,
            jobs,
            listeners: Vec::new(),
            ending,
            in_order: false,
        }
    }

    fn mail(&mut self, now: Instant, mail: ControlMail) {
        match mail {
            ControlMail::Lane(lane, message) => self.machine.0.handle_lane(now, lane, message),
            ControlMail::Job(job, result) => self.machine.0.handle_job_done(now, job, result),
            ControlMail::Ask(ask) => ask(&mut self.machine.0, now),
            ControlMail::Subscribe(listener) => self.listeners.push(listener),
        }
    }

    fn output(&mut self, cx: &mut Cx<'_>, output: Output) {
        match output {
            Output::Conn(action) => self.links.act(cx, &mut self.machine, action),
            Output::ToLane(lane, message) => {
                if let Some(mailbox) = self.lanes.get(usize::from(lane.0)) {
                    mailbox.send(LaneMail::Control(message));
                }
            }
            // A second thread's calls on sockets of a reactor that hangs: none of them blocks.
            Output::Cut(lane, life) => {
                if self.sockets.cut(lane, life) {
                    self.machine.0.handle_cut(cx.now(), lane, life);
                }
            }
            Output::RawClock(life) => self.machine.0.handle_raw_clock(cx.now(), life, interlock_ring::raw_now()),
            Output::Job(id, job) => self.jobs.start(id, job),
            Output::Event(event) => {
                // One that is gone, or so far behind that it would miss this, hears no more.
                self.listeners.retain(|listener| listener.try_send(event.clone()).is_ok());
            }
        }
    }
}

impl Service for ControlService {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Attached | Event::Mail => {
                for mail in self.mailbox.take() {
                    self.mail(cx.now(), mail);
                }
            }
            Event::Deadline => self.machine.0.handle_timeout(cx.now()),
            Event::Detach => {
                self.in_order = true;
                self.links.abort_all(cx);
            }
            event => self.links.handle(cx, &mut self.machine, &mut self.memory, event),
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        loop {
            while let Some(output) = self.machine.0.poll_output() {
                self.output(cx, output);
            }
            self.links.turn(cx, &mut self.machine, &self.memory);
            let Some(output) = self.machine.0.poll_output() else { break };
            self.output(cx, output);
        }
        let control = self.machine.0.next_deadline().map(|deadline| deadline.at);
        cx.set_deadline(control.into_iter().chain(self.links.next_deadline()).min());
    }

    fn panicked(&mut self, message: &str) {
        self.ending.begin("control", message);
    }
}

/// However it ends, whoever asks afterwards hears at once that nobody answers.
impl Drop for ControlService {
    fn drop(&mut self) {
        if !self.in_order {
            self.ending.begin_without_reactor("control");
        }
        drop(self.mailbox.close());
    }
}
