//! How the operator of a world uses the host: names, policies, no keep-alive, a word that ends a doubt; and how his disks do.
//!
//! Each is drawn from a stream of its own, so that what else a seed decides stays as it was.

use crate::draw::pick;
use crate::mix::{Kind, Kinds};
use crate::mutation::Tampering;
use crate::world::{World, note};
use interlock_base::Rng;
use interlock_host_core::{
    ControllerSpec, CtrlId, EventKind, IoPolicy, LifeId, OnLoss, Setting, Unfenced, UnfencedWhy,
};
use interlock_target_core as target;
use std::time::Duration;

/// What an operator decided before the first event.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    pub(crate) iopolicy: IoPolicy,
    pub(crate) on_loss: OnLoss,
    /// KATO 0: the target never misses its host, and only a reset, or somebody's word, ends a doubt.
    pub(crate) no_kato: bool,
    /// Controllers have names that last over processes.
    pub(crate) names: bool,
    /// Of how many jobs of the store in a thousand it is told that they failed.
    pub(crate) refused_permille: u64,
    /// The longest that a job takes on a bad disk.
    pub(crate) slow: Duration,
}

impl Ways {
    pub(crate) fn draw(seed: u64, kinds: Kinds) -> Self {
        let stream = |n: u64| Rng::new(seed ^ (0x51a1_5eed_0002_0000 | n));
        let has = |kind, n, percent| kinds.contains(kind) && stream(n).percent(percent);
        Self {
            iopolicy: if has(Kind::OtherIoPolicy, 1, 30) {
                *pick(&mut stream(2), &[IoPolicy::QueueDepth, IoPolicy::Numa])
            } else {
                IoPolicy::RoundRobin
            },
            on_loss: if has(Kind::NotifyOnly, 3, 8) { OnLoss::Notify } else { OnLoss::Reconnect },
            no_kato: has(Kind::NoKato, 4, 6),
            names: has(Kind::NamesLast, 5, 25),
            refused_permille: if has(Kind::StoreRefuses, 6, 15) { *pick(&mut stream(7), &[20, 100, 300]) } else { 0 },
            slow: if has(Kind::StoreLate, 8, 12) {
                Duration::from_millis(*pick(&mut stream(9), &[100, 600, 2500]))
            } else {
                Duration::ZERO
            },
        }
    }

    pub(crate) fn apply(&self, spec: ControllerSpec) -> ControllerSpec {
        ControllerSpec {
            iopolicy: self.iopolicy,
            on_loss: self.on_loss,
            kato: if self.no_kato { Duration::ZERO } else { spec.kato },
            allow_no_kato: self.no_kato,
            ..spec
        }
    }

    /// What is true of the world as long as it is there.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let all = [
            (Kind::OtherIoPolicy, self.iopolicy != IoPolicy::RoundRobin),
            (Kind::NotifyOnly, self.on_loss == OnLoss::Notify),
            (Kind::NoKato, self.no_kato),
            (Kind::NamesLast, self.names),
        ];
        all.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind)
    }
}

/// A setting that an operator may change at any time. Not the fence policy: without a fence there is no promise.
pub(crate) fn any_setting(rng: &mut Rng) -> Setting {
    let span = |rng: &mut Rng, from: u64, more: u64| Duration::from_millis(from + rng.below(more));
    match rng.below(5) {
        0 => Setting::ReconnectDelay(span(rng, 10, 2000)),
        1 => Setting::CtrlLossTmo(rng.percent(50).then(|| span(rng, 3000, 5000))),
        2 => Setting::FastIoFailTmo(rng.percent(50).then(|| span(rng, 500, 2000))),
        3 => Setting::IoPolicy(*pick(rng, &[IoPolicy::RoundRobin, IoPolicy::QueueDepth, IoPolicy::Numa])),
        _ => Setting::OnLoss(*pick(rng, &[OnLoss::Reconnect, OnLoss::Notify])),
    }
}

impl World {
    /// What is true of the whole world is met when it begins, and again when a write is in doubt.
    pub(crate) fn met_ways(&mut self) {
        let kinds: Vec<Kind> = self.plan.ways.kinds().collect();
        for kind in kinds {
            self.met(kind);
        }
        self.met_division();
        if self.plan.kato_in_force() != self.plan.kato && !self.plan.ways.no_kato {
            self.met(Kind::KatoRounded);
        }
    }

    /// Connects one of the configured controllers, under its name if names last.
    pub(crate) fn connect_controller(&mut self, controller: usize) {
        let spec = self.plan.spec(controller);
        // A controller that is configured already stays as it is.
        let answer = if self.plan.ways.names {
            let id = CtrlId(controller as u32);
            self.control.connect_as(self.now, id, spec).map(|()| id)
        } else {
            self.control.connect(self.now, spec)
        };
        let port = controller % self.plan.ports;
        note!(self, "operator: connect controller {controller} at port {port}: {answer:?}");
    }

    /// Everything that waits to be told so is told to connect.
    pub(crate) fn reconnect_all(&mut self) {
        let all: Vec<CtrlId> = self.control.controllers().map(|info| info.id).collect();
        for ctrl in all {
            // One that is gone is connected by its own verb.
            let _ = self.control.reconnect(self.now, ctrl);
        }
    }

    /// A setting of every controller through a port changes.
    pub(crate) fn change_setting(&mut self, port: usize, setting: Setting) {
        for ctrl in self.controllers_of(port) {
            // What contradicts another setting is refused, and nothing happens.
            let answer = self.control.set(self.now, ctrl, setting);
            note!(self, "operator: {ctrl}: {setting}: {answer:?}");
        }
    }

    /// The operator, who knows that the target has forgotten a life, says so: whoever waits for its fence goes on.
    pub(crate) fn accept_risks(&mut self) {
        let mut lives: Vec<LifeId> = self.control.tombstones().into_iter().map(|tombstone| tombstone.life).collect();
        let division = self.plan.division;
        for (part, nsid) in
            (0..division.parts()).flat_map(|part| (1..).take(self.plan.namespaces).map(move |n| (part, n)))
        {
            let unfenced = self.control.unfenced(&division.nqn(part), nsid).into_iter();
            lives.extend(unfenced.filter(|Unfenced { why, .. }| *why != UnfencedWhy::Alive).map(|of| of.life));
        }
        lives.sort_unstable();
        lives.dedup();
        let lies = self.tampers(Tampering::RiskTakenTooEarly);
        self.stats.mutated |= u64::from(lies && !lives.is_empty());
        lives.retain(|life| lies || self.app.is_over_at_target(*life));
        for life in lives {
            self.met(Kind::RiskAccepted);
            let answer = self.control.fence_accept_risk(self.now, life);
            note!(self, "operator: {life} is over: {answer:?}");
        }
    }

    /// Where time ends nothing, the array is switched off and on, and the operator says so.
    pub(crate) fn end_what_time_does_not(&mut self) {
        if self.plan.ways.no_kato {
            self.crash_target(false);
            self.open_ports();
        }
    }

    /// A path may be lost after everything was healed, too: the host may have been suspended before.
    pub(crate) fn reconnect_what_asks(&mut self) {
        if self.stats.met.ever.contains(Kind::SettingsChange) || self.plan.ways.on_loss == OnLoss::Notify {
            self.reconnect_all();
        }
    }

    /// While everything heals: what an operator has to do from time to time.
    pub(crate) fn attend(&mut self) {
        let set = self.stats.met.ever.contains(Kind::SettingsChange);
        self.reconnect_what_asks();
        if self.plan.ways.no_kato {
            self.accept_risks();
        }
        // Somebody connects what was given up.
        if (set || self.plan.ctrl_loss.is_some() || self.peer.has_bent()) && !self.is_whole() {
            for port in 0..self.plan.ports {
                self.connect(port);
            }
        }
        if !self.other_is_whole() {
            self.connect_other();
        }
        self.drain_host();
    }

    /// What the events of the target say about the lives that it knows.
    pub(crate) fn lives_at_target(&mut self, event: &target::Event) {
        if let target::Event::Fenced { life, .. } = event {
            self.app.over_at_target(Some(*life));
        }
    }

    /// A host that only tells its operator of a loss is answered, sooner or later.
    pub(crate) fn operator_heard(&mut self, event: &EventKind) {
        if self.plan.ways.on_loss == OnLoss::Notify && matches!(event, EventKind::Lost { .. }) {
            let soon = Duration::from_millis(1 + self.mail_rng.below(1500));
            self.plan_act(self.now + soon, crate::chaos::Act::Reconnect);
        }
    }
}
