//! Every format against its golden file.
//!
//! A change of shape that nobody decided on fails here. `INTERLOCK_BLESS=1 cargo test -p interlock-api` writes the
//! files anew; the difference then stands in the commit, beside a new format version unless it only adds.

#![allow(clippy::unwrap_used, reason = "a test may say so")]

use interlock_api::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::path::PathBuf;

fn golden(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("INTERLOCK_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is written is the golden file, and what is read from it is what was written.
#[track_caller]
fn keeps_its_shape<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, data: &T) {
    let text = to_pretty(data).unwrap() + "\n";
    let kept = golden(name, &text);
    assert_eq!(text, kept, "{name} has another shape");
    assert_eq!(&serde_json::from_str::<T>(&kept).unwrap(), data, "{name} is read differently");
}

const NQN: &str = "nqn.2026-01.org.example:drill";

fn life(cntlid: u16) -> Life {
    Life { cntlid, ciu: 0x5a, cirn: Hex64(0x1122_3344_5566_7788) }
}

fn source() -> Source {
    Source { controller: "nvme1".into(), life: life(2), path: PathAddress::tcp("127.0.0.1", 4421) }
}

fn suspect() -> SuspectCommand {
    SuspectCommand { command: "Write Zeroes".into(), first_lba: 2048, blocks: 8, instances_lost: 4 }
}

fn receipt() -> Receipt {
    Receipt {
        format_version: Version,
        subsystem: NQN.into(),
        controller: "nvme0".into(),
        life: life(1),
        path: PathAddress::tcp("127.0.0.1", 4420),
        method: Method::Immediate,
        source: Some(source()),
        detected: Detected { how: DetectedHow::ConnectionReset, at_ms: 1200 },
        in_doubt: 16,
        answered_late: 2,
        settled: 5,
        held_ms: 3,
        t0_ms: Some(1201),
        deadline_ms: Some(17_201),
        fenced_ms: 1203,
        unix_ms: Some(1_790_000_000_000),
        kato_ms: 5000,
        cqt_ms: Some(1000),
        assumed_cqt_ms: None,
        assumed_kato_ms: None,
        clock_slew_permille: 100,
        suspect: None,
        notes: vec!["first proof came through nvme1".into()],
    }
}

fn assumed_receipt() -> Receipt {
    Receipt {
        method: Method::Assumed,
        source: None,
        unix_ms: None,
        cqt_ms: None,
        assumed_cqt_ms: Some(5000),
        assumed_kato_ms: None,
        clock_slew_permille: 100,
        suspect: Some(suspect()),
        notes: Vec::new(),
        ..receipt()
    }
}

#[test]
fn receipts() {
    keeps_its_shape("receipt.json", &receipt());
    keeps_its_shape("receipt-assumed.json", &assumed_receipt());
}

#[test]
fn counters() {
    let fences = FenceCounters {
        attempts: 9,
        by_method: BTreeMap::from([(Method::Immediate, 7), (Method::AcceptedRisk, 1)]),
        hold_time_total_ms: 1000,
        ..FenceCounters::default()
    };
    let times = Histogram(vec![(Some(96), 3), (None, 1)]);
    let io =
        IoCounters { reads: 4, read_bytes: 16384, read_us: 250, read_times: times.clone(), ..IoCounters::default() };
    let counters = Counters {
        format_version: Version,
        at_us: 123_456,
        since_unix_ms: 1_800_000_000_000,
        controllers: BTreeMap::from([(
            "nvme0".into(),
            ControllerCounters {
                command_error_count: 1,
                reset_count: 2,
                reconnect_count: u64::MAX,
                ccr_by_status: BTreeMap::from([("0x000".into(), 1)]),
                fences: fences.clone(),
                ..ControllerCounters::default()
            },
        )]),
        paths: BTreeMap::from([(
            "nvme0c0n1".into(),
            PathCounters {
                namespace: "nvme0n1".into(),
                controller: "nvme0".into(),
                ana_state: Some(AnaState::NonOptimized),
                command_retries_count: 4,
                command_error_count: 5,
                multipath_failover_count: 6,
                unsafe_failovers: 0,
                io: io.clone(),
            },
        )]),
        heads: BTreeMap::from([(
            "nvme0n1".into(),
            HeadCounters { io_requeue_no_usable_path_count: 7, io_fail_no_available_path_count: 8, io },
        )]),
        subsystems: BTreeMap::from([(
            "nvme-subsys0".into(),
            SubsystemCounters { nqn: "nqn.2014-08.org.example:disk".into(), ..SubsystemCounters::default() },
        )]),
        host: HostCounters {
            fences,
            fence_durations: BTreeMap::from([(Method::Immediate, Durations { sum_us: 280, times })]),
            ..HostCounters::default()
        },
    };
    keeps_its_shape("counters.json", &counters);
}

fn scenario() -> ScenarioResult {
    ScenarioResult {
        name: "reset".into(),
        verdict: Verdict::Safe,
        assumed_ms: None,
        reasons: Vec::new(),
        reason_kinds: Vec::new(),
        detection: Some(LossDetection { how: DetectedHow::ConnectionReset, ms: 0.25 }),
        writes_in_doubt: 16,
        ccr: None,
        fast_io_fail: None,
        fence: Some(FenceSummary { method: Method::Immediate, source: Some("nvme1".into()), held_ms: 3 }),
        stall: StallTimes { longest_ms: 4.5, p99_ms: 1.75 },
        reconnect_attempts: 1,
        ghosts: GhostCounts { armed: 16, stopped: 16, executed: 0 },
        stale: Vec::new(),
        violations: Vec::new(),
        notes: vec!["path A was reset".into()],
        receipts: vec![receipt()],
        reach: None,
        recording: None,
    }
}

#[test]
fn drill_report() {
    let caught = ScenarioResult {
        name: "silent".into(),
        verdict: Verdict::Unsafe,
        fence: Some(FenceSummary { method: Method::Legacy, source: None, held_ms: 0 }),
        ghosts: GhostCounts { armed: 16, stopped: 0, executed: 16 },
        stale: vec![StaleBlock {
            lba: 1234,
            found: Some(WriteRef { op: 12, generation: 2 }),
            overwritten: WriteRef { op: 17, generation: 3 },
            text: "LBA 1234: write #17 (generation 3), answered, was overwritten by the older write #12 (generation 2)"
                .into(),
        }],
        receipts: Vec::new(),
        ..scenario()
    };
    let empty = ScenarioResult {
        name: "neither".into(),
        verdict: Verdict::Inconclusive,
        reasons: vec!["the target held no write when the fence began".into()],
        reason_kinds: vec![ReasonKind::NothingHeld],
        detection: None,
        fence: None,
        notes: Vec::new(),
        receipts: Vec::new(),
        ..scenario()
    };
    let assumed =
        ScenarioResult { verdict: Verdict::SafeIf, assumed_ms: Some(5000), receipts: Vec::new(), ..scenario() };
    let report = DrillReport {
        version: None,
        unix_ms: None,
        format_version: Version,
        seed: 7,
        target: None,
        scenarios: vec![scenario(), caught, empty, assumed],
        verdict: Verdict::Unsafe,
        exit_code: 1,
    };
    keeps_its_shape("drill.json", &report);
    let reach = Reach {
        exercised: vec!["bytes delayed in the network".into()],
        not_exercised: vec!["commands delayed inside the target".into()],
    };
    let target = ForeignTarget {
        subsystem: NQN.into(),
        nsid: 1,
        blocks: 131_072,
        block_size: 512,
        paths: vec![PathAddress::tcp("192.0.2.1", 4420), PathAddress::tcp("192.0.2.2", 4420)],
        identify: None,
    };
    let foreign = ScenarioResult { name: "foreign-reset".into(), reach: Some(reach), ..scenario() };
    let report =
        DrillReport { target: Some(target), scenarios: vec![foreign], verdict: Verdict::Safe, exit_code: 0, ..report };
    keeps_its_shape("drill-foreign.json", &report);
}

#[test]
fn doctor_report() {
    let report = DoctorReport {
        format_version: Version,
        subsystem: SubsystemFacts {
            nqn: NQN.into(),
            serial: "INTERLOCK0001".into(),
            model: "Interlock target".into(),
            firmware: "0.1.0".into(),
            version: "2.1.0".into(),
            cntlid: 1,
        },
        hostnqn: "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001".into(),
        ports: vec![
            PortFacts { portid: Some(1), path: PathAddress::tcp("192.0.2.1", 4420), asked: true },
            PortFacts { portid: None, path: PathAddress::tcp("fe80::1%eth0", 4420), asked: false },
        ],
        ccr: CcrFacts { supported: true, ccrl: 4, ciu: 0x5a, cirn: Hex64(u64::MAX) },
        cqt_ms: None,
        kato: KatoFacts { requested_ms: 5000, effective_ms: 5000, granularity_ms: 100 },
        tbkas: true,
        ana: AnaFacts {
            supported: true,
            anatt_s: Some(10),
            groups: vec![AnaGroup { id: 1, state: AnaState::NonOptimized, nsids: vec![1] }],
        },
        vwc: true,
        namespaces: vec![NamespaceFacts {
            nsid: 1,
            size_bytes: 1 << 30,
            block_bytes: 4096,
            shared: true,
            reservations: true,
            anagrpid: Some(1),
        }],
        stalls: vec![Stall {
            failure: Failure::SilentLoss,
            stages: vec![
                Stage { name: "detect".into(), ms: Some(7500), because: "KATO and one keep alive period".into() },
                Stage { name: "fence".into(), ms: Some(10), because: "CCR through another controller".into() },
            ],
            total_ms: Some(7510),
            assumed: false,
        }],
        findings: vec![Finding {
            severity: Severity::Unsafe,
            code: "policy-legacy".into(),
            text: "writes are retried without a fence".into(),
            change: Some("set the fence policy to strict".into()),
        }],
        live: Some(LiveFacts {
            pid: 4711,
            controllers: vec![LiveController {
                name: "nvme0".into(),
                path: PathAddress::tcp("192.0.2.1", 4420),
                state: ControllerState::Live,
                for_ms: 1_500,
            }],
            unfenced: vec!["life3".into()],
            unsafe_failovers: 0,
        }),
    };
    keeps_its_shape("doctor.json", &report);
}

/// One event of every kind, and of every answer. The match has no wildcard, so that a new kind must come here.
fn predicted() -> Predicted {
    Predicted {
        detect_ms: Some(5000),
        stop_ms: 250,
        hold_ms: Some(20_300),
        assumed: true,
        reconnect_ms: 60_000,
        settled_fails_ms: Some(600_000),
    }
}

fn kinds() -> Vec<What> {
    let (source, namespace) = (String::from("nvme1"), String::from("nvme0n1"));
    let path = PathAddress::tcp("127.0.0.1", 4420);
    let status = StatusCode { code: 0x140, dnr: true, text: "Cross-Controller Reset Log Page Full".into() };
    let (live, resetting) = (ControllerState::Live, ControllerState::Resetting);
    let mut all = vec![
        What::Started { version: "0.1.0".into(), pid: 4711 },
        What::ControllerState { from: live, to: resetting, reason: "connection reset by peer".into() },
        What::TransitionRefused { from: ControllerState::Deleting, to: live },
        What::Connected {
            identity: life(1),
            path,
            io_queues: 2,
            kato_ms: 5000,
            cqt_ms: None,
            ccr: false,
            fence: FencePolicy::Strict,
            predicted: predicted(),
        },
        What::Lost { how: DetectedHow::KeepAlive, reason: "no answer to Keep Alive".into() },
        What::Slow { oldest_ms: 31_000 },
        What::NoLongerSlow,
        What::Condemned { in_doubt: 16, settled: 5, oldest_ms: Some(31) },
        What::LaneSilent { lanes: 1 },
        What::CcrSent { source: source.clone() },
        What::CcrStaleEntry { source: source.clone() },
        What::HoldStarted { t0_ns: 17_000_000_001, hold_ms: Some(20_300), assumed: true },
        What::SuspectCommand { namespace: "nvme0n1".into(), suspect: suspect(), stage: SuspectStage::Alone },
        What::LateCompletion { decision: LateDecision::Answered },
        What::Fenced { receipt: Box::new(receipt()) },
        What::NothingInDoubt { answered_late: 0 },
        What::Released { commands: 15 },
        What::TombstoneLeft { in_doubt: 3, left_ms: None },
        What::TombstoneEnded { method: Method::Immediate },
        What::PredecessorFound { identity: life(1) },
        What::PredecessorLingers,
        What::OwnerUnconfirmed,
        What::Disowned { reason: "another process holds the identity".into() },
        What::ReconnectWanted { lost_for_ms: 10_000 },
        What::ReconnectAttempt { attempt: 1, max_attempts: Some(60) },
        What::ReconnectFailed {
            attempt: 1,
            kind: Some(ConnectFailure::Unreachable),
            error: "connection refused".into(),
            next_ms: Some(10_000),
        },
        What::Reconnected { attempt: 2, max_attempts: None, after_ms: 10_004 },
        What::FirstGood,
        What::FastIoFail,
        What::GivenUp { reason: "ctrl_loss_tmo has passed".into() },
        What::SettingChanged { setting: "ctrl_loss_tmo = 600 s".into() },
        What::CounterReset { device: "nvme0".into(), counter: "reconnect_count".into(), from: 17, to: 0 },
        What::AnaChange { namespace: namespace.clone(), to: AnaState::PersistentLoss },
        What::NamespaceAdded { namespace: namespace.clone(), nsid: 1, size_bytes: 8 << 20 },
        What::NamespaceRemoved { namespace: namespace.clone() },
        What::NamespaceResized { namespace, from_bytes: 8 << 20, to_bytes: 16 << 20 },
        What::PathRefused { nsid: 1, reason: "block size 512 instead of 4096".into() },
        What::ReservationConflict {
            namespace: "nvme0n1".into(),
            status: StatusCode { code: 0x83, dnr: true, text: "Reservation Conflict (83h, do not retry)".into() },
            commands: 37,
        },
        What::Hook { hook: "reconnect".into(), cause: 12, exit_code: Some(0) },
        What::Note { topic: "reloaded".into() },
        What::ShutDown,
    ];
    let answered = |answer, status| What::CcrAnswered { source: source.clone(), answer, status };
    all.extend([
        answered(CcrAnswer::Immediate, None),
        answered(CcrAnswer::Accepted, None),
        answered(CcrAnswer::Refused, Some(status)),
    ]);
    all
}

#[test]
fn events() {
    let kinds = kinds();
    let names: HashSet<std::mem::Discriminant<What>> = kinds.iter().map(std::mem::discriminant).collect();
    assert_eq!(names.len(), 42, "one of every kind");
    let events: Vec<Event> = (1..)
        .zip(kinds)
        .map(|(seq, what)| Event {
            format_version: Version,
            seq,
            at_ns: 1_000_000_007 * seq,
            unix_ms: 1_790_000_000_000 + 1000 * seq,
            level: Level::Info,
            subsystem: Some(NQN.into()),
            controller: (seq > 1).then(|| "nvme0".into()),
            life: (seq > 1).then(|| "life3".into()),
            what,
            text: "in words".into(),
        })
        .collect();
    let text: String = events.iter().map(|event| to_line(event).unwrap() + "\n").collect();
    let kept = golden("events.jsonl", &text);
    assert_eq!(text, kept, "events have another shape");
    let read: Vec<Event> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, events, "events are read differently");
    for (event, line) in events.iter().zip(kept.lines()) {
        assert!(line.contains(&format!(r#""event":"{}""#, event.what.name())), "{line}");
    }
}

#[test]
fn an_event_of_a_later_program_is_read_with_its_words() {
    let line = to_line(&Event {
        format_version: Version,
        seq: 9,
        at_ns: 1,
        unix_ms: 2,
        level: Level::Warn,
        subsystem: None,
        controller: None,
        life: None,
        what: What::NoLongerSlow,
        text: "nvme0: no longer slow".into(),
    })
    .unwrap();
    let later = line.replace("\"no_longer_slow\"", "\"quantum_fence\",\"qubits\":3");
    let read: Event = serde_json::from_str(&later).unwrap();
    assert_eq!((read.what, read.text.as_str()), (What::Unknown, "nvme0: no longer slow"));
}

#[test]
fn every_value_keeps_its_word() {
    fn words<T: Serialize>(values: &[T]) -> String {
        to_line(&values).unwrap()
    }
    use ControllerState::*;
    let states = words(&[New, Live, Resetting, Connecting, Waiting, Deleting, Dead]);
    assert_eq!(states, r#"["new","live","resetting","connecting","waiting","deleting","dead"]"#);
    use Method::*;
    let methods = words(&[Immediate, Log, DrainedDisable, Time, Assumed, Legacy]);
    assert_eq!(methods, r#"["immediate","log","drained-disable","time","assumed","legacy"]"#);
    use AnaState::*;
    let ana = words(&[Optimized, NonOptimized, Inaccessible, PersistentLoss, Change]);
    assert_eq!(ana, r#"["optimized","non-optimized","inaccessible","persistent-loss","change"]"#);
    let how = words(&[
        DetectedHow::ConnectionReset,
        DetectedHow::ConnectionClosed,
        DetectedHow::TransportError,
        DetectedHow::KeepAlive,
        DetectedHow::CommandTimeout,
        DetectedHow::TermRequest,
        DetectedHow::ProtocolError,
        DetectedHow::AnaTransition,
        DetectedHow::Operator,
    ]);
    assert_eq!(
        how,
        r#"["connection-reset","connection-closed","transport-error","keep-alive","command-timeout","term-request","protocol-error","ana-transition","operator"]"#
    );
    let verdicts = words(&[Verdict::Safe, Verdict::SafeIf, Verdict::Inconclusive, Verdict::Unsafe]);
    assert_eq!(verdicts, r#"["safe","safe-if","inconclusive","unsafe"]"#);
    let severities = words(&[Severity::Note, Severity::Pointless, Severity::Slow, Severity::Unsafe]);
    assert_eq!(severities, r#"["note","pointless","slow","unsafe"]"#);
    let failures = words(&[Failure::SignalledLoss, Failure::SilentLoss, Failure::SinglePath, Failure::LastPath]);
    assert_eq!(failures, r#"["signalled-loss","silent-loss","single-path","last-path"]"#);
    assert_eq!(words(&[Level::Info, Level::Warn, Level::Error]), r#"["info","warn","error"]"#);
    let answers = words(&[CcrAnswer::Immediate, CcrAnswer::Accepted, CcrAnswer::Refused]);
    assert_eq!(answers, r#"["immediate","accepted","refused"]"#);
    assert_eq!(words(&[LateDecision::Answered, LateDecision::Dropped]), r#"["answered","dropped"]"#);
}

#[test]
fn another_version_is_refused_and_unknown_fields_are_not() {
    let text = to_line(&receipt()).unwrap();
    let newer = text.replacen(r#""format_version":1"#, r#""format_version":2"#, 1);
    let error = serde_json::from_str::<Receipt>(&newer).unwrap_err().to_string();
    assert!(error.contains("format version 2, which is newer than this program reads (1)"), "{error}");
    let older = text.replacen(r#""format_version":1"#, r#""format_version":0"#, 1);
    let error = serde_json::from_str::<Receipt>(&older).unwrap_err().to_string();
    assert!(error.contains("which is older"), "{error}");
    let more = text.replacen('{', r#"{"added_later":true,"#, 1);
    assert_eq!(serde_json::from_str::<Receipt>(&more).unwrap(), receipt());
}

#[test]
fn every_field_is_present_even_if_empty() {
    let value: serde_json::Value = serde_json::to_value(assumed_receipt()).unwrap();
    let full: serde_json::Value = serde_json::to_value(receipt()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&value), keys(&full));
    assert!(value["source"].is_null() && value["notes"].as_array().unwrap().is_empty());
}

#[test]
fn identifiers_are_read_strictly() {
    assert_eq!(serde_json::from_str::<Hex64>(r#""0x1122334455667788""#).unwrap(), Hex64(0x1122_3344_5566_7788));
    for bad in [r#""1122334455667788""#, r#""0x11""#, r#""0x+122334455667788""#, r#""0x11223344556677889""#, "17"] {
        assert!(serde_json::from_str::<Hex64>(bad).is_err(), "{bad}");
    }
}

#[test]
fn addresses_read_as_one_would_type_them() {
    assert_eq!(PathAddress::tcp("192.0.2.1", 4420).to_string(), "192.0.2.1:4420");
    assert_eq!(PathAddress::tcp("fe80::1%eth0", 4420).to_string(), "[fe80::1%eth0]:4420");
}
