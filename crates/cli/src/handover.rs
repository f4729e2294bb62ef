//! `interlock handover`: whether the other driver has let go of a subsystem, so that this one may write.
//!
//! A file system moves from the kernel's driver to Interlock, or back. What the one has sent may still be under way when the
//! other begins: in the network, or inside the target. Nothing is written safely before that is over. Interlock knows
//! what became of each of its controllers, and says so. The kernel keeps no record: from the moment at which nothing of the
//! subsystem is left in `/sys`, the target needs its Keep Alive Timeout and its quiesce time until it has let go.

use crate::ask::{AskArgs, failed};
use crate::connect::millis_or_never;
use crate::failure::{Failure, kind_of};
use crate::output::{Format, OutputArgs, print};
use crate::status::span;
use anyhow::Context;
use interlock_api::{ClientError, Drained, ProblemKind, escaped};
use interlock_daemon::{KernelSubsystem, Places, identity, of_subsystem};
use interlock_host::{FileStore, HoldTerms, IdentityLock, LifeStore};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often `/sys` is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The Keep Alive Timeout of a controller that shows none: the default of nvme-cli.
const USUAL_KATO: Duration = Duration::from_secs(5);

/// The allowance for a slow clock of the target, in thousandths: that of every connection.
const SLEW_PERMILLE: u16 = 100;

/// Wait until the other driver has released a subsystem, before this one writes
///
/// With `--from kernel`, run it before Interlock writes: it waits until the kernel has no controller of the subsystem left, and
/// then for as long as the target may need to end what was sent. Start it before `nvme disconnect`, so that it sees what goes
/// away. With `--from interlock`, run it before the kernel connects: it waits until no controller of the subsystem is connected
/// and every lost one is fenced. Unmount the file system before either. Exit status 0: the subsystem may be written; 1: it may
/// not.
#[derive(clap::Args)]
pub(crate) struct HandoverArgs {
    /// The driver that had the subsystem
    #[arg(long, value_name = "DRIVER", value_enum)]
    from: Driver,
    /// Subsystem NQN
    #[arg(short = 'n', long, value_name = "NQN")]
    nqn: String,
    /// Give up after this many milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    timeout: u64,
    /// Assert that the kernel had disconnected the subsystem before this command began
    #[arg(long)]
    already_gone: bool,
    /// Quiesce time of the target to assume, in milliseconds
    #[arg(long, value_name = "MS", allow_hyphen_values = true, value_parser = millis_or_never, default_value = "5000")]
    assumed_cqt: i64,
    /// Where the kernel shows its devices
    #[arg(long, value_name = "DIR", default_value = "/sys", hide = true)]
    sys: PathBuf,
    /// State directory of the daemon, if none runs; default: the usual one
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory with hostnqn and hostid, if no daemon runs
    #[arg(long, value_name = "DIR")]
    nvme_dir: Option<PathBuf>,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Choices of `--from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Driver {
    /// The kernel's nvme-tcp
    Kernel,
    /// Interlock
    Interlock,
}

pub(crate) fn run(args: &HandoverArgs) -> anyhow::Result<ExitCode> {
    let within = Duration::from_millis(args.timeout);
    let (text, document) = match args.from {
        Driver::Kernel => kernel(args, within)?,
        Driver::Interlock => interlock(args, within)?,
    };
    print(&match args.output.format {
        Format::Normal => text,
        Format::Json => serde_json::to_string_pretty(&document)?,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is known of the kernel's driver so far. Times count from the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Leaving {
    /// The longest Keep Alive Timeout that was seen.
    kato: Option<Duration>,
    /// Something of the subsystem was seen.
    seen: bool,
    /// When nothing was left for the first time since.
    gone: Option<Duration>,
    assumed_cqt: Option<Duration>,
}

/// Where the handover stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// The kernel has it.
    Held,
    /// It is gone; the target may need so much longer.
    Settling(Duration),
    /// It is gone, and no time bounds what the target may still do.
    Unbounded,
    /// It may be written: it has been gone for this long, or longer.
    Free(Duration),
}

impl Leaving {
    const fn new(assumed_cqt: Option<Duration>) -> Self {
        Self { kato: None, seen: false, gone: None, assumed_cqt }
    }

    /// What was seen in `/sys` at `now`.
    fn look(&mut self, now: Duration, found: &KernelSubsystem) -> Standing {
        self.kato = self.kato.max(found.kato_s.map(|seconds| Duration::from_secs(seconds.into())));
        if !found.is_gone() {
            (self.seen, self.gone) = (true, None);
            return Standing::Held;
        }
        let gone = *self.gone.get_or_insert(now);
        match self.terms().hold() {
            None => Standing::Unbounded,
            Some(hold) if now >= gone + hold => Standing::Free(hold),
            Some(hold) => Standing::Settling(gone + hold - now),
        }
    }

    fn terms(&self) -> HoldTerms {
        HoldTerms {
            kato: self.kato.unwrap_or(USUAL_KATO),
            kato_assumed: self.kato.is_none(),
            // Whether it is offered is not shown: the longer of the two bounds holds.
            tbkas: true,
            cqt: None,
            assumed_cqt: self.assumed_cqt,
            proxy_delay: Duration::ZERO,
            slew_permille: SLEW_PERMILLE,
        }
    }
}

fn kernel(args: &HandoverArgs, within: Duration) -> anyhow::Result<(String, serde_json::Value)> {
    let began = Instant::now();
    let assumed_cqt = u64::try_from(args.assumed_cqt).ok().map(Duration::from_millis);
    let mut leaving = Leaving::new(assumed_cqt);
    let hold = loop {
        let found = of_subsystem(&args.sys, &args.nqn).map_err(|error| {
            let kind = kind_of(&error);
            Failure::new(format!("{}: {error}: what the kernel's driver has is not known", args.sys.display()))
                .kind(kind)
        })?;
        let standing = leaving.look(began.elapsed(), &found);
        if !leaving.seen && !args.already_gone {
            return Err(Failure::new(format!("the kernel has no controller of {}", args.nqn))
                .kind(ProblemKind::NotFound)
                .hint("compare the NQN with `nvme list-subsys`")
                .hint("if it was disconnected before, say so with --already-gone")
                .into());
        }
        let late = began.elapsed() >= within;
        match standing {
            Standing::Free(hold) => break hold,
            Standing::Unbounded => {
                let why = if leaving.kato == Some(Duration::ZERO) {
                    "its controllers had no Keep Alive"
                } else {
                    "no quiesce time is assumed"
                };
                return Err(Failure::new(format!(
                    "{why}: no time says when the target has ended what the kernel sent to {}",
                    args.nqn
                ))
                .hint("connect it in the kernel with a Keep Alive Timeout (`nvme connect -k 5`), and begin again")
                .into());
            }
            Standing::Held if late => return Err(held(&args.nqn, &found, within).into()),
            Standing::Settling(left) if late => {
                let text = format!(
                    "the kernel has released {}, and the target may need {} longer for what was sent",
                    args.nqn,
                    span(whole(left))
                );
                return Err(Failure::new(text).kind(ProblemKind::Timeout).hint("wait longer with --timeout").into());
            }
            Standing::Held | Standing::Settling(_) => std::thread::park_timeout(LOOK_EVERY),
        }
    };
    let text = format!(
        "{}: nothing of it has been left in the kernel for {}; what was sent is over if the target quiesces within {}",
        args.nqn,
        span(whole(hold)),
        span(whole(assumed_cqt.unwrap_or_default()))
    );
    let document = json!({
        "format_version": 1,
        "subsystem": args.nqn,
        "from": "kernel",
        "by": "assumed",
        "waited_ms": whole(hold),
        "kato_ms": whole(leaving.terms().kato),
        "kato_assumed": leaving.terms().kato_assumed,
        "assumed_cqt_ms": assumed_cqt.map(whole),
    });
    Ok((text, document))
}

fn held(nqn: &str, found: &KernelSubsystem, within: Duration) -> Failure {
    let mut left: Vec<String> =
        found.controllers.iter().map(|(one, state)| format!("{} ({state}, {})", one.name, one.address)).collect();
    left.extend(found.subsystem.iter().cloned());
    Failure::new(format!("after {within:?} the kernel still has of {nqn}: {}", left.join(", ")))
        .kind(ProblemKind::InUse)
        .hint(format!("unmount what is on it, then `nvme disconnect -n {nqn}`"))
}

fn whole(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn interlock(args: &HandoverArgs, within: Duration) -> anyhow::Result<(String, serde_json::Value)> {
    let path = format!("/v1/subsystems/{}/drained?timeout_ms={}", escaped(&args.nqn), args.timeout);
    match args.ask.client_within(within).get::<Drained>(&path) {
        Ok(drained) if drained.alive.is_empty() => {
            let text = format!("{}: nothing is connected, and every lost controller is fenced", drained.subsystem);
            Ok((text, document(&drained.subsystem, "fenced")))
        }
        Ok(drained) => {
            let able: Vec<&str> = drained.alive.iter().map(|life| life.controller.as_str()).collect();
            Err(Failure::new(format!("{} is still connected: {}", drained.subsystem, able.join(", ")))
                .kind(ProblemKind::InUse)
                .hint(format!("end its exports, then `interlock disconnect -n {}`", drained.subsystem))
                .into())
        }
        Err(ClientError::NotThere { error, .. })
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused) =>
        {
            without_daemon(args)
        }
        Err(error) => Err(failed(error).into()),
    }
}

/// The record of what a daemon that has ended left behind. Nobody else of this identity may run meanwhile.
fn without_daemon(args: &HandoverArgs) -> anyhow::Result<(String, serde_json::Value)> {
    let usual = Places::usual();
    let places = Places {
        state: args.state_dir.clone().unwrap_or(usual.state),
        nvme: args.nvme_dir.clone().unwrap_or(usual.nvme),
        ..usual
    };
    let nobody = || {
        let text = format!("no daemon runs, and none has left a record in {}", places.state.display());
        Failure::new(text).kind(ProblemKind::NoDaemon).hint("say with --state-dir and --nvme-dir where they are")
    };
    let known = identity::look(&places.nvme)?;
    let settings = known.map_or_else(|| identity::look(&places.state), |who| Ok(Some(who)))?.ok_or_else(nobody)?;
    let _lock = IdentityLock::take(settings.hostid)
        .map_err(|error| Failure::new(error).hint("say with --socket where that one listens, or end it first"))?;
    let dir = places.of_host(settings.hostid);
    if !dir.try_exists().with_context(|| format!("cannot look at {}", dir.display()))? {
        return Err(nobody().into());
    }
    let mut store = FileStore::open(&dir, &settings)?;
    let left: Vec<String> = store
        .predecessors()
        .into_iter()
        .filter(|old| old.record.subnqn.as_str() == args.nqn)
        .map(|old| format!("{} at {}", old.record.ctrl, old.record.addr))
        .collect();
    if !left.is_empty() {
        let text = format!("no daemon runs, and one has left of {} what is not fenced: {}", args.nqn, left.join(", "));
        return Err(Failure::new(text)
            .kind(ProblemKind::InUse)
            .hint("start the daemon: it fences what the one before left")
            .into());
    }
    if !is_recorded(&[&dir, &places.state], &args.nqn) {
        // A name with a slip must not look like one that is free.
        let text = format!("no daemon runs, and the record of the last one does not know {}", args.nqn);
        return Err(Failure::new(text)
            .kind(ProblemKind::NotFound)
            .hint("compare the NQN; a subsystem that this host never had needs no handover")
            .into());
    }
    let text = format!("{}: no daemon runs, and its record names no controller that is not fenced", args.nqn);
    Ok((text, document(&args.nqn, "record")))
}

/// True if a record of the daemon in one of these directories names the subsystem. Names are kept for as long as anything else
/// needs them, in whatever format: a word between quotes is enough to tell a slip from a name.
fn is_recorded(dirs: &[&Path], nqn: &str) -> bool {
    let quoted = json!(nqn).to_string();
    let files = dirs.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let records = files.filter(|file| file.file_name().to_string_lossy().starts_with("daemon."));
    records.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains(&quoted))
}

fn document(nqn: &str, by: &str) -> serde_json::Value {
    json!({ "format_version": 1, "subsystem": nqn, "from": "interlock", "by": by })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn there(kato_s: Option<u32>) -> KernelSubsystem {
        KernelSubsystem { controllers: Vec::new(), subsystem: Some("nvme-subsys0".into()), kato_s }
    }

    #[test]
    fn what_the_kernel_let_go_of_is_free_after_the_time_the_target_may_need() {
        let mut leaving = Leaving::new(Some(5 * S));
        let gone = KernelSubsystem::default();
        assert_eq!(leaving.look(S, &there(Some(2))), Standing::Held);
        // Three times 2 s, 5 s, and a tenth of it for a slow clock.
        let Standing::Settling(hold) = leaving.look(3 * S, &gone) else { panic!("it may still be under way") };
        assert!(hold >= Duration::from_millis(12_100) && hold < 13 * S, "{hold:?}");
        assert_eq!(leaving.look(3 * S + hold, &gone), Standing::Free(hold));
        // It came back: the hold starts over.
        assert_eq!(leaving.look(20 * S, &there(Some(2))), Standing::Held);
        assert_eq!(leaving.look(21 * S, &gone), Standing::Settling(hold));
    }

    #[test]
    fn without_keep_alive_or_an_assumption_no_time_ends_it() {
        let gone = KernelSubsystem::default();
        let mut leaving = Leaving::new(Some(5 * S));
        leaving.look(S, &there(Some(0)));
        assert_eq!(leaving.look(1_000 * S, &gone), Standing::Unbounded);
        assert_eq!(Leaving::new(None).look(S, &gone), Standing::Unbounded);
        assert!(matches!(Leaving::new(Some(S)).look(S, &gone), Standing::Settling(left) if left > 15 * S));
    }
}
