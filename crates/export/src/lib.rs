//! Block front ends of a namespace.
//!
//! A namespace that survives the loss of its paths is of use to programs that know nothing of NVMe only if it looks
//! like a disk. This crate serves namespaces over NBD on a Unix socket, which every machine has clients for, and as
//! block devices of the kernel where that has ublk. It does not forget on the way what the host has taken such care of:
//!
//! - a client is not told "failed" of a write that may still take effect, unless it asked for that ([`OnLoss`]);
//! - the writes of a client that goes away without a word are abandoned: guarded until they are answered or fenced, and
//!   never sent again; one that says goodbye is waited for. A client that connects afterwards writes after them;
//! - a flush on any connection covers every write that was answered on any of them;
//! - an export is bound to the disk that it was made for, and never serves another one ([`Permit`]).
//!
//! ```no_run
//! use interlock_export::{ExportSettings, NbdServer, NbdSettings, Stop};
//! # fn example(pool: &interlock_host::Pool, host: &interlock_host::Host) -> Result<(), Box<dyn std::error::Error>> {
//! let server = NbdServer::start(pool.reactors(), NbdSettings::new("/run/interlock/nbd.sock"))?;
//! server.add(ExportSettings::new("disk0", host.namespace("nqn.2026-11.io.interlock:target", 1)?))?;
//! // nbdinfo nbd+unix:///disk0?socket=/run/interlock/nbd.sock
//! server.stop(Stop::Drain, std::time::Duration::from_secs(10))?;
//! # Ok(())
//! # }
//! ```

mod disk;
mod error;
mod fault;
mod faults;
mod gate;
mod identity;
mod nbd;
mod payload;
mod permit;
mod status;
mod turns;
mod ublk;

pub use error::ExportError;
pub use faults::{Faults, TELL_EVERY};
pub use identity::{Difference, DiskIdentity};
#[doc(hidden)]
pub use nbd::fuzz_nbd;
pub use nbd::{NbdLimits, NbdMemory, NbdServer, NbdSettings};
pub use permit::{GONE_AFTER, Permit, Seen, Sight, Verdict, Waits};
pub use status::{ConnectionStatus, Counters, ExportSettings, ExportStatus, OnLoss, Stop};
pub use turns::{Comer, Comers, Pace, Turns};
pub use ublk::{UblkDevice, UblkSettings};
