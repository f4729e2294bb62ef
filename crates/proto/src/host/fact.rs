//! What is known of the things that a fence rests on, and on whose word.
//!
//! A hold that is too short and a namespace that is taken for another one lose data, and both begin with an answer that
//! was not given. So nothing falls back in silence: a controller *states* a thing, states that it does not offer it, or
//! the host *assumes* it and says so wherever it counts (receipt, `doctor`, verdict). What could not be read is none of
//! these: it is *unknown*, whoever needs it goes without what rests on it, and it is asked for again.
//!
//! [`Question::hear`] is the one place that says what the status of an answer means. Only "there is no such thing" is a
//! statement: NVM Express Base Specification, "Generic Command Status Definition", Invalid Command Opcode and Invalid
//! Field in Command. Whatever else went wrong went wrong this time.

use crate::DataError;
use alloc::string::String;
use core::fmt;
use interlock_wire::status::Status;

/// One thing that a fence rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fact<T> {
    /// The controller says so.
    Stated(T),
    /// The controller says that it offers no such thing.
    NotOffered,
    /// The controller does not say; this is reckoned with instead.
    Assumed(T, Assumption),
    /// It could not be read. No life begins with it.
    Unknown(Unread),
}

/// Why something is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assumption {
    /// The controller does not say which Keep Alive Timeout is in force: the one asked for, rounded up to its granularity.
    KeepAliveNotReported,
    /// The version of the controller is from before controllers named their subsystem: nothing shows that its page is whole,
    /// so what its zeroes deny is reckoned with where that is the safe side.
    PageNotShownWhole,
    /// The same: that it belongs to the subsystem that was asked for.
    SubsystemNotNamed,
}

/// How an answer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unread {
    /// The controller answered with this status.
    Status(Status),
    /// It answered with success, and its data is no good.
    Data(DataError),
    /// It answered with success, and what must stand at the end of its page does not.
    Incomplete,
}

impl<T> Fact<T> {
    /// What to reckon with; `None` where nothing is offered or known.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Stated(value) | Self::Assumed(value, _) => Some(value),
            Self::NotOffered | Self::Unknown(_) => None,
        }
    }

    /// Why it is assumed, if it is.
    pub const fn assumption(&self) -> Option<Assumption> {
        match self {
            Self::Assumed(_, why) => Some(*why),
            _ => None,
        }
    }

    /// The same of something made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Stated(value) => Fact::Stated(make(value)),
            Self::NotOffered => Fact::NotOffered,
            Self::Assumed(value, why) => Fact::Assumed(make(value), why),
            Self::Unknown(why) => Fact::Unknown(why),
        }
    }

    /// A field that says by `None` (0 on the wire) that the thing is not offered.
    pub fn of_field(value: Option<T>) -> Self {
        value.map_or(Self::NotOffered, Self::Stated)
    }

    /// The value, if the controller itself states it.
    pub const fn stated(&self) -> Option<&T> {
        match self {
            Self::Stated(value) => Some(value),
            Self::NotOffered | Self::Assumed(..) | Self::Unknown(_) => None,
        }
    }
}

impl Fact<String> {
    /// A field of text, as SN and MN: one that is blank states nothing, so it contradicts nothing and proves nothing.
    #[must_use]
    pub fn of_text(text: String) -> Self {
        if text.trim().is_empty() { Self::NotOffered } else { Self::Stated(text) }
    }
}

impl<T: Copy> Fact<T> {
    /// The value, or `or` where there is none.
    pub fn unwrap_or(self, or: T) -> T {
        self.value().copied().unwrap_or(or)
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAliveNotReported => {
                "the controller does not report its Keep Alive Timeout; the one asked for, rounded up to its granularity"
            }
            Self::PageNotShownWhole => {
                "the controller names no subsystem, so nothing shows that its Identify Controller page is whole"
            }
            Self::SubsystemNotNamed => "the controller names no subsystem; the one asked for",
        })
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the controller answered: {status}"),
            Self::Data(DataError::Digest) => f.write_str("the data digest of the answer does not match"),
            Self::Data(DataError::Short) => f.write_str("the controller reported success but moved less data"),
            Self::Incomplete => f.write_str("the controller reported success, and its page is empty or cut off"),
        }
    }
}

/// What is asked of a controller that may do without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Get Features, Keep Alive Timer: the KATO in force.
    KeepAliveTimeout,
    /// Set Features, Host Behavior Support: that this host honours retry delays.
    HostBehavior,
    /// Set Features, Asynchronous Event Configuration.
    AsyncEvents,
    /// Identify, CNS 03h: the identifiers of a namespace.
    Identifiers,
    /// Identify, CNS 08h: whether a namespace is ready.
    Readiness,
    /// Identify, CNS 00h: the geometry of a namespace.
    Geometry,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// It is one.
    Answer,
    /// The controller has no such thing.
    NotOffered,
    /// It could not be read.
    Unknown(Unread),
}

impl Heard {
    /// What the answer to a question means that every controller must answer.
    #[must_use]
    pub const fn mandatory(status: Status) -> Self {
        if status.is_success() { Self::Answer } else { Self::Unknown(Unread::Status(status)) }
    }
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::KeepAliveTimeout,
        Self::HostBehavior,
        Self::AsyncEvents,
        Self::Identifiers,
        Self::Readiness,
        Self::Geometry,
    ];

    /// What an answer with this status means; Do Not Retry and retry delays change nothing about that.
    #[must_use]
    pub const fn hear(self, status: Status) -> Heard {
        let absent = status.is(Status::INVALID_OPCODE) || status.is(Status::INVALID_FIELD);
        match self {
            _ if status.is_success() => Heard::Answer,
            // Nothing rests on it: a retry delay is honoured whether the controller knows that or not.
            Self::HostBehavior => Heard::NotOffered,
            // Optional by version or by transport, so a controller may have none.
            Self::KeepAliveTimeout | Self::Identifiers | Self::Readiness if absent => Heard::NotOffered,
            // The same; and events that cannot be changed cannot be switched on. Then logs are looked at by time.
            Self::AsyncEvents if absent || status.is(Status::FEATURE_NOT_CHANGEABLE) => Heard::NotOffered,
            // Every namespace has a geometry.
            _ => Heard::mandatory(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_not_offered() {
        // Columns: by question, as in `Question::ALL`. A: answer; n: not offered; u: unknown.
        let table = [
            (Status::SUCCESS, "AAAAAA"),
            (Status::INVALID_OPCODE, "nnnnnu"),
            (Status::INVALID_FIELD, "nnnnnu"),
            (Status::FEATURE_NOT_CHANGEABLE, "unnuuu"),
            (Status::INTERNAL_ERROR, "unuuuu"),
            (Status::INVALID_NAMESPACE, "unuuuu"),
            (Status::COMMAND_SEQUENCE_ERROR, "unuuuu"),
            (Status::ADMIN_MEDIA_NOT_READY, "unuuuu"),
            (Status::NAMESPACE_NOT_READY, "unuuuu"),
            (Status::COMMAND_INTERRUPTED, "unuuuu"),
            (Status::TRANSIENT_TRANSPORT_ERROR, "unuuuu"),
            (Status::ABORT_REQUESTED, "unuuuu"),
            (Status::INVALID_LOG_PAGE, "unuuuu"),
            (Status::ANA_TRANSITION, "unuuuu"),
            (Status::INTERNAL_PATH_ERROR, "unuuuu"),
            (Status::new(7, 0x42), "unuuuu"),
        ];
        for (status, row) in table {
            // What the controller says about retrying says nothing about what there is.
            for status in [status, Status(status.0 | Status::INTERNAL_ERROR.with_crd(2).0 & !0x7FF)] {
                for (question, expected) in Question::ALL.into_iter().zip(row.chars()) {
                    let heard = match question.hear(status) {
                        Heard::Answer => 'A',
                        Heard::NotOffered => 'n',
                        Heard::Unknown(Unread::Status(said)) => {
                            assert_eq!(said, status);
                            'u'
                        }
                        Heard::Unknown(Unread::Data(_) | Unread::Incomplete) => 'd',
                    };
                    assert_eq!(heard, expected, "{question:?}: {status}");
                }
            }
        }
        for question in Question::ALL {
            assert_eq!(
                question.hear(Status::INTERNAL_ERROR.with_dnr()) == Heard::NotOffered,
                question == Question::HostBehavior,
                "{question:?}: Do Not Retry is no statement"
            );
        }
        // Whatever the code: only those named above state anything.
        for code in 1..0x800u16 {
            let stated = [Status::INVALID_OPCODE, Status::INVALID_FIELD].iter().any(|status| status.code() == code);
            let heard = Question::Identifiers.hear(Status(code));
            assert_eq!(heard == Heard::NotOffered, stated, "{code:03x}h");
        }
    }

    #[test]
    fn a_fact_keeps_its_source_through_a_change_of_units() {
        let assumed: Fact<u32> = Fact::Assumed(3, Assumption::KeepAliveNotReported).map(|ms: u32| ms * 2);
        assert_eq!((assumed.unwrap_or(0), assumed.assumption()), (6, Some(Assumption::KeepAliveNotReported)));
        assert_eq!(Fact::of_field(None::<u8>), Fact::NotOffered);
        assert_eq!(Fact::<u8>::NotOffered.unwrap_or(9), 9);
        assert_eq!(
            (Fact::Stated(3).stated(), Fact::Assumed(3, Assumption::PageNotShownWhole).stated()),
            (Some(&3), None)
        );
        assert_eq!(Fact::of_text("S1".into()), Fact::Stated("S1".into()));
        assert_eq!((Fact::of_text("".into()), Fact::of_text("   ".into())), (Fact::NotOffered, Fact::NotOffered));
        let unknown: Fact<u8> = Fact::Unknown(Unread::Data(DataError::Short));
        assert_eq!((unknown.value(), unknown.assumption()), (None, None));
    }
}
