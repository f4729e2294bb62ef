//! Who this host is, and who else: what `doctor` hears from the daemon, and what happens to a second process.

use crate::child::NQN;
use crate::nbd::Client;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

#[test]
fn doctor_hears_the_daemon_and_says_so() {
    let scene = Scene::new("doctor", &[]);
    let nothing = scene.fails(&["doctor"]);
    assert!(nothing.contains("the daemon has nothing connected\nhint: give a port"), "{nothing}");
    scene.connect(0, &["-l", "77", "-c", "1"]);
    let said = scene.does(&["doctor"]);
    let port = scene.target.port(0);
    let daemon = format!(
        "Daemon     process {} has it connected, and its settings are judged: nvme0 127.0.0.1:{port} live\n",
        scene.daemon().pid()
    );
    assert!(said.contains(&daemon), "{said}");
    let unused = format!("change: interlock connect -a 127.0.0.1 -s {} -n {NQN}\n", scene.target.port(1));
    assert!(said.contains("(way-not-used)") && said.contains(&unused), "{said}");
    // Its settings, not the defaults: 77 s are less than what a path may take to be sure.
    let whole: Value = serde_json::from_str(&scene.does(&["doctor", "-o", "json"])).expect("JSON");
    let live = &whole["reports"][0]["live"];
    assert_eq!((&live["pid"], &live["controllers"][0]["name"]), (&scene.daemon().pid().into(), &"nvme0".into()));
    assert_eq!(whole["reports"][0]["hostnqn"], scene.status()["hostnqn"], "the target sees the same host");
    // By name: one port is listed once.
    let by_name = ["doctor", "-a", "localhost", "-s", &port, "-n", NQN, "-o", "json"];
    let report: Value = serde_json::from_str(&scene.does(&by_name)).expect("JSON");
    let asked: Vec<bool> =
        report["ports"].as_array().expect("a list").iter().filter_map(|port| port["asked"].as_bool()).collect();
    assert_eq!(asked, [true, false], "{report}");
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    scene.tell(&["port", "close", "1"]);
    wait_for("it is tried", || (scene.status()["controllers"][1]["state"] == "connecting").then_some(()));
    let said = scene.does(&["doctor", "-n", NQN]);
    assert!(said.contains("nvme1 (127.0.0.1:") && said.contains("(path-down)"), "{said}");
    let alone = scene.verb(&["doctor", "--socket", "/nonexistent", "-a", "127.0.0.1", "-s", &port, "-n", NQN]);
    assert!(String::from_utf8_lossy(&alone.stdout).contains("Daemon     does not run"), "{alone:?}");
    let hint = scene.fails(&["doctor", "--socket", "/nonexistent"]);
    assert!(hint.contains("nothing to check: no -a was given"), "{hint}");
}

#[test]
fn a_second_process_is_refused_with_the_name_of_the_first() {
    let scene = Scene::new("second", &[]);
    let hostid = scene.status()["hostid"].as_str().expect("text").to_owned();
    let target = |n: usize| format!("tcp:127.0.0.1:{}", scene.target.port(n));
    let (a, b) = (target(0), target(1));
    let drill = ["drill", "foreign-reset", "--target", &a, "--target", &b, "--nqn", NQN, "--hostid", &hostid];
    let refused = scene.verb(&drill);
    assert_eq!(refused.status.code(), Some(3), "no drill took place");
    let refused = String::from_utf8(refused.stderr).expect("text");
    let owner = format!("in use by process {} (interlock daemon)", scene.daemon().pid());
    assert!(refused.contains(&owner) && refused.contains("hint: end that one first"), "{refused}");
}

#[test]
fn a_daemon_that_is_replaced_ends_by_itself() {
    let mut scene = Scene::new("disowned", &[]);
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    let hostid = scene.status()["hostid"].as_str().expect("text").to_owned();
    // Whoever replaces the lock is this host from then on; the daemon learns it when it wants to release held writes.
    let lock = scene.dir.join("state/hosts").join(&hostid).join("lock");
    std::fs::remove_file(&lock).expect("the lock");
    std::fs::write(&lock, "").expect("another one");
    let mut client = wait_for("the export is there", || Client::open(&scene.nbd(), "nvme0n1").ok());
    for port in ["0", "1"] {
        scene.tell(&["fault", &format!("kind=hold-writes,port={port}")]);
    }
    for block in 0..4 {
        client.begin_write(block, block * 4096, &[7; 4096]).expect("a socket");
    }
    wait_for("they are held", || (scene.status()["exports"][0]["in_flight"].as_u64()? >= 4).then_some(()));
    scene.tell(&["fault", "kind=reset-connections,port=0"]);
    scene.tell(&["fault", "kind=reset-connections,port=1"]);
    let (code, log) = scene.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("this host is another process now: ending"), "{log}");
    assert!(log.contains("error: the daemon has ended: "), "{log}");
}

/// A name in the kernel's abstract socket space, as any user may take it.
const HELD: &str = "IL_HELD_NAME";

/// No test: a process of another user, which `whoever_may_not_be_this_host_cannot_keep_it_down` starts.
#[test]
#[ignore = "another test starts it"]
fn holds_a_name() {
    use std::os::linux::net::SocketAddrExt;
    let Ok(name) = std::env::var(HELD) else { return };
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a name");
    let _held = std::os::unix::net::UnixListener::bind_addr(&name).expect("it is free");
    say("held");
    // Until the other one has seen enough.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn whoever_may_not_be_this_host_cannot_keep_it_down() {
    if !rustix::process::geteuid().is_root() {
        return say("SKIPPED: only root can be somebody else");
    }
    let mut scene = Scene::new("squatter", &[]);
    scene.connect(0, &["-c", "1"]);
    let hostid = scene.status()["hostid"].as_str().expect("text").to_owned();
    scene.stop(Signal::TERM);
    // A copy that anybody may run, wherever this one lies.
    let program = scene.dir.join("squatter");
    std::fs::copy(std::env::current_exe().expect("this one"), &program).expect("a copy");
    let mut squatter = Command::new(&program);
    squatter.args(["--exact", "identity::holds_a_name", "--ignored", "--nocapture"]).current_dir("/");
    squatter.env(HELD, format!("interlock-host-{hostid}")).uid(65_534).gid(65_534);
    let mut squatter =
        squatter.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut said = BufReader::new(squatter.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "held"), "it has the name");
    scene.start();
    scene.all_live(&["nvme0"]);
    let log = scene.daemon().log();
    let named = format!("process {} (squatter) of user 65534 has the name", squatter.id());
    assert!(log.contains(&named) && log.contains("ignored"), "{log}");
    scene.stop(Signal::TERM);
    drop(squatter.stdin.take());
    let _ = squatter.wait();
}

/// Two network namespaces see none of each other's abstract names, and two state directories none of each other's locks.
#[test]
fn one_host_is_one_process_in_every_network_namespace_and_with_any_state_directory() {
    let scene = Scene::new("elsewhere", &[]);
    let status = scene.status();
    let (hostid, hostnqn) = (status["hostid"].as_str().expect("text"), status["hostnqn"].as_str().expect("text"));
    let path = |name: &str| scene.dir.join(name).display().to_string();
    let (socket, state, nvme) = (path("second.sock"), path("second"), path("second-nvme"));
    let second = [
        "daemon",
        "--socket",
        &socket,
        "--state-dir",
        &state,
        "--nvme-dir",
        &nvme,
        "--hostid",
        hostid,
        "--hostnqn",
        hostnqn,
    ];
    let owner = format!("in use by process {}", scene.daemon().pid());
    let refused = crate::child::interlock(&second).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(&owner), "{said}");
    if !rustix::process::geteuid().is_root() {
        return say("SKIPPED in part: only root can make a network namespace");
    }
    let mut elsewhere = Command::new("unshare");
    let elsewhere = elsewhere.args(["--net", env!("CARGO_BIN_EXE_interlock")]).args(second).output();
    let Ok(refused) = elsewhere else { return say("SKIPPED in part: there is no unshare") };
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    if said.contains("unshare failed") {
        return say("SKIPPED in part: no network namespace can be made here");
    }
    assert!(!refused.status.success() && said.contains(&owner), "{said}");
}
