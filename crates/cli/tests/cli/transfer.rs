//! Transfers larger than a command of the target may be (MDTS).

use crate::child::{NQN, Target, interlock};
use crate::serving::Scratch;
use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Outcome, Pool, PoolConfig, Refused};
use std::future::Future;
use std::pin::pin;
use std::process::Stdio;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const BYTES: usize = 1 << 20;

/// A target whose commands carry 8 KiB: two of its blocks.
fn small(name: &str) -> (Scratch, Target) {
    let text = format!(
        "nqn = \"{NQN}\"\nmax_transfer_kib = 8\n[[port]]\nlisten = \"127.0.0.1:0\"\n\
         [[namespace]]\nbacking = \"mem:{BYTES}\"\nblock_size = 4096\n"
    );
    let config = Scratch::new(name, text.as_bytes());
    let target = Target::start(&["--config", config.path()]);
    (config, target)
}

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at / 512 * 7 + at) as u8).collect()
}

#[test]
fn io_moves_more_than_a_command_of_the_target_carries() {
    let (_config, target) = small("mdts-io.toml");
    let place = format!("nvme:127.0.0.1:{}/{NQN}", target.port(0));
    let state = Scratch::new("mdts-state", b"");
    let state_dir = format!("{}.d", state.path());
    let who = ["-I", "22222222-2222-4222-8222-000000000017", "-q", "nqn.2014-08.org.example:mdts"];
    let file = Scratch::new("mdts.img", &pattern());
    let back = Scratch::new("mdts.back", b"");
    for (from, to) in [(file.path(), place.as_str()), (place.as_str(), back.path())] {
        let mut verb = interlock(&["io", "copy", from, to, "--state-dir", &state_dir, "--nvme-dir", &state_dir]);
        let end = verb.args(who).stdout(Stdio::piped()).output().expect("the binary runs");
        assert!(end.status.success(), "{from} to {to}: {}", String::from_utf8_lossy(&end.stderr));
    }
    assert!(std::fs::read(&back.0).expect("written") == pattern(), "other bytes came back");
    std::fs::remove_dir_all(&state_dir).expect("it was made");
}

#[test]
fn the_library_splits_what_no_path_carries_at_once() {
    let (_config, target) = small("mdts-lib.toml");
    let pool = Pool::new(PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }).expect("a reactor");
    let host = Host::start(pool.reactors(), HostSettings::random().expect("random numbers")).expect("a host");
    let port = target.port(0).parse().expect("a port");
    let spec = ControllerSpec::new("127.0.0.1", port, Nqn::new(NQN).expect("a name"));
    host.connect_and_wait(spec, PATIENCE).expect("the target is there");
    let ns = host.namespace(NQN, 1).expect("a namespace");
    let blocks = 101;
    let bytes = &pattern()[..blocks * 4096];
    let mut buf = ns.buffer(blocks as u32);
    buf.get_mut().expect("our own buffer").copy_from_slice(bytes);
    let (outcome, buf) = ns.write(3, buf).wait();
    assert_eq!(outcome, Outcome::NotSent(Refused::TooLarge), "one command does not carry it");
    let end = ns.write_split(3, buf.expect("given back"), true).wait();
    assert_eq!((end.outcome, end.done), (Outcome::Ok, blocks as u32));
    assert_eq!(end.buf.expect("given back").as_slice(), bytes);
    // As a future, too.
    let mut read = pin!(ns.read_split(3, blocks as u32));
    let mut context = Context::from_waker(Waker::noop());
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        match read.as_mut().poll(&mut context) {
            Poll::Ready(end) => break end,
            Poll::Pending => assert!(Instant::now() < deadline, "it never ends"),
        }
        std::thread::yield_now();
    };
    assert_eq!((end.outcome, end.done), (Outcome::Ok, blocks as u32));
    assert_eq!(end.buf.expect("given back").as_slice(), bytes);
    // What cannot be is refused as one command of that length is.
    let beyond = ns.read_split(BYTES as u64 / 4096 - 4, 64).wait();
    assert_eq!((beyond.outcome, beyond.done), (Outcome::NotSent(Refused::OutOfRange), 0));
    host.shutdown(PATIENCE).expect("an orderly end");
    pool.shutdown(PATIENCE).expect("an orderly end");
}
