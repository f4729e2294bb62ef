//! What else a seed decides: each from a stream of its own, so that what the others decide stays as it was.

use super::{Plan, pick};
use crate::clocks::Clocks;
use crate::flushes::Losses;
use crate::long_log::GroupsOnly;
use crate::mix::{Kind, Kinds};
use crate::net::SEND_QUEUE;
use crate::parts::Division;
use interlock_base::Rng;
use interlock_host_core::stall::{DEFAULT_SLEW_PERMILLE, MARGIN};
use std::time::Duration;

/// Ingredients beside the first plan.
#[derive(Clone, Debug)]
pub(crate) struct Extras {
    /// By how many millionths the target's clock is slower than the host's; below 0: faster.
    pub(crate) target_slow_ppm: i32,
    /// By how many millionths the host's `CLOCK_MONOTONIC` is faster than it should be: a time daemon sets it.
    pub(crate) fast_ppm: i32,
    /// ... and its `CLOCK_MONOTONIC_RAW`: a crystal is wrong.
    pub(crate) raw_fast_ppm: i32,
    /// The raw clock may be wrong at once.
    pub(crate) raw_steps: bool,
    /// The machine of the host may be suspended.
    pub(crate) suspends: bool,
    /// The bounds of a fence by time are as tight as an honest target may make them.
    pub(crate) brink: bool,
    /// ... with a target whose clock is as right as its operator says, and whose lives are ended by timers alone, which are late.
    pub(crate) timers_late: bool,
    /// Bytes that the host's kernel takes on an admin connection before it says "would block".
    pub(crate) admin_queue: usize,
    /// What a host asks to be removed from a CCR log stays there, and resets may fail.
    pub(crate) keeps_entries: bool,
    /// Namespaces may be deleted, and others have their NSID.
    pub(crate) replaces: bool,
    /// ... and be formatted with blocks of another size.
    pub(crate) formats: bool,
    /// What becomes of what a flush could not make durable.
    pub(crate) losses: Losses,
    /// The process may lose its state directory to somebody else.
    pub(crate) ownership: bool,
    /// The target may end every controller that is given a command for a certain block.
    pub(crate) poison: bool,
    /// ... and goes on doing so when everything else is healed.
    pub(crate) poison_stays: bool,
    /// A path may be reset again and again.
    pub(crate) flaps: bool,
    /// The target may die again and again.
    pub(crate) crash_loops: bool,
    /// Controllers grant fewer I/O queues than the host has lanes, now and then.
    pub(crate) few_queues: bool,
    /// The ANA log is longer than one command carries; what the target makes of a host that asks for the groups alone.
    pub(crate) long_log: Option<GroupsOnly>,
}

const _: () = assert!(TIMER_LATE.as_millis() * 2 < MARGIN.as_millis(), "an honest target");

/// As far as two clocks may be apart: the fastest a clock is slewed, well inside what a hold allows for it.
const SLOW_PPM: i32 = 83_000;
/// The most by which Linux lets a time daemon make a clock faster (`adjtimex`, ticks of 9 to 11 ms).
const FAST_PPM: i32 = 100_000;
/// As slow as the allowance of a hold covers exactly: only its constant part is left for everything else.
const BRINK_PPM: i32 = 90_900;
/// How late a timer of a target may fire. Two in a row end a life, one for its loss and one for its quiesce time: together they stay
/// inside the constant part of a hold.
const TIMER_LATE: Duration = Duration::from_millis(48);
/// One small command, and some of a second one.
const SMALL: usize = 100;

impl Extras {
    pub(super) fn draw(seed: u64, kinds: Kinds) -> Self {
        let stream = |n: u64| Rng::new(seed ^ (0x51a1_5eed_0001_0000 | n));
        let has = |kind, n, percent| kinds.draw(kind, &mut stream(n), percent);
        let rng = &mut stream(1);
        let target_slow_ppm = match rng.below(4) {
            _ if !kinds.contains(Kind::ClocksDiffer) => 0,
            0 => SLOW_PPM,
            1 => rng.below(2 * SLOW_PPM as u64) as i32 - SLOW_PPM,
            _ => 0,
        };
        let brink = has(Kind::BoundsTight, 2, 10);
        let (fast_ppm, raw_fast_ppm) = match stream(20).below(if brink { 3 } else { 8 }) {
            _ if !kinds.contains(Kind::HostClocksDiffer) => (0, 0),
            0 => (FAST_PPM, 0),
            1 => (0, FAST_PPM),
            _ => (0, 0),
        };
        Self {
            target_slow_ppm,
            fast_ppm,
            raw_fast_ppm,
            // One of the two clocks is right.
            raw_steps: fast_ppm == 0 && has(Kind::RawClockSteps, 21, 12),
            suspends: has(Kind::HostSuspended, 22, 10),
            brink,
            timers_late: brink && has(Kind::TimersLate, 23, 50),
            admin_queue: *pick(&mut stream(3), &[SEND_QUEUE, SEND_QUEUE, SEND_QUEUE, SMALL]),
            keeps_entries: has(Kind::EntriesStay, 4, 8),
            formats: has(Kind::NamespaceFormatted, 7, 12),
            replaces: has(Kind::NamespaceReplaced, 6, 12),
            losses: match has(Kind::FlushLoses, 8, 16) {
                false => Losses::None,
                true if stream(9).percent(50) => Losses::Remembered,
                true => Losses::Forgotten,
            },
            ownership: has(Kind::OwnerReplaced, 5, 10),
            poison: has(Kind::PoisonCommand, 8, 10),
            poison_stays: has(Kind::PoisonCommand, 9, 50),
            flaps: has(Kind::PathFlaps, 10, 8),
            crash_loops: has(Kind::TargetCrashLoops, 11, 8),
            few_queues: has(Kind::QueuesShared, 24, 25),
            long_log: has(Kind::AnaLogChanges, 25, 12).then(|| GroupsOnly::draw(&mut stream(26))),
        }
    }
}

impl Extras {
    /// The clocks of the world.
    pub(crate) fn clocks(&self) -> Clocks {
        Clocks::new(self.target_slow_ppm, self.fast_ppm, self.raw_fast_ppm)
    }
}

impl Plan {
    /// How long a span of the host's slower clock takes by the one of the world.
    pub(crate) fn by_both_clocks(&self, span: Duration) -> Duration {
        let ppm = u32::try_from(self.extras.fast_ppm).unwrap_or(0);
        span + span * ppm / 1_000_000
    }

    /// What the operator says of the target's clock: by how many thousandths its spans may be longer.
    pub(crate) const fn slew_permille(&self) -> u16 {
        if self.extras.timers_late { 0 } else { DEFAULT_SLEW_PERMILLE }
    }

    /// How late the timers of the target fire.
    pub(crate) const fn timer_late(&self) -> Duration {
        if self.extras.timers_late { TIMER_LATE } else { Duration::ZERO }
    }

    /// What the ingredients change in the rest of the plan.
    pub(super) fn with_extras(mut self) -> Self {
        if self.own_caches {
            // What the cache of a controller loses is told in another way.
            self.extras.losses = Losses::None;
        }
        self.division.apply(&mut self);
        self.neighbour = self.neighbour.filter(|_| self.division == Division::None);
        if self.division != Division::None || self.neighbour.is_some() || self.extras.brink {
            self.extras.long_log = None;
        }
        self.ana |= self.extras.long_log.is_some();
        if self.extras.brink {
            self.tbkas = false;
            self.ways.no_kato = false;
            self.mail_us = 1;
            self.media = Duration::from_millis(5);
            self.media_us = 200;
            self.kas = 30;
            self.delay_us = (20, 400);
            if self.extras.timers_late {
                self.extras.target_slow_ppm = 0;
            } else if self.kinds.contains(Kind::ClocksDiffer) {
                self.extras.target_slow_ppm = BRINK_PPM;
            }
            let needs = self.quiesce + self.media + Duration::from_millis(6);
            self.cqt = self.cqt.map(|_| needs);
            self.assumed_cqt = needs;
        }
        if self.extras.keeps_entries {
            // Names come back soon.
            self.ciu_max = 1;
            self.cntlids = self.controllers as u16 + 2;
        }
        if self.delay_us.1 > 2000 {
            self.extras.admin_queue = SEND_QUEUE;
        }
        if let Some(other) = self.neighbour {
            other.apply(&mut self);
        }
        self
    }
}
