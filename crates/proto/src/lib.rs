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
#![no_std]

extern crate alloc;

mod data;
mod frame;
mod send;

pub mod host;
pub mod target;

pub use data::{DataError, MAX_CONTROL_DATA, Padded, Place, Sink, Source, Taken};
pub use send::{MAX_POLL_BYTES, MAX_POLL_SEGMENTS, Segment, SendList};
