//! ublk: block devices of the kernel, served from user space.
//!
//! The kernel hands each request to the reactor that serves its queue, through the same ring that carries the sockets:
//! no other thread is involved. The device outlives its server: when a process dies, the kernel keeps the device and its
//! requests, and a successor takes over. What the dead process had sent may still be under way then, so the successor
//! ends the recovery only after the lives of its predecessor are fenced; nothing new reaches it before that.
//!
//! Payload is copied by the kernel into a buffer of ours before a request is seen here, so that what is sent, sent again
//! and checksummed is one stable copy, whatever an application does with its pages meanwhile.

mod control;
mod device;
mod queue;
mod sys;

pub use device::{UblkDevice, UblkSettings};
