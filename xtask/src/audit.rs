//! The recovery audit names tests; a name that nothing bears is a promise that nobody keeps.

use crate::house::root;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;

/// One row of the audit: what can happen, and the tests that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The first column.
    pub what: String,
    /// The names in the last column.
    pub tests: Vec<String>,
    /// True if the last column says that something is open.
    pub is_open: bool,
}

/// The rows of `docs/recovery-audit.md`.
///
/// # Errors
/// If it cannot be read, or a row has not three columns.
pub fn rows() -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(root().join("docs/recovery-audit.md")).context("the audit cannot be read")?;
    parse(&text)
}

/// The rows of every table in `text`.
///
/// # Errors
/// If a row has not three columns.
pub fn parse(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut before = "";
    for line in text.lines() {
        // The line above a rule is a head, and the rule is no row.
        let is_rule = line.starts_with("|---");
        if before.starts_with('|') && !before.starts_with("|---") && !is_rule {
            rows.push(row(before)?);
        }
        before = line;
    }
    if before.starts_with('|') {
        rows.push(row(before)?);
    }
    Ok(rows)
}

fn row(line: &str) -> Result<Row> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    ensure!(cells.len() == 3, "a row has not three columns: {line}");
    // What is quoted after "open" explains; it names no test.
    let (named, is_open) = cells[2].split_once("*open*").map_or((cells[2], false), |(named, _)| (named, true));
    let tests = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Ok(Row { what: cells[0].to_owned(), tests, is_open })
}

/// The names of all tests under `crates`, and of the checkers of the simulator.
///
/// # Errors
/// If the sources cannot be read.
pub fn tests() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    collect(&root().join("crates"), &mut found)?;
    for entry in std::fs::read_dir(root().join("crates/sim/src/checkers")).context("the checkers cannot be listed")? {
        let path = entry?.path();
        found.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(found)
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests_in(&std::fs::read_to_string(&path)?, found);
        }
    }
    Ok(())
}

/// Functions that follow `#[test]`, attributes between them or not.
fn tests_in(text: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                found.extend(rest.split('(').next().map(str::to_owned));
            }
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
}
