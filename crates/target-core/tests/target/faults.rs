//! The scripted faults that are about ports.

use crate::rig::*;
use interlock_target_core::{By, ControlOutput, Event, Fault, Loss};

#[test]
fn connections_are_reset_on_their_port_only() {
    let mut rig = Rig::new(config());
    let (a, b) = (Host::new(1).live(&mut rig, A), Host::new(1).live(&mut rig, B));
    rig.script(Fault::ResetConnections { port: A });
    assert!(!rig.is_open(a.admin) && !rig.is_open(a.io) && rig.is_open(b.admin) && rig.is_open(b.io));
    assert_eq!(rig.events.iter().filter(|e| matches!(e, Event::Lost { why: Loss::Script, .. })).count(), 1);
    Host::new(1).live(&mut rig, A);
}

#[test]
fn ports_close_and_open() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::ClosePort { port: A });
    assert!(!rig.is_open(a.admin));
    rig.script(Fault::OpenPort { port: A });
    assert_eq!(rig.ports, [ControlOutput::ClosePort(A), ControlOutput::OpenPort(A)]);
}

#[test]
fn clear_ends_everything_and_delivers_what_was_held() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    rig.script(Fault::Mute { port: B });
    rig.script(Fault::SlowDrain { ms: 1000 });
    let token = a.write(&mut rig, 0, 0x11);
    rig.script(Fault::Clear);
    assert!(rig.answer(a.io, token).is_some());
    assert!(!rig.lanes[LANE_B].is_port_muted(B));
    let b = Host::new(1).live(&mut rig, B);
    assert!(b.ccr_now(&mut rig, a.instance).1, "no slow drain any more");
}

#[test]
fn a_mute_port_expires_and_quiesces_by_time() {
    let mut rig = Rig::new(config());
    let a = Host { kato_ms: 1000, ..Host::new(1) }.live(&mut rig, A);
    rig.script(Fault::HoldWrites { port: A });
    a.write(&mut rig, 5, 0x11);
    rig.script(Fault::Mute { port: A });
    rig.advance(2000);
    assert!(rig.events.iter().any(|e| matches!(e, Event::Lost { why: Loss::KeepAlive, .. })));
    assert!(rig.wires[&a.io].parked);
    rig.advance(400);
    assert!(rig.events.iter().any(|e| matches!(e, Event::Fenced { by: By::Time, cancelled: 1, .. })));
    rig.script(Fault::Release);
    assert!(rig.events.iter().any(|e| matches!(e, Event::GhostRefused { by: By::Time, .. })));
    assert_eq!(rig.disk(5), 0);
}
