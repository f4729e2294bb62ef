//! A discovery controller that is watched: what it names is connected, now and whenever that changes.

use crate::child::{NQN, interlock};
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// How the first discovery controller stands.
fn first(scene: &Scene) -> Value {
    scene.status()["discovery"][0].clone()
}

fn wait_generation(scene: &Scene, more_than: u64) -> u64 {
    wait_for("the log was read again", || {
        let one = first(scene);
        one["generation"].as_u64().filter(|generation| one["state"] == "live" && *generation > more_than)
    })
}

#[test]
fn what_is_named_later_is_connected_and_what_is_named_no_more_stays() {
    let mut scene = Scene::new("discovery", &[]);
    // Nothing but events: no log is read again because time has passed.
    std::fs::write(scene.dir.join("interlock.toml"), "[daemon]\ndiscovery_interval_s = 0\n").expect("a file");
    scene.stop(Signal::TERM);
    scene.start();
    scene.tell(&["port", "close", "1"]);
    let port = scene.target.discovery();
    scene.does(&["connect-all", "-p", "-a", "127.0.0.1", "-s", &port, "-c", "1", "-l", "-1"]);
    let status = scene.all_live(&["nvme0"]);
    assert_eq!(status["controllers"].as_array().expect("a list").len(), 1, "the other port is closed");
    let before = wait_generation(&scene, 0);
    assert_eq!(first(&scene)["origin"], "asked for");
    // A port that opens is connected, and nothing but the event tells of it.
    scene.tell(&["port", "open", "1"]);
    let status = scene.all_live(&["nvme0", "nvme1"]);
    assert_eq!(status["controllers"][1]["path"]["trsvcid"], *scene.target.port(1));
    assert_eq!(status["controllers"][1]["settings"]["ctrl_loss_tmo_s"], -1, "with the settings that were asked for");
    let before = wait_generation(&scene, before);
    // One that is named no more stays wanted.
    scene.tell(&["port", "close", "0"]);
    let before = wait_generation(&scene, before);
    wait_for("it is tried", || (scene.status()["controllers"][0]["state"] == "connecting").then_some(()));
    // What was disconnected by hand is not connected by a change elsewhere.
    assert_eq!(scene.does(&["disconnect", "-d", "nvme1"]), "disconnected nvme1\n");
    scene.tell(&["port", "open", "0"]);
    wait_generation(&scene, before);
    let status = scene.all_live(&["nvme0"]);
    assert_eq!(status["controllers"].as_array().expect("a list").len(), 1, "{status}");

    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&format!("discovery at 127.0.0.1 port {port}: log ")), "{log}");
    scene.start();
    wait_generation(&scene, 0);
    // A controller that is lost changes nothing but its own line, and is tried again.
    scene.tell(&["port", "close", "2"]);
    let lost = wait_for("it is lost", || Some(first(&scene)).filter(|one| one["state"] == "connecting"));
    assert!(lost["last_error"].is_string(), "{lost}");
    scene.all_live(&["nvme0", "nvme1"]);
    scene.tell(&["port", "open", "2"]);
    wait_generation(&scene, 0);
    let text = scene.does(&["status"]);
    assert!(text.contains("discovery controllers\n  127.0.0.1:") && text.contains(" (asked for)"), "{text}");

    // What belongs to somebody else is left alone, until it is asked for by name.
    scene.does(&["disconnect", "-d", "nvme1"]);
    let theirs = format!("[exclusions]\nexclusion = transport=tcp;trsvcid={}\n", scene.target.port(1));
    std::fs::write(scene.dir.join("nvme/exclusions.conf"), theirs).expect("a file");
    let before = wait_generation(&scene, 0);
    scene.tell(&["port", "close", "1"]);
    let before = wait_generation(&scene, before);
    scene.tell(&["port", "open", "1"]);
    wait_generation(&scene, before);
    assert_eq!(scene.all_live(&["nvme0"])["controllers"].as_array().expect("a list").len(), 1);
    assert_eq!(scene.connect(1, &[]), "connecting to device: nvme1\n");
    let whom = format!("127.0.0.1:{port}");
    scene.does(&["disconnect", "--discovery", &whom]);
    assert_eq!(scene.status()["discovery"], serde_json::json!([]));
    assert!(scene.fails(&["disconnect", "--discovery", &whom]).contains("no discovery controller 127.0.0.1 port "));
    scene.does(&["disconnect", "--discovery", &whom, "--idempotent"]);
    scene.all_live(&["nvme0", "nvme1"]);
    assert!(scene.does(&["list-subsys"]).contains(NQN));
}

#[test]
fn what_was_given_up_is_tried_again_when_a_log_changes_that_still_names_it() {
    let mut scene = Scene::new("again", &[]);
    std::fs::write(scene.dir.join("interlock.toml"), "[daemon]\ndiscovery_interval_s = 0\n").expect("a file");
    scene.stop(Signal::TERM);
    scene.start();
    let port = scene.target.discovery();
    scene.does(&["connect-all", "-p", "-a", "127.0.0.1", "-s", &port, "-c", "1", "-l", "2"]);
    scene.all_live(&["nvme0", "nvme1"]);
    let before = wait_generation(&scene, 0);
    scene.tell(&["fault", "kind=mute,port=0"]);
    scene.tell(&["fault", "kind=reset-connections,port=0"]);
    let state = || scene.status()["controllers"][0]["state"].clone();
    wait_for("it is given up", || (state() == "dead").then_some(()));
    scene.tell(&["fault", "kind=unmute,port=0"]);
    assert_eq!(state(), "dead");
    // Something else changes, and the entry is there still.
    scene.tell(&["port", "close", "1"]);
    wait_generation(&scene, before);
    wait_for("it is tried again", || (state() == "live").then_some(()));
    let log = scene.daemon().log();
    assert!(log.contains(&format!(
        "discovery at 127.0.0.1 port {port}: its log has changed and names nvme0: it is tried again"
    )));
    // What was disconnected by hand stays so.
    scene.does(&["disconnect", "-d", "nvme0"]);
    let before = wait_generation(&scene, before);
    scene.tell(&["port", "open", "1"]);
    wait_generation(&scene, before);
    scene.all_live(&["nvme1"]);
    let all = scene.status()["controllers"].clone();
    assert_eq!(all.as_array().expect("a list").len(), 1, "{all}");
}

#[test]
fn what_nvme_cli_has_is_connected_when_it_is_asked_for_and_an_exclusion_list_can_be_read() {
    let mut scene = Scene::new("asked", &[]);
    let line = |port: usize, scene: &Scene| {
        format!("controller = transport=tcp;traddr=127.0.0.1;trsvcid={}\n", scene.target.port(port))
    };
    let conf = format!("[Subsystem]\nnqn = {NQN}\n{}{}tls = yes\n", line(0, &scene), line(1, &scene));
    let write = |name: &str, text: &str| std::fs::write(scene.dir.join(name), text).expect("a file");
    write("nvme/nvme-fabrics.conf", &conf);
    write("interlock.toml", "[daemon]\nnvme_cli_files = true\n");
    let nvme = scene.dir.join("nvme").display().to_string();
    let toml = scene.dir.join("interlock.toml").display().to_string();
    let refused = scene.fails(&["config", "validate", &toml, "--nvme-dir", &nvme]);
    assert!(refused.contains("line 3: `tls`: TLS and in-band authentication are not built yet"), "{refused}");
    // Not asked for: named, and nothing is connected.
    let good = conf.replace("tls = yes\n", "");
    let lists = "[exclusions]\nexclusion = trsvcid=1\n";
    write("nvme/nvme-fabrics.conf", &good);
    write("interlock.toml", "");
    write("nvme/exclusions.conf", lists);
    scene.stop(Signal::TERM);
    scene.start();
    let left = "2 connection(s) and 0 discovery controller(s) of nvme-cli are not connected";
    wait_for("it is told", || scene.daemon().log().contains(left).then_some(()));
    assert_eq!(scene.status()["controllers"], serde_json::json!([]));
    // Asked for, but nobody knows what is excluded.
    std::fs::write(scene.dir.join("interlock.toml"), "[daemon]\nnvme_cli_files = true\n").expect("a file");
    std::fs::write(scene.dir.join("nvme/exclusions.conf"), b"\xff").expect("a file");
    scene.daemon().signal(Signal::HUP);
    wait_for("it is told", || scene.daemon().log().contains("until this list can be read").then_some(()));
    wait_for("it is read", || scene.daemon().log().contains(" read again").then_some(()));
    assert_eq!(scene.status()["controllers"], serde_json::json!([]));
    let all = ["connect-all", "--nvme-dir", &nvme, "--config", &toml];
    assert!(scene.fails(&all).contains("until this list can be read"));
    std::fs::write(scene.dir.join("nvme/exclusions.conf"), lists).expect("a file");
    scene.daemon().signal(Signal::HUP);
    scene.all_live(&["nvme0", "nvme1"]);
    assert!(scene.fails(&["connect-all", "--nvme-dir", &nvme, "--config", &toml, "--tls"]).contains("not built yet"));
}

#[test]
fn a_host_that_the_kernel_is_already_is_refused_by_name() {
    let dir = std::env::temp_dir().join(format!("il-{}-kernel", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let id = "5a0f3c9e-3b5d-4c7e-9d55-0123456789ab";
    let theirs = dir.join("sys/class/nvme/nvme7");
    for sub in [&theirs, &dir.join("nvme")] {
        std::fs::create_dir_all(sub).expect("a directory");
    }
    for (file, text) in [("hostid", id), ("hostnqn", "nqn.x"), ("subsysnqn", NQN), ("address", "traddr=192.0.2.1")] {
        std::fs::write(theirs.join(file), format!("{text}\n")).expect("a file");
    }
    std::fs::write(dir.join("nvme/hostid"), id).expect("a file");
    let path = |name: &str| dir.join(name).display().to_string();
    let places = [
        "daemon",
        "--socket",
        &path("c"),
        "--state-dir",
        &path("state"),
        "--nvme-dir",
        &path("nvme"),
        "--sys",
        &path("sys"),
    ];
    let output = interlock(&places).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("nvme7 ({NQN} at traddr=192.0.2.1)")), "{told}");
    assert!(told.contains("--share-identity-with-kernel"), "{told}");
    let _ = std::fs::remove_dir_all(&dir);
}
