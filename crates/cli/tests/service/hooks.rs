//! Told, and acted upon: devd lines, hooks, and the loop of the policy `notify` from end to end.

use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;

fn hooks_told(scene: &Scene) -> Vec<Value> {
    let text = scene.does(&["events", "--since", "0", "-o", "json"]);
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["event"] == "hook").collect()
}

fn configured(name: &str, toml: &str) -> Scene {
    let mut scene = Scene::new(name, &[]);
    scene.stop(Signal::TERM);
    std::fs::write(scene.dir.join("interlock.toml"), toml).expect("a file");
    scene.start();
    scene
}

#[test]
fn a_hook_reconnects_what_the_notify_policy_leaves_lost() {
    let interlock = env!("CARGO_BIN_EXE_interlock");
    let scene = configured(
        "notify",
        &format!(
            "[[hook]]\nname = \"reconnect\"\nmatch = {{ event = \"reconnect_wanted\", controller = \"nvme*\" }}\n\
             run = [\"{interlock}\", \"reconnect\", \"$controller\"]\nper_minute = 600\n"
        ),
    );
    let devd = UnixStream::connect(scene.dir.join("devd.pipe")).expect("a listener");
    scene.connect(0, &["--on-loss", "notify", "--reconnect-delay", "1"]);
    scene.tell(&["port", "close", "0"]);
    // The line of FreeBSD's devd, at once.
    let mut lines = BufReader::new(devd).lines().map(|line| line.expect("text"));
    let line = lines.find(|line| line.contains("type=RECONNECT ")).expect("it goes on");
    assert!(line.starts_with("!system=nvme subsystem=controller type=RECONNECT name=\"nvme0\" "), "{line}");
    // And the loop is closed by nobody but the hook, as soon as the port is there again.
    scene.tell(&["port", "open", "0"]);
    let done = wait_for("the hook", || hooks_told(&scene).into_iter().find(|hook| hook["exit_code"] == 0));
    assert_eq!(done["hook"], "reconnect");
    scene.all_live(&["nvme0"]);
    let story: Value = serde_json::from_str(&scene.does(&["explain", "-o", "json"])).expect("JSON");
    let stages: Vec<&str> =
        story["stages"].as_array().expect("a list").iter().map(|s| s["name"].as_str().expect("a name")).collect();
    assert!(stages.contains(&"wait") && stages.contains(&"reconnect"), "{stages:?}");
}

#[test]
fn a_hook_has_the_keys_a_limit_of_time_and_one_of_runs() {
    let said = std::env::temp_dir().join(format!("il-{}-said", std::process::id()));
    let path = said.display();
    let scene = configured(
        "limits",
        &format!(
            "[[hook]]\nname = \"env\"\nmatch = {{ event = \"connected\" }}\nrun = [\"/usr/bin/env\", \"sh\", \"-c\", \
             \"env > {path}\"]\n\
             [[hook]]\nname = \"slow\"\nmatch = {{ event = \"connected\" }}\nrun = [\"/usr/bin/env\", \"sleep\", \"600\"]\n\
             timeout_s = 1\n\
             [[hook]]\nname = \"often\"\nmatch = {{ event = \"controller_state\" }}\nrun = [\"/usr/bin/env\", \"true\"]\n\
             per_minute = 1\n\
             [[hook]]\nname = \"lacks\"\nmatch = {{ event = \"connected\" }}\nrun = [\"/usr/bin/env\", \"echo\", \"$nothing\"]\n"
        ),
    );
    scene.connect(0, &[]);
    let told = |name: &str, words: &str| {
        wait_for(words, || {
            hooks_told(&scene)
                .into_iter()
                .find(|hook| hook["hook"] == name && hook["text"].as_str().expect("text").contains(words))
        })
    };
    told("env", "done");
    let env = std::fs::read_to_string(&said).expect("it ran");
    for line in ["NVME_EVENT=connected", "NVME_CTRL=nvme0", "INTERLOCK_IO_QUEUES=1", "INTERLOCK_SOCKET="] {
        assert!(env.lines().any(|found| found.starts_with(line)), "{line}: {env}");
    }
    told("slow", "took longer than 1 s and was ended");
    told("often", "more than 1 runs in a minute: kept back");
    told("lacks", "not run: the event has no `nothing`");
    std::fs::remove_file(said).expect("our own");
}
