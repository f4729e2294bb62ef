//! `interlock daemon`: the process that owns connections and exports.

use crate::failure::Failure;
use interlock_daemon::{ConfigError, DaemonError, Options, Places};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Run the daemon that keeps connections and exports, in the foreground
///
/// It listens on a Unix socket for the other verbs, connects again what was connected before, and ends in order at
/// SIGTERM. SIGHUP reads the configuration anew and never disconnects.
#[derive(clap::Args)]
pub(crate) struct DaemonArgs {
    /// Configuration; default: /etc/interlock/interlock.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket; default: /run/interlock/control.sock
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Directory for what must survive; default: /var/lib/interlock
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory with hostnqn and hostid; default: /etc/nvme
    #[arg(long, value_name = "DIR")]
    nvme_dir: Option<PathBuf>,
    /// Group that may use the sockets as well
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Host NQN; default: /etc/nvme/hostnqn, made if it is not there
    #[arg(short = 'q', long, value_name = "NQN")]
    hostnqn: Option<String>,
    /// Host Identifier, a UUID; default: /etc/nvme/hostid
    #[arg(short = 'I', long, value_name = "UUID")]
    hostid: Option<String>,
    /// Do not connect what was connected before
    #[arg(long)]
    no_restore: bool,
}

pub(crate) fn run(args: &DaemonArgs) -> anyhow::Result<ExitCode> {
    start_log();
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
        no_restore: args.no_restore,
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
        DaemonError::InUse(_) => failure.hint("end that one first, or give this one another --hostid"),
        _ => failure,
    }
    .into()
}

/// The log goes to standard error: with its priority for the journal, with the time for a terminal.
fn start_log() {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let filter = tracing_subscriber::EnvFilter::try_from_env("INTERLOCK_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Line { journal })
        .finish();
    // Only this function sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// One line per event, no more than was said.
struct Line {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            // sd-daemon(3): the priority before each line.
            let priority = match level {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                _ => 7,
            };
            write!(writer, "<{priority}>")?;
        } else {
            SystemTime.format_time(&mut writer)?;
            let word = match level {
                Level::ERROR => " error ",
                Level::WARN => " warn  ",
                Level::INFO => " info  ",
                _ => " debug ",
            };
            write!(writer, "{word}")?;
        }
        ctx.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
