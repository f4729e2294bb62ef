//! The event stream: every step of every failover, one JSON object per line.
//!
//! Nothing that a host does in an outage is silent. `seq` grows by one, so that a reader notices a loss.

use crate::basics::{AnaState, Life, PathAddress, StatusCode, Version};
use crate::receipt::{DetectedHow, Receipt, Source};
use serde::{Deserialize, Serialize};

/// The state of a controller: Linux' words, and `fencing`, which Linux has no word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControllerState {
    /// Never connected yet.
    New,
    /// In use.
    Live,
    /// Being torn down to be set up again.
    Resetting,
    /// Condemned; its fence is in progress.
    Fencing,
    /// Being set up.
    Connecting,
    /// Being removed.
    Deleting,
    /// Given up.
    Dead,
}

/// How a source answered a Cross-Controller Reset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum CcrAnswer {
    /// Done (IRS = 1).
    Immediate,
    /// Begun; its log page will say when it is done.
    Accepted,
    /// Already in progress for this life.
    InProgress,
    /// Not done.
    Refused {
        /// Why.
        status: StatusCode,
    },
    /// No answer: the source was lost.
    Lost,
}

/// What an answer that came after its life was condemned was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LateDecision {
    /// It is the command's answer; the command is not retried.
    Answered,
    /// The command had been released; the answer is dropped.
    Dropped,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// A controller went from one state to another.
    ControllerState {
        /// Before.
        from: ControllerState,
        /// Now.
        to: ControllerState,
        /// Why, in words.
        reason: String,
    },
    /// A controller is live: a new life began.
    Connected {
        /// The life.
        life: Life,
        /// Where.
        path: PathAddress,
        /// I/O queues in use.
        io_queues: u16,
        /// Keep Alive Timeout in force.
        kato_ms: u64,
    },
    /// Something looks wrong; nothing is given up yet.
    Suspect {
        /// The life.
        life: Life,
        /// Why.
        why: DetectedHow,
    },
    /// Commands are late but the controller is alive: it is avoided, not reset.
    Slow {
        /// The life.
        life: Life,
        /// The age of its oldest command.
        oldest_ms: u64,
    },
    /// Nothing more is sent on this life.
    Condemned {
        /// The life.
        life: Life,
        /// Why.
        why: DetectedHow,
        /// Commands held until the fence.
        in_doubt: u64,
        /// Commands that move on at once.
        settled: u64,
    },
    /// A Cross-Controller Reset was sent.
    CcrSent {
        /// The life to be reset.
        life: Life,
        /// Through whom.
        source: Source,
    },
    /// It was answered.
    CcrAnswered {
        /// The life to be reset.
        life: Life,
        /// Through whom.
        source: Source,
        /// How.
        #[serde(flatten)]
        answer: CcrAnswer,
    },
    /// An entry of the Cross-Controller Reset log page was ignored: it belongs to an earlier life.
    CcrStaleEntry {
        /// The life to be reset.
        life: Life,
        /// On whose log page.
        source: Source,
    },
    /// The hold by time began to run.
    HoldStarted {
        /// The life.
        life: Life,
        /// When it ends.
        deadline_ns: u64,
        /// What is assumed in place of a stated quiesce time; `null` if the target states one.
        assumed_cqt_ms: Option<u64>,
    },
    /// An answer came after its life was condemned.
    LateCompletion {
        /// The life.
        life: Life,
        /// What it was good for.
        decision: LateDecision,
    },
    /// A life can execute nothing more.
    Fenced {
        /// Why that is so.
        receipt: Box<Receipt>,
    },
    /// Commands that were held go on.
    Released {
        /// The life that they were sent on.
        life: Life,
        /// Retried on another path.
        retried: u64,
        /// Ended, because they may not be retried.
        ended: u64,
    },
    /// Commands were retried elsewhere without a fence (policy `legacy`).
    UnsafeFailover {
        /// The life that they were sent on.
        life: Life,
        /// How many.
        commands: u64,
    },
    /// A life ended unfenced; its ranges stay guarded.
    TombstoneLeft {
        /// The life.
        life: Life,
        /// Until when at the latest; `null` if only a fence ends it.
        deadline_ns: Option<u64>,
    },
    /// A tombstone is gone.
    TombstoneEnded {
        /// The life.
        life: Life,
        /// Why, in words.
        reason: String,
    },
    /// An attempt to reconnect begins.
    ReconnectAttempt {
        /// The first is 1.
        attempt: u64,
        /// The last that will be made; `null` if there is no last.
        max_attempts: Option<u64>,
    },
    /// It failed.
    ReconnectFailed {
        /// The first is 1.
        attempt: u64,
        /// Why, in words.
        error: String,
        /// When the next begins; `null` if there is none.
        next_ms: Option<u64>,
    },
    /// The state of an ANA group changed.
    AnaChange {
        /// The group.
        group: u32,
        /// Before; `null` if it was not known.
        from: Option<AnaState>,
        /// Now.
        to: AnaState,
    },
    /// A namespace has no usable path; its requests wait.
    NoUsablePath {
        /// The head, `nvme0n1`.
        namespace: String,
        /// When `fast_io_fail_tmo` fails them; `null` if it is off.
        fail_at_ns: Option<u64>,
    },
    /// It has one again.
    PathAvailable {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Requests that had waited.
        requeued: u64,
    },
    /// `fast_io_fail_tmo` has passed: settled requests fail.
    FastIoFail {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Requests failed.
        failed: u64,
        /// Requests in doubt, which wait for their fence.
        exempt: u64,
    },
    /// A namespace appeared.
    NamespaceAdded {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Namespace ID.
        nsid: u32,
    },
    /// A namespace is gone.
    NamespaceRemoved {
        /// The head, `nvme0n1`.
        namespace: String,
    },
    /// A path to a namespace is not used, because it does not lead to the same thing.
    PathRefused {
        /// The head, `nvme0n1`.
        namespace: String,
        /// What differs, in words.
        reason: String,
    },
    /// A controller sent an asynchronous event.
    AsyncEvent {
        /// Dword 0 of its completion.
        dw0: u32,
        /// In words.
        text: String,
    },
}

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// 1.
    pub format_version: Version<1>,
    /// Grows by one.
    pub seq: u64,
    /// When.
    pub at_ns: u64,
    /// Subsystem NQN; `null` if it concerns none.
    pub subsystem: Option<String>,
    /// The controller, `nvme0`; `null` if it concerns none.
    pub controller: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}
