//! NBD, the protocol of network block devices, over a Unix socket.

mod connection;
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

pub use memory::{NbdLimits, NbdMemory};
pub use server::{NbdServer, NbdSettings};
