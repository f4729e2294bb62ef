//! When may a write in doubt be sent again?
//!
//! A host that loses a path does not know what became of the writes that it had sent there. Today's hosts send them again on
//! another path at once, and the old one overwrites the new one when a stalled controller wakes up. This crate holds the whole
//! argument that this cannot happen here. It has no clock, no socket and no thread: one machine, [`Fences`], with one door,
//! [`Fences::handle`] and [`Fences::poll`].
//!
//! # The argument
//!
//! An *instance* is one span of a controller from enable to reset; CNTLID, CIU and CIRN name it ([`Identity`]).
//!
//! 1. **What can still happen is known by command.** A command is *settled* if nothing of it can take effect later: not one byte
//!    of it was given to the kernel, or it was answered, or it has no late effect. It goes to another path at once. Every other
//!    command is *in doubt* ([`classify`]).
//! 2. **Nothing more is sent.** With [`Input::Lost`] every lane is told to stop. Each answers with its commands in doubt
//!    ([`Input::Ledger`]), and once no byte can leave its sockets any more with [`Input::Quiet`]. The latest of these moments,
//!    that of the admin socket among them, is `t0`. A lane that hangs is named, and its sockets are cut from outside
//!    ([`Output::Cut`]).
//! 3. **Nothing overtakes what is in doubt.** Its ranges stand in one table that every lane holds ([`Output::Table`]); what
//!    overlaps waits. Tables are counted, and each lane confirms the count ([`Input::TableSeen`]).
//! 4. **There is a proof that the instance can execute nothing more.** The first of these wins:
//!    - another controller of the subsystem has reset it, and said so with *Immediate Reset Successful*;
//!    - the log of that controller says so, in an entry that can be of no earlier reset: the log was purged before, and read
//!      after the controller had said that it began ([`ViaStage`] is the table of what each answer means);
//!    - the time that the target states has passed since `t0`, by two clocks ([`HoldTerms`]);
//!    - its controller, which the operator declared to drain first, has said that it is disabled.
//!
//!    Where time rests on an assumption, or somebody accepts the risk, that is no proof, and the receipt says so ([`Method`]).
//! 5. **Release.** With a proof, and once every lane has sent its ledger and holds the table, and this process is known to be the
//!    host still ([`Output::ConfirmOwner`]), lanes send the held commands again ([`Output::Settle`]). Not before. What is
//!    released stays in the table until it has ended: it is itself a write in flight.
//! 6. **A late answer is decided once.** Before the release it is the result of its command ([`Output::Answer`]); after that it is
//!    dropped.
//! 7. **Giving up is no release.** Where nobody waits any longer, commands end as not known, after `t0` and after every lane holds
//!    the table. Their ranges stay protected until there is a proof ([`Tombstone`]).
//! 8. **A process that died is an instance lost.** What it left in doubt is not known, so every range of every namespace that it
//!    could write to is protected before the first path is usable ([`Input::Predecessor`], [`Input::Found`]).
//!
//! It rests on what the caller promises: inputs are true and in the order in which they happened; outputs are carried out in the
//! order in which they are polled, each before the next; a lane that was told that an instance is lost sends nothing on it; and
//! the target does what it states.
//!
//! # One failover
//!
//! ```
//! use interlock_base::Instant;
//! use interlock_fence::{
//!     CtrlId, FencePolicy, Fences, GuardKey, HeadId, HoldTerms, Identity, Input, LaneId, LedgerEntry, LifeId, Local, Loss, Lost,
//!     Method, Op, Output, Release, SourceFacts,
//! };
//! use interlock_wire::{nqn::Nqn, status::Status};
//! use std::time::Duration;
//!
//! let at = Instant::from_millis;
//! let subnqn = Nqn::new("nqn.2014-08.org.example:disks").expect("a valid name");
//! let identity = Identity { cntlid: 1, ciu: 7, cirn: 0x1234 };
//! let (lane, lost, sibling) = (LaneId(0), LifeId(1), LifeId(2));
//! let mut fences = Fences::new(1);
//! // Something happens, and everything that follows from it is carried out.
//! fn play(fences: &mut Fences, now: Instant, input: Input) -> Vec<Output> {
//!     fences.handle(now, input);
//!     std::iter::from_fn(|| fences.poll(now)).collect()
//! }
//!
//! // Another controller of the subsystem is live. Before it is asked for anything its log is read, so that nothing old is there.
//! let source = SourceFacts {
//!     life: sibling, ctrl: CtrlId(1), subnqn: subnqn.clone(), identity: Identity { cntlid: 2, ..identity },
//!     addr: None, local: Local::default(), ccrl: 4, begun: at(0),
//! };
//! let outputs = play(&mut fences, at(0), Input::SourceFound(Box::new(source)));
//! assert_eq!(outputs, [Output::ReadLog { source: sibling, remove: true }]);
//! play(&mut fences, at(1), Input::Log { source: sibling, removed: true, entries: Some(vec![]) });
//! play(&mut fences, at(1), Input::SourceUp(sibling));
//!
//! // A path is lost. The lane had sent a write that nobody has answered.
//! let terms = HoldTerms {
//!     kato: Duration::from_secs(5), kato_assumed: false, tbkas: true, cqt: Some(Duration::from_secs(1)), assumed_cqt: None,
//!     proxy_delay: Duration::ZERO, slew_permille: 100,
//! };
//! let loss = Lost {
//!     life: lost, ctrl: CtrlId(0), subnqn, addr: None, local: Local::default(), identity, terms: Some(terms),
//!     policy: FencePolicy::Strict, loss: Loss::KeepAlive, served: true, suspect: None, admin_quiet: Some(at(2_000)),
//!     late_grace: Duration::from_millis(250), last_chance: Duration::from_secs(60),
//! };
//! play(&mut fences, at(2_000), Input::Lost(Box::new(loss)));
//! let key = GuardKey { seq: 1, lane: 0 };
//! let write = LedgerEntry {
//!     key, life: lost, head: HeadId(0), op: Op::Write { fua: false }, range: 0..8, since: at(1_990), abandoned: false,
//! };
//! let ledger = Input::Ledger { lane, life: lost, entries: vec![write], settled: 0 };
//! let outputs = play(&mut fences, at(2_001), ledger);
//! // Its range is protected on every lane, and the sibling is asked to reset exactly this instance.
//! assert!(matches!(&outputs[0], Output::Table { epoch: 1, entries } if entries[0].range == (0..8)));
//! assert!(outputs.contains(&Output::Ccr { life: lost, source: sibling, impacted: identity }));
//!
//! // The sibling has done so. That is the proof; nothing is released before the lane holds the table, and before it is known that
//! // this process is the host still.
//! let reset = Input::CcrAnswer { life: lost, source: sibling, status: Status::SUCCESS, immediate: true };
//! let outputs = play(&mut fences, at(2_002), reset);
//! assert!(!outputs.iter().any(|output| matches!(output, Output::Settle { .. } | Output::ConfirmOwner(_))));
//! let outputs = play(&mut fences, at(2_003), Input::TableSeen { lane, epoch: 1 });
//! assert!(outputs.contains(&Output::ConfirmOwner(lost)));
//! let outputs = play(&mut fences, at(2_004), Input::Owner(lost));
//! assert!(outputs.iter().any(|output| matches!(output, Output::Fenced(receipt) if receipt.method == Method::Immediate)));
//! assert!(outputs.contains(&Output::Settle { life: lost, release: Release::Retry }));
//! assert!(!fences.is_lost(lost));
//! ```
//!
//! # How a reader checks it
//!
//! Read in this order; each file is one step of the argument, with the tests that name its cases:
//!
//! | file | step |
//! |---|---|
//! | `classify.rs` | 1: the choke point, one pure function; its table test is that of the lane |
//! | `fencing.rs` | the states of one lost instance, and what each of them knows |
//! | `protected.rs` | 3: the table and its epochs |
//! | `via.rs`, `pursuit.rs` | 4: what each answer of a source means, and whom to ask next |
//! | `source.rs` | 4: why an entry of a log can be of no earlier reset |
//! | `hold.rs`, `hold_clock.rs` | 4: how long, and by which clock |
//! | `fences/ends.rs` | 5 and 7: `try_release` and `try_give_up` list every condition |
//! | `predecessor.rs` | 8 |
//! | `door.rs` | all that the machine depends on, and all that it may do |
//!
//! Then take the conditions away one by one: `guards.rs` names each of them, and `cargo xtask sim --explore --world fences
//! --mutations` shows which invariant dies without it, in a world of fences alone that is walked to its end.
#![no_std]

extern crate alloc;

mod attempts;
mod classify;
mod door;
mod down;
mod fences;
mod fencing;
#[doc(hidden)]
pub mod guards;
mod hold;
mod hold_clock;
mod ids;
mod ledger;
mod predecessor;
mod protected;
mod pursuit;
mod receipt;
mod source;
mod via;

pub use attempts::{CcrAttempt, CcrAttempts, CcrResult};
pub use classify::{
    Case, Disposition, FencePolicy, MAX_SAME_PATH_RETRIES, Provenance, Standing, classify, flush_may_have_lost,
};
pub use door::{Input, Local, Lost, Output, Predecessor, SourceFacts, Told, Wait};
pub use down::{ConnectFailure, ConnectionEnd, DownReason, Termination};
pub use fences::{Fences, LANE_CUT, Protection, Standing as LostStanding};
pub use hold::{DEFAULT_SLEW_PERMILLE, Hold, HoldTerms, MARGIN};
pub use ids::{CtrlId, HeadId, LaneId, LifeId};
pub use ledger::{GuardEntry, GuardKey, GuardStands, LedgerEntry, Op, Release, SuspectCommand};
pub use receipt::{Cause, FencedBy, Guarded, Identity, Loss, Method, Receipt, Tombstone, Witness};
#[cfg(feature = "mutations")]
#[doc(hidden)]
pub use via::via_rows;
pub use via::{ViaEvent, ViaNext, ViaStage};
