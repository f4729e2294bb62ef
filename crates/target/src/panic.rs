//! What becomes of a target whose control or lane has panicked.
//!
//! The parts of a target wait for each other: an instance ends when every lane says that nothing of it executes any more, and a host
//! whose lane is gone would wait for that for ever, with a Cross-Controller Reset in progress that never ends. So nothing of the target
//! goes on: its hosts see every connection reset and nobody listen, which they know how to survive.

use crate::control::ControlMail;
use crate::lane::LaneMail;
use interlock_carry::Mailbox;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a panic in a target's control or in one of its lanes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnPanic {
    /// The process, by an abort (SIGABRT), after one line on standard error. For a program that is nothing but a target.
    EndProcess,
    /// The target: every part of it, at once. Its connections are reset, nobody listens, and what is asked of it ends with
    /// [`TargetError::Gone`](crate::TargetError::Gone). [`Pool::panicked`](crate::Pool::panicked) says what has happened.
    EndTarget,
}

/// Ends a target as its program has chosen.
pub(crate) struct Ending {
    on_panic: OnPanic,
    control: Mailbox<ControlMail>,
    lanes: Vec<Mailbox<LaneMail>>,
    begun: AtomicBool,
}

impl Ending {
    pub(crate) const fn new(on_panic: OnPanic, control: Mailbox<ControlMail>, lanes: Vec<Mailbox<LaneMail>>) -> Self {
        Self { on_panic, control, lanes, begun: AtomicBool::new(false) }
    }

    /// `who` has panicked. Returns only if it is the target alone that ends.
    pub(crate) fn begin(&self, who: &str, message: &str) {
        if self.on_panic == OnPanic::EndProcess {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("without a name");
            // Standard error may be closed: the process ends in any case.
            let _ = writeln!(
                std::io::stderr(),
                "interlock target: {who} (thread {thread}) panicked: {message}: this process ends, because the hosts of the \
                 others would wait for it for ever; start it again, and report this"
            );
            std::process::abort();
        }
        if !self.begun.swap(true, Ordering::AcqRel) {
            // One that is gone, or has panicked itself, ends nothing more.
            self.control.send(ControlMail::End);
            self.lanes.iter().for_each(|lane| lane.send(LaneMail::End));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::{Pool, PoolConfig, Target, TargetError};
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    const WITHIN: Duration = Duration::from_secs(20);

    fn start(on_panic: OnPanic) -> (Pool, Target) {
        let config = PoolConfig { reactors: 2, spin: Duration::ZERO, name: "target".into(), ..PoolConfig::default() };
        let pool = Pool::new(config).expect("io_uring or epoll is there");
        let port = "[[port]]\nlisten = \"127.0.0.1:0\"\n";
        let config = Config::from_toml(&format!("{port}{port}[[namespace]]\nbacking = \"mem:4M\"\n"));
        let target = Target::start_as(pool.reactors(), &config.expect("it is right"), on_panic).expect("it starts");
        (pool, target)
    }

    fn panics(target: &Target, who: &str) {
        if who == "control" {
            assert!(matches!(target.ask(|_, _| panic!("as asked by the test")), Err(TargetError::Gone)));
        } else {
            target.lanes[0].send(LaneMail::Panic);
        }
    }

    #[test]
    fn a_part_that_panics_ends_the_whole_target() {
        for who in ["control", "lane 0"] {
            let (pool, target) = start(OnPanic::EndTarget);
            let mut hosts = Vec::new();
            for at in target.ports() {
                let host = TcpStream::connect(at).expect("it listens");
                host.set_read_timeout(Some(WITHIN)).expect("a time");
                hosts.push(host);
            }
            let events = target.subscribe();
            let began = Instant::now();
            panics(&target, who);
            for host in &mut hosts {
                let end = host.read(&mut [0]);
                let timed_out =
                    |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!end.is_err_and(|error| timed_out(&error)), "{who}: a connection stays");
            }
            while events.recv_timeout(WITHIN).is_ok() {}
            assert!(matches!(target.status(), Err(TargetError::Gone)), "{who}: it is as if it lived");
            assert!(matches!(target.shutdown(WITHIN), Err(TargetError::Gone)));
            for at in target.ports() {
                assert!(TcpStream::connect(at).is_err(), "{who}: nobody listens");
            }
            assert!(began.elapsed() < WITHIN, "{who}: nobody waited for an answer");
            let panicked = pool.shutdown(WITHIN).expect_err("the panic is told").panicked;
            assert_eq!(panicked.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(), ["as asked by the test"]);
        }
    }

    /// Tells the child of the next test what to do.
    const PANICS: &str = "INTERLOCK_TEST_PANICS";

    #[test]
    fn a_program_that_is_a_target_ends_and_says_why() {
        use std::os::unix::process::ExitStatusExt as _;
        const NAME: &str = "panic::tests::a_program_that_is_a_target_ends_and_says_why";
        if let Ok(who) = std::env::var(PANICS) {
            let (_pool, target) = start(OnPanic::EndProcess);
            let events = target.subscribe();
            panics(&target, &who);
            // Nobody gets here before the process is gone, or the test has failed.
            while events.recv_timeout(WITHIN).is_ok() {}
            std::process::exit(0);
        }
        for who in ["control", "lane 0"] {
            let mut child = std::process::Command::new(std::env::current_exe().expect("a path"));
            let ended = child.args(["--exact", NAME, "--nocapture"]).env(PANICS, who).output().expect("it runs");
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.signal(), Some(6), "{who}: {}: {said}", ended.status);
            let line = said.lines().find(|line| line.starts_with("interlock target: ")).expect("one line of its own");
            for words in [who, "target-0", "as asked by the test", "this process ends"] {
                assert!(line.contains(words), "{line}");
            }
        }
    }
}
