//! Numbers of events never go back, also over starts without a journal.
//!
//! The journal knows which numbers were given. A start that has none (it is another program's, or its disk is broken) must
//! not use a number again, and the next start that has one must not either: so a file beside it says from which number on
//! nothing was told yet.

use interlock_observe::journal::Floor;
use std::io;
use std::path::Path;

/// So many numbers a process without a journal may use: a thousand events a second for 34 years.
const RUN: u64 = 1 << 40;

/// The first number of this process. `journal` is what the journal says, `now_ms` the time since 1970; the second value is why
/// it could not be read or written down, so that numbers may be used twice.
pub(crate) fn first(dir: &Path, journal: Option<u64>, now_ms: u64) -> (u64, Option<io::Error>) {
    let (mut floor, unread) = match Floor::open(dir) {
        Ok(opened) => opened,
        Err(error) => return (journal.unwrap_or(now_ms.max(1)), Some(error)),
    };
    let (next, used) = match journal {
        Some(next) => (next.max(floor.value()), 0),
        None => (now_ms.max(floor.value()), RUN),
    };
    let raised = if journal.is_none() || unread.is_some() { floor.raise(next.saturating_add(used)) } else { Ok(()) };
    (next, raised.err().or(unread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_observe::journal::FLOOR as FILE;
    use std::fs;

    #[test]
    fn a_number_is_used_once_whatever_becomes_of_the_journal_and_the_clock() {
        let dir = tempfile::tempdir().expect("a directory");
        let next = |journal, now| {
            let (next, failed) = first(dir.path(), journal, now);
            assert!(failed.is_none(), "{failed:?}");
            next
        };
        assert_eq!(next(Some(5), 1_000_000), 5, "as the journal says");
        let without = next(None, 1_000_000);
        assert_eq!(without, 1_000_000);
        let again = next(None, 10);
        assert!(again > without + 1_000_000, "the clock went back: {again}");
        let with = next(Some(7), 2_000_000);
        assert!(with > again, "the journal does not know of them: {with}");
        assert!(next(Some(with + 100), 0) >= with + 100);
    }

    #[test]
    fn a_file_that_says_nothing_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), "many\n").expect("a file");
        assert_eq!(first(dir.path(), Some(5), 0).1.map(|why| why.kind()), Some(io::ErrorKind::InvalidData));
        fs::remove_file(dir.path().join(FILE)).expect("it is there");
        fs::create_dir(dir.path().join(FILE)).expect("a folder");
        assert!(first(dir.path(), Some(5), 0).1.is_some(), "a folder cannot be read");
    }
}
