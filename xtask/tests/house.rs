//! The house is built as it is drawn.

use interlock_xtask::house::{Imports, breaches, plan, root, truth};
use std::path::Path;

const CORES: [&str; 7] = ["base", "wire", "fence", "proto", "host-core", "target-core", "check"];

#[test]
fn every_import_is_allowed_by_the_table() {
    let found = breaches(&plan().unwrap(), &truth().unwrap());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_forbidden_import_is_found() {
    let imports = |list: &[(&str, &[&str])]| -> Imports {
        list.iter().map(|(n, i)| ((*n).to_owned(), i.iter().map(|s| (*s).to_owned()).collect())).collect()
    };
    let plan = imports(&[("base", &[]), ("ring", &["base"]), ("gone", &[])]);
    let truth = imports(&[("base", &["ring"]), ("ring", &["base"]), ("new", &[])]);
    assert_eq!(breaches(&plan, &truth).len(), 3, "an arrow upward, an unlisted crate and a missing one");
}

fn sources(dir: &Path, visit: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(dir).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            visit(&path, &std::fs::read_to_string(&path).expect("the sources can be read"));
        }
    }
}

#[test]
fn the_cores_are_no_std_and_safe() {
    for name in CORES {
        let src = root().join("crates").join(name).join("src");
        let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
        assert!(lib.contains("#![no_std]"), "`{name}` is not no_std");
        sources(&src, &mut |path, text| {
            for forbidden in ["unsafe {", "unsafe fn", "extern crate std", "allow(unsafe_code)"] {
                assert!(!text.contains(forbidden), "{} contains `{forbidden}`", path.display());
            }
        });
    }
}

#[test]
fn unsafe_stands_only_where_the_plan_says() {
    sources(&root().join("crates"), &mut |path, text| {
        let path = path.to_string_lossy();
        let allowed = ["/ring/", "/target/src/memory", "/export/src/ublk/sys"].iter().any(|place| path.contains(place));
        assert!(allowed || !text.contains("allow(unsafe_code)"), "{path} allows unsafe code");
    });
}

#[test]
fn the_cores_link_without_the_standard_library() {
    let out = root().join("target").join("no-std");
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--manifest-path"])
        .arg(root().join("xtask/no-std/Cargo.toml"))
        .arg("--target-dir")
        .arg(&out)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert!(out.join("debug/libinterlock_no_std.a").exists(), "nothing was built");
}
