//! The tables that the machines decide by, drawn.
//!
//! A picture that somebody drew by hand is right until the next change. So the tables and pictures in `docs/` are made
//! from the functions that the product itself calls - `StateName::allows`, `classify` and `ViaStage::next` - by `cargo xtask tables`,
//! and a test compares what is committed with what would be made.

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
        "# Tables\n\nMade by `cargo xtask tables` from the functions that the product decides with; a test compares them. \
         Do not edit.\n\n## States of a controller\n\nA state is a statement about the path. Which life may still send, \
         and which is fenced, is another matter: a\ncontroller may be connecting again while an earlier life of it is \
         still being fenced.\n\n![States of a controller](controller-states.svg)\n\n",
    );
    text.push_str(&states::markdown());
    text.push_str(
        "\nRows are where it is, columns where it may go. Anything else is refused, counted and told.\n\n## What \
         happens to a command\n\nEverything that is ever sent again passes through this table.\n\n![What happens to a \
         command](classification.svg)\n\n",
    );
    text.push_str(&classification::markdown());
    text.push_str(
        "\n## A source of a fence\n\nWho is asked to reset a lost controller, and what is made of the answer.\n\n![A source \
         of a fence](fence-sources.svg)\n\n",
    );
    text.push_str(&sources::markdown());
    text
}

/// What a state means, in one line.
fn meaning(state: StateName) -> &'static str {
    match state {
        StateName::New => "accepted, nothing done",
        StateName::Connecting => "an attempt is under way",
        StateName::Live => "usable",
        StateName::Resetting => "drains its life",
        StateName::Waiting => "until the next attempt",
        StateName::Deleting => "its last life ends",
        StateName::Dead => "kept for its counters",
    }
}
