//! Where snapshots come from.

use crate::Snapshot;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Somebody who knows controllers.
pub trait Source {
    /// What this looks at, for a title line.
    fn describe(&self) -> String;

    /// What there is now.
    ///
    /// # Errors
    /// If the source itself cannot be read. A device that went away in between is no error: it is left out.
    fn sample(&mut self) -> Result<Snapshot, SourceError>;

    /// As [`Source::sample`], with counters as if nobody had ever set them, where the source can tell.
    ///
    /// # Errors
    /// As [`Source::sample`].
    fn scrape(&mut self) -> Result<Snapshot, SourceError> {
        self.sample()
    }

    /// What happened since this was last asked, oldest first. A source that cannot tell says `None`: then the differences
    /// of its snapshots must do.
    fn happened(&mut self) -> Option<Vec<Happened>> {
        None
    }

    /// Sets a counter to zero.
    ///
    /// # Errors
    /// If the counter is not there (any more) or may not be written.
    fn reset(&mut self, counter: &Counter) -> Result<(), SourceError>;
}

/// One thing that happened, as the source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// When, since 1970.
    pub unix_ms: u64,
    /// The controller, if it is about one.
    pub controller: Option<String>,
    /// How much it matters.
    pub weight: crate::changes::Weight,
    /// In one line.
    pub text: String,
}

/// A counter that can be set to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name of the controller, path or namespace that has it.
    pub device: String,
    /// Which of its counters.
    pub name: CounterName,
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name.attribute(), self.device)
    }
}

/// The counters, under their Linux names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterName {
    /// Errors of admin commands of a controller.
    ControllerErrors,
    /// Resets of a controller.
    Resets,
    /// Attempts to reconnect of a controller.
    Reconnects,
    /// Commands sent again on a path.
    Retries,
    /// Errors of commands on a path.
    PathErrors,
    /// Requests moved off a path.
    Failovers,
    /// I/O of a namespace that waited for a path.
    Requeued,
    /// I/O of a namespace that failed for want of a path.
    Failed,
}

impl CounterName {
    /// Counters of a controller.
    pub const OF_CONTROLLER: [Self; 3] = [Self::ControllerErrors, Self::Resets, Self::Reconnects];
    /// Counters of a path.
    pub const OF_PATH: [Self; 3] = [Self::Retries, Self::PathErrors, Self::Failovers];
    /// Counters of a namespace head.
    pub const OF_HEAD: [Self; 2] = [Self::Requeued, Self::Failed];

    /// Counters of a device of this name: `nvme0`, `nvme0c1n1` or `nvme0n1`.
    #[must_use]
    pub fn of_device(name: &str) -> &'static [Self] {
        match name.strip_prefix("nvme") {
            Some(rest) if rest.contains('c') => &Self::OF_PATH,
            Some(rest) if rest.contains('n') => &Self::OF_HEAD,
            Some(_) => &Self::OF_CONTROLLER,
            None => &[],
        }
    }

    /// True if some kernel or some tool calls it so.
    #[must_use]
    pub fn is_called(self, name: &str) -> bool {
        self.attribute() == name || self.earlier().contains(&name)
    }

    /// Names that it has or had elsewhere: in the postings that came before the kernel's release, and in the library of
    /// nvme-cli 3.1.
    #[must_use]
    pub const fn earlier(self) -> &'static [&'static str] {
        match self {
            Self::Resets => &["reset_events"],
            Self::Reconnects => &["reconnect_events"],
            Self::Retries => &["command_retries", "command_retry_count"],
            _ => &[],
        }
    }

    /// The name of the attribute in `diag/`.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::ControllerErrors | Self::PathErrors => "command_error_count",
            Self::Resets => "reset_count",
            Self::Reconnects => "reconnect_count",
            Self::Retries => "command_retries_count",
            Self::Failovers => "multipath_failover_count",
            Self::Requeued => "io_requeue_no_usable_path_count",
            Self::Failed => "io_fail_no_available_path_count",
        }
    }
}

/// Why a source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The kernel shows no NVMe at all.
    #[error("{} is not there: the nvme driver is not loaded, or this is not sysfs (try `modprobe nvme-tcp`)", .0.display())]
    NoNvme(PathBuf),
    /// A directory of the source cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// A counter cannot be written.
    #[error("{counter} cannot be reset: {error}{}", .hint)]
    NotReset {
        /// Which.
        counter: Counter,
        /// The system's words.
        error: io::Error,
        /// What to do, or nothing.
        hint: &'static str,
    },
    /// The daemon does not answer as it should.
    #[error("{0}")]
    Daemon(#[from] interlock_api::ClientError),
    /// No device of this name has such a counter.
    #[error("{0} is not there (any more)")]
    NoSuchCounter(Counter),
}
