//! What the journal promises: numbers that go on, bounds, and that nothing in it is fatal.

use super::store::FORMAT;
use super::*;
use interlock_api::{Level, Version, What};
use std::fs;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn owner() -> Owner {
    Owner { hostnqn: "nqn.2014-08.org.nvmexpress:uuid:1".into(), hostid: "1".into() }
}

fn event(seq: u64) -> Arc<Event> {
    Arc::new(Event {
        format_version: Version,
        seq,
        at_ns: seq,
        unix_ms: writer::unix_ms(),
        level: Level::Info,
        subsystem: None,
        controller: Some("nvme0".into()),
        life: None,
        what: if seq.is_multiple_of(10) { What::FirstGood } else { What::NoLongerSlow },
        text: format!("event {seq}"),
    })
}

fn open(dir: &Path) -> (Journal, Begin) {
    Journal::open(dir, &owner(), Bounds::default()).expect("opens")
}

/// Tells `count` events from `next` on, and waits until they are written.
fn tell(journal: &Journal, next: u64, count: u64) {
    (next..next + count).for_each(|seq| journal.record(event(seq)));
    assert!(journal.flush(Duration::from_secs(60)));
}

fn numbers(journal: &Journal) -> Vec<u64> {
    let reader = journal.reader().expect("a reader");
    reader.between(0, u64::MAX, usize::MAX).expect("events").iter().map(|event| event.seq).collect()
}

/// What a crash leaves: the files as they are while a process still has them open.
fn crash(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(from).expect("it") {
        let path = entry.expect("a file").path();
        fs::copy(&path, to.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    to
}

#[test]
fn numbers_go_on_after_an_end_in_order_and_leave_a_gap_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, begin) = open(dir.path());
    assert_eq!(begin, Begin { next: 1, notes: Vec::new() });
    tell(&journal, 1, 3);
    drop(journal);
    let (journal, begin) = open(dir.path());
    assert_eq!(begin.next, 4, "exactly the next");
    tell(&journal, 4, 2_000);
    // Told to listeners, and lost with the process.
    journal.record(event(2_004));
    let left = crash(dir.path());
    let (after, begin) = open(left.path());
    assert!(begin.next > 2_004 && begin.next <= 2_004 + 2 * RESERVE, "{}", begin.next);
    assert!(begin.notes.is_empty(), "a crash is no damage: {:?}", begin.notes);
    assert_eq!(numbers(&after).into_iter().filter(|seq| *seq < 2_004).count(), 2_003);
}

#[test]
fn numbers_go_on_when_somebody_has_removed_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, first) = Journal::open(dir.path(), &owner(), Bounds::default()).expect("a journal");
    assert_eq!((first.next, &first.notes[..]), (1, &[][..]), "the first start tells of nothing");
    drop(journal);
    let mut before = first.next;
    for _ in 0..2 {
        for entry in fs::read_dir(dir.path()).expect("ours") {
            let path = entry.expect("a file").path();
            if path.file_name() != Some(FLOOR.as_ref()) {
                fs::remove_file(path).expect("ours");
            }
        }
        let (journal, begin) = Journal::open(dir.path(), &owner(), Bounds::default()).expect("a journal");
        assert!(begin.next >= before && begin.next > RESERVE, "{} after {before}", begin.next);
        assert_eq!(begin.notes.len(), 1, "{:?}", begin.notes);
        before = begin.next;
        drop(journal);
    }
}

#[test]
fn events_are_found_by_number_from_both_ends_and_by_kind() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    tell(&journal, 1, 100);
    let reader = journal.reader().expect("a reader");
    let numbers = |events: Vec<Event>| events.iter().map(|event| event.seq).collect::<Vec<_>>();
    assert_eq!(numbers(reader.between(97, u64::MAX, 9).expect("events")), [98, 99, 100]);
    assert_eq!(numbers(reader.between(10, 14, 2).expect("events")), [11, 12]);
    assert_eq!(numbers(reader.last(50, 2).expect("events")), [48, 49]);
    assert_eq!(numbers(reader.of_kind("first_good", 0, 100, 2).expect("events")), [80, 90]);
    assert_eq!(numbers(reader.of_kind("first_good", 85, u64::MAX, 9).expect("events")), [90, 100]);
    assert_eq!(*event(7), Event { unix_ms: event(7).unix_ms, ..reader.between(6, 8, 1).expect("it")[0].clone() });
    let standing = journal.standing();
    assert_eq!((standing.written, standing.dropped), (100, 0));
}

#[test]
fn a_slow_disk_makes_nobody_wait_and_the_gap_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(dir.path());
    tell(&journal, 1, 1);
    // Somebody holds the file: the writer waits, the queue fills.
    let slow = rusqlite::Connection::open(dir.path().join(FILE)).expect("opens");
    slow.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let all = QUEUE as u64 + 5_000;
    (2..=all).for_each(|seq| journal.record(event(seq)));
    assert!(journal.standing().dropped >= 4_000, "{:?}", journal.standing());
    slow.execute_batch("ROLLBACK").expect("let go");
    assert!(journal.flush(Duration::from_secs(60)));
    tell(&journal, all + 1, 1);
    let standing = journal.standing();
    assert_eq!(standing.written + standing.dropped, all + 1);
    let kept = numbers(&journal);
    assert_eq!(kept.len() as u64, standing.written);
    assert_eq!(kept.last(), Some(&(all + 1)), "it goes on afterwards");
    assert!(kept.windows(2).any(|pair| pair[1] > pair[0] + 4_000), "and the gap is there");
}

#[test]
fn what_is_too_old_or_too_much_goes_and_the_file_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let bounds = Bounds { age: Duration::from_secs(30 * 24 * 3600), bytes: 1 << 20 };
    let (mut store, _) = Store::open(&dir.path().join(FILE), &owner()).expect("opens");
    let now = 100 * DAY_MS;
    let batch = |from: u64, to: u64, day: u64| -> Vec<Arc<Event>> {
        (from..to).map(|seq| Arc::new(Event { unix_ms: day * DAY_MS, ..(*event(seq)).clone() })).collect()
    };
    store.insert(&batch(1, 100, 60), 1).expect("kept");
    store.trim(bounds, now, Duration::ZERO).expect("trimmed");
    store.insert(&batch(100, 200, 99), 1).expect("kept");
    store.trim(bounds, now, Duration::from_millis(29 * DAY_MS)).expect("trimmed");
    let reader = Reader::open(&dir.path().join(FILE)).expect("a reader");
    let first = || reader.between(0, u64::MAX, 1).expect("events")[0].seq;
    assert_eq!(first(), 1, "by the clock they are old, but the daemon has not run for so long: who knows the clock?");
    store.trim(bounds, 500 * DAY_MS, Duration::ZERO).expect("trimmed");
    assert_eq!(first(), 1, "a clock a year ahead removes nothing");
    store.trim(bounds, 60 * DAY_MS, Duration::from_millis(2 * DAY_MS)).expect("trimmed");
    assert_eq!(first(), 1, "nor does one that says that they are young");
    store.trim(bounds, now, Duration::ZERO).expect("trimmed");
    assert_eq!(first(), 100, "the old ones are gone");
    for from in (200..20_200).step_by(1_000) {
        store.insert(&batch(from, from + 1_000, 99), 1).expect("kept");
    }
    let before = store.bytes();
    assert!(before > 2 << 20, "{before}");
    store.trim(bounds, now, Duration::ZERO).expect("trimmed");
    assert!(store.bytes() <= 1 << 20, "{}", store.bytes());
    let left = reader.between(0, u64::MAX, usize::MAX).expect("events");
    assert!(left.len() > 1_000 && left.last().expect("some").seq == 20_199, "the newest stay: {}", left.len());
    drop(reader);
    store.end(20_200).expect("ended");
    assert!(fs::metadata(dir.path().join(FILE)).expect("it").len() < 2 << 20, "the file shrank");
}

#[test]
fn a_damaged_file_is_set_aside_and_never_fatal() {
    // What may happen to a file, from its first byte to its last.
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 5] = [
        ("another file", |_| b"#!/bin/sh\necho hello\n".repeat(100)),
        ("cut short", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("its head is gone", |mut bytes| {
            bytes[..4096].fill(0xa5);
            bytes
        }),
        ("its middle is gone", |mut bytes| {
            let (from, to) = (bytes.len() / 4, bytes.len() / 2);
            bytes[from..to].fill(0xa5);
            bytes
        }),
        ("no journal of ours", |mut bytes| {
            bytes[68..72].fill(7);
            bytes
        }),
    ];
    for (what, damage) in damages {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = open(dir.path());
        tell(&journal, 1, 500);
        drop(journal);
        let file = dir.path().join(FILE);
        fs::write(&file, damage(fs::read(&file).expect("it"))).expect("damaged");
        let (journal, begin) = open(dir.path());
        assert!(begin.next > 500, "{what}: numbers never go back: {}", begin.next);
        assert!(begin.notes.len() == 1 && begin.notes[0].contains("was set aside as"), "{what}: {:?}", begin.notes);
        tell(&journal, begin.next, 3);
        assert_eq!(numbers(&journal), (begin.next..begin.next + 3).collect::<Vec<_>>(), "{what}");
        drop(journal);
        let (_, again) = open(dir.path());
        assert_eq!((again.next, again.notes.len()), (begin.next + 3, 0), "{what}: the new one is sound");
    }
}

#[test]
fn damage_that_shows_while_it_runs_is_set_aside_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(FILE);
    let (mut store, _) = Store::open(&file, &owner()).expect("opens");
    let batch = |from: u64| (from..from + 1_000).map(event).collect::<Vec<_>>();
    store.insert(&batch(1), 2_000).expect("kept");
    for name in [FILE, "journal.db-wal"] {
        let path = dir.path().join(name);
        let length = fs::metadata(&path).expect("it").len();
        fs::write(&path, vec![0xa5; usize::try_from(length).expect("small")]).expect("damaged");
    }
    store.forget_what_it_knows();
    writer::keep(&mut store, &owner(), &batch(1_001), 3_000).expect("kept in a new file");
    let reader = Reader::open(&file).expect("a reader");
    assert_eq!(reader.between(0, u64::MAX, usize::MAX).expect("events").len(), 1_000);
    let mut names = fs::read_dir(dir.path()).expect("it").map(|entry| entry.expect("a file").file_name());
    assert!(names.any(|name| name.to_string_lossy().contains(".damaged-")));
    drop(store);
    let (_, begin) = Store::open(&file, &owner()).expect("opens");
    assert!(begin.next >= 3_000, "{}", begin.next);
}

#[test]
fn only_a_few_damaged_files_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    for _ in 0..6 {
        fs::write(dir.path().join(FILE), "no database at all").expect("written");
        drop(open(dir.path()));
    }
    let names = fs::read_dir(dir.path()).expect("it").map(|entry| entry.expect("a file").file_name());
    assert_eq!(names.filter(|name| name.to_string_lossy().contains("damaged-")).count(), 3);
}

/// As format 1 was first written: it must be readable for ever. `INTERLOCK_BLESS=1` writes it anew.
#[test]
fn the_golden_file_of_format_1_is_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/journal-1.db");
    if std::env::var_os("INTERLOCK_BLESS").is_some() {
        let dir = tempfile::tempdir().expect("a directory");
        let (journal, _) = open(dir.path());
        tell(&journal, 1, 12);
        drop(journal);
        fs::copy(dir.path().join(FILE), &golden).expect("blessed");
    }
    let dir = tempfile::tempdir().expect("a directory");
    fs::copy(&golden, dir.path().join(FILE)).expect("the golden file");
    let (journal, begin) = open(dir.path());
    assert_eq!(begin, Begin { next: 13, notes: Vec::new() });
    assert_eq!(numbers(&journal), (1..=12).collect::<Vec<_>>());
    assert_eq!(FORMAT, 1, "a new format has a golden file of its own, and this one is migrated");
}

#[test]
fn a_newer_format_and_another_hosts_journal_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path()));
    let file = dir.path().join(FILE);
    let stranger = Owner { hostid: "2".into(), ..owner() };
    let refused = Journal::open(dir.path(), &stranger, Bounds::default()).expect_err("refused").to_string();
    assert!(refused.contains("belongs to the host nqn.2014-08.org.nvmexpress:uuid:1"), "{refused}");
    let db = rusqlite::Connection::open(&file).expect("opens");
    db.pragma_update(None, "user_version", 2).expect("newer");
    db.execute("UPDATE meta SET value = '9.1' WHERE key = 'writer'", []).expect("newer");
    drop(db);
    let refused = Journal::open(dir.path(), &owner(), Bounds::default()).expect_err("refused").to_string();
    assert!(refused.ends_with("has format 2, this program knows up to 1: use version 9.1 or later"), "{refused}");
    assert!(file.exists(), "and it is still there");
}

/// An event that keeps a receipt.
fn receipt(seq: u64) -> Arc<Event> {
    let receipt: interlock_api::Receipt =
        serde_json::from_str(include_str!("../../../api/tests/golden/receipt.json")).expect("as the stream has it");
    Arc::new(Event { what: What::Fenced { receipt: Box::new(receipt) }, ..(*event(seq)).clone() })
}

#[test]
fn no_flood_of_events_pushes_receipts_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let bounds = Bounds { bytes: 1 << 20, ..Bounds::default() };
    let (mut store, _) = Store::open(&dir.path().join(FILE), &owner()).expect("opens");
    let receipts: Vec<Arc<Event>> = (1..=50).map(receipt).collect();
    store.insert(&receipts, 1).expect("kept");
    for from in (1_000..41_000).step_by(1_000) {
        let flood: Vec<Arc<Event>> = (from..from + 1_000).map(event).collect();
        store.insert(&flood, 1).expect("kept");
        store.trim(bounds, writer::unix_ms(), Duration::ZERO).expect("trimmed");
    }
    assert!(store.bytes() <= 1 << 20);
    let reader = Reader::open(&dir.path().join(FILE)).expect("a reader");
    assert_eq!(reader.of_kind("fenced", 0, u64::MAX, 100).expect("events").len(), 50, "every receipt is there");
    // A flood of receipts pushes out its own kind.
    for from in (50_000..70_000).step_by(1_000) {
        let flood: Vec<Arc<Event>> = (from..from + 1_000).map(receipt).collect();
        store.insert(&flood, 1).expect("kept");
        store.trim(bounds, writer::unix_ms(), Duration::ZERO).expect("trimmed");
    }
    assert!(store.bytes() <= 1 << 20);
    let last = reader.of_kind("fenced", 0, u64::MAX, 1).expect("events");
    assert_eq!(last[0].seq, 69_999);
}

#[test]
fn numbers_that_a_full_disk_kept_from_the_journal_are_promised_to_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut floor = Some(Floor::open(dir.path()).expect("a file").0);
    let said = || Floor::open(dir.path()).expect("a file").0.value();
    writer::promise(&mut floor, 10_000);
    assert_eq!(said(), 10_000);
    writer::promise(&mut floor, 10_001);
    assert_eq!(said(), 10_000, "not for every event");
    writer::promise(&mut floor, 10_000 + RESERVE);
    assert_eq!(said(), 10_000 + RESERVE);
    writer::promise(&mut None, 1);
}
