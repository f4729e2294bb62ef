//! Counters of the kernel that never fall.
//!
//! Anybody may write a number into a counter of `/sys`, and a device that comes back begins at zero. A scrape must not see
//! either: what a counter shows after it fell is what it counted anew, and is added to what it had. What was counted
//! between the last scrape and the moment it was set is lost with the kernel's number; nobody has it.

use crate::{ControllerCounters, HeadCounters, Io, PathCounters, Snapshot};
use std::collections::HashMap;

/// What every counter had when it was last seen.
#[derive(Debug, Default)]
pub struct Monotonic {
    seen: HashMap<(String, u8), Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    last: u64,
    lost: u64,
}

impl Seen {
    fn see(&mut self, now: u64) -> u64 {
        if now < self.last {
            self.lost = self.lost.saturating_add(self.last);
        }
        self.last = now;
        self.lost.saturating_add(now)
    }
}

impl Monotonic {
    /// Makes counters of `snapshot` go on where they had been. Devices are known by their names, also after they were away.
    pub fn smooth(&mut self, snapshot: &mut Snapshot) {
        for subsystem in &mut snapshot.subsystems {
            for controller in &mut subsystem.controllers {
                let ControllerCounters { command_error_count, reset_count, reconnect_count } = &mut controller.counters;
                self.counts(&controller.name, [command_error_count, reset_count, reconnect_count]);
            }
            for head in &mut subsystem.namespaces {
                let HeadCounters { io_requeue_no_usable_path_count, io_fail_no_available_path_count } =
                    &mut head.counters;
                self.counts(&head.name, [io_requeue_no_usable_path_count, io_fail_no_available_path_count]);
                self.io(&head.name, head.io.as_mut());
                for path in &mut head.paths {
                    let PathCounters { command_retries_count, command_error_count, multipath_failover_count } =
                        &mut path.counters;
                    // Without multipath a path has the name of its namespace, and other counters.
                    let name = format!("{}/", path.name);
                    self.counts(&name, [command_retries_count, command_error_count, multipath_failover_count]);
                    self.io(&name, path.io.as_mut());
                }
            }
        }
    }

    fn counts<const N: usize>(&mut self, device: &str, counters: [&mut Option<u64>; N]) {
        for (number, counter) in (0..).zip(counters) {
            if let Some(counter) = counter {
                *counter = self.see(device, number, *counter);
            }
        }
    }

    fn io(&mut self, device: &str, io: Option<&mut Io>) {
        let Some(Io {
            reads,
            read_bytes,
            read_us,
            writes,
            write_bytes,
            write_us,
            compares,
            flushes,
            flush_us,
            in_flight: _,
            busy_us,
        }) = io
        else {
            return;
        };
        let all = [reads, read_bytes, read_us, writes, write_bytes, write_us, flushes, flush_us, busy_us];
        for (number, counter) in (16..).zip(all) {
            *counter = self.see(device, number, *counter);
        }
        if let Some(compares) = compares {
            *compares = self.see(device, 32, *compares);
        }
    }

    fn see(&mut self, device: &str, number: u8, now: u64) -> u64 {
        self.seen.entry((device.to_owned(), number)).or_default().see(now)
    }
}
