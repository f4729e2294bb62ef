//! Two machines, two clocks: that of the target may be slower or faster than that of the host, which is the one by which
//! the world tells its time.

use crate::world::World;
use interlock_base::Instant;

const MILLION: i128 = 1_000_000;

/// What a clock that is slower by `ppm` millionths shows at this moment of the world.
fn shown(at: Instant, ppm: i32) -> Instant {
    let nanos = i128::from(at.as_nanos()) * (MILLION - i128::from(ppm)) / MILLION;
    Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The first moment of the world at which such a clock shows this.
fn reached(shows: Instant, ppm: i32) -> Instant {
    let rate = MILLION - i128::from(ppm);
    let nanos = (i128::from(shows.as_nanos()) * MILLION + rate - 1) / rate;
    Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl World {
    /// What the clock of the target shows now.
    pub(crate) fn target_now(&self) -> Instant {
        shown(self.now, self.plan.extras.target_slow_ppm)
    }

    /// What the clock of the target showed at that moment of the world.
    pub(crate) fn target_shows(&self, at: Instant) -> Instant {
        shown(at, self.plan.extras.target_slow_ppm)
    }

    /// When the clock of the target shows this.
    pub(crate) fn when_target_shows(&self, at: Instant) -> Instant {
        reached(at, self.plan.extras.target_slow_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_of_the_target_is_over_at_the_first_moment_at_which_its_clock_says_so() {
        for ppm in [-9_000, -1, 0, 1, 9_000, 84_000] {
            for nanos in [0, 1, 999_999_937, 86_400_000_000_001] {
                let at = Instant::from_nanos(nanos);
                let when = reached(at, ppm);
                assert!(shown(when, ppm) >= at, "{ppm} {nanos}");
                assert!(
                    when.as_nanos() < 2 || shown(Instant::from_nanos(when.as_nanos() - 2), ppm) < at,
                    "{ppm} {nanos}"
                );
            }
        }
    }
}
