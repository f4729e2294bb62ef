//! What the daemon arranges for the time when memory is short, as the kernel shows it.

use crate::scene::{Scene, say};
use rustix::process::{Resource, Rlimit, Signal, configure_io_flusher_behavior, getrlimit, setrlimit};
use std::fs;

/// `PF_LOCAL_THROTTLE` and `PF_MEMALLOC_NOIO`: what `PR_SET_IO_FLUSHER` sets for a thread (prctl(2)).
const IO_FLUSHER: u64 = 0x0010_0000 | 0x0008_0000;
/// `CAP_IPC_LOCK` (capabilities(7)).
const MAY_LOCK: u64 = 1 << 14;

/// A field of what the kernel says of a process.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("the kernel says so").trim().to_owned()
}

#[test]
fn every_thread_may_use_the_kernels_reserve_and_no_page_is_read_back() {
    let effective = u64::from_str_radix(&field(std::process::id(), "CapEff"), 16).expect("digits");
    // The daemon inherits it. Everything else that this process starts has no use for it.
    let lifted = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_ok();
    let locks = effective & MAY_LOCK != 0 || getrlimit(Resource::Memlock).current.is_none();
    // Asked of a thread of its own, so that this one is as it was.
    let flushes = std::thread::spawn(|| configure_io_flusher_behavior(true).is_ok()).join().expect("no panic");
    if !locks && !flushes {
        return say("SKIPPED: this process may neither lock memory nor use the kernel's reserve");
    }
    let mut scene = Scene::new("memory", &[]);
    if lifted {
        scene.stop(Signal::TERM);
        scene.start();
    }
    scene.connect(0, &["-c", "1"]);
    scene.does(&["export", "nvme0n1"]);
    let pid = scene.daemon().pid();
    if locks {
        let locked = field(pid, "VmLck");
        assert!(!locked.starts_with("0 "), "{locked} locked");
    } else {
        say("SKIPPED: this process may not lock memory");
    }
    if !flushes {
        return say(
            "SKIPPED: this process may not use the kernel's reserve (CAP_SYS_RESOURCE); `interop/exports` looks at that",
        );
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs") {
        let thread = thread.expect("a thread").path();
        // It may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(thread.join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(')').expect("the name ends");
        // State, parent, group, session, terminal, its group, flags.
        let flags: u64 = rest.split_whitespace().nth(6).expect("flags").parse().expect("a number");
        assert_eq!(flags & IO_FLUSHER, IO_FLUSHER, "{name}) has flags {flags:x}");
    }
}
