//! The screens, as text, and the words for scripts. Review a change with `cargo insta review`.

use interlock_api::{Histogram, Method, SubsystemCounters, TombstoneStatus};
use interlock_observe::{
    Controller, ControllerCounters, Head, HeadCounters, HostFacts, Io, Path, PathCounters, Recovery, Snapshot,
    Subsystem, Times,
};
use interlock_top::{App, Effect, Key, draw, once};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::time::Duration;

fn io(second: u64, share: u64) -> Option<Io> {
    // A load that rises and falls, so that the sparklines have something to show.
    let total = (0..=second).map(|s| 800 + 40 * (s % 10)).sum::<u64>() * share / 10;
    Some(Io {
        reads: total,
        read_bytes: total * 4096,
        read_us: total * 420,
        writes: total / 2,
        write_bytes: total / 2 * 8192,
        write_us: total / 2 * 1310,
        in_flight: share / 3,
        busy_us: second * 640_000,
        ..Io::default()
    })
}

/// Second by second: from the 20th on, the first controller is lost.
fn snapshot(second: u64) -> Snapshot {
    let lost = second >= 20;
    let controller = |name: &str, port: u32, state: &str, resets, reconnects| Controller {
        name: name.into(),
        transport: "tcp".into(),
        address: format!("traddr=192.0.2.{port},trsvcid=4420,src_addr=192.0.2.9"),
        state: state.into(),
        cntlid: Some(1),
        kato_s: Some(5),
        queues: Some(3),
        counters: ControllerCounters {
            command_error_count: Some(0),
            reset_count: Some(resets),
            reconnect_count: Some(reconnects),
        },
        ..Controller::default()
    };
    let path = |name: &str, controller: &str, ana: &str, failovers, io| Path {
        name: name.into(),
        controller: controller.into(),
        ana_state: Some(ana.into()),
        queue_depth: Some(0),
        io,
        counters: PathCounters {
            command_retries_count: Some(0),
            command_error_count: Some(0),
            multipath_failover_count: Some(failovers),
        },
        ..Path::default()
    };
    let head = |name: &str, nsid: u32, paths| Head {
        name: name.into(),
        nsid: Some(nsid),
        size_bytes: Some(1 << 40),
        block_bytes: Some(512),
        io: io(second, 10),
        counters: HeadCounters { io_requeue_no_usable_path_count: Some(0), io_fail_no_available_path_count: Some(0) },
        paths,
        ..Head::default()
    };
    let state = if lost { "connecting" } else { "live" };
    let first_io = io(second.min(20), 7);
    let mut second_io = io(second, 3);
    if let (true, Some(own)) = (lost, &mut second_io) {
        // It carries what the other one would have.
        let (then, now) = (io(20, 7).unwrap_or_default(), io(second, 7).unwrap_or_default());
        own.reads += now.reads - then.reads;
        own.read_bytes += now.read_bytes - then.read_bytes;
        own.read_us += now.read_us - then.read_us;
        own.writes += now.writes - then.writes;
        own.write_bytes += now.write_bytes - then.write_bytes;
        own.write_us += now.write_us - then.write_us;
        own.in_flight = 3;
    }
    Snapshot {
        at: Duration::from_secs(second),
        subsystems: vec![
            Subsystem {
                name: "nvme-subsys0".into(),
                nqn: "nqn.2014-08.org.example:array-1".into(),
                model: "Example Array".into(),
                serial: "A1".into(),
                kind: "nvm".into(),
                iopolicy: Some("round-robin".into()),
                controllers: vec![
                    controller("nvme0", 1, state, u64::from(lost), second.saturating_sub(20)),
                    controller("nvme1", 2, "live", 0, 0),
                ],
                namespaces: vec![head(
                    "nvme0n1",
                    1,
                    vec![
                        path("nvme0c0n1", "nvme0", "optimized", if lost { 12 } else { 0 }, first_io),
                        path("nvme0c1n1", "nvme1", "non-optimized", 0, second_io),
                    ],
                )],
                ..Subsystem::default()
            },
            Subsystem {
                name: "nvme-subsys3".into(),
                nqn: "nqn.2014-08.org.example:array-2".into(),
                model: "Example Array".into(),
                serial: "A2".into(),
                kind: "nvm".into(),
                iopolicy: Some("numa".into()),
                controllers: vec![controller("nvme7", 3, "live", 0, 0)],
                namespaces: vec![head("nvme3n1", 1, vec![path("nvme3c7n1", "nvme7", "optimized", 0, io(second, 4))])],
                ..Subsystem::default()
            },
        ],
        ..Snapshot::default()
    }
}

fn app() -> App {
    let mut app = App::new("recorded controllers".into(), Duration::from_secs(1));
    for second in 0..24 {
        app.handle_sample(snapshot(second));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen in memory");
    terminal.draw(|frame| draw(app, frame)).expect("nothing can fail in memory");
    terminal.backend().to_string()
}

fn press(app: &mut App, keys: &[Key]) {
    for &key in keys {
        assert_eq!(app.handle_key(key), Effect::None);
    }
}

/// As the daemon tells it: with histograms, with fences, with what is left of a life.
fn told(second: u64) -> Snapshot {
    let mut snapshot = snapshot(second);
    let subsystem = &mut snapshot.subsystems[0];
    let mut totals = SubsystemCounters::default();
    totals.fences.attempts = u64::from(second >= 20);
    totals.fences.by_method = [(Method::Assumed, totals.fences.attempts)].into();
    subsystem.totals = Some(Box::new(totals));
    for controller in &mut subsystem.controllers {
        let lost = !controller.is_live();
        controller.recovery = Some(Box::new(Recovery {
            for_ms: 1000 * second.saturating_sub(20),
            last_error: lost.then(|| "connection refused".into()),
            fencing: if lost { vec!["life0".into()] } else { Vec::new() },
            ..Recovery::default()
        }));
    }
    for head in snapshot.subsystems.iter_mut().flat_map(|subsystem| &mut subsystem.namespaces) {
        let times = |io: Option<Io>| {
            let io = io.unwrap_or_default();
            // Writes are slower, and one in twenty is late.
            Some(Box::new(Times {
                read: Histogram(vec![(Some(512), io.reads)]),
                write: Histogram(vec![(Some(1536), io.writes - io.writes / 20), (Some(8192), io.writes / 20)]),
                ..Times::default()
            }))
        };
        head.times = times(head.io);
        head.paths.iter_mut().for_each(|path| path.times = times(path.io));
    }
    let tombstone = TombstoneStatus {
        controller: "nvme0".into(),
        life: "life0".into(),
        subnqn: "nqn.2014-08.org.example:array-1".into(),
        guarded: "16 blocks of NSID 1".into(),
        left_ms: Some(7500),
    };
    let tombstones = if second >= 20 { vec![tombstone] } else { Vec::new() };
    snapshot.host = Some(Box::new(HostFacts { tombstones, ..HostFacts::default() }));
    snapshot
}

#[test]
fn what_a_daemon_tells() {
    let mut app = App::new("the daemon's controllers".into(), Duration::from_secs(1));
    for second in 0..24 {
        app.handle_sample(told(second));
    }
    insta::assert_snapshot!("told_overview_80x24", screen(&app, 80, 24));
    insta::assert_snapshot!("told_overview_160x30", screen(&app, 160, 30));
    press(&mut app, &[Key::Char('w')]);
    insta::assert_snapshot!("told_health_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Down, Key::Down]);
    assert!(!screen(&app, 80, 24).contains("critical"), "it moves");
    press(&mut app, &[Key::Esc, Key::Enter]);
    insta::assert_snapshot!("told_paths_80x24", screen(&app, 80, 24));
    insta::assert_snapshot!("told_paths_160x30", screen(&app, 160, 30));
    press(&mut app, &[Key::Tab]);
    insta::assert_snapshot!("told_controllers_120x24", screen(&app, 120, 24));
    press(&mut app, &[Key::Tab]);
    insta::assert_snapshot!("told_namespaces_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Esc, Key::Down, Key::Enter, Key::Char('w')]);
    insta::assert_snapshot!("told_health_of_one_100x24", screen(&app, 100, 24));
    insta::assert_snapshot!("told_csv", once::report("told".into(), &told(18), &told(20)).to_csv());
}

#[test]
fn overview() {
    insta::assert_snapshot!("overview_80x24", screen(&app(), 80, 24));
    insta::assert_snapshot!("overview_160x30", screen(&app(), 160, 30));
}

#[test]
fn the_tables_of_a_subsystem() {
    let mut app = app();
    press(&mut app, &[Key::Enter]);
    insta::assert_snapshot!("paths_80x24", screen(&app, 80, 24));
    insta::assert_snapshot!("paths_140x24", screen(&app, 140, 24));
    press(&mut app, &[Key::Tab]);
    insta::assert_snapshot!("controllers_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Tab]);
    insta::assert_snapshot!("namespaces_80x24", screen(&app, 80, 24));
}

#[test]
fn what_lies_over_a_view() {
    let mut app = app();
    press(&mut app, &[Key::Char('h')]);
    insta::assert_snapshot!("help_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Esc, Key::Char('t')]);
    insta::assert_snapshot!("timeline_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Esc, Key::Char('r')]);
    insta::assert_snapshot!("confirm_80x24", screen(&app, 80, 24));
    press(&mut app, &[Key::Esc, Key::Char('/'), Key::Char('x'), Key::Char('y')]);
    insta::assert_snapshot!("filter_80x24", screen(&app, 80, 24));
}

#[test]
fn every_size_draws() {
    let mut app = app();
    for keys in [&[][..], &[Key::Enter], &[Key::Char('t')], &[Key::Char('h')]] {
        press(&mut app, keys);
        for (width, height) in [(1, 1), (20, 5), (59, 11), (60, 12), (61, 13), (300, 100)] {
            assert!(!screen(&app, width, height).is_empty());
        }
    }
    insta::assert_snapshot!("too_small", screen(&app, 40, 8));
}

#[test]
fn for_scripts() {
    let report = once::report("recorded controllers".into(), &snapshot(18), &snapshot(20));
    insta::assert_snapshot!("once_csv", report.to_csv());
    insta::assert_snapshot!("once_json", report.to_json().expect("JSON"));
}
