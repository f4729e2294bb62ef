//! A write that was given up, and a later one over the same blocks, which comes by another way.

mod common;

use common::{Setting, Stage, wait_for};
use interlock_host::{Buf, Completions, Namespace, Op, Outcome};
use interlock_target::{Fault, PortId};

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

fn sent(stage: &Stage) {
    wait_for("it is sent", || (in_flight(stage) > 0).then_some(()));
}

#[test]
fn a_dropped_request_does_not_overtake_what_another_lane_writes_later() {
    let stage = stage();
    let (one, two) = (stage.namespace(), stage.namespace());
    let drop_it = |ns: &Namespace, lba, buf| {
        let pending = ns.write(lba, buf);
        sent(&stage);
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
        let queue = Completions::new();
        ns.submit(Op::Write { fua: false }, lba, 1, Some(buf), &queue, 1);
        sent(&stage);
        drop(queue);
    });
    stage.strike();
}
