//! How connections end. The experiment on which the safety of a time-based fence rests: megabytes are queued behind a
//! full window; after an abort the peer may read what already lay in its receive buffer, then it must meet a reset.
use super::common::{ANY, PATIENCE, attach, finish, next, pool};
use interlock_ring::{Aborter, Call, ConnectOptions, Cx, Event, Faults, Pool, PoolConfig, Sock, Verdict};
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How a test has its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Abort,
    Close,
    Detach,
    Panic,
    Shutdown,
    Aborter,
}

/// What a peer that had read nothing met.
#[derive(Debug, PartialEq, Eq)]
struct Met {
    /// Bytes that the kernel had taken for it.
    sent: usize,
    /// Bytes in its receive buffer when the connection had been ended.
    lay_there: usize,
    /// Bytes that it could read.
    read: usize,
    /// How the stream ended.
    ended: Result<(), ErrorKind>,
}

/// Queues all that the kernel takes on a connection to a peer that reads nothing, ends it, and lets the peer read.
fn experiment(end: End) -> Met {
    let pool = pool(1);
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let (tell, told) = mpsc::channel();
    let (id, queued) = attach(&pool.reactor(0), move |cx, queued: mpsc::Sender<(u32, Aborter)>| {
        cx.connect(&ConnectOptions::to(addr)).unwrap();
        tell.send(cx.waker()).unwrap();
        let mut full: Option<Sock> = None;
        move |cx, event| match event {
            Event::Connected { sock } | Event::Writable { sock } => {
                count.fetch_add(fill(cx, sock), Ordering::SeqCst);
                cx.want_write(sock, true).unwrap();
                full = Some(sock);
                let outq = cx.outq(sock).unwrap();
                let _ = queued.send((outq, cx.aborter(sock).unwrap())); // only the first words are awaited
            }
            Event::Mail => {
                let sock = full.unwrap();
                match end {
                    End::Abort => cx.abort(sock).unwrap(),
                    End::Close => cx.close(sock),
                    End::Panic => panic!("as the test wants it"),
                    End::Detach | End::Shutdown | End::Aborter => {}
                }
                assert_eq!(cx.abort(sock).unwrap_err().kind(), ErrorKind::NotFound, "the name is dead");
                assert_eq!(cx.send(sock, b"x").unwrap_err().kind(), ErrorKind::NotFound);
            }
            _ => {}
        }
    });
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let waker = next(&told);
    let (mut outq, mut aborter) = next(&queued);
    while outq <= QUEUED_MIN {
        (outq, aborter) = next(&queued);
    }
    let mut pool = Some(pool);
    match end {
        End::Aborter => aborter.abort().unwrap(),
        End::Detach => pool.as_ref().unwrap().reactor(0).detach(id).wait(PATIENCE).unwrap(),
        End::Shutdown => finish(pool.take().unwrap()),
        End::Abort | End::Close | End::Panic => {
            waker.wake();
            // Two rounds: the answer to the second comes after the mail in any case.
            for _ in 0..2 {
                let (_, answer) = attach(&pool.as_ref().unwrap().reactor(0), |_, say| {
                    say.send(()).unwrap();
                    |_: &mut Cx<'_>, _| {}
                });
                next(&answer);
            }
        }
    }
    let lay_there = usize::try_from(rustix::io::ioctl_fionread(&peer).unwrap()).unwrap();
    let (read, ended) = read_all(&mut peer);
    if let Some(pool) = pool {
        match end {
            End::Panic => {
                assert_eq!(pool.panicked().len(), 1);
                let error = pool.shutdown(PATIENCE).unwrap_err();
                assert!(error.to_string().contains("as the test wants it"), "{error}");
            }
            _ => finish(pool),
        }
    }
    Met { sent: sent.load(Ordering::SeqCst), lay_there, read, ended }
}

/// Queued behind the full window at least; an experiment with less would show nothing.
const QUEUED_MIN: u32 = 1 << 20;

/// The peer reads what had arrived when the abort was over, not a byte more, and then meets a reset.
fn assert_cut(met: &Met) {
    assert_eq!(met.ended, Err(ErrorKind::ConnectionReset), "{met:?}");
    assert_eq!(met.read, met.lay_there, "{met:?}");
    assert!(met.read + QUEUED_MIN as usize / 2 < met.sent, "{met:?}");
}

fn fill(cx: &mut Cx<'_>, sock: Sock) -> usize {
    let bytes = vec![0x5a; 256 << 10];
    let mut sent = 0;
    while let Ok(count) = cx.send(sock, &bytes) {
        sent += count;
    }
    sent
}

fn read_all(peer: &mut TcpStream) -> (usize, Result<(), ErrorKind>) {
    let mut bytes = vec![0; 64 << 10];
    let mut read = 0;
    loop {
        match peer.read(&mut bytes) {
            Ok(0) => return (read, Ok(())),
            Ok(count) => read += count,
            Err(error) => return (read, Err(error.kind())),
        }
    }
}

#[test]
fn close_delivers_everything() {
    let met = experiment(End::Close);
    assert_eq!((met.read, met.ended), (met.sent, Ok(())));
}

#[test]
fn abort_empties_the_send_queue() {
    assert_cut(&experiment(End::Abort));
}

/// Refuses to abort as long as it is told to.
struct Refuses(AtomicUsize);

impl Faults for Refuses {
    fn decide(&self, call: &Call<'_>) -> Verdict {
        let takes_one = |left: usize| left.checked_sub(1);
        match call {
            Call::Abort if self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes_one).is_ok() => {
                Verdict::Fail(1) // EPERM
            }
            _ => Verdict::Pass,
        }
    }
}

#[test]
fn an_abort_that_was_refused_can_be_asked_for_again_until_it_is_done() {
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let config = PoolConfig { spin: Duration::ZERO, backend: Some(crate::BACKEND), ..PoolConfig::default() };
    let pool = Pool::with_faults(config, Arc::new(Refuses(AtomicUsize::new(2)))).unwrap();
    let (_, answers) = attach(&pool.reactor(0), move |cx, answers: mpsc::Sender<_>| {
        cx.connect(&ConnectOptions::to(addr)).unwrap();
        move |cx, event| {
            if let Event::Connected { sock } = event {
                let kinds: Vec<_> = (0..4).map(|_| cx.abort(sock).map_err(|error| error.kind())).collect();
                assert_eq!(cx.send(sock, b"x").unwrap_err().kind(), ErrorKind::NotFound, "it sends nothing meanwhile");
                answers.send(kinds).unwrap();
            }
        }
    });
    let refused = Err(ErrorKind::PermissionDenied);
    assert_eq!(next(&answers), [refused, refused, Ok(()), Err(ErrorKind::NotFound)]);
    finish(pool);
}

#[test]
fn detaching_aborts() {
    assert_cut(&experiment(End::Detach));
}

#[test]
fn a_panic_aborts_and_is_told_at_the_end() {
    assert_cut(&experiment(End::Panic));
}

#[test]
fn shutdown_aborts() {
    assert_cut(&experiment(End::Shutdown));
}

#[test]
fn another_thread_can_abort() {
    assert_cut(&experiment(End::Aborter));
}

/// A close with unread bytes would make the kernel reset the connection and lose what is queued.
#[test]
fn close_delivers_everything_although_the_peer_has_sent_more_than_was_read() {
    const ANSWER: usize = 1 << 20;
    let pool = pool(1);
    let (_, said) = attach(&pool.reactor(0), |cx, say| {
        let (_, local) = cx.listen(ANY.parse().unwrap()).unwrap();
        say.send(local).unwrap();
        let mut left = 0;
        move |cx: &mut Cx<'_>, event| match event {
            // The first request is answered, and never read.
            Event::Accepted { sock, .. } => {
                left = ANSWER;
                cx.want_write(sock, true).unwrap();
            }
            Event::Writable { sock } => {
                while left > 0 {
                    match cx.send(sock, &vec![1; left]) {
                        Ok(count) => left -= count,
                        Err(_) => return,
                    }
                }
                cx.close(sock);
            }
            _ => {}
        }
    });
    let mut client = TcpStream::connect(next(&said)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&[7; 5000]).unwrap();
    let mut bytes = [0; 1000];
    client.read_exact(&mut bytes).unwrap();
    client.write_all(&[8; 5000]).unwrap(); // while it is closing, or soon before
    let (read, ended) = read_all(&mut client);
    assert_eq!((read + bytes.len(), ended), (ANSWER, Ok(())));
    finish(pool);
}

#[test]
fn the_last_bytes_are_read_before_the_news_of_the_death() {
    let pool: Pool = pool(1);
    let (tell, waker) = mpsc::channel();
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<String>| {
        let (_, local) = cx.listen(ANY.parse().unwrap()).unwrap();
        tell.send((cx.waker(), local)).unwrap();
        move |cx, event| match event {
            Event::Accepted { .. } => say.send("accepted".into()).unwrap(),
            Event::Readable { sock } => {
                let mut bytes = [0; 64];
                loop {
                    match cx.recv(sock, &mut bytes) {
                        Ok(0) => break say.send("the end".into()).unwrap(),
                        Ok(count) => say.send(String::from_utf8_lossy(&bytes[..count]).into()).unwrap(),
                        Err(error) => break say.send(format!("{:?}", error.kind())).unwrap(),
                    }
                }
            }
            Event::Hangup { sock, error } => {
                say.send(format!("hangup {:?}", error.map(|error| error.kind()))).unwrap();
                cx.close(sock);
            }
            _ => {}
        }
    });
    let (_waker, addr) = next(&waker);
    let mut client = TcpStream::connect(addr).unwrap();
    assert_eq!(next(&said), "accepted");
    client.write_all(b"last words").unwrap();
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let mut heard = String::new();
    while !heard.contains("hangup") {
        heard += &next(&said);
        heard += ";";
    }
    // On a busy machine the news comes in two pieces; whoever reads once more after the reset hears of an end.
    let heard = heard.replace("WouldBlock;", "").replace("the end;", "");
    assert_eq!(heard, "last words;ConnectionReset;hangup Some(ConnectionReset);");
    finish(pool);
}

/// A socket is closed by the event of another one, while news about it is already on its way; its slot is used again
/// at once. The newcomer must hear nothing of it.
#[test]
fn news_of_a_closed_socket_never_reaches_its_successor() {
    let pool = pool(1);
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, waker) = mpsc::channel();
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<&'static str>| {
        tell.send(cx.waker()).unwrap();
        let old: Vec<Sock> = (0..2).map(|_| cx.connect(&ConnectOptions::to(addr)).unwrap()).collect();
        let mut young: Option<Sock> = None;
        let mut connected = 0;
        move |cx, event| match event {
            Event::Connected { sock } if old.contains(&sock) => {
                connected += 1;
                if connected == 2 {
                    say.send("both").unwrap();
                }
            }
            // Both have bytes; whichever is told first ends both and makes a newcomer, which gets a used slot.
            Event::Readable { sock } if old.contains(&sock) => {
                assert!(young.is_none(), "the other one was told after it was closed");
                for sock in &old {
                    cx.abort(*sock).unwrap();
                }
                young = Some(cx.connect(&ConnectOptions::to(addr)).unwrap());
                assert!(!old.contains(&young.unwrap()));
            }
            Event::Connected { sock } => {
                assert_eq!(Some(sock), young);
                say.send("young").unwrap();
            }
            Event::Readable { sock } | Event::Hangup { sock, .. } => {
                assert_eq!(Some(sock), young);
                say.send("told").unwrap();
            }
            // The main thread writes to both while the reactor stands here.
            Event::Mail => {
                say.send("stand").unwrap();
                let mut seen = [MaybeUninit::uninit(); 1];
                for sock in &old {
                    // Wait until the bytes lie in both receive buffers, so that one turn finds both.
                    while cx.with_fd(*sock, |fd| socket2::SockRef::from(&fd).peek(&mut seen)).unwrap().is_err() {
                        std::hint::spin_loop();
                    }
                }
            }
            _ => {}
        }
    });
    let (mut a, _) = listener.accept().unwrap();
    let (mut b, _) = listener.accept().unwrap();
    assert_eq!(next(&said), "both");
    next(&waker).wake();
    assert_eq!(next(&said), "stand");
    a.write_all(b"a").unwrap();
    b.write_all(b"b").unwrap();
    let (_young, _) = listener.accept().unwrap();
    assert_eq!(next(&said), "young");
    finish(pool); // an event for the newcomer would have failed an assertion
    assert!(said.try_recv().is_err(), "nobody wrote to the newcomer");
}
