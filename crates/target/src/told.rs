//! What happens, as data that programs read: one object for each event.

use crate::Stamped;
use interlock_target_core::{Change, Event, Ghost, Life, Loss};
use serde_json::{Map, Value, json};
use std::time::SystemTime;

/// The version of what is written here.
const FORMAT_VERSION: u32 = 1;

impl Stamped {
    /// The event as one JSON object: `format_version`, `time_ms` (wall clock, milliseconds since 1970), `at_ns` (the clock of
    /// [`Stamped::at`]), `event` (its kind), and what belongs to it. Lives are written `CNTLID/CIU/CIRN`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut object = Map::new();
        object.insert("format_version".into(), FORMAT_VERSION.into());
        object.insert("time_ms".into(), u64::try_from(now.as_millis()).unwrap_or(u64::MAX).into());
        object.insert("at_ns".into(), self.at.as_nanos().into());
        let (kind, rest) = parts(&self.event);
        object.insert("event".into(), kind.into());
        if let Value::Object(rest) = rest {
            object.extend(rest);
        }
        object.into()
    }
}

/// Its kind, and what belongs to it.
fn parts(event: &Event) -> (&'static str, Value) {
    let life = |life: &Life| life.to_string();
    match event {
        Event::Accepted { conn, port } => ("connection-accepted", json!({ "connection": conn.0, "port": port.0 })),
        Event::Dropped { conn, port, why } => {
            ("connection-ended", json!({ "connection": conn.0, "port": port.0, "why": loss(*why) }))
        }
        Event::ControllerCreated { subsystem, cntlid, host, port, kato_ms } => (
            "controller-created",
            json!({
                "discovery": subsystem.is_none(), "cntlid": cntlid, "host": host.as_str(), "port": port.0,
                "kato_ms": kato_ms,
            }),
        ),
        Event::ConnectRefused { port, status } => {
            ("connect-refused", json!({ "port": port.0, "status": status.0, "words": status.to_string() }))
        }
        Event::Enabled { life: began } => ("controller-enabled", json!({ "life": life(began) })),
        Event::Connected { life: joined, qid } => ("queue-connected", json!({ "life": life(joined), "qid": qid })),
        Event::Lost { life: lost, why } => ("controller-lost", json!({ "life": life(lost), "why": loss(*why) })),
        Event::CcrReceived { source, icid, ciu, cirn, held } => (
            "ccr-received",
            json!({ "source": source, "icid": icid, "ciu": ciu, "cirn": format!("{cirn:016x}"), "held": held }),
        ),
        Event::CcrAnswered { source, icid, status, immediate } => (
            "ccr-answered",
            json!({
                "source": source, "icid": icid, "status": status.0, "words": status.to_string(),
                "immediate": immediate,
            }),
        ),
        Event::Fenced { life: ended, by, cancelled } => {
            ("controller-fenced", json!({ "life": life(ended), "by": by.to_string(), "cancelled": cancelled }))
        }
        Event::Held(held) => ("write-held", ghost(held, Some(true))),
        Event::HeldExecuted(held) => ("write-executed", ghost(held, Some(true))),
        Event::HeldStopped { ghost: held, by } => {
            ("write-stopped", with(ghost(held, Some(false)), "by", by.to_string()))
        }
        // Whoever overtakes it, perhaps on another lane, does not know whether its host waits.
        Event::Overtaken { ghost: held, by } => ("write-overtaken", with(ghost(held, None), "by_life", life(by))),
        Event::GhostArmed(held) => ("write-orphaned", ghost(held, Some(false))),
        Event::GhostExecuted(held) => ("write-executed", ghost(held, Some(false))),
        Event::GhostRefused { ghost: held, by } => {
            ("write-refused", with(ghost(held, Some(false)), "by", by.to_string()))
        }
        Event::TooLate(held) => ("write-too-late", ghost(held, Some(true))),
        Event::Missed { events } => ("events-missed", json!({ "events": events })),
        Event::QuiesceOverrun { life: late, cqt_ms } => {
            ("quiesce-overrun", json!({ "life": life(late), "cqt_ms": cqt_ms }))
        }
        Event::FlushFailed { namespace, why } => ("flush-failed", json!({ "nsid": namespace.nsid, "why": why })),
        Event::PortClosed { port } => ("port-closed", json!({ "port": port.0 })),
        Event::PortOpened { port } => ("port-opened", json!({ "port": port.0 })),
        Event::PortFailed { port, why } => ("port-failed", json!({ "port": port.0, "why": why })),
        Event::AcceptFailed { port, why } => ("accept-failed", json!({ "port": port.0, "why": why })),
        Event::AcceptResumed { port } => ("accept-resumed", json!({ "port": port.0 })),
        Event::ShutDown => ("shut-down", json!({})),
    }
}

/// A command that changes media, and whether its host waits for it, if that is known.
fn ghost(ghost: &Ghost, awaited: Option<bool>) -> Value {
    let change = match ghost.change {
        Change::Write => "write",
        Change::WriteZeroes => "write-zeroes",
        Change::Deallocate => "deallocate",
    };
    let mut value = json!({
        "life": ghost.life.to_string(), "nsid": ghost.namespace.nsid, "command": change, "slba": ghost.slba,
        "blocks": ghost.blocks,
    });
    if let (Value::Object(members), Some(awaited)) = (&mut value, awaited) {
        members.insert("awaited".into(), awaited.into());
    }
    value
}

fn with(mut value: Value, key: &str, text: String) -> Value {
    if let Value::Object(members) = &mut value {
        members.insert(key.into(), text.into());
    }
    value
}

const fn loss(why: Loss) -> &'static str {
    match why {
        Loss::Closed => "closed",
        Loss::Left => "left",
        Loss::Unfinished => "unfinished",
        Loss::Protocol => "protocol",
        Loss::Handshake => "handshake",
        Loss::Crowded => "crowded",
        Loss::Stalled => "stalled",
        Loss::KeepAlive => "keep-alive",
        Loss::Sibling => "sibling",
        Loss::Ccr => "ccr",
        Loss::Reset => "reset",
        Loss::Script => "script",
        Loss::Shutdown => "shutdown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_base::Instant;
    use interlock_target_core::{By, LifeId, NamespaceKey, SubsystemId};

    #[test]
    fn events_are_of_format_1() {
        let life = Life { id: LifeId(7), subsystem: SubsystemId(0), cntlid: 1, ciu: 2, cirn: 3 };
        let namespace = NamespaceKey { subsystem: SubsystemId(0), nsid: 1 };
        let held = Ghost { life, namespace, change: Change::Write, slba: 8, blocks: 4 };
        let at = Instant::from_millis(5);
        for (event, text) in [
            (
                Event::Held(held),
                r#"{"at_ns":5000000,"awaited":true,"blocks":4,"command":"write","event":"write-held","format_version":1,"life":"0001/02/0000000000000003","nsid":1,"slba":8}"#,
            ),
            (
                Event::HeldStopped { ghost: held, by: By::Ccr },
                r#"{"at_ns":5000000,"awaited":false,"blocks":4,"by":"ccr","command":"write","event":"write-stopped","format_version":1,"life":"0001/02/0000000000000003","nsid":1,"slba":8}"#,
            ),
            (
                Event::Overtaken { ghost: held, by: life },
                r#"{"at_ns":5000000,"blocks":4,"by_life":"0001/02/0000000000000003","command":"write","event":"write-overtaken","format_version":1,"life":"0001/02/0000000000000003","nsid":1,"slba":8}"#,
            ),
            (
                Event::Lost { life, why: Loss::KeepAlive },
                r#"{"at_ns":5000000,"event":"controller-lost","format_version":1,"life":"0001/02/0000000000000003","why":"keep-alive"}"#,
            ),
        ] {
            let mut object = Stamped { at, event }.to_json();
            let members = object.as_object_mut().unwrap();
            assert!(members.remove("time_ms").is_some_and(|time| time.is_u64()));
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            assert_eq!(serde_json::to_string(&sorted).unwrap(), text);
        }
    }
}
