//! CCRL: a controller that is asked for many resets at once has never more of them in progress than it allows.

use crate::failover::namespace;
use crate::machine::Pair;
use anyhow::{Context, Result, bail, ensure};
use interlock_host::{Buf, Completions, ControllerSpec, EventKind, Host, HostSettings, Nqn, Op, Outcome};
use interlock_ring::now;
use interlock_target::config::{Ana, Backing, Config, NamespaceConfig, PortConfig, Recovery};
use interlock_target::{By, Fault, PortId, Target, TargetEvent};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Paths that are lost at once, with one that is left to reset them through.
const LOST: u16 = 12;

/// Cross-Controller Reset Limit that the target states: the specification's advice.
const CCRL: u8 = 4;

/// A reset takes so long, in milliseconds: long enough that all would be in progress at once.
const DRAIN_MS: u32 = 30;

const NQN: &str = "nqn.2026-11.io.interlock:scale-limit";
const WITHIN: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Limit {
    pub(crate) lost: u16,
    pub(crate) ccrl: u8,
    /// In progress at once, as the target counts.
    pub(crate) most: usize,
    /// Answered with anything but success.
    pub(crate) refused: usize,
    /// From the loss until all was fenced and answered, in milliseconds.
    pub(crate) took_ms: f64,
}

pub(crate) fn limit(pair: &Pair) -> Result<Limit> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let namespace_config =
        NamespaceConfig { nsid: Some(1), block_size: 4096, ..NamespaceConfig::new(Backing::Null { bytes: 1 << 30 }) };
    let target = Target::start(
        pair.target.reactors(),
        &Config {
            nqn: Some(NQN.into()),
            ports: vec![PortConfig { listen, ana: Ana::Optimized }; usize::from(LOST) + 1],
            namespaces: vec![namespace_config],
            recovery: Recovery { ccr_limit: CCRL, cqt_ms: 10_000, quiesce_ms: 10_000, ..Recovery::default() },
            ..Config::default()
        },
    )?;
    let host = Host::start(pair.host.reactors(), HostSettings::random()?)?;
    for addr in target.ports() {
        host.connect_and_wait(ControllerSpec::new(addr.ip().to_string(), addr.port(), Nqn::new(NQN)?), WITHIN)?;
    }
    let disk = namespace(&host, NQN)?;
    let lost = || (0..LOST).map(PortId);
    target.script(Fault::SlowDrain { ms: DRAIN_MS });
    lost().for_each(|port| target.script(Fault::HoldWrites { port }));
    // In turn over all paths: two for each.
    let (queue, writes) = (Completions::new(), 2 * u64::from(LOST + 1));
    for slba in 0..writes {
        disk.submit(Op::Write { fua: false }, slba, 1, Some(Buf::zeroed(4096)), &queue, slba);
    }
    let mut answered = 0;
    let mut until = |count: u64| -> Result<()> {
        let deadline = Instant::now() + WITHIN;
        while answered < count {
            let completion = queue.wait_until(deadline).context("writes are not answered")?;
            ensure!(completion.outcome == Outcome::Ok, "a write ended with {:?}", completion.outcome);
            answered += 1;
        }
        Ok(())
    };
    until(2)?;
    let (told, host_told) = (target.subscribe(), host.subscribe());
    let begun = now();
    lost().for_each(|port| target.script(Fault::ClosePort { port }));
    until(writes)?;
    let mut fenced = 0;
    while fenced < LOST {
        let Ok(event) = host_told.recv_timeout((begun + WITHIN) - now()) else {
            bail!("{fenced} of {LOST} are fenced")
        };
        fenced += u16::from(matches!(event.kind, EventKind::Fenced(_)));
    }
    let took = now() - begun;
    target.status()?;
    let (mut open, mut most, mut refused) = (0_usize, 0, 0);
    for event in told.try_iter() {
        match event.event {
            TargetEvent::CcrReceived { .. } => open += 1,
            TargetEvent::CcrAnswered { status, .. } if !status.is_success() => {
                (open, refused) = (open.saturating_sub(1), refused + 1);
            }
            TargetEvent::Fenced { by: By::Ccr, .. } => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    host.shutdown(WITHIN)?;
    target.shutdown(WITHIN)?;
    ensure!(most > 1, "inconclusive: never more than {most} resets in progress");
    Ok(Limit { lost: LOST, ccrl: CCRL, most, refused, took_ms: took.as_secs_f64() * 1e3 })
}
