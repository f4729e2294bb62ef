//! Sockets as a fencing host needs them.
//!
//! Every socket is born with `SO_LINGER {1,0}`: if the process dies, the kernel resets its connections instead of
//! delivering what they have queued (measured: without it every queued byte is delivered after SIGKILL). Only an
//! orderly [`crate::Cx::close`] switches that off.

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Where and how to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// The peer.
    pub addr: SocketAddr,
    /// The local address to come from; port 0 lets the kernel choose one.
    pub local: Option<SocketAddr>,
    /// The network interface to use (`SO_BINDTODEVICE`).
    pub iface: Option<String>,
    /// How long sent bytes may stay unacknowledged before the kernel gives the connection up (`TCP_USER_TIMEOUT`,
    /// milliseconds resolution); `None` leaves the system's default.
    pub user_timeout: Option<Duration>,
}

impl ConnectOptions {
    /// To `addr`, with nothing else asked for.
    #[must_use]
    pub const fn to(addr: SocketAddr) -> Self {
        Self { addr, local: None, iface: None, user_timeout: None }
    }
}

/// A connection without a reactor, on its way to another one: [`crate::Cx::release`], [`crate::Cx::adopt`].
/// Dropping it aborts the connection.
#[derive(Debug)]
pub struct Loose(Option<Arc<Socket>>);

impl Loose {
    pub(crate) const fn new(socket: Arc<Socket>) -> Self {
        Self(Some(socket))
    }

    pub(crate) fn into_socket(mut self) -> Arc<Socket> {
        self.0.take().expect("taken only here")
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // The poll of its former reactor may keep the socket alive for a moment: end the connection itself.
            let _ = cut(socket);
        }
    }
}

/// Ends a connection from any thread, for the case that its reactor is stuck. It keeps no socket alive: what its reactor
/// has closed or aborted is out of its reach. Dropping it ends nothing.
#[derive(Clone, Debug)]
pub struct Aborter(pub(crate) Weak<Socket>);

impl Aborter {
    /// Empties the send queue and resets the connection. When this returns `Ok`, nothing of the queue can be sent any
    /// more, and nothing can be added to it. A connection that its reactor has aborted stays so; one that its reactor has
    /// closed in order, which the kernel may still be delivering, is not touched.
    ///
    /// # Errors
    /// The kernel refused (a security module): the connection must be treated as alive.
    pub fn abort(&self) -> io::Result<()> {
        self.0.upgrade().map_or(Ok(()), |socket| cut(&socket))
    }
}

/// Empties the send queue and resets the connection, however many descriptors or operations in flight keep it alive.
pub(crate) fn cut(socket: &Socket) -> io::Result<()> {
    if is_local(socket) {
        // There is no send queue: what was sent lies in the peer's receive buffer already.
        return socket.shutdown(Shutdown::Both);
    }
    socket.set_linger(Some(Duration::ZERO))?;
    rustix::net::connect_unspec(socket)?;
    Ok(())
}

/// A socket that connects. The outcome is told by poll.
pub(crate) fn connecting(options: &ConnectOptions) -> io::Result<Socket> {
    let name = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    let socket = new(options.addr)?;
    if let Some(timeout) = options.user_timeout {
        socket.set_tcp_user_timeout(Some(timeout)).map_err(|error| name("TCP_USER_TIMEOUT", error))?;
    }
    if let Some(iface) = &options.iface {
        socket.bind_device(Some(iface.as_bytes())).map_err(|error| name(&format!("interface {iface}"), error))?;
    }
    if let Some(local) = options.local {
        socket.bind(&SockAddr::from(local)).map_err(|error| name(&format!("local address {local}"), error))?;
    }
    match socket.connect(&SockAddr::from(options.addr)) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(socket),
        Err(error) => Err(name(&format!("connect to {}", options.addr), error)),
    }
}

/// What became of a connecting socket that poll has reported. `None`: not decided yet.
pub(crate) fn outcome(socket: &Socket) -> Option<io::Result<()>> {
    match socket.take_error() {
        Err(error) | Ok(Some(error)) => return Some(Err(error)),
        Ok(None) => {}
    }
    match (socket.peer_addr(), socket.local_addr()) {
        // A client port that happens to be the port asked for connects to itself; nobody listens there.
        (Ok(peer), Ok(local)) if peer.as_socket() == local.as_socket() => {
            Some(Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)))
        }
        (Ok(_), Ok(_)) => Some(Ok(())),
        _ => None,
    }
}

/// Connections that wait to be accepted, at most; the system's own limit applies too.
const BACKLOG: i32 = 1024;

/// A listening socket.
pub(crate) fn listening(addr: SocketAddr) -> io::Result<Socket> {
    let socket = new(addr)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    let name = |error: io::Error| io::Error::new(error.kind(), format!("listen on {addr}: {error}"));
    socket.bind(&SockAddr::from(addr)).map_err(name)?;
    socket.listen(BACKLOG).map_err(name)?;
    Ok(socket)
}

fn new(addr: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    dress(&socket)?;
    Ok(socket)
}

/// A peer that went away without a word is found out by the kernel after a minute and a half, even if nothing is to be sent to
/// it: whoever accepts connections cannot know when their peers want to speak next.
const WATCH: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(3);

/// What every connection has, made or accepted (accepted ones inherit it, but not on every system's word).
pub(crate) fn dress(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)
}

/// A listening socket that somebody else has made: a Unix socket with its own name and mode, or one that was inherited.
pub(crate) fn adopted(fd: OwnedFd) -> io::Result<Socket> {
    let socket = Socket::from(fd);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket of this machine only (`AF_UNIX`).
fn is_local(socket: &Socket) -> bool {
    socket.domain().is_ok_and(|domain| domain == Domain::UNIX)
}

/// A connection that was taken.
pub(crate) enum Accepted {
    /// Over TCP: with the peer's address and the one it connected to.
    Tcp(Socket, SocketAddr, SocketAddr),
    /// Over a Unix socket.
    Local(Socket),
}

/// Takes one connection. `Ok(None)`: none is waiting.
pub(crate) fn accept(listener: &Socket) -> io::Result<Option<Accepted>> {
    loop {
        let (socket, peer) = match listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) {
            Ok(accepted) => accepted,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                // The connection was gone before it was taken; the next one is as good.
                Some(libc::EINTR | libc::ECONNABORTED | libc::EPROTO) => continue,
                _ => return Err(error),
            },
        };
        if is_local(&socket) {
            return Ok(Some(Accepted::Local(socket)));
        }
        // What fails here has died meanwhile, and the next one is as good.
        let dressed = dress(&socket).and_then(|()| socket.set_tcp_keepalive(&WATCH));
        let Ok(local) = dressed.and_then(|()| socket.local_addr()) else { continue };
        let (Some(peer), Some(local)) = (peer.as_socket(), local.as_socket()) else { continue };
        return Ok(Some(Accepted::Tcp(socket, peer, local)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;

    #[test]
    fn peers_of_accepted_connections_are_watched() {
        let listener = listening("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _peer = std::net::TcpStream::connect(address).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let socket = loop {
            match accept(&listener).unwrap() {
                Some(Accepted::Tcp(socket, ..)) => break socket,
                Some(Accepted::Local(_)) => panic!("a TCP socket"),
                None => assert!(std::time::Instant::now() < deadline, "nobody came"),
            }
        };
        assert!(socket.keepalive().unwrap());
        let times = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
        assert_eq!(times, (Duration::from_secs(60), Duration::from_secs(10)));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    /// What the kernel does for a process that dies is what it does when the last descriptor is closed.
    #[test]
    fn what_a_process_had_queued_dies_with_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = connecting(&ConnectOptions::to(listener.local_addr().unwrap())).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut queued = 0;
        // More than both kernels buffer: the peer reads nothing meanwhile.
        loop {
            match socket.write(&[0x5a; 1 << 16]) {
                Ok(bytes) => queued += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        drop(socket);
        let mut arrived = 0;
        let error = loop {
            match peer.read(&mut [0; 1 << 16]) {
                Ok(0) => panic!("it was ended in order: {arrived} of {queued} bytes were delivered"),
                Ok(bytes) => arrived += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(arrived < queued, "all {queued} bytes were delivered");
    }
}
