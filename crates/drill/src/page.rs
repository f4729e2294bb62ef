//! A drill on one page: a picture of each failover, its story, its receipt. The page needs nothing but itself.
//!
//! What the eye should see first is the order of things: the path goes silent, writes are held, the fence is proven, they
//! move on. So each path has a line of its own over one axis of time, with the moments marked; below it the stages have an
//! axis that fits them, because a fence of four milliseconds is a hair on the axis of the load.

mod chart;
mod text;

use interlock_api::{DrillReport, ScenarioResult, Story};
use interlock_observe::story::{failovers, story};
use std::fmt::Write;
use text::{escaped, ms};

/// The whole page as HTML.
#[must_use]
pub fn page(report: &DrillReport) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<title>Interlock drill</title>\n<style>\n");
    html.push_str(include_str!("page/page.css"));
    html.push_str("</style>\n</head>\n<body>\n<main>\n");
    head(&mut html, report);
    for scenario in &report.scenarios {
        section(&mut html, scenario);
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// What was drilled, and how it came out at a glance.
fn head(html: &mut String, report: &DrillReport) {
    let target = report.target.as_ref().map_or_else(
        || "the embedded target, over TCP".to_owned(),
        |target| format!("{}, namespace {}", target.subsystem, target.nsid),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        html,
        "<header><h1>Interlock drill</h1><p class=\"sub\">{} against {} · seed {}</p><ul class=\"verdicts\">",
        match report.scenarios.len() {
            1 => "1 scenario".to_owned(),
            count => format!("{count} scenarios"),
        },
        escaped(&target),
        report.seed
    );
    for scenario in &report.scenarios {
        let name = escaped(&scenario.name);
        let _ = writeln!(
            html,
            "<li><a href=\"#{name}\"><span class=\"badge {}\">{}</span> {name}</a></li>",
            text::class(scenario.verdict),
            text::verdict(scenario.verdict)
        );
    }
    html.push_str("</ul>\n");
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(version) = &report.version {
        rows.push(("made by", format!("interlock {version}")));
    }
    if let Some(unix_ms) = report.unix_ms {
        rows.push(("made at", text::date(unix_ms)));
    }
    if let Some(target) = &report.target {
        let paths: Vec<String> = target.paths.iter().map(ToString::to_string).collect();
        rows.push(("paths", paths.join(", ")));
        if let Some(identify) = &target.identify {
            rows.push((
                "target",
                format!("{}, firmware {}, serial {}", identify.model, identify.firmware, identify.serial),
            ));
            rows.push(("NVMe version", identify.version.clone()));
            let or = |value: Option<String>, none: &str| value.unwrap_or_else(|| none.into());
            rows.push((
                "CCRL",
                or(identify.ccrl.map(|limit| limit.to_string()), "0: Cross-Controller Reset is not offered"),
            ));
            rows.push(("CQT", or(identify.cqt_ms.map(|time| format!("{time} ms")), "not stated")));
            rows.push(("Keep Alive Timeout", or(identify.kato_ms.map(|time| format!("{time} ms")), "none")));
        }
    }
    html.push_str("<table class=\"facts\">\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    html.push_str("</table></header>\n");
}

fn section(html: &mut String, scenario: &ScenarioResult) {
    let name = escaped(&scenario.name);
    let _ = writeln!(
        html,
        "<section id=\"{name}\">\n<h2>{name} <span class=\"badge {}\">{}</span></h2>",
        text::class(scenario.verdict),
        escaped(&text::sentence(scenario))
    );
    for reason in scenario.reasons.iter().chain(scenario.stale.iter().map(|block| &block.text).take(3)) {
        let _ = writeln!(html, "<p class=\"bad\">{}</p>", escaped(reason));
    }
    let ccr = scenario.ccr.as_ref().map(crate::ccr_in_words);
    let reach = scenario.reach.iter().flat_map(|reach| {
        let shown = reach.exercised.iter().map(|what| format!("{what}: exercised"));
        shown.chain(reach.not_exercised.iter().map(|what| format!("{what}: not exercised")))
    });
    let fast = scenario.fast_io_fail.as_ref().map(crate::fast_io_fail_in_words);
    for line in ccr.into_iter().chain(fast).chain(reach).chain(scenario.violations.iter().take(3).cloned()) {
        let _ = writeln!(html, "<p class=\"sub\">{}</p>", escaped(&line));
    }
    let Some(recording) = &scenario.recording else {
        html.push_str("<p class=\"sub\">This scenario was not recorded.</p></section>\n");
        return;
    };
    let broke = |id: &u64| recording.events.iter().any(|event| event.seq == *id && event.at_ns >= recording.broken_ns);
    let stories: Vec<Story> = failovers(&recording.events)
        .iter()
        .filter(|id| broke(id))
        .filter_map(|id| story(&recording.events, *id))
        .collect();
    figures(html, scenario);
    html.push_str("<figure>\n");
    html.push_str(&chart::throughput(recording, &stories));
    html.push_str("<figcaption>Operations per second through each path; what the host does to the lost one is marked.</figcaption></figure>\n");
    for story in &stories {
        tell(html, story);
    }
    html.push_str("</section>\n");
}

/// The few numbers that people compare.
fn figures(html: &mut String, scenario: &ScenarioResult) {
    html.push_str("<dl class=\"figures\">\n");
    let mut figure = |name: &str, value: String| {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    };
    figure("noticed after", scenario.detection.map_or_else(|| "-".into(), |found| ms(found.ms)));
    figure("writes in doubt", scenario.writes_in_doubt.to_string());
    figure("held", scenario.fence.as_ref().map_or_else(|| "-".into(), |fence| ms(fence.held_ms as f64)));
    figure("longest stall", ms(scenario.stall.longest_ms));
    figure("99th percentile", ms(scenario.stall.p99_ms));
    figure("ghosts stopped", format!("{} of {}", scenario.ghosts.stopped, scenario.ghosts.armed));
    figure("stale blocks", scenario.stale.len().to_string());
    html.push_str("</dl>\n");
}

/// One failover: verdict, stages, receipt.
fn tell(html: &mut String, story: &Story) {
    let _ = writeln!(
        html,
        "<article><h3>{} <span class=\"sub\">{}</span></h3>\n<p class=\"verdict {}\">{}</p>",
        escaped(&text::way(&story.lost)),
        escaped(&story.life),
        text::safety(story.safety),
        escaped(&story.verdict)
    );
    html.push_str("<figure>\n");
    html.push_str(&chart::stages(story));
    html.push_str("</figure>\n<table class=\"facts\">\n");
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(html, "<tr><th>{name}</th><td>{}</td></tr>", escaped(value));
    };
    row("detected", &story.reason);
    row("went to", &text::ways(story));
    let felt = story.felt.longest_ms.map_or_else(|| "not known".into(), ms);
    let predicted =
        story.felt.foretold_ms.map_or_else(|| "no bound".into(), |most| format!("at most {}", ms(most as f64)));
    row("felt", &format!("{felt} at the longest; predicted: {predicted} ({})", story.felt.because));
    story.notes.iter().for_each(|note| row("besides", note));
    story.advice.iter().for_each(|advice| row("to change", advice));
    html.push_str("</table>\n");
    if let Some(receipt) = &story.receipt
        && let Ok(json) = interlock_api::to_pretty(receipt)
    {
        let _ = writeln!(html, "<details><summary>Receipt</summary><pre>{}</pre></details>", escaped(&json));
    }
    html.push_str("</article>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_api::{GhostCounts, Mark, PathAddress, PathLine, Point, Recording, StallTimes, Verdict, Version};

    fn report() -> DrillReport {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../observe/tests/golden/story/reset.jsonl");
        let text = std::fs::read_to_string(file).expect("a recorded failover");
        let events: Vec<interlock_api::Event> =
            text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
        let lost = events.iter().find(|event| event.what.name() == "lost").expect("it").at_ns;
        let points = |rate: u64| {
            (0..400)
                .map(|step| Point { at_ns: lost + step * 4_000_000 - 800_000_000, ios: step * rate, bytes: 0 })
                .collect()
        };
        let line = |controller: &str, port, rate| PathLine {
            controller: controller.into(),
            path: PathAddress::tcp("127.0.0.1", port),
            points: points(rate),
        };
        let recording = Recording {
            broken_ns: lost - 200_000,
            events,
            lines: vec![line("nvme0", 4420, 40), line("nvme1", 4421, 60)],
            marks: vec![Mark { at_ns: lost, text: "<port A>: connections reset".into() }],
        };
        let scenario = interlock_api::ScenarioResult {
            name: "reset".into(),
            verdict: Verdict::Safe,
            assumed_ms: None,
            reasons: Vec::new(),
            reason_kinds: Vec::new(),
            detection: None,
            writes_in_doubt: 18,
            fence: None,
            ccr: None,
            fast_io_fail: None,
            stall: StallTimes { longest_ms: 12.5, p99_ms: 1.5 },
            reconnect_attempts: 1,
            ghosts: GhostCounts { armed: 18, stopped: 18, executed: 0 },
            stale: Vec::new(),
            violations: vec!["<script>alert(1)</script>".into()],
            notes: Vec::new(),
            receipts: Vec::new(),
            reach: None,
            recording: Some(recording),
        };
        DrillReport {
            format_version: Version,
            version: Some("1.2.3".into()),
            unix_ms: Some(1_790_000_000_000),
            seed: 7,
            target: None,
            scenarios: vec![scenario],
            verdict: Verdict::Safe,
            exit_code: 0,
        }
    }

    #[test]
    fn a_page_has_a_picture_a_story_and_nothing_from_elsewhere() {
        let html = page(&report());
        assert_eq!(html.matches("<svg").count(), 2, "throughput and stages");
        for needed in ["proven by Cross-Controller Reset through nvme1", "127.0.0.1:4420", "prefers-color-scheme: dark"]
        {
            assert!(html.contains(needed), "{needed} is missing");
        }
        assert!(html.contains("<summary>Receipt</summary>"));
        for foreign in ["http://", "https://", "src=", "@import", "<script", "url("] {
            assert!(!html.contains(foreign), "the page asks for {foreign}");
        }
    }

    #[test]
    fn a_page_says_what_was_drilled_when_and_how_far_it_reaches() {
        let mut report = report();
        report.target = Some(interlock_api::ForeignTarget {
            subsystem: "nqn.2014-08.org.example:disk".into(),
            nsid: 1,
            blocks: 1,
            block_size: 4096,
            paths: vec![PathAddress::tcp("192.0.2.1", 4420)],
            identify: Some(interlock_api::TargetIdentity {
                model: "Array 9000".into(),
                serial: "S1".into(),
                firmware: "F1".into(),
                version: "2.1.0".into(),
                ccrl: None,
                cqt_ms: Some(250),
                kato_ms: None,
            }),
        });
        let status = interlock_api::StatusCode { code: 0x141, dnr: false, text: "odd (141h)".into() };
        report.scenarios[0].ccr = Some(interlock_api::CcrUse::Refused { sent: 3, status });
        let not_exercised = vec!["commands delayed inside the target".to_owned()];
        report.scenarios[0].reach = Some(interlock_api::Reach { exercised: Vec::new(), not_exercised });
        let html = page(&report);
        for needed in [
            "interlock 1.2.3",
            "2026-09-21T14:13:20Z",
            "Array 9000, firmware F1, serial S1",
            "250 ms",
            "Cross-Controller Reset is not offered",
            "commands delayed inside the target: not exercised",
            "CCR was refused 3 times: odd (141h)",
        ] {
            assert!(html.contains(needed), "{needed} is missing");
        }
    }

    #[test]
    fn what_a_peer_says_is_text_and_no_markup() {
        let mut report = report();
        report.scenarios[0].reasons.push("<img onerror=x> & \"more\"".into());
        let html = page(&report);
        assert!(html.contains("&lt;img onerror=x&gt; &amp; &quot;more&quot;") && !html.contains("<img"), "escaped");
    }

    #[test]
    fn a_scenario_that_came_to_nothing_has_its_reasons() {
        let mut report = report();
        report.scenarios[0].recording = None;
        report.scenarios[0].reasons = vec!["waited 5s for the loss to be noticed".into()];
        let html = page(&report);
        assert!(html.contains("waited 5s for the loss to be noticed") && html.contains("was not recorded"));
    }
}
