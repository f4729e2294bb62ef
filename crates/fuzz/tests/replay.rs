//! What the fuzzers found worth keeping, again: every input of the corpus, in a process that does nothing else.

#![allow(clippy::print_stderr)] // the name of the input, should it panic

use std::path::Path;

#[test]
fn the_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut replayed = 0;
    for (name, _) in interlock_fuzz::TARGETS {
        let folder = corpus.join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("every body has a corpus; {}: {error}", folder.display()))
            .map(|entry| entry.expect("a file").path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name}: an empty corpus shows nothing");
        interlock_fuzz::run(name, &[]);
        for file in files {
            let bytes = std::fs::read(&file).expect("a readable file");
            // The test's name of the input, should it panic.
            eprintln!("{}", file.display());
            interlock_fuzz::run(name, &bytes);
            replayed += 1;
        }
    }
    assert!(replayed > interlock_fuzz::TARGETS.len());
}
