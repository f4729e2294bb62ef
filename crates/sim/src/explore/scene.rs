//! The small worlds: what is in them, and why each of them is worth a walk.

use super::state::State;
use interlock_host_core as host;
use interlock_target_core as target;
use interlock_wire::nqn::{HostId, Nqn};
use std::time::Duration;

use crate::parts::Division;
use crate::world::address;

/// Keep Alive Timeout of every controller.
pub(super) const KATO: Duration = Duration::from_secs(4);
/// Quiesce time that the target states.
pub(super) const CQT: Duration = Duration::from_millis(100);
/// What it really takes of that after a loss that it noticed by itself.
const QUIESCE: Duration = Duration::from_millis(50);
/// How long the paths have lived when the walk begins: longer than a life that counts as flapping.
pub(super) const CALM: Duration = Duration::from_millis(1500);

/// How a path dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Death {
    /// It lives.
    None,
    /// The host hears of it on every connection; of what it sent, any beginning may still arrive. The target hears
    /// nothing.
    Reset,
    /// The same, and the target may hear of it too.
    ResetHeard,
    /// The admin connection is lost; I/O connections still deliver, slowly, in both directions.
    Admin,
}

/// One write of the load. All of them change the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteOf {
    /// Which lane of the host takes it.
    pub lane: u16,
    /// True if its caller may give it up, at any moment.
    pub may_be_abandoned: bool,
    /// Only after this one has ended.
    pub after: Option<usize>,
}

/// One small world.
#[derive(Clone, Debug)]
pub struct SmallWorld {
    /// Its name.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    /// Lanes of the host.
    pub lanes: u16,
    /// The writes; the first is under way when the walk begins.
    pub writes: Vec<WriteOf>,
    /// What happens to path A, and, from then until its life is over, to path B.
    pub deaths: [Death; 2],
    /// Cross-controller reset; `None`: not offered.
    pub reset: Option<Ccr>,
    /// Writes that arrive through port A stall inside the target until they are let loose.
    pub stalls: bool,
    /// The longest media operation.
    pub media: Duration,
    /// The longest that a message may take while nothing is wrong with its way.
    pub slack: Duration,
    /// Data follows the command, when the target asks for it.
    pub asks_for_data: bool,
    /// What the host does with what is in doubt.
    pub fence: host::FencePolicy,
    /// After this everything has ended (`every_wait_has_a_deadline`).
    pub horizon: Duration,
    /// It is larger than what 20 minutes are enough for.
    pub large: bool,
}

/// How cross-controller reset is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ccr {
    /// For so long the life goes on after the request came, in milliseconds.
    pub drain_ms: u32,
    /// For so long the answer waits to be able to say "immediate", in milliseconds.
    pub answer_ms: u32,
}

const fn write(lane: u16) -> WriteOf {
    WriteOf { lane, may_be_abandoned: false, after: None }
}

impl SmallWorld {
    /// All of them, the smaller first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let base = Self {
            name: "two-paths",
            about: "two paths are lost within one round trip, one write stalls, another overlaps it; a new controller \
                    appears and resets both",
            lanes: 1,
            writes: vec![write(0), write(0)],
            deaths: [Death::Reset, Death::Reset],
            reset: Some(Ccr { drain_ms: 0, answer_ms: 10 }),
            stalls: true,
            media: Duration::from_millis(3),
            slack: Duration::ZERO,
            asks_for_data: false,
            fence: host::FencePolicy::Strict,
            horizon: Duration::from_secs(40),
            large: false,
        };
        let two = vec![write(0), write(1)];
        vec![
            Self {
                name: "one-path",
                about: "one path of two is lost while a write stalls in it and another overlaps it; the sibling resets",
                deaths: [Death::Reset, Death::None],
                ..base.clone()
            },
            Self {
                name: "by-log",
                about: "the same where the reset takes longer than its answer: the log page and its event are the proof",
                deaths: [Death::Reset, Death::None],
                reset: Some(Ccr { drain_ms: 30, answer_ms: 0 }),
                ..base.clone()
            },
            Self {
                name: "late",
                about: "only the admin connection of a path is lost: completions of its writes come late, while the \
                        sibling resets",
                deaths: [Death::Admin, Death::None],
                stalls: false,
                ..base.clone()
            },
            Self {
                name: "by-time",
                about: "no cross-controller reset: both paths are lost, what was sent may arrive a KATO late, and time \
                        alone is the fence",
                reset: None,
                ..base.clone()
            },
            Self {
                name: "given-up",
                about: "the caller gives the first write up, at any moment; its range stays guarded until it is over",
                writes: vec![WriteOf { may_be_abandoned: true, ..write(0) }, write(0)],
                deaths: [Death::Reset, Death::None],
                ..base.clone()
            },
            base.clone(),
            Self {
                name: "heard",
                about: "two paths again, and the target may hear of each loss on each connection",
                deaths: [Death::ResetHeard, Death::ResetHeard],
                ..base.clone()
            },
            Self {
                name: "two-lanes",
                about: "one path of two is lost; the writes are on two lanes of the host, and every message between \
                        control and lanes may be late",
                lanes: 2,
                writes: two.clone(),
                deaths: [Death::Reset, Death::None],
                ..base.clone()
            },
            Self {
                name: "two-lanes-two-paths",
                about: "two paths, two lanes, two writes, one overlap, one new controller",
                lanes: 2,
                writes: two,
                large: true,
                ..base
            },
        ]
    }

    /// How long the network may keep what a dead connection left in it: what fences by time rely on.
    pub(super) const fn network_bound() -> Duration {
        KATO
    }

    pub(super) fn host(&self) -> host::HostConfig {
        host::HostConfig {
            hostnqn: Nqn::new("nqn.2026-01.sim:host").expect("a valid name"),
            hostid: HostId([7; 16]),
            lanes: self.lanes,
            seed: 1,
        }
    }

    pub(super) fn spec(&self, port: usize) -> host::ControllerSpec {
        let address = address(port);
        host::ControllerSpec {
            kato: KATO,
            queue_size: 4,
            nr_io_queues: self.lanes,
            reconnect: host::Reconnect { delay: Duration::from_secs(90), ctrl_loss: None, fast_io_fail: None },
            fence: self.fence,
            timeouts: host::Timeouts { assumed_cqt: Some(CQT), ..host::Timeouts::default() },
            ..host::ControllerSpec::new(address.ip().to_string(), address.port(), Division::None.nqn(0))
        }
    }

    pub(super) fn target(&self) -> target::Config {
        target::Config {
            subsystems: vec![target::config::SubsystemConfig {
                nqn: Division::None.nqn(0),
                serial: "SMALL".into(),
                model: "Simulated".into(),
                hosts: target::config::Hosts::Any,
                namespaces: vec![target::Namespace {
                    nsid: 1,
                    blocks: 8,
                    block_shift: 9,
                    read_only: false,
                    nguid: [1; 16],
                    uuid: [2; 16],
                    ana_group: 1,
                    eui64: None,
                    zeroes_when_deallocated: true,
                }],
                cntlids: (1, 5),
                kas: 10,
                tbkas: false,
                cqt_ms: CQT.as_millis() as u16,
                quiesce_ms: QUIESCE.as_millis() as u32,
                ccr: match self.reset {
                    None => target::config::Ccr::Off,
                    Some(Ccr { drain_ms, answer_ms }) => target::config::Ccr::On { limit: 4, drain_ms, answer_ms },
                },
                ana_groups: 0,
            }],
            ports: (0..2)
                .map(|port| target::config::PortConfig {
                    id: target::PortId(port as u16),
                    address: address(port),
                    offers: target::config::Offers::All,
                })
                .collect(),
            lanes: 1,
            limits: target::config::Limits {
                in_capsule: if self.asks_for_data { 0 } else { 8192 },
                ..target::config::Limits::default()
            },
        }
    }

    /// The state in which the walk begins: both paths have been live for a while, and the first write was given to the
    /// kernel on path A. Which path a lane takes first is a matter of its seed, so seeds are tried until one fits.
    pub(super) fn start(&self) -> State {
        let started = (0..64).find_map(|seed| {
            let mut state = State::connected(self, seed);
            state.submit(0);
            state.sent_through(0).then_some(state)
        });
        started.expect("one lane in two begins with path A")
    }
}
