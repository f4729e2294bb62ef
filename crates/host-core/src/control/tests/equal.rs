//! Equal histories make equal machines, and whatever differs shows: the exhaustive explorer prunes by it.

use super::world::*;
use crate::*;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Connect, lose a path with a write in doubt, fence it, reconnect: the fingerprint after every step.
fn history(seed: u64) -> Vec<u64> {
    let mut world = World::with_seed(seed, 2, &[1, 2]);
    let mut seen = vec![world.control.fingerprint()];
    let a = world.connect(World::spec(1));
    seen.push(world.control.fingerprint());
    world.connect(World::spec(2));
    seen.push(world.control.fingerprint());
    world.advance(1_500 * MS);
    let life = world.life(a);
    world.lanes[1].keeps_guard_seen = true;
    world.lose(life, vec![world.write(life, 0, 1)]);
    seen.push(world.control.fingerprint());
    world.say(1, ToControl::GuardSeen(9));
    seen.push(world.control.fingerprint());
    world.advance(3_000 * MS);
    seen.push(world.control.fingerprint());
    seen
}

#[test]
fn equal_histories_have_equal_fingerprints_and_every_step_has_its_own() {
    let first = history(1);
    assert_eq!(first, history(1));
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), first.len(), "a step left no trace: {first:x?}");
}

#[test]
fn what_differs_shows_at_once() {
    // Nothing was drawn yet, but what will be drawn differs.
    assert_ne!(history(1)[0], history(2)[0]);
    let (world, a, _) = World::two_paths(1);
    let same = world.control.clone();
    assert_eq!(same.fingerprint(), world.control.fingerprint());
    // An output that waits to be carried is state.
    let mut asked = world.control.clone();
    asked.reset(world.now, a).expect("live");
    let before = asked.fingerprint();
    assert_ne!(before, same.fingerprint());
    assert!(asked.poll_output().is_some());
    assert_ne!(asked.fingerprint(), before);
}
