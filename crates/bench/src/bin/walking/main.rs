//! What a walk of the file tree does to I/O: nothing, if all is well.
//!
//! `cargo run --release -p interlock-bench --bin walking` starts the real daemon as a process of its own, with its file tree
//! mounted, connected to a target in this process, and loads it through an NBD export. Meanwhile nothing else happens, or a
//! thread walks the tree from end to end and reads every file, again and again: stretches of quiet and of walking in turn. A
//! walk takes processor time wherever it is; so that this is not taken for a disturbance, the walker and all threads of the
//! daemon but its reactor have one core, and the whole path of an I/O (client, reactor, target) the other. Two cores share
//! caches and memory, and often a core is half of one. So there is a control: a second daemon, connected alike, that carries
//! no I/O. What a walk of *its* tree does to the I/O of the first, the machine does; what a walk of the first one's tree does
//! beyond that, the daemon does, and is judged.
//!
//! Exit code 0: not disturbed; 1: disturbed; 2: inconclusive, because a walk has read nothing, or not all.

#[path = "../../case.rs"]
#[allow(dead_code, reason = "the main program uses the rest")]
mod case;
mod cpu;
#[path = "../../nbd.rs"]
#[allow(dead_code, reason = "the main program uses the rest")]
mod nbd;
mod rig;
#[path = "../../round.rs"]
#[allow(dead_code, reason = "the main program uses the rest")]
mod round;
#[path = "../../spread.rs"]
mod spread;
mod tell;
mod walk;

use anyhow::Result;
use case::Plan;
use clap::Parser;
use cpu::{Cores, Spent};
use rig::Rig;
use round::Round;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tell::Told;
use walk::{Walk, Walked};

const BYTES: u32 = 4096;
const READS: u64 = 70;

/// Walk the file tree beside I/O, and say whether the I/O felt it
#[derive(Parser)]
#[command(name = "walking")]
struct Args {
    /// Controllers that are connected, each a path to the same namespace
    #[arg(long, default_value_t = 16)]
    controllers: u16,
    /// Rounds: in each both trees are walked, between quiet stretches
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// How long a stretch is, in milliseconds
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// Requests in flight
    #[arg(long, default_value_t = 8)]
    depth: u32,
    /// Leave it to the kernel where threads run: what the walk takes of the processors is then seen, too, and nothing is judged
    #[arg(long)]
    shared: bool,
    /// What this program starts itself as
    #[arg(long, hide = true, value_name = "DIR")]
    as_daemon: Option<PathBuf>,
}

/// What happened in one stretch.
struct Stretch {
    round: Round,
    walked: Walked,
    spent: Spent,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if let Some(dir) = &args.as_daemon {
        interlock_daemon::run(&rig::options(dir))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before this thread is confined to one core.
    let machine = spread::machine();
    let cores = if args.shared { None } else { Cores::two()? };
    let rig = Rig::new(args.controllers, cores)?;
    let (mut tree, mut other) = (Walk::of(rig.tree()), Walk::of(rig.idle_tree()));
    let plan = |seed: u32| Plan {
        reads: READS,
        depth: args.depth,
        blocks: 1,
        duration: Duration::from_millis(args.millis),
        seed: seed.into(),
    };
    let (mut quiet, mut walking, mut control) = (Vec::new(), Vec::new(), Vec::new());
    stretch(&rig, plan(0), cores, None)?;
    quiet.push(stretch(&rig, plan(0), cores, None)?);
    for seed in 1..=args.rounds {
        walking.push(stretch(&rig, plan(seed), cores, Some(&mut tree))?);
        quiet.push(stretch(&rig, plan(seed), cores, None)?);
        control.push(stretch(&rig, plan(seed), cores, Some(&mut other))?);
        quiet.push(stretch(&rig, plan(seed), cores, None)?);
    }
    rig.end()?;
    let told = Told { args: &args, machine, cores, tree: &tree, quiet: &quiet, walking: &walking, control: &control };
    Ok(ExitCode::from(told.print(&mut std::io::stdout().lock())?))
}

/// Load for so long, and a walk beside it if one is wanted.
fn stretch(rig: &Rig, plan: Plan, cores: Option<Cores>, walk: Option<&mut Walk>) -> Result<Stretch> {
    let over = AtomicBool::new(false);
    let before = rig.spent()?;
    let (round, walked) = std::thread::scope(|scope| {
        let walker = walk.map(|walk| scope.spawn(|| walk.run(cores.map(|cores| cores.rest), &over)));
        let round = rig.load(plan);
        over.store(true, Ordering::Relaxed);
        let walked = walker.map_or(Ok(Walked::default()), |walker| walker.join().expect("a walk does not panic"));
        (round, walked)
    });
    Ok(Stretch { round: round?, walked: walked?, spent: rig.spent()? - before })
}
