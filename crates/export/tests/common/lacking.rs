//! A controller without some optional commands: what it lacks is renamed on the way to a target, which does not know it then.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// A vendor specific command that nobody has; the two lowest bits say which way data goes.
const UNKNOWN: u8 = 0xfc;

/// Stands before a port, without digests; `opcodes` of I/O queues are not known behind it. It ends with the test.
pub fn start(port: SocketAddr, opcodes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for host in listener.incoming() {
            let (Ok(host), Ok(target)) = (host, TcpStream::connect(port)) else { continue };
            let (back, there) = (target.try_clone().expect("a socket"), host.try_clone().expect("a socket"));
            std::thread::spawn(move || pump(back, there));
            std::thread::spawn(move || rename(host, target, opcodes));
        }
    });
    addr
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to); // its end is the end of both
    let _ = to.shutdown(Shutdown::Both);
}

/// PDU by PDU: byte 0 is the type, bytes 4 to 7 the length; the command of a capsule (type 4) begins at byte 8.
fn rename(mut host: TcpStream, mut target: TcpStream, opcodes: &[u8]) {
    let mut io = false;
    let mut head = [0; 8];
    while host.read_exact(&mut head).is_ok() {
        let len = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
        let mut rest = vec![0; len - head.len()];
        if host.read_exact(&mut rest).is_err() {
            break;
        }
        if head[0] == 4 {
            match rest[0] {
                // Connect: the number of the queue.
                0x7f if rest[4] == 1 => io = rest[42..44] != [0, 0],
                opcode if io && opcodes.contains(&opcode) => rest[0] = UNKNOWN | opcode & 3,
                _ => {}
            }
        }
        if target.write_all(&[&head[..], &rest].concat()).is_err() {
            break;
        }
    }
    let _ = target.shutdown(Shutdown::Both);
    let _ = host.shutdown(Shutdown::Both);
}
