//! A word of sysfs: one of those that are known, or whatever a kernel of another time says.

use interlock_api::{AnaState, ControllerState};
use serde::{Serialize, Serializer};
use std::fmt;

/// A set of words that is known.
pub trait Named: Copy + PartialEq + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// As it is written.
    fn name(self) -> &'static str;
}

impl Named for ControllerState {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

impl Named for AnaState {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

/// A known word, or another one as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Word<T> {
    /// One of those that are known.
    Known(T),
    /// Another one.
    Other(String),
}

impl<T: Named> Word<T> {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(word) => word.name(),
            Self::Other(text) => text,
        }
    }

    /// True if it is this one.
    #[must_use]
    pub fn is(&self, word: T) -> bool {
        *self == Self::Known(word)
    }
}

impl<T> Default for Word<T> {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl<T: Named> From<&str> for Word<T> {
    fn from(text: &str) -> Self {
        let known = T::ALL.iter().copied().find(|word| word.name() == text);
        known.map_or_else(|| Self::Other(text.to_owned()), Self::Known)
    }
}

impl<T: Named> From<T> for Word<T> {
    fn from(word: T) -> Self {
        Self::Known(word)
    }
}

impl<T: Named> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Named> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_said_before_is_kept_as_it_is() {
        let live: Word<ControllerState> = "live".into();
        assert!(live.is(ControllerState::Live) && live.as_str() == "live");
        let strange: Word<ControllerState> = "live and kicking".into();
        assert!(!strange.is(ControllerState::Live) && strange.to_string() == "live and kicking");
        assert_eq!(Word::<AnaState>::from("non-optimized"), Word::Known(AnaState::NonOptimized));
    }
}
