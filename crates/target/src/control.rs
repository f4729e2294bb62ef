//! Carries for the target's control, and hands out what happens.

use crate::Stamped;
use crate::clock;
use crate::lane::LaneMail;
use crate::panic::Ending;
use interlock_base::Instant;
use interlock_carry::Mailbox;
use interlock_ring::{Cx, Event, Service};
use interlock_target_core::{Control, ControlOutput, Event as TargetEvent, LaneId, PortId, ToControl};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::time::Duration;

/// Something to be run with control, on its reactor. What it returns is run when everything that control then wanted is
/// on its way to the lanes: who is answered may rely on the order.
pub(crate) type Question = Box<dyn FnOnce(&mut Control, Instant) -> Box<dyn FnOnce()> + Send>;

/// What other threads tell control.
pub(crate) enum ControlMail {
    /// From a lane, in order.
    Lane(LaneId, ToControl),
    /// Something happened on a lane.
    Event(Instant, TargetEvent),
    /// Run this with control: verbs of the library.
    Ask(Question),
    /// Listen on a port again, and tell the outcome: where, or why not.
    Open(PortId, Sender<io::Result<SocketAddr>>),
    /// Tell this one what happens from now on.
    Subscribe(SyncSender<Stamped>),
    /// End: another part of the target has panicked.
    End,
}

/// How long control reads its mail in one turn of the reactor: the queues of its reactor have their turn in between.
const TURN: Duration = Duration::from_millis(1);

/// The service of control. The machine runs on the target's own clock, and events are stamped with the reactor's.
pub(crate) struct ControlService {
    control: Control,
    mailbox: Mailbox<ControlMail>,
    /// What was taken out of it and is not read, and when it was taken.
    unread: VecDeque<ControlMail>,
    taken: Instant,
    /// There is something to do in this turn.
    called: bool,
    lanes: Vec<Mailbox<LaneMail>>,
    /// Where each port listens, and which lane does it.
    ports: BTreeMap<PortId, (usize, SocketAddr)>,
    listeners: Vec<Listener>,
    ending: Arc<Ending>,
    ended: bool,
}

/// Somebody who wants to know what happens.
struct Listener {
    sender: SyncSender<Stamped>,
    /// Events that it was not told, because it had not taken those before.
    missed: u64,
}

impl Listener {
    /// False if it listens no more.
    fn tell(&mut self, stamped: &Stamped) -> bool {
        if self.missed > 0 {
            let missed = Stamped { at: stamped.at, event: TargetEvent::Missed { events: self.missed } };
            match self.sender.try_send(missed) {
                Ok(()) => self.missed = 0,
                Err(TrySendError::Full(_)) => {
                    self.missed += 1;
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        match self.sender.try_send(stamped.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl ControlService {
    pub(crate) fn new(
        cx: &Cx<'_>,
        control: Control,
        mailbox: Mailbox<ControlMail>,
        lanes: Vec<Mailbox<LaneMail>>,
        ports: BTreeMap<PortId, (usize, SocketAddr)>,
        ending: Arc<Ending>,
    ) -> Self {
        mailbox.set_reader(cx.waker());
        Self {
            control,
            mailbox,
            unread: VecDeque::new(),
            taken: clock::now(),
            called: false,
            lanes,
            ports,
            listeners: Vec::new(),
            ending,
            ended: false,
        }
    }

    fn tell(&mut self, at: Instant, event: TargetEvent) {
        let stamped = Stamped { at, event };
        self.listeners.retain_mut(|listener| listener.tell(&stamped));
    }

    fn mail(&mut self, now: Instant, mail: ControlMail) {
        match mail {
            ControlMail::Lane(lane, message) => self.control.handle_lane(clock::now(), lane, message),
            ControlMail::Event(at, event) => self.tell(at, event),
            ControlMail::Ask(ask) => {
                let answer = ask(&mut self.control, clock::now());
                self.drain(now);
                answer();
            }
            ControlMail::Open(port, bound) => {
                self.control.set_port_open(port, true);
                self.drain(now);
                self.open(port, Some(bound));
            }
            ControlMail::Subscribe(sender) => self.listeners.push(Listener { sender, missed: 0 }),
            ControlMail::End => self.ended = true,
        }
    }

    fn output(&mut self, now: Instant, output: ControlOutput) {
        match output {
            ControlOutput::ToLane(lane, message) => {
                if let Some(mailbox) = self.lanes.get(usize::from(lane.0)) {
                    mailbox.send(LaneMail::Control(message));
                }
            }
            ControlOutput::ClosePort(port) => {
                if let Some((lane, _)) = self.ports.get(&port) {
                    self.lanes[*lane].send(LaneMail::Close(port));
                }
            }
            ControlOutput::OpenPort(port) => self.open(port, None),
            ControlOutput::Event(event) => self.tell(now, event),
        }
    }
}

impl ControlService {
    fn open(&self, port: PortId, bound: Option<Sender<io::Result<SocketAddr>>>) {
        if let Some((lane, addr)) = self.ports.get(&port) {
            self.lanes[*lane].send(LaneMail::Open { port, addr: *addr, bound });
        }
    }

    /// Reads mail for the time of a turn; true if all is read. A host that spoke in time is not lost because control was busy: what is
    /// due by some moment comes when all that was sent by then is read.
    fn read(&mut self, cx: &Cx<'_>) -> bool {
        let begun = cx.now();
        loop {
            if self.unread.is_empty() {
                let now = clock::now();
                self.unread = self.mailbox.take();
                if self.unread.is_empty() {
                    self.control.handle_timeout(now);
                    return true;
                }
                self.taken = now;
            }
            if let Some(mail) = self.unread.pop_front() {
                self.mail(cx.now(), mail);
            }
            if self.unread.is_empty() {
                self.control.handle_timeout(self.taken);
            }
            if cx.now().since(begun) >= TURN {
                return false;
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.control.poll_output() {
            self.output(now, output);
        }
    }
}

impl Service for ControlService {
    fn handle(&mut self, _: &mut Cx<'_>, event: Event) {
        self.called |= matches!(event, Event::Attached | Event::Mail | Event::Deadline);
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        if !self.called {
            return;
        }
        let begun = cx.now();
        self.called = !self.read(cx);
        self.drain(cx.now());
        if self.ended {
            return cx.detach();
        }
        if self.called {
            return cx.set_deadline(Some(begun));
        }
        let next = self.control.next_deadline().map(|deadline| deadline.at);
        cx.set_deadline(next.map(|at| cx.now() + at.since(clock::now())));
    }

    fn panicked(&mut self, message: &str) {
        self.ending.begin("control", message);
    }
}

/// However it ends, whoever asks afterwards hears at once that nobody answers.
impl Drop for ControlService {
    fn drop(&mut self) {
        drop(self.mailbox.close());
    }
}
