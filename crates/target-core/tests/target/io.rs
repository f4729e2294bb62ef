//! I/O: data through buffers, checks with the right status, bounds.

use crate::rig::*;
use interlock_target_core::{Control, Fault, MediaResult, SubsystemId};
use interlock_wire::ana::State;
use interlock_wire::nvm::{Command, DsmRange};
use interlock_wire::sqe::Sqe;
use interlock_wire::status::Status;

const S: SubsystemId = SubsystemId(0);

fn status(rig: &mut Rig, path: Path, sqe: Sqe, out: &[u8], into: u32) -> Status {
    rig.ask(path.io, sqe, out, into).0.status()
}

fn write(slba: u64, nlb: u32) -> Command {
    Command::Write { slba, nlb, fua: false }
}

fn read(slba: u64, nlb: u32) -> Command {
    Command::Read { slba, nlb, fua: false }
}

#[test]
fn data_comes_back_as_it_went() {
    for digests in [false, true] {
        let mut rig = Rig::new(config());
        rig.digests = digests;
        let a = Host::new(1).live(&mut rig, A);
        // In the capsule, and by R2T.
        for (slba, nlb) in [(0, 1), (10, 2), (20, 3), (100, 128)] {
            let data: Vec<u8> = (0..nlb * 512).map(|n| (n * 7 + nlb) as u8).collect();
            assert_eq!(status(&mut rig, a, write(slba, nlb).to_sqe(1), &data, 0), Status::SUCCESS);
            assert_eq!(rig.get(a.io, read(slba, nlb).to_sqe(1), nlb * 512), data);
        }
        assert_eq!(rig.buffers(), 0);
    }
}

#[test]
fn every_io_command_does_what_it_says() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let compare = Command::Compare { slba: 0, nlb: 1, fua: false }.to_sqe(1);
    status(&mut rig, a, write(0, 4).to_sqe(1), &[0x11; 2048], 0);
    assert_eq!(status(&mut rig, a, compare, &[0x11; 512], 0), Status::SUCCESS);
    assert_eq!(status(&mut rig, a, compare, &[0x12; 512], 0), Status::COMPARE_FAILURE.with_dnr());
    assert_eq!(status(&mut rig, a, Command::Flush.to_sqe(1), &[], 0), Status::SUCCESS);
    let zeroes = Command::WriteZeroes { slba: 0, nlb: 1, deallocate: true, fua: true }.to_sqe(1);
    assert_eq!(status(&mut rig, a, zeroes, &[], 0), Status::SUCCESS);
    assert_eq!((a.read(&mut rig, 0), a.read(&mut rig, 1)), (0, 0x11));
    // Linux always sends 4096 bytes, whatever the number of ranges.
    let mut ranges = DsmRange::encode(&[DsmRange::new(1, 1), DsmRange::new(3, 1), DsmRange::new(7, 0)]);
    ranges.resize(4096, 0xFF);
    let hint = Command::Dsm { ranges: 3, deallocate: false }.to_sqe(1);
    assert_eq!(status(&mut rig, a, hint, &ranges, 0), Status::SUCCESS);
    assert_eq!(a.read(&mut rig, 1), 0x11, "a hint changes nothing");
    let deallocate = Command::Dsm { ranges: 3, deallocate: true }.to_sqe(1);
    assert_eq!(status(&mut rig, a, deallocate, &ranges, 0), Status::SUCCESS);
    assert_eq!((1..4).map(|n| a.read(&mut rig, n)).collect::<Vec<_>>(), [0, 0x11, 0]);
    let uncorrectable = Command::WriteUncorrectable { slba: 0, nlb: 1 };
    assert_eq!(status(&mut rig, a, uncorrectable.to_sqe(1), &[], 0), Status::INVALID_OPCODE.with_dnr());
    assert_eq!(status(&mut rig, a, Sqe::new(0x90), &[], 0), Status::INVALID_OPCODE.with_dnr());
}

#[test]
fn verify_reads_and_moves_nothing() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let verify = |slba, nlb| Command::Verify { slba, nlb }.to_sqe(1);
    // As much as VSL says, which is as much as any command moves.
    let most = config().limits.max_transfer / 512;
    assert_eq!(status(&mut rig, a, verify(0, most), &[], 0), Status::SUCCESS);
    assert_eq!(status(&mut rig, a, verify(0, most + 1), &[], 0), Status::INVALID_FIELD.with_dnr());
    assert_eq!(status(&mut rig, a, verify(BLOCKS - 1, 2), &[], 0), Status::LBA_OUT_OF_RANGE.with_dnr());
    rig.media_fails = Some(MediaResult::ReadFailed);
    assert_eq!(status(&mut rig, a, verify(3, 1), &[], 0), Status::UNRECOVERED_READ);
    assert_eq!(rig.buffers(), 0);
}

#[test]
fn bad_commands_get_their_status_and_cost_nothing() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let range = Status::LBA_OUT_OF_RANGE.with_dnr();
    let length = Status::SGL_DATA_LENGTH_INVALID.with_dnr();
    let namespace = Status::INVALID_NAMESPACE.with_dnr();
    let bad = [
        (read(BLOCKS, 1).to_sqe(1), 0, 512, range),
        (read(BLOCKS - 1, 2).to_sqe(1), 0, 1024, range),
        (read(u64::MAX, 1).to_sqe(1), 0, 512, range),
        (write(BLOCKS, 1).to_sqe(1), 512, 0, range),
        (Command::WriteZeroes { slba: BLOCKS, nlb: 1, deallocate: false, fua: false }.to_sqe(1), 0, 0, range),
        (read(0, 2).to_sqe(1), 0, 512, length),
        (read(0, 1).to_sqe(1), 0, 0, length),
        (write(0, 1).to_sqe(1), 1024, 0, length),
        (write(0, 8).to_sqe(1), 512, 0, length),
        (Command::Dsm { ranges: 2, deallocate: true }.to_sqe(1), 16, 0, length),
        (read(0, 1).to_sqe(2), 0, 512, namespace),
        (read(0, 1).to_sqe(0), 0, 512, namespace),
        (Command::Flush.to_sqe(u32::MAX), 0, 0, namespace),
        (read(0, 256).to_sqe(1), 0, 131_072, Status::INVALID_FIELD.with_dnr()),
        (write(0, 256).to_sqe(1), 131_072, 0, Status::INVALID_FIELD.with_dnr()),
    ];
    for (sqe, out, into, want) in bad {
        assert_eq!(status(&mut rig, a, sqe, &vec![0; out], into), want, "{sqe:?}");
    }
    assert_eq!(rig.buffers(), 0);
    assert_eq!(status(&mut rig, a, write(0, 1).to_sqe(1), &[1; 512], 0), Status::SUCCESS, "the queue lives");
    let mut reaching = DsmRange::encode(&[DsmRange::new(0, 1), DsmRange::new(BLOCKS, 1)]);
    reaching.resize(4096, 0);
    let sqe = Command::Dsm { ranges: 2, deallocate: true }.to_sqe(1);
    assert_eq!(status(&mut rig, a, sqe, &reaching, 0), range);
    assert_eq!(a.read(&mut rig, 0), 1, "all ranges or none");
}

#[test]
fn read_only_namespaces_and_ana_states() {
    let mut config = config();
    config.subsystems[0].namespaces[0].read_only = true;
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    let protected = Status::NAMESPACE_WRITE_PROTECTED.with_dnr();
    assert_eq!(status(&mut rig, a, write(0, 1).to_sqe(1), &[1; 512], 0), protected);
    for (state, want) in [
        (State::NonOptimized, Status::SUCCESS),
        (State::Inaccessible, Status::ANA_INACCESSIBLE),
        (State::PersistentLoss, Status::ANA_PERSISTENT_LOSS),
        (State::Change, Status::ANA_TRANSITION),
        (State::Optimized, Status::SUCCESS),
    ] {
        assert!(rig.control.set_ana(S, 1, A, state));
        assert!(!rig.control.set_ana(S, 1, A, state), "nothing changed");
        rig.run();
        assert_eq!(status(&mut rig, a, read(0, 1).to_sqe(1), &[], 512), want);
        assert_eq!(status(&mut rig, b, read(0, 1).to_sqe(1), &[], 512), Status::SUCCESS, "the other port");
    }
    assert!(!rig.control.set_ana(S, 3, A, State::Change), "no such group");
}

#[test]
fn buffers_are_bounded_and_commands_wait_for_them() {
    let mut config = config();
    config.limits.memory = config.limits.memory_min();
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    rig.slow_media = true;
    let tokens: Vec<u64> = (0..8).map(|n| rig.submit(a.io, read(n, 64).to_sqe(1), &[], 32_768)).collect();
    assert_eq!((rig.media.len(), rig.buffers()), (6, 6), "only as many as leave room for others");
    assert!(rig.lanes[LANE_A].held() * 8 <= rig.control.config().limits.memory * 7);
    rig.slow_media = false;
    rig.run();
    assert!(tokens.into_iter().all(|token| rig.answer(a.io, token).is_some()));
    assert_eq!(rig.buffers(), 0);
}

/// A queue that stops at each write until its driver has given a buffer is offered the same bytes again and again.
#[test]
fn buffers_of_earlier_commands_are_given_at_once() {
    for (stock, again) in [(0, 16), (64 << 10, 0), (2048, 12)] {
        let mut config = config();
        config.limits.stock = stock;
        let mut rig = Rig::new(config);
        let a = Host::new(1).live(&mut rig, A);
        for round in [0, 16] {
            let before = rig.asked;
            rig.slow_media = true;
            for n in 0..8 {
                rig.submit(a.io, write(round + n, 1).to_sqe(1), &[n as u8 + 1; 512], 0);
                rig.submit(a.io, read(round + n, 1).to_sqe(1), &[], 512);
            }
            assert_eq!((rig.media.len(), rig.buffers()), (16, 16), "each its own");
            rig.slow_media = false;
            rig.run();
            assert!((0..8).all(|n| rig.disk(round + n) == n as u8 + 1));
            assert_eq!(rig.buffers(), 0);
            assert_eq!(rig.asked - before, if round == 0 { 16 } else { again }, "a stock of {stock} bytes");
        }
    }
}

/// The bounds hold for what the stock gives, too: whoever has its share waits, although there is a buffer.
#[test]
fn the_stock_is_no_way_around_the_bounds() {
    let mut config = config();
    (config.limits.max_transfer, config.limits.buffered_per_connection) = (8192, 8192);
    let mut rig = Rig::new(config);
    let a = Host::new(1).live(&mut rig, A);
    for _ in 0..2 {
        rig.slow_media = true;
        for n in 0..4 {
            rig.submit(a.io, write(n * 8, 8).to_sqe(1), &[7; 4096], 0);
        }
        assert_eq!((rig.media.len(), rig.buffers()), (2, 2), "its share");
        rig.slow_media = false;
        rig.run();
        assert_eq!(rig.buffers(), 0);
    }
}

#[test]
fn a_late_buffer_of_a_dead_connection_comes_back() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.no_buffers = true;
    rig.submit(a.io, read(0, 1).to_sqe(1), &[], 512);
    rig.submit(a.io, write(0, 64).to_sqe(1), &[1; 32_768], 0);
    rig.hang_up(a.io);
    rig.no_buffers = false;
    rig.run();
    assert_eq!((rig.buffers(), rig.disk(0)), (0, 0));
}

#[test]
fn a_transfer_cut_in_the_middle_changes_nothing() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    rig.no_buffers = true;
    rig.submit(a.io, write(0, 64).to_sqe(1), &[1; 32_768], 0);
    assert!(b.ccr_now(&mut rig, a.instance).1, "a write without its data is nothing to wait for");
    rig.no_buffers = false;
    rig.run();
    assert_eq!((rig.buffers(), rig.disk(0)), (0, 0));
}

#[test]
fn delayed_and_dropped_commands() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    let b = Host::new(1).live(&mut rig, B);
    rig.script(Fault::Delay { port: A, ms: 100 });
    let token = a.write(&mut rig, 0, 0x11);
    rig.advance(99);
    assert!(rig.answer(a.io, token).is_none());
    rig.advance(1);
    assert!(rig.answer(a.io, token).is_some());
    // Fenced while delayed: it tries and is refused.
    a.write(&mut rig, 1, 0x11);
    rig.script(Fault::Drop { port: A });
    let dropped = a.write(&mut rig, 2, 0x11);
    assert_eq!(rig.buffers(), 1);
    assert!(b.ccr_now(&mut rig, a.instance).1);
    rig.advance(100);
    assert!(rig.events.iter().any(|event| matches!(event, interlock_target_core::Event::GhostRefused { .. })));
    assert_eq!((rig.disk(1), rig.disk(2), rig.buffers()), (0, 0, 0));
    assert!(rig.answer(a.io, dropped).is_none());
}

#[test]
fn a_controller_dies_of_a_command_for_one_block_and_of_no_other() {
    let mut rig = Rig::new(config());
    let a = Host::new(1).live(&mut rig, A);
    rig.script(Fault::CrashOn { port: A, nsid: 1, lba: 2 });
    let other = a.write(&mut rig, 1, 0x11);
    assert!(rig.answer(a.io, other).is_some());
    let deadly = a.write(&mut rig, 2, 0x11);
    assert!(rig.answer(a.io, deadly).is_none());
    let died = |event: &interlock_target_core::Event| {
        matches!(event, interlock_target_core::Event::Dropped { why: interlock_target_core::Loss::Script, .. })
    };
    assert!(rig.events.iter().any(died), "{:?}", rig.events);
    assert_eq!((rig.disk(1), rig.disk(2), rig.buffers()), (0x11, 0, 0), "it was not executed");
    let b = Host::new(1).live(&mut rig, B);
    let there = b.write(&mut rig, 2, 0x22);
    assert!(rig.answer(b.io, there).is_some(), "the other port takes it");
}

#[test]
fn machines_are_values() {
    let mut rig = Rig::new(config());
    Host::new(1).live(&mut rig, A);
    let copy: Control = rig.control.clone();
    assert_eq!(interlock_base::fingerprint(&copy), interlock_base::fingerprint(&rig.control));
    let lane = rig.lanes[LANE_A].clone();
    let before = interlock_base::fingerprint(&lane);
    Host::new(2).live(&mut rig, A);
    assert_ne!(interlock_base::fingerprint(&copy), interlock_base::fingerprint(&rig.control));
    assert_ne!(before, interlock_base::fingerprint(&rig.lanes[LANE_A]));
}
