//! An export serves the disk that it was made for, and no other: not when its namespace is taken away or replaced, not after
//! a restart, and not because a record of an earlier version does not say which disk was meant.

use crate::child::NQN;
use crate::nbd::Client;
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;

const DISK: &str = "nvme0n2";
/// What takes its place.
const OTHER: &str = "nvme0n3";

/// A scene with a file as namespace 2, exported, and a client that has written to it.
fn exported(name: &str) -> (Scene, Client) {
    let scene = Scene::new(name, &[]);
    let file = std::fs::File::create(scene.dir.join("disk.img")).expect("a file");
    file.set_len(8 << 20).expect("it can grow");
    give(&scene, "file");
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    wait_for("the namespace", || names(&scene).contains(&DISK.to_owned()).then_some(()));
    scene.does(&["export", DISK]);
    let mut client = Client::open(&scene.nbd(), DISK).expect("the export");
    client.write(4096, &[7; 4096]).expect("written");
    (scene, client)
}

/// Makes this namespace 2 of the target: `file`, or another disk.
fn give(scene: &Scene, what: &str) {
    let file = format!("file:{}", scene.dir.join("disk.img").display());
    let backing = if what == "file" { file.as_str() } else { what };
    scene.tell(&["namespace", "add", backing, "--nsid", "2"]);
}

fn take(scene: &Scene) {
    scene.tell(&["namespace", "remove", "2"]);
}

fn names(scene: &Scene) -> Vec<String> {
    let status = scene.status();
    let list = status["namespaces"].as_array().expect("a list");
    list.iter().map(|ns| ns["name"].as_str().expect("a name").to_owned()).collect()
}

fn export(scene: &Scene) -> Value {
    scene.status()["exports"][0].clone()
}

/// Waits until the export is not served because of this.
fn waits_for(scene: &Scene, why: &str) -> Value {
    wait_for(why, || {
        let export = export(scene);
        let waits = export["waits_for"].as_str()?.contains(why) && export["serving"] == false;
        waits.then_some(export)
    })
}

fn serves(scene: &Scene) -> Value {
    wait_for("it serves", || Some(export(scene)).filter(|export| export["serving"] == true))
}

fn nobody_gets_in(scene: &Scene) {
    assert!(Client::open(&scene.nbd(), DISK).is_err(), "a new client sees another disk under the old name");
}

#[test]
fn a_namespace_that_is_removed_or_replaced_is_not_served() {
    let (scene, mut client) = exported("removed");
    let bound = export(&scene)["bound_to"].as_str().expect("it has a UUID").to_owned();
    assert!(bound.starts_with("UUID "), "{bound}");
    take(&scene);
    // It waits for a while, as documented, and then fails: the client's own patience is longer.
    assert!(client.write(0, &[8; 4096]).is_err(), "the disk is gone");
    waits_for(&scene, "not yet; clients get errors");
    nobody_gets_in(&scene);
    give(&scene, "mem:16M");
    let shut = waits_for(&scene, "another disk is there");
    assert_eq!((shut["bound_to"].as_str(), shut["in_flight"].as_u64()), (Some(bound.as_str()), Some(0)), "{shut}");
    assert!(client.write(0, &[9; 4096]).is_err(), "nothing is written to another disk");
    nobody_gets_in(&scene);
    let events = scene.does(&["events", "-o", "json"]);
    assert!(events.contains("\"topic\":\"export-shut\""), "{events}");
    // The disk comes back: the client that was there goes on with what it had written.
    take(&scene);
    give(&scene, "file");
    serves(&scene);
    assert_eq!(client.read(4096, 4096).expect("its own disk"), [7; 4096]);
    assert_eq!(client.read(0, 4096).expect("its own disk"), [0; 4096], "what failed was not written");
}

#[test]
fn a_disk_that_was_replaced_while_the_daemon_was_away_is_not_served() {
    let (mut scene, client) = exported("replaced");
    drop(client);
    scene.stop(Signal::TERM);
    take_offline(&scene);
    scene.start();
    waits_for(&scene, "another disk is there");
    nobody_gets_in(&scene);
    // Its device name is that of the disk, too: the new one has another, and everybody is told so.
    assert!(names(&scene).contains(&OTHER.to_owned()) && !names(&scene).contains(&DISK.to_owned()));
    let waiting = scene.status()["waiting_names"].clone();
    assert_eq!((waiting[0]["name"].as_str(), waiting.as_array().map(Vec::len)), (Some(DISK), Some(1)), "{waiting}");
    let (list, status) = (scene.does(&["list"]), scene.does(&["status"]));
    for text in [list, status] {
        let line =
            text.lines().find(|line| line.contains(DISK) && line.contains(") waits for its own disk")).map(str::trim);
        assert!(line.is_some_and(|line| line.ends_with(", as nvme0n3")), "{text}");
    }
    let refused = scene.fails(&["export", DISK]);
    assert!(refused.contains("nvme0n2 is the name of UUID ") && refused.contains("as nvme0n3"), "{refused}");
    // Whoever wants the new disk says so.
    scene.does(&["unexport", DISK]);
    scene.does(&["export", OTHER]);
    let mut client = Client::open(&scene.nbd(), OTHER).expect("the new disk");
    client.write(4096, &[1; 4096]).expect("written");
    let events = scene.does(&["events", "-o", "json"]);
    assert!(events.contains("\"topic\":\"name-taken\""), "{events}");
    // And is bound to that one from then on.
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    scene.start();
    serves(&scene);
    // The first disk has its name again as soon as it is there, and the other one keeps its own.
    take(&scene);
    give(&scene, "file");
    wait_for("the first disk", || names(&scene).contains(&DISK.to_owned()).then_some(()));
    assert_eq!(waits_for(&scene, "another disk is there")["namespace"], OTHER);
}

/// Replaces the disk without a daemon.
fn take_offline(scene: &Scene) {
    take(scene);
    give(scene, "mem:16M");
}

#[test]
fn a_record_of_an_earlier_version_binds_at_the_first_connect_and_says_so() {
    let (mut scene, client) = exported("unbound");
    drop(client);
    scene.stop(Signal::TERM);
    let hosts = std::fs::read_dir(scene.dir.join("state/hosts")).expect("the state directory");
    let host = hosts.map(|entry| entry.expect("a host").path()).find(|path| path.is_dir()).expect("one host");
    let file = host.join("daemon.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&file).expect("the record")).expect("JSON");
    // As version 0.1 had it: one file, and nothing that says which disk is meant.
    let lines = std::fs::read_to_string(host.join("daemon.changes")).expect("its changes");
    let mut disks = 0;
    for line in lines.lines().skip(1) {
        let change: Value = serde_json::from_str(line).expect("JSON");
        if let Some(known) = change.get("controller") {
            record["controllers"] = serde_json::json!([known]);
        } else if let Some(export) = change.get("export") {
            record["exports"] = serde_json::json!([export]);
        } else if let Some(subsystem) = change.get("subsystem") {
            record["subsystems"][subsystem["nqn"].as_str().expect("an NQN")] = subsystem["number"].clone();
        } else if change.get("disk").is_some() {
            disks += 1;
        }
    }
    let fields = record.as_object_mut().expect("an object");
    assert!(
        fields.remove("names").is_some()
            && fields.remove("disks").is_some()
            && fields.remove("generation").is_some()
            && disks == 1,
        "{lines}"
    );
    fields.insert("format".into(), 2.into());
    std::fs::remove_file(host.join("daemon.changes")).expect("ours");
    std::fs::write(&file, serde_json::to_vec(&record).expect("JSON")).expect("a file");
    scene.start();
    let export = serves(&scene);
    assert!(export["bound_to"].is_string(), "{export}");
    let events = scene.does(&["events", "-o", "json"]);
    assert!(events.contains("\"topic\":\"export-bound\""), "{events}");
    assert!(events.contains("device names belong to their disks from now on: ") && events.contains("nvme0n2 is UUID "));
    // From now on it is bound.
    scene.stop(Signal::TERM);
    take_offline(&scene);
    scene.start();
    waits_for(&scene, "another disk is there");
}

/// What an earlier process has in its hands for a moment, or another program for longer, keeps neither the daemon nor other
/// exports waiting.
#[test]
fn an_export_whose_socket_is_taken_waits_for_it_and_then_serves() {
    let (mut scene, client) = exported("taken");
    drop(client);
    scene.stop(Signal::TERM);
    let other = std::os::unix::net::UnixListener::bind(scene.nbd()).expect("its socket is free");
    scene.start();
    waits_for(&scene, "its socket: ");
    drop(other);
    serves(&scene);
    let mut client = Client::open(&scene.nbd(), DISK).expect("the export");
    assert_eq!(client.read(4096, 4096).expect("its disk"), [7; 4096]);
}

#[test]
fn an_export_whose_disk_was_forgotten_with_a_damaged_record_waits_for_the_operators_word() {
    let mut scene = Scene::new("forgotten", &[]);
    let file = std::fs::File::create(scene.dir.join("disk.img")).expect("a file");
    file.set_len(8 << 20).expect("it can grow");
    give(&scene, "file");
    let place = format!("{NQN}:2");
    let config = format!(
        "[[connect]]\ntraddr = \"127.0.0.1\"\ntrsvcid = {}\nsubnqn = \"{NQN}\"\n\
         [[export]]\nsubnqn = \"{NQN}\"\nnsid = 2\nname = \"disk0\"\n",
        scene.target.port(0)
    );
    std::fs::write(scene.dir.join("interlock.toml"), config).expect("a file");
    scene.stop(Signal::TERM);
    scene.start();
    serves(&scene);
    scene.stop(Signal::TERM);
    // One byte of the line that says which disk it is for, and another disk in its place.
    let hosts = std::fs::read_dir(scene.dir.join("state/hosts")).expect("the state directory");
    let host = hosts.map(|entry| entry.expect("a host").path()).find(|path| path.is_dir()).expect("one host");
    let changes = host.join("daemon.changes");
    let text = std::fs::read_to_string(&changes).expect("lines");
    let damaged = text.replace("{\"disk\":{\"export\":\"disk0\"", "{\"disk\":{\"expOrt\":\"disk0\"");
    assert_ne!(damaged, text);
    std::fs::write(&changes, damaged).expect("ours");
    take(&scene);
    give(&scene, "mem:16M");
    scene.start();
    let waits = waits_for(&scene, "the operator");
    let command = format!("interlock export {place} --name disk0");
    assert!(waits["waits_for"].as_str().is_some_and(|why| why.contains(&command)), "{waits}");
    assert!(Client::open(&scene.nbd(), "disk0").is_err(), "a client is let to a disk that nobody has named");
    // Not by waiting, and not by a restart.
    scene.stop(Signal::TERM);
    scene.start();
    waits_for(&scene, "the operator");
    take(&scene);
    give(&scene, "file");
    wait_for("the namespace", || names(&scene).iter().any(|name| name.ends_with("n2")).then_some(()));
    waits_for(&scene, "the operator");
    wait_for("the word is taken", || scene.verb(&["export", &place, "--name", "disk0"]).status.success().then_some(()));
    serves(&scene);
    scene.stop(Signal::TERM);
    scene.start();
    serves(&scene);
    take(&scene);
    give(&scene, "mem:16M");
    waits_for(&scene, "another disk is there");
}
