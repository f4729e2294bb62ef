//! Connections on loopback: making them, moving bytes, holding them back.
use super::common::{ANY, PATIENCE, attach, finish, next, pool, script, spinning};
use interlock_ring::{ConnectOptions, Cx, Event, Sock};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// Bytes per echoed connection: more than the socket buffers hold, so that both sides must wait for room.
const LOAD: usize = 3 << 20;

fn byte(connection: usize, at: usize) -> u8 {
    (connection * 31 + at / 7) as u8
}

/// Receives until nothing is left, at most `budget` times; echoes through a queue of its own.
fn echo(cx: &mut Cx<'_>, send: mpsc::Sender<SocketAddr>) -> impl FnMut(&mut Cx<'_>, Event) + use<> {
    let (_, local) = cx.listen(ANY.parse().unwrap()).unwrap();
    send.send(local).unwrap();
    let mut queues: BTreeMap<Sock, Vec<u8>> = BTreeMap::new();
    move |cx, event| {
        let sock = match event {
            Event::Accepted { sock, peer, local, .. } => {
                assert_eq!(cx.peer_addr(sock).unwrap(), peer);
                assert_eq!(cx.local_addr(sock).unwrap(), local);
                queues.insert(sock, Vec::new());
                return;
            }
            Event::Readable { sock } => {
                let queue = queues.get_mut(&sock).unwrap();
                let mut ended = false;
                cx.with_staging(|cx, staging| {
                    // One receive, then the others' turn.
                    match cx.recv(sock, staging) {
                        Ok(0) => ended = true,
                        Ok(bytes) => {
                            queue.extend_from_slice(&staging[..bytes]);
                            cx.again(sock);
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                });
                if ended {
                    assert!(queue.is_empty(), "the client reads everything before it ends");
                    queues.remove(&sock);
                    cx.close(sock);
                    return;
                }
                // Never more than this much in memory.
                cx.pause_read(sock, queue.len() > 256 << 10).unwrap();
                sock
            }
            Event::Writable { sock } => sock,
            _ => return,
        };
        let queue = queues.get_mut(&sock).unwrap();
        while !queue.is_empty() {
            match cx.send(sock, queue) {
                Ok(bytes) => drop(queue.drain(..bytes)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        cx.want_write(sock, !queue.is_empty()).unwrap();
        if queue.len() <= 256 << 10 {
            cx.pause_read(sock, false).unwrap();
        }
    }
}

fn echoes(connections: usize, load: usize, spin: Duration) {
    let pool = spinning(2, spin);
    let (_, listening) = attach(&pool.reactor(0), echo);
    let server = next(&listening);
    let (_, done) = attach(&pool.reactor(1), move |cx, done: mpsc::Sender<usize>| {
        struct Client {
            number: usize,
            sent: usize,
            received: usize,
        }
        let mut clients: BTreeMap<Sock, Client> = BTreeMap::new();
        for number in 0..connections {
            let sock = cx.connect(&ConnectOptions::to(server)).unwrap();
            clients.insert(sock, Client { number, sent: 0, received: 0 });
        }
        move |cx, event| match event {
            Event::Connected { sock } | Event::Writable { sock } => {
                let client = clients.get_mut(&sock).unwrap();
                while client.sent < load {
                    let end = load.min(client.sent + 50_000);
                    let bytes: Vec<u8> = (client.sent..end).map(|at| byte(client.number, at)).collect();
                    match cx.send(sock, &bytes) {
                        Ok(bytes) => client.sent += bytes,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::WouldBlock);
                            break;
                        }
                    }
                }
                cx.want_write(sock, client.sent < load).unwrap();
            }
            Event::Readable { sock } => cx.with_staging(|cx, staging| {
                let client = clients.get_mut(&sock).unwrap();
                while let Ok(bytes) = cx.recv(sock, staging) {
                    assert_ne!(bytes, 0, "the server does not end first");
                    for (at, got) in (client.received..).zip(&staging[..bytes]) {
                        assert_eq!(*got, byte(client.number, at), "connection {} at {at}", client.number);
                    }
                    client.received += bytes;
                    if client.received == load {
                        done.send(client.number).unwrap();
                        cx.close(sock);
                        break;
                    }
                }
            }),
            Event::ConnectFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    });
    let mut numbers: Vec<usize> = (0..connections).map(|_| next(&done)).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..connections));
    finish(pool);
}

#[test]
fn large_streams_come_back_whole() {
    echoes(3, LOAD, Duration::ZERO);
}

#[test]
fn large_streams_come_back_whole_from_a_spinning_reactor() {
    echoes(3, LOAD, Duration::from_micros(100));
}

#[test]
fn many_connections_are_served_side_by_side() {
    echoes(300, 2000, Duration::ZERO);
}

#[test]
fn a_refused_connection_names_its_address() {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    bound.bind(&ANY.parse::<SocketAddr>().unwrap().into()).unwrap();
    let free = bound.local_addr().unwrap().as_socket().unwrap();
    let pool = pool(1);
    let (_, failed) = attach(&pool.reactor(0), move |cx, failed| {
        let mine = cx.connect(&ConnectOptions::to(free)).unwrap();
        move |cx, event| match event {
            Event::ConnectFailed { sock, error } => {
                assert_eq!(sock, mine);
                assert_eq!(cx.outq(sock).unwrap_err().kind(), ErrorKind::NotFound, "the socket is gone");
                failed.send(error).unwrap();
            }
            Event::Connected { .. } => panic!("nobody listens on {free}"),
            _ => {}
        }
    });
    let error = next(&failed);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    finish(pool);
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    let pool = pool(1);
    let taken = TcpListener::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap();
    let (_, answers) = attach(&pool.reactor(0), move |cx, answers| {
        let local = Some("192.0.2.1:0".parse().unwrap());
        let foreign = cx.connect(&ConnectOptions { local, ..ConnectOptions::to(addr) }).unwrap_err();
        let iface = Some("no-such-if0".to_owned());
        let unknown = cx.connect(&ConnectOptions { iface, ..ConnectOptions::to(addr) }).unwrap_err();
        let in_use = cx.listen(addr).unwrap_err();
        answers.send([foreign.to_string(), unknown.to_string(), in_use.to_string()]).unwrap();
        |_, _| {}
    });
    let [foreign, unknown, in_use] = next(&answers);
    assert!(foreign.contains("192.0.2.1"), "{foreign}");
    assert!(unknown.contains("no-such-if0"), "{unknown}");
    assert!(in_use.contains(&addr.to_string()), "{in_use}");
    finish(pool);
}

#[test]
fn a_connection_comes_from_where_it_was_told_to() {
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let pool = pool(1);
    let (_, connected) = attach(&pool.reactor(0), move |cx, connected| {
        let options = ConnectOptions {
            local: Some("127.0.0.2:0".parse().unwrap()),
            user_timeout: Some(Duration::from_secs(5)),
            ..ConnectOptions::to(addr)
        };
        cx.connect(&options).unwrap();
        move |cx, event| {
            if let Event::Connected { sock } = event {
                connected.send(cx.local_addr(sock).unwrap()).unwrap();
            }
        }
    });
    let (_peer, from) = listener.accept().unwrap();
    assert_eq!(from, next(&connected));
    assert!(from.to_string().starts_with("127.0.0.2:"));
    finish(pool);
}

#[test]
fn a_paused_listener_takes_nobody_and_a_closed_one_refuses() {
    enum Say {
        At(SocketAddr),
        Accepted,
        Resumed,
        Closed,
    }
    let pool = pool(1);
    let (tell, orders) = mpsc::channel::<bool>();
    let (wakers, waker) = mpsc::channel();
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<Say>| {
        let (listener, local) = cx.listen(ANY.parse().unwrap()).unwrap();
        cx.pause_accept(listener, true).unwrap();
        wakers.send(cx.waker()).unwrap();
        say.send(Say::At(local)).unwrap();
        move |cx, event| match event {
            Event::Accepted { .. } => {
                // Pausing inside the event holds back even those that are waiting already.
                cx.pause_accept(listener, true).unwrap();
                say.send(Say::Accepted).unwrap();
            }
            Event::Mail => {
                for close in orders.try_iter() {
                    if close {
                        cx.close_listener(listener);
                        assert!(cx.pause_accept(listener, false).is_err());
                        say.send(Say::Closed).unwrap();
                    } else {
                        say.send(Say::Resumed).unwrap();
                        cx.pause_accept(listener, false).unwrap();
                    }
                }
            }
            _ => {}
        }
    });
    let Say::At(addr) = next(&said) else { panic!("the address comes first") };
    let waker = next(&waker);
    let mut clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for _ in 0..2 {
        tell.send(false).unwrap();
        waker.wake();
        // Had a paused listener accepted, its word would stand before this one.
        assert!(matches!(next(&said), Say::Resumed));
        assert!(matches!(next(&said), Say::Accepted));
    }
    tell.send(true).unwrap();
    waker.wake();
    assert!(matches!(next(&said), Say::Closed), "the third was never taken");
    assert_eq!(TcpStream::connect(addr).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let third = &mut clients[2];
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(third.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    finish(pool);
}

#[test]
fn a_paused_socket_is_silent_until_it_is_resumed_and_loses_nothing() {
    let pool = pool(1);
    let (tell, waker_of) = mpsc::channel();
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<String>| {
        let (_, local) = cx.listen(ANY.parse().unwrap()).unwrap();
        tell.send((cx.waker(), local)).unwrap();
        let (mut held, mut mails) = (None, 0);
        move |cx, event| match event {
            Event::Accepted { sock, .. } => {
                cx.pause_read(sock, true).unwrap();
                held = Some(sock);
                say.send("held".into()).unwrap();
            }
            Event::Mail => {
                let sock = held.unwrap();
                mails += 1;
                if mails == 1 {
                    // The bytes are there; the next turns find the news of it, while paused.
                    let mut seen = [std::mem::MaybeUninit::uninit(); 1];
                    while cx.with_fd(sock, |fd| socket2::SockRef::from(&fd).peek(&mut seen)).unwrap().is_err() {
                        std::hint::spin_loop();
                    }
                }
                say.send(format!("mail {mails}")).unwrap();
                if mails == 3 {
                    cx.pause_read(sock, false).unwrap();
                }
            }
            Event::Readable { sock } => {
                let mut bytes = [0; 64];
                match cx.recv(sock, &mut bytes) {
                    Ok(count) => say.send(String::from_utf8_lossy(&bytes[..count]).into()).unwrap(),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            _ => {}
        }
    });
    let (waker, addr) = next(&waker_of);
    let mut client = TcpStream::connect(addr).unwrap();
    assert_eq!(next(&said), "held");
    client.write_all(b"early").unwrap();
    for number in 1..=3 {
        waker.wake();
        assert_eq!(next(&said), format!("mail {number}"));
    }
    assert_eq!(next(&said), "early");
    client.write_all(b"late").unwrap();
    assert_eq!(next(&said), "late");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(next(&said), "", "the end of the stream is an empty receive");
    finish(pool);
}

/// The kernel has told of the room long before anybody wanted it; it will not do so again.
#[test]
fn room_that_was_there_before_it_was_wanted_is_told() {
    let pool = pool(1);
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, wakers) = mpsc::channel();
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<&str>| {
        cx.connect(&ConnectOptions::to(addr)).unwrap();
        tell.send(cx.waker()).unwrap();
        let (mut sock_of, mut mails) = (None, 0);
        move |cx, event| match event {
            Event::Connected { sock } => {
                sock_of = Some(sock);
                say.send("connected").unwrap();
            }
            Event::Mail => {
                mails += 1;
                say.send("mail").unwrap();
                if mails == 3 {
                    cx.want_write(sock_of.unwrap(), true).unwrap();
                }
            }
            Event::Writable { sock } => {
                assert_eq!((Some(sock), mails), (sock_of, 3), "not before it was wanted");
                cx.want_write(sock, false).unwrap();
                say.send("writable").unwrap();
            }
            _ => {}
        }
    });
    assert_eq!(next(&said), "connected");
    let waker = next(&wakers);
    for _ in 0..3 {
        waker.wake();
        assert_eq!(next(&said), "mail");
    }
    assert_eq!(next(&said), "writable");
    finish(pool);
}

#[test]
fn a_connection_moves_to_another_reactor() {
    let pool = pool(2);
    let other = pool.reactor(1);
    let (_, said) = attach(&pool.reactor(0), move |cx, say: mpsc::Sender<String>| {
        let (_, local) = cx.listen(ANY.parse().unwrap()).unwrap();
        say.send(local.to_string()).unwrap();
        move |cx, event| {
            if let Event::Accepted { sock, .. } = event {
                let loose = cx.release(sock).unwrap();
                assert!(cx.release(sock).is_err(), "released once");
                let say = say.clone();
                other
                    .attach(move |cx| {
                        cx.adopt(loose);
                        script(move |cx, event| {
                            if let Event::Readable { sock } = event {
                                let mut bytes = [0; 64];
                                if let Ok(count) = cx.recv(sock, &mut bytes) {
                                    let text = String::from_utf8_lossy(&bytes[..count]);
                                    say.send(format!("{text} on {}", cx.reactor().index())).unwrap();
                                }
                            }
                        })
                    })
                    .unwrap();
            }
        }
    });
    let addr: SocketAddr = next(&said).parse().unwrap();
    let mut client = TcpStream::connect(addr).unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(next(&said), "hello on 1");
    finish(pool);
}

#[test]
fn the_end_of_a_stream_is_told_even_if_it_comes_with_the_last_bytes() {
    let pool = pool(1);
    let listener = TcpListener::bind(ANY).unwrap();
    let addr = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    let (_, received) = attach(&pool.reactor(0), move |cx, received: mpsc::Sender<usize>| {
        let waker = cx.waker();
        let sock = cx.connect(&ConnectOptions::to(addr)).unwrap();
        move |cx, event| match event {
            Event::Connected { .. } => {
                cx.pause_read(sock, true).unwrap();
                tell.send(waker.clone()).unwrap();
            }
            Event::Mail => cx.pause_read(sock, false).unwrap(),
            Event::Readable { .. } => {
                // Fewer bytes than there is room for: it may stop here.
                let count = cx.recv(sock, &mut [0; 64]).unwrap();
                let _ = received.send(count); // nobody waits after the end
            }
            _ => {}
        }
    });
    let (mut peer, _) = listener.accept().unwrap();
    let waker = next(&told);
    peer.write_all(b"goodbye").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    waker.wake();
    assert_eq!((next(&received), next(&received)), (7, 0));
    finish(pool);
}

/// Unix sockets come in by a listener that somebody else has made, and end as others do.
#[test]
fn a_local_listener_is_adopted_and_its_connections_can_be_aborted() {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    let path = std::env::temp_dir().join(format!("interlock-ring-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let pool = pool(1);
    let (_, events) = attach(&pool.reactor(0), move |cx, send| {
        cx.adopt_listener(listener.into()).unwrap();
        move |cx, event| match event {
            Event::AcceptedLocal { sock, .. } => send.send(("accepted", cx.send(sock, b"hello").unwrap())).unwrap(),
            Event::Readable { sock } => {
                let mut bytes = [0; 8];
                match cx.recv(sock, &mut bytes) {
                    Ok(count) if count > 0 => {
                        send.send(("read", count)).unwrap();
                        cx.abort(sock).unwrap();
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    });
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next(&events), ("accepted", 5));
    stream.write_all(b"bye").unwrap();
    assert_eq!(next(&events), ("read", 3));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"hello", "what was sent before lies in the peer's buffer, and then it ends");
    finish(pool);
    std::fs::remove_file(&path).unwrap();
}
