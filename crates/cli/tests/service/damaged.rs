//! Files of the state directory that are not what was written: what no write depends on keeps no disk away, and what writes
//! depend on is refused and left as it is.

use crate::child::interlock;
use crate::nbd::Client;
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// What becomes of a file.
type Damage = fn(&Path);

fn emptied(file: &Path) {
    fs::write(file, "").expect("ours");
}

fn cut(file: &Path) {
    let bytes = fs::read(file).expect("it is there");
    fs::write(file, &bytes[..bytes.len() / 2]).expect("ours");
}

fn garbage(file: &Path) {
    fs::write(file, [0xa5; 3_000]).expect("ours");
}

fn directory(file: &Path) {
    fs::remove_file(file).expect("it is there");
    fs::create_dir(file).expect("a directory");
}

const ALL: [(&str, Damage); 4] = [("emptied", emptied), ("cut", cut), ("garbage", garbage), ("a directory", directory)];

fn host_dir(scene: &Scene) -> PathBuf {
    let hosts = fs::read_dir(scene.dir.join("state/hosts")).expect("the state directory");
    hosts.map(|entry| entry.expect("a host").path()).find(|path| path.is_dir()).expect("one host")
}

/// Takes what a damage left out of the way.
fn remove(file: &Path) {
    let _ = fs::remove_file(file);
    let _ = fs::remove_dir(file);
}

fn copy(from: &Path, to: &Path) {
    remove(to);
    fs::copy(from, to).expect("a file");
}

#[test]
fn no_file_that_no_write_depends_on_keeps_the_daemon_down() {
    let mut scene = Scene::new("files", &[]);
    let host = host_dir(&scene);
    fs::write(host.join("events.next"), "5\n").expect("a file");
    for name in ["daemon.json", "daemon.changes", "journal.db", "journal.db-wal", "events.next"] {
        for (what, damage) in ALL {
            let _ = scene.verb(&["connect", "-a", "127.0.0.1", "-s", &scene.target.port(0), "-n", crate::child::NQN]);
            // Its name is another while its predecessor is not fenced.
            wait_for("it is live", || {
                let status = scene.status();
                let all = status["controllers"].as_array().expect("a list");
                all.iter().any(|ctrl| ctrl["state"] == "live").then_some(())
            });
            // Killed: a predecessor is to be found, whatever is damaged beside its record.
            scene.stop(Signal::KILL);
            let file = host.join(name);
            if !file.exists() {
                fs::write(&file, "0123456789").expect("a file");
            }
            damage(&file);
            scene.start();
            let log = scene.daemon().log();
            assert!(log.contains("is not fenced: writes to"), "{name} {what}: a predecessor was lost: {log}");
            let _ = scene.status();
            if file.is_dir() {
                scene.stop(Signal::TERM);
                remove(&file);
                scene.start();
            }
        }
    }
    // What was moved out of the way is kept. SQLite mends a journal from its log, as far as that goes.
    assert!(host.join("daemon.json.damaged-1").exists() && host.join("daemon.changes.damaged-1").exists());
}

#[test]
fn lives_that_cannot_be_read_are_refused_and_left_for_whoever_can() {
    let mut scene = Scene::new("lives", &[]);
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    Client::open(&scene.nbd(), "nvme0n1").expect("the export").write(0, &[1; 4096]).expect("written");
    scene.stop(Signal::KILL);
    let (lives, kept) = (host_dir(&scene).join("lives"), scene.dir.join("kept"));
    fs::copy(&lives, &kept).expect("a file");
    let path = |name: &str| scene.dir.join(name).display().to_string();
    let (socket, state, nvme) = (path("c.sock"), path("state"), path("nvme"));
    let newer: Damage = |file| {
        let text = fs::read_to_string(file).expect("text");
        let later = text.replacen("\"format\":", "\"format\":9", 1);
        assert_ne!(later, text);
        fs::write(file, later).expect("ours");
    };
    for (what, damage) in [("garbage", garbage as Damage), ("a directory", directory), ("newer", newer)] {
        damage(&lives);
        let before = fs::read(&lives).ok();
        let refused = interlock(&["daemon", "--socket", &socket, "--state-dir", &state, "--nvme-dir", &nvme]).output();
        let refused = refused.expect("the binary runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("/lives"), "{what}: {said}");
        assert_eq!(fs::read(&lives).ok(), before, "{what}: it is left as it was");
        copy(&kept, &lives);
    }
    scene.start();
    assert!(scene.daemon().log().contains("is not fenced: writes to"), "{}", scene.daemon().log());
    scene.all_live(&["nvme0"]);
}
