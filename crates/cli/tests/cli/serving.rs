//! `target` as a program.

use crate::child::{NQN, Target, succeed};
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// A file of this test's own, gone at its end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("a writable directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("an ASCII path")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
        // What a target keeps beside a namespace.
        let _ = std::fs::remove_file(format!("{}.interlock", self.path()));
    }
}

#[test]
fn signals_end_it_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let target = Target::usual(&[]);
        assert_eq!(target.about["nqn"], NQN);
        assert_eq!(target.about["namespaces"][0]["backing"], "mem:8388608");
        let (status, log) = target.stop(signal);
        assert_eq!(status.code(), Some(0), "{signal:?}: {log}");
    }
}

#[test]
fn a_file_says_what_flags_say() {
    let disk = Scratch::new("disk.img", &vec![0; 1 << 20]);
    let config = Scratch::new(
        "target.toml",
        format!(
            r#"
            nqn = "nqn.2026-11.io.example:disk"
            [[port]]
            listen = "127.0.0.1:0"
            ana = "non-optimized"
            [[discovery]]
            listen = "[::1]:0"
            [[namespace]]
            backing = "file:{}"
            block_size = 512
            "#,
            disk.path()
        )
        .as_bytes(),
    );
    let target = Target::start(&["--config", config.path()]);
    let said = succeed(&["doctor", "-a", "127.0.0.1", "-s", &target.port(0), "-n", "nqn.2026-11.io.example:disk"]);
    assert!(said.contains("group 1: non-optimized, namespaces 1"), "{said}");
    assert!(said.contains("Namespace  1: 1 MiB, blocks of 512 bytes, shared, ANA group 1"), "{said}");
    let discovered = succeed(&["discover", "-a", "::1", "-s", &target.discovery()]);
    assert!(discovered.contains("adrfam:  ipv6") && discovered.contains("subnqn:  nqn.2026-11.io.example:disk"));
}

#[test]
fn garbage_costs_its_own_connection_only() {
    let target = Target::usual(&[]);
    let port: u16 = target.port(0).parse().expect("a port");
    for garbage in [&b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"[..], &[0xFF; 4096], &[0; 4096], &[0x04; 200]] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        // It may be cut off while it is still talking.
        let _ = stream.write_all(garbage);
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is ended"),
        }
        succeed(&["discover", "-a", "127.0.0.1", "-s", &target.port(0)]);
    }
    let (status, log) = target.stop(Signal::INT);
    assert!(status.success());
    assert_eq!(log.matches("ended: Protocol").count(), 4, "{log}");
}
