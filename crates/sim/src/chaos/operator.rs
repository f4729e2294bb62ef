//! Episodes about who uses the host and about what it stands on: callers that give up, settings that change, names, a disk
//! with records that fails, a lane that panics.

use super::{Act, Chaos};
use crate::draw::{Plan, pick};
use crate::mix::Kind;
use crate::store::BadDisk;
use crate::ways::any_setting;
use interlock_target_core::Fault;
use std::time::Duration;

impl Chaos {
    /// The machine of the target stands still while the host loses a path and holds what was sent on it: what lies in its
    /// sockets, and what stalls inside, must not begin when it goes on.
    fn target_stops(&mut self, port: usize, acts: &mut Vec<(Duration, Act)>) {
        let at = self.ms(0, 40);
        let span = match self.rng.below(4) {
            0 => self.ms(1, 300),
            1 => self.around(self.kato),
            2 => self.around(self.hold),
            _ => self.hold * 3 / 2,
        };
        acts.push((at, Act::StopTarget(span)));
        // What is sent meanwhile lies in its sockets.
        let later = at + self.ms(0, 10);
        acts.push((later, Act::Burst(6)));
        if self.rng.percent(50) {
            let later = at + self.ms(1, 60);
            acts.push((later, Act::RstAdmin { port }));
        }
        let later = at + span + self.ms(0, 20);
        acts.push((later, Act::Script(Fault::Release)));
        acts.push((later, Act::Burst(4)));
    }

    pub(super) fn operator(&mut self, plan: &Plan, port: usize, other: usize) -> Vec<(Duration, Act)> {
        let mut acts = self.ghosts(port);
        match self.rng.below(15) {
            10..=12 if plan.kinds.contains(Kind::TargetStops) => self.target_stops(port, &mut acts),
            0..=3 => {
                // Callers give up before the loss, at it, and while what they wrote is held.
                for (from, more) in [(0, 8), (4, 30), (30, 400)] {
                    let at = self.ms(from, more);
                    acts.push((at, Act::GiveUp(1 + self.rng.below(4))));
                }
            }
            4 | 5 => {
                for _ in 0..2 {
                    let at = self.ms(0, 600);
                    let setting = any_setting(&mut self.rng);
                    acts.push((at, Act::Set { port: *pick(&mut self.rng, &[port, other]), setting }));
                }
                let at = self.ms(2, 300);
                acts.push((at, Act::Rescan(other)));
                let at = self.ms(100, 2000);
                acts.push((at, Act::Reconnect));
            }
            6 => {
                // Somebody switches the array off, knows it, and says so.
                let at = self.ms(20, 400);
                acts.push((at, Act::TargetOff { silent: self.rng.percent(50) }));
                acts.push((at + self.ms(1, 300), Act::AcceptRisk));
                acts.push((at + self.ms(10, 500), Act::TargetOn));
                acts.push((at + self.ms(10, 900), Act::AcceptRisk));
            }
            7 | 8 if plan.kinds.contains(Kind::StoreRefuses) => {
                let disk = if self.rng.percent(60) {
                    BadDisk { refused_permille: *pick(&mut self.rng, &[300, 1000]), slow: Duration::ZERO }
                } else {
                    BadDisk { refused_permille: 0, slow: *pick(&mut self.rng, &[self.kato, self.hold]) }
                };
                acts.push((Duration::ZERO, Act::BadDisk(Some(disk))));
                let lasts = self.ms(100, 2500);
                acts.push((lasts, Act::BadDisk(None)));
                let at = self.ms(10, 60);
                acts.push((at, Act::RstAdmin { port: other }));
                if self.rng.percent(40) {
                    let at = at + self.ms(5, 400);
                    let again = self.ms(1, 40);
                    acts.push((
                        at,
                        Act::Crash { power: self.rng.percent(50), again, linger: Duration::from_millis(20) },
                    ));
                }
            }
            _ => {
                let lane = self.rng.below(u64::from(plan.host_lanes)) as usize;
                let (at, again) = (self.ms(1, 60), self.ms(1, 60));
                acts.push((at, Act::LanePanics { lane, again }));
                acts.push((at + again + self.ms(20, 300), Act::Burst(6)));
            }
        }
        if self.rng.percent(30) {
            let at = self.ms(20, 900);
            acts.push((at, Act::AcceptRisk));
        }
        for _ in 0..3 {
            let at = self.ms(0, 400);
            acts.push((at, Act::Burst(3)));
        }
        acts
    }
}
