//! Files through the ring, on a real file system.
use super::common::{attach, finish, next, pool};
use interlock_ring::{Buf, BufPool, Cx, Event, FileOp, Space, StartBy};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

/// A file that is gone when the test ends.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("interlock-ring-{}-{name}", std::process::id())))
    }

    /// Past the page cache where the file system can; where not, the rest of the test holds as well.
    fn open(&self) -> File {
        let options = || OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        options().custom_flags(direct).open(&self.0).or_else(|_| options().open(&self.0)).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

type Outcome = (u64, Result<u32, ErrorKind>, Option<Buf>);

/// Runs operations one after the other, and gives what became of each.
fn run(file: File, mut steps: Vec<FileOp>) -> Vec<Outcome> {
    let pool = pool(1);
    let count = steps.len();
    let (_, outcomes) = attach(&pool.reactor(0), move |cx, outcomes: mpsc::Sender<Outcome>| {
        let file = cx.add_file(OwnedFd::from(file));
        steps.reverse();
        let mut token = 0;
        let mut step = move |cx: &mut Cx<'_>| {
            if let Some(op) = steps.pop() {
                token += 1;
                cx.submit(file, op, token);
            }
        };
        step(cx);
        move |cx, event| {
            if let Event::Op { token, result, buf } = event {
                outcomes.send((token, result.map_err(|error| error.kind()), buf)).unwrap();
                step(cx);
            }
        }
    });
    let got: Vec<Outcome> = (0..count).map(|_| next(&outcomes)).collect();
    assert!(got.iter().map(|(token, ..)| *token).eq(1..=count as u64));
    finish(pool);
    got
}

fn filled(len: usize, seed: u8) -> Buf {
    let mut buf = Buf::zeroed(len);
    for (at, byte) in buf.get_mut().unwrap().iter_mut().enumerate() {
        *byte = (at / 512) as u8 ^ seed;
    }
    buf
}

#[test]
fn what_was_written_is_read_back() {
    let place = Temporary::new("write");
    let data = filled(32 << 10, 0x5a);
    let shared = data.clone();
    let outcomes = run(
        place.open(),
        vec![
            FileOp::Space { offset: 0, len: 64 << 10, how: Space::Allocate },
            FileOp::Write { buf: data, part: 0..32 << 10, offset: 4096, durable: false },
            FileOp::Sync { data_only: true },
            FileOp::Write { buf: shared.clone(), part: 8192..12288, offset: 0, durable: true },
            FileOp::Sync { data_only: false },
            FileOp::Read { buf: BufPool::default().take(64 << 10), part: 4096..64 << 10, offset: 0 },
            FileOp::Read { buf: Buf::zeroed(8192), part: 0..8192, offset: 60 << 10 },
        ],
    );
    let results: Vec<_> = outcomes.iter().map(|(_, result, _)| *result).collect();
    assert_eq!(
        results,
        [Ok(0), Ok(32 << 10), Ok(0), Ok(4096), Ok(0), Ok(60 << 10), Ok(4096)],
        "the last meets the end"
    );
    assert_eq!(outcomes[1].2.as_ref().unwrap().as_slice(), shared.as_slice(), "the buffer comes back");
    let read = outcomes[5].2.as_ref().unwrap().as_slice();
    assert!(read[..4096].iter().all(|byte| *byte == 0), "outside of the part");
    assert_eq!(read[4096..8192], shared.as_slice()[8192..12288]);
    assert_eq!(read[8192..8192 + (32 << 10)], *shared.as_slice());
    assert!(read[8192 + (32 << 10)..].iter().all(|byte| *byte == 0), "allocated, never written");
}

#[test]
fn ranges_can_be_zeroed_and_given_back() {
    let place = Temporary::new("space");
    let mut plain = File::create(&place.0).unwrap();
    plain.write_all(&[9; 32 << 10]).unwrap();
    plain.sync_all().unwrap();
    let outcomes = run(place.open(), vec![FileOp::Space { offset: 8192, len: 8192, how: Space::Punch }]);
    // Not every file system can do it; one that says so has done nothing.
    let punched = outcomes[0].1.is_ok();
    let mut bytes = Vec::new();
    let mut plain = File::open(&place.0).unwrap();
    plain.rewind().unwrap();
    plain.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 32 << 10);
    let zeroed = |byte: &u8| *byte == if punched { 0 } else { 9 };
    assert!(bytes[8192..16384].iter().all(zeroed));
    assert!(bytes[..8192].iter().chain(&bytes[16384..]).all(|byte| *byte == 9));
}

#[test]
fn impossible_operations_give_their_buffer_back_with_the_reason() {
    let place = Temporary::new("refused");
    let shared = filled(8192, 1);
    let outcomes = run(
        place.open(),
        vec![
            FileOp::Read { buf: shared.clone(), part: 0..4096, offset: 0 },
            FileOp::Write { buf: Buf::zeroed(4096), part: 0..4097, offset: 0, durable: false },
            FileOp::Read { buf: Buf::zeroed(4096), part: Range2(4096, 0).into(), offset: 0 },
        ],
    );
    for (_, result, buf) in outcomes {
        assert_eq!(result, Err(ErrorKind::InvalidInput));
        assert!(buf.is_some());
    }
    assert_eq!(shared.as_slice(), filled(8192, 1).as_slice());
    assert_eq!(std::fs::metadata(&place.0).unwrap().len(), 0, "nothing was written");
}

/// A range that runs backwards, which a literal must not.
struct Range2(usize, usize);

impl From<Range2> for std::ops::Range<usize> {
    fn from(Range2(start, end): Range2) -> Self {
        start..end
    }
}

#[test]
fn a_removed_file_is_unknown_but_what_was_begun_is_finished() {
    const OPS: u64 = 64;
    let place = Temporary::new("removed");
    let file = place.open();
    let pool = pool(1);
    let (_, outcomes) = attach(&pool.reactor(0), move |cx, outcomes| {
        let file = cx.add_file(OwnedFd::from(file));
        for token in 0..OPS {
            let op = FileOp::Write { buf: filled(4096, 3), part: 0..4096, offset: token * 4096, durable: false };
            cx.submit(file, op, token);
        }
        cx.remove_file(file);
        // A descriptor with the same number, to which nothing may go.
        let decoy = cx.add_file(OwnedFd::from(File::open("/dev/null").unwrap()));
        cx.submit(file, FileOp::Sync { data_only: false }, OPS);
        cx.remove_file(decoy);
        move |_: &mut Cx<'_>, event| {
            if let Event::Op { token, result, .. } = event {
                outcomes.send((token, result.map_err(|error| error.kind()))).unwrap();
            }
        }
    });
    let mut got: Vec<_> = (0..=OPS).map(|_| next(&outcomes)).collect();
    got.sort_by_key(|(token, _)| *token);
    assert_eq!(got.pop(), Some((OPS, Err(ErrorKind::NotFound))));
    assert!(got.iter().all(|(_, result)| *result == Ok(4096)), "{got:?}");
    finish(pool);
    assert_eq!(std::fs::metadata(&place.0).unwrap().len(), OPS * 4096);
}

#[test]
fn what_is_submitted_too_late_does_not_begin() {
    let place = Temporary::new("late");
    let file = place.open();
    let pool = pool(1);
    let (_, outcomes) = attach(&pool.reactor(0), move |cx, outcomes| {
        let file = cx.add_file(OwnedFd::from(file));
        let write =
            |token: u64| FileOp::Write { buf: filled(4096, 3), part: 0..4096, offset: token * 4096, durable: false };
        let now = interlock_ring::now();
        let by = |at| Some(StartBy { clock: interlock_ring::now, at });
        cx.submit_by(file, write(0), 0, by(now + Duration::from_secs(60)));
        cx.submit_by(file, write(1), 1, by(now));
        cx.submit_by(file, FileOp::Space { offset: 8192, len: 4096, how: Space::Allocate }, 2, by(now));
        cx.submit_by(file, FileOp::Sync { data_only: true }, 3, by(now));
        move |_: &mut Cx<'_>, event| {
            if let Event::Op { token, result, buf } = event {
                outcomes.send((token, result.map_err(|error| error.kind()), buf.is_some())).unwrap();
            }
        }
    });
    let mut got: Vec<_> = (0..4).map(|_| next(&outcomes)).collect();
    got.sort_by_key(|(token, ..)| *token);
    let late = Err(ErrorKind::TimedOut);
    assert_eq!(got, [(0, Ok(4096), true), (1, late, true), (2, late, false), (3, late, false)]);
    finish(pool);
    assert_eq!(std::fs::metadata(&place.0).unwrap().len(), 4096, "nothing of it has begun");
}

/// The service goes while its operations are in flight: their buffers return to the pool only when the kernel is done.
#[test]
fn buffers_of_a_service_that_left_come_home() {
    let place = Temporary::new("left");
    let file = place.open();
    let buffers = BufPool::default();
    let pool = pool(1);
    let lent = buffers.clone();
    let (id, begun) = attach(&pool.reactor(0), move |cx, begun| {
        let file = cx.add_file(OwnedFd::from(file));
        for token in 0..16 {
            let mut buf = lent.take(64 << 10);
            buf.get_mut().unwrap().fill(1);
            cx.submit(file, FileOp::Write { buf, part: 0..64 << 10, offset: token * (64 << 10), durable: true }, token);
        }
        begun.send(()).unwrap();
        |_: &mut Cx<'_>, _| {}
    });
    next(&begun);
    pool.reactor(0).detach(id);
    finish(pool);
    assert_eq!(buffers.cached(), 16 * (64 << 10));
}
