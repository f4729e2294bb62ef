//! A buffer that a driver may still send belongs to nobody else.

use crate::rig::*;
use interlock_target_core::{ConnId, Loss, ToLane};
use interlock_wire::fabrics::Cc;
use interlock_wire::nvm::Command;
use interlock_wire::pdu::{Direction, Fatal, Fes, TermReq};

/// Eight bytes that begin no PDU.
const NOISE: [u8; 8] = [0xFF; 8];

fn read(nlb: u32) -> interlock_wire::sqe::Sqe {
    Command::Read { slba: 0, nlb, fua: false }.to_sqe(1)
}

/// A host whose answers were polled, and whose socket takes none of them.
fn full(rig: &mut Rig, blocks: &[u32]) -> Path {
    let path = Host::new(1).live(rig, A);
    rig.wires.get_mut(&path.io).unwrap().deaf = true;
    for nlb in blocks {
        rig.submit(path.io, read(*nlb), &[], nlb * 512);
    }
    assert_eq!(rig.buffers(), blocks.len(), "each answer has its buffer");
    path
}

fn termination() -> Vec<u8> {
    let why = Fatal::new(Fes::PduSequenceError, 0, "as the host says");
    TermReq::encode(Direction::ToController, &why, &[0; 8])
}

/// Everything is back, and who comes next is served as if nothing had been.
fn is_as_before(rig: &mut Rig, ended: ConnId, held: u64) {
    assert!(!rig.is_open(ended));
    assert_eq!(rig.buffers(), 0);
    assert_eq!(rig.lanes[LANE_A].buffered(), 0);
    assert!(rig.lanes[LANE_A].held() <= held);
    let next = Host::new(7).live(rig, A);
    next.write(rig, 3, 9);
    assert_eq!(next.read(rig, 3), 9);
}

#[test]
fn what_was_polled_stays_until_a_peer_that_broke_the_protocol_is_closed() {
    for end in [NOISE.to_vec(), termination()] {
        for blocks in [&[64, 64, 64][..], &[8, 8], &[128, 8]] {
            let mut rig = Rig::new(config());
            let path = full(&mut rig, blocks);
            let held = rig.lanes[LANE_A].held();
            rig.inject(path.io, &end);
            is_as_before(&mut rig, path.io, held);
        }
    }
}

#[test]
fn a_part_that_the_kernel_took_is_free_once() {
    let mut rig = Rig::new(config());
    let path = full(&mut rig, &[64]);
    let held = rig.lanes[LANE_A].held();
    let lane = &mut rig.lanes[LANE_A];
    // The first half of the answer, then the end, then what the driver still gets rid of before it closes.
    lane.handle_given(rig.now, path.io, 16_384);
    let fatal = lane.handle_bytes(rig.now, path.io, &NOISE).unwrap_err();
    lane.handle_given(rig.now, path.io, 1);
    rig.wires.get_mut(&path.io).unwrap().fatal = Some(fatal);
    rig.run();
    is_as_before(&mut rig, path.io, held);
}

#[test]
fn the_data_of_another_host_does_not_go_into_an_answer_that_waits_to_be_sent() {
    // The driver hears of the end at the end of its turn; in between it reads others.
    for cut in [false, true] {
        let mut rig = Rig::new(config());
        let other = Host::new(2).live(&mut rig, A);
        let path = full(&mut rig, &[2]);
        let fatal = if cut {
            let life = rig.lanes[LANE_A].lives().last().unwrap().0;
            rig.lanes[LANE_A].handle_control(rig.now, ToLane::Cut { life, why: Loss::Reset, until: None });
            None
        } else {
            Some(rig.lanes[LANE_A].handle_bytes(rig.now, path.io, &NOISE).unwrap_err())
        };
        rig.submit(other.io, Command::Write { slba: 0, nlb: 2, fua: false }.to_sqe(1), &[0x55; 1024], 0);
        rig.wires.get_mut(&path.io).unwrap().fatal = fatal;
        rig.run();
        assert!(!rig.is_open(path.io));
        assert_eq!(rig.buffers(), 0);
    }
}

#[test]
fn a_reset_or_a_scripted_end_frees_what_was_polled_after_the_end() {
    let mut rig = Rig::new(config());
    let path = full(&mut rig, &[64, 8]);
    set_cc(&mut rig, path.admin, Cc::new(false));
    assert!(!rig.is_open(path.io));
    assert_eq!(rig.buffers(), 0);

    let mut rig = Rig::new(config());
    let path = full(&mut rig, &[64, 8]);
    rig.script(interlock_target_core::Fault::Mute { port: A });
    rig.script(interlock_target_core::Fault::ResetConnections { port: A });
    assert!(rig.wires[&path.io].parked);
    assert_eq!(rig.buffers(), 0);
}

#[test]
fn a_buffer_that_comes_after_the_protocol_was_broken_is_given_back_once() {
    let mut rig = Rig::new(config());
    let path = Host::new(1).live(&mut rig, A);
    let held = rig.lanes[LANE_A].held();
    rig.no_buffers = true;
    rig.submit(path.io, read(64), &[], 32_768);
    // One call brings the end; the buffer that was asked for before it comes while the driver has not closed yet.
    let fatal = rig.lanes[LANE_A].handle_bytes(rig.now, path.io, &NOISE).unwrap_err();
    rig.no_buffers = false;
    rig.run();
    rig.wires.get_mut(&path.io).unwrap().fatal = Some(fatal);
    rig.run();
    is_as_before(&mut rig, path.io, held);
}
