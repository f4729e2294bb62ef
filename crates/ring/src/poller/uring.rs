//! The ring.
//!
//! All operations in flight are owned here, so that the proof that the kernel only touches living buffers stands in one
//! file: an operation leaves its slot, and its buffer and descriptor leave the operation, only with the final completion.
#![allow(unsafe_code)]

use super::{Done, SOCKET_BITS, Watcher};
use crate::file::{FileOp, Space};
use interlock_base::{Key, Slab};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Submissions that fit between two system calls. More are kept in order and follow.
const ENTRIES: u32 = 256;

/// Completions that fit between two turns; the kernel keeps more in memory of its own.
const COMPLETIONS: u32 = 4096;

type SetFlags = fn(&mut io_uring::Builder);

/// From the best to the oldest: kernels before 6.1 refuse the first set, those before 5.19 the second.
const FLAGS: [SetFlags; 3] = [
    |ring| {
        ring.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    },
    |ring| {
        ring.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    },
    |_| {},
];

/// Completions of cancellations carry this; nobody waits for them.
const IGNORED: u64 = u64::MAX;

enum Op {
    Watch(Watcher),
    /// The descriptor is held until the end: its number must not come to mean another file before that.
    File {
        owner: Key,
        token: u64,
        op: FileOp,
        _fd: Arc<OwnedFd>,
    },
}

pub(crate) struct Uring {
    ring: IoUring,
    ops: Slab<Op>,
    files_in_flight: usize,
    calls: u64,
    /// What did not fit into the submission queue, in order.
    backlog: VecDeque<squeue::Entry>,
    /// What was drained outside of [`Uring::drain`].
    stash: Vec<Done>,
}

impl Uring {
    /// Must be called on the thread that uses it.
    pub(crate) fn new() -> io::Result<Self> {
        let invalid = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
        let mut ring = Self::build(FLAGS[0]);
        for flags in &FLAGS[1..] {
            if ring.as_ref().is_err_and(invalid) {
                ring = Self::build(*flags);
            }
        }
        Self::over(ring)
    }

    fn build(flags: SetFlags) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(COMPLETIONS);
        flags(&mut builder);
        builder.build(ENTRIES)
    }

    fn over(ring: io::Result<IoUring>) -> io::Result<Self> {
        let ring = ring.map_err(explain)?;
        let has = ring.params();
        if !(has.is_feature_ext_arg() && has.is_feature_nodrop() && has.is_feature_poll_32bits()) {
            let why = "io_uring of this kernel is too old: Linux 5.13 or newer is needed (5.19 or newer is advised)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(Self { ring, ops: Slab::new(), files_in_flight: 0, calls: 0, backlog: VecDeque::new(), stash: Vec::new() })
    }

    /// Reports every change of the descriptor's readiness until [`Uring::unwatch`], and its present one.
    pub(crate) fn watch(&mut self, fd: impl AsFd, watcher: Watcher) -> Key {
        let op = self.ops.insert(Op::Watch(watcher));
        let entry = opcode::PollAdd::new(Fd(fd.as_fd().as_raw_fd()), watcher.bits()).multi(true).build();
        self.push(entry.user_data(op.to_u64()));
        op
    }

    /// Ends a watch. What it still reports names a watcher that its owner has forgotten.
    pub(crate) fn unwatch(&mut self, op: Key) {
        // Not PollRemove: that one gives up (EALREADY) on a poll that is just being woken, which then stays armed and
        // holds the socket for ever. A cancellation marks it in any case.
        if self.ops.get(op).is_some() {
            self.push(opcode::AsyncCancel::new(op.to_u64()).build().user_data(IGNORED));
        }
    }

    /// Makes sure that the kernel has let go of the descriptor of an ended watch.
    ///
    /// # Errors
    /// It has not, after a bounded number of attempts.
    pub(crate) fn settle(&mut self, op: Key) -> io::Result<()> {
        const ATTEMPTS: usize = 64;
        for _ in 0..ATTEMPTS {
            if self.ops.get(op).is_none() {
                return Ok(());
            }
            self.enter(Some(Duration::from_millis(1)))?;
            let mut stash = std::mem::take(&mut self.stash);
            self.reap(&mut stash);
            self.stash = stash;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not let go of a watched socket"))
    }

    /// Starts a file operation whose buffer was checked by [`FileOp::fault`].
    pub(crate) fn file(&mut self, fd: Arc<OwnedFd>, mut op: FileOp, owner: Key, token: u64) {
        let target = Fd(fd.as_raw_fd());
        let entry = match &mut op {
            FileOp::Read { buf, part, offset } => {
                let bytes = buf.get_mut().map(|bytes| &mut bytes[part.clone()]).unwrap_or_default();
                opcode::Read::new(target, bytes.as_mut_ptr(), bytes.len() as u32).offset(*offset).build()
            }
            FileOp::Write { buf, part, offset, durable } => {
                let bytes = &buf.as_slice()[part.clone()];
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(target, bytes.as_ptr(), bytes.len() as u32).offset(*offset).rw_flags(flags).build()
            }
            FileOp::Sync { data_only } => {
                let flags = if *data_only { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
                opcode::Fsync::new(target).flags(flags).build()
            }
            FileOp::Space { offset, len, how } => {
                let mode = match how {
                    Space::Allocate => 0,
                    Space::Zero => libc::FALLOC_FL_ZERO_RANGE,
                    Space::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                };
                opcode::Fallocate::new(target, *len).offset(*offset).mode(mode).build()
            }
            FileOp::Driver { op, head, buf } => {
                let at = buf.get_mut().unwrap_or_default().as_mut_ptr().expose_provenance() as u64;
                let mut command = [0; 16];
                command[..8].copy_from_slice(head);
                command[8..].copy_from_slice(&at.to_ne_bytes());
                opcode::UringCmd16::new(target, *op).cmd(command).build()
            }
        };
        let key = self.ops.insert(Op::File { owner, token, op, _fd: fd });
        self.files_in_flight += 1;
        self.push(entry.user_data(key.to_u64()));
    }

    /// Asks the kernel to end the file operations of `owner` early. Each still reports its end.
    pub(crate) fn cancel_files(&mut self, owner: Key) {
        let mine = |op: &Op| matches!(op, Op::File { owner: of, .. } if *of == owner);
        let keys: Vec<Key> = self.ops.iter().filter(|(_, op)| mine(op)).map(|(key, _)| key).collect();
        for key in keys {
            self.push(opcode::AsyncCancel::new(key.to_u64()).build().user_data(IGNORED));
        }
    }

    /// Queues a submission. Order is kept: the end of a watch never overtakes its beginning.
    fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
        self.load();
    }

    /// Moves the backlog into the submission queue as far as it has room.
    fn load(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: memory and descriptor that the entry names belong to an operation in `ops`, which keeps them
            // until the final completion: the buffer of a read or of a driver's command has no other holder, a write's has only readers (`get_mut`
            // needs a sole holder), and the address is that of the region, which does not move. Poll entries name no
            // memory; a descriptor closed before submission could only make them watch a stranger, and what they
            // report then is dropped, as their watcher's generation is over.
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// True if something waits to be submitted.
    pub(crate) fn has_submissions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.submission().is_empty()
    }

    /// True if [`Uring::drain`] would find something, or the kernel has work that it does only inside an enter.
    pub(crate) fn has_news(&mut self) -> bool {
        if !self.stash.is_empty() || !self.ring.completion().is_empty() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Submits what is queued and lets the kernel do its deferred work; with `wait`, sleeps until something is reported
    /// or the time is over.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.load();
        let wait = if self.stash.is_empty() && self.backlog.is_empty() { wait } else { None };
        self.calls += 1;
        let result = match wait {
            None => self.ring.submit(),
            Some(time) => {
                let time = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        self.load();
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time over, a signal, or completions that must be drained first: all ends of a wait.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Everything that was reported.
    pub(crate) fn drain(&mut self, out: &mut Vec<Done>) {
        out.append(&mut self.stash);
        self.reap(out);
    }

    fn reap(&mut self, out: &mut Vec<Done>) {
        for entry in self.ring.completion() {
            if entry.user_data() == IGNORED {
                continue;
            }
            let key = Key::from_u64(entry.user_data());
            let more = cqueue::more(entry.flags());
            match self.ops.get(key) {
                Some(Op::Watch(watcher)) => {
                    // A watch that the kernel ended by itself says so with an error; whoever asks will find out more.
                    let bits = u32::try_from(entry.result()).unwrap_or(SOCKET_BITS);
                    out.push(Done::Ready { watcher: *watcher, bits, armed: more });
                    if !more {
                        self.ops.remove(key);
                    }
                }
                Some(Op::File { .. }) if !more => {
                    let Some(Op::File { owner, token, op, .. }) = self.ops.remove(key) else { continue };
                    self.files_in_flight -= 1;
                    let result =
                        u32::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
                    out.push(Done::File { owner, token, result, buf: op.into_buf() });
                }
                _ => {}
            }
        }
    }

    /// Enters so far.
    pub(crate) const fn calls(&self) -> u64 {
        self.calls
    }

    /// How many file operations the kernel still has.
    pub(crate) const fn files_in_flight(&self) -> usize {
        self.files_in_flight
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Closing a ring does not wait for its operations. Memory that the kernel may still write must not be used
        // again: better lost than corrupt. The reactor has waited for these operations as long as it was allowed to.
        if self.files_in_flight > 0 {
            std::mem::forget(std::mem::take(&mut self.ops));
        }
    }
}

pub(crate) fn explain(error: io::Error) -> io::Error {
    let why = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "io_uring is forbidden: see sysctl kernel.io_uring_disabled (2 = for all, 1 = for processes outside \
             kernel.io_uring_group); in a container, its seccomp profile must allow io_uring_setup, io_uring_enter \
             and io_uring_register"
        }
        Some(libc::ENOSYS) => {
            "io_uring is missing: the kernel was built without it, or a container's seccomp profile answers ENOSYS"
        }
        Some(libc::ENOMEM) => "no memory for an io_uring: raise RLIMIT_MEMLOCK (ulimit -l) on kernels before 5.12",
        _ => "cannot make an io_uring",
    };
    io::Error::new(error.kind(), format!("{why} ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (a, listener.accept().unwrap().0)
    }

    /// The second line of defence of an abort: the descriptor is closed, and then the poll that keeps the socket alive
    /// really goes.
    #[test]
    fn a_settled_watch_lets_go_of_its_socket() {
        for (flags, busy) in FLAGS.into_iter().flat_map(|flags| [(flags, false), (flags, true)]) {
            let mut poller = Uring::over(Uring::build(flags)).unwrap();
            let (a, mut b) = pair();
            b.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let watch = poller.watch(&a, Watcher::Source(Key { index: 0, generation: 0 }));
            poller.enter(None).unwrap();
            if busy {
                b.write_all(b"wakes the poll while it is being cancelled").unwrap();
            }
            socket2::SockRef::from(&a).set_linger(Some(Duration::ZERO)).unwrap();
            drop(a);
            poller.unwatch(watch);
            poller.settle(watch).unwrap();
            assert_eq!(b.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn more_submissions_than_the_queue_holds_keep_their_order() {
        let mut poller = Uring::new().unwrap();
        let (a, _b) = pair();
        let watches: Vec<Key> =
            (0..ENTRIES * 3).map(|index| poller.watch(&a, Watcher::Source(Key { index, generation: 0 }))).collect();
        for watch in &watches {
            poller.unwatch(*watch);
        }
        for watch in watches {
            poller.settle(watch).unwrap();
        }
        assert!(poller.ops.is_empty());
    }

    #[test]
    fn a_refused_ring_says_what_to_change() {
        let text = explain(io::Error::from_raw_os_error(libc::EPERM)).to_string();
        assert!(text.contains("kernel.io_uring_disabled") && text.contains("seccomp"), "{text}");
        assert!(explain(io::Error::from_raw_os_error(libc::ENOSYS)).to_string().contains("seccomp"));
    }
}
