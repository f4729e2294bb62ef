//! Real clients against an export over two paths.

mod common;

use common::{Setting, Stage, client, run};

#[test]
fn nbdinfo_sees_what_is_exported() {
    let Some(mut nbdinfo) = client("nbdinfo") else { return };
    let stage = Stage::set(&Setting::default()).exported();
    let text = run(nbdinfo.arg(stage.uri()));
    for line in ["export-size: 67108864", "can_multi_conn: true", "can_fua: true", "block_size_minimum: 4096"] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
    stage.strike();
}
