//! Moves bytes between sans-io machines and a reactor's sockets.
//!
//! Host control, host lane and target lane are the same thing to a driver: a machine with connections, which says where
//! payload goes and what to send. Carrying for them is one job, so it stands in one place: staged receive with one copy,
//! direct receive of large payloads, vectored send of everything that is ready, and the data digests in the same pass as
//! the copy. Nothing here decides anything.
//!
//! The contract with a [`Machine`]:
//!
//! 1. [`Wires::readable`] offers bytes until the socket is dry, the machine is blocked, or a budget ends.
//! 2. [`Wires::flush`] polls the machine for one connection and gives the kernel what it takes.
//! 3. What was polled but not yet given is forgotten by [`Wires::stop_sending`]; the machine knows from `handle_given`
//!    exactly how far the stream went.

mod copied;
mod machine;
mod mailbox;
mod outbox;
mod wires;

pub use copied::{copied, note_copied};
pub use machine::Machine;
pub use mailbox::{MAX_OFFERED, Mailbox, NotTaken};
pub use wires::{Io, Read, Wires};
