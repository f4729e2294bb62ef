//! What is in the way of a connection is said in the same words by every command, with what to do.

use crate::child::NQN;
use crate::scene::{Scene, wait_for};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

/// A port that speaks TLS: whatever it hears is answered with an alert (RFC 8446, "Alert Protocol"), and then it waits, or ends
/// the connection.
fn tls_port(ends: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            // Each on a thread of its own; it ends when its peer does.
            thread::spawn(move || {
                let mut bytes = [0; 128];
                if stream.read(&mut bytes).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x46");
                    if !ends {
                        let _ = stream.read(&mut bytes);
                    }
                }
            });
        }
    });
    port
}

#[test]
fn a_target_that_demands_tls_is_told_the_same_way_by_every_command() {
    let scene = Scene::new("hints", &[]);
    let port = tls_port(false).to_string();
    let at = ["-a", "127.0.0.1", "-s", port.as_str()];
    let (what, hint) = ("the target demands TLS", "use a port of the target that does without");
    let with = |verb: &'static str, more: &[&'static str]| {
        let mut args = vec![verb];
        args.extend(at);
        args.extend(more);
        scene.fails(&args)
    };
    for said in
        [with("connect", &["-n", NQN]), with("connect-all", &[]), with("discover", &[]), with("doctor", &["-n", NQN])]
    {
        assert!(said.contains(what) && said.contains(hint), "{said}");
    }
    // Those that connect by themselves, without a daemon.
    let ending = tls_port(true);
    let (path, state) = (format!("tcp:127.0.0.1:{ending}"), scene.dir.join("io").display().to_string());
    let namespace = format!("nvme:127.0.0.1:{ending}/{NQN}");
    let io = ["io", "read", &namespace, "--length", "4096", "--state-dir", &state, "--nvme-dir", &state];
    let drill = ["drill", "foreign-reset", "--target", &path, "--target", &path, "--nqn", NQN];
    for (args, code) in [(&io[..], 1), (&drill[..], 3)] {
        let output = scene.verb(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(what) && said.contains(hint), "{said}");
    }
    let json = scene.verb(&["connect", "-a", "127.0.0.1", "-s", &port, "-n", NQN, "-o", "json"]);
    let document = String::from_utf8(json.stdout).expect("text");
    assert!(
        document.contains(what) && document.contains(hint) && document.contains("\"kind\": \"target\""),
        "{document}"
    );
    assert_eq!(scene.status()["controllers"].as_array().map(Vec::len), Some(0), "nothing is left behind");
}

/// The target knows no such subsystem, and says so with Do Not Retry.
#[test]
fn who_asks_to_keep_trying_is_not_stopped_by_do_not_retry() {
    let scene = Scene::new("dnr", &[]);
    let other = "nqn.2014-08.org.example:later";
    let port = scene.target.port(0);
    let connect = |more: &[&str]| {
        let mut args = vec!["connect", "-a", "127.0.0.1", "-s", &port, "-n", other, "-c", "1"];
        args.extend(more);
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let args = connect(&[]);
    let refused = scene.fails(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(refused.contains("`interlock discover` lists the subsystems"), "{refused}");
    let args = connect(&["--keep-trying"]);
    scene.does(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("it is tried again", || scene.daemon().log().contains("nvme0: connecting (attempt 3/").then_some(()));
    let ctrl = scene.status()["controllers"][0].clone();
    assert_eq!((&ctrl["state"], &ctrl["settings"]["ignore_dnr"]), (&"connecting".into(), &true.into()), "{ctrl}");
    assert!(!scene.daemon().log().contains("connecting -> waiting"), "two lines for an attempt are enough");
}
