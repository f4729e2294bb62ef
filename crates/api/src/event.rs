//! The event stream: every step of every failover, one JSON object per line.
//!
//! Nothing that a host does in an outage is silent. `seq` grows by one and goes on after restarts, so that a reader notices
//! a loss and a journal has an order. Whoever has a few of these lines can tell the story of a failover without asking
//! anybody: what is needed for that stands in them.

use crate::basics::{AnaState, Life, PathAddress, StatusCode, Version};
use crate::control::FencePolicy;
use crate::receipt::{DetectedHow, Method, Receipt};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The state of a controller: Linux' words, and `waiting`, which Linux counts as connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ControllerState {
    /// Never connected yet.
    New,
    /// In use.
    Live,
    /// Being torn down to be set up again.
    Resetting,
    /// Being set up.
    Connecting,
    /// Not being set up: the next attempt, or somebody who asks for one, is waited for.
    Waiting,
    /// Being removed.
    Deleting,
    /// Given up.
    Dead,
}

impl ControllerState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::New, Self::Live, Self::Resetting, Self::Connecting, Self::Waiting, Self::Deleting, Self::Dead];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Live => "live",
            Self::Resetting => "resetting",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Deleting => "deleting",
            Self::Dead => "dead",
        }
    }

    /// The state that Linux would show in sysfs: it has no `waiting`, such a controller is `connecting`.
    #[must_use]
    pub const fn as_linux(self) -> Self {
        match self {
            Self::Waiting => Self::Connecting,
            other => other,
        }
    }
}

impl fmt::Display for ControllerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What kind of failure an attempt to connect met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The name has no address, or could not be looked up.
    Name,
    /// No TCP connection could be made.
    Unreachable,
    /// A connection ended before the controller was ready.
    Lost,
    /// The peer broke the protocol, or says that this host did.
    Protocol,
    /// The target refuses, or answered a step with an error.
    Refused,
    /// A step had no answer within its limit.
    TimedOut,
    /// What the controller states cannot be used: too few queues, no Keep Alive, or it contradicts another one.
    Unsuitable,
    /// The record of the instance could not be written down.
    Record,
    /// One that this program is too old to know.
    #[serde(other)]
    Unknown,
}

/// How a source answered a Cross-Controller Reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CcrAnswer {
    /// Done (IRS = 1).
    Immediate,
    /// Begun; its log page will say when it is done.
    Accepted,
    /// Not done.
    Refused,
}

/// A command with which instances of controllers were lost, so that it is sent alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct SuspectCommand {
    /// Its name in the NVM Command Set, `Write Zeroes`.
    pub command: String,
    /// Its first block.
    pub first_lba: u64,
    /// Blocks; 0 for a Flush.
    pub blocks: u64,
    /// Instances that the target ended while it was outstanding on them.
    pub instances_lost: u64,
}

impl fmt::Display for SuspectCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} instances were lost with a {}", self.instances_lost, self.command)?;
        match self.blocks {
            0 => Ok(()),
            blocks => write!(f, " ({blocks} blocks from LBA {})", self.first_lba),
        }
    }
}

/// How far a command is with which instances were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuspectStage {
    /// It is not sent beside others any more.
    Suspected,
    /// It is sent alone.
    Alone,
    /// It was answered, or has ended otherwise.
    Cleared,
    /// Its turn alone showed nothing, and it waits for the next one.
    Waits,
    /// It fails: instances that carried it alone were lost, and others live.
    Failed,
}

/// What an answer that came after its life was condemned was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LateDecision {
    /// It is the command's answer; the command is not retried.
    Answered,
    /// The command had been released; the answer is dropped.
    Dropped,
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Somebody should look.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// What a loss of this life costs at most, as `doctor` would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Predicted {
    /// Until a path that is lost without a word is noticed; `null` if nothing bounds it.
    pub detect_ms: Option<u64>,
    /// From the loss noticed until no byte can leave this host any more.
    pub stop_ms: u64,
    /// From there until the life is over by time alone; `null` if no time ends it.
    pub hold_ms: Option<u64>,
    /// True if the hold rests on an assumption about the target.
    pub assumed: bool,
    /// An attempt to reconnect takes at most so long.
    pub reconnect_ms: u64,
    /// From the loss noticed until I/O that is not in doubt fails for want of a path; `null` if it waits.
    pub settled_fails_ms: Option<u64>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The daemon began: instants and lives of earlier events mean another process.
    Started {
        /// Its version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// A controller went from one state to another.
    ControllerState {
        /// Before.
        from: ControllerState,
        /// Now.
        to: ControllerState,
        /// Why, in words.
        reason: String,
    },
    /// A transition that may not be was asked for and refused.
    TransitionRefused {
        /// From.
        from: ControllerState,
        /// To.
        to: ControllerState,
    },
    /// A controller is live: a new life began.
    Connected {
        /// Its name for the target.
        identity: Life,
        /// Where.
        path: PathAddress,
        /// I/O queues in use.
        io_queues: u16,
        /// Keep Alive Timeout in force.
        kato_ms: u64,
        /// Command Quiesce Time that the target states; `null` if it states none.
        cqt_ms: Option<u64>,
        /// True if it can be reset through another controller.
        ccr: bool,
        /// When a command of it may be repeated elsewhere.
        fence: FencePolicy,
        /// What its loss would cost.
        predicted: Predicted,
    },
    /// A life was lost: nothing more is sent on it.
    Lost {
        /// How it was noticed.
        how: DetectedHow,
        /// The same in words.
        reason: String,
    },
    /// Commands are late but the controller is alive: it is avoided, not reset.
    Slow {
        /// The age of its oldest command.
        oldest_ms: u64,
    },
    /// A slow path has had no complaint for a while.
    NoLongerSlow,
    /// Every lane has stopped: this is known to be in doubt.
    Condemned {
        /// Commands held until the fence.
        in_doubt: u64,
        /// Commands that moved on at once.
        settled: u64,
        /// When the loss was noticed, the oldest of those in doubt had waited so long; `null` if there is none.
        oldest_ms: Option<u64>,
    },
    /// A lane has not confirmed a condemned life in time; its reactor hangs.
    LaneSilent {
        /// How many lanes.
        lanes: u64,
    },
    /// The path was lost with answered writes in a write cache of its own: the next flush fails once.
    CacheLost,
    /// Instances were lost while a command was outstanding on them, so that it is sent alone: what becomes of it.
    SuspectCommand {
        /// The namespace, `nvme0n1`.
        namespace: String,
        /// The command.
        suspect: SuspectCommand,
        /// How far it is.
        stage: SuspectStage,
    },
    /// A Cross-Controller Reset was sent.
    CcrSent {
        /// Through this controller, `nvme1`.
        source: String,
    },
    /// It was answered.
    CcrAnswered {
        /// Through this controller, `nvme1`.
        source: String,
        /// How.
        answer: CcrAnswer,
        /// Why it was refused; `null` otherwise.
        status: Option<StatusCode>,
    },
    /// A controller cannot reset this life: its log page still holds an entry of the same name.
    CcrStaleEntry {
        /// The controller, `nvme1`.
        source: String,
    },
    /// Nothing can leave this host any more; the hold by time runs.
    HoldStarted {
        /// From here on it counts.
        t0_ns: u64,
        /// How long; `null` if no time ends it.
        hold_ms: Option<u64>,
        /// True if it rests on an assumption about the target.
        assumed: bool,
    },
    /// An answer came after its life was condemned.
    LateCompletion {
        /// What it was good for.
        decision: LateDecision,
    },
    /// A life can execute nothing more, or its commands go on without that proof: the receipt says which.
    Fenced {
        /// Why they go on.
        receipt: Box<Receipt>,
    },
    /// No fence is needed: nothing is in doubt.
    NothingInDoubt {
        /// Commands that were answered late.
        answered_late: u64,
    },
    /// Commands that were held go on.
    Released {
        /// How many.
        commands: u64,
    },
    /// A life ended unfenced; its ranges stay guarded.
    TombstoneLeft {
        /// Commands in doubt.
        in_doubt: u64,
        /// It ends by itself after so long; `null` if only a fence ends it.
        left_ms: Option<u64>,
    },
    /// A tombstone is gone.
    TombstoneEnded {
        /// By what.
        method: Method,
    },
    /// An earlier process of this host left a life that is not fenced.
    PredecessorFound {
        /// Its name for the target.
        identity: Life,
    },
    /// Sockets of an earlier process still exist: time does not fence its life yet.
    PredecessorLingers,
    /// Whether this process is still this host is not known: what a fence would release waits.
    OwnerUnconfirmed,
    /// Another process may be this host: nothing that is held goes on, and this one ends.
    Disowned {
        /// Why, in words.
        reason: String,
    },
    /// A lost controller waits for somebody who reconnects it (policy `notify`).
    ReconnectWanted {
        /// Lost for so long.
        lost_for_ms: u64,
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
        /// What kind of failure it is; `null` in events of earlier versions.
        #[serde(default)]
        kind: Option<ConnectFailure>,
        /// Why, in words.
        error: String,
        /// When the next begins; `null` if there is none.
        next_ms: Option<u64>,
    },
    /// It succeeded.
    Reconnected {
        /// Attempts it took.
        attempt: u64,
        /// As many as were allowed; `null` if there was no last.
        max_attempts: Option<u64>,
        /// Since the loss.
        after_ms: u64,
    },
    /// The first I/O that ended well on a life.
    FirstGood,
    /// `fast_io_fail_tmo` has passed: settled requests without a path fail.
    FastIoFail,
    /// A controller was given up.
    GivenUp {
        /// Why, in words.
        reason: String,
    },
    /// A setting of a controller was changed.
    SettingChanged {
        /// What it is now, `ctrl_loss_tmo = 600 s`.
        setting: String,
    },
    /// A counter was set by somebody.
    CounterReset {
        /// Whose: `nvme0`, `nvme0c1n1`, `nvme0n1`.
        device: String,
        /// Its name, `reconnect_count`.
        counter: String,
        /// What it had been.
        from: u64,
        /// What it is now.
        to: u64,
    },
    /// The state of a path changed.
    AnaChange {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Now.
        to: AnaState,
    },
    /// A namespace appeared.
    NamespaceAdded {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Namespace ID.
        nsid: u32,
        /// Capacity.
        size_bytes: u64,
    },
    /// A namespace is gone.
    NamespaceRemoved {
        /// The head, `nvme0n1`.
        namespace: String,
    },
    /// A namespace has another size.
    NamespaceResized {
        /// The head, `nvme0n1`.
        namespace: String,
        /// Before.
        from_bytes: u64,
        /// Now.
        to_bytes: u64,
    },
    /// Commands failed because another host holds a reservation of the namespace. Once in 10 s for each namespace at most.
    ReservationConflict {
        /// The head, `nvme0n1`.
        namespace: String,
        /// What the controller answered.
        status: StatusCode,
        /// Commands since the last such event, this one included.
        commands: u64,
    },
    /// A path to a namespace is not used, because it does not lead to the same thing.
    PathRefused {
        /// Namespace ID.
        nsid: u32,
        /// What differs, in words.
        reason: String,
    },
    /// A hook was run, or was not.
    Hook {
        /// Its name in the configuration.
        hook: String,
        /// The event that it was run for.
        cause: u64,
        /// Its exit code; `null` if it was not started or was ended.
        exit_code: Option<i32>,
    },
    /// The daemon says something about itself: configuration, discovery, journal.
    Note {
        /// A stable word for what it is about, `reloaded`.
        topic: String,
    },
    /// The host ended in order.
    ShutDown,
    /// Something that this program is too old to know.
    #[serde(other)]
    Unknown,
}

impl What {
    /// Its name, as it stands in JSON under `event`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::ControllerState { .. } => "controller_state",
            Self::TransitionRefused { .. } => "transition_refused",
            Self::Connected { .. } => "connected",
            Self::Lost { .. } => "lost",
            Self::Slow { .. } => "slow",
            Self::NoLongerSlow => "no_longer_slow",
            Self::Condemned { .. } => "condemned",
            Self::LaneSilent { .. } => "lane_silent",
            Self::CacheLost => "cache_lost",
            Self::SuspectCommand { .. } => "suspect_command",
            Self::CcrSent { .. } => "ccr_sent",
            Self::CcrAnswered { .. } => "ccr_answered",
            Self::CcrStaleEntry { .. } => "ccr_stale_entry",
            Self::HoldStarted { .. } => "hold_started",
            Self::LateCompletion { .. } => "late_completion",
            Self::Fenced { .. } => "fenced",
            Self::NothingInDoubt { .. } => "nothing_in_doubt",
            Self::Released { .. } => "released",
            Self::TombstoneLeft { .. } => "tombstone_left",
            Self::TombstoneEnded { .. } => "tombstone_ended",
            Self::PredecessorFound { .. } => "predecessor_found",
            Self::PredecessorLingers => "predecessor_lingers",
            Self::OwnerUnconfirmed => "owner_unconfirmed",
            Self::Disowned { .. } => "disowned",
            Self::ReconnectWanted { .. } => "reconnect_wanted",
            Self::ReconnectAttempt { .. } => "reconnect_attempt",
            Self::ReconnectFailed { .. } => "reconnect_failed",
            Self::Reconnected { .. } => "reconnected",
            Self::FirstGood => "first_good",
            Self::FastIoFail => "fast_io_fail",
            Self::GivenUp { .. } => "given_up",
            Self::SettingChanged { .. } => "setting_changed",
            Self::CounterReset { .. } => "counter_reset",
            Self::AnaChange { .. } => "ana_change",
            Self::NamespaceAdded { .. } => "namespace_added",
            Self::NamespaceRemoved { .. } => "namespace_removed",
            Self::NamespaceResized { .. } => "namespace_resized",
            Self::ReservationConflict { .. } => "reservation_conflict",
            Self::PathRefused { .. } => "path_refused",
            Self::Hook { .. } => "hook",
            Self::Note { .. } => "note",
            Self::ShutDown => "shut_down",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Grows by one: a gap is a loss.
    pub seq: u64,
    /// When, on the monotonic clock of the machine.
    pub at_ns: u64,
    /// When, since 1970.
    pub unix_ms: u64,
    /// How loud.
    pub level: Level,
    /// Subsystem NQN; `null` if it concerns none.
    pub subsystem: Option<String>,
    /// The controller, `nvme0`; `null` if it concerns none.
    pub controller: Option<String>,
    /// Its life, `life3`, unique within one process; `null` if it concerns none.
    pub life: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// The same in words.
    pub text: String,
}
