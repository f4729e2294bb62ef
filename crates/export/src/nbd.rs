//! NBD, the protocol of network block devices, over a Unix socket.

mod connection;
mod fault;
mod handshake;
mod listener;
mod outbox;
mod server;
mod table;
mod transmission;
mod wire;

pub use server::{NbdServer, NbdSettings};
