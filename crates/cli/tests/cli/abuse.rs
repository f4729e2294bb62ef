//! Peers that take what they can get: half-open, slow, idle, too many. The good ones must not notice.

use crate::child::Target;
use crate::load::{Good, PATIENCE};
use crate::raw::{Sqe, host_from};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// ICReq: PDU type 0, header length 128; format 0, no digests, one R2T at a time.
fn icreq() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    (bytes[2], bytes[4]) = (128, 128);
    bytes
}

fn dial(target: &Target) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", number(target))).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

fn number(target: &Target) -> u16 {
    target.port(0).parse().expect("a port")
}

fn status(socket: &str) -> Value {
    let said = crate::child::succeed(&["target", "ctl", "--control", socket, "-o", "json", "status"]);
    serde_json::from_str(&said).expect("JSON")
}

fn socket(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.sock", std::process::id()));
    path.to_str().expect("ASCII").to_owned()
}

/// Waits until the connections that have no Connect are so many.
fn until_new(socket: &str, count: usize) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(socket);
        let new = |connection: &&Value| connection["queue"] == "new";
        if status["connections"].as_array().expect("a list").iter().filter(new).count() == count {
            return status;
        }
        assert!(Instant::now() < deadline, "{}", status["memory"]);
    }
}

const SIZES: [u32; 6] = [1, 2, 16, 1, 64, 3];

#[test]
fn slow_and_silent_peers_are_ended_in_time_and_the_good_one_goes_on() {
    let target = Target::start(&["--port", "127.0.0.1:0", "--namespace", "mem:4M", "--limit", "handshake_ms=1500"]);
    let good = Good::new(&[number(&target)]);
    let mut slow: Vec<(TcpStream, Vec<u8>)> = (0..20).map(|_| (dial(&target), icreq())).collect();
    let mut silent: Vec<TcpStream> = (0..20).map(|_| dial(&target)).collect();
    // A byte of each in turn, verified load between them, until the target has had enough of every one.
    let deadline = Instant::now() + PATIENCE;
    let mut salt = 0u8;
    while !slow.is_empty() {
        assert!(Instant::now() < deadline, "{} are still talked to", slow.len());
        good.pass(salt, &SIZES);
        salt = salt.wrapping_add(1);
        slow.retain_mut(|(stream, left)| {
            // So slowly that it would take an hour.
            let byte = if left.len() > 20 { left.remove(0) } else { 0 };
            let over = left.len() <= 20 || stream.write_all(&[byte]).is_err();
            // An end that the target made is seen by reading, which must not wait while there is none.
            stream.set_nonblocking(true).expect("a socket");
            let ended = match stream.read(&mut [0; 64]) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
            !(ended || over && left.len() > 20)
        });
    }
    for stream in &mut silent {
        let ended = stream.read(&mut [0; 64]);
        assert!(!ended.is_ok_and(|bytes| bytes > 0), "it is ended and told nothing");
    }
    good.pass(salt, &SIZES);
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
    assert_eq!(log.matches("ended: Handshake").count(), 40, "{log}");
    assert_eq!(log.matches(" lost: ").count(), 1, "only by its own end: {log}");
}

#[test]
fn two_thousand_idle_connections_cost_little() {
    let control = socket("idle");
    let limits = "half_open=3000,handshake_ms=600000";
    let target = Target::start_through(
        &["sh", "-c", "ulimit -n 4096; exec \"$@\"", "sh"],
        &["--port", "127.0.0.1:0", "--namespace", "mem:4M", "--control", &control, "--limit", limits],
    );
    let good = Good::new(&[number(&target)]);
    good.pass(0, &SIZES);
    let before = until_new(&control, 0);
    let want = rustix::process::Rlimit { current: Some(4096), maximum: None };
    let has = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if has.current.is_some_and(|limit| limit < 4096) {
        let raised = rustix::process::Rlimit { maximum: has.maximum, ..want };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).expect("a hard limit of 4096 or more");
    }
    let mut idle = Vec::new();
    for n in 0..2000 {
        let mut stream = dial(&target);
        if n % 2 == 0 {
            // Half of them begin, and then say nothing more.
            stream.write_all(&icreq()).expect("it listens");
        }
        idle.push(stream);
        if n % 500 == 0 {
            good.pass(n as u8, &SIZES);
        }
    }
    let after = until_new(&control, 2000);
    good.pass(9, &SIZES);
    let resident = |status: &Value| status["memory"]["resident"].as_u64().expect("a number");
    let each = resident(&after).saturating_sub(resident(&before)) / 2000;
    assert!(each < 8192, "{each} bytes for each idle connection");
    writeln!(std::io::stderr(), "{each} bytes for each of 2,000 idle connections").expect("standard error");
    drop(idle);
    let end = until_new(&control, 0);
    let descriptors = |status: &Value| status["memory"]["descriptors"].as_u64().expect("a number");
    assert_eq!(descriptors(&end), descriptors(&before), "nothing is left open");
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{}", &log[log.len().saturating_sub(2000)..]);
}

/// Reads and log pages of a megabyte on 24 associations from three addresses, of which nobody takes anything.
#[test]
fn peers_that_take_nothing_have_their_share_and_the_good_one_goes_on() {
    let control = socket("greedy");
    // Commands per queue that the raw host may have.
    const DEPTH: usize = 30;
    let target = Target::start(&[
        "--port",
        "127.0.0.1:0",
        "--namespace",
        "mem:4M",
        "--control",
        &control,
        "--limit",
        "memory_mib=64,transfer_ms=600000",
    ]);
    let good = Good::new(&[number(&target)]);
    good.pass(0, &SIZES);
    let before = status(&control);
    let mut greedy = Vec::new();
    for n in 0..24u8 {
        let (mut admin, mut io) = host_from(&target, Ipv4Addr::new(127, 0, 0, 2 + n % 3), 0);
        let mut log = vec![2, 0, 0xff, 0xff];
        log.extend([3, 0]);
        for _ in 0..DEPTH {
            admin.send(&Sqe { opcode: 2, dword1: u32::MAX, room: 1 << 20, rest: log.clone() }, &[]);
            let mut rest = vec![0; 8];
            rest.extend([255, 0]);
            io.send(&Sqe { opcode: 2, dword1: 1, room: 1 << 20, rest }, &[]);
        }
        greedy.push((admin, io));
        let since = Instant::now();
        good.pass(n + 1, &SIZES);
        assert!(since.elapsed() < Duration::from_secs(20), "with {} greedy ones: {:?}", n + 1, since.elapsed());
        let quota = &status(&control)["quota"];
        assert!(quota["held"].as_u64() <= Some(64 << 20), "{quota}");
    }
    let after = status(&control);
    let resident = |status: &Value| status["memory"]["resident"].as_u64().expect("a number");
    let grown = resident(&after).saturating_sub(resident(&before));
    // An eighth for free buffers, and what the allocator keeps.
    assert!(grown < (64 + 8 + 24) << 20, "{} KiB", grown >> 10);
    assert!(after["quota"]["held"].as_u64() > Some(40 << 20), "they did try: {}", after["quota"]);
    let payers = after["quota"]["payers"].as_array().expect("a list");
    let addresses: Vec<&str> = payers.iter().map(|payer| payer["address"].as_str().expect("text")).collect();
    assert_eq!(addresses, ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    assert!(payers[1..].iter().all(|payer| payer["controllers"] == 8 && payer["connections"] == 16), "{payers:?}");
    writeln!(std::io::stderr(), "{} KiB grown, quota {}", grown >> 10, after["quota"]).expect("standard error");
    drop(greedy);
    good.pass(99, &SIZES);
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
}

#[test]
fn a_target_without_descriptors_waits_for_some() {
    let target = Target::start_through(
        &["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"],
        &["--port", "127.0.0.1:0", "--namespace", "mem:4M", "--limit", "handshake_ms=600000"],
    );
    let good = Good::new(&[number(&target)]);
    good.pass(0, &SIZES);
    let many: Vec<TcpStream> = (0..100).map(|_| dial(&target)).collect();
    target.wait_said("no connection can be taken, trying again: Too many open files");
    let begun = cpu(target.pid());
    let since = Instant::now();
    for salt in 1..20 {
        good.pass(salt, &SIZES);
    }
    // One that nobody takes waits in the kernel; it is served when others have gone.
    let mut waiting = dial(&target);
    waiting.write_all(&icreq()).expect("the kernel takes it");
    std::thread::park_timeout(Duration::from_millis(500));
    let (busy, passed) = (cpu(target.pid()) - begun, since.elapsed());
    assert!(busy < passed / 2 + Duration::from_millis(200), "it spins: {busy:?} of {passed:?}");
    drop(many);
    let mut answer = [0; 128];
    waiting.read_exact(&mut answer).expect("ICResp");
    assert_eq!(answer[0], 1, "ICResp");
    target.wait_said("connections are taken again");
    good.pass(20, &SIZES);
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
    assert_eq!(log.matches(" lost: ").count(), 1, "only by its own end: {log}");
}

/// Processor time of a process.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = stat.rsplit_once(") ").expect("a name in parentheses").1;
    let ticks: u64 = after.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_hundred_connects_leave_nothing() {
    let control = socket("storm");
    let target = Target::start(&["--port", "127.0.0.1:0", "--namespace", "mem:4M", "--control", &control]);
    let once = || {
        let good = Good::new(&[number(&target)]);
        good.pass(1, &[1]);
        good.end();
    };
    let baseline = || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = status(&control);
            if status["lives"] == serde_json::json!([]) && status["connections"] == serde_json::json!([]) {
                return (status["controllers"].clone(), status["memory"]["descriptors"].clone());
            }
            assert!(Instant::now() < deadline, "{status}");
        }
    };
    once();
    let before = baseline();
    for _ in 0..100 {
        once();
    }
    assert_eq!(baseline(), before);
}
