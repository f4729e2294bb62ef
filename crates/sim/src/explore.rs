//! Every order of events in a small world.
//!
//! Seeds draw; they do not enumerate. The orders in which two paths can die within one round trip of each other, with a
//! write held on one of them and another on top of it, are few enough to try *all* of them: that is what this does, with
//! the same machines, cloned at every fork. A state that was reached before is not entered again; two states are the
//! same if their fingerprints are.
//!
//! # What a step is
//! One event is carried out and everything the machines want at once is done: one piece of mail between control and a
//! lane of the host; what one flush gave to a socket, arriving whole; a TCP connection that comes up or is refused; the
//! end of a media operation; a stalled command that is let loose; a durable record; a lane's send queue that is seen
//! empty; a timer; a fault; a request that is submitted or given up. Whatever is possible is tried, in every order that
//! the order of one connection and of one mailbox leaves.
//!
//! # What time does
//! Instants are concrete, but they only move when a timer fires, and timers fire in the order of their deadlines. A
//! timer may fire while something is under way only if that may take so long: messages and mail may take
//! [`SmallWorld::slack`], media operations the time the target states, and what a dead connection left in the network
//! one KATO (the bound that fences by time rely on). With a slack of zero the network is faster than every timer; what
//! the target stalls on purpose, and what is left in the network, still meets every timer in every order.
//!
//! # Fences alone
//! [`FenceWorld`] is of another kind: one machine and whatever can happen at its door. Its file says what is reduced there.
//!
//! # What is left out
//! A kernel takes all it is offered and delivers each flush whole: torn streams are the seeds' business. Control and
//! the one lane of the target share a reactor. Nothing is drawn. Steps that only set a connection up are not tried in
//! every order (`search::silent_step` says why that loses nothing).

mod fences;
mod host;
mod judge;
mod report;
mod scene;
mod search;
mod state;
mod target;

pub use fences::{FenceWorld, FencesSeen, Slow, WrongClock, explore_fences};
pub use report::main as explore_main;
pub use scene::{Death, SmallWorld, WriteOf};
pub use search::{Exploration, Found, Limits, explore};
