use super::*;
use crate::{Controller, HostFacts, PathCounters, Times};
use interlock_api::Histogram;

fn snapshot(failovers: u64) -> Snapshot {
    let times = Times {
        read: Histogram(vec![(Some(32), 1), (Some(40), 2), (Some(1 << 21), 3), (None, 1)]),
        ..Times::default()
    };
    let path = Path {
        name: "nvme0c0n1".into(),
        controller: "nvme0".into(),
        ana_state: Some("optimized".into()),
        io: Some(Io { reads: 7, read_us: 9_000_000, read_bytes: 4096, ..Io::default() }),
        times: Some(Box::new(times)),
        counters: PathCounters { multipath_failover_count: Some(failovers), ..PathCounters::default() },
        ..Path::default()
    };
    let head = Head { name: "nvme0n1".into(), nsid: Some(1), paths: vec![path], ..Head::default() };
    let subsystem = Subsystem {
        name: "nvme-subsys0".into(),
        nqn: "nqn.2014-08.org.example:\"quoted\"\nline".into(),
        controllers: vec![Controller { name: "nvme0".into(), state: "live".into(), ..Controller::default() }],
        namespaces: vec![head],
        ..Subsystem::default()
    };
    Snapshot { subsystems: vec![subsystem], ..Snapshot::default() }
}

#[test]
fn a_page_says_what_a_snapshot_does() {
    let page = text(&snapshot(5));
    let labels = "subsystem=\"nvme-subsys0\",namespace=\"nvme0n1\",controller=\"nvme0\",path=\"nvme0c0n1\"";
    for line in [
        "# TYPE interlock_path_failovers counter".to_owned(),
        format!("interlock_path_failovers_total{{{labels}}} 5"),
        format!("interlock_io_bytes_total{{{labels},op=\"read\"}} 4096"),
        "# UNIT interlock_io_duration_seconds seconds".to_owned(),
        format!("interlock_io_duration_seconds_sum{{{labels},op=\"read\"}} 9.0"),
        format!("interlock_io_duration_seconds_bucket{{le=\"0.000032\",{labels},op=\"read\"}} 1"),
        format!("interlock_io_duration_seconds_bucket{{le=\"0.000064\",{labels},op=\"read\"}} 3"),
        format!("interlock_io_duration_seconds_bucket{{le=\"8.388608\",{labels},op=\"read\"}} 6"),
        format!("interlock_io_duration_seconds_bucket{{le=\"+Inf\",{labels},op=\"read\"}} 7"),
        format!("interlock_path_ana_state{{{labels},state=\"optimized\"}} 1"),
        format!("interlock_path_ana_state{{{labels},state=\"inaccessible\"}} 0"),
        "interlock_subsystem_paths_live{subsystem=\"nvme-subsys0\"} 1".to_owned(),
    ] {
        assert!(page.lines().any(|other| other == line), "{line}\n{page}");
    }
    assert!(page.contains("nqn=\"nqn.2014-08.org.example:\\\"quoted\\\"\\nline\""), "{page}");
    assert!(!page.contains("flush") && !page.contains("fences"), "what is not there is not said\n{page}");
    assert!(page.ends_with("# EOF\n"));
}

#[test]
fn compares_are_told_where_they_are_counted_and_never_fall() {
    let mut monotonic = Monotonic::default();
    let mut page_of = |compares| {
        let mut now = snapshot(0);
        let head = &mut now.subsystems[0].namespaces[0];
        head.io = Some(Io { compares, ..Io::default() });
        head.paths[0].io = Some(Io { compares: compares.map(|count| count + 100), ..Io::default() });
        monotonic.smooth(&mut now);
        text(&now)
    };
    let unknown = page_of(None);
    assert!(!unknown.contains("compares"), "what is not counted is not said to be zero\n{unknown}");
    for (shown, of_head, of_path) in [(0, 0, 100), (5, 5, 105), (2, 7, 207)] {
        let page = page_of(Some(shown));
        for line in [
            "# TYPE interlock_path_compares counter".to_owned(),
            format!("interlock_namespace_compares_total{{subsystem=\"nvme-subsys0\",namespace=\"nvme0n1\"}} {of_head}"),
            format!(
                "interlock_path_compares_total{{subsystem=\"nvme-subsys0\",namespace=\"nvme0n1\",controller=\"nvme0\",path=\"nvme0c0n1\"}} {of_path}"
            ),
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }
}

#[test]
fn fences_are_there_from_the_start() {
    let host = Some(Box::new(HostFacts::default()));
    let page = text(&Snapshot { host, ..Snapshot::default() });
    assert!(page.contains("interlock_fences_total{method=\"immediate\",result=\"proven\"} 0\n"), "{page}");
    assert!(page.contains("interlock_fences_total{method=\"legacy\",result=\"unsafe\"} 0\n"), "{page}");
    assert!(page.contains("interlock_unsafe_failovers_total 0\n"), "{page}");
}

#[test]
fn counters_of_the_kernel_never_fall() {
    let mut monotonic = Monotonic::default();
    let mut last = 0;
    for (shown, expected) in [(5, 5), (7, 7), (0, 7), (2, 9), (1, 10), (u64::MAX, u64::MAX)] {
        let mut now = snapshot(shown);
        monotonic.smooth(&mut now);
        let counted = now.subsystems[0].namespaces[0].paths[0].counters.multipath_failover_count;
        assert_eq!(counted, Some(expected));
        assert!(expected >= last);
        last = expected;
    }
    // A device that was away goes on where it was.
    monotonic.smooth(&mut Snapshot::default());
    let mut back = snapshot(3);
    monotonic.smooth(&mut back);
    assert_eq!(back.subsystems[0].namespaces[0].paths[0].counters.multipath_failover_count, Some(u64::MAX));
}

#[test]
fn every_state_of_a_controller_has_its_series() {
    for (told, want) in [
        ("live", "live"),
        ("deleting", "deleting"),
        ("deleting (no IO)", "deleting"),
        ("something-new", "unknown"),
        ("", "unknown"),
    ] {
        let ctrl = Controller { name: "nvme0".into(), state: told.into(), ..Controller::default() };
        let one = Subsystem { name: "nvme-subsys0".into(), controllers: vec![ctrl], ..Subsystem::default() };
        let page = text(&Snapshot { subsystems: vec![one], ..Snapshot::default() });
        let on: Vec<&str> =
            page.lines().filter(|line| line.contains("subsystem_path_state{") && line.ends_with(" 1")).collect();
        assert_eq!(on.len(), 1, "{told}: {page}");
        assert!(on[0].contains(&format!("state=\"{want}\"")), "{told}: {}", on[0]);
    }
}
