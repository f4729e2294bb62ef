//! The states of a configured controller, and the one table of what may follow what.
//!
//! A state is a statement about the *path*; what is sent on which life is the business of the life. So a controller may
//! be connecting again while an earlier life of it is still being fenced.
//!
//! ```text
//!              +-----------------------------------------+
//!              v                                         |
//! new -> connecting -> live -> resetting ----------------+
//!          ^    |        |  \
//!          |    v        |   +-> deleting <- (any state before dead)
//!          +- waiting <--+          |
//!               |                   v
//!               +---------------> dead
//! ```

use crate::LifeId;
use core::fmt;

/// State of a configured controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted, nothing done.
    New,
    /// An attempt to begin a life is under way.
    Connecting {
        /// Counted from 1 since the loss, or since `connect`.
        attempt: u32,
        /// The life that is to be.
        life: LifeId,
    },
    /// Usable.
    Live {
        /// Its life.
        life: LifeId,
    },
    /// Drains its life, to begin a new one.
    Resetting {
        /// The life that ends.
        life: LifeId,
    },
    /// Waits for its next attempt.
    Waiting {
        /// Attempts made.
        attempt: u32,
    },
    /// Ends for good; its last life drains or is fenced.
    Deleting {
        /// The life that ends.
        life: Option<LifeId>,
    },
    /// Gone. Kept for its counters.
    Dead,
}

/// The name of a [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// See [`State::New`].
    New,
    /// See [`State::Connecting`].
    Connecting,
    /// See [`State::Live`].
    Live,
    /// See [`State::Resetting`].
    Resetting,
    /// See [`State::Waiting`].
    Waiting,
    /// See [`State::Deleting`].
    Deleting,
    /// See [`State::Dead`].
    Dead,
}

impl StateName {
    /// All, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::New, Self::Connecting, Self::Live, Self::Resetting, Self::Waiting, Self::Deleting, Self::Dead];

    /// The one table: may `to` follow `self`?
    #[must_use]
    pub const fn allows(self, to: Self) -> bool {
        use StateName::{Connecting, Dead, Deleting, Live, New, Resetting, Waiting};
        match self {
            New => matches!(to, Connecting | Deleting),
            Connecting => matches!(to, Live | Waiting | Deleting | Dead),
            Live => matches!(to, Connecting | Resetting | Waiting | Deleting | Dead),
            Resetting => matches!(to, Connecting | Waiting | Deleting | Dead),
            Waiting => matches!(to, Connecting | Deleting | Dead),
            Deleting => matches!(to, Dead),
            Dead => false,
        }
    }

    /// The word that Linux uses in sysfs `state`.
    #[must_use]
    pub const fn linux(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Connecting | Self::Waiting => "connecting",
            Self::Live => "live",
            Self::Resetting => "resetting",
            Self::Deleting => "deleting",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            other => other.linux(),
        })
    }
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::New => StateName::New,
            Self::Connecting { .. } => StateName::Connecting,
            Self::Live { .. } => StateName::Live,
            Self::Resetting { .. } => StateName::Resetting,
            Self::Waiting { .. } => StateName::Waiting,
            Self::Deleting { .. } => StateName::Deleting,
            Self::Dead => StateName::Dead,
        }
    }

    /// The life that is coming, there or going.
    #[must_use]
    pub const fn life(&self) -> Option<LifeId> {
        match self {
            Self::Connecting { life, .. } | Self::Live { life } | Self::Resetting { life } => Some(*life),
            Self::Deleting { life } => *life,
            Self::New | Self::Waiting { .. } | Self::Dead => None,
        }
    }

    /// True while paths of this controller exist or may come (back).
    #[must_use]
    pub const fn may_serve(&self) -> bool {
        !matches!(self, Self::Deleting { .. } | Self::Dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_pair_by_pair() {
        // Rows: from; columns: new connecting live resetting waiting deleting dead.
        let table = [
            (StateName::New, "-x---x-"),
            (StateName::Connecting, "--x-xxx"),
            (StateName::Live, "-x-xxxx"),
            (StateName::Resetting, "-x--xxx"),
            (StateName::Waiting, "-x---xx"),
            (StateName::Deleting, "------x"),
            (StateName::Dead, "-------"),
        ];
        for (from, row) in table {
            for (to, mark) in StateName::ALL.into_iter().zip(row.chars()) {
                assert_eq!(from.allows(to), mark == 'x', "{from} -> {to}");
            }
        }
    }

    #[test]
    fn states_are_named_as_linux_names_them() {
        assert_eq!(StateName::Waiting.linux(), "connecting");
        assert_eq!(State::Deleting { life: None }.name().linux(), "deleting");
    }
}
