//! What is drawn in `docs/` is what the machines do.

use interlock_xtask::house::root;
use interlock_xtask::tables::pages;

#[test]
fn the_tables_are_those_of_the_machines() {
    for (path, text) in pages() {
        let committed = std::fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(committed == text, "{path} is not what the machines do any more: run `cargo xtask tables`");
    }
}
