//! Three clocks: that of the target, and the two of the host. The world tells its time by the host's `CLOCK_MONOTONIC`,
//! which a time daemon may make faster; the target's may be slower or faster than that, and so may the host's raw one.
//!
//! While the machine of the host is suspended both of its clocks stand still, and the target's goes on.

use crate::chaos::Act;
use crate::mix::Kind;
use crate::world::{Machine, World, note};
use interlock_base::Instant;
use std::time::Duration;

const MILLION: i128 = 1_000_000;

/// From one moment of the world on.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: Instant,
    shows: Instant,
}

/// A clock that runs at one rate, and that may be set ahead.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// How many nanoseconds it goes in a million of the world's.
    rate: i128,
    /// In order of time. The first begins with the world.
    pieces: Vec<Piece>,
}

impl Clock {
    /// One that goes `millionths` for a million of the world's.
    pub(crate) fn new(millionths: i128) -> Self {
        Self { rate: millionths, pieces: vec![Piece { from: Instant::ZERO, shows: Instant::ZERO }] }
    }

    /// What it shows at this moment of the world.
    pub(crate) fn shown(&self, at: Instant) -> Instant {
        let piece = self.pieces.iter().rev().find(|piece| piece.from <= at).unwrap_or(&self.pieces[0]);
        let since = i128::from(at.as_nanos()) - i128::from(piece.from.as_nanos());
        nanos(i128::from(piece.shows.as_nanos()) + since * self.rate / MILLION)
    }

    /// The first moment of the world at which it shows this.
    pub(crate) fn reached(&self, shows: Instant) -> Instant {
        // What it has jumped over is reached where it jumped.
        let after = self.pieces.iter().position(|piece| piece.shows > shows).unwrap_or(self.pieces.len());
        let Some(piece) = self.pieces[..after].last() else { return Instant::ZERO };
        let ahead = i128::from(shows.as_nanos()) - i128::from(piece.shows.as_nanos());
        let at = nanos(i128::from(piece.from.as_nanos()) + (ahead * MILLION + self.rate - 1) / self.rate);
        self.pieces.get(after).map_or(at, |next| at.min(next.from))
    }

    /// It is so much further from this moment on.
    fn set_ahead(&mut self, now: Instant, span: Duration) {
        let shows = self.shown(now) + span;
        self.pieces.push(Piece { from: now, shows });
    }
}

fn nanos(nanos: i128) -> Instant {
    Instant::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
}

/// Those that are not the world's own.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    target: Clock,
    /// `CLOCK_MONOTONIC_RAW` of the host.
    raw: Clock,
}

impl Clocks {
    /// `target_slow` and `raw_fast`: by how many millionths they are slower or faster than they should be; `fast`: the same
    /// of the clock by which the world tells its time.
    pub(crate) fn new(target_slow: i32, fast: i32, raw_fast: i32) -> Self {
        let by_world = |rate: i128| rate * MILLION / (MILLION + i128::from(fast));
        Self {
            target: Clock::new(by_world(MILLION - i128::from(target_slow))),
            raw: Clock::new(by_world(MILLION + i128::from(raw_fast))),
        }
    }
}

impl World {
    /// What the clock of the target shows now.
    pub(crate) fn target_now(&self) -> Instant {
        self.clocks.target.shown(self.now)
    }

    /// What the clock of the target showed at that moment of the world.
    pub(crate) fn target_shows(&self, at: Instant) -> Instant {
        self.clocks.target.shown(at)
    }

    /// When the clock of the target shows this.
    pub(crate) fn when_target_shows(&self, at: Instant) -> Instant {
        self.clocks.target.reached(at)
    }

    /// When a timer of the target fires that is set to this.
    pub(crate) fn when_target_fires(&self, at: Instant) -> Instant {
        self.when_target_shows(at) + self.plan.timer_late()
    }

    /// What the clock of the host shows that nobody sets.
    pub(crate) fn raw_now(&self) -> Instant {
        self.clocks.raw.shown(self.now)
    }

    /// The raw clock of the host is wrong at once: a virtual machine was moved to another machine.
    pub(crate) fn step_raw_clock(&mut self, span: Duration) {
        note!(self, "host: its raw clock goes ahead by {span:?}");
        self.clocks.raw.set_ahead(self.now, span);
    }

    /// The machine of the host was suspended for so long, and goes on: neither of its clocks has noticed.
    pub(crate) fn suspend_host(&mut self, span: Duration) {
        note!(self, "host: its machine was suspended for {span:?}");
        self.clocks.target.set_ahead(self.now, span);
        self.arm(Machine::TargetControl);
        for lane in 0..self.target_lanes.len() {
            self.arm(Machine::TargetLane(lane));
        }
    }

    /// A hold begins: how its clocks differ is met.
    pub(crate) fn met_clocks(&mut self) {
        if self.plan.extras.target_slow_ppm != 0 {
            self.met(Kind::ClocksDiffer);
        }
        if self.plan.extras.fast_ppm != 0 || self.plan.extras.raw_fast_ppm != 0 {
            self.met(Kind::HostClocksDiffer);
        }
    }
}

/// Acts on the clocks of the host, beside those of a loss whose hold takes so long.
pub(crate) fn acts(rng: &mut interlock_base::Rng, hold: Duration, kato: Duration, suspends: bool) -> (Duration, Act) {
    let at = hold * rng.below(1000) as u32 / 1000;
    if suspends {
        let spans = [Duration::from_millis(30), kato / 2, kato * 2, hold * 2];
        return (at / 2, Act::SuspendHost(*crate::draw::pick(rng, &spans)));
    }
    (at, Act::StepRawClock(*crate::draw::pick(rng, &[hold / 8, hold / 2, hold * 2])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_deadline_is_over_at_the_first_moment_at_which_the_clock_says_so() {
        for ppm in [-9_000, -1, 0, 1, 9_000, 84_000] {
            let mut clock = Clock::new(MILLION - ppm);
            clock.set_ahead(at(999_999_990), Duration::from_nanos(500));
            for nanos in [0, 1, 999_999_937, 1_000_000_200, 86_400_000_000_001] {
                let when = clock.reached(at(nanos));
                assert!(clock.shown(when) >= at(nanos), "{ppm} {nanos}");
                assert!(when.as_nanos() < 2 || clock.shown(at(when.as_nanos() - 2)) < at(nanos), "{ppm} {nanos}");
            }
        }
    }

    #[test]
    fn a_clock_that_was_made_faster_leaves_the_others_behind() {
        let clocks = Clocks::new(83_000, 83_000, 0);
        let (raw, target) = (clocks.raw.shown(at(1_083_000_000)), clocks.target.shown(at(1_083_000_000)));
        assert!(raw.as_nanos().abs_diff(1_000_000_000) < 2_000, "{raw}");
        assert!(target.as_nanos().abs_diff(917_000_000) < 2_000, "{target}");
    }

    #[test]
    fn what_a_clock_jumped_over_is_reached_where_it_jumped() {
        let mut clock = Clock::new(MILLION);
        clock.set_ahead(at(100), Duration::from_nanos(50));
        assert_eq!(clock.shown(at(99)), at(99));
        assert_eq!(clock.shown(at(100)), at(150));
        assert_eq!(clock.reached(at(120)), at(100));
        assert_eq!(clock.reached(at(150)), at(100));
        assert_eq!(clock.reached(at(160)), at(110));
    }
}
