//! A server: one socket, any number of exports, and the handle that programs hold.

use super::listener::ListenerService;
use super::memory::NbdMemory;
use super::table::Table;
use crate::{ExportError, ExportSettings, ExportStatus, Stop};
use interlock_host::{Namespace, Shape};
use interlock_ring::{Reactor, ServiceId};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Detaching the listener is a matter of microseconds; after this its reactor is stuck.
const DETACH_WITHIN: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct NbdSettings {
    /// The Unix socket. One that nobody listens on any more is replaced.
    pub socket: PathBuf,
    /// Who may connect, as file mode. Default 0600. Whoever connects reads and writes the namespaces.
    pub mode: u32,
    /// The socket's group; `None`: that of the process.
    pub group: Option<u32>,
    /// What its clients share with those of other servers. Default: nothing, they have all of it.
    pub memory: NbdMemory,
}

impl NbdSettings {
    /// With the defaults.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), mode: 0o600, group: None, memory: NbdMemory::default() }
    }
}

/// An NBD server on a Unix socket. It ends with [`NbdServer::stop`]; dropping it stops it by force and does not wait.
///
/// Connections are spread over the reactors, each served by the lane of its own; a client that opens several gets
/// several lanes (`NBD_FLAG_CAN_MULTI_CONN`).
pub struct NbdServer {
    path: PathBuf,
    /// Device and inode of the socket: what is removed must be what was made.
    file: (u64, u64),
    table: Arc<Table>,
    listener: Mutex<Option<(Reactor, ServiceId)>>,
}

impl NbdServer {
    /// Starts to listen. `reactors` are those of the host whose namespaces will be exported, or some of them.
    ///
    /// # Errors
    /// If there is no reactor, or the socket cannot be made.
    pub fn start(reactors: &[Reactor], settings: NbdSettings) -> Result<Self, ExportError> {
        let Some(first) = reactors.first() else { return Err(ExportError::NoReactor) };
        let socket = listen(&settings)?;
        let NbdSettings { socket: path, memory, .. } = settings;
        let file = fs::metadata(&path).map(|meta| (meta.dev(), meta.ino()));
        let file = file.map_err(|source| ExportError::Socket { path: path.clone(), source })?;
        let table = Arc::new(Table::new(memory));
        let service = ListenerService::new(Arc::clone(&table), reactors.to_vec());
        let id = first.attach(move |cx| service.attach(cx, socket)).map_err(|_| ExportError::NoReactor)?;
        Ok(Self { path, file, table, listener: Mutex::new(Some((first.clone(), id))) })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.path
    }

    /// Offers a namespace.
    ///
    /// # Errors
    /// If the name is taken or too long.
    pub fn add(&self, settings: ExportSettings) -> Result<(), ExportError> {
        self.table.add(settings)
    }

    /// The namespace has another size or write protection now (`NamespaceResized` of the host). New connections are told;
    /// those that stand can use what was added, and get errors beyond the new end.
    ///
    /// # Errors
    /// If there is no such export.
    pub fn reshape(&self, name: &str, shape: Shape) -> Result<(), ExportError> {
        self.table.reshape(name, shape)
    }

    /// Nobody new is let in, and clients that are there get errors, until it is [opened](NbdServer::open) again: its namespace
    /// is gone, or another one is there. What they have in flight is abandoned.
    ///
    /// # Errors
    /// If there is no such export.
    pub fn shut(&self, name: &str) -> Result<(), ExportError> {
        self.table.set_gate(name, None)
    }

    /// Clients go on, through this handle. It must be the disk that the export was made for: [`Permit`](crate::Permit)
    /// says whether it is.
    ///
    /// # Errors
    /// If there is no such export, or blocks have another size than clients were promised.
    pub fn open(&self, name: &str, namespace: Namespace) -> Result<(), ExportError> {
        self.table.set_gate(name, Some(namespace))
    }

    /// Offers it no more, and ends its connections.
    ///
    /// # Errors
    /// If there is no such export, if it is in use ([`Stop::IfUnused`]; nothing has changed then), or if connections have
    /// not ended in time (it is offered no more, and they go on ending).
    pub fn remove(&self, name: &str, how: Stop, within: Duration) -> Result<(), ExportError> {
        self.table.remove(name, how, within)
    }

    /// What stands.
    #[must_use]
    pub fn status(&self) -> Vec<ExportStatus> {
        self.table.status(&self.path)
    }

    /// Ends everything. May be called again, with more force.
    ///
    /// # Errors
    /// As [`NbdServer::remove`].
    pub fn stop(&self, how: Stop, within: Duration) -> Result<(), ExportError> {
        let ended = self.table.close(how, within);
        if !matches!(ended, Err(ExportError::InUse { .. })) {
            self.stop_listening(DETACH_WITHIN);
        }
        ended
    }

    fn stop_listening(&self, within: Duration) {
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((reactor, id)) = listener else { return };
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.file) {
            // If it cannot be removed, the next server finds that nobody listens.
            let _ = fs::remove_file(&self.path);
        }
        let detaching = reactor.detach(id);
        if !within.is_zero() {
            let _ = detaching.wait(within); // a stuck reactor takes no connections either
        }
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        let _ = self.table.close(Stop::Force, Duration::ZERO); // nobody is left to wait
        self.stop_listening(Duration::ZERO);
    }
}

/// Makes the socket, with its mode from the first moment on.
fn listen(settings: &NbdSettings) -> Result<OwnedFd, ExportError> {
    let path = &settings.socket;
    clear(path)?;
    make(settings).map_err(|source| ExportError::Socket { path: path.clone(), source })
}

fn make(settings: &NbdSettings) -> io::Result<OwnedFd> {
    let path = &settings.socket;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux creates the file with the mode of the socket, so that it never stands open for others.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(settings.mode & 0o600))?;
    rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
    if let Some(group) = settings.group {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(settings.mode))?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd)
}

/// Removes a socket that nobody listens on; anything else stays and is an error.
fn clear(path: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Socket { path: path.to_owned(), source };
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(failed)?,
    };
    if !found.file_type().is_socket() {
        return Err(ExportError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ExportError::SocketInUse { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}
