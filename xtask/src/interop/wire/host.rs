//! Our host in a process of its own, in a namespace of its own: `cargo xtask wire-host`.
//!
//! It loads one subsystem over two wires and, beside it, another one over the healthy wire alone, whose latency it
//! measures. What happens it says in lines of JSON, with the time of `CLOCK_MONOTONIC` that captures have, too. It can be
//! killed at any time: that is one of the cases.

use crate::interop::load::{Load, Until};
use crate::interop::wait;
use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use interlock_host::{
    Completions, ControllerSpec, Event, EventKind, FileStore, Host, HostId, HostSettings, Namespace, Nqn, Op, Outcome,
    Pool, PoolConfig, Reconnect, Timeouts,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Blocks of one write: 8 KiB, the largest that goes with its command and so lies in the socket's queue at once.
pub(super) const BLOCKS: u32 = 16;
/// Requests in flight at once. Three of four are writes; with [`BLOCKS`] of 512 bytes they are more than 1 MiB.
pub(super) const DEPTH: usize = 480;
const SLOTS: usize = 1024;

/// The longest that a wire with a delay may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
const NAMESPACE_WITHIN: Duration = Duration::from_secs(20);
/// Between two requests beside the load.
const BESIDE_PACE: Duration = Duration::from_millis(2);
/// Phases of the measurement beside the load.
pub(super) const PHASES: [&str; 3] = ["before", "during", "after"];

#[derive(Parser)]
#[command(name = "cargo xtask wire-host")]
pub(super) struct Args {
    /// Where the target is; the first is the wire that suffers.
    #[arg(long = "path")]
    paths: Vec<SocketAddr>,
    /// Its subsystem
    #[arg(long)]
    nqn: String,
    /// Another subsystem beside it: ADDRESS=NQN
    #[arg(long)]
    beside: Option<String>,
    /// Keep Alive Timeout in milliseconds
    #[arg(long)]
    kato: u64,
    /// State directory
    #[arg(long)]
    state: PathBuf,
    /// The wire that suffers is dead already: do not wait for it
    #[arg(long)]
    first_dead: bool,
    /// Writes begin with this generation
    #[arg(long, default_value_t = 0)]
    generation: u32,
    /// An I/O command without an answer for so many milliseconds makes its path suspect
    #[arg(long, default_value_t = 30_000)]
    io_timeout: u64,
}

/// The program.
///
/// # Errors
/// Whatever goes wrong, after it was said in a line.
pub fn main(args: impl Iterator<Item = String>) -> Result<()> {
    let args = Args::try_parse_from(std::iter::once("wire-host".to_owned()).chain(args))?;
    let result = run(&args);
    if let Err(error) = &result {
        say(json!({"event": "failed", "why": format!("{error:#}")}))?;
    }
    result
}

fn say(mut line: Value) -> Result<()> {
    let at = line["at"].as_u64().unwrap_or_else(monotonic);
    line["at"] = at.into();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub(super) fn monotonic() -> u64 {
    interlock_ring::now().as_nanos()
}

fn spec(args: &Args, addr: SocketAddr, nqn: &str) -> Result<ControllerSpec> {
    let mut spec = ControllerSpec::new(addr.ip().to_string(), addr.port(), Nqn::new(nqn)?);
    spec.kato = Duration::from_millis(args.kato);
    // One queue of a target holds 127 commands at most, and a quarter of them are reads.
    spec.nr_io_queues = 3;
    spec.reconnect = Reconnect { delay: Duration::from_millis(500), ..Reconnect::default() };
    spec.timeouts = Timeouts {
        tcp_connect: Duration::from_secs(2),
        handshake: Duration::from_secs(3),
        io: Duration::from_millis(args.io_timeout),
        ..Timeouts::default()
    };
    Ok(spec)
}

fn namespace(host: &Host, nqn: &str) -> Result<Namespace> {
    wait::for_some("the namespace", NAMESPACE_WITHIN, || Ok(host.namespace(nqn, 1).ok()))
}

fn run(args: &Args) -> Result<()> {
    // The same host in every process: a successor may fence what its predecessor left.
    let hostid = HostId(*b"interlock wire 1");
    let settings = HostSettings { hostnqn: Nqn::of_host(hostid), hostid };
    let store = FileStore::open(&args.state, &settings)?;
    let pool = Pool::new(PoolConfig { reactors: 1, name: "wire".into(), ..PoolConfig::default() })?;
    let host = Host::start_with(pool.reactors(), settings, Box::new(store))?;
    let events = host.subscribe();
    let teller = std::thread::spawn(move || events.into_iter().try_for_each(|event| tell(&event)));
    for (index, path) in args.paths.iter().enumerate() {
        let spec = spec(args, *path, &args.nqn)?;
        let ctrl = match (index, args.first_dead) {
            (0, true) => host.connect(spec)?,
            _ => host.connect_and_wait(spec, CONNECT_WITHIN)?,
        };
        say(json!({"event": "path", "ctrl": ctrl.to_string(), "to": path.to_string()}))?;
    }
    let main = namespace(&host, &args.nqn)?;
    let beside = match args.beside.as_deref().map(|beside| beside.split_once('=').context("ADDRESS=NQN")).transpose()? {
        Some((addr, nqn)) => {
            host.connect_and_wait(spec(args, addr.parse()?, nqn)?, CONNECT_WITHIN)?;
            Some(namespace(&host, nqn)?)
        }
        None => None,
    };
    let (stop, phase) = (AtomicBool::new(false), AtomicUsize::new(0));
    let outcome = std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let mut load = Load::beginning_with(main, SLOTS, BLOCKS, args.generation);
            let done = load.run(DEPTH, Until::Told(&stop));
            // Who measures ends with it.
            stop.store(true, Ordering::Relaxed);
            let verified = done.and_then(|done| load.verify().map(|()| done));
            if let Err(error) = &verified {
                say(json!({"event": "failed", "why": format!("the load: {error:#}")}))?;
            }
            Ok::<_, anyhow::Error>((load, verified?))
        });
        let measuring = scope.spawn(|| beside.map(|namespace| measure(&namespace, &stop, &phase)).transpose());
        say(json!({"event": "loaded"}))?;
        let mut lines = std::io::stdin().lock().lines();
        // Until `stop`, or the end of the input.
        let _ = lines.by_ref().try_for_each(|line| match line.as_deref().map(|line| line.split_once(' ')) {
            Ok(Some(("phase", name))) => match PHASES.iter().position(|known| *known == name) {
                Some(index) => {
                    phase.store(index, Ordering::Relaxed);
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            },
            _ => ControlFlow::Break(()),
        });
        stop.store(true, Ordering::Relaxed);
        let (load, done) = loading.join().map_err(|_| anyhow!("the load panicked"))?.context("the load")?;
        let beside = measuring.join().map_err(|_| anyhow!("the measurement panicked"))??;
        say(json!({
            "event": "verified", "writes": done.writes, "reads": done.reads, "unknown": done.unknown,
            "longest_ms": done.longest.as_millis() as u64, "beside": beside,
        }))?;
        // Once more, later: what a ghost changes it changes behind our back.
        for line in lines {
            ensure!(line? == "verify", "not a word of ours");
            load.verify().context("the second look")?;
            say(json!({"event": "verified-again"}))?;
        }
        Ok(())
    });
    host.shutdown(Duration::from_secs(10))?;
    drop(host);
    pool.shutdown(Duration::from_secs(10)).map_err(|why| anyhow!("the reactors did not end: {why}"))?;
    teller.join().map_err(|_| anyhow!("the teller panicked"))??;
    outcome
}

/// One request at a time on the subsystem beside it; microseconds: median, 99th percentile and longest of each phase.
fn measure(namespace: &Namespace, stop: &AtomicBool, phase: &AtomicUsize) -> Result<Value> {
    let queue = Completions::new();
    let mut took: [Vec<u64>; 3] = Default::default();
    let mut turn = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let since = Instant::now();
        let op = if turn.is_multiple_of(2) { Op::Read } else { Op::Write { fua: false } };
        let at = phase.load(Ordering::Relaxed);
        namespace.submit(op, turn % 1024 * 8, 8, Some(namespace.buffer(8)), &queue, turn);
        let answer = queue.wait_until(since + Duration::from_secs(60)).context("beside: never answered")?;
        ensure!(answer.outcome == Outcome::Ok, "beside: {op:?} ended with {:?}", answer.outcome);
        took[at].push(u64::try_from(since.elapsed().as_micros())?);
        wait::pass(BESIDE_PACE);
    }
    let part = |sorted: &[u64], percent: usize| sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied();
    let mut all = serde_json::Map::new();
    for (name, mut took) in PHASES.into_iter().zip(took) {
        took.sort_unstable();
        let figures = json!({
            "requests": took.len(), "p50": part(&took, 50), "p99": part(&took, 99), "max": took.last(),
        });
        all.insert(name.into(), figures);
    }
    Ok(all.into())
}

/// Says what happened; what a case needs to know in fields of its own.
fn tell(event: &Event) -> Result<()> {
    let nanos = |at: interlock_base::Instant| at.as_nanos();
    let mut line = json!({"at": event.at.as_nanos(), "event": "other", "text": event.kind.to_string()});
    match &event.kind {
        EventKind::LifeBegan { ctrl, life, .. } => {
            line["event"] = "life".into();
            line["ctrl"] = ctrl.to_string().into();
            line["life"] = life.to_string().into();
        }
        EventKind::Lost { ctrl, life, .. } => {
            line["event"] = "lost".into();
            line["ctrl"] = ctrl.to_string().into();
            line["life"] = life.to_string().into();
        }
        EventKind::Condemned { life, in_doubt, .. } => {
            line["event"] = "condemned".into();
            line["life"] = life.to_string().into();
            line["in_doubt"] = (*in_doubt).into();
        }
        EventKind::HoldUntil { life, t0, deadline, .. } => {
            line["event"] = "hold".into();
            line["life"] = life.to_string().into();
            line["t0"] = nanos(*t0).into();
            line["deadline"] = deadline.map(nanos).into();
        }
        EventKind::Fenced(receipt) => {
            line["event"] = "fenced".into();
            line["subnqn"] = receipt.subnqn.to_string().into();
            line["ctrl"] = receipt.ctrl.to_string().into();
            line["life"] = receipt.life.to_string().into();
            line["method"] = format!("{:?}", receipt.method).into();
            line["t0"] = receipt.t0.map(nanos).into();
            line["detected"] = nanos(receipt.detected).into();
            line["in_doubt"] = receipt.in_doubt.into();
            line["held_ms"] = (receipt.held().as_millis() as u64).into();
        }
        _ => {}
    }
    say(line)
}
