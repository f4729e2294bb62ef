//! The programs where `io_uring` is forbidden: by a filter that the kernel applies to a thread and to all that it starts.

use crate::child::{NQN, Target, interlock, run};
use crate::serving::Scratch;
use rustix::process::Signal;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;
use std::process::Output;

/// Runs `work` on a thread without `io_uring`; so are the processes that it starts.
fn forbidden<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let rules = BTreeMap::from([(libc::SYS_io_uring_setup, Vec::new())]);
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().expect("a machine with seccomp");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a sound filter");
    let filter: BpfProgram = filter.try_into().expect("a sound filter");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&filter).expect("whoever gives up a right needs none");
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One line, however many pools the program makes.
fn assert_warned_once(stderr: &[u8]) {
    let text = String::from_utf8_lossy(stderr);
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("running on epoll")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("warning: ") && warnings[0].contains("kernel.io_uring_disabled"), "{text}");
}

#[test]
fn the_drill_is_as_safe_and_as_able_to_fail() {
    let fenced = forbidden(|| run(&["drill", "reset", "last-path"]));
    assert_eq!(fenced.status.code(), Some(0), "{}", said(&fenced));
    assert!(said(&fenced).contains("2 of 2 safe"), "{}", said(&fenced));
    assert_warned_once(&fenced.stderr);
    let unfenced = forbidden(|| run(&["drill", "no-ccr", "--no-fence"]));
    assert_eq!(unfenced.status.code(), Some(1), "{}", said(&unfenced));
}

/// Sockets and files of a target, sockets of a host; the bytes are compared by one that has `io_uring`.
#[test]
fn an_image_goes_through_a_host_and_a_target_without_io_uring() {
    let bytes: Vec<u8> = (0..3_u32 << 18).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let image = Scratch::new("forbidden-image", &bytes);
    let disk = Scratch::new("forbidden-disk", &vec![0; bytes.len()]);
    let back = Scratch::new("forbidden-back", &[]);
    let state = std::path::PathBuf::from(format!("{}.d", image.path()));
    let namespace = format!("file:{}", disk.path());
    let any = "127.0.0.1:0";
    let target = forbidden(|| Target::start(&["--port", any, "--port", any, "--namespace", &namespace]));
    let there = format!("nvme:127.0.0.1:{},127.0.0.1:{}/{NQN}/1", target.port(0), target.port(1));
    let places =
        ["--state-dir", &state.display().to_string(), "--nvme-dir", &state.display().to_string()].map(str::to_owned);
    let copy = |from: &str, to: &str| {
        let mut command = interlock(&["io", "copy", from, to]);
        command.args(&places).output().expect("the binary runs")
    };
    let there_it_went = forbidden(|| copy(image.path(), &there));
    assert!(there_it_went.status.success(), "{}", said(&there_it_went));
    assert_warned_once(&there_it_went.stderr);
    let back_it_came = copy(&there, back.path());
    assert!(back_it_came.status.success(), "{}", said(&back_it_came));
    assert!(std::fs::read(back.path()).expect("ours") == bytes, "read back identical");
    target.wait_said("running on epoll");
    let (status, log) = target.stop(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{log}");
    assert_warned_once(log.as_bytes());
    std::fs::remove_dir_all(state).expect("ours");
}

#[test]
fn whoever_insists_hears_what_to_change_and_epoll_by_choice_hears_nothing() {
    let insisting = |value: &str| {
        let mut command = interlock(&["target", "--port", "127.0.0.1:0", "--namespace", "mem:8M"]);
        command.env("INTERLOCK_RING", value).output().expect("the binary runs")
    };
    let refused = forbidden(|| insisting("io_uring"));
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("kernel.io_uring_disabled"), "{}", said(&refused));
    let unknown = insisting("kqueue");
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    assert!(said(&unknown).contains("INTERLOCK_RING=kqueue: io_uring, epoll or auto"), "{}", said(&unknown));
    let mut drill = interlock(&["drill", "reset"]);
    let chosen = forbidden(|| drill.env("INTERLOCK_RING", "epoll").output().expect("the binary runs"));
    assert!(chosen.status.success() && !said(&chosen).contains("warning"), "{}", said(&chosen));
}
