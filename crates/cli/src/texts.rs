//! Texts that name commands and options of this program, held to what it takes.

use clap::{Command, CommandFactory};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Files whose texts users read: documents, and what the crates say.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = vec![root.join("README.md")];
    let mut dirs = vec![root.join("docs"), root.join("packaging")];
    for name in ["api", "cli", "daemon", "drill", "export", "host", "host-core", "observe", "proto", "target", "top"] {
        dirs.push(root.join("crates").join(name).join("src"));
    }
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(is_text) && !path.ends_with("texts.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Documents, sources, and what is installed: units, their drop-ins, examples of a configuration, rules of alerts.
fn is_text(ext: &OsStr) -> bool {
    ["md", "rs", "toml", "conf", "service", "rules", "yml", "yaml", "json"].iter().any(|known| ext == *known)
}

/// Commands that texts name without the program before them: their own names are no usual words, or options follow.
fn is_often_alone(root: &Command, quoted: &str) -> bool {
    let verb = quoted.split(' ').next().unwrap_or_default();
    // Other programs have these.
    quoted.contains(" -") && !matches!(verb, "list" | "io" | "export" | "reset") && root.find_subcommand(verb).is_some()
}

/// What of a text is a command line of this program: in backticks, or a line of a block of code.
fn command_lines(root: &Command, text: &str, is_document: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    // A string of a program may go on in the next line.
    let joined = text.replace("\\\n", "\u{0}");
    for line in joined.lines() {
        let line: String = line.split('\u{0}').map(str::trim_start).collect::<Vec<_>>().join(" ");
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block && is_document {
            // Assignments, and what a shell does before and after.
            let line = line.split(" #").next().unwrap_or_default();
            for part in line.split(['|', ';', '&']) {
                if let Some(rest) = part.trim().strip_prefix("interlock ") {
                    found.push(rest.to_owned());
                }
            }
        } else {
            for quoted in line.split('`').skip(1).step_by(2) {
                if let Some(rest) = quoted.strip_prefix("interlock ") {
                    found.push(rest.to_owned());
                } else if is_often_alone(root, quoted) {
                    found.push(quoted.to_owned());
                }
            }
            // What a unit starts.
            if let Some((_, rest)) = line.split_once("bin/interlock ") {
                found.push(rest.to_owned());
            }
        }
    }
    found
}

/// Why a command line is none; a word in capitals or a placeholder stands for anything.
fn fault(root: &Command, line: &str) -> Option<String> {
    let mut command = root;
    let mut named = false;
    for word in line.split_whitespace() {
        let word = word.trim_matches(|c: char| matches!(c, '[' | ']' | '"' | '\'' | ',' | '.'));
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default();
            if !name.is_empty() && !takes_long(command, name) {
                return Some(format!("`{}` has no option --{name}", command.get_name()));
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| letters.starts_with(char::is_alphabetic))
        {
            let letter = letters.chars().next().unwrap_or_default();
            if !takes_short(command, letter) {
                return Some(format!("`{}` has no option -{letter}", command.get_name()));
            }
        } else if let Some(sub) = command.find_subcommand(word.split('/').next().unwrap_or_default()) {
            command = sub;
            named = true;
        } else if !named && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            return Some(format!("there is no command `{word}`"));
        }
    }
    None
}

fn takes_long(command: &Command, name: &str) -> bool {
    matches!(name, "help" | "version")
        || command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name)))
}

fn takes_short(command: &Command, letter: char) -> bool {
    matches!(letter, 'h' | 'V') || command.get_arguments().any(|arg| arg.get_short() == Some(letter))
}

fn any_takes(command: &Command, name: &str) -> bool {
    takes_long(command, name) || command.get_subcommands().any(|sub| any_takes(sub, name))
}

/// Options of other programs that texts name.
const OF_OTHERS: [&str; 2] = ["set-options", "key"];

#[test]
fn texts_name_commands_and_options_that_are_there() {
    let mut root = crate::Cli::command();
    root.build();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files() {
        let text = fs::read_to_string(&file).expect("a text");
        let is_document = file.extension().is_some_and(|ext| ext == "md");
        // What a test gives wrongly on purpose is no text for users.
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in command_lines(&root, text, is_document) {
            seen += 1;
            if let Some(why) = fault(&root, &line) {
                wrong.push(format!("{}: `interlock {line}`: {why}", file.display()));
            }
        }
        // Other documents name options of the project's own tools.
        if is_document && !file.ends_with("README.md") && !file.ends_with("guide.md") && !file.ends_with("control.md") {
            continue;
        }
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("--")) {
            let name = quoted.trim_start_matches("--").split(|c: char| c != '-' && !c.is_alphanumeric()).next();
            let name = name.unwrap_or_default();
            if !name.is_empty() && !any_takes(&root, name) && !OF_OTHERS.contains(&name) {
                wrong.push(format!("{}: no command has an option `--{name}`", file.display()));
            }
        }
    }
    assert!(seen > 60, "{seen}: the search finds nothing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_text_is_found() {
    let mut root = crate::Cli::command();
    root.build();
    for (line, want) in [
        ("fence --wait nvme0n1", None),
        ("discover -s 4420", None),
        ("connect --fence strict", Some("`connect` has no option --fence")),
        ("fence-all", Some("there is no command `fence-all`")),
        ("set nvme0 -z 1", Some("`set` has no option -z")),
    ] {
        assert_eq!(fault(&root, line).as_deref(), want, "{line}");
    }
    let text = "Use `interlock set nvme0 \\\n    --frob 1` there.";
    assert_eq!(command_lines(&root, text, false), ["set nvme0  --frob 1"]);
}
