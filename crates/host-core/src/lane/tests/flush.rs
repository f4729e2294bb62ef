//! A flush where every controller has a cache of its own.

use super::*;
use crate::CacheEntry;

/// Lives A and B up, each with a cache of its own.
fn own_caches() -> Rig {
    let mut rig = Rig::new();
    rig.open(A);
    rig.open(B);
    paths(&mut rig, &[A, B]);
    rig.hear();
    rig
}

fn paths(rig: &mut Rig, lives: &[LifeId]) {
    let lives: Vec<_> = lives.iter().map(|life| (*life, AnaState::Optimized, false)).collect();
    let mut table = Rig::table(&lives, IoPolicy::RoundRobin, true);
    table.heads.get_mut(&HEAD).expect("one").flush = FlushScope::Controller;
    rig.tell(ToLane::Paths(Arc::new(table)));
}

/// What control is asked; there must be one question.
fn question(rig: &mut Rig) -> u64 {
    let heard = rig.hear();
    let asked: Vec<u64> = heard
        .iter()
        .filter_map(|message| match message {
            ToControl::Flush { seq, head: HEAD } => Some(*seq),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 1, "{heard:?}");
    asked[0]
}

fn plan(rig: &mut Rig, seq: u64, lives: &[LifeId], lost: &[LifeId]) {
    let lives = lives.iter().map(|life| (*life, 1)).collect();
    rig.tell(ToLane::FlushPlan { seq, lives, lost: lost.to_vec() });
    rig.run();
}

fn taken(rig: &mut Rig) -> (usize, usize) {
    (rig.of(A).taken.len(), rig.of(B).taken.len())
}

#[test]
fn a_flush_goes_to_every_controller_that_may_hold_something() {
    let mut rig = own_caches();
    let flush = rig.submit(Op::Flush, 0, 0);
    rig.run();
    assert_eq!(taken(&mut rig), (0, 0), "nobody is asked before it is known who");
    let seq = question(&mut rig);
    plan(&mut rig, seq, &[A, B], &[]);
    assert_eq!(taken(&mut rig), (1, 0), "one after the other");
    rig.answer(A);
    assert_eq!((taken(&mut rig), rig.done.get(&flush)), ((0, 1), None));
    rig.answer(B);
    assert_eq!(rig.done.get(&flush), Some(&Outcome::Ok));
    assert!(rig.lane.is_empty());
    // Where they share it, one path is as good as another, and nobody is asked.
    let mut rig = Rig::two_paths();
    let flush = rig.submit(Op::Flush, 0, 0);
    rig.run();
    rig.answer(A);
    rig.answer(B);
    assert_eq!(rig.done.get(&flush), Some(&Outcome::Ok));
    assert!(!rig.hear().iter().any(|message| matches!(message, ToControl::Flush { .. })));
}

#[test]
fn a_flush_whose_controller_is_lost_asks_again_and_says_what_was_lost() {
    for abandoned in [false, true] {
        let mut rig = own_caches();
        let flush = rig.submit(Op::Flush, 0, 0);
        let seq = question(&mut rig);
        plan(&mut rig, seq, &[A, B], &[]);
        paths(&mut rig, &[B]);
        rig.condemn(A);
        assert_eq!(question(&mut rig), seq, "the same request");
        plan(&mut rig, seq, &[B], &[A]);
        assert_eq!(rig.done.get(&flush), None, "what can be flushed is flushed first");
        if abandoned {
            rig.lane.abandon(rig.now, flush);
            rig.outputs();
        }
        rig.answer(B);
        assert_eq!(rig.done.get(&flush), Some(&Outcome::CacheLost { life: A }));
        let told = rig.hear().contains(&ToControl::FlushTold { head: HEAD, lives: vec![A] });
        assert_eq!(told, !abandoned, "one that nobody hears does not count");
    }
}

#[test]
fn what_a_life_may_hold_is_said_before_it_is_over() {
    let fua = Op::Write { fua: true };
    let (wrote, flushed, both) = ((true, false), (false, true), (true, true));
    for (steps, want) in [
        (&[WRITE, Op::Flush, WRITE][..1], Some(wrote)),
        (&[Op::WriteZeroes { deallocate: false }][..], Some(wrote)),
        (&[Op::Discard][..], Some(wrote)),
        (&[WRITE, Op::Flush][..], Some(flushed)),
        (&[WRITE, Op::Flush, WRITE][..], Some(both)),
        (&[fua, Op::Read, Op::Compare][..], None),
    ] {
        let mut rig = Rig::new();
        rig.open(A);
        paths(&mut rig, &[A]);
        rig.hear();
        for op in steps {
            rig.now += Duration::from_millis(1);
            let blocks = u32::from(*op != Op::Flush);
            rig.submit(*op, 0, blocks);
            if *op == Op::Flush {
                let seq = question(&mut rig);
                plan(&mut rig, seq, &[A], &[]);
            }
            rig.run();
            rig.answer(A);
        }
        assert!(rig.lane.is_empty());
        rig.condemn(A);
        let heard = rig.hear();
        let at = heard.iter().position(|message| matches!(message, ToControl::Condemned { .. })).expect("it stops");
        let said = heard[..at].iter().find_map(|message| match message {
            ToControl::Cached { life: A, entries } => Some(entries.clone()),
            _ => None,
        });
        let said = said.map(|entries| {
            let [CacheEntry { head: HEAD, wrote, flushed }] = entries[..] else { panic!("{entries:?}") };
            (wrote.is_some(), flushed.is_some())
        });
        assert_eq!(said, want, "{steps:?}");
    }
}

const WRITE: Op = Op::Write { fua: false };

#[test]
fn a_write_that_was_answered_after_a_flush_was_sent_is_not_covered_by_it() {
    let mut rig = Rig::new();
    rig.open(A);
    paths(&mut rig, &[A]);
    rig.hear();
    rig.write(0, 1);
    rig.submit(Op::Flush, 0, 0);
    let seq = question(&mut rig);
    plan(&mut rig, seq, &[A], &[]);
    // The controller answers both at once: the flush was under way before the write was answered.
    rig.answer(A);
    rig.condemn(A);
    let heard = rig.hear();
    let unflushed = |message: &ToControl| matches!(message, ToControl::Cached { entries, .. } if entries.iter().all(|entry| entry.wrote.is_some()));
    assert!(heard.iter().any(unflushed), "{heard:?}");
}

/// The disk was given another name while the write was under way, or is no path for a moment.
#[test]
fn a_write_that_is_answered_when_its_namespace_is_gone_is_in_the_cache_all_the_same() {
    let mut rig = own_caches();
    rig.write(0, 1);
    rig.run();
    let wrote = if rig.of(A).taken.is_empty() { B } else { A };
    rig.tell(ToLane::Paths(Arc::new(PathTable { epoch: 9, ..PathTable::default() })));
    rig.answer(wrote);
    assert!(rig.lane.is_empty(), "it was answered");
    rig.condemn(wrote);
    let heard = rig.hear();
    let unflushed = |message: &ToControl| matches!(message, ToControl::Cached { life, entries } if *life == wrote && entries.iter().any(|entry| entry.wrote.is_some()));
    assert!(heard.iter().any(unflushed), "{heard:?}");
}

#[test]
fn a_flush_waits_for_a_slot_of_the_controller_that_it_must_go_to() {
    let mut rig = own_caches();
    for block in 0..32 {
        rig.write(block, 1);
    }
    rig.run();
    assert_eq!(taken(&mut rig), (16, 16), "both are full");
    let flush = rig.submit(Op::Flush, 0, 0);
    let seq = question(&mut rig);
    plan(&mut rig, seq, &[A], &[]);
    rig.answer(B);
    assert_eq!(taken(&mut rig), (16, 0), "a slot of another one does not help");
    assert_eq!(rig.lane.status().backlogged, 1);
    rig.answer(A);
    assert_eq!(taken(&mut rig), (1, 0));
    rig.answer(A);
    assert_eq!(rig.done.get(&flush), Some(&Outcome::Ok));
}

#[test]
fn a_controller_that_may_not_flush_for_the_moment_is_asked_again_and_not_for_ever() {
    let mut rig = own_caches();
    let flush = rig.submit(Op::Flush, 0, 0);
    for refused in 0.. {
        let seq = question(&mut rig);
        plan(&mut rig, seq, &[A], &[]);
        assert_eq!(taken(&mut rig).0, 1, "{refused}");
        rig.answer_with(A, Status::ANA_INACCESSIBLE);
        if refused == usize::from(crate::MAX_SAME_PATH_RETRIES) {
            break;
        }
        assert_eq!(rig.done.get(&flush), None);
        paths(&mut rig, &[A, B]);
        rig.now += Duration::from_secs(1);
        rig.lane.handle_timeout(rig.now);
        rig.outputs();
    }
    assert_eq!(rig.done.get(&flush), Some(&Outcome::Failed(Status::ANA_INACCESSIBLE)));
}

#[test]
fn control_is_not_asked_again_at_once_if_what_it_says_does_not_fit() {
    for wakes in [false, true] {
        let mut rig = own_caches();
        let flush = rig.submit(Op::Flush, 0, 0);
        let seq = question(&mut rig);
        // The connection is lost, and control says for a minute that its controller is to be asked.
        rig.drop_connection(A);
        rig.hear();
        for _ in 0..60 {
            plan(&mut rig, seq, &[A, B], &[]);
            assert!(rig.hear().is_empty(), "the same question has the same answer");
            if wakes {
                paths(&mut rig, &[A, B]);
            } else {
                rig.elapse(Duration::from_millis(999));
                assert!(rig.hear().is_empty());
                rig.elapse(Duration::from_millis(1));
            }
            assert_eq!(question(&mut rig), seq);
        }
        plan(&mut rig, seq, &[B], &[]);
        rig.answer(B);
        assert_eq!(rig.done.get(&flush), Some(&Outcome::Ok));
    }
}
