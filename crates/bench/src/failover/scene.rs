//! What is killed, and how.

use std::time::Duration;

/// How a path dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its connections are reset; the port goes on listening.
    Signalled,
    /// Bytes flow neither way and nothing is closed: only Keep Alive notices.
    Silent,
}

/// What is under way when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// So many requests in flight all the time, every second of them a read.
    Running(u32),
    /// So many writes that the target holds back, all of them on the path that dies.
    Held(u32),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) paths: usize,
    pub(crate) death: Death,
    pub(crate) traffic: Traffic,
    pub(crate) kato: Duration,
    /// Kills, unless said otherwise.
    pub(crate) kills: usize,
    /// What 99 of 100 stalls must not exceed: from the kill, or, where the death is silent, from its detection.
    pub(crate) goal: Duration,
}

const SIGNALLED: Scene = Scene {
    name: "signalled",
    paths: 2,
    death: Death::Signalled,
    traffic: Traffic::Running(32),
    kato: Duration::from_secs(5),
    kills: 1000,
    goal: Duration::from_millis(10),
};

const SILENT: Scene =
    Scene { name: "silent", death: Death::Silent, kato: Duration::from_secs(1), kills: 50, ..SIGNALLED };

/// All of them.
pub(crate) const SCENES: [Scene; 5] = [
    SIGNALLED,
    Scene { name: "signalled, 256 held", traffic: Traffic::Held(256), ..SIGNALLED },
    Scene { name: "single path", paths: 1, goal: Duration::from_millis(100), ..SIGNALLED },
    SILENT,
    Scene { name: "silent, 256 held", traffic: Traffic::Held(256), ..SILENT },
];
