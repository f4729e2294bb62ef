//! The story of a failover: what a person asks after an outage, in the order in which it is asked.

use crate::basics::{PathAddress, Version};
use crate::receipt::{DetectedHow, Method, Receipt};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// What is known of the safety of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Safety {
    /// Nothing was in doubt: there was nothing to prove.
    NotNeeded,
    /// The target itself vouches for it.
    Proven,
    /// The fence is still awaited.
    Pending,
    /// It ended unfenced; what it may still write stays guarded.
    Guarded,
    /// An assumption about the target has run out: no proof.
    Assumed,
    /// Nothing was waited for, or somebody took the risk: no proof, and UNSAFE.
    Unsafe,
}

/// Whether the story has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoryState {
    /// Something is still waited for.
    Ongoing,
    /// Everything that was lost was fenced, and the controller is back or will not come back.
    Over,
    /// The daemon ended before: its successor has another story.
    Interrupted,
}

/// What happens in a stage of a failover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StageName {
    /// From the submission of the oldest command in doubt until the loss is noticed.
    Detect,
    /// Until every lane has said what is in doubt.
    Condemn,
    /// Until no byte can leave this host on the lost instance.
    Stop,
    /// A Cross-Controller Reset, from its command to its answer.
    Reset,
    /// The hold by time.
    Hold,
    /// The held commands go on.
    Release,
    /// Until the first attempt to reconnect.
    Wait,
    /// Attempts to reconnect.
    Reconnect,
    /// From the new instance to its first I/O that ended well.
    FirstIo,
}

impl StageName {
    /// Its word in JSON and on pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Condemn => "condemn",
            Self::Stop => "stop",
            Self::Reset => "reset",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Wait => "wait",
            Self::Reconnect => "reconnect",
            Self::FirstIo => "first-io",
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One stage of a failover. Times are milliseconds from the moment at which the loss was noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoryStage {
    /// Which.
    pub name: StageName,
    /// When it began; negative before the loss was noticed.
    pub from_ms: f64,
    /// How long it took; `null` if it is not over, or was not needed any more.
    pub ms: Option<f64>,
    /// What happened, in words.
    pub text: String,
}

/// A controller, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Way {
    /// Its name, `nvme1`.
    pub controller: String,
    /// Where; `null` if not known.
    pub path: Option<PathAddress>,
}

/// What the application felt, against what was foretold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Felt {
    /// The longest that a command waited; `null` if that is not known yet.
    pub longest_ms: Option<f64>,
    /// At most so long, as `doctor` says it beforehand for this kind of failure; `null` if nothing bounds it.
    pub foretold_ms: Option<u64>,
    /// True if it was within; `null` if one of both is not known.
    pub within: Option<bool>,
    /// What the number that was foretold is made of.
    pub because: String,
}

/// One failover: the end of one life of one controller, and what it took to go on safely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Story {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// The number of the event with which it began.
    pub id: u64,
    /// When, since 1970.
    pub unix_ms: u64,
    /// Subsystem NQN; `null` if not known.
    pub subsystem: Option<String>,
    /// What was lost.
    pub lost: Way,
    /// Its life, `life3`.
    pub life: String,
    /// Whether it is over.
    pub state: StoryState,
    /// How the loss was noticed.
    pub detected: DetectedHow,
    /// The same in words.
    pub reason: String,
    /// Commands that were sent and unanswered, and may take effect late; `null` if not known.
    pub in_doubt: Option<u64>,
    /// Commands that moved on at once; `null` if not known.
    pub settled: Option<u64>,
    /// Of those in doubt, so many were answered late and are not repeated.
    pub answered_late: u64,
    /// What is known of the safety of what was repeated.
    pub safety: Safety,
    /// By what; `null` if by nothing yet.
    pub method: Option<Method>,
    /// The controller through which it was reset; `null` if it was not.
    pub source: Option<Way>,
    /// The same in one sentence.
    pub verdict: String,
    /// What happened, in order of time.
    pub stages: Vec<StoryStage>,
    /// Where commands went: what was connected to the subsystem when they were let go.
    pub went_to: Vec<Way>,
    /// What the application felt.
    pub felt: Felt,
    /// Attempts to reconnect.
    pub reconnect_attempts: u64,
    /// What to know besides, in words.
    pub notes: Vec<String>,
    /// What to change so that the next one is shorter or safer; empty if nothing is.
    pub advice: Vec<String>,
    /// The receipt; `null` if there is none.
    pub receipt: Option<Receipt>,
}

/// A failover in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failover {
    /// The number of the event with which it began; `explain` takes it.
    pub id: u64,
    /// When, since 1970.
    pub unix_ms: u64,
    /// Subsystem NQN; `null` if not known.
    pub subsystem: Option<String>,
    /// What was lost.
    pub lost: Way,
    /// How the loss was noticed.
    pub detected: DetectedHow,
    /// Commands in doubt; `null` if not known.
    pub in_doubt: Option<u64>,
    /// What is known of the safety of what was repeated.
    pub safety: Safety,
    /// By what; `null` if by nothing yet.
    pub method: Option<Method>,
    /// The controller through which it was reset; `null` if it was not.
    pub source: Option<Way>,
    /// The longest that a command waited; `null` if that is not known.
    pub longest_ms: Option<f64>,
    /// Whether it is over.
    pub state: StoryState,
}

impl From<Story> for Failover {
    fn from(story: Story) -> Self {
        Self {
            id: story.id,
            unix_ms: story.unix_ms,
            subsystem: story.subsystem,
            lost: story.lost,
            detected: story.detected,
            in_doubt: story.in_doubt,
            safety: story.safety,
            method: story.method,
            source: story.source,
            longest_ms: story.felt.longest_ms,
            state: story.state,
        }
    }
}

/// Failovers, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Failovers {
    /// 1.
    #[schema(value_type = u32)]
    pub format_version: Version<1>,
    /// They.
    pub failovers: Vec<Failover>,
}
