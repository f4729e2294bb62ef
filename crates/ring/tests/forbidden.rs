//! Where `io_uring` is forbidden, really: by a filter that the kernel applies to this thread and to all that it starts.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, and a skip is told")]

use interlock_ring::{Backend, Buf, Cx, Event, FileOp, Pool, PoolConfig, Service};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `work` on a thread for which these system calls fail with `errno`.
fn without<T: Send>(calls: &[i64], errno: i32, work: impl FnOnce() -> T + Send) -> T {
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap().try_into().unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&filter).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn config(backend: Option<Backend>) -> PoolConfig {
    PoolConfig { reactors: 2, spin: Duration::ZERO, backend, ..PoolConfig::default() }
}

/// Writes what it hears into a file, and echoes it when that is durable.
struct Scribe {
    file: interlock_ring::File,
    sock: Option<interlock_ring::Sock>,
}

impl Service for Scribe {
    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            Event::Readable { sock } => {
                let mut bytes = [0; 64];
                if let Ok(count @ 1..) = cx.recv(sock, &mut bytes) {
                    self.sock = Some(sock);
                    let buf = Buf::copied(&bytes[..count]);
                    cx.submit(self.file, FileOp::Write { buf, part: 0..count, offset: 0, durable: true }, 1);
                }
            }
            Event::Op { result, buf: Some(buf), .. } => {
                let count = result.unwrap() as usize;
                cx.send(self.sock.unwrap(), &buf.as_slice()[..count]).unwrap();
            }
            _ => {}
        }
    }
}

/// Sockets, files and mail work, on whatever the pool runs.
fn exercise(pool: &Pool) {
    let file = File::from(rustix::fs::memfd_create("scribe", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let mut seen = file.try_clone().unwrap();
    let (tell, told) = mpsc::channel::<SocketAddr>();
    pool.reactor(1)
        .attach(move |cx| {
            let (_, local) = cx.listen("127.0.0.1:0".parse().unwrap()).unwrap();
            tell.send(local).unwrap();
            Box::new(Scribe { file: cx.add_file(file.into()), sock: None })
        })
        .unwrap();
    let mut client = TcpStream::connect(told.recv_timeout(PATIENCE).unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"durable").unwrap();
    let mut echo = [0; 7];
    client.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"durable");
    let mut text = String::new();
    seen.read_to_string(&mut text).unwrap();
    assert_eq!(text, "durable");
}

#[test]
fn a_pool_runs_on_epoll_and_says_why() {
    for (errno, word) in [(libc::EPERM, "kernel.io_uring_disabled"), (libc::ENOSYS, "missing")] {
        without(&[libc::SYS_io_uring_setup], errno, || {
            let pool = Pool::new(config(None)).unwrap();
            let (backend, why) = pool.backend();
            assert_eq!(backend, Backend::Epoll);
            assert!(why.unwrap().contains(word), "{why:?}");
            assert!(pool.reactors().iter().all(|reactor| reactor.backend() == Backend::Epoll));
            exercise(&pool);
            pool.shutdown(PATIENCE).unwrap();
        });
    }
}

/// Old profiles of containers know one of the three calls and not the others.
#[test]
fn a_ring_that_can_be_made_and_not_used_is_no_ring() {
    without(&[libc::SYS_io_uring_enter], libc::EPERM, || {
        let pool = Pool::new(config(None)).unwrap();
        assert_eq!(pool.backend().0, Backend::Epoll);
        exercise(&pool);
        pool.shutdown(PATIENCE).unwrap();
    });
}

#[test]
fn whoever_insists_on_a_ring_is_refused_with_what_to_change() {
    without(&[libc::SYS_io_uring_setup], libc::EPERM, || {
        let error = Pool::new(config(Some(Backend::IoUring))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
    });
}

/// The filter is what makes the difference, and nothing here needs to be told to use epoll.
#[test]
fn without_a_filter_the_same_pool_takes_a_ring() {
    if io_uring::IoUring::new(1).is_err() {
        eprintln!("SKIPPED: io_uring is forbidden here");
        return;
    }
    let pool = Pool::new(config(None)).unwrap();
    assert_eq!(pool.backend(), (Backend::IoUring, None));
    exercise(&pool);
    pool.shutdown(PATIENCE).unwrap();
}

/// Epoll that was asked for is not a fallback, and does not look like one.
#[test]
fn epoll_by_choice_needs_no_excuse() {
    let pool = Pool::new(config(Some(Backend::Epoll))).unwrap();
    assert_eq!(pool.backend(), (Backend::Epoll, None));
    exercise(&pool);
    pool.shutdown(PATIENCE).unwrap();
}

/// If neither can be had, the reason is the last one.
#[test]
fn without_epoll_too_there_is_no_pool() {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_epoll_create1];
    let error: io::Error = without(&calls, libc::EPERM, || Pool::new(config(None)).unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
}
