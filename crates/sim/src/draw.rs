//! Everything that a seed decides before the first event.
//!
//! All options are drawn first and can be printed first, so that a failure says in which world it happened.

mod extras;

pub(crate) use self::extras::Extras;

use crate::minimise::Cut;
use crate::mix::Kinds;
use crate::mutation::{Mutation, Tampering};
use crate::neighbour::Neighbour;
use crate::parts::Division;
use crate::ways::Ways;
use interlock_base::Rng;
use interlock_host_core::stall::{HoldTerms, MARGIN};
use interlock_host_core::{ControllerSpec, FencePolicy, FlushScope, Reconnect, Timeouts};
use std::sync::Arc;
use std::time::Duration;

/// Cross-controller reset, as the target of a run offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Off,
    On { limit: u8, drain_ms: u32, answer_ms: u32 },
}

/// The world of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) ports: usize,
    /// Controllers, spread over the ports: more than one of a port are told apart by the interface they bind to.
    pub(crate) controllers: usize,
    pub(crate) target_lanes: u16,
    pub(crate) host_lanes: u16,
    pub(crate) namespaces: usize,
    /// Blocks that the load uses, per namespace.
    pub(crate) blocks: u64,
    pub(crate) overlap: bool,
    pub(crate) kato: Duration,
    /// Granularity of KATO at the target, in units of 100 ms: what is in force may be more than what was asked for.
    pub(crate) kas: u16,
    pub(crate) tbkas: bool,
    /// What the target really needs after a noticed loss.
    pub(crate) quiesce: Duration,
    /// The longest media operation.
    pub(crate) media: Duration,
    /// What it says about that; `None`: nothing, and the host assumes.
    pub(crate) cqt: Option<Duration>,
    pub(crate) assumed_cqt: Duration,
    pub(crate) reset: Reset,
    pub(crate) cntlids: u16,
    /// Controller Instance Uniquifiers go from 1 to this.
    pub(crate) ciu_max: u8,
    pub(crate) ana: bool,
    pub(crate) hdgst: bool,
    pub(crate) ddgst: bool,
    pub(crate) in_capsule: u32,
    /// Bytes of buffers that a lane of the target keeps for the next commands.
    pub(crate) stock: u64,
    /// Each controller has a write cache of its own, which is lost with its life; and the host is told so.
    pub(crate) own_caches: bool,
    pub(crate) queue_size: u16,
    pub(crate) queues_per_lane: u16,
    pub(crate) reconnect: Duration,
    pub(crate) fast_io_fail: Option<Duration>,
    pub(crate) ctrl_loss: Option<Duration>,
    pub(crate) io_timeout: Duration,
    /// The target drains before it says that a controller is disabled, and the operator knows.
    pub(crate) disable_is_fence: bool,
    pub(crate) late_grace: Duration,
    pub(crate) drain: Duration,
    pub(crate) delay_us: (u64, u64),
    /// Messages between control and lanes, and media operations, while nothing is wrong.
    pub(crate) mail_us: u64,
    pub(crate) media_us: u64,
    pub(crate) ios: u32,
    pub(crate) depth: usize,
    pub(crate) abandon_percent: u64,
    pub(crate) episodes: u32,
    /// The kernel knows `TCP_USER_TIMEOUT`.
    pub(crate) user_timeout: bool,
    /// What it may meet.
    pub(crate) kinds: Kinds,
    /// How the operator uses the host.
    pub(crate) ways: Ways,
    /// Of how many admin commands in a thousand the answer is bent at any time.
    pub(crate) bent_permille: u64,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) extras: Extras,
    pub(crate) division: Division,
    /// A second host, if there is one.
    pub(crate) neighbour: Option<Neighbour>,
    /// What was taken away again, to see what is needed.
    pub(crate) cut: Arc<Cut>,
}

impl Plan {
    pub(crate) fn draw(seed: u64, mutation: Option<Mutation>) -> Self {
        let rng = &mut Rng::new(seed ^ 0x51a1_5eed_0000_0001);
        let ports = *pick(rng, &[1, 2, 2, 2, 2, 3, 3, 4]);
        let controllers = (ports + *pick(rng, &[0, 0, 0, 0, 0, 1, 2, 4])).min(8).min(ports * 3);
        let kato = Duration::from_millis(1000 + 500 * rng.below(5));
        let quiesce = Duration::from_millis(*pick(rng, &[0, 5, 50, 300, 1000]));
        let media = Duration::from_millis(*pick(rng, &[5, 20, 200, 800]));
        // Honest: what is stated covers what is needed, messages between its parts included.
        let mail_us = *pick(rng, &[1, 20, 2000, 20_000]);
        let needs = quiesce + media + Duration::from_micros(mail_us) * 5 + Duration::from_millis(5);
        let cqt = rng.percent(70).then_some(needs);
        Self {
            seed,
            ports,
            controllers,
            target_lanes: 1 + rng.below(2) as u16,
            host_lanes: 1 + rng.below(3) as u16,
            namespaces: *pick(rng, &[1, 1, 1, 1, 1, 1, 2, 2, 3, 4]),
            blocks: *pick(rng, &[8, 8, 16, 32, 64]),
            overlap: rng.percent(60),
            kato,
            kas: *pick(rng, &[1, 1, 10, 30]),
            tbkas: rng.percent(60),
            quiesce,
            media,
            cqt,
            assumed_cqt: needs + Duration::from_millis(rng.below(500)),
            reset: if rng.percent(65) {
                Reset::On {
                    limit: *pick(rng, &[1, 2, 4, 16]),
                    drain_ms: *pick(rng, &[0, 0, 0, 3, 40, 900]),
                    answer_ms: *pick(rng, &[0, 1, 10, 10, 100]),
                }
            } else {
                Reset::Off
            },
            cntlids: controllers as u16 + *pick(rng, &[2, 3, 60]),
            ciu_max: *pick(rng, &[1, 2, 2, 255]),
            ana: rng.percent(50),
            hdgst: rng.percent(25),
            ddgst: rng.percent(25),
            in_capsule: *pick(rng, &[0, 512, 8192]),
            // From a stream of its own: what else a seed decides stays as it was.
            stock: *pick(&mut Rng::new(seed ^ 0x51a1_5eed_0000_0002), &[0, 64 << 10]),
            own_caches: Rng::new(seed ^ 0x51a1_5eed_0000_0008).below(8) == 0,
            queue_size: *pick(rng, &[4, 8, 32]),
            queues_per_lane: 1 + u16::from(rng.percent(20)),
            reconnect: Duration::from_millis(*pick(rng, &[20, 200, 1000])),
            ctrl_loss: match rng.below(20) {
                0 => Some(Duration::ZERO),
                1 | 2 => Some(Duration::from_millis(3000 + rng.below(5000))),
                _ => None,
            },
            fast_io_fail: rng.percent(20).then(|| Duration::from_millis(500 + rng.below(3000))),
            io_timeout: Duration::from_millis(*pick(rng, &[500, 1500, 2000, 2500, 3000])),
            disable_is_fence: rng.percent(30),
            late_grace: *pick(rng, &[Duration::from_millis(10), Duration::from_millis(250), kato * 3, kato * 3]),
            drain: Duration::from_millis(200 + rng.below(1000)),
            delay_us: *pick(rng, &[(5, 20), (20, 400), (500, 2000), (1000, 10_000)]),
            mail_us,
            media_us: *pick(rng, &[20, 200, 3000]),
            ios: 200 + rng.below(140) as u32,
            depth: *pick(rng, &[6, 12, 24]),
            abandon_percent: *pick(rng, &[0, 2, 6]),
            episodes: 3 + rng.below(3) as u32,
            user_timeout: rng.percent(50),
            kinds: Kinds::installed(),
            ways: Ways::draw(seed, Kinds::installed()),
            bent_permille: *pick(&mut Rng::new(seed ^ 0x51a1_5eed_0000_0010), &[0, 0, 0, 0, 2, 10, 40]),
            mutation,
            extras: Extras::draw(seed, Kinds::installed()),
            division: Division::draw(seed, Kinds::installed()),
            neighbour: Neighbour::draw(seed, Kinds::installed()),
            cut: Arc::default(),
        }
        .with_extras()
    }

    /// KATO as the target will have it.
    pub(crate) fn kato_in_force(&self) -> Duration {
        let step = Duration::from_millis(u64::from(self.kas) * 100);
        step * u32::try_from(self.kato.as_nanos().div_ceil(step.as_nanos())).unwrap_or(u32::MAX)
    }

    /// What the host is asked to stay connected to.
    pub(crate) fn spec(&self, controller: usize) -> ControllerSpec {
        let address = crate::world::address(controller % self.ports);
        let part = self.division.part_of(controller % self.ports);
        self.ways.apply(ControllerSpec {
            kato: self.kato,
            queue_size: self.queue_size,
            nr_io_queues: self.host_lanes * self.queues_per_lane,
            hdgst: self.hdgst,
            ddgst: self.ddgst,
            disable_is_fence: self.disable_is_fence || self.is(Tampering::DisabledBeforeDrained),
            flush_scope: if self.own_caches { FlushScope::Controller } else { FlushScope::Subsystem },
            host_iface: (controller >= self.ports).then(|| format!("eth{}", controller / self.ports)),
            reconnect: Reconnect {
                delay: self.reconnect,
                ctrl_loss: self.ctrl_loss,
                fast_io_fail: self.fast_io_fail.map(|fast| fast.min(self.ctrl_loss.unwrap_or(fast))),
            },
            timeouts: Timeouts {
                io: self.io_timeout,
                io_hard: self.io_timeout * 4,
                admin: Duration::from_secs(3),
                tcp_connect: Duration::from_secs(1),
                handshake: Duration::from_secs(2),
                connect_total: Duration::from_secs(6),
                drain: self.drain,
                late_grace: self.late_grace,
                assumed_cqt: Some(self.assumed_cqt),
                proxy_delay: Duration::ZERO,
                clock_slew_permille: self.slew_permille(),
            },
            fence: if self.is(Tampering::LegacyPolicy) { FencePolicy::Legacy } else { FencePolicy::Strict },
            ..ControllerSpec::new(address.ip().to_string(), address.port(), self.division.nqn(part))
        })
    }

    /// True if this is what is done to the run.
    pub(crate) fn is(&self, what: Tampering) -> bool {
        self.mutation == Some(Mutation::Tampering(what))
    }

    /// How long a life is held that nobody resets.
    pub(crate) fn hold(&self) -> Duration {
        let terms = HoldTerms {
            kato_assumed: false,
            kato: self.kato_in_force(),
            tbkas: self.tbkas,
            cqt: self.cqt,
            assumed_cqt: Some(self.assumed_cqt),
            proxy_delay: Duration::ZERO,
            slew_permille: self.slew_permille(),
        };
        self.by_both_clocks(terms.hold().unwrap_or(MARGIN))
    }

    /// The longest that copies of bytes stay in the network after their sender aborted. The hold of the specification
    /// has one KATO for it: the last command may reach the controller that late, and begins its last keep-alive window.
    pub(crate) fn network_bound(&self) -> Duration {
        self.by_both_clocks(self.kato_in_force())
    }
}

pub(crate) fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.below(from.len() as u64) as usize]
}
