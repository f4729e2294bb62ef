//! File operations on threads.
//!
//! Without a ring a file operation blocks whoever asks for it, so that a few threads of their own do it, and ring an
//! eventfd when they are done. An operation that no thread has begun can be cancelled, and ends by itself after a while; one
//! that was begun belongs to the kernel, as in a ring, and its buffer and descriptor belong to the thread until it is over:
//! a thread that is stuck in a dead disk harms nobody but its file.

use super::Done;
use crate::file::{FileOp, Space, StartBy};
use interlock_base::{Instant, Key};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Threads per reactor; made when there is work for one more.
const THREADS_MAX: usize = 8;

/// Operations that wait for a thread; more are refused with [`io::ErrorKind::ResourceBusy`].
const QUEUE_MAX: usize = 1 << 16;

/// How long an operation waits for a thread before it ends with [`io::ErrorKind::TimedOut`].
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

struct Job {
    owner: Key,
    token: u64,
    op: FileOp,
    fd: Arc<OwnedFd>,
    /// When it must have begun, as a thread has to be free for it.
    until: Instant,
    /// The same, as its owner wants it.
    by: Option<StartBy>,
}

impl Job {
    fn end(self, result: io::Result<u32>) -> Done {
        Done::File { owner: self.owner, token: self.token, result, buf: self.op.into_buf() }
    }
}

#[derive(Default)]
struct State {
    /// In order of their deadlines.
    queue: VecDeque<Job>,
    finished: Vec<Done>,
    idle: usize,
    running: usize,
    closed: bool,
}

type Perform = dyn Fn(&OwnedFd, &mut FileOp) -> io::Result<u32> + Send + Sync;

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    bell: OwnedFd,
    /// How many have finished, to be seen without the lock.
    count: AtomicUsize,
    perform: Box<Perform>,
}

/// The file operations of one reactor.
pub(super) struct Files {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
    within: Duration,
}

impl Files {
    pub(super) fn new() -> io::Result<Self> {
        Self::with(Box::new(perform), BEGIN_WITHIN)
    }

    fn with(perform: Box<Perform>, within: Duration) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let count = AtomicUsize::new(0);
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), bell, count, perform };
        Ok(Self { shared: Arc::new(shared), threads: Vec::new(), in_flight: 0, within })
    }

    /// The eventfd that is written when an operation has ended.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.shared.bell
    }

    /// Has an operation done; gives the answer at once if it is impossible.
    pub(super) fn submit_by(
        &mut self,
        fd: Arc<OwnedFd>,
        op: FileOp,
        owner: Key,
        token: u64,
        by: Option<StartBy>,
    ) -> Option<Done> {
        let job = Job { owner, token, op, fd, until: crate::now() + self.within, by };
        if let FileOp::Driver { .. } = job.op {
            let why = "a command of a driver needs io_uring, and this reactor runs on epoll";
            return Some(job.end(Err(io::Error::new(io::ErrorKind::Unsupported, why))));
        }
        let mut state = self.shared.lock();
        if state.queue.len() >= QUEUE_MAX {
            let why = format!("{QUEUE_MAX} file operations wait for a thread already");
            return Some(job.end(Err(io::Error::new(io::ErrorKind::ResourceBusy, why))));
        }
        state.queue.push_back(job);
        if state.queue.len() > state.idle && self.threads.len() < THREADS_MAX {
            let (shared, number) = (self.shared.clone(), self.threads.len());
            let thread = std::thread::Builder::new().name(format!("files-{number}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => return state.queue.pop_back().map(|job| job.end(Err(error))),
                Err(_) => {} // those that are there will do it
            }
        }
        drop(state);
        self.shared.work.notify_one();
        self.in_flight += 1;
        None
    }

    /// Ends what waits for a thread on behalf of `owner`.
    pub(super) fn cancel(&mut self, owner: Key, out: &mut Vec<Done>) {
        if self.in_flight == 0 {
            return;
        }
        let mut state = self.shared.lock();
        let queue = std::mem::take(&mut state.queue);
        let (mine, others): (VecDeque<Job>, VecDeque<Job>) = queue.into_iter().partition(|job| job.owner == owner);
        state.queue = others;
        drop(state);
        self.in_flight -= mine.len();
        out.extend(mine.into_iter().map(|job| job.end(Err(Errno::CANCELED.into()))));
    }

    /// True if [`Files::drain`] would find something.
    pub(super) fn has_news(&self) -> bool {
        self.shared.count.load(Ordering::Acquire) > 0
    }

    /// How long the first of those that wait for a thread may still wait.
    pub(super) fn patience(&self) -> Option<Duration> {
        if self.in_flight == 0 {
            return None;
        }
        let now = crate::now();
        self.shared.lock().queue.front().map(|job| job.until.since(now))
    }

    /// Everything that has ended.
    pub(super) fn drain(&mut self, out: &mut Vec<Done>) {
        if self.in_flight == 0 {
            return;
        }
        let before = out.len();
        let mut state = self.shared.lock();
        out.append(&mut state.finished);
        self.shared.count.store(0, Ordering::Release);
        let now = crate::now();
        while state.queue.front().is_some_and(|job| job.until <= now) {
            let why = format!("no thread was free for it within {:?}: all are busy with files", self.within);
            let late = state.queue.pop_front();
            out.extend(late.map(|job| job.end(Err(io::Error::new(io::ErrorKind::TimedOut, why)))));
        }
        self.in_flight -= out.len() - before;
    }

    /// How many have not been drained.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let stuck = state.running > 0;
        drop(std::mem::take(&mut state.queue));
        drop(state);
        self.shared.work.notify_all();
        // One that the kernel does not let go ends with the kernel's answer; whom it works for was told to wait no longer.
        if !stuck {
            for thread in self.threads.drain(..) {
                let _ = thread.join(); // it has nothing to say
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(mut job) = state.queue.pop_front() else {
                if state.closed {
                    return;
                }
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.running += 1;
            drop(state);
            let late = job.by.is_some_and(|by| by.is_over());
            let result = if late { Err(too_late()) } else { (self.perform)(&job.fd, &mut job.op) };
            let done = job.end(result); // closes the file too, if this was its last use
            state = self.lock();
            state.running -= 1;
            state.finished.push(done);
            // Whoever finds some there already has been told of them.
            if self.count.fetch_add(1, Ordering::AcqRel) == 0 {
                // The counter would have to reach 2^64 for this to fail.
                let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
            }
        }
    }
}

/// All threads were busy, or the process was stopped, for too long.
fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the time was over until which the operation had to begin")
}

/// What the ring would do.
fn perform(fd: &OwnedFd, op: &mut FileOp) -> io::Result<u32> {
    loop {
        let result = match op {
            FileOp::Read { buf, part, offset } => {
                let bytes = buf.get_mut().map(|bytes| &mut bytes[part.clone()]).unwrap_or_default();
                rustix::io::pread(fd, bytes, *offset)
            }
            FileOp::Write { buf, part, offset, durable } => {
                let slices = [IoSlice::new(&buf.as_slice()[part.clone()])];
                let flags = if *durable { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
                rustix::io::pwritev2(fd, &slices, *offset, flags)
            }
            FileOp::Sync { data_only: true } => rustix::fs::fdatasync(fd).map(|()| 0),
            FileOp::Sync { data_only: false } => rustix::fs::fsync(fd).map(|()| 0),
            FileOp::Space { offset, len, how } => {
                let mode = match how {
                    Space::Allocate => FallocateFlags::empty(),
                    Space::Zero => FallocateFlags::ZERO_RANGE,
                    Space::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                };
                rustix::fs::fallocate(fd, mode, *offset, *len).map(|()| 0)
            }
            FileOp::Driver { .. } => Err(Errno::OPNOTSUPP), // refused before
        };
        match result {
            Err(Errno::INTR) => {}
            // A transfer is at most 1 GiB.
            other => return other.map(|count| u32::try_from(count).unwrap_or(u32::MAX)).map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Buf;
    use std::sync::mpsc;

    impl Files {
        fn submit(&mut self, fd: Arc<OwnedFd>, op: FileOp, owner: Key, token: u64) -> Option<Done> {
            self.submit_by(fd, op, owner, token, None)
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn write() -> FileOp {
        FileOp::Write { buf: Buf::zeroed(512), part: 0..512, offset: 0, durable: false }
    }

    fn nothing() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::options().write(true).open("/dev/null").unwrap().into())
    }

    fn key(number: u64) -> Key {
        Key::from_u64(number)
    }

    /// Drains until so many have ended; gives their tokens and errors, each with its buffer.
    fn ends(files: &mut Files, count: usize) -> Vec<(u64, Result<u32, io::ErrorKind>)> {
        let until = crate::now() + PATIENCE;
        let mut done = Vec::new();
        while done.len() < count {
            files.drain(&mut done);
            assert!(crate::now() < until, "{} of {count} have ended", done.len());
            std::thread::yield_now();
        }
        let each = |done| match done {
            Done::File { token, result, buf: Some(_), .. } => (token, result.map_err(|error| error.kind())),
            other => panic!("{other:?}"),
        };
        done.into_iter().map(each).collect()
    }

    /// A disk that holds every operation until it is told to go on.
    fn dead_disk(within: Duration) -> (Files, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (begun, beginnings) = mpsc::channel();
        let (release, go_on) = mpsc::channel::<()>();
        let go_on = Mutex::new(go_on);
        let hold = move |_: &OwnedFd, _: &mut FileOp| {
            let _ = begun.send(());
            let _ = go_on.lock().unwrap().recv_timeout(PATIENCE);
            Ok(7)
        };
        (Files::with(Box::new(hold), within).unwrap(), beginnings, release)
    }

    #[test]
    fn a_dead_disk_holds_so_many_threads_and_the_others_get_their_buffers_back() {
        let (mut files, beginnings, release) = dead_disk(Duration::from_millis(20));
        let fd = nothing();
        for token in 0..THREADS_MAX as u64 {
            assert!(files.submit(fd.clone(), write(), key(1), token).is_none());
            beginnings.recv_timeout(PATIENCE).unwrap();
        }
        for token in 100..103 {
            assert!(files.submit(fd.clone(), write(), key(1), token).is_none());
        }
        assert!(files.patience().is_some_and(|left| left <= Duration::from_millis(20)));
        let late = ends(&mut files, 3);
        assert_eq!(late, [100, 101, 102].map(|token| (token, Err(io::ErrorKind::TimedOut))));
        assert_eq!((files.threads.len(), files.in_flight(), files.patience()), (THREADS_MAX, THREADS_MAX, None));
        drop(release);
        assert!(ends(&mut files, THREADS_MAX).iter().all(|(_, result)| *result == Ok(7)));
        assert_eq!(files.in_flight(), 0);
    }

    #[test]
    fn what_waits_can_be_cancelled_and_what_was_begun_ends_by_itself() {
        let (mut files, beginnings, release) = dead_disk(PATIENCE);
        let fd = nothing();
        for token in 0..THREADS_MAX as u64 {
            files.submit(fd.clone(), write(), key(1), token);
            beginnings.recv_timeout(PATIENCE).unwrap();
        }
        files.submit(fd.clone(), write(), key(1), 100);
        files.submit(fd.clone(), write(), key(2), 200);
        let mut done = Vec::new();
        files.cancel(key(1), &mut done);
        let [Done::File { token: 100, result: Err(error), buf: Some(_), .. }] = &done[..] else { panic!("{done:?}") };
        assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        drop(release);
        let mut tokens: Vec<u64> = ends(&mut files, THREADS_MAX + 1).into_iter().map(|(token, _)| token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..THREADS_MAX as u64).chain([200]).collect::<Vec<_>>());
    }

    /// The clock of the next test: nanoseconds.
    static CLOCK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

    #[test]
    fn what_comes_to_a_thread_too_late_is_not_begun() {
        let (mut files, beginnings, release) = dead_disk(PATIENCE);
        let fd = nothing();
        let clock = || Instant::from_nanos(CLOCK.load(Ordering::SeqCst));
        let by = |ms| Some(StartBy { clock, at: Instant::from_millis(ms) });
        for token in 0..THREADS_MAX as u64 {
            files.submit_by(fd.clone(), write(), key(1), token, by(1));
            beginnings.recv_timeout(PATIENCE).unwrap();
        }
        files.submit_by(fd.clone(), write(), key(1), 100, by(1));
        files.submit_by(fd.clone(), write(), key(1), 101, by(3));
        CLOCK.store(2_000_000, Ordering::SeqCst);
        drop(release);
        let mut ends = ends(&mut files, THREADS_MAX + 2);
        ends.sort_unstable_by_key(|(token, _)| *token);
        assert_eq!(ends.iter().filter(|(token, result)| *token < 100 && *result == Ok(7)).count(), THREADS_MAX);
        assert_eq!(ends[THREADS_MAX..], [(100, Err(io::ErrorKind::TimedOut)), (101, Ok(7))]);
    }

    #[test]
    fn a_full_queue_refuses() {
        let (mut files, _beginnings, _release) = dead_disk(PATIENCE);
        let fd = nothing();
        let sync = || FileOp::Sync { data_only: true };
        let refused =
            (0..(QUEUE_MAX + THREADS_MAX + 1) as u64).find_map(|token| files.submit(fd.clone(), sync(), key(1), token));
        let Some(Done::File { result: Err(error), .. }) = refused else { panic!("it takes all") };
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn a_command_of_a_driver_is_refused_with_the_reason() {
        let mut files = Files::new().unwrap();
        let op = FileOp::Driver { op: 1, head: [0; 8], buf: Buf::zeroed(512) };
        let Some(Done::File { result: Err(error), buf: Some(_), .. }) = files.submit(nothing(), op, key(1), 1) else {
            panic!("it was taken");
        };
        assert!(error.to_string().contains("io_uring"), "{error}");
        assert_eq!(files.in_flight(), 0);
    }
}
