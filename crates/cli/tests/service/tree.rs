//! The file tree, mounted by the real daemon and read by those who know `/sys`.

use crate::nbd::Client as Nbd;
use crate::scene::{Scene, Terminal, say, wait_for};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A scene whose daemon mounts its tree; `None`, said aloud, where FUSE cannot be used.
pub(crate) fn with_tree(name: &str) -> Option<(Scene, PathBuf)> {
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    if !usable || !rustix::process::geteuid().is_root() {
        say("SKIPPED: /dev/fuse cannot be used here");
        return None;
    }
    let mut scene = Scene::new(name, &[]);
    scene.stop(Signal::TERM);
    let root = scene.dir.join("tree");
    fs::write(scene.dir.join("interlock.toml"), format!("[daemon]\nsysfs = \"{}\"\n", root.display())).expect("a file");
    scene.start();
    Some((scene, root))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), i32> {
    let file = fs::OpenOptions::new().write(true).truncate(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| error.raw_os_error().unwrap_or_default())
}

const EINVAL: i32 = 22;

#[test]
fn a_tree_is_read_written_and_taken_away() {
    let Some((mut scene, root)) = with_tree("tree") else { return };
    let sys = root.join("sys");
    scene.connect(0, &["-c", "1", "-l", "600"]);
    scene.connect(1, &["-c", "1", "-l", "600"]);
    let ctrl = sys.join("class/nvme/nvme0");
    assert_eq!(wait_for("it is live", || fs::read_to_string(ctrl.join("state")).ok()), "live\n");
    assert_eq!(read(&ctrl.join("ctrl_loss_tmo")), "600\n");
    // Settings, as scripts write them.
    write(&ctrl.join("ctrl_loss_tmo"), "-1\n").expect("it may be set");
    assert_eq!(read(&ctrl.join("ctrl_loss_tmo")), "off\n");
    write(&ctrl.join("fast_io_fail_tmo"), "7\n").expect("it may be set");
    assert_eq!(read(&ctrl.join("fast_io_fail_tmo")), "7\n");
    let policy = sys.join("class/nvme-subsystem/nvme-subsys0/iopolicy");
    write(&policy, "queue-depth\n").expect("it may be set");
    assert_eq!(read(&policy), "queue-depth\n");
    assert_eq!(write(&policy, "best\n"), Err(EINVAL));
    assert_eq!(write(&ctrl.join("diag/reset_count"), "many\n"), Err(EINVAL));
    assert!(write(&ctrl.join("state"), "dead\n").is_err(), "it is for reading only");
    // Nobody makes or removes anything there; the errors are those of sysfs.
    let errno = |done: std::io::Result<()>| done.map_err(|error| error.raw_os_error().unwrap_or_default());
    assert_eq!(errno(fs::write(ctrl.join("new"), "")), Err(13));
    assert_eq!(errno(fs::create_dir(ctrl.join("new"))), Err(1));
    assert_eq!(errno(fs::remove_file(ctrl.join("state"))), Err(1));
    assert_eq!(errno(fs::rename(ctrl.join("state"), ctrl.join("new"))), Err(1));
    write(&ctrl.join("rescan_controller"), "1\n").expect("it may be looked at again");
    // A reset is counted, and set back.
    write(&ctrl.join("reset_controller"), "1\n").expect("it may be reset");
    wait_for("it is counted", || (read(&ctrl.join("diag/reset_count")) == "1\n").then_some(()));
    write(&ctrl.join("diag/reset_count"), "0\n").expect("it may be set");
    assert_eq!(read(&ctrl.join("reset_events")), "0\n", "the earlier name says the same");
    // The same files by their other names.
    let path = sys.join("block/nvme0c0n1");
    assert_eq!(read(&path.join("device/transport")), "tcp\n");
    assert_eq!(read(&path.join("ana_state")), "optimized\n");
    // `interlock top` takes it for a kernel's.
    scene.does(&["top", "--once", "--source", "sys", "--sysfs", &root.display().to_string()]);
    // Killed, it leaves a mount that nobody serves; the next daemon takes it away.
    scene.stop(Signal::KILL);
    assert!(fs::read_dir(&sys).is_err(), "nobody serves it");
    scene.start();
    wait_for("it is back", || (fs::read_to_string(ctrl.join("state")).ok()? == "live\n").then_some(()));
    write(&sys.join("class/nvme/nvme1/delete_controller"), "1\n").expect("it may be deleted");
    wait_for("it is gone", || (!sys.join("class/nvme/nvme1").exists()).then_some(()));
    // Also while somebody has a file of it open.
    let open = fs::File::open(ctrl.join("state")).expect("a file");
    let (code, log) = scene.stop(Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    drop(open);
    assert!(fs::read_dir(&root).expect("a directory").next().is_none(), "nothing is mounted any more");
}

/// nvme-cli 3: the one that `NVME_CLI` names, that of the lab's packages, or the installed one; `None`, said aloud, where
/// there is none.
pub(crate) fn nvme_cli(dir: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("NVME_CLI").map(PathBuf::from);
    let found = named.into_iter().chain(unpacked(dir)).chain(["nvme".into()]);
    let right = |program: &PathBuf| {
        let version = Command::new(program).arg("version").output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nvme version 3."))
    };
    let program = found.into_iter().find(right);
    if program.is_none() {
        say("SKIPPED: nvme-cli 3 is not here: `interop/lab build` fetches it, or NVME_CLI names it");
    }
    program
}

/// Unpacks it from the packages that the lab has fetched, with the libraries of its own release.
fn unpacked(dir: &Path) -> Option<PathBuf> {
    let archives = PathBuf::from(std::env::var_os("HOME")?).join(".cache/interlock-lab/apt/cache/archives");
    let root = dir.join("nvme-cli");
    for package in fs::read_dir(archives).ok()?.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = package.file_name()?.to_string_lossy().into_owned();
        let needed = [
            "nvme-cli_3",
            "libc6_",
            "libjson-c",
            "libkmod",
            "libnvme",
            "libssl",
            "libsystemd",
            "libcap2",
            "libzstd",
            "libuuid",
            "zlib",
        ];
        if needed.iter().any(|start| name.starts_with(start)) {
            Command::new("dpkg-deb").arg("-x").args([&package, &root]).status().ok()?;
        }
    }
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    let program = dir.join("nvme-cli.sh");
    let (loader, binary) = (lib.join("ld-linux-x86-64.so.2"), root.join("usr/sbin/nvme"));
    let script = "#!/bin/sh\nexec LOADER --library-path LIB BINARY \"$@\"\n"
        .replace("LOADER", &loader.display().to_string())
        .replace("LIB", &lib.display().to_string())
        .replace("BINARY", &binary.display().to_string());
    fs::write(&program, script).ok()?;
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).ok()?;
    Some(program)
}

#[test]
fn stock_nvme_cli_shows_our_paths() {
    let Some((mut scene, root)) = with_tree("nvme-cli") else { return };
    let Some(nvme) = nvme_cli(&scene.dir) else {
        scene.stop(Signal::TERM);
        return;
    };
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    wait_for("both are live", || scene.all_live(&["nvme0", "nvme1"]).as_object().map(|_| ()));
    let option = format!("test-sysfs-dir={}", root.display());
    let says = |args: &[&str]| {
        let output = Command::new(&nvme).args(args).args(["--set-options", &option]).output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = says(&["list-subsys"]);
    assert!(text.contains("nvme-subsys0") && text.contains(crate::child::NQN), "{text}");
    assert!(text.contains("nvme0 tcp 127.0.0.1 live"), "{text}");
    let text = says(&["show-topology"]);
    assert!(text.contains("nvme-subsys0") && text.contains("ns 1") && text.contains("optimized"), "{text}");
    // `nvme top` needs a terminal: `script` gives it one. The first frame has no rates; a later one has.
    if !Path::new("/usr/bin/script").exists() {
        scene.stop(Signal::TERM);
        return say("SKIPPED: `script` is not installed: no terminal for nvme top");
    }
    let mut top = Terminal::open(&format!("stty rows 40 cols 160; {} top --set-options {option}", nvme.display()));
    let (_keys, mut screen) = top.ends();
    let mut disk = Nbd::open(&scene.nbd(), "nvme0n1").expect("the export");
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    // A load beside it, until a frame shows what it does.
    let moving = |seen: &str| {
        seen.lines().filter(|line| line.contains("nvme-subsys0")).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.get(5).is_some_and(|read| *read != "0.00") && fields.get(6).is_some_and(|written| *written != "0.00")
        })
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                disk.write(0, &[7; 4096]).expect("written");
                disk.read(0, 4096).expect("read");
            }
        });
        let deadline = std::time::Instant::now() + crate::scene::PATIENCE;
        while !moving(&seen) && std::time::Instant::now() < deadline {
            match screen.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => seen.push_str(&String::from_utf8_lossy(&buffer[..read])),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    drop((screen, top));
    scene.stop(Signal::TERM);
    assert!(moving(&seen), "no rates in {seen}");
}
