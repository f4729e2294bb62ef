//! The control channel: what a running target can be told, and by whom.
//!
//! A test, a drill or an operator must change a target while hosts are connected, and see what it holds. The way in is
//! a Unix socket that only its owner can open. One line of JSON is one request, one line of JSON is its answer:
//!
//! ```text
//! {"format_version":1,"request":"namespace-add","backing":"mem:64M"}
//! {"format_version":1,"ok":{"answer":"namespace","nsid":3,"bytes":67108864}}
//! {"format_version":1,"request":"port-close","prot":1}
//! {"format_version":1,"error":"unknown key `prot`: did you mean `port`? there is `port`"}
//! ```
//!
//! Requests on one connection are carried out one after the other, those of several connections in any order.

mod client;
mod request;
mod server;

pub use client::Client;
pub use request::{Answer, FORMAT_VERSION, Request};
pub use server::Server;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The longest request, in bytes.
const LINE_MAX: u64 = 1 << 20;

/// The longest answer that a client reads, in bytes: a status tells of every connection, and whoever asks for it while there are
/// too many needs it most.
const ANSWER_MAX: u64 = 256 << 20;

/// How long a client waits for an answer, and a target for a client that does not take one. Longer than any verb takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Why the control channel does not work, or a request was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The socket cannot be made.
    #[error("the control socket `{path}` cannot be made: {source}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another target answers there.
    #[error("the control socket `{path}` belongs to a target that is running: stop it, or use another path")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("`{path}` is there already and is no socket: it is not replaced")]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// Nobody answers there.
    #[error("no target listens on the control socket `{path}`: {source}")]
    Connect {
        /// Where.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The connection broke, or there was no answer in time.
    #[error("the target has not answered on its control socket: {0}")]
    Broken(#[from] io::Error),
    /// What came back is no answer.
    #[error("the target's answer is not understood: {0}")]
    Garbled(String),
    /// The target refuses, in its own words.
    #[error("{0}")]
    Refused(String),
}
