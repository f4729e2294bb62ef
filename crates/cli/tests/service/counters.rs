//! What is counted, as it is asked for: through the socket, and by `top`.

use crate::nbd::Client as Nbd;
use crate::scene::{Scene, wait_for};
use interlock_api::{Client, Counters, Done, SetCounter};
use serde_json::Value;
use std::time::Duration;

impl Scene {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.dir.join("c.sock"), Duration::from_secs(20))
    }

    fn counters(&self, monotonic: bool) -> Counters {
        self.client().get(&format!("/v1/counters?monotonic={monotonic}")).expect("counters")
    }

    fn set(&self, device: &str, counter: Option<&str>, value: u64) -> Result<Done, String> {
        let request = SetCounter { device: device.into(), counter: counter.map(str::to_owned), value };
        self.client().send("PATCH", "/v1/counters", &request).map_err(|error| error.to_string())
    }
}

#[test]
fn a_failover_is_counted_shown_reset_and_never_forgotten() {
    let scene = Scene::new("counters", &[]);
    scene.connect(0, &["-c", "1", "-l", "-1"]);
    scene.connect(1, &["-c", "1", "-l", "-1"]);
    scene.does(&["export", "nvme0n1"]);
    let mut disk = Nbd::open(&scene.nbd(), "nvme0n1").expect("the export");
    for block in 0..64 {
        disk.write(block * 4096, &[1; 4096]).expect("written");
        disk.read(block * 4096, 4096).expect("read");
    }
    disk.flush().expect("flushed");
    let counted = scene.counters(false);
    let head = &counted.heads["nvme0n1"].io;
    assert_eq!((head.reads, head.writes, head.flushes), (64, 64, 1));
    assert_eq!((head.read_bytes, head.written_bytes, head.in_flight), (64 * 4096, 64 * 4096, 0));
    assert_eq!((head.read_times.count(), head.write_times.count(), head.flush_times.count()), (64, 64, 1));
    let path = |counted: &Counters, name: &str| counted.paths[name].io.reads + counted.paths[name].io.writes;
    assert_eq!(path(&counted, "nvme0c0n1") + path(&counted, "nvme0c1n1"), 128, "what paths carried adds up");
    assert!(head.busy_us > 0 && head.read_us > 0, "{head:?}");
    // A path dies: the other carries on, and each attempt to come back is counted.
    scene.tell(&["port", "close", "0"]);
    let lost = wait_for("attempts to reconnect", || {
        disk.write(0, &[2; 4096]).expect("the client notices nothing");
        let counted = scene.counters(false);
        (counted.controllers["nvme0"].reconnect_count >= 2).then_some(counted)
    });
    assert_eq!(lost.controllers["nvme0"].reset_count, 1);
    assert_eq!(lost.paths["nvme0c0n1"].ana_state, Some(interlock_api::AnaState::Optimized), "what it was last");
    assert_eq!(lost.subsystems["nvme-subsys0"].reset_count, 1);
    assert_eq!(lost.host.fences.attempts, 1);
    // Set back in the middle of the outage: 0 at once, and what is scraped goes on.
    scene.set("nvme0", Some("reconnect_count"), 0).expect("done");
    scene.set("nvme0", Some("reset_count"), 40).expect("done");
    let (shown, scraped) = (scene.counters(false), scene.counters(true));
    let since = |counted: &Counters| counted.controllers["nvme0"].reconnect_count;
    assert!(since(&shown) <= since(&scraped) - 2, "{shown:?} {scraped:?}");
    assert_eq!((shown.controllers["nvme0"].reset_count, scraped.controllers["nvme0"].reset_count), (40, 1));
    assert!(scraped.subsystems["nvme-subsys0"].reconnect_count >= since(&lost));
    let refused = scene.set("nvme7", None, 0).expect_err("it is not there");
    assert_eq!(refused, "no device `nvme7`, or it has no counters");
    let refused = scene.set("nvme0", Some("luck"), 0).expect_err("it has none");
    assert_eq!(refused, "no device `nvme0`, or it has no counter `luck`");
    // `top` takes the daemon because it is there; the path that is away is still a path.
    let once: Value = serde_json::from_str(&scene.does(&["top", "--once", "-o", "json"])).expect("JSON");
    let subsystem = &once["subsystems"][0];
    assert_eq!(subsystem["controllers"][0]["counters"]["reset_count"], 40);
    assert_eq!(subsystem["controllers"][0]["state"], "connecting");
    assert_eq!(subsystem["namespaces"][0]["paths"].as_array().map(Vec::len), Some(2));
    let nothing = scene.verb(&["top", "--once", "--source", "sys", "--sysfs", &scene.dir.display().to_string()]);
    assert_eq!(nothing.status.code(), Some(1), "the kernel's are another matter");
    // What is gone is in the totals.
    let before = scene.counters(true).subsystems["nvme-subsys0"].clone();
    scene.does(&["disconnect", "-d", "nvme0"]);
    let after = scene.counters(false);
    assert!(!after.controllers.contains_key("nvme0") && !after.paths.contains_key("nvme0c0n1"));
    let after = &after.subsystems["nvme-subsys0"];
    assert!(after.reset_count >= before.reset_count && after.reconnect_count >= before.reconnect_count);
    assert!(after.multipath_failover_count >= before.multipath_failover_count, "{before:?} {after:?}");
}
