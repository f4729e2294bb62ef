//! Slips of whoever types: a name that is wrong ends nothing, and keeps nothing else from being done.

use crate::child::{NQN, interlock};
use crate::scene::Scene;
use serde_json::Value;

#[test]
fn a_slip_in_what_is_to_be_kept_disconnects_nothing() {
    let scene = Scene::new("kept", &[]);
    scene.connect(0, &[]);
    scene.connect(1, &[]);
    for slip in ["nvme9", "nvme-subsys7", "nqn.2014-08.org.example:other", "nvme0n9", "nvme0,nvme9"] {
        let told = scene.fails(&["disconnect-all", "-x", slip]);
        assert!(told.contains("it is not connected, and nothing was disconnected"), "{slip}: {told}");
        assert!(told.contains("hint: connected are: nvme0, nvme1"), "{slip}: {told}");
    }
    let told = scene.verb(&["disconnect-all", "-x", "nvme9", "-o", "json"]);
    let document: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!((told.status.code(), &document["kind"]), (Some(1), &"not-found".into()), "{document}");
    scene.all_live(&["nvme0", "nvme1"]);
    // Everything that a disk is called keeps it.
    for kept in [NQN, "nvme-subsys0", "/dev/nvme0n1", "nvme0,nvme1"] {
        let told = scene.does(&["disconnect-all", "--exclude", kept]);
        assert_eq!(told, "nothing but what is kept is connected\n", "{kept}");
    }
    scene.all_live(&["nvme0", "nvme1"]);
    assert_eq!(scene.does(&["disconnect-all", "-r", "tcp", "-x", "/dev/nvme1"]), "disconnected nvme0\n");
    assert_eq!(scene.does(&["disconnect-all"]), "disconnected nvme1\n");
}

#[test]
fn one_of_several_devices_that_is_not_there_keeps_no_other_from_its_turn() {
    let scene = Scene::new("several", &[]);
    scene.connect(0, &[]);
    scene.connect(1, &[]);
    let told = scene.verb(&["reset", "nvme9", "nvme1", "nvme8"]);
    let (out, said) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert_eq!((told.status.code(), &*out), (Some(1), "reset nvme1\n"), "{said}");
    assert!(
        said.contains("error: `nvme9` is not connected") && said.contains("also: `nvme8` is not connected"),
        "{said}"
    );
    scene.all_live(&["nvme0", "nvme1"]);
    let told = scene.verb(&["disconnect", "-d", "nvme9,nvme0", "-o", "json"]);
    let document: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!((told.status.code(), &document["kind"]), (Some(1), &"not-found".into()), "{document}");
    assert!(document["hints"].to_string().contains("done: nvme0"), "{document}");
    let status = scene.status();
    assert_eq!(status["controllers"].as_array().map(Vec::len), Some(1), "{status}");
}

#[test]
fn what_would_be_connected_is_checked_and_shown() {
    let scene = Scene::new("dry", &[]);
    let port = scene.target.port(0);
    let connect = ["connect", "-a", "127.0.0.1", "-s", &port, "-n", NQN, "--dry-run"];
    let with = |more: &[&'static str]| [connect.as_slice(), more].concat();
    assert_eq!(scene.does(&connect), format!("interlock connect -t tcp -a 127.0.0.1 -s {port} -n {NQN}\n"));
    let all: Value = serde_json::from_str(&scene.does(&with(&["-l", "off", "-o", "json"]))).expect("JSON");
    assert_eq!(all["wanted"][0]["ctrl_loss_tmo_s"], -1, "{all}");
    for wrong in [&["-k", "0"][..], &["-Q", "1"], &["-q", "nqn.2014-08.org.example:other"], &["-w", "::1"]] {
        let told = scene.fails(&with(wrong));
        assert!(told.starts_with("error: "), "{wrong:?}: {told}");
    }
    // Whose side is wrong is said: the target answers.
    let real = &connect[..connect.len() - 1];
    for (own, says) in [("-w", "192.0.2.77"), ("-f", "nosuch0")] {
        let told = scene.fails(&[real, &[own, says]].concat());
        assert!(told.contains(&format!("({own})")) && told.contains(says), "{told}");
    }
    assert_eq!(scene.status()["controllers"], serde_json::json!([]));
}

/// What the command line says is in force for what files name, too.
#[test]
fn connect_all_takes_its_settings_for_what_files_name() {
    let scene = Scene::new("settings", &[]);
    let (nvme, config) = (scene.dir.join("nvme").display().to_string(), scene.dir.join("c.toml").display().to_string());
    let entry =
        format!("[[connect]]\ntraddr = \"127.0.0.1\"\ntrsvcid = {}\nsubnqn = \"{NQN}\"\n", scene.target.port(0));
    std::fs::write(&config, entry).expect("a file");
    let line = format!("-t tcp -a 127.0.0.1 -s {}\n", scene.target.discovery());
    std::fs::write(scene.dir.join("nvme/discovery.conf"), line).expect("a file");
    let all = ["connect-all", "--nvme-dir", &nvme, "--config", &config];
    let other = scene.fails(&[all.as_slice(), &["-q", "nqn.2014-08.org.example:other"]].concat());
    assert!(other.contains("the daemon is another host"), "{other}");
    assert_eq!(scene.status()["controllers"], serde_json::json!([]));
    scene.does(&[all.as_slice(), &["-l", "-1", "-c", "3", "-w", "127.0.0.1"]].concat());
    let status = scene.all_live(&["nvme0", "nvme1"]);
    for ctrl in status["controllers"].as_array().expect("a list") {
        assert_eq!(ctrl["settings"]["ctrl_loss_tmo_s"], -1, "{ctrl}");
        assert_eq!(ctrl["settings"]["reconnect_delay_s"], 3, "{ctrl}");
    }
}

/// One variable names the socket for both sides.
#[test]
fn the_daemon_listens_where_the_environment_says() {
    let dir = tempfile::tempdir().expect("a place");
    let at = |name: &str| dir.path().join(name).display().to_string();
    // A directory is no socket: the error names what would have been used.
    std::fs::create_dir(dir.path().join("taken")).expect("a directory");
    let mut command = interlock(&["daemon", "--state-dir", &at("state"), "--nvme-dir", &at("nvme")]);
    let output = command.env("INTERLOCK_SOCKET", at("taken")).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("{} exists and is not a socket", at("taken"))), "{told}");
}
