//! NBD, the protocol of network block devices, over a Unix socket.

mod connection;
mod fuzz;
mod handshake;
mod listener;
mod memory;
mod outbox;
mod server;
mod succession;
mod table;
mod transmission;
mod wire;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod transmission_tests;

#[doc(hidden)]
pub use fuzz::fuzz_nbd;
pub use memory::{NbdLimits, NbdMemory};
pub use server::{NbdServer, NbdSettings};
