//! A disk that is full, has a limit, or gives errors: what the host is told, and that nothing else suffers.

use crate::child::{NQN, Target};
use crate::load::{Good, PATIENCE, quiet};
use crate::serving::Scratch;
use interlock_host::Outcome;
use interlock_target::config::{Config, NamespaceConfig, PortConfig};
use interlock_target::{Call, Faults, FileOp, Pool, Status, TargetEvent, Verdict};
use rustix::process::Signal;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a written block holds; never 0.
const fn byte(slba: u64) -> u8 {
    (slba % 255) as u8 + 1
}

fn write(good: &Good, slba: u64) -> Outcome {
    let mut buf = good.namespace.buffer(1);
    buf.get_mut().expect("our own buffer").fill(byte(slba));
    good.namespace.write(slba, buf).wait().0
}

fn read(good: &Good, slba: u64) -> (Outcome, u8) {
    let (outcome, buf) = good.namespace.read(slba, 1).wait();
    (outcome, buf.map_or(0, |buf| buf.as_slice()[0]))
}

/// Writes until the disk refuses one: the first block that it has no room for.
fn fill_up(good: &Good, blocks: u64) -> u64 {
    let full = (0..blocks).find(|slba| match write(good, *slba) {
        Outcome::Ok => false,
        other => {
            assert_eq!(other, Outcome::Failed(Status::CAPACITY_EXCEEDED.with_dnr()), "block {slba}");
            true
        }
    });
    full.expect("the disk is smaller than the namespace")
}

#[test]
fn a_full_file_system_is_capacity_exceeded_and_recovers() {
    // A file system of a few pages, in a mount namespace that ends with the target.
    let possible = Command::new("unshare").args(["-Urm", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        return writeln!(std::io::stderr(), "skipped: no mount namespace can be made here").expect("standard error");
    }
    let place = Scratch::new("full", b"");
    std::fs::remove_file(&place.0).expect("our own file");
    std::fs::create_dir(&place.0).expect("a directory");
    let script =
        "dir=$1; shift; mount -t tmpfs -o size=512k none \"$dir\" && truncate -s 8M \"$dir/disk.img\" && exec \"$@\"";
    let backing = format!("file:{}/disk.img", place.path());
    let target = Target::start_through(
        &["unshare", "-Urm", "sh", "-c", script, "sh", place.path()],
        &["--port", "127.0.0.1:0", "--namespace", &backing],
    );
    let good = Good::new(&[target.port(0).parse().expect("a port")]);
    let full = fill_up(&good, 2048);
    assert!((8..=128).contains(&full), "{full} blocks fit into 512 KiB");
    assert_eq!(write(&good, full + 1), Outcome::Failed(Status::CAPACITY_EXCEEDED.with_dnr()));
    // What was answered is there, and reading goes on.
    for slba in 0..full {
        assert_eq!(read(&good, slba), (Outcome::Ok, byte(slba)));
    }
    assert_eq!(good.namespace.flush().wait().0, Outcome::Ok);
    // Whoever gives blocks back has room again.
    assert_eq!(good.namespace.write_zeroes(0, 8, true).wait().0, Outcome::Ok);
    assert_eq!(read(&good, 0), (Outcome::Ok, 0));
    assert_eq!(write(&good, full), Outcome::Ok);
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
    std::fs::remove_dir(&place.0).expect("it is empty here");
}

#[test]
fn the_limit_of_the_process_is_capacity_exceeded_and_no_death() {
    let disk = Scratch::new("limit.img", &vec![0; 4 << 20]);
    let backing = format!("file:{}", disk.path());
    // In units that differ from shell to shell: 512 or 1024 bytes.
    let target = Target::start_through(
        &["sh", "-c", "ulimit -f 2048 && exec \"$@\"", "sh"],
        &["--port", "127.0.0.1:0", "--namespace", &backing],
    );
    let good = Good::new(&[target.port(0).parse().expect("a port")]);
    let full = fill_up(&good, 1024);
    assert!(full == 256 || full == 512, "{full}");
    assert_eq!(read(&good, full - 1), (Outcome::Ok, byte(full - 1)));
    assert_eq!(read(&good, 1000), (Outcome::Ok, 0));
    good.end();
    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
}

/// Fails the file operations of one kind.
#[derive(Default)]
struct Sick {
    reads: AtomicI32,
    writes: AtomicI32,
    syncs: AtomicI32,
}

impl Faults for Sick {
    fn decide(&self, call: &Call<'_>) -> Verdict {
        let errno = match call {
            Call::File(FileOp::Read { .. }) => self.reads.load(Ordering::Relaxed),
            Call::File(FileOp::Write { .. }) => self.writes.load(Ordering::Relaxed),
            Call::File(FileOp::Sync { .. }) => self.syncs.load(Ordering::Relaxed),
            _ => 0,
        };
        if errno == 0 { Verdict::Pass } else { Verdict::Fail(errno) }
    }
}

#[test]
fn errors_of_the_disk_have_their_status_and_cost_no_connection() {
    let disk = Scratch::new("sick.img", &vec![0; 1 << 20]);
    let sick = Arc::new(Sick::default());
    let pool = Pool::with_faults(quiet(), sick.clone()).expect("a reactor");
    let config = Config {
        ports: vec!["127.0.0.1:0".parse::<PortConfig>().expect("an address")],
        namespaces: vec![NamespaceConfig::new(format!("file:{}", disk.path()).parse().expect("a backing"))],
        nqn: Some(NQN.into()),
        ..Config::default()
    };
    let target = interlock_target::Target::start(pool.reactors(), &config).expect("a target");
    let good = Good::new(&[target.ports()[0].port()]);
    assert_eq!(write(&good, 0), Outcome::Ok);
    let fails = |which: &AtomicI32, errno: i32, what: &dyn Fn() -> Outcome, status: Status| {
        which.store(errno, Ordering::Relaxed);
        assert_eq!(what(), Outcome::Failed(status), "errno {errno}");
        which.store(0, Ordering::Relaxed);
        assert_eq!(what(), Outcome::Ok, "after errno {errno}");
    };
    let (writes, reads, flushes) = (&|| write(&good, 1), &|| read(&good, 0).0, &|| good.namespace.flush().wait().0);
    fails(&sick.writes, EIO, writes, Status::WRITE_FAULT);
    fails(&sick.writes, ENOSPC, writes, Status::CAPACITY_EXCEEDED.with_dnr());
    fails(&sick.reads, EIO, reads, Status::UNRECOVERED_READ);
    let events = target.subscribe();
    let lost = Outcome::Failed(Status::WRITE_FAULT.with_dnr());
    for errno in [EIO, ENOSPC] {
        sick.syncs.store(errno, Ordering::Relaxed);
        assert_eq!(flushes(), lost, "errno {errno}");
        sick.syncs.store(0, Ordering::Relaxed);
        assert_eq!(flushes(), lost, "the kernel would say now that all is well");
        assert_eq!(good.namespace.write_zeroes(8, 1, false).wait().0, lost);
        assert_eq!(writes(), Outcome::Ok, "what promises nothing goes on");
        let told = |event: interlock_target::Stamped| matches!(event.event, TargetEvent::FlushFailed { .. });
        while !told(events.recv_timeout(PATIENCE).expect("it is told")) {}
        assert!(target.status().expect("it answers").namespaces[0].flush_failed.is_some());
        assert!(target.clear_flush_error(1).expect("a namespace"));
        assert_eq!(flushes(), lost, "the host remembers it as well, whatever the target says now");
        assert_eq!(good.namespace.clear_flush_error(), Some(lost));
        assert_eq!(flushes(), Outcome::Ok);
    }
    assert_eq!(target.status().expect("it answers").lives[0].state, "live");
    good.end();
    target.shutdown(PATIENCE).expect("an orderly end");
    pool.shutdown(PATIENCE).expect("an orderly end");
}
