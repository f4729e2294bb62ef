//! Verified load of the host library on a target that is being abused.

use crate::child::NQN;
use interlock_host::{ControllerSpec, Host, HostSettings, Namespace, Nqn, Outcome, Pool, PoolConfig};
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A host of this process.
pub(crate) struct Good {
    pool: Pool,
    pub(crate) host: Host,
    pub(crate) namespace: Namespace,
}

impl Good {
    pub(crate) fn connect(pool: Pool, ports: &[u16], digests: bool) -> Self {
        let host = Host::start(pool.reactors(), HostSettings::random().expect("random numbers")).expect("a host");
        for port in ports {
            let mut spec = ControllerSpec::new("127.0.0.1", *port, Nqn::new(NQN).expect("a name"));
            (spec.hdgst, spec.ddgst) = (digests, digests);
            // The machine of a test may be busy: what is tested here is not how fast a loss is noticed.
            spec.kato = Duration::from_secs(30);
            host.connect_and_wait(spec, PATIENCE).expect("the target is there");
        }
        let namespace = host.namespace(NQN, 1).expect("a namespace");
        Self { pool, host, namespace }
    }

    pub(crate) fn new(ports: &[u16]) -> Self {
        Self::connect(Pool::new(quiet()).expect("a reactor"), ports, false)
    }

    /// One [`pass`] over its namespace.
    pub(crate) fn pass(&self, salt: u8, sizes: &[u32]) {
        pass(&self.namespace, salt, sizes);
    }

    /// Ends it in order; no path was lost meanwhile.
    pub(crate) fn end(self) {
        self.host.shutdown(PATIENCE).expect("an orderly end");
        drop((self.namespace, self.host));
        self.pool.shutdown(PATIENCE).expect("an orderly end");
    }
}

/// One pass: writes of each size at once, then all of them read back and compared.
pub(crate) fn pass(namespace: &Namespace, salt: u8, sizes: &[u32]) {
    let places: Vec<(u64, u32)> = sizes
        .iter()
        .scan(0u64, |next, blocks| {
            let slba = *next;
            *next += u64::from(*blocks);
            Some((slba, *blocks))
        })
        .collect();
    let writes: Vec<_> = places
        .iter()
        .map(|(slba, blocks)| {
            let mut buf = namespace.buffer(*blocks);
            pattern(buf.get_mut().expect("our own buffer"), *slba, salt);
            namespace.write(*slba, buf)
        })
        .collect();
    for (write, (slba, blocks)) in writes.into_iter().zip(&places) {
        assert_eq!(write.wait().0, Outcome::Ok, "write of {blocks} blocks at {slba}");
    }
    let reads: Vec<_> = places.iter().map(|(slba, blocks)| namespace.read(*slba, *blocks)).collect();
    for (read, (slba, blocks)) in reads.into_iter().zip(&places) {
        let (outcome, buf) = read.wait();
        assert_eq!(outcome, Outcome::Ok, "read of {blocks} blocks at {slba}");
        let buf = buf.expect("a buffer");
        let mut expected = vec![0; buf.as_slice().len()];
        pattern(&mut expected, *slba, salt);
        let wrong = buf.as_slice().iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(wrong, None, "{blocks} blocks at {slba} differ");
    }
}

pub(crate) fn quiet() -> PoolConfig {
    PoolConfig { spin: Duration::ZERO, ..PoolConfig::default() }
}

/// Bytes that differ between places and between passes.
fn pattern(bytes: &mut [u8], slba: u64, salt: u8) {
    for (index, piece) in bytes.chunks_exact_mut(8).enumerate() {
        let word = (slba << 32 | index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(salt);
        piece.copy_from_slice(&word.to_le_bytes());
    }
}
