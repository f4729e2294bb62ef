//! Commands that instances were lost with ([`poison`](crate::poison)): a machine for each subsystem, and who carries out what
//! it decides.

use super::waits::Why;
use super::{Control, Mode, State};
use crate::poison::{Cause, Decision, Report, SuspectCommand, Suspects, Way};
use crate::{CtrlId, EventKind, GuardKey, LaneId, LifeId, OnLoss, PathTable, ToLane};
use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;
use interlock_base::Instant;
use interlock_wire::nqn::Nqn;

/// By subsystem.
#[derive(Clone, Debug, Hash)]
pub(super) struct AllSuspects {
    lanes: u16,
    machines: BTreeMap<Nqn, Suspects>,
    /// Which lane has a command that another one forwarded. The name of a command says which lane accepted it. Lanes are not
    /// heard in order, but each forwards to one with a lower number: the lowest that has spoken of it has it.
    homes: BTreeMap<GuardKey, LaneId>,
    /// Those to which something has happened.
    touched: BTreeSet<Nqn>,
    /// Those that have suspects.
    busy: BTreeSet<Nqn>,
}

impl AllSuspects {
    pub(super) fn new(lanes: u16) -> Self {
        Self {
            lanes,
            machines: BTreeMap::new(),
            homes: BTreeMap::new(),
            touched: BTreeSet::new(),
            busy: BTreeSet::new(),
        }
    }

    fn of(&mut self, subnqn: &Nqn) -> &mut Suspects {
        if !self.touched.contains(subnqn) {
            self.touched.insert(subnqn.clone());
        }
        let lanes = self.lanes;
        self.machines.entry(subnqn.clone()).or_insert_with(|| Suspects::new(lanes))
    }

    pub(super) fn live(&mut self, now: Instant, subnqn: &Nqn, life: LifeId, ctrl: CtrlId, kato: Duration) {
        self.of(subnqn).live(now, life, ctrl, kato);
    }

    pub(super) fn not_live(&mut self, now: Instant, subnqn: &Nqn, life: LifeId) {
        self.of(subnqn).not_live(now, life);
    }

    pub(super) fn lost(&mut self, now: Instant, subnqn: &Nqn, life: LifeId, ctrl: CtrlId, cause: Cause) {
        self.of(subnqn).lost(now, life, ctrl, cause);
    }

    pub(super) fn over(&mut self, now: Instant, subnqn: &Nqn, life: LifeId) {
        self.of(subnqn).over(now, life);
    }

    pub(super) fn given_up(&mut self, now: Instant, subnqn: &Nqn, life: LifeId) {
        self.of(subnqn).given_up(now, life);
    }

    /// The lane has spoken of the command.
    fn note_home(&mut self, key: GuardKey, lane: LaneId) {
        if lane.0 != key.lane {
            let home = self.homes.entry(key).or_insert(lane);
            *home = lane.min(*home);
        }
    }

    /// The lane that has the command.
    fn home(&self, key: GuardKey) -> LaneId {
        self.homes.get(&key).copied().unwrap_or(LaneId(key.lane))
    }

    /// The machines that know of the command, of whichever subsystem it is.
    fn with(&mut self, key: GuardKey, mut tell: impl FnMut(&mut Suspects)) {
        for (subnqn, machine) in self.machines.iter_mut().filter(|(_, machine)| machine.carries(key)) {
            tell(machine);
            self.touched.insert(subnqn.clone());
        }
    }

    /// The suspect that this life carries alone.
    pub(super) fn alone_on(&self, subnqn: &Nqn, life: LifeId) -> Option<SuspectCommand> {
        self.machines.get(subnqn)?.alone_on(life)
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.busy.iter().filter_map(|subnqn| self.machines.get(subnqn)?.next_deadline(now)).min()
    }

    /// The next decision, of any subsystem.
    fn poll(&mut self, now: Instant, paths: &PathTable) -> Option<Decision> {
        while let Some(subnqn) = self.touched.first() {
            let Some(machine) = self.machines.get_mut(subnqn) else {
                self.touched.pop_first();
                continue;
            };
            let ways = |key: GuardKey, head| {
                let lane = self.homes.get(&key).map_or(key.lane, |lane| lane.0);
                let head = paths.heads.get(&head);
                let usable = head.into_iter().flat_map(|head| &head.paths).filter(|path| path.ana.is_usable());
                usable.map(|path| Way { life: path.life, nsid: path.nsid, own_queue: lane < path.queues }).collect()
            };
            if let Some(decision) = machine.poll(now, ways) {
                return Some(decision);
            }
            let is_idle = machine.is_idle();
            if machine.is_busy() {
                self.busy.insert(subnqn.clone());
            } else {
                self.busy.remove(subnqn);
            }
            if let Some(subnqn) = self.touched.pop_first().filter(|_| is_idle) {
                self.machines.remove(&subnqn);
            }
        }
        None
    }
}

impl Control {
    /// The commands that instances were lost with, and that wait to be tried alone.
    pub fn suspects(&self) -> impl Iterator<Item = SuspectCommand> + '_ {
        self.suspects.busy.iter().filter_map(|subnqn| self.suspects.machines.get(subnqn)).flat_map(Suspects::suspects)
    }

    /// What a lane says of them.
    pub(super) fn handle_suspects(&mut self, now: Instant, lane: LaneId, report: &Report) {
        match report {
            Report::Carried { life, commands } => {
                let Some(of) = self.lives.get(life) else { return };
                commands.iter().for_each(|carried| self.suspects.note_home(carried.command.key, lane));
                self.suspects.of(&of.subnqn).carried(*life, commands);
            }
            Report::Isolated(life) => {
                let Some(of) = self.lives.get(life) else { return };
                self.suspects.of(&of.subnqn).isolated(lane, *life);
            }
            Report::Witnessed(life) => {
                let Some(of) = self.lives.get(life) else { return };
                self.suspects.of(&of.subnqn).witnessed(*life);
            }
            Report::NotSent(key) => self.suspects.with(*key, |machine| machine.not_sent(now, *key)),
            Report::Here(key) => {
                self.suspects.note_home(*key, lane);
                self.suspects.with(*key, |machine| machine.here(*key));
            }
            Report::Answered(key) | Report::Ended(key) => {
                self.suspects.homes.remove(key);
                self.suspects.with(*key, |machine| machine.ended(now, *key));
            }
        }
    }

    /// Every lane has said what a lost life carried.
    pub(super) fn judge_suspects(&mut self, now: Instant, life_id: LifeId) {
        let Some(life) = self.lives.get(&life_id) else { return };
        let Some(lost) = self.fences.lost(life_id).filter(|lost| lost.served) else { return };
        self.suspects.lost(now, &life.subnqn, life_id, life.ctrl, lost.loss.cause());
    }

    /// Carries out what the machines decide.
    pub(super) fn settle_suspects(&mut self, now: Instant) {
        let AllSuspects { touched, busy, .. } = &mut self.suspects;
        if touched.is_empty() && busy.is_empty() {
            return;
        }
        // Paths may have changed.
        touched.extend(busy.iter().cloned());
        let paths = alloc::sync::Arc::clone(&self.paths);
        while let Some(decision) = self.suspects.poll(now, &paths) {
            match decision {
                Decision::All(order) => self.tell_lanes(&ToLane::Poison(order)),
                Decision::One(key, order) => self.tell_lane(self.suspects.home(key), ToLane::Poison(order)),
                Decision::Tell(command, stage) => self.emit(now, EventKind::Suspect { command, stage }),
                Decision::Forgive(ctrl) => self.forgive(now, ctrl),
            }
        }
        match self.suspects.next_deadline(now).filter(|_| self.mode != Mode::Ended) {
            Some(at) => self.timers.set(Why::Suspects, at),
            None => self.timers.stop(Why::Suspects),
        }
    }

    /// What a controller lost was lost because of a suspect: it does not pause as one that flaps.
    fn forgive(&mut self, now: Instant, ctrl_id: CtrlId) {
        let Some(ctrl) = self.controllers.get_mut(&ctrl_id) else { return };
        ctrl.flap_pause = Duration::ZERO;
        if ctrl.spec.on_loss == OnLoss::Reconnect && ctrl.state == (State::Waiting { attempt: 0 }) {
            self.begin_attempt(now, ctrl_id, 1, "reconnecting: a suspect command explains the losses");
        }
    }
}
