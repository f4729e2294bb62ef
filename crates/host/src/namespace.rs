//! The door for any thread: plain futures, no runtime.

use crate::completion::{Completions, Pending, Reply};
use crate::host::{NamespaceStatus, Shared};
use crate::lane::LaneMail;
use crate::local::LocalNamespace;
use crate::split::Split;
use crate::{Buf, Outcome};
use interlock_carry::{Mailbox, NotTaken};
use interlock_host_core::{HeadId, LaneId, Op, Refused, Request, Shape};
use interlock_ring::Cx;
use interlock_wire::identify::NamespaceIds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers requests of foreign threads, over all namespaces of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A namespace, merged over all its paths. Clones are cheap and share everything.
///
/// Every method takes a buffer by value and gives it back with the result, because the kernel, a queue or a held
/// command may use it after the call has returned. Blocks are counted in the namespace's own block size
/// ([`Namespace::shape`]).
///
/// One request at a time, on a thread of your own:
///
/// ```no_run
/// # use interlock_host::{Namespace, Outcome};
/// # fn example(namespace: &Namespace) {
/// let mut buf = namespace.buffer(8);
/// buf.get_mut().expect("a fresh buffer has one holder").fill(0x5a);
/// let (outcome, buf) = namespace.write(1024, buf).wait();
/// assert_eq!(outcome, Outcome::Ok);
/// assert_eq!(namespace.flush().wait().0, Outcome::Ok);
/// # drop(buf);
/// # }
/// ```
///
/// Many in flight, as they end:
///
/// ```no_run
/// # use interlock_host::{Completions, Namespace, Op};
/// # use std::time::{Duration, Instant};
/// # fn example(namespace: &Namespace) {
/// let done = Completions::new();
/// for slot in 0..32 {
///     namespace.submit(Op::Read, slot * 8, 8, Some(namespace.buffer(8)), &done, slot);
/// }
/// while let Some(completion) = done.wait_until(Instant::now() + Duration::from_secs(60)) {
///     println!("slot {}: {:?}", completion.token, completion.outcome);
/// }
/// # }
/// ```
///
/// In any executor, because a [`Pending`] is a plain future:
///
/// ```no_run
/// # use interlock_host::{Namespace, Outcome};
/// # async fn example(namespace: &Namespace) -> Outcome {
/// let (outcome, _buf) = namespace.discard(0, 4096).await;
/// outcome
/// # }
/// ```
#[derive(Clone)]
pub struct Namespace {
    shared: Arc<Shared>,
    lane: LaneId,
    mail: Mailbox<LaneMail>,
    head: HeadId,
    subnqn: String,
    nsid: u32,
    ids: NamespaceIds,
    shape: Shape,
}

impl Namespace {
    pub(crate) fn new(shared: Arc<Shared>, lane: LaneId, found: NamespaceStatus) -> Self {
        let NamespaceStatus { head, subnqn, nsid, ids, shape, .. } = found;
        let mail = shared.lanes[usize::from(lane.0)].clone();
        Self { shared, lane, mail, head, subnqn, nsid, ids, shape }
    }

    /// What it looked like when this handle was made. A later resize shows in `NamespaceResized` events.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The host's name for it.
    #[must_use]
    pub const fn head(&self) -> HeadId {
        self.head
    }

    /// Its subsystem.
    #[must_use]
    pub fn subnqn(&self) -> &str {
        &self.subnqn
    }

    /// Its identifier within the subsystem.
    #[must_use]
    pub const fn nsid(&self) -> u32 {
        self.nsid
    }

    /// By what it was known when this handle was made.
    #[must_use]
    pub const fn ids(&self) -> &NamespaceIds {
        &self.ids
    }

    /// A buffer for `blocks` blocks, from the host's pool. Its contents are unspecified.
    #[must_use]
    pub fn buffer(&self, blocks: u32) -> Buf {
        self.shared.buffers.take(blocks as usize * self.shape.block_size as usize)
    }

    /// Reads `nlb` blocks from `slba` on. The buffer comes from the host's pool.
    pub fn read(&self, slba: u64, nlb: u32) -> Pending {
        self.request(Op::Read, slba, nlb, Some(self.buffer(nlb)))
    }

    /// Reads into `buf`, which must be whole blocks and have no other holder ([`Refused::SharedBuffer`]).
    pub fn read_into(&self, slba: u64, buf: Buf) -> Pending {
        self.with_blocks(Op::Read, slba, buf)
    }

    /// Writes `buf`, which must be whole blocks.
    pub fn write(&self, slba: u64, buf: Buf) -> Pending {
        self.with_blocks(Op::Write { fua: false }, slba, buf)
    }

    /// Writes `buf` with Force Unit Access: on stable media before it is answered.
    pub fn write_fua(&self, slba: u64, buf: Buf) -> Pending {
        self.with_blocks(Op::Write { fua: true }, slba, buf)
    }

    /// Reads `nlb` blocks from `slba` on, however many: in as many commands as the paths need. Not atomic, see [`Split`].
    pub fn read_split(&self, slba: u64, nlb: u32) -> Split {
        Split::new(self, Op::Read, slba, nlb, self.buffer(nlb))
    }

    /// Writes `buf`, whole blocks and however many: in as many commands as the paths need. Not atomic, see [`Split`]. With
    /// `fua` each of them is on stable media before it is answered.
    pub fn write_split(&self, slba: u64, buf: Buf, fua: bool) -> Split {
        let blocks = buf.len() / self.shape.block_size as usize;
        // A length that fits in no request is refused as any other that is wrong.
        Split::new(self, Op::Write { fua }, slba, u32::try_from(blocks).unwrap_or(0), buf)
    }

    /// Compares blocks with `buf`, which must be whole blocks: the controller does, and no data comes back. `Ok` if they
    /// are equal; if not, [`Outcome::is_different`]. A controller need not have it (ONCS bit 0).
    pub fn compare(&self, slba: u64, buf: Buf) -> Pending {
        self.with_blocks(Op::Compare, slba, buf)
    }

    /// Makes everything durable that was answered before this call. Once a flush has failed in a way that says that answered
    /// writes may be lost, none of this namespace succeeds any more, through any handle of the host:
    /// [`Namespace::flush_error`].
    pub fn flush(&self) -> Pending {
        self.request(Op::Flush, 0, 0, None)
    }

    /// Why every flush of the namespace fails, if it does: a controller said that it could not make answered writes durable
    /// (an error with Do Not Retry, or one of the media), or was lost with them in its cache. Whose writes they were nobody
    /// can know.
    #[must_use]
    pub fn flush_error(&self) -> Option<Outcome> {
        self.shared.flush_errors.error(self.head)
    }

    /// Lets flushes succeed again: what was lost has been written again, or the caller accepts the loss. Returns what
    /// [`Namespace::flush_error`] returned.
    pub fn clear_flush_error(&self) -> Option<Outcome> {
        self.shared.flush_errors.clear(self.head)
    }

    /// Makes blocks read as zeroes, at most 65,536 at once; with `deallocate` their space may be given back.
    pub fn write_zeroes(&self, slba: u64, nlb: u32, deallocate: bool) -> Pending {
        self.request(Op::WriteZeroes { deallocate }, slba, nlb, None)
    }

    /// Says that blocks are not needed any more. What they read as afterwards is the target's choice.
    pub fn discard(&self, slba: u64, nlb: u32) -> Pending {
        self.request(Op::Discard, slba, nlb, None)
    }

    /// Submits any operation; its end goes to `queue` under `token`. For callers that keep many in flight.
    pub fn submit(&self, op: Op, slba: u64, nlb: u32, buf: Option<Buf>, queue: &Completions, token: u64) {
        let request = Request { head: self.head, op, slba, nlb, data: None };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        queue.used_by(&self.shared.abandons, self.lane, self.head);
        self.offer(id, request, buf, Reply::queue(queue, token));
    }

    /// The same namespace for a service on the reactor that `cx` belongs to; `None` if no lane of the host runs there.
    #[must_use]
    pub fn local(&self, cx: &Cx<'_>) -> Option<LocalNamespace> {
        LocalNamespace::open(cx, self.shared.key, self.head, self.shape)
    }

    pub(crate) fn with_blocks(&self, op: Op, slba: u64, buf: Buf) -> Pending {
        let len = buf.as_slice().len();
        let block = self.shape.block_size as usize;
        match u32::try_from(len / block) {
            Ok(nlb) if len.is_multiple_of(block) => self.request(op, slba, nlb, Some(buf)),
            _ => Pending::new(|reply| {
                reply.send(Outcome::NotSent(Refused::WrongLength), Some(buf));
                Box::new(|| {})
            }),
        }
    }

    fn request(&self, op: Op, slba: u64, nlb: u32, buf: Option<Buf>) -> Pending {
        let request = Request { head: self.head, op, slba, nlb, data: None };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Pending::new(|reply| {
            self.offer(id, request, buf, reply);
            let (abandons, lane) = (Arc::clone(&self.shared.abandons), self.lane);
            Box::new(move || abandons.request(lane, id, &request))
        })
    }

    /// Hands a request to the lane; what its mailbox does not take ends here.
    fn offer(&self, id: u64, request: Request, buf: Option<Buf>, reply: Reply) {
        let (mail, why) = match self.mail.offer(LaneMail::Submit { id, request, buf, reply }) {
            Ok(()) => return,
            Err(NotTaken::Full(mail)) => (mail, Refused::Busy),
            Err(NotTaken::Closed(mail)) => (mail, Refused::ShuttingDown),
        };
        mail.refuse(why);
    }
}
