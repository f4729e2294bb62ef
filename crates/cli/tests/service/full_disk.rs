//! The state directory on a file system that fills up, or that the kernel makes read-only, while I/O runs.
//!
//! What is refused was not done, what is confirmed comes back after a restart, running I/O goes on, and when there is room
//! again everything works without a restart.

use crate::child::NQN;
use crate::nbd::Client;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A small file system of its own, for the state directory. It ends with this value.
struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// `None`, said aloud, where there can be none.
    fn mount(dir: &Path, on: &Path) -> Option<Self> {
        let image = dir.join("disk.img");
        fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).expect("a file");
        fs::create_dir_all(on).expect("a directory");
        let disk = Self { image, mounted: on.to_owned() };
        let made = Command::new("mkfs.ext4").args(["-q", "-b", "1024", "-m", "0"]).arg(&disk.image).status();
        if made.is_ok_and(|status| status.success()) && disk.attach() {
            return Some(disk);
        }
        say("SKIPPED: no file system of its own can be mounted here");
        None
    }

    fn attach(&self) -> bool {
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mounted).output();
        mounted.is_ok_and(|output| output.status.success())
    }

    fn detach(&self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).output();
    }

    /// As the kernel does it after an error of the disk: also files that are open cannot be written.
    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,abort"]).arg(&self.mounted).output();
        assert!(status.expect("mount").status.success());
        wait_for("it is read-only", || fs::write(self.mounted.join("probe"), "x").is_err().then_some(()));
    }

    /// Fills it to the last block.
    fn fill(&self) {
        let mut file = fs::File::create(self.mounted.join("fill")).expect("a file");
        while file.write_all(&[7; 512]).is_ok() {}
        let _ = file.sync_all();
        while file.write_all(&[7; 1]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.mounted.join("fill")).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A scene whose state directory is a file system of its own, with two paths and an export.
fn on_a_small_disk(name: &str) -> Option<(Disk, Scene)> {
    let mut scene = Scene::new(name, &[]);
    scene.stop(Signal::TERM);
    let state = scene.dir.join("state");
    fs::remove_dir_all(&state).expect("ours");
    let disk = Disk::mount(&scene.dir, &state)?;
    fs::write(scene.dir.join("interlock.toml"), "").expect("a file");
    scene.start();
    for port in [0, 1] {
        scene.connect(port, &["-c", "1", "-l", "-1"]);
    }
    scene.does(&["export", "nvme0n1"]);
    scene.all_live(&["nvme0", "nvme1"]);
    Some((disk, scene))
}

/// Writes without a pause. Every write must succeed.
fn load(socket: &Path, over: &AtomicBool, answered: &AtomicU64) {
    let mut client = Client::open(socket, "nvme0n1").expect("the export");
    let mut n = 0;
    while !over.load(Ordering::SeqCst) {
        client.write(n % 64 * 4096, &[n as u8; 4096]).expect("running I/O goes on");
        n += 1;
        answered.store(n, Ordering::SeqCst);
    }
}

/// Ends a load, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// I/O is answered now.
fn goes_on(answered: &AtomicU64) {
    let before = answered.load(Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(60);
    while answered.load(Ordering::SeqCst) < before + 2 {
        assert!(Instant::now() < deadline, "running I/O goes on");
        std::thread::yield_now();
    }
}

fn controller(status: &Value, name: &str) -> Option<Value> {
    status["controllers"].as_array().expect("a list").iter().find(|ctrl| ctrl["name"] == *name).cloned()
}

/// Changes a setting until that is refused: a file's last block has room for a while. Gives the value that was confirmed last.
fn set_until_refused(scene: &Scene, why: &str) -> i64 {
    let mut confirmed = -1;
    for value in 1_000.. {
        let output = scene.verb(&["set", "nvme0", "--ctrl-loss-tmo", &value.to_string()]);
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains(why) && said.contains("cannot write"), "{said}");
            break;
        }
        confirmed = value;
        assert!(value < 1_100, "nothing is refused");
    }
    confirmed
}

/// Everything that would have to be written down is refused, and nothing of it was done.
fn everything_is_refused(scene: &Scene, why: &str) -> i64 {
    let confirmed = set_until_refused(scene, why);
    let setting = |status: &Value| controller(status, "nvme0").expect("it")["settings"]["ctrl_loss_tmo_s"].as_i64();
    assert_eq!(setting(&scene.status()), Some(confirmed), "what was refused was not done, what was done was said");
    let (other, discovery) = (scene.target.port(0), scene.target.discovery());
    for verb in [
        vec!["export", "nvme0n1", "--name", "second"],
        vec!["unexport", "nvme0n1", "--force"],
        vec!["disconnect", "-d", "nvme1"],
        vec!["connect", "-a", "127.0.0.1", "-s", &other, "-n", "nqn.2014-08.org.example:another"],
        vec!["connect-all", "-p", "-a", "127.0.0.1", "-s", &discovery],
    ] {
        let said = scene.fails(&verb);
        assert!(said.contains(why), "{verb:?}: {said}");
    }
    let status = scene.status();
    let exports = status["exports"].as_array().expect("a list");
    assert!(exports.len() == 1 && exports[0]["name"] == "nvme0n1" && exports[0]["serving"] == true, "{status}");
    assert_eq!(controller(&status, "nvme1").expect("it was not disconnected")["state"], "live");
    assert_eq!(status["controllers"].as_array().expect("a list").len(), 2, "{status}");
    assert_eq!(status["discovery"], serde_json::json!([]));
    confirmed
}

#[test]
fn a_full_state_directory_costs_what_must_be_written_down_and_nothing_else() {
    let Some((disk, mut scene)) = on_a_small_disk("full") else { return };
    let (socket, over, answered) = (scene.nbd(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&socket, &over, &answered));
        let ending = Over(&over);
        goes_on(&answered);
        disk.fill();
        everything_is_refused(&scene, "No space left on device");
        goes_on(&answered);
        // An export that the configuration wants cannot be bound to its disk, and waits for that.
        let wanted = format!("[[export]]\nsubnqn = \"{NQN}\"\nnsid = 1\nname = \"configured\"\nread_only = true\n");
        fs::write(scene.dir.join("interlock.toml"), wanted).expect("a file");
        scene.daemon().signal(Signal::HUP);
        wait_for("it is said", || {
            let _ = scene.status();
            scene.daemon().log().contains("exports wait until it can be written down").then_some(())
        });
        // A path is lost. Its fence needs no room. A new life would have to be recorded first, and is not used without that.
        let refused = |scene: &Scene| {
            let error = controller(&scene.status(), "nvme1")?["last_error"].as_str()?.to_owned();
            error.contains("No space left").then_some(error)
        };
        wait_for("a new life cannot be recorded", || {
            if refused(&scene).is_none() {
                let _ = scene.verb(&["reset", "nvme1"]);
            }
            refused(&scene)
        });
        goes_on(&answered);
        assert_eq!(controller(&scene.status(), "nvme0").expect("it")["state"], "live");
        // There is room again: everything comes back by itself.
        disk.empty();
        scene.all_live(&["nvme0", "nvme1"]);
        scene.does(&["set", "nvme0", "--ctrl-loss-tmo", "77"]);
        scene.does(&["export", "nvme0n1", "--name", "second"]);
        scene.does(&["unexport", "second"]);
        scene.does(&["disconnect", "-d", "nvme1"]);
        scene.connect(1, &["-c", "1", "-l", "-1"]);
        scene.does(&["fence", "--wait", "nvme0n1", "--lost-only"]);
        goes_on(&answered);
        drop(ending);
        load.join().expect("every write was answered");
    });
    let status = scene.status();
    assert_eq!(status["totals"]["unsafe_failovers"], 0, "{status}");
    assert_eq!(status["tombstones"], serde_json::json!([]), "{status}");
    wait_for("the journal is written again", || scene.does(&["events", "-n", "5"]).contains("nvme1").then_some(()));
    // What was confirmed is there for the next process, whatever ended the first one.
    scene.stop(Signal::KILL);
    scene.start();
    let status = scene.all_live(&["nvme0", "nvme1"]);
    assert_eq!(controller(&status, "nvme0").expect("it")["settings"]["ctrl_loss_tmo_s"], 77);
    let names: Vec<&Value> = status["exports"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["configured", "nvme0n1"], "and not what was ended");
    scene.stop(Signal::TERM);
    drop(disk);
}

#[test]
fn a_state_directory_that_becomes_read_only_ends_no_io_and_the_next_process_finds_what_was_confirmed() {
    let Some((disk, mut scene)) = on_a_small_disk("read-only") else { return };
    let (socket, over, answered) = (scene.nbd(), AtomicBool::new(false), AtomicU64::new(0));
    let confirmed = std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&socket, &over, &answered));
        let ending = Over(&over);
        goes_on(&answered);
        disk.make_read_only();
        let confirmed = everything_is_refused(&scene, "Read-only file system");
        goes_on(&answered);
        drop(ending);
        load.join().expect("every write was answered");
        confirmed
    });
    // A new process cannot begin there, and says why; nothing of the old one is lost.
    scene.stop(Signal::KILL);
    let path = |name: &str| scene.dir.join(name).display().to_string();
    let (socket, state, nvme) = (path("c.sock"), path("state"), path("nvme"));
    let args = ["daemon", "--socket", &socket, "--state-dir", &state, "--nvme-dir", &nvme];
    let refused = crate::child::interlock(&args).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Read-only file system"), "{said}");
    // As an operator mends it.
    disk.detach();
    assert!(disk.attach(), "its journal is replayed");
    scene.start();
    let status = scene.all_live(&["nvme0", "nvme1"]);
    assert_eq!(controller(&status, "nvme0").expect("it")["settings"]["ctrl_loss_tmo_s"], confirmed);
    let events = scene.does(&["events", "--since", "0", "-o", "json"]);
    assert!(events.contains("\"topic\":\"predecessor-found\""), "{events}");
    scene.stop(Signal::TERM);
    drop(disk);
}
