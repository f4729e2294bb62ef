//! Memory, when it is short: the pages that the kernel wants to get rid of may be those of a disk that this process serves.
//!
//! Then nothing here may wait for memory that only this process can free. Threads say that they are part of writing pages
//! out (`PR_SET_IO_FLUSHER`, prctl(2)), which every thread inherits that is begun later, so that the kernel lends them its
//! reserve; and what the process has touched stays in memory (`mlockall`, mlock(2)): a page fault that reads from the
//! disk that is being served never ends. The unit asks the kernel to end others first (`OOMScoreAdjust`).

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, configure_io_flusher_behavior, getrlimit};

/// Prepares this process; to be called before it has threads. What was refused is told, in sentences.
pub(crate) fn prepare() -> Vec<String> {
    let mut refused = Vec::new();
    match configure_io_flusher_behavior(true) {
        // Before Linux 5.6 nobody could ask for it.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => refused.push(format!("threads may wait for memory (PR_SET_IO_FLUSHER: {error})")),
    }
    // With a limit that holds for this process, the first memory beyond it would be refused: worse than a page fault.
    let status = || std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if getrlimit(Resource::Memlock).current.is_some() && !is_beyond_limit(&status()) {
        refused.push("pages may have to be read back (LimitMEMLOCK= is not infinity)".into());
    } else if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        refused.push(format!("pages may have to be read back (mlockall: {error})"));
    }
    refused
}

/// `CAP_IPC_LOCK` (capabilities(7)): memory of such a process is locked whatever its limit.
const CAP_IPC_LOCK: u32 = 14;

/// True if the limit of locked memory does not hold for the process that has this `/proc/PID/status`.
fn is_beyond_limit(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|effective| effective >> CAP_IPC_LOCK & 1 == 1)
}

/// What to say of that.
pub(crate) fn warning(refused: &[String]) -> Option<String> {
    (!refused.is_empty()).then(|| {
        format!(
            "a block device of the kernel may hang while memory is short: {}; `packaging/interlock.service.d/ublk.conf` has \
             what is needed",
            refused.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_once_and_in_one_sentence() {
        assert_eq!(warning(&[]), None);
        let told = warning(&["one thing".into(), "another".into()]).expect("two were refused");
        assert!(told.contains("one thing, another; "), "{told}");
    }

    #[test]
    fn a_limit_holds_for_whoever_may_not_lock_memory() {
        let status = |digits: &str| format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{digits}\nCapBnd:\t0\n");
        assert!(is_beyond_limit(&status("000001fffeffffff")) && is_beyond_limit(&status("0000000000004000")));
        assert!(!is_beyond_limit(&status("0000000000003001")) && !is_beyond_limit(&status("0000000000000000")));
        assert!(!is_beyond_limit(&status("x")) && !is_beyond_limit(""));
    }

    #[test]
    fn threads_that_are_begun_later_inherit_it() {
        // Of a thread of its own, so that other tests are as they were.
        let inherited = std::thread::spawn(|| {
            if configure_io_flusher_behavior(true).is_err() {
                return None; // not allowed here
            }
            std::thread::spawn(|| rustix::process::is_io_flusher().ok()).join().expect("no panic")
        });
        assert_ne!(inherited.join().expect("no panic"), Some(false));
    }
}
