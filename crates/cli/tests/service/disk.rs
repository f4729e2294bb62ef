//! "Connect and export a disk" of docs/guide.md, as typed: an image is put on it, a path dies, and it is read back identical.

use crate::child::NQN;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;

/// A client of the world outside; says so if it is not installed.
fn client(program: &str) -> Option<Command> {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        say(&format!("SKIPPED: {program} is not installed"));
    }
    there.then(|| Command::new(program))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("it was there a moment ago");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn image(path: &Path, seed: u8) {
    let bytes: Vec<u8> = (0..6_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed).collect();
    std::fs::write(path, bytes).expect("a file");
}

#[test]
fn an_image_survives_a_path_a_restart_and_a_kill() {
    let mut scene = Scene::new("disk", &[]);
    assert_eq!(scene.connect(0, &["-c", "1", "-l", "-1"]), "connecting to device: nvme0\n");
    assert_eq!(scene.connect(1, &["-c", "1", "-l", "-1"]), "connecting to device: nvme1\n");
    let uri = scene.does(&["export", "nvme0n1"]);
    let uri = uri.trim();
    assert_eq!(uri, format!("nbd+unix:///nvme0n1?socket={}", scene.nbd().display()));
    let (Some(mut put), Some(_)) = (client("qemu-img"), client("qemu-io")) else { return };
    let (one, two) = (scene.dir.join("one.img"), scene.dir.join("two.img"));
    image(&one, 1);
    image(&two, 2);
    run(put.args(["convert", "-n", "-f", "raw", "-O", "raw"]).arg(&one).arg(uri));
    // The second image is on its way when a path dies.
    let mut load = Command::new("qemu-img");
    load.args(["convert", "-n", "-f", "raw", "-O", "raw", "-r", "4M"]).arg(&two).arg(uri);
    let load = load.spawn().expect("it was there a moment ago");
    wait_for("it writes", || (scene.status()["exports"][0]["clients"].as_u64()? > 0).then_some(()));
    let refused = scene.fails(&["disconnect", "-n", NQN]);
    assert!(refused.contains("is in use by ") && refused.contains("hint: end the clients first"), "{refused}");
    scene.tell(&["port", "close", "0"]);
    let ended = load.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "the client notices nothing");
    wait_for("one path is left", || {
        let status = scene.status();
        (status["controllers"][0]["state"] == "connecting"
            && status["namespaces"][0]["paths"][0]["controller"] == "nvme1")
            .then_some(())
    });
    let same = |uri: &str| {
        // Equal as far as the image goes: the disk is larger, and zero beyond.
        run(Command::new("qemu-img").args(["compare", "-f", "raw", "-F", "raw"]).arg(&two).arg(uri));
    };
    same(uri);
    scene.tell(&["port", "open", "0"]);
    scene.does(&["reconnect", "nvme0"]);
    scene.all_live(&["nvme0", "nvme1"]);
    same(uri);
    for signal in [Signal::TERM, Signal::KILL] {
        let (code, log) = scene.stop(signal);
        assert_eq!(code == Some(0) && log.contains("ended gracefully"), signal == Signal::TERM, "{log}");
        scene.start();
        let status = scene.all_live(&["nvme0", "nvme1"]);
        assert_eq!(status["exports"][0]["uri"], uri);
        same(uri);
    }
}

#[test]
fn data_moves_without_a_daemon_and_never_beside_it() {
    let mut scene = Scene::new("io", &[]);
    scene.connect(0, &[]);
    let places = |scene: &Scene| {
        let path = |name: &str| scene.dir.join(name).display().to_string();
        ["--state-dir".to_owned(), path("state"), "--nvme-dir".to_owned(), path("nvme")]
    };
    let there = format!("nvme:127.0.0.1:{},127.0.0.1:{}/{NQN}/1", scene.target.port(0), scene.target.port(1));
    let (from, to) = (scene.dir.join("from.img"), scene.dir.join("to.img"));
    image(&from, 7);
    let places = places(&scene);
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    fn copy<'a>(from: &'a str, to: &'a str, places: &[&'a str]) -> Vec<&'a str> {
        [&["io", "copy", from, to], places].concat()
    }
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let refused = scene.fails(&copy(&from, &there, &places));
    let owner = format!("in use by process {} (interlock daemon)", scene.daemon().pid());
    assert!(refused.contains(&owner), "{refused}");
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    scene.does(&copy(&from, &there, &places));
    let length = std::fs::metadata(&from).expect("ours").len().to_string();
    scene.does(&[copy(&there, &to, &places).as_slice(), &["--length", &length]].concat());
    assert!(std::fs::read(&from).expect("ours") == std::fs::read(&to).expect("ours"), "read back identical");
    let whole = scene.verb(&[&["io", "read", &there], places.as_slice()].concat());
    assert_eq!(whole.stdout.len(), 8 << 20, "{}", String::from_utf8_lossy(&whole.stderr));
    let long = scene.dir.join("long.img");
    std::fs::write(&long, vec![1; 9 << 20]).expect("a file");
    let refused = scene.fails(&copy(&long.display().to_string(), &there, &places));
    assert!(refused.contains("do not fit") && refused.contains("nothing was written"), "{refused}");
}
