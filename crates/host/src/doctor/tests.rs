use super::*;
use interlock_api::{Failure, Severity};
use interlock_host_core::probe::NamespaceFound;
use interlock_host_core::{Assumption, Fact, FencePolicy, Reconnect};
use interlock_proto::host::{Facts, Uniquifier};
use interlock_wire::admin::EventMask;
use interlock_wire::fabrics::Cap;
use interlock_wire::identify::{CMIC_ANA, CMIC_MULTI_CONTROLLER, Geometry, IdentifyController, text_field};
use interlock_wire::nqn::Nqn;
use std::time::Duration;

const SUBNQN: &str = "nqn.2026-11.io.example:disk";

/// A subsystem with which nothing is wrong.
fn healthy() -> (ProbeReport, ControllerSpec, Ways) {
    let mut identify = IdentifyController {
        sn: text_field("S1"),
        mn: text_field("Model"),
        cmic: CMIC_ANA | CMIC_MULTI_CONTROLLER,
        ciu: 1,
        ccrl: 4,
        ..IdentifyController::default()
    };
    identify.cirn.set(5);
    identify.cqt.set(1000);
    identify.kas.set(10);
    let group = ana::Group { id: 1, change_count: 0, state: ana::State::Optimized, nsids: vec![1] };
    let facts = Facts {
        cntlid: 3,
        cap: Cap(127),
        vs: Version::V2_3,
        kato: Fact::Stated(Duration::from_secs(5)),
        io_queues: 1,
        sqsize_max: 127,
        in_capsule_io: 8192,
        max_transfer: Some(1 << 20),
        tbkas: Fact::Stated(()),
        cqt: Fact::Stated(Duration::from_secs(1)),
        ccrl: Fact::Stated(4),
        uniquifier: Fact::Stated(Uniquifier { ciu: 1, cirn: 5 }),
        subnqn: Fact::Stated(Nqn::new(SUBNQN).expect("a name")),
        events: Fact::Stated(EventMask::CCR),
        ana: Some(ana::Log { change_count: 1, groups: vec![group] }),
        identify,
    };
    let namespace = NamespaceFound {
        nsid: 1,
        geometry: Geometry { blocks: 1000, block_size: 4096, metadata: 0, extended: false },
        shared: true,
        reservations: false,
        read_only: false,
        anagrpid: 1,
    };
    let found = SubsystemFound { kato_ms: Some(5000), namespaces: vec![namespace], more_namespaces: false };
    let report = ProbeReport { facts: Box::new(facts), found: Found::Subsystem(found) };
    let spec = ControllerSpec::new("192.0.2.1", 4420, Nqn::new(SUBNQN).expect("a name"));
    let ways = Ways::Known(vec![("192.0.2.1".into(), 4420, 1), ("192.0.2.2".into(), 4420, 2)]);
    (report, spec, ways)
}

fn codes(report: &ProbeReport, spec: &ControllerSpec, ways: &Ways) -> Vec<(Severity, String)> {
    let report = examine(report, spec, "host", ways);
    report.findings.into_iter().map(|finding| (finding.severity, finding.code)).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let (report, spec, ways) = healthy();
    assert_eq!(codes(&report, &spec, &ways), []);
    let report = examine(&report, &spec, "host", &ways);
    assert!(report.ccr.supported);
    assert_eq!((report.cqt_ms, report.kato.effective_ms, report.kato.granularity_ms), (Some(1000), 5000, 1000));
    assert_eq!(report.ports.iter().map(|port| port.asked).collect::<Vec<_>>(), [true, false]);
    assert_eq!(report.namespaces[0].size_bytes, 4_096_000);
}

#[test]
fn stalls_add_up() {
    let (report, spec, ways) = healthy();
    let stalls = examine(&report, &spec, "host", &ways).stalls;
    // 3 x 5 s + 1 s, 10 % and 100 ms; 250 ms until nothing can leave; 5 s to notice.
    let by: Vec<(Failure, Option<u64>)> = stalls.iter().map(|stall| (stall.failure, stall.total_ms)).collect();
    assert_eq!(
        by,
        [
            (Failure::SignalledLoss, Some(17_950)),
            (Failure::SilentLoss, Some(22_950)),
            (Failure::SinglePath, Some(60_000)),
            (Failure::LastPath, Some(605_000)),
        ]
    );
    for stall in &stalls {
        assert!(!stall.assumed);
        let longest = stall.stages.iter().filter_map(|stage| stage.ms).max();
        assert!(longest <= stall.total_ms, "{stall:?}: no stage is longer than the whole");
    }
    let (mut report, spec, ways) = healthy();
    report.facts.kato = Fact::NotOffered;
    let stalls = examine(&report, &spec, "host", &ways).stalls;
    assert!(stalls.iter().all(|stall| stall.total_ms.is_none()), "without keep alive nothing bounds it");
}

#[test]
fn every_fault_has_its_finding() {
    type Change = fn(&mut ProbeReport, &mut ControllerSpec, &mut Ways);
    fn found(report: &mut ProbeReport) -> &mut SubsystemFound {
        match &mut report.found {
            Found::Subsystem(found) => found,
            Found::Discovery(_) => panic!("a subsystem"),
        }
    }
    fn without_ccr(report: &mut ProbeReport) {
        report.facts.ccrl = Fact::NotOffered;
        report.facts.uniquifier = Fact::NotOffered;
    }
    fn without_cqt(report: &mut ProbeReport) {
        report.facts.cqt = Fact::NotOffered;
    }
    let cases: [(&str, Severity, Change); 25] = [
        ("legacy-policy", Severity::Unsafe, |_, s, _| s.fence = FencePolicy::Legacy),
        ("no-ccr", Severity::Slow, |r, _, _| without_ccr(r)),
        ("no-fence", Severity::Unsafe, |r, _, _| {
            without_ccr(r);
            without_cqt(r);
        }),
        ("ccr-without-instance", Severity::Pointless, |r, _, _| r.facts.uniquifier = Fact::NotOffered),
        ("no-cqt", Severity::Note, |r, _, _| without_cqt(r)),
        ("no-keep-alive", Severity::Slow, |r, _, _| r.facts.kato = Fact::NotOffered),
        ("long-keep-alive", Severity::Slow, |r, _, _| r.facts.kato = Fact::Stated(Duration::from_secs(30))),
        ("keep-alive-changed", Severity::Note, |r, _, _| found(r).kato_ms = Some(10_000)),
        ("keep-alive-assumed", Severity::Note, |r, _, _| {
            r.facts.kato = Fact::Assumed(Duration::from_secs(5), Assumption::KeepAliveNotReported);
        }),
        ("given-up-before-fenced", Severity::Unsafe, |_, s, _| s.reconnect.ctrl_loss = Some(Duration::from_secs(5))),
        ("fast-io-fail-late", Severity::Pointless, |_, s, _| {
            let same = Duration::from_secs(600);
            s.reconnect = Reconnect { fast_io_fail: Some(same), ctrl_loss: Some(same), ..s.reconnect };
        }),
        ("fast-io-fail-before-fence", Severity::Note, |r, s, _| {
            without_ccr(r);
            s.reconnect.fast_io_fail = Some(Duration::from_secs(2));
        }),
        ("ports-not-known", Severity::Note, |_, _, w| *w = Ways::NotKnown("connection refused".into())),
        ("single-path", Severity::Slow, |_, _, w| *w = Ways::Known(vec![("192.0.2.1".into(), 4420, 1)])),
        ("one-controller", Severity::Pointless, |r, _, _| r.facts.identify.cmic = CMIC_ANA),
        ("ccr-limit", Severity::Note, |r, _, _| r.facts.ccrl = Fact::Stated(1)),
        ("no-namespace", Severity::Pointless, |r, _, _| found(r).namespaces.clear()),
        ("not-shared", Severity::Pointless, |r, _, _| found(r).namespaces[0].shared = false),
        ("ana-inaccessible", Severity::Slow, |r, _, _| {
            r.facts.ana.as_mut().expect("ANA").groups[0].state = ana::State::Inaccessible;
        }),
        ("reservations", Severity::Note, |r, _, _| found(r).namespaces[0].reservations = true),
        ("serial-not-stated", Severity::Note, |r, _, _| r.facts.identify.sn = text_field("")),
        ("serial-not-stated", Severity::Note, |r, _, _| r.facts.identify.mn = text_field(" ")),
        ("subsystem-not-named", Severity::Note, |r, _, _| {
            r.facts.subnqn = Fact::Assumed(Nqn::new(SUBNQN).expect("a name"), Assumption::SubsystemNotNamed);
        }),
        ("tbkas-assumed", Severity::Note, |r, _, _| {
            r.facts.tbkas = Fact::Assumed((), Assumption::PageNotShownWhole);
        }),
        ("volatile-cache", Severity::Note, |r, _, _| r.facts.identify.vwc = 0b111),
    ];
    for (code, severity, change) in cases {
        let (mut report, mut spec, mut ways) = healthy();
        change(&mut report, &mut spec, &mut ways);
        let found = codes(&report, &spec, &ways);
        assert!(found.contains(&(severity, code.into())), "{code}: {found:?}");
        assert!(found.is_sorted_by(|a, b| a.0 >= b.0), "the worst first: {found:?}");
    }
}

#[test]
fn times_are_printed_shortly() {
    let of = |ms| stalls::text(Duration::from_millis(ms));
    assert_eq!(
        (of(250), of(5000), of(1500), of(20_300)),
        ("250 ms".into(), "5 s".into(), "1.5 s".into(), "20.3 s".into())
    );
}

#[test]
fn a_full_list_of_namespaces_is_not_called_a_part_of_one() {
    let (mut report, spec, ways) = healthy();
    let full = |report: &mut ProbeReport, most: u32| {
        report.facts.identify.nn.set(most);
        let Found::Subsystem(found) = &mut report.found else { panic!("a subsystem was found") };
        let one = found.namespaces[0];
        found.namespaces = (1..=1024).map(|nsid| NamespaceFound { nsid, ..one }).collect();
        found.more_namespaces = true;
    };
    full(&mut report, 1024);
    assert_eq!(codes(&report, &spec, &ways), [], "the controller says that there are no more");
    full(&mut report, 1025);
    let findings = examine(&report, &spec, "host", &ways).findings;
    let more: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(more.len(), 1, "{more:?}");
    assert!(more[0].contains("1024 namespaces were looked at") && more[0].ends_with("there may be more"), "{more:?}");
}
