//! Versioned plain data: what Interlock tells programs.
//!
//! Scripts break when JSON changes shape between releases, so every shape that leaves the program is a type here, has
//! a golden file in the tests, and says its format version. The rules:
//!
//! - Keys and event names are `snake_case`, values are `kebab-case`. Keys are never renamed.
//! - All fields are always present; what is unknown or does not apply is `null` or an empty list.
//! - Units stand in the key: `_ms`, `_ns`, `_s`, `_bytes`. Instants count from the zero of the host's monotonic clock,
//!   except `unix_ms`.
//! - 64-bit identifiers that are not counts (CIRN) are strings of hexadecimal digits, because many JSON readers round
//!   large numbers.
//! - A new field or event does not change the version, so readers skip what they do not know. Anything else does, and
//!   a reader refuses a version that it was not made for ([`Version`]).
//!
//! The one thing here that is no data is the [`Client`] of the daemon's control socket. The crate depends on no other
//! crate of ours.

mod address;
mod basics;
mod client;
mod control;
mod counters;
mod doctor;
mod drill;
mod event;
mod receipt;
mod status;
mod story;

pub use address::{canonical_address, link_local, same_address};
pub use basics::{AnaState, Hex64, Life, PathAddress, Severity, StatusCode, Version};
#[doc(hidden)]
pub use client::fuzz_answer;
pub use client::{Client, ClientError, DEFAULT_SOCKET, escaped};
pub use control::{
    ConnectRequest, Connected, DiscoveryControllers, DiscoveryStatus, Done, Drained, ExportKind, ExportOnLoss,
    ExportRequest, ExportStatus, Exports, FencePolicy, Fenced, FlushScope, IoPolicy, OnLoss, Problem, ProblemKind,
    SetRequest, UnfencedKind, UnfencedLife,
};
pub use counters::{
    ControllerCounters, Counters, Durations, FenceCounters, HeadCounters, Histogram, HostCounters, IoCounters,
    PathCounters, SetCounter, SubsystemCounters,
};
pub use doctor::{
    AnaFacts, AnaGroup, CcrFacts, DoctorReport, Failure, Finding, KatoFacts, LiveController, LiveFacts, NamespaceFacts,
    PortFacts, Stage, Stall, SubsystemFacts,
};
pub use drill::{
    CcrUse, DrillReport, FastIoFail, FenceSummary, ForeignTarget, GhostCounts, LossDetection, Mark, PathLine, Point,
    Reach, ReasonKind, Recording, ScenarioResult, StaleBlock, StallTimes, TargetIdentity, Verdict, WriteRef,
};
pub use event::{
    CcrAnswer, ConnectFailure, ControllerState, Event, LateDecision, Level, Predicted, SuspectCommand, SuspectStage,
    What,
};
pub use receipt::{Detected, DetectedHow, KeptReceipt, Method, Receipt, Receipts, Source};
pub use status::{
    ControllerFacts, ControllerStatus, JournalStatus, LimitsStatus, LostPath, NamespaceStatus, PathStatus,
    SettingsStatus, Status, SubsystemStatus, TombstoneStatus, Totals, Unreachable, WaitKind, WaitStatus, WaitingName,
};
pub use story::{Failover, Failovers, Felt, Safety, StageName, Story, StoryStage, StoryState, Way};

/// `data` as indented JSON, without a final newline.
///
/// # Errors
/// If `data` has a map whose keys are not strings; no type of this crate has.
pub fn to_pretty(data: &impl serde::Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(data)
}

/// `data` as one line of JSON, without a final newline.
///
/// # Errors
/// As [`to_pretty`].
pub fn to_line(data: &impl serde::Serialize) -> serde_json::Result<String> {
    serde_json::to_string(data)
}
