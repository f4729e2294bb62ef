//! Metrics as Prometheus takes them: its own tools check the page, the rules and a scrape.

use crate::child::interlock;
use crate::nbd::Client as Nbd;
use crate::scene::{Scene, say, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Kills its process at the end of a test.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// True if the program is installed; says so if it is not.
pub(crate) fn there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        say(&format!("SKIPPED: {program} is not installed"));
    }
    there
}

/// The body that `address` answers with.
pub(crate) fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\nAccept: {accept}\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// The address in `http://ADDRESS/metrics`.
fn address(line: &str) -> String {
    let (_, rest) = line.split_once("http://").expect("a URL");
    rest.split('/').next().expect("an address").to_owned()
}

pub(crate) fn packaged(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../packaging/prometheus").join(name)
}

/// A scene whose daemon serves metrics on a port; where.
pub(crate) fn with_port(name: &str) -> (Scene, String) {
    let mut scene = Scene::new(name, &[]);
    scene.stop(Signal::TERM);
    std::fs::write(scene.dir.join("interlock.toml"), "[daemon]\nmetrics = \"0\"\n").expect("a file");
    scene.start();
    let log = scene.daemon().log();
    let line = log.lines().find(|line| line.contains("metrics at ")).expect("it says where");
    let address = address(line);
    assert!(address.starts_with("127.0.0.1:"), "on loopback unless told otherwise: {address}");
    (scene, address)
}

#[test]
fn a_port_that_somebody_has_costs_the_metrics_until_it_is_free_and_no_disk() {
    let mut scene = Scene::new("taken", &[]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    scene.stop(Signal::TERM);
    let config = format!("[daemon]\nmetrics = \"{address}\"\nsysfs = \"/proc/no/such/place\"\n");
    std::fs::write(scene.dir.join("interlock.toml"), config).expect("a file");
    scene.start();
    scene.connect(0, &[]);
    scene.does(&["export", "nvme0n1"]);
    Nbd::open(&scene.nbd(), "nvme0n1").expect("the disk is there").write(0, &[1; 4096]).expect("written");
    let events = scene.does(&["events", "--since", "0", "-o", "json"]);
    for topic in ["metrics-not-served", "no-file-tree"] {
        assert!(events.contains(&format!("\"topic\":\"{topic}\"")), "{topic}: {events}");
    }
    drop(taken);
    wait_for("the port is free", || get(&address.to_string(), "/metrics"));
}

/// A real Prometheus with our rules that scrapes `port` every second, on a port that was free a moment ago; where.
pub(crate) fn prometheus(scene: &Scene, port: &str) -> (Running, String) {
    let web = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let config = scene.dir.join("prometheus.yml");
    let rules = packaged("interlock.rules.yml").canonicalize().expect("it is packaged");
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n- job_name: interlock\n  static_configs: [{{targets: ['{port}']}}]\n",
        rules.display()
    );
    std::fs::write(&config, text).expect("a file");
    let started = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", scene.dir.join("tsdb").display()))
        .arg(format!("--web.listen-address={web}"))
        .stderr(Stdio::null())
        .spawn()
        .expect("it was there");
    (Running(started), web)
}

/// The value of the series that begins so.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("{series} in {page}"));
    line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a number")
}

#[test]
fn the_rules_do_what_they_say() {
    if !there("promtool") {
        return;
    }
    for args in [["check", "rules", "interlock.rules.yml"], ["test", "rules", "interlock.rules.test.yml"]] {
        let output = Command::new("promtool").args(&args[..2]).arg(packaged(args[2])).output().expect("it was there");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn a_page_goes_on_whatever_is_set_back_and_prometheus_reads_it() {
    let (scene, port) = with_port("metrics");
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    let mut disk = Nbd::open(&scene.nbd(), "nvme0n1").expect("the export");
    for block in 0..32 {
        disk.write(block * 4096, &[1; 4096]).expect("written");
    }
    scene.tell(&["port", "close", "0"]);
    let attempts = "interlock_controller_reconnects_total{subsystem=\"nvme-subsys0\",controller=\"nvme0\"}";
    let page = wait_for("an attempt", || {
        let page = get(&port, "/metrics")?;
        (value(&page, attempts) >= 1.0).then_some(page)
    });
    assert!(page.ends_with("# EOF\n"), "OpenMetrics ends so");
    assert_eq!(value(&page, "interlock_subsystem_paths_live{subsystem=\"nvme-subsys0\"}"), 1.0);
    assert_eq!(value(&page, "interlock_subsystem_paths{subsystem=\"nvme-subsys0\"}"), 2.0);
    let state =
        "interlock_subsystem_path_state{subsystem=\"nvme-subsys0\",controller=\"nvme0\",transport=\"tcp\",state=";
    assert_eq!(value(&page, &format!("{state}\"connecting\"}}")), 1.0);
    assert_eq!(value(&page, &format!("{state}\"live\"}}")), 0.0);
    let writes =
        "interlock_namespace_io_duration_seconds_count{subsystem=\"nvme-subsys0\",namespace=\"nvme0n1\",op=\"write\"}";
    assert_eq!(value(&page, writes), 32.0);
    let all = "interlock_namespace_io_duration_seconds_bucket{le=\"+Inf\",subsystem=\"nvme-subsys0\",namespace=\"nvme0n1\",op=\"write\"}";
    assert_eq!(value(&page, all), 32.0);
    assert_eq!(value(&page, "interlock_unsafe_failovers_total"), 0.0);
    let text = scene.does(&["metrics", "-o", "text"]);
    assert!(text.contains("# TYPE interlock_unsafe_failovers_total counter\n") && !text.contains("# EOF"), "{text}");
    if there("promtool") {
        let file = scene.dir.join("page.prom");
        std::fs::write(&file, &text).expect("a file");
        let page = std::fs::File::open(&file).expect("a file");
        let output = Command::new("promtool").args(["check", "metrics"]).stdin(page).output().expect("it was there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Set back by an operator: what is shown begins anew, what is scraped does not.
    let request = interlock_api::SetCounter { device: "nvme0".into(), counter: None, value: 0 };
    let _: interlock_api::Done = scene.client().send("PATCH", "/v1/counters", &request).expect("done");
    let again = get(&port, "/metrics").expect("a page");
    assert!(value(&again, attempts) >= value(&page, attempts));
    assert_eq!(get(&port, "/v1/status"), None, "the port offers metrics and nothing else");
    if !there("prometheus") {
        return;
    }
    let (_prometheus, web) = prometheus(&scene, &port);
    let ask = |query: &str| {
        let answer: Value = serde_json::from_str(&get(&web, &format!("/api/v1/query?query={query}"))?).ok()?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse::<f64>().ok()
    };
    let live = wait_for("a scrape", || ask("interlock_subsystem_paths_live"));
    assert_eq!(live, 1.0);
    assert_eq!(ask("interlock_namespace_io_duration_seconds_count%7Bop=%22write%22%7D"), Some(32.0));
    assert_eq!(ask("up"), Some(1.0));
    wait_for("the rules see it", || ask("ALERTS%7Balertname=%22NVMeSubsystemDegraded%22%7D"));
}

#[test]
fn the_kernels_controllers_are_exported_without_a_daemon() {
    let root = std::env::temp_dir().join(format!("il-{}-metrics-sys", std::process::id()));
    let stat = "100 0 800 50 200 0 1600 400 0 450 450 0 0 0 0 0 0\n";
    for (file, text) in [
        ("class/nvme-subsystem/nvme-subsys0/subsysnqn", "nqn.2014-08.org.example:disk\n"),
        ("class/nvme-subsystem/nvme-subsys0/nvme0/state", "live\n"),
        ("class/nvme-subsystem/nvme-subsys0/nvme0n1/nsid", "1\n"),
        ("class/nvme-subsystem/nvme-subsys0/nvme0n1/stat", stat),
        ("class/nvme/nvme0/state", "live\n"),
        ("class/nvme/nvme0/transport", "fc\n"),
        ("class/nvme/nvme0/diag/reset_count", "0\n"),
        ("class/nvme/nvme0/nvme0c0n1/nsid", "1\n"),
        ("class/nvme/nvme0/nvme0c0n1/stat", stat),
    ] {
        let file = root.join("sys").join(file);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        std::fs::write(file, text).expect("a file");
    }
    let mut exporter = interlock(&["metrics", "--listen", "0", "--sysfs"]);
    let child = exporter.arg(&root).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut exporter = Running(child);
    let mut line = String::new();
    BufReader::new(exporter.0.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let port = address(&line);
    let resets = "interlock_controller_resets_total{subsystem=\"nvme-subsys0\",controller=\"nvme0\"}";
    let counter = root.join("sys/class/nvme/nvme0/diag/reset_count");
    for (shown, scraped) in [("3\n", 3.0), ("0\n", 3.0), ("2\n", 5.0), ("4\n", 7.0)] {
        std::fs::write(&counter, shown).expect("a file");
        let page = get(&port, "/metrics").expect("a page");
        assert_eq!(value(&page, resets), scraped, "after it showed {shown}");
        assert!(page.contains("interlock_io_duration_seconds_sum{"), "sums are known without a histogram");
        assert!(!page.contains("interlock_fences"), "the kernel has no fence to count");
    }
    let _ = std::fs::remove_dir_all(&root);
}
