//! Why there is no association, in words, and whether to try again.

use super::ana_log::AnaLogError;
use super::fact::Unread;
use crate::DataError;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;
use interlock_wire::fabrics::InvalidParameter;
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// Why there is no association. NVM Express Base Specification, "Connect Command - Status Values", for [`Self::status`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{step}: {why}")]
pub struct ConnectError {
    /// At which step, in words.
    pub step: &'static str,
    /// What went wrong, in words.
    pub why: String,
    /// The status, if the controller answered with one.
    pub status: Option<Status>,
    /// True if the same attempt would fail again: do not reconnect.
    pub permanent: bool,
    /// What to do about it.
    pub hint: &'static str,
}

impl ConnectError {
    fn new(step: &'static str, why: impl ToString, permanent: bool, hint: &'static str) -> Self {
        Self { step, why: why.to_string(), status: None, permanent, hint }
    }

    fn of_status(step: &'static str, status: Status) -> Self {
        let error = if status.is(Status::AUTHENTICATION_REQUIRED) {
            Self::authentication()
        } else {
            let hint = if status.dnr() { "the controller says that a retry cannot help" } else { "it may be retried" };
            Self::new(step, format!("the controller answered: {status}"), status.dnr(), hint)
        };
        Self { status: Some(status), ..error }
    }

    /// What the controller must say, or may leave out, could not be read. That is never final, whatever the status says of
    /// a retry: nothing was stated, and the next attempt meets another controller.
    pub(super) fn unread(step: &'static str, why: Unread) -> Self {
        let status = if let Unread::Status(status) = why { Some(status) } else { None };
        if status.is_some_and(|status| status.is(Status::AUTHENTICATION_REQUIRED)) {
            return Self { status, ..Self::authentication() };
        }
        let hint = match why {
            Unread::Status(_) => "it is asked again with the next attempt; if that goes on, look at the target's log",
            Unread::Data(DataError::Digest) => "check the network; it is asked again with the next attempt",
            Unread::Data(DataError::Short) | Unread::Incomplete => {
                "the target is faulty: report it to its vendor; it is asked again"
            }
        };
        Self { status, ..Self::new(step, why, false, hint) }
    }

    /// Two things that the target said cannot both be true. Not final: one of them may have been wrong once.
    pub(super) fn contradicts(step: &'static str, why: String) -> Self {
        Self::new(
            step,
            why,
            false,
            "two targets may answer here, or one is faulty; it is asked again with the next attempt",
        )
    }

    pub(super) fn authentication() -> Self {
        Self::new(
            "authentication",
            "the controller demands authentication, which this host does not support yet",
            true,
            "allow this host without authentication on the target",
        )
    }

    pub(super) fn not_ready(within: Duration) -> Self {
        Self::new(
            "waiting for the controller to become ready",
            format!("it was not ready within the {} ms it stated", within.as_millis()),
            false,
            "the target is busy or stuck; the next attempt gets a fresh controller",
        )
    }

    pub(super) fn fatal_status() -> Self {
        Self::new(
            "waiting for the controller to become ready",
            "the controller reports a fatal status (CSTS.CFS)",
            false,
            "look at the target's log; the next attempt gets a fresh controller",
        )
    }

    pub(super) fn incompatible(step: &'static str, why: &'static str, hint: &'static str) -> Self {
        Self::new(step, why, true, hint)
    }

    pub(super) fn ana(error: &AnaLogError) -> Self {
        Self::new("reading the ANA log", error, false, "the target is faulty: report it to its vendor")
    }
}

/// The refusal of a Connect command, whichever queue it was for.
#[must_use]
pub fn connect_refused(cqe: &Cqe) -> ConnectError {
    let status = cqe.status();
    let parameter = InvalidParameter::from_dw0(cqe.dw0.get());
    let named = |hint, permanent| ConnectError {
        status: Some(status),
        ..ConnectError::new("Connect", format!("the target answered: {status}"), permanent || status.dnr(), hint)
    };
    if status.is(Status::CONNECT_INVALID_PARAMETERS) {
        let hint = match parameter {
            InvalidParameter::SUBNQN => "no such subsystem on this port: compare the subsystem NQN with discovery",
            InvalidParameter::CNTLID => "the controller is gone: connect again",
            InvalidParameter::HOSTNQN | InvalidParameter::HOSTID => "the target does not accept this host identity",
            InvalidParameter::QID => "the target has no such I/O queue: ask for fewer",
            InvalidParameter::SQSIZE => "ask for a smaller queue",
            _ => "compare the subsystem NQN, and this host's NQN, with the target's configuration",
        };
        // Byte 0 of the command is its opcode, which is not to blame: such a target states nothing.
        let why = match parameter.field() {
            Some(field) => format!("the target refuses the {field}"),
            None if parameter.to_dw0() == 0 => "the target refuses a parameter, and does not say which".to_owned(),
            None => format!("the target refuses the {parameter}"),
        };
        return ConnectError { status: Some(status), ..ConnectError::new("Connect", why, status.dnr(), hint) };
    }
    if status.is(Status::CONNECT_INVALID_HOST) {
        return named("allow this host's NQN on the target", true);
    }
    if status.is(Status::CONNECT_INCOMPATIBLE_FORMAT) {
        return named("the target speaks another version of the Connect command", true);
    }
    if status.is(Status::CONNECT_CONTROLLER_BUSY) {
        let hint = if status.dnr() {
            "the target has no free controller, and says that a retry cannot help"
        } else {
            "the target has no free controller; it may be retried"
        };
        return named(hint, false);
    }
    if status.is(Status::CONNECT_RESTART_DISCOVERY) {
        return named("read the discovery log again: the subsystem moved", false);
    }
    ConnectError::of_status("Connect", status)
}
