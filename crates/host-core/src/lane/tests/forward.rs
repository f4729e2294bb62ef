//! Two lanes and a controller that grants one I/O queue: the second lane has its requests carried out by the first.

use super::*;
use crate::barrier::AbandonLog;
use crate::forward::Past;
use crate::{GuardKey, GuardStands, LedgerEntry, Release};

/// Both lanes with their drivers, and the log that they share.
struct Pair {
    /// Lane 1.
    origin: Rig,
    /// Lane 0.
    serving: Rig,
    log: AbandonLog,
    /// By token of the serving lane: the ticket of the origin.
    tickets: BTreeMap<u64, u64>,
    /// Numbers that the serving lane has not been told.
    told: Vec<(u64, Option<u64>)>,
}

/// The token of the serving lane for one of the origin.
const fn served(token: u64) -> u64 {
    token + 1000
}

fn table(epoch: u64, paths: &[(LifeId, AnaState, u16)]) -> ToLane {
    let known: Vec<_> = paths.iter().map(|(life, ana, _)| (*life, *ana, false)).collect();
    let mut table = Rig::table(&known, IoPolicy::RoundRobin, true);
    table.epoch = epoch;
    let head = table.heads.get_mut(&HEAD).unwrap();
    for (path, (.., queues)) in head.paths.iter_mut().zip(paths) {
        path.queues = *queues;
    }
    ToLane::Paths(Arc::new(table))
}

impl Pair {
    /// Lives with so many queues each, of at most two lanes.
    fn new(paths: &[(LifeId, AnaState, u16)]) -> Self {
        let mut pair = Self {
            origin: Rig::of_lane(1),
            serving: Rig::of_lane(0),
            log: AbandonLog::new(2),
            tickets: BTreeMap::new(),
            told: Vec::new(),
        };
        for (life, _, queues) in paths {
            pair.serving.open(*life);
            if *queues > 1 {
                pair.origin.open_queue(*life, 2);
                pair.origin.run();
            }
        }
        pair.origin.tell(table(1, paths));
        pair.serving.tell(table(1, paths));
        pair.origin.hear();
        pair.serving.hear();
        pair
    }

    fn on_one_queue() -> Self {
        Self::new(&[(A, AnaState::Optimized, 1)])
    }

    /// The drivers: what the origin wants of the serving lane. Returns how often it forwarded.
    fn forward(&mut self) -> usize {
        let mut forwarded = 0;
        for output in core::mem::take(&mut self.origin.to_lanes) {
            match output {
                LaneOutput::Forward { to, ticket, token, request, past } => {
                    assert_eq!(to, LaneId(0));
                    forwarded += 1;
                    self.serve(ticket, token, request, past);
                }
                LaneOutput::GiveUp { to, ticket, change } => {
                    let number = change.map(|change| self.log.abandon(to, [change]));
                    self.told.push((ticket, number));
                }
                other => panic!("{other:?} is for no other lane"),
            }
        }
        forwarded
    }

    fn serve(&mut self, ticket: u64, token: u64, request: Request, past: Past) {
        let buf = BufId(u32::try_from(served(token)).unwrap());
        let data = request.data.map(|span| Span { buf, ..span });
        if let Some(bytes) = request.data.and_then(|span| self.origin.buffers.remove(&span.buf)) {
            self.serving.buffers.insert(buf, bytes);
        }
        self.tickets.insert(served(token), ticket);
        self.serving.open.insert(served(token));
        self.serving.lane.handle_abandoned(self.log.take(LaneId(0)));
        let now = self.serving.now;
        self.serving.lane.serve(now, Request { data, ..request }, past, served(token));
        self.serving.run();
    }

    /// The serving lane reads what was given up.
    fn give_up(&mut self) {
        for (ticket, number) in core::mem::take(&mut self.told) {
            let token = *self.tickets.iter().find(|(_, of)| **of == ticket).unwrap().0;
            self.serving.lane.abandon(self.serving.now, token);
            if let Some(number) = number {
                self.serving.lane.handed_over(self.serving.now, number);
            }
        }
        self.serving.run();
    }

    /// What the serving lane has ended is told to the origin.
    fn back(&mut self) {
        for token in core::mem::take(&mut self.serving.just_done) {
            let Some(ticket) = self.tickets.remove(&token) else { continue };
            self.origin.lane.handle_served(self.origin.now, ticket, self.serving.done[&token]);
        }
        self.origin.outputs();
    }
}

#[test]
fn a_lane_without_a_queue_has_its_requests_carried_out() {
    let mut pair = Pair::on_one_queue();
    let tokens = [pair.origin.write(0, 8), pair.origin.read(8, 8), pair.origin.submit(Op::Flush, 0, 0)];
    assert_eq!(pair.origin.lane.status().requests, 0, "the lane that has them counts them");
    assert_eq!(pair.origin.lane.len(), 3, "they have not ended");
    assert_eq!(pair.forward(), 3);
    let own = pair.serving.write(16, 1);
    pair.serving.run();
    assert_eq!(pair.serving.held_by(A), [tokens[0], own], "both lanes' commands are on its queue");
    assert_eq!(pair.serving.lane.status().requests, 4);
    pair.serving.answer(A);
    pair.back();
    for token in tokens {
        assert_eq!(pair.origin.done.get(&token), Some(&Outcome::Ok));
    }
    assert!(pair.origin.lane.is_empty() && pair.serving.lane.is_empty());
    let mut all = *pair.origin.lane.counters();
    all.add(pair.serving.lane.counters());
    assert_eq!((all.accepted, all.done, all.forwarded, all.served), (4, 4, 3, 3), "each request counts once");
}

#[test]
fn an_error_and_a_refusal_come_back_as_they_are() {
    let mut pair = Pair::on_one_queue();
    let failed = pair.origin.write(0, 8);
    pair.forward();
    pair.serving.answer_with(A, Status::INTERNAL_ERROR.with_dnr());
    pair.back();
    assert_eq!(pair.origin.done.get(&failed), Some(&Outcome::Failed(Status::INTERNAL_ERROR.with_dnr())));
    // The namespace is gone when the serving lane hears of the request.
    let refused = pair.origin.write(0, 8);
    pair.serving.tell(ToLane::Paths(Arc::new(PathTable { epoch: 2, ..PathTable::default() })));
    pair.forward();
    pair.back();
    assert_eq!(pair.origin.done.get(&refused), Some(&Outcome::NotSent(Refused::NoSuchNamespace)));
}

#[test]
fn a_path_of_its_own_is_used_unless_the_other_is_better() {
    use AnaState::{Inaccessible, NonOptimized, Optimized};
    for (own, other, forwarded) in [
        (Optimized, Optimized, 0),
        (NonOptimized, NonOptimized, 0),
        (NonOptimized, Optimized, 1),
        (Optimized, NonOptimized, 0),
        (Inaccessible, NonOptimized, 1),
        (NonOptimized, Inaccessible, 0),
    ] {
        let mut pair = Pair::new(&[(A, other, 1), (B, own, 2)]);
        pair.origin.write(0, 8);
        assert_eq!(pair.forward(), forwarded, "own path {own:?}, that of the other lane {other:?}");
    }
}

#[test]
fn nothing_is_decided_by_an_older_table() {
    let mut pair = Pair::on_one_queue();
    let paths = [(B, AnaState::Optimized, 1)];
    pair.origin.tell(table(2, &paths));
    let write = pair.origin.write(0, 8);
    // The first lane has heard that nothing may return, and not yet of B.
    let nothing = Rig::table(&[], IoPolicy::RoundRobin, false);
    pair.serving.tell(ToLane::Paths(Arc::new(nothing)));
    assert_eq!(pair.forward(), 1);
    pair.back();
    assert!(pair.origin.done.is_empty() && pair.serving.lane.status().requeued == 1);
    pair.serving.open(B);
    assert!(pair.serving.held_by(B).is_empty());
    pair.serving.tell(table(2, &paths));
    pair.serving.run();
    assert_eq!(pair.serving.held_by(B), [write]);
    // Also a namespace of which it has not heard.
    pair.serving.tell(ToLane::Paths(Arc::new(PathTable { epoch: 2, ..PathTable::default() })));
    pair.origin.tell(table(3, &paths));
    let later = pair.origin.write(100, 8);
    pair.forward();
    pair.back();
    pair.serving.tell(table(3, &paths));
    pair.serving.run();
    assert_eq!(pair.serving.held_by(B), [write, later]);
}

#[test]
fn what_waits_and_what_was_held_goes_on_through_another_lane() {
    // B grants each lane a queue and is lost; A grants one.
    let mut pair = Pair::new(&[(A, AnaState::NonOptimized, 1), (B, AnaState::Optimized, 2)]);
    let held = pair.origin.write(0, 8);
    pair.origin.run();
    let left = table(2, &[(A, AnaState::NonOptimized, 1)]);
    for rig in [&mut pair.origin, &mut pair.serving] {
        rig.condemn(B);
        rig.tell(left.clone());
    }
    let waits = pair.origin.write(4, 8);
    let said = pair.origin.hear();
    let ledger = said.iter().find_map(|message| match message {
        ToControl::Condemned { ledger, .. } => ledger.first().cloned(),
        _ => None,
    });
    let Some(LedgerEntry { key, range, .. }) = ledger else { panic!("nothing in doubt: {said:?}") };
    let entry = |stands| GuardEntry { key, head: HEAD, range: range.clone(), stands };
    for rig in [&mut pair.origin, &mut pair.serving] {
        rig.guard(1, &[entry(GuardStands::Held)]);
    }
    assert_eq!(pair.forward(), 0, "what overlaps waits where it was asked for");
    pair.origin.tell(ToLane::Settle { life: B, release: Release::Retry });
    assert!(pair.origin.heard(&ToControl::Resolved(vec![key])), "nothing of it is sent here any more");
    assert_eq!(pair.forward(), 2);
    assert!(pair.serving.held_by(A).is_empty(), "the first lane still has the table that guards it");
    pair.serving.guard(2, &[]);
    pair.serving.run();
    assert_eq!(pair.serving.held_by(A), [held, waits]);
    // What it did before is not forgotten: nobody may say that it was never sent.
    pair.serving.tell(ToLane::Shutdown);
    pair.back();
    assert!(matches!(pair.origin.done.get(&held), Some(Outcome::Indeterminate { .. })));
}

#[test]
fn what_it_did_before_is_said_if_it_is_never_sent_again() {
    let mut pair = Pair::new(&[(A, AnaState::NonOptimized, 1), (B, AnaState::Optimized, 2)]);
    let held = pair.origin.write(0, 8);
    pair.origin.run();
    pair.origin.condemn(B);
    pair.origin.tell(table(2, &[(A, AnaState::NonOptimized, 1)]));
    pair.origin.guard(1, &[]);
    pair.origin.tell(ToLane::Settle { life: B, release: Release::Retry });
    pair.serving.tell(ToLane::Paths(Arc::new(Rig::table(&[], IoPolicy::RoundRobin, false))));
    pair.serving.tell(ToLane::Paths(Arc::new(PathTable { epoch: 2, ..PathTable::default() })));
    assert_eq!(pair.forward(), 1);
    pair.back();
    assert_eq!(pair.origin.done.get(&held), Some(&Outcome::OutcomeUnknown));
}

#[test]
fn a_forwarded_write_that_is_given_up_is_guarded_before_its_number_counts_as_handed_over() {
    let mut pair = Pair::on_one_queue();
    let write = pair.origin.write(0, 8);
    pair.forward();
    assert_eq!(pair.serving.held_by(A), [write]);
    // Its caller gives it up: it stands in the log before that, and then its lane hears of it.
    let number = pair.log.abandon(LaneId(1), [(HEAD, 0..8)]);
    pair.origin.lane.abandon(pair.origin.now, write);
    pair.origin.lane.handed_over(pair.origin.now, number);
    pair.origin.outputs();
    assert_eq!(pair.origin.hear(), [ToControl::HandedOver(number)]);
    assert_eq!(pair.forward(), 0);
    // That number is over on the first lane before it has read that it has the request.
    pair.serving.lane.handle_abandoned(pair.log.take(LaneId(0)));
    pair.serving.tell(ToLane::HandedOver { lane: LaneId(1), number });
    let later = pair.serving.write(7, 1);
    pair.serving.run();
    assert_eq!(pair.serving.held_by(A), [write], "the number of the first lane stands in the way");
    pair.serving.hear();
    pair.give_up();
    let said = pair.serving.hear();
    let Some(ToControl::Abandoned(entry)) = said.first() else { panic!("not guarded: {said:?}") };
    assert_eq!(said[1], ToControl::HandedOver(1));
    let key = entry.key;
    assert_eq!(key, GuardKey { seq: 1, lane: 0 }, "it is one of the first lane's");
    pair.serving.guard(1, &[GuardEntry { key, head: HEAD, range: 0..8, stands: GuardStands::Held }]);
    pair.serving.tell(ToLane::HandedOver { lane: LaneId(0), number: 1 });
    pair.serving.run();
    assert_eq!(pair.serving.held_by(A), [write], "now the guard does");
    pair.serving.answer(A);
    assert_eq!(pair.serving.held_by(A), [later]);
    pair.back();
    assert_eq!(pair.origin.done.get(&write), Some(&Outcome::Ok));
}

#[test]
fn a_read_that_is_given_up_is_no_matter_of_the_log() {
    let mut pair = Pair::on_one_queue();
    let read = pair.origin.read(0, 8);
    pair.forward();
    pair.origin.lane.abandon(pair.origin.now, read);
    pair.origin.outputs();
    pair.forward();
    assert_eq!(pair.told.len(), 1);
    assert_eq!(pair.told[0].1, None);
}

#[test]
fn a_flush_of_every_cache_goes_to_the_lane_that_reaches_all() {
    let mut pair = Pair::new(&[(A, AnaState::Optimized, 1), (B, AnaState::Optimized, 2)]);
    let mut own = Rig::table(&[(A, AnaState::Optimized, false), (B, AnaState::Optimized, false)], IoPolicy::Numa, true);
    let head = own.heads.get_mut(&HEAD).unwrap();
    head.flush = FlushScope::Controller;
    head.paths[1].queues = 2;
    pair.origin.tell(ToLane::Paths(Arc::new(own)));
    let flush = pair.origin.submit(Op::Flush, 0, 0);
    let asked = pair.origin.hear();
    let [ToControl::Flush { seq, .. }] = asked[..] else { panic!("whom to flush is control's to say: {asked:?}") };
    assert_eq!(pair.forward(), 0);
    pair.origin.tell(ToLane::FlushPlan { seq, lives: vec![(B, 1), (A, 1)], lost: Vec::new() });
    pair.origin.run();
    assert_eq!(pair.origin.of(B).taken.len(), 1, "it can ask the controller on which it has a queue");
    pair.origin.answer(B);
    assert_eq!(pair.forward(), 1, "and not the other");
    pair.serving.answer(A);
    pair.serving.answer(B);
    pair.back();
    assert_eq!(pair.origin.done.get(&flush), Some(&Outcome::Ok));
}
