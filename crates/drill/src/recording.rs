//! How a scenario went: what the host told, and what went through each path meanwhile.
//!
//! A thread of its own asks the host's counters a few hundred times a second. That is seldom enough to disturb nothing, and
//! often enough to draw a failover of ten milliseconds.

use crate::evidence::Record;
use crate::receipts::Paths;
use interlock_api::{Event as Told, Mark, PathLine, Point, Recording, Version};
use interlock_host::words::{self, Teller, unix_millis};
use interlock_host::{ControllerSpec, CtrlId, HeadId, Host};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at the counters.
const EACH: Duration = Duration::from_millis(4);
/// Looks at most: ten minutes. A longer scenario is drawn up to there.
const LOOKS: usize = 150_000;

type Lines = BTreeMap<CtrlId, Vec<Point>>;

/// Watches what goes through each path.
pub(crate) struct Recorder {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Lines>,
}

impl Recorder {
    /// Begins to watch.
    pub(crate) fn start(host: Host) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut lines = Lines::new();
            for _ in 0..LOOKS {
                if shared.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(counters) = host.data_counters() else { break };
                let mut sums: BTreeMap<CtrlId, (u64, u64)> = BTreeMap::new();
                for ((_, ctrl), (path, _)) in &counters.paths {
                    let sum = sums.entry(*ctrl).or_default();
                    sum.0 += path.io.reads + path.io.writes + path.io.compares + path.io.flushes;
                    sum.1 += path.io.read_bytes + path.io.written_bytes;
                }
                for (ctrl, (ios, bytes)) in sums {
                    lines.entry(ctrl).or_default().push(Point { at_ns: counters.at.as_nanos(), ios, bytes });
                }
                std::thread::park_timeout(EACH);
            }
            lines
        });
        Self { ends, thread }
    }

    /// Stops watching; the whole recording.
    pub(crate) fn end(self, record: &Record, spec: &ControllerSpec, paths: &Paths, marks: Vec<Mark>) -> Recording {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let lines = self.thread.join().unwrap_or_default();
        Recording {
            broken_ns: record.broken.as_nanos(),
            events: told(record, spec, paths),
            lines: lines
                .into_iter()
                .map(|(ctrl, points)| PathLine {
                    controller: ctrl.to_string(),
                    path: words::path(paths.get(&ctrl).copied()),
                    points,
                })
                .collect(),
            marks,
        }
    }
}

/// What the host told, in the words of the event stream.
fn told(record: &Record, spec: &ControllerSpec, paths: &Paths) -> Vec<Told> {
    let mut teller = Teller::default();
    for (ctrl, addr) in paths {
        let spec = ControllerSpec { traddr: addr.ip().to_string(), trsvcid: addr.port(), ..spec.clone() };
        teller.name_controller(*ctrl, spec);
    }
    teller.name_head(HeadId(0), "nvme0n1".into());
    (1..)
        .zip(&record.host)
        .map(|(seq, event)| {
            let said = teller.tell(event);
            Told {
                format_version: Version,
                seq,
                at_ns: event.at.as_nanos(),
                unix_ms: unix_millis(event.at).unwrap_or_default(),
                level: said.level,
                subsystem: said.subsystem,
                controller: said.controller.map(|ctrl| ctrl.to_string()),
                life: said.life.map(|life| life.to_string()),
                what: said.what,
                text: said.text,
            }
        })
        .collect()
}
