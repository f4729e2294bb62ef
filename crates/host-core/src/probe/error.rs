//! What can be wrong with an address, each in one sentence.

use super::ProbeConfig;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::time::Duration;
use interlock_proto::host::ConnectError;
use interlock_wire::fabrics::{ConnectAnswer, InvalidParameter};
use interlock_wire::pdu::Fes;
use interlock_wire::sqe::Cqe;
use interlock_wire::status::Status;

/// Why a look found nothing. `Display` is one sentence without the address; [`ProbeError::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// There is no TCP connection.
    #[error("{why}")]
    Unreachable {
        /// In the kernel's words: refused, no route, timed out.
        why: String,
    },
    /// Something else than NVMe/TCP answers.
    #[error("something answers here that does not speak NVMe/TCP: {why}")]
    NotNvme {
        /// What it said.
        why: String,
    },
    /// The peer answered in TLS.
    #[error("the target demands TLS, which was not offered")]
    Tls,
    /// The connection was closed instead of an answer to the first PDU.
    #[error("the connection was accepted and ended without an answer: {why}")]
    HungUp {
        /// How.
        why: String,
    },
    /// The connection stands and nothing is said.
    #[error("the connection was accepted, but there was no NVMe/TCP answer within {}", seconds(.within))]
    Mute {
        /// The limit.
        within: Duration,
    },
    /// A digest was asked for and declined, or another parameter was.
    #[error("the connection cannot be initialised: {why}")]
    Incompatible {
        /// What does not fit.
        why: String,
    },
    /// A step had no answer in time.
    #[error("no answer to {step} within {}", seconds(.within))]
    TimedOut {
        /// Which step.
        step: &'static str,
        /// The limit.
        within: Duration,
    },
    /// The connection ended before all was answered.
    #[error("the connection was lost while {step} was under way: {why}")]
    Lost {
        /// Which step.
        step: &'static str,
        /// How.
        why: String,
    },
    /// The peer broke the protocol.
    #[error("the target broke the NVMe/TCP protocol during {step}: {why}")]
    Protocol {
        /// Which step.
        step: &'static str,
        /// How.
        why: String,
    },
    /// The peer says that we broke the protocol.
    #[error("the target ended the connection during {step}: {} (field {fei:#x})", fatal(*.fes))]
    Terminated {
        /// Which step.
        step: &'static str,
        /// Fatal error status.
        fes: u16,
        /// Fatal error information.
        fei: u32,
    },
    /// There is no such subsystem on this port.
    #[error("there is no subsystem `{subnqn}` on this port")]
    NoSuchSubsystem {
        /// What was asked for.
        subnqn: String,
    },
    /// The port has no discovery service.
    #[error("there is no discovery controller on this port")]
    NotDiscovery,
    /// The controller is a discovery controller.
    #[error("this is a discovery controller, and an I/O controller was meant")]
    DiscoveryMeantAsIo,
    /// The subsystem does not admit this host.
    #[error("the subsystem does not allow host `{hostnqn}`")]
    HostNotAllowed {
        /// Who asked.
        hostnqn: String,
    },
    /// In-band authentication is demanded.
    #[error("the target demands authentication (DH-HMAC-CHAP), which is not set up")]
    Authentication,
    /// The association failed at a step.
    #[error("{0}")]
    Refused(Box<ConnectError>),
    /// A question was answered with an error.
    #[error("{step} failed: {status}")]
    Failed {
        /// Which question.
        step: &'static str,
        /// The answer.
        status: Status,
    },
    /// An answer contradicts itself.
    #[error("{step} was answered with data that cannot be: {why}")]
    Nonsense {
        /// Which question.
        step: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The discovery log changed whenever it was read.
    #[error("the discovery log changed {tries} times while it was read")]
    LogUnsteady {
        /// How often it was begun.
        tries: u8,
    },
}

impl ProbeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        Some(match self {
            Self::Unreachable { .. } => "is the target running, and are the address (-a) and port (-s) right?",
            Self::NotNvme { .. } => "NVMe/TCP listens on port 4420 by convention, its discovery on 8009: check -s",
            Self::Tls => "this version speaks no TLS: use a port of the target that does without",
            Self::HungUp { .. } => "a target that demands TLS does this, and so does a port that is no NVMe/TCP",
            Self::Mute { .. } => "NVMe/TCP listens on port 4420 by convention, its discovery on 8009: check -s",
            Self::Incompatible { .. } => "leave the digest options (-g, -G) out, or allow digests on the target",
            Self::NoSuchSubsystem { .. } => "`interlock discover` lists the subsystems that a target offers",
            Self::NotDiscovery => "discovery listens on port 8009 by convention: check -s",
            Self::DiscoveryMeantAsIo => "`interlock discover` lists the I/O controllers behind it: use one of those",
            Self::HostNotAllowed { .. } => "add this host NQN on the target, or say with -q which one is allowed",
            Self::Authentication => "this version does not authenticate: allow this host without it on the target",
            Self::Refused(error) if !error.hint.is_empty() => error.hint,
            Self::TimedOut { .. } => "the target or the way to it is stuck; --timeout sets a longer limit",
            Self::LogUnsteady { .. } => "the target's configuration is changing: try again",
            _ => return None,
        })
    }

    /// What an answer to Connect says about the port, the subsystem and this host; `None` if it is a success.
    pub(super) fn of_connect(config: &ProbeConfig, cqe: &Cqe) -> Option<Self> {
        let (status, dw0) = (cqe.status(), cqe.dw0.get());
        if status.is_success() {
            let answer = ConnectAnswer::from_dw0(dw0);
            return (answer.authentication_required || answer.secure_channel_required).then_some(Self::Authentication);
        }
        let field = InvalidParameter::from_dw0(dw0);
        if status.is(Status::CONNECT_INVALID_PARAMETERS) && field == InvalidParameter::SUBNQN {
            return Some(if config.subnqn.is_discovery() {
                Self::NotDiscovery
            } else {
                Self::NoSuchSubsystem { subnqn: config.subnqn.to_string() }
            });
        }
        if status.is(Status::CONNECT_INVALID_HOST) {
            return Some(Self::HostNotAllowed { hostnqn: config.hostnqn.to_string() });
        }
        if status.is(Status::AUTHENTICATION_REQUIRED) {
            return Some(Self::Authentication);
        }
        // Everything else in the association's own words.
        None
    }
}

/// `5 s`, `1.5 s`: to hundredths, because a limit that is shared by several steps is never a round number.
fn seconds(time: &Duration) -> String {
    let hundredths = time.as_millis().saturating_add(5) / 10;
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => alloc::format!("{whole} s"),
        (whole, part) if part % 10 == 0 => alloc::format!("{whole}.{} s", part / 10),
        (whole, part) => alloc::format!("{whole}.{part:02} s"),
    }
}

fn fatal(fes: u16) -> String {
    match Fes::from_u16(fes) {
        Some(fes) => fes.to_string(),
        None => alloc::format!("fatal error status {fes:#x}"),
    }
}

/// The first bytes of a peer, by which other protocols are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FirstWords {
    bytes: [u8; 16],
    len: usize,
}

impl FirstWords {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let take = room.len().min(bytes.len());
        room[..take].copy_from_slice(&bytes[..take]);
        self.len += take;
    }

    /// A TLS record: handshake or alert, version 3.x. No PDU begins like that: its type would be 15h or 16h.
    fn is_tls(&self) -> bool {
        matches!(self.bytes[..self.len], [0x15 | 0x16, 0x03, ..])
    }

    /// The peer's first PDU was none, or not the right one.
    pub(super) fn judge(&self, why: &str) -> ProbeError {
        if self.is_tls() {
            return ProbeError::Tls;
        }
        let said = &self.bytes[..self.len];
        // An ICResp that does not fit is NVMe/TCP all the same.
        if said.first() == Some(&0x01) {
            return ProbeError::Incompatible { why: why.to_string() };
        }
        let readable = said.iter().take_while(|byte| matches!(byte, b' '..=b'~')).count();
        let why = if readable >= 4 {
            let text: String = said[..readable].iter().map(|byte| char::from(*byte)).collect();
            alloc::format!("it said \"{text}\"")
        } else {
            why.to_string()
        };
        ProbeError::NotNvme { why }
    }

    /// The time was over before a first PDU was complete.
    pub(super) fn judge_silence(&self, within: Duration) -> ProbeError {
        if self.len == 0 { ProbeError::Mute { within } } else { self.judge("it said no more within its first PDU") }
    }

    /// The connection ended before a first PDU was complete.
    pub(super) fn judge_end(&self, why: String) -> ProbeError {
        if self.len == 0 { ProbeError::HungUp { why } } else { self.judge("it ended within its first PDU") }
    }
}
