//! What goes wrong, and when.
//!
//! A run is a few episodes. Each is a short script around one hazard: commands that stall inside the target while their
//! path dies, bytes that linger in the network, two paths lost at once, a source that dies while it fences. Times are
//! drawn around the moments that matter: the end of the hold, a receipt, an answer.

mod act;
mod episodes;
mod extra;
mod operator;

pub(crate) use self::act::Act;

use crate::checkers::Seen;
use crate::draw::{Plan, pick};
use crate::mix::Kind;
use crate::mutation::Tampering;
use crate::net::{HostState, Link, Owner, Piece, Way};
use crate::world::{Ev, Machine, Phase, Stats, World, note};
use interlock_base::{Instant, Rng};
use interlock_host_core::{CtrlId, EventKind, StateName};
use interlock_target_core::{Fault, PortId, SubsystemId};
use interlock_wire::ana::State as Ana;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) struct Chaos {
    rng: Rng,
    left: u32,
    hold: Duration,
    kato: Duration,
    /// The longest that bytes stay in the network.
    bound: Duration,
    expected: Duration,
    acts: BTreeMap<u64, Act>,
    last: u64,
    kill_sources: bool,
    /// Release held commands around the next receipts and answers.
    eager: bool,
    pub(crate) fake_next_answer: bool,
    /// The next command on an admin connection of this port is the last that its host is heard to say.
    last_words: Option<usize>,
    /// The target is started again when the host opens an I/O queue, or (`true`) has connected one.
    numbers_again: Option<bool>,
    /// When the last act takes place.
    last_at: Instant,
    /// A command for this block of a namespace ends its controller.
    poison: Option<(u32, u64)>,
    /// All blocks of which that was ever true.
    deadly: Vec<(u32, u64)>,
}

impl Chaos {
    pub(crate) fn new(plan: &Plan, rng: Rng) -> Self {
        let hold = plan.hold();
        Self {
            rng,
            left: plan.episodes,
            hold,
            kato: plan.kato_in_force(),
            bound: plan.network_bound(),
            expected: hold * plan.episodes / 2 + Duration::from_secs(1),
            acts: BTreeMap::new(),
            last: 0,
            kill_sources: false,
            eager: false,
            fake_next_answer: false,
            last_words: None,
            numbers_again: None,
            last_at: Instant::ZERO,
            poison: None,
            deadly: Vec::new(),
        }
    }

    /// About how long the faults go on.
    pub(crate) const fn expected(&self) -> Duration {
        self.expected
    }
}

impl World {
    pub(crate) fn plan_act(&mut self, at: Instant, act: Act) {
        self.chaos.last += 1;
        let key = self.chaos.last;
        self.chaos.acts.insert(key, act);
        self.chaos.last_at = self.chaos.last_at.max(at);
        self.at(at, Ev::Chaos(key));
    }

    /// The faults begin.
    pub(crate) fn begin_faults(&mut self) {
        let first = self.chaos.ms(20, 200);
        self.plan_act(self.now + first, Act::Episode);
    }

    /// True if nothing more is to come.
    pub(crate) fn faults_are_over(&self) -> bool {
        self.chaos.left == 0 && self.chaos.last_at <= self.now
    }

    pub(crate) fn disturb(&mut self, port: Option<usize>) {
        match port {
            Some(port) => {
                self.net.paths[port].disturbed = true;
                let ctrls: Vec<CtrlId> = self.controllers_of(port);
                for ctrl in ctrls {
                    self.see(&Seen::Disturbed(Some(ctrl)));
                }
            }
            None => self.see(&Seen::Disturbed(None)),
        }
    }

    /// A target of which nobody declared the contrary says that a controller is disabled before it is.
    fn disable_early(&mut self) {
        let lies = self.tampers(Tampering::DisabledBeforeDrained);
        self.stats.mutated |= u64::from(lies);
        if lies || !self.plan.disable_is_fence {
            self.target.script(Fault::RdyBeforeDrained);
        }
    }

    pub(crate) fn disturb_all(&mut self) {
        for port in 0..self.plan.ports {
            self.disturb(Some(port));
        }
    }

    /// A new process knows nothing of what was done to its paths before it began.
    pub(crate) fn tell_disturbed(&mut self) {
        for port in 0..self.plan.ports {
            if self.net.paths[port].disturbed {
                self.disturb(Some(port));
            }
        }
    }

    pub(crate) fn controllers_of(&self, port: usize) -> Vec<CtrlId> {
        let address = crate::world::address(port).ip().to_string();
        self.control.controllers().filter(|info| info.spec.traddr == address).map(|info| info.id).collect()
    }

    pub(crate) fn strike(&mut self, key: u64) {
        let Some(act) = self.chaos.acts.remove(&key) else { return };
        if self.phase != Phase::Faults && !(self.phase == Phase::Healing && matches!(act, Act::Connect(_))) {
            return;
        }
        if act == Act::Episode {
            if self.chaos.left == 0 {
                return;
            }
            self.chaos.left -= 1;
            let plan = self.plan.clone();
            for (after, act) in self.chaos.episode(&plan) {
                self.plan_act(self.now + after, act);
            }
            let gaps = [Duration::from_millis(15), self.chaos.hold / 3, self.chaos.hold + self.chaos.hold / 3];
            let gap = *pick(&mut self.chaos.rng, &gaps);
            let gap = gap + self.chaos.ms(0, 300);
            self.plan_act(self.now + gap, Act::Episode);
            return;
        }
        // Only who looks at a clock sees that its machine was stopped.
        let forbidden = self.plan.neighbour.is_some_and(|other| other.forbids(&act))
            || self.plan.extras.timers_late && matches!(act, Act::StopTarget(_));
        if self.plan.cut.acts.contains(&key) || self.is_spared(&act) || forbidden {
            return;
        }
        self.struck.push(key);
        self.tell_act(&act);
        note!(self, "chaos: {act:?}");
        if let Some(kind) = act.kind() {
            self.met(kind);
        }
        self.act_of_chaos(act);
        self.drain_target();
        self.drain_host();
        self.see_counters();
    }

    pub(crate) fn see_counters(&mut self) {
        let counters = self.control.counters().clone();
        self.see(&Seen::Counters(&counters));
    }

    fn act_of_chaos(&mut self, act: Act) {
        let count = |stats: &mut Stats| stats.faults += 1;
        match act {
            Act::Episode => {}
            Act::Burst(ios) => self.burst(ios),
            Act::Script(fault) => {
                let port = match fault {
                    Fault::HoldWrites { port }
                    | Fault::Delay { port, .. }
                    | Fault::Drop { port }
                    | Fault::FailIo { port, .. }
                    | Fault::Mute { port }
                    | Fault::ResetConnections { port }
                    | Fault::ClosePort { port } => Some(usize::from(port.0)),
                    _ => None,
                };
                if port.is_some() {
                    self.disturb(port);
                    count(&mut self.stats);
                }
                self.target.script(fault);
                if fault == Fault::Clear {
                    self.script_standing();
                }
            }
            Act::Rst { port, host, target } => {
                self.disturb(Some(port));
                count(&mut self.stats);
                self.reset_links(port, host, target);
            }
            Act::NumbersAgain { joined } => self.chaos.numbers_again = Some(joined),
            Act::RstOther { port } => {
                for link in 0..self.links.len() {
                    let Link { port: of, host, .. } = self.links[link];
                    if of == port && host == HostState::Open && crate::neighbour::is_others(&self.links[link]) {
                        self.give(link, Way::ToHost, Piece::Rst);
                    }
                }
            }
            Act::Flap { port } => {
                self.disturb(Some(port));
                count(&mut self.stats);
                self.reset_links(port, true, true);
            }
            Act::Poison(block) => {
                count(&mut self.stats);
                self.poison(block);
            }
            Act::CrashAgain => {
                self.disturb_all();
                count(&mut self.stats);
                self.crash_target(false);
            }
            Act::RstAdmin { port } => {
                self.disturb(Some(port));
                count(&mut self.stats);
                for link in 0..self.links.len() {
                    let Link { port: of, owner, host, .. } = self.links[link];
                    let spared = self.is_spared_link(link);
                    if of == port && owner == Owner::Control && host == HostState::Open && !spared {
                        self.give(link, Way::ToHost, Piece::Rst);
                    }
                }
            }
            Act::Silence { port, to_target, to_host } => {
                self.disturb(Some(port));
                self.stats.faults += u64::from(to_target || to_host);
                self.silence(port, to_target, to_host);
            }
            Act::Drip { port } => {
                self.disturb(Some(port));
                self.drip(port);
            }
            Act::Limbo { port, extra } => {
                self.disturb(Some(port));
                self.stats.faults += u64::from(!extra.is_zero());
                self.net.paths[port].limbo = extra;
            }
            Act::SlowMedia(slow) => {
                self.stats.faults += u64::from(slow);
                self.media.slow = slow;
            }
            Act::MediaErrors(fail) => {
                self.stats.faults += u64::from(fail);
                self.media.fails = fail;
            }
            Act::Ana { port, group, state } => {
                count(&mut self.stats);
                if state == Ana::Change {
                    self.disturb(Some(port));
                }
                self.target.set_ana(self.subsystem_of(port), group, PortId(port as u16), state);
            }
            Act::Resize { nsid, blocks } => {
                count(&mut self.stats);
                // A size that cannot be is refused, and nothing happens.
                for part in 0..self.plan.division.parts() {
                    let _ = self.target.resize_namespace(SubsystemId(part), nsid, blocks);
                }
            }
            Act::Reset(port) => {
                self.disturb(Some(port));
                count(&mut self.stats);
                self.disable_early();
                for ctrl in self.controllers_of(port) {
                    // One that is gone cannot be reset.
                    let _ = self.control.reset(self.now, ctrl);
                }
            }
            Act::Disconnect(port) => {
                self.disturb(Some(port));
                count(&mut self.stats);
                self.disable_early();
                for ctrl in self.controllers_of(port) {
                    let _ = self.control.disconnect(self.now, ctrl);
                }
            }
            Act::Connect(port) => {
                self.connect(port);
                self.disturb(Some(port));
            }
            Act::Stall { machine, span } => {
                self.disturb(None);
                count(&mut self.stats);
                self.see(&Seen::Delays(span));
                self.stall(machine, self.now + span);
            }
            Act::Mail { us } => {
                self.disturb(None);
                self.see(&Seen::Delays(Duration::from_micros(us)));
                self.host_mail_us = us;
                self.slow_other(us);
            }
            Act::TargetOff { silent } => {
                self.disturb_all();
                count(&mut self.stats);
                self.crash_target(silent);
            }
            Act::TargetOn => self.open_ports(),
            Act::ImpostorOn(lasts) => self.impostor_on(lasts),
            Act::ImpostorOff => self.impostor_off(),
            Act::BringDisk => self.bring_what_is_late(),
            Act::RenameDisks => {
                self.disturb(Some(0));
                count(&mut self.stats);
                self.rename_disks();
            }
            Act::Hang(span) => {
                self.disturb(None);
                count(&mut self.stats);
                self.see(&Seen::Delays(span));
                self.stall(Machine::HostControl, self.now + span);
                for lane in 0..self.lanes.len() {
                    self.stall(Machine::HostLane(lane), self.now + span);
                }
            }
            Act::StopTarget(span) => {
                self.disturb_all();
                count(&mut self.stats);
                self.stop_target(span);
            }
            Act::StepRawClock(span) => self.step_raw_clock(span),
            Act::SuspendHost(span) => {
                self.disturb_all();
                count(&mut self.stats);
                self.suspend_host(span);
            }
            Act::Second => self.second_process(),
            Act::Wake => self.wake_first(),
            Act::BadHour(Some(hour)) => {
                count(&mut self.stats);
                self.peer.begin(hour);
            }
            Act::BadHour(None) => self.peer.end(),
            Act::LastWords { port } => {
                self.disturb(Some(port));
                self.chaos.last_words = Some(port);
            }
            Act::Replace { nsid, how } => self.replace_namespace(nsid, how),
            Act::LoseOwnership => {
                count(&mut self.stats);
                self.disturb(None);
                self.lose_ownership();
            }
            Act::ClearFlushErrors => self.clear_flush_errors(),
            Act::BadDisk(disk) => self.bad_disk = disk,
            Act::LanePanics { lane, again } => {
                self.disturb(None);
                count(&mut self.stats);
                self.panic_lane(lane, again);
            }
            Act::GiveUp(count) => self.give_some_up(count),
            Act::Set { port, setting } => {
                self.disturb(Some(port));
                self.change_setting(port, setting);
            }
            Act::Rescan(port) => {
                for ctrl in self.controllers_of(port) {
                    // One that is gone has nothing to look at.
                    let _ = self.control.rescan(self.now, ctrl);
                }
            }
            Act::Reconnect => self.reconnect_all(),
            Act::AcceptRisk => self.accept_risks(),
            Act::KillSources(kill) => self.chaos.kill_sources = kill,
            Act::Crash { power, again, linger } => {
                count(&mut self.stats);
                self.crash(power, again, linger);
            }
        }
    }

    /// What a target of this kind does all the time.
    pub(crate) fn script_standing(&mut self) {
        if self.plan.extras.keeps_entries {
            self.target.script(Fault::CcrKeepEntries);
        }
        self.script_poison();
    }

    /// From now on a command for this block ends its controller; `None`: none does.
    fn poison(&mut self, block: Option<(u32, u64)>) {
        self.chaos.poison = block;
        self.chaos.deadly.extend(block);
        if block.is_none() {
            for port in (0..self.plan.ports).map(|port| PortId(port as u16)) {
                // A namespace that is not there.
                self.target.script(Fault::CrashOn { port, nsid: u32::MAX, lba: 0 });
            }
        }
        self.script_poison();
    }

    fn script_poison(&mut self) {
        let Some((nsid, lba)) = self.chaos.poison else { return };
        // Also of controllers that are connected later.
        self.disturb(None);
        for port in (0..self.plan.ports).map(|port| PortId(port as u16)) {
            self.target.script(Fault::CrashOn { port, nsid, lba });
        }
    }

    /// True while commands for some block end their controllers.
    pub(crate) const fn is_poisoned(&self) -> bool {
        self.chaos.poison.is_some()
    }

    /// True if a command for these blocks ever ended its controller.
    pub(crate) fn was_deadly(&self, nsid: u32, blocks: &std::ops::Range<u64>) -> bool {
        self.chaos.deadly.iter().any(|(of, lba)| *of == nsid && blocks.contains(lba))
    }

    /// A lane of the host is told to open an I/O queue; or one of them has `joined` its controller.
    pub(crate) fn opens_queue(&mut self, joined: bool) {
        if self.chaos.numbers_again != Some(joined) || self.phase != Phase::Faults {
            return;
        }
        self.chaos.numbers_again = None;
        let soon = self.now + Duration::from_micros(1);
        self.plan_act(soon, Act::TargetOff { silent: true });
        self.plan_act(soon, Act::TargetOn);
        for port in 0..self.plan.ports {
            self.plan_act(soon, Act::RstOther { port });
        }
    }

    /// A command left on an admin connection of this port.
    pub(crate) fn last_words(&mut self, port: usize) {
        if self.chaos.last_words == Some(port) && self.phase == Phase::Faults {
            self.chaos.last_words = None;
            let soon = Duration::from_micros(self.chaos.rng.below(50));
            self.plan_act(self.now + soon, Act::Rst { port, host: true, target: false });
            // Nor does the target hear that nobody is there.
            let heard = soon + Duration::from_micros(self.plan.delay_us.0 + self.plan.delay_us.1 + 1);
            self.plan_act(self.now + heard, Act::Silence { port, to_target: false, to_host: true });
        }
    }

    fn reset_links(&mut self, port: usize, host: bool, target: bool) {
        for link in 0..self.links.len() {
            if self.links[link].port != port || self.is_spared_link(link) {
                continue;
            }
            if target {
                // At any byte: what was behind it is gone.
                let pipe = &mut self.links[link].to_target;
                let keep = self.net.rng.below(pipe.segments.len() as u64 + 1) as usize;
                pipe.segments.truncate(keep);
                if let Some(segment) = pipe.segments.back_mut()
                    && let Piece::Bytes(bytes) = &mut segment.piece
                {
                    let cut = self.net.rng.below(bytes.len() as u64 + 1) as usize;
                    bytes.truncate(cut);
                }
                self.give(link, Way::ToTarget, Piece::Rst);
            }
            if host && self.links[link].host == HostState::Open {
                let pipe = &mut self.links[link].to_host;
                let keep = self.net.rng.below(pipe.segments.len() as u64 + 1) as usize;
                pipe.segments.truncate(keep);
                self.give(link, Way::ToHost, Piece::Rst);
            }
        }
    }

    pub(crate) fn silence(&mut self, port: usize, to_target: bool, to_host: bool) {
        let silent = to_target || to_host;
        // What its peer had said meanwhile comes through: the silence that must be noticed begins again.
        let heard = self.net.paths[port].silent_to_host && !to_host;
        for ctrl in self.controllers_of(port) {
            if heard {
                self.see(&Seen::Silent { ctrl, silent: false });
            }
            self.see(&Seen::Silent { ctrl, silent });
        }
        self.net.paths[port].silent_to_target = to_target;
        self.net.paths[port].silent_to_host = to_host;
        for link in 0..self.links.len() {
            if self.links[link].port != port {
                continue;
            }
            if to_target && self.links[link].aborted {
                self.links[link].to_target.segments.retain(|segment| segment.past);
            }
            for way in [Way::ToTarget, Way::ToHost] {
                if !self.net.paths[port].silent(way) {
                    // Retransmission takes a moment.
                    let delay = self.net.delay();
                    let now = self.now;
                    let pipe = self.pipe(link, way);
                    for segment in &mut pipe.segments {
                        segment.at = segment.at.max(now + delay);
                    }
                    pipe.armed = None;
                    self.arm_pipe(link, way);
                }
            }
        }
    }

    fn drip(&mut self, port: usize) {
        if !self.net.paths[port].silent_to_target {
            return;
        }
        let mut heard = false;
        for link in 0..self.links.len() {
            if self.links[link].port != port || self.is_spared_link(link) {
                continue;
            }
            let at = self.now + self.net.delay();
            let pipe = &mut self.links[link].to_target;
            if let Some(first) = pipe.segments.front_mut().filter(|first| !first.past) {
                first.past = true;
                first.at = first.at.max(at);
                pipe.armed = None;
                heard |= self.links[link].owner == Owner::Control && !crate::neighbour::is_others(&self.links[link]);
                self.arm_pipe(link, Way::ToTarget);
            }
        }
        if heard {
            // The silence that must be noticed begins again: a Keep Alive may have come through in time.
            for ctrl in self.controllers_of(port) {
                self.see(&Seen::Silent { ctrl, silent: false });
                self.see(&Seen::Silent { ctrl, silent: true });
            }
        }
    }

    /// Control said something: chaos may answer.
    pub(crate) fn chaos_heard(&mut self, event: &EventKind) {
        if self.phase != Phase::Faults {
            return;
        }
        match event {
            EventKind::CcrSent { source, .. } if self.chaos.kill_sources => {
                let address = self.control.controllers().find(|info| info.id == *source).and_then(|info| info.addr);
                let port = (0..self.plan.ports).find(|port| Some(crate::world::address(*port)) == address);
                if let Some(port) = port
                    && self.chaos.rng.percent(60)
                {
                    self.met(Kind::SourceDies);
                    let soon = Duration::from_micros(self.chaos.rng.below(4000));
                    for (after, act) in self.chaos.death(port) {
                        self.plan_act(self.now + soon + after, act);
                    }
                }
            }
            EventKind::CcrAnswered { .. } => self.heal_answers(),
            EventKind::Fenced(_) => {
                self.heal_answers();
                self.burst(2);
                if self.chaos.eager {
                    let soon = self.chaos.ms(0, 15);
                    self.plan_act(self.now + soon, Act::Script(Fault::Release));
                }
            }
            _ => {}
        }
    }

    /// Late answers arrive just when their commands are released.
    fn heal_answers(&mut self) {
        for port in 0..self.plan.ports {
            if self.net.paths[port].silent_to_host && self.chaos.rng.percent(40) {
                let soon = Duration::from_micros(self.chaos.rng.below(8000));
                self.plan_act(self.now + soon, Act::Silence { port, to_target: false, to_host: false });
            }
        }
    }

    /// A command that was in doubt was answered.
    pub(crate) fn chaos_answered(&mut self) {
        if self.chaos.eager && self.chaos.rng.percent(30) {
            let soon = self.chaos.ms(0, 5);
            self.plan_act(self.now + soon, Act::Script(Fault::Release));
        }
    }

    /// Everything is mended.
    pub(crate) fn heal(&mut self) {
        note!(self, "chaos: everything is healed");
        self.chaos.left = 0;
        self.peer.end();
        self.restore_ownership();
        self.panics = None;
        self.bad_disk = None;
        self.restart();
        self.end_what_time_does_not();
        self.resume_those(|_| true);
        self.media.slow = false;
        self.media.fails = false;
        self.media.loses = false;
        self.clear_flush_errors();
        self.host_mail_us = self.plan.mail_us;
        self.slow_other(self.plan.mail_us);
        self.target.script(Fault::Clear);
        self.end_claims();
        self.bring_what_is_late();
        self.open_ports();
        if !self.plan.extras.poison_stays {
            self.chaos.poison = None;
        }
        self.chaos.poison = self.chaos.poison.filter(|(nsid, _)| *nsid != 0);
        self.script_poison();
        for port in 0..self.plan.ports {
            self.net.paths[port].limbo = Duration::ZERO;
            self.target.script(Fault::Delay { port: PortId(port as u16), ms: 0 });
            self.target.script(Fault::OpenPort { port: PortId(port as u16) });
            for group in 1..=self.plan.ana_groups() {
                self.target.set_ana(self.subsystem_of(port), group, PortId(port as u16), Ana::Optimized);
            }
            self.disturb(Some(port));
            self.silence(port, false, false);
            self.connect(port);
            // What is still being removed keeps its name until it is fenced: the operator asks again.
            for seconds in [1, 10, 30] {
                if self.is_removing(port) {
                    self.plan_act(self.now + Duration::from_secs(seconds), Act::Connect(port));
                }
            }
        }
        self.drain_target();
        self.drain_host();
    }

    /// True if a controller of this port is being removed.
    fn is_removing(&self, port: usize) -> bool {
        let of = self.controllers_of(port);
        self.control.controllers().any(|info| info.state.name() == StateName::Deleting && of.contains(&info.id))
    }
}
