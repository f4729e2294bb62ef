//! Receipts of the host in the words of `api`.

use crate::evidence::Record;
use interlock_api::{Detected, DetectedHow, Hex64, Life, Method, PathAddress, Receipt, Source, Version};
use interlock_base::Instant;
use interlock_host::{
    CtrlId, DownReason, EventKind, FencedBy, Identity, LifeFacts, LifeId, Loss, Method as HostMethod,
    Receipt as HostReceipt,
};
use interlock_ring::now;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where each controller is reached.
pub(crate) type Paths = BTreeMap<CtrlId, SocketAddr>;

/// Every receipt of a scenario.
pub(crate) fn receipts(record: &Record, paths: &Paths) -> Vec<Receipt> {
    record.receipts().map(|receipt| translate(record, paths, receipt)).collect()
}

fn translate(record: &Record, paths: &Paths, receipt: &HostReceipt) -> Receipt {
    let facts = facts(record, receipt.life);
    let mut notes = Vec::new();
    if receipt.answered_late > 0 {
        notes.push(format!("{} commands in doubt were answered late, before the fence", receipt.answered_late));
    }
    if receipt.method == HostMethod::Legacy {
        notes.push("not fenced: policy `legacy` retries at once".into());
    }
    Receipt {
        format_version: Version,
        subsystem: receipt.subnqn.to_string(),
        controller: receipt.ctrl.to_string(),
        life: life(receipt.identity),
        path: path(paths, receipt.ctrl),
        method: method(receipt.method),
        source: receipt.source.map(|source| by(record, paths, source)),
        detected: Detected { how: how(&receipt.loss), at_ms: millis(receipt.detected) },
        in_doubt: receipt.in_doubt as u64,
        settled: receipt.settled as u64,
        held_ms: whole_millis(receipt.held()),
        t0_ms: receipt.t0.map(millis),
        deadline_ms: receipt.deadline.map(millis),
        fenced_ms: millis(receipt.fenced),
        unix_ms: unix_millis(receipt.fenced),
        kato_ms: facts.map_or(0, |facts| whole_millis(facts.kato)),
        cqt_ms: facts.and_then(|facts| facts.cqt).map(whole_millis),
        assumed_cqt_ms: receipt.assumed_cqt.map(whole_millis),
        notes,
    }
}

fn facts(record: &Record, life: LifeId) -> Option<&LifeFacts> {
    record.host.iter().find_map(|event| match &event.kind {
        EventKind::LifeBegan { life: begun, facts, .. } if *begun == life => Some(&**facts),
        _ => None,
    })
}

fn by(record: &Record, paths: &Paths, source: FencedBy) -> Source {
    let identity = record.identity(source.life).unwrap_or(Identity { cntlid: source.cntlid, ciu: 0, cirn: 0 });
    Source { controller: source.ctrl.to_string(), life: life(identity), path: path(paths, source.ctrl) }
}

const fn life(identity: Identity) -> Life {
    Life { cntlid: identity.cntlid, ciu: identity.ciu, cirn: Hex64(identity.cirn) }
}

fn path(paths: &Paths, ctrl: CtrlId) -> PathAddress {
    paths
        .get(&ctrl)
        .map_or_else(|| PathAddress::tcp("unknown", 0), |addr| PathAddress::tcp(addr.ip().to_string(), addr.port()))
}

/// How a fence was established.
pub(crate) const fn method(method: HostMethod) -> Method {
    match method {
        HostMethod::Immediate => Method::Immediate,
        HostMethod::Log => Method::Log,
        HostMethod::DrainedDisable => Method::DrainedDisable,
        HostMethod::Time => Method::Time,
        HostMethod::Assumed => Method::Assumed,
        HostMethod::Legacy => Method::Legacy,
        HostMethod::AcceptedRisk => Method::AcceptedRisk,
    }
}

/// How a loss was noticed.
pub(crate) fn how(loss: &Loss) -> DetectedHow {
    match loss {
        Loss::KeepAlive => DetectedHow::KeepAlive,
        Loss::AdminTimeout(_) | Loss::IoTimeout(_) => DetectedHow::CommandTimeout,
        Loss::AdminConnection(why) | Loss::Queue { why, .. } => how_down(why),
        Loss::Protocol(_) => DetectedHow::ProtocolError,
        Loss::AnaTransition => DetectedHow::ControllerFatal,
        Loss::Reset | Loss::Disconnect | Loss::Shutdown => DetectedHow::Operator,
        Loss::Predecessor => DetectedHow::Predecessor,
    }
}

fn how_down(why: &DownReason) -> DetectedHow {
    match why {
        DownReason::Lost(text) if text.contains("closed") => DetectedHow::ConnectionClosed,
        DownReason::Lost(text) if text.contains("reset") => DetectedHow::ConnectionReset,
        DownReason::Lost(_) | DownReason::Unreachable(_) | DownReason::TimedOut(_) => DetectedHow::TransportError,
        DownReason::Protocol(_) | DownReason::Refused { .. } => DetectedHow::ProtocolError,
    }
}

const fn millis(at: Instant) -> u64 {
    at.as_nanos() / 1_000_000
}

/// To the nearest.
pub(crate) fn whole_millis(span: Duration) -> u64 {
    u64::try_from((span + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
}

/// The wall clock at a moment of the past; `None` if the wall clock stands before 1970.
fn unix_millis(at: Instant) -> Option<u64> {
    let wall = SystemTime::now().checked_sub(now() - at)?;
    u64::try_from(wall.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_apart_by_what_the_kernel_said() {
        for (text, expected) in [
            ("connection reset by peer", DetectedHow::ConnectionReset),
            ("the peer closed the connection", DetectedHow::ConnectionClosed),
            ("connection timed out", DetectedHow::TransportError),
        ] {
            assert_eq!(how(&Loss::AdminConnection(DownReason::Lost(text.into()))), expected, "{text}");
        }
        assert_eq!(how(&Loss::KeepAlive), DetectedHow::KeepAlive);
    }

    #[test]
    fn held_times_are_rounded_and_not_cut() {
        assert_eq!(whole_millis(Duration::from_micros(1_499)), 1);
        assert_eq!(whole_millis(Duration::from_micros(1_500)), 2);
    }
}
