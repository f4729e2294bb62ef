//! A write that was given up, and a later one over the same blocks, which comes by another way.

mod common;

use common::raw::{Answer, READ, Raw, WRITE};
use common::{PATIENCE, Setting, Stage, wait_for};
use interlock_host::{Buf, Completions, Namespace, Op, Outcome};
use interlock_ring::{Cx, Event, Service};
use interlock_target::{Fault, PortId};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::sync::mpsc::{Receiver, Sender, channel};

/// How long a write through the first port takes.
const SLOW_MS: u32 = 150;

/// Four of them take every combination of paths: see `rounds`.
const ROUNDS: u64 = 8;

/// Two lanes, two paths; what goes through the first path takes long.
fn stage() -> Stage {
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() });
    stage.target.script(Fault::Delay { port: PortId(0), ms: SLOW_MS });
    stage
}

fn filled(ns: &Namespace, byte: u8) -> Buf {
    let mut buf = ns.buffer(1);
    buf.get_mut().expect("fresh").fill(byte);
    buf
}

fn in_flight(stage: &Stage) -> u32 {
    stage.host.lanes().expect("the lanes answer").iter().map(|(lane, _)| lane.in_flight).sum()
}

/// Writes through one handle, gives it up once it is sent, writes through the other, and looks when all is over.
fn rounds(stage: &Stage, first: &Namespace, second: &Namespace, give_up: impl Fn(&Namespace, u64, Buf)) {
    for round in 0..ROUNDS {
        let (old, new) = (1 + round as u8, 101 + round as u8);
        // Round robin on each lane: a round asks for an even number of commands of it, and now one lane, now the other is
        // moved on by one.
        let moved = if round % 2 == 1 { first } else { second };
        assert_eq!(moved.read(900, 1).wait().0, Outcome::Ok);
        assert_eq!(first.read(900, 1).wait().0, Outcome::Ok);
        give_up(first, round, filled(first, old));
        assert_eq!(second.write(round, filled(second, new)).wait().0, Outcome::Ok);
        wait_for("everything is answered", || (in_flight(stage) == 0).then_some(()));
        let (outcome, buf) = second.read(round, 1).wait();
        assert_eq!(outcome, Outcome::Ok);
        let found = buf.expect("data").as_slice()[0];
        assert_eq!(found, new, "round {round}: a write that was given up before took effect after a later one");
    }
}

fn commands(stage: &Stage) -> u64 {
    stage.host.lanes().expect("the lanes answer").iter().map(|(_, lane)| lane.commands).sum()
}

/// Waits until one more command was sent than so many.
fn sent_after(stage: &Stage, before: u64) {
    wait_for("it is sent", || (commands(stage) > before).then_some(()));
}

#[test]
fn a_dropped_request_does_not_overtake_what_another_lane_writes_later() {
    let stage = stage();
    let (one, two) = (stage.namespace(), stage.namespace());
    let drop_it = |ns: &Namespace, lba, buf| {
        let before = commands(&stage);
        let pending = ns.write(lba, buf);
        sent_after(&stage, before);
        drop(pending);
    };
    rounds(&stage, &one, &one.clone(), drop_it);
    rounds(&stage, &one, &two, drop_it);
    stage.strike();
}

#[test]
fn a_dropped_queue_does_not_leave_writes_behind_that_overtake_later_ones() {
    let stage = stage();
    let (one, two) = (stage.namespace(), stage.namespace());
    rounds(&stage, &one, &two, |ns, lba, buf| {
        let (queue, before) = (Completions::new(), commands(&stage));
        ns.submit(Op::Write { fua: false }, lba, 1, Some(buf), &queue, 1);
        sent_after(&stage, before);
        drop(queue);
    });
    stage.strike();
}

/// Keeps a reactor busy until it is told to go on.
struct Busy(Receiver<()>, Sender<()>);

impl Service for Busy {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        if let Event::Attached = event {
            self.1.send(()).expect("the test waits for it");
            let _ = self.0.recv_timeout(PATIENCE); // a test that has failed says nothing
            cx.detach();
        }
    }
}

#[test]
fn a_client_writes_after_one_that_was_killed_before_it_connected() {
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() }).exported();
    let block = |byte: u8| vec![byte; 4096];
    // Connections are dealt out to the reactors in turn.
    let mut first = Raw::open(stage.socket(), "disk", false);
    let mut killed = Raw::open(stage.socket(), "disk", false);
    for client in [&mut first, &mut killed] {
        assert_eq!(client.ask(READ, 0, 0, 0, &[]), Answer::Done);
    }
    let ((go_on, wait), (began, begun)) = (channel(), channel());
    stage.pools[1].reactors()[1].attach(move |_| Box::new(Busy(wait, began))).expect("it runs");
    begun.recv_timeout(PATIENCE).expect("it is busy");
    // Its reactor has read neither this nor that the client is gone.
    killed.command(WRITE, 0, 5, 0, 4096, &block(1));
    drop(killed);
    let mut next = Raw::open(stage.socket(), "disk", false);
    next.command(WRITE, 0, 6, 0, 4096, &block(2));
    assert_eq!(first.ask(WRITE, 0, 8192, 4096, &block(3)), Answer::Done, "who was there before waits for nobody");
    let mut polled = [PollFd::new(&next.stream, PollFlags::IN)];
    let soon = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&soon)), Ok(0), "it comes after the one that is gone");
    go_on.send(()).expect("it is busy still");
    assert_eq!(next.answer(0), (6, Answer::Done));
    wait_for("the other one has ended", || (stage.status().connections.len() == 2).then_some(()));
    wait_for("everything is answered", || (in_flight(&stage) == 0).then_some(()));
    assert_eq!(next.read(0, 4096), Answer::Data(block(2)));
    stage.strike();
}
