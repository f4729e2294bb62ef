//! What the daemon arranges for the time when memory is short, as the kernel shows it.

use crate::scene::{Scene, say};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use std::fs;

/// `PF_LOCAL_THROTTLE` and `PF_MEMALLOC_NOIO`: what `PR_SET_IO_FLUSHER` sets for a thread (prctl(2)).
const IO_FLUSHER: u64 = 0x0010_0000 | 0x0008_0000;

#[test]
fn every_thread_may_use_the_kernels_reserve_and_no_page_is_read_back() {
    if !rustix::process::geteuid().is_root() {
        return say("SKIPPED: only root may lock memory and use the kernel's reserve");
    }
    let mut scene = Scene::new("memory", &[]);
    scene.stop(Signal::TERM);
    // The daemon inherits it. Everything else that this process starts has no use for it.
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        return say("SKIPPED: the limit of locked memory cannot be lifted here");
    }
    scene.start();
    scene.connect(0, &["-c", "1"]);
    scene.does(&["export", "nvme0n1"]);
    let pid = scene.daemon().pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("the kernel says so").trim();
    assert!(!locked.starts_with("0 "), "{locked} locked");
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
