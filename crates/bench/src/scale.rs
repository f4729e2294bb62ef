//! What many controllers cost, and what it takes to lose half of them at once.

mod child;
mod limit;

use crate::failover::{Percentiles, namespace};
use crate::machine::{self, Pair};
use anyhow::{Context, Result, bail, ensure};
use child::{Ghosts, Order, Targets, nqn};
use interlock_base::Instant;
use interlock_host::{
    Buf, Completions, ControllerSpec, Event, EventKind, Host, HostSettings, Namespace, Nqn, Op, Outcome, Receipt,
};
use interlock_ring::{Pool, PoolConfig, now};
use limit::Limit;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fmt::Write;
use std::sync::mpsc::Receiver;
use std::time::Duration;

pub(crate) use child::serve;

/// Writes per subsystem when its path is lost; every second of them goes through that path.
const WRITES: usize = 4;

/// Connecting a thousand controllers, and every answer after they were lost.
const WITHIN: Duration = Duration::from_secs(60);

/// How long the idle host is watched.
const IDLE: Duration = Duration::from_secs(20);

/// Of a core, for an idle host.
const IDLE_GOAL: f64 = 0.02;
/// Bytes of memory per controller.
const MEMORY_GOAL: f64 = 65_536.0;
/// From the loss of half of all paths to the last answer.
const LOSS_GOAL: Duration = Duration::from_secs(2);

/// What came out.
#[derive(Debug, Serialize)]
pub(crate) struct Scale {
    pub(crate) subsystems: usize,
    pub(crate) controllers: usize,
    /// From the first connect to the last live controller, in milliseconds.
    pub(crate) connected_ms: f64,
    /// Part of a core that the idle host's process takes.
    pub(crate) idle_core: f64,
    /// Keep Alive Timeout, in seconds.
    pub(crate) kato_s: u64,
    /// Allocated bytes per controller.
    pub(crate) heap_bytes: f64,
    /// Resident bytes of the process per controller.
    pub(crate) resident_bytes: f64,
    pub(crate) loss: Loss,
    pub(crate) limit: Limit,
}

/// All paths A lost at once.
#[derive(Debug, Serialize)]
pub(crate) struct Loss {
    /// Fenced lives.
    pub(crate) fenced: usize,
    /// Writes in doubt, over all.
    pub(crate) in_doubt: usize,
    /// From the order until a path was noticed, in milliseconds.
    pub(crate) detected_ms: Percentiles,
    /// From the order until what was in doubt on a path was let go, in milliseconds.
    pub(crate) released_ms: Percentiles,
    /// From the order until every write was answered, in milliseconds.
    pub(crate) answered_ms: f64,
    /// Held writes that the targets tried afterwards.
    pub(crate) ghosts: Ghosts,
}

/// Measures with so many subsystems of two paths each.
pub(crate) fn measure(subsystems: usize) -> Result<Scale> {
    machine::many_files()?;
    let mut targets = Targets::start(subsystems)?;
    // An idle host sleeps.
    let pool = Pool::new(PoolConfig { reactors: 1, name: "host".into(), ..PoolConfig::default() })?;
    machine::pin(&pool.reactor(0), 0)?;
    let host = Host::start(pool.reactors(), HostSettings::random()?)?;
    let events = host.subscribe();
    let (heap, resident) = (crate::heap(), resident()?);
    let begun = now();
    let controllers = connect(&host, &events, &targets)?;
    let connected = now() - begun;
    let disks = (0..subsystems).map(|place| namespace(&host, &nqn(place))).collect::<Result<Vec<_>>>()?;
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / controllers as f64;
    let idle_core = idle(&events)?;
    let (heap_bytes, resident_bytes) = (each(crate::heap(), heap), each(self::resident()?, resident));
    let loss = lose(&events, &mut targets, &disks)?;
    host.shutdown(WITHIN)?;
    drop(targets);
    Ok(Scale {
        subsystems,
        controllers,
        connected_ms: ms(connected),
        idle_core,
        kato_s: spec("", 0, "nqn.2026-11.io.interlock:none")?.kato.as_secs(),
        heap_bytes,
        resident_bytes,
        loss,
        limit: limit::limit(&Pair::new(Duration::ZERO)?)?,
    })
}

fn spec(addr: &str, port: u16, nqn: &str) -> Result<ControllerSpec> {
    Ok(ControllerSpec::new(addr, port, Nqn::new(nqn)?))
}

/// Connects all paths A and then all paths B, without waiting for one another.
fn connect(host: &Host, events: &Receiver<Event>, targets: &Targets) -> Result<usize> {
    let mut wanted = 0;
    for path in 0..2 {
        for (place, ports) in targets.ports.iter().enumerate() {
            let addr = ports[path];
            host.connect(spec(&addr.ip().to_string(), addr.port(), &nqn(place))?)?;
            wanted += 1;
        }
    }
    let (mut live, deadline) = (0, now() + WITHIN);
    while live < wanted {
        let Ok(event) = events.recv_timeout(deadline - now()) else {
            bail!("{live} of {wanted} controllers are live after {WITHIN:?}")
        };
        live += usize::from(matches!(event.kind, EventKind::LifeBegan { .. }));
    }
    Ok(wanted)
}

/// The part of a core that this process takes while nobody asks for anything.
fn idle(events: &Receiver<Event>) -> Result<f64> {
    let cpu = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).context("a time is not negative");
    // What follows the connects is over when the host has had nothing to tell for a while.
    while events.recv_timeout(Duration::from_secs(1)).is_ok() {}
    let (begun, before) = (now(), cpu()?);
    let told = events.recv_timeout(IDLE);
    ensure!(told.is_err(), "the host is not idle: {:?}", told.map(|event| event.to_string()));
    Ok((cpu()? - before).as_secs_f64() / (now() - begun).as_secs_f64())
}

/// Resident bytes of this process.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split_whitespace().nth(1).context("statm has the resident pages second")?.parse()?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn lose(events: &Receiver<Event>, targets: &mut Targets, disks: &[Namespace]) -> Result<Loss> {
    targets.order(Order::Hold)?;
    let queue = Completions::new();
    for disk in disks {
        for slba in 0..WRITES as u64 {
            disk.submit(Op::Write { fua: false }, slba, 1, Some(Buf::zeroed(4096)), &queue, slba);
        }
    }
    let mut answered = 0;
    let mut until = |count: usize| -> Result<Instant> {
        let deadline = std::time::Instant::now() + WITHIN;
        while answered < count {
            let completion = queue.wait_until(deadline).context("writes are not answered")?;
            ensure!(completion.outcome == Outcome::Ok, "a write ended with {:?}", completion.outcome);
            answered += 1;
        }
        Ok(now())
    };
    until(disks.len() * WRITES / 2)?;
    while events.try_recv().is_ok() {}
    let begun = now();
    targets.order(Order::Lose)?;
    let all = until(disks.len() * WRITES)?;
    let mut receipts: Vec<Receipt> = Vec::new();
    while receipts.len() < disks.len() {
        let Ok(event) = events.recv_timeout((begun + WITHIN) - now()) else {
            bail!("inconclusive: {} of {} paths were fenced", receipts.len(), disks.len())
        };
        if let EventKind::Fenced(receipt) = event.kind {
            receipts.push(*receipt);
        }
    }
    let ghosts = targets.order(Order::Try)?;
    ensure!(ghosts.executed == 0, "{} stale writes were executed", ghosts.executed);
    ensure!(receipts.iter().all(|receipt| receipt.source.is_some()), "not every path was fenced by CCR");
    let since = |moment: fn(&Receipt) -> Instant| {
        Percentiles::of(receipts.iter().map(|receipt| ms(moment(receipt) - begun)).collect())
    };
    Ok(Loss {
        fenced: receipts.len(),
        in_doubt: receipts.iter().map(|receipt| receipt.in_doubt).sum(),
        detected_ms: since(|receipt| receipt.detected),
        released_ms: since(|receipt| receipt.released),
        answered_ms: ms(all - begun),
        ghosts,
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Scale {
    /// For people.
    pub(crate) fn text(&self) -> Result<String> {
        let met = |is: bool| if is { "met" } else { "missed" };
        let mut text = String::new();
        let (loss, limit) = (&self.loss, &self.limit);
        writeln!(text, "{} subsystems of two paths, {} controllers, one reactor", self.subsystems, self.controllers)?;
        writeln!(text, "  all live after                  {:>9.0} ms", self.connected_ms)?;
        writeln!(
            text,
            "  idle, KATO {} s                  {:>9.2} % of a core   goal < {} %: {}",
            self.kato_s,
            self.idle_core * 100.0,
            IDLE_GOAL * 100.0,
            met(self.idle_core < IDLE_GOAL)
        )?;
        writeln!(
            text,
            "  memory per controller           {:>9.1} KiB resident, {:.1} KiB allocated   goal < {} KiB: {}",
            self.resident_bytes / 1024.0,
            self.heap_bytes / 1024.0,
            MEMORY_GOAL / 1024.0,
            met(self.resident_bytes < MEMORY_GOAL && self.heap_bytes < MEMORY_GOAL)
        )?;
        writeln!(
            text,
            "  all paths A lost at once: {} fenced by CCR, {} writes in doubt, {} of {} held writes tried later and stopped",
            loss.fenced, loss.in_doubt, loss.ghosts.refused, loss.ghosts.armed
        )?;
        for (what, p) in [("noticed", loss.detected_ms), ("let go", loss.released_ms)] {
            writeln!(text, "    {what:<30}{:>9.0} ms median, {:.0} p99, {:.0} last", p.p50, p.p99, p.max)?;
        }
        writeln!(
            text,
            "    every write answered          {:>9.0} ms   goal {} ms: {}",
            loss.answered_ms,
            LOSS_GOAL.as_millis(),
            met(loss.answered_ms <= ms(LOSS_GOAL))
        )?;
        writeln!(
            text,
            "  {} paths of one subsystem lost at once, CCRL {}: at most {} resets in progress, {} refused, all fenced after {:.0} ms: {}",
            limit.lost,
            limit.ccrl,
            limit.most,
            limit.refused,
            limit.took_ms,
            met(limit.most <= limit.ccrl.into() && limit.refused == 0)
        )?;
        Ok(text)
    }
}
