//! Trees recorded on a real Linux 7.3 host: both paths live, one port removed, the port back, both ports removed.

use interlock_observe::sysfs::Sysfs;
use interlock_observe::{Counter, CounterName, Rates, Snapshot, Source, SourceError, changes};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lays a recorded tree out as files. Lines are `path TAB mode TAB content`.
fn lay_out(record: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a place for the tree");
    for line in record.lines() {
        let [path, _, content] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else { panic!("not a record: {line}") };
        let place = root.path().join(path.trim_start_matches('/'));
        if path.ends_with('/') {
            fs::create_dir_all(&place).expect("a directory");
            continue;
        }
        fs::create_dir_all(place.parent().expect("not the root")).expect("a directory");
        if let Some(target) = content.strip_prefix("-> ") {
            symlink(target, &place).expect("a link");
        } else if content.starts_with('!') {
            // What fails to be read: a directory does, too.
            fs::create_dir(&place).expect("a directory");
        } else {
            fs::write(&place, content.replace("\\n", "\n")).expect("a file");
        }
    }
    root
}

fn record(name: &str) -> tempfile::TempDir {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/linux-7.3").join(name);
    lay_out(&fs::read_to_string(path).expect("the record is in the repository"))
}

fn sample(root: &Path) -> Snapshot {
    Sysfs::below(root).sample().expect("a tree")
}

fn sample_of(name: &str) -> Snapshot {
    sample(record(name).path())
}

#[test]
fn a_subsystem_with_two_paths() {
    let snapshot = sample_of("live.txt");
    let [subsystem] = &snapshot.subsystems[..] else { panic!("one subsystem: {snapshot:?}") };
    assert_eq!(subsystem.name, "nvme-subsys0");
    assert_eq!(subsystem.nqn, "nqn.2014-08.org.example:lab1");
    assert_eq!((subsystem.model.as_str(), subsystem.serial.as_str()), ("vm-lab disk", "LAB0000000000001"));
    assert_eq!(subsystem.iopolicy.as_deref(), Some("queue-depth"));
    let names: Vec<_> = subsystem.controllers.iter().map(|controller| controller.name.as_str()).collect();
    assert_eq!(names, ["nvme0", "nvme1"]);
    let first = &subsystem.controllers[0];
    assert!(first.is_live());
    assert_eq!(first.address, "traddr=127.0.0.1,trsvcid=4420,src_addr=127.0.0.1");
    assert_eq!((first.cntlid, first.kato_s, first.numa_node), (Some(1), Some(5), None));
    assert_eq!((first.ctrl_loss_tmo_s, first.fast_io_fail_tmo_s), (Some(600), None), "off is none");
    let heads: Vec<_> = subsystem.namespaces.iter().map(|head| (head.name.as_str(), head.nsid)).collect();
    assert_eq!(heads, [("nvme0n1", Some(1)), ("nvme0n2", Some(2))]);
    let head = &subsystem.namespaces[0];
    assert_eq!((head.size_bytes, head.block_bytes), (Some(524_288 * 512), Some(512)));
    assert_eq!(head.io.map(|io| io.reads), Some(9970));
    let paths: Vec<_> = head
        .paths
        .iter()
        .map(|path| {
            (path.name.as_str(), path.controller.as_str(), path.ana_state.as_ref().map(interlock_observe::Word::as_str))
        })
        .collect();
    assert_eq!(paths, [("nvme0c0n1", "nvme0", Some("optimized")), ("nvme0c1n1", "nvme1", Some("non-optimized"))]);
    assert_eq!(head.paths[0].counters.multipath_failover_count, Some(0));
    assert_eq!(head.counters.io_requeue_no_usable_path_count, Some(0));
}

#[test]
fn a_lost_path_is_told_as_a_story() {
    let changes = changes::between(&sample_of("live.txt"), &sample_of("path-down.txt"));
    let told: Vec<_> = changes.iter().map(|change| format!("{}: {}", change.device, change.what)).collect();
    assert_eq!(
        told,
        [
            "nvme0: live -> connecting",
            "nvme0: reset +1 (1 in all)",
            "nvme0c0n1: failover to another path +4 (4 in all)",
        ]
    );
    let back = changes::between(&sample_of("path-down.txt"), &sample_of("path-restored.txt"));
    assert!(back.iter().any(|change| change.what == "connecting -> live"), "{back:?}");
    assert!(back.iter().any(|change| change.what.starts_with("attempt to reconnect +")), "{back:?}");
    let gone = changes::between(&sample_of("path-restored.txt"), &sample_of("all-paths-down.txt"));
    let worst = gone.iter().max_by_key(|change| change.weight).expect("a change");
    assert_eq!(worst.what, "has no live controller: I/O waits or fails");
}

#[test]
fn rates_between_two_records() {
    let (before, now) = (sample_of("live.txt"), sample_of("path-down.txt"));
    let io = |snapshot: &Snapshot| snapshot.subsystems[0].namespaces[0].io.expect("a stat");
    let rates = Rates::between(Some(&io(&before)), &io(&now), Duration::from_secs(2));
    assert!((rates.read.iops - 1089.0).abs() < 1e-9, "{rates:?}");
    assert!((rates.write.iops - 1055.0).abs() < 1e-9, "{rates:?}");
}

#[test]
fn without_multipath_a_namespace_is_its_own_path() {
    let root = lay_out(
        "/sys/class/nvme-subsystem/nvme-subsys0/subsysnqn\t0\tnqn.x\\n\n\
         /sys/class/nvme-subsystem/nvme-subsys0/nvme0\t0\t-> ../../nvme/nvme0\n\
         /sys/class/nvme/nvme0/state\t0\tlive\\n\n\
         /sys/class/nvme/nvme0/transport\t0\tpcie\\n\n\
         /sys/class/nvme/nvme0/nvme0n1/nsid\t0\t1\\n\n\
         /sys/class/nvme/nvme0/nvme0n1/stat\t0\t1 0 8 1 2 0 16 2 0 3 3\\n\n\
         /sys/class/nvme/nvme0/nvme0n1/diag/command_retries_count\t0\t5\\n",
    );
    let snapshot = sample(root.path());
    let subsystem = &snapshot.subsystems[0];
    assert_eq!(subsystem.iopolicy, None);
    let head = &subsystem.namespaces[0];
    assert_eq!(
        head.counters.io_fail_no_available_path_count, None,
        "a namespace without a head has no head's counters"
    );
    assert_eq!((head.paths[0].name.as_str(), head.paths[0].counters.command_retries_count), ("nvme0n1", Some(5)));
    assert_eq!(head.io.map(|io| io.writes), Some(2));
}

#[test]
fn a_counter_is_reset_where_it_is_and_nowhere_else() {
    let root = record("path-down.txt");
    let mut source = Sysfs::below(root.path());
    let counter = |device: &str, name| Counter { device: device.to_owned(), name };
    source.reset(&counter("nvme0c0n1", CounterName::Failovers)).expect("a path's counter");
    source.reset(&counter("nvme0", CounterName::Resets)).expect("a controller's counter");
    source.reset(&counter("nvme0n1", CounterName::Requeued)).expect("a head's counter");
    let after = source.sample().expect("a tree");
    let mut expected = sample_of("path-down.txt");
    expected.at = after.at;
    expected.subsystems[0].controllers[0].counters.reset_count = Some(0);
    expected.subsystems[0].namespaces[0].paths[0].counters.multipath_failover_count = Some(0);
    // A plain file keeps the bytes behind those written; sysfs does not. One digit was there.
    assert_eq!(after, expected);
    for missing in [
        counter("nvme7", CounterName::Resets),
        counter("nvme0n1", CounterName::Resets),
        counter("../nvme0", CounterName::Resets),
    ] {
        assert!(matches!(source.reset(&missing), Err(SourceError::NoSuchCounter(_))), "{missing}");
    }
}

#[test]
fn a_machine_without_nvme_says_so() {
    let root = tempfile::tempdir().expect("an empty place");
    let error = Sysfs::below(root.path()).sample().expect_err("nothing is there");
    assert!(matches!(error, SourceError::NoNvme(_)));
    assert!(error.to_string().contains("modprobe nvme-tcp"), "{error}");
}

#[test]
fn what_vanishes_while_it_is_read_is_left_out() {
    let root = record("live.txt");
    fs::remove_dir_all(root.path().join("sys/devices/virtual/nvme-fabrics/ctl/nvme0")).expect("the tree is ours");
    let snapshot = sample(root.path());
    let subsystem = &snapshot.subsystems[0];
    assert_eq!(subsystem.controllers.len(), 1);
    assert!(subsystem.paths().all(|path| path.controller == "nvme1"));
}

/// A tree as exporters of metrics keep for their tests: copied without its links, so that three of four controllers stand
/// below their subsystem alone, and one in both places with different attributes. It has no NSIDs.
#[test]
fn a_tree_without_links_gives_the_numbers_that_other_exporters_give() {
    let mut record = String::new();
    let mut file = |path: &str, content: &str| record.push_str(&format!("/sys/class/{path}\t0\t{content}\n"));
    let subsystem = "nvme-subsystem/nvme-subsys0";
    for (name, value) in [("subsysnqn", "nqn.2014-08.org.example:array"), ("model", "Array"), ("serial", "A1")] {
        file(&format!("{subsystem}/{name}"), value);
    }
    file(&format!("{subsystem}/iopolicy"), "round-robin");
    file(&format!("{subsystem}/nvme0n1/"), "");
    for (number, state) in ["live", "live", "live", "dead"].into_iter().enumerate() {
        let controller = format!("{subsystem}/nvme{number}");
        file(&format!("{controller}/address"), &format!("nn-0x20000000000000a{number}:pn-0x10000000000000a{number}"));
        file(&format!("{controller}/state"), state);
        file(&format!("{controller}/transport"), "fc");
    }
    for (name, value) in [("cntlid", "1997\\n"), ("model", "Disk\\n"), ("state", "live\\n")] {
        file(&format!("nvme/nvme0/{name}"), value);
    }
    for (name, value) in
        [("ana_state", "optimized\\n"), ("size", "3906250000\\n"), ("queue/logical_block_size", "4096\\n")]
    {
        file(&format!("nvme/nvme0/nvme0n1/{name}"), value);
    }
    let snapshot = sample(lay_out(&record).path());
    let subsystem = &snapshot.subsystems[0];
    assert_eq!((subsystem.controllers.len(), subsystem.live()), (4, 3));
    let first = &subsystem.controllers[0];
    assert_eq!((first.cntlid, first.transport.as_str()), (Some(1997), "fc"), "from both places");
    let [head] = &subsystem.namespaces[..] else { panic!("one namespace: {:?}", subsystem.namespaces) };
    assert_eq!((head.name.as_str(), head.nsid, head.paths.len()), ("nvme0n1", None, 1));
    let text = interlock_observe::metrics::text(&snapshot);
    for line in [
        "interlock_subsystem_info{subsystem=\"nvme-subsys0\",nqn=\"nqn.2014-08.org.example:array\",model=\"Array\",serial=\"A1\",iopolicy=\"round-robin\"} 1",
        "interlock_subsystem_namespace_info{subsystem=\"nvme-subsys0\",device=\"nvme0n1\"} 1",
        "interlock_subsystem_paths{subsystem=\"nvme-subsys0\"} 4",
        "interlock_subsystem_paths_live{subsystem=\"nvme-subsys0\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let states = |value: &str| {
        let of = |line: &&str| line.starts_with("interlock_subsystem_path_state{") && line.ends_with(value);
        text.lines().filter(of).count()
    };
    assert_eq!((states(" 1"), states(" 0")), (4, 24), "one of seven words for each controller");
    assert!(text.contains("controller=\"nvme3\",transport=\"fc\",state=\"dead\"} 1"), "{text}");
}

/// A disk that is soldered in, with several namespaces and no multipath; and a disk with two ports.
#[test]
fn local_disks_are_found_with_their_namespaces_and_ports() {
    let mut record = String::new();
    let mut file = |path: &str, content: &str| record.push_str(&format!("/sys/{path}\t0\t{content}\n"));
    let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0";
    file("class/nvme-subsystem/nvme-subsys0", "-> ../../devices/virtual/nvme-subsystem/nvme-subsys0");
    file("class/nvme/nvme0", "-> ../../devices/platform/27.nvme/nvme/nvme0");
    // Names are padded with blanks and NULs.
    file(&format!("{subsystem}/subsysnqn"), "nqn.2014.08.org.nvmexpress:106b106b1    DISK\\n");
    file(&format!("{subsystem}/serial"), "0ba0      \\n");
    file(&format!("{subsystem}/nvme0"), "-> ../../../platform/27.nvme/nvme/nvme0");
    let controller = "devices/platform/27.nvme/nvme/nvme0";
    for (name, value) in [("state", "live\\n"), ("transport", "apple-nvme\\n"), ("address", "27.nvme\\n")] {
        file(&format!("{controller}/{name}"), value);
    }
    for (nsid, sectors) in [(1, "3908420240"), (2, "6144"), (3, "262144")] {
        file(&format!("{controller}/nvme0n{nsid}/nsid"), &format!("{nsid}\\n"));
        file(&format!("{controller}/nvme0n{nsid}/size"), &format!("{sectors}\\n"));
    }
    let snapshot = sample(lay_out(&record).path());
    let disk = &snapshot.subsystems[0];
    assert_eq!((disk.serial.as_str(), disk.iopolicy.as_deref()), ("0ba0", None));
    assert_eq!(disk.controllers.len(), 1);
    assert_eq!(
        (disk.controllers[0].transport.as_str(), disk.controllers[0].address.as_str()),
        ("apple-nvme", "27.nvme")
    );
    let found: Vec<_> = disk.namespaces.iter().map(|head| (head.name.as_str(), head.nsid, head.size_bytes)).collect();
    assert_eq!(
        found,
        [
            ("nvme0n1", Some(1), Some(2_001_111_162_880)),
            ("nvme0n2", Some(2), Some(3_145_728)),
            ("nvme0n3", Some(3), Some(134_217_728)),
        ]
    );
    assert!(interlock_observe::health::of(disk, None).is_empty(), "nobody expects a second path to it");
}
