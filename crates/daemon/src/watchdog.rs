//! The service manager's watchdog.
//!
//! It is told that the daemon is alive if and only if control and every lane have taken a turn since it was told last: they
//! carry the I/O. A thread of its own asks them, so that no request of anybody, and nothing that the control interface does,
//! can be the reason that it is not told.

use interlock_host::Host;
use sd_notify::NotifyState;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ends with this value.
pub(crate) struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins, if the service manager has asked for it.
    pub(crate) fn start(host: Host) -> io::Result<Self> {
        let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(Self { stop: None, thread: None }) };
        // Without systemd there is nobody to tell.
        let tell = || _ = sd_notify::notify(&[NotifyState::Watchdog]);
        Self::every(limit / 2, move |within| host.pulse(within).is_ok(), tell)
    }

    /// Asks `is_alive` in these intervals, with the time that it may take, and tells.
    fn every(
        interval: Duration,
        is_alive: impl Fn(Duration) -> bool + Send + 'static,
        tell: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("interlock-watchdog".into()).spawn(move || {
            let mut was_alive = true;
            loop {
                let alive = is_alive(interval);
                if alive {
                    tell();
                } else if was_alive {
                    tracing::error!("a reactor has not answered within {interval:?}: the watchdog is not notified");
                }
                was_alive = alive;
                match stopped.recv_timeout(interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was told
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    #[test]
    fn it_is_told_as_long_as_the_reactors_answer_and_no_longer() {
        let (alive, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (tell, told) = mpsc::channel();
        let (is_alive, count) = (Arc::clone(&alive), Arc::clone(&asked));
        let answer = move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            is_alive.load(Ordering::SeqCst)
        };
        let heard = move || _ = tell.send(());
        let dog = Watchdog::every(Duration::from_millis(1), answer, heard).expect("a thread");
        let patience = Duration::from_secs(20);
        for _ in 0..3 {
            told.recv_timeout(patience).expect("it is told");
        }
        alive.store(false, Ordering::SeqCst);
        let now = asked.load(Ordering::SeqCst);
        // One answer may have been given before.
        while asked.load(Ordering::SeqCst) < now + 2 {
            std::thread::yield_now();
        }
        while told.try_recv().is_ok() {}
        let now = asked.load(Ordering::SeqCst);
        while asked.load(Ordering::SeqCst) < now + 3 {
            std::thread::yield_now();
        }
        assert!(told.try_recv().is_err(), "a reactor hangs");
        alive.store(true, Ordering::SeqCst);
        told.recv_timeout(patience).expect("it is told again");
        drop(dog);
        while told.try_recv().is_ok() {}
        assert!(matches!(told.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected)), "it has ended");
    }
}
