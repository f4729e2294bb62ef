//! `discover` and `doctor` against a running target.

use crate::child::{NQN, Target, fail, interlock, run, succeed};
use interlock_api::{AnaState, DoctorReport, Failure, Severity};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Stdio;

#[test]
fn discover_prints_the_log_as_nvme_cli_does() {
    let target = Target::usual(&[]);
    let said = succeed(&["discover", "-t", "tcp", "-a", "127.0.0.1", "-s", &target.discovery()]);
    let mut lines = said.lines();
    let first = lines.next().expect("a line");
    assert!(first.starts_with("Discovery Log Number of Records 3, Generation counter "), "{first}");
    let (own, one, two) = (target.discovery(), target.port(0), target.port(1));
    let discovery = "nqn.2014-08.org.nvmexpress.discovery";
    let expected = [
        ("current discovery subsystem", "2", own.as_str(), discovery, "explicit discovery connections"),
        ("nvme subsystem", "0", one.as_str(), NQN, "none"),
        ("nvme subsystem", "1", two.as_str(), NQN, "none"),
    ];
    let rest: Vec<&str> = lines.collect();
    for (index, (subtype, portid, trsvcid, subnqn, eflags)) in expected.into_iter().enumerate() {
        let block = [
            format!("=====Discovery Log Entry {index}======"),
            "trtype:  tcp".into(),
            "adrfam:  ipv4".into(),
            format!("subtype: {subtype}"),
            "treq:    not required, sq flow control disable supported".into(),
            format!("portid:  {portid}"),
            format!("trsvcid: {trsvcid}"),
            format!("subnqn:  {subnqn}"),
            "traddr:  127.0.0.1".into(),
            format!("eflags:  {eflags}"),
            "sectype: none".into(),
        ];
        assert_eq!(rest[index * block.len()..][..block.len()], block, "{said}");
    }
}

#[test]
fn discover_says_the_same_as_json_and_on_every_port() {
    let target = Target::usual(&[]);
    for port in [target.discovery(), target.port(0), target.port(1)] {
        let said = succeed(&["discover", "-a", "127.0.0.1", "-s", &port, "-o", "json"]);
        let log: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(log["format_version"], 1);
        let records = log["records"].as_array().expect("records");
        let ports: Vec<&Value> =
            records.iter().filter(|record| record["subnqn"] == NQN).map(|record| &record["trsvcid"]).collect();
        assert_eq!(ports, [&Value::from(target.port(0)), &Value::from(target.port(1))]);
        assert_eq!(records[0]["subtype"], "current discovery subsystem");
        assert_eq!(records[0]["trsvcid"], port, "the record of the service that was asked comes first");
    }
}

#[test]
fn doctor_reports_what_the_target_was_told_to_offer() {
    let target = Target::usual(&["--cqt", "700", "--quiesce", "100"]);
    let port = target.port(0);
    let asked = ["doctor", "-t", "tcp", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
    let report: DoctorReport = serde_json::from_str(&succeed(&[&asked[..], &["-o", "json"]].concat())).expect("JSON");
    assert!(report.ccr.supported && report.ccr.ccrl == 4 && report.ccr.ciu != 0 && report.ccr.cirn.0 != 0);
    assert_eq!(report.cqt_ms, Some(700));
    assert_eq!((report.kato.requested_ms, report.kato.effective_ms), (5000, 5000));
    assert!(report.tbkas && report.ana.supported);
    assert_eq!(report.ana.groups[0].state, AnaState::Optimized);
    assert_eq!(report.ports.len(), 2);
    assert_eq!((report.namespaces[0].size_bytes, report.namespaces[0].block_bytes), (8 << 20, 4096));
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Note), "{:?}", report.findings);
    let signalled = report.stalls.iter().find(|stall| stall.failure == Failure::SignalledLoss).expect("a stall");
    // 3 x 5 s + 700 ms, 10 % and 100 ms, after the 250 ms of grace.
    assert_eq!((signalled.total_ms, signalled.assumed), (Some(17_620), false));

    let text = succeed(&asked);
    for line in ["CQT        700 ms", "KATO       5 s asked for, 5 s in force; granularity 1 s"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains(&format!("Ports      127.0.0.1:{port} (asked), 127.0.0.1:{}", target.port(1))), "{text}");
    assert!(text.contains("a path is closed or reset, another is there: at most 17.62 s"), "{text}");

    // Nothing is left behind: the controller was shut down, not lost.
    let (status, log) = target.stop(Signal::INT);
    assert!(status.success());
    assert_eq!(log.matches(" began").count(), 2, "one life for each look: {log}");
    assert_eq!(log.matches(" lost: Reset").count(), 2, "{log}");
}

#[test]
fn doctor_fails_where_nothing_fences() {
    let target = Target::usual(&["--no-ccr", "--cqt", "0"]);
    let port = target.port(1);
    let output = run(&["doctor", "-a", "127.0.0.1", "-s", &port, "-n", NQN, "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: DoctorReport = serde_json::from_slice(&output.stdout).expect("the report comes all the same");
    assert!(!report.ccr.supported);
    assert_eq!(report.findings[0].code, "no-fence", "the worst first");
    assert!(report.stalls.iter().all(|stall| stall.assumed));
}

#[test]
fn doctor_judges_the_settings_too() {
    let target = Target::usual(&["--no-ccr"]);
    let port = target.port(0);
    let asked = ["doctor", "-a", "127.0.0.1", "-s", &port, "-n", NQN, "-o", "json"];
    let codes = |more: &[&str]| -> Vec<String> {
        let output = run(&[&asked[..], more].concat());
        let report: DoctorReport = serde_json::from_slice(&output.stdout).expect("JSON");
        report.findings.into_iter().map(|finding| finding.code).collect()
    };
    assert!(codes(&["-l", "3"]).contains(&"given-up-before-fenced".into()));
    assert!(codes(&["-k", "0"]).contains(&"no-keep-alive".into()));
    assert!(codes(&["-l", "-1"]).contains(&"no-ccr".into()));
    assert!(fail(&["doctor", "-a", "127.0.0.1", "-n", NQN, "-k", "999"]).contains("keep_alive_tmo must be 1 to 60 s"));
}

#[test]
fn digests_are_used_if_asked_for() {
    let target = Target::usual(&[]);
    succeed(&["doctor", "-a", "127.0.0.1", "-s", &target.port(0), "-n", NQN, "-g", "-G"]);
    let plain = Target::usual(&["--no-digests"]);
    let said = fail(&["doctor", "-a", "127.0.0.1", "-s", &plain.port(0), "-n", NQN, "-g"]);
    assert!(said.contains("the connection cannot be initialised: the controller declined the header digest"), "{said}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let target = Target::usual(&[]);
    let mut child = interlock(&["discover", "-a", "127.0.0.1", "-s", &target.discovery()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
