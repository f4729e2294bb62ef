//! A target that was stopped while a host gave it up: a write that lay in its receive buffer must not be executed when it
//! goes on.

use crate::child::{NQN, Target};
use crate::load::PATIENCE;
use crate::raw::{Queue, host};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Keep Alive Timeout of the host: the smallest that the target grants.
const KATO: Duration = Duration::from_secs(1);

/// The target's Command Quiesce Time.
const CQT: Duration = Duration::from_millis(100);

/// A host that counts at the target's pace and with traffic-based keep alive must wait so long: it knows no margin here.
const HOLD: Duration = Duration::from_millis(3 * KATO.as_millis() as u64 + CQT.as_millis() as u64);

fn signal(target: &Target, signal: Signal) {
    let pid = Pid::from_raw(target.pid() as i32).expect("a process");
    kill_process(pid, signal).expect("it is there");
}

/// Waits until no thread of it runs any more: a signal is on its way for a moment.
fn wait_stopped(target: &Target) {
    let over = Instant::now() + PATIENCE;
    let stopped = |path: std::path::PathBuf| {
        // `PID (NAME) STATE ...`
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("a process").flatten();
    while !tasks().all(|task| stopped(task.path())) {
        assert!(Instant::now() < over, "it does not stop");
        std::thread::yield_now();
    }
}

#[test]
fn a_write_that_was_received_by_a_stopped_target_is_not_executed_later() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stopped-{}.img", std::process::id()));
    std::fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file");
    for backing in ["mem:1M".to_owned(), format!("file:{}", file.display())] {
        let target = Target::start(&["--port", "127.0.0.1:0", "--namespace", &backing, "--cqt", "100", "--nqn", NQN]);
        let (admin, mut io) = host(&target, KATO.as_millis() as u32);
        io.write(0xee);
        assert_eq!(io.answer().0, 0);
        signal(&target, Signal::STOP);
        wait_stopped(&target);
        io.write(0x11);
        drop((admin, io));
        let over = Instant::now() + HOLD;
        while Instant::now() < over {
            std::thread::park_timeout(over.saturating_duration_since(Instant::now()));
        }
        signal(&target, Signal::CONT);
        let (_admin, mut io) = host(&target, 0);
        assert_eq!(io.read(), 0xee, "{backing}: the write was executed after its host had given it up");
        assert!(target.stop(Signal::TERM).0.success());
    }
    std::fs::remove_file(&file).expect("it is ours");
    std::fs::remove_file(file.with_extension("img.interlock")).expect("what was kept beside it");
}

/// Writes that are read in pieces, turn by turn with a crowd from another address, are as old as the first of them: what came while
/// the target was stopped does not become a sign of life because it waited for its turn.
#[test]
fn writes_that_wait_for_their_turn_in_a_crowd_are_as_old_as_they_are() {
    let target = Target::start(&["--port", "127.0.0.1:0", "--namespace", "mem:1M", "--cqt", "100", "--nqn", NQN]);
    let mut crowd: Vec<Queue> = (0..64).map(|_| Queue::from(&target, Ipv4Addr::new(127, 0, 0, 2))).collect();
    let (admin, mut io) = host(&target, KATO.as_millis() as u32);
    io.write(0xee);
    assert_eq!(io.answer().0, 0);
    signal(&target, Signal::STOP);
    wait_stopped(&target);
    for one in &mut crowd {
        one.stream.write_all(&[4, 0, 72, 0]).expect("the kernel takes bytes");
    }
    (0..20).for_each(|_| io.write(0x11));
    let over = Instant::now() + HOLD;
    while Instant::now() < over {
        std::thread::park_timeout(over.saturating_duration_since(Instant::now()));
    }
    signal(&target, Signal::CONT);
    let (_admin, mut later) = host(&target, 0);
    assert_eq!(later.read(), 0xee, "a write was executed after its host had given it up");
    drop((admin, io, crowd));
    assert!(target.stop(Signal::TERM).0.success());
}
