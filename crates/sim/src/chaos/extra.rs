//! Episodes of the worlds with extras.

use super::{Act, Chaos};
use crate::disks::Replaced;
use crate::draw::{Plan, pick};
use crate::long_log::GROUPS;
use crate::parts::Division;
use interlock_base::Rng;
use interlock_target_core::{Fault, PortId};
use interlock_wire::ana::State as Ana;
use interlock_wire::status::Status;
use std::time::Duration;

impl Chaos {
    /// The episode of an extra, if this world has one and it is its turn.
    pub(super) fn extra_episode(&mut self, plan: &Plan, port: usize) -> Option<Vec<(Duration, Act)>> {
        let turn = |chaos: &mut Self, percent| chaos.rng.percent(percent);
        if plan.extras.brink && turn(self, 50) {
            let mut acts = self.brink(port);
            if plan.extras.raw_steps {
                acts.push(crate::clocks::acts(&mut self.rng, self.hold, self.kato, false));
            }
            return Some(acts);
        }
        if (plan.extras.raw_steps || plan.extras.suspends) && turn(self, 50) {
            let mut acts = self.ghosts(port);
            let suspends = plan.extras.suspends;
            acts.push(crate::clocks::acts(&mut self.rng, self.hold, self.kato, suspends));
            return Some(acts);
        }
        match plan.division {
            Division::Impostor { .. } if turn(self, 60) => return Some(self.impostor()),
            Division::Renames if turn(self, 60) => return Some(self.renames(port)),
            Division::Moved { late: true } if turn(self, 60) => return Some(self.late_disk(port - port % 2)),
            Division::Moved { .. } if turn(self, 40) => return Some(self.deaths(plan, port - port % 2)),
            Division::Claims { .. } if turn(self, 50) => return Some(self.claims(plan)),
            _ => {}
        }
        let often = if joins_between(plan) { 80 } else { 35 };
        if plan.neighbour.is_some_and(|other| other.same && !other.spared) && turn(self, often) {
            return Some(self.numbers_again(plan));
        }
        if plan.extras.keeps_entries && turn(self, 40) {
            return Some(self.failing_resets(port));
        }
        if plan.extras.ownership && turn(self, 30) {
            return Some(self.ownership_lost(port));
        }
        if plan.extras.replaces && turn(self, 45) {
            let how = *pick(&mut self.rng, &[Replaced::Anew, Replaced::Anew, Replaced::AnewWithLargeBlocks]);
            return Some(self.replaced(plan, port, how));
        }
        if plan.extras.formats && turn(self, 45) {
            return Some(self.replaced(plan, port, Replaced::Formatted));
        }
        if plan.extras.long_log.is_some() && turn(self, 45) {
            return Some(self.changes_of_the_log(plan, port));
        }
        if plan.extras.poison && turn(self, 50) {
            return Some(self.poisoned(plan));
        }
        if plan.extras.flaps && turn(self, 50) {
            return Some(self.flapping(port));
        }
        if plan.extras.crash_loops && turn(self, 50) {
            return Some(self.crash_loop());
        }
        None
    }

    /// Groups at both ends of the log change, each a moment after the other, as long as a few commands take.
    fn changes_of_the_log(&mut self, plan: &Plan, port: usize) -> Vec<(Duration, Act)> {
        let mut acts = if self.rng.percent(60) { self.ghosts(port) } else { Vec::new() };
        let other = (port + 1) % plan.ports;
        let port = if acts.is_empty() { port } else { other };
        let mut at = self.ms(0, 60);
        acts.push((Duration::ZERO, Act::Burst(4)));
        let groups = [1, plan.ana_group(2), 2, GROUPS, GROUPS - 1];
        for _ in 0..16 {
            let group = *pick(&mut self.rng, &groups);
            let state =
                *pick(&mut self.rng, &[Ana::NonOptimized, Ana::NonOptimized, Ana::Inaccessible, Ana::Optimized]);
            acts.push((at, Act::Ana { port, group, state }));
            at += Duration::from_micros(self.rng.below(plan.delay_us.1 * 3 + plan.mail_us));
        }
        for group in groups {
            acts.push((at + self.ms(1, 300), Act::Ana { port, group, state: Ana::Optimized }));
        }
        acts
    }

    /// Controllers die of every command for one block.
    fn poisoned(&mut self, plan: &Plan) -> Vec<(Duration, Act)> {
        let nsid = 1 + self.rng.below(plan.namespaces as u64) as u32;
        // The load comes back to the first blocks more often than to others.
        let among = if self.rng.percent(50) { 2 } else { plan.blocks };
        let lba = self.rng.below(among);
        let lasts = *pick(&mut self.rng, &[Duration::from_secs(1), self.hold + Duration::from_secs(4)]);
        let mut acts = vec![(Duration::ZERO, Act::Poison(Some((nsid, lba)))), (Duration::ZERO, Act::Burst(6))];
        for _ in 0..6 {
            let at = self.ms(0, 1 + lasts.as_millis() as u64);
            acts.push((at, Act::Burst(3)));
        }
        // Commands vanish meanwhile, also those that show that an instance serves without the suspect.
        let own = &mut Rng::new(plan.seed ^ 0x51a1_5eed_0005_0009);
        for _ in 0..if own.percent(40) { 6 } else { 0 } {
            let at = Duration::from_micros(own.below(lasts.as_micros() as u64));
            acts.extend((0..plan.ports).map(|port| (at, Act::Script(Fault::Drop { port: PortId(port as u16) }))));
            acts.push((at + Duration::from_millis(5 + own.below(60)), Act::Script(Fault::Clear)));
        }
        if !plan.extras.poison_stays {
            acts.push((lasts, Act::Poison(None)));
        } else {
            acts.push((lasts, Act::Burst(1)));
        }
        acts
    }

    /// A switch resets one path again and again, in the middle of commands.
    fn flapping(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let every = *pick(&mut self.rng, &[15, 60, 400, 1_100]);
        let mut acts = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..12 {
            acts.push((at, Act::Burst(4)));
            at += self.ms(1, every);
            acts.push((at, Act::Flap { port }));
        }
        acts
    }

    /// The target dies again and again, soon after it has come back.
    fn crash_loop(&mut self) -> Vec<(Duration, Act)> {
        if self.rng.percent(40) {
            // It comes back, and dies of whatever it is asked.
            let lasts = self.ms(300, 4_000);
            let mut acts = vec![(Duration::ZERO, Act::Burst(6)), (lasts, Act::Poison(None))];
            for at in [Duration::ZERO, lasts / 2, lasts * 3 / 4] {
                acts.push((at, Act::Poison(Some((0, 0)))));
                acts.push((at, Act::Burst(4)));
            }
            return acts;
        }
        let every = *pick(&mut self.rng, &[40, 300, 1_200]);
        let mut acts = Vec::new();
        let mut at = Duration::ZERO;
        for _ in 0..8 {
            acts.push((at, Act::Burst(4)));
            at += self.ms(5, every);
            acts.push((at, Act::CrashAgain));
            at += self.ms(1, 30);
            acts.push((at, Act::TargetOn));
        }
        acts
    }

    /// The last Keep Alive is as long under way as anything may be, and what it lets execute stalls to the end. The one
    /// before it is late as well: just not so late that the host gives the path up, and the last one comes just before
    /// the target does.
    fn brink(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let zero = Duration::ZERO;
        let late = self.kato * (488 + self.rng.below(10) as u32) / 1000;
        let last = self.bound * (990 + self.rng.below(10) as u32) / 1000;
        // A Keep Alive is sent every half of KATO: one of them is late, and the next is the last.
        let turns = self.kato * 52 / 100;
        let dies = self.kato * 105 / 100;
        let over = dies + self.hold;
        vec![
            (zero, Act::Script(Fault::CcrRefuse(Status::INVALID_FIELD))),
            (zero, Act::Limbo { port, extra: late }),
            (turns, Act::Limbo { port, extra: last }),
            (turns, Act::LastWords { port }),
            (turns / 4, Act::Script(Fault::HoldWrites { port: id })),
            (turns / 4 + self.ms(0, 20), Act::Burst(6)),
            (turns / 2 + self.ms(0, 20), Act::Burst(6)),
            (dies, Act::Limbo { port, extra: zero }),
            (dies, Act::Script(Fault::StopHolding { port: id })),
            (over + self.ms(200, 50), Act::Silence { port, to_target: false, to_host: false }),
            (over + self.ms(200, 50), Act::Script(Fault::Release)),
            (over + self.ms(200, 50), Act::Script(Fault::Clear)),
        ]
    }

    /// A path is lost with writes held, and as soon as it is there again a second target of the same name comes up.
    fn impostor(&mut self) -> Vec<(Duration, Act)> {
        let mut acts = self.ghosts(0);
        if self.rng.percent(60) {
            acts.push((Duration::ZERO, Act::Script(Fault::CcrRefuse(Status::INVALID_FIELD))));
            acts.push((self.hold * 5 / 4, Act::Script(Fault::Clear)));
        }
        for eighth in 1..10 {
            let at = self.hold * eighth / 8 + self.ms(0, 60);
            acts.push((at, Act::ImpostorOn(self.ms(50, 400))));
            acts.push((at + self.ms(0, 60), Act::Burst(4)));
            acts.push((at + self.ms(60, 200), Act::Burst(3)));
        }
        acts
    }

    /// A disk comes, is written to, and the process of the host dies soon, its last writes held. Its successor reaches the disk
    /// in another way.
    fn late_disk(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let dies = self.ms(30, 120);
        let again = self.ms(1, 40);
        let mut acts = vec![
            (Duration::ZERO, Act::BringDisk),
            (self.ms(0, 20), Act::Script(Fault::HoldWrites { port: id })),
            // The target does not hear of that death: it carries out what it holds as long as it hopes for the host.
            (dies, Act::Silence { port, to_target: true, to_host: false }),
            (dies, Act::Crash { power: self.rng.percent(50), again, linger: Duration::ZERO }),
            (dies, Act::Script(Fault::StopHolding { port: id })),
            (dies + self.kato * 2, Act::Silence { port, to_target: false, to_host: false }),
        ];
        for at in 0..16 {
            acts.push((Duration::from_millis(8 * at), Act::Burst(4)));
            let at = dies + again + self.ms(0, 1500);
            acts.push((at, Act::Burst(4)));
        }
        for _ in 0..3 {
            let at = dies + again + self.ms(100, 1200);
            acts.push((at, Act::Script(Fault::Release)));
        }
        acts
    }

    /// A disk is given another name while writes to it are under way; then its path is lost.
    fn renames(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let mut acts = self.ghosts(port);
        let at = self.ms(0, 30);
        acts.push((at, Act::RenameDisks));
        for _ in 0..6 {
            let later = at + self.ms(0, 200);
            acts.push((later, Act::Burst(4)));
        }
        acts
    }

    /// Every path to one of two targets is lost with writes held; the other one goes on.
    fn claims(&mut self, plan: &Plan) -> Vec<(Duration, Act)> {
        let part = self.rng.below(2) as usize;
        let mut acts = Vec::new();
        let lasts = *pick(&mut self.rng, &[self.kato, self.hold * 9 / 10, self.hold * 3 / 2]);
        for port in (0..plan.ports).filter(|port| port % 2 == part) {
            acts.extend(self.ghosts(port));
            let dies = self.ms(26, 20);
            acts.push((dies, Act::Script(Fault::ClosePort { port: PortId(port as u16) })));
            acts.push((dies + lasts, Act::Script(Fault::OpenPort { port: PortId(port as u16) })));
        }
        for _ in 0..6 {
            let at = self.ms(40, 900);
            acts.push((at, Act::Burst(4)));
        }
        acts
    }

    /// The target is started again while the first host opens its I/O queues, or between two of them, and the second host is there
    /// first: it has a number that the first one still names.
    fn numbers_again(&mut self, plan: &Plan) -> Vec<(Duration, Act)> {
        let joined = joins_between(plan);
        let slow = *pick(&mut self.rng, if joined { &[120_000, 200_000, 300_000] } else { &[20_000, 60_000, 120_000] });
        let mut acts = vec![
            (Duration::ZERO, Act::Mail { us: slow }),
            (Duration::ZERO, Act::TargetOff { silent: false }),
            (Duration::from_millis(1), Act::TargetOn),
        ];
        acts.push((Duration::from_millis(1), Act::NumbersAgain { joined }));
        for _ in 0..6 {
            let at = self.ms(0, 4 * slow / 1000);
            acts.push((at, Act::Burst(3)));
        }
        let round = Duration::from_micros(6 * slow);
        if !joined {
            acts.push((round, Act::Mail { us: plan.mail_us }));
            return acts;
        }
        // Whose number is whose is chance, and so is whether one of its queues joins before and another one after.
        let every = round + plan.reconnect;
        for number in 1..6 {
            let at = every * number;
            acts.push((at, Act::TargetOff { silent: false }));
            acts.push((at + Duration::from_millis(1), Act::TargetOn));
            acts.push((at + Duration::from_millis(1), Act::NumbersAgain { joined }));
            for _ in 0..12 {
                let after = plan.reconnect + self.ms(0, 4 * slow / 1000);
                acts.push((at + after, Act::Burst(3)));
            }
        }
        acts.push((every * 6, Act::Mail { us: plan.mail_us }));
        acts
    }

    /// Resets succeed at first, and their entries stay; then one of the same name fails.
    fn failing_resets(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let mut acts = Vec::new();
        let mut at = Duration::ZERO;
        for round in 0..4 {
            acts.extend(self.ghosts(port).into_iter().map(|(after, act)| (at + after, act)));
            at += self.hold / 4 + self.ms(0, 200);
            if round == 1 {
                acts.push((at, Act::Script(Fault::CcrFail)));
            }
        }
        acts.push((at + self.hold, Act::Script(Fault::Clear)));
        acts
    }

    /// Every path goes, with writes held, and behind one NSID there is another disk when they come back.
    fn replaced(&mut self, plan: &Plan, port: usize, how: Replaced) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let nsid = 1 + self.rng.below(plan.namespaces as u64) as u32;
        let zero = Duration::ZERO;
        let dies = self.ms(3, 30);
        let again = dies + *pick(&mut self.rng, &[Duration::from_millis(60), self.kato / 2, self.hold]);
        let mut acts = vec![(zero, Act::Burst(6)), (self.ms(0, 2), Act::Script(Fault::HoldWrites { port: id }))];
        for _ in 0..3 {
            let at = self.ms(0, 12);
            acts.push((at, Act::Burst(4)));
        }
        if self.rng.percent(30) {
            acts.push((dies, Act::TargetOff { silent: self.rng.percent(40) }));
            acts.push((again, Act::TargetOn));
        } else {
            for port in (0..plan.ports).map(|port| PortId(port as u16)) {
                let late = self.ms(0, 10);
                acts.push((dies + late, Act::Script(Fault::ClosePort { port })));
                let late = self.ms(0, 10);
                acts.push((again + late, Act::Script(Fault::OpenPort { port })));
            }
        }
        acts.push((dies + self.ms(11, 5), Act::Replace { nsid, how }));
        for _ in 0..4 {
            let at = self.ms(0, 600);
            acts.push((again + at, Act::Burst(4)));
        }
        acts.push((again, Act::Script(Fault::StopHolding { port: id })));
        acts.push((again + self.ms(0, 800), Act::Script(Fault::Release)));
        acts
    }

    /// Somebody takes the state directory away shortly before a path is lost.
    fn ownership_lost(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let at = self.ms(0, 20);
        let mut acts = vec![(at / 2, Act::LoseOwnership)];
        acts.extend(self.ghosts(port).into_iter().map(|(after, act)| (at + after, act)));
        for _ in 0..3 {
            let later = self.ms(0, 800);
            acts.push((at + later, Act::Burst(4)));
        }
        acts
    }
}

/// In worlds with two hosts of one identity: the target is started again between two I/O queues of the first one, and not before all.
const fn joins_between(plan: &Plan) -> bool {
    Rng::new(plan.seed ^ 0x51a1_5eed_0004_0003).percent(60)
}
