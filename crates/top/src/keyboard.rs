//! The terminal that keys come from, and whether it is still there.
//!
//! The library that reads keys never returns from a terminal that was taken away: it reads the error again and again, on a
//! whole core, for as long as the machine runs. Whoever closes a window or loses a connection would leave that behind. So the
//! terminal itself is asked first.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There may be a key or a new size, or the time is over.
    Look,
    /// There is no terminal any more.
    Gone,
}

/// Where keys come from: standard input if that is a terminal, else the controlling one.
#[derive(Debug)]
pub(crate) enum Keyboard {
    Stdin(io::Stdin),
    Controlling(File),
}

impl Keyboard {
    pub(crate) fn find() -> io::Result<Self> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Ok(Self::Stdin(stdin));
        }
        Ok(Self::Controlling(File::open("/dev/tty")?))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdin(stdin) => stdin.as_fd(),
            Self::Controlling(file) => file.as_fd(),
        }
    }

    /// Waits for a key, a signal or `wait`.
    pub(crate) fn wait(&self, wait: Duration) -> io::Result<Waited> {
        look(self.fd(), wait)
    }
}

fn look(fd: BorrowedFd<'_>, wait: Duration) -> io::Result<Waited> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&wait)) {
        Ok(_) => {}
        // A signal: perhaps the terminal has a new size.
        Err(rustix::io::Errno::INTR) => return Ok(Waited::Look),
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(if fds[0].revents().intersects(gone) { Waited::Gone } else { Waited::Look })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_end_that_was_taken_away_is_noticed_and_a_silent_one_is_not() {
        let (here, there) = UnixStream::pair().unwrap();
        assert_eq!(look(here.as_fd(), Duration::ZERO).unwrap(), Waited::Look);
        drop(there);
        assert_eq!(look(here.as_fd(), Duration::from_secs(5)).unwrap(), Waited::Gone);
    }
}
