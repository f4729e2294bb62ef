//! What can go wrong with an export, in sentences.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why an export cannot begin or end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The socket cannot be made.
    #[error("{}: the socket cannot be made: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another process listens there.
    #[error("{}: another process listens there already; choose another path, or end it", path.display())]
    SocketInUse {
        /// Where.
        path: PathBuf,
    },
    /// Something that is no socket lies there; it is left alone.
    #[error("{}: something that is no socket lies there; choose another path, or remove it", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// A name is longer than the protocol allows.
    #[error("an export's name and description have at most 4096 bytes each")]
    TooLong,
    /// The name is in use.
    #[error("there is an export `{name}` already")]
    NameTaken {
        /// Which.
        name: String,
    },
    /// There is no such export.
    #[error("there is no export `{name}`{}", listed(.known))]
    NoSuchExport {
        /// As asked for.
        name: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// Clients count in blocks of another size.
    #[error(
        "export `{name}`: blocks have {now} bytes now, and clients were promised {promised}; stop it, and export it again"
    )]
    BlockSize {
        /// Which export.
        name: String,
        /// Bytes per block when it was made.
        promised: u32,
        /// Bytes per block now.
        now: u32,
    },
    /// Clients are connected.
    #[error("`{name}` is in use: {connections} client connection(s); end them, drain it, or stop it by force")]
    InUse {
        /// Which export.
        name: String,
        /// How many connections.
        connections: usize,
    },
    /// Connections have not ended in time. They are still being ended.
    #[error(
        "{connections} client connection(s) have not ended within {within:?}; stop by force to abandon their requests"
    )]
    NotEnded {
        /// How many.
        connections: usize,
        /// The time that was given.
        within: Duration,
    },
    /// This machine has no ublk, or this process may not use it.
    #[error("ublk cannot be used: {why}; NBD works everywhere")]
    NoUblk {
        /// What is missing, and what to do.
        why: String,
    },
    /// The kernel refused a control command of ublk.
    #[error("/dev/ublkb{id}: the kernel refused to {what}: {source}")]
    Ublk {
        /// The device.
        id: u32,
        /// What was asked for.
        what: &'static str,
        /// Its reason.
        source: io::Error,
    },
    /// The number belongs to a device that lives, of another process.
    #[error("/dev/ublkb{id} is served by process {pid}; choose another number, or end that process")]
    UblkTaken {
        /// The device.
        id: u32,
        /// Who serves it.
        pid: i32,
    },
    /// Somebody has the device open.
    #[error("/dev/ublkb{id} is open or mounted")]
    UblkInUse {
        /// The device.
        id: u32,
    },
    /// The number belongs to a device of another program, or of another namespace.
    #[error("/dev/ublkb{id} was made by another program or for another namespace; choose another number, or remove it")]
    UblkForeign {
        /// The device.
        id: u32,
    },
    /// The device of a dead process holds requests, and nothing says for which disk they are.
    #[error(
        "/dev/ublkb{id} was left by an earlier process, and nothing was recorded that says which disk it is for: its \
         requests are not carried out on this one; stop the export by force, and export it again"
    )]
    UblkUnbound {
        /// The device.
        id: u32,
    },
    /// A device cannot be taken over, because the lives of its earlier server are not fenced.
    #[error("/dev/ublkb{id} is not recovered yet: {source}")]
    NotFenced {
        /// The device.
        id: u32,
        /// What is still to be waited for.
        source: Box<interlock_host::HostError>,
    },
    /// There is no reactor, or it has ended.
    #[error("no reactor runs that could serve the export")]
    NoReactor,
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { ": there is none".into() } else { format!(": there are {}", known.join(", ")) }
}
