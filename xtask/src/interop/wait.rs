//! Waiting for something that another program does.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
///
/// # Errors
/// If there is none in time, or asking failed.
pub(super) fn for_some<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", within.as_secs());
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Lets time pass while others work.
pub(super) fn pass(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
