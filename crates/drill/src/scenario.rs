//! The scenarios, as data.
//!
//! A scenario is what a person would tell in two sentences: what the target offers, what breaks, and what it does in
//! between. One runner plays all of them, so that no scenario can be "safe" by a shortcut of its own.

use std::time::Duration;

/// What the target offers a host that lost a path, and what it really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// Cross-Controller Reset.
    pub ccr: bool,
    /// Command Quiesce Time as reported, in milliseconds; 0: none is stated.
    pub cqt_ms: u16,
    /// How long a lost life really goes on after its loss was noticed, in milliseconds.
    pub quiesce_ms: u32,
}

/// A target that fences on request. Its quiesce time is long, so that a ghost that is stopped was stopped by the reset.
const WITH_CCR: Offers = Offers { ccr: true, cqt_ms: 4000, quiesce_ms: 4000 };

/// How paths lead to the subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Port A alone.
    One,
    /// Ports A and B.
    Two,
}

/// What Cross-Controller Reset looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Done when it is answered.
    Immediate,
    /// Accepted; done so many milliseconds later, as log page and event tell.
    Slow {
        /// Milliseconds.
        ms: u32,
        /// What is wrong with the telling.
        telling: Telling,
    },
}

/// How the end of a slow reset is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// By log page and event.
    Right,
    /// By log page only: the event is lost.
    EventLost,
    /// By log page and event; but the log has a finished entry for an earlier life of the same name already.
    StaleEntry,
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The connections of port A are reset; it goes on listening.
    Reset,
    /// Port A goes dead without a word: bytes flow neither way, nothing is closed.
    Silent,
    /// Every port is gone. Port A returns.
    LastPath {
        /// So long afterwards; `None`: when every write that was in doubt has its end.
        returns_after: Option<Duration>,
    },
}

/// One scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// In a sentence.
    pub summary: &'static str,
    /// What the target offers.
    pub offers: Offers,
    /// Ways to it.
    pub paths: Paths,
    /// What its resets look like.
    pub reset: Reset,
    /// What breaks.
    pub breaks: Break,
    /// Keep Alive Timeout to ask for.
    pub kato: Duration,
    /// The quiesce time that the host assumes where none is stated.
    pub assumed_cqt: Duration,
    /// `fast_io_fail_tmo`.
    pub fast_io_fail: Option<Duration>,
}

const BASE: Scenario = Scenario {
    name: "reset",
    summary: "path A is reset while the target holds writes back; CCR through B",
    offers: WITH_CCR,
    paths: Paths::Two,
    reset: Reset::Immediate,
    breaks: Break::Reset,
    kato: Duration::from_secs(5),
    assumed_cqt: Duration::from_secs(5),
    fast_io_fail: None,
};

/// All of them, in the order in which they run.
pub const SCENARIOS: [Scenario; 10] = [
    BASE,
    Scenario {
        name: "single-path",
        summary: "one path only, reset, port still there: reconnected as a new life, CCR through it",
        paths: Paths::One,
        ..BASE
    },
    Scenario {
        name: "silent",
        summary: "path A goes dead without a word; keep alive notices; CCR through B",
        breaks: Break::Silent,
        kato: Duration::from_secs(1),
        ..BASE
    },
    Scenario {
        name: "slow-fence",
        summary: "CCR is accepted and takes a while; log page and event tell its end",
        reset: Reset::Slow { ms: 400, telling: Telling::Right },
        ..BASE
    },
    Scenario {
        name: "slow-fence-event-lost",
        summary: "the same, and the event is lost",
        reset: Reset::Slow { ms: 400, telling: Telling::EventLost },
        ..BASE
    },
    Scenario {
        name: "slow-fence-stale-entry",
        summary: "the same, and the log has a stale entry of an earlier life",
        reset: Reset::Slow { ms: 400, telling: Telling::StaleEntry },
        ..BASE
    },
    Scenario {
        name: "no-ccr",
        summary: "the target offers CQT only: held by time",
        offers: Offers { ccr: false, cqt_ms: 1500, quiesce_ms: 1200 },
        kato: Duration::from_secs(1),
        ..BASE
    },
    Scenario {
        name: "neither",
        summary: "the target offers neither CCR nor CQT: held by an assumed time",
        offers: Offers { ccr: false, cqt_ms: 0, quiesce_ms: 800 },
        kato: Duration::from_secs(1),
        assumed_cqt: Duration::from_secs(1),
        ..BASE
    },
    Scenario {
        name: "last-path",
        summary: "both paths are lost and the ports are gone; I/O waits until one returns",
        breaks: Break::LastPath { returns_after: Some(Duration::from_millis(1500)) },
        ..BASE
    },
    Scenario {
        name: "last-path-fast-fail",
        summary: "the same with fast_io_fail_tmo: settled I/O fails in time, writes in doubt only after their fence",
        offers: Offers { ccr: true, cqt_ms: 2000, quiesce_ms: 1800 },
        breaks: Break::LastPath { returns_after: None },
        kato: Duration::from_secs(1),
        fast_io_fail: Some(Duration::from_secs(1)),
        ..BASE
    },
];

/// What a target offers that is not ours is its own affair.
const ITS_OWN: Offers = Offers { ccr: false, cqt_ms: 0, quiesce_ms: 0 };

/// Long enough that a host that does not fence has failed over and rewritten everything before the target itself ends
/// the lost life; a fence by time takes a multiple of it.
const FOREIGN_KATO: Duration = Duration::from_secs(5);

const FOREIGN_BASE: Scenario = Scenario {
    name: "foreign-reset",
    summary: "foreign target: path A is reset for the host while the network still carries writes; delivered later",
    offers: ITS_OWN,
    kato: FOREIGN_KATO,
    ..BASE
};

/// Those for a target that takes no script: the network between misbehaves. See [`crate::drill_foreign`].
pub const FOREIGN: [Scenario; 2] = [
    FOREIGN_BASE,
    Scenario {
        name: "foreign-silent",
        summary: "foreign target: path A goes dead without a word while the network still carries writes",
        breaks: Break::Silent,
        ..FOREIGN_BASE
    },
];

impl Scenario {
    /// The scenario for foreign targets of this name.
    #[must_use]
    pub fn foreign(name: &str) -> Option<&'static Self> {
        FOREIGN.iter().find(|scenario| scenario.name == name)
    }

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// True if a run without a fence must be caught: there is a second path for the retries to overtake on.
    #[must_use]
    pub fn must_be_caught(&self) -> bool {
        self.paths == Paths::Two
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for scenario in &SCENARIOS {
            assert_eq!(Scenario::named(scenario.name), Some(scenario));
            assert_eq!(Scenario::foreign(scenario.name), None);
        }
        for scenario in &FOREIGN {
            assert_eq!(Scenario::foreign(scenario.name), Some(scenario));
            assert_eq!(Scenario::named(scenario.name), None);
        }
        assert_eq!(Scenario::named("resett"), None);
    }

    #[test]
    fn no_target_promises_less_than_it_needs() {
        for Scenario { name, offers, assumed_cqt, .. } in SCENARIOS {
            let bound = if offers.cqt_ms == 0 { assumed_cqt.as_millis() } else { offers.cqt_ms.into() };
            assert!(u128::from(offers.quiesce_ms) <= bound, "{name}");
        }
    }
}
