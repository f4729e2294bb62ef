//! One process per host identity.
//!
//! Two processes that write under one host identity know nothing of each other's lost commands, and to the target they
//! are one host: neither can keep the other's writes from landing late. A state directory is locked, but nobody can lock
//! a directory that another process chose. So a process that writes also takes the identity itself, twice:
//!
//! - a file below `/run/lock/interlock`, locked. Root owns the directory, so nobody else can take the lock to keep this host
//!   down; and it is the same for every network namespace that shares `/run`;
//! - a name in the kernel's abstract socket space, which processes of other users and with another `/run` see as well. Any
//!   user may take any such name: one who is neither root nor ours is named and ignored.
//!
//! The kernel lets go of both when the process ends, however it ends.

use crate::HostId;
use crate::store::is_running;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where root's processes lock the identities that they have.
const DIR: &str = "/run/lock/interlock";

/// The kernel may let go of a dead process's files a while after it is dead.
const DEAD_LOCK: Duration = Duration::from_secs(5);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// An identity that this process has, for as long as this value lives.
#[derive(Debug)]
pub struct IdentityLock {
    /// Others connect to it to learn who we are; nobody accepts. `None`: somebody else has the name, and does not count.
    _listener: Option<UnixListener>,
    /// `None`: this process is not root's, or cannot make the directory.
    file: Option<(File, PathBuf)>,
    notes: Vec<String>,
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
    /// Takes the identity for this process.
    ///
    /// # Errors
    /// If another process has it: that process by name.
    pub fn take(hostid: HostId) -> Result<Self, IdentityInUse> {
        Self::take_in(Path::new(DIR), hostid)
    }

    fn take_in(dir: &Path, hostid: HostId) -> Result<Self, IdentityInUse> {
        let failed = |error| IdentityInUse::Io { hostid, error };
        let us = rustix::process::geteuid().as_raw();
        let mut notes = Vec::new();
        let file = if us == 0 {
            match lock_in(dir, hostid) {
                Ok(Lock::Ours(file, path)) => Some((file, path)),
                Ok(Lock::Of(pid)) => {
                    return Err(IdentityInUse::By {
                        hostid,
                        who: pid.map_or_else(|| "another process".into(), process),
                    });
                }
                Err(error) => {
                    notes.push(format!(
                        "{}: the host identity cannot be locked there ({error}): a process in another network namespace \
                         could take it as well",
                        dir.display()
                    ));
                    None
                }
            }
        } else {
            None
        };
        let name = SocketAddr::from_abstract_name(format!("interlock-host-{hostid}")).map_err(failed)?;
        let listener = match UnixListener::bind_addr(&name) {
            Ok(listener) => Some(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let peer = UnixStream::connect_addr(&name)
                    .and_then(|stream| Ok(rustix::net::sockopt::socket_peercred(stream)?));
                let pid = peer.as_ref().ok().map(|peer| peer.pid.as_raw_nonzero().get().unsigned_abs());
                let who = pid.map_or_else(|| "another process".into(), process);
                match peer.ok().map(|peer| peer.uid.as_raw()) {
                    Some(uid) if !counts(uid, us) => {
                        notes.push(format!(
                            "{who} of user {uid} has the name `interlock-host-{hostid}` and cannot be this host: ignored"
                        ));
                        None
                    }
                    _ => return Err(IdentityInUse::By { hostid, who }),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { _listener: listener, file, notes })
    }

    /// What somebody should know: who was ignored, and what could not be locked.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Drop for IdentityLock {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            // Still locked: whoever opened it meanwhile finds that it is not there any more, and makes another one.
            let _ = fs::remove_file(path);
        }
    }
}

/// True if a process of this user could be this host: root's, or our own.
const fn counts(uid: u32, us: u32) -> bool {
    uid == 0 || uid == us
}

enum Lock {
    Ours(File, PathBuf),
    /// Another process has it, as far as it says who it is.
    Of(Option<u32>),
}

/// Locks the file of an identity in a directory that is ours alone.
fn lock_in(dir: &Path, hostid: HostId) -> io::Result<Lock> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let about = fs::symlink_metadata(dir)?;
    if !about.is_dir() || about.uid() != rustix::process::geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return Err(io::Error::other("another user may write there"));
    }
    let path = dir.join(format!("{hostid}.lock"));
    let until = Instant::now() + DEAD_LOCK;
    loop {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let pid = text.trim().parse().ok();
                // The kernel may let go of the files of a dead process late.
                if pid.is_none_or(is_running) || Instant::now() >= until {
                    return Ok(Lock::Of(pid));
                }
                std::thread::park_timeout(LOOK);
                continue;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking it may have been removed: then others lock another file, and so does this one.
        let (ours, theirs) = (file.metadata()?, fs::metadata(&path));
        if theirs.is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino())) {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())?;
            return Ok(Lock::Ours(file, path));
        }
        if Instant::now() >= until {
            return Err(io::Error::other(format!("{} is removed again and again", path.display())));
        }
    }
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

    #[test]
    fn only_root_and_we_ourselves_could_be_this_host() {
        assert!(counts(0, 1000) && counts(0, 0) && counts(1000, 1000));
        assert!(!counts(1000, 0) && !counts(1001, 1000));
    }

    #[test]
    fn a_lock_holds_where_names_of_sockets_are_not_seen_and_only_where_nobody_else_writes() {
        let dir = std::env::temp_dir().join(format!("interlock-identity-{}", std::process::id()));
        let hostid = HostId(*b"locked by a file");
        let Lock::Ours(file, path) = lock_in(&dir, hostid).expect("a directory") else { panic!("nobody has it") };
        let Lock::Of(pid) = lock_in(&dir, hostid).expect("a directory") else { panic!("it is taken") };
        assert_eq!(pid, Some(std::process::id()));
        // As a process ends: removed while it is locked, and another one is made.
        fs::remove_file(&path).expect("ours");
        assert!(matches!(lock_in(&dir, hostid), Ok(Lock::Ours(..))));
        drop(file);
        fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
        assert!(lock_in(&dir, hostid).is_err(), "anybody could have put it there");
        fs::remove_dir_all(dir).expect("ours");
    }
}
