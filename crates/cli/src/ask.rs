//! How verbs reach the daemon, and what they say if it is not there or says no.

use crate::failure::{Failure, of_client};
use interlock_api::{Client, ClientError, DEFAULT_SOCKET, Done, ProblemKind, Status};
use interlock_daemon::Places;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A verb takes as long as the target takes, and the daemon's own deadlines bound that: 60 s to connect, 30 s to end.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Which daemon.
#[derive(clap::Args)]
pub(crate) struct AskArgs {
    /// Control socket of the daemon; default: that of the user's own daemon if there is one, else /run/interlock/control.sock
    #[arg(long, value_name = "PATH", env = "INTERLOCK_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
}

/// How an end is asked for.
#[derive(clap::Args)]
pub(crate) struct EndArgs {
    /// Also while clients use it: their outstanding requests are abandoned
    #[arg(long)]
    pub(crate) force: bool,
    /// Succeed if it does not exist
    #[arg(long)]
    idempotent: bool,
}

impl EndArgs {
    /// Ends what a path names: the names of what was ended.
    pub(crate) fn end(&self, client: &Client, path: &str) -> Result<Done, Failure> {
        match client.call::<Done>("DELETE", &forced(path, self.force), None) {
            Err(ClientError::Problem(problem)) if self.idempotent && problem.kind == ProblemKind::NotFound => {
                Ok(Done::default())
            }
            other => other.map_err(failed),
        }
    }
}

/// A path that asks for force.
pub(crate) fn forced(path: &str, force: bool) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    if force { format!("{path}{mark}force=true") } else { path.to_owned() }
}

impl AskArgs {
    /// The daemon.
    pub(crate) fn client(&self) -> Client {
        self.client_within(Duration::ZERO)
    }

    /// The daemon, for a verb that may take so much longer.
    pub(crate) fn client_within(&self, longer: Duration) -> Client {
        Client::new(self.socket.clone().unwrap_or_else(usual_socket), ANSWER_WITHIN + longer)
    }

    /// Everything at one moment.
    pub(crate) fn status(&self) -> anyhow::Result<Status> {
        Ok(self.client().get("/v1/status").map_err(failed)?)
    }
}

/// A request that failed, with what to do.
pub(crate) fn failed(error: ClientError) -> Failure {
    let failure = Failure::new(&error).kind(of_client(&error));
    match error {
        ClientError::NotThere { socket, error } if error.kind() == io::ErrorKind::PermissionDenied => {
            failure.hint(format!("only the owner and the group of {} may use it; become one of them", socket.display()))
        }
        ClientError::NotThere { .. } => failure
            .hint("start it with `systemctl start interlock`, or in a terminal with `interlock daemon`")
            .hint("if it listens elsewhere, say where with --socket"),
        ClientError::Problem(problem) => {
            let failure = failure.device(problem.device);
            problem.hints.into_iter().fold(failure, Failure::hint)
        }
        error if error.is_timeout() => failure,
        ClientError::Io { .. } => {
            failure.hint("it ended, or was ended, while it was asked: whether this was done shows `interlock status`")
        }
        ClientError::Strange { .. } => failure,
    }
}

/// The socket of the daemon that this user means, if none is named: the user's own if there is one, else that of the
/// system, which its group may use as well.
pub(crate) fn usual_socket() -> PathBuf {
    nearest(Places::usual().socket, Path::new(DEFAULT_SOCKET))
}

/// What cannot be looked at is there: whoever asks is told that it is not allowed, not that nobody listens.
fn nearest(own: PathBuf, system: &Path) -> PathBuf {
    match own.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => system.to_owned(),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_own_daemon_that_of_the_system_is_meant() {
        let system = Path::new(DEFAULT_SOCKET);
        assert_eq!(nearest("/nonexistent/run/control.sock".into(), system), system);
        assert_eq!(nearest("/dev/null".into(), system), Path::new("/dev/null"));
    }
}
