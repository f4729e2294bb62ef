//! One queue pair and one association as machines without input or output.
//!
//! NVMe/TCP runs one queue pair over one TCP connection. Everything that must hold on such a stream - framing,
//! digests, who may send how much when, which command a byte belongs to, whether a command may have reached the
//! other side - is decided here, for both roles, from values alone. A driver moves bytes and owns buffers; the brains
//! above (`host-core`, `target-core`) decide what to ask for and what to answer.
//!
//! - [`host::Queue`]: the host's end of a queue pair. Knows for every command whether its first byte was given away.
//! - [`target::Queue`]: the controller's end of a queue pair.
//! - [`host::Association`]: from Connect to a live controller, one command at a time.
//! - [`host::KeepAlive`]: when to send Keep Alive and when to stop believing.
//!
//! # How a driver runs a queue
//! 1. Received bytes: call `handle_bytes`. It says how many bytes it took ([`Taken::used`]) and, if payload follows,
//!    where it belongs ([`Taken::place`]). Copy it, call `handle_placed`, go on behind it.
//! 2. Drain `poll_event`. Repeat from 1 until nothing was used and nothing placed. Bytes that remain then wait for an
//!    answer of the owner (`is_blocked`): keep them, stop reading, offer them again.
//! 3. Drain `poll_send` into a [`SendList`], send it, tell `handle_given` how many bytes the kernel accepted.
//! 4. On [`Fatal`](interlock_wire::pdu::Fatal): `poll_send` may yield one last termination request; send it if
//!    that costs nothing, then close.
//!
//! # Example
//! Both ends of a queue pair in one process. The connection between them is a `Vec`, so the loop is all there is:
//!
//! ```
//! use interlock_proto::{Segment, SendList, Sink, Source, host, target};
//! use interlock_wire::{fabrics::PropertyGet, status::Status};
//!
//! /// Carries what `$from` has to send to `$to`: steps 3 and 1 of the loop.
//! macro_rules! carry {
//!     ($from:ident => $to:ident) => {{
//!         let (mut list, mut bytes) = (SendList::new(), Vec::new());
//!         $from.poll_send(&mut list);
//!         for segment in &list.segments {
//!             match *segment {
//!                 Segment::Header { start, len } => bytes.extend(&list.headers[start as usize..][..len as usize]),
//!                 Segment::Payload { .. } => unreachable!("this example sends no payload"),
//!             }
//!         }
//!         $from.handle_given(list.bytes());
//!         let taken = $to.handle_bytes(&bytes)?;
//!         assert_eq!(taken.used, bytes.len());
//!     }};
//! }
//!
//! let mut host = host::Queue::new(host::QueueConfig { depth: 32, hdgst: true, ddgst: false, in_capsule: 0 });
//! let mut target = target::Queue::new(target::QueueConfig {
//!     hdgst_allowed: true,
//!     ddgst_allowed: true,
//!     maxh2cdata: 1 << 16,
//!     in_capsule_max: 8192,
//!     max_transfer: 1 << 20,
//!     slots: 64,
//! });
//!
//! // Initialize Connection Request and Response.
//! carry!(host => target);
//! carry!(target => host);
//! assert!(matches!(host.poll_event(), Some(host::Event::Ready { .. })));
//! assert!(matches!(target.poll_event(), Some(target::Event::Ready { hdgst: true, ddgst: false })));
//!
//! // A command: the owner of the host's queue submits it, the owner of the target's queue answers it.
//! host.submit(PropertyGet::VS.to_sqe(), Source::None, Sink::None, 7).expect("the queue is empty");
//! carry!(host => target);
//! let Some(target::Event::Command { slot, .. }) = target.poll_event() else { panic!("the command is there") };
//! target.respond(slot, Status::SUCCESS, 0x0002_0300, 0, Source::None);
//! carry!(target => host);
//! let Some(host::Event::Completed { token: 7, cqe, .. }) = host.poll_event() else { panic!("it is answered") };
//! assert_eq!(cqe.result(), 0x0002_0300);
//! # Ok::<(), interlock_wire::pdu::Fatal>(())
//! ```
#![no_std]

extern crate alloc;

mod data;
mod frame;
mod send;

pub mod host;
pub mod target;

pub use data::{DataError, MAX_CONTROL_DATA, Padded, Place, Sink, Source, Taken};
pub use send::{MAX_POLL_BYTES, MAX_POLL_SEGMENTS, Segment, SendList};
