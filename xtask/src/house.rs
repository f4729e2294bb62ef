//! The walls between the crates.
//!
//! A house whose plan is only drawn decays with the first hurried import. The plan is the table in `ARCHITECTURE.md`;
//! the truth is what cargo sees. This module reads both.

use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// For each crate (short name) the crates of ours that it imports, or may import.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// The word in the plan for a crate outside the shipped graph.
pub const ANY: &str = "any";

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The plan: the table under "Who may import whom".
///
/// # Errors
/// If the table cannot be found, or a row has not three columns.
pub fn plan() -> Result<Imports> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).context("ARCHITECTURE.md cannot be read")?;
    let rows =
        text.lines().skip_while(|line| !line.starts_with("| crate |")).skip(2).take_while(|l| l.starts_with('|'));
    let mut plan = Imports::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        ensure!(cells.len() == 3, "a row of the crate table has not three columns: {row}");
        let imports =
            cells[2].split(',').map(|cell| cell.trim().trim_matches('`').to_owned()).filter(|cell| cell != "-");
        plan.insert(cells[0].trim_matches('`').to_owned(), imports.collect());
    }
    ensure!(!plan.is_empty(), "ARCHITECTURE.md has no crate table");
    Ok(plan)
}

/// The truth: what each crate of ours imports of ours, development imports included.
///
/// # Errors
/// If cargo cannot be run or answers something unexpected.
pub fn truth() -> Result<Imports> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .context("cargo metadata cannot be run")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut truth = Imports::new();
    for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
        let Some(name) = package["name"].as_str().and_then(short) else { continue };
        let imports = package["dependencies"].as_array().into_iter().flatten();
        let ours = imports.filter_map(|dependency| dependency["name"].as_str().and_then(short)).collect();
        truth.insert(name, ours);
    }
    Ok(truth)
}

fn short(package: &str) -> Option<String> {
    package.strip_prefix("interlock-").map(str::to_owned)
}

/// What in the truth the plan does not allow, in words.
#[must_use]
pub fn breaches(plan: &Imports, truth: &Imports) -> Vec<String> {
    let mut breaches = Vec::new();
    for (name, imports) in truth {
        let Some(allowed) = plan.get(name) else {
            breaches.push(format!("`{name}` is not in the crate table"));
            continue;
        };
        if allowed.contains(ANY) {
            continue;
        }
        for import in imports.difference(allowed) {
            breaches.push(format!("`{name}` imports `{import}`, which its row does not list"));
        }
    }
    for name in plan.keys().filter(|name| !truth.contains_key(*name)) {
        breaches.push(format!("the crate table lists `{name}`, which does not exist"));
    }
    breaches
}
