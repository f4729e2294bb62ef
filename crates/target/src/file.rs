//! A namespace in a file or on a block device.
//!
//! What is promised to the host is what the kernel promises us: a flush is `fdatasync`, FUA is a synchronous write. The
//! file is locked exclusively on the very file description its I/O uses: an operation that is still inside the kernel
//! keeps the lock, so a target that is restarted waits for its predecessor's writes instead of racing them.

use crate::clock;
use crate::flush::{Ended, Flushes, Question};
use crate::hex::Identifier;
use crate::kept::Kept;
use interlock_ring::{Buf, BufTable, Cx, Event, File, FileOp, Space, StartBy};
use interlock_target_core::{BlockRange, MediaId, MediaKind, MediaResult};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Zeroes are written in pieces of this size where the file system cannot make them itself.
const ZERO_PIECE: usize = 1 << 20;

/// An open, locked file.
#[derive(Debug)]
pub(crate) struct Opened {
    fd: OwnedFd,
    /// Bytes.
    pub(crate) len: u64,
    /// Writes go past the page cache: what one of them loses is told to it and to nobody else.
    direct: bool,
    flushes: Arc<Flushes>,
}

/// Why a file cannot be a namespace.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened for reading and writing.
    #[error("`{path}` cannot be opened{}: {source}", if *writable { " for writing" } else { "" })]
    Open {
        /// Which file.
        path: PathBuf,
        /// For writing.
        writable: bool,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Somebody else uses it as a namespace.
    #[error("`{path}` is in use by another process (or by writes of one that has just ended): stop it first, or wait")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The kernel uses the device.
    #[error(
        "`{path}` is in use by the kernel or another process: unmount it, or remove it from what is made of it, first"
    )]
    Claimed {
        /// Which device.
        path: PathBuf,
    },
    /// It holds less than one block.
    #[error("`{path}` holds {len} bytes, less than one block of {block}: `truncate -s 1G {path}` would make room")]
    TooSmall {
        /// Which file.
        path: PathBuf,
        /// Its bytes.
        len: u64,
        /// Bytes per block.
        block: u32,
    },
}

impl Opened {
    /// Opens and locks `path` for blocks of `block` bytes.
    pub(crate) fn new(path: &Path, block: u32, read_only: bool) -> Result<Self, FileError> {
        let device = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        let access = match read_only {
            true => OFlags::RDONLY,
            // The kernel refuses a device that is mounted, or that another device is made of.
            false if device => OFlags::RDWR | OFlags::EXCL,
            false => OFlags::RDWR,
        };
        let open = |flags| rustix::fs::open(path, access | OFlags::CLOEXEC | flags, Mode::empty());
        let failed = |error: rustix::io::Errno| match error {
            rustix::io::Errno::BUSY if device => FileError::Claimed { path: path.to_owned() },
            error => FileError::Open { path: path.to_owned(), writable: !read_only, source: error.into() },
        };
        let deadline = Instant::now() + LOCK_WITHIN;
        let (fd, direct) = loop {
            let direct = open(OFlags::DIRECT).ok().filter(|fd| direct_works(fd, block));
            match direct.map(|fd| (fd, true)).map_or_else(|| open(OFlags::empty()).map(|fd| (fd, false)), Ok) {
                Ok(opened) => break opened,
                // As with the lock: a target that has just ended may still have it.
                Err(rustix::io::Errno::BUSY) if device && Instant::now() < deadline => {
                    std::thread::park_timeout(LOCK_WITHIN / 100);
                }
                Err(error) => return Err(failed(error)),
            }
        };
        let lock =
            if read_only { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
        while rustix::fs::flock(&fd, lock).is_err() {
            if Instant::now() >= deadline {
                return Err(FileError::InUse { path: path.to_owned() });
            }
            std::thread::park_timeout(LOCK_WITHIN / 100);
        }
        let len = rustix::fs::seek(&fd, rustix::fs::SeekFrom::End(0)).map_err(failed)?;
        if len < u64::from(block) {
            return Err(FileError::TooSmall { path: path.to_owned(), len, block });
        }
        Ok(Self { fd, len, direct, flushes: Arc::default() })
    }

    /// What is kept beside it, read since it is ours.
    pub(crate) fn set_kept(&mut self, kept: Option<Kept>) {
        self.flushes = Arc::new(Flushes::new(kept));
    }

    /// NGUID and UUID, if they are kept.
    pub(crate) fn identity(&self) -> Option<(Identifier<16>, Identifier<16>)> {
        self.flushes.kept(|kept| (kept.content.nguid, kept.content.uuid))
    }

    /// Its flushes.
    pub(crate) fn flushes(&self) -> &Flushes {
        &self.flushes
    }
}

impl Opened {
    /// Bytes that it has now. A regular file that is shorter than `wanted` is made as long; none is ever cut.
    pub(crate) fn lengthen(&self, wanted: Option<u64>) -> io::Result<u64> {
        let now = rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::End(0))?;
        let stat = rustix::fs::fstat(&self.fd)?;
        let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
        match wanted {
            Some(wanted) if wanted > now && regular => {
                rustix::fs::ftruncate(&self.fd, wanted)?;
                Ok(wanted)
            }
            _ => Ok(now),
        }
    }
}

/// Bytes at which the buffers of a reactor begin, and their parts are multiples of a block.
const BUFFER_ALIGN: u32 = 4096;

/// Whether transfers of blocks can go past the page cache. The kernel says how offset, length and memory must be aligned; one that
/// does not say (before Linux 6.1, or on some file systems) is tried.
fn direct_works(fd: &OwnedFd, block: u32) -> bool {
    let asked = rustix::fs::statx(fd, "", rustix::fs::AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::DIOALIGN);
    if let Ok(found) = asked
        && found.stx_mask & rustix::fs::StatxFlags::DIOALIGN.bits() != 0
    {
        return alignment_fits(found.stx_dio_offset_align, found.stx_dio_mem_align, block);
    }
    let mut buf = Buf::zeroed(block as usize);
    buf.get_mut().is_some_and(|bytes| rustix::io::pread(fd, bytes, 0).is_ok())
}

/// Whether blocks can be moved under these alignments; 0 says that nothing can.
const fn alignment_fits(offset: u32, memory: u32, block: u32) -> bool {
    let memory_of_parts = if block < BUFFER_ALIGN { block } else { BUFFER_ALIGN };
    offset > 0 && memory > 0 && block.is_multiple_of(offset) && memory_of_parts.is_multiple_of(memory)
}

/// An error by which nothing that was written earlier can have been lost: the kernel was not asked, was interrupted, or cannot do
/// it at all. `only_room`: nor by one that says that there is no room.
fn lost_nothing(error: &io::Error, only_room: bool) -> bool {
    match error.raw_os_error() {
        None => true,
        Some(libc::EINTR | libc::EAGAIN | libc::ECANCELED | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => true,
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => only_room,
        Some(_) => false,
    }
}

/// The share of one lane.
pub(crate) struct FileStore {
    file: File,
    shift: u8,
    jobs: BTreeMap<u64, Job>,
    zeroes: Option<Buf>,
    direct: bool,
    flushes: Arc<Flushes>,
}

/// How long a flush may be unsure whether all is durable, because another one has no answer: a disk that does not answer must not
/// keep it asking for ever.
const SETTLE_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// How often an operation may be interrupted, or move nothing that counts, before it has failed.
const TRIES_MAX: u32 = 64;

/// How long a target waits for the lock of a file: the writes of one that was killed are still in the kernel.
const LOCK_WITHIN: Duration = Duration::from_secs(2);

/// An operation in progress: one step of it is in the kernel.
struct Job {
    steps: VecDeque<Step>,
    target: Target,
    /// Attempts in a row that moved nothing that counts.
    tries: u32,
    /// From when on no step begins any more.
    by: Option<StartBy>,
    /// What the step under way asks the kernel about losses.
    asks: Option<Question>,
    /// Until when it may be unsure whether all is durable.
    settle_by: Option<Instant>,
}

/// Where the buffer of a step comes from and goes back to.
#[derive(Clone, Copy)]
enum Target {
    /// Nowhere: the step has none, or zeroes.
    None,
    /// The buffer of a span; the span begins here within it.
    Span(interlock_base::Span),
    /// Scratch, to compare with a span.
    Scratch(interlock_base::Span),
}

#[derive(Clone)]
enum Step {
    Read {
        part: Range<usize>,
        offset: u64,
    },
    Write {
        part: Range<usize>,
        offset: u64,
        durable: bool,
    },
    Sync,
    /// The kernel has said that all is durable, and somebody who asked earlier may be told otherwise.
    Settle(Question),
    /// Make it read as zero, by the cheapest means that works.
    Zero {
        offset: u64,
        len: u64,
        how: Space,
        durable: bool,
    },
    /// A wish: failure is no failure.
    Punch {
        offset: u64,
        len: u64,
    },
    WriteZeroes {
        offset: u64,
        len: u64,
        durable: bool,
    },
}

impl FileStore {
    pub(crate) fn attach(cx: &mut Cx<'_>, opened: &Opened, shift: u8) -> io::Result<Self> {
        // A duplicate shares the file description, and with it the lock.
        let file = cx.add_file(opened.fd.try_clone()?);
        let (direct, flushes) = (opened.direct, opened.flushes.clone());
        Ok(Self { file, shift, jobs: BTreeMap::new(), zeroes: None, direct, flushes })
    }

    /// Closes the file, and with the last lane's share lets go of its lock. Nothing may be under way.
    pub(crate) fn close(self, cx: &mut Cx<'_>) {
        cx.remove_file(self.file);
    }

    pub(crate) fn start(
        &mut self,
        cx: &mut Cx<'_>,
        buffers: &mut BufTable,
        id: MediaId,
        kind: MediaKind,
        until: Option<interlock_base::Instant>,
    ) -> Option<MediaResult> {
        let promises = matches!(kind, MediaKind::Flush | MediaKind::Zero { .. } | MediaKind::Write { fua: true, .. });
        let refused = if promises { self.flushes.refuse() } else { None };
        if refused == Some(Ended::Lost) {
            return Some(MediaResult::FlushFailed);
        }
        let shift = self.shift;
        let bytes = move |range: BlockRange| (range.slba << shift, range.blocks << shift);
        let part = |span: interlock_base::Span| span.offset as usize..(span.offset + span.len) as usize;
        let (target, steps): (Target, Vec<Step>) = match kind {
            MediaKind::Read { slba, into } => {
                (Target::Span(into), vec![Step::Read { part: part(into), offset: slba << shift }])
            }
            MediaKind::Compare { slba, with } => {
                (Target::Scratch(with), vec![Step::Read { part: 0..with.len as usize, offset: slba << shift }])
            }
            MediaKind::Write { slba, from, fua } => {
                (Target::Span(from), vec![Step::Write { part: part(from), offset: slba << shift, durable: fua }])
            }
            MediaKind::Flush => (Target::None, vec![Step::Sync]),
            MediaKind::Zero { range, deallocate, fua } => {
                let (offset, len) = bytes(range);
                let how = if deallocate { Space::Punch } else { Space::Zero };
                (Target::None, vec![Step::Zero { offset, len, how, durable: fua }])
            }
            MediaKind::Deallocate { ranges } => {
                let punches = ranges.into_iter().map(bytes).map(|(offset, len)| Step::Punch { offset, len });
                (Target::None, punches.collect())
            }
        };
        let by = until.map(|at| StartBy { clock: clock::now, at });
        let mut job = Job::new(steps.into(), target, by);
        if let Some(Ended::Unsure(until)) = refused {
            // It has failed already; its answer waits as that of the first one does.
            job.steps = [Step::Settle(until)].into();
        }
        self.jobs.insert(id.0, job);
        self.next_step(cx, buffers, id.0)
    }

    pub(crate) fn handle_op(
        &mut self,
        cx: &mut Cx<'_>,
        buffers: &mut BufTable,
        event: Event,
    ) -> Option<(MediaId, MediaResult)> {
        let Event::Op { token, result, buf } = event else { return None };
        let job = self.jobs.get_mut(&token)?;
        let mut different = false;
        if let Some(buf) = buf {
            match job.target {
                Target::Span(span) => {
                    // The lane keeps the buffer until the media operation has completed, so its place is still there.
                    let _ = buffers.give_back(span.buf, buf);
                }
                Target::Scratch(span) => different = buf.as_slice() != buffers.bytes(span),
                Target::None => self.zeroes = Some(buf),
            }
        }
        let worth = job.answered(&self.flushes, self.direct, &result);
        let outcome = match result {
            _ if worth == Some(Ended::Lost) => Err(MediaResult::FlushFailed),
            _ if job.is_given_up() => Err(MediaResult::WriteFailed),
            // It waits, as a step of its own, for what is being remembered.
            Err(_) if matches!(worth, Some(Ended::Unsure(_))) => Ok(()),
            Ok(moved) => {
                job.advance(moved, 1 << self.shift).and(if different { Err(MediaResult::Different) } else { Ok(()) })
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut && job.is_late() => Err(MediaResult::TooLate),
            Err(error) => job.recover(&error),
        };
        let ended = match outcome {
            Err(result) => {
                self.jobs.remove(&token);
                Some(result)
            }
            Ok(()) => self.next_step(cx, buffers, token),
        };
        ended.map(|result| (MediaId(token), result))
    }

    /// Gives the next step to the kernel; says the result if there is none left.
    fn next_step(&mut self, cx: &mut Cx<'_>, buffers: &mut BufTable, token: u64) -> Option<MediaResult> {
        let job = self.jobs.get(&token)?;
        let Some(step) = job.steps.front().cloned() else {
            self.jobs.remove(&token);
            return Some(MediaResult::Done);
        };
        let (target, by) = (job.target, job.by);
        if job.is_late() {
            return self.lost(token, MediaResult::TooLate);
        }
        let asks = step.asks();
        let op = match step {
            Step::Read { part, offset } => {
                let buf = match target {
                    Target::Span(span) => buffers.lend(span.buf),
                    Target::Scratch(span) => Some(Buf::zeroed(span.len as usize)),
                    Target::None => None,
                };
                let Some(buf) = buf else { return self.lost(token, MediaResult::ReadFailed) };
                FileOp::Read { buf, part, offset }
            }
            Step::Write { part, offset, durable } => {
                let Target::Span(span) = target else { return self.lost(token, MediaResult::WriteFailed) };
                let Some(buf) = buffers.buf(span.buf).cloned() else {
                    return self.lost(token, MediaResult::WriteFailed);
                };
                FileOp::Write { buf, part, offset, durable }
            }
            Step::Sync | Step::Settle(_) => FileOp::Sync { data_only: true },
            Step::Zero { offset, len, how, .. } => FileOp::Space { offset, len, how },
            Step::Punch { offset, len } => FileOp::Space { offset, len, how: Space::Punch },
            Step::WriteZeroes { offset, len, durable } => {
                let buf = self.zeroes.get_or_insert_with(|| Buf::zeroed(ZERO_PIECE)).clone();
                let piece = usize::try_from(len).unwrap_or(ZERO_PIECE).min(ZERO_PIECE);
                FileOp::Write { buf, part: 0..piece, offset, durable }
            }
        };
        if let Some(job) = self.jobs.get_mut(&token) {
            job.asks = asks.then(|| self.flushes.ask());
        }
        cx.submit_by(self.file, op, token, by);
        None
    }

    fn lost(&mut self, token: u64, result: MediaResult) -> Option<MediaResult> {
        self.jobs.remove(&token);
        Some(result)
    }
}

impl Step {
    /// True if the kernel may tell in its answer, and only there, that data was lost.
    const fn asks(&self) -> bool {
        matches!(
            self,
            Self::Sync | Self::Settle(_) | Self::Write { durable: true, .. } | Self::WriteZeroes { durable: true, .. }
        )
    }
}

impl Job {
    const fn new(steps: VecDeque<Step>, target: Target, by: Option<StartBy>) -> Self {
        Self { steps, target, tries: 0, by, asks: None, settle_by: None }
    }

    /// Somebody else's question about losses has no answer for too long: nobody can say that all is durable.
    fn is_given_up(&self) -> bool {
        self.settle_by.is_some_and(|by| Instant::now() >= by)
    }

    /// What the answer to the step under way is worth, if it asked about losses. Who cannot be sure yet gets a step more.
    fn answered(&mut self, flushes: &Flushes, direct: bool, result: &io::Result<u32>) -> Option<Ended> {
        let question = self.asks.take()?;
        let writes = matches!(self.steps.front(), Some(Step::Write { .. } | Step::WriteZeroes { .. }));
        let ended = match result {
            Ok(_) if writes && direct => {
                // Its own blocks are there, and it promises nothing of others.
                flushes.withdraw(question);
                Ended::Durable
            }
            Ok(_) => match self.steps.front() {
                Some(Step::Settle(until)) => {
                    let until = *until;
                    flushes.withdraw(question);
                    flushes.settle(until)
                }
                _ => flushes.succeeded(question),
            },
            Err(error) if lost_nothing(error, writes && direct) => {
                flushes.withdraw(question);
                return None;
            }
            Err(error) => {
                let ended = flushes.fail(question, &error.to_string());
                self.steps.clear();
                ended
            }
        };
        if let Ended::Unsure(until) = ended {
            self.settle_by.get_or_insert_with(|| Instant::now() + SETTLE_WITHIN);
            // Behind what is left of this operation; the step under way is over with its answer.
            self.steps.push_back(Step::Settle(until));
        }
        Some(ended)
    }

    fn is_late(&self) -> bool {
        self.by.is_some_and(|by| by.is_over())
    }

    /// A step moved so many bytes; what is left of it stays the first step. With `O_DIRECT` the kernel takes whole blocks
    /// only: after a part, the step goes on from the last whole one.
    fn advance(&mut self, moved: u32, block: u32) -> Result<(), MediaResult> {
        let Some(step) = self.steps.front_mut() else { return Ok(()) };
        let whole = |part: &Range<usize>| if moved as usize == part.len() { moved } else { moved - moved % block };
        let counts = match step {
            Step::Read { part, .. } | Step::Write { part, .. } => whole(part),
            Step::WriteZeroes { len, .. } if u64::from(moved) >= *len => moved,
            _ => moved - moved % block,
        };
        self.tries = if counts == 0 && moved > 0 { self.tries + 1 } else { 0 };
        let moved_any = moved > 0 && self.tries < TRIES_MAX;
        let moved = counts;
        let (left, failed) = match step {
            Step::Read { part, offset } => {
                part.start += moved as usize;
                *offset += u64::from(moved);
                (part.len() as u64, MediaResult::ReadFailed)
            }
            Step::Write { part, offset, .. } => {
                part.start += moved as usize;
                *offset += u64::from(moved);
                (part.len() as u64, MediaResult::WriteFailed)
            }
            Step::WriteZeroes { offset, len, .. } => {
                *len -= u64::from(moved).min(*len);
                *offset += u64::from(moved);
                (*len, MediaResult::WriteFailed)
            }
            Step::Zero { durable: true, .. } => {
                *step = Step::Sync;
                return Ok(());
            }
            Step::Sync | Step::Settle(_) | Step::Zero { .. } | Step::Punch { .. } => (0, MediaResult::WriteFailed),
        };
        if left == 0 {
            self.steps.pop_front();
        } else if !moved_any {
            // The file became shorter under us, or nothing comes of it.
            return Err(failed);
        }
        Ok(())
    }

    /// A step failed: is there another way?
    fn recover(&mut self, error: &io::Error) -> Result<(), MediaResult> {
        let Some(step) = self.steps.front_mut() else { return Ok(()) };
        if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) && self.tries < TRIES_MAX {
            self.tries += 1;
            return Ok(());
        }
        let unsupported = matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV | libc::ENOSYS));
        match step {
            Step::Zero { how: Space::Punch, offset, len, durable } if unsupported => {
                *step = Step::Zero { how: Space::Zero, offset: *offset, len: *len, durable: *durable };
                Ok(())
            }
            Step::Zero { offset, len, durable, .. } if unsupported => {
                *step = Step::WriteZeroes { offset: *offset, len: *len, durable: *durable };
                Ok(())
            }
            Step::Punch { .. } => {
                self.steps.pop_front();
                Ok(())
            }
            Step::Read { .. } => Err(MediaResult::ReadFailed),
            _ if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG)) => {
                Err(MediaResult::NoSpace)
            }
            _ => Err(MediaResult::WriteFailed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_base::{BufId, Span};
    use interlock_ring::{Pool, PoolConfig, Service};
    use std::sync::mpsc::{self, Sender};
    use std::time::Duration;

    const BLOCK: u32 = 4096;

    fn temporary(name: &str, blocks: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("interlock-{}-{name}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(blocks * u64::from(BLOCK)).unwrap();
        path
    }

    /// Runs operations one after the other and tells the last result and what the buffer then holds.
    struct Script {
        store: FileStore,
        buffers: BufTable,
        buf: BufId,
        kinds: VecDeque<MediaKind>,
        next: u64,
        told: Sender<(MediaResult, Vec<u8>)>,
    }

    impl Script {
        fn step(&mut self, cx: &mut Cx<'_>, mut last: MediaResult) {
            while let Some(kind) = self.kinds.pop_front() {
                self.next += 1;
                match self.store.start(cx, &mut self.buffers, MediaId(self.next), kind, None) {
                    Some(result) => last = result,
                    None => return,
                }
            }
            let held = self.buffers.buf(self.buf).unwrap().as_slice().to_vec();
            self.told.send((last, held)).unwrap();
        }
    }

    impl Service for Script {
        fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
            match event {
                Event::Attached => self.step(cx, MediaResult::Done),
                event @ Event::Op { .. } => {
                    if let Some((_, result)) = self.store.handle_op(cx, &mut self.buffers, event) {
                        self.step(cx, result);
                    }
                }
                _ => {}
            }
        }
    }

    fn run(path: &Path, fill: u8, kinds: impl FnOnce(Span) -> Vec<MediaKind>) -> (MediaResult, Vec<u8>) {
        run_on(Arc::new(Opened::new(path, BLOCK, false).unwrap()), Arc::new(Failing::default()), fill, kinds)
    }

    fn run_on(
        opened: Arc<Opened>,
        faults: Arc<Failing>,
        fill: u8,
        kinds: impl FnOnce(Span) -> Vec<MediaKind>,
    ) -> (MediaResult, Vec<u8>) {
        let config = PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() };
        let pool = Pool::with_faults(config, faults).unwrap();
        let (told, answer) = mpsc::channel();
        let mut buf = Buf::zeroed(2 * BLOCK as usize);
        buf.get_mut().unwrap().fill(fill);
        let kinds = kinds(Span { buf: BufId(0), offset: 0, len: 2 * BLOCK });
        pool.reactor(0)
            .attach(move |cx| {
                let mut buffers = BufTable::default();
                let buf = buffers.insert(buf);
                assert_eq!(buf, BufId(0), "the span above names the first buffer");
                let store = FileStore::attach(cx, &opened, 12).unwrap();
                Box::new(Script { store, buffers, buf, kinds: kinds.into(), next: 0, told })
            })
            .unwrap();
        answer.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_zeroed_blocks_are_zero() {
        let path = temporary("file", 64);
        let range = |slba| BlockRange { slba, blocks: 1 };
        let (result, held) = run(&path, 0x5a, |span| {
            vec![
                MediaKind::Write { slba: 10, from: span, fua: true },
                MediaKind::Flush,
                MediaKind::Compare { slba: 10, with: span },
                MediaKind::Zero { range: range(11), deallocate: true, fua: true },
                MediaKind::Read { slba: 10, into: span },
            ]
        });
        assert_eq!(result, MediaResult::Done);
        assert!(held[..4096].iter().all(|byte| *byte == 0x5a) && held[4096..].iter().all(|byte| *byte == 0));
        let (result, _) = run(&path, 0x5b, |span| vec![MediaKind::Compare { slba: 10, with: span }]);
        assert_eq!(result, MediaResult::Different);
        std::fs::remove_file(path).unwrap();
    }

    /// The next so many syncs and durable writes fail, as a disk does that has lost something.
    #[derive(Default)]
    struct Failing(std::sync::atomic::AtomicU32);

    impl interlock_ring::Faults for Failing {
        fn decide(&self, call: &interlock_ring::Call<'_>) -> interlock_ring::Verdict {
            use std::sync::atomic::Ordering::SeqCst;
            let interlock_ring::Call::File(FileOp::Sync { .. } | FileOp::Write { durable: true, .. }) = call else {
                return interlock_ring::Verdict::Pass;
            };
            match self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => interlock_ring::Verdict::Fail(libc::EIO),
                Err(_) => interlock_ring::Verdict::Pass,
            }
        }
    }

    #[test]
    fn a_flush_that_failed_once_fails_until_somebody_says_so() {
        let path = temporary("latched", 64);
        let place = crate::kept::place(&path, None).unwrap();
        let open = || {
            let mut opened = Opened::new(&path, BLOCK, false).unwrap();
            opened.set_kept(Some(Kept::open(&place).unwrap()));
            opened
        };
        let range = BlockRange { slba: 3, blocks: 1 };
        type Kind = fn(Span, BlockRange) -> MediaKind;
        let promises: [Kind; 4] = [
            |_, _| MediaKind::Flush,
            |from, _| MediaKind::Write { slba: 10, from, fua: true },
            |_, range| MediaKind::Zero { range, deallocate: false, fua: false },
            |_, range| MediaKind::Zero { range, deallocate: true, fua: true },
        ];
        let loses: [Kind; 3] = [promises[0], promises[1], promises[3]];
        for first in loses {
            let faults = Arc::new(Failing::default());
            faults.0.store(1, std::sync::atomic::Ordering::SeqCst);
            let opened = Arc::new(open());
            let (teller, told) = mpsc::channel();
            opened.flushes().set_teller(move |why| teller.send(why).unwrap());
            let (result, _) = run_on(opened.clone(), faults, 1, |span| vec![first(span, range)]);
            assert_eq!(result, MediaResult::FlushFailed);
            assert!(told.try_recv().is_ok_and(|why| !why.contains("RESTART")) && told.try_recv().is_err(), "once");
            for kind in promises {
                let (result, _) =
                    run_on(opened.clone(), Arc::new(Failing::default()), 1, |span| vec![kind(span, range)]);
                assert_eq!(result, MediaResult::FlushFailed, "the kernel would say that all is well");
            }
            let write = |span| vec![MediaKind::Write { slba: 1, from: span, fua: false }];
            let (result, _) = run_on(opened.clone(), Arc::new(Failing::default()), 1, write);
            assert_eq!(result, MediaResult::Done, "what promises nothing goes on");
            drop(opened);
            let again = Arc::new(open());
            let (result, _) = run_on(again.clone(), Arc::new(Failing::default()), 1, |_| vec![MediaKind::Flush]);
            assert_eq!(result, MediaResult::FlushFailed, "a restart does not forget");
            assert!(again.flushes().clear().unwrap());
            let (result, _) = run_on(again, Arc::new(Failing::default()), 1, |_| vec![MediaKind::Flush]);
            assert_eq!(result, MediaResult::Done);
        }
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(place).unwrap();
    }

    #[test]
    fn a_flush_beside_one_that_is_never_answered_ends_in_time() {
        let path = temporary("unsure", 64);
        let opened = Arc::new(Opened::new(&path, BLOCK, false).unwrap());
        // Somebody on another lane asked, and its disk does not answer.
        let hangs = opened.flushes().ask();
        let (result, _) = run_on(opened.clone(), Arc::new(Failing::default()), 1, |_| vec![MediaKind::Flush]);
        assert_eq!((result, opened.flushes().failed()), (MediaResult::WriteFailed, None), "it may be asked again");
        opened.flushes().withdraw(hangs);
        let (result, _) = run_on(opened, Arc::new(Failing::default()), 1, |_| vec![MediaKind::Flush]);
        assert_eq!(result, MediaResult::Done);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_read_beyond_the_end_of_a_shrunken_file_fails() {
        let path = temporary("short", 64);
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(u64::from(BLOCK)).unwrap();
        let (result, _) = run(&path, 0, |span| vec![MediaKind::Read { slba: 10, into: span }]);
        assert_eq!(result, MediaResult::ReadFailed);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_part_is_gone_on_from_its_last_whole_block() {
        let steps = [Step::Write { part: 0..16_384, offset: 4096, durable: false }];
        let mut job = Job::new(steps.into(), Target::None, None);
        let at = |job: &Job| match job.steps.front() {
            Some(Step::Write { part, offset, .. }) => (part.start, *offset),
            _ => panic!("it is not over"),
        };
        job.advance(5000, BLOCK).unwrap();
        assert_eq!(at(&job), (4096, 8192));
        for _ in 1..TRIES_MAX {
            job.advance(100, BLOCK).unwrap();
        }
        assert_eq!(at(&job), (4096, 8192), "nothing that counts");
        assert_eq!(job.advance(100, BLOCK), Err(MediaResult::WriteFailed), "it does not go on for ever");
        job.tries = 0;
        job.advance(12_288, BLOCK).unwrap();
        assert!(job.steps.is_empty());
    }

    #[test]
    fn an_interrupted_step_is_tried_again_and_a_full_disk_is_not() {
        let mut job = Job::new([Step::Sync].into(), Target::None, None);
        for _ in 0..TRIES_MAX {
            assert_eq!(job.recover(&io::Error::from_raw_os_error(libc::EINTR)), Ok(()));
        }
        assert_eq!(job.recover(&io::Error::from_raw_os_error(libc::EINTR)), Err(MediaResult::WriteFailed));
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert_eq!(job.recover(&io::Error::from_raw_os_error(errno)), Err(MediaResult::NoSpace));
        }
        assert_eq!(job.recover(&io::Error::from_raw_os_error(libc::EIO)), Err(MediaResult::WriteFailed));
    }

    #[test]
    fn blocks_go_past_the_page_cache_only_where_their_alignment_fits() {
        assert!(alignment_fits(512, 512, 512) && alignment_fits(512, 4, 4096) && alignment_fits(4096, 4096, 4096));
        for (offset, memory, block) in [(4096, 512, 512), (512, 4096, 512), (0, 0, 4096), (8192, 512, 4096)] {
            assert!(!alignment_fits(offset, memory, block), "{offset} {memory} {block}");
        }
    }

    #[test]
    fn a_file_has_one_user() {
        let path = temporary("locked", 64);
        let first = Opened::new(&path, BLOCK, false).unwrap();
        let error = Opened::new(&path, BLOCK, false).unwrap_err();
        assert!(matches!(error, FileError::InUse { .. }), "{error}");
        drop(first);
        Opened::new(&path, BLOCK, false).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Opened::new(&path, BLOCK, false), Err(FileError::Open { .. })));
    }
}
