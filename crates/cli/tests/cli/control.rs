//! `target ctl`: a target is told things while it runs.

use crate::child::{NQN, Target, fail, succeed};
use crate::serving::Scratch;
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// A target with a control socket.
struct Told {
    target: Target,
    socket: PathBuf,
}

impl Told {
    fn new(name: &str, more: &[&str]) -> Self {
        let more = &[more, &["--serial", "INTERLOCK0000001"]].concat();
        let socket = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.sock", std::process::id()));
        let mut args = vec!["--control", socket.to_str().expect("ASCII")];
        args.extend_from_slice(more);
        let target = Target::usual(&args);
        Self { target, socket }
    }

    fn args<'a>(&'a self, verb: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["target", "ctl", "--control", self.socket.to_str().expect("ASCII")];
        args.extend_from_slice(verb);
        args
    }

    fn tell(&self, verb: &[&str]) -> String {
        succeed(&self.args(verb))
    }

    fn refused(&self, verb: &[&str]) -> String {
        fail(&self.args(verb))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.tell(&["status", "-o", "json"])).expect("JSON")
    }

    fn doctor(&self, port: usize) -> String {
        succeed(&["doctor", "-a", "127.0.0.1", "-s", &self.target.port(port), "-n", NQN])
    }
}

#[test]
fn namespaces_come_grow_and_go() {
    let told = Told::new("namespaces", &["--ana-groups", "2"]);
    assert_eq!(
        told.tell(&["namespace", "add", "mem:1M", "--ana-group", "2"]),
        "namespace 2 was added: 1048576 bytes\n"
    );
    assert!(told.doctor(0).contains("Namespace  2: 1 MiB, blocks of 4096 bytes, shared, ANA group 2"));
    assert_eq!(told.tell(&["namespace", "resize", "2", "4M"]), "namespace 2 has 4194304 bytes\n");
    assert_eq!(told.tell(&["namespace", "resize", "1", "1M"]), "namespace 1 has 1048576 bytes\n");
    let said = told.doctor(1);
    assert!(said.contains("Namespace  2: 4 MiB") && said.contains("Namespace  1: 1 MiB"), "{said}");
    assert_eq!(told.tell(&["namespace", "remove", "2"]), "namespace 2 was removed\n");
    assert!(!told.doctor(0).contains("Namespace  2"));

    assert!(told.refused(&["namespace", "remove", "2"]).starts_with("error: namespace 2 is not there\n"));
    assert!(told.refused(&["namespace", "add", "mem:1M", "--nsid", "1"]).starts_with("error: namespace 1 is there"));
    assert!(told.refused(&["namespace", "add", "flie:x"]).starts_with("error: `flie:x` is not a valid namespace"));
    let said = told.refused(&["namespace", "add", "mem:1M", "--ana-group", "3"]);
    assert!(said.starts_with("error: `ana_group` is 3: there are ANA groups 1 to 2\n"), "{said}");
    assert!(told.refused(&["namespace", "resize", "1"]).contains("say how large it is to be"));
    assert!(told.refused(&["namespace", "resize", "1", "1024T"]).contains("it can grow to"));
    assert_eq!(told.status()["namespaces"].as_array().expect("a list").len(), 1, "refusals change nothing");
}

#[test]
fn a_file_is_let_go_with_its_namespace_and_grows_as_told() {
    let disk = Scratch::new("told.img", &vec![0; 1 << 20]);
    let backing = format!("file:{}", disk.path());
    let (first, second) = (Told::new("file-1", &[]), Told::new("file-2", &[]));
    first.tell(&["namespace", "add", &backing]);
    assert!(second.refused(&["namespace", "add", &backing]).contains("is in use by another process"));
    assert_eq!(first.tell(&["namespace", "resize", "2", "3M"]), "namespace 2 has 3145728 bytes\n");
    let length = || std::fs::metadata(&disk.0).expect("it is there").len();
    assert_eq!(length(), 3 << 20, "the file was made longer");
    first.tell(&["namespace", "resize", "2", "1M"]);
    assert_eq!(length(), 3 << 20, "and is never cut");
    assert_eq!(first.tell(&["namespace", "resize", "2"]), "namespace 2 has 3145728 bytes\n");
    first.tell(&["namespace", "remove", "2"]);
    second.tell(&["namespace", "add", &backing]);
}

#[test]
fn ports_and_ana_states_change() {
    let told = Told::new("ports", &[]);
    assert_eq!(told.tell(&["ana", "1", "inaccessible"]), "ANA group 1 is now inaccessible through port 1\n");
    assert_eq!(told.tell(&["ana", "1", "inaccessible"]), "ANA group 1 was already inaccessible through port 1\n");
    assert!(told.doctor(1).contains("group 1: inaccessible"));
    assert!(
        told.refused(&["ana", "7", "optimized"]).starts_with("error: there is no port 7: there are ports 0 to 2\n")
    );
    assert!(
        told.refused(&["ana", "0", "optimised"])
            .contains("`optimised` is not a valid ANA state: use one of `optimized`")
    );
    let said = told.refused(&["ana", "0", "change", "--group", "2"]);
    assert!(said.starts_with("error: there is no ANA group 2: the only one is group 1"), "{said}");

    let port = told.target.port(0);
    assert_eq!(told.tell(&["port", "close", "0"]), "port 0 is closed\n");
    fail(&["discover", "-a", "127.0.0.1", "-s", &port]);
    assert_eq!(told.status()["ports"][0]["open"], false);
    // While the address is somebody else's, the port stays closed, and that is said.
    let taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free now");
    let said = told.refused(&["port", "open", "0"]);
    assert!(said.starts_with(&format!("error: cannot listen on 127.0.0.1:{port}")), "{said}");
    drop(taken);
    assert_eq!(told.tell(&["port", "open", "0"]), format!("listening on 127.0.0.1:{port}\n"));
    told.doctor(0);
    let (_, log) = told.target.stop(Signal::INT);
    for words in ["port 0: closed\n", "port 0: cannot be opened again: listen on", "port 0: open again\n"] {
        assert!(log.contains(words), "{words}: {log}");
    }
}

#[test]
fn faults_are_told_by_their_names() {
    let told = Told::new("faults", &[]);
    assert_eq!(told.tell(&["fault", "kind=mute,port=0"]), "done: kind=mute,port=0\n");
    let stream = std::net::TcpStream::connect(("127.0.0.1", told.target.port(0).parse::<u16>().expect("a port")));
    stream.expect("the kernel takes it");
    let connections = || told.status()["connections"].as_array().expect("a list").len();
    assert_eq!(connections(), 0, "a mute port accepts nothing");
    told.tell(&["fault", "kind=clear"]);
    told.doctor(0);
    assert!(told.refused(&["fault", "kind=mute,port=9"]).starts_with("error: there is no port 9"));
    let said = told.refused(&["fault", "kind=mute,prot=0"]);
    assert!(said.contains("unknown key `prot`: did you mean `port`?"), "{said}");
}

#[test]
fn the_socket_is_private_and_ends_with_the_target() {
    let told = Told::new("private", &[]);
    assert_eq!(told.target.about["control"], told.socket.to_str().expect("ASCII"));
    let mode = std::fs::metadata(&told.socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let socket = told.socket.to_str().expect("ASCII");
    let second = fail(&["target", "--port", "127.0.0.1:0", "--namespace", "null:1M", "--control", socket]);
    assert!(second.contains("belongs to a target that is running"), "{second}");
    assert_eq!(told.tell(&["shutdown"]), "the target ends\n");
    let (status, log) = told.target.wait();
    assert!(status.success(), "{log}");
    assert!(!told.socket.exists(), "nothing is left behind");
    let gone = fail(&["target", "ctl", "--control", socket, "status"]);
    assert!(gone.contains("no target listens") && gone.contains("hint: start the target with `--control"), "{gone}");
    assert!(fail(&["target", "ctl", "status"]).contains("`--control SOCKET` is missing"));
}

#[test]
fn a_target_that_ends_leaves_the_socket_that_another_one_has_put_there() {
    let first = Told::new("replaced", &[]);
    std::fs::remove_file(&first.socket).expect("an operator tidies up");
    let second = Told::new("replaced", &[]);
    let (status, log) = first.target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
    second.tell(&["status"]);
}

#[test]
fn a_killed_target_leaves_a_socket_that_the_next_one_replaces() {
    let told = Told::new("killed", &[]);
    told.target.stop(Signal::KILL);
    assert!(told.socket.exists(), "nobody could remove it");
    let next = Told::new("killed", &[]);
    next.tell(&["status"]);
    let file = Scratch::new("no-socket", b"precious");
    let said = fail(&["target", "--port", "127.0.0.1:0", "--namespace", "null:1M", "--control", file.path()]);
    assert!(said.contains("is there already and is no socket"), "{said}");
    assert_eq!(std::fs::read(&file.0).expect("still there"), b"precious");
}

#[test]
fn lines_are_requests_and_a_wrong_one_costs_nothing() {
    let told = Told::new("lines", &[]);
    let mut stream = UnixStream::connect(&told.socket).expect("it listens");
    let mut answers = BufReader::new(stream.try_clone().expect("a socket"));
    let mut ask = |line: &str| {
        stream.write_all(line.as_bytes()).expect("it reads");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("it answers");
        answer
    };
    let said = ask("{\"format_version\":1,\"request\":\"port-close\",\"prot\":1}\n");
    assert_eq!(said, "{\"format_version\":1,\"error\":\"unknown key `prot`: did you mean `port`? there is `port`\"}\n");
    assert!(ask("hello\n").contains("a request is one line of JSON"));
    let said = ask("{\"format_version\":1,\"request\":\"namespace-add\",\"backing\":\"null:1M\",\"nsid\":7}\n");
    assert_eq!(said, "{\"format_version\":1,\"ok\":{\"answer\":\"namespace\",\"nsid\":7,\"bytes\":1048576}}\n");
    let status: Value = serde_json::from_str(&ask("{\"format_version\":1,\"request\":\"status\"}\n")).expect("JSON");
    assert_eq!(status["ok"]["namespaces"][1]["nsid"], 7);
}

#[test]
fn status_shows_what_is_connected() {
    let told = Told::new("status", &[]);
    let text = told.tell(&["status"]);
    let expected = [
        format!("subsystem {NQN}, serial INTERLOCK0000001, model Interlock target\n"),
        format!("port 0: 127.0.0.1:{} open, group 1 optimized\n", told.target.port(0)),
        format!("port 2: 127.0.0.1:{} open, discovery only\n", told.target.discovery()),
        "namespace 1: mem:8388608, 8388608 bytes in blocks of 4096, ANA group 1\n".to_owned(),
        "0 connections, 0 commands inside, 0 KiB in buffers".to_owned(),
    ];
    for line in expected {
        assert!(text.contains(&line), "{line}: {text}");
    }
    let _half_open = std::net::TcpStream::connect(("127.0.0.1", told.target.port(1).parse::<u16>().expect("a port")));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while told.status()["connections"][0]["queue"] != "new" {
        assert!(std::time::Instant::now() < deadline, "{}", told.status());
    }
    assert!(told.tell(&["status"]).contains("through port 1, no Connect yet, 0 commands"));
}

/// What a host sees of a target: NQN, serial number and the identifiers of its first namespace.
fn seen(target: &Target) -> (String, Vec<u8>, Vec<u8>) {
    let nqn = target.about["nqn"].as_str().expect("a name").to_owned();
    let mut admin = crate::raw::Queue::new(target);
    admin.connect_to(&nqn, 0, 0xffff, 0);
    admin.enable();
    let serial = admin.identify(1, 0)[4..24].to_vec();
    (nqn, serial, admin.identify(3, 1)[..44].to_vec())
}

/// Two targets that were told nothing must never be taken for two ways to one disk.
#[test]
fn two_targets_with_defaults_have_nothing_in_common() {
    let start = || Target::start_nameless(&["--port", "127.0.0.1:0", "--namespace", "mem:64M"]);
    let (one, two) = (seen(&start()), seen(&start()));
    assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2, "{one:?} {two:?}");
}

#[test]
fn a_file_is_the_same_disk_after_a_restart_and_memory_is_another_one() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("same-{}.img", std::process::id()));
    std::fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file");
    let backing = format!("file:{}", file.display());
    let start = |more: &[&str]| {
        let mut args = vec!["--port", "127.0.0.1:0", "--namespace", &backing];
        args.extend_from_slice(more);
        let target = Target::start_nameless(&args);
        let seen = seen(&target);
        assert!(target.stop(Signal::TERM).0.success());
        seen
    };
    let one = start(&[]);
    assert_eq!(one, start(&[]));
    let uuid = "1=12345678-9abc-8def-8123-456789abcdef";
    let named = start(&["--serial", "SHARED", "--nqn", NQN, "--uuid", uuid]);
    assert_eq!((named.0.as_str(), &named.1[..7]), (NQN, &b"SHARED "[..]));
    assert_ne!(named.2, one.2);
    let memory = || {
        let args = ["--port", "127.0.0.1:0", "--namespace", "mem:1M", "--serial", "SHARED", "--nqn", NQN];
        seen(&Target::start(&args))
    };
    assert_ne!(memory().2, memory().2);
    std::fs::remove_file(&file).expect("it is ours");
    std::fs::remove_file(file.with_extension("img.interlock")).expect("what was kept beside it");
}

#[test]
fn events_are_lines_of_json_and_tell_what_becomes_of_held_writes() {
    let mut told = Told::new("events", &["--events", "json"]);
    let (_admin, mut io) = crate::raw::host(&told.target, 0);
    told.tell(&["fault", "kind=hold-writes,port=0"]);
    io.write(1);
    let mut seen = Vec::new();
    let mut until = |told: &mut Told, event: &str| loop {
        let value = told.target.event();
        assert_eq!((&value["format_version"], value["at_ns"].is_u64()), (&Value::from(1), true), "{value}");
        seen.push(value["event"].as_str().expect("text").to_owned());
        if value["event"] == event {
            return value;
        }
    };
    let held = until(&mut told, "write-held");
    assert_eq!((&held["nsid"], &held["slba"], &held["awaited"]), (&1.into(), &0.into(), &true.into()), "{held}");
    // Nobody waits for it any more; and then it is executed all the same.
    drop(io);
    let orphaned = until(&mut told, "write-orphaned");
    assert_eq!((&orphaned["life"], &orphaned["awaited"]), (&held["life"], &false.into()), "{orphaned}");
    told.tell(&["fault", "kind=release"]);
    assert_eq!(until(&mut told, "write-executed")["life"], held["life"]);
    for kind in ["connection-accepted", "controller-created", "controller-enabled", "queue-connected"] {
        assert!(seen.iter().any(|known| known == kind), "{kind} is not among {seen:?}");
    }
}
