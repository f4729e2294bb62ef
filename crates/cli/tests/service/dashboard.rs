//! The dashboard without a Grafana: what it asks is put to a real Prometheus, and every panel must have something to show.
//!
//! What only a Grafana can say, how it looks, stays open; that a panel is empty because it names what nobody exports, or
//! groups by a label that is not there, does not.

use crate::metrics::{get, packaged, prometheus, there, with_port};
use crate::nbd::Client as Nbd;
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

/// Columns of a dashboard.
const COLUMNS: u64 = 24;

/// What every Grafana puts in by itself.
const OF_GRAFANA: [&str; 2] = ["__all", "__rate_interval"];

/// A question of a panel.
struct Question {
    panel: String,
    expression: String,
    legend: String,
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(packaged("../grafana/interlock.json")).expect("it is packaged");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn questions(dashboard: &Value) -> Vec<Question> {
    let of = |panel: &Value| {
        let title = text(&panel["title"]);
        let ask = move |target: &Value| Question {
            panel: title.clone(),
            expression: text(&target["expr"]),
            legend: text(&target["legendFormat"]),
        };
        list(&panel["targets"]).iter().map(ask).collect::<Vec<_>>()
    };
    list(&dashboard["panels"]).iter().flat_map(of).collect()
}

/// The words in `text` that begin so: letters, digits and underscores.
fn words<'a>(text: &'a str, begin: &'a str) -> impl Iterator<Item = &'a str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !part(c)).filter(move |word| word.starts_with(begin))
}

/// The variables that `text` uses.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split('$').skip(1).map(move |rest| {
        let rest = rest.trim_start_matches('{');
        &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())]
    })
}

/// With every variable as it is when nothing has been chosen.
fn chosen(expression: &str) -> String {
    let all = ["instance", "subsystem", "controller"];
    let text = all.iter().fold(expression.to_owned(), |text, name| text.replace(&format!("${name}"), ".*"));
    text.replace("$__rate_interval", "1m")
}

#[test]
fn its_panels_have_places_and_know_their_variables() {
    let dashboard = dashboard();
    let mut known: BTreeSet<String> = OF_GRAFANA.map(str::to_owned).into();
    known.extend(list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"])));
    let used = dashboard.to_string();
    for name in variables(&used) {
        assert!(known.contains(name), "${name} is nowhere defined");
    }
    let (mut ids, mut places) = (BTreeSet::new(), Vec::new());
    for panel in list(&dashboard["panels"]) {
        let title = text(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}: its number is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= COLUMNS, "{title} is not on the page");
        for (other, (ox, oy, ow, oh)) in &places {
            let apart = x + w <= *ox || ox + ow <= x || y + h <= *oy || oy + oh <= y;
            assert!(apart, "{title} lies upon {other}");
        }
        let row = panel["type"] == "row";
        let ask = list(&panel["targets"]);
        assert_eq!(row, ask.is_empty(), "{title}");
        let letters: BTreeSet<String> = ask.iter().map(|target| text(&target["refId"])).collect();
        assert_eq!(letters.len(), ask.len(), "{title}: two questions have one letter");
        places.push((title, (x, y, w, h)));
    }
}

/// Loses the first path while it holds a write, and waits until it is back and everything is told.
fn loss(scene: &Scene, disk: &mut Nbd, handle: u64) {
    scene.tell(&["fault", "kind=hold-writes,port=0"]);
    disk.begin_write(handle, 0, &[7; 4096]).expect("a socket");
    wait_for("it is held", || (scene.status()["exports"][0]["in_flight"].as_u64()? >= 1).then_some(()));
    scene.tell(&["port", "close", "0"]);
    wait_for("the loss is noticed", || {
        let status = scene.status();
        let list = status["controllers"].as_array()?;
        list.iter().any(|ctrl| ctrl["name"] == "nvme0" && ctrl["state"] != "live").then_some(())
    });
    scene.tell(&["fault", "kind=clear"]);
    scene.tell(&["port", "open", "0"]);
    assert_eq!(disk.answer().expect("it moved to the other path"), (handle, true));
    scene.all_live(&["nvme0", "nvme1"]);
}

#[test]
fn every_panel_has_something_to_show() {
    if !there("prometheus") {
        return;
    }
    let (mut scene, port) = with_port("dashboard");
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    // The first path is chosen while it is there: what it holds is in doubt when it is lost.
    scene.tell(&["ana", "1", "non-optimized"]);
    scene.does(&["export", "nvme0n1"]);
    let mut disk = Nbd::open(&scene.nbd(), "nvme0n1").expect("the export");
    let (_prometheus, web) = prometheus(&scene, &port);
    let ask = |query: &str| -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", interlock_api::escaped(query));
        let Some(answer) = get(&web, &path) else { return Vec::new() };
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        list(&answer["data"]["result"]).to_vec()
    };
    let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
    // A rate needs two scrapes between which something happened: a series that begins with 1 has not grown. So there are two
    // losses, and the first is scraped before the second.
    loss(&scene, &mut disk, 1);
    wait_for("the first loss is scraped", || {
        let fences = ask("sum(interlock_fence_duration_seconds_count)");
        (value(fences.first()?)? >= 1.0).then_some(())
    });
    loss(&scene, &mut disk, 2);
    for block in 0..64 {
        disk.write(block * 4096, &[1; 4096]).expect("written");
        disk.read(block * 4096, 4096).expect("read");
    }
    let page = get(&port, "/metrics").expect("a page");
    let exported: BTreeSet<&str> =
        page.lines().filter_map(|line| line.split(['{', ' ']).next()).filter(|name| !name.is_empty()).collect();
    let dashboard = dashboard();
    let questions = questions(&dashboard);
    assert!(questions.len() > 10);
    for Question { panel, expression, legend } in &questions {
        for name in words(expression, "interlock_") {
            assert!(exported.contains(name), "{panel}: {name} is not exported");
        }
        let query = chosen(expression);
        // Not a number is what a quantile of nothing is.
        let shown = wait_for(panel, || {
            let shown: Vec<Value> =
                ask(&query).into_iter().filter(|series| value(series).is_some_and(|value| !value.is_nan())).collect();
            (!shown.is_empty()).then_some(shown)
        });
        for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
            assert!(shown[0]["metric"][label].is_string(), "{panel}: no label {label} in {}", shown[0]);
        }
    }
    for variable in list(&dashboard["templating"]["list"]) {
        let Some(rest) = text(&variable["definition"]).strip_prefix("label_values(").map(str::to_owned) else {
            continue;
        };
        let (series, label) = rest.trim_end_matches(')').rsplit_once(", ").expect("series and label");
        let values = ask(&format!("count by ({label}) ({})", chosen(series)));
        assert!(!values.is_empty(), "nothing to choose for {}", text(&variable["name"]));
        assert!(values.iter().all(|value| value["metric"][label].is_string()), "{values:?} have no {label}");
    }
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
}
