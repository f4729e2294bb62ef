//! Machines that take nothing in for a while: a reactor that hangs, a process that is frozen.
//!
//! What happens to such a machine meanwhile waits, in its order, until it goes on: when its time is over, when everything is
//! healed, or when its process has died.

use crate::mix::Kind;
use crate::world::{Ev, Machine, Phase, World};
use interlock_base::Instant;
use std::time::Duration;

/// One machine that hangs.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    until: Instant,
    held: Vec<Ev>,
}

impl World {
    /// Nothing reaches the machine before `until`; a stall that it is in already ends then, too.
    pub(crate) fn stall(&mut self, machine: Machine, until: Instant) {
        match self.stalled.get_mut(&machine) {
            Some(stall) => stall.until = until,
            None => self.stalled.insert(machine, Stall { until, held: Vec::new() }),
        }
        self.at(until, Ev::Resume(machine));
    }

    /// The whole machine of the target stands still for so long.
    pub(crate) fn stop_target(&mut self, span: Duration) {
        let (now, until) = (self.now, self.now + span);
        let since = self.target_stopped.filter(|(_, until)| *until > now).map_or(now, |(since, _)| since);
        self.target_stopped = Some((since, until));
        self.stall(Machine::TargetControl, until);
        for lane in 0..self.target_lanes.len() {
            self.stall(Machine::TargetLane(lane), until);
        }
    }

    /// The target has read what came in while it stood still.
    pub(crate) fn looked(&mut self) {
        self.target_looked.retain(|_| false);
        self.met(Kind::TargetStops);
    }

    /// When a lane of the target last looked at its sockets, by its own clock.
    pub(crate) fn target_looked(&self, lane: usize) -> Instant {
        self.target_looked.get(&lane).map_or_else(|| self.target_now(), |at| self.target_shows(*at))
    }

    /// Keeps an event of a machine that hangs, and gives back any other.
    pub(crate) fn hold_back(&mut self, event: Ev) -> Option<Ev> {
        let Some(machine) = self.machine(&event) else { return Some(event) };
        let Some(stall) = self.stalled.get_mut(&machine) else { return Some(event) };
        stall.held.push(event);
        None
    }

    /// The time of a stall is over, unless it was made longer.
    pub(crate) fn resume(&mut self, machine: Machine) {
        if self.stalled.get(&machine).is_some_and(|stall| stall.until <= self.now) {
            self.resume_those(|stalled| *stalled == machine);
        }
    }

    /// These machines go on at once with all that they have missed.
    pub(crate) fn resume_those(&mut self, which: impl Fn(&Machine) -> bool) {
        let mut missed = Vec::new();
        let mut held: Vec<Ev> =
            self.stalled.iter().filter(|(of, _)| which(of)).flat_map(|(_, stall)| stall.held.clone()).collect();
        for (of, _) in self.stalled.iter().filter(|(of, _)| which(of)) {
            if let Machine::TargetLane(lane) = of
                && self.target_stopped.is_some_and(|(_, until)| until <= self.now || self.phase != Phase::Faults)
            {
                missed.push(*lane);
            }
        }
        self.stalled.retain(|of| !which(of));
        // What came in while the target stood still is read before its timers are looked at, and nobody can say when it came.
        if let (false, Some((since, _))) = (missed.is_empty(), self.target_stopped) {
            held.sort_by_key(|event| !matches!(event, Ev::Deliver(..)));
            for lane in missed {
                self.target_looked.insert(lane, since);
            }
            self.after(Duration::from_nanos(1), Ev::Looked);
        }
        for event in held {
            if let Ev::Deliver(link, way) = event {
                self.pipe(link, way).armed = Some(self.now);
            }
            self.at(self.now, event);
        }
    }
}
