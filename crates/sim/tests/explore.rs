//! Small worlds: what fits into a test of the walk through every order of events.

use interlock_sim::{Limits, SmallWorld, explore};
use std::time::Duration;

const LIMITS: Limits = Limits { time: Duration::from_secs(600), states: 150, unreduced: false };

fn world(name: &str) -> SmallWorld {
    SmallWorld::all().into_iter().find(|world| world.name == name).expect("a small world of that name")
}

#[test]
fn the_first_states_of_every_small_world_are_good() {
    for world in SmallWorld::all() {
        let seen = explore(&world, LIMITS, None);
        assert!(seen.found.is_none(), "{}: {:?}", world.name, seen.found);
        assert!(seen.states >= LIMITS.states, "{}: {} states", world.name, seen.states);
    }
}

#[test]
fn retrying_without_a_fence_is_seen_and_told_in_few_steps() {
    let legacy = SmallWorld { fence: interlock_host_core::FencePolicy::Legacy, ..world("one-path") };
    let seen = explore(&legacy, Limits { states: 1_000_000, ..LIMITS }, None);
    let found = seen.found.expect("a write that is retried at once is overtaken by its ghost");
    assert_eq!(found.violation.invariant, "no_stale_write_after_failover");
    assert!(found.steps < 20, "{} steps: {:#?}", found.steps, found.story);
}

#[test]
fn a_walk_is_the_same_every_time() {
    let seen = || {
        let seen = explore(&world("two-paths"), LIMITS, None);
        (seen.states, seen.edges, seen.ends, seen.ends_print, seen.depth)
    };
    assert_eq!(seen(), seen());
}
