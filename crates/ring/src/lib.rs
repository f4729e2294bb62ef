//! Reactors: sockets, files, deadlines, mail and buffers over `io_uring`, or over epoll where that is forbidden.
//!
//! A fencing host must know what the kernel still does in its name: which bytes are queued, which buffers are read,
//! which connection is really dead. No common runtime answers that, so this crate is one of its own, small, and
//! ignorant of NVMe.
//!
//! - The program makes a [`Pool`] of reactor threads. Parts of the program are [`Service`]s, attached to a
//!   [`Reactor`]; each runs on one thread, gets [`Event`]s and acts through [`Cx`].
//! - Sockets: direct non-blocking calls first; to wait, one multishot poll per socket in the ring, or one registration in
//!   an epoll set ([`Backend`]). Before it sleeps a reactor spins for a configurable time.
//! - [`Cx::abort`] really ends a connection: when it returns, nothing of the send queue can be sent any more.
//!   [`Cx::close`] ends it in order: everything queued is delivered.
//! - Files: [`FileOp`]s through the ring or a few threads, with owned [`Buf`]s that come back with the result.
//! - Other threads put mail where the service finds it and call [`Waker::wake`]: one system call per sleep at most.
//!
//! ```
//! use interlock_ring::{Cx, Event, Pool, PoolConfig, Service};
//! use std::sync::mpsc;
//! use std::time::Duration;
//!
//! struct Clerk(mpsc::Receiver<u32>, mpsc::Sender<u32>);
//! impl Service for Clerk {
//!     fn handle(&mut self, _: &mut Cx<'_>, event: Event) {
//!         if let Event::Mail = event {
//!             self.0.try_iter().for_each(|n| self.1.send(n * 2).unwrap());
//!         }
//!     }
//! }
//!
//! let pool = Pool::new(PoolConfig::default()).unwrap();
//! let (letters, inbox) = mpsc::channel();
//! let (answers, answer) = mpsc::channel();
//! let (tell, waker) = mpsc::channel();
//! pool.reactor(0)
//!     .attach(move |cx| {
//!         tell.send(cx.waker()).unwrap();
//!         Box::new(Clerk(inbox, answers))
//!     })
//!     .unwrap();
//! letters.send(21).unwrap();
//! waker.recv().unwrap().wake();
//! assert_eq!(answer.recv().unwrap(), 42);
//! pool.shutdown(Duration::from_secs(5)).unwrap();
//! ```

mod backend;
mod buf;
mod clock;
mod core;
mod cx;
mod dispatch;
mod driver;
mod faults;
mod file;
mod inbox;
mod memory;
mod poller;
mod pool;
mod service;
mod socket;
mod sys;
mod table;

pub use backend::{Backend, NoBackend};
pub use buf::{Account, Buf, BufPool};
pub use clock::{now, raw_now};
pub use cx::{Cx, SLICES_MAX};
pub use dispatch::ACCEPT_RETRY;
pub use driver::driver_command;
pub use faults::{Call, Faults, Verdict};
pub use file::{FileOp, Space, StartBy};
pub use inbox::Waker;
pub use pool::{Detaching, NotDetached, Panicked, Pool, PoolConfig, Reactor, ShutdownError, Stopped};
pub use service::{Event, File, Listener, Service, ServiceId, Sock};
pub use socket::{Aborter, ConnectOptions, Loose};
pub use table::BufTable;
