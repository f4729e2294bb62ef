//! The verbs: names, exit codes, sentences, JSON.

use crate::child::{NQN, fail, succeed};
use crate::scene::{Scene, wait_for};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn verbs_do_what_nvme_cli_users_expect() {
    let scene = Scene::new("verbs", &[]);
    assert_eq!(scene.does(&["list"]), "nothing is connected\n");
    assert_eq!(
        scene.connect(0, &["-o", "json"]),
        "{\n  \"format_version\": 1,\n  \"device\": \"nvme0\",\n  \"subsystem\": \"nvme-subsys0\",\n  \"live\": true\n}\n"
    );
    scene.connect(1, &[]);
    let port = scene.target.port(0);
    let again = ["connect", "-a", "127.0.0.1", "-s", &port, "-n", NQN];
    assert!(scene.fails(&again).starts_with("error: already connected: nvme0 is this port"));
    assert_eq!(scene.does(&[again.as_slice(), &["--idempotent"]].concat()), "connecting to device: nvme0\n");
    let nobody = scene.fails(&["connect", "-a", "127.0.0.1", "-s", "1", "-n", NQN]);
    assert!(nobody.contains("cannot connect to 127.0.0.1 port 1") && nobody.contains("Connection refused"), "{nobody}");
    assert_eq!(scene.status()["controllers"].as_array().expect("a list").len(), 2, "nothing is left of it");
    let tls = scene.fails(&[again.as_slice(), &["--tls"]].concat());
    assert!(tls.contains("not built yet"), "{tls}");

    let list: Value = serde_json::from_str(&scene.does(&["list", "-o", "json"])).expect("JSON");
    let subsystem = &list["Devices"][0]["Subsystems"][0];
    assert_eq!(subsystem["Namespaces"][0]["NameSpace"], "nvme0n1");
    assert_eq!(subsystem["Controllers"][1]["Paths"][0]["Path"], "nvme0c1n1");
    let tree: Value = serde_json::from_str(&scene.does(&["show-topology", "-o", "json"])).expect("JSON");
    let path = &tree[0]["Subsystems"][0]["Namespaces"][0]["Paths"][0];
    assert_eq!((&path["Path"], &path["ANAState"]), (&"nvme0c0n1".into(), &"optimized".into()));
    assert_eq!(path["Controller"][0]["AddressDetails"]["trsvcid"], *port);
    let subsys = scene.does(&["list-subsys"]);
    assert!(subsys.starts_with(&format!("nvme-subsys0 - NQN={NQN}\n")), "{subsys}");
    assert!(subsys.contains(&format!(" +- nvme0 tcp traddr=127.0.0.1,trsvcid={port} live\n")), "{subsys}");

    assert_eq!(
        scene.does(&["set", "nvme-subsys0", "--ctrl-loss-tmo=off", "--fast-io-fail-tmo", "7"]),
        "set nvme0\nset nvme1\n"
    );
    let set = &scene.status()["controllers"][1]["settings"];
    assert_eq!((&set["ctrl_loss_tmo_s"], &set["fast_io_fail_tmo_s"]), (&(-1).into(), &7.into()));
    assert!(scene.fails(&["set", "nvme0"]).starts_with("error: nothing is to be changed\nhint: "));
    assert_eq!(scene.does(&["reset", "nvme1"]), "reset nvme1\n");
    let status = scene.all_live(&["nvme0", "nvme1"]);
    assert_eq!(status["controllers"][1]["counters"]["reset_count"], 1);
    // A script that goes on after success must not find another host that still writes.
    assert!(scene.fails(&["fence", "--wait", "nvme0n1"]).contains("this host can still write to it"));
    for unknown in ["nvme0n9", "nvme7n1", "nqn.2014-08.org.example:never-seen:1"] {
        let told = scene.fails(&["fence", "--wait", unknown]);
        assert!(told.contains("there is no namespace `"), "{unknown}: {told}");
    }
    let fenced = scene.does(&["fence", "--wait", "nvme0n1", "--lost-only"]);
    assert!(fenced.starts_with("nvme0n1: every lost life is fenced; still connected, and able to write: "), "{fenced}");
    assert!(scene.fails(&["fence", "--accept-risk", "life99"]).contains("life99 is not waiting for a fence"));
    assert_eq!(scene.does(&["ns-rescan", "/dev/nvme1"]), "rescan nvme1\n", "as nvme-cli is told");
    assert!(scene.fails(&["ns-rescan", "nvme9"]).contains("`nvme9` is not connected"));
    assert!(scene.fails(&["reset", "nvme9"]).contains("`nvme9` is not connected\nhint: connected are: nvme0, nvme1"));
    assert!(scene.fails(&["export", "nvme7n1"]).contains("there is no namespace `nvme7n1`\nhint: there are: nvme0n1"));
    assert!(scene.fails(&["reset", "sda"]).contains("is not a valid device name"));

    let uri = scene.does(&["export", "nvme0n1", "--name", "disk 0", "--read-only"]);
    assert!(uri.starts_with("nbd+unix:///disk%200?socket="), "{uri}");
    assert!(scene.fails(&["export", "nvme0n1", "--name", "disk 0", "--read-only"]).contains("exported already"));
    scene.does(&["export", "nvme0n1", "--name", "disk 0", "--read-only", "--idempotent"]);
    assert_eq!(scene.does(&["unexport", "disk 0"]), "unexported disk 0\n");
    scene.does(&["unexport", "disk 0", "--idempotent"]);

    assert_eq!(scene.does(&["disconnect", "-d", "nvme0"]), "disconnected nvme0\n");
    assert!(scene.fails(&["disconnect", "-d", "nvme0"]).contains("not connected"));
    scene.does(&["disconnect", "-d", "nvme0", "--idempotent"]);
    assert_eq!(scene.connect(0, &[]), "connecting to device: nvme0\n", "the name comes back");
    assert_eq!(scene.does(&["disconnect", "-n", NQN]), format!("NQN:{NQN} disconnected 2 controller(s)\n"));
    let discovery = scene.target.discovery();
    let all = scene.does(&["connect-all", "-a", "127.0.0.1", "-s", &discovery]);
    assert!(all.starts_with(&format!("nvme0: {NQN} on 127.0.0.1 port {port}\nnvme1: ")), "{all}");
    assert_eq!(scene.does(&["disconnect-all"]), "disconnected nvme0\ndisconnected nvme1\n");
    let events = scene.daemon().log();
    assert!(events.contains("nvme1: connecting -> live: connected"), "{events}");
}

#[test]
fn without_a_daemon_it_is_said_how_to_start_one() {
    let said = fail(&["status", "--socket", "/nonexistent/c.sock"]);
    assert_eq!(
        said,
        "error: no daemon listens on /nonexistent/c.sock\n\
         hint: start it with `systemctl start interlock`, or in a terminal with `interlock daemon`\n\
         hint: if it listens elsewhere, say where with --socket\n"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeed(&["completion", shell]).contains("disconnect-all"), "{shell}");
    }
    assert!(succeed(&["man"]).contains(".TH interlock 1"));
}

#[test]
fn a_configuration_is_wanted_from_the_start_and_read_anew_at_sighup() {
    let mut scene = Scene::new("config", &[]);
    let file = scene.dir.join("interlock.toml");
    let connect = |port: usize, scene: &Scene| {
        format!("[[connect]]\ntraddr = \"127.0.0.1\"\ntrsvcid = {}\nsubnqn = \"{NQN}\"\n", scene.target.port(port))
    };
    let export = format!("[[export]]\nsubnqn = \"{NQN}\"\nnsid = 1\nname = \"disk0\"\n");
    std::fs::write(&file, connect(0, &scene) + &export).expect("a file");
    let path = file.display().to_string();
    assert_eq!(
        scene.does(&["config", "validate", &path, "--nvme-dir", "/nonexistent"]),
        "good: 1 connection(s), 0 discovery controller(s), 1 export(s)\n"
    );
    scene.stop(Signal::TERM);
    scene.start();
    let status = scene.all_live(&["nvme0"]);
    assert_eq!(status["exports"][0]["name"], "disk0");
    // More is begun, and what is taken out goes on.
    std::fs::write(&file, connect(1, &scene)).expect("a file");
    scene.daemon().signal(Signal::HUP);
    scene.all_live(&["nvme0", "nvme1"]);
    std::fs::write(&file, "[daemon]\nreactos = 1\n").expect("a file");
    scene.daemon().signal(Signal::HUP);
    wait_for("it is told", || scene.daemon().log().contains("nothing was changed: ").then_some(()));
    scene.all_live(&["nvme0", "nvme1"]);
    let refused = scene.fails(&["config", "validate", &path]);
    assert!(
        refused.contains("line 2: unknown field `reactos`") && refused.contains("did you mean `reactors`?"),
        "{refused}"
    );
}

#[test]
fn a_namespace_that_nothing_is_connected_to_is_fenced() {
    let scene = Scene::new("fenced", &[]);
    scene.connect(0, &[]);
    scene.all_live(&["nvme0"]);
    scene.does(&["disconnect", "-n", NQN]);
    let fenced = scene.does(&["fence", "--wait", "nvme0n1"]);
    assert_eq!(fenced, "nvme0n1: every lost life is fenced; this host cannot write to it any more\n");
    // One that is only being tried can write as soon as it is live.
    scene.tell(&["port", "close", "0"]);
    scene.connect(0, &["--keep-trying"]);
    assert!(scene.fails(&["fence", "--wait", "nvme0n1"]).contains("this host can still write to it"));
}

#[test]
fn a_program_gets_its_failures_as_json() {
    let scene = Scene::new("failures", &[]);
    let port = scene.target.port(0);
    scene.connect(0, &[]);
    let again = ["connect", "-a", "127.0.0.1", "-s", &port, "-n", NQN, "-o", "json"];
    let closed = ["connect", "-a", "127.0.0.1", "-s", "1", "-n", NQN, "-o", "json"];
    let nowhere = ["status", "--socket", "/nonexistent/x", "-o", "json"];
    for (args, kind) in [
        (&again[..], "already"),
        (&closed[..], "target"),
        (&["disconnect", "-n", "nqn.x", "-o", "json"][..], "not-found"),
        (&["explain", "999", "-o", "json"][..], "not-found"),
        (&["reset", "sda", "--output-format=json"][..], "bad-request"),
        (&["frobnicate", "-o", "json"][..], "bad-request"),
        (&nowhere[..], "no-daemon"),
    ] {
        let output = scene.verb(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let document: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|why| panic!("{args:?}: {why}: {text}"));
        assert_eq!(document["kind"], kind, "{args:?}: {document}");
        assert!(document["error"].as_str().is_some_and(|error| !error.is_empty()), "{document}");
    }
    assert!(scene.verb(&["reset", "sda"]).stdout.is_empty());
}

#[test]
fn one_address_written_in_several_ways_is_one_path() {
    let scene = Scene::new("address", &[]);
    let port = scene.target.port(0);
    scene.connect(0, &[]);
    for other in ["127.1", "::ffff:127.0.0.1", "0x7f.0.0.1", "[127.0.0.1]", " 127.0.0.1"] {
        let told = scene.fails(&["connect", "-a", other, "-s", &port, "-n", NQN]);
        assert!(told.contains("already connected: nvme0"), "{other}: {told}");
    }
    assert_eq!(scene.status()["controllers"].as_array().expect("a list").len(), 1);
    // A name that leads there is the same path; which addresses `localhost` has is up to the machine.
    let told = scene.verb(&["connect", "-a", "localhost", "-s", &port, "-n", NQN]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    let one_only = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).is_ok_and(|all| {
        let all: std::collections::BTreeSet<_> = all.collect();
        all.len() == 1
    });
    assert!(!one_only || text.contains("already connected: nvme0"), "{text}");
}

#[test]
fn discover_without_an_address_asks_everybody_who_is_configured() {
    let scene = Scene::new("discover", &[]);
    let nvme = scene.dir.join("nvme").display().to_string();
    let none = scene.dir.join("none.toml");
    std::fs::write(&none, "").expect("a file");
    let none = none.display().to_string();
    let asks = ["discover", "--nvme-dir", &nvme, "--config", &none];
    assert!(scene.fails(&asks).contains("no discovery controller is configured"));
    let port = scene.target.port(0);
    let lines = format!("-t tcp -a 127.0.0.1 -s {port}\n-t tcp -a 127.0.0.1 -s 1\n");
    std::fs::write(scene.dir.join("nvme/discovery.conf"), lines).expect("a file");
    let told = scene.verb(&["discover", "--nvme-dir", &nvme, "--config", &none, "-o", "json"]);
    assert_eq!(told.status.code(), Some(1));
    let whole: serde_json::Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!(whole["logs"][0]["trsvcid"].to_string(), port);
    assert_eq!(whole["problems"].as_array().expect("a list").len(), 1, "{whole}");
    assert!(whole["problems"][0].as_str().expect("text").contains("127.0.0.1 port 1: "), "{whole}");
}

#[test]
fn what_a_controller_states_of_itself_is_shown_under_the_names_of_nvme_cli() {
    let scene = Scene::new("identify", &["--serial", "S1", "--cqt", "700"]);
    scene.connect(0, &[]);
    scene.connect(1, &[]);
    for device in ["nvme1", "/dev/nvme0n1", "nvme-subsys0"] {
        let text = scene.does(&["id-ctrl", device]);
        assert!(text.starts_with("NVME Identify Controller:\nvid       : 0x"), "{text}");
        for line in ["sn        : S1\n", "mn        : Interlock target\n", "cqt       : 700\n", "nn        : "] {
            assert!(text.contains(line), "{device}: {line}: {text}");
        }
        assert!(text.contains(&format!("subnqn    : {NQN}\n")), "{text}");
    }
    let all: Value = serde_json::from_str(&scene.does(&["id-ctrl", "nvme0", "-o", "json"])).expect("JSON");
    assert_eq!((&all["sn"], &all["cqt"], &all["ccrl"]), (&"S1".into(), &700.into(), &4.into()), "{all}");
    assert!(all["cirn"].as_str().is_some_and(|cirn| cirn.starts_with("0x")), "{all}");
    assert!(scene.fails(&["id-ctrl", "nvme9"]).contains("no device `nvme9`\nhint: connected are: nvme0, nvme1"));
    // A look leaves nothing behind, and asks by the way of the controller that is named.
    assert_eq!(scene.status()["controllers"].as_array().map(Vec::len), Some(2));
    scene.tell(&["port", "close", "1"]);
    let told = scene.verb(&["id-ctrl", "nvme1", "-o", "json"]);
    let problem: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    assert_eq!((&problem["kind"], &problem["device"]), (&"target".into(), &"nvme1".into()), "{problem}");
    assert!(scene.does(&["doctor", "nvme0"]).contains(NQN));
    assert!(scene.fails(&["doctor", "nvme9"]).contains("no device `nvme9`"));
}
