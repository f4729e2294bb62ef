//! The two reactors of a measurement, and what is counted on them.

use crate::case::Plan;
use crate::case::Scene;
use crate::limit;
use crate::load::Load;
use crate::round::{Meters, Round};
use anyhow::{Context, Result};
use interlock_host::{ControllerSpec, Host, HostSettings, Namespace, Nqn};
use interlock_ring::{Cx, Event, Pool, PoolConfig, Reactor, Service};
use interlock_target::Target;
use interlock_target::config::{Config, SAMPLE_NQN};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::sync::mpsc;
use std::time::Duration;

/// A round that takes longer than this is an error, not a figure.
const ROUND_WITHIN: Duration = Duration::from_secs(60);

/// How long everything else may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Entries per I/O queue: more than any depth.
const QUEUE_SIZE: u16 = 256;

/// One reactor for the host and one for the target, on a core each where there are two.
pub(crate) struct Pair {
    pub(crate) host: Pool,
    pub(crate) target: Pool,
}

impl Pair {
    pub(crate) fn new(spin: Duration) -> Result<Self> {
        let pool = |name: &str| {
            let config = PoolConfig { reactors: 1, spin, name: name.into(), ..PoolConfig::default() };
            Pool::new(config).context("no reactor")
        };
        let pair = Self { host: pool("host")?, target: pool("target")? };
        for (place, pool) in [&pair.host, &pair.target].into_iter().enumerate() {
            pin(&pool.reactor(0), place)?;
        }
        Ok(pair)
    }

    fn meters(&self) -> Result<Meters> {
        let mut sum = Meters { allocations: crate::allocations(), ..Meters::default() };
        for pool in [&self.host, &self.target] {
            let (calls, copied, cpu) = on(&pool.reactor(0), |cx| {
                let cpu = clock_gettime(ClockId::ThreadCPUTime);
                (cx.system_calls(), interlock_carry::copied(), cpu)
            })?;
            sum.calls += calls;
            sum.copied += copied;
            sum.cpu_ns += cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs();
        }
        Ok(sum)
    }

    /// Runs a round between two looks at the meters.
    pub(crate) fn metered(&self, round: impl FnOnce() -> Result<Round>) -> Result<Round> {
        let before = self.meters()?;
        let round = round()?;
        Ok(round.with_costs(&before, &self.meters()?))
    }

    /// A round of the limit program on these reactors.
    pub(crate) fn limit(&self, connections: u16, bytes: usize, plan: Plan) -> Result<Round> {
        let mut answers = Vec::new();
        for _ in 0..connections {
            let (bound, address) = mpsc::channel();
            let server = self.target.reactor(0);
            server
                .attach(move |cx| Box::new(limit::Server::new(cx, bytes, &bound)))
                .context("the target's reactor has ended")?;
            let addr = address.recv_timeout(ROUND_WITHIN).context("the limit program does not listen")??;
            let (sender, receiver) = mpsc::channel();
            let client = self.host.reactor(0);
            client
                .attach(move |cx| Box::new(limit::Client::new(cx, plan, bytes, addr, sender)))
                .context("the host's reactor has ended")?;
            answers.push(receiver);
        }
        let ended = |answer: mpsc::Receiver<Result<Round>>| {
            answer.recv_timeout(ROUND_WITHIN).context("a round of the limit program did not end")?
        };
        Ok(Round::together(&answers.into_iter().map(ended).collect::<Result<Vec<_>>>()?))
    }
}

/// Keeps a reactor on the core of this place among those that this process may use; if there is only one, on none.
pub(crate) fn pin(reactor: &Reactor, place: usize) -> Result<()> {
    let mine = sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| mine.is_set(*cpu)).take(2).collect();
    if let [_, _] = cpus[..] {
        let mut only = CpuSet::new();
        only.set(cpus[place]);
        on(reactor, move |_| sched_setaffinity(None, &only))??;
    }
    Ok(())
}

/// Allows this process as many open files as its hard limit does.
pub(crate) fn many_files() -> Result<()> {
    let has = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: has.maximum, maximum: has.maximum })?)
}

/// Runs `work` on a reactor.
fn on<T: Send + 'static>(reactor: &Reactor, work: impl FnOnce(&mut Cx<'_>) -> T + Send + 'static) -> Result<T> {
    struct Done;
    impl Service for Done {
        fn handle(&mut self, cx: &mut Cx<'_>, _: Event) {
            cx.detach();
        }
    }
    let (say, said) = mpsc::channel();
    reactor
        .attach(move |cx| {
            // The receiver waits for exactly this.
            let _ = say.send(work(cx));
            Box::new(Done)
        })
        .context("a reactor has ended")?;
    said.recv_timeout(WITHIN).context("a reactor does not answer")
}

/// A host that is connected to a target.
pub(crate) struct Connected {
    pub(crate) scene: Scene,
    target: Target,
    host: Host,
    pub(crate) namespace: Namespace,
}

impl Connected {
    pub(crate) fn new(pair: &Pair, scene: Scene) -> Result<Self> {
        let backing = if scene.memory { "mem:64M" } else { "null:64G" };
        let config = Config::from_toml(&format!(
            "nqn = \"{SAMPLE_NQN}\"\nqueue_size = {QUEUE_SIZE}\n[[port]]\nlisten = \"127.0.0.1:0\"\n[[namespace]]\nbacking = \"{backing}\"\n"
        ))?;
        let target = Target::start(pair.target.reactors(), &config)?;
        let host = Host::start(pair.host.reactors(), HostSettings::random()?)?;
        let addr = target.ports()[0];
        let mut spec = ControllerSpec::new(addr.ip().to_string(), addr.port(), Nqn::new(SAMPLE_NQN)?);
        spec.queue_size = QUEUE_SIZE;
        spec.nr_io_queues = scene.connections;
        (spec.hdgst, spec.ddgst) = (scene.header_digest, scene.data_digest);
        host.connect_and_wait(spec, WITHIN)?;
        let namespace = host.namespace(SAMPLE_NQN, 1)?;
        Ok(Self { scene, target, host, namespace })
    }

    /// A round through the library, on the host's reactor.
    pub(crate) fn library(&self, pair: &Pair, plan: Plan) -> Result<Round> {
        let (sender, receiver) = mpsc::channel();
        let (namespace, plan) = (self.namespace.clone(), plan.times(self.scene.connections));
        let reactor = pair.host.reactor(0);
        reactor
            .attach(move |cx| Box::new(Load::new(cx, &namespace, plan, sender)))
            .context("the host's reactor has ended")?;
        receiver.recv_timeout(ROUND_WITHIN).context("a round did not end")?
    }

    pub(crate) fn end(self) -> Result<()> {
        self.host.shutdown(WITHIN)?;
        Ok(self.target.shutdown(WITHIN)?)
    }
}
