//! The clients that people use, against an export over two paths, one of which is killed in the middle.
//!
//! A client that is not installed is skipped aloud; the check of a change installs them all.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use common::raw::{Answer, Raw};
use common::{PATIENCE, Setting, Stage, client, run, say, wait_for};
use interlock_export::ExportSettings;
use interlock_host::EventKind;
use interlock_target::{Fault, PortId};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Kills one path after the other, each when the one before is back, for as long as the work lasts. Gives how many lives
/// were lost.
fn disturbed(stage: &Stage, work: impl FnOnce() + Send) -> usize {
    let over = AtomicBool::new(false);
    let events = stage.host.subscribe();
    let mut lost = 0;
    std::thread::scope(|scope| {
        let over = &over;
        let worker = scope.spawn(move || {
            // Told even if the client fails: the loop below must end.
            struct Over<'a>(&'a AtomicBool);
            impl Drop for Over<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let _over = Over(over);
            work();
        });
        let mut port = 0;
        while !over.load(Ordering::SeqCst) {
            // Only once something is in flight, so that there is something to lose.
            if !stage.server.status().iter().any(|export| export.counters.in_flight > 0) {
                std::thread::yield_now();
                continue;
            }
            stage.target.script(Fault::ResetConnections { port: PortId(port % 2) });
            port += 1;
            loop {
                match events.recv_timeout(PATIENCE).expect("the path comes back").kind {
                    EventKind::Lost { .. } => lost += 1,
                    EventKind::Reconnected { .. } => break,
                    _ => {}
                }
            }
        }
        worker.join().expect("the client succeeds");
    });
    lost
}

/// A file of `mib` MiB that does not repeat itself.
fn random_file(path: &Path, mib: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(mib << 20);
    while bytes.len() < mib << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn nbdinfo_sees_what_is_exported() {
    let Some(mut nbdinfo) = client("nbdinfo") else { return };
    let stage = Stage::set(&Setting::default()).exported();
    let text = run(nbdinfo.arg(stage.uri()));
    for line in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "export-size: 67108864",
        "base:allocation",
        "is_read_only: false",
        "can_df: true",
        "can_fast_zero: true",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "block_size_minimum: 4096",
        "block_size_maximum: 33554432",
    ] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
    let mut second = ExportSettings::new("second", stage.namespace());
    (second.read_only, second.description) = (true, "the same, read-only".into());
    stage.server.add(second).unwrap();
    let server = format!("nbd+unix:///?socket={}", stage.socket().display());
    let text = run(Command::new("nbdinfo").args(["--list", &server]));
    for line in ["export=\"disk\":", "export=\"second\":", "description: the same, read-only", "is_read_only: true"] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
    let map = run(Command::new("nbdinfo").args(["--map", &stage.uri()]));
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "67108864", "0", "data"]);
    stage.strike();
}

#[test]
fn nbdcopy_there_and_back_while_paths_die() {
    if client("nbdcopy").is_none() {
        return;
    }
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() }).exported();
    let (image, back) = (stage.dir.file("image"), stage.dir.file("back"));
    random_file(&image, 64);
    let uri = stage.uri();
    let lost = disturbed(&stage, || {
        run(Command::new("nbdcopy").arg("--flush").arg(&image).arg(&uri));
        run(Command::new("nbdcopy").arg(&uri).arg(&back));
    });
    assert!(std::fs::read(&image).unwrap() == std::fs::read(&back).unwrap(), "what came back differs");
    let counters = stage.status().counters;
    say(&format!("nbdcopy: 64 MiB there and back, {lost} lives lost meanwhile, {counters:?}"));
    assert!(lost > 0 && counters.errors == 0);
    stage.strike();
}

#[test]
fn qemu_img_converts_and_compares_while_paths_die() {
    if client("qemu-img").is_none() {
        return;
    }
    let stage = Stage::set(&Setting { block_size: 512, ..Setting::default() }).exported();
    let (image, qcow) = (stage.dir.file("image"), stage.dir.file("image.qcow2"));
    random_file(&image, 24);
    let uri = stage.uri();
    let qemu = |args: &[&str]| run(Command::new("qemu-img").args(args));
    let path = |path: &Path| path.to_str().expect("a plain name").to_owned();
    let (image, qcow) = (path(&image), path(&qcow));
    assert!(qemu(&["info", &uri]).contains("virtual size: 64 MiB"));
    let lost = disturbed(&stage, || {
        qemu(&["resize", "-f", "raw", &image, "64M"]);
        qemu(&["convert", "-n", "-f", "raw", "-O", "raw", "-W", "-m", "8", &image, &uri]);
        qemu(&["compare", "-f", "raw", "-F", "raw", &image, &uri]);
        // A qcow2 image *on* the export, made there by qemu, and converted out of it again.
        qemu(&["create", "-f", "qcow2", &uri, "32M"]);
        qemu(&["convert", "-n", "-f", "raw", "-O", "qcow2", "--target-is-zero", &qcow_source(&image), &uri]);
        qemu(&["check", "-f", "qcow2", &uri]);
        qemu(&["convert", "-f", "qcow2", "-O", "qcow2", &uri, &qcow]);
        qemu(&["compare", "-f", "qcow2", "-F", "qcow2", &uri, &qcow]);
    });
    let counters = stage.status().counters;
    say(&format!("qemu-img: create, convert, check, compare; {lost} lives lost meanwhile, {counters:?}"));
    assert!(lost > 0 && counters.errors == 0);
    stage.strike();
}

/// The first 32 MiB of the image, as a file of its own.
fn qcow_source(image: &str) -> String {
    let half = format!("{image}.half");
    let mut bytes = std::fs::read(image).unwrap();
    bytes.truncate(32 << 20);
    std::fs::write(&half, bytes).unwrap();
    half
}

#[test]
fn qemu_io_writes_patterns_zeroes_and_discards() {
    let Some(mut qemu_io) = client("qemu-io") else { return };
    let stage = Stage::set(&Setting::default()).exported();
    let commands = [
        "write -P 0xab 0 1M",
        "read -P 0xab 0 1M",
        "write -f -P 0xcd 1M 64k",
        "write -z 64k 64k",
        "read -P 0 64k 64k",
        "write -z -u 256k 64k",
        "read -P 0 256k 64k",
        "discard 512k 64k",
        "flush",
        "read -P 0xab 0 64k",
        "read -P 0xcd 1M 64k",
        "aio_write -P 0x11 2M 4M",
        "aio_flush",
        "read -P 0x11 2M 4M",
        // Unaligned: qemu knows the block size and reads, modifies and writes by itself.
        "write -P 0x77 3000 100",
        "read -P 0x77 3000 100",
        "read -P 0xab 0 3000",
    ];
    let text = run(qemu_io.args(["-f", "raw"]).args(commands.iter().flat_map(|c| ["-c", c])).arg(stage.uri()));
    assert!(!text.contains("Pattern verification failed") && !text.contains("error"), "{text}");
    let counters = wait_for("it is gone", || Some(stage.status()).filter(|now| now.connections.is_empty())).counters;
    assert!(counters.zeroes >= 2 && counters.trims >= 1 && counters.flushes >= 1, "{counters:?}");
    assert_eq!((counters.errors, counters.abandoned), (0, 0));
    stage.strike();
}

#[test]
fn fio_verifies_what_it_wrote_while_paths_die() {
    let Some(mut probe) = client("fio") else { return };
    let engines = probe.arg("--enghelp").output().expect("it ran before");
    if !String::from_utf8_lossy(&engines.stdout).split_whitespace().any(|engine| engine == "nbd") {
        say("SKIPPED: fio has no nbd engine");
        return;
    }
    let stage = Stage::set(&Setting { reactors: 2, ..Setting::default() }).exported();
    let (uri, dir) = (stage.uri(), stage.dir.file("."));
    let lost = disturbed(&stage, || {
        let mut fio = Command::new("fio");
        fio.args(["--name=verify", "--ioengine=nbd", "--rw=randwrite", "--bsrange=4k-64k", "--bs_unaligned=0"]);
        fio.args(["--iodepth=32", "--size=48M", "--io_size=96M", "--verify=crc32c", "--verify_backlog=256"]);
        fio.args(["--verify_fatal=1", "--do_verify=1", "--fsync=64", "--bssplit=4k/40:16k/40:64k/20"]);
        fio.arg(format!("--uri={uri}")).current_dir(&dir).stdin(Stdio::null());
        let text = run(&mut fio);
        assert!(text.contains("err= 0"), "{text}");
    });
    let counters = stage.status().counters;
    say(&format!("fio: verified, {lost} lives lost meanwhile, {counters:?}"));
    assert!(lost > 0 && counters.errors == 0 && counters.flushes > 0);
    let mut raw = Raw::open(stage.socket(), "disk", true);
    assert!(matches!(raw.read(0, 4096), Answer::Data(_)));
    stage.strike();
}
