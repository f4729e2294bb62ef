//! Settings, with the reason for each default.

use core::time::Duration;

/// How a lane chooses among usable paths. Values are those of Linux' `iopolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum IoPolicy {
    /// In turn over the paths of the best ANA state.
    #[default]
    RoundRobin,
    /// The path with the fewest commands in flight.
    QueueDepth,
    /// The first path of the best ANA state (this host has one node).
    Numa,
}

/// What a Flush through one controller makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum FlushScope {
    /// Everything that any controller of the subsystem has answered: they share their write cache, or have none. A flush
    /// takes one path. So it is with every target seen so far, and what Linux assumes.
    #[default]
    Subsystem,
    /// What was written through the same controller: each has a cache of its own. A flush goes to every controller that
    /// may hold something, and fails once, by name, if one was lost with something in its cache.
    Controller,
}

/// Who reconnects a lost controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum OnLoss {
    /// The host itself: at once, then after every delay.
    #[default]
    Reconnect,
    /// Somebody who is told, at once and after every delay, and then asks for it (as FreeBSD does). `ctrl_loss` ends
    /// it here as well.
    Notify,
}

/// How long a lost controller is sought, and what happens to I/O meanwhile. All three run from the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reconnect {
    /// Between attempts. The first attempt comes at once; this applies from the second. Zero: one attempt only.
    /// Default 10 s, as in Linux.
    pub delay: Duration,
    /// After this the controller is given up; `None`: never. Default 600 s, as in Linux, but as a real deadline.
    pub ctrl_loss: Option<Duration>,
    /// After this, settled I/O that has no other path fails; `None`: it waits. Default off, as in Linux.
    pub fast_io_fail: Option<Duration>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { delay: Duration::from_secs(10), ctrl_loss: Some(Duration::from_secs(600)), fast_io_fail: None }
    }
}

/// Limits for everything that waits for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// An I/O command without an answer for so long makes its controller suspect. Default 30 s, as in Linux.
    pub io: Duration,
    /// A path is condemned without a second witness after this. Default 10 times `io`.
    pub io_hard: Duration,
    /// An admin command without an answer for so long makes its controller suspect. Default 60 s, as in Linux.
    pub admin: Duration,
    /// TCP connect. Default 5 s.
    pub tcp_connect: Duration,
    /// ICResp and each Connect command. Default 10 s, as Linux waits for ICResp.
    pub handshake: Duration,
    /// Everything from TCP connect to LIVE, so that no chain of slow steps has no end. Default 60 s.
    pub connect_total: Duration,
    /// An orderly end waits so long for answers before what is left is fenced. Default 5 s.
    pub drain: Duration,
    /// A socket of a condemned life with unacknowledged bytes is kept so long for late completions, then aborted.
    /// Default 250 ms.
    pub late_grace: Duration,
    /// The quiesce time assumed where a target states none (CQT 0). Default 5 s.
    /// `None`: nothing is assumed, and time proves nothing of such a target: only a reset ends a doubt, or somebody's word.
    pub assumed_cqt: Option<Duration>,
    /// The longest delay of a declared TCP-terminating box between host and target. Default 0: none declared.
    pub proxy_delay: Duration,
    /// By how much longer than it states a target's KATO and quiesce time may be because its clock is slow, in thousandths of
    /// them, 0 to 1,000. Default 100 ([`crate::stall::DEFAULT_SLEW_PERMILLE`]).
    pub clock_slew_permille: u16,
}

impl Default for Timeouts {
    fn default() -> Self {
        let io = Duration::from_secs(30);
        Self {
            io,
            io_hard: io * 10,
            admin: Duration::from_secs(60),
            tcp_connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            connect_total: Duration::from_secs(60),
            drain: Duration::from_secs(5),
            late_grace: Duration::from_millis(250),
            assumed_cqt: Some(Duration::from_secs(5)),
            proxy_delay: Duration::ZERO,
            clock_slew_permille: crate::stall::DEFAULT_SLEW_PERMILLE,
        }
    }
}
