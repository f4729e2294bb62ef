//! The only place where "stale" is defined.
//!
//! A drill that shows "no stale write" is worth what its definition of stale is worth, and a simulator that uses a
//! second definition proves something else. So both use this crate, which is pure: it sees operations, answers, the
//! contents of blocks and the target's own log, and nothing of NVMe.
//!
//! The sentence that is checked: *overlapping concurrent operations have no order among themselves, and an unfinished
//! write may take effect more than once until it completes; after it completed - or, if its outcome is indeterminate,
//! after its fence - never again.*
//!
//! - [`Stamp`]: what every written block carries, so that a read says which operation wrote it. Command identity, not
//!   data equality, decides: identical payloads would hide ghosts.
//! - [`Oracle`]: the black box. Which values may a block have, as seen by an application?
//! - [`WhiteBox`]: the same sentence, checked against the target's log of what it executed. It needs no later read.
//! - [`Load`]: seeded mixed operations that make staleness visible: few hot blocks, rewritten as soon as retried.
//! - [`Verdict`]: what the evidence of a scenario amounts to. A scenario that could not have gone wrong shows nothing.
//!
//! # Use
//! ```
//! use interlock_check::{Content, Load, LoadConfig, OpKind, Oracle, OracleConfig, Outcome, Stamp};
//! use interlock_base::Instant;
//!
//! let mut load = Load::new(LoadConfig { run: 1, seed: 1, blocks: 4096, ..LoadConfig::default() });
//! let mut oracle = Oracle::new(OracleConfig::new(1));
//! let op = loop {
//!     let op = load.next_op().expect("nothing is in flight");
//!     load.finished(op.id);
//!     if op.kind == OpKind::Write { break op }
//! };
//! let mut block = [0; 512];
//! Stamp::of(1, &op, op.lba).encode(&mut block); // fill every block of the write like this
//! oracle.submitted(op, Instant::ZERO);          // before it is given to the host
//! oracle.answered(op.id, Outcome::Ok, Instant::ZERO);
//! assert_eq!(Content::decode(&block), Content::Stamp(Stamp::of(1, &op, op.lba)));
//! assert!(oracle.violations().is_empty());
//! ```
#![no_std]

extern crate alloc;

mod load;
mod op;
mod oracle;
mod stamp;
mod verdict;
mod violation;
mod whitebox;

pub use load::{Load, LoadConfig, Overlap, Weights};
pub use op::{Op, OpId, OpKind, Outcome};
pub use oracle::{Deallocated, Initial, MAX_VIOLATIONS, Oracle, OracleConfig};
pub use stamp::{Content, MAX_BLOCK, MIN_BLOCK, Stamp};
pub use verdict::{Evidence, Fence, Ghosts, MIN_IN_DOUBT, ReadBack, Reason, Verdict, exit_code};
pub use violation::{Violation, Written};
pub use whitebox::{Life, Method, WhiteBox};
