//! What the kernel says about earlier processes: whether the machine was started since, and which sockets exist.

use super::SocketPair;
use super::format::Place;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

/// A socket in this state sends nothing but acknowledgments of what the peer sends again (TIME_WAIT).
const TIME_WAIT: &str = "06";

/// Where this process runs.
pub(super) fn place() -> io::Result<Place> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let netns = std::fs::metadata("/proc/self/ns/net")?.ino();
    Ok(Place { boot, netns })
}

/// True if a process of this number exists in this PID namespace.
pub(crate) fn is_running(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Which of these connections the kernel still knows.
///
/// A connection with the same two ends may be a later one: a process that comes after a dead one may be given the same port,
/// and so may any other. It is the old one only if its socket is: by its number, or because it belongs to no process any
/// more and has none. Where the number was not recorded, a socket of this process is not it. The peer says something only
/// in that case: a program in the kernel that redirects connections shows the process another one than the table has.
///
/// # Errors
/// If the tables of the kernel cannot be read: then nothing is known to be gone.
pub(crate) fn still_open(pairs: &[SocketPair]) -> io::Result<Vec<SocketPair>> {
    let mut open: BTreeMap<End, Vec<(End, u64)>> = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(text) => {
                for ((local, peer), inode) in connections(&text) {
                    open.entry(local).or_default().push((peer, inode));
                }
            }
            // Without IPv6 there is no such table, and no such socket.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    let found = |pair: &SocketPair| open.get(&plain(pair.local)).into_iter().flatten();
    let has_ends = |pair: &SocketPair, peer: &End| *peer == plain(pair.peer);
    let unnumbered = pairs.iter().any(|pair| pair.inode == 0 && found(pair).any(|(peer, _)| has_ends(pair, peer)));
    let mine = if unnumbered { own_sockets()? } else { BTreeSet::new() };
    let is_old = |pair: &&SocketPair| {
        found(pair).any(|(peer, inode)| match (*inode, pair.inode) {
            (0, _) => true,
            (inode, 0) => has_ends(pair, peer) && !mine.contains(&inode),
            (inode, old) => inode == old,
        })
    };
    Ok(pairs.iter().filter(is_old).copied().collect())
}

/// The numbers of the sockets that this process has open.
fn own_sockets() -> io::Result<BTreeSet<u64>> {
    let mut own = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        // One that was closed since is none.
        let Ok(link) = std::fs::read_link(entry?.path()) else { continue };
        let number: Option<u64> =
            link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        own.extend(number);
    }
    Ok(own)
}

type End = (IpAddr, u16);

/// Without scope, and an IPv4 address as itself in whatever socket it is used.
fn plain(addr: SocketAddr) -> End {
    (addr.ip().to_canonical(), addr.port())
}

/// Both ends of every connection in a table as the kernel prints it (`Documentation/networking/proc_net_tcp.rst`), and the number
/// of its socket; 0 if no process has it.
fn connections(table: &str) -> impl Iterator<Item = ((End, End), u64)> {
    table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, peer, state) = (end(words.next()?)?, end(words.next()?)?, words.next()?);
        let inode = words.nth(5).and_then(|inode| inode.parse().ok()).unwrap_or(0);
        (state != TIME_WAIT).then_some(((local, peer), inode))
    })
}

/// `0100007F:1F90`: words of 32 bits in the byte order of the machine, then the port.
fn end(text: &str) -> Option<End> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_shows_a_connection_until_it_is_gone() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue }; // No IPv6 here.
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (far, _) = listener.accept().unwrap();
            let inode =
                std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&near))).unwrap().ino();
            let pair = SocketPair { local: near.local_addr().unwrap(), peer: near.peer_addr().unwrap(), inode };
            let other = SocketPair { local: "192.0.2.1:4420".parse().unwrap(), ..pair };
            assert_eq!(still_open(&[other, pair]).unwrap(), [pair]);
            // Redirected on its way: the process is told the peer that it asked for, and the table has the real one.
            let redirected = SocketPair { peer: "192.0.2.1:4420".parse().unwrap(), ..pair };
            assert_eq!(still_open(&[redirected]).unwrap(), [redirected]);
            // The same ends, and another socket: the old one is gone. Without a number it is gone if this process has them.
            assert_eq!(still_open(&[SocketPair { inode: inode + 1, ..pair }]).unwrap(), []);
            assert_eq!(still_open(&[SocketPair { inode: 0, ..pair }]).unwrap(), []);
            // A process that is killed resets its connections, as a linger time of zero has them.
            drop(far);
            socket2::SockRef::from(&near).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            drop(near);
            assert_eq!(still_open(&[pair]).unwrap(), []);
        }
    }

    #[test]
    fn tables_are_read_as_the_kernel_prints_them() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                     0: 0100007F:A2C4 0100007F:1144 01 00000000:00000000 00:00000000 00000000  1000        0 8214 1 0\n   \
                     1: 0100007F:A2C5 0100007F:1144 06 00000000:00000000 00:00000000 00000000  1000\n   \
                     2: 0000000000000000FFFF00000100007F:A2C6 0000000000000000FFFF00000100007F:1144 04 0\n   \
                     3: nonsense\n";
        if cfg!(target_endian = "little") {
            let here = |port| (IpAddr::V4(Ipv4Addr::LOCALHOST), port);
            let found: Vec<_> = connections(table).collect();
            assert_eq!(found, [((here(0xA2C4), here(4420)), 8214), ((here(0xA2C6), here(4420)), 0)]);
        }
    }

    #[test]
    fn this_process_runs_somewhere() {
        let here = place().unwrap();
        assert!(here.boot.len() == 36 && here.netns != 0, "{here:?}");
        assert!(is_running(std::process::id()));
    }
}
