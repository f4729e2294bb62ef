//! The network's side of the story, for people.

use crate::proxy::{Extent, Fault, HeldWrite, NetEvent};

/// What the network is told to do.
pub(super) fn fault(fault: Fault) -> String {
    match fault {
        Fault::Hold { path } => format!("{}: writes are held back in the network from now on", name(path)),
        Fault::Reset { path } => format!("{}: the host's connections are reset, the target is not told", name(path)),
        Fault::Mute { path } => format!("{}: dead without a word", name(path)),
        Fault::Release => "the network delivers what it held".into(),
    }
}

/// What happened in the network.
pub(super) fn event(event: &NetEvent) -> String {
    match event {
        NetEvent::Opened { conn, path } => format!("connection {} on {}", conn.0, name(*path)),
        NetEvent::Unreachable { path, why } => format!("no connection to the target on {}: {why}", name(*path)),
        NetEvent::Held { conn, write } => format!("connection {}: {} is held", conn.0, written(write)),
        NetEvent::Reset { conn } => format!("connection {}: reset for the host", conn.0),
        NetEvent::TargetClosed { conn, kept: 0 } => format!("connection {}: the target's side has ended", conn.0),
        NetEvent::TargetClosed { conn, kept } => {
            format!("connection {}: the target's side has ended with {kept} bytes held for it", conn.0)
        }
        NetEvent::Delivered { conn, bytes, writes } => {
            format!("connection {}: {bytes} bytes are delivered, {writes} writes among them", conn.0)
        }
        NetEvent::Answered { conn, write, ok: true } => {
            format!("connection {}: {} is EXECUTED, nobody waits for it", conn.0, written(write))
        }
        NetEvent::Answered { conn, write, ok: false } => {
            format!("connection {}: {} fails", conn.0, written(write))
        }
        NetEvent::Refused { conn, write } => {
            format!("connection {}: {} is stopped, the connection has ended", conn.0, written(write))
        }
    }
}

fn name(path: usize) -> String {
    match path {
        0 => "path A".into(),
        1 => "path B".into(),
        other => format!("path {other}"),
    }
}

fn written(write: &HeldWrite) -> String {
    let kind = write.kind.name();
    let what = write.blocks.map_or_else(|| kind.to_owned(), |(slba, nlb)| format!("{kind} of LBA {slba}+{nlb}"));
    match write.extent {
        Extent::Capsule => what,
        Extent::Data => format!("the data of {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::ConnId;
    use interlock_check::OpKind;

    #[test]
    fn a_held_write_is_named_by_what_it_would_do() {
        let write = HeldWrite { cid: 1, kind: OpKind::Write, blocks: Some((8, 2)), extent: Extent::Data };
        assert_eq!(
            event(&NetEvent::Held { conn: ConnId(3), write }),
            "connection 3: the data of write of LBA 8+2 is held"
        );
        let whole = HeldWrite { kind: OpKind::Discard, blocks: None, extent: Extent::Capsule, ..write };
        assert!(event(&NetEvent::Refused { conn: ConnId(3), write: whole }).contains("discard is stopped"));
        assert_eq!(fault(Fault::Mute { path: 0 }), "path A: dead without a word");
    }
}
