use super::*;
use crate::{Controller, ControllerCounters, HeadCounters, Io, PathCounters, Recovery};
use std::collections::BTreeSet;

/// The subsystem of the recorded kernel, as it would be ours.
fn snapshot() -> Snapshot {
    let controller = |name: &str, cntlid| Controller {
        name: name.into(),
        transport: "tcp".into(),
        address: "traddr=127.0.0.1,trsvcid=4420".into(),
        state: "live".into(),
        cntlid: Some(cntlid),
        hostnqn: Some("nqn.2014-08.org.nvmexpress:uuid:a66a64e6-311c-39a9-64ab-f39eac750a08".into()),
        hostid: Some("a66a64e6-311c-39a9-64ab-f39eac750a08".into()),
        kato_s: Some(5),
        reconnect_delay_s: Some(10),
        ctrl_loss_tmo_s: Some(600),
        queues: Some(3),
        sqsize: Some(127),
        counters: ControllerCounters { command_error_count: Some(0), reset_count: Some(3), reconnect_count: Some(4) },
        recovery: Some(Box::new(Recovery {
            ciu: Some(7),
            cirn: Some(interlock_api::Hex64(0x1234)),
            cqt_ms: Some(500),
            ccrl: Some(4),
            ..Recovery::default()
        })),
        ..Controller::default()
    };
    let io = Some(Io { reads: 9379, read_bytes: 272_440 * 512, read_us: 47_166_000, in_flight: 1, ..Io::default() });
    let path = |controller: &str, nsid: u32| Path {
        name: format!("nvme0c{}n{nsid}", &controller[4..]),
        controller: controller.into(),
        ana_state: Some("optimized".into()),
        ana_group: Some(1),
        queue_depth: Some(1),
        io,
        counters: PathCounters {
            command_retries_count: Some(1),
            command_error_count: Some(2),
            multipath_failover_count: Some(9),
        },
        ..Path::default()
    };
    let head = |nsid: u32| Head {
        name: format!("nvme0n{nsid}"),
        nsid: Some(nsid),
        size_bytes: Some(524_288 * 512),
        block_bytes: Some(512),
        read_only: Some(false),
        uuid: Some(format!("0000000{nsid}-0000-4000-8000-00000000000{nsid}")),
        io,
        counters: HeadCounters { io_requeue_no_usable_path_count: Some(5), io_fail_no_available_path_count: Some(6) },
        paths: vec![path("nvme0", nsid), path("nvme1", nsid)],
        ..Head::default()
    };
    let subsystem = Subsystem {
        name: "nvme-subsys0".into(),
        nqn: "nqn.2014-08.org.example:lab1".into(),
        model: "vm-lab disk".into(),
        serial: "LAB0000000000001".into(),
        firmware: "7.3.4+de".into(),
        kind: "nvm".into(),
        iopolicy: Some("queue-depth".into()),
        controllers: vec![controller("nvme0", 1), controller("nvme1", 2)],
        namespaces: vec![head(1), head(2)],
        ..Subsystem::default()
    };
    Snapshot { subsystems: vec![subsystem], ..Snapshot::default() }
}

/// Everything below a path, with its node.
fn walk(tree: &Tree, path: &str, found: &mut BTreeMap<String, Node>) {
    for name in tree.list(path).unwrap_or_default() {
        let whole = if path.is_empty() { name } else { format!("{path}/{name}") };
        let node = tree.node(&whole).unwrap_or_else(|| panic!("{whole} is listed and is not there"));
        let deeper = node == Node::Directory;
        found.insert(whole.clone(), node);
        if deeper {
            walk(tree, &whole, found);
        }
    }
}

fn all(tree: &Tree) -> BTreeMap<String, Node> {
    let mut found = BTreeMap::new();
    walk(tree, "", &mut found);
    found
}

/// What Linux has and we have not, and why.
const NOT_OURS: &[(&str, &str)] = &[
    ("nvme-generic", "character devices: there is no device node"),
    ("ng*", "character devices: there is no device node"),
    ("power", "power management of a device of the kernel"),
    ("hwmon*", "a sensor of the kernel's hwmon class"),
    ("uevent", "netlink events: ours are `interlock events`"),
    ("dev", "a device number: there is no device node"),
    ("bdi", "write-back of the page cache"),
    ("mq", "hardware contexts of the kernel's block layer"),
    ("integrity", "protection information is not built"),
    ("trace", "blktrace"),
    ("holders", "stacking of block devices"),
    ("slaves", "stacking of block devices"),
    ("queue", "a limit or a switch of the kernel's block layer; block sizes are there"),
    ("alignment_offset", "of the kernel's block layer"),
    ("discard_alignment", "of the kernel's block layer"),
    ("capability", "of the kernel's block layer"),
    ("diskseq", "of the kernel's block layer"),
    ("events*", "media events of the kernel's block layer"),
    ("ext_range", "of the kernel's block layer"),
    ("range", "of the kernel's block layer"),
    ("removable", "of the kernel's block layer"),
    ("partscan", "partitions of the kernel's block layer"),
    ("passthru_err_log_enabled", "there is no passthrough"),
    ("delayed_removal_secs", "a head goes when its last controller does"),
    ("admin_timeout", "when a command is late is not a setting of ours"),
    ("io_timeout", "when a command is late is not a setting of ours"),
    ("dhchap*", "in-band authentication is not built"),
    ("quirks", "devices are taken as they are"),
];

/// `word` may end in `*`.
fn is_called(part: &str, word: &str) -> bool {
    word.strip_suffix('*').map_or(part == word, |start| part.starts_with(start))
}

#[test]
fn what_linux_has_is_there_or_has_its_reason() {
    let record = include_str!("../../tests/linux-7.3/tree.txt");
    let tree = Tree::of(snapshot());
    let mut used = BTreeSet::new();
    let mut same = 0;
    for line in record.lines() {
        let mut fields = line.split('\t');
        let path = fields.next().expect("a path").trim_start_matches('/');
        let mode = u32::from_str_radix(fields.next().expect("a mode"), 8).expect("octal");
        let content = fields.next().unwrap_or_default();
        let there = tree.node(path.trim_end_matches('/'));
        if let Some((part, _)) = NOT_OURS.iter().find(|(word, _)| path.split('/').any(|part| is_called(part, word)))
            && there.is_none()
        {
            used.insert(*part);
            continue;
        }
        match there.unwrap_or_else(|| panic!("{path} is not there, and nothing says why")) {
            Node::Directory => assert!(path.ends_with('/'), "{path} is a directory here"),
            Node::Link(to) => assert_eq!(format!("-> {to}"), content, "{path}"),
            Node::Attribute(ours) => {
                assert_eq!(u32::from(ours), mode & 0o777, "mode of {path}");
                let volatile =
                    ["stat", "inflight", "ana_", "queue_depth", "diag/", "address", "cntlid", "size", "nuse"];
                if mode & 0o444 != 0 && !volatile.iter().any(|word| path.contains(word)) {
                    let text = tree.read(path).map(|text| text.replace('\n', "\\n"));
                    assert_eq!(text.as_deref(), Some(content), "{path}");
                }
            }
        }
        same += 1;
    }
    assert!(same > 200, "only {same} of the kernel's files are here");
    let unused: Vec<_> = NOT_OURS.iter().filter(|(part, _)| !used.contains(part)).collect();
    assert!(unused.is_empty(), "a reason without a file: {unused:?}");
}

#[test]
fn every_link_leads_somewhere() {
    let tree = Tree::of(snapshot());
    for (path, node) in all(&tree) {
        let Node::Link(to) = node else { continue };
        let mut at: Vec<&str> = path.split('/').collect();
        at.pop();
        for part in to.split('/') {
            if part == ".." {
                at.pop().expect("it stays inside");
            } else {
                at.push(part);
            }
        }
        assert_eq!(tree.node(&at.join("/")), Some(Node::Directory), "{path} -> {to}");
    }
}

#[test]
fn counters_are_where_linux_has_them_and_nowhere_else() {
    let tree = Tree::of(snapshot());
    let ctrl = "sys/devices/virtual/nvme-fabrics/ctl/nvme0";
    let head = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    for (path, text) in [
        (format!("{ctrl}/diag/reset_count"), "3\n"),
        (format!("{ctrl}/reset_events"), "3\n"),
        (format!("{ctrl}/diag/reconnect_count"), "4\n"),
        (format!("{ctrl}/reconnect_events"), "4\n"),
        (format!("{ctrl}/ciu"), "7\n"),
        (format!("{ctrl}/cirn"), "0x0000000000001234\n"),
        (format!("{ctrl}/cqt"), "500\n"),
        (format!("{ctrl}/ccrl"), "4\n"),
        (format!("{ctrl}/sqsize"), "127\n"),
        (format!("{ctrl}/nvme0c0n1/ana_grpid"), "1\n"),
        (format!("{ctrl}/nvme0c0n1/numa_nodes"), ""),
        (format!("{ctrl}/nvme0c0n1/diag/command_retries_count"), "1\n"),
        (format!("{ctrl}/nvme0c0n1/diag/command_retry_count"), "1\n"),
        (format!("{ctrl}/nvme0c0n1/multipath_failover_count"), "9\n"),
        (format!("{head}/diag/io_requeue_no_usable_path_count"), "5\n"),
        (format!("{head}/diag/io_fail_no_available_path_count"), "6\n"),
    ] {
        assert_eq!(tree.read(&path).as_deref(), Some(text), "{path}");
    }
    for path in [
        format!("{head}/diag/multipath_failover_count"),
        format!("{ctrl}/nvme0c0n1/diag/io_requeue_no_usable_path_count"),
        format!("{ctrl}/reset_controller"),
        format!("{ctrl}/nonsense"),
    ] {
        assert_eq!(tree.read(&path), None, "{path}");
    }
    let of_pcie = {
        let mut snapshot = snapshot();
        snapshot.subsystems[0].controllers[0].counters.reconnect_count = None;
        Tree::of(snapshot)
    };
    assert_eq!(of_pcie.node(&format!("{ctrl}/diag/reconnect_count")), None, "fabrics only");
}

#[test]
fn what_is_written_becomes_an_order_or_is_invalid() {
    let tree = Tree::of(snapshot());
    let ctrl = "sys/devices/virtual/nvme-fabrics/ctl/nvme1";
    let count = |device: &str, name, value| Order::Count(Counter { device: device.into(), name }, value);
    for (file, text, order) in [
        ("diag/reset_count", "0\n", count("nvme1", CounterName::Resets, 0)),
        ("reconnect_events", "0x10\n", count("nvme1", CounterName::Reconnects, 16)),
        ("nvme0c1n2/diag/command_retry_count", "7", count("nvme0c1n2", CounterName::Retries, 7)),
        ("reconnect_delay", "3\n", Order::ReconnectDelay("nvme1".into(), 3)),
        ("ctrl_loss_tmo", "-1\n", Order::CtrlLossTmo("nvme1".into(), -1)),
        ("fast_io_fail_tmo", "5\n", Order::FastIoFailTmo("nvme1".into(), 5)),
        ("reset_controller", "1\n", Order::Reset("nvme1".into())),
        ("rescan_controller", "1\n", Order::Rescan("nvme1".into())),
        ("delete_controller", "1\n", Order::Delete("nvme1".into())),
    ] {
        assert_eq!(tree.write(&format!("{ctrl}/{file}"), text), Some(Ok(order)), "{file}");
    }
    for (file, text) in [("diag/reset_count", "many\n"), ("diag/reset_count", "\n"), ("ctrl_loss_tmo", "soon")] {
        assert_eq!(tree.write(&format!("{ctrl}/{file}"), text), Some(Err(Invalid)), "{file}");
    }
    assert_eq!(tree.write(&format!("{ctrl}/state"), "live"), None, "it is for reading only");
    let policy = "sys/devices/virtual/nvme-subsystem/nvme-subsys0/iopolicy";
    assert_eq!(tree.write(policy, "best"), Some(Err(Invalid)));
    assert_eq!(tree.write(policy, "numa\n"), Some(Ok(Order::IoPolicy("nvme-subsys0".into(), "numa".into()))));
}
