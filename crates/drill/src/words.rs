//! The target's side of the story, for people.

use interlock_target::{By, Change, Fault, Ghost, Loss, PortId, TargetEvent};

/// What the target is told to do wrong.
pub(crate) fn fault(fault: Fault) -> String {
    match fault {
        Fault::HoldWrites { port } => format!("{}: writes are held back from now on", name(port)),
        Fault::StopHolding { port } => format!("{}: no more writes are held back", name(port)),
        Fault::Release => "the target executes every write that it held".into(),
        Fault::Mute { port } => format!("{}: dead without a word", name(port)),
        Fault::Unmute { port } => format!("{}: speaks again", name(port)),
        Fault::ResetConnections { port } => format!("{}: connections are reset", name(port)),
        Fault::ClosePort { port } => format!("{}: is gone", name(port)),
        Fault::OpenPort { port } => format!("{}: is back", name(port)),
        Fault::CcrLoseEvent => "events of finished resets are lost".into(),
        Fault::CcrStaleEntry => "the reset logs get an entry of an earlier life".into(),
        Fault::SlowDrain { ms } => format!("a reset takes {ms} ms"),
        // No scenario does these.
        other => format!("{other:?}"),
    }
}

/// What happened on the target.
pub(crate) fn event(event: &TargetEvent) -> String {
    match event {
        TargetEvent::Accepted { conn, port } => format!("connection {} accepted on {}", conn.0, name(*port)),
        TargetEvent::Dropped { conn, port, why } => {
            format!("connection {} on {} ended: {}", conn.0, name(*port), loss(*why))
        }
        TargetEvent::ControllerCreated { cntlid, port, kato_ms, .. } => {
            format!("controller {cntlid:#06x} on {}, KATO {kato_ms} ms", name(*port))
        }
        TargetEvent::ConnectRefused { port, status } => format!("connect refused on {}: {status}", name(*port)),
        TargetEvent::Enabled { life } => format!("life {life} begins"),
        TargetEvent::Connected { life, qid } => format!("life {life}: queue {qid}"),
        TargetEvent::Lost { life, why } => format!("life {life} is lost: {}", loss(*why)),
        TargetEvent::CcrReceived { source, icid, held, .. } => {
            format!("controller {source:#06x} is asked to reset {icid:#06x}, which has {held} writes held")
        }
        TargetEvent::CcrAnswered { source, icid, status, immediate } => {
            let immediate = if *immediate { ", immediate" } else { "" };
            format!("controller {source:#06x} answers for {icid:#06x}: {status}{immediate}")
        }
        TargetEvent::Fenced { life, by: stopper, cancelled } => {
            format!("life {life} can execute nothing more ({}), {cancelled} held writes cancelled", by(*stopper))
        }
        TargetEvent::Held(ghost) => format!("{} is held", written(ghost)),
        TargetEvent::HeldExecuted(ghost) => format!("{} is executed, its host waits for it", written(ghost)),
        TargetEvent::HeldStopped { ghost, by: stopper } => {
            format!("{} is cancelled ({})", written(ghost), by(*stopper))
        }
        TargetEvent::Overtaken { ghost, by } => format!("{} is overtaken by a change of life {by}", written(ghost)),
        TargetEvent::Missed { events } => format!("{events} events are not told: they were not taken in time"),
        TargetEvent::GhostArmed(ghost) => format!("{} has lost its connection and is still held", written(ghost)),
        TargetEvent::GhostExecuted(ghost) => format!("{} is EXECUTED, nobody waits for it", written(ghost)),
        TargetEvent::GhostRefused { ghost, by: stopper } => {
            format!("{} is tried and stopped ({})", written(ghost), by(*stopper))
        }
        TargetEvent::TooLate(ghost) => {
            format!("{} is refused: it comes up after the time at which its host counts as lost", written(ghost))
        }
        TargetEvent::QuiesceOverrun { life, cqt_ms } => {
            format!("life {life} is NOT OVER within the Command Quiesce Time of {cqt_ms} ms")
        }
        TargetEvent::FlushFailed { namespace, why } => format!("a flush of namespace {} FAILED: {why}", namespace.nsid),
        TargetEvent::PortClosed { port } => format!("{} is closed", name(*port)),
        TargetEvent::PortOpened { port } => format!("{} is open again", name(*port)),
        TargetEvent::PortFailed { port, why } => format!("{} CANNOT be opened again: {why}", name(*port)),
        TargetEvent::AcceptFailed { port, why } => format!("no connection can be taken on {}: {why}", name(*port)),
        TargetEvent::AcceptResumed { port } => format!("connections are taken again on {}", name(*port)),
        TargetEvent::ShutDown => "ended".into(),
    }
}

fn name(port: PortId) -> String {
    match port {
        PortId(0) => "port A".into(),
        PortId(1) => "port B".into(),
        PortId(other) => format!("port {other}"),
    }
}

fn written(ghost: &Ghost) -> String {
    let Ghost { life, slba, blocks, .. } = ghost;
    let what = match ghost.change {
        Change::Write => "write",
        Change::WriteZeroes => "write zeroes",
        Change::Deallocate => "discard",
    };
    format!("{what} of LBA {slba}+{blocks} (life {life})")
}

const fn by(by: By) -> &'static str {
    match by {
        By::Ccr => "cross-controller reset",
        By::Time => "quiesce time",
        By::Reset => "controller reset",
    }
}

const fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::Closed => "connection closed",
        Loss::Left => "its host closed it gracefully",
        Loss::Unfinished => "its host closed it with commands inside",
        Loss::Protocol => "protocol violation",
        Loss::Handshake => "no Connect in time",
        Loss::Crowded => "too many connections",
        Loss::Stalled => "its peer neither sent nor took data in time",
        Loss::KeepAlive => "keep alive timeout",
        Loss::Sibling => "another connection of it ended",
        Loss::Ccr => "cross-controller reset",
        Loss::Reset => "disabled by its host",
        Loss::Script => "scripted",
        Loss::Shutdown => "the target ends",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use interlock_target::{Life, LifeId, NamespaceKey, SubsystemId};

    #[test]
    fn a_ghost_is_named_by_what_it_would_do() {
        let subsystem = SubsystemId(0);
        let life = Life { id: LifeId(1), subsystem, cntlid: 3, ciu: 7, cirn: 70 };
        let namespace = NamespaceKey { subsystem, nsid: 1 };
        let ghost = Ghost { life, namespace, change: Change::Write, slba: 8, blocks: 2 };
        assert_eq!(
            event(&TargetEvent::GhostRefused { ghost, by: By::Ccr }),
            "write of LBA 8+2 (life 0003/07/0000000000000046) is tried and stopped (cross-controller reset)"
        );
        assert_eq!(fault(Fault::Mute { port: PortId(0) }), "port A: dead without a word");
    }
}
