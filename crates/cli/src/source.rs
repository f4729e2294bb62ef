//! Whose controllers are looked at: our daemon's or the kernel's.

use crate::ask::AskArgs;
use interlock_observe::Source;
use interlock_observe::daemon::Daemon;
use interlock_observe::sysfs::Sysfs;
use std::path::{Path, PathBuf};

/// Whom to look at.
#[derive(clap::Args)]
pub(crate) struct SourceArgs {
    /// Whose controllers: the daemon's, the kernel's, or the daemon's if it is there
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t = Whose::Auto)]
    source: Whose,
    #[command(flatten)]
    ask: AskArgs,
    /// Look at another tree than the running kernel's: a directory that holds `sys`; implies --source sys
    #[arg(long, value_name = "DIR")]
    sysfs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Whose {
    Auto,
    Daemon,
    Sys,
}

impl SourceArgs {
    /// The source. Nothing is asked yet, but for whether somebody listens.
    pub(crate) fn source(&self) -> Box<dyn Source + Send> {
        let client = self.ask.client();
        let daemon = match self.source {
            Whose::Daemon => true,
            Whose::Sys => false,
            // A socket that nobody listens on, or that is not for us, is no reason not to show the kernel's.
            Whose::Auto => self.sysfs.is_none() && std::os::unix::net::UnixStream::connect(client.socket()).is_ok(),
        };
        if daemon {
            Box::new(Daemon::at(client.socket()))
        } else {
            Box::new(Sysfs::below(self.sysfs.as_deref().unwrap_or(Path::new("/"))))
        }
    }
}
