//! Keep alive: what the watches of the controllers find, and what the lanes are told of it.

use super::Control;
use super::controller::{Controller, ControllerKey, Kind, Stage};
use crate::config::{ASSOCIATION_IDLE, DISCOVERY_IDLE};
use crate::message::ToLane;
use crate::watch::{Found, Watch};
use crate::{LaneId, Loss};
use alloc::collections::BTreeSet;
use core::time::Duration;
use interlock_base::Instant;

impl Control {
    /// Begins to watch the host of a controller: it was there at `at`.
    pub(super) fn arm_keep_alive(&mut self, at: Instant, key: ControllerKey) {
        let Some(controller) = self.controllers.get_mut(&key) else { return };
        let over = matches!(controller.stage, Stage::ShuttingDown(_) | Stage::ShutDown);
        let limit = match (controller.kato_ms, controller.kind) {
            // A shutdown ends the keep alive; what is left is to close, or to enable again.
            _ if over => Some(ASSOCIATION_IDLE),
            (0, Kind::Discovery) => Some(DISCOVERY_IDLE),
            (0, Kind::Io(_)) if controller.is_ready() => None,
            (0, Kind::Io(_)) => Some(ASSOCIATION_IDLE),
            (ms, _) => Some(Duration::from_millis(ms.into())),
        };
        let by_traffic = match controller.kind {
            Kind::Discovery => true,
            Kind::Io(subsystem) => self.config.subsystems[usize::from(subsystem.0)].tbkas,
        };
        controller.watch = Watch::new(at, limit, by_traffic);
        self.set_timer(key);
        self.grant(key);
    }

    /// A command of the host came in at `at`.
    pub(super) fn hear(&mut self, key: ControllerKey, at: Instant) {
        let Some(controller) = self.controllers.get_mut(&key) else { return };
        controller.heard = controller.heard.max(at);
        controller.listened = false;
        if controller.watch.hear(at) {
            self.heard(key);
        }
    }

    /// The watch of a controller has found that its host may be silent for longer.
    pub(super) fn heard(&mut self, key: ControllerKey) {
        self.set_timer(key);
        self.grant(key);
    }

    fn set_timer(&mut self, key: ControllerKey) {
        match self.controllers.get(&key).and_then(|controller| controller.watch.due()) {
            Some(due) => self.silence.set(key, due),
            None => self.silence.stop(key),
        }
    }

    /// Until when the life of a controller may begin media operations. None: for ever, its host keeps nothing alive.
    pub(super) fn lease(&self, key: ControllerKey) -> Option<Instant> {
        let controller = self.controllers.get(&key)?;
        let quiesce =
            Duration::from_millis(self.config.subsystems[usize::from(controller.subsystem()?.0)].quiesce_ms.into());
        controller.watch.lease(quiesce)
    }

    /// Tells the lanes that serve a controller until when they may. Said before the host is answered: what the host relies
    /// on from then on lies in the mail of every lane.
    fn grant(&mut self, key: ControllerKey) {
        let Some((life, lanes)) = self.controllers.get(&key).and_then(|c| Some((c.life()?, lanes_of(c)))) else {
            return;
        };
        let until = self.lease(key);
        for lane in lanes {
            self.to(lane, ToLane::Lease { life, until });
        }
    }

    /// The keep-alive timer expired. With traffic-based keep alive it is a check once per timeout: if anything was
    /// heard since the last one the host is there, and the lanes are to report the next command. Everything that was heard by `at`
    /// is known.
    pub(super) fn check_keep_alive(&mut self, now: Instant, at: Instant, key: ControllerKey) {
        let Some(controller) = self.controllers.get_mut(&key) else { return };
        match controller.watch.check(at) {
            Found::Early => self.set_timer(key),
            Found::Silent => self.lose(now, key, Loss::KeepAlive),
            Found::Heard => {
                let (since, life) = (controller.watch.since(), controller.life());
                // Whoever looks late may find the next interval over as well: its timer is due at once.
                self.set_timer(key);
                if let Some(life) = life {
                    self.broadcast(&ToLane::Listen { life, since });
                }
            }
        }
    }

    /// A message of the host came in at `at`, and none before it is unread. False if it had been silent for too long by then: it is
    /// lost.
    pub(super) fn is_heard_in_time(&mut self, now: Instant, at: Instant, key: ControllerKey) -> bool {
        // Each time around another interval is over in which it was heard.
        while self.silence.at(key).is_some_and(|due| due <= at) {
            self.check_keep_alive(now, at, key);
        }
        self.controllers.contains_key(&key)
    }
}

fn lanes_of(controller: &Controller) -> BTreeSet<LaneId> {
    controller.queues.values().map(|(lane, _)| *lane).collect()
}
