//! Events and their memory: numbers, history, restarts, crashes, a damaged journal.

use crate::child::NQN;
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;

fn lines(scene: &Scene, args: &[&str]) -> Vec<Value> {
    let text = scene.does(&[&["events", "-o", "json"], args].concat());
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().expect("a name")).collect()
}

#[test]
fn events_have_numbers_that_outlive_the_daemon() {
    let mut scene = Scene::new("events", &[]);
    scene.connect(0, &[]);
    scene.connect(1, &[]);
    scene.does(&["reset", "nvme1"]);
    scene.all_live(&["nvme0", "nvme1"]);
    let all = lines(&scene, &["--since", "0"]);
    assert_eq!(numbers(&all), (1..=all.len() as u64).collect::<Vec<_>>(), "no number is missing");
    assert_eq!(all[0]["event"], "started");
    let connected = all.iter().find(|event| event["event"] == "connected").expect("it");
    assert_eq!((&connected["controller"], &connected["subsystem"]), (&"nvme0".into(), &NQN.into()));
    assert_eq!(connected["predicted"]["assumed"], false, "{connected}");
    assert!(names(&lines(&scene, &["--since", "0", "--controller", "nvme1"])).contains(&"lost") || all.len() > 8);
    assert_eq!(lines(&scene, &["-n", "3"]).len(), 3);

    // In order: exactly the next number.
    scene.stop(Signal::TERM);
    scene.start();
    let again = lines(&scene, &["--since", "0"]);
    let seen = numbers(&again);
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    assert_eq!(again.iter().filter(|event| event["event"] == "started").count(), 2);
    assert_eq!(again.iter().filter(|event| event["event"] == "shut_down").count(), 1);

    // Killed: what was told is there, and numbers that may have been told are not used again.
    scene.all_live(&["nvme0", "nvme1"]);
    let before = numbers(&lines(&scene, &["--since", "0"]));
    scene.stop(Signal::KILL);
    scene.start();
    let after = lines(&scene, &["--since", "0"]);
    let seen = numbers(&after);
    assert!(seen.starts_with(&before), "nothing is lost by SIGKILL: {before:?} {seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(seen[before.len()] > before.last().expect("some") + 1, "and the gap is there");
    assert!(scene.does(&["events", "-n", "5000"]).contains("numbers are missing: not kept --"));
    assert_eq!(scene.status()["journal"]["dropped"], 0);
    let both = scene.fails(&["events", "--since", "1", "-n", "2"]);
    assert!(both.contains("cannot be used with"), "{both}");
}

#[test]
fn a_damaged_journal_is_set_aside_and_said() {
    let mut scene = Scene::new("damaged", &[]);
    scene.connect(0, &[]);
    let last = *numbers(&lines(&scene, &["-n", "1"])).last().expect("one");
    scene.stop(Signal::TERM);
    let hosts = scene.dir.join("state/hosts");
    let host = std::fs::read_dir(hosts).expect("it").next().expect("one").expect("it").path();
    std::fs::write(host.join("journal.db"), "this is no database").expect("damaged");
    scene.start();
    let log = scene.daemon().log();
    assert!(log.contains("journal.db is damaged") && log.contains("it was set aside as "), "{log}");
    scene.all_live(&["nvme0"]);
    let events = lines(&scene, &["--since", "0"]);
    assert!(numbers(&events)[0] > last, "numbers never go back");
    assert!(events.iter().any(|event| event["topic"] == "journal"), "{events:?}");
    let aside = std::fs::read_dir(&host)
        .expect("it")
        .any(|entry| entry.expect("a file").file_name().to_string_lossy().starts_with("journal.db.damaged-"));
    assert!(aside);
}

#[test]
fn whoever_follows_gets_the_past_and_then_what_comes() {
    let scene = Scene::new("follow", &[]);
    scene.connect(0, &[]);
    let mut follower = scene.begin(&["events", "-f", "--since", "0", "-o", "json"]);
    let mut heard = Vec::new();
    let mut hear = |until: &str| {
        wait_for(until, || {
            let event: Value = serde_json::from_str(&follower.line()).expect("JSON");
            let is_it = event["event"] == until;
            heard.push(event);
            is_it.then_some(())
        });
        numbers(&heard)
    };
    hear("connected");
    scene.does(&["disconnect", "-d", "nvme0"]);
    scene.connect(1, &[]);
    hear("namespace_removed");
    let seen = hear("connected");
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>(), "neither a gap nor a repetition");
}

#[test]
fn without_a_journal_the_daemon_says_so() {
    let mut scene = Scene::new("no-journal", &[]);
    scene.stop(Signal::TERM);
    std::fs::write(scene.dir.join("interlock.toml"), "[journal]\nenabled = false\n").expect("a file");
    scene.start();
    scene.connect(0, &[]);
    assert!(scene.does(&["status"]).contains("no journal: what happens is forgotten"));
    let events = lines(&scene, &["--since", "0"]);
    assert!(numbers(&events)[0] > 1_000_000, "numbers beyond all that a journal has given");
    assert!(names(&events).contains(&"connected"));
}

#[test]
fn a_failover_is_listed_and_explained_also_after_a_restart_and_from_a_file() {
    let mut scene = Scene::new("explain", &[]);
    assert_eq!(scene.does(&["history"]), "no controller has been lost in what is kept\n");
    assert!(scene.fails(&["explain"]).contains("no controller has been lost"));
    scene.connect(0, &["--keep-alive-tmo", "1", "--reconnect-delay", "1"]);
    scene.connect(1, &[]);
    scene.tell(&["port", "close", "0"]);
    let ask = |scene: &Scene| -> Option<Value> {
        let all: Value = serde_json::from_str(&scene.does(&["history", "-o", "json"])).expect("JSON");
        all["failovers"].as_array().expect("a list").last().cloned()
    };
    let lost = wait_for("the loss", || ask(&scene).filter(|last| last["safety"] == "not-needed"));
    assert_eq!((&lost["lost"]["controller"], &lost["in_doubt"]), (&"nvme0".into(), &0.into()));
    assert_eq!(lost["state"], "ongoing", "it is not back yet");
    let page = scene.does(&["explain", "--last"]);
    assert!(page.contains("SAFE: nothing was in doubt") && page.contains("not over yet"), "{page}");
    assert!(page.contains("went to    nvme1 (127.0.0.1:"), "{page}");

    scene.tell(&["port", "open", "0"]);
    wait_for("it is back", || ask(&scene).filter(|last| last["state"] == "over"));
    scene.stop(Signal::TERM);
    scene.start();
    let id = lost["id"].as_u64().expect("a number").to_string();
    let story: Value = serde_json::from_str(&scene.does(&["explain", &id, "-o", "json"])).expect("JSON");
    assert_eq!((&story["state"], &story["safety"]), (&"over".into(), &"not-needed".into()), "kept over a restart");
    assert_eq!(story["felt"]["within"], true, "{story}");
    assert!(scene.fails(&["explain", "1"]).contains("no failover began with event 1\nhint: `interlock history`"));

    let file = scene.dir.join("events.jsonl");
    std::fs::write(&file, scene.does(&["events", "--since", "0", "-o", "json"])).expect("a file");
    let file = file.display().to_string();
    let again: Value =
        serde_json::from_str(&scene.does(&["explain", "--events", &file, &id, "-o", "json"])).expect("JSON");
    assert_eq!(again, story, "the same story without a daemon");
    std::fs::write(&file, "{}\n").expect("a file");
    assert!(scene.fails(&["explain", "--events", &file]).contains("line 1 is no event"));
}
