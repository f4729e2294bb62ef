//! The terminal monitor: which paths carry I/O, which do not, and what happened to them.
//!
//! `nvme top` shows what is; during an outage one wants to see what *changes*, so there is a timeline beside every table,
//! and every number has its recent past as a sparkline. The monitor works on any [`Source`], so the same keys serve our
//! host and the kernel's.
//!
//! Three parts that do not know each other's insides: [`App`] (what is shown, pure; keys and samples in, [`Effect`] out),
//! [`draw`] (a frame of an [`App`], pure), [`run`] (the terminal, the clock and the source). [`once`] prints one sample
//! for scripts.

mod app;
mod columns;
mod draw;
mod filter;
mod history;
mod keyboard;
mod numbers;
pub mod once;
mod tables;
mod terminal;
mod timeline;

pub use app::{App, Effect, Key};
pub use draw::draw;
pub use interlock_observe::Source;
pub use terminal::{Options, run};
