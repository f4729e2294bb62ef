//! Two hours, or as many seconds as `INTERLOCK_HOSTILE_SECONDS` says, of a daemon among enemies: a target that shows other
//! disks with every look and sends events without end, NBD clients that announce, stall, vanish and talk nonsense, and
//! clients of the control socket that do the same. Meanwhile a disk of a good target is written and read back, and
//! `status` is asked. Memory stays bounded, nobody good fails, and nobody good waits long: longer than beside it a daemon without
//! enemies makes its clients wait.

#[path = "cli/beside.rs"]
mod beside;
#[path = "cli/child.rs"]
#[allow(dead_code, reason = "the other test binaries use the rest")]
mod child;
#[path = "service/nbd.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod nbd;
#[path = "service/scene.rs"]
#[allow(dead_code, reason = "the other test binary uses the rest")]
mod scene;

use beside::Beside;
use child::Target;
use nbd::Client;
use scene::{Scene, say, wait_for};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const HOSTILE_NQN: &str = "nqn.2014-08.org.example:hostile";
/// Hostile clients of each kind at once.
const CROWD: usize = 8;
/// Resident memory of the daemon, in bytes: 64 MiB of payload for one process of clients and as much again for what its
/// connections may hold without asking, as much free for reuse, and the daemon itself.
const MEMORY_MAX: u64 = 400 << 20;
/// What memory may grow by in the second half of a run.
const GROWTH_MAX: u64 = 64 << 20;
/// Seconds from which on the first half has filled what may be filled: before, growth says how fast the machine is, and only
/// the bound is judged.
const SETTLED: u64 = 120;
/// How often the status is asked for, and memory looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Controllers that the daemon may want, if nothing is configured; a user other than root has a quarter.
const CONTROLLERS: u64 = 4_096;

/// What the hostile target did.
#[derive(Default)]
struct Deeds {
    events: AtomicU64,
    disks: AtomicU64,
}

/// Stands before a port of a target, without digests: answers every event request itself, at once, and gives every
/// namespace new identifiers with every look.
fn hostile_port(port: &str, deeds: &Arc<Deeds>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("bound").port();
    let (port, deeds) = (port.parse::<u16>().expect("a port"), Arc::clone(deeds));
    std::thread::spawn(move || {
        for host in listener.incoming() {
            let (Ok(host), Ok(target)) = (host, TcpStream::connect(("127.0.0.1", port))) else { continue };
            let out = Arc::new(Mutex::new(host.try_clone().expect("a socket")));
            let looks: Arc<Mutex<BTreeMap<u16, u8>>> = Arc::default();
            let (from, to, asked, by) =
                (target.try_clone().expect("a socket"), Arc::clone(&out), Arc::clone(&looks), Arc::clone(&deeds));
            std::thread::spawn(move || answers(from, &to, &asked, &by));
            let deeds = Arc::clone(&deeds);
            std::thread::spawn(move || requests(host, target, &out, &looks, &deeds));
        }
    });
    own
}

/// One PDU: its header of 8 bytes, and the rest.
fn pdu(from: &mut TcpStream) -> Option<([u8; 8], Vec<u8>)> {
    let mut head = [0; 8];
    from.read_exact(&mut head).ok()?;
    let len = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
    let mut rest = vec![0; len.checked_sub(8)?];
    from.read_exact(&mut rest).ok()?;
    Some((head, rest))
}

fn requests(
    mut host: TcpStream,
    mut target: TcpStream,
    out: &Mutex<TcpStream>,
    looks: &Mutex<BTreeMap<u16, u8>>,
    deeds: &Deeds,
) {
    let mut admin = false;
    while let Some((head, rest)) = pdu(&mut host) {
        if head[0] == 4 {
            let cid = u16::from_le_bytes([rest[2], rest[3]]);
            match rest[0] {
                // Connect: the number of the queue.
                0x7f if rest[4] == 1 => admin = rest[42..44] == [0, 0],
                // Identify: what is asked for.
                0x06 if admin => drop(looks.lock().unwrap_or_else(PoisonError::into_inner).insert(cid, rest[40])),
                // An event request, which is answered with: the list of namespaces has changed, or an unknown event.
                0x0c if admin => {
                    let number = deeds.events.fetch_add(1, Ordering::Relaxed);
                    let event = if number.is_multiple_of(2) { 0x0004_0002_u32 } else { 0x007f_6607 };
                    let mut answer = vec![5, 0, 24, 0, 24, 0, 0, 0];
                    answer.extend(event.to_le_bytes());
                    answer.extend([0; 8]);
                    answer.extend(cid.to_le_bytes());
                    answer.extend([0; 2]);
                    let _ = out.lock().unwrap_or_else(PoisonError::into_inner).write_all(&answer); // its end is seen below
                    continue;
                }
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

fn answers(mut target: TcpStream, out: &Mutex<TcpStream>, looks: &Mutex<BTreeMap<u16, u8>>, deeds: &Deeds) {
    while let Some((head, mut rest)) = pdu(&mut target) {
        // Data of the controller: the identifier of the command, and where the data begins.
        if head[0] == 7 {
            let cid = u16::from_le_bytes([rest[0], rest[1]]);
            let what = looks.lock().unwrap_or_else(PoisonError::into_inner).remove(&cid);
            let data = &mut rest[usize::from(head[3]).saturating_sub(8)..];
            let number = deeds.disks.fetch_add(u64::from(what == Some(3)), Ordering::Relaxed);
            match what {
                // Identification descriptors: type, length, two bytes, the identifier.
                Some(3) => {
                    let mut at = 0;
                    while at + 4 <= data.len() && data[at] != 0 && data[at + 1] != 0 {
                        let len = usize::from(data[at + 1]).min(data.len() - at - 4);
                        // The command set stays what it is.
                        if data[at] < 4 {
                            data[at + 4..at + 4 + len].fill(0xee);
                            let bytes = number.to_be_bytes();
                            data[at + 4..at + 4 + len.min(8)].copy_from_slice(&bytes[8 - len.min(8)..]);
                        }
                        at += 4 + len;
                    }
                }
                // The namespace: NGUID and EUI64 are not stated here.
                Some(0) if data.len() >= 128 => data[104..128].fill(0),
                _ => {}
            }
        }
        if out.lock().unwrap_or_else(PoisonError::into_inner).write_all(&[&head[..], &rest].concat()).is_err() {
            break;
        }
    }
    let _ = out.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
}

fn nbd_request(kind: u16, cookie: u64, offset: u64, len: u32) -> Vec<u8> {
    [
        &0x2560_9513_u32.to_be_bytes()[..],
        &0_u16.to_be_bytes(),
        &kind.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
    ]
    .concat()
}

/// One visit of a hostile NBD client; whatever becomes of it is as good.
fn nbd_visit(socket: &Path, name: &str, round: usize) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    stream.read_exact(&mut [0; 18])?;
    stream.write_all(&3_u32.to_be_bytes())?;
    let len = u32::try_from(name.len()).expect("short").to_be_bytes();
    let choose = [&b"IHAVEOPT\0\0\0\x01"[..], &len, name.as_bytes()].concat();
    match round % 7 {
        // Announces, and sends nothing, or a little.
        0 => stream.write_all(&[choose, nbd_request(1, 1, 0, 32 << 20), vec![0; round % 5000]].concat())?,
        // Asks for much, and reads nothing.
        1 => {
            let asked: Vec<u8> = (0..200).flat_map(|cookie| nbd_request(0, cookie, 0, 8 << 20)).collect();
            stream.write_all(&[choose, asked].concat())?;
        }
        // Vanishes in the middle of many writes.
        2 => {
            let writes: Vec<u8> =
                (0..20).flat_map(|n| [nbd_request(1, n, n << 12, 4096), vec![7; 4096]].concat()).collect();
            stream.write_all(&[choose, writes].concat())?;
        }
        // Options without end.
        3 => (0..2000).try_for_each(|_| stream.write_all(b"IHAVEOPT\0\0\0\x03\0\0\0\0"))?,
        // Nonsense, before and after the choice.
        4 => stream.write_all(&[0x55; 70_000])?,
        5 => stream.write_all(&[choose, vec![0xaa; 70_000]].concat())?,
        // Nothing at all.
        _ => {}
    }
    let _ = stream.read(&mut [0; 1024]); // stays for a while
    Ok(())
}

/// A request for a connection.
fn wanting(silent: u16, number: usize, wait: bool) -> String {
    let body = format!(
        "{{\"traddr\":\"127.0.0.1\",\"trsvcid\":{silent},\"subnqn\":\"nqn.2014-08.org.example:{number}\",\"ctrl_loss_tmo_s\":-1,\
         \"first_attempt_decides\":{wait}}}"
    );
    format!("POST /v1/controllers HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Has a daemon want so many controllers that never answer, which is every user's right: it is the same for both, so that what differs
/// is what the crowd does.
fn want(socket: &Path, silent: u16, count: usize) -> std::io::Result<()> {
    for number in 0..count {
        let mut stream = UnixStream::connect(socket)?;
        stream.write_all(wanting(silent, number, false).as_bytes())?;
        let _ = stream.read_to_end(&mut Vec::new()); // refused is as good
    }
    Ok(())
}

/// One visit of a hostile client of the control socket.
fn api_visit(socket: &Path, silent: u16, round: usize) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    let request = match round % 9 {
        0 => "GET /v1/status HTTP/1.1\r\nHost: ".to_owned(),
        1 => format!("POST /v1/controllers HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{{", u64::MAX),
        2 => format!("GET /v1/{} HTTP/1.0\r\n\r\n", "x".repeat(100_000)),
        // Everything that ever happened, which nobody reads.
        3 => "GET /v1/events?after=0 HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(),
        4 => "\u{0}\u{1}\u{2}".repeat(10_000),
        5 => "DELETE /v1/exports/nvme0n1?force=false HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(),
        // The same as everybody asks for, again and again, and goes away.
        6 => "GET /v1/status HTTP/1.0\r\nHost: x\r\n\r\n".to_owned(),
        // A connection to somebody who says nothing: it is given up again, or tried for ever.
        which => wanting(silent, round, which == 7),
    };
    stream.write_all(request.as_bytes())?;
    let _ = stream.read(&mut [0; 1024]); // stays for a while
    Ok(())
}

fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// The crowd is a process of its own, and of another user if there can be one, as it would be: what clients hold is charged to
/// their process, and what they want to their user. It is this program, which runs this test only, and ends with its standard input.
const CROWD_OF: &str = "INTERLOCK_HOSTILE_CROWD";

#[test]
#[ignore = "the part of the crowd, which the other test begins"]
fn crowd() {
    let Ok(places) = std::env::var(CROWD_OF) else { return };
    let mut places = places.split('\n');
    let mut place = || places.next().expect("three sockets, a port and a number");
    let (nbd, control, calm) = (Path::new(place()), Path::new(place()), Path::new(place()));
    let (silent, count) = (place().parse().expect("a port"), place().parse().expect("a number"));
    for socket in [calm, control] {
        want(socket, silent, count).expect("it listens");
    }
    let (over, visits) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (over, visits) = (&over, &visits);
        let visiting = |n: usize, visit: &dyn Fn(usize) -> std::io::Result<()>| {
            for round in (n..).take_while(|_| !over.load(Ordering::Relaxed)) {
                let _ = visit(round); // sent away is as good
                visits.fetch_add(1, Ordering::Relaxed);
            }
        };
        for n in 0..CROWD {
            scope.spawn(move || visiting(n, &|round| nbd_visit(nbd, "nvme0n1", round)));
            scope.spawn(move || visiting(n, &|round| api_visit(control, silent, round)));
        }
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // its end is what is waited for
        over.store(true, Ordering::Relaxed);
    });
    say(&format!("hostile: {} visits", visits.load(Ordering::Relaxed)));
}

/// The crowd's process; dropped, it is waited for.
struct Crowd(std::process::Child);

impl Crowd {
    fn begin(nbd: &Path, [control, calm]: [&Path; 2], silent: u16, count: u64) -> Crowd {
        let mut command = std::process::Command::new("/proc/self/exe");
        command
            .args(["--exact", "crowd", "--ignored", "--nocapture"])
            .env(CROWD_OF, format!("{}\n{}\n{}\n{silent}\n{count}", nbd.display(), control.display(), calm.display()))
            .stdin(std::process::Stdio::piped());
        if rustix::process::getuid().is_root() {
            for socket in [nbd, control, calm] {
                std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).expect("ours");
            }
            command.uid(65_534).gid(65_534);
        }
        Crowd(command.spawn().expect("the crowd begins"))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait(); // it has been told to end
    }
}

#[test]
fn among_enemies_the_good_are_served_and_memory_is_bounded() {
    let seconds = std::env::var("INTERLOCK_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut scene = Scene::new("hostile", &[]);
    let calm = Scene::new("calm", &[]);
    let deeds = Arc::new(Deeds::default());
    let bad = Target::start(&[
        "--port",
        "127.0.0.1:0",
        "--nqn",
        HOSTILE_NQN,
        "--namespace",
        "mem:1M",
        "--namespace",
        "mem:1M",
    ]);
    let port = hostile_port(&bad.port(0), &deeds).to_string();
    for scene in [&scene, &calm] {
        scene.connect(0, &["-c", "1", "-l", "-1"]);
        wait_for("the disk", || scene.verb(&["export", "nvme0n1"]).status.success().then_some(()));
    }
    scene.does(&["connect", "-t", "tcp", "-a", "127.0.0.1", "-s", &port, "-n", HOSTILE_NQN, "-l", "-1"]);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = (silent.local_addr().expect("bound").port(), silent);
    let (pid, nbd, control) = (scene.daemon().pid(), scene.nbd(), scene.dir.join("c.sock"));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let (mut waits, mut looks, mut asked_last) = (Beside::default(), Beside::default(), begun);
    let (mut half, mut most) = (0, 0);
    let mut client = Client::open(&nbd, "nvme0n1").expect("the good client is let in");
    let mut other = Client::open(&calm.nbd(), "nvme0n1").expect("it is let in");
    // As many as the crowd will come to want.
    let crowd = Crowd::begin(&nbd, [&control, &calm.dir.join("c.sock")], silent.0, seconds.min(CONTROLLERS / 4));
    while Instant::now() < until {
        let round = waits.passes() as u64;
        // Beyond what the others write to.
        let (offset, data) = ((1 << 20) + round % 64 * 4096, [round as u8; 4096]);
        let pair = |client: &mut Client| {
            client.write(offset, &data).expect("written");
            assert!(client.read(offset, 4096).expect("read") == data, "what was written");
        };
        waits.among(|| pair(&mut client));
        waits.alone(|| pair(&mut other));
        if asked_last.elapsed() > LOOK {
            let status = looks.among(|| scene.status());
            looks.alone(|| calm.status());
            assert_eq!(status["exports"][0]["serving"], true, "{status}");
            assert!(status["limits"]["controllers"].as_u64().expect("a number") <= CONTROLLERS / 4 + 2);
            asked_last = Instant::now();
            let now = resident(pid);
            most = most.max(now);
            if Instant::now() < begun + (until - begun) / 2 {
                half = half.max(now);
            }
        }
    }
    drop(crowd);
    // Nobody good was shut out: another path connects.
    scene.connect(1, &["-c", "1"]);
    let (events, disks) = (deeds.events.load(Ordering::Relaxed), deeds.disks.load(Ordering::Relaxed));
    say(&format!(
        "hostile: {seconds} s, {events} events, {disks} new disks shown, {} controllers wanted; writes read back {waits}; status \
         {looks}; memory at most {} MiB, {} MiB in the first half",
        scene.status()["limits"]["controllers"],
        most >> 20,
        half >> 20
    ));
    assert!(most < MEMORY_MAX, "{} MiB", most >> 20);
    if seconds >= SETTLED {
        assert!(most < half + GROWTH_MAX, "{} MiB, then {} MiB", half >> 20, most >> 20);
    }
    waits.judge().expect("the good client is served");
    looks.judge().expect("the status is answered");
    waits.judge_usual().expect("the good client is served at once");
    looks.judge_usual().expect("the status is answered at once");
    assert!(events <= 100 + 2 * seconds, "{events} events were asked for in {seconds} s");
    assert!(disks > 0, "the hostile target was looked at");
    assert_eq!(scene.daemon().log().matches("sends events without end").count(), 1, "it is told once");
    drop(silent);
    scene.stop(rustix::process::Signal::TERM);
}
