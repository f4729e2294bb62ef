//! Hostile bytes, and conversations that are known by heart.
//!
//! Whoever can reach a port can send anything, and whoever answers a connect can answer anything. This crate says what
//! must hold then, once, as plain functions from bytes to nothing: [`TARGETS`]. `cargo fuzz` (the folder `fuzz/`) calls
//! them for hours, `cargo test` calls them with the corpus that those hours left behind.
//!
//! What every body checks, besides that nothing panics:
//! - [`memory`]: what was allocated stays under a named cap, whatever came;
//! - no wait without an end: after the last byte everything ends by deadlines alone;
//! - what is said in answer is legal itself, and bounded.
//!
//! The same rigs (real machines of both sides, without sockets and clocks) make the golden conversations.

pub mod golden;
mod input;
mod machines;
pub mod memory;
mod parsers;
pub mod pcap;
pub mod pdus;
pub mod peer;
pub mod rig;
pub mod trace;

/// A fuzz body and its name: of the fuzz target, and of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// Every fuzz body.
pub const TARGETS: &[Target] = &[
    ("pdu", parsers::pdu),
    ("commands", parsers::commands),
    ("identify", parsers::identify),
    ("logs", parsers::logs),
    ("discovery", parsers::discovery),
    ("names", parsers::names),
    ("lives_file", parsers::lives_file),
    ("proxy_frames", parsers::proxy_frames),
    ("nbd", parsers::nbd),
    ("record_file", parsers::record_file),
    ("config_files", parsers::config_files),
    ("requests", parsers::requests),
    ("answers", parsers::answers),
    ("target_file", parsers::target_file),
    ("target_channel", parsers::target_channel),
    ("target_machine", machines::target::body),
    ("host_machine", machines::host::body),
];

/// Runs the body `name` on `bytes`, and holds what it allocates against its cap.
///
/// # Panics
/// If there is no such body, or if what must hold does not.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("the name of a fuzz body");
    memory::capped(name, || body(bytes));
}
