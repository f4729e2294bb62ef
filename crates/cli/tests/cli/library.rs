//! The host library against the target as a separate process: a file, both digests, two paths.

use crate::child::{NQN, Target};
use crate::serving::Scratch;
use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Outcome, Pool, PoolConfig};
use rustix::process::Signal;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn what_the_library_writes_lies_in_the_file_of_the_target() {
    let disk = Scratch::new("library.img", &vec![0; 4 << 20]);
    let backing = format!("file:{}", disk.path());
    let any = "127.0.0.1:0";
    let target = Target::start(&["--port", any, "--port", any, "--namespace", &backing]);

    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("a reactor");
    let host = Host::start(pool.reactors(), HostSettings::random().expect("random numbers")).expect("a host");
    let subnqn = Nqn::new(NQN).expect("a name");
    for path in 0..2 {
        let port = target.port(path).parse().expect("a port");
        let mut spec = ControllerSpec::new("127.0.0.1", port, subnqn.clone());
        spec.hdgst = true;
        spec.ddgst = true;
        host.connect_and_wait(spec, PATIENCE).expect("the target is there");
    }
    let namespace = host.namespace(NQN, 1).expect("a namespace");
    let block = namespace.shape().block_size as usize;
    // In turn over both paths; small enough for a capsule, and large enough for R2T.
    for (slba, blocks) in [(0u64, 1u32), (1, 1), (8, 64), (128, 64)] {
        let mut buf = namespace.buffer(blocks);
        let bytes = buf.get_mut().expect("our own buffer");
        bytes.chunks_mut(block).zip(slba..).for_each(|(block, lba)| block.fill(lba as u8 + 1));
        let (outcome, _) = namespace.write(slba, buf).wait();
        assert_eq!(outcome, Outcome::Ok, "write at {slba}");
        let (outcome, back) = namespace.read(slba, blocks).wait();
        assert_eq!(outcome, Outcome::Ok, "read at {slba}");
        let back = back.expect("a buffer");
        assert!(
            back.as_slice().chunks(block).zip(slba..).all(|(block, lba)| block.iter().all(|b| *b == lba as u8 + 1))
        );
    }
    for (slba, blocks) in [(0u64, 1u32), (128, 64)] {
        // Once as it was written, once with its last byte changed: in the capsule, and after R2T.
        for change in [0, 1] {
            let mut buf = namespace.buffer(blocks);
            let bytes = buf.get_mut().expect("our own buffer");
            bytes.chunks_mut(block).zip(slba..).for_each(|(block, lba)| block.fill(lba as u8 + 1));
            *bytes.last_mut().expect("a block") ^= change;
            let (outcome, back) = namespace.compare(slba, buf).wait();
            assert_eq!(
                (outcome == Outcome::Ok, outcome.is_different()),
                (change == 0, change == 1),
                "{slba}: {outcome}"
            );
            assert!(back.is_some(), "the buffer comes back");
        }
    }
    let (outcome, _) = namespace.write_zeroes(1, 1, false).wait();
    assert_eq!(outcome, Outcome::Ok);
    let (outcome, _) = namespace.flush().wait();
    assert_eq!(outcome, Outcome::Ok);
    host.shutdown(PATIENCE).expect("an orderly end");
    pool.shutdown(PATIENCE).expect("an orderly end");

    let (status, log) = target.stop(Signal::TERM);
    assert!(status.success(), "{log}");
    assert_eq!(log.matches(" lost: Reset").count(), 2, "both controllers were shut down: {log}");
    let file = std::fs::read(&disk.0).expect("our own file");
    let at = |lba: usize| file[lba * block];
    assert_eq!([at(0), at(1), at(2), at(8), at(71), at(72), at(128)], [1, 0, 0, 9, 72, 0, 129]);
}
