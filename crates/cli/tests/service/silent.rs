//! Whoever may open a socket of the daemon cannot take it from the others: thousands of connections that say nothing, and more
//! followers than there is room for.

use crate::scene::{PATIENCE, Scene, wait_for};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const SILENT: usize = 2_000;

/// Descriptors that the daemon has open.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}

#[test]
fn two_thousand_silent_connections_delay_nobody() {
    let mut scene = Scene::new("silent", &[]);
    scene.stop(Signal::TERM);
    std::fs::write(scene.dir.join("interlock.toml"), "[daemon]\nmetrics = \"127.0.0.1:0\"\n").expect("a file");
    // The daemon has as many descriptors as this process had when it began.
    scene.start();
    scene.connect(0, &["-c", "1"]);
    scene.connect(1, &["-c", "1"]);
    let pid = scene.daemon().pid();
    let places = usize::try_from(getrlimit(Resource::Nofile).current.unwrap_or(4_096) / 2).expect("few").min(2_048);
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit { current: Some(3 * SILENT as u64), maximum };
    setrlimit(Resource::Nofile, raised).expect("a hard limit of 6,000 or more");
    let before = descriptors(pid);

    let connect = || UnixStream::connect(scene.dir.join("c.sock")).expect("it listens");
    let mut silent: Vec<UnixStream> = (0..SILENT).map(|_| connect()).collect();
    let began = Instant::now();
    scene.all_live(&["nvme0", "nvme1"]);
    assert!(began.elapsed() < Duration::from_secs(5), "status took {:?}", began.elapsed());
    assert!(descriptors(pid) <= before + places + 16, "{} descriptors, {before} before", descriptors(pid));

    // The same for those who read metrics.
    let log = scene.daemon().log();
    let port =
        log.split_once("metrics at http://").expect("it is said").1.split_once("/metrics").expect("it is said").0;
    let port: std::net::SocketAddr = port.parse().expect("an address");
    let crowd: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(port).expect("it listens")).collect();
    let mut scrape = TcpStream::connect(port).expect("it listens");
    scrape.set_read_timeout(Some(PATIENCE)).expect("a socket");
    scrape.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut page = String::new();
    scrape.read_to_string(&mut page).expect("an answer, and its end");
    assert!(page.contains("200 OK") && page.contains("interlock_"), "{page}");
    drop(crowd);

    // Those that are silent for long are sent away, and everything is as before.
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "nothing was asked");
    }
    wait_for("its descriptors are free", || {
        scene.status();
        (descriptors(pid) <= before + 16).then_some(())
    });
}

#[test]
fn who_follows_events_leaves_room_for_those_who_ask() {
    let scene = Scene::new("followers", &[]);
    let follow = || {
        let mut stream = UnixStream::connect(scene.dir.join("c.sock")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        (stream, String::from_utf8_lossy(&head).into_owned())
    };
    let mut followers = Vec::new();
    let refused = loop {
        let (mut stream, head) = follow();
        if head != "HTTP/1.1 200" {
            let mut rest = String::new();
            stream.read_to_string(&mut rest).expect("text");
            break head + &rest;
        }
        followers.push(stream);
        assert!(followers.len() <= 512, "there is a bound");
    };
    assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("follow the events already"), "{refused}");
    scene.status();
    followers.pop();
    wait_for("there is room again", || (follow().1 == "HTTP/1.1 200").then_some(()));
}
