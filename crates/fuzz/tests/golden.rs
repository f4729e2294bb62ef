//! The golden conversations, against the texts in `golden/`.

use interlock_fuzz::golden::STORIES;
use interlock_fuzz::trace;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// With `UPDATE_GOLDEN=1` the texts are written instead: look at the difference before it is committed.
#[test]
fn the_conversations_are_as_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for story in STORIES {
        let text = format!("# {}\n{}", story.about, trace::text(&story.tell()));
        let path = folder().join(format!("{}.txt", story.name));
        if update {
            std::fs::write(&path, &text).expect("a folder that can be written to");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some((number, (is, was))) = text.lines().zip(golden.lines()).enumerate().find(|(_, (is, was))| is != was)
        {
            changed.push(format!("{}, line {}:\n  is  {is}\n  was {was}", story.name, number + 1));
        } else if text != golden {
            let (is, was) = (text.lines().count(), golden.lines().count());
            changed.push(format!("{}: {is} lines, {was} before", story.name));
        }
    }
    assert!(changed.is_empty(), "conversations have changed; see golden.rs:\n{}", changed.join("\n"));
}

#[test]
fn every_text_has_its_story() {
    for entry in std::fs::read_dir(folder()).expect("the folder of texts") {
        let path = entry.expect("a file").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(STORIES.iter().any(|story| story.name == name), "{}: no story tells it", path.display());
    }
}

/// A violation that is part of the story is seen, and no other is.
#[test]
fn only_hostile_conversations_are_illegal() {
    for story in STORIES {
        let text = trace::text(&story.tell());
        let ended = text.contains("TermReq");
        assert_eq!(ended, story.hostile, "{}: a termination belongs to hostile stories only", story.name);
        assert!(story.hostile || !text.contains("illegal"), "{}: an illegal PDU", story.name);
    }
}
