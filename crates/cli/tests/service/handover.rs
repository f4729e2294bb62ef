//! Whether the other driver has let go of a subsystem.

use crate::child::NQN;
use crate::scene::Scene;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

#[test]
fn interlock_has_let_go_when_nothing_is_connected_and_nothing_lost_is_unfenced() {
    let mut scene = Scene::new("handover", &[]);
    let (state, nvme) = (scene.dir.join("state"), scene.dir.join("nvme"));
    let [state, nvme] = [&state, &nvme].map(|dir| dir.display().to_string());
    let ask = ["handover", "--from", "interlock", "-n", NQN, "--state-dir", &state, "--nvme-dir", &nvme];
    // A name with a slip must not look like one that is free.
    let unknown = scene.fails(&["handover", "--from", "interlock", "-n", "nqn.2014-08.org.example:slip"]);
    assert!(unknown.contains("nothing is known of it"), "{unknown}");
    scene.connect(0, &[]);
    let connected = scene.fails(&ask);
    assert!(
        connected.contains("is still connected: nvme0") && connected.contains("interlock disconnect"),
        "{connected}"
    );
    scene.does(&["disconnect", "-n", NQN]);
    let free: Value = serde_json::from_str(&scene.does(&[&ask[..], &["-o", "json"]].concat())).expect("JSON");
    assert_eq!((&free["by"], &free["from"]), (&"fenced".into(), &"interlock".into()), "{free}");
    // Without a daemon its record says it.
    scene.connect(0, &[]);
    scene.stop(Signal::KILL);
    let killed = scene.fails(&ask);
    assert!(killed.contains("what is not fenced: nvme0 at ") && killed.contains("start the daemon"), "{killed}");
    scene.start();
    scene.all_live(&["nvme0"]);
    scene.does(&["disconnect", "-n", NQN]);
    scene.stop(Signal::TERM);
    let free: Value = serde_json::from_str(&scene.does(&[&ask[..], &["-o", "json"]].concat())).expect("JSON");
    assert_eq!(free["by"], "record", "{free}");
    let mut slip = ask;
    slip[4] = "nqn.2014-08.org.example:slip";
    let unknown = scene.fails(&slip);
    assert!(unknown.contains("does not know nqn.2014-08.org.example:slip"), "{unknown}");
}

fn device(sys: &Path, class: &str, name: &str, files: &[(&str, &str)]) {
    let dir = sys.join("class").join(class).join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    files.iter().for_each(|(file, text)| std::fs::write(dir.join(file), text).expect("a file"));
}

#[test]
fn the_kernel_has_let_go_when_nothing_is_left_for_long_enough() {
    let scene = Scene::new("handover-kernel", &[]);
    let sys = scene.dir.join("sys");
    let shown = sys.display().to_string();
    let ask = ["handover", "--from", "kernel", "-n", NQN, "--sys", &shown, "--assumed-cqt", "100"];
    let nothing = scene.fails(&ask);
    assert!(nothing.contains("what the kernel's driver has is not known"), "{nothing}");
    std::fs::create_dir_all(sys.join("class")).expect("a directory");
    let absent = scene.fails(&ask);
    assert!(absent.contains("has no controller of") && absent.contains("--already-gone"), "{absent}");
    device(&sys, "nvme", "nvme0", &[("subsysnqn", NQN), ("state", "live"), ("kato", "1"), ("address", "traddr=h")]);
    device(&sys, "nvme-subsystem", "nvme-subsys0", &[("subsysnqn", NQN)]);
    let held = scene.fails(&[&ask[..], &["--timeout", "100"]].concat());
    assert!(held.contains("nvme0 (live, traddr=h), nvme-subsys0") && held.contains("nvme disconnect"), "{held}");
    // It goes away while somebody waits. Three times 1 s, the assumed time, and what a slow clock adds.
    let waits = {
        let mut all = ask.to_vec();
        all.extend(["-o", "json"]);
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| scene.does(&all));
            // A look of the other one is a process that sees it there: both have begun by then.
            scene.fails(&[&ask[..], &["--timeout", "300"]].concat());
            std::fs::remove_dir_all(sys.join("class/nvme")).expect("it is ours");
            std::fs::remove_dir_all(sys.join("class/nvme-subsystem")).expect("it is ours");
            wait.join().expect("it ends")
        })
    };
    let free: Value = serde_json::from_str(&waits).expect("JSON");
    assert!(free["waited_ms"].as_u64() >= Some(3_100) && free["kato_assumed"] == false, "{free}");
    // Afterwards nobody knows since when.
    let soon = scene.fails(&[&ask[..], &["--already-gone", "--timeout", "100"]].concat());
    assert!(soon.contains("may need ") && soon.contains("wait longer"), "{soon}");
}
