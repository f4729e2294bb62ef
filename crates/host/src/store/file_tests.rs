use super::*;
use crate::store::OldSockets;
use interlock_host_core::stall::HoldTerms;
use interlock_host_core::{CtrlId, Identity};
use interlock_wire::identify::NamespaceIds;
use interlock_wire::nqn::{HostId, Nqn};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is gone after the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let name = format!("interlock-lives-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn file(&self) -> PathBuf {
        self.0.join(LIVES)
    }

    fn open(&self) -> Result<FileStore, StoreError> {
        FileStore::open_at(&self.0, &settings(7), here())
    }

    fn with(bytes: &[u8]) -> Self {
        let dir = Self::new();
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.file(), bytes).unwrap();
        dir
    }

    /// Identifiers of the lives that a new process would find.
    fn found(&self) -> Vec<u64> {
        self.open().unwrap().predecessors().iter().map(|old| old.record.life.0).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(id: u8) -> HostSettings {
    let hostid = HostId([id; 16]);
    HostSettings { hostnqn: Nqn::of_host(hostid), hostid }
}

fn here() -> Place {
    Place { boot: "5b5b3f0e-2f2c-4f0e-8f4e-0a4c7d1b9a10".into(), netns: 4_026_531_840 }
}

fn record(id: u64) -> LifeRecord {
    let settings = settings(7);
    LifeRecord {
        life: LifeId(id),
        ctrl: CtrlId(1),
        hostnqn: settings.hostnqn,
        hostid: settings.hostid,
        subnqn: Nqn::new("nqn.2014-08.org.example:s").unwrap(),
        addr: "192.0.2.1:4420".parse().unwrap(),
        identity: Identity { cntlid: 3, ciu: 0x5A, cirn: u64::MAX },
        hold: HoldTerms {
            kato_assumed: false,
            kato: Duration::from_secs(5),
            tbkas: true,
            cqt: Some(Duration::from_millis(10)),
            assumed_cqt: Some(Duration::from_secs(5)),
            slew_permille: 100,
            proxy_delay: Duration::from_nanos(1_500_000),
        },
        disks: vec![
            NamespaceIds { uuid: Some([0xA7; 16]), eui64: Some([1, 2, 3, 4, 5, 6, 7, 8]), ..NamespaceIds::default() },
            NamespaceIds { nguid: Some([9; 16]), ..NamespaceIds::default() },
        ],
    }
}

fn sockets() -> [SocketPair; 2] {
    [40_000, 40_001].map(|port| SocketPair {
        local: ([192, 0, 2, 9], port).into(),
        peer: "192.0.2.1:4420".parse().unwrap(),
        inode: 8_000 + u64::from(port),
    })
}

#[test]
fn a_successor_finds_what_is_neither_clean_nor_fenced() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    assert_eq!(store.predecessors(), []);
    for id in 1..=4 {
        let mut record = record(id);
        record.hold.kato_assumed = id == 2;
        store.record(&record, &sockets()).unwrap();
    }
    store.mark_clean(LifeId(1)).unwrap();
    store.forget(LifeId(3)).unwrap();
    store.forget(LifeId(9)).unwrap();
    drop(store);
    let mut store = dir.open().unwrap();
    let found = store.predecessors();
    assert_eq!(found.iter().map(|old| old.record.life.0).collect::<Vec<_>>(), [2, 4]);
    let mut want = record(2);
    want.hold.proxy_delay = Duration::from_millis(2); // Rounded up.
    want.hold.kato_assumed = true;
    assert_eq!(found[0], Predecessor { record: want, sockets: OldSockets::Look(sockets().to_vec()) });
    // They stay until they are fenced, over any number of processes.
    store.forget(LifeId(2)).unwrap();
    drop(store);
    assert_eq!(dir.found(), [4]);
}

#[test]
fn after_a_start_of_the_machine_the_sockets_are_gone_and_elsewhere_they_are_unseen() {
    let dir = Dir::new();
    dir.open().unwrap().record(&record(1), &sockets()).unwrap();
    for (place, want) in [
        (Place { boot: "another".into(), ..here() }, OldSockets::Gone),
        (Place { netns: 1, ..here() }, OldSockets::Unseen),
        (here(), OldSockets::Look(sockets().to_vec())),
    ] {
        let mut store = FileStore::open_at(&dir.0, &settings(7), place).unwrap();
        assert_eq!(store.predecessors()[0].sockets, want);
    }
}

#[test]
fn one_process_at_a_time_and_it_is_named() {
    let dir = Dir::new();
    let first = dir.open().unwrap();
    let refused = dir.open().unwrap_err();
    assert!(matches!(refused, StoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()));
    assert!(refused.to_string().contains(&format!("in use by process {}", std::process::id())), "{refused}");
    drop(first);
    dir.open().unwrap();
}

#[test]
fn the_lock_of_a_dead_process_is_waited_for() {
    let dir = Dir::new();
    let first = dir.open().unwrap();
    // No process has this number: the lock is all that is left of it.
    fs::write(dir.0.join(LOCK), "4194305").unwrap();
    let (began, begins) = mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            began.send(()).unwrap();
            dir.open()
        });
        begins.recv().unwrap();
        drop(first);
        second.join().unwrap().unwrap();
    });
    assert_eq!(fs::read_to_string(dir.0.join(LOCK)).unwrap().trim(), std::process::id().to_string());
}

#[test]
fn a_process_whose_lock_was_replaced_records_nothing_more() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    store.record(&record(1), &[]).unwrap();
    store.confirm_owner().unwrap();
    fs::remove_file(dir.0.join(LOCK)).unwrap();
    assert!(store.record(&record(2), &[]).is_err());
    let successor = dir.open().unwrap();
    let error = store.record(&record(2), &[]).unwrap_err().to_string();
    assert!(error.contains("another process may be this host now"), "{error}");
    let error = store.confirm_owner().unwrap_err().to_string();
    assert!(error.contains("another process may be this host now"), "nor does it release what it holds: {error}");
    drop(successor);
}

#[test]
fn another_identity_is_refused_by_name() {
    let dir = Dir::new();
    drop(dir.open().unwrap());
    let before = fs::read(dir.file()).unwrap();
    let refused = FileStore::open_at(&dir.0, &settings(8), here()).unwrap_err();
    assert!(refused.to_string().contains(settings(7).hostnqn.as_str()), "{refused}");
    assert_eq!(fs::read(dir.file()).unwrap(), before);
    let mut store = dir.open().unwrap();
    let other = settings(8);
    assert!(store.record(&LifeRecord { hostnqn: other.hostnqn, ..record(1) }, &[]).is_err());
}

#[test]
fn whatever_cannot_be_read_is_refused_and_left_alone() {
    let whole = golden();
    let text = std::str::from_utf8(whole).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let newer = format::write_header(&Header {
        format: FORMAT + 1,
        writer: "7.1.0".into(),
        hostnqn: settings(7).hostnqn.to_string(),
        hostid: settings(7).hostid.to_string(),
    });
    let bad_name = format::write_entry(&Entry::Clean(1)).replace("clean", "dirty");
    let sum = crc32c::crc32c(br#"{"dirty":1}"#);
    let unknown = format!("{{\"dirty\":1}} {sum:08x}\n");
    for (bytes, words) in [
        (String::from("a diary\n"), "not an Interlock state file"),
        (String::new(), "not an Interlock state file"),
        (format!("{newer}whatever"), "use version 7.1.0 or later"),
        (lines[0].replace("0.1.0", "0.1.1") + lines[1], "line 1: its checksum does not match"),
        (lines[0].to_owned() + &lines[1].replace("4420", "4421") + lines[2], "line 2: its checksum"),
        (lines[0].to_owned() + &bad_name + lines[2], "line 2: its checksum"),
        (lines[0].to_owned() + lines[1] + &unknown, "line 3: it is no entry"),
    ] {
        let dir = Dir::with(bytes.as_bytes());
        let refused = dir.open().unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(fs::read(dir.file()).unwrap(), bytes.as_bytes(), "left as it was");
    }
}

#[test]
fn a_file_cut_anywhere_holds_every_entry_before_the_cut() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    let mut ends = vec![store.bytes];
    for id in 1..=3 {
        store.record(&record(id), &sockets()).unwrap();
        ends.push(store.bytes);
    }
    let whole = fs::read(dir.file()).unwrap();
    drop(store);
    for cut in usize::try_from(ends[0]).unwrap()..=whole.len() {
        let answered = ends[1..].iter().filter(|end| **end <= cut as u64).count() as u64;
        let (_, lives) = format::read(&whole[..cut]).unwrap();
        assert_eq!(lives.keys().copied().collect::<Vec<_>>(), (1..=answered).collect::<Vec<_>>(), "cut at {cut}");
    }
    // A cut entry is gone for good: what comes after it stands behind a whole one.
    let dir = Dir::with(&whole[..whole.len() - 3]);
    dir.open().unwrap().record(&record(9), &[]).unwrap();
    assert_eq!(dir.found(), [1, 2, 9]);
    // The kernel may have made the file longer and not written into it.
    let mut zeros = whole.clone();
    zeros.extend([0; 100]);
    assert_eq!(Dir::with(&zeros).found(), [1, 2, 3]);
}

#[test]
fn a_failed_write_is_not_built_upon() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    store.record(&record(1), &[]).unwrap();
    // Half a line, as a full disk leaves it.
    store.file.write_all(b"{\"life\":{\"id\"").unwrap();
    store.torn = true;
    store.record(&record(2), &[]).unwrap();
    store.record(&record(3), &[]).unwrap();
    drop(store);
    assert_eq!(dir.found(), [1, 2, 3]);
}

#[test]
fn the_file_does_not_grow_without_end() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    store.record(&record(1), &[]).unwrap();
    let many = [sockets()[0]; 100];
    for id in 2..200 {
        store.record(&record(id), &many).unwrap();
        store.forget(LifeId(id)).unwrap();
    }
    assert!(fs::metadata(dir.file()).unwrap().len() <= COMPACT_AT + 8192);
    assert_eq!(fs::metadata(dir.file()).unwrap().len(), store.bytes);
    drop(store);
    assert_eq!(dir.found(), [1]);
}

/// Files that were written by earlier versions. They must be readable by every later one.
fn golden() -> &'static [u8] {
    include_bytes!("../../tests/golden/lives-3.txt")
}

fn golden_2() -> &'static [u8] {
    include_bytes!("../../tests/golden/lives-2.txt")
}

fn golden_1() -> &'static [u8] {
    include_bytes!("../../tests/golden/lives-1.txt")
}

#[test]
fn old_formats_are_read_and_the_present_one_is_written_as_ever() {
    let dir = Dir::new();
    let mut store = dir.open().unwrap();
    store.header.writer = "0.1.0".into();
    store.torn = true;
    store.record(&record(1), &sockets()).unwrap();
    store.record(&record(2), &[]).unwrap();
    store.mark_clean(LifeId(2)).unwrap();
    store.record(&record(3), &[]).unwrap();
    store.forget(LifeId(3)).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::copy(dir.file(), concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/lives-3.txt")).unwrap();
    }
    assert_eq!(std::str::from_utf8(&fs::read(dir.file()).unwrap()), std::str::from_utf8(golden()));
    for (file, numbered, has_disks) in [(golden_1(), false, false), (golden_2(), true, false), (golden(), true, true)] {
        let mut store = Dir::with(file).open().unwrap();
        let mut want = record(1);
        if !has_disks {
            want.disks.clear();
        }
        want.hold.proxy_delay = Duration::from_millis(2);
        let mut sockets = sockets().to_vec();
        if !numbered {
            sockets.iter_mut().for_each(|pair| pair.inode = 0);
        }
        assert_eq!(store.predecessors(), [Predecessor { record: want, sockets: OldSockets::Look(sockets) }]);
    }
}
