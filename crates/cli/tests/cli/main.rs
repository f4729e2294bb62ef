//! The real binary, as a child process, on ephemeral ports.
//!
//! What is decided is tested where it is decided; these tests prove the wiring: options, sentences, exit codes, signals,
//! and that nothing is left behind. No test waits for time to pass: a child says in its first line where it listens.

mod abuse;
mod bad_input;
mod beside;
mod child;
mod control;
mod disk;
mod errors;
mod failures;
mod forbidden;
mod hostile;
mod library;
mod load;
mod looking;
mod raw;
mod serving;
mod short;
mod stopped;
mod transfer;
