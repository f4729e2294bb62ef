//! A flush that lost data is told to whoever looks, and is over when somebody says so by name.

use crate::child::NQN;
use crate::nbd::Client;
use crate::scene::{Scene, wait_for};
use serde_json::Value;

/// Write Fault, with Do Not Retry: once what is durable is asked for, it says that data was lost.
const WRITE_FAULT: &str = "kind=fail-io,port=0,status=0x4280";
const VERB: &str = "clear-flush-error";

/// Once writes fail, or succeed again.
fn wait_until_writes(client: &mut Client, succeed: bool) {
    wait_for("the fault is in force", || (client.write(4096, &[7; 4096]).is_ok() == succeed).then_some(()));
}

fn error(scene: &Scene) -> Value {
    scene.status()["namespaces"][0]["flush_error"].clone()
}

#[test]
fn a_flush_that_lost_data_is_told_and_cleared_by_name() {
    let scene = Scene::new("flush-error", &[]);
    scene.connect(0, &[]);
    scene.does(&["export", "nvme0n1"]);
    let mut client = Client::open(&scene.nbd(), "nvme0n1").expect("the export");
    client.write(4096, &[7; 4096]).expect("written");
    scene.tell(&["fault", WRITE_FAULT]);
    wait_until_writes(&mut client, false);
    assert_eq!(error(&scene), Value::Null, "a write that failed is its caller's to know");
    client.flush().expect_err("the target says that data was lost");
    scene.tell(&["fault", "kind=clear"]);
    wait_until_writes(&mut client, true);
    client.flush().expect_err("the target has forgotten it, the daemon has not");

    assert_eq!(error(&scene), "Write Fault (280h, do not retry)");
    let told = scene.does(&["status"]);
    let line =
        "A FLUSH FAILED (Write Fault (280h, do not retry)): none succeeds until `interlock clear-flush-error nvme0n1`";
    assert!(told.contains(line), "{told}");
    let judged = scene.verb(&["doctor"]);
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(said.contains("(flush-failed)") && said.contains("clear-flush-error nvme0n1"), "{said}");
    let unknown = scene.fails(&[VERB, "nvme0n9"]);
    assert!(unknown.contains("there is no namespace `nvme0n9`\nhint: there are: nvme0n1"), "{unknown}");
    client.flush().expect_err("nothing was cleared");

    assert_eq!(scene.does(&[VERB, "/dev/nvme0n1"]), "flushes may succeed again on nvme0n1\n");
    client.flush().expect("it is cleared");
    assert_eq!(error(&scene), Value::Null);
    assert!(!scene.does(&["status"]).contains("A FLUSH FAILED"));
    let log = scene.daemon().log();
    assert!(
        log.contains("nvme0n1: its flush error (Write Fault (280h, do not retry)) was cleared on request"),
        "{log}"
    );
}

#[test]
fn nothing_is_cleared_where_nothing_failed_or_nobody_is() {
    let scene = Scene::new("flush-clear", &[]);
    assert!(
        scene.fails(&[VERB, "nvme0n1"]).contains("there is no namespace `nvme0n1`\nhint: no namespace is connected")
    );
    scene.connect(0, &[]);
    let by_nqn = format!("{NQN}:1");
    for name in ["nvme0n1", by_nqn.as_str()] {
        let told = scene.fails(&[VERB, name]);
        assert_eq!(told, "error: no flush of nvme0n1 has failed: there is nothing to clear\n");
    }
    for unknown in ["nvme0n9", "nvme7n1", "nvme0", "nqn.2014-08.org.example:never-seen:1"] {
        let told = scene.fails(&[VERB, unknown]);
        assert!(told.contains(&format!("there is no namespace `{unknown}`")), "{told}");
    }
    assert!(scene.fails(&[VERB, "sda"]).contains("is not a valid device name"));
}
