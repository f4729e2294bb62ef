//! The tables that the machines decide by, drawn.
//!
//! A picture drawn by hand is right until the next change. `cargo xtask tables` therefore makes the tables and pictures in `docs/`
//! from the functions that the product itself calls: `StateName::allows`, `classify` and `ViaStage::next`. A test compares the
//! committed files with what these functions return now.

mod classification;
mod sources;
mod states;
mod svg;

use crate::house;
use anyhow::{Context, Result};
use interlock_host_core::StateName;
use std::io::Write;
use std::process::ExitCode;

/// Every generated page: its path from the root, and its text.
#[must_use]
pub fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("docs/tables.md", markdown()),
        ("docs/controller-states.svg", states::picture()),
        ("docs/classification.svg", classification::picture()),
        ("docs/fence-sources.svg", sources::picture()),
    ]
}

/// `cargo xtask tables`: writes them.
///
/// # Errors
/// If one cannot be written.
pub fn main() -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for (path, text) in pages() {
        let place = house::root().join(path);
        std::fs::write(&place, text).with_context(|| format!("{path} cannot be written"))?;
        writeln!(out, "{path}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn markdown() -> String {
    let mut text = String::from(
        "# Tables\n\n`cargo xtask tables` makes this page from the functions that the product decides with, and a test \
         compares it with them. Do not edit it.\n\n## States of a controller\n\nA state describes the path. It does not \
         say which instance may still send or which is fenced: a controller may be\nconnecting again while an earlier \
         instance of it is still being fenced.\n\n![States of a controller](controller-states.svg)\n\n",
    );
    text.push_str(&states::markdown());
    text.push_str(
        "\nA row is the present state, a column the next one. Any other transition is refused, counted and reported.\n\n\
         ## What happens to a command\n\nEvery command that is ever sent again passes through this table.\n\n![What \
         happens to a command](classification.svg)\n\n",
    );
    text.push_str(&classification::markdown());
    text.push_str(
        "\n## A source of a fence\n\nA source is a live controller that the host asks to reset a lost one. The table shows \
         what the host does with\nthe answer.\n\n![A source of a fence](fence-sources.svg)\n\n",
    );
    text.push_str(&sources::markdown());
    text
}

/// What a state means, in one line.
fn meaning(state: StateName) -> &'static str {
    match state {
        StateName::New => "accepted, nothing done",
        StateName::Connecting => "an attempt is running",
        StateName::Live => "usable",
        StateName::Resetting => "its instance drains",
        StateName::Waiting => "for the next attempt",
        StateName::Deleting => "its last instance ends",
        StateName::Dead => "kept for its counters",
    }
}
