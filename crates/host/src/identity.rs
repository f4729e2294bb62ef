//! One process per host identity.
//!
//! Two processes that write under one host identity know nothing of each other's lost commands, and to the target they
//! are one host: neither can keep the other's writes from landing late. A state directory is locked, but nobody can lock
//! a directory that another process chose. So a process that writes also takes the identity itself: a name in the
//! kernel's abstract socket space, which is let go by the kernel when the process ends, however it ends.

use crate::HostId;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

/// An identity that this process has, for as long as this value lives.
#[derive(Debug)]
pub struct IdentityLock {
    /// Others connect to it to learn who we are; nobody accepts.
    _listener: UnixListener,
}

/// Why an identity was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityInUse {
    /// Another process has it.
    #[error("the host identity {hostid} is in use by {who}: a host has one process at a time")]
    By {
        /// The identity.
        hostid: HostId,
        /// `process 4711 (interlock daemon)`, as far as it can be known.
        who: String,
    },
    /// The system refused.
    #[error("cannot take the host identity {hostid}: {error}")]
    Io {
        /// The identity.
        hostid: HostId,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl IdentityLock {
    /// Takes the identity for this process, within this network namespace.
    ///
    /// # Errors
    /// If another process has it: that process by name.
    pub fn take(hostid: HostId) -> Result<Self, IdentityInUse> {
        let failed = |error| IdentityInUse::Io { hostid, error };
        let name = SocketAddr::from_abstract_name(format!("interlock-host-{hostid}")).map_err(failed)?;
        match UnixListener::bind_addr(&name) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let pid = UnixStream::connect_addr(&name).and_then(|stream| pid_of(&stream)).ok();
                Err(IdentityInUse::By { hostid, who: pid.map_or_else(|| "another process".into(), process) })
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Who listens at the other end.
fn pid_of(stream: &UnixStream) -> io::Result<u32> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
}

/// A process by number and by what was typed.
fn process(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy);
    let program = words.next().map(|word| word.rsplit('/').next().unwrap_or_default().to_owned());
    // The verb says what it does; the rest may be long.
    let verb = words.next().filter(|word| !word.starts_with('-'));
    match (program, verb) {
        (Some(program), Some(verb)) => format!("process {pid} ({program} {verb})"),
        (Some(program), None) => format!("process {pid} ({program})"),
        (None, _) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_owner_and_the_second_is_told_who() {
        let hostid = HostId(*b"one of a kind :)");
        let first = IdentityLock::take(hostid).expect("nobody has it");
        let refused = IdentityLock::take(hostid).expect_err("it is taken").to_string();
        assert!(refused.contains(&format!("in use by process {} (", std::process::id())), "{refused}");
        IdentityLock::take(HostId(*b"another one ....")).expect("another identity");
        drop(first);
        IdentityLock::take(hostid).expect("it was let go");
    }
}
