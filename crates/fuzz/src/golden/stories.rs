//! The stories themselves.

use crate::peer::pdu;
use crate::rig::host::{End, HostRig, Key, Owner};
use crate::rig::joint::{Joint, Line, Tapped};
use crate::rig::target::{self, BLOCK, BLOCKS, SUBNQN, TargetRig, config};
use interlock_host_core::probe::{Goal, Probe, ProbeConfig, ProbeOutput};
use interlock_host_core::{AnaState, ConnAction, ConnEvent, ControllerSpec, CtrlId, Dial, Op, Reconnect, Timeouts};
use interlock_proto::SendList;
use interlock_target_core::config::Limits;
use interlock_target_core::{Fault, PortId};
use interlock_wire::ana;
use interlock_wire::nqn::{HostId, Nqn};
use interlock_wire::pdu::{Direction, Framing, H2cData, R2t};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Limits that show every size class with little data.
fn limits() -> Limits {
    Limits {
        connections: 16,
        controllers: 8,
        io_queues: 4,
        queue_depth: 32,
        max_transfer: 32_768,
        in_capsule: 4096,
        max_h2c_data: 8192,
        memory: 4 << 20,
        hdgst: true,
        ddgst: true,
        ..Limits::default()
    }
}

fn world() -> Joint {
    let mut target = TargetRig::new(config(limits()));
    for (at, byte) in target.disk_mut().iter_mut().enumerate() {
        *byte = (at / BLOCK as usize) as u8;
    }
    let mut joint = Joint::new(HostRig::new(9), target);
    joint.tap = Some(Vec::new());
    joint
}

fn common(spec: &mut ControllerSpec) {
    spec.kato = 5 * SECOND;
    spec.queue_size = 16;
    spec.nr_io_queues = 1;
    spec.reconnect = Reconnect { delay: SECOND, ctrl_loss: Some(20 * SECOND), fast_io_fail: None };
}

/// A host with live paths through these ports.
fn live(ports: &[u16], change: impl Fn(&mut ControllerSpec)) -> (Joint, Vec<CtrlId>) {
    let mut joint = world();
    let mut ctrls = Vec::new();
    for port in ports {
        ctrls.push(joint.connect(*port, |spec| {
            common(spec);
            change(spec);
        }));
        joint.until(2 * SECOND, "a path", |joint| paths(joint) == ctrls.len());
    }
    (joint, ctrls)
}

/// Paths that can be used.
fn paths(joint: &Joint) -> usize {
    let heads = joint.host.control.paths().heads.values();
    heads.flat_map(|head| &head.paths).filter(|path| path.ana == AnaState::Optimized).count()
}

/// A request, until it has ended.
fn request(joint: &mut Joint, op: Op, slba: u64, nlb: u32) -> u64 {
    let token = joint.host.submit(op, slba, nlb, BLOCK).expect("a request that can be sent");
    joint.until(SECOND, "an answer", |joint| joint.host.done.contains_key(&token));
    token
}

fn end(mut joint: Joint) -> Vec<Line> {
    let now = joint.host.now;
    joint.host.control.shutdown(now);
    joint.until(30 * SECOND, "the end of the host", |joint| joint.host.control.has_ended());
    assert_eq!((joint.host.unanswered(), joint.host.buffers()), (0, 0));
    joint.tap.take().expect("somebody listens")
}

fn tapped(mut joint: Joint) -> Vec<Line> {
    joint.tap.take().expect("somebody listens")
}

pub(super) fn connect() -> Vec<Line> {
    end(live(&[4420], |_| {}).0)
}

pub(super) fn io_sizes() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    for (op, slba, nlb) in [
        (Op::Write { fua: false }, 0, 1),
        (Op::Write { fua: true }, 1, 8),
        (Op::Write { fua: false }, 10, 9),
        (Op::Write { fua: false }, 20, 64),
        (Op::Read, 0, 1),
        (Op::Read, 20, 64),
        (Op::Flush, 0, 0),
        (Op::WriteZeroes { deallocate: false }, 20, 4),
        (Op::Discard, 30, 4),
    ] {
        request(&mut joint, op, slba, nlb);
    }
    end(joint)
}

fn digests(hdgst: bool, ddgst: bool) -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |spec| (spec.hdgst, spec.ddgst) = (hdgst, ddgst));
    request(&mut joint, Op::Write { fua: false }, 0, 1);
    request(&mut joint, Op::Write { fua: false }, 1, 20);
    request(&mut joint, Op::Read, 0, 21);
    end(joint)
}

pub(super) fn digest_header() -> Vec<Line> {
    digests(true, false)
}

pub(super) fn digest_data() -> Vec<Line> {
    digests(false, true)
}

pub(super) fn digest_both() -> Vec<Line> {
    digests(true, true)
}

pub(super) fn keep_alive() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    joint.advance(8 * SECOND);
    assert_eq!(paths(&joint), 1, "it is alive");
    end(joint)
}

pub(super) fn events() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    let subsystem = joint.target.control.subsystem(SUBNQN).expect("it is configured");
    joint.target.control.set_ana(subsystem, 1, PortId(4420), ana::State::NonOptimized);
    joint.until(SECOND, "the other ANA state", |joint| paths(joint) == 0);
    joint.target.control.resize_namespace(subsystem, 1, BLOCKS / 2).expect("it is there");
    joint.until(SECOND, "the other size", |joint| {
        joint.host.control.paths().heads.values().any(|head| head.shape.blocks == BLOCKS / 2)
    });
    end(joint)
}

/// Two paths, writes that stall inside the target behind the first, and the loss of that one.
fn lost_path(joint: &mut Joint) {
    joint.target.control.script(Fault::HoldWrites { port: PortId(4420) });
    joint.target.control.script(Fault::HoldWrites { port: PortId(4421) });
    joint.run();
    let tokens: Vec<u64> = (0..4)
        .map(|n| joint.host.submit(Op::Write { fua: false }, n * 4, 1, BLOCK).expect("a request that can be sent"))
        .collect();
    joint.run();
    joint.target.control.script(Fault::StopHolding { port: PortId(4420) });
    joint.target.control.script(Fault::StopHolding { port: PortId(4421) });
    joint.run();
    joint.target.control.script(Fault::ResetConnections { port: PortId(4420) });
    joint.until(10 * SECOND, "a receipt", |joint| joint.host.control.receipts().count() == 1);
    joint.target.control.script(Fault::Release);
    joint.until(10 * SECOND, "every answer", |joint| tokens.iter().all(|token| joint.host.done.contains_key(token)));
    joint.until(10 * SECOND, "both paths again", |joint| paths(joint) == 2);
}

pub(super) fn ccr_immediate() -> Vec<Line> {
    let (mut joint, _) = live(&[4420, 4421], |_| {});
    lost_path(&mut joint);
    end(joint)
}

pub(super) fn ccr_pending() -> Vec<Line> {
    let (mut joint, _) = live(&[4420, 4421], |_| {});
    joint.target.control.script(Fault::SlowDrain { ms: 100 });
    lost_path(&mut joint);
    end(joint)
}

pub(super) fn refused() -> Vec<Line> {
    let mut joint = world();
    let id = joint.connect(4420, |spec| {
        common(spec);
        spec.subnqn = Nqn::new("nqn.2026-11.io.interlock:none").expect("a valid name");
    });
    joint.until(SECOND, "a refusal", |joint| {
        joint.host.control.controllers().any(|ctrl| ctrl.id == id && ctrl.last_error.is_some())
    });
    end(joint)
}

pub(super) fn io_errors() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    let subsystem = joint.target.control.subsystem(SUBNQN).expect("it is configured");
    // The namespace is smaller than the host can know yet.
    joint.target.control.resize_namespace(subsystem, 1, BLOCKS / 2).expect("it is there");
    let token = joint.host.submit(Op::Read, BLOCKS - 1, 1, BLOCK).expect("the host believes it");
    joint.until(SECOND, "an error", |joint| joint.host.done.contains_key(&token));
    joint.target.control.set_ana(subsystem, 1, PortId(4420), ana::State::Inaccessible);
    let token = joint.host.submit(Op::Read, 0, 1, BLOCK).expect("the host believes it");
    joint.run();
    assert!(!joint.host.done.contains_key(&token), "it waits for a path");
    joint.target.control.set_ana(subsystem, 1, PortId(4420), ana::State::Optimized);
    joint.until(2 * SECOND, "the read", |joint| joint.host.done.contains_key(&token));
    end(joint)
}

/// The I/O connection of the only controller.
fn io_wire(joint: &Joint) -> Key {
    joint.live().into_iter().find(|key| key.0 == Owner::Lane).expect("an I/O queue")
}

/// Bytes that the host did not send reach the target as if it had.
fn forge_up(joint: &mut Joint, key: Key, bytes: &[u8]) {
    let (conn, number, now) = (joint.wires[&key].conn, joint.wires[&key].number, joint.host.now);
    let line = (now, number, Tapped::Bytes(Direction::ToController, bytes.to_vec()));
    joint.tap.as_mut().expect("somebody listens").push(line);
    joint.target.deliver(conn, bytes);
}

pub(super) fn term_by_controller() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    let key = io_wire(&joint);
    forge_up(&mut joint, key, &pdu(&H2cData::new(1, 77, 0, 512, true, &Framing::PLAIN), &[0; 512]));
    joint.run();
    assert_ne!(joint.host.sockets[&key].end, End::Open);
    tapped(joint)
}

pub(super) fn term_by_host() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |_| {});
    let key = io_wire(&joint);
    joint.give_host(key, &pdu(&R2t::new(0x123, 1, 0, 512, &Framing::PLAIN), &[]));
    joint.run();
    joint.advance(SECOND / 2);
    assert_ne!(joint.host.sockets[&key].end, End::Open);
    tapped(joint)
}

pub(super) fn header_digest_error() -> Vec<Line> {
    let (mut joint, _) = live(&[4420], |spec| spec.hdgst = true);
    let key = io_wire(&joint);
    let mut bytes = pdu(&H2cData::new(1, 77, 0, 512, true, &Framing { hdgst: true, ..Framing::PLAIN }), &[0; 512]);
    bytes[24] ^= 1;
    forge_up(&mut joint, key, &bytes);
    joint.run();
    assert_ne!(joint.host.sockets[&key].end, End::Open);
    tapped(joint)
}

fn probe_config() -> ProbeConfig {
    let hostid = HostId([9; 16]);
    ProbeConfig {
        dial: Dial { addr: target::address(8009), local: None, iface: None, user_timeout: 5 * SECOND },
        hostnqn: Nqn::of_host(hostid),
        hostid,
        subnqn: Nqn::discovery(),
        goal: Goal::Discovery,
        kato: Duration::ZERO,
        hdgst: false,
        ddgst: false,
        timeouts: Timeouts::default(),
    }
}

/// The look of `interlock discover`: one admin connection that asks and leaves.
pub(super) fn discovery() -> Vec<Line> {
    let mut target = TargetRig::new(config(limits()));
    let mut probe = Probe::new(probe_config());
    let mut lines: Vec<Line> = Vec::new();
    let hop = |target: &mut TargetRig| {
        target.now += Duration::from_micros(20);
        target.now
    };
    let conn = target.accept(8009);
    lines.push((hop(&mut target), 0, Tapped::Open(8009)));
    probe.start(target.now);
    probe.handle_conn(target.now, ConnEvent::Up);
    let mut over = false;
    while !over {
        let mut list = SendList::new();
        probe.poll_send(&mut list);
        let up = list.headers.clone();
        if !up.is_empty() {
            probe.handle_given(list.bytes());
            lines.push((hop(&mut target), 0, Tapped::Bytes(Direction::ToController, up.clone())));
            target.deliver(conn, &up);
            target.run();
        }
        let down = target.take(conn);
        if !down.is_empty() {
            lines.push((hop(&mut target), 0, Tapped::Bytes(Direction::ToHost, down.clone())));
            let mut at = 0;
            while at < down.len() {
                at += probe.handle_bytes(target.now, &down[at..]).used;
            }
        }
        while let Some(output) = probe.poll_output() {
            match output {
                ProbeOutput::Conn(ConnAction::Close(_)) => {
                    lines.push((hop(&mut target), 0, Tapped::End(Direction::ToController, true)));
                    target.hang_up(conn);
                }
                ProbeOutput::Conn(_) | ProbeOutput::Found(_) => {}
                ProbeOutput::Done(result) => {
                    result.expect("a discovery log");
                    over = true;
                }
            }
        }
        assert!(over || !up.is_empty() || !down.is_empty() || probe.next_deadline().is_some(), "it goes on");
        if let Some(at) = probe.next_deadline().filter(|_| up.is_empty() && down.is_empty() && !over) {
            target.tick(at);
            probe.handle_timeout(at);
        }
    }
    lines
}
