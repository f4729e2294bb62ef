//! A world in one seed: runs the two cores against each other and hunts for the mistakes of recovery.
//!
//! The hazards of failover live in orders of events that no test on real sockets meets twice. Here one seed decides
//! everything - topology, settings, load, faults, delays - and the same seed gives the same trace, byte for byte. Host
//! and target are the real cores; clock, network, reactors, mailboxes and disks are simulated; two oracles and a
//! checker per invariant watch.
//!
//! # The fault model
//! Per connection and direction:
//! - bytes arrive in order, after any delay, cut at any byte (torn reads); a kernel takes less than it was offered;
//! - a direction falls silent and gives everything back when it heals (retransmission), or never to a socket that has
//!   timed out (`TCP_USER_TIMEOUT`); both directions, or one (half open);
//! - a silent path lets single segments through, so that a life at the target outlives its host's hope by keep-alive windows;
//! - a reset at any byte, seen by the host, by the target, or by both;
//! - bytes that a box on the way keeps ("in the network"): they arrive after their socket was aborted, up to a bound.
//!
//! In the target: commands that change media stall inside, lose their connection, and execute arbitrarily late - around
//! the end of the hold, a receipt, an answer (ghosts); commands that vanish; slow media on all paths; a port that is mute
//! without a word, or closed; commands answered with path-related, ANA, transient and final errors, in time or when their
//! life is lost already; media that fail before or after they have changed something; flushes that fail and lose what they were
//! to make durable, at devices that remember it and at devices that say so once; a target that dies and forgets every
//! life; a whole machine of the target that stands still for a while, around the moments at which a life must be over; ANA
//! flips; namespaces that grow and shrink; a namespace that is deleted or formatted while no association stands, and another
//! disk or format that has its NSID afterwards; events that are told twice. Cross-controller reset that is refused with
//! each status, answered late, drained slowly, its event lost or repeated, its log stale; not offered at all; sources that
//! die while they fence. Effective KATO larger than asked for, quiesce time stated or not. Logs of resets that keep every
//! entry, and resets that are accepted and fail. A clock that is slower or faster than the host's, as far as the margin of
//! a hold covers; and, with the slowest, a last Keep Alive that is as late as any byte may be; or, where an operator
//! allows for no slow clock, with a target whose timers fire as late as the constant part of the margin covers. Of the host's two clocks one is
//! made faster by a time daemon, or has a wrong crystal, or is wrong at once; its machine is suspended, and neither has noticed.
//! A block of which every controller dies that is given a command for it, also while everything else is whole; a path that flaps; a
//! target that crashes again and again.
//!
//! Its admin side has bad hours: any Fabrics or admin command, at connect and later, fails with any status (with and without
//! Do Not Retry and a retry delay, executed or not), is answered late or later than anybody waits, as if it were not
//! supported, with less data than was asked for, with a page of zeroes, or with identifiers or namespaces missing; event
//! requests, the log of resets, the ANA log and the keep-alive time in force among them. In some worlds the ANA log is longer than one
//! command carries, and changes between two pieces of it; the target knows RGO, ignores or refuses it.
//!
//! In one world of eight each controller has a write cache of its own, which ends with its life or with the target, and the
//! host is told so (flush scope `controller`). The loss is booked, not carried out: blocks go on reading as they did, and what
//! a flush and Force Unit Access promise is checked at each answer against what is durable - written back by a flush through
//! the same controller that began after the write was answered, or by an orderly shutdown. What a flush was told to be lost, by
//! the name of a life, no later one owes.
//!
//! More than one subsystem: two that serve the same disks, of which a host uses one until its process ends and the other one from then
//! on; two on one host, with one set of NSIDs and CNTLIDs, of which one may be spared every fault. Two
//! targets that claim one NQN: with other disks, that say so, and controllers of the same or of other numbers; or set up just
//! alike, and there for a while. Disks that are given other identifiers while they are connected.
//!
//! A second host at the same subsystem, on a machine of its own and with a load of its own: another host, or one that says that it is
//! the first one, as after a virtual machine was cloned; with or without a copy of the records of the first one, which runs on. It
//! has its part of what happens to paths and target, or is spared everything.
//!
//! The process of the host: killed at any moment, with or without the power of its machine, and started again, also while
//! it fences what the one before left. Its sockets are reset late, and until then its kernel goes on sending; a record
//! that was being written may be there or not, and one that was not synced goes with the power. Somebody takes the state
//! directory of a running process: what is lost after that is not for it to release.
//!
//! The disk with the records is slow, or says that a record or its removal failed, done all the same or not. A lane that panics
//! ends its process, and nothing of what it wanted is done.
//!
//! Who uses the host: callers that give changes up while another lane writes over them; all I/O policies, KATO 0, a host that
//! only notifies of a loss, settings that change, rescan, names that last over processes, and somebody who says of a life that
//! the target has forgotten that it is over.
//!
//! In the host: a lane or control that hangs for a while, messages between them that are slow, two paths lost within one
//! round trip, requests given up by their callers, an operator who resets, disconnects and connects in the middle of it.
//!
//! # What is withheld, and why
//! - A target that lies about KATO, CQT or CCR: no implementation could survive it. Media operations and messages within
//!   the target stay within the stated quiesce time. (Lying is a mutation, and is seen.)
//! - For fences by time: bytes that arrive more than one KATO after their sender aborted. The hold of the specification
//!   has one KATO for the network and no more. Under a fence by reset they may come as late as they like: the target has
//!   closed the connection.
//! - Both clocks of the host wrong at once: one made faster, and the raw one ahead. A hold ends by the later of them.
//! - Overlapping commands torn within one block: blocks are atomic, as the specification says.
//! - Another disk under an NSID while an association stands: a command names an NSID and no more, and what was sent before
//!   its host could know reaches the other disk through any host.
//! - Two targets that were set up just alike, of which the second is first seen when no controller of the first one is there:
//!   nothing on the wire tells that from one target that was started again.
//! - A log of resets that shows neither the reset that is under way nor removes what is old, and an old entry that comes
//!   up there after it was looked for: such a log says the same of two lives.
//! - Loss of a cache that was said to be shared. In seven worlds of eight the host has the flush scope `subsystem`: the cache
//!   survives any controller. A target that loses it all the same lies, and nothing on the wire tells.
//! - What an earlier process of the host had answered through caches that died with their controllers: its successor knows
//!   nothing of it, and its flushes promise what it has answered itself.
//!
//! - A keep-alive time that is stated wrongly: it lies about what a hold rests on. (A page of Identify Controller that is empty, or cut
//!   off, is in: it names no subsystem.)
//! - An operator whose word for the end of a life is not true, and the policy `legacy`: without a fence there is no promise.
//!
//! # What watches
//! The black box and the white box of `interlock_check`; a checker per invariant; the assertions of the cores; and at
//! the end: everything healed, every accepted request ends within a computed bound, every touched block is read back
//! after the last ghost was delivered or refused, and the host ends in order.

mod agenda;
mod app;
mod chaos;
mod checkers;
mod clocks;
mod coverage;
mod crash;
mod disks;
mod draw;
mod explore;
mod flushes;
mod host_side;
mod long_log;
mod media;
mod minimise;
mod mix;
mod mutation;
mod neighbour;
mod net;
mod outbox;
mod ownership;
mod parts;
mod peer;
mod phases;
mod run;
mod shards;
mod stall;
mod store;
mod story;
mod target_side;
mod ways;
mod world;

pub use coverage::{Coverage, cover};
pub use explore::{
    Death, Exploration, FenceWorld, FencesSeen, Found, Limits, Slow, SmallWorld, WriteOf, WrongClock, explore,
    explore_fences, explore_main,
};
pub use minimise::{ATTEMPTS, Story, minimise};
pub use mix::{ENOUGH_RUNS, Kind, Kinds, Met, Mix};
pub use mutation::{Mutation, Tampering};
pub use run::{Hunt, Outcome, Progress, Summary, Until, hunt, run_many, run_seed};
pub use shards::{SHARD, Shard, Shards};
pub use world::{Stats, Violation};
