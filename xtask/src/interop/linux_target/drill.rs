//! The product's own drill, put to Linux's target as a user would.
//!
//! nvmet has neither CCR nor CQT: it is the field as it is. Unfenced the drill must find stale data there, which shows
//! that the known failure is real and that the check can fail; fenced it must not.

use super::{LinuxTarget, NQN};
use anyhow::{Context, Result, bail, ensure};
use interlock_api::{DrillReport, ScenarioResult, Verdict};
use std::process::Output;

const SCENARIOS: [&str; 2] = ["foreign-reset", "foreign-silent"];

/// The whole of a namespace, and how it is made blank; by writing, because what a discard leaves behind is not ours.
const BLANK: &str = "dd if=/dev/zero of=/dev/peer bs=1M count=128 oflag=direct 2>/dev/null";

/// `interlock drill` on namespace 1.
fn drill(bench: &LinuxTarget, more: &[&str]) -> Result<Output> {
    let [first, second] = bench.ports.map(|port| format!("tcp:127.0.0.1:{port}"));
    let args = ["drill", "--target", &first, "--target", &second, "--nqn", NQN, "--nsid", "1", "-o", "json"];
    bench.interlock(&[&args, more].concat())
}

fn said(output: &Output) -> String {
    crate::interop::guest::tail(&String::from_utf8_lossy(&output.stderr))
}

/// Plays one scenario; once more if it could not have gone wrong, as on a machine that is too busy.
fn play(bench: &LinuxTarget, scenario: &str, more: &[&str]) -> Result<ScenarioResult> {
    let mut reasons = Vec::new();
    for _ in 0..2 {
        let output = drill(bench, &[&[scenario], more].concat())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let report: DrillReport = serde_json::from_str(&text)
            .with_context(|| format!("no report, exit {:?}: {}", output.status.code(), said(&output)))?;
        ensure!(output.status.code() == Some(report.exit_code.into()), "the exit code is not that of the report");
        let name = format!("drill-{scenario}{}.json", more.concat());
        std::fs::write(bench.setup.dir.join(name), &*text)?;
        let [result] = <[_; 1]>::try_from(report.scenarios).map_err(|_| anyhow::anyhow!("not one scenario"))?;
        if result.verdict != Verdict::Inconclusive {
            return Ok(result);
        }
        reasons = result.reasons;
    }
    bail!("{scenario} was inconclusive twice: {}", reasons.join("; "))
}

pub(super) fn fenced(bench: &mut LinuxTarget) -> Result<String> {
    bench.guest.sh(BLANK)?;
    let mut facts = Vec::new();
    for scenario in SCENARIOS {
        let result = play(bench, scenario, &[])?;
        // Without CCR and CQT no fence can be a proof, and the verdict must not pretend that.
        ensure!(result.verdict == Verdict::SafeIf, "{scenario}: {:?}: {}", result.verdict, why(&result));
        let fence = result.fence.as_ref().context("safe, but without a fence")?;
        ensure!(fence.method == interlock_api::Method::Assumed, "{scenario}: fenced by {:?}", fence.method);
        let ghosts = result.ghosts;
        ensure!(ghosts.stopped > 0, "{scenario}: no ghost was stopped: {ghosts:?}");
        let reach = result.reach.context("the verdict does not say how far it reaches")?;
        ensure!(reach.not_exercised.iter().any(|what| what.contains("inside the target")), "{scenario}: {reach:?}");
        facts.push(format!("{scenario} held {} ms, {}/{} stopped", fence.held_ms, ghosts.stopped, ghosts.armed));
    }
    // It was blank and must be so again: the drill is somebody's guest here.
    let blank = bench.guest.sh("cmp -n 67108864 /dev/peer /dev/zero");
    blank.context("the drill left data on a namespace that was blank")?;
    Ok(facts.join("; "))
}

pub(super) fn unfenced(bench: &mut LinuxTarget) -> Result<String> {
    bench.guest.sh(BLANK)?;
    let mut facts = Vec::new();
    for scenario in SCENARIOS {
        let result = play(bench, scenario, &["--no-fence"])?;
        ensure!(result.verdict == Verdict::Unsafe, "{scenario}: {:?}, although nothing was fenced", result.verdict);
        ensure!(!result.stale.is_empty(), "{scenario}: unsafe, but no stale block is named: {}", why(&result));
        let ghosts = result.ghosts;
        facts.push(format!("{scenario} {}/{} executed, {} stale", ghosts.executed, ghosts.armed, result.stale.len()));
    }
    Ok(facts.join("; "))
}

fn why(result: &ScenarioResult) -> String {
    let stale = result.stale.iter().map(|block| &block.text);
    result.reasons.iter().chain(&result.violations).chain(stale).take(3).cloned().collect::<Vec<_>>().join("; ")
}

/// The block that holds somebody's data, within what the drill would overwrite and far behind it.
const DATA_AT: [u64; 2] = [40_000, (128 << 20) / 512 - 1];

pub(super) fn spares_data(bench: &mut LinuxTarget) -> Result<String> {
    let mut said_so = String::new();
    for lba in DATA_AT {
        bench.guest.sh(&format!(
            "{BLANK}; head -c 512 /dev/urandom >/tmp/precious &&
             dd if=/tmp/precious of=/dev/peer bs=512 seek={lba} oflag=direct 2>/dev/null && md5sum </dev/peer >/tmp/before"
        ))?;
        let output = drill(bench, &["foreign-reset"])?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(3), "the drill ended with {:?}: {error}", output.status.code());
        for word in [
            "namespace 1",
            NQN,
            &format!("LBA {lba} is not zero"),
            "would overwrite its first 131072 blocks (67108864 bytes)",
            "--destroy-data",
        ] {
            ensure!(error.contains(word), "the refusal does not say `{word}`: {error}");
        }
        bench.guest.sh("md5sum </dev/peer | cmp - /tmp/before").context("the drill refused, and changed something")?;
        said_so = error.lines().find(|line| line.contains("holds data")).unwrap_or_default().trim().to_owned();
    }
    Ok(format!("`{said_so}`"))
}

pub(super) fn destroys_data(bench: &mut LinuxTarget) -> Result<String> {
    let [lba, _] = DATA_AT;
    bench.guest.sh(&format!("dd if=/dev/urandom of=/dev/peer bs=512 seek={lba} count=1 oflag=direct 2>/dev/null"))?;
    let result = play(bench, "foreign-reset", &["--destroy-data"])?;
    ensure!(result.verdict == Verdict::SafeIf, "{:?}: {}", result.verdict, why(&result));
    Ok(format!("{} writes in doubt, {} stopped", result.writes_in_doubt, result.ghosts.stopped))
}
