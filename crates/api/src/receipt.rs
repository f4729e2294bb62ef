//! The receipt of a fence: why a retry was allowed.
//!
//! After an outage the first question is whether the data is good. A receipt answers it for one life of one
//! controller: how it was proven dead, by whom, what was in doubt and how long that was held.

use crate::basics::{Life, PathAddress, Version};
use crate::event::SuspectCommand;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a life was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Cross-Controller Reset, done when its completion arrived (IRS = 1).
    Immediate,
    /// Cross-Controller Reset, done by an entry in the log page of the source.
    Log,
    /// A disable on a target known to drain before RDY = 0.
    DrainedDisable,
    /// The target's stated bound has passed: M x KATO + CQT.
    Time,
    /// The target states no bound: an assumed one has passed. No proof.
    Assumed,
    /// Nothing was waited for, as today's hosts do. No proof, and counted as unsafe.
    Legacy,
    /// Somebody said that it is over (`fence --accept-risk`). No proof, and counted as unsafe.
    AcceptedRisk,
}

impl Method {
    /// All, the best first.
    pub const ALL: [Self; 7] =
        [Self::Immediate, Self::Log, Self::DrainedDisable, Self::Time, Self::Assumed, Self::Legacy, Self::AcceptedRisk];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Log => "log",
            Self::DrainedDisable => "drained-disable",
            Self::Time => "time",
            Self::Assumed => "assumed",
            Self::Legacy => "legacy",
            Self::AcceptedRisk => "accepted-risk",
        }
    }

    /// False where something is assumed, or nothing was waited for.
    #[must_use]
    pub const fn is_proof(self) -> bool {
        !matches!(self, Self::Assumed | Self::Legacy | Self::AcceptedRisk)
    }
}

/// How a loss was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DetectedHow {
    /// The peer reset a connection.
    ConnectionReset,
    /// The peer closed a connection.
    ConnectionClosed,
    /// Bytes were unacknowledged for too long (`TCP_USER_TIMEOUT`) or another transport error.
    TransportError,
    /// A Keep Alive was not answered in time.
    KeepAlive,
    /// A command was not answered in time.
    CommandTimeout,
    /// The peer sent a termination request.
    TermRequest,
    /// The peer sent bytes that break the protocol, or a digest did not match.
    ProtocolError,
    /// An ANA group stayed in the Change state for twice ANATT.
    #[serde(alias = "controller-fatal")]
    AnaTransition,
    /// The operator ended it.
    Operator,
    /// An earlier process of this host left it.
    Predecessor,
}

/// The moment of detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Detected {
    /// How.
    pub how: DetectedHow,
    /// When.
    pub at_ms: u64,
}

/// The controller that a Cross-Controller Reset went through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Source {
    /// Its name, `nvme1`.
    pub controller: String,
    /// Its life.
    pub life: Life,
    /// Where it is reached.
    pub path: PathAddress,
}

/// One fence of one life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// Subsystem NQN.
    pub subsystem: String,
    /// The lost controller, `nvme0`.
    pub controller: String,
    /// The life that was fenced; no other is.
    pub life: Life,
    /// Where it was reached.
    pub path: PathAddress,
    /// How it was fenced.
    pub method: Method,
    /// Through whom; `null` for methods without a source.
    pub source: Option<Source>,
    /// How and when the loss was noticed.
    pub detected: Detected,
    /// Media-changing or stateful commands that were sent and unanswered.
    pub in_doubt: u64,
    /// Of those in doubt, the commands that the controller answered late, before the fence.
    #[serde(default)]
    pub answered_late: u64,
    /// Commands that had an end without a fence, or no late effect, and moved on at once.
    pub settled: u64,
    /// From the first command held to the release.
    pub held_ms: u64,
    /// When nothing more could leave this host for that life; the hold counts from here. `null` if the fence came
    /// first.
    pub t0_ms: Option<u64>,
    /// When the hold would have ended by time.
    pub deadline_ms: Option<u64>,
    /// When the fence was established.
    pub fenced_ms: u64,
    /// The same, by the wall clock, since 1970; `null` if not known.
    pub unix_ms: Option<u64>,
    /// Keep Alive Timeout in force.
    pub kato_ms: u64,
    /// Command Quiesce Time that the target states; `null` if it states none.
    pub cqt_ms: Option<u64>,
    /// What was assumed in its place; `null` if nothing was.
    pub assumed_cqt_ms: Option<u64>,
    /// The Keep Alive Timeout that was assumed because the target does not report the one in force; `null` if it does.
    #[serde(default)]
    pub assumed_kato_ms: Option<u64>,
    /// By how much longer than stated these times were reckoned because the target's clock may be slow, in thousandths.
    #[serde(default)]
    pub clock_slew_permille: u16,
    /// The command that it carried alone when it was lost, because others had been lost with it; `null` if it carried none so.
    #[serde(default)]
    pub suspect: Option<SuspectCommand>,
    /// What no other field says, in words.
    pub notes: Vec<String>,
}

/// A receipt under the number of the event that brought it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct KeptReceipt {
    /// The event's number.
    pub seq: u64,
    /// The receipt.
    pub receipt: Receipt,
}

/// Receipts that are kept, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Receipts {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// They.
    pub receipts: Vec<KeptReceipt>,
}
