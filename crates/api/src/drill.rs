//! The result of a drill.

use crate::basics::{PathAddress, StatusCode, Version};
use crate::event::Event;
use crate::receipt::{DetectedHow, Method, Receipt};
use serde::{Deserialize, Serialize};

/// What a scenario showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It could have gone wrong and did not.
    Safe,
    /// The same, under an assumption about the target that nobody proved.
    SafeIf,
    /// It shows nothing.
    Inconclusive,
    /// Stale data, or another broken promise, was found.
    Unsafe,
}

/// Why a scenario shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReasonKind {
    /// Too few writes were in doubt.
    TooFewInDoubt,
    /// The target held no write when the fence began.
    NothingHeld,
    /// After the fence the target tried to execute nothing.
    NothingStopped,
    /// Held writes were neither executed nor stopped before the blocks were read back.
    GhostsUndecided,
    /// Not every block could be read back.
    ReadBackIncomplete,
    /// The run had no fence, and nothing stale was found.
    NotCaught,
    /// What `--require` asks for did not happen.
    RequirementUnmet,
    /// A step did not succeed, or did not end in time.
    StepFailed,
}

/// How the loss was noticed, and how long after it happened.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossDetection {
    /// How.
    pub how: DetectedHow,
    /// How long after the fault was injected.
    pub ms: f64,
}

/// What became of Cross-Controller Reset in a scenario.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum CcrUse {
    /// It proved the fence.
    Used {
        /// Commands sent.
        sent: u64,
    },
    /// Every command was answered with an error, and something else fenced.
    Refused {
        /// Commands sent.
        sent: u64,
        /// The last answer.
        status: StatusCode,
    },
    /// Commands were sent, and none that proved anything was answered in time.
    Unanswered {
        /// Commands sent.
        sent: u64,
    },
    /// The target does not offer it (CCRL 0).
    NotOffered,
    /// The target offers it, and it was not needed.
    NotSent,
}

/// The fence of a scenario in short; the receipts have the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FenceSummary {
    /// The method.
    pub method: Method,
    /// The controller that Cross-Controller Reset went through; `null` for methods without a source.
    pub source: Option<String>,
    /// How long commands were held.
    pub held_ms: u64,
}

/// The gaps in which no operation completed, as the application saw them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StallTimes {
    /// The longest.
    pub longest_ms: f64,
    /// The 99th percentile of the latency of all operations.
    pub p99_ms: f64,
}

/// Writes that the target held back, to execute them later if nobody stops it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GhostCounts {
    /// Held back.
    pub armed: u64,
    /// Tried after the fence and stopped.
    pub stopped: u64,
    /// Executed after the fence.
    pub executed: u64,
}

/// A write, as far as a report needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriteRef {
    /// The operation's number in its run.
    pub op: u64,
    /// Counts the changes of a block in the order in which they were generated.
    pub generation: u32,
}

/// A block that reads as something older than what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StaleBlock {
    /// The block.
    pub lba: u64,
    /// What is there; `null` if it is no write of ours (zeroes).
    pub found: Option<WriteRef>,
    /// What was answered and is gone.
    pub overwritten: WriteRef,
    /// The same in a sentence.
    pub text: String,
}

/// With `fast_io_fail_tmo`: when I/O without a path failed, against what was foretold. Times count from the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FastIoFail {
    /// `fast_io_fail_tmo`: when settled I/O was foretold to fail.
    pub foretold_ms: u64,
    /// When the last settled I/O failed.
    pub settled_ms: u64,
    /// When the last write in doubt ended.
    pub doubt_ms: u64,
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    /// Its name, as on the command line.
    pub name: String,
    /// What it showed.
    pub verdict: Verdict,
    /// The assumption of `safe-if`: the target quiesces within this time. `null` otherwise.
    pub assumed_ms: Option<u64>,
    /// Why it is inconclusive, in words; empty otherwise.
    pub reasons: Vec<String>,
    /// What kind each of them is, in the same order; empty in documents of earlier programs.
    #[serde(default)]
    pub reason_kinds: Vec<ReasonKind>,
    /// How the loss was noticed; `null` if it was not.
    pub detection: Option<LossDetection>,
    /// Writes sent on the lost path and unanswered.
    pub writes_in_doubt: u64,
    /// The fence; `null` if there was none.
    pub fence: Option<FenceSummary>,
    /// What became of Cross-Controller Reset; absent if the scenario did not come to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ccr: Option<CcrUse>,
    /// When I/O failed for want of a path; absent in scenarios without `fast_io_fail_tmo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_io_fail: Option<FastIoFail>,
    /// What the application felt.
    pub stall: StallTimes,
    /// Attempts to reconnect.
    pub reconnect_attempts: u64,
    /// What became of the held writes.
    pub ghosts: GhostCounts,
    /// Stale blocks found.
    pub stale: Vec<StaleBlock>,
    /// Other broken promises, each in a sentence.
    pub violations: Vec<String>,
    /// Whatever else a reader should know, in words.
    pub notes: Vec<String>,
    /// Every fence of the scenario.
    pub receipts: Vec<Receipt>,
    /// How far the verdict reaches; absent if the target was our own, which can be made to do everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// How it went; absent if it was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

/// What was done through one path until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// When, on the clock of the events.
    pub at_ns: u64,
    /// Operations answered well so far.
    pub ios: u64,
    /// Bytes moved by them.
    pub bytes: u64,
}

/// One path over time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathLine {
    /// Its controller, `nvme0`.
    pub controller: String,
    /// Where it is reached.
    pub path: PathAddress,
    /// In order of time.
    pub points: Vec<Point>,
}

/// Something that the drill did.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// When, on the clock of the events.
    pub at_ns: u64,
    /// In words.
    pub text: String,
}

/// A scenario as it went: enough to draw it, and to tell its story.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recording {
    /// When the path broke, on the clock of the events.
    pub broken_ns: u64,
    /// What the host told, from before its first connection.
    pub events: Vec<Event>,
    /// What went through each path.
    pub lines: Vec<PathLine>,
    /// What the drill did.
    pub marks: Vec<Mark>,
}

/// How far a verdict about a foreign target reaches: faults came from the network only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reach {
    /// What was put to the test.
    pub exercised: Vec<String>,
    /// What cannot be put to the test from outside the target.
    pub not_exercised: Vec<String>,
}

/// A target that is not our own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForeignTarget {
    /// Subsystem NQN.
    pub subsystem: String,
    /// Namespace.
    pub nsid: u32,
    /// The load used so many blocks, from the first on.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Where the paths lead, the one that breaks first.
    pub paths: Vec<PathAddress>,
    /// What its controller says of itself; absent if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identify: Option<TargetIdentity>,
}

/// What a controller says of itself, as far as a failover depends on it (Identify Controller, Get Features).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetIdentity {
    /// Model Number.
    pub model: String,
    /// Serial Number.
    pub serial: String,
    /// Firmware Revision.
    pub firmware: String,
    /// Version of the specification, as in `2.1.0`.
    pub version: String,
    /// Cross-Controller Reset Limit; `null`: not offered.
    pub ccrl: Option<u8>,
    /// Command Quiesce Time, in milliseconds; `null`: not stated.
    pub cqt_ms: Option<u64>,
    /// Keep Alive Timeout in force, in milliseconds; `null`: none, or not known.
    pub kato_ms: Option<u64>,
}

/// A whole drill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// 1.
    pub format_version: Version<1>,
    /// Version of this program; absent in documents of earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it ended, in milliseconds of Unix time; absent in documents of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix_ms: Option<u64>,
    /// Of the load: the same seed gives the same operations.
    pub seed: u64,
    /// What was drilled; absent if it was our own target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ForeignTarget>,
    /// In the order in which they ran.
    pub scenarios: Vec<ScenarioResult>,
    /// The worst of them.
    pub verdict: Verdict,
    /// 0: all safe; 1: something unsafe was found; 2: inconclusive. A drill that does not begin has no report, and exit code
    /// 3.
    pub exit_code: u8,
}
