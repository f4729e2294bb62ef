//! Two lanes and a controller that grants one I/O queue: the second lane has its requests carried out by the first.

use super::*;
use crate::barrier::AbandonLog;
use crate::forward::Past;
use crate::poison::{Order, Report};
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

/// What the first request of the origin is known by when instances were lost with it.
const NAME: GuardKey = GuardKey { seq: 1, lane: 1 };
const C: LifeId = LifeId(3);
const D: LifeId = LifeId(4);

fn reports(heard: &[ToControl]) -> Vec<Report> {
    let reports = heard.iter().filter_map(|message| match message {
        ToControl::Poison(report) => Some(report.clone()),
        _ => None,
    });
    reports.collect()
}

/// What was carried under which name, and whether it waits for control.
fn carried(reports: &[Report]) -> Vec<(GuardKey, bool)> {
    let carried = reports.iter().filter_map(|report| match report {
        Report::Carried { commands, .. } => Some(commands),
        _ => None,
    });
    carried.flatten().map(|carried| (carried.command.key, carried.waits)).collect()
}

impl Pair {
    /// This life is lost and fenced, and these are there by then. What the two lanes said of suspects, and how often the origin
    /// forwarded.
    fn lose(
        &mut self,
        life: LifeId,
        epoch: u64,
        left: &[(LifeId, AnaState, u16)],
    ) -> (Vec<Report>, Vec<Report>, usize) {
        self.origin.condemn(life);
        self.serving.condemn(life);
        let mut said_before = (self.origin.hear(), self.serving.hear());
        for (life, _, queues) in left {
            if !self.serving.wires.values().any(|wire| wire.spec.life == *life) {
                self.serving.open(*life);
                if *queues > 1 {
                    self.origin.open_queue(*life, 2);
                    self.origin.run();
                }
            }
        }
        self.origin.tell(table(epoch, left));
        self.serving.tell(table(epoch, left));
        for rig in [&mut self.origin, &mut self.serving] {
            rig.guard(epoch, &[]);
            rig.tell(ToLane::Settle { life, release: Release::Retry });
            rig.run();
        }
        said_before.0.extend(self.origin.hear());
        let forwarded = self.forward();
        said_before.1.extend(self.serving.hear());
        (reports(&said_before.0), reports(&said_before.1), forwarded)
    }

    fn order(&mut self, order: Order) -> (Vec<Report>, Vec<Report>) {
        for rig in [&mut self.origin, &mut self.serving] {
            rig.hear();
            rig.tell(ToLane::Poison(order));
            rig.run();
        }
        (reports(&self.origin.hear()), reports(&self.serving.hear()))
    }
}

#[test]
fn what_instances_were_lost_with_is_counted_on_where_it_is_carried_out() {
    use AnaState::Optimized;
    for op in [Op::Write { fua: false }, Op::Read, Op::Compare] {
        let mut pair = Pair::new(&[(A, Optimized, 2)]);
        let token = pair.origin.submit(op, 0, 1);
        pair.origin.run();
        let (said, _, forwarded) = pair.lose(A, 2, &[(B, Optimized, 2)]);
        assert_eq!((carried(&said), forwarded), (vec![(NAME, false)], 0), "{op:?}");
        let (said, there, forwarded) = pair.lose(B, 3, &[(C, Optimized, 1)]);
        assert_eq!((carried(&said), forwarded), (vec![(NAME, false)], 1), "{op:?}");
        assert_eq!(there, [], "{op:?}: it waits for nobody");
        assert_eq!(said.len(), 1, "{op:?}: it has not ended");
        assert_eq!(pair.serving.of(C).taken.len(), 1, "{op:?}");
        let (_, there, _) = pair.lose(C, 4, &[(D, Optimized, 1)]);
        assert_eq!(carried(&there), [(NAME, true)], "{op:?}: the third instance, under the name that it had");
        assert!(pair.serving.of(D).taken.is_empty(), "{op:?} is kept back");
        let alone = Order::Alone { key: NAME, life: D, nsid: 1 };
        assert_eq!(pair.order(alone).1, [Report::NotSent(NAME)], "{op:?}: the instance is not isolated");
        assert_eq!(pair.order(Order::Isolate(D)), (vec![Report::Isolated(D)], vec![Report::Isolated(D)]));
        assert_eq!(pair.order(alone).1, [], "{op:?}");
        pair.serving.answer(D);
        assert!(reports(&pair.serving.hear()).contains(&Report::Ended(NAME)), "{op:?}");
        pair.back();
        assert_eq!(pair.origin.done.get(&token), Some(&Outcome::Ok), "{op:?}");
        assert_eq!(reports(&pair.origin.hear()), [Report::Ended(NAME)], "{op:?}: whoever is heard last");
    }
}

#[test]
fn a_suspect_without_a_queue_is_kept_back_where_one_is() {
    use AnaState::Optimized;
    for fails in [true, false] {
        let mut pair = Pair::new(&[(A, Optimized, 2)]);
        let token = pair.origin.write(0, 1);
        pair.origin.run();
        pair.lose(A, 2, &[(B, Optimized, 2)]);
        pair.lose(B, 3, &[(C, Optimized, 2)]);
        let (said, there, forwarded) = pair.lose(C, 4, &[(D, Optimized, 1)]);
        assert_eq!((carried(&said), forwarded), (vec![(NAME, true)], 1));
        assert_eq!(there, [Report::Here(NAME)], "control hears who has it");
        assert!(pair.serving.of(D).taken.is_empty(), "and says what becomes of it");
        if fails {
            pair.order(Order::Fail { key: NAME, instances: 5 });
            pair.back();
            assert_eq!(pair.origin.done.get(&token), Some(&Outcome::Poison { instances: 5 }));
        } else {
            pair.order(Order::Free(NAME));
            pair.serving.answer(D);
            pair.back();
            assert_eq!(pair.origin.done.get(&token), Some(&Outcome::Ok));
        }
    }
}

#[test]
fn a_suspect_is_kept_back_also_where_the_table_is_older() {
    use AnaState::Optimized;
    let mut pair = Pair::new(&[(A, Optimized, 2)]);
    let token = pair.origin.write(0, 1);
    pair.origin.run();
    pair.lose(A, 2, &[(B, Optimized, 2)]);
    pair.lose(B, 3, &[(C, Optimized, 2)]);
    pair.serving.condemn(C);
    pair.origin.condemn(C);
    pair.origin.tell(table(5, &[(D, Optimized, 1)]));
    pair.origin.tell(ToLane::Settle { life: C, release: Release::Retry });
    pair.serving.hear();
    assert_eq!(pair.forward(), 1);
    assert_eq!(reports(&pair.serving.hear()), [Report::Here(NAME)]);
    pair.serving.open(D);
    pair.serving.tell(table(5, &[(D, Optimized, 1)]));
    pair.serving.run();
    assert!(pair.serving.of(D).taken.is_empty(), "control has not spoken");
    pair.order(Order::Free(NAME));
    pair.serving.answer(D);
    pair.back();
    assert_eq!(pair.origin.done.get(&token), Some(&Outcome::Ok));
}

#[test]
fn a_suspect_stays_where_its_lane_has_a_queue_also_while_that_is_isolated() {
    use AnaState::{NonOptimized, Optimized};
    let mut pair = Pair::new(&[(A, NonOptimized, 2)]);
    pair.origin.write(0, 1);
    pair.origin.run();
    pair.lose(A, 2, &[(B, NonOptimized, 2)]);
    pair.lose(B, 3, &[(C, NonOptimized, 2)]);
    let (_, _, forwarded) = pair.lose(C, 4, &[(D, NonOptimized, 2), (LifeId(5), Optimized, 1)]);
    assert_eq!(forwarded, 0, "a better path is no reason: it is sent where control says");
    pair.order(Order::Isolate(D));
    assert_eq!(pair.forward(), 0, "nor is its own turn");
    pair.order(Order::Alone { key: NAME, life: D, nsid: 1 });
    assert_eq!(pair.origin.of(D).taken.len(), 1);
    let (said, there, forwarded) = pair.lose(D, 5, &[(LifeId(5), Optimized, 1)]);
    assert_eq!((carried(&said), there, forwarded), (vec![(NAME, true)], vec![Report::Here(NAME)], 1), "now it goes");
}

#[test]
fn nothing_is_forwarded_to_an_instance_on_which_a_suspect_is_alone() {
    use AnaState::{NonOptimized, Optimized};
    let mut pair = Pair::new(&[(A, Optimized, 1), (B, NonOptimized, 2)]);
    assert_eq!(pair.order(Order::Isolate(A)).0, [Report::Isolated(A)], "the lane has no queue there, and says so");
    let own = pair.origin.write(0, 1);
    assert_eq!(pair.forward(), 0);
    pair.origin.run();
    pair.origin.answer(B);
    assert_eq!(pair.origin.done.get(&own), Some(&Outcome::Ok), "the next best path serves meanwhile");
    pair.order(Order::Share(A));
    pair.origin.write(0, 1);
    assert_eq!(pair.forward(), 1, "and then the better one again");
    // Where it is the only one, requests wait for it, whatever the table says of others.
    let mut pair = Pair::on_one_queue();
    pair.order(Order::Isolate(A));
    let mut last = Rig::table(&[(A, Optimized, false)], IoPolicy::RoundRobin, false);
    last.epoch = 2;
    for rig in [&mut pair.origin, &mut pair.serving] {
        rig.tell(ToLane::Paths(Arc::new(last.clone())));
    }
    let waits = [pair.origin.write(0, 1), pair.serving.write(8, 1)];
    assert_eq!(pair.forward(), 0);
    assert!(pair.origin.done.is_empty() && pair.serving.done.is_empty());
    pair.order(Order::Share(A));
    assert_eq!(pair.forward(), 1);
    pair.serving.answer(A);
    pair.back();
    assert_eq!(pair.origin.done.get(&waits[0]), Some(&Outcome::Ok));
    assert_eq!(pair.serving.done.get(&waits[1]), Some(&Outcome::Ok));
}

#[test]
fn what_was_lost_elsewhere_waits_for_every_guard() {
    use AnaState::Optimized;
    let mut pair = Pair::new(&[(A, Optimized, 2)]);
    let token = pair.origin.write(0, 1);
    pair.origin.run();
    pair.origin.condemn(A);
    pair.serving.condemn(A);
    // A later request of a third lane is in doubt over the same block.
    let other = GuardEntry { key: GuardKey { seq: 99, lane: 2 }, head: HEAD, range: 0..1, stands: GuardStands::Held };
    pair.serving.open(B);
    pair.serving.guard(1, &[other]);
    for rig in [&mut pair.origin, &mut pair.serving] {
        rig.tell(table(2, &[(B, Optimized, 1)]));
    }
    pair.origin.tell(ToLane::Settle { life: A, release: Release::Retry });
    assert_eq!(pair.forward(), 1);
    assert!(pair.serving.held_by(B).is_empty(), "it is guarded nowhere here, and so waits for all");
    pair.serving.guard(2, &[]);
    pair.serving.run();
    assert_eq!(pair.serving.held_by(B), [token]);
}
