//! Every verb with `-o json` fails with a document that names the kind of failure: of what it was asked, of what does not
//! listen, of what answers nonsense, and of what this user may not ask.

use crate::child::interlock;
use interlock_api::{Problem, ProblemKind};
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Verbs that ask the daemon, each with what it needs to do that.
const ASK: [&str; 30] = [
    "list",
    "list-subsys",
    "list-subsys nvme0",
    "show-topology",
    "status",
    "connect -a 127.0.0.1 -n nqn.2014-08.org.example:x",
    "connect-all -a 127.0.0.1",
    "disconnect -n nqn.2014-08.org.example:x",
    "disconnect -d nvme0",
    "disconnect --discovery 127.0.0.1",
    "disconnect-all",
    "reconnect nvme0",
    "ns-rescan nvme0",
    "reset nvme0",
    "set nvme0 -c 1",
    "fence --wait nvme0n1",
    "fence --accept-risk life1",
    "clear-flush-error nvme0n1",
    "export",
    "export nvme0n1",
    "unexport x",
    "events",
    "events -f",
    "history",
    "explain",
    "explain nvme0",
    "doctor",
    "doctor nvme0",
    "id-ctrl nvme0",
    "top --once --source daemon",
];

/// Runs a verb that must fail, and gives what it says of that.
#[track_caller]
fn problem(mut command: Command) -> Problem {
    let output = command.output().expect("the binary runs");
    let (said, text) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
    assert!(said.lines().any(|line| line.starts_with("error: ")), "{command:?}: {said}");
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{command:?}: {why}: {text}"))
}

fn asking(line: &str, socket: &Path) -> Command {
    let words: Vec<&str> = line.split(' ').chain(["-o", "json"]).collect();
    let mut command = interlock(&words);
    command.env("INTERLOCK_SOCKET", socket);
    command
}

#[test]
fn nobody_listens() {
    let dir = tempfile::tempdir().expect("a place");
    for line in ASK {
        let problem = problem(asking(line, &dir.path().join("none")));
        assert_eq!(problem.kind, ProblemKind::NoDaemon, "{line}: {}", problem.error);
        assert!(!problem.hints.is_empty() || line.starts_with("top"), "{line}: what to do?");
    }
}

#[test]
fn something_else_listens() {
    for says in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"] {
        let dir = tempfile::tempdir().expect("a place");
        let socket = dir.path().join("else");
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                // Whoever asked may have gone already.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(says);
            }
        });
        for line in ASK {
            let problem = problem(asking(line, &socket));
            assert_eq!(problem.kind, ProblemKind::NoDaemon, "{line}: {}", problem.error);
        }
    }
}

#[test]
fn it_is_not_for_this_user() {
    let dir = tempfile::tempdir().expect("a place");
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("ours");
    let _listener = UnixListener::bind(closed.join("control.sock")).expect("a socket");
    let root = fs::metadata(&closed).expect("ours").uid() == 0;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("ours");
    fs::set_permissions(&closed, Permissions::from_mode(if root { 0o700 } else { 0 })).expect("ours");
    let program = Path::new(env!("CARGO_BIN_EXE_interlock"));
    // Root may ask everybody: another user does it. That one may not reach a binary in somebody's home.
    let others_reach = program
        .ancestors()
        .skip(1)
        .all(|dir| dir.as_os_str().is_empty() || fs::metadata(dir).is_ok_and(|data| data.mode() & 0o001 != 0));
    if root && !others_reach {
        let said = writeln!(std::io::stderr(), "SKIPPED: another user cannot reach {}", program.display());
        return said.expect("standard error");
    }
    for line in ASK {
        let mut command = asking(line, &closed.join("control.sock"));
        if root {
            command.uid(65_534).gid(65_534).current_dir("/");
        }
        let problem = problem(command);
        assert_eq!(problem.kind, ProblemKind::Denied, "{line}: {}", problem.error);
        assert!(problem.error.to_lowercase().contains("permission denied"), "{line}: {}", problem.error);
    }
    // What needs no daemon: files and sockets of others.
    let at = |name: &str| closed.join(name).display().to_string();
    for (line, code) in [
        (format!("target ctl --control {} status", at("control.sock")), 1),
        (format!("config validate {}", at("interlock.toml")), 1),
        (format!("explain --events {}", at("events")), 1),
        (format!("top --once --sysfs {}", at("")), 1),
        (format!("drill reset --report {}", at("report.html")), 3),
        (format!("handover --from interlock --socket {} --state-dir {0} --nvme-dir {0} -n nqn.x", at("none")), 1),
    ] {
        let mut command = asking(&line, &closed.join("control.sock"));
        if root {
            command.uid(65_534).gid(65_534).current_dir("/");
        }
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(code), "{line}");
        let problem: Problem = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(problem.kind, ProblemKind::Denied, "{line}: {}", problem.error);
        assert!(problem.error.to_lowercase().contains("permission denied"), "{line}: {}", problem.error);
        assert!(!problem.error.contains("no target listens"), "{line}: {}", problem.error);
    }
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).expect("ours");
}

/// Failures that need no daemon.
#[test]
fn what_is_asked_for_is_wrong_or_not_there() {
    use ProblemKind as K;
    let dir = tempfile::tempdir().expect("a place");
    let at = |name: &str| dir.path().join(name).display().to_string();
    for (line, kind) in [
        ("frobnicate".to_owned(), K::BadRequest),
        ("id-ns nvme0n1".to_owned(), K::BadRequest),
        ("list --frob".to_owned(), K::BadRequest),
        ("explain sda".to_owned(), K::BadRequest),
        ("history -n 0".to_owned(), K::BadRequest),
        ("set nvme0".to_owned(), K::BadRequest),
        (format!("explain --events {}", at("none")), K::NotFound),
        (format!("top --once --sysfs {}", at("none")), K::NotFound),
        (format!("handover --from kernel --sys {} -n nqn.2014-08.org.example:x", at("")), K::NotFound),
        (format!("target ctl --control {} status", at("none")), K::NotFound),
        (format!("discover --config {} --nvme-dir {}", at("none"), at("")), K::NotFound),
    ] {
        let problem = problem(asking(&line, &dir.path().join("none")));
        assert_eq!(problem.kind, kind, "{line}: {}", problem.error);
    }
}
