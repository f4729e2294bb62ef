//! Writes a pattern through every given path and reads it back.
//!
//! ```sh
//! cargo run --example verify -- nqn.2026-11.io.interlock:target 127.0.0.1:4420 127.0.0.1:4421
//! ```
//!
//! It overwrites the first 16 MiB of namespace 1.

use interlock_host::{ControllerSpec, Host, HostSettings, Nqn, Outcome, Pool, PoolConfig};
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

const BYTES: u64 = 16 << 20;
const PIECE: u64 = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let subnqn = Nqn::new(args.next().ok_or("give the NQN of the subsystem first")?)?;
    let paths = args.map(|arg| arg.parse()).collect::<Result<Vec<SocketAddr>, _>>()?;

    // The program makes the reactors; the host is a guest on them.
    let pool = Pool::new(PoolConfig::default())?;
    let host = Host::start(pool.reactors(), HostSettings::random()?)?;
    for path in paths {
        let mut spec = ControllerSpec::new(path.ip().to_string(), path.port(), subnqn.clone());
        (spec.hdgst, spec.ddgst) = (true, true);
        host.connect_and_wait(spec, Duration::from_secs(10))?;
    }
    let namespace = host.namespace(subnqn.as_str(), 1)?;
    let block = u64::from(namespace.shape().block_size);
    let blocks = u32::try_from(PIECE / block)?;

    // Many requests in flight: each is a future, and each gives its buffer back.
    let mut writes = Vec::new();
    for piece in 0..BYTES / PIECE {
        let mut buf = namespace.buffer(blocks);
        let bytes = buf.get_mut().ok_or("a fresh buffer has one holder")?;
        bytes.fill(u8::try_from(piece % 251)?);
        writes.push(namespace.write(piece * u64::from(blocks), buf));
    }
    for write in writes {
        expect_ok("write", write.wait().0)?;
    }
    expect_ok("flush", namespace.flush().wait().0)?;
    for piece in 0..BYTES / PIECE {
        let (outcome, buf) = namespace.read(piece * u64::from(blocks), blocks).wait();
        expect_ok("read", outcome)?;
        let want = u8::try_from(piece % 251)?;
        if buf.is_none_or(|buf| buf.as_slice().iter().any(|byte| *byte != want)) {
            return Err(format!("piece {piece} does not hold what was written").into());
        }
    }
    host.shutdown(Duration::from_secs(5))?;
    writeln!(std::io::stdout(), "{} MiB written, flushed and verified", BYTES >> 20)?;
    Ok(())
}

fn expect_ok(what: &str, outcome: Outcome) -> Result<(), Box<dyn Error>> {
    if outcome == Outcome::Ok { Ok(()) } else { Err(format!("{what} ended with {outcome:?}").into()) }
}
