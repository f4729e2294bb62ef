//! What is lost, or cannot be used, is shown as that: by every view, and by the daemon when it ends.

use crate::child::{NQN, Target};
use crate::nbd::Client;
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_lost_path_stays_in_the_topology_and_io_without_a_usable_path_waits_by_name() {
    let scene = Scene::new("standing", &[]);
    for port in [0, 1] {
        scene.connect(port, &["-l", "-1"]);
    }
    scene.does(&["export", "nvme0n1"]);
    let about = || scene.status()["subsystems"][0].clone();
    let live = about();
    let serial = live["serial"].as_str().expect("text").to_owned();
    assert!(!serial.is_empty() && live["last_known"] == false, "{live}");
    let unreachable = || scene.status()["namespaces"][0]["unreachable"].clone();
    assert_eq!(unreachable(), serde_json::Value::Null);
    assert_eq!(scene.status()["exports"][0]["serving"], true);

    scene.tell(&["port", "close", "0"]);
    wait_for("it is lost", || (scene.status()["controllers"][0]["state"] == "connecting").then_some(()));
    let tree = scene.does(&["show-topology"]);
    let lost = tree.lines().find(|line| line.contains("+- nvme0 tcp")).unwrap_or_else(|| panic!("{tree}"));
    assert!(lost.ends_with(" connecting optimized"), "with its last ANA state, as in Linux: {tree}");
    let lost = &scene.status()["namespaces"][0]["lost_paths"][0];
    assert_eq!((&lost["name"], &lost["controller"]), (&"nvme0c0n1".into(), &"nvme0".into()));
    assert!(scene.does(&["status"]).contains("nvme1 optimized, nvme0 connecting"));
    let document = scene.does(&["show-topology", "-o", "json"]);
    assert!(document.contains("\"nvme0c0n1\"") && document.contains("\"connecting\""), "{document}");

    scene.tell(&["ana", "1", "inaccessible"]);
    wait_for("no path can be used", || (unreachable() == "no-usable-path").then_some(()));
    for (view, words) in [
        (&["status"][..], "NO USABLE PATH: I/O waits (nvme1 inaccessible, nvme0 connecting)"),
        (&["list"], "0/2 NO USABLE PATH: I/O waits"),
        (&["export"], "waits for a usable path: the ANA state of every path forbids I/O"),
        (&["doctor"], "I/O to nvme0n1 waits: the ANA state of every path forbids it (no-usable-path)"),
    ] {
        let told = scene.does(view);
        assert!(told.contains(words), "{view:?}: {told}");
    }
    assert_eq!(scene.status()["exports"][0]["serving"], false);
    let top = scene.does(&["top", "--once", "--source", "daemon", "-o", "json"]);
    assert!(top.contains("no usable path: I/O waits or fails"), "{top}");

    scene.tell(&["port", "close", "1"]);
    wait_for("no path is left", || (unreachable() == "no-path").then_some(()));
    assert!(scene.does(&["status"]).contains("NO PATH: I/O waits (nvme0 connecting, nvme1 connecting)"));
    let all = scene.does(&["list", "-v"]);
    for words in ["Subsystem-NQN", "nvme-subsys0  ", "nvme0, nvme1", "TxPort", "connecting  ", "nvme0n1  0x1"] {
        assert!(all.contains(words), "{words}: {all}");
    }
    let last = about();
    for fact in ["model", "serial", "firmware"] {
        assert_eq!(last[fact], live[fact], "what the last live controller reported stays");
    }
    assert_eq!(last["last_known"], true);
    let listed = scene.does(&["list"]);
    assert!(listed.contains(&format!("{serial} (last known)")), "{listed}");
    let judged = scene.fails(&["doctor"]);
    assert!(judged.contains("hint: I/O to nvme0n1 waits: no live controller has it"), "{judged}");
    let tree = scene.does(&["show-topology"]);
    assert_eq!(tree.lines().filter(|line| line.contains(" connecting ")).count(), 2, "{tree}");
    // Only what is asked for.
    assert!(scene.does(&["status", "nvme1"]).contains("nvme0n1"));
    assert!(scene.fails(&["list-subsys", "nvme9"]).contains("no device `nvme9`"));
    let told = scene.does(&["explain", "/dev/nvme1"]);
    assert!(told.contains("nvme1 ("), "{told}");
}

#[test]
fn a_daemon_that_ends_with_unanswered_writes_does_not_say_that_there_are_none() {
    let mut scene = Scene::new("unanswered", &["--no-ccr"]);
    scene.connect(0, &[]);
    scene.does(&["export", "nvme0n1"]);
    let mut client = Client::open(&scene.nbd(), "nvme0n1").expect("the export");
    client.write(4096, &[7; 4096]).expect("written");
    scene.tell(&["fault", "kind=hold-writes,port=0"]);
    client.begin_write(1, 8192, &[8; 4096]).expect("sent");
    wait_for("it is under way", || (scene.status()["exports"][0]["in_flight"] == 1).then_some(()));
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(1), "{log}");
    assert!(!log.contains("nothing is left unanswered"), "{log}");
    assert!(log.contains("left unanswered commands that may take effect late; the next process fences them"), "{log}");
}

#[test]
fn a_reservation_conflict_is_an_event_of_the_namespace_and_one_path_and_not_one_for_each_write() {
    let scene = Scene::new("conflict", &[]);
    scene.connect(0, &[]);
    scene.does(&["export", "nvme0n1"]);
    let mut client = Client::open(&scene.nbd(), "nvme0n1").expect("the export");
    client.write(4096, &[7; 4096]).expect("written");
    scene.tell(&["fault", "kind=fail-io,port=0,status=0x4083"]);
    wait_for("the fault is in force", || client.write(4096, &[7; 4096]).is_err().then_some(()));
    for _ in 0..50 {
        client.write(8192, &[7; 4096]).expect_err("the client is told of each");
    }
    let told = scene.does(&["events", "--since", "0"]);
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("Reservation Conflict")).collect();
    assert!(lines.len() == 1 && lines[0].contains("warn"), "{told}");
    assert!(lines[0].contains("nvme0: nvme0n1: Reservation Conflict (083h, do not retry) on life"), "{told}");
    assert!(lines[0].contains("another host holds a reservation of the namespace"), "{told}");
    let document = scene.does(&["events", "--since", "0", "-o", "json"]);
    assert!(document.contains("\"event\":\"reservation_conflict\",\"namespace\":\"nvme0n1\""), "{document}");
    let log = scene.daemon().log();
    assert!(log.contains("Reservation Conflict (083h, do not retry)"), "{log}");
}

#[test]
fn io_that_a_controller_fails_is_reported_with_its_status_and_not_for_every_request() {
    let scene = Scene::new("io-failed", &[]);
    scene.connect(0, &[]);
    scene.does(&["export", "nvme0n1"]);
    let mut client = Client::open(&scene.nbd(), "nvme0n1").expect("the export");
    client.write(4096, &[7; 4096]).expect("written");
    // Unrecovered Read Error, with Do Not Retry.
    scene.tell(&["fault", "kind=fail-io,port=0,status=0x4281"]);
    wait_for("the fault is in force", || client.write(4096, &[7; 4096]).is_err().then_some(()));
    for _ in 0..50 {
        client.write(8192, &[7; 4096]).expect_err("the client is told of each");
    }
    let told = scene.does(&["events", "--since", "0"]);
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("failed: the controller answered")).collect();
    assert!(lines.len() == 1 && lines[0].contains("warn"), "{told}");
    assert!(lines[0].contains("export nvme0n1: write of 4096 bytes at "), "{told}");
    assert!(lines[0].contains("Unrecovered Read Error (281h, do not retry)"), "{told}");
}

/// Two nodes that do not know of each other give their controllers equal identifiers: the second is not used under such a one,
/// and is told why. `doctor` counts the paths that are there, not those that a log names.
#[test]
fn nodes_with_equal_controller_identifiers_are_named() {
    let one = ["--serial", "S", "--uuid", "1=01234567-89ab-4def-8123-456789abcdef"];
    let scene = Scene::new("cntlid", &one);
    let discovery = scene.target.discovery();
    scene.tell(&["port", "close", "1"]);
    scene.connect(0, &[]);
    let other = Target::usual(&one);
    let port = other.port(0);
    let connect = ["connect", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
    let why = "controller 0x0001 contradicts nvme0, a controller of the same subsystem that is there";
    let refused = scene.fails(&connect);
    assert!(refused.contains(why) && refused.contains("its own range of controller identifiers"), "{refused}");
    assert_eq!(scene.status()["controllers"].as_array().map(Vec::len), Some(1));
    // The next of that node has another identifier.
    scene.does(&[connect.as_slice(), &["--keep-trying", "-c", "1"]].concat());
    scene.all_live(&["nvme0", "nvme1"]);
    let doctor: Value = serde_json::from_slice(&scene.verb(&["doctor", "-o", "json"]).stdout).expect("JSON");
    let findings = doctor["reports"][0]["findings"].as_array().expect("a list");
    let codes: Vec<&str> = findings.iter().filter_map(|finding| finding["code"].as_str()).collect();
    assert!(codes.contains(&"way-not-in-log") && !codes.contains(&"single-path"), "{discovery}: {doctor}");
}
