//! What a client is told when something failed.
//!
//! NBD and Linux have the same handful of error numbers; the sentence beside the number is what an administrator reads.

use crate::disk::Fault;
use interlock_host::{Refused, Status};

/// Why a command failed. The values are those of NBD, and those of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Errno {
    /// Read-only.
    Perm = 1,
    /// The device, or the way to it.
    Io = 5,
    /// No memory for it now.
    NoMemory = 12,
    /// The request makes no sense.
    Invalid = 22,
    /// Beyond the end, or no space behind it.
    NoSpace = 28,
    /// Not supported, or not fast.
    NotSupported = 95,
    /// The server ends.
    Shutdown = 108,
}

/// The number and the sentence.
pub(crate) fn told(fault: Fault) -> (Errno, String) {
    match fault {
        Fault::Failed(status) => (errno(status), format!("the controller answered: {status}")),
        Fault::Refused(refused) => {
            let (errno, why) = refusal(refused);
            (errno, why.to_owned())
        }
        Fault::Indeterminate => {
            (Errno::Io, "the path was lost; the command may still take effect, until its fence".to_owned())
        }
        Fault::CacheLost => {
            (Errno::Io, "answered writes may be lost: a controller was lost with its write cache".to_owned())
        }
        Fault::NotFast => {
            (Errno::NotSupported, "the controller has no command for zeroes: they would have to be written".to_owned())
        }
        Fault::Poison(instances) => (
            Errno::Io,
            format!(
                "the target ended {instances} instances of its controllers on this command, and serves others: look for the \
                 fault in the target, at these blocks; what the command changes may have taken effect, and cannot any more"
            ),
        ),
        Fault::Shut => (
            Errno::Io,
            "the namespace of this export is gone, or another one is there: see `interlock status`".to_owned(),
        ),
        Fault::Unknown => (Errno::Io, "the path was lost; the command may have taken effect".to_owned()),
    }
}

fn errno(status: Status) -> Errno {
    let any = |list: &[Status]| list.iter().any(|other| status.is(*other));
    if any(&[Status::NAMESPACE_WRITE_PROTECTED, Status::READ_ONLY_RANGE, Status::ACCESS_DENIED]) {
        Errno::Perm
    } else if any(&[Status::CAPACITY_EXCEEDED, Status::LBA_OUT_OF_RANGE]) {
        Errno::NoSpace
    } else if status.is(Status::INVALID_OPCODE) {
        Errno::NotSupported
    } else {
        Errno::Io
    }
}

const fn refusal(refused: Refused) -> (Errno, &'static str) {
    match refused {
        Refused::ReadOnly => (Errno::Perm, "the namespace is write protected"),
        Refused::OutOfRange => (Errno::NoSpace, "the namespace has become smaller"),
        Refused::NoPath => (Errno::Io, "no path to the namespace is left"),
        Refused::NoSuchNamespace => (Errno::Io, "the namespace was removed"),
        Refused::ShuttingDown => (Errno::Shutdown, "the host is shutting down"),
        Refused::TooLarge => (Errno::Io, "no path carries even one block in one command"),
        _ => (Errno::Io, "the request was not sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_number() {
        let cases = [
            (Fault::Failed(Status::NAMESPACE_WRITE_PROTECTED), Errno::Perm),
            (Fault::Failed(Status::READ_ONLY_RANGE.with_dnr()), Errno::Perm),
            (Fault::Failed(Status::CAPACITY_EXCEEDED), Errno::NoSpace),
            (Fault::Failed(Status::INVALID_OPCODE.with_dnr()), Errno::NotSupported),
            (Fault::Failed(Status::UNRECOVERED_READ), Errno::Io),
            (Fault::Refused(Refused::ReadOnly), Errno::Perm),
            (Fault::Refused(Refused::OutOfRange), Errno::NoSpace),
            (Fault::Refused(Refused::ShuttingDown), Errno::Shutdown),
            (Fault::Refused(Refused::NoPath), Errno::Io),
            (Fault::Indeterminate, Errno::Io),
            (Fault::Unknown, Errno::Io),
            (Fault::CacheLost, Errno::Io),
            (Fault::Poison(5), Errno::Io),
            (Fault::Shut, Errno::Io),
            (Fault::NotFast, Errno::NotSupported),
        ];
        for (fault, errno) in cases {
            assert_eq!(told(fault).0, errno, "{fault:?}");
        }
        assert_eq!(told(Fault::Failed(Status::WRITE_FAULT)).1, "the controller answered: Write Fault (280h)");
    }
}
