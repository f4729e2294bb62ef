//! The help of every command, as it was looked at last.
//!
//! Help is the first thing that users read, and nobody reads a change of a doc comment as a change of a text. So
//! `tests/golden/help/` has one file for each command: a change of a text stands in the difference of a commit.
//! `UPDATE_GOLDEN=1` writes the files again.

use clap::{Command, CommandFactory};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help")
}

/// The long help of a command and of those below it, by file name.
fn collect(command: &mut Command, name: &str, found: &mut BTreeMap<String, String>) {
    let mut text: String =
        command.render_long_help().to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    while text.ends_with("\n\n") {
        text.pop();
    }
    found.insert(format!("{name}.txt"), text);
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        let name = format!("{name}-{}", below.get_name());
        collect(below, &name, found);
    }
}

fn all() -> BTreeMap<String, String> {
    let mut root = crate::Cli::command().name("interlock").bin_name("interlock").term_width(100);
    root.build();
    let mut found = BTreeMap::new();
    collect(&mut root, "interlock", &mut found);
    found
}

#[test]
fn help_is_what_was_looked_at() {
    let found = all();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(dir());
        fs::create_dir_all(dir()).expect("a directory");
        found.iter().for_each(|(name, text)| fs::write(dir().join(name), text).expect("a file"));
    }
    let kept: BTreeMap<String, String> = fs::read_dir(dir())
        .expect("the texts")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.file_name().into_string().expect("text"), fs::read_to_string(entry.path()).expect("text")))
        .collect();
    let differ: Vec<&String> =
        found.keys().chain(kept.keys()).filter(|name| found.get(*name) != kept.get(*name)).collect();
    assert!(differ.is_empty(), "run this test with UPDATE_GOLDEN=1 and look at the difference: {differ:?}");
}

/// Every option says what it does, and its text is the phrase that the style wants: no full stop at the end.
#[test]
fn every_option_and_command_has_a_help_of_one_form() {
    fn judge(command: &Command, name: &str, wrong: &mut Vec<String>) {
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let positional_of_values = arg.is_positional() && !arg.get_possible_values().is_empty();
            if help.is_empty() && !positional_of_values {
                wrong.push(format!("{name}: {} has no help", arg.get_id()));
            }
            if help.trim_end().ends_with('.') {
                wrong.push(format!("{name}: {}: a full stop ends the help", arg.get_id()));
            }
        }
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if about.is_empty() || about.trim_end().ends_with('.') {
            wrong.push(format!("{name}: its own help is empty, or ends with a full stop"));
        }
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            judge(below, &format!("{name} {}", below.get_name()), wrong);
        }
    }
    let mut root = crate::Cli::command();
    root.build();
    let mut wrong = Vec::new();
    judge(&root, "interlock", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
