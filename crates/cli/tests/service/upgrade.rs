//! An orderly end under load and a new start, as an upgrade does it: to a target without Cross-Controller Reset, so that
//! anything left in doubt would cost a hold of many seconds.

use crate::child::interlock;
use crate::nbd::Client;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 64;
const UPGRADES: usize = 3;

/// Writes one block after the other, on a new connection whenever one ends. Gives the longest time between two answers,
/// and how many there were.
fn load(socket: &std::path::Path, over: &AtomicBool) -> (Duration, u64) {
    let (mut longest, mut last, mut answers) = (Duration::ZERO, Instant::now(), 0_u64);
    while !over.load(Ordering::SeqCst) {
        let Ok(mut client) = Client::open(socket, "nvme0n1") else { continue };
        while !over.load(Ordering::SeqCst) && client.write(answers % BLOCKS * BLOCK, &[answers as u8; 4096]).is_ok() {
            answers += 1;
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
    }
    (longest, answers)
}

#[test]
fn an_upgrade_under_load_needs_no_fence() {
    let mut scene = Scene::new("upgrade", &["--no-ccr"]);
    for port in [0, 1] {
        scene.connect(port, &["-c", "1", "-l", "-1"]);
    }
    scene.does(&["export", "nvme0n1"]);
    let (socket, over) = (scene.nbd(), AtomicBool::new(false));
    let mut longest = Vec::new();
    for _ in 0..UPGRADES {
        over.store(false, Ordering::SeqCst);
        let (stall, answers) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load(&socket, &over));
            wait_for("it writes", || (scene.status()["exports"][0]["clients"].as_u64()? > 0).then_some(()));
            let (code, log) = scene.stop(Signal::TERM);
            assert_eq!(code, Some(0), "{log}");
            assert!(log.contains("ended gracefully: nothing is left unanswered"), "{log}");
            scene.start();
            wait_for("it writes again", || (scene.status()["exports"][0]["clients"].as_u64()? > 0).then_some(()));
            over.store(true, Ordering::SeqCst);
            load.join().expect("it ends")
        });
        assert!(answers > 0);
        longest.push(format!("{} ms", stall.as_millis()));
        let status = scene.all_live(&["nvme0", "nvme1"]);
        assert_eq!(status["totals"]["fence_attempts"], 0, "nothing was in doubt: {status}");
        assert_eq!(status["tombstones"], serde_json::json!([]));
    }
    // A figure, not a test: machines differ.
    say(&format!(
        "upgrade of the daemon under load without CCR: longest time between two answers {}",
        longest.join(", ")
    ));
}

/// Somebody goes back to an older version: it refuses what it does not know, and what the newer one has left in doubt is
/// still there for the one that knows it.
#[test]
fn an_older_program_refuses_a_newer_state_and_loses_no_predecessor() {
    let mut scene = Scene::new("downgrade", &[]);
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    Client::open(&scene.nbd(), "nvme0n1").expect("the export").write(0, &[1; 4096]).expect("written");
    scene.stop(Signal::KILL);
    let hosts = std::fs::read_dir(scene.dir.join("state/hosts")).expect("the state directory");
    let host = hosts.map(|entry| entry.expect("a host").path()).find(|path| path.is_dir()).expect("one host");
    let path = |name: &str| scene.dir.join(name).display().to_string();
    let (socket, state, nvme) = (path("c.sock"), path("state"), path("nvme"));
    let read = |name: &str| std::fs::read_to_string(host.join(name)).expect("it is there");
    let (record, lives) = (read("daemon.json"), read("lives"));
    let later = record.replace("\"format\": 4", "\"format\": 5").replace("\"writer\": \"", "\"writer\": \"9.");
    assert_ne!(later, record);
    std::fs::write(host.join("daemon.json"), &later).expect("a file");
    let args = ["daemon", "--socket", &socket, "--state-dir", &state, "--nvme-dir", &nvme];
    let refused = interlock(&args).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("has format 5, this program knows up to 4"), "{said}");
    assert_eq!((read("daemon.json"), read("lives").lines().count()), (later, lives.lines().count()));
    std::fs::write(host.join("daemon.json"), &record).expect("a file");
    scene.start();
    scene.all_live(&["nvme0"]);
    let events = scene.does(&["events", "--since", "0", "-o", "json"]);
    assert!(events.contains("\"topic\":\"predecessor-found\""), "{events}");
}
