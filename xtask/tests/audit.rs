//! Every test that the recovery audit names exists, and every row names one or says what is open.

use interlock_xtask::audit::{parse, rows, tests};

#[test]
fn every_test_that_the_audit_names_exists() {
    let (rows, tests) = (rows().unwrap(), tests().unwrap());
    assert!(rows.len() > 80, "{} rows: the tables were not found", rows.len());
    let mut missing = Vec::new();
    for row in &rows {
        missing.extend(row.tests.iter().filter(|name| !tests.contains(*name)).map(|name| (&row.what, name)));
    }
    assert!(missing.is_empty(), "no test has these names: {missing:#?}");
    let silent: Vec<_> = rows.iter().filter(|row| row.tests.is_empty() && !row.is_open).map(|row| &row.what).collect();
    assert!(silent.is_empty(), "these rows name no test: {silent:#?}");
}

#[test]
fn a_row_is_read_as_it_is_written() {
    let text =
        "| a | b | c |\n|---|---|---|\n| x | y | `one`, `two`; *open*: `three` is not |\n| z | y | nothing |\n\ntext";
    let rows = parse(text).unwrap();
    assert_eq!(rows.len(), 2, "the head is no row");
    assert_eq!((rows[0].what.as_str(), rows[0].is_open), ("x", true));
    assert_eq!(rows[0].tests, ["one", "two"]);
    assert!(rows[1].tests.is_empty() && !rows[1].is_open);
    assert!(parse("| a | b |\n| c | d |").is_err());
    let known = tests().unwrap();
    assert!(known.contains("every_wait_has_a_deadline") && !known.contains("two_paths"), "helpers are no tests");
}
