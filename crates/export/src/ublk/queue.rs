//! One queue of a device, on the reactor that serves it.
//!
//! Each tag has a buffer and one command at the kernel: a fetch that waits for a request, or, after the request was carried
//! out, its result together with the next fetch. While the command is there the buffer is the kernel's; in between it is
//! ours.

use super::sys::{self, Requests};
use crate::disk::{Disk, Fault, Finished, Work};
use crate::fault::{Errno, told};
use crate::gate::Gate;
use crate::status::Published;
use crate::{Counters, ExportSettings, Faults, OnLoss};
use interlock_host::{Buf, Refused};
use interlock_ring::{BufPool, Cx, Event, File, FileOp, Service, Waker};
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How a queue stands, for the handle.
#[derive(Debug)]
enum Standing {
    Starting,
    /// Every tag has its fetch.
    Armed,
    /// It begins nothing any more; what it had begun is answered or left.
    Quiet,
    /// It serves no more; why, if that was not asked for.
    Over(Option<String>),
}

/// A queue, as the handle sees it.
pub(super) struct Shared {
    standing: Mutex<Standing>,
    changed: Condvar,
    waker: OnceLock<Waker>,
    fail: AtomicBool,
    leave: AtomicBool,
    /// Something was left without an answer.
    left: AtomicBool,
    gate: Arc<Gate>,
    pub(super) counters: Published,
}

impl Shared {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self {
            standing: Mutex::new(Standing::Starting),
            changed: Condvar::new(),
            waker: OnceLock::new(),
            fail: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            left: AtomicBool::new(false),
            gate,
            counters: Published::default(),
        }
    }

    fn set(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        self.changed.notify_all();
    }

    /// Waits until every tag has its fetch.
    pub(super) fn wait_armed(&self, within: Duration) -> Result<(), String> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let starting = |standing: &mut Standing| matches!(standing, Standing::Starting);
        let (standing, _) =
            self.changed.wait_timeout_while(standing, within, starting).unwrap_or_else(PoisonError::into_inner);
        match &*standing {
            Standing::Armed | Standing::Quiet => Ok(()),
            Standing::Over(why) => Err(why.clone().unwrap_or_else(|| "it ended".into())),
            Standing::Starting => Err("its reactor does not answer".into()),
        }
    }

    /// Waits until it serves no more; false if it still does.
    pub(super) fn wait_over(&self, within: Duration) -> bool {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = |standing: &mut Standing| !matches!(standing, Standing::Over(_));
        let (_standing, waited) =
            self.changed.wait_timeout_while(standing, within, serving).unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// From now on every request fails, those that are under way first: what they had sent is abandoned.
    pub(super) fn fail_all(&self) {
        self.fail.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until nothing that was begun is under way; false if something is, or was left without an answer.
    pub(super) fn wait_quiet(&self, within: Duration) -> bool {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |standing: &mut Standing| matches!(standing, Standing::Starting | Standing::Armed);
        let (_standing, waited) =
            self.changed.wait_timeout_while(standing, within, busy).unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out() && !self.left.load(Ordering::Acquire)
    }

    /// From now on no request is begun: what comes stays unanswered, and is the kernel's again when the device is left.
    pub(super) fn leave(&self) {
        self.leave.store(true, Ordering::Release);
        self.wake();
    }

    /// Its queue looks at what has changed.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }
}

/// Says that a queue is over, however it ends.
struct Last(Arc<Shared>, Option<String>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.set(Standing::Over(self.1.take()));
    }
}

enum Tag {
    /// The kernel has its command.
    Fetching,
    /// A request is under way.
    Busy { buf: Buf, desc: sys::Desc },
    /// The kernel wants nothing of it any more.
    Over,
}

/// What a queue is made of.
pub(super) struct Plan {
    pub(super) queue: u16,
    pub(super) depth: u16,
    /// Bytes of the largest request.
    pub(super) io_max: u32,
    pub(super) settings: ExportSettings,
    pub(super) buffers: BufPool,
    pub(super) device: OwnedFd,
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Queue {
    queue: u16,
    device: File,
    requests: Requests,
    /// `None`: everything fails.
    disk: Option<Disk>,
    /// The number of the device's gate at which that was so.
    gate: u64,
    on_loss: OnLoss,
    faults: Faults,
    tags: Vec<Tag>,
    buffers: BufPool,
    io_max: u32,
    counters: Counters,
    quiet: bool,
    last: Last,
}

/// Stands in for a queue that could not begin.
struct Nothing;

impl Service for Nothing {
    fn handle(&mut self, cx: &mut Cx<'_>, _: Event) {
        cx.detach();
    }
}

impl Plan {
    /// On the queue's reactor: every command of a queue comes from one thread.
    pub(super) fn attach(self, cx: &mut Cx<'_>) -> Box<dyn Service> {
        let shared = Arc::clone(&self.shared);
        let mut last = Last(Arc::clone(&shared), None);
        if self.settings.namespace.local(cx).is_none() {
            last.1 = Some("this reactor has no lane of the namespace's host".into());
            return Box::new(Nothing);
        }
        let requests = match Requests::map(std::os::fd::AsFd::as_fd(&self.device), self.queue, self.depth) {
            Ok(requests) => requests,
            Err(error) => {
                last.1 = Some(format!("its requests cannot be mapped: {error}"));
                return Box::new(Nothing);
            }
        };
        let _ = shared.waker.set(cx.waker()); // attached once
        let mut queue = Queue {
            queue: self.queue,
            device: cx.add_file(self.device),
            requests,
            disk: None,
            gate: 0,
            on_loss: self.settings.on_loss,
            faults: self.settings.faults,
            tags: Vec::new(),
            buffers: self.buffers,
            io_max: self.io_max,
            counters: Counters::default(),
            quiet: false,
            last,
        };
        queue.follow(cx);
        for tag in 0..self.depth {
            queue.tags.push(Tag::Fetching);
            let buf = queue.buffers.take(self.io_max as usize);
            queue.command(cx, sys::FETCH_REQ, tag, 0, buf);
        }
        shared.set(Standing::Armed);
        Box::new(queue)
    }
}

impl Queue {
    fn command(&self, cx: &mut Cx<'_>, op: u32, tag: u16, result: i32, buf: Buf) {
        let mut head = [0; 8];
        head[0..2].copy_from_slice(&self.queue.to_ne_bytes());
        head[2..4].copy_from_slice(&tag.to_ne_bytes());
        head[4..8].copy_from_slice(&result.to_ne_bytes());
        cx.submit(self.device, FileOp::Driver { op, head, buf }, tag.into());
    }

    /// A command came back: with a request, or for good.
    fn fetched(&mut self, cx: &mut Cx<'_>, tag: u16, result: io::Result<u32>, buf: Option<Buf>) {
        let (Ok(0), Some(buf)) = (&result, buf) else {
            if let Err(error) = result
                && !super::control::is_no_device(&error)
                && self.last.1.is_none()
            {
                self.last.1 = Some(format!("the kernel refused a command of queue {}: {error}", self.queue));
            }
            self.tags[usize::from(tag)] = Tag::Over;
            return;
        };
        if self.is_leaving() {
            self.tags[usize::from(tag)] = Tag::Over; // a successor gets it again
            return;
        }
        let desc = self.requests.get(tag);
        let (offset, bytes) = (desc.start.saturating_mul(sys::SECTOR), u64::from(desc.sectors) * sys::SECTOR);
        let len = u32::try_from(bytes).unwrap_or(u32::MAX);
        let fua = desc.flags & sys::IO_F_FUA != 0;
        let work = match desc.op {
            sys::OP_READ if len <= self.io_max => Some(Work::Read { offset, len }),
            sys::OP_WRITE if len <= self.io_max => {
                Some(Work::Write { offset, data: buf.slice(0..len as usize).into(), fua })
            }
            sys::OP_FLUSH => Some(Work::Flush),
            sys::OP_DISCARD => Some(Work::Discard { offset, len, fua }),
            sys::OP_WRITE_ZEROES => {
                let deallocate = desc.flags & sys::IO_F_NOUNMAP == 0;
                Some(Work::WriteZeroes { offset, len, deallocate, fast: false, fua })
            }
            _ => None,
        };
        let slot = &mut self.tags[usize::from(tag)];
        *slot = Tag::Busy { buf, desc };
        match (work, &mut self.disk) {
            (Some(work), Some(disk)) => disk.submit(cx, work, tag.into()),
            (None, _) => self.commit(cx, tag, Err(Errno::NotSupported)),
            (_, None) => self.commit(cx, tag, Err(Errno::Io)),
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_>) {
        while let Some(Finished { token, result }) = self.disk.as_mut().and_then(|disk| disk.poll(cx)) {
            let tag = token as u16; // as given to `submit`
            if let Err(fault) = result
                && is_for_successor(self.is_leaving(), fault)
            {
                self.leave_tag(usize::from(tag));
                continue;
            }
            let result = result.map_err(|fault| {
                self.faults.note(cx.now(), fault, || self.described(tag));
                told(fault).0
            });
            self.commit(cx, tag, result);
        }
    }

    /// What the kernel asks for with this tag, for people.
    fn described(&self, tag: u16) -> String {
        let Some(Tag::Busy { desc, .. }) = self.tags.get(usize::from(tag)) else { return "a request".into() };
        let (offset, len) = (desc.start.saturating_mul(sys::SECTOR), u64::from(desc.sectors) * sys::SECTOR);
        let what = match desc.op {
            sys::OP_READ => "read",
            sys::OP_WRITE => "write",
            sys::OP_FLUSH => return "flush".into(),
            sys::OP_DISCARD => "discard",
            _ => "write of zeroes",
        };
        format!("{what} of {len} bytes at {offset}")
    }

    /// Gives the kernel a result, and the buffer for the next request.
    fn commit(&mut self, cx: &mut Cx<'_>, tag: u16, result: Result<Vec<Buf>, Errno>) {
        let Tag::Busy { mut buf, desc } = mem::replace(&mut self.tags[usize::from(tag)], Tag::Fetching) else {
            debug_assert!(false, "completes_exactly_once: tag {tag} has no request");
            return;
        };
        if !buf.is_unique() {
            // An abandoned write may still be sent from it.
            buf = self.buffers.take(self.io_max as usize);
        }
        let code = match result {
            Ok(parts) => {
                let mut at = 0;
                if let Some(bytes) = buf.get_mut() {
                    for part in &parts {
                        bytes[at..at + part.len()].copy_from_slice(part.as_slice());
                        at += part.len();
                    }
                }
                self.count(&desc);
                match desc.op {
                    sys::OP_READ | sys::OP_WRITE => (u64::from(desc.sectors) * sys::SECTOR) as i32, // at most `io_max`
                    _ => 0,
                }
            }
            Err(errno) => {
                self.counters.errors += 1;
                -(errno as i32)
            }
        };
        self.command(cx, sys::COMMIT_AND_FETCH_REQ, tag, code, buf);
    }

    fn count(&mut self, desc: &sys::Desc) {
        let (counters, bytes) = (&mut self.counters, u64::from(desc.sectors) * sys::SECTOR);
        match desc.op {
            sys::OP_READ => {
                counters.reads += 1;
                counters.read_bytes += bytes;
            }
            sys::OP_WRITE => {
                counters.writes += 1;
                counters.written_bytes += bytes;
            }
            sys::OP_FLUSH => counters.flushes += 1,
            sys::OP_DISCARD => counters.trims += 1,
            _ => counters.zeroes += 1,
        }
    }

    /// Its request stays unanswered: the kernel gives it to the next process.
    fn leave_tag(&mut self, tag: usize) {
        self.tags[tag] = Tag::Over;
        self.last.0.left.store(true, Ordering::Release);
    }

    /// The host has ended: what it has not answered is for the next process.
    fn leave_busy(&mut self) {
        if self.is_leaving() && self.disk.as_ref().is_some_and(Disk::is_left) {
            self.disk = None;
            let busy = |tag: &usize| matches!(self.tags[*tag], Tag::Busy { .. });
            let busy: Vec<usize> = (0..self.tags.len()).filter(busy).collect();
            busy.into_iter().for_each(|tag| self.leave_tag(tag));
        }
    }

    fn is_leaving(&self) -> bool {
        self.last.0.leave.load(Ordering::Acquire)
    }

    /// Follows the gate of its device: when it is shut everything that is under way fails, and when it is opened a disk is
    /// behind it again.
    fn follow(&mut self, cx: &mut Cx<'_>) {
        let number = self.last.0.gate.number();
        // One that is leaving begins nothing, and what it has begun is not for this process to end.
        if self.gate == number || self.is_leaving() {
            return;
        }
        self.gate = number;
        self.fail_busy(cx);
        if !self.last.0.fail.load(Ordering::Acquire) {
            let door = self.last.0.gate.namespace().and_then(|namespace| namespace.local(cx));
            self.disk = door.map(|door| Disk::new(door, self.buffers.clone(), self.on_loss));
        }
    }

    fn obey(&mut self, cx: &mut Cx<'_>) {
        if self.disk.is_some() && self.last.0.fail.load(Ordering::Acquire) {
            self.fail_busy(cx);
        }
    }

    fn fail_busy(&mut self, cx: &mut Cx<'_>) {
        self.disk = None; // abandons
        for tag in 0..self.tags.len() {
            if matches!(self.tags[tag], Tag::Busy { .. }) {
                self.counters.abandoned += 1;
                self.commit(cx, tag as u16, Err(Errno::Io)); // tags are fewer than 4096
            }
        }
    }

    fn publish(&self) {
        let mut counters = self.counters;
        if let Some(disk) = &self.disk {
            counters.in_flight = disk.in_flight() as u64;
            disk.count_held(&mut counters);
        }
        self.last.0.counters.set(counters);
    }
}

/// True if the host's end and nothing else is why a request has no answer, so that whoever takes the device over carries it
/// out again. What may still take effect is fenced there first.
const fn is_for_successor(leaving: bool, fault: Fault) -> bool {
    leaving && matches!(fault, Fault::Refused(Refused::ShuttingDown) | Fault::Indeterminate | Fault::Unknown)
}

impl Service for Queue {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Op { token, result, buf } => self.fetched(cx, token as u16, result, buf), // as given to `submit`
            Event::Deadline => {
                if let Some(disk) = &mut self.disk {
                    disk.handle_timeout(cx);
                }
            }
            _ => {}
        }
    }

    fn turn(&mut self, cx: &mut Cx<'_>) {
        self.obey(cx);
        self.follow(cx);
        self.answer(cx);
        self.leave_busy();
        self.publish();
        cx.set_deadline(self.disk.as_ref().and_then(Disk::next_deadline));
        if !self.quiet && self.is_leaving() && self.disk.as_ref().is_none_or(|disk| disk.in_flight() == 0) {
            self.quiet = true;
            self.last.0.set(Standing::Quiet);
        }
        if self.tags.iter().all(|tag| matches!(tag, Tag::Over)) {
            cx.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_leaves_answers_nothing_for_the_end_of_its_host() {
        let of_the_end = [Fault::Refused(Refused::ShuttingDown), Fault::Indeterminate, Fault::Unknown];
        let answers = [Fault::Refused(Refused::OutOfRange), Fault::CacheLost, Fault::Shut, Fault::NotFast];
        assert!(of_the_end.iter().all(|fault| is_for_successor(true, *fault) && !is_for_successor(false, *fault)));
        assert!(!answers.iter().any(|fault| is_for_successor(true, *fault)));
    }
}
