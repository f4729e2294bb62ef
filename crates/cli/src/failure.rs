//! How a failure is told: one sentence, then what to do.

use crate::output::{Format, print};
use interlock_api::{ClientError, Problem, ProblemKind, Version};
use interlock_observe::SourceError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A failure with hints.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: ProblemKind,
    device: Option<String>,
    text: String,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self { kind: ProblemKind::Failed, device: None, text: text.to_string(), hints: Vec::new() }
    }

    /// An error in its own words, of the kind that its causes have.
    pub(crate) fn caused(error: impl std::error::Error + 'static) -> Self {
        let kind = kind_of(&error);
        Self::new(error).kind(kind)
    }

    /// What an error says, as one that more can be said of.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        let Problem { kind, error, hints, device, .. } = problem(error);
        Self { kind, device, text: error, hints }
    }

    /// What kind of failure a program sees.
    pub(crate) fn kind(mut self, kind: ProblemKind) -> Self {
        self.kind = kind;
        self
    }

    /// The device that it is about.
    pub(crate) fn device(mut self, device: Option<String>) -> Self {
        self.device = device;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What failed and what to do, for a list of problems.
    pub(crate) fn in_one_line(&self) -> String {
        if self.hints.is_empty() { self.text.clone() } else { format!("{} ({})", self.text, self.hints.join("; ")) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Tells it on standard error, and for a program as a JSON document on standard output, and says how to exit. A reader that
/// went away (`| head`) is no failure.
pub(crate) fn report(error: &anyhow::Error, format: Format) -> ExitCode {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(gone) {
        return ExitCode::SUCCESS;
    }
    tell(error);
    if format == Format::Json {
        let _ = print(&document(error));
    }
    ExitCode::FAILURE
}

/// Tells it on standard error.
pub(crate) fn tell(error: &anyhow::Error) {
    let mut text = format!("error: {}\n", plain(&sentence(error.chain())));
    for hint in error.downcast_ref::<Failure>().map(|failure| failure.hints.as_slice()).unwrap_or_default() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    // Nowhere is left to tell that this failed.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The same for a program: what the daemon answers when it refuses something.
fn document(error: &anyhow::Error) -> String {
    // Strings and a list of them always are JSON.
    serde_json::to_string_pretty(&problem(error)).unwrap_or_default()
}

/// The same as data.
pub(crate) fn problem(error: &anyhow::Error) -> Problem {
    let failure = error.downcast_ref::<Failure>();
    let kind = failure.map_or_else(|| kind_of(error.as_ref()), |failure| failure.kind);
    Problem {
        format_version: Version,
        kind,
        error: plain(&sentence(error.chain())),
        hints: failure.map(|failure| failure.hints.clone()).unwrap_or_default(),
        device: failure.and_then(|failure| failure.device.clone()),
    }
}

/// What kind of failure an error is, by the first of its causes that says so.
pub(crate) fn kind_of(error: &(dyn std::error::Error + 'static)) -> ProblemKind {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = if let Some(error) = error.downcast_ref::<io::Error>() {
            of_io(error)
        } else if let Some(error) = error.downcast_ref::<ClientError>() {
            Some(of_client(error))
        } else if let Some(error) = error.downcast_ref::<SourceError>() {
            of_source(error)
        } else {
            None
        };
        if let Some(kind) = kind {
            return kind;
        }
        cause = error.source();
    }
    ProblemKind::Failed
}

fn of_io(error: &io::Error) -> Option<ProblemKind> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied => ProblemKind::Denied,
        io::ErrorKind::NotFound => ProblemKind::NotFound,
        io::ErrorKind::TimedOut => ProblemKind::Timeout,
        io::ErrorKind::AddrInUse => ProblemKind::InUse,
        _ => return None,
    })
}

/// What kind of failure it is not to have been answered by the daemon.
pub(crate) fn of_client(error: &ClientError) -> ProblemKind {
    match error {
        ClientError::Problem(problem) => problem.kind,
        ClientError::NotThere { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => ProblemKind::Denied,
        error if error.is_timeout() => ProblemKind::Timeout,
        ClientError::NotThere { .. } | ClientError::Io { .. } | ClientError::Strange { .. } => ProblemKind::NoDaemon,
    }
}

fn of_source(error: &SourceError) -> Option<ProblemKind> {
    match error {
        SourceError::NoNvme(_) | SourceError::NoSuchCounter(_) => Some(ProblemKind::NotFound),
        SourceError::Unreadable { error, .. } | SourceError::NotReset { error, .. } => of_io(error),
        SourceError::Daemon(error) => Some(of_client(error)),
    }
}

/// All causes, each said once: many an error already quotes its cause.
fn sentence<'a>(causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    let mut text = String::new();
    for cause in causes.map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Without the kernel's error numbers, which the words before them already say.
fn plain(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let io = io::Error::other("the disk is on fire");
        let quoting = anyhow::Error::new(io).context("cannot start");
        assert_eq!(sentence(quoting.chain()), "cannot start: the disk is on fire");
        let quoted = anyhow::Error::new(io::Error::other("on fire")).context("cannot start: on fire");
        assert_eq!(sentence(quoted.chain()), "cannot start: on fire");
    }

    #[test]
    fn a_program_is_told_the_kind() {
        let kind = |error: &anyhow::Error| {
            let document: Problem = serde_json::from_str(&document(error)).expect("JSON");
            document.kind
        };
        assert_eq!(kind(&anyhow::Error::new(Failure::new("x").kind(ProblemKind::NotFound))), ProblemKind::NotFound);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(kind(&anyhow::Error::new(denied).context("cannot open it")), ProblemKind::Denied);
        assert_eq!(kind(&anyhow::anyhow!("no idea")), ProblemKind::Failed);
        let nobody = ClientError::NotThere { socket: "/s".into(), error: io::Error::from(io::ErrorKind::NotFound) };
        assert_eq!(kind(&anyhow::Error::new(SourceError::Daemon(nobody)).context("top")), ProblemKind::NoDaemon);
        let failure = Failure::caused(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(kind(&failure.into()), ProblemKind::Denied);
    }

    #[test]
    fn numbers_of_the_kernel_are_left_out() {
        let text = "cannot listen on 127.0.0.1:1: Permission denied (os error 13): really";
        assert_eq!(plain(text), "cannot listen on 127.0.0.1:1: Permission denied: really");
        assert_eq!(plain("nothing here"), "nothing here");
    }
}
