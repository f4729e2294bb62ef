//! Hostile peers of every kind at once, for as long as wanted, beside one good host.
//!
//! ```sh
//! INTERLOCK_HOSTILE_SECONDS=7200 cargo test --release -p interlock-cli --test cli hostile -- --ignored --nocapture
//! ```
//! Without the variable it takes 15 minutes. It prints what the target held, and how long the good host waited beside another one
//! whose target has no enemies, and which does the same at the same time.
//!
//! Where processor time is scarce (a control group with a quota) it shows who gets what there is: the enemies' own threads have the
//! lowest priority, so what the good host has to wait for is the target.

use crate::beside::Beside;
use crate::child::{NQN, Target};
use crate::load::{Good, pass};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Signal, setpriority_process};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the peers may make the target hold.
const MEMORY_MIB: u64 = 128;

/// Addresses of each kind of peers.
const ADDRESSES: u8 = 3;

/// Connections that one peer has at once.
const CONNECTIONS: usize = 40;

fn seconds() -> u64 {
    std::env::var("INTERLOCK_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(900)
}

/// What a hostile peer does with a connection, and with another one that it may open; both are dropped when too many came after
/// them.
type Habit = fn(&mut TcpStream, u64) -> io::Result<Option<TcpStream>>;

const HABITS: [(&str, Habit); 9] = [
    ("connects and says nothing", |_, _| Ok(None)),
    ("sends noise", |stream, salt| stream.write_all(&noise(salt)).map(|()| None)),
    ("sends half of an ICReq", |stream, _| stream.write_all(&icreq()[..64]).map(|()| None)),
    ("connects controllers without keep alive and falls silent", |stream, salt| admin(stream, salt).map(|_| None)),
    ("asks for megabytes of log and takes nothing", |stream, salt| {
        admin(stream, salt)?;
        let asks: Vec<u8> =
            (0..30u16).flat_map(|n| command(2, 10 + n, u32::MAX, 1 << 20, &[2, 0, 0xff, 0xff, 3, 0])).collect();
        stream.write_all(&asks).map(|()| None)
    }),
    ("asks for megabytes of log and takes them as fast as it can", |stream, salt| {
        admin(stream, salt)?;
        let asks: Vec<u8> =
            (0..30u16).flat_map(|n| command(2, 10 + n, u32::MAX, 1 << 20, &[2, 0, 0xff, 0xff, 3, 0])).collect();
        let mut taken = vec![0; 1 << 20];
        for _ in 0..10 {
            stream.write_all(&asks)?;
            (0..30).try_for_each(|_| stream.read_exact(&mut taken))?;
        }
        Ok(None)
    }),
    ("reads megabytes and takes nothing", |stream, salt| {
        let cntlid = admin(stream, salt)?;
        let mut io = again(stream)?;
        queue(&mut io, salt, 1, cntlid)?;
        let mut rest = [0; 10];
        rest[8] = 255;
        let asks: Vec<u8> = (0..30u16).flat_map(|n| command(2, 10 + n, 1, 1 << 20, &rest)).collect();
        io.write_all(&asks)?;
        Ok(Some(io))
    }),
    ("announces data that never comes", |stream, salt| {
        admin(stream, salt)?;
        // Set Features with data of 4 KiB by R2T.
        let asks: Vec<u8> = (0..30u16).flat_map(|n| command(9, 10 + n, 0, 4096, &[0x81])).collect();
        stream.write_all(&asks).map(|()| None)
    }),
    ("makes errors as fast as it can", |stream, salt| {
        admin(stream, salt)?;
        let asks: Vec<u8> = (0..30u16).flat_map(|n| command(0xc1, 10 + n, 0, 0, &[])).collect();
        for _ in 0..100 {
            stream.write_all(&asks)?;
            let mut answers = vec![0; 24 * 30];
            stream.read_exact(&mut answers)?;
        }
        Ok(None)
    }),
];

fn noise(salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..4096).map(next).collect()
}

fn icreq() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    (bytes[2], bytes[4]) = (128, 128);
    bytes
}

/// A command capsule without data in it.
fn command(opcode: u8, cid: u16, dword1: u32, len: u32, rest: &[u8]) -> Vec<u8> {
    let mut pdu = vec![4, 0, 72, 0, 72, 0, 0, 0];
    let mut entry = [0; 64];
    (entry[0], entry[1]) = (opcode, 0x40);
    entry[2..4].copy_from_slice(&cid.to_le_bytes());
    entry[4..8].copy_from_slice(&dword1.to_le_bytes());
    entry[32..36].copy_from_slice(&len.to_le_bytes());
    entry[39] = 0x5a;
    entry[40..40 + rest.len()].copy_from_slice(rest);
    pdu.extend(entry);
    pdu
}

fn dial(from: Ipv4Addr, number: u16) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.set_write_timeout(Some(Duration::from_secs(2)))?;
    Ok(stream)
}

/// Another connection from the same address to the same port.
fn again(stream: &TcpStream) -> io::Result<TcpStream> {
    let std::net::SocketAddr::V4(local) = stream.local_addr()? else { return Err(io::ErrorKind::Unsupported.into()) };
    dial(*local.ip(), stream.peer_addr()?.port())
}

/// Initialises a connection and connects a queue; answers DW0.
fn queue(stream: &mut TcpStream, salt: u64, qid: u16, cntlid: u16) -> io::Result<u16> {
    stream.write_all(&icreq())?;
    let mut icresp = [0; 128];
    stream.read_exact(&mut icresp)?;
    let mut rest = vec![0; 2];
    rest.extend(qid.to_le_bytes());
    rest.extend([31, 0, 0, 0, 0, 0, 0, 0]);
    let mut capsule = command(0x7f, 1, 1, 1024, &rest);
    capsule[8 + 39] = 1;
    capsule[3] = 72;
    capsule[4..8].copy_from_slice(&(72 + 1024u32).to_le_bytes());
    let mut data = vec![0; 1024];
    data[..8].copy_from_slice(&(salt | 1).to_le_bytes());
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + NQN.len()].copy_from_slice(NQN.as_bytes());
    let host = format!("nqn.2014-08.org.nvmexpress:uuid:22222222-2222-4222-8222-{salt:012x}");
    data[512..512 + host.len()].copy_from_slice(host.as_bytes());
    capsule.extend(data);
    stream.write_all(&capsule)?;
    let mut answer = [0; 24];
    stream.read_exact(&mut answer)?;
    if answer[0] != 5 || answer[22] != 0 || answer[23] != 0 {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(u16::from_le_bytes([answer[8], answer[9]]))
}

/// An enabled controller; its Controller Identifier.
fn admin(stream: &mut TcpStream, salt: u64) -> io::Result<u16> {
    let cntlid = queue(stream, salt & 0xffff_ffff, 0, 0xffff)?;
    let mut rest = vec![0; 4];
    rest.extend(0x14_u32.to_le_bytes());
    rest.extend(0x0046_0001_u32.to_le_bytes());
    let mut set = command(0x7f, 2, 0, 0, &rest);
    set[8 + 4] = 0;
    stream.write_all(&set)?;
    let mut answer = [0; 24];
    stream.read_exact(&mut answer)?;
    Ok(cntlid)
}

/// Lets everything else of this machine run before this thread. Enemies have machines of their own: here they must not take the
/// processor from the good host or from the target by running themselves, only by what they make the target do.
fn stand_back() {
    setpriority_process(None, 19).expect("anybody may become less important");
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[test]
#[ignore = "takes as long as it is told to, 15 minutes by default"]
fn hostile_peers_of_every_kind_leave_the_good_one_alone() {
    let socket = format!("{}/{}-hostile.sock", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let limit = format!("memory_mib={MEMORY_MIB},transfer_ms=20000,controllers=512,connections=2000");
    let target = Target::start_quiet(
        &["sh", "-c", "ulimit -n 4096; exec \"$@\"", "sh"],
        &["--port", "127.0.0.1:0", "--namespace", "mem:4M", "--control", &socket, "--limit", &limit],
    );
    let port: u16 = target.port(0).parse().expect("a port");
    let status = || -> Value {
        let said = crate::child::succeed(&["target", "ctl", "--control", &socket, "-o", "json", "status"]);
        serde_json::from_str(&said).expect("JSON")
    };
    let good = Good::new(&[port]);
    good.pass(0, &[1, 16, 64]);
    let calm_target = Target::start_quiet(&[], &["--port", "127.0.0.1:0", "--namespace", "mem:4M"]);
    let calm = Good::new(&[calm_target.port(0).parse().expect("a port")]);
    let before = status();
    let over = AtomicBool::new(false);
    let tried: [AtomicU64; HABITS.len()] = std::array::from_fn(|_| AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds());
    let (mut waits, mut most_held, mut most_resident) = (Beside::default(), 0, 0);
    std::thread::scope(|scope| {
        for (which, (_, habit)) in HABITS.iter().enumerate() {
            for n in 0..ADDRESSES {
                let (over, tried) = (&over, &tried);
                scope.spawn(move || {
                    stand_back();
                    let from = Ipv4Addr::new(127, 0, 1 + n, 1 + which as u8);
                    let mut held: VecDeque<(TcpStream, Option<TcpStream>)> = VecDeque::new();
                    let mut salt = u64::from(n) << 24 | (which as u64) << 16;
                    while !over.load(Ordering::Relaxed) {
                        salt += 1;
                        tried[which].fetch_add(1, Ordering::Relaxed);
                        // What the target refuses or ends is what it should.
                        if let Ok(mut stream) = dial(from, port)
                            && let Ok(second) = habit(&mut stream, salt)
                        {
                            held.push_back((stream, second));
                        }
                        if held.len() > CONNECTIONS {
                            held.pop_front();
                        }
                        std::thread::park_timeout(Duration::from_millis(20));
                    }
                });
            }
        }
        while Instant::now() < end {
            let salt = waits.passes() as u8;
            let over = |namespace| pass(namespace, salt, &[1, 16, 64, 1, 4]);
            let (among, alone) = (&good.namespace, &calm.namespace);
            waits.at_once(|| over(among), || over(alone));
            if waits.passes().is_multiple_of(20) {
                let now = status();
                most_held = most_held.max(number(&now["quota"]["held"]));
                most_resident = most_resident.max(number(&now["memory"]["resident"]));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    good.pass(99, &[1, 16, 64]);
    let deadline = Instant::now() + Duration::from_secs(120);
    let after = loop {
        let now = status();
        let count = |what: &str| now[what].as_array().expect("a list").len();
        // What is lost drains for the quiesce time.
        if count("connections") <= 2 && count("lives") <= 1 || Instant::now() > deadline {
            break now;
        }
        std::thread::park_timeout(Duration::from_secs(1));
    };
    let mut err = io::stderr().lock();
    for ((words, _), tried) in HABITS.iter().zip(&tried) {
        writeln!(err, "{:>8} times: {words}", tried.load(Ordering::Relaxed)).expect("standard error");
    }
    let resident = |status: &Value| number(&status["memory"]["resident"]) >> 10;
    writeln!(
        err,
        "{} s; passes of the good host {waits}; held at most {} of {} KiB; resident {} KiB before, {} at most, {} after; {} refused",
        seconds(),
        most_held >> 10,
        MEMORY_MIB << 10,
        resident(&before),
        most_resident >> 10,
        resident(&after),
        after["quota"]["refused"]
    )
    .expect("standard error");
    assert!(most_held <= MEMORY_MIB << 20, "the stated total holds");
    assert!(most_resident < number(&before["memory"]["resident"]) + ((MEMORY_MIB + MEMORY_MIB / 8 + 96) << 20));
    waits.judge().expect("the good host is served");
    assert_eq!(after["lives"].as_array().expect("a list").len(), 1, "nothing is left: {}", after["lives"]);
    good.end();
    calm.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{}", &log[log.len().saturating_sub(2000)..]);
}
