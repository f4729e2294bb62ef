//! What reactors wait with.
//!
//! `io_uring` is forbidden in many places (sysctl, seccomp profiles of containers) and missing in some. A disk must come
//! back there too, so that it is replaced by epoll, and one line of the log says so: it is slower, and ublk needs the ring.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Once;

/// What reactors wait with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A ring per reactor, which also runs the file operations.
    IoUring,
    /// An epoll set per reactor, and up to 8 threads for its file operations. A sleep ends up to 1 ms late. No commands of
    /// drivers ([`crate::FileOp::Driver`]): ublk needs a ring.
    Epoll,
}

impl Backend {
    /// The environment variable that chooses for a [`crate::PoolConfig`] which does not: `io_uring` or `epoll`; `auto` or
    /// nothing leaves it to the kernel.
    pub const VARIABLE: &str = "INTERLOCK_RING";

    /// What the environment asks for.
    ///
    /// # Errors
    /// It asks for something else.
    pub(crate) fn asked() -> io::Result<Option<Self>> {
        match std::env::var_os(Self::VARIABLE) {
            None => Ok(None),
            Some(value) => parse(&value.to_string_lossy()),
        }
    }
}

fn parse(value: &str) -> io::Result<Option<Backend>> {
    match value {
        "" | "auto" => Ok(None),
        other => other.parse().map(Some).map_err(|NoBackend| {
            let why = format!("{}={other}: io_uring, epoll or auto", Backend::VARIABLE);
            io::Error::new(io::ErrorKind::InvalidInput, why)
        }),
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Not the name of a [`Backend`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBackend;

impl fmt::Display for NoBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("io_uring or epoll")
    }
}

impl std::error::Error for NoBackend {}

impl FromStr for Backend {
    type Err = NoBackend;

    fn from_str(name: &str) -> Result<Self, NoBackend> {
        match name {
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            _ => Err(NoBackend),
        }
    }
}

/// Says once per process that a pool does without `io_uring`, and why.
pub(crate) fn warn(refused: &io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!("running on epoll, which is slower: {refused}; {}=epoll accepts it silently", Backend::VARIABLE);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused_with_the_choices() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("auto").unwrap(), None);
        for backend in [Backend::IoUring, Backend::Epoll] {
            assert_eq!(parse(&backend.to_string()).unwrap(), Some(backend));
        }
        let error = parse("kqueue").unwrap_err().to_string();
        assert_eq!(error, "INTERLOCK_RING=kqueue: io_uring, epoll or auto");
    }
}
