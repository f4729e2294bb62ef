//! Machines that take nothing in for a while: a reactor that hangs, a process that is frozen.
//!
//! What happens to such a machine meanwhile waits, in its order, until it goes on: when its time is over, when everything is
//! healed, or when its process has died.

use crate::world::{Ev, Machine, World};
use interlock_base::Instant;

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
        let held: Vec<Ev> =
            self.stalled.iter().filter(|(of, _)| which(of)).flat_map(|(_, stall)| stall.held.clone()).collect();
        self.stalled.retain(|of| !which(of));
        for event in held {
            if let Ev::Deliver(link, way) = event {
                self.pipe(link, way).armed = Some(self.now);
            }
            self.at(self.now, event);
        }
    }
}
