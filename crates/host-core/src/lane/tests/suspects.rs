//! Commands that instances were lost with.

use super::*;
use crate::poison::{Order, Report};
use crate::{GuardKey, Release, Suspicion};

const fn key(seq: u64) -> GuardKey {
    GuardKey { seq, lane: 0 }
}

/// A rig whose one path is a new life each time, and what was submitted there is lost with it.
struct Losing {
    rig: Rig,
    life: LifeId,
}

impl Losing {
    fn new() -> Self {
        let mut rig = Rig::new();
        rig.open(LifeId(1));
        rig.paths(&[LifeId(1)]);
        Self { rig, life: LifeId(1) }
    }

    /// The path is lost and fenced, and the next life is there. What was said about suspects.
    fn lose(&mut self) -> Vec<Report> {
        let (old, new) = (self.life, LifeId(self.life.0 + 1));
        self.life = new;
        self.rig.hear();
        self.rig.drop_connection(old);
        self.rig.condemn(old);
        self.rig.open(new);
        self.rig.paths(&[new]);
        let heard = reports(&self.rig.hear());
        self.rig.tell(ToLane::Settle { life: old, release: Release::Retry });
        self.rig.run();
        heard
    }

    fn order(&mut self, order: Order) -> Vec<Report> {
        self.rig.tell(ToLane::Poison(order));
        self.rig.run();
        reports(&self.rig.hear())
    }

    /// Commands that the present life has and has not answered.
    fn taken(&mut self) -> usize {
        let life = self.life;
        self.rig.of(life).taken.len()
    }
}

fn reports(heard: &[ToControl]) -> Vec<Report> {
    let suspects = heard.iter().filter_map(|message| match message {
        ToControl::Poison(report) => Some(report.clone()),
        _ => None,
    });
    suspects.collect()
}

/// What was carried, and whether it is kept back.
fn carried(reports: &[Report]) -> Vec<(u64, bool)> {
    let carried = reports.iter().filter_map(|report| match report {
        Report::Carried { commands, .. } => Some(commands),
        _ => None,
    });
    carried.flatten().map(|carried| (carried.command.key.seq, carried.waits)).collect()
}

#[test]
fn what_three_lives_were_lost_with_is_kept_back_and_told() {
    for op in [Op::Read, Op::Write { fua: false }, Op::Compare, Op::Flush] {
        let mut world = Losing::new();
        let nlb = u32::from(op != Op::Flush);
        let token = world.rig.submit(op, 0, nlb);
        world.rig.run();
        for waits in [false, false, true] {
            assert_eq!(world.taken(), 1, "{op:?} goes on after its life was fenced");
            assert_eq!(carried(&world.lose()), [(1, waits)], "{op:?}");
        }
        assert_eq!(world.taken(), 0, "{op:?} is kept back");
        let other = world.rig.submit(op, u64::from(nlb) * 8, nlb);
        world.rig.run();
        assert_eq!(world.taken(), 1, "nothing else is");
        world.order(Order::Free(key(1)));
        assert_eq!(world.taken(), 2, "control says that it is no suspect");
        assert_eq!(carried(&world.lose()), [(1, true), (2, false)], "and is asked again after the next loss");
        world.order(Order::Free(key(1)));
        world.rig.answer(world.life);
        assert_eq!((world.rig.done.get(&token), world.rig.done.get(&other)), (Some(&Outcome::Ok), Some(&Outcome::Ok)));
        let mut resolved: Vec<GuardKey> = world.rig.hear().into_iter().filter_map(resolved).flatten().collect();
        resolved.sort_unstable();
        assert_eq!(resolved, [key(1), key(2)], "{op:?}: control hears that both have ended");
    }
}

fn resolved(message: ToControl) -> Option<Vec<GuardKey>> {
    if let ToControl::Resolved(keys) = message { Some(keys) } else { None }
}

#[test]
fn free_that_comes_before_the_fence_holds() {
    let mut world = Losing::new();
    world.rig.write(0, 1);
    world.rig.run();
    world.lose();
    world.lose();
    let old = world.life;
    world.rig.drop_connection(old);
    world.rig.condemn(old);
    world.order(Order::Free(key(1)));
    world.life = LifeId(old.0 + 1);
    world.rig.open(world.life);
    world.rig.paths(&[world.life]);
    assert_eq!(world.taken(), 0, "it is in doubt");
    world.rig.tell(ToLane::Settle { life: old, release: Release::Retry });
    world.rig.run();
    assert_eq!(world.taken(), 1);
}

#[test]
fn an_isolated_life_becomes_empty_and_carries_what_control_names() {
    let mut world = Losing::new();
    let suspect = world.rig.write(0, 1);
    world.rig.run();
    (0..3).for_each(|_| drop(world.lose()));
    let life = world.life;
    let (before, flight) = (world.rig.write(8, 1), 1);
    world.rig.run();
    assert_eq!(world.order(Order::Isolate(life)), [], "something is outstanding");
    let after = world.rig.write(16, 1);
    world.rig.run();
    assert_eq!(world.taken(), flight, "nothing is started there");
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&before), Some(&Outcome::Ok));
    assert_eq!(reports(&world.rig.hear()), [Report::Isolated(life)]);
    assert_eq!(world.order(Order::Witness { life, nsid: 1 }), []);
    let witness = world.rig.of(life).taken.iter().map(|taken| taken.nvm).collect::<Vec<_>>();
    assert_eq!(witness, [NvmCommand::Flush]);
    world.rig.answer(life);
    assert!(reports(&world.rig.hear()).contains(&Report::Witnessed(life)));
    assert_eq!(world.order(Order::Alone { key: key(1), life, nsid: 1 }), []);
    assert_eq!(world.rig.held_by(life), [suspect]);
    world.rig.answer(life);
    assert_eq!((world.rig.done.get(&suspect), world.rig.done.get(&after)), (Some(&Outcome::Ok), None));
    world.order(Order::Share(life));
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&after), Some(&Outcome::Ok), "the others have it again");
}

#[test]
fn what_a_witness_reports_is_not_lost() {
    for (status, lost) in
        [(Status::WRITE_FAULT.with_dnr(), true), (Status::NAMESPACE_NOT_READY, false), (Status::SUCCESS, false)]
    {
        let mut world = Losing::new();
        world.rig.write(0, 1);
        world.rig.run();
        (0..3).for_each(|_| drop(world.lose()));
        let life = world.life;
        world.order(Order::Isolate(life));
        world.order(Order::Witness { life, nsid: 1 });
        world.rig.answer_with(life, status);
        assert!(reports(&world.rig.hear()).contains(&Report::Witnessed(life)), "it lives all the same");
        assert_eq!(world.rig.flushes_lost, if lost { vec![(HEAD, status)] } else { vec![] });
    }
}

#[test]
fn an_isolated_life_that_is_lost_carried_the_suspect_alone() {
    let mut world = Losing::new();
    world.rig.write(0, 1);
    world.rig.run();
    (0..3).for_each(|_| drop(world.lose()));
    let life = world.life;
    assert_eq!(world.order(Order::Isolate(life)), [Report::Isolated(life)]);
    world.order(Order::Alone { key: key(1), life, nsid: 1 });
    assert_eq!(carried(&world.lose()), [(1, true)]);
    assert_eq!(world.taken(), 0);
    // A witness that was under way belongs to no request.
    let life = world.life;
    world.order(Order::Isolate(life));
    world.order(Order::Witness { life, nsid: 1 });
    assert_eq!(carried(&world.lose()), []);
    assert_eq!(world.order(Order::Alone { key: key(1), life, nsid: 1 }), [Report::NotSent(key(1))], "it is gone");
}

#[test]
fn what_fails_ends_with_all_its_instances_fenced_and_its_range_free() {
    let mut world = Losing::new();
    let suspect = world.rig.write(0, 1);
    world.rig.run();
    (0..3).for_each(|_| drop(world.lose()));
    let behind = world.rig.write(0, 1);
    world.rig.run();
    assert_eq!(world.taken(), 0, "what overlaps a suspect waits for it");
    world.rig.hear();
    world.rig.tell(ToLane::Poison(Order::Fail { key: key(1), instances: 3 }));
    world.rig.run();
    assert_eq!(world.rig.done.get(&suspect), Some(&Outcome::Poison { instances: 3 }));
    assert!(world.rig.hear().into_iter().filter_map(resolved).any(|keys| keys == [key(1)]));
    world.rig.answer(world.life);
    assert_eq!(world.rig.done.get(&behind), Some(&Outcome::Ok));
}

#[test]
fn what_waits_behind_a_suspect_is_not_sent_alone_before_it() {
    let mut world = Losing::new();
    let (first, second) = (world.rig.write(0, 1), world.rig.write(0, 1));
    world.rig.run();
    (0..3).for_each(|_| drop(world.lose()));
    let life = world.life;
    world.order(Order::Isolate(life));
    assert_eq!(world.order(Order::Alone { key: key(2), life, nsid: 1 }), [Report::NotSent(key(2))]);
    world.order(Order::Alone { key: key(1), life, nsid: 1 });
    world.rig.answer(life);
    assert_eq!((world.rig.done.get(&first), world.rig.done.get(&second)), (Some(&Outcome::Ok), None));
    world.order(Order::Share(life));
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&second), Some(&Outcome::Ok));
}

#[test]
fn a_suspect_ends_with_the_lane_and_when_no_path_may_return() {
    for shut_down in [false, true] {
        let mut world = Losing::new();
        let token = world.rig.write(0, 1);
        world.rig.run();
        (0..3).for_each(|_| drop(world.lose()));
        assert_eq!(world.rig.done.get(&token), None);
        if shut_down {
            world.rig.tell(ToLane::Shutdown);
        } else {
            world.rig.tell(ToLane::Paths(Arc::new(Rig::table(&[], IoPolicy::RoundRobin, false))));
        }
        assert_eq!(world.rig.done.get(&token), Some(&Outcome::OutcomeUnknown), "it was sent, and all of it is fenced");
    }
}

#[test]
fn an_isolated_life_can_be_drained_and_given_back() {
    let mut world = Losing::new();
    let life = world.life;
    let token = world.rig.write(0, 1);
    world.rig.run();
    world.order(Order::Isolate(life));
    world.rig.tell(ToLane::Drain(life));
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&token), Some(&Outcome::Ok));
    assert!(world.rig.heard(&ToControl::Drained(life)));
    assert_eq!(world.order(Order::Share(life)), []);
    assert_eq!(world.order(Order::Isolate(life)), [Report::Isolated(life)], "a life that it does not know is empty");
}

#[test]
fn an_answer_that_is_tried_again_clears_a_suspect() {
    let mut world = Losing::new();
    let token = world.rig.read(0, 1);
    world.rig.run();
    (0..3).for_each(|_| drop(world.lose()));
    let life = world.life;
    world.order(Order::Isolate(life));
    world.order(Order::Alone { key: key(1), life, nsid: 1 });
    world.rig.hear();
    world.rig.answer_with(life, Status::CONTROLLER_PATH_ERROR);
    assert_eq!(reports(&world.rig.hear()), [Report::Answered(key(1)), Report::Isolated(life)]);
    world.order(Order::Share(life));
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&token), Some(&Outcome::Ok));
}

#[test]
fn a_witness_without_an_answer_is_a_command_that_the_instance_has_lost() {
    let mut world = Losing::new();
    let life = world.life;
    let others = world.rig.write(0, 1);
    world.rig.run();
    world.rig.answer(life);
    assert_eq!(world.rig.done.get(&others), Some(&Outcome::Ok));
    world.order(Order::Isolate(life));
    world.rig.elapse(Duration::from_secs(40));
    world.order(Order::Witness { life, nsid: 1 });
    let since = world.rig.now;
    for elapsed in [30, 60] {
        world.rig.elapse(Duration::from_secs(30));
        let said = world.rig.hear();
        let suspected = said.iter().find_map(|message| match message {
            ToControl::Suspect { life: of, why: Suspicion::IoTimeout { since, .. } } => Some((*of, *since)),
            _ => None,
        });
        assert_eq!(suspected, Some((life, since)), "after {elapsed} s: {said:?}");
    }
    world.rig.answer(life);
    assert!(reports(&world.rig.hear()).contains(&Report::Witnessed(life)));
    world.rig.elapse(Duration::from_secs(60));
    assert_eq!(world.rig.hear(), [], "it is answered");
}
