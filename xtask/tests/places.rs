//! The files and tests that the guides to the sources name are there.

use interlock_xtask::audit::tests;
use interlock_xtask::house::root;

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
