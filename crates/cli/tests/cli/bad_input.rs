//! One clear sentence each, exit code 1, nothing left behind.

use crate::child::{NQN, Target, fail, succeed};
use crate::serving::Scratch;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::thread::JoinHandle;

/// One `error:` line that says this, then `hint:` lines only.
fn told(said: &str, sentence: &str) {
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{said}");
    assert!(first.contains(sentence), "{sentence} / {said}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{said}");
    assert!(!said.contains("os error"), "{said}");
}

/// Something else that listens: it serves one connection.
fn listening(serve: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port().to_string();
    (port, std::thread::spawn(move || serve(listener.accept().expect("a connection").0)))
}

fn discover(port: &str) -> String {
    fail(&["discover", "-a", "127.0.0.1", "-s", port])
}

fn doctor(port: &str, nqn: &str) -> String {
    fail(&["doctor", "-a", "127.0.0.1", "-s", port, "-n", nqn])
}

#[test]
fn nobody_is_there() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port().to_string();
    told(&discover(&free), &format!("127.0.0.1:{free}: connection refused"));
    told(&doctor(&free, NQN), &format!("127.0.0.1:{free}: connection refused"));
    told(&fail(&["discover", "-a", "no such host"]), "`no such host` cannot be resolved");
    told(&fail(&["discover", "-a", "127.0.0.1", "-f", "nosuchiface0"]), "127.0.0.1:8009: ");
}

#[test]
fn somebody_else_is_there() {
    let (port, server) = listening(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").expect("a socket");
        // Until the other side ends it; how does not matter.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    told(&discover(&port), "something answers here that does not speak NVMe/TCP: it said \"SSH-2.0-OpenSSH_\"");
    server.join().expect("served");

    let (port, server) = listening(|mut stream| {
        stream.read_exact(&mut [0; 128]).expect("ICReq");
        stream.write_all(&[0x15, 0x03, 0x03, 0, 2, 2, 0x46]).expect("a socket");
    });
    told(&doctor(&port, NQN), "the target demands TLS");
    server.join().expect("served");

    let (port, server) = listening(|mut stream| stream.read_exact(&mut [0; 128]).expect("ICReq"));
    told(&discover(&port), "the connection was accepted and ended without an answer");
    server.join().expect("served");

    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = mute.local_addr().expect("bound").port().to_string();
    let said = fail(&["discover", "-a", "127.0.0.1", "-s", &port, "--timeout", "200"]);
    told(&said, "there was no NVMe/TCP answer within 0.2 s");
}

#[test]
fn the_target_demands_authentication() {
    let (port, server) = listening(|mut stream| {
        stream.read_exact(&mut [0; 128]).expect("ICReq");
        let mut icresp = [0; 128];
        (icresp[0], icresp[2], icresp[4]) = (0x01, 128, 128);
        icresp[12..16].copy_from_slice(&8192u32.to_le_bytes());
        stream.write_all(&icresp).expect("a socket");
        let mut connect = [0; 72 + 1024];
        stream.read_exact(&mut connect).expect("Connect");
        let mut answer = [0; 24];
        (answer[0], answer[2], answer[4]) = (0x05, 24, 24);
        // Controller 1, ATR.
        answer[8..12].copy_from_slice(&(1u32 | 1 << 17).to_le_bytes());
        answer[20..22].copy_from_slice(&connect[10..12]);
        stream.write_all(&answer).expect("a socket");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    told(&doctor(&port, NQN), "the target demands authentication");
    server.join().expect("served");
}

#[test]
fn the_wrong_subsystem_or_port() {
    let target = Target::usual(&["--allow-host", "nqn.2026-11.io.example:friend"]);
    let said = doctor(&target.port(0), "nqn.2026-11.io.example:wrong");
    told(&said, "there is no subsystem `nqn.2026-11.io.example:wrong` on this port");

    told(&doctor(&target.port(0), NQN), "the subsystem does not allow host `nqn.");
    let friend = ["-q", "nqn.2026-11.io.example:friend"];
    let asked = ["doctor", "-a", "127.0.0.1", "-s", &target.port(0), "-n", NQN];
    crate::child::succeed(&[&asked[..], &friend].concat());

    let said = fail(&[&["doctor", "-a", "127.0.0.1", "-s", &target.discovery(), "-n", NQN][..], &friend].concat());
    told(&said, "this is a discovery controller, and an I/O controller was meant");
    assert!(said.contains(&format!("-a 127.0.0.1 -s {}", target.port(1))), "it says where to go: {said}");
    let said = doctor(&target.discovery(), "nqn.2014-08.org.nvmexpress.discovery");
    told(&said, "this is the discovery NQN");
}

#[test]
fn options_that_cannot_be() {
    told(&fail(&["doctor", "-a", "127.0.0.1", "-n", ""]), "-n: the NQN is empty");
    told(&fail(&["discover", "-a", "127.0.0.1", "-I", "seven"]), "-I: a host identifier is a UUID");
    told(&fail(&["target", "--namespace", "mem:1M"]), "a target needs at least one port");
    told(&fail(&["target", "--port", "0", "--namespace", "disk.img"]), "`disk.img` is not a valid namespace");
    let said = fail(&["discover", "-t", "rdma", "-a", "127.0.0.1"]);
    assert!(said.starts_with("error: invalid value 'rdma' for '--transport"), "{said}");
}

#[test]
fn a_configuration_with_a_typing_error() {
    let config = Scratch::new("typo.toml", b"[[port]]\nlisten = 0\n[[namespaec]]\nbacking = \"mem:1M\"\n");
    let said = fail(&["target", "--config", config.path()]);
    told(&said, "unknown key `namespaec`: did you mean `namespace`?");
    assert!(said.contains("typo.toml"), "{said}");
    told(&fail(&["target", "--config", "/nonexistent.toml"]), "cannot read `/nonexistent.toml`: No such file");
}

#[test]
fn what_is_shown_as_effective_is_not_what_a_list_excludes_and_an_entry_that_excludes_nothing_is_an_error() {
    let config = Scratch::new("none.toml", b"");
    let nvme = config.0.with_extension("nvme");
    std::fs::create_dir_all(&nvme).expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(nvme.join(name), text).expect("a file");
    let port = |last| format!("controller = transport=tcp;traddr=192.0.2.{last}\n");
    write("nvme-fabrics.conf", &format!("[Subsystem]\nnqn = nqn.2014-08.org.example:a\n{}{}", port(1), port(2)));
    write("exclusions.conf", "[exclusions]\nexclusion = transport=tcp;traddr=192.0.2.1\n");
    let dir = nvme.to_str().expect("ASCII");
    let show = || succeed(&["config", "show", config.path(), "--nvme-dir", dir, "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&show()).expect("JSON");
    let connections = shown["connections"].as_array().expect("a list");
    assert_eq!(connections.len(), 1, "{shown}");
    assert_eq!(connections[0]["traddr"], "192.0.2.2");
    assert_eq!(
        shown["notes"][0],
        "nqn.2014-08.org.example:a on 192.0.2.1 port 4420: excluded from automatic connection"
    );
    write("exclusions.conf", "[exclusions]\nexclusion = transport=tcp,traddr=192.0.2.1\n");
    let said = fail(&["config", "validate", config.path(), "--nvme-dir", dir]);
    assert!(
        said.contains("exclusions.conf, line 2: transport = tcp,traddr=192.0.2.1: fields are separated by `;`"),
        "{said}"
    );
    // While a list cannot be read nothing is connected by itself.
    std::fs::write(nvme.join("exclusions.conf"), b"\xff").expect("a file");
    let shown: serde_json::Value = serde_json::from_str(&show()).expect("JSON");
    assert_eq!(shown["connections"], serde_json::json!([]), "{shown}");
    std::fs::remove_dir_all(&nvme).expect("it is ours");
}

#[test]
fn a_file_that_cannot_be_served() {
    let any = ["target", "--port", "127.0.0.1:0", "--namespace"];
    let serve = |backing: &str| fail(&[&any[..], &[backing]].concat());
    told(&serve("file:/nonexistent.img"), "/nonexistent.img");

    let disk = Scratch::new("used.img", &vec![0; 1 << 20]);
    let backing = format!("file:{}", disk.path());
    let first = Target::start(&["--port", "127.0.0.1:0", "--namespace", &backing]);
    let said = serve(&backing);
    told(&said, disk.path());
    assert!(said.contains("use"), "it says that the file is in use: {said}");
    drop(first);
    drop(Target::start(&["--port", "127.0.0.1:0", "--namespace", &backing]));

    let locked = Scratch::new("read-only.img", &vec![0; 1 << 20]);
    std::fs::set_permissions(&locked.0, std::fs::Permissions::from_mode(0o444)).expect("our own file");
    if std::fs::OpenOptions::new().write(true).open(&locked.0).is_err() {
        told(&serve(&format!("file:{}", locked.path())), locked.path());
    }
    let odd = Scratch::new("directory.img", b"");
    told(&serve(&format!("file:{}", odd.path())), odd.path());
}

#[test]
fn a_port_that_is_taken() {
    let first = Target::usual(&[]);
    let taken = format!("127.0.0.1:{}", first.port(0));
    let said = fail(&["target", "--port", &taken, "--namespace", "mem:1M"]);
    told(&said, &format!("cannot listen on {taken}: Address already in use"));
}

#[test]
fn a_version_of_the_output_that_there_is_not() {
    let nothing = ["config", "validate", "/dev/null", "--nvme-dir", "/nonexistent", "-o", "json"];
    let as_version = |version| [&nothing[..], &["--output-format-version", version]].concat();
    assert!(crate::child::succeed(&as_version("1")).contains("\"format_version\": 1"));
    let refused = crate::child::interlock(&as_version("2")).output().expect("the binary runs");
    assert_eq!(refused.status.code(), Some(1));
    let problem: serde_json::Value = serde_json::from_slice(&refused.stdout).expect("JSON was asked for");
    assert_eq!(problem["kind"], "bad-request");
    assert!(problem["error"].as_str().expect("a text").contains("--output-format-version"), "{problem}");
}

#[test]
fn a_drill_that_does_not_take_place_says_nothing_of_any_data() {
    let foreign = ["drill", "--target", "tcp:127.0.0.1:1", "--target", "tcp:127.0.0.1:1", "--nqn", NQN];
    let unwritable = ["drill", "reset", "--report", "/nonexistent/drill.html"];
    for args in [&["drill", "no-such"][..], &["drill", "--frob"][..], &foreign[..], &unwritable[..]] {
        let output = crate::child::interlock(args).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let list = crate::child::interlock(&["drill", "--list", "-o", "json"]).output().expect("the binary runs");
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    assert_eq!(list["scenarios"][0]["name"], "reset");
}
