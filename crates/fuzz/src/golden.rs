//! Conversations of the real machines, known by heart.
//!
//! Each is one story: what the two sides say to each other when nothing, or one thing, goes wrong. Their text is kept in
//! `golden/` and compared; their bytes are dissected by a program that knows nothing of ours (`cargo xtask pcap`). A
//! change of the wire that nobody meant shows up here first.

mod stories;

use crate::rig::joint::Line;

/// A conversation.
#[derive(Clone, Copy)]
pub struct Story {
    /// Name of its files.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// What the dissector cannot be expected to take: a violation is part of the story.
    pub hostile: bool,
    tell: fn() -> Vec<Line>,
}

impl Story {
    /// Lets the machines talk. The same every time.
    #[must_use]
    pub fn tell(&self) -> Vec<Line> {
        (self.tell)()
    }
}

const fn story(name: &'static str, about: &'static str, tell: fn() -> Vec<Line>) -> Story {
    Story { name, about, hostile: false, tell }
}

const fn hostile(name: &'static str, about: &'static str, tell: fn() -> Vec<Line>) -> Story {
    Story { name, about, hostile: true, tell }
}

/// All of them.
pub const STORIES: &[Story] = &[
    story("connect", "an association comes up, and ends in order", stories::connect),
    story("discovery", "the discovery log is read", stories::discovery),
    story(
        "io-sizes",
        "in-capsule data, one R2T, several H2CData, C2HData, and commands without data",
        stories::io_sizes,
    ),
    story("digest-header", "header digests", stories::digest_header),
    story("digest-data", "data digests", stories::digest_data),
    story("digest-both", "both digests", stories::digest_both),
    story("keep-alive", "an idle association stays alive", stories::keep_alive),
    story("events", "ANA and a namespace change: events, and the logs they point to", stories::events),
    story("ccr-immediate", "a lost path is fenced through the other one, at once", stories::ccr_immediate),
    story(
        "ccr-pending",
        "a lost path is fenced by a reset that takes its time: an event, and the log",
        stories::ccr_pending,
    ),
    story("refused", "a Connect for a subsystem that is not there", stories::refused),
    story("io-errors", "statuses: beyond the end, and a lost ANA state", stories::io_errors),
    hostile("term-by-controller", "data that nobody asked for earns a C2HTermReq", stories::term_by_controller),
    hostile("term-by-host", "an R2T for an unknown command earns an H2CTermReq", stories::term_by_host),
    hostile(
        "header-digest-error",
        "a damaged header earns a C2HTermReq with the digest received",
        stories::header_digest_error,
    ),
];
