//! What a lane hands over, and when the others are told.

use super::world::*;
use crate::*;
use alloc::vec::Vec;

#[test]
fn every_lane_has_the_guard_before_it_hears_that_a_write_was_handed_over() {
    let mut world = World::new(2, &[1]);
    let a = world.connect(World::spec(1));
    let life = world.life(a);
    let abandoned = LedgerEntry { abandoned: true, ..world.write(life, 1, 9) };
    let key = abandoned.key;
    // All of one turn of the lane: what it says of numbers is one message.
    for message in [ToControl::Abandoned(abandoned), ToControl::HandedOver(1), ToControl::HandedOver(2)] {
        world.control.handle_lane(world.now, LaneId(1), message);
    }
    world.run();
    for lane in 0..2 {
        let guard = |m: &ToLane| matches!(m, ToLane::Guard { entries, .. } if entries.iter().any(|e| e.key == key));
        let guarded = world.heard(lane, guard).expect("guarded");
        let told = |m: &ToLane| matches!(m, ToLane::HandedOver { .. });
        let handed = world.heard(lane, told).expect("told");
        assert!(guarded < handed);
        let all: Vec<_> = world.lanes[lane].heard.iter().filter(|m| told(m)).collect();
        assert_eq!(all, [&ToLane::HandedOver { lane: LaneId(1), number: 2 }]);
    }
}
