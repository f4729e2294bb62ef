//! Whose controllers are looked at: our daemon's or the kernel's.

use crate::ask::{AskArgs, failed};
use crate::failure::Failure;
use interlock_api::ClientError;
use interlock_observe::Source;
use interlock_observe::daemon::Daemon;
use interlock_observe::sysfs::Sysfs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Whom to look at.
#[derive(clap::Args)]
pub(crate) struct SourceArgs {
    /// Whose controllers to show: those of the daemon, those of the kernel, or the first of them that is there
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t = Whose::Auto)]
    source: Whose,
    #[command(flatten)]
    ask: AskArgs,
    /// Read another tree than that of the running kernel: a directory that holds `sys`; implies --source sys
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
    ///
    /// # Errors
    /// There is a daemon, and this user may not ask it.
    pub(crate) fn source(&self) -> Result<Box<dyn Source + Send>, Failure> {
        let client = self.ask.client();
        let daemon = match self.source {
            Whose::Daemon => true,
            Whose::Sys => false,
            // A socket that nobody listens on is no reason not to show the kernel's. One that is not for this user is: its
            // controllers are others than the kernel's.
            Whose::Auto if self.sysfs.is_some() => false,
            Whose::Auto => match UnixStream::connect(client.socket()) {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let denied = ClientError::NotThere { socket: client.socket().to_owned(), error };
                    return Err(failed(denied).hint("the kernel's controllers are shown with --source sys"));
                }
                Err(_) => false,
            },
        };
        Ok(if daemon {
            Box::new(Daemon::at(client.socket()))
        } else {
            Box::new(Sysfs::below(self.sysfs.as_deref().unwrap_or(Path::new("/"))))
        })
    }
}
