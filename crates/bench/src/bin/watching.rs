//! What looking costs: a thousand controllers, and processor time per scrape, redraw and attribute.
//!
//! `cargo run --release -p interlock-bench --bin watching [CONTROLLERS]` prints each figure beside its limit and fails if one
//! is above it. What is counted begins with what the host has told; that it is asked is told in `docs/observability.md`.

use anyhow::{Result, ensure};
use interlock_api::{
    AnaState, ControllerCounters, ControllerState, ControllerStatus, Counters, FencePolicy, FlushScope, HeadCounters,
    Histogram, IoCounters, IoPolicy, NamespaceStatus, OnLoss, PathAddress, PathCounters, PathStatus, SettingsStatus,
    Status, SubsystemCounters, SubsystemStatus, Totals, Version,
};
use interlock_observe::tree::{Node, Tree};
use interlock_observe::{Snapshot, daemon, metrics};
use interlock_top::{App, Key, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

/// Controllers of a subsystem, and namespaces of it.
const WIDE: usize = 4;

/// What a scrape may take of a processor.
const SCRAPE: Duration = Duration::from_millis(50);
/// What a redraw may take.
const REDRAW: Duration = Duration::from_millis(20);
/// What an attribute may take.
const ATTRIBUTE: Duration = Duration::from_micros(20);

fn main() -> Result<()> {
    let controllers: usize = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let mut out = std::io::stdout().lock();
    let mut slow = Vec::new();
    for (shape, wide, namespaces) in
        [("one path each", 1, 1), ("subsystems of four", WIDE, WIDE), ("one subsystem", controllers, 1)]
    {
        let (series, figures) = figures(controllers, wide, namespaces);
        writeln!(
            out,
            "{controllers} controllers, {shape}: {} paths, {series} bytes of /metrics",
            controllers * namespaces
        )?;
        for (what, took, limit) in figures {
            writeln!(out, "  {what:<44} {:>9.3} ms   limit {:>6.3} ms", ms(took), ms(limit))?;
            if took > limit {
                slow.push(format!("{what} ({shape})"));
            }
        }
    }
    ensure!(slow.is_empty(), "above its limit: {}", slow.join("; "));
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How long the page is, and what each thing takes and may take.
fn figures(controllers: usize, wide: usize, namespaces: usize) -> (usize, Vec<(&'static str, Duration, Duration)>) {
    let (status, counters) = told(controllers, wide, namespaces, 1);
    let snapshot = daemon::snapshot(&status, &counters);
    let (status, counters) = told(controllers, wide, namespaces, 2);
    let later = daemon::snapshot(&status, &counters);
    let [mut app, mut opened] = [(); 2].map(|()| {
        let mut app = App::new("a thousand controllers".into(), Duration::from_secs(1));
        app.handle_sample(snapshot.clone());
        app.handle_sample(later.clone());
        app
    });
    opened.handle_key(Key::Enter);
    let mut screen = Terminal::new(TestBackend::new(160, 50)).expect("a screen in memory");
    let tree = Tree::of(snapshot.clone());
    let attributes = attributes(&tree);
    let walk = mean(3, || attributes.iter().filter_map(|path| tree.read(path)).count());
    // Whoever takes a sample has made it: that is counted above, and to copy it is nobody's work.
    let mut samples = vec![later.clone(); 11];
    let page = || metrics::text(&daemon::snapshot(&status, &counters)).len();
    let figures = vec![
        ("/metrics, from what the host told", mean(10, page), SCRAPE),
        ("  of this the model", mean(10, || daemon::snapshot(&status, &counters)), SCRAPE),
        ("top: a sample taken in", mean(10, || samples.pop().map(|sample| app.handle_sample(sample))), REDRAW),
        ("top: the overview drawn", mean(10, || drawn(&app, &mut screen)), REDRAW),
        ("top: a subsystem drawn", mean(10, || drawn(&opened, &mut screen)), REDRAW),
        ("file tree made anew, every 100 ms at most", mean(10, || tree_of(&snapshot)), SCRAPE),
        ("an attribute found and read", walk / u32::try_from(attributes.len()).unwrap_or(u32::MAX), ATTRIBUTE),
    ];
    (page(), figures)
}

/// Processor time of this thread for one `work`, over so many.
fn mean<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    black_box(work());
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time");
    let begin = now();
    for _ in 0..times {
        black_box(work());
    }
    (now() - begin) / times
}

fn tree_of(snapshot: &Snapshot) -> Tree {
    Tree::of(snapshot.clone())
}

fn drawn(app: &App, screen: &mut Terminal<TestBackend>) {
    screen.draw(|frame| draw(app, frame)).expect("nothing can fail in memory");
}

/// Every attribute of the tree that can be read.
fn attributes(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec!["sys/devices".to_owned()];
    while let Some(path) = open.pop() {
        for name in tree.list(&path).unwrap_or_default() {
            let below = format!("{path}/{name}");
            match tree.node(&below) {
                Some(Node::Directory) => open.push(below),
                Some(Node::Attribute(mode)) if mode & 0o444 != 0 => found.push(below),
                _ => {}
            }
        }
    }
    found
}

/// What a daemon would tell in a second: subsystems with `wide` controllers, each namespace reached through all of them.
fn told(controllers: usize, wide: usize, namespaces: usize, second: u64) -> (Status, Counters) {
    let mut status = Status {
        format_version: Version,
        version: String::new(),
        pid: 1,
        started_unix_ms: 0,
        hostnqn: "nqn.2014-08.org.nvmexpress:uuid:8a72143e-14fa-4544-ba82-4c592431884e".into(),
        hostid: "8a72143e-14fa-4544-ba82-4c592431884e".into(),
        subsystems: Vec::new(),
        controllers: Vec::new(),
        namespaces: Vec::new(),
        waiting_names: Vec::new(),
        exports: Vec::new(),
        discovery: Vec::new(),
        tombstones: Vec::new(),
        totals: Totals::default(),
        journal: None,
        limits: interlock_api::LimitsStatus::default(),
    };
    let mut counters = Counters { at_us: second * 1_000_000, ..Counters::default() };
    for number in 0..controllers.div_ceil(wide) {
        let (name, nqn) = (format!("nvme-subsys{number}"), format!("nqn.2014-08.org.example:array-{number}"));
        let members: Vec<usize> = (number * wide..((number + 1) * wide).min(controllers)).collect();
        for ctrl in &members {
            let counted =
                ControllerCounters { reset_count: 1, reconnect_count: second, ..ControllerCounters::default() };
            counters.controllers.insert(format!("nvme{ctrl}"), counted.clone());
            status.controllers.push(controller(format!("nvme{ctrl}"), &name, &nqn, counted));
        }
        for nsid in 1..=namespaces {
            let head = format!("nvme{number}n{nsid}");
            let mut paths = Vec::new();
            for ctrl in &members {
                let path = format!("nvme{number}c{ctrl}n{nsid}");
                let (controller, ana_state) = (format!("nvme{ctrl}"), AnaState::Optimized);
                let (name, group) = (path.clone(), Some(1));
                paths.push(PathStatus { name, controller: controller.clone(), ana_state, ana_group: group });
                let (namespace, ana_state) = (head.clone(), Some(ana_state));
                let counted =
                    PathCounters { namespace, controller, ana_state, io: io(second), ..PathCounters::default() };
                counters.paths.insert(path, counted);
            }
            counters.heads.insert(head.clone(), HeadCounters { io: io(second), ..HeadCounters::default() });
            status.namespaces.push(NamespaceStatus {
                name: head,
                subsystem: name.clone(),
                subnqn: nqn.clone(),
                nsid: u32::try_from(nsid).unwrap_or(u32::MAX),
                size_bytes: 1 << 40,
                block_bytes: 4096,
                read_only: false,
                uuid: Some("8a72143e-14fa-4544-ba82-4c592431884e".into()),
                nguid: None,
                eui64: None,
                flush_error: None,
                suspects: Vec::new(),
                paths,
                lost_paths: Vec::new(),
                unreachable: None,
            });
        }
        counters
            .subsystems
            .insert(name.clone(), SubsystemCounters { nqn: nqn.clone(), ..SubsystemCounters::default() });
        let [model, serial, firmware] = ["Example Array", "A1", "1"].map(str::to_owned);
        let (iopolicy, last_known) = (IoPolicy::RoundRobin, false);
        status.subsystems.push(SubsystemStatus { name, nqn, iopolicy, model, serial, firmware, last_known });
    }
    (status, counters)
}

fn controller(name: String, subsystem: &str, subnqn: &str, counters: ControllerCounters) -> ControllerStatus {
    ControllerStatus {
        name,
        subsystem: subsystem.to_owned(),
        subnqn: subnqn.to_owned(),
        path: PathAddress::tcp("192.0.2.1", 4420),
        host_traddr: None,
        host_iface: None,
        peer: None,
        state: ControllerState::Live,
        for_ms: 1000,
        reason: "connected".into(),
        slow: false,
        waits: Vec::new(),
        fencing: Vec::new(),
        last_error: None,
        facts: None,
        settings: SettingsStatus {
            reconnect_delay_s: 10,
            ctrl_loss_tmo_s: 600,
            fast_io_fail_tmo_s: -1,
            iopolicy: IoPolicy::RoundRobin,
            fence: FencePolicy::Strict,
            on_loss: OnLoss::Reconnect,
            assumed_cqt_ms: 0,
            clock_slew_permille: 100,
            proxy_delay_ms: 0,
            disable_is_fence: false,
            ignore_dnr: false,
            flush_scope: FlushScope::Subsystem,
            hdr_digest: false,
            data_digest: false,
        },
        counters,
    }
}

/// I/O that took all kinds of times: twenty octaves of buckets are filled.
fn io(second: u64) -> IoCounters {
    let bucket = |octave: u32, part: u64| (Some((4 + part) << octave), 40 * second);
    let times = Histogram((3..23).flat_map(|octave| (0..4).map(move |part| bucket(octave, part))).collect());
    IoCounters {
        reads: 3200 * second,
        writes: 3200 * second,
        read_bytes: second << 24,
        written_bytes: second << 24,
        read_us: second * 900_000,
        write_us: second * 900_000,
        busy_us: second * 900_000,
        in_flight: 3,
        read_times: times.clone(),
        write_times: times,
        ..IoCounters::default()
    }
}
