//! What the host says in the words of `api`: one translation for everybody who shows, keeps or sends it.

mod event;

use interlock_api as api;
use interlock_base::Instant;
use interlock_host_core::poison::SuspectCommand;
use interlock_host_core::{ConnectionEnd, CtrlId, DownReason, Identity, Loss, Method, Receipt};
use interlock_ring::now;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use event::{Said, Teller, state};

/// A hold that ends so much later than its deadline does so because the host's clocks disagree.
const RAW_CLOCK_TOLD: Duration = Duration::from_millis(50);

/// A receipt. Its moments count from the start of the process' clock, but for the one by the wall clock, which is worked
/// out now.
#[must_use]
pub fn receipt(receipt: &Receipt) -> api::Receipt {
    let mut notes = Vec::new();
    let attempts = &receipt.attempts;
    if attempts.left_out() > 0 {
        notes.push(format!(
            "{} Cross-Controller Reset commands were sent, the last one at {} ms",
            attempts.sent(),
            attempts.iter().last().map_or(0, |last| millis(last.sent))
        ));
    }
    let late = receipt.deadline.map_or(Duration::ZERO, |deadline| receipt.fenced - deadline);
    if matches!(receipt.method, Method::Time | Method::Assumed) && late > RAW_CLOCK_TOLD {
        notes.push(format!(
            "the hold ended {} ms late: until then CLOCK_MONOTONIC_RAW had not gone as far",
            whole_millis(late)
        ));
    }
    if receipt.loss == Loss::Predecessor {
        notes.push("left by an earlier process of this host: what was in doubt is not known".into());
    }
    let terms = receipt.terms.as_ref();
    api::Receipt {
        format_version: api::Version,
        subsystem: receipt.subnqn.to_string(),
        controller: receipt.ctrl.to_string(),
        life: life(receipt.identity),
        path: path(receipt.addr),
        method: method(receipt.method),
        source: receipt.source.map(|by| source(by.ctrl, by.identity, by.addr)),
        detected: api::Detected { how: detected(&receipt.loss), at_ms: millis(receipt.detected) },
        in_doubt: receipt.in_doubt as u64,
        answered_late: receipt.answered_late as u64,
        settled: receipt.settled as u64,
        held_ms: receipt.held_ms(),
        t0_ms: receipt.t0.map(millis),
        deadline_ms: receipt.deadline.map(millis),
        fenced_ms: millis(receipt.fenced),
        unix_ms: unix_millis(receipt.fenced),
        kato_ms: terms.map_or(0, |terms| whole_millis(terms.kato)),
        cqt_ms: terms.and_then(|terms| terms.cqt).map(whole_millis),
        assumed_cqt_ms: receipt.assumed_cqt.map(whole_millis),
        assumed_kato_ms: receipt.assumed_kato.map(whole_millis),
        clock_slew_permille: terms.map_or(0, |terms| terms.slew_permille),
        suspect: receipt.suspect.as_ref().map(suspect),
        notes,
    }
}

/// A command with which instances were lost.
#[must_use]
pub fn suspect(command: &SuspectCommand) -> api::SuspectCommand {
    api::SuspectCommand {
        command: command.name().into(),
        first_lba: command.range.start,
        blocks: command.range.end - command.range.start,
        instances_lost: command.instances.into(),
    }
}

/// A controller as the source of a Cross-Controller Reset.
#[must_use]
pub fn source(ctrl: CtrlId, identity: Identity, addr: Option<SocketAddr>) -> api::Source {
    api::Source { controller: ctrl.to_string(), life: life(identity), path: path(addr) }
}

/// The name of a life.
#[must_use]
pub const fn life(identity: Identity) -> api::Life {
    api::Life { cntlid: identity.cntlid, ciu: identity.ciu, cirn: api::Hex64(identity.cirn) }
}

/// Where a controller is reached.
#[must_use]
pub fn path(addr: Option<SocketAddr>) -> api::PathAddress {
    addr.map_or_else(
        || api::PathAddress::tcp("unknown", 0),
        |addr| api::PathAddress::tcp(addr.ip().to_string(), addr.port()),
    )
}

/// How a fence was established.
#[must_use]
pub const fn method(method: Method) -> api::Method {
    match method {
        Method::Immediate => api::Method::Immediate,
        Method::Log => api::Method::Log,
        Method::DrainedDisable => api::Method::DrainedDisable,
        Method::Time => api::Method::Time,
        Method::Assumed => api::Method::Assumed,
        Method::Legacy => api::Method::Legacy,
        Method::AcceptedRisk => api::Method::AcceptedRisk,
    }
}

/// How a loss was noticed.
#[must_use]
pub fn detected(loss: &Loss) -> api::DetectedHow {
    use api::DetectedHow;
    match loss {
        Loss::KeepAlive => DetectedHow::KeepAlive,
        Loss::AdminTimeout(_) | Loss::IoTimeout(_) => DetectedHow::CommandTimeout,
        Loss::AdminConnection(why) | Loss::Queue { why, .. } => detected_down(why),
        Loss::Protocol(_) => DetectedHow::ProtocolError,
        Loss::Terminated(_) => DetectedHow::TermRequest,
        Loss::AnaTransition => DetectedHow::AnaTransition,
        Loss::Reset | Loss::Disconnect | Loss::Shutdown => DetectedHow::Operator,
        Loss::Predecessor => DetectedHow::Predecessor,
    }
}

fn detected_down(why: &DownReason) -> api::DetectedHow {
    use api::DetectedHow;
    match why {
        DownReason::Lost(ConnectionEnd::Closed) => DetectedHow::ConnectionClosed,
        DownReason::Lost(ConnectionEnd::Reset) => DetectedHow::ConnectionReset,
        DownReason::Lost(ConnectionEnd::Failed(_) | ConnectionEnd::Aborted(_))
        | DownReason::Unreachable(_)
        | DownReason::TimedOut(_) => DetectedHow::TransportError,
        DownReason::Terminated(_) => DetectedHow::TermRequest,
        DownReason::Protocol(_) | DownReason::Refused { .. } => DetectedHow::ProtocolError,
    }
}

/// Milliseconds on the clock of the process.
#[must_use]
pub const fn millis(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// A span in milliseconds, to the nearest.
#[must_use]
pub fn whole_millis(span: Duration) -> u64 {
    u64::try_from((span + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock at a moment of the past, in milliseconds since 1970; `None` if the wall clock stands before that.
#[must_use]
pub fn unix_millis(at: Instant) -> Option<u64> {
    let wall = SystemTime::now().checked_sub(now() - at)?;
    u64::try_from(wall.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_host_core::stall::HoldTerms;
    use interlock_host_core::{FencedBy, GuardKey, HeadId, LifeId, Op, Termination};
    use interlock_wire::nqn::Nqn;

    #[test]
    fn a_loss_is_told_apart_by_its_type_whatever_its_words_are() {
        let said = Termination { fes: 1, fei: 8 };
        for (why, expected) in [
            (DownReason::Lost(ConnectionEnd::Reset), api::DetectedHow::ConnectionReset),
            (DownReason::Lost(ConnectionEnd::Closed), api::DetectedHow::ConnectionClosed),
            (DownReason::Lost(ConnectionEnd::Failed("closed, reset".into())), api::DetectedHow::TransportError),
            (DownReason::Lost(ConnectionEnd::Aborted("reset")), api::DetectedHow::TransportError),
            (DownReason::Protocol("closed".into()), api::DetectedHow::ProtocolError),
            (DownReason::Terminated(said), api::DetectedHow::TermRequest),
        ] {
            assert_eq!(detected(&Loss::AdminConnection(why.clone())), expected, "{why}");
        }
        assert_eq!(detected(&Loss::KeepAlive), api::DetectedHow::KeepAlive);
        assert_eq!(detected(&Loss::Terminated(said)), api::DetectedHow::TermRequest);
        assert_eq!(detected(&Loss::AnaTransition), api::DetectedHow::AnaTransition);
    }

    #[test]
    fn held_times_are_rounded_and_not_cut() {
        assert_eq!(whole_millis(Duration::from_micros(1_499)), 1);
        assert_eq!(whole_millis(Duration::from_micros(1_500)), 2);
    }

    #[test]
    fn a_receipt_says_everything_without_the_controllers_it_tells_of() {
        let ms = Instant::from_millis;
        let identity = Identity { cntlid: 3, ciu: 0x5a, cirn: 0x1122 };
        let by = Identity { cntlid: 4, ciu: 1, cirn: 2 };
        let done = receipt(&Receipt {
            number: 1,
            ctrl: CtrlId(0),
            life: LifeId(7),
            subnqn: Nqn::new("nqn.2014-08.org.example:s").expect("valid"),
            identity,
            addr: Some(([192, 0, 2, 1], 4420).into()),
            terms: Some(HoldTerms {
                kato: Duration::from_secs(5),
                kato_assumed: false,
                tbkas: false,
                cqt: Some(Duration::from_millis(10)),
                assumed_cqt: Some(Duration::from_secs(5)),
                slew_permille: 100,
                proxy_delay: Duration::ZERO,
            }),
            method: Method::Log,
            source: Some(FencedBy { ctrl: CtrlId(1), life: LifeId(2), identity: by, addr: None }),
            in_doubt: 20,
            answered_late: 2,
            settled: 5,
            loss: Loss::KeepAlive,
            detected: ms(100),
            t0: Some(ms(101)),
            fenced: ms(140),
            released: ms(141),
            deadline: Some(ms(10_201)),
            assumed_cqt: None,
            assumed_kato: None,
            attempts: interlock_host_core::CcrAttempts::default(),
            suspect: Some(SuspectCommand {
                key: GuardKey { seq: 1, lane: 0 },
                head: HeadId(2),
                op: Op::Write { fua: false },
                range: 8..16,
                instances: 3,
                alone: 0,
            }),
        });
        let suspect = done.suspect.expect("it carried one alone");
        assert_eq!((suspect.command.as_str(), suspect.first_lba, suspect.blocks), ("Write", 8, 8));
        assert_eq!((done.controller.as_str(), done.life), ("nvme0", life(identity)));
        assert_eq!((done.path, done.method), (api::PathAddress::tcp("192.0.2.1", 4420), api::Method::Log));
        assert_eq!((done.in_doubt, done.settled, done.held_ms), (20, 5, 41));
        assert_eq!((done.kato_ms, done.cqt_ms, done.assumed_cqt_ms), (5_000, Some(10), None));
        assert_eq!((done.t0_ms, done.deadline_ms, done.fenced_ms), (Some(101), Some(10_201), 140));
        let source = done.source.expect("through a sibling");
        assert_eq!((source.life, source.path), (life(by), api::PathAddress::tcp("unknown", 0)));
        assert_eq!((done.answered_late, done.notes.len()), (2, 0), "no sentence repeats a field");
    }
}
