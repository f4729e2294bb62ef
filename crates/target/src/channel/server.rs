//! The answering side of the control channel: threads of its own, because no answer may wait on a reactor.

use super::request::Reply;
use super::{ANSWER_WITHIN, Answer, ChannelError, LINE_MAX, Request};
use crate::{PortId, Target, TargetError};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients at once. Whoever has asked nothing for longest makes room for one more: an operator must get in whatever others leave open.
const CLIENTS_MAX: usize = 16;

/// How long a client may say nothing.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// How long the accepting thread rests after the kernel could not give it a connection.
const RETRY: Duration = Duration::from_millis(100);

/// The control socket of a target. It is removed, and its clients are let go, when this is dropped.
pub struct Server {
    path: PathBuf,
    /// The file that was made there. Another target may have put its own in that place since.
    file: Option<(u64, u64)>,
    stop: Arc<OwnedFd>,
    clients: Arc<Clients>,
    acceptor: Option<JoinHandle<()>>,
}

/// The clients of now, by number.
#[derive(Default)]
struct Clients {
    known: Mutex<BTreeMap<u64, Known>>,
}

struct Known {
    stream: UnixStream,
    /// Since when it has asked nothing; none while it is answered.
    idle: Option<Instant>,
}

/// What a client's thread works with.
struct Desk {
    target: Arc<Target>,
    on_shutdown: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// Listens on `path`, for its owner only. `on_shutdown` is called when a client asks for the end: it is to make the
    /// program end, not to wait for it.
    ///
    /// # Errors
    /// If something is there that is no left-over socket, or the socket cannot be made.
    pub fn start(
        path: &Path,
        target: Arc<Target>,
        on_shutdown: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, ChannelError> {
        let failed = |source: io::Error| ChannelError::Bind { path: path.to_owned(), source };
        make_way(path)?;
        let listener = bind(path).map_err(failed)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?);
        let clients = Arc::new(Clients::default());
        let desk = Arc::new(Desk { target, on_shutdown: Box::new(on_shutdown) });
        let file = file_at(path);
        let mut server =
            Self { path: path.to_owned(), file, stop: stop.clone(), clients: clients.clone(), acceptor: None };
        let accept = move || accept_all(&listener, &stop, &clients, &desk);
        server.acceptor = Some(std::thread::Builder::new().name("control".into()).spawn(accept).map_err(failed)?);
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Writing 1 to an eventfd of value 0 cannot fail.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(acceptor) = self.acceptor.take() {
            // It does nothing that can panic.
            let _ = acceptor.join();
        }
        for known in self.clients.lock().values() {
            // A client that has gone needs no end.
            let _ = known.stream.shutdown(Shutdown::Read);
        }
        if self.file.is_some() && self.file == file_at(&self.path) {
            // Somebody may tidy up at the same time.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in, if there is a place or somebody can make one.
    fn admit(&self, number: u64, stream: UnixStream) -> bool {
        let mut known = self.lock();
        if known.len() >= CLIENTS_MAX {
            let idle = known.iter().filter_map(|(number, other)| Some((other.idle?, *number))).min();
            let Some(other) = idle.and_then(|(_, number)| known.remove(&number)) else { return false };
            // Its thread reads the end.
            let _ = other.stream.shutdown(Shutdown::Both);
        }
        known.insert(number, Known { stream, idle: Some(Instant::now()) });
        true
    }

    /// It asks for something now, or waits until it does.
    fn mark(&self, number: u64, idle: Option<Instant>) {
        if let Some(known) = self.lock().get_mut(&number) {
            known.idle = idle;
        }
    }

    fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }
}

/// The file at a path, by device and inode.
fn file_at(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Removes the socket of a target that has died. Anything else stays.
fn make_way(path: &Path) -> Result<(), ChannelError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let path = path.to_owned();
    if !found.file_type().is_socket() {
        return Err(ChannelError::NoSocket { path });
    }
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&path).map_err(|source| ChannelError::Bind { path, source })
        }
        Ok(_) => Err(ChannelError::InUse { path }),
        Err(source) => Err(ChannelError::Bind { path, source }),
    }
}

/// A listening socket that was never open to anybody else, not even between two calls.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // The file gets the mode of the socket.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

fn accept_all(listener: &UnixListener, stop: &OwnedFd, clients: &Arc<Clients>, desk: &Arc<Desk>) {
    for number in 0.. {
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) if !fds[1].revents().is_empty() => return,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        match listener.accept() {
            Ok((stream, _)) => welcome(number, stream, clients, desk),
            // No descriptors left, for example: others may let go of some.
            Err(_) => std::thread::park_timeout(RETRY),
        }
    }
}

fn welcome(number: u64, stream: UnixStream, clients: &Arc<Clients>, desk: &Arc<Desk>) {
    let (clients, desk) = (clients.clone(), desk.clone());
    let begin = || -> io::Result<()> {
        stream.set_read_timeout(Some(IDLE_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        if !clients.admit(number, stream.try_clone()?) {
            return say(&stream, Err(format!("{CLIENTS_MAX} clients are being answered: try again later")));
        }
        let serving = clients.clone();
        let thread = std::thread::Builder::new().name("control-client".into()).spawn(move || {
            // A client that went away needs nothing more.
            let _ = serve(number, &stream, &serving, &desk);
            serving.forget(number);
        });
        thread.map(drop).inspect_err(|_| clients.forget(number))
    };
    // What cannot be welcomed is let go; it sees the end of the stream.
    let _ = begin();
}

fn serve(number: u64, stream: &UnixStream, clients: &Clients, desk: &Desk) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line)?;
        clients.mark(number, None);
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LINE_MAX {
            return say(stream, Err(format!("a request has at most {LINE_MAX} bytes")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            clients.mark(number, Some(Instant::now()));
            continue;
        }
        let request = Request::from_line(&line);
        let ends = request == Ok(Request::Shutdown {});
        let outcome = request.and_then(|request| desk.target.carry_out(request).map_err(|error| error.to_string()));
        say(stream, outcome)?;
        if ends {
            (desk.on_shutdown)();
        }
        clients.mark(number, Some(Instant::now()));
    }
}

fn say(mut stream: &UnixStream, outcome: Result<Answer, String>) -> io::Result<()> {
    let mut line = serde_json::to_string(&Reply::new(outcome))?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

impl Target {
    /// Does what a request asks for. A shutdown is only acknowledged: whoever holds the target ends it.
    ///
    /// # Errors
    /// Why it cannot be done. Nothing has changed then.
    pub fn carry_out(&self, request: Request) -> Result<Answer, TargetError> {
        Ok(match request {
            Request::Status {} => Answer::Status(Box::new(self.status()?)),
            Request::NamespaceAdd(config) => {
                let nsid = self.add_namespace(&config)?;
                let namespaces = self.status()?.namespaces;
                let bytes = namespaces.iter().find(|known| known.nsid == nsid).map_or(0, |known| known.bytes);
                Answer::Namespace { nsid, bytes }
            }
            Request::NamespaceResize { nsid, bytes } => {
                Answer::Namespace { nsid, bytes: self.resize_namespace(nsid, bytes)? }
            }
            Request::NamespaceRemove { nsid } => {
                self.remove_namespace(nsid)?;
                Answer::Done
            }
            Request::NamespaceClearError { nsid } => Answer::Cleared { failed: self.clear_flush_error(nsid)? },
            Request::Ana { port, group, state } => Answer::Ana { changed: self.set_ana(PortId(port), group, state)? },
            Request::PortClose { port } => {
                self.close_port(PortId(port))?;
                Answer::Done
            }
            Request::PortOpen { port } => Answer::Port { listen: self.open_port(PortId(port))? },
            Request::Fault { fault } => {
                self.script_config(fault)?;
                Answer::Done
            }
            Request::Shutdown {} => Answer::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asked_nothing_for_longest_makes_room() {
        let clients = Clients::default();
        let mut others = Vec::new();
        for number in 0..CLIENTS_MAX as u64 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            assert!(clients.admit(number, ours));
            others.push(theirs);
        }
        // The first one is being answered, and the second has just asked for something.
        clients.mark(0, None);
        clients.mark(1, Some(Instant::now() + Duration::from_secs(1)));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(clients.admit(100, ours));
        assert_eq!(others[2].read(&mut [0]).unwrap(), 0, "it reads the end");
        assert!([0, 1, 3, 100].iter().all(|number| clients.lock().contains_key(number)));
        let numbers: Vec<u64> = clients.lock().keys().copied().collect();
        numbers.iter().for_each(|number| clients.mark(*number, None));
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(!clients.admit(101, ours), "all are being answered");
    }
}
