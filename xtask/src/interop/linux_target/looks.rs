//! The commands that only look.

use super::{LinuxTarget, NQN};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn json(output: &std::process::Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("no JSON, exit {:?}: {}", output.status.code(), said.trim())
    })
}

pub(super) fn discover(bench: &mut LinuxTarget) -> Result<String> {
    let port = bench.ports[0].to_string();
    let output = bench.interlock(&["discover", "-a", "127.0.0.1", "-s", &port, "-o", "json"])?;
    let log = json(&output)?;
    ensure!(output.status.success(), "interlock discover failed");
    let records = log["records"].as_array().context("no records")?;
    let found = |record: &&Value| record["subnqn"] == NQN && record["trtype"] == "tcp";
    let ways: Vec<_> = records.iter().filter(found).filter_map(|record| record["trsvcid"].as_str()).collect();
    ensure!(ways.contains(&"4420"), "the log does not name the subsystem's port: {log}");
    Ok(format!("{} records, {NQN} at port {}", records.len(), ways.join(", ")))
}

pub(super) fn doctor(bench: &mut LinuxTarget) -> Result<String> {
    let port = bench.ports[0].to_string();
    let options = ["doctor", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
    let text = bench.interlock(&options)?;
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    std::fs::write(bench.setup.dir.join("doctor.txt"), &text)?;
    let report = json(&bench.interlock(&[&options[..], &["-o", "json"]].concat())?)?;
    ensure!(report["subsystem"]["nqn"] == NQN, "doctor looked at another subsystem: {report}");
    ensure!(report["ccr"]["supported"] == false, "doctor found CCR, which nvmet has not: {}", report["ccr"]);
    ensure!(text.contains("assum"), "doctor does not say that the hold is an assumption:\n{text}");
    let line = text.lines().find(|line| line.contains("assum")).unwrap_or_default();
    Ok(format!("`{}`", line.trim()))
}
