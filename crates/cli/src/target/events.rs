//! What happens in a target, in words.

use interlock_target::TargetEvent;

pub(super) fn words(event: &TargetEvent) -> String {
    match event {
        TargetEvent::Accepted { conn, port } => format!("port {}: connection {} accepted", port.0, conn.0),
        TargetEvent::Dropped { conn, port, why } => {
            format!("port {}: connection {} ended: {why:?}", port.0, conn.0)
        }
        TargetEvent::ControllerCreated { subsystem, cntlid, host, port, kato_ms } => {
            let kind = if subsystem.is_some() { "I/O" } else { "discovery" };
            format!("port {}: {kind} controller {cntlid} for {host}, keep alive {kato_ms} ms", port.0)
        }
        TargetEvent::ConnectRefused { port, status } => format!("port {}: Connect refused: {status}", port.0),
        TargetEvent::Enabled { life } => format!("life {life} began"),
        TargetEvent::Connected { life, qid } => format!("life {life}: I/O queue {qid} connected"),
        TargetEvent::Lost { life, why } => format!("life {life} lost: {why:?}"),
        TargetEvent::CcrReceived { source, icid, held, .. } => {
            format!("controller {source} asks for a reset of controller {icid}, which holds {held} writes back")
        }
        TargetEvent::CcrAnswered { source, icid, status, immediate } => {
            let how = if *immediate { ", done" } else { "" };
            format!("reset of controller {icid} asked for by {source}: {status}{how}")
        }
        TargetEvent::Fenced { life, by, cancelled } => {
            format!("life {life} fenced by {by:?}, {cancelled} held writes cancelled")
        }
        TargetEvent::Held(ghost) => {
            format!("life {}: a write of {} blocks at {} is held", ghost.life, ghost.blocks, ghost.slba)
        }
        TargetEvent::HeldExecuted(ghost) => {
            format!("life {}: the held write at {} is executed, its host waits for it", ghost.life, ghost.slba)
        }
        TargetEvent::HeldStopped { ghost, by } => {
            format!("life {}: the held write at {} is cancelled by {by:?}", ghost.life, ghost.slba)
        }
        TargetEvent::Overtaken { ghost, by } => {
            format!("life {by} writes over blocks of the held write at {} of life {}", ghost.slba, ghost.life)
        }
        TargetEvent::Missed { events } => format!("{events} events are not told: they came faster than they are taken"),
        TargetEvent::GhostArmed(ghost) => {
            format!(
                "life {}: a write of {} blocks at {} is held, nobody waits for it",
                ghost.life, ghost.blocks, ghost.slba
            )
        }
        TargetEvent::GhostExecuted(ghost) => {
            format!("life {}: the held write at {} was EXECUTED", ghost.life, ghost.slba)
        }
        TargetEvent::GhostRefused { ghost, by } => {
            format!("life {}: the held write at {} was stopped by {by:?}", ghost.life, ghost.slba)
        }
        TargetEvent::TooLate(ghost) => {
            format!(
                "life {}: a write of {} blocks at {} was refused: it came up after the time at which its host counts as lost",
                ghost.life, ghost.blocks, ghost.slba
            )
        }
        TargetEvent::QuiesceOverrun { life, cqt_ms } => {
            format!("life {life}: NOT OVER within the Command Quiesce Time of {cqt_ms} ms")
        }
        TargetEvent::FlushFailed { namespace, why } => {
            format!("namespace {}: a flush FAILED: {why}", namespace.nsid)
        }
        TargetEvent::PortClosed { port } => format!("port {}: closed", port.0),
        TargetEvent::PortOpened { port } => format!("port {}: open again", port.0),
        TargetEvent::PortFailed { port, why } => format!("port {}: cannot be opened again: {why}", port.0),
        TargetEvent::AcceptFailed { port, why } => {
            format!("port {}: no connection can be taken, trying again: {why}", port.0)
        }
        TargetEvent::AcceptResumed { port } => format!("port {}: connections are taken again", port.0),
        TargetEvent::ShutDown => "the target has ended".into(),
    }
}
