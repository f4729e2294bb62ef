//! Who this host is, and who else: what `doctor` hears from the daemon, and what happens to a second process.

use crate::child::NQN;
use crate::nbd::Client;
use crate::scene::{Scene, wait_for};
use serde_json::Value;

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
    assert!(hint.contains("nothing to look at: no -a was given"), "{hint}");
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
