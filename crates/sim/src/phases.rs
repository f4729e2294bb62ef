//! Safety first, then liveness: faults and load, then everything is healed and must come to an end.

use crate::checkers::Seen;
use crate::net::HostState;
use crate::world::{Ev, Phase, World, note};
use interlock_base::Instant;
use interlock_host_core::poison;
use interlock_target_core::LaneWhy;
use std::time::Duration;

/// How often it is looked whether a phase is over.
const LOOK: Duration = Duration::from_millis(25);

/// After everything was healed, messages within the host have arrived after this.
const SETTLED: Duration = Duration::from_millis(500);

impl World {
    /// After everything was healed, so long is enough for every accepted request: what was lost is noticed, held for as
    /// long as time alone needs, connected again; and once more, because a loss may be noticed late; and commands that
    /// vanished are given up at the hard limit. A controller is looked at once a minute, and a fifth later at most: by that a
    /// list of namespaces that lacked one is noticed, and without Keep Alive a target that was switched off.
    fn liveness_bound(&self) -> Duration {
        let plan = &self.plan;
        (plan.kato_in_force() + plan.hold() + plan.reconnect * 2 + plan.late_grace) * 2
            + plan.io_timeout * 9
            + Duration::from_secs(14 + 72)
            + self.suspects_bound()
    }

    /// Commands that instances were lost with: each may end three instances beside others and two alone, with their fences
    /// one after the other, and its turns may come as late as they ever do.
    fn suspects_bound(&self) -> Duration {
        let plan = &self.plan;
        let deadly = if self.is_poisoned() { self.app.open.len() as u32 } else { 0 };
        let fence = plan.kato_in_force() + plan.hold() + plan.reconnect * 2 + poison::LIVED * 2;
        let turns = poison::PAUSE_MAX * 2 + plan.kato_in_force() * 4;
        fence * 5 * deadly + if self.control.suspects().next().is_some() { turns } else { Duration::ZERO }
    }

    pub(crate) fn next_phase(&mut self) {
        let late = self.now > self.phase_until;
        let next = match self.phase {
            Phase::Starting => (self.is_ready() || late).then_some(Phase::Faults),
            Phase::Faults => self.faults_are_over().then_some(Phase::Healing),
            Phase::Healing => {
                self.attend();
                let over = self.app.open.is_empty()
                    && self.app.indeterminate.is_empty()
                    && self.is_whole()
                    && self.is_ready()
                    && self.disks_are_there()
                    && self.other_is_whole()
                    && self.nothing_is_outstanding();
                if late && !over {
                    return self.not_live();
                }
                over.then_some(Phase::Ghosts)
            }
            // Lanes have heard of every path by then.
            Phase::Ghosts => {
                let settled = self.now >= self.phase_began + SETTLED;
                (settled && (self.is_still() || late)).then_some(Phase::ReadBack)
            }
            Phase::ReadBack => {
                self.reconnect_what_asks();
                let over = self.app.open.is_empty() && self.other_is_idle();
                if late && !over {
                    return self.not_live();
                }
                over.then_some(Phase::Ending)
            }
            Phase::Ending => {
                let ended = self.control.has_ended() && self.other_has_ended();
                if late && !ended {
                    let waits: Vec<_> = self.control.waits().map(|wait| wait.why.to_string()).collect();
                    return self.violate(
                        "every_wait_has_a_deadline",
                        format!("the host does not end; it waits for {waits:?}{}", self.others_waits()),
                    );
                }
                ended.then_some(Phase::Over)
            }
            Phase::Over => None,
        };
        if let Some(next) = next {
            note!(self, "phase: {next:?}");
            self.phase = next;
            self.phase_began = self.now;
            let bound = self.liveness_bound();
            self.phase_until = self.now + bound;
            match next {
                Phase::Faults => self.begin_faults(),
                Phase::Healing => self.heal(),
                Phase::Ghosts => {
                    self.target.script(interlock_target_core::Fault::Clear);
                    self.phase_until = self.now + bound * 2;
                    self.drain_target();
                }
                Phase::ReadBack => {
                    self.read_back();
                    self.others_read_back();
                }
                Phase::Ending => {
                    self.control.shutdown(self.now);
                    self.drain_host();
                    self.end_other();
                }
                Phase::Starting | Phase::Over => {}
            }
            self.see_counters();
        }
        self.see(&Seen::Tick);
        self.subsystems_apart();
        self.hosts_apart();
        if self.phase != Phase::Over {
            self.after(LOOK, Ev::Phase);
        }
    }

    /// Every port serves again.
    pub(crate) fn is_whole(&self) -> bool {
        let live = self
            .control
            .controllers()
            .filter(|info| matches!(info.state, interlock_host_core::State::Live { .. }))
            .count();
        live >= (0..self.plan.controllers).filter(|of| self.is_wanted(of % self.plan.ports)).count()
    }

    /// Nor do lanes wait for the answer to any command that nobody asked for.
    fn nothing_is_outstanding(&self) -> bool {
        self.lanes.iter().all(|lane| lane.lane.status().lives.iter().all(|life| life.in_flight == 0))
    }

    /// Every disk has every controller as a path. A list that lacked it twice, or identifiers that were misread, just before
    /// everything was healed, take paths away until the host looks again.
    fn disks_are_there(&self) -> bool {
        let there = |(part, head)| {
            let wanted = self.controllers_of_part(part);
            self.control.heads().any(|info| info.id == head && info.paths.len() >= wanted)
        };
        self.app.mounted_heads(|part| self.is_lasting(part)).all(there)
    }

    /// Nothing that was sent earlier can arrive or execute any more.
    fn is_still(&self) -> bool {
        let leftover = |link: &crate::net::Link| link.host == HostState::Gone && !link.to_target.segments.is_empty();
        self.media.is_idle()
            && !self.links.iter().any(leftover)
            && !self.target_lanes.iter().any(|lane| lane.lane.waits().any(|wait| matches!(wait.why, LaneWhy::Delay(_))))
    }

    fn not_live(&mut self) {
        let waits: Vec<String> = self.control.waits().map(|wait| format!("{} until {}", wait.why, wait.at)).collect();
        let open: Vec<String> = self
            .app
            .open
            .iter()
            .filter_map(|id| self.app.asked.get(id).map(|asked| format!("#{id:x} {:?}", asked.op.kind)))
            .collect();
        let states: Vec<String> =
            self.control.controllers().map(|info| format!("{} {:?}", info.id, info.state)).collect();
        let lanes: Vec<_> = self.lanes.iter().map(|lane| lane.lane.status()).collect();
        let idle = self.control.next_deadline().is_none_or(|deadline| deadline.at == Instant::ZERO);
        let name = if idle { "every_wait_has_a_deadline" } else { "everything_ends_after_healing" };
        self.violate(
            name,
            format!(
                "not over {:?} after everything was healed: open {open:?}, indeterminate {}, {states:?}, waits {waits:?}, {lanes:?}{}",
                self.liveness_bound(),
                self.app.indeterminate.len(),
                self.others_waits()
            ),
        );
    }
}
