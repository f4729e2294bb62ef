//! How fast the data plane is.
//!
//! One process, two reactors: an embedded target with a null namespace on one, the host on the other, loopback between
//! them. The load is a service on the host's reactor and uses the local door, so that what is measured is the data plane
//! and not the mail between threads. Beside each case runs the limit program (`limit.rs`) on the same reactors. Cases are
//! run in turn, round after round, so that whatever else the machine does hits all of them alike; the table shows medians
//! over the rounds with their quartiles, and the ratio of each pair of neighbours.

mod limit;
mod load;
mod round;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use interlock_host::{ControllerSpec, Host, HostSettings, Namespace, Nqn, Op};
use interlock_ring::Reactor;
use interlock_ring::{Pool, PoolConfig};
use interlock_target::Target;
use interlock_target::config::{Config, DEFAULT_NQN};
use load::Load;
use round::Round;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

/// A round of a case that takes longer than this is an error, not a figure.
const ROUND_WITHIN: Duration = Duration::from_secs(60);

/// 4 KiB random reads and writes on a null namespace.
#[derive(Parser)]
struct Args {
    /// Rounds over all cases.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// How long one case runs in one round, in milliseconds.
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// Queue depths.
    #[arg(long, value_delimiter = ',', default_value = "1,32,128")]
    depths: Vec<u32>,
    /// Blocks of 4 KiB per command.
    #[arg(long, default_value_t = 1)]
    blocks: u32,
    /// Header and data digests.
    #[arg(long)]
    digests: bool,
    /// How long a reactor spins before it sleeps, in microseconds.
    #[arg(long, default_value_t = 30)]
    spin: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0 && !args.depths.is_empty() && args.blocks > 0, "nothing to measure");
    let config = Config::from_toml(
        "queue_size = 256\n[[port]]\nlisten = \"127.0.0.1:0\"\n[[namespace]]\nbacking = \"null:64G\"\n",
    )?;
    let reactor = |name: &str| {
        let config = PoolConfig {
            reactors: 1,
            spin: Duration::from_micros(args.spin),
            name: name.into(),
            ..PoolConfig::default()
        };
        Pool::new(config).context("no reactor")
    };
    let (target_pool, host_pool) = (reactor("target")?, reactor("host")?);
    let target = Target::start(target_pool.reactors(), &config)?;
    let host = Host::start(host_pool.reactors(), HostSettings::random()?)?;
    let subnqn = Nqn::new(DEFAULT_NQN)?;
    let addr = target.ports()[0];
    let mut spec = ControllerSpec::new(addr.ip().to_string(), addr.port(), subnqn);
    spec.queue_size = 256;
    (spec.hdgst, spec.ddgst) = (args.digests, args.digests);
    host.connect_and_wait(spec, Duration::from_secs(5))?;
    let namespace = host.namespace(DEFAULT_NQN, 1)?;

    let mut cases = Vec::new();
    for op in [Op::Read, Op::Write { fua: false }] {
        cases.extend(args.depths.iter().map(|depth| Case { op, depth: *depth, host: Vec::new(), limit: Vec::new() }));
    }
    let bytes = namespace.shape().block_size as usize * args.blocks as usize;
    for seed in 0..args.rounds as u64 {
        for case in &mut cases {
            let duration = Duration::from_millis(args.millis);
            let plan = Plan { op: case.op, depth: case.depth, blocks: args.blocks, duration, seed };
            case.host.push(on_the_host(&host_pool.reactor(0), &namespace, plan)?);
            case.limit.push(at_the_limit(&host_pool.reactor(0), &target_pool.reactor(0), bytes, plan)?);
        }
    }
    print(&args, &cases)?;
    host.shutdown(Duration::from_secs(5))?;
    target.shutdown(Duration::from_secs(5))?;
    Ok(())
}

/// What to run in one round of one case.
#[derive(Clone, Copy)]
struct Plan {
    op: Op,
    depth: u32,
    blocks: u32,
    duration: Duration,
    seed: u64,
}

/// One case, and what came out in each round.
struct Case {
    op: Op,
    depth: u32,
    host: Vec<Round>,
    limit: Vec<Round>,
}

fn on_the_host(reactor: &Reactor, namespace: &Namespace, plan: Plan) -> Result<Round> {
    let (sender, receiver) = mpsc::channel();
    let namespace = namespace.clone();
    reactor
        .attach(move |cx| Box::new(Load::new(cx, &namespace, plan, sender)))
        .context("the host's reactor has ended")?;
    receiver.recv_timeout(ROUND_WITHIN).context("a round did not end")?
}

fn at_the_limit(client: &Reactor, server: &Reactor, bytes: usize, plan: Plan) -> Result<Round> {
    let (bound, address) = mpsc::channel();
    server
        .attach(move |cx| Box::new(limit::Server::new(cx, plan, bytes, &bound)))
        .context("the target's reactor has ended")?;
    let addr = address.recv_timeout(ROUND_WITHIN).context("the limit program does not listen")??;
    let (sender, receiver) = mpsc::channel();
    client
        .attach(move |cx| Box::new(limit::Client::new(cx, plan, bytes, addr, sender)))
        .context("the host's reactor has ended")?;
    receiver.recv_timeout(ROUND_WITHIN).context("a round of the limit program did not end")?
}

fn print(args: &Args, cases: &[Case]) -> Result<()> {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["case", "QD", "IOPS", "quartiles", "p50 us", "p99 us", "limit IOPS", "ratio", "quartiles"]);
    for Case { op, depth, host, limit } in cases {
        let of = |rounds: &[Round], figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
        let iops = of(host, |round| round.iops);
        let ratios: Vec<f64> = host.iter().zip(limit).map(|(host, limit)| host.iops / limit.iops).collect();
        let name = if *op == Op::Read { "read" } else { "write" };
        table.add_row([
            format!("{} KiB random {name}", args.blocks * 4),
            depth.to_string(),
            format!("{:.0}", quantile(&iops, 0.5)),
            format!("{:.0} - {:.0}", quantile(&iops, 0.25), quantile(&iops, 0.75)),
            format!("{:.1}", quantile(&of(host, |round| round.p50_us), 0.5)),
            format!("{:.1}", quantile(&of(host, |round| round.p99_us), 0.5)),
            format!("{:.0}", quantile(&of(limit, |round| round.iops), 0.5)),
            format!("{:.2}", quantile(&ratios, 0.5)),
            format!("{:.2} - {:.2}", quantile(&ratios, 0.25), quantile(&ratios, 0.75)),
        ]);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{table}")?;
    writeln!(
        out,
        "{} rounds of {} ms per case, one connection, digests {}, spin {} us, null namespace over loopback",
        args.rounds,
        args.millis,
        if args.digests { "on" } else { "off" },
        args.spin
    )?;
    Ok(())
}

/// The value below which the given part of `values` lies, by the nearest rank.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * (sorted.len() - 1) as f64).round();
    sorted.get(rank as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|part| quantile(&values, part)), [1.0, 2.0, 3.0, 5.0]);
    }
}
