//! Four who tell of one failover tell the same numbers: `top`, stock `nvme top`, `/metrics`, `explain`; and the files that
//! scripts read.

use crate::nbd::Client as Nbd;
use crate::scene::{Scene, Terminal, say, wait_for};
use crate::tree::{nvme_cli, with_tree};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// Writes of the application that the lost path holds.
const HELD: u64 = 4;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    resets: u64,
    reconnects: u64,
    failovers: u64,
}

/// What those know who know of fences: all but the kernel's tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fenced {
    in_doubt: u64,
    held_ms: u64,
}

/// By the files.
fn files(root: &Path) -> Told {
    let ctrl = root.join("sys/class/nvme/nvme0");
    let read = |name: &str| {
        let text = fs::read_to_string(ctrl.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        text.trim().parse().expect("a number")
    };
    Told {
        resets: read("diag/reset_count"),
        reconnects: read("diag/reconnect_count"),
        failovers: read("nvme0c0n1/diag/multipath_failover_count"),
    }
}

/// By `interlock top --once`.
fn top(scene: &Scene) -> (Told, Fenced) {
    let all: Value = serde_json::from_str(&scene.does(&["top", "--once", "-o", "json"])).expect("JSON");
    let subsystem = &all["subsystems"][0];
    let counters = &subsystem["controllers"][0]["counters"];
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number in {all}"));
    let told = Told {
        resets: number(&counters["reset_count"]),
        reconnects: number(&counters["reconnect_count"]),
        failovers: number(&subsystem["namespaces"][0]["paths"][0]["counters"]["multipath_failover_count"]),
    };
    let totals = &subsystem["totals"];
    let total = |name: &str| number(&totals[name]);
    let sums = Told {
        resets: total("reset_count"),
        reconnects: total("reconnect_count"),
        failovers: total("multipath_failover_count"),
    };
    assert_eq!(told, sums, "one controller was lost: its counts are the subsystem's");
    let fences = &totals["fences"];
    (told, Fenced { in_doubt: number(&fences["in_doubt"]), held_ms: number(&fences["hold_time_total_ms"]) })
}

/// By `/metrics`.
fn metrics(scene: &Scene) -> (Told, Fenced) {
    let mut stream = UnixStream::connect(scene.dir.join("c.sock")).expect("the daemon listens");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").expect("asked");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    let text = |name: &str, label: &str| {
        let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let line = page.lines().filter(named).find(|line| line.contains(label));
        let line = line.unwrap_or_else(|| panic!("no {name} of {label} in {page}"));
        line.rsplit_once(' ').map(|(_, value)| value.to_owned()).expect("a value")
    };
    let value = |name: &str, label: &str| text(name, label).parse().expect("a number");
    assert_eq!(value("interlock_fences_total", "method=\"immediate\""), 1, "the failover was fenced, once");
    let held: f64 = text("interlock_hold_seconds_total", "").parse().expect("seconds");
    let fenced =
        Fenced { in_doubt: value("interlock_commands_in_doubt_total", ""), held_ms: (held * 1000.0).round() as u64 };
    let told = Told {
        resets: value("interlock_controller_resets_total", "controller=\"nvme0\""),
        reconnects: value("interlock_controller_reconnects_total", "controller=\"nvme0\""),
        failovers: value("interlock_path_failovers_total", "path=\"nvme0c0n1\""),
    };
    (told, fenced)
}

/// By `explain`: one story, what was in doubt moved to the other path, so often it tried to come back.
fn explain(scene: &Scene) -> (Told, Fenced) {
    let history: Value = serde_json::from_str(&scene.does(&["history", "-o", "json"])).expect("JSON");
    let stories = history["failovers"].as_array().expect("a list").len() as u64;
    let story: Value = serde_json::from_str(&scene.does(&["explain", "--last", "-o", "json"])).expect("JSON");
    assert_eq!((&story["lost"]["controller"], &story["safety"]), (&"nvme0".into(), &"proven".into()), "{story}");
    let number = |name: &str| story[name].as_u64().unwrap_or_else(|| panic!("no {name} in {story}"));
    let held_ms = story["receipt"]["held_ms"].as_u64().expect("it was fenced");
    let told = Told {
        resets: stories,
        reconnects: number("reconnect_attempts"),
        failovers: number("in_doubt") + number("settled") - number("answered_late"),
    };
    (told, Fenced { in_doubt: number("in_doubt"), held_ms })
}

/// By a frame of `nvme top` that shows a subsystem; `None` if it is not whole.
fn frame(screen: &str) -> Option<Told> {
    let row = |after: &str, name: &str| -> Option<Vec<String>> {
        let (_, rest) = screen.rsplit_once(after)?;
        let line = rest.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().map(str::to_owned).collect())
    };
    // Path, ANA state, retries, failovers, errors; controller, paths, node, transport, address, state, resets, reconnects.
    let (path, ctrl) = (row("Path Health", "nvme0c0n1 ")?, row("Controller Summary", "nvme0 ")?);
    let number = |row: &[String], at: usize| row.get(at)?.parse().ok();
    Some(Told { resets: number(&ctrl, 6)?, reconnects: number(&ctrl, 7)?, failovers: number(&path, 3)? })
}

/// What a terminal was told, a line for each piece of text.
fn plain(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut pieces = text.split('\u{1b}');
    let mut lines = vec![pieces.next().unwrap_or_default()];
    lines.extend(pieces.filter_map(|piece| {
        let end = piece.find(|c: char| c.is_ascii_alphabetic())?;
        Some(&piece[end + 1..])
    }));
    lines.join("\n")
}

/// By stock `nvme top`, opened on the subsystem; `None`, said aloud, where it cannot be had. It is read until it says
/// `wanted`, or until the deadline: the last that it said.
fn nvme_top(scene: &Scene, root: &Path, wanted: Told) -> Option<Told> {
    let nvme = nvme_cli(&scene.dir)?;
    if !Path::new("/usr/bin/script").exists() {
        say("SKIPPED: `script` is not installed: no terminal for nvme top");
        return None;
    }
    let command =
        format!("stty rows 60 cols 160; {} top --set-options test-sysfs-dir={}", nvme.display(), root.display());
    let mut terminal = Terminal::open(&command);
    let (mut keys, mut screen) = terminal.ends();
    let (mut raw, mut buffer, mut opened, mut last) = (Vec::new(), [0; 65536], false, None);
    let deadline = Instant::now() + crate::scene::PATIENCE;
    while last != Some(wanted) && Instant::now() < deadline {
        match screen.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => raw.extend_from_slice(&buffer[..read]),
        }
        let seen = plain(&raw);
        if !opened && seen.contains("nvme-subsys0") {
            opened = true;
            keys.write_all(b"\r").expect("it reads keys");
        }
        last = frame(&seen).or(last);
    }
    Some(last.unwrap_or_else(|| panic!("no whole frame in {}", plain(&raw))))
}

#[test]
fn all_who_tell_of_a_failover_tell_the_same_numbers() {
    let Some((mut scene, root)) = with_tree("agree") else { return };
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    // A second path that is not chosen while the first is there: every write is on the one that is lost.
    scene.tell(&["ana", "1", "non-optimized"]);
    scene.does(&["export", "nvme0n1"]);
    wait_for("the second path is second", || {
        let state = fs::read_to_string(root.join("sys/class/nvme/nvme1/nvme0c1n1/ana_state")).ok()?;
        (state == "non-optimized\n").then_some(())
    });
    let mut disk = Nbd::open(&scene.nbd(), "nvme0n1").expect("the export");
    scene.tell(&["fault", "kind=hold-writes,port=0"]);
    for block in 0..HELD {
        disk.begin_write(block, block * 4096, &[7; 4096]).expect("a socket");
    }
    // By the target: a write that the export has taken may not have been sent yet, and would not be in doubt.
    wait_for("they are held", || {
        let status: Value = serde_json::from_str(&scene.tell(&["status", "-o", "json"])).expect("JSON");
        let lives = status["lives"].as_array()?;
        (lives.iter().filter_map(|life| life["held"].as_u64()).sum::<u64>() >= HELD).then_some(())
    });
    scene.tell(&["port", "close", "0"]);
    wait_for("attempts to come back", || (files(&root).reconnects >= 2).then_some(()));
    scene.tell(&["fault", "kind=clear"]);
    scene.tell(&["port", "open", "0"]);
    scene.all_live(&["nvme0", "nvme1"]);
    let over = || {
        let story: Value = serde_json::from_str(&scene.does(&["explain", "--last", "-o", "json"])).expect("JSON");
        (story["state"] == "over" && story["safety"] == "proven").then_some(())
    };
    wait_for("the story is over", over);
    let told =
        wait_for("the files are as fresh as the rest", || Some(files(&root)).filter(|told| *told == top(&scene).0));
    let fenced = top(&scene).1;
    assert_eq!((told.resets, told.failovers), (1, HELD), "one loss, and everything on it moved");
    assert!(told.reconnects >= 2, "{told:?}");
    assert_eq!(fenced.in_doubt, HELD, "what was held is what was in doubt");
    assert_eq!(metrics(&scene), (told, fenced), "/metrics");
    assert_eq!(explain(&scene), (told, fenced), "explain");
    if let Some(seen) = nvme_top(&scene, &root, told) {
        assert_eq!(seen, told, "nvme top");
    }
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
}
