//! `interlock daemon`: the process that owns connections and exports.

use crate::failure::Failure;
use crate::log;
use interlock_daemon::{ConfigError, DaemonError, Options, Places};
use std::path::PathBuf;
use std::process::ExitCode;

/// Run the daemon that keeps connections and exports, in the foreground
///
/// The daemon listens on a Unix socket for the other commands and reconnects what was connected before. SIGTERM ends it
/// gracefully. SIGHUP reads the configuration again and never disconnects.
#[derive(clap::Args)]
#[command(after_help = log::ENVIRONMENT_OF_A_SERVICE)]
pub(crate) struct DaemonArgs {
    /// Configuration; default: /etc/interlock/interlock.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket; default: /run/interlock/control.sock
    #[arg(long, value_name = "PATH", env = "INTERLOCK_SOCKET")]
    socket: Option<PathBuf>,
    /// Directory for state that outlives the process; default: /var/lib/interlock
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory with hostnqn and hostid; default: /etc/nvme
    #[arg(long, value_name = "DIR")]
    nvme_dir: Option<PathBuf>,
    /// Group that may use the sockets, too
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Host NQN; default: that of /etc/nvme/hostnqn, which is created if it does not exist
    #[arg(short = 'q', long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// Host Identifier, a UUID; default: that of /etc/nvme/hostid
    #[arg(short = 'I', long, value_name = "UUID")]
    hostid: Option<String>,
    /// Mount the file tree here: the controllers as /sys would show them, also for `nvme --set-options test-sysfs-dir=DIR`;
    /// a mount that a killed daemon left is removed first
    #[arg(long, value_name = "DIR")]
    sysfs: Option<PathBuf>,
    /// Serve http://ADDRESS/metrics; a port alone is on loopback
    #[arg(long, value_name = "[ADDRESS:]PORT")]
    metrics: Option<String>,
    /// Do not reconnect what was connected before
    #[arg(long)]
    no_restore: bool,
    /// Start although the kernel's NVMe driver uses the same host identity: to a target both are one host
    #[arg(long)]
    share_identity_with_kernel: bool,
    /// Where the kernel shows its controllers
    #[arg(long, value_name = "DIR", default_value = "/sys", hide = true)]
    sys: PathBuf,
}

pub(crate) fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    log::of_a_service();
    let usual = Places::usual();
    let options = Options {
        config_named: args.config.is_some(),
        places: Places {
            state: absolute(args.state_dir.clone().unwrap_or(usual.state))?,
            socket: absolute(args.socket.clone().unwrap_or(usual.socket))?,
            nvme: args.nvme_dir.clone().unwrap_or(usual.nvme),
            config: args.config.clone().unwrap_or(usual.config),
        },
        hostnqn: args.hostnqn.clone(),
        hostid: args.hostid.clone(),
        group: args.group.clone(),
        sysfs: args.sysfs.clone().map(absolute).transpose()?,
        metrics: args.metrics.clone(),
        no_restore: args.no_restore,
        share_identity_with_kernel: args.share_identity_with_kernel,
        sys: args.sys.clone(),
    };
    match interlock_daemon::run(&options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(explained(error)),
    }
}

/// Clients get these paths, and they have other working directories.
fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?)
}

fn explained(error: DaemonError) -> anyhow::Error {
    let failure = Failure::new(&error);
    match error {
        DaemonError::Config(ConfigError::Bad { hint: Some(hint), .. }) => failure.hint(hint),
        DaemonError::KernelUses { .. } => failure
            .hint("disconnect them there, as in `nvme disconnect -d nvme0`")
            .hint("or give this host another identity with --hostnqn and --hostid")
            .hint("or, if both are meant to be one host, start with --share-identity-with-kernel"),
        DaemonError::InUse(_) => failure.hint("end that one first, or give this one another --hostid"),
        _ => failure,
    }
    .into()
}
