//! The scripts: which hazard an episode is about, and when each of its acts takes place.

use super::{Act, Chaos};
use crate::draw::{Plan, pick};
use crate::peer::{Bend, Hour, Subject};
use crate::world::{Machine, SPARE_BLOCKS};
use interlock_target_core::{Fault, PortId};
use interlock_wire::ana::State as Ana;
use interlock_wire::status::Status;
use std::time::Duration;

impl Chaos {
    pub(super) fn ms(&mut self, from: u64, more: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.rng.below(more * 1000 + 1))
    }

    /// Somewhere around `span`: 0.85 to 1.15 times.
    pub(super) fn around(&mut self, span: Duration) -> Duration {
        span * (850 + self.rng.below(301)) as u32 / 1000
    }

    /// From a loss: about when its hold is over, and a little later.
    pub(super) fn near_the_end(&mut self) -> Duration {
        self.hold * (990 + self.rng.below(25) as u32) / 1000 + self.kato * self.rng.below(400) as u32 / 1000
    }

    /// How a path dies, and for how long it stays dead.
    pub(super) fn death(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let spans = [
            Duration::from_millis(3),
            self.kato / 3,
            self.kato + self.kato / 4,
            self.hold * 9 / 10,
            self.hold + self.hold / 4,
        ];
        let span = *pick(&mut self.rng, &spans);
        let zero = Duration::ZERO;
        let heal = (span, Act::Silence { port, to_target: false, to_host: false });
        match self.rng.below(9) {
            0 => vec![(zero, Act::Rst { port, host: true, target: true })],
            1 | 2 => vec![(zero, Act::Rst { port, host: true, target: false })],
            3 => vec![(zero, Act::Script(Fault::ResetConnections { port: id }))],
            4 => vec![(zero, Act::Silence { port, to_target: true, to_host: true }), heal],
            5 => vec![(zero, Act::Silence { port, to_target: false, to_host: true }), heal],
            6 => vec![(zero, Act::Silence { port, to_target: true, to_host: false }), heal],
            7 => {
                // What waits unread in a mute target is in the network: the bound of time-based fences holds for it.
                let span = if span > self.kato && span < self.hold / 2 { self.kato * 9 / 10 } else { span };
                vec![(zero, Act::Script(Fault::Mute { port: id })), (span, Act::Script(Fault::Unmute { port: id }))]
            }
            _ => vec![
                (zero, Act::Script(Fault::ClosePort { port: id })),
                (span, Act::Script(Fault::OpenPort { port: id })),
            ],
        }
    }

    /// Commands stall inside the target, then the path dies under them; they go on at a moment that hurts.
    pub(super) fn ghosts(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let begin = self.ms(0, 3);
        let dies = begin + self.ms(1, 25);
        let mut acts = vec![(Duration::ZERO, Act::Burst(6))];
        if self.rng.percent(25) {
            let ms = self.around(self.hold).as_millis() as u32;
            acts.push((begin, Act::Script(Fault::Delay { port: id, ms })));
            acts.push((dies, Act::Script(Fault::Delay { port: id, ms: 0 })));
        } else {
            acts.push((begin, Act::Script(Fault::HoldWrites { port: id })));
            let stop = dies + self.ms(0, 4);
            acts.push((stop, Act::Script(Fault::StopHolding { port: id })));
            let release = match self.rng.below(4) {
                0 => dies + self.around(self.hold),
                1 => dies + self.around(self.hold + self.kato),
                2 => dies + self.ms(0, 400),
                _ => dies + self.hold * 2,
            };
            acts.push((release, Act::Script(Fault::Release)));
        }
        for _ in 0..3 {
            let at = begin + self.ms(0, 12);
            acts.push((at, Act::Burst(5)));
        }
        let late = self.ms(0, 40);
        acts.push((dies + late, Act::Burst(5)));
        acts.extend(self.death(port).into_iter().map(|(at, act)| (dies + at, act)));
        acts
    }

    /// The process of the host dies: with commands that stall inside the target, with bytes in the network, while it
    /// recovers, and once more while it fences what the one before left.
    pub(super) fn deaths(&mut self, plan: &Plan, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let mut at = self.ms(1, 40);
        let mut linger = *pick(&mut self.rng, &[Duration::ZERO, Duration::from_micros(300), Duration::from_millis(20)]);
        let mut acts = match self.rng.below(5) {
            0 => vec![(Duration::ZERO, Act::Limbo { port, extra: self.kato * 9 / 10 }), (self.ms(0, 2), Act::Burst(8))],
            1 | 2 => {
                // The kernel of a dead process goes on sending what it had queued, if it is late with its resets.
                linger = self.kato * 3;
                let heals = at + self.kato * (1020 + self.rng.below(900) as u32) / 1000;
                let over = at + self.near_the_end();
                let refuse = if self.rng.percent(60) {
                    Act::Script(Fault::CcrRefuse(Status::INVALID_FIELD))
                } else {
                    Act::Burst(1)
                };
                vec![
                    (Duration::ZERO, refuse),
                    (over + self.ms(70, 20), Act::Script(Fault::Clear)),
                    (Duration::ZERO, Act::Silence { port, to_target: true, to_host: self.rng.percent(50) }),
                    (self.ms(0, 2), Act::Burst(8)),
                    (heals / 2, Act::Script(Fault::HoldWrites { port: id })),
                    (heals, Act::Silence { port, to_target: false, to_host: false }),
                    (heals + self.ms(5, 40), Act::Script(Fault::StopHolding { port: id })),
                    (over, Act::Script(Fault::Release)),
                ]
            }
            3 => vec![
                (Duration::ZERO, Act::Script(Fault::HoldWrites { port: id })),
                (self.ms(0, 2), Act::Burst(8)),
                (at, Act::Script(Fault::StopHolding { port: id })),
                (self.around(self.hold), Act::Script(Fault::Release)),
            ],
            _ => self.ghosts(port),
        };
        acts.push((self.ms(0, 5), Act::Burst(6)));
        for _ in 0..1 + self.rng.below(3) / 2 {
            acts.push((at, Act::Limbo { port, extra: Duration::ZERO }));
            let most = *pick(&mut self.rng, &[1, 40, if linger > self.kato { 40 } else { 1500 }]);
            let again = self.ms(1, most);
            acts.push((at, Act::Crash { power: self.rng.percent(30), again, linger }));
            for _ in 0..3 {
                let later = self.ms(0, 300);
                acts.push((at + again + later, Act::Burst(4)));
            }
            at += again + *pick(&mut self.rng, &[Duration::from_millis(3), plan.reconnect, self.hold / 2, self.hold]);
        }
        acts.push((at + self.hold / 3, Act::Script(Fault::Release)));
        acts
    }

    /// A path that is all but dead: now and then one segment gets through. Each begins a new keep-alive window at a target
    /// that counts traffic, so that what stalls there outlives every hold that began before the last socket was quiet.
    pub(super) fn drips(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let dies = self.ms(6, 30);
        let mut acts = vec![
            (Duration::ZERO, Act::Script(Fault::HoldWrites { port: id })),
            (Duration::ZERO, Act::Silence { port, to_target: true, to_host: self.rng.percent(30) }),
        ];
        for _ in 0..6 {
            let at = self.ms(0, 6);
            acts.push((at, Act::Burst(3)));
        }
        if self.rng.percent(75) {
            // Time alone must do.
            acts.push((Duration::ZERO, Act::Script(Fault::CcrRefuse(Status::INVALID_FIELD))));
        }
        if self.rng.percent(50) {
            acts.push((dies, Act::RstAdmin { port }));
        } else {
            let again = self.ms(1, 40);
            acts.push((dies, Act::Crash { power: false, again, linger: self.kato * 4 }));
        }
        for hundredths in [90, 175, 260] {
            let late = self.rng.below(8) as u32;
            acts.push((dies + self.kato * (hundredths - late) / 100, Act::Drip { port }));
        }
        let over = dies + self.hold;
        acts.push((over - self.kato / 10, Act::Script(Fault::StopHolding { port: id })));
        let late = self.ms(5, 200);
        acts.push((over + late, Act::Script(Fault::Release)));
        acts.push((over + late + self.ms(0, 20), Act::Burst(4)));
        let heals = over + self.kato + self.ms(0, 300);
        acts.push((heals, Act::Silence { port, to_target: false, to_host: false }));
        acts.push((heals, Act::Script(Fault::Clear)));
        acts
    }

    /// Commands are answered, and not with success: by a controller that lost its way to the media, is sure or is not. Some
    /// of the answers come late, when their life is lost already.
    pub(super) fn answers(&mut self, plan: &Plan, port: usize) -> Vec<(Duration, Act)> {
        let id = PortId(port as u16);
        let statuses = [
            Status::CONTROLLER_PATH_ERROR,
            Status::INTERNAL_PATH_ERROR,
            Status::INTERNAL_ERROR,
            Status::INTERNAL_ERROR.with_dnr(),
            Status::CONTROLLER_PATH_ERROR.with_dnr(),
            Status::ANA_INACCESSIBLE,
            Status::ANA_TRANSITION,
        ];
        let status = *pick(&mut self.rng, &statuses);
        let span = self.ms(2, 60);
        let mut acts = vec![
            (Duration::ZERO, Act::Script(Fault::FailIo { port: id, status })),
            (Duration::ZERO, Act::Burst(8)),
            (self.ms(0, 4), Act::Burst(4)),
            (span, Act::Script(Fault::FailIo { port: id, status: Status::SUCCESS })),
        ];
        if self.rng.percent(60) {
            // The answers stay under way while the host loses the admin connection.
            let late = self.ms(1, (plan.late_grace.as_millis() as u64).max(2));
            acts.push((Duration::ZERO, Act::Silence { port, to_target: false, to_host: true }));
            acts.push((span, Act::RstAdmin { port }));
            acts.push((span + late, Act::Silence { port, to_target: false, to_host: false }));
        }
        acts
    }

    /// Media that fail now and then, before or after they have changed something; and events that arrive twice.
    pub(super) fn errors(&mut self, port: usize) -> Vec<(Duration, Act)> {
        let mut acts = if self.rng.percent(40) { self.ghosts(port) } else { Vec::new() };
        acts.push((Duration::ZERO, Act::MediaErrors(true)));
        for _ in 0..4 {
            let at = self.ms(0, 60);
            acts.push((at, Act::Burst(4)));
            let at = self.ms(0, 400);
            acts.push((at, Act::Script(Fault::RepeatEvent)));
        }
        acts.push((self.ms(20, 300), Act::MediaErrors(false)));
        acts
    }

    pub(super) fn episode(&mut self, plan: &Plan) -> Vec<(Duration, Act)> {
        let port = self.rng.below(plan.ports as u64) as usize;
        let other = self.rng.below(plan.ports as u64) as usize;
        let id = PortId(port as u16);
        self.eager = self.rng.percent(60);
        if let Some(acts) = self.extra_episode(plan, port) {
            return acts;
        }
        if self.rng.percent(22) {
            return self.operator(plan, port, other);
        }
        match self.rng.below(37) {
            28..=33 => self.bad_hour(plan, port, other),
            0..=2 => self.ghosts(port),
            19 | 21 => self.deaths(plan, port),
            24 | 25 => self.drips(port),
            3 | 26 => self.answers(plan, port),
            27 | 34 => self.errors(port),
            23 => {
                // The process hangs (stopped, or waiting for a disk), and somebody starts another.
                let mut acts = self.ghosts(port);
                let (at, span) = (self.ms(0, 40), self.around(self.hold) / *pick(&mut self.rng, &[1, 2, 20]));
                acts.push((at, Act::Hang(span)));
                acts.push((at + span / 10, Act::Second));
                acts.push((at + span, Act::Wake));
                for _ in 0..4 {
                    let later = self.ms(0, 1 + span.as_millis() as u64);
                    acts.push((at + later, Act::Burst(4)));
                }
                acts
            }
            22 => {
                let mut acts = self.ghosts(port);
                let at = self.ms(0, 40);
                let span = *pick(&mut self.rng, &[Duration::from_millis(2), self.kato / 2, self.kato + self.kato / 2]);
                acts.push((at, Act::TargetOff { silent: self.rng.percent(40) }));
                acts.push((at + span, Act::TargetOn));
                for _ in 0..3 {
                    let later = self.ms(0, 500);
                    acts.push((at + span + later, Act::Burst(4)));
                }
                acts
            }
            16 | 17 | 20 => {
                // What was sent lies in the send queues of a silent path; the host hears of the loss by its admin
                // connection alone. If the path heals before the target has noticed, the bytes begin a new window.
                let dies = self.ms(3, 30);
                let lasts = dies + self.kato * (1020 + self.rng.below(900) as u32) / 1000;
                let mut acts = vec![
                    (Duration::ZERO, Act::Silence { port, to_target: true, to_host: false }),
                    (self.ms(0, 1), Act::Burst(8)),
                    (dies, Act::RstAdmin { port }),
                    (dies + self.ms(0, 20), Act::Burst(3)),
                    (lasts, Act::Silence { port, to_target: false, to_host: false }),
                    (self.hold, Act::Burst(4)),
                ];
                if self.rng.percent(70) {
                    // ... and stall in the target until the hold is about to end.
                    acts.push((dies + self.ms(20, 40), Act::Script(Fault::HoldWrites { port: id })));
                    acts.push((lasts + self.ms(5, 40), Act::Script(Fault::StopHolding { port: id })));
                    let over = self.near_the_end();
                    if self.rng.percent(60) {
                        // Time alone must do.
                        acts.push((Duration::ZERO, Act::Script(Fault::CcrRefuse(Status::INVALID_FIELD))));
                        acts.push((dies + over + self.ms(70, 20), Act::Script(Fault::Clear)));
                    }
                    acts.push((dies + over, Act::Script(Fault::Release)));
                    acts.push((dies + over + self.ms(1, 60), Act::Burst(4)));
                }
                acts
            }
            // An old entry comes up in a log that is read at once, and the page is long under way.
            15 if matches!(plan.reset, crate::draw::Reset::On { .. }) => self.old_page(plan, port),
            18 => {
                // Refused as if somebody else did it, and an entry of an earlier life comes up.
                let mut acts = self.ghosts(port);
                acts.push((Duration::ZERO, Act::Script(Fault::CcrRefuse(Status::CCR_IN_PROGRESS))));
                for _ in 0..if plan.extras.keeps_entries { 0 } else { 4 } {
                    let at = self.ms(5, 60);
                    acts.push((at, Act::Script(Fault::CcrStaleEntry)));
                }
                acts.push((self.hold / 3, Act::Script(Fault::Clear)));
                acts
            }
            4 => {
                let mut acts = self.ghosts(port);
                let apart = self.ms(0, 12);
                acts.extend(self.ghosts(other).into_iter().map(|(at, act)| (apart + at, act)));
                acts
            }
            5 => {
                let mut acts = self.ghosts(port);
                acts.push((Duration::ZERO, Act::KillSources(true)));
                acts.push((self.hold / 2, Act::KillSources(false)));
                acts
            }
            6 => {
                let mut acts = self.ghosts(port);
                acts.extend(self.reset_script(plan));
                acts
            }
            7 | 8 => {
                // Bytes linger in the network; the host sees the path die, the target does not.
                let extra = self.kato * (700 + self.rng.below(300) as u32) / 1000;
                let dies = self.ms(2, 40);
                let mut acts = vec![
                    (Duration::ZERO, Act::Limbo { port, extra }),
                    (self.ms(0, 2), Act::Burst(8)),
                    (dies, Act::Limbo { port, extra: Duration::ZERO }),
                ];
                if self.rng.percent(60) {
                    acts.push((dies, Act::Rst { port, host: true, target: false }));
                } else {
                    acts.extend(self.death(port).into_iter().map(|(at, act)| (dies + at, act)));
                }
                acts.push((dies + self.ms(0, 30), Act::Burst(4)));
                if self.rng.percent(50) {
                    // What arrives late stalls as well, and executes when the hold is about to end.
                    acts.push((Duration::ZERO, Act::Script(Fault::HoldWrites { port: id })));
                    acts.push((dies + self.kato, Act::Script(Fault::StopHolding { port: id })));
                    acts.push((dies + self.around(self.hold), Act::Script(Fault::Release)));
                }
                acts
            }
            9 | 36 => {
                let mut acts = if self.rng.percent(50) { self.ghosts(port) } else { Vec::new() };
                // From before the loss on, or while what is in doubt waits.
                let at = if acts.is_empty() { Duration::ZERO } else { self.ms(0, 200) };
                acts.push((at, Act::SlowMedia(true)));
                acts.push((at, Act::Burst(10)));
                acts.push((at + self.ms(100, 3000), Act::SlowMedia(false)));
                acts
            }
            10 => {
                let states = [Ana::NonOptimized, Ana::Inaccessible, Ana::Change, Ana::Optimized];
                let group = plan.ana_group(1 + self.rng.below(plan.namespaces as u64) as u32);
                let state = *pick(&mut self.rng, &states);
                vec![
                    (Duration::ZERO, Act::Burst(6)),
                    (self.ms(0, 20), Act::Ana { port, group, state }),
                    (self.ms(10, 20), Act::Burst(4)),
                    (self.ms(10, 60), Act::Script(Fault::RepeatEvent)),
                    (self.ms(50, 900), Act::Ana { port, group, state: Ana::Optimized }),
                ]
            }
            11 => {
                let nsid = 1 + self.rng.below(plan.namespaces as u64) as u32;
                let blocks = plan.blocks + self.rng.below(2 * SPARE_BLOCKS);
                vec![(Duration::ZERO, Act::Burst(4)), (self.ms(0, 5), Act::Resize { nsid, blocks: blocks.max(1) })]
            }
            12 => {
                // Asked for by the operator, with commands that do not end in time.
                let mut acts = vec![
                    (Duration::ZERO, Act::Script(Fault::HoldWrites { port: id })),
                    (Duration::ZERO, Act::Burst(8)),
                    (self.ms(1, 20), Act::Burst(4)),
                ];
                let at = self.ms(2, 30);
                let reset = self.rng.percent(60);
                if reset {
                    acts.push((at, Act::Reset(port)));
                }
                if !reset || self.rng.percent(30) {
                    let at = at + if reset { self.ms(0, 30) } else { Duration::ZERO };
                    acts.push((at, Act::Disconnect(port)));
                    if self.rng.percent(50) {
                        acts.push((at + plan.drain - self.ms(0, 20), Act::Mail { us: 300_000 }));
                        acts.push((at + plan.drain * 2 + self.ms(0, 900), Act::Mail { us: plan.mail_us }));
                    }
                    let again = at + plan.drain / 2 + self.ms(0, 3000);
                    acts.push((again, Act::Connect(port)));
                    acts.push((again + self.ms(0, 200), Act::Burst(4)));
                }
                acts.push((at + plan.drain + self.ms(0, 100), Act::Script(Fault::StopHolding { port: id })));
                acts.push((at + self.around(self.hold + plan.drain), Act::Script(Fault::Release)));
                acts
            }
            13 => {
                // A lane of the host hangs, or its mail is slow, while a path dies.
                let lane = self.rng.below(u64::from(plan.host_lanes)) as usize;
                let mut acts = self.ghosts(port);
                let at = self.ms(0, 25);
                if self.rng.percent(60) {
                    // Late, or as good as stopped.
                    let span = if self.rng.percent(15) { self.around(self.hold) } else { self.ms(5, 1200) };
                    acts.push((at, Act::Stall { machine: Machine::HostLane(lane), span }));
                } else {
                    acts.push((at, Act::Mail { us: 400_000 }));
                    acts.push((at + self.ms(100, 1000), Act::Mail { us: plan.mail_us }));
                }
                acts
            }
            14 | 35 => {
                // Commands vanish inside the target: only the I/O timeout tells.
                let span = self.ms(5, 60);
                vec![
                    (Duration::ZERO, Act::Script(Fault::Drop { port: id })),
                    (self.ms(0, 2), Act::Burst(6)),
                    (span, Act::Script(Fault::Clear)),
                    (span + plan.io_timeout + self.ms(0, 100), Act::Burst(4)),
                ]
            }
            _ => {
                let span = self.ms(2, 800);
                let mut acts = self.ghosts(port);
                let at = self.ms(0, 30);
                acts.push((at, Act::Stall { machine: Machine::HostControl, span }));
                acts
            }
        }
    }

    /// A page of the log of resets that was read before a life was lost arrives when its reset has begun and not ended.
    fn old_page(&mut self, plan: &Plan, port: usize) -> Vec<(Duration, Act)> {
        let mut acts = self.ghosts(port);
        let late = Hour { percent: 100, only: Some((Subject::ResetLog, Bend::Late)) };
        acts.push((Duration::ZERO, Act::BadHour(Some(late))));
        acts.push((Duration::ZERO, Act::Script(Fault::SlowDrain { ms: plan.quiesce.as_millis() as u32 + 1 })));
        for _ in 0..2 {
            let at = self.ms(0, 26);
            acts.push((at, Act::Script(Fault::CcrStaleEntry)));
        }
        let over = self.ms(30, 30);
        acts.push((over, Act::BadHour(None)));
        acts.push((over + self.ms(600, 900), Act::Script(Fault::Clear)));
        acts
    }

    /// The peer answers admin commands badly, while paths are lost and set up again, and asked this and that.
    pub(super) fn bad_hour(&mut self, plan: &Plan, port: usize, other: usize) -> Vec<(Duration, Act)> {
        let hour = Hour::draw(&mut self.rng, plan.ana);
        let mut acts = self.ghosts(port);
        let lasts =
            *pick(&mut self.rng, &[Duration::from_millis(40), self.kato, self.hold * 9 / 10, self.hold * 5 / 4]);
        let begins = self.ms(0, 30);
        acts.push((begins, Act::BadHour(Some(hour))));
        acts.push((begins + lasts, Act::BadHour(None)));
        let span = lasts.as_millis() as u64;
        if self.rng.percent(40) {
            let at = begins + self.ms(5, span);
            acts.push((at, Act::RstAdmin { port: other }));
        }
        // What makes a host look: a state, a size, an event.
        let nsid = 1 + self.rng.below(plan.namespaces as u64) as u32;
        let at = begins + self.ms(5, span);
        let drawn = self.rng.below(3);
        let about_ana = hour.only.is_some_and(|(subject, _)| subject == Subject::AnaLog);
        acts.push(match if about_ana { 1 } else { drawn } {
            0 => (at, Act::Resize { nsid, blocks: plan.blocks + self.rng.below(2 * SPARE_BLOCKS) }),
            1 => (at, Act::Ana { port: other, group: plan.ana_group(nsid), state: Ana::NonOptimized }),
            _ => (at, Act::Script(Fault::RepeatEvent)),
        });
        for _ in 0..3 {
            let later = begins + self.ms(0, span);
            acts.push((later, Act::Burst(4)));
        }
        acts
    }

    /// Cross-controller reset goes wrong, for a while.
    pub(super) fn reset_script(&mut self, plan: &Plan) -> Vec<(Duration, Act)> {
        let statuses = [
            Status::CCR_IN_PROGRESS,
            Status::CCR_LOG_FULL,
            Status::CCR_LIMIT_EXCEEDED,
            Status::INVALID_FIELD,
            Status::INTERNAL_ERROR,
            Status::INVALID_FIELD.with_dnr(),
            Status::COMMAND_INTERRUPTED,
        ];
        let hold_ms = self.hold.as_millis() as u64;
        let mut acts = Vec::new();
        for _ in 0..1 + self.rng.below(2) {
            let ms = *pick(&mut self.rng, &[1, 30, 200, hold_ms * 95 / 100, hold_ms * 105 / 100]) as u32;
            let fault = match self.rng.below(7) {
                // A log that keeps everything names what was there before; more would be a lie.
                3 | 4 if plan.extras.keeps_entries => Fault::CcrFail,
                6 => Fault::RepeatEvent,
                0 => Fault::CcrRefuse(*pick(&mut self.rng, &statuses)),
                1 => Fault::CcrLate { ms },
                2 => Fault::CcrLoseEvent,
                3 | 4 => Fault::CcrStaleEntry,
                _ => Fault::SlowDrain { ms: ms.min(plan.quiesce.as_millis() as u32 + 1) },
            };
            let at = self.ms(0, 40);
            acts.push((at, Act::Script(fault)));
        }
        acts
    }
}
