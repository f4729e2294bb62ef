//! A network between host and target that can be told to fail.
//!
//! A foreign target takes no script, so against one the faults come from the network: bytes that are delayed there, a
//! path that is reset for the host and not for the target, a path that is dead without a word. This is a service on a
//! reactor of its own, not the host's, with a port of its own per path. It says when it held, delivered or could not
//! deliver a write; whether that was right is not its matter.

mod conn;
mod cut;
mod frame;
#[cfg(test)]
mod samples;
mod service;

pub(crate) use cut::{Extent, HeldWrite};
#[doc(hidden)]
pub use frame::fuzz_frames;

use interlock_base::Instant;
use interlock_ring::{Pool, PoolConfig, Waker};
use service::Service;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// To bind a port is a matter of microseconds.
const START_WITHIN: Duration = Duration::from_secs(10);

/// What the network is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes that come along on this path are held back from now on, with everything behind them.
    Hold {
        /// Which path.
        path: usize,
    },
    /// The host's side of every connection of this path is reset. The target is not told; new connections work.
    Reset {
        /// Which path.
        path: usize,
    },
    /// Nothing goes through on this path any more, in either direction, and no new connection is answered.
    Mute {
        /// Which path.
        path: usize,
    },
    /// The network heals: everything that was held is delivered.
    Release,
}

/// A connection through the proxy; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) u64);

/// What happened in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetEvent {
    /// A connection was made to the host, and one to the target for it.
    Opened {
        /// Which.
        conn: ConnId,
        /// On which path.
        path: usize,
    },
    /// A connection to the target could not be made.
    Unreachable {
        /// On which path.
        path: usize,
        /// Why.
        why: String,
    },
    /// A write is complete in the network, and held.
    Held {
        /// On which connection.
        conn: ConnId,
        /// Which.
        write: HeldWrite,
    },
    /// The host's side was reset.
    Reset {
        /// Which.
        conn: ConnId,
    },
    /// The target has ended its side.
    TargetClosed {
        /// Which.
        conn: ConnId,
        /// Bytes that were still held for it.
        kept: usize,
    },
    /// What was held was given to the target.
    Delivered {
        /// On which connection.
        conn: ConnId,
        /// Bytes.
        bytes: usize,
        /// Writes among them.
        writes: usize,
    },
    /// The target answered a write that had been held.
    Answered {
        /// On which connection.
        conn: ConnId,
        /// Which.
        write: HeldWrite,
        /// Whether it succeeded.
        ok: bool,
    },
    /// A write that was held cannot be executed any more: the target has ended that connection.
    Refused {
        /// On which connection.
        conn: ConnId,
        /// Which.
        write: HeldWrite,
    },
}

/// With the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StampedNet {
    /// When.
    pub(crate) at: Instant,
    /// What.
    pub(crate) event: NetEvent,
}

/// The running proxy.
pub(crate) struct Proxy {
    pool: Pool,
    faults: Sender<Fault>,
    waker: Waker,
    ports: Vec<SocketAddr>,
    events: Receiver<StampedNet>,
}

impl Proxy {
    /// Listens on one port of `127.0.0.1` (or `::1`) for each of `targets`.
    ///
    /// # Errors
    /// If a thread or a port cannot be had.
    pub(crate) fn start(targets: &[SocketAddr], spin: Duration) -> io::Result<Self> {
        let pool = Pool::new(PoolConfig { reactors: 1, spin, name: "drill-proxy".into(), ..PoolConfig::default() })?;
        let (faults, inbox) = mpsc::channel();
        let (tell, events) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let targets = targets.to_vec();
        let attach = move |cx: &mut interlock_ring::Cx<'_>| -> Box<dyn interlock_ring::Service> {
            let mut service = Service::new(inbox, tell);
            let ports = targets.iter().map(|target| service.listen(cx, *target)).collect::<io::Result<Vec<_>>>();
            // The one who starts it may have given up.
            let _ = ready.send((ports, cx.waker()));
            Box::new(service)
        };
        pool.reactor(0).attach(attach).map_err(io::Error::other)?;
        let (ports, waker) = started.recv_timeout(START_WITHIN).map_err(io::Error::other)?;
        Ok(Self { pool, faults, waker, ports: ports?, events })
    }

    /// Where the host finds each path.
    pub(crate) fn ports(&self) -> &[SocketAddr] {
        &self.ports
    }

    /// What happened.
    pub(crate) const fn events(&self) -> &Receiver<StampedNet> {
        &self.events
    }

    /// Tells it what to do.
    pub(crate) fn inject(&self, fault: Fault) {
        // Its reactor may have ended; then nothing goes through in any case.
        let _ = self.faults.send(fault);
        self.waker.wake();
    }

    /// Ends it; every connection is aborted.
    ///
    /// # Errors
    /// In words, if its thread does not end in time.
    pub(crate) fn shutdown(self, within: Duration) -> Result<(), String> {
        self.pool.shutdown(within).map_err(|error| error.to_string())
    }
}
