//! What a service manager hears and asks.

use crate::child::interlock;
use crate::scene::{PATIENCE, say};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// Connections at once that are never answered.
const SILENT: usize = 150;

#[test]
fn the_service_manager_is_told_of_the_start_the_life_and_the_end() {
    let dir = std::env::temp_dir().join(format!("il-{}-systemd", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory");
    let path = |name: &str| dir.join(name).display().to_string();
    let socket = UnixDatagram::bind(dir.join("notify")).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let heard = || {
        let mut bytes = [0; 1024];
        let len = socket.recv(&mut bytes).expect("it says something");
        String::from_utf8_lossy(&bytes[..len]).trim_end().to_owned()
    };
    let mut child =
        interlock(&["daemon", "--socket", &path("c.sock"), "--state-dir", &path("state"), "--nvme-dir", &path("nvme")])
            .env("NOTIFY_SOCKET", dir.join("notify"))
            .env("WATCHDOG_USEC", "200000")
            .env("JOURNAL_STREAM", "1:1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
    assert_eq!(heard(), "READY=1");
    // More connections than there are threads, to somebody who never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("a port").port();
    let ask = |text: &str| {
        let mut stream = UnixStream::connect(dir.join("c.sock")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(text.as_bytes()).expect("it reads");
        stream
    };
    let waiting: Vec<UnixStream> = (0..SILENT)
        .map(|n| {
            let body =
                format!("{{\"traddr\":\"127.0.0.1\",\"trsvcid\":{port},\"subnqn\":\"nqn.2014-08.org.example:{n}\"}}");
            let len = body.len();
            ask(&format!("POST /v1/controllers HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{body}"))
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1", "as long as the host answers");
    }
    let mut status = String::new();
    let answered = ask("GET /v1/status HTTP/1.0\r\nHost: x\r\n\r\n").read_to_string(&mut status);
    assert!(answered.is_ok() && status.contains("200 OK"), "{answered:?} {status}");
    for stream in &waiting {
        stream.set_nonblocking(true).expect("a socket");
        let early = (&*stream).read(&mut [0; 1]).expect_err("it waits for the target, and status did not wait for it");
        assert_eq!(early.kind(), ErrorKind::WouldBlock);
    }
    drop(waiting);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    let last = std::iter::repeat_with(heard).find(|word| word != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    let mut log = String::new();
    let mut stderr = child.stderr.take().expect("a pipe");
    std::io::Read::read_to_string(&mut stderr, &mut log).expect("text");
    assert!(child.wait().expect("it ends").success(), "{log}");
    // The journal gets a priority for each line, and adds the time itself.
    assert!(log.lines().all(|line| line.starts_with("<6>") || line.starts_with("<4>")), "{log}");
    std::fs::remove_dir_all(dir).expect("our own");
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/interlock.service");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    // The program that it starts is where this one lies; the check looks whether it can be started.
    let dir = std::env::temp_dir().join(format!("il-{}-unit", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let copy = dir.join("interlock.service");
    std::fs::write(&copy, text.replace("/usr/bin/interlock", env!("CARGO_BIN_EXE_interlock"))).expect("a file");
    // With everything that can be added to it.
    std::fs::create_dir_all(dir.join("interlock.service.d")).expect("a directory");
    for name in ["ublk.conf", "file-tree.conf"] {
        let from = unit.with_extension("service.d").join(name);
        std::fs::copy(from, dir.join("interlock.service.d").join(name)).expect("a file");
    }
    let checked = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();
    match checked {
        Err(_) => say("SKIPPED: systemd-analyze is not installed"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ours: Vec<&str> =
                said.lines().filter(|line| line.contains("interlock.service") || line.contains("il-")).collect();
            assert!(output.status.success() && ours.is_empty(), "{said}");
        }
    }
    std::fs::remove_dir_all(dir).expect("our own");
}
