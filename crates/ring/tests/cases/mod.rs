//! What must hold over either backend: the including test says over which.

mod common;
mod ends;
mod files;
mod services;
mod sockets;
