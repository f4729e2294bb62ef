//! The files, tests and headings that documents name are there.

use interlock_xtask::audit::tests;
use interlock_xtask::house::root;
use std::path::PathBuf;

/// What stands in backticks in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// True for the path of a file or folder of the repository.
fn is_path(quoted: &str) -> bool {
    ["crates/", "docs/", "xtask/", "interop/"].iter().any(|place| quoted.starts_with(place))
        && !quoted.contains([' ', '*'])
}

/// The tests that the last column of the tables "who notices" names.
fn noticing(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        in_table = line.starts_with('|') && (in_table || line.trim_end_matches([' ', '|']).ends_with("who notices"));
        let Some(last) = line.trim_matches('|').rsplit('|').next().filter(|_| in_table) else { continue };
        found.extend(quoted(last).filter(|quoted| !is_path(quoted) && !quoted.contains(' ')));
    }
    found
}

#[test]
fn every_file_that_a_guide_names_is_there() {
    for (page, least) in [("ARCHITECTURE.md", 30), ("docs/how-to-change.md", 40)] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let paths: Vec<&str> = quoted(&text).filter(|quoted| is_path(quoted)).collect();
        assert!(paths.len() > least, "{page}: {} paths: they were not found", paths.len());
        let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
        assert!(missing.is_empty(), "{page} names files that are not there: {missing:?}");
    }
}

#[test]
fn every_test_that_the_guide_to_changes_names_is_there() {
    let text = std::fs::read_to_string(root().join("docs/how-to-change.md")).unwrap();
    let (named, known) = (noticing(&text), tests().unwrap());
    assert!(named.len() > 15, "{} tests: the tables were not found", named.len());
    let missing: Vec<_> = named.into_iter().filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "no test has these names: {missing:?}");
}

#[test]
fn a_wrong_name_is_found() {
    let text = "| place | what | who notices |\n|---|---|---|\n| `crates/x` | `y` | `one`; `crates/a.rs`, `cargo xtask sim` |\n\n| a | `b` |";
    assert_eq!(noticing(text), ["one"]);
    assert!(is_path("crates/base/src/lib.rs") && !is_path("cargo test") && !is_path("crates/*/src"));
}

/// The documents: those of the root, and those of `docs`.
fn documents() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder of documents"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The targets of the links in `text`, but those to other places of the world.
fn links(text: &str) -> Vec<String> {
    let found = prose(text);
    let targets = found.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchor of a heading, as sites that show Markdown make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_matches(['#', ' ']).to_lowercase();
    let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
    kept.replace(' ', "-")
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            seen += 1;
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(file, to)| (file, Some(to)));
            let to = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            let is_there = to.exists()
                && heading.is_none_or(|heading| {
                    let page = prose(&std::fs::read_to_string(&to).unwrap_or_default());
                    page.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
                });
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(seen > 40, "{seen} links: they were not found");
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn links_and_anchors_are_read_as_they_are_shown() {
    assert_eq!(links("[a](b.md#c) `x` [d](https://e) ![f](g.svg)\n```\n[h](i)\n```\n"), ["b.md#c", "g.svg"]);
    assert_eq!(anchor("## How `interlock top` works, and why"), "how-interlock-top-works-and-why");
}
