//! One command of a driver, on the calling thread.
//!
//! Some drivers are controlled by commands of 80 bytes (`IORING_OP_URING_CMD` on a ring of 128-byte entries). They are
//! rare, and some wait for what a reactor does, so they must not run on one: each gets a small ring of its own.
#![allow(unsafe_code)]

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Runs a command to its end. `make` gets the address of `data` and gives the command's bytes; `data` comes back with the
/// result. Not on a reactor.
///
/// # Errors
/// What the driver answers; that `io_uring` is forbidden; [`io::ErrorKind::TimedOut`] if it has not answered in time (the command may still be carried
/// out, and the memory of `data` is left to it).
pub fn driver_command(
    fd: BorrowedFd<'_>,
    op: u32,
    mut data: Vec<u8>,
    make: impl FnOnce(u64) -> [u8; 80],
    within: Duration,
) -> io::Result<(u32, Vec<u8>)> {
    let ring = IoUring::builder().build(1);
    let mut ring: IoUring<squeue::Entry128, cqueue::Entry> = ring.map_err(crate::poller::explain)?;
    let command = make(data.as_mut_ptr().expose_provenance() as u64);
    let entry = opcode::UringCmd80::new(Fd(fd.as_raw_fd()), op).cmd(command).build();
    // SAFETY: the entry names a descriptor that is borrowed for this call, and memory that `data` keeps until the command
    // has ended: it is given back after the completion, and otherwise never freed.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.map_err(|_| io::Error::other("a new submission queue is full"))?;
    let until = crate::now() + within;
    loop {
        let left = until.since(crate::now());
        let time = Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos());
        let entered = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time));
        if let Some(completion) = ring.completion().next() {
            let result = u32::try_from(completion.result());
            return result.map(|value| (value, data)).map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        }
        let error = match entered {
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EAGAIN)) => error,
            _ if until.since(crate::now()).is_zero() => {
                io::Error::new(io::ErrorKind::TimedOut, "the driver has not answered in time")
            }
            _ => continue,
        };
        std::mem::forget((ring, data)); // better lost than corrupt
        return Err(error);
    }
}
